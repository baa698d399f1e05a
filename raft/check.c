/* The invariants of the core, as asserts: of a state, and of a step. One condition each, so that
 * the line that stops names the rule that broke. */
#include <assert.h>
#include <stddef.h>

#include "raft/log.h"
#include "raft/raft.h"

static void check_log(const struct raft *raft)
{
    uint64_t term = raft->snapshot.term;
    uint64_t next = raft->snapshot.index + 1;

    assert(raft->run_count <= raft->run_capacity);
    assert((raft->run_count > 0) == (raft->last_index > raft->snapshot.index));
    assert((raft->snapshot.index == 0) == (raft->snapshot.term == 0));
    for (uint32_t i = 0; i < raft->run_count; i++) {
        const struct raft_term_run *run = &raft->runs[i];
        assert(i == 0 ? run->first == next : run->first >= next);
        assert(run->first <= raft->last_index);
        assert(run->term > 0);
        assert(i == 0 ? run->term >= term : run->term > term);
        next = run->first + 1;
        term = run->term;
    }
    assert(term <= raft->term);
    assert(raft->snapshot.index <= raft->commit_index);
    assert(raft->commit_index <= raft->last_index);
}

/* All that a crash must not undo is on the disk, or in the newest write on the way to it. */
static void check_writes(const struct raft *raft)
{
    struct raft_write before = {
        .last_index = raft->durable_index,
        .term = raft->durable_term,
        .voted_for = raft->durable_vote,
    };

    assert(raft->write_count >= 0);
    assert(raft->write_count <= RAFT_WRITES_MAX);
    assert(raft->durable_index >= raft->snapshot.index);
    for (int i = 0; i < raft->write_count; i++) {
        const struct raft_write *write = &raft->writes[i];
        assert(write->seq > before.seq);
        assert(write->last_index >= before.last_index);
        assert(write->term >= before.term);
        assert(write->term > before.term || before.voted_for == RAFT_NODE_NONE ||
               write->voted_for == before.voted_for);
        before = *write;
    }
    assert(before.seq <= raft->write_seq);
    assert(before.last_index == raft->last_index);
    assert(before.term == raft->term);
    assert(before.voted_for == raft->voted_for);
}

static void check_times(const struct raft *raft)
{
    assert(raft->heartbeat_ms < raft->election_ms_min);
    assert(raft->election_ms_min <= raft->election_ms_max);
    assert(raft->deadline_ms <= raft->now_ms + raft->election_ms_max);
    assert(raft->leader_heard_ms <= raft->now_ms);
}

static void check_rounds(const struct raft *raft)
{
    uint64_t round = 0;
    uint64_t index = 0;

    assert(raft->round_count >= 0);
    assert(raft->round_count <= RAFT_ROUNDS_MAX);
    for (int i = 0; i < raft->round_count; i++) {
        assert(raft->rounds[i].round > round);
        assert(raft->rounds[i].index >= index);
        assert(raft->rounds[i].index >= raft->term_start_index);
        round = raft->rounds[i].round;
        index = raft->rounds[i].index;
    }
    assert(round <= raft->round);
    assert(index <= raft->commit_index || index == raft->term_start_index);
}

static void check_peer(const struct raft *raft, const struct raft_peer *peer)
{
    assert(peer->match < peer->next);
    assert(peer->next <= raft->last_index + 1);
    assert(peer->next > raft->snapshot.index);
    assert(!peer->awaiting || peer->probing);
    assert(peer->acked_round <= peer->sent_round);
    assert(peer->sent_round <= raft->round);
    assert(peer->heard_ms <= raft->now_ms);
}

static void check_leader(const struct raft *raft)
{
    assert(raft->leader == raft->id);
    assert(raft->voted_for == raft->id);
    assert(raft->durable_term == raft->term);
    assert(raft->durable_vote == raft->id);
    assert(raft->run_count > 0);
    assert(raft->runs[raft->run_count - 1].term == raft->term);
    assert(raft->runs[raft->run_count - 1].first == raft->term_start_index);
    assert(raft->quorum_check_ms <= raft->now_ms + raft->election_ms_max);
    assert(raft->heartbeat_ms_next <= raft->now_ms + raft->heartbeat_ms);
    assert(raft->transfer_to == RAFT_NODE_NONE || raft_find_peer(raft, raft->transfer_to) != NULL);
    assert(!raft->transfer_sent || raft->transfer_to != RAFT_NODE_NONE);
    assert(!raft->vote_due);
    assert(!raft->ack_due);
    assert(!raft->refusal_due);
    check_rounds(raft);
    for (int i = 0; i < raft->peer_count; i++)
        check_peer(raft, &raft->peers[i]);
}

