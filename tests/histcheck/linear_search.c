/* The search for a linearization of one key.
 *
 * The algorithm is Wing and Gong's ("Testing and verifying concurrent objects", 1993) as Lowe
 * improved it ("Testing for linearizability", 2017): walk the operations that may come next, those
 * invoked before the first return that is still in the list; place one, take its invocation and
 * return out of the list, go on; put it back when all ways from there are dead. A configuration, the
 * set of placed operations and the state they leave, is looked at once: a table remembers it by a
 * 128-bit hash (a sum of a random number for each operation, and the state). Two configurations
 * with one hash would make one of them unseen: of 2^22 remembered, with a chance below 2^-80.
 *
 * A history of a real run has operations of unknown outcome that stay open to its end, and each
 * doubles what plain search does. What keeps this search nearly straight:
 *
 *   1. An operation that fits the state and leaves it as it is (a read of what is there) is placed
 *      at once, with no way back: whatever could follow without it can follow it.
 *   2. Along a key versions grow, so what tells a version comes in the order of versions: writes
 *      that were acknowledged have one order only, and reads with versions stand between them.
 *   3. Unknown operations stay out of the list. One is placed only if the next one placed sees its
 *      effect (`is_owed`): an effect that nobody sees before it is overwritten can be left out.
 *   4. Of unknown operations that do the same, the one invoked first is used first: they all stay
 *      open, so one does as well as the other. Writes of values that nobody read do the same.
 *
 *   5. A configuration that is like another one, but has used more of the unknown operations, is no
 *      way out if that one is none. Nor is one whose unknown version is greater, or whose value
 *      cannot vanish while the other can. The table keeps these as costs beside the hash, and what
 *      costs as much as an entry or more is not looked at.
 *
 * The version of a write whose version was not told is "not pinned": at least one more than that of
 * the write before. The first to see it with a version pins it. Pinned versions are part of the
 * configuration, the others are costs. */
#include "tests/histcheck/linear_parts.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NONE UINT32_MAX
#define ANONYMOUS UINT32_MAX /* in a group: any value that nobody read */
#define MEMO_SIZE_FIRST 1024
#define MEMO_SIZE_MAX ((size_t)1 << 23) /* 320 MiB; beyond, the search goes on and forgets */
#define MEMO_TWINS_MAX 16 /* entries of one hash, none of them cheaper than another in all ways */
#define COSTS_MAX 8
#define COSTED_GROUPS_MAX (COSTS_MAX - 2)
#define STEPS_BETWEEN_CLOCKS 4096

struct hash {
    uint64_t a, b;
};

/* An invocation or a return, in the order of time. Entry 0 is the head of the ring. */
struct entry {
    uint64_t time;
    uint32_t op;
    bool is_return;
    uint32_t before, after;
};

/* Unknown operations that are as good as each other, in the order of invocation. */
struct group {
    uint32_t first, end; /* in search.optional */
    uint32_t next;       /* the first that is not placed */
    uint32_t cost;       /* which of the costs its use is; or NONE: it is part of the hash */
};

/* A configuration that was looked at. Hash {0, 0}: none. */
struct memo {
    struct hash hash;
    uint64_t version; /* the least it can be; 0: pinned, and part of the hash */
    uint16_t costs[COSTS_MAX];
};

struct node {
    struct linear_state state;
    struct hash placed; /* sum over the operations placed, costs left out */
    uint32_t op;        /* placed to get here */
    bool is_fresh;      /* nothing was tried from here */
    uint32_t entry;     /* to try next; 0: all were */
    uint32_t group;     /* to try next */
    uint64_t frontier;  /* the first return that is still to come */
};

struct search {
    const struct names *names;
    const struct linear_op *ops;
    size_t op_count;
    struct names joined; /* values that appends made and nobody wrote or read */

    struct entry *entries;
    uint32_t *call_of, *return_of; /* for each operation: its entries */
    size_t required_left;

    uint32_t *rank_of; /* for each operation that tells a version: which of the versions; or NONE */
    uint32_t *rank_left;  /* for each version: how many are still to be placed */
    uint32_t rank_lowest; /* the least version with any left */

