/* Scenarios: exchanges of messages as text. A file is a list of blocks; a block is commands, a line
 * of four dashes, and all that came out of them. Blank lines part the blocks, # begins a comment.
 *
 *     nodes 3
 *     timeout 1
 *     ----
 *     1     becomes pre-candidate, term 0
 *     1->2  pre-vote t1 last 0/0
 *     1->3  pre-vote t1 last 0/0
 *
 * Before anything happens:
 *     nodes 3                  nodes 1, 2, 3: empty, heartbeat 50 ms, election timeout 150-300 ms
 *     log 1  1/1 4/2           what node 1 has on disk, as term/index
 *     term 1 5 [vote 2]        its term on disk (by default that of its last entry) and vote
 * Events:
 *     lead 1 term 5            node 1 is elected by votes out of thin air; the others know nothing
 *     timeout 1                the clock goes on to node 1's deadline, and its timer fires
 *     wait 40                  the clock goes on, and no timer fires
 *     propose 1, read 1, transfer 1 2, transfer 1 best
 *     persisted 1 [2]          all writes of node 1 (or the 2 oldest) reach the disk
 *     crash 1, restart 1
 *     lost 1 2                 the connection of 1 and 2 is gone with all on it: 1 notices
 * Messages, in the order sent for each pair of nodes:
 *     deliver 1 2 [all]        the oldest one (or all there are)
 *     drop 1 2 [all]           likewise, but lost
 *     repeat 1 2               deliver the oldest one and leave it on the wire
 *     later 1 2                the oldest one becomes the newest
 *     isolate 1, rejoin 1      all from and to node 1 is lost; no more
 *     room 1 2 10              the link has room for 10 entries a message (at first: 64)
 *     settle                   deliver and persist until nothing moves
 *     work 1000                1000 ms go by with all timers; what comes out is not told
 * To look:
 *     show 1, peer 1 2         the state of node 1; what it knows of node 2 */
#pragma once

#include <stdio.h>

/* Run the scenario `source`. The whole file as it should read goes to `result`: the same commands,
 * with what has come out. Aborts on a broken invariant, and with a message on a line that is no
 * command. `name` is for the message. */
void scenario_run(const char *name, const char *source, FILE *result);
