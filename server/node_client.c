/* Requests in, replies out.
 *
 * Every reply belongs to one moment of the log. A write's is the application of its entry. A read's
 * is one of three, so that a connection sees its own requests in their order and nothing stale:
 *
 *   - it follows a write of its connection in the same turn: it rides in the batch, and is answered
 *     between the commands before and behind it. The entry's commit, in the term in which the read
 *     was asked and after it, is the proof that nobody else leads.
 *   - otherwise it joins the turn's read round, and is answered when the round is released and the
 *     store has applied the round's index (dissertation §6.4);
 *   - or, if its connection's last write is further ahead than that index, behind that write.
 *
 * The round is opened before the turn's batch is sent, so whatever majority commits the batch has
 * also confirmed the round: a released read is always answered before a later write of its
 * connection is applied. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/quorum.h"
#include "server/node_state.h"

#define BATCH_BYTES_KEPT (4u << 20)

/* -- Answers ------------------------------------------------------------------------------------ */

static void complete(struct node *node, const struct op *op, const struct reply *reply)
{
    assert(node->waiting > 0);
    node->waiting--;
    client_complete(op->client, op->noreply, reply);
}

/* Now if nothing waits before it on this connection, else when that is done. */
static enum client_verdict answer(struct client *client, const struct request *request,
                                  const struct reply *reply)
{
    if (client_outstanding(client) != 0)
        return CLIENT_LATER;
    client_answer(client, request, reply);
    return CLIENT_ANSWERED;
}

static enum client_verdict refuse(struct client *client, const struct request *request,
                                  enum reply_error error, const char *text, uint64_t *counter)
{
    struct reply reply = { .type = REPLY_ERROR, .error = error, .text = text };
    enum client_verdict verdict = answer(client, request, &reply);

    if (verdict == CLIENT_ANSWERED)
        (*counter)++;
    return verdict;
}

static enum client_verdict refuse_as_no_leader(struct node *node, struct client *client,
                                               const struct request *request)
{
    const struct raft *raft = &node->raft;
    struct node_counters *counters = &node->counters;

    if (raft->role == RAFT_LEADER)
        return refuse(client, request, REPLY_UNAVAILABLE,
                      "the leadership is being handed over: try again", &counters->unavailable);
    const struct config_server *leader =
        raft->leader == RAFT_NODE_NONE ? NULL : config_find(node->config, raft->leader);
    if (leader == NULL)
        return refuse(client, request, REPLY_UNAVAILABLE,
                      "no leader is known: a majority of nodes must be up and connected",
                      &counters->unavailable);
    snprintf(node->redirect_text, sizeof node->redirect_text, "%s %u", leader->host,
             leader->client_port);
    return refuse(client, request, REPLY_REDIRECT, node->redirect_text, &counters->redirected);
}

void node_reply_to_write(struct node *node, const struct op *op, const struct kv_result *result)
{
    struct reply reply = { .version = result->version };

    switch (result->status) {
    case KV_OK:
        reply.type = op->type == REQUEST_DELETE ? REPLY_DELETED : REPLY_STORED;
        break;
    case KV_NOT_FOUND:
        reply.type = REPLY_ERROR;
        reply.error = REPLY_NOT_FOUND;
        break;
    case KV_VERSION_DIFFERS:
        reply.type = REPLY_ERROR;
        reply.error = REPLY_VERSION_DIFFERS;
        break;
    }
    complete(node, op, &reply);
}

/* What remains is told by the clock as it runs here; whether the key lives, by the clock applied. */
static uint64_t remaining_ms(const struct node *node, uint64_t expires_ms)
{
    uint64_t clock = node_clock_ms(node);

    if (expires_ms == 0)
        return 0;
    return expires_ms > clock ? expires_ms - clock : 1;
}

void node_answer_read(struct node *node, const struct op_list *list, const struct op *op)
{
    struct kv_value value;
    struct reply reply = { .type = REPLY_ERROR, .error = REPLY_NOT_FOUND };

    node->counters.reads++;
    if (kv_get(node->kv, op_list_key(list, op), op->key_size, &value)) {
        reply = (struct reply){
            .type = op->type == REQUEST_GETM ? REPLY_META : REPLY_VALUE,
            .value = value.bytes,
            .value_size = value.size,
            .version = value.version,
            .ttl_ms = remaining_ms(node, value.expires_ms),
        };
    }
    complete(node, op, &reply);
}

