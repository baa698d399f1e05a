/* The rules of nodes and their steps. For each step: the state before it is copied (some hundred
 * bytes), and what the step says, sends and changes is held against the logs, disks and ledger that
 * the oracle keeps. What a node has on disk it is told by the disk, never by the node:
 *
 *     S1   one leader a term                         when a node begins to lead
 *     S2   one vote a term, counting votes sent      for each vote that leaves, and each on a disk
 *     S3   durable before promised                   for each message
 *     S4   nothing goes back                         each step; each start against the disk
 *     S5   a leader's log only grows                 each step
 *     S6   equal index and term, equal log           each entry that joins a log, or leaves in a message
 *     S7   a leader has all that has committed       when a node begins to lead
 *     S10  commit within what is proven              when a commit index moves (oracle_ledger.c)
 *     S11  match within what is durable there        when a match index moves
 *     S16  reads: rounds release no past             when a round is released
 *     S20  the table's cell fits the state           each step; raft_check() too
 *     S22  recovery invents nothing                  each recovered entry
 *
 * An entry joins the node's log behind the step that let it in, so what needs the step's own entries
 * waits for the next call for that node.
 *
 * Starts. What was durable must be there again, with one exception: a node may have replaced a part of
 * its log, and those writes may have come to the disk, or be visible, without having been flushed. So
 * from the first index on that was dropped and whose replacement the disk has not yet told of, a
 * restart may find the old or the new. */
#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/oracle_state.h"

#define POS "%" PRIu64 "/%" PRIu64 /* term/index */

/* -- What is durable ----------------------------------------------------------------------------- */

void oracle_durable_vote(struct oracle *oracle, int slot, uint64_t term, uint32_t voted_for)
{
    struct watched *node = &oracle->nodes[slot];

    if (term < node->durable_term)
        return; /* told again, after a restart; or the entries are ahead */
    if (term > node->durable_term) {
        node->durable_term = term;
        node->durable_vote = voted_for;
        return;
    }
    if (voted_for == RAFT_NODE_NONE)
        return;
    if (node->durable_vote != RAFT_NODE_NONE && node->durable_vote != voted_for)
        trace_fail(oracle->options.trace, "S2",
                   "node %d has votes for %" PRIu32 " and %" PRIu32 " on its disk, both in term "
                   "%" PRIu64,
                   slot, node->durable_vote, voted_for, term);
    node->durable_vote = voted_for;
}

/* The disk has heard of all drops up to the one that `known` followed. */
static void forget_drops(struct drops *drops, const struct known *known)
{
    for (size_t i = 0; i < drops->count; i++) {
        if (drops->items[i].by != known)
            continue;
        drops->count -= i + 1;
        memmove(drops->items, drops->items + i + 1, drops->count * sizeof *drops->items);
        return;
    }
}

void oracle_durable_entry(struct oracle *oracle, int slot, uint64_t index, uint64_t term,
                          uint64_t chain)
{
    struct watched *node = &oracle->nodes[slot];
    struct memory *before = memory_enter(NULL);
    struct known *known = oracle_get_known(oracle, slot, "durable log", index, term, chain);

    if (index > node->durable.last + 1)
        trace_fail(oracle->options.trace, "S22",
                   "node %d has entry " POS " on its disk behind index %" PRIu64, slot, term, index,
                   node->durable.last);
    known->ever_durable |= 1u << slot;
    if (mirror_at(&node->durable, index) != known)
        mirror_put(&node->durable, known);
    if (node->runs)
        forget_drops(&node->drops, known);
    if (term > node->durable_term) {
        node->durable_term = term;
        node->durable_vote = RAFT_NODE_NONE;
    }
    memory_enter(before);
}

void oracle_durable_dead_end(const struct oracle *oracle, int slot, uint64_t number)
{
    trace_fail(oracle->options.trace, "S22",
               "node %d has sealed segment %" PRIu64
               " for good, and a power cut could take the next",
               slot, number);
}

