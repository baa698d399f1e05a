#include "kv/expiry.h"

#include <assert.h>
#include <string.h>

#define CHILDREN 4u

/* Numbers in pieces of 16 bits, or padding would make it 24 bytes. */
struct entry {
    uint16_t expires_ms[4];
    uint16_t item[2];
    uint16_t hash_top;
};

_Static_assert(sizeof(struct entry) == 14, "what kv/expiry.h says an entry costs");

/* An entry while it is compared. The whole hash may have to be computed: only if it decides. */
struct rival {
    uint64_t expires_ms;
    uint32_t item;
    uint16_t hash_top;
};

static struct rival rival_at(const struct expiry *expiry, uint32_t place)
{
    const struct entry *entry = (const struct entry *)array_at(&expiry->heap, place);
    struct rival rival = { .hash_top = entry->hash_top };
    memcpy(&rival.expires_ms, entry->expires_ms, sizeof(rival.expires_ms));
    memcpy(&rival.item, entry->item, sizeof(rival.item));
    return rival;
}

static void put_at(struct expiry *expiry, uint32_t place, const struct rival *rival)
{
    struct entry *entry = (struct entry *)array_at(&expiry->heap, place);
    memcpy(entry->expires_ms, &rival->expires_ms, sizeof(rival->expires_ms));
    memcpy(entry->item, &rival->item, sizeof(rival->item));
    entry->hash_top = rival->hash_top;
}

static void settle_at(struct expiry *expiry, struct items *items, uint32_t place,
                      const struct rival *rival)
{
    put_at(expiry, place, rival);
    item_set_heap_place(items, rival->item, place);
}

static bool key_before(const struct items *items, uint32_t a, uint32_t b)
{
    struct item_view x, y;
    item_view(items, a, &x);
    item_view(items, b, &y);
    uint32_t common = x.key_size < y.key_size ? x.key_size : y.key_size;
    int order = memcmp(x.key, y.key, common);
    return order != 0 ? order < 0 : x.key_size < y.key_size;
}

static bool before(const struct items *items, const struct rival *a, const struct rival *b)
{
    if (a->expires_ms != b->expires_ms)
        return a->expires_ms < b->expires_ms;
    if (a->hash_top != b->hash_top)
        return a->hash_top < b->hash_top;
    uint64_t a_hash = item_key_hash(items, a->item);
    uint64_t b_hash = item_key_hash(items, b->item);
    if (a_hash != b_hash)
        return a_hash < b_hash;
    return key_before(items, a->item, b->item);
}

/* Find the place of `rival` at or above `place`, which is free. */
static uint32_t rise(struct expiry *expiry, struct items *items, uint32_t place,
                     const struct rival *rival)
{
    while (place > 0) {
        uint32_t above = (place - 1) / CHILDREN;
        struct rival parent = rival_at(expiry, above);
        if (!before(items, rival, &parent))
            break;
        settle_at(expiry, items, place, &parent);
        place = above;
    }
    return place;
}

/* Find the place of `rival` at or below `place`, which is free. */
static uint32_t sink(struct expiry *expiry, struct items *items, uint32_t place,
                     const struct rival *rival)
{
    for (;;) {
        uint64_t child = (uint64_t)place * CHILDREN + 1;
        uint64_t end = child + CHILDREN;
        if (end > expiry->heap.count)
            end = expiry->heap.count;
        if (child >= end)
            return place;

        uint32_t least_place = (uint32_t)child;
        struct rival least = rival_at(expiry, least_place);
        for (child++; child < end; child++) {
            struct rival other = rival_at(expiry, (uint32_t)child);
            if (before(items, &other, &least)) {
                least = other;
                least_place = (uint32_t)child;
            }
        }
        if (!before(items, &least, rival))
            return place;
        settle_at(expiry, items, place, &least);
        place = least_place;
    }
}

/* Bring `rival` into the heap, of which `place` is free. */
static void fill(struct expiry *expiry, struct items *items, uint32_t place,
                 const struct rival *rival)
{
    uint32_t found = rise(expiry, items, place, rival);
    if (found == place)
        found = sink(expiry, items, place, rival);
    settle_at(expiry, items, found, rival);
}

void expiry_init(struct expiry *expiry)
{
    array_init(&expiry->heap, sizeof(struct entry));
}

void expiry_release(struct expiry *expiry, struct memory *memory)
{
    array_release(&expiry->heap, memory);
}

void expiry_add(struct expiry *expiry, struct items *items, const struct expiry_key *added)
{
    assert(added->expires_ms != 0);
    const struct rival rival = {
        .expires_ms = added->expires_ms,
        .item = added->item,
        .hash_top = (uint16_t)(added->hash >> 48),
    };
    (void)array_push(&expiry->heap, items->memory);
    uint32_t place = rise(expiry, items, expiry->heap.count - 1, &rival);
    settle_at(expiry, items, place, &rival);
}

void expiry_remove(struct expiry *expiry, struct items *items, uint32_t place)
{
    assert(place < expiry->heap.count);
    uint32_t end = expiry->heap.count - 1;
    struct rival last = rival_at(expiry, end);
    array_pop(&expiry->heap, items->memory);
    if (place != end)
        fill(expiry, items, place, &last);
}

void expiry_change(struct expiry *expiry, struct items *items, uint32_t place, uint64_t expires_ms)
{
    assert(expires_ms != 0);
    struct rival changed = rival_at(expiry, place);
    changed.expires_ms = expires_ms;
    fill(expiry, items, place, &changed);
}

void expiry_moved(struct expiry *expiry, uint32_t place, uint32_t item)
{
    struct rival moved = rival_at(expiry, place);
    moved.item = item;
    put_at(expiry, place, &moved);
}

uint64_t expiry_at(const struct expiry *expiry, uint32_t place)
{
    return rival_at(expiry, place).expires_ms;
}

uint32_t expiry_first(const struct expiry *expiry, uint64_t *expires_ms)
{
    if (expiry->heap.count == 0)
        return ITEM_NONE;
    struct rival first = rival_at(expiry, 0);
    *expires_ms = first.expires_ms;
    return first.item;
}
