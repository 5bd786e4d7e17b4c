"""Dying at every place of a write's path, and the plans that name them.

Here the places are met in a simulated node, each many times over, with the power lost or only the
process; ``tests/fault/test_kill_phases.py`` does the same to real processes.
"""

from __future__ import annotations

import random
from typing import Final

import pytest

from cluster.ids import FIRST_DATA_GROUP
from nodedb.kv.effects import RowWrites, encode_effects
from nodedb.kv.fault_log import FaultDirectory, FaultFlusher
from nodedb.kv.fault_points import PHASES, FaultPoints, Place, fault_points
from nodedb.kv.group import APPLY_SLICE_ROWS
from nodedb.kv.keys import HEADER, HEADER_BYTES, index_prefix, vshard_of
from nodedb.kv.replicator import COMMIT_INTERVAL_SECONDS
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.wal import Wal
from nodedb.storage.wal_format import BATCH_HEADER_BYTES, BLOCK_BYTES
from sql.errors import StatementCompletionUnknown
from tests.fault.simulated_disk import PowerLoss, SimulatedDisk
from tests.unit.nodedb.txn.simulation import SimulatedNode

SEGMENT_BYTES: Final = 1 << 16
TURNS: Final = 60
PREFIX: Final = index_prefix(100, 1)
Expected = dict[bytes, bytes]
PASSINGS: Final = (1, 2, 3, 5, 9)


def propose(node: SimulatedNode, writes: Expected) -> list[bool]:
    """Propose writes as one transaction; the list turns true when they are acknowledged.

    That the outcome is unknown (40003) is no acknowledgement, and the only error there is here.
    """
    timestamp = node.transactions.allocate_timestamp()
    effects = RowWrites(timestamp, 1, [(vshard_of(k[6:]), k, v) for k, v in writes.items()])
    waiter = node.replicator.propose(FIRST_DATA_GROUP, encode_effects(effects), effects)
    acknowledged: list[bool] = []

    def decided() -> None:
        if waiter.error is None:
            acknowledged.append(True)
        else:
            assert isinstance(waiter.error, StatementCompletionUnknown)

    waiter.on_done(decided)
    return acknowledged


