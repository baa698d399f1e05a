/* This build has mutants: the table of their names is made by tests/mutants/plant. */
#include <stdio.h>
#include <string.h>

#include "tests/mutants/active.h"
#include "tests/sim/mutant.h"

int mutant_active;

static const struct {
    int number;
    const char *name, *levels;
} mutants[] = {
#include "tests/mutants/names.h"
};

bool mutant_choose(const char *name)
{
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++) {
        if (strcmp(mutants[i].name, name) != 0)
            continue;
        mutant_active = mutants[i].number;
        return true;
    }
    return false;
}

void mutant_print_all(void)
{
    for (size_t i = 0; i < sizeof mutants / sizeof mutants[0]; i++)
        printf("%s %s\n", mutants[i].name, mutants[i].levels);
}
