/* Simulated clients: what they ask, of whom, and what they make of the answers. One session is one
 * client of the workload; it follows redirects, gives up after a time, tries elsewhere, and tells the
 * oracle of every request and outcome. The same for all levels; only the transport differs: a call
 * (levels 1 and 2), or the text protocol over simulated sockets (level 3: text_client.h). */
#pragma once

#include "tests/sim/links.h"
#include "tests/sim/machine.h"
#include "tests/sim/op.h"
#include "tests/sim/oracle.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"

struct workload { /* drawn by the plan */
    int clients;
    int keys;       /* few: contention; names are "k<number>" */
    bool same_slot; /* all keys in one slot of the store: names are "{s}k<number>" */
    uint32_t get, getm, set, cas, del; /* weights */
    uint32_t expire;                   /* per mille of writes that carry a ttl of 1 .. ttl_s_max */
    uint32_t ttl_s_max;
    uint32_t noreply; /* per mille of writes, level 3 */
    uint32_t value_bytes_max;
    int pipeline_max;                                   /* requests under way on one connection */
    uint64_t think_ns_max;                              /* between requests */
    uint64_t timeout_ns;                                /* then the outcome is unknown */
    uint32_t slow_reader, half_close, hang_up, garbage; /* per mille of connections, level 3 */
    bool any_node; /* asks any node, not only the supposed leader */
};

struct sessions; /* opaque: all clients of a world */

/* How a request reaches a node: returns false if it certainly did not. */
struct transport {
    void *context;
    bool (*submit)(void *context, int client, int node, const struct op *op);
};

struct sessions *sessions_new(const struct workload *workload, int node_count,
                              struct timeline *timeline, struct oracle *oracle, struct trace *trace,
                              uint64_t seed, const struct transport *transport);
void sessions_free(struct sessions *sessions);
/* The outcome of a request; `leader` is the node that a redirect named, -1: none. */
void sessions_on_outcome(struct sessions *sessions, uint64_t op_number,
                         const struct outcome *outcome, int leader);
/* A number for a request of somebody else, who hears of its outcome by himself. */
uint64_t sessions_reserve(struct sessions *sessions);
void sessions_start(struct sessions *sessions);
/* From now on a request that is asked of one of `nodes` (a bit each) must be answered before the client
 * gives up: rule L2. */
void sessions_expect_answers(struct sessions *sessions, uint32_t nodes);
/* No new requests; those under way end. */
void sessions_stop(struct sessions *sessions);
bool sessions_idle(const struct sessions *sessions); /* nothing under way */
uint64_t sessions_acked(const struct sessions *sessions);
uint64_t
sessions_last_ack_ns(const struct sessions *sessions); /* world time of the newest success */
