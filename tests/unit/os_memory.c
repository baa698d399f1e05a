#include "tests/unit/os_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define PATH_MAX_HERE 256
#define DESCRIPTORS_MAX 256
#define NAMES_MAX 64
#define QUEUE ((struct inode *)-1)

struct inode {
    bool is_directory;
    uint8_t *seen, *stable;
    size_t seen_size, stable_size, capacity; /* of both arrays; zero behind the sizes */
    uint8_t *dirty;                          /* one byte for each sector of the capacity */
    int locked_by;                           /* descriptor, or -1 */
    struct inode *next;                      /* of all inodes */
};

struct name {
    char path[PATH_MAX_HERE];
    struct inode *inode;
};

struct change {
    char from[PATH_MAX_HERE]; /* removed; "": nothing */
    char to[PATH_MAX_HERE];   /* put; "": nothing */
    struct inode *inode;
};

struct names {
    struct name items[NAMES_MAX];
    size_t count;
};

struct descriptor {
    struct inode *inode; /* NULL: closed. QUEUE: the flush queue */
    unsigned flags;
};

struct held {
    uint64_t ticket;
    struct inode *inode;
    uint8_t *bytes; /* of all dirty sectors, at the time of the start */
    uint8_t *dirty;
    size_t sector_count;
    size_t size;
    bool is_done;
    int result;
};

struct os {
    struct inode *inodes;
    struct names seen, stable;
    struct change changes[NAMES_MAX];
    size_t change_count;
    struct descriptor descriptors[DESCRIPTORS_MAX];
    struct held held[OS_FLUSHES_MAX];
    int held_count;
    bool hold;
    uint64_t counts[OS_MEMORY_CALL_COUNT];
    uint64_t fail_at[OS_MEMORY_CALL_COUNT];
    int fail_code[OS_MEMORY_CALL_COUNT];
    size_t write_max;
    uint64_t space;
    uint64_t random;
    void (*watch)(void *context);
    void *watch_context;
};

/* -- The bookkeeping ---------------------------------------------------------------------------- */

/* Count the call; returns the error that it must fail with, or 0. */
static int call(struct os *os, enum os_memory_call kind)
{
    os->counts[kind]++;
    if (os->fail_at[kind] == 0 || os->counts[kind] != os->fail_at[kind])
        return 0;
    os->fail_at[kind] = 0;
    return os->fail_code[kind];
}

static void tell_watch(struct os *os)
{
    if (os->watch != NULL)
        os->watch(os->watch_context);
}

static struct inode *inode_new(struct os *os, bool is_directory)
{
    struct inode *inode = calloc(1, sizeof *inode);
    assert(inode != NULL);
    inode->is_directory = is_directory;
    inode->locked_by = -1;
    inode->next = os->inodes;
    os->inodes = inode;
    return inode;
}

static void inode_reserve(struct inode *inode, size_t size)
{
    if (size <= inode->capacity)
        return;
    size_t capacity = (size + 65535) / 65536 * 65536;
    if (capacity < 2 * inode->capacity)
        capacity = 2 * inode->capacity;
    uint8_t **arrays[] = { &inode->seen, &inode->stable, &inode->dirty };
    for (int i = 0; i < 3; i++) {
        size_t before = i < 2 ? inode->capacity : inode->capacity / SECTOR;
        size_t after = i < 2 ? capacity : capacity / SECTOR;
        *arrays[i] = realloc(*arrays[i], after);
        assert(*arrays[i] != NULL);
        memset(*arrays[i] + before, 0, after - before);
    }
    inode->capacity = capacity;
}

static size_t sectors_of(size_t size)
{
    return (size + SECTOR - 1) / SECTOR;
}

static struct name *find_name(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i].path, path) == 0)
            return (struct name *)(uintptr_t)&names->items[i];
    return NULL;
}

static void set_name(struct names *names, const char *path, struct inode *inode)
{
    struct name *name = find_name(names, path);
    if (inode == NULL) {
        if (name != NULL)
            *name = names->items[--names->count];
        return;
    }
    if (name == NULL) {
        assert(names->count < NAMES_MAX);
        name = &names->items[names->count++];
        snprintf(name->path, sizeof name->path, "%s", path);
    }
    name->inode = inode;
}

static void apply(struct names *names, const struct change *change)
{
    if (change->from[0] != '\0')
        set_name(names, change->from, NULL);
    if (change->to[0] != '\0')
        set_name(names, change->to, change->inode);
}

