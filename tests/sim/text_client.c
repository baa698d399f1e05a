/* Clients that speak the text protocol, with the habits of real ones.
 *
 * A client has one connection for new requests, to the node that its session asks. When the session
 * turns to another node, the old connection is *retired*: it takes no new request, and is closed when
 * the last reply has come. A connection is two queues: bytes that the network has not taken yet, and
 * requests whose reply has not come. Replies must match the second, one by one, from its front: that is
 * S24. What is a reply at all is text_reply.c's affair; what it means for the request is the table
 * `meanings`, which is the third column of protocol.md.
 *
 * What is certain when a connection is lost: a request of which not all bytes were handed over cannot
 * have been carried out (OUTCOME_REFUSED: the oracle will see if it was); of all others that have no
 * reply nothing is known.
 *
 * Reads see the writes sent before them on the same connection. So each connection remembers the
 * versions that it was told for its own writes, and a later reply about the same key must not be older;
 * and a later write of this connection must have a greater version than an earlier one.
 *
 * Habits are drawn for each connection: how requests are spelled and cut into pieces, how many there
 * will be, and how it ends: by `quit`, by half-closing and waiting for the replies, by hanging up in
 * the middle of a request, or just so. Some speak garbage among their requests; some read slowly, or
 * not at all for a while. */
#include "tests/sim/text_client.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/text_reply.h"

#define PURPOSE 0x74657874u /* of the random streams; and one for each client */
#define MS_NS UINT64_C(1000000)
#define READ_SIZE 16384u
#define BUFFER_MIN 1024u
#define COMMAND_MAX 128u
#define STATUS_PER_MILLE 10
#define GARBAGE_PER_MILLE 250 /* of the requests of a connection that speaks it */
#define CUT_PER_MILLE 300     /* of connections */
#define QUIT_PER_MILLE 150    /* of connections, if there is room beside the workload's habits */
#define LEAVE_PER_MILLE 150
#define LIFE_MAX 40u /* requests of a connection that will end by a habit */

enum habit {
    HABIT_NONE,
    HABIT_LEAVE,
    HABIT_QUIT,
    HABIT_HALF_CLOSE,
    HABIT_HANG_UP,
};

enum event { EVENT_FLUSH, EVENT_READ, EVENT_TIMEOUT };

enum wanted { WANT_OUTCOME, WANT_STATUS, WANT_PRODUCT, WANT_ERROR, WANT_END };

struct awaited {  /* a request whose reply has not come */
    struct op op; /* WANT_OUTCOME */
    enum wanted wanted;
    uint64_t end; /* the position of its last byte in what the connection has to say */
    uint64_t since_ns;
};

struct buffer {
    uint8_t *bytes;
    size_t start, size, capacity;
};

struct floor {              /* of a key, on one connection */
    uint64_t version;       /* of the newest write that was acknowledged here */
    uint64_t op, op_before; /* it, and the one before it */
};

struct connection {
    struct text_clients *clients;
    uint32_t slot, generation;
    int client, node;
    struct net_end *end;     /* NULL: a free slot */
    struct buffer out, in;   /* not yet handed over; not yet parsed */
    uint64_t said;           /* position behind all bytes ever put into `out` */
    struct awaited *awaited; /* a ring; its capacity is a power of two */
    size_t awaited_start, awaited_count, awaited_capacity;
    struct floor *floors; /* one for each key */
    uint64_t last_stored; /* version of the newest write */
    uint64_t replies;

    enum habit habit;
    uint32_t life; /* requests until the habit shows; 0: for ever */
    bool is_slow, speaks_garbage, is_cut, is_terse, is_loud;
    bool is_retired, is_shut;
    bool was_refused;    /* by its first reply: perhaps there were too many connections */
    uint64_t hang_up_at; /* position; 0: not yet decided */
    bool flush_is_coming, read_is_coming, has_timer, was_patient;
    struct connection *next_free;
};

struct client {
    struct random random;
    struct connection *current;
};

struct text_clients {
    struct workload workload;
    struct net *net;
    struct timeline *timeline;
    struct trace *trace;
    struct sessions *sessions;
    uint16_t ports[LINKS_NODES_MAX];
    int node_count;
    struct client *clients;
    struct connection **connections; /* by slot */
    uint32_t connection_count, connection_capacity;
    struct connection *free;
    struct text_clients_stats stats;
};

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

/* -- Events -------------------------------------------------------------------------------------- */

#define GENERATION_MASK 0xfffffffu /* 28 bits; then event (4), slot (32) */

