#include <check.h>

#include "tests/unit/text_transcript.h"

#define VALUE_MAX 16

#define GET_USAGE "error ERR_CMD_ERR expected: get <key>\n"
#define SET_USAGE \
    "error ERR_CMD_ERR expected: set <key> <exptime> <numbytes> [noreply], then the value line\n"
#define CAS_USAGE \
    "error ERR_CMD_ERR expected: cas <key> <exptime> <version> <numbytes> [noreply], then the " \
    "value line\n"
#define UNKNOWN \
    "error ERR_CMD_ERR expected a command: set, cas, get, getm, delete, status, version or quit\n"
#define BAD_KEY \
    "error ERR_CMD_ERR expected a key of 1 to 250 bytes, none a space or control character\n"
#define BAD_EXPTIME "error ERR_CMD_ERR expected exptime as seconds from now, 0 to 2147483647\n"
#define BAD_VERSION "error ERR_CMD_ERR expected version as a number of 64 bits\n"
#define BAD_NUMBYTES "error ERR_CMD_ERR expected numbytes as a number, 0 or more\n"
#define BAD_END "fatal ERR_CMD_ERR expected a line end after the numbytes bytes of the value\n"
#define OK "rest 0 swallow 0\n"

#define ROW(name, input, expected) \
    { \
        name, input, sizeof(input) - 1, expected \
    }

