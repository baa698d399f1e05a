/* Cases that went wrong in other systems, and those at the edges of this one, where one node is
 * enough; each begins with its number where it has one. Those between nodes are in scenarios/. */
#include <check.h>
#include <signal.h>

#include "tests/unit/raft_bench.h"

#define COUNT(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

static const uint64_t empty_log[] = { 0 };
static const uint64_t no_entries[] = { 0 };
static const struct raft_pos start_of_log = { 0, 0 };

static struct bench *leader_of(int node_count, const uint64_t *terms)
{
    struct bench *bench = bench_new(node_count, terms);
    bench_lead(bench);
    bench_persisted(bench);
    return bench;
}

static const struct raft_peer *peer(const struct bench *bench, uint32_t id)
{
    return raft_find_peer(bench->raft, id);
}

/* Send all that is due to the peer. */
static void drain(struct bench *bench, uint32_t id)
{
    while (raft_append_due(bench->raft, id))
        bench_send(bench, id, RAFT_APPEND_ENTRIES_MAX);
}

static void ack(struct bench *bench, uint32_t from, uint64_t durable_index)
{
    drain(bench, from);
    struct raft_message reply = bench_ack(from, bench->raft->term, durable_index);
    reply.append_reply.round = bench->raft->round;
    bench_message(bench, reply);
}

/* A node whose log begins after the snapshot at 3/10, and goes on with 3/11 4/12. Driven by hand:
 * the bench's disk knows no snapshots. */
struct compacted {
    struct raft raft;
    struct raft_term_run runs[2 * RAFT_RUNS_SPARE];
    struct raft_effects effects;
};

static void compacted_step(struct compacted *node, struct raft_message message)
{
    message.to = 1;
    const struct raft before = node->raft;
    const struct raft_event event = { .type = message.type, .now_ms = 0, .message = &message };
    raft_step(&node->raft, &event, &node->effects);
    raft_check(&before, &node->raft);
}

static void compacted_init(struct compacted *node)
{
    const struct raft_config config = {
        .id = 1,
        .voters = { 1, 2, 3 },
        .voter_count = 3,
        .heartbeat_ms = 50,
        .election_ms_min = 150,
        .election_ms_max = 300,
    };
    node->runs[0] = (struct raft_term_run){ .term = 3, .first = 11 };
    node->runs[1] = (struct raft_term_run){ .term = 4, .first = 12 };
    const struct raft_restored restored = {
        .term = 4,
        .voted_for = RAFT_NODE_NONE,
        .snapshot = { 3, 10 },
        .last_index = 12,
        .runs = node->runs,
        .run_count = 2,
        .run_capacity = 2 * RAFT_RUNS_SPARE,
    };
    raft_init(&node->raft, &config, &restored, 0);
    raft_check(NULL, &node->raft);
}

START_TEST(a09_append_from_before_the_snapshot_is_not_appended_again)
{
    struct compacted node;
    compacted_init(&node);
    uint64_t terms[] = { 1, 1, 2, 0 };
    compacted_step(&node, bench_append(2, 4, start_of_log, terms, 3));
    ck_assert_uint_eq(node.effects.first, 0);
    ck_assert_uint_eq(node.effects.drop_from, 0);
    ck_assert_uint_eq(node.raft.last_index, 12);
    ck_assert_uint_eq(node.raft.commit_index, 10);
    ck_assert(node.effects.messages[0].append_reply.success);
}
END_TEST

START_TEST(a09_append_across_the_snapshot_keeps_what_is_new)
{
    struct compacted node;
    compacted_init(&node);
    uint64_t terms[] = { 3, 3, 3, 4, 4, 0 }; /* 9 to 13 */
    compacted_step(&node, bench_append(2, 4, (struct raft_pos){ 2, 8 }, terms, 12));
    ck_assert_uint_eq(node.effects.drop_from, 0);
    ck_assert_uint_eq(node.effects.first, 13);
    ck_assert_uint_eq(node.effects.last, 13);
    ck_assert_uint_eq(node.effects.skip, 4);
    ck_assert_uint_eq(node.raft.commit_index, 12);
}
END_TEST

START_TEST(log_after_a_snapshot_knows_its_terms)
{
    struct compacted node;
    compacted_init(&node);
    ck_assert_uint_eq(raft_term_at(&node.raft, 9), 0);
    ck_assert_uint_eq(raft_term_at(&node.raft, 10), 3);
    ck_assert_uint_eq(raft_term_at(&node.raft, 11), 3);
    ck_assert_uint_eq(raft_term_at(&node.raft, 12), 4);
    ck_assert_uint_eq(raft_term_at(&node.raft, 13), 0);
}
END_TEST

