/* Simulated time: one heap of events in the order of (time, tie, sequence). The tie is drawn from the
 * seed, so that what happens at one moment happens in an order of chance, the same for each run.
 *
 * Time is nanoseconds of the world, from 0. Events cannot be taken back: whoever schedules them keeps
 * a generation number of its own in `argument`, and ignores what is out of date. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/random.h"

struct timeline; /* opaque */

typedef void timeline_run(void *owner, uint64_t argument);

struct timeline *timeline_new(uint64_t seed);
void timeline_free(struct timeline *timeline); /* accepts NULL */

uint64_t timeline_now_ns(const struct timeline *timeline);
/* Calls run(owner, argument) at `at_ns`, or now if that is past. */
void timeline_at(struct timeline *timeline, uint64_t at_ns, timeline_run *run, void *owner,
                 uint64_t argument);
/* Runs the next event that is due at or before `until_ns`; false (and time is `until_ns`) when there
 * is none. */
bool timeline_step(struct timeline *timeline, uint64_t until_ns);
uint64_t timeline_events(const struct timeline *timeline); /* run so far */
