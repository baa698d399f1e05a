/* The open log: what goes in comes out, from memory and from the file, and what it costs. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/storage_fixture.h"

static const enum storage_flush_kind kinds[] = { STORAGE_FLUSH_AIO, STORAGE_FLUSH_SYNC };

START_TEST(a_fresh_directory_is_empty_and_says_so)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, kinds[_i], &recovered);
    ck_assert(recovered.fresh);
    ck_assert_uint_eq(recovered.last_index, 0);
    ck_assert_uint_eq(recovered.first_index, 1);
    ck_assert_uint_eq(recovered.term, 0);
    ck_assert_uint_eq(recovered.voted_for, UINT32_MAX);
    ck_assert_uint_eq(recovered.segment_count, 1);
    ck_assert_uint_eq(recovered.torn_bytes, 0);
    ck_assert_str_eq(recovered.torn_at, "");
    ck_assert_str_eq(storage_flush_name(storage), _i == 0 ? "aio" : "sync");
    ck_assert_int_eq(storage_fd(storage) >= 0, _i == 0);
    uint64_t incarnation = recovered.incarnation;
    storage_close(storage);
    ck_assert_int_eq(os_memory_open_count(os), 0);

    storage = fixture_open(os, kinds[_i], &recovered);
    ck_assert(!recovered.fresh);
    ck_assert_uint_eq(recovered.incarnation, incarnation);
    ck_assert_uint_eq(recovered.last_index, 0);
    storage_close(storage);
    os_memory_free(os);
}
END_TEST

START_TEST(what_was_appended_is_there_before_and_after_a_restart)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, kinds[_i], &recovered);
    struct history *history = history_new();
    ck_assert_int_eq(history_vote(history, storage, 1, 2), 0);
    for (uint64_t index = 1; index <= 60; index++) {
        ck_assert_int_eq(
            history_entry(history, storage, index, 1 + index / 20, (uint32_t)(64 + index * 97)), 0);
        ck_assert_int_eq(history_flush(history, storage), 0);
        ck_assert_int_eq(history_collect(history, storage), 0);
    }
    ck_assert_int_eq(history_vote(history, storage, 9, UINT32_MAX), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, history->step_count);
    storage_close(storage);

    storage = fixture_open(os, kinds[_i], &recovered);
    const char *difference = history_difference(history, history->step_count, storage, &recovered);
    ck_assert_msg(difference == NULL, "%s", difference);
    ck_assert_uint_gt(recovered.segment_count, 4);
    ck_assert_uint_eq(recovered.torn_bytes, 0);
    free(recovered.runs);
    storage_close(storage);
    ck_assert_int_eq(os_memory_open_count(os), 0);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(a_vote_of_an_older_term_binds_nobody)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, kinds[_i], &recovered);
    struct history *history = history_new();
    ck_assert_int_eq(history_vote(history, storage, 3, 1), 0);
    ck_assert_int_eq(history_vote(history, storage, 5, 2), 0);
    ck_assert_int_eq(history_vote(history, storage, 4, 7), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);
    storage = fixture_open(os, kinds[_i], &recovered);
    ck_assert_uint_eq(recovered.term, 5);
    ck_assert_uint_eq(recovered.voted_for, 2);
    /* An entry of a later term, too, ends what was voted. */
    ck_assert_int_eq(history_entry(history, storage, 1, 6, 64), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);
    storage = fixture_open(os, kinds[_i], &recovered);
    ck_assert_uint_eq(recovered.term, 6);
    ck_assert_uint_eq(recovered.voted_for, UINT32_MAX);
    free(recovered.runs);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* -- Against a naive twin ------------------------------------------------------------------------ */

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

