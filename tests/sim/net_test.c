/* Simulated TCP against what a real one does: order, room, ends and the ways to lose them. */
#include "tests/sim/net.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENT LINKS_CLIENTS
#define PORT 9000
#define SECOND UINT64_C(1000000000)

struct world {
    struct timeline *timeline;
    struct links links;
    struct trace *trace;
    struct net *net;
    struct net_end *listener, *dialler, *accepted;
    int heard_dialler, heard_accepted, heard_listener;
    uint64_t seen;
};

static struct world world;

static void heard(void *owner, struct net_end *end)
{
    (void)end;
    if (owner != NULL)
        ++*(int *)owner;
}

static void begin_with(uint64_t seed)
{
    memset(&world, 0, sizeof world);
    world.timeline = timeline_new(seed);
    links_init(&world.links);
    world.trace = trace_new(world.timeline, false);
    world.net = net_new(world.timeline, &world.links, world.trace, seed);
}

static void begin(void)
{
    begin_with(7);
}

static void end(void)
{
    net_free(world.net);
    trace_free(world.trace);
    timeline_free(world.timeline);
}

static void pass_ns(uint64_t ns)
{
    uint64_t until = timeline_now_ns(world.timeline) + ns;
    while (timeline_step(world.timeline, until)) {
    }
}

static void listen_on(int machine)
{
    int code;
    world.listener = net_listen(world.net, machine, PORT, 4, heard, &world.heard_listener, &code);
    ck_assert_ptr_nonnull(world.listener);
}

static void dial(void)
{
    world.dialler = net_connect(world.net, CLIENT, 0, PORT, heard, &world.heard_dialler);
}

static void open_connection(void)
{
    listen_on(0);
    dial();
    pass_ns(SECOND);
    ck_assert_int_eq(net_state(world.dialler), NET_OPEN);
    ck_assert_int_eq(net_pending(world.listener), 1);
    world.accepted = net_accept(world.listener, heard, &world.heard_accepted);
    ck_assert_ptr_nonnull(world.accepted);
}

static ptrdiff_t put(struct net_end *end, const char *bytes, size_t size)
{
    struct iovec part = { (void *)(uintptr_t)bytes, size };
    return net_sendv(end, &part, 1);
}

static ptrdiff_t say(struct net_end *end, const char *words)
{
    return put(end, words, strlen(words));
}

static void expect(struct net_end *end, const char *words)
{
    char bytes[256];
    ptrdiff_t count = net_recv(end, bytes, sizeof bytes);
    ck_assert_int_eq(count, (ptrdiff_t)strlen(words));
    ck_assert_mem_eq(bytes, words, strlen(words));
}

static ptrdiff_t take(struct net_end *end)
{
    char byte;
    return net_recv(end, &byte, 1);
}

/* -- Connecting ---------------------------------------------------------------------------------- */

START_TEST(connects_after_a_round_trip)
{
    listen_on(0);
    dial();
    ck_assert_int_eq(net_state(world.dialler), NET_CONNECTING);
    ck_assert_int_eq(say(world.dialler, "x"), -EAGAIN);
    ck_assert_int_eq(take(world.dialler), -EAGAIN);
    pass_ns(90000); /* less than two delays */
    ck_assert_int_eq(net_state(world.dialler), NET_CONNECTING);
    pass_ns(SECOND);
    ck_assert_int_eq(net_state(world.dialler), NET_OPEN);
    ck_assert_int_eq(world.heard_dialler, 1);
    ck_assert_int_eq(world.heard_listener, 1);
    ck_assert_int_eq(net_machine_of_peer(world.dialler), 0);
}
END_TEST

START_TEST(refused_where_nobody_listens)
{
    dial();
    pass_ns(SECOND);
    ck_assert_int_eq(net_state(world.dialler), NET_FAILED);
    ck_assert_int_eq(net_error(world.dialler), -ECONNREFUSED);
    ck_assert_int_eq(take(world.dialler), -ECONNREFUSED);
    ck_assert_int_eq(take(world.dialler), 0);
    ck_assert_int_eq(world.heard_dialler, 1);
    net_close(world.dialler);
    ck_assert_int_eq(net_ends(world.net, CLIENT), 0);
}
END_TEST

START_TEST(two_listeners_on_a_port)
{
    int code = 0;
    listen_on(0);
    ck_assert_ptr_null(net_listen(world.net, 0, PORT, 4, heard, NULL, &code));
    ck_assert_int_eq(code, -EADDRINUSE);
    listen_on(1);
    net_close(world.listener);
    listen_on(1);
}
END_TEST

