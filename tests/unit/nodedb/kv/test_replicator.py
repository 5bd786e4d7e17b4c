"""The write path of a single node.

Order, durability before effect, refusals, failures, recovery, fault points.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from cluster.ids import FIRST_DATA_GROUP
from nodedb.kv.effects import RowWrites, encode_effects
from nodedb.kv.fault_points import (
    APPLY,
    ENGINE_COMMIT,
    FDATASYNC,
    LOG_WRITE,
    SEGMENT_RECYCLE,
    FaultFlusher,
    FaultPoints,
    fault_points,
)
from nodedb.kv.keys import index_prefix, vshard_of
from nodedb.kv.replicator import COMMIT_BYTES, COMMIT_INTERVAL_SECONDS
from nodedb.storage.wal import Wal
from sql.errors import ConfigurationLimitExceeded, DiskFull
from tests.fault.simulated_disk import PowerLoss, SimulatedDisk
from tests.unit.nodedb.txn.simulation import SimulatedNode

if TYPE_CHECKING:
    from nodedb.waiter import Waiter

KEY = index_prefix(100, 1) + b"key\1"


def propose(node: SimulatedNode, payload: bytes, key: bytes = KEY) -> Waiter[int]:
    timestamp = node.transactions.allocate_timestamp()
    effects = RowWrites(timestamp, 1, [(vshard_of(key[6:]), key, payload)])
    return node.replicator.propose(FIRST_DATA_GROUP, encode_effects(effects), effects)


def test_everything_of_a_turn_shares_one_flush_in_order() -> None:
    node = SimulatedNode()
    waiters = [propose(node, b"%d" % n) for n in range(5)]
    assert node.group.newest(KEY) is None
    syncs = node.disk.sync_count
    node.schedule.turn()
    assert node.disk.sync_count <= syncs + 3
    assert all(waiter.done for waiter in waiters)
    assert node.group.newest(KEY) == b"4"
    assert node.replicator.flush_count == 1
    assert node.replicator.applied_index(FIRST_DATA_GROUP) == 5


def test_nothing_is_visible_or_acknowledged_before_the_flush() -> None:
    seen: list[tuple[str, Any, bool]] = []
    waiters: list[Waiter[int]] = []
    node = SimulatedNode(
        pass_point=lambda point: seen.append((point, node.group.newest(KEY), waiters[-1].done))
    )
    waiters.append(propose(node, b"v"))
    node.schedule.run()
    assert seen == [(LOG_WRITE, None, False), (APPLY, None, False)]
    node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    assert [point for point, _, _ in seen[2:]] == [ENGINE_COMMIT, SEGMENT_RECYCLE]


def test_a_full_disk_refuses_only_that_flush() -> None:
    node = SimulatedNode()
    propose(node, b"small")
    node.schedule.run()
    node.disk.quota = 0
    refused = propose(node, b"x" * (1 << 21))
    also = propose(node, b"with it")
    node.schedule.run()
    assert isinstance(refused.error, DiskFull)
    assert isinstance(also.error, DiskFull)
    assert node.group.newest(KEY) == b"small"
    assert node.fatal is None
    node.disk.quota = 1 << 30
    accepted = propose(node, b"later")
    node.schedule.run()
    assert accepted.error is None
    again = node.restarted()
    assert again.group.newest(KEY) == b"later"


def test_a_refused_timestamp_window_is_asked_for_again() -> None:
    node = SimulatedNode()
    before = node.oracle.reserved_until
    node.disk.quota = 0
    refused = propose(node, b"x" * (1 << 21))
    node.schedule.run()
    assert refused.error is not None
    assert node.oracle.reserved_until == before
    node.disk.quota = 1 << 30
    propose(node, b"later")
    node.schedule.run()
    assert node.metadata.timestamp_window == node.oracle.reserved_until > before


@pytest.mark.parametrize("operation", ["pwrite", "fdatasync"])
def test_a_failed_flush_is_fatal_and_acknowledges_nothing(operation: str) -> None:
    node = SimulatedNode()
    propose(node, b"old")
    node.schedule.run()
    node.disk.fail_next[operation] = errno.EIO
    waiter = propose(node, b"new")
    node.schedule.run()
    assert node.fatal is not None
    assert not waiter.done
    assert node.group.newest(KEY) == b"old"
    late = propose(node, b"late")
    node.schedule.run()
    node.schedule.advance(1)
    assert not late.done


def test_state_and_rows_stay_together_when_the_engine_closes_after_a_failed_flush() -> None:
    node = SimulatedNode()
    propose(node, b"old")
    node.schedule.run()
    last = node.group.last_timestamp
    node.disk.fail_next["fdatasync"] = errno.EIO
    propose(node, b"new")
    node.schedule.run()
    node.replicator.close()
    node.engine.close()
    again = node.restarted(power_loss=False)
    assert again.group.last_timestamp >= last
    assert again.group.read(KEY, again.group.last_timestamp) is not None


def test_an_entry_that_cannot_be_applied_stops_the_node() -> None:
    node = SimulatedNode()
    propose(node, b"old")
    node.schedule.run()
    effects = RowWrites(1, 1, [(0, KEY, b"out of order")])
    waiter = node.replicator.propose(FIRST_DATA_GROUP, encode_effects(effects), effects)
    with pytest.raises(AssertionError):
        node.schedule.run()
    assert node.fatal is not None
    assert not waiter.done


def test_an_entry_beyond_the_logs_limit_is_refused_before_it_is_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodedb.kv.replicator.ENTRY_BYTES_MAX", 100)
    node = SimulatedNode()
    with pytest.raises(ConfigurationLimitExceeded):
        propose(node, b"x" * 200)
    node.schedule.run()
    assert node.replicator.entry_count <= 1


def test_the_engine_commits_after_an_interval_or_many_bytes() -> None:
    node = SimulatedNode()
    propose(node, b"v")
    node.schedule.run()
    assert node.replicator.commit_count == 0
    node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    assert node.replicator.commit_count == 1
    node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    assert node.replicator.commit_count == 1
    propose(node, b"x" * COMMIT_BYTES)
    node.schedule.run()
    assert node.replicator.commit_count == 2


def test_local_changes_are_committed_too() -> None:
    node = SimulatedNode()
    node.replicator.note_local_change(10)
    node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    assert node.replicator.commit_count == 1


def test_the_log_stays_short_under_a_steady_load() -> None:
    node = SimulatedNode(segment_bytes=1 << 16)
    for number in range(300):
        propose(node, bytes(2000), KEY + bytes((number % 7,)) + b"\1")
        node.schedule.run()
        node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    assert node.wal.disk_bytes() <= 6 << 16


def test_a_restart_begins_a_new_term_and_replays_what_the_engine_lacks() -> None:
    node = SimulatedNode()
    for number in range(3):
        propose(node, b"%d" % number)
        node.schedule.run()
    term = node.replicator.term(FIRST_DATA_GROUP)
    for _ in range(2):
        node = node.restarted(keep_last_commit=False)
        assert node.group.newest(KEY) == b"2"
        assert node.replicator.applied_index(FIRST_DATA_GROUP) == 3
    propose(node, b"more")
    node.schedule.run()
    assert node.restarted().replicator.term(FIRST_DATA_GROUP) > term


def test_a_clean_close_leaves_nothing_to_replay() -> None:
    node = SimulatedNode()
    propose(node, b"pending")
    node.replicator.close()
    assert node.engine.applied(FIRST_DATA_GROUP)[0] == 1
    assert node.group.newest(KEY) == b"pending"
    node.replicator.flush()
    node.replicator.commit()


def test_the_nth_passing_of_the_planned_point_is_fatal() -> None:
    hits: list[int] = []
    points = FaultPoints("apply:3", lambda: hits.append(1))
    for _ in range(2):
        points(APPLY)
        points(LOG_WRITE)
    assert hits == []
    points(APPLY)
    points(APPLY)
    assert hits == [1]


@pytest.mark.parametrize(
    "plan", ["apply", "apply:", "apply:0", "apply:-1", "nowhere:1", ":1", "apply:x"]
)
def test_a_plan_that_does_not_read_is_an_error(plan: str) -> None:
    with pytest.raises(ValueError, match="NODEDB_FAULT_KILL"):
        fault_points({"NODEDB_FAULT_KILL": plan})


def test_without_a_plan_there_are_no_points() -> None:
    assert fault_points({}) is None
    assert fault_points({"NODEDB_FAULT_KILL": ""}) is None


def test_the_flushers_point_lies_between_write_and_sync() -> None:
    disk = SimulatedDisk(3)
    passed: list[str] = []

    def stop(point: str) -> None:
        passed.append(point)
        raise PowerLoss

    wal = Wal(disk, segment_bytes=1 << 16, flusher=FaultFlusher(stop))
    syncs = disk.sync_count
    wal.append_entries(1, ((1, 1, b"payload"),))
    with pytest.raises(PowerLoss):
        wal.flush()
    assert passed == [FDATASYNC]
    assert disk.sync_count - syncs <= 1