static const struct {
    const char *name;
    const char *input;
    size_t size;
    const char *expected;
} rows[] = {
    ROW("get", "get a\r\n", "get key=a\n" OK),
    ROW("bare line feed", "get a\n", "get key=a\n" OK),
    ROW("upper case", "GET a\r\n", "get key=a\n" OK),
    ROW("keys keep their case", "gEt aB\r\n", "get key=aB\n" OK),
    ROW("many spaces", "   get    a   \r\n", "get key=a\n" OK),
    ROW("getm", "getm a\r\n", "getm key=a\n" OK),
    ROW("high bytes in a key", "get \x80\xff\r\n", "get key=\\80\\ff\n" OK),
    ROW("set", "set a 0 5\r\nhello\r\n", "set key=a value=hello ttl=0 compare=0\n" OK),
    ROW("set with line feeds", "set a 0 5\nhello\n", "set key=a value=hello ttl=0 compare=0\n" OK),
    ROW("set, upper case", "SET a 0 1 NOREPLY\r\nx\r\n",
        "set key=a value=x ttl=0 compare=0 noreply\n" OK),
    ROW("empty value", "set a 0 0\r\n\r\n", "set key=a value= ttl=0 compare=0\n" OK),
    ROW("line ends in a value", "set a 0 4\r\n\r\n\r\n\r\n",
        "set key=a value=\\0d\\0a\\0d\\0a ttl=0 compare=0\n" OK),
    ROW("a value of NUL", "set a 0 2\r\n\0\0\r\n", "set key=a value=\\00\\00 ttl=0 compare=0\n" OK),
    ROW("largest value", "set a 0 16\r\n0123456789abcdef\r\n",
        "set key=a value=0123456789abcdef ttl=0 compare=0\n" OK),
    ROW("leading zeros", "set a 007 01\r\nx\r\n", "set key=a value=x ttl=7000 compare=0\n" OK),
    ROW("largest exptime", "set a 2147483647 1\r\nx\r\n",
        "set key=a value=x ttl=2147483647000 compare=0\n" OK),
    ROW("cas", "cas a 60 7 3\r\nbye\r\n", "cas key=a value=bye ttl=60000 compare=7\n" OK),
    ROW("cas noreply", "cas a 0 0 1 noreply\r\nx\r\n",
        "cas key=a value=x ttl=0 compare=0 noreply\n" OK),
    ROW("largest version", "cas a 0 18446744073709551615 1\r\nx\r\n",
        "cas key=a value=x ttl=0 compare=18446744073709551615\n" OK),
    ROW("delete", "delete a\r\n", "delete key=a\n" OK),
    ROW("delete noreply", "delete a noreply\r\n", "delete key=a noreply\n" OK),
    ROW("a key named noreply", "delete noreply\r\n", "delete key=noreply\n" OK),
    ROW("status", "status\r\n", "status\n" OK),
    ROW("version", "version\r\n", "version\n" OK),
    ROW("quit ends", "quit\r\nget a\r\n", "quit\nend\n"),
    ROW("pipeline", "set a 0 1\r\nx\r\nget a\ngetm a\r\ndelete a\n",
        "set key=a value=x ttl=0 compare=0\nget key=a\ngetm key=a\ndelete key=a\n" OK),

    ROW("empty line", "\r\nget a\r\n", UNKNOWN "get key=a\n" OK),
    ROW("only spaces", "   \nget a\r\n", UNKNOWN "get key=a\n" OK),
    ROW("unknown command", "frob a\r\nget a\r\n", UNKNOWN "get key=a\n" OK),
    ROW("a command's front", "ge a\r\nget a\r\n", UNKNOWN "get key=a\n" OK),
    ROW("a command and more", "gets a\r\nget a\r\n", UNKNOWN "get key=a\n" OK),
    ROW("control bytes are no letters", "\x47\x05\x14 a\nget a\r\n", UNKNOWN "get key=a\n" OK),
    ROW("no key", "get\r\nget a\r\n", GET_USAGE "get key=a\n" OK),
    ROW("two keys", "get a b\r\nget a\r\n", GET_USAGE "get key=a\n" OK),
    ROW("get takes no noreply", "get a noreply\r\n", GET_USAGE OK),
    ROW("a tab is no space", "get\ta\r\nget a\r\n", UNKNOWN "get key=a\n" OK),
    ROW("a tab in a key", "get a\tb\r\nget a\r\n", BAD_KEY "get key=a\n" OK),
    ROW("NUL in a key", "get a\0b\r\nget a\r\n", BAD_KEY "get key=a\n" OK),
    ROW("DEL in a key", "get a\x7f\r\nget a\r\n", BAD_KEY "get key=a\n" OK),
    ROW("a carriage return in a line", "get a\rb\r\nget a\r\n", BAD_KEY "get key=a\n" OK),
    ROW("two carriage returns", "get a\r\r\nget a\r\n", BAD_KEY "get key=a\n" OK),
    ROW("delete with a wrong word", "delete a now\r\nget a\r\n",
        "error ERR_CMD_ERR expected: delete <key> [noreply]\nget key=a\n" OK),
    ROW("status takes nothing", "status now\r\n", "error ERR_CMD_ERR expected: status\n" OK),
    ROW("quit takes nothing", "quit now\r\nquit\r\n",
        "error ERR_CMD_ERR expected: quit\nquit\nend\n"),

    ROW("set without a length", "set a 0\r\nget a\r\n", SET_USAGE "get key=a\n" OK),
    ROW("length is no number", "set a 0 x\r\nget a\r\n", BAD_NUMBYTES "get key=a\n" OK),
    ROW("length is negative", "set a 0 -1\r\nget a\r\n", BAD_NUMBYTES "get key=a\n" OK),
    ROW("length with a sign", "set a 0 +1\r\nget a\r\n", BAD_NUMBYTES "get key=a\n" OK),
    ROW("bad length, silence not kept", "set a 0 x noreply\r\nget a\r\n",
        BAD_NUMBYTES "get key=a\n" OK),
    ROW("exptime is no number", "set a 1x 5\r\nhello\r\nget a\r\n", BAD_EXPTIME "get key=a\n" OK),
    ROW("exptime too large", "set a 2147483648 5\r\nhello\r\nget a\r\n",
        BAD_EXPTIME "get key=a\n" OK),
    ROW("exptime overflows", "set a 18446744073709551616 5\nhello\nget a\n",
        BAD_EXPTIME "get key=a\n" OK),
    ROW("exptime negative", "set a -1 5\r\nhello\r\nget a\r\n", BAD_EXPTIME "get key=a\n" OK),
    ROW("version overflows", "cas a 0 18446744073709551616 5\r\nhello\r\nget a\r\n",
        BAD_VERSION "get key=a\n" OK),
    ROW("version is no number", "cas a 0 one 5\r\nhello\r\nget a\r\n",
        BAD_VERSION "get key=a\n" OK),
    ROW("cas without a length", "cas a 0 1\r\nget a\r\n", CAS_USAGE "get key=a\n" OK),
    ROW("set with a wrong word", "set a 0 5 now\r\nhello\r\nget a\r\n", SET_USAGE "get key=a\n" OK),
    ROW("set with too many words",
        "set a 0 5 noreply noreply noreply noreply\r\nhello\r\nget a\r\n",
        SET_USAGE "get key=a\n" OK),
    ROW("a refused value is not a command", "set a\tb 0 6\r\nget b\n\r\nget a\r\n",
        BAD_KEY "get key=a\n" OK),
    ROW("value one too large", "set a 0 17\r\n0123456789abcdefg\r\nget a\r\n",
        "error ERR_TOO_LARGE 16\nget key=a\n" OK),
    ROW("too large, noreply", "set a 0 17 noreply\r\n0123456789abcdefg\nget a\r\n",
        "error silent ERR_TOO_LARGE 16\nget key=a\n" OK),
    ROW("malformed before too large", "set a x 17 noreply\r\n0123456789abcdefg\nget a\r\n",
        BAD_EXPTIME "get key=a\n" OK),
    ROW("a too large value that does not end", "set a 0 17\r\n0123456789abcdefgh\r\nget a\r\n",
        "error ERR_TOO_LARGE 16\nbroken\nend\n"),
    ROW("a huge value begins", "set a 0 9223372036854775807\r\nhello",
        "error ERR_TOO_LARGE 16\nrest 0 swallow 9223372036854775803\n"),
    ROW("a length beyond 63 bits", "set a 0 9223372036854775808\r\nhello\r\n",
        "fatal ERR_TOO_LARGE 16\nend\n"),
    ROW("a length beyond 64 bits", "set a 0 99999999999999999999999\r\nhello\r\n",
        "fatal ERR_TOO_LARGE 16\nend\n"),
    ROW("value longer than announced", "set a 0 2\r\nhello\r\n", BAD_END "end\n"),
    ROW("value shorter than announced", "set a 0 7\r\nhello\r\nget a\r\n", BAD_END "end\n"),
    ROW("a carriage return may belong to the value", "set a 0 6\r\nhello\r\nget a\r\n",
        "set key=a value=hello\\0d ttl=0 compare=0\nget key=a\n" OK),
    ROW("a lone carriage return after a value", "set a 0 1\r\nx\ry\r\n", BAD_END "end\n"),

    ROW("nothing", "", OK),
    ROW("the front of a line", "get a", "rest 5 swallow 0\n"),
    ROW("half a line end", "get a\r", "rest 6 swallow 0\n"),
    ROW("the front of a value", "set a 0 5\r\nhel", "rest 14 swallow 0\n"),
    ROW("half a value's end", "set a 0 1\r\nx\r", "rest 13 swallow 0\n"),
    ROW("half a swallowed value's end", "set a x 1\r\nx\r", BAD_EXPTIME "rest 1 swallow 1\n"),
};
#define ROW_COUNT ((int)(sizeof(rows) / sizeof(rows[0])))

