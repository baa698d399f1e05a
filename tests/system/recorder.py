"""What clients and observers saw of real nodes, and the check of it.

Clients record what they asked and were told, on the one monotonic clock of the machine: a request's
time is taken before it is sent, a reply's after it is read. All their events, merged, are a
history, and `histcheck` says whether one machine that never fails could have answered so:

    recorder = Recorder(seed)
    workers = Workers(*recorder.functions(cluster), *watch.functions)
    ...                                 faults; recorder.next_keys() from time to time
    workers.finish()
    recorder.read_all(cluster)          whatever was lost is missed here at the latest
    print(recorder.verify(cluster))

All clients fight for few keys. Requests whose outcome is unknown (they may be carried out at any
later moment, or never) make a history hard to check, so the keys change now and then, and each gets
its share of them.

Watch asks every node for its status all the time, and checks what can be told from outside:

  - one leader a term;
  - term, commit index and applied index of a process never fall, nor its node's term over restarts;
  - digests are equal at equal applied index, on all nodes and at all times;
  - applied <= commit <= last.

The file of a history, one event a line in the order of time (invokes first where times are equal,
which only ever allows more):

    raftkv-history 1
    <process> invoke get <key>                    <process> ok value <value> <version, 0: not told>
                                                  <process> ok none
    <process> invoke set <key> <value>            <process> ok version <version>
    <process> invoke cas <key> <version> <value>  <process> ok version <version>
                                                  <process> ok differs <version>
                                                  <process> ok none
    <process> invoke delete <key>                 <process> ok deleted
                                                  <process> ok none
    any of them                                   <process> fail        surely without effect
                                                  <process> unknown     perhaps, perhaps later"""

import itertools
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import threading
import time

from cluster import (APPLIED, REFUSED, UNKNOWN, Connection, Failure, Outcome, cas_request, check,
                     check_indices, eventually, outcome_of, patience, set_request)

SURE_SECONDS = 0.2  # what a node says of its term for so long is on its disk


# -- Operations --------------------------------------------------------------------------------


class Operation:
    """One request, as a history and as the server read it."""

    def __init__(self, words, request):
        self.words, self.request = words, request
        self.is_read = words.startswith("get ")


def get(key):
    return Operation(f"get {key}", b"get %s\r\n" % key.encode())


def getm(key):
    return Operation(f"get {key}", b"getm %s\r\n" % key.encode())


def set_(key, value):
    return Operation(f"set {key} {value}", set_request(key, value.encode()))


def cas(key, version, value):
    return Operation(f"cas {key} {version} {value}", cas_request(key, value.encode(), version))


def delete(key):
    return Operation(f"delete {key}", b"delete %s\r\n" % key.encode())


def told(reply):
    """The reply to an operation that was carried out, in a history's words."""
    if reply.code == "VALUE":
        version = reply.version if len(reply.words) == 4 else 0
        return f"ok value {reply.value.decode()} {version}"
    return {
        "OK": lambda: f"ok version {reply.version}",
        "DELETED": lambda: "ok deleted",
        "ERR_VERSION": lambda: f"ok differs {reply.version}",
        "ERR_NOT_FOUND": lambda: "ok none",
    }[reply.code]()


_NEVER = ("ERR_CMD_ERR", "ERR_TOO_LARGE", "ERR_INTERNAL")


# -- Clients that record -----------------------------------------------------------------------


