#include "tests/unit/raft_scenario.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/raft_cluster.h"

#define WIRE_MAX 256
#define WORDS_MAX 24
#define LINE_SIZE 512
#define NODE_SLOTS (RAFT_VOTERS_MAX + 1) /* nodes are numbered from 1 */

struct scenario {
    const char *name;
    int line;
    FILE *out;
    bool silent;
    uint64_t now_ms;
    uint32_t node_count;
    bool started[NODE_SLOTS];
    bool isolated[NODE_SLOTS];
    uint32_t room[NODE_SLOTS][NODE_SLOTS]; /* from, to */
    struct cluster_node *nodes;            /* NODE_SLOTS of them */
    int wire_count;
    struct cluster_message *wire; /* WIRE_MAX of them; oldest first */
};

struct words {
    int count;
    const char *word[WORDS_MAX];
};

static void fail(const struct scenario *scenario, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", scenario->name, scenario->line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    abort();
}

static void say(const struct scenario *scenario, uint32_t node, const char *format, ...)
{
    if (scenario->silent)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(scenario->out, "%" PRIu32 "     ", node);
    vfprintf(scenario->out, format, arguments);
    fprintf(scenario->out, "\n");
    va_end(arguments);
}

static void print_append(FILE *out, const struct raft_append *append)
{
    fprintf(out, " after %" PRIu64 "/%" PRIu64 ":", append->prev.term, append->prev.index);
    for (uint32_t i = 0; i < append->entry_count; i++)
        fprintf(out, " %" PRIu64 "/%" PRIu64, append->entry_terms[i], append->prev.index + 1 + i);
    if (append->entry_count == 0)
        fprintf(out, " nothing");
    fprintf(out, ", commit %" PRIu64, append->commit_index);
    if (append->round != 0)
        fprintf(out, ", round %" PRIu64, append->round);
}

static void print_append_reply(FILE *out, const struct raft_append_reply *reply)
{
    if (reply->success)
        fprintf(out, " yes: %" PRIu64, reply->durable_index);
    else if (reply->conflict.term == 0)
        fprintf(out, " no: not after %" PRIu64 ", log ends at %" PRIu64, reply->rejected_index,
                reply->last_index);
    else
        fprintf(out, " no: not after %" PRIu64 ", term %" PRIu64 " begins at %" PRIu64,
                reply->rejected_index, reply->conflict.term, reply->conflict.index);
    if (reply->round != 0)
        fprintf(out, ", round %" PRIu64, reply->round);
}

static void print_message(FILE *out, const struct raft_message *message)
{
    bool pre_vote = (message->type == RAFT_VOTE && message->vote.pre_vote) ||
                    (message->type == RAFT_VOTE_REPLY && message->vote_reply.pre_vote);
    fprintf(out, "%" PRIu32 "->%" PRIu32 "  %s%s t%" PRIu64, message->from, message->to,
            pre_vote ? "pre-" : "", raft_event_name(message->type), message->term);
    if (message->type == RAFT_APPEND)
        print_append(out, &message->append);
    if (message->type == RAFT_APPEND_REPLY)
        print_append_reply(out, &message->append_reply);
    if (message->type == RAFT_VOTE)
        fprintf(out, " last %" PRIu64 "/%" PRIu64 "%s", message->vote.last.term,
                message->vote.last.index, message->vote.transfer ? ", transfer" : "");
    if (message->type == RAFT_VOTE_REPLY)
        fprintf(out, " %s", message->vote_reply.granted ? "yes" : "no");
    fprintf(out, "\n");
}

static void print_entries(FILE *out, const struct cluster_log *log, uint64_t first, uint64_t last)
{
    for (uint64_t index = first; index <= last; index++)
        fprintf(out, " %" PRIu64 "/%" PRIu64, log->entries[index].term, index);
}

static void print_node_id(FILE *out, const char *label, uint32_t id)
{
    if (id == RAFT_NODE_NONE)
        fprintf(out, "%s none", label);
    else
        fprintf(out, "%s %" PRIu32, label, id);
}

