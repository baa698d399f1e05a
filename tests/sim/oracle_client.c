/* What clients were told, against the ledger. Every operation belongs to one place of the log, and all
 * answers must fit one order of places that also fits real time:
 *
 *   - A write that was answered has a command in the ledger, behind what the ledger was when it was
 *     asked, and the answer is that command's effect: S15 and its part of S16. A set or cas is known by
 *     its value, which says whose it is. A cas or delete that failed has a command too.
 *   - A delete carries no value. Deletes of one key that are under way at once can stand for each
 *     other, so each answer takes, of the deletes with this effect that are free, the first one behind
 *     its beginning. Operations end in the order of their answers, so this finds an assignment if there
 *     is any (intervals by their right end, each the leftmost point); and as the places that are taken
 *     are the earliest possible, what follows from them is true whatever the real ones were.
 *   - A read must be true at some place from `seen`, as it was when the read was asked, to the ledger's
 *     end. Then it has been seen itself, at the first such place: `seen` is the latest place of all
 *     answers so far, and no operation that is asked later may be answered from before it (S16).
 *   - An operation that was refused is never in the ledger, before or after the refusal; a command that
 *     is in it was asked for, with these very arguments, and is there once (S17). Deletes are counted,
 *     and matched with those whose outcome nobody knows in the end.
 *   - A value whose expiry the clock of its place has reached is no value; one with time to live is
 *     there until then, and says a remaining time that fits (S19). */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/oracle_state.h"

/* Numbers are given out one after the other: a gap as wide as this is a mistake of ours. */
#define OP_GAP_MAX (1u << 20)
#define PLACE "%" PRIu64 ".%" PRIu32 /* index.number */

static _Noreturn void fail_op(const struct oracle *oracle, const char *rule,
                              const struct asked *asked, const char *why)
{
    trace_fail(oracle->options.trace, rule,
               "op %" PRIu64 " (%s %s) of client %d was answered %s version %" PRIu64
               " by op %" PRIu64 " ttl %" PRIu64 ": %s (asked at index %" PRIu64 ", seen " PLACE
               ", ledger %" PRIu64 ")",
               asked->op.number, op_type_name(asked->op.type), asked->op.key, asked->op.client,
               outcome_type_name(asked->outcome.type), asked->outcome.version,
               asked->outcome.written_by, asked->outcome.ttl_s, why, asked->committed,
               asked->floor.index, asked->floor.number, oracle->ledger.last);
}

/* -- Deletes by key ------------------------------------------------------------------------------ */

static size_t *place_of(const struct oracle *oracle, const char *key)
{
    uint64_t hash = 0xcbf29ce484222325;
    for (const char *byte = key; *byte != '\0'; byte++)
        hash = (hash ^ (uint8_t)*byte) * 0x100000001b3;
    size_t i = (size_t)(hash ^ hash >> 32) & (oracle->deleted_table_size - 1);
    while (oracle->deleted_table[i] != 0 &&
           strcmp(oracle->deleted[oracle->deleted_table[i] - 1].key, key) != 0)
        i = (i + 1) & (oracle->deleted_table_size - 1);
    return &oracle->deleted_table[i];
}

static void make_room(struct oracle *oracle)
{
    if (oracle->deleted_count < oracle->deleted_capacity)
        return;
    oracle->deleted = oracle_grow(oracle->deleted, oracle->deleted_count, &oracle->deleted_capacity,
                                  sizeof *oracle->deleted);
    oracle->deleted_table_size = 2 * oracle->deleted_capacity;
    free(oracle->deleted_table);
    oracle->deleted_table = calloc(oracle->deleted_table_size, sizeof *oracle->deleted_table);
    if (oracle->deleted_table == NULL)
        abort();
    for (size_t i = 0; i < oracle->deleted_count; i++)
        *place_of(oracle, oracle->deleted[i].key) = i + 1;
}

/* Its place in oracle->deleted; made if it is not there. */
static size_t find_deleted(struct oracle *oracle, const char *key)
{
    make_room(oracle);
    size_t *place = place_of(oracle, key);
    if (*place == 0) {
        struct deleted_key *deleted = &oracle->deleted[oracle->deleted_count++];
        *deleted = (struct deleted_key){ 0 };
        memcpy(deleted->key, key, strlen(key) + 1);
        *place = oracle->deleted_count;
    }
    return *place - 1;
}

/* More deletes in the ledger than clients asked for and were not refused: one of the refused ones took
 * effect, or one took effect twice. */
