/* The reactor over the real system, with pipes as sources. */
#include "server/reactor.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/os/os_linux.h"

#define MS 1000000u
#define SOURCES_MAX 700

struct world;

struct pipe_source {
    struct world *world;
    struct reactor_source source;
    int write_fd;
    int number;
    uint32_t events;
    int heard;
    struct pipe_source *victim; /* to be removed and freed when this one hears something */
};

struct world {
    struct os *os;
    struct reactor *reactor;
    int order[SOURCES_MAX];
    int order_count;
};

static void world_init(struct world *world)
{
    *world = (struct world){ .os = os_linux_new() };
    int code = 0;
    world->reactor = reactor_new(world->os, &code);
    ck_assert_ptr_nonnull(world->reactor);
}

static void world_release(struct world *world)
{
    reactor_free(world->reactor);
    os_linux_free(world->os);
}

static void source_free(struct pipe_source *source)
{
    reactor_remove(source->world->reactor, &source->source);
    close(source->source.fd);
    close(source->write_fd);
    free(source);
}

static void on_ready(void *owner, uint32_t events)
{
    struct pipe_source *source = owner;
    struct world *world = source->world;
    source->events |= events;
    source->heard++;
    world->order[world->order_count++] = source->number;
    struct pipe_source *victim = source->victim;
    source->victim = NULL;
    if (victim != NULL)
        source_free(victim);
}

static struct pipe_source *source_new(struct world *world, int number, enum reactor_phase phase)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    struct pipe_source *source = calloc(1, sizeof(*source));
    ck_assert_ptr_nonnull(source);
    source->world = world;
    source->number = number;
    source->write_fd = ends[1];
    source->source = (struct reactor_source){
        .fd = ends[0], .phase = phase, .on_ready = on_ready, .owner = source
    };
    ck_assert_int_eq(reactor_add(world->reactor, &source->source), 0);
    return source;
}

static void poke(const struct pipe_source *source)
{
    ck_assert_int_eq(write(source->write_fd, "x", 1), 1);
}

START_TEST(each_phase_hears_its_own_sources)
{
    struct world world;
    world_init(&world);
    struct pipe_source *sources[REACTOR_PHASE_COUNT];
    for (int phase = 0; phase < REACTOR_PHASE_COUNT; phase++) {
        sources[phase] = source_new(&world, phase, (enum reactor_phase)phase);
        poke(sources[phase]);
    }
    reactor_wait(world.reactor, 0, false);
    ck_assert_int_eq(world.order_count, 0); /* a wait calls nobody */
    for (int phase = REACTOR_PHASE_COUNT - 1; phase >= 0; phase--) {
        reactor_dispatch(world.reactor, (enum reactor_phase)phase);
        ck_assert_int_eq(sources[phase]->heard, 1);
        ck_assert_uint_eq(sources[phase]->events, OS_READABLE);
        ck_assert_int_eq(world.order_count, REACTOR_PHASE_COUNT - phase);
    }
    for (int phase = 0; phase < REACTOR_PHASE_COUNT; phase++)
        source_free(sources[phase]);
    world_release(&world);
}
END_TEST

START_TEST(a_change_is_heard_once)
{
    struct world world;
    world_init(&world);
    struct pipe_source *source = source_new(&world, 0, REACTOR_PEER);
    poke(source);
    for (int i = 0; i < 5; i++) {
        reactor_wait(world.reactor, 0, true);
        reactor_dispatch(world.reactor, REACTOR_PEER);
    }
    ck_assert_int_eq(source->heard, 1); /* though nobody has read */
    poke(source);
    reactor_wait(world.reactor, 0, false);
    reactor_dispatch(world.reactor, REACTOR_PEER);
    ck_assert_int_eq(source->heard, 2);
    close(source->write_fd);
    source->write_fd = dup(0);
    reactor_wait(world.reactor, 0, false);
    reactor_dispatch(world.reactor, REACTOR_PEER);
    ck_assert_uint_eq(source->events, OS_READABLE | OS_HANGUP);
    source_free(source);
    world_release(&world);
}
END_TEST

