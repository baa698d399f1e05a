/* Groups of replicas at levels 1 and 2, over the post: they elect, write, read, lose their leader,
 * have bad links, crash in the middle of turns, and end with equal states; and a seed repeats. */
#include "tests/sim/replica.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/replica_state.h"
#include "tests/sim/stable_log.h"

#define NODES_MAX 5
#define CLIENTS 8
#define MS UINT64_C(1000000)
#define S (1000 * MS)

/* A client asks one thing after the other. */
struct client {
    uint64_t op; /* under way; 0: none */
    int node;
    struct op asked;
};

struct cluster {
    struct timeline *timeline;
    struct trace *trace;
    struct links links;
    struct post *post;
    struct oracle *oracle;
    struct replicas replicas;
    struct config config;
    struct machine machines[NODES_MAX];
    struct stable_log *stable_logs[NODES_MAX];
    int count, level;
    struct random random;
    struct client clients[CLIENTS];
    bool is_stopping;
    uint64_t next_op, asked, stored, values, none, differs, deleted, refused, unknown;
    int crashes, exits, exit_code;
};

static struct cluster cluster;

static void ask(void *owner, uint64_t argument);

/* -- Clients ------------------------------------------------------------------------------------- */

static void returned(struct client *client, const struct outcome *outcome)
{
    uint64_t *counts[] = {
        [OUTCOME_VALUE] = &cluster.values,    [OUTCOME_NONE] = &cluster.none,
        [OUTCOME_STORED] = &cluster.stored,   [OUTCOME_DELETED] = &cluster.deleted,
        [OUTCOME_DIFFERS] = &cluster.differs, [OUTCOME_REFUSED] = &cluster.refused,
        [OUTCOME_UNKNOWN] = &cluster.unknown,
    };
    bool is_refused = outcome->type == OUTCOME_REFUSED;
    uint64_t number = client->op;

    ++*counts[outcome->type];
    client->op = 0;
    if (is_refused)
        client->node = cluster.replicas.redirect >= 0
                           ? cluster.replicas.redirect
                           : (int)random_below(&cluster.random, (uint64_t)cluster.count);
    oracle_returned(cluster.oracle, number, outcome);
    timeline_at(cluster.timeline, timeline_now_ns(cluster.timeline) + (is_refused ? 20 * MS : MS),
                ask, client, 0);
}

static void on_outcome(void *context, uint64_t op_number, const struct outcome *outcome)
{
    (void)context;
    for (int i = 0; i < CLIENTS; i++)
        if (cluster.clients[i].op == op_number)
            returned(&cluster.clients[i], outcome);
}

static void give_up(void *owner, uint64_t argument)
{
    struct client *client = owner;
    struct outcome unknown = { .type = OUTCOME_UNKNOWN };

    if (client->op != argument)
        return;
    client->node = (int)random_below(&cluster.random, (uint64_t)cluster.count);
    cluster.replicas.redirect = -1;
    returned(client, &unknown);
}

static struct op draw_op(int client)
{
    static const enum op_type types[] = { OP_SET,  OP_SET,  OP_SET, OP_SET, OP_SET,
                                          OP_GETM, OP_GETM, OP_GET, OP_CAS, OP_DELETE };
    struct op op = {
        .number = ++cluster.next_op,
        .type = types[random_below(&cluster.random, 10)],
        .client = client,
    };
    snprintf(op.key, sizeof op.key, "k%d", (int)random_below(&cluster.random, 6));
    if (op.type == OP_SET || op.type == OP_CAS) {
        op.value_size = OP_VALUE_MIN + (uint32_t)random_below(&cluster.random, 300);
        op.ttl_s = random_chance(&cluster.random, 100) ? 1 : 0;
    }
    return op;
}

