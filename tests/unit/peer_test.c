/* Links between nodes: hosts in one process, over loopback, on the real system; and strangers who
 * speak to them byte by byte. Time is what the test says: a host's clock can be put forward. */
#define _GNU_SOURCE /* for descriptors.h */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/crc32c.h"
#include "server/endian.h"
#include "server/os/os_linux.h"
#include "server/peer/core.h"
#include "tests/unit/descriptors.h"
#include "tests/unit/slow.h"

#define HEARTBEAT_MS 100
#define ENTRY_BYTES_MAX (1u << 20)
#define HOSTS_MAX 3
#define DEADLINE_MS (20000u * test_patience())
#define NOTES_MAX 64
#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))

/* -- Hosts: what a node does with its peers ---------------------------------------------------- */

struct host {
    uint32_t id;
    struct os *os;
    struct reactor *reactor;
    struct peers *peers;
    uint64_t ahead_ns; /* of the real clock */
    uint64_t still_ns; /* not 0: its clock stands here, and moves only when it is put forward */

    bool is_up[HOSTS_MAX + 1];
    int ups, downs, messages;
    bool takes_messages;
    char why_down[256];
    int note_count;
    char notes[NOTES_MAX][512]; /* "<who>: <why>" */
    struct raft_message newest;
    uint64_t entry_count, entry_bytes;
    uint64_t entry_sum; /* over all entries' bytes, in the order of their coming */
};

/* The configuration that all hosts of a test share; ids are 1 to member_count. */
struct cluster {
    struct peers_options options;
    struct host hosts[HOSTS_MAX];
};

static struct cluster cluster;

static bool on_message(void *context, const struct raft_message *message,
                       const struct entry *entries)
{
    struct host *host = context;
    uint32_t count = message->type == RAFT_APPEND ? message->append.entry_count : 0;

    ck_assert(host->is_up[message->from]);
    ck_assert_uint_eq(message->to, host->id);
    host->messages++;
    host->newest = *message;
    for (uint32_t i = 0; i < count; i++) {
        host->entry_count++;
        host->entry_bytes += entries[i].size;
        host->entry_sum = crc32c((uint32_t)host->entry_sum, entries[i].bytes, entries[i].size);
    }
    return host->takes_messages;
}

static void on_up(void *context, uint32_t id, uint64_t incarnation, uint64_t boot)
{
    ck_assert_uint_ne(incarnation, 0);
    ck_assert_uint_ne(boot, 0);
    struct host *host = context;

    ck_assert_msg(!host->is_up[id], "node %" PRIu32 " came up twice", id);
    host->is_up[id] = true;
    host->ups++;
}

static void on_down(void *context, uint32_t id, const char *why)
{
    struct host *host = context;

    ck_assert_msg(host->is_up[id], "node %" PRIu32 " went down and was not up", id);
    ck_assert_msg(!peers_is_up(host->peers, id), "it is gone when it is told");
    host->is_up[id] = false;
    host->downs++;
    snprintf(host->why_down, sizeof host->why_down, "%s", why);
}

