/* Clients and sessions over simulated sockets, against a small server: a table of keys behind the
 * product's own parser and printer. It can be made to break each rule, and must be caught at it. In the
 * oracle's place stand two functions that compare what clients are told with what the server did. */
#include "tests/sim/text_client.h"

#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/client/text.h"
#include "tests/sim/text_reply.h"

#define SECOND UINT64_C(1000000000)
#define NODES 3
#define PORT 9000
#define KEYS 6
#define VALUE_MAX 2000
#define NUMBERS_MAX 200000
#define PEERS_MAX 16384

enum bug {
    NO_BUG,
    ANSWERS_TWICE,
    FORGETS_A_REPLY,
    ANSWERS_NOREPLY,
    ENDS_WITH_LF,
    SWAPS_REPLIES,
    READS_OLD_VALUES,
    MIXES_VALUES,
    CUTS_VALUES,
    SAYS_TOO_MUCH,
    REDIRECTS_TO_NOWHERE,
    FORGETS_KEYS,
    STANDS_STILL_IN_VERSIONS,
    REFUSES_WHAT_IT_DOES,
    DOES_HALF_REQUESTS,
    CALLS_GOOD_REQUESTS_BAD,
    ACCEPTS_GARBAGE,
    HAS_SIGNED_NUMBERS,
    BUG_COUNT
};

struct oracle {
    uint64_t invoked, returned;
    uint64_t kinds[OUTCOME_UNKNOWN + 1];
    struct op ops[NUMBERS_MAX];
    uint8_t outcomes[NUMBERS_MAX]; /* type + 1 */
    uint8_t done[NUMBERS_MAX];     /* by the server */
};

struct cell {
    uint64_t version, version_before;
    size_t size, size_before;
    uint8_t value[VALUE_MAX], value_before[VALUE_MAX];
};

struct peer {
    struct net_end *end;
    int node;
    uint8_t *in, *out;
    size_t in_size, out_size;
    uint64_t swallow;
    bool is_ending, at_end;
    uint8_t last_reply[TEXT_HEAD_MAX];
    size_t last_reply_size;
};

static struct oracle oracle;

static struct world {
    struct timeline *timeline;
    struct links links;
    struct trace *trace;
    struct net *net;
    struct net_end *listeners[NODES];
    uint16_t ports[NODES];
    struct peer peers[PEERS_MAX];
    int peer_count;
    int leader;
    struct cell cells[KEYS];
    uint64_t version;
    enum bug bug;
    uint64_t countdown; /* requests until the bug shows */
    struct text_clients *clients;
    struct sessions *sessions;
    uint64_t malformed, quits, statuses;
} world;

/* -- The oracle ---------------------------------------------------------------------------------- */

void oracle_invoked(struct oracle *this, const struct op *op)
{
    ck_assert_ptr_eq(this, &oracle);
    ck_assert_uint_lt(op->number, NUMBERS_MAX);
    oracle.ops[op->number] = *op;
    oracle.invoked++;
}

void oracle_returned(struct oracle *this, uint64_t number, const struct outcome *outcome)
{
    ck_assert_ptr_eq(this, &oracle);
    ck_assert_uint_eq(oracle.outcomes[number], 0);
    oracle.outcomes[number] = (uint8_t)(outcome->type + 1);
    oracle.kinds[outcome->type]++;
    oracle.returned++;
    bool has_effect = outcome->type == OUTCOME_STORED || outcome->type == OUTCOME_DELETED;
    if (outcome->type == OUTCOME_STORED && !oracle.done[number])
        trace_fail(world.trace, "S15", "op %" PRIu64 " was not done", number);
    bool has_value = oracle.ops[number].type == OP_SET || oracle.ops[number].type == OP_CAS;
    if (has_value && !has_effect && outcome->type != OUTCOME_UNKNOWN && oracle.done[number])
        trace_fail(world.trace, "S17", "op %" PRIu64 " was done", number);
}

/* -- The server ---------------------------------------------------------------------------------- */

static bool shows(enum bug bug)
{
    return world.bug == bug && world.countdown == 0;
}

static void put(struct peer *peer, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    peer->out = realloc(peer->out, peer->out_size + size);
    memcpy(peer->out + peer->out_size, bytes, size);
    peer->out_size += size;
}

static void put_words(struct peer *peer, const char *words)
{
    put(peer, words, strlen(words));
}

