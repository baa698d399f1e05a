/* The follower: it takes entries from the leader, and gives its vote.
 *
 * What it owes to others waits for the disk. Three debts can be open at once, all paid by
 * follower_on_persisted():
 *
 *     vote_due      the yes to a candidate     until the vote is durable
 *     ack_due       the yes to an append       until the entries are durable; may go in parts
 *     refusal_due   the no to an append        until the term that it names is durable
 *
 * Debts to the leader are forgotten with the leader; the vote is owed until the next term. */
#include <assert.h>
#include <stddef.h>

#include "raft/core.h"
#include "raft/durable.h"
#include "raft/log.h"

/* Beyond it lie indices whose sums with a count could wrap round. */
#define INDEX_MAX (UINT64_MAX / 2)

/* No leader sends anything else; a damaged message must not reach the log. */
static bool append_is_possible(const struct raft_message *message)
{
    const struct raft_append *append = &message->append;
    if (append->entry_count > RAFT_APPEND_ENTRIES_MAX || append->prev.index > INDEX_MAX)
        return false;
    if ((append->prev.index == 0) != (append->prev.term == 0))
        return false;
    uint64_t term = append->prev.index == 0 ? 1 : append->prev.term;
    for (uint32_t i = 0; i < append->entry_count; i++) {
        if (append->entry_terms[i] < term)
            return false;
        term = append->entry_terms[i];
    }
    return term <= message->term;
}

/* The sender leads our term: two leaders in one would be the end of all safety (§5.2). */
static void hear_leader(struct raft *raft, uint32_t leader)
{
    assert(raft->leader == RAFT_NODE_NONE || raft->leader == leader);
    raft->leader = leader;
    raft->leader_heard_ms = raft->now_ms;
    raft_restart_election_timer(raft);
}

/* The consistency check (§5.3). What lies under our snapshot has committed: it fits. */
static bool prev_fits(const struct raft *raft, struct raft_pos prev)
{
    if (prev.index > raft->last_index)
        return false;
    return prev.index < raft->snapshot.index || raft_term_at(raft, prev.index) == prev.term;
}

static void send_refusal(struct raft *raft, struct raft_effects *effects)
{
    raft->refusal.round = raft->round_seen;
    raft->refusal.full = raft->is_full;
    raft_post(raft, RAFT_APPEND_REPLY, raft->leader, effects)->append_reply = raft->refusal;
    raft->refusal_due = false;
}

/* Name the term that we disagree on and where it begins, so that the leader goes back by one term,
 * not by one entry (§5.3, end). */
static void refuse_append(struct raft *raft, uint64_t prev_index, struct raft_effects *effects)
{
    raft->refusal = (struct raft_append_reply){
        .rejected_index = prev_index,
        .last_index = raft->last_index,
    };
    if (prev_index <= raft->last_index) {
        raft->refusal.conflict.term = raft_term_at(raft, prev_index);
        raft->refusal.conflict.index = raft_log_run_first(raft, prev_index);
    }
    raft->refusal_due = true;
    if (raft_durable_has_term(raft))
        send_refusal(raft, effects);
}

/* How many of the entries are here already, with the same term: at the same place they are then the
 * same entries (§5.3). */
static uint32_t count_present(const struct raft *raft, const struct raft_append *append)
{
    uint32_t count = 0;
    for (; count < append->entry_count; count++) {
        uint64_t index = append->prev.index + 1 + count;
        if (index > raft->last_index)
            break;
        bool compacted = index <= raft->snapshot.index;
        if (!compacted && raft_term_at(raft, index) != append->entry_terms[count])
            break;
    }
    return count;
}

/* Bring the log in line with the message (figure 2, AppendEntries 3 and 4). Only an entry that
 * differs makes us drop a tail: a late message that ends before ours does not shorten it.
 * False if the message contradicts what this same leader has told us before. */
static bool keep_entries(struct raft *raft, const struct raft_append *append,
                         struct raft_effects *effects)
{
    uint32_t skip = count_present(raft, append);
    if (skip == append->entry_count)
        return true;

