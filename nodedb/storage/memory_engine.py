"""The engine in memory: the same contract as LMDB's, for simulations and tests.

``crash`` is a power loss: everything since a commit is undone, the last commit or the one before
it, as the caller decides. A property test drives this and the LMDB engine side by side.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from nodedb.errors import MapFull, StorageError
from nodedb.storage.engine import KeyValue, chunked, cut_values

_CHUNK_ROWS = 256
# (space name, key, value before or None); a dropped or created space is undone key by key.
_Undo = tuple[str, bytes, bytes | None]
Applied = dict[int, tuple[int, int]]


class MemorySpace:
    """One ordered map: a dict, and its keys sorted."""

    def __init__(self, engine: "MemoryEngine", name: str) -> None:
        self._engine = engine
        self.name = name
        self.keys: list[bytes] = []
        self.values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        return self.values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set or replace."""
        assert key
        self._engine.note(self.name, key, self.values.get(key))
        self.store(key, value)

    def put_many(self, items: Iterable[KeyValue]) -> None:
        """Set or replace many."""
        for key, value in items:
            self.put(key, value)

    def delete(self, key: bytes) -> bool:
        """Remove a key; return whether it was there."""
        if key not in self.values:
            return False
        self._engine.note(self.name, key, self.values[key])
        self.store(key, None)
        return True

    def scan(
        self,
        start: bytes,
        end: bytes | None,
        limit: int,
        reverse: bool = False,  # noqa: FBT001, FBT002  as Space
    ) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end), or the last, then descending."""
        low = bisect_left(self.keys, start)
        high = len(self.keys) if end is None else bisect_left(self.keys, end)
        if limit <= 0 or low >= high:
            return []
        if reverse:
            chosen = self.keys[max(low, high - limit) : high][::-1]
        else:
            chosen = self.keys[low : min(high, low + limit)]
        return [(key, self.values[key]) for key in chosen]

    def scan_values(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int
    ) -> tuple[list[bytes], bytes | None]:
        """Return the first values of [start, end), and where to go on (None: the end)."""
        return cut_values(self.scan(start, end, limit), limit, bytes_max)

    def seek_first(self, start: bytes, end: bytes | None) -> KeyValue | None:
        """Return the first pair of [start, end), or None."""
        found = self.scan(start, end, 1)
        return found[0] if found else None

    def delete_range(self, start: bytes, end: bytes | None, limit: int) -> int:
        """Remove the first ``limit`` keys of [start, end); return how many there were."""
        found = self.scan(start, end, limit)
        for key, _ in found:
            self.delete(key)
        return len(found)

    def clear(self) -> None:
        """Remove everything."""
        for key, value in self.values.items():
            self._engine.note(self.name, key, value)
        self.keys.clear()
        self.values.clear()

    def count(self) -> int:
        """Return the number of keys."""
        return len(self.keys)

    def store(self, key: bytes, value: bytes | None) -> None:
        """Set, or remove when the value is None, without a note for the undo."""
        if value is None:
            if self.values.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
            return
        if key not in self.values:
            insort(self.keys, key)
        self.values[key] = value


class MemorySnapshot:
    """A copy of all spaces."""

    def __init__(self, spaces: dict[str, list[KeyValue]], applied: Applied) -> None:
        self._spaces = spaces
        self._applied = applied

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return (index, term) applied in this state."""
        return self._applied.get(group_id, (0, 0))

    def scan(self, space_name: str, start: bytes, end: bytes | None, limit: int) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end)."""
        pairs = self._spaces.get(space_name, [])
        low = bisect_left(pairs, start, key=lambda pair: pair[0])
        found = pairs[low : low + max(limit, 0)]
        return [pair for pair in found if end is None or pair[0] < end]

    def chunks(
        self, space_name: str, start: bytes, end: bytes | None, chunk_bytes: int
    ) -> Iterator[list[KeyValue]]:
        """Yield all pairs of [start, end) in lists of about ``chunk_bytes``."""
        return chunked(
            lambda position: self.scan(space_name, position, end, _CHUNK_ROWS), start, chunk_bytes
        )

    def close(self) -> None:
        """Forget the copy."""
        self._spaces = {}


class _Checkpoint:
    """What a crash needs to undo everything since a commit."""

    def __init__(self, applied: Applied, names: set[str]) -> None:
        self.applied = applied
        self.names = names
        self.undo: list[_Undo] = []


class MemoryEngine:
    """The spaces of one node in memory. ``size_max`` bounds the bytes of keys and values."""

    def __init__(
        self, *, size_max: int = 1 << 62, fsynced_index: Callable[[int], int] | None = None
    ) -> None:
        self._size_max = size_max
        self._fsynced_index = fsynced_index
        self._spaces: dict[str, MemorySpace] = {}
        self._applied: Applied = {}
        self._is_dirty = False
        self._is_abandoned = False
        self._before_commit: list[Callable[[], None]] = []
        self._durable = _Checkpoint({}, set())
        self._committed = _Checkpoint({}, set())

    def space(self, name: str) -> MemorySpace:
        """Open a space, creating it when needed."""
        space = self._spaces.get(name)
        if space is None:
            space = self._spaces[name] = MemorySpace(self, name)
            self._is_dirty = True
        return space

    def drop_space(self, name: str) -> None:
        """Remove a space with its contents."""
        self.space(name).clear()
        del self._spaces[name]
        self._is_dirty = True

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""
        return sorted(self._spaces)

    def set_applied(self, group_id: int, index: int, term: int) -> None:
        """Note that a group's log is applied up to an entry."""
        self._applied[group_id] = (index, term)
        self._is_dirty = True

    def clear_applied(self, group_id: int) -> None:
        """Forget a group whose replica has left."""
        self._applied.pop(group_id, None)
        self._is_dirty = True

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return the newest (index, term) noted."""
        return self._applied.get(group_id, (0, 0))

    def recyclable_applied(self, group_id: int) -> int:
        """Return the applied index that no crash can undo."""
        return self._durable.applied.get(group_id, (0, 0))[0]

    def before_commit(self, callback: Callable[[], None]) -> None:
        """Have it called before each commit."""
        self._before_commit.append(callback)

    def commit(self) -> None:
        """Close what was written; an empty commit changes nothing."""
        if self._is_abandoned:
            raise StorageError("the engine was abandoned")
        for callback in self._before_commit:
            callback()
        if not self._is_dirty:
            return
        if self._fsynced_index is not None:
            for group_id, (index, _) in self._applied.items():
                fsynced = self._fsynced_index(group_id)
                assert index <= fsynced, (group_id, index, fsynced)
        self._durable = self._committed
        self._committed = _Checkpoint(dict(self._applied), set(self._spaces))
        self._is_dirty = False

    def sync(self) -> None:
        """Commit, and make that very commit durable."""
        self.commit()
        self._durable = self._committed

    def ensure_room(self, byte_count: int) -> None:
        """Raise MapFull when that much more data does not fit."""
        used = sum(
            len(key) + len(value)
            for space in self._spaces.values()
            for key, value in space.values.items()
        )
        if used + byte_count > self._size_max:
            message = f"the engine has reached its size of {self._size_max} bytes"
            raise MapFull(message)

    def read_snapshot(self) -> MemorySnapshot:
        """Commit, and return the committed state."""
        self.commit()
        spaces = {
            name: [(key, space.values[key]) for key in space.keys]
            for name, space in self._spaces.items()
        }
        return MemorySnapshot(spaces, dict(self._applied))

    def abandon(self) -> None:
        """Forget what was not committed; only ``close`` and ``crash`` are of use then."""
        self._is_abandoned = True

    def close(self) -> None:
        """Commit and sync; when abandoned, nothing."""
        if not self._is_abandoned:
            self.sync()

    def crash(self, *, keep_last_commit: bool) -> None:
        """Lose the power: fall back to the last commit, or to what was durable before it.

        All ``Space`` objects are dead; open them again.
        """
        target = self._committed if keep_last_commit else self._durable
        journals = [self._committed]
        if target is not self._committed:
            journals.append(target)
        for checkpoint in journals:
            for name, key, value in reversed(checkpoint.undo):
                space = self._spaces.get(name)
                if space is None:
                    space = self._spaces[name] = MemorySpace(self, name)
                space.store(key, value)
        spaces = {}
        for name in target.names:
            fresh = spaces[name] = MemorySpace(self, name)
            if name in self._spaces:
                fresh.keys = self._spaces[name].keys
                fresh.values = self._spaces[name].values
        self._spaces = spaces
        self._applied = dict(target.applied)
        self._committed = _Checkpoint(dict(target.applied), set(target.names))
        self._durable = self._committed
        self._is_dirty = False
        self._is_abandoned = False
        self._before_commit.clear()

    def note(self, name: str, key: bytes, before: bytes | None) -> None:
        """Remember how to undo a change."""
        self._committed.undo.append((name, key, before))
        self._is_dirty = True
