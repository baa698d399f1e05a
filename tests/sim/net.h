/* Simulated TCP: listeners, connections, and two streams of bytes for each. An end belongs to a
 * machine (links.h: a node's slot, or LINKS_CLIENTS); it is either a process's descriptor (os_sim) or
 * a simulated client, and hears of changes by a callback.
 *
 *   - What is written comes out in order, in pieces of chance, after the link's delay; a cut link
 *     holds it back (as TCP does: it comes when the cut is healed, after a retransmission time).
 *   - A stream takes as much as its window has room for: a short write has filled it, and on_change
 *     tells when there is room again. A read takes what has arrived: a short one has drained it.
 *   - close() sends what is buffered, then the end of the stream. Half-close: net_shutdown().
 *   - A reset discards what is under way; both ends hear of it, if they can be reached.
 *   - A process that dies closes its ends (as a kernel does: those with unread bytes by a reset); a
 *     machine that loses power says nothing, and answers anything that comes later with a reset when
 *     it is up again. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tests/sim/links.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"
#include "tests/sim/trace.h"

struct net;     /* opaque */
struct net_end; /* one end of a connection, or a listener; opaque */

/* `end` may be read or written again, has a connection to accept, is hung up … : look. */
typedef void net_changed(void *owner, struct net_end *end);

struct net *net_new(struct timeline *timeline, struct links *links, struct trace *trace,
                    uint64_t seed);
void net_free(struct net *net); /* accepts NULL */

/* Bytes that each direction of a new connection buffers: a small one makes short writes. */
void net_set_window(struct net *net, size_t bytes_min, size_t bytes_max);
/* A piece of a stream has at most this many bytes, drawn for each (0: no cutting into pieces). */
void net_set_pieces(struct net *net, size_t bytes_max);

struct net_end *net_listen(struct net *net, int machine, uint16_t port, int backlog,
                           net_changed *changed, void *owner, int *code); /* -EADDRINUSE */
/* The next connection of a listener, or NULL. The new end begins with `changed` and `owner`. */
struct net_end *net_accept(struct net_end *listener, net_changed *changed, void *owner);
int net_pending(const struct net_end *listener);
/* Starts to connect from `machine`. Decided later: net_state(). */
struct net_end *net_connect(struct net *net, int machine, int to_machine, uint16_t to_port,
                            net_changed *changed, void *owner);

enum net_state { NET_CONNECTING, NET_OPEN, NET_FAILED };
enum net_state net_state(const struct net_end *end);
/* Of a failed end: -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT. */
int net_error(const struct net_end *end);

/* 0: end of stream; -EAGAIN; error. */
ptrdiff_t net_recv(struct net_end *end, void *bytes, size_t size);
ptrdiff_t net_sendv(struct net_end *end, const struct iovec *parts, int part_count);
void net_shutdown(struct net_end *end); /* no more will be written */
void net_close(struct net_end *end);    /* the end is gone for its owner */
void net_reset(struct net_end *end); /* by the owner: SO_LINGER 0; the end is gone for its owner */

size_t net_readable(const struct net_end *end); /* bytes; end of stream and errors count as 1 */
size_t net_writable(const struct net_end *end); /* room in the window */
bool net_hung_up(const struct net_end *end);    /* the other side has ended its half, or an error */
int net_machine_of_peer(const struct net_end *end);

/* -- Faults -------------------------------------------------------------------------------------- */

/* The process on `machine` died / its power failed: its ends are gone for it, without callbacks. */
void net_process_died(struct net *net, int machine);
void net_power_cut(struct net *net, int machine);
/* Break a connection between the two machines, any one; false if there is none. */
bool net_break(struct net *net, int machine, int other, struct random *random);
/* The links have changed: what was held back may go on. */
void net_links_changed(struct net *net);

/* Called with each run of bytes that a process hands over, before it is under way: for checks, and
 * for frames to be replayed. */
typedef void net_seen(void *context, int from, int to, uint16_t to_port, uint64_t connection,
                      const void *bytes, size_t size);
void net_on_sent(struct net *net, net_seen *seen, void *context);
/* Put `size` bytes into the stream between two machines' newest open connection on which `from`
 * writes, at a boundary that the caller vouches for: behind all that has been written. */
bool net_inject(struct net *net, int from, int to, uint16_t port, const void *bytes, size_t size);
uint64_t net_bytes(const struct net *net);        /* delivered so far */
int net_ends(const struct net *net, int machine); /* open ones: a leak shows here */
