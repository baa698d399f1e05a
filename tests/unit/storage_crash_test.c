/* Power cuts and kills, at every write, flush and change of names, with every subset of what was not
 * flushed (many subsets, where there are too many; fewer with a stride: slow.h). Whatever is left:
 *
 *   - the directory opens;
 *   - it holds the state after some number of records: all that were acknowledged, none that was
 *     never appended;
 *   - the log goes on from there, into the next segment;
 *   - all that is durable: a second power cut takes nothing of it away. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/slow.h"
#include "tests/unit/storage_fixture.h"

/* ck_assert notes every success in a file: too slow here. */
#define DEMAND(condition, ...) \
    do { \
        if (!(condition)) \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)

#define SUBSET_SECTORS_MAX 8 /* up to here all subsets are tried */
#define NAMES_MAX 8
#define SUBSET_SAMPLES 120

struct crash_run {
    struct os *os;
    struct history *history;
    int point;   /* of the run: number of the write, flush or change that is about to happen */
    int images;  /* disks that were tried */
    int longest; /* most records beyond the acknowledged ones that came back */
    uint64_t random;
};

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

static bool keep_bits(void *context, size_t sector)
{
    const uint64_t *bits = context;
    return (*bits >> sector & 1) != 0;
}

static bool keep_all(void *context, size_t sector)
{
    (void)context;
    (void)sector;
    return true;
}

struct chance {
    uint64_t *random;
    uint64_t of_eight;
};

static bool keep_some(void *context, size_t sector)
{
    (void)sector;
    const struct chance *chance = context;
    return random_next(chance->random) % 8 < chance->of_eight;
}

/* More than a segment holds. */
#define VOTES (FIXTURE_SEGMENT_BYTES / STORAGE_BLOCK)

/* Open what is left on `os`, which is used up; returns the number of steps that it holds. */
static int check_disk(struct crash_run *run, struct os *os, const char *what)
{
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    options.cache_bytes = 0;
    const struct history *history = run->history;
    struct storage_recovered recovered;
    struct error error;
    run->images++;
    struct storage *storage = storage_open(os, &options, &recovered, &error);
    DEMAND(storage != NULL, "point %d, %s: %s", run->point, what, error.text);
    int steps = history_match(history, history->acked_steps, storage, &recovered);
    DEMAND(steps >= 0, "point %d, %s: no state from %d on; last index %" PRIu64 " torn '%s'",
           run->point, what, history->acked_steps, recovered.last_index, recovered.torn_at);
    free(recovered.runs);
    /* The log goes on, into the segment behind this one. */
    uint64_t term = recovered.term;
    for (int i = 0; i < VOTES; i++)
        DEMAND(storage_vote(storage, ++term, 5) == 0, "point %d, %s: a vote", run->point, what);
    DEMAND(storage_flush(storage, 1) == 0, "point %d, %s: a flush", run->point, what);
    storage_close(storage);

    /* A second cut, which keeps nothing that was not flushed. */
    struct os *after = os_memory_crash(os, NULL, NULL, 0, 0);
    os_memory_free(os);
    storage = storage_open(after, &options, &recovered, &error);
    DEMAND(storage != NULL, "point %d, %s, cut again: %s", run->point, what, error.text);
    DEMAND(recovered.torn_bytes == 0, "point %d, %s: torn again", run->point, what);
    DEMAND(recovered.term == term && recovered.voted_for == 5, "point %d, %s: a vote is lost",
           run->point, what);
    static struct twin twin;
    twin_replay(history, steps, &twin);
    recovered.term = twin.term; /* the votes on top are dealt with */
    recovered.voted_for = twin.voted_for;
    const char *difference = history_difference(history, steps, storage, &recovered);
    DEMAND(difference == NULL, "point %d, %s, cut again: %s", run->point, what, difference);
    free(recovered.runs);
    storage_close(storage);
    os_memory_free(after);
    return steps;
}

static void try_cut(struct crash_run *run, bool (*keeps)(void *context, size_t sector),
                    void *context, const char *what)
{
    uint64_t kept = random_next(&run->random);
    int steps = check_disk(run, os_memory_crash(run->os, keeps, context, kept, 0), what);
    if (steps - run->history->acked_steps > run->longest)
        run->longest = steps - run->history->acked_steps;
}

