/* Lines that ask: set, get, and those that begin with `begin` and end with `answer`. Each request is told
 * to the oracle and sent (script_client.c); what its answer must be stands behind the arrow. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/script_state.h"

#define ANSWER_NS (5 * S_NS)

/* -- Asking -------------------------------------------------------------------------------------- */

static struct script_request *new_request(struct script_run *run)
{
    if (run->request_count == run->request_capacity) {
        run->request_capacity = 2 * run->request_capacity + 64;
        run->requests = realloc(run->requests, run->request_capacity * sizeof *run->requests);
        if (run->requests == NULL)
            abort();
    }
    struct script_request *request = &run->requests[run->request_count++];
    *request = (struct script_request){ .fate = SCRIPT_OPEN };
    return request;
}

struct asking { /* what a line asks */
    struct script_request request;
    char connection[SCRIPT_NAME_MAX];
};

/* set KEY VALUE [bytes N] [ttl N] [on CONNECTION] at NODE; get KEY [on CONNECTION] at NODE */
static bool read_request(struct script_run *run, struct asking *asking)
{
    struct op *op = &asking->request.op;
    uint64_t number;
    bool is_set = script_take(run, "set");

    *asking = (struct asking){ .connection = "" };
    op->type = is_set ? OP_SET : OP_GET;
    op->value_size = is_set ? 40 : 0;
    if (!is_set && !script_want(run, "get"))
        return false;
    if (!script_want_name(run, "a key that begins with a letter", op->key))
        return false;
    if (is_set &&
        !script_want_name(run, "a value's name, beginning with a letter", asking->request.value))
        return false;
    if (is_set && script_take(run, "bytes")) {
        if (!script_want_number(run, &number))
            return false;
        if (number < OP_VALUE_MIN || number > 500000)
            return script_mistake(run, "24 to 500000 bytes");
        op->value_size = (uint32_t)number;
    }
    if (is_set && script_take(run, "ttl") && !script_want_number(run, &op->ttl_s))
        return false;
    if (script_take(run, "on") && !script_want_name(run, "a connection's name", asking->connection))
        return false;
    return script_want(run, "at") && script_want_node(run, &asking->request.slot);
}

static size_t ask(struct script_run *run, const struct asking *asking)
{
    struct world *world = run->world;
    struct script_request *request = new_request(run);
    size_t place = (size_t)(request - run->requests);

    *request = asking->request;
    request->op.number = sessions_reserve(world->sessions);
    request->op.client = run->plan.workload.clients;
    trace_line(world->trace, -1, "script's op %" PRIu64 " to n%d: %s %s %s", request->op.number,
               request->slot, op_type_name(request->op.type), request->op.key, request->value);
    oracle_invoked(world->oracle, &request->op);
    script_client_send(run, place, asking->connection);
    return place;
}

struct script_request *script_find_by_name(struct script_run *run, const char *name)
{
    for (size_t i = run->request_count; i > 0; i--)
        if (strcmp(run->requests[i - 1].name, name) == 0)
            return &run->requests[i - 1];
    return NULL;
}

/* -- What is expected of an answer --------------------------------------------------------------- */

static const struct script_request *find_by_value(const struct script_run *run, const char *value)
{
    for (size_t i = run->request_count; i > 0; i--)
        if (strcmp(run->requests[i - 1].value, value) == 0)
            return &run->requests[i - 1];
    return NULL;
}

/* One of the words behind ->: an outcome, a code of the text protocol, or a value's name. */
static bool answer_is(const struct script_run *run, const struct script_request *request,
                      const char *word)
{
    const struct script_request *set = find_by_value(run, word);

    if (strncmp(word, "ERR_", 4) == 0)
        return request->reply != TEXT_REPLY_PARTIAL &&
               strcmp(text_reply_name(request->reply), word) == 0;
    if (request->outcome.type == OUTCOME_VALUE && strcmp(word, "value") != 0)
        return set != NULL && set->op.number == request->outcome.written_by;
    return strcmp(outcome_type_name(request->outcome.type), word) == 0;
}

