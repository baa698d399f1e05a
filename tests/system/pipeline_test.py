#!/usr/bin/env python3
"""Pipelines: replies come in the order of the requests, and reads see the writes before them."""

import os
import select
import subprocess
import threading
import time

from cluster import CALM, Cluster, Workers, cas_request, check, patience, run, set_request

REQUESTS = 10_000
SECONDS = float(os.environ.get("RAFTKV_PIPELINE_SECONDS", "2"))
KEYS = 97


def make_pipeline(count):
    """Mixed requests on keys of their own, and what they must be answered: the line's first words
    and the value. A version is '>': greater than any before; or the number of the request whose
    version it is."""
    requests, wanted = [], []
    state = {}  # key: (value, number of the request that set it)
    for number in range(count):
        key = f"pipe-{number * 31 % KEYS}"
        kind = number * 7 % 10
        value = f"{number}-".encode() * (1 + number % 30)
        if kind < 4:
            requests.append(set_request(key, value))
            wanted.append(("OK", ">", None))
            state[key] = (value, number)
        elif kind == 4:
            requests.append(set_request(key, value, noreply=True))
            state[key] = (value, None)
        elif kind == 5:
            requests.append(b"delete %s\r\n" % key.encode())
            wanted.append(("DELETED" if state.pop(key, None) else "ERR_NOT_FOUND", None, None))
        elif kind == 6 and key in state:
            requests.append(cas_request(key, value, (1 << 64) - 1))
            wanted.append(("ERR_VERSION", state[key][1], None))
        elif kind == 7:
            requests.append(b"getm %s\r\n" % key.encode())
            wanted.append(("VALUE", state[key][1], state[key][0]) if key in state
                          else ("ERR_NOT_FOUND", None, None))
        else:
            requests.append(b"get %s\r\n" % key.encode())
            wanted.append(("VALUE", None, state[key][0]) if key in state
                          else ("ERR_NOT_FOUND", None, None))
        if len(wanted) and len(wanted[-1]) == 3:
            wanted[-1] = (*wanted[-1], number)
    return requests, wanted


def check_replies(connection, wanted):
    versions = {}
    newest = 0
    for place, (code, version, value, number) in enumerate(wanted):
        reply = connection.reply()
        where = f"reply {place} of {len(wanted)} (to request {number}), {reply}"
        check(reply.code == code, f"{where} is {code}")
        check(value is None or reply.value == value, f"{where} has the value {value!r}")
        if version == ">":
            check(reply.version > newest, f"{where} has a version above {newest}")
            newest = versions[number] = reply.version
        elif version is not None:
            check(reply.version == versions[version], f"{where} has version {versions[version]}")


def ten_thousand_in_one_write(build):
    requests, wanted = make_pipeline(REQUESTS)
    with Cluster(build, 3, CALM) as cluster, cluster.start().connect(60) as connection:
        sender = threading.Thread(
            target=connection.send, args=(b"".join(requests),), daemon=True)
        sender.start()
        check_replies(connection, wanted)
        sender.join(patience(10))
        check(connection.ask(b"version\r\n").code == "VERSION", "the connection goes on")
        cluster.agree()


