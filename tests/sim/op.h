/* What a simulated client asks, and what became of it: the same on all levels. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OP_KEY_MAX 32

enum op_type { OP_GET, OP_GETM, OP_SET, OP_CAS, OP_DELETE };

struct op {
    uint64_t number; /* from 1 on, unique in the run */
    enum op_type type;
    int client; /* who asks */
    bool noreply;
    char key[OP_KEY_MAX]; /* printable, with the final NUL */
    uint32_t value_size;  /* of a write; the bytes are op_value() */
    uint64_t compare;     /* cas */
    uint64_t ttl_s;       /* 0: never expires */
};

/* The bytes of the value that op `number` writes: "<number>." and then letters that follow from the
 * number, `size` bytes in all (at least OP_VALUE_MIN). Written to `bytes`. */
#define OP_VALUE_MIN 24
void op_value(uint64_t number, uint8_t *bytes, uint32_t size);
/* The number of the op that wrote these bytes; 0 if no op did. Checks every byte. */
uint64_t op_of_value(const uint8_t *bytes, uint32_t size);

enum outcome_type {
    OUTCOME_VALUE,   /* get, getm */
    OUTCOME_NONE,    /* not found: get, getm, cas, delete */
    OUTCOME_STORED,  /* set, cas: `version` */
    OUTCOME_DELETED, /* delete */
    OUTCOME_DIFFERS, /* cas: `version` is the current one */
    OUTCOME_REFUSED, /* certainly no effect */
    OUTCOME_UNKNOWN, /* time-out, connection lost, ERR_TIMEOUT */
};

struct outcome {
    enum outcome_type type;
    uint64_t version;    /* VALUE of getm, STORED, DIFFERS; else 0 */
    uint64_t written_by; /* VALUE: op_of_value() */
    uint32_t value_size; /* VALUE */
    uint64_t ttl_s;      /* VALUE of getm: what remains; 0: never */
};
const char *op_type_name(enum op_type type);
const char *outcome_type_name(enum outcome_type type);
