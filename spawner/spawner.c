/* One loop around poll(): signals come in by a descriptor, log lines by a pipe a node, and the
 * time of the next restart is poll's timeout. Nothing in it blocks for longer than
 * OUTPUT_PATIENCE_MS.
 *
 * A node's end                                  what is done about it
 *   with exit code 2                            nothing: it says that a restart would not help
 *   while the spawner stops, or --no-restart    nothing
 *   in any other way, exit code 0 included      it is started again, after a while (backoff.h)
 *
 * Nodes stay in the spawner's process group. So Ctrl-C in a terminal reaches them twice, from
 * the terminal and from here: a node that is stopping takes no notice of a second request. It
 * also means that whoever kills the group leaves nothing behind. Of a spawner that dies alone
 * the nodes take no notice at all: their log has no reader then, and they drop its lines. */
#include "spawner/spawner.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "spawner/backoff.h"
#include "spawner/child.h"

#define NS_PER_MS 1000000u
#define END_TEXT_MAX 128

struct spawner {
    struct os *os;
    const struct spawner_options *options;
    struct output output;
    int signal_fd;
    int child_count;
    struct child children[CONFIG_SERVERS_MAX];
    bool is_stopping;
    uint64_t kill_ms; /* while stopping: when patience ends; UINT64_MAX: it has */
};

static uint64_t now_ms(const struct spawner *spawner)
{
    return os_now_ns(spawner->os) / NS_PER_MS;
}

/* -- One node's end ---------------------------------------------------------------------------- */

static void end_for_good(struct spawner *spawner, struct child *child, const char *why)
{
    char end[END_TEXT_MAX];

    child->state = CHILD_ENDED;
    child_describe_end(child, end, sizeof end);
    output_say(&spawner->output, "node %" PRIu32 " %s%s", child->id, end, why);
}

static void restart_later(struct spawner *spawner, struct child *child)
{
    char end[END_TEXT_MAX];
    uint64_t now = now_ms(spawner), lived_ms = now - child->started_ms;

    child->state = CHILD_WAITING;
    child->backoff_ms = backoff_next_ms(child->backoff_ms, lived_ms);
    child->restart_ms = now + child->backoff_ms;
    child_describe_end(child, end, sizeof end);
    output_say(&spawner->output,
               "node %" PRIu32 " %s after %" PRIu64 ".%03" PRIu64
               " s; it is started again in %" PRIu32 " ms",
               child->id, end, lived_ms / 1000, lived_ms % 1000, child->backoff_ms);
}

static void on_end(struct spawner *spawner, struct child *child)
{
    if (spawner->is_stopping)
        end_for_good(spawner, child, "");
    else if (child_exit_code(child) == 2)
        end_for_good(spawner, child,
                     ": it will not start (its own message is above); giving up on it");
    else if (!spawner->options->may_restart)
        end_for_good(spawner, child, "; it is not started again (--no-restart)");
    else
        restart_later(spawner, child);
}

static void start(struct spawner *spawner, struct child *child)
{
    const struct spawner_options *options = spawner->options;

    if (child_start(child, options->server, options->config->file, now_ms(spawner)))
        output_say(&spawner->output, "node %" PRIu32 " started, pid %ld", child->id,
                   (long)child->pid);
    else
        on_end(spawner, child);
}

/* -- Stopping ---------------------------------------------------------------------------------- */

static void signal_all(const struct spawner *spawner, int number)
{
    for (int i = 0; i < spawner->child_count; i++)
        if (spawner->children[i].state == CHILD_RUNNING)
            (void)kill(spawner->children[i].pid, number); /* ours, and not reaped: it exists */
}

static void stop(struct spawner *spawner, int number)
{
    if (spawner->is_stopping)
        return;
    spawner->is_stopping = true;
    spawner->kill_ms = now_ms(spawner) + SPAWNER_STOP_MS;
    output_say(&spawner->output, "stopping all nodes");
    signal_all(spawner, number == SIGHUP ? SIGTERM : number);
    for (int i = 0; i < spawner->child_count; i++)
        if (spawner->children[i].state == CHILD_WAITING)
            spawner->children[i].state = CHILD_ENDED;
}

static void kill_the_rest(struct spawner *spawner)
{
    spawner->kill_ms = UINT64_MAX;
    for (int i = 0; i < spawner->child_count; i++)
        if (spawner->children[i].state == CHILD_RUNNING)
            output_say(&spawner->output, "node %" PRIu32 " has not stopped within %d s: killing it",
                       spawner->children[i].id, SPAWNER_STOP_MS / 1000);
    signal_all(spawner, SIGKILL);
}

