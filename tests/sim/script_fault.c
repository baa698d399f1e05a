/* Who fails, and who comes back: each command strikes at once. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "server/os/os.h"
#include "server/storage/format.h"
#include "tests/sim/os_sim.h"
#include "tests/sim/script_state.h"

static struct machine *machine_of(struct script_run *run, int slot)
{
    return &run->world->machines[slot].machine;
}

static bool is_up(struct script_run *run, int slot)
{
    return machine_of(run, slot)->process != NULL;
}

/* -- Processes ----------------------------------------------------------------------------------- */

/* The rest of the line is nodes; each is to be up, or down, for what the command does. */
static bool each(struct script_run *run, bool up, void (*act)(struct script_run *run, int slot))
{
    uint32_t nodes;
    bool is_all = script_has_more(run) && strcmp(run->step->words[run->at], "all") == 0;

    if (!script_want_nodes(run, &nodes) || !script_want_end(run))
        return false;
    for (int slot = 0; slot < run->node_count && !run->is_check; slot++) {
        if ((nodes >> slot & 1) == 0)
            continue;
        if (is_up(run, slot) == up)
            act(run, slot);
        else if (!is_all)
            return script_differs(run, "node %d is %s already", slot + 1, up ? "down" : "up");
    }
    return true;
}

static void kill_one(struct script_run *run, int slot)
{
    script_crash_node(run, slot, false);
}

static void cut_power(struct script_run *run, int slot)
{
    script_crash_node(run, slot, true);
}

static void start_one(struct script_run *run, int slot)
{
    run->nodes[slot].has_crashed = false;
    run->nodes[slot].index_before = run->nodes[slot].last_index;
    world_start_node(run->world, slot);
    const struct machine *machine = machine_of(run, slot);
    if (machine->process != NULL)
        run->nodes[slot].last_index = machine->type->raft(machine->process)->last_index;
    run->nodes[slot].index_recovered = run->nodes[slot].last_index;
}

static void pause_one(struct script_run *run, int slot)
{
    machine_pause(machine_of(run, slot));
}

static void resume_one(struct script_run *run, int slot)
{
    machine_resume(machine_of(run, slot));
}

static void terminate(struct script_run *run, int slot)
{
    machine_signal(machine_of(run, slot), SIGTERM);
}

static bool kill_nodes(struct script_run *run)
{
    return each(run, true, kill_one);
}

static bool power(struct script_run *run)
{
    return each(run, true, cut_power);
}

static bool start(struct script_run *run)
{
    return each(run, false, start_one);
}

static bool pause_nodes(struct script_run *run)
{
    return each(run, true, pause_one);
}

static bool resume(struct script_run *run)
{
    return each(run, true, resume_one);
}

static bool term(struct script_run *run)
{
    return each(run, true, terminate);
}

/* crash NODE at call N [power]: of a node that is down, the calls of its next life count. */
static bool crash(struct script_run *run)
{
    uint64_t nth;
    int slot;

    if (!script_want_node(run, &slot) || !script_want(run, "at") || !script_want(run, "call") ||
        !script_want_number(run, &nth))
        return false;
    bool cuts_power = script_take(run, "power");
    if (!script_want_end(run))
        return false;
    if (!run->is_check)
        machine_arm_crash(machine_of(run, slot), nth, cuts_power);
    return true;
}

static bool tear(struct script_run *run)
{
    static const char *const names[] = { [DISK_TEAR_NOTHING] = "nothing",
                                         [DISK_TEAR_SECTORS] = "sectors",
                                         [DISK_TEAR_BYTES] = "bytes" };
    const char *word = script_word(run);

    for (int i = 0; word != NULL && i < (int)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(names[i], word) != 0)
            continue;
        run->tear = (enum disk_tear)i;
        return script_want_end(run);
    }
    return script_mistake(run, "nothing, sectors or bytes");
}

/* wall NODE +1h: seconds, minutes or hours. */
static bool wall(struct script_run *run)
{
    uint32_t nodes;
    const char *sign = NULL;
    uint64_t seconds;
    int slot;

    nodes = script_take(run, "all") ? (UINT32_C(1) << run->node_count) - 1 : 0;
    if (nodes == 0) {
        if (!script_want_node(run, &slot))
            return false;
        nodes = UINT32_C(1) << slot;
    }
    sign = script_take(run, "forward") ? "+" : script_take(run, "back") ? "-" : NULL;
    if (sign == NULL || !script_want_time(run, &seconds))
        return sign == NULL ? (run->at++, script_mistake(run, "'forward' or 'back'")) : false;
    int64_t ms = (int64_t)(seconds / MS_NS);
    for (slot = 0; slot < run->node_count && !run->is_check; slot++)
        if (nodes >> slot & 1)
            machine_of(run, slot)->clock.wall_offset_ms += sign[0] == '+' ? ms : -ms;
    return script_want_end(run);
}

