/* Level 1's log: entries in memory, over a disk that is one list of writes.
 *
 *     writes     e1 e2 v  e3 e4 e3'e4'e5'            (e3' replaces e3 and all behind it)
 *                ---------------|--------|
 *                       flushed ^        ^ a flush is under way: its mark
 *
 * A write is an entry or a vote, in the order of Raft's effects. A flush covers all writes before the
 * mark where it began, takes the time that the machine's chance says, and counts in order: one that is
 * done early waits for those before it, as in server/storage. At most two are under way, what comes
 * meanwhile shares the next.
 *
 * A crash keeps the flushed prefix, and of what follows as much as chance wants: nothing, all, or up
 * to a point between. The choice is made when the next process opens the log, since nobody can look
 * before. What it keeps is on stable storage from then on, as real recovery writes and flushes it anew.
 *
 * The oracle is told what is durable by the disk, when a flush ends, and not by Raft.
 *
 * The disk belongs to the simulator, and outlives the process; entries stand in its chunks and never
 * move, so the process's view of the log (which write holds which index) only points there. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/replica_log.h"
#include "tests/sim/replica_state.h"

#define CHUNK_BYTES (64u * 1024)
#define FLIGHTS_MAX 2u
#define STALL_NS 5000000ull /* how often a flush that hangs looks whether it still does */

struct chunk {
    struct chunk *before;
    size_t used, size;
    uint8_t bytes[];
};

struct disk_write {
    struct entry entry; /* index 0: a vote, whose term this is */
    uint32_t voted_for;
};

struct flight {
    size_t mark;
    uint64_t seq;
    bool is_done;
};

struct memory_disk {
    struct machine *machine;
    struct chunk *chunk;
    struct disk_write *writes;
    size_t write_count, write_capacity;
    size_t flushed;
    /* of the process that has it open */
    uint32_t life;                      /* tells its flushes from those of one that died */
    struct flight flights[FLIGHTS_MAX]; /* by number */
    uint32_t flight_first, flight_last;
    uint64_t done_seq;
    bool has_failed;
};

struct view_entry {
    size_t write;
    uint64_t span; /* bytes of all entries before it, and its own */
};

struct replica_log {
    struct memory_disk *disk;
    struct view_entry *view; /* [index - 1] */
    uint64_t last_index, view_capacity;
    uint64_t taken_seq, waiting_seq; /* waiting: a flush that finds no room under way; 0: none */
};

/* -- The disk ------------------------------------------------------------------------------------ */

void memory_disk_free(struct memory_disk *disk)
{
    if (disk == NULL)
        return;
    while (disk->chunk != NULL) {
        struct chunk *chunk = disk->chunk;
        disk->chunk = chunk->before;
        free(chunk);
    }
    free(disk->writes);
    free(disk);
}

static uint8_t *take_bytes(struct memory_disk *disk, size_t size)
{
    struct chunk *chunk = disk->chunk;

    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;
        chunk = malloc(sizeof *chunk + room);
        if (chunk == NULL)
            abort();
        *chunk = (struct chunk){ .before = disk->chunk, .size = room };
        disk->chunk = chunk;
    }
    uint8_t *bytes = chunk->bytes + chunk->used;
    chunk->used += size;
    return bytes;
}

static struct disk_write *take_write(struct memory_disk *disk)
{
    if (disk->write_count == disk->write_capacity) {
        disk->write_capacity = disk->write_capacity == 0 ? 256 : 2 * disk->write_capacity;
        disk->writes = realloc(disk->writes, disk->write_capacity * sizeof *disk->writes);
        if (disk->writes == NULL)
            abort();
    }
    return &disk->writes[disk->write_count++];
}

static void write_entry(struct memory_disk *disk, const struct entry *entry)
{
    struct memory *before = memory_enter(NULL);
    uint8_t *bytes = take_bytes(disk, entry->size);
    struct disk_write *write = take_write(disk);

    memcpy(bytes, entry->bytes, entry->size);
    *write = (struct disk_write){ .entry = *entry };
    write->entry.bytes = bytes;
    write->entry.payload = bytes + ENTRY_HEADER_SIZE;
    (void)memory_enter(before);
}

static void write_vote(struct memory_disk *disk, uint64_t term, uint32_t voted_for)
{
    struct memory *before = memory_enter(NULL);

    *take_write(disk) =
        (struct disk_write){ .entry = { .index = 0, .term = term }, .voted_for = voted_for };
    (void)memory_enter(before);
}

/* Everything before `mark` is on stable storage. */
static void make_stable(struct memory_disk *disk, size_t mark)
{
    const struct replicas *replicas = disk->machine->user;
    int slot = disk->machine->slot;

    for (; disk->flushed < mark; disk->flushed++) {
        const struct disk_write *write = &disk->writes[disk->flushed];
        const struct entry *entry = &write->entry;
        if (entry->index == 0)
            oracle_durable_vote(replicas->oracle, slot, entry->term, write->voted_for);
        else
            oracle_durable_entry(replicas->oracle, slot, entry->index, entry->term, entry->chain);
    }
}

