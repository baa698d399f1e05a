/* The rules of the Raft paper (extended version), section by section, at one node; figures 7 and 8.
 * Exchanges between several nodes are in scenarios/. */
#include <check.h>
#include <inttypes.h>
#include <signal.h>

#include "raft/quorum.h"
#include "tests/unit/raft_bench.h"

#define COUNT(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

static const uint64_t empty_log[] = { 0 };
static const uint64_t no_entries[] = { 0 };

static const struct raft_pos start_of_log = { 0, 0 };

static void become(struct bench *bench, enum raft_role role)
{
    if (role == RAFT_PRE_CANDIDATE)
        bench_pre_campaign(bench);
    if (role == RAFT_CANDIDATE)
        bench_campaign(bench);
    if (role == RAFT_LEADER)
        bench_lead(bench);
    bench_persisted(bench);
    ck_assert_int_eq(bench->raft->role, role);
}

/* §5.1 */

START_TEST(node_starts_as_follower)
{
    struct bench *bench = bench_new(3, empty_log);
    ck_assert_int_eq(bench->raft->role, RAFT_FOLLOWER);
    ck_assert_uint_eq(bench->raft->leader, RAFT_NODE_NONE);
    bench_free(bench);
}
END_TEST

START_TEST(higher_term_makes_a_follower_of_every_role)
{
    struct bench *bench = bench_new(3, empty_log);
    become(bench, (enum raft_role)_i);
    uint64_t term = bench->raft->term + 7;
    bench_message(bench, bench_append(2, term, start_of_log, no_entries, 0));
    ck_assert_int_eq(bench->raft->role, RAFT_FOLLOWER);
    ck_assert_uint_eq(bench->raft->term, term);
    ck_assert_uint_eq(bench->raft->leader, 2);
    ck_assert_uint_eq(bench->raft->voted_for, RAFT_NODE_NONE);
    ck_assert(bench->effects.save_vote);
    bench_free(bench);
}
END_TEST

START_TEST(stale_append_is_refused_in_the_newer_term)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 5, 0 });
    become(bench, (enum raft_role)_i);
    uint64_t terms[] = { 4, 0 };
    bench_message(bench, bench_append(2, 4, start_of_log, terms, 0));
    const struct raft_message *reply = bench_only_message(bench);
    ck_assert_uint_eq(reply->term, bench->raft->term);
    ck_assert(!reply->append_reply.success);
    ck_assert_int_eq(bench->raft->role, (enum raft_role)_i);
    ck_assert_uint_eq(bench->effects.write_seq, 0);
    bench_free(bench);
}
END_TEST

START_TEST(stale_replies_are_ignored_by_every_role)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 5, 0 });
    become(bench, (enum raft_role)_i);
    uint64_t term = bench->raft->term;
    bench_message(bench, bench_ack(2, 4, 1));
    bench_message(bench, bench_ack(3, 4, 1));
    bench_message(bench, bench_vote_reply(2, 4, true, false));
    bench_message(bench, bench_vote_reply(3, 4, true, true));
    bench_message(bench, bench_timeout_now(3, 4));
    ck_assert_int_eq(bench->raft->role, (enum raft_role)_i);
    ck_assert_uint_eq(bench->raft->term, term);
    ck_assert_int_eq(bench->effects.message_count, 0);
    bench_free(bench);
}
END_TEST

/* §5.2 */

START_TEST(leader_sends_heartbeats_to_all)
{
    struct bench *bench = bench_new(3, empty_log);
    become(bench, RAFT_LEADER);
    for (uint32_t peer = 2; peer <= 3; peer++) {
        while (raft_append_due(bench->raft, peer))
            bench_send(bench, peer, 64);
    }
    uint64_t before = bench->now_ms;
    bench_timeout(bench);
    ck_assert_uint_le(bench->now_ms - before, BENCH_HEARTBEAT_MS);
    for (uint32_t peer = 2; peer <= 3; peer++) {
        ck_assert(raft_append_due(bench->raft, peer));
        bench_send(bench, peer, 0);
        ck_assert_int_eq(bench_only_message(bench)->type, RAFT_APPEND);
        ck_assert_uint_eq(bench_only_message(bench)->append.entry_count, 0);
        ck_assert(!raft_append_due(bench->raft, peer));
    }
    bench_free(bench);
}
END_TEST