START_TEST(a12_append_holds_at_most_its_bound_of_entries)
{
    struct bench *bench = leader_of(2, empty_log);
    ack(bench, 2, 1);
    for (int i = 0; i < 100; i++)
        bench_propose(bench);
    bench_send(bench, 2, UINT32_MAX);
    ck_assert_uint_eq(bench_only_message(bench)->append.entry_count, RAFT_APPEND_ENTRIES_MAX);
    bench_send(bench, 2, 5);
    const struct raft_append *append = &bench_only_message(bench)->append;
    ck_assert_uint_eq(append->entry_count, 5);
    ck_assert_uint_eq(append->prev.index, 1 + RAFT_APPEND_ENTRIES_MAX);
    bench_free(bench);
}
END_TEST

START_TEST(a14_entries_in_flight_are_bounded)
{
    struct bench *bench = leader_of(2, empty_log);
    ack(bench, 2, 1);
    for (int i = 0; i < RAFT_IN_FLIGHT_ENTRIES_MAX + 50; i++) {
        bench_propose(bench);
        bench_persisted(bench);
    }
    drain(bench, 2);
    ck_assert_uint_eq(peer(bench, 2)->next, 2 + RAFT_IN_FLIGHT_ENTRIES_MAX);
    bench_message(bench, bench_ack(2, 1, 11));
    ck_assert(raft_append_due(bench->raft, 2));
    drain(bench, 2);
    ck_assert_uint_eq(peer(bench, 2)->next, 12 + RAFT_IN_FLIGHT_ENTRIES_MAX);
    bench_free(bench);
}
END_TEST

/* The follower has it all, but not yet on its disk: what is not acknowledged counts as in
 * flight. */
START_TEST(a14_window_is_shut_while_the_followers_disk_is_behind)
{
    uint64_t terms[RAFT_IN_FLIGHT_ENTRIES_MAX + 100] = { 0 };
    for (int i = 0; i < COUNT(terms) - 1; i++)
        terms[i] = 1;
    struct bench *bench = leader_of(2, terms);
    bench_send(bench, 2, 0);
    bench_message(bench, bench_ack(2, 2, 0));
    ck_assert(!peer(bench, 2)->probing);
    ck_assert(!raft_append_due(bench->raft, 2));
    bench_message(bench, bench_ack(2, 2, 200));
    ck_assert(raft_append_due(bench->raft, 2));
    bench_free(bench);
}
END_TEST

START_TEST(a18_quorum_is_checked_between_one_and_two_timeouts)
{
    struct bench *bench = leader_of(5, empty_log);
    bench->now_ms += 70;
    ack(bench, 2, 1);
    ack(bench, 3, 1);
    uint64_t heard = bench->now_ms;
    ack(bench, 4, 0); /* a third one, later, is not needed */
    while (bench->raft->role == RAFT_LEADER)
        bench_timeout(bench);
    ck_assert_uint_eq(bench->now_ms, heard + BENCH_ELECTION_MS_MAX);
    ck_assert_uint_eq(bench->raft->term, 1);
    ck_assert_uint_eq(bench->raft->leader, RAFT_NODE_NONE);
    ck_assert(bench->effects.role_changed);
    bench_free(bench);
}
END_TEST

START_TEST(a18_refusals_and_heartbeats_keep_a_leader)
{
    struct bench *bench = leader_of(3, (uint64_t[]){ 1, 1, 0 });
    for (int i = 0; i < 100; i++) {
        bench_timeout(bench);
        drain(bench, 3);
        struct raft_message refusal = { .type = RAFT_APPEND_REPLY, .from = 3, .term = 2 };
        bench_message(bench, refusal);
        ck_assert_int_eq(bench->raft->role, RAFT_LEADER);
    }
    bench_free(bench);
}
END_TEST

