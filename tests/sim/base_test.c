/* The small parts that everything in the simulator stands on: chance, time, the trace, the
 * values of ops, links. What is fixed here in numbers must stay so: seeds are kept for years. */
#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/links.h"
#include "tests/sim/op.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"
#include "tests/sim/trace.h"

/* -- Chance ------------------------------------------------------------------------------------ */

START_TEST(random_is_splitmix64)
{
    /* The published numbers for the seed 1234567. */
    static const uint64_t expected[] = {
        UINT64_C(6457827717110365317), UINT64_C(3203168211198807973), UINT64_C(9817491932198370423),
        UINT64_C(4593380528125082431), UINT64_C(16408922859458223821)
    };
    struct random random = { 1234567 };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        ck_assert_uint_eq(random_next(&random), expected[i]);
}
END_TEST

START_TEST(streams_are_equal_only_for_equal_arguments)
{
    uint64_t firsts[8][8];
    for (uint64_t seed = 0; seed < 8; seed++) {
        for (uint64_t purpose = 0; purpose < 8; purpose++) {
            struct random random = random_stream(seed, purpose), again = random;
            firsts[seed][purpose] = random_next(&random);
            ck_assert_uint_eq(firsts[seed][purpose], random_next(&again));
        }
    }
    const uint64_t *flat = &firsts[0][0];
    for (size_t i = 0; i < 64; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_ne(flat[i], flat[j]);
    struct random fixed = random_stream(48213, 7);
    ck_assert_uint_eq(random_next(&fixed), UINT64_C(16373744830998934597));
}
END_TEST

START_TEST(draws_stay_in_their_bounds_and_reach_them)
{
    struct random random = random_stream(1, 2);
    uint32_t below[7] = { 0 }, between[3] = { 0 }, chances = 0;
    for (int i = 0; i < 70000; i++) {
        below[random_below(&random, 7)]++;
        between[random_between(&random, 5, 7) - 5]++;
        chances += random_chance(&random, 250);
        ck_assert(!random_chance(&random, 0));
        ck_assert(random_chance(&random, 1000));
        ck_assert_uint_eq(random_between(&random, 9, 9), 9);
        ck_assert_uint_eq(random_below(&random, 1), 0);
    }
    for (int i = 0; i < 7; i++)
        ck_assert(below[i] > 9500 && below[i] < 10500);
    for (int i = 0; i < 3; i++)
        ck_assert(between[i] > 22500 && between[i] < 24200);
    ck_assert(chances > 16800 && chances < 18200);
    bool high = false;
    for (int i = 0; i < 64; i++)
        high = high || random_between(&random, 0, UINT64_MAX) > UINT64_MAX / 2;
    ck_assert(high);
}
END_TEST

/* -- Time -------------------------------------------------------------------------------------- */

#define HAPPENED_MAX 20000

struct happened {
    struct timeline *timeline;
    struct random random;
    int left; /* events that schedule others */
    size_t count;
    struct {
        uint64_t at_ns, argument;
    } of[HAPPENED_MAX];
};

static void on_event(void *owner, uint64_t argument)
{
    struct happened *happened = owner;
    ck_assert_uint_lt(happened->count, HAPPENED_MAX);
    happened->of[happened->count].at_ns = timeline_now_ns(happened->timeline);
    happened->of[happened->count++].argument = argument;
    for (int i = 0; i < 2 && happened->left > 0; i++, happened->left--) {
        uint64_t in_ns = random_below(&happened->random, 50);
        timeline_at(happened->timeline, timeline_now_ns(happened->timeline) + in_ns, on_event,
                    happened, argument + 1000);
    }
}

static struct happened *run_timeline(uint64_t seed)
{
    struct happened *happened = calloc(1, sizeof *happened);
    happened->timeline = timeline_new(seed);
    happened->random = random_stream(99, 0);
    happened->left = 9000;
    for (uint64_t i = 0; i < 900; i++)
        timeline_at(happened->timeline, i / 9 * 10, on_event, happened, i);
    while (timeline_step(happened->timeline, 1000000)) {
    }
    ck_assert_uint_eq(happened->count, 9900);
    ck_assert_uint_eq(timeline_events(happened->timeline), 9900);
    ck_assert_uint_eq(timeline_now_ns(happened->timeline), 1000000);
    timeline_free(happened->timeline);
    return happened;
}

START_TEST(events_come_in_the_order_of_time)
{
    struct happened *happened = run_timeline(5);
    for (size_t i = 1; i < happened->count; i++)
        ck_assert_uint_le(happened->of[i - 1].at_ns, happened->of[i].at_ns);
    for (size_t i = 0; i < happened->count; i++)
        if (happened->of[i].argument < 900)
            ck_assert_uint_eq(happened->of[i].at_ns, happened->of[i].argument / 9 * 10);
    free(happened);
}
END_TEST

START_TEST(ties_are_chance_and_follow_from_the_seed)
{
    struct happened *one = run_timeline(5), *same = run_timeline(5), *other = run_timeline(6);
    ck_assert(memcmp(one->of, same->of, sizeof one->of) == 0);
    ck_assert(memcmp(one->of, other->of, sizeof one->of) != 0);
    free(one);
    free(same);
    free(other);
    /* Each of the 6 orders of three events at one moment comes up. */
    bool seen[3][3][3] = { { { false } } };
    int orders = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct happened *three = calloc(1, sizeof *three);
        three->timeline = timeline_new(seed);
        for (uint64_t i = 0; i < 3; i++)
            timeline_at(three->timeline, 7, on_event, three, i);
        while (timeline_step(three->timeline, 7)) {
        }
        bool *order = &seen[three->of[0].argument][three->of[1].argument][three->of[2].argument];
        orders += !*order;
        *order = true;
        timeline_free(three->timeline);
        free(three);
    }
    ck_assert_int_eq(orders, 6);
}
END_TEST

