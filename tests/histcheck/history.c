#include "tests/histcheck/history.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/histcheck/names.h"

#define FIELDS_MAX 8
#define KEY_OF_REGISTER "register" /* the etcd logs have one register, and no name for it */

/* The line at hand, NUL-terminated, and what it is cut into. */
struct line {
    struct linear_history *history;
    struct history_error *error;
    uint64_t number;
    char *text;
    char *fields[FIELDS_MAX];
    size_t field_count;
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct line *line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line->error->reason, sizeof(line->error->reason), format, arguments);
    va_end(arguments);
    line->error->line = (size_t)line->number;
    return false;
}

static bool accept(struct line *line, const char *complaint)
{
    return complaint == NULL || refuse(line, "%s", complaint);
}

static bool invoke(struct line *line, const char *process, const struct linear_call *call)
{
    return accept(line, linear_invoke(line->history, process, call, line->number));
}

static bool come_back(struct line *line, const char *process, const struct linear_result *result)
{
    return accept(line, linear_return(line->history, process, result, line->number));
}

/* Cut at each of `separators`; `merge`: several count as one, and those at the ends as none. */
static bool cut(struct line *line, const char *separators, bool merge)
{
    line->field_count = 0;
    char *at = line->text;
    for (;;) {
        if (merge)
            at += strspn(at, separators);
        size_t size = strcspn(at, separators);
        if (merge && size == 0)
            return true;
        if (line->field_count == FIELDS_MAX)
            return refuse(line, "more than %d fields", FIELDS_MAX);
        line->fields[line->field_count++] = at;
        at += size;
        if (*at == '\0')
            return true;
        *at++ = '\0';
    }
}

static bool field_is(const struct line *line, size_t i, const char *word)
{
    return i < line->field_count && strcmp(line->fields[i], word) == 0;
}

static bool parse_number(struct line *line, const char *field, uint64_t *number)
{
    uint64_t sum = 0;
    for (const char *at = field; *at != '\0'; at++) {
        if (*at < '0' || *at > '9')
            return refuse(line, "'%.40s' is not a number", field);
        uint64_t digit = (uint64_t)(*at - '0');
        if (sum > (UINT64_MAX - digit) / 10)
            return refuse(line, "%.40s is too large a number", field);
        sum = 10 * sum + digit;
    }
    if (field[0] == '\0')
        return refuse(line, "a number is missing");
    *number = sum;
    return true;
}

/* -- Our own --------------------------------------------------------------------------------------- */

/* An operation or an answer of the format: its word, the fields behind it, and what it means. */
struct form {
    const char *word;
    int meaning;
    const char *fields; /* k key, v value, n version, 0 version or 0 */
    bool can_expire;    /* one more field may stand at the end: expires */
};

static const struct form calls[] = {
    { "get", LINEAR_GET, "k", false },
    { "set", LINEAR_SET, "kv", true },
    { "cas", LINEAR_CAS, "k0v", true },
    { "delete", LINEAR_DELETE, "k", false },
};

static const struct form answers[] = {
    { "value", LINEAR_VALUE, "v0", false },    { "none", LINEAR_NONE, "", false },
    { "version", LINEAR_VERSION, "n", false }, { "differs", LINEAR_DIFFERS, "n", false },
    { "deleted", LINEAR_DELETED, "", false },
};

static const struct form *find_form(const struct form *forms, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(forms[i].word, word) == 0)
            return &forms[i];
    }
    return NULL;
}

/* The fields behind the word, field 2, as the form wants them. */
static bool read_form(struct line *line, const struct form *form, struct linear_call *call)
{
    size_t wanted = 3 + strlen(form->fields);
    call->expires =
        form->can_expire && line->field_count == wanted + 1 && field_is(line, wanted, "expires");
    if (line->field_count != wanted + call->expires)
        return refuse(line, "'%s' takes %zu fields%s", form->word, strlen(form->fields),
                      form->can_expire ? ", and 'expires'" : "");
    for (size_t i = 0; form->fields[i] != '\0'; i++) {
        char *field = line->fields[3 + i];
        if (form->fields[i] == 'k') {
            call->key = field;
        } else if (form->fields[i] == 'v') {
            call->value = field;
        } else if (!parse_number(line, field, &call->version)) {
            return false;
        } else if (form->fields[i] == 'n' && call->version == 0) {
            return refuse(line, "versions are greater than 0");
        }
    }
    return true;
}

