/* What stands at the top of a scenario: its cluster. All of it has a value that suits most. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/script_state.h"

static bool set_seed(struct script_run *run)
{
    return script_want_number(run, &run->seed) && script_want_end(run);
}

static bool set_nodes(struct script_run *run)
{
    uint64_t count;

    if (!script_want_number(run, &count))
        return false;
    if (count < 1 || count > LINKS_NODES_MAX)
        return script_mistake(run, "1 to 9 nodes");
    run->node_count = (int)count;
    run->starts_down = script_take(run, "down");
    return script_want_end(run);
}

static bool set_heartbeat(struct script_run *run)
{
    uint64_t ns;

    if (!script_want_time(run, &ns))
        return false;
    run->plan.config.heartbeat_ms = (uint32_t)(ns / MS_NS);
    return script_want_end(run);
}

static bool set_election(struct script_run *run)
{
    uint64_t min_ns, max_ns;

    if (!script_want_time(run, &min_ns) || !script_want_time(run, &max_ns))
        return false;
    run->plan.config.election_ms_min = (uint32_t)(min_ns / MS_NS);
    run->plan.config.election_ms_max = (uint32_t)(max_ns / MS_NS);
    return script_want_end(run);
}

static bool set_flush(struct script_run *run)
{
    const char *word = script_word(run);

    if (word == NULL || (strcmp(word, "sync") != 0 && strcmp(word, "aio") != 0))
        return script_mistake(run, "sync or aio");
    run->plan.config.flush = word[0] == 's' ? CONFIG_FLUSH_SYNC : CONFIG_FLUSH_AIO;
    return script_want_end(run);
}

static bool set_bytes(struct script_run *run, uint64_t *bytes)
{
    return script_want_number(run, bytes) && script_want_end(run);
}

static bool set_segment_bytes(struct script_run *run)
{
    uint64_t bytes;

    if (!set_bytes(run, &bytes))
        return false;
    run->plan.config.limits.segment_bytes = (uint32_t)bytes;
    return true;
}

static bool set_batch_bytes(struct script_run *run)
{
    uint64_t bytes;

    if (!set_bytes(run, &bytes))
        return false;
    run->plan.config.limits.batch_bytes = (uint32_t)bytes;
    return true;
}

static bool set_cache_bytes(struct script_run *run)
{
    return set_bytes(run, &run->plan.config.limits.log_cache_bytes);
}

static bool set_window_bytes(struct script_run *run)
{
    uint64_t bytes;

    if (!set_bytes(run, &bytes))
        return false;
    run->plan.config.limits.peer_window_bytes = (uint32_t)bytes;
    return true;
}

script_command *script_find_setting(const char *word)
{
    static const struct {
        const char *word;
        script_command *command;
    } settings[] = {
        { "seed", set_seed },
        { "nodes", set_nodes },
        { "heartbeat", set_heartbeat },
        { "election", set_election },
        { "flush", set_flush },
        { "segment-bytes", set_segment_bytes },
        { "batch-bytes", set_batch_bytes },
        { "log-cache-bytes", set_cache_bytes },
        { "peer-window-bytes", set_window_bytes },
    };

    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        if (strcmp(settings[i].word, word) == 0)
            return settings[i].command;
    return NULL;
}
