/* Faults: each class comes at its own times, from its own stream of chance, and strikes a node whose
 * role is drawn first, so that the short-lived roles get their share: where no node has that role,
 * the fault waits a while for one.
 *
 * Faults of the links are kept in a list of those under way; the state of the links is computed from
 * that list at each change, so that they may overlap in any way. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "server/storage/format.h"
#include "tests/sim/os_sim.h"
#include "tests/sim/world_state.h"

/* How long a fault waits for a node of its role. */
#define WAIT_NS (5 * S_NS)
#define EVENT_SLOTS 64 /* an event's argument is class * EVENT_SLOTS + slot */

static uint64_t now_ns(const struct world *world)
{
    return timeline_now_ns(world->timeline);
}

/* -- Links --------------------------------------------------------------------------------------- */

static void worsen(struct link *link, const struct link *by)
{
    link->lose = by->lose > link->lose ? by->lose : link->lose;
    link->duplicate = by->duplicate > link->duplicate ? by->duplicate : link->duplicate;
    link->reorder = by->reorder > link->reorder ? by->reorder : link->reorder;
    link->replay = by->replay > link->replay ? by->replay : link->replay;
    link->reset = by->reset > link->reset ? by->reset : link->reset;
    if (link->order_delay_ns < by->order_delay_ns)
        link->order_delay_ns = by->order_delay_ns;
    link->delay_min_ns += by->delay_min_ns;
    link->delay_max_ns += by->delay_max_ns;
}

static void compute_link(struct world *world, int from, int to)
{
    struct link *link = &world->links.of[from][to];
    bool was_cut = link->cut;

    *link = (struct link){ .delay_min_ns = world->plan->delay_min_ns,
                           .delay_max_ns = world->plan->delay_max_ns };
    for (int i = 0; i < DISTURBANCES_MAX; i++) {
        const struct disturbance *disturbance = &world->disturbances[i];
        if (!disturbance->is_active)
            continue;
        link->cut = link->cut || (disturbance->cut[from] >> to & 1) != 0;
        if (disturbance->affected[from] >> to & 1)
            worsen(link, &disturbance->link);
    }
    world->links.cut_generation += link->cut != was_cut;
}

static void compute_links(struct world *world)
{
    for (int from = 0; from < LINKS_MACHINES_MAX; from++)
        for (int to = 0; to < LINKS_MACHINES_MAX; to++)
            compute_link(world, from, to);
    if (world->net != NULL)
        net_links_changed(world->net);
}

int faults_disturb(struct world *world, const struct disturbance *disturbance)
{
    for (int i = 0; i < DISTURBANCES_MAX; i++) {
        if (world->disturbances[i].is_active)
            continue;
        world->disturbances[i] = *disturbance;
        world->disturbances[i].is_active = true;
        compute_links(world);
        return i;
    }
    return -1;
}

void faults_calm(struct world *world, int slot)
{
    world->disturbances[slot].is_active = false;
    compute_links(world);
}

static void calm_event(void *owner, uint64_t slot)
{
    struct world *world = owner;

    if (!world->faults_stopped)
        faults_calm(world, (int)slot);
}

static bool disturb_for(struct world *world, const struct disturbance *disturbance, uint64_t ns)
{
    int slot = faults_disturb(world, disturbance);

    if (slot >= 0)
        timeline_at(world->timeline, now_ns(world) + ns, calm_event, world, (uint64_t)slot);
    return slot >= 0;
}

static void cut_both_ways(struct disturbance *disturbance, int one, int other)
{
    disturbance->cut[one] |= (uint16_t)(1u << other);
    disturbance->cut[other] |= (uint16_t)(1u << one);
}

static void cut_from(struct disturbance *disturbance, int from, int to)
{
    disturbance->cut[from] |= (uint16_t)(1u << to);
}

static int another(const struct world *world, struct random *random, int slot)
{
    int step = 1 + (int)random_below(random, (uint64_t)world->plan->node_count - 1);

    return (slot + step) % world->plan->node_count;
}

