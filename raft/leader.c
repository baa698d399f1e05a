/* The leader: it replicates, commits, confirms reads, and gives up when it leads nobody.
 *
 * What it knows of a follower, along its own log (peer->match < peer->next):
 *
 *     1 ......... match ............ next ............. last
 *     durable there | in flight       | still to be sent
 *
 * While `probing`, next is a guess at where the logs part: one message at a time finds out. The
 * first success ends it, and from then on next runs ahead without waiting, up to
 * RAFT_IN_FLIGHT_ENTRIES_MAX past match. A lost connection or a refusal leads back to probing. */
#include <assert.h>
#include <stddef.h>

#include "raft/core.h"
#include "raft/durable.h"
#include "raft/log.h"
#include "raft/quorum.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void raft_leader_set_deadline(struct raft *raft)
{
    raft->deadline_ms = min_u64(raft->heartbeat_ms_next, raft->quorum_check_ms);
    if (raft->transfer_to != RAFT_NODE_NONE)
        raft->deadline_ms = min_u64(raft->deadline_ms, raft->transfer_deadline_ms);
}

/* What a majority of voters has reached: the peers' values are in `values`, ours is `own`. */
static uint64_t majority_of(const struct raft *raft, uint64_t *values, uint64_t own)
{
    values[raft->peer_count] = own;
    return quorum_index(values, raft->peer_count + 1);
}

/* Entries that may go to `peer` now. */
static uint64_t sendable(const struct raft *raft, const struct raft_peer *peer)
{
    uint64_t pending = raft->last_index + 1 - peer->next;
    if (peer->full)
        return 0;
    if (peer->probing)
        return peer->awaiting ? 0 : pending;
    uint64_t in_flight = peer->next - 1 - peer->match;
    if (in_flight >= RAFT_IN_FLIGHT_ENTRIES_MAX)
        return 0;
    return min_u64(pending, RAFT_IN_FLIGHT_ENTRIES_MAX - in_flight);
}

bool raft_append_due(const struct raft *raft, uint32_t peer_id)
{
    const struct raft_peer *peer = raft_find_peer(raft, peer_id);
    if (raft->role != RAFT_LEADER || peer == NULL)
        return false;
    return peer->heartbeat_due || peer->sent_round < raft->round || sendable(raft, peer) > 0;
}

/* A heartbeat goes without entries, and they follow in the next message: its reply then waits for
 * nobody's disk, so that a slow disk is not taken for a lost follower. */
static uint32_t count_to_send(const struct raft *raft, const struct raft_peer *peer,
                              uint32_t entries_max)
{
    if (peer->heartbeat_due)
        return 0;
    uint64_t room = min_u64(entries_max, RAFT_APPEND_ENTRIES_MAX);
    return (uint32_t)min_u64(sendable(raft, peer), room);
}

static void post_append(const struct raft *raft, const struct raft_peer *peer, uint32_t count,
                        struct raft_effects *effects)
{
    struct raft_append *append = &raft_post(raft, RAFT_APPEND, peer->id, effects)->append;
    append->prev = (struct raft_pos){ raft_term_at(raft, peer->next - 1), peer->next - 1 };
    append->commit_index = raft->commit_index;
    append->round = raft->round;
    append->entry_count = count;
    for (uint32_t i = 0; i < count; i++)
        append->entry_terms[i] = raft_term_at(raft, peer->next + i);
}

/* The link to a follower has room (§5.3). */
void leader_on_send(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    struct raft_peer *peer = raft_peer(raft, event->send.peer);
    if (peer == NULL)
        return;
    uint32_t count = count_to_send(raft, peer, event->send.entries_max);
    if (count == 0 && !peer->heartbeat_due && peer->sent_round == raft->round)
        return;

    post_append(raft, peer, count, effects);
    peer->sent_round = raft->round;
    peer->heartbeat_due = false;
    if (peer->probing)
        peer->awaiting = peer->awaiting || count > 0;
    else
        peer->next += count;

    assert(peer->next <= raft->last_index + 1);
}

