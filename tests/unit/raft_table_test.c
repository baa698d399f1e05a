/* The state table, cell by cell: for each event and role, what comes of it, as one line of text.
 *
 * Node 1 of three, with the log 1/1. The follower follows node 2 in term 1; the pre-candidate asks
 * in term 1; the candidate's requests of term 2 have left; the leader of term 2 has committed its
 * no-op 2/2, and has nothing to send. */
#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "raft/core.h"
#include "tests/unit/raft_bench.h"

#define OUTCOME_SIZE 256

static const uint64_t log_terms[] = { 1, 0 };
static const uint64_t nothing[] = { 0 };

static void drain(struct bench *bench)
{
    for (uint32_t peer = 2; peer <= 3; peer++) {
        while (raft_append_due(bench->raft, peer))
            bench_send(bench, peer, 64);
    }
}

static struct bench *bench_in(enum raft_role role)
{
    struct bench *bench = bench_new(3, log_terms);
    switch (role) {
    case RAFT_FOLLOWER:
        bench_message(bench, bench_append(2, 1, (struct raft_pos){ 1, 1 }, nothing, 0));
        break;
    case RAFT_PRE_CANDIDATE:
        bench_pre_campaign(bench);
        break;
    case RAFT_CANDIDATE:
        bench_campaign(bench);
        bench_persisted(bench);
        break;
    default:
        bench_lead(bench);
        bench_persisted(bench);
        drain(bench);
        bench_message(bench, bench_ack(2, 2, 2));
        bench_message(bench, bench_ack(3, 2, 2));
        break;
    }
    ck_assert_int_eq(bench->raft->role, role);
    return bench;
}

static void do_append(struct bench *bench)
{
    uint64_t term = bench->raft->term;
    uint64_t terms[] = { term, 0 };
    bench_message(bench, bench_append(2, term, (struct raft_pos){ 1, 1 }, terms, 1));
}

static void do_append_reply(struct bench *bench)
{
    if (bench->raft->role == RAFT_LEADER)
        bench_propose(bench);
    bench_message(bench, bench_ack(2, bench->raft->term, bench->raft->last_index));
    bench_message(bench, bench_ack(3, bench->raft->term, bench->raft->last_index));
}

static void do_vote(struct bench *bench)
{
    struct raft_message request = bench_vote(3, bench->raft->term, (struct raft_pos){ 2, 9 });
    request.vote.transfer = true; /* or it would not get past the leader that lives */
    bench_message(bench, request);
}

static void do_vote_reply(struct bench *bench)
{
    bool pre_vote = bench->raft->role == RAFT_PRE_CANDIDATE;
    bench_message(bench, bench_vote_reply(3, bench->raft->term + pre_vote, true, pre_vote));
}

static void do_timeout_now(struct bench *bench)
{
    bench_message(bench, bench_timeout_now(2, bench->raft->term));
}

static void do_send(struct bench *bench)
{
    bench_propose(bench);
    bench_send(bench, 2, 64);
}

/* With something on the way to the disk that matters to the role. */
static void do_persisted(struct bench *bench)
{
    switch (bench->raft->role) {
    case RAFT_FOLLOWER:
        do_append(bench);
        break;
    case RAFT_PRE_CANDIDATE:
        do_vote(bench);
        bench_timeout(bench);
        break;
    case RAFT_CANDIDATE:
        bench_timeout(bench);
        bench_campaign(bench);
        break;
    default:
        bench_propose(bench);
        bench_message(bench, bench_ack(2, bench->raft->term, bench->raft->last_index));
        break;
    }
    bench_persisted(bench);
}

static void do_peer_lost(struct bench *bench)
{
    bench_lost(bench, 2);
}

static void do_peer_replaced(struct bench *bench)
{
    bench_replaced(bench, 2);
}

static void do_transfer(struct bench *bench)
{
    bench_transfer(bench, 2);
}

