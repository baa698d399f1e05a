#include "kv/slot.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "kv/kv.h"

static const uint8_t *bytes_of(const char *text)
{
    return (const uint8_t *)text;
}

START_TEST(crc16_has_the_published_check_value)
{
    ck_assert_uint_eq(slot_crc16(bytes_of("123456789"), 9), 0x31c3);
    ck_assert_uint_eq(slot_crc16(bytes_of(""), 0), 0);
}
END_TEST

/* The definition: a division, bit by bit. */
static uint16_t divide(const uint8_t *bytes, size_t size)
{
    uint32_t rest = 0;
    for (size_t i = 0; i < size * 8; i++) {
        uint32_t bit = (uint32_t)bytes[i / 8] >> (7 - i % 8) & 1;
        uint32_t top = rest >> 15 & 1;
        rest = rest << 1 & 0xffff;
        if (top != bit)
            rest ^= 0x1021;
    }
    return (uint16_t)rest;
}

START_TEST(crc16_is_the_rest_of_a_division)
{
    uint8_t bytes[80];
    uint32_t random = 1;
    for (int round = 0; round < 1000; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            random = random * 1664525u + 1013904223u;
            bytes[i] = (uint8_t)(random >> 24);
        }
        size_t size = (size_t)round % (sizeof(bytes) + 1);
        ck_assert_uint_eq(slot_crc16(bytes, size), divide(bytes, size));
    }
}
END_TEST

/* The slots are those that CLUSTER KEYSLOT gives; `hashed` is the part of the key that decides. */
/* clang-format off */
static const struct {
    const char *name;
    const char *key;
    const char *hashed;
    int slot; /* -1: only `hashed` is checked */
} rows[] = {
    { "the check value",                   "123456789",            "123456789",     0x31c3 },
    { "a plain key",                       "foo",                  "foo",           12182 },
    { "another",                           "bar",                  "bar",           5061 },
    { "and another",                       "hello",                "hello",         866 },
    { "the one in the manual",             "somekey",              "somekey",       11058 },
    { "a tag at the end",                  "foo{hash_tag}",        "hash_tag",      2515 },
    { "the same tag elsewhere",            "bar{hash_tag}",        "hash_tag",      2515 },
    { "a tag in front",                    "{user1000}.following", "user1000",      -1 },
    { "its sister",                        "{user1000}.followers", "user1000",      -1 },
    { "an empty tag is none",              "foo{}{bar}",           "foo{}{bar}",    -1 },
    { "the first { with the first }",      "foo{{bar}}zap",        "{bar",          -1 },
    { "only the first tag counts",         "foo{bar}{zap}",        "bar",           -1 },
    { "all of it is tag",                  "{t}",                  "t",             -1 },
    { "an empty tag alone",                "{}",                   "{}",            -1 },
    { "an empty tag in front",             "{}key",                "{}key",         -1 },
    { "no end",                            "foo{bar",              "foo{bar",       -1 },
    { "no start",                          "foo}bar",              "foo}bar",       -1 },
    { "the wrong way round",               "}foo{",                "}foo{",         -1 },
    { "an end before the tag",             "}{a}",                 "a",             -1 },
    { "{ is the last byte",                "foo{",                 "foo{",          -1 },
    { "one byte",                          "{",                    "{",             -1 },
    { "nothing",                           "",                     "",              0 },
};
/* clang-format on */

START_TEST(kv_slot_follows_the_hash_tag_rule)
{
    size_t size = strlen(rows[_i].key);
    char *exact = (char *)malloc(size + (size == 0)); /* without the 0 behind the text */
    ck_assert(exact != NULL);
    memcpy(exact, rows[_i].key, size);
    uint32_t slot = kv_slot(bytes_of(exact), size);
    free(exact);

    uint32_t expected = divide(bytes_of(rows[_i].hashed), strlen(rows[_i].hashed)) % KV_SLOTS;
    ck_assert_msg(slot == expected, "%s: got %u", rows[_i].name, slot);
    if (rows[_i].slot >= 0)
        ck_assert_msg(slot == (uint32_t)rows[_i].slot, "%s: got %u", rows[_i].name, slot);
}
END_TEST

START_TEST(kv_slot_looks_past_zero_bytes)
{
    const uint8_t key[] = { 0, '{', 0, 7, '}', 0 };
    ck_assert_uint_eq(kv_slot(key, sizeof(key)), divide(key + 2, 2) % KV_SLOTS);
}
END_TEST

START_TEST(kv_slot_of_nothing_needs_no_address)
{
    ck_assert_uint_eq(kv_slot(NULL, 0), 0);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("slot");
    tcase_add_test(tc, crc16_has_the_published_check_value);
    tcase_add_test(tc, crc16_is_the_rest_of_a_division);
    tcase_add_loop_test(tc, kv_slot_follows_the_hash_tag_rule, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(tc, kv_slot_looks_past_zero_bytes);
    tcase_add_test(tc, kv_slot_of_nothing_needs_no_address);

    Suite *suite = suite_create("kv_slot");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