START_TEST(a16_live_leader_means_no_vote_and_no_higher_term)
{
    struct bench *bench = bench_new(3, empty_log);
    bench_message(bench, bench_append(2, 1, start_of_log, no_entries, 0));
    bench_persisted(bench);
    bench->now_ms += BENCH_ELECTION_MS_MIN - 1;
    bench_message(bench, bench_vote(3, 9, (struct raft_pos){ 8, 8 }));
    ck_assert(!bench_only_message(bench)->vote_reply.granted);
    bench_message(bench, bench_pre_vote(3, 9, (struct raft_pos){ 8, 8 }));
    ck_assert(!bench_only_message(bench)->vote_reply.granted);
    ck_assert_uint_eq(bench->raft->term, 1);

    bench->now_ms += 1;
    bench_message(bench, bench_pre_vote(3, 9, (struct raft_pos){ 8, 8 }));
    ck_assert(bench_only_message(bench)->vote_reply.granted);
    ck_assert_uint_eq(bench_only_message(bench)->term, 9);
    ck_assert_uint_eq(bench->raft->term, 1);
    bench_message(bench, bench_vote(3, 9, (struct raft_pos){ 8, 8 }));
    ck_assert_uint_eq(bench->raft->term, 9);
    bench_free(bench);
}
END_TEST

START_TEST(leader_refuses_votes_of_higher_terms_unless_it_handed_over)
{
    struct bench *bench = leader_of(3, empty_log);
    bench_message(bench, bench_vote(3, 9, (struct raft_pos){ 8, 8 }));
    ck_assert(!bench_only_message(bench)->vote_reply.granted);
    ck_assert_int_eq(bench->raft->role, RAFT_LEADER);
    struct raft_message request = bench_vote(3, 9, (struct raft_pos){ 8, 8 });
    request.vote.transfer = true;
    bench_message(bench, request);
    ck_assert_int_eq(bench->raft->role, RAFT_FOLLOWER);
    ck_assert_uint_eq(bench->raft->voted_for, 3);
    bench_free(bench);
}
END_TEST

START_TEST(transfer_flag_does_not_force_a_pre_vote)
{
    struct bench *bench = leader_of(3, empty_log);
    struct raft_message request = bench_pre_vote(3, 9, (struct raft_pos){ 8, 8 });
    request.vote.transfer = true;
    bench_message(bench, request);
    ck_assert(!bench_only_message(bench)->vote_reply.granted);
    ck_assert_int_eq(bench->raft->role, RAFT_LEADER);
    bench_free(bench);
}
END_TEST

/* Pre-votes for the term we are in already: yes while our own vote in it is free. */
START_TEST(pre_vote_for_our_own_term_asks_for_the_vote_that_is_left)
{
    struct bench *bench = bench_new(3, empty_log);
    bench_restart(bench, 5, RAFT_NODE_NONE);
    bench_message(bench, bench_pre_vote(2, 5, start_of_log));
    ck_assert(bench_only_message(bench)->vote_reply.granted);
    bench_restart(bench, 5, 3);
    bench_message(bench, bench_pre_vote(2, 5, start_of_log));
    ck_assert(!bench_only_message(bench)->vote_reply.granted);
    ck_assert_uint_eq(bench_only_message(bench)->term, 5);
    bench_message(bench, bench_pre_vote(3, 5, start_of_log));
    ck_assert(bench_only_message(bench)->vote_reply.granted);
    bench_message(bench, bench_pre_vote(3, 4, start_of_log));
    ck_assert(!bench_only_message(bench)->vote_reply.granted);
    bench_free(bench);
}
END_TEST

START_TEST(no_reply_leaves_in_a_term_that_is_not_durable)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 0 });
    bench_message(bench, bench_append(2, 3, (struct raft_pos){ 1, 1 }, no_entries, 0));
    ck_assert_int_eq(bench->effects.message_count, 0);
    bench_message(bench, bench_append(3, 2, (struct raft_pos){ 1, 1 }, no_entries, 0));
    ck_assert_int_eq(bench->effects.message_count, 0); /* a stale leader */
    bench_message(bench, bench_vote(3, 2, start_of_log));
    ck_assert_int_eq(bench->effects.message_count, 0); /* a stale candidate */
    bench_persisted(bench);
    const struct raft_message *reply = bench_only_message(bench);
    ck_assert_uint_eq(reply->to, 2);
    ck_assert_uint_eq(reply->term, 3);
    ck_assert(reply->append_reply.success);
    bench_free(bench);
}
END_TEST

