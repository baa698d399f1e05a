#include "kv/table.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/unit/kv_counting_allocator.h"

#define KEYS_MAX 5000

static const uint8_t hash_key[KV_HASH_KEY_SIZE] = "0123456789abcdef";

/* A table whose keys are numbers. */
struct bench {
    struct counting counting;
    struct memory memory;
    struct items items;
    struct table table;
    bool is_in[KEYS_MAX];
    uint32_t visits[KEYS_MAX];
    uint32_t random;
};

static void start(struct bench *bench, uint32_t seed)
{
    memset(bench, 0, sizeof(*bench));
    bench->counting.fill = 0xa5;
    bench->memory.allocator = counting_allocator(&bench->counting);
    items_init(&bench->items, &bench->memory, hash_key);
    table_init(&bench->table);
    bench->random = seed;
}

static void end(struct bench *bench)
{
    table_release(&bench->table, &bench->memory);
    items_release(&bench->items);
    ck_assert_uint_eq(bench->counting.blocks, 0);
}

static uint32_t any(struct bench *bench, uint32_t below)
{
    bench->random = bench->random * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)bench->random * below >> 32);
}

static uint64_t hash_of(const struct bench *bench, uint32_t key)
{
    return hash_bytes(&bench->items.key_hash, (const uint8_t *)&key, sizeof(key));
}

static uint32_t *find(const struct bench *bench, uint32_t key)
{
    return table_find(&bench->table, &bench->items, hash_of(bench, key), (const uint8_t *)&key,
                      sizeof(key));
}

static void add(struct bench *bench, uint32_t key)
{
    if (bench->is_in[key])
        return;
    struct item_content content = {
        .key = (const uint8_t *)&key,
        .key_size = sizeof(key),
    };
    uint32_t item = item_put(&bench->items, &content);
    table_add(&bench->table, &bench->items, hash_of(bench, key), item);
    bench->is_in[key] = true;
}

static void drop(struct bench *bench, uint32_t key)
{
    if (!bench->is_in[key])
        return;
    uint32_t *link = find(bench, key);
    if (link == NULL)
        ck_abort_msg("key %u is lost", key);
    uint32_t item = *link;
    table_remove(&bench->table, &bench->items, link);
    uint32_t moved = item_drop(&bench->items, item);
    if (moved != ITEM_NONE) {
        uint64_t hash = item_key_hash(&bench->items, item);
        *table_link(&bench->table, &bench->items, hash, moved) = item;
    }
    bench->is_in[key] = false;
}

static uint32_t key_of(const struct bench *bench, uint32_t item)
{
    struct item_view view;
    item_view(&bench->items, item, &view);
    uint32_t key;
    memcpy(&key, view.key, sizeof(key));
    return key;
}

/* Every item is in the bucket that its hash names, by the definition of linear hashing. */
static void check_buckets(const struct bench *bench)
{
    uint32_t count = bench->table.buckets.count;
    uint64_t power = 1;
    while (power * 2 <= count)
        power *= 2;
    uint32_t seen = 0;
    for (uint32_t bucket = 0; bucket < count; bucket++) {
        uint32_t item = *(const uint32_t *)array_at(&bench->table.buckets, bucket);
        for (; item != ITEM_NONE; item = *item_next(&bench->items, item)) {
            uint64_t hash = item_key_hash(&bench->items, item);
            uint64_t named = hash % (power * 2) < count ? hash % (power * 2) : hash % power;
            if (named != bucket)
                ck_abort_msg("a key of bucket %" PRIu64 " is in %u of %u", named, bucket, count);
            if (!bench->is_in[key_of(bench, item)])
                ck_abort_msg("a key that was removed is in bucket %u", bucket);
            seen++;
        }
    }
    ck_assert_uint_eq(seen, bench->table.keys);
}

static void check_size(const struct bench *bench)
{
    uint64_t keys = bench->table.keys;
    uint64_t buckets = bench->table.buckets.count;
    if (keys > buckets || keys * 4 < buckets * 3)
        ck_abort_msg("%" PRIu64 " keys, %" PRIu64 " buckets", keys, buckets);
}

START_TEST(every_key_is_in_its_bucket_at_every_size)
{
    static struct bench bench;
    start(&bench, 1);
    for (uint32_t key = 0; key < 300; key++) {
        add(&bench, key);
        check_buckets(&bench);
        check_size(&bench);
    }
    for (uint32_t i = 0; i < 300; i++) {
        drop(&bench, i * 7 % 300);
        check_buckets(&bench);
        check_size(&bench);
    }
    ck_assert_uint_eq(bench.table.buckets.count, 0);
    end(&bench);
}
END_TEST

START_TEST(what_is_in_is_found_and_what_is_not_is_not)
{
    static struct bench bench;
    start(&bench, (uint32_t)_i);
    for (int wave = 0; wave < 4; wave++) {
        for (int step = 0; step < 10000; step++) {
            uint32_t key = any(&bench, KEYS_MAX);
            if (any(&bench, 10) < (wave % 2 == 0 ? 8u : 2u))
                add(&bench, key);
            else
                drop(&bench, key);
        }
        check_buckets(&bench);
        check_size(&bench);
        for (uint32_t key = 0; key < KEYS_MAX; key++) {
            uint32_t *link = find(&bench, key);
            if ((link != NULL) != bench.is_in[key])
                ck_abort_msg("key %u", key);
            if (link != NULL && key_of(&bench, *link) != key)
                ck_abort_msg("key %u finds %u", key, key_of(&bench, *link));
        }
    }
    end(&bench);
}
END_TEST

