#!/usr/bin/env python3
"""P8: SIGTERM hands the leadership over and ends with 0 within five seconds, nothing lost; SIGHUP
and SIGPIPE do nothing."""

import signal
import time

from cluster import CALM, Cluster, Workers, check, eventually, patience, run
from history import History

STOP_SECONDS_MAX = 5


def stop_in_time(node, number=signal.SIGTERM):
    began = time.monotonic()
    node.signal(number)
    code = node.exit_code(STOP_SECONDS_MAX)
    check(code == 0, f"{signal.Signals(number).name} ends node {node.id} with 0, not {code}")
    return time.monotonic() - began


def the_leader_hands_over(build):
    """With calm elections, a time without a leader would last a second; a handover is faster."""
    history = History()
    slow_elections = {"HeartbeatMs": 100, "ElectionMinMs": 3000, "ElectionMaxMs": 4000}
    with Cluster(build, 3, slow_elections) as cluster:
        cluster.start()
        workers = Workers(history.writer(cluster, "anna"), history.writer(cluster, "ben"),
                          history.reader(cluster, ["anna", "ben"]))
        eventually("there is load", lambda: workers.errors or history.acknowledged() > 100)
        for _ in range(3):
            leader = cluster.leader()
            leader.signal(signal.SIGTERM)
            began = time.monotonic()

            def has_successor():
                workers.check()
                for node in cluster.nodes:
                    if node is not leader and (node.status() or {}).get("role") == "leader":
                        return node
                return None

            eventually("another node leads", has_successor)
            took = time.monotonic() - began
            check(took < patience(2.5), f"sooner than by an election: {took:.2f} s")
            code = leader.exit_code(STOP_SECONDS_MAX)
            check(code == 0, f"the old one ends with 0, not {code}")
            before = history.acknowledged()
            eventually("writes go on",
                       lambda: workers.errors or history.acknowledged() > before + 20)
            leader.start()
            eventually("it is back", lambda: leader.status())
        workers.finish()
        print(f"  {history.verify(cluster.client())}")
        cluster.agree()


def followers_and_lonely_nodes_stop(build):
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        term = leader.status()["term"]
        for node, number in zip(cluster.followers(), (signal.SIGTERM, signal.SIGINT)):
            stop_in_time(node, number)
            node.start()
            eventually("it is back", lambda: node.status())
            cluster.agree()
        check(leader.status()["term"] == term, "no election came of it")
    with Cluster(build, 1) as cluster:
        node = cluster.start()
        check(cluster.client().set("k", b"v").is_("OK"), "a write")
        stop_in_time(node)
        cluster.start()
        check(cluster.client().read("k").value == b"v", "it is there after an orderly stop")


def connected_clients_do_not_hold_it_up(build):
    """Idle ones, half requests, and readers that do not read."""
    with Cluster(build, 1) as cluster:
        node = cluster.start()
        with node.connect() as idle, node.connect() as half, node.connect() as deaf:
            idle.ask(b"version\r\n")
            half.send(b"set k 0 100\r\nabc")
            deaf.ask(b"set big 0 500000\r\n" + b"x" * 500_000 + b"\r\n")
            deaf.send(b"get big\r\n" * 60)
            stop_in_time(node)


def all_stop_together(build):
    with Cluster(build, 5) as cluster:
        cluster.start()
        check(cluster.client().set("k", b"v").is_("OK"), "a write")
        for node in cluster.nodes:
            node.signal(signal.SIGTERM)
        for node in cluster.nodes:
            check(node.exit_code(STOP_SECONDS_MAX) == 0, f"node {node.id} ends with 0")
        cluster.start()
        check(cluster.client().read("k").value == b"v", "the write is there")
        cluster.agree()


def hangup_and_broken_pipes_are_harmless(build):
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        term = leader.status()["term"]
        client = cluster.client(leader)
        for turn in range(20):
            for node in cluster.nodes:
                node.signal(signal.SIGHUP)
                node.signal(signal.SIGPIPE)
            with leader.connect() as connection:  # a reader that is gone when its reply is written
                connection.send(b"get k\r\n" * 100)
                connection.abort()
            check(client.set("k", b"%d" % turn).is_("OK"), "the cluster serves")
        check(all(node.alive for node in cluster.nodes), "all nodes are alive")
        check(leader.status()["term"] == term, "the term is the same")


run(the_leader_hands_over, followers_and_lonely_nodes_stop, connected_clients_do_not_hold_it_up,
    all_stop_together, hangup_and_broken_pipes_are_harmless, seconds=60)
