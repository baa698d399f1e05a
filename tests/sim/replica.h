/* Levels 1 and 2: a replica is raft/ and kv/ with a log, without sockets and protocols. Messages
 * arrive as structs (post.h); operations of clients as struct op. Level 1 keeps its log in memory,
 * with a disk that is a list of writes; level 2 uses server/storage over the simulated os.
 *
 * It makes the turns that a node makes, in the same order, by the same rules: what server/node*.c
 * does with effects is done here in the small (reads in rounds, batches, genesis entry, log clock). */
#pragma once

#include "tests/sim/machine.h"
#include "tests/sim/op.h"
#include "tests/sim/oracle.h"
#include "tests/sim/post.h"

struct replica;      /* opaque */
struct replica_host; /* opaque: what a machine keeps of its replicas: the mailbox, level 1's disk */

extern const struct process_type replica_in_memory;  /* level 1 */
extern const struct process_type replica_on_storage; /* level 2 */

/* What all replicas of a world share; machine->user points to it (set by the world). */
struct replicas {
    struct post *post;
    struct oracle *oracle;
    int node_count;
    uint32_t ids[RAFT_VOTERS_MAX];
    /* An operation has ended. */
    void (*on_outcome)(void *context, uint64_t op_number, const struct outcome *outcome);
    void *context;
    /* A bit for each slot whose disk has lost more than a correct disk may: the oracle's `damaged`. */
    uint32_t damaged;
    /* While on_outcome() runs with OUTCOME_REFUSED: the slot that the node takes for the leader; -1:
     * it knows none. */
    int redirect;
    struct replica_host *hosts[RAFT_VOTERS_MAX]; /* by slot; NULL at first, made at need */
};
/* At the end of the world, before the post: gives the hosts back. */
void replicas_release(struct replicas *replicas);

/* What post_new() wants as `deliver`, less the context: takes over the parcel, which is lost if the
 * process is down or 4,096 of them wait. */
void replica_deliver(struct machine *machine, struct parcel *parcel);

/* From outside, between turns; takes effect in the next one. False if the process is down or has
 * 1,024 of them waiting: then the op is refused. A crash loses what waits, without an outcome. */
bool replica_submit(struct machine *machine, const struct op *op);
/* Spurious or true news of the links, and what an operator asks. */
void replica_peer_lost(struct machine *machine, uint32_t peer);
void replica_peer_replaced(struct machine *machine, uint32_t peer);
void replica_link_has_room(struct machine *machine, uint32_t peer);
void replica_transfer(struct machine *machine, uint32_t peer);

struct replica_counters {
    uint64_t batches, commands, reads, read_rounds, clock_entries;
    uint64_t broken_chains;    /* appends dropped: their chain did not continue our log */
    uint64_t stripped_appends; /* for want of space */
    uint64_t no_space, busy;   /* operations refused */
    uint64_t stalls;
};
/* Of the process that runs now, which must be a replica. */
const struct replica_counters *replica_counters(const void *process);