static void ask(void *owner, uint64_t argument)
{
    struct client *client = owner;
    struct outcome refused = { .type = OUTCOME_REFUSED };

    (void)argument;
    if (cluster.is_stopping || client->op != 0)
        return;
    client->asked = draw_op((int)(client - cluster.clients));
    client->op = client->asked.number;
    cluster.asked++;
    oracle_invoked(cluster.oracle, &client->asked);
    timeline_at(cluster.timeline, timeline_now_ns(cluster.timeline) + 2 * S, give_up, client,
                client->op);
    if (replica_submit(&cluster.machines[client->node], &client->asked))
        return;
    cluster.replicas.redirect = -1;
    returned(client, &refused);
}

/* -- The cluster --------------------------------------------------------------------------------- */

static void on_crashed(void *context, struct machine *machine)
{
    (void)context;
    cluster.crashes++;
    machine_crash(machine, machine->crash_cuts_power, DISK_TEAR_BYTES);
    oracle_crashed(cluster.oracle, machine->slot);
}

static void on_exited(void *context, struct machine *machine, int exit_code)
{
    (void)context;
    cluster.exits++;
    cluster.exit_code = exit_code;
    oracle_crashed(cluster.oracle, machine->slot);
}

static void deliver(void *context, int to, struct parcel *parcel)
{
    (void)context;
    replica_deliver(&cluster.machines[to], parcel);
}

static void on_break(void *context, int a, int b)
{
    (void)context;
    replica_peer_lost(&cluster.machines[a], cluster.machines[b].id);
    replica_peer_lost(&cluster.machines[b], cluster.machines[a].id);
}

static void on_stable(void *context, const char *path)
{
    stable_log_on_stable(context, path);
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
        .limits = { .value_bytes = 4096,
                    .uncommitted_bytes = 1 << 20,
                    .batch_bytes = 4096,
                    .store_bytes = 16 << 20,
                    .log_cache_bytes = 16 << 10,
                    .peer_window_bytes = 16 << 10,
                    .segment_bytes = 64 << 10 },
    };
    for (int i = 0; i < count; i++)
        config->servers[i].id = (uint32_t)(10 * i + 1);
}

static void make_machine(int slot, uint64_t seed)
{
    struct machine *machine = &cluster.machines[slot];

    *machine = (struct machine){
        .slot = slot,
        .id = cluster.config.servers[slot].id,
        .config = &cluster.config,
        .type = cluster.level == 1 ? &replica_in_memory : &replica_on_storage,
        .timeline = cluster.timeline,
        .trace = cluster.trace,
        .links = &cluster.links,
        .disk = cluster.level == 2 ? disk_new(cluster.trace, slot) : NULL,
        .random = random_stream(seed, 1000 + (uint64_t)slot),
        .clock = { .rate_per_mille = 1000, .offset_ns = (uint64_t)slot * S },
        .costs = { .call_ns = 1000,
                   .flush_min_ns = 100000,
                   .flush_max_ns = 2 * MS,
                   .turn_ns = 2000 },
        .events = { .crashed = on_crashed, .exited = on_exited },
        .user = &cluster.replicas,
        .flush_slowness = 1,
        .descriptor_limit = 1024,
    };
    if (machine->disk == NULL)
        return;
    cluster.stable_logs[slot] =
        stable_log_new(cluster.oracle, machine->disk, slot, cluster.config.path, machine->id);
    disk_on_stable(machine->disk, on_stable, cluster.stable_logs[slot]);
}

