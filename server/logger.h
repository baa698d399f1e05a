/* The node's log: logfmt lines on stderr.
 *
 *     ts=2026-01-31T12:00:00.123Z level=info node=2 msg="became leader" term=7 last_index=12
 *
 * A line that would block is dropped and counted; the count is part of the next line. */
#pragma once

#include <stdint.h>

struct os;

enum logger_level { LOGGER_DEBUG, LOGGER_INFO, LOGGER_WARN, LOGGER_ERROR, LOGGER_LEVEL_COUNT };

#define LOGGER_LINE_MAX 2048 /* longer ones are cut */

struct logger {
    struct os *os;
    enum logger_level level; /* lines below it are not written */
    uint32_t node;
    uint64_t dropped;
};

/* `message` is a few words that never change; `fields` (may be NULL) is logfmt: "term=%" PRIu64.
 * A field's value that may hold spaces or hostile bytes is written with logger_quote(). */
void logger_write(struct logger *logger, enum logger_level level, const char *message,
                  const char *fields, ...) __attribute__((format(printf, 4, 5)));

#define LOGGER_QUOTE_MAX 256
/* `text` in quotes, with everything escaped that would break a line; cut to fit. Returns `quoted`. */
const char *logger_quote(const char *text, char quoted[LOGGER_QUOTE_MAX]);

/* "debug", "info", "warn", "error", in any case; -1 for another word. */
int logger_level_parse(const char *word);
const char *logger_level_name(enum logger_level level);
