/* The command line of raftkv-server, as a pure function: words in, a struct or one clear line out.
 *
 *     struct options options;
 *     if (options_parse(argc, argv, &options, &error) < 0)
 *         print "raftkv-server: <error>", exit OPTIONS_EXIT_USAGE
 *
 * Options and the id may come in any order; of an option given twice the last counts; "--" ends the
 * options. --help and --version win over all that follows them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/error.h"
#include "server/logger.h"

#define OPTIONS_CONFIG_FILE "./server.json" /* if --config does not say otherwise */
#define OPTIONS_EXIT_USAGE 2

enum options_action {
    OPTIONS_RUN,          /* `id` is set */
    OPTIONS_CHECK_CONFIG, /* read the file; if an id was given, it must be in it */
    OPTIONS_HELP,         /* print options_help to stdout, exit 0 */
    OPTIONS_VERSION,      /* print the version to stdout, exit 0 */
};

struct options {
    enum options_action action;
    const char *config_file; /* borrowed from argv */
    bool has_id;
    uint32_t id; /* 0 to 2^31 - 1 */
    bool has_log_level;
    enum logger_level log_level; /* instead of the file's */
};

/* argv[0] is skipped. Returns 0, or -EINVAL with one line in `error` and `options` untouched. */
int options_parse(int argc, char *const *argv, struct options *options, struct error *error);

extern const char options_help[];
