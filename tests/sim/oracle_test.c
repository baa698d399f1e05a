/* Each rule of the oracle is seen to fail once, and only when it is broken: a small cluster of real
 * Raft cores, whose disks and logs the test keeps by hand, runs well until the test bends one thing.
 *
 * A rule that breaks ends the process, so each bending runs in a child, whose last words must name the
 * rule. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/oracle.h"

#define NODES 3
#define LOG_MAX 64
#define BYTES_MAX 512
#define QUEUE_MAX 256

struct slot {
    struct entry entry;
    uint8_t bytes[BYTES_MAX];
};

struct node {
    struct raft raft;
    struct raft_term_run runs[1024];
    struct slot log[LOG_MAX]; /* by index */
    uint64_t last;
    uint64_t untold; /* the first entry that the disk has not told of */
    uint64_t flushed_seq;
    struct kv *kv;
    uint64_t applied;
    bool is_cut; /* nothing goes out or comes in */
};

struct letter {
    struct raft_message message;
    struct slot entries[4];
};

struct rig {
    struct timeline *timeline;
    struct trace *trace;
    struct oracle *oracle;
    int count;
    uint64_t now_ms, clock_ms;
    struct node nodes[NODES];
    struct letter *queue;
    int queue_count;

    /* what the test bends */
    bool hides_votes, hides_entries; /* the disk tells nothing of them */
    bool loses_replies;
    int bent; /* the node whose steps are bent */
    void (*bend)(struct rig *rig, struct raft *raft, const struct raft_event *event,
                 struct raft_effects *effects);
};

static void *take(void *context, size_t size)
{
    (void)context;
    return malloc(size);
}

static void *take_more(void *context, void *memory, size_t size, size_t new_size)
{
    (void)context;
    (void)size;
    return realloc(memory, new_size);
}

static void give(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

static const struct kv_allocator allocator = { take, take_more, give, NULL };

static uint64_t chain_at(const struct node *node, uint64_t index)
{
    return index == 0 ? 0 : node->log[index].entry.chain;
}

static void keep(struct rig *rig, int slot, const struct entry *entry)
{
    struct node *node = &rig->nodes[slot];
    struct slot *place = &node->log[entry->index];
    memcpy(place->bytes, entry->bytes, entry->size);
    ck_assert_int_eq(entry_parse(place->bytes, entry->size, &place->entry), ENTRY_GOOD);
    node->last = entry->index;
    if (node->untold > entry->index)
        node->untold = entry->index;
    oracle_appended(rig->oracle, slot, &place->entry);
}

static void seal(struct rig *rig, int slot, enum entry_kind kind, uint8_t *bytes, size_t payload,
                 uint32_t count)
{
    struct node *node = &rig->nodes[slot];
    struct entry entry = { .size = (uint32_t)(ENTRY_HEADER_SIZE + payload),
                           .kind = (uint16_t)kind,
                           .term = node->raft.term,
                           .index = node->raft.last_index,
                           .clock_ms = rig->clock_ms,
                           .count = count };
    entry_seal(bytes, chain_at(node, entry.index - 1), &entry);
    keep(rig, slot, &entry);
}

static void keep_noop(struct rig *rig, int slot)
{
    uint8_t bytes[BYTES_MAX];
    struct entry_genesis genesis = { .feature_level = 1, .voter_count = 1, .voters = { 0 } };
    if (rig->nodes[slot].raft.last_index > 1)
        seal(rig, slot, ENTRY_NOOP, bytes, 0, 0);
    else
        seal(rig, slot, ENTRY_GENESIS, bytes,
             entry_genesis_encode(bytes + ENTRY_HEADER_SIZE, &genesis), 0);
}

static void post(struct rig *rig, int slot, const struct raft_message *message)
{
    const struct node *node = &rig->nodes[slot];
    if (node->is_cut || rig->queue_count == QUEUE_MAX)
        return;
    if (rig->loses_replies && message->type == RAFT_APPEND_REPLY)
        return;
    struct letter *letter = &rig->queue[rig->queue_count++];
    letter->message = *message;
    if (message->type != RAFT_APPEND)
        return;
    for (uint32_t i = 0; i < message->append.entry_count; i++)
        letter->entries[i] = node->log[message->append.prev.index + 1 + i];
}

static void step(struct rig *rig, int slot, struct raft_event *event, const struct slot *entries)
{
    struct node *node = &rig->nodes[slot];
    struct raft_effects effects;
    event->now_ms = rig->now_ms;
    oracle_step_begin(rig->oracle, slot, &node->raft, event);
    raft_step(&node->raft, event, &effects);
    if (rig->bend != NULL && rig->bent == slot)
        rig->bend(rig, &node->raft, event, &effects);
    oracle_step_end(rig->oracle, slot, &node->raft, event, &effects);
    if (effects.drop_from != 0)
        node->last = effects.drop_from - 1;
    if (effects.noop)
        keep_noop(rig, slot);
    else if (effects.first != 0 && event->type == RAFT_APPEND)
        for (uint64_t index = effects.first; index <= effects.last; index++) {
            struct entry entry;
            const uint8_t *bytes = entries[effects.skip + (index - effects.first)].bytes;
            ck_assert_int_eq(entry_parse(bytes, BYTES_MAX, &entry), ENTRY_GOOD);
            keep(rig, slot, &entry);
        }
    for (int i = 0; i < effects.message_count; i++)
        post(rig, slot, &effects.messages[i]);
}

static void flush(struct rig *rig, int slot)
{
    struct node *node = &rig->nodes[slot];
    if (node->flushed_seq == node->raft.write_seq)
        return;
    if (!rig->hides_votes)
        oracle_durable_vote(rig->oracle, slot, node->raft.term, node->raft.voted_for);
    for (; node->untold <= node->last; node->untold++)
        if (!rig->hides_entries) {
            const struct entry *entry = &node->log[node->untold].entry;
            oracle_durable_entry(rig->oracle, slot, entry->index, entry->term, entry->chain);
        }
    node->flushed_seq = node->raft.write_seq;
    step(rig, slot,
         &(struct raft_event){ .type = RAFT_PERSISTED, .write_seq = node->raft.write_seq }, NULL);
}

static void apply(struct node *node)
{
    while (node->applied < node->raft.commit_index) {
        const struct entry *entry = &node->log[node->applied + 1].entry;
        struct entry_genesis genesis;
        if (entry->kind == ENTRY_GENESIS) {
            ck_assert(
                entry_genesis_decode(entry->payload, entry->size - ENTRY_HEADER_SIZE, &genesis));
            node->kv = kv_new(&allocator, genesis.hash_key);
        }
        kv_begin(node->kv, entry->clock_ms);
        for (size_t at = ENTRY_HEADER_SIZE; entry->count > 0 && at < entry->size;) {
            struct kv_command command;
            struct kv_result result;
            at += kv_command_decode(entry->bytes + at, entry->size - at, &command);
            kv_apply(node->kv, &command, &result);
        }
        node->applied++;
    }
}

static bool send_due(struct rig *rig, int slot)
{
    bool any = false;
    for (uint32_t peer = 1; peer <= (uint32_t)rig->count; peer++)
        if (raft_append_due(&rig->nodes[slot].raft, peer)) {
            step(rig, slot, &(struct raft_event){ .type = RAFT_SEND, .send = { peer, 4 } }, NULL);
            any = true;
        }
    return any;
}

/* All that is under way, and what it leads to. */
static bool deliver(struct rig *rig)
{
    int count = rig->queue_count;
    for (int i = 0; i < rig->queue_count; i++) {
        struct letter letter = rig->queue[i];
        int to = (int)letter.message.to - 1;
        if (!rig->nodes[to].is_cut)
            step(rig, to,
                 &(struct raft_event){ .type = letter.message.type, .message = &letter.message },
                 letter.entries);
    }
    rig->queue_count = 0;
    return count > 0;
}

/* Until nothing is under way. */
static void pump(struct rig *rig)
{
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < rig->count; i++) {
            any |= send_due(rig, i);
            flush(rig, i);
            apply(&rig->nodes[i]);
            oracle_turn_end(rig->oracle, i, &rig->nodes[i].raft, rig->nodes[i].kv,
                            rig->nodes[i].applied);
        }
        for (int i = 0; i < rig->queue_count; i++) {
            struct letter letter = rig->queue[i];
            int to = (int)letter.message.to - 1;
            any = true;
            if (!rig->nodes[to].is_cut)
                step(
                    rig, to,
                    &(struct raft_event){ .type = letter.message.type, .message = &letter.message },
                    letter.entries);
        }
        rig->queue_count = 0;
    }
}

