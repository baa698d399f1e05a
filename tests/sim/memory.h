/* Memory of a simulated process. The objects of the server call malloc() and its kin; the simulator
 * is linked with --wrap for them, and books what a process takes, so that a crash in the middle of
 * anything gives all of it back. While no process is current, memory is the simulator's own.
 *
 * Compilers that know malloc() believe that nobody watches it, and may move it over a memory_enter():
 * the files of the simulator are compiled with -fno-builtin-malloc, -calloc, -realloc and -free. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct memory; /* opaque: the blocks of one process */

struct memory *memory_new(void);
void memory_free(struct memory *memory); /* and all blocks left; accepts NULL */
/* From here on, allocations belong to `memory`; NULL: to the simulator. Returns the one before. */
struct memory *memory_enter(struct memory *memory);
void memory_free_all(struct memory *memory);
uint64_t memory_bytes(const struct memory *memory);
uint64_t memory_blocks(const struct memory *memory);
