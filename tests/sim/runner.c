#include "tests/sim/runner.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX 64
/* A run that takes longer does not end. Sanitizers on a busy machine are slow. */
#define RUN_SECONDS_MAX 300
#define WORDS_MAX 65536
#define SHRINK_SECONDS 60
#define NS_PER_S UINT64_C(1000000000)

/* What a worker writes for each run. */
struct report {
    struct run_result result;
    uint64_t real_ns;
};

struct worker {
    pid_t pid;
    int reports;             /* our end of the pipe */
    int words;               /* its stderr: a file without a name, begun anew for each run */
    volatile uint64_t *seed; /* what it is at; shared memory */
    volatile uint64_t *level;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* -- In a worker --------------------------------------------------------------------------------- */

static int words_file(void)
{
    FILE *file = tmpfile();
    return file == NULL ? -1 : fileno(file); /* open as long as the process */
}

static void run_one(uint64_t seed, int level, const struct plan_limits *limits,
                    struct report *report)
{
    static const struct world_options quiet = { 0 };
    struct plan plan;
    uint64_t began = clock_ns(CLOCK_PROCESS_CPUTIME_ID);

    alarm(RUN_SECONDS_MAX);
    plan_draw(&plan, seed, level, limits);
    world_run(&plan, &quiet, &report->result);
    alarm(0);
    report->real_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - began;
}

/* The level that has had the least of its share. */
static int next_level(const uint64_t *spent)
{
    static const uint64_t share[4] = { 0, 4, 4, 2 };
    int level = 1;

    for (int other = 2; other <= 3; other++)
        if (spent[other] / share[other] < spent[level] / share[level])
            level = other;
    return level;
}

static void run_level(struct worker *self, int out, uint64_t seed, int level,
                      const struct runner_options *options, uint64_t *spent)
{
    struct report report = { 0 };

    *self->seed = seed;
    *self->level = (uint64_t)level;
    if (ftruncate(self->words, 0) < 0 || lseek(self->words, 0, SEEK_SET) < 0)
        _exit(3);
    run_one(seed, level, &options->limits, &report);
    spent[level] += report.real_ns;
    if (write(out, &report, sizeof report) != (ssize_t)sizeof report)
        _exit(3);
}

static _Noreturn void work(struct worker *self, int out, const struct runner_options *options,
                           int number, uint64_t end_ns)
{
    uint64_t spent[4] = { 0 };
    uint64_t step = (uint64_t)options->jobs;

    if (dup2(self->words, STDERR_FILENO) < 0)
        _exit(3);
    for (uint64_t seed = options->seed_first + (uint64_t)number; seed <= options->seed_last;
         seed += step) {
        bool by_time = options->seconds != 0;
        if (by_time && clock_ns(CLOCK_MONOTONIC) >= end_ns)
            break;
        for (int level = 1; level <= 3; level++) {
            bool is_asked = options->level == 0 || options->level == level;
            if (options->level == 0 && by_time)
                is_asked = level == next_level(spent);
            if (!is_asked)
                continue;
            run_level(self, out, seed, level, options, spent);
            if (options->level == 0 && by_time)
                break;
        }
    }
    _exit(0);
}

/* -- Starting and hearing ------------------------------------------------------------------------ */

static int start_worker(struct worker *worker, const struct runner_options *options, int number,
                        uint64_t end_ns)
{
    int pipe_fds[2];

    worker->words = words_file();
    if (worker->words < 0 || pipe(pipe_fds) < 0)
        return -errno;
    fflush(NULL); /* or the child would say again what waits in our buffers */
    worker->pid = fork();
    if (worker->pid < 0)
        return -errno;
    if (worker->pid == 0) {
        close(pipe_fds[0]);
        work(worker, pipe_fds[1], options, number, end_ns);
    }
    close(pipe_fds[1]);
    worker->reports = pipe_fds[0];
    return 0;
}

static void add_up(struct runner_sums *sums, const struct report *report)
{
    const struct run_result *result = &report->result;
    int level = result->level;
    struct oracle_stats *sum = &sums->sum.oracle;

    sums->runs[level]++;
    sums->simulated_ns[level] += result->simulated_ns;
    sums->real_ns[level] += report->real_ns;
    sums->events[level] += result->events;
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        for (int role = 0; role < STRUCK_COUNT; role++)
            sums->sum.faults[fault][role] += result->faults[fault][role];
    for (int event = 0; event < RAFT_EVENT_COUNT; event++)
        for (int role = 0; role < RAFT_ROLE_COUNT; role++)
            sum->cells[event][role] += result->oracle.cells[event][role];
    sum->committed += result->oracle.committed;
    sum->invoked += result->oracle.invoked;
    sum->acked += result->oracle.acked;
    sum->refused += result->oracle.refused;
    sum->unknown += result->oracle.unknown;
    sum->elections += result->oracle.elections;
}

static bool hear(struct worker *worker, const struct runner_options *options,
                 struct runner_sums *sums)
{
    struct report report;
    ssize_t size = read(worker->reports, &report, sizeof report);

