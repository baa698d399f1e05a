#include "server/node_turns.h"

#include <assert.h>

#define NS_PER_US 1000u

static int bucket_of(uint64_t us)
{
    int bucket = 0;

    while (us != 0 && bucket < NODE_TURNS_BUCKETS - 1) {
        us >>= 1;
        bucket++;
    }
    return bucket;
}

void node_turns_add(struct node_turns *turns, uint64_t ns)
{
    turns->counts[bucket_of(ns / NS_PER_US)]++;
    turns->total++;
    if (ns > turns->longest_ns)
        turns->longest_ns = ns;
}

uint64_t node_turns_us(const struct node_turns *turns, uint32_t percent)
{
    assert(percent <= 100);
    uint64_t longest_us = (turns->longest_ns + NS_PER_US - 1) / NS_PER_US;
    uint64_t beyond = turns->total / 100 * (100 - percent) +
                      turns->total % 100 * (100 - percent) / 100; /* that may take longer */
    uint64_t seen = 0;

    for (int bucket = 0; bucket < NODE_TURNS_BUCKETS - 1; bucket++) {
        uint64_t limit_us = UINT64_C(1) << bucket;
        seen += turns->counts[bucket];
        if (seen + beyond >= turns->total)
            return limit_us < longest_us ? limit_us : longest_us;
    }
    return longest_us;
}
