/* The data directory: making it, opening it, closing it. The log itself: log.c and its neighbours.
 *
 *     <path>/<node>/lock       held by the process that uses the directory
 *     <path>/<node>/identity   whose directory it is (identity.h)
 *     <path>/<node>/log/       segments (format.c)
 *
 * A directory is made in this order: the folders, the first segment, the identity; each durable
 * before the next. So one with an identity is complete, and a log without one was either never
 * used (a start that was cut short: made anew), or its identity was taken away (refused). */
#include "server/storage/storage.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/storage/identity.h"
#include "server/storage/log.h"
#include "server/storage/recover.h"

/* -- Making a directory ------------------------------------------------------------------------- */

static int make_folder(struct storage *storage, const char *path, struct error *error)
{
    int code = os_mkdir(storage->os, path);
    if (code == 0 || code == -EEXIST)
        return 0;
    if (code == -ENOENT)
        return error_set(error, code,
                         "cannot make the data directory '%s': the folder that it should stand in "
                         "does not exist. Make that one first, or change the path",
                         path);
    return error_set_errno(error, code,
                           "cannot make the data directory '%s' (the user that runs this program "
                           "must be able to read and write there)",
                           path);
}

static int sync_folder(struct storage *storage, const char *path, struct error *error)
{
    int code = os_sync_dir(storage->os, path);
    return code < 0 ? error_set_errno(error, code, "cannot flush the directory '%s'", path) : 0;
}

struct half_made {
    uint32_t segment_count;
    bool has_first;
};

static void on_half_made(void *context, const char *name)
{
    struct half_made *found = context;
    uint64_t number = segment_number_of(name, SEGMENT_SUFFIX);
    found->segment_count += number != 0;
    found->has_first = found->has_first || number == 1;
}

/* Whether the segment at `path` holds something behind its header: 1, 0 or an error. */
static int is_used(struct storage *storage, const char *path)
{
    int fd = os_open(storage->os, path, OS_READ);
    if (fd < 0)
        return fd;
    int result = 0;
    uint8_t block[STORAGE_BLOCK];
    for (uint64_t offset = FORMAT_HEADER_SIZE; result == 0; offset += STORAGE_BLOCK) {
        ptrdiff_t count = segment_read(storage->os, fd, block, sizeof block, offset);
        if (count <= 0) {
            result = (int)count;
            break;
        }
        result = memcmp(block, segment_zeros, (size_t)count) != 0;
    }
    (void)os_close(storage->os, fd); /* was only read from */
    return result;
}

/* There is no identity. Whatever log there is must be one that was never used. */
static int clear_half_made(struct storage *storage, struct error *error)
{
    struct half_made found = { 0 };
    char path[SEGMENT_PATH_MAX];
    int code = os_list_dir(storage->os, storage->log_path, on_half_made, &found);
    if (code < 0)
        return error_set_errno(error, code, "cannot list '%s'", storage->log_path);
    if (found.segment_count == 0)
        return 0;
    code = segment_path(storage->log_path, 1, SEGMENT_SUFFIX, path);
    bool is_single = found.segment_count == 1 && found.has_first;
    int used = code < 0 ? code : is_single ? is_used(storage, path) : 1;
    if (used < 0)
        return error_set_errno(error, used, "cannot read '%s'", path);
    if (used > 0)
        return error_set(
            error, -EBADMSG,
            "'%s' holds a log, and '%s/identity' is missing: nothing says whose log it "
            "is. Bring the file back from a copy, or move the directory away and "
            "replace this node",
            storage->log_path, storage->path);
    code = os_unlink(storage->os, path);
    return code < 0 ? error_set_errno(error, code, "cannot remove the half-made '%s'", path) : 0;
}

/* Flush the folder that `path` stands in. Where we may not even open it, somebody else has made
 * `path` and answers for it. */
static int sync_parent(struct storage *storage, const char *path, struct error *error)
{
    char parent[SEGMENT_PATH_MAX];
    (void)snprintf(parent, sizeof parent, "%s", path);
    size_t size = strlen(parent);
    while (size > 1 && parent[size - 1] == '/')
        size--;
    while (size > 0 && parent[size - 1] != '/')
        size--;
    while (size > 1 && parent[size - 1] == '/')
        size--;
    parent[size] = '\0';
    int code = os_sync_dir(storage->os, size == 0 ? "." : parent);
    if (code < 0 && code != -EACCES)
        return error_set_errno(error, code, "cannot flush the directory '%s'",
                               size == 0 ? "." : parent);
    return 0;
}