/* A cut in either direction, for good and for a while. */
START_TEST(cut_while_connecting)
{
    bool is_way_there = _i % 2 == 0, heals = _i / 2 == 0;
    struct link *link = is_way_there ? &world.links.of[CLIENT][0] : &world.links.of[0][CLIENT];
    listen_on(0);
    link->cut = true;
    dial();
    pass_ns(20 * SECOND);
    ck_assert_int_eq(net_state(world.dialler), NET_CONNECTING);
    link->cut = !heals;
    net_links_changed(world.net);
    pass_ns(41 * SECOND);
    ck_assert_int_eq(net_state(world.dialler), heals ? NET_OPEN : NET_FAILED);
    ck_assert_int_eq(net_error(world.dialler), heals ? 0 : -ETIMEDOUT);
    ck_assert_int_eq(net_pending(world.listener), heals);
    ck_assert_int_eq(world.heard_dialler, 1);
}
END_TEST

START_TEST(full_backlog_makes_wait)
{
    listen_on(0);
    struct net_end *diallers[5];
    for (int i = 0; i < 5; i++)
        diallers[i] = net_connect(world.net, CLIENT, 0, PORT, heard, &world.heard_dialler);
    pass_ns(SECOND / 2);
    dial();
    pass_ns(SECOND / 2);
    ck_assert_int_ge(net_pending(world.listener), 4);
    ck_assert_int_eq(net_state(world.dialler), NET_CONNECTING);
    while (net_accept(world.listener, heard, NULL) != NULL) {
    }
    pass_ns(10 * SECOND);
    ck_assert_int_eq(net_state(world.dialler), NET_OPEN);
    for (int i = 0; i < 5; i++)
        net_close(diallers[i]);
}
END_TEST

START_TEST(closed_while_connecting)
{
    listen_on(0);
    for (int i = 0; i < 40; i++) { /* at all moments of the handshake */
        dial();
        pass_ns((uint64_t)i * 50000);
        net_close(world.dialler);
        pass_ns(SECOND);
    }
    ck_assert_int_eq(net_ends(world.net, CLIENT), 0);
    for (struct net_end *left; (left = net_accept(world.listener, heard, NULL)) != NULL;) {
        ptrdiff_t count = take(left);
        ck_assert_msg(count == 0 || count == -ECONNRESET, "got %td", count);
        net_close(left);
    }
    ck_assert_int_eq(net_ends(world.net, 0), 0);
}
END_TEST

/* -- Bytes --------------------------------------------------------------------------------------- */

START_TEST(bytes_come_out_in_order)
{
    net_set_pieces(world.net, _i == 0 ? 0 : 7);
    world.links.of[CLIENT][0].lose = 100;
    net_set_window(world.net, 1000, 1000);
    open_connection();
    uint64_t written = 0, read = 0;
    struct random random = random_stream(1, 2);
    while (read < 200000) {
        uint8_t bytes[300];
        size_t size = (size_t)random_between(&random, 1, sizeof bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)((written + i) * 7 % 251);
        struct iovec parts[2] = { { bytes, size / 3 }, { bytes + size / 3, size - size / 3 } };
        ptrdiff_t sent = net_sendv(world.dialler, parts, 2);
        ck_assert(sent == -EAGAIN || sent > 0);
        written += sent > 0 ? (uint64_t)sent : 0;
        ck_assert_uint_le(written - read, 1000);
        pass_ns(random_below(&random, 2000000));
        ptrdiff_t count = net_recv(world.accepted, bytes, sizeof bytes);
        ck_assert(count == -EAGAIN || count > 0);
        for (ptrdiff_t i = 0; i < count; i++, read++)
            ck_assert_uint_eq(bytes[i], read * 7 % 251);
    }
    ck_assert_uint_ge(net_bytes(world.net), read);
}
END_TEST

START_TEST(pieces_arrive_one_by_one)
{
    net_set_pieces(world.net, 1);
    open_connection();
    say(world.dialler, "0123456789");
    int before = world.heard_accepted;
    pass_ns(SECOND);
    ck_assert_int_eq(world.heard_accepted - before, 10);
    expect(world.accepted, "0123456789");
}
END_TEST

