/* Strangers on the peer port, and both sides of the handshake.
 *
 * The port is open to anybody, so a stranger gets little: a place among PEERS_STRANGERS_MAX, for
 * PEERS_HANDSHAKE_MS, and memory for one hello, of which nothing is read that is longer. Who is not
 * a frame at all (a web browser, a scanner) is dropped at its first byte; who is one of us in the
 * wrong place is told so by a refusal.
 *
 * Two live processes with one id. The link that is up and was lately heard of wins, unless the
 * newcomer is the same data directory: then it is the same node, back before we noticed that its
 * old connection had died, and the old one is replaced. A copied directory looks the same, and
 * would make the two replace each other for ever. But each process draws a boot number, and one
 * that was replaced by another boot can be back only if it is still alive: it is refused. (Were it
 * the replay of a dead process's hello instead, the link that it opens would soon fall silent, and
 * its real node be let in again: what is refused is refused by a link that lives, never by memory
 * alone.) */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/peer/core.h"

/* -- Strangers --------------------------------------------------------------------------------- */

/* A free place, made free if need be. */
static struct link **find_place(struct peers *peers)
{
    struct link **oldest = &peers->strangers[0];

    for (int i = 0; i < PEERS_STRANGERS_MAX; i++) {
        struct link **place = &peers->strangers[i];
        if (*place == NULL)
            return place;
        if ((*place)->opened_ns < (*oldest)->opened_ns)
            oldest = place;
    }
    meet_refuse(peers, *oldest, "it has not said hello, and others are waiting");
    return oldest;
}

static void note_accept(struct peers *peers, int code)
{
    char why[128];

    snprintf(why, sizeof why, "no connection can be taken in for now: %s", strerror(-code));
    peers_note(peers, &peers->accept_note, "peer port", why);
}

static void admit(struct peers *peers, int fd, const struct os_address *from)
{
    struct link **place = find_place(peers);
    int code;
    struct link *link =
        link_new(peers->os, peers->reactor, fd, LINK_STRANGER, peers->now_ns, &code);

    if (link == NULL) {
        note_accept(peers, code);
        return;
    }
    os_address_format(from, link->who, sizeof link->who);
    *place = link;
}

void meet_accept(struct peers *peers)
{
    if (peers->accept_at_ns > peers->now_ns)
        return;
    peers->accept_at_ns = 0;
    for (int i = 0; i < PEERS_ACCEPTS_MAX && peers->acceptable; i++) {
        struct os_address from;
        int fd = os_accept(peers->os, peers->listener.fd, &from);
        if (fd >= 0) {
            admit(peers, fd, &from);
        } else if (fd == -EAGAIN) {
            peers->acceptable = false;
        } else {
            note_accept(peers, fd);
            peers->accept_at_ns = peers->now_ns + PEERS_ACCEPT_PAUSE_MS * NS_PER_MS;
            return;
        }
    }
}

void meet_strangers(struct peers *peers)
{
    for (int i = 0; i < PEERS_STRANGERS_MAX; i++) {
        struct link *link = peers->strangers[i];
        if (link == NULL)
            continue;
        peers_take_input(peers, link);
        bool is_still_strange = peers->strangers[i] == link;
        if (is_still_strange && peers->now_ns >= link->opened_ns + PEERS_HANDSHAKE_MS * NS_PER_MS)
            meet_refuse(peers, link, "it has not said hello in time");
    }
}

static void forget_stranger(struct peers *peers, const struct link *link)
{
    for (int i = 0; i < PEERS_STRANGERS_MAX; i++) {
        if (peers->strangers[i] == link)
            peers->strangers[i] = NULL;
    }
}

void meet_drop(struct peers *peers, struct link *link)
{
    forget_stranger(peers, link);
    link_free(link);
}

/* -- Refusals ---------------------------------------------------------------------------------- */

static void drop_either(struct peers *peers, struct link *link)
{
    if (link->peer == NULL)
        meet_drop(peers, link);
    else
        peers_drop(peers, link->peer, "refused");
}

void meet_refuse(struct peers *peers, struct link *link, const char *why)
{
    struct note *note = link->peer == NULL ? &peers->notes[0] : &link->peer->note;

    peers->stats.refused_handshakes++;
    peers_note(peers, note, link->who, why);
    drop_either(peers, link);
}

/* The last word on this link. One attempt: who does not read it may guess. */
static void say_refusal(struct peers *peers, struct link *link, uint32_t to,
                        enum frame_reason reason)
{
    struct frame_refusal refusal = handshake_refusal(&peers->options, reason);

    if (!buffer_reserve(&link->output, FRAME_REFUSAL_SIZE))
        return;
    buffer_added(&link->output,
                 frame_encode_refusal(buffer_end(&link->output), peers->options.id, to, &refusal));
    peers->stats.sent_bytes += link_send(link);
}

