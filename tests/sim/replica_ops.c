/* Requests in, answers out, as in server/node_client.c.
 *
 * A write waits for its entry. A read either rides in the turn's batch, when the command before it is
 * of the same client (so that both ways are taken), or joins the turn's read round. What waits stands
 * in two rings, one in the order of the log, one in the order of the rounds: both are answered from
 * the front, and given up as a whole when the leadership is lost.
 *
 * Answers are collected, and leave at the end of the turn, unless the process has failed by then. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "raft/quorum.h"
#include "tests/sim/replica_state.h"

/* -- Answers ------------------------------------------------------------------------------------- */

static void answer(struct replica *replica, const struct op *op, const struct outcome *outcome)
{
    if (op->noreply)
        return;
    if (replica->answer_count == replica->answer_capacity) {
        replica->answer_capacity =
            replica->answer_capacity == 0 ? 64 : 2 * replica->answer_capacity;
        replica->answers =
            realloc(replica->answers, replica->answer_capacity * sizeof *replica->answers);
        if (replica->answers == NULL)
            abort();
    }
    uint32_t leader = replica->raft.leader;
    replica->answers[replica->answer_count++] = (struct answer){
        .op_number = op->number,
        .redirect = leader == RAFT_NODE_NONE ? -1 : replica_slot_of(replica, leader),
        .outcome = *outcome,
    };
}

static void answer_with(struct replica *replica, const struct op *op, enum outcome_type type)
{
    struct outcome outcome = { .type = type };

    answer(replica, op, &outcome);
}

void replica_send_answers(struct replica *replica)
{
    struct replicas *shared = replica->shared;

    for (size_t i = 0; i < replica->answer_count; i++) {
        const struct answer *next = &replica->answers[i];
        machine_call(replica->machine);
        struct memory *before = memory_enter(NULL);
        shared->redirect = next->redirect;
        shared->on_outcome(shared->context, next->op_number, &next->outcome);
        (void)memory_enter(before);
    }
    replica->answer_count = 0;
}

static void answer_read(struct replica *replica, const struct op *op)
{
    struct outcome outcome = { .type = OUTCOME_NONE };
    struct kv_value value;
    uint64_t clock = replica_clock_ms(replica);

    replica->counters.reads++;
    if (kv_get(replica->kv, (const uint8_t *)op->key, strlen(op->key), &value)) {
        outcome.type = OUTCOME_VALUE;
        outcome.written_by = op_of_value(value.bytes, value.size);
        outcome.value_size = value.size;
        if (op->type == OP_GETM) {
            uint64_t left_ms = value.expires_ms > clock ? value.expires_ms - clock : 1;
            outcome.version = value.version;
            outcome.ttl_s = value.expires_ms == 0 ? 0 : left_ms / 1000 + (left_ms % 1000 != 0);
        }
    }
    answer(replica, op, &outcome);
}

static void answer_write(struct replica *replica, const struct op *op,
                         const struct kv_result *result)
{
    struct outcome outcome = { .type = OUTCOME_NONE };

    if (result->status == KV_OK && op->type == OP_DELETE) {
        outcome.type = OUTCOME_DELETED;
    } else if (result->status == KV_OK) {
        outcome.type = OUTCOME_STORED;
        outcome.version = result->version;
    } else if (result->status == KV_VERSION_DIFFERS) {
        outcome.type = OUTCOME_DIFFERS;
        outcome.version = result->version;
    }
    answer(replica, op, &outcome);
}

/* -- What waits ---------------------------------------------------------------------------------- */

static bool is_write(const struct op *op)
{
    return op->type != OP_GET && op->type != OP_GETM;
}

static uint32_t count_waiting(const struct waiting *waiting)
{
    return waiting->last - waiting->first;
}

static struct waiting_op *first_of(struct waiting *waiting)
{
    return &waiting->ops[waiting->first % REPLICA_WAITING_MAX];
}

static void push(struct waiting *waiting, const struct op *op, uint64_t behind)
{
    assert(count_waiting(waiting) < REPLICA_WAITING_MAX);
    waiting->ops[waiting->last++ % REPLICA_WAITING_MAX] =
        (struct waiting_op){ .op = *op, .behind = behind };
}

static struct replica_round *round_at(struct replica *replica, uint32_t number)
{
    return &replica->rounds[number % REPLICA_ROUNDS_MAX];
}

/* -- Requests ------------------------------------------------------------------------------------ */

static bool majority_is_full(const struct replica *replica)
{
    const struct raft *raft = &replica->raft;
    int with_room = 1;

    for (int i = 0; i < raft->peer_count; i++)
        with_room += !raft->peers[i].full;
    return with_room < quorum_size(raft->peer_count + 1);
}