static void say_effects(const struct scenario *scenario, const struct cluster_node *node,
                        const struct raft_effects *effects)
{
    const struct raft *raft = &node->raft;
    FILE *out = scenario->out;

    if (effects->role_changed)
        say(scenario, raft->id, "becomes %s, term %" PRIu64, raft_role_name(raft->role),
            raft->term);
    if (effects->leader_changed && raft->role != RAFT_LEADER && raft->leader != RAFT_NODE_NONE)
        say(scenario, raft->id, "follows %" PRIu32, raft->leader);
    if (effects->drop_from != 0)
        say(scenario, raft->id, "drop from %" PRIu64, effects->drop_from);
    if (effects->write_seq != 0) {
        fprintf(out, "%" PRIu32 "     persist", raft->id);
        if (effects->save_vote) {
            fprintf(out, " term %" PRIu64, raft->term);
            print_node_id(out, " vote", raft->voted_for);
        }
        if (effects->first != 0)
            print_entries(out, &node->log, effects->first, effects->last);
        fprintf(out, "%s\n", effects->noop ? " no-op" : "");
    }
}

static void say_to_clients(const struct scenario *scenario, const struct cluster_node *node,
                           const struct raft_effects *effects)
{
    uint32_t id = node->raft.id;

    if (effects->refusal != RAFT_ACCEPTED)
        say(scenario, id, "refused: %s", raft_refusal_name(effects->refusal));
    if (effects->round != 0)
        say(scenario, id, "round %" PRIu64 " is open", effects->round);
    for (int i = 0; i < effects->released_count; i++)
        say(scenario, id, "round %" PRIu64 " is released at %" PRIu64, effects->released[i].round,
            effects->released[i].index);
    if (effects->commit_moved)
        say(scenario, id, "commit %" PRIu64, node->raft.commit_index);
}

static void put_on_wire(struct scenario *scenario, const struct cluster_node *node,
                        const struct raft_message *message)
{
    if (scenario->silent)
        return;
    bool lost = scenario->isolated[message->from] || scenario->isolated[message->to];
    print_message(scenario->out, message);
    if (lost)
        return;
    if (scenario->wire_count == WIRE_MAX)
        fail(scenario, "more than %d messages are under way", WIRE_MAX);
    cluster_pack(node, message, &scenario->wire[scenario->wire_count++]);
}

static void step_once(struct scenario *scenario, struct cluster_node *node, struct raft_event event,
                      const uint64_t *ids)
{
    struct raft_effects effects;
    event.now_ms = scenario->now_ms;
    cluster_step(node, &event, ids, &effects);
    if (!scenario->silent) {
        say_effects(scenario, node, &effects);
        say_to_clients(scenario, node, &effects);
    }
    for (int i = 0; i < effects.message_count; i++)
        put_on_wire(scenario, node, &effects.messages[i]);
}

static void pull(struct scenario *scenario, struct cluster_node *node)
{
    for (uint32_t peer = 1; peer <= scenario->node_count && !scenario->silent; peer++) {
        uint32_t room = scenario->room[node->raft.id][peer];
        int before = -1;
        while (raft_append_due(&node->raft, peer) && scenario->wire_count != before) {
            before = scenario->wire_count;
            step_once(scenario, node,
                      (struct raft_event){ .type = RAFT_SEND, .send = { peer, room } }, NULL);
        }
    }
}

/* A step, and then the links of the node pull what has become due. */
static void step(struct scenario *scenario, struct cluster_node *node, struct raft_event event,
                 const uint64_t *ids)
{
    step_once(scenario, node, event, ids);
    pull(scenario, node);
}

static int find_on_wire(const struct scenario *scenario, uint32_t from, uint32_t to)
{
    for (int i = 0; i < scenario->wire_count; i++) {
        const struct raft_message *message = &scenario->wire[i].message;
        if (message->from == from && message->to == to)
            return i;
    }
    return -1;
}

static void take_off_wire(struct scenario *scenario, int place)
{
    scenario->wire_count--;
    memmove(&scenario->wire[place], &scenario->wire[place + 1],
            (size_t)(scenario->wire_count - place) * sizeof(*scenario->wire));
}

