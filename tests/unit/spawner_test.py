#!/usr/bin/env python3
"""The real spawner, over servers that are shell scripts of a few lines.

    spawner_test.py SPAWNER [TEST...]

A script is called as the server is, "--config FILE ID", so $3 is the node's id. Every test has a
folder of its own; nothing waits for a time where it can wait for an event."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SPAWNER = ""
PATIENCE = 30  # seconds until something that must happen is given up

# Runs until it is asked to stop, tells by which signal, and leaves no process behind.
STEADY = """
sleep 1000 >/dev/null 2>&1 & sleeper=$!
trap 'kill $sleeper; echo got TERM; exit 0' TERM
trap 'kill $sleeper; echo got INT; exit 0' INT
echo ready
while :; do wait; done
"""


class Output:
    """Reads a pipe in the background, and remembers when each line came. `pause`: between reads."""

    def __init__(self, pipe, pause=0):
        self.lines, self.times, self.pause = [], [], pause
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self.thread.start()

    def _read(self, pipe):
        for line in pipe:
            if self.pause and len(self.lines) % 100 == 0:
                time.sleep(self.pause)
            with self.changed:
                self.times.append(time.monotonic())
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        pipe.close()

    def find(self, pattern):
        return [line for line in self.lines if re.search(pattern, line)]

    def wait_for(self, pattern, count=1):
        """The first `count` lines with `pattern` in them."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.find(pattern)) >= count, PATIENCE):
                text = "\n".join(self.lines)
                raise AssertionError(f"no {count} lines with /{pattern}/ in:\n{text}")
            return self.find(pattern)[:count]


class SpawnerTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="raftkv-spawner-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.process = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text, mode=0o755):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def write_config(self, count):
        servers = [{"Id": i, "Host": "localhost", "ClientPort": 9000 + i, "LogPort": 8000 + i}
                   for i in range(count)]
        return self.write("server.json", json.dumps({"Path": "data", "Servers": servers}))

    def launch(self, command, **more):
        """In a session of its own, all of which is killed when the test is over. Whatever has started
        us (nohup, say), a hangup means there what it means by default."""
        more.setdefault("preexec_fn", lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        self.process = subprocess.Popen(command, start_new_session=True, cwd=self.folder,
                                        stderr=subprocess.PIPE, **more)
        self.addCleanup(self.end_session, self.process)
        return self.process

    @staticmethod
    def end_session(process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        process.stderr.close()

    def start(self, script, count=1, *options, pause=0, **more):
        """Over `count` nodes that run `script`; sets self.output."""
        server = self.write("fake-server", "#!/bin/sh\n" + script)
        self.launch([SPAWNER, "--config", self.write_config(count), "--server", server, *options],
                    **more)
        self.output = Output(self.process.stderr, pause)

    def end(self, number=None):
        """The spawner's exit code; `number` is the signal that asks for its end."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.output.thread.join(PATIENCE)
        return code

    def pid_of(self, id, run=1):
        line = self.output.wait_for(rf"node {id} started, pid", run)[-1]
        return int(line.rsplit(" ", 1)[1])

    # -- Starting and stopping

    def test_every_node_starts_with_file_and_id(self):
        self.start('echo "called $*"\n' + STEADY, 3)
        for id in range(3):
            self.output.wait_for(rf"^\[{id}\] called --config {self.folder}/server.json {id}$")
        self.output.wait_for("ready", 3)
        self.assertEqual(self.end(signal.SIGTERM), 0)

    def test_term_is_passed_on(self):
        self.start(STEADY, 3)
        self.output.wait_for("ready", 3)
        self.assertEqual(self.end(signal.SIGTERM), 0)
        self.assertEqual(len(self.output.find(r"^\[[012]\] got TERM$")), 3)
        self.assertEqual(len(self.output.find(r"exited with code 0$")), 3)
        self.assertEqual(self.output.lines[-1], "[spawner] all nodes have stopped")

    def test_int_is_passed_on(self):
        self.start(STEADY, 2)
        self.output.wait_for("ready", 2)
        self.assertEqual(self.end(signal.SIGINT), 0)
        self.assertEqual(len(self.output.find("got INT")), 2)

    def test_hangup_stops_as_term_does(self):
        self.start(STEADY, 2)
        self.output.wait_for("ready", 2)
        self.assertEqual(self.end(signal.SIGHUP), 0)
        self.assertEqual(len(self.output.find("got TERM")), 2)

    def test_under_nohup_a_hangup_is_ignored(self):
        self.start(STEADY, 1, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.output.wait_for("ready")
        self.process.send_signal(signal.SIGHUP)
        os.kill(self.pid_of(0), signal.SIGHUP)
        os.kill(self.pid_of(0), signal.SIGKILL)
        self.output.wait_for("node 0 was ended by signal 9 .* started again")  # so it goes on
        self.output.wait_for("ready", 2)
        self.assertEqual(self.end(signal.SIGTERM), 0)
        self.assertEqual(len(self.output.find("got TERM")), 1)

    def test_a_second_request_to_stop_changes_nothing(self):
        self.start("trap 'echo got TERM' TERM; trap 'echo got INT' INT; echo ready\n"
                   "until [ -e $0.stop ]; do sleep 0.01; done")
        self.output.wait_for("ready")
        self.process.send_signal(signal.SIGTERM)
        self.output.wait_for("got TERM")
        self.process.send_signal(signal.SIGINT)
        self.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # nothing is to come of them, so there is no event to wait for
        self.write("fake-server.stop", "")
        self.assertEqual(self.end(), 0)
        self.assertEqual(len(self.output.find("got")), 1)
        self.assertEqual(len(self.output.find("stopping all nodes")), 1)

    def test_ctrl_c_reaches_all_at_once_and_more_than_once(self):
        self.start(STEADY, 3)
        self.output.wait_for("ready", 3)
        for _ in range(3):
            os.killpg(self.process.pid, signal.SIGINT)
        self.assertEqual(self.end(), 0)
        self.assertEqual(len(self.output.find("stopping all nodes")), 1)

    def test_a_shell_that_ignores_int_in_the_background_does_no_harm(self):
        self.start(STEADY, 1, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        self.output.wait_for("ready")
        self.assertEqual(self.end(signal.SIGINT), 0)
        self.assertEqual(len(self.output.find("got INT")), 1)

    def test_one_node_that_fails_to_stop_well_is_an_exit_code(self):
        self.start("[ $3 = 1 ] && trap 'exit 3' TERM || trap 'exit 0' TERM\n"
                   "echo ready; while :; do sleep 0.01; done", 3)
        self.output.wait_for("ready", 3)
        self.assertEqual(self.end(signal.SIGTERM), 1)
        self.assertEqual(len(self.output.find("node 1 exited with code 3")), 1)
        self.assertEqual(self.output.lines[-1],
                         "[spawner] all nodes have ended, 1 of 3 not as they should")

    def test_a_node_that_does_not_stop_is_killed(self):
        self.start("trap '' TERM; echo ready; while :; do sleep 0.1; done")
        self.output.wait_for("ready")
        began = time.monotonic()
        self.assertEqual(self.end(signal.SIGTERM), 1)
        self.assertGreater(time.monotonic() - began, 9.9)
        self.assertEqual(
            len(self.output.find("node 0 has not stopped within 10 s: killing it")), 1)
        self.assertEqual(len(self.output.find(r"node 0 was ended by signal 9 \(Killed\)")), 1)

    def test_a_node_sees_no_input_and_no_descriptor_of_the_spawner(self):
        self.start("[ -z \"$(cat)\" ] && echo empty; ls /proc/self/fd | tr '\\n' ' '; echo;"
                   + STEADY, 3)
        self.output.wait_for(r"^\[[012]\] empty$", 3)
        self.output.wait_for(r"^\[[012]\] 0 1 2 3 $", 3)  # 3 is the folder that ls reads
        self.output.wait_for("ready", 3)
        self.assertEqual(self.end(signal.SIGTERM), 0)

    # -- Dying

    def test_a_killed_node_is_started_again(self):
        self.start(STEADY, 3)
        self.output.wait_for("ready", 3)
        first = self.pid_of(1)
        os.kill(first, signal.SIGKILL)
        self.output.wait_for(r"node 1 was ended by signal 9 \(Killed\) after \d+\.\d{3} s; "
                             "it is started again in 100 ms")
        second = self.pid_of(1, run=2)
        self.assertNotEqual(first, second)
        self.output.wait_for("ready", 4)
        self.assertEqual(self.end(signal.SIGTERM), 0)

    def test_a_node_that_ends_unasked_is_started_again(self):
        self.start("[ -e $0.once ] || { touch $0.once; exit 0; }" + STEADY)
        self.output.wait_for("node 0 exited with code 0 after .* started again in 100 ms")
        self.output.wait_for("ready")
        self.assertEqual(self.end(signal.SIGTERM), 0)

    def test_a_crash_loop_backs_off(self):
        self.start("echo run; exit 1")
        self.output.wait_for("started again in 1600 ms")
        waits = re.findall(r"again in (\d+) ms", "\n".join(self.output.lines))
        self.assertEqual(waits, ["100", "200", "400", "800", "1600"])
        runs = [when for line, when in zip(self.output.lines, self.output.times)
                if line == "[0] run"]
        self.assertEqual(len(runs), 5)
        self.assertGreater(runs[4] - runs[0], 1.5)
        self.assertEqual(self.end(signal.SIGTERM), 1)
        self.assertEqual(len(self.output.find("started, pid")), 5)

    def test_a_stop_ends_a_long_wait_at_once(self):
        self.start("exit 1")
        self.output.wait_for("again in 3200 ms")
        began = time.monotonic()
        self.assertEqual(self.end(signal.SIGTERM), 1)
        self.assertLess(time.monotonic() - began, 3)

    def test_exit_code_2_is_final(self):
        self.start("[ $3 = 1 ] && { echo wrong key; exit 2; }" + STEADY, 2)
        self.output.wait_for(r"node 1 exited with code 2: it will not start \(its own message is "
                             r"above\); giving up on it$")
        self.output.wait_for(r"^\[0\] ready")
        self.assertEqual(self.end(signal.SIGTERM), 1)
        self.assertEqual(len(self.output.find("node 1 started")), 1)
        self.assertLess(self.output.lines.index("[1] wrong key"),
                        self.output.lines.index(self.output.find("giving up")[0]))

    def test_when_no_node_will_start_the_spawner_ends(self):
        self.start("exit 2", 3)
        self.assertEqual(self.end(), 1)
        self.assertEqual(len(self.output.find("giving up")), 3)

    def test_a_parent_that_ignores_its_children_does_no_harm(self):
        self.start("exit 2", 2, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.assertEqual(self.end(), 1)
        self.assertEqual(len(self.output.find("giving up")), 2)

    def test_no_restart(self):
        self.start(STEADY, 2, "--no-restart")
        self.output.wait_for("ready", 2)
        os.kill(self.pid_of(0), signal.SIGKILL)
        self.output.wait_for("node 0 was ended by signal 9 .*not started again")
        self.assertEqual(self.end(signal.SIGTERM), 1)
        self.assertEqual(len(self.output.find("node 0 started")), 1)
        self.assertEqual(len(self.output.find(r"^\[1\] got TERM")), 1)

    def test_no_restart_and_all_end_well(self):
        self.start("exit 0", 2, "--no-restart")
        self.assertEqual(self.end(), 0)

    def test_a_server_that_vanishes_is_reported_and_tried_again(self):
        self.start(STEADY)
        self.output.wait_for("ready")
        os.rename(self.path("fake-server"), self.path("away"))
        os.kill(self.pid_of(0), signal.SIGKILL)
        self.output.wait_for("node 0 cannot be started: No such file or directory after")
        os.rename(self.path("away"), self.path("fake-server"))
        self.output.wait_for("ready", 2)
        self.assertEqual(self.end(signal.SIGTERM), 0)

    def test_nodes_outlive_a_killed_spawner(self):
        self.start("trap '' PIPE; echo ready; while :; do echo x; : > $0.$3.alive; sleep 0.01; "
                   "done 2>/dev/null", 2)
        self.output.wait_for("ready", 2)
        self.process.kill()
        self.process.wait()
        for id in range(2):
            alive = self.path(f"fake-server.{id}.alive")
            deadline = time.monotonic() + PATIENCE
            for _ in range(2):  # twice: the first may be from before
                while not os.path.exists(alive):
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.01)
                os.unlink(alive)

    # -- Lines

    def test_lines_are_put_together_from_pieces(self):
        self.start("printf 'one'; sleep 0.05; printf ' and two\\n\\nthree'; exit 2", 1)
        self.assertEqual(self.end(), 1)
        self.assertEqual([line for line in self.output.lines if line.startswith("[0]")],
                         ["[0] one and two", "[0] ", "[0] three"])

    def test_a_long_line_loses_nothing(self):
        self.start("i=0; while [ $i -lt 1000 ]; do printf '0123456789'; i=$((i + 1)); done; exit 2")
        self.assertEqual(self.end(), 1)
        pieces = [line for line in self.output.lines if line.startswith("[0]")]
        self.assertEqual([piece[:4] for piece in pieces], ["[0] ", "[0]+", "[0]+"])
        self.assertEqual("".join(piece[4:] for piece in pieces), "0123456789" * 1000)

    def test_both_outputs_are_passed_on(self):
        self.start("echo to stdout; echo to stderr >&2; exit 2")
        self.assertEqual(self.end(), 1)
        self.assertEqual(len(self.output.find(r"^\[0\] to std(out|err)$")), 2)

    def test_a_flood_that_is_read_slowly_loses_nothing(self):
        self.start("seq 1 20000; exit 2", 2, pause=0.005)
        self.assertEqual(self.end(), 1)
        for id in range(2):
            got = [line[4:] for line in self.output.lines if line.startswith(f"[{id}] ")]
            self.assertEqual(got, [str(i) for i in range(1, 20001)])

    def test_an_output_that_is_not_read_stops_nothing(self):
        server = self.write("fake-server", "#!/bin/sh\n[ $3 = 0 ] && { seq 1 100000; "
                            ": > $0.written; }" + STEADY)
        self.launch([SPAWNER, "--config", self.write_config(2), "--server", server])
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(self.path("fake-server.written")):
            self.assertLess(time.monotonic(), deadline, "the node is held up")
            time.sleep(0.01)
        self.output = Output(self.process.stderr)  # from here on it is read
        self.output.wait_for("^.0. [0-9]+$", 100)
        self.assertEqual(self.end(signal.SIGTERM), 0)
        note = self.output.find(r"^\[spawner\] \d+ lines were dropped: nobody read this output$")
        self.assertEqual(len(note), 1)
        kept = len(self.output.find(r"^\[0\] \d+$"))
        self.assertGreaterEqual(int(note[0].split()[1]), 100000 - kept)

    def test_an_unread_output_does_not_delay_a_stop(self):
        server = self.write("fake-server", "#!/bin/sh\ntrap 'exit 0' TERM\n: > $0.$3\n"
                            "while :; do seq 1 1000; done")
        self.launch([SPAWNER, "--config", self.write_config(2), "--server", server])
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(server + ".0") or not os.path.exists(server + ".1"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.process.wait(9), 0)

    def test_an_output_that_is_gone_stops_nothing(self):
        server = self.write("fake-server", "#!/bin/sh\n: > $0.ready\nseq 1 1000\n" + STEADY)
        self.launch([SPAWNER, "--config", self.write_config(1), "--server", server])
        self.process.stderr.close()
        deadline = time.monotonic() + PATIENCE
        while not os.path.exists(server + ".ready"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.process.send_signal(signal.SIGTERM)
        self.assertIn(self.process.wait(PATIENCE), (0, 1))  # 1: before its trap was set

    # -- Refusing

    def refuse(self, *arguments):
        """The one line, of a spawner that starts nothing."""
        result = subprocess.run([SPAWNER, *arguments], cwd=self.folder, capture_output=True,
                                text=True, timeout=PATIENCE, check=False)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        return result.stderr.rstrip("\n")

    def test_a_missing_file(self):
        self.assertEqual(
            self.refuse(),
            "server-spawner: ./server.json: cannot read it: No such file or directory")

    def test_a_mistake_in_the_file(self):
        file = self.write("bad.json", '{"Path": "data", "Servers": []}')
        self.assertEqual(self.refuse("--config", file),
                         f"server-spawner: {file}: Servers: must be 1 to 9 servers, not 0")

    def test_a_missing_server(self):
        self.write_config(1)
        self.assertEqual(
            self.refuse("--server", "/no/such\nfile"),
            "server-spawner: --server: '/no/such?file' is no program that can be run")
        self.assertIn("is no program", self.refuse("--server", self.folder))
        self.assertIn("is no program",
                      self.refuse("--server", self.write("plain", "text", mode=0o644)))

    def test_an_unknown_option(self):
        self.assertEqual(self.refuse("--what"),
                         "server-spawner: unknown option '--what' (see --help)")

    # -- Asking

    def ask(self, spawner, *arguments):
        result = subprocess.run([spawner, *arguments], cwd=self.folder, capture_output=True,
                                text=True, timeout=PATIENCE, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_help_goes_to_stdout(self):
        self.assertIn("Usage: server-spawner", self.ask(SPAWNER, "--help"))

    def test_the_list_names_ids_and_addresses(self):
        self.write_config(2)
        self.assertEqual(self.ask(SPAWNER, "--list"),
                         "0 localhost 9000 8000\n1 localhost 9001 8001\n")

    def install(self, spawner, server):
        for place in spawner, server:
            os.makedirs(os.path.dirname(self.path(place)), exist_ok=True)
        shutil.copy(SPAWNER, self.path(spawner))
        self.write(server, "#!/bin/sh\necho from $0\nexit 2\n")
        config = self.write_config(1)
        result = subprocess.run([self.path(spawner), "--config", config], cwd="/",
                                capture_output=True, text=True, timeout=PATIENCE, check=False)
        return result.stderr

    def test_the_server_is_found_in_the_build_directory(self):
        found = self.install("build/spawner/server-spawner", "build/server/raftkv-server")
        self.assertIn(f"from {self.folder}/build/spawner/../server/raftkv-server\n", found)

    def test_the_server_is_found_where_it_is_installed(self):
        found = self.install("bin/server-spawner", "bin/raftkv-server")
        self.assertIn(f"from {self.folder}/bin/raftkv-server\n", found)

    def test_a_server_that_is_nowhere_is_one_line(self):
        os.makedirs(self.path("bin"))
        shutil.copy(SPAWNER, self.path("bin/server-spawner"))
        self.write_config(1)
        result = subprocess.run([self.path("bin/server-spawner")], cwd=self.folder,
                                capture_output=True, text=True, timeout=PATIENCE, check=False)
        self.assertEqual(result.returncode, 2)
        self.assertRegex(result.stderr, r"^server-spawner: there is no program 'raftkv-server' in "
                                        r".*; build it, or say where it is with --server\n$")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    SPAWNER = os.path.abspath(sys.argv.pop(1))
    if len(sys.argv) > 1:  # tests may be named without their class
        sys.argv[1:] = [f"SpawnerTest.{name}" for name in sys.argv[1:]]
    unittest.main(verbosity=2)
