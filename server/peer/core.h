/* The inside of the peers: what peer.c (links that lead somewhere) and meet.c (strangers, and how
 * they become links) share. Everyone else knows peer.h.
 *
 *     listener -- accept --> stranger -- hello --> up        the higher id's side (meet.c)
 *     dial --> connecting --> greeting -- hello --> up       the lower id's side (peer.c, meet.c)
 *
 * A peer has one link at most. Callbacks to the owner come out of peers_turn() only, so whatever
 * goes wrong in peers_send() or peers_flush() is left in link->broken for the next turn. */
#pragma once

#include "server/peer/dial.h"
#include "server/peer/frame.h"
#include "server/peer/handshake.h"
#include "server/peer/link.h"
#include "server/peer/peer.h"

#define NS_PER_MS 1000000ull

/* Bytes read from one link in a turn; the rest waits for the next, so that no peer starves the
 * others or the clients. */
#define PEERS_TURN_BYTES_MAX (1u << 20)
/* What a link takes beyond entries, and what counts as empty: some thousand replies and heartbeats.
 * A peer that lets more pile up does not read at all. */
#define PEERS_SMALL_BYTES_MAX (128u << 10)
/* Connections accepted in a turn, those that have not said hello, and for how long they may not.
 * One more stranger than fits pushes out the one who has been silent longest: whoever speaks at
 * once gets in through a flood of those who do not. */
#define PEERS_ACCEPTS_MAX 16
#define PEERS_STRANGERS_MAX 32
#define PEERS_BACKLOG 128
#define PEERS_HANDSHAKE_MS 3000
#define PEERS_CONNECT_MS 2000
/* No descriptors left: try again after this, not at once. */
#define PEERS_ACCEPT_PAUSE_MS 100
/* Say something at least this often; a rival is refused while the peer was heard within the
 * other. */
#define PEERS_ALIVE_HEARTBEATS 10
#define PEERS_RIVAL_HEARTBEATS 20
/* Memory of peaks is given back this often. */
#define PEERS_TIDY_MS 1000
/* The same thing is noted again after this; twice as long each time if it goes on. */
#define PEERS_NOTE_QUIET_MS_MIN 10000
#define PEERS_NOTE_QUIET_MS_MAX 640000

_Static_assert(PEERS_RIVAL_HEARTBEATS >= 2 * PEERS_ALIVE_HEARTBEATS, "a live peer is heard of");
_Static_assert(PEERS_SILENT_HEARTBEATS >= 2 * PEERS_RIVAL_HEARTBEATS, "silence is longer yet");

/* Keeps a thing that happens all the time from filling the log. */
struct note {
    uint64_t quiet_until_ns;
    uint64_t quiet_ms;
    uint64_t held_back;
};

struct peer {
    struct peers_member member;
    bool is_dialled;   /* by us: its id is the higher one */
    struct link *link; /* at most one, up or on the way there; or NULL */
    uint64_t up_ns;    /* since when the link is up */

    /* Of the process that the newest link led to. A process whose place was taken while its link
     * was alive is remembered: if it comes back, then two are alive on copies of the same data. */
    uint64_t incarnation, boot;
    uint64_t replaced_boot;

    struct dial dial;
    struct note note;
};

struct peers {
    struct os *os;
    struct reactor *reactor;
    struct peers_options options;
    char cluster[FRAME_CLUSTER_MAX]; /* options.cluster */
    struct peers_owner owner;
    uint64_t boot;   /* ours */
    uint64_t now_ns; /* of the newest turn */
    uint64_t tidy_ns;

    struct reactor_source listener;
    bool acceptable;       /* somebody may be waiting */
    uint64_t accept_at_ns; /* not before; 0: at once */

    int peer_count;
    struct peer peers[RAFT_PEERS_MAX];
    struct link *strangers[PEERS_STRANGERS_MAX];

    struct note notes[FRAME_REASON_END]; /* of strangers; 0: of those who said no proper hello */
    struct note accept_note;
    struct peers_stats stats;

    /* Of the frame that is being read. */
    struct frame frame;
    struct entry entries[RAFT_APPEND_ENTRIES_MAX];
};

/* peer.c */

/* The peer of this id, or NULL. */
struct peer *peers_find(struct peers *peers, uint32_t id);
void peers_note(struct peers *peers, struct note *note, const char *who, const char *why);
/* Reads what the turn's budget allows, and hands on each whole frame. The link may be gone then. */
void peers_take_input(struct peers *peers, struct link *link);
/* The peer's link comes up: on_up. */
void peers_set_up(struct peers *peers, struct peer *peer, const struct frame_hello *hello);
/* The peer's link goes: on_down if it was up; dialled anew in a while if it was dialled. */
void peers_drop(struct peers *peers, struct peer *peer, const char *why);

/* meet.c */

/* Takes in whoever has dialled us, up to the turn's budget. */
void meet_accept(struct peers *peers);
/* Listens to strangers, and sends off those who have been silent for too long. */
void meet_strangers(struct peers *peers);
/* A stranger goes without a word, or a note. */
void meet_drop(struct peers *peers, struct link *link);
/* Somebody who did not shake hands as he should, stranger or dialled: noted and dropped. */
void meet_refuse(struct peers *peers, struct link *link, const char *why);
/* The same for bytes that are no frame. */
void meet_refuse_bytes(struct peers *peers, struct link *link, enum frame_fault fault);
/* Queue our hello on a link to node `to`. */
void meet_greet(struct peers *peers, struct link *link, uint32_t to);

/* What to do with a whole frame; false: the link is gone. */
typedef bool frame_handler(struct peers *peers, struct link *link, const struct frame *frame);
frame_handler stranger_on_hello, refuse_stranger;
frame_handler greeting_on_hello, greeting_on_refusal;
