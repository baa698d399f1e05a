/* Connections: their coming, their limits, their replies, their end. What they say is read in
 * input.c.
 *
 * A client that behaves badly must cost the others nothing, so there is an answer to each way of it:
 *
 *     floods of connections    a budget of accepts a turn; beyond the limit a polite refusal. The
 *                              limit leaves descriptors for peers and files
 *     no descriptors at all    one is kept to refuse with; then accepting pauses, on a timer
 *     sends without end        a budget of bytes and requests a turn, round-robin
 *     asks and does not read   not read itself beyond `output_soft`, closed beyond `output_max`
 *     asks for too much        reads wait until the replies of those before them fit
 *     never finishes           closed after the request time-out
 *     all of these together    a limit for all buffers; whoever has held them up longest goes first
 *
 * Without these, the whole is simple: readiness puts a connection on the list of work, a turn goes
 * through that list once, replies collect in the outputs, and the flush at the end of the turn sends
 * each of them with one call. */
#include "server/client/client.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/client/connection.h"
#include "server/client/text.h"

#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE_NS 100000000u /* after descriptors have run out */
#define LISTEN_BACKLOG 1024
#define RESERVED_DESCRIPTORS 64 /* for peers, log, snapshots; half of all if there are few */
#define NOTE_INTERVAL_NS 100000000u
#define STALL_GRACE_NS 1000000000u /* how long a slow reader may keep memory that others wait for */
#define SMALL_REPLY_BYTES 128u     /* of a request that returns no value */
#define OUTPUT_MARGIN 4096u
#define DRAIN_READS_MAX 16

/* -- Lists --------------------------------------------------------------------------------------- */

#define CLIENT_OF(at, member) \
    ((struct client *)(void *)((char *)(at)-offsetof(struct client, member)))

static void list_init(struct link *list)
{
    list->previous = list->next = list;
}

static bool list_is_empty(const struct link *list)
{
    return list->next == list;
}

static bool is_linked(const struct link *link)
{
    return link->next != NULL;
}

static void list_append(struct link *list, struct link *link)
{
    assert(!is_linked(link));
    link->previous = list->previous;
    link->next = list;
    list->previous->next = link;
    list->previous = link;
}

static void list_remove(struct link *link)
{
    if (!is_linked(link))
        return;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link->previous = link->next = NULL;
}

/* All of `from`, behind what `to` holds. */
static void list_move(struct link *from, struct link *to)
{
    if (list_is_empty(from))
        return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    list_init(from);
}

/* -- Life of one --------------------------------------------------------------------------------- */

/* At most one line in a while: floods must not reach the log. The statistics count all. */
static void note(struct clients *clients, const char *message, const char *why)
{
    bool is_too_soon =
        clients->noted_ns != 0 && clients->now_ns - clients->noted_ns < NOTE_INTERVAL_NS;
    if (is_too_soon || clients->owner.on_note == NULL)
        return;
    clients->noted_ns = clients->now_ns;
    clients->owner.on_note(clients->owner.context, message, why);
}

static void release_output(struct client *client)
{
    struct clients *clients = client->clients;
    clients->unsent_bytes -= client->output.size;
    clients->memory_was_released |= client->output.size > 0;
    output_release(&client->output, &clients->pool);
    list_remove(&client->in_stalled);
}

static void take_back_promise(struct client *client, uint64_t bytes)
{
    assert(bytes <= client->promised_bytes && bytes <= client->clients->promised_bytes);
    client->promised_bytes -= bytes;
    client->clients->promised_bytes -= bytes;
    client->clients->memory_was_released |= bytes > 0;
}

static void client_free(struct client *client)
{
    list_remove(&client->in_all);
    free(client);
}

static void client_close(struct client *client)
{
    struct clients *clients = client->clients;
    assert(client->is_open);
    reactor_remove(clients->reactor, &client->source);
    (void)os_close(clients->os, client->source.fd);
    client->is_open = false;

    release_output(client);
    input_release(client);
    take_back_promise(client, client->promised_bytes);
    clients->outstanding -= client->outstanding;
    list_remove(&client->in_work);
    list_remove(&client->in_flush);
    list_remove(&client->in_unfinished);
    clients->stats.clients--;
    if (clients->accept_paused_ns != 0) { /* there is a descriptor again */
        clients->accept_paused_ns = 0;
        clients->is_acceptable = true;
    }
    if (client->outstanding == 0)
        client_free(client);
}

