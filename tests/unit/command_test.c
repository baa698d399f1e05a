#include "kv/command.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define KEY(text) .key = (const uint8_t *)(text), .key_size = sizeof(text) - 1
#define VALUE(text) .value = (const uint8_t *)(text), .value_size = sizeof(text) - 1

/* clang-format off */
static const struct {
    const char *name;
    struct kv_command command;
} proper[] = {
    { "set",               { .type = KV_SET, KEY("motto"), VALUE("hello") } },
    { "set, expiring",     { .type = KV_SET, .ttl_ms = UINT64_C(0x1122334455667788), KEY("k"),
                             VALUE("v") } },
    { "set of nothing",    { .type = KV_SET, KEY("k") } },
    { "set, identified",   { .type = KV_SET, .has_identity = true, .client = 7,
                             .sequence = UINT64_MAX, KEY("key"), VALUE("\0\1\2") } },
    { "cas",               { .type = KV_CAS, .compare = UINT64_C(0x8877665544332211), KEY("k"),
                             VALUE("v") } },
    { "cas, not existing", { .type = KV_CAS, .ttl_ms = 1, KEY("k"), VALUE("v") } },
    { "delete",            { .type = KV_DELETE, KEY("key") } },
    { "delete, identified", { .type = KV_DELETE, .has_identity = true, .client = UINT64_MAX,
                              .sequence = 1, KEY("key") } },
    { "an empty key",      { .type = KV_SET, VALUE("v") } },
};
/* clang-format on */
#define PROPER ((int)(sizeof(proper) / sizeof(proper[0])))

static bool same_bytes(const uint8_t *a, const uint8_t *b, size_t size)
{
    return size == 0 || memcmp(a, b, size) == 0;
}

static bool same(const struct kv_command *a, const struct kv_command *b)
{
    return a->type == b->type && a->has_identity == b->has_identity && a->client == b->client &&
           a->sequence == b->sequence && a->ttl_ms == b->ttl_ms && a->compare == b->compare &&
           a->key_size == b->key_size && a->value_size == b->value_size &&
           same_bytes(a->key, b->key, a->key_size) && same_bytes(a->value, b->value, a->value_size);
}

