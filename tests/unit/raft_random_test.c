/* The core under random delivery, loss, duplication, reordering, cuts, crashes and slow disks, from
 * a seed. After every step the rules that span nodes are checked here, and those of one node by
 * raft_check(); in the end the faults stop and the cluster must work.
 *
 *     RAFT_SEED=4711 raft_random_test     runs that one seed, and tells what happens
 *
 * Rules (S1, S2, ... as in the list of invariants): one leader a term; one vote a term, counting
 * votes sent; nothing promised before the disk has it; equal index and term mean equal logs; a new
 * leader has all that has committed; what has committed stays the same; a commit needs a
 * majority of disks and an entry of the leader's term; a released read has seen all commits
 * before it began. */
#include <check.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/raft_cluster.h"
#include "tests/unit/slow.h"

#define SEEDS 3000
#define TERMS_MAX 4096
#define WIRE_MAX 512
#define ROUNDS_KEPT 1024

struct rates { /* of 1000 */
    uint32_t lose, duplicate, reorder, crash, restart, cut, heal, disconnect, propose, read,
        transfer;
    uint32_t flush;
    uint32_t time_ms_max;
};

struct read_begun {
    uint64_t term, round;
    uint64_t committed; /* the ledger's length when the read began */
};

struct world {
    uint64_t random;
    uint64_t now_ms;
    int node_count;
    struct rates rates;
    bool cut[RAFT_VOTERS_MAX][RAFT_VOTERS_MAX]; /* from, to */
    int wire_count;
    int wire_order
        [WIRE_MAX]; /* slots of the wire: the first wire_count hold messages, oldest first */
    bool talks;

    /* what has been true in this run */
    uint32_t leader_of[TERMS_MAX];
    uint32_t vote_of[RAFT_VOTERS_MAX][TERMS_MAX];
    uint64_t ledger_count;
    struct cluster_entry ledger[CLUSTER_LOG_MAX + 1];
    struct read_begun reads[RAFT_VOTERS_MAX][ROUNDS_KEPT];
    uint64_t reads_released;

    struct cluster_node nodes[RAFT_VOTERS_MAX];
    struct cluster_message wire[WIRE_MAX];
};

/* For the last words of an abort in the core, which knows no seed. */
static volatile uint64_t running_seed;

static void say_seed(int signal_number)
{
    char digits[24];
    size_t at = sizeof(digits);
    uint64_t rest = running_seed;
    digits[--at] = '\n';
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    static const char text[] = "to repeat: RAFT_SEED=";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);
    ignored += write(STDERR_FILENO, digits + at, sizeof(digits) - at);
    (void)ignored; /* nobody is left to be told */
    signal(signal_number, SIG_DFL);
}

static void require(bool holds, const char *rule)
{
    if (holds)
        return;
    fprintf(stderr, "broken: %s\n", rule);
    abort();
}

static uint64_t draw(struct world *world, uint64_t below)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return (world->random >> 11) % below;
}

static bool chance(struct world *world, uint32_t of_1000)
{
    return draw(world, 1000) < of_1000;
}

static int majority(const struct world *world)
{
    return world->node_count / 2 + 1;
}

static bool holds_entry(const struct cluster_log *log, uint64_t index,
                        const struct cluster_entry *entry)
{
    return log->last >= index && log->entries[index].chain == entry->chain;
}

/* S3: what a message promises is on the sender's disk. S2 on the way: votes sent. */
static void check_message(struct world *world, const struct cluster_node *node,
                          const struct raft_message *message)
{
    uint32_t id = node->raft.id;
    const struct cluster_disk *disk = &node->disk;

    if (message->type == RAFT_VOTE && message->vote.pre_vote)
        return;
    if (message->type == RAFT_VOTE_REPLY && message->vote_reply.pre_vote &&
        message->vote_reply.granted)
        return;
    require(disk->term == message->term, "S3: the term of a message is on the sender's disk");
    bool votes = message->type == RAFT_VOTE ||
                 (message->type == RAFT_VOTE_REPLY && message->vote_reply.granted);
    if (votes) {
        uint32_t candidate = message->type == RAFT_VOTE ? id : message->to;
        uint32_t *vote = &world->vote_of[id][message->term];
        require(disk->voted_for == candidate, "S3: a vote that leaves is on the disk");
        require(*vote == RAFT_NODE_NONE || *vote == candidate, "S2: one vote a term");
        *vote = candidate;
    }
    if (message->type == RAFT_APPEND_REPLY && message->append_reply.success) {
        uint64_t index = message->append_reply.durable_index;
        require(holds_entry(&disk->log, index, &node->log.entries[index]),
                "S3: what is acknowledged is on the disk");
    }
}