static char *transcript_of(const void *bytes, size_t size, size_t cut)
{
    struct transcript script = { .value_bytes_max = VALUE_MAX };
    const uint8_t *at = bytes;
    transcript_feed(&script, at, cut);
    transcript_feed(&script, at + cut, size - cut);
    return transcript_end(&script);
}

static char *transcript_by_pieces(const void *bytes, size_t size, size_t piece)
{
    struct transcript script = { .value_bytes_max = VALUE_MAX };
    const uint8_t *at = bytes;
    for (size_t done = 0; done < size; done += piece)
        transcript_feed(&script, at + done, size - done < piece ? size - done : piece);
    return transcript_end(&script);
}

static void expect(const char *name, const char *how, size_t number, char *got,
                   const char *expected)
{
    ck_assert_msg(strcmp(got, expected) == 0, "%s, %s %zu:\n--- expected\n%s--- got\n%s", name, how,
                  number, expected, got);
    free(got);
}

/* The same outcome, however the stream is cut in two, and byte by byte. */
static void expect_stream(const char *name, const void *bytes, size_t size, const char *expected)
{
    expect(name, "in one piece, cut", 0, transcript_of(bytes, size, 0), expected);
    for (size_t cut = 1; cut < size; cut++)
        expect(name, "cut at", cut, transcript_of(bytes, size, cut), expected);
    for (size_t piece = 1; piece <= 3; piece++)
        expect(name, "in pieces of", piece, transcript_by_pieces(bytes, size, piece), expected);
}

