#include "raft/log.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "raft/durable.h"

/* The run that holds `index`, by binary search. The newest run is tried first: nearly every
 * question is about the end of the log. */
static const struct raft_term_run *find_run(const struct raft *raft, uint64_t index)
{
    assert(index > raft->snapshot.index);
    assert(index <= raft->last_index);
    assert(raft->run_count > 0);

    const struct raft_term_run *runs = raft->runs;
    uint32_t low = 0;
    uint32_t high = raft->run_count - 1;
    if (runs[high].first <= index)
        return &runs[high];
    while (low + 1 < high) { /* runs[low].first <= index < runs[high].first */
        uint32_t middle = low + (high - low) / 2;
        if (runs[middle].first <= index)
            low = middle;
        else
            high = middle;
    }
    return &runs[low];
}

uint64_t raft_term_at(const struct raft *raft, uint64_t index)
{
    if (index == raft->snapshot.index)
        return raft->snapshot.term;
    if (index < raft->snapshot.index || index > raft->last_index)
        return 0;
    return find_run(raft, index)->term;
}

struct raft_pos raft_log_last(const struct raft *raft)
{
    return (struct raft_pos){ raft_term_at(raft, raft->last_index), raft->last_index };
}

void raft_log_append(struct raft *raft, uint64_t term)
{
    assert(term >= raft_log_last(raft).term);
    assert(term <= raft->term);

    raft->last_index++;
    if (raft->run_count > 0 && raft->runs[raft->run_count - 1].term == term)
        return;
    assert(raft->run_count < raft->run_capacity);
    raft->runs[raft->run_count++] = (struct raft_term_run){ term, raft->last_index };
}

void raft_log_truncate(struct raft *raft, uint64_t from)
{
    assert(from > raft->commit_index);
    assert(from <= raft->last_index);

    while (raft->run_count > 0 && raft->runs[raft->run_count - 1].first >= from)
        raft->run_count--;
    raft->last_index = from - 1;
    raft_durable_clip(raft, raft->last_index);
}

uint64_t raft_log_run_first(const struct raft *raft, uint64_t index)
{
    if (index == raft->snapshot.index)
        return index;
    return find_run(raft, index)->first;
}

uint64_t raft_log_term_last(const struct raft *raft, uint64_t term)
{
    for (uint32_t i = raft->run_count; i > 0 && raft->runs[i - 1].term >= term; i--) {
        if (raft->runs[i - 1].term == term)
            return i == raft->run_count ? raft->last_index : raft->runs[i].first - 1;
    }
    return term == raft->snapshot.term ? raft->snapshot.index : 0;
}

bool raft_pos_before(struct raft_pos a, struct raft_pos b)
{
    return a.term < b.term || (a.term == b.term && a.index < b.index);
}

uint32_t raft_runs_spare(const struct raft *raft)
{
    return raft->run_capacity - raft->run_count;
}

struct raft_term_run *raft_give_runs(struct raft *raft, struct raft_term_run *runs,
                                     uint32_t run_capacity)
{
    assert(run_capacity >= raft->run_count);

    struct raft_term_run *old = raft->runs;
    if (raft->run_count > 0)
        memcpy(runs, old, raft->run_count * sizeof(*runs));
    raft->runs = runs;
    raft->run_capacity = run_capacity;
    return old;
}
