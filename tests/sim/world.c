/* The course of a run:
 *
 *     nodes start -> clients come -> faults, for the plan's duration
 *                 -> faults stop for a random core, a majority that is not damaged; the others stay
 *                    broken in one way or another
 *                 -> the core must elect a leader (L1), serve (L7), answer everybody (L2), converge
 *                    (L3), and then be quiet (L9)
 *
 * A run without faults is held to more: its first leader stays (L5). */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/node_process.h"
#include "tests/sim/world_state.h"

#define START_SPREAD_NS (200 * MS_NS)
#define CLIENTS_BEGIN_NS (500 * MS_NS)
/* An orderly stop ends within 5 s (README); the simulated disk may add its own. */
#define STOP_NS_MAX (6 * S_NS)
/* Bounds of the end: for a leader, in election timeouts (L1); for service and convergence. */
#define ELECTIONS_MAX 10
/* How late a message can be: the longest delay of FAULT_DELAY, and its tail (links.c). */
#define LATE_ELECTIONS (2 * 17)
#define SERVICE_NS_MAX (10 * S_NS)
#define SERVICE_NS (2 * S_NS)
#define ANSWER_NS_MAX (10 * S_NS)
#define CONVERGE_NS_MAX (20 * S_NS)
/* A quiet cluster: turns of a node in a second, beyond those that each heartbeat costs. */
#define QUIET_TURNS_MAX 100
#define QUIET_NS (2 * S_NS)

/* -- Words --------------------------------------------------------------------------------------- */

enum struck world_role(const struct world *world, int slot)
{
    const struct machine *machine = &world->machines[slot].machine;

    if (machine->process == NULL)
        return STRUCK_DOWN;
    switch (machine->type->raft(machine->process)->role) {
    case RAFT_FOLLOWER:
        return STRUCK_FOLLOWER;
    case RAFT_PRE_CANDIDATE:
        return STRUCK_PRE_CANDIDATE;
    case RAFT_CANDIDATE:
        return STRUCK_CANDIDATE;
    default:
        return STRUCK_LEADER;
    }
}

int world_majority(const struct world *world)
{
    return world->plan->node_count / 2 + 1;
}

static struct world_machine *holder(struct machine *machine)
{
    return (struct world_machine *)(void *)machine; /* its first member */
}

/* -- A node's life ------------------------------------------------------------------------------- */

/* Of the starts that are planned for a node, only the newest counts. */
static void start_event(void *owner, uint64_t argument)
{
    struct world *world = owner;
    int slot = (int)(argument % LINKS_MACHINES_MAX);
    struct world_machine *node = &world->machines[slot];

    bool is_outside = world->is_ending || (world->faults_stopped && (world->core >> slot & 1) == 0);
    if (is_outside) /* it stays broken */
        return;
    if (argument / LINKS_MACHINES_MAX == node->start_number && node->machine.process == NULL)
        world_start_node(world, slot);
}

static void start_later(struct world *world, int slot, uint64_t after_ns)
{
    uint64_t number = ++world->machines[slot].start_number;

    if (after_ns != UINT64_MAX)
        timeline_at(world->timeline, timeline_now_ns(world->timeline) + after_ns, start_event,
                    world, number * LINKS_MACHINES_MAX + (uint64_t)slot);
}

static uint64_t time_to_restart(struct world *world)
{
    return random_between(&world->other, 20, 3000) * MS_NS;
}

static void after_death(struct world *world, int slot)
{
    struct world_machine *node = &world->machines[slot];

    oracle_crashed(world->oracle, slot);
    if (node->stable_log != NULL)
        stable_log_reset(node->stable_log);
    node->is_stopping = false;
}

void world_crash_node(struct world *world, int slot, bool power, enum disk_tear tear,
                      uint64_t down_ns)
{
    struct machine *machine = &world->machines[slot].machine;

    trace_line(world->trace, slot, "%s", power ? "loses power" : "is killed");
    machine_crash(machine, power, tear);
    after_death(world, slot);
    start_later(world, slot, down_ns);
}

static void on_crashed(void *context, struct machine *machine)
{
    struct world *world = context;
    bool power = machine->crash_cuts_power;
    enum disk_tear tear = (enum disk_tear)random_below(&world->other, 3);

    world_crash_node(world, machine->slot, power, tear, time_to_restart(world));
}

