/* raftkv-sim: whole clusters under simulation, from seeds. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/mutant.h"
#include "tests/sim/runner.h"
#include "tests/sim/script.h"

#define USAGE_EXIT 2

static const char *const help =
    "Usage: raftkv-sim [OPTION...] [SCRIPT...]\n"
    "\n"
    "Runs clusters of real nodes over a simulated system: clock, network, disk, chance. A seed\n"
    "decides everything. Ends with 0 if every run held all rules, 1 at the first that did not,\n"
    "with the seed, the rule, the last events and the command that repeats it.\n"
    "\n"
    "  --seed N          one run, in this process\n"
    "  --seeds A..B      all of these seeds\n"
    "  --for SECONDS     fresh seeds for so long, from --base on\n"
    "  --base N          the first fresh seed (default: from the clock; it is printed)\n"
    "  --level L         1: core and store; 2: with the log on a disk; 3: the whole node\n"
    "                    (default: all; 3 with --seed)\n"
    "  --faults LIST     these classes of faults only, comma-separated; 'none'; --list-faults\n"
    "  --nodes N         at most so many nodes\n"
    "  --millis N        faults for at most so many simulated milliseconds\n"
    "  --mutant NAME     with this bug planted; needs a build with -Dmutants=true; --list-mutants\n"
    "  --trace           with --seed or a script: print every transition\n"
    "  --history FILE    with --seed: write what the clients saw, for histcheck\n"
    "  --summary         print runs, simulated time, faults by role, cells of the state table\n"
    "  --hashes          print a hash of each run: equal seeds, equal hashes\n"
    "  --jobs N          processes (default: one for each processor)\n"
    "  --no-shrink       do not look for a smaller run that fails in the same way\n"
    "\n"
    "SCRIPT is a scenario as text (tests/sim/scenarios/): who fails when, and what must hold.\n";

struct command {
    struct runner_options runner;
    bool has_seed, has_seeds, summary, trace, list_faults, list_mutants;
    const char *history;
    char **scripts;
    int script_count;
};

static int refuse(const char *option, const char *why)
{
    fprintf(stderr, "raftkv-sim: %s: %s (raftkv-sim --help)\n", option, why);
    return USAGE_EXIT;
}

static bool parse_number(const char *text, uint64_t *number)
{
    char *end;

    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] != '-';
}

static bool parse_range(const char *text, uint64_t *first, uint64_t *last)
{
    char from[32];
    const char *dots = strstr(text, "..");

    if (dots == NULL || (size_t)(dots - text) >= sizeof from)
        return false;
    snprintf(from, sizeof from, "%.*s", (int)(dots - text), text);
    return parse_number(from, first) && parse_number(dots + 2, last) && *first <= *last;
}

/* An option that takes a number; NULL, or why it is refused. */
static const char *take_number(struct command *command, const char *option, const char *value)
{
    struct runner_options *runner = &command->runner;
    uint64_t number;

    if (!parse_number(value, &number))
        return "expected a number";
    if (strcmp(option, "--seed") == 0) {
        command->has_seed = true;
        runner->seed_first = runner->seed_last = number;
    } else if (strcmp(option, "--for") == 0) {
        runner->seconds = number;
    } else if (strcmp(option, "--base") == 0) {
        runner->seed_first = number;
    } else if (strcmp(option, "--level") == 0) {
        if (number < 1 || number > 3)
            return "expected 1, 2 or 3";
        runner->level = (int)number;
    } else if (strcmp(option, "--nodes") == 0) {
        if (number < 1 || number > RAFT_VOTERS_MAX)
            return "expected 1 to 9";
        runner->limits.node_count_max = (int)number;
    } else if (strcmp(option, "--millis") == 0) {
        runner->limits.duration_ms = number;
    } else {
        runner->jobs = (int)(number > 64 ? 64 : number);
    }
    return NULL;
}

static const char *take_value(struct command *command, const char *option, const char *value)
{
    struct runner_options *runner = &command->runner;

    if (strcmp(option, "--seeds") == 0) {
        command->has_seeds = true;
        return parse_range(value, &runner->seed_first, &runner->seed_last)
                   ? NULL
                   : "expected A..B, two numbers";
    }
    if (strcmp(option, "--faults") == 0) {
        runner->limits.has_faults = true;
        return plan_parse_faults(value, &runner->limits.faults)
                   ? NULL
                   : "expected names of faults, comma-separated (--list-faults)";
    }
    if (strcmp(option, "--history") == 0) {
        command->history = value;
        return NULL;
    }
    if (strcmp(option, "--mutant") == 0) {
        runner->mutant = value;
        return mutant_choose(value) ? NULL : "not in this build (-Dmutants=true, --list-mutants)";
    }
    return take_number(command, option, value);
}

