/* Simulated TCP.
 *
 * A connection is two ends and two streams. A stream is a ring of bytes and a queue of pieces:
 *
 *     ring     | arrived: the reader may take it |   under way   |
 *     pieces                                     [ 12 | 1448 | 3 | FIN ]   each with its time
 *
 * Bytes are copied in once by the writer and out once by the reader; a piece only says how many bytes
 * of the ring arrive when. The one timeline event of a stream is that of its first piece, and it
 * delivers all that are due. The handshake's answers and the FIN are pieces without bytes: so they
 * keep their place among the data, and are held back with it by a cut. Once the cut is healed all goes
 * on after a retransmission time. A RST is no piece: it overtakes, and a cut swallows it, which leaves
 * the other end half-open, until it writes (and is answered by another RST) or until keepalive.
 *
 * Room. A writer may have `window` bytes that the reader has not taken. That the reader has taken some
 * is known to the writer at once if it is not waiting for it, and with a delay if it is (its end then
 * hears of it); not at all while the way back is cut.
 *
 * Life. An end is gone when its owner has closed it or died; a connection when both ends are. It stays
 * in its slot then, with its buffers, for the next one. Events cannot be taken back, so they name the
 * slot and its generation. Callbacks come from events only, as the last thing that an event does. */
#include "tests/sim/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/memory.h"

#define SECOND_NS 1000000000u
#define RETRANSMIT_MIN_NS 100000000u
#define RETRANSMIT_MAX_NS 400000000u
#define LOST_PIECE_NS 200000000u
#define PIECE_GAP_NS 1000u
#define SYN_RETRY_NS SECOND_NS /* doubled with each */
#define CONNECT_NS_MAX (60 * (uint64_t)SECOND_NS)
#define KEEPALIVE_MIN_NS (60 * (uint64_t)SECOND_NS)
#define KEEPALIVE_MAX_NS (120 * (uint64_t)SECOND_NS)
#define WINDOW_DEFAULT 65536u
#define RING_SIZE_MIN 256u
#define PIECES_MIN 8u
#define PURPOSE 0x6e6574u /* of the random stream */

enum piece_kind { PIECE_DATA, PIECE_SYN_ACK, PIECE_ACK, PIECE_FIN };

struct piece {
    uint64_t at_ns;
    size_t size;
    enum piece_kind kind;
};

struct stream { /* from the end of the same side to the other one */
    uint8_t *bytes;
    size_t capacity, start, size; /* a ring; the capacity is a power of two */
    size_t arrived;               /* at the front */
    struct piece *pieces;
    size_t piece_capacity, piece_start, piece_count; /* a ring as well */
    uint64_t last_at_ns;                             /* of the newest piece: order is kept */
    uint64_t event_at_ns;
    bool is_scheduled;
    bool is_held; /* the first piece was due and could not pass */
    bool fin_sent, fin_arrived;

    size_t window;
    size_t untold;       /* taken by the reader, and the writer may not know */
    bool wants_room;     /* the last write was short */
    bool room_is_coming; /* its event is on the timeline */
    bool room_is_held;
};

enum place {
    PLACE_NOWHERE, /* not yet there, or gone for its owner */
    PLACE_HALF,    /* a SYN has come, its ACK has not */
    PLACE_QUEUED,  /* waits to be accepted */
    PLACE_OWNED,
};

struct connection;

struct net_end {
    struct net *net;
    struct connection *connection; /* NULL: a listener */
    int side;
    int machine;
    uint16_t port;
    net_changed *changed;
    void *owner;
    enum place place;
    enum net_state state;
    int error;
    bool error_is_told;
    bool is_dead;         /* gone with its machine's power: never says FIN */
    struct net_end *next; /* in the listener's queue; of listeners: in the machine's list */
    struct net_end *queue_first, *queue_last;
    int backlog, queued;
};

struct connection {
    struct net_end ends[2]; /* 0 has dialled */
    struct stream streams[2];
    uint32_t slot, generation;
    uint64_t id; /* grows: newest is largest; 0: free */
    uint16_t port;
    uint64_t begun_ns;
    int syn_tries;
    bool is_broken; /* in the middle: nothing passes any more, both ends are to hear a RST */
    struct connection *next_free;
};

struct net {
    struct timeline *timeline;
    struct links *links;
    struct trace *trace;
    struct random random;
    size_t window_min, window_max, piece_max;
    struct connection **connections; /* by slot */
    uint32_t connection_count, connection_capacity;
    struct connection *free;
    uint64_t next_id;
    struct net_end *listeners[LINKS_MACHINES_MAX];
    bool is_down[LINKS_MACHINES_MAX]; /* without power, until it listens or dials again */
    uint64_t busy_until_ns[LINKS_MACHINES_MAX][LINKS_MACHINES_MAX]; /* where bytes_per_s is set */
    net_seen *seen;
    void *seen_context;
    uint64_t bytes;
};

