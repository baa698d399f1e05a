/* The reactor: waits for descriptors and one deadline, and hands what is ready to its owner, phase
 * by phase. It knows no protocol and no node.
 *
 * Edge-triggered: a source hears of each change once, and is registered once for its whole life, so
 * that the steady state makes no epoll_ctl call. An owner that leaves data unread must remember so
 * itself, and ask for another turn by reactor_wait(…, busy = true).
 *
 * Every way of waiting is a descriptor: the deadline is a timer descriptor, disk completions are
 * one, so one epoll_wait sees all. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/os/os.h"

/* The order in which a turn takes what is ready (the same as node_turn's). */
enum reactor_phase {
    REACTOR_SIGNAL,
    REACTOR_DISK,
    REACTOR_PEER,
    REACTOR_CLIENT,
    REACTOR_PHASE_COUNT
};

struct reactor; /* opaque */

/* Embedded in its owner; set the first four members, leave the rest 0. */
struct reactor_source {
    int fd;
    enum reactor_phase phase;
    /* `events`: OS_READABLE, OS_WRITABLE, OS_HANGUP. May remove and free any source, its own too. */
    void (*on_ready)(void *owner, uint32_t events);
    void *owner;

    uint32_t events;
    bool is_ready;
    struct reactor_source *previous, *next; /* in the list of its phase */
};

/* NULL if the system refuses; `code` then says why (-errno). */
struct reactor *reactor_new(struct os *os, int *code);
void reactor_free(struct reactor *reactor); /* accepts NULL; sources must have been removed */

int reactor_add(struct reactor *reactor, struct reactor_source *source);
/* Forget the source and its pending events; the caller closes the descriptor afterwards. */
void reactor_remove(struct reactor *reactor, struct reactor_source *source);

/* Wait until something is ready or `deadline_ns` (0: none) has come; not at all if `busy`. The
 * timer is moved only if it would wake us too late; one that is early is armed anew when it fires,
 * which the caller does not see. Returns the clock, read once after the wait: the turn's time. */
uint64_t reactor_wait(struct reactor *reactor, uint64_t deadline_ns, bool busy);

/* Call on_ready of all sources of `phase` that the wait found. */
void reactor_dispatch(struct reactor *reactor, enum reactor_phase phase);
