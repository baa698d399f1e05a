/* The way into the core: admission, the state table, and the changes of role.
 *
 *     event -> admit() -> raft_table[event][role] -> effects
 *
 * admit() holds what is the same for every role: a message from nobody we know, an old term, a
 * higher term, a vote asked for while a leader lives. What is left is between nodes of one term,
 * and the table says what becomes of it, a line for each event and a column for each role. */
#include <assert.h>
#include <stddef.h>

#include "raft/core.h"
#include "raft/durable.h"
#include "raft/log.h"

/* No honest cluster gets here: at a million elections a second it takes 292,000 years. A message
 * with a higher term is damaged; to adopt it would leave no terms for the elections to come. */
#define TERM_MAX (UINT64_MAX / 2)
/* Nor does a term run ahead of the others by so much while a node is away. */
#define TERM_JUMP_MAX (UINT64_C(1) << 32)

static void init_checks(const struct raft_config *config, const struct raft_restored *restored)
{
    assert(config->voter_count >= 1);
    assert(config->voter_count <= RAFT_VOTERS_MAX);
    assert(config->id != RAFT_NODE_NONE);
    assert(config->heartbeat_ms > 0);
    assert(config->heartbeat_ms < config->election_ms_min);
    assert(config->election_ms_min <= config->election_ms_max);
    assert(restored->last_index >= restored->snapshot.index);
    assert((restored->run_count > 0) == (restored->last_index > restored->snapshot.index));
    assert(restored->run_count <= restored->run_capacity);
}

static void init_peers(struct raft *raft, const struct raft_config *config)
{
    bool found = false;
    for (int i = 0; i < config->voter_count; i++) {
        if (config->voters[i] == config->id) {
            assert(!found);
            found = true;
            continue;
        }
        assert(config->voters[i] != RAFT_NODE_NONE);
        assert(raft_find_peer(raft, config->voters[i]) == NULL);
        assert(raft->peer_count < RAFT_PEERS_MAX);
        raft->peers[raft->peer_count++] = (struct raft_peer){ .id = config->voters[i], .next = 1 };
    }
    assert(found);
}

void raft_init(struct raft *raft, const struct raft_config *config,
               const struct raft_restored *restored, uint64_t now_ms)
{
    init_checks(config, restored);
    *raft = (struct raft){
        .id = config->id,
        .election_ms_min = config->election_ms_min,
        .election_ms_max = config->election_ms_max,
        .heartbeat_ms = config->heartbeat_ms,
        .term = restored->term,
        .voted_for = restored->voted_for,
        .snapshot = restored->snapshot,
        .last_index = restored->last_index,
        .runs = restored->runs,
        .run_count = restored->run_count,
        .run_capacity = restored->run_capacity,
        .durable_index = restored->last_index,
        .durable_term = restored->term,
        .durable_vote = restored->voted_for,
        .role = RAFT_FOLLOWER,
        .leader = RAFT_NODE_NONE,
        .commit_index = restored->snapshot.index,
        .matched_index = restored->snapshot.index,
        .now_ms = now_ms,
        .random = config->seed,
        .transfer_to = RAFT_NODE_NONE,
    };
    init_peers(raft, config);
    raft_restart_election_timer(raft);
    assert(raft_log_last(raft).term <= raft->term);
}

/* Whether a leader is known to live, so that an election could only do harm (dissertation §4.2.3,
 * §9.6). A leader that lost its majority finds out by itself: see leader_on_timeout(). */
static bool leader_lives(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER)
        return true;
    return raft->leader_heard_ms != 0 &&
           raft->now_ms < raft->leader_heard_ms + raft->election_ms_min;
}

/* The term of a pre-vote and of its yes is one that nobody has entered yet. */
static bool carries_own_term(const struct raft_message *message)
{
    if (message->type == RAFT_VOTE)
        return !message->vote.pre_vote;
    if (message->type == RAFT_VOTE_REPLY)
        return !(message->vote_reply.pre_vote && message->vote_reply.granted);
    return true;
}

/* Tell the sender of an old term's request which term it is now (§5.1): a stale leader steps down,
 * a stale candidate gives up. Late replies need no answer. */
