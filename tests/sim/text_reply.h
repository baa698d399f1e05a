/* Replies of the text protocol, read by its letter: what a client may rely on, and nothing more. Pure
 * functions over bytes; they know no requests. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum text_reply_kind {
    TEXT_REPLY_PARTIAL, /* more bytes are needed */
    TEXT_REPLY_BROKEN,  /* no reply begins like this; `why` says what is wrong */
    TEXT_REPLY_OK,      /* number[0]: version */
    TEXT_REPLY_DELETED,
    TEXT_REPLY_VALUE, /* number[0]: size */
    TEXT_REPLY_META,  /* number[0..2]: version, exptime, size */
    TEXT_REPLY_STAT,  /* one line of several */
    TEXT_REPLY_END,   /* the last of them */
    TEXT_REPLY_PRODUCT,
    TEXT_REPLY_REDIRECT, /* number[0]: node slot ("n<slot>"), number[1]: port */
    TEXT_REPLY_UNAVAILABLE,
    TEXT_REPLY_TIMEOUT,
    TEXT_REPLY_NOT_FOUND,
    TEXT_REPLY_VERSION_DIFFERS, /* number[0]: the current one */
    TEXT_REPLY_MALFORMED,
    TEXT_REPLY_TOO_LARGE,
    TEXT_REPLY_BUSY,
    TEXT_REPLY_NO_SPACE,
    TEXT_REPLY_INTERNAL,
};

struct text_reply {
    enum text_reply_kind kind;
    size_t used; /* bytes of it, its line ends included */
    uint64_t number[3];
    const uint8_t *value; /* VALUE, META; within `bytes` */
    const char *why;
};

#define TEXT_REPLY_LINE_MAX 4096 /* a longer line is no reply */

/* The reply, or the line of a status, at the front of `bytes`. */
void text_reply_parse(const uint8_t *bytes, size_t size, struct text_reply *reply);
const char *text_reply_name(enum text_reply_kind kind);
