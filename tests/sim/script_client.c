/* Requests of a scenario. Each goes the way of real ones: at level 3 as text over a simulated
 * connection, at levels 1 and 2 to the replica; and each is told to the oracle, with its outcome.
 *
 * A connection is made when it is first named, and made anew when it has ended. What is begun on it
 * before time passes leaves in one piece: so a script says what is pipelined. Replies must come in
 * order, one a request: S24. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/script_state.h"

#define CONNECTIONS_MAX 64
#define OUT_MAX (1u << 20)
#define IN_MAX (1u << 20)
#define PENDING_MAX 1024

struct script_connection {
    struct script_run *run;
    char name[SCRIPT_NAME_MAX]; /* empty: the node's own */
    int slot;
    struct net_end *end; /* NULL: it has ended */
    uint8_t *out, *in;
    size_t out_size, in_size;
    uint64_t said, handed;         /* bytes, in its life */
    size_t pending[PENDING_MAX];   /* requests, oldest first */
    uint64_t ends_at[PENDING_MAX]; /* what `said` was behind each */
    size_t pending_count;
};

struct script_connections {
    struct script_connection of[CONNECTIONS_MAX];
    int count;
    /* levels 1 and 2: who hears of the outcomes that are not ours */
    void (*on_outcome)(void *context, uint64_t op_number, const struct outcome *outcome);
    void *context;
};

/* -- Outcomes ------------------------------------------------------------------------------------ */

static void end_request(struct script_run *run, struct script_request *request,
                        const struct outcome *outcome)
{
    assert(request->fate == SCRIPT_OPEN);
    request->fate = SCRIPT_ENDED;
    request->outcome = *outcome;
    trace_line(run->world->trace, -1, "script's op %" PRIu64 ": %s", request->op.number,
               request->reply != TEXT_REPLY_PARTIAL ? text_reply_name(request->reply)
                                                    : outcome_type_name(outcome->type));
    oracle_returned(run->world->oracle, request->op.number, outcome);
}

/* Levels 1 and 2. */
static void on_outcome(void *context, uint64_t op_number, const struct outcome *outcome)
{
    struct script_run *run = context;
    const struct script_connections *connections = run->connections;

    for (size_t i = run->request_count; i > 0; i--) {
        struct script_request *request = &run->requests[i - 1];
        if (request->op.number != op_number)
            continue;
        if (request->fate == SCRIPT_ENDED)
            trace_fail(run->world->trace, "S24", "op %" PRIu64 " has a second outcome", op_number);
        end_request(run, request, outcome);
        return;
    }
    connections->on_outcome(connections->context, op_number, outcome);
}

/* -- Text ---------------------------------------------------------------------------------------- */

static void end_connection(struct script_connection *connection)
{
    struct script_run *run = connection->run;

    if (connection->end == NULL)
        return;
    net_close(connection->end);
    connection->end = NULL;
    for (size_t i = 0; i < connection->pending_count; i++) {
        bool was_handed = connection->ends_at[i] <= connection->handed;
        struct outcome outcome = { .type = was_handed ? OUTCOME_UNKNOWN : OUTCOME_REFUSED };
        end_request(run, &run->requests[connection->pending[i]], &outcome);
    }
    connection->pending_count = connection->out_size = connection->in_size = 0;
}

/* What a reply says of a request; false if it is no answer to one of this type. */
static bool meaning(const struct text_reply *reply, enum op_type type, struct outcome *outcome)
{
    *outcome = (struct outcome){ .type = OUTCOME_REFUSED };
    switch (reply->kind) {
    case TEXT_REPLY_OK:
        *outcome = (struct outcome){ .type = OUTCOME_STORED, .version = reply->number[0] };
        return type == OP_SET;
    case TEXT_REPLY_VALUE:
        *outcome =
            (struct outcome){ .type = OUTCOME_VALUE, .value_size = (uint32_t)reply->number[0] };
        outcome->written_by = op_of_value(reply->value, outcome->value_size);
        return type == OP_GET && outcome->written_by != 0;
    case TEXT_REPLY_NOT_FOUND:
        outcome->type = OUTCOME_NONE;
        return type == OP_GET;
    case TEXT_REPLY_TIMEOUT:
    case TEXT_REPLY_INTERNAL:
        outcome->type = OUTCOME_UNKNOWN;
        return true;
    case TEXT_REPLY_REDIRECT:
    case TEXT_REPLY_UNAVAILABLE:
    case TEXT_REPLY_BUSY:
    case TEXT_REPLY_NO_SPACE:
        return true;
    default:
        return false;
    }
}

static void on_reply(struct script_connection *connection, const struct text_reply *reply)
{
    struct script_run *run = connection->run;
    struct outcome outcome;

    if (connection->pending_count == 0)
        trace_fail(run->world->trace, "S24", "%s, and nothing was asked",
                   text_reply_name(reply->kind));
    struct script_request *request = &run->requests[connection->pending[0]];
    if (!meaning(reply, request->op.type, &outcome))
        trace_fail(run->world->trace, "S24", "%s is no answer to op %" PRIu64 ", a %s",
                   text_reply_name(reply->kind), request->op.number,
                   op_type_name(request->op.type));
    connection->pending_count--;
    memmove(connection->pending, connection->pending + 1,
            connection->pending_count * sizeof connection->pending[0]);
    memmove(connection->ends_at, connection->ends_at + 1,
            connection->pending_count * sizeof connection->ends_at[0]);
    request->reply = reply->kind;
    end_request(run, request, &outcome);
}