START_TEST(a_short_write_hears_of_room)
{
    char bytes[256] = { 0 };
    net_set_window(world.net, 100, 100);
    open_connection();
    ck_assert_uint_eq(net_writable(world.dialler), 100);
    ck_assert_int_eq(put(world.dialler, bytes, 256), 100);
    ck_assert_int_eq(put(world.dialler, bytes, 1), -EAGAIN);
    pass_ns(SECOND);
    ck_assert_int_eq(put(world.dialler, bytes, 1), -EAGAIN); /* arrived, but not read */
    int before = world.heard_dialler;
    ck_assert_int_eq(net_recv(world.accepted, bytes, 30), 30);
    ck_assert_int_eq(world.heard_dialler, before); /* not from within */
    pass_ns(SECOND);
    ck_assert_int_eq(world.heard_dialler, before + 1);
    ck_assert_uint_eq(net_writable(world.dialler), 30);
    ck_assert_int_eq(put(world.dialler, bytes, 20), 20); /* not short: hears nothing */
    ck_assert_int_eq(net_recv(world.accepted, bytes, 70), 70);
    pass_ns(SECOND);
    ck_assert_int_eq(world.heard_dialler, before + 1);
}
END_TEST

START_TEST(no_room_behind_a_cut_way_back)
{
    char bytes[128] = { 0 };
    net_set_window(world.net, 100, 100);
    open_connection();
    world.links.of[0][CLIENT].cut = true;
    ck_assert_int_eq(put(world.dialler, bytes, 60), 60);
    pass_ns(SECOND);
    ck_assert_int_eq(net_recv(world.accepted, bytes, 128), 60);
    ck_assert_uint_eq(net_writable(world.dialler), 40);
    ck_assert_int_eq(put(world.dialler, bytes, 60), 40);
    pass_ns(SECOND);
    ck_assert_int_eq(net_recv(world.accepted, bytes, 128), 40);
    int before = world.heard_dialler;
    pass_ns(SECOND);
    ck_assert_int_eq(put(world.dialler, bytes, 60), -EAGAIN);
    world.links.of[0][CLIENT].cut = false;
    net_links_changed(world.net);
    pass_ns(SECOND);
    ck_assert_int_eq(world.heard_dialler, before + 1);
    ck_assert_uint_eq(net_writable(world.dialler), 100);
}
END_TEST

START_TEST(a_cut_holds_back)
{
    open_connection();
    world.links.of[CLIENT][0].cut = true;
    say(world.dialler, "one");
    pass_ns(30 * SECOND);
    say(world.dialler, "two");
    net_shutdown(world.dialler);
    pass_ns(30 * SECOND);
    ck_assert_int_eq(take(world.accepted), -EAGAIN);
    say(world.accepted, "the other way is open");
    pass_ns(SECOND);
    expect(world.dialler, "the other way is open");
    world.links.of[CLIENT][0].cut = false;
    net_links_changed(world.net);
    pass_ns(99000000); /* a retransmission takes its time */
    ck_assert_int_eq(take(world.accepted), -EAGAIN);
    pass_ns(SECOND);
    expect(world.accepted, "onetwo");
    ck_assert_int_eq(take(world.accepted), 0);
}
END_TEST

START_TEST(a_lost_piece_delays_those_behind)
{
    open_connection();
    world.links.of[CLIENT][0].lose = 1000;
    say(world.dialler, "lost ");
    world.links.of[CLIENT][0].lose = 0;
    say(world.dialler, "behind");
    pass_ns(199000000);
    ck_assert_uint_eq(net_readable(world.accepted), 0);
    pass_ns(SECOND / 10);
    expect(world.accepted, "lost behind");
}
END_TEST

START_TEST(a_thin_link_takes_its_time)
{
    static char bytes[50000];
    open_connection();
    world.links.of[CLIENT][0].bytes_per_s = 10000;
    ck_assert_int_eq(put(world.dialler, bytes, 20000), 20000);
    ck_assert_int_eq(put(world.dialler, bytes, 20000), 20000);
    pass_ns(1900000000);
    ck_assert_uint_eq(net_readable(world.accepted), 0);
    pass_ns(2 * SECOND);
    ck_assert_uint_eq(net_readable(world.accepted), 20000);
    pass_ns(SECOND);
    ck_assert_uint_eq(net_readable(world.accepted), 40000);
}
END_TEST

static void on_sent(void *context, int from, int to, uint16_t port, uint64_t connection,
                    const void *bytes, size_t size)
{
    (void)bytes;
    ck_assert_ptr_eq(context, &world);
    ck_assert_int_eq(from, CLIENT);
    ck_assert_int_eq(to, 0);
    ck_assert_int_eq(port, PORT);
    ck_assert_uint_ne(connection, 0);
    world.seen += size;
}

