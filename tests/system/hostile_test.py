#!/usr/bin/env python3
"""Clients and strangers that mean harm, or are only broken. Whatever they do, a well-behaved client
beside them is answered in good time, the leader and its term stay, memory and descriptors come
back, and the node is alive afterwards.

All of it goes to 127.0.0.1, and every attack is bounded in connections and bytes. The random bytes
come from RAFTKV_SEED, which is printed when a test fails."""

import collections
import os
import random
import resource
import select
import socket
import struct
import time

from cluster import (HOST, Cluster, Connection, Settings, Workers, check, descriptor_count,
                     eventually, patience, rss_bytes, run, set_request)

SEED = int(os.environ.get("RAFTKV_SEED", random.randrange(1 << 32)))
WAIT_SECONDS_MAX = 1.0
MIB = 1 << 20
RSS_GROWTH_MAX = 48 * MIB
SMALL_CACHE = {"LogCacheBytes": 65536}  # or the well-behaved client would fill it all the while
DESCRIPTORS_BESIDE = 500  # of a node or of this process, beside the connections in question
IP_BIND_ADDRESS_NO_PORT = 24  # of linux/in.h: the port is chosen by connect()
FRAME_MAGIC = b"\x89rkf"
APPLY_COMMANDS_MAX, APPLY_BYTES_MAX = 4096, 4 * MIB  # NODE_APPLY_... of server/node_state.h
CONFIG = {"HeartbeatMs": 100, "ElectionMinMs": 1500, "ElectionMaxMs": 3000}
LIMITS = {"Clients": 3000, "RequestTimeoutMs": 1000, "OutputBytes": 2 * MIB, "LogCacheBytes": MIB,
          "ClientMemoryBytes": 32 * MIB}


class Siege:
    """A cluster with a well-behaved client in it, whose longest wait is measured.

    with Siege(build, "what is done to it") as siege:
        ...                        attack siege.leader
    Leaving the block checks what must hold afterwards."""

    def __init__(self, build, limits=None):
        self.cluster = Cluster(build, 3, CONFIG, {**LIMITS, **(limits or {})})
        self.worst = 0.0
        self.count = 0

    def __enter__(self):
        self.cluster.__enter__()
        try:
            self.leader = self.cluster.start()
            self.cluster.agree()
            self.term = self.leader.status()["term"]
            self.workers = Workers(self._behave)
            eventually("the client is at work", lambda: self.workers.errors or self.count > 100)
            self.descriptors = self._descriptors()
            self.links = self._links()
            self.memory = [rss_bytes(node.pid) for node in self.cluster.nodes]
        except BaseException as error:
            self.cluster.__exit__(type(error), error, None)
            raise
        return self

    def _descriptors(self):
        return [descriptor_count(node.pid) for node in self.cluster.nodes]

    def _links(self):
        """How often each node was linked to another. Status may be slow to come in a siege."""
        return [int(node.status(20)["peers_connects"]) for node in self.cluster.nodes]

    def descriptors_come_back(self):
        eventually(f"all descriptors are given back: {self.descriptors} before",
                   lambda: all(now <= before for now, before
                               in zip(self._descriptors(), self.descriptors)))

    def warm_up(self):
        """The leader keeps a ring of 1,024 batches, each with the memory of its largest use: once
        around, and it grows no more."""
        with self.leader.connect(20) as connection:
            for number in range(1100):
                reply = connection.ask(set_request("warm", b"%d" % number))
                check(reply.code == "OK", f"a set beside the well-behaved client's: {reply}")
        self.descriptors_come_back()

    def _behave(self, stop):
        with self.leader.connect(20) as connection:
            while not stop.is_set():
                value = b"%d" % self.count
                began = time.monotonic()
                reply = connection.ask(set_request("good", value))
                check(reply.code == "OK", f"the well-behaved client's set succeeds: {reply}")
                reply = connection.ask(b"get good\r\n")
                check(reply.value == value, f"and its get sees it: {reply}")
                self.worst = max(self.worst, (time.monotonic() - began) / 2)
                self.count += 1
                stop.wait(0.002)  # a client of moderate appetite, not a load

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._check_after()
        except BaseException as failure:
            self.cluster.__exit__(type(failure), failure, None)
            print(f"  RAFTKV_SEED={SEED}")
            raise
        self.workers.stop.set()
        self.cluster.__exit__(kind, error, trace)

    def _check_after(self):
        served = self.count
        eventually("the well-behaved client goes on",
                   lambda: self.workers.errors or self.count > served + 20)
        self.descriptors_come_back()
        self.workers.finish()
        links = self._links()
        check(links == self.links, f"no link between nodes was lost: {self.links}, now {links}")
        check(self.worst < patience(WAIT_SECONDS_MAX),
              f"the well-behaved client waits {self.worst:.3f} s at most")
        for node, before in zip(self.cluster.nodes, self.memory):
            check(node.alive, f"node {node.id} is alive")
            grown = rss_bytes(node.pid) - before
            check(grown < RSS_GROWTH_MAX * (4 if Settings.sanitized else 1),
                  f"node {node.id} is not larger than before: {grown / MIB:.1f} MiB")
        status = self.leader.status()
        check(status["role"] == "leader" and status["term"] == self.term,
              f"the leader and its term stay: {status['role']} in {status['term']}")
        self.cluster.agree()