/* The node on one side, with chance's choice of others. */
static void split(const struct world *world, struct random *random, int slot,
                  struct disturbance *disturbance)
{
    uint32_t side = UINT32_C(1) << slot;

    for (int other = 0; other < world->plan->node_count; other++)
        if (random_chance(random, 400))
            side |= UINT32_C(1) << other;
    for (int one = 0; one < world->plan->node_count; one++)
        for (int other = 0; other < one; other++)
            if ((side >> one & 1) != (side >> other & 1))
                cut_both_ways(disturbance, one, other);
}

static void cut_off(const struct world *world, int slot, bool in, bool out,
                    struct disturbance *disturbance)
{
    for (int other = 0; other < world->plan->node_count; other++) {
        if (other == slot)
            continue;
        if (out)
            cut_from(disturbance, slot, other);
        if (in)
            cut_from(disturbance, other, slot);
    }
}

static void affect_all_of(const struct world *world, int slot, struct disturbance *disturbance)
{
    for (int other = 0; other < world->plan->node_count; other++) {
        if (other == slot)
            continue;
        disturbance->affected[slot] |= (uint16_t)(1u << other);
        disturbance->affected[other] |= (uint16_t)(1u << slot);
    }
    if (world->plan->level == 3) {
        disturbance->affected[slot] |= (uint16_t)(1u << LINKS_CLIENTS);
        disturbance->affected[LINKS_CLIENTS] |= (uint16_t)(1u << slot);
    }
}

static void flap(struct world *world, struct random *random, int slot)
{
    struct disturbance cut = { .fault = FAULT_FLAP };
    int other = another(world, random, slot);

    cut_both_ways(&cut, slot, other);
    int held = faults_disturb(world, &cut);
    if (held < 0)
        return;
    timeline_at(world->timeline, now_ns(world) + random_between(random, 10, 500) * MS_NS,
                calm_event, world, (uint64_t)held);
}

/* What others have said to a node is still on its way when they hear of it no more: a leader gets
 * answers to old questions while another leads. The way becomes longer little by little, or they would
 * elect another before. It strikes who leads, if anybody does: to all others it is a delay like any. */
#define STEPS 12

static void mute_event(void *owner, uint64_t argument)
{
    struct world *world = owner;
    enum fault fault = (enum fault)(argument / EVENT_SLOTS);
    struct disturbance cut = { .fault = fault };

    if (world->faults_stopped)
        return;
    cut_off(world, (int)(argument % EVENT_SLOTS), false, true, &cut);
    (void)disturb_for(world, &cut, random_between(&world->chance[fault], 500, 3000) * MS_NS);
}

static void delay_event(void *owner, uint64_t argument)
{
    struct world *world = owner;
    uint64_t election_ns = world->plan->config.election_ms_min * MS_NS;
    struct disturbance step = { .fault = (enum fault)(argument / EVENT_SLOTS),
                                .link.delay_min_ns = election_ns / 3,
                                .link.delay_max_ns = election_ns / 3 };

    affect_all_of(world, (int)(argument % EVENT_SLOTS), &step);
    if (!world->faults_stopped)
        (void)disturb_for(world, &step, 3 * STEPS * election_ns);
}

static bool delay_and_mute(struct world *world, enum fault fault, int slot)
{
    uint64_t election_ns = world->plan->config.election_ms_min * MS_NS;
    uint64_t term;
    int leader = oracle_newest_leader(world->oracle, &term);
    uint64_t argument = (uint64_t)fault * EVENT_SLOTS + (uint64_t)(leader < 0 ? slot : leader);

    for (uint64_t i = 0; i < STEPS; i++)
        timeline_at(world->timeline, now_ns(world) + i * election_ns, delay_event, world, argument);
    timeline_at(world->timeline, now_ns(world) + 2 * STEPS * election_ns, mute_event, world,
                argument);
    return true;
}

