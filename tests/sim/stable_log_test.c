/* What counts as durable in a node's log: what a recovery would read that has lost all that was
 * unstable. The files are made here byte by byte, on the simulated disk. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"
#include "server/os/os.h"
#include "server/storage/format.h"
#include "tests/sim/oracle_state.h"
#include "tests/sim/stable_log.h"

#define SEGMENT_SIZE (8 * STORAGE_BLOCK)
#define SALT UINT64_C(0x5a17)

struct rig {
    struct timeline *timeline;
    struct trace *trace;
    struct disk *disk;
    struct oracle *oracle;
    struct stable_log *log;
    struct disk_file *file; /* of the newest segment */
    uint64_t number;
    uint64_t chain;
};

static void on_stable(void *context, const char *path)
{
    struct rig *rig = context;
    stable_log_on_stable(rig->log, path);
}

static void put(struct rig *rig, const void *bytes, size_t size, uint64_t offset)
{
    struct iovec part = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = size };
    ck_assert_int_eq(disk_write(rig->disk, rig->file, &part, 1, offset), (ptrdiff_t)size);
}

static void flush(struct rig *rig, int result)
{
    disk_flush_end(rig->disk, rig->file, disk_flush_begin(rig->disk, rig->file), result);
}

/* As the storage does: zeros and the header, made durable under another name. */
static void make_segment(struct rig *rig, uint64_t number)
{
    static const uint8_t zeros[SEGMENT_SIZE];
    uint8_t header[STORAGE_BLOCK];
    char name[80], path[64];
    struct format_segment segment = { .number = number,
                                      .start = (number - 1) * SEGMENT_SIZE,
                                      .size = SEGMENT_SIZE,
                                      .salt = SALT + number,
                                      .node = 3 };
    (void)snprintf(path, sizeof path, "data/3/log/%016x.segment", (unsigned)number);
    (void)snprintf(name, sizeof name, "%s.new", path);
    if (rig->file != NULL)
        disk_release(rig->disk, rig->file);
    ck_assert_int_eq(disk_open(rig->disk, name, OS_READ | OS_WRITE | OS_CREATE, &rig->file), 0);
    format_header_encode(&segment, header);
    put(rig, zeros, sizeof zeros, 0);
    put(rig, header, sizeof header, 0);
    flush(rig, 0);
    ck_assert_int_eq(disk_rename(rig->disk, name, path), 0);
    rig->number = number;
}

static void sync_names(struct rig *rig)
{
    ck_assert_int_eq(disk_sync_dir(rig->disk, "data/3/log"), 0);
}

static struct rig *rig_new(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    ck_assert_ptr_nonnull(rig);
    rig->timeline = timeline_new(1);
    rig->trace = trace_new(rig->timeline, false);
    rig->disk = disk_new(rig->trace, 0);
    rig->oracle =
        oracle_new(&(struct oracle_options){ .node_count = 1, .ids = { 3 }, .trace = rig->trace });
    rig->log = stable_log_new(rig->oracle, rig->disk, 0, "data", 3);
    disk_on_stable(rig->disk, on_stable, rig);
    (void)disk_mkdir(rig->disk, "data");
    (void)disk_mkdir(rig->disk, "data/3");
    (void)disk_mkdir(rig->disk, "data/3/log");
    (void)disk_sync_dir(rig->disk, ".");
    (void)disk_sync_dir(rig->disk, "data");
    (void)disk_sync_dir(rig->disk, "data/3");
    make_segment(rig, 1);
    sync_names(rig);
    return rig;
}

static void rig_free(struct rig *rig)
{
    disk_release(rig->disk, rig->file);
    stable_log_free(rig->log);
    oracle_free(rig->oracle);
    disk_free(rig->disk);
    trace_free(rig->trace);
    timeline_free(rig->timeline);
    free(rig);
}

