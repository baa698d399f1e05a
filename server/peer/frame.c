/* The bytes of frames; what they mean, and what makes a frame whole, is told in frame.h. */
#include "server/peer/frame.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"

static const uint8_t frame_magic[4] = { 0x89, 'r', 'k', 'f' };

/* Sizes of header and body, by type; an append has more behind it. */
static const uint32_t frame_sizes[FRAME_TYPE_END] = {
    [FRAME_HELLO] = FRAME_HELLO_SIZE,  [FRAME_REFUSAL] = FRAME_REFUSAL_SIZE,
    [FRAME_ALIVE] = FRAME_HEADER_SIZE, [FRAME_APPEND] = FRAME_APPEND_SIZE,
    [FRAME_APPEND_REPLY] = 96,         [FRAME_VOTE] = 64,
    [FRAME_VOTE_REPLY] = 48,           [FRAME_TIMEOUT_NOW] = 40,
};

_Static_assert(FRAME_SIZE_MAX == 336, "frame.h says so");
_Static_assert(FRAME_HELLO_SIZE <= FRAME_SIZE_MAX, "the append is the largest frame");
_Static_assert(FRAME_APPEND + RAFT_TIMEOUT_NOW == FRAME_TIMEOUT_NOW,
               "messages have the order of raft.h");

size_t frame_entries_bytes_max(uint32_t entry_bytes_max)
{
    return entry_bytes_max > FRAME_ENTRIES_BYTES_MAX ? entry_bytes_max : FRAME_ENTRIES_BYTES_MAX;
}

/* -- Decoding ---------------------------------------------------------------------------------- */

static struct raft_pos load_pos(const uint8_t *bytes)
{
    return (struct raft_pos){ .term = load_u64(bytes), .index = load_u64(bytes + 8) };
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static bool load_truth(const uint8_t *byte, bool *truth)
{
    *truth = *byte == 1;
    return *byte <= 1;
}

static bool is_number(uint64_t number)
{
    return number <= FRAME_NUMBER_MAX;
}

/* Both in range, and the start of the log is 0/0: nothing else has a 0. */
static bool is_pos(struct raft_pos pos)
{
    return is_number(pos.term) && is_number(pos.index) && (pos.term == 0) == (pos.index == 0);
}

/* A name: printable, not empty, and nothing but zeros behind it. */
static bool load_cluster(const uint8_t *bytes, char *cluster)
{
    size_t size = 0;
    while (size < FRAME_CLUSTER_MAX && bytes[size] > ' ' && bytes[size] < 0x7f)
        size++;
    if (size == 0 || size == FRAME_CLUSTER_MAX || !is_zero(bytes + size, FRAME_CLUSTER_MAX - size))
        return false;
    memcpy(cluster, bytes, FRAME_CLUSTER_MAX);
    return true;
}

static bool decode_hello(const uint8_t *bytes, struct frame_hello *hello)
{
    hello->protocol_min = load_u16(bytes + 32);
    hello->protocol_max = load_u16(bytes + 34);
    hello->servers = load_u32(bytes + 36);
    hello->features = load_u64(bytes + 40);
    hello->incarnation = load_u64(bytes + 48);
    hello->boot = load_u64(bytes + 56);
    return hello->protocol_min <= hello->protocol_max && hello->boot != 0 &&
           load_cluster(bytes + 64, hello->cluster);
}

static bool decode_refusal(const uint8_t *bytes, struct frame_refusal *refusal)
{
    refusal->reason = load_u16(bytes + 32);
    refusal->protocol_min = load_u16(bytes + 34);
    refusal->protocol_max = load_u16(bytes + 36);
    return refusal->reason != FRAME_ACCEPTED && refusal->protocol_min <= refusal->protocol_max &&
           is_zero(bytes + 38, 2) && load_cluster(bytes + 40, refusal->cluster);
}

/* Without the entries' own bytes. */
static bool decode_append(const uint8_t *bytes, uint32_t entry_bytes_max,
                          struct raft_message *message)
{
    struct raft_append *append = &message->append;

    append->prev = load_pos(bytes + 40);
    append->commit_index = load_u64(bytes + 56);
    append->round = load_u64(bytes + 64);
    append->no_room = false; /* the receiver's own word */
    append->entry_count = load_u32(bytes + 72);
    if (message->term == 0 || !is_pos(append->prev) || append->prev.term > message->term ||
        !is_number(append->commit_index) || append->entry_count > RAFT_APPEND_ENTRIES_MAX ||
        !is_zero(bytes + 76, 4) ||
        load_u32(bytes + 8) != FRAME_APPEND_SIZE + 4 * append->entry_count)
        return false;

