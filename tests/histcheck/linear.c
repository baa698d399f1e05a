#include "tests/histcheck/linear.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/histcheck/linear_parts.h"

/* The first round over the keys stops here, so that a hard key does not keep the time from keys
 * with a violation that is easy to see. */
#define FIRST_ROUND_STEPS_MAX 1000000

/* -- Recording -------------------------------------------------------------------------------------- */

struct linear_history *linear_history_new(void)
{
    struct linear_history *history = names_grow(NULL, 1, sizeof(*history));
    *history = (struct linear_history){ 0 };
    names_init(&history->names);
    return history;
}

void linear_history_free(struct linear_history *history)
{
    if (history == NULL)
        return;
    names_release(&history->names);
    free(history->ops);
    free(history->open_op);
    free(history->places);
    free(history);
}

size_t linear_operation_count(const struct linear_history *history)
{
    return history->op_count;
}

size_t linear_open_count(const struct linear_history *history)
{
    return history->open_count;
}

static uint64_t add_event(struct linear_history *history, uint64_t place)
{
    if (history->event_count == history->event_room) {
        history->event_room = history->event_room > 0 ? 2 * history->event_room : 64;
        history->places =
            names_grow(history->places, history->event_room, sizeof(*history->places));
    }
    history->places[history->event_count] = place;
    return history->event_count++;
}

/* Where it is noted what the process has open. */
static size_t *open_slot(struct linear_history *history, uint32_t process)
{
    if (process >= history->open_room) {
        size_t room = 2 * (size_t)process + 16;
        history->open_op = names_grow(history->open_op, room, sizeof(*history->open_op));
        memset(history->open_op + history->open_room, 0,
               (room - history->open_room) * sizeof(*history->open_op));
        history->open_room = room;
    }
    return &history->open_op[process];
}

static struct linear_op *add_op(struct linear_history *history)
{
    if (history->op_count == history->op_room) {
        history->op_room = history->op_room > 0 ? 2 * history->op_room : 64;
        history->ops = names_grow(history->ops, history->op_room, sizeof(*history->ops));
    }
    return &history->ops[history->op_count++];
}

static bool is_empty(const char *text)
{
    return text == NULL || *text == '\0';
}

const char *linear_invoke(struct linear_history *history, const char *process,
                          const struct linear_call *call, uint64_t place)
{
    if (is_empty(process))
        return "a process needs a name";
    if (is_empty(call->key))
        return "an operation needs a key";
    uint32_t name = names_add(&history->names, process);
    size_t *open = open_slot(history, name);
    if (*open != 0)
        return "the process has an operation open";

    bool has_value = call->kind != LINEAR_GET && call->kind != LINEAR_DELETE;
    bool can_expire = call->kind == LINEAR_SET || call->kind == LINEAR_CAS;
    struct linear_op *op = add_op(history);
    *op = (struct linear_op){
        .kind = call->kind,
        .outcome = LINEAR_UNKNOWN,
        .expires = can_expire && call->expires,
        .process = name,
        .key = names_add(&history->names, call->key),
        .value = names_add(&history->names, has_value ? call->value : NULL),
        .old_value =
            names_add(&history->names, call->kind == LINEAR_CAS_VALUE ? call->old_value : NULL),
        .expected = call->kind == LINEAR_CAS ? call->version : 0,
        .invoked = add_event(history, place),
        .returned = LINEAR_NEVER,
        .id = history->op_count - 1,
    };
    *open = history->op_count;
    history->open_count++;
    return NULL;
}