static bool own_invoke(struct line *line)
{
    const char *word = line->field_count > 2 ? line->fields[2] : "";
    const struct form *form = find_form(calls, sizeof(calls) / sizeof(calls[0]), word);
    struct linear_call call = { 0 };
    if (form == NULL)
        return refuse(line, "'invoke' of what? '%.40s' is no operation", word);
    call.kind = (enum linear_kind)form->meaning;
    return read_form(line, form, &call) && invoke(line, line->fields[0], &call);
}

static bool own_ok(struct line *line)
{
    const char *word = line->field_count > 2 ? line->fields[2] : "";
    const struct form *form = find_form(answers, sizeof(answers) / sizeof(answers[0]), word);
    struct linear_call told = { 0 };
    if (form == NULL)
        return refuse(line, "'ok' with what? '%.40s' is no answer", word);
    if (!read_form(line, form, &told))
        return false;
    struct linear_result result = { (enum linear_outcome)form->meaning, told.value, told.version };
    return come_back(line, line->fields[0], &result);
}

static bool own_end(struct line *line, enum linear_outcome outcome)
{
    if (line->field_count != 2)
        return refuse(line, "'%.40s' takes no fields", line->fields[1]);
    return come_back(line, line->fields[0], &(struct linear_result){ .outcome = outcome });
}

static bool is_printable(struct line *line)
{
    for (const char *at = line->text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~')
            return refuse(line, "byte 0x%02x is neither a space nor printable",
                          (unsigned)(unsigned char)*at);
    }
    return true;
}

static bool parse_own(struct line *line)
{
    if (line->text[0] == '#' || line->text[strspn(line->text, " ")] == '\0')
        return true;
    if (!is_printable(line) || !cut(line, " ", false))
        return false;
    for (size_t i = 0; i < line->field_count; i++) {
        if (line->fields[i][0] == '\0')
            return refuse(line, "fields are separated by single spaces");
    }
    if (field_is(line, 1, "invoke"))
        return own_invoke(line);
    if (field_is(line, 1, "ok"))
        return own_ok(line);
    if (field_is(line, 1, "fail"))
        return own_end(line, LINEAR_FAILED);
    if (field_is(line, 1, "unknown"))
        return own_end(line, LINEAR_UNKNOWN);
    return refuse(line, "'%.40s' is no event: invoke, ok, fail, unknown",
                  line->field_count > 1 ? line->fields[1] : "");
}

static bool begin_own(struct line *line)
{
    if (strcmp(line->text, "raftkv-history 1") != 0)
        return refuse(line, "the format is not 'raftkv-history 1'");
    return true;
}

/* -- etcd by Jepsen: INFO jepsen.util - 4 :invoke :cas [2 0] --------------------------------------- */

enum { ETCD_PROCESS = 3, ETCD_EVENT, ETCD_OPERATION, ETCD_ARGUMENT };

static char *nil_to_none(char *value)
{
    return strcmp(value, "nil") == 0 ? NULL : value;
}

static bool etcd_invoke(struct line *line)
{
    struct linear_call call = { .key = KEY_OF_REGISTER };
    char *argument = line->fields[ETCD_ARGUMENT];
    if (field_is(line, ETCD_OPERATION, ":read")) {
        call.kind = LINEAR_GET;
    } else if (field_is(line, ETCD_OPERATION, ":write")) {
        call.kind = LINEAR_SET;
        call.value = nil_to_none(argument);
    } else if (field_is(line, ETCD_OPERATION, ":cas")) {
        char *wanted = line->field_count == 8 ? line->fields[7] : "";
        size_t size = strlen(wanted);
        if (argument[0] != '[' || size < 2 || wanted[size - 1] != ']')
            return refuse(line, "a cas compares with [old new]");
        wanted[size - 1] = '\0';
        call.kind = LINEAR_CAS_VALUE;
        call.old_value = nil_to_none(argument + 1);
        call.value = nil_to_none(wanted);
    } else {
        return refuse(line, "'%.40s' is no operation", line->fields[ETCD_OPERATION]);
    }
    return invoke(line, line->fields[ETCD_PROCESS], &call);
}

