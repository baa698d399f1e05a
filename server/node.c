/* The node: one function for each phase of a turn, and the carrying out of Raft's effects.
 *
 * The path of a write: client/ parses, node_client.c puts it into the turn's batch, node_propose()
 * makes the batch one entry and one Raft proposal, carry_out() appends it to storage,
 * node_send() puts it on the links, start_flush() starts the disk; then RAFT_PERSISTED here and
 * append replies from the peers move the commit index, node_apply() applies the entry and queues the
 * replies, clients_flush() sends them. */
#include "server/node.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/node_state.h"

static uint64_t now_ms(const struct node *node)
{
    return node->now_ns / NODE_NS_PER_MS;
}

void node_fail(struct node *node, const char *what, const char *why)
{
    char quoted[LOGGER_QUOTE_MAX];

    if (node->phase == NODE_FAILED)
        return;
    node->phase = NODE_FAILED;
    logger_write(&node->logger, LOGGER_ERROR, "node stops", "what=\"%s\" why=%s", what,
                 logger_quote(why, quoted));
}

void node_fail_with_code(struct node *node, const char *what, int code)
{
    struct error error;

    error_set_errno(&error, code, "the system refused");
    node_fail(node, what, error.text);
}

/* -- The log clock ------------------------------------------------------------------------------ */

uint64_t node_clock_ms(const struct node *node)
{
    uint64_t clock = node->base_clock_ms + (node->now_ns - node->base_ns) / NODE_NS_PER_MS;
    return clock > node->last_clock_ms ? clock : node->last_clock_ms;
}

/* -- Carrying out effects ----------------------------------------------------------------------- */

/* After a failure the log ends before this entry, and nothing may follow it. */
static void keep_entry(struct node *node, const struct entry *entry)
{
    if (node->phase == NODE_FAILED)
        return;
    int code = storage_append(node->storage, entry);
    if (code < 0)
        node_fail_with_code(node, "cannot append to the log", code);
    node->last_clock_ms = entry->clock_ms;
}

static void keep_leaders_entries(struct node *node, const struct raft_effects *effects,
                                 const struct entry *entries)
{
    for (uint64_t index = effects->first; index <= effects->last; index++) {
        const struct entry *entry = &entries[effects->skip + (index - effects->first)];
        assert(entry->index == index);
        keep_entry(node, entry);
    }
    node->base_clock_ms = node->last_clock_ms;
    node->base_ns = node->now_ns;
}

/* Seal the entry at the end of our log. Its term is ours: whoever adds entries leads. */
static void keep_own_entry(struct node *node, enum entry_kind kind, uint8_t *bytes, size_t size,
                           uint32_t count)
{
    struct entry entry = {
        .size = (uint32_t)size,
        .kind = (uint16_t)kind,
        .term = node->raft.term,
        .index = node->raft.last_index,
        .clock_ms = node_clock_ms(node),
        .count = count,
    };
    entry_seal(bytes, storage_chain(node->storage, entry.index - 1), &entry);
    keep_entry(node, &entry);
}

/* The no-op that opens our term (Raft §8). The first entry of all also draws what a cluster has once
 * and for ever, and says who belongs to it. */
static void keep_noop(struct node *node)
{
    uint8_t bytes[ENTRY_HEADER_SIZE + ENTRY_GENESIS_SIZE_MAX] = { 0 };
    struct entry_genesis genesis = { .feature_level = ENTRY_FEATURE_LEVEL };

    if (node->raft.last_index > 1) {
        keep_own_entry(node, ENTRY_NOOP, bytes, ENTRY_HEADER_SIZE, 0);
        return;
    }
    os_random(node->os, genesis.hash_key, sizeof genesis.hash_key);
    node_voters(node->config, &genesis);
    size_t size = entry_genesis_encode(bytes + ENTRY_HEADER_SIZE, &genesis);
    keep_own_entry(node, ENTRY_GENESIS, bytes, ENTRY_HEADER_SIZE + size, 0);
}

static void note_role(struct node *node)
{
    const struct raft *raft = &node->raft;

    if (raft->role == RAFT_LEADER || raft->role == RAFT_FOLLOWER)
        logger_write(&node->logger, LOGGER_INFO,
                     raft->role == RAFT_LEADER ? "became leader" : "became follower",
                     "term=%" PRIu64 " last_index=%" PRIu64 " commit_index=%" PRIu64, raft->term,
                     raft->last_index, raft->commit_index);
    else
        logger_write(&node->logger, LOGGER_DEBUG, "campaigns", "role=%s term=%" PRIu64,
                     raft_role_name(raft->role), raft->term);
    if (raft->role == RAFT_CANDIDATE)
        node->counters.elections++;
    if (raft->role != RAFT_LEADER)
        node_fail_waiting(node);
}