    uint32_t *optional; /* unknown operations, by group and time */
    struct group *groups;
    uint32_t group_count;
    uint32_t cas_begin; /* groups from here on compare versions, and are sorted by them */
    uint32_t costed[COSTED_GROUPS_MAX];
    uint32_t costed_count;
    uint32_t *group_of; /* for each operation; NONE if it has to be placed */

    struct node *stack;
    size_t depth;
    struct memo *memo;
    size_t memo_count, memo_size;
    uint64_t step_count;
};

uint64_t linear_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* the clock exists, and `now` is ours */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool is_optional(const struct linear_op *op)
{
    return op->outcome == LINEAR_UNKNOWN;
}

/* -- The model: what an operation makes of a key -------------------------------------------------- */

enum effect { CANNOT_BE, CHANGES, KEEPS };

static enum effect see_value(struct linear_state *state, uint64_t told)
{
    if (state->value == 0)
        return CANNOT_BE;
    if (told == 0 || (state->is_pinned && state->version == told))
        return KEEPS;
    if (state->is_pinned || told < state->version)
        return CANNOT_BE;
    state->is_pinned = true;
    state->version = told;
    return CHANGES;
}

static void become_absent(struct linear_state *state)
{
    state->value = 0;
    state->is_pinned = false;
    state->expires = false;
}

static enum effect see_absence(struct linear_state *state)
{
    if (state->value == 0)
        return KEEPS;
    if (!state->expires)
        return CANNOT_BE;
    become_absent(state);
    return CHANGES;
}

static enum effect write_value(struct linear_state *state, const struct linear_op *op,
                               uint32_t value)
{
    if (state->version == UINT64_MAX || (op->version != 0 && op->version <= state->version))
        return CANNOT_BE;
    state->is_pinned = op->version != 0;
    state->version = op->version != 0 ? op->version : state->version + 1;
    state->value = value;
    state->expires = op->expires;
    if (value == 0)
        become_absent(state);
    return CHANGES;
}

static const char *value_text(const struct search *search, uint32_t value)
{
    size_t known = search->names->count;
    return value < known ? names_text(search->names, value)
                         : names_text(&search->joined, (uint32_t)(value - known));
}

static uint32_t join(struct search *search, uint32_t value, uint32_t tail)
{
    const char *head_text = value_text(search, value);
    const char *tail_text = value_text(search, tail);
    size_t head_size = strlen(head_text), tail_size = strlen(tail_text) + 1;
    char *text = names_grow(NULL, head_size + tail_size, 1);
    memcpy(text, head_text, head_size);
    memcpy(text + head_size, tail_text, tail_size);
    uint32_t joined = names_find(search->names, text);
    if (joined == UINT32_MAX)
        joined = (uint32_t)search->names->count + names_add(&search->joined, text);
    free(text);
    return joined;
}

static enum effect compare_and_set(struct linear_state *state, const struct linear_op *op)
{
    if (op->outcome == LINEAR_NONE)
        return op->expected != 0 ? see_absence(state) : CANNOT_BE;
    if (op->outcome == LINEAR_DIFFERS)
        return op->version != op->expected ? see_value(state, op->version) : CANNOT_BE;
    enum effect seen = op->expected == 0 ? see_absence(state) : see_value(state, op->expected);
    return seen != CANNOT_BE ? write_value(state, op, op->value) : CANNOT_BE;
}

static enum effect delete_key(struct linear_state *state, const struct linear_op *op)
{
    if (op->outcome == LINEAR_NONE)
        return see_absence(state);
    /* An unknown delete of what can vanish by itself is of no use. */
    if (state->value == 0 || (is_optional(op) && state->expires))
        return CANNOT_BE;
    become_absent(state);
    return CHANGES;
}

/* Whether the operation's answer or effect does not depend on what was there. */
static bool is_blind(const struct linear_op *op)
{
    return op->kind == LINEAR_SET || (op->kind == LINEAR_DELETE && is_optional(op));
}

