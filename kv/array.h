/* A growing array that never moves more than a few kilobytes at once.
 *
 * Elements live in segments of ARRAY_SEGMENT; the only partial thing is what is still small:
 *
 *     up to 1024 elements      root -> elements
 *     up to 512 segments       root -> [ segment, segment, … ]
 *     beyond                   root -> [ page, page, … ],  page -> [ segment × 512 ]
 *
 * Room is a function of the count alone (at most an eighth of it is spare), so that nothing about
 * it has to be stored, and arrays of the same count cost the same.
 * One push or pop allocates at most one segment and one page, and copies at most a root: 1024
 * elements, or 64 KiB of page pointers at 2^32 elements.
 *
 * A pointer to an element is good until the next push or pop: small arrays move. */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "kv/memory.h"

#define ARRAY_SEGMENT 1024u /* elements */
#define ARRAY_PAGE 512u     /* segments */

struct array {
    void *root; /* NULL if empty */
    uint32_t count;
    uint32_t element_size;
};

void array_init(struct array *array, uint32_t element_size); /* takes no memory */
void array_release(struct array *array, struct memory *memory);

/* One more element at the end, its bytes not set. */
void *array_push(struct array *array, struct memory *memory);
/* One element fewer at the end. */
void array_pop(struct array *array, struct memory *memory);

void *array_segment(const struct array *array, uint32_t segment);

static inline void *array_at(const struct array *array, uint32_t i)
{
    assert(i < array->count);
    uint8_t *elements = (uint8_t *)array->root;
    if (array->count > ARRAY_SEGMENT)
        elements = (uint8_t *)array_segment(array, i / ARRAY_SEGMENT);
    return elements + (size_t)(i % ARRAY_SEGMENT) * array->element_size;
}
