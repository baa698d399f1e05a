/* The simulated disk against a naive oracle: one that keeps every operation since the last cut, and
 * finds out what is visible, what is stable and what a power cut may leave by doing them all again.
 *
 * Its files are looked at through a window of 64 bytes around the boundary of two sectors, and
 * writes have up to 6 bytes: so all ways to tear them can be counted up. What a cut leaves must
 * be one of those; and with many cuts of one state, each of those must come up. */
#include "tests/sim/disk.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/os/os.h"

#define WINDOW 64
#define WINDOW_AT 480 /* the boundary of sectors, 512, is in the middle */
#define WRITE_MAX 6
/* For what is looked at millions of times: check writes each of its own to a file. */
#define EXPECT(condition) \
    do { \
        if (!(condition)) \
            ck_abort_msg("%s", #condition); \
    } while (0)

/* -- The oracle: bytes ------------------------------------------------------------------------- */

enum op_state { PENDING, STABLE, LOST };

struct op {
    bool is_truncation;
    uint64_t offset; /* or the new size */
    size_t size;
    uint8_t bytes[WRITE_MAX];
    enum op_state state;
};

struct image {
    uint8_t window[WINDOW];
    uint64_t size;
};

#define OPS_MAX 64

struct model_file {
    struct disk_file *file;
    bool held;
    struct image base; /* at the last cut: stable */
    struct op ops[OPS_MAX];
    size_t op_count;
};

static void image_write(struct image *image, const struct op *op, unsigned mask)
{
    for (size_t i = 0; i < op->size; i++)
        if ((mask >> i & 1) != 0)
            image->window[op->offset + i - WINDOW_AT] = op->bytes[i];
}

/* Bytes behind the size are gone. */
static void image_cut(struct image *image)
{
    for (uint64_t i = 0; i < WINDOW; i++)
        if (WINDOW_AT + i >= image->size)
            image->window[i] = 0;
}

static void image_resize(struct image *image, const struct op *op)
{
    if (op->is_truncation || op->offset + op->size > image->size)
        image->size = op->is_truncation ? op->offset : op->offset + op->size;
    if (op->is_truncation)
        image_cut(image);
}

static struct image replay(const struct model_file *file, bool visible)
{
    struct image image = file->base;
    for (size_t i = 0; i < file->op_count; i++) {
        if (!visible && file->ops[i].state != STABLE)
            continue;
        if (!file->ops[i].is_truncation)
            image_write(&image, &file->ops[i], ~0u);
        image_resize(&image, &file->ops[i]);
    }
    return image;
}

static size_t pending_count(const struct model_file *file)
{
    size_t count = 0;
    for (size_t i = 0; i < file->op_count; i++)
        count += file->ops[i].state == PENDING;
    return count;
}

static struct image image_of(const uint8_t *bytes, size_t size)
{
    struct image image = { .size = size };
    static const uint8_t zeros[WINDOW_AT];
    EXPECT(memcmp(bytes, zeros, size < WINDOW_AT ? size : WINDOW_AT) == 0);
    if (size > WINDOW_AT)
        memcpy(image.window, bytes + WINDOW_AT, size - WINDOW_AT);
    return image;
}

static bool images_equal(const struct image *a, const struct image *b)
{
    return a->size == b->size && memcmp(a->window, b->window, WINDOW) == 0;
}

/* -- The oracle: what a cut may leave of a file ------------------------------------------------ */

struct images { /* a set */
    struct image *items;
    bool *reached;
    size_t count, capacity, reached_count;
    size_t *table; /* place + 1 */
    size_t *slots; /* of the items, in the table */
    size_t table_size;
};

static size_t images_slot(const struct images *set, const struct image *image)
{
    uint64_t hash = image->size;
    for (size_t i = 0; i < WINDOW; i++)
        hash = (hash ^ image->window[i]) * UINT64_C(1099511628211);
    size_t slot = (size_t)(hash >> 20) % set->table_size;
    while (set->table[slot] != 0 && !images_equal(&set->items[set->table[slot] - 1], image))
        slot = (slot + 1) % set->table_size;
    return slot;
}

static void images_init(struct images *set)
{
    *set = (struct images){ .capacity = 200000, .table_size = 400009 };
    set->items = malloc(set->capacity * sizeof *set->items);
    set->reached = calloc(set->capacity, sizeof *set->reached);
    set->table = calloc(set->table_size, sizeof *set->table);
    set->slots = malloc(set->capacity * sizeof *set->slots);
}

static void images_clear(struct images *set)
{
    for (size_t i = 0; i < set->count; i++) {
        set->reached[i] = false;
        set->table[set->slots[i]] = 0;
    }
    set->count = set->reached_count = 0;
}

static void images_release(struct images *set)
{
    free(set->items);
    free(set->reached);
    free(set->table);
    free(set->slots);
}

static void images_add(struct images *set, const struct image *image)
{
    size_t slot = images_slot(set, image);
    if (set->table[slot] != 0)
        return;
    EXPECT(set->count < set->capacity);
    set->slots[set->count] = slot;
    set->items[set->count++] = *image;
    set->table[slot] = set->count;
}

/* Marks it as reached; false if it is not in the set. */
static bool images_reach(struct images *set, const struct image *image)
{
    size_t slot = images_slot(set, image);
    if (set->table[slot] == 0)
        return false;
    bool *reached = &set->reached[set->table[slot] - 1];
    set->reached_count += !*reached;
    *reached = true;
    return true;
}

/* All that a cut may keep of the bytes of a write, as masks. */
static int masks_of(const struct op *op, enum disk_tear tear, unsigned *masks)
{
    unsigned full = (1u << op->size) - 1, left = 0;
    for (size_t i = 0; i < op->size; i++)
        left |= op->offset + i < 512 ? 1u << i : 0;
    int count = 0;
    masks[count++] = 0;
    masks[count++] = full;
    if (tear != DISK_TEAR_NOTHING && left != 0 && left != full) {
        masks[count++] = left;
        masks[count++] = full & ~left;
    }
    for (size_t prefix = 1; prefix < op->size && tear == DISK_TEAR_BYTES; prefix++)
        masks[count++] = (1u << prefix) - 1;
    return count;
}

struct search {
    const struct model_file *file;
    enum disk_tear tear;
    size_t sizes_kept; /* of the pending ones */
    struct images *found;
};

static void search_end(const struct search *search, const struct image *image,
                       uint64_t size_before_growth)
{
    struct image left = *image;
    image_cut(&left);
    images_add(search->found, &left);
    if (search->tear != DISK_TEAR_BYTES)
        return;
    for (uint64_t size = size_before_growth; size < image->size; size++) {
        left = *image;
        left.size = size;
        image_cut(&left);
        images_add(search->found, &left);
    }
}

/* `number`: of pending ones so far. `before`: the size before the last growth that was kept, if
 * that is the last effect on the size. */
static void search_from(const struct search *search, size_t at, size_t number,
                        const struct image *image, uint64_t before)
{
    const struct model_file *file = search->file;
    while (at < file->op_count && file->ops[at].state != PENDING)
        at++;
    if (at == file->op_count) {
        search_end(search, image, before);
        return;
    }
    const struct op *op = &file->ops[at];
    unsigned masks[16] = { 0 };
    int mask_count = op->is_truncation ? 1 : masks_of(op, search->tear, masks);
    for (int i = 0; i < mask_count; i++) {
        struct image next = *image;
        uint64_t before_next = before;
        image_write(&next, op, op->is_truncation ? 0 : masks[i]);
        if (number < search->sizes_kept) {
            before_next = next.size;
            image_resize(&next, op);
            if (op->is_truncation)
                before_next = next.size;
        }
        search_from(search, at + 1, number + 1, &next, before_next);
    }
}

static void legal_cuts(const struct model_file *file, enum disk_tear tear, struct images *found)
{
    images_clear(found);
    struct image stable = replay(file, false);
    size_t count = pending_count(file);
    for (size_t kept = 0; kept <= count; kept++) {
        struct search search = { file, tear, kept, found };
        search_from(&search, 0, 0, &stable, UINT64_MAX);
    }
}

/* -- The oracle: names ------------------------------------------------------------------------- */

#define NAMES 5
#define FILES_MAX 200
#define NAME_CHANGES_MAX 200
#define FLUSHES_MAX 6

static const char *const names[NAMES] = { "d/a", "d/b", "e/a", "e/b", "c" };
static const char *const directories[] = { "d", "e", "." };
static const int directory_of[NAMES] = { 0, 0, 1, 1, 2 };

struct name_change {
    int from, to, file; /* -1: none */
    bool is_stable;
};

struct flush {
    int file;
    uint64_t mark;
    size_t covers; /* operations of the file */
};

struct model {
    struct timeline *timeline;
    struct trace *trace;
    struct disk *disk;
    struct random random;
    struct model_file *files;
    int file_count;
    int base[NAMES];
    struct name_change changes[NAME_CHANGES_MAX];
    size_t change_count;
    struct flush flushes[FLUSHES_MAX];
    int flush_count;
    struct images found;
    uint8_t next_byte;
};

static void replay_change(int table[NAMES], const struct name_change *change)
{
    if (change->from >= 0)
        table[change->from] = -1;
    if (change->to >= 0)
        table[change->to] = change->file;
}

static void replay_names(const struct model *model, bool visible, int table[NAMES])
{
    memcpy(table, model->base, sizeof model->base);
    for (size_t i = 0; i < model->change_count; i++)
        if (visible || model->changes[i].is_stable)
            replay_change(table, &model->changes[i]);
}

static bool touches(const struct name_change *change, int name)
{
    return change->from == name || change->to == name;
}

static bool share_name(const struct name_change *a, const struct name_change *b)
{
    return (a->from >= 0 && touches(b, a->from)) || (a->to >= 0 && touches(b, a->to));
}

static size_t pending_names(const struct model *model, const struct name_change **pending)
{
    size_t count = 0;
    for (size_t i = 0; i < model->change_count; i++)
        if (!model->changes[i].is_stable)
            pending[count++] = &model->changes[i];
    return count;
}

/* For each name, those kept are the first ones. */
static bool is_legal_subset(const struct name_change **pending, size_t count, unsigned kept)
{
    for (int name = 0; name < NAMES; name++) {
        bool is_barred = false;
        for (size_t i = 0; i < count; i++) {
            if (!touches(pending[i], name))
                continue;
            bool is_kept = (kept >> i & 1) != 0;
            if (is_kept && is_barred)
                return false;
            is_barred = is_barred || !is_kept;
        }
    }
    return true;
}

static void subset_names(const struct model *model, const struct name_change **pending,
                         size_t count, unsigned kept, int table[NAMES])
{
    replay_names(model, false, table);
    for (size_t i = 0; i < count; i++)
        if ((kept >> i & 1) != 0)
            replay_change(table, pending[i]);
}

/* The table after the cut, as the disk has it: -2 for a file that the model does not know. */
static void actual_names(const struct model *model, struct disk *disk, int table[NAMES])
{
    for (int name = 0; name < NAMES; name++) {
        struct disk_file *file = NULL;
        table[name] = -1;
        if (disk_open(disk, names[name], OS_READ, &file) != 0)
            continue;
        disk_release(disk, file);
        table[name] = -2;
        for (int i = model->file_count; i-- != 0 && table[name] == -2;)
            if (model->files[i].file == file)
                table[name] = i;
    }
}

/* -- Doing things to both ---------------------------------------------------------------------- */

static struct model *model_new(uint64_t seed)
{
    struct model *model = calloc(1, sizeof *model);
    model->timeline = timeline_new(seed);
    model->trace = trace_new(model->timeline, false);
    model->disk = disk_new(model->trace, 0);
    model->random = random_stream(seed, 1);
    model->files = calloc(FILES_MAX, sizeof *model->files);
    for (int name = 0; name < NAMES; name++)
        model->base[name] = -1;
    images_init(&model->found);
    EXPECT(disk_mkdir(model->disk, "d") == 0);
    EXPECT(disk_mkdir(model->disk, "e") == 0);
    EXPECT(disk_sync_dir(model->disk, ".") == 0);
    return model;
}

static void model_free(struct model *model)
{
    disk_free(model->disk);
    trace_free(model->trace);
    timeline_free(model->timeline);
    images_release(&model->found);
    free(model->files);
    free(model);
}

static void add_change(struct model *model, int from, int to, int file)
{
    EXPECT(model->change_count < NAME_CHANGES_MAX);
    model->changes[model->change_count++] = (struct name_change){ from, to, file, false };
}

static void model_open(struct model *model, int name)
{
    int table[NAMES];
    replay_names(model, true, table);
    struct disk_file *file = NULL;
    int code = disk_open(model->disk, names[name], OS_READ | OS_WRITE, &file);
    EXPECT(code == (table[name] < 0 ? -ENOENT : 0));
    if (code != 0) {
        unsigned flags = OS_READ | OS_WRITE | OS_CREATE | OS_EXCLUSIVE;
        EXPECT(disk_open(model->disk, names[name], flags, &file) == 0);
        EXPECT(model->file_count < FILES_MAX);
        table[name] = model->file_count;
        model->files[model->file_count++].file = file;
        add_change(model, -1, name, table[name]);
    }
    struct model_file *opened = &model->files[table[name]];
    EXPECT(opened->file == file);
    if (opened->held)
        disk_release(model->disk, file);
    opened->held = true;
}

/* A file that is held, or -1. */
static int any_held(struct model *model)
{
    int held[FILES_MAX], count = 0;
    for (int i = 0; i < model->file_count; i++)
        if (model->files[i].held)
            held[count++] = i;
    return count == 0 ? -1 : held[random_below(&model->random, (uint64_t)count)];
}

static struct op *add_op(struct model_file *file)
{
    EXPECT(file->op_count < OPS_MAX);
    struct op *op = &file->ops[file->op_count++];
    *op = (struct op){ 0 };
    return op;
}

static void model_write(struct model *model, struct model_file *file)
{
    struct op *op = add_op(file);
    op->size = (size_t)random_between(&model->random, 1, WRITE_MAX);
    /* Half of them across the boundary of sectors. */
    op->offset = random_chance(&model->random, 500)
                     ? random_between(&model->random, 508, 511)
                     : random_between(&model->random, WINDOW_AT, WINDOW_AT + WINDOW - op->size);
    for (size_t i = 0; i < op->size; i++)
        op->bytes[i] = ++model->next_byte == 0 ? ++model->next_byte : model->next_byte;
    size_t first = (size_t)random_between(&model->random, 0, op->size);
    struct iovec parts[3] = { { op->bytes, first },
                              { NULL, 0 },
                              { op->bytes + first, op->size - first } };
    EXPECT(disk_write(model->disk, file->file, parts, 3, op->offset) == (ptrdiff_t)op->size);
}

static void model_truncate(struct model *model, struct model_file *file)
{
    uint64_t size = random_chance(&model->random, 300)
                        ? 0
                        : random_between(&model->random, WINDOW_AT, WINDOW_AT + WINDOW);
    bool is_change = size != replay(file, true).size;
    EXPECT(disk_truncate(model->disk, file->file, size) == 0);
    if (!is_change)
        return;
    struct op *op = add_op(file);
    op->is_truncation = true;
    op->offset = size;
}

static void model_flush_begin(struct model *model, int file)
{
    if (model->flush_count == FLUSHES_MAX)
        return;
    struct disk_file *flushed = model->files[file].file;
    disk_hold(flushed);
    model->flushes[model->flush_count++] =
        (struct flush){ file, disk_flush_begin(model->disk, flushed), model->files[file].op_count };
}

static void model_flush_end(struct model *model)
{
    if (model->flush_count == 0)
        return;
    size_t which = (size_t)random_below(&model->random, (uint64_t)model->flush_count);
    struct flush flush = model->flushes[which];
    model->flushes[which] = model->flushes[--model->flush_count];
    int result = random_chance(&model->random, 200) ? -EIO : 0;
    struct model_file *file = &model->files[flush.file];
    disk_flush_end(model->disk, file->file, flush.mark, result);
    disk_release(model->disk, file->file);
    for (size_t i = 0; i < flush.covers; i++)
        if (file->ops[i].state == PENDING)
            file->ops[i].state = result == 0 ? STABLE : LOST;
}

static void model_rename(struct model *model, int from, int to)
{
    int table[NAMES];
    replay_names(model, true, table);
    int code = disk_rename(model->disk, names[from], names[to]);
    EXPECT(code == (table[from] < 0 ? -ENOENT : 0));
    if (code == 0 && from != to)
        add_change(model, from, to, table[from]);
}

static void model_unlink(struct model *model, int name)
{
    int table[NAMES];
    replay_names(model, true, table);
    int code = disk_unlink(model->disk, names[name]);
    EXPECT(code == (table[name] < 0 ? -ENOENT : 0));
    if (code == 0)
        add_change(model, name, -1, table[name]);
}

static bool stands_in(const struct name_change *change, int directory)
{
    return (change->from >= 0 && directory_of[change->from] == directory) ||
           (change->to >= 0 && directory_of[change->to] == directory);
}

static void model_sync(struct model *model, int directory)
{
    EXPECT(disk_sync_dir(model->disk, directories[directory]) == 0);
    bool taken[NAME_CHANGES_MAX] = { false };
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < model->change_count; i++) {
            if (model->changes[i].is_stable || taken[i])
                continue;
            bool is_needed = stands_in(&model->changes[i], directory);
            for (size_t j = i + 1; j < model->change_count; j++)
                is_needed =
                    is_needed || (taken[j] && share_name(&model->changes[i], &model->changes[j]));
            taken[i] = is_needed;
            again = again || is_needed;
        }
    }
    /* Those that stay pending come behind: they share no name with those taken before them. */
    for (size_t i = 0; i < model->change_count; i++)
        model->changes[i].is_stable = model->changes[i].is_stable || taken[i];
}

