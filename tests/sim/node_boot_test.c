/* Real nodes on simulated machines: groups of one and of three boot, elect, serve, lose a leader,
 * and end in good order; and the same seed gives the same run. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/node_process.h"
#include "tests/sim/os_sim.h"

#define NODES_MAX 5
#define MS UINT64_C(1000000)
#define S (1000 * MS)
#define CLIENT_PORT 9000
#define LOG_PORT 8000

struct world {
    struct timeline *timeline;
    struct trace *trace;
    struct links links;
    struct net *net;
    struct config config;
    struct machine machines[NODES_MAX];
    int count;
    int exits, crashes;
    int exit_code;
    char last_line[512];
};

static void on_exited(void *context, struct machine *machine, int exit_code)
{
    struct world *world = context;
    (void)machine;
    world->exits++;
    world->exit_code = exit_code;
}

static void on_crashed(void *context, struct machine *machine)
{
    struct world *world = context;
    world->crashes++;
    machine_crash(machine, machine->crash_cuts_power, DISK_TEAR_BYTES);
}

static void on_said(void *context, struct machine *machine, const char *line, size_t size)
{
    struct world *world = context;
    (void)machine;
    (void)snprintf(world->last_line, sizeof world->last_line, "%.*s", (int)size, line);
}

static void fill_config(struct config *config, int count)
{
    *config = (struct config){
        .path = "data",
        .cluster = "sim",
        .server_count = count,
        .heartbeat_ms = 50,
        .election_ms_min = 150,
        .election_ms_max = 300,
        .flush = CONFIG_FLUSH_AIO,
        .log_level = LOGGER_INFO,
        .limits = { .value_bytes = 4096,
                    .clients = 50,
                    .pipeline = 100,
                    .output_bytes = 1 << 20,
                    .client_memory_bytes = 16 << 20,
                    .request_timeout_ms = 10000,
                    .uncommitted_bytes = 1 << 20,
                    .batch_bytes = 64 << 10,
                    .store_bytes = 16 << 20,
                    .log_cache_bytes = 1 << 20,
                    .peer_window_bytes = 1 << 20,
                    .segment_bytes = 256 << 10 },
    };
    for (int i = 0; i < count; i++) {
        struct config_server *server = &config->servers[i];
        server->id = (uint32_t)i + 1;
        (void)snprintf(server->host, sizeof server->host, OS_SIM_HOST_FORMAT, i);
        server->client_port = CLIENT_PORT;
        server->log_port = LOG_PORT;
    }
}

static void init_machine(struct world *world, int slot, uint64_t seed)
{
    struct machine *machine = &world->machines[slot];
    *machine = (struct machine){
        .slot = slot,
        .id = (uint32_t)slot + 1,
        .config = &world->config,
        .type = &node_process,
        .timeline = world->timeline,
        .trace = world->trace,
        .links = &world->links,
        .net = world->net,
        .disk = disk_new(world->trace, slot),
        .random = random_stream(seed, 100 + (uint64_t)slot),
        .clock = { .rate_per_mille = 1000,
                   .offset_ns = (UINT64_C(1) << 31) * MS - 700 * MS * (uint64_t)slot },
        .costs = { .call_ns = 500,
                   .flush_min_ns = 200000,
                   .flush_max_ns = 2000000,
                   .turn_ns = 2000 },
        .events = { .context = world, .exited = on_exited, .crashed = on_crashed, .said = on_said },
    };
    ck_assert_int_eq(disk_mkdir(machine->disk, "data"), 0);
    ck_assert_int_eq(disk_sync_dir(machine->disk, "."), 0);
}

static struct world *world_new(int count, uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    ck_assert_ptr_nonnull(world);
    world->timeline = timeline_new(seed);
    world->trace = trace_new(world->timeline, getenv("SIM_PRINT") != NULL);
    links_init(&world->links);
    world->net = net_new(world->timeline, &world->links, world->trace, seed);
    net_set_window(world->net, 4096, 65536);
    net_set_pieces(world->net, 2000);
    world->count = count;
    fill_config(&world->config, count);
    for (int slot = 0; slot < count; slot++)
        init_machine(world, slot, seed);
    return world;
}

static void world_free(struct world *world)
{
    for (int slot = 0; slot < world->count; slot++) {
        machine_crash(&world->machines[slot], false, DISK_TEAR_NOTHING);
        disk_free(world->machines[slot].disk);
    }
    net_free(world->net);
    trace_free(world->trace);
    timeline_free(world->timeline);
    free(world);
}

static void run_for(struct world *world, uint64_t ns)
{
    uint64_t until = timeline_now_ns(world->timeline) + ns;
    while (timeline_step(world->timeline, until))
        ;
}

static const struct raft *raft_of(const struct world *world, int slot)
{
    const struct machine *machine = &world->machines[slot];
    return machine->process == NULL ? NULL : machine->type->raft(machine->process);
}

/* The slot of the one leader of the newest term, or -1. */
static int leader_of(const struct world *world)
{
    int leader = -1;
    uint64_t term = 0;
    for (int slot = 0; slot < world->count; slot++) {
        const struct raft *raft = raft_of(world, slot);
        if (raft != NULL && raft->role == RAFT_LEADER && raft->term > term) {
            term = raft->term;
            leader = slot;
        }
    }
    return leader;
}