/* What is common to all who are not leader. */
static void check_voter(const struct raft *raft)
{
    assert(raft->leader != raft->id);
    assert(raft->commit_index <= raft->matched_index);
    assert(raft->matched_index <= raft->last_index);
    assert(raft->round_count == 0);
    assert(raft->transfer_to == RAFT_NODE_NONE);
    assert(!raft->transfer_sent);
    assert(!raft->vote_due || raft_find_peer(raft, raft->voted_for) != NULL);
    assert(raft->leader == RAFT_NODE_NONE || raft_find_peer(raft, raft->leader) != NULL);
    assert(!raft->ack_due || raft->leader != RAFT_NODE_NONE);
    assert(!raft->ack_due || raft->durable_term < raft->term ||
           raft->durable_index < raft->matched_index);
    assert(!raft->refusal_due || raft->leader != RAFT_NODE_NONE);
    assert(!raft->refusal_due || raft->durable_term < raft->term);
}

static void check_campaigner(const struct raft *raft)
{
    check_voter(raft);
    assert(raft->leader == RAFT_NODE_NONE);
    assert(raft->leader_heard_ms == 0);
}

static void check_role(const struct raft *raft)
{
    assert(raft->role == RAFT_CANDIDATE || !raft->campaign_transfer);
    switch (raft->role) {
    case RAFT_FOLLOWER:
        check_voter(raft);
        break;
    case RAFT_PRE_CANDIDATE:
        check_campaigner(raft);
        break;
    case RAFT_CANDIDATE:
        check_campaigner(raft);
        assert(raft->voted_for == raft->id);
        assert(!raft->vote_due);
        break;
    case RAFT_LEADER:
        check_leader(raft);
        break;
    case RAFT_ROLE_COUNT:
        assert(raft->role < RAFT_ROLE_COUNT);
    }
}

/* Figure 4 of the paper, with the pre-candidate between. A step may pass through several roles,
 * each in a term of its own. */
static void check_role_change(const struct raft *before, const struct raft *after)
{
    bool same_term = before->term == after->term;

    if (after->role == RAFT_LEADER)
        assert(before->role == RAFT_CANDIDATE || before->role == RAFT_LEADER);
    if (after->role == RAFT_LEADER || after->role == RAFT_PRE_CANDIDATE)
        assert(same_term);
    if (after->role == RAFT_PRE_CANDIDATE)
        assert(before->role != RAFT_LEADER);
    if (after->role == RAFT_CANDIDATE && before->role != RAFT_CANDIDATE)
        assert(!same_term);
    if (same_term && before->leader != RAFT_NODE_NONE && after->leader != RAFT_NODE_NONE)
        assert(before->leader == after->leader);
}

static void check_leader_step(const struct raft *before, const struct raft *after)
{
    assert(after->last_index >= before->last_index); /* append-only (§5.3) */
    assert(after->durable_index >= before->durable_index);
    assert(after->term_start_index == before->term_start_index);
    assert(after->round >= before->round);
    for (int i = 0; i < after->peer_count; i++) {
        assert(after->peers[i].id == before->peers[i].id);
        bool was_replaced = after->peers[i].replaced > before->peers[i].replaced;
        assert(after->peers[i].match >= before->peers[i].match || was_replaced);
        assert(after->peers[i].acked_round >= before->peers[i].acked_round);
        assert(after->peers[i].heard_ms >= before->peers[i].heard_ms);
    }
}

static void check_step(const struct raft *before, const struct raft *after)
{
    assert(after->id == before->id);
    assert(after->peer_count == before->peer_count);
    assert(after->now_ms >= before->now_ms);
    assert(after->term >= before->term);
    if (after->term == before->term) {
        bool was_free = before->voted_for == RAFT_NODE_NONE;
        assert(was_free || after->voted_for == before->voted_for); /* §5.2: one vote a term */
        assert(before->role == RAFT_LEADER || after->role == RAFT_LEADER ||
               after->matched_index >= before->matched_index);
        assert(after->round_seen >= before->round_seen);
    }
    assert(after->commit_index >= before->commit_index);
    assert(after->last_index >= before->commit_index);
    assert(after->snapshot.index >= before->snapshot.index);
    assert(after->write_seq >= before->write_seq);
    assert(after->write_seq <= before->write_seq + 1);
    assert(after->durable_term >= before->durable_term);
    check_role_change(before, after);
    if (before->role == RAFT_LEADER && after->role == RAFT_LEADER)
        check_leader_step(before, after);
}

void raft_check(const struct raft *before, const struct raft *after)
{
    check_log(after);
    check_writes(after);
    check_times(after);
    check_role(after);
    if (before != NULL)
        check_step(before, after);
}
