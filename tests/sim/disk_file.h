/* One file of a simulated disk: what a reader sees, what is stable, and the writes between the two.
 * Only disk.c uses this; it has the names, the space and the faults.
 *
 * Every change carries a sequence number, growing; a flush makes stable (or loses) all changes
 * up to the mark that was current when it began. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tests/sim/disk.h"
#include "tests/sim/random.h"

#define FILE_BLOCK 4096
#define FILE_SIZE_MAX (UINT64_C(1) << 32)

struct file_change; /* opaque */

struct disk_file {
    uint64_t number; /* in the order of their creation */
    bool is_directory;
    /* Owned by disk.c. */
    uint32_t references;   /* names seen, names stable, changes of names */
    const char *seen_path; /* what readers call it (there are no links); NULL: nothing */
    uint32_t holders;
    uint64_t errors;                   /* flushes that have failed */
    struct disk_file *previous, *next; /* all files, by number */
    /* Owned by disk_file.c. */
    uint8_t *seen, *stable; /* `capacity` bytes each, zero behind the sizes */
    uint8_t *blocks;        /* for each block of the capacity: who has allocated it */
    size_t seen_size, stable_size, capacity;
    size_t bytes_end; /* behind it there have only been zeros, in either image */
    bool is_shared;   /* both images are the same bytes in one place */
    bool has_lost;    /* a flush has failed: readers see what is not stable and never will be */
    uint64_t seen_blocks;
    struct file_change *changes; /* unstable, in their order */
    size_t change_count, change_capacity;
};

struct disk_file *file_new(uint64_t number, bool is_directory);
struct disk_file *file_clone(const struct disk_file *file); /* in no list, nobody's */
void file_free(struct disk_file *file);

/* How many of `size` bytes at `offset` can be written with so many free blocks. */
size_t file_room(const struct disk_file *file, uint64_t offset, size_t size, uint64_t free_blocks);
/* True if all of it is zeros. */
bool file_write(struct disk_file *file, const struct iovec *parts, size_t size, uint64_t offset,
                uint64_t sequence);
void file_truncate(struct disk_file *file, uint64_t size, uint64_t sequence);
/* The changes up to the mark become stable; returns how many. */
size_t file_settle(struct disk_file *file, uint64_t mark);
/* The changes up to the mark will never be stable; returns how many. */
size_t file_lose(struct disk_file *file, uint64_t mark);
/* Where both images are equal, keep one. */
void file_share(struct disk_file *file);
void file_flip(struct disk_file *file, uint64_t offset, unsigned bit);

/* What the power leaves; returns how many changes were kept, whole or in part. */
size_t file_cut(struct disk_file *file, struct random *random, enum disk_tear tear);
size_t file_cut_all_lost(struct disk_file *file);

/* How much of the unstable a cut keeps, drawn for each file and each set of names: per mille.
 * All and nothing are as likely as anything between. */
uint32_t file_draw_keep(struct random *random);