static void model_step(struct model *model)
{
    int name = (int)random_below(&model->random, NAMES);
    int other = (int)random_below(&model->random, NAMES);
    int held = any_held(model);
    uint64_t what = random_below(&model->random, 100);
    if (what < 12 || held < 0)
        model_open(model, name);
    else if (what < 45)
        model_write(model, &model->files[held]);
    else if (what < 55)
        model_truncate(model, &model->files[held]);
    else if (what < 67)
        model_flush_begin(model, held);
    else if (what < 77)
        model_flush_end(model);
    else if (what < 84)
        model_rename(model, name, other);
    else if (what < 88)
        model_unlink(model, name);
    else if (what < 94)
        model_sync(model, (int)random_below(&model->random, 3));
    else {
        disk_release(model->disk, model->files[held].file);
        model->files[held].held = false;
    }
}

/* -- Comparing --------------------------------------------------------------------------------- */

static void compare_name(const struct model *model, int name, int visible, int stable)
{
    size_t size = 0;
    const uint8_t *bytes = disk_visible_bytes(model->disk, names[name], &size);
    EXPECT((bytes != NULL) == (visible >= 0));
    if (bytes != NULL) {
        struct image actual = image_of(bytes, size),
                     expected = replay(&model->files[visible], true);
        EXPECT(images_equal(&actual, &expected));
        EXPECT(disk_size(model->files[visible].file) == expected.size);
    }
    bytes = disk_stable_bytes(model->disk, names[name], &size);
    EXPECT((bytes != NULL) == (stable >= 0));
    if (bytes != NULL) {
        struct image actual = image_of(bytes, size),
                     expected = replay(&model->files[stable], false);
        EXPECT(images_equal(&actual, &expected));
    }
}

