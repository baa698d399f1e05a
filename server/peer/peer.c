/* The links to the other nodes: dialling, frames in, frames out, time. How strangers become links
 * is in meet.c; what a frame is, in frame.h.
 *
 * A turn costs what it has to do: one read for each link that the reactor has named, one write for
 * each that has something to say, and a walk over at most eight peers and a few strangers, whose
 * deadlines are computed and not kept. An idle link is woken for one 32-byte frame every
 * PEERS_ALIVE_HEARTBEATS. */
#include "server/peer/peer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/peer/core.h"

static frame_handler up_on_message, up_on_refusal, ignore_alive, refuse_frame;

/* What a whole frame means, by the state of its link. A connection under way (LINK_CONNECTING)
 * reads nothing. */
/* clang-format off */
static frame_handler *const frame_table[FRAME_TYPE_END][LINK_TABLE_STATES] = {
    /*                        STRANGER           GREETING             UP            */
    [FRAME_HELLO]        = { stranger_on_hello, greeting_on_hello,   refuse_frame  },
    [FRAME_REFUSAL]      = { refuse_stranger,   greeting_on_refusal, up_on_refusal },
    [FRAME_ALIVE]        = { refuse_stranger,   refuse_frame,        ignore_alive  },
    [FRAME_APPEND]       = { refuse_stranger,   refuse_frame,        up_on_message },
    [FRAME_APPEND_REPLY] = { refuse_stranger,   refuse_frame,        up_on_message },
    [FRAME_VOTE]         = { refuse_stranger,   refuse_frame,        up_on_message },
    [FRAME_VOTE_REPLY]   = { refuse_stranger,   refuse_frame,        up_on_message },
    [FRAME_TIMEOUT_NOW]  = { refuse_stranger,   refuse_frame,        up_on_message },
};
/* clang-format on */

/* -- Life -------------------------------------------------------------------------------------- */

static void on_listener_ready(void *owner, uint32_t events)
{
    struct peers *peers = owner;

    (void)events;
    peers->acceptable = true;
}

static int listen_on(struct peers *peers, const struct peers_member *self)
{
    struct os_address address;
    int code = os_resolve(peers->os, self->host, self->port, &address);

    if (code < 0)
        return code;
    int fd = os_listen(peers->os, &address, PEERS_BACKLOG);
    if (fd < 0)
        return fd;
    peers->listener = (struct reactor_source){
        .fd = fd, .phase = REACTOR_PEER, .on_ready = on_listener_ready, .owner = peers
    };
    code = reactor_add(peers->reactor, &peers->listener);
    if (code < 0) {
        (void)os_close(peers->os, fd); /* nobody has seen it */
        peers->listener.fd = -1;
    }
    return code;
}

/* Returns our own member. */
static const struct peers_member *set_members(struct peers *peers, uint64_t now_ns)
{
    const struct peers_options *options = &peers->options;
    const struct peers_member *self = NULL;

    for (int i = 0; i < options->member_count; i++) {
        const struct peers_member *member = &options->members[i];
        if (member->id == options->id) {
            self = member;
            continue;
        }
        assert(peers_find(peers, member->id) == NULL);
        struct peer *peer = &peers->peers[peers->peer_count++];
        peer->member = *member;
        peer->is_dialled = options->id < member->id;
        dial_init(&peer->dial, now_ns);
    }
    return self;
}

struct peers *peers_new(struct os *os, struct reactor *reactor, const struct peers_options *options,
                        const struct peers_owner *owner, uint64_t now_ns, int *code)
{
    assert(options->member_count >= 1 && options->member_count <= RAFT_VOTERS_MAX);
    assert(options->heartbeat_ms >= 1);
    assert(strlen(options->cluster) >= 1 && strlen(options->cluster) < FRAME_CLUSTER_MAX);

    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL) {
        *code = -ENOMEM;
        return NULL;
    }
    peers->os = os;
    peers->reactor = reactor;
    peers->owner = *owner;
    peers->options = *options;
    snprintf(peers->cluster, sizeof peers->cluster, "%s", options->cluster);
    peers->options.cluster = peers->cluster;
    os_random(os, &peers->boot, sizeof peers->boot);
    peers->boot += peers->boot == 0;
    peers->now_ns = now_ns;
    peers->listener.fd = -1;

    const struct peers_member *self = set_members(peers, now_ns);
    assert(self != NULL);
    int result = listen_on(peers, self);
    if (result < 0) {
        *code = result;
        peers_free(peers);
        return NULL;
    }
    return peers;
}

