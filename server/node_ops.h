/* Operations that wait: what a client has asked and is yet to be told. Lists of them belong to a
 * batch (answered as it is applied) or to a read round (answered once it is released). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/client/client.h"

struct op {
    uint64_t sequence; /* of all operations of the node: the order in which they were asked */
    uint64_t after; /* reads: the number of the batch with the connection's last write; 0: none */
    struct client *client;
    uint32_t key_offset; /* reads: in the list's keys */
    uint16_t key_size;
    uint8_t type; /* enum request_type */
    bool noreply;
};

/* Grows to what a turn needs and is then used again. All zero is an empty list. */
struct op_list {
    struct op *ops;
    size_t count, capacity;
    uint8_t *keys;
    size_t key_bytes, key_capacity;
};

/* Whether it is answered by the application of a command. */
bool op_is_write(const struct op *op);

/* Append `op`; `key` (op->key_size bytes) is copied. */
void op_list_push(struct op_list *list, const struct op *op, const uint8_t *key);
const uint8_t *op_list_key(const struct op_list *list, const struct op *op);
/* Empty it; memory beyond what is usually needed is given back. */
void op_list_clear(struct op_list *list);
void op_list_release(struct op_list *list);
