#!/usr/bin/env python3
"""What a node refuses to start with: a wrong server.json, a port or a directory that is another's.
It says which file and key, or which directory, and leaves with the exit code 2; and whoever was
there first notices nothing."""

import copy
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import tempfile
import time

from cluster import (CALM, HOST, Cluster, Failure, check, eventually, free_ports, launch, patience,
                     run, server_command)

REFUSED = 2


def start_and_end(build, config, id, log, seconds=10, **more):
    """Run a server that should not start; its exit code and what it said."""
    log.write_bytes(b"")
    process = launch(server_command(build, config, id), log, **more)
    try:
        code = process.wait(patience(seconds))
    except Exception:
        code = None
    finally:
        process.kill()
        process.wait()
    return code, log.read_text(errors="replace")


def check_refusal(answer, words, what):
    """The exit code is 2, and every word is in the message (upper or lower case)."""
    code, text = answer
    check(code == REFUSED, f"{what}: exit code 2, not {code}: {text.strip()[-300:]}")
    for word in words:
        check(str(word).lower() in text.lower(),
              f"{what}: the message names {word}: {text.strip()[-300:]}")


# -- G1: server.json -----------------------------------------------------------------------------

BASE = {
    "Path": "data",
    "Cluster": "raftkv-test",
    "Servers": [{"Id": i, "Host": HOST, "ClientPort": 20900 + i, "LogPort": 20800 + i}
                for i in range(3)],
}


def changed(function):
    settings = copy.deepcopy(BASE)
    function(settings)
    return settings


def with_top(**keys):
    return changed(lambda s: s.update(keys))


def without(key):
    return changed(lambda s: s.pop(key))


def with_server(**keys):
    return changed(lambda s: s["Servers"][1].update(keys))


def without_server_key(key):
    return changed(lambda s: s["Servers"][1].pop(key))


def with_limit(**keys):
    return with_top(Limits=keys)


WRONG = [  # what is wrong, the settings, the key that the message names
    ("an id twice", with_server(Id=0), "Id"),
    ("a client port twice", with_server(ClientPort=20900), "ClientPort"),
    ("a log port twice", with_server(LogPort=20800), "LogPort"),
    ("one port for both", with_server(LogPort=20901), "Port"),
    ("one port of two nodes for both", with_server(LogPort=20900), "Port"),
    ("our id absent", changed(lambda s: s["Servers"].pop(0)), "Id"),
    ("an unknown key", with_top(Colour="red"), "Colour"),
    ("a slip of the pen", with_top(HeartbeetMs=50), "HeartbeetMs"),
    ("an unknown key of a server", with_server(Port=1), "Port"),
    ("an unknown limit", with_limit(Everything=1), "Everything"),
    ("no Path", without("Path"), "Path"),
    ("no Servers", without("Servers"), "Servers"),
    ("no Id", without_server_key("Id"), "Id"),
    ("no Host", without_server_key("Host"), "Host"),
    ("no ClientPort", without_server_key("ClientPort"), "ClientPort"),
    ("no LogPort", without_server_key("LogPort"), "LogPort"),
    ("no server at all", with_top(Servers=[]), "Servers"),
    ("ten servers", with_top(Servers=[
        {"Id": i, "Host": HOST, "ClientPort": 20900 + i, "LogPort": 20800 + i}
        for i in range(10)]), "Servers"),
    ("Path a number", with_top(Path=7), "Path"),
    ("Path empty", with_top(Path=""), "Path"),
    ("Cluster a list", with_top(Cluster=[]), "Cluster"),
    ("Cluster with a space", with_top(Cluster="a b"), "Cluster"),
    ("Cluster too long", with_top(Cluster="a" * 100), "Cluster"),
    ("Servers an object", with_top(Servers={}), "Servers"),
    ("a server a number", with_top(Servers=[1, 2, 3]), "Servers"),
    ("Id text", with_server(Id="1"), "Id"),
    ("Id negative", with_server(Id=-1), "Id"),
    ("Id with a fraction", with_server(Id=1.5), "Id"),
    ("Id too large", with_server(Id=1 << 31), "Id"),
    ("Host empty", with_server(Host=""), "Host"),
    ("Host null", with_server(Host=None), "Host"),
    ("port zero", with_server(ClientPort=0), "ClientPort"),
    ("port too large", with_server(LogPort=65536), "LogPort"),
    ("port text", with_server(LogPort="8000"), "LogPort"),
    ("heartbeat text", with_top(HeartbeatMs="50"), "HeartbeatMs"),
    ("heartbeat zero", with_top(HeartbeatMs=0), "HeartbeatMs"),
    ("heartbeat above the election time-out",
     with_top(HeartbeatMs=400, ElectionMinMs=300, ElectionMaxMs=600), "HeartbeatMs"),
    ("heartbeat equal to it",
     with_top(HeartbeatMs=300, ElectionMinMs=300, ElectionMaxMs=600), "HeartbeatMs"),
    ("election minimum above its maximum",
     with_top(ElectionMinMs=500, ElectionMaxMs=400), "ElectionM"),
    ("an unknown way to flush", with_top(Flush="never"), "Flush"),
    ("an unknown log level", with_top(LogLevel="loud"), "LogLevel"),
    ("Limits a list", with_top(Limits=[]), "Limits"),
    ("a limit of zero", with_limit(Clients=0), "Clients"),
    ("a limit out of range", with_limit(ValueBytes=1 << 40), "ValueBytes"),
    ("a limit that is true", with_limit(Pipeline=True), "Pipeline"),
]

