/* The rules of the store, one by one. */
#include "kv/kv.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "kv/digest.h"
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

static struct kv_command command_of(enum kv_command_type type, const char *key)
{
    return (struct kv_command){
        .type = type,
        .key = (const uint8_t *)key,
        .key_size = (uint16_t)strlen(key),
    };
}

static struct kv_result set(struct kv *kv, const char *key, const char *value, uint64_t ttl_ms)
{
    struct kv_command command = command_of(KV_SET, key);
    command.value = (const uint8_t *)value;
    command.value_size = (uint32_t)strlen(value);
    command.ttl_ms = ttl_ms;
    struct kv_result result;
    kv_apply(kv, &command, &result);
    return result;
}

static struct kv_result cas(struct kv *kv, const char *key, uint64_t compare)
{
    struct kv_command command = command_of(KV_CAS, key);
    command.compare = compare;
    struct kv_result result;
    kv_apply(kv, &command, &result);
    return result;
}

static struct kv_result drop(struct kv *kv, const char *key)
{
    struct kv_command command = command_of(KV_DELETE, key);
    struct kv_result result;
    kv_apply(kv, &command, &result);
    return result;
}

static bool get(const struct kv *kv, const char *key, struct kv_value *value)
{
    return kv_get(kv, (const uint8_t *)key, strlen(key), value);
}

static uint64_t key_count(const struct kv *kv)
{
    struct kv_stats stats;
    kv_stats(kv, &stats);
    return stats.keys;
}

#define A_KEY "key"

/* What is done to the key before, and what a cas on it then says. */
/* clang-format off */
static const struct {
    const char *name;
    enum { ABSENT, PRESENT, EXPIRED, DELETED } state;
    uint64_t compare;
    enum kv_status status;
    uint64_t version;
} cas_rows[] = {
    { "absent, must be absent",       ABSENT,  0, KV_OK,              2 },
    { "absent, must have a version",  ABSENT,  1, KV_NOT_FOUND,       0 },
    { "present, must be absent",      PRESENT, 0, KV_VERSION_DIFFERS, 2 },
    { "present, the right version",   PRESENT, 2, KV_OK,              3 },
    { "present, an older version",    PRESENT, 1, KV_VERSION_DIFFERS, 2 },
    { "present, a version to come",   PRESENT, 3, KV_VERSION_DIFFERS, 2 },
    { "dead, must be absent",         EXPIRED, 0, KV_OK,              3 },
    { "dead, the version it had",     EXPIRED, 2, KV_NOT_FOUND,       0 },
    { "deleted, must be absent",      DELETED, 0, KV_OK,              3 },
    { "deleted, the version it had",  DELETED, 2, KV_NOT_FOUND,       0 },
};
/* clang-format on */

/* Dead keys in front of A_KEY in the order of expiry, so that the latter is not yet taken back. */
static void die_in_a_queue(struct kv *kv)
{
    set(kv, A_KEY, "old", 100);
    struct kv_stats before, after;
    kv_stats(kv, &before);
    for (int i = 0; i < KV_EXPIRE_MAX; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "early%d", i);
        set(kv, key, "", 1);
    }
    kv_begin(kv, 1100);
    kv_stats(kv, &after);
    ck_assert_uint_eq(after.keys, before.keys);
    ck_assert(kv_has_dead(kv));
}

START_TEST(cas_compares_the_version_of_what_is_alive)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    kv_begin(kv, 1000);
    set(kv, "other", "takes version 1", 0);
    uint64_t lost = 0; /* versions given to others meanwhile */
    if (cas_rows[_i].state == PRESENT || cas_rows[_i].state == DELETED)
        set(kv, A_KEY, "old", 0);
    if (cas_rows[_i].state == DELETED)
        drop(kv, A_KEY);
    if (cas_rows[_i].state == EXPIRED) {
        die_in_a_queue(kv);
        lost = KV_EXPIRE_MAX;
    }
    struct kv_result result = cas(kv, A_KEY, cas_rows[_i].compare);
    ck_assert_msg(result.status == cas_rows[_i].status, "%s: %d", cas_rows[_i].name, result.status);
    uint64_t expected = cas_rows[_i].version;
    if (result.status == KV_OK)
        expected += lost;
    ck_assert_msg(result.version == expected, "%s: version %" PRIu64, cas_rows[_i].name,
                  result.version);
    struct kv_value value;
    if (result.status == KV_OK) {
        ck_assert(get(kv, A_KEY, &value));
        ck_assert_uint_eq(value.version, result.version);
        ck_assert_uint_eq(value.expires_ms, 0);
    }
    close_kv(kv, &counting);
}
END_TEST