/* -- Flushes ------------------------------------------------------------------------------------- */

static void count_in_order(struct memory_disk *disk)
{
    while (disk->flight_first != disk->flight_last) {
        const struct flight *flight = &disk->flights[disk->flight_first % FLIGHTS_MAX];
        if (!flight->is_done)
            return;
        make_stable(disk, flight->mark);
        disk->done_seq = flight->seq;
        disk->flight_first++;
    }
}

static void end_flush(void *owner, uint64_t argument);

static void schedule_end(struct memory_disk *disk, uint64_t now_ns, uint64_t argument)
{
    uint64_t takes_ns = machine_flush_ns(disk->machine);
    bool hangs = takes_ns == UINT64_MAX;

    timeline_at(disk->machine->timeline, now_ns + (hangs ? STALL_NS : takes_ns), end_flush, disk,
                argument << 1 | (uint64_t)hangs);
}

/* `argument`: the process's life (31 bits), the flight's number (32), and whether it hung. */
static void end_flush(void *owner, uint64_t argument)
{
    struct memory_disk *disk = owner;
    struct machine *machine = disk->machine;
    bool hung = argument & 1;
    uint32_t number = (uint32_t)(argument >> 1);
    uint64_t now_ns = timeline_now_ns(machine->timeline);

    if (argument >> 33 != disk->life || !replica_is_up(machine) || disk->has_failed)
        return;
    if (hung) {
        schedule_end(disk, now_ns, argument >> 1);
        return;
    }
    if (machine_flush_result(machine) != 0) {
        disk->has_failed = true;
        trace_line(machine->trace, machine->slot, "a flush fails");
    } else {
        disk->flights[number % FLIGHTS_MAX].is_done = true;
        count_in_order(disk);
    }
    machine_wake(machine, now_ns);
}

static void begin_flush(struct memory_disk *disk, uint64_t seq)
{
    struct memory *before = memory_enter(NULL);
    uint32_t number = disk->flight_last++;

    disk->flights[number % FLIGHTS_MAX] = (struct flight){ .mark = disk->write_count, .seq = seq };
    schedule_end(disk, timeline_now_ns(disk->machine->timeline),
                 (uint64_t)disk->life << 32 | number);
    (void)memory_enter(before);
}

/* -- The process's view -------------------------------------------------------------------------- */

static const struct entry *entry_at(const struct replica_log *log, uint64_t index)
{
    assert(index >= 1 && index <= log->last_index);
    return &log->disk->writes[log->view[index - 1].write].entry;
}

static uint64_t span_to(const struct replica_log *log, uint64_t index)
{
    return index == 0 ? 0 : log->view[index - 1].span;
}

/* The disk's write number `write` is the log's newest entry now. */
static void see_entry(struct replica_log *log, size_t write)
{
    const struct entry *entry = &log->disk->writes[write].entry;

    assert(entry->index >= 1 && entry->index <= log->last_index + 1);
    log->last_index = entry->index;
    if (log->last_index > log->view_capacity) {
        log->view_capacity = log->view_capacity == 0 ? 256 : 2 * log->view_capacity;
        log->view = realloc(log->view, log->view_capacity * sizeof *log->view);
        if (log->view == NULL)
            abort();
    }
    log->view[entry->index - 1] =
        (struct view_entry){ .write = write, .span = span_to(log, entry->index - 1) + entry->size };
}

/* -- Recovery ------------------------------------------------------------------------------------ */

static struct memory_disk *disk_of(struct machine *machine)
{
    struct replica_host *host = replica_host_of(machine);

    if (host->disk == NULL) {
        struct memory *before = memory_enter(NULL);
        host->disk = calloc(1, sizeof *host->disk);
        (void)memory_enter(before);
        if (host->disk == NULL)
            abort();
        host->disk->machine = machine;
    }
    return host->disk;
}

/* What the crash has left of the writes that were not flushed. */
static size_t draw_kept(struct memory_disk *disk)
{
    struct random *random = &disk->machine->random;

    switch (random_below(random, 3)) {
    case 0:
        return disk->flushed;
    case 1:
        return disk->write_count;
    default:
        return random_between(random, disk->flushed, disk->write_count);
    }
}

static void settle(struct memory_disk *disk)
{
    struct memory *before = memory_enter(NULL);

    if (disk->flushed < disk->write_count)
        disk->write_count = draw_kept(disk);
    make_stable(disk, disk->write_count);
    disk->life = (disk->life + 1) & INT32_MAX;
    disk->flight_first = disk->flight_last = 0;
    disk->done_seq = 0;
    disk->has_failed = false;
    (void)memory_enter(before);
}

