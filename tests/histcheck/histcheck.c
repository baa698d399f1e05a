/* histcheck: are recorded histories linearizable? See README.md beside this file. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/histcheck/history.h"
#include "tests/histcheck/linear.h"

#define TIME_LIMIT_SECONDS_MAX 1000000

enum { EXIT_LINEARIZABLE = 0, EXIT_VIOLATION = 1, EXIT_BAD = 2, EXIT_UNDECIDED = 3 };

static const char usage[] =
    "Usage: histcheck [--time-limit SECONDS] FILE...\n"
    "\n"
    "One line for each history: FILE: linearizable | violation | undecided.\n"
    "A violation is followed by its story, in which 'at 12 to 15' are lines of the file.\n"
    "The time limit is for each file; without it, it is 30 seconds.\n"
    "Exit code: 0 all are linearizable; else 1 a violation, 2 a file that is no history (or a "
    "wrong\n"
    "argument), 3 undecided: the first of these that there is.\n";

static int bad_usage(const char *what, const char *argument)
{
    fprintf(stderr, "histcheck: %s '%s'\n%s", what, argument, usage);
    return EXIT_BAD;
}

static int check_history(const char *path, const struct linear_history *history,
                         const struct linear_limits *limits)
{
    struct linear_report report;
    enum linear_verdict verdict = linear_check(history, limits, &report);
    printf("%s: %s\n", path, linear_verdict_name(verdict));
    if (verdict != LINEAR_OK)
        printf("  key %s\n%s", report.key, report.words);
    fflush(stdout);
    linear_report_release(&report);
    switch (verdict) {
    case LINEAR_OK:
        return EXIT_LINEARIZABLE;
    case LINEAR_VIOLATION:
        return EXIT_VIOLATION;
    case LINEAR_UNDECIDED:
        break;
    }
    return EXIT_UNDECIDED;
}

static int check_file(const char *path, const struct linear_limits *limits)
{
    struct linear_history *history = linear_history_new();
    struct history_error error;
    int code;
    if (history_read(history, path, &error)) {
        code = check_history(path, history, limits);
    } else {
        if (error.line > 0)
            fprintf(stderr, "%s:%zu: %s\n", path, error.line, error.reason);
        else
            fprintf(stderr, "%s: %s\n", path, error.reason);
        code = EXIT_BAD;
    }
    linear_history_free(history);
    return code;
}

/* Seconds in decimal, a fraction allowed, as milliseconds. */
static bool parse_seconds(const char *text, uint64_t *milliseconds)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    double seconds = strtod(text, &end);
    if (*end != '\0' || !(seconds > 0 && seconds <= TIME_LIMIT_SECONDS_MAX))
        return false;
    *milliseconds = (uint64_t)(seconds * 1000);
    *milliseconds += *milliseconds == 0;
    return true;
}

int main(int argc, char **argv)
{
    struct linear_limits limits = { 0 };
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(argv[at], "--time-limit") != 0)
            return bad_usage("there is no option", argv[at]);
        if (++at == argc || !parse_seconds(argv[at], &limits.time_ms_max))
            return bad_usage("--time-limit takes a number of seconds, not",
                             at < argc ? argv[at] : "");
    }
    if (at == argc)
        return bad_usage("a file is missing behind", argv[argc - 1]);

    bool found[4] = { false };
    for (; at < argc; at++)
        found[check_file(argv[at], &limits)] = true;
    for (int code = EXIT_VIOLATION; code <= EXIT_UNDECIDED; code++) {
        if (found[code])
            return code;
    }
    return EXIT_LINEARIZABLE;
}
