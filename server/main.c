/* raftkv-server: one node of a cluster, in the foreground. */
#include <stdio.h>
#include <stdlib.h>

#include "server/config.h"
#include "server/node.h"
#include "server/options.h"
#include "server/os/os_linux.h"

static int refuse(const char *what, const struct error *error)
{
    fprintf(stderr, "raftkv-server: %s%s\n", what, error->text);
    return NODE_EXIT_REFUSED;
}

/* Whether the file and the command line go together; 0 or an exit code. */
static int check(const struct options *options, const struct config *config)
{
    struct error error;

    if (options->has_id && config_find(config, options->id) == NULL) {
        error_set(&error, -1, "%s: Servers: no server has the Id %u", config->file, options->id);
        return refuse("", &error);
    }
    if (options->action == OPTIONS_CHECK_CONFIG)
        printf("%s: good, %d servers\n", config->file, config->server_count);
    return 0;
}

static int run(struct os *os, const struct config *config, uint32_t id)
{
    struct error error;
    int exit_code;
    struct node *node = node_new(os, config, id, &exit_code, &error);

    if (node == NULL) {
        fprintf(stderr, "raftkv-server: node %u will not start: %s\n", id, error.text);
        return exit_code;
    }
    while (node_turn(node))
        ;
    exit_code = node_exit_code(node);
    node_free(node);
    return exit_code;
}

static int serve(struct os *os, const struct options *options)
{
    struct config config; /* borrowed by the node, which does not outlive this call */
    struct error error;

    if (config_read(os, options->config_file, &config, &error) < 0)
        return refuse("", &error);
    if (options->has_log_level)
        config.log_level = options->log_level;
    int exit_code = check(options, &config);
    if (exit_code != 0 || options->action == OPTIONS_CHECK_CONFIG)
        return exit_code;
    return run(os, &config, options->id);
}

int main(int argc, char **argv)
{
    struct options options;
    struct error error;

    if (options_parse(argc, argv, &options, &error) < 0)
        return refuse("", &error);
    if (options.action == OPTIONS_HELP || options.action == OPTIONS_VERSION) {
        printf("%s", options.action == OPTIONS_HELP ? options_help
                                                    : "raftkv-server " RAFTKV_VERSION "\n");
        return 0;
    }
    struct os *os = os_linux_new();
    if (os == NULL)
        return NODE_EXIT_FAILED;
    int exit_code = serve(os, &options);
    os_linux_free(os);
    return exit_code;
}