static void compare(const struct model *model)
{
    int visible[NAMES], stable[NAMES];
    replay_names(model, true, visible);
    replay_names(model, false, stable);
    for (int name = 0; name < NAMES; name++)
        compare_name(model, name, visible[name], stable[name]);
}

/* Files whose bytes can come back: those with a name that is visible, stable or between. */
static size_t reachable_pending(const struct model *model)
{
    bool reachable[FILES_MAX] = { false };
    int table[NAMES];
    for (int visible = 0; visible < 2; visible++) {
        replay_names(model, visible != 0, table);
        for (int name = 0; name < NAMES; name++)
            if (table[name] >= 0)
                reachable[table[name]] = true;
    }
    for (size_t i = 0; i < model->change_count; i++)
        if (!model->changes[i].is_stable)
            reachable[model->changes[i].file] = true;
    for (int i = 0; i < model->flush_count; i++)
        reachable[model->flushes[i].file] = true;
    size_t count = 0;
    for (int i = 0; i < model->file_count; i++)
        if (reachable[i] || model->files[i].held)
            count += pending_count(&model->files[i]);
    return count;
}

/* -- Cutting ----------------------------------------------------------------------------------- */

static void forget_process(struct model *model)
{
    for (int i = 0; i < model->file_count; i++)
        model->files[i].held = false;
    model->flush_count = 0;
}

