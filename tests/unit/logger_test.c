/* The logger over a system of its own: a clock that stands still, and a log that keeps the last line
 * or refuses it. */
#include "server/logger.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/os/os.h"

struct os {
    uint64_t wall_ms;
    bool would_block;
    int lines;
    size_t size;
    char line[LOGGER_LINE_MAX + 1];
};

uint64_t os_wall_ms(struct os *os)
{
    return os->wall_ms;
}

bool os_log(struct os *os, const char *line, size_t size)
{
    if (os->would_block)
        return false;
    ck_assert_uint_le(size, LOGGER_LINE_MAX);
    os->lines++;
    os->size = size;
    memcpy(os->line, line, size);
    os->line[size] = '\0';
    return true;
}

#define NOON 1769860800123u /* 2026-01-31T12:00:00.123Z */

START_TEST(a_line_is_logfmt)
{
    struct os os = { .wall_ms = NOON };
    struct logger logger = { .os = &os, .level = LOGGER_INFO, .node = 2 };
    logger_write(&logger, LOGGER_INFO, "became leader", "term=%" PRIu64 " last_index=%d",
                 (uint64_t)7, 12);
    ck_assert_str_eq(os.line, "ts=2026-01-31T12:00:00.123Z level=info node=2 msg=\"became leader\" "
                              "term=7 last_index=12\n");
    logger_write(&logger, LOGGER_ERROR, "stopped", NULL);
    ck_assert_str_eq(os.line, "ts=2026-01-31T12:00:00.123Z level=error node=2 msg=\"stopped\"\n");
}
END_TEST

static const struct {
    uint64_t wall_ms;
    const char *expected;
} times[] = {
    { 0, "ts=1970-01-01T00:00:00.000Z " },
    { 86399999, "ts=1970-01-01T23:59:59.999Z " },
    { 951782400000, "ts=2000-02-29T00:00:00.000Z " },
    { 951868800000, "ts=2000-03-01T00:00:00.000Z " },
    { 1609459199000, "ts=2020-12-31T23:59:59.000Z " },
    { 1609459200000, "ts=2021-01-01T00:00:00.000Z " },
    { 4107542400000, "ts=2100-03-01T00:00:00.000Z " },
};

START_TEST(time_is_a_date)
{
    struct os os = { .wall_ms = times[_i].wall_ms };
    struct logger logger = { .os = &os };
    logger_write(&logger, LOGGER_INFO, "x", NULL);
    ck_assert_msg(strncmp(os.line, times[_i].expected, strlen(times[_i].expected)) == 0,
                  "expected %s got %s", times[_i].expected, os.line);
}
END_TEST

START_TEST(lines_below_the_level_are_not_written)
{
    struct os os = { .wall_ms = NOON };
    struct logger logger = { .os = &os, .level = LOGGER_WARN };
    for (int level = 0; level < LOGGER_LEVEL_COUNT; level++)
        logger_write(&logger, (enum logger_level)level, "x", NULL);
    ck_assert_int_eq(os.lines, 2);
}
END_TEST

START_TEST(dropped_lines_are_counted_in_the_next_one)
{
    struct os os = { .wall_ms = NOON, .would_block = true };
    struct logger logger = { .os = &os, .node = 1 };
    for (int i = 0; i < 3; i++)
        logger_write(&logger, LOGGER_INFO, "lost", NULL);
    ck_assert_uint_eq(logger.dropped, 3);
    os.would_block = false;
    logger_write(&logger, LOGGER_INFO, "x", "a=1");
    ck_assert_str_eq(os.line,
                     "ts=2026-01-31T12:00:00.123Z level=info node=1 dropped=3 msg=\"x\" a=1\n");
    logger_write(&logger, LOGGER_INFO, "x", NULL);
    ck_assert_ptr_null(strstr(os.line, "dropped"));
}
END_TEST

