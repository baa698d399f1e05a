/* Where each entry of the log stands: 24 bytes an entry, in memory.
 *
 * Kept in blocks, so that growing copies no entry. The bytes are kept added up, so that the size of
 * one entry and of any run of them is one subtraction. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct position_item {
    uint64_t position;  /* of its record in the stream */
    uint64_t chain;     /* as in struct entry */
    uint64_t bytes_end; /* sizes of the entries 1 to this one, added up */
};

#define POSITIONS_BLOCK 4096

struct positions {
    struct position_item *
        *blocks; /* owned; block b holds the indices from b * POSITIONS_BLOCK + 1 */
    uint64_t block_count, block_capacity;
    uint64_t last; /* index; 0: empty */
};

void positions_release(struct positions *positions);
/* Make sure that index `last` + 1 can be put. False when memory runs out. */
bool positions_reserve(struct positions *positions);
/* Put the entry at `index` (1 to `last` + 1, reserved); all behind it is forgotten. */
void positions_put(struct positions *positions, uint64_t index, uint64_t position, uint64_t chain,
                   uint32_t size);

static inline const struct position_item *positions_get(const struct positions *positions,
                                                        uint64_t index)
{
    return &positions->blocks[(index - 1) / POSITIONS_BLOCK][(index - 1) % POSITIONS_BLOCK];
}

/* Sizes of the entries 1 to `index` added up; 0 for index 0. */
static inline uint64_t positions_bytes_end(const struct positions *positions, uint64_t index)
{
    return index == 0 ? 0 : positions_get(positions, index)->bytes_end;
}