/* On streams, old frames are put in at whole frames' bounds, a few in a second. */
static void replay_event(void *owner, uint64_t slot)
{
    struct world *world = owner;
    struct random *random = &world->chance[FAULT_REPLAY];
    int other = another(world, random, (int)slot);
    bool is_sender = random_chance(random, 500);

    if (world->faults_stopped)
        return;
    (void)replayer_replay(world->replayer, is_sender ? (int)slot : other,
                          is_sender ? other : (int)slot, random);
}

static bool replay_on_streams(struct world *world, int slot)
{
    struct random *random = &world->chance[FAULT_REPLAY];

    for (int i = 0; i < 20; i++)
        timeline_at(world->timeline, now_ns(world) + random_below(random, 2 * S_NS), replay_event,
                    world, (uint64_t)slot);
    return true;
}

static bool disturb_links(struct world *world, enum fault fault, int slot)
{
    struct random *random = &world->chance[fault];
    struct disturbance disturbance = { .fault = fault };
    struct link *link = &disturbance.link;
    uint64_t election_ns = world->plan->config.election_ms_max * MS_NS;

    if (fault == FAULT_REPLAY && world->plan->level == 3)
        return replay_on_streams(world, slot);
    switch (fault) {
    case FAULT_LOSS:
        link->lose = (uint32_t)random_between(random, 10, 300);
        break;
    case FAULT_DELAY:
        link->delay_max_ns = random_between(random, election_ns / 100, 2 * election_ns);
        link->delay_min_ns = random_below(random, link->delay_max_ns);
        if (random_chance(random, 400))
            return delay_and_mute(world, fault, slot);
        break;
    case FAULT_DUPLICATE:
        link->duplicate = (uint32_t)random_between(random, 10, 300);
        break;
    case FAULT_REORDER:
        link->reorder = (uint32_t)random_between(random, 10, 500);
        break;
    case FAULT_REPLAY:
        link->replay = (uint32_t)random_between(random, 5, 100);
        break;
    case FAULT_RESET:
        link->reset = (uint32_t)random_between(random, 100, 20000);
        break;
    case FAULT_SPLIT:
        split(world, random, slot, &disturbance);
        break;
    case FAULT_ONE_WAY: {
        bool is_deaf = random_chance(random, 500);
        if (!is_deaf && random_chance(random, 700))
            return delay_and_mute(world, fault, slot);
        cut_off(world, slot, is_deaf, !is_deaf, &disturbance);
        break;
    }
    case FAULT_PARTIAL:
        cut_both_ways(&disturbance, slot, another(world, random, slot));
        break;
    default:
        cut_off(world, slot, true, true, &disturbance);
        if (random_chance(random, 300) && world->plan->level == 3)
            cut_both_ways(&disturbance, slot, LINKS_CLIENTS);
        break;
    }
    if (fault < FAULT_SPLIT)
        affect_all_of(world, slot, &disturbance);
    return disturb_for(world, &disturbance, random_between(random, 50, 8000) * MS_NS);
}

/* -- Faults of a machine that have an end --------------------------------------------------------- */

static void undo(struct world *world, enum fault fault, int slot)
{
    struct world_machine *node = &world->machines[slot];
    struct machine *machine = &node->machine;

    switch (fault) {
    case FAULT_PAUSE:
        machine_resume(machine);
        break;
    case FAULT_DISK_SLOW:
        machine->flush_slowness = 1;
        break;
    case FAULT_DISK_STALL:
        machine->flush_hangs = false;
        break;
    case FAULT_DISK_FULL:
        disk_set_space(machine->disk, UINT64_MAX);
        break;
    case FAULT_CLOCK_RATE:
        machine_set_rate(machine, 1000);
        break;
    case FAULT_DESCRIPTORS:
        machine->descriptor_limit = MACHINE_DESCRIPTORS;
        break;
    case FAULT_TERM:
        if (node->is_stopping && machine->process != NULL && !machine->is_paused &&
            !machine->flush_hangs)
            trace_fail(world->trace, "P8", "node %d was asked to stop and has not, in time", slot);
        break;
    default:
        break;
    }
}