/* Term and vote, as the last writes say: an entry of a higher term has moved the term too. */
static void read_writes(struct replica_log *log, struct storage_recovered *found)
{
    const struct memory_disk *disk = log->disk;

    *found = (struct storage_recovered){ .voted_for = RAFT_NODE_NONE, .first_index = 1 };
    for (size_t i = 0; i < disk->write_count; i++) {
        const struct disk_write *write = &disk->writes[i];
        if (write->entry.index != 0)
            see_entry(log, i);
        else
            found->voted_for = write->voted_for;
        if (write->entry.index != 0 && write->entry.term > found->term)
            found->voted_for = RAFT_NODE_NONE;
        if (write->entry.term > found->term)
            found->term = write->entry.term;
    }
    found->last_index = log->last_index;
    found->records = disk->write_count;
    found->fresh = disk->write_count == 0;
    found->last_clock_ms = log->last_index == 0 ? 0 : entry_at(log, log->last_index)->clock_ms;
}

static void read_runs(const struct replica_log *log, struct storage_recovered *found)
{
    uint32_t capacity = 0;

    for (uint64_t index = 1; index <= log->last_index; index++) {
        uint64_t term = entry_at(log, index)->term;
        if (found->run_count > 0 && found->runs[found->run_count - 1].term == term)
            continue;
        if (found->run_count == capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            found->runs = realloc(found->runs, capacity * sizeof *found->runs);
            if (found->runs == NULL)
                abort();
        }
        found->runs[found->run_count++] = (struct storage_run){ .term = term, .first = index };
    }
}

static struct replica_log *memory_log_open(struct machine *machine, struct storage_recovered *found)
{
    struct replica_log *log = calloc(1, sizeof *log);

    if (log == NULL)
        abort();
    log->disk = disk_of(machine);
    settle(log->disk);
    read_writes(log, found);
    read_runs(log, found);
    return log;
}

static void memory_log_close(struct replica_log *log)
{
    if (log == NULL)
        return;
    free(log->view);
    free(log);
}

/* -- The interface ------------------------------------------------------------------------------- */

static int memory_log_append(struct replica_log *log, const struct entry *entry)
{
    write_entry(log->disk, entry);
    see_entry(log, log->disk->write_count - 1);
    return 0;
}

static int memory_log_vote(struct replica_log *log, uint64_t term, uint32_t voted_for)
{
    write_vote(log->disk, term, voted_for);
    return 0;
}

static bool memory_log_room(struct replica_log *log, size_t size, bool reserved)
{
    (void)log;
    (void)size;
    (void)reserved;
    return true;
}

/* Nothing has changed yet when the call is counted: it may be the one that does not return. */
static int memory_log_flush(struct replica_log *log, uint64_t seq)
{
    struct memory_disk *disk = log->disk;

    machine_call(disk->machine);
    if (disk->flight_last - disk->flight_first == FLIGHTS_MAX)
        log->waiting_seq = seq;
    else
        begin_flush(disk, seq);
    return 0;
}

static bool memory_log_done(struct replica_log *log, uint64_t *seq, int *code)
{
    struct memory_disk *disk = log->disk;

    *code = disk->has_failed ? -EIO : 0;
    if (log->waiting_seq != 0 && !disk->has_failed &&
        disk->flight_last - disk->flight_first < FLIGHTS_MAX) {
        begin_flush(disk, log->waiting_seq);
        log->waiting_seq = 0;
    }
    if (disk->done_seq == log->taken_seq)
        return false;
    *seq = log->taken_seq = disk->done_seq;
    return true;
}

static bool memory_log_blocks(const struct replica_log *log)
{
    (void)log;
    return false;
}

/* This disk never fails: it hangs, or is slow. */
static int memory_log_error(const struct replica_log *log)
{
    (void)log;
    return 0;
}

static bool memory_log_background(struct replica_log *log, uint64_t now_ns)
{
    (void)log;
    (void)now_ns;
    return false;
}

static int memory_log_entries(struct replica_log *log, uint64_t first, uint32_t count,
                              struct entry *entries)
{
    for (uint32_t i = 0; i < count; i++)
        entries[i] = *entry_at(log, first + i);
    return 0;
}

static uint64_t memory_log_chain(const struct replica_log *log, uint64_t index)
{
    return index == 0 ? 0 : entry_at(log, index)->chain;
}

static uint32_t memory_log_size(const struct replica_log *log, uint64_t index)
{
    return entry_at(log, index)->size;
}

static uint64_t memory_log_span(const struct replica_log *log, uint64_t first, uint64_t last)
{
    return span_to(log, last) - span_to(log, first - 1);
}

const struct replica_log_type replica_log_memory = {
    .open = memory_log_open,
    .close = memory_log_close,
    .append = memory_log_append,
    .vote = memory_log_vote,
    .room = memory_log_room,
    .flush = memory_log_flush,
    .done = memory_log_done,
    .blocks = memory_log_blocks,
    .background = memory_log_background,
    .error = memory_log_error,
    .entries = memory_log_entries,
    .chain = memory_log_chain,
    .size = memory_log_size,
    .span = memory_log_span,
};
