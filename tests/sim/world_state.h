/* What a world is made of: shared by world.c, faults.c, hooks.c and script.c. */
#pragma once

#include "tests/sim/links.h"
#include "tests/sim/machine.h"
#include "tests/sim/net.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"
#include "tests/sim/post.h"
#include "tests/sim/replica.h"
#include "tests/sim/session.h"
#include "tests/sim/stable_log.h"
#include "tests/sim/text_client.h"
#include "tests/sim/timeline.h"
#include "tests/sim/trace.h"
#include "tests/sim/world.h"

#define MS_NS UINT64_C(1000000)
#define S_NS (1000 * MS_NS)

/* A change of some links that is under way. */
struct disturbance {
    bool is_active;
    enum fault fault;
    uint16_t cut[LINKS_MACHINES_MAX];      /* [from]: bits of `to` that are cut */
    uint16_t affected[LINKS_MACHINES_MAX]; /* the same, for the rates of `link` */
    struct link link;
};
#define DISTURBANCES_MAX 32

struct replayer; /* frames.c: frames of earlier connections, level 3 */

struct world_machine {
    struct machine machine;
    struct stable_log *stable_log; /* levels 2 and 3 */
    bool is_damaged;               /* bits of its log have rotted: it will not start again */
    uint32_t failures_due;         /* errors of its disk, had or to come: it may stop by itself */
    bool is_stopping;              /* SIGTERM was sent */
    bool is_starting;
    uint64_t start_number;       /* of the newest planned start */
    uint64_t until[FAULT_COUNT]; /* world time: when the newest of the class ends */
};

struct world {
    const struct plan *plan;
    struct world_options options;
    struct timeline *timeline;
    struct trace *trace;
    struct links links;
    struct net *net;   /* level 3 */
    struct post *post; /* levels 1 and 2 */
    struct oracle *oracle;
    struct replicas replicas;
    struct text_clients *text_clients;
    struct sessions *sessions;
    struct replayer *replayer;
    struct world_machine machines[LINKS_NODES_MAX];

    bool faults_stopped, is_ending;
    uint32_t core; /* of the end: bits of those that must serve; the others stay broken */
    struct random chance[FAULT_COUNT]; /* one stream for each class */
    struct random other;               /* restarts, the core of the end */
    struct disturbance disturbances[DISTURBANCES_MAX];
    uint32_t wanted[STRUCK_COUNT]; /* faults that wait for a node of this role: bits of the class */
    uint64_t wanted_until[FAULT_COUNT];
    uint64_t struck[FAULT_COUNT][STRUCK_COUNT];
};

/* -- world.c ------------------------------------------------------------------------------------- */

struct world *world_new(const struct plan *plan, const struct world_options *options);
void world_free(struct world *world);
void world_start_node(struct world *world, int slot);
/* The process, or the machine, is gone; it starts again after `down_ns` (UINT64_MAX: never). */
void world_crash_node(struct world *world, int slot, bool power, enum disk_tear tear,
                      uint64_t down_ns);
enum struck world_role(const struct world *world, int slot);
int world_majority(const struct world *world);

/* -- faults.c ------------------------------------------------------------------------------------ */

void faults_start(struct world *world);
/* A node is in this role now: faults that waited for one strike. */
void faults_after_turn(struct world *world, int slot);
/* Everything is as it was before the first fault; what is down, damaged or paused stays so. */
void faults_stop(struct world *world);
/* Strikes at `slot`; false if it cannot be now. */
bool faults_strike(struct world *world, enum fault fault, int slot);
/* Begin a disturbance of links, by its masks and rates; returns its slot, -1: none is free. */
int faults_disturb(struct world *world, const struct disturbance *disturbance);
void faults_calm(struct world *world, int slot);

/* -- hooks.c: what the product calls, seen on its way (level 3) ---------------------------------- */

/* The world whose node takes its turn; NULL: none. */
void hooks_enter(struct world *world, int slot);

/* -- frames.c ------------------------------------------------------------------------------------ */

struct replayer *replayer_new(struct world *world);
void replayer_free(struct replayer *replayer); /* accepts NULL */
void replayer_seen(void *context, int from, int to, uint16_t to_port, uint64_t connection,
                   const void *bytes, size_t size);
/* Sends an old frame from `from` to `to` again. */
bool replayer_replay(struct replayer *replayer, int from, int to, struct random *random);