static void check_cut_names(struct model *model, const int actual[NAMES])
{
    const struct name_change *pending[NAME_CHANGES_MAX];
    size_t count = pending_names(model, pending);
    for (unsigned kept = 0; kept < 1u << count; kept++) {
        int table[NAMES];
        if (!is_legal_subset(pending, count, kept))
            continue;
        subset_names(model, pending, count, kept, table);
        if (memcmp(table, actual, sizeof table) == 0)
            return;
    }
    ck_abort_msg("the cut has left a table of names that it must not leave");
}

static void model_cut(struct model *model, enum disk_tear tear, bool all_lost)
{
    int actual[NAMES];
    forget_process(model);
    if (all_lost)
        disk_power_cut_all_lost(model->disk);
    else
        disk_power_cut(model->disk, &model->random, tear);
    actual_names(model, model->disk, actual);
    if (all_lost) {
        int expected[NAMES];
        replay_names(model, false, expected);
        EXPECT(memcmp(actual, expected, sizeof actual) == 0);
    }
    check_cut_names(model, actual);
    for (int name = 0; name < NAMES; name++) {
        if (actual[name] < 0)
            continue;
        struct model_file *file = &model->files[actual[name]];
        size_t size = 0;
        const uint8_t *bytes = disk_visible_bytes(model->disk, names[name], &size);
        struct image image = image_of(bytes, size), stable = replay(file, false);
        if (all_lost)
            EXPECT(images_equal(&image, &stable));
        legal_cuts(file, tear, &model->found);
        EXPECT(images_reach(&model->found, &image));
        file->base = image;
        file->op_count = 0;
    }
    memcpy(model->base, actual, sizeof actual);
    model->change_count = 0;
    EXPECT(disk_unstable_writes(model->disk) == 0);
}

/* So that what is possible can be counted up. */
static void keep_small(struct model *model, size_t pending_max)
{
    const struct name_change *pending[NAME_CHANGES_MAX];
    if (pending_names(model, pending) > 7)
        for (int i = 0; i < 3; i++)
            model_sync(model, i);
    for (int i = 0; i < model->file_count; i++) {
        struct model_file *file = &model->files[i];
        if (!file->held || pending_count(file) <= pending_max)
            continue;
        disk_flush_end(model->disk, file->file, disk_flush_begin(model->disk, file->file), 0);
        for (size_t j = 0; j < file->op_count; j++)
            if (file->ops[j].state == PENDING)
                file->ops[j].state = STABLE;
    }
}

