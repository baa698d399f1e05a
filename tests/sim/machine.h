/* A machine with its clock, its disk and at most one process: what faults happen to. The process is a
 * node (level 3) or a replica (levels 1 and 2); it runs in turns, and a turn may end in its middle:
 * by a crash, or because it would wait.
 *
 * A turn costs simulated time: so much for each system call, and what the disk says for those that
 * block. The process sees its own clock move meanwhile; the next turn comes after that.
 *
 * The world fills the first half of struct machine (zeros where it has no opinion: see each) and calls
 * machine_start(); a struct machine may not move while its timeline lives. */
#pragma once

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "kv/kv.h"
#include "raft/raft.h"
#include "server/config.h"
#include "server/os/os.h"
#include "tests/sim/disk.h"
#include "tests/sim/links.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"
#include "tests/sim/trace.h"

struct machine;

/* How a process of this level is made and run. Called with the machine's memory entered, inside of a
 * frame that machine_leave() may leave. */
struct process_type {
    const char *name;
    /* NULL: it refuses to start; `exit_code` and the machine's last log line say why. */
    void *(*start)(struct machine *machine, int *exit_code);
    /* One turn. False: it has stopped by itself (exit_code()). Levels 1 and 2 set `wake_ns` (of the
     * machine's clock; 0, as it is on entry: only when something comes); level 3 waits by
     * os_epoll_wait(), and sets MACHINE_AT_ONCE: the next turn begins as soon as this one's time has
     * passed, and finds out whether there is anything to do. */
    bool (*turn)(void *process, uint64_t *wake_ns);
    int (*exit_code)(const void *process);
    void (*free)(void *process); /* an orderly end */
    const struct raft *(*raft)(const void *process);
    const struct kv *(*kv)(const void *process); /* may be NULL */
    uint64_t (*applied)(const void *process);
};

#define MACHINE_AT_ONCE UINT64_C(1) /* a time of the machine's clock that is always past */

enum machine_left {
    MACHINE_RUNS,
    MACHINE_WAITS,
    MACHINE_CRASHES,
    MACHINE_EXITS,
    MACHINE_HANGS, /* in a flush that does not come back */
};

struct clock_setting {
    uint32_t rate_per_mille; /* 500 .. 2000: local nanoseconds for 1000 of the world */
    uint64_t offset_ns; /* of the monotonic clock at its first start; a reboot draws a small one */
    int64_t wall_offset_ms; /* what the wall clock says more than the monotonic one */
};

struct machine_costs {                   /* simulated time */
    uint64_t call_ns;                    /* each system call */
    uint64_t flush_min_ns, flush_max_ns; /* each flush, blocking or not */
    uint64_t turn_ns;                    /* each turn */
};

#define MACHINE_DESCRIPTORS 1024

struct machine_events { /* what the world wants to hear */
    void *context;
    /* A turn that only finds out that it would wait has a beginning and no end. */
    void (*before_turn)(void *context, struct machine *machine);
    void (*after_turn)(void *context, struct machine *machine); /* the process lives */
    /* By machine_arm_crash(); or it hung in a blocking flush, the hang is over, and it was killed
     * (is_stuck; crash_cuts_power is false then): a call that was left cannot be gone back to. */
    void (*crashed)(void *context, struct machine *machine);
    void (*exited)(void *context, struct machine *machine, int exit_code);
    void (*said)(void *context, struct machine *machine, const char *line, size_t size);
};

struct machine {
    int slot;
    uint32_t id;
    const struct config *config; /* level 3 and 2: paths, limits */
    const struct process_type *type;
    struct timeline *timeline;
    struct trace *trace;
    struct links *links;
    struct net *net;   /* level 3 */
    struct disk *disk; /* levels 2 and 3; outlives processes */
    struct os *os;     /* levels 2 and 3; new for each process */
    struct memory *memory;
    struct random random; /* this machine's chance: flush times, os_random, … */
    struct clock_setting clock;
    uint64_t clock_base_world_ns, clock_base_local_ns; /* see machine_set_rate */
    struct machine_costs costs;
    struct machine_events events;
    void *user; /* of the level: struct replicas, for one */

    void *process; /* NULL: down */
    bool is_paused;
    uint32_t boots;      /* grows with each start: tells old wake-ups from new ones */
    uint64_t busy_until; /* world; a turn that costs time */
    uint64_t turn_cost_ns;
    bool in_turn;
    jmp_buf leave;
    enum machine_left left; /* how the last turn was left, and with which exit code */
    int left_code;
    bool is_dead;      /* crashed inside; runs no more, and waits for machine_crash() */
    bool is_stuck;     /* the same, in a blocking flush that hangs */
    bool clock_is_set; /* the clock goes on from the process before: no power cut in between */
    bool wake_pending; /* at wake_at (world), or, while paused, when resumed */
    uint64_t wake_at;

    uint64_t crash_after_calls; /* 0: not armed */
    bool crash_cuts_power;
    bool flush_hangs;        /* flushes begun never end */
    uint32_t flush_fails;    /* the next so many end with -EIO */
    uint64_t flush_slowness; /* times flush_min/max; 0 counts as 1 */
    int descriptor_limit; /* 0: MACHINE_DESCRIPTORS. May fall at any time; what is open stays so */
    uint64_t turns, calls;
};

/* Start the process. False: it refused (`exited` has told), or crashed or hangs while it started
 * (`crashed` tells). */
bool machine_start(struct machine *machine);
/* Between turns: the process is gone, by a kill or (`power`) with the machine. `tear` as for the
 * disk. The caller, or the crashed event, decides when it starts again. On a machine that is down:
 * what is left of the disk's unstable writes goes with the power. */
void machine_crash(struct machine *machine, bool power, enum disk_tear tear);
/* Crash inside: before the nth system call from now on (1: the next) has any effect, which is after
 * the one before it had all of its own; a blocking flush counts twice, so that there is a place in its
 * middle. 0: disarm. The `crashed` event follows; the world then completes the crash by
 * machine_crash(). A process that goes before its nth call takes the order with it. */
void machine_arm_crash(struct machine *machine, uint64_t nth_call, bool power);
void machine_pause(struct machine *machine);
void machine_resume(struct machine *machine);
/* From now on the clock runs at this rate. */
void machine_set_rate(struct machine *machine, uint32_t rate_per_mille);
/* SIGTERM. */
void machine_signal(struct machine *machine, int number);
/* A turn at this time of the world, or sooner. */
void machine_wake(struct machine *machine, uint64_t at_ns);

/* The machine's monotonic clock, costs of the turn included; and the first moment of the world when it
 * shows `local_ns` or more. */
uint64_t machine_now_ns(const struct machine *machine);
uint64_t machine_world_ns(const struct machine *machine, uint64_t local_ns);

/* For os_sim and levels: count a call (and crash if it is the one), add cost, leave the turn. */
void machine_call(struct machine *machine);
void machine_spend(struct machine *machine, uint64_t cost_ns);
_Noreturn void machine_leave(struct machine *machine, enum machine_left how, int exit_code);
/* How long this flush takes; UINT64_MAX: for ever. */
uint64_t machine_flush_ns(struct machine *machine);
/* Of one that ends: 0, or -EIO as flush_fails says. */
int machine_flush_result(struct machine *machine);