static int make_directory(struct storage *storage, const struct storage_options *options,
                          struct identity *identity, struct error *error)
{
    int code = make_folder(storage, storage->log_path, error);
    if (code == 0)
        code = clear_half_made(storage, error);
    if (code == 0)
        code = sync_parent(storage, options->path, error);
    if (code == 0)
        code = sync_folder(storage, options->path, error);
    if (code == 0)
        code = sync_folder(storage, storage->path, error);
    if (code < 0)
        return code;

    *identity = (struct identity){ .node = options->node };
    (void)snprintf(identity->cluster, sizeof identity->cluster, "%s", options->cluster);
    os_random(storage->os, &identity->incarnation, sizeof identity->incarnation);
    storage->incarnation = identity->incarnation;
    code = prepare_now(storage);
    if (code < 0 && storage->prepare.shortage < 0)
        code = storage->prepare.shortage; /* its own name, which may be another than "no space" */
    if (code < 0)
        return error_set_errno(error, code,
                               "cannot make the first segment in '%s' (%" PRIu32 " bytes)",
                               storage->log_path, storage->segment_bytes);
    /* recover_log() reads it like any other. */
    segment_list_release(&storage->segments, storage->os);
    return identity_write(storage->os, storage->path, identity, error);
}

/* -- Opening ------------------------------------------------------------------------------------ */

static int lock_directory(struct storage *storage, struct error *error)
{
    char path[SEGMENT_PATH_MAX];
    if (snprintf(path, sizeof path, "%s/lock", storage->path) >= (int)sizeof path)
        return error_set(error, -ENAMETOOLONG, "the path '%.200s…' is too long", storage->path);
    int fd = os_open(storage->os, path, OS_READ | OS_WRITE | OS_CREATE);
    if (fd < 0)
        return error_set_errno(error, fd,
                               "cannot open '%s' for writing (the user that runs this program must "
                               "be able to read and write the data directory)",
                               path);
    storage->lock_fd = fd;
    int code = reader_hold_spare(&storage->reader, storage->os, path);
    if (code < 0)
        return error_set_errno(error, code, "cannot open '%s' for reading", path);
    code = os_lock(storage->os, fd);
    if (code == -EWOULDBLOCK)
        return error_set(error, code,
                         "another raftkv-server runs on '%s' (it holds '%s'). Stop that one first, "
                         "or give this one another path",
                         storage->path, path);
    return code < 0 ? error_set_errno(error, code, "cannot lock '%s'", path) : 0;
}

static int check_identity(const struct storage *storage, const struct storage_options *options,
                          const struct identity *identity, struct error *error)
{
    if (strcmp(identity->cluster, options->cluster) != 0)
        return error_set(
            error, -EPERM,
            "data directory '%s' belongs to node %" PRIu32 " of cluster '%s', and this "
            "is node %" PRIu32 " of cluster '%s'. Use the path of this cluster, or "
            "correct the cluster's name in the configuration",
            storage->path, identity->node, identity->cluster, options->node, options->cluster);
    if (identity->node != options->node)
        return error_set(
            error, -EPERM,
            "data directory '%s' belongs to node %" PRIu32 " of this cluster, and this "
            "is node %" PRIu32 ". Start it with the id %" PRIu32
            ", or use the path that holds node %" PRIu32,
            storage->path, identity->node, options->node, identity->node, options->node);
    return 0;
}

static int open_directory(struct storage *storage, const struct storage_options *options,
                          struct storage_recovered *recovered, struct error *error)
{
    if (snprintf(storage->path, sizeof storage->path, "%s/%" PRIu32, options->path,
                 options->node) >= (int)sizeof storage->path ||
        snprintf(storage->log_path, sizeof storage->log_path, "%s/%" PRIu32 "/log", options->path,
                 options->node) >= (int)sizeof storage->log_path)
        return error_set(error, -ENAMETOOLONG, "the path '%.200s…' is too long", options->path);
    int code = make_folder(storage, options->path, error);
    if (code == 0)
        code = make_folder(storage, storage->path, error);
    if (code == 0)
        code = lock_directory(storage, error);
    if (code < 0)
        return code;