def ten_thousand_through_netcat(build):
    """One write, half-close, every reply; as a script would."""
    requests = b"".join(set_request(f"nc-{i % 100}", b"%d" % i) + b"get nc-%d\r\n" % (i % 100)
                        for i in range(REQUESTS // 2))
    with Cluster(build, 1) as cluster:
        port = str(cluster.start().client_port)
        script = cluster.directory / "requests"
        script.write_bytes(requests)
        with open(script, "rb") as file:
            result = subprocess.run(["nc", "-N", "127.0.0.1", port], stdin=file,
                                    stdout=subprocess.PIPE, timeout=patience(30), check=True)
        lines = result.stdout.split(b"\r\n")
        check(len(lines) == REQUESTS // 2 * 3 + 1, f"every request is answered: {len(lines)} lines")
        for i in range(REQUESTS // 2):
            answered = lines[3 * i], lines[3 * i + 1], lines[3 * i + 2]
            value = b"%d" % i
            check(answered == (b"OK %d" % (i + 1), b"VALUE %d" % len(value), value),
                  f"pair {i} is answered in order: {answered}")


def reads_keep_their_place_between_writes(build):
    """`set k 1; get k; set k 2; get k` in one packet, many times, with noreply and without."""
    with Cluster(build, 3, CALM) as cluster, cluster.start().connect(20) as connection:
        for turn in range(300):
            noreply = turn % 2 == 1
            key = f"order-{turn % 5}"
            get = b"get %s\r\n" % key.encode()
            one, two = b"%d-one" % turn, b"%d-two" % turn
            connection.send(get + set_request(key, one, noreply=noreply) + get +
                            set_request(key, two, noreply=noreply) + get + get)
            connection.reply()
            for value, reads in ((one, 1), (two, 2)):
                if not noreply:
                    check(connection.reply().code == "OK", "the set is answered in its place")
                for _ in range(reads):
                    reply = connection.reply()
                    check(reply.value == value, f"turn {turn}: a get sees the set before it, "
                                                f"not one behind it: {reply}, wanted {value!r}")


def many_connections_read_before_they_write(build):
    """`get k; set k` in one packet, on many connections at once, so that reads of many turns wait
    for their majority while writes go on: the get is answered first, by what was there before."""
    count = 150
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        connections = [leader.connect(20) for _ in range(count)]
        poll = select.epoll()
        turns = {}  # descriptor: (connection, key, turn)

        def ask(connection, key, turn):
            turns[connection.socket.fileno()] = connection, key, turn
            connection.send(b"get %s\r\n" % key.encode() + set_request(key, b"%d" % turn))

        for i, connection in enumerate(connections):
            poll.register(connection.socket, select.EPOLLIN)
            ask(connection, f"before-{i}", 0)
        stop_at = time.monotonic() + SECONDS
        while turns:
            ready = poll.poll(patience(20))
            check(ready, f"all are answered: {len(turns)} are not")
            for number, _ in ready:
                connection, key, turn = turns.pop(number)
                read, written = connection.reply(), connection.reply()
                is_first = read.code == "ERR_NOT_FOUND"
                is_next = read.value == b"%d" % (turn - 1)
                check((is_first if turn == 0 else is_next) and written.code == "OK",
                      f"turn {turn}: `get; set` is answered in this order: {read}, {written}")
                if time.monotonic() < stop_at:
                    ask(connection, key, turn + 1)
        for connection in connections:
            connection.close()


def a_pipeline_does_not_starve_others(build):
    """K4: while one client pours in pipelines, another one's requests are answered in good time."""
    requests = b"".join(make_pipeline(REQUESTS)[0])
    answered = b"version\r\n"
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()

        def pour(stop):
            while not stop.is_set():
                with leader.connect(60) as connection:
                    sender = threading.Thread(
                        target=connection.send, args=(requests + answered,), daemon=True)
                    sender.start()
                    while connection.reply().code != "VERSION":
                        pass
                    sender.join()

        workers = Workers(pour)
        worst = 0.0
        deadline = time.monotonic() + SECONDS
        with leader.connect(30) as connection:
            while time.monotonic() < deadline:
                workers.check()
                began = time.monotonic()
                check(connection.ask(set_request("other", b"v")).code == "OK", "a set succeeds")
                worst = max(worst, time.monotonic() - began)
        workers.finish(60)
        check(worst < patience(1.0), f"beside a pipeline, a set takes {worst:.3f} s at most")


run(ten_thousand_in_one_write, ten_thousand_through_netcat, reads_keep_their_place_between_writes,
    many_connections_read_before_they_write, a_pipeline_does_not_starve_others, seconds=60)
