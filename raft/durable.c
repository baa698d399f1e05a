#include "raft/durable.h"

#include <assert.h>
#include <string.h>

void raft_durable_start(struct raft *raft, struct raft_effects *effects)
{
    if (!effects->save_vote && effects->drop_from == 0 && effects->first == 0)
        return;
    raft->write_seq++;
    effects->write_seq = raft->write_seq;
    if (raft->write_count == RAFT_WRITES_MAX)
        raft->write_count--;
    raft->writes[raft->write_count++] = (struct raft_write){
        .seq = raft->write_seq,
        .last_index = raft->last_index,
        .term = raft->term,
        .voted_for = raft->voted_for,
    };
}

void raft_durable_done(struct raft *raft, uint64_t write_seq)
{
    assert(write_seq <= raft->write_seq);

    int done = 0;
    for (; done < raft->write_count && raft->writes[done].seq <= write_seq; done++) {
        const struct raft_write *write = &raft->writes[done];
        assert(write->last_index >= raft->durable_index);
        assert(write->term >= raft->durable_term);
        raft->durable_index = write->last_index;
        raft->durable_term = write->term;
        raft->durable_vote = write->voted_for;
    }
    raft->write_count -= done;
    memmove(raft->writes, raft->writes + done, (size_t)raft->write_count * sizeof(*raft->writes));

    assert(raft->durable_index <= raft->last_index);
}

void raft_durable_clip(struct raft *raft, uint64_t last_index)
{
    if (raft->durable_index > last_index)
        raft->durable_index = last_index;
    for (int i = 0; i < raft->write_count; i++) {
        if (raft->writes[i].last_index > last_index)
            raft->writes[i].last_index = last_index;
    }
}

bool raft_durable_has_term(const struct raft *raft)
{
    return raft->durable_term == raft->term;
}

bool raft_durable_has_vote(const struct raft *raft)
{
    return raft_durable_has_term(raft) && raft->voted_for != RAFT_NODE_NONE &&
           raft->durable_vote == raft->voted_for;
}