    struct identity identity;
    code = identity_read(storage->os, storage->path, &identity, error);
    recovered->fresh = code == -ENOENT;
    code = recovered->fresh ? make_directory(storage, options, &identity, error) : code;
    if (code == 0)
        code = check_identity(storage, options, &identity, error);
    /* The identity has just got its name; or a process got that far and ended. Nothing is acknowledged
     * in here before the name is durable. */
    if (code == 0)
        code = sync_folder(storage, storage->path, error);
    if (code == 0) {
        storage->incarnation = identity.incarnation;
        recovered->incarnation = identity.incarnation;
        code = recover_log(storage, recovered, error);
    }
    return code;
}

/* Find out whether the queue takes flushes of this file system, while there is still a choice. By a
 * file that holds nothing: no later flush shares its descriptor. */
static void try_flush(struct storage *storage)
{
    uint64_t ticket;
    if (flush_is_inline(&storage->flush) ||
        flush_start(&storage->flush, storage->lock_fd, &ticket) == 0)
        return;
    flush_close(&storage->flush);
    flush_open(&storage->flush, storage->os, STORAGE_FLUSH_SYNC);
}

struct storage *storage_open(struct os *os, const struct storage_options *options,
                             struct storage_recovered *recovered, struct error *error)
{
    size_t cluster_size = strlen(options->cluster);
    assert(cluster_size > 0);
    assert(cluster_size < IDENTITY_CLUSTER_MAX);
    assert(strchr(options->cluster, '\n') == NULL);
    assert(options->segment_bytes >= STORAGE_SEGMENT_BYTES_MIN);
    assert(options->segment_bytes % STORAGE_BLOCK == 0);

    struct storage *storage = calloc(1, sizeof *storage);
    if (storage == NULL) {
        (void)error_set_errno(error, -ENOMEM, "cannot open the data directory");
        return NULL;
    }
    storage->os = os;
    storage->node = options->node;
    storage->cluster_hash = format_cluster_hash(options->cluster);
    storage->segment_bytes = options->segment_bytes;
    storage->lock_fd = -1;
    cache_init(&storage->cache, options->cache_bytes);
    reader_init(&storage->reader);
    prepare_init(&storage->prepare);
    flush_open(&storage->flush, os, STORAGE_FLUSH_SYNC);

    struct storage_recovered result = { 0 };
    if (open_directory(storage, options, &result, error) < 0) {
        free(result.runs);
        storage_close(storage);
        return NULL;
    }
    flush_open(&storage->flush, os, options->flush);
    try_flush(storage);
    *recovered = result;
    return storage;
}

void storage_close(struct storage *storage)
{
    if (storage == NULL)
        return;
    flush_close(&storage->flush);
    prepare_release(storage);
    reader_release(&storage->reader, storage->os);
    segment_list_release(&storage->segments, storage->os);
    positions_release(&storage->positions);
    cache_release(&storage->cache);
    if (storage->lock_fd >= 0)
        (void)os_close(storage->os, storage->lock_fd); /* gives the lock up */
    free(storage);
}

/* -- What is in there --------------------------------------------------------------------------- */

int storage_fd(const struct storage *storage)
{
    return storage->flush.queue_fd;
}

int storage_error(const struct storage *storage)
{
    return storage->code;
}

const char *storage_flush_name(const struct storage *storage)
{
    return flush_is_inline(&storage->flush) ? "sync" : "aio";
}

uint64_t storage_chain(const struct storage *storage, uint64_t index)
{
    assert(index <= storage->positions.last);
    return index == 0 ? 0 : positions_get(&storage->positions, index)->chain;
}

uint32_t storage_size(const struct storage *storage, uint64_t index)
{
    assert(index >= 1);
    return (uint32_t)storage_span(storage, index, index);
}

uint64_t storage_span(const struct storage *storage, uint64_t first, uint64_t last)
{
    assert(first >= 1);
    assert(last <= storage->positions.last);
    if (first > last)
        return 0;
    return positions_bytes_end(&storage->positions, last) -
           positions_bytes_end(&storage->positions, first - 1);
}

void storage_stats(const struct storage *storage, struct storage_stats *stats)
{
    const struct segment_list *segments = &storage->segments;
    *stats = (struct storage_stats){
        .segments = segments->count,
        .log_bytes = segments->count == 0 ? 0 : segment_end(&segments->items[segments->count - 1]),
        .flushes = storage->flushes_started,
        .flushes_in_flight = (uint64_t)storage->flush_count,
        .appended_bytes = storage->appended_bytes,
        .cache_bytes = storage->cache.bytes,
        .full = storage->prepare.shortage < 0,
    };
}
