/* Bytes from a pipe in, whole lines with the node's id before them out.
 *
 *     "term=1\nterm"  then  "=2\n"   ->   "[3] term=1\n", "[3] term=2\n"
 *
 * A line that is longer than the buffer goes out in pieces; all but the first begin with "[3]+". A
 * piece is never longer than LINES_BYTES_MAX, so that a pipe takes it whole or not at all. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* With prefix and line end. PIPE_BUF of Linux. */
#define LINES_BYTES_MAX 4096

/* `line` ends with '\n', and is borrowed until the end of the call. */
typedef void lines_sink(void *context, const char *line, size_t size);

struct lines {
    lines_sink *sink;
    void *context;
    size_t prefix_size;
    size_t size; /* of `text`: the prefix, and what has come of the line so far */
    char text[LINES_BYTES_MAX];
};

void lines_init(struct lines *lines, uint32_t id, lines_sink *sink, void *context);
void lines_feed(struct lines *lines, const char *bytes, size_t size);
/* No more bytes come: a line without its end goes out as if it had one. */
void lines_end(struct lines *lines);
