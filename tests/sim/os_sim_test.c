/* The simulated system against os.h's contract. The process is a function of each test: it is called
 * once a turn, and may do with its os what a node may do. */
#include "tests/sim/os_sim.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define S (1000 * MS)
#define PORT 9000

struct world;
typedef bool act(struct world *world, struct os *os);

struct world {
    struct timeline *timeline;
    struct trace *trace;
    struct links links;
    struct net *net;
    struct machine machine;
    act *start, *turn; /* what the process does; start may be NULL */
    int turns, crashes, exited, exit_code;
    char said[128];
    /* For the tests' use. */
    int epoll_fd, fd, other_fd, queue_fd;
    int events, count;
    bool readable, writable;
    uint64_t at_ns;
    uint64_t got, sent, wanted;
    int order_kept, order_swapped;
    int wrong; /* bytes; check's own asserts are too slow for each */
    struct net_end *end;
};

static void *start(struct machine *machine, int *exit_code)
{
    struct world *world = machine->user;
    *exit_code = 1;
    if (world->start != NULL && !world->start(world, machine->os))
        return NULL;
    return world;
}

static bool turn(void *process, uint64_t *wake_ns)
{
    struct world *world = process;
    *wake_ns = MACHINE_AT_ONCE;
    world->turns++;
    return world->turn(world, world->machine.os);
}

static int exit_code_of(const void *process)
{
    (void)process;
    return 0;
}

static void end(void *process)
{
    (void)process;
}

static const struct process_type type = {
    .name = "act", .start = start, .turn = turn, .exit_code = exit_code_of, .free = end
};

static void on_crashed(void *context, struct machine *machine)
{
    struct world *world = context;
    world->crashes++;
    machine_crash(machine, machine->crash_cuts_power, DISK_TEAR_NOTHING);
}

static void on_exited(void *context, struct machine *machine, int exit_code)
{
    struct world *world = context;
    (void)machine;
    world->exited++;
    world->exit_code = exit_code;
}

static void on_said(void *context, struct machine *machine, const char *line, size_t size)
{
    struct world *world = context;
    (void)machine;
    (void)snprintf(world->said, sizeof world->said, "%.*s", (int)size, line);
}

static struct world *world_new(uint64_t seed, act *starts, act *turns)
{
    struct world *world = calloc(1, sizeof *world);
    ck_assert_ptr_nonnull(world);
    world->start = starts;
    world->turn = turns;
    world->timeline = timeline_new(seed);
    world->trace = trace_new(world->timeline, false);
    links_init(&world->links);
    world->net = net_new(world->timeline, &world->links, world->trace, seed);
    world->machine = (struct machine){
        .slot = 1,
        .id = 2,
        .type = &type,
        .timeline = world->timeline,
        .trace = world->trace,
        .links = &world->links,
        .net = world->net,
        .disk = disk_new(world->trace, 1),
        .random = random_stream(seed, 1),
        .clock = { .rate_per_mille = 1000, .offset_ns = S },
        .costs = { .call_ns = 1000, .flush_min_ns = MS, .flush_max_ns = 3 * MS, .turn_ns = 1000 },
        .events = { .context = world, .crashed = on_crashed, .exited = on_exited, .said = on_said },
        .user = world,
    };
    return world;
}

static void world_free(struct world *world)
{
    machine_crash(&world->machine, false, DISK_TEAR_NOTHING);
    disk_free(world->machine.disk);
    net_free(world->net);
    trace_free(world->trace);
    timeline_free(world->timeline);
    free(world);
}

static void run_until(struct world *world, uint64_t at_ns)
{
    while (timeline_step(world->timeline, at_ns))
        ;
}

static void open_epoll(struct world *world, struct os *os)
{
    world->epoll_fd = os_epoll_create(os);
    ck_assert_int_ge(world->epoll_fd, 0);
}

static void watch(struct world *world, struct os *os, int fd)
{
    ck_assert_int_eq(os_epoll_add(os, world->epoll_fd, fd, (void *)(uintptr_t)fd), 0);
}

static bool sleeps(struct world *world, struct os *os)
{
    struct os_event events[8];
    (void)os_epoll_wait(os, world->epoll_fd, events, 8, true);
    return true;
}

static bool never_called(struct world *world, struct os *os)
{
    (void)world, (void)os;
    ck_abort();
    return false;
}

