/* One entry of the log as bytes: the batch of a turn. Encoded once, by the leader that proposes it,
 * and never cut or merged afterwards: the same bytes on every disk and on every link, for ever.
 *
 *     offset size
 *     0      4    CRC32C of bytes 4..size
 *     4      4    size: header and payload, in bytes
 *     8      2    format version: ENTRY_VERSION
 *     10     2    kind (enum entry_kind)
 *     12     4    group: 0
 *     16     8    term
 *     24     8    index
 *     32     8    clock: the leader's log clock, ms; never decreases along the log
 *     40     8    chain: hash of the entry before (its chain) and of this entry
 *     48     4    count: commands in the payload
 *     52     12   0
 *     64     …    payload
 *
 * Numbers are little-endian. The chain of the entry before index 1 is 0. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENTRY_HEADER_SIZE 64
#define ENTRY_VERSION 1
#define ENTRY_GROUP 0

enum entry_kind {
    ENTRY_GENESIS = 1,  /* index 1: what a cluster draws once; payload below */
    ENTRY_NOOP = 2,     /* opens a term (Raft §8); no payload */
    ENTRY_COMMANDS = 3, /* payload: kv/command.h */
    ENTRY_CLOCK = 4,    /* moves the log clock; no payload */
};

/* Payload of ENTRY_GENESIS, which is the no-op of the first term at the same time:
 *
 *     0      16   key of the keyed hash
 *     16     4    the cluster's feature level
 *     20     4    number of voters, 1 to 9
 *     24     4 …  their node ids, ascending */
#define ENTRY_HASH_KEY_SIZE 16
#define ENTRY_VOTERS_MAX 9
#define ENTRY_GENESIS_SIZE_MAX (ENTRY_HASH_KEY_SIZE + 8 + 4 * ENTRY_VOTERS_MAX)
#define ENTRY_FEATURE_LEVEL 1

struct entry_genesis {
    uint8_t hash_key[ENTRY_HASH_KEY_SIZE];
    uint32_t feature_level;
    uint32_t voter_count;
    uint32_t voters[ENTRY_VOTERS_MAX]; /* ascending */
};

struct entry {
    uint32_t size; /* header included */
    uint16_t version;
    uint16_t kind; /* may be unknown to this program: entry_kind_known() */
    uint32_t group;
    uint64_t term, index;
    uint64_t clock_ms;
    uint64_t chain;
    uint32_t count;
    const uint8_t *bytes;   /* the whole entry; borrowed */
    const uint8_t *payload; /* bytes + ENTRY_HEADER_SIZE */
};

/* Make an entry of `entry`'s kind, term, index, clock_ms, count and size: the payload already
 * stands behind the header's room in `bytes`. Fills the header in, computes chain (from `chain`, that
 * of the entry before) and checksum, and completes `entry`. */
void entry_seal(uint8_t *bytes, uint64_t chain, struct entry *entry);

enum entry_fault {
    ENTRY_GOOD,
    ENTRY_CUT,         /* fewer bytes than its size says, or than a header */
    ENTRY_BAD_SUM,     /* checksum */
    ENTRY_BAD_VERSION, /* whole, but of a format that this program does not know */
    ENTRY_BAD_FIELD,   /* whole, but a size, group or reserved field is out of range */
};

/* Read the entry at the front of `bytes`; all else is untouched unless the answer is ENTRY_GOOD
 * (or ENTRY_BAD_VERSION: then `version` is set). */
enum entry_fault entry_parse(const uint8_t *bytes, size_t size, struct entry *entry);
/* The size that the bytes at the front claim, or 0 if there are fewer than 8. Not to be trusted. */
uint32_t entry_claimed_size(const uint8_t *bytes, size_t size);

/* Whether `entry` continues an entry of chain `chain`. */
bool entry_follows(const struct entry *entry, uint64_t chain);
bool entry_kind_known(uint16_t kind);
/* Write a genesis payload (at most ENTRY_GENESIS_SIZE_MAX bytes); returns its size. */
size_t entry_genesis_encode(uint8_t *payload, const struct entry_genesis *genesis);
/* Read it; false if it is malformed. */
bool entry_genesis_decode(const uint8_t *payload, size_t size, struct entry_genesis *genesis);
const char *entry_fault_name(enum entry_fault fault);
