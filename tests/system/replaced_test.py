#!/usr/bin/env python3
"""A follower whose data directory is lost while the leader stays: it is noticed by name, and filled
again from the start."""

import shutil

from cluster import CALM, Cluster, check, eventually, run


def a_replaced_follower_catches_up(build):
    with Cluster(build, 3, CALM) as cluster:
        leader = cluster.start()
        client = cluster.client()
        for number in range(300):
            check(client.set(f"k{number}", b"%d" % number).is_("OK"), "it is written")
        cluster.agree()
        lost = cluster.followers()[0]
        term = leader.status()["term"]
        lost.kill()
        shutil.rmtree(lost.data())
        lost.start()
        eventually("it answers", lost.status)
        statuses = cluster.agree()
        check(all(status["term"] == term for status in statuses), "the leader stayed")
        check(int(lost.status()["keys"]) == 300, "everything is there again")
        check(leader.grep(r'msg="peer was replaced" peer=%d' % lost.id), "and the leader says so")
        check(client.set("after", b"x").is_("OK"), "writes go on")
        cluster.agree()


run(a_replaced_follower_catches_up, seconds=60)
