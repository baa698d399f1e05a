#include "server/error.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

START_TEST(messages_are_written_prefixed_and_explained)
{
    struct error error;
    ck_assert_int_eq(error_set(&error, -7, "cannot open %d", 5), -7);
    ck_assert_str_eq(error.text, "cannot open 5");
    ck_assert_int_eq(error_prefix(&error, -8, "node %d", 2), -8);
    ck_assert_str_eq(error.text, "node 2: cannot open 5");
    ck_assert_int_eq(error_set_errno(&error, -ENOENT, "cannot open '%s'", "x"), -ENOENT);
    ck_assert_str_eq(error.text, "cannot open 'x': No such file or directory");
}
END_TEST

START_TEST(long_messages_are_cut_and_stay_strings)
{
    static const char unit[] = "0123456789";
    char text[2 * ERROR_TEXT_MAX];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = unit[i % 10];
    text[sizeof text - 1] = '\0';
    struct error error;
    (void)error_set(&error, -1, "%s", text);
    ck_assert_uint_eq(strlen(error.text), ERROR_TEXT_MAX - 1);
    (void)error_set_errno(&error, -EIO, "%s", text);
    ck_assert_uint_eq(strlen(error.text), ERROR_TEXT_MAX - 1);
    (void)error_prefix(&error, -1, "before");
    ck_assert_uint_eq(strlen(error.text), ERROR_TEXT_MAX - 1);
    ck_assert_int_eq(strncmp(error.text, "before: 0123", 12), 0);
    (void)error_prefix(&error, -1, "%s", text);
    ck_assert_uint_eq(strlen(error.text), ERROR_TEXT_MAX - 1);
}
END_TEST

START_TEST(nobody_has_to_ask_for_the_message)
{
    ck_assert_int_eq(error_set(NULL, -7, "x"), -7);
    ck_assert_int_eq(error_set_errno(NULL, -7, "x"), -7);
    ck_assert_int_eq(error_prefix(NULL, -7, "x"), -7);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("error");
    TCase *tcase = tcase_create("error");
    tcase_add_test(tcase, messages_are_written_prefixed_and_explained);
    tcase_add_test(tcase, long_messages_are_cut_and_stay_strings);
    tcase_add_test(tcase, nobody_has_to_ask_for_the_message);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