static void on_refused(void *context, const char *who, const char *why)
{
    struct host *host = context;

    ck_assert_int_lt(host->note_count, NOTES_MAX);
    snprintf(host->notes[host->note_count++], sizeof host->notes[0], "%s: %s", who, why);
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* A port that nobody listens on, and below those that the system gives to whoever asks for any: or
 * somebody's connection may have it before we listen. */
static uint16_t free_port(void)
{
    static unsigned next;

    next = next == 0 ? (unsigned)getpid() * 13 : next;
    for (;;) {
        uint16_t port = (uint16_t)(10000 + next++ % 20000);
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in address = loopback(port);
        ck_assert_int_ge(fd, 0);
        int result = bind(fd, (struct sockaddr *)&address, sizeof address);
        ck_assert_int_eq(close(fd), 0);
        if (result == 0)
            return port;
    }
}

/* Nodes 1 to `count`, none of them started. */
static void set_cluster(int count)
{
    cluster = (struct cluster){
        .options = { .cluster = "raftkv",
                     .member_count = count,
                     .entry_bytes_max = ENTRY_BYTES_MAX,
                     .heartbeat_ms = HEARTBEAT_MS },
    };
    for (int i = 0; i < count; i++) {
        struct peers_member *member = &cluster.options.members[i];
        member->id = (uint32_t)i + 1;
        snprintf(member->host, sizeof member->host, "127.0.0.1");
        member->port = free_port();
    }
}

static struct peers_owner owner_of(struct host *host)
{
    return (struct peers_owner){ .context = host,
                                 .on_message = on_message,
                                 .on_up = on_up,
                                 .on_down = on_down,
                                 .on_refused = on_refused };
}

static uint64_t host_now_ns(const struct host *host)
{
    return host->still_ns != 0 ? host->still_ns : os_now_ns(host->os) + host->ahead_ns;
}

static struct host *start_host(uint32_t id)
{
    struct host *host = &cluster.hosts[id - 1];
    struct peers_options options = cluster.options;
    struct peers_owner owner = owner_of(host);
    int code = 0;

    *host = (struct host){ .id = id, .os = os_linux_new(), .takes_messages = true };
    host->reactor = reactor_new(host->os, &code);
    ck_assert_ptr_nonnull(host->reactor);
    options.id = id;
    options.incarnation = 1000 + id;
    host->peers = peers_new(host->os, host->reactor, &options, &owner, host_now_ns(host), &code);
    ck_assert_msg(host->peers != NULL, "%s", strerror(-code));
    return host;
}

static void stop_host(struct host *host)
{
    if (host->peers == NULL)
        return;
    peers_free(host->peers);
    reactor_free(host->reactor);
    os_linux_free(host->os);
    host->peers = NULL;
}

/* One turn, as node_turn() makes it; `block` waits for something to happen before `until_ns`. */
static void turn_host(struct host *host, bool block, uint64_t until_ns)
{
    uint64_t deadline_ns = peers_deadline_ns(host->peers);
    bool is_busy = !block || peers_busy(host->peers);

    if (deadline_ns == 0 || deadline_ns > until_ns)
        deadline_ns = until_ns;
    uint64_t now_ns = reactor_wait(host->reactor, deadline_ns, is_busy);
    reactor_dispatch(host->reactor, REACTOR_PEER);
    peers_turn(host->peers, host->still_ns != 0 ? host->still_ns : now_ns + host->ahead_ns);
    peers_flush(host->peers);
}

static void turn_all(void)
{
    for (int i = 0; i < HOSTS_MAX; i++) {
        if (cluster.hosts[i].peers != NULL)
            turn_host(&cluster.hosts[i], false, 0);
    }
}

static uint64_t real_ms(void)
{
    return os_now_ns(NULL) / NS_PER_MS;
}

/* Turn all hosts until it is so. */
#define RUN_UNTIL(condition) \
    do { \
        uint64_t deadline_ms = real_ms() + DEADLINE_MS; \
        while (!(condition)) { \
            turn_all(); \
            ck_assert_msg(real_ms() < deadline_ms, "never came: %s", #condition); \
        } \
    } while (0)

static void turn_some(int count)
{
    for (int i = 0; i < count; i++)
        turn_all();
}

static void put_forward(struct host *host, uint64_t ms)
{
    if (host->still_ns != 0)
        host->still_ns += ms * NS_PER_MS;
    else
        host->ahead_ns += ms * NS_PER_MS;
}

static bool has_note(const struct host *host, const char *text)
{
    for (int i = 0; i < host->note_count; i++) {
        if (strstr(host->notes[i], text) != NULL)
            return true;
    }
    return false;
}

static struct peers_stats stats_of(const struct host *host)
{
    struct peers_stats stats;
    peers_stats(host->peers, &stats);
    return stats;
}

static int stranger_count(const struct host *host)
{
    int count = 0;
    for (int i = 0; i < PEERS_STRANGERS_MAX; i++)
        count += host->peers->strangers[i] != NULL;
    return count;
}

/* -- Strangers: one socket, and bytes ---------------------------------------------------------- */

struct raw {
    int fd;
    uint8_t bytes[4096]; /* what came back, at least its beginning */
    size_t size;
    bool ended;
};

static struct raw raw_dial(const struct host *host)
{
    struct raw raw = { .fd = socket(AF_INET, SOCK_STREAM, 0) };
    struct sockaddr_in address = loopback(cluster.options.members[host->id - 1].port);

    ck_assert_int_ge(raw.fd, 0);
    ck_assert_int_eq(connect(raw.fd, (struct sockaddr *)&address, sizeof address), 0);
    return raw;
}

static int raw_listen(uint32_t id, int backlog)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(cluster.options.members[id - 1].port);
    int on = 1;

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Waits: connections that a host starts are complete before they are accepted. */
static struct raw raw_accept(int listener)
{
    struct raw raw = { .fd = -1 };
    uint64_t deadline_ms = real_ms() + DEADLINE_MS;

    while (raw.fd < 0 && real_ms() < deadline_ms) {
        turn_all();
        raw.fd = accept(listener, NULL, NULL);
    }
    ck_assert_int_ge(raw.fd, 0);
    return raw;
}

static void raw_say(struct raw *raw, const void *bytes, size_t size)
{
    ck_assert_int_eq(send(raw->fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* Takes what has come, without waiting. */
static void raw_hear(struct raw *raw)
{
    ssize_t count = 1;
    while (count > 0 && raw->size < sizeof raw->bytes) {
        count = recv(raw->fd, raw->bytes + raw->size, sizeof raw->bytes - raw->size, MSG_DONTWAIT);
        raw->size += count > 0 ? (size_t)count : 0;
    }
    if (count == 0 || (count < 0 && errno == ECONNRESET))
        raw->ended = true;
}

static bool raw_ended(struct raw *raw)
{
    raw_hear(raw);
    return raw->ended;
}

static bool raw_has(struct raw *raw, size_t size)
{
    raw_hear(raw);
    return raw->size >= size;
}

/* The frame at the front of what was heard. */
static struct frame raw_frame(const struct raw *raw)
{
    static struct frame frame;
    static struct entry entries[RAFT_APPEND_ENTRIES_MAX];
    ck_assert_int_eq(frame_decode(raw->bytes, raw->size, ENTRY_BYTES_MAX, &frame, entries),
                     FRAME_WHOLE);
    return frame;
}

static struct frame_hello good_hello(uint64_t incarnation, uint64_t boot)
{
    return (struct frame_hello){ .protocol_min = 1,
                                 .protocol_max = 1,
                                 .servers = handshake_servers(&cluster.options),
                                 .incarnation = incarnation,
                                 .boot = boot,
                                 .cluster = "raftkv" };
}

static void raw_hello(struct raw *raw, uint32_t from, uint32_t to, struct frame_hello hello)
{
    uint8_t bytes[FRAME_HELLO_SIZE];
    raw_say(raw, bytes, frame_encode_hello(bytes, from, to, &hello));
}

static void raw_message(struct raw *raw, const struct raft_message *message)
{
    uint8_t bytes[FRAME_SIZE_MAX];
    raw_say(raw, bytes, frame_encode_message(bytes, message, NULL));
}

/* Node 1, played by the test, is up at `host`. */
static struct raw raw_link(struct host *host, uint64_t incarnation, uint64_t boot)
{
    struct raw raw = raw_dial(host);
    int ups = host->ups;

    raw_hello(&raw, 1, host->id, good_hello(incarnation, boot));
    RUN_UNTIL(raw_has(&raw, FRAME_HELLO_SIZE));
    ck_assert_int_eq(raw_frame(&raw).type, FRAME_HELLO);
    ck_assert_int_eq(host->ups, ups + 1);
    raw.size = 0;
    return raw;
}

static const struct raft_message a_vote = {
    .type = RAFT_VOTE, .from = 1, .to = 2, .term = 7, .vote = { { 6, 60 }, .pre_vote = true }
};

/* -- Up and down ------------------------------------------------------------------------------- */

static void start_pair(void)
{
    set_cluster(2);
    start_host(2);
    start_host(1);
    RUN_UNTIL(cluster.hosts[0].is_up[2] && cluster.hosts[1].is_up[1]);
}

START_TEST(two_nodes_shake_hands)
{
    start_pair();

    for (int i = 0; i < 2; i++) {
        const struct host *host = &cluster.hosts[i];
        ck_assert_int_eq(host->ups, 1);
        ck_assert_int_eq(host->downs, 0);
        ck_assert_int_eq(host->note_count, 0);
        ck_assert_uint_eq(stats_of(host).up, 1);
        ck_assert_uint_eq(stats_of(host).connects, 1);
        ck_assert_uint_eq(stats_of(host).received_bytes, FRAME_HELLO_SIZE);
        ck_assert_uint_eq(stats_of(host).sent_bytes, FRAME_HELLO_SIZE);
        ck_assert(!peers_is_up(host->peers, host->id));
        ck_assert_uint_eq(peers_room(host->peers, 2 - (uint32_t)i), FRAME_ENTRIES_BYTES_MAX);
        ck_assert(!peers_busy(host->peers));
    }
}
END_TEST

START_TEST(three_nodes_are_up_whatever_the_order_of_their_start)
{
    static const uint32_t orders[][3] = { { 1, 2, 3 }, { 3, 2, 1 }, { 2, 1, 3 } };
    set_cluster(3);

    for (int i = 0; i < 3; i++) {
        start_host(orders[_i][i]);
        turn_some(3);
    }
    for (uint32_t a = 1; a <= 3; a++) {
        for (uint32_t b = 1; b <= 3; b++)
            RUN_UNTIL(a == b || peers_is_up(cluster.hosts[a - 1].peers, b));
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(cluster.hosts[i].ups, 2);
}
END_TEST

START_TEST(a_node_alone_has_nothing_to_do)
{
    set_cluster(1);
    struct host *host = start_host(1);
    turn_some(3);
    ck_assert_uint_eq(peers_deadline_ns(host->peers), 0);
    ck_assert(!peers_busy(host->peers));
}
END_TEST

START_TEST(a_port_in_use_is_an_error)
{
    set_cluster(2);
    int listener = raw_listen(1, 1);
    struct os *os = os_linux_new();
    int code = 0;
    struct reactor *reactor = reactor_new(os, &code);
    struct peers_options options = cluster.options;
    struct peers_owner owner = { 0 };

    options.id = 1;
    ck_assert_ptr_null(peers_new(os, reactor, &options, &owner, os_now_ns(os), &code));
    ck_assert_int_eq(code, -EADDRINUSE);
    snprintf(options.members[0].host, OS_HOST_MAX, "300.1.1.1 ");
    ck_assert_ptr_null(peers_new(os, reactor, &options, &owner, os_now_ns(os), &code));
    ck_assert_int_lt(code, 0);
    reactor_free(reactor);
    os_linux_free(os);
    close(listener);
}
END_TEST

START_TEST(a_link_is_dialled_anew_after_either_side_has_gone)
{
    uint32_t victim = (uint32_t)_i + 1, witness = 2 - (uint32_t)_i;
    start_pair();
    struct host *other = &cluster.hosts[witness - 1];

    for (int round = 1; round <= 3; round++) {
        stop_host(&cluster.hosts[victim - 1]);
        RUN_UNTIL(!other->is_up[victim]);
        ck_assert_int_eq(other->downs, round);
        ck_assert_msg(strstr(other->why_down, "closed") || strstr(other->why_down, "reset"), "%s",
                      other->why_down);
        ck_assert_uint_eq(peers_room(other->peers, victim), 0);
        turn_some(20);
        start_host(victim);
        RUN_UNTIL(other->is_up[victim] && cluster.hosts[victim - 1].is_up[witness]);
        ck_assert_uint_eq(stats_of(other).connects, (uint64_t)round + 1);
        ck_assert_uint_eq(stats_of(other).up, 1);
    }
}
END_TEST

START_TEST(a_node_that_is_not_there_is_dialled_less_and_less_often)
{
    set_cluster(2);
    struct host *host = start_host(1);
    uint64_t step_ms = 5, attempts = 0, last_at_ns = 0;

    host->still_ns = host_now_ns(host); /* a slow machine would have time for more */
    for (uint64_t ms = 0; ms < 10000; ms += step_ms) {
        put_forward(host, step_ms);
        turn_all();
        const struct dial *dial = &host->peers->peers[0].dial;
        attempts += dial->at_ns != last_at_ns;
        last_at_ns = dial->at_ns;
    }
    /* 10, 20, 40, 80, 160, 320 and then 500 ms, each by half or whole: some 18 to 48 attempts. */
    ck_assert_uint_ge(attempts, 18);
    ck_assert_uint_le(attempts, 48);
    ck_assert_int_eq(host->note_count, 1);
    ck_assert(has_note(host, "node 2 at 127.0.0.1"));
    ck_assert_msg(has_note(host, "Connection refused"), "%s", host->notes[0]);
    ck_assert(!peers_busy(host->peers));
}
END_TEST

/* And is a story of its own in the log: or else a link that is lost again and again at once would be
 * dialled, and noted, without a pause. */
START_TEST(a_link_that_stayed_up_has_earned_a_quick_redial)
{
    bool is_steady = _i == 1;
    set_cluster(2);
    struct host *one = start_host(1);
    const struct dial *dial = &one->peers->peers[0].dial;

    for (int i = 0; dial->backoff_ms < DIAL_BACKOFF_MS_MAX; i++) {
        put_forward(one, 50);
        turn_all();
    }
    ck_assert_int_eq(one->note_count, 1);
    start_host(2);
    put_forward(one, DIAL_BACKOFF_MS_MAX);
    RUN_UNTIL(one->is_up[2]);
    put_forward(one, is_steady ? DIAL_STEADY_MS : 0);
    turn_some(2);
    stop_host(&cluster.hosts[1]);
    RUN_UNTIL(!one->is_up[2]);
    ck_assert_uint_eq(dial->backoff_ms, is_steady ? 2 * DIAL_BACKOFF_MS_MIN : DIAL_BACKOFF_MS_MAX);
    put_forward(one, DIAL_BACKOFF_MS_MAX);
    uint64_t at_ns = dial->at_ns;
    RUN_UNTIL(dial->at_ns != at_ns);
    ck_assert_int_eq(one->note_count, is_steady ? 2 : 1);
}
END_TEST

START_TEST(a_name_that_is_unknown_is_tried_again)
{
    set_cluster(2);
    snprintf(cluster.options.members[1].host, OS_HOST_MAX, "no such host");
    struct host *host = start_host(1);

    RUN_UNTIL(host->note_count == 1);
    ck_assert_msg(has_note(host, "it cannot be dialled"), "%s", host->notes[0]);
    uint64_t at_ns = host->peers->peers[0].dial.at_ns;
    put_forward(host, 600000);
    RUN_UNTIL(host->peers->peers[0].dial.at_ns != at_ns);
    ck_assert_int_eq(host->note_count, 2);

    /* Now it has an address. */
    snprintf(host->peers->peers[0].member.host, OS_HOST_MAX, "127.0.0.1");
    snprintf(cluster.options.members[1].host, OS_HOST_MAX, "127.0.0.1");
    put_forward(host, 600000);
    start_host(2);
    RUN_UNTIL(host->is_up[2]);
}
END_TEST

START_TEST(a_connection_that_is_not_answered_is_given_up)
{
    set_cluster(2);
    int listener = raw_listen(2, 0);
    struct raw fill[4];
    for (int i = 0; i < 4; i++) { /* no room left for one more */
        struct sockaddr_in address = loopback(cluster.options.members[1].port);
        fill[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fill[i].fd, (struct sockaddr *)&address, sizeof address);
    }
    struct host *host = start_host(1);
    turn_some(10);
    ck_assert_int_eq(host->note_count, 0);
    ck_assert_ptr_nonnull(host->peers->peers[0].link);

    put_forward(host, PEERS_CONNECT_MS);
    RUN_UNTIL(has_note(host, "no answer to the connection"));
    ck_assert_int_eq(host->ups, 0);
    ck_assert_int_eq(host->downs, 0);
    close(listener);
}
END_TEST

/* -- Messages ---------------------------------------------------------------------------------- */

START_TEST(all_messages_arrive_in_order_both_ways)
{
    start_pair();
    struct host *one = &cluster.hosts[0], *two = &cluster.hosts[1];

    for (int i = 0; i < 100; i++) {
        struct raft_message message = { .type = (enum raft_event_type)(i % RAFT_MESSAGE_TYPE_COUNT),
                                        .from = 1,
                                        .to = 2,
                                        .term = (uint64_t)i + 1 };
        peers_send(one->peers, &message, NULL);
        message.from = 2;
        message.to = 1;
        peers_send(two->peers, &message, NULL);
        if (i % 9 == 0)
            turn_all();
        ck_assert_uint_le(one->newest.term, (uint64_t)i + 1);
    }
    RUN_UNTIL(one->messages == 100 && two->messages == 100);
    ck_assert_uint_eq(one->newest.term, 100);
    ck_assert_uint_eq(two->newest.term, 100);
    ck_assert_int_eq(one->downs + two->downs, 0);
}
END_TEST

/* A stream of entries, and what the receiver must have seen of it. */
struct stream {
    uint64_t index, chain, count, bytes;
    uint32_t sum;
};

/* One append of `count` entries of `size` bytes, sent if there is room. */
static bool send_append(struct host *from, uint32_t to, struct stream *stream, uint32_t count,
                        uint32_t size)
{
    struct entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct raft_message message = { .type = RAFT_APPEND, .from = from->id, .to = to, .term = 3 };

    if ((size_t)count * size > peers_room(from->peers, to))
        return false;
    uint8_t *bytes = malloc((size_t)count * size + 1);
    ck_assert_ptr_nonnull(bytes);
    message.append.prev = (struct raft_pos){ stream->index == 0 ? 0 : 3, stream->index };
    message.append.entry_count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = bytes + (size_t)i * size;
        memset(at, (int)(stream->index * 7), size);
        entries[i] = (struct entry){
            .kind = ENTRY_COMMANDS, .term = 3, .index = ++stream->index, .count = 1, .size = size
        };
        entry_seal(at, stream->chain, &entries[i]);
        stream->chain = entries[i].chain;
        stream->count++;
        stream->bytes += size;
        stream->sum = crc32c(stream->sum, at, size);
        message.append.entry_terms[i] = 3;
    }
    peers_send(from->peers, &message, entries);
    free(bytes); /* copied */
    return true;
}

static const struct {
    uint32_t count, size;
    int rounds;
} append_rows[] = {
    { 1, 64, 1000 },
    { 64, 64, 300 },
    { 1, 5000, 400 },
    { 64, 65536, 5 },
    { 1, ENTRY_BYTES_MAX, 20 },
    { 7, 300000, 10 },
};

START_TEST(appends_arrive_byte_for_byte_through_a_narrow_pipe)
{
    start_pair();
    struct host *one = &cluster.hosts[0], *two = &cluster.hosts[1];
    struct stream stream = { 0 };

    for (int i = 0; i < append_rows[_i].rounds; i++)
        RUN_UNTIL(send_append(one, 2, &stream, append_rows[_i].count, append_rows[_i].size));
    RUN_UNTIL(two->entry_count == stream.count);
    ck_assert_uint_eq(two->entry_bytes, stream.bytes);
    ck_assert_uint_eq(two->entry_sum, stream.sum);
    ck_assert_int_eq(one->downs + two->downs, 0);
}
END_TEST

START_TEST(an_entry_of_the_largest_size_goes_when_the_queue_is_empty)
{
    set_cluster(2);
    cluster.options.entry_bytes_max = 16u << 20;
    struct host *two = start_host(2), *one = start_host(1);
    struct stream stream = { 0 };
    RUN_UNTIL(one->is_up[2]);

    ck_assert_uint_eq(peers_room(one->peers, 2), 16u << 20);
    ck_assert(send_append(one, 2, &stream, 1, 16u << 20));
    ck_assert_uint_eq(peers_room(one->peers, 2), 0);
    RUN_UNTIL(two->entry_count == 1);
    ck_assert_uint_eq(two->entry_sum, stream.sum);
    RUN_UNTIL(peers_room(one->peers, 2) == 16u << 20);
}
END_TEST

START_TEST(a_turn_reads_no_more_than_its_budget)
{
    start_pair();
    struct host *one = &cluster.hosts[0], *two = &cluster.hosts[1];
    struct stream stream = { 0 };
    ck_assert(send_append(one, 2, &stream, 64, 60000));

    uint64_t before = stats_of(two).received_bytes;
    bool was_busy = false;
    uint64_t deadline_ms = real_ms() + DEADLINE_MS;
    while (two->entry_count < 64 && real_ms() < deadline_ms) {
        /* The sender goes on until the pipe is full, so that there is always more than a turn's. */
        for (int i = 0; i < 50; i++)
            turn_host(one, false, 0);
        turn_host(two, false, 0);
        uint64_t after = stats_of(two).received_bytes;
        ck_assert_uint_le(after - before, PEERS_TURN_BYTES_MAX);
        was_busy = was_busy || (after - before == PEERS_TURN_BYTES_MAX && peers_busy(two->peers));
        before = after;
    }
    ck_assert_uint_eq(two->entry_count, 64);
    ck_assert_msg(was_busy, "the budget was never reached: a weak test");
}
END_TEST

START_TEST(memory_of_a_peak_is_given_back)
{
    start_pair();
    struct host *one = &cluster.hosts[0], *two = &cluster.hosts[1];
    struct stream stream = { 0 };

    ck_assert(send_append(one, 2, &stream, 64, 60000));
    ck_assert_uint_ge(one->peers->peers[0].link->output.capacity, 64 * 60000);
    RUN_UNTIL(two->entry_count == 64);
    for (int i = 0; i < 3; i++) { /* the peak's own period, and one without it */
        for (int j = 0; j < 2; j++)
            put_forward(&cluster.hosts[j], PEERS_TIDY_MS);
        turn_some(3);
    }
    ck_assert_uint_le(one->peers->peers[0].link->output.capacity, BUFFER_BYTES_MIN);
    ck_assert_uint_le(two->peers->peers[0].link->input.capacity, BUFFER_BYTES_MIN);
    ck_assert(one->is_up[2] && two->is_up[1]);
}
END_TEST

START_TEST(a_peer_that_does_not_read_fills_its_queue_and_no_more)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_link(two, 1, 1);
    struct stream stream = { 0 };

    while (peers_room(two->peers, 1) >= 65536) {
        ck_assert(send_append(two, 1, &stream, 1, 65536));
        turn_all();
    }
    const struct buffer *output = &two->peers->peers[0].link->output;
    ck_assert_msg(two->peers->peers[0].link->clogged, "each turn would try to write in vain");
    ck_assert(!peers_busy(two->peers));
    ck_assert_uint_le(output->size, FRAME_ENTRIES_BYTES_MAX + FRAME_SIZE_MAX);

    /* Small messages still go in, for a while. */
    struct raft_message message = { .type = RAFT_VOTE, .from = 2, .to = 1, .term = 3 };
    for (int i = 0; i < 1000; i++)
        peers_send(two->peers, &message, NULL);
    ck_assert(peers_is_up(two->peers, 1));
    for (int i = 0; i < 100000 && peers_is_up(two->peers, 1); i++)
        peers_send(two->peers, &message, NULL);
    ck_assert_int_eq(two->downs, 0); /* told in the next turn, not from within peers_send */
    ck_assert(peers_busy(two->peers));
    turn_all();
    ck_assert_int_eq(two->downs, 1);
    ck_assert_msg(strstr(two->why_down, "does not read") != NULL, "%s", two->why_down);
    close(raw.fd);
}
END_TEST

START_TEST(what_is_sent_to_nobody_is_dropped)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raft_message message = { .type = RAFT_VOTE, .from = 2, .to = 1, .term = 3 };

    peers_send(two->peers, &message, NULL);
    message.to = 99;
    peers_send(two->peers, &message, NULL);
    struct raw raw = raw_link(two, 1, 1);
    turn_some(5);
    raw_hear(&raw);
    ck_assert_uint_eq(raw.size, 0);
    close(raw.fd);
}
END_TEST

/* -- Refusals by name, of whoever dials us ----------------------------------------------------- */

static const struct {
    const char *name;
    uint32_t from, to;
    uint16_t protocol_min, protocol_max;
    const char *cluster;
    uint32_t group;
    enum frame_reason reason; /* FRAME_ACCEPTED: it comes up */
    const char *note;
} hello_rows[] = {
    { "as it should be", 1, 2, 1, 1, "raftkv", 0, FRAME_ACCEPTED, "" },
    { "newer, but knows ours", 1, 2, 1, 9, "raftkv", 0, FRAME_ACCEPTED, "" },
    { "other cluster", 1, 2, 1, 1, "staging", 0, FRAME_WRONG_CLUSTER, "cluster 'staging'" },
    { "longer name", 1, 2, 1, 1, "raftkv2", 0, FRAME_WRONG_CLUSTER, "this node to 'raftkv'" },
    { "other group", 1, 2, 1, 1, "raftkv", 3, FRAME_WRONG_GROUP, "group 3" },
    { "too new", 1, 2, 2, 4, "raftkv", 0, FRAME_WRONG_PROTOCOL, "versions 2 to 4" },
    { "too old", 1, 2, 0, 0, "raftkv", 0, FRAME_WRONG_PROTOCOL, "versions 0 to 0" },
    { "our own id", 2, 2, 1, 1, "raftkv", 0, FRAME_SAME_ID, "id 2 of this node" },
    { "no member", 7, 2, 1, 1, "raftkv", 0, FRAME_UNKNOWN_NODE, "id 7 is not in" },
    { "looks for another", 1, 3, 1, 1, "raftkv", 0, FRAME_WRONG_NODE, "looks for node 3" },
    { "higher id dials", 3, 2, 1, 1, "raftkv", 0, FRAME_WRONG_SIDE, "the lower id dials" },
};

static void raw_hello_row(struct raw *raw, int row)
{
    uint8_t bytes[FRAME_HELLO_SIZE];
    struct frame_hello hello = good_hello(1, 1);

    hello.protocol_min = hello_rows[row].protocol_min;
    hello.protocol_max = hello_rows[row].protocol_max;
    snprintf(hello.cluster, sizeof hello.cluster, "%s", hello_rows[row].cluster);
    frame_encode_hello(bytes, hello_rows[row].from, hello_rows[row].to, &hello);
    store_u32(bytes + 16, hello_rows[row].group);
    store_u32(bytes + 4, crc32c(0, bytes + 8, sizeof bytes - 8));
    raw_say(raw, bytes, sizeof bytes);
}

START_TEST(who_may_not_be_linked_with_is_refused_by_name)
{
    set_cluster(3);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);
    uint64_t connects = hello_rows[_i].reason == FRAME_ACCEPTED;

    raw_hello_row(&raw, _i);
    RUN_UNTIL(raw_has(&raw, FRAME_REFUSAL_SIZE));
    struct frame frame = raw_frame(&raw);
    ck_assert_uint_eq(stats_of(two).connects, connects);
    ck_assert_uint_eq(stats_of(two).refused_handshakes, 1 - connects);
    ck_assert_uint_eq(stats_of(two).bad_frames, 0);
    if (hello_rows[_i].reason == FRAME_ACCEPTED) {
        ck_assert_int_eq(frame.type, FRAME_HELLO);
        ck_assert_uint_eq(frame.hello.incarnation, 1002);
        ck_assert_uint_ne(frame.hello.boot, 0);
    } else {
        RUN_UNTIL(raw_ended(&raw));
        ck_assert_int_eq(frame.type, FRAME_REFUSAL);
        ck_assert_int_eq(frame.refusal.reason, hello_rows[_i].reason);
        ck_assert_str_eq(frame.refusal.cluster, "raftkv");
        ck_assert_uint_eq(frame.from, 2);
        ck_assert_uint_eq(raw.size, FRAME_REFUSAL_SIZE);
        ck_assert_msg(has_note(two, hello_rows[_i].note), "%s: %s", hello_rows[_i].name,
                      two->notes[0]);
        ck_assert(has_note(two, " at 127.0.0.1:"));
        ck_assert_int_eq(stranger_count(two), 0);
    }
    close(raw.fd);
}
END_TEST

START_TEST(another_list_of_servers_is_refused)
{
    set_cluster(3);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);
    struct frame_hello hello = good_hello(1, 1);

    hello.servers ^= 1;
    raw_hello(&raw, 1, 2, hello);
    RUN_UNTIL(raw_ended(&raw));
    ck_assert_int_eq(raw_frame(&raw).type, FRAME_REFUSAL);
    ck_assert_int_eq(raw_frame(&raw).refusal.reason, FRAME_WRONG_SERVERS);
    ck_assert(has_note(two, "node 1 has another list of servers"));
    close(raw.fd);
}
END_TEST

START_TEST(lists_of_servers_agree_in_any_order)
{
    struct peers_options options = { .member_count = 3 };
    uint32_t sum;

    options.members[0].id = 7;
    options.members[1].id = 0;
    options.members[2].id = 3;
    sum = handshake_servers(&options);
    options.members[0].id = 0;
    options.members[1].id = 7;
    ck_assert_uint_eq(handshake_servers(&options), sum);
    options.member_count = 2;
    ck_assert_uint_ne(handshake_servers(&options), sum);
}
END_TEST

START_TEST(a_hello_of_an_unknown_format_is_refused_as_a_protocol)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);
    uint8_t bytes[FRAME_HELLO_SIZE];
    struct frame_hello hello = good_hello(1, 1);

    frame_encode_hello(bytes, 1, 2, &hello);
    store_u16(bytes + 12, FRAME_VERSION + 1);
    store_u32(bytes + 4, crc32c(0, bytes + 8, sizeof bytes - 8));
    raw_say(&raw, bytes, sizeof bytes);
    RUN_UNTIL(raw_ended(&raw));
    ck_assert_int_eq(raw_frame(&raw).refusal.reason, FRAME_WRONG_PROTOCOL);
    ck_assert(has_note(two, "version is unknown"));
    close(raw.fd);
}
END_TEST