static void note_leader(struct node *node)
{
    const struct raft *raft = &node->raft;

    node->counters.leader_changes++;
    if (raft->leader == RAFT_NODE_NONE)
        logger_write(&node->logger, LOGGER_INFO, "no leader known", "term=%" PRIu64, raft->term);
    else if (raft->leader != raft->id)
        logger_write(&node->logger, LOGGER_INFO, "follows", "leader=%" PRIu32 " term=%" PRIu64,
                     raft->leader, raft->term);
}

/* On a full disk even term and vote may find no room. Then nothing that was asked for since is flushed,
 * and so Raft keeps every promise back, until they do. */
static void save_vote(struct node *node)
{
    if (!node->vote_due || !storage_room(node->storage, 0, true))
        return;
    int code = storage_vote(node->storage, node->raft.term, node->raft.voted_for);
    if (code < 0 && code != -ENOSPC)
        node_fail_with_code(node, "cannot save term and vote", code);
    node->vote_due = code < 0;
}

/* In the order of struct raft_effects. The bytes of a proposal are kept by node_propose(), which
 * knows them. Reads are released before node_apply() may go beyond their index, so that a read
 * never sees a write that the same connection sent after it. */
static void carry_out(struct node *node, const struct raft_event *event,
                      const struct entry *entries)
{
    const struct raft_effects *effects = &node->effects;

    if (effects->save_vote) {
        node->vote_due = true;
        save_vote(node);
    }
    if (effects->noop)
        keep_noop(node);
    else if (effects->first != 0 && event->type == RAFT_APPEND)
        keep_leaders_entries(node, effects, entries);
    if (effects->write_seq != 0)
        node->write_seq = effects->write_seq;

    for (int i = 0; i < effects->message_count && node->phase != NODE_FAILED; i++)
        node_send_message(node, &effects->messages[i]);

    for (int i = 0; i < effects->released_count; i++)
        node_release_reads(node, &effects->released[i]);
    if (effects->role_changed)
        note_role(node);
    if (effects->leader_changed)
        note_leader(node);
}

/* Raft's list of term runs grows between steps, never in one. */
static void make_room_for_runs(struct node *node)
{
    if (raft_runs_spare(&node->raft) >= RAFT_RUNS_SPARE)
        return;
    uint32_t capacity = 2 * node->raft.run_capacity + RAFT_RUNS_SPARE;
    struct raft_term_run *runs = malloc(capacity * sizeof *runs);
    if (runs == NULL)
        abort();
    free(raft_give_runs(&node->raft, runs, capacity));
}

void node_step(struct node *node, struct raft_event *event, const struct entry *entries)
{
    if (node->phase == NODE_FAILED)
        return;
    make_room_for_runs(node);
    event->now_ms = now_ms(node);
    raft_step(&node->raft, event, &node->effects);
    carry_out(node, event, entries);
}

uint64_t node_propose(struct node *node, enum entry_kind kind, uint8_t *bytes, size_t size,
                      uint32_t count)
{
    struct raft_event event = { .type = RAFT_PROPOSE };

    node_step(node, &event, NULL);
    assert(node->phase == NODE_FAILED || node->effects.refusal == RAFT_ACCEPTED);
    if (node->phase != NODE_FAILED)
        keep_own_entry(node, kind, bytes, size, count);
    return node->raft.last_index;
}

/* -- The disk ----------------------------------------------------------------------------------- */

static void take_persisted(struct node *node)
{
    struct raft_event event = { .type = RAFT_PERSISTED };
    int code = 0;

    while (storage_done(node->storage, &event.write_seq, &code))
        node_step(node, &event, NULL);
    if (code < 0)
        node_fail_with_code(
            node, "cannot flush the log: what is on its way to the disk may be lost", code);
}

/* The disk is asked after the peers, so that both work at once. A flush that does not return at once
 * is collected by a later turn. */
static void start_flush(struct node *node)
{
    save_vote(node);
    if (node->write_seq != node->flushed_seq && !node->vote_due && node->phase != NODE_FAILED) {
        int code = storage_flush(node->storage, node->write_seq);
        if (code < 0) {
            node_fail_with_code(node, "cannot write the log", code);
            return;
        }
        node->flushed_seq = node->write_seq;
    }
    if (storage_fd(node->storage) < 0)
        take_persisted(node);
}