START_TEST(events_that_are_not_dispatched_add_up_and_keep_the_wait_awake)
{
    struct world world;
    world_init(&world);
    struct pipe_source *source = source_new(&world, 0, REACTOR_PEER);
    poke(source);
    reactor_wait(world.reactor, 0, false);
    poke(source);
    close(source->write_fd);
    source->write_fd = dup(0);
    reactor_wait(world.reactor, 0, false); /* returns, although it may sleep for ever */
    reactor_wait(world.reactor, 0, false);
    reactor_dispatch(world.reactor, REACTOR_PEER);
    ck_assert_int_eq(source->heard, 1);
    ck_assert_uint_eq(source->events, OS_READABLE | OS_HANGUP);
    source_free(source);
    world_release(&world);
}
END_TEST

/* 0: the one at hand, 1: one before it, 2: one behind it, in the list of the same phase. */
START_TEST(a_source_may_be_freed_while_the_others_are_dispatched)
{
    struct world world;
    world_init(&world);
    struct pipe_source *sources[3];
    for (int i = 0; i < 3; i++) {
        sources[i] = source_new(&world, i, REACTOR_CLIENT);
        poke(sources[i]);
    }
    static const int victims[] = { 1, 0, 2 };
    int victim = victims[_i];
    sources[1]->victim = sources[victim];
    reactor_wait(world.reactor, 0, false);
    reactor_dispatch(world.reactor, REACTOR_CLIENT);
    ck_assert_int_eq(world.order_count, victim == 2 ? 2 : 3);
    for (int i = 0; i < world.order_count; i++)
        ck_assert_int_eq(world.order[i], i);
    for (int i = 0; i < 3; i++)
        if (i != victim)
            source_free(sources[i]);
    reactor_wait(world.reactor, 0, true);
    reactor_dispatch(world.reactor, REACTOR_CLIENT);
    world_release(&world);
}
END_TEST

START_TEST(a_ready_source_may_be_freed_by_another_phase)
{
    struct world world;
    world_init(&world);
    struct pipe_source *peer = source_new(&world, 0, REACTOR_PEER);
    struct pipe_source *client = source_new(&world, 1, REACTOR_CLIENT);
    peer->victim = client;
    poke(peer);
    poke(client);
    reactor_wait(world.reactor, 0, false);
    reactor_dispatch(world.reactor, REACTOR_PEER);
    reactor_dispatch(world.reactor, REACTOR_CLIENT);
    ck_assert_int_eq(world.order_count, 1);
    source_free(peer);
    world_release(&world);
}
END_TEST

START_TEST(more_sources_than_one_wait_can_report)
{
    static struct pipe_source *sources[SOURCES_MAX];
    struct world world;
    world_init(&world);
    for (int i = 0; i < SOURCES_MAX; i++) {
        sources[i] = source_new(&world, i, REACTOR_CLIENT);
        poke(sources[i]);
    }
    int waits = 0;
    while (world.order_count < SOURCES_MAX) {
        reactor_wait(world.reactor, 0, false); /* sleeps for ever if something was lost */
        reactor_dispatch(world.reactor, REACTOR_CLIENT);
        waits++;
    }
    ck_assert_int_le(waits, 4);
    for (int i = 0; i < SOURCES_MAX; i++) {
        ck_assert_int_eq(sources[i]->heard, 1);
        source_free(sources[i]);
    }
    world_release(&world);
}
END_TEST

START_TEST(a_wait_ends_at_its_deadline_not_before)
{
    struct world world;
    world_init(&world);
    /* later, earlier, the same again, in the past; an armed timer may be too late or too early */
    static const int64_t steps_ms[] = { 20, 50, 10, 30, 5, 0, -1000, 15 };
    for (size_t i = 0; i < sizeof(steps_ms) / sizeof(steps_ms[0]); i++) {
        uint64_t begin = os_now_ns(world.os);
        uint64_t deadline = begin + (uint64_t)(steps_ms[i] * (int64_t)MS);
        uint64_t now = reactor_wait(world.reactor, deadline, false);
        ck_assert_uint_ge(now, deadline);
        ck_assert_uint_lt(now - begin, 1000 * MS);
    }
    world_release(&world);
}
END_TEST