static void undo_event(void *owner, uint64_t argument)
{
    struct world *world = owner;
    enum fault fault = (enum fault)(argument / EVENT_SLOTS);
    int slot = (int)(argument % EVENT_SLOTS);

    if (!world->faults_stopped && now_ns(world) >= world->machines[slot].until[fault])
        undo(world, fault, slot);
}

static void undo_after(struct world *world, enum fault fault, int slot, uint64_t ns)
{
    world->machines[slot].until[fault] = now_ns(world) + ns;
    timeline_at(world->timeline, now_ns(world) + ns, undo_event, world,
                (uint64_t)fault * EVENT_SLOTS + (uint64_t)slot);
}

/* -- Bit rot ------------------------------------------------------------------------------------- */

static int damaged_count(const struct world *world)
{
    int count = 0;

    for (int slot = 0; slot < world->plan->node_count; slot++)
        count += world->machines[slot].is_damaged;
    return count;
}

/* The part of a segment that records behind it prove durable: from its start, in bytes. What nothing
 * proves may be taken for a torn tail, and rot there is beyond today's promise (README). */
static uint64_t proven_bytes(const uint8_t *bytes, size_t size)
{
    struct format_segment segment;
    struct format_frame frame;
    uint64_t found, proven = 0;

    if (size < STORAGE_BLOCK || format_header_decode(bytes, &segment, &found) != FORMAT_HEADER_GOOD)
        return 0;
    for (size_t at = STORAGE_BLOCK; at + FORMAT_FRAME_SIZE <= size; at += STORAGE_BLOCK)
        if (format_frame_decode(bytes + at, segment.salt, segment.start + at, &frame) ==
                FORMAT_PLACE_FRAME &&
            frame.durable > segment.start && frame.durable - segment.start <= at)
            proven = frame.durable - segment.start;
    return proven;
}

/* An atlas of one line: no more nodes are damaged than a majority can do without. */
static bool rot(struct world *world, int slot)
{
    struct world_machine *node = &world->machines[slot];
    struct random *random = &world->chance[FAULT_BIT_ROT];
    char prefix[CONFIG_PATH_MAX + 16];
    size_t size;

    if (!node->is_damaged &&
        damaged_count(world) + world_majority(world) >= world->plan->node_count)
        return false;
    /* The cut comes first: what it takes may be the proof. */
    if (node->machine.process != NULL)
        world_crash_node(world, slot, true, DISK_TEAR_SECTORS,
                         random_between(random, 50, 2000) * MS_NS);
    snprintf(prefix, sizeof prefix, "%s/%u/log/", world->plan->config.path,
             (unsigned)node->machine.id);
    int count = 0;
    while (disk_name(node->machine.disk, prefix, count) != NULL)
        count++;
    if (count == 0)
        return false;
    char name[CONFIG_PATH_MAX + 64]; /* the disk's own would not outlive a crash */
    snprintf(name, sizeof name, "%s",
             disk_name(node->machine.disk, prefix, (int)random_below(random, (uint64_t)count)));
    const uint8_t *bytes = disk_visible_bytes(node->machine.disk, name, &size);
    uint64_t proven = bytes == NULL ? 0 : proven_bytes(bytes, size);
    if (proven == 0)
        return false;
    uint64_t offset = random_below(random, proven);
    trace_line(world->trace, slot, "rots at byte %llu of %s", (unsigned long long)offset, name);
    if (!disk_flip(node->machine.disk, name, offset, (unsigned)random_below(random, 8)))
        return false;
    node->is_damaged = true;
    return true;
}

/* -- Striking ------------------------------------------------------------------------------------ */