START_TEST(majority_of_votes_makes_a_leader)
{
    int node_count = _i;
    int needed = quorum_size(node_count) - 1;
    struct bench *bench = bench_new(node_count, empty_log);
    bench_campaign(bench);
    ck_assert_int_eq(bench->effects.message_count, 0);
    ck_assert_uint_eq(bench->raft->term, 1);
    ck_assert_uint_eq(bench->raft->voted_for, 1);
    bench_persisted(bench);
    if (node_count > 1)
        ck_assert_int_eq(bench->effects.message_count, node_count - 1);
    for (int i = 0; i < needed; i++) {
        ck_assert_int_eq(bench->raft->role, RAFT_CANDIDATE);
        bench_message(bench, bench_vote_reply((uint32_t)i + 2, 1, true, false));
        bench_message(bench, bench_vote_reply((uint32_t)i + 2, 1, true, false)); /* twice is once */
    }
    ck_assert_int_eq(bench->raft->role, RAFT_LEADER);
    ck_assert_uint_eq(bench->raft->term_start_index, 1);
    bench_free(bench);
}
END_TEST

START_TEST(refusals_of_a_majority_end_the_campaign)
{
    struct bench *bench = bench_new(5, empty_log);
    become(bench, RAFT_CANDIDATE);
    bench_message(bench, bench_vote_reply(2, 1, true, false));
    bench_message(bench, bench_vote_reply(3, 1, false, false));
    bench_message(bench, bench_vote_reply(4, 1, false, false));
    ck_assert_int_eq(bench->raft->role, RAFT_CANDIDATE);
    bench_message(bench, bench_vote_reply(5, 1, false, false));
    ck_assert_int_eq(bench->raft->role, RAFT_FOLLOWER);
    ck_assert_uint_eq(bench->raft->term, 1);
    bench_free(bench);
}
END_TEST

START_TEST(one_vote_a_term)
{
    struct bench *bench = bench_new(3, empty_log);
    bench_message(bench, bench_vote(2, 1, start_of_log));
    ck_assert_int_eq(bench->effects.message_count, 0); /* the disk first */
    bench_persisted(bench);
    ck_assert(bench_only_message(bench)->vote_reply.granted);
    ck_assert_uint_eq(bench_only_message(bench)->to, 2);

    bench_message(bench, bench_vote(3, 1, start_of_log));
    ck_assert(!bench_only_message(bench)->vote_reply.granted);
    bench_message(bench, bench_vote(2, 1, start_of_log));
    ck_assert(bench_only_message(bench)->vote_reply.granted);
    ck_assert_uint_eq(bench->effects.write_seq, 0);
    bench_free(bench);
}
END_TEST

START_TEST(campaigner_returns_when_a_leader_of_its_term_speaks)
{
    struct bench *bench = bench_new(3, empty_log);
    become(bench, (enum raft_role)_i);
    uint64_t term = bench->raft->term + (bench->raft->term == 0);
    bench_message(bench, bench_append(3, term, start_of_log, no_entries, 0));
    ck_assert_int_eq(bench->raft->role, RAFT_FOLLOWER);
    ck_assert_uint_eq(bench->raft->leader, 3);
    bench_free(bench);
}
END_TEST

