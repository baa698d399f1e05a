/* How the parts make a store:
 *
 *     key --kv_slot()--> slot: digest, table (kv/table.h)
 *                                        | buckets
 *                                        v
 *     heap of expiries (kv/expiry.h) <-> items (kv/item.h), in slabs (kv/slab.h)
 *
 * An item is named by its handle in two places: one link of its slot's table, and its entry in the
 * heap if it expires. Every change of an item goes through write_key() or remove_key(), which keep
 * these two, the digests and the count in step. */
#include "kv/kv.h"

#include <assert.h>
#include <string.h>

#include "kv/digest.h"
#include "kv/expiry.h"
#include "kv/item.h"
#include "kv/memory.h"
#include "kv/table.h"

/* Buckets that one kv_scan() looks into: some 16 keys, there being about as many as buckets. */
#define SCAN_BUCKETS 16
/* An expiry that would not fit 64 bits is this one. */
#define EXPIRES_MS_MAX (UINT64_MAX - 1)

struct slot {
    struct table table;
    uint64_t digest;
};

struct kv {
    struct memory memory;
    struct items items;
    struct expiry expiry;
    struct hash_key digest_key;
    uint64_t digest_of_slots; /* the sum of digest_slot() over all */
    uint64_t keys;            /* the sum of the tables' */
    uint64_t last_version;
    uint64_t clock_ms;
    struct slot slots[KV_SLOTS];
};

/* Where a key is, or would be. */
struct place {
    const uint8_t *key;
    uint32_t key_size;
    uint32_t slot;
    uint64_t hash;
    uint32_t *link; /* to the item in the slot's table, NULL if there is none */
};

struct kv *kv_new(const struct kv_allocator *allocator, const uint8_t *hash_key)
{
    struct memory memory = { .allocator = *allocator };
    struct kv *kv = (struct kv *)memory_alloc(&memory, sizeof(*kv));
    memset(kv, 0, sizeof(*kv));
    kv->memory = memory;
    items_init(&kv->items, &kv->memory, hash_key);
    expiry_init(&kv->expiry);
    kv->digest_key = digest_key(hash_key);
    for (uint32_t i = 0; i < KV_SLOTS; i++) {
        table_init(&kv->slots[i].table);
        kv->digest_of_slots += digest_slot(&kv->digest_key, i, 0);
    }
    return kv;
}

void kv_free(struct kv *kv)
{
    if (kv == NULL)
        return;
    expiry_release(&kv->expiry, &kv->memory);
    for (uint32_t i = 0; i < KV_SLOTS; i++)
        table_release(&kv->slots[i].table, &kv->memory);
    items_release(&kv->items);

    struct memory memory = kv->memory;
    assert(memory.bytes == sizeof(*kv)); /* all but the store itself has been given back */
    memory_release(&memory, kv, sizeof(*kv));
}

static struct place find_place(const struct kv *kv, const uint8_t *key, size_t key_size)
{
    assert(key_size <= KV_KEY_SIZE_MAX);
    struct place place = {
        .key = key,
        .key_size = (uint32_t)key_size,
        .slot = kv_slot(key, key_size),
        .hash = hash_bytes(&kv->items.key_hash, key, key_size),
    };
    const struct table *table = &kv->slots[place.slot].table;
    place.link = table_find(table, &kv->items, place.hash, key, key_size);
    return place;
}

static uint64_t expires_ms_of(const struct kv *kv, const struct item_view *view)
{
    return view->expires ? expiry_at(&kv->expiry, view->heap_place) : 0;
}

/* Dead or alive, and if alive, of what version? */
static bool is_alive(const struct kv *kv, const struct place *place, uint64_t *version)
{
    if (place->link == NULL)
        return false;
    struct item_view view;
    item_view(&kv->items, *place->link, &view);
    if (view.expires && expires_ms_of(kv, &view) <= kv->clock_ms)
        return false;
    *version = view.version;
    return true;
}

/* The digest of the item as it is stored, its key's hash being known. */
static uint64_t stored_digest(const struct kv *kv, uint32_t item, uint64_t key_hash)
{
    struct item_view view;
    item_view(&kv->items, item, &view);
    const struct digest_item digest = {
        .key_hash = key_hash,
        .value_hash = item_value_hash(&kv->items, item),
        .key_size = view.key_size,
        .value_size = view.value_size,
        .version = view.version,
        .expires_ms = expires_ms_of(kv, &view),
    };
    return digest_item(&kv->digest_key, &digest);
}

/* Exchange an item's digest for another in its slot's and in the sum over all; 0 is for none. */
static void change_digest(struct kv *kv, uint32_t slot, uint64_t old, uint64_t new)
{
    uint64_t *digest = &kv->slots[slot].digest;
    kv->digest_of_slots -= digest_slot(&kv->digest_key, slot, *digest);
    *digest += new - old;
    kv->digest_of_slots += digest_slot(&kv->digest_key, slot, *digest);
}