/* -- Starts -------------------------------------------------------------------------------------- */

void oracle_starting(struct oracle *oracle, int slot, bool damaged)
{
    struct watched *node = &oracle->nodes[slot];

    assert(!node->runs);
    node->is_starting = true;
    node->is_damaged = damaged;
    node->log.last = 0;
    node->term = node->commit_index = node->applied_index = 0;
    node->digest = node->digest_index = 0;
    node->commit_unchecked = false;
    memset(node->rounds, 0, sizeof node->rounds);
}

/* The last index that a restart must find as it was told durable. */
static uint64_t certain_index(const struct watched *node)
{
    uint64_t index = node->durable.last;

    for (size_t i = 0; i < node->drops.count; i++)
        if (node->drops.items[i].index <= index)
            index = node->drops.items[i].index - 1;
    return index;
}

static void check_recovered(const struct oracle *oracle, int slot, const struct raft *raft)
{
    const struct watched *node = &oracle->nodes[slot];
    struct trace *trace = oracle->options.trace;
    uint64_t index = certain_index(node);

    if (raft->term < node->durable_term)
        trace_fail(trace, "S4", "node %d starts in term %" PRIu64 ", but %" PRIu64 " was durable",
                   slot, raft->term, node->durable_term);
    if (raft->term == node->durable_term && node->durable_vote != RAFT_NODE_NONE &&
        raft->voted_for != node->durable_vote)
        trace_fail(trace, "S4",
                   "node %d has forgotten its durable vote for %" PRIu32 " in term %" PRIu64, slot,
                   node->durable_vote, raft->term);
    if (mirror_at(&node->log, index) == mirror_at(&node->durable, index))
        return;
    while (index > 1 && mirror_at(&node->log, index - 1) != mirror_at(&node->durable, index - 1))
        index--;
    trace_fail(trace, "S4",
               "node %d starts without entry " POS ", which was durable; its log ends at %" PRIu64,
               slot, mirror_at(&node->durable, index)->term, index, node->log.last);
}

/* More was lost than a correct disk loses: what is left is the truth, and what was promised before is
 * held against nobody. */
static void accept_damage(struct watched *node, const struct raft *raft)
{
    node->was_damaged = true;
    node->sent_vote_term = 0;
    node->sent_vote = RAFT_NODE_NONE;
    node->durable_term = raft->term;
    node->durable_vote = raft->voted_for;
    node->durable.last = 0;
    for (uint64_t index = 1; index <= node->log.last; index++)
        mirror_put(&node->durable, mirror_at(&node->log, index));
}

static void check_length(const struct oracle *oracle, int slot, const struct raft *raft)
{
    const struct watched *node = &oracle->nodes[slot];

    if (raft->last_index != node->log.last)
        trace_fail(oracle->options.trace, "S6",
                   "node %d counts %" PRIu64 " entries, and has kept %" PRIu64, slot,
                   raft->last_index, node->log.last);
}

void oracle_started(struct oracle *oracle, int slot, const struct raft *raft)
{
    struct watched *node = &oracle->nodes[slot];
    struct memory *before = memory_enter(NULL);

    assert(node->is_starting);
    check_length(oracle, slot, raft);
    if (node->is_damaged)
        accept_damage(node, raft);
    else
        check_recovered(oracle, slot, raft);
    node->drops.count = 0;
    node->is_starting = false;
    node->runs = true;
    node->term = raft->term;
    memory_enter(before);
}

void oracle_crashed(struct oracle *oracle, int slot)
{
    oracle->nodes[slot].runs = false;
    oracle->nodes[slot].is_starting = false;
}

/* -- The log ------------------------------------------------------------------------------------- */