static void deliver_at(struct scenario *scenario, int place, bool keep)
{
    const struct cluster_message packed = scenario->wire[place];
    if (!keep)
        take_off_wire(scenario, place);
    struct cluster_node *node = &scenario->nodes[packed.message.to];
    if (node->up)
        step(scenario, node,
             (struct raft_event){ .type = packed.message.type, .message = &packed.message },
             packed.ids);
}

static void flush(struct scenario *scenario, struct cluster_node *node, int count)
{
    cluster_flush(node, count);
    step(scenario, node, (struct raft_event){ .type = RAFT_PERSISTED, .write_seq = node->disk.seq },
         NULL);
}

static uint64_t number(const struct scenario *scenario, const struct words *words, int place)
{
    if (place >= words->count)
        fail(scenario, "'%s' wants a number more", words->word[0]);
    char *end;
    uint64_t value = strtoull(words->word[place], &end, 10);
    if (*end != '\0')
        fail(scenario, "'%s' is not a number", words->word[place]);
    return value;
}

static uint32_t node_at(const struct scenario *scenario, const struct words *words, int place)
{
    uint64_t id = number(scenario, words, place);
    if (id < 1 || id > scenario->node_count)
        fail(scenario, "there is no node %" PRIu64, id);
    return (uint32_t)id;
}

static bool word_is(const struct words *words, int place, const char *text)
{
    return place < words->count && strcmp(words->word[place], text) == 0;
}

static void run_nodes(struct scenario *scenario, const struct words *words)
{
    struct raft_config config = {
        .voter_count = (int)number(scenario, words, 1),
        .heartbeat_ms = 50,
        .election_ms_min = 150,
        .election_ms_max = 300,
    };
    if (scenario->node_count > 0 || config.voter_count < 1 || config.voter_count > RAFT_VOTERS_MAX)
        fail(scenario, "'nodes' comes once, with 1 to %d", RAFT_VOTERS_MAX);
    scenario->node_count = (uint32_t)config.voter_count;
    for (uint32_t id = 1; id <= scenario->node_count; id++)
        config.voters[id - 1] = id;
    for (uint32_t id = 1; id <= scenario->node_count; id++) {
        config.id = id;
        config.seed = id;
        cluster_create(&scenario->nodes[id], &config, scenario->now_ms);
        cluster_crash(&scenario->nodes[id]); /* until it has its disk */
        for (uint32_t peer = 1; peer <= scenario->node_count; peer++)
            scenario->room[id][peer] = RAFT_APPEND_ENTRIES_MAX;
    }
}

static void run_log(struct scenario *scenario, const struct words *words)
{
    struct cluster_node *node = &scenario->nodes[node_at(scenario, words, 1)];
    for (int i = 2; i < words->count; i++) {
        uint64_t term, index;
        if (sscanf(words->word[i], "%" SCNu64 "/%" SCNu64, &term, &index) != 2 ||
            index != node->disk.log.last + 1)
            fail(scenario, "'%s' is not the next entry", words->word[i]);
        cluster_disk_append(node, term);
        node->disk.term = term;
    }
}

static void run_term(struct scenario *scenario, const struct words *words)
{
    struct cluster_node *node = &scenario->nodes[node_at(scenario, words, 1)];
    node->disk.term = number(scenario, words, 2);
    if (word_is(words, 3, "vote"))
        node->disk.voted_for = node_at(scenario, words, 4);
}

static void vote_for(struct scenario *scenario, struct cluster_node *node, bool pre_vote)
{
    for (uint32_t id = 1; id <= scenario->node_count; id++) {
        const struct raft_message reply = {
            .type = RAFT_VOTE_REPLY,
            .from = id,
            .to = node->raft.id,
            .term = node->raft.term + pre_vote,
            .vote_reply = { .granted = true, .pre_vote = pre_vote },
        };
        enum raft_role role = pre_vote ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE;
        if (id != node->raft.id && node->raft.role == role) {
            scenario->silent = pre_vote;
            step(scenario, node, (struct raft_event){ .type = reply.type, .message = &reply },
                 NULL);
            scenario->silent = true;
        }
    }
}

