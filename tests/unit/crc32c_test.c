#include "server/crc32c.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint32_t crc_function(uint32_t crc, const void *bytes, size_t size);
static crc_function *const functions[] = { crc32c, crc32c_portable };

/* Bit by bit, as the definition has it. */
static uint32_t by_definition(const uint8_t *bytes, size_t size)
{
    uint32_t sum = 0xffffffff;
    for (size_t i = 0; i < size; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ ((sum & 1) != 0 ? 0x82f63b78 : 0);
    }
    return ~sum;
}

/* The vectors of RFC 3720, appendix B.4, and the usual one. */
static const struct {
    const char *name;
    uint8_t first, step;
    size_t size;
    uint32_t expected;
} rows[] = {
    { "nothing", 0, 0, 0, 0x00000000 },           { "32 zeros", 0x00, 0, 32, 0x8a9136aa },
    { "32 ones", 0xff, 0, 32, 0x62a8ab43 },       { "ascending", 0x00, 1, 32, 0x46dd794e },
    { "descending", 0x1f, 0xff, 32, 0x113fdb5c }, { "123456789", '1', 1, 9, 0xe3069283 },
};

START_TEST(known_vectors)
{
    uint8_t bytes[32];
    for (size_t i = 0; i < rows[_i].size; i++)
        bytes[i] = (uint8_t)(rows[_i].first + i * rows[_i].step);
    for (int function = 0; function < 2; function++) {
        uint32_t got = functions[function](0, bytes, rows[_i].size);
        ck_assert_msg(got == rows[_i].expected, "%s: got %08x", rows[_i].name, got);
    }
}
END_TEST

START_TEST(every_byte_in_every_lane_counts)
{
    /* Each of the 256 values in each of the 8 places of a step: all cells of all tables. */
    uint8_t bytes[8];
    for (int place = 0; place < 8; place++) {
        for (int value = 0; value < 256; value++) {
            memset(bytes, 0x5a, sizeof bytes);
            bytes[place] = (uint8_t)value;
            uint32_t expected = by_definition(bytes, sizeof bytes);
            ck_assert_uint_eq(crc32c_portable(0, bytes, sizeof bytes), expected);
            ck_assert_uint_eq(crc32c(0, bytes, sizeof bytes), expected);
        }
    }
}
END_TEST

START_TEST(sizes_alignments_and_pieces_make_no_difference)
{
    uint8_t bytes[320];
    uint32_t state = 12345;
    for (size_t i = 0; i < sizeof bytes; i++) {
        state = state * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(state >> 24);
    }
    for (size_t from = 0; from < 9; from++) {
        for (size_t size = 0; size <= 300; size++) {
            uint32_t expected = by_definition(bytes + from, size);
            size_t cut = size * (from + 1) / 11;
            for (int function = 0; function < 2; function++) {
                crc_function *crc = functions[function];
                ck_assert_uint_eq(crc(0, bytes + from, size), expected);
                uint32_t first = crc(0, bytes + from, cut);
                ck_assert_uint_eq(crc(first, bytes + from + cut, size - cut), expected);
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crc32c");
    TCase *tcase = tcase_create("crc32c");
    tcase_add_loop_test(tcase, known_vectors, 0, (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tcase, every_byte_in_every_lane_counts);
    tcase_add_test(tcase, sizes_alignments_and_pieces_make_no_difference);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
