/* The log as the core sees it: which term stands at which index. Bytes are the caller's.
 *
 * Terms never fall along the log, so equal terms lie together: the log is a short list of runs, and
 * a cluster with a steady leader has one, however many entries it holds.
 *
 *     index   1 2 3 | 4 5 | 6 7 8          runs = { 1/1, 4/4, 5/6 }, last_index = 8
 *     term    1 1 1 | 4 4 | 5 5 5          (term / first index of the run)
 *
 * The first run begins at snapshot.index + 1. The snapshot's own term counts as an entry of the log
 * at snapshot.index: the consistency check of §5.3 may ask for it. */
#pragma once

#include "raft/raft.h"

/* The last entry; the snapshot if there is none behind it; 0/0 if there is neither. */
struct raft_pos raft_log_last(const struct raft *raft);

/* One entry more, of `term`: not below the last one's. */
void raft_log_append(struct raft *raft, uint64_t term);

/* Entries from `from` on are no more, in the log and in what is durable or on its way to it.
 * `from` is beyond the commit index: what has committed stays. */
void raft_log_truncate(struct raft *raft, uint64_t from);

/* Where the run that holds `index` begins; `index` is in the log, or the snapshot's. */
uint64_t raft_log_run_first(const struct raft *raft, uint64_t index);

/* The last index of `term`, 0 if the log has no such term. */
uint64_t raft_log_term_last(const struct raft *raft, uint64_t term);

/* Whether a log that ends in `a` holds less than one that ends in `b` (§5.4.1). */
bool raft_pos_before(struct raft_pos a, struct raft_pos b);
