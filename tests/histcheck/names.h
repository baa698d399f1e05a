/* Words as numbers: each different string has one number, from 1 up; 0 is NULL and "". */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct names {
    char **texts; /* owned; texts[0] is "" */
    size_t count, room;
    uint32_t *table; /* open addressing; 0: empty */
    size_t table_size;
};

void names_init(struct names *names);
void names_release(struct names *names);

uint32_t names_add(struct names *names, const char *text);
uint32_t names_find(const struct names *names, const char *text); /* UINT32_MAX: not there */
const char *names_text(const struct names *names, uint32_t name);

/* realloc() to `count` things of `size` bytes that aborts instead of failing; never NULL. */
void *names_grow(void *memory, size_t count, size_t size);
