#include "tests/sim/node_process.h"

#include <stdio.h>
#include <string.h>

#include "server/node_state.h"

/* What main() does, and says, on standard error. */
static void *start(struct machine *machine, int *exit_code)
{
    struct error error;
    struct node *node = node_new(machine->os, machine->config, machine->id, exit_code, &error);
    if (node != NULL)
        return node;
    char line[sizeof error.text + 64];
    int size = snprintf(line, sizeof line, "raftkv-server: node %u will not start: %s\n",
                        (unsigned)machine->id, error.text);
    (void)os_log(machine->os, line, (size_t)size < sizeof line ? (size_t)size : sizeof line - 1);
    return NULL;
}

static bool turn(void *process, uint64_t *wake_ns)
{
    *wake_ns = MACHINE_AT_ONCE; /* the wait is the node's own */
    return node_turn(process);
}

static int exit_code(const void *process)
{
    return node_exit_code(process);
}

static void end(void *process)
{
    node_free(process);
}

static const struct raft *raft(const void *process)
{
    return &((const struct node *)process)->raft;
}

static const struct kv *kv(const void *process)
{
    return ((const struct node *)process)->kv;
}

static uint64_t applied(const void *process)
{
    return ((const struct node *)process)->applied_index;
}

const struct process_type node_process = {
    .name = "node",
    .start = start,
    .turn = turn,
    .exit_code = exit_code,
    .free = end,
    .raft = raft,
    .kv = kv,
    .applied = applied,
};

const struct node *node_process_node(const struct machine *machine)
{
    return machine->process;
}

uint64_t node_process_chain(const struct machine *machine, uint64_t index)
{
    return storage_chain(node_process_node(machine)->storage, index);
}
