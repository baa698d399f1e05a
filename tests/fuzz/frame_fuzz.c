/* Frames from hostile bytes. What must hold whatever they are: no read beyond them, a bounded wish
 * for more, and whatever is taken for a frame encodes to the very bytes that it was read from.
 *
 * Each input is tried as it is, and once more with magic, sizes and checksums made to agree, so
 * that the fuzzer gets behind the checksum. With libFuzzer: -fsanitize=fuzzer. Else define
 * FUZZ_STANDALONE and give files to replay, or `<first seed> <count>` for random inputs. */
#include <assert.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"
#include "server/peer/frame.h"

#define ENTRY_BYTES_MAX 2048u
#define BYTES_MAX (FRAME_SIZE_MAX + RAFT_APPEND_ENTRIES_MAX * ENTRY_BYTES_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t encode(uint8_t *bytes, const struct frame *frame, const struct entry *entries)
{
    if (frame->type == FRAME_HELLO) {
        size_t size = frame_encode_hello(bytes, frame->from, frame->to, &frame->hello);
        store_u32(bytes + 16, frame->group); /* the encoder only knows ours */
        store_u32(bytes + 4, crc32c(0, bytes + 8, size - 8));
        return size;
    }
    if (frame->type == FRAME_REFUSAL)
        return frame_encode_refusal(bytes, frame->from, frame->to, &frame->refusal);
    if (frame->type == FRAME_ALIVE)
        return frame_encode_alive(bytes, frame->from, frame->to);
    size_t size = frame_encode_message(bytes, &frame->message, entries);
    uint32_t count = frame->type == FRAME_APPEND ? frame->message.append.entry_count : 0;
    for (uint32_t i = 0; i < count; i++) {
        memcpy(bytes + size, entries[i].bytes, entries[i].size);
        size += entries[i].size;
    }
    return size;
}

static void check_message(const struct raft_message *message, const struct entry *entries)
{
    uint64_t term = message->append.prev.term;

    assert(message->type < RAFT_MESSAGE_TYPE_COUNT);
    if (message->type != RAFT_APPEND)
        return;
    assert(message->append.entry_count <= RAFT_APPEND_ENTRIES_MAX);
    for (uint32_t i = 0; i < message->append.entry_count; i++) {
        assert(entries[i].size <= ENTRY_BYTES_MAX);
        assert(entries[i].index == message->append.prev.index + 1 + i);
        assert(entries[i].term == message->append.entry_terms[i]);
        assert(entries[i].term >= term);
        term = entries[i].term;
        assert(i == 0 || entry_follows(&entries[i], entries[i - 1].chain));
    }
    assert(term <= message->term);
}

static void try_bytes(const uint8_t *data, size_t size)
{
    static uint8_t again[BYTES_MAX];
    static struct frame frame;
    static struct entry entries[RAFT_APPEND_ENTRIES_MAX];

    enum frame_fault fault = frame_decode(data, size, ENTRY_BYTES_MAX, &frame, entries);
    assert(frame_fault_text(fault) != NULL);
    if (fault == FRAME_CUT) {
        assert(frame.size > size);
        assert(frame.size <= FRAME_SIZE_MAX + frame_entries_bytes_max(ENTRY_BYTES_MAX));
    }
    if (fault != FRAME_WHOLE)
        return;
    assert(frame.size <= size);
    assert(frame.size <= BYTES_MAX);
    if (frame.type >= FRAME_APPEND)
        check_message(&frame.message, entries);
    assert(encode(again, &frame, entries) == frame.size);
    assert(memcmp(again, data, frame.size) == 0);
}

/* Let the entries that an append's sizes cut out of the bytes be sealed, each behind the last. */
static void mend_entries(uint8_t *bytes, size_t size)
{
    size_t body_end = load_u32(bytes + 8);
    uint8_t *at = bytes + body_end;
    uint64_t chain = 0;
    uint32_t total = 0;

    for (uint32_t i = 0; i < (body_end - FRAME_APPEND_SIZE) / 4; i++) {
        uint8_t *entry_size = bytes + FRAME_APPEND_SIZE + 4 * i;
        struct entry entry = { .kind = ENTRY_COMMANDS,
                               .term = load_u64(bytes + 32),
                               .index = load_u64(bytes + 48) + 1 + i,
                               .clock_ms = i,
                               .count = 1,
                               .size = ENTRY_HEADER_SIZE + load_u32(entry_size) % 128 };
        if (entry.size > size - (size_t)(at - bytes) || entry.term == 0 || entry.index == 0)
            break;
        store_u32(entry_size, entry.size);
        entry_seal(at, chain, &entry);
        chain = entry.chain;
        at += entry.size;
        total += entry.size;
        store_u32(bytes + 72, i + 1);
    }
    store_u32(bytes + 20, total);
}