/* A process that ends by itself, or will not start, must have a reason: it was asked to stop, or its
 * disk failed, or has lost what it promised. */
static void on_exited(void *context, struct machine *machine, int exit_code)
{
    struct world *world = context;
    struct world_machine *node = holder(machine);
    bool lacks = machine->descriptor_limit < MACHINE_DESCRIPTORS ||
                 node->until[FAULT_DISK_FULL] > timeline_now_ns(world->timeline);
    bool may_fail = node->failures_due > 0 || node->is_damaged || (node->is_starting && lacks);
    bool is_expected = exit_code == 0 ? node->is_stopping : may_fail;

    trace_line(world->trace, machine->slot, "exits with %d", exit_code);
    if (!is_expected)
        trace_fail(world->trace, "exit", "node %d ends with %d, for no reason that is known",
                   machine->slot, exit_code);
    after_death(world, machine->slot);
    bool was_disk = exit_code != 0 && !(node->is_starting && lacks);
    node->failures_due -= was_disk && node->failures_due > 0;
    if (!node->is_damaged)
        start_later(world, machine->slot, time_to_restart(world));
}

/* What a whole node has recovered; a replica tells it by itself. */
static void tell_oracle(struct world *world, const struct machine *machine)
{
    if (world->plan->level < 3)
        return;
    const struct raft *raft = machine->type->raft(machine->process);

    oracle_starting(world->oracle, machine->slot, world->replicas.damaged >> machine->slot & 1);
    for (uint64_t index = 1; index <= raft->last_index; index++) {
        struct entry entry = { .index = index,
                               .term = raft_term_at(raft, index),
                               .chain = node_process_chain(machine, index) };
        oracle_appended(world->oracle, machine->slot, &entry);
    }
    oracle_started(world->oracle, machine->slot, raft);
}

void world_start_node(struct world *world, int slot)
{
    struct world_machine *node = &world->machines[slot];
    struct machine *machine = &node->machine;

    trace_line(world->trace, slot, "starts");
    if (node->stable_log != NULL)
        stable_log_rescan(node->stable_log);
    node->is_starting = true;
    bool started = machine_start(machine);
    node->is_starting = false;
    if (!started)
        return;
    node->is_damaged =
        false; /* the rot is where nobody looks: all that counts was read, and fits */
    tell_oracle(world, machine);
}

/* -- Turns --------------------------------------------------------------------------------------- */

static void before_turn(void *context, struct machine *machine)
{
    hooks_enter(context, machine->slot);
}

static void after_turn(void *context, struct machine *machine)
{
    struct world *world = context;
    const struct process_type *type = machine->type;

    hooks_enter(NULL, 0);
    if (world->plan->level == 3)
        oracle_turn_end(world->oracle, machine->slot, type->raft(machine->process),
                        type->kv(machine->process), type->applied(machine->process));
    faults_after_turn(world, machine->slot);
}

/* -- Making -------------------------------------------------------------------------------------- */

static void on_outcome(void *context, uint64_t op_number, const struct outcome *outcome)
{
    struct world *world = context;

    sessions_on_outcome(world->sessions, op_number, outcome, world->replicas.redirect);
}

static bool submit_to_replica(void *context, int client, int node, const struct op *op)
{
    struct world *world = context;

    (void)client;
    return replica_submit(&world->machines[node].machine, op);
}

static void deliver(void *context, int to, struct parcel *parcel)
{
    struct world *world = context;

    replica_deliver(&world->machines[to].machine, parcel);
}

static void on_break(void *context, int a, int b)
{
    struct world *world = context;
    struct machine *one = &world->machines[a].machine, *other = &world->machines[b].machine;

    replica_peer_lost(one, other->id);
    replica_peer_lost(other, one->id);
}

static void on_stable(void *context, const char *path)
{
    struct world_machine *node = context;

    stable_log_on_stable(node->stable_log, path);
}

static const struct process_type *process_of_level(int level)
{
    if (level == 1)
        return &replica_in_memory;
    return level == 2 ? &replica_on_storage : &node_process;
}