static void put_reply(struct peer *peer, const struct reply *reply)
{
    struct text_printed printed;
    text_print(reply, &printed);
    if (shows(ENDS_WITH_LF))
        printed.head[--printed.head_size - 1] = '\n';
    if (shows(HAS_SIGNED_NUMBERS) && reply->type == REPLY_STORED) {
        put_words(peer, "OK +17\r\n");
        return;
    }
    if (shows(FORGETS_A_REPLY) && reply->type != REPLY_ERROR) {
        world.bug = NO_BUG;
        return;
    }
    bool is_head_only = !printed.has_value && reply->type != REPLY_ERROR;
    if (shows(SWAPS_REPLIES) && is_head_only && peer->last_reply_size == 0) {
        memcpy(peer->last_reply, printed.head, printed.head_size);
        peer->last_reply_size = printed.head_size;
        return;
    }
    for (int i = 0; i < (shows(ANSWERS_TWICE) ? 2 : 1); i++) {
        put(peer, printed.head, printed.head_size);
        if (printed.has_value) {
            put(peer, reply->value, reply->value_size - (shows(CUTS_VALUES) ? 1 : 0));
            put_words(peer, "\r\n");
        }
    }
    put(peer, peer->last_reply, peer->last_reply_size);
    peer->last_reply_size = 0;
    if (shows(SAYS_TOO_MUCH))
        put_words(peer, "OK");
}

static void put_error(struct peer *peer, enum reply_error error, const char *text, uint64_t version)
{
    struct reply reply = { .type = REPLY_ERROR, .error = error, .text = text, .version = version };
    put_reply(peer, &reply);
}

static uint64_t store(struct cell *cell, const struct request *request)
{
    memcpy(cell->value_before, cell->value, cell->size);
    cell->size_before = cell->size;
    cell->version_before = cell->version;
    memcpy(cell->value, request->value, request->value_size);
    cell->size = request->value_size;
    oracle.done[op_of_value(request->value, request->value_size)] = 1;
    if (!shows(STANDS_STILL_IN_VERSIONS))
        world.version++;
    return cell->version = world.version;
}

static void do_read(struct peer *peer, const struct request *request, struct cell *cell)
{
    if (cell->version == 0 || shows(FORGETS_KEYS)) {
        put_error(peer, REPLY_NOT_FOUND, NULL, 0);
        return;
    }
    struct reply reply = { .type = request->type == REQUEST_GET ? REPLY_VALUE : REPLY_META,
                           .version = cell->version,
                           .value = cell->value,
                           .value_size = (uint32_t)cell->size };
    if (shows(READS_OLD_VALUES) && cell->version_before != 0) {
        reply.version = cell->version_before;
        reply.value = cell->value_before;
        reply.value_size = (uint32_t)cell->size_before;
    }
    uint8_t mixed[VALUE_MAX];
    memcpy(mixed, cell->value, cell->size);
    mixed[cell->size - 1] ^= 1;
    if (shows(MIXES_VALUES))
        reply.value = mixed;
    put_reply(peer, &reply);
}

static void do_write(struct peer *peer, const struct request *request, struct cell *cell)
{
    bool is_cas = request->type == REQUEST_CAS;
    bool is_silent = request->noreply && !shows(ANSWERS_NOREPLY);
    struct reply reply = { .type = REPLY_STORED };
    if (request->type == REQUEST_DELETE) {
        reply.type = cell->version == 0 ? REPLY_ERROR : REPLY_DELETED;
        reply.error = REPLY_NOT_FOUND;
        cell->version = 0;
    } else if (is_cas && request->compare != cell->version) {
        reply.type = REPLY_ERROR;
        reply.error = cell->version == 0 ? REPLY_NOT_FOUND : REPLY_VERSION_DIFFERS;
        reply.version = cell->version;
    } else {
        reply.version = store(cell, request);
        if (shows(REFUSES_WHAT_IT_DOES)) {
            reply.type = REPLY_ERROR;
            reply.error = REPLY_BUSY;
            reply.text = "too much to do";
        }
    }
    if (!is_silent)
        put_reply(peer, &reply);
}

