/* The course of a scenario: the file is read, looked through once for mistakes, and then run, once for
 * each of its levels. Settings come first; the first other line begins the world, and the end of the
 * file (or `fresh`) ends it, with all that the oracle has to say at an end. */
#include "tests/sim/script.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/os_sim.h"
#include "tests/sim/script_state.h"

/* -- The cluster, if the file says nothing else -------------------------------------------------- */

static void draw_plan(struct script_run *run)
{
    struct plan_limits limits = { .has_faults = true };
    struct plan *plan = &run->plan;

    plan_draw(plan, 1, run->level, &limits);
    plan->config.flush = CONFIG_FLUSH_AIO;
    plan->config.heartbeat_ms = 50;
    plan->config.election_ms_min = 150;
    plan->config.election_ms_max = 300;
    plan->config.limits = (struct config_limits){
        .value_bytes = 1 << 20,
        .clients = 64,
        .pipeline = 1024,
        .output_bytes = 4 << 20,
        .client_memory_bytes = 16 << 20,
        .request_timeout_ms = 10000,
        .uncommitted_bytes = 8 << 20,
        .batch_bytes = 256 * 1024,
        .store_bytes = 64 << 20,
        .log_cache_bytes = 1 << 20,
        .peer_window_bytes = 1 << 20,
        .segment_bytes = 4 << 20,
    };
    plan->costs = (struct machine_costs){
        .call_ns = 1000, .turn_ns = 1000, .flush_min_ns = 100000, .flush_max_ns = 400000
    };
    plan->delay_min_ns = 100000;
    plan->delay_max_ns = 300000;
    plan->window_min = plan->window_max = 262144;
    plan->piece_max = 65536;
    plan->workload = (struct workload){ .clients = 4,
                                        .keys = 8,
                                        .get = 4,
                                        .getm = 4,
                                        .set = 8,
                                        .cas = 2,
                                        .del = 1,
                                        .value_bytes_max = 200,
                                        .pipeline_max = 4,
                                        .think_ns_max = 20 * MS_NS,
                                        .timeout_ns = 3 * S_NS };
    run->seed = 1;
    run->node_count = 3;
    run->starts_down = run->has_begun = false;
}

/* What depends on settings. */
static void finish_plan(struct script_run *run)
{
    struct config *config = &run->plan.config;

    run->plan.seed = run->seed;
    run->plan.node_count = config->server_count = run->node_count;
    for (int slot = 0; slot < run->node_count; slot++) {
        struct config_server *server = &config->servers[slot];
        server->id = (uint32_t)slot + 1;
        snprintf(server->host, sizeof server->host, OS_SIM_HOST_FORMAT, slot);
        server->client_port = (uint16_t)(9000 + slot);
        server->log_port = (uint16_t)(8000 + slot);
    }
    for (int slot = 0; slot < LINKS_NODES_MAX; slot++)
        run->plan.clocks[slot].rate_per_mille = 1000;
}

/* -- Commands of time and order ------------------------------------------------------------------ */

static bool pass(struct script_run *run)
{
    uint64_t ns;

    if (!script_want_time(run, &ns) || !script_want_end(run))
        return false;
    if (!run->is_check)
        script_pass(run, ns);
    return true;
}

/* let NAME NODE: keeps a node under a name of its own. */
static bool let(struct script_run *run)
{
    char name[SCRIPT_NAME_MAX];
    int slot;

    return script_want_name(run, "a name", name) && script_want_node(run, &slot) &&
           script_want_end(run) && script_bind_node(run, name, slot);
}

static bool workload(struct script_run *run)
{
    bool is_on = script_take(run, "on");

    if ((!is_on && !script_want(run, "off")) || !script_want_end(run))
        return false;
    if (run->is_check)
        return true;
    if (is_on)
        sessions_start(run->world->sessions);
    else
        sessions_stop(run->world->sessions);
    return true;
}

/* fresh [seed N]: this world ends, and another begins like it. */
static bool fresh(struct script_run *run)
{
    if (script_take(run, "seed") && !script_want_number(run, &run->seed))
        return false;
    if (!script_want_end(run))
        return false;
    if (run->is_check)
        return true;
    bool holds = script_end_world(run);
    run->plan.seed = run->seed;
    script_begin_world(run);
    return holds;
}

/* Lines after the settings: these, or one of faults, requests and expectations. */
static script_command *find_command(const char *word)
{
    static const struct {
        const char *word;
        script_command *command;
    } commands[] = {
        { "run", pass },
        { "let", let },
        { "workload", workload },
        { "fresh", fresh },
        { "leader", script_leader },
        { "expect", script_expect },
    };

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(commands[i].word, word) == 0)
            return commands[i].command;
    script_command *command = script_find_fault(word);
    return command != NULL ? command : script_find_request(word);
}

/* -- Steps --------------------------------------------------------------------------------------- */

