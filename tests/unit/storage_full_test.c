/* A full disk: what is refused, what still works, and that it gets better by itself. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/storage_fixture.h"

#define SECOND UINT64_C(1000000000)

static const enum storage_flush_kind kinds[] = { STORAGE_FLUSH_AIO, STORAGE_FLUSH_SYNC };

struct full {
    struct os *os;
    struct storage *storage;
    struct history *history;
    struct storage_options options;
};

/* A log of 1 MB segments on a disk with room for one and a half of them. */
static struct full full_new(enum storage_flush_kind kind)
{
    struct full full = { .os = os_memory_new(21), .history = history_new() };
    full.options = fixture_options(kind);
    full.options.segment_bytes = 1 << 20;
    os_memory_space(full.os, (1 << 20) + (1 << 19));
    struct storage_recovered recovered;
    struct error error = { "" };
    full.storage = storage_open(full.os, &full.options, &recovered, &error);
    ck_assert_msg(full.storage != NULL, "%s", error.text);
    return full;
}

static void full_free(struct full *full)
{
    storage_close(full->storage);
    history_free(full->history);
    os_memory_free(full->os);
}

static bool is_full(const struct full *full)
{
    struct storage_stats stats;
    storage_stats(full->storage, &stats);
    return stats.full;
}

/* One turn with one entry, as a node has it: asks for room first. */
static int turn(struct full *full, uint16_t kind, uint32_t size)
{
    if (!storage_room(full->storage, size, kind != ENTRY_COMMANDS))
        return -ENOSPC;
    int code =
        history_entry_of_kind(full->history, full->storage, kind, full->history->last + 1, 1, size);
    ck_assert_int_eq(code, 0);
    ck_assert_int_eq(history_flush(full->history, full->storage), 0);
    ck_assert_int_eq(history_collect(full->history, full->storage), 0);
    return 0;
}

/* Append until the disk is full. */
static void fill(struct full *full)
{
    int code = 0;
    while (code == 0)
        code = turn(full, ENTRY_COMMANDS, 30000);
    ck_assert_int_eq(code, -ENOSPC);
    ck_assert(is_full(full));
}

static void check_reopened(struct full *full)
{
    ck_assert_int_eq(full->history->acked_steps, full->history->step_count);
    storage_close(full->storage);
    struct os *after = os_memory_crash(full->os, NULL, NULL, 0, 0);
    os_memory_free(full->os);
    full->os = after;
    struct storage_recovered recovered;
    struct error error = { "" };
    full->storage = storage_open(full->os, &full->options, &recovered, &error);
    ck_assert_msg(full->storage != NULL, "%s", error.text);
    const char *difference =
        history_difference(full->history, full->history->step_count, full->storage, &recovered);
    ck_assert_msg(difference == NULL, "%s", difference);
    free(recovered.runs);
}

START_TEST(a_full_disk_refuses_entries_and_keeps_room_for_votes_and_no_ops)
{
    struct full full = full_new(kinds[_i]);
    ck_assert(storage_room(full.storage, 30000, false));
    fill(&full);
    ck_assert(!storage_room(full.storage, 30000, false));
    ck_assert(storage_room(full.storage, 64, true));

    /* Who does not ask is refused too; and refused means that nothing has happened. */
    uint64_t last = full.history->last;
    struct storage_stats stats, after;
    storage_stats(full.storage, &stats);
    ck_assert_int_eq(history_entry(full.history, full.storage, last + 1, 1, 900000), -ENOSPC);
    storage_stats(full.storage, &after);
    ck_assert_uint_eq(after.appended_bytes, stats.appended_bytes);
    ck_assert_uint_eq(storage_span(full.storage, 1, last), storage_span(full.storage, 1, last));

    /* Smaller entries may still fit; in the end only the reserve is left. */
    while (storage_room(full.storage, 100, false))
        ck_assert_int_eq(turn(&full, ENTRY_COMMANDS, 100), 0);
    ck_assert_int_eq(turn(&full, ENTRY_COMMANDS, 100), -ENOSPC);
    for (int i = 0; i < STORAGE_RESERVE_BYTES / STORAGE_BLOCK; i++) {
        ck_assert(storage_room(full.storage, 64, true));
        if (i % 2 == 0)
            ck_assert_int_eq(turn(&full, ENTRY_NOOP, 64), 0);
        else
            ck_assert_int_eq(history_vote(full.history, full.storage, 2 + (uint64_t)i, 1), 0);
    }
    ck_assert(!storage_room(full.storage, 64, true));
    ck_assert_int_eq(history_entry(full.history, full.storage, full.history->last + 1, 1, 64),
                     -ENOSPC);
    ck_assert_int_eq(history_vote(full.history, full.storage, 99, 1), -ENOSPC);

    /* Reads go on. */
    struct entry entry;
    for (uint64_t index = 1; index <= full.history->last; index++)
        ck_assert_int_eq(storage_entry(full.storage, index, &entry, NULL), 0);
    ck_assert_int_eq(history_flush(full.history, full.storage), 0);
    ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    check_reopened(&full);
    full_free(&full);
}
END_TEST