START_TEST(nothing_new_is_not_said_twice)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 0 });
    uint64_t terms[] = { 1, 0 };
    bench_message(bench, bench_append(2, 1, (struct raft_pos){ 1, 1 }, terms, 0));
    ck_assert_int_eq(bench->effects.message_count, 0);
    bench_message(bench, bench_append(2, 1, (struct raft_pos){ 1, 2 }, no_entries, 0));
    ck_assert_uint_eq(bench_only_message(bench)->append_reply.durable_index, 1);
    bench_event(bench, (struct raft_event){ .type = RAFT_PERSISTED, .write_seq = 0 });
    ck_assert_int_eq(bench->effects.message_count, 0);
    bench_persisted(bench);
    ck_assert_uint_eq(bench_only_message(bench)->append_reply.durable_index, 2);
    bench_event(bench,
                (struct raft_event){ .type = RAFT_PERSISTED, .write_seq = bench->raft->write_seq });
    ck_assert_int_eq(bench->effects.message_count, 0);
    bench_free(bench);
}
END_TEST

/* More writes under way than are kept apart: the newest are merged, and vouch late, not early. */
START_TEST(merged_writes_vouch_for_nothing_before_the_newest_is_done)
{
    struct bench *bench = leader_of(1, empty_log);
    for (int i = 0; i < RAFT_WRITES_MAX + 10; i++)
        bench_propose(bench);
    ck_assert_int_eq(bench->raft->write_count, RAFT_WRITES_MAX);
    bench_persist(bench, RAFT_WRITES_MAX - 1);
    ck_assert_uint_eq(bench->raft->durable_index, RAFT_WRITES_MAX);
    bench_persist(bench, 10);
    ck_assert_uint_eq(bench->raft->durable_index, RAFT_WRITES_MAX);
    bench_persist(bench, 1);
    ck_assert_uint_eq(bench->raft->durable_index, bench->raft->last_index);
    ck_assert_uint_eq(bench->raft->commit_index, bench->raft->last_index);
    bench_free(bench);
}
END_TEST

START_TEST(too_many_read_rounds_are_refused)
{
    struct bench *bench = leader_of(3, empty_log);
    for (int i = 0; i < RAFT_ROUNDS_MAX; i++) {
        bench_read(bench);
        ck_assert_uint_eq(bench->effects.round, (uint64_t)i + 1);
    }
    bench_read(bench);
    ck_assert_int_eq(bench->effects.refusal, RAFT_REFUSED_BUSY);
    ck_assert_uint_eq(bench->effects.round, 0);
    ack(bench, 2, 1);
    ck_assert_int_eq(bench->effects.released_count, RAFT_ROUNDS_MAX);
    ck_assert_uint_eq(bench->effects.released[RAFT_ROUNDS_MAX - 1].index, 1);
    bench_read(bench);
    ck_assert_uint_eq(bench->effects.round, RAFT_ROUNDS_MAX + 1);
    bench_free(bench);
}
END_TEST

START_TEST(a21_reply_without_the_round_releases_nothing)
{
    struct bench *bench = leader_of(3, empty_log);
    ack(bench, 2, 1);
    bench_read(bench);
    drain(bench, 2);
    bench_message(bench, bench_ack(2, 1, 1)); /* of an append before the round */
    ck_assert_int_eq(bench->effects.released_count, 0);
    struct raft_message reply = bench_ack(2, 1, 1);
    reply.append_reply.round = 99; /* a round that was never opened */
    bench_message(bench, reply);
    ck_assert_int_eq(bench->effects.released_count, 0);
    reply.append_reply.round = 1;
    bench_message(bench, reply);
    ck_assert_int_eq(bench->effects.released_count, 1);
    bench_free(bench);
}
END_TEST

START_TEST(lost_connection_leads_back_to_what_is_certain)
{
    struct bench *bench = leader_of(3, empty_log);
    ack(bench, 2, 1);
    bench_propose(bench);
    bench_propose(bench);
    bench_read(bench);
    drain(bench, 2);
    ck_assert_uint_eq(peer(bench, 2)->next, 4);
    bench_lost(bench, 2);
    ck_assert_uint_eq(peer(bench, 2)->next, 2);
    ck_assert(peer(bench, 2)->probing);
    ck_assert(raft_append_due(bench->raft, 2)); /* entries and the round go again */
    bench_send(bench, 2, 64);
    ck_assert_uint_eq(bench_only_message(bench)->append.round, 1);
    ck_assert_uint_eq(bench_only_message(bench)->append.entry_count, 2);
    bench_free(bench);
}
END_TEST