/* -- Refusals on the side that dials ----------------------------------------------------------- */

START_TEST(a_refusal_is_noted_by_name_where_it_is_heard)
{
    static const char *const notes[FRAME_REASON_END + 1] = {
        [FRAME_WRONG_CLUSTER] = "it belongs to cluster 'other', this node to 'raftkv'",
        [FRAME_WRONG_GROUP] = "does not know group 0",
        [FRAME_WRONG_PROTOCOL] = "it speaks protocol versions 5 to 6, this node 1 to 1",
        [FRAME_SAME_ID] = "it has the id 1 itself",
        [FRAME_UNKNOWN_NODE] = "the id 1 is not in its list",
        [FRAME_WRONG_NODE] = "it is node 2, not the one that was looked for",
        [FRAME_WRONG_SIDE] = "the lower id dials",
        [FRAME_RIVAL] = "another process is alive there as node 1",
        [FRAME_WRONG_SERVERS] = "it has another list of servers",
        [FRAME_REASON_END] = "unknown to this program (10)",
    };
    set_cluster(2);
    int listener = raw_listen(2, 8);
    struct host *one = start_host(1);
    struct raw raw = raw_accept(listener);
    struct frame_refusal refusal = {
        .reason = (uint16_t)_i, .protocol_min = 5, .protocol_max = 6, .cluster = "other"
    };
    uint8_t bytes[FRAME_REFUSAL_SIZE];

    RUN_UNTIL(raw_has(&raw, FRAME_HELLO_SIZE));
    ck_assert_uint_eq(raw_frame(&raw).from, 1);
    ck_assert_uint_eq(raw_frame(&raw).to, 2);
    ck_assert_str_eq(raw_frame(&raw).hello.cluster, "raftkv");
    raw_say(&raw, bytes, frame_encode_refusal(bytes, 2, 1, &refusal));
    RUN_UNTIL(raw_ended(&raw));
    ck_assert_msg(has_note(one, notes[_i]), "%s", one->notes[0]);
    ck_assert(has_note(one, "node 2 at 127.0.0.1:"));
    ck_assert_int_eq(one->ups + one->downs, 0);
    ck_assert_uint_eq(stats_of(one).refused_handshakes, 1);
    close(raw.fd);

    raw = raw_accept(listener); /* and it is tried again */
    close(raw.fd);
    close(listener);
}
END_TEST

