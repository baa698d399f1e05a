/* One node as the spawner sees it: a process that is started, logs into a pipe, and ends. What
 * to do about its end is spawner.c's decision. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "spawner/lines.h"
#include "spawner/output.h"

enum child_state {
    CHILD_RUNNING, /* has a pid */
    CHILD_WAITING, /* to be started at `restart_ms` */
    CHILD_ENDED,   /* for good */
};

struct child {
    uint32_t id;
    enum child_state state;
    pid_t pid;
    int log_fd; /* of its stdout and stderr, non-blocking; -1: closed */
    struct lines lines;
    struct output *output;
    uint64_t started_ms, restart_ms;
    uint32_t backoff_ms; /* the wait before this run; 0: the first */
    /* How the last run ended. */
    bool was_started;
    int code;        /* if it was not: -errno */
    int wait_status; /* if it was */
};

void child_init(struct child *child, uint32_t id, struct output *output);

/* Run `<server> --config <config_file> <id>`. Returns false, with `code` set, if the system
 * refuses; in both cases the outcome of the run before is forgotten. */
bool child_start(struct child *child, const char *server, const char *config_file, uint64_t now_ms);

/* Pass on what the node has logged; closes the pipe at its end. */
void child_read_log(struct child *child);

/* Whether the running child has ended: then the rest of its log is passed on, and it has no pid any
 * more. Does not block. */
bool child_reap(struct child *child);

bool child_ended_well(const struct child *child);
/* Exit code of the last run, or -1 if it ended in another way. */
int child_exit_code(const struct child *child);
/* "exited with code 1", "was ended by signal 9 (Killed)", "cannot be started: <reason>". */
void child_describe_end(const struct child *child, char *text, size_t size);