/* -- Events -------------------------------------------------------------------------------------- */

enum event { EVENT_SYN, EVENT_DELIVER, EVENT_ROOM, EVENT_RESET, EVENT_TIMEOUT, EVENT_KEEPALIVE };

#define GENERATION_MASK 0xfffffffu /* 28 bits; then side (1), event (3), slot (32) */

static void on_event(void *owner, uint64_t argument);

static void schedule(struct connection *connection, enum event event, int side, uint64_t at_ns)
{
    uint64_t argument = (uint64_t)connection->slot << 32 | (uint64_t)event << 29 |
                        (uint64_t)side << 28 | (connection->generation & GENERATION_MASK);
    struct net *net = connection->ends[0].net;
    timeline_at(net->timeline, at_ns, on_event, net, argument);
}

static uint64_t now_ns(const struct net *net)
{
    return timeline_now_ns(net->timeline);
}

/* -- Ways ---------------------------------------------------------------------------------------- */

/* The way from the end at `side` to the other one. */
static struct link *way_of(const struct connection *connection, int side)
{
    int from = connection->ends[side].machine;
    int to = connection->ends[1 - side].machine;
    return &connection->ends[0].net->links->of[from][to];
}

/* When something of `size` bytes that leaves `side` now is on the other side. */
static uint64_t arrival_ns(struct connection *connection, int side, size_t size)
{
    struct net *net = connection->ends[0].net;
    const struct link *way = way_of(connection, side);
    uint64_t leaves_ns = now_ns(net);
    if (way->bytes_per_s != 0) {
        uint64_t *busy_until =
            &net->busy_until_ns[connection->ends[side].machine][connection->ends[1 - side].machine];
        if (*busy_until > leaves_ns)
            leaves_ns = *busy_until;
        leaves_ns += size * SECOND_NS / way->bytes_per_s;
        *busy_until = leaves_ns;
    }
    return leaves_ns + link_delay_ns(way, &net->random, 0);
}

static uint64_t retransmission_ns(struct net *net)
{
    return now_ns(net) + random_between(&net->random, RETRANSMIT_MIN_NS, RETRANSMIT_MAX_NS);
}

static bool can_pass(const struct connection *connection, int side)
{
    const struct net *net = connection->ends[0].net;
    return !way_of(connection, side)->cut && !net->is_down[connection->ends[1 - side].machine];
}

/* -- Streams ------------------------------------------------------------------------------------- */

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void ring_reserve(struct stream *stream, size_t more)
{
    if (stream->size + more <= stream->capacity)
        return;
    size_t capacity = stream->capacity == 0 ? RING_SIZE_MIN : stream->capacity;
    while (capacity < stream->size + more)
        capacity *= 2;
    uint8_t *bytes = must(malloc(capacity));
    size_t first = stream->capacity - stream->start;
    if (first > stream->size)
        first = stream->size;
    if (first > 0)
        memcpy(bytes, stream->bytes + stream->start, first);
    if (stream->size > first)
        memcpy(bytes + first, stream->bytes, stream->size - first);
    free(stream->bytes);
    stream->bytes = bytes;
    stream->capacity = capacity;
    stream->start = 0;
}

static void ring_put(struct stream *stream, const void *bytes, size_t size)
{
    if (size == 0)
        return;
    ring_reserve(stream, size);
    size_t at = (stream->start + stream->size) & (stream->capacity - 1);
    size_t first = stream->capacity - at < size ? stream->capacity - at : size;
    memcpy(stream->bytes + at, bytes, first);
    memcpy(stream->bytes, (const uint8_t *)bytes + first, size - first);
    stream->size += size;
}

static void ring_take(struct stream *stream, void *bytes, size_t size)
{
    assert(size > 0 && size <= stream->arrived);
    size_t first = stream->capacity - stream->start;
    if (first > size)
        first = size;
    memcpy(bytes, stream->bytes + stream->start, first);
    memcpy((uint8_t *)bytes + first, stream->bytes, size - first);
    stream->start = (stream->start + size) & (stream->capacity - 1);
    stream->size -= size;
    stream->arrived -= size;
}

static struct piece *piece_at(const struct stream *stream, size_t place)
{
    return &stream->pieces[(stream->piece_start + place) & (stream->piece_capacity - 1)];
}

static void pieces_grow(struct stream *stream)
{
    size_t capacity = stream->piece_capacity == 0 ? PIECES_MIN : 2 * stream->piece_capacity;
    struct piece *pieces = must(malloc(capacity * sizeof *pieces));
    for (size_t i = 0; i < stream->piece_count; i++)
        pieces[i] = *piece_at(stream, i);
    free(stream->pieces);
    stream->pieces = pieces;
    stream->piece_capacity = capacity;
    stream->piece_start = 0;
}

