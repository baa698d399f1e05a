/* A link: one connection to another node, or to somebody who has yet to say who he is. It moves
 * bytes between a socket and two buffers and remembers what the reactor said; what the bytes mean,
 * and when a link has to go, is for peer.c and meet.c.
 *
 * Nothing happens in the reactor's dispatch but notes being taken: all work is done in peers_turn()
 * and peers_flush(), where the time is known and no one else is in the middle of something. */
#pragma once

#include "server/peer/buffer.h"
#include "server/reactor.h"

/* The columns of the table in peer.c. */
enum link_state {
    LINK_STRANGER, /* has dialled us, and not said hello yet */
    LINK_GREETING, /* dialled by us: waits for the answer to our hello */
    LINK_UP,       /* both hellos have been said */
    LINK_TABLE_STATES,
    LINK_CONNECTING = LINK_TABLE_STATES, /* dialled by us; no bytes yet */
};

/* Room for one read: at first, and after reads that filled what they were given. */
#define LINK_READ_BYTES_MIN (8u << 10)
#define LINK_READ_BYTES_MAX (256u << 10)
#define LINK_WHO_MAX 192

struct link {
    struct os *os;
    struct reactor *reactor;
    struct reactor_source source;
    enum link_state state;
    struct peer *peer; /* whom it leads to; NULL: a stranger's */
    char who[LINK_WHO_MAX];

    /* What the reactor said, and how far we have followed it. */
    bool readable; /* there may be more to read */
    bool ended;    /* the other end has closed: read until the end comes */
    bool writable; /* since it was opened: the connection is decided */
    bool clogged;  /* the socket took less than it was given: wait for it */
    int broken;    /* -errno: to be dropped in the next turn; 0: well */

    struct buffer input, output;
    size_t read_bytes; /* room for the next read */
    size_t wanted;     /* the frame in `input` is not whole before there are so many bytes */
    uint64_t opened_ns, heard_ns, said_ns;
};

/* Takes over `fd`: closes it on failure too. NULL: `code` says why. */
struct link *link_new(struct os *os, struct reactor *reactor, int fd, enum link_state state,
                      uint64_t now_ns, int *code);
void link_free(struct link *link); /* accepts NULL; closes */

/* One read of at most `size_max` bytes into `input`. Returns their number; 0: nothing now; or
 * -errno, with -EPIPE for the end of the stream. */
ptrdiff_t link_receive(struct link *link, size_t size_max);
/* One write of what is in `output`. Returns how much went. A failure sets `broken`. */
size_t link_send(struct link *link);
/* Once in a while: give back memory that a peak has left behind. */
void link_tidy(struct link *link);