START_TEST(a_long_line_is_cut_and_still_a_line)
{
    struct os os = { .wall_ms = NOON };
    struct logger logger = { .os = &os };
    char text[2 * LOGGER_LINE_MAX];
    for (size_t size = LOGGER_LINE_MAX - 100; size < LOGGER_LINE_MAX + 100; size++) {
        memset(text, 'x', size);
        text[size] = '\0';
        logger_write(&logger, LOGGER_INFO, "long", "a=%s b=2", text);
        ck_assert_uint_le(os.size, LOGGER_LINE_MAX);
        ck_assert_ptr_eq(strchr(os.line, '\n'), os.line + os.size - 1);
        ck_assert_uint_eq(strlen(os.line), os.size);
    }
    ck_assert_uint_ge(os.size, LOGGER_LINE_MAX - 1);
}
END_TEST

START_TEST(nobody_can_forge_a_line)
{
    struct os os = { .wall_ms = NOON };
    struct logger logger = { .os = &os };
    logger_write(&logger, LOGGER_INFO, "x", "host=%s", "a\nts=0 level=error\r\x1b[2J");
    ck_assert_ptr_eq(strchr(os.line, '\n'), os.line + os.size - 1);
    ck_assert_ptr_nonnull(strstr(os.line, "host=a?ts=0 level=error??[2J\n"));
}
END_TEST

START_TEST(quotes_hold_anything)
{
    char quoted[LOGGER_QUOTE_MAX];
    ck_assert_str_eq(logger_quote("", quoted), "\"\"");
    ck_assert_str_eq(logger_quote("plain words", quoted), "\"plain words\"");
    ck_assert_str_eq(logger_quote("a\"b\\c\n\r\t\x01\x7f\xff", quoted),
                     "\"a\\\"b\\\\c\\n\\r\\t\\x01\\x7f\\xff\"");
}
END_TEST

START_TEST(a_long_quote_is_cut_at_a_whole_character)
{
    char text[600], quoted[LOGGER_QUOTE_MAX];
    for (size_t size = 200; size < sizeof(text); size++) {
        memset(text, '\x01', size);
        memset(text, 'x', size % 7);
        text[size] = '\0';
        size_t quoted_size = strlen(logger_quote(text, quoted));
        ck_assert_uint_lt(quoted_size, LOGGER_QUOTE_MAX);
        ck_assert_str_eq(quoted + quoted_size - 8, "\\x01...\"");
    }
    memset(text, 'x', 250);
    text[250] = '\0';
    ck_assert_ptr_null(strchr(logger_quote(text, quoted), '.')); /* this much is not cut */
    ck_assert_uint_eq(strlen(quoted), 252);
}
END_TEST

START_TEST(levels_have_names)
{
    ck_assert_int_eq(logger_level_parse("debug"), LOGGER_DEBUG);
    ck_assert_int_eq(logger_level_parse("INFO"), LOGGER_INFO);
    ck_assert_int_eq(logger_level_parse("Warn"), LOGGER_WARN);
    ck_assert_int_eq(logger_level_parse("error"), LOGGER_ERROR);
    ck_assert_int_eq(logger_level_parse("err"), -1);
    ck_assert_int_eq(logger_level_parse("errors"), -1);
    ck_assert_int_eq(logger_level_parse(""), -1);
    for (int level = 0; level < LOGGER_LEVEL_COUNT; level++)
        ck_assert_int_eq(logger_level_parse(logger_level_name((enum logger_level)level)), level);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("logger");
    TCase *tcase = tcase_create("logger");
    tcase_add_test(tcase, a_line_is_logfmt);
    tcase_add_loop_test(tcase, time_is_a_date, 0, (int)(sizeof(times) / sizeof(times[0])));
    tcase_add_test(tcase, lines_below_the_level_are_not_written);
    tcase_add_test(tcase, dropped_lines_are_counted_in_the_next_one);
    tcase_add_test(tcase, a_long_line_is_cut_and_still_a_line);
    tcase_add_test(tcase, nobody_can_forge_a_line);
    tcase_add_test(tcase, quotes_hold_anything);
    tcase_add_test(tcase, a_long_quote_is_cut_at_a_whole_character);
    tcase_add_test(tcase, levels_have_names);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
