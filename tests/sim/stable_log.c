/* The place where the next record should be is all that is kept: the segment, its header once it could
 * be read, and the offset. A call reads from there as far as good records go, so each record is decoded
 * once in a life, and a call that finds a hole costs one frame.
 *
 * A good record: a frame that belongs where it stands (salt and position, server/storage/format.h) and
 * a content that fits its checksum. Nothing else of recovery is repeated here: whether terms, indices
 * and chains fit is the oracle's question, and a tail that is not whole is simply not there yet.
 *
 * A seal sends the reader to the next segment. It is written only when that one is durable under its
 * name, or a power cut would leave a log that recovery has to refuse: S22. */
#include "tests/sim/stable_log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"
#include "server/storage/format.h"
#include "tests/sim/memory.h"

#define PATH_SIZE 1024
#define PATH_FORMAT "%s%016" PRIx64 ".segment"

struct stable_log {
    struct oracle *oracle;
    const struct disk *disk;
    int node;
    char prefix[PATH_SIZE]; /* <path>/<node_id>/log/ */
    size_t prefix_size;
    bool follows; /* between a rescan and a reset */

    char path[PATH_SIZE + 32]; /* of the segment of the next record */
    uint64_t number;
    bool has_header;
    struct format_segment segment; /* if has_header */
    uint64_t offset;
};

static void go_to_segment(struct stable_log *log, uint64_t number)
{
    log->number = number;
    log->has_header = false;
    log->offset = FORMAT_HEADER_SIZE;
    int size = snprintf(log->path, sizeof log->path, PATH_FORMAT, log->prefix, number);
    assert(size > 0 && (size_t)size < sizeof log->path);
}

struct stable_log *stable_log_new(struct oracle *oracle, const struct disk *disk, int node,
                                  const char *path, uint32_t node_id)
{
    struct memory *before = memory_enter(NULL);
    struct stable_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        abort();
    memory_enter(before);
    log->oracle = oracle;
    log->disk = disk;
    log->node = node;
    int size = snprintf(log->prefix, sizeof log->prefix, "%s/%" PRIu32 "/log/", path, node_id);
    assert(size > 0 && (size_t)size < sizeof log->prefix);
    log->prefix_size = (size_t)size;
    go_to_segment(log, 1);
    log->follows = true;
    return log;
}

void stable_log_free(struct stable_log *log)
{
    if (log == NULL)
        return;
    struct memory *before = memory_enter(NULL);
    free(log);
    memory_enter(before);
}

uint64_t stable_log_position(const struct stable_log *log)
{
    return log->has_header ? log->segment.start + log->offset : 0;
}

/* -- Records ------------------------------------------------------------------------------------- */

/* An entry carries its own checksum, of all but these four bytes; other contents are summed whole. */
static bool content_fits(const struct format_frame *frame, const uint8_t *content,
                         struct entry *entry)
{
    switch (frame->type) {
    case FORMAT_ENTRY:
        return frame->content_size >= ENTRY_HEADER_SIZE &&
               load_u32(content) == frame->content_sum &&
               entry_parse(content, frame->content_size, entry) == ENTRY_GOOD &&
               entry->size == frame->content_size;
    case FORMAT_VOTE:
        return frame->content_size == FORMAT_VOTE_SIZE &&
               crc32c(0, content, FORMAT_VOTE_SIZE) == frame->content_sum;
    case FORMAT_SEAL:
        return frame->content_size == 0;
    default:
        return false;
    }
}

static void tell(const struct stable_log *log, const struct format_frame *frame,
                 const uint8_t *content, const struct entry *entry)
{
    uint64_t term;
    uint32_t voted_for;

    if (frame->type == FORMAT_ENTRY)
        oracle_durable_entry(log->oracle, log->node, entry->index, entry->term, entry->chain);
    else if (frame->type == FORMAT_VOTE && format_vote_decode(content, &term, &voted_for))
        oracle_durable_vote(log->oracle, log->node, term, voted_for);
}

static void pass_seal(struct stable_log *log)
{
    size_t size;

    go_to_segment(log, log->number + 1);
    if (disk_stable_bytes(log->disk, log->path, &size) == NULL)
        oracle_durable_dead_end(log->oracle, log->node, log->number - 1);
}

/* Takes the next record in, if it is there. */
static bool take_record(struct stable_log *log, const uint8_t *bytes, size_t size)
{
    struct format_frame frame;
    struct entry entry = { 0 };

    if (log->offset > size || size - log->offset < FORMAT_FRAME_SIZE)
        return false;
    const uint8_t *place = bytes + log->offset;
    uint64_t position = log->segment.start + log->offset;
    if (format_frame_decode(place, log->segment.salt, position, &frame) != FORMAT_PLACE_FRAME)
        return false;
    if (size - log->offset - FORMAT_FRAME_SIZE < frame.content_size)
        return false;
    const uint8_t *content = place + FORMAT_FRAME_SIZE;
    if (!content_fits(&frame, content, &entry))
        return false;
    tell(log, &frame, content, &entry);
    if (frame.type == FORMAT_SEAL)
        pass_seal(log);
    else
        log->offset += format_record_bytes(frame.content_size);
    return true;
}

/* -- The stream ---------------------------------------------------------------------------------- */

static bool read_header(struct stable_log *log, const uint8_t *bytes, size_t size)
{
    uint64_t found;

    if (!log->has_header || log->offset == FORMAT_HEADER_SIZE)
        log->has_header = size >= FORMAT_HEADER_SIZE &&
                          format_header_decode(bytes, &log->segment, &found) == FORMAT_HEADER_GOOD;
    return log->has_header;
}

/* Reads on as far as good records go. The disk's bytes stay where they are meanwhile: nothing here
 * changes a file. */
static void read_on(struct stable_log *log)
{
    for (;;) {
        size_t size = 0;
        uint64_t number = log->number;
        const uint8_t *bytes = disk_stable_bytes(log->disk, log->path, &size);
        if (bytes == NULL || !read_header(log, bytes, size))
            return;
        while (log->number == number)
            if (!take_record(log, bytes, size))
                return;
    }
}

void stable_log_on_stable(struct stable_log *log, const char *path)
{
    if (!log->follows || strncmp(path, log->prefix, log->prefix_size) != 0)
        return;
    /* Of another segment, it matters only where the name of ours came behind its bytes: the reader
     * waits at its beginning then. */
    if (log->has_header && strcmp(path, log->path) != 0)
        return;
    struct memory *before = memory_enter(NULL);
    read_on(log);
    memory_enter(before);
}

void stable_log_reset(struct stable_log *log)
{
    log->follows = false;
}

void stable_log_rescan(struct stable_log *log)
{
    struct memory *before = memory_enter(NULL);
    log->follows = true;
    go_to_segment(log, 1);
    read_on(log);
    memory_enter(before);
}
