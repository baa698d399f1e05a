/* Simulated clients.
 *
 * A client asks in bursts: it wakes, sends as many requests as it likes and its pipeline has room for,
 * and thinks. It asks the node that it takes for the leader, because a redirect said so, or because
 * its last answer came from there; and another one by chance after anything that went wrong, a little
 * later each time. Every attempt is a new request with a number of its own, for the oracle must see
 * each of them.
 *
 * A request is open until its outcome comes, or until its time is up: then the outcome is unknown, and
 * what comes later is only counted. That a request has two outcomes is a broken promise (S24). A
 * request that wants no reply is never open: it is told to the oracle, and left to itself.
 *
 * Outcomes may come from within the turn of a process. So they ask nothing new: they wake the client,
 * which is an event of its own. */
#include "tests/sim/session.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PURPOSE 0x73657373u /* of the random streams; and one for each client */
#define THINK_NS_MIN \
    UINT64_C(1000) /* a moment that passes: who never waits for a reply must not stop time */
#define BACKOFF_MIN_NS UINT64_C(2000000)
#define BACKOFF_DOUBLINGS_MAX 6
#define HOT_KEY_PER_MILLE 300
#define COMPARE_NONE_PER_MILLE 100  /* cas wants that there is no such key */
#define COMPARE_OLDER_PER_MILLE 150 /* cas with a version that is known to be old */
#define ELSEWHERE_PER_MILLE 300     /* of bursts, where any node may be asked */
#define LARGE_VALUE_PER_MILLE 100
#define SMALL_VALUE_MAX 200u

enum event { EVENT_WAKE, EVENT_TIMEOUT };

/* What became of each request. */
enum fate { FATE_OPEN, FATE_UNHEARD, FATE_LATE, FATE_DONE };

struct record {
    uint16_t client;
    uint8_t fate;
};

struct request { /* number 0: a free place */
    struct op op;
    int node, key;
    uint64_t deadline_ns;
};

struct known_key { /* what a client knows of a key: versions, 0 for none */
    uint64_t version, older;
};

struct client {
    struct random random;
    struct request *requests; /* pipeline_max places */
    int open_count;
    int leader;   /* supposed */
    int failures; /* in a row */
    uint64_t not_before_ns;
    bool is_waking, has_timer;
    struct known_key *known; /* one for each key */
};

struct sessions {
    struct workload workload;
    int node_count;
    struct timeline *timeline;
    struct oracle *oracle;
    struct trace *trace;
    struct transport transport;
    struct client *clients;
    bool is_stopped;
    int open_count;
    struct record *records; /* by number */
    uint64_t record_count, record_capacity;
    uint64_t acked, last_ack_ns;
    uint32_t answering; /* bits of the nodes that must answer in time, */
    uint64_t answering_from_ns;
};

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void on_event(void *owner, uint64_t argument);

static void schedule(struct sessions *sessions, int client, enum event event, uint64_t at_ns)
{
    timeline_at(sessions->timeline, at_ns, on_event, sessions,
                (uint64_t)client << 1 | (uint64_t)event);
}

static uint64_t now_ns(const struct sessions *sessions)
{
    return timeline_now_ns(sessions->timeline);
}

/* -- Life ---------------------------------------------------------------------------------------- */

struct sessions *sessions_new(const struct workload *workload, int node_count,
                              struct timeline *timeline, struct oracle *oracle, struct trace *trace,
                              uint64_t seed, const struct transport *transport)
{
    assert(workload->clients > 0 && workload->keys > 0 && workload->pipeline_max > 0);
    struct sessions *sessions = must(calloc(1, sizeof *sessions));
    sessions->workload = *workload;
    sessions->node_count = node_count;
    sessions->timeline = timeline;
    sessions->oracle = oracle;
    sessions->trace = trace;
    sessions->transport = *transport;
    sessions->clients = must(calloc((size_t)workload->clients, sizeof *sessions->clients));
    for (int i = 0; i < workload->clients; i++) {
        struct client *client = &sessions->clients[i];
        client->random = random_stream(seed, PURPOSE + (uint64_t)i);
        client->leader = (int)random_below(&client->random, (uint64_t)node_count);
        client->requests = must(calloc((size_t)workload->pipeline_max, sizeof(struct request)));
        client->known = must(calloc((size_t)workload->keys, sizeof(struct known_key)));
    }
    sessions->record_count = 1; /* numbers begin with 1 */
    return sessions;
}

void sessions_free(struct sessions *sessions)
{
    if (sessions == NULL)
        return;
    for (int i = 0; i < sessions->workload.clients; i++) {
        free(sessions->clients[i].requests);
        free(sessions->clients[i].known);
    }
    free(sessions->clients);
    free(sessions->records);
    free(sessions);
}