void client_doom(struct client *client, const char *why, uint64_t *counter)
{
    if (client->is_doomed || !client->is_open)
        return;
    client->is_doomed = true;
    release_output(client);
    if (client != client->clients->parsing) /* else it is in use just now */
        input_release(client);
    list_remove(&client->in_unfinished);
    client_queue_flush(client);
    if (counter != NULL)
        ++*counter;
    if (why != NULL)
        note(client->clients, "client connection closed", why);
}

bool client_may_parse(const struct client *client)
{
    const struct clients *clients = client->clients;
    return client->is_open && !client->is_doomed && !client->is_ending && !clients->is_stopped &&
           !client->waits_for_all && client->outstanding < clients->limits.pipeline &&
           client->output.size <= clients->output_soft;
}

static bool has_input(const struct client *client)
{
    size_t size = client->input_end - client->input_start;
    return client->is_readable || client->is_at_end || (size > 0 && size >= client->input_need);
}

/* Something has changed: it may go on, perhaps. */
static void wake(struct client *client)
{
    if (!is_linked(&client->in_work) && client_may_parse(client) && has_input(client))
        list_append(&client->clients->runnable, &client->in_work);
}

void client_queue_flush(struct client *client)
{
    if (!is_linked(&client->in_flush))
        list_append(&client->clients->flush, &client->in_flush);
}

static void on_client_ready(void *owner, uint32_t events)
{
    struct client *client = owner;
    if (events & OS_HANGUP)
        client->has_hung_up = true;
    if (events & (OS_READABLE | OS_HANGUP))
        client->is_readable = true;
    if (events & (OS_WRITABLE | OS_HANGUP)) {
        client->is_send_blocked = false;
        if (client->output.size > 0)
            client_queue_flush(client);
    }
    wake(client);
}

/* -- Memory -------------------------------------------------------------------------------------- */

uint64_t clients_memory(const struct clients *clients)
{
    return clients->input_memory + clients->pool.memory_bytes;
}

static bool has_room(const struct clients *clients, size_t size)
{
    return size == 0 || clients_memory(clients) + size <= clients->memory_max;
}

static struct client *oldest_unfinished(const struct clients *clients, const struct client *except)
{
    for (const struct link *at = clients->unfinished.next; at != &clients->unfinished;
         at = at->next) {
        struct client *client = CLIENT_OF(at, in_unfinished);
        if (client != except && client != clients->parsing)
            return client;
    }
    return NULL;
}

static struct client *oldest_stalled(const struct clients *clients, const struct client *except)
{
    for (const struct link *at = clients->stalled.next; at != &clients->stalled; at = at->next)
        if (CLIENT_OF(at, in_stalled) != except)
            return CLIENT_OF(at, in_stalled);
    return NULL;
}

bool clients_make_room(struct clients *clients, const struct client *client, size_t size)
{
    while (!has_room(clients, size)) {
        const char *why = "unfinished request, while memory for clients is used up";
        struct client *victim = oldest_unfinished(clients, client);
        if (victim == NULL) {
            why = "slow reader, while memory for clients is used up";
            victim = oldest_stalled(clients, client);
        }
        if (victim == NULL)
            return false;
        client_doom(victim, why, &clients->stats.closed_memory);
    }
    return true;
}

/* -- Replies ------------------------------------------------------------------------------------- */

static void put(struct client *client, const void *bytes, size_t size)
{
    if (client->is_doomed)
        return;
    struct clients *clients = client->clients;
    size_t growth = output_growth(&client->output, size);
    bool is_put = clients_make_room(clients, client, growth) &&
                  output_append(&client->output, &clients->pool, bytes, size);
    if (is_put)
        clients->unsent_bytes += size;
    else
        client_doom(client, "memory for clients is used up (ClientMemoryBytes)",
                    &clients->stats.closed_memory);
}

static void put_status(struct client *client, const char *text)
{
    size_t size = text_print_status(text, NULL, 0);
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) {
        client_doom(client, "out of memory", &client->clients->stats.closed_memory);
        return;
    }
    text_print_status(text, bytes, size);
    put(client, bytes, size);
    free(bytes);
}

