#include "server/storage/cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct cache_chunk {
    uint64_t first, last; /* indices; last == first - 1: none left */
    uint64_t base;        /* sizes of all entries before `first` */
    uint32_t used, capacity;
    uint8_t bytes[];
};

void cache_init(struct cache *cache, uint64_t bytes_max)
{
    uint64_t chunk_bytes = bytes_max / 8;
    if (chunk_bytes > CACHE_CHUNK_BYTES_MAX)
        chunk_bytes = CACHE_CHUNK_BYTES_MAX;
    if (chunk_bytes < CACHE_CHUNK_BYTES_MIN)
        chunk_bytes = CACHE_CHUNK_BYTES_MIN;
    *cache = (struct cache){ .bytes_max = bytes_max, .chunk_bytes = (uint32_t)chunk_bytes };
}

static struct cache_chunk *chunk_at(const struct cache *cache, uint32_t i)
{
    return cache->chunks[(cache->first + i) % cache->capacity];
}

static void chunk_drop(struct cache *cache, struct cache_chunk *chunk)
{
    cache->bytes -= chunk->capacity;
    if (cache->spare == NULL && chunk->capacity == cache->chunk_bytes)
        cache->spare = chunk;
    else
        free(chunk);
}

void cache_release(struct cache *cache)
{
    for (uint32_t i = 0; i < cache->count; i++)
        free(chunk_at(cache, i));
    free(cache->chunks);
    free(cache->spare);
    *cache = (struct cache){ 0 };
}

static bool ring_grow(struct cache *cache)
{
    uint32_t capacity = cache->capacity == 0 ? 16 : 2 * cache->capacity;
    struct cache_chunk **chunks = malloc(capacity * sizeof *chunks);
    if (chunks == NULL)
        return false;
    for (uint32_t i = 0; i < cache->count; i++)
        chunks[i] = chunk_at(cache, i);
    free(cache->chunks);
    cache->chunks = chunks;
    cache->first = 0;
    cache->capacity = capacity;
    return true;
}

static struct cache_chunk *chunk_new(struct cache *cache, uint32_t size)
{
    struct cache_chunk *chunk = cache->spare;
    if (chunk != NULL && size <= chunk->capacity) {
        cache->spare = NULL;
    } else {
        uint32_t capacity = size > cache->chunk_bytes ? size : cache->chunk_bytes;
        chunk = malloc(sizeof *chunk + capacity);
        if (chunk == NULL)
            return NULL;
        chunk->capacity = capacity;
    }
    cache->bytes += chunk->capacity;
    return chunk;
}

/* Forget the entries from `index` on. Their bytes stay where they are: they may not be written yet.
 * A chunk that loses all it has stays in the queue as an empty one that ends before `index`, so that
 * the ends remain in order. */
static void forget_from(struct cache *cache, uint64_t index)
{
    for (uint32_t i = cache->count; i > 0; i--) {
        struct cache_chunk *chunk = chunk_at(cache, i - 1);
        if (chunk->last < index)
            return;
        if (chunk->first > index)
            chunk->first = index;
        chunk->last = index - 1;
    }
}

const uint8_t *cache_put(struct cache *cache, uint64_t index, uint64_t base, const uint8_t *bytes,
                         uint32_t size)
{
    struct cache_chunk *newest = cache->count == 0 ? NULL : chunk_at(cache, cache->count - 1);
    bool continues =
        newest != NULL && newest->last + 1 == index && newest->capacity - newest->used >= size;
    if (!continues) {
        if (cache->count == cache->capacity && !ring_grow(cache))
            return NULL;
        newest = chunk_new(cache, size);
        if (newest == NULL)
            return NULL;
        forget_from(cache, index);
        newest->first = index;
        newest->base = base;
        newest->used = 0;
        cache->chunks[(cache->first + cache->count++) % cache->capacity] = newest;
    }
    assert(newest->base + newest->used == base);
    uint8_t *copy = newest->bytes + newest->used;
    memcpy(copy, bytes, size);
    newest->used += size;
    newest->last = index;
    return copy;
}

const uint8_t *cache_find(const struct cache *cache, uint64_t index, uint64_t base)
{
    /* The oldest chunk that does not end before the index. */
    uint32_t low = 0, high = cache->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (chunk_at(cache, middle)->last < index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == cache->count)
        return NULL;
    const struct cache_chunk *chunk = chunk_at(cache, low);
    return index < chunk->first ? NULL : chunk->bytes + (base - chunk->base);
}

void cache_trim(struct cache *cache)
{
    while (cache->count > 0 && cache->bytes > cache->bytes_max) {
        struct cache_chunk *oldest = chunk_at(cache, 0);
        cache->first = (cache->first + 1) % cache->capacity;
        cache->count--;
        chunk_drop(cache, oldest);
    }
}