START_TEST(the_past_is_now_and_a_step_ends_at_its_bound)
{
    struct happened *happened = calloc(1, sizeof *happened);
    happened->timeline = timeline_new(1);
    timeline_at(happened->timeline, 100, on_event, happened, 1);
    ck_assert(!timeline_step(happened->timeline, 99));
    ck_assert_uint_eq(timeline_now_ns(happened->timeline), 99);
    timeline_at(happened->timeline, 50, on_event, happened, 2);
    ck_assert(timeline_step(happened->timeline, 100));
    ck_assert_uint_eq(happened->of[0].argument, 2);
    ck_assert_uint_eq(happened->of[0].at_ns, 99);
    ck_assert(timeline_step(happened->timeline, 100));
    ck_assert(!timeline_step(happened->timeline, 20)); /* never goes back */
    ck_assert_uint_eq(timeline_now_ns(happened->timeline), 100);
    timeline_free(happened->timeline);
    free(happened);
}
END_TEST

/* -- The trace --------------------------------------------------------------------------------- */

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(i * 7 + 3);
}

START_TEST(the_hash_is_the_same_everywhere)
{
    struct timeline *timeline = timeline_new(1);
    struct trace *trace = trace_new(timeline, false);
    uint8_t bytes[301];
    fill(bytes, sizeof bytes);
    (void)timeline_step(timeline, 1234567890);
    trace_line(trace, 3, "leader of term %d", 17);
    trace_line(trace, -1, "%s", "");
    for (size_t size = 0; size <= sizeof bytes; size++)
        trace_bytes(trace, bytes, size);
    trace_number(trace, 42);
    ck_assert_uint_eq(trace_hash(trace), UINT64_C(17411300439096838817));
    trace_free(trace);
    timeline_free(timeline);
}
END_TEST

static uint64_t hash_of(const void *bytes, size_t first, size_t second)
{
    struct timeline *timeline = timeline_new(1);
    struct trace *trace = trace_new(timeline, false);
    trace_bytes(trace, bytes, first);
    if (second != 0)
        trace_bytes(trace, (const uint8_t *)bytes + first, second);
    uint64_t hash = trace_hash(trace);
    trace_free(trace);
    timeline_free(timeline);
    return hash;
}

