#include "kv/item.h"

#include <assert.h>
#include <string.h>

#include "kv/kv.h"

#define FLAG_EXPIRES 0x01u
#define FLAG_LONG 0x02u

struct item_long {
    struct item_head head;
    uint32_t heap_place;
    uint32_t value_size;
    uint16_t key_size;
    uint16_t slot;
    uint32_t key_hash[2];
    uint32_t value_hash[2];
    uint8_t body[sizeof(uint8_t *)]; /* a pointer, at a multiple of 4 */
};

_Static_assert(sizeof(struct item_head) == 16, "the table in kv/item.h");
_Static_assert(sizeof(struct item_head) >= SLAB_BLOCK_MIN, "an empty key is an item too");
_Static_assert(KV_SLOTS <= UINT16_MAX + 1, "a long item keeps its slot in 16 bits");

static void put64(uint32_t *words, uint64_t value)
{
    memcpy(words, &value, sizeof(value));
}

static uint64_t get64(const uint32_t *words)
{
    uint64_t value;
    memcpy(&value, words, sizeof(value));
    return value;
}

static void copy(uint8_t *to, const uint8_t *from, size_t size)
{
    if (size > 0) /* a command without a value may point nowhere */
        memcpy(to, from, size);
}

static struct item_head *head_of(const struct items *items, uint32_t item)
{
    return (struct item_head *)slab_at(&items->slab, item);
}

static bool is_long(const struct item_head *head)
{
    return (head->flags & FLAG_LONG) != 0;
}

/* Long items. */

static struct item_long *long_of(struct item_head *head)
{
    assert(is_long(head));
    return (struct item_long *)(void *)head;
}

static uint8_t *long_body(const struct item_long *item)
{
    uint8_t *body;
    memcpy(&body, item->body, sizeof(body));
    return body;
}

static void long_set_body(struct item_long *item, uint8_t *body)
{
    memcpy(item->body, &body, sizeof(body));
}

static size_t long_body_size(const struct item_long *item)
{
    return (size_t)item->key_size + item->value_size;
}

static void long_fill(struct item_long *item, const struct item_content *content)
{
    put64(item->head.version, content->version);
    item->head.flags = FLAG_LONG | (content->expires ? FLAG_EXPIRES : 0);
    item->head.short_key_size = 0;
    item->head.short_value_size = 0;
    item->value_size = content->value_size;
    item->key_size = (uint16_t)content->key_size;
    item->slot = (uint16_t)content->slot;
    put64(item->key_hash, content->key_hash);
    put64(item->value_hash, content->value_hash);
    copy(long_body(item), content->key, content->key_size);
    copy(long_body(item) + content->key_size, content->value, content->value_size);
}

/* Short items. */

static uint32_t *short_heap_place(struct item_head *head)
{
    assert(head->flags == FLAG_EXPIRES);
    return (uint32_t *)(void *)(head + 1);
}

static uint8_t *short_key(struct item_head *head)
{
    uint8_t *bytes = (uint8_t *)(head + 1);
    return (head->flags & FLAG_EXPIRES) != 0 ? bytes + sizeof(uint32_t) : bytes;
}

static void short_fill(struct item_head *head, const struct item_content *content)
{
    put64(head->version, content->version);
    head->flags = content->expires ? FLAG_EXPIRES : 0;
    head->short_key_size = (uint8_t)content->key_size;
    head->short_value_size = (uint16_t)content->value_size;
    copy(short_key(head), content->key, content->key_size);
    copy(short_key(head) + content->key_size, content->value, content->value_size);
}

/* What a short item of this content takes; 0 if it must be long. */
static uint32_t short_size(const struct item_content *content)
{
    uint64_t size = sizeof(struct item_head);
    if (content->expires)
        size += sizeof(uint32_t);
    size += content->key_size;
    size += content->value_size;
    bool fits = content->key_size <= UINT8_MAX && size <= SLAB_BLOCK_MAX;
    return fits ? (uint32_t)size : 0;
}

/* Both. */

void items_init(struct items *items, struct memory *memory, const uint8_t *hash_key)
{
    items->memory = memory;
    slab_init(&items->slab);
    items->key_hash = hash_key_derive(hash_key, 1);
    items->value_hash = hash_key_derive(hash_key, 2);
}

