/* Made-up histories for the tests of the checker: what clients of a store that is correct by
 * construction would see, and the same with something wrong in it. From a seed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/histcheck/linear.h"

#define RECORDING_PROCESSES_MAX 32
#define RECORDING_KEYS_MAX 64

/* An invocation, or (`is_return`) what came back. Keys are from 0, values from 1; 0 is none. */
struct recording_event {
    bool is_return;
    int process;
    size_t op; /* counts the invocations */
    enum linear_kind kind;
    int key, value;
    uint64_t expected;
    bool expires;
    enum linear_outcome outcome;
    int got;
    uint64_t version;
};

struct recording {
    struct recording_event *events; /* owned */
    size_t count, room;
    size_t op_count;
};

struct recording_options {
    uint64_t seed;
    int process_count, key_count;
    size_t op_count;
    int value_count; /* values are drawn from 1 to this; 0: each write has its own */
    unsigned unknown_per_mille, failed_per_mille, expires_per_mille, untold_per_mille;
};

enum recording_fault {
    RECORDING_STALE_READ,
    RECORDING_LOST_WRITE,
    RECORDING_TWIN_VERSION,
    RECORDING_RESURRECTED,
    RECORDING_FAULT_COUNT,
};

uint64_t recording_random(uint64_t *state, uint64_t below);

/* What a correct store shows. `fault`: one of enum recording_fault happens half-way, to a client
 * that is sure to notice; -1: none. */
struct recording recording_make(const struct recording_options *options, int fault);
void recording_release(struct recording *recording);

/* Change one answer into another that the operation could have had. May leave all as it is. */
void recording_twist(struct recording *recording, uint64_t *random);

/* Tell it to the checker. */
void recording_play(const struct recording *recording, struct linear_history *history);
