#include "tests/histcheck/names.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_SIZE_FIRST 64

void *names_grow(void *memory, size_t count, size_t size)
{
    assert(size > 0);
    void *grown = count <= SIZE_MAX / size ? realloc(memory, count > 0 ? count * size : 1) : NULL;
    if (grown == NULL) {
        fputs("histcheck: out of memory\n", stderr);
        abort();
    }
    return grown;
}

static char *copy_of(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(names_grow(NULL, size, 1), text, size);
}

void names_init(struct names *names)
{
    *names = (struct names){ .count = 1, .room = 16, .table_size = TABLE_SIZE_FIRST };
    names->texts = names_grow(NULL, names->room, sizeof(*names->texts));
    names->texts[0] = copy_of("");
    names->table = names_grow(NULL, names->table_size, sizeof(*names->table));
    memset(names->table, 0, names->table_size * sizeof(*names->table));
}

void names_release(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->texts[i]);
    free(names->texts);
    free(names->table);
    *names = (struct names){ 0 };
}

static uint64_t hash_of(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, and a mix for the low bits */
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

/* Where the text is in the table, or the empty place where it belongs. */
static size_t slot_of(const struct names *names, const char *text)
{
    size_t slot = (size_t)hash_of(text) & (names->table_size - 1);
    while (names->table[slot] != 0 && strcmp(names->texts[names->table[slot]], text) != 0)
        slot = (slot + 1) & (names->table_size - 1);
    return slot;
}

static void double_table(struct names *names)
{
    names->table_size *= 2;
    names->table = names_grow(names->table, names->table_size, sizeof(*names->table));
    memset(names->table, 0, names->table_size * sizeof(*names->table));
    for (size_t i = 1; i < names->count; i++)
        names->table[slot_of(names, names->texts[i])] = (uint32_t)i;
}

uint32_t names_add(struct names *names, const char *text)
{
    if (text == NULL || *text == '\0')
        return 0;
    size_t slot = slot_of(names, text);
    if (names->table[slot] != 0)
        return names->table[slot];

    assert(names->count < UINT32_MAX / 4);
    if (names->count == names->room) {
        names->room *= 2;
        names->texts = names_grow(names->texts, names->room, sizeof(*names->texts));
    }
    uint32_t name = (uint32_t)names->count++;
    names->texts[name] = copy_of(text);
    names->table[slot] = name;
    if (2 * names->count > names->table_size)
        double_table(names);
    return name;
}

uint32_t names_find(const struct names *names, const char *text)
{
    if (text == NULL || *text == '\0')
        return 0;
    uint32_t name = names->table[slot_of(names, text)];
    return name != 0 ? name : UINT32_MAX;
}

const char *names_text(const struct names *names, uint32_t name)
{
    assert(name < names->count);
    return names->texts[name];
}
