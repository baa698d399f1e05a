#!/usr/bin/env python3
"""A write that one client has seen acknowledged is seen by every get of any other client that
begins afterwards, whichever node answers it; also while leaders come and go, or sleep."""

import itertools
import os
import signal
import time

from cluster import Cluster, Workers, check, eventually, run, set_request

SECONDS = float(os.environ.get("RAFTKV_VISIBILITY_SECONDS", "2"))


def write_here_read_there(build):
    with Cluster(build, 3) as cluster:
        cluster.start()
        clients = [cluster.client(node) for node in cluster.nodes]
        for number in range(300):
            value = b"%d" % number
            writer = clients[number % 3]
            check(writer.set("k", value).is_("OK"), "the write is acknowledged")
            for reader in clients:
                reply = reader.read("k")
                check(reply.value == value, f"a get after the acknowledgement of {number}: {reply}")


def readers_never_see_less_than_was_acknowledged(build):
    """Writers count upwards, each on its own key; readers note what was acknowledged before they
    ask. Half-way the leader is killed, and comes back."""
    with Cluster(build, 3) as cluster:
        leader = cluster.start()
        keys = ["a", "b"]
        acknowledged = dict.fromkeys(keys, 0)
        begun = dict.fromkeys(keys, 0)

        def writer(key):
            def work(stop):
                client = cluster.client()
                for number in itertools.count(1):
                    if stop.is_set():
                        return
                    begun[key] = number
                    outcome = client.set(key, b"%d" % number)
                    if outcome.is_("OK"):
                        acknowledged[key] = number
            return work

        def reader(node):
            def work(stop):
                client = cluster.client(node)
                seen = dict.fromkeys(keys, 0)
                for key in itertools.cycle(keys):
                    if stop.is_set():
                        return
                    floor = max(acknowledged[key], seen[key])
                    reply = client.read(key)
                    number = int(reply.value) if reply.code == "VALUE" else 0
                    check(floor <= number <= begun[key],
                          f"a get of {key} that began after {floor} was acknowledged or read: "
                          f"{reply}")
                    seen[key] = number
            return work

        workers = Workers(*map(writer, keys), *map(reader, cluster.nodes))

        def progress(key, more):
            goal = acknowledged[key] + more
            eventually("the writers go on", lambda: workers.errors or acknowledged[key] >= goal)
            workers.check()

        progress("a", 100)
        leader.kill()
        progress("b", 100)
        leader.start()
        until = time.monotonic() + SECONDS
        eventually("time passes", lambda: workers.errors or time.monotonic() > until)
        workers.finish()


def a_leader_that_slept_answers_nothing_old(build):
    """Stop the leader; write through its successor; the requests that waited in the old leader's
    socket are answered when it wakes, but not from what it remembers."""
    with Cluster(build, 3) as cluster:
        cluster.start()
        for turn in range(3):
            old, new = b"old-%d" % turn, b"new-%d" % turn
            check(cluster.client().set("k", old).is_("OK"), "the first write")
            sleeper = cluster.leader()
            with sleeper.connect(20) as connection:
                check(connection.ask(b"get k\r\n").value == old, "it is readable")
                sleeper.signal(signal.SIGSTOP)
                try:
                    connection.send(b"get k\r\n" * 20)  # these began before the second write
                    write_through([n for n in cluster.nodes if n is not sleeper], new)
                    connection.send(b"get k\r\n" * 20)  # and these after it
                finally:
                    sleeper.signal(signal.SIGCONT)
                for place in range(40):
                    reply = connection.reply()
                    may_be = {old, new} if place < 20 else {new}
                    is_refusal = reply.is_error and reply.code != "ERR_NOT_FOUND"
                    check(is_refusal or reply.value in may_be,
                          f"get {place} of a leader that slept is no older than it may be: {reply}")
            cluster.agree()


def write_through(nodes, value):
    """Set `k` through nodes that are awake, and may still name the one that is not."""

    def write():
        for node in nodes:
            with node.connect() as connection:
                if connection.ask(set_request("k", value)).code == "OK":
                    return True
        return False

    eventually("the others go on without the leader that sleeps", write)


run(write_here_read_there, readers_never_see_less_than_was_acknowledged,
    a_leader_that_slept_answers_nothing_old, seconds=60)
