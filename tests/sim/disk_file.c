/* A file has two images of its bytes. Writes go to the one that readers see, and are noted; a flush
 * copies what was noted to the stable one. So all of it costs what the bytes cost that are touched,
 * and what is stable can be looked at in place.
 *
 * A noted write has no copy of its bytes: they stand in the seen image, until another write is
 * about to go over them; then they are saved first. A log hardly ever writes over what it has not
 * flushed.
 *
 * A new log segment is filled with zeros first. Behind the sizes there are zeros in any case, so
 * such a write is noted and changes the sizes, and not a byte is touched.
 *
 * Once nothing is unstable the images are equal. A file that is closed then gives one of them back,
 * and makes it anew when it is written to again: old segments count once.
 *
 * A power cut decides twice for each noted change:
 *
 *   - Data: each write is kept or not, for itself, whatever comes before or behind it. A kept write
 *     may be torn: some of its sectors, or a prefix of its bytes.
 *   - Sizes: they are metadata, written in order. A prefix of the changes has had its effect on the
 *     size (growth by a write, or a truncation, with what a truncation throws away); with tearing
 *     at bytes, the last growth may be partial. Bytes that are kept behind the size are lost all
 *     the same, and a size without its bytes shows zeros.
 *
 * That includes what a file system with ordered data does, and what one with neither does. A
 * failed flush takes its changes off the list: as where the kernel marks pages clean that it
 * could not write, readers go on seeing them, and nothing makes them stable but writing them
 * again. */
#include "tests/sim/disk_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 256
#define FRAME_BYTES 64 /* of a record of the log */
#define SECTOR 512
#define BLOCK_SEEN 1u
#define BLOCK_STABLE 2u

struct file_change {
    bool is_truncation;
    bool is_zeros; /* a write of nothing else */
    uint64_t sequence;
    uint64_t offset; /* of a truncation: the new size */
    size_t size;
    uint8_t *saved; /* the bytes, once the seen image has others */
};

/* -- Memory ------------------------------------------------------------------------------------ */

struct disk_file *file_new(uint64_t number, bool is_directory)
{
    struct disk_file *file = calloc(1, sizeof *file);
    assert(file != NULL);
    file->number = number;
    file->is_directory = is_directory;
    return file;
}

static void drop_changes(struct disk_file *file, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(file->changes[i].saved);
    file->change_count -= count;
    if (file->change_count != 0)
        memmove(file->changes, file->changes + count, file->change_count * sizeof *file->changes);
}

void file_free(struct disk_file *file)
{
    drop_changes(file, file->change_count);
    if (!file->is_shared)
        free(file->stable);
    free(file->seen);
    free(file->blocks);
    free(file->changes);
    free(file);
}

static void *copy_of(const void *bytes, size_t size)
{
    if (size == 0)
        return NULL;
    void *copy = malloc(size);
    assert(copy != NULL);
    return memcpy(copy, bytes, size);
}

struct disk_file *file_clone(const struct disk_file *file)
{
    struct disk_file *clone = file_new(file->number, file->is_directory);
    *clone = *file;
    clone->references = 0;
    clone->seen_path = NULL;
    clone->previous = clone->next = NULL;
    clone->seen = copy_of(file->seen, file->capacity);
    clone->stable = file->is_shared ? clone->seen : copy_of(file->stable, file->capacity);
    clone->blocks = copy_of(file->blocks, file->capacity / FILE_BLOCK);
    clone->changes = copy_of(file->changes, file->change_count * sizeof *file->changes);
    clone->change_capacity = file->change_count;
    for (size_t i = 0; i < clone->change_count; i++)
        if (file->changes[i].saved != NULL)
            clone->changes[i].saved = copy_of(file->changes[i].saved, file->changes[i].size);
    return clone;
}

/* `size` bytes, of which the first ones are these; zeros that nobody writes to need no memory. */
static uint8_t *image_of(const uint8_t *bytes, size_t used, size_t size)
{
    uint8_t *image = calloc(1, size);
    assert(image != NULL);
    if (used != 0)
        memcpy(image, bytes, used);
    return image;
}

static void unshare(struct disk_file *file)
{
    if (!file->is_shared)
        return;
    file->stable =
        file->capacity == 0 ? NULL : image_of(file->seen, file->bytes_end, file->capacity);
    file->is_shared = false;
}