static void compare_with_twin(const struct history *history, struct storage *storage,
                              uint64_t *state)
{
    static struct twin twin;
    twin_replay(history, history->step_count, &twin);
    uint64_t first = 1 + random_next(state) % twin.last;
    uint64_t last = first + random_next(state) % (twin.last - first + 1);
    uint64_t span = 0;
    for (uint64_t index = first; index <= last; index++)
        span += history->steps[twin.steps[index - 1]].size;
    ck_assert_uint_eq(storage_span(storage, first, last), span);
    ck_assert_uint_eq(storage_span(storage, first, first - 1), 0);
    for (uint64_t index = first; index <= last && index < first + 8; index++) {
        const struct step *step = &history->steps[twin.steps[index - 1]];
        struct entry entry;
        struct error error;
        ck_assert_int_eq(storage_entry(storage, index, &entry, &error), 0);
        ck_assert_uint_eq(entry.size, step->size);
        ck_assert_int_eq(memcmp(entry.bytes, step->bytes, step->size), 0);
        ck_assert_uint_eq(storage_chain(storage, index), step->chain);
        ck_assert_uint_eq(storage_size(storage, index), step->size);
    }
}

/* Many at once, from memory and from the file: all borrowed together. */
static void compare_run_with_twin(const struct history *history, struct storage *storage,
                                  uint64_t *state)
{
    static struct twin twin;
    twin_replay(history, history->step_count, &twin);
    struct entry entries[40];
    uint64_t first = 1 + random_next(state) % twin.last;
    uint32_t count = (uint32_t)(1 + random_next(state) % 40);
    if (count > twin.last - first + 1)
        count = (uint32_t)(twin.last - first + 1);
    struct error error;
    ck_assert_int_eq(storage_entries(storage, first, count, entries, &error), 0);
    for (uint32_t i = 0; i < count; i++) {
        const struct step *step = &history->steps[twin.steps[first - 1 + i]];
        ck_assert_uint_eq(entries[i].index, first + i);
        ck_assert_uint_eq(entries[i].size, step->size);
        ck_assert_int_eq(memcmp(entries[i].bytes, step->bytes, step->size), 0);
        ck_assert_ptr_eq(entries[i].payload, entries[i].bytes + ENTRY_HEADER_SIZE);
    }
}

static const struct {
    const char *name;
    uint64_t cache_bytes;
} caches[] = { { "no cache", 0 }, { "a little", 40000 }, { "all of it", 1 << 30 } };

