"""Writers that remember what they were told, and the check of what is there in the end.

Each writer has keys of its own and never writes the same value twice, so a value names the write
that it came from. After the faults the final state is compared with what the writers know:

  - a key holds its last acknowledged write, or one behind it whose outcome is unknown (or any one
    that the writer gave up waiting for while the server lived: that may be carried out late);
  - with the version that was acknowledged;
  - no two writes were given one version, and of two writes of which one began after the other was
    acknowledged, the later one has the greater version;
  - a reader never saw a value that nobody wrote, nor a version of a key older than one it saw.

One more key, `counter`, is shared: every writer adds 1 to it with `cas`. No two may be told that
they made the same number, and the end lies between what was acknowledged and what may have been."""

import threading
import time

from cluster import Failure, check


class Write:
    def __init__(self, key, value):
        self.key, self.value = key, value  # value None: a delete
        self.began = time.monotonic()
        self.ended = None
        self.outcome = None
        self.version = 0

    def end(self, outcome):
        self.ended = time.monotonic()
        self.outcome = outcome
        if outcome.is_("OK"):
            self.version = outcome.reply.version

    @property
    def acknowledged(self):
        return self.outcome.applied

    def __repr__(self):
        return f"{self.key}={self.value} ({self.outcome})"


class History:
    """What all writers and readers of one test know. Each thread has its own lists."""

    def __init__(self):
        self.lock = threading.Lock()
        self.writes = {}  # key: its writes, in their order; one writer each
        self.increments = []  # (number it made, outcome), of all writers

    def writer(self, cluster, name, keys=20):
        """A function for Workers: sets, compares and deletes keys of its own until told to stop."""

        def work(stop):
            client = cluster.client()
            own = [_KeyWriter(self, f"{name}-{i}") for i in range(keys)]
            turn = 0
            while not stop.is_set():
                own[turn % keys].step(client, turn)
                if turn % 5 == 0:
                    self._increment(client)
                turn += 1
            client.close()

        return work

    def reader(self, cluster, names, keys=20):
        """A function for Workers: reads the writers' keys and checks what it is told."""

        def work(stop):
            client = cluster.client()
            newest = {}
            turn = 0
            while not stop.is_set():
                key = f"{names[turn % len(names)]}-{turn // len(names) % keys}"
                turn += 1
                reply = client.read(key, seconds=30)
                if reply.code != "VALUE":
                    continue
                written = list(self.writes.get(key, ()))
                check(any(w.value == reply.value for w in reversed(written)),
                      f"a reader sees only what was written: {key} is {reply}")
                check(reply.version >= newest.get(key, 0),
                      f"versions of {key} grow: {reply} after {newest.get(key)}")
                newest[key] = reply.version
            client.close()

        return work

    def _increment(self, client):
        reply = client.read("counter", seconds=30)
        number = int(reply.value) + 1 if reply.code == "VALUE" else 1
        version = reply.version if reply.code == "VALUE" else 0
        outcome = client.cas("counter", b"%d" % number, version, seconds=30)
        with self.lock:
            self.increments.append((number, outcome))

    def acknowledged(self):
        return sum(w.acknowledged for writes in list(self.writes.values()) for w in list(writes)
                   if w.outcome)

    def verify(self, client):
        """Compare the final state with the history. Returns a line about it."""
        for key, writes in self.writes.items():
            reply = client.read(key, seconds=30)
            check(_explains(writes, reply),
                  f"{key} holds its last acknowledged write or a later unknown one: it is {reply}, "
                  f"after {writes[-6:]}")
        self._verify_versions()
        self._verify_counter(client)
        unknown = sum(w.outcome.kind == "unknown" for ws in self.writes.values() for w in ws)
        return f"{self.acknowledged()} writes acknowledged, {unknown} unknown, all accounted for"

    def _verify_versions(self):
        writes = [w for ws in self.writes.values() for w in ws if w.version]
        writes.sort(key=lambda w: w.version)
        latest = None  # of those with smaller versions, the one that began last
        for before, write in zip([None, *writes], writes):
            check(before is None or before.version != write.version,
                  f"a version is given once: {before} and {write}")
            check(latest is None or write.ended >= latest.began,
                  f"versions follow time: {write} was acknowledged before {latest} began")
            if latest is None or write.began > latest.began:
                latest = write

    def _verify_counter(self, client):
        made = [number for number, outcome in self.increments if outcome.is_("OK")]
        check(len(made) == len(set(made)), "no two clients made the same number with cas")
        maybe = sum(outcome.kind == "unknown" for _, outcome in self.increments)
        reply = client.read("counter", seconds=30)
        end = int(reply.value) if reply.code == "VALUE" else 0
        check(len(made) <= end <= len(made) + maybe,
              f"the counter, {end}, is {len(made)} acknowledged increments and up to {maybe} more")


class _KeyWriter:
    """The one writer of one key. It knows the key's version as long as every outcome was known."""

    def __init__(self, history, key):
        self.key = key
        self.writes = history.writes.setdefault(key, [])
        self.version = 0  # 0: not there; None: not known
        self.late = False  # a request that was given up may still be carried out

    def step(self, client, turn):
        value = b"%s %d" % (self.key.encode(), turn)
        if self.version is None:
            self._look(client)
        if turn % 11 == 10:
            self._delete(client)
        elif turn % 3 == 2:
            self._compare(client, value)
        else:
            self._set(client, value)

    def _look(self, client):
        if self.late:
            return
        reply = client.read(self.key, seconds=30)
        self.version = reply.version if reply.code == "VALUE" else 0

    def _begin(self, value):
        write = Write(self.key, value)
        self.writes.append(write)
        return write

    def _end(self, write, outcome):
        write.end(outcome)
        self.late = self.late or outcome.late
        if self.late or outcome.kind == "unknown":
            self.version = None
        elif outcome.applied:
            self.version = write.version

    def _set(self, client, value):
        write = self._begin(value)
        outcome = client.set(self.key, value, seconds=30)
        check(not outcome.applied or outcome.is_("OK"), f"set answers OK: {outcome}")
        self._end(write, outcome)

    def _compare(self, client, value):
        if self.version is None:
            self._set(client, value)
            return
        write = self._begin(value)
        outcome = client.cas(self.key, value, self.version, seconds=30)
        if outcome.applied and not outcome.is_("OK"):
            raise Failure(f"the only writer of {self.key} knows its version {self.version}: "
                          f"{outcome} after {self.writes[-4:]}")
        self._end(write, outcome)

    def _delete(self, client):
        was = self.version
        write = self._begin(None)
        outcome = client.delete(self.key, seconds=30)
        if was is not None and outcome.applied:
            wanted = "DELETED" if was else "ERR_NOT_FOUND"
            check(outcome.is_(wanted),
                  f"delete of {self.key} (version {was}) answers {wanted}: {outcome}")
        self._end(write, outcome)


def _explains(writes, reply):
    """Whether the key may end as `reply` says after `writes` in their order."""
    last = max((i for i, w in enumerate(writes) if w.acknowledged), default=None)
    unknown = [w for i, w in enumerate(writes)
               if w.outcome.kind == "unknown" and (last is None or i > last or w.outcome.late)]
    there = reply.value if reply.code == "VALUE" else None
    if last is None:
        if there is None:
            return True
    elif writes[last].value == there:
        return there is None or writes[last].version == reply.version
    floor = max((w.version for w in writes), default=0)
    return any(w.value == there for w in unknown) and (there is None or reply.version > floor)
