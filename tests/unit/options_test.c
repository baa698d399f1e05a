/* The command line of raftkv-server. A row is the words behind the program's name. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/options.h"

#define WORDS_MAX 8
#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

static int parse(char *const *words, struct options *options, struct error *error)
{
    static char program[] = "raftkv-server";
    char *argv[WORDS_MAX + 2] = { program };
    int argc = 1;

    for (; words[argc - 1]; argc++)
        argv[argc] = words[argc - 1];
    return options_parse(argc, argv, options, error);
}

#define CONFIG OPTIONS_CONFIG_FILE
#define NO_LEVEL LOGGER_LEVEL_COUNT
#define NO_ID UINT32_MAX

static const struct {
    const char *name;
    char *words[WORDS_MAX + 1];
    enum options_action action;
    const char *config_file;
    uint32_t id;
    enum logger_level level;
} good[] = {
    { "an id", { "0" }, OPTIONS_RUN, CONFIG, 0, NO_LEVEL },
    { "the highest id", { "2147483647" }, OPTIONS_RUN, CONFIG, 2147483647, NO_LEVEL },
    { "a file", { "--config", "a.json", "1" }, OPTIONS_RUN, "a.json", 1, NO_LEVEL },
    { "a file behind =", { "--config=a=b", "1" }, OPTIONS_RUN, "a=b", 1, NO_LEVEL },
    { "a file like an option", { "--config", "--help", "1" }, OPTIONS_RUN, "--help", 1, NO_LEVEL },
    { "the id first", { "1", "--config", "a" }, OPTIONS_RUN, "a", 1, NO_LEVEL },
    { "the last of two files", { "--config=a", "--config=b", "1" }, OPTIONS_RUN, "b", 1, NO_LEVEL },
    { "a level", { "--log-level", "debug", "1" }, OPTIONS_RUN, CONFIG, 1, LOGGER_DEBUG },
    { "a level in capitals", { "--log-level=WARN", "1" }, OPTIONS_RUN, CONFIG, 1, LOGGER_WARN },
    { "-- before the id", { "--", "3" }, OPTIONS_RUN, CONFIG, 3, NO_LEVEL },
    { "check", { "--check-config", "1" }, OPTIONS_CHECK_CONFIG, CONFIG, 1, NO_LEVEL },
    { "check without an id", { "--check-config" }, OPTIONS_CHECK_CONFIG, CONFIG, NO_ID, NO_LEVEL },
    { "help", { "--help" }, OPTIONS_HELP, CONFIG, NO_ID, NO_LEVEL },
    { "help before a mistake", { "--help", "--what" }, OPTIONS_HELP, CONFIG, NO_ID, NO_LEVEL },
    { "help behind an id", { "1", "--help" }, OPTIONS_HELP, CONFIG, 1, NO_LEVEL },
    { "version", { "--version" }, OPTIONS_VERSION, CONFIG, NO_ID, NO_LEVEL },
};

START_TEST(a_good_line_is_understood)
{
    struct options options;
    struct error error = { "" };
    int code = parse(good[_i].words, &options, &error);

    ck_assert_msg(code == 0, "%s: %s", good[_i].name, error.text);
    ck_assert_msg(options.action == good[_i].action, "%s: action %d", good[_i].name,
                  (int)options.action);
    ck_assert_msg(strcmp(options.config_file, good[_i].config_file) == 0, "%s: file %s",
                  good[_i].name, options.config_file);
    ck_assert_msg(options.has_id == (good[_i].id != NO_ID), "%s: has_id", good[_i].name);
    if (options.has_id)
        ck_assert_msg(options.id == good[_i].id, "%s: id %" PRIu32, good[_i].name, options.id);
    ck_assert_msg(options.has_log_level == (good[_i].level != NO_LEVEL), "%s: has_log_level",
                  good[_i].name);
    if (options.has_log_level)
        ck_assert_msg(options.log_level == good[_i].level, "%s: level %d", good[_i].name,
                      (int)options.log_level);
}
END_TEST

#define ID_RANGE "the id of a node is a number from 0 to 2147483647, not "

static const struct {
    const char *name;
    char *words[WORDS_MAX + 1];
    const char *expected;
} bad[] = {
    { "nothing", { NULL }, "the id of the node is missing (see --help)" },
    { "options only", { "--config", "a" }, "the id of the node is missing (see --help)" },
    { "-- only", { "--" }, "the id of the node is missing (see --help)" },
    { "two ids", { "1", "2" }, "one id is enough: '2' is too much (see --help)" },
    { "a word", { "one" }, ID_RANGE "'one'" },
    { "an empty word", { "" }, ID_RANGE "''" },
    { "a number and more", { "1x" }, ID_RANGE "'1x'" },
    { "half a number", { "1.5" }, ID_RANGE "'1.5'" },
    { "a plus", { "+1" }, ID_RANGE "'+1'" },
    { "a space", { " 1" }, ID_RANGE "' 1'" },
    { "2^31", { "2147483648" }, ID_RANGE "'2147483648'" },
    { "2^64", { "18446744073709551616" }, ID_RANGE "'18446744073709551616'" },
    { "below 0", { "-1" }, "unknown option '-1' (see --help)" },
    { "below 0 behind --", { "--", "-1" }, ID_RANGE "'-1'" },
    { "an unknown option", { "--colour", "1" }, "unknown option '--colour' (see --help)" },
    { "half an option", { "--conf", "a", "1" }, "unknown option '--conf' (see --help)" },
    { "an option and more", { "--configs", "a", "1" }, "unknown option '--configs' (see --help)" },
    { "a short option", { "-h" }, "unknown option '-h' (see --help)" },
    { "a dash", { "-" }, "unknown option '-' (see --help)" },
    { "a line break", { "--a\nb" }, "unknown option '--a?b' (see --help)" },
    { "no file", { "1", "--config" }, "--config needs a value behind it (see --help)" },
    { "an empty file", { "1", "--config=" }, "--config needs a value behind it (see --help)" },
    { "no level", { "1", "--log-level" }, "--log-level needs a value behind it (see --help)" },
    { "an unknown level",
      { "1", "--log-level", "loud" },
      "--log-level must be debug, info, warn or error, not 'loud'" },
    { "a value too many",
      { "--check-config=yes", "1" },
      "--check-config takes no value (see --help)" },
    { "help with a value", { "--help=me" }, "--help takes no value (see --help)" },
    { "version with a value", { "--version=1" }, "--version takes no value (see --help)" },
};

START_TEST(a_mistake_is_one_clear_line)
{
    struct options options, before;
    struct error error = { "" };

    memset(&options, 0x5a, sizeof options);
    memcpy(&before, &options, sizeof before);
    int code = parse(bad[_i].words, &options, &error);
    ck_assert_msg(code < 0, "%s: accepted", bad[_i].name);
    ck_assert_msg(strcmp(error.text, bad[_i].expected) == 0, "%s:\n     got: %s\nexpected: %s",
                  bad[_i].name, error.text, bad[_i].expected);
    ck_assert_msg(memcmp(&options, &before, sizeof before) == 0, "%s: touched", bad[_i].name);
}
END_TEST

START_TEST(a_program_without_a_name_is_no_crash)
{
    char *argv[] = { NULL };
    struct options options;
    ck_assert_int_lt(options_parse(0, argv, &options, NULL), 0);
}
END_TEST

START_TEST(the_help_names_every_option)
{
    static const char *const names[] = { "--config FILE", "--check-config", "--log-level L",
                                         "--version",     "--help",         "ID" };
    for (int i = 0; i < COUNT(names); i++)
        ck_assert_msg(strstr(options_help, names[i]) != NULL, "%s", names[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("options");
    TCase *lines = tcase_create("lines");

    tcase_add_loop_test(lines, a_good_line_is_understood, 0, COUNT(good));
    tcase_add_loop_test(lines, a_mistake_is_one_clear_line, 0, COUNT(bad));
    tcase_add_test(lines, a_program_without_a_name_is_no_crash);
    tcase_add_test(lines, the_help_names_every_option);
    suite_add_tcase(suite, lines);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
