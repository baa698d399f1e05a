#include <assert.h>

#include "raft/raft.h"

const char *raft_role_name(enum raft_role role)
{
    static const char *const names[RAFT_ROLE_COUNT] = {
        [RAFT_FOLLOWER] = "follower",
        [RAFT_PRE_CANDIDATE] = "pre-candidate",
        [RAFT_CANDIDATE] = "candidate",
        [RAFT_LEADER] = "leader",
    };
    assert(role < RAFT_ROLE_COUNT);
    return names[role];
}

const char *raft_event_name(enum raft_event_type type)
{
    static const char *const names[RAFT_EVENT_COUNT] = {
        [RAFT_APPEND] = "append",
        [RAFT_APPEND_REPLY] = "append-reply",
        [RAFT_VOTE] = "vote",
        [RAFT_VOTE_REPLY] = "vote-reply",
        [RAFT_TIMEOUT_NOW] = "timeout-now",
        [RAFT_TIMEOUT] = "timeout",
        [RAFT_PROPOSE] = "propose",
        [RAFT_READ] = "read",
        [RAFT_SEND] = "send",
        [RAFT_PERSISTED] = "persisted",
        [RAFT_PEER_LOST] = "peer-lost",
        [RAFT_PEER_REPLACED] = "peer-replaced",
        [RAFT_TRANSFER] = "transfer",
    };
    assert(type < RAFT_EVENT_COUNT);
    return names[type];
}

const char *raft_refusal_name(enum raft_refusal refusal)
{
    static const char *const names[] = {
        [RAFT_ACCEPTED] = "accepted",
        [RAFT_REFUSED_NOT_LEADER] = "not the leader",
        [RAFT_REFUSED_TRANSFERRING] = "leadership is being handed over",
        [RAFT_REFUSED_BUSY] = "too many read rounds are open",
        [RAFT_REFUSED_NO_TARGET] = "no voter to hand the leadership to",
    };
    assert(refusal <= RAFT_REFUSED_NO_TARGET);
    return names[refusal];
}
