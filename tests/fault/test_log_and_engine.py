"""Log and engine together: what was flushed is in the engine after replay, whatever the power took.

A run appends commands, flushes, applies, commits the engine now and then, compacts the log as far
as the engine allows and recycles; then the power fails, and takes the engine's last commit too, or
not (PROTOCOL rule 57). ``STORAGE_SEED=17 pytest tests/fault/test_log_and_engine.py`` runs one seed.
"""

import os
import random
import sys
from pathlib import Path

import pytest

from nodedb.errors import LogCorrupted
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.wal import Wal

sys.path.insert(0, str(Path(__file__).parent))
from simulated_disk import PowerLoss, SimulatedDisk

GROUPS = (1, 2, 3)
SEEDS = [int(os.environ["STORAGE_SEED"])] if "STORAGE_SEED" in os.environ else list(range(160))


class Node:
    """Single-voter groups whose entries are ``key=value``."""

    def __init__(self, seed: int, compact_limit=None) -> None:
        self.random = random.Random(seed)
        self.disk = SimulatedDisk(seed)
        self.engine = MemoryEngine(fsynced_index=self.fsynced_index)
        self.compact_limit = compact_limit or self.engine_limit
        self.acknowledged: dict[int, dict[bytes, bytes]] = {group: {} for group in GROUPS}
        self.in_flight: list[tuple[int, bytes, bytes]] = []
        self.start()

    def engine_limit(self, group: int) -> int:
        return self.engine.recyclable_applied(group)

    def fsynced_index(self, group: int) -> int:
        return self.wal.durable_index(group)

    def start(self) -> None:
        self.wal = Wal(
            self.disk,
            segment_bytes=32 * 1024,
            cache_bytes_max=2000,
            compact_limit=self.current_compact_limit,
        )
        for group in GROUPS:
            self.apply(group)

    def current_compact_limit(self, group: int) -> int:
        return self.compact_limit(group)

    def apply(self, group: int) -> None:
        applied, _ = self.engine.applied(group)
        space = self.engine.space(f"group-{group}")
        last = self.wal.durable_index(group)
        for index, term, payload in self.wal.entries(group, applied + 1, last + 1):
            key, _, value = payload.partition(b"=")
            space.put(key, value)
            self.engine.set_applied(group, index, term)

    def turn(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            group = self.random.choice(GROUPS if self.random.random() < 0.05 else GROUPS[:2])
            key = b"k%d" % self.random.randrange(20)
            value = self.random.randbytes(self.random.choice((5, 300)))
            index = self.wal.last_index(group) + 1
            self.wal.append_entries(group, [(index, 1, key + b"=" + value)])
            self.in_flight.append((group, key, value))
        self.wal.flush()
        for group, key, value in self.in_flight:
            self.acknowledged[group][key] = value
        self.in_flight.clear()
        for group in GROUPS:
            self.apply(group)
        if self.random.random() < 0.1:
            self.engine.commit()
            for group in GROUPS:
                self.wal.compact(group, min(self.compact_limit(group), self.wal.last_index(group)))
            self.wal.recycle()

    def power_loss(self) -> None:
        self.disk.power_loss()
        self.engine.crash(keep_last_commit=self.random.random() < 0.5)
        self.start()
        found = {
            group: dict(self.engine.space(f"group-{group}").scan(b"", None, 100))
            for group in GROUPS
        }
        if found != self.acknowledged:
            for group, key, value in self.in_flight:
                self.acknowledged[group][key] = value
        assert found == self.acknowledged
        self.in_flight.clear()


def run_all(compact_limit) -> None:
    for seed in range(160):
        run(seed, compact_limit)


def run(seed: int, compact_limit=None) -> None:
    node = Node(seed)
    if compact_limit is not None:
        node.compact_limit = lambda group: compact_limit(node, group)
    for _ in range(3):
        node.disk.operations_left = node.random.randint(1, 300)
        try:
            for _ in range(150):
                node.turn()
        except PowerLoss:
            pass
        node.power_loss()


@pytest.mark.parametrize("chunk", range(4))
def test_acknowledged_writes_survive(chunk):
    for seed in SEEDS[chunk::4]:
        try:
            run(seed)
        except BaseException as error:
            error.add_note(f"STORAGE_SEED={seed}")
            raise


def test_recycling_after_the_newest_commit_would_lose_writes():
    """The canary of rule 57: with the newest commit's index the run above must fail."""
    with pytest.raises((AssertionError, LogCorrupted)):
        run_all(lambda node, group: node.engine.applied(group)[0])
