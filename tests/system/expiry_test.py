#!/usr/bin/env python3
"""Keys expire by the log clock: not before their time, soon after it, on all nodes, for good."""

import time

from cluster import Cluster, check, eventually, run, patience

EARLY_SECONDS = 0.02  # the log clock counts milliseconds; both ends of a measurement are rounded


def gone(client, key):
    return client.read(key).code == "ERR_NOT_FOUND"


def a_key_lives_for_its_time(build):
    with Cluster(build, 3) as cluster:
        cluster.start()
        client = cluster.client()
        client.set("stays", b"v")
        keys_before = int(cluster.leader().status()["keys"])
        began = time.monotonic()
        first = client.set("k", b"v", exptime=1)
        reply = client.read("k")
        if time.monotonic() < began + 0.9:
            check(reply.value == b"v" and reply.words[2] == "1", f"it is there for now: {reply}")
        eventually("it expires", lambda: gone(client, "k"))
        took = time.monotonic() - began
        check(took > 1 - EARLY_SECONDS, f"not before its second is over: {took:.3f} s")
        check(took < patience(3), f"and soon after it: {took:.3f} s")
        check(client.delete("k").is_("ERR_NOT_FOUND"), "it cannot be deleted any more")
        check(client.cas("k", b"w", first.reply.version).is_("ERR_NOT_FOUND"), "nor compared")
        again = client.cas("k", b"w", 0)
        check(again.is_("OK") and again.reply.version > first.reply.version,
              f"it can be made again, with a greater version: {again}")
        check(client.delete("k").is_("DELETED"), "and deleted")
        check(client.read("stays").words[2] == "0", "0 means never")
        eventually("its memory is taken back without a request for it",
                   lambda: int(cluster.leader().status()["keys"]) <= keys_before)
        cluster.agree()


def it_expires_without_any_traffic(build):
    """Nobody asks: the leader moves the clock itself, and `status` shows it on all nodes."""
    with Cluster(build, 3) as cluster:
        cluster.start()
        client = cluster.client()
        for number in range(300):
            check(client.set(f"k{number}", b"v", exptime=1).is_("OK"), "three hundred keys")
        eventually("all are gone on every node, unasked", lambda: all(
            (node.status() or {}).get("keys") == "0" for node in cluster.nodes))
        cluster.agree()


def getm_tells_what_remains(build):
    with Cluster(build, 3) as cluster:
        cluster.start()
        client = cluster.client()
        check(client.set("k", b"v", exptime=100).is_("OK"), "a key with time left")
        remaining = int(client.read("k").words[2])
        check(95 <= remaining <= 100, f"about a hundred seconds: {remaining}")
        now = eventually("they count down", lambda: _fewer(client, remaining), 5)
        check(now >= remaining - patience(5), f"second by second: {now} after {remaining}")
        version = client.read("k").version
        check(client.cas("k", b"w", version, exptime=7).is_("OK"), "cas gives another time")
        check(0 < int(client.read("k").words[2]) <= 7, "that one")
        check(client.set("k", b"x").is_("OK"), "set without a time")
        check(client.read("k").words[2] == "0", "takes it away")


def _fewer(client, than):
    now = int(client.read("k").words[2])
    return now if now < than else None


def what_expired_stays_gone(build):
    """After failover, and after all nodes were killed; and what has time left keeps it."""
    with Cluster(build, 3) as cluster:
        cluster.start()
        client = cluster.client()
        check(client.set("short", b"v", exptime=1).is_("OK"), "a short life")
        check(client.set("long", b"v", exptime=3600).is_("OK"), "a long one")
        check(client.set("ever", b"v").is_("OK"), "an endless one")
        eventually("the short one expires", lambda: gone(client, "short"))

        def as_it_should_be(when):
            check(gone(client, "short"), f"{when}, what expired stays gone")
            reply = client.read("long")
            check(reply.code == "VALUE" and 3480 < int(reply.words[2]) <= 3600,
                  f"{when}, a long life goes on: {reply}")
            check(client.read("ever").words[2] == "0", f"{when}, an endless one too")

        old = cluster.leader()
        old.kill()
        as_it_should_be("after a failover")
        old.start()
        cluster.agree()
        cluster.kill()
        cluster.start()
        as_it_should_be("after a restart of all")
        cluster.agree()


def it_expires_across_a_failover(build):
    """The leader dies while a key still lives; its successor ends it: not early, and not never."""
    with Cluster(build, 3) as cluster:
        leader = cluster.start()
        client = cluster.client()
        began = time.monotonic()
        check(client.set("k", b"v", exptime=1).is_("OK"), "a key")
        leader.kill()
        eventually("it expires under the next leader", lambda: gone(client, "k"))
        took = time.monotonic() - began
        check(took > 1 - EARLY_SECONDS, f"not early: {took:.3f} s")
        check(took < patience(6), f"and soon: {took:.3f} s")
        leader.start()
        eventually("the old leader is back", lambda: leader.status())
        cluster.agree()


run(a_key_lives_for_its_time, it_expires_without_any_traffic, getm_tells_what_remains,
    what_expired_stays_gone, it_expires_across_a_failover, seconds=60)