void peers_free(struct peers *peers)
{
    if (peers == NULL)
        return;
    for (int i = 0; i < PEERS_STRANGERS_MAX; i++)
        link_free(peers->strangers[i]);
    for (int i = 0; i < peers->peer_count; i++)
        link_free(peers->peers[i].link);
    if (peers->listener.fd >= 0) {
        reactor_remove(peers->reactor, &peers->listener);
        (void)os_close(peers->os, peers->listener.fd); /* it holds no data */
    }
    free(peers);
}

struct peer *peers_find(struct peers *peers, uint32_t id)
{
    for (int i = 0; i < peers->peer_count; i++) {
        if (peers->peers[i].member.id == id)
            return &peers->peers[i];
    }
    return NULL;
}

/* -- Words ------------------------------------------------------------------------------------- */

void peers_note(struct peers *peers, struct note *note, const char *who, const char *why)
{
    char text[2 * HANDSHAKE_TEXT_MAX];

    if (peers->now_ns < note->quiet_until_ns) {
        note->held_back++;
        return;
    }
    if (note->held_back == 0)
        snprintf(text, sizeof text, "%s", why);
    else
        snprintf(text, sizeof text, "%s (and %" PRIu64 " times before that were not noted)", why,
                 note->held_back);
    note->quiet_ms = note->held_back == 0 ? PEERS_NOTE_QUIET_MS_MIN : 2 * note->quiet_ms;
    if (note->quiet_ms > PEERS_NOTE_QUIET_MS_MAX)
        note->quiet_ms = PEERS_NOTE_QUIET_MS_MAX;
    note->quiet_until_ns = peers->now_ns + note->quiet_ms * NS_PER_MS;
    note->held_back = 0;
    peers->owner.on_refused(peers->owner.context, who, text);
}

static const char *explain_code(int code)
{
    switch (code) {
    case -EPIPE:
        return "it has closed the connection";
    case -ENOBUFS:
        return "it does not read what is sent to it";
    default:
        return strerror(-code);
    }
}

/* -- A link's end, and its beginning ----------------------------------------------------------- */

void peers_set_up(struct peers *peers, struct peer *peer, const struct frame_hello *hello)
{
    assert(peer->link->state == LINK_STRANGER || peer->link->state == LINK_GREETING);
    peer->link->state = LINK_UP;
    peer->incarnation = hello->incarnation;
    peer->boot = hello->boot;
    peer->up_ns = peers->now_ns;
    peers->stats.up++;
    peers->stats.connects++;
    peers->owner.on_up(peers->owner.context, peer->member.id, hello->incarnation, hello->boot);
}

void peers_drop(struct peers *peers, struct peer *peer, const char *why)
{
    struct link *link = peer->link;
    bool was_up = link->state == LINK_UP;
    bool was_steady = was_up && peers->now_ns - peer->up_ns >= DIAL_STEADY_MS * NS_PER_MS;

    peer->link = NULL;
    link_free(link);
    if (was_steady) { /* what comes now is a new story */
        dial_reset(&peer->dial);
        peer->note = (struct note){ 0 };
    }
    if (peer->is_dialled)
        dial_later(&peer->dial, peers->os, peers->now_ns, 0);
    if (was_up) {
        assert(peers->stats.up > 0);
        peers->stats.up--;
        peers->owner.on_down(peers->owner.context, peer->member.id, why);
    }
}

/* A link that fails before it is up: noted, since there will be no on_down. */
static void give_up(struct peers *peers, struct peer *peer, const char *why)
{
    peers_note(peers, &peer->note, peer->link->who, why);
    peers_drop(peers, peer, why);
}

static void dial(struct peers *peers, struct peer *peer)
{
    const struct peers_member *member = &peer->member;
    uint64_t before_ns = os_now_ns(peers->os);
    struct os_address address;
    char who[LINK_WHO_MAX];

    snprintf(who, sizeof who, "node %" PRIu32 " at %.150s:%u", member->id, member->host,
             (unsigned)member->port);
    int code = os_resolve(peers->os, member->host, member->port, &address);
    uint64_t resolve_ns = os_now_ns(peers->os) - before_ns;
    int fd = code < 0 ? code : os_connect(peers->os, &address);
    code = fd < 0 ? fd : 0;
    if (code == 0)
        peer->link = link_new(peers->os, peers->reactor, fd, LINK_CONNECTING, peers->now_ns, &code);
    if (code < 0) {
        char why[HANDSHAKE_TEXT_MAX];
        snprintf(why, sizeof why, "it cannot be dialled: %s",
                 code == -ENOENT ? "its name is unknown" : strerror(-code));
        peers_note(peers, &peer->note, who, why);
        dial_later(&peer->dial, peers->os, peers->now_ns, resolve_ns);
        return;
    }
    peer->link->peer = peer;
    memcpy(peer->link->who, who, sizeof who);
}