START_TEST(read_round_on_a_lost_connection_is_sent_again)
{
    struct bench *bench = leader_of(3, empty_log);
    ack(bench, 2, 1);
    bench_read(bench);
    drain(bench, 2);
    ck_assert(!raft_append_due(bench->raft, 2));
    bench_lost(bench, 2);
    ck_assert(raft_append_due(bench->raft, 2));
    ack(bench, 2, 1);
    ck_assert_int_eq(bench->effects.released_count, 1);
    bench_free(bench);
}
END_TEST

START_TEST(probe_on_a_lost_connection_is_sent_again)
{
    struct bench *bench = leader_of(3, empty_log);
    drain(bench, 2);
    ck_assert(peer(bench, 2)->awaiting);
    bench_lost(bench, 2);
    ck_assert(raft_append_due(bench->raft, 2));
    bench_send(bench, 2, 64);
    ck_assert_uint_eq(bench_only_message(bench)->append.entry_count, 1);
    bench_free(bench);
}
END_TEST

START_TEST(connection_lost_while_probing_does_not_send_the_whole_log_again)
{
    struct bench *bench = leader_of(3, (uint64_t[]){ 1, 1, 1, 1, 1, 1, 0 });
    bench_lost(bench, 3);
    ck_assert_uint_eq(peer(bench, 3)->next, 7);
    bench_free(bench);
}
END_TEST

START_TEST(lost_leader_shortens_the_timer)
{
    struct bench *bench = bench_new(3, empty_log);
    bench_message(bench, bench_append(2, 1, start_of_log, no_entries, 0));
    bench_persisted(bench);
    bench_lost(bench, 3); /* not the leader */
    ck_assert_uint_eq(bench->raft->leader, 2);
    bench_lost(bench, 2);
    ck_assert_uint_eq(bench->raft->leader, RAFT_NODE_NONE);
    ck_assert(bench->effects.leader_changed);
    ck_assert_uint_ge(bench->raft->deadline_ms, bench->now_ms + BENCH_HEARTBEAT_MS / 2);
    ck_assert_uint_le(bench->raft->deadline_ms, bench->now_ms + 2 * BENCH_HEARTBEAT_MS);
    bench_message(bench, bench_pre_vote(3, 2, start_of_log));
    ck_assert(bench_only_message(bench)->vote_reply.granted);
    bench_free(bench);
}
END_TEST

START_TEST(transfer_goes_to_the_best_of_those_heard_lately)
{
    struct bench *bench = leader_of(5, empty_log);
    ack(bench, 2, 1);
    bench_propose(bench);
    ack(bench, 3, 2);
    bench->now_ms += BENCH_ELECTION_MS_MIN;
    ack(bench, 2, 1);
    ack(bench, 4, 0);
    bench_transfer(bench, RAFT_NODE_NONE); /* 3 has most, but has not been heard */
    ck_assert_uint_eq(bench->raft->transfer_to, 2);
    ck_assert_int_eq(bench->effects.message_count, 0);
    bench_message(bench, bench_ack(2, 1, 2));
    ck_assert_int_eq(bench_only_message(bench)->type, RAFT_TIMEOUT_NOW);
    bench_message(bench, bench_ack(2, 1, 2));
    ck_assert_int_eq(bench->effects.message_count, 0); /* told once */
    bench_free(bench);
}
END_TEST

START_TEST(transfer_without_a_target_is_refused)
{
    struct bench *bench = leader_of(3, empty_log);
    static const uint32_t targets[] = { 1, 9 };
    for (int i = 0; i < COUNT(targets); i++) {
        bench_transfer(bench, targets[i]);
        ck_assert_int_eq(bench->effects.refusal, RAFT_REFUSED_NO_TARGET);
    }
    bench->now_ms += BENCH_ELECTION_MS_MIN;
    bench_transfer(bench, RAFT_NODE_NONE); /* nobody has been heard lately */
    ck_assert_int_eq(bench->effects.refusal, RAFT_REFUSED_NO_TARGET);
    bench_free(bench);
}
END_TEST

START_TEST(early_timeouts_do_no_harm)
{
    struct bench *bench = bench_new(3, empty_log);
    bench->now_ms = bench->raft->deadline_ms - 1;
    bench_event(bench, (struct raft_event){ .type = RAFT_TIMEOUT });
    ck_assert_int_eq(bench->raft->role, RAFT_FOLLOWER);
    bench_free(bench);
}
END_TEST

/* Damaged or foreign messages: nothing comes of them, and nothing stops. The node follows 2 in term
 * 1, with the log 1/1 1/2, 1/1 committed. */