/* Something is about to happen: cut the power here, in every way. */
static void cut_here(void *context)
{
    struct crash_run *run = context;
    run->point++;
    size_t sectors = os_memory_dirty_sectors(run->os);
    size_t names = os_memory_dirty_names(run->os);
    DEMAND(names <= NAMES_MAX, "point %d: %zu changes of names", run->point, names);
    for (uint64_t kept = 0; kept < UINT64_C(1) << names; kept++)
        (void)check_disk(run, os_memory_crash(run->os, keep_all, NULL, kept, 0), "names");
    (void)check_disk(run, os_memory_kill(run->os), "kill");
    if (sectors <= SUBSET_SECTORS_MAX) {
        for (uint64_t bits = 0; bits < UINT64_C(1) << sectors; bits += test_stride())
            try_cut(run, keep_bits, &bits, "subset");
        return;
    }
    try_cut(run, NULL, NULL, "nothing kept");
    for (int i = 0; i < SUBSET_SAMPLES; i += (int)test_stride()) {
        struct chance chance = { .random = &run->random, .of_eight = 1 + (uint64_t)i % 7 };
        try_cut(run, keep_some, &chance, "some kept");
    }
}

static void finish_and_collect(struct crash_run *run, struct storage *storage, int nth)
{
    if (os_memory_held(run->os) > nth)
        os_memory_finish(run->os, nth, 0);
    DEMAND(history_collect(run->history, storage) == 0, "the log has failed");
}

/* Votes, entries, a replaced suffix; two flushes under way that end in either order; a segment that
 * is prepared in the background, and one in haste. */
static void live(struct crash_run *run, enum storage_flush_kind kind)
{
    struct history *history = run->history;
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(run->os, kind, &recovered);
    os_memory_hold_flushes(run->os, true);
    finish_and_collect(run, storage, 0);
    DEMAND(history_vote(history, storage, 1, 1) == 0, "vote");
    DEMAND(history_entry_of_kind(history, storage, ENTRY_NOOP, 1, 1, 64) == 0, "entry");
    DEMAND(history_flush(history, storage) == 0, "flush");
    finish_and_collect(run, storage, 0);
    static const uint32_t sizes[] = {
        100, 400, 1300, 64, 900, 20000, 64, 15000, 300, 9000, 64, 700
    };
    uint64_t now = 0;
    for (int turn = 0; turn < 12; turn++) {
        uint64_t next = history->last + 1;
        uint64_t term = 1 + (uint64_t)turn / 3;
        if (turn % 5 == 3) {
            DEMAND(history_vote(history, storage, term, (uint32_t)turn) == 0, "vote");
            next -= 2; /* replaces two */
        }
        DEMAND(history_entry(history, storage, next, term, sizes[turn]) == 0, "entry");
        DEMAND(history_flush(history, storage) == 0, "flush");
        if (turn % 2 == 1) { /* two turns are under way */
            finish_and_collect(run, storage, turn % 4 == 1);
            finish_and_collect(run, storage, 0);
        }
        if (turn % 3 == 2 && storage_background(storage, ++now))
            (void)storage_background(storage, ++now);
    }
    for (int i = 0; i < 6; i++)
        finish_and_collect(run, storage, 0);
    DEMAND(history->acked_steps == history->step_count, "not all is acknowledged");
    storage_close(storage);
}

START_TEST(acknowledged_records_survive_every_power_cut)
{
    struct crash_run run = { .os = os_memory_new(4), .history = history_new(), .random = 77 };
    os_memory_watch(run.os, cut_here, &run);
    live(&run, _i == 0 ? STORAGE_FLUSH_AIO : STORAGE_FLUSH_SYNC);
    ck_assert_int_gt(run.point, 50);
    ck_assert_int_gt(run.images, 800 / (int)test_stride());
    ck_assert_int_gt(run.longest, 0); /* some cuts keep more than was acknowledged */
    history_free(run.history);
    os_memory_free(run.os);
}
END_TEST

