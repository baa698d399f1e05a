/* server.json: what is read from a good file, and the one line that comes of each mistake. In the
 * tables ' stands for ", so that JSON can be read inside of C. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/config.h"
#include "server/os/os_linux.h"

#define FILE_NAME "etc/server.json"
#define SERVER_0 "{'Id':0,'Host':'a','ClientPort':9000,'LogPort':8000}"
#define SERVER_1 "{'Id':1,'Host':'a','ClientPort':9001,'LogPort':8001}"
#define PATH "'Path':'data'"
#define SERVERS "'Servers':[" SERVER_0 "]"
/* A good file with one thing more. */
#define WITH(more) "{" PATH "," SERVERS "," more "}"
/* A good file but for its servers. */
#define OF(servers) "{" PATH ",'Servers':[" servers "]}"
#define SERVER(id, host, client_port, log_port) \
    "{'Id':" id ",'Host':" host ",'ClientPort':" client_port ",'LogPort':" log_port "}"

#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

static void quote(char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] == '\'')
            text[i] = '"';
}

/* config_parse() of a copy without a byte to spare, so that ASan sees one read too far. */
static int parse_bytes(const char *text, size_t size, struct config *config, struct error *error)
{
    char *copy = malloc(size > 0 ? size : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, text, size);
    quote(copy, size);
    int code = config_parse(copy, size, FILE_NAME, config, error);
    free(copy);
    return code;
}

static struct config parse_good(const char *text)
{
    struct config config;
    struct error error = { "" };
    int code = parse_bytes(text, strlen(text), &config, &error);
    ck_assert_msg(code == 0, "%s", error.text);
    return config;
}

/* -- Good files -------------------------------------------------------------------------------- */

START_TEST(a_short_file_gets_the_defaults)
{
    struct config config = parse_good("{" PATH "," SERVERS "}");

    ck_assert_str_eq(config.file, FILE_NAME);
    ck_assert_str_eq(config.path, "etc/data");
    ck_assert_str_eq(config.cluster, "raftkv");
    ck_assert_int_eq(config.server_count, 1);
    ck_assert_uint_eq(config.servers[0].id, 0);
    ck_assert_str_eq(config.servers[0].host, "a");
    ck_assert_uint_eq(config.servers[0].client_port, 9000);
    ck_assert_uint_eq(config.servers[0].log_port, 8000);
    ck_assert_uint_eq(config.heartbeat_ms, 50);
    ck_assert_uint_eq(config.election_ms_min, 150);
    ck_assert_uint_eq(config.election_ms_max, 300);
    ck_assert_int_eq(config.flush, CONFIG_FLUSH_AIO);
    ck_assert_int_eq(config.log_level, LOGGER_INFO);
    ck_assert_uint_eq(config.limits.value_bytes, 1048576);
    ck_assert_uint_eq(config.limits.clients, 10000);
    ck_assert_uint_eq(config.limits.pipeline, 1024);
    ck_assert_uint_eq(config.limits.output_bytes, 67108864);
    ck_assert_uint_eq(config.limits.client_memory_bytes, 1073741824);
    ck_assert_uint_eq(config.limits.request_timeout_ms, 30000);
    ck_assert_uint_eq(config.limits.uncommitted_bytes, 67108864);
    ck_assert_uint_eq(config.limits.batch_bytes, 1048576);
    ck_assert_uint_eq(config.limits.store_bytes, 4294967296);
    ck_assert_uint_eq(config.limits.log_cache_bytes, 67108864);
    ck_assert_uint_eq(config.limits.peer_window_bytes, 4194304);
    ck_assert_uint_eq(config.limits.segment_bytes, 16777216);
}
END_TEST

