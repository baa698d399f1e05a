/* Preparing the next segment: written with zeros in slices and flushed, all under a temporary name;
 * then renamed, and the directory flushed. Only then may a record go there.
 *
 *     begin -> slice, slice, … flush … slice, flush -> rename, directory -> ready
 *
 * While it is under way the disk has little to do for it at any moment: a slice a turn, and a flush
 * for every few of them, so that no later flush of the log waits behind a whole segment.
 *
 * Out of space (or of descriptors) is no failure here: what has been written stays, and it goes on
 * from there later. When records need the segment now, the rest happens at once and blocks. */
#include <assert.h>
#include <errno.h>

#include "server/storage/log.h"

#define PREPARE_SLICE_BYTES (256 * 1024)
#define PREPARE_FLUSH_BYTES (4 * 1024 * 1024)
#define PREPARE_RETRY_NS UINT64_C(1000000000)

void prepare_init(struct prepare *prepare)
{
    *prepare = (struct prepare){ .fd = -1 };
}

void prepare_release(struct storage *storage)
{
    if (storage->prepare.fd >= 0)
        (void)os_close(storage->os, storage->prepare.fd);
    prepare_init(&storage->prepare);
}

/* Errors that say "not now" rather than "broken". */
static bool is_shortage(int code)
{
    return code == -ENOSPC || code == -EDQUOT || code == -EMFILE || code == -ENFILE;
}

/* Start over later: the file is worth nothing any more. */
static void discard(struct storage *storage)
{
    struct prepare *prepare = &storage->prepare;
    char path[SEGMENT_PATH_MAX];
    (void)os_close(storage->os, prepare->fd);
    if (segment_path(storage->log_path, prepare->segment.number, SEGMENT_TEMPORARY, path) == 0)
        (void)os_unlink(storage->os, path); /* if it stays, begin() writes over it */
    prepare->fd = -1;
    prepare->flush_ticket = 0;
}

/* Decide what an error means. Returns -ENOSPC or the final error. */
static int stop(struct storage *storage, int code)
{
    if (storage->code < 0 || !is_shortage(code))
        return log_fail(storage, code);
    storage->prepare.shortage = code;
    storage->prepare.retry_at_ns = 0;
    return -ENOSPC;
}

static int begin(struct storage *storage)
{
    struct prepare *prepare = &storage->prepare;
    struct segment_list *segments = &storage->segments;
    struct format_segment segment = {
        .number = 1,
        .size = storage->segment_bytes,
        .incarnation = storage->incarnation,
        .cluster_hash = storage->cluster_hash,
        .node = storage->node,
    };
    if (segments->count > 0) {
        const struct segment *last = &segments->items[segments->count - 1];
        segment.number = last->number + 1;
        segment.start = segment_end(last);
    }
    os_random(storage->os, &segment.salt, sizeof segment.salt);

    char path[SEGMENT_PATH_MAX];
    int code = segment_path(storage->log_path, segment.number, SEGMENT_TEMPORARY, path);
    if (code < 0)
        return code;
    int fd = os_open(storage->os, path, OS_READ | OS_WRITE | OS_CREATE);
    if (fd < 0)
        return fd;
    uint8_t block[STORAGE_BLOCK];
    format_header_encode(&segment, block);
    struct iovec part = { .iov_base = block, .iov_len = sizeof block };
    code = os_truncate(storage->os, fd, 0);
    if (code == 0)
        code = segment_write(storage->os, fd, &part, 1, 0);
    if (code < 0) {
        (void)os_close(storage->os, fd);
        return code;
    }
    prepare->fd = fd;
    prepare->segment = segment;
    prepare->written = FORMAT_HEADER_SIZE;
    prepare->flushed = 0;
    prepare->flush_ticket = 0;
    return 0;
}

static int write_slice(struct storage *storage)
{
    struct prepare *prepare = &storage->prepare;
    uint64_t slice = prepare->segment.size - prepare->written;
    if (slice > PREPARE_SLICE_BYTES)
        slice = PREPARE_SLICE_BYTES;
    uint64_t written;
    int code = segment_write_zeros(storage->os, prepare->fd, prepare->written, slice, &written);
    prepare->written += written;
    return code;
}

