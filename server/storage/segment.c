#include "server/storage/segment.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_DIGITS 16
#define ZERO_PARTS 8

const uint8_t segment_zeros[SEGMENT_ZEROS_SIZE] = { 0 };

bool segment_list_push(struct segment_list *list, const struct segment *segment)
{
    assert(list->count == 0 || list->items[list->count - 1].number + 1 == segment->number);
    assert(list->count == 0 || segment_end(&list->items[list->count - 1]) == segment->start);

    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 16 : 2 * list->capacity;
        struct segment *items = realloc(list->items, capacity * sizeof *items);
        if (items == NULL)
            return false;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *segment;
    return true;
}

void segment_list_release(struct segment_list *list, struct os *os)
{
    for (uint32_t slot = 0; slot < list->count; slot++)
        segment_close(&list->items[slot], os); /* nothing is promised about what it held */
    free(list->items);
    *list = (struct segment_list){ 0 };
}

int segment_open_twin(struct segment *segment, struct os *os, const char *directory,
                      const char *suffix)
{
    char path[SEGMENT_PATH_MAX];
    int fd = segment_path(directory, segment->number, suffix, path);
    if (fd == 0)
        fd = os_open(os, path, OS_READ | OS_WRITE);
    if (fd < 0)
        return fd;
    segment->twin_fd = fd;
    return 0;
}

void segment_close(struct segment *segment, struct os *os)
{
    if (segment->fd >= 0)
        (void)os_close(os, segment->fd);
    if (segment->twin_fd >= 0)
        (void)os_close(os, segment->twin_fd);
    segment->fd = segment->twin_fd = -1;
}

uint32_t segment_list_find(const struct segment_list *list, uint64_t position)
{
    assert(list->count > 0);
    assert(position < segment_end(&list->items[list->count - 1]));

    uint32_t low = 0, high = list->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (list->items[middle].start <= position)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int segment_path(const char *directory, uint64_t number, const char *suffix,
                 char path[SEGMENT_PATH_MAX])
{
    int size = snprintf(path, SEGMENT_PATH_MAX, "%s/%016" PRIx64 "%s", directory, number, suffix);
    return size < SEGMENT_PATH_MAX ? 0 : -ENAMETOOLONG;
}

uint64_t segment_number_of(const char *name, const char *suffix)
{
    uint64_t number = 0;
    for (int i = 0; i < NUMBER_DIGITS; i++) {
        char digit = name[i];
        if (digit >= '0' && digit <= '9')
            number = number << 4 | (uint64_t)(digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            number = number << 4 | (uint64_t)(digit - 'a' + 10);
        else
            return 0;
    }
    return strcmp(name + NUMBER_DIGITS, suffix) == 0 ? number : 0;
}

/* Leave out the first `size` bytes of the parts; returns how many parts are left. */
static int skip_written(struct iovec **parts, int part_count, size_t size)
{
    while (part_count > 0 && size >= (*parts)->iov_len) {
        size -= (*parts)->iov_len;
        (*parts)++;
        part_count--;
    }
    if (part_count > 0) {
        (*parts)->iov_base = (uint8_t *)(*parts)->iov_base + size;
        (*parts)->iov_len -= size;
    }
    return part_count;
}

int segment_write(struct os *os, int fd, struct iovec *parts, int part_count, uint64_t offset)
{
    part_count = skip_written(&parts, part_count, 0);
    while (part_count > 0) {
        ptrdiff_t written = os_pwritev(os, fd, parts, part_count, offset);
        if (written < 0)
            return (int)written;
        if (written == 0)
            return -EIO; /* neither progress nor a reason */
        offset += (uint64_t)written;
        part_count = skip_written(&parts, part_count, (size_t)written);
    }
    return 0;
}

int segment_write_zeros(struct os *os, int fd, uint64_t offset, uint64_t size, uint64_t *written)
{
    *written = 0;
    while (*written < size) {
        struct iovec parts[ZERO_PARTS];
        int part_count = 0;
        uint64_t left = size - *written;
        while (left > 0 && part_count < ZERO_PARTS) {
            size_t part = left < SEGMENT_ZEROS_SIZE ? (size_t)left : SEGMENT_ZEROS_SIZE;
            parts[part_count++] =
                (struct iovec){ .iov_base = (void *)(uintptr_t)segment_zeros, .iov_len = part };
            left -= part;
        }
        ptrdiff_t result = os_pwritev(os, fd, parts, part_count, offset + *written);
        if (result < 0)
            return (int)result;
        if (result == 0)
            return -EIO;
        *written += (uint64_t)result;
    }
    return 0;
}

ptrdiff_t segment_read(struct os *os, int fd, void *bytes, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ptrdiff_t result = os_pread(os, fd, (uint8_t *)bytes + done, size - done, offset + done);
        if (result < 0)
            return result;
        if (result == 0)
            break;
        done += (size_t)result;
    }
    return (ptrdiff_t)done;
}
