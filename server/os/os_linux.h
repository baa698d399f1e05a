/* The real system: Linux. One a process, since a signal or a limit belongs to a process.
 *
 * Beyond what os.h says: os_linux_new() raises the soft limit of descriptors to the hard one, and
 * os_resolve() prefers an IPv4 address if a name has both kinds. */
#pragma once

#include "server/os/os.h"

struct os *os_linux_new(void);
void os_linux_free(struct os *os); /* accepts NULL */
