/* SipHash-1-3: a keyed 64-bit hash that nobody can steer without the key.
 *
 * One round for each 8 bytes and three at the end (Aumasson and Bernstein, "SipHash: a fast
 * short-input PRF"): 13 ns for 16 bytes, 35 for 128, and at 5.4 GB/s for long values no slower than
 * the checksum and the copies that a value goes through anyway, so the digests need no other.
 *
 * Two uses: the place of a key in its table, where chosen collisions would turn
 * a lookup into a walk, and the digests. Each use has its own key, drawn from the cluster's. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct hash_key {
    uint64_t k0, k1;
};

/* Key number `use` of those that are drawn from `bytes` (KV_HASH_KEY_SIZE of them). */
struct hash_key hash_key_derive(const uint8_t *bytes, uint64_t use);

/* `bytes` may be NULL if `size` is 0. */
uint64_t hash_bytes(const struct hash_key *key, const uint8_t *bytes, size_t size);

/* The hash of the words' little-endian bytes. */
uint64_t hash_words(const struct hash_key *key, const uint64_t *words, size_t count);