/* Any bytes as a name of a cluster. */
static void mend_cluster(uint8_t *cluster)
{
    size_t length = 1 + cluster[0] % (FRAME_CLUSTER_MAX - 1);

    for (size_t i = 0; i < FRAME_CLUSTER_MAX; i++)
        cluster[i] = i < length ? (uint8_t)('!' + cluster[i] % 94) : 0;
}

/* What a well-meant frame of these bytes would be: the fuzzer's own bytes stand in the fields. */
static void mend(uint8_t *bytes, size_t size)
{
    static const uint8_t sizes[FRAME_TYPE_END] = { 32, 128, 104, 32, 80, 96, 64, 48, 40 };
    uint16_t type = bytes[14] % FRAME_TYPE_END;
    uint32_t body_end = sizes[type];

    if (type == FRAME_APPEND)
        body_end += 4u * (bytes[72] % (RAFT_APPEND_ENTRIES_MAX + 1));
    if (body_end > size)
        return;
    memcpy(bytes, "\x89rkf", 4);
    store_u32(bytes + 8, body_end);
    store_u16(bytes + 12, FRAME_VERSION);
    store_u16(bytes + 14, type);
    store_u32(bytes + 20, 0);
    if (type != FRAME_HELLO)
        store_u32(bytes + 16, FRAME_GROUP);
    if (type >= FRAME_APPEND)
        bytes[39] &= 0x7f;
    if (type == FRAME_HELLO) {
        bytes[63] |= 1;
        mend_cluster(bytes + 64);
    }
    if (type == FRAME_REFUSAL) {
        bytes[33] |= 1;
        store_u16(bytes + 38, 0);
        mend_cluster(bytes + 40);
    }
    if (type == FRAME_APPEND) {
        store_u32(bytes + 72, 0);
        store_u32(bytes + 76, 0);
        bytes[55] &= 0x7f;
        bytes[63] &= 0x7f;
        mend_entries(bytes, size);
    }
    store_u32(bytes + 4, crc32c(0, bytes + 8, body_end - 8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > BYTES_MAX)
        return 0;
    try_bytes(data, size);
    if (size < FRAME_APPEND_SIZE)
        return 0;
    uint8_t *mended = malloc(size); /* to the byte: a sanitizer sees what is read beyond it */
    if (mended == NULL)
        return 0;
    memcpy(mended, data, size);
    mend(mended, size);
    try_bytes(mended, size);
    mended[data[size - 1] * size / 256] ^= 1; /* and what was well meant goes wrong */
    try_bytes(mended, size);
    free(mended);
    return 0;
}

#ifdef FUZZ_STANDALONE

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = (*state ^ *state >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

/* Random bytes, or mostly zeros with a few of them: both find what the other does not. */
static void run_seed(uint64_t seed)
{
    static uint8_t bytes[BYTES_MAX];
    uint64_t state = seed;
    size_t size = next_random(&state) % (next_random(&state) % 8 == 0 ? 8192 : 400);
    bool is_sparse = next_random(&state) % 2 == 0;

    for (size_t i = 0; i < size; i++) {
        uint64_t random = next_random(&state);
        bytes[i] = is_sparse && random >> 32 & 7 ? 0 : (uint8_t)random;
    }
    if (size > 14 && next_random(&state) % 2 == 0)
        bytes[14] = (uint8_t)(next_random(&state) % FRAME_TYPE_END);
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (exact == NULL)
        abort();
    memcpy(exact, bytes, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static void replay(const char *name)
{
    static uint8_t bytes[BYTES_MAX];
    FILE *file = fopen(name, "rb");

    if (file == NULL) {
        fprintf(stderr, "cannot open '%s'\n", name);
        exit(EXIT_FAILURE);
    }
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    (void)LLVMFuzzerTestOneInput(bytes, size);
}

int main(int argc, char **argv)
{
    char *end = NULL;
    uint64_t first = argc > 1 ? strtoull(argv[1], &end, 10) : 1;
    bool is_number = argc <= 1 || *end == '\0';
    uint64_t count = argc > 2 && is_number ? strtoull(argv[2], NULL, 10) : 100000;

    for (int i = 1; i < argc && !is_number; i++)
        replay(argv[i]);
    for (uint64_t seed = first; is_number && seed < first + count; seed++)
        run_seed(seed);
    return EXIT_SUCCESS;
}

#endif
