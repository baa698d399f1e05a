/* Reading the log from its beginning: one record after the other, each checked and taken in, up to
 * the first place that holds none. What that place means is recover.c's to decide. */
#pragma once

#include <string.h>

#include "server/storage/log.h"
#include "server/storage/recover.h"

/* For recover.c, load.c and repair.c, which carry it from one to the other. */
struct scan {
    struct storage *storage;
    struct storage_recovered *recovered;
    struct error *error;

    uint32_t slot;   /* where the next record should be: segment */
    uint64_t offset; /* and place in its file */

    /* The highest `durable` of all frames, and where that frame stands. */
    uint64_t proven;
    uint64_t proof_position;

    uint32_t run_capacity;

    /* A piece of a segment in memory; what the file lacks is zeros. */
    uint8_t *bytes; /* owned */
    size_t capacity;
    uint32_t window_slot;
    uint64_t window_from, window_to;
};

static inline struct segment *scan_segment(const struct scan *scan, uint32_t slot)
{
    return &scan->storage->segments.items[slot];
}

/* Take one record in. Returns 1; or 0, and `place` says what stands there instead; or an error. */
int scan_record(struct scan *scan, enum recover_place *place);

/* Note what a frame proves. */
void scan_note_proof(struct scan *scan, const struct format_frame *frame);

/* The path of a segment's file, in `path`. */
const char *scan_path(const struct scan *scan, uint32_t slot, char path[SEGMENT_PATH_MAX]);
/* "cannot <what> '<file>' offset <offset>: …". Returns `code`. */
int scan_fail_io(const struct scan *scan, int code, const char *what, uint32_t slot,
                 uint64_t offset);
int scan_open_segment(const struct scan *scan, uint32_t slot);
void scan_close_segment(const struct scan *scan, uint32_t slot);

/* Have `size` bytes of a segment at `bytes`, until the next call. */
int scan_window(struct scan *scan, uint32_t slot, uint64_t offset, uint64_t size,
                const uint8_t **bytes);
/* The file has changed below the window. */
void scan_forget_window(struct scan *scan);

/* Where the blocks of `slot` begin that no good record stands in; for slots from scan->slot on. */
static inline uint64_t scan_end_of_records(const struct scan *scan, uint32_t slot)
{
    return slot == scan->slot ? scan->offset : FORMAT_HEADER_SIZE;
}

static inline bool scan_is_zero(const uint8_t *block)
{
    return memcmp(block, segment_zeros, STORAGE_BLOCK) == 0;
}

/* load.c: remove what a preparation left, and fill the list of segments from their headers. */
int scan_load_segments(const struct scan *scan);
/* repair.c: make the tail safe to append to, and all that counts durable. */
int scan_repair(struct scan *scan);
