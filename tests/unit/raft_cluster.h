/* A node for tests of the core: struct raft with the log, disk and memory that a real node would
 * give it. Entries are a term and an id; the id stands for the bytes, unique for each entry made.
 *
 *     struct cluster_node node;
 *     cluster_create(&node, &config, now_ms);
 *     cluster_step(&node, &event, ids, &effects);   checks the invariants before and after
 *     cluster_flush(&node, 1);                      one write reaches the disk; say so yourself:
 *     event = RAFT_PERSISTED up to node.disk.seq
 *     cluster_crash(&node); cluster_restart(&node, now_ms);
 *     cluster_destroy(&node);
 *
 * The disk takes whole writes, in order. A crash forgets those that have not been flushed. */
#pragma once

#include "raft/raft.h"

#define CLUSTER_LOG_MAX 1024
/* More than the core keeps apart, so that its merging of writes is exercised. */
#define CLUSTER_WRITES_MAX (2 * RAFT_WRITES_MAX)

struct cluster_entry {
    uint64_t term, id;
    uint64_t chain; /* hash over all entries up to this one */
};

struct cluster_log {
    uint64_t last;
    struct cluster_entry entries[CLUSTER_LOG_MAX + 1]; /* [0] stands before the first */
};

struct cluster_write {
    uint64_t seq;
    uint64_t term;
    uint32_t voted_for;
    uint64_t drop_from; /* 0: nothing */
    uint64_t first;
    int entry_count;
    struct cluster_entry entries[RAFT_APPEND_ENTRIES_MAX];
};

struct cluster_disk {
    uint64_t seq; /* of the newest write in it, since the last start */
    uint64_t term;
    uint32_t voted_for;
    struct cluster_log log;
};

struct cluster_node {
    struct raft raft;
    struct raft_config config;
    bool up;
    uint64_t id_next;
    struct cluster_log log;
    struct cluster_disk disk;
    int write_count;
    struct cluster_write writes[CLUSTER_WRITES_MAX]; /* oldest first */
};

/* An append as it travels: with its entries. */
struct cluster_message {
    struct raft_message message;
    uint64_t ids[RAFT_APPEND_ENTRIES_MAX];
};

/* A node with an empty disk that runs. */
void cluster_create(struct cluster_node *node, const struct raft_config *config, uint64_t now_ms);
void cluster_destroy(struct cluster_node *node);

/* raft_step(), then what the effects say about the log. `ids` are those of an append, NULL for
 * other events. Aborts on a broken invariant. */
void cluster_step(struct cluster_node *node, const struct raft_event *event, const uint64_t *ids,
                  struct raft_effects *effects);

/* The oldest `count` writes reach the disk. */
void cluster_flush(struct cluster_node *node, int count);
void cluster_crash(struct cluster_node *node);
void cluster_restart(struct cluster_node *node, uint64_t now_ms);

/* Put entry after entry on the disk of a node that is down. */
void cluster_disk_append(struct cluster_node *node, uint64_t term);

/* `message` of the effects with the ids of its entries. */
void cluster_pack(const struct cluster_node *node, const struct raft_message *message,
                  struct cluster_message *packed);