static void write_bytes(struct os *os, int fd, const char *text, uint64_t offset)
{
    struct iovec part = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
    ck_assert_int_eq(os_pwritev(os, fd, &part, 1, offset), (ptrdiff_t)part.iov_len);
}

/* -- Descriptors --------------------------------------------------------------------------------- */

static bool opens_and_closes(struct world *world, struct os *os)
{
    world->machine.descriptor_limit = 8;
    ck_assert_int_eq(os_descriptor_limit(os), 8);
    for (int fd = 3; fd < 8; fd++)
        ck_assert_int_eq(os_timer_create(os), fd);
    ck_assert_int_eq(os_timer_create(os), -EMFILE);
    ck_assert_int_eq(os_open(os, "x", OS_WRITE | OS_CREATE), -EMFILE);
    ck_assert_int_eq(os_close(os, 6), 0);
    ck_assert_int_eq(os_close(os, 4), 0);
    ck_assert_int_eq(os_open(os, "gone", OS_READ), -ENOENT);
    ck_assert_int_eq(os_open(os, "x", OS_WRITE | OS_CREATE), 4);
    ck_assert_int_eq(os_timer_create(os), 6);
    ck_assert_int_eq(os_timer_create(os), -EMFILE);
    for (int fd = 3; fd < 8; fd++)
        ck_assert_int_eq(os_close(os, fd), 0);
    ck_assert_int_eq(os_sim_descriptors(os), 0);
    return false;
}

START_TEST(descriptors_are_the_lowest_free_numbers)
{
    struct world *world = world_new(1, opens_and_closes, never_called);
    ck_assert(!machine_start(&world->machine));
    ck_assert_int_eq(world->exited, 1);
    world_free(world);
}
END_TEST

static bool closes_twice(struct world *world, struct os *os)
{
    (void)world;
    int fd = os_timer_create(os);
    (void)os_close(os, fd);
    (void)os_close(os, fd);
    return false;
}

static bool reads_a_timer(struct world *world, struct os *os)
{
    char byte;
    (void)world;
    (void)os_recv(os, os_timer_create(os), &byte, 1);
    return false;
}

static bool writes_what_it_may_only_read(struct world *world, struct os *os)
{
    (void)world;
    (void)os_close(os, os_open(os, "f", OS_WRITE | OS_CREATE));
    write_bytes(os, os_open(os, "f", OS_READ), "x", 0);
    return false;
}

static bool leaves_one_open(struct world *world, struct os *os)
{
    (void)world;
    (void)os_timer_create(os);
    return false;
}

static bool wants_two_sets(struct world *world, struct os *os)
{
    open_epoll(world, os);
    open_epoll(world, os);
    return false;
}

static act *const crimes[] = { closes_twice, reads_a_timer, writes_what_it_may_only_read,
                               leaves_one_open, wants_two_sets };

START_TEST(misuse_is_a_violation)
{
    struct world *world = world_new(1, crimes[_i], never_called);
    (void)machine_start(&world->machine);
    exit(EXIT_SUCCESS); /* it was not seen: the test expects an abort */
}
END_TEST

/* -- Waiting and timers -------------------------------------------------------------------------- */

static bool sets_a_timer(struct world *world, struct os *os)
{
    open_epoll(world, os);
    world->fd = os_timer_create(os);
    watch(world, os, world->fd);
    return os_timer_set(os, world->fd, os_now_ns(os) + world->wanted) == 0;
}

static bool counts_expiries(struct world *world, struct os *os)
{
    struct os_event events[8];
    int count = os_epoll_wait(os, world->epoll_fd, events, 8, true);
    ck_assert_int_eq(count, 1);
    ck_assert_uint_eq(events[0].events, OS_READABLE);
    ck_assert_ptr_eq(events[0].data, (void *)(uintptr_t)world->fd);
    world->events++;
    world->at_ns = os_now_ns(os);
    os_timer_clear(os, world->fd);
    return true;
}

START_TEST(a_timer_expires_once_at_its_time)
{
    struct world *world = world_new((uint64_t)_i, sets_a_timer, counts_expiries);
    world->wanted = 10 * MS;
    world->machine.clock.rate_per_mille = 1300;
    ck_assert(machine_start(&world->machine));
    uint64_t started = machine_now_ns(&world->machine);
    run_until(world, S);
    ck_assert_int_eq(world->events, 1);
    ck_assert_uint_ge(world->at_ns, started + 10 * MS);
    ck_assert_uint_le(world->at_ns, started + 11 * MS);
    world_free(world);
}
END_TEST

