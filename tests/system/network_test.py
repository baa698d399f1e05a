#!/usr/bin/env python3
"""Real nodes in a real network that breaks: one-way cuts, partial partitions, loss, links that flap
and connections that are dead at one end. See netns.py; needs root, `ip` and `nft`, or is skipped.

While it is broken, clients fight for few keys, at every node; what they were told must be explained
by one machine that never fails, and what the nodes say of themselves must agree at all times: see
recorder.py. Beyond that each test states what its own fault may cost.

E is ElectionMaxMs. A bound of 2 E on what takes E by design leaves E for a busy machine, and five
times that with a sanitizer: see late(). What chance decides comes from RAFTKV_SEED. With
RAFTKV_TEST_SHORT set, only the scenes run that reach most code."""

import os
import random
import sys
import time

import netns
from cluster import Workers, check, eventually, patience, run, set_request
from netns import NetworkCluster, between, both
from recorder import Recorder, Watch, seed_of_run

NODES_MAX = 5
HEARTBEAT = 0.04
ELECTION = 0.5
CONFIG = {"HeartbeatMs": 40, "ElectionMinMs": 300, "ElectionMaxMs": 500}


def late(elections=1):
    """What takes so many election timeouts by design has surely happened after so many seconds."""
    return elections * ELECTION + patience(ELECTION)


class Scene:
    """A cluster, clients and observers, from the start to the verdict.

    The network knows nodes by their ids; everything else takes the nodes themselves."""

    network = None  # all scenes share one

    def __init__(self, build, count):
        self.seed = seed_of_run()
        self.chance = random.Random(self.seed)
        self.cluster = NetworkCluster(self.network, build, count, CONFIG)
        self.nodes = self.cluster.nodes
        self.recorder = Recorder(self.seed)
        self.watch = Watch(self.cluster)

    def __enter__(self):
        self.cluster.__enter__()
        try:
            self.cluster.start()
            self.workers = Workers(
                *self.recorder.functions(self.cluster), *self.watch.functions)
            self.settle()
        except BaseException as error:
            self.cluster.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.settle()
                self.recorder.read_all(self.cluster)
                self.workers.finish()
                self.cluster.agree()
                print(f"  {self.watch.report()}\n  {self.recorder.verify(self.cluster)}")
        except BaseException as failure:
            self.cluster.__exit__(type(failure), failure, None)
            raise
        self.workers.stop.set()
        self.cluster.__exit__(kind, error, trace)

    def others(self, *nodes):
        return [node for node in self.nodes if node not in nodes]

    def until(self, sentence, predicate, seconds):
        """Like eventually(), but `seconds` are what they are. Returns how long it took."""
        began = time.monotonic()
        while not predicate():
            self.workers.check()
            check(time.monotonic() < began + seconds, f"{sentence} within {seconds:.2f} s")
            time.sleep(0.002)
        return time.monotonic() - began

    def hold(self, sentence, predicate, seconds):
        """It is true all the time."""
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            self.workers.check()
            check(predicate(), f"{sentence}, for {seconds:.2f} s: no longer after "
                               f"{time.monotonic() - began:.2f} s")
            time.sleep(0.01)

    def go_on(self, seconds):
        """Let it be, but for the clients and observers: their checks go on."""
        self.hold("no check of theirs fails", lambda: True, seconds)

    def statuses(self, nodes=None):
        return [s for s in (n.status() for n in nodes or self.nodes) if s is not None]

    def term(self):
        return max(int(status["term"]) for status in self.statuses())

    def settle(self):
        """Heal the network, and wait until every link is up and all follow one leader."""
        self.network.heal()
        self.recorder.next_keys()

        def settled():
            self.workers.check()
            statuses = self.statuses()
            return (len(statuses) == len(self.nodes)
                    and len({(s["term"], s["leader"]) for s in statuses}) == 1
                    and statuses[0]["leader"] != "none"
                    and all(int(s["peers_up"]) == len(self.nodes) - 1 for s in statuses))

        eventually("all links are up again, and all follow one leader", settled, 12)

    @staticmethod
    def status(node):
        status = node.status()
        check(status is not None, f"node {node.id} answers")
        return status

    def leader(self):
        node = self.cluster.leader()
        return node, int(self.status(node)["term"])

    def new_leader(self, nodes, term, seconds):
        """One of `nodes` leads in a later term than `term`."""
        found = []

        def find():
            found[:] = [n for n in nodes for s in self.statuses([n])
                        if s["role"] == "leader" and int(s["term"]) > term]
            return found

        took = self.until(f"one of {[n.id for n in nodes]} leads", find, seconds)
        return found[0], took

    def leads(self, node, term):
        """A function: `node` still leads, and nobody has heard of a later term."""
        return lambda: ([s["role"] for s in self.statuses([node])] == ["leader"]
                        and self.term() == term)

    def rest(self, agree=True):
        """Clients ask nothing until works(). Then, if all logs are equal before a cut, nobody's
        request for votes is refused for its log."""
        self.recorder.resting = True
        if agree:
            self.cluster.agree()

    def works(self, sentence, seconds=ELECTION):
        self.recorder.resting = False
        before = self.recorder.acknowledged
        self.until(f"clients are served: {sentence}",
                   lambda: self.recorder.acknowledged > before + 20, seconds + patience(2))

    def steps_down(self, node, isolate):
        """The seconds from the cut until `node` leads no more."""
        with node.connect() as connection:
            began = time.monotonic()
            isolate()
            self.until("a leader that hears no majority steps down",
                       lambda: connection.status()["role"] != "leader", late())
            return time.monotonic() - began


