/* What `status` tells: one "name value" a line. Names never change their meaning. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "server/node_state.h"

struct text {
    char *bytes;
    size_t size, capacity;
};

static void __attribute__((format(printf, 2, 3))) put(struct text *text, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int size = vsnprintf(text->bytes + text->size, text->capacity - text->size, format, arguments);
    va_end(arguments);
    if (size > 0 && (size_t)size < text->capacity - text->size)
        text->size += (size_t)size;
}

static void put_number(struct text *text, const char *name, uint64_t number)
{
    put(text, "%s %" PRIu64 "\n", name, number);
}

static void put_raft(struct text *text, const struct node *node)
{
    const struct raft *raft = &node->raft;

    put(text, "role %s\n", raft_role_name(raft->role));
    put_number(text, "term", raft->term);
    if (raft->leader == RAFT_NODE_NONE)
        put(text, "leader none\n");
    else
        put_number(text, "leader", raft->leader);
    put_number(text, "last_index", raft->last_index);
    put_number(text, "durable_index", raft->durable_index);
    put_number(text, "commit_index", raft->commit_index);
    put_number(text, "applied_index", node->applied_index);
}

static void put_store(struct text *text, const struct node *node)
{
    struct kv_stats stats = { 0 };

    if (node->kv != NULL)
        kv_stats(node->kv, &stats);
    put(text, "digest %016" PRIx64 "\n", node->kv == NULL ? 0 : kv_digest(node->kv));
    put_number(text, "keys", stats.keys);
    put_number(text, "store_bytes", stats.memory_bytes);
    put_number(text, "last_version", stats.last_version);
    put_number(text, "log_clock_ms", stats.clock_ms);
}

static void put_storage(struct text *text, const struct node *node)
{
    struct storage_stats stats;

    storage_stats(node->storage, &stats);
    put(text, "flush %s\n", storage_flush_name(node->storage));
    put_number(text, "flushes", stats.flushes);
    put_number(text, "segments", stats.segments);
    put_number(text, "log_bytes", stats.log_bytes);
    put_number(text, "log_cache_bytes", stats.cache_bytes);
    put_number(text, "appended_bytes", stats.appended_bytes);
    put(text, "disk_full %s\n", stats.full ? "yes" : "no");
}

static void put_clients(struct text *text, const struct node *node)
{
    struct clients_stats stats;

    clients_stats(node->clients, &stats);
    put_number(text, "clients", stats.clients);
    put_number(text, "clients_accepted", stats.accepted);
    put_number(text, "clients_refused", stats.refused);
    put_number(text, "clients_memory_bytes", stats.memory_bytes);
    put_number(text, "requests", stats.requests);
    put_number(text, "requests_waiting", node->waiting);
    put_number(text, "requests_malformed", stats.malformed);
    put_number(text, "closed_slow_reader", stats.closed_slow_reader);
    put_number(text, "closed_slow_request", stats.closed_slow_request);
    put_number(text, "closed_memory", stats.closed_memory);
}

static void put_peers(struct text *text, const struct node *node)
{
    struct peers_stats stats;

    peers_stats(node->peers, &stats);
    put_number(text, "peers_up", stats.up);
    put_number(text, "peers_connects", stats.connects);
    put_number(text, "peers_refused", stats.refused_handshakes);
    put_number(text, "peers_bad_frames", stats.bad_frames);
    put_number(text, "peers_sent_bytes", stats.sent_bytes);
    put_number(text, "peers_received_bytes", stats.received_bytes);
}

static void put_counters(struct text *text, const struct node_counters *counters)
{
    put_number(text, "redirected", counters->redirected);
    put_number(text, "refused_unavailable", counters->unavailable);
    put_number(text, "refused_busy", counters->busy);
    put_number(text, "refused_no_space", counters->no_space);
    put_number(text, "unknown_outcome", counters->unknown_outcome);
    put_number(text, "elections", counters->elections);
    put_number(text, "leader_changes", counters->leader_changes);
    put_number(text, "broken_chains", counters->broken_chains);
    put_number(text, "stripped_appends", counters->stripped_appends);
    put_number(text, "disk_handovers", counters->disk_handovers);
    put_number(text, "batches", counters->batches);
    put_number(text, "commands", counters->commands);
    put_number(text, "reads", counters->reads);
    put_number(text, "read_rounds", counters->read_rounds);
    put_number(text, "apply_commands_max", counters->apply_commands_max);
    put_number(text, "apply_bytes_max", counters->apply_bytes_max);
}

static void put_turns(struct text *text, const struct node_turns *turns)
{
    put_number(text, "turns", turns->total);
    put_number(text, "turn_us_p50", node_turns_us(turns, 50));
    put_number(text, "turn_us_p99", node_turns_us(turns, 99));
    put_number(text, "turn_us_max", node_turns_us(turns, 100));
}

const char *node_status(struct node *node)
{
    struct text text = { node->status_text, 0, sizeof node->status_text };

    put(&text, "version %s\n", RAFTKV_VERSION);
    put_number(&text, "id", node->self->id);
    put(&text, "cluster %s\n", node->config->cluster);
    put_raft(&text, node);
    put_store(&text, node);
    put_number(&text, "uptime_ms", (node->now_ns - node->started_ns) / 1000000u);
    put_storage(&text, node);
    put_clients(&text, node);
    put_peers(&text, node);
    put_counters(&text, &node->counters);
    put_turns(&text, &node->turns);
    put_number(&text, "log_lines_dropped", node->logger.dropped);
    text.bytes[text.size] = '\0';
    return text.bytes;
}