START_TEST(every_key_reaches_its_field)
{
    struct config config = parse_good(
        "{'Path':'/var/lib/kv/','Cluster':'My_cluster-1.0',"
        "'Servers':[{'Id':7,'Host':'::1','ClientPort':1,'LogPort':65535},"
        "{'Id':2147483647,'Hostname':'fe80::1%eth0','ClientPort':65535,'LogPort':1}],"
        "'HeartbeatMs':100,'ElectionMinMs':1000,'ElectionMaxMs':2000,"
        "'Flush':'Sync','LogLevel':'DEBUG',"
        "'Limits':{'ValueBytes':1000,'Clients':1,'Pipeline':2,'OutputBytes':2000000,"
        "'ClientMemoryBytes':35184372088832,'RequestTimeoutMs':100,'UncommittedBytes':1048577,"
        "'BatchBytes':65536,'StoreBytes':1048576,'LogCacheBytes':65537,'PeerWindowBytes':65538,"
        "'SegmentBytes':2097152}}");

    ck_assert_str_eq(config.path, "/var/lib/kv");
    ck_assert_str_eq(config.cluster, "My_cluster-1.0");
    ck_assert_int_eq(config.server_count, 2);
    ck_assert_uint_eq(config.servers[0].id, 7);
    ck_assert_str_eq(config.servers[0].host, "::1");
    ck_assert_uint_eq(config.servers[0].client_port, 1);
    ck_assert_uint_eq(config.servers[0].log_port, 65535);
    ck_assert_uint_eq(config.servers[1].id, 2147483647);
    ck_assert_str_eq(config.servers[1].host, "fe80::1%eth0");
    ck_assert_uint_eq(config.heartbeat_ms, 100);
    ck_assert_uint_eq(config.election_ms_min, 1000);
    ck_assert_uint_eq(config.election_ms_max, 2000);
    ck_assert_int_eq(config.flush, CONFIG_FLUSH_SYNC);
    ck_assert_int_eq(config.log_level, LOGGER_DEBUG);
    ck_assert_uint_eq(config.limits.value_bytes, 1000);
    ck_assert_uint_eq(config.limits.clients, 1);
    ck_assert_uint_eq(config.limits.pipeline, 2);
    ck_assert_uint_eq(config.limits.output_bytes, 2000000);
    ck_assert_uint_eq(config.limits.client_memory_bytes, 35184372088832);
    ck_assert_uint_eq(config.limits.request_timeout_ms, 100);
    ck_assert_uint_eq(config.limits.uncommitted_bytes, 1048577);
    ck_assert_uint_eq(config.limits.batch_bytes, 65536);
    ck_assert_uint_eq(config.limits.store_bytes, 1048576);
    ck_assert_uint_eq(config.limits.log_cache_bytes, 65537);
    ck_assert_uint_eq(config.limits.peer_window_bytes, 65538);
    ck_assert_uint_eq(config.limits.segment_bytes, 2097152);
}
END_TEST

static const struct {
    const char *name, *text;
} good[] = {
    { "keys in any case",
      "{'pATH':'data','SERVERS':[{'iD':0,'hOSTNAME':'a','clientport':1,'LOGPORT':2}],"
      "'limits':{'VALUEBYTES':1}}" },
    { "an empty Limits", WITH("'Limits':{}") },
    { "whole numbers in another spelling", WITH("'HeartbeatMs':5.0e1") },
    { "white space of every kind", "\t\r\n {" PATH "\n, \t" SERVERS "}\r\n\n" },
    { "a byte order mark", "\xef\xbb\xbf{" PATH "," SERVERS "}" },
    { "escapes", "{'Path':'d\\u0061t\\\\a\\/\\t',\"Servers\":[" SERVER_0 "]}" },
    { "bytes that are no UTF-8", "{'Path':'d\xff\x80','Servers':[" SERVER_0 "]}" },
    { "one port on two hosts", OF(SERVER("0", "'a'", "1", "2") "," SERVER("1", "'b'", "1", "2")) },
    { "the tightest timing", WITH("'HeartbeatMs':1,'ElectionMinMs':2,'ElectionMaxMs':2") },
    { "the smallest log file for its entries",
      WITH("'Limits':{'ValueBytes':4096,'BatchBytes':65536,'SegmentBytes':1118208}") },
};

START_TEST(a_good_file_is_read)
{
    struct config config;
    struct error error = { "" };
    int code = parse_bytes(good[_i].text, strlen(good[_i].text), &config, &error);
    ck_assert_msg(code == 0, "%s: %s", good[_i].name, error.text);
}
END_TEST

static const struct {
    const char *file, *path, *expected;
} paths[] = {
    { "server.json", "data", "data" },
    { "./server.json", "data", "./data" },
    { "/etc/raftkv/server.json", "data", "/etc/raftkv/data" },
    { "/server.json", "data/", "/data" },
    { "a/b/server.json", "../data", "a/b/../data" },
    { "a/server.json", "/var/data//", "/var/data" },
    { "a/server.json", "/", "/" },
    { "a/server.json", ".", "a/." },
};

