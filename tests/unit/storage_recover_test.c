/* Recovery from a log that was changed behind its back: every byte flipped, every length cut, whole
 * blocks lost, replaced or left over. The answer must be the log as it was up to some record, with
 * all that is proven durable in it; or a refusal that names file and offset. Which of the two is
 * worked out here by comparing bytes with the unharmed log: no checksum, no code under test. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"
#include "server/storage/recover.h"
#include "tests/unit/slow.h"
#include "tests/unit/storage_fixture.h"

/* -- The table of cases -------------------------------------------------------------------------- */

/* What must come out, said in another way than the table says it. */
static enum recover_verdict expected_verdict(const struct recover_facts *facts)
{
    if (facts->place == RECOVER_NO_SEGMENT)
        return facts->has_leftovers ? RECOVER_NEVER : RECOVER_DAMAGED;
    if (!facts->has_leftovers)
        return facts->place == RECOVER_BLANK && !facts->is_proven ? RECOVER_END : RECOVER_NEVER;
    return facts->is_proven ? RECOVER_DAMAGED : RECOVER_TORN;
}

START_TEST(every_combination_of_facts_has_exactly_one_case)
{
    int used[32] = { 0 };
    ck_assert_int_le(recover_case_count, 32);
    for (int place = 0; place < RECOVER_PLACE_COUNT; place++) {
        for (int bits = 0; bits < 4; bits++) {
            struct recover_facts facts = {
                .place = (enum recover_place)place,
                .has_leftovers = (bits & 1) != 0,
                .is_proven = (bits & 2) != 0,
            };
            int matches = 0;
            for (int i = 0; i < recover_case_count; i++) {
                if (!recover_case_matches(&recover_cases[i], &facts))
                    continue;
                matches++;
                used[i]++;
            }
            ck_assert_msg(matches == 1, "place %d bits %d: %d cases", place, bits, matches);
            const struct recover_case *row = recover_case_of(&facts);
            ck_assert_msg(row->verdict == expected_verdict(&facts), "place %d bits %d: '%s'", place,
                          bits, row->name);
        }
    }
    for (int i = 0; i < recover_case_count; i++)
        ck_assert_msg(used[i] > 0, "'%s' never matches", recover_cases[i].name);
}
END_TEST

/* -- The log that is harmed ---------------------------------------------------------------------- */

#define FILES 4
#define RECORDS_MAX 32

/* What the oracle knows of a record: from its place in the unharmed log. */
struct known {
    int file;      /* segment file + 1 */
    size_t offset; /* in the file */
    size_t used;   /* frame and content */
    uint64_t at;   /* position */
    uint64_t durable;
    int steps_after; /* how many steps of the history are done with this record */
    bool is_seal;
};

struct image {
    struct history *history;
    struct os *os;
    char path[FILES][64];
    uint8_t *bytes[FILES];
    size_t size[FILES];
    int file_count;
    uint8_t *identity;
    size_t identity_size;
    struct known records[RECORDS_MAX];
    int record_count;
};

static void image_take(struct image *image)
{
    image->file_count = 0;
    for (int file = 0; file < FILES; file++) {
        snprintf(image->path[file], sizeof image->path[file], "%s",
                 fixture_segment((uint64_t)file + 1));
        uint8_t *seen = os_memory_bytes(image->os, image->path[file], &image->size[file]);
        if (seen == NULL)
            break;
        image->bytes[file] = malloc(image->size[file]);
        memcpy(image->bytes[file], seen, image->size[file]);
        image->file_count++;
    }
}

/* Read the records off the unharmed log: 64 bytes of frame, size at 12, position at 16, durable at
 * 24, type at 4; the next one on the next 4096. */
