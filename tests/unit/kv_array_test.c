#include "kv/array.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/unit/kv_counting_allocator.h"

/* Enough for three levels: root, pages, segments. */
#define MANY (ARRAY_SEGMENT * (ARRAY_PAGE + 2) + 7)

static void store_number(struct array *array, struct memory *memory, uint32_t number)
{
    *(uint32_t *)array_push(array, memory) = number;
}

static uint32_t number_at(const struct array *array, uint32_t i)
{
    return *(const uint32_t *)array_at(array, i);
}

/* Element i is i * 7. Not a ck_assert: those are too slow for millions of elements. */
static void expect_number(const struct array *array, uint32_t i)
{
    if (number_at(array, i) != i * 7)
        ck_abort_msg("element %u of %u is %u", i, array->count, number_at(array, i));
}

START_TEST(what_was_pushed_is_found_through_all_levels_and_back)
{
    struct counting counting = { .fill = 0xa5 };
    struct memory memory = { .allocator = counting_allocator(&counting) };
    struct array array;
    array_init(&array, sizeof(uint32_t));

    for (uint32_t i = 0; i < MANY; i++) {
        store_number(&array, &memory, i * 7);
        if (array.count != i + 1)
            ck_abort_msg("%u after push %u", array.count, i + 1);
        expect_number(&array, i);
        expect_number(&array, i / 2);
    }
    for (uint32_t i = 0; i < MANY; i++)
        expect_number(&array, i);
    for (uint32_t i = MANY; i > 0; i--) {
        expect_number(&array, i - 1);
        expect_number(&array, i / 3);
        array_pop(&array, &memory);
    }
    ck_assert_ptr_null(array.root);
    ck_assert_uint_eq(counting.blocks, 0);
    ck_assert_uint_eq(memory.bytes, 0);
}
END_TEST

START_TEST(a_count_that_wanders_over_an_edge_loses_nothing)
{
    const uint32_t page = ARRAY_SEGMENT * ARRAY_PAGE;
    const uint32_t edges[] = {
        8, 64, 128, ARRAY_SEGMENT, 2 * ARRAY_SEGMENT, page, page + ARRAY_SEGMENT
    };
    struct counting counting = { .fill = 0xa5 };
    struct memory memory = { .allocator = counting_allocator(&counting) };
    struct array array;
    array_init(&array, sizeof(uint32_t));

    while (array.count + 3 < edges[_i])
        store_number(&array, &memory, array.count);
    uint32_t random = 1;
    for (int step = 0; step < 1000; step++) {
        random = random * 1664525u + 1013904223u;
        if ((random >> 31 || array.count < edges[_i] - 3) && array.count < edges[_i] + 3)
            store_number(&array, &memory, array.count);
        else
            array_pop(&array, &memory);
        for (uint32_t i = array.count > 8 ? array.count - 8 : 0; i < array.count; i++)
            ck_assert_uint_eq(number_at(&array, i), i);
        ck_assert_uint_eq(number_at(&array, 0), 0);
        ck_assert_uint_eq(memory.bytes, counting.bytes);
    }
    array_release(&array, &memory);
    ck_assert_uint_eq(counting.blocks, 0);
}
END_TEST

START_TEST(a_push_or_pop_asks_for_a_segment_and_a_page_at_most)
{
    struct counting counting = { .fill = 0xa5 };
    struct memory memory = { .allocator = counting_allocator(&counting) };
    struct array array;
    array_init(&array, sizeof(uint32_t));
    const uint64_t most = ARRAY_SEGMENT * sizeof(uint32_t) + ARRAY_PAGE * sizeof(void *) + 1024;

    for (uint32_t i = 0; i < 2 * MANY; i++) {
        counting.bytes_asked = 0;
        if (i < MANY)
            store_number(&array, &memory, i);
        else
            array_pop(&array, &memory);
        if (counting.bytes_asked > most)
            ck_abort_msg("%u elements: %zu bytes", array.count, (size_t)counting.bytes_asked);
    }
    array_release(&array, &memory);
}
END_TEST

START_TEST(little_is_spare)
{
    struct counting counting = { .fill = 0xa5 };
    struct memory memory = { .allocator = counting_allocator(&counting) };
    struct array array;
    array_init(&array, sizeof(uint32_t));
    for (uint32_t i = 1; i <= ARRAY_SEGMENT; i++) {
        store_number(&array, &memory, i);
        uint64_t needed = i * sizeof(uint32_t);
        ck_assert_uint_ge(memory.bytes, needed);
        ck_assert_uint_lt(memory.bytes, needed + needed / 8 + 16);
    }
    array_release(&array, &memory);
}
END_TEST

START_TEST(beyond_the_end_it_stops)
{
    struct counting counting = { .fill = 0xa5 };
    struct memory memory = { .allocator = counting_allocator(&counting) };
    struct array array;
    array_init(&array, sizeof(uint32_t));
    store_number(&array, &memory, 1);
    (void)array_at(&array, 1);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("array");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, what_was_pushed_is_found_through_all_levels_and_back);
    tcase_add_loop_test(tc, a_count_that_wanders_over_an_edge_loses_nothing, 0, 7);
    tcase_add_test(tc, a_push_or_pop_asks_for_a_segment_and_a_page_at_most);
    tcase_add_test(tc, little_is_spare);
    tcase_add_test_raise_signal(tc, beyond_the_end_it_stops, SIGABRT);

    Suite *suite = suite_create("kv_array");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
