#include "server/storage/flush.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void flush_open(struct flush *flush, struct os *os, enum storage_flush_kind kind)
{
    *flush = (struct flush){ .os = os, .queue_fd = -1, .next_ticket = 1 };
    if (kind != STORAGE_FLUSH_AIO)
        return;
    int queue_fd = os_flush_open(os);
    if (queue_fd >= 0)
        flush->queue_fd = queue_fd;
}

void flush_close(struct flush *flush)
{
    if (flush->os != NULL && flush->queue_fd >= 0)
        (void)os_close(flush->os, flush->queue_fd); /* whatever is under way, nobody waits for it */
    *flush = (struct flush){ .queue_fd = -1 };
}

int flush_start(struct flush *flush, int fd, uint64_t *ticket)
{
    if (flush->under_way == OS_FLUSHES_MAX)
        return -EAGAIN;
    uint64_t started = flush->next_ticket;
    if (flush_is_inline(flush)) {
        int result = os_fdatasync(flush->os, fd);
        flush->done[flush->under_way] = (struct os_flush){ .ticket = started, .result = result };
    } else {
        int code = os_flush_start(flush->os, flush->queue_fd, fd, started);
        if (code < 0)
            return code;
    }
    flush->under_way++;
    flush->next_ticket++;
    *ticket = started;
    return 0;
}

int flush_done(struct flush *flush, struct os_flush done[OS_FLUSHES_MAX])
{
    if (flush->under_way == 0)
        return 0;
    int count = flush->under_way;
    if (flush_is_inline(flush))
        memcpy(done, flush->done, (size_t)count * sizeof *done);
    else
        count = os_flush_done(flush->os, flush->queue_fd, done, OS_FLUSHES_MAX);
    if (count <= 0)
        return 0;
    assert(count <= flush->under_way);
    flush->under_way -= count;
    return count;
}
