/* The store: the replicated state machine. Keys, values, versions, expiry. Deterministic: two stores
 * that were given the same calls hold the same state and give the same answers, on any machine.
 * Knows no Raft, no clock, no file; all memory comes from the allocator that is handed in.
 *
 *     kv_begin(kv, entry_clock);               for each entry of the log, in order
 *     kv_apply(kv, &command, &result);         for each command of that entry
 *     kv_get(kv, key, size, &value)            between entries or commands
 *
 * Time is the log clock: milliseconds, carried by the entries. A key is dead if and only if its
 * expiry is at or before the clock that was applied last. A dead key answers like one that was
 * never set; its memory is taken back a bounded number of keys at a time, by kv_begin(), in the
 * order of expiry, hash and key bytes: so by the log alone, the same on every node.
 *
 * Every key belongs to one of KV_SLOTS slots: CRC16 (XMODEM) of the key, or of the part between the
 * first '{' and the next '}' if that is not empty, as in Redis Cluster. One slot may hold all keys:
 * no call does work in proportion to a slot.
 *
 * Each slot has a digest: a sum over its keys of a keyed 64-bit hash of key, value, version and
 * expiry. It is brought up to date by every write, and includes dead keys not yet taken back. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/command.h"

#define KV_SLOTS 16384
#define KV_HASH_KEY_SIZE 16
/* Dead keys that one kv_begin() takes back at most. */
#define KV_EXPIRE_MAX 256

struct kv; /* opaque */

/* Where memory comes from. `resize` and `alloc` never return NULL: who runs out of memory while
 * applying must stop, or replicas would disagree. `size` is what was asked for. */
struct kv_allocator {
    void *(*alloc)(void *context, size_t size);
    void *(*resize)(void *context, void *memory, size_t size, size_t new_size);
    void (*release)(void *context, void *memory, size_t size);
    void *context;
};

/* An empty store. `hash_key` (KV_HASH_KEY_SIZE bytes) is drawn once for a cluster and replicated:
 * with it, keys cannot be chosen to collide, and a scan's cursor means the same on every node. */
struct kv *kv_new(const struct kv_allocator *allocator, const uint8_t *hash_key);
void kv_free(struct kv *kv); /* accepts NULL */

/* The next entry, of log clock `clock_ms` (a smaller one than before counts as no change). */
void kv_begin(struct kv *kv, uint64_t clock_ms);

enum kv_status { KV_OK, KV_NOT_FOUND, KV_VERSION_DIFFERS };

struct kv_result {
    enum kv_status status;
    uint64_t version; /* KV_OK of set and cas: the new one; KV_VERSION_DIFFERS: the key's */
};

/* Carry out one command. Cannot fail: sizes were checked before it entered the log. */
void kv_apply(struct kv *kv, const struct kv_command *command, struct kv_result *result);

struct kv_value {
    const uint8_t *bytes; /* borrowed until the next kv_begin, kv_apply or kv_free */
    uint32_t size;
    uint64_t version;
    uint64_t expires_ms; /* log clock; 0: never */
};

/* Look a key up; false if there is none, or it is dead. */
bool kv_get(const struct kv *kv, const uint8_t *key, size_t key_size, struct kv_value *value);

/* One step of a walk over a slot: calls `visit` for each key of a bounded piece of it, dead ones
 * excepted, and returns the cursor for the next step; start with 0, 0 again means the end. Every key
 * that is there from the first step to the last is visited at least once, however the store grows
 * meanwhile; the same cursor means the same on every node. */
typedef void kv_visit(void *context, const uint8_t *key, size_t key_size,
                      const struct kv_value *value);
uint64_t kv_scan(const struct kv *kv, uint32_t slot, uint64_t cursor, kv_visit *visit,
                 void *context);

uint32_t kv_slot(const uint8_t *key, size_t key_size);
uint64_t kv_slot_digest(const struct kv *kv, uint32_t slot);
uint64_t kv_slot_keys(const struct kv *kv, uint32_t slot); /* dead but not taken back included */

/* Of the whole state: all slots, the version counter and the clock; O(1). */
uint64_t kv_digest(const struct kv *kv);

struct kv_stats {
    uint64_t keys;           /* dead but not taken back included */
    uint64_t memory_bytes;   /* taken from the allocator, all structures included */
    uint64_t last_version;   /* the highest ever given */
    uint64_t clock_ms;       /* applied */
    uint64_t next_expiry_ms; /* the earliest of any key, dead ones included; 0: none expires */
};
void kv_stats(const struct kv *kv, struct kv_stats *stats); /* O(1) */

/* Whether keys are dead and wait to be taken back: the leader appends another clock entry then. */
bool kv_has_dead(const struct kv *kv);