static void do_request(struct peer *peer, const struct request *request)
{
    if (world.countdown > 0)
        world.countdown--;
    if (request->type == REQUEST_STATUS) {
        world.statuses++;
        put_words(peer, "STAT role leader\r\nSTAT term 7\r\nEND\r\n");
        return;
    }
    if (request->type == REQUEST_VERSION) {
        put_words(peer, "VERSION 1.0\r\n");
        return;
    }
    ck_assert(request->key_size == 2 && request->key[0] == 'k');
    if (shows(CALLS_GOOD_REQUESTS_BAD)) {
        put_error(peer, REPLY_MALFORMED, "expected something else", 0);
        return;
    }
    struct cell *cell = &world.cells[request->key[1] - '0'];
    if (peer->node != world.leader) {
        char address[32];
        snprintf(address, sizeof address, "n%d %d", world.leader,
                 PORT + (shows(REDIRECTS_TO_NOWHERE) ? 77 : world.leader));
        if (!request->noreply)
            put_error(peer, REPLY_REDIRECT, address, 0);
    } else if (request->type == REQUEST_GET || request->type == REQUEST_GETM) {
        do_read(peer, request, cell);
    } else {
        do_write(peer, request, cell);
    }
}

/* One step of parsing; false: more is needed. */
static bool parse(struct peer *peer, size_t *used)
{
    if (peer->swallow != 0) {
        *used = text_swallow(&peer->swallow, peer->in, peer->in_size);
        if (peer->swallow == TEXT_SWALLOW_BROKEN)
            peer->is_ending = true;
        return *used > 0 || peer->swallow == 0;
    }
    struct text_parsed parsed;
    text_parse(peer->in, peer->in_size, VALUE_MAX, &parsed);
    if (parsed.status == TEXT_NEED_MORE)
        return false;
    *used = parsed.used;
    peer->swallow = parsed.status == TEXT_SWALLOW ? parsed.swallow : 0;
    peer->is_ending = parsed.status == TEXT_FATAL || parsed.status == TEXT_QUIT;
    if (parsed.status == TEXT_REQUEST) {
        do_request(peer, &parsed.request);
    } else if (parsed.status == TEXT_QUIT) {
        world.quits++;
    } else {
        world.malformed++;
        if (shows(ACCEPTS_GARBAGE))
            put_words(peer, "OK 1\r\n");
        else
            put_error(peer, parsed.error, parsed.text, parsed.limit);
    }
    return true;
}

/* What a client has sent of a request before it hung up. */
static void do_half_request(struct peer *peer)
{
    uint8_t *newline = peer->in_size == 0 ? NULL : memchr(peer->in, '\n', peer->in_size);
    if (!shows(DOES_HALF_REQUESTS) || newline == NULL || memcmp(peer->in, "set", 3) != 0)
        return;
    uint64_t number = strtoull((char *)newline + 1, NULL, 10);
    if (number > 0 && number < NUMBERS_MAX)
        oracle.done[number] = 1;
}

static void peer_close(struct peer *peer)
{
    do_half_request(peer);
    net_close(peer->end);
    peer->end = NULL;
    free(peer->in);
    free(peer->out);
    peer->in = peer->out = NULL;
}

static void peer_flush(struct peer *peer)
{
    struct iovec part = { peer->out, peer->out_size };
    ptrdiff_t sent = peer->out_size == 0 ? 0 : net_sendv(peer->end, &part, 1);
    if (sent < 0 && sent != -EAGAIN) {
        peer_close(peer);
        return;
    }
    if (sent > 0) {
        peer->out_size -= (size_t)sent;
        memmove(peer->out, peer->out + sent, peer->out_size);
    }
    if (peer->out_size == 0 && (peer->is_ending || peer->at_end))
        peer_close(peer);
}

static void peer_changed(void *owner, struct net_end *end)
{
    struct peer *peer = owner;
    uint8_t bytes[512];
    ptrdiff_t count;
    while ((count = net_recv(end, bytes, sizeof bytes)) > 0) {
        peer->in = realloc(peer->in, peer->in_size + (size_t)count);
        memcpy(peer->in + peer->in_size, bytes, (size_t)count);
        peer->in_size += (size_t)count;
        size_t used = 0;
        while (!peer->is_ending && peer->in_size > 0 && parse(peer, &used)) {
            peer->in_size -= used;
            memmove(peer->in, peer->in + used, peer->in_size);
        }
    }
    if (count == 0)
        peer->at_end = true;
    if (count < 0 && count != -EAGAIN)
        peer_close(peer);
    else
        peer_flush(peer);
}

static void listener_changed(void *owner, struct net_end *listener)
{
    int node = (int)((struct net_end **)owner - world.listeners);
    struct peer *peer = &world.peers[world.peer_count];
    while ((peer->end = net_accept(listener, peer_changed, peer)) != NULL) {
        peer->node = node;
        peer_changed(peer, peer->end);
        peer = &world.peers[++world.peer_count];
        ck_assert_int_lt(world.peer_count, PEERS_MAX);
    }
}