static void check_count(const struct oracle *oracle, const struct deleted_key *deleted)
{
    if (deleted->count > deleted->asked - deleted->refused)
        trace_fail(oracle->options.trace, "S17",
                   "%zu deletes of %s have committed; clients asked for %" PRIu64
                   ", of which %" PRIu64 " were refused",
                   deleted->count, deleted->key, deleted->asked, deleted->refused);
}

static void add_deletion(struct oracle *oracle, const struct kv_command *command,
                         const struct shadow_effect *effect)
{
    char key[OP_KEY_MAX] = { 0 };
    if (command->key_size >= OP_KEY_MAX)
        trace_fail(oracle->options.trace, "S17", "a delete of a key that no client uses commits");
    memcpy(key, command->key, command->key_size);
    size_t place = find_deleted(oracle, key); /* which may move them */
    struct deleted_key *deleted = &oracle->deleted[place];
    deleted->items =
        oracle_grow(deleted->items, deleted->count, &deleted->capacity, sizeof *deleted->items);
    deleted->items[deleted->count++] = (struct deletion){ .effect = *effect };
    check_count(oracle, deleted);
}

static bool is_free(const struct deletion *deletion, enum kv_status status)
{
    return !deletion->is_claimed && deletion->effect.status == status;
}

/* The first free delete of this effect behind index `after`, from then on taken. */
static bool claim(struct deleted_key *deleted, enum kv_status status, uint64_t after,
                  struct shadow_effect *effect)
{
    size_t *first = &deleted->first_free[status == KV_OK];

    while (*first < deleted->count && !is_free(&deleted->items[*first], status))
        (*first)++;
    for (size_t i = *first; i < deleted->count; i++) {
        struct deletion *deletion = &deleted->items[i];
        if (!is_free(deletion, status) || deletion->effect.place.index <= after)
            continue;
        deletion->is_claimed = true;
        *effect = deletion->effect;
        return true;
    }
    return false;
}

/* -- Commands ------------------------------------------------------------------------------------ */

static bool is_asked_for(const struct asked *asked, const struct kv_command *command)
{
    const struct op *op = &asked->op;
    enum op_type type = command->type == KV_SET ? OP_SET : OP_CAS;

    return op->type == type && strlen(op->key) == command->key_size &&
           memcmp(op->key, command->key, command->key_size) == 0 &&
           op->value_size == command->value_size && op->ttl_s * 1000 == command->ttl_ms &&
           (type == OP_SET || op->compare == command->compare);
}

void client_on_command(struct oracle *oracle, const struct kv_command *command,
                       const struct shadow_effect *effect)
{
    struct trace *trace = oracle->options.trace;

    if (command->type == KV_DELETE) {
        add_deletion(oracle, command, effect);
        return;
    }
    uint64_t number = op_of_value(command->value, command->value_size);
    if (number == 0 || number >= oracle->asked_count || !oracle->asked[number].is_invoked)
        trace_fail(trace, "S17", "a command at " PLACE " that no client asked for (op %" PRIu64 ")",
                   effect->place.index, effect->place.number, number);
    struct asked *asked = &oracle->asked[number];
    if (!is_asked_for(asked, command))
        trace_fail(trace, "S17", "op %" PRIu64 " commits at " PLACE " as what was not asked for",
                   number, effect->place.index, effect->place.number);
    if (asked->has_place)
        trace_fail(trace, "S17", "op %" PRIu64 " commits at " PLACE " and again at " PLACE, number,
                   asked->effect.place.index, asked->effect.place.number, effect->place.index,
                   effect->place.number);
    if (asked->has_returned && asked->outcome.type == OUTCOME_REFUSED)
        fail_op(oracle, "S17", asked, "it was refused, and commits");
    asked->has_place = true;
    asked->effect = *effect;
}

/* -- Asked --------------------------------------------------------------------------------------- */

static void add_event(struct oracle *oracle, uint64_t number, bool is_return)
{
    oracle->events = oracle_grow(oracle->events, oracle->event_count, &oracle->event_capacity,
                                 sizeof *oracle->events);
    oracle->events[oracle->event_count++] = 2 * number + is_return;
}

static struct asked *add_asked(struct oracle *oracle, uint64_t number)
{
    assert(number != 0);
    assert(number < oracle->asked_count + OP_GAP_MAX);
    while (oracle->asked_count <= number) {
        oracle->asked = oracle_grow(oracle->asked, oracle->asked_count, &oracle->asked_capacity,
                                    sizeof *oracle->asked);
        oracle->asked[oracle->asked_count++] = (struct asked){ 0 };
    }
    return &oracle->asked[number];
}