    if (size != (ssize_t)sizeof report)
        return false;
    add_up(sums, &report);
    if (options->print_hashes)
        printf("seed %" PRIu64 " level %d hash %016" PRIx64 "\n", report.result.seed,
               report.result.level, report.result.trace_hash);
    return true;
}

/* -- A failure ----------------------------------------------------------------------------------- */

/* What the dead process said last; malloc'ed. */
static char *read_words(int fd)
{
    char *words = calloc(1, WORDS_MAX + 1);
    off_t size = lseek(fd, 0, SEEK_END);

    if (words == NULL)
        abort();
    off_t from = size > WORDS_MAX ? size - WORDS_MAX : 0;
    if (pread(fd, words, WORDS_MAX, from) < 0)
        words[0] = '\0';
    return words;
}

/* The name of what caught it: a rule, the condition of an assert, or how the process ended. */
static void find_rule(const char *words, int status, char *rule, size_t size)
{
    const char *violation = strstr(words, "violation of ");
    const char *assertion = strstr(words, "Assertion `");
    const char *sanitizer = strstr(words, "runtime error: ");

    if (sanitizer == NULL)
        sanitizer = strstr(words, "ERROR: AddressSanitizer");
    if (violation != NULL)
        snprintf(rule, size, "%.*s", (int)strcspn(violation + 13, ":\n"), violation + 13);
    else if (assertion != NULL)
        snprintf(rule, size, "assert %.*s", (int)strcspn(assertion + 11, "'\n"), assertion + 11);
    else if (sanitizer != NULL)
        snprintf(rule, size, "%.*s", (int)strcspn(sanitizer, "\n"), sanitizer);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(rule, size, "a run that does not end");
    else
        snprintf(rule, size, "a process that ended with status %x", (unsigned)status);
}

static void print_command(const char *lead, uint64_t seed, int level,
                          const struct plan_limits *limits, const struct runner_options *options)
{
    char faults[512];

    fprintf(stderr, "%s%s --seed %" PRIu64 " --level %d", lead, options->program, seed, level);
    if (limits->has_faults) {
        plan_print_faults(limits->faults, faults, sizeof faults);
        fprintf(stderr, " --faults %s", faults);
    }
    if (limits->node_count_max != 0)
        fprintf(stderr, " --nodes %d", limits->node_count_max);
    if (limits->duration_ms != 0)
        fprintf(stderr, " --millis %" PRIu64, limits->duration_ms);
    if (options->mutant != NULL)
        fprintf(stderr, " --mutant %s", options->mutant);
    fprintf(stderr, "\n");
}

/* Whether the run fails in the same way under these limits. */
static bool fails_too(uint64_t seed, int level, const struct plan_limits *limits, const char *rule)
{
    char other[64];
    int words = words_file(), status;

    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0 || words < 0)
        return false;
    if (pid == 0) {
        struct report report;
        if (dup2(words, STDERR_FILENO) < 0)
            _exit(3);
        run_one(seed, level, limits, &report);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        ;
    if (status == 0) {
        close(words);
        return false;
    }
    char *said = read_words(words);
    close(words);
    find_rule(said, status, other, sizeof other);
    free(said);
    return strcmp(rule, other) == 0;
}

/* Fault classes off, one at a time; then fewer nodes; then half the time, again and again. What still
 * fails in the same way is kept. */
static void shrink(uint64_t seed, int level, const struct runner_options *options, const char *rule)
{
    const struct plan_limits *given = &options->limits;
    struct plan_limits smallest = *given;
    struct plan plan;
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + SHRINK_SECONDS * NS_PER_S;

    plan_draw(&plan, seed, level, given);
    smallest.has_faults = true;
    smallest.faults = plan.faults;
    for (int fault = 0; fault < FAULT_COUNT && clock_ns(CLOCK_MONOTONIC) < end; fault++) {
        struct plan_limits less = smallest;
        less.faults &= ~(UINT32_C(1) << fault);
        if (less.faults != smallest.faults && fails_too(seed, level, &less, rule))
            smallest = less;
    }
    for (int nodes = 1; nodes < plan.node_count && clock_ns(CLOCK_MONOTONIC) < end; nodes++) {
        struct plan_limits less = smallest;
        less.node_count_max = nodes;
        if (!fails_too(seed, level, &less, rule))
            continue;
        smallest = less;
        break;
    }
    for (uint64_t ms = plan.duration_ns / 1000000 / 2; ms > 100 && clock_ns(CLOCK_MONOTONIC) < end;
         ms /= 2) {
        struct plan_limits less = smallest;
        less.duration_ms = ms;
        if (fails_too(seed, level, &less, rule))
            smallest = less;
    }
    print_command("smaller:   ", seed, level, &smallest, options);
}

static void report_failure(const struct worker *worker, int status,
                           const struct runner_options *options, struct runner_sums *sums)
{
    char *words = read_words(worker->words);
    uint64_t seed = *worker->seed;
    int level = (int)*worker->level;

    find_rule(words, status, sums->rule, sizeof sums->rule);
    fprintf(stderr, "%s\nFAILED: seed %" PRIu64 ", level %d: %s\n", words, seed, level, sums->rule);
    free(words);
    print_command("to repeat: ", seed, level, &options->limits, options);
    if (options->shrink)
        shrink(seed, level, options, sums->rule);
}

/* -- All ----------------------------------------------------------------------------------------- */

static void end_worker(struct worker *worker, const struct runner_options *options,
                       struct runner_sums *sums, uint64_t began)
{
    int status;

