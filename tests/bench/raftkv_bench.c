/* raftkv-bench: how many operations a second a raftkv cluster does, how long they take, and what
 * goes wrong. This file is its command line and its report; the load itself is load.c. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/load.h"

#define CONFIG_SIZE_MAX (1u << 20)

enum output { OUTPUT_TEXT, OUTPUT_CSV, OUTPUT_JSON };

struct bench {
    struct load_options options;
    enum output output;
    char *servers; /* as given: "host:port,..." */
    const char *config;
};

static const char *const mode_names[] = { "set", "get", "mix" };

/* -- Servers ----------------------------------------------------------------------------------- */

static uint64_t parse_number(const char *name, const char *text, uint64_t min, uint64_t max)
{
    char *end;

    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || number < min || number > max)
        load_refuse("%s must be a number from %" PRIu64 " to %" PRIu64 ", not '%s'", name, min, max,
                    text);
    return number;
}

/* "host:port,host:port,..." */
static void read_servers(struct load *load, char *list)
{
    char *rest = NULL;

    for (char *word = strtok_r(list, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        char *colon = strrchr(word, ':');
        if (colon == NULL)
            load_refuse("--servers needs host:port, not '%s'", word);
        *colon = '\0';
        load_add_server(load, word, (uint16_t)parse_number("a port", colon + 1, 1, UINT16_MAX));
    }
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");

    if (file == NULL)
        load_refuse("cannot open '%s': %s", path, strerror(errno));
    char *text = malloc(CONFIG_SIZE_MAX + 1);
    if (text == NULL)
        load_refuse("out of memory");
    size_t size = fread(text, 1, CONFIG_SIZE_MAX + 1, file);
    if (ferror(file) || size > CONFIG_SIZE_MAX)
        load_refuse("cannot read '%s', or it is larger than %u bytes", path, CONFIG_SIZE_MAX);
    (void)fclose(file);
    text[size] = '\0';
    return text;
}

/* server.json, of which only the client addresses are wanted. */
static void read_config(struct load *load, const char *path)
{
    char *text = read_file(path);
    cJSON *tree = cJSON_Parse(text);
    const cJSON *item;
    bool is_empty = true;

    cJSON_ArrayForEach (item, cJSON_GetObjectItem(tree, "Servers")) {
        const cJSON *host = cJSON_GetObjectItem(item, "Host");
        const cJSON *port = cJSON_GetObjectItem(item, "ClientPort");
        if (host == NULL)
            host = cJSON_GetObjectItem(item, "Hostname");
        if (!cJSON_IsString(host) || !cJSON_IsNumber(port) || port->valueint < 1 ||
            port->valueint > UINT16_MAX)
            load_refuse("'%s': every server needs a Host and a ClientPort", path);
        load_add_server(load, host->valuestring, (uint16_t)port->valueint);
        is_empty = false;
    }
    if (is_empty)
        load_refuse("'%s' is not a server.json with Servers in it", path);
    cJSON_Delete(tree);
    free(text);
}

/* -- Report ------------------------------------------------------------------------------------ */

/* What all three forms print. */
struct report {
    const struct load_options *options;
    const struct load_result *result;
    struct histogram all;
    double rate;
    uint64_t failures;
};

static void sum_up(const struct load_options *options, const struct load_result *result,
                   struct report *report)
{
    *report = (struct report){ .options = options, .result = result, .all = result->sets };
    histogram_merge(&report->all, &result->gets);
    if (result->seconds > 0)
        report->rate = (double)report->all.count / result->seconds;
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++)
        report->failures += result->failures[i];
}

static double gap_ms(const struct load_result *result)
{
    return (double)result->gap_ns_max / 1e6;
}

static void print_kind(const char *name, const struct histogram *histogram)
{
    if (histogram->count == 0)
        return;
    printf("%-4s %12" PRIu64 "   %9.3f %9.3f %9.3f %9.3f %9.3f\n", name, histogram->count,
           histogram_mean_ms(histogram), histogram_percentile_ms(histogram, 0.5),
           histogram_percentile_ms(histogram, 0.99), histogram_percentile_ms(histogram, 0.999),
           histogram_max_ms(histogram));
}

static void print_text(const struct report *report)
{
    const struct load_options *options = report->options;
    const struct load_result *result = report->result;

    printf("%s: %u connections x depth %u, %" PRIu64
           " keys of %u bytes, values of %u bytes, %.1f s\n",
           mode_names[options->mode], options->connections, options->depth, options->keys,
           options->key_size, options->value_size, result->seconds);
    printf("%.0f operations/s, longest gap %.1f ms\n", report->rate, gap_ms(result));
    printf("       operations   mean ms       p50       p99     p99.9       max\n");
    print_kind("set", &result->sets);
    print_kind("get", &result->gets);
    if (result->misses > 0)
        printf("%" PRIu64 " gets found no key\n", result->misses);
    printf("errors: %" PRIu64, report->failures);
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++)
        if (result->failures[i] > 0)
            printf(", %s %" PRIu64, load_failure_names[i], result->failures[i]);
    printf("\n");
}

