/* What of a node's log is on stable storage: followed on the simulated disk itself, record by record,
 * and told to the oracle. So the oracle knows what a node can promise without asking the node.
 *
 * It reads what a recovery would read that has lost everything unstable: the stream of records from
 * its beginning to the first place that holds no good one. What stands behind such a hole does not
 * count until the hole is filled.
 *
 *     stable_log_rescan(log);            before each start: all that is there, from the beginning
 *     stable_log_on_stable(log, path);   bytes of that file have become stable: what is new
 *     stable_log_reset(log);             the process died: nothing more until the next rescan
 *
 * A rescan tells again what was told before; the oracle takes that for what it is. */
#pragma once

#include <stdint.h>

#include "tests/sim/disk.h"
#include "tests/sim/oracle.h"

struct stable_log; /* opaque */

/* Of node slot `node`, whose directory is <path>/<node_id>/ on `disk`. */
struct stable_log *stable_log_new(struct oracle *oracle, const struct disk *disk, int node,
                                  const char *path, uint32_t node_id);
void stable_log_free(struct stable_log *log); /* accepts NULL */

void stable_log_on_stable(struct stable_log *log, const char *path);
void stable_log_reset(struct stable_log *log);
void stable_log_rescan(struct stable_log *log);
/* The position of the stream behind the last record that counts. */
uint64_t stable_log_position(const struct stable_log *log);
