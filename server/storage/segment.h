/* Segment files: their names, reading and writing all of a range, and the list of those that the
 * log consists of. */
#pragma once

#include <stdint.h>

#include "server/storage/format.h"

#define SEGMENT_PATH_MAX 4096
#define SEGMENT_NAME_MAX 32
#define SEGMENT_SUFFIX ".segment"
#define SEGMENT_TEMPORARY ".segment.new" /* until it is durable */

/* For padding and for preparing. */
#define SEGMENT_ZEROS_SIZE (64 * 1024)
extern const uint8_t segment_zeros[SEGMENT_ZEROS_SIZE];

struct segment {
    uint64_t number, start, size, salt; /* as in struct format_segment */
    int fd;                             /* for reading and writing; -1: closed */
    int twin_fd; /* the same file, opened once more for every other flush (log.c); -1: closed */
    uint64_t written;  /* position behind the last record in the file */
    uint64_t flushing; /* position up to which a flush has at least been started */
    bool is_sealed;    /* the seal is in the file */
    bool flush_wanted; /* by storage_flush, and not yet started */
    bool has_seq;
    uint64_t seq; /* newest that storage_flush has asked for while records went here */
};

/* In the order of their numbers, without a gap. */
struct segment_list {
    struct segment *items; /* owned */
    uint32_t count, capacity;
};

/* Returns false when memory runs out. */
bool segment_list_push(struct segment_list *list, const struct segment *segment);
void segment_list_release(struct segment_list *list, struct os *os); /* closes descriptors */
/* Open it for flushes a second time, by the name with this suffix; 0 or -errno. */
int segment_open_twin(struct segment *segment, struct os *os, const char *directory,
                      const char *suffix);
void segment_close(struct segment *segment, struct os *os);
/* The slot of the segment that `position` lies in; there must be one. */
uint32_t segment_list_find(const struct segment_list *list, uint64_t position);

static inline uint64_t segment_end(const struct segment *segment)
{
    return segment->start + segment->size;
}

/* "<directory>/<number><suffix>"; -ENAMETOOLONG. */
int segment_path(const char *directory, uint64_t number, const char *suffix,
                 char path[SEGMENT_PATH_MAX]);
/* The number in a name that ends in `suffix`, or 0: another kind of name. */
uint64_t segment_number_of(const char *name, const char *suffix);

/* Write all of it: a short write is continued. `parts` is used up. */
int segment_write(struct os *os, int fd, struct iovec *parts, int part_count, uint64_t offset);
/* Write `size` zeros. Sets `written`, which may be less than `size` when it fails. */
int segment_write_zeros(struct os *os, int fd, uint64_t offset, uint64_t size, uint64_t *written);
/* Read up to `size` bytes; fewer only at the end of the file. Returns how many, or -errno. */
ptrdiff_t segment_read(struct os *os, int fd, void *bytes, size_t size, uint64_t offset);
