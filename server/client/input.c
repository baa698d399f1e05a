/* From a socket to requests.
 *
 * Most of the time a read ends where a request ends. So connections are read into one buffer that all
 * share, and requests are parsed there, in place; a connection has a buffer of its own only while it
 * has a leftover: the front of a request, or requests that may not be taken yet. That buffer grows
 * with what has been received, to at most twice of it, never with what has been announced.
 *
 * Reading is edge-triggered. A read that comes back short has taken all there was, and saves the one
 * that would say so; but the end of the stream is only seen by a read of its own, so a connection
 * that has hung up is read until it says 0. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/client/connection.h"
#include "server/client/text.h"

#define LEFTOVER_SIZE_MIN 64u
#define VALUE_REPLY_OVERHEAD 64u /* the head and the end of a value's reply */
/* Replies of reads that are answered in one turn, all connections together: some 4 ms of copying. */
#define READS_AT_ONCE_BYTES (8u << 20)
#define PRESSURE_READ_BYTES 2048u /* of one read, when more than half of the memory is in use */

static size_t leftover_size(const struct client *client)
{
    return client->input_end - client->input_start;
}

/* -- Parsing ------------------------------------------------------------------------------------- */

enum step {
    STEP_DONE,      /* on to the next */
    STEP_NEEDS,     /* more bytes */
    STEP_WAITS,     /* for an event */
    STEP_NEXT_TURN, /* the owner's batch is full */
    STEP_STARVES,   /* for memory */
    STEP_ENDS,      /* no more requests from here */
};

static bool is_read(enum request_type type)
{
    return type == REQUEST_GET || type == REQUEST_GETM;
}

/* What the reply to a read will take, as far as its owner knows. */
static uint64_t reply_cost(const struct client *client, const struct request *request)
{
    const struct clients *clients = client->clients;

    if (!is_read(request->type))
        return 0;
    if (clients->owner.value_size == NULL)
        return clients->limits.value_bytes + VALUE_REPLY_OVERHEAD;
    return clients->owner.value_size(clients->owner.context, client, request) +
           VALUE_REPLY_OVERHEAD;
}

/* The replies of pending reads must fit: into what the connection may leave unread, into the memory
 * of all, and into a turn, since a round of them is written in one. One read alone always may. */
static enum step admit_read(const struct client *client, uint64_t cost)
{
    const struct clients *clients = client->clients;

    uint64_t own = client->output.size + client->promised_bytes + cost;
    if (client->outstanding > 0 && own > clients->output_max - clients->output_max / 4)
        return STEP_WAITS;
    if (clients->promised_bytes == 0)
        return STEP_DONE;
    if (clients->promised_bytes + cost > READS_AT_ONCE_BYTES)
        return STEP_STARVES;
    uint64_t all = clients_memory(clients) + clients->promised_bytes + cost;
    return all > clients->memory_max - clients->memory_max / 4 ? STEP_STARVES : STEP_DONE;
}

static void count_pending(struct client *client, uint64_t cost)
{
    client->outstanding++;
    client->clients->outstanding++;
    client->promised_bytes += cost;
    client->clients->promised_bytes += cost;
}

static enum step offer_request(struct client *client, const struct request *request)
{
    struct clients *clients = client->clients;
    uint64_t cost = reply_cost(client, request);
    if (cost > 0) {
        enum step step = admit_read(client, cost);
        if (step != STEP_DONE)
            return step;
    }
    switch (clients->owner.on_request(clients->owner.context, client, request)) {
    case CLIENT_ANSWERED:
        break;
    case CLIENT_PENDING:
        count_pending(client, cost);
        break;
    case CLIENT_LATER:
        client->waits_for_all = client->outstanding > 0;
        return client->waits_for_all ? STEP_WAITS : STEP_NEXT_TURN;
    case CLIENT_NEXT_TURN:
        return STEP_NEXT_TURN;
    }
    clients->stats.requests++;
    return STEP_DONE;
}

static void end_requests(struct client *client)
{
    client->is_ending = true;
    client->swallow = 0;
    client_queue_flush(client);
}

/* Answered by this layer: must not overtake what is pending. */
static enum step answer_error(struct client *client, const struct text_parsed *parsed)
{
    client->clients->stats.malformed++;
    if (!parsed->silent) {
        struct reply reply = { .type = REPLY_ERROR,
                               .error = parsed->error,
                               .text = parsed->text,
                               .version = parsed->limit };
        client_put_reply(client, &reply);
    }
    client->swallow = parsed->swallow; /* 0 but for TEXT_SWALLOW */
    if (parsed->status != TEXT_FATAL)
        return STEP_DONE;
    end_requests(client);
    return STEP_ENDS;
}

