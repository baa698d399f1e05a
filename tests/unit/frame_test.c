/* Frames: what is encoded decodes to the same, and nothing else decodes at all. */
#include "server/peer/frame.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"

#define ENTRY_BYTES_MAX 4096u
#define BYTES_MAX 65536

/* -- Samples: one frame of each kind ----------------------------------------------------------- */

struct sample {
    uint8_t bytes[BYTES_MAX];
    size_t size;
};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Seals `count` entries with the given first position into `bytes`; each half has one term. */
static size_t make_entries(uint8_t *bytes, struct entry *entries, uint32_t count,
                           struct raft_pos first, uint64_t chain, uint32_t payload_size)
{
    uint64_t random = first.index;
    size_t total = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = bytes + total;
        uint32_t size = ENTRY_HEADER_SIZE + payload_size + i % 7;
        for (uint32_t j = ENTRY_HEADER_SIZE; j < size; j++)
            at[j] = (uint8_t)next_random(&random);
        entries[i] = (struct entry){
            .kind = ENTRY_COMMANDS,
            .term = first.term + (i >= count / 2 ? 1 : 0),
            .index = first.index + i,
            .clock_ms = 1000 + i,
            .count = 1,
            .size = size,
        };
        entry_seal(at, chain, &entries[i]);
        chain = entries[i].chain;
        total += size;
    }
    return total;
}

static void make_append(struct sample *sample, struct raft_pos prev, uint32_t count)
{
    static uint8_t bytes[BYTES_MAX];
    struct entry entries[RAFT_APPEND_ENTRIES_MAX] = { 0 };
    struct raft_message message = { .type = RAFT_APPEND, .from = 3, .to = 1, .term = 9 };
    struct raft_pos first = { prev.term == 0 ? 1 : prev.term, prev.index + 1 };
    size_t entries_size = make_entries(bytes, entries, count, first, 77, 40);

    message.append.prev = prev;
    message.append.commit_index = 12345;
    message.append.round = 0x1122334455667788u;
    message.append.entry_count = count;
    for (uint32_t i = 0; i < count; i++)
        message.append.entry_terms[i] = entries[i].term;
    size_t size = frame_encode_message(sample->bytes, &message, entries);
    memcpy(sample->bytes + size, bytes, entries_size);
    sample->size = size + entries_size;
}

static void make_heartbeat(struct sample *sample)
{
    make_append(sample, (struct raft_pos){ 8, 700 }, 0);
}

static void make_append_first(struct sample *sample)
{
    make_append(sample, (struct raft_pos){ 0, 0 }, 1);
}

static void make_append_full(struct sample *sample)
{
    make_append(sample, (struct raft_pos){ 8, 700 }, RAFT_APPEND_ENTRIES_MAX);
}

static void make_message(struct sample *sample, const struct raft_message *message)
{
    sample->size = frame_encode_message(sample->bytes, message, NULL);
}

static void make_append_yes(struct sample *sample)
{
    make_message(sample,
                 &(struct raft_message){
                     .type = RAFT_APPEND_REPLY,
                     .from = 1,
                     .to = 3,
                     .term = 9,
                     .append_reply = { .success = true, .round = 5, .durable_index = 764 } });
}

static void make_append_no(struct sample *sample)
{
    make_message(sample, &(struct raft_message){ .type = RAFT_APPEND_REPLY,
                                                 .from = 1,
                                                 .to = 3,
                                                 .term = 9,
                                                 .append_reply = { .round = UINT64_MAX,
                                                                   .rejected_index = 700,
                                                                   .last_index = 720,
                                                                   .conflict = { 4, 650 } } });
}

static void make_pre_vote(struct sample *sample)
{
    make_message(sample, &(struct raft_message){ .type = RAFT_VOTE,
                                                 .from = 2,
                                                 .to = 1,
                                                 .term = 10,
                                                 .vote = { { 9, 800 }, .pre_vote = true } });
}

static void make_transfer_vote(struct sample *sample)
{
    make_message(sample, &(struct raft_message){ .type = RAFT_VOTE,
                                                 .from = 2,
                                                 .to = 1,
                                                 .term = 1,
                                                 .vote = { { 0, 0 }, .transfer = true } });
}