static void image_list(struct image *image)
{
    int steps = 0;
    for (int file = 0; file < image->file_count; file++) {
        uint64_t start = load_u64(image->bytes[file] + 32);
        for (size_t offset = 4096; offset < image->size[file];) {
            const uint8_t *frame = image->bytes[file] + offset;
            if (load_u64(frame + 16) == 0)
                break;
            struct known *known = &image->records[image->record_count++];
            *known = (struct known){
                .file = file,
                .offset = offset,
                .used = 64 + load_u32(frame + 12),
                .at = load_u64(frame + 16),
                .durable = load_u64(frame + 24),
                .is_seal = load_u16(frame + 4) == 3,
            };
            ck_assert_uint_eq(known->at, start + offset);
            steps += !known->is_seal;
            known->steps_after = steps;
            offset += (known->used + 4095) / 4096 * 4096;
            if (known->is_seal)
                break;
        }
    }
    ck_assert_int_eq(steps, image->history->step_count);
}

/* Votes, entries, replaced suffixes, a large entry that rolls to a second segment, two turns under
 * way at the end. */
static struct image *image_new(void)
{
    struct image *image = calloc(1, sizeof *image);
    image->os = os_memory_new(3);
    image->history = history_new();
    struct history *history = image->history;
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(image->os, STORAGE_FLUSH_AIO, &recovered);
    ck_assert_int_eq(history_vote(history, storage, 1, 1), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history_entry_of_kind(history, storage, ENTRY_NOOP, 1, 1, 64), 0);
    ck_assert_int_eq(history_entry(history, storage, 2, 1, 700), 0);
    ck_assert_int_eq(history_entry(history, storage, 3, 1, 4500), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history_vote(history, storage, 2, 3), 0);
    ck_assert_int_eq(history_entry(history, storage, 2, 2, 300), 0); /* replaces 2 and 3 */
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history_entry(history, storage, 3, 2, 9000), 0);
    for (uint32_t node = 0; node < 5; node++)
        ck_assert_int_eq(history_vote(history, storage, 2, node), 0);
    ck_assert_int_eq(history_entry(history, storage, 4, 2, 64), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    ck_assert_int_eq(history_entry(history, storage, 5, 2, 200), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_collect(history, storage), 0);
    fixture_prepare(history, storage);
    os_memory_hold_flushes(image->os, true);
    ck_assert_int_eq(history_entry(history, storage, 6, 2, 4032),
                     0); /* its block to the last byte */
    ck_assert_int_eq(history_flush(history, storage), 0);
    ck_assert_int_eq(history_vote(history, storage, 3, UINT32_MAX), 0);
    ck_assert_int_eq(history_entry(history, storage, 6, 3, 5000), 0); /* replaces 6 */
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);
    os_memory_settle(image->os);
    os_memory_hold_flushes(image->os, false);
    image_take(image);
    image_list(image);
    uint8_t *identity =
        os_memory_bytes(image->os, FIXTURE_DIRECTORY "/identity", &image->identity_size);
    image->identity = malloc(image->identity_size);
    memcpy(image->identity, identity, image->identity_size);
    return image;
}

static void image_free(struct image *image)
{
    for (int file = 0; file < image->file_count; file++)
        free(image->bytes[file]);
    free(image->identity);
    history_free(image->history);
    os_memory_free(image->os);
    free(image);
}

static void image_restore(struct image *image)
{
    for (int file = 0; file < image->file_count; file++)
        os_memory_put(image->os, image->path[file], image->bytes[file], image->size[file]);
}

/* -- The oracle ---------------------------------------------------------------------------------- */

struct expected {
    bool is_refused;
    int file; /* where: of a refusal, or of the torn place */
    size_t offset;
    int steps; /* of the history, if it is not refused */
    bool is_torn;
};

/* Whether `size` bytes are what they were; what a file lacks counts as zeros. */
static bool is_same(const struct image *image, int file, size_t offset, size_t size)
{
    size_t now_size;
    const uint8_t *now = os_memory_bytes(image->os, image->path[file], &now_size);
    const uint8_t *before = image->bytes[file] + offset;
    size_t there = now_size > offset ? now_size - offset : 0;
    if (there >= size)
        return memcmp(now + offset, before, size) == 0;
    if (there > 0 && memcmp(now + offset, before, there) != 0)
        return false;
    for (size_t i = there; i < size; i++)
        if (before[i] != 0)
            return false;
    return true;
}