void file_share(struct disk_file *file)
{
    if (file->is_shared || file->has_lost || file->change_count != 0)
        return;
    assert(file->seen_size == file->stable_size);
    free(file->stable);
    file->stable = file->seen;
    file->is_shared = true;
}

static uint8_t *grown(uint8_t *bytes, size_t used, size_t size)
{
    uint8_t *longer = image_of(bytes, used, size);
    free(bytes);
    return longer;
}

/* Room for `size` bytes in either image, of which each is the file's own from then on. */
static void reserve(struct disk_file *file, uint64_t size)
{
    assert(size <= FILE_SIZE_MAX);
    unshare(file);
    size_t before = file->capacity;
    if (size <= before)
        return;
    size_t capacity = ((size_t)size + FILE_BLOCK - 1) / FILE_BLOCK * FILE_BLOCK;
    if (capacity < 2 * before)
        capacity = 2 * before;
    file->seen = grown(file->seen, file->bytes_end, capacity);
    file->stable = grown(file->stable, file->bytes_end, capacity);
    file->blocks = grown(file->blocks, before / FILE_BLOCK, capacity / FILE_BLOCK);
    file->capacity = capacity;
}

/* -- Blocks ------------------------------------------------------------------------------------ */

static void allocate(struct disk_file *file, uint64_t offset, size_t size, unsigned who)
{
    if (size == 0)
        return;
    for (uint64_t i = offset / FILE_BLOCK; i <= (offset + size - 1) / FILE_BLOCK; i++) {
        if (who == BLOCK_SEEN && (file->blocks[i] & BLOCK_SEEN) == 0)
            file->seen_blocks++;
        file->blocks[i] = (uint8_t)(file->blocks[i] | who);
    }
}

static void deallocate_from(struct disk_file *file, uint64_t size, unsigned who)
{
    for (uint64_t i = (size + FILE_BLOCK - 1) / FILE_BLOCK; i < file->capacity / FILE_BLOCK; i++) {
        if (who == BLOCK_SEEN && (file->blocks[i] & BLOCK_SEEN) != 0)
            file->seen_blocks--;
        file->blocks[i] = (uint8_t)(file->blocks[i] & ~who);
    }
}

size_t file_room(const struct disk_file *file, uint64_t offset, size_t size, uint64_t free_blocks)
{
    uint64_t end = offset + size;
    for (uint64_t at = offset; at < end; at = (at / FILE_BLOCK + 1) * FILE_BLOCK) {
        if (at < file->capacity && (file->blocks[at / FILE_BLOCK] & BLOCK_SEEN) != 0)
            continue;
        if (free_blocks == 0)
            return (size_t)(at - offset);
        free_blocks--;
    }
    return size;
}

/* -- What readers see -------------------------------------------------------------------------- */

static const uint8_t *bytes_of(const struct disk_file *file, const struct file_change *change)
{
    return change->saved != NULL ? change->saved : file->seen + change->offset;
}

/* The seen image is about to change from `from` to `to`: noted writes keep what they wrote
 * there. */
static void save_overlapped(struct disk_file *file, uint64_t from, uint64_t to)
{
    for (size_t i = 0; i < file->change_count; i++) {
        struct file_change *change = &file->changes[i];
        bool overlaps = change->offset < to && change->offset + change->size > from;
        if (!change->is_truncation && change->saved == NULL && overlaps)
            change->saved = copy_of(file->seen + change->offset, change->size);
    }
}

static void note(struct disk_file *file, const struct file_change *change)
{
    if (file->change_count == file->change_capacity) {
        size_t capacity = file->change_capacity == 0 ? 4 : 2 * file->change_capacity;
        file->changes = realloc(file->changes, capacity * sizeof *file->changes);
        assert(file->changes != NULL);
        file->change_capacity = capacity;
    }
    assert(file->change_count == 0 ||
           file->changes[file->change_count - 1].sequence < change->sequence);
    file->changes[file->change_count++] = *change;
}

static bool are_zeros(const struct iovec *parts, size_t size)
{
    for (size_t left = size; left != 0; parts++) {
        const uint8_t *bytes = parts->iov_base;
        size_t piece = parts->iov_len < left ? parts->iov_len : left;
        if (piece != 0 && (bytes[0] != 0 || memcmp(bytes, bytes + 1, piece - 1) != 0))
            return false;
        left -= piece;
    }
    return true;
}