static void answer_stale(const struct raft *raft, const struct raft_message *message,
                         struct raft_effects *effects)
{
    if (message->type == RAFT_VOTE)
        raft_refuse_vote(raft, message, effects);
    if (message->type == RAFT_APPEND && raft_durable_has_term(raft)) {
        struct raft_message *reply = raft_post(raft, RAFT_APPEND_REPLY, message->from, effects);
        reply->append_reply = (struct raft_append_reply){
            .rejected_index = message->append.prev.index,
            .last_index = raft->last_index,
        };
    }
}

/* Whether the message goes on to the table. If not, it has been answered, or deserves no answer. */
static bool admit_message(struct raft *raft, const struct raft_message *message,
                          struct raft_effects *effects)
{
    if (message->to != raft->id || raft_find_peer(raft, message->from) == NULL)
        return false; /* not from a voter, or not for us */
    if (message->term == 0 || message->term > TERM_MAX)
        return false;
    if (message->term > raft->term && message->term - raft->term > TERM_JUMP_MAX)
        return false;
    if (message->term < raft->term) {
        answer_stale(raft, message, effects);
        return false;
    }
    if (message->type == RAFT_VOTE && leader_lives(raft)) {
        bool asked_by_leader = message->vote.transfer && !message->vote.pre_vote;
        if (!asked_by_leader) {
            raft_refuse_vote(raft, message, effects); /* and its term is not adopted */
            return false;
        }
    }
    if (message->term > raft->term && carries_own_term(message))
        raft_become_follower(raft, message->term, effects);
    return true;
}

static bool admit(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    if (event->type < RAFT_MESSAGE_TYPE_COUNT) {
        assert(event->message->type == event->type);
        return admit_message(raft, event->message, effects);
    }
    if (event->type == RAFT_TIMEOUT)
        return raft->now_ms >= raft->deadline_ms; /* an early timer is nobody's */
    return true;
}

/* on_ does it, refuse_ answers no, ignore_ knows why silence is right, never_ stops the node. Wider
 * than other lines: four roles side by side are worth more than the margin. */
/* clang-format off */
raft_handler *const raft_table[RAFT_EVENT_COUNT][RAFT_ROLE_COUNT] = {
    /*                      FOLLOWER                  PRE_CANDIDATE                CANDIDATE                 LEADER                 */
    [RAFT_APPEND]       = { follower_on_append,       pre_candidate_on_append,     candidate_on_append,      never_second_leader    },
    [RAFT_APPEND_REPLY] = { ignore_late_append_reply, ignore_late_append_reply,    ignore_late_append_reply, leader_on_append_reply },
    [RAFT_VOTE]         = { follower_on_vote,         pre_candidate_on_vote,       candidate_on_vote,        refuse_vote            },
    [RAFT_VOTE_REPLY]   = { ignore_late_vote,         pre_candidate_on_vote_reply, candidate_on_vote_reply,  ignore_late_vote       },
    [RAFT_TIMEOUT_NOW]  = { follower_on_timeout_now,  follower_on_timeout_now,     ignore_timeout_now,       ignore_timeout_now     },
    [RAFT_TIMEOUT]      = { follower_on_timeout,      pre_candidate_on_timeout,    candidate_on_timeout,     leader_on_timeout      },
    [RAFT_PROPOSE]      = { refuse_propose,           refuse_propose,              refuse_propose,           leader_on_propose      },
    [RAFT_READ]         = { refuse_read,              refuse_read,                 refuse_read,              leader_on_read         },
    [RAFT_SEND]         = { ignore_send,              ignore_send,                 ignore_send,              leader_on_send         },
    [RAFT_PERSISTED]    = { follower_on_persisted,    follower_on_persisted,       candidate_on_persisted,   leader_on_persisted    },
    [RAFT_PEER_LOST]    = { follower_on_peer_lost,    ignore_peer_lost,            ignore_peer_lost,         leader_on_peer_lost    },
    [RAFT_PEER_REPLACED]= { ignore_peer_replaced,     ignore_peer_replaced,        ignore_peer_replaced,     leader_on_peer_replaced },
    [RAFT_TRANSFER]     = { refuse_transfer,          refuse_transfer,             refuse_transfer,          leader_on_transfer     },
};
/* clang-format on */

