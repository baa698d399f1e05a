#include "spawner/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_SIZE 4096
/* Reads of one log in a row: as much as a pipe holds, so that a talkative node delays the others by
 * that at most, and what a node wrote before its end is there when its end is reported. */
#define READS_MAX 32

extern char **environ; /* POSIX leaves it to us to declare it; glibc may do so too */

static void pass_line(void *context, const char *line, size_t size)
{
    output_line(context, line, size);
}

void child_init(struct child *child, uint32_t id, struct output *output)
{
    *child = (struct child){ .id = id, .state = CHILD_WAITING, .log_fd = -1, .output = output };
    lines_init(&child->lines, id, pass_line, output);
}

static void close_log(struct child *child)
{
    lines_end(&child->lines);
    (void)close(child->log_fd); /* the reading end of a pipe: there is nothing to lose */
    child->log_fd = -1;
}

/* -- Starting -------------------------------------------------------------------------------------
 * posix_spawn() reports what went wrong in the child, up to and including exec, as its result. */

/* stdin is empty, stdout and stderr are the pipe; all else closes on exec. */
static int set_files(posix_spawn_file_actions_t *files, int log_fd)
{
    int code = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(files, log_fd, STDOUT_FILENO);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(files, log_fd, STDERR_FILENO);
    return code;
}

/* Nothing blocked, and nothing ignored because the spawner, or the shell that put it into the
 * background, ignores it. SIGHUP stays as nohup may have left it. */
static int set_signals(posix_spawnattr_t *attributes)
{
    sigset_t none, defaults;

    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    int code = posix_spawnattr_setsigmask(attributes, &none);
    if (code == 0)
        code = posix_spawnattr_setsigdefault(attributes, &defaults);
    if (code == 0)
        code = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return code;
}

static int spawn_with(const char *server, char *const *argv, int log_fd, pid_t *pid,
                      posix_spawn_file_actions_t *files, posix_spawnattr_t *attributes)
{
    int code = set_files(files, log_fd);
    if (code == 0)
        code = set_signals(attributes);
    if (code == 0)
        code = posix_spawn(pid, server, files, attributes, argv, environ);
    return code;
}

/* 0 or an errno, as posix_spawn() has it. */
static int spawn(const char *server, char *const *argv, int log_fd, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;

    int code = posix_spawn_file_actions_init(&files);
    if (code != 0)
        return code;
    code = posix_spawnattr_init(&attributes);
    if (code == 0) {
        code = spawn_with(server, argv, log_fd, pid, &files, &attributes);
        (void)posix_spawnattr_destroy(&attributes); /* frees memory: cannot fail */
    }
    (void)posix_spawn_file_actions_destroy(&files); /* likewise */
    return code;
}

/* Only the reading end does not block: the writing end is the node's, who expects nothing of it. */
static int open_pipe(int fds[2])
{
    if (pipe(fds) < 0)
        return -errno;
    if (fcntl(fds[0], F_SETFD, FD_CLOEXEC) < 0 || fcntl(fds[1], F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0) {
        int code = -errno;
        (void)close(fds[0]);
        (void)close(fds[1]);
        return code;
    }
    return 0;
}

static int start(struct child *child, const char *server, const char *config_file)
{
    char id[16], config_option[] = "--config";
    char *const argv[] = { (char *)server, config_option, (char *)config_file, id, NULL };
    int log_fds[2];

    (void)snprintf(id, sizeof id, "%" PRIu32, child->id);
    int code = open_pipe(log_fds);
    if (code < 0)
        return code;
    code = -spawn(server, argv, log_fds[1], &child->pid);
    (void)close(log_fds[1]); /* the child's now */
    if (code < 0) {
        (void)close(log_fds[0]);
        return code;
    }
    child->log_fd = log_fds[0];
    return 0;
}

bool child_start(struct child *child, const char *server, const char *config_file, uint64_t now_ms)
{
    assert(child->state == CHILD_WAITING);
    assert(child->log_fd == -1);

    child->started_ms = now_ms;
    child->code = start(child, server, config_file);
    child->was_started = child->code == 0;
    if (child->was_started)
        child->state = CHILD_RUNNING;
    return child->was_started;
}

/* -- Running ----------------------------------------------------------------------------------- */

void child_read_log(struct child *child)
{
    char bytes[READ_SIZE];

    for (int i = 0; i < READS_MAX && child->log_fd >= 0; i++) {
        ssize_t count = read(child->log_fd, bytes, sizeof bytes);
        if (count > 0)
            lines_feed(&child->lines, bytes, (size_t)count);
        else if (count < 0 && errno == EAGAIN)
            return;
        else if (count == 0 || errno != EINTR)
            close_log(child);
    }
}

/* -- Its end ----------------------------------------------------------------------------------- */

bool child_reap(struct child *child)
{
    assert(child->state == CHILD_RUNNING);

    pid_t pid = waitpid(child->pid, &child->wait_status, WNOHANG);
    if (pid != child->pid)
        return false;
    child_read_log(child);
    if (child->log_fd >= 0) /* a process that the node has left behind still holds the pipe */
        close_log(child);
    child->pid = 0;
    return true;
}

int child_exit_code(const struct child *child)
{
    bool has_exited = child->was_started && WIFEXITED(child->wait_status);
    return has_exited ? WEXITSTATUS(child->wait_status) : -1;
}

bool child_ended_well(const struct child *child)
{
    return child_exit_code(child) == 0;
}

void child_describe_end(const struct child *child, char *text, size_t size)
{
    if (!child->was_started)
        (void)snprintf(text, size, "cannot be started: %s", strerror(-child->code));
    else if (WIFSIGNALED(child->wait_status))
        (void)snprintf(text, size, "was ended by signal %d (%s)", WTERMSIG(child->wait_status),
                       strsignal(WTERMSIG(child->wait_status)));
    else
        (void)snprintf(text, size, "exited with code %d", WEXITSTATUS(child->wait_status));
}