static void parse_replies(struct script_connection *connection)
{
    for (;;) {
        struct text_reply reply;
        text_reply_parse(connection->in, connection->in_size, &reply);
        if (reply.kind == TEXT_REPLY_PARTIAL)
            return;
        if (reply.kind == TEXT_REPLY_BROKEN)
            trace_fail(connection->run->world->trace, "S24", "%s", reply.why);
        on_reply(connection, &reply);
        connection->in_size -= reply.used;
        memmove(connection->in, connection->in + reply.used, connection->in_size);
    }
}

static void receive(struct script_connection *connection)
{
    for (;;) {
        ptrdiff_t count = net_recv(connection->end, connection->in + connection->in_size,
                                   IN_MAX - connection->in_size);
        if (count == -EAGAIN)
            return;
        if (count <= 0) {
            end_connection(connection);
            return;
        }
        connection->in_size += (size_t)count;
        parse_replies(connection);
    }
}

static void send_out(struct script_connection *connection)
{
    if (connection->end == NULL || connection->out_size == 0 ||
        net_state(connection->end) != NET_OPEN)
        return;
    struct iovec part = { .iov_base = connection->out, .iov_len = connection->out_size };
    ptrdiff_t count = net_sendv(connection->end, &part, 1);
    if (count <= 0)
        return; /* no room; an error is told by the next change */
    connection->handed += (uint64_t)count;
    connection->out_size -= (size_t)count;
    memmove(connection->out, connection->out + count, connection->out_size);
}

static void on_change(void *owner, struct net_end *end)
{
    struct script_connection *connection = owner;

    if (net_state(end) == NET_FAILED && net_readable(end) <= 1) {
        end_connection(connection);
        return;
    }
    send_out(connection);
    receive(connection);
}

/* -- Connections --------------------------------------------------------------------------------- */

void script_clients_lost(struct script_run *run, int slot)
{
    static const struct outcome unknown = { .type = OUTCOME_UNKNOWN };

    for (int i = 0; i < run->connections->count; i++)
        if (run->connections->of[i].slot == slot)
            end_connection(&run->connections->of[i]);
    for (size_t i = 0; i < run->request_count; i++)
        if (run->requests[i].slot == slot && run->requests[i].fate == SCRIPT_OPEN)
            end_request(run, &run->requests[i], &unknown);
}

static struct script_connection *new_connection(struct script_run *run, const char *name, int slot)
{
    struct script_connections *connections = run->connections;

    if (connections->count == CONNECTIONS_MAX)
        return NULL;
    struct script_connection *connection = &connections->of[connections->count++];
    *connection = (struct script_connection){ .run = run, .slot = slot };
    snprintf(connection->name, sizeof connection->name, "%s", name);
    connection->out = malloc(OUT_MAX);
    connection->in = malloc(IN_MAX);
    if (connection->out == NULL || connection->in == NULL)
        abort();
    return connection;
}

static struct script_connection *open_connection(struct script_run *run, const char *name, int slot)
{
    struct script_connections *connections = run->connections;
    struct script_connection *connection = NULL;

    for (int i = 0; i < connections->count && connection == NULL; i++)
        if (strcmp(connections->of[i].name, name) == 0 && connections->of[i].slot == slot)
            connection = &connections->of[i];
    if (connection == NULL)
        connection = new_connection(run, name, slot);
    if (connection == NULL || connection->end != NULL)
        return connection;
    connection->said = connection->handed = 0;
    connection->end =
        net_connect(run->world->net, LINKS_CLIENTS, slot,
                    run->plan.config.servers[slot].client_port, on_change, connection);
    return connection;
}

void script_clients_begin(struct script_run *run)
{
    run->connections = calloc(1, sizeof *run->connections);
    if (run->connections == NULL)
        abort();
    run->connections->on_outcome = run->world->replicas.on_outcome;
    run->connections->context = run->world->replicas.context;
    run->world->replicas.on_outcome = on_outcome;
    run->world->replicas.context = run;
}

void script_clients_end(struct script_run *run)
{
    for (int i = 0; i < run->connections->count; i++) {
        struct script_connection *connection = &run->connections->of[i];
        if (connection->end != NULL)
            net_close(connection->end);
        free(connection->out);
        free(connection->in);
    }
    free(run->connections);
    run->connections = NULL;
}

void script_clients_flush(struct script_run *run)
{
    for (int i = 0; i < run->connections->count; i++)
        send_out(&run->connections->of[i]);
}

/* -- Sending ------------------------------------------------------------------------------------- */

static bool say(struct script_connection *connection, const struct op *op, size_t request)
{
    size_t room = OUT_MAX - connection->out_size;

    if (connection->pending_count == PENDING_MAX || room < op->value_size + 100)
        return false;
    char *text = (char *)connection->out + connection->out_size;
    int size = op->type == OP_GET ? snprintf(text, room, "get %s\r\n", op->key)
                                  : snprintf(text, room, "set %s %" PRIu64 " %" PRIu32 "\r\n",
                                             op->key, op->ttl_s, op->value_size);
    size_t used = (size_t)size;
    if (op->type == OP_SET) {
        op_value(op->number, (uint8_t *)text + used, op->value_size);
        used += op->value_size;
        text[used++] = '\r';
        text[used++] = '\n';
    }
    connection->out_size += used;
    connection->said += used;
    connection->pending[connection->pending_count] = request;
    connection->ends_at[connection->pending_count++] = connection->said;
    return true;
}

void script_client_send(struct script_run *run, size_t place, const char *name)
{
    static const struct outcome refused = { .type = OUTCOME_REFUSED };
    struct script_request *request = &run->requests[place];
    bool is_sent;

    if (run->level == 3) {
        struct script_connection *connection = open_connection(run, name, request->slot);
        is_sent = connection != NULL && say(connection, &request->op, place);
    } else {
        is_sent = replica_submit(&run->world->machines[request->slot].machine, &request->op);
    }
    if (!is_sent)
        end_request(run, request, &refused);
}
