/* Whether a recorded history of a key-value store is linearizable: whether each operation can be
 * given one moment between its invocation and its return, so that the operations in the order of
 * their moments are what a single store would have answered. Black box: it knows what clients saw,
 * and nothing of Raft.
 *
 *     struct linear_history *history = linear_history_new();
 *     struct linear_call set = { .kind = LINEAR_SET, .key = "k", .value = "a" };
 *     struct linear_result done = { .outcome = LINEAR_VERSION, .version = 1 };
 *     linear_invoke(history, "client 7", &set, 10);
 *     linear_return(history, "client 7", &done, 12);
 *     struct linear_report report;
 *     if (linear_check(history, NULL, &report) != LINEAR_OK)
 *         fputs(report.words, stderr);
 *     linear_report_release(&report);
 *     linear_history_free(history);
 *
 * The store that is held against the history
 *   - A key is absent, or has a value, a version, and perhaps an expiry. At first it is absent.
 *   - Each successful set or cas is given a version greater than any given before to any key. So a
 *     version is given once, along a key versions grow, and of two writes of which one was
 *     acknowledged before the other was invoked, the later has the greater version.
 *   - A value that expires may vanish at any moment after it was written.
 *   - An operation that failed had no effect. One whose outcome is unknown takes effect at any
 *     moment after its invocation, or never; the version of such a write is unknown until somebody
 *     sees it. An unknown read says nothing. What is still open at the end is unknown.
 *   - Registers without versions fit in: LINEAR_DONE is a write whose version was not told.
 *
 * It answers LINEAR_OK only with a linearization of every key in hand, and LINEAR_VIOLATION only if
 * there is none (but for a collision of 128-bit hashes, see linear_search.c). One thing it does not
 * see: orders of several keys that are each possible and only together are not. Part of that is
 * found: a version that was seen anywhere ends all writes with smaller versions everywhere.
 *
 * Memory runs out: abort(). No global state: several histories may be in use at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct linear_history;

enum linear_kind {
    LINEAR_GET,
    LINEAR_SET,
    LINEAR_CAS, /* compares versions */
    LINEAR_DELETE,
    LINEAR_CAS_VALUE, /* compares values: `old_value`; a failed comparison is LINEAR_FAILED */
    LINEAR_APPEND,    /* the value behind what is there; to an absent key like set */
};

/* Strings are copied. A value that is NULL or "" is the same as none: writing it removes the key. */
struct linear_call {
    enum linear_kind kind;
    const char *key;
    const char *value;     /* set, cas, append: the new value. Best if no two writes share one */
    const char *old_value; /* LINEAR_CAS_VALUE */
    uint64_t version;      /* LINEAR_CAS: the version wanted; 0: the key must be absent */
    bool expires;          /* set, cas: the key may vanish by itself */
};

enum linear_outcome {
    LINEAR_VALUE,   /* get: `value`, and `version` unless it is 0 */
    LINEAR_NONE,    /* get, delete, cas by version: there was no such key */
    LINEAR_VERSION, /* set, cas: done; `version` was given, not 0 */
    LINEAR_DIFFERS, /* cas: not done, the key had `version`, not 0 */
    LINEAR_DELETED, /* delete: there was a key */
    LINEAR_DONE,    /* set, cas, append: done; which version was not told */
    LINEAR_FAILED,  /* any: certainly had no effect, and says nothing */
    LINEAR_UNKNOWN, /* any: may take effect from the invocation on, or never */
};

struct linear_result {
    enum linear_outcome outcome;
    const char *value;
    uint64_t version;
};

struct linear_history *linear_history_new(void);
void linear_history_free(struct linear_history *history); /* NULL is fine */

/* The next event in real time: `process` (any name) invokes an operation, or the one that it has
 * open comes back. A process has one open operation at most; behind LINEAR_UNKNOWN it may go on.
 *
 * `place` is for reports: a line, a simulated time; it need not grow.
 * Returns NULL, or a sentence about what is wrong with the event, which then does not count. */
const char *linear_invoke(struct linear_history *history, const char *process,
                          const struct linear_call *call, uint64_t place);
const char *linear_return(struct linear_history *history, const char *process,
                          const struct linear_result *result, uint64_t place);

/* Operations invoked so far, and those of them of which nothing came back yet. */
size_t linear_operation_count(const struct linear_history *history);
size_t linear_open_count(const struct linear_history *history);

struct linear_limits {
    uint64_t time_ms_max;    /* of the monotonic clock, for the whole history; 0: the default */
    uint64_t step_count_max; /* for each key: the same answer on any machine; 0: no limit */
};

#define LINEAR_TIME_MS_MAX_DEFAULT 30000

enum linear_verdict {
    LINEAR_OK,
    LINEAR_VIOLATION,
    LINEAR_UNDECIDED, /* a limit was reached */
};

struct linear_report {
    enum linear_verdict verdict;
    const char *key;     /* of the violation, or that was not decided; borrowed from the history */
    size_t placed_count; /* violation: operations of the longest prefix that was found */
    uint64_t step_count; /* operations tried at a place, over all keys */
    char *words;         /* the story in lines that end with \n; owned; "" if linearizable */
};

/* Check what was recorded so far; the history can go on afterwards. `limits` may be NULL. Fills
 * `report` in any case; release it. Returns the verdict of the report. */
enum linear_verdict linear_check(const struct linear_history *history,
                                 const struct linear_limits *limits, struct linear_report *report);
void linear_report_release(struct linear_report *report);

/* "linearizable", "violation" or "undecided". */
const char *linear_verdict_name(enum linear_verdict verdict);
