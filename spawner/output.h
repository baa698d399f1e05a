/* Where all lines go: the spawner's own and those of its nodes. Whoever reads them must not be
 * able to stop the spawner by not reading: a line that finds no room for OUTPUT_PATIENCE_MS is
 * dropped, so are the next ones as long as there is none, and the first that gets through is
 * preceded by how many were lost. If the reader is gone for good, the spawner goes on in
 * silence. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTPUT_PATIENCE_MS 200

struct output {
    int fd; /* may be blocking: nothing is written that would block */
    bool is_stuck, is_gone;
    uint64_t dropped;
};

/* `line` ends with '\n'; at most PIPE_BUF bytes. */
void output_line(struct output *output, const char *line, size_t size);
/* A line of the spawner's own: "[spawner] " and the text. */
void output_say(struct output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
