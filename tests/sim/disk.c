/* Names, space and faults of a simulated disk; the bytes of files are in disk_file.c.
 *
 * Names are two sorted tables, from paths to files: what a reader sees, and what is stable; and
 * between the two a journal of changes in their order. A change puts a name (create), takes one
 * away (unlink), or does both at once (rename). Syncing a directory carries the changes that touch
 * it over to the stable table, and with them those that stand before them under the same names: a
 * rename out of another directory takes the creation there along.
 *
 * A power cut carries over a subset of the journal. It goes through it in order, and a change that
 * is dropped bars its names: whatever comes later under one of them is dropped as well. So each
 * name keeps a prefix of its changes, and every combination of prefixes that no rename ties
 * together can come up. A name whose directory did not make it is gone with it.
 *
 * Space is counted in blocks of 4 KiB, those that readers' files have allocated: holes are free,
 * and a file that is neither named nor held counts no more.
 *
 * Calls come in the middle of processes' turns: what is allocated here is booked to the simulator.
 * No call is left half-way, there is nothing in it that could. */
#include "tests/sim/disk.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "server/os/os.h"
#include "tests/sim/disk_file.h"
#include "tests/sim/memory.h"

struct name {
    char *path;
    struct disk_file *file;
};

struct names { /* in the order of strcmp() */
    struct name *items;
    size_t count, capacity;
};

struct name_change {
    char *from; /* taken away; NULL: nothing */
    char *to;   /* put; NULL: nothing */
    struct disk_file *file;
    bool is_taken; /* while changes are chosen */
};

struct fault {
    uint64_t in; /* 1: the next; 0: none */
    int code;
};

struct disk {
    struct trace *trace; /* NULL: of a clone */
    int node;
    uint64_t sequence; /* of the newest change of any file */
    uint64_t files_made;
    struct disk_file *first, *last;
    struct names seen, stable;
    struct name_change *changes;
    size_t change_count, change_capacity;
    uint64_t used_blocks, space_blocks;
    size_t unstable_writes;
    struct fault write_fault, read_fault;
    void (*on_stable)(void *context, const char *path);
    void *on_stable_context;
};

/* -- Paths ------------------------------------------------------------------------------------- */

static char *path_copy(const char *path)
{
    size_t size = strlen(path) + 1;
    char *copy = malloc(size);
    assert(copy != NULL);
    return memcpy(copy, path, size);
}

/* How much of the path is its directory; 0: it stands at the top. */
static size_t parent_size(const char *path, size_t size)
{
    while (size != 0 && path[size - 1] != '/')
        size--;
    return size == 0 ? 0 : size - 1;
}

/* Where everything begins: always there, always stable. */
static bool is_top(const char *path, size_t size)
{
    return size == 0 || (size == 1 && (path[0] == '.' || path[0] == '/'));
}

/* -- Tables of names --------------------------------------------------------------------------- */