START_TEST(appends_and_replacements_agree_with_a_naive_twin)
{
    uint64_t state = 88172645463325252u + (uint64_t)_i;
    struct os *os = os_memory_new(5);
    struct storage_options options = fixture_options(kinds[_i % 2]);
    options.cache_bytes = caches[_i % 3].cache_bytes;
    options.segment_bytes = 1 << 18;
    struct storage_recovered recovered;
    struct error error = { "" };
    struct storage *storage = storage_open(os, &options, &recovered, &error);
    ck_assert_msg(storage != NULL, "%s", error.text);
    struct history *history = history_new();
    uint64_t term = 1, now = 0;
    for (int turn = 0; turn < 700; turn++) {
        uint64_t what = random_next(&state) % 10;
        uint64_t next = history->last + 1;
        if (what == 0)
            term++;
        if (what == 0 && history->last > 0)
            next =
                history->last + 1 - random_next(&state) % (history->last < 30 ? history->last : 30);
        if (what == 1)
            ck_assert_int_eq(history_vote(history, storage, ++term, (uint32_t)turn), 0);
        for (uint64_t count = 1 + random_next(&state) % 4; count > 0; count--, next++) {
            uint32_t size = (uint32_t)(ENTRY_HEADER_SIZE + random_next(&state) % 9000);
            ck_assert_int_eq(history_entry(history, storage, next, term, size), 0);
        }
        ck_assert_int_eq(history_flush(history, storage), 0);
        if (what > 3)
            ck_assert_int_eq(history_collect(history, storage), 0);
        while (what % 2 == 0 && storage_background(storage, ++now))
            continue;
        compare_with_twin(history, storage, &state);
        compare_run_with_twin(history, storage, &state);
        struct storage_stats stats;
        storage_stats(storage, &stats);
        ck_assert_uint_le(stats.cache_bytes, options.cache_bytes);
        ck_assert_uint_le(stats.flushes_in_flight, 2);
        if (turn % 100 != 99)
            continue;
        history_collect(history, storage);
        history_collect(history, storage);
        ck_assert_int_eq(history->acked_steps, history->step_count);
        storage_close(storage);
        storage = storage_open(os, &options, &recovered, &error);
        ck_assert_msg(storage != NULL, "%s", error.text);
        const char *difference =
            history_difference(history, history->step_count, storage, &recovered);
        ck_assert_msg(difference == NULL, "%s: %s", caches[_i % 3].name, difference);
        free(recovered.runs);
        recovered.runs = NULL;
    }
    storage_close(storage);
    ck_assert_int_eq(os_memory_open_count(os), 0);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(the_largest_entry_fits_and_one_byte_more_does_not)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, kinds[_i], &recovered);
    struct history *history = history_new();
    uint32_t largest = FIXTURE_SEGMENT_BYTES - 2 * STORAGE_BLOCK - 64;
    ck_assert(storage_room(storage, largest, false));
    ck_assert_int_eq(history_entry(history, storage, 1, 1, largest + 1), -EFBIG);
    for (uint64_t index = 1; index <= 5; index++)
        ck_assert_int_eq(history_entry(history, storage, index, 1, largest), 0);
    ck_assert_int_eq(history_vote(history, storage, 2, 1), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 6);
    storage_close(storage);
    storage = fixture_open(os, kinds[_i], &recovered);
    const char *difference = history_difference(history, 6, storage, &recovered);
    ck_assert_msg(difference == NULL, "%s", difference);
    free(recovered.runs);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(a_new_segment_size_holds_for_new_segments)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct history *history = history_new();
    static const uint32_t sizes[] = { 65536, 262144, 131072, 65536 };
    for (int i = 0; i < 4; i++) {
        struct storage_options options = fixture_options(STORAGE_FLUSH_AIO);
        options.segment_bytes = sizes[i];
        struct error error = { "" };
        struct storage *storage = storage_open(os, &options, &recovered, &error);
        ck_assert_msg(storage != NULL, "%s", error.text);
        const char *difference =
            history_difference(history, history->step_count, storage, &recovered);
        ck_assert_msg(difference == NULL, "%d: %s", i, difference);
        free(recovered.runs);
        for (int entry = 0; entry < 5; entry++)
            ck_assert_int_eq(history_entry(history, storage, history->last + 1, 1,
                                           sizes[i] - 2 * STORAGE_BLOCK - 64),
                             0);
        ck_assert_int_eq(history_flush(history, storage), 0);
        storage_close(storage);
    }
    size_t size;
    ck_assert(os_memory_bytes(os, fixture_segment(1), &size) != NULL);
    ck_assert_uint_eq(size, 65536);
    ck_assert(os_memory_bytes(os, fixture_segment(9), &size) != NULL);
    ck_assert_uint_eq(size, 262144);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* -- What it costs ------------------------------------------------------------------------------- */