static enum step parse_one(struct client *client, const uint8_t *bytes, size_t size, size_t *used)
{
    struct text_parsed parsed;
    text_parse(bytes, size, client->clients->limits.value_bytes, &parsed);
    enum step step = STEP_NEEDS;
    switch (parsed.status) {
    case TEXT_NEED_MORE:
        client->input_need = parsed.need;
        return STEP_NEEDS;
    case TEXT_REQUEST:
        step = offer_request(client, &parsed.request);
        break;
    case TEXT_QUIT:
    case TEXT_ERROR:
    case TEXT_SWALLOW:
    case TEXT_FATAL:
        if (client->outstanding > 0) {
            client->waits_for_all = true;
            return STEP_WAITS;
        }
        if (parsed.status == TEXT_QUIT) {
            end_requests(client);
            return STEP_ENDS;
        }
        step = answer_error(client, &parsed);
        break;
    }
    if (step == STEP_DONE || step == STEP_ENDS)
        *used = parsed.used;
    return step;
}

static enum step swallow_some(struct client *client, const uint8_t *bytes, size_t size,
                              size_t *used)
{
    *used = text_swallow(&client->swallow, bytes, size);
    if (client->swallow == TEXT_SWALLOW_BROKEN) {
        end_requests(client); /* the request has had its answer */
        return STEP_ENDS;
    }
    if (client->swallow == 0)
        return STEP_DONE;
    client->input_need = size - *used + 1;
    return STEP_NEEDS;
}

/* As much of `bytes` as may be taken; `used` says how much that was. STEP_DONE: the budget is used
 * up, or nothing is left. */
static enum step parse_all(struct client *client, const uint8_t *bytes, size_t size,
                           struct input_budget *budget, size_t *used)
{
    enum step step = STEP_DONE;
    *used = 0;
    client->input_need = 1;
    while (step == STEP_DONE && *used < size && budget->requests > 0) {
        size_t step_used = 0;
        if (client->swallow != 0)
            step = swallow_some(client, bytes + *used, size - *used, &step_used);
        else if (!client_may_parse(client))
            step = STEP_WAITS;
        else
            step = parse_one(client, bytes + *used, size - *used, &step_used);
        *used += step_used;
        budget->requests -= step == STEP_DONE;
    }
    return step;
}

/* -- Leftovers ----------------------------------------------------------------------------------- */

void input_release(struct client *client)
{
    client->clients->input_memory -= client->input_capacity;
    client->clients->memory_was_released |= client->input_capacity > 0;
    free(client->input);
    client->input = NULL;
    client->input_start = client->input_end = client->input_capacity = 0;
}

/* A buffer that holds at least `size` bytes, by doubling, but not beyond `most`. */
static bool reserve(struct client *client, size_t size, size_t most)
{
    if (size <= client->input_capacity)
        return true;
    struct clients *clients = client->clients;
    size_t capacity = LEFTOVER_SIZE_MIN;
    while (capacity < size)
        capacity *= 2;
    if (capacity > most && size <= most)
        capacity = most;
    if (!clients_make_room(clients, client, capacity - client->input_capacity)) {
        client_doom(client, "memory for clients is used up (ClientMemoryBytes)",
                    &clients->stats.closed_memory);
        return false;
    }
    uint8_t *input = realloc(client->input, capacity);
    if (input == NULL) {
        client_doom(client, "out of memory", &clients->stats.closed_memory);
        return false;
    }
    clients->input_memory += capacity - client->input_capacity;
    client->input = input;
    client->input_capacity = capacity;
    return true;
}

static void keep_leftover(struct client *client, const uint8_t *bytes, size_t size)
{
    client->input_start = client->input_end = 0;
    if (client->is_ending)
        size = 0;
    bool is_wasteful =
        client->input_capacity > LEFTOVER_SIZE_MIN && client->input_capacity / 4 > size;
    if (size == 0 || is_wasteful)
        input_release(client);
    if (size == 0 || !reserve(client, size, SIZE_MAX))
        return;
    memcpy(client->input, bytes, size);
    client->input_end = size;
}

