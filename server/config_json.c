#include "server/config_json.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct scan {
    const char *text;
    size_t size;
    size_t at;                           /* what is before it is good */
    char closers[CONFIG_JSON_DEPTH_MAX]; /* what closes each open level */
    int depth;
    bool after_comma;
};

/* -- Tokens: each function eats one, or returns a reason with `at` where it went wrong --------- */

static char peek(const struct scan *scan)
{
    return scan->at < scan->size ? scan->text[scan->at] : '\0';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static void skip_space(struct scan *scan)
{
    while (peek(scan) == ' ' || peek(scan) == '\t' || peek(scan) == '\r' || peek(scan) == '\n')
        scan->at++;
}

static const char *scan_string(struct scan *scan)
{
    size_t start = scan->at++;

    for (; scan->at < scan->size; scan->at++) {
        char c = scan->text[scan->at];
        if (c == '"') {
            scan->at++;
            return NULL;
        }
        if (is_control(c))
            return "text with a control character or a line break in it (a quote may be missing)";
        if (c != '\\')
            continue;
        if (scan->size - scan->at >= 6 && memcmp(scan->text + scan->at, "\\u0000", 6) == 0)
            return "\\u0000 has no place in a text";
        scan->at++; /* what is escaped is no closing quote; cJSON judges the escape itself */
        if (is_control(peek(scan)))
            break;
    }
    scan->at = start;
    return "text whose closing quote is missing";
}

static bool scan_digits(struct scan *scan)
{
    size_t start = scan->at;

    while (is_digit(peek(scan)))
        scan->at++;
    return scan->at > start;
}

static const char *scan_number(struct scan *scan)
{
    size_t start = scan->at;

    if (peek(scan) == '-')
        scan->at++;
    size_t digits_start = scan->at;
    if (!scan_digits(scan))
        return "a number needs digits";
    if (scan->text[digits_start] == '0' && scan->at > digits_start + 1) {
        scan->at = start;
        return "a number with a leading zero";
    }
    if (peek(scan) == '.') {
        scan->at++;
        if (!scan_digits(scan))
            return "a number needs digits behind its point";
    }
    if (peek(scan) == 'e' || peek(scan) == 'E') {
        scan->at++;
        if (peek(scan) == '+' || peek(scan) == '-')
            scan->at++;
        if (!scan_digits(scan))
            return "a number needs digits in its exponent";
    }
    if (scan->at - start > CONFIG_JSON_NUMBER_MAX) {
        scan->at = start;
        return "a number of too many digits";
    }
    return NULL;
}

static const char *scan_word(struct scan *scan)
{
    static const char *const words[] = { "true", "false", "null" };
    size_t start = scan->at;

    while (is_letter(peek(scan)))
        scan->at++;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t size = strlen(words[i]);
        if (scan->at - start == size && memcmp(scan->text + start, words[i], size) == 0)
            return NULL;
    }
    scan->at = start;
    return "a word without quotes";
}

static const char *scan_opener(struct scan *scan)
{
    if (scan->depth == CONFIG_JSON_DEPTH_MAX)
        return "nested too deeply";
    scan->closers[scan->depth++] = peek(scan) == '{' ? '}' : ']';
    scan->at++;
    return NULL;
}

static const char *scan_closer(struct scan *scan)
{
    if (scan->depth == 0)
        return "a bracket that closes nothing";
    if (scan->closers[scan->depth - 1] != peek(scan))
        return "the wrong closing bracket";
    if (scan->after_comma)
        return "a comma with nothing behind it";
    scan->depth--;
    scan->at++;
    return NULL;
}

static const char *scan_token(struct scan *scan)
{
    char c = peek(scan);

    switch (c) {
    case ':':
    case ',':
        scan->at++;
        return NULL;
    case '"':
        return scan_string(scan);
    case '{':
    case '[':
        return scan_opener(scan);
    case '}':
    case ']':
        return scan_closer(scan);
    case '/':
    case '#':
        return "JSON has no comments";
    default:
        if (is_digit(c) || c == '-')
            return scan_number(scan);
        if (is_letter(c))
            return scan_word(scan);
        return is_control(c) ? "a control character" : "a character that JSON does not know";
    }
}

/* NULL if there are only good tokens, and every bracket is closed. */
static const char *scan_all(struct scan *scan)
{
    if (scan->size >= 3 && memcmp(scan->text, "\xef\xbb\xbf", 3) == 0)
        scan->at = 3; /* the byte order mark that some editors write; cJSON skips it too */
    for (skip_space(scan); scan->at < scan->size; skip_space(scan)) {
        bool is_comma = peek(scan) == ',';
        const char *reason = scan_token(scan);
        if (reason)
            return reason;
        scan->after_comma = is_comma;
    }
    if (scan->depth > 0)
        return scan->closers[scan->depth - 1] == '}' ? "the file ends before the closing '}'"
                                                     : "the file ends before the closing ']'";
    return NULL;
}

/* -- Messages ---------------------------------------------------------------------------------- */

static int set_place(struct error *error, const char *text, size_t at, const char *reason)
{
    int line = 1, column = 1;

    for (size_t i = 0; i < at; i++) {
        column++;
        if (text[i] == '\n') {
            line++;
            column = 1;
        }
    }
    return error_set(error, -EINVAL, "line %d, column %d: not valid JSON: %s", line, column,
                     reason);
}

cJSON *config_json_parse(const char *text, size_t size, struct error *error)
{
    struct scan scan = { .text = text, .size = size };
    const char *reason = scan_all(&scan);
    if (reason) {
        set_place(error, text, scan.at, reason);
        return NULL;
    }

    /* Only with a NUL behind the text, and counted, does cJSON refuse what follows the first
     * value. */
    char *copy = malloc(size + 1);
    if (!copy) {
        error_set_errno(error, -ENOMEM, "cannot read it");
        return NULL;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    const char *end = copy;
    cJSON *tree = cJSON_ParseWithLengthOpts(copy, size + 1, &end, true);
    if (!tree) {
        size_t at = (size_t)(end - copy);
        assert(at <= size);
        set_place(error, text, at, at == size ? "it ends too early" : "this does not belong here");
    }
    free(copy);
    return tree;
}
