#!/usr/bin/env python3
"""The other back end of the flush, "Flush": "sync": the same promises, and nothing that waits for the
next heartbeat because a flush was done at once."""

import time

from cluster import Cluster, check, describe_times, patience, percentile, run, set_request
from cluster import time_failovers

SYNC = {"Flush": "sync"}
WRITES = 200


def a_write_waits_for_no_timer(build):
    with Cluster(build, 3, SYNC) as cluster:
        leader = cluster.start()
        check(leader.status()["flush"] == "sync", "the back end in force is told")
        times = []
        with leader.connect() as connection:
            for number in range(WRITES):
                began = time.monotonic()
                check(connection.ask(set_request(f"k{number}", b"v")).code == "OK", "it is written")
                times.append(1000 * (time.monotonic() - began))
        median = percentile(sorted(times), 0.5)
        print(f"  a write: median {median:.2f} ms")
        check(median < patience(25), f"a write takes less than half a heartbeat: {median:.2f} ms")
        cluster.agree()


def failover(build):
    with Cluster(build, 3, SYNC) as cluster:
        cluster.start()
        times = time_failovers(cluster, 5)
        print(f"  {describe_times(times)}")
        check(percentile(sorted(times), 0.5) <= patience(400), "the median is at most 400 ms")


def all_killed_at_once(build):
    with Cluster(build, 3, SYNC) as cluster:
        cluster.start()
        client = cluster.client()
        for number in range(WRITES):
            check(client.set(f"k{number}", b"%d" % number).is_("OK"), "it is written")
        cluster.kill()
        cluster.start()
        for number in range(WRITES):
            check(client.read(f"k{number}").value == b"%d" % number, f"k{number} is there")
        cluster.agree()


run(a_write_waits_for_no_timer, failover, all_killed_at_once, seconds=60)
