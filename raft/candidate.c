/* Before and after the pre-vote.
 *
 *     FOLLOWER --timeout--> PRE_CANDIDATE --majority would--> CANDIDATE --majority does--> LEADER
 *                            term as it was                   term + 1 and own vote
 *
 * A pre-candidate is still a follower in what it owes: it may give its vote to another, and returns
 * when a leader speaks. A candidate has voted for itself. Its requests leave, and its own vote
 * counts, once term and vote are durable: until then a crash would set it free to vote again. */
#include <assert.h>
#include <stddef.h>

#include "raft/core.h"
#include "raft/durable.h"
#include "raft/log.h"
#include "raft/quorum.h"

/* A leader of this term has been elected (§5.2). */
void pre_candidate_on_append(struct raft *raft, const struct raft_event *event,
                             struct raft_effects *effects)
{
    raft_become_follower(raft, raft->term, effects);
    follower_on_append(raft, event, effects);
}

/* A leader of this term has been elected, and it is not us (§5.2). Our own vote of the term stays
 * what it is. */
void candidate_on_append(struct raft *raft, const struct raft_event *event,
                         struct raft_effects *effects)
{
    raft_become_follower(raft, raft->term, effects);
    follower_on_append(raft, event, effects);
}

/* Whoever asks for a real vote has a majority that would vote: step back in its favour, if our log
 * allows. */
void pre_candidate_on_vote(struct raft *raft, const struct raft_event *event,
                           struct raft_effects *effects)
{
    const struct raft_message *request = event->message;

    if (request->vote.pre_vote) {
        raft_answer_pre_vote(raft, request, effects);
        return;
    }
    if (!raft_grants_vote(raft, request)) {
        raft_refuse_vote(raft, request, effects);
        return;
    }
    raft_become_follower(raft, raft->term, effects);
    follower_on_vote(raft, event, effects);
}

/* Our vote of this term is our own; of what we would do in a higher one, we may speak. */
void candidate_on_vote(struct raft *raft, const struct raft_event *event,
                       struct raft_effects *effects)
{
    assert(raft->voted_for == raft->id);
    if (event->message->vote.pre_vote)
        raft_answer_pre_vote(raft, event->message, effects);
    else
        raft_refuse_vote(raft, event->message, effects);
}

/* Our own vote included. */
static bool majority_granted(const struct raft *raft)
{
    int granted = 1;
    for (int i = 0; i < raft->peer_count; i++)
        granted += raft->peers[i].vote_granted;
    return granted >= quorum_size(raft->peer_count + 1);
}

static bool majority_refused(const struct raft *raft)
{
    int refused = 0;
    for (int i = 0; i < raft->peer_count; i++)
        refused += raft->peers[i].vote_answered && !raft->peers[i].vote_granted;
    return refused >= quorum_size(raft->peer_count + 1);
}

/* A yes stays a yes, whatever else arrives late or twice. */
static void note_answer(struct raft *raft, const struct raft_message *message)
{
    struct raft_peer *peer = raft_peer(raft, message->from);
    peer->vote_answered = true;
    if (message->vote_reply.granted)
        peer->vote_granted = true;
}

/* Only answers to the pre-vote for the next term count: not votes of a campaign that we gave up. */
void pre_candidate_on_vote_reply(struct raft *raft, const struct raft_event *event,
                                 struct raft_effects *effects)
{
    const struct raft_message *message = event->message;
    const struct raft_vote_reply *reply = &message->vote_reply;

    if (!reply->pre_vote || (reply->granted && message->term != raft->term + 1))
        return;
    note_answer(raft, message);
    if (majority_granted(raft))
        raft_become_candidate(raft, false, effects);
    else if (majority_refused(raft))
        raft_become_follower(raft, raft->term, effects);
}

/* Votes of this term count. A pre-vote that comes late says only what its sender would have done,
 * and is no vote. */
void candidate_on_vote_reply(struct raft *raft, const struct raft_event *event,
                             struct raft_effects *effects)
{
    const struct raft_message *message = event->message;

    if (message->vote_reply.pre_vote || !raft_durable_has_vote(raft))
        return;
    assert(message->term == raft->term);
    note_answer(raft, message);
    if (majority_granted(raft))
        raft_become_leader(raft, effects);
    else if (majority_refused(raft))
        raft_become_follower(raft, raft->term, effects);
}

/* Nobody answered, or too few: ask again. */
void pre_candidate_on_timeout(struct raft *raft, const struct raft_event *event,
                              struct raft_effects *effects)
{
    (void)event;
    raft_become_pre_candidate(raft, effects);
}

/* Split or unheard (§5.2). The next campaign begins with a pre-vote again, so that a node that has
 * been cut off meanwhile does not raise its term on and on. While the disk has not finished our
 * vote the campaign has not begun, and a further term would not make the disk faster. */
void candidate_on_timeout(struct raft *raft, const struct raft_event *event,
                          struct raft_effects *effects)
{
    (void)event;
    if (raft_durable_has_vote(raft))
        raft_become_pre_candidate(raft, effects);
    else
        raft_restart_election_timer(raft);
}

static void request_votes(const struct raft *raft, struct raft_effects *effects)
{
    for (int i = 0; i < raft->peer_count; i++) {
        raft_post(raft, RAFT_VOTE, raft->peers[i].id, effects)->vote = (struct raft_vote){
            .last = raft_log_last(raft),
            .transfer = raft->campaign_transfer,
        };
    }
}

/* Term and vote are durable: now the campaign begins (§5.2). */
void candidate_on_persisted(struct raft *raft, const struct raft_event *event,
                            struct raft_effects *effects)
{
    bool campaigning = raft_durable_has_vote(raft);

    raft_durable_done(raft, event->write_seq);
    if (campaigning || !raft_durable_has_vote(raft))
        return;
    raft_restart_election_timer(raft);
    request_votes(raft, effects);
    if (majority_granted(raft))
        raft_become_leader(raft, effects); /* a group of one */
}

/* The election is over: won, lost, or given up for a newer one. */
void ignore_late_vote(struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    (void)effects;
}

/* We campaign already, or lead: what the old leader wanted has happened. */
void ignore_timeout_now(struct raft *raft, const struct raft_event *event,
                        struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    (void)effects;
}

/* A lost request is asked again when the election timeout comes; a candidate follows nobody. */
void ignore_peer_lost(struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    (void)effects;
}

/* Whom a follower or candidate owes nothing to, it does not keep count of. */
void ignore_peer_replaced(struct raft *raft, const struct raft_event *event,
                          struct raft_effects *effects)
{
    (void)raft;
    (void)event;
    (void)effects;
}