static uint64_t think_ns(struct sessions *sessions, struct client *client)
{
    return THINK_NS_MIN + random_between(&client->random, 0, sessions->workload.think_ns_max);
}

/* At its time, but not before the client may try again. */
static void wake_at(struct sessions *sessions, struct client *client, uint64_t at_ns)
{
    if (client->is_waking || sessions->is_stopped)
        return;
    client->is_waking = true;
    if (at_ns < client->not_before_ns)
        at_ns = client->not_before_ns;
    schedule(sessions, (int)(client - sessions->clients), EVENT_WAKE, at_ns);
}

void sessions_start(struct sessions *sessions)
{
    sessions->is_stopped = false;
    for (int i = 0; i < sessions->workload.clients; i++) {
        struct client *client = &sessions->clients[i];
        wake_at(sessions, client, now_ns(sessions) + think_ns(sessions, client));
    }
}

void sessions_stop(struct sessions *sessions)
{
    sessions->is_stopped = true;
}

bool sessions_idle(const struct sessions *sessions)
{
    return sessions->open_count == 0;
}

uint64_t sessions_acked(const struct sessions *sessions)
{
    return sessions->acked;
}

uint64_t sessions_last_ack_ns(const struct sessions *sessions)
{
    return sessions->last_ack_ns;
}

/* -- What is asked ------------------------------------------------------------------------------- */

static enum op_type draw_type(const struct workload *workload, struct random *random)
{
    const uint32_t weights[] = { [OP_GET] = workload->get,
                                 [OP_GETM] = workload->getm,
                                 [OP_SET] = workload->set,
                                 [OP_CAS] = workload->cas,
                                 [OP_DELETE] = workload->del };
    uint64_t sum = 0;
    for (int type = OP_GET; type <= OP_DELETE; type++)
        sum += weights[type];
    assert(sum > 0);
    uint64_t draw = random_below(random, sum);
    int type = OP_GET;
    for (; draw >= weights[type]; type++)
        draw -= weights[type];
    return (enum op_type)type;
}

static int draw_key(const struct workload *workload, struct random *random)
{
    if (random_chance(random, HOT_KEY_PER_MILLE))
        return 0;
    return (int)random_below(random, (uint64_t)workload->keys);
}

/* Mostly small ones, the largest possible among the others. */
static uint32_t draw_value_size(const struct workload *workload, struct random *random)
{
    uint32_t max = workload->value_bytes_max;
    if (max <= OP_VALUE_MIN)
        return OP_VALUE_MIN;
    bool is_large = random_chance(random, LARGE_VALUE_PER_MILLE);
    if (is_large && random_chance(random, LARGE_VALUE_PER_MILLE))
        return max;
    if (!is_large && max > SMALL_VALUE_MAX)
        max = SMALL_VALUE_MAX;
    return (uint32_t)random_between(random, OP_VALUE_MIN, max);
}

static uint64_t draw_compare(struct client *client, int key)
{
    const struct known_key *known = &client->known[key];
    uint64_t draw = random_below(&client->random, 1000);
    if (draw < COMPARE_NONE_PER_MILLE)
        return 0;
    if (draw < COMPARE_NONE_PER_MILLE + COMPARE_OLDER_PER_MILLE)
        return known->older;
    return known->version;
}

static void draw_op(struct sessions *sessions, struct client *client, struct request *request)
{
    const struct workload *workload = &sessions->workload;
    struct random *random = &client->random;
    struct op *op = &request->op;
    request->key = draw_key(workload, random);
    *op = (struct op){ .type = draw_type(workload, random),
                       .client = (int)(client - sessions->clients) };
    snprintf(op->key, sizeof op->key, sessions->workload.same_slot ? "{s}k%d" : "k%d",
             request->key);
    bool is_write = op->type != OP_GET && op->type != OP_GETM;
    bool has_value = op->type == OP_SET || op->type == OP_CAS;
    if (is_write)
        op->noreply = random_chance(random, workload->noreply);
    if (op->type == OP_CAS)
        op->compare = draw_compare(client, request->key);
    if (!has_value)
        return;
    op->value_size = draw_value_size(workload, random);
    if (workload->ttl_s_max > 0 && random_chance(random, workload->expire))
        op->ttl_s = random_between(random, 1, workload->ttl_s_max);
}