/* Whether an entry of our own term has committed: only then does commit_index cover everything that
 * was ever acknowledged (§8; dissertation §6.4). */
static bool term_has_committed(const struct raft *raft)
{
    return raft->commit_index >= raft->term_start_index;
}

/* Commit what a majority has durably, counting us by our own disk like anyone else; others'
 * disks may be enough without it. Only entries of our term commit by counting: an older one on a
 * majority can still be overwritten, and commits with the first of ours behind it (§5.4.2,
 * figure 8). */
static void advance_commit(struct raft *raft)
{
    uint64_t matches[RAFT_VOTERS_MAX];
    for (int i = 0; i < raft->peer_count; i++)
        matches[i] = raft->peers[i].match;
    uint64_t index = majority_of(raft, matches, raft->durable_index);

    if (index <= raft->commit_index || raft_term_at(raft, index) != raft->term)
        return;
    raft->commit_index = index;

    assert(term_has_committed(raft));
    assert(raft->commit_index <= raft->last_index);
}

/* A round is confirmed when a majority has heard of it from us and still takes us for its leader
 * (dissertation §6.4). */
static void release_rounds(struct raft *raft, struct raft_effects *effects)
{
    uint64_t acked[RAFT_VOTERS_MAX];
    for (int i = 0; i < raft->peer_count; i++)
        acked[i] = raft->peers[i].acked_round;
    uint64_t confirmed = majority_of(raft, acked, raft->round);

    int count = 0;
    for (; count < raft->round_count; count++) {
        const struct raft_round *round = &raft->rounds[count];
        if (round->round > confirmed || round->index > raft->commit_index)
            break;
        effects->released[effects->released_count++] =
            (struct raft_released){ .round = round->round, .index = round->index };
    }
    raft->round_count -= count;
    for (int i = 0; i < raft->round_count; i++)
        raft->rounds[i] = raft->rounds[i + count];
}

/* The target has everything: it may campaign now (dissertation §3.10). Told once: a second word
 * could reach it when it has already led, and start another election. */
static void hand_over_if_ready(struct raft *raft, struct raft_effects *effects)
{
    if (raft->transfer_to == RAFT_NODE_NONE || raft->transfer_sent)
        return;
    if (raft_find_peer(raft, raft->transfer_to)->match < raft->last_index)
        return;
    raft_post(raft, RAFT_TIMEOUT_NOW, raft->transfer_to, effects);
    raft->transfer_sent = true;
}

static void note_success(const struct raft *raft, struct raft_peer *peer, uint64_t durable_index)
{
    if (durable_index > raft->last_index)
        return; /* it cannot have from us what we do not have */
    if (peer->match < durable_index)
        peer->match = durable_index;
    if (peer->next <= peer->match)
        peer->next = peer->match + 1;
    peer->probing = false;
    peer->awaiting = false;
}

/* Its disk takes no more: heartbeats go on from what it has, and entries wait in our log. */
static void stay_behind_full_disk(const struct raft *raft, struct raft_peer *peer,
                                  uint64_t durable_index)
{
    note_success(raft, peer, durable_index);
    peer->probing = true;
    if (peer->match > raft->snapshot.index)
        peer->next = peer->match + 1;
}

/* Where to try next after a refusal: if we have the term that stands in our way, behind its last
 * entry, else where it begins there (§5.3, end). Nearer than the place refused, in any case. */
static uint64_t back_up(const struct raft *raft, const struct raft_append_reply *reply)
{
    if (reply->conflict.term == 0)
        return min_u64(reply->rejected_index - 1, reply->last_index) + 1;
    uint64_t term_last = raft_log_term_last(raft, reply->conflict.term);
    if (term_last > 0 && term_last < reply->rejected_index)
        return term_last + 1;
    return min_u64(reply->rejected_index, reply->conflict.index);
}