static bool run_steps(struct script_run *run, int first, int last);

/* The line of the `end` of a `for`; -1: there is none. */
static int find_end(const struct script_run *run, int step)
{
    int depth = 0;

    for (; step < run->step_count; step++) {
        const char *word = run->steps[step].words[0];
        depth += strcmp(word, "for") == 0;
        depth -= strcmp(word, "end") == 0;
        if (depth == 0)
            return step;
    }
    return -1;
}

/* for NAME in A..B: lines up to `end`, for each number. */
static bool run_loop(struct script_run *run, int step, int end)
{
    char name[SCRIPT_NAME_MAX], text[SCRIPT_NAME_MAX], *rest;

    if (!script_want_name(run, "a name", name) || !script_want(run, "in"))
        return false;
    const char *word = script_word(run);
    if (word == NULL)
        return script_mistake(run, "two numbers, such as 1..200");
    uint64_t from = strtoull(word, &rest, 10);
    if (rest == word || strncmp(rest, "..", 2) != 0)
        return script_mistake(run, "two numbers, such as 1..200");
    uint64_t to = strtoull(rest + 2, &rest, 10);
    if (*rest != '\0' || to < from)
        return script_mistake(run, "two numbers, such as 1..200");
    if (!script_want_end(run))
        return false;
    if (end < 0)
        return script_mistake(run, "an 'end' further down");
    for (uint64_t i = from; i <= to; i++) {
        snprintf(text, sizeof text, "%" PRIu64, i);
        if (!script_bind(run, name, text) || !run_steps(run, step + 1, end))
            return false;
    }
    return true;
}

/* The settings are over. */
static void begin_once(struct script_run *run)
{
    if (run->has_begun)
        return;
    run->has_begun = true;
    finish_plan(run);
    if (!run->is_check)
        script_begin_world(run);
}

static bool run_step(struct script_run *run)
{
    const char *word = script_word(run);

    if (word == NULL)
        return false;
    script_command *setting = script_find_setting(word);
    if (setting != NULL)
        return run->has_begun ? script_mistake(run, "settings in front of everything else")
                              : setting(run);
    script_command *command = find_command(word);
    if (command == NULL)
        return script_mistake(run, "a command (tests/sim/scenarios/README.md)");
    begin_once(run);
    return command(run);
}

static bool run_steps(struct script_run *run, int first, int last)
{
    for (int i = first; i < last; i++) {
        run->step = &run->steps[i];
        run->at = 0;
        if (script_take(run, "level"))
            continue;
        if (!script_take(run, "for")) {
            if (!run_step(run))
                return false;
            continue;
        }
        begin_once(run);
        int end = find_end(run, i);
        if (!run_loop(run, i, end))
            return false;
        i = end;
    }
    return true;
}

/* -- The file ------------------------------------------------------------------------------------ */

/* level 1 2 3: the first line; without it, level 3. False: there are other words. */
static bool read_levels(struct script_run *run, uint32_t *levels)
{
    uint64_t level;

    run->step = &run->steps[0];
    run->at = 0;
    *levels = 1u << 3;
    if (!script_take(run, "level"))
        return true;
    *levels = 0;
    do {
        if (!script_want_number(run, &level))
            return false;
        if (level < 1 || level > 3)
            return script_mistake(run, "1, 2 or 3");
        *levels |= 1u << level;
    } while (script_has_more(run));
    return true;
}

static bool run_level(struct script_run *run)
{
    draw_plan(run);
    run->variable_count = 0;
    run->request_count = 0;
    bool holds = run_steps(run, 0, run->step_count);
    if (run->world == NULL)
        return holds;
    bool ends_well = holds && script_end_world(run);
    if (!holds && run->world != NULL) {
        script_clients_end(run);
        world_free(run->world);
        run->world = NULL;
    }
    return ends_well;
}

static bool run_levels(struct script_run *run)
{
    uint32_t levels = 0;
    bool holds = read_levels(run, &levels);

    for (int pass_number = 0; pass_number < 2; pass_number++) {
        run->is_check = pass_number == 0;
        for (run->level = 1; holds && run->level <= 3; run->level++)
            if (levels >> run->level & 1)
                holds = run_level(run);
    }
    return holds;
}

int script_run(const char *path, bool print)
{
    struct script_run *run = calloc(1, sizeof *run);
    struct script_step *steps;

    if (run == NULL)
        abort();
    run->path = path;
    run->print = print;
    bool holds = script_read(path, &steps, &run->step_count);
    run->steps = steps;
    if (holds && run->step_count == 0) {
        fprintf(stderr, "%s:1: expected a command\n", path);
        holds = false;
    }
    holds = holds && run_levels(run);
    printf("%s: %s\n", path, holds ? "holds" : "does not hold");
    free(steps);
    free(run->requests);
    free(run);
    return holds ? 0 : 1;
}
