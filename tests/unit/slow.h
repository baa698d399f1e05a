/* For runs that are many times slower than a plain one: under valgrind, or with sanitizers.
 *
 * Tests that try some 10,000 cases take a few seconds each, and minutes under valgrind. There `dev`
 * sets RAFTKV_TEST_STRIDE=n, and they try every n-th case: what valgrind looks for is in the code
 * paths, which these still walk. Unset, as everywhere else, every case is tried.
 *
 *     raft_random        every n-th seed
 *     histcheck          every n-th random history
 *     storage_recover    every n-th offset of flips and cuts, every n-th subset of lost records
 *     storage_crash      every n-th subset of sectors or sample of one, every n-th torn byte
 *
 * CK_TIMEOUT_MULTIPLIER, which libcheck puts on its own deadlines, goes on a test's deadlines too:
 * what never comes is found later, and what comes is awaited. */
#pragma once

#include <stdlib.h>

/* A whole number from the environment, 1 to 1000; 1 if it is not there. */
static inline unsigned slow_setting(const char *name)
{
    const char *text = getenv(name);
    unsigned long number = text == NULL ? 1 : strtoul(text, NULL, 10);
    return number >= 1 && number <= 1000 ? (unsigned)number : 1;
}

static inline unsigned test_stride(void)
{
    return slow_setting("RAFTKV_TEST_STRIDE");
}

static inline unsigned test_patience(void)
{
    return slow_setting("CK_TIMEOUT_MULTIPLIER");
}