/* The event of the stream's first piece, unless it is on the timeline, or waits for a cut's end. */
static void schedule_first(struct connection *connection, int side)
{
    struct stream *stream = &connection->streams[side];
    if (stream->piece_count == 0 || stream->is_scheduled || stream->is_held)
        return;
    stream->is_scheduled = true;
    stream->event_at_ns = piece_at(stream, 0)->at_ns;
    schedule(connection, EVENT_DELIVER, side, stream->event_at_ns);
}

static void put_piece(struct connection *connection, int side, enum piece_kind kind, size_t size)
{
    struct net *net = connection->ends[0].net;
    struct stream *stream = &connection->streams[side];
    uint64_t at_ns = arrival_ns(connection, side, size);
    uint32_t lose = way_of(connection, side)->lose;
    if (lose != 0 && random_chance(&net->random, lose))
        at_ns += LOST_PIECE_NS;
    if (at_ns <= stream->last_at_ns) /* what overtook waits for what it has overtaken */
        at_ns = stream->last_at_ns + (net->piece_max == 0 ? 0 : PIECE_GAP_NS);
    stream->last_at_ns = at_ns;
    if (stream->piece_count == stream->piece_capacity)
        pieces_grow(stream);
    stream->piece_count++;
    *piece_at(stream, stream->piece_count - 1) = (struct piece){ at_ns, size, kind };
    schedule_first(connection, side);
}

/* What has not arrived is lost. */
static void drop_pieces(struct stream *stream)
{
    stream->piece_count = 0;
    stream->size = stream->arrived;
    stream->is_scheduled = stream->is_held = false;
}

static void stream_begin(struct net *net, struct stream *stream)
{
    struct stream kept = { .bytes = stream->bytes,
                           .capacity = stream->capacity,
                           .pieces = stream->pieces,
                           .piece_capacity = stream->piece_capacity };
    *stream = kept;
    stream->window = (size_t)random_between(&net->random, net->window_min, net->window_max);
}

/* -- Connections --------------------------------------------------------------------------------- */

static struct connection *connection_new_slot(struct net *net)
{
    if (net->connection_count == net->connection_capacity) {
        net->connection_capacity = 2 * net->connection_capacity + 16;
        net->connections =
            must(realloc(net->connections, net->connection_capacity * sizeof *net->connections));
    }
    struct connection *connection = must(calloc(1, sizeof *connection));
    connection->slot = net->connection_count;
    net->connections[net->connection_count++] = connection;
    return connection;
}

static struct connection *connection_begin(struct net *net, int from, int to, uint16_t port)
{
    struct connection *connection = net->free;
    if (connection == NULL)
        connection = connection_new_slot(net);
    else
        net->free = connection->next_free;
    connection->id = ++net->next_id;
    connection->port = port;
    connection->begun_ns = now_ns(net);
    connection->syn_tries = 0;
    connection->is_broken = false;
    for (int side = 0; side < 2; side++) {
        connection->ends[side] = (struct net_end){ .net = net,
                                                   .connection = connection,
                                                   .side = side,
                                                   .machine = side == 0 ? from : to,
                                                   .port = port };
        stream_begin(net, &connection->streams[side]);
    }
    return connection;
}

static bool is_gone(const struct net_end *end)
{
    return end->place == PLACE_NOWHERE;
}

static void free_if_gone(struct connection *connection)
{
    if (!is_gone(&connection->ends[0]) || !is_gone(&connection->ends[1]))
        return;
    struct net *net = connection->ends[0].net;
    connection->id = 0;
    connection->generation++;
    connection->next_free = net->free;
    net->free = connection;
}

static struct net_end *other_end(const struct net_end *end)
{
    return &end->connection->ends[1 - end->side];
}

static struct stream *stream_out(const struct net_end *end)
{
    return &end->connection->streams[end->side];
}

static struct stream *stream_in(const struct net_end *end)
{
    return &end->connection->streams[1 - end->side];
}

/* The last thing that an event does: the owner may do anything to the end. */
static void notify(struct net_end *end)
{
    if (end->place == PLACE_OWNED && end->changed != NULL)
        end->changed(end->owner, end);
}

static void fail(struct net_end *end, int error)
{
    struct net *net = end->net;
    end->state = NET_FAILED;
    end->error = error;
    drop_pieces(stream_in(end));
    drop_pieces(stream_out(end));
    trace_line(net->trace, end->machine < LINKS_NODES_MAX ? end->machine : -1,
               "connection %llu to port %u: end %d fails with %d",
               (unsigned long long)end->connection->id, end->port, end->side, error);
    notify(end);
}

/* -- Resets -------------------------------------------------------------------------------------- */

static void watch_half_open(struct net_end *end)
{
    struct net *net = end->net;
    if (!is_gone(end) && end->state == NET_OPEN)
        schedule(end->connection, EVENT_KEEPALIVE, end->side,
                 now_ns(net) + random_between(&net->random, KEEPALIVE_MIN_NS, KEEPALIVE_MAX_NS));
}

