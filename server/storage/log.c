/* The end of the log that grows: append, flush, and what is durable.
 *
 * A record gets its place in the stream when it is appended, and waits. storage_flush() writes all
 * that wait with one system call a segment, and starts a flush behind it. So a turn costs one write
 * and one flush, whatever it appended, and errors come out where they can be acted upon.
 *
 * Flushes are started in the order of the stream, one segment each, at most LOG_FLUSHES_MAX at a
 * time, and count in that order too: a later one that is done first waits for those before it. A
 * segment has at most one flush that is wanted and not yet started: what is appended meanwhile joins
 * it. So however many turns pass while the disk is slow, what waits is a position and a number.
 *
 * Two flushes of a segment that are under way together go by two descriptors, each opened by itself.
 * Linux reports a failed write-back once for each open file: by one descriptor, the second flush could
 * be told of the first one's lost pages, and the first that all is well. */
#include "server/storage/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"

int log_fail(struct storage *storage, int code)
{
    assert(code < 0);
    /* -ENOSPC is kept for what may be tried again. */
    if (storage->code == 0)
        storage->code = code == -ENOSPC ? -EIO : code;
    return storage->code;
}

static struct segment *current_segment(const struct storage *storage)
{
    return &storage->segments.items[storage->current];
}

/* -- Writing ------------------------------------------------------------------------------------ */

/* Write `count` staged records, all of one segment. */
static int write_run(struct storage *storage, const struct log_staged *run, uint32_t count)
{
    uint8_t frames[LOG_STAGE_RECORDS][FORMAT_FRAME_SIZE];
    struct iovec parts[3 * LOG_STAGE_RECORDS];
    int part_count = 0;
    struct segment *segment = &storage->segments.items[run->slot];
    uint64_t end = run->frame.position;

    for (uint32_t i = 0; i < count; i++) {
        struct format_frame frame = run[i].frame;
        frame.durable = storage->durable;
        assert(frame.position % STORAGE_BLOCK == 0);
        /* The padding of the record before. Behind the last one the file is zero already. */
        if (frame.position > end)
            parts[part_count++] = (struct iovec){ .iov_base = (void *)(uintptr_t)segment_zeros,
                                                  .iov_len = (size_t)(frame.position - end) };
        format_frame_encode(&frame, segment->salt, frames[i]);
        parts[part_count++] = (struct iovec){ .iov_base = frames[i], .iov_len = FORMAT_FRAME_SIZE };
        const uint8_t *content = run[i].content == NULL ? run[i].vote : run[i].content;
        parts[part_count++] =
            (struct iovec){ .iov_base = (void *)(uintptr_t)content, .iov_len = frame.content_size };
        end = frame.position + FORMAT_FRAME_SIZE + frame.content_size;
    }
    int code = segment_write(storage->os, segment->fd, parts, part_count,
                             run->frame.position - segment->start);
    if (code < 0)
        return log_fail(storage, code);
    const struct format_frame *last = &run[count - 1].frame;
    segment->written = last->position + format_record_bytes(last->content_size);
    segment->is_sealed = last->type == FORMAT_SEAL;
    return 0;
}

/* Write all that is staged. */
static int write_staged(struct storage *storage)
{
    int code = 0;
    for (uint32_t first = 0, next; first < storage->staged_count && code == 0; first = next) {
        next = first + 1;
        while (next < storage->staged_count &&
               storage->staged[next].slot == storage->staged[first].slot)
            next++;
        code = write_run(storage, &storage->staged[first], next - first);
    }
    if (code < 0)
        return code;
    storage->staged_count = 0;
    storage->staged_bytes = 0;
    cache_trim(&storage->cache);
    return 0;
}

/* Give a record its place at the end of the stream; there must be room. */
static void stage(struct storage *storage, enum format_type type, const uint8_t *content,
                  uint32_t content_size, uint32_t content_sum)
{
    assert(storage->staged_count < LOG_STAGE_RECORDS);
    uint64_t bytes = format_record_bytes(content_size);
    assert(storage->position + bytes <= segment_end(current_segment(storage)));

    storage->staged[storage->staged_count++] = (struct log_staged){
        .frame =
            {
                .type = (uint16_t)type,
                .version = FORMAT_VERSION,
                .group = FORMAT_GROUP,
                .content_size = content_size,
                .content_sum = content_sum,
                .position = storage->position,
            },
        .slot = storage->current,
        .content = content,
    };
    storage->position += bytes;
    storage->staged_bytes += bytes;
    storage->appended_bytes += bytes;
}

/* -- Room --------------------------------------------------------------------------------------- */

/* Bytes of records that still fit in front of the seal. */
static uint64_t room_here(const struct storage *storage)
{
    return segment_end(current_segment(storage)) - FORMAT_SEAL_BYTES - storage->position;
}

