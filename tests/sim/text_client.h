/* Level 3's transport: the text protocol over simulated sockets, with the habits of real clients:
 * pipelines, requests cut into any pieces, noreply, slow reading, half-close, hanging up in the middle
 * of a request, and garbage. Checks S24: one reply a request, in order, none for noreply, whole value
 * lines. */
#pragma once

#include "tests/sim/net.h"
#include "tests/sim/session.h"

struct text_clients; /* opaque */

struct text_clients *text_clients_new(const struct workload *workload, struct net *net,
                                      struct timeline *timeline, struct trace *trace, uint64_t seed,
                                      const uint16_t *client_ports, int node_count);
void text_clients_free(struct text_clients *clients);
/* The transport to give to sessions_new(); outcomes go to sessions_on_outcome(). */
struct transport text_clients_transport(struct text_clients *clients);
void text_clients_set_sessions(struct text_clients *clients, struct sessions *sessions);

struct text_clients_stats {
    uint64_t connections, replies;
    uint64_t
        cut_short; /* ended by the node in good order, with replies owed: only if it was stopped,
                         * died, or had enough of a slow reader */
    uint64_t
        abandoned; /* of those, who had half-closed and reads well: none, if all nodes are well */
    uint64_t lost; /* reset, refused, timed out */
};
void text_clients_stats(const struct text_clients *clients, struct text_clients_stats *stats);
