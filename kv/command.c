#include "kv/command.h"

#include <assert.h>
#include <string.h>

#define FLAG_IDENTITY 0x01u

static void store(uint8_t *bytes, size_t size, uint64_t value)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t load(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)bytes[i] << 8 * i;
    return value;
}

/* Whether the type is known and the fields that it does not use are 0. */
static bool is_proper(const struct kv_command *command)
{
    switch (command->type) {
    case KV_SET:
        return command->compare == 0;
    case KV_CAS:
        return true;
    case KV_DELETE:
        return command->value_size == 0 && command->ttl_ms == 0 && command->compare == 0;
    }
    return false;
}

size_t kv_command_size(const struct kv_command *command)
{
    size_t size = KV_COMMAND_HEADER_SIZE;
    if (command->has_identity)
        size += KV_COMMAND_IDENTITY_SIZE;
    return size + command->key_size + command->value_size;
}

size_t kv_command_encode(const struct kv_command *command, uint8_t *bytes)
{
    assert(is_proper(command)); /* or nobody could decode it */

    store(bytes, 1, command->type);
    store(bytes + 1, 1, command->has_identity ? FLAG_IDENTITY : 0);
    store(bytes + 2, 2, command->key_size);
    store(bytes + 4, 4, command->value_size);
    store(bytes + 8, 8, command->ttl_ms);
    store(bytes + 16, 8, command->compare);
    uint8_t *end = bytes + KV_COMMAND_HEADER_SIZE;
    if (command->has_identity) {
        store(end, 8, command->client);
        store(end + 8, 8, command->sequence);
        end += KV_COMMAND_IDENTITY_SIZE;
    }
    if (command->key_size > 0)
        memcpy(end, command->key, command->key_size);
    end += command->key_size;
    if (command->value_size > 0)
        memcpy(end, command->value, command->value_size);
    end += command->value_size;

    assert((size_t)(end - bytes) == kv_command_size(command));
    return (size_t)(end - bytes);
}

/* Sizes are compared with what is left, never added up: no sum can wrap, whatever the bytes say. */
size_t kv_command_decode(const uint8_t *bytes, size_t size, struct kv_command *command)
{
    if (size < KV_COMMAND_HEADER_SIZE)
        return 0;
    uint8_t type = bytes[0];
    uint8_t flags = bytes[1];
    if (type < KV_SET || type > KV_DELETE || (flags & ~FLAG_IDENTITY) != 0)
        return 0;

    struct kv_command found = {
        .type = (enum kv_command_type)type,
        .has_identity = (flags & FLAG_IDENTITY) != 0,
        .key_size = (uint16_t)load(bytes + 2, 2),
        .value_size = (uint32_t)load(bytes + 4, 4),
        .ttl_ms = load(bytes + 8, 8),
        .compare = load(bytes + 16, 8),
    };
    if (!is_proper(&found))
        return 0;

    const uint8_t *rest = bytes + KV_COMMAND_HEADER_SIZE;
    size_t rest_size = size - KV_COMMAND_HEADER_SIZE;
    if (found.has_identity) {
        if (rest_size < KV_COMMAND_IDENTITY_SIZE)
            return 0;
        found.client = load(rest, 8);
        found.sequence = load(rest + 8, 8);
        rest += KV_COMMAND_IDENTITY_SIZE;
        rest_size -= KV_COMMAND_IDENTITY_SIZE;
    }
    if (rest_size < found.key_size)
        return 0;
    found.key = rest;
    rest += found.key_size;
    rest_size -= found.key_size;
    if (rest_size < found.value_size)
        return 0;
    found.value = rest;
    rest += found.value_size;

    *command = found;
    return (size_t)(rest - bytes);
}
