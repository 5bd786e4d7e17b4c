"""The LMDB engine and the memory engine are one: any sequence of operations gives equal answers."""

import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodedb.storage.lmdb_engine import LmdbEngine
from nodedb.storage.memory_engine import MemoryEngine

# Few and close keys, around LMDB's limit too, so that runs of long keys with one prefix happen.
_STEM = b"k" * 493
KEYS = st.one_of(
    st.binary(min_size=1, max_size=2),
    st.builds(
        lambda tail: _STEM + tail,
        st.text(alphabet="ab\xff", max_size=6).map(lambda text: text.encode("latin-1")),
    ),
    st.builds(lambda tail: _STEM + b"zz" * 300 + tail, st.binary(max_size=1)),
)
ENDS = st.one_of(st.none(), KEYS)
VALUES = st.binary(max_size=40)
NAMES = st.sampled_from(["rows", "history"])


class EnginesAreEqual(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.real = self._open()
        self.model = MemoryEngine()
        for name in ("rows", "history"):
            self.real.space(name)
            self.model.space(name)
        self.real.commit()
        self.model.commit()
        self.snapshots: list[tuple] = []
        self.staged: dict[str, tuple] = {}

    def _open(self) -> LmdbEngine:
        return LmdbEngine(self.directory.name, map_bytes=1 << 24, disk_reserve_bytes=0)

    @rule(name=NAMES, key=KEYS, value=VALUES)
    def put(self, name, key, value):
        self.real.space(name).put(key, value)
        self.model.space(name).put(key, value)

    @rule(name=NAMES, keys=st.lists(KEYS, max_size=20), value=VALUES)
    def put_many(self, name, keys, value):
        self.real.space(name).put_many([(key, value) for key in keys])
        self.model.space(name).put_many([(key, value) for key in keys])

    @rule(name=NAMES, key=KEYS)
    def delete(self, name, key):
        assert self.real.space(name).delete(key) == self.model.space(name).delete(key)

    @rule(name=NAMES, key=KEYS)
    def get(self, name, key):
        assert self.real.space(name).get(key) == self.model.space(name).get(key)

    @rule(name=NAMES, start=KEYS, end=ENDS, limit=st.integers(0, 30), reverse=st.booleans())
    def scan(self, name, start, end, limit, reverse):
        arguments = (start, end, limit, reverse)
        assert self.real.space(name).scan(*arguments) == self.model.space(name).scan(*arguments)

    @rule(
        name=NAMES,
        start=KEYS,
        end=ENDS,
        limit=st.integers(1, 30),
        bytes_max=st.sampled_from([1, 50, 1000, 1 << 20]),
    )
    def scan_values(self, name, start, end, limit, bytes_max):
        expected = [value for _, value in self.model.space(name).scan(start, end, 10_000)]
        for space in (self.model.space(name), self.real.space(name)):
            found, following = [], start
            while following is not None:
                part, after = space.scan_values(following, end, limit, bytes_max)
                assert len(part) <= limit
                assert after is None or (part and after > following)
                found += part
                following = after
            assert found == expected

    @rule(name=NAMES, start=KEYS, end=ENDS)
    def seek_first(self, name, start, end):
        expected = self.model.space(name).seek_first(start, end)
        assert self.real.space(name).seek_first(start, end) == expected

    @rule(name=NAMES, start=KEYS, end=ENDS, limit=st.integers(0, 30))
    def delete_range(self, name, start, end, limit):
        expected = self.model.space(name).delete_range(start, end, limit)
        assert self.real.space(name).delete_range(start, end, limit) == expected

    @rule(name=NAMES)
    def clear(self, name):
        self.real.space(name).clear()
        self.model.space(name).clear()

    @rule(name=NAMES)
    def drop(self, name):
        self.real.drop_space(name)
        self.model.drop_space(name)

    @rule(name=NAMES, pairs=st.lists(st.tuples(KEYS, VALUES), max_size=10))
    def stage(self, name, pairs):
        self.staged[name] = (self.real.stage_space(name), self.model.stage_space(name))
        for space in self.staged[name]:
            assert space.count() == 0
            space.put_many(pairs)

    @precondition(lambda self: self.staged)
    @rule(data=st.data(), key=KEYS, value=VALUES)
    def put_staged(self, data, key, value):
        for space in self.staged[data.draw(st.sampled_from(sorted(self.staged)))]:
            space.put(key, value)

    @rule(names=st.sets(NAMES))
    def discard_staged(self, names):
        for engine in (self.real, self.model):
            engine.discard_staged(sorted(names))
        for name in names:
            self.staged.pop(name, None)

    @rule(group=st.integers(0, 2), index=st.integers(1, 9))
    def switch_staged(self, group, index):
        """Objects of the spaces go on in what was staged."""
        held = {name: self.real.space(name) for name in self.staged}
        for engine in (self.real, self.model):
            engine.switch_staged(sorted(self.staged), group, index=index, term=8)
            assert engine.recyclable_applied(group) == index
        for name in self.staged:
            expected = self.model.space(name).scan(b"", None, 10_000)
            assert held[name] is self.real.space(name)
            assert held[name].scan(b"", None, 10_000) == expected
        self.staged.clear()

    @rule(limit=st.integers(1, 10))
    def trim_dropped(self, limit):
        self.real.trim_dropped(limit)
        self.model.trim_dropped(limit)

    @rule(group=st.integers(0, 2), index=st.integers(1, 9))
    def set_applied(self, group, index):
        self.real.set_applied(group, index, 7)
        self.model.set_applied(group, index, 7)

    @rule(group=st.integers(0, 2))
    def clear_applied(self, group):
        self.real.clear_applied(group)
        self.model.clear_applied(group)

    @rule()
    def commit(self):
        self.real.commit()
        self.model.commit()

    @rule()
    def sync(self):
        self.real.sync()
        self.model.sync()

    @precondition(lambda self: len(self.snapshots) < 2)
    @rule()
    def open_snapshot(self):
        self.snapshots.append((self.real.read_snapshot(), self.model.read_snapshot()))

    @precondition(lambda self: self.snapshots)
    @rule(name=NAMES, start=KEYS, end=ENDS)
    def read_snapshot(self, name, start, end):
        real, model = self.snapshots[0]
        assert real.space_names() == model.space_names()
        assert real.scan(name, start, end, 5) == model.scan(name, start, end, 5)
        for limit, bytes_max in ((1, 1), (7, 100), (100, 2000)):
            found = real.take(name, start, limit, bytes_max)
            everything = model.scan(name, start, None, 10_000)
            assert found == everything[: len(found)]
            assert len(found) <= limit
            assert bool(found) == bool(everything)
            assert found == real.take(name, start, limit, bytes_max)
            # Not stopped short of both bounds, and one step at most beyond the bytes.
            size = sum(len(key) + len(value) for key, value in found)
            assert size >= bytes_max or len(found) in (limit, len(everything))
        parts = list(real.chunks(name, start, end, 50))
        whole = [pair for part in model.chunks(name, start, end, 50) for pair in part]
        assert [pair for part in parts for pair in part] == whole
        assert [real.applied(group) for group in range(3)] == [
            model.applied(group) for group in range(3)
        ]

    @precondition(lambda self: self.snapshots)
    @rule()
    def close_snapshot(self):
        for snapshot in self.snapshots.pop(0):
            snapshot.close()

    @precondition(lambda self: not self.snapshots)
    @rule()
    def crash(self):
        """A killed process: the last commit is what is found."""
        self.real._txn.abort()
        self.real._env.close()
        self.real = self._open()
        self.model.crash(keep_last_commit=True)
        self.staged.clear()

    @invariant()
    def same_names_and_indexes(self):
        assert self.real.space_names() == self.model.space_names()
        assert self.real.staged_names() == self.model.staged_names() == sorted(self.staged)
        for group in range(3):
            assert self.real.applied(group) == self.model.applied(group)

    def teardown(self):
        for pair in self.snapshots:
            for snapshot in pair:
                snapshot.close()
        for name in self.model.space_names():
            pairs = self.model.space(name).scan(b"", None, 10_000)
            assert self.real.space(name).scan(b"", None, 10_000) == pairs
            assert self.real.space(name).count() == len(pairs)
        self.real.close()
        self.directory.cleanup()


TestEnginesAreEqual = EnginesAreEqual.TestCase
TestEnginesAreEqual.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
