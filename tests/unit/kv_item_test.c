#include "kv/item.h"

#include <check.h>
#include <stdlib.h>

#include "kv/kv.h"
#include "tests/unit/kv_counting_allocator.h"

#define VALUE_MAX 100000

static const uint8_t hash_key[KV_HASH_KEY_SIZE] = "0123456789abcdef";

struct bench {
    struct counting counting;
    struct memory memory;
    struct items items;
    uint8_t key[KV_KEY_SIZE_MAX], value[VALUE_MAX];
};

static void start(struct bench *bench)
{
    bench->counting = (struct counting){ .fill = 0xa5 };
    bench->memory = (struct memory){ .allocator = counting_allocator(&bench->counting) };
    items_init(&bench->items, &bench->memory, hash_key);
    for (size_t i = 0; i < sizeof(bench->key); i++)
        bench->key[i] = (uint8_t)(i * 31 + 5);
    for (size_t i = 0; i < sizeof(bench->value); i++)
        bench->value[i] = (uint8_t)(i * 17 + 3);
}

static void end(struct bench *bench)
{
    items_release(&bench->items);
    ck_assert_uint_eq(bench->counting.blocks, 0);
    ck_assert_uint_eq(bench->memory.bytes, 0);
}

static struct item_content content_of(const struct bench *bench, uint32_t key_size,
                                      uint32_t value_size)
{
    return (struct item_content){
        .key = key_size > 0 ? bench->key : NULL,
        .value = value_size > 0 ? bench->value : NULL,
        .key_size = key_size,
        .value_size = value_size,
        .slot = kv_slot(bench->key, key_size),
        .key_hash = hash_bytes(&bench->items.key_hash, bench->key, key_size),
        .value_hash = hash_bytes(&bench->items.value_hash, bench->value, value_size),
        .version = UINT64_C(0xfedcba9876543210),
    };
}

static void check_item(const struct bench *bench, uint32_t item, const struct item_content *content,
                       uint32_t heap_place)
{
    struct item_view view;
    item_view(&bench->items, item, &view);
    ck_assert_uint_eq(view.key_size, content->key_size);
    ck_assert_uint_eq(view.value_size, content->value_size);
    ck_assert_uint_eq(view.version, content->version);
    ck_assert_int_eq(view.expires, content->expires);
    ck_assert_uint_eq(view.heap_place, content->expires ? heap_place : 0);
    ck_assert(content->key_size == 0 || memcmp(view.key, content->key, view.key_size) == 0);
    ck_assert(content->value_size == 0 || memcmp(view.value, content->value, view.value_size) == 0);
    ck_assert(item_has_key(&bench->items, item, content->key, content->key_size));
    ck_assert_uint_eq(item_key_hash(&bench->items, item), content->key_hash);
    ck_assert_uint_eq(item_value_hash(&bench->items, item), content->value_hash);
    ck_assert_uint_eq(item_slot(&bench->items, item), content->slot);
}

/* 16 bytes of head, 4 more with an expiry, 1024 in all: 750 + 258 is the last short one. */
/* clang-format off */
static const uint32_t sizes[][2] = {
    { 0, 0 },       { 0, 1 },     { 1, 0 },     { 1, 1 },       { 16, 32 },      { 250, 754 },
    { 250, 755 },   { 250, 758 }, { 250, 759 }, { 255, 0 },     { 255, 749 },    { 255, 753 },
    { 255, 754 },   { 256, 0 },   { 256, 1 },   { 1, 1003 },    { 1, 1004 },     { 1, 1007 },
    { 1, 1008 },    { 0, 1008 },  { 0, 1009 },  { 1, 65535 },   { 1, 65536 },    { 65535, 0 },
    { 65535, 100 }, { 300, 300 }, { 2, VALUE_MAX },             { 65535, VALUE_MAX },
};
/* clang-format on */
#define SIZES ((int)(sizeof(sizes) / sizeof(sizes[0])))

START_TEST(an_item_says_what_was_put)
{
    static struct bench bench;
    start(&bench);
    for (int expires = 0; expires < 2; expires++) {
        struct item_content content = content_of(&bench, sizes[_i][0], sizes[_i][1]);
        content.expires = expires == 1;
        uint32_t item = item_put(&bench.items, &content);
        *item_next(&bench.items, item) = 77;
        if (content.expires)
            item_set_heap_place(&bench.items, item, 0xabcdef01);
        check_item(&bench, item, &content, 0xabcdef01);
        ck_assert_uint_eq(*item_next(&bench.items, item), 77);
        ck_assert_uint_eq(bench.counting.bytes, bench.memory.bytes);
        ck_assert_uint_eq(item_drop(&bench.items, item), 0);
    }
    end(&bench);
}
END_TEST

