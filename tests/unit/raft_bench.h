/* One node on the bench: node 1 of a group, with the test as its disk, its clock and all its peers.
 *
 *     struct bench *bench = bench_new(3, (uint64_t[]){ 1, 1, 4, 0 });   log 1/1 1/2 4/3
 *     bench_lead(bench);
 *     bench_propose(bench);
 *     ... look at bench->raft and bench->effects ...
 *     bench_free(bench);
 *
 * Every step is checked by raft_check(). Effects are those of the last step. */
#pragma once

#include "raft/raft.h"
#include "tests/unit/raft_cluster.h"

#define BENCH_HEARTBEAT_MS 50
#define BENCH_ELECTION_MS_MIN 150
#define BENCH_ELECTION_MS_MAX 300

struct bench {
    struct cluster_node node;
    struct raft *raft; /* the node's */
    struct raft_effects effects;
    uint64_t now_ms;
};

/* A follower among `node_count` nodes; `terms` of its entries, up to a 0. Its term is the last
 * one. */
struct bench *bench_new(int node_count, const uint64_t *terms);
void bench_free(struct bench *bench);
/* Stop it, and start it with this on its disk. */
void bench_restart(struct bench *bench, uint64_t term, uint32_t voted_for);

/* Events. */
void bench_event(struct bench *bench, struct raft_event event);
void bench_timeout(struct bench *bench);   /* at the deadline */
void bench_persisted(struct bench *bench); /* all writes */
void bench_persist(struct bench *bench, int count);
void bench_propose(struct bench *bench);
void bench_read(struct bench *bench);
void bench_send(struct bench *bench, uint32_t peer, uint32_t entries_max);
void bench_lost(struct bench *bench, uint32_t peer);
void bench_replaced(struct bench *bench, uint32_t peer);
void bench_transfer(struct bench *bench, uint32_t peer);
/* `to` is set here. Entries get ids of their own, the same for the same term and index. */
void bench_message(struct bench *bench, struct raft_message message);

/* Messages. */
struct raft_message bench_append(uint32_t from, uint64_t term, struct raft_pos prev,
                                 const uint64_t *terms, uint64_t commit_index);
struct raft_message bench_ack(uint32_t from, uint64_t term, uint64_t durable_index);
struct raft_message bench_vote(uint32_t from, uint64_t term, struct raft_pos last);
struct raft_message bench_pre_vote(uint32_t from, uint64_t term, struct raft_pos last);
struct raft_message bench_vote_reply(uint32_t from, uint64_t term, bool granted, bool pre_vote);
struct raft_message bench_timeout_now(uint32_t from, uint64_t term);

/* From a follower to the role, in the term after the present one. What the step before left to be
 * persisted is persisted; what becoming it starts is not. */
void bench_pre_campaign(struct bench *bench);
void bench_campaign(struct bench *bench);
void bench_lead(struct bench *bench);

/* The only message of the last step; fails if it sent none or more. */
const struct raft_message *bench_only_message(const struct bench *bench);
