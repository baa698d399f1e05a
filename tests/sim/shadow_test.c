/* The shadow against the answers that the store must give, and its looking back. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/op.h"
#include "tests/sim/shadow.h"

struct made {
    struct kv_command command;
    uint8_t value[OP_VALUE_MIN];
};

static struct kv_command *make(struct made *made, enum kv_command_type type, const char *key,
                               uint64_t op)
{
    *made = (struct made){
        .command = { .type = type, .key = (const uint8_t *)key, .key_size = (uint16_t)strlen(key) }
    };
    if (op != 0) {
        op_value(op, made->value, OP_VALUE_MIN);
        made->command.value = made->value;
        made->command.value_size = OP_VALUE_MIN;
    }
    return &made->command;
}

static struct shadow_effect set(struct shadow *shadow, const char *key, uint64_t op, uint64_t ttl)
{
    struct made made;
    struct shadow_effect effect;
    make(&made, KV_SET, key, op)->ttl_ms = ttl;
    shadow_apply(shadow, &made.command, &effect);
    return effect;
}

static struct shadow_effect cas(struct shadow *shadow, const char *key, uint64_t op,
                                uint64_t compare)
{
    struct made made;
    struct shadow_effect effect;
    make(&made, KV_CAS, key, op)->compare = compare;
    shadow_apply(shadow, &made.command, &effect);
    return effect;
}

static struct shadow_effect del(struct shadow *shadow, const char *key)
{
    struct made made;
    struct shadow_effect effect;
    shadow_apply(shadow, make(&made, KV_DELETE, key, 0), &effect);
    return effect;
}

static bool at_is(struct shadow_place at, uint64_t index, uint32_t number)
{
    return at.index == index && at.number == number;
}

static bool find_none(struct shadow *shadow, const char *key, uint64_t index, uint32_t number,
                      struct shadow_place *at)
{
    return shadow_find_none(shadow, (const uint8_t *)key, strlen(key),
                            (struct shadow_place){ index, number }, at);
}

static bool find_value(struct shadow *shadow, const char *key, struct shadow_place from,
                       struct shadow_place written, struct shadow_place *at)
{
    struct shadow_state state;
    return shadow_find_value(shadow, (const uint8_t *)key, strlen(key), from, written, at, &state);
}

START_TEST(commands_have_their_effects)
{
    struct shadow *shadow = shadow_new();
    shadow_begin(shadow, 100);
    ck_assert_int_eq(del(shadow, "a").status, KV_NOT_FOUND);
    ck_assert_int_eq(cas(shadow, "a", 1, 7).status, KV_NOT_FOUND);
    ck_assert_uint_eq(set(shadow, "a", 2, 0).version, 1);
    struct shadow_effect differs = cas(shadow, "a", 3, 0);
    ck_assert_int_eq(differs.status, KV_VERSION_DIFFERS);
    ck_assert_uint_eq(differs.version, 1);
    ck_assert_uint_eq(cas(shadow, "a", 4, 1).version, 2);
    ck_assert_uint_eq(cas(shadow, "b", 5, 0).version, 3);
    struct shadow_effect gone = del(shadow, "a");
    ck_assert_int_eq(gone.status, KV_OK);
    ck_assert(at_is(gone.place, 1, 7));
    ck_assert_int_eq(del(shadow, "a").status, KV_NOT_FOUND);
    ck_assert_uint_eq(shadow_count_alive(shadow), 1);
    shadow_free(shadow);
}
END_TEST

START_TEST(a_key_dies_with_the_entry_whose_clock_reaches_its_expiry)
{
    struct shadow *shadow = shadow_new();
    struct shadow_state state;
    struct shadow_place at;
    shadow_begin(shadow, 100);
    struct shadow_effect written = set(shadow, "a", 1, 50); /* 1.1 */
    shadow_begin(shadow, 149);
    ck_assert(shadow_get(shadow, (const uint8_t *)"a", 1, &state));
    ck_assert_uint_eq(state.expires_ms, 150);
    ck_assert_uint_eq(state.written_by, 1);
    ck_assert(!find_none(shadow, "a", 1, 1, &at));
    shadow_begin(shadow, 150); /* 3.0 */
    ck_assert(!shadow_get(shadow, (const uint8_t *)"a", 1, &state));
    ck_assert(find_none(shadow, "a", 1, 1, &at));
    ck_assert(at_is(at, 3, 0));
    ck_assert(find_value(shadow, "a", (struct shadow_place){ 2, 0 }, written.place, &at));
    ck_assert(at_is(at, 2, 0));
    ck_assert(!find_value(shadow, "a", (struct shadow_place){ 3, 0 }, written.place, &at));
    shadow_begin(shadow, 120); /* a clock that goes back counts as none */
    ck_assert_uint_eq(shadow_clock_ms(shadow, 4), 150);
    ck_assert_int_eq(cas(shadow, "a", 2, 1).status, KV_NOT_FOUND);
    shadow_free(shadow);
}
END_TEST