static void print_csv(const struct report *report)
{
    const struct load_options *options = report->options;

    printf("%s,%u,%u,%u,%" PRIu64 ",%.0f,%.3f,%.3f,%.3f,%.3f,%" PRIu64, mode_names[options->mode],
           options->connections, options->depth, options->value_size, report->all.count,
           report->rate, histogram_percentile_ms(&report->all, 0.5),
           histogram_percentile_ms(&report->all, 0.99),
           histogram_percentile_ms(&report->all, 0.999), histogram_max_ms(&report->all),
           report->failures);
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++)
        printf(",%" PRIu64, report->result->failures[i]);
    printf("\n");
}

static void print_json(const struct report *report)
{
    const struct load_options *options = report->options;
    const struct load_result *result = report->result;
    const char *comma = "";

    printf("{\"mode\":\"%s\",\"connections\":%u,\"depth\":%u,\"value_size\":%u,\"seconds\":%.3f,"
           "\"operations\":%" PRIu64 ",\"operations_total\":%" PRIu64 ",\"rate\":%.1f,"
           "\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"p999_ms\":%.4f,\"max_ms\":%.4f,\"gap_ms\":%.3f,"
           "\"misses\":%" PRIu64 ",\"errors\":{",
           mode_names[options->mode], options->connections, options->depth, options->value_size,
           result->seconds, report->all.count, result->operations_total, report->rate,
           histogram_percentile_ms(&report->all, 0.5), histogram_percentile_ms(&report->all, 0.99),
           histogram_percentile_ms(&report->all, 0.999), histogram_max_ms(&report->all),
           gap_ms(result), result->misses);
    for (int i = 0; i < LOAD_FAILURE_COUNT; i++) {
        if (result->failures[i] == 0)
            continue;
        printf("%s\"%s\":%" PRIu64, comma, load_failure_names[i], result->failures[i]);
        comma = ",";
    }
    printf("}}\n");
}

/* Only a run in which operations succeeded, and no reply was wrong, is a good one. */
static int report(const struct bench *bench, const struct load_result *result)
{
    static void (*const printers[])(const struct report *) = {
        [OUTPUT_TEXT] = print_text, [OUTPUT_CSV] = print_csv, [OUTPUT_JSON] = print_json
    };
    struct report report;

    sum_up(&bench->options, result, &report);
    printers[bench->output](&report);
    if (result->was_wrong)
        (void)fprintf(stderr, "raftkv-bench: some replies were wrong\n");
    uint64_t succeeded = bench->options.seconds > 0 ? report.all.count : result->operations_total;
    return succeeded > 0 && !result->was_wrong ? 0 : 1;
}

/* -- Command line ------------------------------------------------------------------------------ */

static const char help[] =
    "Usage: raftkv-bench (--servers HOST:PORT,... | --config server.json) [OPTION]...\n"
    "Load a raftkv cluster over the text protocol, and print what it does.\n"
    "\n"
    "  --servers LIST       client addresses; the leader is found from any of them\n"
    "  --config FILE        take the addresses from a server.json\n"
    "  --connections N      (50)\n"
    "  --depth P            requests that a connection sends at once (1)\n"
    "  --mode set|get|mix   (set)\n"
    "  --read-percent N     of a mix (50)\n"
    "  --keys N             different keys, drawn evenly (100000)\n"
    "  --key-size N         bytes (16)\n"
    "  --value-size N       bytes (128)\n"
    "  --preload            write every key once before anything else\n"
    "  --warmup S           seconds that are not measured (0.5)\n"
    "  --seconds S          seconds that are; 0: only preload (5)\n"
    "  --seed N             of the draw of keys (1)\n"
    "  --csv                one line: mode,connections,depth,value size,operations,\n"
    "                       operations/s,p50 ms,p99,p99.9,max,errors, then errors by kind:\n"
    "                       ERR_REDIRECT,ERR_UNAVAILABLE,ERR_TIMEOUT,ERR_VERSION,ERR_CMD_ERR,\n"
    "                       ERR_TOO_LARGE,ERR_BUSY,ERR_NO_SPACE,ERR_INTERNAL,connect,lost,\n"
    "                       unanswered,wrong\n"
    "  --json               one line\n"
    "\n"
    "Exit codes: 0 operations succeeded and every reply was right, 1 not so, 2 cannot begin.\n";

enum option_code {
    OPTION_SERVERS = 256,
    OPTION_CONFIG,
    OPTION_CONNECTIONS,
    OPTION_DEPTH,
    OPTION_MODE,
    OPTION_READ_PERCENT,
    OPTION_KEYS,
    OPTION_KEY_SIZE,
    OPTION_VALUE_SIZE,
    OPTION_PRELOAD,
    OPTION_WARMUP,
    OPTION_SECONDS,
    OPTION_SEED,
    OPTION_CSV,
    OPTION_JSON,
    OPTION_HELP,
};