static void begin_with_segments(int level, int count, uint64_t seed, uint32_t segment_bytes)
{
    struct oracle_options options = { .node_count = count, .values_by_op = true };

    memset(&cluster, 0, sizeof cluster);
    cluster.level = level;
    cluster.count = count;
    cluster.random = random_stream(seed, 1);
    cluster.timeline = timeline_new(seed);
    cluster.trace = trace_new(cluster.timeline, false);
    links_init(&cluster.links);
    fill_config(&cluster.config, count);
    cluster.config.limits.segment_bytes = segment_bytes;
    options.trace = cluster.trace;
    for (int i = 0; i < count; i++)
        cluster.replicas.ids[i] = options.ids[i] = cluster.config.servers[i].id;
    cluster.oracle = oracle_new(&options);
    cluster.post = post_new(cluster.timeline, &cluster.links, cluster.trace, seed, deliver,
                            on_break, &cluster);
    cluster.replicas.post = cluster.post;
    cluster.replicas.oracle = cluster.oracle;
    cluster.replicas.node_count = count;
    cluster.replicas.on_outcome = on_outcome;
    for (int i = 0; i < count; i++) {
        make_machine(i, seed);
        ck_assert(machine_start(&cluster.machines[i]));
    }
}

static void begin(int level, int count, uint64_t seed)
{
    begin_with_segments(level, count, seed, STORAGE_SEGMENT_BYTES_MIN);
}

static void crash(int slot, bool power)
{
    if (cluster.machines[slot].process == NULL)
        return;
    machine_crash(&cluster.machines[slot], power, DISK_TEAR_SECTORS);
    oracle_crashed(cluster.oracle, slot);
}

/* Returns the run's hash. */
static uint64_t end(void)
{
    uint64_t hash = trace_hash(cluster.trace);
    for (int i = 0; i < cluster.count; i++) {
        crash(i, false);
        disk_free(cluster.machines[i].disk);
        stable_log_free(cluster.stable_logs[i]);
    }
    replicas_release(&cluster.replicas);
    post_free(cluster.post);
    oracle_free(cluster.oracle);
    trace_free(cluster.trace);
    timeline_free(cluster.timeline);
    return hash;
}

static void pass_ns(uint64_t ns)
{
    uint64_t until = timeline_now_ns(cluster.timeline) + ns;
    while (timeline_step(cluster.timeline, until)) {
    }
}

static const struct raft *raft_of(int slot)
{
    const struct machine *machine = &cluster.machines[slot];
    return machine->process == NULL ? NULL : machine->type->raft(machine->process);
}

static int find_leader(void)
{
    int leader = -1;

    for (int i = 0; i < cluster.count; i++)
        if (raft_of(i) != NULL && raft_of(i)->role == RAFT_LEADER &&
            (leader < 0 || raft_of(i)->term > raft_of(leader)->term))
            leader = i;
    return leader;
}

static void start_clients(void)
{
    for (int i = 0; i < CLIENTS; i++)
        timeline_at(cluster.timeline, timeline_now_ns(cluster.timeline), ask, &cluster.clients[i],
                    0);
}

static void wait_for_writes(uint64_t stored)
{
    for (int i = 0; i < 6000 && cluster.stored < stored; i++)
        pass_ns(10 * MS);
    ck_assert_uint_ge(cluster.stored, stored);
}

static void start_all(void)
{
    for (int i = 0; i < cluster.count; i++)
        if (cluster.machines[i].process == NULL)
            ck_assert(machine_start(&cluster.machines[i]));
}

/* Everything is up and connected: in a while, all hold the same. */
static void check_converged(void)
{
    char why[200] = "";

    cluster.is_stopping = true;
    links_init(&cluster.links);
    start_all();
    pass_ns(S); /* whoever stood in a blocking flush that hung is killed when it is over */
    start_all();
    pass_ns(5 * S);
    int leader = find_leader();
    ck_assert_int_ge(leader, 0);
    const struct machine *first = &cluster.machines[leader];
    for (int i = 0; i < cluster.count; i++) {
        const struct machine *machine = &cluster.machines[i];
        ck_assert_ptr_nonnull(machine->process);
        ck_assert_uint_eq(machine->type->applied(machine->process),
                          first->type->applied(first->process));
        ck_assert_uint_eq(kv_digest(machine->type->kv(machine->process)),
                          kv_digest(first->type->kv(first->process)));
        ck_assert_uint_eq(raft_of(i)->commit_index, raft_of(leader)->last_index);
    }
    ck_assert_msg(oracle_converged(cluster.oracle, (1u << cluster.count) - 1, why, sizeof why),
                  "%s", why);
    oracle_check_end(cluster.oracle);
}