static int wait_for_leader(struct world *world)
{
    for (int i = 0; i < 100 && leader_of(world) < 0; i++)
        run_for(world, 100 * MS);
    run_for(world, 500 * MS); /* everybody has heard of it */
    return leader_of(world);
}

static void start_all(struct world *world)
{
    for (int slot = 0; slot < world->count; slot++)
        ck_assert_msg(machine_start(&world->machines[slot]), "slot %d: %s", slot, world->last_line);
}

/* -- A client ------------------------------------------------------------------------------------ */

static void look_later(void *owner, struct net_end *end)
{
    (void)owner, (void)end;
}

static struct net_end *client_connect(struct world *world, int slot)
{
    struct net_end *end =
        net_connect(world->net, LINKS_CLIENTS, slot, CLIENT_PORT, look_later, NULL);
    for (int i = 0; i < 100 && net_state(end) == NET_CONNECTING; i++)
        run_for(world, MS);
    ck_assert_int_eq(net_state(end), NET_OPEN);
    return end;
}

static void client_send(struct net_end *end, const char *text)
{
    struct iovec part = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
    ck_assert_int_eq(net_sendv(end, &part, 1), (ptrdiff_t)part.iov_len);
}

/* What comes in up to the end of `line_count` lines. */
static void client_read(struct world *world, struct net_end *end, char *text, size_t size,
                        int line_count)
{
    size_t have = 0;
    for (int i = 0; i < 5000; i++) {
        ptrdiff_t count = net_recv(end, text + have, size - 1 - have);
        if (count > 0)
            have += (size_t)count;
        text[have] = '\0';
        int lines = 0;
        for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
            lines++;
        if (lines >= line_count)
            return;
        run_for(world, MS);
    }
    ck_abort_msg("after 5 s: \"%s\"", text);
}

