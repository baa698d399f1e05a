#include <check.h>
#include <inttypes.h>

#include "server/node_turns.h"

#define US UINT64_C(1000)

static const struct {
    const char *name;
    struct {
        int count;
        uint64_t ns;
    } turns[4];
    uint64_t p50, p99, max;
} rows[] = {
    { "none yet", { { 0 } }, 0, 0, 0 },
    { "less than a microsecond is one", { { 5, 400 } }, 1, 1, 1 },
    { "alone: its own time, not the power above", { { 1, 40 * US } }, 40, 40, 40 },
    { "a part of a microsecond counts as one", { { 1, 40 * US + 1 } }, 41, 41, 41 },
    { "the power above", { { 10, 5 * US }, { 1, 900 * US } }, 8, 900, 900 },
    { "a power is in the bucket above it", { { 3, 8 * US }, { 1, 900 * US } }, 16, 900, 900 },
    { "one of a hundred may be longer", { { 99, 5 * US }, { 1, 900 * US } }, 8, 8, 900 },
    { "two may not", { { 98, 5 * US }, { 2, 900 * US } }, 8, 900, 900 },
    { "one of 101 may, and no more", { { 99, 5 * US }, { 2, 600 * US } }, 8, 600, 600 },
    { "half of them", { { 50, 3 * US }, { 50, 100 * US } }, 4, 100, 100 },
    { "a little less than half", { { 49, 3 * US }, { 51, 100 * US } }, 100, 100, 100 },
    { "the order does not count", { { 1, 900 * US }, { 99, 5 * US } }, 8, 8, 900 },
    { "an hour", { { 1, 3600000000 * US } }, 3600000000u, 3600000000u, 3600000000u },
    { "beside a day", { { 99, US }, { 1, 86400000000 * US } }, 2, 2, 86400000000 },
};

START_TEST(a_percentile_is_the_power_of_two_that_it_lies_below)
{
    struct node_turns turns = { 0 };
    for (int i = 0; i < 4; i++) {
        for (int n = 0; n < rows[_i].turns[i].count; n++)
            node_turns_add(&turns, rows[_i].turns[i].ns);
    }
    uint64_t p50 = node_turns_us(&turns, 50), p99 = node_turns_us(&turns, 99);
    uint64_t max = node_turns_us(&turns, 100);
    ck_assert_msg(p50 == rows[_i].p50, "%s: p50 %" PRIu64, rows[_i].name, p50);
    ck_assert_msg(p99 == rows[_i].p99, "%s: p99 %" PRIu64, rows[_i].name, p99);
    ck_assert_msg(max == rows[_i].max, "%s: max %" PRIu64, rows[_i].name, max);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("node_turns");
    TCase *tcase = tcase_create("turns");
    tcase_add_loop_test(tcase, a_percentile_is_the_power_of_two_that_it_lies_below, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
