/* Clients over a transport that does as it is told; the oracle's place is taken by two functions that
 * count. */
#include "tests/sim/session.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define SECOND UINT64_C(1000000000)
#define NODES 3
#define NUMBERS_MAX 100000

enum behaviour { ANSWERS, IS_SILENT, REFUSES, IS_UNREACHABLE, REDIRECTS };

struct oracle {
    uint64_t invoked, returned;
    struct op ops[NUMBERS_MAX];
    int outcomes[NUMBERS_MAX];
    enum outcome_type last[NUMBERS_MAX];
};

static struct oracle oracle;

static struct world {
    struct timeline *timeline;
    struct trace *trace;
    struct sessions *sessions;
    enum behaviour nodes[NODES];
    uint64_t asked[NODES];
    uint64_t version;
    uint64_t under_way[8], under_way_max;
    uint64_t answer_ns;
} world;

void oracle_invoked(struct oracle *this, const struct op *op)
{
    ck_assert_ptr_eq(this, &oracle);
    ck_assert_uint_lt(op->number, NUMBERS_MAX);
    ck_assert_uint_eq(oracle.ops[op->number].number, 0);
    oracle.ops[op->number] = *op;
    oracle.invoked++;
}

void oracle_returned(struct oracle *this, uint64_t number, const struct outcome *outcome)
{
    ck_assert_ptr_eq(this, &oracle);
    ck_assert_uint_eq(oracle.ops[number].number, number); /* it was invoked */
    ck_assert_int_eq(oracle.outcomes[number]++, 0);       /* and has returned once */
    oracle.last[number] = outcome->type;
    oracle.returned++;
}

static void answer(void *owner, uint64_t number)
{
    (void)owner;
    const struct op *op = &oracle.ops[number];
    struct outcome outcome = { .type = OUTCOME_STORED, .version = ++world.version };
    if (op->type == OP_GET || op->type == OP_GETM)
        outcome = (struct outcome){ .type = OUTCOME_NONE };
    if (op->type == OP_DELETE)
        outcome = (struct outcome){ .type = OUTCOME_DELETED };
    world.under_way[op->client]--;
    sessions_on_outcome(world.sessions, number, &outcome, -1);
}

static void refuse(void *owner, uint64_t number)
{
    (void)owner;
    struct outcome outcome = { .type = OUTCOME_REFUSED };
    world.under_way[oracle.ops[number].client]--;
    sessions_on_outcome(world.sessions, number, &outcome, -1);
}

static void redirect(void *owner, uint64_t number)
{
    (void)owner;
    struct outcome outcome = { .type = OUTCOME_REFUSED };
    world.under_way[oracle.ops[number].client]--;
    sessions_on_outcome(world.sessions, number, &outcome, NODES - 1);
}

static bool submit(void *context, int client, int node, const struct op *op)
{
    static timeline_run *const runs[] = {
        [ANSWERS] = answer, [REFUSES] = refuse, [REDIRECTS] = redirect
    };
    ck_assert_ptr_eq(context, &world);
    ck_assert_int_eq(client, op->client);
    ck_assert_uint_eq(oracle.ops[op->number].number, op->number); /* told before it is sent */
    enum behaviour behaviour = world.nodes[node];
    world.asked[node]++;
    if (behaviour == IS_UNREACHABLE)
        return false;
    if (op->noreply)
        return true;
    if (++world.under_way[client] > world.under_way_max)
        world.under_way_max = world.under_way[client];
    if (behaviour != IS_SILENT)
        timeline_at(world.timeline, timeline_now_ns(world.timeline) + world.answer_ns,
                    runs[behaviour], NULL, op->number);
    return true;
}

static const struct workload usual = { .clients = 4,
                                       .keys = 5,
                                       .get = 1,
                                       .getm = 1,
                                       .set = 1,
                                       .cas = 1,
                                       .del = 1,
                                       .value_bytes_max = 1000,
                                       .pipeline_max = 4,
                                       .think_ns_max = SECOND / 50,
                                       .timeout_ns = SECOND };

