/* Scenarios whose expectations are wrong, or which are no scenarios: each must fail, and say where and
 * why. So every check of the scenarios is seen failing. (That they hold where they should is seen by
 * running tests/sim/scenarios/.) */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sim/script.h"

#define LEADER "leader within 2s\n"

static const struct row {
    const char *name, *text, *said; /* NULL: it holds */
} rows[] = {
    { "holds", LEADER "set a x at $leader -> stored\nget a at $leader -> x\n", NULL },
    { "holds, levels", "level 1 2 3\n" LEADER "set a x at $leader -> stored\n", NULL },
    { "a loop",
      LEADER "for i in 1..3\nset a x$i at $leader -> stored\nend\n"
             "get a at $leader -> x3\n",
      NULL },
    /* not as it should be written */
    { "empty", "# nothing\n", ":1: expected a command" },
    { "no such command", LEADER "jump\n", ":2: expected a command" },
    { "no such level", "level 4\n", ":1: expected 1, 2 or 3" },
    { "a late setting", LEADER "nodes 3\n", ":2: expected settings in front" },
    { "no such node", LEADER "kill 4\n", ":2: expected a node" },
    { "no such variable", "kill $leader\n", ":1: expected a variable" },
    { "no time", "run 3\n", ":1: expected a time" },
    { "no number", "seed x\n", ":1: expected a number, not 'x'" },
    { "too much", LEADER "kill 1 within\n", ":2: expected the end of the line" },
    { "no quotation mark", LEADER "expect log 1 \"x\n", ":2: expected a closing quotation" },
    { "no answer", LEADER "get a at 1\n", ":2: expected '->'" },
    { "no such answer", LEADER "get a at 1 -> mad\n", ":2: expected stored, none" },
    { "no such request", LEADER "answer a -> none\n", ":2: expected the name of a request" },
    { "no end", LEADER "for i in 1..3\nrun 1ms\n", ":2: expected an 'end'" },
    { "no beginning", LEADER "end\n", ":2: expected a command" },
    { "no range", LEADER "for i in 3..1\nend\n", ":2: expected two numbers" },
    { "no disk", "level 1\n" LEADER "disk 1 full\n", ":3: expected level 2 or 3" },
    { "no such fault of a disk", LEADER "disk 1 melt\n", ":2: expected hang, ok" },
    { "no such expectation", LEADER "expect luck\n", ":2: expected no leader" },
    { "no such role", LEADER "expect role 1 king\n", ":2: expected follower" },
    { "no such tear", LEADER "tear off\n", ":2: expected nothing, sectors or bytes" },
    /* expectations that do not come true */
    { "nobody leads", "leader within 10ms\n", "there is no leader" },
    { "another leads", LEADER "leader not $leader within 1s\n", "leads" },
    { "somebody leads", LEADER "expect no leader\n", "still takes itself" },
    { "the leader changed",
      LEADER "kill $leader\nleader\nrun 1s\nkill $leader\nrun 1s\n"
             "expect same leader\n",
      "after 0 elections" },
    { "an election", LEADER "isolate $leader\nrun 1s\nexpect at most 0 elections\n",
      "there were 1 elections" },
    { "the term grew", LEADER "isolate $leader\nrun 1s\nexpect term unchanged\n", "in term 2" },
    { "a value",
      LEADER "set a x at $leader -> stored\nset a y at $leader -> stored\n"
             "get a at $leader -> x\n",
      "the answer is the value y" },
    { "a refusal", LEADER "set a x at $f1 -> stored\n", "refused (ERR_REDIRECT)" },
    { "no answer in time", LEADER "isolate $leader\nget a at $leader -> none within 1ms\n",
      "no answer" },
    { "answered", LEADER "begin a get k at $leader\nrun 1s\nexpect open a\n", "it is answered" },
    { "down", LEADER "kill 1\nexpect up 1\n", "node 1 is down" },
    { "killed twice", LEADER "kill 1\nkill 1\n", "node 1 is down already" },
    { "no crash", LEADER "crash 1 at call 100000\nexpect crash 1 within 1s\n", "has not come" },
    { "no exit", LEADER "expect exit 1 1\n", "has not ended" },
    { "another exit", LEADER "term 1\nexpect exit 1 1 within 5s\n", "has ended with 0" },
    { "an exit that nobody expects", LEADER "term 1\nrun 5s\n", "node 1 had ended with 0" },
    { "another role", LEADER "expect role $leader follower\n", "is leader" },
    { "no loss", LEADER "kill $f1\nstart $f1\nexpect lost $f1 1 entries\n", "and recovered" },
    { "not said", LEADER "expect log 1 \"never\"\n", "no line of node 1" },
    { "long turns", LEADER "run 1s\nexpect turns 1 below 1us\n", "a turn of node 1 took" },
    { "not converged", LEADER "isolate $f1\nset a x at $leader -> stored\nexpect converged all\n",
      "not converged" },
};

/* What script_run() returns, with what it says on stderr. */
static int run(const char *text, char *said, size_t said_size)
{
    char path[] = "script_test.XXXXXX", errors[] = "script_test.XXXXXX";
    int file = mkstemp(path), error_file = mkstemp(errors);

    ck_assert(file >= 0 && error_file >= 0);
    ck_assert(write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    dup2(error_file, STDERR_FILENO);
    int code = script_run(path, false);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    off_t end = lseek(error_file, 0, SEEK_END);
    off_t from = end < (off_t)said_size ? 0 : end - (off_t)said_size + 1;
    ssize_t size = pread(error_file, said, said_size - 1, from);
    said[size < 0 ? 0 : size] = '\0';
    close(error_file);
    unlink(path);
    unlink(errors);
    return code;
}

START_TEST(a_scenario_says_what_is_wrong)
{
    const struct row *row = &rows[_i];
    char said[4096];
    int code = run(row->text, said, sizeof said);

    ck_assert_msg(code == (row->said != NULL), "%s: returned %d: %s", row->name, code, said);
    ck_assert_msg(row->said == NULL || strstr(said, row->said) != NULL, "%s: said %s", row->name,
                  said);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("script");
    TCase *tcase = tcase_create("script");

    tcase_add_loop_test(tcase, a_scenario_says_what_is_wrong, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
