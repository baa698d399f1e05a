/* server.json in three passes. config_json.c refuses what is no JSON; config_keys.c takes every key
 * through a table; the checks here hold values against each other, once all are known. */
#include "server/config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/config_json.h"
#include "server/config_keys.h"

#define FILE_SHOWN_MAX 400 /* of a file's name, in a message */

/* -- Values against each other ----------------------------------------------------------------- */

static int check_numbers(const struct config *config, struct error *error)
{
    const struct config_limits *limits = &config->limits;
    const struct {
        const char *name;
        uint64_t value, least;
        const char *reason;
    } rules[] = {
        { "ElectionMinMs", config->election_ms_min, 2ull * config->heartbeat_ms,
          "twice HeartbeatMs, or one late heartbeat would start an election" },
        { "ElectionMaxMs", config->election_ms_max, config->election_ms_min, "ElectionMinMs" },
        { "Limits.OutputBytes", limits->output_bytes, 2ull * limits->value_bytes,
          "twice Limits.ValueBytes" },
        { "Limits.ClientMemoryBytes", limits->client_memory_bytes, limits->output_bytes,
          "Limits.OutputBytes" },
        { "Limits.UncommittedBytes", limits->uncommitted_bytes, 2ull * limits->value_bytes,
          "twice Limits.ValueBytes" },
        { "Limits.SegmentBytes", limits->segment_bytes,
          (uint64_t)limits->batch_bytes + limits->value_bytes + (1u << 20),
          "Limits.BatchBytes + Limits.ValueBytes + 1 MiB, so that it holds the largest entry" },
    };

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].value < rules[i].least)
            return error_set(error, -EINVAL,
                             "%s: is %" PRIu64 ", and must be at least %" PRIu64 " (%s)",
                             rules[i].name, rules[i].value, rules[i].least, rules[i].reason);
    if (limits->segment_bytes % 4096 != 0)
        return error_set(error, -EINVAL,
                         "Limits.SegmentBytes: is %" PRIu32 ", and must be a multiple of 4096",
                         limits->segment_bytes);
    return 0;
}

/* The n-th port of the list: client and log port of each server in turn. */
static uint16_t port_of(const struct config *config, int n)
{
    const struct config_server *server = &config->servers[n / 2];
    return n % 2 == 0 ? server->client_port : server->log_port;
}

static const char *port_name(int n)
{
    return n % 2 == 0 ? "ClientPort" : "LogPort";
}

static int check_addresses(const struct config *config, struct error *error)
{
    for (int i = 0; i < 2 * config->server_count; i++) {
        for (int j = 0; j < i; j++) {
            if (port_of(config, i) != port_of(config, j) ||
                !config_same_word(config->servers[i / 2].host, config->servers[j / 2].host))
                continue;
            return error_set(error, -EINVAL,
                             "Servers[%d].%s: %d on this host is already Servers[%d].%s", i / 2,
                             port_name(i), port_of(config, i), j / 2, port_name(j));
        }
    }
    return 0;
}

static int check_ids(const struct config *config, struct error *error)
{
    for (int i = 0; i < config->server_count; i++)
        for (int j = 0; j < i; j++)
            if (config->servers[i].id == config->servers[j].id)
                return error_set(error, -EINVAL,
                                 "Servers[%d].Id: %" PRIu32 " is already the Id of Servers[%d]", i,
                                 config->servers[i].id, j);
    return 0;
}

static int check(const struct config *config, struct error *error)
{
    int code = check_ids(config, error);
    if (code == 0)
        code = check_addresses(config, error);
    if (code == 0)
        code = check_numbers(config, error);
    return code;
}

/* -- The file ---------------------------------------------------------------------------------- */

