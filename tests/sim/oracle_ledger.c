/* The ledger: what has committed, in the order of the log. An entry joins it in the step in which a
 * leader's commit index first covers it, and at that moment, by the disks' own word, a quorum has it
 * durably (S9). From then on every commit index of every node must agree (S8), and every answer to a
 * client follows from it.
 *
 * Each entry is applied at once to two stores: a reference, which is the product's own kv/ with the
 * cluster's hash key, and the shadow. The two must agree on each command (S19), and the reference's
 * digest at each index is what every node's digest at that index must be (S18). */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/oracle_state.h"

#define POS "%" PRIu64 "/%" PRIu64 /* term/index */

/* -- The two stores ------------------------------------------------------------------------------ */

static void *store_alloc(void *context, size_t size)
{
    (void)context;
    void *memory = malloc(size);
    if (memory == NULL)
        abort();
    return memory;
}

static void *store_resize(void *context, void *memory, size_t size, size_t new_size)
{
    (void)context;
    (void)size;
    void *resized = realloc(memory, new_size);
    if (resized == NULL)
        abort();
    return resized;
}

static void store_release(void *context, void *memory, size_t size)
{
    (void)context;
    (void)size;
    free(memory);
}

static const struct kv_allocator store_allocator = { .alloc = store_alloc,
                                                     .resize = store_resize,
                                                     .release = store_release };

static _Noreturn void fail_entry(const struct oracle *oracle, const struct entry *entry,
                                 const char *rule, const char *why)
{
    trace_fail(oracle->options.trace, rule, "the committed entry " POS " %s", entry->term,
               entry->index, why);
}

/* Whether the reference and the shadow hold the same under this key. */
static bool agree_on(const struct oracle *oracle, const uint8_t *key, size_t key_size)
{
    struct kv_value value = { 0 };
    struct shadow_state state = { 0 };
    bool in_reference = kv_get(oracle->reference, key, key_size, &value);
    bool in_shadow = shadow_get(oracle->shadow, key, key_size, &state);

    if (!in_reference || !in_shadow)
        return in_reference == in_shadow;
    return value.version == state.version && value.size == state.value_size &&
           value.expires_ms == state.expires_ms &&
           (!oracle->options.values_by_op ||
            op_of_value(value.bytes, value.size) == state.written_by);
}

static void apply_command(struct oracle *oracle, const struct entry *entry,
                          const struct kv_command *command)
{
    struct kv_result result;
    struct shadow_effect effect;

    kv_apply(oracle->reference, command, &result);
    shadow_apply(oracle->shadow, command, &effect);
    bool same_version = result.status == KV_NOT_FOUND || command->type == KV_DELETE ||
                        result.version == effect.version;
    if (result.status != effect.status || !same_version ||
        !agree_on(oracle, command->key, command->key_size))
        fail_entry(oracle, entry, "S19", "has a command on which store and model disagree");
    if (oracle->options.values_by_op)
        client_on_command(oracle, command, &effect);
}

static void apply_commands(struct oracle *oracle, const struct entry *entry)
{
    const uint8_t *bytes = entry->payload;
    size_t left = entry->size - ENTRY_HEADER_SIZE;
    uint32_t count = 0;

    for (; left > 0; count++) {
        struct kv_command command;
        size_t used = kv_command_decode(bytes, left, &command);
        if (used == 0)
            fail_entry(oracle, entry, "S8", "holds a command that cannot be read");
        apply_command(oracle, entry, &command);
        bytes += used;
        left -= used;
    }
    if (count != entry->count)
        fail_entry(oracle, entry, "S8", "has another number of commands than it says");
}

static void begin_reference(struct oracle *oracle, const struct entry *entry)
{
    struct entry_genesis genesis;

    if (entry->index != 1 ||
        !entry_genesis_decode(entry->payload, entry->size - ENTRY_HEADER_SIZE, &genesis))
        fail_entry(oracle, entry, "S8", "is a genesis entry in the wrong place, or malformed");
    oracle->reference = kv_new(&store_allocator, genesis.hash_key);
}

