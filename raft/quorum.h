/* Quorums: which index a majority holds. Arithmetic over small arrays: no state, no memory, no
 * errors.
 *
 *     match = { 7, 5, 9 }   ->   quorum_index(match, 3) == 7
 */
#pragma once

#include <stdint.h>

/* How many of `voter_count` (at least 1) are a majority. */
int quorum_size(int voter_count);

/* The highest index that a majority of `match` has reached; `match_count` is 1 to RAFT_VOTERS_MAX.
 *
 * What a majority holds is not yet what may be committed: the leader also asks whose term the entry
 * is from (§5.4.2). */
uint64_t quorum_index(const uint64_t *match, int match_count);