START_TEST(histories_go_as_the_oracle_says)
{
    for (uint64_t seed = 0; seed < 250; seed++) {
        struct model *model = model_new(1000 * (uint64_t)_i + seed);
        for (int life = 0; life < 4; life++) {
            enum disk_tear tear = (enum disk_tear)random_below(&model->random, 3);
            uint64_t steps = random_between(&model->random, 1, 40);
            for (uint64_t step = 0; step < steps; step++) {
                model_step(model);
                keep_small(model, tear == DISK_TEAR_NOTHING ? 6 : 2);
                compare(model);
                EXPECT(disk_unstable_writes(model->disk) == reachable_pending(model));
            }
            if (random_chance(&model->random, 200)) { /* the process alone */
                forget_process(model);
                disk_process_died(model->disk);
                compare(model);
            }
            model_cut(model, tear, random_chance(&model->random, 100));
            compare(model);
        }
        model_free(model);
    }
}
END_TEST

/* -- Every cut that is possible happens -------------------------------------------------------- */

START_TEST(every_legal_cut_of_a_file_is_reached)
{
    enum disk_tear tear = (enum disk_tear)(_i % 3);
    struct model *model = model_new(77 + (uint64_t)_i);
    model_open(model, 0);
    model_sync(model, 0);
    struct model_file *file = &model->files[0];
    for (int i = 0; i < _i % 4; i++) { /* something stable, something lost */
        model_write(model, file);
        model_flush_begin(model, 0);
        model_flush_end(model);
    }
    while (model->flush_count != 0)
        model_flush_end(model);
    int changes = tear == DISK_TEAR_NOTHING ? 4 : 2;
    for (int i = 0; i < changes; i++) {
        if (random_chance(&model->random, 250))
            model_truncate(model, file);
        else
            model_write(model, file);
    }
    compare(model);
    legal_cuts(file, tear, &model->found);
    for (int cut = 0; cut < 300000 && model->found.reached_count < model->found.count; cut++) {
        struct disk *clone = disk_clone(model->disk);
        disk_power_cut(clone, &model->random, tear);
        size_t size = 0;
        const uint8_t *bytes = disk_visible_bytes(clone, names[0], &size);
        struct image image = image_of(bytes, size);
        EXPECT(images_reach(&model->found, &image));
        disk_free(clone);
    }
    EXPECT(model->found.reached_count == model->found.count);
    compare(model); /* clones are copies */
    model_free(model);
}
END_TEST

#define TABLES_MAX 256

struct tables {
    int of[TABLES_MAX][NAMES];
    bool reached[TABLES_MAX];
    size_t count, reached_count;
};

static size_t tables_find(const struct tables *tables, const int table[NAMES])
{
    size_t i = 0;
    while (i < tables->count && memcmp(tables->of[i], table, sizeof tables->of[i]) != 0)
        i++;
    return i;
}

static void legal_tables(const struct model *model, struct tables *tables)
{
    const struct name_change *pending[NAME_CHANGES_MAX];
    size_t count = pending_names(model, pending);
    for (unsigned kept = 0; kept < 1u << count; kept++) {
        int table[NAMES];
        if (!is_legal_subset(pending, count, kept))
            continue;
        subset_names(model, pending, count, kept, table);
        if (tables_find(tables, table) == tables->count)
            memcpy(tables->of[tables->count++], table, sizeof table);
    }
}

/* The model's files by what is in them: a clone has other addresses. */
static void actual_tables(const struct disk *disk, int table[NAMES])
{
    for (int name = 0; name < NAMES; name++) {
        size_t size = 0;
        const uint8_t *bytes = disk_visible_bytes(disk, names[name], &size);
        table[name] = bytes == NULL ? -1 : bytes[0];
    }
}

START_TEST(every_legal_cut_of_names_is_reached)
{
    struct model *model = model_new(500 + (uint64_t)_i);
    for (int i = 0; i < 20; i++) {
        const struct name_change *pending[NAME_CHANGES_MAX];
        if (pending_names(model, pending) == 5)
            break;
        if (i == 3)
            model_sync(model, 0);
        int name = (int)random_below(&model->random, NAMES);
        int other = (int)random_below(&model->random, NAMES);
        if (random_chance(&model->random, 400))
            model_rename(model, name, other);
        else if (random_chance(&model->random, 300))
            model_unlink(model, name);
        else
            model_open(model, name);
    }
    for (int i = 0; i < model->file_count; i++) {
        struct disk_file *file = model->files[i].file;
        uint8_t number = (uint8_t)i;
        disk_write(model->disk, file, &(struct iovec){ &number, 1 }, 1, 0);
        disk_flush_end(model->disk, file, disk_flush_begin(model->disk, file), 0);
    }
    struct tables *tables = calloc(1, sizeof *tables);
    legal_tables(model, tables);
    for (int cut = 0; cut < 20000 && tables->reached_count < tables->count; cut++) {
        int table[NAMES];
        struct disk *clone = disk_clone(model->disk);
        disk_power_cut(clone, &model->random, DISK_TEAR_BYTES);
        actual_tables(clone, table);
        size_t found = tables_find(tables, table);
        EXPECT(found < tables->count);
        tables->reached_count += !tables->reached[found];
        tables->reached[found] = true;
        disk_free(clone);
    }
    EXPECT(tables->reached_count == tables->count);
    free(tables);
    model_free(model);
}
END_TEST

/* -- Flushes ----------------------------------------------------------------------------------- */

static struct disk_file *open_file(struct disk *disk, const char *path)
{
    struct disk_file *file = NULL;
    ck_assert_int_eq(disk_open(disk, path, OS_READ | OS_WRITE | OS_CREATE, &file), 0);
    return file;
}

static ptrdiff_t put(struct disk *disk, struct disk_file *file, const char *text, uint64_t offset)
{
    struct iovec part = { (void *)(uintptr_t)text, strlen(text) };
    return disk_write(disk, file, &part, 1, offset);
}

static void flush(struct disk *disk, struct disk_file *file)
{
    disk_flush_end(disk, file, disk_flush_begin(disk, file), 0);
}

static void check_stable(const struct disk *disk, const char *path, const char *expected)
{
    size_t size = 0;
    const uint8_t *bytes = disk_stable_bytes(disk, path, &size);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_uint_eq(size, strlen(expected));
    ck_assert_mem_eq(bytes, expected, size);
}