START_TEST(a_key_is_not_taken_for_one_that_differs_by_a_byte_or_in_size)
{
    static struct bench bench;
    start(&bench);
    struct item_content content = content_of(&bench, sizes[_i][0], sizes[_i][1]);
    uint32_t item = item_put(&bench.items, &content);
    uint32_t size = content.key_size;
    ck_assert(!item_has_key(&bench.items, item, bench.key, size + 1));
    if (size > 0) {
        ck_assert(!item_has_key(&bench.items, item, bench.key, size - 1));
        bench.key[size - 1] ^= 1;
        ck_assert(!item_has_key(&bench.items, item, bench.key, size));
    }
    end(&bench);
}
END_TEST

/* clang-format off */
static const struct {
    const char *name;
    uint32_t key_size, value_size;
    bool expires;
    uint32_t new_value_size;
    bool new_expires;
    bool in_place;
} rewrites[] = {
    { "the same size",            16,  32,    false, 32,    false, true },
    { "the same, expiring",       16,  32,    true,  32,    true,  true },
    { "a byte less, same block",  16,  32,    false, 31,    false, true },
    { "less than the block",      16,  32,    false, 28,    false, false },
    { "a byte more",              16,  32,    false, 33,    false, false },
    { "expiry comes",             16,  33,    false, 33,    true,  false },
    { "expiry goes",              16,  32,    true,  32,    false, false },
    { "short to long",            16,  32,    false, 5000,  false, false },
    { "long to short",            16,  5000,  false, 32,    false, false },
    { "long, the same size",      16,  5000,  false, 5000,  false, true },
    { "long, expiring",           16,  5000,  true,  5000,  true,  true },
    { "long, expiry comes",       16,  5000,  false, 5000,  true,  false },
    { "long, a byte less",        16,  5000,  false, 4999,  false, false },
    { "a long key",               300, 5,     false, 5,     false, true },
    { "a long key, a byte more",  300, 5,     false, 6,     false, false },
    { "nothing to nothing",       0,   0,     false, 0,     false, true },
};
/* clang-format on */

START_TEST(an_item_is_rewritten_where_it_is_if_the_block_is_the_same)
{
    static struct bench bench;
    start(&bench);
    struct item_content old = content_of(&bench, rewrites[_i].key_size, rewrites[_i].value_size);
    old.expires = rewrites[_i].expires;
    uint32_t item = item_put(&bench.items, &old);
    *item_next(&bench.items, item) = 77;
    if (old.expires)
        item_set_heap_place(&bench.items, item, 99);

    static uint8_t other[VALUE_MAX];
    memset(other, 0x5c, sizeof(other));
    struct item_content new = old;
    new.value = other;
    new.value_size = rewrites[_i].new_value_size;
    new.value_hash = hash_bytes(&bench.items.value_hash, other, new.value_size);
    new.version = 12;
    new.expires = rewrites[_i].new_expires;

    bool in_place = item_rewrite(&bench.items, item, &new);
    ck_assert_msg(in_place == rewrites[_i].in_place, "%s", rewrites[_i].name);
    check_item(&bench, item, in_place ? &new : &old, 99);
    ck_assert_uint_eq(*item_next(&bench.items, item), 77);
    end(&bench);
}
END_TEST

START_TEST(a_drop_says_which_item_moved_and_the_moved_one_is_whole)
{
    static struct bench bench;
    start(&bench);
    struct item_content contents[3];
    uint32_t handles[3];
    for (uint32_t i = 0; i < 3; i++) {
        contents[i] = content_of(&bench, _i == 0 ? 8 : 300, 20);
        contents[i].version = i;
        contents[i].expires = true;
        handles[i] = item_put(&bench.items, &contents[i]);
        item_set_heap_place(&bench.items, handles[i], 10 + i);
        *item_next(&bench.items, handles[i]) = 100 + i;
    }
    ck_assert_uint_eq(item_drop(&bench.items, handles[0]), handles[2]);
    check_item(&bench, handles[0], &contents[2], 12);
    ck_assert_uint_eq(*item_next(&bench.items, handles[0]), 102);
    check_item(&bench, handles[1], &contents[1], 11);
    ck_assert_uint_eq(item_drop(&bench.items, handles[1]), 0);
    end(&bench);
}
END_TEST

START_TEST(release_takes_back_the_bodies_of_long_items_too)
{
    static struct bench bench;
    start(&bench);
    for (uint32_t i = 0; i < 2000; i++) {
        struct item_content content = content_of(&bench, i, i % 3 == 0 ? 2000 : 20);
        (void)item_put(&bench.items, &content);
    }
    end(&bench);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("item");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, an_item_says_what_was_put, 0, SIZES);
    tcase_add_loop_test(tc, a_key_is_not_taken_for_one_that_differs_by_a_byte_or_in_size, 0,
                        SIZES - 1);
    tcase_add_loop_test(tc, an_item_is_rewritten_where_it_is_if_the_block_is_the_same, 0,
                        (int)(sizeof(rewrites) / sizeof(rewrites[0])));
    tcase_add_loop_test(tc, a_drop_says_which_item_moved_and_the_moved_one_is_whole, 0, 2);
    tcase_add_test(tc, release_takes_back_the_bodies_of_long_items_too);

    Suite *suite = suite_create("kv_item");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