static const struct {
    const char *name;
    uint32_t from, to;
    const char *cluster;
    enum frame_reason reason;
} answer_rows[] = {
    { "as it should be", 3, 1, "raftkv", FRAME_ACCEPTED },
    { "another cluster answers", 3, 1, "other", FRAME_WRONG_CLUSTER },
    { "another node answers", 2, 1, "raftkv", FRAME_WRONG_NODE },
    { "it answers another", 3, 2, "raftkv", FRAME_WRONG_NODE },
    { "we answer", 1, 1, "raftkv", FRAME_SAME_ID },
    { "a stranger answers", 9, 1, "raftkv", FRAME_UNKNOWN_NODE },
};

START_TEST(the_answer_is_judged_like_the_hello)
{
    set_cluster(3);
    int listener = raw_listen(3, 8);
    struct host *one = start_host(1);
    struct raw raw = raw_accept(listener);
    struct frame_hello hello = good_hello(5, 6);

    snprintf(hello.cluster, sizeof hello.cluster, "%s", answer_rows[_i].cluster);
    RUN_UNTIL(raw_has(&raw, FRAME_HELLO_SIZE));
    raw.size = 0;
    raw_hello(&raw, answer_rows[_i].from, answer_rows[_i].to, hello);
    if (answer_rows[_i].reason == FRAME_ACCEPTED) {
        RUN_UNTIL(one->is_up[3]);
        ck_assert_uint_eq(stats_of(one).refused_handshakes, 0);
    } else {
        RUN_UNTIL(raw_ended(&raw));
        ck_assert_int_eq(raw_frame(&raw).refusal.reason, answer_rows[_i].reason);
        ck_assert_int_eq(one->ups, 0);
        ck_assert_uint_eq(stats_of(one).refused_handshakes, 1);
        ck_assert(has_note(one, "node 3 at 127.0.0.1:"));
    }
    close(raw.fd);
    close(listener);
}
END_TEST