static bool etcd_return(struct line *line)
{
    struct linear_result result = { .outcome = LINEAR_UNKNOWN };
    if (field_is(line, ETCD_EVENT, ":fail")) {
        result.outcome = LINEAR_FAILED;
    } else if (field_is(line, ETCD_EVENT, ":ok") && field_is(line, ETCD_OPERATION, ":read")) {
        result.value = nil_to_none(line->fields[ETCD_ARGUMENT]);
        result.outcome = result.value != NULL ? LINEAR_VALUE : LINEAR_NONE;
    } else if (field_is(line, ETCD_EVENT, ":ok")) {
        result.outcome = LINEAR_DONE;
    } else if (!field_is(line, ETCD_EVENT, ":info")) {
        return refuse(line, "'%.40s' is no event", line->fields[ETCD_EVENT]);
    }
    return come_back(line, line->fields[ETCD_PROCESS], &result);
}

static bool parse_etcd(struct line *line)
{
    if (!cut(line, " \t", true))
        return false;
    if (line->field_count == 0)
        return true;
    if (line->field_count <= ETCD_ARGUMENT || !field_is(line, 0, "INFO") ||
        !field_is(line, 1, "jepsen.util") || !field_is(line, 2, "-"))
        return refuse(line, "not 'INFO jepsen.util - process event operation argument'");
    return field_is(line, ETCD_EVENT, ":invoke") ? etcd_invoke(line) : etcd_return(line);
}

/* -- Maps in lines: {:process 0, :type :ok, :f :get, :key "7", :value nil} -------------------------- */

/* Cuts off what stands at `*at` up to `end`, which is taken too. */
static char *take_until(char **at, const char *end)
{
    char *found = strstr(*at, end);
    if (found == NULL)
        return NULL;
    char *taken = *at;
    *found = '\0';
    *at = found + strlen(end);
    return taken;
}

static bool take(char **at, const char *text)
{
    size_t size = strlen(text);
    if (strncmp(*at, text, size) != 0)
        return false;
    *at += size;
    return true;
}

/* The string at `*at`, without its quotes and with its escapes undone in place. */
static char *take_string(char **at)
{
    if (!take(at, "\""))
        return NULL;
    char *text = *at, *to = *at, *from = *at;
    while (*from != '"') {
        if (*from == '\\')
            from++;
        if (*from == '\0')
            return NULL;
        *to++ = *from++;
    }
    *to = '\0';
    *at = from + 1;
    return text;
}

struct kv_event {
    const char *process, *type, *operation, *key, *value;
};

static bool read_map(char *text, struct kv_event *event)
{
    char *at = text;
    if (!take(&at, "{:process ") || (event->process = take_until(&at, ", :type :")) == NULL)
        return false;
    if ((event->type = take_until(&at, ", :f :")) == NULL)
        return false;
    if ((event->operation = take_until(&at, ", :key ")) == NULL)
        return false;
    if ((event->key = take_string(&at)) == NULL || !take(&at, ", :value "))
        return false;
    event->value = NULL;
    if (!take(&at, "nil") && (event->value = take_string(&at)) == NULL)
        return false;
    return strcmp(at, "}") == 0;
}

static bool kv_invoke(struct line *line, const struct kv_event *event)
{
    static const struct form operations[] = {
        { "get", LINEAR_GET, "", false },
        { "put", LINEAR_SET, "", false },
        { "append", LINEAR_APPEND, "", false },
    };
    const struct form *form = find_form(operations, 3, event->operation);
    if (form == NULL)
        return refuse(line, "'%.40s' is no operation", event->operation);
    struct linear_call call = {
        (enum linear_kind)form->meaning, event->key, event->value, NULL, 0, false
    };
    return invoke(line, event->process, &call);
}

