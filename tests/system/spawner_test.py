#!/usr/bin/env python3
"""server-spawner and real nodes: what dies is started again, what is stopped stays stopped, and
nobody is left behind."""

import os
import pathlib
import signal
import socket

from cluster import (CALM, HOST, Cluster, check, eventually, launch, patience, processes_with, run,
                     spawner_command)


class Spawned:
    """A cluster that a spawner runs; the harness only looks on."""

    def __init__(self, build, count=3):
        self.cluster = Cluster(build, count, CALM)
        self.log = self.cluster.directory / "spawner.log"

    def __enter__(self):
        command = spawner_command(self.cluster.build, self.cluster.config)
        self.process = launch(command, self.log)
        return self

    def __exit__(self, kind, error, trace):
        self.process.kill()
        self.process.wait()
        eventually("no process is left", self._all_are_dead)
        if kind is not None:
            print("--- the end of the spawner's output:")
            print("\n".join(self.text().splitlines()[-25:]), flush=True)
        self.cluster.__exit__(None, None, None)

    def _all_are_dead(self):
        pids = processes_with(str(self.cluster.config))
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended by itself
        return not pids

    def text(self):
        return self.log.read_text(errors="replace")

    def pids(self):
        """{id: pid} of the nodes that run."""
        found = {}
        for pid, words in processes_with(str(self.cluster.config)).items():
            if any(pathlib.Path(word).name == "raftkv-server" for word in words):
                found[int(words[-1])] = pid
        return found

    def leader(self, strange=None):
        """The node that leads. `strange`: one whose port is another's, so that it is not asked."""

        def find():
            for node in self.cluster.nodes:
                if node is strange:
                    continue
                if (node.status() or {}).get("role") == "leader":
                    return node
            return None

        return eventually("a leader is elected", find)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience(15))


def write(spawned, value):
    client = spawned.cluster.client()
    outcome = client.set("k", value)
    check(outcome.is_("OK"), f"the cluster serves: {outcome}")
    client.close()


def a_dead_node_is_started_again(build):
    with Spawned(build) as spawned:
        leader = spawned.leader()
        check(sorted(spawned.pids()) == [0, 1, 2], f"three nodes run: {spawned.pids()}")
        write(spawned, b"1")
        for id in (leader.id, (leader.id + 1) % 3):
            old = spawned.pids()[id]
            os.kill(old, signal.SIGKILL)
            eventually("the dead node runs again",
                       lambda: spawned.pids().get(id, old) != old)
            eventually("and answers", lambda: spawned.cluster.nodes[id].status())
            write(spawned, b"2")
        code = spawned.stop()
        check(code == 0, f"the spawner ends with 0, not {code}")
        check(not spawned.pids(), f"no node is left: {spawned.pids()}")
        for node in spawned.cluster.nodes:
            check_port_is_free(node.client_port)
            check_port_is_free(node.log_port)


def check_port_is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            check(False, f"port {port} is free again: {error}")


def a_stopped_cluster_starts_again_with_its_data(build):
    with Spawned(build) as spawned:
        spawned.leader()
        write(spawned, b"kept")
        check(spawned.stop() == 0, "it stops")
        spawned.process = launch(
            spawner_command(build, spawned.cluster.config), spawned.log)
        spawned.leader()
        check(spawned.cluster.client().read("k").value == b"kept", "the data is there")
        check(spawned.stop() == 0, "it stops")


def nodes_outlive_their_spawner(build):
    """P13: without it they go on."""
    with Spawned(build) as spawned:
        spawned.leader()
        write(spawned, b"1")
        pids = spawned.pids()
        spawned.process.kill()
        spawned.process.wait()
        for turn in range(20):
            write(spawned, b"%d" % turn)
        check(spawned.pids() == pids, "the same nodes run")


def a_wrong_file_is_refused(build):
    with Spawned(build, 1) as spawned:
        spawned.leader()
        check(spawned.stop() == 0, "with a right file, it runs and stops")
        bad = spawned.cluster.directory / "wrong.json"
        bad.write_text('{"Path": "data", "Servers": [], "Colour": 1}')
        process = launch(spawner_command(build, bad), spawned.log)
        check(process.wait(patience(10)) == 2, "a wrong file is refused with 2")
        check("wrong.json" in spawned.text(), "the file is named")


def a_port_in_use_is_reported(build):
    """G2: which node, which port; the others run."""
    three = Spawned(build)
    victim = three.cluster.nodes[1]
    with socket.socket() as occupant:
        occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupant.bind((HOST, victim.client_port))
        occupant.listen()
        with three as spawned:
            with spawned.leader(strange=victim).connect() as connection:
                check(connection.ask(b"set k 0 1\r\nv\r\n").code == "OK", "two nodes serve")

            def is_reported():
                return any(str(victim.client_port) in line and "1" in line
                           for line in spawned.text().splitlines())

            eventually("the spawner reports the node and its port", is_reported)
            spawned.process.send_signal(signal.SIGTERM)
            spawned.process.wait(patience(15))
            check(not spawned.pids(), f"no node is left: {spawned.pids()}")


run(a_dead_node_is_started_again, a_stopped_cluster_starts_again_with_its_data,
    nodes_outlive_their_spawner, a_wrong_file_is_refused, a_port_in_use_is_reported, seconds=60)
