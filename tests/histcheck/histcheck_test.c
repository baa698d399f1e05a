#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/histcheck/history.h"
#include "tests/histcheck/linear.h"
#include "tests/histcheck/naive.h"
#include "tests/histcheck/recording.h"
#include "tests/unit/slow.h"

#define HEADER "raftkv-history 1\n"
#define SLOW_MS_MAX 20000

/* A history of our format without its first line, or any whole text. */
static enum linear_verdict verdict_of(const char *name, const char *text)
{
    struct linear_history *history = linear_history_new();
    struct history_error error = { 0 };
    struct linear_report report;
    bool is_fine = history_parse(history, text, strlen(text), &error);
    ck_assert_msg(is_fine, "%s: line %zu: %s", name, error.line, error.reason);
    enum linear_verdict verdict = linear_check(history, NULL, &report);
    ck_assert_int_eq(verdict, report.verdict);
    ck_assert_msg((report.words[0] == '\0') == (verdict == LINEAR_OK), "%s: the story", name);
    ck_assert((report.key == NULL) == (verdict == LINEAR_OK));
    linear_report_release(&report);
    linear_history_free(history);
    return verdict;
}

#define OK LINEAR_OK
#define BAD LINEAR_VIOLATION

/* Short for a whole operation without another one beside it. */
#define SET(key, value, version) "9 invoke set " key " " value "\n9 ok version " version "\n"
#define SET_EXPIRES(key, value, version) \
    "9 invoke set " key " " value " expires\n9 ok version " version "\n"
#define SET_UNKNOWN(key, value) "8 invoke set " key " " value "\n8 unknown\n"
#define CAS(key, wanted, value, answer) \
    "9 invoke cas " key " " wanted " " value "\n9 ok " answer "\n"
#define CAS_UNKNOWN(key, wanted, value) "8 invoke cas " key " " wanted " " value "\n8 unknown\n"
#define DELETE(key, answer) "9 invoke delete " key "\n9 ok " answer "\n"
#define DELETE_UNKNOWN(key) "8 invoke delete " key "\n8 unknown\n"
#define GET(key, answer) "9 invoke get " key "\n9 ok " answer "\n"

