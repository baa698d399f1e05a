/* The heap is binary and holds the events themselves, 40 bytes each: there are some hundreds at a
 * time, so all of it stays in the cache. Sifting moves a hole instead of swapping. Taking the first
 * one, the hole goes all the way down, always to the earlier child, and what was last is sifted up
 * from there, mostly not at all: which child is earlier is a coin's toss, and so computed without a
 * branch that a processor would guess wrong.
 *
 * Tie and sequence are one word: the tie's 32 bits of chance above, the sequence's below. Should
 * the sequence run over, the order is still the same for each run. */
#include "tests/sim/timeline.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "tests/sim/memory.h"

#define EVENTS_AT_FIRST 256
#define TIE_PURPOSE UINT64_C(0x7469656c696e65)

__extension__ typedef unsigned __int128 uint128;

struct event {
    uint64_t at_ns;
    uint64_t tie; /* and sequence */
    timeline_run *run;
    void *owner;
    uint64_t argument;
};

struct timeline {
    uint64_t now_ns;
    uint64_t run_count;
    uint32_t sequence;
    struct random ties;
    struct event *events;
    size_t count, capacity;
};

struct timeline *timeline_new(uint64_t seed)
{
    struct timeline *timeline = calloc(1, sizeof *timeline);
    assert(timeline != NULL);
    timeline->ties = random_stream(seed, TIE_PURPOSE);
    return timeline;
}

void timeline_free(struct timeline *timeline)
{
    if (timeline == NULL)
        return;
    free(timeline->events);
    free(timeline);
}

uint64_t timeline_now_ns(const struct timeline *timeline)
{
    return timeline->now_ns;
}

uint64_t timeline_events(const struct timeline *timeline)
{
    return timeline->run_count;
}

/* The whole order in one number; no two events have the same. */
static uint128 key_of(const struct event *event)
{
    return (uint128)event->at_ns << 64 | event->tie;
}

/* Events are scheduled from within the turns of processes, whose memory does not outlive them. */
static void grow(struct timeline *timeline)
{
    struct memory *before = memory_enter(NULL);
    timeline->capacity = timeline->capacity == 0 ? EVENTS_AT_FIRST : 2 * timeline->capacity;
    timeline->events = realloc(timeline->events, timeline->capacity * sizeof *timeline->events);
    assert(timeline->events != NULL);
    memory_enter(before);
}

static void sift_up(struct event *events, size_t hole, const struct event *event)
{
    uint128 key = key_of(event);
    while (hole > 0 && key < key_of(&events[(hole - 1) / 2])) {
        events[hole] = events[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    events[hole] = *event;
}

void timeline_at(struct timeline *timeline, uint64_t at_ns, timeline_run *run, void *owner,
                 uint64_t argument)
{
    if (timeline->count == timeline->capacity)
        grow(timeline);
    struct event event = {
        .at_ns = at_ns < timeline->now_ns ? timeline->now_ns : at_ns,
        .tie = (random_next(&timeline->ties) << 32) | timeline->sequence++,
        .run = run,
        .owner = owner,
        .argument = argument,
    };
    sift_up(timeline->events, timeline->count++, &event);
}

static struct event take_first(struct timeline *timeline)
{
    struct event *events = timeline->events;
    struct event first = events[0];
    size_t count = --timeline->count;
    size_t hole = 0, child = 1;
    for (; child + 1 < count; child = 2 * hole + 1) {
        child += key_of(&events[child + 1]) < key_of(&events[child]);
        events[hole] = events[child];
        hole = child;
    }
    if (child < count) {
        events[hole] = events[child];
        hole = child;
    }
    struct event last = events[count];
    sift_up(events, hole, &last);
    return first;
}

bool timeline_step(struct timeline *timeline, uint64_t until_ns)
{
    if (timeline->count == 0 || timeline->events[0].at_ns > until_ns) {
        if (until_ns > timeline->now_ns)
            timeline->now_ns = until_ns;
        return false;
    }
    struct event event = take_first(timeline);
    assert(event.at_ns >= timeline->now_ns);
    timeline->now_ns = event.at_ns;
    timeline->run_count++;
    event.run(event.owner, event.argument);
    return true;
}