def try_send(connection, data):
    """Send what the server takes. False: it has closed."""
    try:
        connection.settimeout(patience(5))
        connection.sendall(data)
        return True
    except OSError:
        return False


def read_to_end(connection, seconds=10):
    """Everything until the server closes; None if it does not within that time."""
    deadline = time.monotonic() + patience(seconds)
    data = bytearray()
    while time.monotonic() < deadline:
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            break
        except OSError:
            return bytes(data)
        if not piece:
            return bytes(data)
        data += piece
    return None


def dial(port):
    return socket.create_connection((HOST, port), timeout=patience(10))


def garbage_on_the_client_port(build):
    """Random bytes, with and without line ends, are answered by errors, or the connection ends."""
    source = random.Random(SEED)
    with Siege(build) as siege:
        for _ in range(150):
            with dial(siege.leader.client_port) as stranger:
                if try_send(stranger, source.randbytes(source.randrange(1, 8192))):
                    try:
                        stranger.shutdown(socket.SHUT_WR)
                    except OSError:
                        continue
                    data = read_to_end(stranger)
                    check(data is not None, "after a half-close the server closes")
                    for line in data.split(b"\r\n")[:-1]:
                        check(line.startswith(b"ERR_"), f"garbage is answered by errors: {line!r}")


GIANTS = [
    b"set k 0 18446744073709551615\r\n",
    b"set k 0 18446744073709551616\r\n",
    b"set k 0 9223372036854775807\r\n",
    b"set k 0 4294967296\r\nabc",
    b"set k 0 4294967295\r\nabc",
    b"set k 0 2147483648\r\nabc",
    b"set k 0 -1\r\n",
    b"set k 0 " + b"9" * 900 + b"\r\n",
    b"cas k 0 99999999999999999999999999 3\r\nabc\r\n",
    b"set k 99999999999999999999 3\r\nabc\r\n",
    b"get " + b"k" * 100_000,
    b"x" * (4 * MIB),
    b" " * (4 * MIB),
    b"\n" * 20_000,
    b"\0" * 20_000 + b"\r\n",
    b"\r" * 20_000 + b"\n",
    b"set " + b"a " * 400 + b"\r\n",
]


def giant_lengths_on_the_client_port(build):
    """Announced sizes that nobody can have, lines without an end: refused, and never allocated."""
    with Siege(build) as siege:
        strangers = []
        for giant in GIANTS * 5:
            stranger = dial(siege.leader.client_port)
            try_send(stranger, giant)
            strangers.append((giant, stranger))
        for giant, stranger in strangers:
            stranger.settimeout(0.1)  # what is only waited for gets no answer
            try:
                data = stranger.recv(4096)
            except OSError:
                data = b""
            check(data == b"" or data.startswith(b"ERR_"),
                  f"{giant[:40]!r} is refused: {data[:80]!r}")
            stranger.close()
        with siege.leader.connect() as connection:
            reply = connection.ask(b"get k\r\n")
            check(reply.code == "ERR_NOT_FOUND", f"none of them took effect: {reply}")