/* Tell the end that the connection is no more. What is under way to it is lost. */
static void send_reset(struct net_end *end)
{
    struct connection *connection = end->connection;
    drop_pieces(stream_in(end));
    if (end->place == PLACE_HALF)
        end->place = PLACE_NOWHERE;
    if (!is_gone(end))
        schedule(connection, EVENT_RESET, end->side, arrival_ns(connection, 1 - end->side, 0));
}

static void schedule_syn(struct connection *connection, uint64_t at_ns)
{
    schedule(connection, EVENT_SYN, 0, at_ns);
}

/* The SYN, or the answer to it, was lost: it is sent again, with patience, but not for ever. */
static void retry_syn(struct connection *connection)
{
    struct net *net = connection->ends[0].net;
    uint64_t wait_ns = (uint64_t)SYN_RETRY_NS << connection->syn_tries++;
    if (now_ns(net) + wait_ns - connection->begun_ns >= CONNECT_NS_MAX)
        schedule(connection, EVENT_TIMEOUT, 0, connection->begun_ns + CONNECT_NS_MAX);
    else
        schedule_syn(connection, now_ns(net) + wait_ns);
}

static void on_reset(struct connection *connection, int side)
{
    struct net_end *end = &connection->ends[side];
    if (is_gone(end) || end->state == NET_FAILED)
        return;
    if (can_pass(connection, 1 - side))
        fail(end, end->state == NET_CONNECTING ? -ECONNREFUSED : -ECONNRESET);
    else if (end->state == NET_CONNECTING)
        retry_syn(connection);
    else
        watch_half_open(end);
}

static void on_keepalive(struct connection *connection, int side)
{
    struct net_end *end = &connection->ends[side];
    bool is_half_open = connection->is_broken || other_end(end)->is_dead ||
                        is_gone(other_end(end)) || other_end(end)->state == NET_FAILED;
    if (is_gone(end) || end->state != NET_OPEN || !is_half_open || stream_in(end)->fin_arrived)
        return;
    bool is_answered = can_pass(connection, side) && can_pass(connection, 1 - side);
    fail(end, is_answered ? -ECONNRESET : -ETIMEDOUT);
}

static void break_connection(struct connection *connection)
{
    connection->is_broken = true;
    for (int side = 0; side < 2; side++)
        send_reset(&connection->ends[side]);
    free_if_gone(connection);
}

/* -- Connecting ---------------------------------------------------------------------------------- */

static struct net_end *find_listener(const struct net *net, int machine, uint16_t port)
{
    struct net_end *listener = net->listeners[machine];
    while (listener != NULL && listener->port != port)
        listener = listener->next;
    return listener;
}

/* At the machine that is dialled. */
static void on_syn(struct connection *connection)
{
    struct net_end *from = &connection->ends[0], *to = &connection->ends[1];
    struct net *net = from->net;
    if (from->state != NET_CONNECTING || !is_gone(to))
        return;
    if (!can_pass(connection, 0)) {
        retry_syn(connection);
        return;
    }
    const struct net_end *listener = find_listener(net, to->machine, to->port);
    if (listener == NULL) {
        send_reset(from);
    } else if (listener->queued >= listener->backlog) {
        retry_syn(connection);
    } else {
        to->place = PLACE_HALF;
        to->state = NET_OPEN;
        put_piece(connection, 1, PIECE_SYN_ACK, 0);
    }
}

static void on_timeout(struct connection *connection)
{
    struct net_end *end = &connection->ends[0];
    if (!is_gone(end) && end->state == NET_CONNECTING)
        fail(end, -ETIMEDOUT);
}

/* The dialler's ACK: the connection waits to be accepted. */
static struct net_end *enqueue(struct net_end *end)
{
    struct net_end *listener = find_listener(end->net, end->machine, end->port);
    if (listener == NULL)
        return NULL;
    end->place = PLACE_QUEUED;
    end->next = NULL;
    if (listener->queue_last != NULL)
        listener->queue_last->next = end;
    else
        listener->queue_first = end;
    listener->queue_last = end;
    listener->queued++;
    return listener;
}

/* -- Delivery ------------------------------------------------------------------------------------ */

/* Hand one piece over; returns who is to hear of it, NULL for nobody. Sets `is_refused` where the
 * other machine knows of no such connection. */
static struct net_end *deliver_piece(struct connection *connection, int side,
                                     const struct piece *piece, bool *is_refused)
{
    struct stream *stream = &connection->streams[side];
    struct net_end *end = &connection->ends[1 - side];
    bool is_unknown = is_gone(end) || end->state == NET_FAILED;
    switch (piece->kind) {
    case PIECE_DATA:
        *is_refused = is_unknown;
        stream->arrived += piece->size;
        end->net->bytes += piece->size;
        break;
    case PIECE_FIN:
        *is_refused = end->is_dead;
        stream->fin_arrived = true;
        break;
    case PIECE_SYN_ACK:
        *is_refused = is_unknown || end->state != NET_CONNECTING;
        if (*is_refused)
            break;
        end->state = NET_OPEN;
        put_piece(connection, 1 - side, PIECE_ACK, 0);
        break;
    case PIECE_ACK:
        if (end->place == PLACE_HALF)
            end = enqueue(end);
        else
            end = NULL;
        *is_refused = end == NULL;
        break;
    }
    return *is_refused ? NULL : end;
}