START_TEST(a_timer_follows_the_clock_s_rate)
{
    struct world *world = world_new(1, sets_a_timer, counts_expiries);
    world->wanted = 100 * MS;
    ck_assert(machine_start(&world->machine));
    run_until(world, 50 * MS);
    machine_set_rate(&world->machine, 2000);
    run_until(world, 74 * MS);
    ck_assert_int_eq(world->events, 0);
    run_until(world, 76 * MS);
    ck_assert_int_eq(world->events, 1);
    world_free(world);
}
END_TEST

static bool sets_it_anew(struct world *world, struct os *os)
{
    (void)sets_a_timer(world, os);
    ck_assert_int_eq(os_timer_set(os, world->fd, os_now_ns(os) + 50 * MS), 0);
    world->other_fd = os_timer_create(os);
    watch(world, os, world->other_fd);
    ck_assert_int_eq(os_timer_set(os, world->other_fd, os_now_ns(os) + 5 * MS), 0);
    return os_timer_set(os, world->other_fd, 0) == 0; /* never */
}

START_TEST(a_timer_that_is_set_anew_forgets_its_old_time)
{
    struct world *world = world_new(1, sets_it_anew, counts_expiries);
    world->wanted = 10 * MS;
    ck_assert(machine_start(&world->machine));
    run_until(world, S);
    ck_assert_int_eq(world->events, 1);
    ck_assert_uint_ge(world->at_ns, S + 50 * MS);
    world_free(world);
}
END_TEST

static bool takes_signals(struct world *world, struct os *os)
{
    struct os_event events[8];
    (void)os_epoll_wait(os, world->epoll_fd, events, 8, true);
    world->count = os_signal_take(os, world->fd);
    ck_assert_int_eq(os_signal_take(os, world->fd), 0);
    world->events++;
    return true;
}

static bool watches_signals(struct world *world, struct os *os)
{
    open_epoll(world, os);
    world->fd = os_signal_create(os);
    watch(world, os, world->fd);
    return true;
}

START_TEST(a_signal_wakes_the_process_once)
{
    struct world *world = world_new(1, watches_signals, takes_signals);
    ck_assert(machine_start(&world->machine));
    run_until(world, S);
    ck_assert_int_eq(world->events, 0);
    machine_signal(&world->machine, SIGTERM);
    run_until(world, 2 * S);
    ck_assert_int_eq(world->events, 1);
    ck_assert_int_eq(world->count, SIGTERM);
    world_free(world);
}
END_TEST

/* -- Network ------------------------------------------------------------------------------------- */

static bool listens(struct world *world, struct os *os)
{
    struct os_address address;
    char text[32];
    open_epoll(world, os);
    world->fd = -1;
    ck_assert_int_eq(os_resolve(os, "nobody", PORT, &address), -ENOENT);
    ck_assert_int_eq(os_resolve(os, "n2", PORT, &address), 0);
    ck_assert_int_eq(os_listen(os, &address, 5), -EADDRNOTAVAIL);
    ck_assert_int_eq(os_resolve(os, "n1", PORT, &address), 0);
    os_address_format(&address, text, sizeof text);
    ck_assert_str_eq(text, "n1:9000");
    world->other_fd = os_listen(os, &address, 5);
    ck_assert_int_ge(world->other_fd, 0);
    ck_assert_int_eq(os_listen(os, &address, 5), -EADDRINUSE);
    watch(world, os, world->other_fd);
    return true;
}

static void accepts(struct world *world, struct os *os)
{
    struct os_address from;
    world->fd = os_accept(os, world->other_fd, &from);
    ck_assert_int_ge(world->fd, 0);
    ck_assert_int_eq(os_accept(os, world->other_fd, NULL), -EAGAIN);
    watch(world, os, world->fd);
}

/* Reads and writes only after an event has said so, and takes a short count at its word. Bytes count
 * up, so none can be lost or come twice without notice. */
static void reads_what_there_is(struct world *world, struct os *os)
{
    uint8_t bytes[700];
    while (world->readable) {
        ptrdiff_t count = os_recv(os, world->fd, bytes, sizeof bytes);
        world->readable = count == (ptrdiff_t)sizeof bytes;
        for (ptrdiff_t i = 0; i < count; i++)
            world->wrong += bytes[i] != (uint8_t)world->got++;
    }
}

