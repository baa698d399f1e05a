/* Operations and findings in words. */
#include "tests/histcheck/linear_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLACED_SHOWN_MAX 6
#define BLOCKED_SHOWN_MAX 12
#define VALUE_BYTES_SHOWN_MAX 60

/* A stream into memory; closed, it leaves its text in `*text`. */
static FILE *open_text(char **text, size_t *size)
{
    FILE *stream = open_memstream(text, size);
    if (stream == NULL) {
        fputs("histcheck: out of memory\n", stderr);
        abort();
    }
    return stream;
}

static void print_value(FILE *out, const char *value)
{
    if (value[0] == '\0') {
        fputs("(none)", out);
        return;
    }
    fprintf(out, "%.*s", VALUE_BYTES_SHOWN_MAX, value);
    if (strnlen(value, VALUE_BYTES_SHOWN_MAX + 1) > VALUE_BYTES_SHOWN_MAX)
        fputs("...", out);
}

static void print_call(FILE *out, const struct names *names, const struct linear_op *op)
{
    static const char *const verbs[] = {
        [LINEAR_GET] = "get",       [LINEAR_SET] = "set",       [LINEAR_CAS] = "cas",
        [LINEAR_DELETE] = "delete", [LINEAR_CAS_VALUE] = "cas", [LINEAR_APPEND] = "append",
    };
    fprintf(out, "%s: %s %s", names_text(names, op->process), verbs[op->kind],
            names_text(names, op->key));
    if (op->kind == LINEAR_CAS)
        fprintf(out, " version %" PRIu64, op->expected);
    if (op->kind == LINEAR_CAS_VALUE) {
        fputs(" from ", out);
        print_value(out, names_text(names, op->old_value));
    }
    if (linear_op_writes(op)) {
        fputs(" to ", out);
        print_value(out, names_text(names, op->value));
    }
    if (op->expires)
        fputs(", expires", out);
}

static void print_answer(FILE *out, const struct names *names, const struct linear_op *op)
{
    switch (op->outcome) {
    case LINEAR_VALUE:
        fputs("value ", out);
        print_value(out, names_text(names, op->got));
        if (op->version != 0)
            fprintf(out, " version %" PRIu64, op->version);
        break;
    case LINEAR_NONE:
        fputs("none", out);
        break;
    case LINEAR_VERSION:
        fprintf(out, "version %" PRIu64, op->version);
        break;
    case LINEAR_DIFFERS:
        fprintf(out, "differs, version %" PRIu64, op->version);
        break;
    case LINEAR_DELETED:
        fputs("deleted", out);
        break;
    case LINEAR_DONE:
        fputs("done", out);
        break;
    case LINEAR_FAILED:
        fputs("failed", out);
        break;
    case LINEAR_UNKNOWN:
        fputs("unknown", out);
        break;
    }
}

static void print_op(FILE *out, const struct linear_history *history, const struct linear_op *op)
{
    const struct linear_op *recorded = &history->ops[op->id];
    print_call(out, &history->names, recorded);
    fputs(" -> ", out);
    print_answer(out, &history->names, recorded);
    fprintf(out, " (at %" PRIu64, history->places[recorded->invoked]);
    if (recorded->returned != LINEAR_NEVER)
        fprintf(out, " to %" PRIu64, history->places[recorded->returned]);
    fputc(')', out);
    if (op->invoked > recorded->invoked)
        fprintf(out, "; by its version, after %" PRIu64, history->places[op->invoked]);
    if (op->returned < recorded->returned)
        fprintf(out, "; by what was seen, before %" PRIu64, history->places[op->returned]);
}

char *linear_op_words(const struct linear_history *history, const struct linear_op *op)
{
    char *text;
    size_t size;
    FILE *out = open_text(&text, &size);
    print_op(out, history, op);
    (void)fclose(out);
    return text;
}

static void print_state(FILE *out, const struct linear_search_result *result)
{
    const struct linear_state *state = &result->state;
    if (state->value == 0) {
        fprintf(out, "  then the key is absent (versions up to %" PRIu64 " are behind it)\n",
                state->version);
        return;
    }
    fputs("  then the key holds ", out);
    print_value(out, result->value);
    fprintf(out, ", version %s%" PRIu64 "%s\n", state->is_pinned ? "" : "unknown, at least ",
            state->version, state->expires ? ", and may vanish" : "");
}

char *linear_violation_words(const struct linear_history *history, const struct linear_op *ops,
                             const struct linear_search_result *result)
{
    char *text;
    size_t size;
    FILE *out = open_text(&text, &size);
    size_t first =
        result->placed_count > PLACED_SHOWN_MAX ? result->placed_count - PLACED_SHOWN_MAX : 0;
    fprintf(out, "  the longest order found has %zu operations", result->placed_count);
    fputs(result->placed_count == 0 ? "\n" : first > 0 ? ", the last of them:\n" : ":\n", out);
    for (size_t i = first; i < result->placed_count; i++) {
        fputs("    ", out);
        print_op(out, history, &ops[result->placed[i]]);
        fputc('\n', out);
    }
    print_state(out, result);
    fputs("  and none of these can be placed next:\n", out);
    for (size_t i = 0; i < result->blocked_count && i < BLOCKED_SHOWN_MAX; i++) {
        fputs("    ", out);
        print_op(out, history, &ops[result->blocked[i]]);
        fputc('\n', out);
    }
    if (result->blocked_count > BLOCKED_SHOWN_MAX)
        fprintf(out, "    and %zu more\n", result->blocked_count - BLOCKED_SHOWN_MAX);
    (void)fclose(out);
    return text;
}