/* Operations that went to another list have no client any more. */
void node_answer_reads(struct node *node, struct op_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->ops[i].client != NULL)
            node_answer_read(node, list, &list->ops[i]);
    op_list_clear(list);
}

/* -- Requests ----------------------------------------------------------------------------------- */

static struct op make_op(struct node *node, struct client *client, const struct request *request)
{
    node->waiting++;
    return (struct op){
        .sequence = node->op_sequence++,
        .client = client,
        .type = (uint8_t)request->type,
        .noreply = request->noreply,
    };
}

static void reserve_batch(struct node *node, size_t size)
{
    if (node->batch_size == 0)
        node->batch_size = ENTRY_HEADER_SIZE;
    size_t needed = node->batch_size + size;
    if (needed <= node->batch_capacity)
        return;
    while (node->batch_capacity < needed)
        node->batch_capacity = node->batch_capacity == 0 ? 64 * 1024 : 2 * node->batch_capacity;
    node->batch_bytes = realloc(node->batch_bytes, node->batch_capacity);
    if (node->batch_bytes == NULL)
        abort();
}

static uint64_t uncommitted_bytes(const struct node *node)
{
    const struct raft *raft = &node->raft;

    if (raft->last_index == raft->commit_index)
        return 0;
    return storage_span(node->storage, raft->commit_index + 1, raft->last_index);
}

/* Whether too few nodes have room for an entry to commit. That we have some is known here. */
static bool majority_is_full(const struct node *node)
{
    const struct raft *raft = &node->raft;
    int with_room = 1;

    for (int i = 0; i < raft->peer_count; i++)
        with_room += !raft->peers[i].full;
    return with_room < quorum_size(raft->peer_count + 1);
}

/* Why a command of `size` bytes cannot enter the log now; NULL if it can. */
static const char *full_limit(const struct node *node, size_t size, bool grows,
                              enum reply_error *error)
{
    const struct config_limits *limits = &node->config->limits;
    uint64_t ahead = uncommitted_bytes(node) + node->batch_size;
    struct kv_stats stats = { 0 };

    *error = REPLY_BUSY;
    if (ahead + size > limits->uncommitted_bytes)
        return "UncommittedBytes: too much waits to be committed";
    if (node->batch_last - node->batch_first >= NODE_BATCHES_MAX - 1)
        return "1023 batches wait to be committed";
    if (node->is_stalled && !majority_is_full(node))
        return "commits stand still: the disks of a majority do not answer";

    *error = REPLY_NO_SPACE;
    if (node->kv != NULL)
        kv_stats(node->kv, &stats);
    if (grows && stats.memory_bytes + ahead + size > limits->store_bytes)
        return "memory (StoreBytes): delete keys, or raise the limit";
    if (!storage_room(node->storage, node->batch_size + size + ENTRY_HEADER_SIZE, false))
        return "disk: free some space where Path is";
    if (majority_is_full(node))
        return "disk: a majority of the nodes has none left: free some where Path is";
    return NULL;
}

/* Whether the reads that this turn collects get their round in this turn; else they join the next one
 * that can be opened. Nothing changes the answer while clients are read. */
static bool round_can_open(const struct node *node)
{
    return node->raft.round_count < RAFT_ROUNDS_MAX &&
           node->round_last - node->round_first + 1 < NODE_ROUNDS_MAX;
}

static enum client_verdict take_write(struct node *node, struct client *client,
                                      const struct request *request)
{
    static const enum kv_command_type types[] = {
        [REQUEST_SET] = KV_SET, [REQUEST_CAS] = KV_CAS, [REQUEST_DELETE] = KV_DELETE
    };
    struct kv_command command = {
        .type = types[request->type],
        .ttl_ms = request->ttl_ms,
        .compare = request->compare,
        .key_size = (uint16_t)request->key_size,
        .value_size = request->value_size,
        .key = request->key,
        .value = request->value,
    };
    size_t size = kv_command_size(&command);
    enum reply_error error;

    /* A read of this connection that waits for a round to open would see this write. */
    if (!round_can_open(node) && client_outstanding(client) != 0)
        return CLIENT_LATER;
    if (node->batch_commands > 0 && node->batch_size + size > node->config->limits.batch_bytes)
        return CLIENT_NEXT_TURN;
    const char *full = full_limit(node, size, request->type != REQUEST_DELETE, &error);
    if (full != NULL)
        return refuse(client, request, error, full,
                      error == REPLY_BUSY ? &node->counters.busy : &node->counters.no_space);

    if (node->batch_first == node->batch_last && node->batch_commands == 0)
        node->pending_value_max = 0;
    if (node->pending_value_max < request->value_size)
        node->pending_value_max = request->value_size;
    reserve_batch(node, size);
    node->batch_size += kv_command_encode(&command, node->batch_bytes + node->batch_size);
    node->batch_commands++;
    struct op op = make_op(node, client, request);
    op_list_push(&node->batch_ops, &op, NULL);
    client_set_mark(client, node->batch_last);
    return CLIENT_PENDING;
}

