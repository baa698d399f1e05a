/* server-spawner: every node of server.json, as processes under one watch. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config.h"
#include "server/os/os_linux.h"
#include "spawner/arguments.h"
#include "spawner/spawner.h"

/* One line, whatever stood on the command line. */
static int refuse(struct error *error)
{
    for (char *c = error->text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    (void)fprintf(stderr, "server-spawner: %s\n", error->text);
    return SPAWNER_EXIT_REFUSED;
}

static bool is_program(const char *path)
{
    struct stat file;

    return stat(path, &file) == 0 && S_ISREG(file.st_mode) && access(path, X_OK) == 0;
}

/* Installed, both programs are in one folder; in a build directory each is in its own. */
static int find_server(char path[PATH_MAX], struct error *error)
{
    static const char *const places[] = { "raftkv-server", "../server/raftkv-server" };
    char folder[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (size < 0)
        return error_set_errno(error, -errno, "cannot find the folder of this program");
    folder[size] = '\0';
    *strrchr(folder, '/') = '\0'; /* the kernel gives an absolute path */

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        int full_size = snprintf(path, PATH_MAX, "%s/%s", folder, places[i]);
        if (full_size < PATH_MAX && is_program(path))
            return 0;
    }
    return error_set(error, -ENOENT,
                     "there is no program '%s' in '%s', nor '%s'; build it, or say where it is with"
                     " --server",
                     places[0], folder, places[1]);
}

static int list(const struct config *config)
{
    for (int i = 0; i < config->server_count; i++) {
        const struct config_server *server = &config->servers[i];
        (void)printf("%u %s %u %u\n", server->id, server->host, server->client_port,
                     server->log_port);
    }
    return fflush(stdout) == 0 ? SPAWNER_EXIT_OK : SPAWNER_EXIT_FAILED;
}

static int run(struct os *os, const struct arguments *arguments)
{
    char found[PATH_MAX];
    struct config config;
    struct error error;
    struct spawner_options spawner = { .config = &config,
                                       .server = arguments->server,
                                       .may_restart = arguments->may_restart };

    if (config_read(os, arguments->config_file, &config, &error) < 0)
        return refuse(&error);
    if (arguments->action == ARGUMENTS_LIST)
        return list(&config);
    if (!spawner.server) {
        if (find_server(found, &error) < 0)
            return refuse(&error);
        spawner.server = found;
    } else if (!is_program(spawner.server)) {
        (void)error_set(&error, -ENOENT, "--server: '%s' is no program that can be run",
                        spawner.server);
        return refuse(&error);
    }
    int code = spawner_run(os, &spawner, &error);
    return code < 0 ? refuse(&error) : code;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct error error;

    if (arguments_parse(argc, argv, &arguments, &error) < 0)
        return refuse(&error);
    if (arguments.action == ARGUMENTS_HELP)
        return fputs(arguments_help, stdout) < 0 || fflush(stdout) != 0;
    struct os *os = os_linux_new();
    if (!os) {
        (void)error_set_errno(&error, -ENOMEM, "cannot start");
        return refuse(&error);
    }
    int exit_code = run(os, &arguments);
    os_linux_free(os);
    return exit_code;
}