/* S6: whoever has an entry of the same index and term has the same entries up to it. */
static void check_new_entries(const struct world *world, const struct cluster_node *node,
                              const struct raft_effects *effects)
{
    for (uint64_t index = effects->first; index != 0 && index <= effects->last; index++) {
        const struct cluster_entry *entry = &node->log.entries[index];
        for (int i = 0; i < world->node_count; i++) {
            const struct cluster_log *other = &world->nodes[i].log;
            if (other->last >= index && other->entries[index].term == entry->term)
                require(other->entries[index].chain == entry->chain, "S6: log matching");
        }
    }
}

/* S1 and S7, when a node becomes leader. */
static void check_new_leader(struct world *world, const struct cluster_node *node)
{
    const struct raft *raft = &node->raft;
    uint32_t *leader = &world->leader_of[raft->term];
    require(*leader == RAFT_NODE_NONE || *leader == raft->id, "S1: one leader a term");
    *leader = raft->id;
    require(holds_entry(&node->log, world->ledger_count, &world->ledger[world->ledger_count]),
            "S7: a leader has all that has committed");
}

/* S9: a majority has it on disk, up to an entry of the leader's own term. */
static void check_commit_rule(const struct world *world, const struct cluster_node *node)
{
    uint64_t index = node->raft.commit_index;
    int disks = 0;
    for (int i = 0; i < world->node_count; i++)
        disks += holds_entry(&world->nodes[i].disk.log, index, &node->log.entries[index]);
    require(disks >= majority(world), "S9: a majority has a committed entry on disk");
    require(node->raft.role == RAFT_LEADER, "S9: a leader is the first to commit");
    require(node->log.entries[index].term == node->raft.term,
            "S9: a leader commits entries of its own term (§5.4.2)");
}

static void check_commit(struct world *world, const struct cluster_node *node)
{
    uint64_t commit = node->raft.commit_index;
    uint64_t known = commit < world->ledger_count ? commit : world->ledger_count;
    require(node->log.entries[known].chain == world->ledger[known].chain,
            "S8: what has committed stays the same everywhere");
    if (commit <= world->ledger_count)
        return;
    check_commit_rule(world, node);
    for (uint64_t index = world->ledger_count + 1; index <= commit; index++)
        world->ledger[index] = node->log.entries[index];
    world->ledger_count = commit;
}

/* S11: match never exceeds what the other has durably; who follows a newer leader aside. */
static void check_matches(const struct world *world, const struct cluster_node *node)
{
    const struct raft *raft = &node->raft;
    for (int i = 0; i < raft->peer_count; i++) {
        const struct cluster_node *other = &world->nodes[raft->peers[i].id];
        uint64_t match = raft->peers[i].match;
        if (other->disk.term <= raft->term)
            require(holds_entry(&other->disk.log, match, &node->log.entries[match]),
                    "S11: match is durable at the follower");
    }
}

/* S16, the core's part: a read sees every commit from before its beginning. */
static void check_reads(struct world *world, const struct cluster_node *node,
                        const struct raft_effects *effects)
{
    struct read_begun *reads = world->reads[node->raft.id];
    if (effects->round != 0)
        reads[effects->round % ROUNDS_KEPT] =
            (struct read_begun){ node->raft.term, effects->round, world->ledger_count };
}

static void check_releases(struct world *world, const struct cluster_node *node,
                           const struct raft_effects *effects)
{
    for (int i = 0; i < effects->released_count; i++) {
        const struct raft_released *released = &effects->released[i];
        const struct read_begun *read = &world->reads[node->raft.id][released->round % ROUNDS_KEPT];
        require(read->term == node->raft.term, "S16: a read is released in the term of its round");
        require(read->round == released->round, "S16: a released round was opened");
        require(released->index >= read->committed, "S16: no read of the past");
        require(released->index <= node->raft.commit_index, "S16: no read of the future");
        world->reads_released++;
    }
}

