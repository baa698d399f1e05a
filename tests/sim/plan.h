/* What a run will be, drawn from its seed: the cluster, its limits, the workload, the faults and how
 * often each comes. Nothing else decides anything: a plan and its seed are the run.
 *
 * A plan can be made smaller (fewer fault classes, fewer nodes, less time), to find the smallest one
 * that still fails: each class draws from a stream of its own, so what is left stays as it was. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/config.h"
#include "tests/sim/machine.h"
#include "tests/sim/session.h"

/* Classes of faults: name, levels where it applies, what it is. The order is the order of the table
 * that --summary prints. */
#define FAULTS(FAULT) \
    FAULT(KILL, "kill", 1, 3, "the process dies") \
    FAULT(POWER, "power", 1, 3, "the machine loses power, torn at sectors or bytes") \
    FAULT(INSIDE, "inside", 2, 3, "dies at the nth system call from now on") \
    FAULT(PAUSE, "pause", 1, 3, "the process stands still for a while") \
    FAULT(LOSS, "loss", 1, 3, "messages are lost; pieces of a stream sent again") \
    FAULT(DELAY, "delay", 1, 3, "messages take long") \
    FAULT(DUPLICATE, "duplicate", 1, 1, "messages come twice") \
    FAULT(REORDER, "reorder", 1, 2, "messages overtake each other") \
    FAULT(REPLAY, "replay", 1, 3, "messages of earlier connections come again") \
    FAULT(RESET, "reset", 1, 3, "connections break") \
    FAULT(SPLIT, "split", 1, 3, "the nodes fall into two groups") \
    FAULT(ONE_WAY, "one-way", 1, 3, "a node is heard, or hears, but not both") \
    FAULT(PARTIAL, "partial", 1, 3, "two nodes do not see each other; all others do") \
    FAULT(ISOLATE, "isolate", 1, 3, "a node is cut off") \
    FAULT(FLAP, "flap", 1, 3, "a link comes and goes") \
    FAULT(DISK_SLOW, "disk-slow", 1, 3, "flushes take 10 to 100 times as long") \
    FAULT(DISK_STALL, "disk-stall", 1, 3, "flushes do not end for a while") \
    FAULT(FLUSH_FAIL, "flush-fail", 2, 3, "a flush answers EIO, once") \
    FAULT(WRITE_FAIL, "write-fail", 2, 3, "a write answers EIO, or is short") \
    FAULT(DISK_FULL, "disk-full", 2, 3, "there is no space for a while") \
    FAULT(BIT_ROT, "bit-rot", 2, 3, "a bit of the log flips while the node is down") \
    FAULT(CLOCK_RATE, "clock-rate", 1, 3, "a clock runs at half to double speed") \
    FAULT(WALL_JUMP, "wall-jump", 3, 3, "the wall clock jumps by up to a day") \
    FAULT(DESCRIPTORS, "descriptors", 3, 3, "no more descriptors for a while") \
    FAULT(TERM, "term", 3, 3, "SIGTERM: an orderly stop, and a start") \
    FAULT(LINK_NEWS, "link-news", 1, 2, "a peer is said to be lost, or replaced") \
    FAULT(TRANSFER, "transfer", 1, 2, "the leadership is to go to another")

enum fault {
#define FAULT(name, text, low, high, what) FAULT_##name,
    FAULTS(FAULT)
#undef FAULT
        FAULT_COUNT
};

struct fault_kind {
    const char *name, *what;
    int level_min, level_max;
};
extern const struct fault_kind fault_kinds[FAULT_COUNT];

/* What is given on the command line; 0 or NULL: as the seed says. */
struct plan_limits {
    uint32_t faults; /* bits of enum fault that may stay; has_faults */
    bool has_faults;
    int node_count_max;
    uint64_t duration_ms;
};

struct plan {
    uint64_t seed;
    int level;
    struct config config; /* of all nodes; path, ids, ports, timeouts, limits */
    int node_count;
    struct machine_costs costs;
    struct clock_setting clocks[LINKS_NODES_MAX];
    uint64_t delay_min_ns, delay_max_ns; /* of links without faults */
    uint64_t window_min, window_max;     /* level 3 */
    uint64_t piece_max;
    struct workload workload;

    uint64_t duration_ns;         /* of the part with faults */
    uint32_t faults;              /* bits of the classes that come */
    uint64_t gap_ns[FAULT_COUNT]; /* between two of the class, on average */
    bool is_calm;                 /* no faults at all: the rules for calm clusters hold */
};

/* Fills `plan`. Levels: 1 core and store; 2 with the log on a disk; 3 the whole node. */
void plan_draw(struct plan *plan, uint64_t seed, int level, const struct plan_limits *limits);
/* "kill,pause" -> bits; false if a name is unknown. "none": no bits. */
bool plan_parse_faults(const char *text, uint32_t *faults);
/* The bits as such a text. */
void plan_print_faults(uint32_t faults, char *text, size_t size);