/* An item has moved from handle `old` to `item`: tell the two that name it. */
static void tell_moved(struct kv *kv, uint32_t old, uint32_t item)
{
    struct item_view view;
    item_view(&kv->items, item, &view);
    const struct table *table = &kv->slots[item_slot(&kv->items, item)].table;
    *table_link(table, &kv->items, item_key_hash(&kv->items, item), old) = item;
    if (view.expires)
        expiry_moved(&kv->expiry, view.heap_place, item);
}

/* Take the item at `place` out of everything but the digests. */
static void take_out(struct kv *kv, struct place *place)
{
    uint32_t item = *place->link;
    struct item_view view;
    item_view(&kv->items, item, &view);
    if (view.expires)
        expiry_remove(&kv->expiry, &kv->items, view.heap_place);
    table_remove(&kv->slots[place->slot].table, &kv->items, place->link);
    place->link = NULL;
    kv->keys--;

    uint32_t moved = item_drop(&kv->items, item);
    if (moved != ITEM_NONE)
        tell_moved(kv, moved, item);
}

static void put_in(struct kv *kv, const struct place *place, const struct item_content *content,
                   uint64_t expires_ms)
{
    uint32_t item = item_put(&kv->items, content);
    table_add(&kv->slots[place->slot].table, &kv->items, place->hash, item);
    kv->keys++;
    if (content->expires) {
        const struct expiry_key key = { item, expires_ms, place->hash };
        expiry_add(&kv->expiry, &kv->items, &key);
    }
}

/* Write over the item at `place`, in its block if it can be. */
static void write_over(struct kv *kv, struct place *place, const struct item_content *content,
                       uint64_t expires_ms)
{
    if (!item_rewrite(&kv->items, *place->link, content)) {
        take_out(kv, place);
        put_in(kv, place, content, expires_ms);
        return;
    }
    if (content->expires) {
        struct item_view view;
        item_view(&kv->items, *place->link, &view);
        expiry_change(&kv->expiry, &kv->items, view.heap_place, expires_ms);
    }
}

static uint64_t expires_ms_from(uint64_t clock_ms, uint64_t ttl_ms)
{
    if (ttl_ms == 0)
        return 0;
    if (clock_ms >= EXPIRES_MS_MAX || ttl_ms > EXPIRES_MS_MAX - clock_ms)
        return EXPIRES_MS_MAX;
    return clock_ms + ttl_ms;
}

/* Give the key at `place` the value that the command brings, and a new version. */
static void write_key(struct kv *kv, struct place *place, const struct kv_command *command)
{
    const struct item_content content = {
        .key = command->key,
        .value = command->value,
        .key_size = command->key_size,
        .value_size = command->value_size,
        .slot = place->slot,
        .key_hash = place->hash,
        .value_hash = hash_bytes(&kv->items.value_hash, command->value, command->value_size),
        .version = ++kv->last_version,
        .expires = command->ttl_ms != 0,
    };
    const struct digest_item digest = {
        .key_hash = content.key_hash,
        .value_hash = content.value_hash,
        .key_size = content.key_size,
        .value_size = content.value_size,
        .version = content.version,
        .expires_ms = expires_ms_from(kv->clock_ms, command->ttl_ms),
    };
    uint64_t old = 0;
    if (place->link != NULL) {
        old = stored_digest(kv, *place->link, place->hash);
        write_over(kv, place, &content, digest.expires_ms);
    } else {
        put_in(kv, place, &content, digest.expires_ms);
    }
    change_digest(kv, place->slot, old, digest_item(&kv->digest_key, &digest));
}

static void remove_key(struct kv *kv, struct place *place)
{
    uint64_t old = stored_digest(kv, *place->link, place->hash);
    take_out(kv, place);
    change_digest(kv, place->slot, old, 0);
}

/* Take back the key that died first. */
static void take_back(struct kv *kv, uint32_t item)
{
    struct item_view view;
    item_view(&kv->items, item, &view);
    struct place place = {
        .key = view.key,
        .key_size = view.key_size,
        .slot = item_slot(&kv->items, item),
        .hash = item_key_hash(&kv->items, item),
    };
    place.link = table_link(&kv->slots[place.slot].table, &kv->items, place.hash, item);
    remove_key(kv, &place);
}

void kv_begin(struct kv *kv, uint64_t clock_ms)
{
    if (clock_ms > kv->clock_ms)
        kv->clock_ms = clock_ms;
    for (int i = 0; i < KV_EXPIRE_MAX && kv_has_dead(kv); i++) {
        uint64_t expires_ms;
        take_back(kv, expiry_first(&kv->expiry, &expires_ms));
    }
}