static void finish_connect(struct peers *peers, struct peer *peer)
{
    struct link *link = peer->link;
    int code = os_connect_result(peers->os, link->source.fd);

    if (code < 0) {
        char why[HANDSHAKE_TEXT_MAX];
        snprintf(why, sizeof why, "it cannot be reached: %s", strerror(-code));
        give_up(peers, peer, why);
        return;
    }
    link->state = LINK_GREETING;
    link->opened_ns = peers->now_ns;
    meet_greet(peers, link, peer->member.id);
}

/* -- Input ------------------------------------------------------------------------------------- */

/* A peer that we know and trusted has broken a promise. */
static bool refuse_link(struct peers *peers, struct link *link, const char *why)
{
    peers->stats.bad_frames++;
    peers_note(peers, &link->peer->note, link->who, why);
    peers_drop(peers, link->peer, why);
    return false;
}

static bool refuse_frame(struct peers *peers, struct link *link, const struct frame *frame)
{
    (void)frame;
    return refuse_link(peers, link, "it has sent a frame at the wrong time");
}

static bool ignore_alive(struct peers *peers, struct link *link, const struct frame *frame)
{
    (void)peers, (void)link, (void)frame; /* that it came is all it says */
    return true;
}

static bool up_on_refusal(struct peers *peers, struct link *link, const struct frame *frame)
{
    char why[HANDSHAKE_TEXT_MAX];

    handshake_explain_refusal(&peers->options, frame, why);
    peers->stats.refused_handshakes++;
    peers_note(peers, &link->peer->note, link->who, why);
    peers_drop(peers, link->peer, why);
    return false;
}

static bool up_on_message(struct peers *peers, struct link *link, const struct frame *frame)
{
    const struct peers_owner *owner = &peers->owner;

    if (frame->from != link->peer->member.id || frame->to != peers->options.id)
        return refuse_link(peers, link, "it has sent a frame in another node's name");
    if (!owner->on_message(owner->context, &frame->message, peers->entries))
        return refuse_link(peers, link, "it has sent a message that breaks a promise");
    return true;
}

static bool refuse_bytes(struct peers *peers, struct link *link, enum frame_fault fault)
{
    if (link->state != LINK_UP) {
        meet_refuse_bytes(peers, link, fault);
        return false;
    }
    char why[HANDSHAKE_TEXT_MAX];
    snprintf(why, sizeof why, "it has sent a bad frame: %s", frame_fault_text(fault));
    return refuse_link(peers, link, why);
}

/* Hands on all whole frames of the link's input. False: the link is gone. */
static bool take_frames(struct peers *peers, struct link *link)
{
    while (link->input.size > 0) {
        struct frame *frame = &peers->frame;
        enum frame_fault fault =
            frame_decode(buffer_front(&link->input), link->input.size,
                         peers->options.entry_bytes_max, frame, peers->entries);
        if (fault == FRAME_CUT && link->state == LINK_STRANGER && frame->size > FRAME_HELLO_SIZE)
            fault = FRAME_TOO_LARGE;
        if (fault == FRAME_CUT) {
            link->wanted = frame->size;
            return true;
        }
        if (fault != FRAME_WHOLE)
            return refuse_bytes(peers, link, fault);
        size_t size = frame->size;
        if (!frame_table[frame->type][link->state](peers, link, frame))
            return false;
        buffer_take(&link->input, size);
        link->wanted = 0;
    }
    return true;
}

static void lose_link(struct peers *peers, struct link *link, int code)
{
    if (link->state == LINK_STRANGER)
        meet_drop(peers, link); /* somebody knocked and went: a health check, a scan */
    else if (link->state == LINK_UP)
        peers_drop(peers, link->peer, explain_code(code));
    else
        give_up(peers, link->peer, explain_code(code));
}

void peers_take_input(struct peers *peers, struct link *link)
{
    size_t budget = PEERS_TURN_BYTES_MAX;

    while (link->readable && budget > 0) {
        size_t size_max = budget;
        if (link->state == LINK_STRANGER)
            size_max = FRAME_HELLO_SIZE - link->input.size;
        ptrdiff_t count = link_receive(link, size_max);
        if (count == 0)
            return;
        if (count < 0) {
            lose_link(peers, link, (int)count);
            return;
        }
        budget -= (size_t)count;
        link->heard_ns = peers->now_ns;
        peers->stats.received_bytes += (uint64_t)count;
        if (link->input.size >= link->wanted && !take_frames(peers, link))
            return;
    }
}

