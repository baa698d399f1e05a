/* The clients' history: for tests/histcheck, which knows nothing of Raft and judges what clients saw
 * and nothing else. It is a cross-check of oracle_client.c, which knows the order of the log.
 *
 * A process of the history has one operation open at a time, and a client may have several. So each
 * operation gets the lowest process that is free, and gives it back with its outcome; one without an
 * outcome keeps it for ever. Values are the numbers of the operations that wrote them. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/histcheck/linear.h"
#include "tests/sim/oracle_state.h"

/* The same answer on any machine: a key that needs more stays undecided. */
#define STEPS_MAX 2000000

struct processes {
    uint64_t *of_op; /* by op number; owned */
    uint64_t *free;  /* owned */
    size_t free_count, free_capacity;
    uint64_t count;
};

static void processes_init(struct processes *processes, const struct oracle *oracle)
{
    *processes = (struct processes){ 0 };
    processes->of_op = calloc(oracle->asked_count + 1, sizeof *processes->of_op);
    if (processes->of_op == NULL)
        abort();
}

static void processes_release(struct processes *processes)
{
    free(processes->of_op);
    free(processes->free);
}

static uint64_t take_process(struct processes *processes, uint64_t number)
{
    uint64_t process =
        processes->free_count > 0 ? processes->free[--processes->free_count] : ++processes->count;
    processes->of_op[number] = process;
    return process;
}

static uint64_t give_back(struct processes *processes, uint64_t number)
{
    processes->free = oracle_grow(processes->free, processes->free_count, &processes->free_capacity,
                                  sizeof *processes->free);
    processes->free[processes->free_count++] = processes->of_op[number];
    return processes->of_op[number];
}

/* -- As text ------------------------------------------------------------------------------------- */

static void write_invoke(FILE *file, uint64_t process, const struct op *op)
{
    const char *expires = op->ttl_s > 0 ? " expires" : "";

    (void)fprintf(file, "%" PRIu64 " invoke ", process);
    switch (op->type) {
    case OP_GET:
    case OP_GETM:
        (void)fprintf(file, "get %s\n", op->key);
        break;
    case OP_SET:
        (void)fprintf(file, "set %s %" PRIu64 "%s\n", op->key, op->number, expires);
        break;
    case OP_CAS:
        (void)fprintf(file, "cas %s %" PRIu64 " %" PRIu64 "%s\n", op->key, op->compare, op->number,
                      expires);
        break;
    case OP_DELETE:
        (void)fprintf(file, "delete %s\n", op->key);
        break;
    }
}

static void write_return(FILE *file, uint64_t process, const struct outcome *outcome)
{
    (void)fprintf(file, "%" PRIu64 " ", process);
    switch (outcome->type) {
    case OUTCOME_VALUE:
        (void)fprintf(file, "ok value %" PRIu64 " %" PRIu64 "\n", outcome->written_by,
                      outcome->version);
        break;
    case OUTCOME_NONE:
        (void)fputs("ok none\n", file);
        break;
    case OUTCOME_STORED:
        (void)fprintf(file, "ok version %" PRIu64 "\n", outcome->version);
        break;
    case OUTCOME_DELETED:
        (void)fputs("ok deleted\n", file);
        break;
    case OUTCOME_DIFFERS:
        (void)fprintf(file, "ok differs %" PRIu64 "\n", outcome->version);
        break;
    case OUTCOME_REFUSED:
        (void)fputs("fail\n", file);
        break;
    case OUTCOME_UNKNOWN:
        (void)fputs("unknown\n", file);
        break;
    }
}

void oracle_write_history(const struct oracle *oracle, const char *path)
{
    struct processes processes;
    FILE *file = fopen(path, "w");

    if (file == NULL) {
        (void)fprintf(stderr, "cannot write the history to '%s'\n", path);
        return;
    }
    processes_init(&processes, oracle);
    (void)fputs("raftkv-history 1\n", file);
    for (size_t i = 0; i < oracle->event_count; i++) {
        uint64_t number = oracle->events[i] / 2;
        const struct asked *asked = &oracle->asked[number];
        if (oracle->events[i] % 2 == 0)
            write_invoke(file, take_process(&processes, number), &asked->op);
        else
            write_return(file, give_back(&processes, number), &asked->outcome);
    }
    processes_release(&processes);
    if (fclose(file) != 0)
        (void)fprintf(stderr, "cannot write the history to '%s'\n", path);
}