static void on_event(void *owner, uint64_t argument);

static uint64_t now_ns(const struct text_clients *clients)
{
    return timeline_now_ns(clients->timeline);
}

static void schedule(struct connection *connection, enum event event, uint64_t delay_ns)
{
    struct text_clients *clients = connection->clients;
    uint64_t argument = (uint64_t)connection->slot << 32 | (uint64_t)event << 28 |
                        (connection->generation & GENERATION_MASK);
    timeline_at(clients->timeline, now_ns(clients) + delay_ns, on_event, clients, argument);
}

static struct random *random_of(const struct connection *connection)
{
    return &connection->clients->clients[connection->client].random;
}

/* -- Buffers ------------------------------------------------------------------------------------- */

/* Room for `size` bytes behind those that are there. */
static uint8_t *buffer_room(struct buffer *buffer, size_t size)
{
    if (buffer->start + buffer->size + size > buffer->capacity) {
        if (buffer->size > 0)
            memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->size);
        buffer->start = 0;
    }
    if (buffer->size + size > buffer->capacity) {
        size_t capacity = buffer->capacity == 0 ? BUFFER_MIN : buffer->capacity;
        while (capacity < buffer->size + size)
            capacity *= 2;
        buffer->bytes = must(realloc(buffer->bytes, capacity));
        buffer->capacity = capacity;
    }
    return buffer->bytes + buffer->start + buffer->size;
}

static void buffer_take(struct buffer *buffer, size_t size)
{
    assert(size <= buffer->size);
    buffer->start += size;
    buffer->size -= size;
    if (buffer->size == 0)
        buffer->start = 0;
}

/* -- What is awaited ----------------------------------------------------------------------------- */

static struct awaited *awaited_at(const struct connection *connection, size_t place)
{
    return &connection
                ->awaited[(connection->awaited_start + place) & (connection->awaited_capacity - 1)];
}

static void awaited_grow(struct connection *connection)
{
    size_t capacity = connection->awaited_capacity == 0 ? 16 : 2 * connection->awaited_capacity;
    struct awaited *ring = must(malloc(capacity * sizeof *ring));
    for (size_t i = 0; i < connection->awaited_count; i++)
        ring[i] = *awaited_at(connection, i);
    free(connection->awaited);
    connection->awaited = ring;
    connection->awaited_capacity = capacity;
    connection->awaited_start = 0;
}

static void await(struct connection *connection, enum wanted wanted, const struct op *op)
{
    if (connection->awaited_count == connection->awaited_capacity)
        awaited_grow(connection);
    connection->awaited_count++;
    struct awaited *awaited = awaited_at(connection, connection->awaited_count - 1);
    *awaited = (struct awaited){ .wanted = wanted,
                                 .end = connection->said,
                                 .since_ns = now_ns(connection->clients) };
    if (op != NULL)
        awaited->op = *op;
    if (connection->has_timer)
        return;
    connection->has_timer = true;
    schedule(connection, EVENT_TIMEOUT, connection->clients->workload.timeout_ns);
}

static void await_no_more(struct connection *connection)
{
    connection->awaited_start++;
    connection->awaited_count--;
    connection->replies++;
    connection->was_patient = false;
}

static uint64_t handed_over(const struct connection *connection)
{
    return connection->said - connection->out.size;
}

/* -- Connections --------------------------------------------------------------------------------- */

static void on_change(void *owner, struct net_end *end);

static struct connection *new_slot(struct text_clients *clients)
{
    if (clients->connection_count == clients->connection_capacity) {
        clients->connection_capacity = 2 * clients->connection_capacity + 16;
        clients->connections = must(realloc(
            clients->connections, clients->connection_capacity * sizeof *clients->connections));
    }
    struct connection *connection = must(calloc(1, sizeof *connection));
    connection->floors = must(calloc((size_t)clients->workload.keys, sizeof *connection->floors));
    connection->clients = clients;
    connection->slot = clients->connection_count;
    clients->connections[clients->connection_count++] = connection;
    return connection;
}

static enum habit draw_habit(const struct workload *workload, struct random *random)
{
    uint64_t draw = random_below(random, 1000);
    if (draw < workload->half_close)
        return HABIT_HALF_CLOSE;
    draw -= workload->half_close;
    if (draw < workload->hang_up)
        return HABIT_HANG_UP;
    draw -= workload->hang_up;
    if (draw < QUIT_PER_MILLE)
        return HABIT_QUIT;
    return draw < QUIT_PER_MILLE + LEAVE_PER_MILLE ? HABIT_LEAVE : HABIT_NONE;
}

