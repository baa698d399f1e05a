/* The client layer against real sockets on the loopback, with an owner that does as it is told.
 * Everything runs in one thread: a test alternates turns of the server with steps of its clients, and
 * waits for events with a deadline, never for time. */
#define _GNU_SOURCE /* for descriptors.h */
#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/client/client.h"
#include "server/client/connection.h"
#include "server/os/os_linux.h"
#include "server/reactor.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/slow.h"

#define DEADLINE_NS (20000000000u * test_patience())
#define MS 1000000u
#define MIB (1024u * 1024u)

/* -- The owner ---------------------------------------------------------------------------------- */

enum manner {
    AT_ONCE,   /* answers inside on_request, if it may */
    NEXT_TURN, /* answers at the start of the next turn */
    WHEN_TOLD, /* answers when the test says so */
};

struct pending {
    struct client *client;
    enum request_type type;
    bool noreply;
    char key[256];
};

struct world {
    struct os *os;
    struct reactor *reactor;
    struct clients *clients;
    uint16_t port;

    enum manner manner;
    struct pending *pending;
    size_t pending_first, pending_count, pending_capacity, pending_most;
    uint64_t version;
    size_t value_size;  /* of the answer to a get; 0: the key itself */
    int next_turn_left; /* so many requests are put off first */
    size_t requests, put_off, put_behind;
    char last_note[128];
    uint64_t memory_most;
    uint64_t turns;
    uint64_t still_ns; /* not 0: the layer's clock stands here, however slow the machine is */
};

static uint8_t big_value[4 * MIB];

static struct reply reply_to(struct world *world, enum request_type type, const char *key)
{
    struct reply reply = { .type = REPLY_STORED };
    switch (type) {
    case REQUEST_SET:
    case REQUEST_CAS:
        reply.version = ++world->version;
        break;
    case REQUEST_DELETE:
        reply.type = REPLY_DELETED;
        break;
    case REQUEST_GET:
    case REQUEST_GETM:
        reply.type = REPLY_VALUE;
        reply.value = world->value_size > 0 ? big_value : (const uint8_t *)key;
        reply.value_size = (uint32_t)(world->value_size > 0 ? world->value_size : strlen(key));
        break;
    case REQUEST_STATUS:
        reply.type = REPLY_STATUS;
        reply.text = "role leader\n";
        break;
    case REQUEST_VERSION:
        reply.type = REPLY_PRODUCT;
        reply.text = "test";
        break;
    }
    return reply;
}

static void keep(struct world *world, struct client *client, const struct request *request)
{
    if (world->pending_first + world->pending_count == world->pending_capacity) {
        if (world->pending_count > 0)
            memmove(world->pending, world->pending + world->pending_first,
                    world->pending_count * sizeof(*world->pending));
        world->pending_first = 0;
        world->pending_capacity = 2 * world->pending_count + 16;
        world->pending = realloc(world->pending, world->pending_capacity * sizeof(*world->pending));
        ck_assert_ptr_nonnull(world->pending);
    }
    struct pending *pending = &world->pending[world->pending_first + world->pending_count++];
    pending->client = client;
    pending->type = request->type;
    pending->noreply = request->noreply;
    memcpy(pending->key, request->key, request->key_size);
    pending->key[request->key_size] = '\0';
    if (world->pending_count > world->pending_most)
        world->pending_most = world->pending_count;
}

static enum client_verdict on_request(void *context, struct client *client,
                                      const struct request *request)
{
    struct world *world = context;
    bool is_about_server = request->type == REQUEST_STATUS || request->type == REQUEST_VERSION;
    if (world->next_turn_left > 0) {
        world->next_turn_left--;
        world->put_off++;
        return CLIENT_NEXT_TURN;
    }
    if (world->manner != AT_ONCE && !is_about_server) {
        world->requests++;
        keep(world, client, request);
        return CLIENT_PENDING;
    }
    if (client_outstanding(client) != 0) {
        world->put_behind++;
        return CLIENT_LATER;
    }
    world->requests++;
    char key[256] = "";
    if (request->key_size > 0)
        memcpy(key, request->key, request->key_size);
    struct reply reply = reply_to(world, request->type, key);
    client_answer(client, request, &reply);
    if (request->key_size > 0) /* borrowed until the end of the call, whatever the answer did */
        ck_assert_int_eq(memcmp(key, request->key, request->key_size), 0);
    return CLIENT_ANSWERED;
}

static uint32_t value_size(void *context, const struct client *client,
                           const struct request *request)
{
    const struct world *world = context;
    (void)client;
    return world->value_size > 0 ? (uint32_t)world->value_size : request->key_size;
}

static void on_note(void *context, const char *message, const char *why)
{
    struct world *world = context;
    snprintf(world->last_note, sizeof(world->last_note), "%s: %s", message, why);
}

static void complete(struct world *world, size_t count)
{
    for (; count > 0 && world->pending_count > 0; count--) {
        struct pending pending = world->pending[world->pending_first];
        world->pending_first++;
        world->pending_count--;
        struct reply reply = reply_to(world, pending.type, pending.key);
        client_complete(pending.client, pending.noreply, &reply);
    }
}

/* -- The world ---------------------------------------------------------------------------------- */

static const struct clients_limits usual = {
    .connections = 1000,
    .value_bytes = MIB,
    .pipeline = 1024,
    .output_bytes = 8 * MIB,
    .memory_bytes = 64 * MIB,
    .request_timeout_ms = 10000,
};

static void world_init(struct world *world, const struct clients_limits *limits)
{
    *world = (struct world){ .os = os_linux_new() };
    ck_assert_ptr_nonnull(world->os);
    int signals = os_signal_create(world->os); /* SIGPIPE is ignored from here on */
    ck_assert_int_ge(signals, 0);
    os_close(world->os, signals);
    int code = 0;
    world->reactor = reactor_new(world->os, &code);
    ck_assert_ptr_nonnull(world->reactor);
    struct os_address address;
    ck_assert_int_eq(os_resolve(world->os, "127.0.0.1", 0, &address), 0);
    struct clients_owner owner = {
        .context = world, .on_request = on_request, .value_size = value_size, .on_note = on_note
    };
    world->clients = clients_new(world->os, world->reactor, &address, limits, &owner, &code);
    ck_assert_msg(world->clients != NULL, "clients_new: %s", strerror(-code));

    struct sockaddr_in bound;
    socklen_t size = sizeof(bound);
    int result = getsockname(world->clients->listener.fd, (struct sockaddr *)&bound, &size);
    ck_assert_int_eq(result, 0);
    world->port = ntohs(bound.sin_port);
}

static void world_release(struct world *world)
{
    complete(world, SIZE_MAX);
    clients_free(world->clients);
    reactor_free(world->reactor);
    os_linux_free(world->os);
    free(world->pending);
}

static void turn_until(struct world *world, uint64_t deadline_ns, bool busy)
{
    uint64_t now_ns = reactor_wait(world->reactor, deadline_ns, busy);
    if (world->manner == NEXT_TURN)
        complete(world, SIZE_MAX);
    reactor_dispatch(world->reactor, REACTOR_CLIENT);
    clients_turn(world->clients, world->still_ns != 0 ? world->still_ns : now_ns);
    struct clients_stats stats;
    clients_stats(world->clients, &stats);
    if (stats.memory_bytes > world->memory_most)
        world->memory_most = stats.memory_bytes;
    clients_flush(world->clients);
    world->turns++;
}