START_TEST(when_space_comes_back_the_log_goes_on_by_itself)
{
    struct full full = full_new(kinds[_i]);
    fill(&full);
    /* While the disk is full, a try a second, and no more. */
    uint64_t now = SECOND;
    uint64_t writes = os_memory_count(full.os, OS_MEMORY_PWRITEV);
    for (int i = 0; i < 1000; i++, now += SECOND / 100) {
        ck_assert(!storage_background(full.storage, now));
        ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    }
    ck_assert_uint_ge(os_memory_count(full.os, OS_MEMORY_PWRITEV) - writes, 8);
    ck_assert_uint_le(os_memory_count(full.os, OS_MEMORY_PWRITEV) - writes, 11);
    ck_assert(is_full(&full));

    os_memory_space(full.os, 4 << 20);
    now += SECOND;
    for (int i = 0; i < 50 && is_full(&full); i++) {
        (void)storage_background(full.storage, now);
        ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    }
    ck_assert(!is_full(&full));
    ck_assert(storage_room(full.storage, 30000, false));
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(turn(&full, ENTRY_COMMANDS, 30000), 0);
    check_reopened(&full);
    full_free(&full);
}
END_TEST

/* Nobody calls storage_background: an append that needs the space finds it by itself. */
START_TEST(an_append_finds_the_space_too)
{
    struct full full = full_new(kinds[_i]);
    fill(&full);
    os_memory_space(full.os, 4 << 20);
    uint64_t next = full.history->last + 1;
    ck_assert_int_eq(history_entry(full.history, full.storage, next, 1, 900000), 0);
    ck_assert_int_eq(history_flush(full.history, full.storage), 0);
    ck_assert(!is_full(&full));
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    check_reopened(&full);
    full_free(&full);
}
END_TEST

/* A file system that says so only when it flushes: the file is given up, and made again. */
START_TEST(space_that_runs_out_in_a_flush_is_no_failure_of_the_log)
{
    struct full full = full_new(kinds[_i]);
    os_memory_space(full.os, 4 << 20);
    ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    os_memory_hold_flushes(full.os, true);
    uint64_t now = SECOND;
    os_memory_fail(full.os, OS_MEMORY_FDATASYNC, 1, -ENOSPC);
    while (storage_background(full.storage, now))
        continue;
    if (kinds[_i] == STORAGE_FLUSH_AIO)
        os_memory_finish(full.os, 0, -ENOSPC);
    ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    ck_assert(is_full(&full));
    ck_assert(!os_memory_exists(full.os, FIXTURE_LOG "/0000000000000002.segment.new"));
    os_memory_hold_flushes(full.os, false);
    for (int i = 0; i < 50 && is_full(&full); i++, now += SECOND) {
        while (storage_background(full.storage, now))
            continue;
        ck_assert_int_eq(history_collect(full.history, full.storage), 0);
    }
    ck_assert(!is_full(&full));
    ck_assert(os_memory_exists(full.os, FIXTURE_LOG "/0000000000000002.segment"));
    for (int i = 0; i < 40; i++)
        ck_assert_int_eq(turn(&full, ENTRY_COMMANDS, 30000), 0);
    check_reopened(&full);
    full_free(&full);
}
END_TEST

/* A promise is a promise: whatever storage_room says yes to can be appended, in any pieces, with the
 * votes of a turn on top, on a disk that fills up at a place of its own choice. */