static void draw_habits(struct connection *connection)
{
    const struct workload *workload = &connection->clients->workload;
    struct random *random = random_of(connection);
    connection->habit = draw_habit(workload, random);
    connection->life =
        connection->habit == HABIT_NONE ? 0 : (uint32_t)random_between(random, 1, LIFE_MAX);
    connection->is_slow = random_chance(random, workload->slow_reader);
    connection->speaks_garbage = random_chance(random, workload->garbage);
    connection->is_cut = random_chance(random, CUT_PER_MILLE);
    connection->is_terse = random_chance(random, 200);
    connection->is_loud = random_chance(random, 200);
}

static struct connection *connection_open(struct text_clients *clients, int client, int node)
{
    struct connection *connection = clients->free;
    if (connection == NULL)
        connection = new_slot(clients);
    else
        clients->free = connection->next_free;
    struct connection kept = *connection;
    kept.in.start = kept.in.size = kept.out.start = kept.out.size = 0;
    *connection = (struct connection){ .clients = clients,
                                       .slot = kept.slot,
                                       .generation = kept.generation,
                                       .client = client,
                                       .node = node,
                                       .out = kept.out,
                                       .in = kept.in,
                                       .awaited = kept.awaited,
                                       .awaited_capacity = kept.awaited_capacity,
                                       .floors = kept.floors };
    memset(connection->floors, 0, (size_t)clients->workload.keys * sizeof *connection->floors);
    draw_habits(connection);
    connection->end =
        net_connect(clients->net, LINKS_CLIENTS, node, clients->ports[node], on_change, connection);
    clients->stats.connections++;
    return connection;
}

/* It takes no new requests. */
static void retire(struct connection *connection)
{
    struct client *client = &connection->clients->clients[connection->client];
    connection->is_retired = true;
    if (client->current == connection)
        client->current = NULL;
}

/* Nothing more will be heard: says what is certain of each request. */
static void end_awaited(struct connection *connection)
{
    uint64_t handed = handed_over(connection);
    for (size_t i = 0; i < connection->awaited_count; i++) {
        const struct awaited *awaited = awaited_at(connection, i);
        struct outcome outcome = { .type =
                                       awaited->end > handed ? OUTCOME_REFUSED : OUTCOME_UNKNOWN };
        if (awaited->wanted == WANT_OUTCOME)
            sessions_on_outcome(connection->clients->sessions, awaited->op.number, &outcome, -1);
    }
}

static void connection_close(struct connection *connection, bool resets)
{
    struct text_clients *clients = connection->clients;
    retire(connection);
    if (resets)
        net_reset(connection->end);
    else
        net_close(connection->end);
    connection->end = NULL;
    end_awaited(connection);
    connection->generation++;
    connection->next_free = clients->free;
    clients->free = connection;
}

/* The protocol is broken. */
__attribute__((format(printf, 3, 4))) static _Noreturn void
fail(const struct connection *connection, const char *rule, const char *format, ...)
{
    char what[160];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    size_t size = connection->in.size < 60 ? connection->in.size : 60;
    char bytes[64];
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = connection->in.bytes[connection->in.start + i];
        bytes[i] = byte < 0x20 || byte > 0x7e ? '?' : (char)byte;
    }
    trace_fail(connection->clients->trace, rule,
               "client %d, connection to n%d, after %" PRIu64 " replies: %s; there is '%.*s'",
               connection->client, connection->node, connection->replies, what, (int)size, bytes);
}

