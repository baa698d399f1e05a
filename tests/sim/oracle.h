/* The oracle: sees everything that happens in a simulated cluster, keeps what has been true (the
 * ledger of committed entries and the state that follows from it), and ends the run by trace_fail()
 * at the first broken rule. The rules are S1-S11, S15-S20 and S24 of the list in tests/README.md;
 * those of snapshots and membership have their hooks.
 *
 * It believes no node: what is durable it is told by the disk (not by Raft), what a client was told
 * by the client. The same oracle serves all three levels.
 *
 * Nodes are slots 0 .. node_count - 1; node ids may be any numbers (oracle_options.ids). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kv/kv.h"
#include "raft/raft.h"
#include "server/entry.h"
#include "tests/sim/op.h"
#include "tests/sim/trace.h"

struct oracle; /* opaque */

struct oracle_options {
    int node_count;
    uint32_t ids[RAFT_VOTERS_MAX];
    struct trace *trace;
    bool values_by_op; /* each value is op_value() of its op */
};

struct oracle *oracle_new(const struct oracle_options *options);
void oracle_free(struct oracle *oracle); /* accepts NULL */

/* -- A node's life ------------------------------------------------------------------------------- */

/* What is on the node's stable storage, told by the disk: after a cut that loses all else, the node
 * would begin with this. Term and vote; and each entry, in order (an index that is there already
 * replaces it and all behind it). */
void oracle_durable_vote(struct oracle *oracle, int node, uint64_t term, uint32_t voted_for);
void oracle_durable_entry(struct oracle *oracle, int node, uint64_t index, uint64_t term,
                          uint64_t chain);
/* The stable log ends with the seal of segment `number`, whose successor is not stable: recovery could
 * only refuse it (S22). */
_Noreturn void oracle_durable_dead_end(const struct oracle *oracle, int node, uint64_t number);
/* The process starts with this, recovered: checked against what was durable (S4, S15, S22), or
 * against nothing where `damaged` says that more was lost than a correct disk may lose. Then
 * oracle_appended() for each recovered entry, then oracle_started(). */
void oracle_starting(struct oracle *oracle, int node, bool damaged);
void oracle_started(struct oracle *oracle, int node, const struct raft *raft);
void oracle_crashed(struct oracle *oracle, int node);

/* Before and after each raft_step(): S1-S5, S7, S9-S11, S20. Counts the cells of the state table. */
void oracle_step_begin(struct oracle *oracle, int node, const struct raft *raft,
                       const struct raft_event *event);
void oracle_step_end(struct oracle *oracle, int node, const struct raft *raft,
                     const struct raft_event *event, const struct raft_effects *effects);
/* The node keeps an entry in its log (not yet durable), one it made or received: S6. */
void oracle_appended(struct oracle *oracle, int node, const struct entry *entry);
/* The end of a turn (level 1: of a step): commits against the ledger (S8), state against it (S18).
 * `kv` may be NULL before the genesis entry. */
void oracle_turn_end(struct oracle *oracle, int node, const struct raft *raft, const struct kv *kv,
                     uint64_t applied_index);

/* -- Clients ------------------------------------------------------------------------------------- */

/* A request leaves its client; later exactly one oracle_returned() for it (S24 is the client's own
 * check: one reply a request, in order), or none: then it is open for ever. `op` is copied. */
void oracle_invoked(struct oracle *oracle, const struct op *op);
/* S15, S16, S17, S19. */
void oracle_returned(struct oracle *oracle, uint64_t op_number, const struct outcome *outcome);

/* -- The end ------------------------------------------------------------------------------------- */

/* All of `nodes` (a bit each) are the healthy core, and have had time: equal commit index, applied,
 * digest and log; every acknowledged write is in the ledger. */
bool oracle_converged(const struct oracle *oracle, uint32_t nodes, char *why, size_t why_size);
/* Refused requests (OUTCOME_REFUSED) never took effect (S17): looks through the ledger. */
void oracle_check_end(struct oracle *oracle);
/* The history of all clients in the format of tests/histcheck, to the path. */
void oracle_write_history(const struct oracle *oracle, const char *path);
/* The same, judged at once by the library of tests/histcheck: a cross-check of S16. */
void oracle_check_history(struct oracle *oracle);

struct oracle_stats {
    uint64_t committed; /* entries */
    uint64_t invoked, acked, refused, unknown;
    uint64_t elections; /* leaders that came to be */
    uint64_t term_max;
    uint64_t cells[RAFT_EVENT_COUNT][RAFT_ROLE_COUNT]; /* of the state table: how often taken */
};
void oracle_stats(const struct oracle *oracle, struct oracle_stats *stats);

/* The term and slot of the newest leader that ever was; -1: none yet. */
int oracle_newest_leader(const struct oracle *oracle, uint64_t *term);
