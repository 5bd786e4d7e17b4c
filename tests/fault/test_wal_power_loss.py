"""Power loss and kill -9 under the write-ahead log, on a simulated disk, seed by seed.

A run appends to several groups, overwrites tails, compacts, recycles, and fails at some operation.
After recovery the log must hold exactly what was flushed, or that plus the whole unfinished flush.
Run one seed alone: ``WAL_SEED=17 pytest tests/fault/test_wal_power_loss.py``.
"""

import contextlib
import copy
import errno
import os
import random
import sys
from pathlib import Path

import pytest

from nodedb.errors import DiskFull, StorageError
from nodedb.storage.wal import Wal

sys.path.insert(0, str(Path(__file__).parent))
from simulated_disk import PowerLoss, SimulatedDisk

SEGMENT_BYTES = 32 * 1024
GROUPS = (0, 1, 2)
SEEDS = [int(os.environ["WAL_SEED"])] if "WAL_SEED" in os.environ else list(range(400))


class Model:
    """What the log should hold: per group base, entries and hard state."""

    def __init__(self) -> None:
        self.base = dict.fromkeys(GROUPS, (0, 0))
        self.entries: dict[int, list[tuple[int, int, bytes]]] = {group: [] for group in GROUPS}
        self.hard: dict[int, tuple | None] = dict.fromkeys(GROUPS)

    def matches(self, wal: Wal) -> bool:
        for group in GROUPS:
            base, term = self.base[group]
            first, last = wal.first_index(group), wal.last_index(group)
            # A compaction rides along with the next flush, so it may be lost.
            if first > base + 1 or last != base + len(self.entries[group]):
                return False
            if first == base + 1 and wal.term_at(group, base) != term:
                return False
            if last > base and wal.entries(group, base + 1, last + 1) != self.entries[group]:
                return False
            if wal.hard_state(group) != self.hard[group]:
                return False
        return True


class Run:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.disk = SimulatedDisk(seed)
        self.durable = Model()
        self.pending = Model()
        self.term = 1
        self.wal = self.open()

    def open(self) -> Wal:
        return Wal(self.disk, segment_bytes=SEGMENT_BYTES, cache_bytes_max=3000)

    def step(self) -> None:
        chance = self.random
        group = chance.choice(GROUPS)
        base, _ = self.pending.base[group]
        entries = self.pending.entries[group]
        last = base + len(entries)
        action = chance.random()
        if action < 0.5:
            from_index = last + 1
            if entries and chance.random() < 0.2:
                self.term += 1
                from_index = chance.randint(base + 1, last)
            size = chance.choice((0, 10, 500, 5000, 40_000)) if chance.random() < 0.3 else 100
            new = [
                (from_index + number, self.term, chance.randbytes(size))
                for number in range(chance.randint(1, 3))
            ]
            self.wal.append_entries(group, new)
            entries[from_index - base - 1 :] = new
        elif action < 0.6:
            self.term += 1
            self.wal.set_hard_state(group, self.term, chance.randint(0, 3), last)
            self.pending.hard[group] = (self.term, self.wal.hard_state(group).vote, last)
        elif action < 0.65 and entries:
            from_index = chance.randint(base + 1, last)
            self.wal.truncate_suffix(group, from_index)
            del entries[from_index - base - 1 :]
        elif action < 0.67:
            self.wal.reset(group, last + 5, self.term)
            self.pending.base[group] = (last + 5, self.term)
            entries.clear()
        elif action < 0.85:
            self.flush()
        else:
            self.compact(group)
            self.wal.recycle()
            if not self.wal.needs_flush:
                self.durable = copy.deepcopy(self.pending)

    def compact(self, group: int) -> None:
        base, _ = self.pending.base[group]
        upto = min(self.wal.durable_index(group), base + self.random.randint(0, 20))
        if upto > base:
            term = self.wal.term_at(group, upto)
            self.wal.compact(group, upto)
            del self.pending.entries[group][: upto - base]
            self.pending.base[group] = (upto, term)

    def flush(self) -> None:
        self.wal.flush()
        self.durable = copy.deepcopy(self.pending)

    def crash_and_check(self, *, is_kill: bool) -> None:
        if is_kill:
            self.disk.kill()
        else:
            self.disk.power_loss()
        recovered = self.open()
        if self.pending.matches(recovered):
            self.durable = self.pending
        else:
            assert self.durable.matches(recovered), "neither the flushed state nor the next"
        # What recovery showed must survive the next power loss, whatever the page cache held.
        self.disk.power_loss()
        self.wal = self.open()
        assert self.durable.matches(self.wal), "recovered state was not durable"
        self.rebase()

    def rebase(self) -> None:
        """Continue from what is in the log: compactions may have been undone."""
        model = Model()
        for group in GROUPS:
            first, last = self.wal.first_index(group), self.wal.last_index(group)
            model.base[group] = (first - 1, self.wal.term_at(group, first - 1))
            model.entries[group] = self.wal.entries(group, first, last + 1)
            model.hard[group] = self.durable.hard[group]
        self.durable = model
        self.pending = copy.deepcopy(model)


