/* Links to the other nodes: one TCP connection for each pair, dialled by the node of the lower id
 * and redialled with a capped back-off. Carries Raft's messages, with entries behind the appends,
 * as frames (frame.h). Whoever does not shake hands as this cluster's node of the expected id is
 * refused, by name.
 *
 * The link pulls: it takes an append when it has room (peers_room), so what waits for a slow peer
 * stays in the log and not in its buffer. */
#pragma once

#include "raft/raft.h"
#include "server/entry.h"
#include "server/reactor.h"

struct peers; /* opaque */

struct peers_member {
    uint32_t id;
    char host[OS_HOST_MAX];
    uint16_t port;
};

struct peers_options {
    uint32_t id; /* ours */
    const char *cluster;
    uint64_t incarnation; /* of our data directory */
    int member_count;     /* we included; our own address is listened on */
    struct peers_member members[RAFT_VOTERS_MAX];
    uint32_t entry_bytes_max; /* of one entry: a frame that claims more is refused unread */
    uint32_t heartbeat_ms;    /* a link silent for PEERS_SILENT_HEARTBEATS of it is dropped */
};

#define PEERS_SILENT_HEARTBEATS 40

/* All of them are called from peers_turn() only, never from the middle of peers_send() or
 * peers_flush(). on_up and on_down of a node alternate; peers_free() calls neither. */
struct peers_owner {
    void *context;
    /* A message, its sender checked; for RAFT_APPEND with its `append.entry_count` entries, each
     * whole and checked by itself (their terms and indices agree with the message, their chain
     * among each other). All borrowed during the call. False: the peer broke a promise: drop the
     * link. */
    bool (*on_message)(void *context, const struct raft_message *message,
                       const struct entry *entries);
    /* `incarnation`: of its data directory; another one than before means that it was replaced. */
    void (*on_up)(void *context, uint32_t id, uint64_t incarnation, uint64_t boot);
    void (*on_down)(void *context, uint32_t id, const char *why);
    /* A connection or frame that was refused; `who` is an address or a node, `why` a sentence. */
    void (*on_refused)(void *context, const char *who, const char *why);
};

/* Listen, and start to dial. NULL on failure with `code` set (-errno). */
struct peers *peers_new(struct os *os, struct reactor *reactor, const struct peers_options *options,
                        const struct peers_owner *owner, uint64_t now_ns, int *code);
void peers_free(struct peers *peers); /* accepts NULL; closes all */

/* Once a turn, after reactor_dispatch(REACTOR_PEER): goes on with input that was left over, dials
 * what is due, drops what is silent. */
void peers_turn(struct peers *peers, uint64_t now_ns);
/* Once a turn: one vectored write for each link that has something to say. */
void peers_flush(struct peers *peers);
bool peers_busy(const struct peers *peers);
uint64_t peers_deadline_ns(const struct peers *peers); /* 0: none */

bool peers_is_up(const struct peers *peers, uint32_t id);
/* Bytes of entries that the link takes now; 0 while it is down or its buffer is full. One entry of
 * entry_bytes_max always fits once the buffer has emptied. */
size_t peers_room(const struct peers *peers, uint32_t id);

/* Queue a message to message->to; `entries` for RAFT_APPEND: as many as append.entry_count, and no
 * more bytes than peers_room(). Their bytes are copied. Silently dropped when the link is down.
 * What carries no entries always has room; a peer that reads none of it for so long that this is no
 * longer true loses its link. */
void peers_send(struct peers *peers, const struct raft_message *message,
                const struct entry *entries);

struct peers_stats {
    uint64_t up;       /* links that are up */
    uint64_t connects; /* links that came up, ever */
    uint64_t refused_handshakes, bad_frames;
    uint64_t sent_bytes, received_bytes;
};
void peers_stats(const struct peers *peers, struct peers_stats *stats);