static void hold(struct connection *connection, int side)
{
    connection->streams[side].is_held = true;
    if (piece_at(&connection->streams[side], 0)->kind == PIECE_SYN_ACK)
        schedule(connection, EVENT_TIMEOUT, 0, connection->begun_ns + CONNECT_NS_MAX);
}

/* The pieces that are due. A listener and an end never hear of the same event: an ACK comes alone, or
 * with data that the end cannot hear of before it is accepted. */
static void deliver(struct connection *connection, int side)
{
    struct net *net = connection->ends[0].net;
    struct stream *stream = &connection->streams[side];
    uint64_t bytes_before = net->bytes;
    struct net_end *hears = NULL;
    while (stream->piece_count > 0 && piece_at(stream, 0)->at_ns <= now_ns(net)) {
        struct piece piece = *piece_at(stream, 0);
        stream->piece_start++;
        stream->piece_count--;
        bool is_refused = connection->is_broken;
        struct net_end *end =
            is_refused ? NULL : deliver_piece(connection, side, &piece, &is_refused);
        if (is_refused) {
            drop_pieces(stream);
            send_reset(&connection->ends[side]);
            free_if_gone(connection);
            return;
        }
        if (hears == NULL)
            hears = end;
    }
    trace_number(net->trace, connection->id << 32 ^ (net->bytes - bytes_before));
    schedule_first(connection, side);
    if (hears != NULL)
        notify(hears);
}

static void on_deliver(struct connection *connection, int side)
{
    struct stream *stream = &connection->streams[side];
    if (!stream->is_scheduled || stream->event_at_ns != now_ns(connection->ends[0].net))
        return; /* of pieces that were dropped */
    stream->is_scheduled = false;
    if (stream->piece_count == 0)
        return;
    if (can_pass(connection, side))
        deliver(connection, side);
    else
        hold(connection, side);
}

/* -- Room ---------------------------------------------------------------------------------------- */

static size_t room_of(const struct connection *connection, int side)
{
    const struct stream *stream = &connection->streams[side];
    size_t used = stream->size + (way_of(connection, 1 - side)->cut ? stream->untold : 0);
    return used < stream->window ? stream->window - used : 0;
}

/* The writer wants more than there is: it will hear of it. */
static void want_room(struct connection *connection, int side)
{
    struct stream *stream = &connection->streams[side];
    stream->wants_room = true;
    if (stream->untold > 0 && !stream->room_is_coming)
        stream->room_is_held = true; /* else it would have been told */
}

/* The reader has taken `size` bytes. */
static void tell_room(struct connection *connection, int side, size_t size)
{
    struct stream *stream = &connection->streams[side];
    stream->untold += size;
    if (!stream->wants_room || stream->room_is_coming || stream->room_is_held)
        return;
    stream->room_is_coming = true;
    schedule(connection, EVENT_ROOM, side, arrival_ns(connection, 1 - side, 0));
}

static void on_room(struct connection *connection, int side)
{
    struct stream *stream = &connection->streams[side];
    struct net_end *writer = &connection->ends[side];
    stream->room_is_coming = false;
    if (!can_pass(connection, 1 - side)) {
        stream->room_is_held = true;
        return;
    }
    stream->untold = 0;
    if (!stream->wants_room || room_of(connection, side) == 0)
        return;
    stream->wants_room = false;
    if (writer->state == NET_OPEN)
        notify(writer);
}

static void on_event(void *owner, uint64_t argument)
{
    struct net *net = owner;
    struct connection *connection = net->connections[argument >> 32];
    int side = (int)(argument >> 28 & 1);
    if ((connection->generation & GENERATION_MASK) != (argument & GENERATION_MASK))
        return;
    switch ((enum event)(argument >> 29 & 7)) {
    case EVENT_SYN:
        on_syn(connection);
        break;
    case EVENT_DELIVER:
        on_deliver(connection, side);
        break;
    case EVENT_ROOM:
        on_room(connection, side);
        break;
    case EVENT_RESET:
        on_reset(connection, side);
        break;
    case EVENT_TIMEOUT:
        on_timeout(connection);
        break;
    case EVENT_KEEPALIVE:
        on_keepalive(connection, side);
        break;
    }
}

/* -- Life ---------------------------------------------------------------------------------------- */

struct net *net_new(struct timeline *timeline, struct links *links, struct trace *trace,
                    uint64_t seed)
{
    struct net *net = must(calloc(1, sizeof *net));
    net->timeline = timeline;
    net->links = links;
    net->trace = trace;
    net->random = random_stream(seed, PURPOSE);
    net->window_min = net->window_max = WINDOW_DEFAULT;
    return net;
}

