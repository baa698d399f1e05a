#include "server/logger.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "server/os/os.h"

static const char *const level_names[LOGGER_LEVEL_COUNT] = {
    [LOGGER_DEBUG] = "debug",
    [LOGGER_INFO] = "info",
    [LOGGER_WARN] = "warn",
    [LOGGER_ERROR] = "error",
};

struct line {
    char text[LOGGER_LINE_MAX]; /* the last byte is kept for the line end */
    size_t size;
};

static void append_list(struct line *line, const char *format, va_list values)
    __attribute__((format(printf, 2, 0)));

static void append_list(struct line *line, const char *format, va_list values)
{
    size_t space = sizeof(line->text) - 1 - line->size;
    int size = vsnprintf(line->text + line->size, space, format, values);
    if (size < 0)
        return;
    bool is_cut = (size_t)size >= space;
    line->size += is_cut ? space - 1 : (size_t)size;
}

static void append(struct line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct line *line, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    append_list(line, format, values);
    va_end(values);
}

static bool is_leap(unsigned year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static void append_time(struct line *line, uint64_t wall_ms)
{
    static const unsigned month_days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

    uint64_t days = wall_ms / 86400000u;
    unsigned ms = (unsigned)(wall_ms % 86400000u);
    unsigned year = 1970;
    while (days >= (is_leap(year) ? 366u : 365u)) {
        days -= is_leap(year) ? 366u : 365u;
        year++;
    }
    unsigned month = 0;
    while (days >= month_days[month] + (month == 1 && is_leap(year))) {
        days -= month_days[month] + (month == 1 && is_leap(year));
        month++;
    }
    append(line, "ts=%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", year, month + 1, (unsigned)days + 1,
           ms / 3600000u, ms / 60000u % 60u, ms / 1000u % 60u, ms % 1000u);
}

static bool is_control(uint8_t byte)
{
    return byte < 0x20 || byte == 0x7f;
}

/* Whoever forgot logger_quote() must not be able to forge a line. */
static void finish(struct line *line)
{
    for (size_t i = 0; i < line->size; i++)
        if (is_control((uint8_t)line->text[i]))
            line->text[i] = '?';
    line->text[line->size++] = '\n';
}

void logger_write(struct logger *logger, enum logger_level level, const char *message,
                  const char *fields, ...)
{
    assert(level < LOGGER_LEVEL_COUNT);
    if (level < logger->level)
        return;

    struct line line;
    line.size = 0;
    append_time(&line, os_wall_ms(logger->os));
    append(&line, " level=%s node=%" PRIu32, level_names[level], logger->node);
    if (logger->dropped > 0)
        append(&line, " dropped=%" PRIu64, logger->dropped);
    append(&line, " msg=\"%s\"", message);
    if (fields != NULL) {
        append(&line, " ");
        va_list values;
        va_start(values, fields);
        append_list(&line, fields, values);
        va_end(values);
    }
    finish(&line);

    if (os_log(logger->os, line.text, line.size))
        logger->dropped = 0;
    else
        logger->dropped++;
}

/* One byte as it may stand in quotes; returns its size, at most 4. */
static size_t escape(uint8_t byte, char text[5])
{
    static const char hex[] = "0123456789abcdef";
    static const char plain[] = "\"\\\n\r\t", letter[] = "\"\\nrt";

    const char *found = byte != 0 ? strchr(plain, byte) : NULL;
    if (found != NULL) {
        text[0] = '\\';
        text[1] = letter[found - plain];
        return 2;
    }
    if (!is_control(byte) && byte < 0x80) {
        text[0] = (char)byte;
        return 1;
    }
    text[0] = '\\';
    text[1] = 'x';
    text[2] = hex[byte >> 4];
    text[3] = hex[byte & 15];
    return 4;
}

const char *logger_quote(const char *text, char quoted[LOGGER_QUOTE_MAX])
{
    static const char end[] = "\"", end_of_cut[] = "...\"";

    size_t size = 0;
    quoted[size++] = '"';
    for (; *text != '\0'; text++) {
        char escaped[5];
        size_t escaped_size = escape((uint8_t)*text, escaped);
        if (size + escaped_size + sizeof(end_of_cut) > LOGGER_QUOTE_MAX)
            break;
        memcpy(quoted + size, escaped, escaped_size);
        size += escaped_size;
    }
    strcpy(quoted + size, *text == '\0' ? end : end_of_cut);
    return quoted;
}

static bool is_same_word(const char *word, const char *lower)
{
    for (; *word != '\0' && *lower != '\0'; word++, lower++) {
        char letter = *word >= 'A' && *word <= 'Z' ? (char)(*word + ('a' - 'A')) : *word;
        if (letter != *lower)
            return false;
    }
    return *word == *lower;
}

int logger_level_parse(const char *word)
{
    for (int level = 0; level < LOGGER_LEVEL_COUNT; level++)
        if (is_same_word(word, level_names[level]))
            return level;
    return -1;
}

const char *logger_level_name(enum logger_level level)
{
    assert(level < LOGGER_LEVEL_COUNT);
    return level_names[level];
}