static bool is_answer(const struct script_run *run, const char *word)
{
    static const char *const words[] = { "stored", "none", "refused", "unknown", "value" };

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i], word) == 0)
            return true;
    return strncmp(word, "ERR_", 4) == 0 ? run->level == 3 : find_by_value(run, word) != NULL;
}

static bool differs(struct script_run *run, const struct script_request *request)
{
    const struct outcome *outcome = &request->outcome;

    if (request->fate == SCRIPT_OPEN)
        return script_differs(run, "no answer");
    if (request->reply != TEXT_REPLY_PARTIAL && outcome->type != OUTCOME_VALUE)
        return script_differs(run, "the answer is %s (%s)", outcome_type_name(outcome->type),
                              text_reply_name(request->reply));
    for (size_t i = 0; i < run->request_count && outcome->type == OUTCOME_VALUE; i++)
        if (run->requests[i].op.number == outcome->written_by)
            return script_differs(run, "the answer is the value %s", run->requests[i].value);
    return script_differs(run, "the answer is %s", outcome_type_name(outcome->type));
}

static bool has_ended(struct script_run *run, uint64_t place)
{
    return run->requests[place].fate == SCRIPT_ENDED;
}

/* -> WORD [or WORD]... [within TIME]; the request is `place`. */
static bool expect_answer(struct script_run *run, size_t place)
{
    char words[8][SCRIPT_WORD_MAX];
    int count = 0;
    uint64_t limit;

    if (!script_want(run, "->"))
        return false;
    do {
        const char *word = script_word(run);
        if (word == NULL || count == 8 || !is_answer(run, word))
            return script_mistake(
                run, "stored, none, refused, unknown, value, the name of a value that an "
                     "earlier line sets, or (level 3) a code such as ERR_BUSY");
        snprintf(words[count++], SCRIPT_WORD_MAX, "%s", word);
    } while (script_take(run, "or"));
    if (!script_want_limit(run, ANSWER_NS, &limit))
        return false;
    if (run->is_check)
        return true;
    (void)script_wait(run, has_ended, place, limit);
    const struct script_request *request = &run->requests[place];
    for (int i = 0; i < count && request->fate == SCRIPT_ENDED; i++)
        if (answer_is(run, request, words[i]))
            return true;
    return differs(run, request);
}

/* In the first pass requests are only names. */
static size_t take_request(struct script_run *run, const struct asking *asking)
{
    if (!run->is_check)
        return ask(run, asking);
    struct script_request *request = new_request(run);
    *request = asking->request;
    return (size_t)(request - run->requests);
}

static bool request_and_wait(struct script_run *run)
{
    struct asking asking;

    run->at = 0;
    return read_request(run, &asking) && expect_answer(run, take_request(run, &asking));
}

/* begin NAME set|get … */
static bool begin(struct script_run *run)
{
    struct asking asking;
    char name[SCRIPT_NAME_MAX];

    if (!script_want_name(run, "a name for the request", name) || !read_request(run, &asking) ||
        !script_want_end(run))
        return false;
    memcpy(asking.request.name, name, sizeof name);
    (void)take_request(run, &asking);
    return true;
}

static bool answer(struct script_run *run)
{
    char name[SCRIPT_NAME_MAX];

    if (!script_want_name(run, "the name of a request that was begun", name))
        return false;
    const struct script_request *request = script_find_by_name(run, name);
    if (request == NULL)
        return script_mistake(run, "the name of a request that was begun");
    return expect_answer(run, (size_t)(request - run->requests));
}

script_command *script_find_request(const char *word)
{
    if (strcmp(word, "set") == 0 || strcmp(word, "get") == 0)
        return request_and_wait;
    if (strcmp(word, "begin") == 0)
        return begin;
    return strcmp(word, "answer") == 0 ? answer : NULL;
}