static void change_names(struct os *os, const char *from, const char *to, struct inode *inode)
{
    assert(os->change_count < NAMES_MAX);
    struct change *change = &os->changes[os->change_count++];
    snprintf(change->from, sizeof change->from, "%s", from);
    snprintf(change->to, sizeof change->to, "%s", to);
    change->inode = inode;
    apply(&os->seen, change);
}

/* The directory that `path` stands in. */
static void parent_of(const char *path, char parent[PATH_MAX_HERE])
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        snprintf(parent, PATH_MAX_HERE, ".");
    else
        snprintf(parent, PATH_MAX_HERE, "%.*s", (int)(slash - path), path);
}

static bool has_parent(const struct names *names, const char *path)
{
    char parent[PATH_MAX_HERE];
    parent_of(path, parent);
    if (strcmp(parent, ".") == 0)
        return true;
    const struct name *name = find_name(names, parent);
    return name != NULL && name->inode->is_directory;
}

struct os *os_memory_new(uint64_t seed)
{
    struct os *os = calloc(1, sizeof *os);
    assert(os != NULL);
    os->space = UINT64_MAX;
    os->random = seed * 0x9e3779b97f4a7c15u + 1;
    return os;
}

static void held_release(struct held *held)
{
    free(held->bytes);
    free(held->dirty);
}

void os_memory_free(struct os *os)
{
    if (os == NULL)
        return;
    for (int i = 0; i < os->held_count; i++)
        held_release(&os->held[i]);
    for (struct inode *inode = os->inodes, *next; inode != NULL; inode = next) {
        next = inode->next;
        free(inode->seen);
        free(inode->stable);
        free(inode->dirty);
        free(inode);
    }
    free(os);
}

uint64_t os_memory_count(const struct os *os, enum os_memory_call kind)
{
    return os->counts[kind];
}

uint64_t os_memory_count_all(const struct os *os)
{
    uint64_t sum = 0;
    for (int i = 0; i < OS_MEMORY_CALL_COUNT; i++)
        sum += os->counts[i];
    return sum;
}

void os_memory_fail(struct os *os, enum os_memory_call kind, uint64_t nth, int code)
{
    os->fail_at[kind] = nth == 0 ? 0 : os->counts[kind] + nth;
    os->fail_code[kind] = code;
}

void os_memory_write_max(struct os *os, size_t size)
{
    os->write_max = size;
}

void os_memory_space(struct os *os, uint64_t bytes)
{
    os->space = bytes;
}

void os_memory_hold_flushes(struct os *os, bool hold)
{
    os->hold = hold;
}

void os_memory_watch(struct os *os, void (*watch)(void *context), void *context)
{
    os->watch = watch;
    os->watch_context = context;
}

/* -- Files, past os.h --------------------------------------------------------------------------- */

uint8_t *os_memory_bytes(struct os *os, const char *path, size_t *size)
{
    struct name *name = find_name(&os->seen, path);
    if (name == NULL)
        return NULL;
    if (size != NULL)
        *size = name->inode->seen_size;
    return name->inode->seen;
}

bool os_memory_exists(const struct os *os, const char *path)
{
    return find_name(&os->seen, path) != NULL;
}

void os_memory_resize(struct os *os, const char *path, size_t size)
{
    struct inode *inode = find_name(&os->seen, path)->inode;
    inode_reserve(inode, size);
    if (size < inode->seen_size) {
        memset(inode->seen + size, 0, inode->seen_size - size);
        memset(inode->dirty + sectors_of(size), 0, inode->capacity / SECTOR - sectors_of(size));
    }
    if (size < inode->stable_size)
        memset(inode->stable + size, 0, inode->stable_size - size);
    inode->seen_size = inode->stable_size = size;
}

void os_memory_put(struct os *os, const char *path, const void *bytes, size_t size)
{
    struct name *name = find_name(&os->seen, path);
    struct inode *inode = name != NULL ? name->inode : inode_new(os, false);
    set_name(&os->seen, path, inode);
    set_name(&os->stable, path, inode);
    os_memory_resize(os, path, size);
    memcpy(inode->seen, bytes, size);
    memcpy(inode->stable, bytes, size);
    memset(inode->dirty, 0, inode->capacity / SECTOR);
}

void os_memory_remove(struct os *os, const char *path)
{
    set_name(&os->seen, path, NULL);
    set_name(&os->stable, path, NULL);
}