START_TEST(election_timeouts_are_spread_over_their_range)
{
    struct bench *bench = bench_new(3, empty_log);
    bool seen[BENCH_ELECTION_MS_MAX + 1] = { false };
    int distinct = 0;
    for (int i = 0; i < 2000; i++) {
        bench_timeout(bench);
        uint64_t timeout = bench->raft->deadline_ms - bench->now_ms;
        ck_assert_uint_ge(timeout, BENCH_ELECTION_MS_MIN);
        ck_assert_uint_le(timeout, BENCH_ELECTION_MS_MAX);
        distinct += !seen[timeout];
        seen[timeout] = true;
    }
    ck_assert_int_gt(distinct, 140); /* of 151 */
    ck_assert_uint_eq(bench->raft->term, 0);
    bench_free(bench);
}
END_TEST

START_TEST(only_a_leader_or_a_vote_puts_the_timer_off)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 0 });
    uint64_t deadline = bench->raft->deadline_ms;
    bench->now_ms = deadline - 1;
    bench_message(bench, bench_vote(2, 5, (struct raft_pos){ 1, 1 })); /* its log is behind */
    ck_assert_uint_eq(bench->raft->term, 5);
    ck_assert_uint_eq(bench->raft->deadline_ms, deadline);
    bench_message(bench, bench_pre_vote(2, 6, (struct raft_pos){ 1, 2 }));
    ck_assert_uint_eq(bench->raft->deadline_ms, deadline);
    bench_message(bench, bench_vote(3, 5, (struct raft_pos){ 1, 2 }));
    ck_assert_uint_gt(bench->raft->deadline_ms, deadline);
    bench_free(bench);
}
END_TEST

/* §5.3 */

START_TEST(leader_appends_and_commits_with_a_majority)
{
    struct bench *bench = bench_new(3, empty_log);
    become(bench, RAFT_LEADER);
    bench_message(bench, bench_ack(2, 1, 1));
    ck_assert_uint_eq(bench->raft->commit_index, 1);
    bench_propose(bench);
    ck_assert_uint_eq(bench->effects.first, 2);
    bench_send(bench, 2, 64);
    const struct raft_append *append = &bench_only_message(bench)->append;
    ck_assert_uint_eq(append->prev.index, 1);
    ck_assert_uint_eq(append->prev.term, 1);
    ck_assert_uint_eq(append->commit_index, 1);
    bench_persisted(bench);
    ck_assert_uint_eq(bench->raft->commit_index, 1);
    bench_message(bench, bench_ack(2, 1, 2));
    ck_assert_uint_eq(bench->raft->commit_index, 2);
    ck_assert(bench->effects.commit_moved);
    bench_free(bench);
}
END_TEST

static const struct {
    const char *name;
    int node_count;
    int acks;
    bool own_disk;
    bool commits;
} majorities[] = {
    { "alone, on its disk", 1, 0, true, true },
    { "alone, and not on its disk", 1, 0, false, false },
    { "of three, nobody else", 3, 0, true, false },
    { "of three, another", 3, 1, true, true },
    { "of three, another, and not its own disk", 3, 1, false, false },
    { "of three, both others", 3, 2, false, true },
    { "of five, another", 5, 1, true, false },
    { "of five, two others", 5, 2, true, true },
    { "of five, two others without its own disk", 5, 2, false, false },
    { "of five, three others", 5, 3, false, true },
};

START_TEST(leader_commits_what_a_majority_has_durably)
{
    struct bench *bench = bench_new(majorities[_i].node_count, empty_log);
    bench_lead(bench);
    if (majorities[_i].own_disk)
        bench_persisted(bench);
    for (int i = 0; i < majorities[_i].acks; i++)
        bench_message(bench, bench_ack((uint32_t)i + 2, 1, 1));
    ck_assert_msg((bench->raft->commit_index == 1) == majorities[_i].commits, "%s",
                  majorities[_i].name);
    bench_free(bench);
}
END_TEST