static void begin(const struct workload *workload, uint64_t seed)
{
    memset(&world, 0, sizeof world);
    memset(&oracle, 0, sizeof oracle);
    world.answer_ns = 1000000;
    world.timeline = timeline_new(seed);
    world.trace = trace_new(world.timeline, false);
    struct transport transport = { &world, submit };
    world.sessions =
        sessions_new(workload, NODES, world.timeline, &oracle, world.trace, seed, &transport);
}

static void end(void)
{
    sessions_free(world.sessions);
    trace_free(world.trace);
    timeline_free(world.timeline);
}

static void pass_ns(uint64_t ns)
{
    uint64_t until = timeline_now_ns(world.timeline) + ns;
    while (timeline_step(world.timeline, until)) {
    }
}

START_TEST(every_request_has_one_outcome)
{
    begin(&usual, 1);
    ck_assert(sessions_idle(world.sessions));
    pass_ns(SECOND);
    ck_assert_uint_eq(oracle.invoked, 0); /* not before the start */
    sessions_start(world.sessions);
    pass_ns(10 * SECOND);
    ck_assert_uint_gt(oracle.invoked, 1000);
    ck_assert_uint_eq(world.under_way_max, 4);
    sessions_stop(world.sessions);
    pass_ns(SECOND);
    ck_assert(sessions_idle(world.sessions));
    ck_assert_uint_eq(oracle.invoked, oracle.returned);
    ck_assert_uint_eq(sessions_acked(world.sessions), oracle.returned);
    ck_assert_uint_gt(sessions_last_ack_ns(world.sessions), 10 * SECOND);
    uint64_t invoked = oracle.invoked;
    pass_ns(10 * SECOND);
    ck_assert_uint_eq(oracle.invoked, invoked);
    end();
}
END_TEST

START_TEST(all_kinds_of_requests)
{
    struct workload workload = usual;
    int types[OP_DELETE + 1] = { 0 }, expiring = 0, none = 0, known = 0, hot = 0, large = 0;
    workload.expire = 200;
    workload.ttl_s_max = 3;
    begin(&workload, 2);
    sessions_start(world.sessions);
    pass_ns(20 * SECOND);
    for (uint64_t number = 1; number <= oracle.invoked; number++) {
        const struct op *op = &oracle.ops[number];
        types[op->type]++;
        expiring += op->ttl_s > 0;
        ck_assert_uint_le(op->ttl_s, 3);
        hot += strcmp(op->key, "k0") == 0;
        none += op->type == OP_CAS && op->compare == 0;
        known += op->type == OP_CAS && op->compare > 0;
        large += op->value_size == 1000;
        bool has_value = op->type == OP_SET || op->type == OP_CAS;
        ck_assert_uint_ge(op->value_size, has_value ? OP_VALUE_MIN : 0);
        ck_assert_uint_le(op->value_size, has_value ? 1000 : 0);
    }
    for (int type = 0; type <= OP_DELETE; type++)
        ck_assert_int_gt(types[type], 100);
    ck_assert_int_gt(expiring, 50);
    ck_assert_int_gt(none, 20);
    ck_assert_int_gt(known, 20);
    ck_assert_int_gt(large, 5);
    ck_assert_uint_gt((uint64_t)hot, oracle.invoked / 3);
    end();
}
END_TEST

START_TEST(silence_is_an_unknown_outcome)
{
    begin(&usual, 3);
    world.nodes[0] = world.nodes[1] = world.nodes[2] = IS_SILENT;
    sessions_start(world.sessions);
    pass_ns(SECOND - 1);
    ck_assert_uint_eq(oracle.returned, 0);
    sessions_stop(world.sessions);
    pass_ns(SECOND);
    ck_assert(sessions_idle(world.sessions));
    ck_assert_uint_gt(oracle.invoked, 10);
    ck_assert_uint_eq(oracle.returned, oracle.invoked);
    for (uint64_t number = 1; number <= oracle.invoked; number++)
        ck_assert_int_eq(oracle.last[number], OUTCOME_UNKNOWN);
    ck_assert_uint_eq(sessions_acked(world.sessions), 0);
    answer(NULL, 1); /* too late: dropped */
    ck_assert_uint_eq(oracle.returned, oracle.invoked);
    end();
}
END_TEST

