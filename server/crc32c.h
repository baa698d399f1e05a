/* CRC32C (Castagnoli), by the processor's instruction where it has one. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The checksum of `bytes` behind those that gave `crc` (0 at the start). */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);
/* The same without the instruction: the twin that the tests compare with. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);