static void turn(struct world *world)
{
    turn_until(world, 0, true);
}

/* As the node does it: sleeps unless there is work, or a time-out is due. */
static void turn_as_node(struct world *world, uint64_t deadline_ns)
{
    uint64_t own_ns = clients_deadline_ns(world->clients);
    if (own_ns != 0 && own_ns < deadline_ns)
        deadline_ns = own_ns;
    bool busy =
        clients_busy(world->clients) || (world->manner == NEXT_TURN && world->pending_count > 0);
    turn_until(world, deadline_ns, busy);
}

static struct clients_stats stats_of(const struct world *world)
{
    struct clients_stats stats;
    clients_stats(world->clients, &stats);
    return stats;
}

/* -- Its clients -------------------------------------------------------------------------------- */

struct peer {
    int fd;
    const uint8_t *out;
    size_t out_size, out_sent, piece; /* piece: most bytes of one send; 0: no matter */
    uint8_t *in;
    size_t in_size, in_capacity;
    bool is_deaf; /* does not read */
    bool at_end;
    int error;
};

static int peer_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void peer_connect(const struct world *world, struct peer *peer, int fd)
{
    *peer = (struct peer){ .fd = fd };
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(world->port),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    int yes = 1; /* else Nagle would put small pieces together again */
    ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static void peer_open(const struct world *world, struct peer *peer)
{
    peer_connect(world, peer, peer_socket());
}

static void peer_say(struct peer *peer, const void *bytes, size_t size)
{
    ck_assert(peer->out_sent == peer->out_size);
    peer->out = bytes;
    peer->out_size = size;
    peer->out_sent = 0;
}

static void peer_close(struct peer *peer)
{
    close(peer->fd);
    free(peer->in);
    *peer = (struct peer){ .fd = -1 };
}

static void peer_abort(struct peer *peer)
{
    struct linger linger = { 1, 0 };
    setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    peer_close(peer);
}

static void peer_send(struct peer *peer)
{
    size_t size = peer->out_size - peer->out_sent;
    if (peer->piece > 0 && size > peer->piece)
        size = peer->piece;
    if (size == 0 || peer->error != 0)
        return;
    ssize_t sent = send(peer->fd, peer->out + peer->out_sent, size, MSG_NOSIGNAL);
    if (sent > 0)
        peer->out_sent += (size_t)sent;
    else if (errno != EAGAIN)
        peer->error = errno;
}

static void peer_receive(struct peer *peer)
{
    for (;;) {
        if (peer->is_deaf || peer->at_end || peer->error != 0)
            return;
        if (peer->in_capacity - peer->in_size < 65536) {
            peer->in_capacity = 2 * peer->in_capacity + 131072;
            peer->in = realloc(peer->in, peer->in_capacity);
            ck_assert_ptr_nonnull(peer->in);
        }
        ssize_t size =
            recv(peer->fd, peer->in + peer->in_size, peer->in_capacity - peer->in_size, 0);
        if (size > 0)
            peer->in_size += (size_t)size;
        else if (size == 0)
            peer->at_end = true;
        else if (errno != EAGAIN)
            peer->error = errno;
        if (size <= 0)
            return;
    }
}

static void step(struct world *world, struct peer *peer)
{
    peer_send(peer);
    turn(world);
    peer_receive(peer);
}

static uint64_t deadline(const struct world *world)
{
    return os_now_ns(world->os) + DEADLINE_NS;
}

static void expect_in(const struct peer *peer, const char *expected)
{
    size_t size = strlen(expected);
    ck_assert_msg(peer->in_size == size && memcmp(peer->in, expected, size) == 0,
                  "expected (%zu bytes)\n%.2000s--- got (%zu bytes)\n%.*s", size, expected,
                  peer->in_size, (int)(peer->in_size < 2000 ? peer->in_size : 2000),
                  (const char *)peer->in);
}

/* Steps until so many bytes have come, or the end. */
static void await_size(struct world *world, struct peer *peer, size_t size)
{
    uint64_t until = deadline(world);
    while ((peer->in_size < size || peer->out_sent < peer->out_size) && !peer->at_end &&
           peer->error == 0) {
        step(world, peer);
        ck_assert_msg(os_now_ns(world->os) < until, "%zu of %zu bytes came in time", peer->in_size,
                      size);
    }
}

static void await_end(struct world *world, struct peer *peer)
{
    uint64_t until = deadline(world);
    while (!peer->at_end && peer->error == 0) {
        step(world, peer);
        ck_assert_msg(os_now_ns(world->os) < until, "the connection was not closed in time");
    }
}

static void await_requests(struct world *world, struct peer *peer, size_t requests)
{
    uint64_t until = deadline(world);
    while (world->requests < requests) {
        step(world, peer);
        ck_assert_msg(os_now_ns(world->os) < until, "%zu of %zu requests came in time",
                      world->requests, requests);
    }
}

/* Until it has sent all, and the server has nothing to do any more. */
static void settle(struct world *world, struct peer *peer)
{
    uint64_t until = deadline(world);
    int quiet = 0;
    while (quiet < 3) {
        size_t sent = peer->out_sent;
        step(world, peer);
        quiet = clients_busy(world->clients) || peer->out_sent != sent ? 0 : quiet + 1;
        ck_assert_msg(os_now_ns(world->os) < until, "did not settle in time");
    }
}

static void expect_talk(struct world *world, struct peer *peer, const char *requests,
                        const char *replies)
{
    peer->in_size = 0;
    peer_say(peer, requests, strlen(requests));
    await_size(world, peer, strlen(replies));
    expect_in(peer, replies);
}

/* A string of requests, "<format with the number>" for 0 to count - 1. */
static char *series(const char *format, int count) __attribute__((format_arg(1)));

static char *series(const char *format, int count)
{
    size_t size = 0, capacity = 64 + (size_t)count * (strlen(format) + 16);
    char *text = malloc(capacity);
    ck_assert_ptr_nonnull(text);
    text[0] = '\0';
    for (int i = 0; i < count; i++)
        size += (size_t)snprintf(text + size, capacity - size, format, i);
    return text;
}

static char *copy_of(const char *front, size_t fill, const char *back)
{
    size_t front_size = strlen(front);
    char *text = malloc(front_size + fill + strlen(back) + 1);
    ck_assert_ptr_nonnull(text);
    memcpy(text, front, front_size);
    memset(text + front_size, 'v', fill);
    strcpy(text + front_size + fill, back);
    return text;
}

/* -- Order -------------------------------------------------------------------------------------- */

static const char talk[] = "set a 0 5\r\nhello\r\n"
                           "get a\r\n"
                           "get\r\n"
                           "delete a\n"
                           "set b 0 1 noreply\r\nx\r\n"
                           "VERSION\r\n"
                           "set c x 3\r\nbye\r\n"
                           "getm bb\r\n"
                           "set a 0 2000000000 noreply x\r\n";
static const char talk_replies[] =
    "OK 1\r\n"
    "VALUE 1\r\na\r\n"
    "ERR_CMD_ERR expected: get <key>\r\n"
    "DELETED\r\n"
    "VERSION test\r\n"
    "ERR_CMD_ERR expected exptime as seconds from now, 0 to 2147483647\r\n"
    "VALUE 2\r\nbb\r\n"
    "ERR_CMD_ERR expected: set <key> <exptime> <numbytes> [noreply], then the value line\r\n";

static const size_t talk_pieces[] = { 1, 2, 3, 7, 50, 1000 };

START_TEST(replies_come_in_order_whoever_answers_and_however_they_were_sent)
{
    static const enum manner manners[] = { AT_ONCE, NEXT_TURN };
    struct world world;
    world_init(&world, &usual);
    for (int i = 0; i < 2; i++) {
        world.manner = manners[i];
        world.version = 0;
        struct peer peer;
        peer_open(&world, &peer);
        peer.piece = talk_pieces[_i];
        expect_talk(&world, &peer, talk, talk_replies);
        ck_assert_uint_eq(world.clients->input_memory, 0);
        peer_close(&peer);
    }
    world_release(&world);
}
END_TEST

START_TEST(what_this_layer_answers_waits_for_what_is_pending)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nget b\r\nfrob\r\nget c\r\n", 27);
    settle(&world, &peer);
    ck_assert_uint_eq(world.requests, 2); /* c must not be asked before frob is answered */
    expect_in(&peer, "");
    complete(&world, 1);
    settle(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\n");
    complete(&world, 1);
    await_requests(&world, &peer, 3);
    complete(&world, 1);
    await_requests(&world, &peer, 3);
    settle(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\nVALUE 1\r\nb\r\n"
                     "ERR_CMD_ERR expected a command: set, cas, get, getm, delete, status, version "
                     "or quit\r\nVALUE 1\r\nc\r\n");
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(later_means_after_all_that_is_pending)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nget b\r\nversion\r\nget c\r\n", 30);
    settle(&world, &peer);
    ck_assert_uint_eq(world.pending_count, 2);
    complete(&world, 1);
    settle(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\n");
    ck_assert_uint_eq(world.put_behind, 1); /* not asked again for each of them */
    complete(&world, 1);
    settle(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\nVALUE 1\r\nb\r\nVERSION test\r\n");
    ck_assert_uint_eq(world.pending_count, 1);
    complete(&world, 1);
    settle(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\nVALUE 1\r\nb\r\nVERSION test\r\nVALUE 1\r\nc\r\n");
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(next_turn_is_asked_again_each_turn_and_keeps_the_order)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.next_turn_left = 5;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nget b\r\n", 14);
    while (world.put_off < 5) {
        size_t before = world.put_off;
        step(&world, &peer);
        ck_assert_uint_le(world.put_off, before + 1); /* once a turn */
        ck_assert(world.put_off == 0 || clients_busy(world.clients));
    }
    await_size(&world, &peer, 24);
    expect_in(&peer, "VALUE 1\r\na\r\nVALUE 1\r\nb\r\n");
    settle(&world, &peer);
    ck_assert(!clients_busy(world.clients));
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(ten_thousand_requests_in_one_write)
{
    struct clients_limits limits = usual;
    limits.pipeline = 100;
    struct world world;
    struct peer peer;
    world_init(&world, &limits);
    world.manner = _i == 0 ? AT_ONCE : NEXT_TURN;
    peer_open(&world, &peer);
    char *requests = series("set k 0 1\r\nx\r\nget key%05d\r\n", 5000);
    char *replies = malloc(5000 * 64);
    size_t size = 0;
    for (int i = 0; i < 5000; i++)
        size += (size_t)sprintf(replies + size, "OK %d\r\nVALUE 8\r\nkey%05d\r\n", i + 1, i);
    peer_say(&peer, requests, strlen(requests));
    await_size(&world, &peer, size);
    expect_in(&peer, replies);
    ck_assert_uint_eq(world.requests, 10000);
    ck_assert_uint_le(world.pending_most, 100);
    ck_assert_uint_lt(world.memory_most, 512 * 1024);
    peer_close(&peer);
    free(requests);
    free(replies);
    world_release(&world);
}
END_TEST

START_TEST(a_mark_stays_with_its_connection)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\n", 7);
    await_requests(&world, &peer, 1);
    struct client *client = world.pending[world.pending_first].client;
    ck_assert_uint_eq(client_mark(client), 0);
    ck_assert_uint_eq(client_outstanding(client), 1);
    client_set_mark(client, 42);
    ck_assert_uint_eq(client_mark(client), 42);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

/* -- Ends --------------------------------------------------------------------------------------- */

START_TEST(after_a_half_close_all_replies_arrive_and_then_the_end)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nget b\r\nversion\r\nget c", 28);
    peer_send(&peer);
    ck_assert_int_eq(shutdown(peer.fd, SHUT_WR), 0);
    settle(&world, &peer);
    ck_assert(!peer.at_end);
    complete(&world, 1);
    settle(&world, &peer);
    ck_assert(!peer.at_end);
    expect_in(&peer, "VALUE 1\r\na\r\n");
    complete(&world, 1);
    await_end(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\nVALUE 1\r\nb\r\nVERSION test\r\n");
    ck_assert_int_eq(peer.error, 0);
    ck_assert_uint_eq(stats_of(&world).clients, 0);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(a_half_close_behind_a_silent_request)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\ndelete a noreply\r\n", 25);
    peer_send(&peer);
    shutdown(peer.fd, SHUT_WR);
    await_requests(&world, &peer, 2);
    complete(&world, 1);
    settle(&world, &peer);
    ck_assert(!peer.at_end);
    complete(&world, 1);
    await_end(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\n");
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(a_half_close_with_much_still_to_be_sent)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = NEXT_TURN;
    world.value_size = MIB;
    peer_open(&world, &peer);
    char *requests = series("get %d\r\n", 40);
    peer_say(&peer, requests, strlen(requests));
    peer_send(&peer);
    shutdown(peer.fd, SHUT_WR);
    peer.is_deaf = true;
    settle(&world, &peer);
    peer.is_deaf = false;
    await_end(&world, &peer);
    ck_assert_int_eq(peer.error, 0);
    ck_assert_uint_eq(peer.in_size, 40 * (strlen("VALUE 1048576\r\n") + MIB + 2));
    free(requests);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(quit_ends_after_all_earlier_replies)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nquit\r\nget b\r\n", 20);
    settle(&world, &peer);
    ck_assert(!peer.at_end);
    complete(&world, 1);
    await_end(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\n");
    ck_assert_int_eq(peer.error, 0);
    ck_assert_uint_eq(world.requests, 1);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(a_stream_that_cannot_be_followed_is_told_so_and_closed)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    peer_open(&world, &peer);
    /* More than one read takes: the rest must not turn the close into a reset. */
    char *requests = copy_of("get a\r\nset a 0 2\r\nhello\r\n", 150000, "\r\n");
    peer_say(&peer, requests, strlen(requests));
    peer_send(&peer);
    ck_assert_uint_eq(peer.out_sent, peer.out_size);
    await_end(&world, &peer);
    expect_in(&peer, "VALUE 1\r\na\r\n"
                     "ERR_CMD_ERR expected a line end after the numbytes bytes of the value\r\n");
    ck_assert_int_eq(peer.error, 0);
    free(requests);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(pending_requests_outlive_an_aborted_connection)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nset b 0 1\r\nx\r\nget c\r\nset d 0 10\r\nhal", 43);
    await_requests(&world, &peer, 3);
    peer_abort(&peer);
    uint64_t until = deadline(&world);
    while (stats_of(&world).clients > 0) {
        turn(&world);
        ck_assert(os_now_ns(world.os) < until);
    }
    ck_assert(clients_drained(world.clients));
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    ck_assert(world.clients->all.next != &world.clients->all); /* what is pending counts on it */
    complete(&world, 2);
    ck_assert(world.clients->all.next != &world.clients->all);
    complete(&world, 1);
    ck_assert(world.clients->all.next == &world.clients->all);
    world_release(&world);
}
END_TEST

START_TEST(a_connection_may_vanish_with_replies_unsent)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.value_size = MIB;
    peer_open(&world, &peer);
    peer.is_deaf = true;
    char *requests = series("get %d\r\n", 100);
    peer_say(&peer, requests, strlen(requests));
    settle(&world, &peer);
    ck_assert_uint_gt(world.clients->unsent_bytes, 0);
    peer_abort(&peer);
    uint64_t until = deadline(&world);
    while (stats_of(&world).clients > 0) {
        turn(&world);
        ck_assert(os_now_ns(world.os) < until);
    }
    ck_assert(clients_drained(world.clients));
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    free(requests);
    world_release(&world);
}
END_TEST

START_TEST(stop_takes_nothing_new_and_drains)
{
    struct world world;
    struct peer peer, late = { .fd = peer_socket() };
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\n", 7);
    await_requests(&world, &peer, 1);
    clients_stop(world.clients);
    ck_assert(!clients_drained(world.clients));
    peer_say(&peer, "get b\r\n", 7);
    settle(&world, &peer);
    ck_assert_uint_eq(world.requests, 1);
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(world.port),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    ck_assert_int_eq(connect(late.fd, (const struct sockaddr *)&to, sizeof(to)), -1);
    complete(&world, 1);
    ck_assert(!clients_drained(world.clients));
    turn(&world);
    ck_assert(clients_drained(world.clients));
    ck_assert(!clients_busy(world.clients));
    ck_assert_uint_eq(clients_deadline_ns(world.clients), 0);
    peer_receive(&peer);
    expect_in(&peer, "VALUE 1\r\na\r\n");
    peer_close(&peer);
    close(late.fd);
    world_release(&world);
}
END_TEST

/* -- Large values ------------------------------------------------------------------------------- */

START_TEST(a_large_value_in_pieces)
{
    static const size_t pieces[] = { 0, 4000, 65536, 70001 };
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    peer_open(&world, &peer);
    peer.piece = pieces[_i];
    char *requests = copy_of("get x\r\nset a 0 1048576\r\n", MIB, "\r\nget b\r\n");
    expect_talk(&world, &peer, requests, "VALUE 1\r\nx\r\nOK 1\r\nVALUE 1\r\nb\r\n");
    ck_assert_uint_le(world.memory_most, MIB + 65536);
    settle(&world, &peer);
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    free(requests);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(a_value_byte_by_byte)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.still_ns = os_now_ns(world.os);
    peer_open(&world, &peer);
    peer.piece = 1;
    char *requests = copy_of("set a 0 20000\r\n", 20000, "\r\nget b\r\n");
    expect_talk(&world, &peer, requests, "OK 1\r\nVALUE 1\r\nb\r\n");
    free(requests);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(memory_follows_what_has_come_not_what_was_announced)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    peer_open(&world, &peer);
    char *request = copy_of("set a 0 1048576\r\n", 100000, "");
    for (size_t part = 0; part < 4; part++) {
        static const size_t sizes[] = { 17, 100, 20000, 100017 };
        size_t from = part == 0 ? 0 : sizes[part - 1];
        peer_say(&peer, request + from, sizes[part] - from);
        settle(&world, &peer);
        ck_assert_uint_gt(stats_of(&world).memory_bytes, 0);
        ck_assert_uint_le(stats_of(&world).memory_bytes, 2 * (sizes[part] > 64 ? sizes[part] : 64));
    }
    free(request);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(a_value_far_too_large_is_passed_over_with_little_memory)
{
    struct clients_limits limits = usual;
    limits.value_bytes = 1000;
    struct world world;
    struct peer peer;
    world_init(&world, &limits);
    peer_open(&world, &peer);
    char *requests = copy_of("set a 0 10000000\r\n", 10000000, "\r\nget b\r\n");
    expect_talk(&world, &peer, requests, "ERR_TOO_LARGE 1000\r\nVALUE 1\r\nb\r\n");
    ck_assert_uint_lt(world.memory_most, 10000);
    free(requests);

    requests = copy_of("set a 0 1001\r\n", 1001, "\r\nset a 0 1000\r\n");
    char *second = copy_of(requests, 1000, "\r\n");
    expect_talk(&world, &peer, second, "ERR_TOO_LARGE 1000\r\nOK 1\r\n");
    free(requests);
    free(second);

    expect_talk(&world, &peer, "set a 0 1001 noreply\r\n", "");
    requests = copy_of("", 1001, "x\r\nget b\r\n"); /* one byte more than announced */
    peer_say(&peer, requests, strlen(requests));
    await_end(&world, &peer);
    expect_in(&peer, "");
    free(requests);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

/* -- Slow readers ------------------------------------------------------------------------------- */

START_TEST(who_does_not_read_is_not_read)
{
    struct world world;
    struct peer peer, other;
    world_init(&world, &usual);
    world.value_size = 10000;
    peer_open(&world, &peer);
    peer_open(&world, &other);
    peer.is_deaf = true;
    char *requests = series("get %05d\r\n", 3000);
    peer_say(&peer, requests, strlen(requests));
    settle(&world, &peer);
    size_t answered = world.requests;
    ck_assert_uint_lt(answered, 3000);
    ck_assert_uint_le(world.clients->unsent_bytes, world.clients->output_soft + 10100);
    uint64_t turns = world.turns;
    for (uint64_t until = os_now_ns(world.os) + 50 * MS; os_now_ns(world.os) < until;)
        turn_as_node(&world, until);
    ck_assert_uint_le(world.turns - turns, 10); /* and costs nothing */

    world.value_size = 0;
    expect_talk(&world, &other, "get other\r\n", "VALUE 5\r\nother\r\n");
    world.value_size = 10000;

    peer.is_deaf = false;
    await_size(&world, &peer, 3000 * (strlen("VALUE 10000\r\n") + 10000 + 2));
    ck_assert_int_eq(peer.error, 0);
    ck_assert_uint_eq(stats_of(&world).closed_slow_reader, 0);
    free(requests);
    peer_close(&peer);
    peer_close(&other);
    world_release(&world);
}
END_TEST

START_TEST(a_slow_reader_past_the_limit_is_closed_and_the_others_are_served)
{
    struct clients_limits limits = usual;
    limits.value_bytes = 65536;
    limits.output_bytes = MIB;
    struct world world;
    struct peer peer, other;
    world_init(&world, &limits);
    world.manner = NEXT_TURN;
    peer_open(&world, &peer);
    peer_open(&world, &other);
    char *requests = series("get %03d\r\n", 1000);
    peer_say(&peer, requests, strlen(requests)); /* small replies: it is trusted with many reads */
    await_size(&world, &peer, 1000 * 14);
    world.manner = WHEN_TOLD;
    world.requests = world.pending_most = 0;
    peer_say(&peer, requests, strlen(requests));
    peer.is_deaf = true;
    settle(&world, &peer);
    ck_assert_uint_gt(world.pending_most, 100);

    world.value_size = 60000; /* more than it can take */
    complete(&world, 100);
    ck_assert_uint_eq(stats_of(&world).closed_slow_reader, 1);
    ck_assert_uint_le(stats_of(&world).memory_bytes, MIB + 65536);
    world.value_size = 0;
    peer_say(&other, "get other\r\n", 11);
    settle(&world, &other);
    complete(&world, SIZE_MAX);
    settle(&world, &other);
    expect_in(&other, "VALUE 5\r\nother\r\n");
    ck_assert_uint_eq(stats_of(&world).clients, 1);
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    ck_assert_str_eq(world.last_note, "client connection closed: slow reader: too many bytes of "
                                      "replies unread (OutputBytes)");
    free(requests);
    peer_close(&peer);
    peer_close(&other);
    world_release(&world);
}
END_TEST

START_TEST(a_connection_may_be_closed_with_work_at_hand)
{
    struct clients_limits limits = usual;
    limits.value_bytes = 65536;
    limits.output_bytes = MIB;
    struct world world;
    struct peer peer;
    world_init(&world, &limits);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\n", 7);
    await_requests(&world, &peer, 1);
    world.next_turn_left = 1000;
    peer_say(&peer, "get b\r\n", 7);
    while (world.put_off < 3)
        step(&world, &peer);
    ck_assert(clients_busy(world.clients));
    world.value_size = 2 * MIB; /* more than may be unsent */
    complete(&world, 1);
    await_end(&world, &peer);
    ck_assert_uint_eq(stats_of(&world).clients, 0);
    ck_assert(!clients_busy(world.clients));
    turn(&world);
    ck_assert_uint_le(world.put_off, 4);
    peer_close(&peer);

    world.manner = AT_ONCE;
    world.next_turn_left = 1; /* so that it is parsed from a buffer of its own */
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nget b\r\n", 14);
    await_end(&world, &peer);
    ck_assert_uint_eq(stats_of(&world).closed_slow_reader, 2);
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(a_thousand_reads_of_a_mebibyte_are_served_in_bounded_memory)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = NEXT_TURN;
    world.value_size = MIB;
    peer_open(&world, &peer);
    char *requests = series("get %03d\r\n", 1000);
    peer_say(&peer, requests, strlen(requests));
    const size_t reply_size = strlen("VALUE 1048576\r\n") + MIB + 2;
    uint64_t until = deadline(&world) + DEADLINE_NS;
    size_t total = 0;
    while (total < 1000 * reply_size && !peer.at_end && peer.error == 0) {
        step(&world, &peer);
        total += peer.in_size;
        peer.in_size = 0;
        ck_assert_msg(os_now_ns(world.os) < until, "%zu bytes in time", total);
    }
    ck_assert_uint_eq(total, 1000 * reply_size);
    ck_assert_uint_le(world.memory_most, usual.output_bytes + 65536);
    ck_assert_uint_ge(world.pending_most, 2); /* and not one at a time */
    free(requests);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

/* However many connections ask: a turn that writes all their replies must stay short. */
START_TEST(reads_of_all_connections_together_fit_into_a_turn)
{
    struct clients_limits limits = usual;
    limits.output_bytes = (uint32_t)(1024 * MIB);
    limits.memory_bytes = 1024 * MIB;
    struct world world;
    struct peer peers[4];
    world_init(&world, &limits);
    world.manner = WHEN_TOLD;
    world.value_size = MIB;
    char *requests = series("get %03d\r\n", 100);
    for (int i = 0; i < 4; i++) {
        peer_open(&world, &peers[i]);
        peer_say(&peers[i], requests, strlen(requests));
        settle(&world, &peers[i]);
    }
    ck_assert_uint_ge(world.pending_most, 2);
    ck_assert_uint_le(world.pending_most, 8);
    size_t most = world.pending_most;
    complete(&world, 1);
    settle(&world, &peers[3]); /* and the next one takes its place */
    ck_assert_uint_eq(world.pending_count, most);
    free(requests);
    for (int i = 0; i < 4; i++)
        peer_close(&peers[i]);
    world_release(&world);
}
END_TEST

START_TEST(the_window_opens_when_replies_are_small)
{
    struct world world;
    struct peer peer;
    world_init(&world, &usual);
    world.manner = NEXT_TURN;
    peer_open(&world, &peer);
    char *requests = series("get %05d\r\n", 5000);
    peer_say(&peer, requests, strlen(requests));
    await_size(&world, &peer, 5000 * 16);
    ck_assert_uint_ge(world.pending_most, 256);
    ck_assert_uint_le(world.pending_most, usual.pipeline);
    free(requests);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

/* -- Slow requests ------------------------------------------------------------------------------ */

START_TEST(an_unfinished_request_has_its_time)
{
    static const char *const fronts[] = { "get ", "set a 0 100\r\n1234", "set a x 100\r\n12",
                                          "get a\r\nge", "set a 0 1\r\nx\r" };
    struct clients_limits limits = usual;
    limits.request_timeout_ms = 60;
    struct world world;
    struct peer peer, other;
    world_init(&world, &limits);
    peer_open(&world, &peer);
    peer_open(&world, &other);
    expect_talk(&world, &other, "get a\r\n", "VALUE 1\r\na\r\n");
    ck_assert_uint_eq(clients_deadline_ns(world.clients), 0); /* an idle one has all the time */
    uint64_t begin = os_now_ns(world.os), turns = world.turns;
    peer_say(&peer, fronts[_i], strlen(fronts[_i]));
    peer_send(&peer);
    while (!peer.at_end && peer.error == 0) {
        turn_as_node(&world, begin + DEADLINE_NS);
        peer_receive(&peer);
        ck_assert(os_now_ns(world.os) < begin + DEADLINE_NS);
    }
    ck_assert_uint_ge(os_now_ns(world.os) - begin, 60 * MS);
    ck_assert_uint_le(world.turns - turns, 10);
    ck_assert_uint_eq(stats_of(&world).closed_slow_request, 1);
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    ck_assert_uint_eq(clients_deadline_ns(world.clients), 0);
    expect_talk(&world, &other, "get a\r\n", "VALUE 1\r\na\r\n");
    peer_close(&peer);
    peer_close(&other);
    world_release(&world);
}
END_TEST

START_TEST(a_trickle_does_not_win_time_but_each_request_has_its_own)
{
    struct clients_limits limits = usual;
    limits.request_timeout_ms = 100;
    struct world world;
    struct peer peer, honest;
    world_init(&world, &limits);
    world.still_ns = os_now_ns(world.os);
    peer_open(&world, &peer);
    peer_open(&world, &honest);
    char *request = copy_of("set a 0 100000\r\n", 100000, "\r\n");
    for (size_t rounds = 0; rounds < 20; rounds++, world.still_ns += 20 * MS) {
        if (!peer.at_end && peer.error == 0)
            (void)send(peer.fd, request + rounds, 1, MSG_NOSIGNAL);
        const char *part = rounds == 0 ? "ge" : "t a\r\nge"; /* always one unfinished */
        ck_assert_int_gt(send(honest.fd, part, strlen(part), MSG_NOSIGNAL), 0);
        await_size(&world, &honest, 12 * rounds);
        settle(&world, &peer);
    }
    ck_assert(peer.at_end || peer.error != 0);
    ck_assert(!honest.at_end && honest.error == 0);
    ck_assert_uint_eq(honest.in_size, 19 * 12);
    ck_assert_uint_eq(stats_of(&world).closed_slow_request, 1);
    free(request);
    peer_close(&peer);
    peer_close(&honest);
    world_release(&world);
}
END_TEST

START_TEST(time_that_we_do_not_read_is_not_counted)
{
    struct clients_limits limits = usual;
    limits.request_timeout_ms = 30;
    limits.pipeline = 1;
    struct world world;
    struct peer peer;
    world_init(&world, &limits);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer_say(&peer, "get a\r\nget b\r\nge", 16); /* b waits for a, and the rest behind b */
    await_requests(&world, &peer, 1);
    for (uint64_t until = os_now_ns(world.os) + 100 * MS; os_now_ns(world.os) < until;)
        turn_as_node(&world, until);
    ck_assert_uint_eq(stats_of(&world).closed_slow_request, 0);
    complete(&world, 1);
    await_requests(&world, &peer, 2);
    complete(&world, 1);
    await_end(&world, &peer); /* now it is the client who is slow */
    expect_in(&peer, "VALUE 1\r\na\r\nVALUE 1\r\nb\r\n");
    ck_assert_uint_eq(stats_of(&world).closed_slow_request, 1);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

START_TEST(nor_is_the_time_in_which_we_wait_for_it_to_read)
{
    struct clients_limits limits = usual;
    limits.request_timeout_ms = 30;
    limits.output_bytes = 32 * MIB;
    struct world world;
    struct peer peer;
    world_init(&world, &limits);
    world.still_ns = os_now_ns(world.os);
    world.manner = WHEN_TOLD;
    peer_open(&world, &peer);
    peer.is_deaf = true;
    peer_say(&peer, "get 1\r\nget 2\r\nget 3\r\nget 4\r\nget 5\r\nge", 37);
    await_requests(&world, &peer, 5);
    world.value_size = 4 * MIB;
    complete(&world, 5);
    settle(&world, &peer);
    ck_assert_uint_gt(world.clients->unsent_bytes, world.clients->output_soft);
    peer_say(&peer, "t 6\r\n", 5);
    peer_send(&peer);
    for (int i = 0; i < 10; i++) {
        world.still_ns += 10 * MS;
        turn(&world);
    }
    ck_assert_uint_eq(stats_of(&world).closed_slow_request, 0);
    peer.is_deaf = false;
    await_requests(&world, &peer, 6);
    complete(&world, 1);
    await_size(&world, &peer, 6 * (strlen("VALUE 4194304\r\n") + 4 * MIB + 2));
    ck_assert_int_eq(peer.error, 0);
    peer_close(&peer);
    world_release(&world);
}
END_TEST

/* -- Memory of all ------------------------------------------------------------------------------ */

START_TEST(half_requests_do_not_exceed_the_memory_and_the_oldest_go_first)
{
    struct clients_limits limits = usual;
    limits.value_bytes = 100000;
    limits.output_bytes = 200000;
    limits.pipeline = 16;
    limits.memory_bytes = MIB;
    struct world world;
    struct peer peers[40], other;
    world_init(&world, &limits);
    peer_open(&world, &other);
    char *request = copy_of("set a 0 100000\r\n", 60000, "");
    for (int i = 0; i < 40; i++) {
        peer_open(&world, &peers[i]);
        peer_say(&peers[i], request, strlen(request));
        settle(&world, &peers[i]);
        ck_assert_uint_le(stats_of(&world).memory_bytes, MIB);
    }
    ck_assert_uint_gt(stats_of(&world).closed_memory, 20);
    peer_receive(&peers[0]);
    ck_assert(peers[0].at_end || peers[0].error != 0);
    peer_receive(&peers[39]);
    ck_assert(!peers[39].at_end && peers[39].error == 0);
    expect_talk(&world, &other, "get a\r\n", "VALUE 1\r\na\r\n");
    char *rest = copy_of("", 40000, "\r\n");
    expect_talk(&world, &peers[39], rest, "OK 1\r\n");
    for (int i = 0; i < 40; i++)
        peer_close(&peers[i]);
    peer_close(&other);
    free(request);
    free(rest);
    world_release(&world);
}
END_TEST

START_TEST(half_requests_may_go_while_they_are_being_read)
{
    struct clients_limits limits = usual;
    limits.value_bytes = 200000;
    limits.output_bytes = 300000;
    limits.pipeline = 16;
    limits.memory_bytes = MIB;
    struct world world;
    struct peer peers[40];
    world_init(&world, &limits);
    char *request = copy_of("set a 0 200000\r\n", 190000, ""); /* more than a turn takes */
    for (int i = 0; i < 40; i++) {
        peer_open(&world, &peers[i]);
        peer_say(&peers[i], request, strlen(request));
    }
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 40; i++)
            peer_send(&peers[i]);
        turn(&world);
        ck_assert_uint_le(stats_of(&world).memory_bytes, MIB);
    }
    ck_assert_uint_ge(stats_of(&world).closed_memory, 30);
    ck_assert_uint_ge(stats_of(&world).clients, 1);
    for (int i = 0; i < 40; i++)
        peer_close(&peers[i]);
    free(request);
    world_release(&world);
}
END_TEST

START_TEST(slow_readers_do_not_exceed_the_memory_and_others_are_served)
{
    struct clients_limits limits = usual;
    limits.value_bytes = MIB;
    limits.output_bytes = 8 * MIB;
    limits.memory_bytes = 16 * MIB;
    struct world world;
    struct peer peers[16], other;
    world_init(&world, &limits);
    world.manner = NEXT_TURN;
    world.value_size = MIB;
    char *requests = series("get %d\r\n", 100);
    for (int i = 0; i < 16; i++) {
        peer_open(&world, &peers[i]);
        peers[i].is_deaf = true;
        peer_say(&peers[i], requests, strlen(requests));
    }
    peer_open(&world, &other);
    peer_say(&other, requests, strlen(requests));
    const size_t size = 100 * (strlen("VALUE 1048576\r\n") + MIB + 2);
    uint64_t until = deadline(&world);
    size_t total = 0;
    while (total < size && !other.at_end && other.error == 0) {
        for (int i = 0; i < 16; i++)
            peer_send(&peers[i]);
        step(&world, &other);
        total += other.in_size;
        other.in_size = 0;
        ck_assert_uint_le(stats_of(&world).memory_bytes, limits.memory_bytes);
        ck_assert_msg(os_now_ns(world.os) < until, "%zu bytes in time", total);
    }
    ck_assert_uint_eq(total, size);
    ck_assert_uint_le(world.memory_most, limits.memory_bytes);
    for (int i = 0; i < 16; i++)
        peer_close(&peers[i]);
    peer_close(&other);
    free(requests);
    world_release(&world);
}
END_TEST

START_TEST(when_memory_is_used_up_the_reader_that_was_slow_longest_goes)
{
    struct clients_limits limits = usual;
    limits.memory_bytes = 16 * MIB;
    struct world world;
    struct peer peers[16], other;
    world_init(&world, &limits);
    world.value_size = MIB;
    char *requests = series("get %d\r\n", 20);
    const size_t reply_size = strlen("VALUE 1048576\r\n") + MIB + 2;
    for (int i = 0; i < 16; i++) {
        peer_open(&world, &peers[i]);
        peers[i].is_deaf = true;
        peer_say(&peers[i], requests, strlen(requests));
        settle(&world, &peers[i]);
        ck_assert_uint_le(stats_of(&world).memory_bytes, limits.memory_bytes);
    }
    ck_assert_uint_ge(stats_of(&world).closed_memory, 5);
    peer_open(&world, &other);
    peer_say(&other, requests, strlen(requests));
    await_size(&world, &other, 20 * reply_size);
    peers[0].is_deaf = peers[15].is_deaf = false;
    await_end(&world, &peers[0]);
    ck_assert_uint_lt(peers[0].in_size, 20 * reply_size);
    await_size(&world, &peers[15], 20 * reply_size);
    ck_assert_uint_eq(peers[15].in_size, 20 * reply_size);
    for (int i = 0; i < 16; i++)
        peer_close(&peers[i]);
    peer_close(&other);
    free(requests);
    world_release(&world);
}
END_TEST

START_TEST(who_waits_for_memory_gets_it_from_those_who_stand_still)
{
    struct clients_limits limits = usual;
    limits.memory_bytes = 16 * MIB;
    struct world world;
    struct peer deaf[12], first, second;
    world_init(&world, &limits);
    world.still_ns = os_now_ns(world.os);
    world.value_size = MIB;
    char *requests = series("get %d\r\n", 20);
    for (int i = 0; i < 12; i++) {
        peer_open(&world, &deaf[i]);
        deaf[i].is_deaf = true;
        peer_say(&deaf[i], requests, strlen(requests));
        settle(&world, &deaf[i]);
    }
    ck_assert_uint_gt(stats_of(&world).memory_bytes, 12 * MIB);
    uint64_t closed = stats_of(&world).closed_memory;
    world.manner = WHEN_TOLD;
    peer_open(&world, &first);
    peer_say(&first, "get a\r\n", 7);
    settle(&world, &first);
    ck_assert_uint_eq(world.pending_count, 1);
    peer_open(&world, &second);
    peer_say(&second, "get b\r\n", 7);
    settle(&world, &second);
    ck_assert_uint_eq(world.pending_count, 1); /* the second has to wait, and not by spinning */
    ck_assert(!clients_busy(world.clients));
    world.still_ns += 999 * (uint64_t)MS;
    settle(&world, &second);
    ck_assert_uint_eq(world.pending_count, 1); /* they have a second to read something */
    world.still_ns += MS;
    uint64_t until = deadline(&world);
    while (world.pending_count < 2) {
        step(&world, &second);
        ck_assert(os_now_ns(world.os) < until);
    }
    ck_assert_uint_gt(stats_of(&world).closed_memory, closed);
    for (int i = 0; i < 12; i++)
        peer_close(&deaf[i]);
    peer_close(&first);
    peer_close(&second);
    free(requests);
    world_release(&world);
}
END_TEST

/* -- Connections -------------------------------------------------------------------------------- */

START_TEST(a_connection_over_the_limit_is_told_so)
{
    struct clients_limits limits = usual;
    limits.connections = 3;
    struct world world;
    struct peer peers[3], fourth;
    world_init(&world, &limits);
    for (int i = 0; i < 3; i++) {
        peer_open(&world, &peers[i]);
        expect_talk(&world, &peers[i], "get a\r\n", "VALUE 1\r\na\r\n");
    }
    peer_open(&world, &fourth);
    peer_say(&fourth, "get a\r\n", 7);
    peer_send(&fourth);
    await_end(&world, &fourth);
    ck_assert_int_eq(fourth.error, 0); /* no reset, which could destroy the answer */
    expect_in(&fourth, "ERR_BUSY all client connections are in use (Clients)\r\n");
    peer_close(&fourth);
    ck_assert_uint_eq(stats_of(&world).refused, 1);
    ck_assert_uint_eq(stats_of(&world).clients, 3);
    for (int i = 0; i < 3; i++)
        expect_talk(&world, &peers[i], "get a\r\n", "VALUE 1\r\na\r\n");
    peer_close(&peers[0]);
    while (stats_of(&world).clients == 3)
        turn(&world);
    peer_open(&world, &fourth);
    expect_talk(&world, &fourth, "get a\r\n", "VALUE 1\r\na\r\n");
    peer_close(&fourth);
    peer_close(&peers[1]);
    peer_close(&peers[2]);
    world_release(&world);
}
END_TEST

static int count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    int count = 0;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 3; /* ".", ".." and the directory itself */
}

START_TEST(without_descriptors_connections_are_refused_politely)
{
    struct world world;
    struct peer peers[10];
    int fds[10];
    struct descriptors descriptors;
    descriptors_init(&descriptors);
    for (int i = 0; i < 10; i++)
        fds[i] = peer_socket();
    world_init(&world, &usual);
    descriptors_leave(&descriptors, 4);
    for (int i = 0; i < 10; i++)
        peer_connect(&world, &peers[i], fds[i]);
    for (int i = 0; i < 10; i++) {
        peer_say(&peers[i], "get a\r\n", 7);
        await_size(&world, &peers[i], 12);
        ck_assert_uint_eq(world.clients->accept_paused_ns, 0);
        if (i < 4)
            expect_in(&peers[i], "VALUE 1\r\na\r\n");
        else
            expect_in(&peers[i], "ERR_BUSY no more file descriptors\r\n");
    }
    ck_assert_uint_eq(stats_of(&world).refused, 6);
    for (int i = 0; i < 10; i++)
        peer_close(&peers[i]);
    world_release(&world);
    descriptors_release(&descriptors);
}
END_TEST

START_TEST(without_even_the_spare_descriptor_accepting_pauses_and_does_not_spin)
{
    struct world world;
    struct peer peer, other;
    struct descriptors descriptors;
    descriptors_init(&descriptors);
    int fds[2] = { peer_socket(), peer_socket() };
    world_init(&world, &usual);
    peer_connect(&world, &other, fds[0]);
    expect_talk(&world, &other, "get a\r\n", "VALUE 1\r\na\r\n");
    os_close(world.os, world.clients->spare_fd);
    world.clients->spare_fd = -1;
    int filler = dup(0);
    descriptors_leave(&descriptors, 0);
    peer_connect(&world, &peer, fds[1]);
    uint64_t turns = world.turns;
    for (uint64_t until = os_now_ns(world.os) + 350 * MS; os_now_ns(world.os) < until;)
        turn_as_node(&world, until);
    ck_assert_uint_le(world.turns - turns, 20);
    ck_assert_uint_ge(world.turns - turns, 3);
    ck_assert(!clients_busy(world.clients));
    ck_assert_uint_ne(clients_deadline_ns(world.clients), 0);
    expect_talk(&world, &other, "get a\r\n", "VALUE 1\r\na\r\n"); /* others notice nothing */

    close(filler);
    descriptors_leave(&descriptors, 10);
    expect_talk(&world, &peer, "get b\r\n", "VALUE 1\r\nb\r\n");
    peer_close(&peer);
    peer_close(&other);
    world_release(&world);
    descriptors_release(&descriptors);
}
END_TEST

/* Lowers the limit for good, or finds that it may not (valgrind keeps the hard one); returns what it
 * is then. world_init() raises the soft limit to the hard one. */
static uint32_t lower_descriptor_limit(rlim_t wanted)
{
    struct rlimit limit = { wanted, wanted };
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        ck_assert_int_eq(errno, EPERM);
        ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        ck_assert_uint_gt(limit.rlim_max, wanted);
    }
    return (uint32_t)limit.rlim_max;
}

START_TEST(descriptors_are_left_for_others)
{
    uint32_t most = lower_descriptor_limit(200);
    struct clients_limits limits = usual;
    limits.connections = most + 800;
    struct world world;
    world_init(&world, &limits);
    ck_assert_uint_eq(world.clients->limits.connections, most - 64);
    ck_assert_str_eq(world.last_note, "fewer client connections than configured (Clients): "
                                      "the limit of file descriptors");
    world_release(&world);

    limits.connections = most - 50; /* fits into what there is, but not beside what is reserved */
    world_init(&world, &limits);
    ck_assert_uint_eq(world.clients->limits.connections, most - 64);
    world_release(&world);
    limits.connections = most - 100;
    world_init(&world, &limits);
    ck_assert_uint_eq(world.clients->limits.connections, most - 100);
    world_release(&world);
}
END_TEST

START_TEST(churn_leaves_nothing_behind)
{
    struct world world;
    world_init(&world, &usual);
    world.manner = WHEN_TOLD;
    int descriptors = count_descriptors();
    for (int i = 0; i < 3000; i++) {
        struct peer peer;
        peer_open(&world, &peer);
        peer_say(&peer, "get a\r\nset b 0 100\r\nhalf", 24);
        peer_send(&peer);
        turn(&world);
        if (i % 3 == 0)
            peer_abort(&peer);
        else
            peer_close(&peer);
        turn(&world);
        if (i % 7 == 0)
            complete(&world, SIZE_MAX);
    }
    uint64_t until = deadline(&world);
    while (stats_of(&world).clients > 0 || clients_busy(world.clients)) {
        complete(&world, SIZE_MAX);
        turn(&world);
        ck_assert(os_now_ns(world.os) < until);
    }
    complete(&world, SIZE_MAX);
    ck_assert(world.clients->all.next == &world.clients->all);
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    ck_assert_uint_le(world.clients->pool.free_count, 512);
    ck_assert_uint_eq(stats_of(&world).accepted, 3000);
    ck_assert_int_eq(count_descriptors(), descriptors);
    world_release(&world);
}
END_TEST

START_TEST(idle_connections_hold_no_buffer)
{
    struct world world;
    world_init(&world, &usual);
    struct peer *peers = calloc(500, sizeof(*peers));
    for (int i = 0; i < 500; i++) {
        peer_open(&world, &peers[i]);
        expect_talk(&world, &peers[i], "get a\r\nset a 0 3\r\nabc\r\n", "VALUE 1\r\na\r\nOK 1\r\n");
        world.version = 0;
    }
    ck_assert_uint_eq(stats_of(&world).clients, 500);
    ck_assert_uint_eq(stats_of(&world).memory_bytes, 0);
    ck_assert_uint_eq(world.clients->pool.free_count, 1); /* all in turn had the same block */
    ck_assert_uint_le(sizeof(struct client), 320);
    for (int i = 0; i < 500; i++)
        peer_close(&peers[i]);
    free(peers);
    world_release(&world);
}
END_TEST

START_TEST(who_sends_without_end_leaves_turns_to_others)
{
    struct world world;
    struct peer greedy, modest;
    world_init(&world, &usual);
    peer_open(&world, &greedy);
    peer_open(&world, &modest);
    char *requests = series("set k%05d 0 1 noreply\r\nx\r\n", 100000);
    peer_say(&greedy, requests, strlen(requests));
    await_requests(&world, &greedy, 1);
    peer_say(&modest, "get a\r\n", 7);
    peer_send(&modest);
    size_t before = world.requests;
    turn(&world);
    turn(&world);
    ck_assert_uint_le(world.requests - before, 2 * 256 + 1);
    ck_assert(clients_busy(world.clients));
    peer_receive(&modest);
    expect_in(&modest, "VALUE 1\r\na\r\n");
    await_requests(&world, &greedy, 100001);
    settle(&world, &greedy);
    expect_in(&greedy, "");
    free(requests);
    peer_close(&greedy);
    peer_close(&modest);
    world_release(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *tcase = tcase_create("client");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, replies_come_in_order_whoever_answers_and_however_they_were_sent, 0,
                        (int)(sizeof(talk_pieces) / sizeof(talk_pieces[0])));
    tcase_add_test(tcase, what_this_layer_answers_waits_for_what_is_pending);
    tcase_add_test(tcase, later_means_after_all_that_is_pending);
    tcase_add_test(tcase, next_turn_is_asked_again_each_turn_and_keeps_the_order);
    tcase_add_loop_test(tcase, ten_thousand_requests_in_one_write, 0, 2);
    tcase_add_test(tcase, a_mark_stays_with_its_connection);
    tcase_add_test(tcase, after_a_half_close_all_replies_arrive_and_then_the_end);
    tcase_add_test(tcase, a_half_close_behind_a_silent_request);
    tcase_add_test(tcase, a_half_close_with_much_still_to_be_sent);
    tcase_add_test(tcase, quit_ends_after_all_earlier_replies);
    tcase_add_test(tcase, a_stream_that_cannot_be_followed_is_told_so_and_closed);
    tcase_add_test(tcase, pending_requests_outlive_an_aborted_connection);
    tcase_add_test(tcase, a_connection_may_vanish_with_replies_unsent);
    tcase_add_test(tcase, stop_takes_nothing_new_and_drains);
    tcase_add_loop_test(tcase, a_large_value_in_pieces, 0, 4);
    tcase_add_test(tcase, a_value_byte_by_byte);
    tcase_add_test(tcase, memory_follows_what_has_come_not_what_was_announced);
    tcase_add_test(tcase, a_value_far_too_large_is_passed_over_with_little_memory);
    tcase_add_test(tcase, who_does_not_read_is_not_read);
    tcase_add_test(tcase, a_slow_reader_past_the_limit_is_closed_and_the_others_are_served);
    tcase_add_test(tcase, a_connection_may_be_closed_with_work_at_hand);
    tcase_add_test(tcase, a_thousand_reads_of_a_mebibyte_are_served_in_bounded_memory);
    tcase_add_test(tcase, reads_of_all_connections_together_fit_into_a_turn);
    tcase_add_test(tcase, the_window_opens_when_replies_are_small);
    tcase_add_loop_test(tcase, an_unfinished_request_has_its_time, 0, 5);
    tcase_add_test(tcase, a_trickle_does_not_win_time_but_each_request_has_its_own);
    tcase_add_test(tcase, time_that_we_do_not_read_is_not_counted);
    tcase_add_test(tcase, nor_is_the_time_in_which_we_wait_for_it_to_read);
    tcase_add_test(tcase, half_requests_do_not_exceed_the_memory_and_the_oldest_go_first);
    tcase_add_test(tcase, half_requests_may_go_while_they_are_being_read);
    tcase_add_test(tcase, slow_readers_do_not_exceed_the_memory_and_others_are_served);
    tcase_add_test(tcase, when_memory_is_used_up_the_reader_that_was_slow_longest_goes);
    tcase_add_test(tcase, who_waits_for_memory_gets_it_from_those_who_stand_still);
    tcase_add_test(tcase, a_connection_over_the_limit_is_told_so);
    tcase_add_test(tcase, without_descriptors_connections_are_refused_politely);
    tcase_add_test(tcase, without_even_the_spare_descriptor_accepting_pauses_and_does_not_spin);
    tcase_add_test(tcase, descriptors_are_left_for_others);
    tcase_add_test(tcase, churn_leaves_nothing_behind);
    tcase_add_test(tcase, idle_connections_hold_no_buffer);
    tcase_add_test(tcase, who_sends_without_end_leaves_turns_to_others);
    suite_add_tcase(suite, tcase);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