static void node_start(int node)
{
    int code;
    world.listeners[node] = net_listen(world.net, node, world.ports[node], 64, listener_changed,
                                       &world.listeners[node], &code);
    ck_assert_ptr_nonnull(world.listeners[node]);
}

static void node_stop(int node, bool power)
{
    for (int i = 0; i < world.peer_count; i++) {
        struct peer *peer = &world.peers[i];
        if (peer->end == NULL || peer->node != node)
            continue;
        do_half_request(peer);
        free(peer->in);
        free(peer->out);
        peer->in = peer->out = NULL;
        peer->end = NULL;
    }
    if (power)
        net_power_cut(world.net, node);
    else
        net_process_died(world.net, node);
}

/* -- The world ----------------------------------------------------------------------------------- */

static const struct workload usual = { .clients = 4,
                                       .keys = KEYS,
                                       .get = 3,
                                       .getm = 3,
                                       .set = 3,
                                       .cas = 2,
                                       .value_bytes_max = VALUE_MAX,
                                       .pipeline_max = 8,
                                       .think_ns_max = SECOND / 50,
                                       .timeout_ns = SECOND };

static void begin(const struct workload *workload, uint64_t seed)
{
    memset(&world, 0, sizeof world);
    memset(&oracle, 0, sizeof oracle);
    world.timeline = timeline_new(seed);
    links_init(&world.links);
    world.trace = trace_new(world.timeline, false);
    world.net = net_new(world.timeline, &world.links, world.trace, seed);
    for (int node = 0; node < NODES; node++) {
        world.ports[node] = (uint16_t)(PORT + node);
        node_start(node);
    }
    world.clients = text_clients_new(workload, world.net, world.timeline, world.trace, seed,
                                     world.ports, NODES);
    struct transport transport = text_clients_transport(world.clients);
    world.sessions =
        sessions_new(workload, NODES, world.timeline, &oracle, world.trace, seed, &transport);
    text_clients_set_sessions(world.clients, world.sessions);
}

static void end(void)
{
    sessions_free(world.sessions);
    text_clients_free(world.clients);
    for (int node = 0; node < NODES; node++)
        node_stop(node, false);
    net_free(world.net);
    trace_free(world.trace);
    timeline_free(world.timeline);
}

static void pass_ns(uint64_t ns)
{
    uint64_t until = timeline_now_ns(world.timeline) + ns;
    while (timeline_step(world.timeline, until)) {
    }
}

static void stop_and_wait(void)
{
    sessions_stop(world.sessions);
    pass_ns(10 * SECOND);
    ck_assert(sessions_idle(world.sessions));
}

/* -- Good servers -------------------------------------------------------------------------------- */

START_TEST(good_days)
{
    begin(&usual, (uint64_t)_i + 1);
    net_set_window(world.net, 100, 3000);
    net_set_pieces(world.net, _i % 2 == 0 ? 0 : 20);
    sessions_start(world.sessions);
    pass_ns(10 * SECOND);
    stop_and_wait();
    struct text_clients_stats stats;
    text_clients_stats(world.clients, &stats);
    ck_assert_uint_gt(sessions_acked(world.sessions), 1000);
    ck_assert_uint_gt(world.statuses, 1);
    ck_assert_uint_eq(stats.cut_short, 0);
    ck_assert_uint_eq(stats.lost, 0);
    ck_assert_uint_eq(oracle.kinds[OUTCOME_UNKNOWN], 0);
    ck_assert_uint_eq(oracle.returned, oracle.invoked);
    ck_assert_int_le(net_ends(world.net, LINKS_CLIENTS), 4);
    end();
}
END_TEST

START_TEST(half_closed_connections_are_answered)
{
    struct workload workload = usual;
    workload.half_close = 1000;
    begin(&workload, (uint64_t)_i + 1);
    sessions_start(world.sessions);
    pass_ns(10 * SECOND);
    stop_and_wait();
    struct text_clients_stats stats;
    text_clients_stats(world.clients, &stats);
    ck_assert_uint_gt(stats.connections, 50);
    ck_assert_uint_eq(stats.cut_short + stats.lost, 0);
    ck_assert_uint_eq(oracle.kinds[OUTCOME_UNKNOWN], 0);
    ck_assert_uint_eq(oracle.returned, oracle.invoked);
    end();
}
END_TEST