static void make_machine(struct world *world, int slot)
{
    const struct plan *plan = world->plan;
    struct world_machine *node = &world->machines[slot];

    node->machine = (struct machine){
        .slot = slot,
        .id = plan->config.servers[slot].id,
        .config = &plan->config,
        .type = process_of_level(plan->level),
        .timeline = world->timeline,
        .trace = world->trace,
        .links = &world->links,
        .net = world->net,
        .disk = plan->level >= 2 ? disk_new(world->trace, slot) : NULL,
        .random = random_stream(plan->seed, 1000 + (uint64_t)slot),
        .clock = plan->clocks[slot],
        .costs = plan->costs,
        .events = { .context = world,
                    .before_turn = before_turn,
                    .after_turn = after_turn,
                    .crashed = on_crashed,
                    .exited = on_exited },
        .user = &world->replicas,
        .flush_slowness = 1,
        .descriptor_limit = MACHINE_DESCRIPTORS,
    };
    if (node->machine.disk == NULL)
        return;
    node->stable_log = stable_log_new(world->oracle, node->machine.disk, slot, plan->config.path,
                                      node->machine.id);
    disk_on_stable(node->machine.disk, on_stable, node);
}

static void make_oracle(struct world *world)
{
    const struct plan *plan = world->plan;
    struct oracle_options options = { .node_count = plan->node_count,
                                      .trace = world->trace,
                                      .values_by_op = true };

    for (int slot = 0; slot < plan->node_count; slot++)
        options.ids[slot] = plan->config.servers[slot].id;
    world->oracle = oracle_new(&options);
}

static struct transport make_transport(struct world *world)
{
    const struct plan *plan = world->plan;
    uint16_t ports[LINKS_NODES_MAX] = { 0 };
    struct transport direct = { .context = world, .submit = submit_to_replica };

    if (plan->level < 3) {
        world->post = post_new(world->timeline, &world->links, world->trace, plan->seed, deliver,
                               on_break, world);
        world->replicas = (struct replicas){ .post = world->post,
                                             .oracle = world->oracle,
                                             .node_count = plan->node_count,
                                             .on_outcome = on_outcome,
                                             .context = world };
        for (int slot = 0; slot < plan->node_count; slot++)
            world->replicas.ids[slot] = plan->config.servers[slot].id;
        return direct;
    }
    for (int slot = 0; slot < plan->node_count; slot++)
        ports[slot] = plan->config.servers[slot].client_port;
    world->text_clients = text_clients_new(&plan->workload, world->net, world->timeline,
                                           world->trace, plan->seed, ports, plan->node_count);
    return text_clients_transport(world->text_clients);
}

static void make_network(struct world *world)
{
    const struct plan *plan = world->plan;

    links_init(&world->links);
    for (int from = 0; from < LINKS_MACHINES_MAX; from++)
        for (int to = 0; to < LINKS_MACHINES_MAX; to++) {
            world->links.of[from][to].delay_min_ns = plan->delay_min_ns;
            world->links.of[from][to].delay_max_ns = plan->delay_max_ns;
        }
    if (plan->level < 3)
        return;
    world->net = net_new(world->timeline, &world->links, world->trace, plan->seed);
    net_set_window(world->net, plan->window_min, plan->window_max);
    net_set_pieces(world->net, plan->piece_max);
    world->replayer = replayer_new(world);
    net_on_sent(world->net, replayer_seen, world->replayer);
}

struct world *world_new(const struct plan *plan, const struct world_options *options)
{
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL)
        abort();

    world->plan = plan;
    world->options = *options;
    world->timeline = timeline_new(plan->seed);
    world->trace = trace_new(world->timeline, options->print);
    world->other = random_stream(plan->seed, 1);
    make_network(world);
    make_oracle(world);
    struct transport transport = make_transport(world);
    world->sessions = sessions_new(&plan->workload, plan->node_count, world->timeline,
                                   world->oracle, world->trace, plan->seed, &transport);
    if (world->text_clients != NULL)
        text_clients_set_sessions(world->text_clients, world->sessions);
    for (int slot = 0; slot < plan->node_count; slot++)
        make_machine(world, slot);
    return world;
}