void client_put_reply(struct client *client, const struct reply *reply)
{
    if (client->is_doomed)
        return;
    if (reply->type == REPLY_STATUS) {
        put_status(client, reply->text);
    } else {
        struct text_printed printed;
        text_print(reply, &printed);
        put(client, printed.head, printed.head_size);
        if (printed.has_value) {
            put(client, reply->value, reply->value_size);
            put(client, "\r\n", 2);
        }
    }
    client_queue_flush(client);
    if (client->output.size > client->clients->output_max)
        client_doom(client, "slow reader: too many bytes of replies unread (OutputBytes)",
                    &client->clients->stats.closed_slow_reader);
}

void client_answer(struct client *client, const struct request *request, const struct reply *reply)
{
    assert(client->is_open && client->outstanding == 0); /* else it would overtake */
    if (!request->noreply)
        client_put_reply(client, reply);
}

void client_complete(struct client *client, bool noreply, const struct reply *reply)
{
    assert(client->outstanding > 0);
    uint32_t outstanding = client->outstanding--;
    if (!client->is_open) {
        if (client->outstanding == 0)
            client_free(client);
        return;
    }
    client->clients->outstanding--;
    take_back_promise(client, client->promised_bytes / outstanding);
    if (client->outstanding == 0)
        client->waits_for_all = false;
    if (!noreply)
        client_put_reply(client, reply);
    if (client->is_ending)
        client_queue_flush(client);
    wake(client);
}

uint32_t client_outstanding(const struct client *client)
{
    return client->outstanding;
}

uint64_t client_mark(const struct client *client)
{
    return client->mark;
}

void client_set_mark(struct client *client, uint64_t mark)
{
    client->mark = mark;
}

/* -- Sending ------------------------------------------------------------------------------------- */

static void mark_progress(struct client *client, bool is_stalled)
{
    list_remove(&client->in_stalled);
    if (!is_stalled)
        return;
    client->stalled_ns = client->clients->now_ns;
    list_append(&client->clients->stalled, &client->in_stalled);
}

/* One vectored write. A short one means that the socket is full, and that it will say when it no
 * longer is. */
static void send_some(struct client *client)
{
    struct clients *clients = client->clients;
    struct iovec parts[OUTPUT_PARTS_MAX];
    int part_count = output_parts(&client->output, parts);
    size_t size = 0;
    for (int i = 0; i < part_count; i++)
        size += parts[i].iov_len;

    ptrdiff_t sent = os_sendv(clients->os, client->source.fd, parts, part_count);
    if (sent < 0 && sent != -EAGAIN) {
        client_doom(client, NULL, NULL); /* it has gone: its own affair */
        return;
    }
    bool has_progress = sent > 0;
    client->is_send_blocked = sent < 0 || (size_t)sent < size;
    if (has_progress) {
        output_consume(&client->output, &clients->pool, (size_t)sent);
        clients->unsent_bytes -= (size_t)sent;
        clients->memory_was_released = true;
    }
    bool is_newly_stalled = client->is_send_blocked && !is_linked(&client->in_stalled);
    if (has_progress || is_newly_stalled)
        mark_progress(client, client->is_send_blocked);
}

static bool is_finished(const struct client *client)
{
    return client->is_doomed ||
           (client->is_ending && client->outstanding == 0 && client->output.size == 0);
}

/* A socket that is closed with bytes unread resets the connection, and a reset may destroy the reply
 * that is still on its way. So what is there already is read and dropped; not what may yet come. */
static void drain(struct client *client)
{
    struct clients *clients = client->clients;
    for (int i = 0; i < DRAIN_READS_MAX; i++)
        if (os_recv(clients->os, client->source.fd, clients->shared, CLIENT_SHARED_SIZE) !=
            CLIENT_SHARED_SIZE)
            return;
}

static void end(struct client *client)
{
    if (!client->is_doomed && !client->is_at_end)
        drain(client);
    client_close(client);
}

void clients_flush(struct clients *clients)
{
    struct link due;
    list_init(&due);
    list_move(&clients->flush, &due);
    while (!list_is_empty(&due)) {
        struct client *client = CLIENT_OF(due.next, in_flush);
        list_remove(&client->in_flush);
        if (client->output.size > 0 && !client->is_send_blocked)
            send_some(client);
        if (is_finished(client)) {
            end(client);
            continue;
        }
        if (client->output.size > 0 && !client->is_send_blocked)
            client_queue_flush(client); /* more parts than one call takes: next turn */
        wake(client);
    }
}

