/* Directories that must not be used, each refused with a message that names the file and the reason.
 * A row harms a good directory in one way and says which words must be in the message. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"
#include "server/storage/format.h"
#include "tests/unit/storage_fixture.h"

#define IDENTITY FIXTURE_DIRECTORY "/identity"

/* A directory with four small entries; three segments, the third one unused. */
struct subject {
    struct os *os;
    struct history *history;
};

static struct subject subject_new(void)
{
    struct subject subject = { .os = os_memory_new(11), .history = history_new() };
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(subject.os, STORAGE_FLUSH_SYNC, &recovered);
    for (uint64_t index = 1; index <= 4; index++) {
        ck_assert_int_eq(history_entry(subject.history, storage, index, 2, 14000), 0);
        ck_assert_int_eq(history_flush(subject.history, storage), 0);
    }
    fixture_prepare(subject.history, storage);
    storage_close(storage);
    return subject;
}

static void subject_free(struct subject *subject)
{
    history_free(subject->history);
    os_memory_free(subject->os);
}

/* -- Harms --------------------------------------------------------------------------------------- */

static uint8_t *segment_bytes(struct os *os, uint64_t number)
{
    return os_memory_bytes(os, fixture_segment(number), NULL);
}

/* Change the header of a segment and make its checksum fit again. */
static void seal_header(uint8_t *block)
{
    store_u32(block + 8, crc32c(0, block + 12, 4084));
}

static void seal_frame(uint8_t *frame)
{
    store_u32(frame, crc32c(0, frame + 4, 60));
}

/* Give the identity another text; the checksum fits. */
static void put_identity(struct os *os, const char *text)
{
    char all[512];
    int size = snprintf(all, sizeof all, "%s", text);
    size += snprintf(all + size, sizeof all - (size_t)size, "checksum %08" PRIx32 "\n",
                     crc32c(0, all, (size_t)size));
    os_memory_put(os, IDENTITY, all, (size_t)size);
}

static void identity_gone(struct os *os)
{
    os_memory_remove(os, IDENTITY);
}

static void identity_flipped(struct os *os)
{
    os_memory_bytes(os, IDENTITY, NULL)[20] ^= 1;
}

static void identity_empty(struct os *os)
{
    os_memory_resize(os, IDENTITY, 0);
}

static void identity_cut(struct os *os)
{
    size_t size;
    os_memory_bytes(os, IDENTITY, &size);
    os_memory_resize(os, IDENTITY, size - 1);
}

static void identity_version(struct os *os)
{
    put_identity(os, "raftkv-identity 7\nwhatever comes then\n");
}

static void identity_group(struct os *os)
{
    put_identity(os, "raftkv-identity 1\ngroup 3\ncluster test\nnode 1\nincarnation 12\n");
}

static void identity_line(struct os *os)
{
    put_identity(os, "raftkv-identity 1\ngroup 0\ncluster test\nnode 1\nincarnation 12\nmore 1\n");
}

static void identity_title(struct os *os)
{
    put_identity(os, "something else\n");
}

static void other_node(struct os *os)
{
    put_identity(os, "raftkv-identity 1\ngroup 0\ncluster test\nnode 3\nincarnation 12\n");
}

static void other_cluster(struct os *os)
{
    put_identity(os, "raftkv-identity 1\ngroup 0\ncluster production\nnode 1\nincarnation 12\n");
}

static void other_incarnation(struct os *os)
{
    put_identity(os, "raftkv-identity 1\ngroup 0\ncluster test\nnode 1\nincarnation 12\n");
}

static void log_gone(struct os *os)
{
    for (uint64_t number = 1; number <= 3; number++)
        os_memory_remove(os, fixture_segment(number));
}

static void first_gone(struct os *os)
{
    os_memory_remove(os, fixture_segment(1));
}

static void middle_gone(struct os *os)
{
    os_memory_remove(os, fixture_segment(2));
}

static void successor_gone(struct os *os)
{
    os_memory_remove(os, fixture_segment(2));
    os_memory_remove(os, fixture_segment(3));
}