/* Which operations can come back with which outcome; failed and unknown all can. */
static bool can_return(enum linear_kind kind, enum linear_outcome outcome)
{
    enum {
        GET = 1 << LINEAR_GET,
        SET = 1 << LINEAR_SET,
        CAS = 1 << LINEAR_CAS,
        DELETE = 1 << LINEAR_DELETE,
        CAS_VALUE = 1 << LINEAR_CAS_VALUE,
        APPEND = 1 << LINEAR_APPEND,
        ANY = GET | SET | CAS | DELETE | CAS_VALUE | APPEND,
    };
    static const int kinds[] = {
        [LINEAR_VALUE] = GET,
        [LINEAR_NONE] = GET | CAS | DELETE,
        [LINEAR_VERSION] = SET | CAS | CAS_VALUE | APPEND,
        [LINEAR_DIFFERS] = CAS,
        [LINEAR_DELETED] = DELETE,
        [LINEAR_DONE] = SET | CAS | CAS_VALUE | APPEND,
        [LINEAR_FAILED] = ANY,
        [LINEAR_UNKNOWN] = ANY,
    };
    return (kinds[outcome] >> kind & 1) != 0;
}

const char *linear_return(struct linear_history *history, const char *process,
                          const struct linear_result *result, uint64_t place)
{
    uint32_t name = names_find(&history->names, process);
    if (name == 0 || name == UINT32_MAX || *open_slot(history, name) == 0)
        return "the process has no operation open";
    size_t *open = open_slot(history, name);
    struct linear_op *op = &history->ops[*open - 1];
    if (!can_return(op->kind, result->outcome))
        return "the operation cannot return that";
    bool tells = result->outcome == LINEAR_VERSION || result->outcome == LINEAR_DIFFERS;
    if (tells && result->version == 0)
        return "versions are greater than 0";

    op->outcome = result->outcome;
    if (result->outcome == LINEAR_VALUE)
        op->got = names_add(&history->names, result->value);
    if (tells || op->got != 0)
        op->version = result->version;
    op->returned = add_event(history, place);
    *open = 0;
    history->open_count--;
    return NULL;
}

/* -- Checking --------------------------------------------------------------------------------------- */

/* The operations of a key, in the array of all. */
struct range {
    size_t begin, end;
    bool is_decided;
};

struct check {
    const struct linear_history *history;
    struct linear_op *ops;
    size_t op_count;
    struct range *ranges;
    size_t range_count;
    struct linear_report *report;
};

static bool says_something(const struct linear_op *op)
{
    if (op->outcome == LINEAR_FAILED)
        return false;
    return op->kind != LINEAR_GET || op->outcome != LINEAR_UNKNOWN;
}

