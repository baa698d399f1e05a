/* The post: what arrives, how often, when, and what it is; and that a seed repeats. */
#include "tests/sim/post.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define HEARD_MAX 4096

struct heard {
    uint64_t term, at_ns;
    int from, to;
};

struct scene {
    struct timeline *timeline;
    struct links links;
    struct trace *trace;
    struct post *post;
    struct heard heard[HEARD_MAX];
    int heard_count;
    int breaks, break_a, break_b;
    struct parcel *kept; /* instead of being released at once */
    bool keeps;
};

static struct scene scene;

static void deliver(void *context, int to, struct parcel *parcel)
{
    (void)context;
    ck_assert_int_eq(to, parcel->to);
    ck_assert_int_lt(scene.heard_count, HEARD_MAX);
    scene.heard[scene.heard_count++] = (struct heard){ .term = parcel->message.term,
                                                       .at_ns = timeline_now_ns(scene.timeline),
                                                       .from = parcel->from,
                                                       .to = to };
    if (scene.keeps)
        scene.kept = parcel;
    else
        post_release(scene.post, parcel);
}

static void on_break(void *context, int a, int b)
{
    (void)context;
    scene.breaks++;
    scene.break_a = a;
    scene.break_b = b;
}

static void begin(uint64_t seed)
{
    memset(&scene, 0, sizeof scene);
    scene.timeline = timeline_new(seed);
    scene.trace = trace_new(scene.timeline, false);
    links_init(&scene.links);
    scene.post = post_new(scene.timeline, &scene.links, scene.trace, seed, deliver, on_break, NULL);
}

static uint64_t end(void)
{
    uint64_t hash = trace_hash(scene.trace);

    post_free(scene.post);
    trace_free(scene.trace);
    timeline_free(scene.timeline);
    return hash;
}

static void pass_ns(uint64_t ns)
{
    uint64_t until = timeline_now_ns(scene.timeline) + ns;
    while (timeline_step(scene.timeline, until)) {
    }
}

/* A vote: its term tells one message from another. */
static void send(int from, int to, uint64_t term)
{
    struct raft_message message = { .type = RAFT_VOTE, .term = term };

    message.from = (uint32_t)from;
    message.to = (uint32_t)to;
    post_send(scene.post, from, to, &message, NULL);
}

static int count_term(uint64_t term)
{
    int count = 0;

    for (int i = 0; i < scene.heard_count; i++)
        count += scene.heard[i].term == term;
    return count;
}

static struct link *link_of(int from, int to)
{
    return &scene.links.of[from][to];
}

/* A few take longer than the link's longest delay (links.c: the tail). */
START_TEST(without_faults_each_arrives_once)
{
    int late = 0;

    begin(1);
    for (uint64_t term = 1; term <= 200; term++) {
        uint64_t sent_ns = timeline_now_ns(scene.timeline);
        send(0, 1, term);
        pass_ns(50 * MS);
        ck_assert_int_eq(scene.heard_count, (int)term);
        const struct heard *heard = &scene.heard[term - 1];
        ck_assert_uint_eq(heard->term, term);
        ck_assert_int_eq(heard->from, 0);
        ck_assert_int_eq(heard->to, 1);
        ck_assert_uint_ge(heard->at_ns, sent_ns + link_of(0, 1)->delay_min_ns);
        late += heard->at_ns > sent_ns + link_of(0, 1)->delay_max_ns;
    }
    ck_assert_int_lt(late, 20);
    (void)end();
}
END_TEST

