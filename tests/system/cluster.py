"""Real nodes on loopback, and a client that keeps three outcomes apart.

    with Cluster(build, 3) as cluster:
        cluster.start()
        client = cluster.client()
        check(client.set("k", b"v").applied, "a write is acknowledged")
        cluster.leader().kill()
        check(client.read("k").value == b"v", "an acknowledged write survives the leader")

What a request did is one of three things, and a test must never take one for another:
APPLIED (the server said what came of it), REFUSED (it certainly did not happen), UNKNOWN (it may
have happened, or may yet). Client retries only what was refused.

Whatever a cluster starts ends with it: on leaving the `with` block, on SIGTERM, and by the kernel's
hand if the test itself is killed. Ports lie below the ephemeral range, so that no client's outgoing
connection can sit on the port of a node that is down, and each is reserved by an abstract socket,
so that tests can run side by side.

The environment: RAFTKV_BUILD (the build directory, if not the first argument), RAFTKV_SLOW (a
factor on every deadline; at least 5 with a sanitizer in the binary), RAFTKV_TEST_DIR (where data
directories go), RAFTKV_KEEP (leave them there)."""

import ctypes
import json
import math
import os
import pathlib
import random
import re
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback

POLL_SECONDS = 0.005
HOST = "127.0.0.1"
PORTS = range(20000, 32000)  # below ip_local_port_range of every common system

STATUS_NAMES = (
    "version id cluster role term leader last_index durable_index commit_index applied_index "
    "digest keys clients uptime_ms flush"
).split()

# For tests about something else than elections: a busy machine does not cause any.
CALM = {"HeartbeatMs": 100, "ElectionMinMs": 800, "ElectionMaxMs": 1200}

COMPLAINTS = r"Sanitizer: |runtime error: |Assertion [`'].* failed"

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Settings:
    """What the whole run shares; run() fills it in."""

    slow = 1.0
    sanitized = False


def patience(seconds):
    """A deadline that was meant for a quiet machine and a plain build."""
    return seconds * Settings.slow


class Failure(AssertionError):
    """A promise that was not kept; the text is the sentence that turned out to be false."""


def check(holds, sentence):
    if not holds:
        raise Failure(sentence)


def eventually(sentence, predicate, seconds=15):
    """Poll until `predicate` returns something true, and return that."""
    deadline = time.monotonic() + patience(seconds)
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"{sentence}: not within {patience(seconds):g} s")
        time.sleep(POLL_SECONDS)


# -- Running a test file -----------------------------------------------------------------------


def _is_sanitized(binary):
    try:
        return b"__asan_init" in binary.read_bytes()
    except OSError:
        return False