    uint64_t total = 0;
    for (uint32_t i = 0; i < append->entry_count; i++) {
        uint32_t entry_size = load_u32(bytes + FRAME_APPEND_SIZE + 4 * i);
        if (entry_size < ENTRY_HEADER_SIZE || entry_size > entry_bytes_max)
            return false;
        total += entry_size;
    }
    return total == load_u32(bytes + 20);
}

static bool decode_append_reply(const uint8_t *bytes, struct raft_append_reply *reply)
{
    reply->round = load_u64(bytes + 48);
    reply->durable_index = load_u64(bytes + 56);
    reply->rejected_index = load_u64(bytes + 64);
    reply->last_index = load_u64(bytes + 72);
    reply->conflict = load_pos(bytes + 80);
    return load_truth(bytes + 40, &reply->success) && load_truth(bytes + 41, &reply->full) &&
           is_zero(bytes + 42, 6) && is_number(reply->durable_index) &&
           is_number(reply->rejected_index) && is_number(reply->last_index) &&
           is_number(reply->conflict.term) && is_number(reply->conflict.index);
}

static bool decode_vote(const uint8_t *bytes, struct raft_vote *vote)
{
    vote->last = load_pos(bytes + 40);
    return is_pos(vote->last) && load_truth(bytes + 56, &vote->pre_vote) &&
           load_truth(bytes + 57, &vote->transfer) && is_zero(bytes + 58, 6);
}

static bool decode_vote_reply(const uint8_t *bytes, struct raft_vote_reply *reply)
{
    return load_truth(bytes + 40, &reply->granted) && load_truth(bytes + 41, &reply->pre_vote) &&
           is_zero(bytes + 42, 6);
}

static bool decode_message(const uint8_t *bytes, uint32_t entry_bytes_max, struct frame *frame)
{
    struct raft_message *message = &frame->message;

    message->type = (enum raft_event_type)(frame->type - FRAME_APPEND);
    message->from = frame->from;
    message->to = frame->to;
    message->term = load_u64(bytes + 32);
    if (!is_number(message->term))
        return false;
    switch (frame->type) {
    case FRAME_APPEND:
        return decode_append(bytes, entry_bytes_max, message);
    case FRAME_APPEND_REPLY:
        return decode_append_reply(bytes, &message->append_reply);
    case FRAME_VOTE:
        return decode_vote(bytes, &message->vote);
    case FRAME_VOTE_REPLY:
        return decode_vote_reply(bytes, &message->vote_reply);
    default:
        return true; /* FRAME_TIMEOUT_NOW: the term is all */
    }
}

/* Header and body are there, and their checksum agrees. */
static enum frame_fault decode_body(const uint8_t *bytes, uint32_t entry_bytes_max,
                                    struct frame *frame)
{
    uint32_t size = load_u32(bytes + 8);
    uint16_t type = load_u16(bytes + 14);

    if (load_u16(bytes + 12) != FRAME_VERSION)
        return FRAME_BAD_VERSION;
    if (type < FRAME_HELLO || type >= FRAME_TYPE_END)
        return FRAME_BAD_TYPE;
    frame->type = (enum frame_type)type;
    frame->group = load_u32(bytes + 16);
    frame->from = load_u32(bytes + 24);
    frame->to = load_u32(bytes + 28);
    if (frame->type != FRAME_APPEND && (size != frame_sizes[type] || load_u32(bytes + 20) != 0))
        return FRAME_BAD_FIELD;
    if (frame->type == FRAME_APPEND && size < FRAME_APPEND_SIZE)
        return FRAME_BAD_FIELD;
    if (frame->type != FRAME_HELLO && frame->group != FRAME_GROUP)
        return FRAME_BAD_FIELD;

