#include "server/storage/scan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "server/crc32c.h"
#include "server/endian.h"

#define SCAN_READ_BYTES (1024 * 1024)

/* -- Files --------------------------------------------------------------------------------------- */

const char *scan_path(const struct scan *scan, uint32_t slot, char path[SEGMENT_PATH_MAX])
{
    uint64_t number = scan_segment(scan, slot)->number;
    if (segment_path(scan->storage->log_path, number, SEGMENT_SUFFIX, path) < 0)
        return "(a path that is too long)";
    return path;
}

int scan_fail_io(const struct scan *scan, int code, const char *what, uint32_t slot,
                 uint64_t offset)
{
    char path[SEGMENT_PATH_MAX];
    return error_set_errno(scan->error, code, "cannot %s '%s' offset %" PRIu64, what,
                           scan_path(scan, slot, path), offset);
}

int scan_open_segment(const struct scan *scan, uint32_t slot)
{
    struct segment *segment = scan_segment(scan, slot);
    if (segment->fd >= 0)
        return 0;
    char path[SEGMENT_PATH_MAX];
    int fd = os_open(scan->storage->os, scan_path(scan, slot, path), OS_READ | OS_WRITE);
    if (fd < 0)
        return error_set_errno(scan->error, fd, "cannot open '%s' for reading and writing", path);
    segment->fd = fd;
    return 0;
}

void scan_close_segment(const struct scan *scan, uint32_t slot)
{
    struct segment *segment = scan_segment(scan, slot);
    if (segment->fd >= 0)
        (void)os_close(scan->storage->os, segment->fd); /* what was written to it is flushed */
    segment->fd = -1;
}

int scan_window(struct scan *scan, uint32_t slot, uint64_t offset, uint64_t size,
                const uint8_t **bytes)
{
    const struct segment *segment = scan_segment(scan, slot);
    assert(offset + size <= segment->size);
    if (slot != scan->window_slot || offset < scan->window_from ||
        offset + size > scan->window_to) {
        uint64_t piece = size > SCAN_READ_BYTES ? size : SCAN_READ_BYTES;
        if (piece > segment->size - offset)
            piece = segment->size - offset;
        if (piece > scan->capacity) {
            uint8_t *grown = realloc(scan->bytes, (size_t)piece);
            if (grown == NULL) {
                (void)error_set_errno(scan->error, -ENOMEM, "cannot read the log");
                return -ENOMEM;
            }
            scan->bytes = grown;
            scan->capacity = (size_t)piece;
        }
        int code = scan_open_segment(scan, slot);
        if (code < 0)
            return code;
        ptrdiff_t count =
            segment_read(scan->storage->os, segment->fd, scan->bytes, (size_t)piece, offset);
        if (count < 0) {
            (void)scan_fail_io(scan, (int)count, "read", slot, offset);
            return (int)count;
        }
        memset(scan->bytes + count, 0, (size_t)piece - (size_t)count);
        scan->window_slot = slot;
        scan->window_from = offset;
        scan->window_to = offset + piece;
    }
    *bytes = scan->bytes + (offset - scan->window_from);
    return 0;
}

void scan_forget_window(struct scan *scan)
{
    scan->window_from = scan->window_to = 0;
}

/* -- Records that are intact and cannot be accepted ---------------------------------------------- */

enum fault {
    FAULT_RECORD_VERSION,
    FAULT_RECORD_GROUP,
    FAULT_RECORD_TYPE,
    FAULT_RECORD_SIZE,
    FAULT_RECORD_DURABLE,
    FAULT_ENTRY_VERSION,
    FAULT_ENTRY_FIELD,
    FAULT_ENTRY_KIND,
    FAULT_ENTRY_INDEX,
    FAULT_ENTRY_TERM,
    FAULT_ENTRY_CHAIN,
    FAULT_VOTE_FIELD,
};

static const char newer[] = "start the program that wrote it, or a newer one";
static const char wrong[] = "the bytes are as they were written, so a program has written a wrong "
                            "log: keep the directory for those who look into it, and replace this "
                            "node; the other nodes hold the entries";

static const struct {
    const char *found;    /* before the number that was found */
    const char *expected; /* before the number that was expected */
    const char *advice;
} faults[] = {
    [FAULT_RECORD_VERSION] = { "a record of format version", "this program knows version", newer },
    [FAULT_RECORD_GROUP] = { "a record of group", "this program knows group", newer },
    [FAULT_RECORD_TYPE] = { "a record of type", "this program knows types up to", newer },
    [FAULT_RECORD_SIZE] = { "a record with content of size", "the largest there is", wrong },
    [FAULT_RECORD_DURABLE] = { "a record that knows as durable position", "its own is", wrong },
    [FAULT_ENTRY_VERSION] = { "an entry of format version", "this program knows version", newer },
    [FAULT_ENTRY_FIELD] = { "an entry with a field out of range; its claimed index is",
                            "expected, at most", wrong },
    [FAULT_ENTRY_KIND] = { "an entry of kind", "this program knows kinds up to", newer },
    [FAULT_ENTRY_INDEX] = { "an entry with index", "expected, at most", wrong },
    [FAULT_ENTRY_TERM] = { "an entry of term", "the entry before it is of term", wrong },
    [FAULT_ENTRY_CHAIN] = { "an entry that does not continue the one before it, with index",
                            "whose predecessor should be", wrong },
    [FAULT_VOTE_FIELD] = { "a vote whose last field is", "this program knows", newer },
};