static struct raft_message odd_append(struct raft_pos prev, uint64_t commit, const uint64_t *terms)
{
    return bench_append(2, 1, prev, terms, commit);
}

static const struct {
    const char *name;
    struct raft_pos prev;
    uint32_t entry_count;
    uint64_t terms[2];
} odd_appends[] = {
    { "the largest index", { 1, UINT64_MAX }, 1, { 1 } },
    { "an index whose end wraps round", { 1, UINT64_MAX - 1 }, 2, { 1, 1 } },
    { "more entries than there may be", { 1, 2 }, UINT32_MAX, { 1, 1 } },
    { "terms that fall", { 1, 2 }, 2, { 1, 0 } },
    { "a term above the leader's", { 1, 2 }, 1, { 2 } },
    { "a term above the leader's, then a lower one", { 1, 2 }, 2, { 9, 1 } },
    { "prev of no term", { 0, 2 }, 1, { 1 } },
    { "prev of a term at no index", { 1, 0 }, 1, { 1 } },
};

START_TEST(damaged_append_is_ignored)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 0 });
    bench_message(bench, odd_append((struct raft_pos){ 1, 1 }, 1, no_entries));
    bench->now_ms += 10;
    uint64_t deadline = bench->raft->deadline_ms;
    struct raft_message message = odd_append(odd_appends[_i].prev, UINT64_MAX, no_entries);
    message.append.entry_count = odd_appends[_i].entry_count;
    message.append.entry_terms[0] = odd_appends[_i].terms[0];
    message.append.entry_terms[1] = odd_appends[_i].terms[1];
    bench_message(bench, message);
    ck_assert_msg(bench->raft->last_index == 2, "%s", odd_appends[_i].name);
    ck_assert_msg(bench->raft->commit_index == 1, "%s", odd_appends[_i].name);
    ck_assert_msg(bench->effects.message_count == 0, "%s", odd_appends[_i].name);
    ck_assert_msg(bench->raft->deadline_ms == deadline, "%s", odd_appends[_i].name);
    bench_free(bench);
}
END_TEST

START_TEST(leader_that_contradicts_itself_is_ignored)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 0 });
    bench_restart(bench, 3, RAFT_NODE_NONE);
    bench_message(bench, bench_append(2, 3, (struct raft_pos){ 1, 2 }, no_entries, 0));
    uint64_t terms[] = { 3, 0 };
    bench_message(bench, bench_append(2, 3, (struct raft_pos){ 1, 1 }, terms, 0));
    ck_assert_uint_eq(bench->effects.drop_from, 0);
    ck_assert_uint_eq(bench->raft->last_index, 2);
    bench_free(bench);
}
END_TEST

START_TEST(commit_index_beyond_everything_is_clamped)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 0 });
    bench_message(bench, odd_append((struct raft_pos){ 1, 1 }, UINT64_MAX, no_entries));
    ck_assert_uint_eq(bench->raft->commit_index, 1);
    bench_free(bench);
}
END_TEST

START_TEST(damaged_replies_are_ignored)
{
    struct bench *bench = leader_of(3, (uint64_t[]){ 1, 1, 0 });
    struct raft_peer before = *peer(bench, 2);
    before.heard_ms = bench->now_ms;
    bench_message(bench, bench_ack(2, 2, 4)); /* more than we have */
    bench_message(bench, bench_ack(2, 2, UINT64_MAX));
    ck_assert_uint_eq(peer(bench, 2)->match, 0);
    ck_assert_uint_eq(peer(bench, 2)->next, before.next);
    struct raft_message refusal = { .type = RAFT_APPEND_REPLY, .from = 2, .term = 2 };
    static const uint64_t rejected[] = { 0, 3, 4, UINT64_MAX };
    for (int i = 0; i < COUNT(rejected); i++) {
        refusal.append_reply.rejected_index = rejected[i];
        bench_message(bench, refusal);
        ck_assert_uint_eq(peer(bench, 2)->next, before.next);
    }
    ck_assert_uint_eq(bench->raft->commit_index, 0);
    bench_free(bench);
}
END_TEST

