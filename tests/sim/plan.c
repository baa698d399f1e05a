/* Each part of a plan is drawn from a stream of its own (purposes below), so that to take one part away
 * changes nothing in the others. Sizes and times lean to the small end: a cluster is most interesting
 * where its limits are. */
#include "tests/sim/plan.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/os_sim.h"

#define MS_NS UINT64_C(1000000)
#define S_NS (1000 * MS_NS)

/* Of a stream of chance. */
enum purpose {
    PURPOSE_CLUSTER = 100,
    PURPOSE_LIMITS,
    PURPOSE_WORKLOAD,
    PURPOSE_FAULTS,
    PURPOSE_MACHINES,
    PURPOSE_TIME
};

const struct fault_kind fault_kinds[FAULT_COUNT] = {
#define FAULT(name, text, low, high, what) [FAULT_##name] = { text, what, low, high },
    FAULTS(FAULT)
#undef FAULT
};

static bool one_in(struct random *random, uint64_t n)
{
    return random_below(random, n) == 0;
}

/* -- The cluster -------------------------------------------------------------------------------- */

static void draw_servers(struct plan *plan, struct random *random, int count_max)
{
    static const uint8_t counts[] = { 1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7 };
    struct config *config = &plan->config;

    plan->node_count = counts[random_below(random, sizeof counts)];
    uint32_t id = (uint32_t)random_below(random, 3);
    if (count_max != 0 && plan->node_count > count_max)
        plan->node_count = count_max;
    config->server_count = plan->node_count;
    for (int slot = 0; slot < plan->node_count; slot++) {
        struct config_server *server = &config->servers[slot];
        server->id = id;
        id += 1 + (uint32_t)random_below(random, 3);
        snprintf(server->host, sizeof server->host, OS_SIM_HOST_FORMAT, slot);
        server->client_port = (uint16_t)(9000 + slot);
        server->log_port = (uint16_t)(8000 + slot);
    }
}

static void draw_times(struct plan *plan, struct random *random)
{
    struct config *config = &plan->config;

    config->heartbeat_ms = 50;
    config->election_ms_min = 150;
    config->election_ms_max = 300;
    if (one_in(random, 4)) {
        config->heartbeat_ms = (uint32_t)random_between(random, 10, 100);
        config->election_ms_min = config->heartbeat_ms * (uint32_t)random_between(random, 3, 6);
        config->election_ms_max =
            config->election_ms_min * (uint32_t)random_between(random, 15, 30) / 10;
    }
}

static void draw_limits(struct plan *plan, struct random *random)
{
    struct config_limits *limits = &plan->config.limits;

    *limits = (struct config_limits){
        .value_bytes = 64 * 1024,
        .clients = 64,
        .pipeline = 1024,
        .output_bytes = 1 << 20,
        .client_memory_bytes = 16 << 20,
        .request_timeout_ms = 10000,
        .uncommitted_bytes = 8 << 20,
        .batch_bytes = 256 * 1024,
        .store_bytes = 64 << 20,
        .log_cache_bytes = 1 << 20,
        .peer_window_bytes = 1 << 20,
        .segment_bytes = 1 << 20,
    };
    if (one_in(random, 2)) { /* tiny */
        limits->value_bytes = 4096;
        limits->clients = 8;
        limits->pipeline = (uint32_t)random_between(random, 1, 16);
        limits->output_bytes = 8192;
        limits->batch_bytes = (uint32_t)random_between(random, 512, 8192);
        limits->uncommitted_bytes = random_between(random, 8192, 65536);
        limits->log_cache_bytes = random_between(random, 1, 65536);
        limits->peer_window_bytes = UINT32_C(2048) << random_below(random, 6);
        limits->segment_bytes = 65536;
    }
}

/* What is normal here must not look like a fault: a round trip with its flushes takes a heartbeat's
 * time at most. */