class RecordingClient:
    """One request at a time; not for use by two threads. With a `home`, it asks that node only,
    whatever the node says of others; else it follows the leader.

    After an unknown outcome it goes on as another process, since the old one has not returned."""

    def __init__(self, recorder, nodes, home=None, timeout=1.0):
        self.recorder, self.nodes, self.home = recorder, list(nodes), home
        self.at = home or random.choice(self.nodes)
        self.timeout = timeout
        self.connection = None
        self.events = []  # (time, whether it is a return, process, words)
        self.process = next(recorder.processes)
        self.time = 0
        recorder.clients.append(self)

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _note(self, is_return, words):
        while (now := time.monotonic_ns()) <= self.time:
            pass
        self.time = now
        self.events.append((now, is_return, self.process, words))

    def _elsewhere(self):
        self.close()
        if self.home is None:
            self.at = self.nodes[(self.nodes.index(self.at) + 1) % len(self.nodes)]

    def _follow(self, reply):
        check(len(reply.words) >= 3, f"a redirect names host and port: {reply}")
        named = [n for n in self.nodes
                 if [n.host, str(n.client_port)] == reply.words[1:3]]
        check(named, f"a redirect names a node of the cluster: {reply}")
        if self.home is None:
            if named[0] is self.at:
                self._elsewhere()
            else:
                self.close()
                self.at = named[0]

    def once(self, operation):
        """Send it once, and record what comes of it. None if nobody took the connection."""
        try:
            if self.connection is None:
                self.connection = Connection(self.at.client_port, self.timeout, self.at.host)
        except OSError:
            self._elsewhere()
            return None
        self._note(False, f"invoke {operation.words}")
        try:
            outcome = outcome_of(self.connection.ask(operation.request))
        except OSError as error:
            outcome = Outcome(UNKNOWN, reason=str(error))
        if outcome.kind == UNKNOWN and operation.is_read:
            outcome.kind = REFUSED  # whatever became of it, it changed nothing
        if outcome.kind == APPLIED:
            self._note(True, told(outcome.reply))
            return outcome
        check(outcome.reply is None or outcome.reply.code not in _NEVER,
              f"{operation.words} is a good request: {outcome}")
        self._note(True, "fail" if outcome.kind == REFUSED else "unknown")
        if outcome.kind == UNKNOWN:
            self.process = next(self.recorder.processes)
        if outcome.reply is not None and outcome.reply.code == "ERR_REDIRECT":
            self._follow(outcome.reply)
        elif outcome.reply is None or outcome.reply.code != "ERR_BUSY":
            self._elsewhere()
        return outcome

    def read(self, key, seconds=15):
        """Ask again until it is answered."""
        outcome = None

        def answered():
            nonlocal outcome
            outcome = self.once(getm(key))
            return outcome is not None and outcome.applied

        eventually(f"a read of {key} is answered", answered, seconds)
        return outcome.reply