START_TEST(a_value_is_found_from_its_write_to_the_next)
{
    struct shadow *shadow = shadow_new();
    struct shadow_place at;
    shadow_begin(shadow, 1);
    struct shadow_effect first = set(shadow, "a", 1, 0); /* 1.1 */
    shadow_begin(shadow, 1);
    set(shadow, "b", 2, 0);
    struct shadow_effect second = set(shadow, "a", 3, 0); /* 2.2 */
    shadow_begin(shadow, 1);
    ck_assert(find_value(shadow, "a", (struct shadow_place){ 0, 0 }, first.place, &at));
    ck_assert(at_is(at, 1, 1));
    ck_assert(find_value(shadow, "a", (struct shadow_place){ 2, 1 }, first.place, &at));
    ck_assert(at_is(at, 2, 1));
    ck_assert(!find_value(shadow, "a", (struct shadow_place){ 2, 2 }, first.place, &at));
    ck_assert(find_value(shadow, "a", (struct shadow_place){ 2, 0 }, second.place, &at));
    ck_assert(at_is(at, 2, 2));
    ck_assert(!find_value(shadow, "a", (struct shadow_place){ 4, 0 }, second.place, &at));
    ck_assert(!find_value(shadow, "b", (struct shadow_place){ 0, 0 }, first.place, &at));
    ck_assert(!find_value(shadow, "c", (struct shadow_place){ 0, 0 }, first.place, &at));
    shadow_free(shadow);
}
END_TEST

START_TEST(absence_is_found_before_between_and_behind)
{
    struct shadow *shadow = shadow_new();
    struct shadow_place at;
    ck_assert(find_none(shadow, "a", 0, 0, &at));
    shadow_begin(shadow, 1);
    set(shadow, "a", 1, 0); /* 1.1 */
    ck_assert(find_none(shadow, "a", 1, 0, &at));
    ck_assert(at_is(at, 1, 0));
    ck_assert(!find_none(shadow, "a", 1, 1, &at));
    del(shadow, "a");       /* 1.2 */
    set(shadow, "a", 2, 0); /* 1.3 */
    ck_assert(find_none(shadow, "a", 1, 1, &at));
    ck_assert(at_is(at, 1, 2));
    ck_assert(!find_none(shadow, "a", 1, 3, &at));
    shadow_free(shadow);
}
END_TEST

START_TEST(a_value_that_is_written_over_before_its_expiry_leaves_no_gap)
{
    struct shadow *shadow = shadow_new();
    struct shadow_place at;
    shadow_begin(shadow, 100);
    set(shadow, "a", 1, 50);
    shadow_begin(shadow, 120);
    set(shadow, "a", 2, 0);
    shadow_begin(shadow, 500);
    ck_assert(!find_none(shadow, "a", 1, 1, &at));
    set(shadow, "b", 3, 10); /* 3.1 */
    shadow_begin(shadow, 510);
    set(shadow, "b", 4, 0); /* 4.1, in the entry that took it */
    ck_assert(find_none(shadow, "b", 3, 1, &at));
    ck_assert(at_is(at, 4, 0));
    shadow_free(shadow);
}
END_TEST

START_TEST(many_keys_keep_apart)
{
    struct shadow *shadow = shadow_new();
    char key[16];
    shadow_begin(shadow, 1);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 1000; i++) {
            (void)snprintf(key, sizeof key, "k%d", i);
            set(shadow, key, (uint64_t)(round * 1000 + i + 1), 0);
        }
    ck_assert_uint_eq(shadow_count_alive(shadow), 1000);
    for (int i = 0; i < 1000; i++) {
        struct shadow_state state;
        (void)snprintf(key, sizeof key, "k%d", i);
        ck_assert(shadow_get(shadow, (const uint8_t *)key, strlen(key), &state));
        ck_assert_uint_eq(state.written_by, (uint64_t)(2000 + i + 1));
    }
    shadow_free(shadow);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim_shadow");
    TCase *tests = tcase_create("shadow");
    tcase_add_test(tests, commands_have_their_effects);
    tcase_add_test(tests, a_key_dies_with_the_entry_whose_clock_reaches_its_expiry);
    tcase_add_test(tests, a_value_is_found_from_its_write_to_the_next);
    tcase_add_test(tests, absence_is_found_before_between_and_behind);
    tcase_add_test(tests, a_value_that_is_written_over_before_its_expiry_leaves_no_gap);
    tcase_add_test(tests, many_keys_keep_apart);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
