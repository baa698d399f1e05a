#include "spawner/lines.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void lines_init(struct lines *lines, uint32_t id, lines_sink *sink, void *context)
{
    lines->sink = sink;
    lines->context = context;
    lines->prefix_size = (size_t)snprintf(lines->text, sizeof lines->text, "[%" PRIu32 "] ", id);
    lines->size = lines->prefix_size;
}

/* What is in the buffer goes out as a line; the next one begins with `mark` behind the id. */
static void emit(struct lines *lines, char mark)
{
    lines->text[lines->size++] = '\n';
    lines->sink(lines->context, lines->text, lines->size);
    lines->size = lines->prefix_size;
    lines->text[lines->prefix_size - 1] = mark;
}

/* Bytes of one line, without its end. */
static void add(struct lines *lines, const char *bytes, size_t size)
{
    while (size > 0) {
        size_t room = sizeof lines->text - 1 - lines->size; /* one byte is kept for the line end */
        if (room == 0) {
            emit(lines, '+');
            continue;
        }
        size_t part = size < room ? size : room;
        memcpy(lines->text + lines->size, bytes, part);
        lines->size += part;
        bytes += part;
        size -= part;
    }
}

void lines_feed(struct lines *lines, const char *bytes, size_t size)
{
    const char *end;

    while (size > 0 && (end = memchr(bytes, '\n', size)) != NULL) {
        size_t line_size = (size_t)(end - bytes);
        add(lines, bytes, line_size);
        emit(lines, ' ');
        bytes += line_size + 1;
        size -= line_size + 1;
    }
    add(lines, bytes, size);
}

void lines_end(struct lines *lines)
{
    if (lines->size > lines->prefix_size)
        emit(lines, ' ');
}