/* -- Requests as text ---------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void say(struct connection *connection,
                                                      const char *format, ...)
{
    struct buffer *out = &connection->out;
    char *text = (char *)buffer_room(out, COMMAND_MAX);
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, COMMAND_MAX, format, arguments);
    va_end(arguments);
    assert(size >= 0 && (unsigned)size < COMMAND_MAX);
    out->size += (size_t)size;
    connection->said += (size_t)size;
}

static void say_value(struct connection *connection, const struct op *op)
{
    op_value(op->number, buffer_room(&connection->out, op->value_size), op->value_size);
    connection->out.size += op->value_size;
    connection->said += op->value_size;
}

static void say_op(struct connection *connection, const struct op *op)
{
    static const char *const words[2][5] = {
        { [OP_GET] = "get",
          [OP_GETM] = "getm",
          [OP_SET] = "set",
          [OP_CAS] = "cas",
          [OP_DELETE] = "delete" },
        { [OP_GET] = "GET",
          [OP_GETM] = "GetM",
          [OP_SET] = "Set",
          [OP_CAS] = "CAS",
          [OP_DELETE] = "DELETE" },
    };
    const char *word = words[connection->is_loud][op->type];
    const char *line_end = connection->is_terse ? "\n" : "\r\n";
    const char *space = connection->is_loud ? "   " : " ";
    const char *noreply = op->noreply ? " noreply" : "";
    switch (op->type) {
    case OP_GET:
    case OP_GETM:
        say(connection, "%s%s%s%s", word, space, op->key, line_end);
        return;
    case OP_DELETE:
        say(connection, "%s%s%s%s%s", word, space, op->key, noreply, line_end);
        return;
    case OP_SET:
        say(connection, "%s%s%s %" PRIu64 " %" PRIu32 "%s%s", word, space, op->key, op->ttl_s,
            op->value_size, noreply, line_end);
        break;
    case OP_CAS:
        say(connection, "%s %s%s%" PRIu64 " %" PRIu64 " %" PRIu32 "%s%s", word, op->key, space,
            op->ttl_s, op->compare, op->value_size, noreply, line_end);
        break;
    }
    say_value(connection, op);
    say(connection, "%s", line_end);
}

/* Each is answered with one error; `ends`: and the connection may be closed for it. */
static const struct garbage {
    const char *text;
    bool ends;
} garbage[] = {
    { "\r\n", false },
    { "gibberish\r\n", false },
    { "set\r\n", false },
    { "get\n", false },
    { "getm k0 k1\r\n", false },
    { "delete k0 please\r\n", false },
    { "set k0 0 x\r\n", false },
    { "set k0 -1 3\r\nabc\r\n", false },
    { "set k0 4294967296 3\r\nabc\r\n", false },
    { "cas k0 0 first 7\r\nget k0\r\r\n", false },
    { "set k0 0 3 no reply\r\nabc\r\n", false },
    { "get k\001\r\n", false },
    { "\377\376\375 k0 0\r\n", false },
    { "set k0 0 3\r\nabcd\r\n", true },
    { "cas k0 0 1 18446744073709551616\r\n", true },
};

static void say_garbage(struct connection *connection)
{
    size_t count = sizeof garbage / sizeof garbage[0];
    const struct garbage *drawn = &garbage[random_below(random_of(connection), count)];
    say(connection, "%s", drawn->text);
    await(connection, WANT_ERROR, NULL);
    if (!drawn->ends)
        return;
    await(connection, WANT_END, NULL);
    retire(connection);
}

static void say_more(struct connection *connection)
{
    struct random *random = random_of(connection);
    if (random_chance(random, STATUS_PER_MILLE)) {
        bool is_status = random_chance(random, 500);
        say(connection, is_status ? "status\r\n" : "version\r\n");
        await(connection, is_status ? WANT_STATUS : WANT_PRODUCT, NULL);
    }
    if (connection->speaks_garbage && random_chance(random, GARBAGE_PER_MILLE))
        say_garbage(connection);
}

/* The last request of a connection with a habit has been put into the queue; it began at `begin`. */
static void end_by_habit(struct connection *connection, uint64_t begin)
{
    retire(connection);
    if (connection->habit == HABIT_QUIT) {
        say(connection, "quit\r\n");
        await(connection, WANT_END, NULL);
    } else if (connection->habit == HABIT_HANG_UP) {
        connection->hang_up_at =
            random_between(random_of(connection), begin + 1, connection->said - 1);
    }
}

/* -- Sending ------------------------------------------------------------------------------------- */

static void flush_later(struct connection *connection, uint64_t delay_ns)
{
    if (connection->flush_is_coming)
        return;
    connection->flush_is_coming = true;
    schedule(connection, EVENT_FLUSH, delay_ns);
}

/* How many bytes to hand over now. */
static size_t draw_piece(struct connection *connection)
{
    struct random *random = random_of(connection);
    size_t size = connection->out.size;
    if (connection->hang_up_at != 0) {
        uint64_t handed = handed_over(connection);
        size = connection->hang_up_at > handed ? (size_t)(connection->hang_up_at - handed) : 0;
    }
    if (connection->is_cut && size > 1) {
        uint64_t most = random_chance(random, 500) ? 8 : 200;
        uint64_t piece = random_between(random, 1, most);
        size = piece < size ? (size_t)piece : size;
    }
    return size;
}

