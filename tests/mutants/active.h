/* Which planted bug is on: its number in mutants.txt, 0 for none. */
#pragma once

extern int mutant_active;