/* A block of exactly `size` bytes, so that the address sanitizer guards its end. */
static uint8_t *exact_copy(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = (uint8_t *)malloc(size + (size == 0));
    if (copy == NULL)
        ck_abort_msg("no memory");
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

static uint8_t *encoded(const struct kv_command *command, size_t *size)
{
    *size = kv_command_size(command);
    uint8_t *bytes = (uint8_t *)malloc(*size);
    if (bytes == NULL || kv_command_encode(command, bytes) != *size)
        ck_abort_msg("not encoded to %zu bytes", *size);
    return bytes;
}

START_TEST(what_is_encoded_is_decoded)
{
    size_t size;
    uint8_t *bytes = encoded(&proper[_i].command, &size);
    struct kv_command got;
    ck_assert_msg(kv_command_decode(bytes, size, &got) == size, "%s", proper[_i].name);
    ck_assert_msg(same(&got, &proper[_i].command), "%s", proper[_i].name);
    free(bytes);
}
END_TEST

START_TEST(the_largest_sizes_come_back)
{
    static uint8_t key[KV_KEY_SIZE_MAX], value[200000];
    memset(key, 'k', sizeof(key));
    memset(value, 'v', sizeof(value));
    struct kv_command command = {
        .type = KV_SET,
        .key = key,
        .key_size = KV_KEY_SIZE_MAX,
        .value = value,
        .value_size = sizeof(value),
    };
    size_t size;
    uint8_t *bytes = encoded(&command, &size);
    struct kv_command got;
    ck_assert_uint_eq(kv_command_decode(bytes, size, &got), size);
    ck_assert(same(&got, &command));
    ck_assert_uint_eq(kv_command_decode(bytes, size - 1, &got), 0);
    free(bytes);
}
END_TEST

/* The bytes are for ever: these may not change. */
START_TEST(the_layout_is_the_documented_one)
{
    const struct kv_command command = {
        .type = KV_CAS,
        .has_identity = true,
        .client = UINT64_C(0x2122232425262728),
        .sequence = UINT64_C(0x3132333435363738),
        .ttl_ms = UINT64_C(0x0102030405060708),
        .compare = UINT64_C(0x1112131415161718),
        KEY("key"),
        VALUE("value!"),
    };
    /* clang-format off */
    static const uint8_t expected[] = {
        0x02, 0x01, 0x03, 0x00, 0x06, 0x00, 0x00, 0x00,
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
        0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
        0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
        0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
        'k', 'e', 'y', 'v', 'a', 'l', 'u', 'e', '!',
    };
    /* clang-format on */
    size_t size;
    uint8_t *bytes = encoded(&command, &size);
    ck_assert_uint_eq(size, sizeof(expected));
    ck_assert_mem_eq(bytes, expected, sizeof(expected));
    free(bytes);
}
END_TEST

/* A header of 24 bytes with what follows; `type` and `flags` as they are on the wire. */
/* clang-format off */
static const struct {
    const char *name;
    uint8_t type, flags;
    uint8_t key_size, value_size, ttl, compare;
    size_t follows; /* bytes behind the header */
    size_t taken;
} wire[] = {
    { "the least set",                1, 0,    0, 0, 0, 0, 0,  24 },
    { "a whole set",                  1, 0,    2, 3, 9, 0, 5,  29 },
    { "more behind it",               1, 0,    2, 3, 9, 0, 50, 29 },
    { "a value cut short",            1, 0,    2, 3, 9, 0, 4,  0 },
    { "a key cut short",              1, 0,    2, 0, 0, 0, 1,  0 },
    { "an identity cut short",        1, 1,    0, 0, 0, 0, 15, 0 },
    { "an identity",                  1, 1,    0, 0, 0, 0, 16, 40 },
    { "an identity, a key cut short", 1, 1,    1, 0, 0, 0, 16, 0 },
    { "no type",                      0, 0,    0, 0, 0, 0, 0,  0 },
    { "a type of the future",         4, 0,    0, 0, 0, 0, 0,  0 },
    { "the last type",                255, 0,  0, 0, 0, 0, 0,  0 },
    { "a flag of the future",         1, 2,    0, 0, 0, 0, 50, 0 },
    { "with the known one",           1, 3,    0, 0, 0, 0, 50, 0 },
    { "the last flag",                1, 0x80, 0, 0, 0, 0, 50, 0 },
    { "a set that compares",          1, 0,    1, 0, 0, 1, 1,  0 },
    { "a cas that compares",          2, 0,    1, 0, 1, 1, 1,  25 },
    { "a delete",                     3, 0,    1, 0, 0, 0, 1,  25 },
    { "a delete with a value",        3, 0,    1, 1, 0, 0, 2,  0 },
    { "a delete with a ttl",          3, 0,    1, 0, 1, 0, 1,  0 },
    { "a delete that compares",       3, 0,    1, 0, 0, 1, 1,  0 },
};
/* clang-format on */

START_TEST(only_whole_and_proper_commands_are_taken)
{
    uint8_t bytes[KV_COMMAND_HEADER_SIZE + 64] = { 0 };
    bytes[0] = wire[_i].type;
    bytes[1] = wire[_i].flags;
    bytes[2] = wire[_i].key_size;
    bytes[4] = wire[_i].value_size;
    bytes[8] = wire[_i].ttl;
    bytes[16] = wire[_i].compare;
    size_t size = KV_COMMAND_HEADER_SIZE + wire[_i].follows;
    uint8_t *exact = exact_copy(bytes, size);
    struct kv_command got = { .client = 12345 };
    size_t taken = kv_command_decode(exact, size, &got);
    free(exact);

    ck_assert_msg(taken == wire[_i].taken, "%s: takes %zu", wire[_i].name, taken);
    if (taken == 0)
        ck_assert_msg(got.client == 12345, "%s: the result is touched", wire[_i].name);
}
END_TEST

START_TEST(each_byte_of_the_numbers_that_must_be_0_is_looked_at)
{
    uint8_t bytes[KV_COMMAND_HEADER_SIZE + 8] = { 0 };
    struct kv_command got;
    for (size_t i = 4; i < KV_COMMAND_HEADER_SIZE; i++) {
        bytes[0] = KV_DELETE;
        bytes[i] = 1;
        ck_assert_msg(kv_command_decode(bytes, sizeof(bytes), &got) == 0, "byte %zu", i);
        bytes[i] = 0;
    }
    ck_assert_uint_eq(kv_command_decode(bytes, sizeof(bytes), &got), KV_COMMAND_HEADER_SIZE);
}
END_TEST

START_TEST(sizes_beyond_all_memory_are_no_command)
{
    uint8_t bytes[KV_COMMAND_HEADER_SIZE] = { KV_SET, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    struct kv_command got;
    ck_assert_uint_eq(kv_command_decode(bytes, sizeof(bytes), &got), 0);
}
END_TEST

/* All proper commands, one after the other. */
static uint8_t *make_batch(size_t *size)
{
    *size = 0;
    for (int i = 0; i < PROPER; i++)
        *size += kv_command_size(&proper[i].command);
    uint8_t *bytes = (uint8_t *)malloc(*size);
    ck_assert_ptr_nonnull(bytes);
    uint8_t *end = bytes;
    for (int i = 0; i < PROPER; i++)
        end += kv_command_encode(&proper[i].command, end);
    return bytes;
}

/* Decode all that can be. What is taken must be what its encoding gives: there is one encoding of a
 * command. Reads every byte of key and value, for the sanitizer to see. Returns how many. */
static int decode_all(const uint8_t *bytes, size_t size)
{
    int count = 0;
    struct kv_command command;
    for (;;) {
        size_t taken = kv_command_decode(bytes, size, &command);
        if (taken == 0)
            return count;
        size_t again_size;
        if (taken > size)
            ck_abort_msg("takes %zu of %zu bytes", taken, size);
        uint8_t *again = encoded(&command, &again_size);
        if (again_size != taken || memcmp(again, bytes, taken) != 0)
            ck_abort_msg("encodes to other bytes");
        free(again);
        bytes += taken;
        size -= taken;
        count++;
    }
}

START_TEST(a_batch_cut_anywhere_gives_the_commands_that_are_whole)
{
    size_t size;
    uint8_t *batch = make_batch(&size);
    int whole = 0;
    size_t next = kv_command_size(&proper[0].command);
    for (size_t cut = 0; cut <= size; cut++) {
        if (cut == next) {
            whole++;
            next += whole < PROPER ? kv_command_size(&proper[whole].command) : 1;
        }
        uint8_t *exact = exact_copy(batch, cut);
        ck_assert_msg(decode_all(exact, cut) == whole, "cut at %zu", cut);
        free(exact);
    }
    ck_assert_int_eq(whole, PROPER);
    free(batch);
}
END_TEST

START_TEST(any_byte_may_be_any_other)
{
    size_t size;
    uint8_t *batch = make_batch(&size);
    for (size_t i = 0; i < size; i++) {
        uint8_t *exact = exact_copy(batch, size);
        for (int change = 1; change < 256; change++) {
            exact[i] = (uint8_t)(batch[i] ^ change);
            (void)decode_all(exact, size);
        }
        free(exact);
    }
    free(batch);
}
END_TEST

START_TEST(noise_is_survived)
{
    uint64_t random = UINT64_C(88172645463325252) + (uint64_t)_i;
    for (int round = 0; round < 20000; round++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        size_t size = random % 100;
        uint8_t bytes[100];
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(random >> i % 57);
        if (size > 3 && random % 3 != 0) { /* often past the first checks */
            bytes[0] = (uint8_t)(1 + random / 7 % 3);
            bytes[1] = (uint8_t)(random / 31 % 2);
            bytes[2] %= 16;
            bytes[3] = 0;
        }
        uint8_t *exact = exact_copy(bytes, size);
        (void)decode_all(exact, size);
        free(exact);
    }
}
END_TEST

START_TEST(a_delete_with_a_value_is_not_encoded)
{
    const struct kv_command command = { .type = KV_DELETE, KEY("k"), VALUE("v") };
    uint8_t bytes[100];
    (void)kv_command_encode(&command, bytes);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("command");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, what_is_encoded_is_decoded, 0, PROPER);
    tcase_add_test(tc, the_largest_sizes_come_back);
    tcase_add_test(tc, the_layout_is_the_documented_one);
    tcase_add_loop_test(tc, only_whole_and_proper_commands_are_taken, 0,
                        (int)(sizeof(wire) / sizeof(wire[0])));
    tcase_add_test(tc, each_byte_of_the_numbers_that_must_be_0_is_looked_at);
    tcase_add_test(tc, sizes_beyond_all_memory_are_no_command);
    tcase_add_test(tc, a_batch_cut_anywhere_gives_the_commands_that_are_whole);
    tcase_add_test(tc, any_byte_may_be_any_other);
    tcase_add_loop_test(tc, noise_is_survived, 0, 4);
    tcase_add_test_raise_signal(tc, a_delete_with_a_value_is_not_encoded, SIGABRT);

    Suite *suite = suite_create("command");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