/* Returns false if the connection is gone. */
static bool is_finished(struct connection *connection)
{
    if (connection->hang_up_at != 0 && handed_over(connection) >= connection->hang_up_at) {
        connection_close(connection, random_chance(random_of(connection), 500));
        return true;
    }
    bool is_quiet = connection->out.size == 0 && connection->is_retired;
    if (is_quiet && connection->awaited_count == 0 && !connection->is_shut) {
        connection_close(connection, false);
        return true;
    }
    if (is_quiet && connection->habit == HABIT_HALF_CLOSE && !connection->is_shut) {
        connection->is_shut = true;
        net_shutdown(connection->end);
        await(connection, WANT_END, NULL);
    }
    return false;
}

static void flush(struct connection *connection)
{
    if (net_state(connection->end) != NET_OPEN)
        return;
    while (connection->out.size > 0) {
        size_t size = draw_piece(connection);
        struct iovec part = { connection->out.bytes + connection->out.start, size };
        ptrdiff_t sent = size == 0 ? 0 : net_sendv(connection->end, &part, 1);
        if (sent < 0)
            return; /* full, or lost: both are heard of */
        buffer_take(&connection->out, (size_t)sent);
        if (is_finished(connection))
            return;
        if ((size_t)sent < size)
            return;
        if (connection->is_cut && connection->out.size > 0) {
            flush_later(connection, random_below(random_of(connection), 2 * MS_NS));
            return;
        }
    }
    is_finished(connection);
}

static bool submit(void *context, int client_number, int node, const struct op *op)
{
    struct text_clients *clients = context;
    struct client *client = &clients->clients[client_number];
    if (client->current != NULL && client->current->node != node) {
        flush_later(client->current, 0); /* to be closed, if there is nothing to wait for */
        retire(client->current);
    }
    if (client->current == NULL)
        client->current = connection_open(clients, client_number, node);
    struct connection *connection = client->current;
    say_more(connection);
    if (connection->is_retired) { /* it has said what ends it; this comes on the next one */
        flush_later(connection, 0);
        return submit(context, client_number, node, op);
    }
    uint64_t begin = connection->said;
    say_op(connection, op);
    if (!op->noreply)
        await(connection, WANT_OUTCOME, op);
    if (connection->life > 0 && --connection->life == 0)
        end_by_habit(connection, begin);
    flush_later(connection,
                random_chance(&client->random, 700) ? 0 : random_below(&client->random, 3 * MS_NS));
    return true;
}

/* -- Replies ------------------------------------------------------------------------------------- */

#define GETS (1u << OP_GET)
#define GETMS (1u << OP_GETM)
#define READS (GETS | GETMS)
#define SETS (1u << OP_SET)
#define CASES (1u << OP_CAS)
#define DELETES (1u << OP_DELETE)
#define ALL (READS | SETS | CASES | DELETES)

/* Which replies a request may have, and what they say about its effect: protocol.md's tables. What is
 * missing here is no answer to a request that is well-formed. */
static const struct meaning {
    unsigned asked; /* bits: enum op_type */
    enum outcome_type outcome;
} meanings[] = {
    [TEXT_REPLY_OK] = { SETS | CASES, OUTCOME_STORED },
    [TEXT_REPLY_DELETED] = { DELETES, OUTCOME_DELETED },
    [TEXT_REPLY_VALUE] = { GETS, OUTCOME_VALUE },
    [TEXT_REPLY_META] = { GETMS, OUTCOME_VALUE },
    [TEXT_REPLY_REDIRECT] = { ALL, OUTCOME_REFUSED },
    [TEXT_REPLY_UNAVAILABLE] = { ALL, OUTCOME_REFUSED },
    [TEXT_REPLY_TIMEOUT] = { ALL, OUTCOME_UNKNOWN },
    [TEXT_REPLY_NOT_FOUND] = { READS | CASES | DELETES, OUTCOME_NONE },
    [TEXT_REPLY_VERSION_DIFFERS] = { CASES, OUTCOME_DIFFERS },
    [TEXT_REPLY_TOO_LARGE] = { SETS | CASES, OUTCOME_REFUSED },
    [TEXT_REPLY_BUSY] = { ALL, OUTCOME_REFUSED },
    [TEXT_REPLY_NO_SPACE] = { ALL, OUTCOME_REFUSED },
    [TEXT_REPLY_INTERNAL] = { ALL, OUTCOME_UNKNOWN },
};
#define MEANING_COUNT (sizeof meanings / sizeof meanings[0])

