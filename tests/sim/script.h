/* Scenarios as text: who fails when, and what must hold. Format: tests/sim/scenarios/README.md. */
#pragma once

#include <stdbool.h>

/* Runs one file. 0 if all that it expects held; else 1, with file:line and what came instead on
 * stderr. A broken rule ends the process, as in any run. */
int script_run(const char *path, bool print);
