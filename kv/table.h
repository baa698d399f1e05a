/* The keys of one slot: a hash table that grows and shrinks one bucket at a time.
 *
 * Linear hashing (Litwin 1980; Larson 1988 for memory). With N buckets, 2^L <= N < 2^(L+1), a hash
 * belongs to the bucket that its low L+1 bits name, or its low L bits if that one does not exist:
 *
 *     N = 6, L = 2        bucket   0    1    2    3    4    5
 *                         takes  000  001  x10  x11  100  101
 *
 * Growing adds bucket N and moves to it those of bucket N - 2^L (here 2) whose bit L is set;
 * shrinking puts the last bucket back. So each write that adds or removes a key does a constant
 * amount of this work, however large the table is. A bucket is a list of items, linked through
 * them: 4 bytes a bucket, and there are N <= keys <= 4/3 N buckets or so.
 *
 * Reading a hash's bits from the lowest up as a fraction, each bucket holds an interval:
 *
 *     0                  1/4                 1/2                 3/4                 1
 *     |--------0---------|---------2---------|---------1---------|---------3---------|     N = 4
 *     |---0----|----4----|---------2---------|----1----|----5----|---------3---------|     N = 6
 *
 * Growth cuts intervals and shrinking joins them, but no key ever moves on this line. A scan's
 * cursor is a point on it (the hash with its bits in reverse): what lies before has been visited.
 * That is all a cursor means, so it stays good whatever the table does, and on any node. */
#pragma once

#include <stdint.h>

#include "kv/array.h"
#include "kv/item.h"

struct table {
    struct array buckets; /* of uint32_t: the first item */
    uint32_t keys;
};

void table_init(struct table *table);                           /* takes no memory */
void table_release(struct table *table, struct memory *memory); /* its items are not dropped */

/* The link that names the item of this key, or NULL. Good until the table, or an item, changes. */
uint32_t *table_find(const struct table *table, const struct items *items, uint64_t hash,
                     const uint8_t *key, size_t key_size);

/* The link that holds the handle `item`, which must be in the table. `hash` is its key's. */
uint32_t *table_link(const struct table *table, const struct items *items, uint64_t hash,
                     uint32_t item);

void table_add(struct table *table, struct items *items, uint64_t hash, uint32_t item);
/* Take out the item that `link` names. */
void table_remove(struct table *table, struct items *items, uint32_t *link);

/* Visit the items of the bucket that `cursor` lies in, from the cursor on. Returns the point where
 * the next bucket begins; 0 when that was the last. */
typedef void table_visit(void *context, uint32_t item);
uint64_t table_scan(const struct table *table, const struct items *items, uint64_t cursor,
                    table_visit *visit, void *context);