void net_free(struct net *net)
{
    if (net == NULL)
        return;
    for (uint32_t i = 0; i < net->connection_count; i++) {
        for (int side = 0; side < 2; side++) {
            free(net->connections[i]->streams[side].bytes);
            free(net->connections[i]->streams[side].pieces);
        }
        free(net->connections[i]);
    }
    for (int machine = 0; machine < LINKS_MACHINES_MAX; machine++) {
        while (net->listeners[machine] != NULL) {
            struct net_end *listener = net->listeners[machine];
            net->listeners[machine] = listener->next;
            free(listener);
        }
    }
    free(net->connections);
    free(net);
}

void net_set_window(struct net *net, size_t bytes_min, size_t bytes_max)
{
    assert(bytes_min > 0 && bytes_min <= bytes_max);
    net->window_min = bytes_min;
    net->window_max = bytes_max;
}

void net_set_pieces(struct net *net, size_t bytes_max)
{
    net->piece_max = bytes_max;
}

void net_on_sent(struct net *net, net_seen *seen, void *context)
{
    net->seen = seen;
    net->seen_context = context;
}

uint64_t net_bytes(const struct net *net)
{
    return net->bytes;
}

int net_ends(const struct net *net, int machine)
{
    int count = 0;
    for (uint32_t i = 0; i < net->connection_count; i++)
        for (int side = 0; side < 2; side++)
            count += net->connections[i]->ends[side].place == PLACE_OWNED &&
                     net->connections[i]->ends[side].machine == machine;
    return count;
}

/* What was held back, for a cut or for want of power, and may go on now. */
static void release_held(struct net *net)
{
    for (uint32_t i = 0; i < net->connection_count; i++) {
        struct connection *connection = net->connections[i];
        for (int side = 0; side < 2 && connection->id != 0; side++) {
            struct stream *stream = &connection->streams[side];
            if (stream->is_held && can_pass(connection, side)) {
                stream->is_held = false;
                stream->is_scheduled = true;
                stream->event_at_ns = retransmission_ns(net);
                schedule(connection, EVENT_DELIVER, side, stream->event_at_ns);
            }
            if (stream->room_is_held && can_pass(connection, 1 - side)) {
                stream->room_is_held = false;
                stream->room_is_coming = true;
                schedule(connection, EVENT_ROOM, side, retransmission_ns(net));
            }
        }
    }
}

void net_links_changed(struct net *net)
{
    release_held(net);
}

static void has_power(struct net *net, int machine)
{
    if (!net->is_down[machine])
        return;
    net->is_down[machine] = false;
    release_held(net);
}

/* -- Listening and dialling ---------------------------------------------------------------------- */

struct net_end *net_listen(struct net *net, int machine, uint16_t port, int backlog,
                           net_changed *changed, void *owner, int *code)
{
    if (find_listener(net, machine, port) != NULL) {
        *code = -EADDRINUSE;
        return NULL;
    }
    struct memory *before = memory_enter(NULL);
    has_power(net, machine);
    struct net_end *listener = must(calloc(1, sizeof *listener));
    *listener = (struct net_end){ .net = net,
                                  .machine = machine,
                                  .port = port,
                                  .changed = changed,
                                  .owner = owner,
                                  .place = PLACE_OWNED,
                                  .state = NET_OPEN,
                                  .next = net->listeners[machine],
                                  .backlog = backlog };
    net->listeners[machine] = listener;
    memory_enter(before);
    *code = 0;
    return listener;
}

int net_pending(const struct net_end *listener)
{
    return listener->queued;
}

static struct net_end *dequeue(struct net_end *listener)
{
    struct net_end *end = listener->queue_first;
    if (end == NULL)
        return NULL;
    listener->queue_first = end->next;
    if (end->next == NULL)
        listener->queue_last = NULL;
    listener->queued--;
    end->next = NULL;
    return end;
}

struct net_end *net_accept(struct net_end *listener, net_changed *changed, void *owner)
{
    struct net_end *end = dequeue(listener);
    if (end == NULL)
        return NULL;
    end->place = PLACE_OWNED;
    end->changed = changed;
    end->owner = owner;
    return end;
}

struct net_end *net_connect(struct net *net, int machine, int to_machine, uint16_t to_port,
                            net_changed *changed, void *owner)
{
    struct memory *before = memory_enter(NULL);
    has_power(net, machine);
    struct connection *connection = connection_begin(net, machine, to_machine, to_port);
    struct net_end *end = &connection->ends[0];
    end->place = PLACE_OWNED;
    end->state = NET_CONNECTING;
    end->changed = changed;
    end->owner = owner;
    schedule_syn(connection, arrival_ns(connection, 0, 0));
    memory_enter(before);
    return end;
}

enum net_state net_state(const struct net_end *end)
{
    return end->state;
}