START_TEST(a_write_cuts_one_bucket_or_joins_two_at_most)
{
    static struct bench bench;
    start(&bench, 1);
    for (uint32_t key = 0; key < KEYS_MAX; key++) {
        uint32_t before = bench.table.buckets.count;
        add(&bench, key);
        if (bench.table.buckets.count - before > 1)
            ck_abort_msg("%u to %u buckets", before, bench.table.buckets.count);
    }
    for (uint32_t key = 0; key < KEYS_MAX; key++) {
        uint32_t before = bench.table.buckets.count;
        drop(&bench, key);
        if (before - bench.table.buckets.count > 2)
            ck_abort_msg("%u to %u buckets", before, bench.table.buckets.count);
    }
    end(&bench);
}
END_TEST

static void count_visit(void *context, uint32_t item)
{
    struct bench *bench = (struct bench *)context;
    bench->visits[key_of(bench, item)]++;
}

static uint64_t scan(struct bench *bench, uint64_t cursor)
{
    return table_scan(&bench->table, &bench->items, cursor, count_visit, bench);
}

START_TEST(a_scan_of_a_table_at_rest_visits_each_key_once)
{
    static struct bench bench;
    start(&bench, 1);
    for (uint32_t keys = 0; keys < 200; keys++) {
        memset(bench.visits, 0, sizeof(bench.visits));
        uint64_t cursor = 0;
        uint32_t steps = 0;
        do {
            cursor = scan(&bench, cursor);
            steps++;
        } while (cursor != 0);
        ck_assert_uint_eq(steps, keys == 0 ? 1 : bench.table.buckets.count);
        for (uint32_t key = 0; key < keys; key++)
            if (bench.visits[key] != 1)
                ck_abort_msg("key %u of %u: %u visits", key, keys, bench.visits[key]);
        add(&bench, keys);
    }
    end(&bench);
}
END_TEST

/* The first 100 keys stay; the others come and go between the steps, in numbers that make the table
 * grow and shrink by large factors while the cursor is under way. */
START_TEST(a_scan_visits_a_key_that_stays_once_however_the_table_grows_and_shrinks)
{
    static struct bench bench;
    start(&bench, (uint32_t)_i);
    for (uint32_t key = 0; key < 100; key++)
        add(&bench, key);
    if (_i % 2 == 1)
        for (uint32_t key = 100; key < KEYS_MAX; key++)
            add(&bench, key);

    uint64_t cursor = 0;
    uint32_t steps = 0;
    uint32_t least = UINT32_MAX, most = 0;
    do {
        uint64_t next = scan(&bench, cursor);
        if (next != 0 && next <= cursor)
            ck_abort_msg("the cursor goes back");
        cursor = next;
        bool grows = any(&bench, 2) == 0;
        uint32_t changes = any(&bench, any(&bench, 20) == 0 ? KEYS_MAX : 50);
        for (uint32_t i = 0; i < changes; i++) {
            uint32_t key = 100 + any(&bench, KEYS_MAX - 100);
            if (grows)
                add(&bench, key);
            else
                drop(&bench, key);
        }
        uint32_t count = bench.table.buckets.count;
        least = count < least ? count : least;
        most = count > most ? count : most;
        steps++;
    } while (cursor != 0);

    ck_assert_uint_gt(steps, 10);
    ck_assert_uint_gt(most, least * 2); /* or nothing was tested */
    for (uint32_t key = 0; key < 100; key++)
        ck_assert_msg(bench.visits[key] == 1, "key %u: %u visits", key, bench.visits[key]);
    end(&bench);
}
END_TEST

START_TEST(a_cursor_means_the_same_whatever_the_size_of_the_table)
{
    static struct bench small, large;
    start(&small, 1);
    start(&large, 1);
    for (uint32_t key = 0; key < KEYS_MAX; key++)
        add(&large, key);
    for (uint32_t key = 0; key < 500; key++)
        add(&small, key * 3);

    uint64_t random = UINT64_C(88172645463325252);
    for (int round = 0; round < 20; round++) {
        memset(small.visits, 0, sizeof(small.visits));
        memset(large.visits, 0, sizeof(large.visits));
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t cursor = random;
        while (cursor != 0)
            cursor = scan(&small, cursor);
        for (cursor = random; cursor != 0;)
            cursor = scan(&large, cursor);
        for (uint32_t key = 0; key < 500; key++)
            if (small.visits[key * 3] != large.visits[key * 3])
                ck_abort_msg("key %u", key * 3);
    }
    end(&small);
    end(&large);
}
END_TEST

START_TEST(a_link_to_an_item_that_is_not_there_stops)
{
    static struct bench bench;
    start(&bench, 1);
    add(&bench, 1);
    (void)table_link(&bench.table, &bench.items, hash_of(&bench, 1), 12345);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("table");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, every_key_is_in_its_bucket_at_every_size);
    tcase_add_loop_test(tc, what_is_in_is_found_and_what_is_not_is_not, 0, 4);
    tcase_add_test(tc, a_write_cuts_one_bucket_or_joins_two_at_most);
    tcase_add_test(tc, a_scan_of_a_table_at_rest_visits_each_key_once);
    tcase_add_loop_test(tc, a_scan_visits_a_key_that_stays_once_however_the_table_grows_and_shrinks,
                        0, 12);
    tcase_add_test(tc, a_cursor_means_the_same_whatever_the_size_of_the_table);
    tcase_add_test_raise_signal(tc, a_link_to_an_item_that_is_not_there_stops, SIGABRT);

    Suite *suite = suite_create("kv_table");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