static void put_record(struct rig *rig, uint64_t block, enum format_type type, const void *content,
                       uint32_t size, uint32_t sum)
{
    uint8_t bytes[2 * STORAGE_BLOCK] = { 0 };
    uint64_t offset = block * STORAGE_BLOCK;
    struct format_frame frame = { .type = (uint16_t)type,
                                  .version = FORMAT_VERSION,
                                  .content_size = size,
                                  .content_sum = sum,
                                  .position = (rig->number - 1) * SEGMENT_SIZE + offset };
    format_frame_encode(&frame, SALT + rig->number, bytes);
    if (size > 0)
        memcpy(bytes + FORMAT_FRAME_SIZE, content, size);
    put(rig, bytes, (size_t)format_record_bytes(size), offset);
}

static void put_vote(struct rig *rig, uint64_t block, uint64_t term, uint32_t voted_for)
{
    uint8_t content[FORMAT_VOTE_SIZE];
    format_vote_encode(term, voted_for, content);
    put_record(rig, block, FORMAT_VOTE, content, sizeof content,
               crc32c(0, content, sizeof content));
}

static void put_entry(struct rig *rig, uint64_t block, uint64_t term, uint64_t index, uint32_t size)
{
    uint8_t content[STORAGE_BLOCK + 512] = { 0 };
    struct entry entry = { .size = size,
                           .kind = ENTRY_COMMANDS,
                           .term = term,
                           .index = index,
                           .clock_ms = 5,
                           .count = 1 };
    entry_seal(content, rig->chain, &entry);
    rig->chain = entry.chain;
    put_record(rig, block, FORMAT_ENTRY, content, size, load_u32(content));
}

static const struct watched *node(const struct rig *rig)
{
    return &rig->oracle->nodes[0];
}

START_TEST(records_count_when_they_are_flushed)
{
    struct rig *rig = rig_new();
    put_vote(rig, 1, 4, 3);
    put_entry(rig, 2, 4, 1, 100);
    ck_assert_uint_eq(node(rig)->durable_term, 0);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable_term, 4);
    ck_assert_uint_eq(node(rig)->durable_vote, 3);
    ck_assert_uint_eq(node(rig)->durable.last, 1);
    put_entry(rig, 3, 5, 2, 4096); /* two blocks */
    put_entry(rig, 5, 5, 3, 100);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 3);
    ck_assert_uint_eq(node(rig)->durable_term, 5);
    ck_assert_uint_eq(node(rig)->durable_vote, RAFT_NODE_NONE);
    ck_assert_uint_eq(mirror_at(&node(rig)->durable, 3)->chain, rig->chain);
    ck_assert_uint_eq(stable_log_position(rig->log), 6 * STORAGE_BLOCK);
    rig_free(rig);
}
END_TEST

START_TEST(a_failed_flush_makes_nothing_durable)
{
    struct rig *rig = rig_new();
    put_entry(rig, 1, 1, 1, 100);
    flush(rig, -5);
    ck_assert_uint_eq(node(rig)->durable.last, 0);
    put_entry(rig, 2, 1, 2, 100); /* behind what is lost for good */
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 0);
    rig_free(rig);
}
END_TEST

START_TEST(records_behind_a_hole_do_not_count)
{
    struct rig *rig = rig_new();
    put_entry(rig, 1, 1, 1, 100);
    uint64_t mark = disk_flush_begin(rig->disk, rig->file);
    put_entry(rig, 2, 1, 2, 100);
    disk_flush_end(rig->disk, rig->file, mark, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 1);
    put_entry(rig, 4, 1, 4, 100);
    uint64_t chain = rig->chain;
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 2);
    put_entry(rig, 3, 1, 3, 100);
    rig->chain = chain;
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 4);
    rig_free(rig);
}
END_TEST

START_TEST(a_record_that_is_not_whole_does_not_count)
{
    struct rig *rig = rig_new();
    uint8_t byte = 0xff;
    put_entry(rig, 1, 1, 1, 300);
    put(rig, &byte, 1, STORAGE_BLOCK + FORMAT_FRAME_SIZE + 200);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 0);
    rig_free(rig);
}
END_TEST

START_TEST(a_record_of_another_life_does_not_count)
{
    struct rig *rig = rig_new();
    rig->number = 2; /* its salt and position */
    put_entry(rig, 1, 1, 1, 100);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 0);
    rig_free(rig);
}
END_TEST

