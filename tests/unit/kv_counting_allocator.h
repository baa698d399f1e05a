/* An allocator that counts, and that checks what is given back against what was taken.
 *
 * Every block has exactly the size that was asked for, so that the address sanitizer sees the first
 * byte beyond it, and starts out full of `fill`: two stores with different fills agree only if
 * neither looks at memory that it has not set. */
#pragma once

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kv/kv.h"

struct counting {
    uint8_t fill;
    uint64_t bytes; /* taken and not given back */
    uint64_t blocks;
    uint64_t bytes_asked; /* taken or resized to, ever: set to 0 at will */
    uint64_t calls;       /* of any of the three: set to 0 at will */
};

/* In front of each block. */
union counting_block {
    size_t size;
    max_align_t align;
};

static void *counting_alloc(void *context, size_t size)
{
    struct counting *counting = (struct counting *)context;
    union counting_block *block = (union counting_block *)malloc(sizeof(*block) + size);
    assert(size > 0 && block != NULL);
    block->size = size;
    memset(block + 1, counting->fill, size);
    counting->bytes += size;
    counting->blocks++;
    counting->bytes_asked += size;
    counting->calls++;
    return block + 1;
}

static void counting_release(void *context, void *memory, size_t size)
{
    struct counting *counting = (struct counting *)context;
    union counting_block *block = (union counting_block *)memory - 1;
    assert(block->size == size);
    counting->bytes -= size;
    counting->blocks--;
    counting->calls++;
    free(block);
}

/* Always moves, so that nobody gets away with a pointer to the old place. */
static void *counting_resize(void *context, void *memory, size_t size, size_t new_size)
{
    void *moved = counting_alloc(context, new_size);
    memcpy(moved, memory, size < new_size ? size : new_size);
    counting_release(context, memory, size);
    ((struct counting *)context)->calls--;
    return moved;
}

static struct kv_allocator counting_allocator(struct counting *counting)
{
    return (struct kv_allocator){
        .alloc = counting_alloc,
        .resize = counting_resize,
        .release = counting_release,
        .context = counting,
    };
}