/* Path is relative to the folder of the file. */
static int resolve_path(struct config *config, struct error *error)
{
    const char *slash = strrchr(config->file, '/');
    size_t folder_size = slash ? (size_t)(slash - config->file) + 1 : 0;
    size_t size = strlen(config->path);

    while (size > 1 && config->path[size - 1] == '/')
        config->path[--size] = '\0';
    if (config->path[0] == '/')
        return 0;
    if (folder_size + size >= sizeof config->path)
        return error_set(error, -EINVAL,
                         "Path: is too long: with the file's folder, at most %d"
                         " bytes are possible",
                         CONFIG_PATH_MAX - 1);
    memmove(config->path + folder_size, config->path, size + 1);
    memcpy(config->path, config->file, folder_size);
    return 0;
}

static int parse(const char *text, size_t size, const char *file, struct config *config,
                 struct error *error)
{
    if (size > CONFIG_FILE_BYTES_MAX)
        return error_set(error, -EFBIG, "has more than %u bytes", CONFIG_FILE_BYTES_MAX);
    cJSON *tree = config_json_parse(text, size, error);
    if (!tree)
        return -EINVAL;
    int code = config_keys_read(tree, config, error);
    cJSON_Delete(tree);
    if (code == 0)
        code = check(config, error);
    if (code < 0)
        return code;
    memcpy(config->file, file, strlen(file) + 1);
    return resolve_path(config, error);
}

/* Complete a message: the file before it, of a long name the end; and one line, whatever stood in
 * the file or in its name. */
static int finish_error(struct error *error, int code, const char *file)
{
    size_t size = strlen(file);
    bool is_cut = size > FILE_SHOWN_MAX;

    if (!error)
        return code;
    code = error_prefix(error, code, "%s%s", is_cut ? "..." : "",
                        is_cut ? file + size - FILE_SHOWN_MAX : file);
    for (char *c = error->text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return code;
}

static int check_file_name(const char *file, struct error *error)
{
    if (file[0] == '\0')
        return error_set(error, -EINVAL, "the name of the file is empty");
    if (strlen(file) >= CONFIG_PATH_MAX)
        return error_set(error, -ENAMETOOLONG, "the name of the file is longer than %d bytes",
                         CONFIG_PATH_MAX - 1);
    return 0;
}

int config_parse(const char *text, size_t size, const char *file, struct config *config,
                 struct error *error)
{
    int code = check_file_name(file, error);
    if (code == 0)
        code = parse(text, size, file, config, error);
    return code < 0 ? finish_error(error, code, file) : 0;
}

/* The whole file into `text`, which has room for a byte more than it may have. The size, or
 * -errno. */
static ptrdiff_t read_text(struct os *os, const char *file, char *text)
{
    size_t size = 0;
    int fd = os_open(os, file, OS_READ);
    if (fd < 0)
        return fd;

    ptrdiff_t count;
    do {
        count = os_pread(os, fd, text + size, CONFIG_FILE_BYTES_MAX + 1 - size, size);
        if (count > 0)
            size += (size_t)count;
    } while (count > 0 && size <= CONFIG_FILE_BYTES_MAX);
    (void)os_close(os, fd); /* it was only read: there is nothing to lose */
    return count < 0 ? count : (ptrdiff_t)size;
}

static int read_and_parse(struct os *os, const char *file, struct config *config,
                          struct error *error)
{
    int code = check_file_name(file, error);
    if (code < 0)
        return code;
    char *text = malloc(CONFIG_FILE_BYTES_MAX + 1);
    if (!text)
        return error_set_errno(error, -ENOMEM, "cannot read it");
    ptrdiff_t size = read_text(os, file, text);
    if (size < 0)
        code = error_set_errno(error, (int)size, "cannot read it");
    else
        code = parse(text, (size_t)size, file, config, error);
    free(text);
    return code;
}

int config_read(struct os *os, const char *file, struct config *config, struct error *error)
{
    int code = read_and_parse(os, file, config, error);
    return code < 0 ? finish_error(error, code, file) : 0;
}

const struct config_server *config_find(const struct config *config, uint32_t id)
{
    for (int i = 0; i < config->server_count; i++)
        if (config->servers[i].id == id)
            return &config->servers[i];
    return NULL;
}