def ids(nodes):
    return [node.id for node in nodes]


def isolation(nodes, node):
    return between([node.id], ids(nodes))


def towards(nodes, node):
    return [(other.id, node.id) for other in nodes]


def away(nodes, node):
    return [(node.id, other.id) for other in nodes]


# -- One-way cuts --------------------------------------------------------------------------------


def a_leader_that_hears_nobody_steps_down(build):
    """Within E of the last word, which came a heartbeat before the cut at most. Nothing raises its
    term while it hears nobody, and its return makes no election."""
    with Scene(build, NODES_MAX) as scene:
        network = scene.network
        for how, rule, pairs in (
                ("isolated", network.cut, isolation),
                ("packets to it cut", network.cut, towards),
                ("words to it cut", network.mute, towards)):
            leader, term = scene.leader()
            others = scene.others(leader)
            took = scene.steps_down(leader, lambda: rule(pairs(others, leader)))
            low = ELECTION - HEARTBEAT - patience(0.1)
            check(took >= low, f"{how}: not before {low:.2f} s: {took:.2f} s")
            follower, elected = scene.new_leader(others, term, late(9))
            new_term = int(scene.status(follower)["term"])
            scene.hold(f"{how}: whoever hears nobody keeps its term",
                       lambda: int(scene.status(leader)["term"]) == term, 3 * ELECTION)
            scene.works(how)
            scene.settle()
            check(scene.leads(follower, new_term)(),
                  f"{how}: whoever comes back disturbs nobody: {scene.statuses()}")
            print(f"  {how}: stepped down after {took:.3f} s, the next led {elected:.3f} s later")


def a_leader_that_hears_too_few_steps_down(build):
    """One of four is not enough."""
    with Scene(build, NODES_MAX) as scene:
        leader, term = scene.leader()
        deaf_to = scene.chance.sample(scene.others(leader), 3)
        took = scene.steps_down(leader, lambda: scene.network.mute(towards(deaf_to, leader)))
        scene.new_leader(scene.others(leader), term, late(9))
        scene.works("the others have a leader")
        print(f"  stepped down after {took:.3f} s")


def a_leader_that_nobody_hears_is_replaced(build):
    with Scene(build, NODES_MAX) as scene:
        for how, rule in (("packets", scene.network.cut), ("words", scene.network.mute)):
            leader, term = scene.leader()
            others = scene.others(leader)
            took = scene.steps_down(leader, lambda: rule(away(others, leader)))
            _, elected = scene.new_leader(others, term, late(9))
            scene.works(f"{how} from the old leader cut")
            print(f"  {how} cut: stepped down after {took:.3f} s, "
                  f"the next led {elected:.3f} s later")
            scene.settle()


