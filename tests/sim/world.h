/* A run: machines, network, clients, faults and checks, from one plan. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"

struct world; /* opaque */

/* Where faults struck: by the role of the node that was struck. */
enum struck {
    STRUCK_FOLLOWER,
    STRUCK_PRE_CANDIDATE,
    STRUCK_CANDIDATE,
    STRUCK_LEADER,
    STRUCK_DOWN,
    STRUCK_COUNT
};

struct run_result {
    uint64_t seed;
    int level, node_count;
    uint64_t simulated_ns;
    uint64_t events;
    uint64_t trace_hash;
    uint64_t faults[FAULT_COUNT][STRUCK_COUNT];
    struct oracle_stats oracle;
};

struct world_options {
    bool print;               /* every transition, to stdout */
    const char *history_path; /* NULL: the history of the clients is not written */
};

/* Plays the whole run; ends the process by trace_fail() at the first broken rule. */
void world_run(const struct plan *plan, const struct world_options *options,
               struct run_result *result);