static uint64_t uncommitted_bytes(const struct replica *replica)
{
    const struct raft *raft = &replica->raft;

    if (raft->last_index == raft->commit_index)
        return 0;
    return replica->log_type->span(replica->log, raft->commit_index + 1, raft->last_index);
}

/* The same limits as full_limit() of node_client.c. Returns the counter of why not, NULL if it fits. */
static uint64_t *full_limit(struct replica *replica, size_t size, bool grows)
{
    uint64_t ahead = uncommitted_bytes(replica) + replica->batch_size;
    struct kv_stats stats = { 0 };

    if (ahead + size > replica->uncommitted_bytes_max ||
        count_waiting(&replica->writes) == REPLICA_WAITING_MAX ||
        (replica->is_stalled && !majority_is_full(replica)))
        return &replica->counters.busy;
    if (replica->kv != NULL)
        kv_stats(replica->kv, &stats);
    if ((grows && stats.memory_bytes + ahead + size > replica->store_bytes_max) ||
        !replica->log_type->room(replica->log, replica->batch_size + size + ENTRY_HEADER_SIZE,
                                 false) ||
        majority_is_full(replica))
        return &replica->counters.no_space;
    return NULL;
}

static uint8_t *reserve_batch(struct replica *replica, size_t size)
{
    if (replica->batch_size == 0)
        replica->batch_size = ENTRY_HEADER_SIZE;
    size_t needed = replica->batch_size + size;
    if (needed > replica->batch_capacity) {
        replica->batch_capacity = 2 * needed;
        replica->batch_bytes = realloc(replica->batch_bytes, replica->batch_capacity);
        if (replica->batch_bytes == NULL)
            abort();
    }
    return replica->batch_bytes + replica->batch_size;
}

static struct kv_command command_of(const struct op *op)
{
    static const enum kv_command_type types[] = {
        [OP_SET] = KV_SET, [OP_CAS] = KV_CAS, [OP_DELETE] = KV_DELETE
    };
    struct kv_command command = {
        .type = types[op->type],
        .key_size = (uint16_t)strlen(op->key),
        .key = (const uint8_t *)op->key,
    };
    if (op->type == OP_CAS)
        command.compare = op->compare;
    if (op->type != OP_DELETE) {
        command.ttl_ms = op->ttl_s * 1000;
        command.value_size = op->value_size;
    }
    return command;
}

static const uint8_t *make_value(struct replica *replica, uint64_t number, uint32_t size)
{
    if (size > replica->value_capacity) {
        free(replica->value_bytes);
        replica->value_capacity = 2 * size;
        replica->value_bytes = malloc(replica->value_capacity);
        if (replica->value_bytes == NULL)
            abort();
    }
    if (size > 0)
        op_value(number, replica->value_bytes, size);
    return replica->value_bytes;
}

/* False: not in this turn. */
static bool take_write(struct replica *replica, const struct op *op)
{
    struct kv_command command = command_of(op);
    size_t size = kv_command_size(&command);

    if (replica->batch_commands > 0 && replica->batch_size + size > replica->batch_bytes_max)
        return false;
    uint64_t *limit = full_limit(replica, size, op->type != OP_DELETE);
    if (limit != NULL) {
        ++*limit;
        answer_with(replica, op, OUTCOME_REFUSED);
        return true;
    }
    command.value = make_value(replica, op->number, command.value_size);
    uint8_t *place = reserve_batch(replica, size);
    replica->batch_size += kv_command_encode(&command, place);
    replica->batch_commands++;
    replica->batch_client = op->client;
    push(&replica->writes, op, 0);
    return true;
}

static void take_read(struct replica *replica, const struct op *op)
{
    bool rides = replica->batch_commands > 0 && replica->batch_client == op->client;
    struct waiting *waiting = rides ? &replica->writes : &replica->reads;
    bool cannot_commit =
        replica->is_stalled && replica->raft.commit_index < replica->raft.term_start_index;

    if (cannot_commit || count_waiting(waiting) == REPLICA_WAITING_MAX) {
        answer_with(replica, op, OUTCOME_REFUSED);
        return;
    }
    push(waiting, op, 0);
    if (!rides)
        round_at(replica, replica->round_last)->count++;
}

/* Who does not lead asks the core all the same, where a node would not: it must refuse. */
static void ask_in_vain(struct replica *replica, const struct op *op)
{
    struct raft_event event = { .type = is_write(op) ? RAFT_PROPOSE : RAFT_READ };

    if (replica->raft.role == RAFT_LEADER)
        return;
    replica_step(replica, &event, NULL);
    if (replica->effects.refusal != RAFT_REFUSED_NOT_LEADER)
        trace_fail(replica->machine->trace, "S20", "node %d does not lead, and accepts a request",
                   replica->machine->slot);
}