START_TEST(finds_the_node_that_answers)
{
    static const enum behaviour others[] = { REFUSES, IS_UNREACHABLE, REDIRECTS, IS_SILENT };
    begin(&usual, 4);
    world.nodes[0] = world.nodes[1] = others[_i];
    sessions_start(world.sessions);
    pass_ns(5 * SECOND);
    uint64_t asked = world.asked[0] + world.asked[1], good = world.asked[2];
    pass_ns(10 * SECOND);
    ck_assert_uint_eq(world.asked[0] + world.asked[1], asked);
    ck_assert_uint_gt(world.asked[2], good + 1000);
    world.nodes[2] = IS_UNREACHABLE; /* the leader moves */
    world.nodes[1] = ANSWERS;
    world.nodes[0] = REFUSES;
    pass_ns(5 * SECOND);
    asked = world.asked[1];
    pass_ns(10 * SECOND);
    ck_assert_uint_gt(world.asked[1], asked + 1000);
    end();
}
END_TEST

START_TEST(does_not_hammer)
{
    begin(&usual, 5);
    world.nodes[0] = world.nodes[1] = world.nodes[2] = IS_UNREACHABLE;
    sessions_start(world.sessions);
    pass_ns(10 * SECOND);
    ck_assert_uint_gt(oracle.invoked, 4 * 10);
    ck_assert_uint_lt(oracle.invoked, 4 * 500);
    ck_assert_uint_eq(oracle.invoked, oracle.returned);
    end();
}
END_TEST

START_TEST(asks_any_node)
{
    struct workload workload = usual;
    workload.any_node = true;
    begin(&workload, 6);
    sessions_start(world.sessions);
    pass_ns(10 * SECOND);
    for (int node = 0; node < NODES; node++)
        ck_assert_uint_gt(world.asked[node], 300);
    end();
}
END_TEST

START_TEST(noreply_is_left_alone)
{
    struct workload workload = usual;
    workload.noreply = 1000;
    workload.get = workload.getm = 0;
    workload.think_ns_max = 0;
    begin(&workload, 7);
    sessions_start(world.sessions);
    pass_ns(SECOND / 1000);
    ck_assert_uint_gt(oracle.invoked, 10);
    ck_assert_uint_eq(oracle.returned, 0);
    ck_assert(sessions_idle(world.sessions));
    world.nodes[0] = world.nodes[1] = world.nodes[2] = IS_UNREACHABLE;
    pass_ns(SECOND);
    ck_assert_uint_gt(oracle.returned, 10); /* refused for certain: that may be told */
    end();
}
END_TEST

START_TEST(the_same_seed_is_the_same_run)
{
    uint64_t hashes[3];
    for (int i = 0; i < 3; i++) {
        begin(&usual, i == 2 ? 9 : 8);
        world.nodes[1] = REFUSES;
        sessions_start(world.sessions);
        pass_ns(5 * SECOND);
        hashes[i] = trace_hash(world.trace);
        end();
    }
    ck_assert_uint_eq(hashes[0], hashes[1]);
    ck_assert_uint_ne(hashes[0], hashes[2]);
}
END_TEST

static void answer_twice(uint64_t number)
{
    begin(&usual, 10);
    sessions_start(world.sessions);
    pass_ns(SECOND);
    ck_assert_int_eq(oracle.outcomes[1], 1);
    answer(NULL, number);
}

START_TEST(a_second_outcome_is_seen)
{
    answer_twice(1);
}
END_TEST

START_TEST(an_outcome_of_nothing_is_seen)
{
    answer_twice(NUMBERS_MAX - 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *tests = tcase_create("session");
    tcase_add_test(tests, every_request_has_one_outcome);
    tcase_add_test(tests, all_kinds_of_requests);
    tcase_add_test(tests, silence_is_an_unknown_outcome);
    tcase_add_loop_test(tests, finds_the_node_that_answers, 0, 4);
    tcase_add_test(tests, does_not_hammer);
    tcase_add_test(tests, asks_any_node);
    tcase_add_test(tests, noreply_is_left_alone);
    tcase_add_test(tests, the_same_seed_is_the_same_run);
    tcase_add_test_raise_signal(tests, a_second_outcome_is_seen, SIGABRT);
    tcase_add_test_raise_signal(tests, an_outcome_of_nothing_is_seen, SIGABRT);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
