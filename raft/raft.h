/* Raft: agreement on one log by a majority of nodes. Pure functions over memory: no socket, file,
 * clock, thread or key in sight. The same events give the same effects, byte for byte.
 *
 * One way in:
 *
 *     struct raft_effects effects;
 *     raft_step(&raft, &event, &effects);
 *     ... drop, keep and persist entries; send effects.messages; answer released reads ...
 *
 * raft_step() is total: it returns nothing, allocates nothing and cannot fail. Whatever message is
 * in the effects may be sent at once: what depends on durability is held back inside, and comes out
 * of RAFT_PERSISTED. What the core does not know: the bytes of entries (it knows their terms),
 * addresses (it knows node ids), and time (every event brings `now_ms`).
 *
 * The caller's part of the contract
 *   - Before each step: raft_runs_spare(raft) >= RAFT_RUNS_SPARE (see raft_give_runs).
 *   - After each step, before the next: carry out `effects` in the order of the struct's members.
 *   - Entry bytes and vote go to stable storage in the order in which the effects came; when all up
 *     to `write_seq` is durable, RAFT_PERSISTED says so. Completions may be merged, never reordered.
 *   - While raft_append_due() is true for a peer whose link has room, step RAFT_SEND for it. The
 *     link pulls: so a turn's entries, commit index and read round leave in one message.
 *   - RAFT_TIMEOUT when now_ms >= raft->deadline_ms. Early or repeated timeouts do no harm.
 *
 * Sections in comments: § alone is the Raft paper, extended version (Ongaro and Ousterhout 2014);
 * 'dissertation §' is Ongaro's dissertation. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RAFT_VOTERS_MAX 9
#define RAFT_PEERS_MAX (RAFT_VOTERS_MAX - 1)
/* No node: nobody voted for, no leader known. */
#define RAFT_NODE_NONE UINT32_MAX
/* Entries in one append message. */
#define RAFT_APPEND_ENTRIES_MAX 64
/* Writes to storage that RAFT_PERSISTED has not confirmed; more are merged into the newest. */
#define RAFT_WRITES_MAX 64
/* Read rounds waiting for their majority; more are refused with RAFT_REFUSED_BUSY. */
#define RAFT_ROUNDS_MAX 8
/* Entries sent to one follower and not yet acknowledged. */
#define RAFT_IN_FLIGHT_ENTRIES_MAX 256
/* Term runs that one step may add. */
#define RAFT_RUNS_SPARE (RAFT_APPEND_ENTRIES_MAX + 1)
/* Messages that one step may send: one to each peer, and one reply. */
#define RAFT_MESSAGES_MAX (RAFT_PEERS_MAX + 1)

/* A place in the log. A term and an index are both 64-bit numbers; together they cannot be swapped. */
struct raft_pos {
    uint64_t term, index;
};

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER, RAFT_ROLE_COUNT };

/* The lines of the state table. The first five are also the types of messages. */
enum raft_event_type {
    RAFT_APPEND,        /* message: entries, or none as a heartbeat (§5.3) */
    RAFT_APPEND_REPLY,  /* message */
    RAFT_VOTE,          /* message: also the pre-vote (dissertation §9.6) */
    RAFT_VOTE_REPLY,    /* message */
    RAFT_TIMEOUT_NOW,   /* message: campaign at once (dissertation §3.10) */
    RAFT_TIMEOUT,       /* raft->deadline_ms has come */
    RAFT_PROPOSE,       /* one entry, the batch of a turn */
    RAFT_READ,          /* opens a read round (dissertation §6.4) */
    RAFT_SEND,          /* the link to `peer` has room for `entries_max` entries */
    RAFT_PERSISTED,     /* all writes up to `write_seq` are on stable storage */
    RAFT_PEER_LOST,     /* the connection to `peer` is gone, and what was on it may be lost */
    RAFT_PEER_REPLACED, /* `peer` has begun anew: what it acknowledged may be gone */
    RAFT_TRANSFER,      /* hand the leadership to `peer`; RAFT_NODE_NONE: to the best one */
    RAFT_EVENT_COUNT
};
#define RAFT_MESSAGE_TYPE_COUNT (RAFT_TIMEOUT_NOW + 1)

struct raft_append {
    struct raft_pos prev;  /* the entry just before the first one here */
    uint64_t commit_index; /* the leader's */
    uint64_t round;        /* the newest read round, echoed by the reply; never reused in a term */
    bool no_room;          /* not sent: the receiver's node says that its disk takes no entries */
    uint32_t entry_count;  /* entries have the indices prev.index + 1, … */
    uint64_t entry_terms[RAFT_APPEND_ENTRIES_MAX];
};

