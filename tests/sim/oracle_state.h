/* What the oracle keeps, for its own files only:
 *
 *     oracle.c          beginning and end; entries that were ever seen; counts
 *     oracle_raft.c     the rules of nodes and their steps: S1-S7, S9-S11, S20, S22
 *     oracle_ledger.c   what has committed, and the state that follows from it: S8, S9, S18, S19
 *     oracle_client.c   what clients were told: S15-S17, S19
 *     oracle_history.c  the clients' history as text, and for tests/histcheck */
#pragma once

#include "kv/kv.h"
#include "tests/sim/memory.h"
#include "tests/sim/oracle.h"
#include "tests/sim/shadow.h"

/* An entry that was seen somewhere: its bytes are kept once for all nodes, to the end of the run.
 * There is one for each index and term (S6), so to be the same entry is to be the same pointer. */
struct known {
    uint64_t index, term, chain;
    const struct known
        *previous;         /* the entry before it; NULL for index 1, or if only told by a disk */
    uint32_t ever_durable; /* a bit for each node that had it durably */
    uint32_t size;
    uint8_t *bytes; /* owned; NULL if only told by a disk */
};

/* One node's log; entry `index` is at[index - 1]. */
struct mirror {
    struct known **at;
    uint64_t last;
    size_t capacity;
};

/* The node has dropped its log from `index` on, and the disk has not yet heard of it: that will be when
 * it tells of `by` (NULL: still to come). */
struct drop {
    uint64_t index;
    const struct known *by;
};

struct drops {
    struct drop *items;
    size_t count, capacity;
};

/* A read round that was opened: how much had committed by then. */
#define ROUNDS_KEPT 32
struct round_begun {
    uint64_t term, round, committed;
};

struct watched { /* a node */
    bool runs, is_starting, is_damaged;
    bool was_damaged;      /* once in the run */
    struct mirror log;     /* as the process has it */
    struct mirror durable; /* as its disk has it, for certain */
    struct drops drops;
    uint64_t durable_term;
    uint32_t durable_vote;
    uint64_t sent_vote_term; /* the newest vote that left */
    uint32_t sent_vote;
    struct round_begun rounds[ROUNDS_KEPT];

    /* as last seen in this life */
    uint64_t term, commit_index, applied_index;
    bool commit_unchecked; /* against the ledger, when the log has the step's entries */
    uint64_t digest, digest_index;
};

struct asked { /* an operation of a client */
    struct op op;
    uint64_t committed;        /* the ledger's length when it was asked */
    struct shadow_place floor; /* what had been seen by anybody by then */
    bool is_invoked, has_returned, has_place;
    size_t deleted;              /* of a delete: its key's place in oracle->deleted */
    struct shadow_effect effect; /* in the ledger, if has_place */
    struct outcome outcome;      /* if has_returned */
};

/* A delete in the ledger: it does not say whose it is. */
struct deletion {
    struct shadow_effect effect;
    bool is_claimed;
};

struct deleted_key {
    char key[OP_KEY_MAX];
    struct deletion *items; /* in the order of the log */
    size_t count, capacity;
    size_t
        first_free[2]; /* by status found / not: all before it are claimed or of the other kind */
    uint64_t asked, refused; /* deletes of clients */
};

struct oracle {
    struct oracle_options options;
    struct oracle_stats stats;
    struct watched nodes[RAFT_VOTERS_MAX];
    struct raft before; /* the step under way, as it began; its writes are not copied */

    struct known **table; /* open addressing by index and term; a power of 2 */
    size_t table_size, known_count;
    struct leader_of_term {
        uint64_t term;
        int node;
    } * leaders; /* in the order of terms */
    size_t leader_count, leader_capacity;

    struct mirror ledger;
    uint64_t *commit_terms; /* of the leader that first committed each index; they never fall */
    size_t commit_term_capacity;
    uint64_t *digests; /* of the reference after each index */
    size_t digest_capacity;
    struct kv *reference; /* NULL before the genesis entry */
    struct shadow *shadow;

    struct asked *asked; /* by op number */
    size_t asked_count, asked_capacity;
    struct shadow_place seen; /* by anybody: no later read may be older */
    struct deleted_key *deleted;
    size_t deleted_count, deleted_capacity;
    size_t *deleted_table; /* open addressing: 1 + place in `deleted`; a power of 2 */
    size_t deleted_table_size;
    uint64_t *events; /* in real time: op number, times two, plus 1 for its return */
    size_t event_count, event_capacity;
};

/* realloc() for arrays: room for at least one more than `count`. Aborts without memory. */
void *oracle_grow(void *items, size_t count, size_t *capacity, size_t size_of_one);

/* -- oracle.c ------------------------------------------------------------------------------------ */

struct known *oracle_find_known(const struct oracle *oracle, uint64_t index, uint64_t term);
/* The entry with this identity; made if it is not known. Fails the run if index and term are known
 * with another chain (S6); `where` says who came with it. */
struct known *oracle_get_known(struct oracle *oracle, int node, const char *where, uint64_t index,
                               uint64_t term, uint64_t chain);
/* NULL if the log has no such entry, or for index 0. */
struct known *mirror_at(const struct mirror *mirror, uint64_t index);
/* Puts it at its index, which is at most one behind the last: all behind it is gone. */
void mirror_put(struct mirror *mirror, struct known *known);
int oracle_slot_of(const struct oracle *oracle, uint32_t id); /* -1: no such node */

/* -- oracle_ledger.c ----------------------------------------------------------------------------- */

/* The commit index of `node` has moved: check it, and let the ledger grow if it leads. */
void ledger_on_commit(struct oracle *oracle, int node, const struct raft *raft);
/* What could not be checked in the step itself. */
void ledger_check_late(struct oracle *oracle, int node);
void ledger_check_end(struct oracle *oracle); /* the reference against the shadow, key by key */

/* -- oracle_client.c ----------------------------------------------------------------------------- */

/* A command has committed, with this effect. */
void client_on_command(struct oracle *oracle, const struct kv_command *command,
                       const struct shadow_effect *effect);
void client_check_end(struct oracle *oracle);
