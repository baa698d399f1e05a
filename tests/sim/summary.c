/* What --summary prints: how much was run, what struck whom, and which cells of the state table were
 * taken. */
#include <inttypes.h>
#include <stdio.h>

#include "tests/sim/runner.h"

static const char *const struck_names[STRUCK_COUNT] = {
    [STRUCK_FOLLOWER] = "follower",   [STRUCK_PRE_CANDIDATE] = "pre-cand.",
    [STRUCK_CANDIDATE] = "candidate", [STRUCK_LEADER] = "leader",
    [STRUCK_DOWN] = "down",
};

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static void print_runs(const struct runner_sums *sums)
{
    printf("%-6s %9s %12s %14s %12s\n", "level", "runs", "events", "simulated h", "x real time");
    for (int level = 1; level <= 3; level++) {
        double real = seconds(sums->real_ns[level]);
        if (sums->runs[level] == 0)
            continue;
        printf("%-6d %9" PRIu64 " %12" PRIu64 " %14.2f %12.0f\n", level, sums->runs[level],
               sums->events[level], seconds(sums->simulated_ns[level]) / 3600,
               seconds(sums->simulated_ns[level]) / real);
    }
    const struct oracle_stats *oracle = &sums->sum.oracle;
    printf("entries committed %" PRIu64 ", elections won %" PRIu64 ", requests %" PRIu64
           " (%" PRIu64 " answered, %" PRIu64 " refused, %" PRIu64 " unknown)\n\n",
           oracle->committed, oracle->elections, oracle->invoked, oracle->acked, oracle->refused,
           oracle->unknown);
}

/* A process that is not there cannot be struck. */
static bool strikes(enum fault fault, enum struck role)
{
    if (role != STRUCK_DOWN)
        return true;
    return fault != FAULT_KILL && fault != FAULT_POWER && fault != FAULT_INSIDE &&
           fault != FAULT_PAUSE && fault != FAULT_TERM && fault != FAULT_LINK_NEWS &&
           fault != FAULT_TRANSFER;
}

static bool was_run(const struct runner_sums *sums, enum fault fault)
{
    for (int level = fault_kinds[fault].level_min; level <= fault_kinds[fault].level_max; level++)
        if (sums->runs[level] > 0)
            return true;
    return false;
}

static int print_faults(const struct runner_sums *sums)
{
    int empty = 0;

    printf("%-12s", "fault");
    for (int role = 0; role < STRUCK_COUNT; role++)
        printf(" %10s", struck_names[role]);
    printf("\n");
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        printf("%-12s", fault_kinds[fault].name);
        for (int role = 0; role < STRUCK_COUNT; role++) {
            uint64_t count = sums->sum.faults[fault][role];
            if (!strikes((enum fault)fault, (enum struck)role)) {
                printf(" %10s", "-");
                continue;
            }
            printf(" %10" PRIu64, count);
            empty += count == 0 && was_run(sums, (enum fault)fault);
        }
        printf("\n");
    }
    return empty;
}

/* What comes from a correct cluster. A leader meets no other leader of its term. A candidate is alone in
 * its term: it has sent no append in it that could be answered. And who is told to campaign has
 * followed the leader of that very term. */
static bool is_legal(enum raft_event_type event, enum raft_role role)
{
    if (role == RAFT_LEADER)
        return event != RAFT_APPEND && event != RAFT_TIMEOUT_NOW;
    if (role == RAFT_CANDIDATE)
        return event != RAFT_APPEND_REPLY && event != RAFT_TIMEOUT_NOW;
    return true;
}

static uint64_t print_cells(const struct runner_sums *sums)
{
    uint64_t least = UINT64_MAX;

    printf("\n%-16s", "event");
    for (int role = 0; role < RAFT_ROLE_COUNT; role++)
        printf(" %14s", raft_role_name((enum raft_role)role));
    printf("\n");
    for (int event = 0; event < RAFT_EVENT_COUNT; event++) {
        printf("%-16s", raft_event_name((enum raft_event_type)event));
        for (int role = 0; role < RAFT_ROLE_COUNT; role++) {
            uint64_t count = sums->sum.oracle.cells[event][role];
            if (!is_legal((enum raft_event_type)event, (enum raft_role)role)) {
                printf(" %14s", "-");
                continue;
            }
            printf(" %14" PRIu64, count);
            least = count < least ? count : least;
        }
        printf("\n");
    }
    return least;
}

bool runner_print_summary(const struct runner_sums *sums, int level)
{
    print_runs(sums);
    int empty = print_faults(sums);
    uint64_t least = print_cells(sums);
    printf("\nempty cells among faults and roles: %d; least taken cell of the state table: %" PRIu64
           "\n",
           empty, least);
    return level != 0 || (empty == 0 && least > 0);
}