START_TEST(what_is_sent_is_seen_and_may_be_injected_again)
{
    net_set_window(world.net, 10, 10);
    net_on_sent(world.net, on_sent, &world);
    ck_assert(!net_inject(world.net, CLIENT, 0, PORT, "x", 1));
    open_connection();
    say(world.dialler, "0123456789 too much");
    ck_assert_uint_eq(world.seen, 10);
    ck_assert(net_inject(world.net, CLIENT, 0, PORT, "again", 5));
    ck_assert(!net_inject(world.net, CLIENT, 1, PORT, "x", 1));
    ck_assert(!net_inject(world.net, CLIENT, 0, PORT + 1, "x", 1));
    ck_assert_uint_eq(world.seen, 10);
    pass_ns(SECOND);
    expect(world.accepted, "0123456789again");
}
END_TEST

/* -- Ends ---------------------------------------------------------------------------------------- */

START_TEST(half_close_and_close)
{
    open_connection();
    say(world.dialler, "bye");
    net_shutdown(world.dialler);
    ck_assert_int_eq(say(world.dialler, "more"), -EPIPE);
    ck_assert_uint_eq(net_writable(world.dialler), 0);
    pass_ns(SECOND);
    ck_assert(net_hung_up(world.accepted));
    ck_assert_uint_eq(net_readable(world.accepted), 4);
    expect(world.accepted, "bye");
    ck_assert_int_eq(take(world.accepted), 0);
    ck_assert_int_eq(say(world.accepted, "well then"), 9);
    net_close(world.accepted);
    pass_ns(SECOND);
    expect(world.dialler, "well then");
    ck_assert_int_eq(take(world.dialler), 0);
    net_close(world.dialler);
    ck_assert_int_eq(net_ends(world.net, 0) + net_ends(world.net, CLIENT), 0);
}
END_TEST

START_TEST(close_with_unread_bytes_resets)
{
    open_connection();
    say(world.dialler, "unread");
    pass_ns(SECOND);
    say(world.accepted, "a reply that is lost");
    net_close(world.accepted);
    pass_ns(SECOND);
    ck_assert_int_eq(net_state(world.dialler), NET_FAILED);
    ck_assert_int_eq(say(world.dialler, "x"), -ECONNRESET);
    ck_assert_int_eq(say(world.dialler, "x"), -EPIPE);
}
END_TEST

START_TEST(writing_to_one_who_has_closed_resets)
{
    open_connection();
    net_close(world.accepted);
    pass_ns(SECOND);
    ck_assert_int_eq(take(world.dialler), 0);
    ck_assert_int_eq(say(world.dialler, "x"), 1);
    pass_ns(SECOND);
    ck_assert_int_eq(net_error(world.dialler), -ECONNRESET);
}
END_TEST

START_TEST(reset_by_the_owner)
{
    open_connection();
    say(world.accepted, "arrived");
    pass_ns(SECOND);
    say(world.accepted, "overtaken");
    net_reset(world.accepted);
    pass_ns(SECOND);
    expect(world.dialler, "arrived");
    ck_assert_int_eq(take(world.dialler), -ECONNRESET);
    ck_assert(net_hung_up(world.dialler));
}
END_TEST

/* A cut swallows a RST: half-open until somebody says something, or keepalive. */
START_TEST(half_open)
{
    open_connection();
    world.links.of[0][CLIENT].cut = true;
    net_reset(world.accepted);
    pass_ns(SECOND);
    world.links.of[0][CLIENT].cut = false;
    net_links_changed(world.net);
    pass_ns(10 * SECOND);
    ck_assert_int_eq(net_state(world.dialler), NET_OPEN);
    if (_i == 0) {
        say(world.dialler, "anybody?");
        pass_ns(SECOND);
    } else {
        pass_ns(120 * SECOND);
    }
    ck_assert_int_eq(net_error(world.dialler), -ECONNRESET);
}
END_TEST

START_TEST(process_dies)
{
    open_connection();
    struct net_end *first = world.dialler, *accepted = world.accepted;
    dial(); /* accepted, with unread bytes */
    struct net_end *second = world.dialler;
    pass_ns(SECOND);
    ck_assert_ptr_nonnull(net_accept(world.listener, heard, NULL));
    say(second, "unread");
    dial(); /* not accepted */
    struct net_end *third = world.dialler;
    pass_ns(SECOND);
    dial(); /* a SYN on its way */
    say(accepted, "last words");
    net_process_died(world.net, 0);
    ck_assert_int_eq(net_ends(world.net, 0), 0);
    pass_ns(SECOND);
    expect(first, "last words");
    ck_assert_int_eq(take(first), 0);
    ck_assert_int_eq(net_error(second), -ECONNRESET);
    ck_assert_int_eq(net_error(third), -ECONNRESET);
    ck_assert_int_eq(net_error(world.dialler), -ECONNREFUSED);
}
END_TEST

