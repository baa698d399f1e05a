/* A replica: server/node*.c in the small, for the levels of the simulator that have no sockets.
 *
 * What a turn does, and in what order, is the node's: finished flushes, messages, the timer, what has
 * committed, requests, the batch as one entry, the read round, the log clock, the peers, the flush, the
 * answers. That order carries part of the proof (reads are released before what follows them is
 * applied; nothing is answered in a turn in which the disk failed), so level 1 would prove little if it
 * were another.
 *
 *     server/              here
 *     node.c               replica.c         the turn, effects, the log clock, start and end
 *     node_peer.c          replica_peer.c    messages in and out, the full disk
 *     node_client.c        replica_ops.c     batch, rounds, answers
 *     node_apply.c         replica_apply.c   the store, expiry
 *     storage/             replica_log*.c    level 2: storage itself; level 1: a list of writes
 *     peer/, client/       the mailbox       below
 *
 * What is left out: connections (every link is always up; RAFT_PEER_LOST comes from the post or the
 * world), the order of one connection's requests (two that are under way at once may take effect in
 * either order, which is what the oracle asks for), and the orderly stop.
 *
 * The mailbox (struct replica_host) takes what comes between turns. It belongs to the simulator and not
 * to the process, so a crash in the middle of a turn finds it whole: a parcel is taken out only when
 * its step is done. The next start empties it. */
#include "tests/sim/replica.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/node.h"
#include "tests/sim/replica_state.h"

/* -- The mailbox --------------------------------------------------------------------------------- */

bool replica_is_up(const struct machine *machine)
{
    return machine->process != NULL && !machine->is_dead;
}

struct replica_host *replica_host_of(struct machine *machine)
{
    struct replicas *shared = machine->user;
    struct replica_host **host = &shared->hosts[machine->slot];

    if (*host == NULL) {
        struct memory *before = memory_enter(NULL);
        *host = calloc(1, sizeof **host);
        (void)memory_enter(before);
        if (*host == NULL)
            abort();
        (*host)->shared = shared;
    }
    return *host;
}

static void drop_first_parcel(struct replica_host *host)
{
    struct parcel *parcel = host->inbox[host->inbox_first % REPLICA_INBOX_MAX];

    host->inbox_first++;
    post_release(host->shared->post, parcel);
}

static void empty_mailbox(struct replica_host *host)
{
    while (host->inbox_first != host->inbox_last)
        drop_first_parcel(host);
    host->ops_first = host->ops_last = 0;
    host->news_first = host->news_last = 0;
}

static bool has_mail(const struct replica_host *host)
{
    return host->inbox_first != host->inbox_last || host->ops_first != host->ops_last ||
           host->news_first != host->news_last;
}

void replicas_release(struct replicas *replicas)
{
    for (int slot = 0; slot < RAFT_VOTERS_MAX; slot++) {
        struct replica_host *host = replicas->hosts[slot];
        if (host == NULL)
            continue;
        empty_mailbox(host);
        memory_disk_free(host->disk);
        free(host);
        replicas->hosts[slot] = NULL;
    }
}

static void wake_now(struct machine *machine)
{
    machine_wake(machine, timeline_now_ns(machine->timeline));
}

void replica_deliver(struct machine *machine, struct parcel *parcel)
{
    struct replica_host *host = replica_host_of(machine);

    if (!replica_is_up(machine) || host->inbox_last - host->inbox_first == REPLICA_INBOX_MAX) {
        post_release(host->shared->post, parcel);
        return;
    }
    host->inbox[host->inbox_last++ % REPLICA_INBOX_MAX] = parcel;
    wake_now(machine);
}

bool replica_submit(struct machine *machine, const struct op *op)
{
    struct replica_host *host = replica_host_of(machine);

    if (!replica_is_up(machine) || host->ops_last - host->ops_first == REPLICA_OPS_MAX)
        return false;
    host->ops[host->ops_last++ % REPLICA_OPS_MAX] = *op;
    wake_now(machine);
    return true;
}

/* News beyond the limit are lost: they are spurious, or will come again. */
static void push_news(struct machine *machine, enum raft_event_type type, uint32_t peer)
{
    struct replica_host *host = replica_host_of(machine);

    if (!replica_is_up(machine) || host->news_last - host->news_first == REPLICA_NEWS_MAX)
        return;
    host->news[host->news_last++ % REPLICA_NEWS_MAX] =
        (struct replica_news){ .type = type, .peer = peer };
    wake_now(machine);
}