static void writes_what_fits(struct world *world, struct os *os)
{
    uint8_t bytes[700];
    while (world->writable && world->sent < world->wanted) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(world->sent + i);
        struct iovec parts[2] = { { bytes, 300 }, { bytes + 300, 400 } };
        ptrdiff_t count = os_sendv(os, world->fd, parts, 2);
        world->writable = count == (ptrdiff_t)sizeof bytes;
        if (count > 0)
            world->sent += (uint64_t)count;
    }
}

static bool streams(struct world *world, struct os *os)
{
    struct os_event events[8];
    int count = os_epoll_wait(os, world->epoll_fd, events, 8, true);
    for (int i = 0; i < count; i++) {
        if (events[i].data == (void *)(uintptr_t)world->other_fd && world->fd < 0) {
            accepts(world, os);
        } else if (events[i].data == (void *)(uintptr_t)world->fd) {
            world->readable = world->readable || (events[i].events & OS_READABLE) != 0;
            world->writable = world->writable || (events[i].events & OS_WRITABLE) != 0;
        }
    }
    if (world->fd >= 0) {
        reads_what_there_is(world, os);
        writes_what_fits(world, os);
    }
    return true;
}

static void look_later(void *owner, struct net_end *changed)
{
    (void)owner, (void)changed;
}