/* Figure 2, AppendEntries 2 to 5, on the log 1/1 2/2. */
static const struct {
    const char *name;
    struct raft_pos prev;
    uint64_t terms[4];
    uint64_t commit_index;
    uint64_t drop_from, first, last; /* what comes out */
    uint64_t log[6];
    uint64_t committed;
} appends[] = {
    { "heartbeat at the end", { 2, 2 }, { 0 }, 0, 0, 0, 0, { 1, 2 }, 0 },
    { "an entry at the end", { 2, 2 }, { 3 }, 0, 0, 3, 3, { 1, 2, 3 }, 0 },
    { "entries that are here", { 0, 0 }, { 1, 2 }, 0, 0, 0, 0, { 1, 2 }, 0 },
    { "fewer than are here", { 0, 0 }, { 1 }, 1, 0, 0, 0, { 1, 2 }, 1 },
    { "one here, one new", { 1, 1 }, { 2, 3 }, 0, 0, 3, 3, { 1, 2, 3 }, 0 },
    { "one differs", { 1, 1 }, { 3 }, 0, 2, 2, 2, { 1, 3 }, 0 },
    { "all differ", { 0, 0 }, { 3, 4 }, 0, 1, 1, 2, { 3, 4 }, 0 },
    { "one here, one differs, one new", { 0, 0 }, { 1, 3, 4 }, 0, 2, 2, 3, { 1, 3, 4 }, 0 },
    { "prev beyond the end", { 2, 3 }, { 4 }, 3, 0, 0, 0, { 1, 2 }, 0 },
    { "prev of another term", { 1, 2 }, { 4 }, 2, 0, 0, 0, { 1, 2 }, 0 },
    { "commit beyond what is proven", { 1, 1 }, { 0 }, 9, 0, 0, 0, { 1, 2 }, 1 },
    { "commit up to the new entry", { 2, 2 }, { 3 }, 9, 0, 3, 3, { 1, 2, 3 }, 3 },
    { "commit before the new entry", { 2, 2 }, { 3 }, 2, 0, 3, 3, { 1, 2, 3 }, 2 },
};

START_TEST(follower_brings_its_log_in_line)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 2, 0 });
    bench_restart(bench, 4, RAFT_NODE_NONE);
    bench_message(
        bench, bench_append(2, 4, appends[_i].prev, appends[_i].terms, appends[_i].commit_index));
    const char *name = appends[_i].name;
    ck_assert_msg(bench->effects.drop_from == appends[_i].drop_from, "%s: drop", name);
    ck_assert_msg(bench->effects.first == appends[_i].first, "%s: first", name);
    ck_assert_msg(bench->effects.last == appends[_i].last, "%s: last", name);
    uint64_t last = 0;
    for (; appends[_i].log[last] != 0; last++)
        ck_assert_msg(raft_term_at(bench->raft, last + 1) == appends[_i].log[last], "%s: log",
                      name);
    ck_assert_msg(bench->raft->last_index == last, "%s: last index", name);
    ck_assert_msg(bench->raft->commit_index == appends[_i].committed, "%s: commit", name);
    bench_free(bench);
}
END_TEST

/* §5.3, end: what a refusal tells of the log 1/1 1/2 4/3 4/4 4/5 6/6. */
static const struct {
    const char *name;
    struct raft_pos prev;
    uint64_t conflict_term, conflict_index;
} refusals[] = {
    { "the log is too short", { 7, 9 }, 0, 0 }, { "the last entry", { 7, 6 }, 6, 6 },
    { "in a longer run", { 5, 5 }, 4, 3 },      { "at the beginning of a run", { 2, 3 }, 4, 3 },
    { "in the first run", { 3, 2 }, 1, 1 },
};

START_TEST(refusal_names_the_conflicting_term_and_its_first_index)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 4, 4, 4, 6, 0 });
    bench_restart(bench, 8, RAFT_NODE_NONE);
    bench_message(bench, bench_append(2, 8, refusals[_i].prev, no_entries, 0));
    const struct raft_append_reply *reply = &bench_only_message(bench)->append_reply;
    ck_assert(!reply->success);
    ck_assert_uint_eq(reply->rejected_index, refusals[_i].prev.index);
    ck_assert_uint_eq(reply->last_index, 6);
    ck_assert_msg(reply->conflict.term == refusals[_i].conflict_term, "%s", refusals[_i].name);
    ck_assert_msg(reply->conflict.index == refusals[_i].conflict_index, "%s", refusals[_i].name);
    bench_free(bench);
}
END_TEST