START_TEST(entries_are_copied)
{
    uint8_t bytes[2][ENTRY_HEADER_SIZE + 8] = { { 0 } };
    struct entry entries[2];
    struct raft_message message = { .type = RAFT_APPEND, .term = 3 };

    begin(2);
    scene.keeps = true;
    for (unsigned i = 0; i < 2; i++) {
        entries[i] = (struct entry){
            .size = sizeof bytes[i], .kind = ENTRY_COMMANDS, .term = 3, .index = i + 1
        };
        memset(bytes[i] + ENTRY_HEADER_SIZE, (int)('a' + i), 8);
        entry_seal(bytes[i], i == 0 ? 0 : entries[0].chain, &entries[i]);
    }
    message.append.entry_count = 2;
    post_send(scene.post, 1, 2, &message, entries);
    memset(bytes, 0xff, sizeof bytes);
    pass_ns(MS);
    ck_assert_ptr_nonnull(scene.kept);
    ck_assert_uint_eq(scene.kept->entry_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        const struct entry *entry = &scene.kept->entries[i];
        struct entry parsed;
        ck_assert_int_eq(entry_parse(entry->bytes, entry->size, &parsed), ENTRY_GOOD);
        ck_assert_uint_eq(parsed.index, i + 1);
        ck_assert_uint_eq(parsed.chain, entries[i].chain);
        ck_assert_uint_eq(entry->payload[0], 'a' + i);
    }
    post_release(scene.post, scene.kept);
    (void)end();
}
END_TEST

START_TEST(a_cut_counts_when_sent_and_when_it_arrives)
{
    begin(3);
    link_of(0, 1)->delay_min_ns = link_of(0, 1)->delay_max_ns = 10 * MS;
    link_of(0, 1)->cut = true;
    send(0, 1, 1); /* sent into the cut */
    pass_ns(MS);
    link_of(0, 1)->cut = false;
    send(0, 1, 2); /* meets the next cut on its way */
    pass_ns(MS);
    send(0, 1, 3); /* sent before it, arrives behind it */
    pass_ns(8 * MS + MS / 2);
    link_of(0, 1)->cut = true;
    pass_ns(MS);
    link_of(0, 1)->cut = false;
    send(1, 0, 4); /* the other direction was never cut */
    pass_ns(20 * MS);
    ck_assert_int_eq(count_term(1), 0);
    ck_assert_int_eq(count_term(2), 0);
    ck_assert_int_eq(count_term(3), 1);
    ck_assert_int_eq(count_term(4), 1);
    (void)end();
}
END_TEST

START_TEST(some_are_lost)
{
    begin(4);
    link_of(0, 1)->lose = 300;
    for (uint64_t term = 1; term <= 1000; term++)
        send(0, 1, term);
    pass_ns(50 * MS);
    ck_assert_int_gt(scene.heard_count, 600);
    ck_assert_int_lt(scene.heard_count, 800);
    (void)end();
}
END_TEST

START_TEST(some_come_twice)
{
    int twice = 0;

    begin(5);
    link_of(0, 1)->duplicate = 500;
    for (uint64_t term = 1; term <= 200; term++)
        send(0, 1, term);
    pass_ns(50 * MS);
    for (uint64_t term = 1; term <= 200; term++) {
        int count = count_term(term);
        ck_assert(count == 1 || count == 2);
        twice += count == 2;
    }
    ck_assert_int_gt(twice, 60);
    ck_assert_int_lt(twice, 140);
    (void)end();
}
END_TEST

START_TEST(some_are_held_back)
{
    int overtaken = 0;

    begin(6);
    link_of(0, 1)->delay_min_ns = link_of(0, 1)->delay_max_ns = MS;
    link_of(0, 1)->reorder = 200;
    for (uint64_t term = 1; term <= 200; term++) {
        send(0, 1, term);
        pass_ns(MS / 10);
    }
    pass_ns(20 * MS);
    ck_assert_int_eq(scene.heard_count, 200);
    for (int i = 1; i < scene.heard_count; i++)
        overtaken += scene.heard[i].term < scene.heard[i - 1].term;
    ck_assert_int_gt(overtaken, 10);
    (void)end();
}
END_TEST

/* Replay that begins late finds messages of long before. */
START_TEST(old_ones_come_again)
{
    int old = 0;

    begin(7);
    for (uint64_t term = 1; term <= 640; term++)
        send(0, 1, term);
    pass_ns(50 * MS);
    ck_assert_int_eq(scene.heard_count, 640);
    link_of(0, 1)->replay = 1000;
    for (uint64_t term = 1001; term <= 1010; term++)
        send(0, 1, term);
    pass_ns(50 * MS);
    ck_assert_int_eq(scene.heard_count, 660);
    for (int i = 640; i < 660; i++)
        old += scene.heard[i].term <= 640;
    ck_assert_int_gt(old, 0);
    (void)end();
}
END_TEST