static bool is_zero(const struct image *image, int file, size_t offset)
{
    size_t size;
    const uint8_t *now = os_memory_bytes(image->os, image->path[file], &size);
    /* The first byte is zero, and every other one is like the one before it. */
    return offset >= size ||
           (now[offset] == 0 && memcmp(now + offset, now + offset + 1, size - offset - 1) == 0);
}

static struct expected expect(const struct image *image)
{
    struct expected expected = { 0 };
    for (int file = 0; file < image->file_count; file++) {
        if (is_same(image, file, 0, 4096))
            continue;
        expected.is_refused = true;
        expected.file = file;
        return expected;
    }
    uint64_t proven = 0;
    const struct known *bad = NULL;
    for (int i = 0; i < image->record_count; i++) {
        const struct known *known = &image->records[i];
        if (is_same(image, known->file, known->offset, 64) && known->durable > proven)
            proven = known->durable;
        if (bad == NULL && !is_same(image, known->file, known->offset, known->used))
            bad = known;
    }
    const struct known *last = &image->records[image->record_count - 1];
    expected.file = last->file;
    expected.offset = last->offset + (last->used + 4095) / 4096 * 4096;
    if (bad != NULL) {
        expected.file = bad->file;
        expected.offset = bad->offset;
    }
    expected.is_refused = bad != NULL && proven > bad->at;
    expected.steps = last->steps_after;
    if (bad != NULL)
        expected.steps = bad == image->records ? 0 : (bad - 1)->steps_after;
    expected.is_torn = !is_zero(image, expected.file, expected.offset);
    for (int file = expected.file + 1; file < image->file_count; file++)
        expected.is_torn = expected.is_torn || !is_zero(image, file, 4096);
    return expected;
}

/* ck_assert notes every success in a file: too slow for what is asked some 100,000 times. */
#define DEMAND(condition, ...) \
    do { \
        if (!(condition)) \
            ck_abort_msg(__VA_ARGS__); \
    } while (0)

/* The tail is clean: nothing but zeros behind the end, in files of full size, and all of it stable. */
static bool is_clean_behind(struct image *image, const struct expected *expected)
{
    if (!is_zero(image, expected->file, expected->offset))
        return false;
    for (int file = expected->file; file < image->file_count; file++) {
        size_t size;
        if (os_memory_bytes(image->os, image->path[file], &size) == NULL ||
            size != image->size[file] || (file > expected->file && !is_zero(image, file, 4096)))
            return false;
    }
    return os_memory_dirty_sectors(image->os) == 0;
}

/* Open the harmed log and compare with the oracle. `what`, `file` and `where` are for the message. */
static void check_recovery(struct image *image, const char *what, int file, size_t where)
{
    struct expected expected = expect(image);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    options.cache_bytes = 0;
    struct storage_recovered recovered;
    struct error error;
    error.text[0] = '\0';
    struct storage *storage = storage_open(image->os, &options, &recovered, &error);
    char place[128];
    snprintf(place, sizeof place, "%s' offset %zu:", image->path[expected.file], expected.offset);
    DEMAND((storage == NULL) == expected.is_refused, "%s %d/%zu: expected %s, got '%s'", what, file,
           where, expected.is_refused ? "a refusal" : "a log", error.text);
    if (storage == NULL) {
        DEMAND(strstr(error.text, place) != NULL, "%s %d/%zu: expected '%s', got '%s'", what, file,
               where, place, error.text);
        return;
    }
    const char *difference =
        history_difference(image->history, expected.steps, storage, &recovered);
    DEMAND(difference == NULL, "%s %d/%zu: %s; %s", what, file, where, difference,
           recovered.torn_at);
    DEMAND((recovered.torn_bytes > 0) == expected.is_torn, "%s %d/%zu: torn %" PRIu64, what, file,
           where, recovered.torn_bytes);
    snprintf(place, sizeof place, "%s offset %zu:", image->path[expected.file], expected.offset);
    DEMAND(!expected.is_torn || strncmp(recovered.torn_at, place, strlen(place)) == 0,
           "%s %d/%zu: expected '%s', got '%s'", what, file, where, place, recovered.torn_at);
    free(recovered.runs);
    storage_close(storage);
    DEMAND(is_clean_behind(image, &expected), "%s %d/%zu: left over", what, file, where);
}