static void put_seen(struct disk_file *file, const struct iovec *parts, size_t size,
                     uint64_t offset)
{
    uint8_t *at = file->seen + offset;
    for (size_t left = size; left != 0; parts++) {
        size_t piece = parts->iov_len < left ? parts->iov_len : left;
        if (piece != 0)
            memcpy(at, parts->iov_base, piece);
        at += piece;
        left -= piece;
    }
}

bool file_write(struct disk_file *file, const struct iovec *parts, size_t size, uint64_t offset,
                uint64_t sequence)
{
    assert(size != 0);
    bool is_zeros = are_zeros(parts, size);
    reserve(file, offset + size);
    if (offset < file->seen_size || !is_zeros) { /* behind the size are zeros */
        save_overlapped(file, offset, offset + size);
        put_seen(file, parts, size, offset);
        if (offset + size > file->bytes_end)
            file->bytes_end = (size_t)(offset + size);
    }
    if (offset + size > file->seen_size)
        file->seen_size = (size_t)(offset + size);
    allocate(file, offset, size, BLOCK_SEEN);
    note(file, &(struct file_change){
                   .is_zeros = is_zeros, .sequence = sequence, .offset = offset, .size = size });
    return is_zeros;
}

void file_truncate(struct disk_file *file, uint64_t size, uint64_t sequence)
{
    if (size == file->seen_size)
        return;
    reserve(file, size);
    if (size < file->seen_size) {
        save_overlapped(file, size, file->seen_size);
        memset(file->seen + size, 0, file->seen_size - (size_t)size);
        deallocate_from(file, size, BLOCK_SEEN);
    }
    file->seen_size = (size_t)size;
    note(file,
         &(struct file_change){ .is_truncation = true, .sequence = sequence, .offset = size });
}

/* -- What is stable ---------------------------------------------------------------------------- */

static void put_stable(struct disk_file *file, uint64_t offset, const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return;
    memcpy(file->stable + offset, bytes, size);
    allocate(file, offset, size, BLOCK_STABLE);
}

/* Everything behind `size` is gone; `end`: where bytes that are not zero may end. */
static void cut_stable(struct disk_file *file, uint64_t size, uint64_t end)
{
    if (end > size)
        memset(file->stable + size, 0, (size_t)(end - size));
    deallocate_from(file, size, BLOCK_STABLE);
}

static uint64_t size_after(const struct file_change *change, uint64_t size)
{
    if (change->is_truncation)
        return change->offset;
    uint64_t end = change->offset + change->size;
    return end > size ? end : size;
}

static size_t count_until(const struct disk_file *file, uint64_t mark)
{
    size_t count = 0;
    while (count < file->change_count && file->changes[count].sequence <= mark)
        count++;
    return count;
}

size_t file_settle(struct disk_file *file, uint64_t mark)
{
    size_t count = count_until(file, mark);
    for (size_t i = 0; i < count; i++) {
        const struct file_change *change = &file->changes[i];
        if (change->is_zeros && change->offset >= file->stable_size)
            allocate(file, change->offset, change->size, BLOCK_STABLE); /* zeros they are */
        else if (!change->is_truncation)
            put_stable(file, change->offset, bytes_of(file, change), change->size);
        else
            cut_stable(file, change->offset, file->stable_size);
        file->stable_size = (size_t)size_after(change, file->stable_size);
    }
    drop_changes(file, count);
    return count;
}

size_t file_lose(struct disk_file *file, uint64_t mark)
{
    size_t count = count_until(file, mark);
    drop_changes(file, count);
    file->has_lost = file->has_lost || count != 0;
    return count;
}

void file_flip(struct disk_file *file, uint64_t offset, unsigned bit)
{
    assert(offset < file->stable_size && bit < 8);
    file->stable[offset] = (uint8_t)(file->stable[offset] ^ 1u << bit);
    if (offset >= file->bytes_end)
        file->bytes_end = (size_t)offset + 1;
    if (file->is_shared || offset >= file->seen_size)
        return;
    for (size_t i = 0; i < file->change_count; i++)
        if (!file->changes[i].is_truncation && offset >= file->changes[i].offset &&
            offset - file->changes[i].offset < file->changes[i].size)
            return; /* readers see what was written over it since */
    file->seen[offset] = (uint8_t)(file->seen[offset] ^ 1u << bit);
}