static enum step parse_leftover(struct client *client, struct input_budget *budget)
{
    size_t used;
    enum step step = parse_all(client, client->input + client->input_start, leftover_size(client),
                               budget, &used);
    client->input_start += used;
    if (leftover_size(client) == 0 || client->is_ending)
        input_release(client);
    return step;
}

/* -- Receiving ----------------------------------------------------------------------------------- */

/* Returns how many bytes came, 0 for none. */
static size_t receive(struct client *client, uint8_t *bytes, size_t size,
                      struct input_budget *budget)
{
    struct clients *clients = client->clients;
    if (size > budget->bytes)
        size = budget->bytes;
    if (clients_memory(clients) > clients->memory_max / 2 && size > PRESSURE_READ_BYTES)
        size = PRESSURE_READ_BYTES;
    assert(size > 0);
    ptrdiff_t count = os_recv(clients->os, client->source.fd, bytes, size);
    if (count > 0) {
        budget->bytes -= (size_t)count;
        if ((size_t)count < size && !client->has_hung_up)
            client->is_readable = false;
        return (size_t)count;
    }
    client->is_readable = false;
    if (count == 0)
        client->is_at_end = true;
    else if (count != -EAGAIN)
        client_doom(client, NULL, NULL); /* reset by the client: its own affair */
    return 0;
}

static enum step receive_shared(struct client *client, struct input_budget *budget)
{
    uint8_t *shared = client->clients->shared;
    size_t size = leftover_size(client);
    if (size > 0)
        memcpy(shared, client->input + client->input_start, size);
    size_t count = receive(client, shared + size, CLIENT_TURN_BYTES, budget);
    if (count == 0)
        return STEP_NEEDS;
    size += count;
    if (size < client->input_need) {
        keep_leftover(client, shared, size);
        return STEP_NEEDS;
    }
    size_t used;
    enum step step = parse_all(client, shared, size, budget, &used);
    keep_leftover(client, shared + used, size - used);
    return step;
}

static enum step receive_in_place(struct client *client, struct input_budget *budget)
{
    size_t size = leftover_size(client);
    if (client->input_start > 0)
        memmove(client->input, client->input + client->input_start, size);
    client->input_start = 0;
    client->input_end = size;
    assert(client->input_need > size);
    if (!reserve(client, size + 1, client->input_need))
        return STEP_NEEDS;
    /* No further than this request: what comes behind it is better off in the shared buffer. */
    size_t missing = client->input_need - size;
    size_t space = client->input_capacity - size;
    client->input_end +=
        receive(client, client->input + size, missing < space ? missing : space, budget);
    if (leftover_size(client) < client->input_need)
        return STEP_NEEDS;
    return parse_leftover(client, budget);
}

/* -- The run ------------------------------------------------------------------------------------- */

/* The end of the stream ends a connection once all that can be parsed is parsed; the front of a
 * request that will never be complete is dropped. */
static void end_if_at_end(struct client *client)
{
    if (!client->is_at_end || client->is_ending)
        return;
    input_release(client);
    end_requests(client);
}

static enum step run_once(struct client *client, struct input_budget *budget)
{
    size_t size = leftover_size(client);
    if (size > 0 && size >= client->input_need)
        return parse_leftover(client, budget);
    if (!client->is_readable) {
        end_if_at_end(client);
        return STEP_NEEDS;
    }
    if (budget->bytes == 0)
        return STEP_DONE;
    return size > CLIENT_LEFTOVER_SHARED ? receive_in_place(client, budget)
                                         : receive_shared(client, budget);
}

enum input_state input_run(struct client *client, struct input_budget *budget)
{
    if (leftover_size(client) == 0)
        client->input_need = 1;
    while (client_may_parse(client)) {
        if (budget->requests == 0)
            return INPUT_GOES_ON;
        bool could_receive = client->is_readable && budget->bytes > 0;
        bool could_parse = leftover_size(client) > 0 && leftover_size(client) >= client->input_need;
        enum step step = run_once(client, budget);
        if (step == STEP_NEXT_TURN)
            return INPUT_GOES_ON;
        if (step == STEP_STARVES)
            return INPUT_STARVES;
        if (step == STEP_WAITS || step == STEP_ENDS)
            return INPUT_WAITS;
        if (!could_receive && !could_parse)
            return client->is_readable ? INPUT_GOES_ON : INPUT_WAITS;
    }
    return INPUT_WAITS;
}
