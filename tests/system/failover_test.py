#!/usr/bin/env python3
"""From the `kill -9` of the leader to the first acknowledged write, three nodes, twenty times: the
median is at most 400 ms."""

import os
import statistics

from cluster import Cluster, check, describe_times, patience, run, time_failovers

KILLS = int(os.environ.get("RAFTKV_FAILOVER_KILLS", "20"))
MEDIAN_SECONDS_MAX = 0.4


def a_dead_leader_is_replaced_soon(build):
    with Cluster(build, 3) as cluster:
        times = time_failovers(cluster, KILLS)
        cluster.agree()
        print("  ms:", *sorted(round(seconds * 1000) for seconds in times))
        print(f"  {describe_times(times)}")
        limit = patience(MEDIAN_SECONDS_MAX)
        check(statistics.median(times) <= limit, f"the median is at most {limit * 1000:.0f} ms")


run(a_dead_leader_is_replaced_soon, seconds=120)