static const struct {
    const char *name, *text;
    enum linear_verdict verdict;
} rules[] = {
    { "nothing happened", "", OK },
    { "comments and blank lines", "# a\n\n   \n#\n", OK },
    { "at first a key is absent", GET("k", "none"), OK },
    { "at first there is no value", GET("k", "value a 1"), BAD },
    { "a set is read", SET("k", "a", "1") GET("k", "value a 1"), OK },
    { "a get need not tell the version", SET("k", "a", "1") GET("k", "value a 0"), OK },
    { "another value", SET("k", "a", "1") GET("k", "value b 1"), BAD },
    { "another version", SET("k", "a", "1") GET("k", "value a 2"), BAD },
    { "keys are apart", SET("k", "a", "1") GET("l", "none"), OK },
    { "a set does not vanish", SET("k", "a", "1") GET("k", "none"), BAD },

    { "an expiring set may vanish", SET_EXPIRES("k", "a", "1") GET("k", "none"), OK },
    { "or not", SET_EXPIRES("k", "a", "1") GET("k", "value a 1"), OK },
    { "but it does not come back",
      SET_EXPIRES("k", "a", "1") GET("k", "none") GET("k", "value a 1"), BAD },
    { "a set without expiry ends it",
      SET_EXPIRES("k", "a", "1") SET("k", "b", "2") GET("k", "none"), BAD },
    { "vanished, cas 0 finds nothing", SET_EXPIRES("k", "a", "1") CAS("k", "0", "b", "version 2"),
      OK },
    { "vanished, delete finds nothing", SET_EXPIRES("k", "a", "1") DELETE("k", "none"), OK },
    { "vanished, cas finds nothing", SET_EXPIRES("k", "a", "1") CAS("k", "1", "b", "none"), OK },
    { "cas may expire too", "1 invoke cas k 0 a expires\n1 ok version 1\n" GET("k", "none"), OK },

    { "cas with the version", SET("k", "a", "1") CAS("k", "1", "b", "version 2"), OK },
    { "cas with another version", SET("k", "a", "1") CAS("k", "2", "b", "version 3"), BAD },
    { "cas is told the current version", SET("k", "a", "1") CAS("k", "2", "b", "differs 1"), OK },
    { "cas is told a wrong version", SET("k", "a", "1") CAS("k", "2", "b", "differs 3"), BAD },
    { "differs from what was wanted", SET("k", "a", "1") CAS("k", "1", "b", "differs 1"), BAD },
    { "cas of nothing", CAS("k", "1", "b", "none"), OK },
    { "cas of something finds it", SET("k", "a", "1") CAS("k", "1", "b", "none"), BAD },
    { "cas 0 of nothing", CAS("k", "0", "a", "version 1") GET("k", "value a 1"), OK },
    { "cas 0 of something", SET("k", "a", "1") CAS("k", "0", "b", "version 2"), BAD },
    { "cas 0 differs", SET("k", "a", "1") CAS("k", "0", "b", "differs 1"), OK },
    { "cas 0 cannot miss the key", CAS("k", "0", "a", "none"), BAD },
    { "a refused cas writes nothing",
      SET("k", "a", "1") CAS("k", "5", "b", "differs 1") GET("k", "value b 2"), BAD },

    { "delete", SET("k", "a", "1") DELETE("k", "deleted") GET("k", "none"), OK },
    { "delete of nothing", DELETE("k", "none"), OK },
    { "deleted what was not there", DELETE("k", "deleted"), BAD },
    { "missed what was there", SET("k", "a", "1") DELETE("k", "none"), BAD },
    { "deleted twice", SET("k", "a", "1") DELETE("k", "deleted") DELETE("k", "deleted"), BAD },
    { "deleted and read", SET("k", "a", "1") DELETE("k", "deleted") GET("k", "value a 1"), BAD },
    { "versions outlive a delete", SET("k", "a", "5") DELETE("k", "deleted") SET("k", "b", "4"),
      BAD },

    { "failed had no effect", "1 invoke set k a\n1 fail\n" GET("k", "none"), OK },
    { "failed is not seen", "1 invoke set k a\n1 fail\n" GET("k", "value a 1"), BAD },

    { "unknown, and seen", SET_UNKNOWN("k", "a") GET("k", "value a 1"), OK },
    { "unknown, and never seen", SET_UNKNOWN("k", "a") GET("k", "none"), OK },
    { "unknown, later", SET_UNKNOWN("k", "a") GET("k", "none") GET("k", "value a 1"), OK },
    { "unknown, seen and gone", SET_UNKNOWN("k", "a") GET("k", "value a 1") GET("k", "none"), BAD },
    { "unknown takes effect once",
      SET_UNKNOWN("k", "a") SET("k", "b", "5") GET("k", "value a 6") SET("k", "c", "7")
          GET("k", "value a 8"),
      BAD },
    { "not before it was invoked", GET("k", "value a 1") SET_UNKNOWN("k", "a"), BAD },
    { "open at the end is unknown", "1 invoke set k a\n" GET("k", "none") GET("k", "value a 1"),
      OK },
    { "an unknown read says nothing", SET("k", "a", "1") "1 invoke get k\n1 unknown\n", OK },
    { "unknown delete",
      SET("k", "a", "1") DELETE_UNKNOWN("k") GET("k", "value a 1") GET("k", "none"), OK },
    { "unknown delete does not undo later",
      SET("k", "a", "1") DELETE_UNKNOWN("k") GET("k", "none") SET("k", "b", "2") GET("k", "none"),
      BAD },
    { "unknown expiring set explains absence",
      SET("k", "a", "1") "8 invoke set k b expires\n8 unknown\n" GET("k", "none"), OK },
    { "unknown cas", SET("k", "a", "1") CAS_UNKNOWN("k", "1", "b") GET("k", "value b 2"), OK },
    { "unknown cas that did not fit",
      SET("k", "a", "1") CAS_UNKNOWN("k", "7", "b") GET("k", "value b 8"), BAD },
    { "unknown cas 0 of what was deleted unknown",
      SET("k", "a", "1") DELETE_UNKNOWN("k") CAS_UNKNOWN("k", "0", "b") GET("k", "value b 2"), OK },
    { "two unknown in a row",
      SET_UNKNOWN("k", "a") SET_UNKNOWN("k", "b") GET("k", "value b 1") GET("k", "value a 2"), OK },
    { "two unknown do not swap back",
      SET_UNKNOWN("k", "a") SET_UNKNOWN("k", "b") GET("k", "value b 1") GET("k", "value a 2")
          GET("k", "value b 3"),
      BAD },

    { "an unknown version is pinned by a read",
      SET_UNKNOWN("k", "a") GET("k", "value a 3") GET("k", "value a 4"), BAD },
    { "an unknown version is pinned by cas", SET_UNKNOWN("k", "a") CAS("k", "3", "b", "version 4"),
      OK },
    { "and the cas has to be above it", SET_UNKNOWN("k", "a") CAS("k", "3", "b", "version 3"),
      BAD },
    { "an unknown version is pinned by differs",
      SET_UNKNOWN("k", "a") CAS("k", "3", "b", "differs 2") CAS("k", "2", "b", "version 3"), OK },
    { "differs pins to something else",
      SET_UNKNOWN("k", "a") CAS("k", "3", "b", "differs 2") CAS("k", "4", "b", "version 5"), BAD },
    { "an unknown version is above the one before",
      SET("k", "a", "5") SET_UNKNOWN("k", "b") GET("k", "value b 5"), BAD },
    { "there is a number for an unknown version",
      SET_UNKNOWN("k", "a") SET("k", "b", "5") GET("k", "value b 5") SET("k", "c", "6"), OK },
    { "there is none between 5 and 6",
      SET("k", "b", "5") SET_UNKNOWN("k", "a") GET("k", "value a 0") SET("k", "c", "6"), BAD },
    { "there is one between 5 and 7",
      SET("k", "b", "5") SET_UNKNOWN("k", "a") GET("k", "value a 0") SET("k", "c", "7"), OK },
    { "the greatest version is the last",
      SET("k", "a", "18446744073709551615") SET_UNKNOWN("k", "b") GET("k", "value b 0"), BAD },

    { "versions grow along a key", SET("k", "a", "2") SET("k", "b", "1"), BAD },
    { "versions grow across keys", SET("k", "a", "2") SET("l", "b", "1"), BAD },
    { "side by side they need not",
      "1 invoke set k a\n2 invoke set l b\n1 ok version 2\n2 ok version 1\n", OK },
    { "no version is given twice on a key",
      "1 invoke set k a\n2 invoke set k b\n1 ok version 2\n2 ok version 2\n", BAD },
    { "no version is given twice across keys",
      "1 invoke set k a\n2 invoke set l b\n1 ok version 2\n2 ok version 2\n", BAD },
    { "no version is seen on two keys",
      SET_UNKNOWN("k", "a") "7 invoke set l b\n" GET("k", "value a 1") GET("l", "value b 1"), BAD },
    { "nor given and seen on another",
      SET_UNKNOWN("k", "a") SET("l", "b", "1") GET("k", "value a 1"), BAD },
    { "a version that was read is behind us",
      SET_UNKNOWN("k", "a") GET("k", "value a 7") SET("l", "b", "6"), BAD },
    { "a greater version read ends a smaller write elsewhere",
      "1 invoke set k a\n2 invoke set l b\n2 ok version 2\n" GET("k", "none") "1 ok version 1\n",
      BAD },
    { "a smaller one may still be to come",
      "1 invoke set k a\n2 invoke set l b\n2 ok version 2\n" GET("k", "none") "1 ok version 3\n",
      OK },

    { "a read beside a write sees either",
      "1 invoke set k a\n" GET("k", "none") GET("k", "value a 1") "1 ok version 1\n", OK },
    { "but not back and forth",
      "1 invoke set k a\n" GET("k", "value a 1") GET("k", "none") "1 ok version 1\n", BAD },
    { "a stale read", SET("k", "a", "1") SET("k", "b", "2") GET("k", "value a 1"), BAD },
    { "a stale read that tells no version",
      SET("k", "a", "1") SET("k", "b", "2") GET("k", "value a 0"), BAD },
    { "one value written twice",
      SET("k", "a", "1") SET("k", "b", "2") SET("k", "a", "3") GET("k", "value a 3"), OK },
    { "one value written twice, by one unknown",
      SET("k", "a", "1") SET_UNKNOWN("k", "a") SET("k", "b", "3") GET("k", "value a 0"), OK },
};

