"""A network for the nodes of a test alone: each has a network namespace of its own, and one more,
the hub, holds the bridge that joins them. Nothing of it is visible outside.

    reason = refusal()                 why there can be no such network here; None if there can
    with Network(5) as network:        this process moves into the hub, and its children with it
        with NetworkCluster(network, build, 5) as cluster:
            cluster.start()
            network.cut([(0, 1)])      packets from node 0 to node 1 vanish silently
            network.heal()

Rules are for one direction each, and take effect on all pairs at once:

    cut    every packet is dropped. TCP needs both directions, so a cut one way soon silences both:
           what is not acknowledged is sent again, and nothing behind it
    mute   only packets that carry data are dropped: the sender hears everything, and even learns
           that it was heard to listen, but cannot say a word. The one-way cut of the textbooks
    lossy  30 % of the packets are dropped, by chance

They stand in the bridge, so neither end is told anything, and connections from the hub, the tests'
own, pass whatever is cut. Names begin with `raftkv<pid>-`; what a test that was killed has left
behind, the next one removes."""

import atexit
import ctypes
import os
import re
import shutil
import subprocess

from cluster import Cluster, Node

FOLDER = "/run/netns"
CLONE_NEWNET = 0x40000000
LOSS_PERCENT = 30
# No packet without data is longer (IPv4, at most 40 bytes of TCP options), and no frame of a node's
# is shorter: 52 bytes of headers and 32 of its own.
EMPTY_PACKET_BYTES_MAX = 80

RULES = """
table bridge raftkv {
    set cut { type ipv4_addr . ipv4_addr; }
    set mute { type ipv4_addr . ipv4_addr; }
    set lossy { type ipv4_addr . ipv4_addr; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        ip saddr . ip daddr @cut counter drop
        ip saddr . ip daddr @mute ip length > %d counter drop
        ip saddr . ip daddr @lossy numgen random mod 100 < %d counter drop
    }
}
""" % (EMPTY_PACKET_BYTES_MAX, LOSS_PERCENT)

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The system does not let us; the text says why."""


def _call(*command, text=None):
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", errors="replace", timeout=30, check=False)
    if done.returncode != 0:
        reason = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Refused(f"`{' '.join(command)}` says: {reason[0]}")
    return done.stdout


def refusal():
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"there is no program `{program}`"
    try:
        with Network(2):
            return None
    except (Refused, OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def remove_leftovers():
    """Namespaces of tests that are no more."""
    try:
        names = os.listdir(FOLDER)
    except OSError:
        return
    for name in names:
        pid = re.match(r"raftkv(\d+)-", name)
        if pid and not os.path.exists(f"/proc/{pid.group(1)}"):
            _delete(name)


def _delete(name):
    try:
        _call("ip", "netns", "delete", name)
    except (Refused, OSError, subprocess.TimeoutExpired):
        pass  # somebody else was quicker, or it is in use: the next test tries again


def _enter(descriptor):
    """Move this thread, and what it starts from now on, into a namespace."""
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise Refused(f"setns says: {os.strerror(ctypes.get_errno())}")


class Network:
    """`count` namespaces and the hub. To be used by the main thread, before there are others."""

    def __init__(self, count):
        self.count = count
        self.prefix = f"raftkv{os.getpid()}-"
        self.hub = self.prefix + "hub"
        self.rules = {"cut": set(), "mute": set(), "lossy": set()}
        self.home = None

    def name(self, id):
        return f"{self.prefix}{id}"

    @staticmethod
    def address(id):
        return f"10.99.77.{id + 1}"

    def __enter__(self):
        remove_leftovers()
        atexit.register(self._remove)
        try:
            self._build()
            self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            hub = os.open(f"{FOLDER}/{self.hub}", os.O_RDONLY)
            _enter(hub)
            os.close(hub)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_error):
        _enter(self.home)
        os.close(self.home)
        self._remove()

    def _build(self):
        for name in [self.hub, *map(self.name, range(self.count))]:
            _call("ip", "netns", "add", name)
        _call("ip", "-netns", self.hub, "-batch", "-", text="".join(self._hub_commands()))
        for id in range(self.count):
            _call("ip", "-netns", self.name(id), "-batch", "-", text=(
                "link set lo up\n"
                f"address add {self.address(id)}/24 dev eth0\n"
                "link set eth0 up\n"))
        _call("ip", "netns", "exec", self.hub, "nft", "-f", "-", text=RULES)

    def _hub_commands(self):
        yield "link set lo up\nlink add bridge0 type bridge\n"
        yield f"address add {self.address(252)}/24 dev bridge0\nlink set bridge0 up\n"
        for id in range(self.count):
            yield f"link add node{id} type veth peer name eth0 netns {self.name(id)}\n"
            yield f"link set node{id} master bridge0\nlink set node{id} up\n"

    def _remove(self):
        for name in [*map(self.name, range(self.count)), self.hub]:
            if os.path.exists(f"{FOLDER}/{name}"):
                _delete(name)

    # -- Rules: pairs are (from, to), by the ids of nodes

    def cut(self, pairs):
        self._add("cut", pairs)

    def mute(self, pairs):
        self._add("mute", pairs)

    def lossy(self, pairs):
        self._add("lossy", pairs)

    def swap(self, name, pairs):
        """These rules in place of all others, at one moment."""
        for rules in self.rules.values():
            rules.clear()
        self._add(name, pairs)

    def heal(self, pairs=None):
        """Take back every rule, or those about these pairs."""
        for rules in self.rules.values():
            rules.difference_update(list(rules) if pairs is None else pairs)
        self._apply()

    def _add(self, name, pairs):
        self.rules[name].update(pairs)
        self._apply()

    def _apply(self):
        """All at once: nft takes its input as one transaction."""
        lines = []
        for name, pairs in self.rules.items():
            lines.append(f"flush set bridge raftkv {name}\n")
            elements = ", ".join(f"{self.address(a)} . {self.address(b)}" for a, b in sorted(pairs))
            if elements:
                lines.append(f"add element bridge raftkv {name} {{ {elements} }}\n")
        _call("nft", "-f", "-", text="".join(lines))


def both(pairs):
    """The pairs, and the same in the other direction."""
    pairs = list(pairs)
    return {*pairs, *((b, a) for a, b in pairs)}


def between(some, others):
    """Every pair of one node of each group, in both directions."""
    return both((a, b) for a in some for b in others)


class NetworkNode(Node):
    @property
    def host(self):
        return self.cluster.network.address(self.id)

    def command(self, config):
        name = self.cluster.network.name(self.id)
        return ["ip", "netns", "exec", name, *super().command(config)]


class NetworkCluster(Cluster):
    """Node i runs in namespace i. A cluster begins in a network without rules."""

    node_type = NetworkNode

    def __init__(self, network, *arguments, **more):
        self.network = network
        network.heal()
        super().__init__(*arguments, **more)