void os_memory_move(struct os *os, const char *from, const char *to)
{
    struct inode *inode = find_name(&os->seen, from)->inode;
    os_memory_remove(os, from);
    set_name(&os->seen, to, inode);
    set_name(&os->stable, to, inode);
}

void os_memory_settle(struct os *os)
{
    for (struct inode *inode = os->inodes; inode != NULL; inode = inode->next) {
        if (inode->capacity == 0)
            continue;
        memcpy(inode->stable, inode->seen, inode->capacity);
        memset(inode->dirty, 0, inode->capacity / SECTOR);
        inode->stable_size = inode->seen_size;
    }
    os->stable = os->seen;
    os->change_count = 0;
}

int os_memory_open_count(const struct os *os)
{
    int count = 0;
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
        count += os->descriptors[fd].inode != NULL;
    return count;
}

/* -- Flushes ------------------------------------------------------------------------------------ */

static void held_take(struct held *held, struct inode *inode, uint64_t ticket)
{
    *held = (struct held){ .ticket = ticket,
                           .inode = inode,
                           .sector_count = inode->capacity / SECTOR,
                           .size = inode->seen_size };
    held->bytes = malloc(inode->capacity + 1);
    held->dirty = malloc(held->sector_count + 1);
    assert(held->bytes != NULL && held->dirty != NULL);
    if (inode->capacity > 0) {
        memcpy(held->bytes, inode->seen, inode->capacity);
        memcpy(held->dirty, inode->dirty, held->sector_count);
    }
}

/* What was to be written when the flush was started is on stable storage; or, if it has failed, it
 * is not, and is no longer to be written either. */
static void held_end(struct held *held, int result)
{
    struct inode *inode = held->inode;
    for (size_t sector = 0; sector < held->sector_count; sector++) {
        if (!held->dirty[sector])
            continue;
        const uint8_t *bytes = held->bytes + sector * SECTOR;
        if (result == 0)
            memcpy(inode->stable + sector * SECTOR, bytes, SECTOR);
        if (memcmp(inode->seen + sector * SECTOR, bytes, SECTOR) == 0)
            inode->dirty[sector] = 0;
    }
    if (result == 0 && inode->stable_size < held->size)
        inode->stable_size = held->size;
    held->is_done = true;
    held->result = result;
}

int os_memory_held(const struct os *os)
{
    int count = 0;
    for (int i = 0; i < os->held_count; i++)
        count += !os->held[i].is_done;
    return count;
}

void os_memory_finish(struct os *os, int nth, int result)
{
    for (int i = 0; i < os->held_count; i++) {
        if (os->held[i].is_done || nth-- > 0)
            continue;
        tell_watch(os);
        held_end(&os->held[i], result);
        return;
    }
    abort(); /* no such flush is held */
}

/* -- Power cuts --------------------------------------------------------------------------------- */

size_t os_memory_dirty_sectors(const struct os *os)
{
    size_t count = 0;
    for (const struct inode *inode = os->inodes; inode != NULL; inode = inode->next)
        for (size_t sector = 0; sector < inode->capacity / SECTOR; sector++)
            count += inode->dirty[sector];
    return count;
}

size_t os_memory_dirty_names(const struct os *os)
{
    return os->change_count;
}

struct cut {
    bool (*keeps)(void *context, size_t sector);
    void *context;
    size_t torn;
    size_t sector;         /* number of the next dirty one */
    uint8_t *last;         /* the last one that was kept */
    const uint8_t *before; /* and what it was */
};

static void cut_inode(struct inode *to, const struct inode *from, struct cut *cut)
{
    inode_reserve(to, from->capacity);
    to->seen_size = from->stable_size;
    if (from->capacity > 0)
        memcpy(to->seen, from->stable, from->capacity);
    for (size_t sector = 0; sector < from->capacity / SECTOR; sector++) {
        if (!from->dirty[sector] || cut->keeps == NULL || !cut->keeps(cut->context, cut->sector++))
            continue;
        memcpy(to->seen + sector * SECTOR, from->seen + sector * SECTOR, SECTOR);
        cut->last = to->seen + sector * SECTOR;
        cut->before = from->stable + sector * SECTOR;
        size_t end = (sector + 1) * SECTOR;
        if (end > from->seen_size)
            end = from->seen_size;
        if (to->seen_size < end)
            to->seen_size = end;
    }
    if (from->capacity > 0)
        memcpy(to->stable, to->seen, from->capacity);
    to->stable_size = to->seen_size;
}