void replica_peer_lost(struct machine *machine, uint32_t peer)
{
    push_news(machine, RAFT_PEER_LOST, peer);
}

void replica_peer_replaced(struct machine *machine, uint32_t peer)
{
    push_news(machine, RAFT_PEER_REPLACED, peer);
}

void replica_link_has_room(struct machine *machine, uint32_t peer)
{
    push_news(machine, RAFT_SEND, peer);
}

void replica_transfer(struct machine *machine, uint32_t peer)
{
    push_news(machine, RAFT_TRANSFER, peer);
}

/* -- Small things -------------------------------------------------------------------------------- */

static uint64_t now_ms(const struct replica *replica)
{
    return replica->now_ns / NS_PER_MS;
}

void replica_fail(struct replica *replica, const char *what, int code)
{
    if (replica->has_failed)
        return;
    replica->has_failed = true;
    trace_line(replica->machine->trace, replica->machine->slot, "stops: %s: error %d", what, -code);
}

uint64_t replica_clock_ms(const struct replica *replica)
{
    uint64_t clock = replica->base_clock_ms + (replica->now_ns - replica->base_ns) / NS_PER_MS;
    return clock > replica->last_clock_ms ? clock : replica->last_clock_ms;
}

int replica_slot_of(const struct replica *replica, uint32_t id)
{
    for (int slot = 0; slot < replica->shared->node_count; slot++)
        if (replica->shared->ids[slot] == id)
            return slot;
    return -1;
}

/* -- Carrying out effects ------------------------------------------------------------------------ */

static void keep_entry(struct replica *replica, const struct entry *entry)
{
    int code = replica->log_type->append(replica->log, entry);

    if (code < 0) {
        replica_fail(replica, "cannot append to the log", code);
        return;
    }
    replica->last_clock_ms = entry->clock_ms;
    oracle_appended(replica->shared->oracle, replica->machine->slot, entry);
}

static void keep_leaders_entries(struct replica *replica, const struct entry *entries)
{
    const struct raft_effects *effects = &replica->effects;

    for (uint64_t index = effects->first; index <= effects->last && !replica->has_failed; index++) {
        const struct entry *entry = &entries[effects->skip + (index - effects->first)];
        assert(entry->index == index);
        keep_entry(replica, entry);
    }
    replica->base_clock_ms = replica->last_clock_ms;
    replica->base_ns = replica->now_ns;
}

static void keep_own_entry(struct replica *replica, enum entry_kind kind, uint8_t *bytes,
                           size_t size, uint32_t count)
{
    struct entry entry = {
        .size = (uint32_t)size,
        .kind = (uint16_t)kind,
        .term = replica->raft.term,
        .index = replica->raft.last_index,
        .clock_ms = replica_clock_ms(replica),
        .count = count,
    };
    entry_seal(bytes, replica->log_type->chain(replica->log, entry.index - 1), &entry);
    keep_entry(replica, &entry);
}