static bool strike_process(struct world *world, enum fault fault, int slot)
{
    struct world_machine *node = &world->machines[slot];
    struct machine *machine = &node->machine;
    struct random *random = &world->chance[fault];
    uint64_t down_ns = random_between(random, 20, 4000) * MS_NS;

    if (machine->process == NULL)
        return false;
    switch (fault) {
    case FAULT_KILL:
        world_crash_node(world, slot, false, DISK_TEAR_NOTHING, down_ns);
        return true;
    case FAULT_POWER:
        /* Half of them among its next calls: there are writes under way to be torn. */
        if (world->plan->level >= 2 && random_chance(random, 500))
            machine_arm_crash(machine, random_between(random, 1, 12), true);
        else
            world_crash_node(world, slot, true, (enum disk_tear)random_below(random, 3), down_ns);
        return true;
    case FAULT_INSIDE: {
        bool is_power_cut = random_chance(random, 700); /* arguments have no order */
        machine_arm_crash(machine, random_between(random, 1, 60), is_power_cut);
        return true;
    }
    case FAULT_PAUSE:
        machine_pause(machine);
        undo_after(world, fault, slot, random_between(random, 10, 3000) * MS_NS);
        return true;
    default: /* FAULT_TERM */
        if (machine->is_paused || machine->flush_hangs || node->is_stopping)
            return false;
        node->is_stopping = true;
        machine_signal(machine, 15);
        undo_after(world, fault, slot, 8 * S_NS);
        return true;
    }
}

static bool strike_disk(struct world *world, enum fault fault, int slot)
{
    struct world_machine *node = &world->machines[slot];
    struct machine *machine = &node->machine;
    struct random *random = &world->chance[fault];
    uint64_t lasts_ns = random_between(random, 50, 5000) * MS_NS;

    switch (fault) {
    case FAULT_DISK_SLOW:
        machine->flush_slowness = random_between(random, 10, 100);
        undo_after(world, fault, slot, lasts_ns);
        return true;
    case FAULT_DISK_STALL:
        machine->flush_hangs = true;
        undo_after(world, fault, slot, lasts_ns);
        return true;
    case FAULT_FLUSH_FAIL:
        machine->flush_fails = 1;
        node->failures_due++;
        return true;
    case FAULT_WRITE_FAIL: {
        bool is_short = random_chance(random, 500);
        node->failures_due += !is_short;
        disk_fail_write(machine->disk, random_between(random, 1, 20), is_short ? 0 : -EIO);
        return true;
    }
    default: /* FAULT_DISK_FULL */
        disk_set_space(machine->disk, disk_used(machine->disk) + random_below(random, 1 << 18));
        undo_after(world, fault, slot, lasts_ns);
        return true;
    }
}

static bool strike_clock(struct world *world, enum fault fault, int slot)
{
    struct machine *machine = &world->machines[slot].machine;
    struct random *random = &world->chance[fault];

    if (fault == FAULT_CLOCK_RATE) {
        machine_set_rate(machine, (uint32_t)random_between(random, 500, 2000));
        undo_after(world, fault, slot, random_between(random, 500, 10000) * MS_NS);
    } else {
        int64_t day_ms = 24 * 3600 * 1000;
        machine->clock.wall_offset_ms +=
            (int64_t)random_below(random, 2 * (uint64_t)day_ms) - day_ms;
    }
    return true;
}

static void transfer_event(void *owner, uint64_t slot)
{
    struct world *world = owner;
    struct machine *machine = &world->machines[slot].machine;

    if (!world->faults_stopped && machine->process != NULL)
        replica_transfer(machine, RAFT_NODE_NONE);
}

static void silence_event(void *owner, uint64_t slot)
{
    struct world *world = owner;
    struct machine *machine = &world->machines[slot].machine;

    if (world->faults_stopped || machine->process == NULL)
        return;
    machine_pause(machine);
    undo_after(world, FAULT_PAUSE, (int)slot, 2 * world->plan->config.election_ms_max * MS_NS);
}

/* Now and then the word comes late: when its receiver campaigns by itself, or when the leader has given
 * up waiting and told another, so that two campaign in one term. */