START_TEST(a_flush_covers_what_was_written_before_it_began)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = open_file(disk, "log");
    disk_sync_dir(disk, ".");
    put(disk, file, "aaaa", 0);
    uint64_t first = disk_flush_begin(disk, file);
    put(disk, file, "bb", 1); /* over it: the flush has the bytes as they were */
    uint64_t second = disk_flush_begin(disk, file);
    put(disk, file, "c", 4);
    check_stable(disk, "log", "");
    disk_flush_end(disk, file, first, 0);
    check_stable(disk, "log", "aaaa");
    disk_flush_end(disk, file, second, 0);
    check_stable(disk, "log", "abba");
    ck_assert_uint_eq(disk_unstable_writes(disk), 1);

    first = disk_flush_begin(disk, file);
    put(disk, file, "d", 5);
    second = disk_flush_begin(disk, file);
    disk_flush_end(disk, file, second, 0); /* the later one is done first, and has both */
    check_stable(disk, "log", "abbacd");
    disk_flush_end(disk, file, first, -EIO); /* too late to lose anything */
    check_stable(disk, "log", "abbacd");
    disk_free(disk);
}
END_TEST

START_TEST(what_a_failed_flush_had_is_lost_for_good)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = open_file(disk, "log");
    disk_sync_dir(disk, ".");
    put(disk, file, "aaaa", 0);
    flush(disk, file);
    put(disk, file, "XX", 1);
    uint64_t mark = disk_flush_begin(disk, file);
    put(disk, file, "b", 4);
    disk_flush_end(disk, file, mark, -EIO);
    flush(disk, file);
    check_stable(disk, "log", "aaaab");
    char seen[8] = { 0 };
    ck_assert_int_eq(disk_read(disk, file, seen, sizeof seen, 0), 5);
    ck_assert_str_eq(seen, "aXXab");
    put(disk, file, "X", 1); /* written again, it counts again */
    flush(disk, file);
    check_stable(disk, "log", "aXaab");
    struct random random = random_stream(1, 1);
    disk_power_cut(disk, &random, DISK_TEAR_BYTES);
    size_t size = 0;
    ck_assert_mem_eq(disk_visible_bytes(disk, "log", &size), "aXaab", 5);
    disk_free(disk);
}
END_TEST

struct told {
    char paths[8][16];
    int count;
};

static void on_stable(void *context, const char *path)
{
    struct told *told = context;
    snprintf(told->paths[told->count++], sizeof told->paths[0], "%s", path);
}

START_TEST(it_tells_what_has_become_stable)
{
    struct disk *disk = disk_new(NULL, 0);
    struct told told = { .count = 0 };
    disk_on_stable(disk, on_stable, &told);
    struct disk_file *file = open_file(disk, "new");
    put(disk, file, "a", 0);
    disk_flush_end(disk, file, disk_flush_begin(disk, file), -EIO);
    ck_assert_int_eq(told.count, 0);
    flush(disk, file);
    ck_assert_int_eq(told.count, 1);
    size_t size = 0;
    ck_assert_ptr_null(disk_stable_bytes(disk, "new", &size)); /* not under this name yet */
    disk_rename(disk, "new", "log");
    disk_sync_dir(disk, ".");
    flush(disk, file);
    disk_unlink(disk, "log");
    flush(disk, file);
    ck_assert_int_eq(told.count, 3);
    ck_assert_str_eq(told.paths[0], "new");
    ck_assert_str_eq(told.paths[1], "log");
    ck_assert_str_eq(told.paths[2], "log");
    disk_free(disk);
}
END_TEST

START_TEST(the_death_of_the_process_loses_and_flushes_nothing)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = open_file(disk, "log"), *gone = open_file(disk, "gone");
    disk_sync_dir(disk, ".");
    put(disk, file, "abc", 0);
    put(disk, gone, "abc", 0);
    disk_unlink(disk, "gone");
    disk_sync_dir(disk, ".");
    ck_assert_uint_eq(disk_used(disk), 8192);
    disk_process_died(disk);
    ck_assert_uint_eq(disk_used(disk), 4096);
    ck_assert_uint_eq(disk_unstable_writes(disk), 1);
    check_stable(disk, "log", "");
    file = open_file(disk, "log");
    ck_assert_uint_eq(disk_size(file), 3);
    flush(disk, file); /* the kernel had the bytes all the time */
    check_stable(disk, "log", "abc");
    disk_free(disk);
}
END_TEST

/* -- Names ------------------------------------------------------------------------------------- */

static void note_name(void *context, const char *name)
{
    char *list = context;
    strcat(strcat(list, name), " ");
}