static void names_swapped(struct os *os)
{
    os_memory_move(os, fixture_segment(3), "data/1/log/x");
    os_memory_move(os, fixture_segment(2), fixture_segment(3));
    os_memory_move(os, "data/1/log/x", fixture_segment(2));
}

static void header_magic(struct os *os)
{
    segment_bytes(os, 2)[3] ^= 1;
}

static void header_flipped(struct os *os)
{
    segment_bytes(os, 2)[4000] ^= 1;
}

static void header_version(struct os *os)
{
    store_u16(segment_bytes(os, 2) + 12, 9);
    seal_header(segment_bytes(os, 2));
}

static void header_group(struct os *os)
{
    store_u32(segment_bytes(os, 2) + 16, 5);
    seal_header(segment_bytes(os, 2));
}

static void header_size(struct os *os)
{
    store_u64(segment_bytes(os, 2) + 40, 70000);
    seal_header(segment_bytes(os, 2));
}

static void header_node(struct os *os)
{
    store_u32(segment_bytes(os, 2) + 20, 8);
    seal_header(segment_bytes(os, 2));
}

static void header_cluster(struct os *os)
{
    store_u64(segment_bytes(os, 2) + 64, 8);
    seal_header(segment_bytes(os, 2));
}

static void header_start(struct os *os)
{
    store_u64(segment_bytes(os, 2) + 32, 4096);
    seal_header(segment_bytes(os, 2));
}

static void segment_empty(struct os *os)
{
    os_memory_resize(os, fixture_segment(3), 0);
}

static void record_version(struct os *os)
{
    store_u16(segment_bytes(os, 1) + 4096 + 6, 2);
    seal_frame(segment_bytes(os, 1) + 4096);
}

static void record_group(struct os *os)
{
    store_u32(segment_bytes(os, 1) + 4096 + 8, 2);
    seal_frame(segment_bytes(os, 1) + 4096);
}

static void record_type(struct os *os)
{
    store_u16(segment_bytes(os, 1) + 4096 + 4, 4);
    seal_frame(segment_bytes(os, 1) + 4096);
}

static void record_size(struct os *os)
{
    store_u32(segment_bytes(os, 1) + 4096 + 12, 0xfffffff0);
    seal_frame(segment_bytes(os, 1) + 4096);
}

static void record_durable(struct os *os)
{
    store_u64(segment_bytes(os, 1) + 4096 + 24, 4096 + 4096);
    seal_frame(segment_bytes(os, 1) + 4096);
}

/* Change the first entry, and make its checksum, and the frame's, fit again. */
static void seal_entry(struct os *os)
{
    uint8_t *frame = segment_bytes(os, 1) + 4096;
    uint8_t *entry = frame + 64;
    store_u32(entry, crc32c(0, entry + 4, 13996));
    store_u32(frame + 40, load_u32(entry));
    seal_frame(frame);
}

static void entry_kind(struct os *os)
{
    store_u16(segment_bytes(os, 1) + 4096 + 64 + 10, 77);
    seal_entry(os);
}

static void entry_version(struct os *os)
{
    store_u16(segment_bytes(os, 1) + 4096 + 64 + 8, 3);
    seal_entry(os);
}

static void entry_group(struct os *os)
{
    store_u32(segment_bytes(os, 1) + 4096 + 64 + 12, 3);
    seal_entry(os);
}

static void entry_index(struct os *os)
{
    store_u64(segment_bytes(os, 1) + 4096 + 64 + 24, 2);
    seal_entry(os);
}

static void entry_chain(struct os *os)
{
    segment_bytes(os, 1)[4096 + 64 + 100] ^= 1;
    seal_entry(os);
}

static void entry_damaged(struct os *os)
{
    segment_bytes(os, 1)[4096 + 64 + 100] ^= 1;
}

#define SEGMENT_1 "data/1/log/0000000000000001.segment"
#define SEGMENT_2 "data/1/log/0000000000000002.segment"
#define SEGMENT_3 "data/1/log/0000000000000003.segment"

