/* This build has no mutants. */
#include "tests/sim/mutant.h"

bool mutant_choose(const char *name)
{
    (void)name;
    return false;
}

void mutant_print_all(void)
{
}
