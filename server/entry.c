/* Entries: encoding, checksum and chain. The byte table is in entry.h.
 *
 * Two sums with two jobs. The CRC32C finds bytes that a disk or a wire has changed. The chain is a
 * 64-bit hash over the whole entry and the chain of the entry before it, so two logs whose chains
 * agree at an index agree (with all but a 2^-64 chance) on everything up to it: it finds a log that
 * is intact, byte for byte, and still the wrong one. It is no defence against someone who can choose
 * entries to collide: peers are trusted.
 *
 * The chain is the hash of the entry's own bytes, in which the checksum counts as 0 and the place of
 * the chain holds that of the entry before. Four lanes take 8 bytes each in turn,
 *
 *     lane = fold(lane ^ word, K)        fold(a, b): both halves of the 128-bit product a * b, xored
 *
 * because one multiplication waits four cycles for its result, and four fit into that time. The end
 * is padded with zeros to 32 bytes (the size is in the header, so that padding is never mistaken for
 * content) and the lanes are folded into one. Numbers are little-endian on every machine. */
#include "server/entry.h"

#include <assert.h>
#include <string.h>

#include "server/crc32c.h"
#include "server/endian.h"

enum {
    AT_SUM = 0,
    AT_SIZE = 4,
    AT_VERSION = 8,
    AT_KIND = 10,
    AT_GROUP = 12,
    AT_TERM = 16,
    AT_INDEX = 24,
    AT_CLOCK = 32,
    AT_CHAIN = 40,
    AT_COUNT = 48,
    AT_RESERVED = 52,
};
_Static_assert(AT_RESERVED + 12 == ENTRY_HEADER_SIZE, "the header has no other fields");

#define LANES 4
#define STRIPE (LANES * 8)
_Static_assert(ENTRY_HEADER_SIZE == 2 * STRIPE, "the header is two stripes");