/* -- Tests --------------------------------------------------------------------------------------- */

static uint64_t lose_the_leader(int level, uint64_t seed)
{
    begin(level, 3, seed);
    pass_ns(S);
    int leader = find_leader();
    ck_assert_int_ge(leader, 0);
    start_clients();
    wait_for_writes(300);
    leader = find_leader();
    crash(leader, true);
    wait_for_writes(600);
    ck_assert_int_ne(find_leader(), leader);
    ck_assert(machine_start(&cluster.machines[leader]));
    wait_for_writes(800);
    crash((find_leader() + 1) % 3, false);
    wait_for_writes(1000);
    check_converged();
    ck_assert_uint_gt(cluster.values, 100);
    ck_assert_uint_gt(cluster.none, 0);
    ck_assert_uint_gt(cluster.deleted, 0);
    return end();
}

START_TEST(a_group_outlives_its_leader)
{
    uint64_t hash = lose_the_leader(_i, 1);

    ck_assert_uint_eq(hash, lose_the_leader(_i, 1));
    ck_assert_uint_ne(hash, lose_the_leader(_i, 2));
}
END_TEST

static void spoil_links(struct random *random)
{
    for (int from = 0; from < cluster.count; from++)
        for (int to = 0; to < cluster.count; to++) {
            struct link *link = &cluster.links.of[from][to];
            link->lose = (uint32_t)random_below(random, 100);
            link->duplicate = (uint32_t)random_below(random, 200);
            link->reorder = (uint32_t)random_below(random, 100);
            link->replay = (uint32_t)random_below(random, 100);
            link->reset = (uint32_t)random_below(random, 2000);
            link->cut = random_chance(random, 20);
            link->delay_max_ns = random_between(random, 200000, 20 * MS);
        }
}

static void strike(struct random *random)
{
    int slot = (int)random_below(random, (uint64_t)cluster.count);
    struct machine *machine = &cluster.machines[slot];
    /* Each draw in a statement of its own: arguments are evaluated in any order. */
    uint32_t peer = cluster.machines[random_below(random, (uint64_t)cluster.count)].id;
    uint64_t nth_call = random_between(random, 1, 200);
    bool coin = random_chance(random, 500);

    if (machine->process == NULL) {
        (void)machine_start(machine);
        return;
    }
    switch (random_below(random, 8)) {
    case 0:
        crash(slot, false);
        break;
    case 1:
        crash(slot, true);
        break;
    case 2:
        machine_arm_crash(machine, nth_call, coin);
        break;
    case 3:
        machine->flush_slowness = random_between(random, 1, 50);
        break;
    case 4:
        if (peer != machine->id)
            replica_peer_lost(machine, peer);
        break;
    case 5:
        replica_transfer(machine, coin ? peer : RAFT_NODE_NONE);
        break;
    case 6:
        machine->flush_hangs = !machine->flush_hangs;
        break;
    default:
        spoil_links(random);
    }
}

static uint64_t have_a_bad_time(int level, int count, uint64_t seed, uint64_t seconds)
{
    struct random random = random_stream(seed, 2);

    begin(level, count, seed);
    start_clients();
    for (uint64_t passed = 0; passed < 5 * seconds; passed++) {
        pass_ns(200 * MS);
        if (random_chance(&random, 300))
            strike(&random);
    }
    for (int i = 0; i < count; i++) {
        cluster.machines[i].flush_hangs = false;
        cluster.machines[i].flush_slowness = 1;
        cluster.machines[i].crash_after_calls = 0;
    }
    check_converged();
    if (getenv("REPLICA_TEST_PRINT") != NULL) {
        struct post_stats stats;
        post_stats(cluster.post, &stats);
        printf("level %d seed %" PRIu64 ": hash %016" PRIx64 ", term %" PRIu64 ", asked %" PRIu64
               ", stored %" PRIu64 ", values %" PRIu64 ", refused %" PRIu64 ", unknown %" PRIu64
               ", crashes %d, "
               "sent %" PRIu64 ", lost %" PRIu64 ", replayed %" PRIu64 ", parcels %" PRIu64
               ", events %" PRIu64 "\n",
               level, seed, trace_hash(cluster.trace), raft_of(0)->term, cluster.asked,
               cluster.stored, cluster.values, cluster.refused, cluster.unknown, cluster.crashes,
               stats.sent, stats.lost, stats.replayed, stats.parcels,
               timeline_events(cluster.timeline));
    }
    return end();
}