START_TEST(a_stream_means_the_same_however_it_is_cut)
{
    expect_stream(rows[_i].name, rows[_i].input, rows[_i].size, rows[_i].expected);
}
END_TEST

/* -- Limits ------------------------------------------------------------------------------------- */

/* "<front><count times fill><back>" */
static char *repeat(const char *front, char fill, size_t count, const char *back)
{
    size_t front_size = strlen(front);
    char *text = malloc(front_size + count + strlen(back) + 1);
    ck_assert_ptr_nonnull(text);
    memcpy(text, front, front_size);
    memset(text + front_size, fill, count);
    strcpy(text + front_size + count, back);
    return text;
}

static void expect_repeat(const char *front, char fill, size_t count, const char *back,
                          const char *expected)
{
    char *text = repeat(front, fill, count, back);
    expect_stream(front, text, strlen(text), expected);
    free(text);
}

START_TEST(a_key_has_at_most_250_bytes)
{
    char *longest = repeat("get key=", 'k', 250, "\n" OK);
    expect_repeat("get ", 'k', 250, "\r\n", longest);
    expect_repeat("get ", 'k', 251, "\r\nget a\r\n", "error ERR_TOO_LARGE 250\nget key=a\n" OK);
    expect_repeat("delete ", 'k', 251, " noreply\r\nget a\r\n",
                  "error silent ERR_TOO_LARGE 250\nget key=a\n" OK);
    expect_repeat("set ", 'k', 251, " 0 5\r\nhello\r\nget a\r\n",
                  "error ERR_TOO_LARGE 250\nget key=a\n" OK);
    expect_repeat("set ", 'k', 251, " 0 17\r\n0123456789abcdefg\r\nget a\r\n",
                  "error ERR_TOO_LARGE 250\nget key=a\n" OK);
    free(longest);
}
END_TEST

START_TEST(a_line_has_at_most_1024_bytes)
{
    expect_repeat("get a", ' ', 1019, "\r\nget a\r\n", "get key=a\nget key=a\n" OK);
    expect_repeat("get a", ' ', 1019, "\nget a\r\n", "get key=a\nget key=a\n" OK);
    expect_repeat("get a", ' ', 1020, "\r\nget b\r\n", "error ERR_TOO_LARGE 1024\nget key=b\n" OK);
    expect_repeat("get a", ' ', 1020, "\nget b\r\n", "error ERR_TOO_LARGE 1024\nget key=b\n" OK);
    expect_repeat("get a", ' ', 1021, "\nget b\r\n", "error ERR_TOO_LARGE 1024\nget key=b\n" OK);
    expect_repeat("get a", ' ', 3000, "\r\nget b\r\n", "error ERR_TOO_LARGE 1024\nget key=b\n" OK);
    expect_repeat("", 'x', 3000, "\r\nget b\r\n", "error ERR_TOO_LARGE 1024\nget key=b\n" OK);
}
END_TEST

START_TEST(a_value_may_follow_a_long_line_so_it_ends_the_stream)
{
    expect_repeat("set ", 'k', 3000, " 0 5\r\nquit \r\nget b\r\n",
                  "fatal ERR_TOO_LARGE 1024\nend\n");
    expect_repeat("CAS ", 'k', 3000, " 0 1 5\r\nquit \r\n", "fatal ERR_TOO_LARGE 1024\nend\n");
    expect_repeat("set a 0 5", ' ', 1016, "\nhello\n", "fatal ERR_TOO_LARGE 1024\nend\n");
    expect_repeat("", ' ', 3000, "set a 0 5\r\nquit \r\n", "fatal ERR_TOO_LARGE 1024\nend\n");
}
END_TEST

static bool may_be_in_a_key(int byte)
{
    return byte > 0x20 && byte != 0x7f;
}

