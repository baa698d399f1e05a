/* Histories in files. Three formats, told apart by their first line; README.md describes them.
 *
 *     struct linear_history *history = linear_history_new();
 *     struct history_error error;
 *     if (!history_parse(history, bytes, size, &error))
 *         fprintf(stderr, "%zu: %s\n", error.line, error.reason);
 *
 * The places of the events are the lines of the file. Any bytes may be given. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "tests/histcheck/linear.h"

#define HISTORY_LINE_BYTES_MAX 65536
#define HISTORY_FILE_BYTES_MAX ((size_t)1 << 30)

struct history_error {
    size_t line; /* from 1; 0: the file as a whole */
    char reason[256];
};

/* Add the events of the text to `history`. False: `error` says why not; some may have been added. */
bool history_parse(struct linear_history *history, const char *text, size_t size,
                   struct history_error *error);

/* The same of a file. */
bool history_read(struct linear_history *history, const char *path, struct history_error *error);
