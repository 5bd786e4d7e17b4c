"""The engine in memory: the same contract as LMDB's, for simulations and tests.

``crash`` is a power loss: everything since a commit is undone, the last commit or the one before
it, as the caller decides. A property test drives this and the LMDB engine side by side.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from nodedb.errors import MapFull, StorageError
from nodedb.storage.engine import TRIM_ROWS, KeyValue, chunked, cut_values

_CHUNK_ROWS = 256
# (map's number, key, value before or None).
_Undo = tuple[int, bytes, bytes | None]
Applied = dict[int, tuple[int, int]]


class _Map:
    """One generation of a space: a dict, and its keys sorted. Numbers never come again."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.keys: list[bytes] = []
        self.values: dict[bytes, bytes] = {}

    def store(self, key: bytes, value: bytes | None) -> None:
        """Set, or remove when the value is None, without a note for the undo."""
        if value is None:
            if self.values.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
            return
        if key not in self.values:
            insort(self.keys, key)
        self.values[key] = value


class MemorySpace:
    """One ordered map, in its generation of the time."""

    def __init__(self, engine: "MemoryEngine", name: str, generation: _Map) -> None:
        self._engine = engine
        self.name = name
        self.generation = generation

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        return self.generation.values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        """Set or replace."""
        assert key
        generation = self.generation
        self._engine.note(generation.number, key, generation.values.get(key))
        generation.store(key, value)

    def put_many(self, items: Iterable[KeyValue]) -> None:
        """Set or replace many."""
        for key, value in items:
            self.put(key, value)

    def delete(self, key: bytes) -> bool:
        """Remove a key; return whether it was there."""
        generation = self.generation
        if key not in generation.values:
            return False
        self._engine.note(generation.number, key, generation.values[key])
        generation.store(key, None)
        return True

    def scan(
        self,
        start: bytes,
        end: bytes | None,
        limit: int,
        reverse: bool = False,  # noqa: FBT001, FBT002  as Space
    ) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end), or the last, then descending."""
        keys, values = self.generation.keys, self.generation.values
        low = bisect_left(keys, start)
        high = len(keys) if end is None else bisect_left(keys, end)
        if limit <= 0 or low >= high:
            return []
        if reverse:
            chosen = keys[max(low, high - limit) : high][::-1]
        else:
            chosen = keys[low : min(high, low + limit)]
        return [(key, values[key]) for key in chosen]

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
        generation = self.generation
        for key, value in generation.values.items():
            self._engine.note(generation.number, key, value)
        generation.keys.clear()
        generation.values.clear()

    def count(self) -> int:
        """Return the number of keys."""
        return len(self.generation.keys)


class MemorySnapshot:
    """A copy of all spaces."""

    def __init__(self, spaces: dict[str, list[KeyValue]], applied: Applied) -> None:
        self._spaces = spaces
        self._applied = applied

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return (index, term) applied in this state."""
        return self._applied.get(group_id, (0, 0))

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""
        return sorted(self._spaces)

    def take(self, space_name: str, start: bytes, limit: int, bytes_max: int) -> list[KeyValue]:
        """Return the first pairs at and behind ``start``, with a bound for their bytes."""
        result: list[KeyValue] = []
        size = 0
        for pair in self.scan(space_name, start, None, limit):
            result.append(pair)
            size += len(pair[0]) + len(pair[1])
            if size >= bytes_max:
                break
        return result

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

    def __init__(self, applied: Applied, places: dict[str, _Map]) -> None:
        self.applied = applied
        self.places = places
        self.undo: list[_Undo] = []