/* All bad habits, and nodes that die, lose power and are cut off: whatever clients believe is true. */
START_TEST(bad_days)
{
    struct workload workload = usual;
    struct random random = random_stream((uint64_t)_i, 1);
    workload.del = 1;
    workload.noreply = 100;
    workload.slow_reader = workload.half_close = workload.hang_up = workload.garbage = 250;
    workload.any_node = _i % 2 == 0;
    begin(&workload, (uint64_t)_i + 1);
    net_set_window(world.net, 100, 3000);
    net_set_pieces(world.net, 30);
    world.links.of[LINKS_CLIENTS][0].reset = 1000;
    sessions_start(world.sessions);
    for (int i = 0; i < 30; i++) {
        pass_ns(random_below(&random, SECOND));
        int node = (int)random_below(&random, NODES);
        if (random_chance(&random, 500)) {
            node_stop(node, random_chance(&random, 500));
            pass_ns(random_below(&random, SECOND));
            node_start(node);
        } else {
            bool *cut = random_chance(&random, 500) ? &world.links.of[LINKS_CLIENTS][node].cut
                                                    : &world.links.of[node][LINKS_CLIENTS].cut;
            *cut = true;
            pass_ns(random_below(&random, 2 * SECOND));
            *cut = false;
            net_links_changed(world.net);
        }
        world.leader = (int)random_below(&random, NODES);
    }
    stop_and_wait();
    struct text_clients_stats stats;
    text_clients_stats(world.clients, &stats);
    ck_assert_uint_gt(sessions_acked(world.sessions), 300);
    ck_assert_uint_gt(oracle.kinds[OUTCOME_UNKNOWN], 10);
    ck_assert_uint_gt(oracle.kinds[OUTCOME_REFUSED], 10);
    ck_assert_uint_gt(world.malformed, 10);
    ck_assert_uint_gt(world.quits, 0);
    ck_assert_uint_gt(stats.lost, 5);
    uint64_t noreply = 0;
    for (uint64_t number = 1; number <= oracle.invoked; number++)
        noreply += oracle.ops[number].noreply;
    ck_assert_uint_ge(oracle.returned, oracle.invoked - noreply);
    for (uint64_t number = 1; number <= oracle.invoked; number++)
        ck_assert_msg(oracle.outcomes[number] != OUTCOME_REFUSED + 1 || !oracle.done[number],
                      "op %" PRIu64 " was refused, and done", number);
    end();
}
END_TEST

START_TEST(the_same_seed_is_the_same_run)
{
    uint64_t hashes[2];
    struct workload workload = usual;
    workload.slow_reader = workload.half_close = workload.hang_up = workload.garbage = 200;
    for (int i = 0; i < 2; i++) {
        begin(&workload, 11);
        sessions_start(world.sessions);
        pass_ns(5 * SECOND);
        hashes[i] = trace_hash(world.trace);
        end();
    }
    ck_assert_uint_eq(hashes[0], hashes[1]);
}
END_TEST

/* -- Bad servers --------------------------------------------------------------------------------- */

START_TEST(is_caught)
{
    struct workload workload = usual;
    workload.noreply = 100;
    workload.garbage = 300;
    workload.hang_up = 300;
    workload.any_node = true;
    begin(&workload, 21);
    world.bug = (enum bug)_i;
    world.countdown = 500;
    sessions_start(world.sessions);
    pass_ns(30 * SECOND);
    for (uint64_t number = 1; number <= oracle.invoked; number++)
        if (oracle.outcomes[number] == OUTCOME_REFUSED + 1 && oracle.done[number])
            trace_fail(world.trace, "S17", "op %" PRIu64 " was refused, and done", number);
}
END_TEST

/* -- Single replies ------------------------------------------------------------------------------ */