static struct node_round *collecting_round(struct node *node)
{
    return &node->rounds[node->round_last % NODE_ROUNDS_MAX];
}

/* The batch of the connection's last write, if it is still to be applied. */
static uint64_t awaited_batch(const struct node *node, uint64_t number)
{
    return number >= node->batch_first && number < node->batch_last ? number : 0;
}

static enum client_verdict take_read(struct node *node, struct client *client,
                                     const struct request *request)
{
    uint64_t last_write = client_mark(client);
    bool rides = node->batch_commands > 0 && last_write == node->batch_last;

    if (node->is_stalled && node->raft.commit_index < node->raft.term_start_index)
        return refuse(client, request, REPLY_UNAVAILABLE,
                      "this leader cannot commit the first entry of its term: the disks of a "
                      "majority are full or do not answer",
                      &node->counters.unavailable);

    struct op op = make_op(node, client, request);
    op.after = awaited_batch(node, last_write);
    op.key_size = (uint16_t)request->key_size;
    op_list_push(rides ? &node->batch_ops : &collecting_round(node)->ops, &op, request->key);
    return CLIENT_PENDING;
}

uint32_t node_value_size(void *context, const struct client *client, const struct request *request)
{
    const struct node *node = context;
    uint64_t last_write = client_mark(client);
    bool follows_write = last_write >= node->batch_first && last_write <= node->batch_last;
    struct kv_value value = { 0 };

    if (node->raft.role != RAFT_LEADER || node->kv == NULL)
        return 0;
    (void)kv_get(node->kv, request->key, request->key_size, &value); /* none has size 0 */
    return follows_write && node->pending_value_max > value.size ? node->pending_value_max
                                                                 : value.size;
}

enum client_verdict node_on_request(void *context, struct client *client,
                                    const struct request *request)
{
    struct node *node = context;
    struct reply reply = { .type = REPLY_PRODUCT, .text = RAFTKV_VERSION };

    if (request->type == REQUEST_VERSION)
        return answer(client, request, &reply);
    if (request->type == REQUEST_STATUS) {
        if (client_outstanding(client) != 0)
            return CLIENT_LATER;
        reply = (struct reply){ .type = REPLY_STATUS, .text = node_status(node) };
        return answer(client, request, &reply);
    }
    if (node->raft.role != RAFT_LEADER || node->raft.transfer_to != RAFT_NODE_NONE)
        return refuse_as_no_leader(node, client, request);
    if (request->type == REQUEST_GET || request->type == REQUEST_GETM)
        return take_read(node, client, request);
    return take_write(node, client, request);
}

/* -- The turn's batch and round ----------------------------------------------------------------- */

void node_propose_batch(struct node *node)
{
    if (node->batch_commands == 0)
        return;

    struct node_batch *batch = &node->batches[node->batch_last % NODE_BATCHES_MAX];
    struct op_list empty = batch->ops;
    assert(empty.count == 0);
    assert(batch->after.count == 0);
    batch->index = node->raft.last_index + 1;
    batch->ops = node->batch_ops;
    node->batch_ops = empty;
    node->batch_last++;

    node->counters.batches++;
    node->counters.commands += node->batch_commands;
    uint64_t index = node_propose(node, ENTRY_COMMANDS, node->batch_bytes, node->batch_size,
                                  node->batch_commands);
    assert(node->phase == NODE_FAILED || index == batch->index);
    (void)index;

    node->batch_commands = 0;
    node->batch_size = 0;
    if (node->batch_capacity > BATCH_BYTES_KEPT) {
        free(node->batch_bytes);
        node->batch_bytes = NULL;
        node->batch_capacity = 0;
    }
}

