/* Items: a key, its value and what the store knows about them, in one block of a slab.
 *
 * An item is short when its key has at most 255 bytes and all of it fits a slab block:
 *
 *     offset size
 *     0      4    next item in the bucket
 *     4      8    version
 *     12     1    flags
 *     13     1    key size
 *     14     2    value size
 *     16     4    place in the heap of expiries, if it expires
 *     …           key, value
 *
 * Otherwise it is long: a block of fixed size with the same first words, and a body of its own that
 * holds key and value. A long item keeps the hashes of its key and value, so that no walk, move or
 * delete has to read kilobytes; for short ones these 16 bytes would be a tax, and are recomputed.
 *
 * The expiry itself is kept in the heap only (kv/expiry.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kv/hash.h"
#include "kv/memory.h"
#include "kv/slab.h"

#define ITEM_NONE 0u /* no handle */

struct items {
    struct memory *memory; /* borrowed for life */
    struct slab slab;
    struct hash_key key_hash;   /* where a key stands in its table */
    struct hash_key value_hash; /* what the digests know of a value */
};

/* The start of every block. */
struct item_head {
    uint32_t next;
    uint32_t version[2]; /* a 64-bit number at a multiple of 4: copied, never pointed to */
    uint8_t flags;
    uint8_t short_key_size;
    uint16_t short_value_size;
};

/* What an item is made of. */
struct item_content {
    const uint8_t *key, *value;
    uint32_t key_size, value_size;
    uint32_t slot;
    uint64_t key_hash, value_hash;
    uint64_t version;
    bool expires;
};

/* What an item says of itself. Good until an item is put, rewritten or dropped. */
struct item_view {
    const uint8_t *key, *value;
    uint32_t key_size, value_size;
    uint64_t version;
    bool expires;
    uint32_t heap_place; /* 0 if it does not expire */
};

void items_init(struct items *items, struct memory *memory, const uint8_t *hash_key);
void items_release(struct items *items);

/* A new item with a copy of key and value; its `next` and heap place are for the caller to set. */
uint32_t item_put(struct items *items, const struct item_content *content);

/* Turn the item into one of the same key and other content, where it is; links and heap place stay.
 * False, and nothing changed, if the new content needs a block of another kind or size. */
bool item_rewrite(struct items *items, uint32_t item, const struct item_content *content);

/* Drop an item that nobody refers to any more. If another had to move into its block, returns the
 * handle that it had; `item` is its handle now, and whoever knew the old one must be told. */
uint32_t item_drop(struct items *items, uint32_t item);

void item_view(const struct items *items, uint32_t item, struct item_view *view);
bool item_has_key(const struct items *items, uint32_t item, const uint8_t *key, size_t key_size);
uint64_t item_key_hash(const struct items *items, uint32_t item);
uint64_t item_value_hash(const struct items *items, uint32_t item);
uint32_t item_slot(const struct items *items, uint32_t item);
void item_set_heap_place(struct items *items, uint32_t item, uint32_t place);

static inline uint32_t *item_next(const struct items *items, uint32_t item)
{
    return &((struct item_head *)slab_at(&items->slab, item))->next;
}