/* -- Accepting ----------------------------------------------------------------------------------- */

static void on_listener_ready(void *owner, uint32_t events)
{
    struct clients *clients = owner;
    (void)events;
    clients->is_acceptable = true;
}

/* Any descriptor will do. */
static void hold_spare(struct clients *clients)
{
    if (clients->spare_fd < 0)
        clients->spare_fd = os_timer_create(clients->os);
    if (clients->spare_fd < 0)
        clients->spare_fd = -1;
}

static void refuse(struct clients *clients, int fd, const char *why)
{
    struct reply reply = { .type = REPLY_ERROR, .error = REPLY_BUSY, .text = why };
    struct text_printed printed;
    text_print(&reply, &printed);
    struct iovec part = { printed.head, printed.head_size };
    (void)os_sendv(clients->os, fd, &part, 1); /* a courtesy: nothing is lost if it fails */
    (void)os_recv(clients->os, fd, clients->shared, CLIENT_SHARED_SIZE); /* see drain() */
    (void)os_close(clients->os, fd);
    clients->stats.refused++;
    note(clients, "client connection refused", why);
}

/* Descriptors have run out: the spare one makes room to take the connection and say no. Returns
 * whether there may be more of them. */
static bool refuse_for_descriptors(struct clients *clients)
{
    if (clients->spare_fd >= 0) {
        (void)os_close(clients->os, clients->spare_fd);
        clients->spare_fd = -1;
        int fd = os_accept(clients->os, clients->listener.fd, NULL);
        if (fd >= 0)
            refuse(clients, fd, "no more file descriptors");
        hold_spare(clients);
        if (fd == -EAGAIN)
            return false;
    }
    if (clients->spare_fd >= 0)
        return true;
    clients->accept_paused_ns = clients->now_ns + ACCEPT_PAUSE_NS;
    note(clients, "no client connections for a moment", "no more file descriptors");
    return false;
}

static bool client_start(struct clients *clients, int fd)
{
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return false;
    client->clients = clients;
    client->source = (struct reactor_source){
        .fd = fd, .phase = REACTOR_CLIENT, .on_ready = on_client_ready, .owner = client
    };
    client->is_open = true;
    if (reactor_add(clients->reactor, &client->source) < 0) {
        free(client);
        return false;
    }
    list_append(&clients->all, &client->in_all);
    clients->stats.clients++;
    clients->stats.accepted++;
    return true;
}

/* Returns whether there may be another one to accept. */
static bool accept_one(struct clients *clients)
{
    int fd = os_accept(clients->os, clients->listener.fd, NULL);
    if (fd == -EMFILE || fd == -ENFILE)
        return refuse_for_descriptors(clients);
    if (fd == -EAGAIN)
        return false;
    if (fd < 0) { /* memory, above all: try again a little later */
        clients->accept_paused_ns = clients->now_ns + ACCEPT_PAUSE_NS;
        return false;
    }
    if (clients->stats.clients >= clients->limits.connections)
        refuse(clients, fd, "all client connections are in use (Clients)");
    else if (!client_start(clients, fd))
        refuse(clients, fd, "out of memory");
    return true;
}

static void accept_some(struct clients *clients)
{
    if (clients->accept_paused_ns != 0 && clients->accept_paused_ns <= clients->now_ns) {
        clients->accept_paused_ns = 0;
        clients->is_acceptable = true;
        hold_spare(clients);
    }
    if (!clients->is_acceptable || clients->is_stopped || clients->accept_paused_ns != 0)
        return;
    for (int i = 0; i < ACCEPTS_PER_TURN && clients->is_acceptable; i++)
        clients->is_acceptable = accept_one(clients);
}

/* -- The turn ------------------------------------------------------------------------------------ */

static bool has_unfinished_request(const struct client *client)
{
    size_t size = client->input_end - client->input_start;
    bool has_part = size > 0 && size < client->input_need;
    return !client->is_ending && !client->is_doomed && (has_part || client->swallow != 0);
}

