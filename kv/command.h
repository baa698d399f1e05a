/* Commands: what an entry of the log asks of the store. The bytes are independent of the protocol
 * that the request came by, and for ever: an old log must mean the same to a new program.
 *
 *     offset size
 *     0      1    type (enum kv_command_type)
 *     1      1    flags: bit 0: a request identity follows the header; others must be 0
 *     2      2    key size
 *     4      4    value size
 *     8      8    ttl in ms, from the entry's log clock; 0: never expires
 *     16     8    compare: the version that the key must have (0: must not exist); CAS only
 *     24     16   request identity, if flagged: client, sequence
 *     …           key, value
 *
 * Numbers are little-endian. A batch is commands one after the other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_COMMAND_HEADER_SIZE 24
#define KV_COMMAND_IDENTITY_SIZE 16
#define KV_KEY_SIZE_MAX UINT16_MAX

enum kv_command_type {
    KV_SET = 1,
    KV_CAS = 2,
    KV_DELETE = 3,
};

struct kv_command {
    enum kv_command_type type;
    bool has_identity;
    uint64_t client, sequence; /* if has_identity */
    uint64_t ttl_ms;
    uint64_t compare;
    uint16_t key_size;
    uint32_t value_size;
    const uint8_t *key, *value; /* borrowed from the bytes that were decoded */
};

/* Bytes that the command takes. */
size_t kv_command_size(const struct kv_command *command);

/* Write kv_command_size() bytes; returns that size. */
size_t kv_command_encode(const struct kv_command *command, uint8_t *bytes);

/* Read one command from the front of `bytes`. Returns the bytes it took; 0 when they are no whole
 * command: cut short, of an unknown type, with unknown flags or fields that its type must leave 0. */
size_t kv_command_decode(const uint8_t *bytes, size_t size, struct kv_command *command);
