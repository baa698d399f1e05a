#!/usr/bin/env python3
"""A disk that is really full: a small file system in memory, and a ballast file that takes the rest of
it away and gives it back. Needs root, for the mount; without it the test is skipped (exit code 77)."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from cluster import CALM, Cluster, check, eventually, run, set_request

DISK_BYTES = 14 << 20
LIMITS = {"ValueBytes": 4096, "BatchBytes": 65536, "SegmentBytes": 1179648}
VALUE = b"v" * 4096
WRITES_MAX = 20000
TERMS = 50  # a block of the log each: more than is left when entries no longer fit


@contextlib.contextmanager
def small_disk():
    place = pathlib.Path(tempfile.mkdtemp(prefix="raftkv-disk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "raftkv-test", place],
        capture_output=True, text=True, check=False)
    try:
        if mounted.returncode != 0:
            print(f"skipped: no file system of our own here: {mounted.stderr.strip()}")
            sys.exit(77)
        yield place
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


def leave(place, size):
    """Fill the disk up to `size` bytes that stay free; returns the file to remove."""
    ballast = place / "ballast"
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    with open(ballast, "wb") as file:
        file.write(b"\0" * max(0, free - size))
    return ballast


def write_until_refused(connection):
    for number in range(WRITES_MAX):
        reply = connection.ask(set_request(f"k{number}", VALUE))
        if reply.code != "OK":
            return number, reply
    return WRITES_MAX, None


def a_full_disk_refuses_writes_and_nothing_else(build):
    with small_disk() as place, \
            Cluster(build, 1, CALM, LIMITS, directory=place) as cluster:
        node = cluster.start()
        ballast = leave(place, 2 << 20)
        with node.connect() as connection:
            taken, reply = write_until_refused(connection)
            check(reply is not None, f"{WRITES_MAX} writes do not fit on the disk")
            check(reply.code == "ERR_NO_SPACE" and b"disk" in reply.line,
                  f"a write that finds no space says so: {reply}")
            check(connection.ask(b"get k0\r\n").value == VALUE, "reads go on")
            check(connection.ask(b"get k%d\r\n" % (taken - 1)).value == VALUE,
                  "and find all that was acknowledged")
            check(connection.ask(b"get k%d\r\n" % taken).code == "ERR_NOT_FOUND",
                  "what was refused did not happen")
            status = connection.status()
            check(status["disk_full"] == "yes", "status tells")
            check(int(status["refused_no_space"]) >= 1, "and counts")

            ballast.unlink()
            eventually("with space there are writes again, without a restart",
                       lambda: connection.ask(set_request("after", b"x")).code == "OK")
            check(connection.status()["disk_full"] == "no", "status tells that too")
        node.kill()
        with cluster.start().connect() as connection:
            check(connection.ask(b"get k%d\r\n" % (taken - 1)).value == VALUE, "all is there")
            check(connection.ask(b"get after\r\n").value == b"x", "after a restart too")


def move(node, place):
    """The node's data lies on that disk from now on."""
    node.kill()
    subprocess.run(["cp", "-a", node.data(), place / "node"], check=True)
    subprocess.run(["rm", "-rf", node.data()], check=True)
    node.data().symlink_to(place / "node")
    node.start()
    eventually("it is back", node.status)


def is_full(node):
    return (node.status() or {}).get("disk_full") == "yes"


def one_full_follower_stops_nobody(build):
    """Its log ends, it still follows, nothing is sent to it in vain, and it catches up when there is
    space."""
    with small_disk() as place, Cluster(build, 3, CALM, LIMITS) as cluster:
        cluster.start()
        poor = cluster.followers()[0]
        move(poor, place)
        ballast = leave(place, 1 << 20)
        term = poor.status()["term"]

        client = cluster.client()
        for number in range(1500):
            check(client.set(f"k{number}", VALUE).is_("OK"), "the others take every write")
        status = poor.status()
        check(status["disk_full"] == "yes", "the full one says so")
        check(int(status["stripped_appends"]) > 0, "and takes appends without their entries")
        check(status["term"] == term, "it starts no election")

        leader = cluster.leader()
        before = int(leader.status()["peers_sent_bytes"])
        began = time.monotonic()
        eventually("a second passes", lambda: time.monotonic() - began > 1)
        sent = int(leader.status()["peers_sent_bytes"]) - before
        check(sent < 200_000, f"a cluster without clients sends little: {sent} bytes in a second")

        ballast.unlink()
        cluster.agree()
        poor.kill()


def a_full_majority_refuses_writes_by_name(build):
    with small_disk() as one, small_disk() as two, Cluster(build, 3, CALM, LIMITS) as cluster:
        cluster.start()
        ballasts = []
        for node, place in zip(cluster.followers(), (one, two)):
            move(node, place)
            ballasts.append(leave(place, 1 << 20))
        leader = cluster.leader()
        poor = [node for node in cluster.nodes if node is not leader]
        with leader.connect(30) as connection:
            refused = None
            for number in range(WRITES_MAX):
                reply = connection.ask(set_request(f"k{number}", VALUE))
                if reply.code == "ERR_NO_SPACE":
                    refused = reply
                    break
                check(reply.code in ("OK", "ERR_TIMEOUT", "ERR_BUSY"), f"an honest answer: {reply}")
            check(refused is not None, "a write that no majority has room for is refused by name")
            check(all(is_full(node) for node in poor), "both are full")
            check(connection.ask(b"get k0\r\n").value == VALUE, "reads go on")
            for ballast in ballasts:
                ballast.unlink()
            eventually("with space there are writes again",
                       lambda: connection.ask(set_request("after", b"x")).code == "OK")
        cluster.agree()
        for node in poor:
            node.kill()


def elections_do_not_use_up_a_full_disk(build):
    """Each term wants a block of the log; a full disk has few, and the node must outlive them."""
    with small_disk() as place, Cluster(build, 3, {}, LIMITS) as cluster:
        cluster.start()
        poor = cluster.followers()[0]
        move(poor, place)
        ballast = leave(place, 1 << 20)
        client = cluster.client()
        for number in range(WRITES_MAX):
            check(client.set(f"k{number}", VALUE).is_("OK"), "the others take every write")
            if number % 50 == 0 and int(poor.status()["stripped_appends"]) > 0:
                break
        first = int(poor.status()["term"])
        for _ in range(300):
            for node in cluster.nodes:
                if node is not poor:
                    node.kill()
            eventually("a leader of nobody steps down",
                       lambda: (poor.status() or {}).get("role") != "leader")
            cluster.start()
            check(poor.alive, "the node with the full disk lives on")
            if int(poor.status()["term"]) > first + TERMS:
                break
        check(int(poor.status()["term"]) > first + TERMS, "there were many elections")
        ballast.unlink()
        cluster.agree()
        poor.kill()


run(a_full_disk_refuses_writes_and_nothing_else, one_full_follower_stops_nobody,
    a_full_majority_refuses_writes_by_name, elections_do_not_use_up_a_full_disk, seconds=150)
