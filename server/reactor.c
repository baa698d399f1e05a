/* One epoll_wait a turn, and a list of ready sources for each phase.
 *
 * All that a wait finds is moved to the lists before anybody is called, so removing and freeing a
 * source in the middle of a dispatch needs no care about events that are still on their way: being
 * in a list is the only trace of them.
 *
 * The timer is lazy. Deadlines move into the future all the time (each heartbeat moves the election's)
 * and an armed timer that fires too early costs one wake-up, where following every move would cost a
 * system call a turn. An early expiry is not shown to the caller: the wait arms the timer anew and
 * goes on. */
#include "server/reactor.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define REACTOR_EVENTS_MAX 256 /* of one wait; the rest is still there for the next one */

struct reactor_list {
    struct reactor_source *first, *last;
};

struct reactor {
    struct os *os;
    int epoll_fd;
    int timer_fd;      /* in the epoll set without a source: its data is NULL */
    uint64_t timer_ns; /* what the timer is set to; 0: not set, or it has fired */
    struct reactor_list ready[REACTOR_PHASE_COUNT];
    struct os_event events[REACTOR_EVENTS_MAX];
};

static void list_append(struct reactor_list *list, struct reactor_source *source)
{
    source->previous = list->last;
    source->next = NULL;
    if (list->last != NULL)
        list->last->next = source;
    else
        list->first = source;
    list->last = source;
}

static void list_remove(struct reactor_list *list, struct reactor_source *source)
{
    if (source->previous != NULL)
        source->previous->next = source->next;
    else
        list->first = source->next;
    if (source->next != NULL)
        source->next->previous = source->previous;
    else
        list->last = source->previous;
    source->previous = source->next = NULL;
}

/* -- Life ---------------------------------------------------------------------------------------- */

static int open_descriptors(struct reactor *reactor)
{
    reactor->epoll_fd = os_epoll_create(reactor->os);
    if (reactor->epoll_fd < 0)
        return reactor->epoll_fd;
    reactor->timer_fd = os_timer_create(reactor->os);
    if (reactor->timer_fd < 0)
        return reactor->timer_fd;
    return os_epoll_add(reactor->os, reactor->epoll_fd, reactor->timer_fd, NULL);
}

struct reactor *reactor_new(struct os *os, int *code)
{
    struct reactor *reactor = calloc(1, sizeof(*reactor));
    if (reactor == NULL) {
        *code = -ENOMEM;
        return NULL;
    }
    reactor->os = os;
    reactor->epoll_fd = reactor->timer_fd = -1;
    int result = open_descriptors(reactor);
    if (result < 0) {
        *code = result;
        reactor_free(reactor);
        return NULL;
    }
    return reactor;
}

void reactor_free(struct reactor *reactor)
{
    if (reactor == NULL)
        return;
    for (int phase = 0; phase < REACTOR_PHASE_COUNT; phase++)
        assert(reactor->ready[phase].first == NULL);
    if (reactor->timer_fd >= 0)
        (void)os_close(reactor->os, reactor->timer_fd);
    if (reactor->epoll_fd >= 0)
        (void)os_close(reactor->os, reactor->epoll_fd);
    free(reactor);
}

int reactor_add(struct reactor *reactor, struct reactor_source *source)
{
    assert(source->fd >= 0 && source->phase < REACTOR_PHASE_COUNT && source->on_ready != NULL);
    source->events = 0;
    source->is_ready = false;
    source->previous = source->next = NULL;
    return os_epoll_add(reactor->os, reactor->epoll_fd, source->fd, source);
}

void reactor_remove(struct reactor *reactor, struct reactor_source *source)
{
    if (source->is_ready)
        list_remove(&reactor->ready[source->phase], source);
    source->is_ready = false;
    source->events = 0;
    int code = os_epoll_remove(reactor->os, reactor->epoll_fd, source->fd);
    assert(code == 0); /* else it was never added, or closed before */
    (void)code;
}

/* -- Waiting ------------------------------------------------------------------------------------- */

static void mark_ready(struct reactor *reactor, struct reactor_source *source, uint32_t events)
{
    source->events |= events;
    if (source->is_ready)
        return;
    source->is_ready = true;
    list_append(&reactor->ready[source->phase], source);
}

static bool anything_is_ready(const struct reactor *reactor)
{
    for (int phase = 0; phase < REACTOR_PHASE_COUNT; phase++)
        if (reactor->ready[phase].first != NULL)
            return true;
    return false;
}

static void arm_timer(struct reactor *reactor, uint64_t deadline_ns)
{
    bool is_too_late = reactor->timer_ns == 0 || deadline_ns < reactor->timer_ns;
    if (deadline_ns == 0 || !is_too_late)
        return;
    int code = os_timer_set(reactor->os, reactor->timer_fd, deadline_ns);
    assert(code == 0);
    (void)code;
    reactor->timer_ns = deadline_ns;
}

/* One epoll_wait, and what it found into the lists. */
static void collect(struct reactor *reactor, bool block)
{
    int count =
        os_epoll_wait(reactor->os, reactor->epoll_fd, reactor->events, REACTOR_EVENTS_MAX, block);
    assert(count >= 0);
    for (int i = 0; i < count; i++) {
        struct reactor_source *source = reactor->events[i].data;
        if (source != NULL) {
            mark_ready(reactor, source, reactor->events[i].events);
        } else {
            os_timer_clear(reactor->os, reactor->timer_fd);
            reactor->timer_ns = 0;
        }
    }
}

uint64_t reactor_wait(struct reactor *reactor, uint64_t deadline_ns, bool busy)
{
    bool block = !busy && !anything_is_ready(reactor);
    for (;;) {
        if (block)
            arm_timer(reactor, deadline_ns);
        collect(reactor, block);
        uint64_t now_ns = os_now_ns(reactor->os);
        bool is_due = deadline_ns != 0 && deadline_ns <= now_ns;
        if (!block || is_due || anything_is_ready(reactor))
            return now_ns;
    }
}

void reactor_dispatch(struct reactor *reactor, enum reactor_phase phase)
{
    struct reactor_list *list = &reactor->ready[phase];
    while (list->first != NULL) {
        struct reactor_source *source = list->first;
        uint32_t events = source->events;
        list_remove(list, source);
        source->is_ready = false;
        source->events = 0;
        source->on_ready(source->owner, events); /* may have freed it */
    }
}