START_TEST(each_rule_of_the_store_holds)
{
    char text[4096];
    (void)snprintf(text, sizeof(text), HEADER "%s", rules[_i].text);
    enum linear_verdict verdict = verdict_of(rules[_i].name, text);
    ck_assert_msg(verdict == rules[_i].verdict, "%s: got %s", rules[_i].name,
                  linear_verdict_name(verdict));
}
END_TEST

#define ETCD "INFO  jepsen.util - "
#define KV(process, type, f, value) \
    "{:process " process ", :type :" type ", :f :" f ", :key \"1\", :value " value "}\n"

static const struct {
    const char *name, *text;
    enum linear_verdict verdict;
} others[] = {
    { "etcd: nil at first", ETCD "0\t:invoke\t:read\tnil\n" ETCD "0\t:ok\t:read\tnil\n", OK },
    { "etcd: a value from nowhere", ETCD "0 :invoke :read nil\n" ETCD "0 :ok :read 3\n", BAD },
    { "etcd: write, cas, read",
      ETCD "0 :invoke :write 3\n" ETCD "0 :ok :write 3\n" ETCD "0 :invoke :cas [3 4]\n" ETCD
           "0 :ok :cas [3 4]\n" ETCD "0 :invoke :read nil\n" ETCD "0 :ok :read 4\n",
      OK },
    { "etcd: cas of another value",
      ETCD "0 :invoke :write 3\n" ETCD "0 :ok :write 3\n" ETCD "0 :invoke :cas [2 4]\n" ETCD
           "0 :ok :cas [2 4]\n",
      BAD },
    { "etcd: failed did not happen",
      ETCD "0 :invoke :cas [2 4]\n" ETCD "0 :fail :cas [2 4]\n" ETCD "0 :invoke :read nil\n" ETCD
           "0 :ok :read nil\n",
      OK },
    { "etcd: timed out may happen",
      ETCD "0 :invoke :write 2\n" ETCD "0 :info :write :timed-out\n" ETCD
           "1 :invoke :read nil\n" ETCD "1 :ok :read 2\n",
      OK },
    { "etcd: a read that timed out says nothing",
      ETCD "0 :invoke :read nil\n" ETCD "0 :fail :read :timed-out\n", OK },
    { "kv: append to nothing, and to something",
      KV("0", "invoke", "append", "\"a b\"") KV("0", "ok", "append", "\"a b\"")
          KV("0", "invoke", "append", "\"c\"") KV("0", "ok", "append", "\"c\"")
              KV("0", "invoke", "get", "nil") KV("0", "ok", "get", "\"a bc\""),
      OK },
    { "kv: appends in the wrong order",
      KV("0", "invoke", "append", "\"a\"") KV("0", "ok", "append", "\"a\"")
          KV("0", "invoke", "append", "\"c\"") KV("0", "ok", "append", "\"c\"")
              KV("0", "invoke", "get", "nil") KV("0", "ok", "get", "\"ca\""),
      BAD },
    { "kv: put replaces, and \"\" is nothing",
      KV("0", "invoke", "get", "nil") KV("0", "ok", "get", "\"\"")
          KV("0", "invoke", "put", "\"\\\"\"") KV("0", "ok", "put", "\"\\\"\"")
              KV("0", "invoke", "get", "nil") KV("0", "ok", "get", "\"\\\"\""),
      OK },
    { "kv: an append of unknown outcome is seen within another",
      KV("0", "invoke", "append", "\"a\"") KV("0", "info", "append", "\"a\"")
          KV("1", "invoke", "append", "\"c\"") KV("1", "ok", "append", "\"c\"")
              KV("1", "invoke", "get", "nil") KV("1", "ok", "get", "\"ac\""),
      OK },
};

