/* Each block has a header of 32 bytes in front: its owner, its neighbours in the owner's list, and
 * its size under a mark. So free() finds the owner whatever memory is current, and a process's
 * memory can be given back without asking the process. The header stands before the bytes, and the
 * real block ends where they end: a sanitizer's right-hand red zone is still the first byte behind.
 *
 * The mark is in the word right before the bytes, where the C library keeps the size of a block of
 * its own, which never looks like it: so blocks that come from inside of the C library (strdup,
 * getline) and from unwrapped code are told from ours, and handed to the real functions. After a
 * free() it is another mark, which names a second free() as what it is.
 *
 * Blocks of the simulator itself (owner NULL) have a header too, but are in no list.
 *
 * The current memory is a static variable, the one exception to "no globals": malloc() has no
 * argument to carry it. The real functions are weak references: a program that is linked without
 * --wrap has no use for them, and books nothing. */
#include "tests/sim/memory.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MARK_BITS 24
#define SIZE_BITS (64 - MARK_BITS)
#define SIZE_LIMIT (UINT64_C(1) << SIZE_BITS)
#define MARK_USED (UINT64_C(0xa5b10c) << SIZE_BITS)
#define MARK_FREED (UINT64_C(0xdeadb1) << SIZE_BITS)
#define MARK_MASK (~(SIZE_LIMIT - 1))

struct links_of_block {
    struct header *before, *after;
};

struct header {
    struct memory *owner; /* NULL: the simulator */
    struct links_of_block list;
    uint64_t mark_and_size;
};

_Static_assert(sizeof(struct header) == 32, "bytes behind the header are as aligned as malloc's");

struct memory {
    struct header *first;
    uint64_t bytes, blocks;
};

static struct memory *current;

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *bytes, size_t size);
void __wrap_free(void *bytes);
__attribute__((weak)) void *__real_malloc(size_t size);
__attribute__((weak)) void *__real_calloc(size_t count, size_t size);
__attribute__((weak)) void *__real_realloc(void *bytes, size_t size);
__attribute__((weak)) void __real_free(void *bytes);

/* -- Booking ----------------------------------------------------------------------------------- */

static uint64_t size_of(const struct header *header)
{
    return header->mark_and_size & ~MARK_MASK;
}

static void enlist(struct header *header, struct memory *owner, size_t size)
{
    header->owner = owner;
    header->mark_and_size = MARK_USED | size;
    header->list = (struct links_of_block){ NULL, NULL };
    if (owner == NULL)
        return;
    header->list.after = owner->first;
    if (owner->first != NULL)
        owner->first->list.before = header;
    owner->first = header;
    owner->bytes += size;
    owner->blocks++;
}

static void delist(struct header *header)
{
    struct memory *owner = header->owner;
    if (owner == NULL)
        return;
    if (header->list.before != NULL)
        header->list.before->list.after = header->list.after;
    else
        owner->first = header->list.after;
    if (header->list.after != NULL)
        header->list.after->list.before = header->list.before;
    owner->bytes -= size_of(header);
    owner->blocks--;
}

/* The word before the bytes is ours, or the C library's, or the sanitizer's: looked at unasked. */
__attribute__((no_sanitize("address"))) static uint64_t mark_before(const void *bytes)
{
    return ((const uint64_t *)bytes)[-1] & MARK_MASK;
}

/* Whether this block has a header. */
static bool is_ours(const void *bytes)
{
    uint64_t mark = mark_before(bytes);
    assert(mark != MARK_FREED); /* freed twice */
    return mark == MARK_USED;
}

/* -- The functions of the C library ------------------------------------------------------------ */

void *__wrap_malloc(size_t size)
{
    if (size >= SIZE_LIMIT)
        return NULL;
    struct header *header = __real_malloc(sizeof *header + size);
    if (header == NULL)
        return NULL;
    enlist(header, current, size);
    return header + 1;
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (size != 0 && count >= SIZE_LIMIT / size)
        return NULL;
    struct header *header = __real_calloc(1, sizeof *header + count * size);
    if (header == NULL)
        return NULL;
    enlist(header, current, count * size);
    return header + 1;
}

/* A block stays with its owner, whoever makes it longer. */
void *__wrap_realloc(void *bytes, size_t size)
{
    if (bytes == NULL)
        return __wrap_malloc(size);
    if (!is_ours(bytes))
        return __real_realloc(bytes, size);
    if (size >= SIZE_LIMIT)
        return NULL;
    struct header *header = (struct header *)bytes - 1;
    struct memory *owner = header->owner;
    size_t size_before = size_of(header);
    delist(header);
    struct header *moved = __real_realloc(header, sizeof *header + size);
    if (moved == NULL) {
        enlist(header, owner, size_before);
        return NULL;
    }
    enlist(moved, owner, size);
    return moved + 1;
}

void __wrap_free(void *bytes)
{
    if (bytes == NULL)
        return;
    if (!is_ours(bytes)) {
        __real_free(bytes);
        return;
    }
    struct header *header = (struct header *)bytes - 1;
    delist(header);
    header->mark_and_size = MARK_FREED | size_of(header);
    __real_free(header);
}

/* -- The memory of a process ------------------------------------------------------------------- */

struct memory *memory_new(void)
{
    struct memory *before = memory_enter(NULL);
    struct memory *memory = calloc(1, sizeof *memory);
    assert(memory != NULL);
    memory_enter(before);
    return memory;
}

void memory_free(struct memory *memory)
{
    if (memory == NULL)
        return;
    assert(memory != current);
    memory_free_all(memory);
    free(memory);
}

struct memory *memory_enter(struct memory *memory)
{
    struct memory *before = current;
    current = memory;
    return before;
}

void memory_free_all(struct memory *memory)
{
    for (struct header *header = memory->first, *after; header != NULL; header = after) {
        after = header->list.after;
        header->mark_and_size = MARK_FREED | size_of(header);
        __real_free(header);
    }
    *memory = (struct memory){ 0 };
}

uint64_t memory_bytes(const struct memory *memory)
{
    return memory->bytes;
}

uint64_t memory_blocks(const struct memory *memory)
{
    return memory->blocks;
}