START_TEST(a_byte_in_a_key)
{
    char input[] = "get aXb\r\nget a\r\n", expected[256];
    input[5] = (char)_i;
    if (may_be_in_a_key(_i) && (_i > 0x7e || _i == '\\'))
        snprintf(expected, sizeof(expected), "get key=a\\%02xb\nget key=a\n" OK, (unsigned)_i);
    else if (may_be_in_a_key(_i))
        snprintf(expected, sizeof(expected), "get key=a%cb\nget key=a\n" OK, _i);
    else if (_i == ' ')
        snprintf(expected, sizeof(expected), GET_USAGE "get key=a\n" OK);
    else if (_i == '\n')
        snprintf(expected, sizeof(expected), "get key=a\n" UNKNOWN "get key=a\n" OK);
    else
        snprintf(expected, sizeof(expected), BAD_KEY "get key=a\n" OK);
    expect_stream("a byte in a key", input, sizeof(input) - 1, expected);
}
END_TEST

START_TEST(a_byte_in_a_value)
{
    char input[] = "set a 0 3\r\naXb\r\nget a\r\n", expected[256];
    input[12] = (char)_i;
    if (_i > 0x20 && _i < 0x7f && _i != '\\')
        snprintf(expected, sizeof(expected), "set key=a value=a%cb ttl=0 compare=0\nget key=a\n" OK,
                 _i);
    else
        snprintf(expected, sizeof(expected),
                 "set key=a value=a\\%02xb ttl=0 compare=0\nget key=a\n" OK, (unsigned)_i);
    expect_stream("a byte in a value", input, sizeof(input) - 1, expected);
}
END_TEST

START_TEST(need_is_exact_for_a_value)
{
    static const char input[] = "set a 0 10\r\n0123456789\r\n";
    struct text_parsed parsed;
    text_parse((const uint8_t *)input, 12, VALUE_MAX, &parsed);
    ck_assert_int_eq(parsed.status, TEXT_NEED_MORE);
    ck_assert_uint_eq(parsed.need, 12 + 10 + 1);
    text_parse((const uint8_t *)input, 23, VALUE_MAX, &parsed);
    ck_assert_int_eq(parsed.status, TEXT_NEED_MORE);
    ck_assert_uint_eq(parsed.need, 12 + 10 + 2);
    text_parse((const uint8_t *)input, 24, VALUE_MAX, &parsed);
    ck_assert_int_eq(parsed.status, TEXT_REQUEST);
    ck_assert_ptr_eq(parsed.request.value, input + 12); /* where it lies: no copy */
}
END_TEST

/* -- Printing ----------------------------------------------------------------------------------- */

static const struct {
    struct reply reply;
    const char *head;
    bool has_value;
} prints[] = {
    { { .type = REPLY_STORED, .version = 1 }, "OK 1\r\n", false },
    { { .type = REPLY_STORED, .version = UINT64_MAX }, "OK 18446744073709551615\r\n", false },
    { { .type = REPLY_DELETED }, "DELETED\r\n", false },
    { { .type = REPLY_VALUE, .value_size = 0 }, "VALUE 0\r\n", true },
    { { .type = REPLY_VALUE, .value_size = 1048576 }, "VALUE 1048576\r\n", true },
    { { .type = REPLY_META, .version = 7, .value_size = 5 }, "VALUE 7 0 5\r\n", true },
    { { .type = REPLY_META, .version = 7, .ttl_ms = 1, .value_size = 5 }, "VALUE 7 1 5\r\n", true },
    { { .type = REPLY_META, .version = 7, .ttl_ms = 1000 }, "VALUE 7 1 0\r\n", true },
    { { .type = REPLY_META, .version = 7, .ttl_ms = 1001 }, "VALUE 7 2 0\r\n", true },
    { { .type = REPLY_PRODUCT, .text = "1.0" }, "VERSION 1.0\r\n", false },
    { { .type = REPLY_ERROR, .error = REPLY_REDIRECT, .text = "localhost 9001" },
      "ERR_REDIRECT localhost 9001\r\n",
      false },
    { { .type = REPLY_ERROR, .error = REPLY_UNAVAILABLE, .text = "no leader" },
      "ERR_UNAVAILABLE no leader\r\n",
      false },
    { { .type = REPLY_ERROR, .error = REPLY_TIMEOUT, .text = "x" }, "ERR_TIMEOUT x\r\n", false },
    { { .type = REPLY_ERROR, .error = REPLY_NOT_FOUND }, "ERR_NOT_FOUND\r\n", false },
    { { .type = REPLY_ERROR, .error = REPLY_VERSION_DIFFERS, .version = 2 },
      "ERR_VERSION 2\r\n",
      false },
    { { .type = REPLY_ERROR, .error = REPLY_MALFORMED, .text = "x" }, "ERR_CMD_ERR x\r\n", false },
    { { .type = REPLY_ERROR, .error = REPLY_TOO_LARGE, .version = 250 },
      "ERR_TOO_LARGE 250\r\n",
      false },
    { { .type = REPLY_ERROR, .error = REPLY_BUSY, .text = "x" }, "ERR_BUSY x\r\n", false },
    { { .type = REPLY_ERROR, .error = REPLY_NO_SPACE, .text = "disk" },
      "ERR_NO_SPACE disk\r\n",
      false },
    { { .type = REPLY_ERROR, .error = REPLY_INTERNAL, .text = "a\r\nOK 1" },
      "ERR_INTERNAL a??OK 1\r\n",
      false },
};
#define PRINT_COUNT ((int)(sizeof(prints) / sizeof(prints[0])))