static enum effect apply(struct search *search, const struct linear_op *op,
                         struct linear_state *state)
{
    if (state->is_owed && is_blind(op))
        return CANNOT_BE;
    state->is_owed = is_optional(op);
    switch (op->kind) {
    case LINEAR_GET:
        if (op->outcome == LINEAR_NONE || op->got == 0)
            return see_absence(state);
        return state->value == op->got ? see_value(state, op->version) : CANNOT_BE;
    case LINEAR_SET:
        return write_value(state, op, op->value);
    case LINEAR_CAS:
        return compare_and_set(state, op);
    case LINEAR_DELETE:
        return delete_key(state, op);
    case LINEAR_CAS_VALUE:
        return state->value == op->old_value ? write_value(state, op, op->value) : CANNOT_BE;
    case LINEAR_APPEND:
        return write_value(state, op, join(search, state->value, op->value));
    }
    return CANNOT_BE;
}

/* -- The table of configurations ------------------------------------------------------------------ */

static uint64_t mix(uint64_t number)
{
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
    number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

static void hash_op(struct hash *hash, uint32_t op)
{
    hash->a += mix(2 * (uint64_t)op * 0x9e3779b97f4a7c15u + 0x243f6a8885a308d3u);
    hash->b += mix((2 * (uint64_t)op + 1) * 0x9e3779b97f4a7c15u + 0x13198a2e03707344u);
}

static struct hash hash_configuration(struct hash placed, const struct linear_state *state)
{
    uint64_t value = (uint64_t)state->value << 1 | (uint64_t)state->is_pinned;
    uint64_t version = state->is_pinned ? state->version : 0;
    struct hash hash = {
        mix(placed.a ^ mix(value + mix(version + 0xa4093822299f31d0u))),
        mix(placed.b ^ mix(value + mix(version ^ 0x082efa98ec4e6c89u))),
    };
    hash.a |= hash.a == 0 && hash.b == 0; /* that means empty */
    return hash;
}

/* What the search comes to when it places `op`. */
static struct memo configuration(const struct search *search, struct hash placed, uint32_t op,
                                 const struct linear_state *state)
{
    struct memo memo = {
        .hash = hash_configuration(placed, state),
        .version = state->is_pinned ? 0 : state->version,
        .costs = { state->is_owed, !state->expires },
    };
    for (uint32_t i = 0; i < search->costed_count; i++) {
        const struct group *group = &search->groups[search->costed[i]];
        bool is_used = search->group_of[op] == search->costed[i];
        memo.costs[2 + i] = (uint16_t)(group->next - group->first + is_used);
    }
    return memo;
}

static bool is_empty(const struct memo *memo)
{
    return memo->hash.a == 0 && memo->hash.b == 0;
}

static bool is_cheaper(const struct memo *memo, const struct memo *other)
{
    bool is = memo->version <= other->version;
    for (int i = 0; i < COSTS_MAX; i++)
        is = is && memo->costs[i] <= other->costs[i];
    return is;
}

static struct memo *empty_memo(size_t size)
{
    struct memo *memo = names_grow(NULL, size, sizeof(*memo));
    return memset(memo, 0, size * sizeof(*memo));
}

static void memo_double(struct search *search)
{
    struct memo *old = search->memo;
    size_t old_size = search->memo_size, mask = 2 * old_size - 1;
    search->memo_size *= 2;
    search->memo = empty_memo(search->memo_size);
    for (size_t i = 0; i < old_size; i++) {
        if (is_empty(&old[i]))
            continue;
        size_t slot = (size_t)old[i].hash.a & mask;
        while (!is_empty(&search->memo[slot]))
            slot = (slot + 1) & mask;
        search->memo[slot] = old[i];
    }
    free(old);
}

/* The same under a hash of its own, with its costs in it. */
static struct memo without_twins(const struct memo *memo)
{
    struct memo alone = *memo;
    alone.hash.a = mix(alone.hash.a + memo->version);
    alone.hash.b = mix(alone.hash.b ^ memo->version);
    for (int i = 0; i < COSTS_MAX; i++) {
        alone.hash.a = mix(alone.hash.a + memo->costs[i] + 1);
        alone.hash.b = mix(alone.hash.b ^ (memo->costs[i] + 0xa4093822299f31d0u));
    }
    return alone;
}

/* Whether it is new, and no dearer twin of an old one. A full table takes no more; what it does not
 * know is new each time. */
static bool memo_add(struct search *search, const struct memo *memo)
{
    size_t mask = search->memo_size - 1, slot = (size_t)memo->hash.a & mask;
    int twin_count = 0;
    for (; !is_empty(&search->memo[slot]); slot = (slot + 1) & mask) {
        struct memo *other = &search->memo[slot];
        if (other->hash.a != memo->hash.a || other->hash.b != memo->hash.b)
            continue;
        if (is_cheaper(other, memo))
            return false;
        if (is_cheaper(memo, other)) {
            *other = *memo;
            return true;
        }
        if (++twin_count == MEMO_TWINS_MAX) {
            struct memo alone = without_twins(memo);
            return memo_add(search, &alone);
        }
    }
    if (search->memo_size >= MEMO_SIZE_MAX && 2 * search->memo_count >= search->memo_size)
        return true;
    search->memo[slot] = *memo;
    search->memo_count++;
    if (2 * search->memo_count > search->memo_size && search->memo_size < MEMO_SIZE_MAX)
        memo_double(search);
    return true;
}

/* -- The list, and placing operations --------------------------------------------------------------- */

static void entry_take(struct search *search, uint32_t entry)
{
    struct entry *taken = &search->entries[entry];
    search->entries[taken->before].after = taken->after;
    search->entries[taken->after].before = taken->before;
}

static void entry_put_back(struct search *search, uint32_t entry)
{
    struct entry *taken = &search->entries[entry];
    search->entries[taken->before].after = entry;
    search->entries[taken->after].before = entry;
}

static void place(struct search *search, uint32_t op)
{
    if (search->group_of[op] != NONE) {
        search->groups[search->group_of[op]].next++;
        return;
    }
    entry_take(search, search->call_of[op]);
    entry_take(search, search->return_of[op]);
    search->required_left--;
    uint32_t rank = search->rank_of[op];
    if (rank != NONE) {
        assert(rank == search->rank_lowest);
        search->rank_lowest += --search->rank_left[rank] == 0;
    }
}

static void unplace(struct search *search, uint32_t op)
{
    if (search->group_of[op] != NONE) {
        search->groups[search->group_of[op]].next--;
        return;
    }
    entry_put_back(search, search->return_of[op]);
    entry_put_back(search, search->call_of[op]);
    search->required_left++;
    uint32_t rank = search->rank_of[op];
    if (rank != NONE) {
        search->rank_left[rank]++;
        search->rank_lowest = rank;
    }
}

/* -- Which operation may come next ------------------------------------------------------------------ */

static enum effect try_op(struct search *search, const struct node *node, uint32_t op,
                          struct linear_state *state)
{
    search->step_count++;
    uint32_t rank = search->rank_of[op];
    if (rank != NONE && rank != search->rank_lowest)
        return CANNOT_BE;
    *state = node->state;
    return apply(search, &search->ops[op], state);
}

/* An operation that fits and changes nothing; notes the frontier. */
static uint32_t find_keeper(struct search *search, struct node *node, struct linear_state *state)
{
    uint32_t at = search->entries[0].after;
    for (; !search->entries[at].is_return; at = search->entries[at].after) {
        if (try_op(search, node, search->entries[at].op, state) == KEEPS)
            return search->entries[at].op;
    }
    node->frontier = search->entries[at].time;
    return NONE;
}

static uint32_t next_required(struct search *search, struct node *node, struct linear_state *state)
{
    while (!search->entries[node->entry].is_return) {
        uint32_t op = search->entries[node->entry].op;
        node->entry = search->entries[node->entry].after;
        if (try_op(search, node, op, state) != CANNOT_BE)
            return op;
    }
    return NONE;
}

static uint64_t wanted_version(const struct search *search, uint32_t group)
{
    return search->ops[search->optional[search->groups[group].first]].expected;
}

/* The first group from `group` on, all comparing versions, that may fit the state. */
static uint32_t skip_groups(const struct search *search, const struct linear_state *state,
                            uint32_t group)
{
    uint64_t wanted = wanted_version(search, group);
    if (wanted == 0 && (state->value == 0 || state->expires))
        return group;
    if (state->value == 0 || (state->is_pinned && wanted > state->version))
        return search->group_count;
    uint32_t low = group, high = search->group_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (wanted_version(search, middle) < state->version)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint32_t next_optional(struct search *search, struct node *node, struct linear_state *state)
{
    while (node->group < search->group_count) {
        if (node->group >= search->cas_begin)
            node->group = skip_groups(search, &node->state, node->group);
        if (node->group == search->group_count)
            break;
        const struct group *group = &search->groups[node->group++];
        if (group->next == group->end)
            continue;
        uint32_t op = search->optional[group->next];
        if (search->ops[op].invoked < node->frontier &&
            try_op(search, node, op, state) != CANNOT_BE)
            return op;
    }
    return NONE;
}

static uint32_t next_op(struct search *search, struct node *node, struct linear_state *state)
{
    if (node->is_fresh) {
        node->is_fresh = false;
        uint32_t keeper = find_keeper(search, node, state);
        if (keeper != NONE) { /* and nothing else from here */
            while (!search->entries[node->entry].is_return)
                node->entry = search->entries[node->entry].after;
            node->group = search->group_count;
            return keeper;
        }
    }
    uint32_t op = next_required(search, node, state);
    return op != NONE ? op : next_optional(search, node, state);
}

/* -- The walk --------------------------------------------------------------------------------------- */

static void push(struct search *search, uint32_t op, const struct linear_state *state,
                 struct hash placed)
{
    search->stack[search->depth++] = (struct node){
        .state = *state,
        .placed = placed,
        .op = op,
        .is_fresh = true,
        .entry = search->entries[0].after,
    };
}

static void keep_text(const struct search *search, uint32_t value, char **text)
{
    const char *found = value_text(search, value);
    size_t size = strlen(found) + 1;
    *text = memcpy(names_grow(*text, size, 1), found, size);
}

/* The walk turns back: if it never came further, remember how far it came. */
static void keep_longest(const struct search *search, struct linear_search_result *result)
{
    if (result->placed != NULL && search->required_left >= result->required_left)
        return;
    size_t placed_count = search->depth - 1;
    result->required_left = search->required_left;
    result->placed_count = placed_count;
    result->placed = names_grow(result->placed, placed_count, sizeof(*result->placed));
    for (size_t i = 0; i < placed_count; i++)
        result->placed[i] = search->stack[i + 1].op;
    result->state = search->stack[placed_count].state;
    keep_text(search, result->state.value, &result->value);

    result->blocked_count = 0;
    uint32_t at = search->entries[0].after;
    for (; at != 0 && !search->entries[at].is_return; at = search->entries[at].after) {
        result->blocked =
            names_grow(result->blocked, result->blocked_count + 1, sizeof(*result->blocked));
        result->blocked[result->blocked_count++] = search->entries[at].op;
    }
}

static bool is_over(const struct search *search, const struct linear_search_limits *limits,
                    uint64_t *next_clock)
{
    if (search->step_count >= limits->step_count_max)
        return true;
    if (search->step_count < *next_clock)
        return false;
    *next_clock = search->step_count + STEPS_BETWEEN_CLOCKS;
    return linear_now_ns() >= limits->deadline_ns;
}

static enum linear_verdict walk(struct search *search, const struct linear_search_limits *limits,
                                struct linear_search_result *result)
{
    uint64_t next_clock = STEPS_BETWEEN_CLOCKS;
    push(search, NONE, &(struct linear_state){ 0 }, (struct hash){ 0 });
    while (search->required_left > 0) {
        if (is_over(search, limits, &next_clock))
            return LINEAR_UNDECIDED;
        struct node *node = &search->stack[search->depth - 1];
        struct linear_state state;
        uint32_t op = next_op(search, node, &state);
        if (op == NONE) {
            keep_longest(search, result);
            if (--search->depth == 0)
                return LINEAR_VIOLATION;
            unplace(search, node->op);
            continue;
        }
        struct hash placed = node->placed;
        uint32_t group = search->group_of[op];
        if (group == NONE || search->groups[group].cost == NONE)
            hash_op(&placed, op);
        struct memo memo = configuration(search, placed, op, &state);
        if (memo_add(search, &memo)) {
            place(search, op);
            push(search, op, &state, placed);
        }
    }
    return LINEAR_OK;
}

/* -- Preparing -------------------------------------------------------------------------------------- */

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_entries(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int by_time = compare_numbers(a->time, b->time);
    return by_time != 0 ? by_time : compare_numbers(a->op, b->op);
}

static void make_list(struct search *search)
{
    struct entry *entries = names_grow(NULL, 2 * search->op_count + 1, sizeof(*entries));
    uint32_t count = 0;
    entries[count++] = (struct entry){ .is_return = true, .op = NONE };
    for (uint32_t op = 0; op < search->op_count; op++) {
        if (is_optional(&search->ops[op]))
            continue;
        search->required_left++;
        entries[count++] = (struct entry){ .time = search->ops[op].invoked, .op = op };
        entries[count++] =
            (struct entry){ .time = search->ops[op].returned, .op = op, .is_return = true };
    }
    qsort(entries + 1, count - 1, sizeof(*entries), compare_entries);
    for (uint32_t at = 0; at < count; at++) {
        entries[at].before = at > 0 ? at - 1 : count - 1;
        entries[at].after = at + 1 < count ? at + 1 : 0;
        if (at > 0)
            (entries[at].is_return ? search->return_of : search->call_of)[entries[at].op] = at;
    }
    search->entries = entries;
}

struct numbered {
    uint64_t number;
    uint32_t op;
};

static int compare_numbered(const void *left, const void *right)
{
    const struct numbered *a = left, *b = right;
    int by_number = compare_numbers(a->number, b->number);
    return by_number != 0 ? by_number : compare_numbers(a->op, b->op);
}

static void rank_versions(struct search *search)
{
    struct numbered *told = names_grow(NULL, search->op_count, sizeof(*told));
    size_t count = 0;
    for (uint32_t op = 0; op < search->op_count; op++) {
        search->rank_of[op] = NONE;
        if (!is_optional(&search->ops[op]) && search->ops[op].version != 0)
            told[count++] = (struct numbered){ search->ops[op].version, op };
    }
    qsort(told, count, sizeof(*told), compare_numbered);
    uint32_t rank = NONE;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || told[i].number != told[i - 1].number)
            search->rank_left[++rank] = 0;
        search->rank_left[rank]++;
        search->rank_of[told[i].op] = rank;
    }
    free(told);
}