START_TEST(power_is_cut)
{
    open_connection();
    struct net_end *idle = world.dialler;
    dial();
    pass_ns(SECOND);
    ck_assert_ptr_nonnull(net_accept(world.listener, heard, NULL));
    struct net_end *talker = world.dialler;
    say(world.accepted, "on the wire");
    net_power_cut(world.net, 0);
    ck_assert_int_eq(net_ends(world.net, 0), 0);
    pass_ns(SECOND);
    expect(idle, "on the wire");
    say(talker, "hello?");
    dial();
    pass_ns(3 * SECOND);
    ck_assert_int_eq(net_state(talker), NET_OPEN); /* nobody says anything */
    ck_assert_int_eq(net_state(world.dialler), NET_CONNECTING);
    listen_on(0); /* it has booted */
    pass_ns(5 * SECOND);
    ck_assert_int_eq(net_error(talker), -ECONNRESET);
    ck_assert_int_eq(net_state(world.dialler), NET_OPEN);
    ck_assert_int_eq(net_state(idle), NET_OPEN);
    pass_ns(120 * SECOND);
    ck_assert_int_eq(net_error(idle), -ECONNRESET);
}
END_TEST

START_TEST(power_is_cut_for_good)
{
    open_connection();
    net_power_cut(world.net, 0);
    pass_ns(121 * SECOND);
    ck_assert_int_eq(net_error(world.dialler), -ETIMEDOUT);
}
END_TEST

START_TEST(break_in_the_middle)
{
    struct random random = random_stream(3, 3);
    ck_assert(!net_break(world.net, CLIENT, 0, &random));
    open_connection();
    ck_assert(!net_break(world.net, 1, 0, &random));
    ck_assert(net_break(world.net, 0, CLIENT, &random));
    ck_assert(!net_break(world.net, 0, CLIENT, &random));
    pass_ns(SECOND);
    ck_assert_int_eq(net_error(world.dialler), -ECONNRESET);
    ck_assert_int_eq(net_error(world.accepted), -ECONNRESET);
}
END_TEST

START_TEST(resets_by_chance)
{
    int broken = 0;
    listen_on(0);
    world.links.of[CLIENT][0].reset = 100000;
    for (int i = 0; i < 1000; i++) {
        dial();
        pass_ns(SECOND / 10);
        say(world.dialler, "x");
        pass_ns(SECOND / 10);
        broken += net_state(world.dialler) == NET_FAILED;
        net_close(world.dialler);
        net_close(net_accept(world.listener, heard, NULL));
    }
    ck_assert_int_gt(broken, 60);
    ck_assert_int_lt(broken, 140);
}
END_TEST

/* -- A storm ------------------------------------------------------------------------------------- */

#define STORM_ENDS 24

/* Each connection says its bytes in order, whatever happens around it; nothing leaks; and all of it
 * is the same for the same seed. */
struct talker {
    struct net_end *end;
    uint64_t written, read;
    int heard;
};