static int refuse(const struct scan *scan, enum fault fault, uint64_t found, uint64_t expected)
{
    char path[SEGMENT_PATH_MAX];
    return error_set(scan->error, -EBADMSG,
                     "'%s' offset %" PRIu64 ": %s %" PRIu64 "; %s %" PRIu64
                     ". Do not cut it off: %s",
                     scan_path(scan, scan->slot, path), scan->offset, faults[fault].found, found,
                     faults[fault].expected, expected, faults[fault].advice);
}

/* -- Good records ------------------------------------------------------------------------------- */

static int add_run(struct scan *scan, uint64_t term, uint64_t index)
{
    struct storage_recovered *recovered = scan->recovered;
    while (recovered->run_count > 0 && recovered->runs[recovered->run_count - 1].first >= index)
        recovered->run_count--;
    if (recovered->run_count > 0 && recovered->runs[recovered->run_count - 1].term == term)
        return 0;
    if (recovered->run_count == scan->run_capacity) {
        uint32_t capacity = scan->run_capacity == 0 ? 64 : 2 * scan->run_capacity;
        struct storage_run *runs = realloc(recovered->runs, capacity * sizeof *runs);
        if (runs == NULL)
            return error_set_errno(scan->error, -ENOMEM, "cannot read the log");
        recovered->runs = runs;
        scan->run_capacity = capacity;
    }
    recovered->runs[recovered->run_count++] = (struct storage_run){ .term = term, .first = index };
    return 0;
}

/* The term of the entry at `index`; 0 for index 0. */
static uint64_t term_at(const struct scan *scan, uint64_t index)
{
    const struct storage_recovered *recovered = scan->recovered;
    for (uint32_t i = recovered->run_count; i > 0 && index > 0; i--)
        if (recovered->runs[i - 1].first <= index)
            return recovered->runs[i - 1].term;
    return 0;
}

static int accept_entry(struct scan *scan, const uint8_t *content, uint32_t size)
{
    struct positions *positions = &scan->storage->positions;
    struct entry entry;
    switch (entry_parse(content, size, &entry)) {
    case ENTRY_GOOD:
        break;
    case ENTRY_BAD_VERSION:
        return refuse(scan, FAULT_ENTRY_VERSION, entry.version, ENTRY_VERSION);
    default:
        return refuse(scan, FAULT_ENTRY_FIELD, load_u64(content + 24), positions->last + 1);
    }
    if (!entry_kind_known(entry.kind))
        return refuse(scan, FAULT_ENTRY_KIND, entry.kind, ENTRY_CLOCK);
    if (entry.index > positions->last + 1)
        return refuse(scan, FAULT_ENTRY_INDEX, entry.index, positions->last + 1);
    uint64_t before = entry.index - 1;
    if (entry.term < term_at(scan, before))
        return refuse(scan, FAULT_ENTRY_TERM, entry.term, term_at(scan, before));
    if (!entry_follows(&entry, storage_chain(scan->storage, before)))
        return refuse(scan, FAULT_ENTRY_CHAIN, entry.index, before);

    int code = add_run(scan, entry.term, entry.index);
    if (code < 0)
        return code;
    if (!positions_reserve(positions))
        return error_set_errno(scan->error, -ENOMEM, "cannot read the log");
    positions_put(positions, entry.index, scan_segment(scan, scan->slot)->start + scan->offset,
                  entry.chain, entry.size);
    struct storage_recovered *recovered = scan->recovered;
    recovered->last_clock_ms = entry.clock_ms;
    if (entry.term > recovered->term) {
        recovered->term = entry.term;
        recovered->voted_for = UINT32_MAX;
    }
    return 0;
}

static int accept_vote(struct scan *scan, const uint8_t *content)
{
    uint64_t term;
    uint32_t voted_for;
    if (!format_vote_decode(content, &term, &voted_for))
        return refuse(scan, FAULT_VOTE_FIELD, load_u32(content + 12), 0);
    if (term < scan->recovered->term)
        return 0; /* the term has moved on: what was voted in an older one binds nobody */
    scan->recovered->term = term;
    scan->recovered->voted_for = voted_for;
    return 0;
}