class Recorder:
    """The clients of one test, and their history. `seed` decides what they ask."""

    def __init__(self, seed, keys=3, think_seconds=0.004):
        self.seed, self.key_count, self.think_seconds = seed, keys, think_seconds
        self.processes = itertools.count(1)
        self.clients = []
        self.epoch = 0
        self.resting = False  # while it is true, clients ask nothing
        self.acknowledged = 0  # not exact: threads add to it without a lock

    def next_keys(self):
        """From now on all clients use other keys."""
        self.epoch += 1

    def functions(self, cluster, roaming=2):
        """For Workers: clients that follow the leader; and for each node two that ask it alone, of
        which one only reads: it never has to wait for a write that cannot commit, and so it would
        see what an old leader remembers."""
        return [*(self.client(cluster) for _ in range(roaming)),
                *(self.client(cluster, node) for node in cluster.nodes),
                *(self.client(cluster, node, only_reads=True) for node in cluster.nodes)]

    def client(self, cluster, home=None, only_reads=False, timeout=1.0):
        """A function for Workers: asks this and that until told to stop."""
        number = len(self.clients)
        chance = random.Random(f"{self.seed}/{number}")
        client = RecordingClient(self, cluster.nodes, home, timeout)

        def work(stop):
            versions = {}  # of each key, the last one heard of
            for turn in itertools.count():
                if stop.is_set():
                    break
                if self.resting:
                    stop.wait(self.think_seconds)
                    continue
                key = f"k{self.epoch}.{chance.randrange(self.key_count)}"
                if only_reads:
                    operation = chance.choice([get, getm])(key)
                else:
                    operation = _choose(chance, key, f"{number}.{turn}", versions)
                outcome = client.once(operation)
                if outcome is not None and outcome.applied:
                    self.acknowledged += 1
                    _remember(versions, key, outcome.reply)
                    pause = self.think_seconds
                else:
                    pause = 4 * self.think_seconds
                stop.wait(pause * (0.5 + chance.random()))
            client.close()

        return work

    def read_all(self, cluster, seconds=30):
        """Read every key that was ever used, once all faults have ended."""
        client = RecordingClient(self, cluster.nodes, timeout=patience(3))
        for key in [f"k{e}.{i}" for e in range(self.epoch + 1) for i in range(self.key_count)]:
            client.read(key, seconds)
        client.close()

    def events(self):
        """All events of all clients, in the order of time."""
        merged = itertools.chain.from_iterable(client.events for client in self.clients)
        return sorted(merged, key=lambda event: event[:2])

    def verify(self, cluster):
        """Let histcheck judge. Returns a line about the history.

        A history with one lie in it must be found out, or the verdict means nothing."""
        events = self.events()
        file = cluster.directory / "history.txt"
        write_history(file, events)
        code, output = histcheck(cluster.build, file)
        if code != 0:
            kept = pathlib.Path(tempfile.mkdtemp(prefix="raftkv-history-")) / "history.txt"
            shutil.copy(file, kept)
            raise Failure(f"the history is linearizable: exit {code}; the history is in {kept}\n"
                          f"{output}")
        lie = file.with_name("lie.txt")
        write_history(lie, with_a_lie(events))
        code, output = histcheck(cluster.build, lie)
        check(code == 1, f"histcheck finds a stale read: exit {code}\n{output}")
        kinds = [words.split()[0] for _, _, _, words in events]
        return (f"{kinds.count('ok')} operations, {kinds.count('fail')} refused, "
                f"{kinds.count('unknown')} unknown: linearizable")


def _choose(chance, key, value, versions):
    """Mostly what makes others' answers wrong if it goes wrong: writes, and reads of them."""
    dice = chance.random()
    if dice < 0.30:
        return get(key)
    if dice < 0.50:
        return getm(key)
    if dice < 0.75:
        return set_(key, value)
    if dice < 0.95:
        return cas(key, versions.get(key, 0), value)
    return delete(key)


def _remember(versions, key, reply):
    if reply.code in ("OK", "ERR_VERSION") or len(reply.words) == 4:
        versions[key] = reply.version
    elif reply.code in ("DELETED", "ERR_NOT_FOUND"):
        versions[key] = 0


def write_history(file, events):
    with open(file, "w", encoding="ascii") as output:
        output.write("raftkv-history 1\n")
        output.writelines(f"{process} {words}\n" for _, _, process, words in events)


