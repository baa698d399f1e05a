/* A simulated disk with one file system: what a process sees, what is on stable storage, and the
 * difference, out of which a power cut makes its choice.
 *
 *   - Bytes: a write is visible at once and unstable until a flush of that file that was *started*
 *     after it has ended well. What a power cut keeps of the unstable writes: any subset, torn at 512
 *     bytes or at any byte.
 *   - Names: create, rename and unlink are visible at once and unstable until the directory is synced
 *     (a flushed file that has no stable name is gone). What a power cut keeps of the unstable ones:
 *     any subset, but of one name only a prefix of its changes; renames are atomic.
 *     A file's size grows with its bytes; truncation counts as a write. Sizes are written in order,
 *     apart from the bytes: a cut keeps the effects of a prefix of the changes on the size, so bytes
 *     may be missing (zeros) below it, and bytes that were kept are gone above it.
 *   - The death of the process alone loses nothing that is visible, and makes nothing stable.
 *
 * The disk knows no descriptors and no time: os_sim has both. Paths are compared as text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tests/sim/random.h"
#include "tests/sim/trace.h"

struct disk;      /* opaque */
struct disk_file; /* an inode; lives while it is named or held */

struct disk *disk_new(struct trace *trace, int node);
void disk_free(struct disk *disk); /* accepts NULL */

/* -- What os.h needs; 0, a count or -errno ------------------------------------------------------- */

/* Opens or creates; the file is held until disk_release(). Flags are those of os.h (OS_CREATE, …). */
int disk_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **file);
void disk_hold(struct disk_file *file);
void disk_release(struct disk *disk, struct disk_file *file);
ptrdiff_t disk_read(struct disk *disk, struct disk_file *file, void *bytes, size_t size,
                    uint64_t offset);
/* May be short, where a fault or a full disk says so; -ENOSPC when nothing fits. */
ptrdiff_t disk_write(struct disk *disk, struct disk_file *file, const struct iovec *parts,
                     int part_count, uint64_t offset);
uint64_t disk_size(const struct disk_file *file);
int disk_truncate(struct disk *disk, struct disk_file *file, uint64_t size);
int disk_rename(struct disk *disk, const char *from, const char *to);
int disk_unlink(struct disk *disk, const char *path);
int disk_mkdir(struct disk *disk, const char *path);
int disk_sync_dir(struct disk *disk, const char *path);
int disk_list(struct disk *disk, const char *path, void (*visit)(void *context, const char *name),
              void *context);
/* A flush in two parts, so that time may pass between them: begin returns a mark; end makes stable
 * what was written before the mark (`result` 0), or loses it for good (-EIO: the bytes stay visible
 * and are never made stable by a later flush, as when pages are marked clean: D4). Several may be
 * under way, and end in any order; the caller holds the file (disk_hold) until the end. */
uint64_t disk_flush_begin(struct disk *disk, struct disk_file *file);
void disk_flush_end(struct disk *disk, struct disk_file *file, uint64_t mark, int result);
/* How many flushes of the file have failed. A system tells each open file of an error once: os_sim
 * compares this with what the descriptor has been told. */
uint64_t disk_errors(const struct disk_file *file);

/* -- Death --------------------------------------------------------------------------------------- */

/* The process died: nothing is held any more; flushes under way have not happened. */
void disk_process_died(struct disk *disk);
enum disk_tear { DISK_TEAR_NOTHING, DISK_TEAR_SECTORS, DISK_TEAR_BYTES };
/* The power failed: of what was unstable, chance keeps a subset. All that is left is stable. Includes
 * disk_process_died(). */
void disk_power_cut(struct disk *disk, struct random *random, enum disk_tear tear);
/* The worst cut: nothing unstable is kept. */
void disk_power_cut_all_lost(struct disk *disk);

/* -- Faults -------------------------------------------------------------------------------------- */

/* Bytes that all files together may have; UINT64_MAX: no limit (the default). */
void disk_set_space(struct disk *disk, uint64_t bytes);
uint64_t disk_used(const struct disk *disk);
/* The nth write (1: the next) answers `code`, or, with code 0, is short by half. 0: none. */
void disk_fail_write(struct disk *disk, uint64_t nth, int code);
/* The nth read answers `code`. */
void disk_fail_read(struct disk *disk, uint64_t nth, int code);
/* Flips one bit of a stable byte of the file at `path`. False if there is no such byte. */
bool disk_flip(struct disk *disk, const char *path, uint64_t offset, unsigned bit);
/* The files below `prefix`, in the order of their names; NULL beyond the last. */
const char *disk_name(const struct disk *disk, const char *prefix, int number);

/* -- For the checks ------------------------------------------------------------------------------ */

/* Called when bytes of a named file have become stable: after each good flush, and when its name has
 * become stable by disk_sync_dir(). While it runs, memory is the simulator's. */
void disk_on_stable(struct disk *disk, void (*on_stable)(void *context, const char *path),
                    void *context);
/* What would be left of the file's bytes after the worst cut: `size` stable bytes (borrowed until the
 * file changes), with unstable parts as they were before. NULL if the name is not stable. */
const uint8_t *disk_stable_bytes(const struct disk *disk, const char *path, size_t *size);
/* What a reader sees, or NULL. */
const uint8_t *disk_visible_bytes(const struct disk *disk, const char *path, size_t *size);
size_t disk_unstable_writes(const struct disk *disk);

/* A copy, for tests that try every cut of one state. */
struct disk *disk_clone(const struct disk *disk);