static void free_machine(struct world_machine *node)
{
    if (node->machine.process != NULL)
        machine_crash(&node->machine, false, DISK_TEAR_NOTHING);
    stable_log_free(node->stable_log);
    disk_free(node->machine.disk);
}

void world_free(struct world *world)
{
    for (int slot = 0; slot < world->plan->node_count; slot++)
        free_machine(&world->machines[slot]);
    sessions_free(world->sessions);
    text_clients_free(world->text_clients);
    replayer_free(world->replayer);
    net_free(world->net);
    if (world->post != NULL)
        replicas_release(&world->replicas);
    post_free(world->post);
    oracle_free(world->oracle);
    trace_free(world->trace);
    timeline_free(world->timeline);
    free(world);
}

/* -- The course ---------------------------------------------------------------------------------- */

static void run_until(struct world *world, uint64_t until_ns)
{
    while (timeline_step(world->timeline, until_ns))
        ;
}

static void run_for(struct world *world, uint64_t ns)
{
    run_until(world, timeline_now_ns(world->timeline) + ns);
}

typedef bool condition(struct world *world, uint32_t core);

/* Until `holds`, looked at ten times in a heartbeat; false if it does not within `ns`. */
static bool run_until_holds(struct world *world, condition *holds, uint32_t core, uint64_t ns)
{
    uint64_t end = timeline_now_ns(world->timeline) + ns;
    uint64_t step = world->plan->config.heartbeat_ms * MS_NS / 10;

    while (!holds(world, core)) {
        if (timeline_now_ns(world->timeline) >= end)
            return false;
        run_for(world, step);
    }
    return true;
}

static bool core_has_leader(struct world *world, uint32_t core)
{
    uint64_t term;
    int leader = oracle_newest_leader(world->oracle, &term);

    return leader >= 0 && (core >> leader & 1) != 0 && world_role(world, leader) == STRUCK_LEADER &&
           !world->machines[leader].machine.is_paused;
}

static bool core_converged(struct world *world, uint32_t core)
{
    char why[200];

    return oracle_converged(world->oracle, core, why, sizeof why);
}

static bool clients_idle(struct world *world, uint32_t core)
{
    (void)core;
    return sessions_idle(world->sessions);
}

/* A majority of those that are whole, in any order of chance. */
static uint32_t draw_core(struct world *world)
{
    int order[LINKS_NODES_MAX], count = 0;

    for (int slot = 0; slot < world->plan->node_count; slot++)
        if (!world->machines[slot].is_damaged)
            order[count++] = slot;
    for (int i = count - 1; i > 0; i--) {
        int other = (int)random_below(&world->other, (uint64_t)i + 1);
        int slot = order[i];
        order[i] = order[other];
        order[other] = slot;
    }
    int majority = world_majority(world);
    int size = majority + (int)random_below(&world->other, (uint64_t)(count - majority) + 1);
    uint32_t core = 0;
    for (int i = 0; i < size; i++)
        core |= UINT32_C(1) << order[i];
    return core;
}

static void repair_core_node(struct world *world, int slot)
{
    struct machine *machine = &world->machines[slot].machine;

    /* Clocks of one cluster may differ by less than heartbeat and election timeout do (README). */
    machine_set_rate(machine, (uint32_t)random_between(&world->other, 900, 1100));
    machine_resume(machine);
    if (machine->process == NULL)
        start_later(world, slot, 0);
}

/* Those outside of the core: dead, standing still, cut off, or deaf: heard, and hearing nobody. Such a
 * leader must step down, or the core would follow it for ever. */
static void break_outsider(struct world *world, int slot)
{
    struct machine *machine = &world->machines[slot].machine;
    struct disturbance cut = { .fault = FAULT_ISOLATE };

    static const char *const ways[] = { "down", "paused", "cut off", "deaf" };
    uint64_t way = random_below(&world->other, 4);
    trace_line(world->trace, slot, "stays %s", ways[way]);
    switch (way) {
    case 0:
        if (machine->process != NULL)
            world_crash_node(world, slot, true, DISK_TEAR_SECTORS, UINT64_MAX);
        break;
    case 1:
        if (machine->process != NULL)
            machine_pause(machine);
        break;
    default:
        for (int other = 0; other < world->plan->node_count; other++)
            if (other != slot) {
                cut.cut[slot] |= (uint16_t)(way == 2 ? 1u << other : 0);
                cut.cut[other] |= (uint16_t)(1u << slot);
            }
        (void)faults_disturb(world, &cut);
        machine_resume(machine);
    }
}