START_TEST(messages_of_strangers_are_ignored)
{
    struct bench *bench = bench_new(3, empty_log);
    bench_message(bench, bench_append(9, 5, start_of_log, no_entries, 0));
    bench_message(bench, bench_vote(9, 5, start_of_log));
    bench_message(bench, bench_pre_vote(9, 5, start_of_log));
    bench_message(bench, bench_timeout_now(9, 5));
    bench_message(bench, bench_vote(1, 5, start_of_log)); /* from itself */
    bench_lost(bench, 9);
    ck_assert_uint_eq(bench->raft->term, 0);
    ck_assert_int_eq(bench->effects.message_count, 0);
    ck_assert_int_eq(bench->raft->role, RAFT_FOLLOWER);
    ck_assert(!raft_append_due(bench->raft, 9));
    bench_free(bench);
}
END_TEST

START_TEST(terms_that_leave_no_room_for_elections_are_ignored)
{
    struct bench *bench = bench_new(3, empty_log);
    bench_message(bench, bench_append(2, UINT64_MAX, start_of_log, no_entries, 0));
    bench_message(bench, bench_vote(2, UINT64_MAX, start_of_log));
    ck_assert_uint_eq(bench->raft->term, 0);
    bench_free(bench);
}
END_TEST

START_TEST(term_far_ahead_of_ours_is_ignored)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 0 });
    bench_message(bench, bench_vote(2, (UINT64_C(1) << 32) + 2, (struct raft_pos){ 1, 1 }));
    ck_assert_uint_eq(bench->raft->term, 1);
    bench_message(bench, bench_vote(2, (UINT64_C(1) << 32) + 1, (struct raft_pos){ 1, 1 }));
    ck_assert_uint_eq(bench->raft->term, (UINT64_C(1) << 32) + 1);
    bench_free(bench);
}
END_TEST

/* Its disk was replaced: what it acknowledged is gone, and must neither count nor be withheld. */
START_TEST(replaced_follower_is_served_from_the_start)
{
    struct bench *bench = leader_of(3, (uint64_t[]){ 1, 1, 1, 0 });
    bench_message(bench, bench_ack(2, 2, 4));
    ck_assert_uint_eq(bench->raft->commit_index, 4);
    bench_propose(bench);
    bench_persisted(bench);
    bench_replaced(bench, 2);
    ck_assert_uint_eq(peer(bench, 2)->match, 0);

    struct raft_message refusal = bench_ack(2, 2, 0);
    refusal.append_reply = (struct raft_append_reply){ .rejected_index = 5 };
    bench_send(bench, 2, 1);
    bench_message(bench, refusal);
    bench_send(bench, 2, 64);
    ck_assert_uint_eq(bench_only_message(bench)->append.prev.index, 0);
    ck_assert_uint_eq(bench_only_message(bench)->append.entry_count, 5);
    bench_message(bench, bench_ack(2, 2, 4));
    ck_assert_uint_eq(bench->raft->commit_index, 4);
    bench_message(bench, bench_ack(2, 2, 5));
    ck_assert_uint_eq(bench->raft->commit_index, 5);
    bench_free(bench);
}
END_TEST

START_TEST(follower_with_a_full_disk_is_sent_heartbeats_only)
{
    struct bench *bench = leader_of(3, empty_log);
    drain(bench, 2);
    bench_message(bench, bench_ack(2, 1, 1));
    bench_propose(bench);
    drain(bench, 2);

    struct raft_message full = bench_ack(2, 1, 1);
    full.append_reply.full = true;
    bench_message(bench, full);
    ck_assert(peer(bench, 2)->full);
    ck_assert(!raft_append_due(bench->raft, 2));
    bench_timeout(bench);
    ck_assert(raft_append_due(bench->raft, 2));
    bench_send(bench, 2, 64);
    ck_assert_uint_eq(bench_only_message(bench)->append.entry_count, 0);
    ck_assert_uint_eq(bench_only_message(bench)->append.prev.index, 1);
    bench_message(bench, full);
    ck_assert(!raft_append_due(bench->raft, 2));

    bench_message(bench, bench_ack(2, 1, 1));
    ck_assert(!peer(bench, 2)->full);
    bench_send(bench, 2, 64);
    ck_assert_uint_eq(bench_only_message(bench)->append.entry_count, 1);
    bench_free(bench);
}
END_TEST

