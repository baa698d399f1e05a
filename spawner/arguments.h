/* The command line of server-spawner, as a pure function: words in, a struct or one clear line
 * out. */
#pragma once

#include <stdbool.h>

#include "server/error.h"

#define ARGUMENTS_CONFIG_FILE "./server.json" /* if --config does not say otherwise */

enum arguments_action { ARGUMENTS_RUN, ARGUMENTS_LIST, ARGUMENTS_HELP };

struct arguments {
    enum arguments_action action;
    const char *config_file; /* borrowed from argv */
    const char *server;      /* borrowed from argv; NULL: the one beside the spawner */
    bool may_restart;
};

/* argv[0] is skipped. Returns 0, or -EINVAL with one line in `error` and `arguments` untouched. */
int arguments_parse(int argc, char *const *argv, struct arguments *arguments, struct error *error);

extern const char arguments_help[];
