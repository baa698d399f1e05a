/* The parts of the spawner that need no process: waits, lines, command line. What it does to
 * processes is in spawner_test.py. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spawner/arguments.h"
#include "spawner/backoff.h"
#include "spawner/lines.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* -- How long to wait -------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t previous_ms;
    uint64_t lived_ms;
    uint32_t expected;
} waits[] = {
    { "the first crash", 0, 0, 100 },
    { "the first crash after a long life", 0, 1000000, 100 },
    { "the second", 100, 5, 200 },
    { "the third", 200, 5, 400 },
    { "the last doubling", 2499, 5, 4998 },
    { "the cap", 3200, 5, 5000 },
    { "beyond the cap", 5000, 5, 5000 },
    { "a life just too short to forget", 5000, 9999, 5000 },
    { "a life long enough to forget", 5000, 10000, 100 },
};

START_TEST(a_crash_loop_slows_down_and_a_long_life_forgets_it)
{
    uint32_t got = backoff_next_ms(waits[_i].previous_ms, waits[_i].lived_ms);
    ck_assert_msg(got == waits[_i].expected, "%s: got %" PRIu32, waits[_i].name, got);
}
END_TEST

/* -- Lines ------------------------------------------------------------------------------------- */

#define COLLECTED_MAX 65536

struct collected {
    char text[COLLECTED_MAX];
    size_t size;
    size_t longest;
};

static void collect(void *context, const char *line, size_t size)
{
    struct collected *collected = context;

    ck_assert_uint_le(size, LINES_BYTES_MAX);
    ck_assert_int_eq(line[size - 1], '\n');
    ck_assert_uint_le(collected->size + size, sizeof collected->text);
    memcpy(collected->text + collected->size, line, size);
    collected->size += size;
    collected->longest = size > collected->longest ? size : collected->longest;
}

static const struct {
    const char *name, *pieces[5], *expected;
} lines_rows[] = {
    { "nothing", { NULL }, "" },
    { "a line", { "one\n" }, "[7] one\n" },
    { "two lines at once", { "one\ntwo\n" }, "[7] one\n[7] two\n" },
    { "a line in pieces", { "o", "n", "e", "\n" }, "[7] one\n" },
    { "an end and a start", { "one\ntw", "o\n" }, "[7] one\n[7] two\n" },
    { "empty lines", { "\n\n" }, "[7] \n[7] \n" },
    { "a line without its end", { "one\ntwo" }, "[7] one\n[7] two\n" },
    { "a return is no end", { "a\rb\n" }, "[7] a\rb\n" },
};

START_TEST(every_line_gets_the_id_before_it)
{
    static struct collected collected;
    struct lines lines;

    collected.size = 0;
    lines_init(&lines, 7, collect, &collected);
    for (int i = 0; lines_rows[_i].pieces[i]; i++)
        lines_feed(&lines, lines_rows[_i].pieces[i], strlen(lines_rows[_i].pieces[i]));
    lines_end(&lines);
    lines_end(&lines); /* a second end adds nothing */
    ck_assert_msg(collected.size == strlen(lines_rows[_i].expected) &&
                      memcmp(collected.text, lines_rows[_i].expected, collected.size) == 0,
                  "%s: got '%.*s'", lines_rows[_i].name, (int)collected.size, collected.text);
}
END_TEST

/* A line of every length around the buffer's, in pieces of every size: no byte is lost, and the
 * pieces can be told from lines. */
START_TEST(a_long_line_goes_out_in_marked_pieces)
{
    static char line[2 * LINES_BYTES_MAX + 100];
    static struct collected collected;
    const size_t piece_sizes[] = { 1, 7, 4096, sizeof line };
    const size_t prefix_size = strlen("[2147483647] ");
    const size_t room = LINES_BYTES_MAX - prefix_size - 1;
    const size_t sizes[] = { room - 1, room, room + 1, 2 * room - 1, 2 * room, 2 * room + 1 };

    memset(line, 'x', sizeof line);
    for (int s = 0; s < COUNT(sizes); s++) {
        size_t size = sizes[s];
        struct lines lines;
        collected.size = 0;
        collected.longest = 0;
        lines_init(&lines, 2147483647, collect, &collected);
        for (size_t at = 0, part; at < size; at += part) {
            part = piece_sizes[_i] < size - at ? piece_sizes[_i] : size - at;
            lines_feed(&lines, line + at, part);
        }
        lines_feed(&lines, "\nnext\n", 6);

        size_t pieces = (size + room - 1) / room;
        ck_assert_uint_eq(collected.size,
                          size + pieces * (prefix_size + 1) + strlen("[2147483647] next\n"));
        ck_assert_int_eq(memcmp(collected.text, "[2147483647] x", prefix_size + 1), 0);
        for (size_t i = 1; i < pieces; i++)
            ck_assert_int_eq(
                memcmp(collected.text + i * LINES_BYTES_MAX, "[2147483647]+x", prefix_size + 1), 0);
        ck_assert_int_eq(memcmp(collected.text + collected.size - 18, "[2147483647] next\n", 18),
                         0);
    }
    ck_assert_uint_eq(collected.longest, LINES_BYTES_MAX);
}
END_TEST

