/* Level 2's log: server/storage as it is, over the simulated system of the machine. */
#include <stdlib.h>

#include "tests/sim/os_sim.h"
#include "tests/sim/replica_log.h"

struct replica_log {
    struct machine *machine;
    struct storage *storage;
};

/* Flushes are done: the next turn collects them. */
static void on_flush(void *context)
{
    struct machine *machine = context;

    machine_wake(machine, timeline_now_ns(machine->timeline));
}

static struct replica_log *storage_log_open(struct machine *machine,
                                            struct storage_recovered *found)
{
    const struct config *config = machine->config;
    struct storage_options options = {
        .path = config->path,
        .cluster = config->cluster,
        .node = machine->id,
        .segment_bytes = config->limits.segment_bytes,
        .cache_bytes = config->limits.log_cache_bytes,
        .flush = config->flush == CONFIG_FLUSH_AIO ? STORAGE_FLUSH_AIO : STORAGE_FLUSH_SYNC,
    };
    struct error error = { 0 };

    os_sim_on_flush(machine->os, on_flush, machine);
    struct storage *storage = storage_open(machine->os, &options, found, &error);
    if (storage == NULL) {
        trace_line(machine->trace, machine->slot, "will not start: %s", error.text);
        return NULL;
    }
    struct replica_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        abort();
    log->machine = machine;
    log->storage = storage;
    if (found->torn_bytes != 0)
        trace_line(machine->trace, machine->slot, "cut a torn tail at %s", found->torn_at);
    return log;
}

static void storage_log_close(struct replica_log *log)
{
    if (log == NULL)
        return;
    storage_close(log->storage);
    free(log);
}

static int storage_log_append(struct replica_log *log, const struct entry *entry)
{
    return storage_append(log->storage, entry);
}

static int storage_log_vote(struct replica_log *log, uint64_t term, uint32_t voted_for)
{
    return storage_vote(log->storage, term, voted_for);
}

static bool storage_log_room(struct replica_log *log, size_t size, bool reserved)
{
    return storage_room(log->storage, size, reserved);
}

static int storage_log_flush(struct replica_log *log, uint64_t seq)
{
    return storage_flush(log->storage, seq);
}

static bool storage_log_done(struct replica_log *log, uint64_t *seq, int *code)
{
    return storage_done(log->storage, seq, code);
}

static bool storage_log_blocks(const struct replica_log *log)
{
    return storage_fd(log->storage) < 0;
}

static bool storage_log_background(struct replica_log *log, uint64_t now_ns)
{
    return storage_background(log->storage, now_ns);
}

static int storage_log_error(const struct replica_log *log)
{
    return storage_error(log->storage);
}

static int storage_log_entries(struct replica_log *log, uint64_t first, uint32_t count,
                               struct entry *entries)
{
    struct error error = { 0 };
    int code = storage_entries(log->storage, first, count, entries, &error);

    if (code < 0)
        trace_line(log->machine->trace, log->machine->slot, "cannot read the log: %s", error.text);
    return code;
}

static uint64_t storage_log_chain(const struct replica_log *log, uint64_t index)
{
    return storage_chain(log->storage, index);
}

static uint32_t storage_log_size(const struct replica_log *log, uint64_t index)
{
    return storage_size(log->storage, index);
}

static uint64_t storage_log_span(const struct replica_log *log, uint64_t first, uint64_t last)
{
    return storage_span(log->storage, first, last);
}

const struct replica_log_type replica_log_storage = {
    .open = storage_log_open,
    .close = storage_log_close,
    .append = storage_log_append,
    .vote = storage_log_vote,
    .room = storage_log_room,
    .flush = storage_log_flush,
    .done = storage_log_done,
    .blocks = storage_log_blocks,
    .background = storage_log_background,
    .error = storage_log_error,
    .entries = storage_log_entries,
    .chain = storage_log_chain,
    .size = storage_log_size,
    .span = storage_log_span,
};