def strange_frames(source):
    """Random bytes, giant lengths wherever a length might be, other protocols, next to nothing."""
    lengths = [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000000]
    yield from (struct.pack("<I" if i % 2 else ">I", lengths[i // 2]) * 16 for i in range(8))
    for offset in range(0, 32, 2):
        yield source.randbytes(offset) + struct.pack("<Q", (1 << 64) - 1) + source.randbytes(64)
    yield from (source.randbytes(source.randrange(1, 4096)) for _ in range(60))
    yield from (b"\0" * 4096, b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"", b"\1")
    yield source.randbytes(MIB)


def garbage_on_the_peer_port(build):
    """Whoever does not speak as a peer is cut off, and nothing else happens."""
    source = random.Random(SEED)
    with Siege(build) as siege:
        strangers = []
        for frame in strange_frames(source):
            for node in siege.cluster.nodes:
                stranger = dial(node.log_port)
                try_send(stranger, frame)
                if len(frame) < 64:  # it may be the beginning of something
                    stranger.close()
                else:
                    strangers.append((frame, stranger))
        for frame, stranger in strangers:
            check(read_to_end(stranger) is not None,
                  f"{len(frame)} strange bytes end a connection to the peer port: {frame[:40]!r}")
            stranger.close()


def half_requests_for_ever(build):
    """Slowloris: hundreds of requests that never end are closed when their time is up, although a
    byte comes now and then."""
    with Siege(build) as siege:
        began = time.monotonic()
        strangers = {}
        poll = select.epoll()
        for i in range(500):
            stranger = dial(siege.leader.client_port)
            try_send(stranger, (b"set slow 0 100000\r\nabc", b"get slo", b"s")[i % 3])
            stranger.setblocking(False)
            strangers[stranger.fileno()] = stranger
            poll.register(stranger, select.EPOLLIN)
        next_byte = time.monotonic()
        while strangers:
            check(time.monotonic() < began + patience(15),
                  f"unfinished requests are ended: {len(strangers)} of 500 are left")
            if time.monotonic() > next_byte:
                next_byte += 0.2
                for stranger in strangers.values():
                    try:
                        stranger.send(b"x")
                    except OSError:
                        pass  # it is closed; epoll says so too
            for number, _ in poll.poll(0.05):
                try:
                    if strangers[number].recv(4096):
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                poll.unregister(number)
                strangers.pop(number).close()


def within_descriptors(wanted):
    """So many connections, or what the limit of descriptors has room for: in this process, and in
    each node, which inherits the limit."""
    needed = wanted + DESCRIPTORS_BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, needed))
        except (OSError, ValueError):
            print(f"  LIMITED to {hard - DESCRIPTORS_BESIDE} connections instead of {wanted}: "
                  f"the hard limit of descriptors is {hard}, and raising it needs root")
            return hard - DESCRIPTORS_BESIDE
    return wanted


def flat_bytes():
    """How much a node may grow between rounds of the same; a sanitizer keeps what is freed."""
    return (8 if Settings.sanitized else 1) * MIB


def knock(port, number):
    """A connection from one of several addresses, so that their ports do not run out: those of
    connections that we have closed are not free for a minute."""
    connection = socket.socket()
    try:
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((f"127.0.0.{2 + number % 8}", 0))
        connection.settimeout(patience(10))
        connection.connect((HOST, port))
    except BaseException:
        connection.close()
        raise
    return connection


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def connection_flood(build):
    """10,000 connects on the client port and 10,000 on the peer port, some hundreds of them open at
    any time. Most end by a reset, some in the middle of a request or of a frame."""
    said = {"client": (b"", b"set flood 0 1000\r\nabc", b"get flood\r\n"),
            "peer": (b"", FRAME_MAGIC, FRAME_MAGIC + bytes(100))}
    with Siege(build) as siege:
        window = collections.deque()
        done = {"client": 0, "peer": 0}
        began = time.monotonic()
        for i in range(20_000):
            node = siege.cluster.nodes[i // 2 % 3]
            kind = "peer" if i % 2 else "client"
            try:
                connection = knock(node.log_port if i % 2 else node.client_port, i)
                done[kind] += 1
                window.append(connection)
                connection.send(said[kind][i // 6 % 3])
            except OSError:
                pass  # refused or reset: that is a defence
            if len(window) > 300:
                old = window.popleft()
                if i // 2 % 3 == 0:
                    old.close()
                else:
                    reset(old)
        print(f"  {done} in {time.monotonic() - began:.1f} s")
        check(min(done.values()) > 9_500, f"nearly all of them came in: {done}")
        for connection in window:
            reset(connection)


def churn(ports, count):
    """Connections of four kinds that come and go, a hundred at a time: nothing is said; half a
    request, and a reset; a request, and a reset before its answer; a request and its answer."""
    for first in range(0, count, 100):
        crowd = [knock(ports[i % len(ports)], i) for i in range(first, first + 100)]
        for i, stranger in enumerate(crowd):
            if i % 4 != 0:
                stranger.send(b"set churn 0 500\r\nabc" if i % 4 == 1 else b"get churn\r\n")
        for i, stranger in enumerate(crowd):
            if i % 4 == 3:
                answer = stranger.recv(200)
                check(answer.startswith((b"ERR_NOT_FOUND", b"ERR_REDIRECT")),
                      f"a whole request among the others is answered: {answer!r}")
            if i % 4 == 0:
                stranger.close()
            else:
                reset(stranger)


def churned_connections_leave_nothing(build):
    """K7: 100,000 connections in rounds. From the first round on the nodes do not grow, and after
    each they hold the descriptors that they held before."""
    rounds, total = 5, 100_000
    with Siege(build, SMALL_CACHE) as siege:
        siege.warm_up()
        memory = []
        began = time.monotonic()
        for _ in range(rounds):
            churn(siege.cluster.ports, total // rounds)
            siege.workers.check()
            siege.descriptors_come_back()
            memory.append([rss_bytes(node.pid) for node in siege.cluster.nodes])
        seconds = time.monotonic() - began
        grown = max(max(now) - first for first, *now in zip(*memory))
        print(f"  {total} connections in {seconds:.1f} s; from the first round to the "
              f"last the largest growth of a node is {grown / MIB:.2f} MiB")
        check(grown < flat_bytes(),
              f"memory is flat from round to round: {memory}")
        check(int(siege.leader.status()["clients_accepted"]) > total // 3 * 0.9,
              "the leader took its share of them")


def open_crowd(siege, size):
    """So many connections to the leader, each of which was served once and says no more."""
    crowd = []
    for i in range(size):
        crowd.append(knock(siege.leader.client_port, i))
    for stranger in crowd:
        stranger.sendall(b"version\r\n")
    for stranger in crowd:
        check(stranger.recv(64).startswith(b"VERSION"), "each of many connections is served")
    return crowd


def many_idle_connections(build):
    """K7: 10,000 idle connections hold no buffers, and others come and go beside them; with their
    end all is as before, and as many again find no less room."""
    size = within_descriptors(10_000)
    with Siege(build, {"Clients": size + 400, **SMALL_CACHE}) as siege:
        siege.warm_up()
        before, peaks = rss_bytes(siege.leader.pid), []
        for _ in range(3):
            crowd = open_crowd(siege, size)
            peaks.append(rss_bytes(siege.leader.pid))
            held = descriptor_count(siege.leader.pid)
            check(held >= siege.descriptors[siege.leader.id] + size,
                  f"all of them are open at once: {held} descriptors for {size}")
            churn(siege.cluster.ports, 3_000)
            served = siege.count
            eventually("the well-behaved client goes on beside them",
                       lambda: siege.workers.errors or siege.count > served + 100)
            siege.workers.check()
            for i, stranger in enumerate(crowd):
                if i % 2:
                    reset(stranger)
                else:
                    stranger.close()
            siege.descriptors_come_back()
        cost = (peaks[0] - before) / size
        print(f"  {size} idle connections cost the node {cost:.0f} bytes each; "
              f"peaks: {', '.join(f'{peak / MIB:.1f}' for peak in peaks)} MiB")
        check(cost < 2048 * (4 if Settings.sanitized else 1),
              f"an idle connection costs little: {cost:.0f} bytes")
        check(max(peaks) - peaks[0] < flat_bytes(),
              f"as many again need no more memory: {peaks}")


def readers_that_stop_reading(build):
    """K5: each asks for 50 MB and reads nothing. The server stops reading them, or closes them: it
    does not buffer it all."""
    with Siege(build) as siege:
        with siege.leader.connect() as connection:
            check(connection.ask(set_request("big", b"x" * 100_000)).code == "OK", "a big value")
        readers = []
        for _ in range(16):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect((HOST, siege.leader.client_port))
            reader.setblocking(False)
            readers.append((reader, bytearray(b"get big\r\n" * 500)))
        served = siege.count
        stop_at = time.monotonic() + 2
        while time.monotonic() < stop_at or siege.count < served + 50:
            siege.workers.check()
            for reader, left in readers:
                try:
                    del left[: reader.send(left)]
                except OSError:
                    pass  # full, or closed
            select.select([], [], [], 0.02)
        check(rss_bytes(siege.leader.pid) - siege.memory[siege.leader.id] <
              (LIMITS["ClientMemoryBytes"] + 32 * MIB) * (2 if Settings.sanitized else 1),
              "replies that nobody reads are bounded by ClientMemoryBytes")
        for reader, _ in readers:
            reader.close()


def big_values_cut_off(build):
    """Uploads of the largest value that stop short, by reset: their memory is given back."""
    with Siege(build) as siege:
        for _ in range(8):
            uploads = []
            for _ in range(12):
                connection = Connection(siege.leader.client_port, patience(10))
                connection.socket.setblocking(False)
                try:
                    connection.socket.send(b"set upload 0 1000000\r\n" + b"x" * 900_000)
                except OSError:
                    pass  # not taken: that is a defence
                uploads.append(connection)
            for connection in uploads:
                connection.abort()
        with siege.leader.connect() as connection:
            check(connection.ask(b"get upload\r\n").code == "ERR_NOT_FOUND", "half is nothing")


def greedy_readers_depose_nobody(build):
    """Each wants a thousand large replies and reads none; the configuration is the default one."""
    with Cluster(build, 3) as cluster:
        leader = cluster.start()
        with leader.connect(20) as connection:
            check(connection.ask(set_request("big", b"x" * 1_000_000)).code == "OK", "it is set")
            check(connection.ask(set_request("small", b"y")).code == "OK", "so is the other")
            term = leader.status()["term"]
            greedy = [leader.connect(20) for _ in range(30)]
            for one in greedy:
                one.send(b"get big\r\n" * 1000)
            worst, began = 0.0, time.monotonic()
            while time.monotonic() - began < 3:
                asked = time.monotonic()
                check(connection.ask(b"get small\r\n").value == b"y", "others are served")
                worst = max(worst, time.monotonic() - asked)
            status = leader.status()
            print(f"  the longest wait beside 30 greedy readers: {1000 * worst:.0f} ms")
            check(status["term"] == term and status["role"] == "leader", "the leader stays")
            check(worst < patience(0.3), f"nobody waits long for them: {worst:.2f} s")
            for one in greedy:
                one.abort()
        eventually("their memory is given back",
                   lambda: int(leader.status()["clients_memory_bytes"]) < MIB)
        if not Settings.sanitized:  # whose allocator keeps what is freed, to catch its use
            eventually("to the system too", lambda: rss_bytes(leader.pid) < 300 * MIB)


def a_long_backlog_is_applied_in_slices(build):
    """A restart with much to apply: no turn of the loop applies more than its bound and the entry
    that reaches it, so heartbeats go on between; and there is no election after the first ones."""
    batch_bytes, value_bytes, small = 65536, 1_000_000, 20_000
    largest_entry = 64 + 40 + 250 + value_bytes  # headers of entry and command, key, value
    commands_of_entry = batch_bytes // (24 + len("k00000v"))
    limits = {"BatchBytes": batch_bytes, "ValueBytes": value_bytes}
    with Cluster(build, 3, limits=limits) as cluster:
        leader = cluster.start()
        with leader.connect(20) as connection:
            for first in range(0, small, 1000):
                connection.send(b"".join(set_request(f"k{first + i:05d}", b"v", noreply=True)
                                         for i in range(1000)))
                connection.ask(b"get k\r\n")
        client = cluster.client(timeout=20)
        for number in range(200):
            check(client.set(f"k{number}", b"z" * value_bytes).is_("OK"), "it is set")
        before = cluster.agree()[0]
        check(int(before["keys"]) == small + 200, f"all is set: {before['keys']} keys")
        cluster.kill()
        cluster.start()
        for node, status in zip(cluster.nodes, cluster.agree()):
            commands, size = int(status["apply_commands_max"]), int(status["apply_bytes_max"])
            print(f"  node {node.id}: at most {commands} commands, {size} bytes in a turn; turns: "
                  f"p50 {status['turn_us_p50']} us, p99 {status['turn_us_p99']} us, "
                  f"max {status['turn_us_max']} us")
            # Below the bounds, the backlog would be none, and the test show nothing.
            check(APPLY_COMMANDS_MAX <= commands <= APPLY_COMMANDS_MAX + commands_of_entry,
                  f"commands of one turn are bounded: {commands}")
            check(APPLY_BYTES_MAX <= size <= APPLY_BYTES_MAX + largest_entry,
                  f"bytes of one turn are bounded: {size}")
        after = int(status["term"])
        print(f"  terms: {before['term']} before, {after} after")
        check(after - int(before["term"]) <= 3, "there is no election after the first ones")


run(garbage_on_the_client_port, giant_lengths_on_the_client_port, garbage_on_the_peer_port,
    half_requests_for_ever, connection_flood, churned_connections_leave_nothing,
    many_idle_connections, readers_that_stop_reading, big_values_cut_off,
    greedy_readers_depose_nobody, a_long_backlog_is_applied_in_slices, seconds=200)
