#include "server/options.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define WORD_MAX 80 /* of the command line, quoted in a message */

const char options_help[] =
    "Usage: raftkv-server [OPTION]... ID\n"
    "Run the node ID of a raftkv cluster in the foreground, until SIGTERM or SIGINT.\n"
    "\n"
    "  --config FILE   the cluster (default: " OPTIONS_CONFIG_FILE ")\n"
    "  --check-config  only read FILE, and look whether ID is in it if ID is given\n"
    "  --log-level L   debug, info, warn or error, instead of what FILE says\n"
    "  --version       print the version and exit\n"
    "  --help          print this and exit\n"
    "\n"
    "The log goes to stderr, a line an event. Exit codes: 0 stopped as asked, 1 failed in a way\n"
    "that a restart may mend, 2 refused to start: a restart would not help.\n";

/* The words that are left, and what the ones before have said. */
struct parser {
    char *const *next; /* ends with NULL */
    char *const *end;
    struct options options;
    struct error *error;
};

/* If `word` is the option `name`: true, with `value` what stands behind a '=' in it, or NULL. */
static bool is_option(const char *word, const char *name, const char **value)
{
    size_t size = strlen(name);

    if (strncmp(word, name, size) != 0 || (word[size] != '\0' && word[size] != '='))
        return false;
    *value = word[size] == '=' ? word + size + 1 : NULL;
    return true;
}

/* The value of an option that needs one: behind its '=', or the next word. */
static int take_value(struct parser *parser, const char *name, const char **value)
{
    if (!*value && parser->next < parser->end)
        *value = *parser->next++;
    if (!*value || **value == '\0')
        return error_set(parser->error, -EINVAL, "%s needs a value behind it (see --help)", name);
    return 0;
}

static int refuse_value(struct parser *parser, const char *name, const char *value)
{
    if (value)
        return error_set(parser->error, -EINVAL, "%s takes no value (see --help)", name);
    return 0;
}

static int parse_log_level(struct parser *parser, const char *value)
{
    int code = take_value(parser, "--log-level", &value);
    if (code < 0)
        return code;
    int level = logger_level_parse(value);
    if (level < 0)
        return error_set(parser->error, -EINVAL,
                         "--log-level must be debug, info, warn or error, not '%.*s'", WORD_MAX,
                         value);
    parser->options.log_level = (enum logger_level)level;
    parser->options.has_log_level = true;
    return 0;
}

static int parse_option(struct parser *parser, const char *word)
{
    const char *value;

    if (is_option(word, "--config", &value)) {
        int code = take_value(parser, "--config", &value);
        if (code == 0)
            parser->options.config_file = value;
        return code;
    }
    if (is_option(word, "--log-level", &value))
        return parse_log_level(parser, value);
    if (is_option(word, "--check-config", &value)) {
        parser->options.action = OPTIONS_CHECK_CONFIG;
        return refuse_value(parser, "--check-config", value);
    }
    if (is_option(word, "--help", &value)) {
        parser->options.action = OPTIONS_HELP;
        return refuse_value(parser, "--help", value);
    }
    if (is_option(word, "--version", &value)) {
        parser->options.action = OPTIONS_VERSION;
        return refuse_value(parser, "--version", value);
    }
    return error_set(parser->error, -EINVAL, "unknown option '%.*s' (see --help)", WORD_MAX, word);
}

static int parse_id(struct parser *parser, const char *word)
{
    uint64_t id = 0;
    size_t size = 0;

    if (parser->options.has_id)
        return error_set(parser->error, -EINVAL,
                         "one id is enough: '%.*s' is too much (see --help)", WORD_MAX, word);
    for (; word[size] >= '0' && word[size] <= '9' && id <= INT32_MAX; size++)
        id = 10 * id + (uint64_t)(word[size] - '0');
    if (size == 0 || word[size] != '\0' || id > INT32_MAX)
        return error_set(parser->error, -EINVAL,
                         "the id of a node is a number from 0 to %d, not '%.*s'", INT32_MAX,
                         WORD_MAX, word);
    parser->options.id = (uint32_t)id;
    parser->options.has_id = true;
    return 0;
}

static bool is_done(const struct parser *parser)
{
    return parser->next == parser->end || parser->options.action == OPTIONS_HELP ||
           parser->options.action == OPTIONS_VERSION;
}

static int parse_words(struct parser *parser)
{
    bool options_ended = false;

    while (!is_done(parser)) {
        const char *word = *parser->next++;
        int code = 0;
        if (options_ended || word[0] != '-')
            code = parse_id(parser, word);
        else if (strcmp(word, "--") == 0)
            options_ended = true;
        else
            code = parse_option(parser, word);
        if (code < 0)
            return code;
    }
    if (parser->options.action == OPTIONS_RUN && !parser->options.has_id)
        return error_set(parser->error, -EINVAL, "the id of the node is missing (see --help)");
    return 0;
}

/* Whatever stood on the command line. */
static void keep_one_line(struct error *error)
{
    for (char *c = error ? error->text : NULL; c && *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

int options_parse(int argc, char *const *argv, struct options *options, struct error *error)
{
    int first = argc > 0 ? 1 : 0; /* argv[0] is the program, if exec gave us one */
    struct parser parser = {
        .next = argv + first,
        .end = argv + argc,
        .options = { .action = OPTIONS_RUN, .config_file = OPTIONS_CONFIG_FILE },
        .error = error,
    };

    int code = parse_words(&parser);
    if (code < 0) {
        keep_one_line(error);
        return code;
    }
    *options = parser.options;
    return 0;
}
