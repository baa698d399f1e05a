#include "kv/array.h"

_Static_assert(sizeof(struct array) <= 16, "there is one for each of 16384 slots");

/* How many elements are allocated for `count` of them: in steps of 4 to 64, at most an eighth more
 * (or 3). */
static uint32_t array_room(uint32_t count)
{
    uint32_t step = 4;
    while (step < 64 && count > step * 16)
        step *= 2;
    return (count + step - 1) / step * step;
}

/* Fit a block that held `count` things of `size` bytes to `new_count` of them. */
static void *fit(struct memory *memory, void *block, uint32_t count, uint32_t new_count,
                 size_t size)
{
    size_t room = array_room(count) * size;
    size_t new_room = array_room(new_count) * size;
    if (room == new_room)
        return block;
    if (room == 0)
        return memory_alloc(memory, new_room);
    if (new_room == 0) {
        memory_release(memory, block, room);
        return NULL;
    }
    return memory_resize(memory, block, room, new_room);
}

/* A directory whose only entry is `inner`, and back. */
static void *wrap(struct memory *memory, void *inner)
{
    void **outer = (void **)fit(memory, NULL, 0, 1, sizeof(void *));
    outer[0] = inner;
    return outer;
}

static void *unwrap(struct memory *memory, void *outer)
{
    void *inner = ((void **)outer)[0];
    (void)fit(memory, outer, 1, 0, sizeof(void *));
    return inner;
}

static size_t segment_size(const struct array *array)
{
    return (size_t)ARRAY_SEGMENT * array->element_size;
}

/* Append segment `s`, which is not the first. */
static void add_segment(struct array *array, struct memory *memory, uint32_t s)
{
    if (s == 1)
        array->root = wrap(memory, array->root);
    if (s == ARRAY_PAGE)
        array->root = wrap(memory, array->root);

    void *segment = memory_alloc(memory, segment_size(array));
    if (s < ARRAY_PAGE) {
        array->root = fit(memory, array->root, s, s + 1, sizeof(void *));
        ((void **)array->root)[s] = segment;
        return;
    }
    uint32_t page = s / ARRAY_PAGE;
    if (s % ARRAY_PAGE == 0) {
        array->root = fit(memory, array->root, page, page + 1, sizeof(void *));
        ((void **)array->root)[page] = memory_alloc(memory, ARRAY_PAGE * sizeof(void *));
    }
    void **segments = (void **)((void **)array->root)[page];
    segments[s % ARRAY_PAGE] = segment;
}

/* Drop segment `s`, the last and not the first: add_segment() backwards. */
static void drop_segment(struct array *array, struct memory *memory, uint32_t s)
{
    memory_release(memory, array_segment(array, s), segment_size(array));
    if (s < ARRAY_PAGE) {
        array->root = fit(memory, array->root, s + 1, s, sizeof(void *));
    } else if (s % ARRAY_PAGE == 0) {
        uint32_t page = s / ARRAY_PAGE;
        memory_release(memory, ((void **)array->root)[page], ARRAY_PAGE * sizeof(void *));
        array->root = fit(memory, array->root, page + 1, page, sizeof(void *));
    }
    if (s == ARRAY_PAGE)
        array->root = unwrap(memory, array->root);
    if (s == 1)
        array->root = unwrap(memory, array->root);
}

void array_init(struct array *array, uint32_t element_size)
{
    array->root = NULL;
    array->count = 0;
    array->element_size = element_size;
}

void array_release(struct array *array, struct memory *memory)
{
    while (array->count > 0)
        array_pop(array, memory);
}

void *array_push(struct array *array, struct memory *memory)
{
    uint32_t i = array->count;
    assert(i < UINT32_MAX);
    if (i < ARRAY_SEGMENT)
        array->root = fit(memory, array->root, i, i + 1, array->element_size);
    else if (i % ARRAY_SEGMENT == 0)
        add_segment(array, memory, i / ARRAY_SEGMENT);
    array->count = i + 1;
    return array_at(array, i);
}

void array_pop(struct array *array, struct memory *memory)
{
    assert(array->count > 0);
    uint32_t last = array->count - 1;
    if (last < ARRAY_SEGMENT)
        array->root = fit(memory, array->root, last + 1, last, array->element_size);
    else if (last % ARRAY_SEGMENT == 0)
        drop_segment(array, memory, last / ARRAY_SEGMENT);
    array->count = last;
}

void *array_segment(const struct array *array, uint32_t segment)
{
    void **directory = (void **)array->root;
    if (array->count <= ARRAY_SEGMENT * ARRAY_PAGE)
        return directory[segment];
    void **page = (void **)directory[segment / ARRAY_PAGE];
    return page[segment % ARRAY_PAGE];
}