START_TEST(each_set_and_cas_gives_the_next_version_and_nothing_else_does)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    ck_assert_uint_eq(set(kv, "a", "", 0).version, 1);
    ck_assert_uint_eq(set(kv, "b", "", 0).version, 2);
    ck_assert_uint_eq(set(kv, "a", "", 0).version, 3);
    ck_assert_int_eq(cas(kv, "a", 2).status, KV_VERSION_DIFFERS);
    ck_assert_int_eq(cas(kv, "c", 2).status, KV_NOT_FOUND);
    ck_assert_uint_eq(cas(kv, "a", 3).version, 4);
    ck_assert_uint_eq(drop(kv, "a").version, 0);
    ck_assert_int_eq(drop(kv, "a").status, KV_NOT_FOUND);
    ck_assert_uint_eq(cas(kv, "a", 0).version, 5);
    struct kv_stats stats;
    kv_stats(kv, &stats);
    ck_assert_uint_eq(stats.last_version, 5);
    close_kv(kv, &counting);
}
END_TEST

START_TEST(a_key_dies_when_the_clock_reaches_its_expiry_and_not_before)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    kv_begin(kv, 1000);
    set(kv, "a", "x", 500);
    struct kv_value value;
    kv_begin(kv, 1499);
    ck_assert(get(kv, "a", &value));
    ck_assert_uint_eq(value.expires_ms, 1500);
    ck_assert(!kv_has_dead(kv));
    kv_begin(kv, 1500);
    ck_assert(!get(kv, "a", &value));
    ck_assert_uint_eq(key_count(kv), 0);
    close_kv(kv, &counting);
}
END_TEST

START_TEST(a_clock_that_goes_back_changes_nothing)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    kv_begin(kv, 1000);
    kv_begin(kv, 10);
    set(kv, "a", "x", 500);
    struct kv_value value;
    ck_assert(get(kv, "a", &value));
    ck_assert_uint_eq(value.expires_ms, 1500);
    struct kv_stats stats;
    kv_stats(kv, &stats);
    ck_assert_uint_eq(stats.clock_ms, 1000);
    ck_assert_uint_eq(stats.next_expiry_ms, 1500);
    close_kv(kv, &counting);
}
END_TEST

/* clang-format off */
static const struct {
    const char *name;
    uint64_t clock_ms, ttl_ms, expires_ms;
    bool alive;
} ttl_rows[] = {
    { "never",                        5,              0,              0,              true },
    { "soon",                         5,              1,              6,              true },
    { "the end of time",              5,              UINT64_MAX,     UINT64_MAX - 1, true },
    { "the number after the last",    5,              UINT64_MAX - 5, UINT64_MAX - 1, true },
    { "just before it",               5,              UINT64_MAX - 6, UINT64_MAX - 1, true },
    { "a little before",              5,              UINT64_MAX - 7, UINT64_MAX - 2, true },
    { "a clock near its end",         UINT64_MAX - 9, 100,            UINT64_MAX - 1, true },
    { "a clock at the last expiry",   UINT64_MAX - 1, 1,              0,              false },
    { "a clock at its end",           UINT64_MAX,     1,              0,              false },
    { "a clock at its end, for ever", UINT64_MAX,     0,              0,              true },
};
/* clang-format on */