class Load:
    """Transactions over a few keys, each of which writes two; knows what has to be there."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.expected: Expected = {}
        self.open: list[tuple[Expected, list[bool]]] = []

    def turn(self, node: SimulatedNode) -> None:
        for _ in range(self.random.randint(1, 3)):
            number = self.random.randrange(20)
            size = self.random.choice((10, 400, 6000, 6000, 90_000))
            value = self.random.randbytes(8) * (size // 8)
            writes = {PREFIX + b"%02d\1" % number: value, PREFIX + b"%02d\2" % number: value}
            self.open.append((writes, propose(node, writes)))
        node.schedule.run()
        self.settle()
        if self.random.random() < 0.5:
            node.schedule.advance(COMMIT_INTERVAL_SECONDS)

    def settle(self) -> None:
        """Expect what was acknowledged."""
        for writes, acknowledged in self.open:
            if acknowledged:
                self.expected |= writes
        self.open = [pair for pair in self.open if not pair[1]]

    def check(self, node: SimulatedNode) -> None:
        """What was acknowledged is there; of the rest each transaction whole, in order, or not."""
        self.settle()
        found = dict(node.group.scan(b"", b"\xff" * 8, 1 << 62, 10_000)[0])
        possible = [self.expected]
        for writes, _ in self.open:
            possible.append(possible[-1] | writes)
        assert found in possible
        self.expected = found
        self.open = []
        check_counters(node)


def check_counters(node: SimulatedNode) -> None:
    keys = [0] * len(node.group.vshard_keys)
    sizes = [0] * len(keys)
    for key, value in node.group.rows.scan(b"", b"\xff" * 8, 10_000):
        if len(value) > HEADER_BYTES:
            vshard = HEADER.unpack_from(value)[1]
            keys[vshard] += 1
            sizes[vshard] += len(key) + len(value) - HEADER_BYTES
    assert list(node.group.vshard_keys) == keys
    assert list(node.group.vshard_bytes) == sizes


def lose_power(_: int) -> None:
    raise PowerLoss


def crash_at(place: Place, nth: int, *, power_loss: bool, seed: int) -> bool:
    """Run a load until it dies at a place, three times over; False if it never came there."""
    load = Load(seed)
    chance = random.Random(seed)
    schedule_seconds = 0.0
    disk, engine = SimulatedDisk(seed), MemoryEngine()
    was_met = False
    for _ in range(3):
        points = FaultPoints(f"{place.value}:{nth}", lose_power)
        try:
            node = SimulatedNode(disk, engine, segment_bytes=SEGMENT_BYTES, pass_place=points)
            node.schedule.seconds = schedule_seconds
            load.check(node)
            for _ in range(TURNS):
                load.turn(node)
                schedule_seconds = node.schedule.seconds + 1
        except PowerLoss:
            was_met = True
        if power_loss:
            disk.power_loss()
        else:
            disk.kill()
        engine.crash(keep_last_commit=chance.random() < 0.5)
        after = SimulatedNode(disk, engine, segment_bytes=SEGMENT_BYTES)
        after.schedule.seconds = schedule_seconds
        load.check(after)
        for _ in range(5):
            load.turn(after)
        load.settle()
        assert not load.open
        # Left without a commit, so that the next start has to recover.
        disk.kill()
        after.engine.crash(keep_last_commit=True)
        schedule_seconds = after.schedule.seconds + 1
    return was_met


@pytest.mark.parametrize("slice_rows", [APPLY_SLICE_ROWS, 1])
@pytest.mark.parametrize("place", Place)
def test_a_crash_at_any_place_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, place: Place, slice_rows: int
) -> None:
    """With slices of one row every entry is a long one, applied over several turns."""
    monkeypatch.setattr("nodedb.kv.group.APPLY_SLICE_ROWS", slice_rows)
    met = 0
    for nth in PASSINGS:
        for power_loss in (True, False):
            seed = nth * 2 + power_loss
            try:
                met += crash_at(place, nth, power_loss=power_loss, seed=seed)
            except BaseException as error:
                error.add_note(f"nth={nth} power_loss={power_loss} seed={seed}")
                raise
    assert met >= 2, "this place is never passed"


def test_a_node_that_applied_half_an_entry_fails_the_check() -> None:
    """The canary: what the checks above look for is found when it is there."""
    load = Load(1)
    node = SimulatedNode()
    load.turn(node)
    load.check(node)
    node.group.vshard_keys[3] += 1
    with pytest.raises(AssertionError):
        load.check(node)
    node.group.vshard_keys[3] -= 1
    node.group.rows.delete(next(iter(load.expected)))
    with pytest.raises(AssertionError):
        load.check(node)


def flushed_up_to(place: Place) -> tuple[bytes, SimulatedDisk, int]:
    """Return what a flush has written when it comes to a place, the disk, and its syncs."""
    disk = SimulatedDisk(3)
    wal = Wal(
        FaultDirectory(disk, lambda _: None),
        segment_bytes=SEGMENT_BYTES,
        flusher=FaultFlusher(FaultPoints(f"{place.value}:2", lose_power)),
    )
    wal.append_entries(1, ((1, 1, b"first"),))
    wal.flush()
    syncs = disk.sync_count
    wal.append_entries(1, ((2, 1, b"p" * 5000),))
    with pytest.raises(PowerLoss):
        wal.flush()
    written = bytes(disk.files["00000001.wal"].volatile[2 * BLOCK_BYTES :])
    return written, disk, disk.sync_count - syncs


def test_the_places_of_a_flush_lie_inside_it() -> None:
    written, _, _ = flushed_up_to(Place.LOG_WRITE_BEGIN)
    assert not any(written)
    written, _, _ = flushed_up_to(Place.LOG_WRITE_HEADER)
    assert any(written)
    assert not any(written[BATCH_HEADER_BYTES // 2 :])
    written, _, _ = flushed_up_to(Place.LOG_WRITE_HALF)
    assert 3000 < written.count(b"p") < 5000
    written, _, syncs = flushed_up_to(Place.LOG_WRITE_LAST)
    assert (written.count(b"p"), syncs) == (5000, 0)
    assert flushed_up_to(Place.FDATASYNC_BEFORE)[2] == 0
    assert flushed_up_to(Place.FDATASYNC_AFTER)[2] == 1


@pytest.mark.parametrize(
    ("place", "last_index"),
    [
        (Place.LOG_WRITE_BEGIN, 1),
        (Place.LOG_WRITE_HEADER, 1),
        (Place.LOG_WRITE_HALF, 1),
        (Place.FDATASYNC_AFTER, 2),
    ],
)
def test_a_batch_that_was_cut_is_not_there(place: Place, last_index: int) -> None:
    _, disk, _ = flushed_up_to(place)
    disk.kill()
    assert Wal(disk, segment_bytes=SEGMENT_BYTES).last_index(1) == last_index


def test_the_nth_passing_of_the_planned_place_is_fatal() -> None:
    hits: list[int] = []
    points = FaultPoints("apply/entry:3", hits.append)
    for _ in range(2):
        points(Place.APPLY_ENTRY)
        points(Place.APPLY_BEGIN)
    assert hits == []
    points(Place.APPLY_ENTRY)
    points(Place.APPLY_ENTRY)
    assert hits == [0]


def test_a_phase_stands_for_all_its_places() -> None:
    hits: list[int] = []
    points = FaultPoints("engine_commit:3+250", hits.append)
    for place in (Place.COMMIT_BEGIN, Place.APPLY_END, Place.COMMIT_SAVED):
        points(place)
    assert hits == []
    points(Place.COMMIT_END)
    assert hits == [250]


def test_the_phases() -> None:
    assert PHASES == (
        "log_write",
        "fdatasync",
        "apply",
        "engine_commit",
        "segment_recycle",
        "recovery",
    )


@pytest.mark.parametrize(
    "plan",
    [
        *("apply", "apply:", "apply:0", "apply:-1", "apply:x", "apply:1+", "apply:1+x"),
        *("nowhere:1", "apply/nowhere:1", "apply/:1", ":1"),
    ],
)
def test_a_plan_that_does_not_read_is_an_error(plan: str) -> None:
    with pytest.raises(ValueError, match="NODEDB_FAULT_KILL"):
        fault_points({"NODEDB_FAULT_KILL": plan})


def test_without_a_plan_there_are_no_points() -> None:
    assert fault_points({}) is None
    assert fault_points({"NODEDB_FAULT_KILL": ""}) is None