static void talk(struct talker *talker, struct random *random)
{
    uint8_t bytes[64];
    size_t size = (size_t)random_between(random, 1, sizeof bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(talker->written + i);
    struct iovec part = { bytes, size };
    ptrdiff_t sent = net_sendv(talker->end, &part, 1);
    talker->written += sent > 0 ? (uint64_t)sent : 0;
    ptrdiff_t count = net_recv(talker->end, bytes, sizeof bytes);
    for (ptrdiff_t i = 0; i < count; i++)
        ck_assert_uint_eq(bytes[i], (uint8_t)talker->read++);
    uint64_t chance = random_below(random, 200);
    if (chance == 0)
        net_shutdown(talker->end);
    if (chance == 1 || chance == 2 || net_state(talker->end) == NET_FAILED) {
        if (chance == 1)
            net_reset(talker->end);
        else
            net_close(talker->end);
        talker->end = NULL;
    }
}

static void forget(struct talker *talkers, bool dialled)
{
    for (int i = 0; i < STORM_ENDS; i++)
        if (i % 2 == !dialled)
            talkers[i] = (struct talker){ 0 };
}

static void misfortune(struct talker *talkers, struct random *random)
{
    switch (random_below(random, 6)) {
    case 0:
        world.links.of[0][1].cut = !world.links.of[0][1].cut;
        net_links_changed(world.net);
        break;
    case 1:
        world.links.of[1][0].cut = !world.links.of[1][0].cut;
        net_links_changed(world.net);
        break;
    case 2:
        net_break(world.net, 0, 1, random);
        break;
    case 3:
        net_process_died(world.net, 1);
        forget(talkers, true);
        break;
    case 4:
        net_process_died(world.net, 0);
        forget(talkers, false);
        listen_on(0);
        break;
    case 5:
        net_power_cut(world.net, 0);
        forget(talkers, false);
        world.listener = NULL;
        break;
    }
}

static uint64_t storm(uint64_t seed)
{
    begin_with(seed);
    struct talker talkers[STORM_ENDS] = { 0 };
    struct random random = random_stream(seed, 1);
    net_set_window(world.net, 50, 200);
    net_set_pieces(world.net, seed % 2 ? 9 : 0);
    world.links.of[0][1].reset = world.links.of[1][0].reset = 500;
    world.links.of[0][1].lose = 50;
    listen_on(0);
    for (int step = 0; step < 20000; step++) {
        struct talker *talker = &talkers[random_below(&random, STORM_ENDS)];
        bool is_dialler = (talker - talkers) % 2 == 0;
        if (talker->end != NULL)
            talk(talker, &random);
        else if (is_dialler)
            *talker =
                (struct talker){ .end = net_connect(world.net, 1, 0, PORT, heard, &talker->heard) };
        else if (world.listener != NULL)
            *talker = (struct talker){ .end = net_accept(world.listener, heard, &talker->heard) };
        pass_ns(random_below(&random, 1000000));
        if (random_chance(&random, 5))
            misfortune(talkers, &random);
        if (world.listener == NULL && random_chance(&random, 10))
            listen_on(0); /* it has booted */
    }
    int owned[2] = { 0 };
    for (int i = 0; i < STORM_ENDS; i++)
        owned[i % 2] += talkers[i].end != NULL;
    ck_assert_int_eq(net_ends(world.net, 1), owned[0]);
    ck_assert_int_eq(net_ends(world.net, 0), owned[1]);
    uint64_t hash = trace_hash(world.trace);
    ck_assert_uint_gt(net_bytes(world.net), 10000);
    end();
    return hash;
}

START_TEST(any_storm_is_the_same_again)
{
    ck_assert_uint_eq(storm((uint64_t)_i + 1), storm((uint64_t)_i + 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("net");
    TCase *tests = tcase_create("net");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_add_test(tests, connects_after_a_round_trip);
    tcase_add_test(tests, refused_where_nobody_listens);
    tcase_add_test(tests, two_listeners_on_a_port);
    tcase_add_loop_test(tests, cut_while_connecting, 0, 4);
    tcase_add_test(tests, full_backlog_makes_wait);
    tcase_add_test(tests, closed_while_connecting);
    tcase_add_loop_test(tests, bytes_come_out_in_order, 0, 2);
    tcase_add_test(tests, pieces_arrive_one_by_one);
    tcase_add_test(tests, a_short_write_hears_of_room);
    tcase_add_test(tests, no_room_behind_a_cut_way_back);
    tcase_add_test(tests, a_cut_holds_back);
    tcase_add_test(tests, a_lost_piece_delays_those_behind);
    tcase_add_test(tests, a_thin_link_takes_its_time);
    tcase_add_test(tests, what_is_sent_is_seen_and_may_be_injected_again);
    tcase_add_test(tests, half_close_and_close);
    tcase_add_test(tests, close_with_unread_bytes_resets);
    tcase_add_test(tests, writing_to_one_who_has_closed_resets);
    tcase_add_test(tests, reset_by_the_owner);
    tcase_add_loop_test(tests, half_open, 0, 2);
    tcase_add_test(tests, process_dies);
    tcase_add_test(tests, power_is_cut);
    tcase_add_test(tests, power_is_cut_for_good);
    tcase_add_test(tests, break_in_the_middle);
    tcase_add_test(tests, resets_by_chance);
    suite_add_tcase(suite, tests);
    TCase *storms = tcase_create("storms");
    tcase_set_timeout(storms, 60);
    tcase_add_loop_test(storms, any_storm_is_the_same_again, 0, 8);
    suite_add_tcase(suite, storms);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