static void client_moves(struct world *world, uint64_t *sent, uint64_t *got, struct random *random)
{
    uint8_t bytes[2000];
    size_t size = (size_t)random_between(random, 1, sizeof bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(*sent + i);
    struct iovec part = { bytes, size };
    ptrdiff_t count = *sent < world->wanted ? net_sendv(world->end, &part, 1) : 0;
    if (count > 0)
        *sent += (uint64_t)count;
    if (random_chance(random, 500))
        return;
    count = net_recv(world->end, bytes, size);
    for (ptrdiff_t i = 0; i < count; i++)
        world->wrong += bytes[i] != (uint8_t)(*got)++;
}

START_TEST(streams_flow_by_edges_alone)
{
    struct world *world = world_new((uint64_t)_i, listens, streams);
    struct random random = random_stream((uint64_t)_i, 99);
    net_set_window(world->net, 1000, 5000);
    net_set_pieces(world->net, 1500);
    world->wanted = 200000;
    ck_assert(machine_start(&world->machine));
    world->end = net_connect(world->net, LINKS_CLIENTS, 1, PORT, look_later, NULL);
    run_until(world, 50 * MS);
    ck_assert_int_eq(net_state(world->end), NET_OPEN);
    uint64_t sent = 0, got = 0;
    for (uint64_t i = 0; i < 4000 && (got < world->wanted || world->got < world->wanted); i++) {
        client_moves(world, &sent, &got, &random);
        run_until(world, (50 + i) * MS);
    }
    run_until(world, 10 * S);
    ck_assert_int_eq(world->wrong, 0);
    ck_assert_uint_eq(world->got, sent);
    ck_assert_uint_ge(world->got, world->wanted);
    ck_assert_uint_ge(got, world->wanted);
    world_free(world);
}
END_TEST

/* Only events count here; nothing is read. */
static bool counts_events(struct world *world, struct os *os)
{
    struct os_event events[8];
    int count = os_epoll_wait(os, world->epoll_fd, events, 8, true);
    for (int i = 0; i < count; i++) {
        if (events[i].data == (void *)(uintptr_t)world->other_fd)
            accepts(world, os);
        else
            world->events++;
    }
    return true;
}

START_TEST(an_edge_is_reported_once)
{
    struct world *world = world_new(3, listens, counts_events);
    ck_assert(machine_start(&world->machine));
    world->end = net_connect(world->net, LINKS_CLIENTS, 1, PORT, look_later, NULL);
    run_until(world, S);
    ck_assert_int_eq(world->events, 1); /* writable from the start */
    struct iovec part = { (void *)(uintptr_t) "abc", 3 };
    ck_assert_int_eq(net_sendv(world->end, &part, 1), 3);
    run_until(world, 2 * S);
    ck_assert_int_eq(world->events, 2);
    net_close(world->end);
    run_until(world, 3 * S);
    ck_assert_int_eq(world->events, 3);
    world_free(world);
}
END_TEST

static bool connects(struct world *world, struct os *os)
{
    struct os_address address;
    open_epoll(world, os);
    ck_assert_int_eq(os_resolve(os, "n1", PORT, &address), 0); /* nobody listens there */
    world->fd = os_connect(os, &address);
    ck_assert_int_ge(world->fd, 0);
    watch(world, os, world->fd);
    return true;
}

static bool hears_the_refusal(struct world *world, struct os *os)
{
    struct os_event events[8];
    ck_assert_int_eq(os_epoll_wait(os, world->epoll_fd, events, 8, true), 1);
    ck_assert_uint_ne(events[0].events & OS_HANGUP, 0);
    ck_assert_int_eq(os_connect_result(os, world->fd), -ECONNREFUSED);
    ck_assert_int_eq(os_close(os, world->fd), 0);
    ck_assert_int_eq(os_close(os, world->epoll_fd), 0);
    return false;
}

START_TEST(a_refused_connect_is_an_event)
{
    struct world *world = world_new(3, connects, hears_the_refusal);
    ck_assert(machine_start(&world->machine));
    run_until(world, 5 * S);
    ck_assert_int_eq(world->exited, 1);
    world_free(world);
}
END_TEST

START_TEST(a_dead_process_s_ends_are_closed)
{
    struct world *world = world_new(3, listens, streams);
    ck_assert(machine_start(&world->machine));
    world->end = net_connect(world->net, LINKS_CLIENTS, 1, PORT, look_later, NULL);
    run_until(world, S);
    machine_crash(&world->machine, false, DISK_TEAR_NOTHING);
    run_until(world, 2 * S);
    ck_assert(net_hung_up(world->end));
    ck_assert_int_eq(net_ends(world->net, 1), 0);
    ck_assert(machine_start(&world->machine)); /* the port is free again */
    world_free(world);
}
END_TEST

/* -- Files and flushes --------------------------------------------------------------------------- */

static void make_file(struct world *world, struct os *os)
{
    world->fd = os_open(os, "f", OS_READ | OS_WRITE | OS_CREATE);
    ck_assert_int_ge(world->fd, 0);
    ck_assert_int_eq(os_sync_dir(os, "."), 0);
}

static bool writes_and_syncs(struct world *world, struct os *os)
{
    open_epoll(world, os);
    make_file(world, os);
    write_bytes(os, world->fd, "first", 0);
    uint64_t before_ns = os_now_ns(os);
    ck_assert_int_eq(os_fdatasync(os, world->fd), 0);
    ck_assert_uint_ge(os_now_ns(os), before_ns + MS);
    write_bytes(os, world->fd, "later", 0);
    char text[8] = { 0 };
    ck_assert_int_eq(os_pread(os, world->fd, text, 5, 0), 5);
    ck_assert_str_eq(text, "later");
    ck_assert_int_eq(os_file_size(os, world->fd), 5);
    int second = os_open(os, "f", OS_READ);
    ck_assert_int_eq(os_lock(os, world->fd), 0);
    ck_assert_int_eq(os_lock(os, world->fd), 0);
    ck_assert_int_eq(os_lock(os, second), -EWOULDBLOCK);
    ck_assert_int_eq(os_close(os, second), 0);
    return true;
}

static bool locks_again(struct world *world, struct os *os)
{
    open_epoll(world, os);
    world->fd = os_open(os, "f", OS_READ | OS_WRITE);
    ck_assert_int_eq(os_lock(os, world->fd), 0);
    char text[8] = { 0 };
    ck_assert_int_eq(os_pread(os, world->fd, text, 5, 0), 5);
    ck_assert_str_eq(text, world->count == 0 ? "later" : "first");
    return true;
}

START_TEST(what_was_synced_is_stable_and_a_lock_dies_with_its_process)
{
    struct world *world = world_new(3, writes_and_syncs, sleeps);
    struct machine *machine = &world->machine;
    ck_assert(machine_start(machine));
    size_t size;
    ck_assert_mem_eq(disk_stable_bytes(machine->disk, "f", &size), "first", 5);
    machine_crash(machine, false, DISK_TEAR_NOTHING);
    world->start = locks_again;
    ck_assert(machine_start(machine));
    machine_crash(machine, false, DISK_TEAR_NOTHING);
    disk_power_cut_all_lost(machine->disk);
    world->count = 1;
    ck_assert(machine_start(machine));
    world_free(world);
}
END_TEST

/* A crash in each call of writes_and_syncs(): the bytes are stable from the flush's end on. */
START_TEST(a_blocking_flush_that_is_cut_short_has_not_happened)
{
    int lost = 0, kept = 0;
    for (uint64_t nth = 1; nth < 60; nth++) {
        struct world *world = world_new(3, writes_and_syncs, sleeps);
        struct machine *machine = &world->machine;
        machine_arm_crash(machine, nth, false);
        bool is_up = machine_start(machine);
        size_t size = 0;
        const uint8_t *bytes = disk_stable_bytes(machine->disk, "f", &size);
        bool is_stable = bytes != NULL && size == 5 && memcmp(bytes, "first", 5) == 0;
        ck_assert(!is_up || is_stable);
        ck_assert_msg(is_stable || kept == 0, "stable, and then no longer");
        *(is_stable ? &kept : &lost) += 1;
        world_free(world);
    }
    ck_assert_int_gt(kept, 0);
    ck_assert_int_eq(lost, 8); /* epoll, open, dir, its end, write, clock, flush, its end */
}
END_TEST

static bool starts_flushes(struct world *world, struct os *os)
{
    open_epoll(world, os);
    make_file(world, os);
    world->queue_fd = os_flush_open(os);
    watch(world, os, world->queue_fd);
    for (uint64_t ticket = 1; ticket <= OS_FLUSHES_MAX; ticket++) {
        write_bytes(os, world->fd, "bytes", 10 * ticket);
        ck_assert_int_eq(os_flush_start(os, world->queue_fd, world->fd, ticket), 0);
    }
    ck_assert_int_eq(os_flush_start(os, world->queue_fd, world->fd, 9), -EAGAIN);
    ck_assert_int_eq(os_close(os, world->fd), 0); /* flushes go on */
    return true;
}

static bool takes_flushes(struct world *world, struct os *os)
{
    struct os_event events[8];
    struct os_flush done[3];
    (void)os_epoll_wait(os, world->epoll_fd, events, 8, true);
    int count;
    while ((count = os_flush_done(os, world->queue_fd, done, 3)) > 0) {
        for (int i = 0; i < count; i++) {
            *(done[i].ticket > world->at_ns ? &world->order_kept : &world->order_swapped) += 1;
            world->at_ns = done[i].ticket;
            world->events += done[i].result == 0;
            world->got |= UINT64_C(1) << done[i].ticket;
        }
    }
    return true;
}

START_TEST(flushes_end_each_once_in_any_order)
{
    int kept = 0, swapped = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct world *world = world_new(seed, starts_flushes, takes_flushes);
        ck_assert(machine_start(&world->machine));
        run_until(world, S);
        ck_assert_int_eq(world->events, OS_FLUSHES_MAX);
        ck_assert_uint_eq(world->got, 0x1fe);
        ck_assert_uint_eq(disk_unstable_writes(world->machine.disk), 0);
        kept += world->order_kept;
        swapped += world->order_swapped;
        world_free(world);
    }
    ck_assert_int_gt(kept, 20);
    ck_assert_int_gt(swapped, 20);
}
END_TEST