START_TEST(a_hello_that_is_not_answered_is_given_up)
{
    set_cluster(2);
    int listener = raw_listen(2, 8);
    struct host *one = start_host(1);
    struct raw raw = raw_accept(listener);

    RUN_UNTIL(raw_has(&raw, FRAME_HELLO_SIZE));
    put_forward(one, PEERS_HANDSHAKE_MS);
    RUN_UNTIL(raw_ended(&raw));
    ck_assert(has_note(one, "not answered our hello"));
    close(raw.fd);
    close(listener);
}
END_TEST

START_TEST(nodes_of_two_clusters_both_say_why_they_part)
{
    set_cluster(2);
    struct host *two = start_host(2);
    cluster.options.cluster = "staging";
    struct host *one = start_host(1);

    RUN_UNTIL(one->note_count > 0 && two->note_count > 0);
    ck_assert(has_note(one, "it belongs to cluster 'raftkv', this node to 'staging'"));
    ck_assert(has_note(two, "it belongs to cluster 'staging', this node to 'raftkv'"));
    for (int i = 0; i < 100; i++) { /* again and again for a while: noted once */
        put_forward(one, 50);
        turn_some(3);
    }
    ck_assert_uint_ge(stats_of(two).refused_handshakes, 5);
    ck_assert_int_eq(two->note_count, 1);
    ck_assert_int_eq(one->note_count, 1);
    put_forward(two, PEERS_NOTE_QUIET_MS_MIN);
    RUN_UNTIL(two->note_count == 2);
    ck_assert(has_note(two, "times before that were not noted"));
    ck_assert_int_eq(one->ups + two->ups, 0);
}
END_TEST

/* -- Two processes with one id ----------------------------------------------------------------- */

static void expect_rival_refused(struct host *two, uint64_t incarnation, uint64_t boot)
{
    struct raw rival = raw_dial(two);
    int downs = two->downs;

    raw_hello(&rival, 1, 2, good_hello(incarnation, boot));
    RUN_UNTIL(raw_ended(&rival));
    ck_assert_int_eq(raw_frame(&rival).refusal.reason, FRAME_RIVAL);
    ck_assert(has_note(two, "another process is alive as node 1"));
    ck_assert_int_eq(two->downs, downs);
    close(rival.fd);
}

static void expect_works(struct host *two, struct raw *raw)
{
    int messages = two->messages;
    raw_message(raw, &a_vote);
    RUN_UNTIL(two->messages == messages + 1);
}

START_TEST(other_data_with_a_live_id_is_refused_and_the_first_unaffected)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw first = raw_link(two, 100, 1);

    expect_works(two, &first);
    expect_rival_refused(two, 200, 2);
    expect_works(two, &first);
    ck_assert_int_eq(two->ups, 1);

    /* When the first has not been heard of for long, it may be dead: the newcomer is let in. */
    put_forward(two, PEERS_RIVAL_HEARTBEATS * HEARTBEAT_MS);
    struct raw second = raw_link(two, 200, 2);
    ck_assert_int_eq(two->downs, 1);
    ck_assert(strstr(two->why_down, "replaced") != NULL);
    RUN_UNTIL(raw_ended(&first));
    expect_works(two, &second);
    close(first.fd);
    close(second.fd);
}
END_TEST

START_TEST(the_same_data_replaces_its_old_connection)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw old = raw_link(two, 100, 1);
    struct raw again = raw_link(two, 100, 1); /* the same process: its connection broke */

    RUN_UNTIL(raw_ended(&old));
    ck_assert_int_eq(two->downs, 1);
    ck_assert_uint_eq(stats_of(two).up, 1);
    expect_works(two, &again);
    close(old.fd);
    old = again;
    again = raw_link(two, 100, 1); /* and once more */
    RUN_UNTIL(raw_ended(&old));
    struct raw restarted = raw_link(two, 100, 2); /* a new process */
    RUN_UNTIL(raw_ended(&again));
    expect_works(two, &restarted);
    ck_assert_int_eq(two->ups, 4);
    ck_assert_int_eq(two->downs, 3);
    close(old.fd);
    close(again.fd);
    close(restarted.fd);
}
END_TEST

START_TEST(two_processes_on_copies_of_the_data_do_not_replace_each_other_for_ever)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw first = raw_link(two, 100, 1);
    struct raw copy = raw_link(two, 100, 2);

    expect_rival_refused(two, 100, 1); /* back after it was replaced: both are alive */
    expect_works(two, &copy);
    close(copy.fd);
    RUN_UNTIL(!two->is_up[1]);
    close(first.fd);
    first = raw_link(two, 100, 1); /* the copy has gone */
    struct raw again = raw_link(two, 100, 1);
    expect_works(two, &again);
    close(first.fd);
    close(again.fd);
}
END_TEST

/* -- Bad frames on a link that is up ----------------------------------------------------------- */

enum sin {
    FLIPPED_BYTE,
    UNKNOWN_TYPE,
    GIANT_LENGTH,
    TEXT,
    SECOND_HELLO,
    OTHERS_NAME,
    OTHERS_MESSAGE,
    REFUSAL,
    ENTRY_TO_COME,
    SIN_COUNT
};

static const struct {
    const char *why;
    uint64_t bad_frames;
} sin_rows[SIN_COUNT] = {
    [FLIPPED_BYTE] = { "checksum does not match", 1 },
    [UNKNOWN_TYPE] = { "type is unknown", 1 },
    [GIANT_LENGTH] = { "size is beyond", 1 },
    [TEXT] = { "does not begin like a frame", 1 },
    [SECOND_HELLO] = { "at the wrong time", 1 },
    [OTHERS_NAME] = { "in another node's name", 1 },
    [OTHERS_MESSAGE] = { "in another node's name", 1 },
    [REFUSAL] = { "it refuses this node: it belongs to cluster 'other'", 0 },
    [ENTRY_TO_COME] = { "entry of a format unknown", 1 },
};

static size_t make_sin(enum sin sin, uint8_t *bytes)
{
    struct raft_message message = a_vote;
    struct frame_hello hello = good_hello(1, 1);
    struct frame_refusal refusal = { .reason = FRAME_WRONG_CLUSTER, .cluster = "other" };
    struct entry entry = { .kind = ENTRY_NOOP, .term = 7, .index = 1, .size = ENTRY_HEADER_SIZE };
    size_t size;

    if (sin == TEXT)
        return (size_t)sprintf((char *)bytes, "GET / HTTP/1.1\r\n\r\n");
    if (sin == SECOND_HELLO)
        return frame_encode_hello(bytes, 1, 2, &hello);
    if (sin == REFUSAL)
        return frame_encode_refusal(bytes, 1, 2, &refusal);
    if (sin == ENTRY_TO_COME) {
        message = (struct raft_message){ .type = RAFT_APPEND, .from = 1, .to = 2, .term = 7 };
        message.append.entry_count = 1;
        message.append.entry_terms[0] = 7;
        size = frame_encode_message(bytes, &message, &entry);
        entry_seal(bytes + size, 0, &entry);
        store_u16(bytes + size + 8, ENTRY_VERSION + 1);
        store_u32(bytes + size, crc32c(0, bytes + size + 4, ENTRY_HEADER_SIZE - 4));
        return size + ENTRY_HEADER_SIZE;
    }
    if (sin == OTHERS_NAME)
        message.from = 3;
    if (sin == OTHERS_MESSAGE)
        message.to = 3;
    size = frame_encode_message(bytes, &message, NULL);
    if (sin == FLIPPED_BYTE)
        bytes[40] ^= 1;
    if (sin == UNKNOWN_TYPE)
        store_u16(bytes + 14, 99);
    if (sin == UNKNOWN_TYPE)
        store_u32(bytes + 4, crc32c(0, bytes + 8, size - 8));
    if (sin == GIANT_LENGTH)
        store_u32(bytes + 8, 0x7fffffff);
    return size;
}

