/* Which key dies next: a heap of all keys that expire.
 *
 * Ordered by expiry, then hash of the key, then its bytes. That is a total order of the content, so
 * the keys leave in the same order on every node, whatever way they came in. Four children to a
 * parent: half the levels of a binary heap, and it is the levels that cost, since each item that
 * moves is told its new place (and is not in the cache).
 *
 * An entry has the top 16 bits of the hash at hand, as keys that were set together often die
 * together: without them each comparison of such keys reads and hashes both (6 µs instead of 3 to
 * take one of a million back). It takes 14 bytes; with the 4 of the place in the item, an expiry
 * costs 18. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kv/array.h"
#include "kv/item.h"

struct expiry {
    struct array heap;
};

void expiry_init(struct expiry *expiry); /* takes no memory */
void expiry_release(struct expiry *expiry, struct memory *memory);

struct expiry_key {
    uint32_t item;
    uint64_t expires_ms; /* not 0 */
    uint64_t hash;       /* of the item's key */
};

/* All of these keep the items' heap places up to date. */
void expiry_add(struct expiry *expiry, struct items *items, const struct expiry_key *added);
void expiry_remove(struct expiry *expiry, struct items *items, uint32_t place);
void expiry_change(struct expiry *expiry, struct items *items, uint32_t place, uint64_t expires_ms);
/* The item at `place` has another handle now. */
void expiry_moved(struct expiry *expiry, uint32_t place, uint32_t item);

uint64_t expiry_at(const struct expiry *expiry, uint32_t place);

/* The item that dies first, ITEM_NONE if none expires; its expiry to `expires_ms`. */
uint32_t expiry_first(const struct expiry *expiry, uint64_t *expires_ms);
