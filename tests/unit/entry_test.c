#include "server/entry.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"

#define SIZE_MAX_HERE 2048

/* An entry with a payload that follows from its size. */
static struct entry make(uint8_t *bytes, uint16_t kind, uint32_t size, uint64_t chain)
{
    for (uint32_t i = ENTRY_HEADER_SIZE; i < size; i++)
        bytes[i] = (uint8_t)(i * 31 + 7);
    struct entry entry = {
        .size = size,
        .kind = kind,
        .term = 0x1122334455667788,
        .index = 0x0102030405060708,
        .clock_ms = 1700000000123,
        .count = 5,
    };
    entry_seal(bytes, chain, &entry);
    return entry;
}

/* -- The format, for ever ------------------------------------------------------------------------ */

/* Chains and checksums as version 1 of the format has them. If a row fails, the format has changed:
 * every log in the world would be refused. Raise ENTRY_VERSION instead. */
static const struct {
    const char *name;
    uint16_t kind;
    uint32_t size;
    uint64_t before, chain;
    uint32_t sum;
} vectors[] = {
    { "no-op, first", ENTRY_NOOP, 64, 0x0000000000000000, 0x4d2838cbf18ce8f2, 0xd96524e0 },
    { "clock", ENTRY_CLOCK, 64, 0x0123456789abcdef, 0xa78f2f381369c156, 0x05ad5922 },
    { "genesis", ENTRY_GENESIS, 88, 0x0000000000000000, 0xec08ec1c962faaba, 0xb036a183 },
    { "one byte of payload", ENTRY_COMMANDS, 65, 0x0000000000000001, 0x215988224afe29e4,
      0x7a3b77d6 },
    { "a whole stripe", ENTRY_COMMANDS, 96, 0x0000000000000002, 0xadc7ce9f5669cc28, 0x2295a74c },
    { "a stripe and a byte", ENTRY_COMMANDS, 97, 0x0000000000000003, 0x206d6876599eb409,
      0x842d82a9 },
    { "a thousand bytes", ENTRY_COMMANDS, 1000, 0xffffffffffffffff, 0xb39678f3d4d3cf53,
      0x88f6a6f4 },
    { "an unknown kind", 900, 130, 0x0000000000000004, 0x881e0bdd0367e593, 0x3aab25b2 },
};

START_TEST(the_format_never_changes)
{
    uint8_t bytes[SIZE_MAX_HERE];
    struct entry entry = make(bytes, vectors[_i].kind, vectors[_i].size, vectors[_i].before);
    ck_assert_msg(entry.chain == vectors[_i].chain && load_u32(bytes) == vectors[_i].sum,
                  "%s: {%u, %u, 0x%016" PRIx64 ", 0x%016" PRIx64 ", 0x%08x}", vectors[_i].name,
                  vectors[_i].kind, vectors[_i].size, vectors[_i].before, entry.chain,
                  load_u32(bytes));
}
END_TEST

START_TEST(the_header_is_what_the_table_says)
{
    uint8_t bytes[SIZE_MAX_HERE];
    struct entry entry = make(bytes, ENTRY_COMMANDS, 100, 9);
    static const uint8_t expected[] = {
        100,  0,    0,    0,    1,    0,    3,    0,    0, 0, 0, 0, /* size … group */
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,             /* term */
        8,    7,    6,    5,    4,    3,    2,    1,                /* index */
        0x7b, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0,    0,                /* clock */
    };
    static const uint8_t reserved[12];
    ck_assert_int_eq(memcmp(bytes + 4, expected, sizeof expected), 0);
    ck_assert_uint_eq(load_u64(bytes + 40), entry.chain);
    ck_assert_uint_eq(load_u32(bytes + 48), 5);
    ck_assert_int_eq(memcmp(bytes + 52, reserved, sizeof reserved), 0);
    ck_assert_uint_eq(load_u32(bytes), crc32c(0, bytes + 4, 96));
}
END_TEST