    while (waitpid(worker->pid, &status, 0) < 0)
        ;
    close(worker->reports);
    worker->reports = -1;
    if (status == 0)
        return;
    if (sums->failures++ == 0) {
        sums->failure_ns = clock_ns(CLOCK_MONOTONIC) - began;
        report_failure(worker, status, options, sums);
    }
}

static void stop_all(struct worker *workers, int count)
{
    for (int i = 0; i < count; i++) {
        if (workers[i].reports < 0)
            continue;
        kill(workers[i].pid, SIGKILL);
        while (waitpid(workers[i].pid, NULL, 0) < 0)
            ;
        close(workers[i].reports);
        workers[i].reports = -1;
    }
}

static void hear_all(struct worker *workers, int count, const struct runner_options *options,
                     struct runner_sums *sums, uint64_t began)
{
    struct pollfd fds[JOBS_MAX];
    int open = count;

    while (open > 0 && sums->failures == 0) {
        for (int i = 0; i < count; i++)
            fds[i] = (struct pollfd){ .fd = workers[i].reports, .events = POLLIN };
        if (poll(fds, (nfds_t)count, -1) < 0)
            continue;
        for (int i = 0; i < count && sums->failures == 0; i++) {
            if (fds[i].revents == 0 || hear(&workers[i], options, sums))
                continue;
            end_worker(&workers[i], options, sums, began);
            open--;
        }
    }
    stop_all(workers, count);
}

int runner_run(const struct runner_options *options, struct runner_sums *sums)
{
    struct worker workers[JOBS_MAX];
    struct runner_options adjusted = *options;
    uint64_t began = clock_ns(CLOCK_MONOTONIC);
    uint64_t end_ns = began + options->seconds * NS_PER_S;

    *sums = (struct runner_sums){ 0 };
    if (adjusted.jobs < 1 || adjusted.jobs > JOBS_MAX)
        adjusted.jobs = adjusted.jobs < 1 ? 1 : JOBS_MAX;
    uint64_t seeds = options->seed_last - options->seed_first;
    if (options->seed_last != UINT64_MAX && (uint64_t)adjusted.jobs > seeds + 1)
        adjusted.jobs = (int)seeds + 1;
    size_t size = (size_t)adjusted.jobs * 2 * sizeof(uint64_t);
    volatile uint64_t *shared =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -errno;
    for (int i = 0; i < adjusted.jobs; i++) {
        workers[i] =
            (struct worker){ .reports = -1, .seed = &shared[2 * i], .level = &shared[2 * i + 1] };
        int code = start_worker(&workers[i], &adjusted, i, end_ns);
        if (code < 0) {
            stop_all(workers, i);
            return code;
        }
    }
    hear_all(workers, adjusted.jobs, &adjusted, sums, began);
    return sums->failures == 0 ? 0 : 1;
}