START_TEST(failed_flushes_say_so)
{
    struct world *world = world_new(1, starts_flushes, takes_flushes);
    ck_assert(machine_start(&world->machine));
    world->machine.flush_fails = 3;
    run_until(world, S);
    ck_assert_uint_eq(world->got, 0x1fe);
    ck_assert_int_eq(world->events, OS_FLUSHES_MAX - 3);
    world_free(world);
}
END_TEST

START_TEST(hung_flushes_end_when_the_hang_does)
{
    struct world *world = world_new(1, starts_flushes, takes_flushes);
    ck_assert(machine_start(&world->machine));
    world->machine.flush_hangs = true;
    run_until(world, 5 * S);
    ck_assert_int_eq(world->events, 0);
    world->machine.flush_hangs = false;
    run_until(world, 6 * S);
    ck_assert_int_eq(world->events, OS_FLUSHES_MAX);
    world_free(world);
}
END_TEST

START_TEST(flushes_of_a_dead_process_end_nowhere)
{
    struct world *world = world_new(1, starts_flushes, takes_flushes);
    ck_assert(machine_start(&world->machine));
    machine_crash(&world->machine, false, DISK_TEAR_NOTHING);
    world->machine.flush_slowness = 1000; /* of the next process's */
    ck_assert(machine_start(&world->machine));
    run_until(world, 100 * MS);
    ck_assert_uint_eq(world->got, 0);
    ck_assert_uint_gt(disk_unstable_writes(world->machine.disk), 0);
    run_until(world, 60 * S);
    ck_assert_int_eq(world->events, OS_FLUSHES_MAX);
    world_free(world);
}
END_TEST