static struct floor *floor_of(const struct connection *connection, const struct op *op)
{
    const char *name = strchr(op->key, 'k'); /* "k<number>", perhaps behind a "{s}" */
    assert(name != NULL);
    int key = atoi(name + 1);
    assert(key >= 0 && key < connection->clients->workload.keys);
    return &connection->floors[key];
}

static void check_value_floor(const struct connection *connection, const struct op *op,
                              const struct outcome *outcome)
{
    const struct floor *floor = floor_of(connection, op);
    if (op->type == OP_GETM && outcome->version < floor->version)
        fail(connection, "S16",
             "op %" PRIu64 " reads version %" PRIu64 " of %s behind its own write of %" PRIu64,
             op->number, outcome->version, op->key, floor->version);
    if (op->type == OP_GETM && (outcome->version == floor->version) !=
                                   (floor->version > 0 && outcome->written_by == floor->op))
        fail(connection, "S16",
             "op %" PRIu64 " reads version %" PRIu64 " of %s, of op %" PRIu64 "; version %" PRIu64
             " is op %" PRIu64,
             op->number, outcome->version, op->key, outcome->written_by, floor->version, floor->op);
    if (floor->op_before != 0 && outcome->written_by == floor->op_before)
        fail(connection, "S16",
             "op %" PRIu64 " reads what op %" PRIu64 " wrote to %s, behind op %" PRIu64, op->number,
             outcome->written_by, op->key, floor->op);
}

/* Program order on this connection. */
static void check_floor(struct connection *connection, const struct op *op,
                        const struct outcome *outcome)
{
    const struct workload *workload = &connection->clients->workload;
    struct floor *floor = floor_of(connection, op);
    switch (outcome->type) {
    case OUTCOME_STORED:
        if (outcome->version <= connection->last_stored)
            fail(connection, "S16",
                 "op %" PRIu64 " is version %" PRIu64 ", behind version %" PRIu64, op->number,
                 outcome->version, connection->last_stored);
        *floor =
            (struct floor){ .version = outcome->version, .op = op->number, .op_before = floor->op };
        connection->last_stored = outcome->version;
        break;
    case OUTCOME_DIFFERS:
        if (outcome->version < floor->version || outcome->version == op->compare)
            fail(connection, "S16",
                 "op %" PRIu64 " wants version %" PRIu64 " of %s, is told of %" PRIu64
                 " and was told of %" PRIu64,
                 op->number, op->compare, op->key, outcome->version, floor->version);
        break;
    case OUTCOME_VALUE:
        check_value_floor(connection, op, outcome);
        break;
    case OUTCOME_NONE:
        if (op->type == OP_CAS && op->compare == 0)
            fail(connection, "S24", "op %" PRIu64 " wants that there is no %s, and is told so",
                 op->number, op->key);
        if (floor->version > 0 && workload->del == 0 && workload->expire == 0)
            fail(connection, "S16", "op %" PRIu64 " does not find %s, which nothing removes",
                 op->number, op->key);
        break;
    case OUTCOME_DELETED:
    case OUTCOME_REFUSED:
    case OUTCOME_UNKNOWN:
        break;
    }
}

static void read_value(const struct connection *connection, const struct text_reply *reply,
                       struct outcome *outcome)
{
    bool is_meta = reply->kind == TEXT_REPLY_META;
    outcome->value_size = (uint32_t)reply->number[is_meta ? 2 : 0];
    outcome->written_by = op_of_value(reply->value, outcome->value_size);
    if (outcome->written_by == 0)
        fail(connection, "S24", "a value of %" PRIu32 " bytes that nobody wrote",
             outcome->value_size);
    if (is_meta) {
        outcome->version = reply->number[0];
        outcome->ttl_s = reply->number[1];
    }
}

static int redirect_to(const struct connection *connection, const struct text_reply *reply)
{
    const struct text_clients *clients = connection->clients;
    uint64_t slot = reply->number[0];
    if (slot >= (uint64_t)clients->node_count || clients->ports[slot] != reply->number[1])
        fail(connection, "S24", "sent to n%" PRIu64 " port %" PRIu64 ", which is no client address",
             slot, reply->number[1]);
    return (int)slot;
}

