#include "raft/quorum.h"

#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#include "raft/raft.h"

static const struct {
    const char *name;
    uint64_t match[RAFT_VOTERS_MAX];
    int match_count;
    uint64_t expected;
} rows[] = {
    { "alone", { 4 }, 1, 4 },
    { "of two, both are needed", { 7, 5 }, 2, 5 },
    { "of three, two", { 7, 5, 9 }, 3, 7 },
    { "of four, three", { 7, 5, 9, 6 }, 4, 6 },
    { "a slow minority is slow", { 9, 9, 9, 1, 0 }, 5, 9 },
    { "a fast minority is not enough", { 9, 9, 1, 1, 0 }, 5, 1 },
    { "nobody has anything", { 0, 0, 0 }, 3, 0 },
    { "all the same", { 3, 3, 3, 3, 3, 3, 3 }, 7, 3 },
    { "rising", { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, 9, 5 },
    { "falling", { 9, 8, 7, 6, 5, 4, 3, 2, 1 }, 9, 5 },
    { "the largest of indices", { UINT64_MAX, 0, UINT64_MAX }, 3, UINT64_MAX },
};

START_TEST(quorum_index_is_what_a_majority_holds)
{
    uint64_t got = quorum_index(rows[_i].match, rows[_i].match_count);
    ck_assert_msg(got == rows[_i].expected, "%s: got %" PRIu64, rows[_i].name, got);
}
END_TEST

START_TEST(quorum_size_is_more_than_half)
{
    for (int count = 1; count <= RAFT_VOTERS_MAX; count++) {
        ck_assert_int_gt(2 * quorum_size(count), count);
        ck_assert_int_le(2 * (quorum_size(count) - 1), count);
    }
}
END_TEST

/* The definition, word for word: the highest of the values that more than half have reached. */
static uint64_t naive_index(const uint64_t *match, int match_count)
{
    uint64_t best = 0;
    for (int i = 0; i < match_count; i++) {
        int reached = 0;
        for (int k = 0; k < match_count; k++)
            reached += match[k] >= match[i];
        if (2 * reached > match_count && match[i] > best)
            best = match[i];
    }
    return best;
}

START_TEST(quorum_index_agrees_with_its_definition)
{
    uint64_t random = 1;
    for (int i = 0; i < 50000; i++) {
        uint64_t match[RAFT_VOTERS_MAX];
        int match_count = 1 + i % RAFT_VOTERS_MAX;
        for (int k = 0; k < match_count; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            match[k] = (random >> 33) % 12;
        }
        ck_assert_uint_eq(quorum_index(match, match_count), naive_index(match, match_count));
    }
}
END_TEST

START_TEST(quorum_of_nobody_stops)
{
    uint64_t match[1] = { 0 };
    (void)quorum_index(match, 0);
}
END_TEST

START_TEST(quorum_of_too_many_stops)
{
    uint64_t match[RAFT_VOTERS_MAX + 1] = { 0 };
    (void)quorum_index(match, RAFT_VOTERS_MAX + 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quorum");
    TCase *tests = tcase_create("quorum");
    tcase_add_loop_test(tests, quorum_index_is_what_a_majority_holds, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(tests, quorum_size_is_more_than_half);
    tcase_add_test(tests, quorum_index_agrees_with_its_definition);
    tcase_add_test_raise_signal(tests, quorum_of_nobody_stops, SIGABRT);
    tcase_add_test_raise_signal(tests, quorum_of_too_many_stops, SIGABRT);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
