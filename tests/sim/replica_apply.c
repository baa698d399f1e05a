/* Committed entries become the store's state, and whoever waits for them hears of it; and expiry, as
 * in server/node_apply.c. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/sim/replica_state.h"

/* -- Memory of the store: the process's ----------------------------------------------------------- */

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

/* -- Applying ------------------------------------------------------------------------------------ */

static void apply_genesis(struct replica *replica, const struct entry *entry)
{
    struct entry_genesis genesis;

    if (replica->kv != NULL ||
        !entry_genesis_decode(entry->payload, entry->size - ENTRY_HEADER_SIZE, &genesis)) {
        replica_fail(replica, "a second or malformed genesis entry", -EBADMSG);
        return;
    }
    replica->kv = kv_new(&store_allocator, genesis.hash_key);
    kv_begin(replica->kv, entry->clock_ms);
}

static void apply_commands(struct replica *replica, const struct entry *entry)
{
    const uint8_t *bytes = entry->payload;
    size_t left = entry->size - ENTRY_HEADER_SIZE;
    const struct waiting *writes = &replica->writes;
    bool is_ours = writes->first != writes->last &&
                   writes->ops[writes->first % REPLICA_WAITING_MAX].behind == entry->index;

    kv_begin(replica->kv, entry->clock_ms);
    while (left > 0) {
        struct kv_command command;
        struct kv_result result;
        size_t used = kv_command_decode(bytes, left, &command);
        if (used == 0) {
            replica_fail(replica, "an entry holds an unknown command", -EBADMSG);
            return;
        }
        if (is_ours)
            replica_answer_riding(replica, entry->index);
        kv_apply(replica->kv, &command, &result);
        if (is_ours)
            replica_answer_write(replica, &result);
        bytes += used;
        left -= used;
    }
    if (is_ours)
        replica_answer_riding(replica, entry->index);
}

static void apply_entry(struct replica *replica, const struct entry *entry)
{
    if (entry->kind != ENTRY_GENESIS && replica->kv == NULL) {
        replica_fail(replica, "the log does not begin with a genesis entry", -EBADMSG);
        return;
    }
    switch (entry->kind) {
    case ENTRY_GENESIS:
        apply_genesis(replica, entry);
        break;
    case ENTRY_NOOP:
    case ENTRY_CLOCK:
        kv_begin(replica->kv, entry->clock_ms);
        break;
    case ENTRY_COMMANDS:
        apply_commands(replica, entry);
        break;
    default:
        replica_fail(replica, "an entry of unknown kind", -EBADMSG);
    }
    if (replica->has_failed)
        return;
    replica->applied_index = entry->index;
    replica_answer_rounds(replica);
}

void replica_apply(struct replica *replica)
{
    uint64_t commands = 0;

    while (!replica->has_failed && replica->applied_index < replica->raft.commit_index &&
           commands < REPLICA_APPLY_COMMANDS_MAX) {
        struct entry entry;
        int code = replica->log_type->entries(replica->log, replica->applied_index + 1, 1, &entry);
        if (code < 0) {
            replica_fail(replica, "cannot read the log", code);
            return;
        }
        commands += entry.count + 1;
        apply_entry(replica, &entry);
    }
}

/* -- Expiry -------------------------------------------------------------------------------------- */

static bool may_expire(const struct replica *replica)
{
    return !replica->has_failed && replica->kv != NULL && replica->raft.role == RAFT_LEADER &&
           replica->raft.transfer_to == RAFT_NODE_NONE &&
           replica->log_type->room(replica->log, ENTRY_HEADER_SIZE, false);
}

static uint64_t next_expiry_ms(const struct replica *replica)
{
    struct kv_stats stats;

    kv_stats(replica->kv, &stats);
    return stats.next_expiry_ms > replica->last_clock_ms ? stats.next_expiry_ms : 0;
}

void replica_expire(struct replica *replica)
{
    uint8_t bytes[ENTRY_HEADER_SIZE] = { 0 };

    if (!may_expire(replica))
        return;
    uint64_t next = next_expiry_ms(replica);
    bool is_due = next != 0 && next <= replica_clock_ms(replica);
    bool all_applied = replica->applied_index == replica->raft.last_index;
    if (!is_due && !(all_applied && kv_has_dead(replica->kv)))
        return;
    replica_propose(replica, ENTRY_CLOCK, bytes, sizeof bytes, 0);
    replica->counters.clock_entries++;
}

uint64_t replica_expiry_deadline_ns(const struct replica *replica)
{
    if (!may_expire(replica))
        return 0;
    uint64_t next = next_expiry_ms(replica);
    if (next == 0)
        return 0;
    uint64_t wait_ms = next > replica->base_clock_ms ? next - replica->base_clock_ms : 0;
    if (wait_ms > UINT32_MAX)
        wait_ms = UINT32_MAX;
    return replica->base_ns + wait_ms * NS_PER_MS;
}