GOOD_TEXT = json.dumps(BASE)

NO_JSON = [  # what is wrong, the text
    ("an empty file", ""),
    ("truncated", GOOD_TEXT[:-20]),
    ("truncated to a brace", "{"),
    ("a list", "[]"),
    ("a number", "1"),
    ("something behind it", GOOD_TEXT + "}"),
    ("deep nesting", "[" * 100_000),
    ("deep nesting in a key", '{"Path":' + '{"a":' * 50_000 + "1" + "}" * 50_001),
    ("no JSON", "Path = data\n"),
    ("a NUL byte", GOOD_TEXT[:30] + "\0" + GOOD_TEXT[30:]),
    ("a key twice", GOOD_TEXT[:-1] + ', "Path": "elsewhere"}'),
    ("a key twice, in another case", GOOD_TEXT[:-1] + ', "path": "elsewhere"}'),
]


def folder():
    return tempfile.TemporaryDirectory(prefix="raftkv-", dir=os.environ.get("RAFTKV_TEST_DIR"))


def what_is_wrong_in_the_file_is_named(build):
    with folder() as place:
        config, log = pathlib.Path(place, "cluster-under-test.json"), pathlib.Path(place, "log")
        for what, settings, key in WRONG:
            config.write_text(json.dumps(settings))
            check_refusal(start_and_end(build, config, 0, log), (config.name, key), what)
        for what, text in NO_JSON:
            config.write_text(text)
            check_refusal(start_and_end(build, config, 0, log), (config.name,), what)
        config.unlink()
        check_refusal(start_and_end(build, config, 0, log), (config.name,), "no file")
        check_refusal(start_and_end(build, place, 0, log), (place,), "a folder for a file")
        config.write_text(GOOD_TEXT)
        check_refusal(start_and_end(build, config, 7, log), (config.name, "7"), "an unknown id")
        check(not pathlib.Path(place, "data").exists(), "nothing was made on the way")


# -- G2: ports -----------------------------------------------------------------------------------


def a_port_in_use_is_named(build):
    with Cluster(build, 1) as cluster:
        node = cluster.nodes[0]
        for port in (node.client_port, node.log_port):
            with socket.socket() as occupant:
                occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                occupant.bind((HOST, port))
                occupant.listen()
                began = time.monotonic()
                code, text = start_and_end(build, cluster.config, 0, cluster.directory / "log")
                check(code in (1, REFUSED), f"a port in use ends the node: {code}")
                check(str(port) in text, f"it names the port {port}: {text[-300:]}")
                check(time.monotonic() - began < patience(3), "at once")
        cluster.start()


# -- D16, D21: directories -----------------------------------------------------------------------