/* All of it is on stable storage: give it its name and hand it over. */
static int finish(struct storage *storage)
{
    struct prepare *prepare = &storage->prepare;
    const struct format_segment *made = &prepare->segment;
    struct segment segment = {
        .number = made->number,
        .start = made->start,
        .size = made->size,
        .salt = made->salt,
        .fd = prepare->fd,
        .twin_fd = -1,
        .written = made->start + FORMAT_HEADER_SIZE,
        .flushing = made->start + FORMAT_HEADER_SIZE,
    };
    char from[SEGMENT_PATH_MAX], to[SEGMENT_PATH_MAX];
    int code = segment_path(storage->log_path, made->number, SEGMENT_TEMPORARY, from);
    if (code == 0)
        code = segment_path(storage->log_path, made->number, SEGMENT_SUFFIX, to);
    if (code == 0)
        code = segment_open_twin(&segment, storage->os, storage->log_path, SEGMENT_TEMPORARY);
    if (code < 0)
        return code;
    code = os_rename(storage->os, from, to);
    if (code < 0) {
        (void)os_close(storage->os, segment.twin_fd);
        return code;
    }
    code = os_sync_dir(storage->os, storage->log_path);
    if (code < 0) { /* the name may be there or not: no way to go on */
        (void)os_close(storage->os, segment.twin_fd);
        return log_fail(storage, code);
    }
    if (!segment_list_push(&storage->segments, &segment))
        return log_fail(storage, -ENOMEM);
    if (prepare->flush_ticket != 0) {
        assert(prepare->unsettled_ticket == 0);
        prepare->unsettled_ticket = prepare->flush_ticket;
        prepare->unsettled_slot = storage->segments.count - 1;
        prepare->flush_ticket = 0;
    }
    prepare->fd = -1;
    prepare->shortage = 0;
    return 0;
}

static int finish_now(struct storage *storage)
{
    struct prepare *prepare = &storage->prepare;
    int code = 0;
    if (prepare->fd < 0)
        code = begin(storage);
    while (code == 0 && prepare->written < prepare->segment.size)
        code = write_slice(storage);
    if (code < 0)
        return code;
    if (prepare->flushed < prepare->segment.size) {
        code = os_fdatasync(storage->os, prepare->fd);
        if (code < 0) {
            discard(storage);
            return code;
        }
        prepare->flushed = prepare->segment.size;
    }
    return finish(storage);
}

int prepare_now(struct storage *storage)
{
    int code = finish_now(storage);
    return code < 0 ? stop(storage, code) : 0;
}

bool prepare_on_flush(struct storage *storage, const struct os_flush *done)
{
    struct prepare *prepare = &storage->prepare;
    if (done->ticket == prepare->unsettled_ticket) {
        prepare->unsettled_ticket = 0;
        if (done->result < 0)
            (void)log_fail(storage, done->result); /* records may be in it already */
        return true;
    }
    if (done->ticket != prepare->flush_ticket)
        return false;
    prepare->flush_ticket = 0;
    if (done->result < 0) {
        discard(storage);
        (void)stop(storage, done->result);
    } else {
        prepare->flushed = prepare->flush_bytes;
    }
    return true;
}

static int flush_piece(struct storage *storage)
{
    struct prepare *prepare = &storage->prepare;
    if (!flush_is_inline(&storage->flush)) {
        int code = flush_start(&storage->flush, prepare->fd, &prepare->flush_ticket);
        prepare->flush_bytes = prepare->written;
        return code == -EAGAIN ? 0 : code; /* the queue is busy: the next turn tries again */
    }
    int code = os_fdatasync(storage->os, prepare->fd);
    if (code < 0)
        discard(storage);
    else
        prepare->flushed = prepare->written;
    return code;
}

/* One bounded piece of the work. */
static int step(struct storage *storage)
{
    struct prepare *prepare = &storage->prepare;
    if (prepare->fd < 0)
        return begin(storage);
    if (prepare->flushed == prepare->segment.size)
        return finish(storage);
    bool is_written = prepare->written == prepare->segment.size;
    if (is_written || prepare->written - prepare->flushed >= PREPARE_FLUSH_BYTES)
        return flush_piece(storage);
    return write_slice(storage);
}

static bool may_retry(struct prepare *prepare, uint64_t now_ns)
{
    if (prepare->retry_at_ns == 0)
        prepare->retry_at_ns = now_ns + PREPARE_RETRY_NS;
    if (now_ns < prepare->retry_at_ns)
        return false;
    prepare->retry_at_ns = now_ns + PREPARE_RETRY_NS;
    return true;
}

/* One segment is kept ready. When another was asked for and could not be made, it is made as well: as
 * long as there is a shortage, storage_room() answers no. */
static bool is_wanted(const struct storage *storage)
{
    return !log_has_next(storage) || storage->prepare.shortage < 0;
}

bool storage_background(struct storage *storage, uint64_t now_ns)
{
    struct prepare *prepare = &storage->prepare;
    if (storage->code < 0 || !is_wanted(storage) || prepare->flush_ticket != 0 ||
        prepare->unsettled_ticket != 0)
        return false;
    bool was_short = prepare->shortage < 0;
    if (was_short && !may_retry(prepare, now_ns))
        return false;
    int code = step(storage);
    if (code < 0)
        (void)stop(storage, code);
    if (code < 0)
        return false;
    if (was_short)
        prepare->retry_at_ns = now_ns; /* there is space again: go on with the next call */
    return is_wanted(storage) && prepare->flush_ticket == 0;
}