/* Seal the current segment and go on in the next one. */
static void roll(struct storage *storage)
{
    assert(log_has_next(storage));
    stage(storage, FORMAT_SEAL, NULL, 0, 0);
    storage->current++;
    storage->position = current_segment(storage)->start + FORMAT_HEADER_SIZE;
}

/* Make room for a record of `bytes`, in the file and among the staged ones. */
static int make_room(struct storage *storage, uint64_t bytes)
{
    int code = 0;
    while (code == 0 && room_here(storage) < bytes) {
        if (!log_has_next(storage))
            code = prepare_now(storage);
        else if (storage->staged_count == LOG_STAGE_RECORDS)
            code = write_staged(storage);
        else
            roll(storage);
    }
    bool is_stage_full =
        storage->staged_count == LOG_STAGE_RECORDS || storage->staged_bytes >= LOG_STAGE_BYTES;
    return code == 0 && is_stage_full ? write_staged(storage) : code;
}

/* Whether records of `bytes` together, cut into entries in any way, fit into what is ready, and
 * leave `kept` bytes at its end. */
static bool is_ready(const struct storage *storage, uint64_t bytes, uint64_t kept)
{
    const struct segment_list *segments = &storage->segments;
    uint32_t last = segments->count - 1;
    if (room_here(storage) >= bytes + (log_has_next(storage) ? 0 : kept))
        return true;

    uint64_t smallest = UINT64_MAX, usable_count = 0;
    for (uint32_t slot = storage->current + 1; slot <= last; slot++) {
        uint64_t room = segments->items[slot].size - FORMAT_HEADER_SIZE - FORMAT_SEAL_BYTES;
        uint64_t kept_here = slot == last ? kept : 0;
        /* What has not found a place before it comes here, and is not more than all of it. */
        if (room >= bytes + kept_here)
            return true;
        if (kept_here > 0)
            continue;
        usable_count++;
        if (room < smallest)
            smallest = room;
    }
    /* A segment is left when the next record does not fit; so any two neighbours hold more than the
     * room of one, and k of them more than k / 2 times that room. */
    return usable_count > 0 && usable_count > 2 * bytes / smallest;
}

bool storage_room(struct storage *storage, size_t size, bool reserved)
{
    uint64_t bytes = format_record_bytes(size);
    while (storage->code == 0 && !is_ready(storage, bytes, reserved ? 0 : STORAGE_RESERVE_BYTES))
        if (storage->prepare.shortage < 0 || prepare_now(storage) < 0)
            return false;
    return storage->code == 0;
}

/* -- Append ------------------------------------------------------------------------------------- */

int storage_append(struct storage *storage, const struct entry *entry)
{
    assert(entry->index >= 1);
    assert(entry->index <= storage->positions.last + 1);
    assert(entry->size >= ENTRY_HEADER_SIZE);

    if (storage->code < 0)
        return storage->code;
    if (entry->size > format_content_max(storage->segment_bytes))
        return -EFBIG;
    int code = make_room(storage, format_record_bytes(entry->size));
    if (code < 0)
        return code;
    uint64_t base = positions_bytes_end(&storage->positions, entry->index - 1);
    if (!positions_reserve(&storage->positions))
        return log_fail(storage, -ENOMEM);
    const uint8_t *copy = cache_put(&storage->cache, entry->index, base, entry->bytes, entry->size);
    if (copy == NULL)
        return log_fail(storage, -ENOMEM);
    positions_put(&storage->positions, entry->index, storage->position, entry->chain, entry->size);
    uint32_t sum = load_u32(copy); /* an entry begins with the checksum of the rest */
    stage(storage, FORMAT_ENTRY, copy, entry->size, sum);
    return 0;
}

int storage_vote(struct storage *storage, uint64_t term, uint32_t voted_for)
{
    if (storage->code < 0)
        return storage->code;
    int code = make_room(storage, format_record_bytes(FORMAT_VOTE_SIZE));
    if (code < 0)
        return code;
    struct log_staged *staged = &storage->staged[storage->staged_count];
    uint8_t vote[FORMAT_VOTE_SIZE];
    format_vote_encode(term, voted_for, vote);
    stage(storage, FORMAT_VOTE, NULL, sizeof vote, crc32c(0, vote, sizeof vote));
    memcpy(staged->vote, vote, sizeof vote);
    return 0;
}

/* -- Flush -------------------------------------------------------------------------------------- */

/* The next segment that has something to be flushed, or NULL. One is left behind when its seal has
 * been written and a flush of it has begun; not earlier, since the seal may still be staged. */