START_TEST(the_image_holds_what_the_test_is_about)
{
    struct image *image = image_new();
    int seals = 0, proven = 0;
    const struct known *last = &image->records[image->record_count - 1];
    for (int i = 0; i < image->record_count; i++) {
        seals += image->records[i].is_seal;
        proven += image->records[i].at < last->durable;
    }
    ck_assert_int_eq(seals, 1);
    ck_assert_int_eq(image->file_count, 3);
    /* The last turns were written with the flush of the one before under way: three records that
     * nothing proves. */
    ck_assert_int_eq(image->record_count - proven, 3);
    check_recovery(image, "unharmed", 0, 0);
    image_free(image);
}
END_TEST

/* -- Flips --------------------------------------------------------------------------------------- */

/* The record that holds the byte in its frame or content, or NULL. */
static const struct known *record_of(const struct image *image, int file, size_t at)
{
    for (int i = 0; i < image->record_count; i++) {
        const struct known *known = &image->records[i];
        if (known->file == file && at >= known->offset && at < known->offset + known->used)
            return known;
    }
    return NULL;
}

/* Every byte of headers, frames and contents, and where a frame could begin. Of the rest, padding
 * and zeros, some. */
static bool is_tried(const struct image *image, int file, size_t at)
{
    return at < 4096 || at % 4096 < 80 || at % 23 == 0 || record_of(image, file, at) != NULL;
}

/* `_i`: slices of the offsets, each in a process of its own. With a stride (slow.h; odd, so
 * that no place within a block or a frame is always left out), they share every n-th offset. */
#define SLICES 4

static size_t first_of_slice(int slice)
{
    return (size_t)slice * test_stride();
}

static size_t step_of_slices(void)
{
    return (size_t)SLICES * test_stride();
}

START_TEST(every_flipped_byte_is_harmless_cut_off_or_refused)
{
    static const uint8_t masks[] = { 0x01, 0x80, 0xff };
    struct image *image = image_new();
    int tried = 0;
    for (int file = 0; file < image->file_count; file++) {
        for (size_t at = first_of_slice(_i); at < image->size[file]; at += step_of_slices()) {
            if (!is_tried(image, file, at))
                continue;
            int mask_count = at % 4096 < 128 && record_of(image, file, at) != NULL ? 3 : 1;
            for (int mask = 0; mask < mask_count; mask++, tried++) {
                uint8_t flip = mask_count > 1 ? masks[mask] : (uint8_t)(1 + at * 37 % 255);
                os_memory_bytes(image->os, image->path[file], NULL)[at] ^= flip;
                os_memory_settle(image->os);
                check_recovery(image, "flip", file, at);
                image_restore(image);
            }
        }
    }
    ck_assert_int_gt(tried, 10000 / (int)test_stride());
    image_free(image);
}
END_TEST

START_TEST(every_cut_is_a_torn_tail_or_refused)
{
    struct image *image = image_new();
    for (int file = 0; file < image->file_count; file++) {
        for (size_t size = first_of_slice(_i); size < image->size[file]; size += step_of_slices()) {
            if (!is_tried(image, file, size))
                continue;
            os_memory_resize(image->os, image->path[file], size);
            check_recovery(image, "cut", file, size);
            image_restore(image);
        }
    }
    image_free(image);
}
END_TEST