/* -- Links --------------------------------------------------------------------------------------- */

static bool want_end_of_link(struct script_run *run, int *machine)
{
    if (script_take(run, "clients")) {
        *machine = LINKS_CLIENTS;
        return true;
    }
    return script_want_node(run, machine);
}

static void disturb(struct script_run *run, struct disturbance *disturbance)
{
    disturbance->fault = FAULT_PARTIAL;
    if (!run->is_check)
        (void)faults_disturb(run->world, disturbance);
}

/* cut A B, cut A -> B */
static bool cut(struct script_run *run)
{
    struct disturbance disturbance = { .is_active = false };
    int from, to;

    if (!want_end_of_link(run, &from))
        return false;
    bool is_one_way = script_take(run, "->");
    if (!want_end_of_link(run, &to) || !script_want_end(run))
        return false;
    disturbance.cut[from] |= (uint16_t)(1u << to);
    if (!is_one_way)
        disturbance.cut[to] |= (uint16_t)(1u << from);
    disturb(run, &disturbance);
    return true;
}

/* From the other nodes; its clients still reach it. */
static bool isolate(struct script_run *run)
{
    struct disturbance disturbance = { .is_active = false };
    int slot;

    if (!script_want_node(run, &slot) || !script_want_end(run))
        return false;
    for (int other = 0; other < run->node_count; other++) {
        if (other == slot)
            continue;
        disturbance.cut[slot] |= (uint16_t)(1u << other);
        disturbance.cut[other] |= (uint16_t)(1u << slot);
    }
    disturb(run, &disturbance);
    return true;
}

static bool heal(struct script_run *run)
{
    for (int i = 0; i < DISTURBANCES_MAX && !run->is_check; i++)
        if (run->world->disturbances[i].is_active)
            faults_calm(run->world, i);
    return script_want_end(run);
}

/* -- Disks --------------------------------------------------------------------------------------- */

static void disk_hang(struct machine *machine)
{
    machine->flush_hangs = true;
}

static void disk_mend(struct machine *machine)
{
    machine->flush_hangs = false;
    machine->flush_slowness = 1;
    if (machine->disk != NULL)
        disk_set_space(machine->disk, UINT64_MAX);
}

static void disk_fill(struct machine *machine)
{
    disk_set_space(machine->disk, disk_used(machine->disk));
}

static void disk_fail_a_flush(struct machine *machine)
{
    machine->flush_fails = 1;
}

static const char *segment_name(struct script_run *run, int slot, uint64_t number)
{
    char prefix[CONFIG_PATH_MAX + 32];
    const struct machine *machine = machine_of(run, slot);

    snprintf(prefix, sizeof prefix, "%s/%u/log/%016llx.segment", run->plan.config.path,
             (unsigned)machine->id, (unsigned long long)number);
    return disk_name(machine->disk, prefix, 0);
}

/* disk NODE flip SEGMENT OFFSET */
static bool flip(struct script_run *run, int slot)
{
    uint64_t number, offset;

    if (!script_want_number(run, &number) || !script_want_number(run, &offset) ||
        !script_want_end(run))
        return false;
    if (run->is_check)
        return true;
    const char *name = segment_name(run, slot, number);
    if (name == NULL || !disk_flip(machine_of(run, slot)->disk, name, offset, 3))
        return script_differs(run, "there is no such byte");
    return true;
}

/* The last byte that is not zero behind a segment's header; 0: there is none. */
static size_t used_end(const uint8_t *bytes, size_t size)
{
    while (size > STORAGE_BLOCK && bytes[size - 1] == 0)
        size--;
    return size > STORAGE_BLOCK ? size : 0;
}

/* The newest segment that has records. */
static const char *newest_used(struct script_run *run, int slot, size_t *end)
{
    const char *name, *newest = NULL;
    size_t size;

    for (uint64_t number = 1; (name = segment_name(run, slot, number)) != NULL; number++) {
        const uint8_t *bytes = disk_visible_bytes(machine_of(run, slot)->disk, name, &size);
        size_t used = bytes == NULL ? 0 : used_end(bytes, size);
        if (used == 0)
            break;
        newest = name;
        *end = used;
    }
    return newest;
}

