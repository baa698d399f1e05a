/* What the parts of the checker share: operations as they are recorded, and as they are searched.
 * For users there is linear.h. */
#pragma once

#include "tests/histcheck/linear.h"
#include "tests/histcheck/names.h"

#define LINEAR_NEVER UINT64_MAX

/* An operation. Times are the numbers of events. A check works on copies, which it may know more
 * about: an unknown write whose value was seen is as good as done, and versions narrow the times. */
struct linear_op {
    enum linear_kind kind;
    enum linear_outcome outcome; /* LINEAR_UNKNOWN while it is open */
    bool expires;
    uint32_t process, key, value, old_value; /* names; a value of 0 is none */
    uint32_t got;                            /* LINEAR_VALUE: what the get saw */
    uint64_t expected;                       /* LINEAR_CAS: the version wanted */
    uint64_t version;                        /* the version that the answer told, or 0 */
    uint64_t invoked, returned;
    size_t id; /* its place in the history */
};

struct linear_history {
    struct names names;
    struct linear_op *ops; /* in the order of their invocations */
    size_t op_count, op_room;
    size_t *open_op; /* for each name: 1 + the operation that the process has open, or 0 */
    size_t open_room, open_count;
    uint64_t *places; /* of each event */
    uint64_t event_count;
    size_t event_room;
};

static inline bool linear_op_writes(const struct linear_op *op)
{
    return op->kind != LINEAR_GET && op->kind != LINEAR_DELETE;
}

/* A write that certainly took effect. */
static inline bool linear_op_has_written(const struct linear_op *op)
{
    return linear_op_writes(op) && (op->outcome == LINEAR_VERSION || op->outcome == LINEAR_DONE);
}

/* -- linear_search.c -- */

/* A key between two operations. */
struct linear_state {
    uint32_t value;   /* a name, or beyond the names of the history an appended one; 0: absent */
    bool is_pinned;   /* the version is known */
    bool expires;     /* may become absent by itself */
    bool is_owed;     /* made by an unknown operation: whatever comes next has to have seen it */
    uint64_t version; /* of the last write; not pinned: the least that it can be */
};

struct linear_search_limits {
    uint64_t deadline_ns; /* of linear_now_ns() */
    uint64_t step_count_max;
};

/* The longest prefix that was found, for people. */
struct linear_search_result {
    uint64_t step_count;
    size_t *placed; /* positions in `ops`, in their order; owned */
    size_t placed_count;
    size_t required_left; /* operations that came back and are not in it */
    size_t *blocked;      /* those that could have come next as far as time goes; owned */
    size_t blocked_count;
    struct linear_state state;
    char *value; /* of the state; owned */
};

/* Search for a linearization of `ops`: one key's, in the order of `invoked`. LINEAR_UNKNOWN is left
 * out at will; all others have to be placed. */
enum linear_verdict linear_search(const struct names *names, const struct linear_op *ops,
                                  size_t op_count, const struct linear_search_limits *limits,
                                  struct linear_search_result *result);
void linear_search_result_release(struct linear_search_result *result);
uint64_t linear_now_ns(void);

/* -- linear_versions.c -- */

/* Learn what can be told from values and versions without a search: which unknown writes happened,
 * and between which moments writes did. `ops` are of all keys, in order of key.
 * Returns NULL, or the broken rule in words (owned) with the key where it shows. */
char *linear_learn(const struct linear_history *history, struct linear_op *ops, size_t op_count,
                   uint32_t *key);

/* -- linear_words.c -- */

/* "3: set k a -> version 5 (at 12 to 15)". The result is owned by the caller. */
char *linear_op_words(const struct linear_history *history, const struct linear_op *op);
char *linear_violation_words(const struct linear_history *history, const struct linear_op *ops,
                             const struct linear_search_result *result);