void node_on_flushed(void *owner, uint32_t events)
{
    (void)events; /* a flush is done: nothing else makes it readable */
    take_persisted(owner);
}

static bool prepare_disk(struct node *node)
{
    struct storage_stats stats;
    bool more = storage_background(node->storage, node->now_ns);
    int code = storage_error(node->storage);

    if (code < 0)
        node_fail_with_code(node, "the log cannot be written any more", code);
    storage_stats(node->storage, &stats);
    if (stats.full != node->was_full) {
        node->was_full = stats.full;
        logger_write(&node->logger, stats.full ? LOGGER_ERROR : LOGGER_INFO,
                     stats.full ? "disk full: writes are refused" : "disk has space again",
                     "log_bytes=%" PRIu64, stats.log_bytes);
    }
    return more;
}

/* -- Stopping ----------------------------------------------------------------------------------- */

static void enter_phase(struct node *node, enum node_phase phase, uint64_t limit_ms)
{
    node->phase = phase;
    node->phase_deadline_ns = node->now_ns + limit_ms * NODE_NS_PER_MS;
}

void node_on_signal(void *owner, uint32_t events)
{
    struct node *node = owner;
    (void)events;
    int number = os_signal_take(node->os, node->signal_source.fd);

    if (number == 0 || node->phase != NODE_RUNNING)
        return;
    logger_write(&node->logger, LOGGER_INFO, "asked to stop", "signal=%d", number);
    clients_stop(node->clients);
    enter_phase(node, NODE_DRAINING, NODE_DRAIN_MS);
}

static void hand_over(struct node *node)
{
    struct raft_event event = { .type = RAFT_TRANSFER, .peer = RAFT_NODE_NONE };

    enter_phase(node, NODE_HANDING, NODE_HANDOVER_MS);
    if (node->raft.role == RAFT_LEADER)
        node_step(node, &event, NULL);
    peers_flush(node->peers);
}

/* One step of an orderly stop: answer, hand over, flush. Each has its limit, so that the process is
 * gone within 5 s whatever the others do. */
static void stop_in_order(struct node *node)
{
    bool late = node->now_ns >= node->phase_deadline_ns;

    if (node->phase == NODE_DRAINING && (late || clients_drained(node->clients)))
        hand_over(node);
    if (node->phase == NODE_HANDING &&
        (late || node->raft.role != RAFT_LEADER || node->raft.transfer_to == RAFT_NODE_NONE))
        enter_phase(node, NODE_FLUSHING, NODE_HANDOVER_MS);
    if (node->phase == NODE_FLUSHING && (late || node->raft.write_count == 0)) {
        logger_write(&node->logger, LOGGER_INFO, "stopped", "durable_index=%" PRIu64,
                     node->raft.durable_index);
        node->phase = NODE_STOPPED;
    }
}

/* -- The turn ----------------------------------------------------------------------------------- */

static void sooner(uint64_t *deadline, uint64_t other)
{
    if (other != 0 && (*deadline == 0 || other < *deadline))
        *deadline = other;
}

static uint64_t next_deadline(const struct node *node)
{
    uint64_t deadline = node->raft.deadline_ms * NODE_NS_PER_MS;

    sooner(&deadline, peers_deadline_ns(node->peers));
    sooner(&deadline, clients_deadline_ns(node->clients));
    sooner(&deadline, node_expiry_deadline_ns(node));
    if (node->phase != NODE_RUNNING)
        sooner(&deadline, node->phase_deadline_ns);
    return deadline;
}

static void take_timeout(struct node *node)
{
    struct raft_event event = { .type = RAFT_TIMEOUT };

    if (now_ms(node) >= node->raft.deadline_ms)
        node_step(node, &event, NULL);
}

/* Heartbeats go on while the disks of a majority take nothing, so no election ends the wait of those
 * whose writes are under way: this does. */