START_TEST(each_rule_of_the_other_formats_holds)
{
    enum linear_verdict verdict = verdict_of(others[_i].name, others[_i].text);
    ck_assert_msg(verdict == others[_i].verdict, "%s: got %s", others[_i].name,
                  linear_verdict_name(verdict));
}
END_TEST

static const struct {
    const char *text;
    size_t line;
    const char *reason;
} malformed[] = {
    { "", 1, "not a history" },
    { "raftkv-history", 1, "not a history" },
    { "\n" HEADER, 1, "not a history" },
    { "raftkv-history 2\n", 1, "not 'raftkv-history 1'" },
    { "raftkv-history 1 \n", 1, "not 'raftkv-history 1'" },
    { HEADER "1\n", 2, "is no event" },
    { HEADER "1 begin get k\n", 2, "'begin' is no event" },
    { HEADER "1 invoke\n", 2, "'' is no operation" },
    { HEADER "1 invoke put k v\n", 2, "'put' is no operation" },
    { HEADER "# x\n\n1 invoke get\n", 4, "'get' takes 1 fields" },
    { HEADER "1 invoke get k l\n", 2, "'get' takes 1 fields" },
    { HEADER "1 invoke get k expires\n", 2, "'get' takes 1 fields" },
    { HEADER "1 invoke delete k v\n", 2, "'delete' takes 1 fields" },
    { HEADER "1 invoke set k\n", 2, "'set' takes 2 fields, and 'expires'" },
    { HEADER "1 invoke set k v expire\n", 2, "'set' takes 2 fields, and 'expires'" },
    { HEADER "1 invoke set k v expires x\n", 2, "'set' takes 2 fields, and 'expires'" },
    { HEADER "1 invoke cas k v\n", 2, "'cas' takes 3 fields, and 'expires'" },
    { HEADER "1 invoke cas k v 1\n", 2, "'v' is not a number" },
    { HEADER "1 invoke cas k -1 v\n", 2, "'-1' is not a number" },
    { HEADER "1 invoke cas k 18446744073709551616 v\n", 2, "too large a number" },
    { HEADER "1  invoke get k\n", 2, "single spaces" },
    { HEADER " 1 invoke get k\n", 2, "single spaces" },
    { HEADER "1 invoke get k \n", 2, "single spaces" },
    { HEADER "1 invoke get\tk\n", 2, "byte 0x09" },
    { HEADER "1 invoke get k\r\n", 2, "byte 0x0d" },
    { HEADER "1 invoke get \xc3\xa4\n", 2, "byte 0xc3" },
    { HEADER "1 a b c d e f g h\n", 2, "more than 8 fields" },
    { HEADER "1 ok none\n", 2, "no operation open" },
    { HEADER "1 fail\n", 2, "no operation open" },
    { HEADER "1 invoke get k\n1 invoke get k\n", 3, "has an operation open" },
    { HEADER "1 invoke get k\n1 ok none\n1 ok none\n", 4, "no operation open" },
    { HEADER "1 invoke get k\n1 ok\n", 3, "'' is no answer" },
    { HEADER "1 invoke get k\n1 ok absent\n", 3, "'absent' is no answer" },
    { HEADER "1 invoke get k\n1 ok none 1\n", 3, "'none' takes 0 fields" },
    { HEADER "1 invoke get k\n1 ok value v\n", 3, "'value' takes 2 fields" },
    { HEADER "1 invoke get k\n1 ok value v x\n", 3, "'x' is not a number" },
    { HEADER "1 invoke get k\n1 ok version 1\n", 3, "cannot return that" },
    { HEADER "1 invoke get k\n1 ok differs 1\n", 3, "cannot return that" },
    { HEADER "1 invoke get k\n1 ok deleted\n", 3, "cannot return that" },
    { HEADER "1 invoke get k\n1 fail now\n", 3, "'fail' takes no fields" },
    { HEADER "1 invoke get k\n1 unknown why\n", 3, "'unknown' takes no fields" },
    { HEADER "1 invoke set k v\n1 ok version 0\n", 3, "greater than 0" },
    { HEADER "1 invoke set k v\n1 ok version\n", 3, "'version' takes 1 fields" },
    { HEADER "1 invoke set k v\n1 ok none\n", 3, "cannot return that" },
    { HEADER "1 invoke set k v\n1 ok differs 1\n", 3, "cannot return that" },
    { HEADER "1 invoke cas k 1 v\n1 ok differs 0\n", 3, "greater than 0" },
    { HEADER "1 invoke cas k 1 v\n1 ok value v 1\n", 3, "cannot return that" },
    { HEADER "1 invoke delete k\n1 ok version 1\n", 3, "cannot return that" },
    { ETCD "1 :invoke\n", 1, "not 'INFO jepsen.util" },
    { "INFO  jepsen - 1 :invoke :read nil\n", 1, "not 'INFO jepsen.util" },
    { ETCD "1 :invoke :swap 1\n", 1, "':swap' is no operation" },
    { ETCD "1 :invoke :cas [1\n", 1, "[old new]" },
    { ETCD "1 :invoke :cas 1 2]\n", 1, "[old new]" },
    { ETCD "1 :invoke :read nil\n" ETCD "1 :maybe :read 1\n", 2, "':maybe' is no event" },
    { ETCD "1 :ok :read nil\n", 1, "no operation open" },
    { KV("0", "invoke", "swap", "nil"), 1, "'swap' is no operation" },
    { KV("0", "invoke", "get", "nil") KV("0", "maybe", "get", "nil"), 2, "'maybe' is no event" },
    { KV("0", "invoke", "get", "\"a"), 1, "not '{:process P" },
    { KV("0", "invoke", "get", "\"a\\"), 1, "not '{:process P" },
    { "{:process 0}\n", 1, "not '{:process P" },
    { KV("0", "ok", "get", "\"\""), 1, "no operation open" },
};