struct raft_append_reply {
    bool success;
    bool full;      /* the sender's disk takes no entries now: send heartbeats only */
    uint64_t round; /* the highest one seen from this leader in this term */
    /* success: entries up to here match the leader's log and are durable at the sender. */
    uint64_t durable_index;
    /* refusal (§5.3, end): the append's prev that did not fit, the sender's last index, and the term
     * that stands at prev.index in the sender's log with that term's first index. conflict.term 0:
     * the sender's log is shorter than prev.index. */
    uint64_t rejected_index;
    uint64_t last_index;
    struct raft_pos conflict;
};

struct raft_vote {
    struct raft_pos last; /* of the candidate's log */
    bool pre_vote;        /* `term` of the message is then the term that would be campaigned in */
    bool transfer;        /* asked for by the leader itself: a live leader is no reason to refuse */
};

struct raft_vote_reply {
    bool granted;
    /* Of the request. A granted pre-vote carries the request's term; a refusal the sender's own. */
    bool pre_vote;
};

struct raft_message {
    enum raft_event_type type; /* below RAFT_MESSAGE_TYPE_COUNT */
    uint32_t from, to;
    uint64_t term;
    union {
        struct raft_append append;
        struct raft_append_reply append_reply;
        struct raft_vote vote;
        struct raft_vote_reply vote_reply;
    };
};

struct raft_event {
    enum raft_event_type type;
    uint64_t now_ms; /* monotonic; never smaller than in the event before */
    union {
        const struct raft_message *message; /* for message types: borrowed during the step */
        uint64_t write_seq;                 /* RAFT_PERSISTED */
        uint32_t peer;                      /* RAFT_PEER_LOST and _REPLACED, RAFT_TRANSFER */
        struct {
            uint32_t peer;
            uint32_t entries_max; /* 0: there is room for a heartbeat only */
        } send;                   /* RAFT_SEND */
    };
};

enum raft_refusal {
    RAFT_ACCEPTED,
    RAFT_REFUSED_NOT_LEADER,
    RAFT_REFUSED_TRANSFERRING, /* leadership is being handed over: propose again in a moment */
    RAFT_REFUSED_BUSY,         /* RAFT_ROUNDS_MAX read rounds are open */
    RAFT_REFUSED_NO_TARGET,    /* transfer to a node that is no voter, or to oneself */
};

struct raft_released {
    uint64_t round; /* this round, and every round before it that was not yet released */
    uint64_t index; /* answer its reads from a state that has applied at least this index */
};

struct raft_effects {
    /* 1. To be persisted, in this order, if write_seq is not 0. */
    uint64_t write_seq; /* give it back with RAFT_PERSISTED */
    bool save_vote;     /* raft->term and raft->voted_for have changed */
    uint64_t drop_from; /* not 0: entries from this index on are replaced: drop them */
    /* Entries to keep: indices first..last (0, 0: none). For a step with RAFT_APPEND they are the
     * message's own, of which the first `skip` are already here; for RAFT_PROPOSE it is the
     * proposal; with `noop` set it is the no-op that opens the leader's term (§8): make it. All
     * that a leader adds has the term raft->term. */
    uint64_t first, last;
    uint32_t skip;
    bool noop;

    /* 2. To be sent, at once if you like. */
    int message_count;
    struct raft_message messages[RAFT_MESSAGES_MAX];

    /* 3. To be told to the clients. */
    enum raft_refusal refusal; /* of RAFT_PROPOSE, RAFT_READ and RAFT_TRANSFER */
    uint64_t round;            /* RAFT_READ: the round that was opened */
    int released_count;        /* before entries beyond `index` are applied: answer these reads */
    struct raft_released released[RAFT_ROUNDS_MAX];
    bool commit_moved;   /* raft->commit_index: entries up to it may be applied */
    bool role_changed;   /* raft->role. No longer leader: reads that wait will never be released,
                        * and the outcome of proposals that have not committed is unknown */
    bool leader_changed; /* raft->leader */

    /* 4. For those who watch: the column of the state table that took the event; RAFT_ROLE_COUNT: none
     * did, it was answered or dropped before. */
    enum raft_role handled_as;
};

/* What a leader knows of a follower. `match` < `next`. */
struct raft_peer {
    uint32_t id;
    bool probing;       /* we do not know where the logs part: one append at a time */
    bool awaiting;      /* probing, and that one is under way */
    bool heartbeat_due; /* the timer says so */
    bool full;          /* its disk takes no entries: it said so in its last reply */
    bool vote_granted;  /* in this campaign (before and after the pre-vote) */
    bool vote_answered;
    uint64_t next;  /* the next index to send */
    uint64_t match; /* everything up to here is durable there and equals our log */
    uint64_t sent_round, acked_round;
    uint32_t replaced; /* how often it has begun anew since we lead, and match with it */
    uint64_t heard_ms; /* when its last reply of this term came; for CheckQuorum */
};

/* Entries from `first` on, up to the next run, are of `term`. Terms grow from run to run. */
struct raft_term_run {
    uint64_t term, first;
};

/* A write on its way to the disk: what it will make durable, less what was dropped since. */
struct raft_write {
    uint64_t seq;
    uint64_t last_index;
    uint64_t term;
    uint32_t voted_for;
};