static const struct {
    const char *name;
    void (*harm)(struct os *os);
    const char *words[4];
} rows[] = {
    { "log without identity", identity_gone, { "data/1/log", "'data/1/identity' is missing" } },
    { "identity with a flipped byte", identity_flipped, { IDENTITY, "damaged", "checksum" } },
    { "empty identity", identity_empty, { IDENTITY, "damaged" } },
    { "identity without its last byte", identity_cut, { IDENTITY, "damaged" } },
    { "identity of a later version",
      identity_version,
      { IDENTITY, "version 7", "version 1", "newer" } },
    { "identity of another group", identity_group, { IDENTITY, "group 3", "group 0" } },
    { "identity with a line more", identity_line, { IDENTITY, "version 1" } },
    { "identity of something else", identity_title, { IDENTITY, "not a raftkv identity" } },
    { "directory of another node", other_node, { "'data/1'", "node 3 of this cluster", "node 1" } },
    { "directory of another cluster", other_cluster, { "'data/1'", "'production'", "'test'" } },
    { "segments of another directory", other_incarnation, { SEGMENT_1, "another directory" } },
    { "identity without a log", log_gone, { SEGMENT_1, "missing", "no log" } },
    { "first segment missing", first_gone, { SEGMENT_1, "missing", "0000000000000003" } },
    { "gap in the segments", middle_gone, { SEGMENT_2, "missing", "0000000000000003" } },
    { "sealed, and no next segment", successor_gone, { SEGMENT_1, "offset", "sealed", "missing" } },
    { "names swapped", names_swapped, { SEGMENT_2, "holds segment 0000000000000003" } },
    { "no magic", header_magic, { SEGMENT_2, "offset 0", "not that of a segment" } },
    { "header with a flipped byte", header_flipped, { SEGMENT_2, "offset 0", "checksum" } },
    { "segment of a later version", header_version, { SEGMENT_2, "version 9", "version 1" } },
    { "segment of another group", header_group, { SEGMENT_2, "group 5", "group 0" } },
    { "segment of an impossible size", header_size, { SEGMENT_2, "70000" } },
    { "segment of another node", header_node, { SEGMENT_2, "node 8", "node 1" } },
    { "segment of another cluster", header_cluster, { SEGMENT_2, "another cluster" } },
    { "segment in the wrong place", header_start, { SEGMENT_2, "4096", "65536" } },
    { "empty segment", segment_empty, { SEGMENT_3, "offset 0" } },
    { "record of a later version", record_version, { SEGMENT_1, "offset 4096", "version 2" } },
    { "record of another group", record_group, { SEGMENT_1, "offset 4096", "group 2" } },
    { "record of an unknown type", record_type, { SEGMENT_1, "offset 4096", "type 4" } },
    { "record beyond its segment", record_size, { SEGMENT_1, "offset 4096", "4294967280" } },
    { "record that knows too much", record_durable, { SEGMENT_1, "offset 4096", "durable" } },
    { "entry of an unknown kind", entry_kind, { SEGMENT_1, "offset 4096", "kind 77", "newer" } },
    { "entry of a later version", entry_version, { SEGMENT_1, "offset 4096", "version 3" } },
    { "entry of another group", entry_group, { SEGMENT_1, "offset 4096", "out of range" } },
    { "entry that skips an index",
      entry_index,
      { SEGMENT_1, "offset 4096", "index 2", "at most 1" } },
    { "entry that breaks the chain", entry_chain, { SEGMENT_1, "offset 4096", "continue" } },
    { "entry damaged in the middle",
      entry_damaged,
      { SEGMENT_1, "offset 4096", "acknowledged", "entries 1 to 1" } },
};

START_TEST(a_harmed_directory_is_refused_by_name)
{
    struct subject subject = subject_new();
    rows[_i].harm(subject.os);
    os_memory_settle(subject.os);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    struct storage_recovered recovered = { .last_index = 77 };
    struct error error = { "" };
    uint64_t writes = os_memory_count(subject.os, OS_MEMORY_PWRITEV);
    struct storage *storage = storage_open(subject.os, &options, &recovered, &error);
    ck_assert_msg(storage == NULL, "%s: was not refused", rows[_i].name);
    for (int word = 0; word < 4 && rows[_i].words[word] != NULL; word++)
        ck_assert_msg(strstr(error.text, rows[_i].words[word]) != NULL, "%s: '%s' is not in '%s'",
                      rows[_i].name, rows[_i].words[word], error.text);
    ck_assert_uint_eq(recovered.last_index, 77);
    ck_assert_uint_eq(os_memory_count(subject.os, OS_MEMORY_PWRITEV), writes);
    ck_assert_int_eq(os_memory_open_count(subject.os), 0);
    subject_free(&subject);
}
END_TEST