START_TEST(every_bit_and_every_boundary_counts)
{
    static const size_t sizes[] = { 1, 7, 8, 9, 31, 32, 63, 64, 65, 96, 127, 200 };
    uint8_t bytes[200];
    fill(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t hash = hash_of(bytes, sizes[i], 0);
        for (size_t bit = 0; bit < 8 * sizes[i]; bit++) {
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
            ck_assert_uint_ne(hash_of(bytes, sizes[i], 0), hash);
            bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        }
        for (size_t cut = 1; cut < sizes[i]; cut++)
            ck_assert_uint_ne(hash_of(bytes, cut, sizes[i] - cut), hash);
    }
    uint8_t zeros[100] = { 0 };
    for (size_t size = 1; size < sizeof zeros; size++)
        ck_assert_uint_ne(hash_of(zeros, size, 0), hash_of(zeros, size - 1, 0));
}
END_TEST

static uint64_t hash_of_line(uint64_t now_ns, int node, const char *text)
{
    struct timeline *timeline = timeline_new(1);
    struct trace *trace = trace_new(timeline, false);
    (void)timeline_step(timeline, now_ns);
    trace_line(trace, node, "%s", text);
    uint64_t hash = trace_hash(trace);
    trace_free(trace);
    timeline_free(timeline);
    return hash;
}

START_TEST(time_node_and_text_of_a_line_count)
{
    uint64_t hash = hash_of_line(10, 1, "votes");
    ck_assert_uint_eq(hash, hash_of_line(10, 1, "votes"));
    ck_assert_uint_ne(hash, hash_of_line(11, 1, "votes"));
    ck_assert_uint_ne(hash, hash_of_line(10, 2, "votes"));
    ck_assert_uint_ne(hash, hash_of_line(10, -1, "votes"));
    ck_assert_uint_ne(hash, hash_of_line(10, 1, "voted"));
}
END_TEST

static void say_how_to_repeat(void *context)
{
    fprintf(stderr, "repeat: %s\n", (const char *)context);
}

/* What trace_fail() prints, of a trace with `line_count` lines. */
static void failure_report(int line_count, char *text, size_t size)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        struct timeline *timeline = timeline_new(1);
        struct trace *trace = trace_new(timeline, false);
        static char seed[] = "seed 7";
        trace_on_fail(trace, say_how_to_repeat, seed);
        (void)timeline_step(timeline, 2000000001);
        for (int i = 0; i < line_count; i++)
            trace_line(trace, 2, "line %d of a very long text: %0300d", i, i);
        trace_fail(trace, "S3", "node %d has %s", 2, "promised");
    }
    (void)close(ends[1]);
    size_t length = 0;
    for (ssize_t got = 1; got > 0; length += (size_t)got)
        got = read(ends[0], text + length, size - 1 - length);
    text[length] = '\0';
    (void)close(ends[0]);
}

START_TEST(a_failure_names_the_rule_and_the_last_lines)
{
    static char text[100000];
    failure_report(250, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "violation of S3: node 2 has promised\nrepeat: seed 7\n"));
    ck_assert_ptr_nonnull(strstr(text, "     2.000000001 n2 line 249 of"));
    ck_assert_ptr_nonnull(strstr(text, "line 50 of"));
    ck_assert_ptr_null(strstr(text, "line 49 of"));
    failure_report(0, text, sizeof text);
    ck_assert_str_eq(text, "violation of S3: node 2 has promised\nrepeat: seed 7\n");
}
END_TEST

START_TEST(a_failure_aborts)
{
    trace_fail(NULL, "S0", "no trace");
}
END_TEST

/* -- Ops --------------------------------------------------------------------------------------- */

START_TEST(a_value_names_its_op)
{
    static const uint64_t numbers[] = { 1, 9, 10, 48213, UINT64_C(1) << 40, UINT64_MAX };
    uint8_t bytes[400], again[400];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        for (uint32_t size = OP_VALUE_MIN; size <= sizeof bytes; size++) {
            op_value(numbers[i], bytes, size);
            op_value(numbers[i], again, size);
            ck_assert_mem_eq(bytes, again, size);
            ck_assert_uint_eq(op_of_value(bytes, size), numbers[i]);
            for (uint32_t at = 0; at < size; at++)
                ck_assert(bytes[at] > ' ' && bytes[at] < 127);
        }
    }
    op_value(17, bytes, 30);
    ck_assert_msg(memcmp(bytes, "17.cdofmnekhojickinehpmihhhlmd", 30) == 0, "%.30s",
                  (const char *)bytes);
}
END_TEST