    uint64_t first = append->prev.index + 1 + skip;
    if (first <= raft->last_index) {
        assert(first > raft->commit_index); /* an entry that has committed would be lost */
        if (first <= raft->matched_index)
            return false; /* a leader never changes its own log (§5.3) */
        effects->drop_from = first;
        raft_log_truncate(raft, first);
    }
    for (uint32_t i = skip; i < append->entry_count; i++)
        raft_log_append(raft, append->entry_terms[i]);
    effects->first = first;
    effects->last = raft->last_index;
    effects->skip = skip;

    assert(raft->last_index == append->prev.index + append->entry_count);
    return true;
}

/* What may be acknowledged: proven to equal the leader's log, and on our disk. */
static uint64_t acked_index(const struct raft *raft)
{
    return raft->durable_index < raft->matched_index ? raft->durable_index : raft->matched_index;
}

static void send_ack(const struct raft *raft, struct raft_effects *effects)
{
    assert(raft_durable_has_term(raft));
    raft_post(raft, RAFT_APPEND_REPLY, raft->leader, effects)->append_reply =
        (struct raft_append_reply){
            .success = true,
            .full = raft->is_full,
            .round = raft->round_seen,
            .durable_index = acked_index(raft),
        };
}

/* `urgent`: a read round or the leader's quorum check waits for the answer; they ask whether we
 * follow, not what our disk has done. */
static void acknowledge(struct raft *raft, bool urgent, struct raft_effects *effects)
{
    raft->refusal_due = false; /* it has been overtaken */
    if (!raft_durable_has_term(raft)) {
        raft->ack_due = true;
        return;
    }
    bool all_durable = raft->durable_index >= raft->matched_index;
    if (urgent || all_durable)
        send_ack(raft, effects);
    raft->ack_due = !all_durable;
}

/* The leader's word (§5.3; figure 2, AppendEntries).
 *
 * The commit index follows the leader's as far as our log is proven to be the leader's, not to our
 * last entry: behind the proven part may stand anything. It need not wait for our disk: that enough
 * others have the entries is the leader's claim. */
void follower_on_append(struct raft *raft, const struct raft_event *event,
                        struct raft_effects *effects)
{
    const struct raft_message *message = event->message;
    const struct raft_append *append = &message->append;

    assert(message->term == raft->term);
    if (!append_is_possible(message))
        return;
    hear_leader(raft, message->from);
    raft->is_full = append->no_room;
    bool new_round = append->round > raft->round_seen;
    if (new_round)
        raft->round_seen = append->round;
    if (!prev_fits(raft, append->prev)) {
        refuse_append(raft, append->prev.index, effects);
        return;
    }
    if (!keep_entries(raft, append, effects))
        return;

    uint64_t matched = append->prev.index + append->entry_count;
    if (raft->matched_index < matched)
        raft->matched_index = matched;
    uint64_t commit =
        append->commit_index < raft->matched_index ? append->commit_index : raft->matched_index;
    if (raft->commit_index < commit)
        raft->commit_index = commit;
    acknowledge(raft, new_round || append->entry_count == 0, effects);

    assert(raft->matched_index <= raft->last_index);
    assert(raft->commit_index <= raft->matched_index);
}

static bool log_is_current(const struct raft *raft, const struct raft_message *request)
{
    return !raft_pos_before(request->vote.last, raft_log_last(raft));
}

/* One vote a term (§5.2), and only to a log that holds at least what ours holds (§5.4.1). */
bool raft_grants_vote(const struct raft *raft, const struct raft_message *request)
{
    bool free = raft->voted_for == RAFT_NODE_NONE || raft->voted_for == request->from;
    return free && log_is_current(raft, request);
}

/* Would we vote for the sender in the term it names (dissertation §9.6)? The answer binds
 * nobody: it changes nothing here and needs no disk. */
void raft_answer_pre_vote(const struct raft *raft, const struct raft_message *request,
                          struct raft_effects *effects)
{
    assert(request->vote.pre_vote);
    bool granted = request->term > raft->term ? log_is_current(raft, request)
                                              : raft_grants_vote(raft, request);
    if (!granted) {
        raft_refuse_vote(raft, request, effects);
        return;
    }
    struct raft_message *reply = raft_post(raft, RAFT_VOTE_REPLY, request->from, effects);
    reply->term = request->term;
    reply->vote_reply = (struct raft_vote_reply){ .granted = true, .pre_vote = true };
}

