/* Levels 1 and 2: messages between replicas, over links that lose, delay, duplicate, reorder and
 * replay them. A message is copied with its entries when it is sent. */
#pragma once

#include "raft/raft.h"
#include "server/entry.h"
#include "tests/sim/links.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"
#include "tests/sim/trace.h"

struct post; /* opaque */

struct parcel { /* what arrives; borrowed until the receiver returns it */
    struct raft_message message;
    int from, to;                                  /* slots */
    uint32_t entry_count;                          /* of an append */
    struct entry entries[RAFT_APPEND_ENTRIES_MAX]; /* their bytes are the parcel's */
    /* The post's own. A receiver cannot link parcels by it: one parcel may be delivered twice, and
     * stand in an inbox twice. */
    struct parcel *next;
    uint32_t references;
};

/* `deliver` takes over one reference, to be given back with post_release(). `on_break` (may be NULL)
 * hears that the connection of two slots broke (links.h: reset): both ends have lost their peer. It
 * is called outside of any turn. */
struct post *post_new(struct timeline *timeline, struct links *links, struct trace *trace,
                      uint64_t seed, void (*deliver)(void *context, int to, struct parcel *parcel),
                      void (*on_break)(void *context, int a, int b), void *context);
void post_free(struct post *post); /* and all parcels, those not released too; accepts NULL */
/* `from` and `to` are slots. Bytes of entries are copied. */
void post_send(struct post *post, int from, int to, const struct raft_message *message,
               const struct entry *entries);
void post_release(struct post *post, struct parcel *parcel);

struct post_stats {
    uint64_t sent, delivered, lost, duplicated, replayed, reordered, broken;
    uint64_t parcels; /* ever made: the pool */
    uint64_t on_loan; /* not in the pool now */
};
void post_stats(const struct post *post, struct post_stats *stats);
