/* What of term, vote and log is on stable storage, and what is on its way there.
 *
 * Every step that changes one of them is one write with one number. RAFT_PERSISTED names the newest
 * finished one, and everything that the core promises to others asks here first.
 *
 *     seq         7        8        9          persisted(8): durable up to index 12;
 *     last_index  10       12       12         write 9, a vote, is still under way
 *     term/vote   4/-      4/-      5/2
 *
 * The log may be cut while writes are under way. An old write then brings to the disk entries that
 * are no longer ours, and its completion must not vouch for what has since been put in their place,
 * though the indices are the same (the A-B-A race). So a cut clips the writes: each vouches at most
 * for what stands before the cut; what comes after belongs to later writes. */
#pragma once

#include "raft/raft.h"

/* The step has changed term, vote or log as `effects` says: number the write. Nothing if it has
 * not. With RAFT_WRITES_MAX under way the newest one is folded into this one: it vouches for
 * nothing until this one is done. */
void raft_durable_start(struct raft *raft, struct raft_effects *effects);

/* All writes up to `write_seq` are on stable storage. */
void raft_durable_done(struct raft *raft, uint64_t write_seq);

/* The log now ends at `last_index`: nothing beyond it is durable, or will be by writes under
 * way. */
void raft_durable_clip(struct raft *raft, uint64_t last_index);

/* May a reply leave in our term? Not while a crash could take us back to an older one. */
bool raft_durable_has_term(const struct raft *raft);

/* May the vote of our term leave? False if there is none. */
bool raft_durable_has_vote(const struct raft *raft);
