/* Bugs planted on purpose (tests/mutants/): one of them may be switched on, in a build that has them. */
#pragma once

#include <stdbool.h>

/* False if this build has no mutant of that name. */
bool mutant_choose(const char *name);
void mutant_print_all(void);