static void require(struct world *world, bool holds, const char *rule, const char *what,
                    uint32_t core)
{
    char why[200] = "";

    if (holds)
        return;
    (void)oracle_converged(world->oracle, core, why, sizeof why);
    trace_fail(world->trace, rule, "%s (core %x; %s)", what, (unsigned)core, why);
}

static void check_quiet(struct world *world, uint32_t core)
{
    const struct config *config = &world->plan->config;
    uint64_t turns[LINKS_NODES_MAX];

    if (world->net != NULL)
        net_set_pieces(world->net, 0); /* each piece of a message would cost its receiver a turn */
    /* Messages that the faults have made late, one upon another, still come, and each costs a turn. */
    run_for(world, S_NS + 2 * LATE_ELECTIONS * config->election_ms_max * MS_NS);
    for (int slot = 0; slot < world->plan->node_count; slot++)
        turns[slot] = world->machines[slot].machine.turns;
    run_for(world, QUIET_NS);
    uint64_t heartbeats = QUIET_NS / (config->heartbeat_ms * MS_NS) + 1;
    uint64_t turns_max = heartbeats * 8 * (uint64_t)world->plan->node_count + 2 * QUIET_TURNS_MAX;
    for (int slot = 0; slot < world->plan->node_count; slot++) {
        uint64_t made = world->machines[slot].machine.turns - turns[slot];
        if ((core >> slot & 1) != 0 && made > turns_max)
            trace_fail(world->trace, "L9",
                       "idle node %d made %" PRIu64 " turns in 2 s, more than %" PRIu64, slot, made,
                       turns_max);
    }
}

/* L1. Flushes that were slow when the faults stopped end as they would have, and messages that were
 * late still come: an old leader's keep the others waiting. On streams, a connection whose other end
 * has vanished is noticed after 40 heartbeats, and dialled again with growing pauses. */
static uint64_t election_ns(const struct world *world)
{
    const struct plan *plan = world->plan;
    uint64_t election = plan->config.election_ms_max * MS_NS;
    uint64_t slowest_flush = 100 * plan->costs.flush_max_ns;
    uint64_t bound = ELECTIONS_MAX * election + slowest_flush;
    bool has_late_messages = (plan->faults >> FAULT_DELAY & 1) != 0;

    if (has_late_messages)
        bound += LATE_ELECTIONS * election;
    return plan->level < 3 ? bound : bound + 40 * plan->config.heartbeat_ms * MS_NS + 4 * S_NS;
}

/* L2, where a client that waits in vain is not its own fault, and has the patience for an election. */
static void expect_answers(struct world *world, uint32_t core)
{
    const struct workload *workload = &world->plan->workload;
    bool is_fair = workload->slow_reader == 0 && workload->hang_up == 0 && workload->garbage == 0 &&
                   workload->half_close == 0;

    /* A flush that was begun while the disk was slow may still block its node. */
    uint32_t slow = UINT32_C(1) << FAULT_DISK_SLOW | UINT32_C(1) << FAULT_DISK_STALL;
    is_fair = is_fair && (world->plan->faults & slow) == 0;
    if (is_fair && workload->timeout_ns >= 6 * world->plan->config.election_ms_max * MS_NS)
        sessions_expect_answers(world->sessions, core);
}

/* P8, S21: asked to stop, each ends in good order and leaves nothing behind. */
static void stop_all(struct world *world, uint32_t core)
{
    world->is_ending = true;
    for (int slot = 0; slot < world->plan->node_count; slot++) {
        if ((core >> slot & 1) == 0)
            continue;
        world->machines[slot].is_stopping = true;
        machine_signal(&world->machines[slot].machine, 15);
    }
    run_for(world, STOP_NS_MAX);
    for (int slot = 0; slot < world->plan->node_count; slot++)
        if ((core >> slot & 1) != 0 && world->machines[slot].machine.process != NULL)
            trace_fail(world->trace, "P8", "node %d was asked to stop and has not, in time", slot);
}

