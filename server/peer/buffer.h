/* A queue of bytes in one piece of memory: put in at the end, taken from the front, read in place.
 * Used in both directions of a link.
 *
 * All zero is an empty buffer. It grows when more room is asked for than it has, to the next power
 * of two, and gives memory back in buffer_tidy(), when the peak that it grew for is over. The cost
 * of moving bytes to the front is paid for by the bytes that were put in since: linear in what
 * passes through. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUFFER_BYTES_MIN 8192

struct buffer {
    uint8_t *memory;
    size_t capacity;
    size_t start; /* of what is in it */
    size_t size;
    size_t peak; /* the largest `size` since the last buffer_tidy() */
};

/* Make `room` bytes fit behind the end. False: no memory, and nothing has changed. */
bool buffer_reserve(struct buffer *buffer, size_t room);
/* Where the next byte goes, valid until the next call of anything, and how many fit there. */
uint8_t *buffer_end(struct buffer *buffer);
size_t buffer_room(const struct buffer *buffer);
/* `count` bytes have been written at the end. */
void buffer_added(struct buffer *buffer, size_t count);
/* The same with a copy; the room must have been reserved. */
void buffer_add(struct buffer *buffer, const void *bytes, size_t count);

const uint8_t *buffer_front(const struct buffer *buffer);
/* Done with the first `count` bytes. */
void buffer_take(struct buffer *buffer, size_t count);

/* Once in a while: an empty buffer much larger than what was lately in it lets its memory go. */
void buffer_tidy(struct buffer *buffer);
void buffer_release(struct buffer *buffer);
