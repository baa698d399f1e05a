/* Many runs, in processes of their own: one failure (a broken rule, an assert, a sanitizer's report, a
 * run that does not end) is one dead process, whose last words are kept and whose run can be repeated
 * by the line that is printed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/plan.h"
#include "tests/sim/world.h"

struct runner_options {
    uint64_t seed_first;
    uint64_t seed_last; /* included; UINT64_MAX: as many as there is time for */
    uint64_t seconds;   /* 0: until the seeds are done */
    int level;          /* 0: all; time is shared 40 : 40 : 20 with `seconds` */
    struct plan_limits limits;
    int jobs;
    bool shrink;
    bool print_hashes;   /* one line a run: seed, level, hash */
    const char *mutant;  /* NULL: none; for the command that repeats a failure, as is */
    const char *program; /* this one, seen from where it is built */
};

struct runner_sums {
    uint64_t runs[4]; /* by level */
    uint64_t simulated_ns[4];
    uint64_t real_ns[4]; /* of processor time */
    uint64_t events[4];
    struct run_result sum; /* its counts added up */
    uint64_t failures;
    char rule[64];       /* of the first failure: what caught it */
    uint64_t failure_ns; /* wall time until then */
};

/* Runs all; stops at the first failure, reports it on stderr, and shrinks it. Returns 0, or 1 when a
 * run has failed, or a negative code when processes cannot be made. */
int runner_run(const struct runner_options *options, struct runner_sums *sums);
/* The table of what was done, to stdout. Returns false if a cell that applies is empty. */
bool runner_print_summary(const struct runner_sums *sums, int level);