static void apply_entry(struct oracle *oracle, const struct known *known)
{
    struct entry entry;

    if (known->bytes == NULL || entry_parse(known->bytes, known->size, &entry) != ENTRY_GOOD)
        trace_fail(oracle->options.trace, "S8", "entry " POS " commits, and nobody has its bytes",
                   known->term, known->index);
    if (entry.kind == ENTRY_GENESIS)
        begin_reference(oracle, &entry);
    if (oracle->reference == NULL)
        fail_entry(oracle, &entry, "S8", "stands before the genesis entry");
    if (entry.clock_ms < shadow_clock_ms(oracle->shadow, entry.index - 1))
        fail_entry(oracle, &entry, "S19", "sets the log clock back");
    kv_begin(oracle->reference, entry.clock_ms);
    shadow_begin(oracle->shadow, entry.clock_ms);
    if (entry.kind == ENTRY_COMMANDS)
        apply_commands(oracle, &entry);

    oracle->digests = oracle_grow(oracle->digests, (size_t)entry.index - 1,
                                  &oracle->digest_capacity, sizeof *oracle->digests);
    oracle->digests[entry.index - 1] = kv_digest(oracle->reference);
}

/* -- Commits ------------------------------------------------------------------------------------- */

/* A node that has lost its disk since still counts for what it had: the leader may not know yet. */
static int count_durable(const struct oracle *oracle, const struct known *known)
{
    int count = 0;

    for (int i = 0; i < oracle->options.node_count; i++) {
        const struct watched *node = &oracle->nodes[i];
        bool has = mirror_at(&node->durable, known->index) == known;
        count += has || (node->was_damaged && (known->ever_durable >> i & 1) != 0);
    }
    return count;
}

/* S9 for all entries up to the leader's commit index: a quorum has each durably, and the last one is
 * of the leader's term (§5.4.2). */
static void check_commit_rule(const struct oracle *oracle, int slot, const struct raft *raft)
{
    const struct mirror *log = &oracle->nodes[slot].log;
    int quorum = oracle->options.node_count / 2 + 1;

    for (uint64_t index = oracle->ledger.last + 1; index <= raft->commit_index; index++) {
        const struct known *known = mirror_at(log, index);
        int count = known == NULL ? 0 : count_durable(oracle, known);
        if (count < quorum)
            trace_fail(oracle->options.trace, "S9",
                       "node %d commits index %" PRIu64 ", which is on %d of %d disks", slot, index,
                       count, oracle->options.node_count);
    }
    if (mirror_at(log, raft->commit_index)->term != raft->term)
        trace_fail(oracle->options.trace, "S9",
                   "node %d leads term %" PRIu64 " and commits up to " POS
                   ", an entry of another term",
                   slot, raft->term, mirror_at(log, raft->commit_index)->term, raft->commit_index);
}

static void grow_ledger(struct oracle *oracle, int slot, const struct raft *raft)
{
    const struct mirror *log = &oracle->nodes[slot].log;
    uint64_t committed = oracle->ledger.last;

    if (mirror_at(log, committed) != mirror_at(&oracle->ledger, committed))
        trace_fail(oracle->options.trace, "S8",
                   "node %d commits up to %" PRIu64 ", and has not what has committed at %" PRIu64,
                   slot, raft->commit_index, committed);
    check_commit_rule(oracle, slot, raft);
    struct memory *before = memory_enter(NULL);
    for (uint64_t index = committed + 1; index <= raft->commit_index; index++) {
        struct known *known = mirror_at(log, index);
        mirror_put(&oracle->ledger, known);
        oracle->commit_terms =
            oracle_grow(oracle->commit_terms, (size_t)index - 1, &oracle->commit_term_capacity,
                        sizeof *oracle->commit_terms);
        oracle->commit_terms[index - 1] = raft->term;
        apply_entry(oracle, known);
    }
    memory_enter(before);
    oracle->stats.committed = oracle->ledger.last;
    trace_number(oracle->options.trace, oracle->ledger.last);
}

void ledger_on_commit(struct oracle *oracle, int slot, const struct raft *raft)
{
    if (raft->role == RAFT_LEADER && raft->commit_index > oracle->ledger.last)
        grow_ledger(oracle, slot, raft);
    if (raft->commit_index > oracle->ledger.last)
        trace_fail(oracle->options.trace, "S10",
                   "node %d commits up to %" PRIu64
                   ", and no leader has committed more than %" PRIu64,
                   slot, raft->commit_index, oracle->ledger.last);
    if (raft->role != RAFT_LEADER && raft->commit_index > raft->matched_index)
        trace_fail(oracle->options.trace, "S10",
                   "node %d commits up to %" PRIu64 ", and its log is proven up to %" PRIu64, slot,
                   raft->commit_index, raft->matched_index);
    oracle->nodes[slot].commit_unchecked = true;
}