START_TEST(a_malformed_line_is_named_with_its_reason)
{
    struct linear_history *history = linear_history_new();
    struct history_error error = { 0 };
    const char *text = malformed[_i].text;
    ck_assert_msg(!history_parse(history, text, strlen(text), &error), "accepted: %s", text);
    ck_assert_msg(error.line == malformed[_i].line && strstr(error.reason, malformed[_i].reason),
                  "%s: got line %zu: %s", text, error.line, error.reason);
    linear_history_free(history);
}
END_TEST

START_TEST(a_line_has_a_limit)
{
    size_t size = sizeof(HEADER) + HISTORY_LINE_BYTES_MAX + 2;
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    memset(text, '#', size);
    memcpy(text, HEADER, sizeof(HEADER) - 1);
    for (size_t more = 0; more <= 1; more++) {
        struct linear_history *history = linear_history_new();
        struct history_error error = { 0 };
        size_t whole = sizeof(HEADER) - 1 + HISTORY_LINE_BYTES_MAX + more;
        ck_assert_int_eq(history_parse(history, text, whole, &error), more == 0);
        ck_assert_uint_eq(error.line, 2 * more);
        linear_history_free(history);
    }
    free(text);
}
END_TEST

/* Nothing but an answer is expected: what is read may be anything. */
static void feed(const char *text, size_t size)
{
    struct linear_history *history = linear_history_new();
    struct history_error error = { 0 };
    if (history_parse(history, text, size, &error)) {
        struct linear_report report;
        (void)linear_check(history, &(struct linear_limits){ .step_count_max = 20000 }, &report);
        linear_report_release(&report);
    } else {
        ck_assert_uint_gt(error.line, 0);
        ck_assert_uint_gt(strlen(error.reason), 0);
    }
    linear_history_free(history);
}