struct raft_round {
    uint64_t round;
    uint64_t index; /* must have committed first: that of our no-op, in the beginning of a term */
};

/* A flat value: may be copied (the runs, which the caller owns, aside). Read its members freely;
 * only raft_step() changes them. */
struct raft {
    /* who we are; fixed */
    uint32_t id;
    uint32_t election_ms_min, election_ms_max, heartbeat_ms;
    int peer_count; /* voters besides us */

    /* persistent state (§5.1 and figure 2) */
    uint64_t term;
    uint32_t voted_for;
    struct raft_pos snapshot; /* the log begins after it; 0/0: nothing compacted */
    uint64_t last_index;
    struct raft_term_run *runs; /* owned by the caller; in the order of the log */
    uint32_t run_count, run_capacity;

    /* what of it is on stable storage */
    uint64_t durable_index;
    uint64_t durable_term;
    uint32_t durable_vote;
    uint64_t write_seq; /* of the newest write */
    int write_count;
    struct raft_write writes[RAFT_WRITES_MAX]; /* oldest first */

    /* volatile state */
    enum raft_role role;
    uint32_t leader; /* of this term, or RAFT_NODE_NONE */
    uint64_t commit_index;
    uint64_t now_ms;
    uint64_t deadline_ms; /* when RAFT_TIMEOUT is wanted next */
    uint64_t
        leader_heard_ms; /* 0: no live leader known; refuses votes until this + election_ms_min */
    uint64_t random;

    /* follower */
    uint64_t matched_index; /* proven to equal the leader's log, in this term */
    uint64_t round_seen;    /* the highest round of this term's leader */
    bool is_full;           /* our disk takes no entries: the leader is told */
    bool ack_due;           /* an acknowledgement waits for durability */
    bool vote_due;          /* a granted vote waits for durability */
    bool refusal_due;       /* an append's refusal waits until the new term is durable */
    struct raft_append_reply refusal;

    /* candidate */
    bool campaign_transfer; /* told to by the leader */

    /* leader */
    uint64_t term_start_index; /* of the no-op */
    uint64_t round;            /* newest read round */
    uint64_t quorum_check_ms;  /* CheckQuorum: when next */
    uint64_t heartbeat_ms_next;
    uint32_t transfer_to; /* RAFT_NODE_NONE: no transfer under way */
    uint64_t transfer_deadline_ms;
    bool transfer_sent;
    int round_count;
    struct raft_round rounds[RAFT_ROUNDS_MAX]; /* oldest first */
    struct raft_peer peers[RAFT_PEERS_MAX];
};

struct raft_config {
    uint32_t id;
    uint32_t voters[RAFT_VOTERS_MAX]; /* distinct; `id` is one of them */
    int voter_count;                  /* 1 to RAFT_VOTERS_MAX */
    uint32_t heartbeat_ms;
    uint32_t election_ms_min; /* above heartbeat_ms */
    uint32_t election_ms_max; /* at least election_ms_min */
    uint64_t seed;            /* different on every node, or elections split */
};

/* What stable storage held. */
struct raft_restored {
    uint64_t term;
    uint32_t voted_for; /* RAFT_NODE_NONE: nobody in `term` */
    struct raft_pos snapshot;
    uint64_t last_index;
    struct raft_term_run *runs; /* terms of snapshot.index + 1 .. last_index; see raft_give_runs */
    uint32_t run_count, run_capacity;
};

/* A follower that has just started. All that is restored counts as durable, so flush it first. */
void raft_init(struct raft *raft, const struct raft_config *config,
               const struct raft_restored *restored, uint64_t now_ms);

void raft_step(struct raft *raft, const struct raft_event *event, struct raft_effects *effects);

/* Whether the leader has something to tell `peer` now; false for all but a leader. */
bool raft_append_due(const struct raft *raft, uint32_t peer);

/* What the leader knows of `peer`, or NULL if there is no such voter. */
const struct raft_peer *raft_find_peer(const struct raft *raft, uint32_t peer);

/* The term of the entry at `index`; of the snapshot at its index. 0 if it is neither. */
uint64_t raft_term_at(const struct raft *raft, uint64_t index);

/* Term runs that can be added before the memory for them is full. */
uint32_t raft_runs_spare(const struct raft *raft);

/* Move the term runs to larger memory. Returns the old memory, which the caller may free. */
struct raft_term_run *raft_give_runs(struct raft *raft, struct raft_term_run *runs,
                                     uint32_t run_capacity);

/* The invariants of one state, and of a step from `before` (NULL: none) to `after`: aborts on a
 * broken one. Walks the whole log's runs: for tests and the simulator. `before` may share its runs
 * with `after`: only scalar members of it are read. */
void raft_check(const struct raft *before, const struct raft *after);

const char *raft_role_name(enum raft_role role);
const char *raft_event_name(enum raft_event_type type);
const char *raft_refusal_name(enum raft_refusal refusal);