class MemoryEngine:
    """The spaces of one node in memory. ``size_max`` bounds the bytes of keys and values."""

    def __init__(
        self, *, size_max: int = 1 << 62, fsynced_index: Callable[[int], int] | None = None
    ) -> None:
        self._size_max = size_max
        self._fsynced_index = fsynced_index
        self._spaces: dict[str, MemorySpace] = {}
        self._staged: dict[str, MemorySpace] = {}
        self._map_count = 0
        self._applied: Applied = {}
        self._applied_changed: set[int] = set()
        self._is_dirty = False
        self._is_abandoned = False
        self._before_commit: list[Callable[[], None]] = []
        self._durable = _Checkpoint({}, {})
        self._committed = _Checkpoint({}, {})

    def space(self, name: str) -> MemorySpace:
        """Open a space, creating it when needed."""
        space = self._spaces.get(name)
        if space is None:
            space = self._spaces[name] = self._new_space(name)
        return space

    def _new_space(self, name: str) -> MemorySpace:
        self._is_dirty = True
        self._map_count += 1
        return MemorySpace(self, name, _Map(self._map_count))

    def drop_space(self, name: str) -> None:
        """Remove a space with its contents."""
        self.space(name).clear()
        del self._spaces[name]
        self._is_dirty = True

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""
        return sorted(self._spaces)

    def stage_space(self, name: str) -> MemorySpace:
        """Open an empty generation of a space, which nobody sees before ``switch_staged``."""
        space = self._staged[name] = self._new_space(name)
        return space

    def staged_names(self) -> list[str]:
        """Return the names of the spaces that have a staged generation, sorted."""
        return sorted(self._staged)

    def discard_staged(self, names: Iterable[str]) -> None:
        """Give up staged generations; names that have none are passed over."""
        for name in names:
            self._staged.pop(name, None)

    def switch_staged(self, names: Iterable[str], group_id: int, *, index: int, term: int) -> None:
        """Put staged generations in place of the live ones, with the applied entry, durably."""
        if self._is_abandoned:
            raise StorageError("the engine was abandoned")
        self._call_before_commit()
        for name in names:
            self.space(name).generation = self._staged.pop(name).generation
        self.set_applied(group_id, index, term)
        self._commit(beyond_log=group_id)
        self._durable = self._committed

    def trim_dropped(self, limit: int = TRIM_ROWS) -> bool:
        """Do nothing: memory is freed at once."""
        del limit
        return False

    def set_applied(self, group_id: int, index: int, term: int) -> None:
        """Note that a group's log is applied up to an entry."""
        self._applied[group_id] = (index, term)
        self._applied_changed.add(group_id)
        self._is_dirty = True

    def clear_applied(self, group_id: int) -> None:
        """Forget a group whose replica has left."""
        self._applied.pop(group_id, None)
        self._applied_changed.discard(group_id)
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
        self._call_before_commit()
        self._commit()

    def _call_before_commit(self) -> None:
        for callback in self._before_commit:
            callback()

    def _commit(self, *, beyond_log: int | None = None) -> None:
        if not self._is_dirty:
            return
        if self._fsynced_index is not None:
            for group_id in self._applied_changed - {beyond_log}:
                index = self._applied[group_id][0]
                fsynced = self._fsynced_index(group_id)
                assert index <= fsynced, (group_id, index, fsynced)
        self._applied_changed.clear()
        self._durable = self._committed
        places = {name: space.generation for name, space in self._spaces.items()}
        self._committed = _Checkpoint(dict(self._applied), places)
        self._is_dirty = False

    def sync(self) -> None:
        """Commit, and make that very commit durable."""
        self.commit()
        self._durable = self._committed

    def ensure_room(self, byte_count: int) -> None:
        """Raise MapFull when that much more data does not fit."""
        used = sum(
            len(key) + len(value)
            for space in (*self._spaces.values(), *self._staged.values())
            for key, value in space.generation.values.items()
        )
        if used + byte_count > self._size_max:
            message = f"the engine has reached its size of {self._size_max} bytes"
            raise MapFull(message)

    def read_snapshot(self) -> MemorySnapshot:
        """Commit, and return the committed state."""
        self.commit()
        spaces = {
            name: [(key, space.generation.values[key]) for key in space.generation.keys]
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
        maps = {
            generation.number: generation
            for checkpoint in journals
            for generation in checkpoint.places.values()
        }
        for checkpoint in journals:
            for number, key, value in reversed(checkpoint.undo):
                # Others are of spaces that were made, or staged, since: nobody finds them again.
                if number in maps:
                    maps[number].store(key, value)
        self._spaces = {
            name: MemorySpace(self, name, generation) for name, generation in target.places.items()
        }
        self._staged.clear()
        self._applied = dict(target.applied)
        self._applied_changed.clear()
        self._committed = _Checkpoint(dict(target.applied), dict(target.places))
        self._durable = self._committed
        self._is_dirty = False
        self._is_abandoned = False
        self._before_commit.clear()

    def note(self, number: int, key: bytes, before: bytes | None) -> None:
        """Remember how to undo a change."""
        self._committed.undo.append((number, key, before))
        self._is_dirty = True