/* Records that a program has written wrongly, and sealed: taken from storage itself. */
START_TEST(a_log_whose_terms_go_back_is_refused)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    struct history *history = history_new();
    ck_assert_int_eq(history_entry(history, storage, 1, 5, 100), 0);
    ck_assert_int_eq(history_entry(history, storage, 2, 4, 100), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    storage_close(storage);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    struct error error = { "" };
    ck_assert_ptr_null(storage_open(os, &options, &recovered, &error));
    ck_assert_ptr_nonnull(strstr(error.text, SEGMENT_1 "' offset 8192: an entry of term 4"));
    history_free(history);
    os_memory_free(os);
}
END_TEST

START_TEST(a_vote_with_a_field_that_is_not_known_is_refused)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_int_eq(storage_vote(storage, 4, 2), 0);
    ck_assert_int_eq(storage_flush(storage, 1), 0);
    storage_close(storage);
    uint8_t *frame = segment_bytes(os, 1) + 4096;
    store_u32(frame + 64 + 12, 6);
    store_u32(frame + 40, crc32c(0, frame + 64, 16));
    seal_frame(frame);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    struct error error = { "" };
    ck_assert_ptr_null(storage_open(os, &options, &recovered, &error));
    ck_assert_ptr_nonnull(
        strstr(error.text, SEGMENT_1 "' offset 4096: a vote whose last field is 6"));
    os_memory_free(os);
}
END_TEST

