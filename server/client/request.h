/* What a client asks, and what it is told: the one type of request and the one type of reply in
 * which all client protocols meet. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum request_type {
    REQUEST_SET,
    REQUEST_CAS,
    REQUEST_DELETE,
    REQUEST_GET,
    REQUEST_GETM, /* get with version and expiry */
    REQUEST_STATUS,
    REQUEST_VERSION,
};

struct request {
    enum request_type type;
    bool noreply;
    const uint8_t *key; /* borrowed from the connection's input, during the call */
    uint32_t key_size;
    const uint8_t *value;
    uint32_t value_size;
    uint64_t compare; /* CAS: the version wanted; 0: the key must not exist */
    uint64_t ttl_ms;  /* 0: never expires */
};

/* The codes of protocol.md. */
enum reply_error {
    REPLY_REDIRECT,
    REPLY_UNAVAILABLE,
    REPLY_TIMEOUT,
    REPLY_NOT_FOUND,
    REPLY_VERSION_DIFFERS,
    REPLY_MALFORMED,
    REPLY_TOO_LARGE,
    REPLY_BUSY,
    REPLY_NO_SPACE,
    REPLY_INTERNAL,
    REPLY_ERROR_COUNT
};

enum reply_type {
    REPLY_STORED,  /* set, cas: `version` */
    REPLY_DELETED, /* delete */
    REPLY_VALUE,   /* get: value, size */
    REPLY_META,    /* getm: value, size, version, ttl_ms */
    REPLY_STATUS,  /* `text`: lines "name value\n" */
    REPLY_PRODUCT, /* version: `text` */
    REPLY_ERROR,   /* `error`; `text`: the sentence, or "<host> <port>", or NULL. VERSION_DIFFERS:
                    * `version`. TOO_LARGE: `version` is the limit if `text` is NULL */
};

struct reply {
    enum reply_type type;
    enum reply_error error;
    uint64_t version;
    uint64_t ttl_ms; /* what remains; 0: never expires */
    const uint8_t *value;
    uint32_t value_size;
    const char *text;
};