static void transfer(struct world *world, struct machine *machine, uint32_t peer)
{
    struct random *random = &world->chance[FAULT_TRANSFER];
    uint64_t election_ns = world->plan->config.election_ms_max * MS_NS;
    struct disturbance late = { .fault = FAULT_TRANSFER,
                                .link = { .order_delay_ns = 2 * election_ns } };

    replica_transfer(machine, peer);
    if (random_chance(random, 400))
        return;
    for (int from = 0; from < world->plan->node_count; from++)
        late.affected[from] = (uint16_t)((1u << world->plan->node_count) - 1);
    (void)disturb_for(world, &late, 4 * election_ns);
    for (int i = 1; i <= 3; i++)
        timeline_at(world->timeline, now_ns(world) + (uint64_t)i * election_ns * 21 / 20,
                    transfer_event, world, (uint64_t)machine->slot);
    /* The order is on its way, and then nothing is heard any more. */
    if (random_chance(random, 300))
        timeline_at(world->timeline, now_ns(world) + 10 * MS_NS, silence_event, world,
                    (uint64_t)machine->slot);
}

static bool strike_raft(struct world *world, enum fault fault, int slot)
{
    struct machine *machine = &world->machines[slot].machine;
    struct random *random = &world->chance[fault];
    uint32_t peer = world->machines[another(world, random, slot)].machine.id;

    if (machine->process == NULL)
        return false;
    if (fault == FAULT_TRANSFER) {
        transfer(world, machine, random_chance(random, 500) ? peer : RAFT_NODE_NONE);
        return true;
    }
    for (uint64_t left = random_between(random, 1, 6); left > 0; left--) {
        peer = world->machines[another(world, random, slot)].machine.id;
        switch (random_below(random, 3)) {
        case 0:
            replica_peer_lost(machine, peer);
            break;
        case 1:
            replica_peer_replaced(machine, peer);
            break;
        default:
            replica_link_has_room(machine, peer);
        }
    }
    return true;
}

/* Others have taken all that are free, or nearly: what the process has, it keeps. */
static bool take_descriptors(struct world *world, int slot)
{
    struct machine *machine = &world->machines[slot].machine;
    int open = machine->os == NULL ? 3 : os_sim_descriptors(machine->os);

    machine->descriptor_limit = 3 + open + (int)random_below(&world->chance[FAULT_DESCRIPTORS], 4);
    undo_after(world, FAULT_DESCRIPTORS, slot, 2 * S_NS);
    return true;
}

static bool strike(struct world *world, enum fault fault, int slot)
{
    switch (fault) {
    case FAULT_KILL:
    case FAULT_POWER:
    case FAULT_INSIDE:
    case FAULT_PAUSE:
    case FAULT_TERM:
        return strike_process(world, fault, slot);
    case FAULT_FLAP:
        flap(world, &world->chance[fault], slot);
        return true;
    case FAULT_DISK_SLOW:
    case FAULT_DISK_STALL:
    case FAULT_FLUSH_FAIL:
    case FAULT_WRITE_FAIL:
    case FAULT_DISK_FULL:
        return strike_disk(world, fault, slot);
    case FAULT_BIT_ROT:
        return rot(world, slot);
    case FAULT_CLOCK_RATE:
    case FAULT_WALL_JUMP:
        return strike_clock(world, fault, slot);
    case FAULT_DESCRIPTORS:
        return take_descriptors(world, slot);
    case FAULT_LINK_NEWS:
    case FAULT_TRANSFER:
        return strike_raft(world, fault, slot);
    default:
        return disturb_links(world, fault, slot);
    }
}

bool faults_strike(struct world *world, enum fault fault, int slot)
{
    enum struck role = world_role(world, slot);

    trace_line(world->trace, slot, "fault: %s", fault_kinds[fault].name);
    if (!strike(world, fault, slot))
        return false;
    world->struck[fault][role]++;
    return true;
}

/* -- When ---------------------------------------------------------------------------------------- */