int net_error(const struct net_end *end)
{
    return end->error;
}

int net_machine_of_peer(const struct net_end *end)
{
    return other_end(end)->machine;
}

/* -- Reading and writing ------------------------------------------------------------------------- */

/* As a kernel does: the error is told once, then `later`. */
static ptrdiff_t tell_error(struct net_end *end, ptrdiff_t later)
{
    if (end->error_is_told)
        return later;
    end->error_is_told = true;
    return end->error;
}

size_t net_readable(const struct net_end *end)
{
    if (end->connection == NULL)
        return (size_t)end->queued;
    return stream_in(end)->arrived + net_hung_up(end);
}

size_t net_writable(const struct net_end *end)
{
    bool is_open = end->connection != NULL && end->state == NET_OPEN && !stream_out(end)->fin_sent;
    return is_open ? room_of(end->connection, end->side) : 0;
}

bool net_hung_up(const struct net_end *end)
{
    return end->connection != NULL && (end->state == NET_FAILED || stream_in(end)->fin_arrived);
}

ptrdiff_t net_recv(struct net_end *end, void *bytes, size_t size)
{
    struct stream *stream = stream_in(end);
    if (size == 0)
        return 0;
    if (stream->arrived > 0) {
        if (size > stream->arrived)
            size = stream->arrived;
        ring_take(stream, bytes, size);
        struct memory *before = memory_enter(NULL);
        tell_room(end->connection, 1 - end->side, size);
        memory_enter(before);
        return (ptrdiff_t)size;
    }
    if (end->state == NET_FAILED)
        return tell_error(end, 0);
    return stream->fin_arrived ? 0 : -EAGAIN;
}

/* Cut what has just been put into the ring into pieces. Breaks the connection if chance says so. */
static void put_pieces(struct connection *connection, int side, size_t size)
{
    struct net *net = connection->ends[0].net;
    uint32_t reset = way_of(connection, side)->reset;
    bool breaks = false;
    while (size > 0) {
        size_t piece = size;
        if (net->piece_max != 0 && piece > 1) {
            piece = (size_t)random_between(&net->random, 1, net->piece_max);
            piece = piece < size ? piece : size;
        }
        put_piece(connection, side, PIECE_DATA, piece);
        size -= piece;
        breaks |= reset != 0 && random_below(&net->random, 1000000) < reset;
    }
    if (breaks)
        break_connection(connection);
}

static size_t put_run(struct net_end *end, const void *bytes, size_t size)
{
    struct net *net = end->net;
    size_t room = room_of(end->connection, end->side);
    if (size > room)
        size = room;
    if (size == 0)
        return 0;
    trace_bytes(net->trace, bytes, size);
    if (net->seen != NULL)
        net->seen(net->seen_context, end->machine, other_end(end)->machine, end->port,
                  end->connection->id, bytes, size);
    ring_put(stream_out(end), bytes, size);
    return size;
}

static ptrdiff_t send_parts(struct net_end *end, const struct iovec *parts, int part_count)
{
    struct connection *connection = end->connection;
    struct stream *stream = stream_out(end);
    if (!way_of(connection, 1 - end->side)->cut)
        stream->untold = 0;
    size_t asked = 0, sent = 0;
    for (int i = 0; i < part_count; i++) {
        if (sent == asked)
            sent += put_run(end, parts[i].iov_base, parts[i].iov_len);
        asked += parts[i].iov_len;
    }
    if (sent < asked)
        want_room(connection, end->side);
    put_pieces(connection, end->side, sent);
    return sent == 0 && asked > 0 ? -EAGAIN : (ptrdiff_t)sent;
}

ptrdiff_t net_sendv(struct net_end *end, const struct iovec *parts, int part_count)
{
    if (end->state == NET_CONNECTING)
        return -EAGAIN;
    if (end->state == NET_FAILED)
        return tell_error(end, -EPIPE);
    if (stream_out(end)->fin_sent)
        return -EPIPE;
    struct memory *before = memory_enter(NULL);
    ptrdiff_t sent = send_parts(end, parts, part_count);
    memory_enter(before);
    return sent;
}

bool net_inject(struct net *net, int from, int to, uint16_t port, const void *bytes, size_t size)
{
    struct net_end *newest = NULL;
    for (uint32_t i = 0; i < net->connection_count; i++) {
        struct connection *connection = net->connections[i];
        if (connection->id == 0 || connection->port != port || connection->is_broken)
            continue;
        for (int side = 0; side < 2; side++) {
            struct net_end *end = &connection->ends[side];
            bool fits = end->machine == from && other_end(end)->machine == to &&
                        end->place == PLACE_OWNED && end->state == NET_OPEN &&
                        !stream_out(end)->fin_sent;
            if (fits && (newest == NULL || connection->id > newest->connection->id))
                newest = end;
        }
    }
    if (newest == NULL)
        return false;
    struct memory *before = memory_enter(NULL);
    trace_bytes(net->trace, bytes, size);
    ring_put(stream_out(newest), bytes, size);
    put_pieces(newest->connection, newest->side, size);
    memory_enter(before);
    return true;
}

