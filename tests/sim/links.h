/* The state of the network between machines, one record for each direction of each pair: shared by
 * the messages of levels 1 and 2 and the streams of level 3. Machines 0 .. LINKS_NODES_MAX - 1 are
 * nodes; LINKS_CLIENTS stands for all clients' machines. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/random.h"

#define LINKS_NODES_MAX 9
#define LINKS_CLIENTS LINKS_NODES_MAX
#define LINKS_MACHINES_MAX (LINKS_NODES_MAX + 1)

struct link {
    bool cut; /* nothing passes; streams hold it back, messages lose it */
    uint64_t delay_min_ns, delay_max_ns; /* of each message or piece */
    uint32_t lose;           /* per mille: messages; on a stream: a retransmission (200 ms) */
    uint32_t duplicate;      /* per mille: messages only */
    uint32_t reorder;        /* per mille: a message is held back for several delays */
    uint32_t replay;         /* per mille: an old message comes again, on streams too */
    uint32_t reset;          /* per million pieces: the connection breaks; messages: peer lost */
    uint64_t order_delay_ns; /* messages: those of a transfer come late by up to this */
    uint64_t bytes_per_s;    /* 0: no limit */
};

struct links {
    struct link of[LINKS_MACHINES_MAX][LINKS_MACHINES_MAX]; /* [from][to] */
    uint64_t cut_generation;                                /* grows with each change of a cut */
};

/* Everything passes, in 50 to 500 µs. */
void links_init(struct links *links);
uint64_t link_delay_ns(const struct link *link, struct random *random, uint64_t size);