/* -- Time -------------------------------------------------------------------------------------- */

static uint64_t heartbeats_ns(const struct peers *peers, uint32_t count)
{
    return count * NS_PER_MS * peers->options.heartbeat_ms;
}

static uint64_t silent_at_ns(const struct peers *peers, const struct link *link)
{
    return link->heard_ns + heartbeats_ns(peers, PEERS_SILENT_HEARTBEATS);
}

static uint64_t alive_at_ns(const struct peers *peers, const struct link *link)
{
    return link->said_ns + heartbeats_ns(peers, PEERS_ALIVE_HEARTBEATS);
}

/* When time alone will do something to the link. */
static uint64_t link_at_ns(const struct peers *peers, const struct link *link)
{
    if (link->state == LINK_CONNECTING)
        return link->opened_ns + PEERS_CONNECT_MS * NS_PER_MS;
    if (link->state != LINK_UP)
        return link->opened_ns + PEERS_HANDSHAKE_MS * NS_PER_MS;
    uint64_t silent_ns = silent_at_ns(peers, link);
    uint64_t alive_ns = alive_at_ns(peers, link);
    return silent_ns < alive_ns ? silent_ns : alive_ns;
}

/* Nothing else was said for a while. Behind bytes that wait to be sent it would tell nothing. */
static void say_alive(struct peers *peers, struct peer *peer)
{
    struct link *link = peer->link;

    link->said_ns = peers->now_ns;
    if (link->output.size > 0)
        return;
    if (!buffer_reserve(&link->output, FRAME_HEADER_SIZE)) {
        link->broken = -ENOMEM;
        return;
    }
    buffer_added(&link->output,
                 frame_encode_alive(buffer_end(&link->output), peers->options.id, peer->member.id));
}

static void watch_time(struct peers *peers, struct peer *peer)
{
    struct link *link = peer->link;
    char why[HANDSHAKE_TEXT_MAX];

    if (link == NULL || peers->now_ns < link_at_ns(peers, link))
        return;
    if (link->state == LINK_CONNECTING) {
        give_up(peers, peer, "it cannot be reached: no answer to the connection");
    } else if (link->state == LINK_GREETING) {
        give_up(peers, peer, "it has not answered our hello in time");
    } else if (peers->now_ns >= silent_at_ns(peers, link)) {
        snprintf(why, sizeof why, "nothing was heard of it for %" PRIu32 " ms",
                 PEERS_SILENT_HEARTBEATS * peers->options.heartbeat_ms);
        peers_drop(peers, peer, why);
    } else {
        say_alive(peers, peer);
    }
}

/* Before anything is read or said in a turn: buffers that are ever empty are so now. */
static void tidy(struct peers *peers)
{
    if (peers->now_ns < peers->tidy_ns)
        return;
    peers->tidy_ns = peers->now_ns + PEERS_TIDY_MS * NS_PER_MS;
    for (int i = 0; i < peers->peer_count; i++) {
        if (peers->peers[i].link != NULL)
            link_tidy(peers->peers[i].link);
    }
}

/* -- The turn ---------------------------------------------------------------------------------- */

static void turn_link(struct peers *peers, struct peer *peer)
{
    struct link *link = peer->link;

    if (link == NULL)
        return;
    if (link->broken != 0)
        lose_link(peers, link, link->broken);
    else if (link->state != LINK_CONNECTING)
        peers_take_input(peers, link);
    else if (link->writable)
        finish_connect(peers, peer);
}

/* What is read comes before strangers are heard, so that a link which has just ended is no rival to
 * its successor; and before the time is looked at, so that a node which was stopped for a while
 * does not blame its peers for the silence. */
void peers_turn(struct peers *peers, uint64_t now_ns)
{
    peers->now_ns = now_ns;
    tidy(peers);
    for (int i = 0; i < peers->peer_count; i++)
        turn_link(peers, &peers->peers[i]);
    meet_accept(peers);
    meet_strangers(peers);
    for (int i = 0; i < peers->peer_count; i++)
        watch_time(peers, &peers->peers[i]);
    for (int i = 0; i < peers->peer_count; i++) {
        struct peer *peer = &peers->peers[i];
        if (peer->is_dialled && peer->link == NULL && now_ns >= peer->dial.at_ns)
            dial(peers, peer);
    }
}