START_TEST(full_disk_is_told_with_every_answer)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 0 });
    struct raft_message heartbeat = bench_append(2, 1, (struct raft_pos){ 1, 1 }, no_entries, 1);

    heartbeat.append.no_room = true;
    bench_message(bench, heartbeat);
    ck_assert(bench_only_message(bench)->append_reply.success);
    ck_assert(bench_only_message(bench)->append_reply.full);
    heartbeat.append.prev = (struct raft_pos){ 1, 7 };
    bench_message(bench, heartbeat);
    ck_assert(!bench_only_message(bench)->append_reply.success);
    ck_assert(bench_only_message(bench)->append_reply.full);
    heartbeat.append.prev = (struct raft_pos){ 1, 1 };
    heartbeat.append.no_room = false;
    bench_message(bench, heartbeat);
    ck_assert(!bench_only_message(bench)->append_reply.full);
    bench_free(bench);
}
END_TEST

START_TEST(disk_that_finishes_what_was_not_started_stops)
{
    struct bench *bench = bench_new(3, empty_log);
    bench_event(bench, (struct raft_event){ .type = RAFT_PERSISTED, .write_seq = 1 });
}
END_TEST

START_TEST(clock_that_goes_back_stops)
{
    struct bench *bench = bench_new(3, empty_log);
    bench->now_ms--;
    bench_event(bench, (struct raft_event){ .type = RAFT_TIMEOUT });
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, a09_append_from_before_the_snapshot_is_not_appended_again);
    tcase_add_test(tests, a09_append_across_the_snapshot_keeps_what_is_new);
    tcase_add_test(tests, log_after_a_snapshot_knows_its_terms);
    tcase_add_test(tests, a12_append_holds_at_most_its_bound_of_entries);
    tcase_add_test(tests, a14_entries_in_flight_are_bounded);
    tcase_add_test(tests, a14_window_is_shut_while_the_followers_disk_is_behind);
    tcase_add_test(tests, a18_quorum_is_checked_between_one_and_two_timeouts);
    tcase_add_test(tests, a18_refusals_and_heartbeats_keep_a_leader);
    tcase_add_test(tests, a16_live_leader_means_no_vote_and_no_higher_term);
    tcase_add_test(tests, leader_refuses_votes_of_higher_terms_unless_it_handed_over);
    tcase_add_test(tests, transfer_flag_does_not_force_a_pre_vote);
    tcase_add_test(tests, pre_vote_for_our_own_term_asks_for_the_vote_that_is_left);
    tcase_add_test(tests, no_reply_leaves_in_a_term_that_is_not_durable);
    tcase_add_test(tests, nothing_new_is_not_said_twice);
    tcase_add_test(tests, merged_writes_vouch_for_nothing_before_the_newest_is_done);
    tcase_add_test(tests, too_many_read_rounds_are_refused);
    tcase_add_test(tests, a21_reply_without_the_round_releases_nothing);
    tcase_add_test(tests, lost_connection_leads_back_to_what_is_certain);
    tcase_add_test(tests, read_round_on_a_lost_connection_is_sent_again);
    tcase_add_test(tests, probe_on_a_lost_connection_is_sent_again);
    tcase_add_test(tests, connection_lost_while_probing_does_not_send_the_whole_log_again);
    tcase_add_test(tests, lost_leader_shortens_the_timer);
    tcase_add_test(tests, transfer_goes_to_the_best_of_those_heard_lately);
    tcase_add_test(tests, transfer_without_a_target_is_refused);
    tcase_add_test(tests, early_timeouts_do_no_harm);
    tcase_add_loop_test(tests, damaged_append_is_ignored, 0, COUNT(odd_appends));
    tcase_add_test(tests, leader_that_contradicts_itself_is_ignored);
    tcase_add_test(tests, commit_index_beyond_everything_is_clamped);
    tcase_add_test(tests, damaged_replies_are_ignored);
    tcase_add_test(tests, messages_of_strangers_are_ignored);
    tcase_add_test(tests, terms_that_leave_no_room_for_elections_are_ignored);
    tcase_add_test(tests, term_far_ahead_of_ours_is_ignored);
    tcase_add_test(tests, replaced_follower_is_served_from_the_start);
    tcase_add_test(tests, follower_with_a_full_disk_is_sent_heartbeats_only);
    tcase_add_test(tests, full_disk_is_told_with_every_answer);
    tcase_add_test_raise_signal(tests, disk_that_finishes_what_was_not_started_stops, SIGABRT);
    tcase_add_test_raise_signal(tests, clock_that_goes_back_stops, SIGABRT);
}

int main(void)
{
    Suite *suite = suite_create("raft_cases");
    TCase *tests = tcase_create("cases");
    add_tests(tests);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