    bool is_good = true;
    if (frame->type == FRAME_HELLO)
        is_good = decode_hello(bytes, &frame->hello);
    else if (frame->type == FRAME_REFUSAL)
        is_good = decode_refusal(bytes, &frame->refusal);
    else if (frame->type >= FRAME_APPEND)
        is_good = decode_message(bytes, entry_bytes_max, frame);
    return is_good ? FRAME_WHOLE : FRAME_BAD_FIELD;
}

/* Whether `entry` may stand behind `before` (NULL: it is the first one, behind prev). */
static bool entry_fits(const struct entry *entry, const struct entry *before,
                       const struct raft_message *message)
{
    struct raft_pos prev = message->append.prev;

    if (entry->term > message->term)
        return false;
    if (before == NULL)
        return entry->index == prev.index + 1 && entry->term >= prev.term && entry->term > 0;
    return entry->index == before->index + 1 && entry->term >= before->term &&
           entry->clock_ms >= before->clock_ms && entry_follows(entry, before->chain);
}

static enum frame_fault decode_entries(const uint8_t *bytes, struct raft_append *append,
                                       const struct raft_message *message, struct entry *entries)
{
    const uint8_t *at = bytes + load_u32(bytes + 8);

    for (uint32_t i = 0; i < append->entry_count; i++) {
        uint32_t entry_size = load_u32(bytes + FRAME_APPEND_SIZE + 4 * i);
        enum entry_fault fault = entry_parse(at, entry_size, &entries[i]);
        if (fault == ENTRY_BAD_VERSION)
            return FRAME_ENTRY_VERSION;
        if (fault != ENTRY_GOOD || entries[i].size != entry_size)
            return FRAME_BAD_ENTRY;
        if (!entry_fits(&entries[i], i == 0 ? NULL : &entries[i - 1], message))
            return FRAME_BAD_ENTRY;
        append->entry_terms[i] = entries[i].term;
        at += entry_size;
    }
    return FRAME_WHOLE;
}

enum frame_fault frame_decode(const uint8_t *bytes, size_t size, uint32_t entry_bytes_max,
                              struct frame *frame, struct entry *entries)
{
    if (memcmp(bytes, frame_magic, size < 4 ? size : 4) != 0)
        return FRAME_NOT_ONE;
    frame->size = FRAME_HEADER_SIZE;
    if (size < frame->size)
        return FRAME_CUT;

    uint32_t body_end = load_u32(bytes + 8);
    uint32_t entries_size = load_u32(bytes + 20);
    if (body_end < FRAME_HEADER_SIZE || body_end > FRAME_SIZE_MAX ||
        entries_size > frame_entries_bytes_max(entry_bytes_max))
        return FRAME_TOO_LARGE;
    frame->size = body_end;
    if (size < frame->size)
        return FRAME_CUT;

    if (load_u32(bytes + 4) != crc32c(0, bytes + 8, body_end - 8))
        return FRAME_BAD_SUM;
    enum frame_fault fault = decode_body(bytes, entry_bytes_max, frame);
    if (fault != FRAME_WHOLE)
        return fault;