/* The next segment is made first; the seal of the old one leads to it. */
static void go_on_in_the_next(struct rig *rig, bool is_named)
{
    struct disk_file *old = rig->file;
    put_entry(rig, 1, 1, 1, 100);
    rig->file = NULL;
    make_segment(rig, 2);
    if (is_named)
        sync_names(rig);
    struct disk_file *new = rig->file;
    rig->file = old;
    rig->number = 1;
    put_record(rig, 2, FORMAT_SEAL, NULL, 0, 0);
    flush(rig, 0);
    disk_release(rig->disk, old);
    rig->file = new;
    rig->number = 2;
}

START_TEST(a_seal_leads_to_the_next_segment)
{
    struct rig *rig = rig_new();
    go_on_in_the_next(rig, true);
    ck_assert_uint_eq(node(rig)->durable.last, 1);
    put_entry(rig, 1, 1, 2, 100);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 2);
    ck_assert_uint_eq(stable_log_position(rig->log), SEGMENT_SIZE + 2 * STORAGE_BLOCK);
    rig_free(rig);
}
END_TEST

/* Trips S22. */
START_TEST(a_seal_before_the_next_segment_has_its_name_is_an_error)
{
    go_on_in_the_next(rig_new(), false);
}
END_TEST

START_TEST(a_rescan_finds_what_a_power_cut_left)
{
    struct rig *rig = rig_new();
    put_vote(rig, 1, 2, 3);
    put_entry(rig, 2, 2, 1, 100);
    flush(rig, 0);
    put_entry(rig, 3, 2, 2, 100); /* visible, and never flushed */
    stable_log_reset(rig->log);
    disk_power_cut_all_lost(rig->disk);
    stable_log_rescan(rig->log);
    ck_assert_uint_eq(node(rig)->durable.last, 1);
    ck_assert_uint_eq(node(rig)->durable_vote, 3);
    ck_assert_int_eq(
        disk_open(rig->disk, "data/3/log/0000000000000001.segment", OS_READ | OS_WRITE, &rig->file),
        0);
    put_entry(rig, 3, 3, 2, 200);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 2);
    ck_assert_uint_eq(node(rig)->durable_term, 3);
    rig_free(rig);
}
END_TEST

START_TEST(an_index_that_is_there_replaces_what_follows)
{
    struct rig *rig = rig_new();
    put_entry(rig, 1, 1, 1, 100);
    uint64_t chain = rig->chain;
    put_entry(rig, 2, 1, 2, 100);
    put_entry(rig, 3, 1, 3, 100);
    rig->chain = chain;
    put_entry(rig, 4, 2, 2, 100);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 2);
    ck_assert_uint_eq(mirror_at(&node(rig)->durable, 2)->term, 2);
    stable_log_rescan(rig->log);
    ck_assert_uint_eq(node(rig)->durable.last, 2);
    ck_assert_uint_eq(mirror_at(&node(rig)->durable, 2)->term, 2);
    rig_free(rig);
}
END_TEST

START_TEST(nothing_counts_between_reset_and_rescan)
{
    struct rig *rig = rig_new();
    stable_log_reset(rig->log);
    put_entry(rig, 1, 1, 1, 100);
    flush(rig, 0);
    ck_assert_uint_eq(node(rig)->durable.last, 0);
    stable_log_rescan(rig->log);
    ck_assert_uint_eq(node(rig)->durable.last, 1);
    rig_free(rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim_stable_log");
    TCase *tests = tcase_create("stable log");
    tcase_add_test(tests, records_count_when_they_are_flushed);
    tcase_add_test(tests, a_failed_flush_makes_nothing_durable);
    tcase_add_test(tests, records_behind_a_hole_do_not_count);
    tcase_add_test(tests, a_record_that_is_not_whole_does_not_count);
    tcase_add_test(tests, a_record_of_another_life_does_not_count);
    tcase_add_test(tests, a_seal_leads_to_the_next_segment);
    tcase_add_test_raise_signal(tests, a_seal_before_the_next_segment_has_its_name_is_an_error,
                                SIGABRT);
    tcase_add_test(tests, a_rescan_finds_what_a_power_cut_left);
    tcase_add_test(tests, an_index_that_is_there_replaces_what_follows);
    tcase_add_test(tests, nothing_counts_between_reset_and_rescan);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
