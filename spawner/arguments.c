#include "spawner/arguments.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define WORD_MAX 80 /* of the command line, quoted in a message */

const char arguments_help[] =
    "Usage: server-spawner [OPTION]...\n"
    "Run every node of a raftkv cluster on this machine, each as a process of its own, until\n"
    "SIGTERM or SIGINT. Their logs go to stderr, each line with its node's id before it.\n"
    "A node that dies is started again, after 100 ms that double to 5 s in a crash loop, unless "
    "its\n"
    "exit code is 2: then a restart would not help.\n"
    "\n"
    "  --config FILE   the cluster (default: " ARGUMENTS_CONFIG_FILE ")\n"
    "  --server PATH   the server program (default: raftkv-server in the spawner's folder,\n"
    "                  or else in ../server beside it)\n"
    "  --no-restart    do not start again what dies\n"
    "  --list          only read FILE, and print a line for each node: id, host, client port,\n"
    "                  log port\n"
    "  --help          print this and exit\n"
    "\n"
    "Exit codes: 0 all nodes stopped as asked, 1 some did not, 2 nothing was started.\n";

/* If `word` is the option `name`: true, with `value` what stands behind a '=' in it, or NULL. */
static bool is_option(const char *word, const char *name, const char **value)
{
    size_t size = strlen(name);

    if (strncmp(word, name, size) != 0 || (word[size] != '\0' && word[size] != '='))
        return false;
    *value = word[size] == '=' ? word + size + 1 : NULL;
    return true;
}

/* Options with a value; `next` moves on if the value is the next word. */
static int parse_value(const char *name, const char *value, char *const **next, const char **result,
                       struct error *error)
{
    if (!value && **next)
        value = *(*next)++;
    if (!value || *value == '\0')
        return error_set(error, -EINVAL, "%s needs a value behind it (see --help)", name);
    *result = value;
    return 0;
}

static int parse_word(const char *word, char *const **next, struct arguments *arguments,
                      struct error *error)
{
    const char *value;

    if (is_option(word, "--config", &value))
        return parse_value("--config", value, next, &arguments->config_file, error);
    if (is_option(word, "--server", &value))
        return parse_value("--server", value, next, &arguments->server, error);
    if (strcmp(word, "--no-restart") == 0)
        arguments->may_restart = false;
    else if (strcmp(word, "--list") == 0)
        arguments->action = ARGUMENTS_LIST;
    else if (strcmp(word, "--help") == 0)
        arguments->action = ARGUMENTS_HELP;
    else
        return error_set(error, -EINVAL, "%s '%.*s' (see --help)",
                         word[0] == '-' ? "unknown option" : "there is no use for", WORD_MAX, word);
    return 0;
}

int arguments_parse(int argc, char *const *argv, struct arguments *arguments, struct error *error)
{
    struct arguments parsed = { .config_file = ARGUMENTS_CONFIG_FILE, .may_restart = true };
    char *const *next = argv + (argc > 0 ? 1 : 0); /* argv ends with NULL */

    while (*next && parsed.action != ARGUMENTS_HELP) {
        const char *word = *next++;
        int code = parse_word(word, &next, &parsed, error);
        if (code < 0)
            return code;
    }
    *arguments = parsed;
    return 0;
}