/* The time-out runs from the first byte of a request to its last one. */
static void watch_request(struct client *client, bool is_new_request)
{
    bool is_unfinished = has_unfinished_request(client);
    if (is_new_request || !is_unfinished)
        list_remove(&client->in_unfinished);
    if (!is_unfinished || is_linked(&client->in_unfinished))
        return;
    struct clients *clients = client->clients;
    client->deadline_ns = clients->now_ns + (uint64_t)clients->limits.request_timeout_ms * 1000000u;
    list_append(&clients->unfinished, &client->in_unfinished);
}

static void run_client(struct client *client, struct input_budget *total)
{
    struct clients *clients = client->clients;
    struct input_budget budget = { CLIENT_TURN_BYTES, CLIENT_TURN_REQUESTS };
    clients->parsing = client;
    enum input_state state = input_run(client, &budget);
    clients->parsing = NULL;

    size_t bytes = CLIENT_TURN_BYTES - budget.bytes;
    uint32_t requests = CLIENT_TURN_REQUESTS - budget.requests;
    total->bytes -= bytes < total->bytes ? bytes : total->bytes;
    total->requests -= requests < total->requests ? requests : total->requests;
    watch_request(client, requests > 0);
    if (state == INPUT_WAITS)
        return; /* unless the owner has completed one of its requests meanwhile: see wake() */
    list_remove(&client->in_work);
    list_append(state == INPUT_STARVES ? &clients->starved : &clients->runnable, &client->in_work);
}

static void run_clients(struct clients *clients)
{
    struct input_budget total = { CLIENTS_TURN_BYTES, CLIENTS_TURN_REQUESTS };
    struct link due;
    list_init(&due);
    if (clients->memory_was_released)
        list_move(&clients->starved, &due);
    clients->memory_was_released = false;
    list_move(&clients->runnable, &due);
    while (!list_is_empty(&due) && total.bytes > 0 && total.requests > 0) {
        struct client *client = CLIENT_OF(due.next, in_work);
        list_remove(&client->in_work);
        run_client(client, &total);
    }
    list_move(&clients->runnable, &due); /* those who had no turn are the first of the next one */
    list_move(&due, &clients->runnable);
}

static void expire_requests(struct clients *clients)
{
    while (!list_is_empty(&clients->unfinished)) {
        struct client *client = CLIENT_OF(clients->unfinished.next, in_unfinished);
        if (client->deadline_ns > clients->now_ns)
            return;
        list_remove(&client->in_unfinished);
        if (client_may_parse(client))
            client_doom(client, "request not complete in time (RequestTimeoutMs)",
                        &clients->stats.closed_slow_request);
        else
            watch_request(client, true); /* it is us who do not read: it gets the time again */
    }
}

/* Others wait for memory: it is time for those who hold it and do nothing with it. */
static void expire_stalled(struct clients *clients)
{
    while (!list_is_empty(&clients->starved) && !list_is_empty(&clients->stalled)) {
        struct client *client = CLIENT_OF(clients->stalled.next, in_stalled);
        if (client->stalled_ns + STALL_GRACE_NS > clients->now_ns)
            return;
        client_doom(client, "slow reader, while others wait for memory",
                    &clients->stats.closed_memory);
    }
}

void clients_turn(struct clients *clients, uint64_t now_ns)
{
    clients->now_ns = now_ns;
    accept_some(clients);
    run_clients(clients);
    expire_requests(clients);
    expire_stalled(clients);
}

bool clients_busy(const struct clients *clients)
{
    bool has_accepts =
        clients->is_acceptable && !clients->is_stopped && clients->accept_paused_ns == 0;
    return has_accepts || !list_is_empty(&clients->runnable) || !list_is_empty(&clients->flush) ||
           (clients->memory_was_released && !list_is_empty(&clients->starved));
}

uint64_t clients_deadline_ns(const struct clients *clients)
{
    uint64_t deadline_ns = clients->is_stopped ? 0 : clients->accept_paused_ns;
    if (!list_is_empty(&clients->unfinished)) {
        const struct client *client = CLIENT_OF(clients->unfinished.next, in_unfinished);
        if (deadline_ns == 0 || client->deadline_ns < deadline_ns)
            deadline_ns = client->deadline_ns;
    }
    return deadline_ns;
}

/* -- Life of all --------------------------------------------------------------------------------- */