START_TEST(an_expiry_beyond_64_bits_is_the_last_one)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    kv_begin(kv, ttl_rows[_i].clock_ms);
    ck_assert_int_eq(set(kv, "a", "x", ttl_rows[_i].ttl_ms).status, KV_OK);
    struct kv_value value;
    ck_assert_msg(get(kv, "a", &value) == ttl_rows[_i].alive, "%s", ttl_rows[_i].name);
    if (ttl_rows[_i].alive)
        ck_assert_msg(value.expires_ms == ttl_rows[_i].expires_ms, "%s: %" PRIu64,
                      ttl_rows[_i].name, value.expires_ms);
    close_kv(kv, &counting);
}
END_TEST

static void count_visit(void *context, const uint8_t *key, size_t key_size,
                        const struct kv_value *value)
{
    (void)key;
    (void)key_size;
    (void)value;
    ++*(int *)context;
}

static int visits_of_slot(const struct kv *kv, const char *key)
{
    int visits = 0;
    uint64_t cursor = 0;
    do {
        cursor =
            kv_scan(kv, kv_slot((const uint8_t *)key, strlen(key)), cursor, count_visit, &visits);
    } while (cursor != 0);
    return visits;
}

START_TEST(a_dead_key_is_gone_for_everyone_before_its_memory_is)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    kv_begin(kv, 1000);
    die_in_a_queue(kv);
    struct kv_value value;
    ck_assert(!get(kv, A_KEY, &value));
    ck_assert_int_eq(drop(kv, A_KEY).status, KV_NOT_FOUND);
    ck_assert_int_eq(visits_of_slot(kv, A_KEY), 0);
    ck_assert_uint_eq(key_count(kv), 1);

    uint64_t version = set(kv, A_KEY, "new", 0).version; /* replaces the dead one */
    ck_assert_uint_eq(key_count(kv), 1);
    ck_assert_int_eq(visits_of_slot(kv, A_KEY), 1);
    ck_assert(!kv_has_dead(kv));
    kv_begin(kv, 5000);
    ck_assert(get(kv, A_KEY, &value));
    ck_assert_uint_eq(value.version, version);
    close_kv(kv, &counting);
}
END_TEST

START_TEST(one_begin_takes_back_no_more_than_the_limit)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    for (int i = 0; i < 3 * KV_EXPIRE_MAX; i++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "k%d", i);
        set(kv, key, "v", 1 + (uint64_t)(i % 5));
    }
    kv_begin(kv, 100);
    ck_assert_uint_eq(key_count(kv), 2 * KV_EXPIRE_MAX);
    kv_begin(kv, 100);
    ck_assert_uint_eq(key_count(kv), KV_EXPIRE_MAX);
    ck_assert(kv_has_dead(kv));
    kv_begin(kv, 100);
    ck_assert_uint_eq(key_count(kv), 0);
    ck_assert(!kv_has_dead(kv));
    close_kv(kv, &counting);
}
END_TEST

START_TEST(a_key_larger_than_any_is_not_found)
{
    static uint8_t key[KV_KEY_SIZE_MAX + 1];
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    struct kv_value value;
    ck_assert(!kv_get(kv, key, sizeof(key), &value));
    close_kv(kv, &counting);
}
END_TEST

START_TEST(free_accepts_nothing)
{
    kv_free(NULL);
}
END_TEST

/* Computed outside of this program, from the words of kv/digest.h: digests are compared between
 * nodes, perhaps of different versions, and must not change by accident. */
START_TEST(the_digest_of_a_known_state_is_the_known_one)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    uint8_t binary[2048];
    for (size_t i = 0; i < sizeof(binary); i++)
        binary[i] = (uint8_t)i;
    struct kv_command long_value = {
        .type = KV_SET,
        .key = (const uint8_t *)"{t}\0binary",
        .key_size = 10,
        .value = binary,
        .value_size = sizeof(binary),
    };
    struct kv_result result;
    kv_begin(kv, 1000);
    set(kv, "motto", "a first value", 77);
    kv_apply(kv, &long_value, &result);
    set(kv, "motto", "hello", 0);
    set(kv, "soon", "", 250);

    ck_assert_uint_eq(kv_slot((const uint8_t *)"motto", 5), 10374);
    ck_assert(kv_slot_digest(kv, 10374) == UINT64_C(0x5f92b183b2b15b29));
    ck_assert(kv_digest(kv) == UINT64_C(0xd419b1d2cf6eec8c));
    close_kv(kv, &counting);
}
END_TEST

