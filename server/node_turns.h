/* How long the turns of the loop take: nobody is answered, and no heartbeat leaves, while one lasts.
 *
 * A turn is counted from the end of its wait to its own end, in buckets that are powers of two of a
 * microsecond: small enough to be a part of the node, and to say which power a percentile lies in. */
#pragma once

#include <stdint.h>

#define NODE_TURNS_BUCKETS 32

struct node_turns {
    uint64_t counts[NODE_TURNS_BUCKETS]; /* [i]: below 2^i us; the last: whatever is longer */
    uint64_t total, longest_ns;
};

void node_turns_add(struct node_turns *turns, uint64_t ns);

/* Microseconds that `percent` of all turns have not exceeded: the power of two above, or the longest
 * turn if that is less. 0 if there was none. */
uint64_t node_turns_us(const struct node_turns *turns, uint32_t percent);
