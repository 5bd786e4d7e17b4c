"""Garbage collection: the leader raises the watermark, each replica removes what it allows."""

from __future__ import annotations

from typing import Any

from cluster.metadata.oracle import physical_ms
from nodedb.collecting import Collection
from nodedb.waiter import Interrupts
from tests.lib.small_cluster import SmallCluster, Task, row_key

TTL_SECONDS = 40


def put(cluster: SmallCluster, node: Any, payload: bytes) -> None:
    transaction = node.manager.begin(1, Interrupts())
    transaction.put(row_key(1), payload, 0)

    async def commit() -> int:
        await node.manager.timestamps.ready(Interrupts())
        return await node.manager.commit(transaction)

    task = Task(commit())
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "ok"


def collected() -> tuple[SmallCluster, Any]:
    cluster = SmallCluster()
    leader = cluster.elect(1)
    for node in cluster.nodes.values():
        Collection(node.manager, node.clock, node, TTL_SECONDS).schedule_rounds()
    return cluster, leader


def versions(node: Any) -> int:
    return node.group.history.count()


def test_old_versions_go_on_every_replica_and_young_ones_stay() -> None:
    cluster, leader = collected()
    for number in range(5):
        put(cluster, leader, b"%d" % number)
    young = leader.group.last_timestamp
    cluster.wait_for(lambda: all(versions(n) == 4 for n in cluster.nodes.values()))
    cluster.pass_time(TTL_SECONDS / 2)
    put(cluster, leader, b"last")
    assert versions(leader) == 5
    cluster.pass_time(TTL_SECONDS)
    for node in cluster.nodes.values():
        assert versions(node) < 5
        assert node.group.newest(row_key(1)) == b"last"
    assert leader.group.watermark >= young
    lag_ms = leader.clock.wall_us() // 1000 - physical_ms(leader.group.watermark)
    assert lag_ms >= TTL_SECONDS * 1000


def test_who_does_not_lead_proposes_nothing() -> None:
    cluster, leader = collected()
    put(cluster, leader, b"x")
    for follower in (cluster.node(2), cluster.node(3)):
        collection = Collection(follower.manager, follower.clock, follower, 0)
        assert collection._raise_watermark() is None
    collection = Collection(leader.manager, leader.clock, leader, 0)
    waiter = collection._raise_watermark()
    assert waiter is not None
    cluster.wait_for(lambda: waiter.done)
    assert waiter.error is None
    assert collection._raise_watermark() is None, "nothing was written since"


def test_running_snapshots_hold_the_watermark_back() -> None:
    cluster, leader = collected()
    put(cluster, leader, b"old")
    reader = leader.manager.begin(2, Interrupts())
    reader.is_snapshot = True
    assert leader.manager.read_key(reader, row_key(1)) == b"old"
    put(cluster, leader, b"new")
    cluster.pass_time(3 * TTL_SECONDS)
    assert leader.manager.read_key(reader, row_key(1)) == b"old"
    leader.manager.rollback(reader)
    put(cluster, leader, b"newer")
    cluster.pass_time(3 * TTL_SECONDS)
    assert versions(leader) == 0


def test_collecting_now_ends_by_itself() -> None:
    cluster, leader = collected()
    for number in range(4):
        put(cluster, leader, b"%d" % number)
    collection = Collection(leader.manager, leader.clock, leader, 0)
    cluster.pass_time(1)
    task = Task(collection.collect_now())
    cluster.wait_for(lambda: task.done)
    assert task.outcome == "ok"
    assert versions(leader) == 0