static uint32_t connections_within(const struct clients_limits *limits, int descriptor_limit)
{
    if (descriptor_limit <= 0)
        return limits->connections;
    uint32_t all = (uint32_t)descriptor_limit;
    uint32_t reserved = all / 2 < RESERVED_DESCRIPTORS ? all / 2 : RESERVED_DESCRIPTORS;
    return all - reserved < limits->connections ? all - reserved : limits->connections;
}

/* The limits must leave room for one reply of the largest kind beside the small ones. */
static void set_limits(struct clients *clients, const struct clients_limits *limits)
{
    clients->limits = *limits;
    clients->limits.connections = connections_within(limits, os_descriptor_limit(clients->os));
    if (clients->limits.pipeline == 0)
        clients->limits.pipeline = 1;

    size_t least = (size_t)limits->value_bytes + OUTPUT_MARGIN +
                   (size_t)clients->limits.pipeline * SMALL_REPLY_BYTES;
    clients->output_max = limits->output_bytes > least ? limits->output_bytes : least;
    clients->output_soft = clients->output_max - least;
    if (clients->output_soft > clients->output_max / 4)
        clients->output_soft = clients->output_max / 4;
    clients->memory_max = limits->memory_bytes > 2 * least ? limits->memory_bytes : 2 * least;
}

static int start_listening(struct clients *clients, const struct os_address *address)
{
    int fd = os_listen(clients->os, address, LISTEN_BACKLOG);
    if (fd < 0)
        return fd;
    clients->listener = (struct reactor_source){
        .fd = fd, .phase = REACTOR_CLIENT, .on_ready = on_listener_ready, .owner = clients
    };
    int code = reactor_add(clients->reactor, &clients->listener);
    if (code < 0) {
        (void)os_close(clients->os, fd);
        clients->listener.fd = -1;
    }
    return code;
}

struct clients *clients_new(struct os *os, struct reactor *reactor,
                            const struct os_address *address, const struct clients_limits *limits,
                            const struct clients_owner *owner, int *code)
{
    struct clients *clients = calloc(1, sizeof(*clients));
    uint8_t *shared = malloc(CLIENT_SHARED_SIZE);
    if (clients == NULL || shared == NULL) {
        free(clients);
        free(shared);
        *code = -ENOMEM;
        return NULL;
    }
    clients->os = os;
    clients->reactor = reactor;
    clients->owner = *owner;
    clients->shared = shared;
    clients->listener.fd = clients->spare_fd = -1;
    list_init(&clients->all);
    list_init(&clients->runnable);
    list_init(&clients->starved);
    list_init(&clients->flush);
    list_init(&clients->unfinished);
    list_init(&clients->stalled);
    set_limits(clients, limits);

    int result = start_listening(clients, address);
    if (result < 0) {
        *code = result;
        clients_free(clients);
        return NULL;
    }
    hold_spare(clients);
    if (clients->limits.connections < limits->connections)
        note(clients, "fewer client connections than configured (Clients)",
             "the limit of file descriptors");
    return clients;
}

static void stop_listening(struct clients *clients)
{
    if (clients->listener.fd >= 0) {
        reactor_remove(clients->reactor, &clients->listener);
        (void)os_close(clients->os, clients->listener.fd);
    }
    if (clients->spare_fd >= 0)
        (void)os_close(clients->os, clients->spare_fd);
    clients->listener.fd = clients->spare_fd = -1;
}

void clients_free(struct clients *clients)
{
    if (clients == NULL)
        return;
    stop_listening(clients);
    while (!list_is_empty(&clients->all)) {
        struct client *client = CLIENT_OF(clients->all.next, in_all);
        client->outstanding = 0; /* nobody will complete them any more */
        if (client->is_open)
            client_close(client);
        else
            client_free(client);
    }
    output_pool_release(&clients->pool);
    free(clients->shared);
    free(clients);
}

void clients_stop(struct clients *clients)
{
    clients->is_stopped = true;
    stop_listening(clients);
    while (!list_is_empty(&clients->unfinished))
        list_remove(clients->unfinished.next);
}

bool clients_drained(const struct clients *clients)
{
    return clients->outstanding == 0 && clients->unsent_bytes == 0;
}

void clients_stats(const struct clients *clients, struct clients_stats *stats)
{
    *stats = clients->stats;
    stats->memory_bytes = clients_memory(clients);
}