START_TEST(any_bytes_are_answered)
{
    static const char *const starts[] = { "", HEADER, "INFO ", "{:process " };
    uint64_t random = 1;
    char text[512];
    for (int i = 0; i < 20000 / (int)test_stride(); i++) {
        size_t size = strlen(starts[i % 4]);
        memcpy(text, starts[i % 4], size);
        size_t whole = size + recording_random(&random, 200);
        for (; size < whole; size++)
            text[size] = (char)recording_random(&random, 256);
        feed(text, size);
    }
}
END_TEST

START_TEST(damaged_histories_are_answered)
{
    uint64_t random = 2;
    char text[2048], original[2048];
    for (int i = 0; i < 20000 / (int)test_stride(); i++) {
        size_t row = recording_random(&random, sizeof(rules) / sizeof(rules[0]) +
                                                   sizeof(others) / sizeof(others[0]));
        size_t rule_count = sizeof(rules) / sizeof(rules[0]);
        (void)snprintf(original, sizeof(original), "%s%s", row < rule_count ? HEADER : "",
                       row < rule_count ? rules[row].text : others[row - rule_count].text);
        size_t size = strlen(original);
        memcpy(text, original, size);
        for (uint64_t k = recording_random(&random, 4); k > 0; k--) {
            static const char bytes[] = " \n\"\\}0129kv[]#";
            text[recording_random(&random, size)] = bytes[recording_random(&random, 15)];
        }
        feed(text, recording_random(&random, 4) == 0 ? recording_random(&random, size) : size);
    }
}
END_TEST

/* -- The interface from memory ---------------------------------------------------------------------- */

START_TEST(a_history_can_be_checked_and_go_on)
{
    struct linear_history *history = linear_history_new();
    struct linear_call set = { .kind = LINEAR_SET, .key = "k", .value = "a" };
    struct linear_call get = { .kind = LINEAR_GET, .key = "k" };
    struct linear_result done = { .outcome = LINEAR_DONE };
    struct linear_result other = { .outcome = LINEAR_VALUE, .value = "b" };
    struct linear_report report;
    ck_assert_ptr_null(linear_invoke(history, "one", &set, 10));
    ck_assert_uint_eq(linear_open_count(history), 1);
    ck_assert_int_eq(linear_check(history, NULL, &report), LINEAR_OK);
    linear_report_release(&report);

    ck_assert_ptr_null(linear_return(history, "one", &done, 20));
    ck_assert_ptr_null(linear_invoke(history, "two", &get, 30));
    ck_assert_ptr_null(linear_return(history, "two", &other, 40));
    ck_assert_uint_eq(linear_operation_count(history), 2);
    ck_assert_uint_eq(linear_open_count(history), 0);
    ck_assert_int_eq(linear_check(history, NULL, &report), LINEAR_VIOLATION);
    ck_assert_str_eq(report.key, "k");
    ck_assert_uint_eq(report.placed_count, 1);
    ck_assert_str_eq(report.words, "  the longest order found has 1 operations:\n"
                                   "    one: set k to a -> done (at 10 to 20)\n"
                                   "  then the key holds a, version unknown, at least 1\n"
                                   "  and none of these can be placed next:\n"
                                   "    two: get k -> value b (at 30 to 40)\n");
    linear_report_release(&report);
    linear_history_free(history);
}
END_TEST

START_TEST(a_wrong_event_does_not_count)
{
    struct linear_history *history = linear_history_new();
    struct linear_call get = { .kind = LINEAR_GET, .key = "k" };
    struct linear_result deleted = { .outcome = LINEAR_DELETED }, none = { .outcome = LINEAR_NONE };
    ck_assert_ptr_nonnull(linear_invoke(history, "", &get, 0));
    ck_assert_ptr_nonnull(
        linear_invoke(history, "1", &(struct linear_call){ .kind = LINEAR_GET }, 0));
    ck_assert_ptr_nonnull(linear_return(history, "1", &none, 0));
    ck_assert_ptr_nonnull(linear_return(history, NULL, &none, 0));
    ck_assert_ptr_null(linear_invoke(history, "1", &get, 0));
    ck_assert_ptr_nonnull(linear_invoke(history, "1", &get, 0));
    ck_assert_ptr_nonnull(linear_return(history, "1", &deleted, 0));
    ck_assert_ptr_null(linear_return(history, "1", &none, 0));
    ck_assert_uint_eq(linear_operation_count(history), 1);
    linear_history_free(history);
    linear_history_free(NULL);
}
END_TEST