START_TEST(path_is_relative_to_the_folder_of_the_file)
{
    char text[256];
    struct config config;
    struct error error = { "" };
    int size = snprintf(text, sizeof text, "{'Path':'%s'," SERVERS "}", paths[_i].path);
    quote(text, (size_t)size);
    int code = config_parse(text, (size_t)size, paths[_i].file, &config, &error);
    ck_assert_msg(code == 0, "%s", error.text);
    ck_assert_str_eq(config.path, paths[_i].expected);
    ck_assert_str_eq(config.file, paths[_i].file);
}
END_TEST

/* -- Mistakes ---------------------------------------------------------------------------------- */

#define BAD(name, text, expected) \
    { \
        name, text, sizeof(text) - 1, FILE_NAME ": " expected \
    }
#define NO_JSON(name, text, place, reason) BAD(name, text, place ": not valid JSON: " reason)
#define MISPLACED "this does not belong here"
#define CONTROL "text with a control character or a line break in it (a quote may be missing)"

static const struct {
    const char *name, *text;
    size_t size;
    const char *expected;
} bad[] = {
    /* What is no JSON, and where. */
    NO_JSON("nothing", "", "line 1, column 1", "it ends too early"),
    NO_JSON("white space", " \n ", "line 2, column 2", "it ends too early"),
    NO_JSON("cut in the middle", "{" PATH ",", "line 1, column 16",
            "the file ends before the closing '}'"),
    NO_JSON("cut in a list", "{" PATH ",\n'Servers':[", "line 2, column 12",
            "the file ends before the closing ']'"),
    NO_JSON("cut in a text", "{\n 'Path", "line 2, column 2",
            "text whose closing quote is missing"),
    NO_JSON("cut behind a backslash", "{'Path\\", "line 1, column 2",
            "text whose closing quote is missing"),
    NO_JSON("something behind it", "{" PATH "," SERVERS "} {}", "line 1, column 82", MISPLACED),
    NO_JSON("a bracket too many", "{" PATH "," SERVERS "}}", "line 1, column 81",
            "a bracket that closes nothing"),
    NO_JSON("the wrong bracket", "{'Servers':[}", "line 1, column 13", "the wrong closing bracket"),
    NO_JSON("a comma missing", "{" PATH "\n" SERVERS "}", "line 2, column 1", MISPLACED),
    NO_JSON("a comma too many", "{" PATH "," SERVERS ", }", "line 1, column 82",
            "a comma with nothing behind it"),
    NO_JSON("two commas", "{" PATH ",," SERVERS "}", "line 1, column 17", MISPLACED),
    NO_JSON("a colon missing", "{'Path' 'data'}", "line 1, column 9", MISPLACED),
    NO_JSON("a bad escape", "{'Path':'\\x'}", "line 1, column 10", MISPLACED),
    NO_JSON("half a surrogate pair", "{'Path':'\\ud800'}", "line 1, column 10", MISPLACED),
    NO_JSON("a NUL in a text", "{'Pa\0th':'data'}", "line 1, column 5", CONTROL),
    NO_JSON("a NUL in a text, escaped", "{'Path\\u0000':'data'}", "line 1, column 7",
            "\\u0000 has no place in a text"),
    NO_JSON("a NUL between", "{\0'Path':'data'}", "line 1, column 2", "a control character"),
    NO_JSON("a NUL behind", "{" PATH "," SERVERS "}\0", "line 1, column 81", "a control character"),
    NO_JSON("a tab in a text", "{'Path':'da\tta'}", "line 1, column 12", CONTROL),
    NO_JSON("a quote missing", "{'Path':'data,\n'Servers':[]}", "line 1, column 15", CONTROL),
    NO_JSON("too deep", "[[[[[[[[[]]]]]]]]]", "line 1, column 9", "nested too deeply"),
    NO_JSON("a leading zero", WITH("'HeartbeatMs':050"), "line 1, column 95",
            "a number with a leading zero"),
    NO_JSON("a point without digits", WITH("'HeartbeatMs':5."), "line 1, column 97",
            "a number needs digits behind its point"),
    NO_JSON("an exponent without digits", WITH("'HeartbeatMs':5e"), "line 1, column 97",
            "a number needs digits in its exponent"),
    NO_JSON("a minus without digits", WITH("'HeartbeatMs':-"), "line 1, column 96",
            "a number needs digits"),
    NO_JSON("a plus", WITH("'HeartbeatMs':+5"), "line 1, column 95",
            "a character that JSON does not know"),
    NO_JSON("a hexadecimal number", WITH("'HeartbeatMs':0x5"), "line 1, column 96",
            "a word without quotes"),
    NO_JSON("a number without end",
            WITH("'HeartbeatMs':"
                 "1234567890123456789012345678901234567890123456789012345678901"),
            "line 1, column 95", "a number of too many digits"),
    NO_JSON("a word without quotes", "{Path:'data'}", "line 1, column 2", "a word without quotes"),
    NO_JSON("a word in another case", WITH("'Flush':True"), "line 1, column 89",
            "a word without quotes"),
    NO_JSON("a comment", "{ // the folder\n" PATH "}", "line 1, column 3", "JSON has no comments"),

    /* Keys. */
    BAD("no object", "[]", "must hold an object, not a list"),
    BAD("an unknown key", WITH("'Colour':'red'"), "Colour: unknown key"),
    BAD("an unknown key, nearly known", WITH("'HartbeatMs':50"),
        "HartbeatMs: unknown key (did you mean \"HeartbeatMs\"?)"),
    BAD("an unknown key of a server",
        OF("{'Id':0,'Host':'a','ClientPort':1,'LogPort':2,'clientprot':3}"),
        "Servers[0].clientprot: unknown key (did you mean \"ClientPort\"?)"),
    BAD("an unknown limit", WITH("'Limits':{'Valuebyte':1}"),
        "Limits.Valuebyte: unknown key (did you mean \"ValueBytes\"?)"),
    BAD("a key of another object", WITH("'ValueBytes':1"), "ValueBytes: unknown key"),
    BAD("an empty key", WITH("'':1"), ": unknown key"),
    BAD("a key with a line break in it", WITH("'a\\nb':1"), "a?b: unknown key"),
    BAD("a key twice", WITH(PATH), "Path: is given twice"),
    BAD("a key twice, in another case", WITH("'PATH':'other'"), "Path: is given twice"),
    BAD("a limit twice", WITH("'Limits':{'Clients':1,'Clients':1}"),
        "Limits.Clients: is given twice"),
    BAD("both names of a host", OF("{'Id':0,'Host':'a','Hostname':'a','ClientPort':1,'LogPort':2}"),
        "Servers[0].Hostname: is given, and \"Host\" too: keep one"),
    BAD("no Path", "{" SERVERS "}", "Path: is missing"),
    BAD("no Servers", "{" PATH "}", "Servers: is missing"),
    BAD("no Id", OF("{'Host':'a','ClientPort':1,'LogPort':2}"), "Servers[0].Id: is missing"),
    BAD("no Host", OF(SERVER_0 ",{'Id':1,'ClientPort':1,'LogPort':2}"),
        "Servers[1].Host: is missing"),
    BAD("no ClientPort", OF("{'Id':0,'Host':'a','LogPort':2}"),
        "Servers[0].ClientPort: is missing"),
    BAD("no LogPort", OF("{'Id':0,'Host':'a','ClientPort':2}"), "Servers[0].LogPort: is missing"),

    /* Types. */
    BAD("a number for a text", "{'Path':1," SERVERS "}",
        "Path: must be text in quotes, not a number"),
    BAD("null for a text", WITH("'Cluster':null"), "Cluster: must be text in quotes, not null"),
    BAD("a text for a number", WITH("'HeartbeatMs':'50'"),
        "HeartbeatMs: must be a number, not text"),
    BAD("true for a number", WITH("'HeartbeatMs':true"),
        "HeartbeatMs: must be a number, not true or false"),
    BAD("an object for a list", "{" PATH ",'Servers':{}}",
        "Servers: must be a list of servers, not an object"),
    BAD("a list for a server", OF("[]"), "Servers[0]: must be an object, not a list"),
    BAD("a list for the limits", WITH("'Limits':[]"), "Limits: must be an object, not a list"),
    BAD("a list for a host", OF(SERVER("0", "['a']", "1", "2")),
        "Servers[0].Host: must be text in quotes, not a list"),

    /* Ranges. */
    BAD("no server", OF(""), "Servers: must be 1 to 9 servers, not 0"),
    BAD("ten servers", OF("1,2,3,4,5,6,7,8,9,10"), "Servers: must be 1 to 9 servers, not 10"),
    BAD("an Id below 0", OF(SERVER("-1", "'a'", "1", "2")),
        "Servers[0].Id: must be a whole number from 0 to 2147483647, not -1"),
    BAD("an Id of 2^31", OF(SERVER("2147483648", "'a'", "1", "2")),
        "Servers[0].Id: must be a whole number from 0 to 2147483647, not 2147483648"),
    BAD("half an Id", OF(SERVER("0.5", "'a'", "1", "2")),
        "Servers[0].Id: must be a whole number from 0 to 2147483647, not 0.5"),
    BAD("port 0", OF(SERVER("0", "'a'", "0", "2")),
        "Servers[0].ClientPort: must be a whole number from 1 to 65535, not 0"),
    BAD("port 65536", OF(SERVER("0", "'a'", "1", "65536")),
        "Servers[0].LogPort: must be a whole number from 1 to 65535, not 65536"),
    BAD("beyond every number", OF(SERVER("0", "'a'", "1e400", "2")),
        "Servers[0].ClientPort: must be a whole number from 1 to 65535, not inf"),
    BAD("below every number", OF(SERVER("0", "'a'", "-1e400", "2")),
        "Servers[0].ClientPort: must be a whole number from 1 to 65535, not -inf"),
    BAD("an empty Path", "{'Path':''," SERVERS "}", "Path: must name a folder, and is empty"),
    BAD("an empty Host", OF(SERVER("0", "''", "1", "2")),
        "Servers[0].Host: must name a host, and is empty"),
    BAD("a Host with its port", OF(SERVER("0", "'[::1]:80'", "1", "2")),
        "Servers[0].Host: is no host name or address: \"[::1]:80\" (a port has its own key)"),
    BAD("a Host like an option", OF(SERVER("0", "'-e'", "1", "2")),
        "Servers[0].Host: is no host name or address: \"-e\" (a port has its own key)"),
    BAD("a Host with a line break", OF(SERVER("0", "'a\\nb'", "1", "2")),
        "Servers[0].Host: is no host name or address: \"a?b\" (a port has its own key)"),
    BAD("an empty Cluster", WITH("'Cluster':''"),
        "Cluster: must be 1 to 63 letters, digits, '.', '_' or '-', not \"\""),
    BAD("a Cluster with a space", WITH("'Cluster':'my kv'"),
        "Cluster: must be 1 to 63 letters, digits, '.', '_' or '-', not \"my kv\""),
    BAD("a long Cluster",
        WITH("'Cluster':'0123456789012345678901234567890123456789012345678901234567890123'"),
        "Cluster: must be 1 to 63 letters, digits, '.', '_' or '-', not "
        "\"0123456789012345678901234567890123456789012345678901234567890123\""),
    BAD("an unknown Flush", WITH("'Flush':'never'"),
        "Flush: must be \"aio\" or \"sync\", not \"never\""),
    BAD("an unknown LogLevel", WITH("'LogLevel':'loud'"),
        "LogLevel: must be \"debug\", \"info\", \"warn\" or \"error\", not \"loud\""),
    BAD("a limit beyond its range", WITH("'Limits':{'ValueBytes':67108865}"),
        "Limits.ValueBytes: must be a whole number from 1 to 67108864, not 67108865"),

    /* One value against another. */
    BAD("an Id twice", OF(SERVER_0 "," SERVER_1 "," SERVER("1", "'b'", "1", "2")),
        "Servers[2].Id: 1 is already the Id of Servers[1]"),
    BAD("a ClientPort twice", OF(SERVER_0 "," SERVER("1", "'A'", "9000", "2")),
        "Servers[1].ClientPort: 9000 on this host is already Servers[0].ClientPort"),
    BAD("a LogPort that is a ClientPort", OF(SERVER_0 "," SERVER("1", "'a'", "1", "9000")),
        "Servers[1].LogPort: 9000 on this host is already Servers[0].ClientPort"),
    BAD("a server with one port for both", OF(SERVER("0", "'a'", "1", "1")),
        "Servers[0].LogPort: 1 on this host is already Servers[0].ClientPort"),
    BAD("heartbeats as slow as elections", WITH("'HeartbeatMs':150"),
        "ElectionMinMs: is 150, and must be at least 300 (twice HeartbeatMs, or one late "
        "heartbeat would start an election)"),
    BAD("heartbeats just too slow", WITH("'HeartbeatMs':76"),
        "ElectionMinMs: is 150, and must be at least 152 (twice HeartbeatMs, or one late "
        "heartbeat would start an election)"),
    BAD("elections upside down", WITH("'ElectionMinMs':301"),
        "ElectionMaxMs: is 300, and must be at least 301 (ElectionMinMs)"),
    BAD("replies larger than the output", WITH("'Limits':{'OutputBytes':2097151}"),
        "Limits.OutputBytes: is 2097151, and must be at least 2097152 (twice Limits.ValueBytes)"),
    BAD("one connection larger than all", WITH("'Limits':{'ClientMemoryBytes':67108863}"),
        "Limits.ClientMemoryBytes: is 67108863, and must be at least 67108864 "
        "(Limits.OutputBytes)"),
    BAD("values larger than what may be under way", WITH("'Limits':{'UncommittedBytes':2097151}"),
        "Limits.UncommittedBytes: is 2097151, and must be at least 2097152 "
        "(twice Limits.ValueBytes)"),
    BAD("entries larger than a file of the log", WITH("'Limits':{'SegmentBytes':3145727}"),
        "Limits.SegmentBytes: is 3145727, and must be at least 3145728 (Limits.BatchBytes + "
        "Limits.ValueBytes + 1 MiB, so that it holds the largest entry)"),
    BAD("a log file of broken pages", WITH("'Limits':{'SegmentBytes':3145729}"),
        "Limits.SegmentBytes: is 3145729, and must be a multiple of 4096"),
};