static void watch_progress(struct node *node)
{
    const struct raft *raft = &node->raft;
    uint64_t limit_ns = (uint64_t)NODE_STALL_ELECTIONS * raft->election_ms_max * NODE_NS_PER_MS;
    bool moves = raft->role != RAFT_LEADER || raft->commit_index == raft->last_index ||
                 raft->commit_index != node->progress_index;

    if (moves) {
        if (node->is_stalled)
            logger_write(&node->logger, LOGGER_INFO, "commits go on", "commit_index=%" PRIu64,
                         raft->commit_index);
        node->is_stalled = false;
        node->progress_index = raft->commit_index;
        node->progress_ns = node->now_ns;
    } else if (!node->is_stalled && node->now_ns - node->progress_ns >= limit_ns) {
        logger_write(&node->logger, LOGGER_ERROR, "commits stand still",
                     "commit_index=%" PRIu64 " last_index=%" PRIu64
                     " hint=\"the disks of a majority are full or do not answer\"",
                     raft->commit_index, raft->last_index);
        node_fail_waiting(node);
        node->is_stalled = true;
    }
}

/* Commits do not need our own disk, so they would go on over one that hangs, and what waits for it
 * would grow. (Where a flush blocks the loop, our heartbeats stop, and the others elect a leader.) */
static bool disk_hangs(const struct node *node)
{
    return node->disk_seq != 0 && node->raft.commit_index > node->raft.durable_index;
}

/* A full one takes no writes, though others may have room. */
static bool disk_is_full(const struct node *node)
{
    return node->was_full;
}

/* A leader whose disk is in the way for a while hands over to one whose disk is not. */
static void watch_disk(struct node *node)
{
    struct raft_event event = { .type = RAFT_TRANSFER, .peer = RAFT_NODE_NONE };
    const struct raft *raft = &node->raft;
    uint64_t limit_ns = (uint64_t)NODE_DISK_ELECTIONS * raft->election_ms_min * NODE_NS_PER_MS;
    uint64_t oldest = raft->write_count > 0 ? raft->writes[0].seq : 0;
    bool moves = (oldest != node->disk_seq || oldest == 0) && !disk_is_full(node);

    node->disk_seq = oldest;
    if (moves || raft->role != RAFT_LEADER || raft->peer_count == 0)
        node->disk_ns = node->now_ns;
    if (node->now_ns - node->disk_ns < limit_ns || !(disk_hangs(node) || disk_is_full(node)))
        return;
    node->disk_ns = node->now_ns; /* if nobody takes over, try again after as long */
    node_step(node, &event, NULL);
    if (node->phase == NODE_FAILED || node->effects.refusal != RAFT_ACCEPTED)
        return;
    node->counters.disk_handovers++;
    logger_write(&node->logger, LOGGER_ERROR, "own disk is in the way: handing the lead over",
                 "full=%s to=%" PRIu32 " durable_index=%" PRIu64 " commit_index=%" PRIu64,
                 disk_is_full(node) ? "yes" : "no", raft->transfer_to, raft->durable_index,
                 raft->commit_index);
}

static bool is_behind(const struct node *node)
{
    return node->applied_index < node->raft.commit_index;
}

/* The order of a turn (design: what is oldest first, so that a batch is as large as the last flush
 * was long). For safety: a turn's proposal comes after its reads and writes were collected, and
 * reads are released before what follows them is applied. For speed: peers before the disk, the
 * disk before replies, one write for each connection at the end. */
bool node_turn(struct node *node)
{
    bool busy = peers_busy(node->peers) || clients_busy(node->clients) || is_behind(node) ||
                node->disk_busy;

    node->now_ns = reactor_wait(node->reactor, next_deadline(node), busy);

    reactor_dispatch(node->reactor, REACTOR_SIGNAL);
    reactor_dispatch(node->reactor, REACTOR_DISK);
    reactor_dispatch(node->reactor, REACTOR_PEER);
    peers_turn(node->peers, node->now_ns);
    take_timeout(node);

    node_apply(node);
    reactor_dispatch(node->reactor, REACTOR_CLIENT);
    clients_turn(node->clients, node->now_ns);

    node_propose_batch(node);
    node_open_round(node);
    node_expire(node);
    node_send(node);
    start_flush(node);
    if (node->phase == NODE_FAILED)
        return false; /* replies that wait in buffers may promise what is not durable */
    watch_disk(node);
    peers_flush(node->peers); /* what a flush that is done at once has released */
    watch_progress(node);

    clients_flush(node->clients);
    node->disk_busy = prepare_disk(node);
    if (node->phase != NODE_RUNNING)
        stop_in_order(node);
    node_turns_add(&node->turns, os_now_ns(node->os) - node->now_ns);
    return node->phase != NODE_STOPPED && node->phase != NODE_FAILED;
}

int node_exit_code(const struct node *node)
{
    return node->phase == NODE_STOPPED ? NODE_EXIT_OK : NODE_EXIT_FAILED;
}