/* ... and where the leader with the log 1/1 1/2 4/3 4/4 6/5 and its no-op 8/6 tries next. */
static const struct {
    const char *name;
    uint64_t last_index;
    struct raft_pos conflict;
    uint64_t next;
} back_ups[] = {
    { "shorter log", 2, { 0, 0 }, 3 },
    { "empty log", 0, { 0, 0 }, 1 },
    { "a term that we have: behind its last entry", 5, { 4, 3 }, 5 },
    { "a term that we have, first run", 5, { 1, 1 }, 3 },
    { "a term that we lack: where it begins", 5, { 5, 3 }, 3 },
    { "a term that we lack, from the start", 5, { 3, 1 }, 1 },
    { "nonsense: a log longer than refused", 77, { 0, 0 }, 5 },
    { "nonsense: a place beyond the one refused", 5, { 5, 50 }, 5 },
    { "nonsense: our own term", 5, { 8, 1 }, 1 },
    { "nonsense: index 0", 5, { 5, 0 }, 1 },
    { "nonsense: the largest index", UINT64_MAX, { 0, 0 }, 5 },
};

START_TEST(leader_goes_back_by_terms)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 4, 4, 6, 0 });
    bench_restart(bench, 7, RAFT_NODE_NONE);
    bench_lead(bench);
    struct raft_message reply = { .type = RAFT_APPEND_REPLY, .from = 2, .term = 8 };
    reply.append_reply = (struct raft_append_reply){
        .rejected_index = 5,
        .last_index = back_ups[_i].last_index,
        .conflict = back_ups[_i].conflict,
    };
    bench_message(bench, reply);
    const struct raft_peer *peer = raft_find_peer(bench->raft, 2);
    ck_assert_msg(peer->next == back_ups[_i].next, "%s: next %" PRIu64, back_ups[_i].name,
                  peer->next);
    ck_assert(peer->probing);
    bench_free(bench);
}
END_TEST

/* Figure 7: the followers (a) to (f) when the leader of term 8 comes to power; (g) has nothing. */
static const uint64_t figure_7_leader[] = { 1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 0 };
static const struct {
    const char *name;
    uint64_t terms[14];
} figure_7[] = {
    { "(a)", { 1, 1, 1, 4, 4, 5, 5, 6, 6 } },
    { "(b)", { 1, 1, 1, 4 } },
    { "(c)", { 1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6 } },
    { "(d)", { 1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7 } },
    { "(e)", { 1, 1, 1, 4, 4, 4, 4 } },
    { "(f)", { 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3 } },
    { "(g)", { 0 } },
};

static int count_terms(const struct raft *raft)
{
    return (int)raft->run_count + 1;
}

/* Carry messages of the two nodes to each other until the leader has nothing to say. Both are node
 * 1 on their bench: each sees the other as node 2. Returns how many appends were refused. */
static int synchronise(struct bench *leader, struct bench *follower)
{
    int refused = 0;
    while (raft_append_due(leader->raft, 2)) {
        bench_send(leader, 2, 64);
        struct raft_message append = *bench_only_message(leader);
        append.from = 2;
        bench_message(follower, append);
        if (follower->effects.message_count == 0)
            bench_persisted(follower);
        for (int i = 0; i < follower->effects.message_count; i++) {
            struct raft_message reply = follower->effects.messages[i];
            reply.from = 2;
            refused += !reply.append_reply.success;
            bench_message(leader, reply);
        }
    }
    return refused;
}

