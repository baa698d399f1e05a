/* Flushes: two back ends behind one interface.
 *
 *   - The non-blocking queue of os.h (Linux AIO): a flush is started, the loop goes on, and the
 *     queue's descriptor becomes readable when it is done.
 *   - Inline: os_fdatasync(), which blocks the loop; the result is there as soon as flush_start()
 *     returns. For kernels and file systems without the other, and for tests.
 *
 * A failed flush is final, and is never asked for again: the system may have marked the pages clean
 * that it could not write, and would call the next one a success. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/storage/storage.h"

struct flush {
    struct os *os;
    int queue_fd; /* -1: inline */
    uint64_t next_ticket;
    int under_way;
    struct os_flush done[OS_FLUSHES_MAX]; /* inline: results that nobody has fetched yet */
};

/* Falls back to inline flushing where the queue is not to be had. */
void flush_open(struct flush *flush, struct os *os, enum storage_flush_kind kind);
void flush_close(struct flush *flush);
static inline bool flush_is_inline(const struct flush *flush)
{
    return flush->queue_fd < 0;
}
/* Flush all that was written to `fd` until now. `ticket` (never 0) comes back with the result.
 * -EAGAIN with OS_FLUSHES_MAX under way; any other error: it could not be started. */
int flush_start(struct flush *flush, int fd, uint64_t *ticket);
/* Fetch finished ones; no system call with none under way. Returns how many. */
int flush_done(struct flush *flush, struct os_flush done[OS_FLUSHES_MAX]);