START_TEST(what_there_is_room_for_can_be_appended)
{
    uint64_t state = 88172645463325252u + (uint64_t)_i;
    int refused = 0, several = 0;
    for (int round = 0; round < 40; round++) {
        struct full full = full_new(STORAGE_FLUSH_SYNC);
        storage_close(full.storage);
        full.options.segment_bytes = UINT32_C(65536) << (round % 3);
        struct storage_recovered recovered;
        full.storage = storage_open(full.os, &full.options, &recovered, NULL);
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        os_memory_space(full.os, (1 << 20) + (state >> 11) % (1 << 21));
        uint32_t largest = full.options.segment_bytes - 2 * STORAGE_BLOCK - 64;
        for (int batch = 0; batch < 60; batch++) {
            uint32_t sizes[64];
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            bool is_awkward = batch % 5 == 1; /* all a little more than half a segment */
            uint32_t most_entries = is_awkward || batch % 4 != 0 ? 8 : 64;
            uint32_t count = 1 + (uint32_t)(state >> 20) % most_entries;
            size_t sum = 0;
            for (uint32_t i = 0; i < count; i++) {
                state ^= state << 13, state ^= state >> 7, state ^= state << 17;
                uint32_t most = (state & 15) == 0 ? largest : 5000;
                sizes[i] = ENTRY_HEADER_SIZE + (uint32_t)(state >> 20) % (most - 63);
                if (is_awkward)
                    sizes[i] = largest / 2 + 1;
                sum += sizes[i] + STORAGE_BLOCK;
            }
            if (!storage_room(full.storage, count == 1 ? sizes[0] : sum, false)) {
                refused++;
                continue;
            }
            several += count > 1 && sum > largest;
            ck_assert_int_eq(history_vote(full.history, full.storage, 1, 1), 0);
            for (uint32_t i = 0; i < count; i++)
                ck_assert_int_eq(
                    history_entry(full.history, full.storage, full.history->last + 1, 1, sizes[i]),
                    0);
            ck_assert_int_eq(history_flush(full.history, full.storage), 0);
            ck_assert_int_eq(history_collect(full.history, full.storage), 0);
        }
        full_free(&full);
    }
    ck_assert_int_gt(refused, 100);
    ck_assert_int_gt(several, 20);
}
END_TEST

/* Any call of the preparation fails once. Shortage: it gets over it. Anything else: final. */
static const enum os_memory_call prepare_calls[] = { OS_MEMORY_OPEN,     OS_MEMORY_PWRITEV,
                                                     OS_MEMORY_TRUNCATE, OS_MEMORY_FDATASYNC,
                                                     OS_MEMORY_RENAME,   OS_MEMORY_SYNC_DIR };
#define PREPARE_CALLS ((int)(sizeof prepare_calls / sizeof prepare_calls[0]))

START_TEST(a_shortage_passes_and_a_failure_is_final)
{
    static const int codes[] = { -ENOSPC, -EDQUOT, -EMFILE, -EIO };
    enum os_memory_call call = prepare_calls[_i % PREPARE_CALLS];
    bool is_haste = _i >= PREPARE_CALLS;
    for (int code = 0; code < 4; code++) {
        struct full full = full_new(STORAGE_FLUSH_SYNC);
        os_memory_space(full.os, 16 << 20);
        uint64_t now = SECOND;
        int appended = 0;
        /* In haste: append up to where the next entry needs the next segment. */
        for (int i = 0; is_haste && i < 29; i++)
            ck_assert_int_eq(turn(&full, ENTRY_COMMANDS, 30000), 0);
        os_memory_fail(full.os, call, 1, codes[code]);
        bool is_final = codes[code] == -EIO || call == OS_MEMORY_SYNC_DIR;
        if (is_haste) {
            appended = history_entry(full.history, full.storage, full.history->last + 1, 1, 200000);
            ck_assert_int_eq(appended, !is_final                ? -ENOSPC
                                       : codes[code] == -ENOSPC ? -EIO
                                                                : codes[code]);
        }
        for (int i = 0; i < 10; i++, now += 2 * SECOND)
            while (storage_background(full.storage, now))
                continue;
        ck_assert_int_eq(history_collect(full.history, full.storage) < 0, is_final);
        if (!is_final) {
            ck_assert(!is_full(&full));
            for (int i = 0; i < 10; i++)
                ck_assert_int_eq(turn(&full, ENTRY_COMMANDS, 90000), 0);
            check_reopened(&full);
        }
        full_free(&full);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storage_full");
    TCase *tcase = tcase_create("full");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_full_disk_refuses_entries_and_keeps_room_for_votes_and_no_ops, 0,
                        2);
    tcase_add_loop_test(tcase, when_space_comes_back_the_log_goes_on_by_itself, 0, 2);
    tcase_add_loop_test(tcase, an_append_finds_the_space_too, 0, 2);
    tcase_add_loop_test(tcase, space_that_runs_out_in_a_flush_is_no_failure_of_the_log, 0, 2);
    tcase_add_loop_test(tcase, what_there_is_room_for_can_be_appended, 0, 3);
    tcase_add_loop_test(tcase, a_shortage_passes_and_a_failure_is_final, 0, 2 * PREPARE_CALLS);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
