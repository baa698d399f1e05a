/* Client connections: accepts them, reads and parses requests, keeps replies in order, and holds
 * each of them to its limits. It decides nothing about a request: that is the node's, through
 * struct clients_owner.
 *
 * Order. Requests of one connection are given to the owner in their order, and it answers those that
 * it keeps (CLIENT_PENDING) in the same order with client_complete(). A request that the owner
 * answers at once must not overtake them: the owner asks to see it again with CLIENT_LATER while
 * client_outstanding() is not 0. The layer does the same for the errors that it answers itself.
 *
 * Limits. A connection is not read, and its buffered input not parsed, while it has too many
 * unanswered requests or too many unread bytes of replies: the client feels it as backpressure.
 * Past `output_bytes` it is closed. All buffers together stay within `memory_bytes`. A connection
 * without unfinished business holds no buffer. */
#pragma once

#include "server/client/request.h"
#include "server/reactor.h"

struct clients; /* all client connections of one node; opaque */
struct client;  /* one of them; opaque */

enum client_verdict {
    CLIENT_ANSWERED,  /* client_answer() was called, or there was nothing to say */
    CLIENT_PENDING,   /* client_complete() will be called, exactly once */
    CLIENT_LATER,     /* not now: give it again when all before it have been completed */
    CLIENT_NEXT_TURN, /* not now: give it again in the next turn (the turn's batch is full) */
};

struct clients_owner {
    void *context;
    enum client_verdict (*on_request)(void *context, struct client *client,
                                      const struct request *request);
    /* The size of the value that this read would be answered with now; NULL: take each for the
     * largest there is. By it, replies that are still to come are kept within the limits. */
    uint32_t (*value_size)(void *context, const struct client *client,
                           const struct request *request);
    /* Something worth a line in the log: a refused or closed connection and why. */
    void (*on_note)(void *context, const char *message, const char *why);
};

struct clients_limits {
    uint32_t connections;
    uint32_t value_bytes;
    uint32_t pipeline;
    uint32_t output_bytes;
    uint64_t memory_bytes;
    uint32_t request_timeout_ms;
};

/* Listen on `address`. NULL on failure, with `code` set (-errno). */
struct clients *clients_new(struct os *os, struct reactor *reactor,
                            const struct os_address *address, const struct clients_limits *limits,
                            const struct clients_owner *owner, int *code);
void clients_free(struct clients *clients); /* accepts NULL; closes all */

/* Take no new connection from now on; and no new request (shutdown). */
void clients_stop(struct clients *clients);
/* No connection has a request unanswered or a reply unsent. */
bool clients_drained(const struct clients *clients);

/* Once a turn, after reactor_dispatch(REACTOR_CLIENT): parses what was held back earlier and may go
 * on now, ends connections whose time is up. Within a stated budget of bytes and requests a turn,
 * round-robin, so that no client waits for another. */
void clients_turn(struct clients *clients, uint64_t now_ns);
/* Once a turn, last: one vectored write for each connection that has something to say. */
void clients_flush(struct clients *clients);
/* Whether there is work that waits for no event: the next turn must not block. */
bool clients_busy(const struct clients *clients);
/* When the next time-out of a connection is due; 0: none. */
uint64_t clients_deadline_ns(const struct clients *clients);

/* Requests of this connection that are CLIENT_PENDING. */
uint32_t client_outstanding(const struct client *client);
/* Answer the request at hand (inside on_request). */
void client_answer(struct client *client, const struct request *request, const struct reply *reply);
/* Answer the oldest pending request. `noreply`: it asked for silence. A client that is gone by then
 * is forgotten with its last pending request. */
void client_complete(struct client *client, bool noreply, const struct reply *reply);

/* A word of the owner's, kept with the connection; 0 at first. (The node keeps the index of the last
 * write there.) */
uint64_t client_mark(const struct client *client);
void client_set_mark(struct client *client, uint64_t mark);

struct clients_stats {
    uint64_t clients;           /* open now */
    uint64_t accepted, refused; /* refused: over the limit of connections or descriptors */
    uint64_t requests, malformed;
    uint64_t closed_slow_reader, closed_slow_request, closed_memory;
    uint64_t memory_bytes; /* of buffers, now */
};
void clients_stats(const struct clients *clients, struct clients_stats *stats);