#define SUBSET_RECORDS 10

/* Every subset of the last records lost, as whole blocks: the later without the earlier. */
START_TEST(every_subset_of_lost_records_is_cut_off_or_refused)
{
    struct image *image = image_new();
    int first = image->record_count - SUBSET_RECORDS;
    ck_assert_int_ge(first, 0);
    for (unsigned lost = 0; lost < 1u << SUBSET_RECORDS; lost += test_stride()) {
        for (int i = first; i < image->record_count; i++) {
            const struct known *known = &image->records[i];
            if ((lost >> (i - first) & 1) != 0)
                memset(os_memory_bytes(image->os, image->path[known->file], NULL) + known->offset,
                       0, known->used);
        }
        os_memory_settle(image->os);
        check_recovery(image, "lost", 0, lost);
        image_restore(image);
    }
    image_free(image);
}
END_TEST

/* A write that went elsewhere: each record's bytes in the place of each other. */
START_TEST(a_record_in_another_place_never_counts)
{
    struct image *image = image_new();
    for (int from = 0; from < image->record_count; from++) {
        for (int to = 0; to < image->record_count; to++) {
            const struct known *source = &image->records[from], *target = &image->records[to];
            size_t room = image->size[target->file] - target->offset;
            size_t size = source->used < room ? source->used : room;
            if (from == to || size < source->used)
                continue;
            uint8_t *bytes = os_memory_bytes(image->os, image->path[target->file], NULL);
            memcpy(bytes + target->offset, image->bytes[source->file] + source->offset, size);
            os_memory_settle(image->os);
            check_recovery(image, "moved", from, (size_t)to);
            image_restore(image);
        }
    }
    image_free(image);
}
END_TEST

/* -- What is left over ---------------------------------------------------------------------------- */

/* A vote for node 9 in term 99, put behind the last record by hand; `salt_change` makes it one of an
 * earlier life of the file. Otherwise it is a good one: that counts. */
static void put_vote_by_hand(struct image *image, uint8_t salt_change)
{
    const struct known *last = &image->records[image->record_count - 1];
    size_t offset = last->offset + (last->used + 4095) / 4096 * 4096;
    uint8_t *file = os_memory_bytes(image->os, image->path[last->file], NULL);
    uint8_t *frame = file + offset;
    memset(frame, 0, 4096);
    store_u16(frame + 4, 2);
    store_u16(frame + 6, 1);
    store_u32(frame + 12, 16);
    store_u64(frame + 16, load_u64(file + 32) + offset);
    memcpy(frame + 32, file + 48, 8);
    frame[35] ^= salt_change;
    store_u64(frame + 64, 99);
    store_u32(frame + 72, 9);
    store_u32(frame + 40, crc32c(0, frame + 64, 16));
    store_u32(frame, crc32c(0, frame + 4, 60));
    os_memory_settle(image->os);
}

START_TEST(records_of_an_earlier_life_of_the_file_never_count)
{
    struct image *image = image_new();
    put_vote_by_hand(image, 1);
    check_recovery(image, "earlier life", 1, 0);
    image_restore(image);

    put_vote_by_hand(image, 0);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(image->os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_uint_eq(recovered.term, 99);
    ck_assert_uint_eq(recovered.voted_for, 9);
    free(recovered.runs);
    storage_close(storage);
    image_free(image);
}
END_TEST

/* The frame came to the disk, and where its content should be stands another entry, whole. */
START_TEST(a_content_of_another_record_is_not_taken_for_this_one)
{
    struct os *os = os_memory_new(9);
    struct history *history = history_new();
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 500), 0);
    ck_assert_int_eq(history_entry(history, storage, 2, 1, 500), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);
    uint8_t *bytes = os_memory_bytes(os, fixture_segment(1), NULL);
    memcpy(bytes + 8192 + 64, bytes + 4096 + 64, 500);
    storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_uint_eq(recovered.last_index, 1);
    ck_assert_ptr_nonnull(strstr(recovered.torn_at, "offset 8192: a record whose content"));
    free(recovered.runs);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* Torn, cut off, written on: a record of the old tail that would continue the new one must be gone.
 * The third of four votes is lost; a fresh third takes its place; the old fourth must not follow. */
