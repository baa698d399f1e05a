#!/usr/bin/env python3
"""What a node says that does not lead: where the leader is, or that there is none. And that a `no`
is a promise."""

import subprocess
import time

from cluster import (CALM, HOST, POLL_SECONDS, Cluster, check, eventually, patience, run,
                     set_request)


def redirected_to(reply):
    """The port that a redirect names."""
    check(reply.code == "ERR_REDIRECT" and len(reply.words) == 3,
          f"a redirect is a code, a host and a port: {reply}")
    check(reply.words[1] == HOST, f"the host is the one in server.json: {reply}")
    return int(reply.words[2])


def followers_name_the_leader(build):
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        cluster.agree()
        for follower in cluster.followers():
            with follower.connect() as connection:
                for request in (set_request("k", b"no"), b"delete k\r\n",
                                b"cas k 0 0 2\r\nno\r\n"):
                    port = redirected_to(connection.ask(request))
                    check(port == leader.client_port, "a write is redirected to the leader")
                reply = connection.ask(b"get k\r\n")
                if reply.is_error and reply.code != "ERR_NOT_FOUND":
                    check(redirected_to(reply) == leader.client_port, "and so is a read")
                connection.send(set_request("k", b"no", noreply=True) + b"version\r\n")
                check(connection.reply().code == "VERSION", "noreply silences the redirect")
                check(connection.ask(b"bogus\r\n").code == "ERR_CMD_ERR",
                      "what is malformed is not redirected")
        with leader.connect() as connection:
            reply = connection.ask(b"get k\r\n")
            check(reply.code == "ERR_NOT_FOUND", f"redirected writes did nothing: {reply}")


def the_redirect_works_as_printed(build):
    """`nc <host> <port>`, with the words of the reply."""
    with Cluster(build, 3, CALM) as cluster:
        cluster.start()
        cluster.agree()
        with cluster.followers()[0].connect() as connection:
            reply = connection.ask(set_request("k", b"v"))
        redirected_to(reply)
        result = subprocess.run(["nc", "-N", *reply.words[1:3]], input=b"set k 0 1\nv\nget k\n",
                                stdout=subprocess.PIPE, timeout=patience(10), check=True)
        check(result.stdout == b"OK 1\r\nVALUE 1\r\nv\r\n", f"it is the leader: {result.stdout!r}")


def a_pipeline_at_a_follower_is_refused_in_order(build):
    """Values are swallowed with their requests, even when they look like requests."""
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        cluster.agree()
        with cluster.followers()[0].connect(20) as connection:
            connection.send(set_request("k", b"get k\r\nversion\r\n" * 20) * 200 + b"version\r\n")
            for _ in range(200):
                check(redirected_to(connection.reply()) == leader.client_port, "each is refused")
            check(connection.reply().code == "VERSION", "the next request is found")


def a_client_finds_the_leader_from_anywhere(build):
    with Cluster(build, 5, CALM) as cluster:
        leader = cluster.start()
        cluster.agree()
        for turn in range(2):
            for node in cluster.living:
                client = cluster.client(node)
                check(client.set(f"k{node.id}", b"%d" % turn).is_("OK"), f"from node {node.id}")
                check(client.redirects == (node is not leader), "with one redirect at most")
                client.close()
            if turn == 0:
                leader.kill()
                leader = cluster.leader()
                for node in cluster.living:
                    eventually("all learn of the new leader",
                               lambda n=node: (n.status() or {}).get("leader") == str(leader.id))


def without_a_majority_nobody_answers(build):
    """No write is acknowledged and no value read; what was refused did not happen, and afterwards
    the cluster goes on."""
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        client = cluster.client()
        check(client.set("k", b"before").is_("OK"), "the cluster works")
        first, second = cluster.followers()
        with leader.connect(20) as connection:
            first.kill()
            second.kill()
            may_be = {b"before"}
            certain = set()

            def says_unavailable():
                value = b"%d" % time.monotonic_ns()
                reply = connection.ask(set_request("k", value))
                check(reply.code in ("ERR_TIMEOUT", "ERR_UNAVAILABLE"),
                      f"alone, a leader acknowledges nothing: {reply}")
                (may_be if reply.code == "ERR_TIMEOUT" else certain).add(value)
                return reply.code == "ERR_UNAVAILABLE"

            eventually("the leader steps down", says_unavailable)
            for _ in range(20):
                reply = connection.ask(b"get k\r\n")
                check(reply.code in ("ERR_UNAVAILABLE", "ERR_TIMEOUT"),
                      f"and it reads nothing either: {reply}")
            status = connection.status()
            check(status["role"] != "leader", f"it does not lead: {status['role']}")
        first.start()
        client.close()
        reply = cluster.client().read("k")
        check(reply.value in may_be, f"a refused write did not happen: {reply}")
        check(reply.value not in certain, f"a refused write did not happen: {reply}")
        second.start()
        check(cluster.client().set("k", b"after").is_("OK"), "the cluster goes on")
        cluster.leader()
        eventually("all three are back", lambda: all(n.status() for n in cluster.nodes))
        cluster.agree()


def reads_at_an_isolated_leader_end_with_an_error(build):
    """A read that was asked just before the majority went is answered at last, with an error."""
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        cluster.client().set("k", b"v")
        with leader.connect(20) as connection:
            for follower in cluster.followers():
                follower.kill()
            deadline = time.monotonic() + patience(10)
            while True:
                reply = connection.ask(b"get k\r\n")
                if reply.is_error:
                    break
                check(reply.value == b"v", f"what it reads is right: {reply}")
                check(time.monotonic() < deadline, "without a majority reads stop")
                time.sleep(POLL_SECONDS)
            check(reply.code in ("ERR_UNAVAILABLE", "ERR_TIMEOUT"), f"with the reason: {reply}")


run(followers_name_the_leader, the_redirect_works_as_printed,
    a_pipeline_at_a_follower_is_refused_in_order, a_client_finds_the_leader_from_anywhere,
    without_a_majority_nobody_answers, reads_at_an_isolated_leader_end_with_an_error, seconds=60)
