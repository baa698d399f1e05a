/* The inside of the core: what the handlers of all roles share. Only raft/ and the test of the
 * state table include it; everyone else knows raft/raft.h.
 *
 * A handler is called by raft_step() after admit() has dealt with foreign terms: whatever
 * message it sees is from a voter, for us, and of our own term. (The pre-vote and its yes name a
 * term that is not yet anyone's, and come in any.) Handlers change the state in memory and say
 * in `effects` what has become due; raft_step() itself numbers the write and notes what clients
 * must hear, so no handler can forget to. */
#pragma once

#include "raft/raft.h"

typedef void raft_handler(struct raft *raft, const struct raft_event *event,
                          struct raft_effects *effects);

extern raft_handler *const raft_table[RAFT_EVENT_COUNT][RAFT_ROLE_COUNT];

/* Roles change only here. */

/* From every role. A higher term is adopted, with a free vote; `leader` is then still unknown. */
void raft_become_follower(struct raft *raft, uint64_t term, struct raft_effects *effects);
void raft_become_pre_candidate(struct raft *raft, struct raft_effects *effects);
/* Raises the term and votes for us. Asks nobody yet: see candidate_on_persisted(). */
void raft_become_candidate(struct raft *raft, bool transfer, struct raft_effects *effects);
void raft_become_leader(struct raft *raft, struct raft_effects *effects);

/* Tools of the handlers. */

/* One more message to `to` in `effects`, all zero but for its head, in our term. */
struct raft_message *raft_post(const struct raft *raft, enum raft_event_type type, uint32_t to,
                               struct raft_effects *effects);
/* The same as raft_find_peer(), to be changed. */
struct raft_peer *raft_peer(struct raft *raft, uint32_t id);
/* A number from `low` to `high`, both included, from the node's own sequence. */
uint64_t raft_random_between(struct raft *raft, uint64_t low, uint64_t high);
/* An election timeout from now, newly drawn (§5.2). */
void raft_restart_election_timer(struct raft *raft);
/* The leader of this term is not known (any more): nothing is owed to it. */
void raft_forget_leader(struct raft *raft);
/* No to a candidate, in our term so that a stale one learns of it. */
void raft_refuse_vote(const struct raft *raft, const struct raft_message *request,
                      struct raft_effects *effects);

/* Handlers, by file. */

raft_handler follower_on_append, follower_on_vote, follower_on_timeout_now, follower_on_timeout,
    follower_on_persisted, follower_on_peer_lost;

raft_handler pre_candidate_on_append, pre_candidate_on_vote, pre_candidate_on_vote_reply,
    pre_candidate_on_timeout;
raft_handler candidate_on_append, candidate_on_vote, candidate_on_vote_reply, candidate_on_timeout,
    candidate_on_persisted;

raft_handler leader_on_append_reply, leader_on_timeout, leader_on_propose, leader_on_read,
    leader_on_send, leader_on_persisted, leader_on_peer_lost, leader_on_peer_replaced,
    leader_on_transfer;

raft_handler refuse_vote, refuse_propose, refuse_read, refuse_transfer;
raft_handler ignore_late_append_reply, ignore_late_vote, ignore_timeout_now, ignore_send,
    ignore_peer_lost, ignore_peer_replaced;
raft_handler never_second_leader;

/* follower.c, for all who are not leader: may `request` have our vote, or our pre-vote? */
bool raft_grants_vote(const struct raft *raft, const struct raft_message *request);
void raft_answer_pre_vote(const struct raft *raft, const struct raft_message *request,
                          struct raft_effects *effects);
/* leader.c: when RAFT_TIMEOUT is wanted next. */
void raft_leader_set_deadline(struct raft *raft);