void peers_flush(struct peers *peers)
{
    for (int i = 0; i < peers->peer_count; i++) {
        struct link *link = peers->peers[i].link;
        if (link != NULL && link->output.size > 0 && !link->clogged && link->broken == 0)
            peers->stats.sent_bytes += link_send(link);
    }
}

bool peers_busy(const struct peers *peers)
{
    if (peers->acceptable && peers->accept_at_ns == 0)
        return true;
    for (int i = 0; i < PEERS_STRANGERS_MAX; i++) {
        if (peers->strangers[i] != NULL && peers->strangers[i]->readable)
            return true;
    }
    for (int i = 0; i < peers->peer_count; i++) {
        const struct link *link = peers->peers[i].link;
        if (link != NULL && link->state != LINK_CONNECTING && (link->readable || link->broken != 0))
            return true;
    }
    return false;
}

static void sooner(uint64_t *deadline_ns, uint64_t other_ns)
{
    if (*deadline_ns == 0 || other_ns < *deadline_ns)
        *deadline_ns = other_ns;
}

uint64_t peers_deadline_ns(const struct peers *peers)
{
    uint64_t deadline_ns = peers->acceptable ? peers->accept_at_ns : 0;

    for (int i = 0; i < PEERS_STRANGERS_MAX; i++) {
        if (peers->strangers[i] != NULL)
            sooner(&deadline_ns, link_at_ns(peers, peers->strangers[i]));
    }
    for (int i = 0; i < peers->peer_count; i++) {
        const struct peer *peer = &peers->peers[i];
        if (peer->link != NULL)
            sooner(&deadline_ns, link_at_ns(peers, peer->link));
        else if (peer->is_dialled)
            sooner(&deadline_ns, peer->dial.at_ns);
    }
    return deadline_ns;
}

/* -- Messages out ------------------------------------------------------------------------------ */

static const struct peer *find_up(const struct peers *peers, uint32_t id)
{
    for (int i = 0; i < peers->peer_count; i++) {
        const struct peer *peer = &peers->peers[i];
        if (peer->member.id == id && peer->link != NULL && peer->link->state == LINK_UP &&
            peer->link->broken == 0)
            return peer;
    }
    return NULL;
}

bool peers_is_up(const struct peers *peers, uint32_t id)
{
    return find_up(peers, id) != NULL;
}

/* A queue with hardly anything in it takes a whole append's worth, so that an entry of any legal
 * size goes at last. */
size_t peers_room(const struct peers *peers, uint32_t id)
{
    const struct peer *peer = find_up(peers, id);
    if (peer == NULL)
        return 0;
    size_t queued = peer->link->output.size;
    if (queued <= PEERS_SMALL_BYTES_MAX)
        return frame_entries_bytes_max(peers->options.entry_bytes_max);
    return queued < FRAME_ENTRIES_BYTES_MAX ? FRAME_ENTRIES_BYTES_MAX - queued : 0;
}

/* What a queue may come to: room was given, and small messages have come on top of it twice: before
 * and after the entries. */
static size_t queue_bytes_max(const struct peers *peers)
{
    return frame_entries_bytes_max(peers->options.entry_bytes_max) + 2 * PEERS_SMALL_BYTES_MAX;
}

void peers_send(struct peers *peers, const struct raft_message *message,
                const struct entry *entries)
{
    const struct peer *peer = find_up(peers, message->to);
    uint32_t entry_count = message->type == RAFT_APPEND ? message->append.entry_count : 0;
    size_t entries_size = 0;

    assert(message->from == peers->options.id);
    if (peer == NULL)
        return;
    for (uint32_t i = 0; i < entry_count; i++)
        entries_size += entries[i].size;
    assert(entries_size <= peers_room(peers, message->to));

    struct link *link = peer->link;
    struct buffer *output = &link->output;
    size_t size_max = FRAME_SIZE_MAX + entries_size;
    if (output->size + size_max > queue_bytes_max(peers))
        link->broken = -ENOBUFS;
    else if (!buffer_reserve(output, size_max))
        link->broken = -ENOMEM;
    if (link->broken != 0)
        return;
    buffer_added(output, frame_encode_message(buffer_end(output), message, entries));
    for (uint32_t i = 0; i < entry_count; i++)
        buffer_add(output, entries[i].bytes, entries[i].size);
    link->said_ns = peers->now_ns;
}

void peers_stats(const struct peers *peers, struct peers_stats *stats)
{
    *stats = peers->stats;
}
