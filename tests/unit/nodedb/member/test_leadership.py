"""Taking over the data, serving it, and losing it (PROTOCOL rules 3, 4, 37, 39, 40, 43)."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.command import Fence, TimestampWindow
from cluster.metadata.oracle import pack_timestamp
from cluster.raft.config import RaftConfig
from nodedb.kv.effects import FinishPrepared, PreparedRows, RowWrites, encode_effects
from nodedb.waiter import Interrupts
from tests.lib.small_cluster import SmallCluster, Task, row_key

HOUR_US = 3_600_000_000


def put(node: Any, number: int, payload: bytes = b"row") -> Task:
    """Commit a row by a transaction that waits for the window as sessions do."""
    transaction = node.manager.begin(1, Interrupts())
    transaction.put(row_key(number), payload, 0)

    async def commit() -> int:
        if node.manager.timestamps.is_ahead:
            await node.manager.timestamps.ready(Interrupts())
        return await node.manager.commit(transaction)

    return Task(commit())


def done(cluster: SmallCluster, task: Task) -> str:
    cluster.wait_for(lambda: task.done)
    return task.outcome


# Taking over


def test_a_founder_by_itself_takes_over() -> None:
    cluster = SmallCluster(1)
    node = cluster.server()
    assert node.leadership.tenure == node.core(FIRST_DATA_GROUP).term
    assert done(cluster, put(node, 1)) == "ok"
    assert not node.leadership.changed().done


def test_the_fence_comes_first_then_what_was_prepared_then_the_tenure() -> None:
    cluster = SmallCluster()
    old = cluster.elect(1)
    prepared = PreparedRows(7, (encode_effects(RowWrites(0, 7, [(0, row_key(1), b"undecided")])),))
    waiter = old.replicator.propose(FIRST_DATA_GROUP, encode_effects(prepared), prepared)
    cluster.wait_for(lambda: waiter.done)
    cluster.wait_for(lambda: all(n.group.prepared for n in cluster.nodes.values()))
    order: list[str] = []
    for node in cluster.nodes.values():
        node.leadership.on_begin.append(lambda n=node: order.append(f"tenure {n.node_id}"))
        _spy(node, order)
    cluster.stop(old)
    new = cluster.elect_among(2, 3)
    name = f"at {new.node_id}"
    ours = [step for step in order if step.endswith((name, f"tenure {new.node_id}"))]
    assert ours.index(f"fence {name}") < ours.index(f"finish 7 {name}")
    assert ours.index(f"window {name}") < ours.index(f"tenure {new.node_id}")
    assert ours.index(f"finish 7 {name}") < ours.index(f"tenure {new.node_id}")
    assert not new.group.prepared
    assert new.group.newest(row_key(1)) is None


def _spy(node: Any, order: list[str]) -> None:
    for group_id, machine in node.machines.items():
        del group_id
        apply = machine.apply

        def spied(value: Any, index: int, apply: Any = apply) -> Any:
            match value:
                case Fence():
                    order.append(f"fence at {node.node_id}")
                case TimestampWindow():
                    order.append(f"window at {node.node_id}")
                case FinishPrepared():
                    order.append(f"finish {value.transaction_id} at {node.node_id}")
            return apply(value, index)

        machine.apply = spied


def test_who_leads_the_data_alone_does_not_serve() -> None:
    cluster = SmallCluster()
    node = cluster.elect(1)
    for other in cluster.nodes.values():
        other.follows = False
    node.replicator.transfer_leadership(METADATA_GROUP, 2)
    cluster.wait_for(lambda: cluster.node(2).core(METADATA_GROUP).is_leader)
    cluster.pass_time(3)
    assert node.core(FIRST_DATA_GROUP).is_leader
    assert not any(n.leadership.may_serve for n in cluster.nodes.values())
    assert cluster.node(2).leadership.followed_leader() == 1
    assert node.leadership.followed_leader() == 0
    cluster.node(2).follows = True
    cluster.wait_for(lambda: node.leadership.may_serve)


def test_a_take_over_that_the_disk_refuses_is_tried_again() -> None:
    cluster = SmallCluster(1)
    node = cluster.nodes[1]
    fill = [0]
    propose = node.replicator.propose

    def full(group_id: int, payload: bytes, value: Any) -> Any:
        # A window that no segment has room for goes with the fence.
        if isinstance(value, Fence) and fill[0] < 3:
            fill[0] += 1
            node.disk.quota = 0
            propose(FIRST_DATA_GROUP, bytes([1]) * 70_000, PreparedRows(1, ()))
        return propose(group_id, payload, value)

    node.replicator.propose = full
    cluster.wait_for(lambda: fill[0] == 3)
    assert not node.leadership.may_serve
    assert node.manager.tenure == 0
    node.disk.quota = 1 << 30
    cluster.wait_for(lambda: node.leadership.may_serve)
    assert node.manager.tenure == node.leadership.tenure


# The end


@pytest.mark.parametrize("group_id", [METADATA_GROUP, FIRST_DATA_GROUP])
def test_the_tenure_ends_with_the_lead_of_either_group(group_id: int) -> None:
    cluster = SmallCluster()
    node = cluster.elect(1)
    for other in cluster.nodes.values():
        other.follows = False
    ended: list[int] = []
    node.leadership.on_end.append(lambda: ended.append(1))
    idle = Interrupts()
    transaction = node.manager.begin(1, idle)
    node.replicator.transfer_leadership(group_id, 2)
    cluster.wait_for(lambda: not node.core(group_id).is_leader)
    cluster.pass_time(0.05)
    assert ended == [1]
    assert node.leadership.tenure == node.manager.tenure == 0
    assert idle.pending is not None
    assert idle.pending.sqlstate == "40001"
    task = Task(node.manager.commit(transaction, None))
    assert done(cluster, task) == "40001"


def test_what_began_in_one_tenure_is_not_committed_in_the_next() -> None:
    """Rule 3."""
    cluster = SmallCluster()
    node = cluster.elect(1)
    transaction = node.manager.begin(1, Interrupts())
    transaction.put(row_key(1), b"stale", 0)
    cluster.elect(2)
    assert cluster.elect(1) is node
    task = Task(node.manager.commit(transaction))
    assert done(cluster, task) == "40001"
    assert node.group.newest(row_key(1)) is None


def test_a_frozen_leader_that_thaws_serves_nothing() -> None:
    """Rule 37: asked in the very turn in which it goes on, before it has heard anything."""
    cluster = SmallCluster()
    old = cluster.elect(1)
    assert old.leadership.may_serve
    old.freeze(5)
    new = cluster.elect_among(2, 3)
    assert done(cluster, put(new, 1, b"new")) == "ok"
    assert old.leadership.tenure
    assert not old.leadership.may_serve
    cluster.pass_time(6)
    assert not old.leadership.may_serve
    assert old.leadership.tenure == 0
    assert old.leadership.leader_address == f"node-{new.node_id}"


def test_a_leader_that_hears_nobody_stops_serving_within_its_lease() -> None:
    cluster = SmallCluster()
    node = cluster.elect(1)
    cluster.isolate(1)
    cluster.pass_time(cluster.config.lease_seconds + 0.01)
    assert not node.leadership.may_serve
    new = cluster.elect_among(2, 3)
    assert new.leadership.tenure > node.leadership.tenure or not node.leadership.tenure


# Leases


def test_groups_that_slept_are_woken_by_who_waits_to_be_served() -> None:
    """Rule 43: the lease of a sleeping group lapses, and the first read asks a quorum."""
    cluster = SmallCluster(config=RaftConfig(quiesce_after_seconds=1.0))
    node = cluster.elect(1)
    cluster.wait_for(lambda: all(core.is_quiescent for _, core in node.cores))
    cluster.pass_time(2)
    assert all(core.is_quiescent for _, core in node.cores)
    assert not node.leadership.may_serve
    assert node.leadership.tenure
    waiter = node.leadership.changed()
    assert not waiter.done
    cluster.wait_for(lambda: waiter.done, 1)
    assert node.leadership.may_serve


def test_whoever_only_watches_does_not_keep_the_groups_awake() -> None:
    """A watch asks anew at each change; that must not end in a round of reads without end."""
    cluster = SmallCluster(config=RaftConfig(quiesce_after_seconds=1.0))
    node = cluster.elect(1)
    changes: list[float] = []

    def watch() -> None:
        changes.append(cluster.time.now)
        node.leadership.changed().on_done(watch)

    watch()
    reads = node.replicator._read_number
    for number in range(20):
        assert done(cluster, put(node, number)) == "ok"
    assert len(changes) <= 3
    assert node.replicator._read_number <= reads + 2
    cluster.wait_for(lambda: all(core.is_quiescent for _, core in node.cores))
    sent = cluster.network.sent_count
    cluster.pass_time(3)
    assert all(core.is_quiescent for _, core in node.cores)
    # Beats alone: one for each peer and heartbeat interval.
    assert cluster.network.sent_count - sent <= 2 * 3 / cluster.config.heartbeat_seconds + 4


def test_nobody_is_told_in_the_turn_in_which_it_asks() -> None:
    """A leader that has just lost both groups and does not know it yet must not spin."""
    cluster = SmallCluster()
    node = cluster.elect(1)
    for _, core in node.cores:
        core._become_follower(0, node.now())
    assert node.leadership.tenure
    waiters = [node.leadership.changed() for _ in range(3)]
    assert not any(waiter.done for waiter in waiters)
    cluster.wait_for(lambda: all(waiter.done for waiter in waiters), 3)


def test_who_waits_for_a_commit_to_finish_is_told_when_it_has() -> None:
    cluster = SmallCluster()
    node = cluster.elect(1)
    node.manager.finishing_count = 1
    waiter = node.leadership.changed()
    cluster.pass_time(0.5)
    assert not node.leadership.may_serve
    assert not waiter.done
    node.manager.finishing_count = 0
    assert node.leadership.may_serve
    other = node.leadership.changed()
    cluster.wait_for(lambda: waiter.done, 1)
    del other


# The oracle


@pytest.mark.parametrize("step_us", [-HOUR_US, 0, HOUR_US])
def test_a_new_oracle_starts_above_everything_whatever_the_clocks_say(step_us: int) -> None:
    """Rules 39, 40: above the replicated window, and above every version."""
    cluster = SmallCluster()
    old = cluster.elect(1)
    assert done(cluster, put(old, 1)) == "ok"
    given = old.manager.allocate_timestamp()
    window = old.metadata.timestamp_window
    cluster.pass_time(0.5)
    for node in (cluster.node(2), cluster.node(3)):
        node.clock.step_us = step_us
    cluster.stop(old)
    new = cluster.elect_among(2, 3)
    first = new.manager.allocate_timestamp()
    assert first > given
    assert first >= window
    assert first > new.group.last_timestamp
    assert done(cluster, put(new, 1, b"later")) == "ok"
    assert new.group.newest(row_key(1)) == b"later"


def test_a_clock_that_is_stepped_under_a_leader_loses_nothing() -> None:
    cluster = SmallCluster()
    node = cluster.elect(1)
    for number, step_us in enumerate((0, HOUR_US, -HOUR_US, 0)):
        node.clock.step_us = step_us
        assert done(cluster, put(node, 1, b"%d" % number)) == "ok"
        assert node.group.newest(row_key(1)) == b"%d" % number
    assert node.metadata.timestamp_window > pack_timestamp(1)


def test_who_waited_for_the_window_of_an_old_tenure_is_told() -> None:
    cluster = SmallCluster()
    node = cluster.elect(1)
    cluster.pass_time(10)  # The window has lapsed: a commit has to raise it first.
    assert node.manager.timestamps.is_ahead
    cluster.isolate(1)
    task = put(node, 1)
    assert not task.done
    cluster.elect_among(2, 3)
    cluster.pass_time(8)
    assert task.outcome in ("40001", "40003")
    cluster.network.heal()
    assert cluster.elect(1) is node
    assert done(cluster, put(node, 2)) == "ok"