/* The first name that is not before the path. */
static size_t names_place(const struct names *names, const char *path, size_t size)
{
    size_t low = 0, high = names->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *other = names->items[middle].path;
        /* Equal so far: the other goes on, and is behind, or ends here too. */
        if (strncmp(other, path, size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct disk_file *names_find(const struct names *names, const char *path, size_t size)
{
    size_t place = names_place(names, path, size);
    if (place == names->count || strncmp(names->items[place].path, path, size) != 0 ||
        names->items[place].path[size] != '\0')
        return NULL;
    return names->items[place].file;
}

static bool has_directory(const struct names *names, const char *path, size_t size)
{
    if (is_top(path, size))
        return true;
    const struct disk_file *file = names_find(names, path, size);
    return file != NULL && file->is_directory;
}

/* Whether the name and all directories above it are there. */
static bool is_reachable(const struct names *names, const char *path)
{
    size_t size = strlen(path);
    if (names_find(names, path, size) == NULL)
        return false;
    for (size = parent_size(path, size); !is_top(path, size); size = parent_size(path, size))
        if (!has_directory(names, path, size))
            return false;
    return true;
}

static void names_insert(struct names *names, size_t place, const char *path,
                         struct disk_file *file)
{
    if (names->count == names->capacity) {
        names->capacity = names->capacity == 0 ? 16 : 2 * names->capacity;
        names->items = realloc(names->items, names->capacity * sizeof *names->items);
        assert(names->items != NULL);
    }
    struct name *at = &names->items[place];
    memmove(at + 1, at, (names->count++ - place) * sizeof *at);
    *at = (struct name){ path_copy(path), file };
}

static void names_remove(struct names *names, size_t place)
{
    struct name *at = &names->items[place];
    free(at->path);
    memmove(at, at + 1, (--names->count - place) * sizeof *at);
}

/* -- The lives of files ------------------------------------------------------------------------ */

static void disk_append(struct disk *disk, struct disk_file *file)
{
    file->previous = disk->last;
    if (disk->last != NULL)
        disk->last->next = file;
    else
        disk->first = file;
    disk->last = file;
}

static void disk_destroy(struct disk *disk, struct disk_file *file)
{
    if (file->previous != NULL)
        file->previous->next = file->next;
    else
        disk->first = file->next;
    if (file->next != NULL)
        file->next->previous = file->previous;
    else
        disk->last = file->previous;
    disk->unstable_writes -= file->change_count;
    file_free(file);
}

/* A file counts for the space as long as somebody can reach its bytes. */
static bool is_used(const struct disk_file *file)
{
    return file->seen_path != NULL || file->holders != 0;
}

/* Something that kept the file is gone; `was_used`: before that. */
static void disk_let_go(struct disk *disk, struct disk_file *file, bool was_used)
{
    if (was_used && !is_used(file))
        disk->used_blocks -= file->seen_blocks;
    if (file->references == 0 && file->holders == 0)
        disk_destroy(disk, file);
}

/* The name, of one of the tables, is its file's from now on. */
static void disk_give_name(struct disk *disk, const struct names *names, const struct name *name)
{
    struct disk_file *file = name->file;
    file->references++;
    if (names != &disk->seen)
        return;
    if (!is_used(file))
        disk->used_blocks += file->seen_blocks;
    file->seen_path = name->path;
}

/* The file has lost its name in this table. */
static void disk_take_name(struct disk *disk, const struct names *names, struct disk_file *file)
{
    bool was_used = is_used(file);
    file->references--;
    if (names == &disk->seen)
        file->seen_path = NULL;
    disk_let_go(disk, file, was_used);
}

/* Give the name to `file`, or take it away (NULL). */
static void disk_set_name(struct disk *disk, struct names *names, const char *path,
                          struct disk_file *file)
{
    size_t size = strlen(path), place = names_place(names, path, size);
    struct disk_file *before = names_find(names, path, size);
    if (before == file)
        return;
    if (file == NULL)
        names_remove(names, place);
    else if (before != NULL)
        names->items[place].file = file;
    else
        names_insert(names, place, path, file);
    if (file != NULL)
        disk_give_name(disk, names, &names->items[place]);
    if (before != NULL)
        disk_take_name(disk, names, before);
}

static void names_clear(struct disk *disk, struct names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        disk_take_name(disk, names, names->items[i].file);
        free(names->items[i].path);
    }
    names->count = 0;
}

static void names_copy(struct disk *disk, struct names *to, const struct names *from)
{
    names_clear(disk, to);
    for (size_t i = 0; i < from->count; i++) {
        names_insert(to, i, from->items[i].path, from->items[i].file);
        disk_give_name(disk, to, &to->items[i]);
    }
}

/* -- The journal of names ---------------------------------------------------------------------- */

static void apply(struct disk *disk, struct names *names, const struct name_change *change)
{
    if (change->from != NULL)
        disk_set_name(disk, names, change->from, NULL);
    if (change->to != NULL)
        disk_set_name(disk, names, change->to, change->file);
}

static void change_names(struct disk *disk, const char *from, const char *to,
                         struct disk_file *file)
{
    if (disk->change_count == disk->change_capacity) {
        disk->change_capacity = disk->change_capacity == 0 ? 16 : 2 * disk->change_capacity;
        disk->changes = realloc(disk->changes, disk->change_capacity * sizeof *disk->changes);
        assert(disk->changes != NULL);
    }
    struct name_change *change = &disk->changes[disk->change_count++];
    *change = (struct name_change){
        .from = from == NULL ? NULL : path_copy(from),
        .to = to == NULL ? NULL : path_copy(to),
        .file = file,
    };
    file->references++;
    apply(disk, &disk->seen, change);
    if (disk->trace != NULL)
        trace_line(disk->trace, disk->node, "disk: name %s -> %s", from == NULL ? "" : from,
                   to == NULL ? "" : to);
}

static void change_release(struct disk *disk, struct name_change *change)
{
    free(change->from);
    free(change->to);
    change->file->references--;
    disk_let_go(disk, change->file, is_used(change->file));
}

static bool is_name(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static bool share_a_name(const struct name_change *a, const struct name_change *b)
{
    return is_name(a->from, b->from) || is_name(a->from, b->to) || is_name(a->to, b->from) ||
           is_name(a->to, b->to);
}

static bool stands_in(const char *path, const char *directory)
{
    if (path == NULL)
        return false;
    size_t size = parent_size(path, strlen(path)), directory_size = strlen(directory);
    if (is_top(path, size))
        return is_top(directory, directory_size);
    return size == directory_size && memcmp(path, directory, size) == 0;
}

/* Take the changes in this directory, and what stands before them under their names. */
static void take_those_in(struct disk *disk, const char *directory)
{
    for (size_t i = disk->change_count; i-- != 0;) {
        struct name_change *change = &disk->changes[i];
        change->is_taken = stands_in(change->from, directory) || stands_in(change->to, directory);
        for (size_t j = i + 1; j < disk->change_count && !change->is_taken; j++)
            change->is_taken = disk->changes[j].is_taken && share_a_name(change, &disk->changes[j]);
    }
}

static void take_by_chance(struct disk *disk, struct random *random)
{
    uint32_t keep = file_draw_keep(random);
    for (size_t i = 0; i < disk->change_count; i++) {
        struct name_change *change = &disk->changes[i];
        change->is_taken = random_chance(random, keep);
        for (size_t j = 0; j < i && change->is_taken; j++)
            change->is_taken =
                disk->changes[j].is_taken || !share_a_name(change, &disk->changes[j]);
    }
}

static void tell_stable(const struct disk *disk, const char *path)
{
    if (disk->on_stable != NULL)
        disk->on_stable(disk->on_stable_context, path);
}

/* The bytes of a file are stable under its name only now. */
static void tell_stable_name(const struct disk *disk, const struct name_change *change)
{
    if (change->to == NULL || change->file->is_directory)
        return;
    if (names_find(&disk->stable, change->to, strlen(change->to)) == change->file)
        tell_stable(disk, change->to);
}

/* The changes that are taken become stable, the others stay. Returns how many. */
static size_t settle_taken(struct disk *disk)
{
    size_t count = disk->change_count, kept = 0, left = 0;
    if (count == 0)
        return 0;
    struct name_change *taken = malloc(count * sizeof *taken);
    assert(taken != NULL);
    for (size_t i = 0; i < count; i++) {
        if (disk->changes[i].is_taken) {
            apply(disk, &disk->stable, &disk->changes[i]);
            taken[kept++] = disk->changes[i];
        } else {
            disk->changes[left++] = disk->changes[i];
        }
    }
    disk->change_count = left;
    for (size_t i = 0; i < kept; i++)
        tell_stable_name(disk, &taken[i]);
    for (size_t i = 0; i < kept; i++)
        change_release(disk, &taken[i]);
    free(taken);
    return kept;
}

static void drop_changes(struct disk *disk)
{
    for (size_t i = 0; i < disk->change_count; i++)
        change_release(disk, &disk->changes[i]);
    disk->change_count = 0;
}

/* -- A disk ------------------------------------------------------------------------------------ */

struct disk *disk_new(struct trace *trace, int node)
{
    struct memory *before = memory_enter(NULL);
    struct disk *disk = calloc(1, sizeof *disk);
    assert(disk != NULL);
    disk->trace = trace;
    disk->node = node;
    disk->space_blocks = UINT64_MAX;
    memory_enter(before);
    return disk;
}

void disk_free(struct disk *disk)
{
    if (disk == NULL)
        return;
    drop_changes(disk);
    names_clear(disk, &disk->seen);
    names_clear(disk, &disk->stable);
    disk_process_died(disk);
    assert(disk->first == NULL && disk->used_blocks == 0 && disk->unstable_writes == 0);
    free(disk->seen.items);
    free(disk->stable.items);
    free(disk->changes);
    free(disk);
}

static struct disk_file *by_number(const struct disk *disk, uint64_t number)
{
    struct disk_file *file = disk->first;
    while (file->number != number)
        file = file->next;
    return file;
}

static void clone_names(struct disk *clone, struct names *to, const struct names *from)
{
    *to = (struct names){ 0 };
    for (size_t i = 0; i < from->count; i++)
        disk_set_name(clone, to, from->items[i].path,
                      by_number(clone, from->items[i].file->number));
}

static void clone_changes(struct disk *clone, const struct disk *disk)
{
    clone->changes = calloc(disk->change_count + 1, sizeof *clone->changes);
    assert(clone->changes != NULL);
    clone->change_capacity = disk->change_count + 1;
    for (size_t i = 0; i < disk->change_count; i++) {
        const struct name_change *change = &disk->changes[i];
        clone->changes[i] = (struct name_change){
            .from = change->from == NULL ? NULL : path_copy(change->from),
            .to = change->to == NULL ? NULL : path_copy(change->to),
            .file = by_number(clone, change->file->number),
        };
        clone->changes[i].file->references++;
    }
}

struct disk *disk_clone(const struct disk *disk)
{
    struct memory *before = memory_enter(NULL);
    struct disk *clone = disk_new(NULL, disk->node);
    *clone = *disk;
    clone->trace = NULL;
    clone->on_stable = NULL;
    clone->first = clone->last = NULL;
    clone->used_blocks = 0;
    for (const struct disk_file *file = disk->first; file != NULL; file = file->next) {
        disk_append(clone, file_clone(file));
        if (is_used(clone->last))
            clone->used_blocks += clone->last->seen_blocks;
    }
    clone_names(clone, &clone->seen, &disk->seen);
    clone_names(clone, &clone->stable, &disk->stable);
    clone_changes(clone, disk);
    assert(clone->used_blocks == disk->used_blocks);
    memory_enter(before);
    return clone;
}

/* -- Calls of os.h: bytes ---------------------------------------------------------------------- */

/* Whether this call is the one that was to fail. */
static bool strikes(struct fault *fault)
{
    return fault->in != 0 && --fault->in == 0;
}

ptrdiff_t disk_read(struct disk *disk, struct disk_file *file, void *bytes, size_t size,
                    uint64_t offset)
{
    if (strikes(&disk->read_fault)) {
        if (disk->trace != NULL)
            trace_line(disk->trace, disk->node, "disk: read of file %" PRIu64 " fails: %d",
                       file->number, disk->read_fault.code);
        return disk->read_fault.code;
    }
    if (offset >= file->seen_size || size == 0)
        return 0;
    size_t there = file->seen_size - (size_t)offset;
    if (size > there)
        size = there;
    memcpy(bytes, file->seen + offset, size);
    return (ptrdiff_t)size;
}

/* How much of a write the disk takes, or why not any. */
static ptrdiff_t admit_write(struct disk *disk, const struct disk_file *file, size_t size,
                             uint64_t offset)
{
    if (size > FILE_SIZE_MAX || offset > FILE_SIZE_MAX - size)
        return -EFBIG;
    if (strikes(&disk->write_fault)) {
        if (disk->trace != NULL)
            trace_line(disk->trace, disk->node, "disk: write to file %" PRIu64 " fails: %d",
                       file->number, disk->write_fault.code);
        if (disk->write_fault.code != 0)
            return disk->write_fault.code;
        size = (size + 1) / 2;
    }
    if (disk->space_blocks == UINT64_MAX)
        return (ptrdiff_t)size;
    bool is_full = disk->used_blocks >= disk->space_blocks;
    uint64_t free_blocks = is_full ? 0 : disk->space_blocks - disk->used_blocks;
    size_t room = file_room(file, offset, size, free_blocks);
    return room == 0 ? -ENOSPC : (ptrdiff_t)room;
}

ptrdiff_t disk_write(struct disk *disk, struct disk_file *file, const struct iovec *parts,
                     int part_count, uint64_t offset)
{
    assert(file->holders != 0 && !file->is_directory);
    size_t size = 0;
    for (int i = 0; i < part_count; i++)
        size += parts[i].iov_len;
    if (size == 0)
        return 0;
    ptrdiff_t written = admit_write(disk, file, size, offset);
    if (written < 0)
        return written;

    struct memory *before = memory_enter(NULL);
    uint64_t blocks = file->seen_blocks;
    size_t changes = file->change_count;
    bool is_zeros = file_write(file, parts, (size_t)written, offset, ++disk->sequence);
    disk->used_blocks += file->seen_blocks - blocks;
    disk->unstable_writes += file->change_count - changes;
    memory_enter(before);
    if (disk->trace != NULL) {
        trace_number(disk->trace, file->number);
        trace_number(disk->trace, offset);
        trace_number(disk->trace, is_zeros);
        if (is_zeros)
            trace_number(disk->trace, (uint64_t)written);
        else
            trace_bytes(disk->trace, file->seen + offset, (size_t)written);
    }
    return written;
}

uint64_t disk_size(const struct disk_file *file)
{
    return file->seen_size;
}

int disk_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
    assert(file->holders != 0 && !file->is_directory);
    if (size > FILE_SIZE_MAX)
        return -EFBIG;
    struct memory *before = memory_enter(NULL);
    uint64_t blocks = file->seen_blocks;
    size_t changes = file->change_count;
    file_truncate(file, size, ++disk->sequence);
    disk->used_blocks -= blocks - file->seen_blocks;
    disk->unstable_writes += file->change_count - changes;
    memory_enter(before);
    if (disk->trace != NULL) {
        trace_number(disk->trace, file->number);
        trace_number(disk->trace, size);
    }
    return 0;
}

uint64_t disk_flush_begin(struct disk *disk, struct disk_file *file)
{
    assert(file->holders != 0);
    if (disk->trace != NULL)
        trace_number(disk->trace, file->number);
    return disk->sequence;
}

void disk_flush_end(struct disk *disk, struct disk_file *file, uint64_t mark, int result)
{
    struct memory *before = memory_enter(NULL);
    size_t count = result == 0 ? file_settle(file, mark) : file_lose(file, mark);
    disk->unstable_writes -= count;
    file->errors += result != 0;
    if (disk->trace != NULL) {
        trace_number(disk->trace, file->number);
        trace_number(disk->trace, count);
        if (result != 0)
            trace_line(disk->trace, disk->node,
                       "disk: flush of file %" PRIu64 " fails: %d, %zu lost", file->number, result,
                       count);
    }
    if (result == 0 && file->seen_path != NULL)
        tell_stable(disk, file->seen_path);
    memory_enter(before);
}

uint64_t disk_errors(const struct disk_file *file)
{
    return file->errors;
}

/* -- Calls of os.h: names ---------------------------------------------------------------------- */

static struct disk_file *make_file(struct disk *disk, const char *path, bool is_directory)
{
    struct disk_file *file = file_new(disk->files_made++, is_directory);
    disk_append(disk, file);
    change_names(disk, NULL, path, file);
    return file;
}

static struct disk_file *find_seen(const struct disk *disk, const char *path)
{
    return names_find(&disk->seen, path, strlen(path));
}

static bool has_parent(const struct disk *disk, const char *path)
{
    return has_directory(&disk->seen, path, parent_size(path, strlen(path)));
}

int disk_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **file)
{
    struct disk_file *found = find_seen(disk, path);
    if (found != NULL && (flags & OS_CREATE) != 0 && (flags & OS_EXCLUSIVE) != 0)
        return -EEXIST;
    if (found != NULL && found->is_directory)
        return -EISDIR;
    if (found == NULL && ((flags & OS_CREATE) == 0 || !has_parent(disk, path)))
        return -ENOENT;
    if (found == NULL) {
        struct memory *before = memory_enter(NULL);
        found = make_file(disk, path, false);
        memory_enter(before);
    }
    found->holders++;
    *file = found;
    return 0;
}

void disk_hold(struct disk_file *file)
{
    assert(file->holders != 0);
    file->holders++;
}

void disk_release(struct disk *disk, struct disk_file *file)
{
    assert(file->holders != 0);
    bool was_used = is_used(file);
    if (--file->holders == 0)
        file_share(file);
    disk_let_go(disk, file, was_used);
}

int disk_rename(struct disk *disk, const char *from, const char *to)
{
    struct disk_file *file = find_seen(disk, from);
    if (file == NULL || !has_parent(disk, to))
        return -ENOENT;
    const struct disk_file *replaced = find_seen(disk, to);
    if (file->is_directory || (replaced != NULL && replaced->is_directory))
        return -EISDIR; /* directories keep their names here */
    if (file == replaced)
        return 0;
    struct memory *before = memory_enter(NULL);
    change_names(disk, from, to, file);
    memory_enter(before);
    return 0;
}

int disk_unlink(struct disk *disk, const char *path)
{
    struct disk_file *file = find_seen(disk, path);
    if (file == NULL)
        return -ENOENT;
    if (file->is_directory)
        return -EISDIR;
    struct memory *before = memory_enter(NULL);
    change_names(disk, path, NULL, file);
    memory_enter(before);
    return 0;
}

int disk_mkdir(struct disk *disk, const char *path)
{
    if (is_top(path, strlen(path)) || find_seen(disk, path) != NULL)
        return -EEXIST;
    if (!has_parent(disk, path))
        return -ENOENT;
    struct memory *before = memory_enter(NULL);
    make_file(disk, path, true);
    memory_enter(before);
    return 0;
}

int disk_sync_dir(struct disk *disk, const char *path)
{
    if (!has_directory(&disk->seen, path, strlen(path)))
        return find_seen(disk, path) == NULL ? -ENOENT : -ENOTDIR;
    struct memory *before = memory_enter(NULL);
    take_those_in(disk, path);
    size_t count = settle_taken(disk);
    if (disk->trace != NULL)
        trace_number(disk->trace, count);
    memory_enter(before);
    return 0;
}

int disk_list(struct disk *disk, const char *path, void (*visit)(void *context, const char *name),
              void *context)
{
    size_t size = strlen(path);
    if (!has_directory(&disk->seen, path, size))
        return find_seen(disk, path) == NULL ? -ENOENT : -ENOTDIR;
    for (size_t i = is_top(path, size) ? 0 : names_place(&disk->seen, path, size);
         i < disk->seen.count; i++) {
        const char *name = disk->seen.items[i].path;
        if (!is_top(path, size) && strncmp(name, path, size) != 0)
            break;
        if (stands_in(name, path))
            visit(context, strrchr(name, '/') == NULL ? name : strrchr(name, '/') + 1);
    }
    return 0;
}

/* -- Death ------------------------------------------------------------------------------------- */

void disk_process_died(struct disk *disk)
{
    for (struct disk_file *file = disk->first, *next; file != NULL; file = next) {
        next = file->next;
        if (file->holders == 0)
            continue;
        file->holders = 1;
        disk_release(disk, file);
    }
}

/* What is left of the names is all that there is: those without a directory go, and then the files
 * without a name. */
static void settle_names(struct disk *disk)
{
    drop_changes(disk);
    for (size_t i = 0; i < disk->stable.count;) {
        struct name *name = &disk->stable.items[i];
        /* Directories stand before what is in them, so one pass is enough. */
        if (has_directory(&disk->stable, name->path, parent_size(name->path, strlen(name->path))))
            i++;
        else
            disk_set_name(disk, &disk->stable, name->path, NULL);
    }
    names_copy(disk, &disk->seen, &disk->stable);
}

static void recount(struct disk *disk)
{
    disk->used_blocks = 0;
    for (const struct disk_file *file = disk->first; file != NULL; file = file->next) {
        assert(is_used(file) && file->change_count == 0);
        disk->used_blocks += file->seen_blocks;
    }
    assert(disk->unstable_writes == 0);
}

static void trace_cut(const struct disk *disk, size_t names_kept, size_t names, size_t writes_kept,
                      size_t writes)
{
    if (disk->trace == NULL)
        return;
    trace_line(disk->trace, disk->node,
               "disk: power cut keeps %zu of %zu changes of names, %zu of %zu writes", names_kept,
               names, writes_kept, writes);
    for (const struct disk_file *file = disk->first; file != NULL; file = file->next)
        trace_number(disk->trace, file->stable_size);
}

/* `random` NULL: everything is lost. */
static void cut(struct disk *disk, struct random *random, enum disk_tear tear)
{
    struct memory *before = memory_enter(NULL);
    size_t names = disk->change_count, writes = disk->unstable_writes;
    disk_process_died(disk);
    size_t names_kept = 0, writes_kept = 0;
    if (random != NULL) {
        void (*on_stable)(void *context, const char *path) = disk->on_stable;
        disk->on_stable = NULL; /* chance makes no promise */
        take_by_chance(disk, random);
        names_kept = settle_taken(disk);
        disk->on_stable = on_stable;
    }
    settle_names(disk);
    for (struct disk_file *file = disk->first; file != NULL; file = file->next) {
        disk->unstable_writes -= file->change_count;
        writes_kept += random == NULL ? file_cut_all_lost(file) : file_cut(file, random, tear);
    }
    recount(disk);
    trace_cut(disk, names_kept, names, writes_kept, writes);
    memory_enter(before);
}

void disk_power_cut(struct disk *disk, struct random *random, enum disk_tear tear)
{
    cut(disk, random, tear);
}

void disk_power_cut_all_lost(struct disk *disk)
{
    cut(disk, NULL, DISK_TEAR_NOTHING);
}

/* -- Faults ------------------------------------------------------------------------------------ */

void disk_set_space(struct disk *disk, uint64_t bytes)
{
    disk->space_blocks = bytes == UINT64_MAX ? UINT64_MAX : bytes / FILE_BLOCK;
}

uint64_t disk_used(const struct disk *disk)
{
    return disk->used_blocks * FILE_BLOCK;
}

void disk_fail_write(struct disk *disk, uint64_t nth, int code)
{
    assert(code <= 0);
    disk->write_fault = (struct fault){ nth, code };
}

void disk_fail_read(struct disk *disk, uint64_t nth, int code)
{
    assert(code < 0 || nth == 0);
    disk->read_fault = (struct fault){ nth, code };
}

bool disk_flip(struct disk *disk, const char *path, uint64_t offset, unsigned bit)
{
    struct disk_file *file = names_find(&disk->stable, path, strlen(path));
    if (file == NULL || !is_reachable(&disk->stable, path) || file->is_directory ||
        offset >= file->stable_size)
        return false;
    file_flip(file, offset, bit);
    if (disk->trace != NULL)
        trace_line(disk->trace, disk->node, "disk: bit %u of byte %" PRIu64 " of %s flips", bit,
                   offset, path);
    return true;
}

const char *disk_name(const struct disk *disk, const char *prefix, int number)
{
    size_t size = strlen(prefix);
    for (size_t i = names_place(&disk->seen, prefix, size); i < disk->seen.count; i++) {
        const struct name *name = &disk->seen.items[i];
        if (strncmp(name->path, prefix, size) != 0)
            break;
        if (!name->file->is_directory && number-- == 0)
            return name->path;
    }
    return NULL;
}

/* -- For the checks ---------------------------------------------------------------------------- */

void disk_on_stable(struct disk *disk, void (*on_stable)(void *context, const char *path),
                    void *context)
{
    disk->on_stable = on_stable;
    disk->on_stable_context = context;
}

static const uint8_t none[1];

const uint8_t *disk_stable_bytes(const struct disk *disk, const char *path, size_t *size)
{
    const struct disk_file *file = names_find(&disk->stable, path, strlen(path));
    if (file == NULL || file->is_directory || !is_reachable(&disk->stable, path))
        return NULL;
    *size = file->stable_size;
    return file->stable == NULL ? none : file->stable;
}

const uint8_t *disk_visible_bytes(const struct disk *disk, const char *path, size_t *size)
{
    const struct disk_file *file = find_seen(disk, path);
    if (file == NULL || file->is_directory)
        return NULL;
    *size = file->seen_size;
    return file->seen == NULL ? none : file->seen;
}

size_t disk_unstable_writes(const struct disk *disk)
{
    return disk->unstable_writes;
}