static void drop(struct oracle *oracle, int slot, uint64_t index)
{
    struct watched *node = &oracle->nodes[slot];
    struct drops *drops = &node->drops;

    if (index <= node->commit_index)
        trace_fail(oracle->options.trace, "S8",
                   "node %d drops its log from %" PRIu64 " on, and has committed %" PRIu64, slot,
                   index, node->commit_index);
    if (index > node->log.last)
        return;
    struct memory *before = memory_enter(NULL);
    drops->items = oracle_grow(drops->items, drops->count, &drops->capacity, sizeof *drops->items);
    memory_enter(before);
    drops->items[drops->count++] = (struct drop){ .index = index };
    node->log.last = index - 1;
}

/* Its bytes are here for the first time: they must be what they say, and continue the log. */
static void take_bytes(const struct oracle *oracle, int slot, struct known *known,
                       const struct known *previous, const struct entry *entry)
{
    struct entry parsed;
    uint64_t chain = previous == NULL ? 0 : previous->chain;
    bool is_good = entry_parse(entry->bytes, entry->size, &parsed) == ENTRY_GOOD &&
                   parsed.size == entry->size && parsed.index == entry->index &&
                   parsed.term == entry->term && parsed.chain == entry->chain;

    if (!is_good || !entry_follows(entry, chain))
        trace_fail(oracle->options.trace, "S6", "node %d keeps an entry " POS " that %s", slot,
                   entry->term, entry->index,
                   is_good ? "does not continue its log" : "is not whole");
    known->bytes = malloc(entry->size);
    if (known->bytes == NULL)
        abort();
    memcpy(known->bytes, entry->bytes, entry->size);
    known->size = entry->size;
    known->previous = previous;
}

static void check_copy(const struct oracle *oracle, int slot, const struct known *known,
                       const struct known *previous, const struct entry *entry)
{
    if (known->previous != previous)
        trace_fail(oracle->options.trace, "S6",
                   "node %d has entry " POS " behind other entries than those it was made for",
                   slot, entry->term, entry->index);
    if (entry->bytes == NULL) /* recovered, and not read: its chain says what it is */
        return;
    if (known->size != entry->size || memcmp(known->bytes, entry->bytes, entry->size) != 0)
        trace_fail(oracle->options.trace, "S6",
                   "node %d has entry " POS " with other bytes than it was made of", slot,
                   entry->term, entry->index);
}

static void check_origin(const struct oracle *oracle, int slot, const struct entry *entry)
{
    const struct watched *node = &oracle->nodes[slot];

    if (entry->index < 1 || entry->index > node->log.last + 1)
        trace_fail(oracle->options.trace, "S6",
                   "node %d keeps entry " POS " behind a log that ends at %" PRIu64, slot,
                   entry->term, entry->index, node->log.last);
    if (node->is_starting && !node->is_damaged &&
        oracle_find_known(oracle, entry->index, entry->term) == NULL)
        trace_fail(oracle->options.trace, "S22",
                   "node %d recovers entry " POS ", which nobody has ever made", slot, entry->term,
                   entry->index);
}

void oracle_appended(struct oracle *oracle, int slot, const struct entry *entry)
{
    struct watched *node = &oracle->nodes[slot];

    assert(node->runs || node->is_starting);
    check_origin(oracle, slot, entry);
    if (entry->index <= node->log.last)
        drop(oracle, slot, entry->index);

    struct memory *before = memory_enter(NULL);
    const struct known *previous = mirror_at(&node->log, entry->index - 1);
    struct known *known =
        oracle_get_known(oracle, slot, "log", entry->index, entry->term, entry->chain);
    if (known->bytes == NULL)
        take_bytes(oracle, slot, known, previous, entry);
    else
        check_copy(oracle, slot, known, previous, entry);
    mirror_put(&node->log, known);
    memory_enter(before);

    struct drops *drops = &node->drops;
    if (drops->count > 0 && drops->items[drops->count - 1].by == NULL)
        drops->items[drops->count - 1].by = known;
}

/* -- Leaders ------------------------------------------------------------------------------------- */