START_TEST(a_group_outlives_a_bad_time)
{
    int level = _i % 2 + 1;
    uint64_t seed = (uint64_t)_i + 1;

    uint64_t hash = have_a_bad_time(level, 3 + 2 * (_i / 2 % 2), seed, 60);
    if (_i < 2)
        ck_assert_uint_eq(hash, have_a_bad_time(level, 3, seed, 60));
}
END_TEST

START_TEST(one_alone_serves)
{
    begin(_i, 1, 3);
    pass_ns(S);
    start_clients();
    wait_for_writes(100);
    crash(0, true);
    ck_assert(machine_start(&cluster.machines[0]));
    wait_for_writes(200);
    check_converged();
    (void)end();
}
END_TEST

START_TEST(a_failed_flush_ends_the_process)
{
    begin(_i, 3, 4);
    start_clients();
    wait_for_writes(50);
    int leader = find_leader();
    cluster.machines[leader].flush_fails = 1;
    for (int i = 0; i < 500 && cluster.exits == 0; i++)
        pass_ns(10 * MS);
    ck_assert_int_eq(cluster.exits, 1);
    ck_assert_int_eq(cluster.exit_code, 1);
    ck_assert_ptr_null(cluster.machines[leader].process);
    wait_for_writes(100);
    check_converged();
    (void)end();
}
END_TEST

START_TEST(a_follower_refuses_at_once)
{
    begin(1, 3, 5);
    pass_ns(S);
    struct client *client = &cluster.clients[0];
    client->node = (find_leader() + 1) % 3;
    cluster.is_stopping = false;
    ask(client, 0);
    uint64_t refused = cluster.refused;
    pass_ns(MS);
    ck_assert_uint_eq(cluster.refused, refused + 1);
    ck_assert_int_eq(client->node, find_leader());
    (void)end();
}
END_TEST

START_TEST(a_leader_without_majority_says_unknown)
{
    begin(1, 3, 6);
    pass_ns(S);
    start_clients();
    wait_for_writes(50);
    int leader = find_leader();
    for (int i = 0; i < 3; i++)
        cluster.links.of[leader][i].cut = cluster.links.of[i][leader].cut = true;
    pass_ns(S);
    ck_assert_int_ne(find_leader(), leader);
    ck_assert_uint_gt(cluster.unknown, 0);
    check_converged();
    (void)end();
}
END_TEST

/* Level 2: the space of one disk ends; the group goes on, and that node catches up with space. */
START_TEST(a_full_disk_follows_and_catches_up)
{
    begin_with_segments(2, 3, 7, 4 * STORAGE_SEGMENT_BYTES_MIN);
    start_clients();
    wait_for_writes(100);
    int full = (find_leader() + 1) % 3;
    disk_set_space(cluster.machines[full].disk, disk_used(cluster.machines[full].disk));
    wait_for_writes(1500);
    ck_assert_ptr_nonnull(cluster.machines[full].process);
    ck_assert(raft_of(full)->is_full);
    ck_assert_uint_lt(raft_of(full)->last_index, raft_of(find_leader())->commit_index);
    disk_set_space(cluster.machines[full].disk, UINT64_MAX);
    check_converged();
    (void)end();
}
END_TEST