static void draw_machines(struct plan *plan, struct random *random)
{
    uint64_t heartbeat_us = plan->config.heartbeat_ms * UINT64_C(1000);

    plan->costs = (struct machine_costs){
        .call_ns = 1000,
        .turn_ns = 1000,
        .flush_min_ns = random_between(random, 50, heartbeat_us / 50) * 1000,
    };
    plan->costs.flush_max_ns = plan->costs.flush_min_ns * random_between(random, 1, 8);
    plan->delay_min_ns = random_between(random, 20, heartbeat_us / 50) * 1000;
    plan->delay_max_ns = plan->delay_min_ns * random_between(random, 1, 8);
    plan->window_max = random_between(random, 2048, 262144);
    plan->window_min = one_in(random, 2) ? plan->window_max : 1024;
    plan->piece_max = one_in(random, 3) ? random_between(random, 1, 200) : 65536;
    for (int slot = 0; slot < LINKS_NODES_MAX; slot++) {
        static const uint64_t crossings_ms[] = { UINT64_C(1) << 31, UINT64_C(1) << 32 };
        struct clock_setting *clock = &plan->clocks[slot];
        clock->rate_per_mille = 1000;
        clock->offset_ns = random_between(random, 1, 1000000) * MS_NS;
        if (one_in(random, 8)) /* an uptime about to cross 2^31 or 2^32 ms */
            clock->offset_ns = (crossings_ms[random_below(random, 2)] - 2000) * MS_NS;
        clock->wall_offset_ms = (int64_t)(UINT64_C(1700000000000) + random_below(random, 1 << 30));
    }
}

/* A link carries in a heartbeat's time what may be under way to a follower, and the largest entry:
 * heartbeats queue behind them (README, Limits). */
static void fit_windows(struct plan *plan)
{
    struct config_limits *limits = &plan->config.limits;
    uint64_t heartbeat_ns = plan->config.heartbeat_ms * MS_NS;
    uint64_t round_trip_ns = 2 * plan->delay_max_ns;
    uint64_t largest = limits->batch_bytes;

    if (largest < plan->workload.value_bytes_max + 4096)
        largest = plan->workload.value_bytes_max + 4096;
    uint64_t needed = largest * round_trip_ns / heartbeat_ns + 1024;
    if (plan->window_min < needed)
        plan->window_min = needed;
    if (plan->window_max < plan->window_min)
        plan->window_max = plan->window_min;
    uint64_t carried = plan->window_min * heartbeat_ns / round_trip_ns;
    if (limits->peer_window_bytes > carried)
        limits->peer_window_bytes = (uint32_t)carried;
}

/* -- What clients do ----------------------------------------------------------------------------- */

static void draw_workload(struct plan *plan, struct random *random)
{
    struct workload *workload = &plan->workload;
    uint32_t largest = plan->config.limits.value_bytes;

    /* A statement for each: the parts of an initialiser have no order. */
    *workload = (struct workload){ .ttl_s_max = 5 };
    workload->clients = (int)random_between(random, 1, 6);
    workload->keys = (int)random_between(random, 1, 12);
    workload->get = (uint32_t)random_between(random, 0, 10);
    workload->getm = (uint32_t)random_between(random, 1, 10);
    workload->set = (uint32_t)random_between(random, 1, 10);
    workload->cas = (uint32_t)random_between(random, 0, 10);
    workload->del = (uint32_t)random_between(random, 0, 4);
    workload->expire = one_in(random, 3) ? 200 : 0;
    workload->value_bytes_max = one_in(random, 8) ? largest : 200;
    workload->pipeline_max = (int)random_between(random, 1, 8);
    workload->think_ns_max = random_between(random, 20, 200) * MS_NS;
    workload->timeout_ns = random_between(random, 1000, 5000) * MS_NS;
    workload->any_node = one_in(random, 2);
    workload->same_slot = one_in(random, 4);
    if (workload->same_slot && one_in(random, 2)) /* so that buckets of the store split and merge */
        workload->keys = (int)random_between(random, 50, 400);
    if (plan->level < 3)
        return;
    workload->noreply = one_in(random, 3) ? 100 : 0;
    workload->slow_reader = one_in(random, 4) ? 200 : 0;
    workload->half_close = one_in(random, 4) ? 200 : 0;
    workload->hang_up = one_in(random, 4) ? 200 : 0;
    workload->garbage = one_in(random, 4) ? 100 : 0;
}

/* -- Faults -------------------------------------------------------------------------------------- */

static bool applies(enum fault fault, int level, int node_count)
{
    bool needs_two = (fault >= FAULT_LOSS && fault <= FAULT_FLAP) || fault == FAULT_LINK_NEWS ||
                     fault == FAULT_TRANSFER;

    if (needs_two && node_count < 2)
        return false;
    return level >= fault_kinds[fault].level_min && level <= fault_kinds[fault].level_max;
}

static uint32_t only_applying(uint32_t faults, const struct plan *plan)
{
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        if (!applies((enum fault)fault, plan->level, plan->node_count))
            faults &= ~(UINT32_C(1) << fault);
    return faults;
}

