/* The newest entries of the log, in memory: those that have not been written yet, and as many of
 * the others as the limit allows.
 *
 * A queue of chunks. Entries stand in a chunk one behind the other without a gap, so where one
 * stands follows from the sizes added up that `struct positions` keeps: the cache stores bytes and
 * nothing about them. Whole chunks are dropped, oldest first, and one is kept for the next use:
 * in the steady state nothing is allocated.
 *
 * `base` in the functions is the sum of the sizes of all entries before the one in question. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CACHE_CHUNK_BYTES_MAX (256 * 1024)
#define CACHE_CHUNK_BYTES_MIN (4 * 1024)

struct cache_chunk;

struct cache {
    struct cache_chunk **chunks; /* owned; a ring of `capacity` */
    uint32_t first, count, capacity;
    struct cache_chunk *spare; /* owned; or NULL */
    uint64_t bytes_max;
    uint64_t bytes; /* of the chunks in the ring; the spare one comes on top */
    uint32_t chunk_bytes;
};

void cache_init(struct cache *cache, uint64_t bytes_max);
void cache_release(struct cache *cache);
/* Copy the entry at `index` in, behind which nothing stays. The limit is not looked at. Returns the
 * copy, borrowed until cache_trim; NULL when memory runs out, and then the cache is unchanged. */
const uint8_t *cache_put(struct cache *cache, uint64_t index, uint64_t base, const uint8_t *bytes,
                         uint32_t size);
/* The bytes of the entry at `index`, or NULL: read the file. Borrowed until cache_trim. */
const uint8_t *cache_find(const struct cache *cache, uint64_t index, uint64_t base);
/* Drop the oldest chunks until the limit is kept. Call it when nothing in here is still unwritten. */
void cache_trim(struct cache *cache);
