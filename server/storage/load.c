/* The segments of a directory: which there are, and whether they belong there. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "server/storage/scan.h"

static const char newer[] = "start the program that wrote it, or a newer one";
static const char wrong[] =
    "a program has written a wrong log: keep the directory for those who look "
    "into it, and replace this node; the other nodes hold the entries";

struct names {
    uint64_t *numbers; /* owned */
    uint32_t count, capacity;
    bool is_temporary; /* look for those with the temporary suffix */
    bool is_out_of_memory;
};

static void on_name(void *context, const char *name)
{
    struct names *names = context;
    uint64_t number =
        segment_number_of(name, names->is_temporary ? SEGMENT_TEMPORARY : SEGMENT_SUFFIX);
    if (number == 0 || names->is_out_of_memory)
        return;
    if (names->count == names->capacity) {
        uint32_t capacity = names->capacity == 0 ? 64 : 2 * names->capacity;
        uint64_t *numbers = realloc(names->numbers, capacity * sizeof *numbers);
        if (numbers == NULL) {
            names->is_out_of_memory = true;
            return;
        }
        names->numbers = numbers;
        names->capacity = capacity;
    }
    names->numbers[names->count++] = number;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

static int list_names(const struct scan *scan, struct names *names)
{
    const struct storage *storage = scan->storage;
    int code = os_list_dir(storage->os, storage->log_path, on_name, names);
    if (code >= 0 && names->is_out_of_memory)
        code = -ENOMEM;
    if (code < 0)
        return error_set_errno(scan->error, code, "cannot list '%s'", storage->log_path);
    if (names->count > 0)
        qsort(names->numbers, names->count, sizeof *names->numbers, compare_numbers);
    return 0;
}

/* A segment that was being prepared when the process ended holds nothing. */
static int remove_temporaries(const struct scan *scan)
{
    struct names names = { .is_temporary = true };
    int code = list_names(scan, &names);
    for (uint32_t i = 0; i < names.count && code == 0; i++) {
        char path[SEGMENT_PATH_MAX];
        code = segment_path(scan->storage->log_path, names.numbers[i], SEGMENT_TEMPORARY, path);
        if (code == 0)
            code = os_unlink(scan->storage->os, path);
        if (code < 0)
            (void)error_set_errno(scan->error, code, "cannot remove the leftover '%s'", path);
    }
    free(names.numbers);
    return code;
}

static int refuse_header(const struct scan *scan, const char *path, enum format_header header,
                         uint64_t found)
{
    switch (header) {
    case FORMAT_HEADER_BAD_VERSION:
        return error_set(scan->error, -EPROTONOSUPPORT,
                         "'%s' has format version %" PRIu64
                         ", and this program knows version %d: %s",
                         path, found, FORMAT_VERSION, newer);
    case FORMAT_HEADER_BAD_GROUP:
        return error_set(scan->error, -EPROTONOSUPPORT,
                         "'%s' belongs to group %" PRIu64 ", and this program knows group %d: %s",
                         path, found, FORMAT_GROUP, newer);
    case FORMAT_HEADER_BAD_SIZE:
        return error_set(scan->error, -EBADMSG,
                         "'%s' says that it has %" PRIu64 " bytes, which no segment can have: %s",
                         path, found, wrong);
    default:
        return error_set(scan->error, -EBADMSG,
                         "'%s' offset 0: the header %s. A segment gets its name when its header is "
                         "durable, so this is no torn write, and without it the records in there "
                         "cannot be told from older ones. Keep the directory, and replace this "
                         "node; the other nodes hold the entries",
                         path,
                         header == FORMAT_HEADER_NO_MAGIC ? "is not that of a segment"
                                                          : "does not fit its checksum");
    }
}

/* Whether the segment belongs at this place of this directory's log. */
static int check_segment(const struct scan *scan, const char *path,
                         const struct format_segment *found, uint64_t number, uint64_t start)
{
    const struct storage *storage = scan->storage;
    if (found->cluster_hash != storage->cluster_hash || found->node != storage->node ||
        found->incarnation != storage->incarnation)
        return error_set(
            scan->error, -EBADMSG,
            "'%s' is from another directory: it was made by node %" PRIu32
            " of %s cluster, incarnation %016" PRIx64 ", and this is the directory of "
            "node %" PRIu32 ", incarnation %016" PRIx64 ": put the files back where they were",
            path, found->node, found->cluster_hash == storage->cluster_hash ? "this" : "another",
            found->incarnation, storage->node, storage->incarnation);
    if (found->number != number)
        return error_set(scan->error, -EBADMSG,
                         "'%s' holds segment %016" PRIx64 ": give the file its name back", path,
                         found->number);
    if (found->start != start)
        return error_set(scan->error, -EBADMSG,
                         "'%s' begins at position %" PRIu64 " of the log, and the segment before "
                         "it ends at %" PRIu64 ": %s",
                         path, found->start, start, wrong);
    return 0;
}

static int load_segment(const struct scan *scan, uint64_t number)
{
    struct segment_list *segments = &scan->storage->segments;
    struct os *os = scan->storage->os;
    char path[SEGMENT_PATH_MAX];
    int fd = segment_path(scan->storage->log_path, number, SEGMENT_SUFFIX, path);
    if (fd == 0)
        fd = os_open(os, path, OS_READ | OS_WRITE);
    if (fd < 0)
        return error_set_errno(scan->error, fd, "cannot open '%s' for reading and writing", path);
    uint8_t block[STORAGE_BLOCK];
    ptrdiff_t count = segment_read(os, fd, block, sizeof block, 0);
    (void)os_close(os, fd); /* was only read from */
    if (count < 0)
        return error_set_errno(scan->error, (int)count, "cannot read '%s' offset 0", path);
    memset(block + count, 0, sizeof block - (size_t)count);

    struct format_segment found;
    uint64_t number_found = 0;
    enum format_header header = format_header_decode(block, &found, &number_found);
    if (header != FORMAT_HEADER_GOOD)
        return refuse_header(scan, path, header, number_found);
    uint64_t start = segments->count == 0 ? 0 : segment_end(&segments->items[segments->count - 1]);
    int code = check_segment(scan, path, &found, number, start);
    if (code < 0)
        return code;
    struct segment segment = {
        .number = number,
        .start = found.start,
        .size = found.size,
        .salt = found.salt,
        .fd = -1,
        .twin_fd = -1,
        .written = found.start + FORMAT_HEADER_SIZE,
    };
    if (!segment_list_push(segments, &segment))
        return error_set_errno(scan->error, -ENOMEM, "cannot read the log");
    return 0;
}

static int refuse_gap(const struct scan *scan, const struct names *names, uint64_t missing)
{
    char path[SEGMENT_PATH_MAX];
    if (segment_path(scan->storage->log_path, missing, SEGMENT_SUFFIX, path) < 0)
        path[0] = '\0';
    if (names->count == 0)
        return error_set(scan->error, -ENOENT,
                         "'%s' is missing: the directory has an identity and no log. What the node "
                         "has acknowledged is gone: bring the files back, or replace this node; "
                         "the other nodes hold the entries",
                         path);
    return error_set(scan->error, -ENOENT,
                     "'%s' is missing, and segment %016" PRIx64
                     " is there: bring the file back, or "
                     "replace this node; the other nodes hold the entries",
                     path, names->numbers[names->count - 1]);
}

int scan_load_segments(const struct scan *scan)
{
    struct names names = { 0 };
    int code = remove_temporaries(scan);
    if (code == 0)
        code = list_names(scan, &names);
    if (code == 0 && names.count == 0)
        code = refuse_gap(scan, &names, 1);
    for (uint32_t i = 0; i < names.count && code == 0; i++)
        code =
            names.numbers[i] == i + 1 ? load_segment(scan, i + 1) : refuse_gap(scan, &names, i + 1);
    free(names.numbers);
    return code;
}