static void make_vote_yes(struct sample *sample)
{
    make_message(sample, &(struct raft_message){ .type = RAFT_VOTE_REPLY,
                                                 .from = 2,
                                                 .to = 1,
                                                 .term = 10,
                                                 .vote_reply = { .granted = true } });
}

static void make_pre_vote_no(struct sample *sample)
{
    make_message(sample, &(struct raft_message){ .type = RAFT_VOTE_REPLY,
                                                 .from = 2,
                                                 .to = 1,
                                                 .term = 0,
                                                 .vote_reply = { .pre_vote = true } });
}

static void make_timeout_now(struct sample *sample)
{
    make_message(sample,
                 &(struct raft_message){
                     .type = RAFT_TIMEOUT_NOW, .from = 3, .to = 1, .term = FRAME_NUMBER_MAX });
}

static void make_hello(struct sample *sample)
{
    struct frame_hello hello = { .protocol_min = 1,
                                 .protocol_max = 3,
                                 .servers = 0x01020304,
                                 .features = 0xf0f1f2f3f4f5f6f7u,
                                 .incarnation = 0xabcdef0123456789u,
                                 .boot = 42,
                                 .cluster = "the-cluster_1.x" };
    sample->size = frame_encode_hello(sample->bytes, 0, 0x7fffffff, &hello);
}

static void make_refusal(struct sample *sample)
{
    struct frame_refusal refusal = { .reason = 4711, .protocol_min = 2, .protocol_max = 2 };
    memset(refusal.cluster, 'c', FRAME_CLUSTER_MAX - 1);
    sample->size = frame_encode_refusal(sample->bytes, 2, 1, &refusal);
}

static void make_alive(struct sample *sample)
{
    sample->size = frame_encode_alive(sample->bytes, 2, 1);
}

static const struct {
    const char *name;
    void (*make)(struct sample *sample);
    enum frame_type type;
} kinds[] = {
    { "hello", make_hello, FRAME_HELLO },
    { "refusal", make_refusal, FRAME_REFUSAL },
    { "alive", make_alive, FRAME_ALIVE },
    { "heartbeat", make_heartbeat, FRAME_APPEND },
    { "append of the first entry", make_append_first, FRAME_APPEND },
    { "append of 64 entries", make_append_full, FRAME_APPEND },
    { "append reply, yes", make_append_yes, FRAME_APPEND_REPLY },
    { "append reply, no", make_append_no, FRAME_APPEND_REPLY },
    { "pre-vote", make_pre_vote, FRAME_VOTE },
    { "vote of a transfer", make_transfer_vote, FRAME_VOTE },
    { "vote reply, yes", make_vote_yes, FRAME_VOTE_REPLY },
    { "pre-vote reply, no", make_pre_vote_no, FRAME_VOTE_REPLY },
    { "timeout now", make_timeout_now, FRAME_TIMEOUT_NOW },
};
#define KIND_COUNT ((int)(sizeof kinds / sizeof kinds[0]))

static struct sample sample;
static struct frame frame;
static struct entry entries[RAFT_APPEND_ENTRIES_MAX];

/* From memory of exactly `size` bytes, so that a sanitizer sees a read beyond them. */
static enum frame_fault decode(const uint8_t *bytes, size_t size)
{
    static uint8_t *exact;
    free(exact);
    exact = malloc(size > 0 ? size : 1);
    ck_assert_ptr_nonnull(exact);
    memcpy(exact, bytes, size);
    return frame_decode(exact, size, ENTRY_BYTES_MAX, &frame, entries);
}

/* The same bytes again, from what was decoded. */
static size_t encode_again(uint8_t *bytes)
{
    if (frame.type == FRAME_HELLO)
        return frame_encode_hello(bytes, frame.from, frame.to, &frame.hello);
    if (frame.type == FRAME_REFUSAL)
        return frame_encode_refusal(bytes, frame.from, frame.to, &frame.refusal);
    if (frame.type == FRAME_ALIVE)
        return frame_encode_alive(bytes, frame.from, frame.to);
    size_t size = frame_encode_message(bytes, &frame.message, entries);
    uint32_t count = frame.type == FRAME_APPEND ? frame.message.append.entry_count : 0;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(bytes + size, entries[i].bytes, entries[i].size);
        size += entries[i].size;
    }
    return size;
}