void ledger_check_late(struct oracle *oracle, int slot)
{
    struct watched *node = &oracle->nodes[slot];
    uint64_t index = node->commit_index;

    if (!node->commit_unchecked)
        return;
    node->commit_unchecked = false;
    if (mirror_at(&node->log, index) != mirror_at(&oracle->ledger, index))
        trace_fail(oracle->options.trace, "S8",
                   "node %d commits up to %" PRIu64 ", and has not the entry " POS
                   " that has committed there",
                   slot, index, mirror_at(&oracle->ledger, index)->term, index);
}

/* -- Turns --------------------------------------------------------------------------------------- */

/* S18. */
static void check_state(struct oracle *oracle, int slot, const struct kv *kv)
{
    struct watched *node = &oracle->nodes[slot];
    uint64_t expected = oracle->digests[node->applied_index - 1];
    uint64_t found = kv_digest(kv);

    if (found != expected)
        trace_fail(oracle->options.trace, "S18",
                   "node %d has applied %" PRIu64
                   " entries, and its state has the digest %016" PRIx64 "; it must be %016" PRIx64,
                   slot, node->applied_index, found, expected);
    node->digest = found;
    node->digest_index = node->applied_index;
}

void oracle_turn_end(struct oracle *oracle, int slot, const struct raft *raft, const struct kv *kv,
                     uint64_t applied_index)
{
    struct watched *node = &oracle->nodes[slot];

    assert(node->runs);
    if (raft->last_index != node->log.last)
        trace_fail(oracle->options.trace, "S6",
                   "node %d counts %" PRIu64 " entries, and has kept %" PRIu64, slot,
                   raft->last_index, node->log.last);
    ledger_check_late(oracle, slot);
    if (applied_index < node->applied_index || applied_index > node->commit_index)
        trace_fail(oracle->options.trace, "S4",
                   "node %d has applied up to %" PRIu64 ", after %" PRIu64
                   "; its commit index is %" PRIu64,
                   slot, applied_index, node->applied_index, node->commit_index);
    node->applied_index = applied_index;
    if (kv != NULL && applied_index != 0 && applied_index != node->digest_index)
        check_state(oracle, slot, kv);
}

/* -- The end ------------------------------------------------------------------------------------- */

static void check_key(void *context, const uint8_t *key, size_t key_size,
                      const struct shadow_state *state)
{
    const struct oracle *oracle = context;

    if (!agree_on(oracle, key, key_size))
        trace_fail(oracle->options.trace, "S19",
                   "store and model disagree on the key '%.*s' of version %" PRIu64 " in the end",
                   (int)key_size, (const char *)key, state->version);
}

static void count_key(void *context, const uint8_t *key, size_t key_size,
                      const struct kv_value *value)
{
    uint64_t *count = context;

    (void)key;
    (void)key_size;
    (void)value;
    (*count)++;
}

/* A scan may show a key twice, but only while the table grows. */
static uint64_t count_alive(const struct kv *kv)
{
    uint64_t count = 0;

    for (uint32_t slot = 0; slot < KV_SLOTS; slot++) {
        uint64_t cursor = 0;
        if (kv_slot_keys(kv, slot) == 0)
            continue;
        do
            cursor = kv_scan(kv, slot, cursor, count_key, &count);
        while (cursor != 0);
    }
    return count;
}

void ledger_check_end(struct oracle *oracle)
{
    if (oracle->reference == NULL)
        return;
    shadow_each(oracle->shadow, check_key, oracle);
    uint64_t in_reference = count_alive(oracle->reference);
    uint64_t in_shadow = shadow_count_alive(oracle->shadow);
    if (in_reference != in_shadow)
        trace_fail(oracle->options.trace, "S19",
                   "the store has %" PRIu64 " keys in the end, the model %" PRIu64, in_reference,
                   in_shadow);
}