/* Writes zeros, for good: such a tail is what segments have that are prepared ahead. */
static bool overwrite(struct disk *disk, const char *name, size_t from, size_t end)
{
    static const uint8_t zeros[4096];
    struct disk_file *file;

    if (disk_open(disk, name, OS_WRITE, &file) != 0)
        return false;
    while (from < end) {
        size_t size = end - from < sizeof zeros ? end - from : sizeof zeros;
        struct iovec part = { .iov_base = (void *)(uintptr_t)zeros, .iov_len = size };
        if (disk_write(disk, file, &part, 1, from) != (ptrdiff_t)size)
            break;
        from += size;
    }
    disk_flush_end(disk, file, disk_flush_begin(disk, file), 0);
    disk_release(disk, file);
    return from == end;
}

/* disk NODE cut N: the last N bytes of its log are gone. It has lost what it promised, and the oracle
 * is told: what it says of its log from then on is believed. */
static bool cut_log(struct script_run *run, int slot)
{
    uint64_t count;
    size_t end = 0;

    if (!script_want_number(run, &count) || !script_want_end(run))
        return false;
    if (run->is_check)
        return true;
    if (is_up(run, slot))
        return script_differs(run, "node %d is up: its log cannot be cut", slot + 1);
    const char *name = newest_used(run, slot, &end);
    if (name == NULL || count > end - STORAGE_BLOCK ||
        !overwrite(machine_of(run, slot)->disk, name, end - (size_t)count, end))
        return script_differs(run, "the newest segment has not so many bytes");
    run->world->replicas.damaged |= UINT32_C(1) << slot;
    return true;
}

/* disk NODE fail-write [N]: the Nth from now on; the next. */
static bool fail_write(struct script_run *run, int slot)
{
    uint64_t nth = 1;

    if (script_has_more(run) && !script_want_number(run, &nth))
        return false;
    if (nth == 0)
        return script_mistake(run, "1 (the next write) or more");
    if (!run->is_check)
        disk_fail_write(machine_of(run, slot)->disk, nth, -EIO);
    return script_want_end(run);
}

static bool slow(struct script_run *run, int slot)
{
    uint64_t times;

    if (!script_want_number(run, &times) || !script_want_end(run))
        return false;
    if (!run->is_check)
        machine_of(run, slot)->flush_slowness = times;
    return true;
}

static bool disk_command(struct script_run *run)
{
    static const struct {
        const char *word;
        void (*act)(struct machine *machine);
        bool (*read)(struct script_run *run, int slot);
        int level_min;
    } acts[] = {
        { "hang", disk_hang, NULL, 1 },
        { "ok", disk_mend, NULL, 1 },
        { "slow", NULL, slow, 1 },
        { "full", disk_fill, NULL, 2 },
        { "fail-flush", disk_fail_a_flush, NULL, 2 },
        { "fail-write", NULL, fail_write, 2 },
        { "flip", NULL, flip, 2 },
        { "cut", NULL, cut_log, 2 },
    };
    int slot;

    if (!script_want_node(run, &slot))
        return false;
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        if (!script_take(run, acts[i].word))
            continue;
        if (run->level < acts[i].level_min)
            return script_mistake(run, "level 2 or 3, which have a disk, for this");
        if (acts[i].read != NULL)
            return acts[i].read(run, slot);
        if (!run->is_check)
            acts[i].act(machine_of(run, slot));
        return script_want_end(run);
    }
    run->at++;
    return script_mistake(run, "hang, ok, slow, full, fail-flush, fail-write, flip or cut");
}

/* descriptors NODE out|ok: what the process has, it keeps; there are no more. */
static bool descriptors(struct script_run *run)
{
    int slot;

    if (!script_want_node(run, &slot))
        return false;
    bool is_out = script_take(run, "out");
    if (!is_out && !script_want(run, "ok"))
        return false;
    if (run->level < 3)
        return script_mistake(run, "level 3 for this");
    struct machine *machine = run->is_check ? NULL : machine_of(run, slot);
    if (machine != NULL && is_out && machine->os == NULL)
        return script_differs(run, "node %d is down: it has no descriptors", slot + 1);
    if (machine != NULL)
        machine->descriptor_limit =
            is_out ? 3 + os_sim_descriptors(machine->os) : MACHINE_DESCRIPTORS;
    return script_want_end(run);
}

script_command *script_find_fault(const char *word)
{
    static const struct {
        const char *word;
        script_command *command;
    } faults[] = {
        { "kill", kill_nodes },   { "power", power },
        { "start", start },       { "term", term },
        { "pause", pause_nodes }, { "resume", resume },
        { "crash", crash },       { "tear", tear },
        { "wall", wall },         { "cut", cut },
        { "isolate", isolate },   { "heal", heal },
        { "disk", disk_command }, { "descriptors", descriptors },
    };

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (strcmp(faults[i].word, word) == 0)
            return faults[i].command;
    return NULL;
}
