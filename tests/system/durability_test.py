#!/usr/bin/env python3
"""No acknowledged write is lost by `kill -9`: of the only node, of all nodes at once."""

import os

from cluster import Cluster, Workers, check, eventually, run, set_request
from history import History

ROUNDS = int(os.environ.get("RAFTKV_DURABILITY_ROUNDS", "6"))


def kill_all_under_load(build, count, rounds):
    history = History()
    with Cluster(build, count) as cluster:
        cluster.start()
        names = ["anna", "ben", "cleo"]
        workers = Workers(*(history.writer(cluster, name) for name in names),
                          history.reader(cluster, names))
        for _ in range(rounds):
            before = history.acknowledged()
            eventually("there is load",
                       lambda: workers.errors or history.acknowledged() > before + 150)
            workers.check()
            cluster.kill()
            cluster.start()
        workers.finish()
        print(f"  {history.verify(cluster.client())}")
        cluster.agree()


def one_node_killed_again_and_again(build):
    kill_all_under_load(build, 1, ROUNDS)


def three_nodes_killed_at_once(build):
    kill_all_under_load(build, 3, ROUNDS // 2)


def a_pipeline_cut_by_a_kill(build):
    """Thousands of writes in one go, the node killed in their midst: what was acknowledged is
    there, and what is there is a prefix of what was sent."""
    count = 4000
    with Cluster(build, 1) as cluster:
        for turn in range(3):
            node = cluster.start()
            names = [f"p{turn}-{i}" for i in range(count)]
            with node.connect(10) as connection:
                connection.socket.setblocking(False)
                data = b"".join(set_request(name, name.encode() * 4) for name in names)
                sent = 0
                while sent < len(data) // 2:
                    try:
                        sent += connection.socket.send(data[sent:sent + 65536])
                    except BlockingIOError:
                        break
                check(connection.reply().code == "OK", "the first is acknowledged")
                node.kill()
                acknowledged = 1
                try:
                    while connection.reply().code == "OK":
                        acknowledged += 1
                except OSError:
                    pass  # the end of what the node still said
            cluster.start()
            with cluster.nodes[0].connect(20) as connection:
                there = [connection.ask(b"get %s\r\n" % name.encode()).value == name.encode() * 4
                         for name in names]
            check(all(there[:acknowledged]), f"all {acknowledged} acknowledged writes are there")
            found = sum(there)
            check(all(there[:found]), f"what is there is a prefix: {found} of {count}")


def an_old_version_is_never_given_again(build):
    """Versions go on after restarts, deletes included."""
    with Cluster(build, 1) as cluster:
        newest = 0
        for turn in range(4):
            cluster.start()
            client = cluster.client()
            for _ in range(5):
                outcome = client.set("k", b"%d" % turn)
                check(outcome.is_("OK") and outcome.reply.version > newest,
                      f"a version above {newest}: {outcome}")
                newest = outcome.reply.version
                check(client.delete("k").is_("DELETED"), "and deleted")
            cluster.kill()


run(one_node_killed_again_and_again, three_nodes_killed_at_once, a_pipeline_cut_by_a_kill,
    an_old_version_is_never_given_again, seconds=60)
