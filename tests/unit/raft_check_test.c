/* raft_check() can fail: each row breaks one invariant of a healthy node, and it stops. */
#include <check.h>
#include <signal.h>

#include "tests/unit/raft_bench.h"

#define COUNT(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

/* A leader of term 3 among three, with the log 1/1 2/2 3/3, of which nothing has committed and 3/3
 * is on its way to the disk; or a follower of node 2 in term 2, with 1/1 2/2, and 1/1 committed. */
static struct bench *healthy(enum raft_role role)
{
    static const uint64_t nothing[] = { 0 };
    struct bench *bench = bench_new(3, (uint64_t[]){ 1, 2, 0 });
    if (role == RAFT_LEADER)
        bench_lead(bench);
    else
        bench_message(bench, bench_append(2, 2, (struct raft_pos){ 1, 1 }, nothing, 1));
    ck_assert_int_eq(bench->raft->role, role);
    return bench;
}

static void break_commit(struct raft *raft)
{
    raft->commit_index = raft->last_index + 1;
}
static void break_match(struct raft *raft)
{
    raft->peers[0].match = raft->peers[0].next;
}
static void break_next(struct raft *raft)
{
    raft->peers[1].next = raft->last_index + 2;
}
static void break_awaiting(struct raft *raft)
{
    raft->peers[0].probing = false;
    raft->peers[0].awaiting = true;
}
static void break_rounds(struct raft *raft)
{
    raft->peers[0].acked_round = 1;
}
static void break_leader(struct raft *raft)
{
    raft->leader = 2;
}
static void break_own_vote(struct raft *raft)
{
    raft->voted_for = 3;
}
static void break_last(struct raft *raft)
{
    raft->last_index++;
}
static void break_run_order(struct raft *raft)
{
    raft->runs[1].term = raft->runs[0].term;
}
static void break_run_first(struct raft *raft)
{
    raft->runs[0].first = 2;
}
static void break_run_term(struct raft *raft)
{
    raft->term--;
}
static void break_durable(struct raft *raft)
{
    raft->durable_index = raft->last_index + 1;
}
static void break_writes(struct raft *raft)
{
    raft->write_count = 0;
}
static void break_leadership(struct raft *raft)
{
    raft->role = RAFT_LEADER;
}
static void break_matched(struct raft *raft)
{
    raft->matched_index = 0;
}
static void break_ack(struct raft *raft)
{
    raft->ack_due = true;
}
static void break_vote_due(struct raft *raft)
{
    raft->vote_due = true;
}
static void break_deadline(struct raft *raft)
{
    raft->deadline_ms = UINT64_MAX;
}
static void break_transfer(struct raft *raft)
{
    raft->transfer_to = 9;
}

static const struct {
    const char *name;
    enum raft_role role;
    void (*damage)(struct raft *raft);
} states[] = {
    { "commit beyond the log", RAFT_LEADER, break_commit },
    { "match is below next", RAFT_LEADER, break_match },
    { "next is at most last + 1", RAFT_LEADER, break_next },
    { "only a probe is awaited", RAFT_LEADER, break_awaiting },
    { "no round acknowledged that was not sent", RAFT_LEADER, break_rounds },
    { "a leader leads itself", RAFT_LEADER, break_leader },
    { "a leader voted for itself", RAFT_LEADER, break_own_vote },
    { "what is in the log is on disk or under way", RAFT_FOLLOWER, break_last },
    { "terms grow from run to run", RAFT_FOLLOWER, break_run_order },
    { "runs begin behind the snapshot", RAFT_FOLLOWER, break_run_first },
    { "no entry of a later term than ours", RAFT_FOLLOWER, break_run_term },
    { "durable within the log", RAFT_FOLLOWER, break_durable },
    { "a change is on disk or under way", RAFT_LEADER, break_writes },
    { "a leader has been elected", RAFT_FOLLOWER, break_leadership },
    { "commit within what is proven", RAFT_FOLLOWER, break_matched },
    { "nothing owed that is durable", RAFT_FOLLOWER, break_ack },
    { "no vote owed to nobody", RAFT_FOLLOWER, break_vote_due },
    { "the deadline is near", RAFT_FOLLOWER, break_deadline },
    { "leadership goes to a voter", RAFT_LEADER, break_transfer },
};

START_TEST(broken_state_stops)
{
    struct bench *bench = healthy(states[_i].role);
    raft_check(NULL, bench->raft);
    states[_i].damage(bench->raft);
    raft_check(NULL, bench->raft);
}
END_TEST

static void rise_term(struct raft *before)
{
    before->term++;
}
static void rise_commit(struct raft *before)
{
    before->commit_index = before->last_index;
}
static void other_vote(struct raft *before)
{
    before->voted_for = 3;
}
static void longer_log(struct raft *before)
{
    before->last_index++;
}
static void higher_match(struct raft *before)
{
    before->peers[0].match = 9;
}
static void later_clock(struct raft *before)
{
    before->now_ms++;
}
static void later_write(struct raft *before)
{
    before->write_seq++;
}
static void earlier_write(struct raft *before)
{
    before->write_seq -= 2;
}
static void other_leader(struct raft *before)
{
    before->leader = 3;
}
static void follower(struct raft *before)
{
    before->role = RAFT_FOLLOWER;
}
static void later_durable_term(struct raft *before)
{
    before->durable_term++;
}

static const struct {
    const char *name;
    enum raft_role role;
    void (*damage)(struct raft *before);
} steps[] = {
    { "terms do not fall", RAFT_FOLLOWER, rise_term },
    { "the commit index does not fall", RAFT_FOLLOWER, rise_commit },
    { "a vote is not changed", RAFT_LEADER, other_vote },
    { "a leader only appends", RAFT_LEADER, longer_log },
    { "match does not fall", RAFT_LEADER, higher_match },
    { "the clock does not go back", RAFT_FOLLOWER, later_clock },
    { "writes are numbered upwards", RAFT_LEADER, later_write },
    { "a step is one write", RAFT_LEADER, earlier_write },
    { "one leader a term", RAFT_FOLLOWER, other_leader },
    { "a leader comes from a candidate", RAFT_LEADER, follower },
    { "a durable term does not fall", RAFT_LEADER, later_durable_term },
};

START_TEST(broken_step_stops)
{
    struct bench *bench = healthy(steps[_i].role);
    struct raft before = *bench->raft;
    raft_check(&before, bench->raft);
    steps[_i].damage(&before);
    raft_check(&before, bench->raft);
}
END_TEST

START_TEST(healthy_nodes_pass)
{
    struct bench *leader = healthy(RAFT_LEADER);
    struct bench *other = healthy(RAFT_FOLLOWER);
    raft_check(leader->raft, leader->raft);
    raft_check(other->raft, other->raft);
    bench_free(leader);
    bench_free(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_check");
    TCase *tests = tcase_create("invariants");
    tcase_add_test(tests, healthy_nodes_pass);
    tcase_add_loop_test_raise_signal(tests, broken_state_stops, SIGABRT, 0, COUNT(states));
    tcase_add_loop_test_raise_signal(tests, broken_step_stops, SIGABRT, 0, COUNT(steps));
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