START_TEST(a_turn_costs_one_write_and_one_flush)
{
    struct os *os = os_memory_new(1);
    struct storage_options options = fixture_options(kinds[_i]);
    options.segment_bytes = 1 << 20;
    struct storage_recovered recovered;
    struct storage *storage = storage_open(os, &options, &recovered, NULL);
    ck_assert(storage != NULL);
    struct history *history = history_new();
    fixture_prepare(history, storage);
    for (int turn = 1; turn <= 50; turn++) {
        uint64_t writes = os_memory_count(os, OS_MEMORY_PWRITEV);
        uint64_t all = os_memory_count_all(os);
        if (turn % 10 == 0)
            ck_assert_int_eq(history_vote(history, storage, (uint64_t)turn, 1), 0);
        for (int entry = 0; entry < 1 + turn % 3; entry++)
            ck_assert_int_eq(
                history_entry(history, storage, history->last + 1, (uint64_t)turn, 500), 0);
        ck_assert_int_eq(history_flush(history, storage), 0);
        ck_assert_uint_eq(os_memory_count(os, OS_MEMORY_PWRITEV) - writes, 1);
        ck_assert_uint_eq(os_memory_count_all(os) - all, 2);
        ck_assert_int_eq(history_collect(history, storage), 0);
        ck_assert_int_eq(history->acked_steps, history->step_count);
        ck_assert_uint_eq(os_memory_count_all(os) - all, _i == 0 ? 3 : 2);
        ck_assert(!storage_background(storage, 1));
        /* Nothing under way: looking costs nothing. */
        ck_assert_int_eq(history_collect(history, storage), 0);
        ck_assert_uint_eq(os_memory_count_all(os) - all, _i == 0 ? 3 : 2);
    }
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(reading_the_log_through_takes_few_reads)
{
    struct os *os = os_memory_new(1);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    options.segment_bytes = 1 << 20;
    options.cache_bytes = 0;
    struct storage_recovered recovered;
    struct storage *storage = storage_open(os, &options, &recovered, NULL);
    struct history *history = history_new();
    for (uint64_t index = 1; index <= 1000; index++)
        ck_assert_int_eq(history_entry(history, storage, index, 1, 200), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    uint64_t reads = os_memory_count(os, OS_MEMORY_PREAD);
    struct entry entry;
    for (uint64_t index = 1; index <= 1000; index++)
        ck_assert_int_eq(storage_entry(storage, index, &entry, NULL), 0);
    /* 4 MB in pieces of half a megabyte, cut at the ends of four segments. */
    ck_assert_uint_le(os_memory_count(os, OS_MEMORY_PREAD) - reads, 16);
    /* Jumping about costs one read each, and no more bytes than the record. */
    reads = os_memory_count(os, OS_MEMORY_PREAD);
    for (uint64_t index = 1000; index >= 500; index -= 7)
        ck_assert_int_eq(storage_entry(storage, index, &entry, NULL), 0);
    ck_assert_uint_le(os_memory_count(os, OS_MEMORY_PREAD) - reads, 72);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(descriptors_do_not_grow_with_the_log)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage_options options = fixture_options(kinds[_i]);
    options.cache_bytes = 0;
    struct storage *storage = storage_open(os, &options, &recovered, NULL);
    struct history *history = history_new();
    for (uint64_t index = 1; index <= 160; index++) {
        ck_assert_int_eq(history_entry(history, storage, index, 1, 9000), 0);
        ck_assert_int_eq(history_flush(history, storage), 0);
        ck_assert_int_eq(history_collect(history, storage), 0);
        struct entry entry;
        ck_assert_int_eq(storage_entry(storage, 1 + index * 7 % index, &entry, NULL), 0);
        ck_assert_int_eq(storage_entry(storage, 1 + index * 5 % index, &entry, NULL), 0);
        ck_assert_int_le(os_memory_open_count(os), 10);
    }
    struct storage_stats stats;
    storage_stats(storage, &stats);
    ck_assert_uint_ge(stats.segments, 30);
    ck_assert_uint_eq(stats.log_bytes, stats.segments * FIXTURE_SEGMENT_BYTES);
    storage_close(storage);
    ck_assert_int_eq(os_memory_open_count(os), 0);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* -- Reading back ------------------------------------------------------------------------------- */

START_TEST(an_entry_that_has_changed_on_disk_is_not_given_out)
{
    struct os *os = os_memory_new(1);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    options.cache_bytes = 0;
    struct storage_recovered recovered;
    struct storage *storage = storage_open(os, &options, &recovered, NULL);
    struct history *history = history_new();
    for (uint64_t index = 1; index <= 3; index++)
        ck_assert_int_eq(history_entry(history, storage, index, 1, 300), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    struct error error = { "" };
    struct entry entry;
    ck_assert_int_eq(storage_entry(storage, 3, &entry, &error), 0);
    entry.index = 77;
    os_memory_fail(os, OS_MEMORY_PREAD, 1, -EIO);
    ck_assert_int_eq(storage_entry(storage, 2, &entry, &error), -EIO);
    ck_assert_ptr_nonnull(strstr(error.text, "0000000000000001.segment' offset 8192"));
    ck_assert_uint_eq(entry.index, 77);
    for (size_t at = 8192; at < 8192 + 364; at++) {
        uint8_t *bytes = os_memory_bytes(os, fixture_segment(1), NULL);
        bytes[at] ^= 0x10;
        ck_assert_int_eq(storage_entry(storage, 2, &entry, &error), -EBADMSG);
        ck_assert_ptr_nonnull(strstr(error.text, "0000000000000001.segment' offset 8192"));
        ck_assert_uint_eq(entry.index, 77);
        bytes[at] ^= 0x10;
        /* Another record, so that the piece in memory is not this one. */
        struct entry other;
        ck_assert_int_eq(storage_entry(storage, 1, &other, &error), 0);
        ck_assert_int_eq(storage_entry(storage, 3, &other, &error), 0);
    }
    ck_assert_int_eq(storage_entry(storage, 2, &entry, &error), 0);
    /* The content of another entry of this size in this one's frame. */
    uint8_t *bytes = os_memory_bytes(os, fixture_segment(1), NULL);
    memcpy(bytes + 8192 + 64, bytes + 4096 + 64, 300);
    ck_assert_int_eq(storage_entry(storage, 1, &entry, &error), 0);
    ck_assert_int_eq(storage_entry(storage, 3, &entry, &error), 0);
    ck_assert_int_eq(storage_entry(storage, 2, &entry, &error), -EBADMSG);
    /* The record of another entry, whole, in this one's place: misdirected. */
    memcpy(bytes + 8192, bytes + 4096, 4096);
    ck_assert_int_eq(storage_entry(storage, 1, &entry, &error), 0);
    ck_assert_int_eq(storage_entry(storage, 3, &entry, &error), 0);
    ck_assert_int_eq(storage_entry(storage, 2, &entry, &error), -EBADMSG);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* -- Flushes ------------------------------------------------------------------------------------- */

START_TEST(flushes_count_in_the_order_of_the_stream)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_AIO, &recovered);
    struct history *history = history_new();
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 100), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 1);
    os_memory_hold_flushes(os, true);

    for (uint64_t index = 2; index <= 6; index++) {
        ck_assert_int_eq(history_entry(history, storage, index, 1, 100), 0);
        ck_assert_int_eq(history_flush(history, storage), 0);
        ck_assert_int_eq(os_memory_held(os), index < 3 ? 1 : 2); /* two, and no more */
    }
    os_memory_finish(os, 1, 0); /* the later one is done first */
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 1);
    os_memory_finish(os, 0, 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 3);
    ck_assert_int_eq(os_memory_held(os), 1); /* the three that waited share one */
    os_memory_finish(os, 0, 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 6);
    ck_assert_int_eq(os_memory_held(os), 0);

    /* Nothing new, and asked for all the same: it comes back by a flush, so somebody is woken. */
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(os_memory_held(os), 1);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(a_turn_across_segments_waits_for_each_of_them)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_AIO, &recovered);
    struct history *history = history_new();
    os_memory_hold_flushes(os, true);
    for (uint64_t index = 1; index <= 12; index++)
        ck_assert_int_eq(history_entry(history, storage, index, 1, 16000), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    struct storage_stats stats;
    storage_stats(storage, &stats);
    ck_assert_uint_ge(stats.segments, 4);
    ck_assert_int_eq(os_memory_held(os), 3); /* the probe of the queue, and two of ours */
    os_memory_finish(os, 0, 0);
    int flushes = 0;
    while (os_memory_held(os) > 0) {
        ck_assert_int_eq(history->acked_steps, 0);
        os_memory_finish(os, 0, 0);
        flushes++;
        ck_assert_int_eq(history_collect(history, storage), 0);
    }
    ck_assert_int_eq(history->acked_steps, 12);
    ck_assert_int_eq(flushes, 4);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* A segment that is finished in haste, with a flush of the background under way: whatever comes of
 * that one, comes before anything in the segment counts. */
START_TEST(haste_does_not_forget_a_flush_under_way)
{
    struct os *os = os_memory_new(1);
    struct storage_options options = fixture_options(STORAGE_FLUSH_AIO);
    options.segment_bytes = 131072;
    struct storage_recovered recovered;
    struct storage *storage = storage_open(os, &options, &recovered, NULL);
    struct history *history = history_new();
    ck_assert_int_eq(history_collect(history, storage), 0);
    os_memory_hold_flushes(os, true);
    while (storage_background(storage, 1))
        continue;
    ck_assert_int_eq(os_memory_held(os), 1);
    /* Two segments in haste: the first one is the one whose flush is under way. */
    for (uint64_t index = 1; index <= 17; index++)
        ck_assert_int_eq(history_entry(history, storage, index, 1, 16000), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    while (os_memory_held(os) > 1) {
        os_memory_finish(os, 1, 0);
        ck_assert_int_eq(history_collect(history, storage), 0);
    }
    ck_assert_int_eq(history->acked_steps, 0);
    os_memory_finish(os, 0, _i == 0 ? 0 : -EIO);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(history_collect(history, storage), _i == 0 ? 0 : -EIO);
        if (os_memory_held(os) > 0)
            os_memory_finish(os, 0, 0);
    }
    ck_assert_int_eq(history->acked_steps, _i == 0 ? 17 : 0);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(a_failed_flush_is_final)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, kinds[_i], &recovered);
    struct history *history = history_new();
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 100), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);

    os_memory_hold_flushes(os, true);
    os_memory_fail(os, OS_MEMORY_FDATASYNC, 1, -EIO);
    ck_assert_int_eq(history_entry(history, storage, 2, 1, 100), 0);
    int code = history_flush(history, storage);
    ck_assert_int_eq(code, _i == 0 ? 0 : -EIO);
    if (_i == 0) {
        ck_assert_int_eq(history_entry(history, storage, 3, 1, 100), 0);
        ck_assert_int_eq(history_flush(history, storage), 0);
        os_memory_finish(os, 0, -EIO);
        os_memory_finish(os, 0, 0); /* the next one says that all is well: it is not */
    }
    ck_assert_int_eq(history_collect(history, storage), -EIO);
    ck_assert_int_eq(history->acked_steps, 1);
    uint64_t flushes =
        os_memory_count(os, OS_MEMORY_FDATASYNC) + os_memory_count(os, OS_MEMORY_FLUSH_START);
    ck_assert_int_eq(storage_vote(storage, 5, 1), -EIO);
    ck_assert_int_eq(storage_flush(storage, 9), -EIO);
    ck_assert_int_eq(history_collect(history, storage), -EIO);
    ck_assert(!storage_background(storage, 1));
    ck_assert(!storage_room(storage, 100, true));
    ck_assert_uint_eq(os_memory_count(os, OS_MEMORY_FDATASYNC) +
                          os_memory_count(os, OS_MEMORY_FLUSH_START),
                      flushes);
    ck_assert_int_eq(history->acked_steps, 1);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(a_failed_write_is_final_even_for_want_of_space)
{
    static const int codes[] = { -EIO, -ENOSPC };
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    struct history *history = history_new();
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 100), 0);
    os_memory_fail(os, OS_MEMORY_PWRITEV, 1, codes[_i]);
    ck_assert_int_eq(history_flush(history, storage), -EIO);
    ck_assert_int_eq(history_flush(history, storage), -EIO);
    ck_assert_int_eq(history_collect(history, storage), -EIO);
    ck_assert_int_eq(history->acked_steps, 0);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(short_writes_are_continued)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    os_memory_write_max(os, 777);
    struct storage *storage = fixture_open(os, kinds[_i], &recovered);
    struct history *history = history_new();
    for (uint64_t index = 1; index <= 20; index++) {
        ck_assert_int_eq(history_entry(history, storage, index, 1, (uint32_t)(64 + index * 401)),
                         0);
        if (index % 2 == 0)
            ck_assert_int_eq(history_flush(history, storage), 0);
        ck_assert_int_eq(history_collect(history, storage), 0);
    }
    storage_close(storage);
    struct os *after = os_memory_crash(os, NULL, NULL, 0, 0);
    storage = fixture_open(after, kinds[_i], &recovered);
    const char *difference = history_difference(history, 20, storage, &recovered);
    ck_assert_msg(difference == NULL, "%s (last index %" PRIu64 ") %s", difference,
                  recovered.last_index, recovered.torn_at);
    free(recovered.runs);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
    os_memory_free(after);
}
END_TEST

