"""Replicas at one entry are equal whatever they have collected, and different when they are not."""

import random

import pytest

from nodedb.kv.effects import ClearStorage, CollectGarbage, RowWrites
from nodedb.kv.group import DataGroup
from nodedb.kv.replica_digest import replica_digest
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.snapshot_digest import digest


class Replica:
    def __init__(self):
        self.engine = MemoryEngine()
        self.group = DataGroup(1, self.engine)
        self.engine.before_commit(self.group.save)

    def apply(self, index, effects):
        self.group.apply(effects, index)
        self.engine.set_applied(1, index, 1)

    def collect(self, chance):
        position = b"\0"
        for _ in range(chance.randrange(6)):
            position, _ = self.group.collect(position or b"\0", chance.randrange(1, 12))

    def digest(self):
        return replica_digest(self.engine, 1)


def key(chance):
    return b"\0\0\0" + bytes([chance.randrange(1, 4)]) + b"\0\1" + b"%02d" % chance.randrange(12)


@pytest.mark.parametrize("seed", range(25))
def test_replicas_are_equal_at_every_entry(seed):
    chance = random.Random(seed)
    replicas = [Replica(), Replica(), Replica()]
    live: set[bytes] = set()
    raw_differed = False
    for index in range(1, 150):
        kind = chance.random()
        if kind < 0.1:
            effects = CollectGarbage(max(index - chance.randrange(20), 1) * 10)
        elif kind < 0.13:
            # A storage id that is cleared is never written again; here, as good as never.
            prefix = b"\0\0\0" + bytes([chance.randrange(4, 6)])
            effects = ClearStorage((prefix,))
        else:
            writes = []
            for wanted in {key(chance) for _ in range(chance.randrange(1, 5))}:
                payload = b"" if wanted in live and chance.random() < 0.4 else b"v%d" % index
                (live.add if payload else live.discard)(wanted)
                writes.append((wanted[-1] % 7, wanted, payload))
            if index < 30:
                writes.append((1, b"\0\0\0\4\0\1" + b"%d" % index, b"to be cleared"))
                writes.append((2, b"\0\0\0\5\0\1" + b"%d" % (index % 9), b"x" * index))
            effects = RowWrites(index * 10, index, writes)
        if isinstance(effects, ClearStorage) and index < 30:
            continue
        for replica in replicas:
            replica.apply(index, effects)
        for replica in replicas[1:]:
            replica.collect(chance)
        digests = [replica.digest() for replica in replicas]
        where = f"seed {seed}, entry {index}"
        assert digests[0].difference(digests[1]) == "", where
        assert digests[0].difference(digests[2]) == "", where
        raw_differed |= digest(replicas[0].engine, 1) != digest(replicas[1].engine, 1)
    assert raw_differed, f"seed {seed}: nothing was collected"


class TestDifferences:
    @pytest.fixture
    def pair(self):
        pair = Replica(), Replica()
        for replica in pair:
            for index in range(1, 10):
                write = (1, b"\0\0\0\1\0\1k%d" % (index % 3), b"v%d" % index)
                replica.apply(index, RowWrites(index * 10, index, [write]))
        assert pair[0].digest() == pair[1].digest()
        return pair

    @pytest.mark.parametrize(
        ("name", "changed"),
        [("rows", "value"), ("rows", "gone"), ("history", "value"), ("history", "gone")],
    )
    def test_a_row_or_a_version(self, pair, name, changed):
        space = pair[1].engine.space(f"group1.{name}")
        (row, value), *_ = space.scan(b"\0", None, 1)
        if changed == "gone":
            space.delete(row)
        else:
            space.put(row, value + b"x")
        assert f'"group1.{name}"' in pair[0].digest().difference(pair[1].digest())

    @pytest.mark.parametrize("attribute", ["watermark", "last_timestamp"])
    def test_small_state(self, pair, attribute):
        setattr(pair[1].group, attribute, 91)
        assert '"group1.meta"' in pair[0].digest().difference(pair[1].digest())

    def test_counts(self, pair):
        pair[1].group.vshard_bytes[5] += 1
        assert '"group1.meta"' in pair[0].digest().difference(pair[1].digest())

    @pytest.mark.parametrize("row", [b"raft-configuration", b"prepared/12345678"])
    def test_other_state_beside_the_rows(self, pair, row):
        pair[1].engine.space("group1.meta").put(row, b"x")
        assert '"group1.meta"' in pair[0].digest().difference(pair[1].digest())

    def test_the_applied_entry(self, pair):
        pair[1].engine.set_applied(1, 9, 2)
        assert "applied 9 (term 1) and 9 (term 2)" in pair[0].digest().difference(pair[1].digest())