static int find_role(struct world *world, struct random *random, enum struck role)
{
    int first = (int)random_below(random, (uint64_t)world->plan->node_count);

    for (int i = 0; i < world->plan->node_count; i++) {
        int slot = (first + i) % world->plan->node_count;
        if (world_role(world, slot) == role)
            return slot;
    }
    return -1;
}

/* Which a class can strike: a dead process cannot die, but its disk can rot. */
static enum struck draw_role(struct random *random, enum fault fault)
{
    if (fault == FAULT_TRANSFER && random_chance(random, 600))
        return STRUCK_LEADER;
    bool needs_process = fault == FAULT_KILL || fault == FAULT_POWER || fault == FAULT_INSIDE ||
                         fault == FAULT_PAUSE || fault == FAULT_TERM || fault == FAULT_LINK_NEWS ||
                         fault == FAULT_TRANSFER;

    return (enum struck)random_below(random, needs_process ? STRUCK_DOWN : STRUCK_COUNT);
}

static void plan_next(struct world *world, enum fault fault);

static void fault_event(void *owner, uint64_t argument)
{
    struct world *world = owner;
    enum fault fault = (enum fault)argument;
    struct random *random = &world->chance[fault];

    if (world->faults_stopped)
        return;
    enum struck role = draw_role(random, fault);
    int slot = find_role(world, random, role);
    if (slot >= 0) {
        (void)faults_strike(world, fault, slot);
    } else {
        world->wanted[role] |= UINT32_C(1) << fault;
        world->wanted_until[fault] = now_ns(world) + WAIT_NS;
    }
    plan_next(world, fault);
}

static void plan_next(struct world *world, enum fault fault)
{
    uint64_t gap = world->plan->gap_ns[fault];
    uint64_t wait = random_between(&world->chance[fault], gap / 2, gap + gap / 2);

    timeline_at(world->timeline, now_ns(world) + wait, fault_event, world, fault);
}

void faults_start(struct world *world)
{
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        world->chance[fault] = random_stream(world->plan->seed, 500 + (uint64_t)fault);
        if (world->plan->faults >> fault & 1)
            plan_next(world, (enum fault)fault);
    }
}

static void strike_event(void *owner, uint64_t argument)
{
    struct world *world = owner;
    enum fault fault = (enum fault)(argument / EVENT_SLOTS);

    if (!world->faults_stopped)
        (void)faults_strike(world, fault, (int)(argument % EVENT_SLOTS));
}

/* Not in the middle of the turn's own events, but before anything else happens to the node. */
void faults_after_turn(struct world *world, int slot)
{
    enum struck role = world_role(world, slot);

    for (int fault = 0; world->wanted[role] != 0 && fault < FAULT_COUNT; fault++) {
        if ((world->wanted[role] >> fault & 1) == 0)
            continue;
        world->wanted[role] &= ~(UINT32_C(1) << fault);
        if (now_ns(world) < world->wanted_until[fault])
            timeline_at(world->timeline, now_ns(world), strike_event, world,
                        (uint64_t)fault * EVENT_SLOTS + (uint64_t)slot);
    }
}

static void mend_machine(struct world *world, int slot)
{
    struct machine *machine = &world->machines[slot].machine;

    machine->flush_slowness = 1;
    machine->flush_fails = 0;
    machine->descriptor_limit = MACHINE_DESCRIPTORS;
    machine_arm_crash(machine, 0, false);
    machine->flush_hangs = false;
    if (machine->disk == NULL)
        return;
    disk_set_space(machine->disk, UINT64_MAX);
    disk_fail_write(machine->disk, 0, 0);
}

void faults_stop(struct world *world)
{
    world->faults_stopped = true;
    for (int i = 0; i < DISTURBANCES_MAX; i++)
        world->disturbances[i].is_active = false;
    compute_links(world);
    for (int slot = 0; slot < world->plan->node_count; slot++)
        mend_machine(world, slot);
}