static void reseal(void)
{
    store_u32(sample.bytes + 4, crc32c(0, sample.bytes + 8, load_u32(sample.bytes + 8) - 8));
}

/* -- Whole, cut, flipped ----------------------------------------------------------------------- */

START_TEST(what_is_encoded_decodes_and_encodes_to_the_same_bytes)
{
    static uint8_t again[BYTES_MAX];
    kinds[_i].make(&sample);

    ck_assert_msg(decode(sample.bytes, sample.size) == FRAME_WHOLE, "%s", kinds[_i].name);
    ck_assert_int_eq(frame.type, kinds[_i].type);
    ck_assert_uint_eq(frame.size, sample.size);
    ck_assert_uint_eq(encode_again(again), sample.size);
    ck_assert_msg(memcmp(again, sample.bytes, sample.size) == 0, "%s", kinds[_i].name);
}
END_TEST

/* A decoded message keeps nothing of what stood in the caller's memory before. */
START_TEST(what_is_not_sent_is_not_set)
{
    make_append_first(&sample);
    memset(&frame, 0xff, sizeof frame);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert(!frame.message.append.no_room);
}
END_TEST

START_TEST(bytes_behind_a_frame_are_not_looked_at)
{
    kinds[_i].make(&sample);
    size_t size = sample.size;
    memset(sample.bytes + size, 0xa5, 100);

    ck_assert_int_eq(decode(sample.bytes, size + 100), FRAME_WHOLE);
    ck_assert_uint_eq(frame.size, size);
}
END_TEST

START_TEST(a_truncated_frame_is_not_yet_whole)
{
    kinds[_i].make(&sample);

    for (size_t size = 0; size < sample.size; size++) {
        enum frame_fault fault = decode(sample.bytes, size);
        ck_assert_msg(fault == FRAME_CUT, "%s cut to %zu: %s", kinds[_i].name, size,
                      frame_fault_text(fault));
        ck_assert_msg(frame.size > size && frame.size <= sample.size,
                      "%s cut to %zu waits for %zu of %zu", kinds[_i].name, size, frame.size,
                      sample.size);
    }
}
END_TEST

START_TEST(a_changed_byte_is_never_read_as_a_frame)
{
    kinds[_i].make(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE); /* and leaves its traces */

    for (size_t at = 0; at < sample.size; at++) {
        for (int bit = 0; bit < 9; bit++) {
            uint8_t change = (uint8_t)(bit == 8 ? 0xff : 1 << bit);
            if (sample.size > 1000 && bit > 0 && bit < 7)
                continue; /* thousands of bytes: one low bit, one high bit and all are enough */
            sample.bytes[at] ^= change;
            enum frame_fault fault = decode(sample.bytes, sample.size);
            sample.bytes[at] ^= change;
            ck_assert_msg(fault != FRAME_WHOLE, "%s with byte %zu changed by 0x%02x",
                          kinds[_i].name, at, change);
            ck_assert_msg(fault != FRAME_CUT || frame.size > sample.size, "%s byte %zu",
                          kinds[_i].name, at);
        }
    }
}
END_TEST

START_TEST(what_follows_is_found_at_frame_size)
{
    kinds[_i].make(&sample);
    static uint8_t two[2 * BYTES_MAX];
    size_t size = sample.size;
    memcpy(two, sample.bytes, size);
    make_vote_yes(&sample);
    memcpy(two + size, sample.bytes, sample.size);

    ck_assert_int_eq(decode(two, size + sample.size), FRAME_WHOLE);
    ck_assert_int_eq(decode(two + frame.size, sample.size), FRAME_WHOLE);
    ck_assert_int_eq(frame.type, FRAME_VOTE_REPLY);
}
END_TEST

