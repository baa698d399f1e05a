/* The text protocol: parses requests, prints replies, decides nothing. Pure functions over bytes.
 *
 *     text_parse(bytes, size, …)          what stands at the front of the stream
 *       TEXT_REQUEST, used = 23           hand `request` over, go on 23 bytes further
 *       TEXT_NEED_MORE, need = 1048601    call again with more; useless below 1048601 bytes
 *       TEXT_SWALLOW, used = 19           answer the error, go on 19 bytes further, and give what
 *                                         comes there to text_swallow() until it has had enough
 *
 * What is parsed does not depend on how the stream was cut into pieces.
 *
 * Where the stream can be followed after an error:
 * - a line that carries no value: at the next line;
 * - set and cas whose <numbytes> is a number: behind the value, whatever else is wrong with them, be
 *   the value too large by far; if that value does not end with a line end: nowhere;
 * - set and cas without a readable <numbytes>: at the next line;
 * - a line over TEXT_LINE_SIZE_MAX: at the next line, but nowhere if it is or may be set or cas, since
 *   what follows may be a value and must not be taken for commands. The same for a <numbytes> beyond
 *   63 bits. */
#pragma once

#include "server/client/request.h"

#define TEXT_KEY_SIZE_MAX 250
#define TEXT_TTL_SECONDS_MAX 2147483647u
/* The longest line that is a request, without its end; longer ones are too large. */
#define TEXT_LINE_SIZE_MAX 1024

enum text_status {
    TEXT_NEED_MORE, /* no whole request yet: `need` bytes at least, in all, before it is worth a try */
    TEXT_REQUEST, /* `request` is set; `used` bytes are done */
    TEXT_QUIT,    /* `used` bytes are done */
    TEXT_ERROR,   /* answer `error`; go on behind `used` bytes */
    TEXT_SWALLOW, /* as TEXT_ERROR, and `swallow` says what else belongs to it: text_swallow() */
    TEXT_FATAL,   /* as TEXT_ERROR, but where the next request begins is unknown: close */
};

struct text_parsed {
    enum text_status status;
    size_t used;
    size_t need;
    uint64_t swallow;
    enum reply_error error; /* REPLY_MALFORMED or REPLY_TOO_LARGE */
    const char *text;       /* REPLY_MALFORMED: what was expected; static */
    uint64_t limit;         /* REPLY_TOO_LARGE: the limit */
    bool silent;            /* a well-formed but too large request that said noreply: no answer */
    struct request request;
};

/* Parse the request at the front of `bytes`. `value_bytes_max`: the configured limit. */
void text_parse(const uint8_t *bytes, size_t size, uint32_t value_bytes_max,
                struct text_parsed *parsed);

#define TEXT_SWALLOW_BROKEN UINT64_MAX
/* Go on with a TEXT_SWALLOW at the bytes behind it: returns how many are done, and updates `swallow`.
 * 0: finished, requests follow. TEXT_SWALLOW_BROKEN: the value did not end where it should; close.
 * It may leave one byte behind (a lone '\r') until more is there. */
size_t text_swallow(uint64_t *swallow, const uint8_t *bytes, size_t size);

/* A reply as bytes: `head`, then the reply's value and "\r\n" (if it has one). */
#define TEXT_HEAD_MAX 512 /* longer words are cut */
struct text_printed {
    size_t head_size;
    uint8_t head[TEXT_HEAD_MAX]; /* empty for REPLY_STATUS: see text_print_status */
    bool has_value;              /* the value and then "\r\n" follow */
};
void text_print(const struct reply *reply, struct text_printed *printed);

/* "STAT <name> <value>\r\n" for each line of `text`, then END. Returns the size; writes at most
 * `size` bytes (call with size 0 to learn it). */
size_t text_print_status(const char *text, uint8_t *bytes, size_t size);
const char *text_error_code(enum reply_error error); /* "ERR_NOT_FOUND" */