    frame->size = (size_t)body_end + entries_size;
    if (size < frame->size)
        return FRAME_CUT;
    if (frame->type != FRAME_APPEND)
        return FRAME_WHOLE;
    return decode_entries(bytes, &frame->message.append, &frame->message, entries);
}

const char *frame_fault_text(enum frame_fault fault)
{
    static const char *const texts[FRAME_FAULT_COUNT] = {
        [FRAME_WHOLE] = "it is whole",
        [FRAME_CUT] = "it is cut off",
        [FRAME_NOT_ONE] = "it does not begin like a frame",
        [FRAME_TOO_LARGE] = "its size is beyond what this node's Limits allow, or nonsense",
        [FRAME_BAD_SUM] = "its checksum does not match",
        [FRAME_BAD_VERSION] = "its version is unknown to this program",
        [FRAME_BAD_TYPE] = "its type is unknown to this program",
        [FRAME_BAD_FIELD] = "one of its fields is out of range",
        [FRAME_BAD_ENTRY] = "it carries an entry that is damaged or out of place",
        [FRAME_ENTRY_VERSION] = "it carries an entry of a format unknown to this program",
    };

    assert(fault < FRAME_FAULT_COUNT);
    return texts[fault];
}

/* -- Encoding ---------------------------------------------------------------------------------- */

static void store_pos(uint8_t *bytes, struct raft_pos pos)
{
    store_u64(bytes, pos.term);
    store_u64(bytes + 8, pos.index);
}

static void store_cluster(uint8_t *bytes, const char *cluster)
{
    size_t size = strlen(cluster);

    assert(size < FRAME_CLUSTER_MAX);
    memcpy(bytes, cluster, size); /* what is behind it is 0 since start_frame() */
}

/* An empty frame of `size` bytes. */
static void start_frame(uint8_t *bytes, enum frame_type type, size_t size)
{
    assert(size <= FRAME_SIZE_MAX);
    memset(bytes, 0, size);
    memcpy(bytes, frame_magic, sizeof frame_magic);
    store_u32(bytes + 8, (uint32_t)size);
    store_u16(bytes + 12, FRAME_VERSION);
    store_u16(bytes + 14, (uint16_t)type);
    store_u32(bytes + 16, FRAME_GROUP);
}

/* Address and seal it. Returns its size. */
static size_t seal_frame(uint8_t *bytes, uint32_t from, uint32_t to)
{
    size_t size = load_u32(bytes + 8);

    store_u32(bytes + 24, from);
    store_u32(bytes + 28, to);
    store_u32(bytes + 4, crc32c(0, bytes + 8, size - 8));
    return size;
}

size_t frame_encode_hello(uint8_t *bytes, uint32_t from, uint32_t to,
                          const struct frame_hello *hello)
{
    assert(hello->boot != 0);
    start_frame(bytes, FRAME_HELLO, FRAME_HELLO_SIZE);
    store_u16(bytes + 32, hello->protocol_min);
    store_u16(bytes + 34, hello->protocol_max);
    store_u32(bytes + 36, hello->servers);
    store_u64(bytes + 40, hello->features);
    store_u64(bytes + 48, hello->incarnation);
    store_u64(bytes + 56, hello->boot);
    store_cluster(bytes + 64, hello->cluster);
    return seal_frame(bytes, from, to);
}

size_t frame_encode_refusal(uint8_t *bytes, uint32_t from, uint32_t to,
                            const struct frame_refusal *refusal)
{
    assert(refusal->reason != FRAME_ACCEPTED);
    start_frame(bytes, FRAME_REFUSAL, FRAME_REFUSAL_SIZE);
    store_u16(bytes + 32, refusal->reason);
    store_u16(bytes + 34, refusal->protocol_min);
    store_u16(bytes + 36, refusal->protocol_max);
    store_cluster(bytes + 40, refusal->cluster);
    return seal_frame(bytes, from, to);
}

size_t frame_encode_alive(uint8_t *bytes, uint32_t from, uint32_t to)
{
    start_frame(bytes, FRAME_ALIVE, FRAME_HEADER_SIZE);
    return seal_frame(bytes, from, to);
}

static void encode_append(uint8_t *bytes, const struct raft_append *append,
                          const struct entry *entries)
{
    uint32_t entries_size = 0;

    assert(append->entry_count <= RAFT_APPEND_ENTRIES_MAX);
    store_pos(bytes + 40, append->prev);
    store_u64(bytes + 56, append->commit_index);
    store_u64(bytes + 64, append->round);
    store_u32(bytes + 72, append->entry_count);
    for (uint32_t i = 0; i < append->entry_count; i++) {
        assert(entries[i].term == append->entry_terms[i]);
        assert(entries[i].index == append->prev.index + 1 + i);
        store_u32(bytes + FRAME_APPEND_SIZE + 4 * i, entries[i].size);
        entries_size += entries[i].size;
    }
    store_u32(bytes + 20, entries_size);
}

static void encode_append_reply(uint8_t *bytes, const struct raft_append_reply *reply)
{
    bytes[40] = reply->success;
    bytes[41] = reply->full;
    store_u64(bytes + 48, reply->round);
    store_u64(bytes + 56, reply->durable_index);
    store_u64(bytes + 64, reply->rejected_index);
    store_u64(bytes + 72, reply->last_index);
    store_pos(bytes + 80, reply->conflict);
}

static void encode_vote(uint8_t *bytes, const struct raft_vote *vote)
{
    store_pos(bytes + 40, vote->last);
    bytes[56] = vote->pre_vote;
    bytes[57] = vote->transfer;
}

static void encode_vote_reply(uint8_t *bytes, const struct raft_vote_reply *reply)
{
    bytes[40] = reply->granted;
    bytes[41] = reply->pre_vote;
}

size_t frame_encode_message(uint8_t *bytes, const struct raft_message *message,
                            const struct entry *entries)
{
    assert(message->type < RAFT_MESSAGE_TYPE_COUNT);
    enum frame_type type = (enum frame_type)(FRAME_APPEND + message->type);
    size_t size = frame_sizes[type];
    if (type == FRAME_APPEND)
        size += 4 * (size_t)message->append.entry_count;

    start_frame(bytes, type, size);
    store_u64(bytes + 32, message->term);
    if (type == FRAME_APPEND)
        encode_append(bytes, &message->append, entries);
    else if (type == FRAME_APPEND_REPLY)
        encode_append_reply(bytes, &message->append_reply);
    else if (type == FRAME_VOTE)
        encode_vote(bytes, &message->vote);
    else if (type == FRAME_VOTE_REPLY)
        encode_vote_reply(bytes, &message->vote_reply);
    return seal_frame(bytes, message->from, message->to);
}