START_TEST(without_a_queue_flushes_are_inline)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    /* The queue is not to be had; or it is, and refuses this file system. */
    os_memory_fail(os, _i == 0 ? OS_MEMORY_FLUSH_OPEN : OS_MEMORY_FLUSH_START, 1,
                   _i == 0 ? -ENOSYS : -EINVAL);
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_AIO, &recovered);
    ck_assert_str_eq(storage_flush_name(storage), "sync");
    ck_assert_int_eq(storage_fd(storage), -1);
    struct history *history = history_new();
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 100), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 1);
    storage_close(storage);
    ck_assert_int_eq(os_memory_open_count(os), 0);
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(a_busy_queue_is_asked_again)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_AIO, &recovered);
    struct history *history = history_new();
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 100), 0);
    os_memory_hold_flushes(os, true);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_entry(history, storage, 2, 1, 100), 0);
    os_memory_fail(os, OS_MEMORY_FLUSH_START, 1, -EAGAIN);
    ck_assert_int_eq(history_flush(history, storage), 0);
    os_memory_hold_flushes(os, false);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 1);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history->acked_steps, 2);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storage");
    TCase *tcase = tcase_create("log");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_fresh_directory_is_empty_and_says_so, 0, 2);
    tcase_add_loop_test(tcase, what_was_appended_is_there_before_and_after_a_restart, 0, 2);
    tcase_add_loop_test(tcase, a_vote_of_an_older_term_binds_nobody, 0, 2);
    tcase_add_loop_test(tcase, appends_and_replacements_agree_with_a_naive_twin, 0, 6);
    tcase_add_loop_test(tcase, the_largest_entry_fits_and_one_byte_more_does_not, 0, 2);
    tcase_add_test(tcase, a_new_segment_size_holds_for_new_segments);
    tcase_add_loop_test(tcase, a_turn_costs_one_write_and_one_flush, 0, 2);
    tcase_add_test(tcase, reading_the_log_through_takes_few_reads);
    tcase_add_loop_test(tcase, descriptors_do_not_grow_with_the_log, 0, 2);
    tcase_add_test(tcase, an_entry_that_has_changed_on_disk_is_not_given_out);
    tcase_add_test(tcase, flushes_count_in_the_order_of_the_stream);
    tcase_add_test(tcase, a_turn_across_segments_waits_for_each_of_them);
    tcase_add_loop_test(tcase, haste_does_not_forget_a_flush_under_way, 0, 2);
    tcase_add_loop_test(tcase, a_failed_flush_is_final, 0, 2);
    tcase_add_loop_test(tcase, a_failed_write_is_final_even_for_want_of_space, 0, 2);
    tcase_add_loop_test(tcase, short_writes_are_continued, 0, 2);
    tcase_add_loop_test(tcase, without_a_queue_flushes_are_inline, 0, 2);
    tcase_add_test(tcase, a_busy_queue_is_asked_again);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