START_TEST(names_answer_as_a_system_does)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = NULL;
    ck_assert_int_eq(disk_open(disk, "/d/x", OS_READ, &file), -ENOENT);
    ck_assert_int_eq(disk_open(disk, "/d/x", OS_WRITE | OS_CREATE, &file), -ENOENT);
    ck_assert_int_eq(disk_mkdir(disk, "/d/e"), -ENOENT);
    ck_assert_int_eq(disk_mkdir(disk, "/d"), 0);
    ck_assert_int_eq(disk_mkdir(disk, "/d"), -EEXIST);
    ck_assert_int_eq(disk_mkdir(disk, "."), -EEXIST);
    ck_assert_int_eq(disk_open(disk, "/d", OS_READ, &file), -EISDIR);
    ck_assert_int_eq(disk_unlink(disk, "/d"), -EISDIR);
    ck_assert_int_eq(disk_unlink(disk, "/d/x"), -ENOENT);
    ck_assert_int_eq(disk_rename(disk, "/d/x", "/d/y"), -ENOENT);
    (void)open_file(disk, "/d/x");
    (void)open_file(disk, "/d-x");
    (void)open_file(disk, "/d/w");
    ck_assert_int_eq(disk_mkdir(disk, "/d/s"), 0);
    (void)open_file(disk, "/d/s/deep");
    ck_assert_int_eq(disk_open(disk, "/d/x", OS_WRITE | OS_CREATE | OS_EXCLUSIVE, &file), -EEXIST);
    ck_assert_int_eq(disk_rename(disk, "/d/x", "/n/y"), -ENOENT);
    ck_assert_int_eq(disk_rename(disk, "/d/x", "/d"), -EISDIR);
    ck_assert_int_eq(disk_rename(disk, "/d/x", "/d/x"), 0);
    ck_assert_int_eq(disk_sync_dir(disk, "/n"), -ENOENT);
    ck_assert_int_eq(disk_sync_dir(disk, "/d/x"), -ENOTDIR);
    ck_assert_int_eq(disk_sync_dir(disk, "/"), 0);

    char list[100] = "";
    ck_assert_int_eq(disk_list(disk, "/d", note_name, list), 0);
    ck_assert_str_eq(list, "s w x ");
    list[0] = '\0';
    ck_assert_int_eq(disk_list(disk, "/", note_name, list), 0);
    ck_assert_str_eq(list, "d d-x ");
    ck_assert_int_eq(disk_list(disk, "/n", note_name, list), -ENOENT);
    ck_assert_int_eq(disk_list(disk, "/d/x", note_name, list), -ENOTDIR);
    ck_assert_str_eq(disk_name(disk, "/d/", 0), "/d/s/deep");
    ck_assert_str_eq(disk_name(disk, "/d/", 2), "/d/x");
    ck_assert_ptr_null(disk_name(disk, "/d/", 3));
    disk_free(disk);
}
END_TEST

START_TEST(a_file_needs_a_stable_name_and_a_stable_directory)
{
    struct disk *disk = disk_new(NULL, 0);
    ck_assert_int_eq(disk_mkdir(disk, "d"), 0);
    struct disk_file *file = open_file(disk, "d/log");
    put(disk, file, "abc", 0);
    flush(disk, file);
    size_t size = 0;
    ck_assert_ptr_null(disk_stable_bytes(disk, "d/log", &size));
    disk_sync_dir(disk, "d");
    ck_assert_ptr_null(disk_stable_bytes(disk, "d/log", &size)); /* d itself may be lost */
    struct disk *without = disk_clone(disk);
    disk_power_cut_all_lost(without);
    ck_assert_ptr_null(disk_name(without, "", 0));
    ck_assert_uint_eq(disk_used(without), 0);
    disk_sync_dir(disk, ".");
    check_stable(disk, "d/log", "abc");
    disk_power_cut_all_lost(disk);
    check_stable(disk, "d/log", "abc");
    disk_free(disk);
    disk_free(without);
}
END_TEST

START_TEST(a_rename_over_a_file_is_the_old_one_or_the_new)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = open_file(disk, "identity");
    put(disk, file, "old", 0);
    flush(disk, file);
    disk_sync_dir(disk, ".");
    file = open_file(disk, "identity.new");
    put(disk, file, "new", 0);
    flush(disk, file);
    disk_rename(disk, "identity.new", "identity");
    struct random random = random_stream(1, 1);
    int old = 0, new = 0;
    for (int i = 0; i < 200; i++) {
        struct disk *clone = disk_clone(disk);
        disk_power_cut(clone, &random, DISK_TEAR_BYTES);
        size_t size = 0;
        const uint8_t *bytes = disk_visible_bytes(clone, "identity", &size);
        ck_assert_ptr_nonnull(bytes);
        ck_assert_uint_eq(size, 3);
        old += memcmp(bytes, "old", 3) == 0;
        new += memcmp(bytes, "new", 3) == 0;
        disk_free(clone);
    }
    ck_assert_int_eq(old + new, 200);
    ck_assert(old > 20 && new > 20);
    disk_free(disk);
}
END_TEST

/* -- Faults ------------------------------------------------------------------------------------ */

static ptrdiff_t put_zeros(struct disk *disk, struct disk_file *file, size_t size, uint64_t offset)
{
    static uint8_t zeros[65536];
    return disk_write(disk, file, &(struct iovec){ zeros, size }, 1, offset);
}

START_TEST(a_full_disk_takes_what_fits)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = open_file(disk, "a"), *other = open_file(disk, "b");
    disk_set_space(disk, 5 * 4096 + 100);
    ck_assert_int_eq(put_zeros(disk, file, 8192, 0), 8192);
    ck_assert_int_eq(put_zeros(disk, file, 1, 100 * 4096), 1); /* a hole costs nothing */
    ck_assert_uint_eq(disk_used(disk), 3 * 4096);
    ck_assert_int_eq(put_zeros(disk, other, 65536, 4000), 2 * 4096 - 4000);
    ck_assert_int_eq(put_zeros(disk, other, 1, 8192), -ENOSPC);
    ck_assert_int_eq(put_zeros(disk, file, 8192, 10), 8192 - 10); /* over what is there */
    ck_assert_int_eq(put_zeros(disk, file, 4096, 0), 4096);
    ck_assert_int_eq(disk_truncate(disk, file, 4097), 0);
    ck_assert_uint_eq(disk_used(disk), 4 * 4096);
    disk_unlink(disk, "b");
    ck_assert_uint_eq(disk_used(disk), 4 * 4096); /* still open */
    disk_release(disk, other);
    ck_assert_uint_eq(disk_used(disk), 2 * 4096);
    disk_set_space(disk, 0);
    ck_assert_int_eq(put_zeros(disk, file, 1, 8192), -ENOSPC);
    disk_set_space(disk, UINT64_MAX);
    ck_assert_int_eq(put_zeros(disk, file, 1, 8192), 1);
    disk_power_cut_all_lost(disk);
    ck_assert_uint_eq(disk_used(disk), 0);
    disk_free(disk);
}
END_TEST

/* Blocks that a zero-filled file has got stay its own through cuts; nothing leaks over many
 * lives. */
