/* The definition of linearizability, word for word, for histories of a few operations: try every
 * order. It shares no code and no idea with the checker that it is compared with. */
#pragma once

#include <stdbool.h>

#include "tests/histcheck/recording.h"

#define NAIVE_OPS_MAX 10
#define NAIVE_KEYS_MAX 2

/* Whether one order of all operations, of all keys together, explains the recording. */
bool naive_all_keys(const struct recording *recording);

/* The weaker promise: an order for each key by itself, and the rules about versions for pairs of
 * acknowledged writes. */
bool naive_each_key(const struct recording *recording);