struct os *os_memory_crash(const struct os *os, bool (*keeps)(void *context, size_t sector),
                           void *context, uint64_t names_kept, size_t torn)
{
    struct os *after = os_memory_new(0);
    after->random = os->random ^ 0x5bd1e995u;
    struct names names = os->stable;
    for (size_t i = 0; i < os->change_count; i++)
        if ((names_kept >> i & 1) != 0)
            apply(&names, &os->changes[i]);

    struct cut cut = { .keeps = keeps, .context = context, .torn = torn };
    for (const struct inode *inode = os->inodes; inode != NULL; inode = inode->next) {
        struct inode *copy = inode_new(after, inode->is_directory);
        cut_inode(copy, inode, &cut);
        for (size_t i = 0; i < names.count; i++)
            if (names.items[i].inode == inode)
                set_name(&after->seen, names.items[i].path, copy);
    }
    if (torn > 0 && cut.last != NULL)
        memcpy(cut.last + torn, cut.before + torn, SECTOR - torn);
    /* What stands in a directory that is gone is gone too. */
    for (size_t i = 0; i < after->seen.count;) {
        if (has_parent(&after->seen, after->seen.items[i].path)) {
            i++;
            continue;
        }
        set_name(&after->seen, after->seen.items[i].path, NULL);
        i = 0;
    }
    os_memory_settle(after);
    return after;
}

static struct inode *copy_of(const struct inode *inode, const struct inode *from,
                             struct inode *const *copies)
{
    size_t i = 0;
    for (; from != NULL && from != inode; from = from->next)
        i++;
    return from == NULL ? NULL : copies[i];
}

struct os *os_memory_kill(const struct os *os)
{
    struct os *after = os_memory_new(0);
    after->random = os->random ^ 0x5bd1e995u;
    after->space = os->space;
    after->seen = os->seen;
    after->stable = os->stable;
    after->change_count = os->change_count;
    memcpy(after->changes, os->changes, sizeof after->changes);

    struct inode *copies[4 * NAMES_MAX];
    size_t count = 0;
    for (const struct inode *inode = os->inodes; inode != NULL; inode = inode->next) {
        assert(count < sizeof copies / sizeof copies[0]);
        struct inode *copy = inode_new(after, inode->is_directory);
        copies[count++] = copy;
        inode_reserve(copy, inode->capacity);
        copy->seen_size = inode->seen_size;
        copy->stable_size = inode->stable_size;
        if (inode->capacity == 0)
            continue;
        memcpy(copy->seen, inode->seen, inode->capacity);
        memcpy(copy->stable, inode->stable, inode->capacity);
        memcpy(copy->dirty, inode->dirty, inode->capacity / SECTOR);
    }
    for (size_t i = 0; i < after->seen.count; i++)
        after->seen.items[i].inode = copy_of(after->seen.items[i].inode, os->inodes, copies);
    for (size_t i = 0; i < after->stable.count; i++)
        after->stable.items[i].inode = copy_of(after->stable.items[i].inode, os->inodes, copies);
    for (size_t i = 0; i < after->change_count; i++)
        after->changes[i].inode = copy_of(after->changes[i].inode, os->inodes, copies);
    return after;
}

/* -- os.h --------------------------------------------------------------------------------------- */

void os_random(struct os *os, void *bytes, size_t size)
{
    uint8_t *at = bytes;
    for (size_t i = 0; i < size; i++) {
        os->random ^= os->random << 13;
        os->random ^= os->random >> 7;
        os->random ^= os->random << 17;
        at[i] = (uint8_t)(os->random >> 32);
    }
}

static int descriptor_new(struct os *os, struct inode *inode, unsigned flags)
{
    for (int fd = 3; fd < DESCRIPTORS_MAX; fd++) {
        if (os->descriptors[fd].inode != NULL)
            continue;
        os->descriptors[fd] = (struct descriptor){ .inode = inode, .flags = flags };
        return fd;
    }
    return -EMFILE;
}

static struct inode *inode_of(struct os *os, int fd, unsigned flags)
{
    assert(fd >= 3 && fd < DESCRIPTORS_MAX);
    assert(os->descriptors[fd].inode != NULL);
    assert(os->descriptors[fd].inode != QUEUE);
    assert((os->descriptors[fd].flags & flags) == flags);
    return os->descriptors[fd].inode;
}

