/* The second implementation of server/os/os.h: a process's descriptors over a simulated machine. It
 * keeps os.h's contract to the letter, edge-triggered readiness included, and adds what real systems
 * do to try it: short reads and writes, late and spurious events, -EMFILE, flushes that are done out
 * of order, slow, failed or never.
 *
 * A blocking os_epoll_wait() with nothing ready leaves the turn (machine_leave, MACHINE_WAITS): the
 * turn has done nothing yet but arm its timer, and is begun anew when something is ready. */
#pragma once

#include "server/os/os.h"
#include "tests/sim/machine.h"

/* For a process that starts; freed with os_sim_free (descriptors are dropped without closing). */
struct os *os_sim_new(struct machine *machine);
void os_sim_free(struct os *os); /* accepts NULL */
void os_sim_signal(struct os *os, int number);
/* Level 2, which has no reactor: called when the flush queue has news. */
void os_sim_on_flush(struct os *os, void (*on_flush)(void *context), void *context);
/* The machine's clock runs at another rate: armed timers are due at another time of the world. */
void os_sim_clock_changed(struct os *os);
int os_sim_descriptors(const struct os *os); /* open ones */

/* Node slot `slot` is the host "n<slot>"; this is how configurations of the simulator name it. */
#define OS_SIM_HOST_FORMAT "n%d"
