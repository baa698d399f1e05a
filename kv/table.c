#include "kv/table.h"

#include <assert.h>

/* All bits up to the highest that is set in `count`: 2^(L+1) - 1. */
static uint32_t mask_of(uint32_t count)
{
    uint32_t mask = count;
    mask |= mask >> 1;
    mask |= mask >> 2;
    mask |= mask >> 4;
    mask |= mask >> 8;
    mask |= mask >> 16;
    return mask;
}

static uint32_t bucket_of(const struct table *table, uint64_t hash)
{
    uint32_t count = table->buckets.count;
    uint32_t mask = mask_of(count);
    uint32_t bucket = (uint32_t)hash & mask;
    return bucket < count ? bucket : bucket & mask >> 1;
}

static uint32_t *bucket_at(const struct table *table, uint32_t bucket)
{
    return (uint32_t *)array_at(&table->buckets, bucket);
}

/* Add a bucket and give it its share of the one that held its keys so far. */
static void split(struct table *table, struct items *items)
{
    uint32_t added = table->buckets.count;
    *(uint32_t *)array_push(&table->buckets, items->memory) = ITEM_NONE;
    if (added == 0)
        return;

    uint32_t mask = mask_of(added);
    uint32_t bit = mask ^ mask >> 1;
    uint32_t *kept = bucket_at(table, added & mask >> 1);
    uint32_t *moved = bucket_at(table, added);
    while (*kept != ITEM_NONE) {
        uint32_t item = *kept;
        uint32_t *next = item_next(items, item);
        if ((item_key_hash(items, item) & bit) != 0) {
            *kept = *next;
            *next = *moved;
            *moved = item;
        } else {
            kept = next;
        }
    }
}

/* Put the keys of the last bucket back where they came from, and drop it. */
static void merge(struct table *table, struct items *items)
{
    uint32_t last = table->buckets.count - 1;
    uint32_t first_item = *bucket_at(table, last);
    if (first_item != ITEM_NONE) {
        assert(last > 0); /* the only bucket goes with the last key */
        uint32_t *end = bucket_at(table, last & mask_of(last) >> 1);
        while (*end != ITEM_NONE)
            end = item_next(items, *end);
        *end = first_item;
    }
    array_pop(&table->buckets, items->memory);
}

void table_init(struct table *table)
{
    array_init(&table->buckets, sizeof(uint32_t));
    table->keys = 0;
}

void table_release(struct table *table, struct memory *memory)
{
    array_release(&table->buckets, memory);
    table->keys = 0;
}

uint32_t *table_find(const struct table *table, const struct items *items, uint64_t hash,
                     const uint8_t *key, size_t key_size)
{
    if (table->keys == 0)
        return NULL;
    uint32_t *link = bucket_at(table, bucket_of(table, hash));
    while (*link != ITEM_NONE && !item_has_key(items, *link, key, key_size))
        link = item_next(items, *link);
    return *link == ITEM_NONE ? NULL : link;
}

uint32_t *table_link(const struct table *table, const struct items *items, uint64_t hash,
                     uint32_t item)
{
    assert(table->keys > 0);
    uint32_t *link = bucket_at(table, bucket_of(table, hash));
    while (*link != item) {
        assert(*link != ITEM_NONE);
        link = item_next(items, *link);
    }
    return link;
}

void table_add(struct table *table, struct items *items, uint64_t hash, uint32_t item)
{
    table->keys++;
    if (table->keys > table->buckets.count)
        split(table, items);
    uint32_t *bucket = bucket_at(table, bucket_of(table, hash));
    *item_next(items, item) = *bucket;
    *bucket = item;
}

/* The gap between growing (at keys = buckets) and shrinking (at keys = 3/4 buckets) keeps a count
 * that hovers from doing both in turn. One key fewer is worth 4/3 buckets: at most two go. */
void table_remove(struct table *table, struct items *items, uint32_t *link)
{
    assert(table->keys > 0);
    *link = *item_next(items, *link);
    table->keys--;
    while ((uint64_t)table->keys * 4 < (uint64_t)table->buckets.count * 3)
        merge(table, items);
}

static uint64_t reverse(uint64_t x)
{
    x = (x >> 1 & UINT64_C(0x5555555555555555)) | (x & UINT64_C(0x5555555555555555)) << 1;
    x = (x >> 2 & UINT64_C(0x3333333333333333)) | (x & UINT64_C(0x3333333333333333)) << 2;
    x = (x >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)) | (x & UINT64_C(0x0f0f0f0f0f0f0f0f)) << 4;
    x = (x >> 8 & UINT64_C(0x00ff00ff00ff00ff)) | (x & UINT64_C(0x00ff00ff00ff00ff)) << 8;
    x = (x >> 16 & UINT64_C(0x0000ffff0000ffff)) | (x & UINT64_C(0x0000ffff0000ffff)) << 16;
    return x >> 32 | x << 32;
}

/* The bits of a hash that decide whether it belongs to `bucket`. */
static uint32_t bucket_mask(const struct table *table, uint32_t bucket)
{
    uint32_t count = table->buckets.count;
    uint32_t mask = mask_of(count);
    uint32_t half = mask >> 1;
    bool is_cut = (bucket | (mask ^ half)) < count; /* its upper half, or itself, exists */
    return is_cut ? mask : half;
}

uint64_t table_scan(const struct table *table, const struct items *items, uint64_t cursor,
                    table_visit *visit, void *context)
{
    if (table->keys == 0)
        return 0;
    uint32_t bucket = bucket_of(table, reverse(cursor));
    uint64_t start = reverse(bucket);
    /* All ones where the bucket does not decide: the interval's last point. */
    uint64_t end = start | ~reverse(bucket_mask(table, bucket));
    assert(start <= cursor && cursor <= end);

    uint32_t next;
    for (uint32_t item = *bucket_at(table, bucket); item != ITEM_NONE; item = next) {
        next = *item_next(items, item);
        if (cursor == start || reverse(item_key_hash(items, item)) >= cursor)
            visit(context, item);
    }
    return end + 1;
}