START_TEST(every_part_of_the_state_shows_in_the_digest)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv *kv = open_kv(&counting);
    uint64_t seen[8];
    size_t count = 0;
    seen[count++] = kv_digest(kv);
    kv_begin(kv, 1000);
    seen[count++] = kv_digest(kv); /* the clock */
    set(kv, "a", "x", 0);
    seen[count++] = kv_digest(kv); /* a key */
    set(kv, "a", "x", 0);
    seen[count++] = kv_digest(kv); /* its version */
    drop(kv, "a");
    seen[count++] = kv_digest(kv); /* the version counter: no key is left */
    set(kv, "a", "y", 5);
    seen[count++] = kv_digest(kv);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_msg(seen[i] != seen[j], "states %zu and %zu", j, i);
    close_kv(kv, &counting);
}
END_TEST

START_TEST(each_field_of_an_item_shows_in_its_digest)
{
    struct hash_key key = digest_key(hash_key);
    struct digest_item base = { 1, 2, 3, 4, 5, 6 };
    struct digest_item others[6];
    for (int i = 0; i < 6; i++)
        others[i] = base;
    others[0].key_hash ^= 1;
    others[1].value_hash ^= 1;
    others[2].key_size ^= 1;
    others[3].value_size ^= 1;
    others[4].version ^= 1;
    others[5].expires_ms ^= 1;
    for (int i = 0; i < 6; i++)
        ck_assert_msg(digest_item(&key, &base) != digest_item(&key, &others[i]), "field %d", i);
    ck_assert(digest_slot(&key, 1, 5) != digest_slot(&key, 2, 5));
}
END_TEST

START_TEST(a_slot_that_does_not_exist_stops)
{
    struct counting counting = { .fill = 0xa5 };
    (void)kv_slot_digest(open_kv(&counting), KV_SLOTS);
}
END_TEST

START_TEST(a_command_of_no_type_stops)
{
    struct counting counting = { .fill = 0xa5 };
    struct kv_command command = { .type = (enum kv_command_type)9 };
    struct kv_result result;
    kv_apply(open_kv(&counting), &command, &result);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("store");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, cas_compares_the_version_of_what_is_alive, 0,
                        (int)(sizeof(cas_rows) / sizeof(cas_rows[0])));
    tcase_add_test(tc, each_set_and_cas_gives_the_next_version_and_nothing_else_does);
    tcase_add_test(tc, a_key_dies_when_the_clock_reaches_its_expiry_and_not_before);
    tcase_add_test(tc, a_clock_that_goes_back_changes_nothing);
    tcase_add_loop_test(tc, an_expiry_beyond_64_bits_is_the_last_one, 0,
                        (int)(sizeof(ttl_rows) / sizeof(ttl_rows[0])));
    tcase_add_test(tc, a_dead_key_is_gone_for_everyone_before_its_memory_is);
    tcase_add_test(tc, one_begin_takes_back_no_more_than_the_limit);
    tcase_add_test(tc, a_key_larger_than_any_is_not_found);
    tcase_add_test(tc, free_accepts_nothing);
    tcase_add_test(tc, the_digest_of_a_known_state_is_the_known_one);
    tcase_add_test(tc, every_part_of_the_state_shows_in_the_digest);
    tcase_add_test(tc, each_field_of_an_item_shows_in_its_digest);
    tcase_add_test_raise_signal(tc, a_slot_that_does_not_exist_stops, SIGABRT);
    tcase_add_test_raise_signal(tc, a_command_of_no_type_stops, SIGABRT);

    Suite *suite = suite_create("kv_store");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
