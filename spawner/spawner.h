/* The watch over the nodes: starts them, starts again what dies, and stops them all. */
#pragma once

#include <stdbool.h>

#include "server/config.h"
#include "server/error.h"
#include "server/os/os.h"

/* How long a node may take to stop before it is killed. */
#define SPAWNER_STOP_MS 10000

#define SPAWNER_EXIT_OK 0      /* every node has ended with exit code 0 */
#define SPAWNER_EXIT_FAILED 1  /* some have not */
#define SPAWNER_EXIT_REFUSED 2 /* nothing was started: command line, configuration, no server */

struct spawner_options {
    const struct config *config;
    const char *server; /* the program to run */
    bool may_restart;
};

/* Runs until all nodes have ended for good. Returns SPAWNER_EXIT_OK or _FAILED, or a negative
 * code with `error` set if it cannot begin. */
int spawner_run(struct os *os, const struct spawner_options *options, struct error *error);
