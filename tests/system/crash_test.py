#!/usr/bin/env python3
"""Five nodes under load. The leader dies by `kill -9` every second; then all five die at once.
Every acknowledged write is there with its version, the digests are equal, nobody told anybody what
the log does not hold.

RAFTKV_CRASH_SECONDS says for how long the leaders die (20)."""

import os
import time

from cluster import Cluster, Workers, check, check_indices, eventually, patience, run
from history import History

SECONDS = float(os.environ.get("RAFTKV_CRASH_SECONDS", "20"))
WRITERS = ["anna", "ben", "cleo", "dan"]


def kill_leaders(cluster, workers, seconds):
    """One leader a second, if there is one by then; it is started again at once."""
    kills = 0
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        workers.check()
        next_kill = time.monotonic() + 1.0
        leader = cluster.leader(30)
        for node in cluster.nodes:
            status = node.status()
            if status:
                check_indices(status)
        leader.kill()
        leader.start()
        kills += 1
        eventually("a second passes",
                   lambda: workers.errors or time.monotonic() >= next_kill, 60)
    return kills


def acknowledged_writes_survive(build):
    history = History()
    with Cluster(build, 5) as cluster:
        cluster.start()
        workers = Workers(*(history.writer(cluster, name) for name in WRITERS),
                          history.reader(cluster, WRITERS))
        kills = kill_leaders(cluster, workers, SECONDS)
        before = history.acknowledged()
        eventually("writes go on after the last kill",
                   lambda: workers.errors or history.acknowledged() > before + 20)
        workers.check()
        cluster.kill()
        workers.stop.set()  # its clients have lost all their servers, in the middle of requests
        began = time.monotonic()
        cluster.start()
        down = time.monotonic() - began
        workers.finish(60)
        print(f"  {kills} leaders killed; back {down:.2f} s after all five were started")
        print(f"  {history.verify(cluster.client())}")
        statuses = cluster.agree(30)
        check(len(statuses) == 5, "all five nodes are up")
        check(int(statuses[0]["keys"]) <= len(history.writes) + 1, "no key that nobody wrote")
        check(down < patience(10), f"the cluster is back soon: {down:.1f} s")
        check(history.acknowledged() > 20 * SECONDS, "the load was one")


run(acknowledged_writes_survive, seconds=60 + 2 * SECONDS)
