/* A file system in memory for the tests of storage: the file, flush and random part of os.h, with
 * what a test must be able to do to it.
 *
 *   - Every file has two states: what a reader sees, and what is on stable storage. Writes change the
 *     first; a flush copies the sectors (512 bytes) that were written since. The same for names: a
 *     new, renamed or removed one becomes stable with its directory.
 *   - os_memory_crash() makes the disk that a power cut would leave: any subset of the unflushed
 *     sectors, any of the unflushed changes of names.
 *   - A flush that fails drops its sectors from the list of what is to be written, as Linux does:
 *     readers still see them, no later flush writes them.
 *   - Any call can be made to fail, to write less than it was asked to, or to find the disk full.
 *
 * Nothing here blocks; flushes on the queue end when os_flush_done() looks, or when the test says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/os/os.h"

enum os_memory_call {
    OS_MEMORY_OPEN,
    OS_MEMORY_PREAD,
    OS_MEMORY_PWRITEV,
    OS_MEMORY_FILE_SIZE,
    OS_MEMORY_TRUNCATE,
    OS_MEMORY_FDATASYNC,
    OS_MEMORY_RENAME,
    OS_MEMORY_UNLINK,
    OS_MEMORY_MKDIR,
    OS_MEMORY_SYNC_DIR,
    OS_MEMORY_LIST_DIR,
    OS_MEMORY_LOCK,
    OS_MEMORY_CLOSE,
    OS_MEMORY_FLUSH_OPEN,
    OS_MEMORY_FLUSH_START,
    OS_MEMORY_FLUSH_DONE,
    OS_MEMORY_CALL_COUNT
};

struct os *os_memory_new(uint64_t seed);
void os_memory_free(struct os *os); /* accepts NULL */

/* -- Making calls fail ------------------------------------------------------------------------- */

/* How often a call was made, failed ones too. */
uint64_t os_memory_count(const struct os *os, enum os_memory_call kind);
uint64_t os_memory_count_all(const struct os *os);
/* The `nth` one from now (1: the next) answers `code`; 0: none. Once. A flush that is to fail is
 * started all the same, and fails. */
void os_memory_fail(struct os *os, enum os_memory_call kind, uint64_t nth, int code);
/* No write takes more than this many bytes (0: no limit). */
void os_memory_write_max(struct os *os, size_t size);
/* Bytes that all files together may have. */
void os_memory_space(struct os *os, uint64_t bytes);
/* Flushes on the queue wait for os_memory_finish() from now on. */
void os_memory_hold_flushes(struct os *os, bool hold);
/* End the flush that was started as the `nth` of those still held (0: the oldest). */
void os_memory_finish(struct os *os, int nth, int result);
int os_memory_held(const struct os *os);
/* Called before every write, flush and change of names: `context`. */
void os_memory_watch(struct os *os, void (*watch)(void *context), void *context);

/* -- Files, past os.h --------------------------------------------------------------------------- */

/* What a reader sees; NULL: no such file. Borrowed until the file changes. Changes made through it
 * (flipped bytes) count as unflushed, unless os_memory_settle() comes behind. */
uint8_t *os_memory_bytes(struct os *os, const char *path, size_t *size);
bool os_memory_exists(const struct os *os, const char *path);
/* Make a file of these bytes, or replace one; stable. */
void os_memory_put(struct os *os, const char *path, const void *bytes, size_t size);
/* Give the file another size; stable. */
void os_memory_resize(struct os *os, const char *path, size_t size);
void os_memory_remove(struct os *os, const char *path);
void os_memory_move(struct os *os, const char *from, const char *to);
/* All that readers see is stable now. */
void os_memory_settle(struct os *os);
/* Descriptors that are open. */
int os_memory_open_count(const struct os *os);

/* -- Power cuts --------------------------------------------------------------------------------- */

/* Unflushed sectors, and changes of names. */
size_t os_memory_dirty_sectors(const struct os *os);
size_t os_memory_dirty_names(const struct os *os);
/* The disk after a power cut. Of the unflushed sectors (numbered by file and offset) those stay for
 * which `keeps` says so (NULL: none); of the changes of names those whose bit is set in
 * `names_kept`. Where `torn` is
 * not 0, a kept sector that is the last one kept holds only its first `torn` new bytes. */
struct os *os_memory_crash(const struct os *os, bool (*keeps)(void *context, size_t sector),
                           void *context, uint64_t names_kept, size_t torn);
/* The same disk for another process, after the end of this one alone: readers see what they saw, and
 * what was not flushed still is not. Flushes under way have not happened. */
struct os *os_memory_kill(const struct os *os);