def run(*tests, seconds=60):
    """The main function of a test file: argv is [build directory [names of tests...]]."""
    arguments = sys.argv[1:]
    build = pathlib.Path(arguments[0] if arguments else os.environ.get("RAFTKV_BUILD", "build"))
    build = build.resolve()
    wanted = arguments[1:]
    Settings.sanitized = _is_sanitized(build / "server" / "raftkv-server")
    Settings.slow = max(float(os.environ.get("RAFTKV_SLOW", "1")), 5 if Settings.sanitized else 1)
    raise_descriptor_limit()

    def stop(number, _frame):
        raise SystemExit(f"ended by {signal.Signals(number).name}")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(int(patience(seconds)) + 1)

    failed = []
    for test in tests:
        if wanted and test.__name__ not in wanted:
            continue
        began = time.monotonic()
        try:
            test(build)
            verdict = "ok"
        except Exception as error:  # whatever it is, the other tests still run
            failed.append(test.__name__)
            verdict = "FAILED"
            if not isinstance(error, Failure):
                traceback.print_exc()
            print(f"  {error}", flush=True)
        print(f"{verdict:6} {test.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    sys.exit(1 if failed else 0)


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Workers:
    """Threads with a common end, whose errors are not lost.

    workers = Workers(writer_one, writer_two)    each called with an Event that says stop
    ...
    workers.finish()                             raises what the first of them raised
    """

    def __init__(self, *functions):
        self.stop = threading.Event()
        self.errors = []
        self.threads = [
            threading.Thread(target=self._run, args=(function,), daemon=True)
            for function in functions
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, function):
        try:
            function(self.stop)
        except Exception as error:
            self.errors.append(error)
            self.stop.set()

    def check(self):
        if self.errors:
            raise self.errors[0]

    def finish(self, seconds=30):
        self.stop.set()
        deadline = time.monotonic() + patience(seconds)
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.check()
        check(not any(t.is_alive() for t in self.threads), "every client got its last reply")


# -- One connection ----------------------------------------------------------------------------


class Reply:
    """One reply: its line, without the end; and the value that came with it."""

    def __init__(self, line, value=None):
        self.line = line
        self.words = line.decode("latin-1").split()
        self.code = self.words[0] if self.words else ""
        self.value = value

    @property
    def version(self):
        """Of `OK <version>`, `VALUE <version> <exptime> <size>` and `ERR_VERSION <version>`."""
        return int(self.words[1])

    @property
    def is_error(self):
        return self.code.startswith("ERR_")

    def __repr__(self):
        return repr(self.line) if self.value is None else f"{self.line!r} + {self.value[:40]!r}"


class Connection:
    """A socket with the text protocol on it; every wait has a deadline (TimeoutError). The end of
    the stream in the middle of something is a ConnectionError."""

    def __init__(self, port, timeout=5.0, host=HOST):
        self.timeout = timeout
        self.socket = socket.create_connection((host, port), timeout=timeout)
        if self.socket.getsockname() == self.socket.getpeername():
            self.socket.close()  # nobody listens: the kernel has joined the socket to itself
            raise ConnectionRefusedError("connected to itself")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def close(self):
        self.socket.close()

    def abort(self):
        """Close with a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def finish(self):
        """Half-close: no more requests."""
        self.socket.shutdown(socket.SHUT_WR)

    def _receive(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no reply in time")
        self.socket.settimeout(left)
        data = self.socket.recv(65536)
        self.socket.settimeout(self.timeout)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self.buffer += data

    def line(self):
        deadline = time.monotonic() + self.timeout
        begin = 0
        while (end := self.buffer.find(b"\n", begin)) < 0:
            begin = len(self.buffer)
            self._receive(deadline)
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        check(line.endswith(b"\r\n"), f"lines of replies end with CR LF: {line!r}")
        return line[:-2]

    def exactly(self, size):
        deadline = time.monotonic() + self.timeout
        while len(self.buffer) < size:
            self._receive(deadline)
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def reply(self):
        line = self.line()
        if not line.startswith(b"VALUE "):
            return Reply(line)
        data = self.exactly(int(line.split()[-1]) + 2)
        check(data.endswith(b"\r\n"), f"a value ends with CR LF: {data[-8:]!r}")
        return Reply(line, data[:-2])

    def ask(self, request):
        self.send(request)
        return self.reply()

    def status(self):
        self.send(b"status\r\n")
        status = {}
        while (line := self.line()) != b"END":
            word, name, value = (line.decode() + " ").split(" ", 2)
            check(word == "STAT", f"status answers with STAT lines: {line!r}")
            status[name] = value.strip()
        return status

    def at_end(self):
        """True once the server has closed; whatever it still sent is in `buffer`."""
        deadline = time.monotonic() + self.timeout
        try:
            while True:
                self._receive(deadline)
        except TimeoutError:
            return False
        except OSError:
            return True


def set_request(key, value, exptime=0, noreply=False):
    tail = " noreply" if noreply else ""
    return b"set %s %d %d%s\r\n%s\r\n" % (
        _bytes(key), exptime, len(value), tail.encode(), value)


def cas_request(key, value, version, exptime=0, noreply=False):
    tail = " noreply" if noreply else ""
    return b"cas %s %d %d %d%s\r\n%s\r\n" % (
        _bytes(key), exptime, version, len(value), tail.encode(), value)


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode()


# -- A client that follows the leader ----------------------------------------------------------

APPLIED, REFUSED, UNKNOWN = "applied", "refused", "unknown"

# What protocol.md's third column says, for requests whose answer is not their result.
_SURELY_NOT = {"ERR_REDIRECT", "ERR_UNAVAILABLE", "ERR_BUSY", "ERR_NO_SPACE", "ERR_TOO_LARGE",
               "ERR_CMD_ERR"}
_TRY_AGAIN = {"ERR_REDIRECT", "ERR_UNAVAILABLE", "ERR_BUSY"}
_RESULTS = {"OK", "VALUE", "DELETED", "ERR_VERSION", "ERR_NOT_FOUND"}


class Outcome:
    """What became of a request. `late`: unknown because the client stopped waiting, so a living
    server may still carry it out behind later requests."""

    def __init__(self, kind, reply=None, reason="", late=False):
        self.kind, self.reply, self.reason, self.late = kind, reply, reason, late

    @property
    def applied(self):
        return self.kind == APPLIED

    def is_(self, code):
        return self.kind == APPLIED and self.reply.code == code

    def __repr__(self):
        return f"{self.kind}: {self.reply or self.reason}"


def outcome_of(reply):
    """What a reply says of its request."""
    if reply.code in _RESULTS:
        return Outcome(APPLIED, reply)
    return Outcome(REFUSED if reply.code in _SURELY_NOT else UNKNOWN, reply)


class Client:
    """One request at a time, to whoever leads. Not for use by two threads."""

    def __init__(self, ports, first=None, timeout=3.0, hosts=None):
        self.ports = list(ports)
        self.hosts = hosts or dict.fromkeys(self.ports, HOST)
        self.at = first if first is not None else random.choice(self.ports)
        self.timeout = patience(timeout)
        self.connection = None
        self.redirects = 0

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _elsewhere(self):
        self.close()
        self.at = self.ports[(self.ports.index(self.at) + 1) % len(self.ports)]

    def _once(self, request):
        try:
            if self.connection is None:
                self.connection = Connection(self.at, self.timeout, self.hosts[self.at])
        except OSError as error:
            self._elsewhere()
            return Outcome(REFUSED, reason=f"cannot connect: {error}")
        try:
            reply = self.connection.ask(request)
        except OSError as error:  # TimeoutError and ConnectionError are OSErrors
            self._elsewhere()
            return Outcome(UNKNOWN, reason=str(error), late=isinstance(error, TimeoutError))
        outcome = outcome_of(reply)
        if reply.code == "ERR_REDIRECT":
            self._redirect(reply)
        elif not outcome.applied and reply.code != "ERR_BUSY":
            self._elsewhere()
        return outcome

    def _redirect(self, reply):
        check(len(reply.words) >= 3, f"a redirect names host and port: {reply}")
        port = int(reply.words[2])
        check(port in self.ports, f"a redirect names a client port of the cluster: {reply}")
        self.redirects += 1
        if port == self.at:
            self._elsewhere()
        else:
            self.close()
            self.at = port

    def call(self, request, seconds=15):
        """Carry out `request`; what was certainly refused is tried again until time is up."""
        deadline = time.monotonic() + patience(seconds)
        while True:
            outcome = self._once(request)
            may_retry = outcome.kind == REFUSED and (
                outcome.reply is None or outcome.reply.code in _TRY_AGAIN)
            if not may_retry or time.monotonic() > deadline:
                return outcome
            if outcome.reply is None or outcome.reply.code != "ERR_REDIRECT":
                time.sleep(POLL_SECONDS)

    def set(self, key, value, exptime=0, seconds=15):
        return self.call(set_request(key, value, exptime), seconds)

    def cas(self, key, value, version, exptime=0, seconds=15):
        return self.call(cas_request(key, value, version, exptime), seconds)

    def delete(self, key, seconds=15):
        return self.call(b"delete %s\r\n" % _bytes(key), seconds)

    def read(self, key, seconds=15):
        """The reply to `getm`: VALUE or ERR_NOT_FOUND. Reads change nothing, so they are repeated
        whatever happened."""
        deadline = time.monotonic() + patience(seconds)
        while True:
            outcome = self.call(b"getm %s\r\n" % _bytes(key), seconds)
            if outcome.applied:
                return outcome.reply
            check(time.monotonic() < deadline, f"a read of {key} is answered: {outcome}")
            time.sleep(POLL_SECONDS)


# -- Nodes and clusters ------------------------------------------------------------------------

_reserved = []  # abstract sockets: they last as long as this process


def free_ports(count):
    """Ports that nobody listens on and no other test will take."""
    ports = []
    for port in random.sample(PORTS, len(PORTS)):
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            reservation.bind(f"\0raftkv-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((HOST, port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        ports.append(port)
        if len(ports) == count:
            return ports
    raise Failure("there are enough free ports")


def server_command(build, config, id):
    return [str(build / "server" / "raftkv-server"), "--config", str(config), str(id)]


def spawner_command(build, config):
    return [str(build / "spawner" / "server-spawner"), "--config", str(config)]


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def environment():
    variables = dict(os.environ)
    if Settings.sanitized:  # so that memory that was freed does not look like memory in use
        variables["ASAN_OPTIONS"] = variables.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4"
    return variables


def launch(command, log, descriptors=None, **more):
    """Start a process in a session of its own; both its outputs go to the end of `log`. To be
    called by the main thread only: the child dies with the thread that made it.

    `descriptors`: its RLIMIT_NOFILE."""
    if descriptors is not None:
        command = ["/bin/sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *command]
    assert threading.current_thread() is threading.main_thread()
    with open(log, "ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=_die_with_parent, env=environment(), **more)


def processes_with(argument):
    """{pid: its arguments} of the living processes that have `argument` among their arguments: what
    a process started by a test has started itself."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        if argument in words:  # a zombie has none
            found[int(entry)] = words
    return found


def cpu_seconds(pid):
    """Processor time that all threads of a process have used, to the nanosecond if possible."""
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total / 1e9
    except (OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="latin-1") as file:
        return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024


def descriptor_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Node:
    """One server process. It may be started, ended and started again."""

    host = HOST

    def __init__(self, cluster, id, client_port, log_port):
        self.cluster, self.id = cluster, id
        self.client_port, self.log_port = client_port, log_port
        self.process = None
        self.told_to_end = False  # or waited for
        self.log = cluster.directory / f"node-{id}.log"

    def start(self, descriptors=None, config=None):
        assert not self.alive
        self.check_end()
        self.told_to_end = False
        self.process = launch(self.command(config or self.cluster.config), self.log, descriptors)

    def command(self, config):
        return server_command(self.cluster.build, config, self.id)

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def check_end(self):
        ended = self.process is not None and self.process.poll() is not None
        check(not ended or self.told_to_end,
              f"node {self.id} ends by itself only where that is expected: "
              f"exit {self.process.poll() if ended else None}")

    def signal(self, number):
        self.told_to_end = True
        self.process.send_signal(number)

    def pause(self):
        """Stop the process where it stands; unlike one that ended, it keeps its connections."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """kill -9, and wait until the kernel has cleaned up behind it."""
        if self.process is not None:
            self.check_end()
            self.told_to_end = True
            if self.alive:
                self.process.kill()
            self.process.wait()

    def exit_code(self, seconds=10):
        """Wait until it ends by itself."""
        self.told_to_end = True
        try:
            return self.process.wait(patience(seconds))
        except subprocess.TimeoutExpired:
            raise Failure(f"node {self.id} ends within {patience(seconds):g} s") from None

    def stop(self, seconds=10):
        if self.alive:
            self.signal(signal.SIGTERM)
        return self.exit_code(seconds)

    def connect(self, timeout=5.0):
        return Connection(self.client_port, patience(timeout), self.host)

    def status(self, timeout=1.0):
        """None if it does not answer."""
        try:
            with self.connect(timeout) as connection:
                return connection.status()
        except OSError:
            return None

    def data(self):
        return self.cluster.directory / "data" / str(self.id)

    def log_lines(self):
        try:
            return self.log.read_text(errors="replace").splitlines()
        except OSError:
            return []

    def grep(self, pattern):
        return [line for line in self.log_lines() if re.search(pattern, line)]


class Cluster:
    """`count` nodes with the ids 0, 1, 2, ...; nothing runs before start()."""

    node_type = Node

    def __init__(self, build, count=3, config=None, limits=None, directory=None):
        self.build = pathlib.Path(build)
        parent = directory or os.environ.get("RAFTKV_TEST_DIR")
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="raftkv-", dir=parent))
        ports = free_ports(2 * count)
        self.nodes = [self.node_type(self, i, ports[2 * i], ports[2 * i + 1]) for i in range(count)]
        self.settings = dict(config or {})
        if limits:
            self.settings["Limits"] = dict(limits)
        self.config = self.write_config("server.json")

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        complaints = []
        for node in self.nodes:
            try:
                node.kill()
            except Failure as failure:
                complaints.append(str(failure))
        complaints += self.complaints()
        if kind is not None or complaints:
            self.print_logs()
        if os.environ.get("RAFTKV_KEEP"):
            print(f"kept: {self.directory}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        if kind is None:
            check(not complaints, f"no node has met a bug of its own: {complaints[:5]}")

    def complaints(self):
        """Lines of assertions and sanitizers, which a restart would hide."""
        return [line for log in self.directory.glob("*log")
                for line in log.read_text(errors="replace").splitlines()
                if re.search(COMPLAINTS, line)]

    def print_logs(self, lines=12):
        for node in self.nodes:
            how = f"exit {node.process.poll()}" if node.process else "never started"
            print(f"--- node {node.id} ({how}), the end of its log:")
            print("\n".join(node.log_lines()[-lines:]), flush=True)

    def settings_of(self, nodes=None, **changes):
        """What server.json says, as a dictionary of its own."""
        settings = {
            "Path": "data",
            "Cluster": "raftkv-test",
            "Servers": [
                {"Id": n.id, "Host": n.host, "ClientPort": n.client_port, "LogPort": n.log_port}
                for n in (self.nodes if nodes is None else nodes)
            ],
        }
        settings.update(self.settings)
        settings.update(changes)
        return json.loads(json.dumps(settings))

    def write_config(self, name, settings=None):
        file = self.directory / name
        file.write_text(json.dumps(settings or self.settings_of(), indent=2) + "\n")
        return file

    @property
    def ports(self):
        return [node.client_port for node in self.nodes]

    @property
    def living(self):
        return [node for node in self.nodes if node.alive]

    def start(self, **how):
        """Start whatever is down; wait until every node answers and one leads."""
        for node in self.nodes:
            if not node.alive:
                node.start(**how)
        eventually("every node that was started answers",
                   lambda: all(node.status() for node in self.nodes))
        return self.leader()

    def kill(self):
        """All at once: first the signals, then the waiting."""
        for node in self.living:
            node.told_to_end = True
            node.process.kill()
        for node in self.nodes:
            node.kill()

    def leader(self, seconds=15):
        """The node that leads, once it serves."""

        def find():
            leaders = []
            for node in self.living:
                status = node.status()
                if status and status.get("role") == "leader":
                    leaders.append((int(status["term"]), node))
            if not leaders:
                return None
            node = max(leaders, key=lambda pair: pair[0])[1]
            try:
                with node.connect(2.0) as connection:
                    reply = connection.ask(b"get raftkv-probe\r\n")
            except OSError:
                return None
            return node if reply.code in ("VALUE", "ERR_NOT_FOUND") else None

        return eventually("a leader serves", find, seconds)

    def followers(self):
        leader = self.leader()
        return [node for node in self.living if node is not leader]

    def client(self, first=None, timeout=3.0):
        hosts = {node.client_port: node.host for node in self.nodes}
        return Client(self.ports, first.client_port if first else None, timeout, hosts)

    def agree(self, seconds=20):
        """Wait until all living nodes have applied the same entries; then their digests must be
        equal. Returns the statuses."""

        def same():
            statuses = [node.status() for node in self.living]
            if not statuses or any(status is None for status in statuses):
                return None
            for status in statuses:
                check_indices(status)
            return statuses if len({s["applied_index"] for s in statuses}) == 1 else None

        statuses = eventually("all nodes apply the same entries", same, seconds)
        digests = {status["digest"] for status in statuses}
        check(len(digests) == 1,
              f"digests at applied index {statuses[0]['applied_index']} are equal: {digests}")
        return statuses


def check_indices(status):
    """A node speaks only of what its log holds."""
    applied, commit = int(status["applied_index"]), int(status["commit_index"])
    durable, last = int(status["durable_index"]), int(status["last_index"])
    check(applied <= commit <= last and durable <= last,
          f"applied <= commit <= last and durable <= last: {status}")


# -- Failover ----------------------------------------------------------------------------------


def time_failover(cluster):
    """Kill the leader with SIGKILL; the seconds from the signal to the first acknowledged write.

    Asks all other nodes at once, over connections that were there before, so that it is the
    cluster that is timed and not a client's search."""
    leader = cluster.leader()
    others = {node.client_port: node.connect() for node in cluster.living if node is not leader}
    request = set_request("failover", b"%d" % time.monotonic_ns())
    for connection in others.values():
        connection.ask(b"version\r\n")

    began = time.monotonic()
    leader.signal(signal.SIGKILL)
    for connection in others.values():
        connection.send(request)
    try:
        ended = _first_acknowledgement(list(others.values()), request, began)
    finally:
        for connection in others.values():
            connection.close()
    leader.kill()
    return ended - began


def _first_acknowledgement(connections, request, began):
    waiting = {connection.socket.fileno(): connection for connection in connections}
    again = []
    while time.monotonic() < began + patience(20):
        ready, _, _ = select.select(list(waiting), [], [], 0.002)
        for connection in again:
            connection.send(request)
        again = []
        for number in ready:
            if waiting[number].reply().code == "OK":
                return time.monotonic()
            again.append(waiting[number])
    raise Failure("a write is acknowledged after the leader was killed")


def time_failovers(cluster, kills):
    """`kills` failovers of a cluster that is whole before each; the seconds of each."""
    times = []
    for _ in range(kills):
        cluster.start()
        cluster.agree()
        times.append(time_failover(cluster))
    cluster.start()
    return times


def percentile(values, share):
    """The smallest value that at least `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def describe_times(times):
    return (f"median {statistics.median(times) * 1000:.0f} ms, "
            f"p99 {percentile(times, 0.99) * 1000:.0f} ms, max {max(times) * 1000:.0f} ms")
