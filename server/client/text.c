/* Parsing is two steps: the line is cut into fields without asking what they mean, then the command's
 * row in `commands` says what they should be. Every field is looked at, in an order that does not
 * depend on what is found: first whether the value's length can be read, since that decides where
 * the next request begins; then whether the request is well-formed; last whether it is too large.
 *
 * A request is parsed where it lies. A value that is not all there yet is not touched: `need` tells
 * the caller when to come back, and then only the line is read again. */
#include "server/client/text.h"

#include <assert.h>
#include <string.h>

#define FIELDS_MAX 7 /* the longest request has 6; one more is one too many */
#define LINE_WINDOW (TEXT_LINE_SIZE_MAX + 2)

/* `swallow` counts the bytes of a value and one for its line end. This one stands for 'up to the end
 * of this line' and, like TEXT_SWALLOW_BROKEN, is larger than any of those. */
#define SWALLOW_LINE (UINT64_MAX - 1)
#define NUMBYTES_MAX INT64_MAX

struct field {
    const uint8_t *bytes;
    size_t size;
    bool has_control;
};

struct line {
    size_t size;      /* without its end */
    size_t full_size; /* with it */
    int field_count;  /* FIELDS_MAX: that many or more */
    struct field fields[FIELDS_MAX];
};

struct command {
    const char *name; /* at most 8 letters */
    int type;         /* an enum request_type, or QUIT */
    int field_count;  /* without noreply */
    bool takes_noreply;
    int exptime, version, numbytes; /* in which field; 0: it has none. A key is in field 1 */
    const char *expected;
};

#define QUIT (-1)