/* Odd, and with no pattern: from the square roots of 2, 3, 5, 7, 11, 13, 17 and 19. */
static const uint64_t keys[2 * LANES] = {
    0x6a09e667f3bcc909, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 uint128;
    uint128 product = (uint128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline void mix_stripe(uint64_t lanes[LANES], const uint8_t *stripe)
{
    for (int i = 0; i < LANES; i++)
        lanes[i] = fold(lanes[i] ^ load_u64(stripe + 8 * i), keys[i]);
}

static uint64_t chain_of(const uint8_t *bytes, uint32_t size, uint64_t previous)
{
    uint8_t header[ENTRY_HEADER_SIZE];
    memcpy(header, bytes, sizeof header);
    store_u32(header + AT_SUM, 0);
    store_u64(header + AT_CHAIN, previous);

    uint64_t lanes[LANES] = { keys[4], keys[5], keys[6], keys[7] };
    mix_stripe(lanes, header);
    mix_stripe(lanes, header + STRIPE);

    uint32_t at = ENTRY_HEADER_SIZE;
    for (; size - at >= STRIPE; at += STRIPE)
        mix_stripe(lanes, bytes + at);
    if (at < size) {
        uint8_t last[STRIPE] = { 0 };
        memcpy(last, bytes + at, size - at);
        mix_stripe(lanes, last);
    }

    uint64_t hash = keys[LANES];
    for (int i = 0; i < LANES; i++)
        hash = fold(hash ^ lanes[i], keys[LANES - 1 - i]);
    return fold(hash ^ hash >> 32, keys[5]);
}

/* The bytes that a kind must have, header included; 0: any number. */
static uint32_t kind_size(uint16_t kind)
{
    switch (kind) {
    case ENTRY_NOOP:
    case ENTRY_CLOCK:
        return ENTRY_HEADER_SIZE;
    default:
        return 0;
    }
}

void entry_seal(uint8_t *bytes, uint64_t chain, struct entry *entry)
{
    assert(entry->size >= ENTRY_HEADER_SIZE);
    assert(entry->term >= 1);
    assert(entry->index >= 1);
    assert(kind_size(entry->kind) == 0 || kind_size(entry->kind) == entry->size);

    memset(bytes, 0, ENTRY_HEADER_SIZE);
    store_u32(bytes + AT_SIZE, entry->size);
    store_u16(bytes + AT_VERSION, ENTRY_VERSION);
    store_u16(bytes + AT_KIND, entry->kind);
    store_u32(bytes + AT_GROUP, ENTRY_GROUP);
    store_u64(bytes + AT_TERM, entry->term);
    store_u64(bytes + AT_INDEX, entry->index);
    store_u64(bytes + AT_CLOCK, entry->clock_ms);
    store_u32(bytes + AT_COUNT, entry->count);
    entry->chain = chain_of(bytes, entry->size, chain);
    store_u64(bytes + AT_CHAIN, entry->chain);
    store_u32(bytes + AT_SUM, crc32c(0, bytes + AT_SIZE, entry->size - AT_SIZE));

    entry->version = ENTRY_VERSION;
    entry->group = ENTRY_GROUP;
    entry->bytes = bytes;
    entry->payload = bytes + ENTRY_HEADER_SIZE;
}

uint32_t entry_claimed_size(const uint8_t *bytes, size_t size)
{
    return size < AT_SIZE + 4 ? 0 : load_u32(bytes + AT_SIZE);
}

static bool fields_in_range(const uint8_t *bytes, uint32_t size)
{
    static const uint8_t reserved[ENTRY_HEADER_SIZE - AT_RESERVED];
    uint32_t size_of_kind = kind_size(load_u16(bytes + AT_KIND));
    return load_u32(bytes + AT_GROUP) == ENTRY_GROUP && load_u64(bytes + AT_TERM) >= 1 &&
           load_u64(bytes + AT_INDEX) >= 1 && (size_of_kind == 0 || size_of_kind == size) &&
           memcmp(bytes + AT_RESERVED, reserved, sizeof reserved) == 0;
}

enum entry_fault entry_parse(const uint8_t *bytes, size_t size, struct entry *entry)
{
    if (size < ENTRY_HEADER_SIZE)
        return ENTRY_CUT;
    uint32_t claimed = entry_claimed_size(bytes, size);
    if (claimed < ENTRY_HEADER_SIZE)
        return ENTRY_BAD_FIELD;
    if (claimed > size)
        return ENTRY_CUT;
    if (crc32c(0, bytes + AT_SIZE, claimed - AT_SIZE) != load_u32(bytes + AT_SUM))
        return ENTRY_BAD_SUM;
    /* Nothing behind the version can be judged before the version is known. */
    uint16_t version = load_u16(bytes + AT_VERSION);
    if (version != ENTRY_VERSION) {
        entry->version = version;
        return ENTRY_BAD_VERSION;
    }
    if (!fields_in_range(bytes, claimed))
        return ENTRY_BAD_FIELD;

    *entry = (struct entry){
        .size = claimed,
        .version = version,
        .kind = load_u16(bytes + AT_KIND),
        .group = load_u32(bytes + AT_GROUP),
        .term = load_u64(bytes + AT_TERM),
        .index = load_u64(bytes + AT_INDEX),
        .clock_ms = load_u64(bytes + AT_CLOCK),
        .chain = load_u64(bytes + AT_CHAIN),
        .count = load_u32(bytes + AT_COUNT),
        .bytes = bytes,
        .payload = bytes + ENTRY_HEADER_SIZE,
    };
    return ENTRY_GOOD;
}

bool entry_follows(const struct entry *entry, uint64_t chain)
{
    return chain_of(entry->bytes, entry->size, chain) == entry->chain;
}

bool entry_kind_known(uint16_t kind)
{
    return kind >= ENTRY_GENESIS && kind <= ENTRY_CLOCK;
}

const char *entry_fault_name(enum entry_fault fault)
{
    switch (fault) {
    case ENTRY_GOOD:
        return "good";
    case ENTRY_CUT:
        return "cut short";
    case ENTRY_BAD_SUM:
        return "wrong checksum";
    case ENTRY_BAD_VERSION:
        return "unknown format version";
    case ENTRY_BAD_FIELD:
        return "field out of range";
    }
    return "unknown fault";
}

size_t entry_genesis_encode(uint8_t *payload, const struct entry_genesis *genesis)
{
    assert(genesis->voter_count >= 1);
    assert(genesis->voter_count <= ENTRY_VOTERS_MAX);

    memcpy(payload, genesis->hash_key, ENTRY_HASH_KEY_SIZE);
    store_u32(payload + ENTRY_HASH_KEY_SIZE, genesis->feature_level);
    store_u32(payload + ENTRY_HASH_KEY_SIZE + 4, genesis->voter_count);
    uint8_t *ids = payload + ENTRY_HASH_KEY_SIZE + 8;
    for (uint32_t i = 0; i < genesis->voter_count; i++)
        store_u32(ids + 4 * i, genesis->voters[i]);
    return ENTRY_HASH_KEY_SIZE + 8 + 4 * (size_t)genesis->voter_count;
}

bool entry_genesis_decode(const uint8_t *payload, size_t size, struct entry_genesis *genesis)
{
    if (size < ENTRY_HASH_KEY_SIZE + 8)
        return false;
    uint32_t count = load_u32(payload + ENTRY_HASH_KEY_SIZE + 4);
    if (count < 1 || count > ENTRY_VOTERS_MAX ||
        size != ENTRY_HASH_KEY_SIZE + 8 + 4 * (size_t)count)
        return false;
    const uint8_t *ids = payload + ENTRY_HASH_KEY_SIZE + 8;
    for (uint32_t i = 1; i < count; i++)
        if (load_u32(ids + 4 * i) <= load_u32(ids + 4 * (i - 1)))
            return false;

    memcpy(genesis->hash_key, payload, ENTRY_HASH_KEY_SIZE);
    genesis->feature_level = load_u32(payload + ENTRY_HASH_KEY_SIZE);
    genesis->voter_count = count;
    for (uint32_t i = 0; i < count; i++)
        genesis->voters[i] = load_u32(ids + 4 * i);
    return true;
}
