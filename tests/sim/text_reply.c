/* A table: the word that a line begins with, and what must stand behind it, a letter for each thing:
 *
 *     #  a number        1  a number above 0      n  a node's host name, "n<slot>"
 *     $  a size, and a value line of it follows   s  a sentence, or nothing       w  some words
 *     p  a name and a value
 *
 * Numbers are decimal, of 64 bits, without sign and without zeros in front. A line ends with CRLF, and
 * holds no other control character. */
#include "tests/sim/text_reply.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

static const struct form {
    const char *word;
    const char *fields;
    enum text_reply_kind kind;
} forms[] = {
    { "OK", "1", TEXT_REPLY_OK },
    { "DELETED", "", TEXT_REPLY_DELETED },
    { "VALUE", "$", TEXT_REPLY_VALUE },
    { "VALUE", "1#$", TEXT_REPLY_META },
    { "STAT", "p", TEXT_REPLY_STAT },
    { "END", "", TEXT_REPLY_END },
    { "VERSION", "w", TEXT_REPLY_PRODUCT },
    { "ERR_REDIRECT", "n1", TEXT_REPLY_REDIRECT },
    { "ERR_UNAVAILABLE", "w", TEXT_REPLY_UNAVAILABLE },
    { "ERR_TIMEOUT", "w", TEXT_REPLY_TIMEOUT },
    { "ERR_NOT_FOUND", "s", TEXT_REPLY_NOT_FOUND },
    { "ERR_VERSION", "1", TEXT_REPLY_VERSION_DIFFERS },
    { "ERR_CMD_ERR", "w", TEXT_REPLY_MALFORMED },
    { "ERR_TOO_LARGE", "w", TEXT_REPLY_TOO_LARGE },
    { "ERR_BUSY", "w", TEXT_REPLY_BUSY },
    { "ERR_NO_SPACE", "w", TEXT_REPLY_NO_SPACE },
    { "ERR_INTERNAL", "w", TEXT_REPLY_INTERNAL },
};
#define FORM_COUNT (sizeof forms / sizeof forms[0])

const char *text_reply_name(enum text_reply_kind kind)
{
    for (size_t i = 0; i < FORM_COUNT; i++)
        if (forms[i].kind == kind)
            return forms[i].word;
    return kind == TEXT_REPLY_PARTIAL ? "a part of a line" : "no reply";
}

struct cursor {
    const uint8_t *at, *end;
};

static bool take_number(struct cursor *cursor, uint64_t *number)
{
    const uint8_t *begin = cursor->at;
    uint64_t value = 0;
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
        uint64_t digit = (uint64_t)(*cursor->at - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = 10 * value + digit;
    }
    size_t digits = (size_t)(cursor->at - begin);
    *number = value;
    return digits == 1 || (digits > 1 && *begin != '0');
}

static bool take_byte(struct cursor *cursor, uint8_t byte)
{
    if (cursor->at == cursor->end || *cursor->at != byte)
        return false;
    cursor->at++;
    return true;
}

static bool take_words(struct cursor *cursor)
{
    bool has_words = cursor->at < cursor->end;
    cursor->at = cursor->end;
    return has_words;
}

static bool take_pair(struct cursor *cursor)
{
    const uint8_t *name = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != ' ')
        cursor->at++;
    return cursor->at > name && take_byte(cursor, ' ') && take_words(cursor);
}

/* One field with the space in front of it. */
static bool take_field(struct cursor *cursor, char field, uint64_t *number)
{
    if (field == 's' && cursor->at == cursor->end)
        return true;
    if (!take_byte(cursor, ' '))
        return false;
    switch (field) {
    case 'n':
        return take_byte(cursor, 'n') && take_number(cursor, number);
    case '1':
        return take_number(cursor, number) && *number > 0;
    case '#':
    case '$':
        return take_number(cursor, number);
    case 'p':
        return take_pair(cursor);
    default: /* words up to the end */
        return take_words(cursor);
    }
}

static bool line_fits(const struct form *form, const uint8_t *line, size_t size,
                      struct text_reply *reply)
{
    size_t word_size = strlen(form->word);
    if (size < word_size || memcmp(line, form->word, word_size) != 0)
        return false;
    struct cursor cursor = { line + word_size, line + size };
    uint64_t numbers[3] = { 0 };
    for (int i = 0; form->fields[i] != '\0'; i++)
        if (!take_field(&cursor, form->fields[i], &numbers[i]))
            return false;
    if (cursor.at != cursor.end)
        return false;
    reply->kind = form->kind;
    memcpy(reply->number, numbers, sizeof numbers);
    return true;
}

static void broken(struct text_reply *reply, const char *why)
{
    reply->kind = TEXT_REPLY_BROKEN;
    reply->why = why;
}

/* The value behind a line of `line_size` bytes. */
static void parse_value(const uint8_t *bytes, size_t size, size_t line_size, uint64_t value_size,
                        struct text_reply *reply)
{
    if (size - line_size < value_size || size - line_size - value_size < 2) {
        reply->kind = TEXT_REPLY_PARTIAL;
        return;
    }
    const uint8_t *end = bytes + line_size + value_size;
    if (end[0] != '\r' || end[1] != '\n') {
        broken(reply, "a value that does not end where it should");
        return;
    }
    reply->value = bytes + line_size;
    reply->used = line_size + (size_t)value_size + 2;
}

static bool has_control(const uint8_t *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (line[i] < 0x20 || line[i] == 0x7f)
            return true;
    return false;
}

void text_reply_parse(const uint8_t *bytes, size_t size, struct text_reply *reply)
{
    *reply = (struct text_reply){ .kind = TEXT_REPLY_PARTIAL };
    const uint8_t *newline = size == 0 ? NULL : memchr(bytes, '\n', size);
    size_t line_size = newline == NULL ? size : (size_t)(newline - bytes) + 1;
    if (line_size > TEXT_REPLY_LINE_MAX) {
        broken(reply, "a line that is too long");
        return;
    }
    if (newline == NULL)
        return;
    if (line_size < 2 || bytes[line_size - 2] != '\r') {
        broken(reply, "a line that does not end with CRLF");
        return;
    }
    if (has_control(bytes, line_size - 2)) {
        broken(reply, "a control character in a line");
        return;
    }
    for (size_t i = 0; i < FORM_COUNT; i++) {
        if (!line_fits(&forms[i], bytes, line_size - 2, reply))
            continue;
        reply->used = line_size;
        if (reply->kind == TEXT_REPLY_VALUE)
            parse_value(bytes, size, line_size, reply->number[0], reply);
        else if (reply->kind == TEXT_REPLY_META)
            parse_value(bytes, size, line_size, reply->number[2], reply);
        return;
    }
    broken(reply, "a line that is no reply");
}
