/* The oracle's beginning and end, and what all of its rules share: the entries that were ever seen.
 *
 * Four logs matter, and they hold pointers to the same entries: what each node has in its log (as it
 * says), what each node has on its disk (as the disk says), and the ledger: what has committed, in the
 * first moment in which a leader's commit index covered it.
 *
 *     entry made ----> log of the leader ----> logs of followers         oracle_appended()
 *                       |                       |
 *                       v flushed               v flushed                oracle_durable_entry()
 *                      durable                 durable
 *                       '-- a quorum of these --'
 *                                 v a leader's commit index              oracle_step_end()
 *                               ledger ----> reference store, shadow
 *                                 ^                 ^
 *                   nodes' commits, digests    what clients are told
 *
 * So each check is a comparison of pointers or of a few numbers, and no step looks at more than what
 * it has changed. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/oracle_state.h"

void *oracle_grow(void *items, size_t count, size_t *capacity, size_t size_of_one)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity == 0 ? 64 : 2 * *capacity;
    void *grown = realloc(items, *capacity * size_of_one);
    if (grown == NULL)
        abort();
    return grown;
}

struct oracle *oracle_new(const struct oracle_options *options)
{
    assert(options->node_count >= 1);
    assert(options->node_count <= RAFT_VOTERS_MAX);

    struct memory *before = memory_enter(NULL);
    struct oracle *oracle = calloc(1, sizeof *oracle);
    if (oracle == NULL)
        abort();
    oracle->options = *options;
    oracle->shadow = shadow_new();
    for (int i = 0; i < options->node_count; i++) {
        oracle->nodes[i].durable_vote = RAFT_NODE_NONE;
        oracle->nodes[i].sent_vote = RAFT_NODE_NONE;
    }
    memory_enter(before);
    return oracle;
}

void oracle_free(struct oracle *oracle)
{
    if (oracle == NULL)
        return;
    struct memory *before = memory_enter(NULL);
    for (int i = 0; i < RAFT_VOTERS_MAX; i++) {
        free(oracle->nodes[i].log.at);
        free(oracle->nodes[i].durable.at);
        free(oracle->nodes[i].drops.items);
    }
    for (size_t i = 0; i < oracle->table_size; i++) {
        if (oracle->table[i] != NULL)
            free(oracle->table[i]->bytes);
        free(oracle->table[i]);
    }
    for (size_t i = 0; i < oracle->deleted_count; i++)
        free(oracle->deleted[i].items);
    free(oracle->table);
    free(oracle->leaders);
    free(oracle->ledger.at);
    free(oracle->commit_terms);
    free(oracle->digests);
    free(oracle->asked);
    free(oracle->deleted);
    free(oracle->deleted_table);
    free(oracle->events);
    kv_free(oracle->reference);
    shadow_free(oracle->shadow);
    free(oracle);
    memory_enter(before);
}

/* -- Entries ------------------------------------------------------------------------------------- */

static size_t place_of(const struct oracle *oracle, uint64_t index, uint64_t term)
{
    uint64_t hash = (index ^ term << 40) * 0x9e3779b97f4a7c15u;
    return (size_t)(hash >> 20) & (oracle->table_size - 1);
}

struct known *oracle_find_known(const struct oracle *oracle, uint64_t index, uint64_t term)
{
    if (oracle->table_size == 0)
        return NULL;
    size_t i = place_of(oracle, index, term);
    while (oracle->table[i] != NULL &&
           (oracle->table[i]->index != index || oracle->table[i]->term != term))
        i = (i + 1) & (oracle->table_size - 1);
    return oracle->table[i];
}

static void enter(struct oracle *oracle, struct known *known)
{
    size_t i = place_of(oracle, known->index, known->term);
    while (oracle->table[i] != NULL)
        i = (i + 1) & (oracle->table_size - 1);
    oracle->table[i] = known;
}

static void make_room(struct oracle *oracle)
{
    if (2 * oracle->known_count < oracle->table_size)
        return;
    struct known **old = oracle->table;
    size_t old_size = oracle->table_size;
    oracle->table_size = old_size == 0 ? 1024 : 2 * old_size;
    oracle->table = calloc(oracle->table_size, sizeof *oracle->table);
    if (oracle->table == NULL)
        abort();
    for (size_t i = 0; i < old_size; i++)
        if (old[i] != NULL)
            enter(oracle, old[i]);
    free(old);
}