/* Everything but the arrays, which their counts govern: they are 5 kB. */
static void clear_effects(struct raft_effects *effects)
{
    effects->write_seq = 0;
    effects->save_vote = false;
    effects->drop_from = 0;
    effects->first = 0;
    effects->last = 0;
    effects->skip = 0;
    effects->noop = false;
    effects->message_count = 0;
    effects->refusal = RAFT_ACCEPTED;
    effects->round = 0;
    effects->released_count = 0;
    effects->commit_moved = false;
    effects->role_changed = false;
    effects->leader_changed = false;
    effects->handled_as = RAFT_ROLE_COUNT;
}

void raft_step(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    const enum raft_role role = raft->role;
    const uint32_t leader = raft->leader;
    const uint64_t commit_index = raft->commit_index;

    assert(event->type < RAFT_EVENT_COUNT);
    assert(event->now_ms >= raft->now_ms);
    assert(raft_runs_spare(raft) >= RAFT_RUNS_SPARE);

    clear_effects(effects);
    raft->now_ms = event->now_ms;
    if (admit(raft, event, effects)) {
        effects->handled_as = raft->role;
        raft_table[event->type][raft->role](raft, event, effects);
    }

    raft_durable_start(raft, effects);
    effects->commit_moved = raft->commit_index != commit_index;
    effects->role_changed = raft->role != role;
    effects->leader_changed = raft->leader != leader;
}

/* What belongs to one term only. The vote of the new one is `voted_for`. */
static void enter_term(struct raft *raft, uint64_t term, uint32_t voted_for,
                       struct raft_effects *effects)
{
    assert(term > raft->term);

    raft->term = term;
    raft->voted_for = voted_for;
    raft->vote_due = false;
    raft->round_seen = 0;
    /* What has committed is in the log of every later leader (§5.4.3). */
    raft->matched_index = raft->commit_index;
    effects->save_vote = true;
}

static void leave_leadership(struct raft *raft)
{
    raft->round_count = 0;
    raft->transfer_to = RAFT_NODE_NONE;
    raft->transfer_sent = false;
    if (raft->matched_index < raft->commit_index)
        raft->matched_index = raft->commit_index;
}

static void clear_votes(struct raft *raft)
{
    for (int i = 0; i < raft->peer_count; i++) {
        raft->peers[i].vote_granted = false;
        raft->peers[i].vote_answered = false;
    }
}

void raft_become_follower(struct raft *raft, uint64_t term, struct raft_effects *effects)
{
    assert(term >= raft->term);

    if (raft->role == RAFT_LEADER)
        leave_leadership(raft);
    if (term > raft->term)
        enter_term(raft, term, RAFT_NODE_NONE, effects);
    /* A follower's timer runs on: only a leader, or a vote given, may put it off (§5.2). */
    if (raft->role != RAFT_FOLLOWER)
        raft_restart_election_timer(raft);
    raft->role = RAFT_FOLLOWER;
    raft->campaign_transfer = false;
    raft_forget_leader(raft);
}

/* Would a majority vote for us (dissertation §9.6)? Neither term nor vote change for asking: a node
 * that cannot win an election cannot disturb anyone with a higher term either. */
void raft_become_pre_candidate(struct raft *raft, struct raft_effects *effects)
{
    assert(raft->role != RAFT_LEADER);

    raft->role = RAFT_PRE_CANDIDATE;
    raft->campaign_transfer = false;
    raft_forget_leader(raft);
    clear_votes(raft);
    raft_restart_election_timer(raft);
    for (int i = 0; i < raft->peer_count; i++) {
        struct raft_message *request = raft_post(raft, RAFT_VOTE, raft->peers[i].id, effects);
        request->term = raft->term + 1;
        request->vote = (struct raft_vote){ .last = raft_log_last(raft), .pre_vote = true };
    }
    if (raft->peer_count == 0)
        raft_become_candidate(raft, false, effects);
}