def a_foreign_directory_is_refused(build):
    with Cluster(build, 3) as cluster:
        cluster.start()
        check(cluster.client().set("k", b"v").is_("OK"), "the cluster works")
        cluster.agree()
        cluster.kill()
        log = cluster.directory / "log"
        data, aside = cluster.nodes[0].data().parent, cluster.directory / "aside"

        def swap():
            (data / "1").rename(aside)
            (data / "2").rename(data / "1")
            aside.rename(data / "2")

        swap()
        text = start_and_end(build, cluster.config, 1, log)
        check_refusal(text, (data / "1",), "the directory of another node")
        said = text[1].replace(str(data), "")
        check({"1", "2"} <= set(re.findall(r"\d+", said)), f"it names both ids: {said[-300:]}")
        check_refusal(start_and_end(build, cluster.config, 2, log), (data / "2",), "and vice versa")
        swap()

        other = cluster.write_config("other.json", cluster.settings_of(Cluster="strangers"))
        check_refusal(start_and_end(build, other, 0, log), ("strangers", "raftkv-test"),
                      "the directory of another cluster")
        cluster.start()
        check(cluster.client().read("k").value == b"v", "with its own directories, all is well")
        cluster.agree()


def other_ports(cluster, node, **changes):
    """server.json with other ports for `node`: what is wanted is a quarrel about something else."""
    settings = cluster.settings_of(**changes)
    ports = free_ports(2)
    settings["Servers"][node.id].update(ClientPort=ports[0], LogPort=ports[1])
    return settings


def a_directory_in_use_is_refused(build):
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        for node in cluster.nodes:
            config = cluster.write_config("second.json", other_ports(cluster, node))
            began = time.monotonic()
            code, text = start_and_end(build, config, node.id, cluster.directory / "log")
            check(code in (1, REFUSED), f"the second process on a directory ends: {code}")
            check(time.monotonic() - began < patience(3), "at once")
            check(str(node.data().parent) in text, f"it names the directory: {text[-300:]}")
        check(all(node.alive for node in cluster.nodes), "the first ones live")
        check(cluster.leader() is leader, "the leader is the same")
        check(cluster.client().set("k", b"v").is_("OK"), "and serves")
        cluster.agree()


def an_impossible_directory_is_refused(build):
    with Cluster(build, 1) as cluster:
        log = cluster.directory / "log"
        (cluster.directory / "file").write_text("not a folder")
        paths = ["file", "file/below", "/proc/raftkv-test", "missing/parent/of/it"]
        for path in paths:
            config = cluster.write_config("bad.json", cluster.settings_of(Path=path))
            code, text = start_and_end(build, config, 0, log)
            check(code in (1, REFUSED), f"Path {path} ends the node: {code}: {text[-300:]}")
            check(path.split("/")[-1] in text, f"it names {path}: {text[-300:]}")
        cluster.start()
        cluster.kill()
        a_directory_without_write_permission(build, cluster, log)


def a_directory_without_write_permission(build, cluster, log):
    """Root may write everywhere, so as root the server runs as somebody else."""
    more = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        more = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        binary = cluster.directory / "raftkv-server"
        shutil.copy(build / "server" / "raftkv-server", binary)
        cluster.directory.chmod(0o755)
    data = cluster.nodes[0].data()
    for folder_path in (data, data.parent):
        folder_path.chmod(0o555)
    try:
        command = server_command(build, cluster.config, 0)
        if more:
            command[0] = str(cluster.directory / "raftkv-server")
        log.write_bytes(b"")
        process = launch(command, log, **more)
        try:
            code = process.wait(patience(10))
        finally:
            process.kill()
            process.wait()
        text = log.read_text(errors="replace")
        check(code in (1, REFUSED), f"an unwritable directory ends the node: {code}: {text[-300:]}")
        check(str(data) in text, f"it names the directory: {text[-300:]}")
    finally:
        for folder_path in (data.parent, data):
            folder_path.chmod(0o755)


# -- G3, G4: who belongs -------------------------------------------------------------------------