START_TEST(a_reply_is_printed)
{
    struct text_printed printed;
    text_print(&prints[_i].reply, &printed);
    ck_assert_msg(printed.head_size == strlen(prints[_i].head) &&
                      memcmp(printed.head, prints[_i].head, printed.head_size) == 0,
                  "expected %s got %.*s", prints[_i].head, (int)printed.head_size,
                  (const char *)printed.head);
    ck_assert(printed.has_value == prints[_i].has_value);
}
END_TEST

START_TEST(long_words_are_cut)
{
    char *text = repeat("", 'x', 5000, "");
    struct reply reply = { .type = REPLY_ERROR, .error = REPLY_INTERNAL, .text = text };
    struct text_printed printed;
    text_print(&reply, &printed);
    ck_assert_uint_eq(printed.head_size, TEXT_HEAD_MAX);
    ck_assert(memcmp(printed.head + TEXT_HEAD_MAX - 3, "x\r\n", 3) == 0);
    free(text);
}
END_TEST

START_TEST(a_status_is_printed)
{
    static const char expected[] = "STAT role leader\r\nSTAT term 4\r\nEND\r\n";
    static const char *const texts[] = { "role leader\nterm 4\n", "role leader\nterm 4" };
    for (int i = 0; i < 2; i++) {
        uint8_t bytes[64];
        size_t size = text_print_status(texts[i], NULL, 0);
        ck_assert_uint_eq(size, sizeof(expected) - 1);
        memset(bytes, '#', sizeof(bytes));
        ck_assert_uint_eq(text_print_status(texts[i], bytes, size), size);
        ck_assert(memcmp(bytes, expected, size) == 0);
        ck_assert(bytes[size] == '#');
        memset(bytes, '#', sizeof(bytes));
        ck_assert_uint_eq(text_print_status(texts[i], bytes, 10), size);
        ck_assert(memcmp(bytes, "STAT role #", 11) == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("text");
    TCase *parse = tcase_create("parse");
    tcase_set_timeout(parse, 120);
    tcase_add_loop_test(parse, a_stream_means_the_same_however_it_is_cut, 0, ROW_COUNT);
    tcase_add_test(parse, a_key_has_at_most_250_bytes);
    tcase_add_test(parse, a_line_has_at_most_1024_bytes);
    tcase_add_test(parse, a_value_may_follow_a_long_line_so_it_ends_the_stream);
    tcase_add_loop_test(parse, a_byte_in_a_key, 0, 256);
    tcase_add_loop_test(parse, a_byte_in_a_value, 0, 256);
    tcase_add_test(parse, need_is_exact_for_a_value);
    suite_add_tcase(suite, parse);

    TCase *print = tcase_create("print");
    tcase_add_loop_test(print, a_reply_is_printed, 0, PRINT_COUNT);
    tcase_add_test(print, long_words_are_cut);
    tcase_add_test(print, a_status_is_printed);
    suite_add_tcase(suite, print);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