/* What an unknown operation does, as far as anybody can see it. */
struct deed {
    enum linear_kind kind;
    bool expires;
    uint32_t value, old_value;
    uint64_t expected;
    uint32_t op;
};

static int compare_deeds(const struct deed *a, const struct deed *b)
{
    const uint64_t fields[][2] = {
        { a->kind == LINEAR_CAS, b->kind == LINEAR_CAS }, /* those last, by version */
        { a->kind, b->kind },
        { a->expected, b->expected },
        { a->expires, b->expires },
        { a->value, b->value },
        { a->old_value, b->old_value },
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i][0] != fields[i][1])
            return fields[i][0] < fields[i][1] ? -1 : 1;
    }
    return 0;
}

static int compare_deeds_and_ops(const void *left, const void *right)
{
    const struct deed *a = left, *b = right;
    int by_deed = compare_deeds(a, b);
    return by_deed != 0 ? by_deed : compare_numbers(a->op, b->op);
}

static int compare_values(const void *left, const void *right)
{
    return compare_numbers(*(const uint32_t *)left, *(const uint32_t *)right);
}

/* The values that some answer or comparison depends on, sorted. */
static uint32_t *seen_values(const struct search *search, size_t *count)
{
    uint32_t *seen = names_grow(NULL, search->op_count + 1, sizeof(*seen));
    *count = 0;
    seen[(*count)++] = 0; /* absence is always seen */
    for (size_t i = 0; i < search->op_count; i++) {
        if (search->ops[i].kind == LINEAR_GET && search->ops[i].got != 0)
            seen[(*count)++] = search->ops[i].got;
        if (search->ops[i].kind == LINEAR_CAS_VALUE && search->ops[i].old_value != 0)
            seen[(*count)++] = search->ops[i].old_value;
    }
    qsort(seen, *count, sizeof(*seen), compare_values);
    return seen;
}

