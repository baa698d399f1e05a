#!/usr/bin/env python3
"""The simulator's invariants, seen from outside: real nodes are killed, put to sleep and started
again at random, while clients fight for few keys. Everything that the clients were told must be
explained by one machine that never fails (histcheck), and what the nodes say of themselves must
agree at all times: see recorder.py.

The faults come from RAFTKV_SEED, which is printed: the same seed gives the same faults at the same
times, though not the same run. RAFTKV_TWIN_SECONDS (28; with RAFTKV_TEST_SHORT set, 10) is for how
long they come, to five nodes; to three, half of it."""

import heapq
import itertools
import os
import random
import time
from functools import partial

from cluster import Cluster, Workers, check, eventually, run
from recorder import Recorder, Watch, seed_of_run

SECONDS = float(os.environ.get("RAFTKV_TWIN_SECONDS") or
                ("10" if "RAFTKV_TEST_SHORT" in os.environ else "28"))
ELECTION_SECONDS = 0.3  # ElectionMaxMs
CONFIG = {"HeartbeatMs": 50, "ElectionMinMs": 150, "ElectionMaxMs": 300}
KEYS_SECONDS = 2.5  # so long the same keys are fought for


class Fault:
    """What is done, for `seconds`, to how many of `count` nodes, and to which of those that are
    free: to the leader first, or to the first of `order`."""

    def __init__(self, chance, count):
        self.kind = chance.choice(
            ["kill", "kill", "nap", "nap", "sleep", "sleep", "restart", "sleep and kill", "coup"])
        self.leader_first = self.kind != "coup" and chance.random() < 0.6
        self.order = chance.sample(range(count), count)
        self.victims = 1
        if chance.random() < 0.15:  # too many for a majority, or all
            self.victims = chance.randint(count // 2 + 1, count)
        low, high = (0.1, 0.9) if self.kind == "nap" else (1.5, 5)
        self.seconds = ELECTION_SECONDS * chance.uniform(low, high)

    def __repr__(self):
        whom = "leader, " if self.leader_first else ""
        return f"{self.kind} {self.victims} of {whom}{self.order} for {self.seconds:.2f} s"


def plan(seed, count, seconds):
    """[(seconds from the start, fault)], until the time is up."""
    chance = random.Random(f"{seed}/{count}")
    faults = []
    at = 0.5
    while at < seconds:
        faults.append((at, Fault(chance, count)))
        at += chance.uniform(0.2, 1.2)
    return faults


class Nemesis:
    """Carries out a plan: each fault begins and ends at its own time."""

    def __init__(self, cluster, watch):
        self.cluster, self.watch = cluster, watch
        self.afflicted = set()  # nodes that sleep or are down
        self.done = dict.fromkeys(
            ("kill", "nap", "sleep", "restart", "sleep and kill", "coup"), 0)

    def run(self, faults, recorder, workers):
        began = time.monotonic()
        order = itertools.count()
        todo = [(at, next(order), partial(self._begin, fault)) for at, fault in faults]
        for turn in range(1, int(faults[-1][0] / KEYS_SECONDS) + 1):
            todo.append((turn * KEYS_SECONDS, next(order), recorder.next_keys))
        heapq.heapify(todo)
        while todo:
            at, _, action = heapq.heappop(todo)
            eventually("the next fault comes",
                       lambda: workers.errors or time.monotonic() >= began + at, 60)
            workers.check()
            for node in self.cluster.nodes:
                node.check_end()
            for seconds, then in action() or ():
                heapq.heappush(todo, (at + seconds, next(order), then))

    def _begin(self, fault):
        """Returns what is to be done later: [(seconds from now, action)]."""
        order = list(fault.order)
        leader = self.watch.leader_id()
        if fault.leader_first and leader is not None:
            order.sort(key=lambda id: id != leader)
        nodes = [self.cluster.nodes[id] for id in order]
        free = [node for node in nodes if node not in self.afflicted]
        victims = free[: fault.victims]
        self.done[fault.kind] += len(victims)
        self.afflicted.update(victims)
        for node in victims:
            if fault.kind == "kill":
                node.kill()
            elif fault.kind == "restart":
                node.stop()
            else:
                node.pause()
        if fault.kind == "restart":
            self._end(victims)
            return []
        if fault.kind == "sleep and kill":
            return [(fault.seconds / 2, partial(self._kill, victims)),
                    (fault.seconds, partial(self._end, victims))]
        if fault.kind == "coup":
            return [(fault.seconds, partial(self._coup, victims))]
        return [(fault.seconds, partial(self._end, victims))]

    def _coup(self, victims):
        """They wake, with old logs, at the moment when the leader dies."""
        leader = self.watch.leader_id()
        leader = None if leader is None else self.cluster.nodes[leader]
        if leader in self.afflicted or leader is None:
            return self._end(victims)
        self.afflicted.add(leader)
        leader.kill()
        self._end(victims)
        return [(3 * ELECTION_SECONDS, partial(self._end, [leader]))]

    @staticmethod
    def _kill(victims):
        for node in victims:
            node.kill()

    def _end(self, victims):
        for node in victims:
            if node.alive:
                node.resume()
            else:
                node.start()
        self.afflicted.difference_update(victims)


def under_faults(build, count, seconds):
    seed = seed_of_run()
    faults = plan(seed, count, seconds)
    recorder = Recorder(seed)
    with Cluster(build, count, CONFIG) as cluster:
        cluster.start()
        watch = Watch(cluster)
        workers = Workers(*recorder.functions(cluster, roaming=4), *watch.functions)
        nemesis = Nemesis(cluster, watch)
        try:
            nemesis.run(faults, recorder, workers)
        except BaseException:
            print("  the plan was:", *faults, sep="\n    ")
            raise
        before = recorder.acknowledged
        cluster.start()
        eventually("work goes on after the last fault",
                   lambda: workers.errors or recorder.acknowledged > before + 100)
        workers.check()
        recorder.read_all(cluster)
        workers.finish()
        statuses = cluster.agree()
        check(len(statuses) == count, "all nodes are up in the end")
        print(f"  faults: {nemesis.done}")
        print(f"  {watch.report()}")
        print(f"  {recorder.verify(cluster)}")
        check(recorder.acknowledged > 20 * seconds, "the load was one")


def five_nodes(build):
    under_faults(build, 5, SECONDS)


def three_nodes(build):
    under_faults(build, 3, SECONDS / 2)


run(five_nodes, three_nodes, seconds=90 + 2 * SECONDS)