/* The yes leaves only now: a vote that a crash can forget is a vote that can be cast twice. */
static void send_vote_if_durable(struct raft *raft, struct raft_effects *effects)
{
    if (!raft->vote_due || !raft_durable_has_vote(raft))
        return;
    raft_post(raft, RAFT_VOTE_REPLY, raft->voted_for, effects)->vote_reply =
        (struct raft_vote_reply){ .granted = true };
    raft->vote_due = false;
}

/* A candidate asks for our vote (§5.2, §5.4.1). A vote that was given is repeated, to the same one:
 * the first yes may be lost. */
void follower_on_vote(struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    const struct raft_message *request = event->message;

    if (request->vote.pre_vote) {
        raft_answer_pre_vote(raft, request, effects);
        return;
    }
    assert(request->term == raft->term);
    if (!raft_grants_vote(raft, request)) {
        raft_refuse_vote(raft, request, effects);
        return;
    }
    if (raft->voted_for == RAFT_NODE_NONE) {
        raft->voted_for = request->from;
        effects->save_vote = true;
    }
    raft->vote_due = true;
    raft_restart_election_timer(raft);
    send_vote_if_durable(raft, effects);

    assert(raft->voted_for == request->from);
}

/* The leader hands over to us: campaign at once, without asking first (dissertation §3.10). Only
 * from whom we take entries, or from one we have not heard yet. */
void follower_on_timeout_now(struct raft *raft, const struct raft_event *event,
                             struct raft_effects *effects)
{
    if (raft->leader == RAFT_NODE_NONE || raft->leader == event->message->from)
        raft_become_candidate(raft, true, effects);
}

/* No leader for an election timeout (§5.2). */
void follower_on_timeout(struct raft *raft, const struct raft_event *event,
                         struct raft_effects *effects)
{
    (void)event;
    raft_become_pre_candidate(raft, effects);
}

/* The disk has caught up: pay what waited for it. An acknowledgement that would repeat the last one
 * stays open until it can say more. */
void follower_on_persisted(struct raft *raft, const struct raft_event *event,
                           struct raft_effects *effects)
{
    bool had_term = raft_durable_has_term(raft);
    uint64_t acked = acked_index(raft);

    raft_durable_done(raft, event->write_seq);
    if (!raft_durable_has_term(raft))
        return;
    send_vote_if_durable(raft, effects);
    if (raft->ack_due && (!had_term || acked_index(raft) > acked)) {
        send_ack(raft, effects);
        raft->ack_due = raft->durable_index < raft->matched_index;
    }
    if (raft->refusal_due)
        send_refusal(raft, effects);
}

/* Our leader is gone, or only the wire: do not wait for the whole election timeout, and refuse
 * nobody a vote meanwhile. If the leader lives, the others know, and refuse the pre-vote. */
void follower_on_peer_lost(struct raft *raft, const struct raft_event *event,
                           struct raft_effects *effects)
{
    (void)effects;
    if (raft->leader != event->peer || raft->leader == RAFT_NODE_NONE)
        return;
    raft_forget_leader(raft);
    uint64_t low = (raft->heartbeat_ms + 1) / 2;
    uint64_t soon = raft->now_ms + raft_random_between(raft, low, 2 * (uint64_t)raft->heartbeat_ms);
    if (soon < raft->deadline_ms)
        raft->deadline_ms = soon;
}

/* What only a leader can do. */

void refuse_propose(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    effects->refusal = RAFT_REFUSED_NOT_LEADER;
}

void refuse_read(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    effects->refusal = RAFT_REFUSED_NOT_LEADER;
}

void refuse_transfer(struct raft *raft, const struct raft_event *event,
                     struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    effects->refusal = RAFT_REFUSED_NOT_LEADER;
}

/* The link asked whether something was due, and then we lost the leadership. */
void ignore_send(struct raft *raft, const struct raft_event *event, struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    (void)effects;
}

/* The answer to an append that we sent as leader of this term, before we stepped down. */
void ignore_late_append_reply(struct raft *raft, const struct raft_event *event,
                              struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    (void)effects;
}