void items_release(struct items *items)
{
    /* Long items have more to give back than their block: drop all that share their size. */
    for (;;) {
        uint32_t last = slab_last(&items->slab, sizeof(struct item_long));
        if (last == ITEM_NONE)
            break;
        (void)item_drop(items, last); /* the last moves no other */
    }
    slab_release(&items->slab, items->memory);
}

uint32_t item_put(struct items *items, const struct item_content *content)
{
    assert(content->key_size <= KV_KEY_SIZE_MAX);
    uint32_t size = short_size(content);
    if (size != 0) {
        uint32_t item = slab_alloc(&items->slab, items->memory, size);
        short_fill(head_of(items, item), content);
        return item;
    }
    uint32_t item = slab_alloc(&items->slab, items->memory, sizeof(struct item_long));
    struct item_long *added = (struct item_long *)slab_at(&items->slab, item);
    size_t body_size = (size_t)content->key_size + content->value_size;
    long_set_body(added, (uint8_t *)memory_alloc(items->memory, body_size));
    long_fill(added, content);
    return item;
}

bool item_rewrite(struct items *items, uint32_t item, const struct item_content *content)
{
    struct item_head *head = head_of(items, item);
    bool expires = (head->flags & FLAG_EXPIRES) != 0;
    if (content->expires != expires)
        return false;
    uint32_t size = short_size(content);
    if (is_long(head)) {
        if (size != 0 || content->value_size != long_of(head)->value_size)
            return false;
        assert(content->key_size == long_of(head)->key_size);
        long_fill(long_of(head), content);
        return true;
    }
    uint32_t stride = slab_chunk(&items->slab, item)->stride;
    if (size == 0 || slab_stride(size) != stride)
        return false;
    assert(content->key_size == head->short_key_size);
    short_fill(head, content);
    return true;
}

uint32_t item_drop(struct items *items, uint32_t item)
{
    struct item_head *head = head_of(items, item);
    if (is_long(head)) {
        struct item_long *dropped = long_of(head);
        memory_release(items->memory, long_body(dropped), long_body_size(dropped));
    }
    return slab_free(&items->slab, items->memory, item);
}

void item_view(const struct items *items, uint32_t item, struct item_view *view)
{
    struct item_head *head = head_of(items, item);
    view->version = get64(head->version);
    view->expires = (head->flags & FLAG_EXPIRES) != 0;
    view->heap_place = 0;
    if (is_long(head)) {
        const struct item_long *seen = long_of(head);
        view->key = long_body(seen);
        view->key_size = seen->key_size;
        view->value_size = seen->value_size;
        if (view->expires)
            view->heap_place = seen->heap_place;
    } else {
        view->key = short_key(head);
        view->key_size = head->short_key_size;
        view->value_size = head->short_value_size;
        if (view->expires)
            view->heap_place = *short_heap_place(head);
    }
    view->value = view->key + view->key_size;
}

bool item_has_key(const struct items *items, uint32_t item, const uint8_t *key, size_t key_size)
{
    struct item_head *head = head_of(items, item);
    const uint8_t *own = is_long(head) ? long_body(long_of(head)) : short_key(head);
    size_t own_size = is_long(head) ? long_of(head)->key_size : head->short_key_size;
    return own_size == key_size && (key_size == 0 || memcmp(own, key, key_size) == 0);
}

uint64_t item_key_hash(const struct items *items, uint32_t item)
{
    struct item_head *head = head_of(items, item);
    if (is_long(head))
        return get64(long_of(head)->key_hash);
    return hash_bytes(&items->key_hash, short_key(head), head->short_key_size);
}

uint64_t item_value_hash(const struct items *items, uint32_t item)
{
    struct item_head *head = head_of(items, item);
    if (is_long(head))
        return get64(long_of(head)->value_hash);
    const uint8_t *value = short_key(head) + head->short_key_size;
    return hash_bytes(&items->value_hash, value, head->short_value_size);
}

uint32_t item_slot(const struct items *items, uint32_t item)
{
    struct item_head *head = head_of(items, item);
    if (is_long(head))
        return long_of(head)->slot;
    return kv_slot(short_key(head), head->short_key_size);
}

void item_set_heap_place(struct items *items, uint32_t item, uint32_t place)
{
    struct item_head *head = head_of(items, item);
    assert((head->flags & FLAG_EXPIRES) != 0);
    if (is_long(head))
        long_of(head)->heap_place = place;
    else
        *short_heap_place(head) = place;
}
