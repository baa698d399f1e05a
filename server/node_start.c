/* A node's beginning and end: recover, listen; and give everything back. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/node_state.h"

static void note_recovered(struct node *node, const struct storage_recovered *found)
{
    char quoted[LOGGER_QUOTE_MAX];

    if (found->torn_bytes != 0)
        logger_write(&node->logger, LOGGER_WARN, "cut a torn tail", "bytes=%" PRIu64 " at=%s",
                     found->torn_bytes, logger_quote(found->torn_at, quoted));
    logger_write(&node->logger, LOGGER_INFO, "recovered",
                 "fresh=%s term=%" PRIu64 " first_index=%" PRIu64 " last_index=%" PRIu64
                 " records=%" PRIu64 " bytes=%" PRIu64 " segments=%" PRIu32 " torn_bytes=%" PRIu64
                 " incarnation=%016" PRIx64 " flush=%s",
                 found->fresh ? "yes" : "no", found->term, found->first_index, found->last_index,
                 found->records, found->bytes, found->segment_count, found->torn_bytes,
                 found->incarnation, storage_flush_name(node->storage));
}

static void start_raft(struct node *node, const struct storage_recovered *found)
{
    const struct config *config = node->config;
    uint32_t capacity = found->run_count + 2 * RAFT_RUNS_SPARE;
    struct raft_term_run *runs = calloc(capacity, sizeof *runs);
    if (runs == NULL)
        abort();
    for (uint32_t i = 0; i < found->run_count; i++)
        runs[i] = (struct raft_term_run){ found->runs[i].term, found->runs[i].first };

    struct raft_config raft_config = {
        .id = node->self->id,
        .voter_count = config->server_count,
        .heartbeat_ms = config->heartbeat_ms,
        .election_ms_min = config->election_ms_min,
        .election_ms_max = config->election_ms_max,
    };
    for (int i = 0; i < config->server_count; i++)
        raft_config.voters[i] = config->servers[i].id;
    os_random(node->os, &raft_config.seed, sizeof raft_config.seed);

    struct raft_restored restored = {
        .term = found->term,
        .voted_for = found->voted_for,
        .last_index = found->last_index,
        .runs = runs,
        .run_count = found->run_count,
        .run_capacity = capacity,
    };
    raft_init(&node->raft, &raft_config, &restored, node->now_ns / NODE_NS_PER_MS);
    node->base_clock_ms = node->last_clock_ms = found->last_clock_ms;
    node->base_ns = node->now_ns;
}

static int by_id(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

void node_voters(const struct config *config, struct entry_genesis *genesis)
{
    genesis->voter_count = (uint32_t)config->server_count;
    for (int i = 0; i < config->server_count; i++)
        genesis->voters[i] = config->servers[i].id;
    qsort(genesis->voters, genesis->voter_count, sizeof genesis->voters[0], by_id);
}

static void list_voters(const struct entry_genesis *genesis, char *text, size_t size)
{
    size_t used = 0;

    for (uint32_t i = 0; i < genesis->voter_count; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRIu32, i == 0 ? "" : ", ",
                                 genesis->voters[i]);
}

/* The log says who the cluster is; a file that says otherwise would make a majority of its own. */
static int check_voters(struct node *node, const struct storage_recovered *found,
                        struct error *error)
{
    struct entry entry;
    struct entry_genesis logged, listed;
    char logged_text[16 * ENTRY_VOTERS_MAX], listed_text[16 * ENTRY_VOTERS_MAX];

    if (found->last_index == 0)
        return 0;
    if (storage_entry(node->storage, 1, &entry, error) < 0)
        return NODE_EXIT_REFUSED;
    if (entry.kind != ENTRY_GENESIS ||
        !entry_genesis_decode(entry.payload, entry.size - ENTRY_HEADER_SIZE, &logged)) {
        error_set(error, -1, "'%s/%" PRIu32 "': the log does not begin with a genesis entry",
                  node->config->path, node->self->id);
        return NODE_EXIT_REFUSED;
    }
    node_voters(node->config, &listed);
    list_voters(&logged, logged_text, sizeof logged_text);
    list_voters(&listed, listed_text, sizeof listed_text);
    if (strcmp(logged_text, listed_text) == 0)
        return 0;
    error_set(error, -1,
              "%s: Servers: the file lists the nodes %s, but the log in '%s/%" PRIu32
              "' was begun by the nodes %s: put their list back",
              node->config->file, listed_text, node->config->path, node->self->id, logged_text);
    return NODE_EXIT_REFUSED;
}

