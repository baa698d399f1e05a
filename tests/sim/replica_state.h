/* What a replica is made of: shared by the replica*.c files, and by nobody else. */
#pragma once

#include "kv/kv.h"
#include "raft/raft.h"
#include "server/entry.h"
#include "tests/sim/memory.h"
#include "tests/sim/replica.h"
#include "tests/sim/replica_log.h"

#define REPLICA_INBOX_MAX 4096u
#define REPLICA_OPS_MAX 1024u
#define REPLICA_NEWS_MAX 64u
/* Operations that wait for an entry, and reads that wait for a round; more are refused. */
#define REPLICA_WAITING_MAX 4096u
#define REPLICA_ROUNDS_MAX 64u
/* As in server/node_state.h. */
#define REPLICA_APPLY_COMMANDS_MAX 4096u
#define REPLICA_STALL_ELECTIONS 10u
#define NS_PER_MS 1000000ull

/* -- What outlives the process ------------------------------------------------------------------- */

struct replica_news {
    enum raft_event_type type;
    uint32_t peer;
};

/* The mailbox is the simulator's memory: it is filled between turns, and emptied by the next start
 * after a crash. Rings: `first` and `last` count up, places are taken modulo the size. */
struct replica_host {
    struct replicas *shared;
    struct parcel *inbox[REPLICA_INBOX_MAX];
    uint32_t inbox_first, inbox_last;
    struct op ops[REPLICA_OPS_MAX];
    uint32_t ops_first, ops_last;
    struct replica_news news[REPLICA_NEWS_MAX];
    uint32_t news_first, news_last;
    struct memory_disk *disk; /* level 1 */
};

struct replica_host *replica_host_of(struct machine *machine);
/* There is a process, and it has not crashed in the middle of a turn. */
bool replica_is_up(const struct machine *machine);

/* -- The process --------------------------------------------------------------------------------- */

/* Operations that wait, in the order of what they wait for: an index of the log (0: the turn's batch,
 * not yet proposed), or the number of a read round. */
struct waiting_op {
    struct op op;
    uint64_t behind;
};

struct waiting {
    struct waiting_op *ops; /* a ring of REPLICA_WAITING_MAX */
    uint32_t first, last;
};

/* A read round of Raft; the last one of the ring is collecting, and has no number yet. */
struct replica_round {
    uint64_t round;
    uint64_t needed; /* released: answer from a state that has applied this; 0: not released */
    uint32_t count;  /* of reads */
};

struct answer {
    uint64_t op_number;
    int redirect;
    struct outcome outcome;
};

struct replica {
    struct machine *machine;
    struct replicas *shared;
    struct replica_host *host;
    const struct replica_log_type *log_type;
    struct replica_log *log;

    bool has_failed;
    uint64_t now_ns; /* read once a turn */

    struct raft raft;
    struct raft_effects effects;
    uint64_t write_seq;   /* the newest write that Raft asked for */
    uint64_t flushed_seq; /* the newest one that a flush was started for */
    bool vote_due;        /* term and vote found no room on a full disk */

    struct kv *kv; /* NULL until the genesis entry is applied */
    uint64_t applied_index;

    /* The log clock: see node_state.h. */
    uint64_t base_clock_ms, base_ns, last_clock_ms;

    /* The turn's batch: room for a header, then commands. */
    uint8_t *batch_bytes;
    size_t batch_size, batch_capacity;
    uint32_t batch_commands;
    int batch_client; /* who asked for the last command */

    uint8_t *value_bytes; /* of the command that is being made */
    size_t value_capacity;

    struct waiting writes; /* and the reads that ride between them */
    struct waiting reads;  /* in rounds */
    struct replica_round rounds[REPLICA_ROUNDS_MAX];
    uint32_t round_first, round_last;

    /* Answers go out at the end of the turn. */
    struct answer *answers;
    size_t answer_count, answer_capacity;

    uint64_t progress_ns, progress_index;
    bool is_stalled;
    bool disk_busy;

    /* Limits: of the configuration, or defaults. */
    size_t batch_bytes_max, largest_entry;
    uint64_t uncommitted_bytes_max, window_bytes, store_bytes_max;
    uint32_t append_entries_max; /* of one message: drawn at the start */

    struct entry send_entries[RAFT_APPEND_ENTRIES_MAX];
    struct replica_counters counters;
};

/* -- replica.c ----------------------------------------------------------------------------------- */

/* Step Raft and carry out the effects. `entries` go with RAFT_APPEND. */
void replica_step(struct replica *replica, struct raft_event *event, const struct entry *entries);
/* As node_propose(). */
void replica_propose(struct replica *replica, enum entry_kind kind, uint8_t *bytes, size_t size,
                     uint32_t count);
uint64_t replica_clock_ms(const struct replica *replica);
/* Nothing is acknowledged or answered from here on; the turn ends the process. */
void replica_fail(struct replica *replica, const char *what, int code);
int replica_slot_of(const struct replica *replica, uint32_t id);

/* -- replica_peer.c ------------------------------------------------------------------------------ */

void replica_take_message(struct replica *replica, const struct parcel *parcel);
void replica_send_message(struct replica *replica, const struct raft_message *message);
/* Whatever is due to the followers, as far as the window has room. */
void replica_send(struct replica *replica);

/* -- replica_ops.c: requests in, answers out ----------------------------------------------------- */

/* What clients have asked since the last turn. */
void replica_take_ops(struct replica *replica);
void replica_propose_batch(struct replica *replica);
void replica_open_round(struct replica *replica);
void replica_release_reads(struct replica *replica, const struct raft_released *released);
void replica_answer_rounds(struct replica *replica);
/* No longer leader: everything that waits is told so. */
void replica_fail_waiting(struct replica *replica);
/* The command that the first of `writes` waits for has been applied. */
void replica_answer_write(struct replica *replica, const struct kv_result *result);
/* Reads at the front of `writes` that ride in the entry at `index`. */
void replica_answer_riding(struct replica *replica, uint64_t index);
void replica_send_answers(struct replica *replica);

/* -- replica_apply.c ----------------------------------------------------------------------------- */

void replica_apply(struct replica *replica);
void replica_expire(struct replica *replica);
uint64_t replica_expiry_deadline_ns(const struct replica *replica);