int os_open(struct os *os, const char *path, unsigned flags)
{
    int code = call(os, OS_MEMORY_OPEN);
    if (code < 0)
        return code;
    struct name *name = find_name(&os->seen, path);
    if (name != NULL && (flags & OS_EXCLUSIVE) != 0)
        return -EEXIST;
    if (name != NULL && name->inode->is_directory)
        return -EISDIR;
    if (name == NULL && ((flags & OS_CREATE) == 0 || !has_parent(&os->seen, path)))
        return -ENOENT;
    if (name == NULL) {
        tell_watch(os);
        change_names(os, "", path, inode_new(os, false));
        name = find_name(&os->seen, path);
    }
    return descriptor_new(os, name->inode, flags);
}

int os_close(struct os *os, int fd)
{
    int code = call(os, OS_MEMORY_CLOSE);
    assert(fd >= 3 && fd < DESCRIPTORS_MAX);
    struct inode *inode = os->descriptors[fd].inode;
    assert(inode != NULL);
    if (inode == QUEUE) {
        for (int i = 0; i < os->held_count; i++)
            held_release(&os->held[i]);
        os->held_count = 0;
    } else if (inode->locked_by == fd) {
        inode->locked_by = -1;
    }
    os->descriptors[fd].inode = NULL;
    return code;
}

ptrdiff_t os_pread(struct os *os, int fd, void *bytes, size_t size, uint64_t offset)
{
    int code = call(os, OS_MEMORY_PREAD);
    if (code < 0)
        return code;
    struct inode *inode = inode_of(os, fd, OS_READ);
    if (offset >= inode->seen_size)
        return 0;
    if (size > inode->seen_size - offset)
        size = inode->seen_size - (size_t)offset;
    memcpy(bytes, inode->seen + offset, size);
    return (ptrdiff_t)size;
}

/* How many of `size` bytes at `offset` the disk has room for. */
static size_t room_for(const struct os *os, const struct inode *inode, uint64_t offset, size_t size)
{
    uint64_t used = 0;
    for (const struct inode *other = os->inodes; other != NULL; other = other->next) {
        bool is_named = false;
        for (size_t i = 0; i < os->seen.count; i++)
            is_named = is_named || os->seen.items[i].inode == other;
        used += is_named ? other->seen_size : 0;
    }
    uint64_t left = os->space > used ? os->space - used : 0;
    uint64_t end = offset + size;
    if (end <= inode->seen_size || end - inode->seen_size <= left)
        return size;
    uint64_t end_max = inode->seen_size + left;
    return end_max > offset ? (size_t)(end_max - offset) : 0;
}

ptrdiff_t os_pwritev(struct os *os, int fd, const struct iovec *parts, int part_count,
                     uint64_t offset)
{
    int code = call(os, OS_MEMORY_PWRITEV);
    if (code < 0)
        return code;
    tell_watch(os);
    struct inode *inode = inode_of(os, fd, OS_WRITE);
    size_t size = 0;
    for (int i = 0; i < part_count; i++)
        size += parts[i].iov_len;
    size_t room = room_for(os, inode, offset, size);
    if (room == 0 && size > 0)
        return -ENOSPC;
    if (size > room)
        size = room;
    if (os->write_max > 0 && size > os->write_max)
        size = os->write_max;
    inode_reserve(inode, (size_t)offset + size);
    size_t done = 0;
    for (int i = 0; i < part_count && done < size; i++) {
        size_t part = parts[i].iov_len < size - done ? parts[i].iov_len : size - done;
        memcpy(inode->seen + offset + done, parts[i].iov_base, part);
        done += part;
    }
    if (inode->seen_size < offset + size)
        inode->seen_size = (size_t)offset + size;
    if (size > 0)
        memset(inode->dirty + offset / SECTOR, 1,
               (size_t)((offset + size - 1) / SECTOR - offset / SECTOR + 1));
    return (ptrdiff_t)size;
}

int64_t os_file_size(struct os *os, int fd)
{
    int code = call(os, OS_MEMORY_FILE_SIZE);
    return code < 0 ? code : (int64_t)inode_of(os, fd, 0)->seen_size;
}

int os_truncate(struct os *os, int fd, uint64_t size)
{
    int code = call(os, OS_MEMORY_TRUNCATE);
    if (code < 0)
        return code;
    struct inode *inode = inode_of(os, fd, OS_WRITE);
    for (size_t i = 0; i < os->seen.count; i++)
        if (os->seen.items[i].inode == inode)
            os_memory_resize(os, os->seen.items[i].path, (size_t)size);
    return 0;
}