/* -- Closing ------------------------------------------------------------------------------------- */

static void send_fin(struct net_end *end)
{
    struct stream *stream = stream_out(end);
    if (stream->fin_sent)
        return;
    stream->fin_sent = true;
    put_piece(end->connection, end->side, PIECE_FIN, 0);
}

void net_shutdown(struct net_end *end)
{
    if (end->state != NET_OPEN)
        return;
    struct memory *before = memory_enter(NULL);
    send_fin(end);
    memory_enter(before);
}

static void leave(struct net_end *end, bool resets)
{
    bool was_open = end->state == NET_OPEN;
    end->place = PLACE_NOWHERE;
    if (was_open && (resets || stream_in(end)->arrived > 0))
        send_reset(other_end(end));
    else if (was_open && !is_gone(other_end(end)))
        send_fin(end);
    free_if_gone(end->connection);
}

static void close_listener(struct net_end *listener)
{
    for (struct net_end *end = dequeue(listener); end != NULL; end = dequeue(listener))
        leave(end, true);
    struct net_end **at = &listener->net->listeners[listener->machine];
    while (*at != listener)
        at = &(*at)->next;
    *at = listener->next;
    free(listener);
}

void net_close(struct net_end *end)
{
    struct memory *before = memory_enter(NULL);
    if (end->connection == NULL)
        close_listener(end);
    else
        leave(end, false);
    memory_enter(before);
}

void net_reset(struct net_end *end)
{
    struct memory *before = memory_enter(NULL);
    leave(end, true);
    memory_enter(before);
}

/* -- Faults -------------------------------------------------------------------------------------- */

/* Each end on the machine that somebody owns, or that is on its way to an owner. */
static void each_end(struct net *net, int machine, void (*visit)(struct net_end *end))
{
    for (uint32_t i = 0; i < net->connection_count; i++)
        for (int side = 0; side < 2; side++) {
            struct net_end *end = &net->connections[i]->ends[side];
            if (!is_gone(end) && end->machine == machine)
                visit(end);
        }
}

static void leave_by_kernel(struct net_end *end)
{
    leave(end, false);
}

void net_process_died(struct net *net, int machine)
{
    struct memory *before = memory_enter(NULL);
    while (net->listeners[machine] != NULL)
        close_listener(net->listeners[machine]);
    each_end(net, machine, leave_by_kernel);
    memory_enter(before);
}

/* What is on the wire arrives; what waits for its turn or its retransmission does not. */
static void drop_unsent_pieces(struct connection *connection, int side)
{
    struct stream *stream = &connection->streams[side];
    uint64_t on_the_wire_ns =
        now_ns(connection->ends[0].net) + way_of(connection, side)->delay_max_ns;
    size_t kept = 0, size = stream->arrived;
    while (!stream->is_held && kept < stream->piece_count &&
           piece_at(stream, kept)->at_ns <= on_the_wire_ns)
        size += piece_at(stream, kept++)->size;
    if (kept == 0)
        drop_pieces(stream);
    stream->piece_count = kept;
    stream->size = size;
}

static void lose_power(struct net_end *end)
{
    struct net_end *other = other_end(end);
    end->place = PLACE_NOWHERE;
    end->is_dead = true;
    drop_unsent_pieces(end->connection, end->side);
    if (other->place == PLACE_HALF)
        other->place = PLACE_NOWHERE;
    watch_half_open(other);
    free_if_gone(end->connection);
}

void net_power_cut(struct net *net, int machine)
{
    struct memory *before = memory_enter(NULL);
    net->is_down[machine] = true;
    while (net->listeners[machine] != NULL) {
        struct net_end *listener = net->listeners[machine];
        while (listener->queue_first != NULL)
            lose_power(dequeue(listener));
        close_listener(listener);
    }
    each_end(net, machine, lose_power);
    memory_enter(before);
}

static bool is_between(const struct connection *connection, int machine, int other)
{
    int from = connection->ends[0].machine, to = connection->ends[1].machine;
    bool is_pair = (from == machine && to == other) || (from == other && to == machine);
    return connection->id != 0 && is_pair && !connection->is_broken &&
           connection->ends[0].state == NET_OPEN && connection->ends[1].state == NET_OPEN;
}

bool net_break(struct net *net, int machine, int other, struct random *random)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < net->connection_count; i++)
        count += is_between(net->connections[i], machine, other);
    if (count == 0)
        return false;
    uint64_t chosen = random_below(random, count);
    for (uint32_t i = 0; i < net->connection_count; i++) {
        if (!is_between(net->connections[i], machine, other) || chosen-- != 0)
            continue;
        struct memory *before = memory_enter(NULL);
        break_connection(net->connections[i]);
        memory_enter(before);
        break;
    }
    return true;
}
