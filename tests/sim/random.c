/* splitmix64: a counter that steps by an odd constant, and a mixing function over it. It has one
 * word of state, passes the usual test batteries, and a stream for any purpose is one more mixing
 * away: the streams begin at unrelated places of one cycle of 2^64, so that two of them meet
 * within a run only by a chance that nobody will live to see. */
#include "tests/sim/random.h"

#include <assert.h>
#include <stddef.h>

#define STEP UINT64_C(0x9e3779b97f4a7c15)

__extension__ typedef unsigned __int128 uint128;

static uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
    return word ^ (word >> 31);
}

struct random random_stream(uint64_t seed, uint64_t purpose)
{
    /* Mixed one after the other: seed 1 for purpose 2 is not seed 2 for purpose 1. */
    return (struct random){ mix(mix(seed + STEP) ^ (purpose * STEP + STEP)) };
}

uint64_t random_next(struct random *random)
{
    random->state += STEP;
    return mix(random->state);
}

/* The upper half of a product: one draw whatever the bound, and no division. It prefers some
 * numbers by below / 2^64, which is nothing. */
uint64_t random_below(struct random *random, uint64_t below)
{
    assert(below != 0);
    return (uint64_t)(((uint128)random_next(random) * below) >> 64);
}

uint64_t random_between(struct random *random, uint64_t from, uint64_t to)
{
    assert(from <= to);
    if (to - from == UINT64_MAX)
        return random_next(random);
    return from + random_below(random, to - from + 1);
}

bool random_chance(struct random *random, uint32_t per_mille)
{
    return random_below(random, 1000) < per_mille;
}
