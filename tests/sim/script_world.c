/* The world of a scenario: the plan is what its settings say and chance has no part in it but for the
 * times of messages and flushes; nodes start at once, and what ends stays down until the script says
 * otherwise. The script listens to each machine in front of the world, to see exits, log lines and the
 * length of turns. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/script_state.h"

/* -- What machines tell -------------------------------------------------------------------------- */

static void before_turn(void *context, struct machine *machine)
{
    struct script_run *run = context;
    const struct machine_events *world = &run->nodes[machine->slot].events;

    world->before_turn(world->context, machine);
}

static void after_turn(void *context, struct machine *machine)
{
    struct script_run *run = context;
    struct script_node *node = &run->nodes[machine->slot];

    if (machine->turn_cost_ns > node->turn_ns)
        node->turn_ns = machine->turn_cost_ns;
    node->last_index = machine->type->raft(machine->process)->last_index;
    node->events.after_turn(node->events.context, machine);
}

void script_crash_node(struct script_run *run, int slot, bool power)
{
    world_crash_node(run->world, slot, power, power ? run->tear : DISK_TEAR_NOTHING, UINT64_MAX);
    script_clients_lost(run, slot);
}

static void on_crashed(void *context, struct machine *machine)
{
    struct script_run *run = context;

    run->nodes[machine->slot].has_crashed = true;
    script_crash_node(run, machine->slot, machine->crash_cuts_power);
}

static void on_exited(void *context, struct machine *machine, int exit_code)
{
    struct script_run *run = context;
    struct script_node *node = &run->nodes[machine->slot];
    struct world_machine *its = &run->world->machines[machine->slot];

    node->has_exited = true;
    node->exit_code = exit_code;
    oracle_crashed(run->world->oracle, machine->slot);
    if (its->stable_log != NULL)
        stable_log_reset(its->stable_log);
    script_clients_lost(run, machine->slot);
}

static void on_said(void *context, struct machine *machine, const char *line, size_t size)
{
    struct script_run *run = context;
    struct script_node *node = &run->nodes[machine->slot];
    char *kept = node->lines[node->line_count++ % SCRIPT_LINES_KEPT];

    snprintf(kept, SCRIPT_LINE_MAX, "%.*s",
             size < SCRIPT_LINE_MAX ? (int)size : SCRIPT_LINE_MAX - 1, line);
}

static void listen_to(struct script_run *run, int slot)
{
    struct machine *machine = &run->world->machines[slot].machine;

    run->nodes[slot] = (struct script_node){ .events = machine->events };
    machine->events = (struct machine_events){ .context = run,
                                               .before_turn = before_turn,
                                               .after_turn = after_turn,
                                               .crashed = on_crashed,
                                               .exited = on_exited,
                                               .said = on_said };
}

/* A broken rule: where the script was. */
static void tell_place(void *context)
{
    const struct script_run *run = context;

    fprintf(stderr, "%s:%d: broken while this line ran (level %d):\n   ", run->path,
            run->step->line, run->level);
    for (int i = 0; i < run->step->word_count; i++)
        fprintf(stderr, " %s", run->step->words[i]);
    fprintf(stderr, "\n");
    for (int i = 0; i < run->variable_count; i++)
        fprintf(stderr, "    $%s is %s\n", run->variables[i].name, run->variables[i].text);
}

/* -- Life ---------------------------------------------------------------------------------------- */

void script_begin_world(struct script_run *run)
{
    struct world_options options = { .print = run->print };

    run->world = world_new(&run->plan, &options);
    trace_on_fail(run->world->trace, tell_place, run);
    run->tear = DISK_TEAR_SECTORS;
    run->request_count = 0;
    run->term = run->elections = 0;
    run->leader = -1;
    for (int slot = 0; slot < run->node_count; slot++)
        listen_to(run, slot);
    script_clients_begin(run);
    for (int slot = 0; slot < run->node_count && !run->starts_down; slot++)
        world_start_node(run->world, slot);
}

bool script_end_world(struct script_run *run)
{
    bool holds = true;

    if (run->world == NULL)
        return true;
    for (int slot = 0; slot < run->node_count && holds; slot++)
        if (run->nodes[slot].has_exited)
            holds =
                script_differs(run, "node %d had ended with %d, which the script did not expect",
                               slot + 1, run->nodes[slot].exit_code);
    if (holds) {
        oracle_check_end(run->world->oracle);
        oracle_check_history(run->world->oracle);
    }
    script_clients_end(run);
    world_free(run->world);
    run->world = NULL;
    return holds;
}

/* -- Time ---------------------------------------------------------------------------------------- */

void script_pass(struct script_run *run, uint64_t ns)
{
    struct timeline *timeline = run->world->timeline;
    uint64_t until = timeline_now_ns(timeline) + ns;

    script_clients_flush(run);
    while (timeline_step(timeline, until)) {
    }
}

bool script_wait(struct script_run *run, script_condition *holds, uint64_t argument, uint64_t ns)
{
    uint64_t end = timeline_now_ns(run->world->timeline) + ns;

    while (!holds(run, argument)) {
        uint64_t now = timeline_now_ns(run->world->timeline);
        if (now >= end)
            return false;
        script_pass(run, end - now < MS_NS ? end - now : MS_NS);
    }
    return true;
}

bool script_is_leader(const struct script_run *run, int slot)
{
    return world_role(run->world, slot) == STRUCK_LEADER &&
           !run->world->machines[slot].machine.is_paused;
}

static uint64_t newest_term(const struct script_run *run)
{
    uint64_t term = 0;

    for (int slot = 0; slot < run->node_count; slot++) {
        const struct machine *machine = &run->world->machines[slot].machine;
        if (machine->process == NULL)
            continue;
        uint64_t its = machine->type->raft(machine->process)->term;
        term = its > term ? its : term;
    }
    return term;
}

void script_remember(struct script_run *run)
{
    struct oracle_stats stats;
    uint64_t term;

    oracle_stats(run->world->oracle, &stats);
    run->elections = stats.elections;
    run->term = newest_term(run);
    run->leader = oracle_newest_leader(run->world->oracle, &term);
    for (int slot = 0; slot < run->node_count; slot++)
        run->nodes[slot].turn_ns = 0;
}