/* False: it waits for the next turn. */
static bool take_op(struct replica *replica, const struct op *op)
{
    const struct raft *raft = &replica->raft;

    if (raft->role != RAFT_LEADER || raft->transfer_to != RAFT_NODE_NONE) {
        ask_in_vain(replica, op);
        answer_with(replica, op, OUTCOME_REFUSED);
        return true;
    }
    if (is_write(op))
        return take_write(replica, op);
    take_read(replica, op);
    return true;
}

void replica_take_ops(struct replica *replica)
{
    struct replica_host *host = replica->host;

    while (host->ops_first != host->ops_last && !replica->has_failed) {
        if (!take_op(replica, &host->ops[host->ops_first % REPLICA_OPS_MAX]))
            return;
        host->ops_first++;
    }
}

/* -- The turn's batch and round ------------------------------------------------------------------ */

/* The newest of `writes` belong to the batch: they have no index yet. */
static void give_index(struct replica *replica, uint64_t index)
{
    struct waiting *writes = &replica->writes;

    for (uint32_t i = writes->last; i != writes->first; i--) {
        struct waiting_op *waiting = &writes->ops[(i - 1) % REPLICA_WAITING_MAX];
        if (waiting->behind != 0)
            return;
        waiting->behind = index;
    }
}

void replica_propose_batch(struct replica *replica)
{
    uint32_t commands = replica->batch_commands;

    if (commands == 0 || replica->has_failed)
        return;
    give_index(replica, replica->raft.last_index + 1);
    replica->counters.batches++;
    replica->counters.commands += commands;
    replica->batch_commands = 0;
    replica_propose(replica, ENTRY_COMMANDS, replica->batch_bytes, replica->batch_size, commands);
    replica->batch_size = 0;
}

void replica_open_round(struct replica *replica)
{
    struct raft_event event = { .type = RAFT_READ };
    struct replica_round *collecting = round_at(replica, replica->round_last);
    bool can_open = replica->raft.round_count < RAFT_ROUNDS_MAX &&
                    replica->round_last - replica->round_first + 1 < REPLICA_ROUNDS_MAX;

    if (collecting->count == 0 || !can_open || replica->has_failed)
        return;
    replica_step(replica, &event, NULL);
    assert(replica->effects.refusal == RAFT_ACCEPTED); /* or who waits would have been told */
    replica->counters.read_rounds++;
    collecting->round = replica->effects.round;
    replica->round_last++;
    *round_at(replica, replica->round_last) = (struct replica_round){ 0 };
    if (replica->effects.released_count > 0) /* alone in the group: it was released as it opened */
        replica_release_reads(replica,
                              &replica->effects.released[replica->effects.released_count - 1]);
}

void replica_release_reads(struct replica *replica, const struct raft_released *released)
{
    for (uint32_t i = replica->round_first; i != replica->round_last; i++) {
        struct replica_round *round = round_at(replica, i);
        if (round->round > released->round)
            break;
        if (round->needed == 0)
            round->needed = released->index;
    }
    replica_answer_rounds(replica);
}

void replica_answer_rounds(struct replica *replica)
{
    while (replica->round_first != replica->round_last) {
        struct replica_round *round = round_at(replica, replica->round_first);
        if (round->needed == 0 || round->needed > replica->applied_index)
            return;
        for (; round->count > 0; round->count--) {
            answer_read(replica, &first_of(&replica->reads)->op);
            replica->reads.first++;
        }
        replica->round_first++;
    }
}

void replica_answer_riding(struct replica *replica, uint64_t index)
{
    struct waiting *writes = &replica->writes;

    while (count_waiting(writes) > 0 && first_of(writes)->behind == index &&
           !is_write(&first_of(writes)->op)) {
        answer_read(replica, &first_of(writes)->op);
        writes->first++;
    }
}

void replica_answer_write(struct replica *replica, const struct kv_result *result)
{
    answer_write(replica, &first_of(&replica->writes)->op, result);
    replica->writes.first++;
}

/* -- When leadership is lost --------------------------------------------------------------------- */

/* A write may still commit under another leader, unless it was never proposed. A read has no outcome. */
void replica_fail_waiting(struct replica *replica)
{
    struct waiting *writes = &replica->writes, *reads = &replica->reads;

    for (; count_waiting(writes) > 0; writes->first++) {
        const struct waiting_op *waiting = first_of(writes);
        bool is_unknown = is_write(&waiting->op) && waiting->behind != 0;
        answer_with(replica, &waiting->op, is_unknown ? OUTCOME_UNKNOWN : OUTCOME_REFUSED);
    }
    for (; count_waiting(reads) > 0; reads->first++)
        answer_with(replica, &first_of(reads)->op, OUTCOME_REFUSED);
    replica->round_first = replica->round_last;
    *round_at(replica, replica->round_last) = (struct replica_round){ 0 };
    replica->batch_commands = 0;
    replica->batch_size = 0;
}