def a_follower_that_is_cut_off_disturbs_nobody(build):
    """No election, neither while it is away nor when it is back; and its term stays."""
    with Scene(build, NODES_MAX) as scene:
        network = scene.network
        for how, resting, rule, pairs in (
                ("isolated", False, network.cut, isolation),
                ("isolated", True, network.cut, isolation),
                ("packets to it cut", True, network.cut, towards),
                ("packets from it cut", True, network.cut, away),
                ("words to it cut", True, network.mute, towards),
                ("words from it cut", False, network.mute, away)):
            leader, term = scene.leader()
            follower = scene.chance.choice(scene.others(leader))
            if resting:
                scene.rest()
            rule(pairs(scene.others(follower), follower))
            scene.hold(f"{how}: the leader leads on, and no term rises", scene.leads(leader, term),
                       3 * ELECTION)
            scene.settle()
            scene.works(how)
            check(scene.leads(leader, term)(),
                  f"{how}: whoever comes back disturbs nobody: {scene.statuses()}")


def an_old_log_wins_no_election(build):
    """A follower comes back, eager to lead, at the moment when the leader is cut off."""
    with Scene(build, NODES_MAX) as scene:
        for _ in range(3):
            leader, term = scene.leader()
            follower = scene.chance.choice(scene.others(leader))
            scene.network.cut(isolation(scene.others(follower), follower))
            last = int(scene.status(follower)["last_index"])
            scene.until("the others go far ahead",
                        lambda: int(scene.status(leader)["commit_index"]) > last + 100,
                        patience(10))
            scene.until("it wants to lead",
                        lambda: scene.status(follower)["role"] == "pre-candidate", late())
            scene.rest(agree=False)
            scene.network.swap("cut", isolation(scene.others(leader), leader))
            winner, took = scene.new_leader(scene.others(leader), term, late(9))
            check(winner is not follower, "nobody leads who does not have what was acknowledged")
            print(f"  another led after {took:.3f} s")
            scene.works("there is a leader")
            scene.settle()


# -- Partial partitions --------------------------------------------------------------------------