/* -- Limits ----------------------------------------------------------------------------------------- */

/* Appends side by side, and a read of what none of them wrote: every order has to be tried. */
static struct linear_history *hard_history(int count)
{
    struct linear_history *history = linear_history_new();
    char process[16];
    for (int i = 0; i < count; i++) {
        (void)snprintf(process, sizeof(process), "%d", i);
        struct linear_call append = { .kind = LINEAR_APPEND, .key = "hard", .value = process };
        ck_assert_ptr_null(linear_invoke(history, process, &append, 0));
    }
    for (int i = 0; i < count; i++) {
        (void)snprintf(process, sizeof(process), "%d", i);
        ck_assert_ptr_null(
            linear_return(history, process, &(struct linear_result){ .outcome = LINEAR_DONE }, 0));
    }
    struct linear_call get = { .kind = LINEAR_GET, .key = "hard" };
    struct linear_result wrong = { .outcome = LINEAR_VALUE, .value = "wrong" };
    ck_assert_ptr_null(linear_invoke(history, "reader", &get, 0));
    ck_assert_ptr_null(linear_return(history, "reader", &wrong, 0));
    return history;
}

START_TEST(at_a_limit_it_is_undecided)
{
    struct linear_history *history = hard_history(20);
    struct linear_report report;
    struct linear_limits steps = { .step_count_max = 5000 }, time = { .time_ms_max = 200 };
    ck_assert_int_eq(linear_check(history, &steps, &report), LINEAR_UNDECIDED);
    ck_assert_uint_le(report.step_count, 3 * steps.step_count_max);
    ck_assert_str_eq(report.key, "hard");
    linear_report_release(&report);
    ck_assert_int_eq(linear_check(history, &time, &report), LINEAR_UNDECIDED);
    linear_report_release(&report);
    linear_history_free(history);
}
END_TEST

START_TEST(a_hard_key_does_not_hide_an_easy_violation)
{
    struct linear_history *history = hard_history(20);
    struct linear_call get = { .kind = LINEAR_GET, .key = "easy" };
    struct linear_result wrong = { .outcome = LINEAR_VALUE, .value = "wrong" };
    struct linear_report report;
    ck_assert_ptr_null(linear_invoke(history, "reader", &get, 0));
    ck_assert_ptr_null(linear_return(history, "reader", &wrong, 0));
    struct linear_limits time = { .time_ms_max = SLOW_MS_MAX };
    ck_assert_int_eq(linear_check(history, &time, &report), LINEAR_VIOLATION);
    ck_assert_str_eq(report.key, "easy");
    linear_report_release(&report);
    linear_history_free(history);
}
END_TEST

/* -- Against the definition -------------------------------------------------------------------------- */

static enum linear_verdict verdict_of_recording(const struct recording *recording)
{
    struct linear_history *history = linear_history_new();
    struct linear_report report;
    recording_play(recording, history);
    struct linear_limits limits = { .time_ms_max = SLOW_MS_MAX };
    enum linear_verdict verdict = linear_check(history, &limits, &report);
    linear_report_release(&report);
    linear_history_free(history);
    return verdict;
}

/* A small recording of everything that there is; most have an answer or more changed. */
static struct recording small_recording(uint64_t seed, int key_count)
{
    uint64_t random = seed;
    struct recording_options options = {
        .seed = seed,
        .process_count = 2 + (int)recording_random(&random, 3),
        .key_count = key_count,
        .op_count = 2 + recording_random(&random, 6),
        .value_count = (int)recording_random(&random, 3),
        .unknown_per_mille = recording_random(&random, 2) == 0 ? 250 : 50,
        .failed_per_mille = 50,
        .expires_per_mille = recording_random(&random, 2) == 0 ? 400 : 0,
        .untold_per_mille = recording_random(&random, 2) == 0 ? 500 : 0,
    };
    struct recording recording = recording_make(&options, -1);
    for (uint64_t i = recording_random(&random, 6); i > 0; i--)
        recording_twist(&recording, &random);
    return recording;
}

