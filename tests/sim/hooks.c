/* How the oracle sees a whole node from inside, without a line in the node for it: the simulator is
 * linked with --wrap for the two functions through which everything passes that Raft decides and
 * everything that is kept: raft_step() and storage_append(). The objects of the server are the same
 * as in the server.
 *
 * The linker gives the wrappers no context, so whose turn it is stands in a variable: the one global
 * of the simulator besides the current memory (memory.c). */
#include <inttypes.h>

#include "server/storage/storage.h"
#include "tests/sim/world_state.h"

static struct {
    struct world *world;
    int slot;
} turn;

void hooks_enter(struct world *world, int slot)
{
    turn.world = world;
    turn.slot = slot;
}

static bool is_watched(void)
{
    return turn.world != NULL && turn.world->plan->level == 3;
}

void __real_raft_step(struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects);
void __wrap_raft_step(struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects);
int __real_storage_append(struct storage *storage, const struct entry *entry);
int __wrap_storage_append(struct storage *storage, const struct entry *entry);

void __wrap_raft_step(struct raft *raft, const struct raft_event *event,
                      struct raft_effects *effects)
{
    if (!is_watched()) {
        __real_raft_step(raft, event, effects);
        return;
    }
    struct memory *process = memory_enter(NULL);
    oracle_step_begin(turn.world->oracle, turn.slot, raft, event);
    __real_raft_step(raft, event, effects);
    oracle_step_end(turn.world->oracle, turn.slot, raft, event, effects);
    memory_enter(process);
}

int __wrap_storage_append(struct storage *storage, const struct entry *entry)
{
    int code = __real_storage_append(storage, entry);

    if (is_watched() && code == 0) {
        struct memory *process = memory_enter(NULL);
        oracle_appended(turn.world->oracle, turn.slot, entry);
        memory_enter(process);
    }
    return code;
}