void node_open_round(struct node *node)
{
    struct raft_event event = { .type = RAFT_READ };
    struct node_round *collecting = collecting_round(node);

    if (collecting->ops.count == 0 || !round_can_open(node))
        return;
    node_step(node, &event, NULL);
    if (node->phase == NODE_FAILED)
        return;
    assert(node->effects.refusal == RAFT_ACCEPTED); /* or who waits would have been told */
    node->counters.read_rounds++;
    collecting->round = node->effects.round;
    collecting->needed = 0;
    node->round_last++;
    if (node->effects.released_count > 0) /* alone in the group: it was released as it opened */
        node_release_reads(node, &node->effects.released[node->effects.released_count - 1]);
}

/* Reads of released rounds whose index the store has applied. */
void node_answer_rounds(struct node *node)
{
    while (node->round_first != node->round_last) {
        struct node_round *round = &node->rounds[node->round_first % NODE_ROUNDS_MAX];
        if (round->needed == 0 || round->needed > node->applied_index)
            return;
        node_answer_reads(node, &round->ops);
        round->round = round->needed = 0;
        node->round_first++;
    }
}

/* Reads whose connection has a write further ahead wait behind that write. */
static void move_behind_writes(struct node *node, struct op_list *list, uint64_t needed)
{
    for (size_t i = 0; i < list->count; i++) {
        struct op *op = &list->ops[i];
        struct node_batch *batch = &node->batches[op->after % NODE_BATCHES_MAX];
        if (awaited_batch(node, op->after) == 0 || batch->index <= needed)
            continue;
        op_list_push(&batch->after, op, op_list_key(list, op));
        op->client = NULL;
    }
}

void node_release_reads(struct node *node, const struct raft_released *released)
{
    for (uint64_t i = node->round_first; i != node->round_last; i++) {
        struct node_round *round = &node->rounds[i % NODE_ROUNDS_MAX];
        if (round->round > released->round)
            break;
        if (round->needed != 0)
            continue;
        round->needed = released->index;
        move_behind_writes(node, &round->ops, round->needed);
    }
    node_answer_rounds(node);
}

/* -- When leadership is lost -------------------------------------------------------------------- */

struct waiting_ops {
    struct op *ops;
    size_t count;
};

static void gather(struct waiting_ops *all, struct op_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->ops[i].client != NULL)
            all->ops[all->count++] = list->ops[i];
    op_list_clear(list);
}

static int by_sequence(const void *left, const void *right)
{
    const struct op *a = left, *b = right;
    return (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

static void gather_all(struct node *node, struct waiting_ops *all)
{
    for (int i = 0; i < NODE_BATCHES_MAX; i++) {
        gather(all, &node->batches[i].ops);
        gather(all, &node->batches[i].after);
    }
    for (int i = 0; i < NODE_ROUNDS_MAX; i++) {
        gather(all, &node->rounds[i].ops);
        node->rounds[i].round = node->rounds[i].needed = 0;
    }
    gather(all, &node->batch_ops);
}

/* Every connection is answered in the order of its requests, so what waits in many lists is put into
 * that order first. A write may still commit under another leader: its outcome is unknown, unless it
 * was never proposed. A read has no outcome. */
void node_fail_waiting(struct node *node)
{
    static const struct reply unknown = {
        .type = REPLY_ERROR,
        .error = REPLY_TIMEOUT,
        .text = "the leadership was lost before this was committed: it may or may not take effect",
    };
    static const struct reply unavailable = {
        .type = REPLY_ERROR,
        .error = REPLY_UNAVAILABLE,
        .text = "the leadership was lost before this could be answered: ask again",
    };
    struct waiting_ops all = { 0 };

    if (node->waiting == 0)
        return;
    all.ops = calloc(node->waiting, sizeof *all.ops);
    if (all.ops == NULL)
        abort();
    gather_all(node, &all);
    assert(all.count == node->waiting);
    node->round_first = node->round_last;
    node->batch_first = ++node->batch_last;
    node->batch_commands = 0;
    node->batch_size = 0;

    qsort(all.ops, all.count, sizeof *all.ops, by_sequence);
    for (size_t i = 0; i < all.count; i++) {
        bool write = op_is_write(&all.ops[i]);
        node->counters.unknown_outcome += write;
        node->counters.unavailable += !write;
        complete(node, &all.ops[i], write ? &unknown : &unavailable);
    }
    free(all.ops);
}