static const struct option long_options[] = {
    { "servers", required_argument, NULL, OPTION_SERVERS },
    { "config", required_argument, NULL, OPTION_CONFIG },
    { "connections", required_argument, NULL, OPTION_CONNECTIONS },
    { "depth", required_argument, NULL, OPTION_DEPTH },
    { "mode", required_argument, NULL, OPTION_MODE },
    { "read-percent", required_argument, NULL, OPTION_READ_PERCENT },
    { "keys", required_argument, NULL, OPTION_KEYS },
    { "key-size", required_argument, NULL, OPTION_KEY_SIZE },
    { "value-size", required_argument, NULL, OPTION_VALUE_SIZE },
    { "preload", no_argument, NULL, OPTION_PRELOAD },
    { "warmup", required_argument, NULL, OPTION_WARMUP },
    { "seconds", required_argument, NULL, OPTION_SECONDS },
    { "seed", required_argument, NULL, OPTION_SEED },
    { "csv", no_argument, NULL, OPTION_CSV },
    { "json", no_argument, NULL, OPTION_JSON },
    { "help", no_argument, NULL, OPTION_HELP },
    { 0 },
};

static double parse_seconds(const char *name, const char *text)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 86400))
        load_refuse("%s must be seconds, 0 to 86400, not '%s'", name, text);
    return seconds;
}

static enum load_mode parse_mode(const char *text)
{
    for (int i = LOAD_SET; i <= LOAD_MIX; i++)
        if (strcmp(text, mode_names[i]) == 0)
            return (enum load_mode)i;
    load_refuse("--mode must be set, get or mix, not '%s'", text);
}

static void take_option(struct bench *bench, int option, char *value)
{
    struct load_options *options = &bench->options;

    switch (option) {
    case OPTION_SERVERS:
        bench->servers = value;
        return;
    case OPTION_CONFIG:
        bench->config = value;
        return;
    case OPTION_CONNECTIONS:
        options->connections =
            (uint32_t)parse_number("--connections", value, 1, LOAD_CONNECTIONS_MAX);
        return;
    case OPTION_DEPTH:
        options->depth = (uint32_t)parse_number("--depth", value, 1, LOAD_DEPTH_MAX);
        return;
    case OPTION_MODE:
        options->mode = parse_mode(value);
        return;
    case OPTION_READ_PERCENT:
        options->read_percent = (uint32_t)parse_number("--read-percent", value, 0, 100);
        return;
    case OPTION_KEYS:
        options->keys = parse_number("--keys", value, 1, UINT32_MAX);
        return;
    case OPTION_KEY_SIZE:
        options->key_size = (uint32_t)parse_number("--key-size", value, 1, LOAD_KEY_SIZE_MAX);
        return;
    case OPTION_VALUE_SIZE:
        options->value_size = (uint32_t)parse_number("--value-size", value, 0, LOAD_VALUE_SIZE_MAX);
        return;
    case OPTION_PRELOAD:
        options->preload = true;
        return;
    case OPTION_WARMUP:
        options->warmup = parse_seconds("--warmup", value);
        return;
    case OPTION_SECONDS:
        options->seconds = parse_seconds("--seconds", value);
        return;
    case OPTION_SEED:
        options->seed = parse_number("--seed", value, 0, UINT64_MAX);
        return;
    case OPTION_CSV:
        bench->output = OUTPUT_CSV;
        return;
    case OPTION_JSON:
        bench->output = OUTPUT_JSON;
        return;
    case OPTION_HELP:
        (void)fputs(help, stdout);
        exit(0);
    default:
        exit(2); /* getopt_long has said why */
    }
}

static void read_command_line(struct bench *bench, int argc, char **argv)
{
    int option;

    *bench = (struct bench){ 0 };
    bench->options = (struct load_options){ .connections = 50,
                                            .depth = 1,
                                            .read_percent = 50,
                                            .keys = 100000,
                                            .key_size = 16,
                                            .value_size = 128,
                                            .seed = 1,
                                            .seconds = 5,
                                            .warmup = 0.5 };
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        take_option(bench, option, optarg);
    if (optind < argc)
        load_refuse("'%s' is not an option (see --help)", argv[optind]);
    if (bench->servers == NULL && bench->config == NULL)
        load_refuse("--servers or --config is needed (see --help)");
    if (bench->options.seconds <= 0 && !bench->options.preload)
        load_refuse("--seconds 0 only makes sense with --preload");
}

int main(int argc, char **argv)
{
    struct bench bench;
    struct load_result result;

    (void)signal(SIGPIPE, SIG_IGN);
    read_command_line(&bench, argc, argv);
    struct load *load = load_new(&bench.options);
    if (bench.servers != NULL)
        read_servers(load, bench.servers);
    if (bench.config != NULL)
        read_config(load, bench.config);
    load_run(load, &result);
    load_free(load);
    return report(&bench, &result);
}
