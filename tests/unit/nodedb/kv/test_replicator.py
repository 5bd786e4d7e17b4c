"""The write path of a single node.

Order, durability before effect, refusals, failures, recovery.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from cluster.ids import FIRST_DATA_GROUP
from nodedb.errors import LogCorrupted
from nodedb.kv.effects import RowWrites, encode_effects
from nodedb.kv.fault_points import Place
from nodedb.kv.group import DataGroup
from nodedb.kv.keys import index_prefix, vshard_of
from nodedb.kv.replicator import COMMIT_BYTES, COMMIT_INTERVAL_SECONDS
from nodedb.storage.wal import Wal
from sql.errors import ConfigurationLimitExceeded, DiskFull, StatementCompletionUnknown
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
    # The term's own empty entry comes first.
    assert node.replicator.applied_index(FIRST_DATA_GROUP) == 1 + 5


def test_nothing_is_visible_or_acknowledged_before_the_flush() -> None:
    is_on = False
    seen: list[tuple[Place, Any, bool]] = []
    waiters: list[Waiter[int]] = []
    node = SimulatedNode(
        pass_place=lambda place: (
            is_on and seen.append((place, node.group.newest(KEY), waiters[-1].done))
        )
    )
    is_on = True
    waiters.append(propose(node, b"v"))
    node.schedule.run()
    assert not any(done for _, _, done in seen)
    assert [(place, value) for place, value, _ in seen] == [
        (Place.LOG_WRITE_BEGIN, None),
        (Place.LOG_WRITE_HEADER, None),
        (Place.LOG_WRITE_HALF, None),
        (Place.LOG_WRITE_LAST, None),
        (Place.FDATASYNC_BEFORE, None),
        (Place.FDATASYNC_AFTER, None),
        (Place.APPLY_BEGIN, None),
        (Place.APPLY_ENTRY, b"v"),
        (Place.APPLY_ENTRY, b"v"),  # The timestamp's window: the metadata group comes last.
        (Place.APPLY_END, b"v"),
    ]
    assert waiters[0].done
    seen.clear()
    node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    assert [place for place, _, _ in seen][:4] == [
        Place.COMMIT_BEGIN,
        Place.COMMIT_SAVED,
        Place.COMMIT_END,
        Place.RECYCLE_BEGIN,
    ]


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


def test_what_was_refused_is_never_written() -> None:
    node = SimulatedNode()
    propose(node, b"small")
    node.schedule.run()
    node.disk.quota = 0
    pending = node.wal.pending_bytes
    for _ in range(5):
        refused = propose(node, b"r" * (1 << 21))
        node.schedule.run()
        assert isinstance(refused.error, DiskFull)
        assert node.wal.pending_bytes == pending
    assert node.wal.cached_bytes() < 1 << 21
    # What fits into the segment at hand goes on while the disk is full.
    accepted = propose(node, b"fits")
    node.schedule.run()
    assert accepted.error is None
    assert not any(b"r" * 64 in image.volatile for image in node.disk.files.values())
    again = node.restarted()
    assert again.group.newest(KEY) == b"fits"
    assert again.replicator.applied_index(FIRST_DATA_GROUP) == 1 + 2


def test_a_full_disk_at_recycling_does_not_burden_later_flushes() -> None:
    node = SimulatedNode(segment_bytes=1 << 16)
    propose(node, b"first", KEY)
    node.schedule.run()
    while len(node.wal._segments.live) < 2 or node.wal._segments.free:
        propose(node, bytes(9000))
        node.schedule.run()
    node.disk.quota = 0
    node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    node.replicator.note_local_change(1)
    node.schedule.advance(COMMIT_INTERVAL_SECONDS)
    assert node.fatal is None
    assert node.wal.pending_bytes < 1000
    node.disk.quota = 1 << 30
    propose(node, b"later")
    node.schedule.run()
    assert node.restarted().group.newest(KEY) == b"later"


def test_a_refused_transaction_leaves_no_locks_and_its_session_goes_on() -> None:
    node = SimulatedNode()
    node.disk.quota = 0
    for _ in range(3):
        transaction = node.begin()
        key = KEY + b"big"
        transaction.put(key, b"x" * (1 << 21), vshard_of(key[6:]))
        with pytest.raises(DiskFull):
            node.finish(node.transactions.commit(transaction, lambda: b"refused, so not decoded"))
        node.transactions.rollback(transaction)
    assert not node.transactions._active
    assert node.metadata.catalog.schema_version == 0


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
    assert isinstance(waiter.error, StatementCompletionUnknown)
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
    assert isinstance(waiter.error, StatementCompletionUnknown)


def test_what_is_applied_in_part_is_never_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimulatedNode()
    propose(node, b"old")
    node.schedule.run()
    other = KEY + b"other"
    propose(node, b"whole", other)
    writes = [(1, other, b"torn"), (2, KEY, b"torn")]
    effects = RowWrites(node.transactions.allocate_timestamp(), 1, writes)
    node.replicator.propose(FIRST_DATA_GROUP, encode_effects(effects), effects)
    put = node.group.rows.put

    def fail_at_the_last(key: bytes, value: bytes) -> None:
        if value.endswith(b"torn") and key == KEY:
            raise MemoryError
        put(key, value)

    monkeypatch.setattr(node.group.rows, "put", fail_at_the_last)
    with pytest.raises(MemoryError):
        node.schedule.run()
    monkeypatch.undo()
    node.replicator.close()
    node.engine.close()
    again = node.restarted(power_loss=False)
    assert again.group.newest(KEY) == again.group.newest(other) == b"torn"
    assert sum(again.group.vshard_keys) == 2
    assert again.group.history.count() == 2


def test_a_replay_that_fails_leaves_the_engine_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimulatedNode()
    for number in range(3):
        propose(node, b"%d" % number, KEY + bytes((number + 1,)))
        node.schedule.run()
    calls: list[int] = []
    apply = DataGroup.apply

    def fail_at_the_second(group: DataGroup, value: Any, index: int) -> Any:
        calls.append(index)
        if len(calls) == 2:
            raise LogCorrupted("00000001.wal", 0, "rotten")
        return apply(group, value, index)

    monkeypatch.setattr(DataGroup, "apply", fail_at_the_second)
    with pytest.raises(LogCorrupted):
        node.restarted(power_loss=False)
    assert calls == [2, 3]
    # What the failed start does on its way out: close the engine, which commits.
    node.engine.close()
    monkeypatch.undo()
    again = node.restarted(power_loss=False)
    assert sum(again.group.vshard_keys) == 3
    assert again.group.history.count() == 0


def test_whoever_commits_the_engine_the_counters_are_beside_the_rows() -> None:
    node = SimulatedNode()
    for commit in (node.engine.commit, node.engine.sync, node.engine.read_snapshot):
        propose(node, commit.__name__.encode(), KEY + commit.__name__.encode())
        node.schedule.run()
        commit()
        last = node.group.last_timestamp
        keys = list(node.group.vshard_keys)
        saved = DataGroup(FIRST_DATA_GROUP, node.engine)
        assert (saved.last_timestamp, list(saved.vshard_keys)) == (last, keys)


def test_the_log_is_replayed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    node = SimulatedNode()
    for number in range(10):
        propose(node, bytes(1000), KEY + bytes((number + 1,)))
        node.schedule.run()
    monkeypatch.setattr("nodedb.kv.replay.REPLAY_BYTES", 2500)
    sizes: list[int] = []
    entries = Wal.entries

    def watched(*arguments: Any) -> list[Any]:
        found = entries(*arguments)
        sizes.append(sum(len(payload) for _, _, payload in found))
        return found

    monkeypatch.setattr(Wal, "entries", watched)
    again = node.restarted(keep_last_commit=False)
    assert max(sizes) <= 2500
    assert sum(again.group.vshard_keys) == 10


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
        assert node.replicator.applied_index(FIRST_DATA_GROUP) == 1 + 3
    propose(node, b"more")
    node.schedule.run()
    assert node.restarted().replicator.term(FIRST_DATA_GROUP) > term


def test_a_clean_close_leaves_nothing_to_replay() -> None:
    node = SimulatedNode()
    propose(node, b"pending")
    node.replicator.close()
    assert node.engine.applied(FIRST_DATA_GROUP)[0] == 1 + 1
    assert node.group.newest(KEY) == b"pending"
    node.replicator.flush()
    node.replicator.commit()
