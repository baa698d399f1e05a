/* The tail of the log, made safe before anything is appended: why, says recover.c. */
#include <errno.h>

#include "server/storage/scan.h"

#define REPAIR_PIECE_BYTES (1024 * 1024)

/* Overwrite what is left behind the end with zeros, and give a file that was cut its full size. */
static int clear_behind(struct scan *scan, uint32_t slot, bool *is_written)
{
    const struct segment *segment = scan_segment(scan, slot);
    struct os *os = scan->storage->os;
    uint64_t written;
    for (uint64_t offset = scan_end_of_records(scan, slot); offset < segment->size;
         offset += STORAGE_BLOCK) {
        const uint8_t *block;
        int code = scan_window(scan, slot, offset, STORAGE_BLOCK, &block);
        if (code < 0)
            return code;
        if (scan_is_zero(block))
            continue;
        code = segment_write_zeros(os, segment->fd, offset, STORAGE_BLOCK, &written);
        if (code < 0)
            return scan_fail_io(scan, code, "overwrite the torn tail in", slot, offset);
        *is_written = true;
    }
    int64_t size = os_file_size(os, segment->fd);
    if (size < 0)
        return scan_fail_io(scan, (int)size, "find the size of", slot, 0);
    if ((uint64_t)size < segment->size) {
        int code = segment_write_zeros(os, segment->fd, (uint64_t)size,
                                       segment->size - (uint64_t)size, &written);
        if (code < 0)
            return scan_fail_io(scan, code, "fill up", slot, (uint64_t)size);
        *is_written = true;
    }
    return 0;
}

/* Write the records of `slot` again that nothing proves durable. */
static int write_again(struct scan *scan, uint32_t slot, bool *is_written)
{
    const struct segment *segment = scan_segment(scan, slot);
    uint64_t offset = FORMAT_HEADER_SIZE;
    if (scan->proven > segment->start + offset)
        offset = scan->proven - segment->start;
    uint64_t end = segment->written - segment->start;
    while (offset < end) {
        uint64_t piece = end - offset < REPAIR_PIECE_BYTES ? end - offset : REPAIR_PIECE_BYTES;
        const uint8_t *bytes;
        int code = scan_window(scan, slot, offset, piece, &bytes);
        if (code < 0)
            return code;
        struct iovec part = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = (size_t)piece };
        code = segment_write(scan->storage->os, segment->fd, &part, 1, offset);
        if (code < 0)
            return scan_fail_io(scan, code, "write the tail again to", slot, offset);
        *is_written = true;
        offset += piece;
    }
    return 0;
}

int scan_repair(struct scan *scan)
{
    struct storage *storage = scan->storage;
    for (uint32_t slot = 0; slot < storage->segments.count; slot++) {
        const struct segment *segment = scan_segment(scan, slot);
        if (segment->written <= scan->proven && slot < scan->slot)
            continue;
        bool is_written = false;
        int code = scan_open_segment(scan, slot);
        if (code == 0 && slot >= scan->slot)
            code = clear_behind(scan, slot, &is_written);
        scan_forget_window(scan);
        if (code == 0)
            code = write_again(scan, slot, &is_written);
        if (code < 0)
            return code;
        if (is_written) {
            code = os_fdatasync(storage->os, segment->fd);
            if (code < 0)
                return scan_fail_io(scan, code, "flush", slot, 0);
        }
        if (slot < scan->slot) {
            scan_close_segment(scan, slot);
            continue;
        }
        code = segment_open_twin(scan_segment(scan, slot), storage->os, storage->log_path,
                                 SEGMENT_SUFFIX);
        if (code < 0)
            return scan_fail_io(scan, code, "open a second time", slot, 0);
    }
    int code = os_sync_dir(storage->os, storage->log_path);
    if (code < 0)
        return error_set_errno(scan->error, code, "cannot flush the directory '%s'",
                               storage->log_path);
    return 0;
}