static void on_op_reply(struct connection *connection, const struct text_reply *reply)
{
    struct op op = awaited_at(connection, 0)->op;
    const struct meaning *meaning = reply->kind < MEANING_COUNT ? &meanings[reply->kind] : NULL;
    if (meaning == NULL || (meaning->asked >> op.type & 1) == 0)
        fail(connection, "S24", "%s is no answer to op %" PRIu64 ", a %s",
             text_reply_name(reply->kind), op.number, op_type_name(op.type));
    struct outcome outcome = { .type = meaning->outcome };
    int leader = -1;
    connection->was_refused |= reply->kind == TEXT_REPLY_BUSY && connection->replies == 0;
    if (outcome.type == OUTCOME_STORED || outcome.type == OUTCOME_DIFFERS)
        outcome.version = reply->number[0];
    if (outcome.type == OUTCOME_VALUE)
        read_value(connection, reply, &outcome);
    if (reply->kind == TEXT_REPLY_REDIRECT)
        leader = redirect_to(connection, reply);
    check_floor(connection, &op, &outcome);
    await_no_more(connection);
    sessions_on_outcome(connection->clients->sessions, op.number, &outcome, leader);
}

/* Whether this reply ends what is awaited; fails if it does not belong to it. */
static void on_other_reply(struct connection *connection, const struct text_reply *reply)
{
    enum wanted wanted = awaited_at(connection, 0)->wanted;
    bool is_error = reply->kind == TEXT_REPLY_MALFORMED || reply->kind == TEXT_REPLY_TOO_LARGE;
    bool is_busy = reply->kind == TEXT_REPLY_BUSY && connection->replies == 0;
    if (wanted == WANT_STATUS && reply->kind == TEXT_REPLY_STAT)
        return;
    bool fits = (wanted == WANT_STATUS && reply->kind == TEXT_REPLY_END) ||
                (wanted == WANT_PRODUCT && reply->kind == TEXT_REPLY_PRODUCT) ||
                (wanted == WANT_ERROR && is_error) || is_busy;
    connection->was_refused |= is_busy;
    if (!fits)
        fail(connection, "S24", "%s is no answer to %s", text_reply_name(reply->kind),
             wanted == WANT_STATUS    ? "status"
             : wanted == WANT_PRODUCT ? "version"
             : wanted == WANT_ERROR   ? "garbage"
                                      : "the end of the connection");
    await_no_more(connection);
}

/* A node with too many connections says so, before it closes this one unasked. */
static void on_unasked_reply(struct connection *connection, const struct text_reply *reply)
{
    if (reply->kind != TEXT_REPLY_BUSY || connection->replies != 0)
        fail(connection, "S24", "%s, and nothing was asked", text_reply_name(reply->kind));
    connection->replies++;
    retire(connection);
}

/* Nothing can be answered before it is sent; but garbage, and what is too large, is known by its line,
 * before the value has come. */
static bool is_unasked(const struct connection *connection, const struct text_reply *reply)
{
    if (connection->awaited_count == 0)
        return true;
    const struct awaited *awaited = awaited_at(connection, 0);
    bool may_be_early = awaited->wanted == WANT_ERROR || reply->kind == TEXT_REPLY_TOO_LARGE;
    return awaited->end > handed_over(connection) && !may_be_early;
}

static void parse_replies(struct connection *connection)
{
    for (;;) {
        struct text_reply reply;
        text_reply_parse(connection->in.bytes + connection->in.start, connection->in.size, &reply);
        if (reply.kind == TEXT_REPLY_PARTIAL)
            return;
        if (reply.kind == TEXT_REPLY_BROKEN)
            fail(connection, "S24", "%s", reply.why);
        connection->clients->stats.replies++;
        if (is_unasked(connection, &reply))
            on_unasked_reply(connection, &reply);
        else if (awaited_at(connection, 0)->wanted == WANT_OUTCOME)
            on_op_reply(connection, &reply);
        else
            on_other_reply(connection, &reply);
        buffer_take(&connection->in, reply.used);
    }
}

/* -- Receiving ----------------------------------------------------------------------------------- */

/* The other side has ended its half, or the connection is lost (`error`). */
static void on_end(struct connection *connection, bool is_orderly)
{
    struct text_clients *clients = connection->clients;
    bool is_expected =
        connection->awaited_count == 0 || awaited_at(connection, 0)->wanted == WANT_END;
    bool reads_well =
        !connection->is_slow && !connection->speaks_garbage && !connection->was_refused;
    if (is_orderly && !is_expected)
        clients->stats.cut_short++;
    if (is_orderly && !is_expected && connection->is_shut && reads_well)
        clients->stats.abandoned++;
    if (!is_orderly)
        clients->stats.lost++;
    connection_close(connection, false);
}

static size_t draw_read_size(const struct connection *connection)
{
    return connection->is_slow ? (size_t)random_between(random_of(connection), 1, 100) : READ_SIZE;
}