START_TEST(a_mistake_is_one_line_with_file_key_and_reason)
{
    struct config config;
    struct error error = { "" };
    int code = parse_bytes(bad[_i].text, bad[_i].size, &config, &error);
    ck_assert_msg(code < 0, "%s: accepted", bad[_i].name);
    ck_assert_msg(strcmp(error.text, bad[_i].expected) == 0, "%s:\n     got: %s\nexpected: %s",
                  bad[_i].name, error.text, bad[_i].expected);
}
END_TEST

/* Each limit's range ends where the table in README.md says. */
static const struct {
    const char *name;
    uint64_t min, max;
} ranges[] = {
    { "ValueBytes", 1, 67108864 },
    { "Clients", 1, 1000000 },
    { "Pipeline", 1, 65536 },
    { "OutputBytes", 1048576, 2147483648 },
    { "ClientMemoryBytes", 1048576, 35184372088832 },
    { "RequestTimeoutMs", 100, 3600000 },
    { "UncommittedBytes", 1048576, 1099511627776 },
    { "BatchBytes", 65536, 16777216 },
    { "StoreBytes", 1048576, 64424509440 },
    { "LogCacheBytes", 65536, 35184372088832 },
    { "PeerWindowBytes", 65536, 1073741824 },
    { "SegmentBytes", 65536, 1073741824 },
};