START_TEST(a_bad_frame_costs_the_link_and_is_not_delivered)
{
    set_cluster(3);
    struct host *two = start_host(2);
    struct raw raw = raw_link(two, 1, 1);
    uint8_t bytes[1024];

    expect_works(two, &raw);
    raw_say(&raw, bytes, make_sin((enum sin)_i, bytes));
    RUN_UNTIL(two->downs == 1);
    raw.size = 0;
    RUN_UNTIL(raw_ended(&raw));
    ck_assert_int_eq(two->messages, 1);
    ck_assert_uint_eq(stats_of(two).bad_frames, sin_rows[_i].bad_frames);
    ck_assert_msg(strstr(two->why_down, sin_rows[_i].why) != NULL, "%s", two->why_down);
    ck_assert_msg(has_note(two, sin_rows[_i].why), "%s", two->notes[0]);
    ck_assert(has_note(two, "node 1 at 127.0.0.1:"));
    close(raw.fd);
    raw = raw_link(two, 1, 1); /* and it may come back */
    expect_works(two, &raw);
    close(raw.fd);
}
END_TEST

START_TEST(a_message_that_the_node_refuses_costs_the_link)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_link(two, 1, 1);

    two->takes_messages = false;
    raw_message(&raw, &a_vote);
    raw_message(&raw, &a_vote);
    RUN_UNTIL(two->downs == 1);
    ck_assert_int_eq(two->messages, 1);
    ck_assert_uint_eq(stats_of(two).bad_frames, 1);
    ck_assert(has_note(two, "breaks a promise"));
    close(raw.fd);
}
END_TEST

START_TEST(a_frame_may_come_in_any_pieces)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);
    uint8_t bytes[FRAME_HELLO_SIZE + 3 * FRAME_SIZE_MAX];
    struct frame_hello hello = good_hello(1, 1);
    size_t size = frame_encode_hello(bytes, 1, 2, &hello);

    for (int i = 0; i < 3; i++)
        size += frame_encode_message(bytes + size, &a_vote, NULL);
    size_t piece = (size_t)_i + 1;
    for (size_t at = 0; at < size; at += piece) {
        raw_say(&raw, bytes + at, piece < size - at ? piece : size - at);
        uint64_t received = stats_of(two).received_bytes;
        RUN_UNTIL(stats_of(two).received_bytes > received);
    }
    RUN_UNTIL(two->messages == 3);
    close(raw.fd);
}
END_TEST

START_TEST(a_connection_that_ends_inside_a_frame_delivers_nothing)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_link(two, 1, 1);
    uint8_t bytes[FRAME_SIZE_MAX];
    size_t size = frame_encode_message(bytes, &a_vote, NULL);

    raw_say(&raw, bytes, size);
    raw_say(&raw, bytes, size - 1);
    close(raw.fd);
    RUN_UNTIL(two->downs == 1);
    ck_assert_msg(strstr(two->why_down, "closed") != NULL, "%s", two->why_down);
    ck_assert_msg(stats_of(two).sent_bytes == FRAME_HELLO_SIZE, "it took an alive to find out");
    ck_assert_int_eq(two->messages, 1);
    ck_assert_uint_eq(stats_of(two).bad_frames, 0);
}
END_TEST

/* -- Strangers --------------------------------------------------------------------------------- */

START_TEST(who_is_no_node_is_sent_off_at_once_and_noted_once)
{
    set_cluster(2);
    struct host *two = start_host(2);

    for (int i = 0; i < 100; i++) {
        struct raw raw = raw_dial(two);
        const char *text = i % 2 == 0 ? "GET / HTTP/1.1\r\n" : "\x03";
        raw_say(&raw, text, strlen(text));
        RUN_UNTIL(raw_ended(&raw));
        ck_assert_uint_eq(raw.size, 0);
        close(raw.fd);
    }
    ck_assert_uint_eq(stats_of(two).refused_handshakes, 100);
    ck_assert_int_eq(two->note_count, 1);
    ck_assert(has_note(two, "does not begin like a frame"));
    ck_assert_uint_eq(stats_of(two).bad_frames, 0);
}
END_TEST

START_TEST(a_stranger_must_say_hello_first)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);
    uint8_t bytes[FRAME_SIZE_MAX] = { 0 };

    raw_message(&raw, &a_vote);
    RUN_UNTIL(raw_ended(&raw));
    ck_assert(has_note(two, "it must say hello first"));
    ck_assert_int_eq(two->messages, 0);
    close(raw.fd);

    /* A frame larger than a hello is not waited for. */
    raw = raw_dial(two);
    frame_encode_message(bytes, &(struct raft_message){ .type = RAFT_APPEND, .from = 1, .to = 2 },
                         NULL);
    store_u32(bytes + 8, FRAME_SIZE_MAX);
    raw_say(&raw, bytes, FRAME_HEADER_SIZE);
    RUN_UNTIL(raw_ended(&raw));
    ck_assert_uint_eq(stats_of(two).refused_handshakes, 2);
    ck_assert_uint_eq(stats_of(two).bad_frames, 2);
    close(raw.fd);
}
END_TEST

START_TEST(nothing_is_read_of_a_stranger_but_a_hello)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);
    uint8_t bytes[16384] = { 0 };
    struct frame_hello hello = good_hello(1, 1);

    frame_encode_hello(bytes, 9, 2, &hello);
    raw_say(&raw, bytes, sizeof bytes);
    RUN_UNTIL(raw_ended(&raw));
    ck_assert_uint_eq(stats_of(two).received_bytes, FRAME_HELLO_SIZE);
    close(raw.fd);
}
END_TEST

START_TEST(who_knocks_and_goes_is_no_event)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);

    RUN_UNTIL(stranger_count(two) == 1);
    close(raw.fd);
    RUN_UNTIL(stranger_count(two) == 0);
    ck_assert_int_eq(two->note_count, 0);
    ck_assert_uint_eq(stats_of(two).refused_handshakes, 0);
}
END_TEST

START_TEST(half_a_handshake_times_out)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw silent = raw_dial(two), slow = raw_dial(two);
    uint8_t bytes[FRAME_HELLO_SIZE];
    struct frame_hello hello = good_hello(1, 1);

    frame_encode_hello(bytes, 1, 2, &hello);
    raw_say(&slow, bytes, FRAME_HELLO_SIZE - 1);
    RUN_UNTIL(stranger_count(two) == 2);
    turn_some(5);
    ck_assert_uint_ne(peers_deadline_ns(two->peers), 0);
    put_forward(two, PEERS_HANDSHAKE_MS - 500);
    turn_some(5);
    ck_assert_int_eq(stranger_count(two), 2);
    put_forward(two, 501);
    RUN_UNTIL(raw_ended(&silent) && raw_ended(&slow));
    ck_assert_uint_eq(stats_of(two).refused_handshakes, 2);
    ck_assert(has_note(two, "has not said hello in time"));
    ck_assert_int_eq(two->ups, 0);
    close(silent.fd);
    close(slow.fd);
}
END_TEST

START_TEST(a_flood_of_the_silent_is_bounded_and_does_not_keep_a_node_out)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raws[100];

    for (int i = 0; i < COUNT(raws); i++)
        raws[i] = raw_dial(two);
    int accepted = 0;
    for (int i = 0; i < 3; i++) {
        turn_all();
        accepted += PEERS_ACCEPTS_MAX;
        ck_assert_int_le(stranger_count(two), accepted);
        ck_assert(peers_busy(two->peers));
    }
    turn_some(20);
    ck_assert_int_eq(stranger_count(two), PEERS_STRANGERS_MAX);
    ck_assert_uint_eq(stats_of(two).refused_handshakes, 100 - PEERS_STRANGERS_MAX);
    ck_assert(!peers_busy(two->peers));

    struct host *one = start_host(1);
    RUN_UNTIL(one->is_up[2] && two->is_up[1]);
    int ended = 0;
    for (int i = 0; i < COUNT(raws); i++)
        ended += raw_ended(&raws[i]);
    ck_assert_int_eq(ended, 100 - PEERS_STRANGERS_MAX + 1);
    ck_assert_msg(raws[0].ended && !raws[99].ended, "the oldest go first");
    for (int i = 0; i < COUNT(raws); i++)
        close(raws[i].fd);
}
END_TEST

START_TEST(a_lack_of_descriptors_neither_spins_nor_lasts)
{
    struct descriptors descriptors;
    descriptors_init(&descriptors);
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_dial(two);

    descriptors_leave(&descriptors, 0);
    RUN_UNTIL(has_note(two, "peer port"));
    ck_assert_msg(has_note(two, "Too many open files"), "%s", two->notes[0]);
    ck_assert_int_eq(stranger_count(two), 0);
    ck_assert_msg(!peers_busy(two->peers), "it would spin");
    uint64_t deadline_ns = peers_deadline_ns(two->peers);
    ck_assert_uint_gt(deadline_ns, host_now_ns(two));
    turn_all();
    bool was_early = host_now_ns(two) < deadline_ns;
    ck_assert_msg(!was_early || peers_deadline_ns(two->peers) == deadline_ns, "tried too early");
    put_forward(two, PEERS_ACCEPT_PAUSE_MS);
    turn_all();
    ck_assert_uint_gt(peers_deadline_ns(two->peers), deadline_ns);

    descriptors_leave(&descriptors, 10);
    put_forward(two, PEERS_ACCEPT_PAUSE_MS);
    RUN_UNTIL(stranger_count(two) == 1);
    raw_hello(&raw, 1, 2, good_hello(1, 1));
    RUN_UNTIL(two->is_up[1]);
    close(raw.fd);
    descriptors_release(&descriptors);
}
END_TEST

