/* Runs every scenario of a directory and compares the whole outcome as text.
 *
 *     raft_scenario_test tests/unit/scenarios             each file must read as it does
 *     raft_scenario_test --rewrite tests/unit/scenarios   write down what comes out: read the diff
 *
 * The directory may also come from RAFT_SCENARIOS. A file in it cannot be forgotten: all are
 * run. */
#include <check.h>
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/raft_scenario.h"

/* The tests are given nothing but a number. */
static glob_t files;

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *copy = open_memstream(&text, &size);
    for (int byte; (byte = fgetc(file)) != EOF;)
        fputc(byte, copy);
    fclose(copy);
    fclose(file);
    return text;
}

static char *run_file(const char *path, const char *source)
{
    char *text = NULL;
    size_t size = 0;
    FILE *result = open_memstream(&text, &size);
    scenario_run(path, source, result);
    fclose(result);
    return text;
}

/* Where the two texts part, with the lines of both. */
static void tell_difference(const char *path, const char *expected, const char *got)
{
    int line = 1;
    while (*expected != '\0' && strcspn(expected, "\n") == strcspn(got, "\n") &&
           strncmp(expected, got, strcspn(got, "\n")) == 0) {
        size_t size = strcspn(got, "\n") + 1;
        if (got[size - 1] == '\0' || expected[size - 1] == '\0')
            break;
        expected += size;
        got += size;
        line++;
    }
    fprintf(stderr, "%s:%d:\n  written: %.*s\n  comes:   %.*s\n", path, line,
            (int)strcspn(expected, "\n"), expected, (int)strcspn(got, "\n"), got);
}

START_TEST(scenario_comes_out_as_written)
{
    const char *path = files.gl_pathv[_i];
    char *source = read_file(path);
    ck_assert_ptr_nonnull(source);
    char *result = run_file(path, source);
    bool same = strcmp(source, result) == 0;
    if (!same)
        tell_difference(path, source, result);
    ck_assert_msg(same, "%s does not come out as written", path);
    free(result);
    free(source);
}
END_TEST

START_TEST(there_are_scenarios)
{
    ck_assert_uint_gt(files.gl_pathc, 0);
}
END_TEST

static int rewrite(void)
{
    for (size_t i = 0; i < files.gl_pathc; i++) {
        char *source = read_file(files.gl_pathv[i]);
        char *result = source == NULL ? NULL : run_file(files.gl_pathv[i], source);
        FILE *file = result == NULL ? NULL : fopen(files.gl_pathv[i], "w");
        if (file == NULL || fputs(result, file) == EOF || fclose(file) == EOF) {
            fprintf(stderr, "cannot rewrite '%s'\n", files.gl_pathv[i]);
            return 1;
        }
        free(result);
        free(source);
    }
    printf("%zu scenarios written\n", files.gl_pathc);
    return 0;
}

static int run_all(void)
{
    Suite *suite = suite_create("raft_scenario");
    TCase *tests = tcase_create("files");
    tcase_add_test(tests, there_are_scenarios);
    tcase_add_loop_test(tests, scenario_comes_out_as_written, 0, (int)files.gl_pathc);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}

int main(int argc, char **argv)
{
    bool rewriting = argc > 1 && strcmp(argv[1], "--rewrite") == 0;
    const char *directory = argc > 1 + rewriting ? argv[1 + rewriting] : getenv("RAFT_SCENARIOS");
    if (directory == NULL) {
        fprintf(stderr, "usage: raft_scenario_test [--rewrite] <directory of scenarios>\n");
        return 2;
    }
    char pattern[4096];
    snprintf(pattern, sizeof(pattern), "%s/*.txt", directory);
    (void)glob(pattern, 0, NULL, &files); /* no file: there_are_scenarios() fails */
    int result = rewriting ? rewrite() : run_all();
    globfree(&files);
    return result;
}