static const struct cell {
    enum raft_event_type type;
    enum raft_role role;
    void (*run)(struct bench *bench);
    const char *outcome; /* NULL: the node stops */
} cells[] = {
    { RAFT_APPEND, RAFT_FOLLOWER, do_append, "follower t1 of 2: keep 2" },
    { RAFT_APPEND, RAFT_PRE_CANDIDATE, do_append, "follower t1 of 2: keep 2" },
    { RAFT_APPEND, RAFT_CANDIDATE, do_append, "follower t2 of 2: keep 2" },
    { RAFT_APPEND, RAFT_LEADER, do_append, NULL },
    { RAFT_APPEND_REPLY, RAFT_FOLLOWER, do_append_reply, "follower t1 of 2:" },
    { RAFT_APPEND_REPLY, RAFT_PRE_CANDIDATE, do_append_reply, "pre-candidate t1:" },
    { RAFT_APPEND_REPLY, RAFT_CANDIDATE, do_append_reply, "candidate t2:" },
    { RAFT_APPEND_REPLY, RAFT_LEADER, do_append_reply, "leader t2: commit 3" },
    { RAFT_VOTE, RAFT_FOLLOWER, do_vote, "follower t1 of 2: vote 3" },
    { RAFT_VOTE, RAFT_PRE_CANDIDATE, do_vote, "follower t1: vote 3" },
    { RAFT_VOTE, RAFT_CANDIDATE, do_vote, "candidate t2: vote-reply->3 no" },
    { RAFT_VOTE, RAFT_LEADER, do_vote, "leader t2: vote-reply->3 no" },
    { RAFT_VOTE_REPLY, RAFT_FOLLOWER, do_vote_reply, "follower t1 of 2:" },
    { RAFT_VOTE_REPLY, RAFT_PRE_CANDIDATE, do_vote_reply, "candidate t2: vote 1" },
    { RAFT_VOTE_REPLY, RAFT_CANDIDATE, do_vote_reply,
      "leader t2: keep 2 no-op due 2 3 probing 2 3" },
    { RAFT_VOTE_REPLY, RAFT_LEADER, do_vote_reply, "leader t2:" },
    { RAFT_TIMEOUT_NOW, RAFT_FOLLOWER, do_timeout_now, "candidate t2: vote 1" },
    { RAFT_TIMEOUT_NOW, RAFT_PRE_CANDIDATE, do_timeout_now, "candidate t2: vote 1" },
    { RAFT_TIMEOUT_NOW, RAFT_CANDIDATE, do_timeout_now, "candidate t2:" },
    { RAFT_TIMEOUT_NOW, RAFT_LEADER, do_timeout_now, "leader t2:" },
    { RAFT_TIMEOUT, RAFT_FOLLOWER, bench_timeout, "pre-candidate t1: pre-vote->2 pre-vote->3" },
    { RAFT_TIMEOUT, RAFT_PRE_CANDIDATE, bench_timeout,
      "pre-candidate t1: pre-vote->2 pre-vote->3" },
    { RAFT_TIMEOUT, RAFT_CANDIDATE, bench_timeout, "pre-candidate t2: pre-vote->2 pre-vote->3" },
    { RAFT_TIMEOUT, RAFT_LEADER, bench_timeout, "leader t2: due 2 3" },
    { RAFT_PROPOSE, RAFT_FOLLOWER, bench_propose, "follower t1 of 2: not the leader" },
    { RAFT_PROPOSE, RAFT_PRE_CANDIDATE, bench_propose, "pre-candidate t1: not the leader" },
    { RAFT_PROPOSE, RAFT_CANDIDATE, bench_propose, "candidate t2: not the leader" },
    { RAFT_PROPOSE, RAFT_LEADER, bench_propose, "leader t2: keep 3 due 2 3" },
    { RAFT_READ, RAFT_FOLLOWER, bench_read, "follower t1 of 2: not the leader" },
    { RAFT_READ, RAFT_PRE_CANDIDATE, bench_read, "pre-candidate t1: not the leader" },
    { RAFT_READ, RAFT_CANDIDATE, bench_read, "candidate t2: not the leader" },
    { RAFT_READ, RAFT_LEADER, bench_read, "leader t2: round 1 due 2 3" },
    { RAFT_SEND, RAFT_FOLLOWER, do_send, "follower t1 of 2:" },
    { RAFT_SEND, RAFT_PRE_CANDIDATE, do_send, "pre-candidate t1:" },
    { RAFT_SEND, RAFT_CANDIDATE, do_send, "candidate t2:" },
    { RAFT_SEND, RAFT_LEADER, do_send, "leader t2: append->2 due 3" },
    { RAFT_PERSISTED, RAFT_FOLLOWER, do_persisted, "follower t1 of 2: append-reply->2 yes" },
    { RAFT_PERSISTED, RAFT_PRE_CANDIDATE, do_persisted, "pre-candidate t1: vote-reply->3 yes" },
    { RAFT_PERSISTED, RAFT_CANDIDATE, do_persisted, "candidate t3: vote->2 vote->3" },
    { RAFT_PERSISTED, RAFT_LEADER, do_persisted, "leader t2: commit 3 due 3" },
    { RAFT_PEER_LOST, RAFT_FOLLOWER, do_peer_lost, "follower t1:" },
    { RAFT_PEER_LOST, RAFT_PRE_CANDIDATE, do_peer_lost, "pre-candidate t1:" },
    { RAFT_PEER_LOST, RAFT_CANDIDATE, do_peer_lost, "candidate t2:" },
    { RAFT_PEER_LOST, RAFT_LEADER, do_peer_lost, "leader t2: probing 2" },
    { RAFT_PEER_REPLACED, RAFT_FOLLOWER, do_peer_replaced, "follower t1 of 2:" },
    { RAFT_PEER_REPLACED, RAFT_PRE_CANDIDATE, do_peer_replaced, "pre-candidate t1:" },
    { RAFT_PEER_REPLACED, RAFT_CANDIDATE, do_peer_replaced, "candidate t2:" },
    { RAFT_PEER_REPLACED, RAFT_LEADER, do_peer_replaced, "leader t2: probing 2" },
    { RAFT_TRANSFER, RAFT_FOLLOWER, do_transfer, "follower t1 of 2: not the leader" },
    { RAFT_TRANSFER, RAFT_PRE_CANDIDATE, do_transfer, "pre-candidate t1: not the leader" },
    { RAFT_TRANSFER, RAFT_CANDIDATE, do_transfer, "candidate t2: not the leader" },
    { RAFT_TRANSFER, RAFT_LEADER, do_transfer, "leader t2: timeout-now->2" },
};

