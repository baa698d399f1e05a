/* Messages in and out, as in server/node_peer.c: what a peer says is checked against our log and our
 * disk before Raft hears it, and what Raft wants said gets its entries here. */
#include <assert.h>
#include <inttypes.h>

#include "tests/sim/replica_state.h"

/* Never false in a correct cluster with correct disks. A node drops the link then, and so hears that
 * the peer is lost. */
static bool chain_fits(struct replica *replica, const struct parcel *parcel)
{
    const struct raft *raft = &replica->raft;
    const struct raft_append *append = &parcel->message.append;
    uint64_t prev = append->prev.index;

    if (append->entry_count == 0 || prev > raft->last_index ||
        raft_term_at(raft, prev) != append->prev.term)
        return true;
    if (entry_follows(&parcel->entries[0], replica->log_type->chain(replica->log, prev)))
        return true;
    replica->counters.broken_chains++;
    trace_line(replica->machine->trace, replica->machine->slot,
               "append of term %" PRIu64 " refused: its entry %" PRIu64
               " does not continue our chain",
               parcel->message.term, parcel->entries[0].index);
    return false;
}

static uint32_t count_with_room(struct replica *replica, const struct entry *entries,
                                uint32_t count)
{
    size_t bytes = 0;
    uint32_t taken = 0;

    for (; taken < count; taken++) {
        bytes += entries[taken].size + STORAGE_BLOCK;
        if (!replica->log_type->room(replica->log, bytes, false))
            break;
    }
    return taken;
}

/* A full disk takes no entries, but it still follows its leader, and tells it. */
static const struct raft_message *strip(struct replica *replica, const struct parcel *parcel,
                                        struct raft_message *stripped)
{
    const struct raft_message *message = &parcel->message;
    uint32_t count = message->append.entry_count;
    uint32_t taken = count_with_room(replica, parcel->entries, count);
    bool has_room = count > 0
                        ? taken == count
                        : replica->log_type->room(replica->log, replica->largest_entry, false);

    if (has_room)
        return message;
    *stripped = *message;
    stripped->append.no_room = true;
    stripped->append.entry_count = taken;
    replica->counters.stripped_appends += taken < count;
    return stripped;
}

void replica_take_message(struct replica *replica, const struct parcel *parcel)
{
    const struct raft_message *message = &parcel->message;
    struct raft_event event = { .type = message->type, .message = message };
    struct raft_message stripped;

    assert(message->to == replica->machine->id);
    if (message->type == RAFT_APPEND) {
        if (!chain_fits(replica, parcel)) {
            struct raft_event lost = { .type = RAFT_PEER_LOST, .peer = message->from };
            replica_step(replica, &lost, NULL);
            return;
        }
        event.message = strip(replica, parcel, &stripped);
    }
    replica_step(replica, &event, parcel->entries);
}

/* The call is counted before anything has left: a crash may fall between any two messages. */
void replica_send_message(struct replica *replica, const struct raft_message *message)
{
    uint32_t count = message->type == RAFT_APPEND ? message->append.entry_count : 0;
    int to = replica_slot_of(replica, message->to);

    assert(to >= 0);
    if (count > 0) {
        int code = replica->log_type->entries(replica->log, message->append.prev.index + 1, count,
                                              replica->send_entries);
        if (code < 0) {
            replica_fail(replica, "cannot read the log", code);
            return;
        }
    }
    machine_call(replica->machine);
    post_send(replica->shared->post, replica->machine->slot, to, message, replica->send_entries);
}

/* One entry may exceed the window if nothing else is under way, or a large one would never go. */
static uint32_t entries_that_fit(const struct replica *replica, const struct raft_peer *peer)
{
    const struct replica_log_type *log_type = replica->log_type;
    uint64_t in_flight = 0;
    uint32_t count = 0;

    if (peer->next > peer->match + 1)
        in_flight = log_type->span(replica->log, peer->match + 1, peer->next - 1);
    for (uint64_t index = peer->next;
         index <= replica->raft.last_index && count < replica->append_entries_max;
         index++, count++) {
        uint32_t size = log_type->size(replica->log, index);
        if (in_flight != 0 && in_flight + size > replica->window_bytes)
            break;
        in_flight += size;
    }
    return count;
}

static void send_to_peer(struct replica *replica, const struct raft_peer *peer)
{
    struct raft_event event = { .type = RAFT_SEND };

    while (!replica->has_failed && raft_append_due(&replica->raft, peer->id)) {
        event.send.peer = peer->id;
        event.send.entries_max = entries_that_fit(replica, peer);
        replica_step(replica, &event, NULL);
        if (replica->effects.message_count == 0)
            return;
    }
}

void replica_send(struct replica *replica)
{
    const struct raft *raft = &replica->raft;

    for (int i = 0; i < raft->peer_count && raft->role == RAFT_LEADER; i++)
        send_to_peer(replica, &raft->peers[i]);
}