void meet_refuse_bytes(struct peers *peers, struct link *link, enum frame_fault fault)
{
    if (fault != FRAME_NOT_ONE)
        peers->stats.bad_frames++;
    if (fault == FRAME_BAD_VERSION)
        say_refusal(peers, link, RAFT_NODE_NONE, FRAME_WRONG_PROTOCOL);
    char why[128];
    snprintf(why, sizeof why, "what it says is no hello: %s", frame_fault_text(fault));
    meet_refuse(peers, link, why);
}

/* By name: noted here, and told to the other side. */
static void refuse_hello(struct peers *peers, struct link *link, const struct frame *hello,
                         enum frame_reason reason)
{
    struct note *note = link->peer == NULL ? &peers->notes[reason] : &link->peer->note;
    char who[LINK_WHO_MAX + 32], why[HANDSHAKE_TEXT_MAX];

    peers->stats.refused_handshakes++;
    if (link->peer == NULL)
        snprintf(who, sizeof who, "node %" PRIu32 " at %s", hello->from, link->who);
    else
        snprintf(who, sizeof who, "%s", link->who);
    handshake_explain(reason, &peers->options, hello, why);
    peers_note(peers, note, who, why);
    say_refusal(peers, link, hello->from, reason);
    drop_either(peers, link);
}

bool refuse_stranger(struct peers *peers, struct link *link, const struct frame *frame)
{
    (void)frame;
    peers->stats.bad_frames++;
    meet_refuse(peers, link, "it must say hello first");
    return false;
}

/* -- Hellos ------------------------------------------------------------------------------------ */

void meet_greet(struct peers *peers, struct link *link, uint32_t to)
{
    struct frame_hello hello = handshake_hello(&peers->options, peers->boot);

    if (!buffer_reserve(&link->output, FRAME_HELLO_SIZE)) {
        link->broken = -ENOMEM;
        return;
    }
    buffer_added(&link->output,
                 frame_encode_hello(buffer_end(&link->output), peers->options.id, to, &hello));
    link->said_ns = peers->now_ns;
}

/* See the essay above. */
static bool is_rival(const struct peers *peers, const struct peer *peer,
                     const struct frame_hello *hello)
{
    uint64_t recent_ns = PEERS_RIVAL_HEARTBEATS * NS_PER_MS * peers->options.heartbeat_ms;

    if (peer->link == NULL || peers->now_ns - peer->link->heard_ns >= recent_ns)
        return false;
    return hello->incarnation != peer->incarnation || hello->boot == peer->replaced_boot;
}

/* The stranger is this peer. */
static void adopt(struct peers *peers, struct link *link, struct peer *peer)
{
    char address[LINK_WHO_MAX];

    forget_stranger(peers, link);
    memcpy(address, link->who, sizeof address);
    snprintf(link->who, sizeof link->who, "node %" PRIu32 " at %.128s", peer->member.id, address);
    link->peer = peer;
    peer->link = link;
    meet_greet(peers, link, peer->member.id);
}

bool stranger_on_hello(struct peers *peers, struct link *link, const struct frame *frame)
{
    const struct frame_hello *hello = &frame->hello;
    struct peer *peer = peers_find(peers, frame->from);
    enum frame_reason reason = handshake_judge(&peers->options, frame, RAFT_NODE_NONE);

    if (reason == FRAME_ACCEPTED && is_rival(peers, peer, hello))
        reason = FRAME_RIVAL;
    if (reason != FRAME_ACCEPTED) {
        refuse_hello(peers, link, frame, reason);
        return false;
    }

    if (hello->boot == peer->replaced_boot)
        peer->replaced_boot = 0;
    if (peer->link != NULL) {
        if (hello->boot != peer->boot)
            peer->replaced_boot = peer->boot;
        peers_drop(peers, peer, "replaced by a newer connection");
    }
    adopt(peers, link, peer);
    peers_set_up(peers, peer, hello);
    return true;
}

bool greeting_on_hello(struct peers *peers, struct link *link, const struct frame *frame)
{
    enum frame_reason reason = handshake_judge(&peers->options, frame, link->peer->member.id);

    if (reason != FRAME_ACCEPTED) {
        refuse_hello(peers, link, frame, reason);
        return false;
    }
    peers_set_up(peers, link->peer, &frame->hello);
    return true;
}

bool greeting_on_refusal(struct peers *peers, struct link *link, const struct frame *frame)
{
    char why[HANDSHAKE_TEXT_MAX];

    handshake_explain_refusal(&peers->options, frame, why);
    meet_refuse(peers, link, why);
    return false;
}
