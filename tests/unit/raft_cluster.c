#include "tests/unit/raft_cluster.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t mixed = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
    return mixed ^ (mixed >> 32);
}

static void log_put(struct cluster_log *log, uint64_t term, uint64_t id)
{
    assert(log->last < CLUSTER_LOG_MAX);
    uint64_t chain = mix(mix(log->entries[log->last].chain, term), id);
    log->entries[++log->last] = (struct cluster_entry){ .term = term, .id = id, .chain = chain };
}

static void start(struct cluster_node *node, uint64_t now_ms)
{
    const struct cluster_log *log = &node->disk.log;
    struct raft_restored restored = {
        .term = node->disk.term,
        .voted_for = node->disk.voted_for,
        .last_index = log->last,
        .run_capacity = (uint32_t)log->last + RAFT_RUNS_SPARE,
    };
    restored.runs = calloc(restored.run_capacity, sizeof(*restored.runs));
    assert(restored.runs != NULL);
    for (uint64_t i = 1; i <= log->last; i++) {
        if (log->entries[i].term != log->entries[i - 1].term)
            restored.runs[restored.run_count++] =
                (struct raft_term_run){ .term = log->entries[i].term, .first = i };
    }
    memcpy(node->log.entries, log->entries, (size_t)(log->last + 1) * sizeof(*log->entries));
    node->log.last = log->last;
    node->disk.seq = 0;
    node->up = true;
    raft_init(&node->raft, &node->config, &restored, now_ms);
    raft_check(NULL, &node->raft);
}

void cluster_create(struct cluster_node *node, const struct raft_config *config, uint64_t now_ms)
{
    node->config = *config;
    node->id_next = (uint64_t)config->id << 32;
    node->write_count = 0;
    node->disk.term = 0;
    node->disk.voted_for = RAFT_NODE_NONE;
    node->disk.log.last = 0;
    node->disk.log.entries[0] = (struct cluster_entry){ 0, 0, 0 };
    start(node, now_ms);
}

void cluster_destroy(struct cluster_node *node)
{
    if (node->up)
        cluster_crash(node);
}

void cluster_crash(struct cluster_node *node)
{
    assert(node->up);
    free(node->raft.runs);
    node->raft.runs = NULL;
    node->write_count = 0;
    node->up = false;
}

void cluster_restart(struct cluster_node *node, uint64_t now_ms)
{
    assert(!node->up);
    node->config.seed++; /* a process that starts anew does not repeat its timeouts */
    start(node, now_ms);
}

void cluster_disk_append(struct cluster_node *node, uint64_t term)
{
    assert(!node->up);
    log_put(&node->disk.log, term, node->disk.log.last + 1);
}

static void make_room_for_runs(struct raft *raft)
{
    if (raft_runs_spare(raft) >= RAFT_RUNS_SPARE)
        return;
    uint32_t capacity = raft->run_capacity + RAFT_RUNS_SPARE;
    struct raft_term_run *runs = calloc(capacity, sizeof(*runs));
    assert(runs != NULL);
    free(raft_give_runs(raft, runs, capacity));
}

/* What a node does with the first part of the effects: the log in memory, and a write. */
static void carry_out(struct cluster_node *node, const struct raft_event *event,
                      const uint64_t *ids, const struct raft_effects *effects)
{
    struct cluster_log *log = &node->log;
    if (effects->write_seq == 0) {
        assert(!effects->save_vote);
        assert(effects->drop_from == 0);
        assert(effects->first == 0);
        return;
    }
    assert(node->write_count < CLUSTER_WRITES_MAX);
    struct cluster_write *write = &node->writes[node->write_count++];
    write->seq = effects->write_seq;
    write->term = node->raft.term;
    write->voted_for = node->raft.voted_for;
    write->drop_from = effects->drop_from;
    write->first = effects->first;
    write->entry_count = 0;
    if (effects->drop_from != 0)
        log->last = effects->drop_from - 1;
    if (effects->first == 0)
        return;
    assert(effects->first == log->last + 1);
    for (uint64_t index = effects->first; index <= effects->last; index++) {
        bool received = event->type == RAFT_APPEND;
        uint32_t slot = effects->skip + (uint32_t)(index - effects->first);
        uint64_t term = received ? event->message->append.entry_terms[slot] : node->raft.term;
        log_put(log, term, received ? ids[slot] : node->id_next++);
        write->entries[write->entry_count++] = log->entries[index];
    }
}

void cluster_step(struct cluster_node *node, const struct raft_event *event, const uint64_t *ids,
                  struct raft_effects *effects)
{
    assert(node->up);
    make_room_for_runs(&node->raft);
    const struct raft before = node->raft;
    raft_step(&node->raft, event, effects);
    raft_check(&before, &node->raft);
    carry_out(node, event, ids, effects);

    assert(node->log.last == node->raft.last_index);
    assert(node->log.entries[node->log.last].term ==
           raft_term_at(&node->raft, node->raft.last_index));
    assert(effects->commit_moved == (before.commit_index != node->raft.commit_index));
}

void cluster_flush(struct cluster_node *node, int count)
{
    assert(count <= node->write_count);
    for (int i = 0; i < count; i++) {
        const struct cluster_write *write = &node->writes[i];
        node->disk.seq = write->seq;
        node->disk.term = write->term;
        node->disk.voted_for = write->voted_for;
        if (write->drop_from != 0)
            node->disk.log.last = write->drop_from - 1;
        for (int k = 0; k < write->entry_count; k++)
            log_put(&node->disk.log, write->entries[k].term, write->entries[k].id);
    }
    node->write_count -= count;
    memmove(node->writes, node->writes + count, (size_t)node->write_count * sizeof(*node->writes));
}

void cluster_pack(const struct cluster_node *node, const struct raft_message *message,
                  struct cluster_message *packed)
{
    packed->message = *message;
    if (message->type != RAFT_APPEND)
        return;
    for (uint32_t i = 0; i < message->append.entry_count; i++)
        packed->ids[i] = node->log.entries[message->append.prev.index + 1 + i].id;
}