static bool has_appends(const struct search *search)
{
    for (size_t i = 0; i < search->op_count; i++) {
        if (search->ops[i].kind == LINEAR_APPEND)
            return true;
    }
    return false;
}

static void group_unknown(struct search *search)
{
    struct deed *deeds = names_grow(NULL, search->op_count, sizeof(*deeds));
    bool all_are_seen = has_appends(search);
    size_t seen_count, count = 0;
    uint32_t *seen = seen_values(search, &seen_count);
    for (uint32_t op = 0; op < search->op_count; op++) {
        const struct linear_op *it = &search->ops[op];
        search->group_of[op] = NONE;
        if (!is_optional(it))
            continue;
        bool is_seen = all_are_seen ||
                       bsearch(&it->value, seen, seen_count, sizeof(*seen), compare_values) != NULL;
        deeds[count++] = (struct deed){
            .kind = it->kind,
            .expires = it->expires,
            .value = is_seen ? it->value : ANONYMOUS,
            .old_value = it->old_value,
            .expected = it->expected,
            .op = op,
        };
    }
    free(seen);
    qsort(deeds, count, sizeof(*deeds), compare_deeds_and_ops);
    for (uint32_t i = 0; i < count; i++) {
        if (i == 0 || compare_deeds(&deeds[i - 1], &deeds[i]) != 0) {
            search->cas_begin += deeds[i].kind != LINEAR_CAS;
            search->groups[search->group_count++] =
                (struct group){ .first = i, .next = i, .cost = NONE };
        }
        search->groups[search->group_count - 1].end = i + 1;
        search->group_of[deeds[i].op] = search->group_count - 1;
        search->optional[i] = deeds[i].op;
    }
    free(deeds);
}

