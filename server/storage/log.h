/* Inside an open storage: the state that log.c (append, flush), prepare.c (the next segment), read.c
 * (entries that are not in memory), recover.c and storage.c share. No one else includes this. */
#pragma once

#include "server/storage/cache.h"
#include "server/storage/flush.h"
#include "server/storage/positions.h"
#include "server/storage/segment.h"

/* Flushes of the log under way; one more may be for a segment in preparation. */
#define LOG_FLUSHES_MAX 2
_Static_assert(LOG_FLUSHES_MAX + 2 <= OS_FLUSHES_MAX,
               "the queue takes them, a probe and a segment");
/* Records and bytes that wait for storage_flush; beyond that they are written before. */
#define LOG_STAGE_RECORDS 64
#define LOG_STAGE_BYTES (1024 * 1024)

/* A record that has its place in the stream and is not in the file yet. */
struct log_staged {
    struct format_frame frame;
    uint32_t slot;          /* of its segment */
    const uint8_t *content; /* an entry's: in the cache. NULL: `vote`, or none */
    uint8_t vote[FORMAT_VOTE_SIZE];
};

/* A flush of one segment. */
struct log_flush {
    uint64_t ticket;
    uint32_t slot;
    uint64_t end; /* makes everything before this position durable, once those before it have */
    bool has_seq;
    uint64_t seq;
    bool is_done;
    int result;
};

/* The segment that comes next (prepare.c). */
struct prepare {
    int fd; /* of the temporary file; -1: none begun */
    struct format_segment segment;
    uint64_t written;      /* bytes */
    uint64_t flushed;      /* bytes that a flush has covered */
    uint64_t flush_ticket; /* 0: none under way */
    uint64_t flush_bytes;  /* `written` when it was started */
    /* The segment was finished in haste, with a flush of it still under way: nothing in it counts
     * as durable before that one has told its result too. */
    uint64_t unsettled_ticket; /* 0: none */
    uint32_t unsettled_slot;
    int shortage; /* what the last attempt met: no space, quota, descriptors; 0: nothing */
    uint64_t retry_at_ns;
};

/* A piece of one segment in memory, for reading entries back. */
struct reader {
    uint8_t *bytes; /* owned */
    size_t capacity;
    uint64_t from, to;   /* positions; equal: nothing */
    uint64_t last_index; /* the last one asked for: the next one suggests a run */
    uint8_t *gathered;   /* owned: entries of storage_entries that are not in memory */
    size_t gathered_capacity;
    struct {
        uint64_t number; /* of the segment; 0: free */
        int fd;
    } open[4];
    uint32_t next_open; /* taken in turn */
    /* Held until descriptors run out: an entry that was promised can be read even then. -1: used */
    int spare_fd;
};

struct storage {
    struct os *os;
    char path[SEGMENT_PATH_MAX];     /* <path>/<node> */
    char log_path[SEGMENT_PATH_MAX]; /* <path>/<node>/log */
    uint32_t node;
    uint64_t incarnation, cluster_hash;
    uint32_t segment_bytes; /* of segments made from now on */
    int lock_fd;

    /* 0, or the error of a write or flush: final. Everything that writes answers with it. */
    int code;

    struct segment_list segments;
    uint32_t current;  /* slot that records go to; those behind it are ready and empty */
    uint64_t position; /* of the next record */
    uint64_t durable;  /* everything before it is on stable storage */

    struct positions positions;
    struct cache cache;
    struct reader reader;
    struct prepare prepare;

    struct log_staged staged[LOG_STAGE_RECORDS];
    uint32_t staged_count;
    uint64_t staged_bytes;

    struct flush flush;
    struct log_flush flushes[LOG_FLUSHES_MAX]; /* oldest first */
    int flush_count;
    uint32_t flush_slot; /* no segment before it has anything left to flush */
    uint32_t open_slot;  /* segments before it are closed */
    bool has_done_seq;   /* `done_seq` has not been told yet */
    uint64_t done_seq;

    uint64_t flushes_started, appended_bytes;
};

static inline bool log_has_next(const struct storage *storage)
{
    return storage->current + 1 < storage->segments.count;
}

/* log.c: the first error is the one that stays. Returns `code`. */
int log_fail(struct storage *storage, int code);

/* prepare.c */
void prepare_init(struct prepare *prepare);
void prepare_release(struct storage *storage); /* the temporary file stays for the next start */
/* Finish the next segment before returning. -ENOSPC: no room, nothing is lost, try again later;
 * another error is final. */
int prepare_now(struct storage *storage);
/* A flush is done: returns false if it was not one of a segment in preparation. */
bool prepare_on_flush(struct storage *storage, const struct os_flush *done);

/* read.c */
void reader_init(struct reader *reader);
/* Hold a descriptor, of any file that is there, for the day when there are no more. 0 or -errno. */
int reader_hold_spare(struct reader *reader, struct os *os, const char *path);
void reader_release(struct reader *reader, struct os *os);