static int compare_ops(const void *left, const void *right)
{
    const struct linear_op *a = left, *b = right;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    if (a->invoked != b->invoked)
        return a->invoked < b->invoked ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static void copy_ops(struct check *check)
{
    const struct linear_history *history = check->history;
    check->ops = names_grow(NULL, history->op_count, sizeof(*check->ops));
    for (size_t i = 0; i < history->op_count; i++) {
        if (!says_something(&history->ops[i]))
            continue;
        struct linear_op *op = &check->ops[check->op_count++];
        *op = history->ops[i];
        if (op->outcome == LINEAR_UNKNOWN)
            op->returned = LINEAR_NEVER;
    }
    qsort(check->ops, check->op_count, sizeof(*check->ops), compare_ops);
}

static void find_ranges(struct check *check)
{
    check->ranges = names_grow(NULL, check->op_count, sizeof(*check->ranges));
    for (size_t i = 0; i < check->op_count; i++) {
        if (i == 0 || check->ops[i].key != check->ops[i - 1].key)
            check->ranges[check->range_count++] = (struct range){ .begin = i };
        check->ranges[check->range_count - 1].end = i + 1;
    }
}

static void report_key(struct check *check, enum linear_verdict verdict, uint32_t key)
{
    check->report->verdict = verdict;
    check->report->key = names_text(&check->history->names, key);
}

/* Returns whether the walk over the keys is over: a violation was found. */
static bool search_range(struct check *check, struct range *range,
                         const struct linear_search_limits *limits)
{
    const struct linear_op *ops = check->ops + range->begin;
    struct linear_search_result result;
    enum linear_verdict verdict =
        linear_search(&check->history->names, ops, range->end - range->begin, limits, &result);
    check->report->step_count += result.step_count;
    range->is_decided = verdict != LINEAR_UNDECIDED;
    if (verdict == LINEAR_VIOLATION) {
        report_key(check, verdict, ops[0].key);
        check->report->placed_count = result.placed_count;
        check->report->words = linear_violation_words(check->history, ops, &result);
    }
    linear_search_result_release(&result);
    return verdict == LINEAR_VIOLATION;
}

/* All keys with few steps each; then the ones that need more, with what time is left for them. */
static void search_ranges(struct check *check, const struct linear_limits *limits)
{
    uint64_t step_count_max = limits->step_count_max > 0 ? limits->step_count_max : UINT64_MAX;
    uint64_t time_ms = limits->time_ms_max > 0 ? limits->time_ms_max : LINEAR_TIME_MS_MAX_DEFAULT;
    uint64_t now = linear_now_ns();
    uint64_t deadline =
        time_ms < (UINT64_MAX - now) / 1000000 ? now + time_ms * 1000000 : UINT64_MAX;
    struct linear_search_limits first = { deadline, FIRST_ROUND_STEPS_MAX };
    if (step_count_max < first.step_count_max)
        first.step_count_max = step_count_max;

    size_t open_count = 0;
    for (size_t i = 0; i < check->range_count; i++) {
        if (search_range(check, &check->ranges[i], &first))
            return;
        open_count += !check->ranges[i].is_decided;
    }
    for (size_t i = 0; i < check->range_count; i++) {
        if (check->ranges[i].is_decided)
            continue;
        now = linear_now_ns();
        uint64_t share = now < deadline ? (deadline - now) / open_count-- : 0;
        struct linear_search_limits second = { now + share, step_count_max };
        if (search_range(check, &check->ranges[i], &second))
            return;
        if (!check->ranges[i].is_decided && check->report->verdict == LINEAR_OK)
            report_key(check, LINEAR_UNDECIDED, check->ops[check->ranges[i].begin].key);
    }
}

static char *undecided_words(const struct linear_report *report)
{
    const char *format = "  a limit was reached after %" PRIu64 " steps\n";
    int size = snprintf(NULL, 0, format, report->step_count) + 1;
    char *words = names_grow(NULL, (size_t)size, 1);
    (void)snprintf(words, (size_t)size, format, report->step_count);
    return words;
}

enum linear_verdict linear_check(const struct linear_history *history,
                                 const struct linear_limits *limits, struct linear_report *report)
{
    static const struct linear_limits no_limits = { 0 };
    struct check check = { .history = history, .report = report };
    *report = (struct linear_report){ .verdict = LINEAR_OK };
    copy_ops(&check);

    uint32_t key = 0;
    report->words = linear_learn(history, check.ops, check.op_count, &key);
    if (report->words != NULL) {
        report_key(&check, LINEAR_VIOLATION, key);
    } else {
        qsort(check.ops, check.op_count, sizeof(*check.ops), compare_ops); /* times have changed */
        find_ranges(&check);
        search_ranges(&check, limits != NULL ? limits : &no_limits);
    }
    if (report->verdict == LINEAR_UNDECIDED)
        report->words = undecided_words(report);
    if (report->words == NULL)
        report->words = memcpy(names_grow(NULL, 1, 1), "", 1);
    free(check.ops);
    free(check.ranges);
    return report->verdict;
}

void linear_report_release(struct linear_report *report)
{
    free(report->words);
    *report = (struct linear_report){ 0 };
}

const char *linear_verdict_name(enum linear_verdict verdict)
{
    switch (verdict) {
    case LINEAR_OK:
        return "linearizable";
    case LINEAR_VIOLATION:
        return "violation";
    case LINEAR_UNDECIDED:
        return "undecided";
    }
    return "unknown";
}