static const struct {
    const char *bytes;
    enum text_reply_kind kind;
    size_t used;
} replies[] = {
    { "", TEXT_REPLY_PARTIAL, 0 },
    { "OK 1", TEXT_REPLY_PARTIAL, 0 },
    { "OK 1\r", TEXT_REPLY_PARTIAL, 0 },
    { "OK 18446744073709551615\r\nOK", TEXT_REPLY_OK, 25 },
    { "OK 18446744073709551616\r\n", TEXT_REPLY_BROKEN, 0 },
    { "OK 0\r\n", TEXT_REPLY_BROKEN, 0 },
    { "OK 01\r\n", TEXT_REPLY_BROKEN, 0 },
    { "OK\r\n", TEXT_REPLY_BROKEN, 0 },
    { "OK 1 \r\n", TEXT_REPLY_BROKEN, 0 },
    { "OK  1\r\n", TEXT_REPLY_BROKEN, 0 },
    { "OK 1\n", TEXT_REPLY_BROKEN, 0 },
    { "ok 1\r\n", TEXT_REPLY_BROKEN, 0 },
    { "\r\n", TEXT_REPLY_BROKEN, 0 },
    { "DELETED\r\n", TEXT_REPLY_DELETED, 9 },
    { "DELETED 1\r\n", TEXT_REPLY_BROKEN, 0 },
    { "VALUE 3\r\nab", TEXT_REPLY_PARTIAL, 0 },
    { "VALUE 3\r\nabc\r", TEXT_REPLY_PARTIAL, 0 },
    { "VALUE 3\r\n\r\nc\r\nOK", TEXT_REPLY_VALUE, 14 },
    { "VALUE 3\r\nabcd\r\n", TEXT_REPLY_BROKEN, 0 },
    { "VALUE 0\r\n\r\n", TEXT_REPLY_VALUE, 11 },
    { "VALUE 7 0 3\r\nabc\r\n", TEXT_REPLY_META, 18 },
    { "VALUE 7 3\r\nabc\r\n", TEXT_REPLY_BROKEN, 0 },
    { "VALUE 0 0 3\r\nabc\r\n", TEXT_REPLY_BROKEN, 0 },
    { "VALUE 18446744073709551615\r\nab", TEXT_REPLY_PARTIAL, 0 },
    { "STAT a b c\r\n", TEXT_REPLY_STAT, 12 },
    { "STAT a\r\n", TEXT_REPLY_BROKEN, 0 },
    { "END\r\n", TEXT_REPLY_END, 5 },
    { "VERSION 1.0\r\n", TEXT_REPLY_PRODUCT, 13 },
    { "ERR_REDIRECT n2 9002\r\n", TEXT_REPLY_REDIRECT, 22 },
    { "ERR_REDIRECT 2 9002\r\n", TEXT_REPLY_BROKEN, 0 },
    { "ERR_REDIRECT n2\r\n", TEXT_REPLY_BROKEN, 0 },
    { "ERR_NOT_FOUND\r\n", TEXT_REPLY_NOT_FOUND, 15 },
    { "ERR_NOT_FOUND no such key\r\n", TEXT_REPLY_NOT_FOUND, 27 },
    { "ERR_NOT_FOUNDER\r\n", TEXT_REPLY_BROKEN, 0 },
    { "ERR_VERSION 5\r\n", TEXT_REPLY_VERSION_DIFFERS, 15 },
    { "ERR_VERSION\r\n", TEXT_REPLY_BROKEN, 0 },
    { "ERR_BUSY try again\r\n", TEXT_REPLY_BUSY, 20 },
    { "ERR_BUSY\r\n", TEXT_REPLY_BROKEN, 0 },
    { "ERR_BUSY a\tb\r\n", TEXT_REPLY_BROKEN, 0 },
    { "ERR_WHATEVER it was\r\n", TEXT_REPLY_BROKEN, 0 },
};

START_TEST(replies_by_the_letter)
{
    const char *bytes = replies[_i].bytes;
    struct text_reply reply;
    text_reply_parse((const uint8_t *)bytes, strlen(bytes), &reply);
    ck_assert_msg(reply.kind == replies[_i].kind, "'%s': %s", bytes, text_reply_name(reply.kind));
    ck_assert_msg(replies[_i].used == 0 || reply.used == replies[_i].used, "'%s': %zu", bytes,
                  reply.used);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("text_client");
    TCase *tests = tcase_create("replies");
    tcase_add_loop_test(tests, replies_by_the_letter, 0, (int)(sizeof replies / sizeof *replies));
    suite_add_tcase(suite, tests);
    tests = tcase_create("good servers");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, good_days, 0, 6);
    tcase_add_loop_test(tests, half_closed_connections_are_answered, 0, 3);
    tcase_add_loop_test(tests, bad_days, 0, 12);
    tcase_add_test(tests, the_same_seed_is_the_same_run);
    suite_add_tcase(suite, tests);
    tests = tcase_create("bad servers");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test_raise_signal(tests, is_caught, SIGABRT, NO_BUG + 1, BUG_COUNT);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
