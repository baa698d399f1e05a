#include "server/storage/positions.h"

#include <assert.h>
#include <stdlib.h>

_Static_assert(sizeof(struct position_item) == 24, "the memory of an entry is part of the plan");

void positions_release(struct positions *positions)
{
    for (uint64_t block = 0; block < positions->block_count; block++)
        free(positions->blocks[block]);
    free(positions->blocks);
    *positions = (struct positions){ 0 };
}

bool positions_reserve(struct positions *positions)
{
    if (positions->last / POSITIONS_BLOCK < positions->block_count)
        return true;
    if (positions->block_count == positions->block_capacity) {
        uint64_t capacity = positions->block_capacity == 0 ? 16 : 2 * positions->block_capacity;
        struct position_item **blocks = realloc(positions->blocks, capacity * sizeof *blocks);
        if (blocks == NULL)
            return false;
        positions->blocks = blocks;
        positions->block_capacity = capacity;
    }
    struct position_item *block = malloc(POSITIONS_BLOCK * sizeof *block);
    if (block == NULL)
        return false;
    positions->blocks[positions->block_count++] = block;
    return true;
}

void positions_put(struct positions *positions, uint64_t index, uint64_t position, uint64_t chain,
                   uint32_t size)
{
    assert(index >= 1);
    assert(index <= positions->last + 1);
    assert((index - 1) / POSITIONS_BLOCK < positions->block_count);

    uint64_t slot = (index - 1) % POSITIONS_BLOCK;
    positions->blocks[(index - 1) / POSITIONS_BLOCK][slot] = (struct position_item){
        .position = position,
        .chain = chain,
        .bytes_end = positions_bytes_end(positions, index - 1) + size,
    };
    positions->last = index;
}
