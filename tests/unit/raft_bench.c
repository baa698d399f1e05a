#include "tests/unit/raft_bench.h"

#include <check.h>
#include <stdlib.h>

#include "raft/quorum.h"

struct bench *bench_new(int node_count, const uint64_t *terms)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    ck_assert_ptr_nonnull(bench);
    struct raft_config config = {
        .id = 1,
        .voter_count = node_count,
        .heartbeat_ms = BENCH_HEARTBEAT_MS,
        .election_ms_min = BENCH_ELECTION_MS_MIN,
        .election_ms_max = BENCH_ELECTION_MS_MAX,
        .seed = 7,
    };
    for (int i = 0; i < node_count; i++)
        config.voters[i] = (uint32_t)i + 1;
    bench->now_ms = 1000;
    bench->raft = &bench->node.raft;
    cluster_create(&bench->node, &config, bench->now_ms);
    cluster_crash(&bench->node);
    uint64_t term = 0;
    for (; *terms != 0; terms++) {
        term = *terms;
        cluster_disk_append(&bench->node, term);
    }
    bench->node.disk.term = term;
    cluster_restart(&bench->node, bench->now_ms);
    return bench;
}

void bench_free(struct bench *bench)
{
    cluster_destroy(&bench->node);
    free(bench);
}

void bench_restart(struct bench *bench, uint64_t term, uint32_t voted_for)
{
    cluster_crash(&bench->node);
    bench->node.disk.term = term;
    bench->node.disk.voted_for = voted_for;
    cluster_restart(&bench->node, bench->now_ms);
}

static void step(struct bench *bench, struct raft_event event, const uint64_t *ids)
{
    event.now_ms = bench->now_ms;
    cluster_step(&bench->node, &event, ids, &bench->effects);
}

void bench_event(struct bench *bench, struct raft_event event)
{
    step(bench, event, NULL);
}

void bench_timeout(struct bench *bench)
{
    if (bench->now_ms < bench->raft->deadline_ms)
        bench->now_ms = bench->raft->deadline_ms;
    bench_event(bench, (struct raft_event){ .type = RAFT_TIMEOUT });
}

void bench_persist(struct bench *bench, int count)
{
    cluster_flush(&bench->node, count);
    bench_event(bench,
                (struct raft_event){ .type = RAFT_PERSISTED, .write_seq = bench->node.disk.seq });
}

void bench_persisted(struct bench *bench)
{
    bench_persist(bench, bench->node.write_count);
}

void bench_propose(struct bench *bench)
{
    bench_event(bench, (struct raft_event){ .type = RAFT_PROPOSE });
}

void bench_read(struct bench *bench)
{
    bench_event(bench, (struct raft_event){ .type = RAFT_READ });
}

void bench_send(struct bench *bench, uint32_t peer, uint32_t entries_max)
{
    bench_event(bench, (struct raft_event){ .type = RAFT_SEND, .send = { peer, entries_max } });
}

void bench_lost(struct bench *bench, uint32_t peer)
{
    bench_event(bench, (struct raft_event){ .type = RAFT_PEER_LOST, .peer = peer });
}

void bench_replaced(struct bench *bench, uint32_t peer)
{
    bench_event(bench, (struct raft_event){ .type = RAFT_PEER_REPLACED, .peer = peer });
}

void bench_transfer(struct bench *bench, uint32_t peer)
{
    bench_event(bench, (struct raft_event){ .type = RAFT_TRANSFER, .peer = peer });
}

void bench_message(struct bench *bench, struct raft_message message)
{
    uint64_t ids[RAFT_APPEND_ENTRIES_MAX] = { 0 };
    message.to = bench->raft->id;
    for (uint32_t i = 0; message.type == RAFT_APPEND && i < RAFT_APPEND_ENTRIES_MAX; i++)
        ids[i] = message.append.prev.index + 1 + i;
    step(bench, (struct raft_event){ .type = message.type, .message = &message }, ids);
}

struct raft_message bench_append(uint32_t from, uint64_t term, struct raft_pos prev,
                                 const uint64_t *terms, uint64_t commit_index)
{
    struct raft_message message = { .type = RAFT_APPEND, .from = from, .term = term };
    message.append.prev = prev;
    message.append.commit_index = commit_index;
    for (; *terms != 0; terms++)
        message.append.entry_terms[message.append.entry_count++] = *terms;
    return message;
}

struct raft_message bench_ack(uint32_t from, uint64_t term, uint64_t durable_index)
{
    struct raft_message message = { .type = RAFT_APPEND_REPLY, .from = from, .term = term };
    message.append_reply.success = true;
    message.append_reply.durable_index = durable_index;
    return message;
}

struct raft_message bench_vote(uint32_t from, uint64_t term, struct raft_pos last)
{
    return (struct raft_message){
        .type = RAFT_VOTE, .from = from, .term = term, .vote = { .last = last }
    };
}

struct raft_message bench_pre_vote(uint32_t from, uint64_t term, struct raft_pos last)
{
    struct raft_message message = bench_vote(from, term, last);
    message.vote.pre_vote = true;
    return message;
}

struct raft_message bench_vote_reply(uint32_t from, uint64_t term, bool granted, bool pre_vote)
{
    return (struct raft_message){
        .type = RAFT_VOTE_REPLY,
        .from = from,
        .term = term,
        .vote_reply = { .granted = granted, .pre_vote = pre_vote },
    };
}

struct raft_message bench_timeout_now(uint32_t from, uint64_t term)
{
    return (struct raft_message){ .type = RAFT_TIMEOUT_NOW, .from = from, .term = term };
}

void bench_pre_campaign(struct bench *bench)
{
    bench_timeout(bench);
}

/* Nodes 2, 3, ... say yes until it is a majority with node 1. */
static void grant(struct bench *bench, uint64_t term, bool pre_vote)
{
    int needed = quorum_size(bench->raft->peer_count + 1) - 1;
    for (int i = 0; i < needed; i++)
        bench_message(bench, bench_vote_reply((uint32_t)i + 2, term, true, pre_vote));
}

void bench_campaign(struct bench *bench)
{
    bench_pre_campaign(bench);
    grant(bench, bench->raft->term + 1, true);
    ck_assert_int_eq(bench->raft->role, RAFT_CANDIDATE);
}

void bench_lead(struct bench *bench)
{
    bench_campaign(bench);
    bench_persisted(bench);
    grant(bench, bench->raft->term, false);
    ck_assert_int_eq(bench->raft->role, RAFT_LEADER);
}

const struct raft_message *bench_only_message(const struct bench *bench)
{
    ck_assert_int_eq(bench->effects.message_count, 1);
    return &bench->effects.messages[0];
}
