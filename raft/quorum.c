#include "raft/quorum.h"

#include <assert.h>

#include "raft/raft.h"

int quorum_size(int voter_count)
{
    assert(voter_count >= 1);
    return voter_count / 2 + 1;
}

/* Of the values in falling order, the one at place quorum_size() is reached by all before it
 * too. */
uint64_t quorum_index(const uint64_t *match, int match_count)
{
    assert(match_count >= 1);
    assert(match_count <= RAFT_VOTERS_MAX);

    uint64_t falling[RAFT_VOTERS_MAX];
    for (int i = 0; i < match_count; i++) {
        int slot = i;
        for (; slot > 0 && falling[slot - 1] < match[i]; slot--)
            falling[slot] = falling[slot - 1];
        falling[slot] = match[i];
    }
    return falling[quorum_size(match_count) - 1];
}
