/* The words of a scenario. A line is cut into words; "…" holds blanks together; # begins a comment.
 *
 * There is one reader for both passes: each command takes its words through the functions below, and
 * does nothing in the first pass (is_check), in which every line is read once. So a mistake in the last
 * line is told before the first one has run, and what is read cannot differ from what is done. */
#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/script_state.h"

/* -- Mistakes ------------------------------------------------------------------------------------ */

bool script_mistake(struct script_run *run, const char *expected)
{
    fprintf(stderr, "%s:%d: expected %s", run->path, run->step->line, expected);
    if (run->at > 0 && run->at <= run->step->word_count)
        fprintf(stderr, ", not '%s'", run->step->words[run->at - 1]);
    fprintf(stderr, "\n");
    return false;
}

bool script_differs(struct script_run *run, const char *format, ...)
{
    va_list arguments;

    if (run->world != NULL)
        trace_print_last(run->world->trace);
    fprintf(stderr, "%s:%d: ", run->path, run->step->line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (run->world != NULL)
        fprintf(stderr, " (level %d, at %.3f s)", run->level,
                (double)timeline_now_ns(run->world->timeline) / 1e9);
    fprintf(stderr, "\n   ");
    for (int i = 0; i < run->step->word_count; i++)
        fprintf(stderr, " %s", run->step->words[i]);
    fprintf(stderr, "\n");
    return false;
}

/* -- Variables ----------------------------------------------------------------------------------- */

static struct script_variable *find_variable(struct script_run *run, const char *name, size_t size)
{
    for (int i = 0; i < run->variable_count; i++) {
        struct script_variable *variable = &run->variables[i];
        if (strlen(variable->name) == size && memcmp(variable->name, name, size) == 0)
            return variable;
    }
    return NULL;
}

bool script_bind(struct script_run *run, const char *name, const char *text)
{
    struct script_variable *variable = find_variable(run, name, strlen(name));

    if (variable == NULL) {
        if (run->variable_count == SCRIPT_VARIABLES_MAX)
            return script_mistake(run, "no more than 32 variables");
        variable = &run->variables[run->variable_count++];
    }
    snprintf(variable->name, sizeof variable->name, "%s", name);
    snprintf(variable->text, sizeof variable->text, "%s", text);
    return true;
}

bool script_bind_node(struct script_run *run, const char *name, int slot)
{
    char text[SCRIPT_NAME_MAX];

    snprintf(text, sizeof text, "%d", slot + 1);
    return script_bind(run, name, text);
}

/* False if a variable is unknown. */
static bool replace_variables(struct script_run *run, const char *from, char to[SCRIPT_WORD_MAX])
{
    size_t used = 0;

    while (*from != '\0' && used < SCRIPT_WORD_MAX - 1) {
        if (*from != '$') {
            to[used++] = *from++;
            continue;
        }
        size_t size = 0;
        while (isalnum((unsigned char)from[1 + size]))
            size++;
        const struct script_variable *variable = find_variable(run, from + 1, size);
        if (variable == NULL)
            return script_mistake(run, "a variable that an earlier line has bound");
        size_t text_size = strlen(variable->text);
        if (used + text_size >= SCRIPT_WORD_MAX)
            return script_mistake(run, "a shorter word");
        memcpy(to + used, variable->text, text_size);
        used += text_size;
        from += 1 + size;
    }
    to[used] = '\0';
    return true;
}

/* -- Words --------------------------------------------------------------------------------------- */

bool script_has_more(const struct script_run *run)
{
    return run->at < run->step->word_count;
}

const char *script_word(struct script_run *run)
{
    if (!script_has_more(run)) {
        run->at = run->step->word_count + 1; /* a mistake here names no word */
        return NULL;
    }
    const char *word = run->step->words[run->at++];
    return replace_variables(run, word, run->word) ? run->word : NULL;
}

bool script_take(struct script_run *run, const char *word)
{
    if (!script_has_more(run) || strcmp(run->step->words[run->at], word) != 0)
        return false;
    run->at++;
    return true;
}

bool script_want(struct script_run *run, const char *word)
{
    char expected[SCRIPT_WORD_MAX + 2];

    if (script_take(run, word))
        return true;
    run->at++;
    snprintf(expected, sizeof expected, "'%s'", word);
    return script_mistake(run, expected);
}

bool script_want_end(struct script_run *run)
{
    if (!script_has_more(run))
        return true;
    run->at++;
    return script_mistake(run, "the end of the line");
}

bool script_want_name(struct script_run *run, const char *what, char name[SCRIPT_NAME_MAX])
{
    const char *word = script_word(run);

    if (word == NULL || strlen(word) >= SCRIPT_NAME_MAX || !isalpha((unsigned char)word[0]))
        return script_mistake(run, what);
    snprintf(name, SCRIPT_NAME_MAX, "%.*s", SCRIPT_NAME_MAX - 1, word);
    return true;
}

bool script_want_number(struct script_run *run, uint64_t *number)
{
    const char *word = script_word(run);
    char *end;

    if (word == NULL || !isdigit((unsigned char)word[0]))
        return script_mistake(run, "a number");
    *number = strtoull(word, &end, 10);
    return *end == '\0' || script_mistake(run, "a number");
}

bool script_want_time(struct script_run *run, uint64_t *ns)
{
    const struct config *config = &run->plan.config;
    const struct {
        const char *name;
        uint64_t ns;
    } units[] = { { "us", 1000 },
                  { "ms", MS_NS },
                  { "s", S_NS },
                  { "E", config->election_ms_min * MS_NS },
                  { "H", config->heartbeat_ms * MS_NS } };
    const char *word = script_word(run);
    char *end;

    if (word == NULL || !isdigit((unsigned char)word[0]))
        return script_mistake(run, "a time, such as 300ms, 2s, 1.5E or 3H");
    double count = strtod(word, &end);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        *ns = (uint64_t)(count * (double)units[i].ns);
        return true;
    }
    return script_mistake(run, "a time, such as 300ms, 2s, 1.5E or 3H");
}