static void note_leader(struct oracle *oracle, int slot, const struct raft *raft)
{
    struct memory *before = memory_enter(NULL);
    oracle->leaders = oracle_grow(oracle->leaders, oracle->leader_count, &oracle->leader_capacity,
                                  sizeof *oracle->leaders);
    memory_enter(before);
    size_t place = oracle->leader_count;
    while (place > 0 && oracle->leaders[place - 1].term >= raft->term)
        place--;
    if (place < oracle->leader_count && oracle->leaders[place].term == raft->term)
        trace_fail(oracle->options.trace, "S1",
                   "node %d leads term %" PRIu64 ", which node %d has led", slot, raft->term,
                   oracle->leaders[place].node);
    memmove(&oracle->leaders[place + 1], &oracle->leaders[place],
            (oracle->leader_count - place) * sizeof *oracle->leaders);
    oracle->leaders[place] = (struct leader_of_term){ .term = raft->term, .node = slot };
    oracle->leader_count++;
    oracle->stats.elections++;
}

/* The node has begun to lead: S1, S7. A late winner of an old term need not have what leaders of newer
 * terms have committed meanwhile. */
static void check_new_leader(struct oracle *oracle, int slot, const struct raft *raft)
{
    uint64_t committed = oracle->ledger.last;

    while (committed > 0 && oracle->commit_terms[committed - 1] >= raft->term)
        committed--;
    note_leader(oracle, slot, raft);
    if (mirror_at(&oracle->nodes[slot].log, committed) != mirror_at(&oracle->ledger, committed))
        trace_fail(oracle->options.trace, "S7",
                   "node %d leads term %" PRIu64 " without entry " POS ", which has committed",
                   slot, raft->term, mirror_at(&oracle->ledger, committed)->term, committed);
    trace_line(oracle->options.trace, slot, "leads term %" PRIu64 " from %" PRIu64, raft->term,
               raft->last_index);
}

/* S11, for each match that has moved. */
static void check_matches(const struct oracle *oracle, int slot, const struct raft *raft)
{
    const struct raft *before = &oracle->before;
    bool is_new = before->role != RAFT_LEADER || before->term != raft->term;

    for (int i = 0; i < raft->peer_count; i++) {
        const struct raft_peer *peer = &raft->peers[i];
        bool same = !is_new && peer->match == before->peers[i].match;
        if (same || peer->match == 0)
            continue;
        int other = oracle_slot_of(oracle, peer->id);
        const struct known *known = mirror_at(&oracle->nodes[slot].log, peer->match);
        if (known == NULL || other < 0 || (known->ever_durable >> other & 1) == 0)
            trace_fail(oracle->options.trace, "S11",
                       "node %d believes that node %d has its log up to %" PRIu64
                       " durably, which it never had",
                       slot, other, peer->match);
        if (peer->next <= peer->match)
            trace_fail(oracle->options.trace, "S11",
                       "node %d would send node %d index %" PRIu64 " next, which matches already",
                       slot, other, peer->next);
    }
}

/* -- Messages ------------------------------------------------------------------------------------ */

/* A pre-vote and its yes bind nobody. */
static bool binds(const struct raft_message *message)
{
    if (message->type == RAFT_VOTE)
        return !message->vote.pre_vote;
    if (message->type == RAFT_VOTE_REPLY)
        return !(message->vote_reply.pre_vote && message->vote_reply.granted);
    return true;
}

/* S2 and S3 of a vote that leaves: for itself, or for the one it is sent to. */
static void check_vote(struct oracle *oracle, int slot, uint64_t term, uint32_t candidate)
{
    struct watched *node = &oracle->nodes[slot];

    if (node->durable_term != term || node->durable_vote != candidate)
        trace_fail(oracle->options.trace, "S3",
                   "node %d votes for %" PRIu32 " in term %" PRIu64
                   ", and that vote is not on its disk",
                   slot, candidate, term);
    bool is_second = node->sent_vote_term == term && node->sent_vote != candidate;
    if (is_second || node->sent_vote_term > term)
        trace_fail(oracle->options.trace, "S2",
                   "node %d votes for %" PRIu32 " in term %" PRIu64 ", and has voted for %" PRIu32
                   " in term %" PRIu64,
                   slot, candidate, term, node->sent_vote, node->sent_vote_term);
    node->sent_vote_term = term;
    node->sent_vote = candidate;
}