static const struct command commands[] = {
    { "get", REQUEST_GET, 2, false, 0, 0, 0, "expected: get <key>" },
    { "set", REQUEST_SET, 4, true, 2, 0, 3,
      "expected: set <key> <exptime> <numbytes> [noreply], then the value line" },
    { "cas", REQUEST_CAS, 5, true, 2, 3, 4,
      "expected: cas <key> <exptime> <version> <numbytes> [noreply], then the value line" },
    { "getm", REQUEST_GETM, 2, false, 0, 0, 0, "expected: getm <key>" },
    { "delete", REQUEST_DELETE, 2, true, 0, 0, 0, "expected: delete <key> [noreply]" },
    { "status", REQUEST_STATUS, 1, false, 0, 0, 0, "expected: status" },
    { "version", REQUEST_VERSION, 1, false, 0, 0, 0, "expected: version" },
    { "quit", QUIT, 1, false, 0, 0, 0, "expected: quit" },
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const char unknown_command[] =
    "expected a command: set, cas, get, getm, delete, status, version or quit";
static const char bad_key[] = "expected a key of 1 to 250 bytes, none a space or control character";
static const char bad_exptime[] = "expected exptime as seconds from now, 0 to 2147483647";
static const char bad_version[] = "expected version as a number of 64 bits";
static const char bad_numbytes[] = "expected numbytes as a number, 0 or more";
static const char bad_value_end[] = "expected a line end after the numbytes bytes of the value";

/* -- Lines and fields ---------------------------------------------------------------------------- */

static const struct field *field_next(struct field *field, const uint8_t *at, const uint8_t *end)
{
    while (at < end && *at == ' ')
        at++;
    field->bytes = at;
    field->has_control = false;
    for (; at < end && *at != ' '; at++)
        field->has_control |= *at < 0x20 || *at == 0x7f;
    field->size = (size_t)(at - field->bytes);
    return field;
}

static void split(const uint8_t *bytes, struct line *line)
{
    const uint8_t *at = bytes, *end = bytes + line->size;
    line->field_count = 0;
    while (line->field_count < FIELDS_MAX) {
        const struct field *field = field_next(&line->fields[line->field_count], at, end);
        if (field->size == 0)
            return;
        line->field_count++;
        at = field->bytes + field->size;
    }
}

/* Whether the field is this word, in lower or upper case. */
static bool field_is(const struct field *field, const char *word)
{
    size_t size = strlen(word);
    if (field->size != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if ((field->bytes[i] | 0x20) !=
            word[i]) /* only the two cases of a letter give that letter */
            return false;
    return true;
}

enum number { NUMBER_OK, NUMBER_NONE, NUMBER_TOO_LARGE };

static enum number field_number(const struct field *field, uint64_t max, uint64_t *number)
{
    uint64_t sum = 0;
    bool is_too_large = false;
    for (size_t i = 0; i < field->size; i++) {
        uint8_t digit = (uint8_t)(field->bytes[i] - '0');
        if (digit > 9)
            return NUMBER_NONE;
        is_too_large |= sum > (max - digit) / 10;
        sum = sum * 10 + digit; /* may wrap around: then it is too large already */
    }
    if (is_too_large)
        return NUMBER_TOO_LARGE;
    *number = sum;
    return NUMBER_OK;
}

static const struct command *find_command(const struct field *field)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (field_is(field, commands[i].name))
            return &commands[i];
    return NULL;
}

/* -- Results ------------------------------------------------------------------------------------- */

static void need_more(struct text_parsed *parsed, size_t need)
{
    parsed->status = TEXT_NEED_MORE;
    parsed->used = 0;
    parsed->need = need;
}

static void refuse(struct text_parsed *parsed, enum text_status status, size_t used,
                   const char *expected)
{
    parsed->status = status;
    parsed->used = used;
    parsed->error = REPLY_MALFORMED;
    parsed->text = expected;
}

static void refuse_size(struct text_parsed *parsed, enum text_status status, size_t used,
                        uint64_t limit)
{
    parsed->status = status;
    parsed->used = used;
    parsed->error = REPLY_TOO_LARGE;
    parsed->limit = limit;
}

/* -- Parsing ------------------------------------------------------------------------------------- */

/* A line that does not fit into the window, or only just not. */
static void refuse_long_line(const uint8_t *bytes, size_t window_size, bool has_end,
                             struct text_parsed *parsed)
{
    struct field word;
    field_next(&word, bytes, bytes + window_size);
    bool may_carry_value = word.size == 0 || field_is(&word, "set") || field_is(&word, "cas");
    if (may_carry_value) {
        refuse_size(parsed, TEXT_FATAL, window_size, TEXT_LINE_SIZE_MAX);
    } else if (has_end) {
        refuse_size(parsed, TEXT_ERROR, window_size, TEXT_LINE_SIZE_MAX);
    } else {
        refuse_size(parsed, TEXT_SWALLOW, window_size, TEXT_LINE_SIZE_MAX);
        parsed->swallow = SWALLOW_LINE;
    }
}

/* True if there is a line to be looked at; else `parsed` says what to do. */
static bool find_line(const uint8_t *bytes, size_t size, struct line *line,
                      struct text_parsed *parsed)
{
    size_t window_size = size < LINE_WINDOW ? size : LINE_WINDOW;
    const uint8_t *end = window_size > 0 ? memchr(bytes, '\n', window_size) : NULL;
    if (end == NULL) {
        if (size <= LINE_WINDOW - 1) /* a line of exactly the limit may still end there */
            need_more(parsed, size + 1);
        else
            refuse_long_line(bytes, LINE_WINDOW, false, parsed);
        return false;
    }
    line->size = (size_t)(end - bytes);
    line->full_size = line->size + 1;
    if (line->size > 0 && bytes[line->size - 1] == '\r')
        line->size--;
    if (line->size > TEXT_LINE_SIZE_MAX) {
        refuse_long_line(bytes, line->full_size, true, parsed);
        return false;
    }
    return true;
}

/* NULL if all fields are as they should be; else what was expected. Leaves the fields' meaning in
 * `request`, numbytes excepted. */
static const char *check_fields(const struct command *command, const struct line *line,
                                struct request *request)
{
    const struct field *fields = line->fields;
    int extra = line->field_count - command->field_count;
    request->noreply =
        command->takes_noreply && extra == 1 && field_is(&fields[line->field_count - 1], "noreply");
    if (extra != (request->noreply ? 1 : 0))
        return command->expected;

    request->key = NULL;
    request->key_size = 0;
    if (command->field_count > 1) {
        if (fields[1].has_control)
            return bad_key;
        request->key = fields[1].bytes;
        request->key_size = (uint32_t)fields[1].size;
    }
    request->ttl_ms = 0;
    if (command->exptime != 0) {
        if (field_number(&fields[command->exptime], TEXT_TTL_SECONDS_MAX, &request->ttl_ms) !=
            NUMBER_OK)
            return bad_exptime;
        request->ttl_ms *= 1000;
    }
    request->compare = 0;
    if (command->version != 0 &&
        field_number(&fields[command->version], UINT64_MAX, &request->compare) != NUMBER_OK)
        return bad_version;
    return NULL;
}

/* get, getm, delete, status, version, quit; and whatever cannot be followed by a value because its
 * length is unreadable. */
static void parse_plain(const struct command *command, const struct line *line,
                        struct text_parsed *parsed)
{
    const char *expected = check_fields(command, line, &parsed->request);
    if (expected == NULL && command->numbytes != 0)
        expected = bad_numbytes;
    if (expected != NULL) {
        refuse(parsed, TEXT_ERROR, line->full_size, expected);
    } else if (parsed->request.key_size > TEXT_KEY_SIZE_MAX) {
        refuse_size(parsed, TEXT_ERROR, line->full_size, TEXT_KEY_SIZE_MAX);
        parsed->silent = parsed->request.noreply;
    } else {
        parsed->status = command->type == QUIT ? TEXT_QUIT : TEXT_REQUEST;
        parsed->used = line->full_size;
    }
}

/* The value is `numbytes` bytes and a line end. */
static void take_value(const uint8_t *bytes, size_t size, const struct line *line, size_t numbytes,
                       struct text_parsed *parsed)
{
    size_t end = line->full_size + numbytes;
    size_t end_size = size > end && bytes[end] == '\r' ? 2 : 1;
    if (size < end + end_size) {
        need_more(parsed, end + end_size);
    } else if (bytes[end + end_size - 1] != '\n') {
        refuse(parsed, TEXT_FATAL, line->full_size, bad_value_end);
    } else {
        parsed->status = TEXT_REQUEST;
        parsed->used = end + end_size;
        parsed->request.value = bytes + line->full_size;
        parsed->request.value_size = (uint32_t)numbytes;
    }
}

/* set and cas with a length that can be read: wherever it goes wrong, the value is passed over. */
static void parse_with_value(const uint8_t *bytes, size_t size, uint32_t value_bytes_max,
                             const struct command *command, const struct line *line,
                             uint64_t numbytes, struct text_parsed *parsed)
{
    const char *expected = check_fields(command, line, &parsed->request);
    bool key_fits = parsed->request.key_size <= TEXT_KEY_SIZE_MAX;
    if (expected == NULL && key_fits && numbytes <= value_bytes_max) {
        take_value(bytes, size, line, (size_t)numbytes, parsed);
        return;
    }
    if (expected != NULL) {
        refuse(parsed, TEXT_SWALLOW, line->full_size, expected);
    } else {
        refuse_size(parsed, TEXT_SWALLOW, line->full_size,
                    key_fits ? value_bytes_max : TEXT_KEY_SIZE_MAX);
        parsed->silent = parsed->request.noreply;
    }
    parsed->swallow = numbytes + 1;
}

void text_parse(const uint8_t *bytes, size_t size, uint32_t value_bytes_max,
                struct text_parsed *parsed)
{
    struct line line;
    parsed->silent = false;
    parsed->text = NULL;
    parsed->limit = parsed->swallow = 0;
    if (!find_line(bytes, size, &line, parsed))
        return;
    split(bytes, &line);
    const struct command *command = line.field_count > 0 ? find_command(&line.fields[0]) : NULL;
    if (command == NULL) {
        refuse(parsed, TEXT_ERROR, line.full_size, unknown_command);
        return;
    }
    parsed->request.value = NULL;
    parsed->request.value_size = 0;
    if (command->type != QUIT)
        parsed->request.type = (enum request_type)command->type;

    uint64_t numbytes = 0;
    enum number kind = NUMBER_NONE;
    if (command->numbytes != 0 && line.field_count > command->numbytes)
        kind = field_number(&line.fields[command->numbytes], NUMBYTES_MAX, &numbytes);
    if (kind == NUMBER_OK)
        parse_with_value(bytes, size, value_bytes_max, command, &line, numbytes, parsed);
    else if (kind == NUMBER_TOO_LARGE)
        refuse_size(parsed, TEXT_FATAL, line.full_size, value_bytes_max);
    else
        parse_plain(command, &line, parsed);
}

static size_t swallow_line(uint64_t *swallow, const uint8_t *bytes, size_t size)
{
    const uint8_t *end = memchr(bytes, '\n', size);
    if (end == NULL)
        return size;
    *swallow = 0;
    return (size_t)(end - bytes) + 1;
}

size_t text_swallow(uint64_t *swallow, const uint8_t *bytes, size_t size)
{
    assert(*swallow != 0 && *swallow != TEXT_SWALLOW_BROKEN);
    if (size == 0)
        return 0;
    if (*swallow == SWALLOW_LINE)
        return swallow_line(swallow, bytes, size);

    uint64_t value_left = *swallow - 1;
    size_t used = value_left < size ? (size_t)value_left : size;
    *swallow -= used;
    if (used == size)
        return used;
    size_t end_size = bytes[used] == '\r' ? 2 : 1;
    if (size - used < end_size)
        return used;
    *swallow = bytes[used + end_size - 1] == '\n' ? 0 : TEXT_SWALLOW_BROKEN;
    return used + end_size;
}

/* -- Printing ------------------------------------------------------------------------------------ */

static const char *const error_codes[REPLY_ERROR_COUNT] = {
    [REPLY_REDIRECT] = "ERR_REDIRECT",       [REPLY_UNAVAILABLE] = "ERR_UNAVAILABLE",
    [REPLY_TIMEOUT] = "ERR_TIMEOUT",         [REPLY_NOT_FOUND] = "ERR_NOT_FOUND",
    [REPLY_VERSION_DIFFERS] = "ERR_VERSION", [REPLY_MALFORMED] = "ERR_CMD_ERR",
    [REPLY_TOO_LARGE] = "ERR_TOO_LARGE",     [REPLY_BUSY] = "ERR_BUSY",
    [REPLY_NO_SPACE] = "ERR_NO_SPACE",       [REPLY_INTERNAL] = "ERR_INTERNAL",
};

const char *text_error_code(enum reply_error error)
{
    assert(error < REPLY_ERROR_COUNT);
    return error_codes[error];
}

/* A place to write to that counts on when it is full. */
struct sink {
    uint8_t *bytes;
    size_t size; /* may exceed `max` */
    size_t max;
};

static void put(struct sink *sink, const void *bytes, size_t size)
{
    size_t space = sink->size < sink->max ? sink->max - sink->size : 0;
    size_t fitting = size < space ? size : space;
    if (fitting > 0)
        memcpy(sink->bytes + sink->size, bytes, fitting);
    sink->size += size;
}

static void put_word(struct sink *sink, const char *word)
{
    put(sink, word, strlen(word));
}

static void put_number(struct sink *sink, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    put(sink, digits + at, sizeof(digits) - at);
}

/* Words on one line: a control character among them would end it early. */
static void put_sentence(struct sink *sink, const char *sentence)
{
    for (; *sentence != '\0'; sentence++) {
        uint8_t byte = (uint8_t)*sentence;
        put(sink, byte < 0x20 || byte == 0x7f ? "?" : sentence, 1);
    }
}

static void put_error(struct sink *sink, const struct reply *reply)
{
    put_word(sink, text_error_code(reply->error));
    bool has_number = reply->error == REPLY_VERSION_DIFFERS ||
                      (reply->error == REPLY_TOO_LARGE && reply->text == NULL);
    if (has_number) {
        put(sink, " ", 1);
        put_number(sink, reply->version);
    } else if (reply->text != NULL) {
        put(sink, " ", 1);
        put_sentence(sink, reply->text);
    }
}

static void put_head(struct sink *sink, const struct reply *reply)
{
    switch (reply->type) {
    case REPLY_STORED:
        put_word(sink, "OK ");
        put_number(sink, reply->version);
        break;
    case REPLY_DELETED:
        put_word(sink, "DELETED");
        break;
    case REPLY_VALUE:
        put_word(sink, "VALUE ");
        put_number(sink, reply->value_size);
        break;
    case REPLY_META:
        put_word(sink, "VALUE ");
        put_number(sink, reply->version);
        put(sink, " ", 1);
        /* Rounded up: 0 must always mean never. */
        put_number(sink, reply->ttl_ms / 1000 + (reply->ttl_ms % 1000 != 0));
        put(sink, " ", 1);
        put_number(sink, reply->value_size);
        break;
    case REPLY_PRODUCT:
        put_word(sink, "VERSION ");
        put_sentence(sink, reply->text);
        break;
    case REPLY_ERROR:
        put_error(sink, reply);
        break;
    case REPLY_STATUS: /* has no head: text_print() has returned before */
        break;
    }
}

void text_print(const struct reply *reply, struct text_printed *printed)
{
    printed->has_value = reply->type == REPLY_VALUE || reply->type == REPLY_META;
    printed->head_size = 0;
    if (reply->type == REPLY_STATUS)
        return;
    struct sink sink = { printed->head, 0, TEXT_HEAD_MAX - 2 };
    put_head(&sink, reply);
    printed->head_size = sink.size < sink.max ? sink.size : sink.max;
    memcpy(printed->head + printed->head_size, "\r\n", 2);
    printed->head_size += 2;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): written through the sink */
size_t text_print_status(const char *text, uint8_t *bytes, size_t size)
{
    struct sink sink = { bytes, 0, size };
    while (*text != '\0') {
        size_t line_size = strcspn(text, "\n");
        put_word(&sink, "STAT ");
        put(&sink, text, line_size);
        put(&sink, "\r\n", 2);
        text += line_size;
        text += *text == '\n';
    }
    put_word(&sink, "END\r\n");
    return sink.size;
}