static struct kv_result apply_set(struct kv *kv, const struct kv_command *command)
{
    struct place place = find_place(kv, command->key, command->key_size);
    write_key(kv, &place, command);
    return (struct kv_result){ .status = KV_OK, .version = kv->last_version };
}

static struct kv_result apply_cas(struct kv *kv, const struct kv_command *command)
{
    struct place place = find_place(kv, command->key, command->key_size);
    uint64_t version = 0;
    bool alive = is_alive(kv, &place, &version);
    if (!alive && command->compare != 0)
        return (struct kv_result){ .status = KV_NOT_FOUND };
    if (alive && command->compare != version)
        return (struct kv_result){ .status = KV_VERSION_DIFFERS, .version = version };
    write_key(kv, &place, command);
    return (struct kv_result){ .status = KV_OK, .version = kv->last_version };
}

/* A dead key is not found, and stays where it is: kv_begin() takes it back in its turn. */
static struct kv_result apply_delete(struct kv *kv, const struct kv_command *command)
{
    struct place place = find_place(kv, command->key, command->key_size);
    uint64_t version;
    if (!is_alive(kv, &place, &version))
        return (struct kv_result){ .status = KV_NOT_FOUND };
    remove_key(kv, &place);
    return (struct kv_result){ .status = KV_OK };
}

void kv_apply(struct kv *kv, const struct kv_command *command, struct kv_result *result)
{
    switch (command->type) {
    case KV_SET:
        *result = apply_set(kv, command);
        return;
    case KV_CAS:
        *result = apply_cas(kv, command);
        return;
    case KV_DELETE:
        *result = apply_delete(kv, command);
        return;
    }
    assert(false && "a command of a known type");
}

static struct kv_value value_of(const struct kv *kv, const struct item_view *view)
{
    return (struct kv_value){
        .bytes = view->value,
        .size = view->value_size,
        .version = view->version,
        .expires_ms = expires_ms_of(kv, view),
    };
}

bool kv_get(const struct kv *kv, const uint8_t *key, size_t key_size, struct kv_value *value)
{
    if (key_size > KV_KEY_SIZE_MAX)
        return false;
    struct place place = find_place(kv, key, key_size);
    uint64_t version;
    if (!is_alive(kv, &place, &version))
        return false;
    struct item_view view;
    item_view(&kv->items, *place.link, &view);
    *value = value_of(kv, &view);
    return true;
}

struct scan {
    const struct kv *kv;
    kv_visit *visit;
    void *context;
};

static void visit_alive(void *context, uint32_t item)
{
    const struct scan *scan = (const struct scan *)context;
    struct item_view view;
    item_view(&scan->kv->items, item, &view);
    struct kv_value value = value_of(scan->kv, &view);
    if (value.expires_ms == 0 || value.expires_ms > scan->kv->clock_ms)
        scan->visit(scan->context, view.key, view.key_size, &value);
}

uint64_t kv_scan(const struct kv *kv, uint32_t slot, uint64_t cursor, kv_visit *visit,
                 void *context)
{
    assert(slot < KV_SLOTS);
    struct scan scan = { .kv = kv, .visit = visit, .context = context };
    const struct table *table = &kv->slots[slot].table;
    for (int i = 0; i < SCAN_BUCKETS; i++) {
        cursor = table_scan(table, &kv->items, cursor, visit_alive, &scan);
        if (cursor == 0)
            break;
    }
    return cursor;
}

uint64_t kv_slot_digest(const struct kv *kv, uint32_t slot)
{
    assert(slot < KV_SLOTS);
    return kv->slots[slot].digest;
}

uint64_t kv_slot_keys(const struct kv *kv, uint32_t slot)
{
    assert(slot < KV_SLOTS);
    return kv->slots[slot].table.keys;
}

uint64_t kv_digest(const struct kv *kv)
{
    const struct digest_whole whole = {
        .slots = kv->digest_of_slots,
        .last_version = kv->last_version,
        .clock_ms = kv->clock_ms,
    };
    return digest_whole(&kv->digest_key, &whole);
}

void kv_stats(const struct kv *kv, struct kv_stats *stats)
{
    uint64_t next_expiry_ms = 0;
    (void)expiry_first(&kv->expiry, &next_expiry_ms);
    *stats = (struct kv_stats){
        .keys = kv->keys,
        .memory_bytes = kv->memory.bytes,
        .last_version = kv->last_version,
        .clock_ms = kv->clock_ms,
        .next_expiry_ms = next_expiry_ms,
    };
}

bool kv_has_dead(const struct kv *kv)
{
    uint64_t expires_ms;
    return expiry_first(&kv->expiry, &expires_ms) != ITEM_NONE && expires_ms <= kv->clock_ms;
}