static void tell(const struct world *world, const struct cluster_node *node,
                 const struct raft_event *event)
{
    const struct raft *raft = &node->raft;
    if (world->talks)
        fprintf(stderr,
                "%6" PRIu64 " ms  node %" PRIu32 " %-13s -> %-13s term %" PRIu64 " last %" PRIu64
                " durable %" PRIu64 " commit %" PRIu64 "\n",
                world->now_ms, raft->id, raft_event_name(event->type), raft_role_name(raft->role),
                raft->term, raft->last_index, raft->durable_index, raft->commit_index);
}

static void put_on_wire(struct world *world, const struct cluster_node *node,
                        const struct raft_message *message)
{
    if (world->wire_count == WIRE_MAX || world->cut[message->from][message->to])
        return;
    if (chance(world, world->rates.lose))
        return;
    cluster_pack(node, message, &world->wire[world->wire_order[world->wire_count++]]);
}

static void step(struct world *world, struct cluster_node *node, struct raft_event event,
                 const uint64_t *ids)
{
    struct raft_effects effects;
    enum raft_role role = node->raft.role;

    event.now_ms = world->now_ms;
    cluster_step(node, &event, ids, &effects);
    tell(world, node, &event);
    check_reads(world, node, &effects);
    require(node->raft.term < TERMS_MAX, "terms do not run away");
    for (int i = 0; i < effects.message_count; i++) {
        check_message(world, node, &effects.messages[i]);
        put_on_wire(world, node, &effects.messages[i]);
    }
    check_new_entries(world, node, &effects);
    if (node->raft.role == RAFT_LEADER && role != RAFT_LEADER)
        check_new_leader(world, node);
    if (effects.commit_moved)
        check_commit(world, node);
    if (node->raft.role == RAFT_LEADER)
        check_matches(world, node);
    check_releases(world, node, &effects);
}

static struct cluster_node *any_node(struct world *world)
{
    return &world->nodes[draw(world, (uint64_t)world->node_count)];
}

static void pull_appends(struct world *world, struct cluster_node *node, uint32_t entries_max)
{
    for (int i = 0; i < world->node_count; i++) {
        uint32_t peer = (uint32_t)i;
        for (int turn = 0; turn < 8 && raft_append_due(&node->raft, peer); turn++)
            step(world, node,
                 (struct raft_event){ .type = RAFT_SEND, .send = { peer, entries_max } }, NULL);
    }
}

static void flush(struct world *world, struct cluster_node *node, int count)
{
    cluster_flush(node, count);
    step(world, node, (struct raft_event){ .type = RAFT_PERSISTED, .write_seq = node->disk.seq },
         NULL);
}

static void flush_some(struct world *world, struct cluster_node *node)
{
    bool full = node->write_count > CLUSTER_WRITES_MAX - 4;
    if (node->write_count > 0 && (full || chance(world, world->rates.flush)))
        flush(world, node, 1 + (int)draw(world, (uint64_t)node->write_count));
}

static void take_off_wire(struct world *world, int place)
{
    int slot = world->wire_order[place];
    world->wire_count--;
    for (int i = place; i < world->wire_count; i++)
        world->wire_order[i] = world->wire_order[i + 1];
    world->wire_order[world->wire_count] = slot;
}

static void deliver(struct world *world)
{
    if (world->wire_count == 0)
        return;
    int place =
        chance(world, world->rates.reorder) ? (int)draw(world, (uint64_t)world->wire_count) : 0;
    const struct cluster_message packed = world->wire[world->wire_order[place]];
    if (!chance(world, world->rates.duplicate))
        take_off_wire(world, place);
    struct cluster_node *node = &world->nodes[packed.message.to];
    if (!node->up || world->cut[packed.message.from][packed.message.to])
        return;
    step(world, node,
         (struct raft_event){ .type = packed.message.type, .message = &packed.message },
         packed.ids);
}

static void lose_connection(struct world *world, uint32_t a, uint32_t b)
{
    for (int place = world->wire_count - 1; place >= 0; place--) {
        const struct raft_message *message = &world->wire[world->wire_order[place]].message;
        bool between =
            (message->from == a && message->to == b) || (message->from == b && message->to == a);
        if (between)
            take_off_wire(world, place);
    }
    if (world->nodes[a].up)
        step(world, &world->nodes[a], (struct raft_event){ .type = RAFT_PEER_LOST, .peer = b },
             NULL);
    if (world->nodes[b].up)
        step(world, &world->nodes[b], (struct raft_event){ .type = RAFT_PEER_LOST, .peer = a },
             NULL);
}

