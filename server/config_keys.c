/* A line of a table for each key says how it is read, where it goes and what it may be;
 * read_section() takes an object's keys through their table, so that a key which is unknown,
 * given twice or missing cannot pass in silence. */
#include "server/config_keys.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define WORD_MAX 80 /* of what stood in the file, quoted in a message */

struct section;

/* One key of an object. Keys with the same `offset` are names of the same thing. */
struct key {
    const char *name;
    int (*read)(const struct section *section, const struct key *key, const cJSON *value);
    bool is_required;
    size_t offset, size;      /* of its field in the section's target */
    uint64_t value, min, max; /* of a number: if it is not given, and its range */
};

/* An object while it is read. */
struct section {
    char prefix[24]; /* what a message puts before the key: "", "Limits.", "Servers[2]." */
    const struct key *keys;
    size_t key_count;
    void *target;
    struct error *error;
};

/* -- Words ------------------------------------------------------------------------------------- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool config_same_word(const char *a, const char *b)
{
    while (*a != '\0' && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

static bool is_letter_or_digit(char c)
{
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9');
}

/* Letters, digits and `extra` only. */
static bool has_only(const char *text, const char *extra)
{
    for (; *text != '\0'; text++)
        if (!is_letter_or_digit(*text) && !strchr(extra, *text))
            return false;
    return true;
}

/* How many letters must be changed, added or left out to make one word of the other; or `limit`, if
 * it is that many or more. Both words are short, so the plain recursion is enough. */
