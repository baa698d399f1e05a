#!/usr/bin/env python3
"""Two hundred clients at once: nobody waits for ever, nobody loses a reply, nobody reads a lie.

One thread and one epoll for all of them. Each keeps some requests under way on keys of its own, so
it knows what every reply must be; a request whose outcome is unknown (an election in between is no
fault of the server's) makes the key unknown until its next write."""

import os
import random
import select
import socket
import time

from cluster import HOST, Cluster, check, patience, run, set_request

CLIENTS = 200
SECONDS = float(os.environ.get("RAFTKV_CLIENTS_SECONDS", "10"))
RESULTS = ("OK", "VALUE", "DELETED", "ERR_NOT_FOUND")
ANYTHING = object()


class Swarm:
    def __init__(self, cluster):
        self.cluster = cluster
        self.port = cluster.leader().client_port
        self.poll = select.epoll()
        self.members = {}
        self.replies = 0
        self.errors = {}

    def connect(self, member):
        member.socket = socket.create_connection((HOST, self.port), timeout=patience(10))
        member.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.members[member.socket.fileno()] = member
        self.poll.register(member.socket, select.EPOLLIN)

    def reconnect(self, member):
        self.poll.unregister(member.socket)
        del self.members[member.socket.fileno()]
        member.socket.close()
        self.connect(member)

    def run(self, count, seconds):
        for name in range(count):
            self.connect(Member(self, name))
        for member in list(self.members.values()):
            member.ask()
        stop_at = time.monotonic() + seconds
        while time.monotonic() < stop_at:
            self.turn(go_on=True)
            self.check_nobody_waits()
        give_up_at = time.monotonic() + patience(10)
        while any(member.waiting for member in self.members.values()):
            check(time.monotonic() < give_up_at, "in the end every request has its reply: "
                  f"{sum(len(m.waiting) for m in self.members.values())} have not")
            self.turn(go_on=False)

    def turn(self, go_on):
        for number, _ in self.poll.poll(0.2):
            member = self.members[number]
            member.receive()
            if member.waiting:
                continue
            if member.moved:
                member.moved = False
                self.port = self.cluster.leader().client_port
                self.reconnect(member)
            if go_on:
                member.ask()

    def check_nobody_waits(self):
        now = time.monotonic()
        slowest = max(now - member.asked for member in self.members.values() if member.waiting)
        check(slowest < patience(10), f"no client waits: one has waited {slowest:.1f} s")


class Member:
    """One client: a burst of requests, then all the replies, then the next burst."""

    def __init__(self, swarm, name):
        self.swarm, self.name = swarm, name
        self.random = random.Random(name)
        self.depth = 1 + name % 8
        self.state = {}  # key: value; None: not there; ANYTHING: not known
        self.waiting = []  # (key, kind, what is there; for a set, the new value)
        self.burst = []  # the last requests, and under `replies` what came of them
        self.replies = []
        self.input = b""
        self.turn = 0
        self.asked = 0.0
        self.moved = False  # the node has told us to go elsewhere

    def ask(self):
        requests = []
        for _ in range(self.depth):
            self.turn += 1
            key = f"c{self.name}-{self.random.randrange(6)}"
            choice = self.random.random()
            if choice < 0.45:
                value = b"%d:%s" % (self.turn, b"x" * self.random.randrange(200))
                requests.append(set_request(key, value))
                self.waiting.append((key, "set", value))
                self.state[key] = value
            elif choice < 0.5:
                requests.append(b"delete %s\r\n" % key.encode())
                self.waiting.append((key, "delete", self.state.get(key)))
                self.state[key] = None
            else:
                requests.append(b"get %s\r\n" % key.encode())
                self.waiting.append((key, "get", self.state.get(key)))
        self.burst, self.replies = [entry[:2] for entry in self.waiting], []
        self.asked = time.monotonic()
        self.socket.sendall(b"".join(requests))

    def receive(self):
        data = self.socket.recv(65536)
        check(data or not self.waiting, f"client {self.name} is not cut off with "
              f"{len(self.waiting)} requests unanswered")
        check(data, f"client {self.name} is not cut off")
        self.input += data
        while (end := self.input.find(b"\r\n")) >= 0:
            line, value, used = self.input[:end], None, end + 2
            if line.startswith(b"VALUE "):
                size = int(line.split()[1])
                if len(self.input) < used + size + 2:
                    return
                value = self.input[used:used + size]
                used += size + 2
            self.input = self.input[used:]
            check(self.waiting, f"client {self.name} gets no reply that it did not ask for: {line}")
            self.take(line.decode(), value)

    def take(self, line, value):
        key, kind, wanted = self.waiting.pop(0)
        self.swarm.replies += 1
        self.replies.append(line)
        code = line.split()[0]
        if code not in RESULTS:
            self.swarm.errors[code] = self.swarm.errors.get(code, 0) + 1
            check(code in ("ERR_REDIRECT", "ERR_UNAVAILABLE", "ERR_TIMEOUT", "ERR_BUSY"),
                  f"client {self.name}: {kind} {key} is answered by {line}")
            self.doubt()
            self.moved = self.moved or code != "ERR_BUSY"
            return
        if wanted is ANYTHING:
            return
        there = (f"client {self.name}: {kind} {key}, where {str(wanted)[:30]} is, gives {line}; "
                 f"its burst was {self.burst}, the replies so far {self.replies}")
        if kind == "set":
            check(code == "OK", there)
        elif wanted is None:
            check(code == "ERR_NOT_FOUND", there)
        elif kind == "delete":
            check(code == "DELETED", there)
        else:
            check(code == "VALUE" and value == wanted, there)

    def doubt(self):
        """An error: from here on this burst proves nothing, and no key is known."""
        self.waiting = [(key, kind, ANYTHING) for key, kind, _ in self.waiting]
        self.state = {f"c{self.name}-{i}": ANYTHING for i in range(6)}


def two_hundred_clients(build):
    with Cluster(build, 3) as cluster:
        cluster.start()
        swarm = Swarm(cluster)
        swarm.run(CLIENTS, SECONDS)
        check(len(swarm.members) == CLIENTS, "all clients are still connected")
        status = cluster.leader().status()
        check(int(status["clients"]) >= CLIENTS, f"status counts them: {status['clients']}")
        check(swarm.replies >= CLIENTS * SECONDS, f"there is progress: {swarm.replies} replies")
        errors = sum(swarm.errors.values())
        check(errors * 20 < swarm.replies, f"nearly all requests succeed: {swarm.errors}")
        cluster.agree()
        print(f"  {swarm.replies} replies, errors {swarm.errors or 'none'}")


run(two_hundred_clients, seconds=60)