/* A crash: writes that have not reached the disk are gone, or part of them has. */
static void crash(struct world *world, struct cluster_node *node)
{
    uint32_t id = node->raft.id;
    cluster_flush(node, (int)draw(world, (uint64_t)node->write_count + 1));
    cluster_crash(node);
    bool noticed = chance(world, 700);
    for (int i = 0; noticed && i < world->node_count; i++) {
        if ((uint32_t)i != id)
            lose_connection(world, id, (uint32_t)i);
    }
}

static void cut_at_random(struct world *world)
{
    bool one_way = chance(world, 300);
    bool side[RAFT_VOTERS_MAX];
    for (int i = 0; i < world->node_count; i++)
        side[i] = chance(world, 500);
    for (int a = 0; a < world->node_count; a++) {
        for (int b = 0; b < world->node_count; b++)
            world->cut[a][b] = side[a] != side[b] && (!one_way || side[a]);
    }
}

static void client_asks(struct world *world, struct cluster_node *node)
{
    if (chance(world, world->rates.propose) && node->log.last < CLUSTER_LOG_MAX - 128)
        step(world, node, (struct raft_event){ .type = RAFT_PROPOSE }, NULL);
    if (chance(world, world->rates.read))
        step(world, node, (struct raft_event){ .type = RAFT_READ }, NULL);
    if (chance(world, world->rates.transfer)) {
        uint32_t peer = (uint32_t)draw(world, (uint64_t)world->node_count + 1);
        if (peer == (uint32_t)world->node_count)
            peer = RAFT_NODE_NONE;
        step(world, node, (struct raft_event){ .type = RAFT_TRANSFER, .peer = peer }, NULL);
    }
}

static void faults_strike(struct world *world)
{
    struct cluster_node *node = any_node(world);
    if (node->up && chance(world, world->rates.crash))
        crash(world, node);
    if (!node->up && chance(world, world->rates.restart))
        cluster_restart(node, world->now_ms);
    if (chance(world, world->rates.cut))
        cut_at_random(world);
    if (chance(world, world->rates.heal))
        memset(world->cut, 0, sizeof(world->cut));
    if (chance(world, world->rates.disconnect)) {
        uint32_t other = any_node(world)->raft.id;
        if (other != node->raft.id)
            lose_connection(world, node->raft.id, other);
    }
}