size_t node_largest_entry(const struct config *config)
{
    const struct config_limits *limits = &config->limits;
    size_t one_command = ENTRY_HEADER_SIZE + KV_COMMAND_HEADER_SIZE + KV_COMMAND_IDENTITY_SIZE +
                         KV_KEY_SIZE_MAX + (size_t)limits->value_bytes;

    return limits->batch_bytes > one_command ? limits->batch_bytes : one_command;
}

/* Twice what we make ourselves: another node's limits may be higher while an operator raises them
 * one by one. */
static uint32_t entry_bytes_max(const struct config *config)
{
    size_t twice = 2 * node_largest_entry(config);

    return twice < config->limits.segment_bytes ? (uint32_t)twice : config->limits.segment_bytes;
}

static int start_storage(struct node *node, struct storage_recovered *found, struct error *error)
{
    const struct config *config = node->config;
    struct storage_options options = {
        .path = config->path,
        .cluster = config->cluster,
        .node = node->self->id,
        .segment_bytes = config->limits.segment_bytes,
        .cache_bytes = config->limits.log_cache_bytes,
        .flush = config->flush == CONFIG_FLUSH_AIO ? STORAGE_FLUSH_AIO : STORAGE_FLUSH_SYNC,
    };
    node->storage = storage_open(node->os, &options, found, error);
    if (node->storage == NULL)
        return NODE_EXIT_REFUSED;
    if (config->flush == CONFIG_FLUSH_AIO && storage_fd(node->storage) < 0)
        logger_write(&node->logger, LOGGER_WARN, "no asynchronous flush here",
                     "flush=%s hint=\"each flush blocks the loop\"",
                     storage_flush_name(node->storage));
    return 0;
}

static int start_peers(struct node *node, uint64_t incarnation, struct error *error)
{
    const struct config *config = node->config;
    struct peers_owner owner = {
        .context = node,
        .on_message = node_on_message,
        .on_up = node_on_peer_up,
        .on_down = node_on_peer_down,
        .on_refused = node_on_peer_refused,
    };
    struct peers_options options = {
        .id = node->self->id,
        .cluster = config->cluster,
        .incarnation = incarnation,
        .member_count = config->server_count,
        .entry_bytes_max = entry_bytes_max(config),
        .heartbeat_ms = config->heartbeat_ms,
    };
    for (int i = 0; i < config->server_count; i++) {
        options.members[i].id = config->servers[i].id;
        options.members[i].port = config->servers[i].log_port;
        memcpy(options.members[i].host, config->servers[i].host, OS_HOST_MAX);
    }
    int code = 0;
    node->peers = peers_new(node->os, node->reactor, &options, &owner, node->now_ns, &code);
    if (node->peers == NULL) {
        error_set_errno(error, code, "cannot listen for peers on %s:%u (LogPort)", node->self->host,
                        node->self->log_port);
        return NODE_EXIT_FAILED;
    }
    return 0;
}

static void on_client_note(void *context, const char *message, const char *why)
{
    struct node *node = context;
    char quoted[LOGGER_QUOTE_MAX];

    logger_write(&node->logger, LOGGER_WARN, message, "why=%s", logger_quote(why, quoted));
}

static int start_clients(struct node *node, struct error *error)
{
    const struct config_limits *limits = &node->config->limits;
    struct clients_limits client_limits = {
        .connections = limits->clients,
        .value_bytes = limits->value_bytes,
        .pipeline = limits->pipeline,
        .output_bytes = limits->output_bytes,
        .memory_bytes = limits->client_memory_bytes,
        .request_timeout_ms = limits->request_timeout_ms,
    };
    struct clients_owner owner = { .context = node,
                                   .on_request = node_on_request,
                                   .value_size = node_value_size,
                                   .on_note = on_client_note };
    struct os_address address;
    int code = os_resolve(node->os, node->self->host, node->self->client_port, &address);

    if (code == 0)
        node->clients =
            clients_new(node->os, node->reactor, &address, &client_limits, &owner, &code);
    if (node->clients == NULL) {
        error_set_errno(error, code, "cannot listen for clients on %s:%u (ClientPort)",
                        node->self->host, node->self->client_port);
        return NODE_EXIT_FAILED;
    }
    return 0;
}

