/* Storage: the data directory of one node. The durable log (entries, and term and vote as records
 * of the same stream), the directory's identity and its lock.
 *
 * The log is a stream of records that only ever grows. An entry whose index is already there
 * replaces it and all behind it (Raft's dropped suffix): nothing on disk is rewritten. So 'durable up
 * to this position of the stream' is the only promise the disk has to make.
 *
 *     storage_open(…)                                       recovery: see struct storage_recovered
 *     storage_append(storage, &entry) / storage_vote(…)     buffered; in the order of Raft's effects
 *     storage_flush(storage, seq)                           starts to make all of it durable
 *     storage_done(storage, &seq)                           what is: give it to RAFT_PERSISTED
 *
 * Entries are kept in memory while they are among the newest `cache_bytes`; older ones are read back
 * from the file. The formats are in ARCHITECTURE.md, byte by byte.
 *
 * Errors: -ENOSPC from storage_append or storage_vote means that nothing was written and that it may
 * be tried again when there is space (storage_room says so before); -EFBIG that no segment can hold
 * the entry. Any other error of a write or a flush is final: stop acknowledging, report, and exit
 * (fsync is never retried). A full disk that is met where no space was needed is -EIO. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/entry.h"
#include "server/error.h"
#include "server/os/os.h"

/* Records start on this boundary, so that no acknowledged block is ever written again. */
#define STORAGE_BLOCK 4096
#define STORAGE_SEGMENT_BYTES_MIN (64 * 1024)
/* Room that is kept for votes and no-ops when the disk is full. */
#define STORAGE_RESERVE_BYTES (16 * STORAGE_BLOCK)

struct storage; /* opaque */

enum storage_flush_kind { STORAGE_FLUSH_AIO, STORAGE_FLUSH_SYNC };

struct storage_options {
    const char *path;    /* of all nodes; made if it is not there (its parent must be) */
    const char *cluster; /* name; the directory must carry the same */
    uint32_t node;       /* the directory is <path>/<node>/ */
    uint32_t segment_bytes;
    uint64_t cache_bytes;
    enum storage_flush_kind flush; /* AIO falls back to SYNC where it is not to be had */
};

/* A run of equal terms in the log, as Raft wants it. */
struct storage_run {
    uint64_t term, first;
};

/* What the directory held, after recovery; all of it is durable. */
struct storage_recovered {
    uint64_t term;                    /* the highest of votes and entries */
    uint32_t voted_for;               /* in `term`; UINT32_MAX: nobody */
    uint64_t first_index, last_index; /* first 1; last 0: no entries */
    uint64_t last_clock_ms;           /* of the last entry */
    struct storage_run *runs;         /* malloc'ed: yours to free */
    uint32_t run_count;
    bool fresh;           /* the directory was made by this start */
    uint64_t incarnation; /* drawn when the directory was made: tells it from a copy's successor */
    uint32_t segment_count;
    uint64_t records, bytes;      /* read back */
    uint64_t torn_bytes;          /* of an unacknowledged tail that was cut off; 0: none */
    char torn_at[ERROR_TEXT_MAX]; /* "<file> offset <n>: <why>", or "" */
};

/* Open the directory, take its lock, recover. On failure returns NULL with `error` set: a foreign,
 * locked, half-made or damaged directory is named with file, offset and what to do. */
struct storage *storage_open(struct os *os, const struct storage_options *options,
                             struct storage_recovered *recovered, struct error *error);
void storage_close(struct storage *storage); /* accepts NULL; does not flush */

/* A descriptor to watch for REACTOR_DISK: readable when flushes are done. -1 with SYNC flushing,
 * which is done when storage_flush returns. */
int storage_fd(const struct storage *storage);
const char *storage_flush_name(const struct storage *storage); /* "aio" or "sync": in force */

/* Append an entry. Index: at most one more than the last; if smaller, it replaces that one and all
 * behind it. Its bytes are borrowed, and copied. Returns 0 or -errno (above). */
int storage_append(struct storage *storage, const struct entry *entry);
int storage_vote(struct storage *storage, uint64_t term, uint32_t voted_for);

/* Whether entries of `size` bytes together fit (several: add STORAGE_BLOCK for each), and the reserve
 * is left: then the appends that follow will not meet -ENOSPC. Votes and no-ops may use the reserve:
 * pass `reserved` true for them. If room has to be made first, and the disk is not known to be full,
 * it is made now, which may block. False: refuse the write, for want of space. */
bool storage_room(struct storage *storage, size_t size, bool reserved);

/* Make all that was appended so far durable; `seq` comes back from storage_done. If too many flushes
 * are under way, it starts as soon as one is done. Returns 0 or a final -errno. */
int storage_flush(struct storage *storage, uint64_t seq);
/* Collect finished flushes. Sets `seq` to the newest one up to which everything is durable; false if
 * nothing is new. `code` is set to 0, or to the final -errno of a failed flush. */
bool storage_done(struct storage *storage, uint64_t *seq, int *code);

/* 0, or the final error of a write or flush, whichever call met it: also one that could tell nobody,
 * such as storage_room(). Look once a turn. */
int storage_error(const struct storage *storage);

/* Background work: prepares the next segment, a bounded piece a call. Returns true if there is more
 * to do now. On a full disk it comes back by itself, once in a while of `now_ns`. */
bool storage_background(struct storage *storage, uint64_t now_ns);

/* The entry at `index` (between first and last): whole, checked. `entry->bytes` is borrowed until the
 * next call of any storage function but storage_size. -EIO, -EBADMSG (with file and offset in `error`). */
int storage_entry(struct storage *storage, uint64_t index, struct entry *entry,
                  struct error *error);
/* The same for `count` entries from `first` on; all are borrowed together. */
int storage_entries(struct storage *storage, uint64_t first, uint32_t count, struct entry *entries,
                    struct error *error);
/* Without reading: chain of the entry at `index` (0 for index 0), and its size in bytes. */
uint64_t storage_chain(const struct storage *storage, uint64_t index);
uint32_t storage_size(const struct storage *storage, uint64_t index);
/* Bytes of the entries first..last added up; O(1). */
uint64_t storage_span(const struct storage *storage, uint64_t first, uint64_t last);

struct storage_stats {
    uint64_t segments, log_bytes; /* on disk */
    uint64_t flushes, flushes_in_flight;
    uint64_t appended_bytes;
    uint64_t cache_bytes;
    bool full; /* the last attempt to make room got ENOSPC */
};
void storage_stats(const struct storage *storage, struct storage_stats *stats);
