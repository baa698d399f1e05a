#include "kv/memory.h"

#include <assert.h>

void *memory_alloc(struct memory *memory, size_t size)
{
    assert(size > 0);
    void *block = memory->allocator.alloc(memory->allocator.context, size);
    assert(block != NULL);
    memory->bytes += size;
    return block;
}

void *memory_resize(struct memory *memory, void *block, size_t size, size_t new_size)
{
    assert(size > 0 && size <= memory->bytes);
    assert(new_size > 0);
    void *resized = memory->allocator.resize(memory->allocator.context, block, size, new_size);
    assert(resized != NULL);
    memory->bytes = memory->bytes - size + new_size;
    return resized;
}

void memory_release(struct memory *memory, void *block, size_t size)
{
    assert(size > 0 && size <= memory->bytes);
    memory->bytes -= size;
    memory->allocator.release(memory->allocator.context, block, size);
}
