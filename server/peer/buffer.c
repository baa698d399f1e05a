#include "server/peer/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool buffer_reserve(struct buffer *buffer, size_t room)
{
    if (buffer_room(buffer) >= room)
        return true;

    /* Moving `size` bytes must buy half as many new ones, or a full queue that a slow reader takes
     * in small bites is moved for each of them. */
    size_t wanted = buffer->size + buffer->size / 2 + room;
    if (wanted <= buffer->capacity) {
        memmove(buffer->memory, buffer->memory + buffer->start, buffer->size);
        buffer->start = 0;
        return true;
    }

    size_t capacity = BUFFER_BYTES_MIN;
    while (capacity < wanted)
        capacity *= 2;
    uint8_t *memory = malloc(capacity);
    if (memory == NULL)
        return false;
    if (buffer->size > 0)
        memcpy(memory, buffer->memory + buffer->start, buffer->size);
    free(buffer->memory);
    buffer->memory = memory;
    buffer->capacity = capacity;
    buffer->start = 0;
    return true;
}

uint8_t *buffer_end(struct buffer *buffer)
{
    return buffer->memory + buffer->start + buffer->size;
}

size_t buffer_room(const struct buffer *buffer)
{
    return buffer->capacity - buffer->start - buffer->size;
}

void buffer_added(struct buffer *buffer, size_t count)
{
    assert(count <= buffer_room(buffer));
    buffer->size += count;
    if (buffer->size > buffer->peak)
        buffer->peak = buffer->size;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t count)
{
    assert(count <= buffer_room(buffer));
    memcpy(buffer_end(buffer), bytes, count);
    buffer_added(buffer, count);
}

const uint8_t *buffer_front(const struct buffer *buffer)
{
    return buffer->memory + buffer->start;
}

void buffer_take(struct buffer *buffer, size_t count)
{
    assert(count <= buffer->size);
    buffer->start += count;
    buffer->size -= count;
    if (buffer->size == 0)
        buffer->start = 0;
}

void buffer_tidy(struct buffer *buffer)
{
    if (buffer->size == 0 && buffer->capacity > BUFFER_BYTES_MIN &&
        buffer->peak <= buffer->capacity / 4)
        buffer_release(buffer);
    buffer->peak = buffer->size;
}

void buffer_release(struct buffer *buffer)
{
    free(buffer->memory);
    *buffer = (struct buffer){ 0 };
}