def histcheck(build, file):
    """Its exit code, 0 if the history is linearizable and 1 if not; and what it says."""
    program = pathlib.Path(build) / "tests" / "histcheck" / "histcheck"
    done = subprocess.run([program, file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=patience(60), check=False)
    return done.returncode, done.stdout.decode(errors="replace")[-4000:]


def with_a_lie(events):
    """The same events, but for the last read that found a value of which it is known that it came
    after another one: it finds the older one."""
    calls = {}  # process: the words of its call, and when
    writes = {}  # key: its acknowledged sets: (invoked, returned, value, version)
    reads = []  # (place, key, value, version)
    for place, (now, is_return, process, words) in enumerate(events):
        if not is_return:
            calls[process] = (now, words.split()[1:])
            continue
        began, call = calls[process]
        answer = words.split()
        if call[0] in ("set", "cas") and answer[:2] == ["ok", "version"]:
            writes.setdefault(call[1], []).append((began, now, call[-1], answer[2]))
        if call[0] == "get" and answer[:2] == ["ok", "value"] and answer[3] != "0":
            reads.append((place, call[1], answer[2]))
    for place, key, value in reversed(reads):
        began = next((w[0] for w in writes.get(key, ()) if w[2] == value), 0)
        for _, returned, older, version in writes.get(key, ()):
            if returned < began:
                now, is_return, process, _ = events[place]
                lie = (now, is_return, process, f"ok value {older} {version}")
                return [*events[:place], lie, *events[place + 1:]]
    raise Failure("the history has a key that was written twice, and read")


# -- The observer ------------------------------------------------------------------------------


class _Life:
    """What one process has said of itself."""

    def __init__(self, term_min):
        self.term_min = term_min  # what its node's earlier lives have surely left on the disk
        self.last = None
        self.term_since = None


class Watch:
    """`functions` are for Workers: each asks one node, all the time."""

    def __init__(self, cluster, interval_seconds=0.02):
        self.interval_seconds = interval_seconds
        self.leaders = {}  # term: the id that led in it
        self.digests = {}  # applied index: the digest there, and who said so first
        self.sure_terms = {node.id: 0 for node in cluster.nodes}
        self.seen = 0
        self.lock = threading.Lock()
        self.functions = [self._watcher(node) for node in cluster.nodes]

    def _watcher(self, node):
        def work(stop):
            life, pid = None, None
            while not stop.is_set():
                before = node.process and node.pid
                try:
                    with node.connect(1.0) as connection:
                        status = connection.status()
                        # A connection is to one process; by its id we know it again.
                        same = pid is not None and pid == before == node.pid
                        pid = before if before == node.pid else None
                        if not same:
                            life = _Life(self.sure_terms[node.id])
                        while not stop.is_set():
                            self._look(node, life, status)
                            stop.wait(self.interval_seconds)
                            status = connection.status()
                except OSError:
                    stop.wait(self.interval_seconds)

        return work

    def _look(self, node, life, status):
        with self.lock:
            self.seen += 1
            check_indices(status)
            self._check_life(node, life, status)
            self._check_leader(status)
            self._check_digest(node, status)

    def _check_life(self, node, life, status):
        term = int(status["term"])
        check(term >= life.term_min,
              f"node {node.id} starts with the term that it had ({life.term_min}): {status}")
        if life.last is not None:
            for name in ("term", "commit_index", "applied_index"):
                check(int(status[name]) >= int(life.last[name]),
                      f"{name} of node {node.id} never falls: {status} after {life.last}")
        # `status` may tell of a term that is still on its way to the disk, and a kill may catch it
        # there. That of a leader is on the disk; so is one that has been told of for some time.
        now = time.monotonic()
        if life.last is None or int(life.last["term"]) != term:
            life.term_since = now
        if status["role"] == "leader" or now - life.term_since >= SURE_SECONDS:
            self.sure_terms[node.id] = max(self.sure_terms[node.id], term)
        life.last = status

    def _check_leader(self, status):
        if status["role"] != "leader":
            return
        first = self.leaders.setdefault(int(status["term"]), status["id"])
        check(first == status["id"],
              f"one leader a term: {first} and {status['id']} in {status['term']}")

    def _check_digest(self, node, status):
        if status["applied_index"] == "0":
            return
        place = status["applied_index"]
        digest, other = self.digests.setdefault(place, (status["digest"], node.id))
        check(digest == status["digest"],
              f"digests at applied index {place} are equal: {digest} of node {other}, "
              f"{status['digest']} of node {node.id}")

    def leader_id(self):
        """Who led last, as far as we have seen; None at first."""
        return int(self.leaders[max(self.leaders)]) if self.leaders else None

    def report(self):
        return (f"{self.seen} statuses, {len(self.leaders)} terms with a leader, "
                f"digests at {len(self.digests)} indices")


def seed_of_run():
    """RAFTKV_SEED, or a new one; either way it is printed."""
    seed = int(os.environ.get("RAFTKV_SEED") or random.randrange(1 << 32))
    print(f"  RAFTKV_SEED={seed}", flush=True)
    return seed