/* Elections all the time, by orders to campaign that come late, alone or among late messages: what meets
 * in the rarest cells of the state table is looked for on purpose. */
static void make_restless(struct plan *plan, struct random *random)
{
    static const enum fault often[] = { FAULT_TRANSFER, FAULT_LINK_NEWS, FAULT_DELAY,
                                        FAULT_REPLAY };
    bool is_late = one_in(random, 3);

    if (!is_late)
        plan->faults = 0;
    for (size_t i = 0; i < (is_late ? 4 : 2); i++) {
        plan->faults |= UINT32_C(1) << often[i];
        plan->gap_ns[often[i]] = random_between(random, 50, 500) * MS_NS;
    }
    plan->faults = only_applying(plan->faults, plan);
    plan->delay_min_ns = plan->delay_max_ns = plan->config.heartbeat_ms * MS_NS / 4;
    plan->costs.flush_max_ns =
        random_between(random, 1, 16) * plan->config.election_ms_min * MS_NS / 16;
    plan->workload.think_ns_max = S_NS;
}

static void draw_faults(struct plan *plan, struct random *random)
{
    int wanted = (int)random_between(random, 1, 6);

    if (one_in(random, 20)) /* nothing goes wrong: then nothing may happen */
        wanted = 0;
    for (int i = 0; i < wanted; i++)
        plan->faults |= UINT32_C(1) << random_below(random, FAULT_COUNT);
    plan->faults = only_applying(plan->faults, plan);
    for (int fault = 0; fault < FAULT_COUNT; fault++)
        plan->gap_ns[fault] = random_between(random, 300, 10000) * MS_NS;
    if (wanted != 0 && plan->level < 3 && one_in(random, 5))
        make_restless(plan, random);
}

void plan_draw(struct plan *plan, uint64_t seed, int level, const struct plan_limits *limits)
{
    struct random cluster = random_stream(seed, PURPOSE_CLUSTER);
    struct random sizes = random_stream(seed, PURPOSE_LIMITS);
    struct random workload = random_stream(seed, PURPOSE_WORKLOAD);
    struct random faults = random_stream(seed, PURPOSE_FAULTS);
    struct random machines = random_stream(seed, PURPOSE_MACHINES);
    struct random time = random_stream(seed, PURPOSE_TIME);

    *plan = (struct plan){ .seed = seed, .level = level };
    struct config *config = &plan->config;
    snprintf(config->file, sizeof config->file, "server.json");
    snprintf(config->path, sizeof config->path, "data");
    snprintf(config->cluster, sizeof config->cluster, "simulated");
    config->log_level = LOGGER_INFO;
    config->flush = one_in(&cluster, 5) ? CONFIG_FLUSH_SYNC : CONFIG_FLUSH_AIO;

    draw_servers(plan, &cluster, limits->node_count_max);
    draw_times(plan, &cluster);
    draw_limits(plan, &sizes);
    draw_workload(plan, &workload);
    draw_machines(plan, &machines);
    fit_windows(plan);
    draw_faults(plan, &faults);
    plan->duration_ns = random_between(&time, 5, 60) * S_NS;
    if (limits->duration_ms != 0 && limits->duration_ms * MS_NS < plan->duration_ns)
        plan->duration_ns = limits->duration_ms * MS_NS;
    if (limits->has_faults)
        plan->faults = only_applying(limits->faults, plan);
    plan->is_calm = plan->faults == 0;
}

/* -- Names --------------------------------------------------------------------------------------- */

static bool find_fault(const char *name, size_t size, uint32_t *bit)
{
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        const char *candidate = fault_kinds[fault].name;
        if (strlen(candidate) == size && memcmp(candidate, name, size) == 0) {
            *bit = UINT32_C(1) << fault;
            return true;
        }
    }
    return false;
}

bool plan_parse_faults(const char *text, uint32_t *faults)
{
    uint32_t found = 0, bit;

    if (strcmp(text, "none") == 0) {
        *faults = 0;
        return true;
    }
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        if (!find_fault(text, size, &bit))
            return false;
        found |= bit;
        text += size;
        text += *text == ',';
    }
    *faults = found;
    return true;
}

void plan_print_faults(uint32_t faults, char *text, size_t size)
{
    size_t used = 0;

    snprintf(text, size, "none");
    for (int fault = 0; fault < FAULT_COUNT && used < size; fault++)
        if (faults >> fault & 1)
            used += (size_t)snprintf(text + used, size - used, "%s%s", used == 0 ? "" : ",",
                                     fault_kinds[fault].name);
}