START_TEST(what_was_cut_off_never_comes_back)
{
    struct os *os = os_memory_new(9);
    struct history *history = history_new();
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_AIO, &recovered);
    os_memory_hold_flushes(os, true);
    for (uint64_t term = 1; term <= 4; term++)
        ck_assert_int_eq(history_vote(history, storage, term, (uint32_t)term), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);
    os_memory_hold_flushes(os, false);
    memset(os_memory_bytes(os, fixture_segment(1), NULL) + 3 * 4096, 0, 4096);
    os_memory_settle(os);

    storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_uint_eq(recovered.term, 2);
    ck_assert_uint_eq(recovered.torn_bytes, 4096);
    ck_assert_int_eq(storage_vote(storage, 3, 7), 0);
    ck_assert_int_eq(storage_flush(storage, 1), 0);
    storage_close(storage);
    storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_uint_eq(recovered.term, 3);
    ck_assert_uint_eq(recovered.voted_for, 7);
    ck_assert_uint_eq(recovered.torn_bytes, 0);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* One turn on: after a recovery, what was recovered counts as proven by the next record. */
START_TEST(a_cut_log_goes_on_and_proves_what_it_kept)
{
    struct image *image = image_new();
    const struct known *second_last = &image->records[image->record_count - 2];
    os_memory_bytes(image->os, image->path[second_last->file], NULL)[second_last->offset] ^= 1;
    os_memory_settle(image->os);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(image->os, STORAGE_FLUSH_SYNC, &recovered);
    free(recovered.runs);
    struct history *history = image->history;
    /* The last two steps, a vote and the entry, are gone. */
    for (int i = 0; i < 2; i++)
        free(history->steps[--history->step_count].bytes);
    history->newest[5] = history->step_count - 1;
    ck_assert_int_eq(history_entry(history, storage, 7, 3, 100), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);
    storage = fixture_open(image->os, STORAGE_FLUSH_SYNC, &recovered);
    const char *difference = history_difference(history, history->step_count, storage, &recovered);
    ck_assert_msg(difference == NULL, "%s", difference);
    free(recovered.runs);
    storage_close(storage);
    /* Now the record before the new one is proven: harm there is no torn tail. */
    const struct known *kept = second_last - 1;
    os_memory_bytes(image->os, image->path[kept->file], NULL)[kept->offset + 70] ^= 1;
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    struct error error;
    ck_assert_ptr_null(storage_open(image->os, &options, &recovered, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "acknowledged data stood"));
    ck_assert_ptr_nonnull(strstr(error.text, "entries 6 to 6"));
    image_free(image);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storage_recover");
    TCase *tcase = tcase_create("recover");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, every_combination_of_facts_has_exactly_one_case);
    tcase_add_test(tcase, the_image_holds_what_the_test_is_about);
    tcase_add_loop_test(tcase, every_flipped_byte_is_harmless_cut_off_or_refused, 0, SLICES);
    tcase_add_loop_test(tcase, every_cut_is_a_torn_tail_or_refused, 0, SLICES);
    tcase_add_test(tcase, every_subset_of_lost_records_is_cut_off_or_refused);
    tcase_add_test(tcase, a_record_in_another_place_never_counts);
    tcase_add_test(tcase, records_of_an_earlier_life_of_the_file_never_count);
    tcase_add_test(tcase, a_content_of_another_record_is_not_taken_for_this_one);
    tcase_add_test(tcase, what_was_cut_off_never_comes_back);
    tcase_add_test(tcase, a_cut_log_goes_on_and_proves_what_it_kept);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