void raft_become_candidate(struct raft *raft, bool transfer, struct raft_effects *effects)
{
    assert(raft->role == RAFT_PRE_CANDIDATE || (raft->role == RAFT_FOLLOWER && transfer));

    raft->role = RAFT_CANDIDATE;
    raft->campaign_transfer = transfer;
    enter_term(raft, raft->term + 1, raft->id, effects);
    raft_forget_leader(raft);
    clear_votes(raft);
    raft_restart_election_timer(raft);

    assert(!raft_durable_has_vote(raft));
}

static void meet_follower(const struct raft *raft, struct raft_peer *peer)
{
    *peer = (struct raft_peer){
        .id = peer->id,
        .probing = true,
        .heartbeat_due = true, /* announces us (§5.2), and finds out where the logs part */
        .next = raft->last_index + 1,
        .heard_ms = raft->now_ms,
    };
}

/* The term begins with an entry of its own: only with it can the entries of older terms commit
 * (§5.4.2, §8). */
void raft_become_leader(struct raft *raft, struct raft_effects *effects)
{
    assert(raft->role == RAFT_CANDIDATE);
    assert(raft->voted_for == raft->id);
    assert(raft_durable_has_vote(raft));

    raft->role = RAFT_LEADER;
    raft->leader = raft->id;
    raft->campaign_transfer = false;
    raft->round = 0;
    raft->round_count = 0;
    raft->transfer_to = RAFT_NODE_NONE;
    raft->transfer_sent = false;
    raft->heartbeat_ms_next = raft->now_ms + raft->heartbeat_ms;
    raft->quorum_check_ms = raft->now_ms + raft->election_ms_max;
    for (int i = 0; i < raft->peer_count; i++)
        meet_follower(raft, &raft->peers[i]);

    raft_log_append(raft, raft->term);
    raft->term_start_index = raft->last_index;
    effects->noop = true;
    effects->first = raft->last_index;
    effects->last = raft->last_index;
    raft_leader_set_deadline(raft);
}

void raft_forget_leader(struct raft *raft)
{
    raft->leader = RAFT_NODE_NONE;
    raft->leader_heard_ms = 0;
    raft->ack_due = false;
    raft->refusal_due = false;
}

struct raft_message *raft_post(const struct raft *raft, enum raft_event_type type, uint32_t to,
                               struct raft_effects *effects)
{
    assert(effects->message_count < RAFT_MESSAGES_MAX);
    struct raft_message *message = &effects->messages[effects->message_count++];
    *message =
        (struct raft_message){ .type = type, .from = raft->id, .to = to, .term = raft->term };
    return message;
}

const struct raft_peer *raft_find_peer(const struct raft *raft, uint32_t peer)
{
    for (int i = 0; i < raft->peer_count; i++) {
        if (raft->peers[i].id == peer)
            return &raft->peers[i];
    }
    return NULL;
}

struct raft_peer *raft_peer(struct raft *raft, uint32_t id)
{
    const struct raft_peer *peer = raft_find_peer(raft, id);
    return peer == NULL ? NULL : &raft->peers[peer - raft->peers];
}

/* splitmix64: every seed, 0 included, gives a full-period sequence. */
uint64_t raft_random_between(struct raft *raft, uint64_t low, uint64_t high)
{
    assert(low <= high);
    raft->random += 0x9e3779b97f4a7c15u;
    uint64_t mixed = raft->random;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    return low + mixed % (high - low + 1);
}

void raft_restart_election_timer(struct raft *raft)
{
    raft->deadline_ms =
        raft->now_ms + raft_random_between(raft, raft->election_ms_min, raft->election_ms_max);
}

/* A refusal promises nothing, but it names our term, and that must survive a crash first. It is not
 * kept for later: the candidate loses nothing by silence. */
void raft_refuse_vote(const struct raft *raft, const struct raft_message *request,
                      struct raft_effects *effects)
{
    if (!raft_durable_has_term(raft))
        return;
    struct raft_message *reply = raft_post(raft, RAFT_VOTE_REPLY, request->from, effects);
    reply->vote_reply = (struct raft_vote_reply){ .pre_vote = request->vote.pre_vote };
}