static bool take_flag(struct command *command, const char *option)
{
    static const struct {
        const char *name;
        size_t offset;
    } flags[] = {
        { "--summary", offsetof(struct command, summary) },
        { "--trace", offsetof(struct command, trace) },
        { "--list-faults", offsetof(struct command, list_faults) },
        { "--list-mutants", offsetof(struct command, list_mutants) },
        { "--hashes", offsetof(struct command, runner.print_hashes) },
    };

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(option, flags[i].name) != 0)
            continue;
        *(bool *)((char *)command + flags[i].offset) = true;
        return true;
    }
    if (strcmp(option, "--no-shrink") == 0)
        command->runner.shrink = false;
    return strcmp(option, "--no-shrink") == 0;
}

static bool takes_value(const char *option)
{
    static const char *const names[] = { "--seed",  "--seeds",  "--for",    "--base",
                                         "--level", "--faults", "--nodes",  "--millis",
                                         "--jobs",  "--mutant", "--history" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(option, names[i]) == 0)
            return true;
    return false;
}

static int parse(int argc, char **argv, struct command *command)
{
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (take_flag(command, argv[i]))
            continue;
        if (!takes_value(argv[i]))
            return refuse(argv[i], "unknown option");
        if (i + 1 == argc)
            return refuse(argv[i], "needs a value behind it");
        const char *why = take_value(command, argv[i], argv[i + 1]);
        if (why != NULL)
            return refuse(argv[i], why);
        i++;
    }
    command->scripts = argv + i;
    command->script_count = argc - i;
    return 0;
}

static int run_here(const struct command *command)
{
    const struct runner_options *runner = &command->runner;
    struct world_options options = { .print = command->trace, .history_path = command->history };
    struct run_result result;
    struct plan plan;

    plan_draw(&plan, runner->seed_first, runner->level == 0 ? 3 : runner->level, &runner->limits);
    world_run(&plan, &options, &result);
    printf("seed %" PRIu64 " level %d: all rules held; %d nodes, %.1f simulated s, %" PRIu64
           " events, %" PRIu64 " entries, hash %016" PRIx64 "\n",
           result.seed, result.level, result.node_count, (double)result.simulated_ns / 1e9,
           result.events, result.oracle.committed, result.trace_hash);
    return 0;
}

static int run_many(struct command *command)
{
    struct runner_options *runner = &command->runner;
    struct runner_sums sums;

    if (runner->seconds != 0) {
        runner->seed_last = UINT64_MAX;
        printf("base seed %" PRIu64 "\n", runner->seed_first);
    }
    int code = runner_run(runner, &sums);
    if (code < 0)
        return refuse("processes", strerror(-code));
    if (code == 0 && command->summary && !runner_print_summary(&sums, runner->level))
        fprintf(stderr, "raftkv-sim: some faults or cells were never met: run longer\n");
    if (code == 0)
        printf("%" PRIu64 " runs, all rules held\n", sums.runs[1] + sums.runs[2] + sums.runs[3]);
    else
        printf("caught by %s after %.1f s\n", sums.rule, (double)sums.failure_ns / 1e9);
    return code;
}

static int run_scripts(const struct command *command)
{
    int failed = 0;

    for (int i = 0; i < command->script_count; i++)
        failed |= script_run(command->scripts[i], command->trace);
    return failed;
}

static int list(const struct command *command)
{
    for (int i = 0; i < FAULT_COUNT && command->list_faults; i++)
        printf("%-12s %s (levels %d to %d)\n", fault_kinds[i].name, fault_kinds[i].what,
               fault_kinds[i].level_min, fault_kinds[i].level_max);
    if (command->list_mutants)
        mutant_print_all();
    return 0;
}

/* "/somewhere/build-asan/tests/sim/raftkv-sim" -> "build-asan/tests/sim/raftkv-sim" */
static const char *from_build(const char *path)
{
    const char *last = path, *build = path;

    while ((build = strstr(build, "/build")) != NULL)
        last = ++build;
    return last;
}

int main(int argc, char **argv)
{
    struct command command = { .runner = { .program = from_build(argv[0]),
                                           .shrink = true,
                                           .jobs = (int)sysconf(_SC_NPROCESSORS_ONLN),
                                           .seed_first = (uint64_t)time(NULL) * 1000 } };

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        printf("%s", help);
        return 0;
    }
    int code = parse(argc, argv, &command);
    if (code != 0)
        return code;
    if (command.list_faults || command.list_mutants)
        return list(&command);
    if (command.script_count > 0)
        return run_scripts(&command);
    if (command.has_seed)
        return run_here(&command);
    if (!command.has_seeds && command.runner.seconds == 0)
        return refuse("what to run", "expected --seed, --seeds, --for or a script");
    return run_many(&command);
}