/* Whether the key's own range lets `number` pass; what other keys say about it does not count. */
static bool is_in_range(const char *name, uint64_t number)
{
    char text[512], refused[128];
    struct config config;
    struct error error = { "" };
    int size = snprintf(text, sizeof text, WITH("'Limits':{'%s':%" PRIu64 "}"), name, number);
    (void)snprintf(refused, sizeof refused, "Limits.%s: must be a whole number from", name);
    int code = parse_bytes(text, (size_t)size, &config, &error);
    return code == 0 || !strstr(error.text, refused);
}

START_TEST(a_limit_has_the_range_that_is_documented)
{
    const char *name = ranges[_i].name;

    ck_assert_msg(is_in_range(name, ranges[_i].min), "%s: its minimum is refused", name);
    ck_assert_msg(is_in_range(name, ranges[_i].max), "%s: its maximum is refused", name);
    ck_assert_msg(!is_in_range(name, ranges[_i].min - 1), "%s: one less passes", name);
    ck_assert_msg(!is_in_range(name, ranges[_i].max + 1), "%s: one more passes", name);
}
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
{
    const char *text = WITH("'Cluster':'x','Limits':{'Clients':10}");
    struct config config;
    struct error error;

    for (size_t size = 0; size < strlen(text); size++)
        ck_assert_msg(parse_bytes(text, size, &config, &error) < 0, "cut to %zu bytes", size);
}
END_TEST

