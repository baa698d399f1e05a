/* The process of level 3: a whole node, the object files of the server themselves. */
#pragma once

#include "tests/sim/machine.h"

struct node;

/* machine->config has a server of the id machine->id, whose host is OS_SIM_HOST_FORMAT of the slot. */
extern const struct process_type node_process;

/* The node that runs there; NULL if it is down. For checks: look, do not touch. */
const struct node *node_process_node(const struct machine *machine);
/* The chain of its log's entry at `index`, which it must have; without reading. */
uint64_t node_process_chain(const struct machine *machine, uint64_t index);
