/* What a node is made of: shared by the node_*.c files, and by nobody else. */
#pragma once

#include "kv/kv.h"
#include "raft/raft.h"
#include "server/client/client.h"
#include "server/config.h"
#include "server/entry.h"
#include "server/logger.h"
#include "server/node.h"
#include "server/node_ops.h"
#include "server/node_turns.h"
#include "server/peer/peer.h"
#include "server/reactor.h"
#include "server/storage/storage.h"

_Static_assert(ENTRY_HASH_KEY_SIZE == KV_HASH_KEY_SIZE,
               "the genesis entry carries the store's key");
_Static_assert(ENTRY_VOTERS_MAX == RAFT_VOTERS_MAX, "the genesis entry holds any group");
_Static_assert(CONFIG_SERVERS_MAX == RAFT_VOTERS_MAX, "every server of the file may vote");

/* Batches proposed by this leader and not yet applied. */
#define NODE_BATCHES_MAX 1024
/* Read rounds that are not yet answered: open in Raft, or waiting for the store to catch up. */
#define NODE_ROUNDS_MAX 64
/* Commands applied in one turn, and bytes of entries; a longer backlog is applied over several,
 * heartbeats between. An entry counts as one command more; that which reaches a bound is applied. */
#define NODE_APPLY_COMMANDS_MAX 4096
#define NODE_APPLY_BYTES_MAX (4u << 20)
/* Orderly stop: how long to wait for replies, then for another leader. In all below 5 s. */
#define NODE_DRAIN_MS 1500
#define NODE_HANDOVER_MS 1500
#define NODE_STATUS_MAX 4096
/* A leader whose commit index has not moved for so many election timeouts, though entries wait and a
 * majority answers (full or hung disks), tells its clients that the outcome is unknown. */
#define NODE_STALL_ELECTIONS 10
/* A leader whose own disk is full, or has not answered while a majority of others' has, for so many
 * minimum election timeouts, hands the leadership over. */
#define NODE_DISK_ELECTIONS 3
#define NODE_NS_PER_MS 1000000ull

enum node_phase {
    NODE_RUNNING,
    NODE_DRAINING, /* asked to stop: no new requests, those under way are answered */
    NODE_HANDING,  /* the leadership goes to another */
    NODE_FLUSHING, /* what was appended goes to the disk */
    NODE_STOPPED,
    NODE_FAILED,
};

/* A batch of this leader: operations in the order of its commands, reads in between where they were
 * asked; and reads released that must see it (`after`). */
struct node_batch {
    uint64_t index;
    struct op_list ops, after;
};

struct node_round {
    uint64_t round;  /* Raft's number; 0: still collecting */
    uint64_t needed; /* released: answer from a state that has applied this; 0: not released */
    struct op_list ops;
};

struct node_counters {
    uint64_t redirected, unavailable, unknown_outcome, busy, no_space;
    uint64_t elections, leader_changes;
    uint64_t broken_chains, stripped_appends, disk_handovers;
    uint64_t batches, commands, reads, read_rounds;
    uint64_t apply_commands_max, apply_bytes_max; /* the most that one turn has applied */
};

struct node {
    struct os *os;
    const struct config *config;
    const struct config_server *self;
    struct logger logger;
    struct reactor *reactor;
    struct storage *storage;
    struct peers *peers;
    struct clients *clients;
    struct reactor_source signal_source, disk_source;

    enum node_phase phase;
    uint64_t phase_deadline_ns;
    uint64_t started_ns;
    uint64_t now_ns; /* read once a turn */

    struct raft raft;
    struct raft_effects effects;
    uint64_t write_seq;   /* the newest write that Raft asked for */
    uint64_t flushed_seq; /* the newest one that a flush was started for */

    /* The replicated state. */
    struct kv *kv; /* NULL until the genesis entry is applied */
    uint64_t applied_index;

    /* The log clock is base_clock_ms when the monotonic clock is base_ns, and runs with it from
     * there; the base moves with each entry that a leader sends us, and stays while we lead. */
    uint64_t base_clock_ms, base_ns;
    uint64_t last_clock_ms; /* of the newest entry in the log */

    /* The turn's batch: room for a header, then commands. */
    uint8_t *batch_bytes;
    size_t batch_size, batch_capacity;
    uint32_t batch_commands;
    struct op_list batch_ops;