/* Random bytes, and good conversations of which one byte is wrong. */
static void raw_garbage(struct raw *raw, unsigned *seed)
{
    uint8_t bytes[1024];
    struct frame_hello hello = good_hello(1, 1);
    size_t size = frame_encode_hello(bytes, 3, 2, &hello);

    for (size_t i = size; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(rand_r(seed) >> 8);
    size_t start = rand_r(seed) % 2 == 0 ? size : 0;
    bytes[start + (size_t)rand_r(seed) % FRAME_HELLO_SIZE] ^= (uint8_t)(1 + rand_r(seed) % 255);
    (void)send(raw->fd, bytes + start, 1 + (size_t)rand_r(seed) % (sizeof bytes - size),
               MSG_NOSIGNAL | MSG_DONTWAIT);
}

START_TEST(garbage_does_not_harm_the_nodes_that_talk)
{
    set_cluster(3);
    struct host *two = start_host(2), *one = start_host(1);
    struct raw raws[20];
    unsigned seed = 12345;
    struct stream stream = { 0 };
    RUN_UNTIL(one->is_up[2] && two->is_up[1]);

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < COUNT(raws); i++) {
            raws[i] = raw_dial(two);
            raw_garbage(&raws[i], &seed);
        }
        RUN_UNTIL(send_append(one, 2, &stream, 5, 1000));
        turn_some(3);
        for (int i = 0; i < COUNT(raws); i++)
            close(raws[i].fd);
    }
    RUN_UNTIL(two->entry_count == stream.count);
    ck_assert_uint_eq(two->entry_sum, stream.sum);
    ck_assert_int_eq(two->ups, 1);
    ck_assert_int_eq(one->downs + two->downs, 0);
    RUN_UNTIL(stranger_count(two) == 0);
    ck_assert_uint_ge(stats_of(two).refused_handshakes, 400);
    ck_assert_int_le(two->note_count, 5);
}
END_TEST

/* -- Silence ----------------------------------------------------------------------------------- */

START_TEST(a_silent_peer_is_dropped)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_link(two, 1, 1);

    put_forward(two, PEERS_SILENT_HEARTBEATS * HEARTBEAT_MS - 500);
    turn_some(5);
    ck_assert(two->is_up[1]);
    expect_works(two, &raw); /* and that starts the clock anew */
    put_forward(two, PEERS_SILENT_HEARTBEATS * HEARTBEAT_MS - 500);
    turn_some(5);
    ck_assert(two->is_up[1]);
    put_forward(two, 501);
    RUN_UNTIL(!two->is_up[1]);
    ck_assert_msg(strstr(two->why_down, "nothing was heard of it for 4000 ms") != NULL, "%s",
                  two->why_down);
    RUN_UNTIL(raw_ended(&raw));
    close(raw.fd);
}
END_TEST

START_TEST(nodes_with_nothing_to_say_stay_up)
{
    start_pair();
    struct host *one = &cluster.hosts[0], *two = &cluster.hosts[1];
    uint64_t sent = stats_of(one).sent_bytes;

    for (int i = 0; i < 500; i++) { /* 250 s */
        put_forward(one, 500);
        put_forward(two, 500);
        turn_some(2);
    }
    ck_assert_int_eq(one->downs + two->downs, 0);
    sent = stats_of(one).sent_bytes - sent;
    ck_assert_uint_ge(sent, 200 * FRAME_HEADER_SIZE);
    ck_assert_uint_le(sent, 260 * FRAME_HEADER_SIZE);
    ck_assert_int_eq(one->messages + two->messages, 0);
}
END_TEST

START_TEST(a_node_that_was_stopped_does_not_blame_its_peers)
{
    set_cluster(2);
    struct host *two = start_host(2);
    struct raw raw = raw_link(two, 1, 1);
    uint8_t bytes[FRAME_HEADER_SIZE];

    raw_say(&raw, bytes, frame_encode_alive(bytes, 1, 2)); /* came while it was stopped */
    put_forward(two, 100 * PEERS_SILENT_HEARTBEATS * HEARTBEAT_MS);
    turn_some(5);
    ck_assert(two->is_up[1]);
    ck_assert_int_eq(two->downs, 0);
    close(raw.fd);
}
END_TEST

/* -- Cost -------------------------------------------------------------------------------------- */

/* A process of its own that waits as a node does: no turn without a reason. Its exit code tells. */
static pid_t fork_idle_host(uint32_t id, uint64_t span_ms)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;

    struct host *host = start_host(id);
    uint64_t end_ns = os_now_ns(host->os) + DEADLINE_MS * NS_PER_MS;
    while (stats_of(host).up < 2 && os_now_ns(host->os) < end_ns)
        turn_host(host, true, end_ns);
    if (stats_of(host).up < 2)
        _exit(2);

    int turns = 0;
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    end_ns = os_now_ns(host->os) + span_ms * NS_PER_MS;
    while (os_now_ns(host->os) < end_ns) {
        turn_host(host, true, end_ns);
        turns++;
    }
    getrusage(RUSAGE_SELF, &after);
    uint64_t used_us = (uint64_t)(after.ru_utime.tv_sec - before.ru_utime.tv_sec +
                                  after.ru_stime.tv_sec - before.ru_stime.tv_sec) *
                           1000000u +
                       (uint64_t)(after.ru_utime.tv_usec - before.ru_utime.tv_usec +
                                  after.ru_stime.tv_usec - before.ru_stime.tv_usec);
    /* Two links, an alive frame a second each way, some wake-ups for nothing. */
    if (host->downs > 0)
        _exit(3);
    if (turns > 30)
        _exit(4);
    if (used_us * 1000 > span_ms * 1000 * 10) /* 1 % of a core; the aim is 1 % for all three */
        _exit(5);
    uint64_t wait_ns = os_now_ns(host->os) + 500 * NS_PER_MS; /* the others finish first */
    while (os_now_ns(host->os) < wait_ns)
        turn_host(host, true, wait_ns);
    _exit(0);
}

START_TEST(an_idle_cluster_costs_next_to_nothing)
{
    pid_t pids[3];
    set_cluster(3);

    for (uint32_t id = 1; id <= 3; id++)
        pids[id - 1] = fork_idle_host(id, 3000);
    for (int i = 0; i < 3; i++) {
        int status = -1;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "node %d: status %x", i + 1,
                      (unsigned)status);
    }
}
END_TEST

static int descriptor_count(void)
{
    int count = 0;
    for (int fd = 0; fd < 1000; fd++) {
        int copy = dup(fd);
        if (copy >= 0)
            close(copy);
        count += copy >= 0;
    }
    return count;
}

START_TEST(descriptors_do_not_leak)
{
    int before = descriptor_count();
    start_pair();
    int between = descriptor_count();
    struct host *two = &cluster.hosts[1];

    for (int i = 0; i < 50; i++) {
        struct raw raw = raw_dial(two);
        raw_hello_row(&raw, 2 + i % (COUNT(hello_rows) - 2));
        RUN_UNTIL(raw_ended(&raw));
        close(raw.fd);
    }
    ck_assert_int_eq(descriptor_count(), between);
    struct raw raw = raw_dial(two);
    RUN_UNTIL(stranger_count(two) == 1);
    stop_host(&cluster.hosts[0]); /* with a link, with a stranger */
    stop_host(two);
    close(raw.fd);
    ck_assert_int_eq(descriptor_count(), before);
}
END_TEST

/* -- The parts --------------------------------------------------------------------------------- */

START_TEST(a_back_off_doubles_up_to_its_cap_and_starts_over)
{
    struct os *os = os_linux_new();
    struct dial dial;
    dial_init(&dial, 1000);
    ck_assert_uint_eq(dial.at_ns, 1000);

    uint32_t wait_ms = DIAL_BACKOFF_MS_MIN;
    for (int i = 0; i < 20; i++) {
        dial_later(&dial, os, 0, 0);
        ck_assert_uint_ge(dial.at_ns, wait_ms * NS_PER_MS / 2);
        ck_assert_uint_le(dial.at_ns, wait_ms * NS_PER_MS);
        wait_ms = 2 * wait_ms < DIAL_BACKOFF_MS_MAX ? 2 * wait_ms : DIAL_BACKOFF_MS_MAX;
    }
    dial_later(&dial, os, 0, 300 * NS_PER_MS); /* a slow resolver is asked rarely */
    ck_assert_uint_eq(dial.at_ns, 300 * DIAL_RESOLVE_SHARE * NS_PER_MS);
    dial_reset(&dial);
    dial_later(&dial, os, 0, 0);
    ck_assert_uint_le(dial.at_ns, DIAL_BACKOFF_MS_MIN * NS_PER_MS);
    os_linux_free(os);
}
END_TEST

