/* Linked with --wrap for malloc, calloc, realloc and free: what a process takes is booked, and
 * comes back whoever frees it. */
#include "tests/sim/memory.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/random.h"

/* The compiler must not know them for what they are, or it leaves them out and moves them about. */
static void *(*volatile take)(size_t size) = malloc;
static void *(*volatile take_zeros)(size_t count, size_t size) = calloc;
static void *(*volatile resize)(void *bytes, size_t size) = realloc;
static void (*volatile give)(void *bytes) = free;

START_TEST(blocks_belong_to_who_is_current)
{
    struct memory *a = memory_new(), *b = memory_new();
    ck_assert_ptr_null(memory_enter(a));
    void *of_a = take(100);
    ck_assert_ptr_eq(memory_enter(b), a);
    void *of_b = take_zeros(3, 50);
    ck_assert_ptr_eq(memory_enter(NULL), b);
    void *of_nobody = take(1000);
    ck_assert_uint_eq(memory_bytes(a), 100);
    ck_assert_uint_eq(memory_bytes(b), 150);
    ck_assert_uint_eq(memory_blocks(a), 1);

    memory_enter(b); /* free() and realloc() go by the block, not by who is current */
    give(of_a);
    give(of_nobody);
    ck_assert_uint_eq(memory_bytes(a), 0);
    ck_assert_uint_eq(memory_blocks(a), 0);
    memory_enter(a);
    of_b = resize(of_b, 400);
    ck_assert_uint_eq(memory_bytes(b), 400);
    ck_assert_uint_eq(memory_blocks(b), 1);
    ck_assert_uint_eq(memory_bytes(a), 0);
    memory_enter(NULL);
    memory_free(a);
    memory_free(b); /* and of_b */
    memory_free(NULL);
}
END_TEST

START_TEST(bytes_are_aligned_zeroed_kept)
{
    struct memory *memory = memory_new();
    memory_enter(memory);
    for (size_t size = 0; size < 300; size++) {
        uint8_t *bytes = take(size), *zeros = take_zeros(size, 1);
        ck_assert_ptr_nonnull(bytes);
        ck_assert_uint_eq((uintptr_t)bytes % 16, 0);
        ck_assert_uint_eq((uintptr_t)zeros % 16, 0);
        for (size_t i = 0; i < size; i++) {
            ck_assert_uint_eq(zeros[i], 0);
            bytes[i] = (uint8_t)i;
        }
        bytes = resize(bytes, size + 5000);
        for (size_t i = 0; i < size; i++)
            ck_assert_uint_eq(bytes[i], (uint8_t)i);
        bytes = resize(bytes, size / 2 + 1);
        for (size_t i = 0; i < size / 2; i++)
            ck_assert_uint_eq(bytes[i], (uint8_t)i);
    }
    memory_enter(NULL);
    ck_assert_uint_eq(memory_blocks(memory), 600);
    memory_free(memory);
}
END_TEST

START_TEST(all_is_given_back_at_once)
{
    struct memory *memory = memory_new();
    struct random random = random_stream(1, 1);
    for (int round = 0; round < 20; round++) {
        memory_enter(memory);
        void *blocks[200] = { NULL };
        uint64_t sizes[200] = { 0 }, bytes = 0, count = 0;
        for (int i = 0; i < 5000; i++) {
            size_t at = (size_t)random_below(&random, 200), size = random_below(&random, 900);
            count += blocks[at] == NULL;
            bytes -= sizes[at];
            if (random_chance(&random, 500)) {
                blocks[at] = resize(blocks[at], size + 1);
                sizes[at] = size + 1;
            } else {
                give(blocks[at]);
                blocks[at] = NULL;
                sizes[at] = 0;
                count--;
            }
            bytes += sizes[at];
            ck_assert_uint_eq(memory_bytes(memory), bytes);
            ck_assert_uint_eq(memory_blocks(memory), count);
        }
        memory_enter(NULL);
        memory_free_all(memory); /* the leak checker says whether that was so */
        ck_assert_uint_eq(memory_bytes(memory), 0);
        ck_assert_uint_eq(memory_blocks(memory), 0);
    }
    memory_free(memory);
}
END_TEST

/* What the C library has allocated inside of itself is freed by whoever got it, and is not ours. */
START_TEST(blocks_of_the_c_library_pass_through)
{
    struct memory *memory = memory_new();
    memory_enter(memory);
    char *copy = strdup("from inside");
    char *line = NULL;
    size_t size = 0;
    FILE *file = fmemopen(copy, strlen(copy), "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(getline(&line, &size, file), 11);
    (void)fclose(file);
    ck_assert_uint_eq(memory_blocks(memory), 0);
    copy = resize(copy, 1000000); /* large ones come from mmap, at the start of a page */
    ck_assert_str_eq(copy, "from inside");
    give(copy);
    give(line);
    give(NULL);
    memory_enter(NULL);
    memory_free(memory);
}
END_TEST

START_TEST(what_cannot_be_had_is_refused)
{
    volatile size_t half = SIZE_MAX / 2;
    ck_assert_ptr_null(take(half));
    ck_assert_ptr_null(take_zeros(half, 2));
    ck_assert_ptr_null(take_zeros(half / 2, 8));
    char *bytes = take(10);
    memcpy(bytes, "123456789", 10);
    ck_assert_ptr_null(resize(bytes, half));
    ck_assert_str_eq(bytes, "123456789");
    give(bytes);
}
END_TEST

START_TEST(a_block_is_not_freed_twice)
{
    void *bytes = take(40);
    give(bytes);
    give(bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim memory");
    TCase *tcase = tcase_create("memory");
    tcase_add_test(tcase, blocks_belong_to_who_is_current);
    tcase_add_test(tcase, bytes_are_aligned_zeroed_kept);
    tcase_add_test(tcase, all_is_given_back_at_once);
    tcase_add_test(tcase, blocks_of_the_c_library_pass_through);
    tcase_add_test(tcase, what_cannot_be_had_is_refused);
    tcase_add_test_raise_signal(tcase, a_block_is_not_freed_twice, SIGABRT);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
