/* What must hold: `leader`, which waits for one and binds the nodes' names to their parts, and the
 * lines that begin with `expect`. Those that take `within` wait; the others look once. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/script_state.h"

#define WAIT_NS (5 * S_NS)

static const struct machine *machine_of(const struct script_run *run, int slot)
{
    return &run->world->machines[slot].machine;
}

/* -- Leaders ------------------------------------------------------------------------------------- */

static int leader_now(const struct script_run *run)
{
    uint64_t term;
    int slot = oracle_newest_leader(run->world->oracle, &term);

    return slot >= 0 && script_is_leader(run, slot) ? slot : -1;
}

/* The argument: bits of the nodes that it may not be. */
static bool has_leader(struct script_run *run, uint64_t excluded)
{
    int slot = leader_now(run);

    return slot >= 0 && (excluded >> slot & 1) == 0;
}

static bool bind_parts(struct script_run *run, int leader)
{
    char name[SCRIPT_NAME_MAX];
    int count = 0;

    if (!script_bind_node(run, "leader", leader))
        return false;
    for (int slot = 0; slot < run->node_count; slot++) {
        if (slot == leader)
            continue;
        snprintf(name, sizeof name, "f%d", ++count);
        if (!script_bind_node(run, name, slot))
            return false;
    }
    return true;
}

/* leader [not NODE] [within TIME] */
bool script_leader(struct script_run *run)
{
    uint64_t limit, excluded = 0;
    int slot;

    if (script_take(run, "not")) {
        if (!script_want_node(run, &slot))
            return false;
        excluded = UINT64_C(1) << slot;
    }
    if (!script_want_limit(run, WAIT_NS, &limit))
        return false;
    if (run->is_check)
        return bind_parts(run, 0);
    if (!script_wait(run, has_leader, excluded, limit))
        return leader_now(run) < 0 ? script_differs(run, "there is no leader")
                                   : script_differs(run, "node %d leads", leader_now(run) + 1);
    script_remember(run);
    return bind_parts(run, leader_now(run));
}

static bool leads_nobody(struct script_run *run, uint64_t argument)
{
    (void)argument;
    for (int slot = 0; slot < run->node_count; slot++)
        if (world_role(run->world, slot) == STRUCK_LEADER)
            return false;
    return true;
}

/* expect no leader [within TIME] */
static bool expect_no(struct script_run *run)
{
    uint64_t limit;

    if (!script_want(run, "leader") || !script_want_limit(run, 0, &limit))
        return false;
    if (run->is_check || script_wait(run, leads_nobody, 0, limit))
        return true;
    return script_differs(run, "a node still takes itself for the leader");
}

/* expect same leader: the one of the last `leader` line leads, in its term. */
static bool expect_same(struct script_run *run)
{
    struct oracle_stats stats;

    if (!script_want(run, "leader") || !script_want_end(run))
        return false;
    if (run->is_check)
        return true;
    oracle_stats(run->world->oracle, &stats);
    if (leader_now(run) == run->leader && stats.elections == run->elections)
        return true;
    return script_differs(run, "node %d leads, after %" PRIu64 " elections", leader_now(run) + 1,
                          stats.elections - run->elections);
}

/* expect at most N elections */
static bool expect_at(struct script_run *run)
{
    struct oracle_stats stats;
    uint64_t most;

    if (!script_want(run, "most") || !script_want_number(run, &most))
        return false;
    if (!script_take(run, "elections") && !script_want(run, "election"))
        return false;
    if (!script_want_end(run))
        return false;
    if (run->is_check)
        return true;
    oracle_stats(run->world->oracle, &stats);
    if (stats.elections - run->elections <= most)
        return true;
    return script_differs(run, "there were %" PRIu64 " elections",
                          stats.elections - run->elections);
}

/* expect term unchanged: on no node is it above what it was at the last `leader` line. */
static bool expect_term(struct script_run *run)
{
    if (!script_want(run, "unchanged") || !script_want_end(run))
        return false;
    for (int slot = 0; slot < run->node_count && !run->is_check; slot++) {
        const struct machine *machine = machine_of(run, slot);
        if (machine->process == NULL)
            continue;
        uint64_t term = machine->type->raft(machine->process)->term;
        if (term > run->term)
            return script_differs(run, "node %d is in term %" PRIu64 ", after %" PRIu64, slot + 1,
                                  term, run->term);
    }
    return true;
}

/* -- Nodes --------------------------------------------------------------------------------------- */

static bool is_down(struct script_run *run, uint64_t slot)
{
    return machine_of(run, (int)slot)->process == NULL;
}

static bool has_crashed(struct script_run *run, uint64_t slot)
{
    return run->nodes[slot].has_crashed;
}

static bool has_exited(struct script_run *run, uint64_t slot)
{
    return run->nodes[slot].has_exited;
}

/* expect up NODE */
static bool expect_up(struct script_run *run)
{
    int slot;

    if (!script_want_node(run, &slot) || !script_want_end(run))
        return false;
    if (run->is_check || !is_down(run, (uint64_t)slot))
        return true;
    return script_differs(run, "node %d is down", slot + 1);
}

/* expect crash NODE [within TIME]: at the call that `crash` named. */
static bool expect_crash(struct script_run *run)
{
    uint64_t limit;
    int slot;

    if (!script_want_node(run, &slot) || !script_want_limit(run, 0, &limit))
        return false;
    if (run->is_check || script_wait(run, has_crashed, (uint64_t)slot, limit))
        return true;
    return script_differs(run, "node %d has not come to that call", slot + 1);
}