/* S3 of an acknowledgement. */
static void check_ack(const struct oracle *oracle, int slot, const struct raft_append_reply *reply)
{
    const struct watched *node = &oracle->nodes[slot];
    uint64_t index = reply->durable_index;
    const struct known *own = mirror_at(&node->log, index);

    if (index > 0 && (own == NULL || mirror_at(&node->durable, index) != own))
        trace_fail(oracle->options.trace, "S3",
                   "node %d acknowledges index %" PRIu64 ", and its disk has its log up to %" PRIu64
                   " at most",
                   slot, index, node->durable.last);
}

static bool has_at(const struct watched *node, uint64_t index, uint64_t term)
{
    const struct known *known = mirror_at(&node->log, index);
    return known == NULL ? index == 0 && term == 0 : known->term == term;
}

/* S6: what a leader sends is its own log. */
static void check_sent(const struct oracle *oracle, int slot, const struct raft_append *append)
{
    const struct watched *node = &oracle->nodes[slot];
    bool is_own = has_at(node, append->prev.index, append->prev.term);

    for (uint32_t i = 0; is_own && i < append->entry_count; i++)
        is_own = has_at(node, append->prev.index + 1 + i, append->entry_terms[i]);
    if (!is_own)
        trace_fail(oracle->options.trace, "S6",
                   "node %d sends %" PRIu32 " entries behind " POS ", which is not its log", slot,
                   append->entry_count, append->prev.term, append->prev.index);
}

static void check_message(struct oracle *oracle, int slot, const struct raft *raft,
                          const struct raft_message *message)
{
    const struct watched *node = &oracle->nodes[slot];

    if (!binds(message))
        return;
    if (node->durable_term < message->term)
        trace_fail(oracle->options.trace, "S3",
                   "node %d speaks in term %" PRIu64 ", and its disk knows term %" PRIu64, slot,
                   message->term, node->durable_term);
    if (message->type == RAFT_VOTE)
        check_vote(oracle, slot, message->term, raft->id);
    else if (message->type == RAFT_VOTE_REPLY && message->vote_reply.granted)
        check_vote(oracle, slot, message->term, message->to);
    else if (message->type == RAFT_APPEND_REPLY && message->append_reply.success)
        check_ack(oracle, slot, &message->append_reply);
    else if (message->type == RAFT_APPEND)
        check_sent(oracle, slot, &message->append);
}

/* -- Read rounds --------------------------------------------------------------------------------- */

/* S16, the core's part: a read sees every commit from before its beginning. */
static void check_rounds(struct oracle *oracle, int slot, const struct raft *raft,
                         const struct raft_effects *effects)
{
    struct watched *node = &oracle->nodes[slot];

    if (effects->round != 0)
        node->rounds[effects->round % ROUNDS_KEPT] =
            (struct round_begun){ raft->term, effects->round, oracle->ledger.last };
    for (int i = 0; i < effects->released_count; i++) {
        const struct raft_released *released = &effects->released[i];
        const struct round_begun *begun = &node->rounds[released->round % ROUNDS_KEPT];
        if (begun->term != raft->term || begun->round != released->round)
            trace_fail(oracle->options.trace, "S16",
                       "node %d releases round %" PRIu64 " in term %" PRIu64
                       ", in which it was not opened",
                       slot, released->round, raft->term);
        if (released->index < begun->committed || released->index > raft->commit_index)
            trace_fail(oracle->options.trace, "S16",
                       "node %d releases round %" PRIu64 " for index %" PRIu64 "; %" PRIu64
                       " had committed when it was opened, and its own commit index is %" PRIu64,
                       slot, released->round, released->index, begun->committed,
                       raft->commit_index);
    }
}

