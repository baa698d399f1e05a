/* One node: the meeting point of Raft, the store, storage, peers and clients. Single-threaded; no
 * globals: many nodes may live in one process, each on its own `struct os`.
 *
 *     struct node *node = node_new(os, &config, id, &error);
 *     while (node_turn(node))
 *         ;
 *     code = node_exit_code(node);
 *     node_free(node);
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/config.h"
#include "server/error.h"
#include "server/os/os.h"

struct node; /* opaque */

/* Recover the data directory and start to listen. `config` is borrowed for the node's life; `id` is
 * one of its servers. NULL on failure, with `error` set and `exit_code` as below. */
struct node *node_new(struct os *os, const struct config *config, uint32_t id, int *exit_code,
                      struct error *error);

/* One turn of the loop: waits until there is something to do, and does it. False when the node has
 * stopped: see node_exit_code(). */
bool node_turn(struct node *node);

/* Why it stopped: NODE_EXIT_OK after SIGTERM or SIGINT; NODE_EXIT_FAILED after an error of the
 * system that a restart may mend; NODE_EXIT_REFUSED where a restart would not help. */
#define NODE_EXIT_OK 0
#define NODE_EXIT_FAILED 1
#define NODE_EXIT_REFUSED 2
int node_exit_code(const struct node *node);

void node_free(struct node *node); /* accepts NULL */