/* A refusal is stale if later replies have proven more than it denies, or if it is of an attempt
 * that we have since left behind. */
static void note_refusal(const struct raft *raft, struct raft_peer *peer,
                         const struct raft_append_reply *reply)
{
    if (reply->rejected_index <= peer->match || reply->rejected_index >= peer->next)
        return;
    if (peer->probing && reply->rejected_index != peer->next - 1)
        return;

    uint64_t lowest = peer->match > raft->snapshot.index ? peer->match : raft->snapshot.index;
    uint64_t next = back_up(raft, reply);
    if (next <= lowest)
        next = lowest + 1;
    /* Refused at the lowest place that we have: more often than the heartbeat it need not be
     * told. */
    peer->awaiting = next == peer->next;
    peer->probing = true;
    peer->next = next;

    assert(peer->match < peer->next);
}

/* A follower of this term answers, yes or no: it takes us for its leader (§5.3). */
void leader_on_append_reply(struct raft *raft, const struct raft_event *event,
                            struct raft_effects *effects)
{
    const struct raft_append_reply *reply = &event->message->append_reply;
    struct raft_peer *peer = raft_peer(raft, event->message->from);

    assert(event->message->term == raft->term);
    peer->heard_ms = raft->now_ms;
    if (reply->round > peer->acked_round && reply->round <= peer->sent_round)
        peer->acked_round = reply->round;
    peer->full = reply->full;
    if (reply->full && reply->success)
        stay_behind_full_disk(raft, peer, reply->durable_index);
    else if (reply->success)
        note_success(raft, peer, reply->durable_index);
    else
        note_refusal(raft, peer, reply);
    advance_commit(raft);
    release_rounds(raft, effects);
    hand_over_if_ready(raft, effects);
}

/* CheckQuorum (dissertation §6.2): the moment up to which a majority, we included, has been heard.
 * A leader that has been cut off must not keep its clients waiting. */
static uint64_t majority_heard_ms(const struct raft *raft)
{
    uint64_t heard[RAFT_VOTERS_MAX];
    for (int i = 0; i < raft->peer_count; i++)
        heard[i] = raft->peers[i].heard_ms;
    return majority_of(raft, heard, raft->now_ms);
}

static void start_heartbeat(struct raft *raft)
{
    for (int i = 0; i < raft->peer_count; i++)
        raft->peers[i].heartbeat_due = true;
    raft->heartbeat_ms_next = raft->now_ms + raft->heartbeat_ms;
}

static void end_transfer(struct raft *raft)
{
    raft->transfer_to = RAFT_NODE_NONE;
    raft->transfer_sent = false;
}

void leader_on_timeout(struct raft *raft, const struct raft_event *event,
                       struct raft_effects *effects)
{
    (void)event;
    raft->quorum_check_ms = majority_heard_ms(raft) + raft->election_ms_max;
    if (raft->now_ms >= raft->quorum_check_ms) {
        raft_become_follower(raft, raft->term, effects);
        return;
    }
    if (raft->now_ms >= raft->heartbeat_ms_next)
        start_heartbeat(raft);
    if (raft->transfer_to != RAFT_NODE_NONE && raft->now_ms >= raft->transfer_deadline_ms)
        end_transfer(raft);
    raft_leader_set_deadline(raft);

    assert(raft->deadline_ms > raft->now_ms);
}

/* The batch of a turn joins the log (§5.3). It leaves with the next RAFT_SEND, while our own
 * disk is at work on it. */
void leader_on_propose(struct raft *raft, const struct raft_event *event,
                       struct raft_effects *effects)
{
    (void)event;
    if (raft->transfer_to != RAFT_NODE_NONE) {
        effects->refusal = RAFT_REFUSED_TRANSFERRING;
        return;
    }
    raft_log_append(raft, raft->term);
    effects->first = raft->last_index;
    effects->last = raft->last_index;
}

/* ReadIndex (dissertation §6.4): note the commit index, and ask a majority whether we still
 * lead. */