/* A slow reader reads little at a time, and now and then nothing for long. */
static void read_later(struct connection *connection)
{
    struct random *random = random_of(connection);
    if (connection->read_is_coming)
        return;
    connection->read_is_coming = true;
    bool is_long = random_chance(random, 20);
    schedule(connection, EVENT_READ, random_between(random, MS_NS, (is_long ? 3000 : 50) * MS_NS));
}

static void receive(struct connection *connection)
{
    for (;;) {
        size_t size = draw_read_size(connection);
        ptrdiff_t count = net_recv(connection->end, buffer_room(&connection->in, size), size);
        if (count == -EAGAIN)
            return;
        if (count <= 0) {
            on_end(connection, count == 0);
            return;
        }
        connection->in.size += (size_t)count;
        parse_replies(connection);
        if (is_finished(connection))
            return;
        if (connection->is_slow) {
            read_later(connection);
            return;
        }
    }
}

static void on_change(void *owner, struct net_end *end)
{
    struct connection *connection = owner;
    assert(connection->end == end);
    if (net_state(end) == NET_FAILED && net_readable(end) <= 1) {
        on_end(connection, false);
        return;
    }
    if (!connection->flush_is_coming && (connection->out.size > 0 || connection->is_retired))
        flush_later(connection, 0);
    if (connection->is_slow)
        read_later(connection);
    else
        receive(connection);
}

/* The oldest request has waited too long: hang up, at once or after the same time once more (what
 * comes then is late, and no outcome). */
static void on_timeout(struct connection *connection)
{
    struct text_clients *clients = connection->clients;
    uint64_t timeout_ns = clients->workload.timeout_ns;
    connection->has_timer = false;
    if (connection->awaited_count == 0)
        return;
    uint64_t waited_ns = now_ns(clients) - awaited_at(connection, 0)->since_ns;
    if (waited_ns >= timeout_ns) {
        if (connection->was_patient || random_chance(random_of(connection), 500)) {
            connection_close(connection, random_chance(random_of(connection), 200));
            return;
        }
        connection->was_patient = true;
        waited_ns = 0;
    }
    connection->has_timer = true;
    schedule(connection, EVENT_TIMEOUT, timeout_ns - waited_ns);
}

static void on_event(void *owner, uint64_t argument)
{
    struct text_clients *clients = owner;
    struct connection *connection = clients->connections[argument >> 32];
    if ((connection->generation & GENERATION_MASK) != (argument & GENERATION_MASK) ||
        connection->end == NULL)
        return;
    switch ((enum event)(argument >> 28 & 15)) {
    case EVENT_FLUSH:
        connection->flush_is_coming = false;
        flush(connection);
        break;
    case EVENT_READ:
        connection->read_is_coming = false;
        receive(connection);
        break;
    case EVENT_TIMEOUT:
        on_timeout(connection);
        break;
    }
}

/* -- Life ---------------------------------------------------------------------------------------- */

struct text_clients *text_clients_new(const struct workload *workload, struct net *net,
                                      struct timeline *timeline, struct trace *trace, uint64_t seed,
                                      const uint16_t *client_ports, int node_count)
{
    struct text_clients *clients = must(calloc(1, sizeof *clients));
    clients->workload = *workload;
    clients->net = net;
    clients->timeline = timeline;
    clients->trace = trace;
    clients->node_count = node_count;
    memcpy(clients->ports, client_ports, (size_t)node_count * sizeof *client_ports);
    clients->clients = must(calloc((size_t)workload->clients, sizeof *clients->clients));
    for (int i = 0; i < workload->clients; i++)
        clients->clients[i].random = random_stream(seed, PURPOSE + (uint64_t)i);
    return clients;
}

void text_clients_free(struct text_clients *clients)
{
    if (clients == NULL)
        return;
    for (uint32_t i = 0; i < clients->connection_count; i++) {
        struct connection *connection = clients->connections[i];
        if (connection->end != NULL)
            net_close(connection->end);
        free(connection->out.bytes);
        free(connection->in.bytes);
        free(connection->awaited);
        free(connection->floors);
        free(connection);
    }
    free(clients->connections);
    free(clients->clients);
    free(clients);
}

struct transport text_clients_transport(struct text_clients *clients)
{
    return (struct transport){ .context = clients, .submit = submit };
}

void text_clients_set_sessions(struct text_clients *clients, struct sessions *sessions)
{
    clients->sessions = sessions;
}

void text_clients_stats(const struct text_clients *clients, struct text_clients_stats *stats)
{
    *stats = clients->stats;
}