struct known *oracle_get_known(struct oracle *oracle, int node, const char *where, uint64_t index,
                               uint64_t term, uint64_t chain)
{
    struct known *known = oracle_find_known(oracle, index, term);
    if (known == NULL) {
        make_room(oracle);
        known = calloc(1, sizeof *known);
        if (known == NULL)
            abort();
        *known = (struct known){ .index = index, .term = term, .chain = chain };
        enter(oracle, known);
        oracle->known_count++;
    }
    if (known->chain != chain)
        trace_fail(oracle->options.trace, "S6",
                   "node %d has in its %s an entry %" PRIu64 "/%" PRIu64 " of chain %016" PRIx64
                   ", but its chain is %016" PRIx64,
                   node, where, term, index, chain, known->chain);
    return known;
}

/* -- Mirrors ------------------------------------------------------------------------------------- */

struct known *mirror_at(const struct mirror *mirror, uint64_t index)
{
    return index == 0 || index > mirror->last ? NULL : mirror->at[index - 1];
}

void mirror_put(struct mirror *mirror, struct known *known)
{
    assert(known->index >= 1);
    assert(known->index <= mirror->last + 1);
    mirror->at =
        oracle_grow(mirror->at, (size_t)known->index - 1, &mirror->capacity, sizeof *mirror->at);
    mirror->at[known->index - 1] = known;
    mirror->last = known->index;
}

int oracle_slot_of(const struct oracle *oracle, uint32_t id)
{
    for (int i = 0; i < oracle->options.node_count; i++)
        if (oracle->options.ids[i] == id)
            return i;
    return -1;
}

/* -- The end ------------------------------------------------------------------------------------- */

static bool has_converged(const struct oracle *oracle, int slot, char *why, size_t why_size)
{
    const struct watched *node = &oracle->nodes[slot];
    uint64_t committed = oracle->ledger.last;

    if (!node->runs)
        (void)snprintf(why, why_size, "node %d is down", slot);
    else if (node->commit_index != committed)
        (void)snprintf(why, why_size, "node %d has committed %" PRIu64 " of %" PRIu64, slot,
                       node->commit_index, committed);
    else if (node->applied_index != committed)
        (void)snprintf(why, why_size, "node %d has applied %" PRIu64 " of %" PRIu64, slot,
                       node->applied_index, committed);
    else if (node->log.last != committed)
        (void)snprintf(why, why_size,
                       "the log of node %d ends at %" PRIu64 ", the ledger at %" PRIu64, slot,
                       node->log.last, committed);
    else if (mirror_at(&node->log, committed) != mirror_at(&oracle->ledger, committed))
        (void)snprintf(why, why_size, "node %d has another entry at %" PRIu64 " than the ledger",
                       slot, committed);
    else if (committed > 0 && node->digest_index != committed)
        (void)snprintf(why, why_size,
                       "node %d has shown its digest at %" PRIu64 ", not at %" PRIu64, slot,
                       node->digest_index, committed);
    else
        return true;
    return false;
}

bool oracle_converged(const struct oracle *oracle, uint32_t nodes, char *why, size_t why_size)
{
    for (int i = 0; i < oracle->options.node_count; i++)
        if ((nodes >> i & 1) != 0 && !has_converged(oracle, i, why, why_size))
            return false;
    return true;
}

void oracle_check_end(struct oracle *oracle)
{
    struct memory *before = memory_enter(NULL);
    ledger_check_end(oracle);
    if (oracle->options.values_by_op)
        client_check_end(oracle);
    memory_enter(before);
}

void oracle_stats(const struct oracle *oracle, struct oracle_stats *stats)
{
    *stats = oracle->stats;
}

int oracle_newest_leader(const struct oracle *oracle, uint64_t *term)
{
    if (oracle->leader_count == 0)
        return -1;
    const struct leader_of_term *newest = &oracle->leaders[oracle->leader_count - 1];
    *term = newest->term;
    return newest->node;
}