def stays_outside(cluster, process, port, seconds, what):
    """For a while, `process` neither serves nor disturbs the cluster."""
    leader = cluster.leader()
    term = leader.status()["term"]
    client = cluster.client()
    until = time.monotonic() + seconds
    count = 0

    def is_over():
        nonlocal count
        outcome = client.set("k", b"%d" % count)
        check(outcome.is_("OK"), f"{what}: the cluster serves: {outcome}")
        count += 1
        if process.poll() is None:
            check_serves_nobody(port, what)
        return time.monotonic() > until

    eventually(f"{what}: a while passes", is_over)
    status = leader.status()
    check(status["role"] == "leader" and status["term"] == term,
          f"{what}: leader and term stay: {status['role']} in {status['term']}, was {term}")
    check(process.poll() != 0, f"{what}: it does not end as if all were well")
    cluster.agree()


def check_serves_nobody(port, what):
    try:
        with socket.create_connection((HOST, port), timeout=patience(2)) as connection:
            connection.sendall(b"set k 0 8\r\nimpostor\r\nget k\r\nstatus\r\nquit\r\n")
            data = b""
            while piece := connection.recv(65536):
                data += piece
    except OSError:
        return  # it does not listen, not any more, or says nothing
    lines = data.split(b"\r\n")
    check(not lines[0].startswith(b"OK"), f"{what}: it acknowledges nothing: {lines[0]}")
    check(b"STAT role leader" not in lines, f"{what}: it does not lead")


def a_second_node_of_one_id_is_refused(build):
    """G3: with a data directory of its own, fresh, and other ports; the lowest id (which dials the
    others) and the highest (which is dialled)."""
    with Cluster(build, 3, CALM) as cluster:
        cluster.start()
        cluster.agree()
        for node in (cluster.nodes[0], cluster.nodes[2]):
            settings = other_ports(cluster, node, Path=f"impostor-{node.id}")
            config = cluster.write_config(f"impostor-{node.id}.json", settings)
            process = launch(server_command(build, config, node.id), cluster.directory / "log")
            try:
                stays_outside(cluster, process, settings["Servers"][node.id]["ClientPort"], 1.5,
                              f"a second node {node.id}")
                check(node.alive, "the first one lives")
            finally:
                process.kill()
                process.wait()


def a_node_of_another_cluster_is_refused(build):
    """G4: the same addresses, another name."""
    with Cluster(build, 3, CALM) as cluster:
        cluster.nodes[0].start()
        cluster.nodes[1].start()
        cluster.leader()
        stranger = cluster.nodes[2]
        config = cluster.write_config(
            "stranger.json", cluster.settings_of(Cluster="strangers", Path="strangers"))
        process = launch(server_command(build, config, 2), cluster.directory / "log")
        try:
            stays_outside(cluster, process, stranger.client_port, 1.5, "another cluster's node")
        finally:
            process.kill()
            process.wait()
        stranger.start()
        eventually("the real node 2 joins", lambda: stranger.status())
        cluster.agree()


def a_shorter_list_makes_no_leader(build):
    """G4: a node whose file has lost its peers does not go its own way. It may refuse to start, or
    remember whom it belongs to."""
    with Cluster(build, 3, CALM) as cluster:
        cluster.start()
        check(cluster.client().set("k", b"v").is_("OK"), "the cluster works")
        cluster.agree()
        odd = next(node for node in cluster.followers())
        odd.kill()
        config = cluster.write_config("short.json", cluster.settings_of(nodes=[odd]))
        process = launch(server_command(build, config, odd.id), cluster.directory / "log")
        try:
            until = time.monotonic() + patience(1) + 2.5

            def is_over():
                if process.poll() is None:
                    check_serves_nobody(odd.client_port, "a node with a shorter list")
                elif process.poll() != REFUSED:
                    raise Failure(f"a node with a shorter list ends with {process.poll()}")
                else:
                    return True
                return time.monotonic() > until

            eventually("a while passes", is_over, 30)
        finally:
            process.kill()
            process.wait()
        odd.start()
        eventually("with its own list it is back", lambda: odd.status())
        cluster.agree()
        check(cluster.client().read("k").value == b"v", "and nothing was lost")


run(what_is_wrong_in_the_file_is_named, a_port_in_use_is_named, a_foreign_directory_is_refused,
    a_directory_in_use_is_refused, an_impossible_directory_is_refused,
    a_second_node_of_one_id_is_refused, a_node_of_another_cluster_is_refused,
    a_shorter_list_makes_no_leader, seconds=90)