static int by_id(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static void draw_genesis(struct replica *replica, struct entry_genesis *genesis)
{
    uint64_t halves[2];

    for (int i = 0; i < 2; i++)
        halves[i] = random_next(&replica->machine->random);
    for (unsigned i = 0; i < ENTRY_HASH_KEY_SIZE; i++) /* the same on machines of any byte order */
        genesis->hash_key[i] = (uint8_t)(halves[i / 8] >> (8 * (i % 8)));
    genesis->feature_level = ENTRY_FEATURE_LEVEL;
    genesis->voter_count = (uint32_t)replica->shared->node_count;
    for (uint32_t i = 0; i < genesis->voter_count; i++)
        genesis->voters[i] = replica->shared->ids[i];
    qsort(genesis->voters, genesis->voter_count, sizeof genesis->voters[0], by_id);
}

static void keep_noop(struct replica *replica)
{
    uint8_t bytes[ENTRY_HEADER_SIZE + ENTRY_GENESIS_SIZE_MAX] = { 0 };
    struct entry_genesis genesis = { 0 };

    if (replica->raft.last_index > 1) {
        keep_own_entry(replica, ENTRY_NOOP, bytes, ENTRY_HEADER_SIZE, 0);
        return;
    }
    draw_genesis(replica, &genesis);
    size_t size = entry_genesis_encode(bytes + ENTRY_HEADER_SIZE, &genesis);
    keep_own_entry(replica, ENTRY_GENESIS, bytes, ENTRY_HEADER_SIZE + size, 0);
}

static void note_role(struct replica *replica)
{
    const struct raft *raft = &replica->raft;

    trace_line(replica->machine->trace, replica->machine->slot,
               "is %s in term %" PRIu64 ", last %" PRIu64 ", commit %" PRIu64,
               raft_role_name(raft->role), raft->term, raft->last_index, raft->commit_index);
    if (raft->role != RAFT_LEADER)
        replica_fail_waiting(replica);
}

static void save_vote(struct replica *replica)
{
    if (!replica->vote_due || !replica->log_type->room(replica->log, 0, true))
        return;
    int code = replica->log_type->vote(replica->log, replica->raft.term, replica->raft.voted_for);
    if (code < 0 && code != -ENOSPC)
        replica_fail(replica, "cannot save term and vote", code);
    replica->vote_due = code < 0;
}

static void carry_out(struct replica *replica, const struct raft_event *event,
                      const struct entry *entries)
{
    const struct raft_effects *effects = &replica->effects;

    if (effects->save_vote) {
        replica->vote_due = true;
        save_vote(replica);
    }
    if (effects->noop)
        keep_noop(replica);
    else if (effects->first != 0 && event->type == RAFT_APPEND)
        keep_leaders_entries(replica, entries);
    if (effects->write_seq != 0)
        replica->write_seq = effects->write_seq;

    for (int i = 0; i < effects->message_count && !replica->has_failed; i++)
        replica_send_message(replica, &effects->messages[i]);

    for (int i = 0; i < effects->released_count; i++)
        replica_release_reads(replica, &effects->released[i]);
    if (effects->role_changed)
        note_role(replica);
}

static void make_room_for_runs(struct replica *replica)
{
    if (raft_runs_spare(&replica->raft) >= RAFT_RUNS_SPARE)
        return;
    uint32_t capacity = 2 * replica->raft.run_capacity + RAFT_RUNS_SPARE;
    struct raft_term_run *runs = malloc(capacity * sizeof *runs);
    if (runs == NULL)
        abort();
    free(raft_give_runs(&replica->raft, runs, capacity));
}

void replica_step(struct replica *replica, struct raft_event *event, const struct entry *entries)
{
    struct oracle *oracle = replica->shared->oracle;
    int slot = replica->machine->slot;

    if (replica->has_failed)
        return;
    make_room_for_runs(replica);
    event->now_ms = now_ms(replica);
    oracle_step_begin(oracle, slot, &replica->raft, event);
    raft_step(&replica->raft, event, &replica->effects);
    oracle_step_end(oracle, slot, &replica->raft, event, &replica->effects);
    carry_out(replica, event, entries);
}

void replica_propose(struct replica *replica, enum entry_kind kind, uint8_t *bytes, size_t size,
                     uint32_t count)
{
    struct raft_event event = { .type = RAFT_PROPOSE };

    replica_step(replica, &event, NULL);
    assert(replica->has_failed || replica->effects.refusal == RAFT_ACCEPTED);
    if (!replica->has_failed)
        keep_own_entry(replica, kind, bytes, size, count);
}

/* -- The disk ------------------------------------------------------------------------------------ */

static void take_persisted(struct replica *replica)
{
    struct raft_event event = { .type = RAFT_PERSISTED };
    int code = 0;

    while (replica->log_type->done(replica->log, &event.write_seq, &code))
        replica_step(replica, &event, NULL);
    if (code < 0)
        replica_fail(replica, "cannot flush the log", code);
}

static void start_flush(struct replica *replica)
{
    const struct replica_log_type *log_type = replica->log_type;

    save_vote(replica);
    if (replica->write_seq != replica->flushed_seq && !replica->vote_due && !replica->has_failed) {
        int code = log_type->flush(replica->log, replica->write_seq);
        if (code < 0) {
            replica_fail(replica, "cannot write the log", code);
            return;
        }
        replica->flushed_seq = replica->write_seq;
    }
    if (log_type->blocks(replica->log))
        take_persisted(replica);
}

/* -- Start and end ------------------------------------------------------------------------------- */

static void replica_free(void *process)
{
    struct replica *replica = process;

    if (replica == NULL)
        return;
    if (replica->log != NULL)
        replica->log_type->close(replica->log);
    kv_free(replica->kv);
    free(replica->raft.runs);
    free(replica->batch_bytes);
    free(replica->value_bytes);
    free(replica->writes.ops);
    free(replica->reads.ops);
    free(replica->answers);
    free(replica);
}

/* The entries of one append are limited to a few in some lives: as if each were large. */
static void set_limits(struct replica *replica)
{
    const struct config_limits *limits = &replica->machine->config->limits;
    size_t one_command = ENTRY_HEADER_SIZE + KV_COMMAND_HEADER_SIZE + KV_COMMAND_IDENTITY_SIZE +
                         KV_KEY_SIZE_MAX + (size_t)limits->value_bytes;
    struct random *random = &replica->machine->random;

    replica->batch_bytes_max = limits->batch_bytes;
    replica->largest_entry = limits->batch_bytes > one_command ? limits->batch_bytes : one_command;
    replica->uncommitted_bytes_max = limits->uncommitted_bytes;
    replica->window_bytes = limits->peer_window_bytes;
    replica->store_bytes_max = limits->store_bytes;
    replica->append_entries_max = RAFT_APPEND_ENTRIES_MAX;
    if (random_chance(random, 300))
        replica->append_entries_max = (uint32_t)random_between(random, 1, 8);
}

static void start_raft(struct replica *replica, const struct storage_recovered *found)
{
    const struct config *config = replica->machine->config;
    uint32_t capacity = found->run_count + 2 * RAFT_RUNS_SPARE;
    struct raft_term_run *runs = calloc(capacity, sizeof *runs);
    if (runs == NULL)
        abort();
    for (uint32_t i = 0; i < found->run_count; i++)
        runs[i] = (struct raft_term_run){ found->runs[i].term, found->runs[i].first };

    struct raft_config raft_config = {
        .id = replica->machine->id,
        .voter_count = replica->shared->node_count,
        .heartbeat_ms = config->heartbeat_ms,
        .election_ms_min = config->election_ms_min,
        .election_ms_max = config->election_ms_max,
        .seed = random_next(&replica->machine->random),
    };
    memcpy(raft_config.voters, replica->shared->ids, sizeof raft_config.voters);
    struct raft_restored restored = {
        .term = found->term,
        .voted_for = found->voted_for,
        .last_index = found->last_index,
        .runs = runs,
        .run_count = found->run_count,
        .run_capacity = capacity,
    };
    raft_init(&replica->raft, &raft_config, &restored, now_ms(replica));
    replica->base_clock_ms = replica->last_clock_ms = found->last_clock_ms;
    replica->base_ns = replica->now_ns;
}

/* False if the log cannot be read. */
static bool tell_recovered(struct replica *replica, uint64_t last_index)
{
    struct oracle *oracle = replica->shared->oracle;
    int slot = replica->machine->slot;
    uint32_t count;

    oracle_starting(oracle, slot, replica->shared->damaged >> slot & 1);
    for (uint64_t index = 1; index <= last_index; index += count) {
        uint64_t left = last_index - index + 1;
        count = left < RAFT_APPEND_ENTRIES_MAX ? (uint32_t)left : RAFT_APPEND_ENTRIES_MAX;
        if (replica->log_type->entries(replica->log, index, count, replica->send_entries) < 0)
            return false;
        for (uint32_t i = 0; i < count; i++)
            oracle_appended(oracle, slot, &replica->send_entries[i]);
    }
    oracle_started(oracle, slot, &replica->raft);
    return true;
}

static struct waiting_op *make_ring(void)
{
    struct waiting_op *ops = malloc(REPLICA_WAITING_MAX * sizeof *ops);
    if (ops == NULL)
        abort();
    return ops;
}

static void *start(struct machine *machine, const struct replica_log_type *log_type, int *exit_code)
{
    struct replica *replica = calloc(1, sizeof *replica);
    struct storage_recovered found = { 0 };
    bool starts = false;

    if (replica == NULL)
        abort();
    replica->machine = machine;
    replica->shared = machine->user;
    replica->host = replica_host_of(machine);
    replica->log_type = log_type;
    replica->writes.ops = make_ring();
    replica->reads.ops = make_ring();
    empty_mailbox(replica->host);
    set_limits(replica);
    *exit_code = NODE_EXIT_REFUSED;
    replica->log = log_type->open(machine, &found);
    if (replica->log != NULL) {
        replica->now_ns = machine_now_ns(machine); /* recovery may have taken long */
        start_raft(replica, &found);
        starts = tell_recovered(replica, found.last_index);
    }
    free(found.runs);
    if (!starts) {
        replica_free(replica);
        return NULL;
    }
    *exit_code = NODE_EXIT_OK;
    return replica;
}

static void *start_in_memory(struct machine *machine, int *exit_code)
{
    return start(machine, &replica_log_memory, exit_code);
}

static void *start_on_storage(struct machine *machine, int *exit_code)
{
    return start(machine, &replica_log_storage, exit_code);
}

/* -- The turn ------------------------------------------------------------------------------------ */

static void take_news(struct replica *replica)
{
    struct replica_host *host = replica->host;

    while (host->news_first != host->news_last) {
        const struct replica_news *news = &host->news[host->news_first % REPLICA_NEWS_MAX];
        struct raft_event event = { .type = news->type, .peer = news->peer };
        host->news_first++;
        replica_step(replica, &event, NULL);
    }
}

static void take_messages(struct replica *replica)
{
    struct replica_host *host = replica->host;

    while (host->inbox_first != host->inbox_last && !replica->has_failed) {
        machine_call(replica->machine);
        replica_take_message(replica, host->inbox[host->inbox_first % REPLICA_INBOX_MAX]);
        drop_first_parcel(host);
    }
}

static void take_timeout(struct replica *replica)
{
    struct raft_event event = { .type = RAFT_TIMEOUT };

    if (now_ms(replica) >= replica->raft.deadline_ms)
        replica_step(replica, &event, NULL);
}

/* As watch_progress() of node.c. */
static void watch_progress(struct replica *replica)
{
    const struct raft *raft = &replica->raft;
    uint64_t limit_ns = (uint64_t)REPLICA_STALL_ELECTIONS * raft->election_ms_max * NS_PER_MS;
    bool moves = raft->role != RAFT_LEADER || raft->commit_index == raft->last_index ||
                 raft->commit_index != replica->progress_index;

    if (moves) {
        replica->is_stalled = false;
        replica->progress_index = raft->commit_index;
        replica->progress_ns = replica->now_ns;
    } else if (!replica->is_stalled && replica->now_ns - replica->progress_ns >= limit_ns) {
        trace_line(replica->machine->trace, replica->machine->slot,
                   "commits stand still at %" PRIu64 " of %" PRIu64, raft->commit_index,
                   raft->last_index);
        replica_fail_waiting(replica);
        replica->is_stalled = true;
        replica->counters.stalls++;
    }
}

static uint64_t next_wake_ns(const struct replica *replica)
{
    uint64_t deadline = replica->raft.deadline_ms * NS_PER_MS;
    uint64_t expiry = replica_expiry_deadline_ns(replica);
    bool is_behind = replica->applied_index < replica->raft.commit_index;

    if (is_behind || replica->disk_busy || has_mail(replica->host))
        return replica->now_ns;
    return expiry != 0 && expiry < deadline ? expiry : deadline;
}

static bool turn(void *process, uint64_t *wake_ns)
{
    struct replica *replica = process;

    replica->now_ns = machine_now_ns(replica->machine);

    take_persisted(replica);
    take_news(replica);
    take_messages(replica);
    take_timeout(replica);

    replica_apply(replica);
    replica_take_ops(replica);

    replica_propose_batch(replica);
    replica_open_round(replica);
    replica_expire(replica);
    replica_send(replica);
    start_flush(replica);
    if (replica->has_failed)
        return false; /* answers that wait may promise what is not durable */
    watch_progress(replica);

    oracle_turn_end(replica->shared->oracle, replica->machine->slot, &replica->raft, replica->kv,
                    replica->applied_index);
    replica_send_answers(replica);
    replica->disk_busy = replica->log_type->background(replica->log, replica->now_ns);
    int code = replica->log_type->error(replica->log);
    if (code < 0)
        replica_fail(replica, "the log cannot be written any more", code);
    *wake_ns = next_wake_ns(replica);
    return true;
}

/* -- The process --------------------------------------------------------------------------------- */

static int exit_code_of(const void *process)
{
    (void)process; /* it never stops in good order by itself */
    return NODE_EXIT_FAILED;
}

static const struct raft *raft_of(const void *process)
{
    return &((const struct replica *)process)->raft;
}

static const struct kv *kv_of(const void *process)
{
    return ((const struct replica *)process)->kv;
}

static uint64_t applied_of(const void *process)
{
    return ((const struct replica *)process)->applied_index;
}

const struct replica_counters *replica_counters(const void *process)
{
    return &((const struct replica *)process)->counters;
}

const struct process_type replica_in_memory = {
    .name = "replica in memory",
    .start = start_in_memory,
    .turn = turn,
    .exit_code = exit_code_of,
    .free = replica_free,
    .raft = raft_of,
    .kv = kv_of,
    .applied = applied_of,
};

const struct process_type replica_on_storage = {
    .name = "replica on storage",
    .start = start_on_storage,
    .turn = turn,
    .exit_code = exit_code_of,
    .free = replica_free,
    .raft = raft_of,
    .kv = kv_of,
    .applied = applied_of,
};
