#include "kv/slot.h"

#include <string.h>

#include "kv/kv.h"

_Static_assert((KV_SLOTS & (KV_SLOTS - 1)) == 0, "a slot is the low bits of a CRC");

/* No table: with 0x1021 = x^12 + x^5 + 1 a whole byte is folded in with three shifts. It takes as
 * long as a lookup in a table that sits in the first-level cache, and keeps 512 bytes out of it. */
uint16_t slot_crc16(const uint8_t *bytes, size_t size)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        uint32_t x = (crc >> 8 ^ bytes[i]) & 0xff;
        x ^= x >> 4;
        crc = (crc << 8 ^ x << 12 ^ x << 5 ^ x) & 0xffff;
    }
    return (uint16_t)crc;
}

uint32_t kv_slot(const uint8_t *key, size_t key_size)
{
    if (key_size == 0)
        return slot_crc16(key, 0) % KV_SLOTS;
    const uint8_t *open = (const uint8_t *)memchr(key, '{', key_size);
    if (open != NULL) {
        const uint8_t *tag = open + 1;
        size_t rest = key_size - (size_t)(tag - key);
        const uint8_t *close = (const uint8_t *)memchr(tag, '}', rest);
        if (close != NULL && close > tag)
            return slot_crc16(tag, (size_t)(close - tag)) % KV_SLOTS;
    }
    return slot_crc16(key, key_size) % KV_SLOTS;
}