static void ask(struct world *world, struct net_end *end, const char *request, const char *expected)
{
    char text[512];
    client_send(end, request);
    int lines = 0;
    for (const char *at = expected; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    client_read(world, end, text, sizeof text, lines);
    ck_assert_str_eq(text, expected);
}

/* -- Tests --------------------------------------------------------------------------------------- */

static const int counts[] = { 1, 3, 5 };

START_TEST(a_group_elects_and_serves)
{
    struct world *world = world_new(counts[_i], 7);
    start_all(world);
    int leader = wait_for_leader(world);
    ck_assert_int_ge(leader, 0);
    struct net_end *end = client_connect(world, leader);
    ask(world, end, "set a 0 1\r\nx\r\n", "OK 1\r\n");
    ask(world, end, "get a\r\n", "VALUE 1\r\nx\r\n");
    net_close(end);
    run_for(world, S);
    for (int slot = 0; slot < world->count; slot++) {
        const struct machine *machine = &world->machines[slot];
        ck_assert_uint_eq(machine->type->applied(machine->process),
                          machine->type->raft(machine->process)->last_index);
    }
    ck_assert_int_eq(world->exits, 0);
    world_free(world);
}
END_TEST

START_TEST(a_node_that_is_asked_to_stop_gives_everything_back)
{
    struct world *world = world_new(counts[_i], 8);
    start_all(world);
    int leader = wait_for_leader(world);
    struct net_end *end = client_connect(world, leader);
    ask(world, end, "set a 0 1\r\nx\r\n", "OK 1\r\n");
    machine_signal(&world->machines[leader], SIGTERM);
    run_for(world, 5 * S);
    ck_assert_int_eq(world->exits, 1); /* and nothing leaked: machine.c checks it */
    ck_assert_int_eq(world->exit_code, 0);
    ck_assert(world->machines[leader].process == NULL);
    ck_assert(world->count == 1 || leader_of(world) >= 0);
    world_free(world);
}
END_TEST

START_TEST(what_was_acknowledged_outlives_a_power_cut_of_all)
{
    struct world *world = world_new(3, 9 + (uint64_t)_i);
    start_all(world);
    struct net_end *end = client_connect(world, wait_for_leader(world));
    for (int i = 0; i < 20; i++) {
        char request[64], expected[32], text[64];
        (void)snprintf(request, sizeof request, "set k%d 0 2\r\n%02d\r\n", i, i);
        client_send(end, request);
        client_read(world, end, text, sizeof text, 1);
        (void)snprintf(expected, sizeof expected, "OK ");
        ck_assert_msg(strncmp(text, expected, 3) == 0, "%s", text);
    }
    net_close(end);
    for (int slot = 0; slot < 3; slot++)
        machine_crash(&world->machines[slot], true, DISK_TEAR_BYTES);
    run_for(world, S);
    start_all(world);
    end = client_connect(world, wait_for_leader(world));
    for (int i = 0; i < 20; i++) {
        char request[64], expected[32];
        (void)snprintf(request, sizeof request, "get k%d\r\n", i);
        (void)snprintf(expected, sizeof expected, "VALUE 2\r\n%02d\r\n", i);
        ask(world, end, request, expected);
    }
    world_free(world);
}
END_TEST

/* Each start up to the nth call, then power off; then a start that goes through. */
START_TEST(a_start_may_be_cut_short_at_any_call)
{
    struct world *world = world_new(1, 11);
    struct machine *machine = &world->machines[0];
    bool is_up = false;
    int nth = 1;
    for (; nth < 1000 && !is_up; nth++) {
        machine_arm_crash(machine, (uint64_t)nth, true);
        is_up = machine_start(machine);
        run_for(world, 10 * MS);
        ck_assert_msg(world->exits == 0, "call %d: %s", nth, world->last_line);
    }
    ck_assert_int_gt(world->crashes, 50);
    machine_arm_crash(machine, 0, false);
    int leader = wait_for_leader(world);
    struct net_end *end = client_connect(world, leader);
    ask(world, end, "set a 0 1\r\nx\r\n", "OK 1\r\n");
    world_free(world);
}
END_TEST

START_TEST(a_new_leader_after_a_crash_a_pause_and_fast_clocks)
{
    struct world *world = world_new(3, 12);
    start_all(world);
    int first = wait_for_leader(world);
    machine_set_rate(&world->machines[(first + 1) % 3], 1900);
    machine_set_rate(&world->machines[(first + 2) % 3], 500);
    machine_pause(&world->machines[first]);
    run_for(world, 3 * S);
    int second = leader_of(world);
    ck_assert_int_ne(second, first);
    machine_resume(&world->machines[first]);
    run_for(world, S);
    ck_assert_int_ne(raft_of(world, first)->role, RAFT_LEADER);
    machine_crash(&world->machines[second], false, DISK_TEAR_NOTHING);
    run_for(world, 5 * S);
    ck_assert_int_ge(leader_of(world), 0);
    ck_assert(machine_start(&world->machines[second]));
    run_for(world, S);
    struct net_end *end = client_connect(world, leader_of(world));
    ask(world, end, "set a 0 1\r\nx\r\n", "OK 1\r\n");
    world_free(world);
}
END_TEST

/* A disk whose flushes hang: the leader goes on talking, and when the hang is over the write is there. */
START_TEST(a_hung_flush_ends_with_the_hang)
{
    struct world *world = world_new(1, 13);
    start_all(world);
    struct net_end *end = client_connect(world, wait_for_leader(world));
    world->machines[0].flush_hangs = true;
    client_send(end, "set a 0 1\r\nx\r\n");
    run_for(world, S);
    ck_assert_uint_eq(net_readable(end), 0);
    world->machines[0].flush_hangs = false;
    char text[64];
    client_read(world, end, text, sizeof text, 1);
    ck_assert_str_eq(text, "OK 1\r\n");
    world_free(world);
}
END_TEST

START_TEST(a_failed_flush_ends_the_node)
{
    struct world *world = world_new(1, 14);
    start_all(world);
    struct net_end *end = client_connect(world, wait_for_leader(world));
    world->machines[0].flush_fails = 1;
    client_send(end, "set a 0 1\r\nx\r\n");
    run_for(world, S);
    ck_assert_int_eq(world->exits, 1);
    ck_assert_int_eq(world->exit_code, 1);
    ck_assert_msg(net_readable(end) == 0 || net_hung_up(end), "an answer after a failed flush");
    world_free(world);
}
END_TEST

static uint64_t hash_of_a_run(uint64_t seed)
{
    struct world *world = world_new(3, seed);
    start_all(world);
    struct net_end *end = client_connect(world, wait_for_leader(world));
    ask(world, end, "set a 0 1\r\nx\r\n", "OK 1\r\n");
    machine_arm_crash(&world->machines[1], 400, true);
    run_for(world, 5 * S);
    uint64_t hash = trace_hash(world->trace);
    world_free(world);
    return hash;
}

START_TEST(a_seed_is_a_run)
{
    ck_assert_uint_eq(hash_of_a_run(21), hash_of_a_run(21));
    ck_assert_uint_ne(hash_of_a_run(21), hash_of_a_run(22));
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("node boot");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_group_elects_and_serves, 0, 3);
    tcase_add_loop_test(tests, a_node_that_is_asked_to_stop_gives_everything_back, 0, 3);
    tcase_add_loop_test(tests, what_was_acknowledged_outlives_a_power_cut_of_all, 0, 20);
    tcase_add_test(tests, a_start_may_be_cut_short_at_any_call);
    tcase_add_test(tests, a_new_leader_after_a_crash_a_pause_and_fast_clocks);
    tcase_add_test(tests, a_hung_flush_ends_with_the_hang);
    tcase_add_test(tests, a_failed_flush_ends_the_node);
    tcase_add_test(tests, a_seed_is_a_run);

    Suite *suite = suite_create("sim");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