/* Any one byte replaced by any other: whatever comes of it, it is one whole line or a good file. */
START_TEST(a_file_with_any_wrong_byte_does_no_harm)
{
    const char *text = WITH("'Limits':{'Clients':10}");
    size_t size = strlen(text);
    char *copy = malloc(size);
    struct config config;

    ck_assert_ptr_nonnull(copy);
    for (size_t i = 0; i < size; i++) {
        for (int byte = 0; byte < 256; byte++) {
            struct error error = { "" };
            memcpy(copy, text, size);
            quote(copy, size);
            copy[i] = (char)byte;
            if (config_parse(copy, size, FILE_NAME, &config, &error) == 0)
                continue;
            ck_assert_msg(strncmp(error.text, FILE_NAME ": ", strlen(FILE_NAME ": ")) == 0 &&
                              strcspn(error.text, "\n\r") == strlen(error.text),
                          "byte %zu as %d: %s", i, byte, error.text);
        }
    }
    free(copy);
}
END_TEST

START_TEST(a_long_text_is_refused_and_quoted_in_part)
{
    static char text[CONFIG_PATH_MAX + 512];
    struct config config;
    struct error error = { "" };
    char long_word[CONFIG_PATH_MAX + 1];

    memset(long_word, 'x', CONFIG_PATH_MAX);
    long_word[CONFIG_PATH_MAX] = '\0';
    int size = snprintf(text, sizeof text, "{'Path':'%s'," SERVERS "}", long_word);
    ck_assert_int_lt(parse_bytes(text, (size_t)size, &config, &error), 0);
    ck_assert_str_eq(error.text, FILE_NAME ": Path: is 3072 bytes long; at most 3071 are possible");

    size = snprintf(text, sizeof text, "{'Path':'%s'," SERVERS "}", long_word + 1);
    ck_assert_int_lt(parse_bytes(text, (size_t)size, &config, &error), 0);
    ck_assert_str_eq(error.text, FILE_NAME ": Path: is too long: with the file's folder, at most "
                                           "3071 bytes are possible");

    size = snprintf(text, sizeof text, "{" PATH ",'Servers':[" SERVER("0", "'%s'", "1", "2") "]}",
                    long_word + CONFIG_PATH_MAX - 254);
    ck_assert_int_lt(parse_bytes(text, (size_t)size, &config, &error), 0);
    ck_assert_str_eq(error.text,
                     FILE_NAME ": Servers[0].Host: is 254 bytes long; at most 253 are possible");

    size = snprintf(text, sizeof text, "{'%s':1}", long_word);
    ck_assert_int_lt(parse_bytes(text, (size_t)size, &config, &error), 0);
    ck_assert_uint_lt(strlen(error.text), 200);
}
END_TEST