@pytest.mark.parametrize("chunk", range(8))
def test_flushed_survives_and_unflushed_is_all_or_nothing(chunk):
    for seed in SEEDS[chunk::8]:
        try:
            run_one(seed)
        except BaseException as error:
            error.add_note(f"WAL_SEED={seed}")
            raise


def run_one(seed: int) -> None:
    run = Run(seed)
    for _ in range(4):
        run.disk.operations_left = run.random.randint(1, 60)
        try:
            for _ in range(120):
                run.step()
        except PowerLoss:
            pass
        run.crash_and_check(is_kill=run.random.random() < 0.3)


@pytest.mark.parametrize("seed", range(40))
def test_power_loss_during_recovery(seed):
    run = Run(seed)
    for _ in range(150):
        run.step()
    run.flush()
    for _ in range(6):
        run.disk.power_loss()
        run.disk.operations_left = run.random.randint(1, 30)
        with contextlib.suppress(PowerLoss):
            run.open()
    run.disk.power_loss()
    assert run.durable.matches(run.open()), seed


@pytest.mark.parametrize("seed", range(30))
def test_full_disk_refuses_and_loses_nothing(seed):
    run = Run(seed)
    run.disk.quota = 6 * SEGMENT_BYTES
    refused = 0
    for _ in range(200):
        try:
            run.step()
        except DiskFull:
            refused += 1
            run.disk.quota += 40 * SEGMENT_BYTES
            run.flush()
    assert refused or run.wal.disk_bytes() <= 6 * SEGMENT_BYTES
    run.disk.quota += 40 * SEGMENT_BYTES
    run.flush()
    run.disk.power_loss()
    assert run.durable.matches(run.open())


@pytest.mark.parametrize("operation", ["pwrite", "fdatasync"])
def test_failed_write_or_fsync_poisons_for_ever(operation):
    disk = SimulatedDisk(1)
    wal = Wal(disk, segment_bytes=SEGMENT_BYTES)
    wal.append_entries(1, [(1, 1, b"kept")])
    wal.flush()
    disk.fail_next[operation] = errno.EIO
    wal.append_entries(1, [(2, 1, b"doubtful")])
    with pytest.raises(StorageError, match="failed"):
        wal.flush()
    syncs = disk.sync_count
    for _ in range(2):
        with pytest.raises(StorageError, match="failed"):
            wal.flush()
        with pytest.raises(StorageError, match="failed"):
            wal.append_entries(1, [(3, 1, b"")])
        with pytest.raises(StorageError, match="failed"):
            wal.recycle()
    assert disk.sync_count == syncs
    disk.power_loss()
    assert Wal(disk, segment_bytes=SEGMENT_BYTES).entries(1, 1, 2) == [(1, 1, b"kept")]