/* With one key, the checker's answer is exactly the definition's. */
START_TEST(one_key_agrees_with_trying_every_order)
{
    int counts[2] = { 0 };
    for (uint64_t seed = 1; seed <= 20000; seed += test_stride()) {
        struct recording recording = small_recording(seed, 1);
        bool expected = naive_all_keys(&recording);
        enum linear_verdict verdict = verdict_of_recording(&recording);
        ck_assert_msg(verdict == (expected ? OK : BAD), "seed %" PRIu64 ": got %s", seed,
                      linear_verdict_name(verdict));
        counts[expected]++;
        recording_release(&recording);
    }
    ck_assert_int_gt(counts[false], 5000 / (int)test_stride());
    ck_assert_int_gt(counts[true], 5000 / (int)test_stride());
}
END_TEST

/* With two, it lies between an order for each key and one order for both: it accepts whatever has
 * one order, and refuses what has none for a key, or breaks the rules of versions. */
START_TEST(two_keys_lie_between_the_two_definitions)
{
    int counts[2] = { 0 }, missed = 0;
    for (uint64_t seed = 1; seed <= 20000; seed += test_stride()) {
        struct recording recording = small_recording(seed, 2);
        bool both = naive_all_keys(&recording), each = naive_each_key(&recording);
        bool got = verdict_of_recording(&recording) == OK;
        ck_assert_msg(got || !both, "seed %" PRIu64 ": there is an order", seed);
        ck_assert_msg(!got || each, "seed %" PRIu64 ": there is no order", seed);
        counts[both]++;
        missed += got && !both;
        recording_release(&recording);
    }
    ck_assert_int_gt(counts[false], 5000 / (int)test_stride());
    ck_assert_int_gt(counts[true], 5000 / (int)test_stride());
    ck_assert_msg(missed < 200, "missed %d", missed);
}
END_TEST

/* -- Long histories ---------------------------------------------------------------------------------- */

static struct recording_options long_options(uint64_t seed)
{
    return (struct recording_options){
        .seed = seed,
        .process_count = 12,
        .key_count = 8,
        .op_count = 3000,
        .unknown_per_mille = 20,
        .failed_per_mille = 20,
        .expires_per_mille = 200,
        .untold_per_mille = 300,
    };
}

START_TEST(a_correct_store_passes)
{
    struct recording_options options = long_options((uint64_t)_i);
    struct recording recording = recording_make(&options, -1);
    ck_assert_uint_eq(recording.op_count, options.op_count);
    ck_assert_int_eq(verdict_of_recording(&recording), LINEAR_OK);
    recording_release(&recording);
}
END_TEST

START_TEST(a_faulty_store_is_found)
{
    struct recording_options options = long_options((uint64_t)_i);
    struct recording recording = recording_make(&options, _i % RECORDING_FAULT_COUNT);
    ck_assert_int_eq(verdict_of_recording(&recording), LINEAR_VIOLATION);
    recording_release(&recording);
}
END_TEST

/* 100,000 operations of 24 clients on 30 keys, some 2,000 of them unknown. */
START_TEST(a_long_run_is_decided_in_time)
{
    struct recording_options options = long_options(7);
    options.op_count = 100000;
    options.process_count = 24;
    options.key_count = 30;
    struct recording recording = recording_make(&options, _i - 1);
    enum linear_verdict expected = _i == 0 ? LINEAR_OK : LINEAR_VIOLATION;
    ck_assert_int_eq(verdict_of_recording(&recording), expected);
    recording_release(&recording);
}
END_TEST

static Suite *histcheck_suite(void)
{
    Suite *suite = suite_create("histcheck");
    TCase *tc = tcase_create("histcheck");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, each_rule_of_the_store_holds, 0,
                        (int)(sizeof(rules) / sizeof(rules[0])));
    tcase_add_loop_test(tc, each_rule_of_the_other_formats_holds, 0,
                        (int)(sizeof(others) / sizeof(others[0])));
    tcase_add_loop_test(tc, a_malformed_line_is_named_with_its_reason, 0,
                        (int)(sizeof(malformed) / sizeof(malformed[0])));
    tcase_add_test(tc, a_line_has_a_limit);
    tcase_add_test(tc, any_bytes_are_answered);
    tcase_add_test(tc, damaged_histories_are_answered);
    tcase_add_test(tc, a_history_can_be_checked_and_go_on);
    tcase_add_test(tc, a_wrong_event_does_not_count);
    tcase_add_test(tc, at_a_limit_it_is_undecided);
    tcase_add_test(tc, a_hard_key_does_not_hide_an_easy_violation);
    tcase_add_test(tc, one_key_agrees_with_trying_every_order);
    tcase_add_test(tc, two_keys_lie_between_the_two_definitions);
    tcase_add_loop_test(tc, a_correct_store_passes, 0, 40);
    tcase_add_loop_test(tc, a_faulty_store_is_found, 0, 80);
    tcase_add_loop_test(tc, a_long_run_is_decided_in_time, 0, 1 + RECORDING_FAULT_COUNT);
    suite_add_tcase(suite, tc);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(histcheck_suite());
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