static void run_end(struct world *world)
{
    faults_stop(world);
    uint32_t core = world->core = draw_core(world);
    trace_line(world->trace, -1, "the faults stop; core %x", (unsigned)core);
    for (int slot = 0; slot < world->plan->node_count; slot++) {
        if (core >> slot & 1)
            repair_core_node(world, slot);
        else if (!world->machines[slot].is_damaged)
            break_outsider(world, slot);
    }

    require(world, run_until_holds(world, core_has_leader, core, election_ns(world)), "L1",
            "the core has no leader", core);
    uint64_t acked = sessions_acked(world->sessions);
    /* A client may first wait in vain for some of those outside. */
    uint64_t patience_ns = SERVICE_NS_MAX + 5 * world->plan->workload.timeout_ns;
    uint64_t end_ns = timeline_now_ns(world->timeline) + patience_ns;
    while (sessions_acked(world->sessions) == acked && timeline_now_ns(world->timeline) < end_ns)
        run_for(world, 100 * MS_NS);
    require(world, sessions_acked(world->sessions) > acked, "L7", "the core serves nobody", core);
    expect_answers(world, core);
    run_for(world, SERVICE_NS);
    sessions_stop(world->sessions);
    require(world,
            run_until_holds(world, clients_idle, core,
                            world->plan->workload.timeout_ns + ANSWER_NS_MAX),
            "L2", "a request has no answer", core);
    require(world, run_until_holds(world, core_converged, core, CONVERGE_NS_MAX), "L3",
            "the core does not converge", core);
    check_quiet(world, core);
    /* A key may have expired meanwhile, by one more entry. */
    require(world, run_until_holds(world, core_converged, core, S_NS), "L3",
            "the core does not stay as it is", core);
    if (world->plan->level == 3)
        stop_all(world, core);
}

/* L5: without faults, the first leader stays; and who half-closes gets what he has asked for. */
static void run_calm(struct world *world)
{
    uint64_t term, term_in_the_end;

    run_for(world, election_ns(world));
    int leader = oracle_newest_leader(world->oracle, &term);
    run_for(world, world->plan->duration_ns);
    int leader_in_the_end = oracle_newest_leader(world->oracle, &term_in_the_end);
    if (leader < 0 || leader_in_the_end != leader || term_in_the_end != term)
        trace_fail(world->trace, "L5",
                   "without any fault, node %d leads in term %" PRIu64
                   " after node %d in term %" PRIu64,
                   leader_in_the_end, term_in_the_end, leader, term);
    struct text_clients_stats stats = { 0 };
    if (world->text_clients != NULL)
        text_clients_stats(world->text_clients, &stats);
    if (stats.abandoned > 0)
        trace_fail(world->trace, "S24",
                   "without any fault, %" PRIu64 " connections that had "
                   "half-closed were ended with replies owed",
                   stats.abandoned);
}

static void start_all(struct world *world)
{
    for (int slot = 0; slot < world->plan->node_count; slot++)
        start_later(world, slot, random_below(&world->other, START_SPREAD_NS));
    run_until(world, CLIENTS_BEGIN_NS);
    sessions_start(world->sessions);
}

static void sum_up(struct world *world, struct run_result *result)
{
    *result = (struct run_result){
        .seed = world->plan->seed,
        .level = world->plan->level,
        .node_count = world->plan->node_count,
        .simulated_ns = timeline_now_ns(world->timeline),
        .events = timeline_events(world->timeline),
        .trace_hash = trace_hash(world->trace),
    };
    memcpy(result->faults, world->struck, sizeof result->faults);
    oracle_stats(world->oracle, &result->oracle);
}

void world_run(const struct plan *plan, const struct world_options *options,
               struct run_result *result)
{
    struct world *world = world_new(plan, options);

    start_all(world);
    if (plan->is_calm) {
        run_calm(world);
    } else {
        faults_start(world);
        run_for(world, plan->duration_ns);
    }
    run_end(world);
    oracle_check_end(world->oracle);
    oracle_check_history(world->oracle);
    if (options->history_path != NULL)
        oracle_write_history(world->oracle, options->history_path);
    sum_up(world, result);
    world_free(world);
}
