/* Slots: which of KV_SLOTS a key belongs to. kv_slot() itself is told of in kv/kv.h. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* CRC-16/XMODEM: polynomial 0x1021, start 0, most significant bit first, nothing inverted. */
uint16_t slot_crc16(const uint8_t *bytes, size_t size);