static void start(struct rig *rig, int slot, bool damaged, uint64_t last, uint64_t term,
                  uint32_t voted_for)
{
    struct node *node = &rig->nodes[slot];
    struct raft_config config = { .id = (uint32_t)slot + 1,
                                  .voters = { 1, 2, 3 },
                                  .voter_count = rig->count,
                                  .heartbeat_ms = 10,
                                  .election_ms_min = 100,
                                  .election_ms_max = 200,
                                  .seed = 7 + (uint64_t)slot };
    struct raft_restored restored = { .term = term,
                                      .voted_for = voted_for,
                                      .last_index = last,
                                      .runs = node->runs,
                                      .run_capacity = 1024 };
    oracle_starting(rig->oracle, slot, damaged);
    for (uint64_t index = 1; index <= last; index++) {
        const struct entry *entry = &node->log[index].entry;
        if (restored.run_count == 0 || node->runs[restored.run_count - 1].term != entry->term)
            node->runs[restored.run_count++] = (struct raft_term_run){ entry->term, index };
        oracle_appended(rig->oracle, slot, entry);
    }
    raft_init(&node->raft, &config, &restored, rig->now_ms);
    oracle_started(rig->oracle, slot, &node->raft);
    kv_free(node->kv);
    node->kv = NULL;
    node->last = last;
    node->untold = last + 1;
    node->applied = node->flushed_seq = 0;
}

static struct rig *rig_new(int count)
{
    struct rig *rig = calloc(1, sizeof *rig);
    ck_assert_ptr_nonnull(rig);
    rig->queue = calloc(QUEUE_MAX, sizeof *rig->queue);
    rig->timeline = timeline_new(1);
    rig->trace = trace_new(rig->timeline, false);
    rig->count = count;
    rig->now_ms = rig->clock_ms = 1000;
    struct oracle_options options = {
        .node_count = count, .ids = { 1, 2, 3 }, .trace = rig->trace, .values_by_op = true
    };
    rig->oracle = oracle_new(&options);
    for (int i = 0; i < count; i++)
        start(rig, i, false, 0, 0, RAFT_NODE_NONE);
    return rig;
}

static void rig_free(struct rig *rig)
{
    for (int i = 0; i < rig->count; i++)
        kv_free(rig->nodes[i].kv);
    oracle_free(rig->oracle);
    trace_free(rig->trace);
    timeline_free(rig->timeline);
    free(rig->queue);
    free(rig);
}