START_TEST(a_callers_missing_error_is_no_crash)
{
    struct config config;
    ck_assert_int_lt(config_parse("", 0, FILE_NAME, &config, NULL), 0);
    ck_assert_int_lt(config_parse("{}", 2, FILE_NAME, &config, NULL), 0);
}
END_TEST

/* -- The file ---------------------------------------------------------------------------------- */

struct folder {
    struct os *os;
    char path[64];
    char file[96];
};

static struct folder open_folder(void)
{
    struct folder folder = { .os = os_linux_new(), .path = "/tmp/raftkv-config-XXXXXX" };
    ck_assert_ptr_nonnull(folder.os);
    ck_assert_ptr_nonnull(mkdtemp(folder.path));
    (void)snprintf(folder.file, sizeof folder.file, "%s/server.json", folder.path);
    return folder;
}

static void write_file(const struct folder *folder, const char *text, size_t size)
{
    FILE *file = fopen(folder->file, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

static void close_folder(struct folder *folder)
{
    (void)unlink(folder->file);
    ck_assert_int_eq(rmdir(folder->path), 0);
    os_linux_free(folder->os);
}

START_TEST(a_file_is_read_from_disk)
{
    struct folder folder = open_folder();
    struct config config;
    struct error error = { "" };
    char text[] = "{" PATH "," SERVERS "}\n", expected[128];

    quote(text, sizeof text - 1);
    write_file(&folder, text, sizeof text - 1);
    int code = config_read(folder.os, folder.file, &config, &error);
    ck_assert_msg(code == 0, "%s", error.text);
    (void)snprintf(expected, sizeof expected, "%s/data", folder.path);
    ck_assert_str_eq(config.path, expected);
    close_folder(&folder);
}
END_TEST

START_TEST(a_missing_file_is_named)
{
    struct folder folder = open_folder();
    struct config config;
    struct error error = { "" };
    char expected[160];

    ck_assert_int_eq(config_read(folder.os, folder.file, &config, &error), -ENOENT);
    (void)snprintf(expected, sizeof expected, "%s: cannot read it: No such file or directory",
                   folder.file);
    ck_assert_str_eq(error.text, expected);
    close_folder(&folder);
}
END_TEST

START_TEST(a_folder_is_no_file)
{
    struct folder folder = open_folder();
    struct config config;
    struct error error = { "" };

    ck_assert_int_lt(config_read(folder.os, folder.path, &config, &error), 0);
    ck_assert_msg(strstr(error.text, ": cannot read it: Is a directory") != NULL, "%s", error.text);
    close_folder(&folder);
}
END_TEST

START_TEST(a_file_may_have_a_mebibyte_and_no_more)
{
    struct folder folder = open_folder();
    struct config config;
    struct error error = { "" };
    const size_t size = CONFIG_FILE_BYTES_MAX;
    char *text = malloc(size + 1), start[] = "{" PATH "," SERVERS "}", expected[160];

    ck_assert_ptr_nonnull(text);
    memset(text, ' ', size + 1);
    memcpy(text, start, sizeof start - 1);
    quote(text, sizeof start - 1);
    write_file(&folder, text, size);
    int code = config_read(folder.os, folder.file, &config, &error);
    ck_assert_msg(code == 0, "%s", error.text);

    write_file(&folder, text, size + 1);
    ck_assert_int_lt(config_read(folder.os, folder.file, &config, &error), 0);
    (void)snprintf(expected, sizeof expected, "%s: has more than 1048576 bytes", folder.file);
    ck_assert_str_eq(error.text, expected);
    free(text);
    close_folder(&folder);
}
END_TEST

START_TEST(a_bad_name_of_a_file_is_refused)
{
    static char long_name[CONFIG_PATH_MAX + 1];
    struct os *os = os_linux_new();
    struct config config;
    struct error error = { "" };

    ck_assert_ptr_nonnull(os);
    ck_assert_int_lt(config_read(os, "", &config, &error), 0);
    ck_assert_str_eq(error.text, ": the name of the file is empty");

    ck_assert_int_lt(config_read(os, "no\nsuch", &config, &error), 0);
    ck_assert_str_eq(error.text, "no?such: cannot read it: No such file or directory");

    memset(long_name, 'n', CONFIG_PATH_MAX);
    ck_assert_int_lt(config_read(os, long_name, &config, &error), 0);
    const char *reason = "n: the name of the file is longer than 3071 bytes";
    ck_assert_msg(strncmp(error.text, "...n", 4) == 0 && strstr(error.text, reason) != NULL, "%s",
                  error.text);
    os_linux_free(os);
}
END_TEST

START_TEST(a_server_is_found_by_its_id)
{
    struct config config = parse_good(OF(SERVER_0 "," SERVER("7", "'a'", "1", "2")));

    ck_assert_ptr_eq(config_find(&config, 0), &config.servers[0]);
    ck_assert_ptr_eq(config_find(&config, 7), &config.servers[1]);
    ck_assert_ptr_null(config_find(&config, 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *reads = tcase_create("good files");
    TCase *refuses = tcase_create("mistakes");
    TCase *files = tcase_create("files");

    tcase_add_test(reads, a_short_file_gets_the_defaults);
    tcase_add_test(reads, every_key_reaches_its_field);
    tcase_add_loop_test(reads, a_good_file_is_read, 0, COUNT(good));
    tcase_add_loop_test(reads, path_is_relative_to_the_folder_of_the_file, 0, COUNT(paths));
    tcase_add_test(reads, a_server_is_found_by_its_id);
    suite_add_tcase(suite, reads);

    tcase_add_loop_test(refuses, a_mistake_is_one_line_with_file_key_and_reason, 0, COUNT(bad));
    tcase_add_loop_test(refuses, a_limit_has_the_range_that_is_documented, 0, COUNT(ranges));
    tcase_add_test(refuses, a_file_cut_anywhere_is_refused);
    tcase_add_test(refuses, a_file_with_any_wrong_byte_does_no_harm);
    tcase_add_test(refuses, a_long_text_is_refused_and_quoted_in_part);
    tcase_add_test(refuses, a_callers_missing_error_is_no_crash);
    suite_add_tcase(suite, refuses);

    tcase_add_test(files, a_file_is_read_from_disk);
    tcase_add_test(files, a_missing_file_is_named);
    tcase_add_test(files, a_folder_is_no_file);
    tcase_add_test(files, a_file_may_have_a_mebibyte_and_no_more);
    tcase_add_test(files, a_bad_name_of_a_file_is_refused);
    suite_add_tcase(suite, files);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