static int distance(const char *a, const char *b, int limit)
{
    while (*a != '\0' && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    if (*a == '\0' && *b == '\0')
        return 0;
    if (limit <= 1)
        return 1;
    int least = limit - 1;
    if (*a != '\0' && *b != '\0')
        least = distance(a + 1, b + 1, least);
    if (*a != '\0')
        least = distance(a + 1, b, least);
    if (*b != '\0')
        least = distance(a, b + 1, least);
    return least + 1;
}

static const char *type_name(const cJSON *value)
{
    if (cJSON_IsObject(value))
        return "an object";
    if (cJSON_IsArray(value))
        return "a list";
    if (cJSON_IsString(value))
        return "text";
    if (cJSON_IsNumber(value))
        return "a number";
    return cJSON_IsNull(value) ? "null" : "true or false";
}

/* -- Values of keys ---------------------------------------------------------------------------- */

static void *field_of(const struct section *section, const struct key *key)
{
    return (char *)section->target + key->offset;
}

static int set_wrong_type(const struct section *section, const struct key *key, const char *wanted,
                          const cJSON *value)
{
    return error_set(section->error, -EINVAL, "%s%s: must be %s, not %s", section->prefix,
                     key->name, wanted, type_name(value));
}

/* The text, or NULL with the error set. */
static const char *get_text(const struct section *section, const struct key *key,
                            const cJSON *value)
{
    if (cJSON_IsString(value))
        return value->valuestring;
    (void)set_wrong_type(section, key, "text in quotes", value);
    return NULL;
}

static void store_number(void *field, size_t size, uint64_t number)
{
    switch (size) {
    case sizeof(uint16_t):
        *(uint16_t *)field = (uint16_t)number;
        return;
    case sizeof(uint32_t):
        *(uint32_t *)field = (uint32_t)number;
        return;
    default:
        assert(size == sizeof(uint64_t));
        *(uint64_t *)field = number;
    }
}

static int read_number(const struct section *section, const struct key *key, const cJSON *value)
{
    if (!cJSON_IsNumber(value))
        return set_wrong_type(section, key, "a number", value);

    double number = value->valuedouble;
    /* No range goes beyond 2^53, so a double holds every number in it exactly. */
    if (number >= (double)key->min && number <= (double)key->max &&
        (double)(uint64_t)number == number) {
        store_number(field_of(section, key), key->size, (uint64_t)number);
        return 0;
    }
    return error_set(section->error, -EINVAL,
                     "%s%s: must be a whole number from %" PRIu64 " to %" PRIu64 ", not %.17g",
                     section->prefix, key->name, key->min, key->max, number);
}

static int read_path(const struct section *section, const struct key *key, const cJSON *value)
{
    const char *text = get_text(section, key, value);
    if (!text)
        return -EINVAL;
    size_t size = strlen(text);
    if (size == 0)
        return error_set(section->error, -EINVAL, "%s: must name a folder, and is empty",
                         key->name);
    if (size >= key->size)
        return error_set(section->error, -EINVAL, "%s: is %zu bytes long; at most %zu are possible",
                         key->name, size, key->size - 1);
    memcpy(field_of(section, key), text, size + 1);
    return 0;
}

static int read_cluster(const struct section *section, const struct key *key, const cJSON *value)
{
    const char *text = get_text(section, key, value);
    if (!text)
        return -EINVAL;
    size_t size = strlen(text);
    if (size == 0 || size >= key->size || !has_only(text, "._-"))
        return error_set(section->error, -EINVAL,
                         "%s: must be 1 to %zu letters, digits, '.', '_' or '-', not \"%.*s\"",
                         key->name, key->size - 1, WORD_MAX, text);
    memcpy(field_of(section, key), text, size + 1);
    return 0;
}

/* Names and numeric addresses, IPv6 with its ':' and '%' too. It is told to clients, who give it to
 * their tools: so nothing that a shell or a command line would take for something else. */
static int read_host(const struct section *section, const struct key *key, const cJSON *value)
{
    const char *text = get_text(section, key, value);
    if (!text)
        return -EINVAL;
    size_t size = strlen(text);
    if (size == 0)
        return error_set(section->error, -EINVAL, "%s%s: must name a host, and is empty",
                         section->prefix, key->name);
    if (size >= key->size)
        return error_set(section->error, -EINVAL,
                         "%s%s: is %zu bytes long; at most %zu are possible", section->prefix,
                         key->name, size, key->size - 1);
    if (text[0] == '-' || !has_only(text, ".-_:%"))
        return error_set(section->error, -EINVAL,
                         "%s%s: is no host name or address: \"%.*s\" (a port has its own key)",
                         section->prefix, key->name, WORD_MAX, text);
    memcpy(field_of(section, key), text, size + 1);
    return 0;
}

static int read_flush(const struct section *section, const struct key *key, const cJSON *value)
{
    enum config_flush *flush = field_of(section, key);
    const char *text = get_text(section, key, value);
    if (!text)
        return -EINVAL;
    if (config_same_word(text, "aio"))
        *flush = CONFIG_FLUSH_AIO;
    else if (config_same_word(text, "sync"))
        *flush = CONFIG_FLUSH_SYNC;
    else
        return error_set(section->error, -EINVAL, "%s: must be \"aio\" or \"sync\", not \"%.*s\"",
                         key->name, WORD_MAX, text);
    return 0;
}

static int read_log_level(const struct section *section, const struct key *key, const cJSON *value)
{
    enum logger_level *level = field_of(section, key);
    const char *text = get_text(section, key, value);
    if (!text)
        return -EINVAL;
    int parsed = logger_level_parse(text);
    if (parsed < 0)
        return error_set(section->error, -EINVAL,
                         "%s: must be \"debug\", \"info\", \"warn\" or \"error\", not \"%.*s\"",
                         key->name, WORD_MAX, text);
    *level = (enum logger_level)parsed;
    return 0;
}

static int read_servers(const struct section *section, const struct key *key, const cJSON *value);
static int read_limits(const struct section *section, const struct key *key, const cJSON *value);

/* -- The keys ---------------------------------------------------------------------------------- */

#define OPTIONAL false
#define REQUIRED true
#define FIELD(type, field) offsetof(struct type, field), sizeof(((struct type *)0)->field)
#define LIMIT(name, field, value, min, max) \
    { \
        name, read_number, OPTIONAL, FIELD(config_limits, field), value, min, max \
    }

#define KEYS(table) .keys = (table), .key_count = sizeof(table) / sizeof((table)[0])

static const struct key top_keys[] = {
    { "Path", read_path, REQUIRED, FIELD(config, path), 0, 0, 0 },
    { "Servers", read_servers, REQUIRED, FIELD(config, servers), 0, 0, 0 },
    { "Cluster", read_cluster, OPTIONAL, FIELD(config, cluster), 0, 0, 0 },
    /* The time without a leader is about the election timeout, so it is as short as a busy machine
     * allows: three heartbeats at least, and spread over as much again so that candidates rarely
     * meet (§9.3). */
    { "HeartbeatMs", read_number, OPTIONAL, FIELD(config, heartbeat_ms), 50, 1, 10000 },
    { "ElectionMinMs", read_number, OPTIONAL, FIELD(config, election_ms_min), 150, 2, 60000 },
    { "ElectionMaxMs", read_number, OPTIONAL, FIELD(config, election_ms_max), 300, 2, 60000 },
    { "Flush", read_flush, OPTIONAL, FIELD(config, flush), 0, 0, 0 },
    { "LogLevel", read_log_level, OPTIONAL, FIELD(config, log_level), 0, 0, 0 },
    { "Limits", read_limits, OPTIONAL, FIELD(config, limits), 0, 0, 0 },
};

static const struct key server_keys[] = {
    { "Id", read_number, REQUIRED, FIELD(config_server, id), 0, 0, INT32_MAX },
    { "Host", read_host, REQUIRED, FIELD(config_server, host), 0, 0, 0 },
    { "Hostname", read_host, OPTIONAL, FIELD(config_server, host), 0, 0, 0 },
    { "ClientPort", read_number, REQUIRED, FIELD(config_server, client_port), 0, 1, 65535 },
    { "LogPort", read_number, REQUIRED, FIELD(config_server, log_port), 0, 1, 65535 },
};

static const struct key limit_keys[] = {
    LIMIT("ValueBytes", value_bytes, 1 * MIB, 1, 64 * MIB),
    LIMIT("Clients", clients, 10000, 1, 1000000),
    LIMIT("Pipeline", pipeline, 1024, 1, 65536),
    LIMIT("OutputBytes", output_bytes, 64 * MIB, 1 * MIB, 2 * GIB),
    LIMIT("ClientMemoryBytes", client_memory_bytes, 1 * GIB, 1 * MIB, 32 * TIB),
    LIMIT("RequestTimeoutMs", request_timeout_ms, 30000, 100, 3600000),
    LIMIT("UncommittedBytes", uncommitted_bytes, 64 * MIB, 1 * MIB, 1 * TIB),
    LIMIT("BatchBytes", batch_bytes, 1 * MIB, 64 * KIB, 16 * MIB),
    LIMIT("StoreBytes", store_bytes, 4 * GIB, 1 * MIB, 60 * GIB),
    LIMIT("LogCacheBytes", log_cache_bytes, 64 * MIB, 64 * KIB, 32 * TIB),
    LIMIT("PeerWindowBytes", peer_window_bytes, 4 * MIB, 64 * KIB, 1 * GIB),
    LIMIT("SegmentBytes", segment_bytes, 16 * MIB, 64 * KIB, 1 * GIB),
};

/* A key's place in its table is a bit in read_section()'s set. */
_Static_assert(sizeof(top_keys) / sizeof(top_keys[0]) <= 32, "a set of keys fits into 32 bits");
_Static_assert(sizeof(server_keys) / sizeof(server_keys[0]) <= 32, "a set of keys fits");
_Static_assert(sizeof(limit_keys) / sizeof(limit_keys[0]) <= 32, "a set of keys fits");

/* -- Objects ----------------------------------------------------------------------------------- */

static const struct key *find_key(const struct section *section, const char *name)
{
    for (size_t i = 0; i < section->key_count; i++)
        if (config_same_word(section->keys[i].name, name))
            return &section->keys[i];
    return NULL;
}

static int set_unknown_key(const struct section *section, const char *name)
{
    const struct key *nearest = NULL;
    int least = 3; /* two wrong letters are a slip; more are another word */

    for (size_t i = 0; i < section->key_count; i++) {
        int found = distance(name, section->keys[i].name, least);
        if (found < least) {
            least = found;
            nearest = &section->keys[i];
        }
    }
    return error_set(section->error, -EINVAL, "%s%.*s: unknown key%s%s%s", section->prefix,
                     WORD_MAX, name, nearest ? " (did you mean \"" : "",
                     nearest ? nearest->name : "", nearest ? "\"?)" : "");
}

/* A key in `given` for the same field as `key`, or NULL. */
static const struct key *find_given(const struct section *section, uint32_t given,
                                    const struct key *key)
{
    for (size_t i = 0; i < section->key_count; i++)
        if ((given & 1u << i) && section->keys[i].offset == key->offset)
            return &section->keys[i];
    return NULL;
}

static void set_default_numbers(const struct section *section)
{
    for (size_t i = 0; i < section->key_count; i++)
        if (section->keys[i].read == read_number)
            store_number(field_of(section, &section->keys[i]), section->keys[i].size,
                         section->keys[i].value);
}

static int read_section(const struct section *section, const cJSON *object)
{
    uint32_t given = 0;
    const cJSON *value;

    set_default_numbers(section);
    cJSON_ArrayForEach (value, object) {
        const struct key *key = find_key(section, value->string);
        if (!key)
            return set_unknown_key(section, value->string);
        const struct key *before = find_given(section, given, key);
        if (before == key)
            return error_set(section->error, -EINVAL, "%s%s: is given twice", section->prefix,
                             key->name);
        if (before)
            return error_set(section->error, -EINVAL, "%s%s: is given, and \"%s\" too: keep one",
                             section->prefix, key->name, before->name);
        given |= 1u << (key - section->keys);
        int code = key->read(section, key, value);
        if (code < 0)
            return code;
    }
    for (size_t i = 0; i < section->key_count; i++)
        if (section->keys[i].is_required && !find_given(section, given, &section->keys[i]))
            return error_set(section->error, -EINVAL, "%s%s: is missing", section->prefix,
                             section->keys[i].name);
    return 0;
}

static int read_server(const cJSON *value, int slot, struct config_server *server,
                       struct error *error)
{
    struct section section = { KEYS(server_keys), .target = server, .error = error };

    (void)snprintf(section.prefix, sizeof section.prefix, "Servers[%d].", slot);
    if (!cJSON_IsObject(value))
        return error_set(error, -EINVAL, "Servers[%d]: must be an object, not %s", slot,
                         type_name(value));
    return read_section(&section, value);
}

static int read_servers(const struct section *section, const struct key *key, const cJSON *value)
{
    struct config *config = section->target;
    const cJSON *item;

    if (!cJSON_IsArray(value))
        return set_wrong_type(section, key, "a list of servers", value);
    int count = cJSON_GetArraySize(value);
    if (count < 1 || count > CONFIG_SERVERS_MAX)
        return error_set(section->error, -EINVAL, "%s: must be 1 to %d servers, not %d", key->name,
                         CONFIG_SERVERS_MAX, count);
    cJSON_ArrayForEach (item, value) {
        int slot = config->server_count;
        int code = read_server(item, slot, &config->servers[slot], section->error);
        if (code < 0)
            return code;
        config->server_count++;
    }
    return 0;
}

static int read_limits(const struct section *section, const struct key *key, const cJSON *value)
{
    struct section limits = { .prefix = "Limits.",
                              KEYS(limit_keys),
                              .target = field_of(section, key),
                              .error = section->error };

    if (!cJSON_IsObject(value))
        return set_wrong_type(section, key, "an object", value);
    return read_section(&limits, value);
}

/* -- The whole tree ---------------------------------------------------------------------------- */

int config_keys_read(const cJSON *tree, struct config *config, struct error *error)
{
    struct section top = { KEYS(top_keys), .target = config, .error = error };
    struct section limits = { KEYS(limit_keys), .target = &config->limits, .error = error };

    *config =
        (struct config){ .cluster = "raftkv", .flush = CONFIG_FLUSH_AIO, .log_level = LOGGER_INFO };
    set_default_numbers(&limits); /* "Limits" as a whole may be missing */
    if (!cJSON_IsObject(tree))
        return error_set(error, -EINVAL, "must hold an object, not %s", type_name(tree));
    return read_section(&top, tree);
}