static void run_lead(struct scenario *scenario, const struct words *words)
{
    struct cluster_node *node = &scenario->nodes[node_at(scenario, words, 1)];
    if (!word_is(words, 2, "term") || number(scenario, words, 3) <= node->disk.term)
        fail(scenario, "'lead' wants a term above %" PRIu64, node->disk.term);
    cluster_crash(node);
    node->disk.term = number(scenario, words, 3) - 1;
    node->disk.voted_for = RAFT_NODE_NONE;
    cluster_restart(node, scenario->now_ms);
    scenario->now_ms = node->raft.deadline_ms;
    scenario->silent = true;
    step(scenario, node, (struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    vote_for(scenario, node, true);
    flush(scenario, node, node->write_count);
    vote_for(scenario, node, false);
    scenario->silent = false;
}

static void run_timeout(struct scenario *scenario, const struct words *words)
{
    struct cluster_node *node = &scenario->nodes[node_at(scenario, words, 1)];
    if (scenario->now_ms < node->raft.deadline_ms)
        scenario->now_ms = node->raft.deadline_ms;
    step(scenario, node, (struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
}

static void run_wait(struct scenario *scenario, const struct words *words)
{
    scenario->now_ms += number(scenario, words, 1);
}

static void run_propose(struct scenario *scenario, const struct words *words)
{
    step(scenario, &scenario->nodes[node_at(scenario, words, 1)],
         (struct raft_event){ .type = RAFT_PROPOSE }, NULL);
}

static void run_read(struct scenario *scenario, const struct words *words)
{
    step(scenario, &scenario->nodes[node_at(scenario, words, 1)],
         (struct raft_event){ .type = RAFT_READ }, NULL);
}

static void run_transfer(struct scenario *scenario, const struct words *words)
{
    uint32_t to = word_is(words, 2, "best") ? RAFT_NODE_NONE : node_at(scenario, words, 2);
    step(scenario, &scenario->nodes[node_at(scenario, words, 1)],
         (struct raft_event){ .type = RAFT_TRANSFER, .peer = to }, NULL);
}

static void run_persisted(struct scenario *scenario, const struct words *words)
{
    struct cluster_node *node = &scenario->nodes[node_at(scenario, words, 1)];
    int count = words->count > 2 ? (int)number(scenario, words, 2) : node->write_count;
    if (count > node->write_count)
        fail(scenario, "only %d writes are under way", node->write_count);
    flush(scenario, node, count);
}

static void run_crash(struct scenario *scenario, const struct words *words)
{
    cluster_crash(&scenario->nodes[node_at(scenario, words, 1)]);
}

static void run_restart(struct scenario *scenario, const struct words *words)
{
    cluster_restart(&scenario->nodes[node_at(scenario, words, 1)], scenario->now_ms);
}

static void run_lost(struct scenario *scenario, const struct words *words)
{
    uint32_t id = node_at(scenario, words, 1);
    uint32_t peer = node_at(scenario, words, 2);
    for (int place; (place = find_on_wire(scenario, id, peer)) >= 0;)
        take_off_wire(scenario, place);
    for (int place; (place = find_on_wire(scenario, peer, id)) >= 0;)
        take_off_wire(scenario, place);
    step(scenario, &scenario->nodes[id],
         (struct raft_event){ .type = RAFT_PEER_LOST, .peer = peer }, NULL);
}

static int oldest(const struct scenario *scenario, const struct words *words)
{
    uint32_t from = node_at(scenario, words, 1);
    uint32_t to = node_at(scenario, words, 2);
    int place = find_on_wire(scenario, from, to);
    if (place < 0)
        fail(scenario, "nothing is under way from %" PRIu32 " to %" PRIu32, from, to);
    return place;
}

/* As many as there are now; what they bring about is for the next command. */
static int how_many(const struct scenario *scenario, const struct words *words)
{
    if (!word_is(words, 3, "all"))
        return 1;
    const struct raft_message *first = &scenario->wire[oldest(scenario, words)].message;
    int count = 0;
    for (int i = 0; i < scenario->wire_count; i++) {
        const struct raft_message *message = &scenario->wire[i].message;
        count += message->from == first->from && message->to == first->to;
    }
    return count;
}

static void run_deliver(struct scenario *scenario, const struct words *words)
{
    for (int count = how_many(scenario, words); count > 0; count--)
        deliver_at(scenario, oldest(scenario, words), false);
}

static void run_drop(struct scenario *scenario, const struct words *words)
{
    for (int count = how_many(scenario, words); count > 0; count--)
        take_off_wire(scenario, oldest(scenario, words));
}

static void run_repeat(struct scenario *scenario, const struct words *words)
{
    deliver_at(scenario, oldest(scenario, words), true);
}

static void run_later(struct scenario *scenario, const struct words *words)
{
    int place = oldest(scenario, words);
    const struct cluster_message packed = scenario->wire[place];
    take_off_wire(scenario, place);
    scenario->wire[scenario->wire_count++] = packed;
}

static void run_isolate(struct scenario *scenario, const struct words *words)
{
    uint32_t id = node_at(scenario, words, 1);
    scenario->isolated[id] = true;
    for (int i = scenario->wire_count - 1; i >= 0; i--) {
        const struct raft_message *message = &scenario->wire[i].message;
        if (message->from == id || message->to == id)
            take_off_wire(scenario, i);
    }
}

static void run_rejoin(struct scenario *scenario, const struct words *words)
{
    scenario->isolated[node_at(scenario, words, 1)] = false;
}

static void run_room(struct scenario *scenario, const struct words *words)
{
    uint32_t from = node_at(scenario, words, 1);
    uint32_t to = node_at(scenario, words, 2);
    scenario->room[from][to] = (uint32_t)number(scenario, words, 3);
    pull(scenario, &scenario->nodes[from]);
}

static bool persist_something(struct scenario *scenario)
{
    bool moved = false;
    for (uint32_t id = 1; id <= scenario->node_count; id++) {
        struct cluster_node *node = &scenario->nodes[id];
        if (node->up && node->write_count > 0) {
            flush(scenario, node, node->write_count);
            moved = true;
        }
    }
    return moved;
}

static void settle(struct scenario *scenario)
{
    for (int turn = 0; turn < 1000; turn++) {
        if (scenario->wire_count > 0)
            deliver_at(scenario, 0, false);
        else if (!persist_something(scenario))
            return;
    }
    fail(scenario, "it never settles");
}

static void run_settle(struct scenario *scenario, const struct words *words)
{
    (void)words;
    settle(scenario);
}

/* One millisecond of a cluster whose disks and wires take none. */
static void live(struct scenario *scenario)
{
    scenario->now_ms++;
    for (uint32_t id = 1; id <= scenario->node_count; id++) {
        struct cluster_node *node = &scenario->nodes[id];
        if (node->up && scenario->now_ms >= node->raft.deadline_ms)
            step(scenario, node, (struct raft_event){ .type = RAFT_TIMEOUT }, NULL);
    }
    settle(scenario);
}

static void run_work(struct scenario *scenario, const struct words *words)
{
    FILE *out = scenario->out;
    scenario->out = fopen("/dev/null", "w");
    if (scenario->out == NULL)
        fail(scenario, "cannot open /dev/null");
    settle(scenario);
    for (uint64_t ms = number(scenario, words, 1); ms > 0; ms--)
        live(scenario);
    fclose(scenario->out);
    scenario->out = out;
}

static void run_show(struct scenario *scenario, const struct words *words)
{
    uint32_t id = node_at(scenario, words, 1);
    const struct cluster_node *node = &scenario->nodes[id];
    const struct raft *raft = &node->raft;
    FILE *out = scenario->out;
    if (!node->up)
        fail(scenario, "node %" PRIu32 " is down", id);
    fprintf(out, "%" PRIu32 "     %s, term %" PRIu64 ",", id, raft_role_name(raft->role),
            raft->term);
    print_node_id(out, " vote", raft->voted_for);
    print_node_id(out, ", leader", raft->leader);
    fprintf(out, ", commit %" PRIu64 ", durable %" PRIu64 ", log", raft->commit_index,
            raft->durable_index);
    print_entries(out, &node->log, 1, node->log.last);
    fprintf(out, "\n");
}

static void run_peer(struct scenario *scenario, const struct words *words)
{
    uint32_t id = node_at(scenario, words, 1);
    const struct raft_peer *peer =
        raft_find_peer(&scenario->nodes[id].raft, node_at(scenario, words, 2));
    fprintf(scenario->out,
            "%" PRIu32 "     node %" PRIu32 ": match %" PRIu64 ", next %" PRIu64 "%s%s\n", id,
            peer->id, peer->match, peer->next, peer->probing ? ", probing" : "",
            peer->awaiting ? ", awaiting" : "");
}

static const struct {
    const char *name;
    bool setup; /* before the nodes start */
    void (*run)(struct scenario *scenario, const struct words *words);
} commands[] = {
    { "nodes", true, run_nodes },        { "log", true, run_log },
    { "term", true, run_term },          { "lead", false, run_lead },
    { "timeout", false, run_timeout },   { "wait", false, run_wait },
    { "propose", false, run_propose },   { "read", false, run_read },
    { "transfer", false, run_transfer }, { "persisted", false, run_persisted },
    { "crash", false, run_crash },       { "restart", false, run_restart },
    { "lost", false, run_lost },         { "deliver", false, run_deliver },
    { "drop", false, run_drop },         { "repeat", false, run_repeat },
    { "later", false, run_later },       { "isolate", false, run_isolate },
    { "rejoin", false, run_rejoin },     { "room", false, run_room },
    { "settle", false, run_settle },     { "show", false, run_show },
    { "peer", false, run_peer },         { "work", false, run_work },
};

static void start_nodes(struct scenario *scenario)
{
    for (uint32_t id = 1; id <= scenario->node_count; id++) {
        if (!scenario->started[id])
            cluster_restart(&scenario->nodes[id], scenario->now_ms);
        scenario->started[id] = true;
    }
}

static void run_line(struct scenario *scenario, char *line)
{
    struct words words = { 0 };
    char *rest = NULL;
    for (char *word = strtok_r(line, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (words.count == WORDS_MAX)
            fail(scenario, "more than %d words", WORDS_MAX);
        words.word[words.count++] = word;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (!word_is(&words, 0, commands[i].name))
            continue;
        if (!commands[i].setup)
            start_nodes(scenario);
        commands[i].run(scenario, &words);
        return;
    }
    fail(scenario, "'%s' is not a command", line);
}

/* Commands are copied and run when their dashes come; the old outcome is passed over. */
static void run_source(struct scenario *scenario, const char *source, FILE *result)
{
    char pending[LINE_SIZE * 16] = "";
    bool in_outcome = false;
    for (const char *at = source; *at != '\0';) {
        char line[LINE_SIZE];
        size_t size = strcspn(at, "\n");
        scenario->line++;
        if (size >= sizeof(line) || strlen(pending) + size + 2 > sizeof(pending))
            fail(scenario, "too long");
        memcpy(line, at, size);
        line[size] = '\0';
        at += size + (at[size] == '\n');
        if (in_outcome && size > 0)
            continue;
        in_outcome = false;
        fprintf(result, "%s\n", line);
        if (strcmp(line, "----") == 0) {
            char *rest = NULL;
            for (char *command = strtok_r(pending, "\n", &rest); command != NULL;
                 command = strtok_r(NULL, "\n", &rest))
                run_line(scenario, command);
            pending[0] = '\0';
            in_outcome = true;
        } else if (size > 0 && line[0] != '#') {
            strcat(strcat(pending, line), "\n");
        }
    }
    if (pending[0] != '\0')
        fail(scenario, "commands without a line of dashes behind them");
}

void scenario_run(const char *name, const char *source, FILE *result)
{
    struct scenario scenario = { .name = name, .out = result, .now_ms = 1000 };
    scenario.nodes = calloc(NODE_SLOTS, sizeof(*scenario.nodes));
    scenario.wire = calloc(WIRE_MAX, sizeof(*scenario.wire));
    if (scenario.nodes == NULL || scenario.wire == NULL)
        fail(&scenario, "out of memory");
    run_source(&scenario, source, result);
    for (uint32_t id = 1; id <= scenario.node_count; id++)
        cluster_destroy(&scenario.nodes[id]);
    free(scenario.nodes);
    free(scenario.wire);
}