/* Whether the frame is one that this program can take at its word. */
static int check_frame(const struct scan *scan, const struct format_frame *frame)
{
    if (frame->version != FORMAT_VERSION)
        return refuse(scan, FAULT_RECORD_VERSION, frame->version, FORMAT_VERSION);
    if (frame->group != FORMAT_GROUP)
        return refuse(scan, FAULT_RECORD_GROUP, frame->group, FORMAT_GROUP);
    if (frame->type < FORMAT_ENTRY || frame->type > FORMAT_SEAL)
        return refuse(scan, FAULT_RECORD_TYPE, frame->type, FORMAT_SEAL);
    if (frame->durable > frame->position)
        return refuse(scan, FAULT_RECORD_DURABLE, frame->durable, frame->position);

    uint64_t left = scan_segment(scan, scan->slot)->size - scan->offset; /* a block or more */
    uint64_t size_min = 0, size_max = 0;
    if (frame->type == FORMAT_ENTRY) {
        size_min = ENTRY_HEADER_SIZE;
        size_max = left - FORMAT_SEAL_BYTES;
        size_max -= size_max == 0 ? 0 : FORMAT_FRAME_SIZE;
    } else if (frame->type == FORMAT_VOTE) {
        size_min = FORMAT_VOTE_SIZE;
        size_max = left > FORMAT_SEAL_BYTES ? FORMAT_VOTE_SIZE : 0;
    }
    if (frame->content_size < size_min || frame->content_size > size_max)
        return refuse(scan, FAULT_RECORD_SIZE, frame->content_size, size_max);
    return 0;
}

/* Whether the content is what the frame speaks of. */
static bool content_fits(const struct format_frame *frame, const uint8_t *content)
{
    if (frame->type != FORMAT_ENTRY)
        return crc32c(0, content, frame->content_size) == frame->content_sum;
    if (load_u32(content) != frame->content_sum ||
        entry_claimed_size(content, frame->content_size) != frame->content_size)
        return false;
    struct entry entry;
    enum entry_fault fault = entry_parse(content, frame->content_size, &entry);
    return fault != ENTRY_BAD_SUM && fault != ENTRY_CUT;
}

void scan_note_proof(struct scan *scan, const struct format_frame *frame)
{
    if (frame->durable > scan->proven) {
        scan->proven = frame->durable;
        scan->proof_position = frame->position;
    }
}

/* Step over a good record, into the next segment after a seal. False: there is no next one. */
static bool step_over(struct scan *scan, const struct format_frame *frame)
{
    struct segment *segment = scan_segment(scan, scan->slot);
    scan->offset += format_record_bytes(frame->content_size);
    segment->written = segment->start + scan->offset;
    scan->recovered->records++;
    scan->recovered->bytes += format_record_bytes(frame->content_size);
    if (frame->type != FORMAT_SEAL)
        return true;
    if (scan->slot + 1 == scan->storage->segments.count)
        return false;
    scan_close_segment(scan, scan->slot);
    scan->slot++;
    scan->offset = FORMAT_HEADER_SIZE;
    return true;
}

int scan_record(struct scan *scan, enum recover_place *place)
{
    const struct segment *segment = scan_segment(scan, scan->slot);
    const uint8_t *bytes;
    int code = scan_window(scan, scan->slot, scan->offset, STORAGE_BLOCK, &bytes);
    if (code < 0)
        return code;
    struct format_frame frame;
    switch (format_frame_decode(bytes, segment->salt, segment->start + scan->offset, &frame)) {
    case FORMAT_PLACE_BLANK:
        *place = RECOVER_BLANK;
        return 0;
    case FORMAT_PLACE_GARBAGE:
        *place = RECOVER_GARBAGE;
        return 0;
    case FORMAT_PLACE_FOREIGN:
        *place = RECOVER_FOREIGN;
        return 0;
    case FORMAT_PLACE_FRAME:
        break;
    }
    code = check_frame(scan, &frame);
    if (code == 0)
        code = scan_window(scan, scan->slot, scan->offset,
                           FORMAT_FRAME_SIZE + (uint64_t)frame.content_size, &bytes);
    if (code < 0)
        return code;
    scan_note_proof(scan, &frame);
    if (!content_fits(&frame, bytes + FORMAT_FRAME_SIZE)) {
        *place = RECOVER_HALF;
        return 0;
    }
    if (frame.type == FORMAT_ENTRY)
        code = accept_entry(scan, bytes + FORMAT_FRAME_SIZE, frame.content_size);
    else if (frame.type == FORMAT_VOTE)
        code = accept_vote(scan, bytes + FORMAT_FRAME_SIZE);
    if (code < 0)
        return code;
    if (!step_over(scan, &frame)) {
        *place = RECOVER_NO_SEGMENT;
        return 0;
    }
    return 1;
}