/* -- The command line -------------------------------------------------------------------------- */

#define WORDS_MAX 6

static const struct {
    const char *name;
    char *words[WORDS_MAX + 1];
    enum arguments_action action;
    const char *config_file, *server;
    bool may_restart;
} good[] = {
    { "nothing", { NULL }, ARGUMENTS_RUN, "./server.json", NULL, true },
    { "a file", { "--config", "a" }, ARGUMENTS_RUN, "a", NULL, true },
    { "a file behind =", { "--config=a=b" }, ARGUMENTS_RUN, "a=b", NULL, true },
    { "a server", { "--server", "/s" }, ARGUMENTS_RUN, "./server.json", "/s", true },
    { "no restart", { "--no-restart" }, ARGUMENTS_RUN, "./server.json", NULL, false },
    { "a list", { "--list", "--config", "a" }, ARGUMENTS_LIST, "a", NULL, true },
    { "help before a mistake",
      { "--help", "--what" },
      ARGUMENTS_HELP,
      "./server.json",
      NULL,
      true },
};

static const struct {
    const char *name;
    char *words[WORDS_MAX + 1];
    const char *expected;
} bad[] = {
    { "an unknown option", { "--colour" }, "unknown option '--colour' (see --help)" },
    { "a word", { "0" }, "there is no use for '0' (see --help)" },
    { "an empty word", { "" }, "there is no use for '' (see --help)" },
    { "no file", { "--config" }, "--config needs a value behind it (see --help)" },
    { "an empty file", { "--config", "" }, "--config needs a value behind it (see --help)" },
    { "no server", { "--server=" }, "--server needs a value behind it (see --help)" },
    { "a value too many", { "--no-restart=1" }, "unknown option '--no-restart=1' (see --help)" },
    { "--", { "--" }, "unknown option '--' (see --help)" },
};

static int parse(char *const *words, struct arguments *arguments, struct error *error)
{
    static char program[] = "server-spawner";
    char *argv[WORDS_MAX + 2] = { program };
    int argc = 1;

    for (; words[argc - 1]; argc++)
        argv[argc] = words[argc - 1];
    return arguments_parse(argc, argv, arguments, error);
}

START_TEST(a_good_line_is_understood)
{
    struct arguments arguments;
    struct error error = { "" };
    int code = parse(good[_i].words, &arguments, &error);

    ck_assert_msg(code == 0, "%s: %s", good[_i].name, error.text);
    ck_assert_int_eq(arguments.action, good[_i].action);
    ck_assert_str_eq(arguments.config_file, good[_i].config_file);
    ck_assert_int_eq(arguments.server == NULL, good[_i].server == NULL);
    if (good[_i].server)
        ck_assert_str_eq(arguments.server, good[_i].server);
    ck_assert_int_eq(arguments.may_restart, good[_i].may_restart);
}
END_TEST

START_TEST(a_mistake_is_one_clear_line)
{
    struct arguments arguments;
    struct error error = { "" };

    ck_assert_msg(parse(bad[_i].words, &arguments, &error) < 0, "%s: accepted", bad[_i].name);
    ck_assert_msg(strcmp(error.text, bad[_i].expected) == 0, "%s: got %s", bad[_i].name,
                  error.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spawner");
    TCase *parts = tcase_create("parts");

    tcase_add_loop_test(parts, a_crash_loop_slows_down_and_a_long_life_forgets_it, 0, COUNT(waits));
    tcase_add_loop_test(parts, every_line_gets_the_id_before_it, 0, COUNT(lines_rows));
    tcase_add_loop_test(parts, a_long_line_goes_out_in_marked_pieces, 0, 4);
    tcase_add_loop_test(parts, a_good_line_is_understood, 0, COUNT(good));
    tcase_add_loop_test(parts, a_mistake_is_one_clear_line, 0, COUNT(bad));
    suite_add_tcase(suite, parts);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