START_TEST(an_early_timer_is_not_shown_and_a_late_one_is_moved)
{
    struct world world;
    world_init(&world);
    struct pipe_source *source = source_new(&world, 0, REACTOR_PEER);
    uint64_t begin = os_now_ns(world.os);
    poke(source);
    reactor_wait(world.reactor, begin + 10 * MS, false); /* arms for 10 ms, and is woken by data */
    reactor_dispatch(world.reactor, REACTOR_PEER);
    uint64_t now = reactor_wait(world.reactor, begin + 60 * MS, false);
    ck_assert_uint_ge(now, begin + 60 * MS);

    begin = now;
    poke(source);
    reactor_wait(world.reactor, begin + 60000 * (uint64_t)MS, false);
    reactor_dispatch(world.reactor, REACTOR_PEER);
    now = reactor_wait(world.reactor, begin + 10 * MS, false);
    ck_assert_uint_ge(now, begin + 10 * MS);
    ck_assert_uint_lt(now, begin + 5000 * (uint64_t)MS);
    source_free(source);
    world_release(&world);
}
END_TEST

START_TEST(a_busy_wait_does_not_sleep)
{
    struct world world;
    world_init(&world);
    uint64_t begin = os_now_ns(world.os);
    for (int i = 0; i < 10; i++)
        reactor_wait(world.reactor, begin + 10000 * (uint64_t)MS, true);
    ck_assert_uint_lt(os_now_ns(world.os) - begin, 1000 * MS);
    world_release(&world);
}
END_TEST

START_TEST(what_cannot_be_watched_is_refused)
{
    struct world world;
    world_init(&world);
    int fd = open("/proc/self/exe", O_RDONLY);
    struct reactor_source source = { .fd = fd, .phase = REACTOR_DISK, .on_ready = on_ready };
    ck_assert_int_eq(reactor_add(world.reactor, &source), -EPERM);
    close(fd);
    world_release(&world);
}
END_TEST

START_TEST(sources_must_be_removed_first)
{
    struct world world;
    world_init(&world);
    poke(source_new(&world, 0, REACTOR_PEER));
    reactor_wait(world.reactor, 0, false);
    reactor_free(world.reactor);
}
END_TEST

START_TEST(a_system_without_descriptors_gives_no_reactor)
{
    struct os *os = os_linux_new();
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    int next = dup(0);
    close(next);
    for (int left = 0; left < 2; left++) { /* not one, and one too few */
        limit.rlim_cur = (rlim_t)(next + left);
        ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        int code = 0;
        ck_assert_ptr_null(reactor_new(os, &code));
        ck_assert_int_eq(code, -EMFILE);
        int again = left == 0 ? next : dup(0);
        ck_assert_int_eq(again, next); /* nothing is left open */
        if (left == 1)
            close(again);
    }
    os_linux_free(os);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reactor");
    TCase *tcase = tcase_create("reactor");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, each_phase_hears_its_own_sources);
    tcase_add_test(tcase, a_change_is_heard_once);
    tcase_add_test(tcase, events_that_are_not_dispatched_add_up_and_keep_the_wait_awake);
    tcase_add_loop_test(tcase, a_source_may_be_freed_while_the_others_are_dispatched, 0, 3);
    tcase_add_test(tcase, a_ready_source_may_be_freed_by_another_phase);
    tcase_add_test(tcase, more_sources_than_one_wait_can_report);
    tcase_add_test(tcase, a_wait_ends_at_its_deadline_not_before);
    tcase_add_test(tcase, an_early_timer_is_not_shown_and_a_late_one_is_moved);
    tcase_add_test(tcase, a_busy_wait_does_not_sleep);
    tcase_add_test(tcase, what_cannot_be_watched_is_refused);
    tcase_add_test_raise_signal(tcase, sources_must_be_removed_first, SIGABRT);
    tcase_add_test(tcase, a_system_without_descriptors_gives_no_reactor);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
