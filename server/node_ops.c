#include "server/node_ops.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A list that a burst has made larger than this gives its memory back. */
#define OPS_KEPT 4096
#define KEY_BYTES_KEPT (256 * 1024)

bool op_is_write(const struct op *op)
{
    return op->type != REQUEST_GET && op->type != REQUEST_GETM;
}

/* Memory for waiting operations is bounded by the connections' pipelines; without it a node cannot
 * keep its promise of one reply a request, so it stops. */
static void *grow(void *memory, size_t size)
{
    void *grown = realloc(memory, size);
    if (grown == NULL)
        abort();
    return grown;
}

void op_list_push(struct op_list *list, const struct op *op, const uint8_t *key)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        list->ops = grow(list->ops, list->capacity * sizeof *list->ops);
    }
    struct op *added = &list->ops[list->count++];
    *added = *op;
    if (op->key_size == 0)
        return;

    if (list->key_capacity - list->key_bytes < op->key_size) {
        list->key_capacity = 2 * list->key_capacity + UINT16_MAX;
        list->keys = grow(list->keys, list->key_capacity);
    }
    assert(list->key_bytes <= UINT32_MAX);
    added->key_offset = (uint32_t)list->key_bytes;
    memcpy(list->keys + list->key_bytes, key, op->key_size);
    list->key_bytes += op->key_size;
}

const uint8_t *op_list_key(const struct op_list *list, const struct op *op)
{
    return list->keys + op->key_offset;
}

void op_list_clear(struct op_list *list)
{
    if (list->capacity > OPS_KEPT || list->key_capacity > KEY_BYTES_KEPT) {
        op_list_release(list);
        return;
    }
    list->count = 0;
    list->key_bytes = 0;
}

void op_list_release(struct op_list *list)
{
    free(list->ops);
    free(list->keys);
    *list = (struct op_list){ 0 };
}