static bool hangs_in_a_sync(struct world *world, struct os *os)
{
    world->machine.flush_hangs = true;
    make_file(world, os);
    ck_abort_msg("it has come back");
    return false;
}

START_TEST(a_hung_blocking_flush_never_comes_back)
{
    struct world *world = world_new(1, hangs_in_a_sync, never_called);
    ck_assert(!machine_start(&world->machine));
    run_until(world, S);
    ck_assert(world->machine.is_stuck);
    world->machine.flush_hangs = false;
    run_until(world, 2 * S);
    ck_assert_int_eq(world->crashes, 1);
    world_free(world);
}
END_TEST

static void note_name(void *context, const char *name)
{
    struct world *world = context;
    ck_assert_int_eq(name[1], '\0');
    *(name[0] > (char)world->count ? &world->order_kept : &world->order_swapped) += 1;
    world->count = name[0];
    world->got |= UINT64_C(1) << (name[0] - 'a');
}

static bool lists(struct world *world, struct os *os)
{
    ck_assert_int_eq(os_mkdir(os, "d"), 0);
    ck_assert_int_eq(os_mkdir(os, "d"), -EEXIST);
    ck_assert_int_eq(os_list_dir(os, "none", note_name, world), -ENOENT);
    for (char name[] = "d/a"; name[2] < 'k'; name[2]++)
        ck_assert_int_eq(os_close(os, os_open(os, name, OS_WRITE | OS_CREATE)), 0);
    ck_assert_int_eq(os_list_dir(os, "d", note_name, world), 0);
    ck_assert_uint_eq(world->got, 0x3ff);
    return false;
}

START_TEST(a_directory_is_listed_in_no_particular_order)
{
    int kept = 0, swapped = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct world *world = world_new(seed, lists, never_called);
        (void)machine_start(&world->machine);
        kept += world->order_kept;
        swapped += world->order_swapped;
        world_free(world);
    }
    ck_assert_int_gt(kept, 20);
    ck_assert_int_gt(swapped, 20);
}
END_TEST

/* -- Words --------------------------------------------------------------------------------------- */

static bool speaks_and_exits(struct world *world, struct os *os)
{
    uint8_t bytes[13];
    (void)world;
    os_random(os, bytes, sizeof bytes);
    ck_assert(os_log(os, "last words\n", 11));
    os_exit(os, 42);
}

START_TEST(a_process_speaks_and_exits)
{
    struct world *world = world_new(1, speaks_and_exits, never_called);
    ck_assert(!machine_start(&world->machine));
    ck_assert_int_eq(world->exit_code, 42);
    ck_assert_str_eq(world->said, "last words\n");
    world_free(world);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("os_sim");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, descriptors_are_the_lowest_free_numbers);
    tcase_add_loop_test_raise_signal(tests, misuse_is_a_violation, SIGABRT, 0,
                                     sizeof crimes / sizeof(act *));
    tcase_add_loop_test(tests, a_timer_expires_once_at_its_time, 0, 20);
    tcase_add_test(tests, a_timer_follows_the_clock_s_rate);
    tcase_add_test(tests, a_timer_that_is_set_anew_forgets_its_old_time);
    tcase_add_test(tests, a_signal_wakes_the_process_once);
    tcase_add_loop_test(tests, streams_flow_by_edges_alone, 0, 10);
    tcase_add_test(tests, an_edge_is_reported_once);
    tcase_add_test(tests, a_refused_connect_is_an_event);
    tcase_add_test(tests, a_dead_process_s_ends_are_closed);
    tcase_add_test(tests, what_was_synced_is_stable_and_a_lock_dies_with_its_process);
    tcase_add_test(tests, a_blocking_flush_that_is_cut_short_has_not_happened);
    tcase_add_test(tests, flushes_end_each_once_in_any_order);
    tcase_add_test(tests, failed_flushes_say_so);
    tcase_add_test(tests, hung_flushes_end_when_the_hang_does);
    tcase_add_test(tests, flushes_of_a_dead_process_end_nowhere);
    tcase_add_test(tests, a_hung_blocking_flush_never_comes_back);
    tcase_add_test(tests, a_directory_is_listed_in_no_particular_order);
    tcase_add_test(tests, a_process_speaks_and_exits);

    Suite *suite = suite_create("sim");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