/* The use of the largest groups is a cost. */
static void choose_costs(struct search *search)
{
    while (search->costed_count < COSTED_GROUPS_MAX) {
        uint32_t best = NONE, best_size = 0;
        for (uint32_t i = 0; i < search->group_count; i++) {
            uint32_t size = search->groups[i].end - search->groups[i].first;
            if (search->groups[i].cost == NONE && size > best_size && size < UINT16_MAX) {
                best = i;
                best_size = size;
            }
        }
        if (best == NONE)
            return;
        search->groups[best].cost = search->costed_count;
        search->costed[search->costed_count++] = best;
    }
}

enum linear_verdict linear_search(const struct names *names, const struct linear_op *ops,
                                  size_t op_count, const struct linear_search_limits *limits,
                                  struct linear_search_result *result)
{
    assert(op_count < UINT32_MAX / 4);
    struct search search = {
        .names = names,
        .ops = ops,
        .op_count = op_count,
        .call_of = names_grow(NULL, op_count, sizeof(uint32_t)),
        .return_of = names_grow(NULL, op_count, sizeof(uint32_t)),
        .rank_of = names_grow(NULL, op_count, sizeof(uint32_t)),
        .rank_left = names_grow(NULL, op_count, sizeof(uint32_t)),
        .optional = names_grow(NULL, op_count, sizeof(uint32_t)),
        .group_of = names_grow(NULL, op_count, sizeof(uint32_t)),
        .groups = names_grow(NULL, op_count, sizeof(struct group)),
        .stack = names_grow(NULL, op_count + 1, sizeof(struct node)),
        .memo = empty_memo(MEMO_SIZE_FIRST),
        .memo_size = MEMO_SIZE_FIRST,
    };
    *result = (struct linear_search_result){ 0 };
    names_init(&search.joined);
    make_list(&search);
    rank_versions(&search);
    group_unknown(&search);
    choose_costs(&search);

    enum linear_verdict verdict = walk(&search, limits, result);
    result->step_count = search.step_count;

    free(search.call_of);
    free(search.return_of);
    free(search.rank_of);
    free(search.rank_left);
    free(search.optional);
    free(search.group_of);
    free(search.groups);
    free(search.stack);
    free(search.memo);
    free(search.entries);
    names_release(&search.joined);
    return verdict;
}

void linear_search_result_release(struct linear_search_result *result)
{
    free(result->placed);
    free(result->blocked);
    free(result->value);
    *result = (struct linear_search_result){ 0 };
}