START_TEST(a_buffer_is_a_queue)
{
    struct buffer buffer = { 0 };
    unsigned seed = 7;
    uint64_t in = 0, out = 0; /* byte number n has the value n */
    size_t peak = 0;

    for (int i = 0; i < 20000; i++) {
        size_t count = (size_t)rand_r(&seed) % (i % 2000 < 1000 ? 3000 : 100);
        ck_assert(buffer_reserve(&buffer, count));
        ck_assert_uint_ge(buffer_room(&buffer), count);
        for (size_t j = 0; j < count; j++)
            buffer_end(&buffer)[j] = (uint8_t)(in + j);
        buffer_added(&buffer, count);
        in += count;
        peak = buffer.size > peak ? buffer.size : peak;

        count = (size_t)rand_r(&seed) % 2500;
        count = count < buffer.size ? count : buffer.size;
        for (size_t j = 0; j < count; j++) {
            if (buffer_front(&buffer)[j] != (uint8_t)(out + j))
                ck_abort_msg("byte %" PRIu64 " is another", out + j);
        }
        buffer_take(&buffer, count);
        out += count;
        ck_assert_uint_eq(buffer.size, in - out);
        ck_assert_uint_le(buffer.capacity, 4 * (peak + 3000) + BUFFER_BYTES_MIN);
        if (i % 500 == 0)
            buffer_tidy(&buffer);
    }
    buffer_release(&buffer);
    ck_assert_uint_eq(buffer.capacity, 0);
}
END_TEST

START_TEST(a_buffer_keeps_what_it_has_lately_needed)
{
    struct buffer buffer = { 0 };
    static uint8_t bytes[100000];

    ck_assert(buffer_reserve(&buffer, sizeof bytes));
    for (int i = 0; i < 3; i++) {
        buffer_add(&buffer, bytes, sizeof bytes);
        buffer_take(&buffer, sizeof bytes);
        buffer_tidy(&buffer); /* at the end of its period, the peak is over */
        ck_assert_uint_ge(buffer.capacity, sizeof bytes);
    }
    buffer_tidy(&buffer);
    ck_assert_uint_eq(buffer.capacity, 0);
}
END_TEST

START_TEST(a_queue_taken_in_small_bites_is_not_moved_for_each_of_them)
{
    struct buffer buffer = { 0 };
    static uint8_t bytes[1 << 20];
    ck_assert(buffer_reserve(&buffer, sizeof bytes));
    buffer_add(&buffer, bytes, sizeof bytes);

    int moves = 0;
    for (int i = 0; i < 100000; i++) {
        size_t start = buffer.start + 10;
        const uint8_t *memory = buffer.memory;
        buffer_take(&buffer, 10);
        ck_assert(buffer_reserve(&buffer, 10));
        buffer_add(&buffer, bytes, 10);
        moves += buffer.start != start || buffer.memory != memory;
    }
    ck_assert_int_le(moves, 4);
    ck_assert_uint_le(buffer.capacity, 4u << 20);
    buffer_release(&buffer);
}
END_TEST

START_TEST(what_goes_on_is_noted_less_and_less_often)
{
    set_cluster(1);
    struct host *host = start_host(1);
    struct note note = { 0 };

    for (uint64_t second = 0; second < 3600; second++) {
        host->peers->now_ns = 1 + second * 1000 * NS_PER_MS;
        peers_note(host->peers, &note, "somebody", "again");
    }
    /* 0, 10, 30, 70, 150, 310, 630, 1270, 1910, 2550, 3190 s */
    ck_assert_int_eq(host->note_count, 11);
    host->peers->now_ns += 3600 * 1000 * NS_PER_MS;
    peers_note(host->peers, &note, "somebody", "again");
    host->peers->now_ns += PEERS_NOTE_QUIET_MS_MAX * NS_PER_MS;
    peers_note(host->peers, &note, "somebody", "again"); /* a story of its own by now */
    host->peers->now_ns += PEERS_NOTE_QUIET_MS_MIN * NS_PER_MS;
    peers_note(host->peers, &note, "somebody", "again");
    ck_assert_int_eq(host->note_count, 14);
}
END_TEST

/* -- All of it --------------------------------------------------------------------------------- */

static void stop_all(void)
{
    for (int i = 0; i < HOSTS_MAX; i++) {
        struct host *host = &cluster.hosts[i];
        int up = 0;
        for (int id = 1; id <= HOSTS_MAX; id++)
            up += host->is_up[id];
        ck_assert_int_eq(host->ups - host->downs, up);
        if (host->peers != NULL)
            ck_assert_uint_eq(stats_of(host).up, (uint64_t)up);
        stop_host(host);
    }
}

int main(void)
{
    Suite *suite = suite_create("peer");
    TCase *tcase = tcase_create("peer");
    suite_add_tcase(suite, tcase);
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, NULL, stop_all);

    tcase_add_test(tcase, two_nodes_shake_hands);
    tcase_add_loop_test(tcase, three_nodes_are_up_whatever_the_order_of_their_start, 0, 3);
    tcase_add_test(tcase, a_node_alone_has_nothing_to_do);
    tcase_add_test(tcase, a_port_in_use_is_an_error);
    tcase_add_loop_test(tcase, a_link_is_dialled_anew_after_either_side_has_gone, 0, 2);
    tcase_add_test(tcase, a_node_that_is_not_there_is_dialled_less_and_less_often);
    tcase_add_loop_test(tcase, a_link_that_stayed_up_has_earned_a_quick_redial, 0, 2);
    tcase_add_test(tcase, a_name_that_is_unknown_is_tried_again);
    tcase_add_test(tcase, a_connection_that_is_not_answered_is_given_up);

    tcase_add_test(tcase, all_messages_arrive_in_order_both_ways);
    tcase_add_loop_test(tcase, appends_arrive_byte_for_byte_through_a_narrow_pipe, 0,
                        COUNT(append_rows));
    tcase_add_test(tcase, an_entry_of_the_largest_size_goes_when_the_queue_is_empty);
    tcase_add_test(tcase, a_turn_reads_no_more_than_its_budget);
    tcase_add_test(tcase, memory_of_a_peak_is_given_back);
    tcase_add_test(tcase, a_peer_that_does_not_read_fills_its_queue_and_no_more);
    tcase_add_test(tcase, what_is_sent_to_nobody_is_dropped);

    tcase_add_loop_test(tcase, who_may_not_be_linked_with_is_refused_by_name, 0, COUNT(hello_rows));
    tcase_add_test(tcase, another_list_of_servers_is_refused);
    tcase_add_test(tcase, lists_of_servers_agree_in_any_order);
    tcase_add_test(tcase, a_hello_of_an_unknown_format_is_refused_as_a_protocol);
    tcase_add_loop_test(tcase, a_refusal_is_noted_by_name_where_it_is_heard, FRAME_WRONG_CLUSTER,
                        FRAME_REASON_END + 1);
    tcase_add_loop_test(tcase, the_answer_is_judged_like_the_hello, 0, COUNT(answer_rows));
    tcase_add_test(tcase, a_hello_that_is_not_answered_is_given_up);
    tcase_add_test(tcase, nodes_of_two_clusters_both_say_why_they_part);

    tcase_add_test(tcase, other_data_with_a_live_id_is_refused_and_the_first_unaffected);
    tcase_add_test(tcase, the_same_data_replaces_its_old_connection);
    tcase_add_test(tcase, two_processes_on_copies_of_the_data_do_not_replace_each_other_for_ever);

    tcase_add_loop_test(tcase, a_bad_frame_costs_the_link_and_is_not_delivered, 0, SIN_COUNT);
    tcase_add_test(tcase, a_message_that_the_node_refuses_costs_the_link);
    tcase_add_loop_test(tcase, a_frame_may_come_in_any_pieces, 0, 3);
    tcase_add_test(tcase, a_connection_that_ends_inside_a_frame_delivers_nothing);

    tcase_add_test(tcase, who_is_no_node_is_sent_off_at_once_and_noted_once);
    tcase_add_test(tcase, a_stranger_must_say_hello_first);
    tcase_add_test(tcase, nothing_is_read_of_a_stranger_but_a_hello);
    tcase_add_test(tcase, who_knocks_and_goes_is_no_event);
    tcase_add_test(tcase, half_a_handshake_times_out);
    tcase_add_test(tcase, a_flood_of_the_silent_is_bounded_and_does_not_keep_a_node_out);
    tcase_add_test(tcase, a_lack_of_descriptors_neither_spins_nor_lasts);
    tcase_add_test(tcase, garbage_does_not_harm_the_nodes_that_talk);

    tcase_add_test(tcase, a_silent_peer_is_dropped);
    tcase_add_test(tcase, nodes_with_nothing_to_say_stay_up);
    tcase_add_test(tcase, a_node_that_was_stopped_does_not_blame_its_peers);

    tcase_add_test(tcase, an_idle_cluster_costs_next_to_nothing);
    tcase_add_test(tcase, descriptors_do_not_leak);

    tcase_add_test(tcase, a_back_off_doubles_up_to_its_cap_and_starts_over);
    tcase_add_test(tcase, a_buffer_is_a_queue);
    tcase_add_test(tcase, a_buffer_keeps_what_it_has_lately_needed);
    tcase_add_test(tcase, a_queue_taken_in_small_bites_is_not_moved_for_each_of_them);
    tcase_add_test(tcase, what_goes_on_is_noted_less_and_less_often);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