void oracle_invoked(struct oracle *oracle, const struct op *op)
{
    struct memory *before = memory_enter(NULL);
    struct asked *asked = add_asked(oracle, op->number);

    assert(!asked->is_invoked);
    *asked = (struct asked){
        .op = *op, .is_invoked = true, .committed = oracle->ledger.last, .floor = oracle->seen
    };
    if (op->type == OP_DELETE) {
        asked->deleted = find_deleted(oracle, op->key);
        oracle->deleted[asked->deleted].asked++;
    }
    add_event(oracle, op->number, false);
    oracle->stats.invoked++;
    memory_enter(before);
}

/* -- Returned ------------------------------------------------------------------------------------ */

static void saw(struct oracle *oracle, struct shadow_place place)
{
    if (shadow_before(oracle->seen, place))
        oracle->seen = place;
}

static void check_refused(struct oracle *oracle, const struct asked *asked)
{
    oracle->stats.refused++;
    if (asked->op.type == OP_DELETE) {
        struct deleted_key *deleted = &oracle->deleted[asked->deleted];
        deleted->refused++;
        check_count(oracle, deleted);
    }
    if (asked->has_place)
        fail_op(oracle, "S17", asked, "it was refused, and has committed");
}

static bool fits_effect(const struct outcome *outcome, const struct shadow_effect *effect)
{
    switch (outcome->type) {
    case OUTCOME_STORED:
        return effect->status == KV_OK && outcome->version == effect->version;
    case OUTCOME_DIFFERS:
        return effect->status == KV_VERSION_DIFFERS && outcome->version == effect->version;
    case OUTCOME_NONE:
        return effect->status == KV_NOT_FOUND;
    default:
        return false;
    }
}

static void check_write(struct oracle *oracle, const struct asked *asked)
{
    if (!asked->has_place)
        fail_op(oracle, "S15", asked, "it has not committed");
    if (!fits_effect(&asked->outcome, &asked->effect))
        fail_op(oracle, "S16", asked, "it took effect in another way");
    if (asked->effect.place.index <= asked->committed)
        fail_op(oracle, "S16", asked, "it took effect before it was asked for");
    saw(oracle, asked->effect.place);
}

static void check_delete(struct oracle *oracle, struct asked *asked)
{
    enum outcome_type type = asked->outcome.type;
    struct deleted_key *deleted = &oracle->deleted[asked->deleted];

    if (type != OUTCOME_DELETED && type != OUTCOME_NONE)
        fail_op(oracle, "S16", asked, "no answer to a delete");
    if (!claim(deleted, type == OUTCOME_DELETED ? KV_OK : KV_NOT_FOUND, asked->committed,
               &asked->effect))
        fail_op(oracle, "S15", asked, "no such delete has committed since it was asked for");
    asked->has_place = true;
    saw(oracle, asked->effect.place);
}

/* getm: what remains is rounded up to seconds, by a clock that is not behind that of the place. */
static bool fits_meta(const struct oracle *oracle, const struct outcome *outcome,
                      const struct shadow_state *state, struct shadow_place place)
{
    if (outcome->version != state->version)
        return false;
    if (state->expires_ms == 0)
        return outcome->ttl_s == 0;
    uint64_t left_ms = state->expires_ms - shadow_clock_ms(oracle->shadow, place.index);
    return outcome->ttl_s > 0 && outcome->ttl_s <= left_ms / 1000 + (left_ms % 1000 != 0);
}

static void check_value(struct oracle *oracle, const struct asked *asked)
{
    const struct outcome *outcome = &asked->outcome;
    uint64_t number = outcome->written_by;
    struct shadow_place place;
    struct shadow_state state;

    if (number == 0 || number >= oracle->asked_count || !oracle->asked[number].has_place)
        fail_op(oracle, "S16", asked, "nobody has written this");
    if (!shadow_find_value(oracle->shadow, (const uint8_t *)asked->op.key, strlen(asked->op.key),
                           asked->floor, oracle->asked[number].effect.place, &place, &state))
        fail_op(oracle, "S16", asked, "that was not there any more when it was asked");
    if (outcome->value_size != state.value_size)
        fail_op(oracle, "S16", asked, "the value has another size");
    if (asked->op.type == OP_GETM && !fits_meta(oracle, outcome, &state, place))
        fail_op(oracle, outcome->version != state.version ? "S16" : "S19", asked,
                "version or time to live do not belong to the value");
    saw(oracle, place);
}