#define CELL_COUNT ((int)(sizeof(cells) / sizeof(cells[0])))

static void print_messages(FILE *out, const struct raft_effects *effects)
{
    for (int i = 0; i < effects->message_count; i++) {
        const struct raft_message *message = &effects->messages[i];
        bool pre_vote = message->type == RAFT_VOTE && message->vote.pre_vote;
        fprintf(out, " %s%s->%" PRIu32, pre_vote ? "pre-" : "", raft_event_name(message->type),
                message->to);
        if (message->type == RAFT_VOTE_REPLY)
            fputs(message->vote_reply.granted ? " yes" : " no", out);
        if (message->type == RAFT_APPEND_REPLY)
            fputs(message->append_reply.success ? " yes" : " no", out);
    }
}

static void print_peers(FILE *out, const struct raft *raft)
{
    const char *label = " due";
    for (uint32_t peer = 2; peer <= 3; peer++) {
        if (raft_append_due(raft, peer)) {
            fprintf(out, "%s %" PRIu32, label, peer);
            label = "";
        }
    }
    label = " probing";
    for (uint32_t peer = 2; peer <= 3 && raft->role == RAFT_LEADER; peer++) {
        if (raft_find_peer(raft, peer)->probing) {
            fprintf(out, "%s %" PRIu32, label, peer);
            label = "";
        }
    }
}