/* For a whole burst: who asks another node opens another connection. */
static int draw_node(struct sessions *sessions, struct client *client)
{
    if (sessions->workload.any_node && random_chance(&client->random, ELSEWHERE_PER_MILLE))
        return (int)random_below(&client->random, (uint64_t)sessions->node_count);
    return client->leader;
}

/* -- Outcomes ------------------------------------------------------------------------------------ */

static struct request *find_request(struct sessions *sessions, struct client *client,
                                    uint64_t number)
{
    for (int i = 0; i < sessions->workload.pipeline_max; i++)
        if (client->requests[i].op.number == number)
            return &client->requests[i];
    return NULL;
}

static bool is_failure(const struct outcome *outcome)
{
    return outcome->type == OUTCOME_REFUSED || outcome->type == OUTCOME_UNKNOWN;
}

static void learn_version(struct known_key *known, uint64_t version)
{
    if (version == known->version)
        return;
    known->older = known->version;
    known->version = version;
}

static void learn_key(struct client *client, const struct request *request,
                      const struct outcome *outcome)
{
    struct known_key *known = &client->known[request->key];
    switch (outcome->type) {
    case OUTCOME_VALUE:
        if (request->op.type == OP_GETM)
            learn_version(known, outcome->version);
        break;
    case OUTCOME_STORED:
    case OUTCOME_DIFFERS:
        learn_version(known, outcome->version);
        break;
    case OUTCOME_NONE:
    case OUTCOME_DELETED:
        learn_version(known, 0);
        break;
    case OUTCOME_REFUSED:
    case OUTCOME_UNKNOWN:
        break;
    }
}

/* Elsewhere, and a little later. */
static void learn_failure(struct sessions *sessions, struct client *client, int node, int leader)
{
    uint64_t nodes = (uint64_t)sessions->node_count;
    if (leader >= 0)
        client->leader = leader;
    else if (node == client->leader && nodes > 1)
        client->leader = (int)((uint64_t)(node + 1) + random_below(&client->random, nodes - 1)) %
                         sessions->node_count;
    int doublings = client->failures++;
    if (doublings > BACKOFF_DOUBLINGS_MAX)
        doublings = BACKOFF_DOUBLINGS_MAX;
    uint64_t backoff_ns = random_between(&client->random, 0, BACKOFF_MIN_NS << doublings);
    client->not_before_ns = now_ns(sessions) + backoff_ns;
}

static void end_request(struct sessions *sessions, struct client *client, struct request *request,
                        const struct outcome *outcome, int leader)
{
    uint64_t number = request->op.number;
    int node = request->node;
    trace_line(sessions->trace, -1, "client %d op %" PRIu64 " of n%d: %s %" PRIu64,
               request->op.client, number, node, outcome_type_name(outcome->type),
               outcome->type == OUTCOME_VALUE ? outcome->written_by : outcome->version);
    if (is_failure(outcome)) {
        learn_failure(sessions, client, node, leader);
    } else {
        learn_key(client, request, outcome);
        client->leader = node;
        client->failures = 0;
        sessions->acked++;
        sessions->last_ack_ns = now_ns(sessions);
    }
    request->op.number = 0;
    client->open_count--;
    sessions->open_count--;
    oracle_returned(sessions->oracle, number, outcome);
    wake_at(sessions, client, now_ns(sessions) + think_ns(sessions, client));
}

void sessions_on_outcome(struct sessions *sessions, uint64_t op_number,
                         const struct outcome *outcome, int leader)
{
    if (op_number == 0 || op_number >= sessions->record_count)
        trace_fail(sessions->trace, "S24", "an outcome (%s) of op %" PRIu64 ", which nobody asked",
                   outcome_type_name(outcome->type), op_number);
    struct record *record = &sessions->records[op_number];
    if (record->fate == FATE_DONE)
        trace_fail(sessions->trace, "S24", "op %" PRIu64 " has a second outcome: %s", op_number,
                   outcome_type_name(outcome->type));
    bool is_open = record->fate == FATE_OPEN;
    record->fate = FATE_DONE;
    if (!is_open)
        return;
    struct client *client = &sessions->clients[record->client];
    struct request *request = find_request(sessions, client, op_number);
    assert(request != NULL);
    end_request(sessions, client, request, outcome, leader);
}

void sessions_expect_answers(struct sessions *sessions, uint32_t nodes)
{
    sessions->answering = nodes;
    sessions->answering_from_ns = now_ns(sessions);
}

static void check_timeout(const struct sessions *sessions, const struct request *request)
{
    bool is_due =
        (sessions->answering >> request->node & 1) != 0 &&
        request->deadline_ns - sessions->workload.timeout_ns >= sessions->answering_from_ns;

    if (is_due)
        trace_fail(sessions->trace, "L2", "node %d serves, and does not answer op %llu",
                   request->node, (unsigned long long)request->op.number);
}