/* -- Judged -------------------------------------------------------------------------------------- */

#define NUMBER_TEXT_MAX 24

static const char *number_text(uint64_t number, char text[NUMBER_TEXT_MAX])
{
    (void)snprintf(text, NUMBER_TEXT_MAX, "%" PRIu64, number);
    return text;
}

static const char *tell_invoke(struct linear_history *history, const char *process,
                               const struct op *op, uint64_t place)
{
    static const enum linear_kind kinds[] = { [OP_GET] = LINEAR_GET,
                                              [OP_GETM] = LINEAR_GET,
                                              [OP_SET] = LINEAR_SET,
                                              [OP_CAS] = LINEAR_CAS,
                                              [OP_DELETE] = LINEAR_DELETE };
    bool writes = op->type == OP_SET || op->type == OP_CAS;
    char value[NUMBER_TEXT_MAX];
    struct linear_call call = {
        .kind = kinds[op->type],
        .key = op->key,
        .value = writes ? number_text(op->number, value) : NULL,
        .version = op->type == OP_CAS ? op->compare : 0,
        .expires = writes && op->ttl_s > 0,
    };

    return linear_invoke(history, process, &call, place);
}

static const char *tell_return(struct linear_history *history, const char *process,
                               const struct outcome *outcome, uint64_t place)
{
    static const enum linear_outcome outcomes[] = {
        [OUTCOME_VALUE] = LINEAR_VALUE,     [OUTCOME_NONE] = LINEAR_NONE,
        [OUTCOME_STORED] = LINEAR_VERSION,  [OUTCOME_DELETED] = LINEAR_DELETED,
        [OUTCOME_DIFFERS] = LINEAR_DIFFERS, [OUTCOME_REFUSED] = LINEAR_FAILED,
        [OUTCOME_UNKNOWN] = LINEAR_UNKNOWN,
    };
    char value[NUMBER_TEXT_MAX];
    struct linear_result result = {
        .outcome = outcomes[outcome->type],
        .value = outcome->type == OUTCOME_VALUE ? number_text(outcome->written_by, value) : NULL,
        .version = outcome->version,
    };

    return linear_return(history, process, &result, place);
}

static struct linear_history *tell_all(const struct oracle *oracle)
{
    struct linear_history *history = linear_history_new();
    struct processes processes;

    processes_init(&processes, oracle);
    for (size_t i = 0; i < oracle->event_count; i++) {
        uint64_t number = oracle->events[i] / 2;
        const struct asked *asked = &oracle->asked[number];
        bool begins = oracle->events[i] % 2 == 0;
        char process[NUMBER_TEXT_MAX];
        number_text(begins ? take_process(&processes, number) : give_back(&processes, number),
                    process);
        const char *wrong = begins ? tell_invoke(history, process, &asked->op, i)
                                   : tell_return(history, process, &asked->outcome, i);
        if (wrong != NULL)
            trace_fail(oracle->options.trace, "history", "event %zu of op %" PRIu64 ": %s", i,
                       number, wrong);
    }
    processes_release(&processes);
    return history;
}

void oracle_check_history(struct oracle *oracle)
{
    const struct linear_limits limits = { .step_count_max = STEPS_MAX };
    struct linear_report report;
    struct memory *before = memory_enter(NULL);
    struct linear_history *history = tell_all(oracle);

    enum linear_verdict verdict = linear_check(history, &limits, &report);
    if (verdict != LINEAR_OK)
        trace_fail(oracle->options.trace, verdict == LINEAR_VIOLATION ? "S16" : "history",
                   "the history of the clients is judged a %s:\n%s", linear_verdict_name(verdict),
                   report.words);
    linear_report_release(&report);
    linear_history_free(history);
    memory_enter(before);
}