static void check_none(struct oracle *oracle, const struct asked *asked)
{
    struct shadow_place place;

    if (!shadow_find_none(oracle->shadow, (const uint8_t *)asked->op.key, strlen(asked->op.key),
                          asked->floor, &place))
        fail_op(oracle, "S16", asked, "the key has been there all the time");
    saw(oracle, place);
}

static void check_answer(struct oracle *oracle, struct asked *asked)
{
    enum outcome_type type = asked->outcome.type;

    switch (asked->op.type) {
    case OP_SET:
    case OP_CAS:
        check_write(oracle, asked);
        return;
    case OP_DELETE:
        check_delete(oracle, asked);
        return;
    case OP_GET:
    case OP_GETM:
        if (type != OUTCOME_VALUE && type != OUTCOME_NONE)
            fail_op(oracle, "S16", asked, "no answer to a read");
        if (type == OUTCOME_VALUE)
            check_value(oracle, asked);
        else
            check_none(oracle, asked);
        return;
    }
}

void oracle_returned(struct oracle *oracle, uint64_t op_number, const struct outcome *outcome)
{
    assert(op_number < oracle->asked_count && oracle->asked[op_number].is_invoked);
    struct asked *asked = &oracle->asked[op_number];
    struct memory *before = memory_enter(NULL);

    if (asked->has_returned)
        trace_fail(oracle->options.trace, "S24", "op %" PRIu64 " is answered twice", op_number);
    asked->outcome = *outcome;
    asked->has_returned = true;
    add_event(oracle, op_number, true);
    if (outcome->type == OUTCOME_REFUSED) {
        check_refused(oracle, asked);
    } else if (outcome->type == OUTCOME_UNKNOWN) {
        oracle->stats.unknown++;
    } else {
        oracle->stats.acked++;
        if (oracle->options.values_by_op)
            check_answer(oracle, asked);
    }
    memory_enter(before);
}

/* -- The end ------------------------------------------------------------------------------------- */

/* An operation that may have any delete behind its beginning: nobody was told what became of it. */
static bool may_be_anywhere(const struct asked *asked)
{
    bool is_unknown = !asked->has_returned || asked->outcome.type == OUTCOME_UNKNOWN;
    return asked->is_invoked && asked->op.type == OP_DELETE && is_unknown;
}

struct begun {
    size_t deleted;     /* the key */
    uint64_t committed; /* the ledger's length when it was asked */
};

/* Each delete of a key that nobody's answer has taken is of an operation without one, of which
 * `begun` are those for this key, in the order in which they were asked. */
static void match_rest(const struct oracle *oracle, const struct deleted_key *deleted,
                       const struct begun *begun, size_t begun_count)
{
    size_t ready = 0, used = 0;

    for (size_t i = 0; i < deleted->count; i++) {
        const struct deletion *deletion = &deleted->items[i];
        if (deletion->is_claimed)
            continue;
        while (ready < begun_count && begun[ready].committed < deletion->effect.place.index)
            ready++;
        if (++used > ready)
            trace_fail(oracle->options.trace, "S17",
                       "the delete of %s at " PLACE " is of no client that could have asked for it",
                       deleted->key, deletion->effect.place.index, deletion->effect.place.number);
    }
}

static int by_key_and_time(const void *left, const void *right)
{
    const struct begun *a = left, *b = right;
    if (a->deleted != b->deleted)
        return a->deleted < b->deleted ? -1 : 1;
    return (a->committed > b->committed) - (a->committed < b->committed);
}

static void match_deletes(const struct oracle *oracle)
{
    size_t count = 0, first = 0;
    struct begun *begun = calloc(oracle->asked_count + 1, sizeof *begun);
    if (begun == NULL)
        abort();
    for (size_t i = 0; i < oracle->asked_count; i++)
        if (may_be_anywhere(&oracle->asked[i]))
            begun[count++] = (struct begun){ oracle->asked[i].deleted, oracle->asked[i].committed };
    qsort(begun, count, sizeof *begun, by_key_and_time);
    for (size_t key = 0; key < oracle->deleted_count; key++) {
        size_t end = first;
        while (end < count && begun[end].deleted == key)
            end++;
        match_rest(oracle, &oracle->deleted[key], begun + first, end - first);
        first = end;
    }
    free(begun);
}

void client_check_end(struct oracle *oracle)
{
    match_deletes(oracle);
    for (size_t i = 0; i < oracle->asked_count; i++) {
        const struct asked *asked = &oracle->asked[i];
        if (asked->has_returned && asked->outcome.type == OUTCOME_REFUSED && asked->has_place)
            fail_op(oracle, "S17", asked, "it was refused, and has committed");
    }
}