/* expect exit NODE CODE [within TIME] */
static bool expect_exit(struct script_run *run)
{
    uint64_t limit, code;
    int slot;

    if (!script_want_node(run, &slot) || !script_want_number(run, &code) ||
        !script_want_limit(run, 0, &limit))
        return false;
    if (run->is_check)
        return true;
    if (!script_wait(run, has_exited, (uint64_t)slot, limit))
        return script_differs(run, "node %d has not ended", slot + 1);
    if (run->nodes[slot].exit_code != (int)code)
        return script_differs(run, "node %d has ended with %d", slot + 1,
                              run->nodes[slot].exit_code);
    run->nodes[slot].has_exited = false;
    return true;
}

/* expect role NODE ROLE [within TIME]; the argument: role, slot */
static bool has_role(struct script_run *run, uint64_t argument)
{
    return world_role(run->world, (int)(argument % LINKS_MACHINES_MAX)) ==
           (enum struck)(argument / LINKS_MACHINES_MAX);
}

static bool expect_role(struct script_run *run)
{
    static const char *const names[STRUCK_COUNT] = { "follower", "pre-candidate", "candidate",
                                                     "leader", "down" };
    uint64_t limit;
    int slot, role = 0;

    if (!script_want_node(run, &slot))
        return false;
    while (role < STRUCK_COUNT && !script_take(run, names[role]))
        role++;
    if (role == STRUCK_COUNT) {
        run->at++;
        return script_mistake(run, "follower, pre-candidate, candidate, leader or down");
    }
    if (!script_want_limit(run, 0, &limit))
        return false;
    uint64_t argument = (uint64_t)role * LINKS_MACHINES_MAX + (uint64_t)slot;
    if (run->is_check || script_wait(run, has_role, argument, limit))
        return true;
    return script_differs(run, "node %d is %s", slot + 1, names[world_role(run->world, slot)]);
}

/* expect lost NODE N entries: its newest start found N less than it had. */
static bool expect_lost(struct script_run *run)
{
    uint64_t count;
    int slot;

    if (!script_want_node(run, &slot) || !script_want_number(run, &count) ||
        !script_want(run, "entries") || !script_want_end(run))
        return false;
    const struct script_node *node = &run->nodes[slot];
    if (run->is_check || node->index_recovered + count == node->index_before)
        return true;
    return script_differs(run, "node %d had %" PRIu64 " entries and recovered %" PRIu64, slot + 1,
                          node->index_before, node->index_recovered);
}

/* expect log NODE "TEXT": in its last lines. */
static bool expect_log(struct script_run *run)
{
    int slot;

    if (!script_want_node(run, &slot))
        return false;
    const char *text = script_word(run);
    if (text == NULL)
        return script_mistake(run, "a text that is in a log line");
    if (!script_want_end(run))
        return false;
    for (int i = 0; i < SCRIPT_LINES_KEPT && !run->is_check; i++)
        if (strstr(run->nodes[slot].lines[i], run->word) != NULL)
            return true;
    return run->is_check || script_differs(run, "no line of node %d says that", slot + 1);
}

/* expect turns NODE below TIME: since the last `leader` line. */
static bool expect_turns(struct script_run *run)
{
    uint64_t below;
    int slot;

    if (!script_want_node(run, &slot) || !script_want(run, "below") ||
        !script_want_time(run, &below) || !script_want_end(run))
        return false;
    if (run->is_check || run->nodes[slot].turn_ns < below)
        return true;
    return script_differs(run, "a turn of node %d took %.3f ms", slot + 1,
                          (double)run->nodes[slot].turn_ns / 1e6);
}

/* -- The cluster --------------------------------------------------------------------------------- */

static bool has_converged(struct script_run *run, uint64_t nodes)
{
    char why[200];

    return oracle_converged(run->world->oracle, (uint32_t)nodes, why, sizeof why);
}

/* expect converged all|NODE... [within TIME] */
static bool expect_converged(struct script_run *run)
{
    char why[200] = "";
    uint64_t limit;
    uint32_t nodes;

    if (!script_want_nodes(run, &nodes) || !script_want_limit(run, 0, &limit))
        return false;
    if (run->is_check || script_wait(run, has_converged, nodes, limit))
        return true;
    (void)oracle_converged(run->world->oracle, nodes, why, sizeof why);
    return script_differs(run, "not converged: %s", why);
}

/* expect open NAME: the request has no answer yet. */
static bool expect_open(struct script_run *run)
{
    char name[SCRIPT_NAME_MAX];

    if (!script_want_name(run, "the name of a request that was begun", name))
        return false;
    const struct script_request *request = script_find_by_name(run, name);
    if (request == NULL)
        return script_mistake(run, "the name of a request that was begun");
    if (!script_want_end(run))
        return false;
    if (run->is_check || request->fate == SCRIPT_OPEN)
        return true;
    return script_differs(run, "it is answered: %s", outcome_type_name(request->outcome.type));
}

bool script_expect(struct script_run *run)
{
    static const struct {
        const char *word;
        script_command *command;
    } expectations[] = {
        { "no", expect_no },     { "same", expect_same },   { "at", expect_at },
        { "term", expect_term }, { "up", expect_up },       { "crash", expect_crash },
        { "exit", expect_exit }, { "role", expect_role },   { "lost", expect_lost },
        { "log", expect_log },   { "turns", expect_turns }, { "converged", expect_converged },
        { "open", expect_open },
    };

    for (size_t i = 0; i < sizeof expectations / sizeof expectations[0]; i++)
        if (script_take(run, expectations[i].word))
            return expectations[i].command(run);
    run->at++;
    return script_mistake(run,
                          "no leader, same leader, at most, term, up, crash, exit, role, lost, "
                          "log, turns, converged or open");
}
