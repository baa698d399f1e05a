#!/usr/bin/env python3
"""The session of protocol.md, word for word, through netcat; and the other ways to type it."""

import pathlib
import subprocess

from cluster import CALM, STATUS_NAMES, Cluster, Connection, check, patience, run

COMMANDS = ("set", "cas", "get", "getm", "delete")
WITH_VALUE = ("set", "cas")


def read_session():
    """session.txt as exchanges: (what is typed, what is answered), both as lists of lines."""
    text = (pathlib.Path(__file__).parent / "session.txt").read_text(encoding="ascii")
    lines = text.splitlines()
    check(lines.pop(0).startswith("$ nc "), "the session begins with netcat")
    exchanges = []
    while lines:
        typed = [lines.pop(0)]
        if typed[0].split()[0] in WITH_VALUE:
            typed.append(lines.pop(0))
        answered = []
        while lines and lines[0].split()[0] not in COMMANDS:
            answered.append(lines.pop(0))
        exchanges.append((typed, answered))
    return exchanges


def netcat(node, *options):
    return subprocess.Popen(["nc", *options, "127.0.0.1", str(node.client_port)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def answers(exchanges):
    return b"".join(f"{line}\r\n".encode() for _, answered in exchanges for line in answered)


def typed(exchanges, end="\n"):
    return "".join(line + end for lines, _ in exchanges for line in lines).encode()


def session_word_for_word(build):
    """Line after line, each answered before the next one is typed; then netcat's half-close."""
    exchanges = read_session()
    check(len(exchanges) == 7, "session.txt holds seven exchanges")
    with Cluster(build, 3, CALM) as cluster:
        client = netcat(cluster.start(), "-N")
        for lines, answered in exchanges:
            client.stdin.write("".join(line + "\n" for line in lines).encode())
            client.stdin.flush()
            for line in answered:
                got = client.stdout.readline()
                check(got == f"{line}\r\n".encode(),
                      f"{lines} is answered by {line!r}, not {got!r}")
        client.stdin.close()
        check(client.stdout.read() == b"", "nothing follows the last answer")
        check(client.wait(patience(10)) == 0, "netcat ends when it has closed its half")


def in_one_piece_with_half_close(build):
    """Everything in one write and the half-close at once: all replies still arrive."""
    exchanges = read_session()
    with Cluster(build, 1) as cluster:
        client = netcat(cluster.start(), "-N")
        got, _ = client.communicate(typed(exchanges), patience(10))
        check(got == answers(exchanges), f"the replies are those of the session: {got!r}")


def with_carriage_returns_and_upper_case(build):
    for end, change in (("\r\n", str), ("\n", str.upper)):
        exchanges = read_session()
        for lines, _ in exchanges:
            word, rest = lines[0].split(" ", 1)
            lines[0] = f"{change(word)} {rest}"
        with Cluster(build, 1) as cluster:
            client = netcat(cluster.start(), "-N")
            got, _ = client.communicate(typed(exchanges, end), patience(10))
            check(got == answers(exchanges), f"ended by {end!r}, {change}: {got!r}")


def byte_by_byte_and_with_spaces(build):
    exchanges = read_session()
    for lines, _ in exchanges:
        lines[0] = "  " + lines[0].replace(" ", "   ") + "  "
    with Cluster(build, 1) as cluster, cluster.start().connect() as connection:
        for byte in typed(exchanges):
            connection.send(bytes([byte]))
        connection.finish()
        check(connection.at_end(), "the server closes after the half-close")
        check(bytes(connection.buffer) == answers(exchanges),
              f"one byte a packet: {bytes(connection.buffer)!r}")


def quit_answers_first(build):
    with Cluster(build, 1) as cluster, cluster.start().connect() as connection:
        connection.send(b"set k 0 1\r\nv\r\nget k\r\nquit\r\nget k\r\n")
        check(connection.at_end(), "quit closes the connection")
        got = bytes(connection.buffer)
        check(got == b"OK 1\r\nVALUE 1\r\nv\r\n", f"all before quit is answered, no more: {got!r}")


def status_and_version_on_every_node(build):
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        cluster.agree()
        statuses = {node: node.status() for node in cluster.nodes}
        for node, status in statuses.items():
            missing = [name for name in STATUS_NAMES if name not in status]
            check(not missing, f"status of node {node.id} has {missing}")
            check(status["id"] == str(node.id), "status tells the node's own id")
            check(status["cluster"] == "raftkv-test", "status tells the cluster's name")
            check(status["leader"] == str(leader.id), "every node knows the leader")
            check(status["role"] == ("leader" if node is leader else "follower"),
                  f"node {node.id} has the right role: {status['role']}")
            with Connection(node.client_port) as connection:
                reply = connection.ask(b"version\r\n")
                check(reply.code == "VERSION" and reply.words[1] == status["version"],
                      f"version and status name one version: {reply}")
        check(len({status["term"] for status in statuses.values()}) == 1, "they share a term")


run(session_word_for_word, in_one_piece_with_half_close, with_carriage_returns_and_upper_case,
    byte_by_byte_and_with_spaces, quit_answers_first, status_and_version_on_every_node)