static bool kv_return(struct line *line, const struct kv_event *event)
{
    struct linear_result result = { .outcome = LINEAR_DONE };
    if (strcmp(event->type, "fail") == 0) {
        result.outcome = LINEAR_FAILED;
    } else if (strcmp(event->type, "info") == 0) {
        result.outcome = LINEAR_UNKNOWN;
    } else if (strcmp(event->type, "ok") != 0) {
        return refuse(line, "'%.40s' is no event", event->type);
    } else if (strcmp(event->operation, "get") == 0) {
        result.outcome = LINEAR_VALUE; /* "" is none */
        result.value = event->value;
    }
    return come_back(line, event->process, &result);
}

static bool parse_kv(struct line *line)
{
    struct kv_event event;
    if (line->text[0] == '\0')
        return true;
    if (!read_map(line->text, &event))
        return refuse(line, "not '{:process P, :type :T, :f :F, :key \"K\", :value \"V\"}'");
    return strcmp(event.type, "invoke") == 0 ? kv_invoke(line, &event) : kv_return(line, &event);
}

/* -- Lines ------------------------------------------------------------------------------------------ */

static const struct format {
    const char *first;                /* how the first line begins */
    bool (*begin)(struct line *line); /* NULL: the first line is an event */
    bool (*parse)(struct line *line);
} formats[] = {
    { "raftkv-history ", begin_own, parse_own },
    { "INFO ", NULL, parse_etcd },
    { "{:process ", NULL, parse_kv },
};

static const struct format *find_format(const char *text, size_t size)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        size_t wanted = strlen(formats[i].first);
        if (size >= wanted && memcmp(text, formats[i].first, wanted) == 0)
            return &formats[i];
    }
    return NULL;
}

static bool parse_line(struct line *line, const struct format *format, const char *text,
                       size_t size)
{
    line->number++;
    if (size > HISTORY_LINE_BYTES_MAX)
        return refuse(line, "a line of more than %d bytes", HISTORY_LINE_BYTES_MAX);
    if (memchr(text, '\0', size) != NULL)
        return refuse(line, "byte 0x00 is neither a space nor printable");
    memcpy(line->text, text, size);
    line->text[size] = '\0';
    if (line->number == 1 && format->begin != NULL)
        return format->begin(line);
    return format->parse(line);
}

bool history_parse(struct linear_history *history, const char *text, size_t size,
                   struct history_error *error)
{
    struct line line = { .history = history, .error = error };
    const struct format *format = find_format(text, size);
    if (format == NULL) {
        line.number = 1;
        return refuse(&line, "not a history: the first line is none of 'raftkv-history 1', "
                             "'INFO  jepsen.util ...' and '{:process ...}'");
    }
    line.text = names_grow(NULL, HISTORY_LINE_BYTES_MAX + 1, 1);
    bool is_fine = true;
    for (size_t at = 0; is_fine && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t line_size = end != NULL ? (size_t)(end - text) - at : size - at;
        is_fine = parse_line(&line, format, text + at, line_size);
        at += line_size + 1;
    }
    free(line.text);
    return is_fine;
}

static bool refuse_file(struct history_error *error, const char *what)
{
    error->line = 0;
    (void)snprintf(error->reason, sizeof(error->reason), "cannot read it: %s", what);
    return false;
}

bool history_read(struct linear_history *history, const char *path, struct history_error *error)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return refuse_file(error, strerror(errno));
    size_t size = 0, room = 65536;
    char *text = names_grow(NULL, room, 1);
    for (size_t got; (got = fread(text + size, 1, room - size, file)) > 0;) {
        size += got;
        if (size > HISTORY_FILE_BYTES_MAX)
            break;
        if (size == room)
            text = names_grow(text, room *= 2, 1);
    }
    int failed = ferror(file) ? errno : 0;
    (void)fclose(file);
    bool is_fine;
    if (failed != 0)
        is_fine = refuse_file(error, strerror(failed));
    else if (size > HISTORY_FILE_BYTES_MAX)
        is_fine = refuse_file(error, "it is larger than 1 GiB");
    else
        is_fine = history_parse(history, text, size, error);
    free(text);
    return is_fine;
}