    /* Waiting operations. */
    uint64_t op_sequence;
    uint64_t waiting; /* operations in all lists below and above */
    /* A ring, by number. Numbers never come again, so a connection's mark of a batch that is gone
     * cannot be taken for another's. The last one is open: it has no index yet. */
    struct node_batch batches[NODE_BATCHES_MAX];
    uint64_t batch_first, batch_last; /* from 1 on */
    uint32_t pending_value_max;       /* of the values in them, since there was last none */
    struct node_round rounds[NODE_ROUNDS_MAX]; /* a ring; the last one is collecting */
    uint64_t round_first, round_last;

    struct entry send_entries[RAFT_APPEND_ENTRIES_MAX];
    struct {
        uint64_t incarnation, boot;
    } peer_lives[RAFT_PEERS_MAX]; /* as last seen, in the order of raft.peers; 0: never */
    bool vote_due;        /* term and vote found no room on a full disk: nothing is promised yet */
    uint64_t progress_ns; /* when the commit index last moved, or nothing waited for it */
    uint64_t progress_index; /* what it was then */
    bool is_stalled;         /* it has not moved for NODE_STALL_ELECTIONS */
    struct node_counters counters;
    struct node_turns turns;
    uint64_t disk_seq; /* the oldest write that our disk has not confirmed; 0: none */
    uint64_t disk_ns;  /* since when */
    bool was_full;     /* the disk, as the log line last said */
    bool disk_busy;    /* a segment is being prepared */
    char status_text[NODE_STATUS_MAX];
    char redirect_text[OS_HOST_MAX + 8];
};

/* -- node.c ------------------------------------------------------------------------------------- */

/* Step Raft and carry out the effects. `entries` go with RAFT_APPEND. */
void node_step(struct node *node, struct raft_event *event, const struct entry *entries);
/* Append to the log an entry of `kind` and propose it; its payload stands in `bytes` behind the
 * header's room. Returns its index. Only for a leader that accepts proposals. */
uint64_t node_propose(struct node *node, enum entry_kind kind, uint8_t *bytes, size_t size,
                      uint32_t count);
uint64_t node_clock_ms(const struct node *node);
/* Report and stop: nothing is acknowledged from here on. */
void node_fail(struct node *node, const char *what, const char *why);
void node_fail_with_code(struct node *node, const char *what, int code); /* -errno */
void node_on_signal(void *owner, uint32_t events);
void node_on_flushed(void *owner, uint32_t events);

/* -- node_peer.c -------------------------------------------------------------------------------- */

bool node_on_message(void *context, const struct raft_message *message,
                     const struct entry *entries);
void node_on_peer_up(void *context, uint32_t id, uint64_t incarnation, uint64_t boot);
void node_on_peer_down(void *context, uint32_t id, const char *why);
void node_on_peer_refused(void *context, const char *who, const char *why);
/* Queue one of Raft's messages, with its entries. */
void node_send_message(struct node *node, const struct raft_message *message);
/* Whatever is due to the followers, as far as their links have room; one write a link. */
void node_send(struct node *node);

/* -- node_client.c: requests in, replies out ---------------------------------------------------- */

/* The size of the value that a read would find, or that a write before it may put there. */
uint32_t node_value_size(void *context, const struct client *client, const struct request *request);
enum client_verdict node_on_request(void *context, struct client *client,
                                    const struct request *request);
/* Propose the turn's batch, open the turn's read round. */
void node_propose_batch(struct node *node);
void node_open_round(struct node *node);
/* Reads of rounds up to `released->round` may be answered. */
void node_release_reads(struct node *node, const struct raft_released *released);
/* No longer leader: everything that waits is told so. */
void node_fail_waiting(struct node *node);
/* Queue the reply to an operation of `list`, or to all reads in it. */
void node_reply_to_write(struct node *node, const struct op *op, const struct kv_result *result);
void node_answer_read(struct node *node, const struct op_list *list, const struct op *op);
void node_answer_reads(struct node *node, struct op_list *list);
/* Reads of released rounds whose index the store has applied. */
void node_answer_rounds(struct node *node);

/* -- node_apply.c ------------------------------------------------------------------------------- */

/* Apply what is committed, a bounded piece; replies are queued. */
void node_apply(struct node *node);
/* Something has expired, or dead keys wait, and no write flows: move the clock. */
void node_expire(struct node *node);
uint64_t node_expiry_deadline_ns(const struct node *node);

/* -- node_start.c ------------------------------------------------------------------------------- */

/* Bytes of the largest entry that a leader of this configuration makes. */
size_t node_largest_entry(const struct config *config);
/* Who votes by server.json: ids, ascending. */
void node_voters(const struct config *config, struct entry_genesis *genesis);

/* -- node_status.c ------------------------------------------------------------------------------ */

const char *node_status(struct node *node);