/* The last write torn at every byte, on top of one that is not acknowledged either. */
START_TEST(a_write_torn_at_any_byte_is_cut_off)
{
    struct crash_run run = { .os = os_memory_new(4), .history = history_new(), .random = 5 };
    struct history *history = run.history;
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(run.os, STORAGE_FLUSH_AIO, &recovered);
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 600), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    os_memory_hold_flushes(run.os, true);
    ck_assert_int_eq(history_entry(history, storage, 2, 1, 300), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_entry(history, storage, 3, 1, 1200), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    size_t sectors = os_memory_dirty_sectors(run.os);
    ck_assert_uint_eq(sectors, 4);
    int kept_one = 0;
    for (uint64_t bits = 0; bits < UINT64_C(1) << sectors; bits++) {
        size_t step = test_stride() * (bits == 15 || bits == 1 || bits == 3 ? 1 : 13);
        for (size_t torn = 1; torn < 512; torn += step) {
            struct os *after = os_memory_crash(run.os, keep_bits, &bits, 0, torn);
            kept_one += check_disk(&run, after, "torn") == 2;
        }
    }
    ck_assert_int_gt(kept_one, 0);
    storage_close(storage);
    history_free(history);
    os_memory_free(run.os);
}
END_TEST

/* A flush fails; the process ends; the next one reads the records from the system's cache, although
 * the disk does not have them. What it then calls recovered must not vanish with the power. */
START_TEST(recovery_does_not_trust_what_a_failed_flush_left_behind)
{
    struct crash_run run = { .os = os_memory_new(4), .history = history_new(), .random = 5 };
    struct history *history = run.history;
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(run.os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 600), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    os_memory_fail(run.os, OS_MEMORY_FDATASYNC, 1, -EIO);
    ck_assert_int_eq(history_entry(history, storage, 2, 1, 600), 0);
    ck_assert_int_eq(history_flush(history, storage), -EIO);
    ck_assert_int_eq(history_collect(history, storage), -EIO);
    ck_assert_int_eq(history->acked_steps, 1);
    ck_assert_uint_eq(os_memory_dirty_sectors(run.os), 0); /* "clean", and not on the disk */
    storage_close(storage);
    ck_assert_int_eq(check_disk(&run, os_memory_kill(run.os), "restart"), 2);
    ck_assert_int_eq(check_disk(&run, os_memory_crash(run.os, NULL, NULL, 0, 0), "cut"), 1);
    history_free(history);
    os_memory_free(run.os);
}
END_TEST

/* Power cuts while recovery cleans up, as often as it takes: it gets there, and to the same place. */
START_TEST(a_recovery_that_is_cut_short_is_taken_up_again)
{
    struct crash_run run = { .os = os_memory_new(4), .history = history_new(), .random = 5 };
    struct history *history = run.history;
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(run.os, STORAGE_FLUSH_AIO, &recovered);
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 600), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    os_memory_hold_flushes(run.os, true);
    for (uint64_t index = 2; index <= 6; index++)
        ck_assert_int_eq(history_entry(history, storage, index, 1, 200), 0);
    ck_assert_int_eq(history_vote(history, storage, 1, 4), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);

    /* Eight sectors a record: the third one is lost, those behind it are not. */
    uint64_t bits = 1 | 1 << 8 | 1 << 24 | UINT64_C(1) << 32 | UINT64_C(1) << 40;
    struct os *torn = os_memory_crash(run.os, keep_bits, &bits, 0, 0);
    os_memory_free(run.os);
    run.os = torn;
    os_memory_watch(run.os, cut_here, &run);
    storage = fixture_open(run.os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_uint_eq(recovered.last_index, 3);
    ck_assert_uint_eq(recovered.torn_bytes, 3 * 4096);
    ck_assert_int_gt(run.images, 30);
    free(recovered.runs);
    storage_close(storage);
    history_free(history);
    os_memory_free(run.os);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storage_crash");
    TCase *tcase = tcase_create("crash");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, acknowledged_records_survive_every_power_cut, 0, 2);
    tcase_add_test(tcase, a_write_torn_at_any_byte_is_cut_off);
    tcase_add_test(tcase, recovery_does_not_trust_what_a_failed_flush_left_behind);
    tcase_add_test(tcase, a_recovery_that_is_cut_short_is_taken_up_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