static void describe(const struct bench *bench, char *outcome)
{
    const struct raft *raft = bench->raft;
    const struct raft_effects *effects = &bench->effects;
    FILE *out = fmemopen(outcome, OUTCOME_SIZE, "w");
    ck_assert_ptr_nonnull(out);
    fprintf(out, "%s t%" PRIu64, raft_role_name(raft->role), raft->term);
    if (raft->role == RAFT_FOLLOWER && raft->leader != RAFT_NODE_NONE)
        fprintf(out, " of %" PRIu32, raft->leader);
    fputs(":", out);
    if (effects->refusal != RAFT_ACCEPTED)
        fprintf(out, " %s", raft_refusal_name(effects->refusal));
    if (effects->save_vote)
        fprintf(out, " vote %" PRIu32, raft->voted_for);
    if (effects->first != 0)
        fprintf(out, " keep %" PRIu64 "%s", effects->first, effects->noop ? " no-op" : "");
    if (effects->round != 0)
        fprintf(out, " round %" PRIu64, effects->round);
    if (effects->commit_moved && raft->role == RAFT_LEADER)
        fprintf(out, " commit %" PRIu64, raft->commit_index);
    print_messages(out, effects);
    print_peers(out, raft);
    fclose(out);
}

START_TEST(cell_does_what_its_line_says)
{
    const struct cell *cell = &cells[_i];
    char outcome[OUTCOME_SIZE] = "";
    if (cell->outcome == NULL)
        return;
    struct bench *bench = bench_in(cell->role);
    cell->run(bench);
    describe(bench, outcome);
    bench_free(bench);
    ck_assert_msg(strcmp(outcome, cell->outcome) == 0, "%s as %s:\n  want: %s\n  got:  %s",
                  raft_event_name(cell->type), raft_role_name(cell->role), cell->outcome, outcome);
}
END_TEST

START_TEST(second_leader_in_our_term_stops_the_node)
{
    do_append(bench_in(RAFT_LEADER));
}
END_TEST

START_TEST(follower_of_two_leaders_in_a_term_stops_the_node)
{
    struct bench *bench = bench_in(RAFT_FOLLOWER);
    bench_message(bench, bench_append(3, 1, (struct raft_pos){ 1, 1 }, nothing, 0));
}
END_TEST

START_TEST(every_cell_has_a_handler)
{
    for (int type = 0; type < RAFT_EVENT_COUNT; type++) {
        for (int role = 0; role < RAFT_ROLE_COUNT; role++)
            ck_assert_msg(raft_table[type][role] != NULL, "%s as %s",
                          raft_event_name((enum raft_event_type)type),
                          raft_role_name((enum raft_role)role));
    }
}
END_TEST

START_TEST(every_cell_is_tested_once)
{
    int count[RAFT_EVENT_COUNT][RAFT_ROLE_COUNT] = { { 0 } };
    for (int i = 0; i < CELL_COUNT; i++)
        count[cells[i].type][cells[i].role]++;
    for (int type = 0; type < RAFT_EVENT_COUNT; type++) {
        for (int role = 0; role < RAFT_ROLE_COUNT; role++)
            ck_assert_msg(count[type][role] == 1, "%s as %s",
                          raft_event_name((enum raft_event_type)type),
                          raft_role_name((enum raft_role)role));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_table");
    TCase *tests = tcase_create("cells");
    tcase_add_test(tests, every_cell_has_a_handler);
    tcase_add_test(tests, every_cell_is_tested_once);
    tcase_add_loop_test(tests, cell_does_what_its_line_says, 0, CELL_COUNT);
    tcase_add_test_raise_signal(tests, second_leader_in_our_term_stops_the_node, SIGABRT);
    tcase_add_test_raise_signal(tests, follower_of_two_leaders_in_a_term_stops_the_node, SIGABRT);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
