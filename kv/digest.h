/* Digests: 64 bits by which two stores can be compared. All are keyed with the cluster's key.
 *
 *     of an item    hash(hash of key, sizes of key and value, hash of value, version, expiry)
 *     of a slot     the sum of its items' digests, 0 if it is empty
 *     of all slots  the sum of digest_slot(slot, digest of the slot)
 *     of the store  hash(the sum over all slots, version counter, clock)
 *
 * Sums are modulo 2^64: order does not matter, and what leaves is subtracted. */
#pragma once

#include <stdint.h>

#include "kv/hash.h"

struct digest_item {
    uint64_t key_hash, value_hash;
    uint32_t key_size, value_size;
    uint64_t version;
    uint64_t expires_ms; /* 0: never */
};

struct hash_key digest_key(const uint8_t *hash_key);
uint64_t digest_item(const struct hash_key *key, const struct digest_item *item);
uint64_t digest_slot(const struct hash_key *key, uint32_t slot, uint64_t slot_digest);

struct digest_whole {
    uint64_t slots, last_version, clock_ms;
};
uint64_t digest_whole(const struct hash_key *key, const struct digest_whole *whole);