START_TEST(space_is_counted_right_through_cuts)
{
    struct disk *disk = disk_new(NULL, 0);
    struct random random = random_stream(8, 8);
    for (int life = 0; life < 300; life++) {
        struct disk_file *file = open_file(disk, life % 2 == 0 ? "a" : "b");
        for (int i = 0; i < 10; i++) {
            uint64_t at = random_below(&random, 40) * 4096;
            if (random_chance(&random, 200))
                disk_truncate(disk, file, at);
            else
                put_zeros(disk, file, (size_t)random_between(&random, 1, 9000), at);
            if (random_chance(&random, 300))
                flush(disk, file);
        }
        if (random_chance(&random, 300))
            disk_unlink(disk, "a");
        if (random_chance(&random, 500))
            disk_sync_dir(disk, ".");
        disk_power_cut(disk, &random, DISK_TEAR_SECTORS);
        uint64_t most = 0;
        const char *path;
        for (int i = 0; (path = disk_name(disk, "", i)) != NULL; i++) {
            size_t size = 0;
            (void)disk_visible_bytes(disk, path, &size);
            most += (size + 4095) / 4096 * 4096;
        }
        ck_assert_uint_le(disk_used(disk), most);
        if (life % 50 == 49) {
            disk_unlink(disk, "a");
            disk_unlink(disk, "b");
            ck_assert_uint_eq(disk_used(disk), 0);
            disk_sync_dir(disk, ".");
        }
    }
    struct disk_file *file = open_file(disk, "log");
    put_zeros(disk, file, 65536, 0);
    flush(disk, file);
    disk_sync_dir(disk, ".");
    disk_power_cut_all_lost(disk);
    ck_assert_uint_eq(disk_used(disk), 65536);
    disk_free(disk);
}
END_TEST

START_TEST(calls_fail_when_told_to)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = open_file(disk, "a");
    disk_fail_write(disk, 2, -EIO);
    ck_assert_int_eq(put(disk, file, "abcd", 0), 4);
    ck_assert_int_eq(put(disk, file, "XXXX", 0), -EIO);
    disk_fail_write(disk, 1, 0);
    ck_assert_int_eq(put(disk, file, "1234", 2), 2);
    ck_assert_int_eq(put(disk, file, "zz", 4), 2);
    disk_fail_write(disk, 1, -EIO);
    disk_fail_write(disk, 0, 0);
    char seen[8] = { 0 };
    disk_fail_read(disk, 2, -EIO);
    ck_assert_int_eq(disk_read(disk, file, seen, 3, 0), 3);
    ck_assert_int_eq(disk_read(disk, file, seen, 3, 0), -EIO);
    ck_assert_int_eq(disk_read(disk, file, seen, 8, 0), 6);
    ck_assert_str_eq(seen, "ab12zz");
    ck_assert_int_eq(disk_read(disk, file, seen, 8, 6), 0);
    ck_assert_int_eq(put_zeros(disk, file, 1, UINT64_MAX - 5), -EFBIG);
    ck_assert_int_eq(disk_truncate(disk, file, UINT64_MAX), -EFBIG);
    disk_free(disk);
}
END_TEST

START_TEST(bits_flip_where_something_is_stable)
{
    struct disk *disk = disk_new(NULL, 0);
    struct disk_file *file = open_file(disk, "a");
    put(disk, file, "abcd", 0);
    flush(disk, file);
    ck_assert(!disk_flip(disk, "a", 0, 0)); /* the name is not stable */
    disk_sync_dir(disk, ".");
    put(disk, file, "Xefgh", 1);
    ck_assert(!disk_flip(disk, "a", 4, 0));
    ck_assert(!disk_flip(disk, "b", 0, 0));
    ck_assert(disk_flip(disk, "a", 0, 1));
    ck_assert(disk_flip(disk, "a", 1, 0));
    check_stable(disk, "a", "cccd");
    size_t size = 0;
    ck_assert_mem_eq(disk_visible_bytes(disk, "a", &size), "cXefgh", 6);
    disk_power_cut_all_lost(disk);
    ck_assert(disk_flip(disk, "a", 3, 0));
    check_stable(disk, "a", "ccce");
    ck_assert_mem_eq(disk_visible_bytes(disk, "a", &size), "ccce", 4);
    disk_free(disk);
}
END_TEST

/* -- Repetition -------------------------------------------------------------------------------- */

static uint64_t hash_of_history(uint64_t seed)
{
    struct model *model = model_new(seed);
    for (int life = 0; life < 3; life++) {
        for (int step = 0; step < 40; step++) {
            model_step(model);
            keep_small(model, 4);
        }
        forget_process(model);
        model_cut(model, DISK_TEAR_NOTHING, false);
    }
    uint64_t hash = trace_hash(model->trace);
    model_free(model);
    return hash;
}

START_TEST(equal_seeds_make_equal_traces)
{
    ck_assert_uint_eq(hash_of_history(1), hash_of_history(1));
    ck_assert_uint_ne(hash_of_history(1), hash_of_history(2));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sim disk");
    TCase *tcase = tcase_create("disk");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, histories_go_as_the_oracle_says, 0, 8);
    tcase_add_loop_test(tcase, every_legal_cut_of_a_file_is_reached, 0, 20);
    tcase_add_loop_test(tcase, every_legal_cut_of_names_is_reached, 0, 12);
    tcase_add_test(tcase, a_flush_covers_what_was_written_before_it_began);
    tcase_add_test(tcase, what_a_failed_flush_had_is_lost_for_good);
    tcase_add_test(tcase, it_tells_what_has_become_stable);
    tcase_add_test(tcase, the_death_of_the_process_loses_and_flushes_nothing);
    tcase_add_test(tcase, names_answer_as_a_system_does);
    tcase_add_test(tcase, a_file_needs_a_stable_name_and_a_stable_directory);
    tcase_add_test(tcase, a_rename_over_a_file_is_the_old_one_or_the_new);
    tcase_add_test(tcase, a_full_disk_takes_what_fits);
    tcase_add_test(tcase, space_is_counted_right_through_cuts);
    tcase_add_test(tcase, calls_fail_when_told_to);
    tcase_add_test(tcase, bits_flip_where_something_is_stable);
    tcase_add_test(tcase, equal_seeds_make_equal_traces);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