START_TEST(a_second_process_is_refused_and_the_first_goes_on)
{
    struct os *os = os_memory_new(1);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    struct history *history = history_new();
    int descriptors = os_memory_open_count(os);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    struct error error = { "" };
    ck_assert_ptr_null(storage_open(os, &options, &recovered, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "another raftkv-server runs on 'data/1'"));
    ck_assert_int_eq(os_memory_open_count(os), descriptors);
    ck_assert_int_eq(history_entry(history, storage, 1, 1, 100), 0);
    ck_assert_int_eq(history_flush(history, storage), 0);
    /* Another node of the same path is another directory. */
    options.node = 2;
    struct storage *other = storage_open(os, &options, &recovered, &error);
    ck_assert_ptr_nonnull(other);
    storage_close(other);
    storage_close(storage);
    storage = fixture_open(os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert_uint_eq(recovered.last_index, 1);
    free(recovered.runs);
    storage_close(storage);
    history_free(history);
    os_memory_free(os);
}
END_TEST

/* Every call of a start fails once, on a new directory and on one with a log: refused with a message
 * that names a file of the directory, with no descriptor left open; and the next start succeeds. */
static const enum os_memory_call start_calls[] = {
    OS_MEMORY_OPEN,     OS_MEMORY_PREAD,     OS_MEMORY_PWRITEV, OS_MEMORY_FILE_SIZE,
    OS_MEMORY_TRUNCATE, OS_MEMORY_FDATASYNC, OS_MEMORY_RENAME,  OS_MEMORY_MKDIR,
    OS_MEMORY_SYNC_DIR, OS_MEMORY_LIST_DIR,  OS_MEMORY_LOCK,
};
#define START_CALLS ((int)(sizeof start_calls / sizeof start_calls[0]))

START_TEST(a_start_that_the_system_refuses_says_so_and_leaves_no_harm)
{
    static const int codes[] = { -EACCES, -EIO, -EROFS, -EDQUOT };
    bool is_new = _i >= START_CALLS;
    enum os_memory_call call = start_calls[_i % START_CALLS];
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    for (int code = 0; code < 4; code++) {
        struct storage_recovered recovered;
        struct subject subject = { .os = os_memory_new(2), .history = history_new() };
        if (!is_new) {
            subject_free(&subject);
            subject = subject_new();
        }
        for (uint64_t nth = 1;; nth++) {
            struct os *os = os_memory_kill(subject.os);
            uint64_t calls = os_memory_count(os, call);
            struct error error = { "" };
            os_memory_fail(os, call, nth, codes[code]);
            struct storage *storage = storage_open(os, &options, &recovered, &error);
            bool was_called = os_memory_count(os, call) - calls >= nth;
            os_memory_fail(os, call, 0, 0);
            /* The folder that holds the path need not be ours to flush. */
            bool is_forgiven =
                is_new && call == OS_MEMORY_SYNC_DIR && nth == 1 && codes[code] == -EACCES;
            ck_assert_msg((storage == NULL) == (was_called && !is_forgiven),
                          "call %d, %" PRIu64 ". time, %d", (int)call, nth, codes[code]);
            if (storage == NULL) {
                ck_assert_ptr_nonnull(strstr(error.text, is_new ? "" : "data"));
                ck_assert_ptr_nonnull(strstr(error.text, strerror(-codes[code])));
                ck_assert_int_eq(os_memory_open_count(os), 0);
                storage = storage_open(os, &options, &recovered, &error);
                ck_assert_msg(storage != NULL, "call %d, %" PRIu64 ". time: %s", (int)call, nth,
                              error.text);
            }
            const char *difference = history_difference(
                subject.history, subject.history->step_count, storage, &recovered);
            ck_assert_msg(difference == NULL, "call %d, %" PRIu64 ". time: %s", (int)call, nth,
                          difference);
            free(recovered.runs);
            storage_close(storage);
            os_memory_free(os);
            if (!was_called)
                break;
        }
        subject_free(&subject);
    }
}
END_TEST

START_TEST(a_path_without_its_parent_is_refused)
{
    struct os *os = os_memory_new(1);
    struct storage_options options = fixture_options(STORAGE_FLUSH_SYNC);
    options.path = "nowhere/data";
    struct storage_recovered recovered;
    struct error error = { "" };
    ck_assert_ptr_null(storage_open(os, &options, &recovered, &error));
    ck_assert_ptr_nonnull(strstr(error.text, "'nowhere/data'"));
    ck_assert_ptr_nonnull(strstr(error.text, "does not exist"));
    os_memory_free(os);
}
END_TEST

START_TEST(leftovers_of_a_preparation_are_removed_and_strangers_left_alone)
{
    struct subject subject = subject_new();
    os_memory_put(subject.os, FIXTURE_LOG "/0000000000000004.segment.new", "abc", 3);
    os_memory_put(subject.os, FIXTURE_LOG "/notes.txt", "abc", 3);
    os_memory_put(subject.os, FIXTURE_LOG "/0000000000000009.segment.bak", "abc", 3);
    struct storage_recovered recovered;
    struct storage *storage = fixture_open(subject.os, STORAGE_FLUSH_SYNC, &recovered);
    ck_assert(!os_memory_exists(subject.os, FIXTURE_LOG "/0000000000000004.segment.new"));
    ck_assert(os_memory_exists(subject.os, FIXTURE_LOG "/notes.txt"));
    ck_assert(os_memory_exists(subject.os, FIXTURE_LOG "/0000000000000009.segment.bak"));
    ck_assert_uint_eq(recovered.last_index, 4);
    free(recovered.runs);
    storage_close(storage);
    subject_free(&subject);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("storage_refuse");
    TCase *tcase = tcase_create("refuse");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, a_harmed_directory_is_refused_by_name, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tcase, a_log_whose_terms_go_back_is_refused);
    tcase_add_test(tcase, a_vote_with_a_field_that_is_not_known_is_refused);
    tcase_add_test(tcase, a_second_process_is_refused_and_the_first_goes_on);
    tcase_add_loop_test(tcase, a_start_that_the_system_refuses_says_so_and_leaves_no_harm, 0,
                        2 * START_CALLS);
    tcase_add_test(tcase, a_path_without_its_parent_is_refused);
    tcase_add_test(tcase, leftovers_of_a_preparation_are_removed_and_strangers_left_alone);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