/* -- Steps --------------------------------------------------------------------------------------- */

/* All but the writes under way, which no check of a step looks at, and which are most of it. */
static void copy_state(struct raft *to, const struct raft *from)
{
    const size_t writes = offsetof(struct raft, writes), behind = offsetof(struct raft, role);

    memcpy(to, from, writes);
    memcpy((char *)to + behind, (const char *)from + behind, sizeof *from - behind);
}

void oracle_step_begin(struct oracle *oracle, int slot, const struct raft *raft,
                       const struct raft_event *event)
{
    (void)event;
    assert(oracle->nodes[slot].runs);
    check_length(oracle, slot, raft);
    ledger_check_late(oracle, slot);
    copy_state(&oracle->before, raft);
}

static void check_cell(struct oracle *oracle, int slot, const struct raft *raft,
                       const struct raft_event *event, const struct raft_effects *effects)
{
    enum raft_role role = effects->handled_as, before = oracle->before.role;

    if (role == RAFT_ROLE_COUNT)
        return;
    bool stepped_down = role == RAFT_FOLLOWER && raft->term > oracle->before.term;
    bool fits = role < RAFT_ROLE_COUNT && (role == before || stepped_down);
    if (!fits || event->type >= RAFT_EVENT_COUNT)
        trace_fail(oracle->options.trace, "S20", "node %d took event %d as role %d, being %s", slot,
                   (int)event->type, (int)role, raft_role_name(before));
    oracle->stats.cells[event->type][role]++;
}

/* S4 and S5 of the step itself. */
static void check_progress(const struct oracle *oracle, int slot, const struct raft *raft,
                           const struct raft_effects *effects)
{
    const struct raft *before = &oracle->before;
    struct trace *trace = oracle->options.trace;

    if (raft->term < before->term || raft->commit_index < before->commit_index)
        trace_fail(trace, "S4",
                   "node %d goes back from term %" PRIu64 " commit %" PRIu64 " to term %" PRIu64
                   " commit %" PRIu64,
                   slot, before->term, before->commit_index, raft->term, raft->commit_index);
    if (raft->term == before->term && before->voted_for != RAFT_NODE_NONE &&
        raft->voted_for != before->voted_for)
        trace_fail(trace, "S2",
                   "node %d votes for %" PRIu32 " and then for %" PRIu32 " in term %" PRIu64, slot,
                   before->voted_for, raft->voted_for, raft->term);
    if (raft->role == RAFT_LEADER &&
        (effects->drop_from != 0 || raft->last_index < before->last_index))
        trace_fail(trace, "S5", "node %d leads term %" PRIu64 " and drops a part of its log", slot,
                   raft->term);
}

void oracle_step_end(struct oracle *oracle, int slot, const struct raft *raft,
                     const struct raft_event *event, const struct raft_effects *effects)
{
    struct watched *node = &oracle->nodes[slot];
    const struct raft *before = &oracle->before;

    check_cell(oracle, slot, raft, event, effects);
    check_progress(oracle, slot, raft, effects);
    if (effects->drop_from != 0)
        drop(oracle, slot, effects->drop_from);
    bool leads_now =
        raft->role == RAFT_LEADER && (before->role != RAFT_LEADER || raft->term != before->term);
    if (leads_now)
        check_new_leader(oracle, slot, raft);
    for (int i = 0; i < effects->message_count; i++)
        check_message(oracle, slot, raft, &effects->messages[i]);
    if (raft->role == RAFT_LEADER)
        check_matches(oracle, slot, raft);
    node->term = raft->term;
    if (oracle->stats.term_max < raft->term)
        oracle->stats.term_max = raft->term;
    if (raft->commit_index != node->commit_index) {
        node->commit_index = raft->commit_index;
        ledger_on_commit(oracle, slot, raft);
    }
    check_rounds(oracle, slot, raft, effects);
    raft_check(before, raft);
}