START_TEST(what_is_sealed_parses_to_the_same)
{
    uint8_t bytes[SIZE_MAX_HERE];
    for (uint32_t size = ENTRY_HEADER_SIZE; size < 400; size++) {
        struct entry sealed = make(bytes, ENTRY_COMMANDS, size, size);
        struct entry parsed;
        memset(&parsed, 0xaa, sizeof parsed);
        ck_assert_int_eq(entry_parse(bytes, size + 9, &parsed), ENTRY_GOOD);
        ck_assert_uint_eq(parsed.size, sealed.size);
        ck_assert_uint_eq(parsed.version, ENTRY_VERSION);
        ck_assert_uint_eq(parsed.kind, sealed.kind);
        ck_assert_uint_eq(parsed.group, ENTRY_GROUP);
        ck_assert_uint_eq(parsed.term, sealed.term);
        ck_assert_uint_eq(parsed.index, sealed.index);
        ck_assert_uint_eq(parsed.clock_ms, sealed.clock_ms);
        ck_assert_uint_eq(parsed.chain, sealed.chain);
        ck_assert_uint_eq(parsed.count, sealed.count);
        ck_assert_ptr_eq(parsed.bytes, bytes);
        ck_assert_ptr_eq(parsed.payload, bytes + ENTRY_HEADER_SIZE);
        ck_assert(entry_follows(&parsed, size));
        ck_assert(!entry_follows(&parsed, size + 1));
    }
}
END_TEST

/* -- The chain ----------------------------------------------------------------------------------- */

START_TEST(every_bit_of_an_entry_changes_its_chain)
{
    static const uint32_t sizes[] = { 64, 65, 71, 95, 96, 97, 128, 255, 1000 };
    uint8_t bytes[SIZE_MAX_HERE];
    uint32_t size = sizes[_i];
    struct entry entry = make(bytes, ENTRY_COMMANDS, size, 1);
    uint64_t flipped_bits = 0, flips = 0;
    for (uint32_t bit = 0; bit < size * 8; bit++) {
        uint32_t at = bit / 8;
        if (at < 4 || (at >= 40 && at < 48))
            continue; /* the checksum, and the chain itself */
        bytes[at] ^= (uint8_t)(1 << bit % 8);
        entry.chain = load_u64(bytes + 40);
        ck_assert_msg(!entry_follows(&entry, 1), "bit %u of %u bytes", bit, size);
        bytes[at] ^= (uint8_t)(1 << bit % 8);
    }
    /* And half of the chain's bits with it, on average: seen from the payload and the chain before. */
    for (uint32_t bit = 0; bit < 64; bit++) {
        struct entry other = entry;
        uint8_t copy[SIZE_MAX_HERE];
        memcpy(copy, bytes, size);
        entry_seal(copy, 1 ^ UINT64_C(1) << bit, &other);
        flipped_bits += (uint64_t)__builtin_popcountll(other.chain ^ entry.chain);
        flips++;
    }
    ck_assert_uint_gt(flipped_bits, flips * 28);
    ck_assert_uint_lt(flipped_bits, flips * 36);
}
END_TEST

START_TEST(zeros_at_the_end_and_swapped_words_are_not_the_same_entry)
{
    uint8_t bytes[SIZE_MAX_HERE];
    uint64_t chains[512];
    for (uint32_t size = 64; size < 512; size++) {
        memset(bytes, 0, sizeof bytes);
        struct entry entry = { .size = size, .kind = ENTRY_COMMANDS, .term = 1, .index = 1 };
        entry_seal(bytes, 0, &entry);
        chains[size] = entry.chain;
        for (uint32_t other = 64; other < size; other++)
            ck_assert_uint_ne(chains[other], entry.chain);
    }
    for (uint32_t first = 64; first < 192; first += 8) {
        for (uint32_t second = first + 8; second < 192; second += 8) {
            struct entry entry = make(bytes, ENTRY_COMMANDS, 192, 4);
            uint8_t word[8];
            memcpy(word, bytes + first, 8);
            memcpy(bytes + first, bytes + second, 8);
            memcpy(bytes + second, word, 8);
            ck_assert(!entry_follows(&entry, 4));
        }
    }
}
END_TEST

/* -- Hostile bytes ------------------------------------------------------------------------------- */