int os_fdatasync(struct os *os, int fd)
{
    struct inode *inode = inode_of(os, fd, 0);
    int code = call(os, OS_MEMORY_FDATASYNC);
    tell_watch(os);
    for (size_t sector = 0; sector < inode->capacity / SECTOR; sector++) {
        if (inode->dirty[sector] && code == 0)
            memcpy(inode->stable + sector * SECTOR, inode->seen + sector * SECTOR, SECTOR);
        inode->dirty[sector] = 0;
    }
    if (code == 0)
        inode->stable_size = inode->seen_size;
    return code;
}

int os_rename(struct os *os, const char *from, const char *to)
{
    int code = call(os, OS_MEMORY_RENAME);
    if (code < 0)
        return code;
    struct name *name = find_name(&os->seen, from);
    if (name == NULL)
        return -ENOENT;
    tell_watch(os);
    change_names(os, from, to, name->inode);
    return 0;
}

int os_unlink(struct os *os, const char *path)
{
    int code = call(os, OS_MEMORY_UNLINK);
    if (code < 0)
        return code;
    if (find_name(&os->seen, path) == NULL)
        return -ENOENT;
    tell_watch(os);
    change_names(os, path, "", NULL);
    return 0;
}

int os_mkdir(struct os *os, const char *path)
{
    int code = call(os, OS_MEMORY_MKDIR);
    if (code < 0)
        return code;
    if (find_name(&os->seen, path) != NULL)
        return -EEXIST;
    if (!has_parent(&os->seen, path))
        return -ENOENT;
    tell_watch(os);
    change_names(os, "", path, inode_new(os, true));
    return 0;
}

int os_sync_dir(struct os *os, const char *path)
{
    int code = call(os, OS_MEMORY_SYNC_DIR);
    if (code < 0)
        return code;
    tell_watch(os);
    size_t left = 0;
    for (size_t i = 0; i < os->change_count; i++) {
        char parent[PATH_MAX_HERE];
        const struct change *change = &os->changes[i];
        parent_of(change->to[0] != '\0' ? change->to : change->from, parent);
        if (strcmp(parent, path) == 0)
            apply(&os->stable, change);
        else
            os->changes[left++] = *change;
    }
    os->change_count = left;
    return 0;
}

int os_list_dir(struct os *os, const char *path, void (*visit)(void *context, const char *name),
                void *context)
{
    int code = call(os, OS_MEMORY_LIST_DIR);
    if (code < 0)
        return code;
    struct name *directory = find_name(&os->seen, path);
    if (directory == NULL || !directory->inode->is_directory)
        return -ENOENT;
    for (size_t i = os->seen.count; i > 0; i--) {
        char parent[PATH_MAX_HERE];
        parent_of(os->seen.items[i - 1].path, parent);
        if (strcmp(parent, path) == 0)
            visit(context, strrchr(os->seen.items[i - 1].path, '/') + 1);
    }
    return 0;
}

int os_lock(struct os *os, int fd)
{
    int code = call(os, OS_MEMORY_LOCK);
    if (code < 0)
        return code;
    struct inode *inode = inode_of(os, fd, 0);
    if (inode->locked_by >= 0 && inode->locked_by != fd)
        return -EWOULDBLOCK;
    inode->locked_by = fd;
    return 0;
}

int os_flush_open(struct os *os)
{
    int code = call(os, OS_MEMORY_FLUSH_OPEN);
    return code < 0 ? code : descriptor_new(os, QUEUE, 0);
}

int os_flush_start(struct os *os, int queue_fd, int fd, uint64_t ticket)
{
    int code = call(os, OS_MEMORY_FLUSH_START);
    assert(os->descriptors[queue_fd].inode == QUEUE);
    if (code < 0)
        return code;
    if (os->held_count == OS_FLUSHES_MAX)
        return -EAGAIN;
    tell_watch(os);
    held_take(&os->held[os->held_count++], inode_of(os, fd, 0), ticket);
    return 0;
}

int os_flush_done(struct os *os, int queue_fd, struct os_flush *flushes, int flush_max)
{
    (void)call(os, OS_MEMORY_FLUSH_DONE);
    assert(os->descriptors[queue_fd].inode == QUEUE);
    int count = 0, left = 0;
    for (int i = 0; i < os->held_count; i++) {
        struct held *held = &os->held[i];
        if (!held->is_done && !os->hold)
            held_end(held, 0);
        if (!held->is_done || count == flush_max) {
            os->held[left++] = *held;
            continue;
        }
        flushes[count++] = (struct os_flush){ .ticket = held->ticket, .result = held->result };
        held_release(held);
    }
    os->held_count = left;
    return count;
}