static void on_timeout(struct sessions *sessions, struct client *client)
{
    static const struct outcome unknown = { .type = OUTCOME_UNKNOWN };
    uint64_t next_ns = UINT64_MAX;
    client->has_timer = false;
    for (int i = 0; i < sessions->workload.pipeline_max; i++) {
        struct request *request = &client->requests[i];
        if (request->op.number == 0)
            continue;
        if (request->deadline_ns <= now_ns(sessions)) {
            check_timeout(sessions, request);
            sessions->records[request->op.number].fate = FATE_LATE;
            end_request(sessions, client, request, &unknown, -1);
        } else if (request->deadline_ns < next_ns) {
            next_ns = request->deadline_ns;
        }
    }
    if (next_ns == UINT64_MAX)
        return;
    client->has_timer = true;
    schedule(sessions, (int)(client - sessions->clients), EVENT_TIMEOUT, next_ns);
}

/* -- Asking -------------------------------------------------------------------------------------- */

static uint64_t new_number(struct sessions *sessions, int client)
{
    if (sessions->record_count >= sessions->record_capacity) {
        sessions->record_capacity = 2 * sessions->record_capacity + 1024;
        sessions->records =
            must(realloc(sessions->records, sessions->record_capacity * sizeof *sessions->records));
    }
    uint64_t number = sessions->record_count++;
    sessions->records[number] = (struct record){ .client = (uint16_t)client, .fate = FATE_OPEN };
    return number;
}

uint64_t sessions_reserve(struct sessions *sessions)
{
    uint64_t number = new_number(sessions, 0);
    sessions->records[number].fate = FATE_DONE;
    return number;
}

static void open_request(struct sessions *sessions, struct client *client)
{
    client->open_count++;
    sessions->open_count++;
    if (client->has_timer)
        return;
    client->has_timer = true;
    schedule(sessions, (int)(client - sessions->clients), EVENT_TIMEOUT,
             now_ns(sessions) + sessions->workload.timeout_ns);
}

static void refuse(struct sessions *sessions, struct client *client, struct request *request)
{
    static const struct outcome refused = { .type = OUTCOME_REFUSED };
    if (!request->op.noreply) {
        sessions_on_outcome(sessions, request->op.number, &refused, -1);
        return;
    }
    sessions->records[request->op.number].fate = FATE_DONE;
    oracle_returned(sessions->oracle, request->op.number, &refused);
    learn_failure(sessions, client, request->node, -1);
}

/* False if it did not reach the node: no more of them now. */
static bool ask(struct sessions *sessions, struct client *client, int node)
{
    struct request *request = find_request(sessions, client, 0);
    assert(request != NULL);
    draw_op(sessions, client, request);
    request->node = node;
    request->deadline_ns = now_ns(sessions) + sessions->workload.timeout_ns;
    struct op op = request->op;
    op.number = new_number(sessions, op.client);
    trace_line(sessions->trace, -1, "client %d op %" PRIu64 " to n%d: %s %s%s", op.client,
               op.number, node, op_type_name(op.type), op.key, op.noreply ? " noreply" : "");
    oracle_invoked(sessions->oracle, &op);
    struct request unheard = *request;
    unheard.op = op;
    if (op.noreply) {
        sessions->records[op.number].fate = FATE_UNHEARD;
    } else {
        request->op = op;
        open_request(sessions, client);
    }
    if (sessions->transport.submit(sessions->transport.context, op.client, node, &op))
        return true;
    refuse(sessions, client, &unheard);
    return false;
}

static void on_wake(struct sessions *sessions, struct client *client)
{
    client->is_waking = false;
    if (sessions->is_stopped)
        return;
    uint64_t now = now_ns(sessions);
    if (now < client->not_before_ns) {
        wake_at(sessions, client, now);
        return;
    }
    int room = sessions->workload.pipeline_max - client->open_count;
    if (room == 0)
        return; /* an outcome will wake it */
    uint64_t burst = random_between(&client->random, 1, (uint64_t)room);
    int node = draw_node(sessions, client);
    while (burst-- > 0 && ask(sessions, client, node)) {
    }
    wake_at(sessions, client, now + think_ns(sessions, client));
}

static void on_event(void *owner, uint64_t argument)
{
    struct sessions *sessions = owner;
    struct client *client = &sessions->clients[argument >> 1];
    if ((argument & 1) == EVENT_WAKE)
        on_wake(sessions, client);
    else
        on_timeout(sessions, client);
}
