/* Messages in and out: what a peer says is checked against our log before Raft hears it, and what Raft
 * wants said gets its entries here. */
#include <inttypes.h>
#include <stdio.h>

#include "server/node_state.h"

static bool kinds_are_known(struct node *node, const struct entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (entry_kind_known(entries[i].kind))
            continue;
        char why[160];
        snprintf(why, sizeof why,
                 "the leader's entry %" PRIu64 " is of kind %u, which this version does not know: "
                 "start a version that does",
                 entries[i].index, entries[i].kind);
        node_fail(node, "unknown entry kind", why);
        return false;
    }
    return true;
}

/* Equal terms at an equal index mean an equal log (Raft §5.3), so an unequal chain there means that
 * somebody's disk has lied or somebody's program is wrong. */
static bool chain_fits(struct node *node, const struct raft_append *append,
                       const struct entry *entries)
{
    const struct raft *raft = &node->raft;
    uint64_t prev = append->prev.index;

    if (append->entry_count == 0 || prev > raft->last_index ||
        raft_term_at(raft, prev) != append->prev.term)
        return true;
    if (entry_follows(&entries[0], storage_chain(node->storage, prev)))
        return true;
    node->counters.broken_chains++;
    logger_write(
        &node->logger, LOGGER_ERROR, "append refused: broken chain",
        "term=%" PRIu64 " index=%" PRIu64
        " hint=\"the entry does not continue our log although term and index agree: one of "
        "the two data directories is damaged, rolled back, or of another cluster\"",
        entries[0].term, entries[0].index);
    return false;
}

/* How many of the entries, from the first on, the disk takes. */
static uint32_t count_with_room(const struct node *node, const struct entry *entries,
                                uint32_t count)
{
    size_t bytes = 0;
    uint32_t taken = 0;

    for (; taken < count; taken++) {
        bytes += entries[taken].size + STORAGE_BLOCK;
        if (!storage_room(node->storage, bytes, false))
            break;
    }
    return taken;
}

/* A full disk takes no entries, but it still follows its leader, and tells it. It is full for a
 * heartbeat when the largest entry would not fit: so the leader does not try in vain. */
static const struct raft_message *strip(struct node *node, const struct raft_message *message,
                                        const struct entry *entries, struct raft_message *stripped)
{
    uint32_t count = message->append.entry_count;
    uint32_t taken = count_with_room(node, entries, count);
    bool has_room = count > 0
                        ? taken == count
                        : storage_room(node->storage, node_largest_entry(node->config), false);

    if (has_room)
        return message;
    *stripped = *message;
    stripped->append.no_room = true;
    stripped->append.entry_count = taken;
    node->counters.stripped_appends += taken < count;
    return stripped;
}

bool node_on_message(void *context, const struct raft_message *message, const struct entry *entries)
{
    struct node *node = context;
    struct raft_event event = { .type = message->type, .message = message };
    struct raft_message stripped;

    if (node->phase == NODE_FAILED)
        return true;
    if (message->type == RAFT_APPEND) {
        if (message->term >= node->raft.term &&
            !kinds_are_known(node, entries, message->append.entry_count))
            return true;
        if (!chain_fits(node, &message->append, entries))
            return false;
        event.message = strip(node, message, entries, &stripped);
    }
    node_step(node, &event, entries);
    return true;
}

/* Another process than the one that acknowledged may have another disk under it, or less of it: it has
 * to show what it holds before it counts again. */
void node_on_peer_up(void *context, uint32_t id, uint64_t incarnation, uint64_t boot)
{
    struct node *node = context;
    struct raft_event event = { .type = RAFT_PEER_REPLACED, .peer = id };
    ptrdiff_t slot = raft_find_peer(&node->raft, id) - node->raft.peers;
    uint64_t known_incarnation = node->peer_lives[slot].incarnation;
    uint64_t known_boot = node->peer_lives[slot].boot;

    logger_write(&node->logger, LOGGER_INFO, "peer up", "peer=%" PRIu32 " incarnation=%016" PRIx64,
                 id, incarnation);
    if (known_incarnation != 0 && known_incarnation != incarnation)
        logger_write(&node->logger, LOGGER_ERROR, "peer was replaced",
                     "peer=%" PRIu32 " hint=\"its data directory is another one: what it had "
                     "acknowledged is gone from there, and is sent anew\"",
                     id);
    if (known_boot != 0 && known_boot != boot)
        node_step(node, &event, NULL);
    node->peer_lives[slot].incarnation = incarnation;
    node->peer_lives[slot].boot = boot;
}

void node_on_peer_down(void *context, uint32_t id, const char *why)
{
    struct node *node = context;
    struct raft_event event = { .type = RAFT_PEER_LOST, .peer = id };
    char quoted[LOGGER_QUOTE_MAX];

    logger_write(&node->logger, LOGGER_INFO, "peer down", "peer=%" PRIu32 " why=%s", id,
                 logger_quote(why, quoted));
    node_step(node, &event, NULL);
}

void node_on_peer_refused(void *context, const char *who, const char *why)
{
    struct node *node = context;
    char who_quoted[LOGGER_QUOTE_MAX], why_quoted[LOGGER_QUOTE_MAX];

    logger_write(&node->logger, LOGGER_WARN, "peer refused", "who=%s why=%s",
                 logger_quote(who, who_quoted), logger_quote(why, why_quoted));
}

void node_send_message(struct node *node, const struct raft_message *message)
{
    struct error error;
    uint32_t count = message->type == RAFT_APPEND ? message->append.entry_count : 0;

    if (count > 0) {
        int code = storage_entries(node->storage, message->append.prev.index + 1, count,
                                   node->send_entries, &error);
        if (code < 0) {
            node_fail(node, "cannot read the log", error.text);
            return;
        }
    }
    peers_send(node->peers, message, node->send_entries);
}

/* How many entries the link to `peer` takes now: by its buffer and by its window. One entry may
 * exceed the window if nothing else is under way, or a large one would never go. */
static uint32_t entries_that_fit(const struct node *node, const struct raft_peer *peer)
{
    const struct raft *raft = &node->raft;
    size_t room = peers_room(node->peers, peer->id);
    uint64_t window = node->config->limits.peer_window_bytes;
    uint64_t in_flight = 0;
    uint32_t count = 0;

    if (peer->next > peer->match + 1)
        in_flight = storage_span(node->storage, peer->match + 1, peer->next - 1);
    for (uint64_t index = peer->next; index <= raft->last_index && count < RAFT_APPEND_ENTRIES_MAX;
         index++, count++) {
        uint32_t size = storage_size(node->storage, index);
        if (size > room || (in_flight != 0 && in_flight + size > window))
            break;
        room -= size;
        in_flight += size;
    }
    return count;
}

static void send_to_peer(struct node *node, const struct raft_peer *peer)
{
    struct raft_event event = { .type = RAFT_SEND };

    while (node->phase != NODE_FAILED && raft_append_due(&node->raft, peer->id)) {
        event.send.peer = peer->id;
        event.send.entries_max = entries_that_fit(node, peer);
        node_step(node, &event, NULL);
        if (node->effects.message_count == 0)
            return; /* what is due does not fit: the link will have room when it has written */
    }
}

void node_send(struct node *node)
{
    for (int i = 0; i < node->raft.peer_count && node->raft.role == RAFT_LEADER; i++)
        if (peers_is_up(node->peers, node->raft.peers[i].id))
            send_to_peer(node, &node->raft.peers[i]);
    peers_flush(node->peers);
}