static void elect(struct rig *rig, int slot)
{
    rig->now_ms += 1000;
    rig->clock_ms += 10;
    for (int i = 0; i < 4 && rig->nodes[slot].raft.role != RAFT_LEADER; i++) {
        rig->now_ms += 400;
        step(rig, slot, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
        pump(rig);
    }
}

static void propose(struct rig *rig, int slot, const struct kv_command *commands, uint32_t count)
{
    uint8_t bytes[BYTES_MAX];
    size_t size = 0;
    step(rig, slot, &(struct raft_event){ .type = RAFT_PROPOSE }, NULL);
    for (uint32_t i = 0; i < count; i++)
        size += kv_command_encode(&commands[i], bytes + ENTRY_HEADER_SIZE + size);
    seal(rig, slot, count == 0 ? ENTRY_CLOCK : ENTRY_COMMANDS, bytes, size, count);
}

static void crash(struct rig *rig, int slot)
{
    oracle_crashed(rig->oracle, slot);
}

/* -- Running in a child -------------------------------------------------------------------------- */

/* `run` must end with the words that `rule` is broken; with NULL, it must come to its end. */
static void expect(void (*run)(void), const char *rule)
{
    int pipe_fds[2];
    char text[65536], wanted[64];
    size_t size = 0;
    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void)dup2(pipe_fds[1], STDERR_FILENO);
        (void)close(pipe_fds[0]);
        run();
        _exit(0);
    }
    (void)close(pipe_fds[1]);
    for (ssize_t got; (got = read(pipe_fds[0], text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)got;
    text[size] = '\0';
    (void)close(pipe_fds[0]);
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (rule == NULL) {
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", text);
        return;
    }
    (void)snprintf(wanted, sizeof wanted, "violation of %s: ", rule);
    ck_assert_msg(strstr(text, wanted) != NULL, "wanted %s, got: %s", rule, text);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s", text);
}

struct bending {
    const char *name, *rule;
    void (*run)(void);
};

/* -- Raft ---------------------------------------------------------------------------------------- */

static struct rig *three(void)
{
    struct rig *rig = rig_new(3);
    elect(rig, 0);
    ck_assert_int_eq(rig->nodes[0].raft.role, RAFT_LEADER);
    return rig;
}

static void all_is_well(void)
{
    struct rig *rig = three();
    struct oracle_stats stats;
    char why[200];
    uint64_t term;
    for (int i = 0; i < 5; i++) {
        propose(rig, 0, NULL, 0);
        pump(rig);
    }
    rig->nodes[0].is_cut = true;
    propose(rig, 0, NULL, 0); /* in vain: to be replaced */
    pump(rig);
    elect(rig, 1);
    propose(rig, 1, NULL, 0);
    pump(rig);
    rig->nodes[0].is_cut = false;
    rig->now_ms += 50;
    step(rig, 1, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    pump(rig);
    step(rig, 1, &(struct raft_event){ .type = RAFT_READ }, NULL);
    pump(rig);
    rig->now_ms += 50;
    step(rig, 1, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    pump(rig);
    ck_assert_msg(oracle_converged(rig->oracle, 7, why, sizeof why), "%s", why);
    crash(rig, 0);
    ck_assert(!oracle_converged(rig->oracle, 7, why, sizeof why));
    ck_assert(oracle_converged(rig->oracle, 6, why, sizeof why));
    start(rig, 0, false, rig->nodes[0].last, rig->nodes[0].raft.term, rig->nodes[0].raft.voted_for);
    oracle_check_end(rig->oracle);
    oracle_check_history(rig->oracle);
    oracle_stats(rig->oracle, &stats);
    ck_assert_uint_eq(stats.committed, 8);
    ck_assert_uint_eq(stats.elections, 2);
    ck_assert_uint_ge(stats.cells[RAFT_APPEND][RAFT_FOLLOWER], 7);
    ck_assert_int_eq(oracle_newest_leader(rig->oracle, &term), 1);
    ck_assert_uint_eq(term, stats.term_max);
    rig_free(rig);
}

static void a_node_without_disk_votes_twice(void)
{
    struct rig *rig = rig_new(3);
    rig->nodes[1].is_cut = true;
    elect(rig, 0);
    rig->nodes[0].is_cut = true;
    rig->nodes[1].is_cut = false;
    crash(rig, 2);
    start(rig, 2, true, 0, 0, RAFT_NODE_NONE);
    elect(rig, 1);
}

static void two_votes_on_a_disk(void)
{
    struct rig *rig = rig_new(3);
    oracle_durable_vote(rig->oracle, 1, 4, RAFT_NODE_NONE);
    oracle_durable_vote(rig->oracle, 1, 4, 1);
    oracle_durable_vote(rig->oracle, 1, 3, 2); /* told again */
    oracle_durable_vote(rig->oracle, 1, 4, 2);
}

static void a_vote_that_is_not_durable(void)
{
    struct rig *rig = rig_new(3);
    rig->hides_votes = true;
    elect(rig, 0);
}

static void bend_vote(struct rig *rig, struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    (void)rig;
    (void)raft;
    (void)event;
    for (int i = 0; i < effects->message_count; i++)
        if (effects->messages[i].type == RAFT_VOTE_REPLY &&
            !effects->messages[i].vote_reply.pre_vote)
            effects->messages[i].to = 3;
}

static void a_vote_for_another(void)
{
    struct rig *rig = rig_new(3);
    rig->bent = 1;
    rig->bend = bend_vote;
    elect(rig, 0);
}

static void an_ack_that_is_not_durable(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    rig->hides_entries = true;
    pump(rig);
}

static void restart_with(uint64_t last, uint64_t term, uint32_t voted_for)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    pump(rig);
    crash(rig, 1);
    start(rig, 1, false, last, term, voted_for);
}

static void a_restart_with_all(void)
{
    restart_with(2, 1, 1);
}

static void a_restart_without_an_entry(void)
{
    restart_with(1, 1, 1);
}

static void a_restart_without_the_vote(void)
{
    restart_with(2, 1, RAFT_NODE_NONE);
}

static void a_restart_in_an_older_term(void)
{
    struct rig *rig = three();
    crash(rig, 1);
    oracle_durable_vote(rig->oracle, 1, 5, RAFT_NODE_NONE);
    start(rig, 1, false, 1, 1, 1);
}

/* Node 0 has replaced entry 2, and its disk has not told so: either may be found. */
static struct rig *replaced_and_untold(struct slot *old)
{
    struct rig *rig = three();
    rig->nodes[0].is_cut = true;
    propose(rig, 0, NULL, 0);
    pump(rig);
    *old = rig->nodes[0].log[2];
    elect(rig, 1);
    rig->nodes[0].is_cut = false;
    rig->now_ms += 50;
    step(rig, 1, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    for (int i = 0; i < 8 && rig->nodes[0].log[2].entry.term == 1; i++) {
        flush(rig, 0);
        (void)send_due(rig, 1);
        deliver(rig);
    }
    ck_assert_uint_eq(rig->nodes[0].log[2].entry.term, rig->nodes[1].raft.term);
    return rig;
}

static void crash_and_start(struct rig *rig, const struct slot *second, uint64_t last)
{
    crash(rig, 0);
    rig->nodes[0].log[2] = *second;
    struct slot *place = &rig->nodes[0].log[2];
    ck_assert_int_eq(entry_parse(place->bytes, BYTES_MAX, &place->entry), ENTRY_GOOD);
    start(rig, 0, false, last, rig->nodes[0].raft.term, rig->nodes[0].raft.voted_for);
}

static void a_restart_with_the_old_entry(void)
{
    struct slot old;
    struct rig *rig = replaced_and_untold(&old);
    crash_and_start(rig, &old, 2);
}

static void a_restart_with_the_new_entry(void)
{
    struct slot old;
    struct rig *rig = replaced_and_untold(&old);
    struct slot new = rig->nodes[0].log[2];
    crash_and_start(rig, &new, 2);
}

static void a_restart_without_what_was_never_replaced(void)
{
    struct slot old;
    struct rig *rig = replaced_and_untold(&old);
    crash_and_start(rig, &old, 0);
}

static void an_entry_from_nowhere(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    pump(rig);
    crash(rig, 1);
    struct slot *place = &rig->nodes[1].log[3];
    struct entry entry = { .size = ENTRY_HEADER_SIZE, .kind = ENTRY_NOOP, .term = 1, .index = 3 };
    entry_seal(place->bytes, chain_at(&rig->nodes[1], 2), &entry);
    place->entry = entry;
    start(rig, 1, false, 3, 1, 1);
}

static void a_disk_that_skips_an_entry(void)
{
    struct rig *rig = three();
    oracle_durable_entry(rig->oracle, 0, 3, 1, 77);
}

static void a_sealed_end(void)
{
    struct rig *rig = rig_new(1);
    oracle_durable_dead_end(rig->oracle, 0, 4);
}

static void bend_drop(struct rig *rig, struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    (void)rig;
    (void)raft;
    (void)event;
    effects->drop_from = 1;
}

static void a_leader_that_drops(void)
{
    struct rig *rig = three();
    rig->bend = bend_drop;
    propose(rig, 0, NULL, 0);
}

static void a_follower_that_drops_what_has_committed(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    pump(rig);
    rig->bent = 1;
    rig->bend = bend_drop;
    step(rig, 0, &(struct raft_event){ .type = RAFT_READ }, NULL);
    pump(rig);
}

static void bend_commit_back(struct rig *rig, struct raft *raft, const struct raft_event *event,
                             struct raft_effects *effects)
{
    (void)rig;
    (void)event;
    (void)effects;
    raft->commit_index = 0;
}

static void a_commit_that_goes_back(void)
{
    struct rig *rig = three();
    rig->bend = bend_commit_back;
    propose(rig, 0, NULL, 0);
}

static void applied_before_committed(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    oracle_turn_end(rig->oracle, 0, &rig->nodes[0].raft, rig->nodes[0].kv, 2);
}

static void other_bytes(void)
{
    struct rig *rig = three();
    struct entry entry = rig->nodes[0].log[1].entry;
    struct entry other;
    uint8_t bytes[BYTES_MAX];
    memcpy(bytes, entry.bytes, entry.size);
    bytes[ENTRY_HEADER_SIZE] ^= 1;
    other = entry;
    other.bytes = bytes;
    crash(rig, 2);
    oracle_starting(rig->oracle, 2, false);
    oracle_appended(rig->oracle, 2, &other);
}

static void another_entry_of_the_same_term(void)
{
    struct rig *rig = three();
    struct entry entry = rig->nodes[0].log[1].entry;
    crash(rig, 2);
    oracle_starting(rig->oracle, 2, false);
    entry.chain ^= 1;
    oracle_appended(rig->oracle, 2, &entry);
}

static void an_entry_that_does_not_continue(void)
{
    struct rig *rig = three();
    uint8_t bytes[BYTES_MAX];
    step(rig, 0, &(struct raft_event){ .type = RAFT_PROPOSE }, NULL);
    struct entry entry = { .size = ENTRY_HEADER_SIZE, .kind = ENTRY_CLOCK, .term = 1, .index = 2 };
    entry_seal(bytes, 4711, &entry);
    oracle_appended(rig->oracle, 0, &entry);
}

static void an_entry_that_is_not_kept(void)
{
    struct rig *rig = three();
    step(rig, 0, &(struct raft_event){ .type = RAFT_PROPOSE }, NULL);
    step(rig, 0, &(struct raft_event){ .type = RAFT_READ }, NULL);
}

static void bend_sent(struct rig *rig, struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    (void)rig;
    (void)raft;
    (void)event;
    for (int i = 0; i < effects->message_count; i++)
        if (effects->messages[i].append.entry_count > 0)
            effects->messages[i].append.entry_terms[0]++;
}

static void another_log_is_sent(void)
{
    struct rig *rig = three();
    rig->bend = bend_sent;
    propose(rig, 0, NULL, 0);
    pump(rig);
}

static void a_leader_without_what_has_committed(void)
{
    struct rig *rig = three();
    rig->nodes[2].is_cut = true;
    propose(rig, 0, NULL, 0);
    pump(rig);
    rig->nodes[2].is_cut = false;
    rig->nodes[0].is_cut = true;
    crash(rig, 1);
    start(rig, 1, true, 1, 1, 1);
    elect(rig, 2);
}

static void bend_commit(struct rig *rig, struct raft *raft, const struct raft_event *event,
                        struct raft_effects *effects)
{
    (void)rig;
    (void)event;
    raft->commit_index = raft->last_index;
    raft->matched_index = raft->last_index;
    effects->commit_moved = true;
}

/* Node 1 leads; node 0 still has an entry of its own there. */
static void a_commit_of_another_entry(void)
{
    struct rig *rig = three();
    rig->nodes[0].is_cut = true;
    propose(rig, 0, NULL, 0);
    pump(rig);
    elect(rig, 1);
    while (rig->nodes[0].raft.role == RAFT_LEADER) { /* nobody follows: it gives up */
        rig->now_ms += 300;
        step(rig, 0, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    }
    rig->bend = bend_commit;
    step(rig, 0, &(struct raft_event){ .type = RAFT_PEER_LOST, .peer = 2 }, NULL);
    pump(rig);
}

static void a_commit_without_a_quorum(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    rig->bend = bend_commit;
    step(rig, 0, &(struct raft_event){ .type = RAFT_READ }, NULL);
}

static void bend_commit_of_two(struct rig *rig, struct raft *raft, const struct raft_event *event,
                               struct raft_effects *effects)
{
    (void)rig;
    (void)event;
    (void)effects;
    if (raft->role == RAFT_LEADER)
        raft->commit_index = 2;
}

/* Entry 2 is on two disks, and of the old term: figure 8. */
static void a_commit_of_another_term(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    rig->nodes[2].is_cut = true;
    rig->loses_replies = true;
    pump(rig);
    rig->nodes[2].is_cut = false;
    rig->nodes[0].is_cut = true;
    rig->bent = 1;
    rig->bend = bend_commit_of_two;
    elect(rig, 1);
}

static void a_follower_that_commits_first(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    rig->loses_replies = true;
    rig->bent = 1;
    rig->bend = bend_commit;
    pump(rig);
}

static void bend_matched(struct rig *rig, struct raft *raft, const struct raft_event *event,
                         struct raft_effects *effects)
{
    (void)rig;
    (void)event;
    (void)effects;
    if (raft->commit_index == 2)
        raft->matched_index = 1;
}

static void a_follower_that_commits_unproven(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    rig->bent = 1;
    rig->bend = bend_matched;
    pump(rig);
    rig->now_ms += 50;
    step(rig, 0, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    pump(rig);
}

static void bend_match(struct rig *rig, struct raft *raft, const struct raft_event *event,
                       struct raft_effects *effects)
{
    (void)rig;
    (void)event;
    (void)effects;
    raft->peers[0].match = 2;
    raft->peers[0].next = 3;
}

static void a_match_that_is_not_there(void)
{
    struct rig *rig = three();
    propose(rig, 0, NULL, 0);
    rig->bend = bend_match;
    step(rig, 0, &(struct raft_event){ .type = RAFT_READ }, NULL);
}

static void bend_release(struct rig *rig, struct raft *raft, const struct raft_event *event,
                         struct raft_effects *effects)
{
    (void)rig;
    (void)raft;
    (void)event;
    for (int i = 0; i < effects->released_count; i++)
        effects->released[i].index--;
}

static void a_read_of_the_past(void)
{
    struct rig *rig = three();
    rig->bend = bend_release;
    step(rig, 0, &(struct raft_event){ .type = RAFT_READ }, NULL);
    pump(rig);
}

static void bend_cell(struct rig *rig, struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    (void)rig;
    (void)raft;
    (void)event;
    effects->handled_as = RAFT_CANDIDATE;
}

static void a_cell_of_another_role(void)
{
    struct rig *rig = three();
    rig->bend = bend_cell;
    step(rig, 0, &(struct raft_event){ .type = RAFT_READ }, NULL);
}

static void another_state(void)
{
    struct rig *rig = three();
    struct kv_result result;
    rig->now_ms += 50;
    step(rig, 0, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    pump(rig);
    propose(rig, 0, NULL, 0);
    kv_apply(rig->nodes[1].kv,
             &(struct kv_command){ .type = KV_SET, .key = (uint8_t *)"k", .key_size = 1 }, &result);
    rig->now_ms += 50;
    pump(rig);
    step(rig, 0, &(struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    pump(rig);
}

static void a_clock_that_goes_back(void)
{
    struct rig *rig = three();
    rig->clock_ms -= 1;
    propose(rig, 0, NULL, 0);
    pump(rig);
}

static const struct bending raft_bendings[] = {
    { "nothing is bent", NULL, all_is_well },
    { "two leaders", "S1", a_node_without_disk_votes_twice },
    { "two votes on a disk", "S2", two_votes_on_a_disk },
    { "a vote not durable", "S3", a_vote_that_is_not_durable },
    { "a vote for another", "S3", a_vote_for_another },
    { "an ack not durable", "S3", an_ack_that_is_not_durable },
    { "a restart with all", NULL, a_restart_with_all },
    { "a restart without an entry", "S4", a_restart_without_an_entry },
    { "a restart without the vote", "S4", a_restart_without_the_vote },
    { "a restart in an older term", "S4", a_restart_in_an_older_term },
    { "a restart with the old entry", NULL, a_restart_with_the_old_entry },
    { "a restart with the new entry", NULL, a_restart_with_the_new_entry },
    { "a restart without a certain entry", "S4", a_restart_without_what_was_never_replaced },
    { "a commit that goes back", "S4", a_commit_that_goes_back },
    { "applied before committed", "S4", applied_before_committed },
    { "a leader that drops", "S5", a_leader_that_drops },
    { "other bytes", "S6", other_bytes },
    { "another entry of the term", "S6", another_entry_of_the_same_term },
    { "an entry that does not continue", "S6", an_entry_that_does_not_continue },
    { "an entry that is not kept", "S6", an_entry_that_is_not_kept },
    { "another log is sent", "S6", another_log_is_sent },
    { "a leader without a commit", "S7", a_leader_without_what_has_committed },
    { "a commit of another entry", "S8", a_commit_of_another_entry },
    { "a committed entry is dropped", "S8", a_follower_that_drops_what_has_committed },
    { "a commit without a quorum", "S9", a_commit_without_a_quorum },
    { "a commit of another term", "S9", a_commit_of_another_term },
    { "a follower commits first", "S10", a_follower_that_commits_first },
    { "a follower commits unproven", "S10", a_follower_that_commits_unproven },
    { "a match that is not there", "S11", a_match_that_is_not_there },
    { "a read of the past", "S16", a_read_of_the_past },
    { "another state", "S18", another_state },
    { "a clock that goes back", "S19", a_clock_that_goes_back },
    { "a cell of another role", "S20", a_cell_of_another_role },
    { "an entry from nowhere", "S22", an_entry_from_nowhere },
    { "a disk that skips", "S22", a_disk_that_skips_an_entry },
    { "a sealed end", "S22", a_sealed_end },
};

START_TEST(rules_of_nodes)
{
    expect(raft_bendings[_i].run, raft_bendings[_i].rule);
}
END_TEST

/* -- Clients ------------------------------------------------------------------------------------- */

/* One node: what it proposes commits at once. */
static struct rig *alone(void)
{
    struct rig *rig = rig_new(1);
    elect(rig, 0);
    return rig;
}

static struct op ask(struct rig *rig, uint64_t number, enum op_type type, const char *key)
{
    struct op op = { .number = number, .type = type, .value_size = OP_VALUE_MIN };
    (void)snprintf(op.key, sizeof op.key, "%s", key);
    oracle_invoked(rig->oracle, &op);
    return op;
}

static void commit(struct rig *rig, const struct op *op)
{
    static uint8_t value[OP_VALUE_MIN];
    bool writes = op->type != OP_DELETE;
    struct kv_command command = { .type = op->type == OP_SET   ? KV_SET
                                          : op->type == OP_CAS ? KV_CAS
                                                               : KV_DELETE,
                                  .key = (const uint8_t *)op->key,
                                  .key_size = (uint16_t)strlen(op->key),
                                  .value = writes ? value : NULL,
                                  .value_size = writes ? OP_VALUE_MIN : 0,
                                  .compare = op->compare,
                                  .ttl_ms = 1000 * op->ttl_s };
    op_value(op->number, value, OP_VALUE_MIN);
    propose(rig, 0, &command, 1);
    pump(rig);
}

static void answer(struct rig *rig, uint64_t number, enum outcome_type type, uint64_t version,
                   uint64_t written_by)
{
    struct outcome outcome = { .type = type,
                               .version = version,
                               .written_by = written_by,
                               .value_size = type == OUTCOME_VALUE ? OP_VALUE_MIN : 0 };
    oracle_returned(rig->oracle, number, &outcome);
}

static void write_and_answer(struct rig *rig, uint64_t number, uint64_t version)
{
    struct op op = ask(rig, number, OP_SET, "a");
    commit(rig, &op);
    answer(rig, number, OUTCOME_STORED, version, 0);
}

static void answers_that_fit(void)
{
    struct rig *rig = alone();
    write_and_answer(rig, 1, 1);
    ask(rig, 2, OP_GET, "a");
    answer(rig, 2, OUTCOME_VALUE, 0, 1);
    struct op one = ask(rig, 3, OP_DELETE, "a"), two = ask(rig, 4, OP_DELETE, "a");
    struct op late = ask(rig, 5, OP_SET, "a");
    ask(rig, 6, OP_GET, "a");
    commit(rig, &one);
    commit(rig, &late);
    commit(rig, &two);
    answer(rig, 4, OUTCOME_DELETED, 0, 0);
    answer(rig, 6, OUTCOME_VALUE, 0, 5); /* as it was between the deletes */
    answer(rig, 3, OUTCOME_DELETED, 0, 0);
    answer(rig, 5, OUTCOME_UNKNOWN, 0, 0);
    ask(rig, 7, OP_GETM, "a");
    answer(rig, 7, OUTCOME_NONE, 0, 0);
    struct op cas = ask(rig, 8, OP_CAS, "a");
    ask(rig, 9, OP_SET, "a");
    answer(rig, 9, OUTCOME_REFUSED, 0, 0);
    commit(rig, &cas);
    answer(rig, 8, OUTCOME_STORED, 3, 0);
    struct op again = ask(rig, 10, OP_CAS, "a");
    commit(rig, &again);
    answer(rig, 10, OUTCOME_DIFFERS, 3, 0);
    struct op unknown = ask(rig, 11, OP_DELETE, "a");
    commit(rig, &unknown);
    answer(rig, 11, OUTCOME_UNKNOWN, 0, 0);
    ask(rig, 12, OP_GET, "a"); /* open for ever */
    oracle_check_end(rig->oracle);
    oracle_check_history(rig->oracle);
    rig_free(rig);
}

static void an_expiry(struct rig *rig, uint64_t ttl_answered)
{
    struct op op = {
        .number = 1, .type = OP_SET, .key = "a", .value_size = OP_VALUE_MIN, .ttl_s = 5
    };
    oracle_invoked(rig->oracle, &op);
    commit(rig, &op);
    answer(rig, 1, OUTCOME_STORED, 1, 0);
    ask(rig, 2, OP_GETM, "a");
    oracle_returned(rig->oracle, 2,
                    &(struct outcome){ .type = OUTCOME_VALUE,
                                       .version = 1,
                                       .written_by = 1,
                                       .value_size = OP_VALUE_MIN,
                                       .ttl_s = ttl_answered });
}

static void a_value_expires(void)
{
    struct rig *rig = alone();
    an_expiry(rig, 5);
    ask(rig, 3, OP_GET, "a");
    rig->clock_ms += 5000;
    propose(rig, 0, NULL, 0);
    pump(rig);
    answer(rig, 3, OUTCOME_VALUE, 0, 1); /* it was asked before */
    ask(rig, 4, OP_GET, "a");
    answer(rig, 4, OUTCOME_NONE, 0, 0);
    oracle_check_end(rig->oracle);
    oracle_check_history(rig->oracle);
    rig_free(rig);
}

static void a_time_to_live_that_grows(void)
{
    an_expiry(alone(), 6);
}

static void a_time_to_live_forgotten(void)
{
    an_expiry(alone(), 0);
}

static void a_key_gone_before_its_time(void)
{
    struct rig *rig = alone();
    an_expiry(rig, 5);
    rig->clock_ms += 4999;
    propose(rig, 0, NULL, 0);
    pump(rig);
    ask(rig, 3, OP_GET, "a");
    answer(rig, 3, OUTCOME_NONE, 0, 0);
}

static void a_read_of_an_expired_key(void)
{
    struct rig *rig = alone();
    an_expiry(rig, 5);
    rig->clock_ms += 5000;
    propose(rig, 0, NULL, 0);
    pump(rig);
    ask(rig, 3, OP_GET, "a");
    answer(rig, 3, OUTCOME_NONE, 0, 0);
    ask(rig, 4, OP_GET, "a");
    answer(rig, 4, OUTCOME_VALUE, 0, 1);
}

static void an_ack_before_the_commit(void)
{
    struct rig *rig = alone();
    ask(rig, 1, OP_SET, "a");
    answer(rig, 1, OUTCOME_STORED, 1, 0);
}

static void an_ack_of_a_delete_before_the_commit(void)
{
    struct rig *rig = alone();
    write_and_answer(rig, 1, 1);
    struct op op = ask(rig, 2, OP_DELETE, "a");
    commit(rig, &op);
    ask(rig, 3, OP_DELETE, "a"); /* behind that one */
    answer(rig, 3, OUTCOME_DELETED, 0, 0);
}

static void a_wrong_version(void)
{
    struct rig *rig = alone();
    write_and_answer(rig, 1, 2);
}

static void a_read_of_the_value_before(void)
{
    struct rig *rig = alone();
    write_and_answer(rig, 1, 1);
    write_and_answer(rig, 2, 2);
    ask(rig, 3, OP_GET, "a");
    answer(rig, 3, OUTCOME_VALUE, 0, 1);
}

static void a_read_of_nothing(void)
{
    struct rig *rig = alone();
    write_and_answer(rig, 1, 1);
    ask(rig, 2, OP_GET, "a");
    answer(rig, 2, OUTCOME_NONE, 0, 0);
}

/* The write is unknown to its client, but a read has seen it: no later one may not. */
static void a_read_behind_a_read(void)
{
    struct rig *rig = alone();
    struct op op = ask(rig, 1, OP_SET, "a");
    ask(rig, 2, OP_GET, "a");
    commit(rig, &op);
    answer(rig, 2, OUTCOME_VALUE, 0, 1);
    ask(rig, 3, OP_GET, "a");
    answer(rig, 3, OUTCOME_NONE, 0, 0);
}

static void a_read_of_what_has_not_committed(void)
{
    struct rig *rig = alone();
    ask(rig, 1, OP_SET, "a");
    ask(rig, 2, OP_GET, "a");
    answer(rig, 2, OUTCOME_VALUE, 0, 1);
}

static void a_write_by_nobody(void)
{
    struct rig *rig = alone();
    struct op op = { .number = 9, .type = OP_SET, .key = "a", .value_size = OP_VALUE_MIN };
    commit(rig, &op);
}

static void a_write_of_another_key(void)
{
    struct rig *rig = alone();
    struct op op = ask(rig, 1, OP_SET, "a");
    op.key[0] = 'b';
    commit(rig, &op);
}

static void a_write_twice(void)
{
    struct rig *rig = alone();
    struct op op = ask(rig, 1, OP_SET, "a");
    commit(rig, &op);
    commit(rig, &op);
}

static void a_refused_write_that_has_committed(void)
{
    struct rig *rig = alone();
    struct op op = ask(rig, 1, OP_SET, "a");
    commit(rig, &op);
    answer(rig, 1, OUTCOME_REFUSED, 0, 0);
}

static void a_refused_write_that_commits_later(void)
{
    struct rig *rig = alone();
    struct op op = ask(rig, 1, OP_SET, "a");
    answer(rig, 1, OUTCOME_REFUSED, 0, 0);
    commit(rig, &op);
}

static void a_refused_delete_that_commits(void)
{
    struct rig *rig = alone();
    struct op op = ask(rig, 1, OP_DELETE, "a");
    answer(rig, 1, OUTCOME_REFUSED, 0, 0);
    commit(rig, &op);
}

/* By number there are enough deletes, but the open one came too late for the second command. */
static void a_delete_of_nobody_in_the_end(void)
{
    struct rig *rig = alone();
    struct op one = ask(rig, 1, OP_DELETE, "a");
    struct op two = ask(rig, 2, OP_DELETE, "a");
    commit(rig, &one);
    commit(rig, &two);
    answer(rig, 1, OUTCOME_NONE, 0, 0);
    ask(rig, 3, OP_DELETE, "a");
    answer(rig, 2, OUTCOME_REFUSED, 0, 0);
    oracle_check_end(rig->oracle);
}

static void an_answer_twice(void)
{
    struct rig *rig = alone();
    write_and_answer(rig, 1, 1);
    answer(rig, 1, OUTCOME_UNKNOWN, 0, 0);
}

/* What the oracle's own rules would have said is left out: the history alone must say it. */
static void a_history_without_an_order(void)
{
    struct oracle_options options = { .node_count = 1, .ids = { 1 } };
    struct timeline *timeline = timeline_new(1);
    options.trace = trace_new(timeline, false);
    struct rig rig = { .oracle = oracle_new(&options) };
    ask(&rig, 1, OP_SET, "a");
    answer(&rig, 1, OUTCOME_STORED, 1, 0);
    ask(&rig, 2, OP_GET, "a");
    answer(&rig, 2, OUTCOME_NONE, 0, 0);
    oracle_check_history(rig.oracle);
}

static const struct bending client_bendings[] = {
    { "answers that fit", NULL, answers_that_fit },
    { "a value expires", NULL, a_value_expires },
    { "an ack before the commit", "S15", an_ack_before_the_commit },
    { "an ack of a delete too early", "S15", an_ack_of_a_delete_before_the_commit },
    { "a wrong version", "S16", a_wrong_version },
    { "a read of the value before", "S16", a_read_of_the_value_before },
    { "a read of nothing", "S16", a_read_of_nothing },
    { "a read behind a read", "S16", a_read_behind_a_read },
    { "a read of the uncommitted", "S16", a_read_of_what_has_not_committed },
    { "a read of an expired key", "S16", a_read_of_an_expired_key },
    { "a key gone before its time", "S16", a_key_gone_before_its_time },
    { "a time to live that grows", "S19", a_time_to_live_that_grows },
    { "a time to live forgotten", "S19", a_time_to_live_forgotten },
    { "a write by nobody", "S17", a_write_by_nobody },
    { "a write of another key", "S17", a_write_of_another_key },
    { "a write twice", "S17", a_write_twice },
    { "a refused write, committed", "S17", a_refused_write_that_has_committed },
    { "a refused write commits", "S17", a_refused_write_that_commits_later },
    { "a refused delete commits", "S17", a_refused_delete_that_commits },
    { "a delete of nobody", "S17", a_delete_of_nobody_in_the_end },
    { "an answer twice", "S24", an_answer_twice },
    { "a history without an order", "S16", a_history_without_an_order },
};

START_TEST(rules_of_clients)
{
    expect(client_bendings[_i].run, client_bendings[_i].rule);
}
END_TEST

START_TEST(the_history_is_written_as_text)
{
    struct rig *rig = alone();
    char path[] = "/tmp/oracle_history_XXXXXX", text[1024];
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    struct op op = ask(rig, 1, OP_SET, "a");
    ask(rig, 2, OP_GETM, "a");
    commit(rig, &op);
    answer(rig, 1, OUTCOME_STORED, 1, 0);
    struct op cas = { .number = 3,
                      .type = OP_CAS,
                      .key = "a",
                      .value_size = OP_VALUE_MIN,
                      .compare = 5,
                      .ttl_s = 1 };
    oracle_invoked(rig->oracle, &cas);
    commit(rig, &cas);
    answer(rig, 3, OUTCOME_DIFFERS, 1, 0);
    answer(rig, 2, OUTCOME_VALUE, 1, 1);
    ask(rig, 4, OP_DELETE, "a");
    answer(rig, 4, OUTCOME_UNKNOWN, 0, 0);
    ask(rig, 5, OP_GET, "b");
    answer(rig, 5, OUTCOME_NONE, 0, 0);
    ask(rig, 6, OP_GET, "b");
    answer(rig, 6, OUTCOME_REFUSED, 0, 0);
    oracle_write_history(rig->oracle, path);
    ssize_t size = read(fd, text, sizeof text - 1);
    ck_assert_int_ge(size, 0);
    text[size] = '\0';
    ck_assert_str_eq(text, "raftkv-history 1\n"
                           "1 invoke set a 1\n2 invoke get a\n1 ok version 1\n"
                           "1 invoke cas a 5 3 expires\n1 ok differs 1\n2 ok value 1 1\n"
                           "2 invoke delete a\n2 unknown\n2 invoke get b\n2 ok none\n"
                           "2 invoke get b\n2 fail\n");
    (void)close(fd);
    (void)unlink(path);
    rig_free(rig);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim_oracle");
    TCase *tests = tcase_create("rules");
    tcase_add_loop_test(tests, rules_of_nodes, 0,
                        (int)(sizeof raft_bendings / sizeof raft_bendings[0]));
    tcase_add_loop_test(tests, rules_of_clients, 0,
                        (int)(sizeof client_bendings / sizeof client_bendings[0]));
    tcase_add_test(tests, the_history_is_written_as_text);
    tcase_set_timeout(tests, 60);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