def whom_all_but_one_see_stays(build):
    """A and B do not see each other, both see C, and so there is a majority for whoever leads:
    nobody else wins an election, whether logs grow meanwhile or not."""
    with Scene(build, 3) as scene:
        for turn in range(4):
            leader, term = scene.leader()
            followers = scene.others(leader)
            pair = [leader, followers[turn // 2]] if turn % 2 == 0 else followers
            if turn >= 2:
                scene.rest()
            scene.network.cut(between(ids(pair[:1]), ids(pair[1:])))
            scene.hold("the leader stays", scene.leads(leader, term), 4 * ELECTION)
            scene.works("all can be reached by way of the third")
            scene.settle()


def the_connected_core_has_a_stable_leader(build):
    """Three see each other; the fourth sees the second only, the fifth the third only. A leader
    that sees a majority stays; in place of any other soon one of the core leads, and stays."""
    with Scene(build, NODES_MAX) as scene:
        for place in ("middle", "bridge", "end"):
            leader, term = scene.leader()
            order = scene.others(leader)
            scene.chance.shuffle(order)
            order.insert(("middle", "bridge", "", "end").index(place), leader)
            one, two, three, four, five = ids(order)
            links = both([(one, two), (one, three), (two, three), (two, four), (three, five)])
            scene.rest()
            scene.network.cut({(a, b) for a in range(5) for b in range(5) if a != b} - links)
            core = order[:3]
            if place == "end":
                leader, took = scene.new_leader(core, term, late(9))
                term = int(scene.status(leader)["term"])
                print(f"  one of the core leads after {took:.3f} s")
            scene.hold("the leader stays", scene.leads(leader, term), 4 * ELECTION)
            scene.works("a majority is connected")
            scene.hold("the leader stays", scene.leads(leader, term), ELECTION)
            scene.settle()


# -- Bad links -----------------------------------------------------------------------------------


def a_flapping_link_makes_few_elections(build):
    with Scene(build, 3) as scene:
        leader, term = scene.leader()
        pair = between([leader.id], [scene.chance.choice(scene.others(leader)).id])
        before = scene.recorder.acknowledged
        ends = time.monotonic() + 10 * ELECTION
        flaps = 0
        while time.monotonic() < ends:
            (scene.network.cut if flaps % 2 == 0 else scene.network.heal)(pair)
            flaps += 1
            scene.go_on(ELECTION * scene.chance.uniform(0.1, 1.3))
        scene.settle()
        elections = scene.term() - term
        print(f"  {flaps} flaps: {elections} elections, "
              f"{scene.recorder.acknowledged - before} operations")
        check(elections <= 2, f"few elections: {elections}")


def links_stop_one_by_one_and_come_back_in_another_order(build):
    with Scene(build, NODES_MAX) as scene:
        before = scene.term()
        pairs = [(a, b) for a in range(NODES_MAX) for b in range(a)]
        scene.chance.shuffle(pairs)
        for pair in pairs:
            scene.network.cut(both([pair]))
            scene.go_on(ELECTION / 4)
        scene.chance.shuffle(pairs)
        for pair in pairs:
            scene.network.heal(both([pair]))
            scene.go_on(ELECTION / 4)
        scene.settle()
        print(f"  {scene.term() - before} elections")
        scene.works("all links are back")


def work_goes_on_while_packets_are_lost(build):
    seconds = 12 * ELECTION
    with Scene(build, NODES_MAX) as scene:
        term, before = scene.term(), scene.recorder.acknowledged
        scene.network.lossy(both((a, b) for a in range(NODES_MAX) for b in range(a)))
        scene.go_on(seconds)
        done = scene.recorder.acknowledged - before
        elections = scene.term() - term
        print(f"  {netns.LOSS_PERCENT} % lost: {done} operations in {seconds:g} s, "
              f"{elections} elections")
        check(done > 20, f"some operations are carried out: {done}")
        check(elections <= seconds / (1.5 * ELECTION), f"no storm of elections: {elections}")
        scene.settle()


# -- Ends without a word -------------------------------------------------------------------------


def nodes_that_vanish_without_a_word(build):
    """No FIN and no reset reaches anybody: as if the power had gone."""
    with Scene(build, NODES_MAX) as scene:
        for whom in ("leader", "lower", "higher"):
            leader, term = scene.leader()
            followers = scene.others(leader)
            node = leader
            if whom != "leader":  # the lower id dials
                fits = [n for n in followers if (n.id < leader.id) == (whom == "lower")]
                node = scene.chance.choice(fits or followers)
            others = scene.others(node)
            scene.network.cut(between([node.id], ids(others)))
            node.kill()
            if node is leader:
                _, elected = scene.new_leader(others, term, late(9))
                print(f"  leader gone: the next led after {elected:.3f} s")
            scene.works("a majority is there")
            node.start()
            scene.until("it answers", node.status, patience(5))
            began = time.monotonic()
            scene.settle()
            print(f"  {whom} back: whole after {time.monotonic() - began:.3f} s")


def dead_links_are_noticed_at_both_ends(build):
    """A link on which nothing is heard for 40 heartbeats is dropped; a new one replaces it."""
    with Scene(build, 3) as scene:
        leader, _ = scene.leader()
        one, two = scene.others(leader)
        scene.network.cut(between([one.id], [two.id]))
        took = scene.until("both ends drop a dead link",
                           lambda: all(s["peers_up"] == "1" for s in scene.statuses([one, two])),
                           40 * HEARTBEAT + late())
        began = time.monotonic()
        scene.settle()
        print(f"  noticed after {took:.3f} s, up again {time.monotonic() - began:.3f} s after it "
              "was mended")


# -- The minority --------------------------------------------------------------------------------


def the_minority_refuses_and_forgets(build):
    """Within 2 E a leader in the minority refuses everything, and answers what waits; what it could
    not commit is gone when the network is whole again."""
    with Scene(build, NODES_MAX) as scene:
        for turn in range(2):
            leader, term = scene.leader()
            minority = [leader, scene.chance.choice(scene.others(leader))]
            majority = scene.others(*minority)
            lost = f"lost-{turn}"
            with leader.connect(20) as writer, leader.connect(20) as reader:
                writer.ask(b"version\r\n")  # both are accepted
                reader.ask(b"version\r\n")
                scene.network.cut(between(ids(minority), ids(majority)))
                began = time.monotonic()
                writer.send(set_request(lost, b"x"))
                reader.send(b"get kept\r\n")
                index = int(scene.status(leader)["last_index"])
                answers = [writer.reply().code, reader.reply().code]
                took = time.monotonic() - began
                check(answers == ["ERR_TIMEOUT", "ERR_UNAVAILABLE"],
                      f"what waits at the minority's leader is answered: {answers}")
                check(took <= late(), f"within 2 E: {took:.2f} s")
            scene.until("every node of the minority refuses reads and writes",
                        lambda: _all_refuse(minority), began + late() - time.monotonic())
            refused = time.monotonic() - began
            winner, _ = scene.new_leader(majority, term, late(9))
            with winner.connect() as connection:
                reply = connection.ask(set_request("kept", b"%d" % turn))
                check(reply.code == "OK", f"the majority serves: {reply}")
            behind = int(scene.status(leader)["last_index"])
            check(behind >= index, "the minority's leader still has what it could not commit")
            scene.hold("the minority refuses", lambda: _all_refuse(minority), 2 * ELECTION)
            scene.settle()
            node, _ = scene.leader()
            with node.connect() as connection:
                check(connection.ask(b"get %s\r\n" % lost.encode()).code == "ERR_NOT_FOUND",
                      "what never committed is gone")
                check(connection.ask(b"get kept\r\n").value == b"%d" % turn, "what did is not")
            print(f"  what waited was answered after {took:.3f} s, "
                  f"everything was refused after {refused:.3f} s")


def _refuses(node, request):
    with node.connect(20) as connection:
        return connection.ask(request).code in ("ERR_REDIRECT", "ERR_UNAVAILABLE")


def _all_refuse(nodes):
    return all(_refuses(node, request) for node in nodes
               for request in (b"get kept\r\n", set_request("kept", b"no")))


# -- Everything at once --------------------------------------------------------------------------


def whatever_comes(build):
    """Cuts of all kinds, and nodes that are killed or put to sleep, at random."""
    with Scene(build, NODES_MAX) as scene:
        chance, network = scene.chance, scene.network
        ends = time.monotonic() + 20 * ELECTION
        before = scene.recorder.acknowledged
        done = []
        while time.monotonic() < ends:
            some = set(chance.sample(range(NODES_MAX), chance.randint(1, 3)))
            others = set(range(NODES_MAX)) - some
            pairs = [(a, b) for a in some for b in others]
            pairs = chance.choice([pairs, both(pairs), chance.sample(pairs, 2)])
            victim = chance.choice(scene.nodes)
            kind = chance.choice(["cut", "mute", "lossy", "heal", "kill", "sleep"])
            done.append(kind)
            if kind == "kill":
                victim.kill()
            elif kind == "sleep":
                victim.pause()
            elif kind == "heal":
                network.heal()
            else:
                getattr(network, kind)(pairs)
            scene.go_on(ELECTION * chance.uniform(0.2, 2))
            if kind == "kill":
                victim.start()
            elif kind == "sleep":
                victim.resume()
            if chance.random() < 0.3:
                scene.recorder.next_keys()
            if chance.random() < 0.3:
                network.heal()
        scene.settle()
        print(f"  {', '.join(done)}: {scene.recorder.acknowledged - before} operations")


REACH_MOST = [nodes_that_vanish_without_a_word, dead_links_are_noticed_at_both_ends,
              the_minority_refuses_and_forgets, whatever_comes]
SCENES = [a_leader_that_hears_nobody_steps_down, a_leader_that_hears_too_few_steps_down,
          a_leader_that_nobody_hears_is_replaced, a_follower_that_is_cut_off_disturbs_nobody,
          an_old_log_wins_no_election,
          whom_all_but_one_see_stays, the_connected_core_has_a_stable_leader,
          a_flapping_link_makes_few_elections,
          links_stop_one_by_one_and_come_back_in_another_order,
          work_goes_on_while_packets_are_lost, *REACH_MOST]


def main():
    reason = netns.refusal()
    if reason is not None:
        print(f"network_test: skipped: {reason}")
        sys.exit(77)
    with netns.Network(NODES_MAX) as Scene.network:
        is_short = "RAFTKV_TEST_SHORT" in os.environ
        run(*(REACH_MOST if is_short else SCENES), seconds=180)


main()
