/* The log of a replica, behind one small interface, of which there are two:
 *
 *   replica_log_memory    level 1: entries in memory, and a disk that is a list of writes
 *   replica_log_storage   level 2: server/storage over the simulated system
 *
 * The functions mean what those of server/storage/storage.h mean, word for word. Both live in a
 * process's memory; what outlives it is in the machine's disk (level 2) or host (level 1). */
#pragma once

#include "server/storage/storage.h"
#include "tests/sim/machine.h"
#include "tests/sim/replica.h"

struct replica_log; /* opaque; each implementation has its own */

struct replica_log_type {
    /* Recovers. NULL: it refuses to start, and has told the trace why. `found->runs` is the caller's
     * to free. */
    struct replica_log *(*open)(struct machine *machine, struct storage_recovered *found);
    void (*close)(struct replica_log *log); /* accepts NULL */
    int (*append)(struct replica_log *log, const struct entry *entry);
    int (*vote)(struct replica_log *log, uint64_t term, uint32_t voted_for);
    bool (*room)(struct replica_log *log, size_t size, bool reserved);
    int (*flush)(struct replica_log *log, uint64_t seq);
    bool (*done)(struct replica_log *log, uint64_t *seq, int *code);
    bool (*blocks)(const struct replica_log *log); /* a flush is done when flush() returns */
    bool (*background)(struct replica_log *log, uint64_t now_ns);
    int (*error)(const struct replica_log *log);
    int (*entries)(struct replica_log *log, uint64_t first, uint32_t count, struct entry *entries);
    uint64_t (*chain)(const struct replica_log *log, uint64_t index);
    uint32_t (*size)(const struct replica_log *log, uint64_t index);
    uint64_t (*span)(const struct replica_log *log, uint64_t first, uint64_t last);
};

extern const struct replica_log_type replica_log_memory;
extern const struct replica_log_type replica_log_storage;

/* Level 1's disk: outlives processes. Made by the first open(); freed with the host. */
struct memory_disk;
void memory_disk_free(struct memory_disk *disk); /* accepts NULL */
