"""A data group against a model.

Every version of every key, reads and scans at any timestamp, collection, crashes.
"""

from __future__ import annotations

from contextlib import suppress
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster.ids import VSHARD_COUNT
from nodedb.kv.effects import (
    ClearStorage,
    CollectGarbage,
    Effects,
    LongWrites,
    RowWrites,
    decode_effects,
    encode_effects,
    encode_long,
    encode_slice,
)
from nodedb.kv.group import DataGroup
from nodedb.kv.keys import HEADER_BYTES, index_prefix, vshard_of
from nodedb.storage.memory_engine import MemoryEngine
from sql.errors import SnapshotTooOld

# Bytes 00 and ff at the end of keys are where range bounds go wrong; no key is a prefix of another.
SUFFIXES = (b"\0\1", b"\0\xff\1", b"a\1", b"a\xff\xff\xff\1", b"b\1", b"\xff\xff\xff\xff\xff\1")
KEYS = [
    index_prefix(storage, index) + s for storage in (9, 10) for index in (1, 2) for s in SUFFIXES
]
WHOLE = (index_prefix(0, 0), index_prefix(99, 0))


class GroupMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine = MemoryEngine()
        self.group = DataGroup(1, self.engine)
        self.versions: dict[bytes, list[tuple[int, bytes]]] = {}
        self.cleared: set[bytes] = set()
        self.log: list[bytes] = []
        self.committed = 0
        self.now = 100
        self.position: bytes | None = b"\0"

    def apply(self, effects: Effects) -> None:
        self.log.append(encode_effects(effects))
        self.group.apply(effects, len(self.log))

    @rule(
        changes=st.dictionaries(
            st.sampled_from(KEYS), st.sampled_from([b"", b"v", b"value"]), min_size=1, max_size=6
        ),
        step=st.integers(1, 5),
    )
    def write(self, changes: dict[bytes, bytes], step: int) -> None:
        self.now += step
        changes = {k: v for k, v in changes.items() if not k.startswith(tuple(self.cleared))}
        self.apply(RowWrites(self.now, 1, [(vshard_of(k[6:]), k, v) for k, v in changes.items()]))
        for key, payload in changes.items():
            self.versions.setdefault(key, []).append((self.now, payload))

    @rule(
        changes=st.dictionaries(
            st.sampled_from(KEYS), st.sampled_from([b"", b"v", b"value"]), min_size=1
        ),
        size=st.integers(1, 4),
        commit_after=st.integers(0, 4),
        crash_after=st.none() | st.integers(0, 4),
        collect_after=st.integers(0, 4),
    )
    def write_in_slices(
        self,
        changes: dict[bytes, bytes],
        size: int,
        commit_after: int,
        crash_after: int | None,
        collect_after: int,
    ) -> None:
        """A long entry; amid it the engine commits, garbage goes, the process ends."""
        self.now += 1
        changes = {k: v for k, v in changes.items() if not k.startswith(tuple(self.cleared))}
        writes = [(vshard_of(k[6:]), k, v) for k, v in changes.items()]
        cut = [writes[at : at + size] for at in range(0, len(writes), size)]
        parts = [encode_slice(part) for part in cut]
        self.log.append(encode_long(self.now, 1, [len(part) for part in cut], parts))
        slices = self.group.apply(LongWrites(self.now, parts), len(self.log))
        assert slices is not None
        crashed = False
        for number, _ in enumerate(slices):
            before = self.expected(self.now - 1)
            for key in KEYS:
                if not key.startswith(tuple(self.cleared)):
                    assert self.group.newest(key) == before.get(key)
            if number == collect_after:
                self.group.collect(b"\0", 9)
            if number == commit_after:
                self.group.save()
                self.engine.commit()
                self.committed = len(self.log) - 1
            if number == crash_after and self.committed:
                crashed = True
                break
        for key, payload in changes.items():
            self.versions.setdefault(key, []).append((self.now, payload))
        if crashed:
            self.crash_and_replay()

    @rule(storage=st.sampled_from([9, 10]), index=st.sampled_from([0, 2]))
    def clear(self, storage: int, index: int) -> None:
        prefix = index_prefix(storage, index)[: 6 if index else 4]
        if len(self.cleared) < 2:
            self.cleared.add(prefix)
            self.apply(ClearStorage((prefix,)))

    @rule(back=st.integers(0, 12))
    def raise_watermark(self, back: int) -> None:
        self.apply(CollectGarbage(max(self.now - back, 1)))

    @rule(limit=st.integers(1, 7))
    def collect(self, limit: int) -> None:
        self.position, removed = self.group.collect(self.position or b"\0", limit)
        assert 0 <= removed <= limit

    @rule()
    def commit(self) -> None:
        self.group.save()
        self.engine.commit()
        self.committed = len(self.log)

    @precondition(lambda self: self.committed)
    @rule()
    def crash_and_replay(self) -> None:
        self.engine.crash(keep_last_commit=True)
        self.group = DataGroup(1, self.engine)
        for number in range(self.committed, len(self.log)):
            self.group.apply_payload(self.log[number], number + 1)
        self.position = b"\0"

    def expected(self, timestamp: int) -> dict[bytes, bytes]:
        """What a reader at ``timestamp`` must see."""
        state = {}
        for key, versions in self.versions.items():
            if key.startswith(tuple(self.cleared)):
                continue
            payload = next((p for at, p in reversed(versions) if at <= timestamp), b"")
            if payload:
                state[key] = payload
        return state

    @rule(back=st.integers(0, 20))
    def read(self, back: int) -> None:
        timestamp = self.now - back
        expected = self.expected(timestamp)
        for key in KEYS:
            if key.startswith(tuple(self.cleared)):
                continue
            if timestamp >= self.group.watermark:
                assert self.group.read(key, timestamp) == expected.get(key)
            else:
                # Refused, or right: never an answer from what is left.
                with suppress(SnapshotTooOld):
                    assert self.group.read(key, timestamp) == expected.get(key)
            assert self.group.newest(key) == self.expected(self.now).get(key)

    @rule(
        back=st.integers(0, 20),
        limit=st.integers(1, 9),
        reverse=st.booleans(),
        bounds=st.lists(st.sampled_from(KEYS), min_size=2, max_size=2),
        whole=st.booleans(),
    )
    def scan(self, back: int, limit: int, reverse: bool, bounds: list[bytes], whole: bool) -> None:
        timestamp = self.now - back
        start, end = WHOLE if whole else (min(bounds), max(bounds))
        if timestamp < self.group.watermark:
            with pytest.raises(SnapshotTooOld):
                self.group.scan(start, end, timestamp, limit)
            return
        found: list[tuple[bytes, bytes]] = []
        low, high = start, end
        while True:
            items, bound = self.group.scan(low, high, timestamp, limit, reverse=reverse)
            found += items
            if bound is None:
                break
            if reverse:
                assert bound < high
                high = bound
            else:
                assert bound > low
                low = bound
        found = [(key, value) for key, value in found if not key.startswith(tuple(self.cleared))]
        wanted = {k: v for k, v in self.expected(timestamp).items() if start <= k < end}
        assert found == sorted(wanted.items(), reverse=reverse)
        if self.cleared:
            return  # Values do not tell whose they are.
        values: list[bytes] = []
        following: bytes | None = start
        while following is not None:
            low = following
            part, following = self.group.scan_values(low, end, timestamp, limit, 40)
            values += part
            assert following is None or following > low
        assert [value[HEADER_BYTES:] for value in values] == [v for _, v in sorted(wanted.items())]

    @invariant()
    def counters_match_a_recount(self) -> None:
        keys, sizes = [0] * VSHARD_COUNT, [0] * VSHARD_COUNT
        for key, value in self.group.rows.scan(*WHOLE, 1000):
            if len(value) > HEADER_BYTES:
                vshard = crc32(key[6:]) % VSHARD_COUNT
                keys[vshard] += 1
                sizes[vshard] += len(key) + len(value) - HEADER_BYTES
        assert list(self.group.vshard_keys) == keys
        assert list(self.group.vshard_bytes) == sizes

    def teardown(self) -> None:
        """In the end everything can be collected: one version per live key, no tombstone."""
        self.apply(CollectGarbage(self.now))
        position: bytes | None = b"\0"
        for _ in range(2):
            while position is not None:
                position, _ = self.group.collect(position, 3)
            position = b"\0"
        assert self.group.history.count() == 0
        left = dict(self.group.rows.scan(*WHOLE, 1000))
        assert {key: value[HEADER_BYTES:] for key, value in left.items()} == self.expected(self.now)


GroupMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestGroup = GroupMachine.TestCase


def test_effects_survive_the_log() -> None:
    for effects in (
        RowWrites(5, 6, [(1023, b"k", b"v"), (0, b"k2", b"")]),
        ClearStorage((b"abcd", b"abcdef")),
        CollectGarbage(1 << 63),
    ):
        assert decode_effects(encode_effects(effects)) == effects
