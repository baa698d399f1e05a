#!/usr/bin/env python3
"""An idle cluster of three uses less than 1 % of one core. RAFTKV_IDLE_SHARE and
RAFTKV_IDLE_SECONDS change the share and for how long it is measured."""

import os
import time

from cluster import Cluster, check, cpu_seconds, eventually, patience, run

SHARE_MAX = float(os.environ.get("RAFTKV_IDLE_SHARE", "0.01"))
SECONDS = float(os.environ.get("RAFTKV_IDLE_SECONDS", "5"))


def idle_share(cluster, seconds):
    """Processor time of all nodes together as a share of one core, over `seconds` of silence."""
    before, began = sum(cpu_seconds(node.pid) for node in cluster.nodes), time.monotonic()
    eventually("silence passes", lambda: time.monotonic() >= began + seconds, seconds + 10)
    used = sum(cpu_seconds(node.pid) for node in cluster.nodes) - before
    return used / (time.monotonic() - began)


def an_idle_cluster_sleeps(build):
    """Measured once it has come to rest; a second time if a busy machine spoilt the first."""
    with Cluster(build, 3) as cluster:
        leader = cluster.start()
        client = cluster.client()
        for number in range(200):
            check(client.set(f"k{number}", b"v" * 100).is_("OK"), "it has had work")
        cluster.agree()
        idle_share(cluster, 0.5)  # what work has left behind is done in here
        for _ in range(2):
            share = idle_share(cluster, SECONDS)
            print(f"  {share * 100:.2f} % of a core, with one idle client")
            if share < patience(SHARE_MAX):
                break
        check(share < patience(SHARE_MAX), f"an idle cluster uses {share * 100:.2f} % of a core")
        check(leader.alive, "and lives")


run(an_idle_cluster_sleeps, seconds=60)