/* The sources that are the node's own: signals, and flushes that are done. */
static int start_reactor(struct node *node, struct error *error)
{
    int code = 0;

    node->reactor = reactor_new(node->os, &code);
    if (node->reactor == NULL) {
        error_set_errno(error, code, "cannot create the epoll descriptor");
        return NODE_EXIT_FAILED;
    }
    node->signal_source = (struct reactor_source){ .fd = os_signal_create(node->os),
                                                   .phase = REACTOR_SIGNAL,
                                                   .on_ready = node_on_signal,
                                                   .owner = node };
    code = node->signal_source.fd;
    if (code >= 0)
        code = reactor_add(node->reactor, &node->signal_source);
    if (code < 0) {
        error_set_errno(error, code, "cannot watch for signals");
        return NODE_EXIT_FAILED;
    }
    node->disk_source = (struct reactor_source){ .fd = storage_fd(node->storage),
                                                 .phase = REACTOR_DISK,
                                                 .on_ready = node_on_flushed,
                                                 .owner = node };
    if (node->disk_source.fd >= 0 && (code = reactor_add(node->reactor, &node->disk_source)) < 0) {
        error_set_errno(error, code, "cannot watch the disk");
        return NODE_EXIT_FAILED;
    }
    return 0;
}

static int start(struct node *node, struct error *error)
{
    struct storage_recovered found = { 0 };
    int exit_code = start_storage(node, &found, error);

    if (exit_code == 0) {
        note_recovered(node, &found);
        exit_code = check_voters(node, &found, error);
    }
    if (exit_code == 0) {
        node->now_ns = os_now_ns(node->os); /* recovery may have taken long */
        start_raft(node, &found);
        exit_code = start_reactor(node, error);
    }
    free(found.runs);
    if (exit_code == 0)
        exit_code = start_peers(node, found.incarnation, error);
    if (exit_code == 0)
        exit_code = start_clients(node, error);
    if (exit_code == 0)
        logger_write(&node->logger, LOGGER_INFO, "serves",
                     "cluster=%s host=%s client_port=%u log_port=%u nodes=%d",
                     node->config->cluster, node->self->host, node->self->client_port,
                     node->self->log_port, node->config->server_count);
    return exit_code;
}

struct node *node_new(struct os *os, const struct config *config, uint32_t id, int *exit_code,
                      struct error *error)
{
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL)
        abort();

    node->os = os;
    node->config = config;
    node->self = config_find(config, id);
    assert(node->self != NULL);
    node->logger = (struct logger){ .os = os, .level = config->log_level, .node = id };
    node->batch_first = node->batch_last = 1;
    node->signal_source.fd = node->disk_source.fd = -1;
    node->now_ns = node->started_ns = os_now_ns(os);

    *exit_code = start(node, error);
    if (*exit_code != 0) {
        node_free(node);
        return NULL;
    }
    return node;
}

static void release_waiting(struct node *node)
{
    op_list_release(&node->batch_ops);
    for (int i = 0; i < NODE_BATCHES_MAX; i++) {
        op_list_release(&node->batches[i].ops);
        op_list_release(&node->batches[i].after);
    }
    for (int i = 0; i < NODE_ROUNDS_MAX; i++)
        op_list_release(&node->rounds[i].ops);
}

void node_free(struct node *node)
{
    if (node == NULL)
        return;
    clients_free(node->clients);
    peers_free(node->peers);
    if (node->reactor != NULL) {
        if (node->disk_source.fd >= 0)
            reactor_remove(node->reactor, &node->disk_source);
        if (node->signal_source.fd >= 0) {
            reactor_remove(node->reactor, &node->signal_source);
            os_close(node->os, node->signal_source.fd);
        }
    }
    reactor_free(node->reactor);
    storage_close(node->storage);
    kv_free(node->kv);
    release_waiting(node);
    free(node->raft.runs);
    free(node->batch_bytes);
    free(node);
}