/* A turn: time passes, each node does some of what it has to do, some messages arrive. */
static void turn(struct world *world)
{
    world->now_ms += draw(world, world->rates.time_ms_max + 1);
    faults_strike(world);
    for (int i = 0; i < world->node_count; i++) {
        struct cluster_node *node = &world->nodes[i];
        if (!node->up)
            continue;
        if (world->now_ms >= node->raft.deadline_ms)
            step(world, node, (struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
        client_asks(world, node);
        pull_appends(world, node, (uint32_t)draw(world, 6));
        flush_some(world, node);
    }
    for (uint64_t count = draw(world, 2 * (uint64_t)world->node_count + 1); count > 0; count--)
        deliver(world);
}

/* Each run has faults of its own: all at once hide each other. */
static void draw_rates(struct world *world)
{
    struct rates *rates = &world->rates;
    static const uint32_t losses[] = { 0, 0, 20, 200 };
    static const uint32_t flushes[] = { 1000, 700, 200, 40 };
    *rates = (struct rates){
        .lose = losses[draw(world, 4)],
        .duplicate = draw(world, 2) ? 150 : 0,
        .reorder = draw(world, 2) ? 300 : 0,
        .crash = draw(world, 2) ? 30 : 0,
        .restart = 150,
        .cut = draw(world, 2) ? 20 : 0,
        .heal = 60,
        .disconnect = draw(world, 2) ? 30 : 0,
        .propose = 100 + (uint32_t)draw(world, 600),
        .read = (uint32_t)draw(world, 300),
        .transfer = draw(world, 3) == 0 ? 20 : 0,
        .flush = flushes[draw(world, 4)],
        .time_ms_max = 1 + (uint32_t)draw(world, 20),
    };
}

static void create_world(struct world *world, uint64_t seed)
{
    world->random = seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < 8; i++)
        (void)draw(world, 2);
    world->now_ms = 1000;
    world->node_count = 1 + (int)draw(world, RAFT_VOTERS_MAX);
    world->wire_count = 0;
    for (int i = 0; i < WIRE_MAX; i++)
        world->wire_order[i] = i;
    world->ledger_count = 0;
    world->ledger[0] = (struct cluster_entry){ 0, 0, 0 };
    world->reads_released = 0;
    memset(world->cut, 0, sizeof(world->cut));
    memset(world->leader_of, 0xff, sizeof(world->leader_of)); /* RAFT_NODE_NONE */
    memset(world->vote_of, 0xff, sizeof(world->vote_of));
    draw_rates(world);
    struct raft_config config = {
        .voter_count = world->node_count,
        .heartbeat_ms = 20,
        .election_ms_min = 100,
        .election_ms_max = 200,
    };
    for (int i = 0; i < world->node_count; i++)
        config.voters[i] = (uint32_t)i;
    for (int i = 0; i < world->node_count; i++) {
        config.id = (uint32_t)i;
        config.seed = draw(world, UINT64_MAX);
        cluster_create(&world->nodes[i], &config, world->now_ms);
    }
}

static void stop_faults(struct world *world)
{
    world->rates = (struct rates){ .flush = 1000, .time_ms_max = 2 };
    memset(world->cut, 0, sizeof(world->cut));
    for (int i = 0; i < world->node_count; i++) {
        if (!world->nodes[i].up)
            cluster_restart(&world->nodes[i], world->now_ms);
    }
}

static struct cluster_node *find_leader(struct world *world)
{
    struct cluster_node *leader = NULL;
    for (int i = 0; i < world->node_count; i++) {
        struct cluster_node *node = &world->nodes[i];
        if (node->raft.role == RAFT_LEADER &&
            (leader == NULL || leader->raft.term < node->raft.term))
            leader = node;
    }
    return leader;
}

static bool all_agree_with(const struct world *world, const struct raft *leader)
{
    for (int i = 0; i < world->node_count; i++) {
        const struct raft *raft = &world->nodes[i].raft;
        if (raft->leader != leader->id || raft->commit_index < leader->last_index)
            return false;
    }
    return true;
}

/* Turns without faults until nothing is under way: one leader, and all have committed its log. */
static bool settles(struct world *world)
{
    for (int turns = 0; turns < 4000; turns++) {
        for (int i = 0; i < 8; i++)
            deliver(world);
        turn(world);
        const struct cluster_node *leader = find_leader(world);
        if (leader == NULL || world->wire_count > 0)
            continue;
        const struct raft *raft = &leader->raft;
        bool idle = raft->transfer_to == RAFT_NODE_NONE && raft->round_count == 0;
        if (idle && all_agree_with(world, raft))
            return true;
    }
    return false;
}

static void check_liveness(struct world *world)
{
    stop_faults(world);
    require(settles(world), "liveness: a leader is found and all catch up");
    struct cluster_node *leader = find_leader(world);
    uint64_t last = leader->raft.last_index;
    uint64_t reads = world->reads_released;
    step(world, leader, (struct raft_event){ .type = RAFT_PROPOSE }, NULL);
    step(world, leader, (struct raft_event){ .type = RAFT_READ }, NULL);
    require(settles(world), "liveness: a proposal reaches all");
    require(leader->raft.role == RAFT_LEADER, "liveness: a healthy leader stays");
    require(world->ledger_count > last, "liveness: a proposal commits");
    require(world->reads_released > reads, "liveness: a read is released");
}

static void run_seed(struct world *world, uint64_t seed)
{
    running_seed = seed;
    create_world(world, seed);
    int turns = 100 + (int)draw(world, 300);
    for (int i = 0; i < turns; i++)
        turn(world);
    check_liveness(world);
    for (int i = 0; i < world->node_count; i++)
        cluster_destroy(&world->nodes[i]);
}

START_TEST(every_seed_keeps_the_rules)
{
    struct world *world = calloc(1, sizeof(*world));
    const char *seed = getenv("RAFT_SEED");

    ck_assert_ptr_nonnull(world);
    signal(SIGABRT, say_seed);
    if (seed != NULL) {
        world->talks = true;
        run_seed(world, strtoull(seed, NULL, 10));
    } else {
        for (uint64_t i = 1; i <= SEEDS; i += test_stride())
            run_seed(world, i);
    }
    free(world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_random");
    TCase *tests = tcase_create("seeds");
    tcase_add_test(tests, every_seed_keeps_the_rules);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed;
}