START_TEST(figure_7_every_follower_ends_with_the_leaders_log)
{
    struct bench *leader = bench_new(2, figure_7_leader);
    struct bench *follower = bench_new(2, figure_7[_i].terms);
    bench_restart(leader, 7, RAFT_NODE_NONE);
    bench_restart(follower, 7, RAFT_NODE_NONE);
    bench_lead(leader);
    int terms = count_terms(follower->raft);
    int refused = synchronise(leader, follower);
    bench_persisted(leader);

    ck_assert_int_le(refused, terms);
    ck_assert_uint_eq(follower->raft->last_index, leader->raft->last_index);
    for (uint64_t i = 1; i <= leader->raft->last_index; i++)
        ck_assert_msg(raft_term_at(follower->raft, i) == raft_term_at(leader->raft, i), "%s: %d",
                      figure_7[_i].name, (int)i);
    ck_assert_uint_eq(leader->raft->commit_index, leader->raft->last_index);
    bench_free(leader);
    bench_free(follower);
}
END_TEST

/* §5.4.1 */

static const struct {
    const char *name;
    uint64_t log[4];
    struct raft_pos candidate;
    bool granted;
} voters[] = {
    { "the same log", { 1 }, { 1, 1 }, true },
    { "same term, longer", { 1 }, { 1, 2 }, true },
    { "same term, shorter", { 1, 1 }, { 1, 1 }, false },
    { "later term, same length", { 1 }, { 2, 1 }, true },
    { "later term, shorter", { 1, 1 }, { 2, 1 }, true },
    { "earlier term, same length", { 2 }, { 1, 1 }, false },
    { "earlier term, longer", { 2 }, { 1, 9 }, false },
    { "empty against an entry", { 1 }, { 0, 0 }, false },
    { "an entry against empty", { 0 }, { 1, 1 }, true },
};

START_TEST(vote_goes_to_a_log_that_is_no_older)
{
    struct bench *bench = bench_new(3, voters[_i].log);
    bench_restart(bench, 2, RAFT_NODE_NONE);
    bench_message(bench, bench_pre_vote(2, 3, voters[_i].candidate));
    ck_assert_msg(bench_only_message(bench)->vote_reply.granted == voters[_i].granted,
                  "pre-vote: %s", voters[_i].name);
    ck_assert_uint_eq(bench->effects.write_seq, 0);
    bench_message(bench, bench_vote(2, 3, voters[_i].candidate));
    ck_assert_msg((bench->raft->voted_for == 2) == voters[_i].granted, "%s", voters[_i].name);
    ck_assert_uint_eq(bench->raft->term, 3); /* adopted all the same */
    bench_free(bench);
}
END_TEST

/* §5.4.2. Figure 8 (c): node 1 leads term 4 and has 2/2 on a majority. It has not committed: (d)
 * node 5 can still overwrite it. (e) With 4/3 on a majority it has. The entries in the figure's log
 * that matter to node 1 are 1/1 2/2, and then its own. */
START_TEST(figure_8_older_terms_commit_only_with_an_entry_of_the_leaders_own)
{
    struct bench *bench = bench_new(5, (uint64_t[]){ 1, 2, 0 });
    bench_restart(bench, 3, RAFT_NODE_NONE);
    bench_lead(bench);
    bench_persisted(bench);
    bench_message(bench, bench_ack(2, 4, 2));
    bench_message(bench, bench_ack(3, 4, 2));
    bench_message(bench, bench_ack(4, 4, 2));
    ck_assert_uint_eq(bench->raft->commit_index, 0); /* (c) */
    bench_message(bench, bench_ack(2, 4, 3));
    ck_assert_uint_eq(bench->raft->commit_index, 0);
    bench_message(bench, bench_ack(3, 4, 3));
    ck_assert_uint_eq(bench->raft->commit_index, 3); /* (e) */
    bench_free(bench);
}
END_TEST

