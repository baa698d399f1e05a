#!/usr/bin/env python3
"""Stated limits, at the limit and one beyond; what is malformed; and few descriptors."""

import re
import socket
import time

from cluster import (CALM, HOST, Cluster, Connection, check, cpu_seconds, eventually, patience, run,
                     set_request)

VALUE_MAX = 4096
KEY_MAX = 250


def refused(connection, request, code):
    """`request` is answered by `code`, and the connection goes on behind it."""
    reply = connection.ask(request)
    shown = request[:60]
    check(reply.code == code, f"{shown!r} is answered by {code}: {reply}")
    check(re.search(r" \S", reply.line.decode("latin-1")), f"{shown!r}: the error has a sentence")
    check(connection.ask(b"version\r\n").code == "VERSION", f"{shown!r}: the connection goes on")


def sizes_of_keys_and_values(build):
    with Cluster(build, 1, limits={"ValueBytes": VALUE_MAX}) as cluster:
        with cluster.start().connect() as connection:
            for size in (0, 1, VALUE_MAX - 1, VALUE_MAX):
                value = b"v" * size
                check(connection.ask(set_request("k", value)).code == "OK", f"{size} bytes fit")
                check(connection.ask(b"get k\r\n").value == value, f"{size} bytes come back")
            refused(connection, set_request("k", b"w" * (VALUE_MAX + 1)), "ERR_TOO_LARGE")
            refused(connection, b"cas k 0 1 %d\r\n%s\r\n" % (VALUE_MAX + 1, b"w" * (VALUE_MAX + 1)),
                    "ERR_TOO_LARGE")
            refused(connection, set_request("k", b"get k\r\n" * 10_000), "ERR_TOO_LARGE")
            check(connection.ask(b"get k\r\n").value == b"v" * VALUE_MAX, "nothing was changed")

            key = "k" * KEY_MAX
            check(connection.ask(set_request(key, b"1")).code == "OK", "250 bytes of key fit")
            check(connection.ask(b"get %s\r\n" % key.encode()).value == b"1", "and are found")
            check(connection.ask(b"getm %s\r\n" % key.encode()).value == b"1", "and are found")
            refused(connection, set_request(key + "k", b"1"), "ERR_TOO_LARGE")
            refused(connection, b"get %sk\r\n" % key.encode(), "ERR_TOO_LARGE")
            refused(connection, b"delete %sk\r\n" % key.encode(), "ERR_TOO_LARGE")
            check(connection.ask(b"delete %s\r\n" % key.encode()).code == "DELETED", "and deleted")


def any_byte_in_values_and_most_in_keys(build):
    with Cluster(build, 1) as cluster, cluster.start().connect() as connection:
        for value in (bytes(range(256)) * 3, b"\r\n", b"\n", b"\r", b"\r\nget k\r\n", b"\0" * 9,
                      b"\xff" * 9, b"END\r\n", b" "):
            check(connection.ask(set_request("k", value)).code == "OK", f"{value[:20]!r} is taken")
            check(connection.ask(b"get k\r\n").value == value, f"{value[:20]!r} comes back")
        for byte in range(256):
            key = b"a" + bytes([byte]) + b"z"
            if byte in b" \n":
                continue
            reply = connection.ask(b"get %s\r\n" % key)
            wanted = "ERR_CMD_ERR" if byte < 0x20 or byte == 0x7f else "ERR_NOT_FOUND"
            check(reply.code == wanted, f"a key with the byte {byte:#x} gives {wanted}: {reply}")
            if byte >= 0x80:
                check(connection.ask(set_request(key, b"%d" % byte)).code == "OK", "it is a key")
        for byte in range(0x80, 256):
            reply = connection.ask(b"get a%cz\r\n" % byte)
            check(reply.value == b"%d" % byte, f"keys are told apart by every byte: {reply}")
        refused(connection, b"set a\x01z 0 5\r\nget k\r\n", "ERR_CMD_ERR")


MALFORMED = [
    b"bogus\r\n", b"setx k 0 1\r\n", b"get\r\n", b"get a b\r\n", b"getm\r\n", b"delete\r\n",
    b"delete k noreply x\r\n", b"delete k nope\r\n", b"status now\r\n", b"version 1\r\n",
    b"set k 2147483648 1\r\nv\r\n", b"set k -1 1\r\nv\r\n", b"set k 1s 1\r\nv\r\n",
    b"set k 99999999999999999999 1\r\nv\r\n", b"cas k 0 x 1\r\nv\r\n",
    b"cas k 0 18446744073709551616 1\r\nv\r\n", b"cas k 0 -1 1\r\nv\r\n",
    b"get k\x00\r\n", b"\x00\r\n", b"\xff\xfe\r\n", b"OK 1\r\n", b"get\tk\r\n",
]

# Where the next request begins cannot be told: an error, and the connection may be closed.
UNCERTAIN = [
    b"set\r\n", b"set k\r\n", b"set k 0\r\n", b"set k 0 x\r\nv\r\n", b"set k 0 -1\r\n",
    b"set k 0 1 bogus\r\nv\r\n", b"set k 0 1 noreply x\r\nv\r\n", b"cas k 0 1\r\nv\r\n",
    b"set k 0 3\r\nabcdef\r\n", b"set k 0 4\r\nab\r\nc\r\n", b"set k 0 1e3\r\n",
    b"set k 0 0x10\r\n",
    b"set k 0 99999999999999999999\r\n", b"get " + b"k" * 5000 + b"\r\n",
]


