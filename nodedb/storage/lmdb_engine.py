"""The engine on LMDB: one write transaction stays open on the loop thread.

All reads of the loop go through the open write transaction, and so see the newest state.
``commit`` closes it with ``metasync=False``: data pages are fsynced, the new meta page is written,
and becomes durable with the fsync of the next commit. So a power loss falls back to the last commit
or to the one before it, and the log is recycled only below the latter (PROTOCOL rule 57). Never
``sync=False`` (corrupts on power loss) nor ``writemap`` (SIGBUS on a full disk).

A full map makes LMDB's transaction unusable (every call then fails, commit included), and applying
must not fail. Therefore the real map is larger than the configured size by a reserve, and
``ensure_room`` refuses work against the configured size before it is proposed. Deleting needs pages
too (copy on write): they come out of the reserve.

Layout: every space is a named database; ``nodedb.meta`` is the engine's own::

    applied/<group:4>  ->  index:8 | term:8
    long/<space name>  ->  empty: the space holds keys beyond LMDB's limit (see long_keys)
"""

import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, Final

import lmdb

from nodedb.errors import DiskFull, MapFull, StorageError, StoreCorrupted
from nodedb.storage.engine import DISK_RESERVE_BYTES_DEFAULT, KeyValue, chunked, cut_values
from nodedb.storage.log_file import free_bytes
from nodedb.storage.long_keys import KEY_BYTES_MAX, iterate, split_value, stored_key, stored_value

MAP_BYTES_DEFAULT: Final = 1 << 40
MAP_RESERVE_BYTES_DEFAULT: Final = 256 * 1024 * 1024
SPACES_MAX: Final = 4096

_META: Final = "nodedb.meta"
_APPLIED: Final = struct.Struct(">QQ")
_APPLIED_PREFIX: Final = b"applied/"
_LONG_PREFIX: Final = b"long/"
_DROPPED_PREFIX: Final = b"dropped/"
_SCAN_STEP_FIRST: Final = 4
_SCAN_STEP_FACTOR: Final = 4
_SCAN_STEP_MAX: Final = 1024
_CHUNK_ROWS: Final = 256
_key_of: Final = itemgetter(0)

Applied = dict[int, tuple[int, int]]