void leader_on_read(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    (void)event;
    if (raft->round_count == RAFT_ROUNDS_MAX) {
        effects->refusal = RAFT_REFUSED_BUSY;
        return;
    }
    raft->round++;
    raft->rounds[raft->round_count++] = (struct raft_round){
        .round = raft->round,
        .index = term_has_committed(raft) ? raft->commit_index : raft->term_start_index,
    };
    effects->round = raft->round;
    release_rounds(raft, effects); /* a group of one has just confirmed itself */
}

void leader_on_persisted(struct raft *raft, const struct raft_event *event,
                         struct raft_effects *effects)
{
    raft_durable_done(raft, event->write_seq);
    advance_commit(raft);
    release_rounds(raft, effects);
}

/* What was on the connection may be lost: entries in flight, and read rounds. A guess at `next`
 * that nothing was sent ahead of stays as good as it was; to fall back to match + 1 from there
 * would send a follower that was never reached the whole log. */
void leader_on_peer_lost(struct raft *raft, const struct raft_event *event,
                         struct raft_effects *effects)
{
    (void)effects;
    struct raft_peer *peer = raft_peer(raft, event->peer);
    if (peer == NULL)
        return;
    if (!peer->probing) {
        uint64_t lowest = peer->match > raft->snapshot.index ? peer->match : raft->snapshot.index;
        peer->probing = true;
        peer->next = lowest + 1;
    }
    peer->awaiting = false;
    peer->sent_round = peer->acked_round;
}

/* The follower has begun anew, perhaps without its data directory or the end of its log: what it
 * acknowledged may be gone. What has committed with its help stays committed; it counts for nothing
 * more until it has shown what it has. (Everywhere else `match` only grows.) */
void leader_on_peer_replaced(struct raft *raft, const struct raft_event *event,
                             struct raft_effects *effects)
{
    (void)effects;
    struct raft_peer *peer = raft_peer(raft, event->peer);
    if (peer == NULL)
        return;
    peer->replaced++;
    peer->match = 0;
    peer->next = raft->last_index + 1;
    peer->probing = true;
    peer->awaiting = false;
    peer->full = false;
    peer->sent_round = peer->acked_round;
}

/* Of those heard lately whose disk is not full, the one that has most of the log. */
static uint32_t best_successor(const struct raft *raft)
{
    const struct raft_peer *best = NULL;
    for (int i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        bool heard = raft->now_ms - peer->heard_ms < raft->election_ms_min;
        if (heard && !peer->full && (best == NULL || best->match < peer->match))
            best = peer;
    }
    return best == NULL ? RAFT_NODE_NONE : best->id;
}

/* Hand the leadership over (dissertation §3.10). No new entries meanwhile, so that the target can
 * catch up; after an election timeout without a successor we take them again. */
void leader_on_transfer(struct raft *raft, const struct raft_event *event,
                        struct raft_effects *effects)
{
    if (raft->transfer_to != RAFT_NODE_NONE) {
        effects->refusal = RAFT_REFUSED_TRANSFERRING;
        return;
    }
    uint32_t target = event->peer == RAFT_NODE_NONE ? best_successor(raft) : event->peer;
    if (raft_find_peer(raft, target) == NULL) {
        effects->refusal = RAFT_REFUSED_NO_TARGET;
        return;
    }
    raft->transfer_to = target;
    raft->transfer_sent = false;
    raft->transfer_deadline_ms = raft->now_ms + raft->election_ms_max;
    raft_leader_set_deadline(raft);
    hand_over_if_ready(raft, effects);
}

/* We lead this term: to vote for another in it would make two. */
void refuse_vote(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    raft_refuse_vote(raft, event->message, effects);
}

/* Election safety (§5.2) is broken: nothing that we could do from here would be right. */
void never_second_leader(struct raft *raft, const struct raft_event *event,
                         struct raft_effects *effects)
{
    (void)effects;
    assert(event->message->term < raft->term);
}