/* Level 2: a majority without space refuses writes, and accepts them again. */
START_TEST(full_disks_refuse_writes)
{
    uint64_t no_space = 0;

    begin_with_segments(2, 3, 8, 4 * STORAGE_SEGMENT_BYTES_MIN);
    start_clients();
    wait_for_writes(100);
    for (int i = 0; i < 3; i++)
        disk_set_space(cluster.machines[i].disk, disk_used(cluster.machines[i].disk));
    pass_ns(20 * S);
    for (int i = 0; i < 3; i++) {
        ck_assert_ptr_nonnull(cluster.machines[i].process);
        no_space += replica_counters(cluster.machines[i].process)->no_space;
    }
    ck_assert_uint_gt(no_space, 0);
    for (int i = 0; i < 3; i++)
        disk_set_space(cluster.machines[i].disk, UINT64_MAX);
    wait_for_writes(cluster.stored + 100);
    check_converged();
    (void)end();
}
END_TEST

/* Level 2: what is durable has rotted in the middle: the process says so, and does not start. */
START_TEST(a_damaged_log_is_refused)
{
    begin(2, 3, 9);
    start_clients();
    wait_for_writes(300);
    crash(1, false);
    ck_assert(disk_flip(cluster.machines[1].disk, "data/11/log/0000000000000001.segment", 8192, 3));
    ck_assert(!machine_start(&cluster.machines[1]));
    ck_assert_int_eq(cluster.exit_code, 2);
    wait_for_writes(400);
    cluster.count = 3;
    (void)end();
}
END_TEST

/* A chain that does not continue ours is not stepped. */
START_TEST(a_broken_chain_is_counted_and_dropped)
{
    struct raft_message message = { .type = RAFT_APPEND };
    uint8_t bytes[ENTRY_HEADER_SIZE] = { 0 };

    begin(1, 3, 10);
    pass_ns(S);
    int leader = find_leader(), other = (leader + 1) % 3;
    const struct raft *raft = raft_of(other);
    uint64_t last = raft->last_index, term = raft->term;
    struct entry entry = {
        .size = sizeof bytes, .kind = ENTRY_NOOP, .term = term, .index = last + 1, .clock_ms = 1
    };
    entry_seal(bytes, UINT64_C(0x1234), &entry);
    message.from = cluster.machines[leader].id;
    message.to = cluster.machines[other].id;
    message.term = term;
    message.append.prev = (struct raft_pos){ raft_term_at(raft, last), last };
    message.append.entry_count = 1;
    message.append.entry_terms[0] = term;
    post_send(cluster.post, leader, other, &message, &entry);
    pass_ns(10 * MS);
    ck_assert_uint_eq(replica_counters(cluster.machines[other].process)->broken_chains, 1);
    ck_assert_uint_eq(raft_of(other)->last_index, last);
    (void)end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replica");
    TCase *tcase = tcase_create("replica");

    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_group_outlives_its_leader, 1, 3);
    tcase_add_loop_test(tcase, one_alone_serves, 1, 3);
    tcase_add_loop_test(tcase, a_failed_flush_ends_the_process, 1, 3);
    tcase_add_test(tcase, a_follower_refuses_at_once);
    tcase_add_test(tcase, a_leader_without_majority_says_unknown);
    tcase_add_test(tcase, a_full_disk_follows_and_catches_up);
    tcase_add_test(tcase, full_disks_refuse_writes);
    tcase_add_test(tcase, a_damaged_log_is_refused);
    tcase_add_test(tcase, a_broken_chain_is_counted_and_dropped);
    tcase_add_loop_test(tcase, a_group_outlives_a_bad_time, 0,
                        getenv("REPLICA_TEST_SEEDS") != NULL ? atoi(getenv("REPLICA_TEST_SEEDS"))
                                                             : 8);
    suite_add_tcase(suite, tcase);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
