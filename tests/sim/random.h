/* Chance for the simulator: one seed, and streams split off it, each for one purpose, so that a draw
 * more in one place does not move those of another. (splitmix64.) */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

/* A stream of its own for `purpose`, from `seed`. Equal arguments give equal streams. */
struct random random_stream(uint64_t seed, uint64_t purpose);
uint64_t random_next(struct random *random);
/* 0 .. below - 1; `below` is not 0. */
uint64_t random_below(struct random *random, uint64_t below);
/* from .. to, both included. */
uint64_t random_between(struct random *random, uint64_t from, uint64_t to);
bool random_chance(struct random *random, uint32_t per_mille);
