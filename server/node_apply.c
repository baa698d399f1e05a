/* Committed entries become the store's state, and whoever waits for them hears of it. Expiry is part
 * of it: what moves the log clock when no write does. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/node_state.h"

/* -- Memory of the store ------------------------------------------------------------------------ */

/* Applying cannot fail, or replicas would differ: limits are checked before a command enters the
 * log, and a node without memory stops. */
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

/* -- Applying ----------------------------------------------------------------------------------- */

static void fail_to_apply(struct node *node, const struct entry *entry, const char *why)
{
    char text[200];

    snprintf(text, sizeof text, "entry %" PRIu64 " of term %" PRIu64 ": %s", entry->index,
             entry->term, why);
    node_fail(node, "cannot apply a committed entry", text);
}

static void apply_genesis(struct node *node, const struct entry *entry)
{
    struct entry_genesis genesis;

    if (node->kv != NULL ||
        !entry_genesis_decode(entry->payload, entry->size - ENTRY_HEADER_SIZE, &genesis)) {
        fail_to_apply(node, entry, "a second or malformed genesis entry");
        return;
    }
    if (genesis.feature_level > ENTRY_FEATURE_LEVEL) {
        fail_to_apply(node, entry, "the cluster's feature level is above this version's: upgrade");
        return;
    }
    node->kv = kv_new(&store_allocator, genesis.hash_key);
    kv_begin(node->kv, entry->clock_ms);
}

/* Reads that stand at the front of `ops`, from `next` on. */
static size_t answer_riding(struct node *node, struct op_list *ops, size_t next)
{
    while (next < ops->count && !op_is_write(&ops->ops[next]))
        node_answer_read(node, ops, &ops->ops[next++]);
    return next;
}

/* `ops`: who waits for these commands; empty on a node that did not propose them. */
static void apply_commands(struct node *node, const struct entry *entry, struct op_list *ops)
{
    const uint8_t *bytes = entry->payload;
    size_t left = entry->size - ENTRY_HEADER_SIZE;
    size_t next = 0;
    bool is_ours = ops->count > 0;

    kv_begin(node->kv, entry->clock_ms);
    while (left > 0) {
        struct kv_command command;
        struct kv_result result;
        size_t used = kv_command_decode(bytes, left, &command);
        if (used == 0) {
            fail_to_apply(
                node, entry,
                "it holds a command that this version does not know: start one that does");
            return;
        }
        next = answer_riding(node, ops, next);
        kv_apply(node->kv, &command, &result);
        if (is_ours) {
            assert(next < ops->count);
            node_reply_to_write(node, &ops->ops[next++], &result);
        }
        bytes += used;
        left -= used;
    }
    next = answer_riding(node, ops, next);
    assert(next == ops->count);
}

static void apply_entry(struct node *node, const struct entry *entry)
{
    struct node_batch *batch = &node->batches[node->batch_first % NODE_BATCHES_MAX];
    bool is_ours = node->batch_first != node->batch_last && batch->index == entry->index;
    struct op_list nobody = { 0 };

    if (entry->kind != ENTRY_GENESIS && node->kv == NULL) {
        fail_to_apply(node, entry, "the log does not begin with a genesis entry");
        return;
    }
    switch (entry->kind) {
    case ENTRY_GENESIS:
        apply_genesis(node, entry);
        break;
    case ENTRY_NOOP:
    case ENTRY_CLOCK:
        kv_begin(node->kv, entry->clock_ms);
        break;
    case ENTRY_COMMANDS:
        apply_commands(node, entry, is_ours ? &batch->ops : &nobody);
        break;
    default:
        fail_to_apply(node, entry, "its kind is not known to this version: start one that does");
    }
    if (node->phase == NODE_FAILED)
        return;
    node->applied_index = entry->index;
    if (is_ours) {
        op_list_clear(&batch->ops);
        node->batch_first++;
        node_answer_reads(node, &batch->after);
    }
    node_answer_rounds(node);
}

static void note_most(uint64_t *most, uint64_t now)
{
    if (now > *most)
        *most = now;
}

void node_apply(struct node *node)
{
    uint64_t commands = 0, bytes = 0;

    while (node->phase != NODE_FAILED && node->applied_index < node->raft.commit_index &&
           commands < NODE_APPLY_COMMANDS_MAX && bytes < NODE_APPLY_BYTES_MAX) {
        struct entry entry;
        struct error error;
        if (storage_entry(node->storage, node->applied_index + 1, &entry, &error) < 0) {
            node_fail(node, "cannot read the log", error.text);
            return;
        }
        commands += entry.count + 1;
        bytes += entry.size;
        apply_entry(node, &entry);
    }
    note_most(&node->counters.apply_commands_max, commands);
    note_most(&node->counters.apply_bytes_max, bytes);
}

/* -- Expiry ------------------------------------------------------------------------------------- */

static bool may_expire(const struct node *node)
{
    return node->kv != NULL && node->raft.role == RAFT_LEADER &&
           node->raft.transfer_to == RAFT_NODE_NONE &&
           storage_room(node->storage, ENTRY_HEADER_SIZE, false);
}

/* The next expiry that no entry in the log has reached yet; 0: none. */
static uint64_t next_expiry_ms(const struct node *node)
{
    struct kv_stats stats;

    kv_stats(node->kv, &stats);
    return stats.next_expiry_ms > node->last_clock_ms ? stats.next_expiry_ms : 0;
}

void node_expire(struct node *node)
{
    uint8_t bytes[ENTRY_HEADER_SIZE];

    if (!may_expire(node))
        return;
    uint64_t next = next_expiry_ms(node);
    bool is_due = next != 0 && next <= node_clock_ms(node);
    bool all_applied = node->applied_index == node->raft.last_index;
    if (is_due || (all_applied && kv_has_dead(node->kv)))
        node_propose(node, ENTRY_CLOCK, bytes, sizeof bytes, 0);
}

uint64_t node_expiry_deadline_ns(const struct node *node)
{
    if (!may_expire(node))
        return 0;
    uint64_t next = next_expiry_ms(node);
    if (next == 0)
        return 0;
    uint64_t wait_ms = next > node->base_clock_ms ? next - node->base_clock_ms : 0;
    if (wait_ms > UINT32_MAX) /* a key of 2^31 s, or more: look again in 49 days */
        wait_ms = UINT32_MAX;
    return node->base_ns + wait_ms * NODE_NS_PER_MS;
}
