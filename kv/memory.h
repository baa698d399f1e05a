/* The allocator that was handed in, with a count of what has been taken from it.
 *
 * Invariant: `bytes` is the sum of the sizes of everything that is allocated. Every structure of
 * the store takes its memory here, so that kv_stats() can say in O(1) what the store costs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kv/kv.h"

struct memory {
    struct kv_allocator allocator;
    uint64_t bytes;
};

/* None of these returns NULL; the bytes of new memory are not set. `size` is at least 1. */
void *memory_alloc(struct memory *memory, size_t size);
void *memory_resize(struct memory *memory, void *block, size_t size, size_t new_size);
void memory_release(struct memory *memory, void *block, size_t size);