START_TEST(figure_8_d_an_older_entry_on_a_majority_can_be_overwritten)
{
    struct bench *bench = bench_new(5, (uint64_t[]){ 1, 2, 0 });
    bench_restart(bench, 4, RAFT_NODE_NONE);
    uint64_t terms[] = { 3, 5, 0 };
    bench_message(bench, bench_append(5, 5, (struct raft_pos){ 1, 1 }, terms, 1));
    ck_assert_uint_eq(bench->effects.drop_from, 2);
    ck_assert_uint_eq(raft_term_at(bench->raft, 2), 3);
    bench_free(bench);
}
END_TEST

START_TEST(a_committed_entry_that_would_be_overwritten_stops_the_node)
{
    struct bench *bench = bench_new(5, (uint64_t[]){ 1, 2, 0 });
    bench_message(bench, bench_append(2, 2, (struct raft_pos){ 2, 2 }, no_entries, 2));
    ck_assert_uint_eq(bench->raft->commit_index, 2);
    uint64_t terms[] = { 3, 0 };
    bench_message(bench, bench_append(5, 5, (struct raft_pos){ 1, 1 }, terms, 1));
}
END_TEST

/* §8 */

START_TEST(leader_opens_its_term_with_a_no_op)
{
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 0 });
    bench_lead(bench);
    ck_assert(bench->effects.noop);
    ck_assert_uint_eq(bench->effects.first, 3);
    ck_assert_uint_eq(bench->effects.last, 3);
    ck_assert_uint_eq(raft_term_at(bench->raft, 3), 2);
    bench_free(bench);
}
END_TEST

static void add_tests(TCase *tests)
{
    tcase_add_test(tests, node_starts_as_follower);
    tcase_add_loop_test(tests, higher_term_makes_a_follower_of_every_role, 0, RAFT_ROLE_COUNT);
    tcase_add_loop_test(tests, stale_append_is_refused_in_the_newer_term, 0, RAFT_ROLE_COUNT);
    tcase_add_loop_test(tests, stale_replies_are_ignored_by_every_role, 0, RAFT_ROLE_COUNT);
    tcase_add_test(tests, leader_sends_heartbeats_to_all);
    tcase_add_loop_test(tests, majority_of_votes_makes_a_leader, 2, RAFT_VOTERS_MAX + 1);
    tcase_add_test(tests, refusals_of_a_majority_end_the_campaign);
    tcase_add_test(tests, one_vote_a_term);
    tcase_add_loop_test(tests, campaigner_returns_when_a_leader_of_its_term_speaks,
                        RAFT_PRE_CANDIDATE, RAFT_LEADER);
    tcase_add_test(tests, election_timeouts_are_spread_over_their_range);
    tcase_add_test(tests, only_a_leader_or_a_vote_puts_the_timer_off);
    tcase_add_test(tests, leader_appends_and_commits_with_a_majority);
    tcase_add_loop_test(tests, leader_commits_what_a_majority_has_durably, 0, COUNT(majorities));
    tcase_add_loop_test(tests, follower_brings_its_log_in_line, 0, COUNT(appends));
    tcase_add_loop_test(tests, refusal_names_the_conflicting_term_and_its_first_index, 0,
                        COUNT(refusals));
    tcase_add_loop_test(tests, leader_goes_back_by_terms, 0, COUNT(back_ups));
    tcase_add_loop_test(tests, figure_7_every_follower_ends_with_the_leaders_log, 0,
                        COUNT(figure_7));
    tcase_add_loop_test(tests, vote_goes_to_a_log_that_is_no_older, 0, COUNT(voters));
    tcase_add_test(tests, figure_8_older_terms_commit_only_with_an_entry_of_the_leaders_own);
    tcase_add_test(tests, figure_8_d_an_older_entry_on_a_majority_can_be_overwritten);
    tcase_add_test_raise_signal(tests, a_committed_entry_that_would_be_overwritten_stops_the_node,
                                SIGABRT);
    tcase_add_test(tests, leader_opens_its_term_with_a_no_op);
}

int main(void)
{
    Suite *suite = suite_create("raft_paper");
    TCase *tests = tcase_create("sections");
    add_tests(tests);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