static struct segment *next_to_flush(struct storage *storage)
{
    for (;; storage->flush_slot++) {
        struct segment *segment = &storage->segments.items[storage->flush_slot];
        if (segment->flush_wanted || (segment->is_sealed && segment->flushing < segment->written))
            return segment;
        if (!segment->is_sealed)
            return NULL;
        assert(storage->flush_slot < storage->current);
    }
}

/* At most two are under way, and they count in order: so they are neighbours in number. */
_Static_assert(LOG_FLUSHES_MAX == 2, "one descriptor for each flush under way");

static int flush_fd(const struct storage *storage, const struct segment *segment)
{
    bool by_twin = storage->flushes_started % 2 == 1 && segment->twin_fd >= 0;
    return by_twin ? segment->twin_fd : segment->fd;
}

static void start_flushes(struct storage *storage)
{
    while (storage->code == 0 && storage->flush_count < LOG_FLUSHES_MAX) {
        struct segment *segment = next_to_flush(storage);
        if (segment == NULL)
            return;
        struct log_flush *started = &storage->flushes[storage->flush_count];
        *started = (struct log_flush){
            .slot = storage->flush_slot,
            .end = segment->written,
            .has_seq = segment->has_seq,
            .seq = segment->seq,
        };
        int code = flush_start(&storage->flush, flush_fd(storage, segment), &started->ticket);
        if (code == -EAGAIN && storage->flush_count > 0)
            return; /* the end of the one under way brings us back here */
        if (code < 0) {
            (void)log_fail(storage, code);
            return;
        }
        storage->flush_count++;
        storage->flushes_started++;
        segment->flushing = segment->written;
        segment->flush_wanted = false;
        segment->has_seq = false;
    }
}

/* Note the result of a flush where it belongs. */
static void on_flush(struct storage *storage, const struct os_flush *done)
{
    if (prepare_on_flush(storage, done))
        return;
    for (int i = 0; i < storage->flush_count; i++) {
        if (storage->flushes[i].ticket == done->ticket) {
            storage->flushes[i].is_done = true;
            storage->flushes[i].result = done->result;
            if (done->result < 0)
                (void)log_fail(storage, done->result); /* nothing that is still open counts now */
            return;
        }
    }
    /* Of a file that was given up, or the one that storage_open() tries the queue with. */
}

/* Whether `flush` is still open because of the haste in which its segment was made. */
static bool is_unsettled(const struct storage *storage, const struct log_flush *flush)
{
    return storage->prepare.unsettled_ticket != 0 && flush->slot >= storage->prepare.unsettled_slot;
}

/* What lies before the segment of the durable position is never written again. */
static void close_old_segments(struct storage *storage, uint32_t slot)
{
    for (; storage->open_slot < slot; storage->open_slot++) {
        struct segment *segment = &storage->segments.items[storage->open_slot];
        segment_close(segment, storage->os); /* flushed: nothing can be lost by now */
    }
}

/* Count the oldest flush as done. */
static void take_oldest(struct storage *storage)
{
    struct log_flush oldest = storage->flushes[0];
    storage->flush_count--;
    memmove(storage->flushes, storage->flushes + 1,
            (size_t)storage->flush_count * sizeof storage->flushes[0]);
    if (oldest.result < 0) {
        (void)log_fail(storage, oldest.result);
        return;
    }
    assert(oldest.end >= storage->durable);
    storage->durable = oldest.end;
    if (oldest.has_seq) {
        storage->has_done_seq = true;
        storage->done_seq = oldest.seq;
    }
    close_old_segments(storage, oldest.slot);
}

/* Take in the results that are there, and start what waited for them. */
static void collect(struct storage *storage)
{
    struct os_flush done[OS_FLUSHES_MAX];
    int done_count = flush_done(&storage->flush, done);
    for (int i = 0; i < done_count; i++)
        on_flush(storage, &done[i]);
    while (storage->code == 0 && storage->flush_count > 0 && storage->flushes[0].is_done &&
           !is_unsettled(storage, &storage->flushes[0]))
        take_oldest(storage);
    start_flushes(storage);
}

int storage_flush(struct storage *storage, uint64_t seq)
{
    if (storage->code < 0)
        return storage->code;
    if (write_staged(storage) < 0)
        return storage->code;
    struct segment *segment = current_segment(storage);
    segment->flush_wanted = true;
    segment->has_seq = true;
    segment->seq = seq;
    start_flushes(storage);
    while (flush_is_inline(&storage->flush) && storage->code == 0 && storage->flush_count > 0)
        collect(storage);
    return storage->code;
}

bool storage_done(struct storage *storage, uint64_t *seq, int *code)
{
    collect(storage);
    *code = storage->code;
    if (!storage->has_done_seq)
        return false;
    *seq = storage->done_seq;
    storage->has_done_seq = false;
    return true;
}
