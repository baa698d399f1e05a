#include "kv/expiry.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/unit/kv_counting_allocator.h"

#define ENTRIES_MAX 3000
#define KEY_SIZE 300 /* long items, which store the hash that they are given */

static const uint8_t hash_key[KV_HASH_KEY_SIZE] = "0123456789abcdef";

/* A heap, and what should be in it in no order at all. */
struct bench {
    struct counting counting;
    struct memory memory;
    struct items items;
    struct expiry expiry;
    struct expiry_key list[ENTRIES_MAX];
    uint32_t count;
    uint32_t random;
};

static void start(struct bench *bench, uint32_t seed)
{
    memset(bench, 0, sizeof(*bench));
    bench->counting.fill = 0xa5;
    bench->memory.allocator = counting_allocator(&bench->counting);
    items_init(&bench->items, &bench->memory, hash_key);
    expiry_init(&bench->expiry);
    bench->random = seed;
}

static void end(struct bench *bench)
{
    expiry_release(&bench->expiry, &bench->memory);
    items_release(&bench->items);
    ck_assert_uint_eq(bench->counting.blocks, 0);
}

static uint32_t any(struct bench *bench, uint32_t below)
{
    bench->random = bench->random * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)bench->random * below >> 32);
}

static uint32_t place_of(const struct bench *bench, uint32_t item)
{
    struct item_view view;
    item_view(&bench->items, item, &view);
    return view.heap_place;
}

/* The order, from its definition. */
static bool dies_before(const struct bench *bench, const struct expiry_key *a,
                        const struct expiry_key *b)
{
    if (a->expires_ms != b->expires_ms)
        return a->expires_ms < b->expires_ms;
    if (a->hash != b->hash)
        return a->hash < b->hash;
    struct item_view x, y;
    item_view(&bench->items, a->item, &x);
    item_view(&bench->items, b->item, &y);
    for (uint32_t i = 0; i < x.key_size && i < y.key_size; i++)
        if (x.key[i] != y.key[i])
            return x.key[i] < y.key[i];
    return x.key_size < y.key_size;
}

static void check_first(const struct bench *bench)
{
    uint64_t expires_ms = 42;
    uint32_t first = expiry_first(&bench->expiry, &expires_ms);
    if (bench->count == 0) {
        ck_assert_uint_eq(first, ITEM_NONE);
        ck_assert_uint_eq(expires_ms, 42);
        return;
    }
    const struct expiry_key *least = &bench->list[0];
    for (uint32_t i = 1; i < bench->count; i++)
        if (dies_before(bench, &bench->list[i], least))
            least = &bench->list[i];
    if (first != least->item || expires_ms != least->expires_ms)
        ck_abort_msg("of %u the first dies at %" PRIu64 ", not at %" PRIu64, bench->count,
                     least->expires_ms, expires_ms);
}

static void check_places(const struct bench *bench)
{
    for (uint32_t i = 0; i < bench->count; i++) {
        uint32_t place = place_of(bench, bench->list[i].item);
        if (expiry_at(&bench->expiry, place) != bench->list[i].expires_ms)
            ck_abort_msg("entry %u of %u is not at its place", i, bench->count);
    }
}

/* Few expiries, few hashes with the same top bits: every kind of tie is common. */
static void add(struct bench *bench, uint64_t expires_ms)
{
    uint8_t key[KEY_SIZE + 8];
    memset(key, 'k', sizeof(key));
    uint32_t serial = bench->random;
    memcpy(key + KEY_SIZE - sizeof(serial), &serial, sizeof(serial));
    struct item_content content = {
        .key = key,
        .key_size = KEY_SIZE + any(bench, 8),
        .key_hash = UINT64_C(0x1234000000000000) * any(bench, 3) + any(bench, 3),
        .expires = true,
    };
    struct expiry_key added = {
        .item = item_put(&bench->items, &content),
        .expires_ms = expires_ms,
        .hash = content.key_hash,
    };
    expiry_add(&bench->expiry, &bench->items, &added);
    bench->list[bench->count++] = added;
}

/* Leave the heap, then the items: another may move, as in the store. */
static void drop(struct bench *bench, uint32_t i)
{
    uint32_t item = bench->list[i].item;
    expiry_remove(&bench->expiry, &bench->items, place_of(bench, item));
    bench->list[i] = bench->list[--bench->count];
    uint32_t moved = item_drop(&bench->items, item);
    if (moved == ITEM_NONE)
        return;
    expiry_moved(&bench->expiry, place_of(bench, item), item);
    for (i = 0; i < bench->count; i++)
        if (bench->list[i].item == moved)
            bench->list[i].item = item;
}

static uint64_t any_expiry(struct bench *bench)
{
    return any(bench, 20) == 0 ? UINT64_MAX - any(bench, 3) : 1 + any(bench, 50);
}

START_TEST(the_first_is_the_least_whatever_is_added_removed_and_changed)
{
    static struct bench bench;
    start(&bench, (uint32_t)_i);
    for (int wave = 0; wave < 4; wave++) {
        for (int step = 0; step < 1500; step++) {
            uint32_t action = any(&bench, 10);
            if (action < (wave % 2 == 0 ? 6u : 2u) && bench.count < ENTRIES_MAX) {
                add(&bench, any_expiry(&bench));
            } else if (action < 8 && bench.count > 0) {
                drop(&bench, any(&bench, bench.count));
            } else if (bench.count > 0) {
                struct expiry_key *changed = &bench.list[any(&bench, bench.count)];
                changed->expires_ms = any_expiry(&bench);
                expiry_change(&bench.expiry, &bench.items, place_of(&bench, changed->item),
                              changed->expires_ms);
            }
            if (step % 10 == 0)
                check_first(&bench);
        }
        check_places(&bench);
    }
    end(&bench);
}
END_TEST

START_TEST(the_order_in_which_keys_leave_is_the_order_of_their_content)
{
    static struct bench bench;
    start(&bench, (uint32_t)_i);
    while (bench.count < ENTRIES_MAX / 2)
        add(&bench, 1 + any(&bench, 3)); /* some 500 for each expiry, 9 hashes */
    while (bench.count > 0) {
        check_first(&bench);
        uint64_t expires_ms;
        uint32_t first = expiry_first(&bench.expiry, &expires_ms);
        for (uint32_t i = 0; i < bench.count; i++) {
            if (bench.list[i].item == first) {
                drop(&bench, i);
                break;
            }
        }
    }
    end(&bench);
}
END_TEST

START_TEST(never_is_no_expiry)
{
    static struct bench bench;
    start(&bench, 1);
    add(&bench, 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("expiry");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, the_first_is_the_least_whatever_is_added_removed_and_changed, 0, 6);
    tcase_add_loop_test(tc, the_order_in_which_keys_leave_is_the_order_of_their_content, 0, 2);
    tcase_add_test_raise_signal(tc, never_is_no_expiry, SIGABRT);

    Suite *suite = suite_create("kv_expiry");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
