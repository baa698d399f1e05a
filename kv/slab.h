/* Slabs: small blocks named by 32-bit handles, packed without a hole.
 *
 * Blocks of about the same size share chunks of SLAB_CHUNK_SIZE; only the last chunk of a size is
 * partly filled. It stays so because slab_free() moves the last block of the size into the hole:
 * memory follows what is stored, whatever was stored before, and nothing has to search for room or
 * remember where there is some. The price is paid by the caller, who must be able to find whoever
 * holds the handle of the block that moved.
 *
 *     handle = number of the chunk (21 bits) | place in the chunk (11 bits);  0 is no block
 *
 * So the slabs hold at most 2^21 - 1 chunks of 32 KiB, 64 GiB; one more stops the program, and
 * whoever sets memory limits stays below.
 *
 * A pointer from slab_at() is good until its block is freed, or another block of its size is. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kv/array.h"
#include "kv/memory.h"

#define SLAB_CHUNK_SIZE 32768u
#define SLAB_INDEX_BITS 11
#define SLAB_CHUNKS_MAX ((1u << (32 - SLAB_INDEX_BITS)) - 1)
#define SLAB_BLOCK_MIN 16u
#define SLAB_BLOCK_MAX 1024u
/* Sizes in steps of 4 up to 256 bytes, of 8 up to 512, of 16 up to 1024. */
#define SLAB_CLASSES 128

struct slab_chunk {
    uint8_t *memory;
    uint32_t stride;   /* bytes from block to block */
    uint32_t previous; /* the chunk before it of the same size, or the next unused number; or 0 */
};

struct slab_class {
    uint32_t chunk; /* the last one, 0 if there is none */
    uint32_t count; /* blocks in it */
};

struct slab {
    struct array chunks; /* chunk number n at n - 1 */
    uint32_t unused;     /* first of the numbers that have no chunk now, or 0 */
    uint8_t *spare;      /* one chunk's memory kept back, or NULL: a size that hovers about the edge
                            of a chunk does not go to the allocator each time */
    struct slab_class classes[SLAB_CLASSES];
};

void slab_init(struct slab *slab); /* takes no memory */
/* Gives all memory back, whatever blocks there are. */
void slab_release(struct slab *slab, struct memory *memory);

/* The bytes that a block of `size` (SLAB_BLOCK_MIN to SLAB_BLOCK_MAX) takes: sizes with the same
 * answer are interchangeable. A multiple of 4, as every block's address is. */
uint32_t slab_stride(uint32_t size);

uint32_t slab_alloc(struct slab *slab, struct memory *memory, uint32_t size);

/* Give a block back. The block of handle slab_free() returns has moved to `handle`, and its old
 * handle is no more; 0 if none had to. */
uint32_t slab_free(struct slab *slab, struct memory *memory, uint32_t handle);

/* The last block among those of `size`, 0 if there is none. Freeing it moves no other. */
uint32_t slab_last(const struct slab *slab, uint32_t size);

static inline struct slab_chunk *slab_chunk(const struct slab *slab, uint32_t handle)
{
    return (struct slab_chunk *)array_at(&slab->chunks, (handle >> SLAB_INDEX_BITS) - 1);
}

static inline void *slab_at(const struct slab *slab, uint32_t handle)
{
    const struct slab_chunk *chunk = slab_chunk(slab, handle);
    return chunk->memory + (size_t)(handle & ((1u << SLAB_INDEX_BITS) - 1)) * chunk->stride;
}
