/* The store with many keys in one slot: what a call costs, and a walk while keys come and go. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "kv/array.h"
#include "kv/kv.h"
#include "kv/slab.h"
#include "tests/unit/kv_counting_allocator.h"

static const uint8_t hash_key[KV_HASH_KEY_SIZE] = "sixteen byte key";

static struct kv *open_kv(struct counting *counting)
{
    struct kv_allocator allocator = counting_allocator(counting);
    return kv_new(&allocator, hash_key);
}

static void close_kv(struct kv *kv, struct counting *counting)
{
    struct kv_stats stats;
    kv_stats(kv, &stats);
    ck_assert_uint_eq(stats.memory_bytes, counting->bytes);
    kv_free(kv);
    ck_assert_uint_eq(counting->blocks, 0);
    ck_assert_uint_eq(counting->bytes, 0);
}

static uint64_t key_count(const struct kv *kv)
{
    struct kv_stats stats;
    kv_stats(kv, &stats);
    return stats.keys;
}

#define MANY 1000000

static void many_key(char *key, uint32_t i)
{
    memcpy(key, "{t}", 3);
    for (size_t at = 16; at > 3; at--) {
        key[at - 1] = (char)('0' + i % 10);
        i /= 10;
    }
}

static struct kv_command many_command(enum kv_command_type type, const char *key)
{
    static const uint8_t value[32] = { 1, 2, 3 };
    struct kv_command command = { .type = type, .key = (const uint8_t *)key, .key_size = 16 };
    if (type == KV_SET) {
        command.value = value;
        command.value_size = sizeof(value);
    }
    return command;
}

/* What one command may ask of the allocator: a chunk of items, and for each of the three arrays
 * (the directory of chunks, the buckets, the heap) a segment, a page and a root. */
#define ELEMENTS_SIZE (sizeof(struct slab_chunk) + sizeof(uint32_t) + 14)
#define ASKED_MAX \
    (SLAB_CHUNK_SIZE + ARRAY_SEGMENT * ELEMENTS_SIZE + 3 * (ARRAY_PAGE * sizeof(void *) + 1024))
#define CALLS_MAX 16

static void check_asked(const struct counting *counting, uint32_t i)
{
    if (counting->bytes_asked > ASKED_MAX || counting->calls > CALLS_MAX)
        ck_abort_msg("command %u asks for %" PRIu64 " bytes in %" PRIu64 " calls", i,
                     counting->bytes_asked, counting->calls);
}

START_TEST(no_command_asks_for_more_than_a_chunk_or_so_even_if_one_slot_holds_a_million_keys)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    uint64_t empty = counting.bytes;
    char key[16];
    const uint32_t keys = _i == 0 ? MANY : MANY / 4;
    for (uint32_t i = 0; i < keys; i++) {
        many_key(key, i);
        struct kv_command command = many_command(KV_SET, key);
        command.ttl_ms = _i == 0 ? 0 : 1 + i % 1000 * 100;
        struct kv_result result;
        counting.bytes_asked = counting.calls = 0;
        kv_apply(kv, &command, &result);
        check_asked(&counting, i);
    }
    uint32_t slot = kv_slot((const uint8_t *)key, sizeof(key));
    ck_assert_uint_eq(kv_slot_keys(kv, slot), keys);

    uint64_t each = (counting.bytes - empty) / keys - 16 - 32;
    ck_assert_uint_le(each, _i == 0 ? 28 : 40); /* the aim of the design */

    for (uint32_t i = 0; _i == 0 && i < keys; i++) {
        many_key(key, i);
        struct kv_command command = many_command(KV_DELETE, key);
        struct kv_result result;
        counting.bytes_asked = counting.calls = 0;
        kv_apply(kv, &command, &result);
        check_asked(&counting, i);
    }
    for (uint32_t i = 0; key_count(kv) > 0; i++) {
        counting.bytes_asked = counting.calls = 0;
        kv_begin(kv, 1000000);
        if (counting.bytes_asked > KV_EXPIRE_MAX * 1024 || counting.calls > KV_EXPIRE_MAX * 4)
            ck_abort_msg("begin %u asks for %" PRIu64 " bytes in %" PRIu64 " calls", i,
                         counting.bytes_asked, counting.calls);
    }
    /* A spare chunk, and the directory of those that there were. */
    ck_assert_uint_le(counting.bytes - empty, SLAB_CHUNK_SIZE + 4096 * sizeof(struct slab_chunk));
    close_kv(kv, &counting);
}
END_TEST

/* The walk over one slot while it grows and shrinks; kv_table_test.c has it without the store. */

#define STAY 200
#define COME 4000

struct stay_scan {
    int visits[STAY];
    uint32_t visits_in_step;
};

static void count_visit(void *context, const uint8_t *key, size_t key_size,
                        const struct kv_value *value)
{
    struct stay_scan *scan = (struct stay_scan *)context;
    (void)value;
    char text[32] = "";
    memcpy(text, key, key_size);
    unsigned i;
    if (sscanf(text, "{t}stay%u", &i) == 1)
        scan->visits[i]++;
    scan->visits_in_step++;
}

static void apply(struct kv *kv, enum kv_command_type type, const char *key)
{
    struct kv_command command = {
        .type = type,
        .key = (const uint8_t *)key,
        .key_size = (uint16_t)strlen(key),
    };
    struct kv_result result;
    kv_apply(kv, &command, &result);
}

START_TEST(a_scan_visits_every_key_that_stays_while_others_come_and_go)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    struct stay_scan scan = { .visits_in_step = 0 };
    uint32_t slot = kv_slot((const uint8_t *)"{t}", 3);
    uint32_t random = (uint32_t)_i;
    char key[32];
    for (int i = 0; i < STAY; i++) {
        (void)snprintf(key, sizeof(key), "{t}stay%d", i);
        apply(kv, KV_SET, key);
    }
    uint64_t cursor = 0;
    do {
        scan.visits_in_step = 0;
        cursor = kv_scan(kv, slot, cursor, count_visit, &scan);
        if (scan.visits_in_step > 100)
            ck_abort_msg("%u keys in one step", scan.visits_in_step);

        random = random * 1664525u + 1013904223u;
        bool grows = random >> 31;
        for (uint32_t changes = random >> 8 & 2047; changes > 0; changes--) {
            random = random * 1664525u + 1013904223u;
            (void)snprintf(key, sizeof(key), "{t}come%u", (random >> 8) % COME);
            apply(kv, grows ? KV_SET : KV_DELETE, key);
        }
    } while (cursor != 0);
    for (int i = 0; i < STAY; i++)
        ck_assert_msg(scan.visits[i] >= 1, "key %d is missed", i);
    close_kv(kv, &counting);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("bounds");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(
        tc, no_command_asks_for_more_than_a_chunk_or_so_even_if_one_slot_holds_a_million_keys, 0,
        2);
    tcase_add_loop_test(tc, a_scan_visits_every_key_that_stays_while_others_come_and_go, 0, 20);

    Suite *suite = suite_create("kv_bounds");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