START_TEST(a_cut_entry_is_cut_at_every_length)
{
    uint8_t bytes[SIZE_MAX_HERE];
    (void)make(bytes, ENTRY_COMMANDS, 300, 0);
    for (size_t size = 0; size < 300; size++) {
        uint8_t *exact = malloc(size + 1); /* so that a sanitizer sees a step too far */
        memcpy(exact, bytes, size);
        struct entry entry = { .index = 77 };
        ck_assert_int_eq(entry_parse(exact, size, &entry), ENTRY_CUT);
        ck_assert_uint_eq(entry.index, 77);
        ck_assert_uint_eq(entry_claimed_size(exact, size), size < 8 ? 0 : 300);
        free(exact);
    }
}
END_TEST

START_TEST(every_flipped_bit_is_found)
{
    uint8_t bytes[SIZE_MAX_HERE];
    (void)make(bytes, ENTRY_COMMANDS, 200, 0);
    for (uint32_t bit = 0; bit < 200 * 8; bit++) {
        struct entry entry = { .index = 77 };
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_ne(entry_parse(bytes, 200, &entry), ENTRY_GOOD);
        ck_assert_int_ne(entry_parse(bytes, 200, &entry), ENTRY_BAD_VERSION);
        ck_assert_uint_eq(entry.index, 77);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
END_TEST

/* Fields that are out of range in an entry whose checksum fits. */
static const struct {
    const char *name;
    uint32_t at, size;
    uint64_t number;
    enum entry_fault expected;
} fields[] = {
    { "unknown version", 8, 2, 2, ENTRY_BAD_VERSION },
    { "version 0", 8, 2, 0, ENTRY_BAD_VERSION },
    { "an unknown kind is not ours to refuse", 10, 2, 77, ENTRY_GOOD },
    { "kind 0", 10, 2, 0, ENTRY_GOOD },
    { "a no-op with a payload", 10, 2, ENTRY_NOOP, ENTRY_BAD_FIELD },
    { "a clock with a payload", 10, 2, ENTRY_CLOCK, ENTRY_BAD_FIELD },
    { "another group", 12, 4, 1, ENTRY_BAD_FIELD },
    { "term 0", 16, 8, 0, ENTRY_BAD_FIELD },
    { "index 0", 24, 8, 0, ENTRY_BAD_FIELD },
    { "the largest term", 16, 8, UINT64_MAX, ENTRY_GOOD },
    { "reserved, first byte", 52, 1, 1, ENTRY_BAD_FIELD },
    { "reserved, last byte", 63, 1, 1, ENTRY_BAD_FIELD },
};

START_TEST(fields_out_of_range_are_named)
{
    uint8_t bytes[SIZE_MAX_HERE];
    (void)make(bytes, ENTRY_COMMANDS, 200, 0);
    for (uint32_t i = 0; i < fields[_i].size; i++)
        bytes[fields[_i].at + i] = (uint8_t)(fields[_i].number >> 8 * i);
    store_u32(bytes, crc32c(0, bytes + 4, 196));
    struct entry entry = { .index = 77 };
    enum entry_fault fault = entry_parse(bytes, 200, &entry);
    ck_assert_msg(fault == fields[_i].expected, "%s: %s", fields[_i].name, entry_fault_name(fault));
    if (fault == ENTRY_BAD_VERSION)
        ck_assert_uint_eq(entry.version, fields[_i].number);
    if (fault != ENTRY_GOOD)
        ck_assert_uint_eq(entry.index, 77);
}
END_TEST

START_TEST(a_size_below_the_header_is_out_of_range)
{
    uint8_t bytes[SIZE_MAX_HERE];
    for (uint32_t claimed = 0; claimed < ENTRY_HEADER_SIZE; claimed++) {
        (void)make(bytes, ENTRY_COMMANDS, 200, 0);
        store_u32(bytes + 4, claimed);
        struct entry entry;
        ck_assert_int_eq(entry_parse(bytes, 200, &entry), ENTRY_BAD_FIELD);
    }
    store_u32(bytes + 4, UINT32_MAX);
    struct entry entry;
    ck_assert_int_eq(entry_parse(bytes, 200, &entry), ENTRY_CUT);
}
END_TEST

START_TEST(a_genesis_comes_back_as_it_was_and_hostile_ones_do_not)
{
    struct entry_genesis genesis = { .feature_level = 7, .voter_count = ENTRY_VOTERS_MAX };
    for (uint32_t i = 0; i < ENTRY_VOTERS_MAX; i++)
        genesis.voters[i] = 3 * i;
    for (uint32_t i = 0; i < ENTRY_HASH_KEY_SIZE; i++)
        genesis.hash_key[i] = (uint8_t)(i + 1);
    for (genesis.voter_count = 1; genesis.voter_count <= ENTRY_VOTERS_MAX; genesis.voter_count++) {
        uint8_t payload[ENTRY_GENESIS_SIZE_MAX + 1] = { 0 };
        size_t size = entry_genesis_encode(payload, &genesis);
        ck_assert_uint_eq(size, 24 + 4 * genesis.voter_count);
        struct entry_genesis decoded;
        ck_assert(entry_genesis_decode(payload, size, &decoded));
        ck_assert_uint_eq(decoded.feature_level, 7);
        ck_assert_uint_eq(decoded.voter_count, genesis.voter_count);
        ck_assert_int_eq(memcmp(decoded.hash_key, genesis.hash_key, ENTRY_HASH_KEY_SIZE), 0);
        ck_assert_int_eq(memcmp(decoded.voters, genesis.voters, 4 * genesis.voter_count), 0);
        ck_assert(!entry_genesis_decode(payload, size + 1, &decoded));
        for (size_t cut = 0; cut < size; cut++)
            ck_assert(!entry_genesis_decode(payload, cut, &decoded));
        if (genesis.voter_count > 1) { /* twice the same, and out of order */
            store_u32(payload + 28, 0);
            ck_assert(!entry_genesis_decode(payload, size, &decoded));
        }
        store_u32(payload + 20, UINT32_MAX);
        ck_assert(!entry_genesis_decode(payload, size, &decoded));
        store_u32(payload + 20, 0);
        ck_assert(!entry_genesis_decode(payload, 24, &decoded));
    }
}
END_TEST

START_TEST(kinds_and_faults_have_names)
{
    for (uint16_t kind = 0; kind < 100; kind++)
        ck_assert_int_eq(entry_kind_known(kind), kind >= 1 && kind <= 4);
    for (int fault = ENTRY_GOOD; fault <= ENTRY_BAD_FIELD; fault++)
        ck_assert_str_ne(entry_fault_name((enum entry_fault)fault), "unknown fault");
}
END_TEST

START_TEST(sealing_what_can_never_be_read_stops)
{
    static const struct entry wrong[] = {
        { .size = 63, .kind = ENTRY_COMMANDS, .term = 1, .index = 1 },
        { .size = 64, .kind = ENTRY_COMMANDS, .term = 0, .index = 1 },
        { .size = 64, .kind = ENTRY_COMMANDS, .term = 1, .index = 0 },
        { .size = 65, .kind = ENTRY_NOOP, .term = 1, .index = 1 },
    };
    uint8_t bytes[SIZE_MAX_HERE];
    struct entry entry = wrong[_i];
    entry_seal(bytes, 0, &entry);
}
END_TEST

#define COUNT(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

int main(void)
{
    Suite *suite = suite_create("entry");
    TCase *tcase = tcase_create("entry");
    tcase_add_loop_test(tcase, the_format_never_changes, 0, COUNT(vectors));
    tcase_add_test(tcase, the_header_is_what_the_table_says);
    tcase_add_test(tcase, what_is_sealed_parses_to_the_same);
    tcase_add_loop_test(tcase, every_bit_of_an_entry_changes_its_chain, 0, 9);
    tcase_add_test(tcase, zeros_at_the_end_and_swapped_words_are_not_the_same_entry);
    tcase_add_test(tcase, a_cut_entry_is_cut_at_every_length);
    tcase_add_test(tcase, every_flipped_bit_is_found);
    tcase_add_loop_test(tcase, fields_out_of_range_are_named, 0, COUNT(fields));
    tcase_add_test(tcase, a_size_below_the_header_is_out_of_range);
    tcase_add_test(tcase, a_genesis_comes_back_as_it_was_and_hostile_ones_do_not);
    tcase_add_test(tcase, kinds_and_faults_have_names);
    tcase_add_loop_test_raise_signal(tcase, sealing_what_can_never_be_read_stops, SIGABRT, 0, 4);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
