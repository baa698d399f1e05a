/* What client.c and input.c share, and nobody else sees: one connection, and all of them.
 *
 * A connection is on these lists, each at most once:
 *
 *     all         from accept until it is forgotten
 *     work        on `runnable`: may be read or parsed now; or on `starved`: has a read at hand for
 *                 whose reply there is no memory, until some is released
 *     flush       has something to send, or has to be ended, at the end of this turn
 *     unfinished  waits for the rest of a request; in the order of the deadlines
 *     stalled     its client does not take what we send; in the order of the last progress
 *
 * Closed with requests still pending, it stays on `all` as a mere counter until the last of them is
 * completed.
 *
 * A connection is never closed from inside client_answer() or client_complete(), which the owner may
 * call while that very connection is being parsed: those mark it as doomed, and clients_flush() ends
 * it. */
#pragma once

#include "server/client/client.h"
#include "server/client/output.h"

struct link {
    struct link *previous, *next; /* NULL: on no list */
};

struct client {
    struct clients *clients;
    struct reactor_source source;
    struct link in_all, in_work, in_flush, in_unfinished, in_stalled;

    /* What has been received and not used: input[input_start, input_end). Less than `input_need`
     * bytes are not worth a try. */
    uint8_t *input;
    size_t input_start, input_end, input_capacity, input_need;
    uint64_t swallow; /* see text_swallow() */

    struct output output;
    uint64_t promised_bytes; /* for the replies of pending reads, by estimate */
    uint32_t outstanding;

    uint64_t deadline_ns; /* of the unfinished request, while on that list */
    uint64_t stalled_ns;  /* since when, while on that list */
    uint64_t mark;

    bool is_open;
    bool is_readable;     /* there may be something to receive */
    bool has_hung_up;     /* it will end: a short read does not mean that all is read */
    bool is_at_end;       /* the end has been read */
    bool is_ending;       /* takes no more requests; closed when all is answered and sent */
    bool is_doomed;       /* to be closed now */
    bool is_send_blocked; /* until the socket is writable again */
    bool waits_for_all;   /* the request at hand may not overtake a pending one */
};

struct clients {
    struct os *os;
    struct reactor *reactor;
    struct clients_owner owner;
    struct clients_limits limits;
    size_t output_max, output_soft; /* closed beyond; neither read nor parsed beyond */
    uint64_t memory_max;

    struct reactor_source listener;
    bool is_stopped;
    bool is_acceptable;        /* there may be a connection to accept */
    uint64_t accept_paused_ns; /* until then; 0: not paused */
    int spare_fd;              /* given up to refuse a connection politely; -1: none */

    struct link all, runnable, starved, flush, unfinished, stalled;
    bool memory_was_released; /* since the starved were last looked at */

    const struct client *parsing; /* whose input is in use just now */

    struct output_pool pool;
    uint64_t input_memory, promised_bytes, unsent_bytes, outstanding;
    uint64_t now_ns, noted_ns;
    struct clients_stats stats;
    uint8_t *shared; /* CLIENT_SHARED_SIZE bytes: where connections without leftovers are read */
};

/* What one connection may do in one turn, and all of them together. */
#define CLIENT_TURN_BYTES 65536u
#define CLIENT_TURN_REQUESTS 256u
#define CLIENTS_TURN_BYTES (4u << 20)
#define CLIENTS_TURN_REQUESTS 8192u
/* A leftover up to this size moves to the front of the shared buffer to be completed there; a larger
 * one is the front of a large value, and received where it is. */
#define CLIENT_LEFTOVER_SHARED 16384u
#define CLIENT_SHARED_SIZE (CLIENT_LEFTOVER_SHARED + CLIENT_TURN_BYTES)

/* -- client.c ------------------------------------------------------------------------------------ */

uint64_t clients_memory(const struct clients *clients);
/* Make room for `size` bytes at the cost of others than `client`, those first who have kept theirs
 * longest without need: false if they have nothing to give. */
bool clients_make_room(struct clients *clients, const struct client *client, size_t size);
bool client_may_parse(const struct client *client);
void client_queue_flush(struct client *client);
/* End it at the end of the turn, without another word. `counter`: of the statistics, or NULL. */
void client_doom(struct client *client, const char *why, uint64_t *counter);
void client_put_reply(struct client *client, const struct reply *reply);

/* -- input.c ------------------------------------------------------------------------------------- */

enum input_state {
    INPUT_WAITS,   /* for an event: more bytes, a completion, room in the output */
    INPUT_GOES_ON, /* could do more: give it another turn */
    INPUT_STARVES, /* for memory */
};

struct input_budget {
    size_t bytes;
    uint32_t requests;
};

/* Receive and parse, within the budget, which is reduced by what was done. */
enum input_state input_run(struct client *client, struct input_budget *budget);
void input_release(struct client *client);
