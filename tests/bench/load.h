/* Closed-loop load over the text protocol, by one thread.
 *
 * A connection sends `depth` requests at once, waits for all their replies, and sends the next
 * ones. That is what redis-benchmark does with -P, so their numbers can be compared. The latency of
 * a request is the time from the send of its pipeline to the arrival of its reply.
 *
 *     struct load *load = load_new(&options);
 *     load_add_server(load, "127.0.0.1", 9000);
 *     load_run(load, &result);
 *     load_free(load);
 *
 * Whoever cannot go on (no memory, no socket) ends the process with a sentence: load_refuse(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/histogram.h"

#define LOAD_CONNECTIONS_MAX 10000
#define LOAD_DEPTH_MAX 65536
#define LOAD_KEY_SIZE_MAX 250
#define LOAD_VALUE_SIZE_MAX (64u << 20)

enum load_mode { LOAD_SET, LOAD_GET, LOAD_MIX };

struct load_options {
    enum load_mode mode;
    bool preload; /* write every key once before anything else */
    uint32_t connections, depth, read_percent;
    uint32_t key_size, value_size;
    uint64_t keys; /* at most 2^32 */
    uint64_t seed;
    double seconds; /* 0: only preload */
    double warmup;
};

/* Why a request, or a connection, came to nothing. */
enum load_failure {
    LOAD_REDIRECT,
    LOAD_UNAVAILABLE,
    LOAD_TIMEOUT,
    LOAD_VERSION,
    LOAD_CMD_ERR,
    LOAD_TOO_LARGE,
    LOAD_BUSY,
    LOAD_NO_SPACE,
    LOAD_INTERNAL,
    LOAD_CONNECT,    /* a connection that could not be made */
    LOAD_LOST,       /* a request whose connection ended before its reply */
    LOAD_UNANSWERED, /* a request without a reply when the time was up */
    LOAD_WRONG,      /* a reply that cannot be the answer */
    LOAD_FAILURE_COUNT
};

/* "ERR_REDIRECT" and so on: for the codes of protocol.md, their words. */
extern const char *const load_failure_names[LOAD_FAILURE_COUNT];

struct load_result { /* of the measured time, except where it says something else */
    double seconds;
    struct histogram sets, gets;
    uint64_t failures[LOAD_FAILURE_COUNT];
    uint64_t misses;           /* gets that found no key; they are in `gets` too */
    uint64_t gap_ns_max;       /* the longest time without a success */
    uint64_t operations_total; /* that succeeded, at any time */
    bool was_wrong;            /* LOAD_WRONG, at any time */
};

struct load; /* opaque */

struct load *load_new(const struct load_options *options);
void load_free(struct load *load);
/* One more address of the cluster; it need not be the leader's. */
void load_add_server(struct load *load, const char *host, uint16_t port);
/* Preload, warm up, measure, and wait for what is still under way. */
void load_run(struct load *load, struct load_result *result);

/* Say why on stderr, and exit with 2. */
void load_refuse(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