START_TEST(a_break_is_told_and_loses_what_is_under_way)
{
    begin(8);
    link_of(0, 1)->delay_min_ns = link_of(0, 1)->delay_max_ns = 10 * MS;
    for (uint64_t term = 1; term <= 200; term++)
        send(0, 1, term);
    link_of(1, 0)->reset = 1000000;
    send(1, 0, 201);
    link_of(1, 0)->reset = 0;
    ck_assert_int_eq(scene.breaks, 0); /* not inside of the sender's turn */
    pass_ns(1);
    ck_assert_int_eq(scene.breaks, 1);
    ck_assert_int_eq(scene.break_a, 1);
    ck_assert_int_eq(scene.break_b, 0);
    pass_ns(20 * MS);
    ck_assert_int_gt(scene.heard_count, 50);
    ck_assert_int_lt(scene.heard_count, 150);
    scene.heard_count = 0;
    for (uint64_t term = 301; term <= 400; term++)
        send(0, 1, term);
    pass_ns(20 * MS);
    ck_assert_int_eq(scene.heard_count, 100);
    (void)end();
}
END_TEST

START_TEST(parcels_are_used_again)
{
    struct post_stats stats;
    uint64_t parcels;

    begin(9);
    for (uint64_t term = 1; term <= 3000; term++) {
        send(0, 1, term);
        pass_ns(MS);
        if (term == 2000) {
            post_stats(scene.post, &stats);
            parcels = stats.parcels;
        }
    }
    post_stats(scene.post, &stats);
    ck_assert_uint_eq(stats.parcels, parcels);
    ck_assert_uint_le(stats.parcels, 66); /* the ring of old ones, and those under way */
    ck_assert_uint_eq(stats.sent, 3000);
    ck_assert_uint_eq(stats.delivered, 3000);
    (void)end();
}
END_TEST

static uint64_t all_faults(uint64_t seed)
{
    begin(seed);
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++) {
            struct link *link = link_of(from, to);
            link->lose = link->duplicate = link->reorder = link->replay = 100;
            link->reset = 10000;
        }
    for (uint64_t term = 1; term <= 1000; term++) {
        send((int)(term % 3), (int)((term + 1) % 3), term);
        pass_ns(MS / 10);
    }
    pass_ns(100 * MS);
    for (int i = 0; i < scene.heard_count; i++)
        trace_number(scene.trace, scene.heard[i].term ^ scene.heard[i].at_ns);
    return end();
}

START_TEST(a_seed_repeats)
{
    ck_assert_uint_eq(all_faults(10), all_faults(10));
    ck_assert_uint_ne(all_faults(10), all_faults(11));
}
END_TEST

/* What is still under way, kept or in the ring at the end is freed (a sanitizer sees it). */
START_TEST(nothing_is_left)
{
    begin(12);
    scene.keeps = true;
    send(0, 1, 1);
    pass_ns(MS);
    send(0, 1, 2);
    (void)end();
}
END_TEST

START_TEST(a_parcel_released_twice_stops)
{
    begin(13);
    scene.keeps = true;
    link_of(0, 1)->replay = 0;
    send(0, 1, 1); /* kept in the ring, too: the first of its direction is */
    pass_ns(MS);
    post_release(scene.post, scene.kept);
    post_release(scene.post, scene.kept);
    post_release(scene.post, scene.kept);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("post");
    TCase *tests = tcase_create("post");
    tcase_add_test(tests, without_faults_each_arrives_once);
    tcase_add_test(tests, entries_are_copied);
    tcase_add_test(tests, a_cut_counts_when_sent_and_when_it_arrives);
    tcase_add_test(tests, some_are_lost);
    tcase_add_test(tests, some_come_twice);
    tcase_add_test(tests, some_are_held_back);
    tcase_add_test(tests, old_ones_come_again);
    tcase_add_test(tests, a_break_is_told_and_loses_what_is_under_way);
    tcase_add_test(tests, parcels_are_used_again);
    tcase_add_test(tests, a_seed_repeats);
    tcase_add_test(tests, nothing_is_left);
    tcase_add_test_raise_signal(tests, a_parcel_released_twice_stops, SIGABRT);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