START_TEST(every_field_arrives)
{
    make_append_no(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    const struct raft_message *message = &frame.message;
    ck_assert_int_eq(message->type, RAFT_APPEND_REPLY);
    ck_assert_uint_eq(message->from, 1);
    ck_assert_uint_eq(message->to, 3);
    ck_assert_uint_eq(message->term, 9);
    ck_assert(!message->append_reply.success);
    ck_assert_uint_eq(message->append_reply.round, UINT64_MAX);
    ck_assert_uint_eq(message->append_reply.durable_index, 0);
    ck_assert_uint_eq(message->append_reply.rejected_index, 700);
    ck_assert_uint_eq(message->append_reply.last_index, 720);
    ck_assert_uint_eq(message->append_reply.conflict.term, 4);
    ck_assert_uint_eq(message->append_reply.conflict.index, 650);

    make_append_yes(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert(message->append_reply.success);
    ck_assert_uint_eq(message->append_reply.durable_index, 764);

    make_append_full(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert_uint_eq(message->append.prev.term, 8);
    ck_assert_uint_eq(message->append.prev.index, 700);
    ck_assert_uint_eq(message->append.commit_index, 12345);
    ck_assert_uint_eq(message->append.round, 0x1122334455667788u);
    ck_assert_uint_eq(message->append.entry_count, 64);
    ck_assert_uint_eq(message->append.entry_terms[31], 8);
    ck_assert_uint_eq(message->append.entry_terms[32], 9);
    ck_assert_uint_eq(entries[63].index, 764);

    make_pre_vote(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert_uint_eq(message->vote.last.term, 9);
    ck_assert_uint_eq(message->vote.last.index, 800);
    ck_assert(message->vote.pre_vote && !message->vote.transfer);
    make_transfer_vote(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert(!message->vote.pre_vote && message->vote.transfer);
    make_vote_yes(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert(message->vote_reply.granted && !message->vote_reply.pre_vote);
    make_pre_vote_no(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert(!message->vote_reply.granted && message->vote_reply.pre_vote);

    make_hello(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert_uint_eq(frame.hello.protocol_min, 1);
    ck_assert_uint_eq(frame.hello.protocol_max, 3);
    ck_assert_uint_eq(frame.hello.features, 0xf0f1f2f3f4f5f6f7u);
    ck_assert_uint_eq(frame.hello.incarnation, 0xabcdef0123456789u);
    ck_assert_uint_eq(frame.hello.boot, 42);
    ck_assert_str_eq(frame.hello.cluster, "the-cluster_1.x");
    ck_assert_uint_eq(frame.to, 0x7fffffff);
    make_refusal(&sample);
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_WHOLE);
    ck_assert_uint_eq(frame.refusal.reason, 4711);
    ck_assert_uint_eq(frame.refusal.protocol_max, 2);
    ck_assert_uint_eq(strlen(frame.refusal.cluster), FRAME_CLUSTER_MAX - 1);
}
END_TEST

/* -- Fields out of range, under a checksum that agrees ----------------------------------------- */

static const struct {
    const char *name;
    void (*make)(struct sample *sample);
    size_t at;
    int width; /* in bytes */
    uint64_t value;
    enum frame_fault expected;
} hostile[] = {
    { "unknown version", make_vote_yes, 12, 2, 2, FRAME_BAD_VERSION },
    { "unknown version of a hello", make_hello, 12, 2, 0, FRAME_BAD_VERSION },
    { "type 0", make_alive, 14, 2, 0, FRAME_BAD_TYPE },
    { "type 9", make_alive, 14, 2, 9, FRAME_BAD_TYPE },
    { "type 65535", make_alive, 14, 2, 65535, FRAME_BAD_TYPE },
    { "another group", make_vote_yes, 16, 4, 1, FRAME_BAD_FIELD },
    { "another group, alive", make_alive, 16, 4, 1, FRAME_BAD_FIELD },
    { "another group in a hello is for the handshake", make_hello, 16, 4, 1, FRAME_WHOLE },
    { "type of another size", make_vote_yes, 14, 2, FRAME_VOTE, FRAME_BAD_FIELD },
    { "larger than its type", make_pre_vote, 14, 2, FRAME_ALIVE, FRAME_BAD_FIELD },
    { "entries behind a vote", make_vote_yes, 20, 4, 64, FRAME_BAD_FIELD },
    { "entries behind a hello", make_hello, 20, 4, 64, FRAME_BAD_FIELD },
    { "entries behind a heartbeat", make_heartbeat, 20, 4, 64, FRAME_BAD_FIELD },
    { "append smaller than its body", make_append_no, 14, 2, FRAME_APPEND, FRAME_BAD_FIELD },
    { "alive as an append", make_alive, 14, 2, FRAME_APPEND, FRAME_BAD_FIELD },

    { "hello, versions upside down", make_hello, 32, 2, 4, FRAME_BAD_FIELD },
    { "hello, no boot number", make_hello, 56, 8, 0, FRAME_BAD_FIELD },
    { "hello, no cluster", make_hello, 64, 1, 0, FRAME_BAD_FIELD },
    { "hello, newline in cluster", make_hello, 66, 1, '\n', FRAME_BAD_FIELD },
    { "hello, high byte in cluster", make_hello, 66, 1, 0x80, FRAME_BAD_FIELD },
    { "hello, delete in cluster", make_hello, 66, 1, 0x7f, FRAME_BAD_FIELD },
    { "hello, bytes behind cluster", make_hello, 126, 1, 'x', FRAME_BAD_FIELD },
    { "refusal without a reason", make_refusal, 32, 2, 0, FRAME_BAD_FIELD },
    { "refusal, versions upside down", make_refusal, 34, 2, 3, FRAME_BAD_FIELD },
    { "refusal, reserved", make_refusal, 39, 1, 1, FRAME_BAD_FIELD },
    { "refusal, cluster without an end", make_refusal, 103, 1, 'c', FRAME_BAD_FIELD },

    { "append in no term", make_heartbeat, 32, 8, 0, FRAME_BAD_FIELD },
    { "append, term beyond all", make_heartbeat, 32, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "append, prev of a later term", make_heartbeat, 40, 8, 10, FRAME_BAD_FIELD },
    { "append, prev of no term", make_heartbeat, 40, 8, 0, FRAME_BAD_FIELD },
    { "append, prev of no index", make_heartbeat, 48, 8, 0, FRAME_BAD_FIELD },
    { "append, prev beyond all", make_heartbeat, 48, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "append, commit beyond all", make_heartbeat, 56, 8, FRAME_NUMBER_MAX + 1, FRAME_BAD_FIELD },
    { "append, more entries than sizes", make_heartbeat, 72, 4, 1, FRAME_BAD_FIELD },
    { "append, far more entries", make_append_full, 72, 4, 65, FRAME_BAD_FIELD },
    { "append, entries wrap round", make_heartbeat, 72, 4, 1u << 30, FRAME_BAD_FIELD },
    { "append, fewer entries", make_append_full, 72, 4, 63, FRAME_BAD_FIELD },
    { "append, reserved", make_heartbeat, 76, 1, 1, FRAME_BAD_FIELD },
    { "append, entry smaller than its header", make_append_full, 80, 4, 63, FRAME_BAD_FIELD },
    { "append, entry beyond its limit", make_append_full, 80, 4, ENTRY_BYTES_MAX + 1,
      FRAME_BAD_FIELD },
    { "append, giant entry", make_append_full, 332, 4, UINT32_MAX, FRAME_BAD_FIELD },
    { "append, sizes that do not add up", make_append_full, 80, 4, 105, FRAME_BAD_FIELD },
    { "append, total that does not add up", make_append_full, 20, 4, 6848, FRAME_BAD_FIELD },
    { "append, entries one too few", make_append_full, 48, 8, 699, FRAME_BAD_ENTRY },
    { "append, entries one too many", make_append_full, 48, 8, 701, FRAME_BAD_ENTRY },
    { "append, entries of a later term", make_append_full, 32, 8, 8, FRAME_BAD_ENTRY },
    { "append, prev newer than the first", make_append_full, 40, 8, 9, FRAME_BAD_ENTRY },

    { "reply, success 2", make_append_yes, 40, 1, 2, FRAME_BAD_FIELD },
    { "reply, reserved", make_append_yes, 47, 1, 1, FRAME_BAD_FIELD },
    { "reply, term beyond all", make_append_yes, 32, 8, FRAME_NUMBER_MAX + 1, FRAME_BAD_FIELD },
    { "reply, durable beyond all", make_append_yes, 56, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "reply, rejected beyond all", make_append_no, 64, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "reply, last beyond all", make_append_no, 72, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "reply, conflict term beyond all", make_append_no, 80, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "reply, conflict index beyond all", make_append_no, 88, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "reply, log too short to conflict", make_append_no, 80, 8, 0, FRAME_WHOLE },
    { "vote, last of no term", make_pre_vote, 40, 8, 0, FRAME_BAD_FIELD },
    { "vote, last beyond all", make_pre_vote, 48, 8, UINT64_MAX, FRAME_BAD_FIELD },
    { "vote, pre-vote 3", make_pre_vote, 56, 1, 3, FRAME_BAD_FIELD },
    { "vote, transfer 2", make_pre_vote, 57, 1, 2, FRAME_BAD_FIELD },
    { "vote, reserved", make_pre_vote, 63, 1, 1, FRAME_BAD_FIELD },
    { "vote reply, granted 2", make_vote_yes, 40, 1, 2, FRAME_BAD_FIELD },
    { "vote reply, pre-vote 2", make_vote_yes, 41, 1, 2, FRAME_BAD_FIELD },
    { "vote reply, reserved", make_vote_yes, 42, 1, 1, FRAME_BAD_FIELD },
    { "timeout now, term beyond all", make_timeout_now, 32, 8, UINT64_MAX, FRAME_BAD_FIELD },
};
#define HOSTILE_COUNT ((int)(sizeof hostile / sizeof hostile[0]))

START_TEST(a_field_out_of_range_is_refused)
{
    uint64_t value = hostile[_i].value;
    hostile[_i].make(&sample);

    for (int i = 0; i < hostile[_i].width; i++)
        sample.bytes[hostile[_i].at + (size_t)i] = (uint8_t)(value >> 8 * i);
    reseal();
    enum frame_fault fault = decode(sample.bytes, sample.size);
    ck_assert_msg(fault == hostile[_i].expected, "%s: %s", hostile[_i].name,
                  frame_fault_text(fault));
}
END_TEST

START_TEST(an_entry_smaller_than_its_header_is_refused_though_the_total_agrees)
{
    make_append_full(&sample);
    uint8_t *sizes = sample.bytes + FRAME_APPEND_SIZE;
    uint32_t missing = load_u32(sizes) - (ENTRY_HEADER_SIZE - 1);

    store_u32(sizes, load_u32(sizes) - missing);
    store_u32(sizes + 4, load_u32(sizes + 4) + missing);
    reseal();
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_BAD_FIELD);
}
END_TEST

START_TEST(a_giant_length_is_refused_before_it_is_waited_for)
{
    static const uint32_t sizes[] = { 0, 31, FRAME_SIZE_MAX + 1, 1u << 20, UINT32_MAX };

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        make_vote_yes(&sample);
        store_u32(sample.bytes + 8, sizes[i]);
        ck_assert_int_eq(decode(sample.bytes, FRAME_HEADER_SIZE), FRAME_TOO_LARGE);
    }
    make_append_first(&sample);
    store_u32(sample.bytes + 20, FRAME_ENTRIES_BYTES_MAX + 1);
    ck_assert_int_eq(decode(sample.bytes, FRAME_HEADER_SIZE), FRAME_TOO_LARGE);
    store_u32(sample.bytes + 20, FRAME_ENTRIES_BYTES_MAX);
    ck_assert_int_eq(decode(sample.bytes, FRAME_HEADER_SIZE), FRAME_CUT);
    ck_assert_msg(frame.size <= FRAME_SIZE_MAX, "entries are waited for on an unchecked word");
    ck_assert_int_eq(decode(sample.bytes, sample.size), FRAME_BAD_SUM);
}
END_TEST

START_TEST(one_entry_may_be_larger_than_the_usual_append)
{
    ck_assert_uint_eq(frame_entries_bytes_max(100), FRAME_ENTRIES_BYTES_MAX);
    ck_assert_uint_eq(frame_entries_bytes_max(64u << 20), 64u << 20);
}
END_TEST

START_TEST(other_bytes_are_told_from_frames_at_once)
{
    static const char *const strangers[] = { "GET / HTTP/1.1\r\n",
                                             "*1\r\n$4\r\nPING\r\n",
                                             "\x16\x03\x01",
                                             "\x89PNG",
                                             "\x89rkF",
                                             "get x\n" };

    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
        ck_assert_msg(decode((const uint8_t *)strangers[i], strlen(strangers[i])) == FRAME_NOT_ONE,
                      "%s", strangers[i]);
    ck_assert_int_eq(decode((const uint8_t *)"G", 1), FRAME_NOT_ONE);
}
END_TEST

/* -- Entries ----------------------------------------------------------------------------------- */

/* Three entries behind 8/700, of which one thing is wrong. */
enum wrong {
    NOTHING,
    INDEX_SKIPS,
    TERM_FALLS,
    CLOCK_FALLS,
    CHAIN_BREAKS,
    SIZES_SWAPPED,
    OTHER_VERSION,
    OTHER_KIND,
    SUM_BROKEN,
    SIZE_LIES
};

static void make_three(enum wrong wrong)
{
    struct entry three[3];
    uint8_t *at = sample.bytes + FRAME_APPEND_SIZE + 4 * 3;
    uint64_t chain = 5;
    struct raft_message message = { .type = RAFT_APPEND, .from = 3, .to = 1, .term = 9 };

    message.append.prev = (struct raft_pos){ 8, 700 };
    message.append.entry_count = 3;
    sample.size = FRAME_APPEND_SIZE + 4 * 3;
    for (uint32_t i = 0; i < 3; i++) {
        three[i] = (struct entry){ .kind = ENTRY_COMMANDS,
                                   .term = 8 + (i > 0),
                                   .index = 701 + i,
                                   .clock_ms = 50 + i,
                                   .count = 1,
                                   .size = ENTRY_HEADER_SIZE + 8 + 8 * i };
        memset(at, 'p', three[i].size);
        if (wrong == INDEX_SKIPS && i == 2)
            three[i].index++;
        if (wrong == TERM_FALLS && i == 2)
            three[i].term = 8;
        if (wrong == CLOCK_FALLS && i == 2)
            three[i].clock_ms = 10;
        if (wrong == OTHER_KIND && i == 1)
            three[i].kind = 999;
        if (wrong == SIZE_LIES && i == 1)
            three[i].size -= 8;
        entry_seal(at, wrong == CHAIN_BREAKS && i == 2 ? chain + 1 : chain, &three[i]);
        chain = three[i].chain;
        message.append.entry_terms[i] = three[i].term;
        three[i].index = 701 + i; /* what the encoder is made to believe */
        three[i].size = ENTRY_HEADER_SIZE + 8 + 8 * i;
        at += three[i].size;
        sample.size += three[i].size;
    }
    (void)frame_encode_message(sample.bytes, &message, three);

    uint8_t *sizes = sample.bytes + FRAME_APPEND_SIZE;
    uint8_t *second = sizes + 4 * 3 + load_u32(sizes);
    uint32_t second_size = load_u32(sizes + 4);
    if (wrong == SIZES_SWAPPED) {
        uint32_t first_size = load_u32(sizes);
        store_u32(sizes, second_size);
        store_u32(sizes + 4, first_size);
        reseal();
    }
    if (wrong == SUM_BROKEN)
        second[ENTRY_HEADER_SIZE] ^= 1;
    if (wrong == OTHER_VERSION) {
        store_u16(second + 8, ENTRY_VERSION + 1);
        store_u32(second, crc32c(0, second + 4, second_size - 4));
    }
}

static const struct {
    const char *name;
    enum wrong wrong;
    enum frame_fault expected;
} entry_rows[] = {
    { "three that fit", NOTHING, FRAME_WHOLE },
    { "an index is left out", INDEX_SKIPS, FRAME_BAD_ENTRY },
    { "a term falls", TERM_FALLS, FRAME_BAD_ENTRY },
    { "the clock falls", CLOCK_FALLS, FRAME_BAD_ENTRY },
    { "the chain breaks", CHAIN_BREAKS, FRAME_BAD_ENTRY },
    { "sizes are swapped", SIZES_SWAPPED, FRAME_BAD_ENTRY },
    { "a format to come", OTHER_VERSION, FRAME_ENTRY_VERSION },
    { "a kind to come is for the node", OTHER_KIND, FRAME_WHOLE },
    { "a payload bit has flipped", SUM_BROKEN, FRAME_BAD_ENTRY },
    { "an entry calls itself smaller", SIZE_LIES, FRAME_BAD_ENTRY },
};
#define ENTRY_ROW_COUNT ((int)(sizeof entry_rows / sizeof entry_rows[0]))

START_TEST(entries_stand_in_their_place_or_the_append_is_refused)
{
    make_three(entry_rows[_i].wrong);
    enum frame_fault fault = decode(sample.bytes, sample.size);
    ck_assert_msg(fault == entry_rows[_i].expected, "%s: %s", entry_rows[_i].name,
                  frame_fault_text(fault));
    if (entry_rows[_i].wrong == OTHER_KIND)
        ck_assert_uint_eq(entries[1].kind, 999);
}
END_TEST

START_TEST(an_entry_of_the_largest_size_passes_and_a_larger_one_does_not)
{
    static uint8_t bytes[2 * ENTRY_BYTES_MAX];
    struct entry one = { 0 };
    struct raft_message message = { .type = RAFT_APPEND, .from = 3, .to = 1, .term = 9 };

    for (uint32_t size = ENTRY_BYTES_MAX; size <= ENTRY_BYTES_MAX + 1; size++) {
        one = (struct entry){ .kind = ENTRY_COMMANDS, .term = 9, .index = 1, .size = size };
        entry_seal(bytes, 0, &one);
        message.append.entry_count = 1;
        message.append.entry_terms[0] = 9;
        sample.size = frame_encode_message(sample.bytes, &message, &one);
        memcpy(sample.bytes + sample.size, bytes, size);
        sample.size += size;
        ck_assert_int_eq(decode(sample.bytes, sample.size),
                         size == ENTRY_BYTES_MAX ? FRAME_WHOLE : FRAME_BAD_FIELD);
    }
}
END_TEST

START_TEST(every_fault_has_a_sentence)
{
    for (int fault = 0; fault < FRAME_FAULT_COUNT; fault++)
        ck_assert_ptr_nonnull(frame_fault_text((enum frame_fault)fault));
}
END_TEST

START_TEST(entries_that_do_not_fit_their_message_stop_the_encoder)
{
    struct entry one = { .term = 3, .index = 9, .size = 64 };
    struct raft_message message = { .type = RAFT_APPEND, .term = 3 };
    message.append.entry_count = 1;
    message.append.entry_terms[0] = 3;
    (void)frame_encode_message(sample.bytes, &message, &one); /* prev 0/0: index 1 should follow */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *tcase = tcase_create("frame");
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, what_is_encoded_decodes_and_encodes_to_the_same_bytes, 0,
                        KIND_COUNT);
    tcase_add_test(tcase, what_is_not_sent_is_not_set);
    tcase_add_loop_test(tcase, bytes_behind_a_frame_are_not_looked_at, 0, KIND_COUNT);
    tcase_add_loop_test(tcase, a_truncated_frame_is_not_yet_whole, 0, KIND_COUNT);
    tcase_add_loop_test(tcase, a_changed_byte_is_never_read_as_a_frame, 0, KIND_COUNT);
    tcase_add_loop_test(tcase, what_follows_is_found_at_frame_size, 0, KIND_COUNT);
    tcase_add_test(tcase, every_field_arrives);
    tcase_add_loop_test(tcase, a_field_out_of_range_is_refused, 0, HOSTILE_COUNT);
    tcase_add_test(tcase, an_entry_smaller_than_its_header_is_refused_though_the_total_agrees);
    tcase_add_test(tcase, a_giant_length_is_refused_before_it_is_waited_for);
    tcase_add_test(tcase, one_entry_may_be_larger_than_the_usual_append);
    tcase_add_test(tcase, other_bytes_are_told_from_frames_at_once);
    tcase_add_loop_test(tcase, entries_stand_in_their_place_or_the_append_is_refused, 0,
                        ENTRY_ROW_COUNT);
    tcase_add_test(tcase, an_entry_of_the_largest_size_passes_and_a_larger_one_does_not);
    tcase_add_test(tcase, every_fault_has_a_sentence);
    tcase_add_test_raise_signal(tcase, entries_that_do_not_fit_their_message_stop_the_encoder,
                                SIGABRT);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