/* -- Power cuts -------------------------------------------------------------------------------- */

uint32_t file_draw_keep(struct random *random)
{
    static const uint32_t per_mille[] = { 0, 100, 500, 900, 1000 };
    return per_mille[random_below(random, sizeof per_mille / sizeof per_mille[0])];
}

static void keep_sectors(struct disk_file *file, const struct file_change *change,
                         struct random *random)
{
    const uint8_t *bytes = bytes_of(file, change);
    uint64_t end = change->offset + change->size, coins = 0;
    uint32_t coin_count = 0;
    for (uint64_t at = change->offset, next; at < end; at = next) {
        next = (at / SECTOR + 1) * SECTOR;
        if (next > end)
            next = end;
        if (coin_count-- == 0) {
            coins = random_next(random);
            coin_count = 63;
        }
        if ((coins >> coin_count & 1) != 0)
            put_stable(file, at, bytes + (at - change->offset), (size_t)(next - at));
    }
}

/* Anywhere; among the first bytes, which of a short record are all there is; or just behind the frame
 * of a record, whose content is then missing. */
static size_t draw_break(const struct file_change *change, struct random *random)
{
    uint64_t way = random_below(random, 3);
    if (way == 0 && change->size > FRAME_BYTES + 4)
        return FRAME_BYTES + (size_t)random_below(random, 4);
    bool is_early = way == 1 && change->size > FIRST_BYTES;
    return (size_t)random_below(random, is_early ? FIRST_BYTES : change->size);
}

static void keep_write(struct disk_file *file, const struct file_change *change,
                       struct random *random, enum disk_tear tear)
{
    bool is_torn = tear != DISK_TEAR_NOTHING && random_chance(random, 500);
    if (is_torn && (tear == DISK_TEAR_SECTORS || random_chance(random, 500))) {
        keep_sectors(file, change, random);
        return;
    }
    size_t size = is_torn ? draw_break(change, random) : change->size;
    put_stable(file, change->offset, bytes_of(file, change), size);
}

/* How many of the changes have had their effect on the size. */
static size_t draw_sizes_kept(const struct disk_file *file, struct random *random)
{
    switch (random_below(random, 4)) {
    case 0:
        return 0;
    case 1:
        return file->change_count;
    default:
        return (size_t)random_between(random, 0, file->change_count);
    }
}

/* Readers see what is stable, and nothing else exists. */
static void settle_cut(struct disk_file *file)
{
    drop_changes(file, file->change_count);
    if (!file->is_shared)
        free(file->seen);
    file->seen = file->stable;
    file->is_shared = true;
    file->has_lost = false;
    file->seen_size = file->stable_size;
    file->seen_blocks = 0;
    for (size_t i = 0; i < file->capacity / FILE_BLOCK; i++) {
        bool is_allocated = (file->blocks[i] & BLOCK_STABLE) != 0;
        file->blocks[i] = is_allocated ? BLOCK_SEEN | BLOCK_STABLE : 0;
        file->seen_blocks += is_allocated;
    }
}

size_t file_cut(struct disk_file *file, struct random *random, enum disk_tear tear)
{
    if (file->change_count == 0)
        return file_cut_all_lost(file);
    uint32_t keep = file_draw_keep(random);
    size_t sizes_kept = draw_sizes_kept(file, random), kept = 0;
    uint64_t size = file->stable_size, size_before = size;
    for (size_t i = 0; i < file->change_count; i++) {
        const struct file_change *change = &file->changes[i];
        if (!change->is_truncation && random_chance(random, keep)) {
            keep_write(file, change, random, tear);
            kept++;
        }
        if (i >= sizes_kept)
            continue;
        size_before = size;
        size = size_after(change, size);
        if (change->is_truncation) {
            cut_stable(file, size, file->capacity);
            kept++;
        }
    }
    bool is_growth = sizes_kept != 0 && !file->changes[sizes_kept - 1].is_truncation;
    if (tear == DISK_TEAR_BYTES && is_growth && random_chance(random, 300))
        size = random_between(random, size_before, size);
    cut_stable(file, size, file->capacity);
    file->stable_size = (size_t)size;
    settle_cut(file);
    return kept;
}

size_t file_cut_all_lost(struct disk_file *file)
{
    if (file->change_count != 0 || file->has_lost || !file->is_shared)
        settle_cut(file);
    return 0;
}