bool script_want_node(struct script_run *run, int *slot)
{
    const char *word = script_word(run);
    char *end;

    if (word == NULL)
        return script_mistake(run, "a node");
    uint64_t id = strtoull(word, &end, 10);
    if (end == word || *end != '\0' || id < 1 || id > (uint64_t)run->node_count)
        return script_mistake(run, "a node, by its number or a variable");
    *slot = (int)id - 1;
    return true;
}

bool script_want_nodes(struct script_run *run, uint32_t *nodes)
{
    int slot;

    *nodes = 0;
    if (script_take(run, "all")) {
        *nodes = (UINT32_C(1) << run->node_count) - 1;
        return true;
    }
    do {
        if (!script_want_node(run, &slot))
            return false;
        *nodes |= UINT32_C(1) << slot;
    } while (script_has_more(run) && strcmp(run->step->words[run->at], "within") != 0);
    return true;
}

bool script_want_limit(struct script_run *run, uint64_t default_ns, uint64_t *ns)
{
    *ns = default_ns;
    if (!script_has_more(run))
        return true;
    return script_want(run, "within") && script_want_time(run, ns) && script_want_end(run);
}

/* -- The file ------------------------------------------------------------------------------------ */

static bool refuse_line(const char *path, int line, const char *why)
{
    fprintf(stderr, "%s:%d: expected %s\n", path, line, why);
    return false;
}

/* Cuts a line into words; false, and why, where that cannot be. */
static const char *cut(const char *text, struct script_step *step)
{
    for (;;) {
        text += strspn(text, " \t\r\n");
        if (*text == '\0' || *text == '#')
            return NULL;
        bool is_quoted = *text == '"';
        text += is_quoted;
        size_t size = strcspn(text, is_quoted ? "\"\n" : " \t\r\n");
        if (is_quoted && text[size] != '"')
            return "a closing quotation mark";
        if (step->word_count == SCRIPT_WORDS_MAX)
            return "no more than 24 words in a line";
        if (size >= SCRIPT_WORD_MAX)
            return "a word of less than 128 bytes";
        memcpy(step->words[step->word_count], text, size);
        step->words[step->word_count++][size] = '\0';
        text += size + is_quoted;
    }
}

static struct script_step *make_room(struct script_step *steps, int count)
{
    if (count % 64 != 0)
        return steps;
    steps = realloc(steps, (size_t)(count + 64) * sizeof *steps);
    if (steps == NULL)
        abort();
    return steps;
}

bool script_read(const char *path, struct script_step **steps, int *count)
{
    char text[1024];
    const char *why = NULL;
    FILE *file = fopen(path, "r");

    *steps = NULL;
    *count = 0;
    if (file == NULL)
        return refuse_line(path, 0, "a file that can be read");
    for (int line = 1; why == NULL && fgets(text, sizeof text, file) != NULL; line++) {
        *steps = make_room(*steps, *count);
        struct script_step *step = &(*steps)[*count];
        *step = (struct script_step){ .line = line };
        why = cut(text, step);
        if (why != NULL)
            (void)refuse_line(path, line, why);
        *count += step->word_count > 0;
    }
    fclose(file);
    return why == NULL;
}
