#include "server/client/output.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_BLOCK 1920u  /* bytes of payload; 2 KiB with everything around it */
#define LARGE_BLOCK 16384u /* at least, when one small block was not enough */
#define POOL_BLOCKS_MAX 512

struct output_block {
    struct output_block *next;
    size_t start, end, capacity; /* unsent: bytes[start, end) */
    uint8_t bytes[];
};

static size_t footprint(size_t capacity)
{
    return sizeof(struct output_block) + capacity;
}

static size_t capacity_for(const struct output *output, size_t size)
{
    size_t least = output->first == NULL ? SMALL_BLOCK : LARGE_BLOCK;
    return size > least ? size : least;
}

static size_t space_of(const struct output *output)
{
    return output->last == NULL ? 0 : output->last->capacity - output->last->end;
}

static struct output_block *block_new(struct output_pool *pool, size_t capacity)
{
    struct output_block *block;
    if (capacity == SMALL_BLOCK && pool->free != NULL) {
        block = pool->free;
        pool->free = block->next;
        pool->free_count--;
    } else {
        block = malloc(footprint(capacity));
        if (block == NULL)
            return NULL;
    }
    block->next = NULL;
    block->start = block->end = 0;
    block->capacity = capacity;
    pool->memory_bytes += footprint(capacity);
    return block;
}

static void block_free(struct output_pool *pool, struct output_block *block)
{
    assert(pool->memory_bytes >= footprint(block->capacity));
    pool->memory_bytes -= footprint(block->capacity);
    if (block->capacity == SMALL_BLOCK && pool->free_count < POOL_BLOCKS_MAX) {
        block->next = pool->free;
        pool->free = block;
        pool->free_count++;
    } else {
        free(block);
    }
}

void output_pool_release(struct output_pool *pool)
{
    while (pool->free != NULL) {
        struct output_block *block = pool->free;
        pool->free = block->next;
        free(block);
    }
    pool->free_count = 0;
}

size_t output_growth(const struct output *output, size_t size)
{
    size_t space = space_of(output);
    return size <= space ? 0 : footprint(capacity_for(output, size - space));
}

bool output_append(struct output *output, struct output_pool *pool, const void *bytes, size_t size)
{
    size_t space = space_of(output);
    size_t here = size < space ? size : space;
    size_t rest = size - here;
    struct output_block *added = NULL;
    if (rest > 0) {
        added = block_new(pool, capacity_for(output, rest));
        if (added == NULL)
            return false;
        memcpy(added->bytes, (const uint8_t *)bytes + here, rest);
        added->end = rest;
    }
    if (here > 0) {
        memcpy(output->last->bytes + output->last->end, bytes, here);
        output->last->end += here;
    }
    if (added != NULL) {
        if (output->last != NULL)
            output->last->next = added;
        else
            output->first = added;
        output->last = added;
    }
    output->size += size;
    return true;
}

int output_parts(const struct output *output, struct iovec parts[OUTPUT_PARTS_MAX])
{
    int count = 0;
    for (struct output_block *block = output->first; block != NULL && count < OUTPUT_PARTS_MAX;
         block = block->next)
        parts[count++] = (struct iovec){ block->bytes + block->start, block->end - block->start };
    return count;
}

void output_consume(struct output *output, struct output_pool *pool, size_t size)
{
    assert(size <= output->size);
    output->size -= size;
    while (output->first != NULL) {
        struct output_block *block = output->first;
        size_t unsent = block->end - block->start;
        if (size < unsent) {
            block->start += size;
            return;
        }
        size -= unsent;
        output->first = block->next;
        if (output->first == NULL)
            output->last = NULL;
        block_free(pool, block);
    }
    assert(size == 0 && output->size == 0);
}

void output_release(struct output *output, struct output_pool *pool)
{
    output_consume(output, pool, output->size);
}