def what_is_malformed(build):
    with Cluster(build, 1) as cluster:
        node = cluster.start()
        with node.connect() as connection:
            for request in MALFORMED:
                refused(connection, request, "ERR_CMD_ERR")
            for request in (b"set k 2147483648 1 noreply\r\nv\r\n",
                            b"cas k 0 x 1 noreply\r\nv\r\n"):
                refused(connection, request, "ERR_CMD_ERR")
        for request in UNCERTAIN:
            with node.connect() as connection:
                reply = connection.ask(request)
                check(reply.code in ("ERR_CMD_ERR", "ERR_TOO_LARGE"),
                      f"{request[:60]!r} is refused: {reply}")
                connection.finish()
                check(connection.at_end(), f"{request[:60]!r}: the server closes in the end")
        with node.connect() as connection:
            check(connection.ask(b"get k\r\n").code == "ERR_NOT_FOUND", "none of it took effect")


def results_of_cas_delete_and_noreply(build):
    with Cluster(build, 1) as cluster, cluster.start().connect() as connection:
        ask = connection.ask
        check(ask(b"cas k 0 7 1\r\nv\r\n").code == "ERR_NOT_FOUND", "cas of a missing key")
        first = ask(b"cas k 0 0 1\r\na\r\n")
        check(first.code == "OK", "cas with version 0 makes a key")
        again = ask(b"cas k 0 0 1\r\nb\r\n")
        check(again.code == "ERR_VERSION" and again.version == first.version, f"once: {again}")
        check(ask(b"delete k\r\n").code == "DELETED", "it is deleted")
        check(ask(b"delete k\r\n").code == "ERR_NOT_FOUND", "once")
        second = ask(b"cas k 0 0 1\r\nc\r\n")
        check(second.version > first.version, f"versions go on after a delete: {second}")
        connection.send(b"set k 0 1 noreply\r\nd\r\ncas k 0 1 1 noreply\r\ne\r\n"
                        b"delete missing noreply\r\nSET k 0 1 NOREPLY\r\nf\r\nget k\r\n")
        check(connection.reply().value == b"f", "noreply is silent, success or not")
        connection.send(b"delete k noreply\r\nget k\r\n")
        check(connection.reply().code == "ERR_NOT_FOUND", "a silent delete deletes")
        check(ask(b"set k 2147483647 1\r\ng\r\n").code == "OK", "the largest exptime")
        check(ask(b"getm k\r\n").words[2] in ("2147483647", "2147483646"), "comes back")


def a_small_pipeline_limit_is_backpressure(build):
    with Cluster(build, 1, limits={"Pipeline": 4}) as cluster:
        with cluster.start().connect(20) as connection:
            connection.send(b"".join(set_request("k", b"%d" % i) + b"get k\r\n"
                                     for i in range(500)))
            for i in range(500):
                check(connection.reply().code == "OK", "each is answered")
                check(connection.reply().value == b"%d" % i, "in order")


def served(connection):
    """Whether the server talks to this connection, rather than refuse or ignore it."""
    connection.timeout = patience(0.5)
    try:
        reply = connection.ask(b"version\r\n")
    except OSError:
        return False
    check(reply.code in ("VERSION", "ERR_BUSY"), f"at its limit a server says ERR_BUSY: {reply}")
    return reply.code == "VERSION"


def a_limit_of_connections(build):
    with Cluster(build, 1, limits={"Clients": 10}) as cluster:
        node = cluster.start()
        connections = [node.connect()]
        eventually("the harness's own connections are gone",
                   lambda: connections[0].status()["clients"] == "1")
        connections += [node.connect() for _ in range(9)]
        check(all(map(served, connections)), "as many as Clients says are served")
        more = [node.connect() for _ in range(5)]
        check(not any(map(served, more)), "and no more")
        check(all(map(served, connections)), "those that are in stay in")
        for connection in more + connections[:5]:
            connection.close()

        def try_again():
            with node.connect() as connection:
                return served(connection)

        eventually("when some go, others may come", try_again)
        check(all(map(served, connections[5:])), "those that are in stay in")


def few_descriptors(build):
    """P9: all nodes have few descriptors, and the leader gets more connections than that. It goes
    on serving those that it has, keeps its peers and its log, does not spin, and accepts again."""
    descriptors = 64
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start(descriptors=descriptors)
        cluster.agree()
        term = leader.status()["term"]
        with leader.connect(20) as early:
            check(early.ask(set_request("k", b"1")).code == "OK", "there is room at first")
            crowd = []
            for _ in range(2 * descriptors):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex((HOST, leader.client_port))
                crowd.append(one)
            for turn in range(100):
                check(early.ask(set_request("k", b"%d" % turn)).code == "OK",
                      "who is connected is served, and the log is written")
            check(spends_little(leader), "a server that cannot accept does not spin")
            status = early.status()
            check(status["role"] == "leader" and status["term"] == term, "its peers stay connected")
            for one in crowd:
                one.close()

            def serves_again():
                try:
                    with Connection(leader.client_port, patience(1)) as late:
                        return late.ask(b"get k\r\n").value == b"99"
                except OSError:
                    return False

            eventually("with descriptors free, connections are accepted again", serves_again)
        for node in cluster.followers():
            node.kill()
            node.start(descriptors=descriptors)
        cluster.agree()


def spends_little(node, share=0.05, seconds=1.0):
    """Whether a node without work uses less than `share` of a core, in one of three spells."""
    for _ in range(3):
        before, began = cpu_seconds(node.pid), time.monotonic()
        eventually("a spell passes", lambda: time.monotonic() > began + seconds)
        if cpu_seconds(node.pid) - before < patience(share) * (time.monotonic() - began):
            return True
    return False


run(sizes_of_keys_and_values, any_byte_in_values_and_most_in_keys, what_is_malformed,
    results_of_cas_delete_and_noreply, a_small_pipeline_limit_is_backpressure,
    a_limit_of_connections, few_descriptors, seconds=60)