class LmdbSpace:
    """One named database inside the open write transaction."""

    __slots__ = ("_db", "_engine", "_txn", "has_long_keys", "name")

    def __init__(
        self, engine: "LmdbEngine", name: str, txn: lmdb.Transaction, db: lmdb._Database
    ) -> None:
        self._engine = engine
        self.name = name
        # Any: the stub returns ``bytes | memoryview``, and a cast would cost a call per get. We
        # never ask for buffers.
        self._db: Any = db
        self._txn: Any = txn
        self.has_long_keys = False

    def rebind(self, txn: lmdb.Transaction) -> None:
        """Go on in the next transaction."""
        self._txn = txn

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        try:
            if len(key) <= KEY_BYTES_MAX:
                value: bytes | None = self._txn.get(key, None, self._db)
                return value
            return self._get_long(key)
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

    def put(self, key: bytes, value: bytes) -> None:
        """Set or replace."""
        try:
            if len(key) <= KEY_BYTES_MAX:
                self._txn.put(key, value, True, True, False, self._db)  # noqa: FBT003  LMDB's own
            else:
                self._put_long(key, value)
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

    def put_many(self, items: Iterable[KeyValue]) -> None:
        """Set or replace many; fastest in ascending order."""
        items = list(items)
        if max([len(key) for key, _ in items], default=0) > KEY_BYTES_MAX:
            for key, value in items:
                self.put(key, value)
            return
        try:
            cursor = self._txn.cursor(self._db)
            try:
                cursor.putmulti(items)
            finally:
                cursor.close()
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

    def delete(self, key: bytes) -> bool:
        """Remove a key; return whether it was there."""
        try:
            if len(key) > KEY_BYTES_MAX:
                key = stored_key(key)
            was_there: bool = self._txn.delete(key, b"", self._db)
        except lmdb.Error as error:
            raise self._engine.fail(error) from error
        return was_there

    def scan(
        self,
        start: bytes,
        end: bytes | None,
        limit: int,
        reverse: bool = False,  # noqa: FBT001, FBT002  hot path, called with positions
    ) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end), or the last, then descending."""
        if limit <= 0:
            return []
        try:
            cursor = self._txn.cursor(self._db)
            try:
                return scan_cursor(
                    cursor, start, end, limit, reverse=reverse, has_long_keys=self.has_long_keys
                )
            finally:
                cursor.close()
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

    def scan_values(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int
    ) -> tuple[list[bytes], bytes | None]:
        """Return the first values of [start, end), and the start of what follows (None: the end).

        At most ``limit``, and not many more bytes of them than ``bytes_max``.
        """
        if self.has_long_keys:
            return cut_values(self.scan(start, end, limit), limit, bytes_max)
        try:
            cursor = self._txn.cursor(self._db)
            try:
                return _scan_values(cursor, start, end, limit, bytes_max)
            finally:
                cursor.close()
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

    def seek_first(self, start: bytes, end: bytes | None) -> KeyValue | None:
        """Return the first pair of [start, end), or None."""
        if self.has_long_keys:
            found = self.scan(start, end, 1)
            return found[0] if found else None
        try:
            cursor = self._txn.cursor(self._db)
            try:
                if not cursor.set_range(start):
                    return None
                pair = cursor.item()
            finally:
                cursor.close()
        except lmdb.Error as error:
            raise self._engine.fail(error) from error
        return pair if end is None or pair[0] < end else None

    def delete_range(self, start: bytes, end: bytes | None, limit: int) -> int:
        """Remove the first ``limit`` keys of [start, end); return how many there were."""
        done = 0
        if self.has_long_keys:
            for key, _ in self.scan(start, end, limit):
                self.delete(key)
                done += 1
            return done
        try:
            cursor = self._txn.cursor(self._db)
            try:
                is_found = cursor.set_range(start)
                # Deleting moves the cursor to the next key.
                while is_found and done < limit and (end is None or cursor.key() < end):
                    cursor.delete()
                    done += 1
                    is_found = bool(cursor.key())
            finally:
                cursor.close()
        except lmdb.Error as error:
            raise self._engine.fail(error) from error
        return done

    def clear(self) -> None:
        """Remove everything."""
        try:
            self._txn.drop(self._db, delete=False)
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

    def count(self) -> int:
        """Return the number of keys."""
        try:
            entries: int = self._txn.stat(self._db)["entries"]
        except lmdb.Error as error:
            raise self._engine.fail(error) from error
        return entries

    def _get_long(self, key: bytes) -> bytes | None:
        stored = self._txn.get(stored_key(key), None, self._db)
        if stored is None:
            return None
        full, value = split_value(stored)
        assert full == key, "two keys with one 128-bit hash"
        return value

    def _put_long(self, key: bytes, value: bytes) -> None:
        if not self.has_long_keys:
            self._engine.note_long_keys(self.name)
            self.has_long_keys = True
        self._txn.put(stored_key(key), stored_value(key, value), db=self._db)


def scan_cursor(
    cursor: Any,
    start: bytes,
    end: bytes | None,
    limit: int,
    *,
    reverse: bool,
    has_long_keys: bool,
) -> list[KeyValue]:
    """Scan with a fresh cursor; see ``Space.scan``."""
    if has_long_keys:
        return list(islice(iterate(cursor, start, end, reverse=reverse), limit))
    if reverse:
        return _scan_reverse(cursor, start, end, limit)
    if not cursor.set_range(start):
        return []
    # Rows are fetched by islice, at C speed, and only then compared with the end: a few too many
    # may be fetched, so the steps grow with what was found.
    rows = cursor.iternext()
    step = min(limit, _SCAN_STEP_FIRST)
    result = list(islice(rows, step))
    while True:
        if end is not None and result and result[-1][0] >= end:
            return result[: bisect_left(result, end, key=_key_of)]
        room = limit - len(result)
        if room == 0:
            return result
        step = min(step * _SCAN_STEP_FACTOR, _SCAN_STEP_MAX, room)
        part = list(islice(rows, step))
        if not part:
            return result
        result += part


def _scan_values(
    cursor: Any, start: bytes, end: bytes | None, limit: int, bytes_max: int
) -> tuple[list[bytes], bytes | None]:
    """Scan values with a fresh cursor; see ``Space.scan_values``.

    No key is made but each step's last. A step that has run over the end is read again with keys.
    """
    if not cursor.set_range(start):
        return [], None
    rows = cursor.iternext(keys=False, values=True)
    result: list[bytes] = []
    size = 0
    step = min(limit, _SCAN_STEP_FIRST)
    while True:
        part: list[bytes] = list(islice(rows, step))
        last: bytes = cursor.key()
        if len(part) < step or (end is not None and last >= end):
            break
        result += part
        size += sum(map(len, part))
        start = last + b"\0"
        if len(result) == limit or size >= bytes_max:
            return result, start
        step = min(step * _SCAN_STEP_FACTOR, _SCAN_STEP_MAX, limit - len(result))
    if end is None or not part:
        return result + part, None
    pairs = scan_cursor(cursor, start, end, len(part), reverse=False, has_long_keys=False)
    return result + [value for _, value in pairs], None


def _scan_reverse(cursor: Any, start: bytes, end: bytes | None, limit: int) -> list[KeyValue]:
    if end is not None and cursor.set_range(end):
        if not cursor.prev():
            return []
    elif not cursor.last():
        return []
    rows = cursor.iterprev()
    step = min(limit, _SCAN_STEP_FIRST)
    result = list(islice(rows, step))
    while True:
        while result and result[-1][0] < start:
            result.pop()
            limit = len(result)
        room = limit - len(result)
        if room == 0:
            return result
        step = min(step * _SCAN_STEP_FACTOR, _SCAN_STEP_MAX, room)
        part = list(islice(rows, step))
        if not part:
            return result
        result += part


class LmdbSnapshot:
    """A committed read transaction."""

    def __init__(
        self,
        engine: "LmdbEngine",
        txn: lmdb.Transaction,
        databases: dict[str, tuple[lmdb._Database, bool]],
        applied: Applied,
    ) -> None:
        """``databases``: handle of each space, and whether it has long keys."""
        self._engine = engine
        self._txn = txn
        self._databases = databases
        self._applied = applied
        self._is_open = True

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return (index, term) applied in this state."""
        return self._applied.get(group_id, (0, 0))

    def scan(self, space_name: str, start: bytes, end: bytes | None, limit: int) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end)."""
        found = self._databases.get(space_name)
        if found is None or limit <= 0:
            return []
        db, has_long_keys = found
        try:
            with self._txn.cursor(db) as cursor:
                return scan_cursor(
                    cursor, start, end, limit, reverse=False, has_long_keys=has_long_keys
                )
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

    def chunks(
        self, space_name: str, start: bytes, end: bytes | None, chunk_bytes: int
    ) -> Iterator[list[KeyValue]]:
        """Yield all pairs of [start, end) in lists of about ``chunk_bytes``."""
        return chunked(
            lambda position: self.scan(space_name, position, end, _CHUNK_ROWS), start, chunk_bytes
        )

    def close(self) -> None:
        """End the read transaction."""
        if self._is_open:
            self._is_open = False
            self._txn.abort()
            self._engine.on_snapshot_closed()


class LmdbEngine:
    """The spaces of one node in one LMDB environment."""

    def __init__(
        self,
        path: str,
        *,
        map_bytes: int = MAP_BYTES_DEFAULT,
        map_reserve_bytes: int = MAP_RESERVE_BYTES_DEFAULT,
        disk_reserve_bytes: int = DISK_RESERVE_BYTES_DEFAULT,
        fsynced_index: Callable[[int], int] | None = None,
    ) -> None:
        """Open or create in the directory ``path``.

        ``fsynced_index(group_id)`` is the log's word for rule 61; None checks nothing.
        Raises StorageError, StoreCorrupted.
        """
        self._path = path
        self._map_bytes = map_bytes
        self._disk_reserve_bytes = disk_reserve_bytes
        self._fsynced_index = fsynced_index
        self._failure: StorageError | None = None
        self._spaces: dict[str, LmdbSpace] = {}
        self._databases: dict[str, lmdb._Database] = {}
        self._dropped: set[str] = set()
        self._snapshot_count = 0
        self._applied: Applied = {}
        self._applied_changed: set[int] = set()
        self._before_commit: list[Callable[[], None]] = []
        os.makedirs(path, mode=0o700, exist_ok=True)
        try:
            self._env = lmdb.open(
                path,
                map_size=map_bytes + map_reserve_bytes,
                max_dbs=SPACES_MAX,
                metasync=False,
                lib_version=0,
                mode=0o600,
            )
            # The meta page that we read here may stand in the page cache only.
            self._env.sync(True)  # noqa: FBT003  LMDB's own
            self._txn = self._env.begin(write=True)
            self._meta = self._space(_META)
            self._load_meta()
            self._transaction_id = self._env.info()["last_txnid"]
            self._page_bytes = self._env.stat()["psize"]
        except lmdb.Error as error:
            message = f'cannot open the engine in "{path}": {error}'
            raise _translate(error, message) from error
        self._committed_applied = dict(self._applied)
        self._durable_applied = dict(self._applied)
        self._free_bytes = self._count_free()

    # Spaces

    def space(self, name: str) -> LmdbSpace:
        """Open a space, creating it when needed. The same name gives the same object."""
        assert name
        assert name != _META, name
        return self._space(name)

    def drop_space(self, name: str) -> None:
        """Remove a space with its contents."""
        assert name != _META, name
        space = self._space(name)
        try:
            if self._snapshot_count:
                # Snapshots read through the same handle: empty it now, remove it after them.
                space.clear()
                self._dropped.add(name)
                self._meta.put(_DROPPED_PREFIX + name.encode(), b"")
            else:
                self._txn.drop(self._databases.pop(name), delete=True)
            if space.has_long_keys:
                self._meta.delete(_LONG_PREFIX + name.encode())
            del self._spaces[name]
        except lmdb.Error as error:
            raise self.fail(error) from error

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""
        try:
            with self._txn.cursor() as cursor:
                names = [key.decode() for key in cursor.iternext(keys=True, values=False)]
        except lmdb.Error as error:
            raise self.fail(error) from error
        return [name for name in names if name != _META and name not in self._dropped]

    def _space(self, name: str) -> LmdbSpace:
        space = self._spaces.get(name)
        if space is not None:
            return space
        if self._failure is not None:
            raise self._failure
        try:
            db = self._databases.get(name)
            if db is None:
                db = self._env.open_db(name.encode(), txn=self._txn)
                self._databases[name] = db
        except lmdb.Error as error:
            raise self.fail(error) from error
        if name in self._dropped:
            self._dropped.remove(name)
            self._meta.delete(_DROPPED_PREFIX + name.encode())
        space = self._spaces[name] = LmdbSpace(self, name, self._txn, db)
        if name != _META:
            space.has_long_keys = self._meta.get(_LONG_PREFIX + name.encode()) is not None
        return space

    def note_long_keys(self, name: str) -> None:
        """Remember, with the data, that a space holds keys beyond LMDB's limit."""
        self._meta.put(_LONG_PREFIX + name.encode(), b"")

    # Applied indexes

    def set_applied(self, group_id: int, index: int, term: int) -> None:
        """Note that a group's log is applied up to an entry."""
        self._applied[group_id] = (index, term)
        self._applied_changed.add(group_id)

    def clear_applied(self, group_id: int) -> None:
        """Forget a group whose replica has left."""
        self._applied.pop(group_id, None)
        self._applied_changed.add(group_id)

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return the newest (index, term) noted."""
        return self._applied.get(group_id, (0, 0))

    def recyclable_applied(self, group_id: int) -> int:
        """Return the applied index that no crash can undo."""
        return self._durable_applied.get(group_id, (0, 0))[0]

    # Transactions

    def before_commit(self, callback: Callable[[], None]) -> None:
        """Have it called before each commit, ``sync``, ``read_snapshot`` and ``close`` included."""
        self._before_commit.append(callback)

    def commit(self) -> None:
        """Close what was written; an empty commit changes nothing."""
        if self._failure is not None:
            raise self._failure
        for callback in self._before_commit:
            callback()
        try:
            if self._dropped and not self._snapshot_count:
                self._remove_dropped()
            if self._applied_changed:
                self._store_applied()
            self._txn.commit()
            self._txn = self._env.begin(write=True)
            transaction_id = self._env.info()["last_txnid"]
        except lmdb.Error as error:
            raise self.fail(error) from error
        for space in self._spaces.values():
            space.rebind(self._txn)
        # LMDB writes nothing for an empty transaction, and then the commit before did not become
        # durable by this one either.
        if transaction_id != self._transaction_id:
            self._transaction_id = transaction_id
            self._durable_applied = self._committed_applied
            self._committed_applied = dict(self._applied)
            self._free_bytes = self._count_free()

    def _remove_dropped(self) -> None:
        """Remove the spaces whose last snapshot is closed, or that a crash has left behind."""
        for name in sorted(self._dropped):
            database = self._databases.pop(name, None)
            if database is None:
                database = self._env.open_db(name.encode(), txn=self._txn)
            self._txn.drop(database, delete=True)
            self._meta.delete(_DROPPED_PREFIX + name.encode())
        self._dropped.clear()

    def sync(self) -> None:
        """Commit, and make that very commit durable."""
        self.commit()
        try:
            self._env.sync(True)  # noqa: FBT003  LMDB's own
        except lmdb.Error as error:
            raise self.fail(error) from error
        self._durable_applied = self._committed_applied

    def ensure_room(self, byte_count: int) -> None:
        """Raise MapFull or DiskFull when that much more data might not fit.

        The count is as of the last commit; what one commit interval adds fits into the reserves.
        """
        if self._failure is not None:
            raise self._failure
        if byte_count > self._free_bytes:
            message = (
                f'the engine in "{self._path}" has reached its size of {self._map_bytes} bytes'
            )
            raise MapFull(message)
        if free_bytes(self._path) - byte_count < self._disk_reserve_bytes:
            message = f'less than {self._disk_reserve_bytes} bytes are free in "{self._path}"'
            raise DiskFull(message)

    def read_snapshot(self) -> LmdbSnapshot:
        """Commit, and return the committed state."""
        # A handle can be used by a read transaction only after the commit of the one it was opened
        # in, so all are opened first.
        spaces = {name: self._space(name) for name in self.space_names()}
        self.commit()
        databases = {
            name: (self._databases[name], space.has_long_keys) for name, space in spaces.items()
        }
        try:
            txn = self._env.begin(write=False)
        except lmdb.Error as error:
            raise self.fail(error) from error
        self._snapshot_count += 1
        self._free_bytes = self._count_free()
        return LmdbSnapshot(self, txn, databases, self._committed_applied)

    def on_snapshot_closed(self) -> None:
        """Count snapshots: dropped spaces go with the last one, and freed pages come back."""
        self._snapshot_count -= 1
        if self._failure is None:
            self._free_bytes = self._count_free()

    def abandon(self) -> None:
        """Forget what was not committed: it was applied in part, or its state is not beside it."""
        if self._failure is None:
            self._failure = StorageError("the engine was abandoned")
            self._txn.abort()

    def close(self) -> None:
        """Commit and close; after a failure only close."""
        try:
            if self._failure is None:
                self.sync()
                self._txn.abort()
                self._failure = StorageError("the engine is closed")
        finally:
            self._env.close()

    def fail(self, error: lmdb.Error) -> StorageError:
        """Make the engine unusable after an error of LMDB; return the first failure."""
        if self._failure is None:
            message = f'the engine in "{self._path}" failed: {error}'
            self._failure = _translate(error, message)
            self._txn.abort()
        return self._failure

    def _store_applied(self) -> None:
        for group_id in sorted(self._applied_changed):
            key = _APPLIED_PREFIX + group_id.to_bytes(4, "big")
            applied = self._applied.get(group_id)
            if applied is None:
                self._meta.delete(key)
                continue
            index = applied[0]
            if self._fsynced_index is not None:
                fsynced = self._fsynced_index(group_id)
                assert index <= fsynced, (group_id, index, fsynced)
            self._meta.put(key, _APPLIED.pack(*applied))
        self._applied_changed.clear()

    def _load_meta(self) -> None:
        for key, value in self._meta.scan(_APPLIED_PREFIX, _APPLIED_PREFIX + b"\xff" * 5, 1 << 30):
            group_id = int.from_bytes(key[len(_APPLIED_PREFIX) :], "big")
            index, term = _APPLIED.unpack(value)
            self._applied[group_id] = (index, term)
        for key, _ in self._meta.scan(_DROPPED_PREFIX, _DROPPED_PREFIX + b"\xff", SPACES_MAX):
            self._dropped.add(key[len(_DROPPED_PREFIX) :].decode())

    def _count_free(self) -> int:
        """Return the bytes left below the configured size, as of the last commit."""
        end = (self._env.info()["last_pgno"] + 1) * self._page_bytes
        if end <= self._map_bytes // 2 or self._snapshot_count:
            # A snapshot keeps every page that is freed now from being reused: count none of them.
            return self._map_bytes - end
        # The file has grown that far once; pages freed since then are reused, so count used ones.
        used = 0
        for name in [_META, *self.space_names()]:
            self._space(name)
            stat = self._txn.stat(self._databases[name])
            used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return self._map_bytes - used * self._page_bytes


def _translate(error: lmdb.Error, message: str) -> StorageError:
    if isinstance(error, lmdb.MapFullError):
        return MapFull(message)
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError):
        return StoreCorrupted(message)
    if "No space left" in str(error):
        return DiskFull(message)
    return StorageError(message)