START_TEST(a_value_with_anything_else_in_it_is_nobodys)
{
    uint8_t bytes[120], other[120];
    op_value(48213, bytes, sizeof bytes);
    for (uint32_t at = 0; at < sizeof bytes; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[at] = (uint8_t)(bytes[at] ^ 1u << bit);
            ck_assert_uint_eq(op_of_value(bytes, sizeof bytes), 0);
            bytes[at] = (uint8_t)(bytes[at] ^ 1u << bit);
        }
    }
    for (uint32_t size = 0; size < sizeof bytes; size++)
        ck_assert_uint_eq(op_of_value(bytes, size), 0);
    op_value(48214, other, sizeof other);
    memcpy(other, bytes, 6);
    ck_assert_uint_eq(op_of_value(other, sizeof other), 0);
    memcpy(bytes, "018446744073709551616.aaaaaa", 28);
    ck_assert_uint_eq(op_of_value(bytes, 28), 0);
    ck_assert_uint_eq(op_of_value(bytes + 1, 27), 0); /* 2^64 */
    memset(bytes, '1', sizeof bytes);
    ck_assert_uint_eq(op_of_value(bytes, sizeof bytes), 0);
}
END_TEST

START_TEST(every_type_has_a_name)
{
    ck_assert_str_eq(op_type_name(OP_GET), "get");
    ck_assert_str_eq(op_type_name(OP_DELETE), "delete");
    for (int type = OP_GET; type <= OP_DELETE; type++)
        ck_assert_ptr_nonnull(op_type_name((enum op_type)type));
    for (int type = OUTCOME_VALUE; type <= OUTCOME_UNKNOWN; type++)
        ck_assert_ptr_nonnull(outcome_type_name((enum outcome_type)type));
}
END_TEST

/* -- Links ------------------------------------------------------------------------------------- */

START_TEST(delays_keep_their_bounds_but_for_a_tail)
{
    struct links links;
    links_init(&links);
    struct link *link = &links.of[0][LINKS_CLIENTS];
    ck_assert(!link->cut && link->bytes_per_s == 0 && links.cut_generation == 0);
    struct random random = random_stream(3, 4);
    int late = 0;
    for (int i = 0; i < 64000; i++) {
        uint64_t delay = link_delay_ns(link, &random, 100);
        ck_assert_uint_ge(delay, 50000);
        ck_assert_uint_le(delay, 500000 + 16 * 450000);
        late += delay > 500000;
    }
    ck_assert(late > 800 && late < 1200);
    link->delay_min_ns = link->delay_max_ns = 777;
    link->bytes_per_s = 1000;
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_eq(link_delay_ns(link, &random, 1500), 777 + 1500000000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim base");
    TCase *tcase = tcase_create("base");
    tcase_add_test(tcase, random_is_splitmix64);
    tcase_add_test(tcase, streams_are_equal_only_for_equal_arguments);
    tcase_add_test(tcase, draws_stay_in_their_bounds_and_reach_them);
    tcase_add_test(tcase, events_come_in_the_order_of_time);
    tcase_add_test(tcase, ties_are_chance_and_follow_from_the_seed);
    tcase_add_test(tcase, the_past_is_now_and_a_step_ends_at_its_bound);
    tcase_add_test(tcase, the_hash_is_the_same_everywhere);
    tcase_add_test(tcase, every_bit_and_every_boundary_counts);
    tcase_add_test(tcase, time_node_and_text_of_a_line_count);
    tcase_add_test(tcase, a_failure_names_the_rule_and_the_last_lines);
    tcase_add_test_raise_signal(tcase, a_failure_aborts, SIGABRT);
    tcase_add_test(tcase, a_value_names_its_op);
    tcase_add_test(tcase, a_value_with_anything_else_in_it_is_nobodys);
    tcase_add_test(tcase, every_type_has_a_name);
    tcase_add_test(tcase, delays_keep_their_bounds_but_for_a_tail);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
