#include "kv/slab.h"

#include <assert.h>
#include <string.h>

_Static_assert(SLAB_CHUNK_SIZE / SLAB_BLOCK_MIN <= 1u << SLAB_INDEX_BITS,
               "the place of a block in its chunk fits the handle");

static uint32_t class_of(uint32_t size)
{
    assert(size >= SLAB_BLOCK_MIN && size <= SLAB_BLOCK_MAX);
    if (size <= 256)
        return (size - 1) / 4;
    if (size <= 512)
        return 64 + (size - 257) / 8;
    return 96 + (size - 513) / 16;
}

uint32_t slab_stride(uint32_t size)
{
    uint32_t class = class_of(size);
    if (class < 64)
        return (class + 1) * 4;
    if (class < 96)
        return 256 + (class - 63) * 8;
    return 512 + (class - 95) * 16;
}

static uint32_t handle_of(uint32_t chunk, uint32_t i)
{
    return chunk << SLAB_INDEX_BITS | i;
}

static struct slab_chunk *chunk_get(const struct slab *slab, uint32_t number)
{
    return (struct slab_chunk *)array_at(&slab->chunks, number - 1);
}

/* A number for a new chunk: one that was used before, if there is any. */
static uint32_t take_number(struct slab *slab, struct memory *memory)
{
    uint32_t number = slab->unused;
    if (number != 0) {
        slab->unused = chunk_get(slab, number)->previous;
        return number;
    }
    assert(slab->chunks.count < SLAB_CHUNKS_MAX);
    (void)array_push(&slab->chunks, memory);
    return slab->chunks.count;
}

static void add_chunk(struct slab *slab, struct memory *memory, uint32_t class, uint32_t stride)
{
    uint32_t number = take_number(slab, memory);
    struct slab_chunk *chunk = chunk_get(slab, number);
    chunk->memory = slab->spare;
    if (chunk->memory == NULL)
        chunk->memory = (uint8_t *)memory_alloc(memory, SLAB_CHUNK_SIZE);
    slab->spare = NULL;
    chunk->stride = stride;
    chunk->previous = slab->classes[class].chunk;
    slab->classes[class] = (struct slab_class){ .chunk = number, .count = 0 };
}

/* Drop the last chunk of a class, which is empty; the one before it is full. */
static void drop_chunk(struct slab *slab, struct memory *memory, uint32_t class)
{
    uint32_t number = slab->classes[class].chunk;
    struct slab_chunk *chunk = chunk_get(slab, number);
    uint32_t previous = chunk->previous;
    uint32_t count = previous == 0 ? 0 : SLAB_CHUNK_SIZE / chunk->stride;
    slab->classes[class] = (struct slab_class){ .chunk = previous, .count = count };

    if (slab->spare == NULL)
        slab->spare = chunk->memory;
    else
        memory_release(memory, chunk->memory, SLAB_CHUNK_SIZE);
    *chunk = (struct slab_chunk){ .previous = slab->unused };
    slab->unused = number;
}

void slab_init(struct slab *slab)
{
    memset(slab, 0, sizeof(*slab));
    array_init(&slab->chunks, sizeof(struct slab_chunk));
}

void slab_release(struct slab *slab, struct memory *memory)
{
    for (uint32_t number = 1; number <= slab->chunks.count; number++) {
        struct slab_chunk *chunk = chunk_get(slab, number);
        if (chunk->memory != NULL)
            memory_release(memory, chunk->memory, SLAB_CHUNK_SIZE);
    }
    if (slab->spare != NULL)
        memory_release(memory, slab->spare, SLAB_CHUNK_SIZE);
    array_release(&slab->chunks, memory);
    slab_init(slab);
}

uint32_t slab_alloc(struct slab *slab, struct memory *memory, uint32_t size)
{
    uint32_t class = class_of(size);
    uint32_t stride = slab_stride(size);
    if (slab->classes[class].chunk == 0 || slab->classes[class].count == SLAB_CHUNK_SIZE / stride)
        add_chunk(slab, memory, class, stride);
    return handle_of(slab->classes[class].chunk, slab->classes[class].count++);
}

uint32_t slab_last(const struct slab *slab, uint32_t size)
{
    const struct slab_class *blocks = &slab->classes[class_of(size)];
    if (blocks->chunk == 0)
        return 0;
    assert(blocks->count > 0);
    return handle_of(blocks->chunk, blocks->count - 1);
}

uint32_t slab_free(struct slab *slab, struct memory *memory, uint32_t handle)
{
    uint32_t stride = slab_chunk(slab, handle)->stride;
    uint32_t class = class_of(stride);
    uint32_t last = slab_last(slab, stride);
    assert(last != 0);
    if (last != handle)
        memcpy(slab_at(slab, handle), slab_at(slab, last), stride);
    slab->classes[class].count--;
    if (slab->classes[class].count == 0)
        drop_chunk(slab, memory, class);
    return last == handle ? 0 : last;
}