/* -- The loop ---------------------------------------------------------------------------------- */

static void on_signals(struct spawner *spawner)
{
    struct signalfd_siginfo info;
    ssize_t size = read(spawner->signal_fd, &info, sizeof info);

    /* One of a kind may stand for several, so SIGCHLD says no more than: look. */
    if (size == (ssize_t)sizeof info && info.ssi_signo != SIGCHLD)
        stop(spawner, (int)info.ssi_signo);
    for (int i = 0; i < spawner->child_count; i++) {
        struct child *child = &spawner->children[i];
        if (child->state == CHILD_RUNNING && child_reap(child))
            on_end(spawner, child);
    }
}

static void on_time(struct spawner *spawner)
{
    uint64_t now = now_ms(spawner);

    if (spawner->is_stopping && now >= spawner->kill_ms)
        kill_the_rest(spawner);
    for (int i = 0; i < spawner->child_count; i++) {
        struct child *child = &spawner->children[i];
        if (child->state == CHILD_WAITING && now >= child->restart_ms)
            start(spawner, child);
    }
}

/* For poll(): -1 if nothing but a descriptor can wake us. */
static int timeout_ms(const struct spawner *spawner)
{
    uint64_t next = spawner->is_stopping ? spawner->kill_ms : UINT64_MAX;
    uint64_t now = now_ms(spawner);

    for (int i = 0; i < spawner->child_count; i++)
        if (spawner->children[i].state == CHILD_WAITING && spawner->children[i].restart_ms < next)
            next = spawner->children[i].restart_ms;
    if (next == UINT64_MAX)
        return -1;
    return next > now ? (int)(next - now) : 0; /* at most SPAWNER_STOP_MS */
}

static void turn(struct spawner *spawner)
{
    struct pollfd ready[CONFIG_SERVERS_MAX + 1];
    int count = spawner->child_count;

    for (int i = 0; i < count; i++) /* poll() passes over a negative descriptor */
        ready[i] = (struct pollfd){ .fd = spawner->children[i].log_fd, .events = POLLIN };
    ready[count] = (struct pollfd){ .fd = spawner->signal_fd, .events = POLLIN };
    if (poll(ready, (nfds_t)count + 1, timeout_ms(spawner)) < 0)
        return; /* only a signal that is not ours can do that: look again */
    for (int i = 0; i < count; i++)
        if (ready[i].revents != 0)
            child_read_log(&spawner->children[i]);
    if (ready[count].revents != 0)
        on_signals(spawner);
    on_time(spawner);
}

static bool is_over(const struct spawner *spawner)
{
    for (int i = 0; i < spawner->child_count; i++)
        if (spawner->children[i].state != CHILD_ENDED)
            return false;
    return true;
}

static int sum_up(struct spawner *spawner)
{
    int failed = 0;

    for (int i = 0; i < spawner->child_count; i++)
        failed += !child_ended_well(&spawner->children[i]);
    if (failed > 0)
        output_say(&spawner->output, "all nodes have ended, %d of %d not as they should", failed,
                   spawner->child_count);
    else
        output_say(&spawner->output, "all nodes have stopped");
    return failed > 0 ? SPAWNER_EXIT_FAILED : SPAWNER_EXIT_OK;
}

/* -- Start ------------------------------------------------------------------------------------- */

/* Signals wait in a descriptor. A hang-up is a request to stop, unless nohup has said that it is
 * none. */
static int open_signals(void)
{
    sigset_t set;
    struct sigaction on_hangup;

    (void)signal(SIGPIPE, SIG_IGN); /* output.c deals with a reader that has gone */
    (void)signal(SIGCHLD, SIG_DFL); /* inherited as ignored, it would hide how nodes end */
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigaction(SIGHUP, NULL, &on_hangup) == 0 && on_hangup.sa_handler != SIG_IGN)
        sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int spawner_run(struct os *os, const struct spawner_options *options, struct error *error)
{
    const struct config *config = options->config;
    struct spawner spawner = { .os = os, .options = options, .output.fd = STDERR_FILENO };

    spawner.signal_fd = open_signals();
    if (spawner.signal_fd < 0)
        return error_set_errno(error, spawner.signal_fd, "cannot wait for signals");
    for (; spawner.child_count < config->server_count; spawner.child_count++)
        child_init(&spawner.children[spawner.child_count], config->servers[spawner.child_count].id,
                   &spawner.output);
    while (!is_over(&spawner)) {
        on_time(&spawner);
        turn(&spawner);
    }
    (void)close(spawner.signal_fd); /* nothing is written to it */
    return sum_up(&spawner);
}
