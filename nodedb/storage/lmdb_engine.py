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
    long/<database>    ->  empty: it holds keys beyond LMDB's limit (see long_keys)
    and the records of lmdb_generations, which say what database is which space

Databases that were dropped or replaced are removed by the commits that follow: small ones at once,
large ones key by key first, because freeing all pages of one in a single call stops the loop.
"""

import os
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

import lmdb

from nodedb.errors import DiskFull, MapFull, StorageError, StoreCorrupted
from nodedb.storage.engine import DISK_RESERVE_BYTES_DEFAULT, TRIM_ROWS, KeyValue, cut_values
from nodedb.storage.lmdb_generations import Generations
from nodedb.storage.lmdb_scan import scan_cursor, scan_cursor_values
from nodedb.storage.lmdb_snapshot import LmdbSnapshot
from nodedb.storage.log_file import free_bytes
from nodedb.storage.long_keys import KEY_BYTES_MAX, split_value, stored_key, stored_value

MAP_BYTES_DEFAULT: Final = 1 << 40
MAP_RESERVE_BYTES_DEFAULT: Final = 256 * 1024 * 1024
SPACES_MAX: Final = 4096

META: Final = "nodedb.meta"
_APPLIED: Final = struct.Struct(">QQ")
APPLIED_PREFIX: Final = b"applied/"
LONG_PREFIX: Final = b"long/"
_DROP_PAGES_MAX: Final = 4096
"""A database of at most so many pages is removed in one call: about a millisecond."""

Applied = dict[int, tuple[int, int]]


class LmdbSpace:
    """One named database inside the open write transaction."""

    __slots__ = ("_database", "_db", "_engine", "_txn", "has_long_keys", "name")

    def __init__(
        self,
        engine: "LmdbEngine",
        name: str,
        txn: lmdb.Transaction,
        db: lmdb._Database,
        database: str,
    ) -> None:
        """``database``: the name of the database that ``db`` is a handle of."""
        self._engine = engine
        self.name = name
        self._database = database
        # Any: the stub returns ``bytes | memoryview``, and a cast would cost a call per get. We
        # never ask for buffers.
        self._db: Any = db
        self._txn: Any = txn
        self.has_long_keys = False

    def rebind(self, txn: lmdb.Transaction) -> None:
        """Go on in the next transaction."""
        self._txn = txn

    def take_place_of(self, staged: "LmdbSpace") -> None:
        """Go on in the generation that another object has filled."""
        self._db = staged._db  # noqa: SLF001  one class
        self._database = staged._database  # noqa: SLF001
        self.has_long_keys = staged.has_long_keys

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
                return scan_cursor_values(cursor, start, end, limit, bytes_max)
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
            self._engine.note_long_keys(self._database)
            self.has_long_keys = True
        self._txn.put(stored_key(key), stored_value(key, value), db=self._db)


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
        self._staged: dict[str, LmdbSpace] = {}
        self._databases: dict[str, lmdb._Database] = {}
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
            self._meta = LmdbSpace(self, META, self._txn, self._database(META), META)
            self._generations = Generations(self._meta)
            self._generations.drop_left_over()
            self._load_applied()
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
        assert name != META, name
        return self._space(name)

    def drop_space(self, name: str) -> None:
        """Remove a space with its contents."""
        space = self.space(name)
        database = self._generations.database_of(name)
        try:
            if self._snapshot_count:
                # Snapshots read through the same handle: empty it now, remove it after them.
                space.clear()
                self._generations.drop(database)
                self._meta.delete(LONG_PREFIX + database.encode())
            else:
                self._remove(database)
            del self._spaces[name]
        except lmdb.Error as error:
            raise self.fail(error) from error

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""
        names = map(self._generations.name_of, self._database_names())
        return sorted([name for name in names if name is not None])

    def _space(self, name: str) -> LmdbSpace:
        space = self._spaces.get(name)
        if space is None:
            database = self._generations.database_of(name)
            space = self._spaces[name] = self._open(name, database)
            if database in self._generations.dropped:
                self._generations.forget_dropped(database)
        return space

    def _open(self, name: str, database: str) -> LmdbSpace:
        if self._failure is not None:
            raise self._failure
        try:
            space = LmdbSpace(self, name, self._txn, self._database(database), database)
        except lmdb.Error as error:
            raise self.fail(error) from error
        space.has_long_keys = self._meta.get(LONG_PREFIX + database.encode()) is not None
        return space

    def _database(self, database: str) -> lmdb._Database:
        db = self._databases.get(database)
        if db is None:
            db = self._env.open_db(database.encode(), txn=self._txn)
            self._databases[database] = db
        return db

    def _database_names(self) -> list[str]:
        """Return the names of all databases but the engine's own."""
        try:
            with self._txn.cursor() as cursor:
                names = [key.decode() for key in cursor.iternext(keys=True, values=False)]
        except lmdb.Error as error:
            raise self.fail(error) from error
        return [name for name in names if name != META]

    def note_long_keys(self, database: str) -> None:
        """Remember, with the data, that a database holds keys beyond LMDB's limit."""
        self._meta.put(LONG_PREFIX + database.encode(), b"")

    # Staged generations

    def stage_space(self, name: str) -> LmdbSpace:
        """Open an empty generation of a space, which nobody sees before ``switch_staged``."""
        assert name
        assert name != META, name
        self.discard_staged([name])
        space = self._staged[name] = self._open(name, self._generations.stage(name))
        return space

    def staged_names(self) -> list[str]:
        """Return the names of the spaces that have a staged generation, sorted."""
        return self._generations.staged_names()

    def discard_staged(self, names: Iterable[str]) -> None:
        """Give up staged generations; names that have none are passed over."""
        if self._failure is not None:
            return  # The next start finds and removes them.
        for name in names:
            if self._staged.pop(name, None) is not None:
                self._generations.unstage(name)

    def switch_staged(self, names: Iterable[str], group_id: int, *, index: int, term: int) -> None:
        """Put staged generations in place of the live ones, with the applied entry, durably."""
        if self._failure is not None:
            raise self._failure
        self._call_before_commit()
        existing = set(self._database_names())
        for name in names:
            staged = self._staged.pop(name)
            before = self._generations.switch(name)
            if before in existing:
                self._generations.drop(before)
            live = self._spaces.get(name)
            if live is None:
                self._spaces[name] = staged
            else:
                live.take_place_of(staged)
        self.set_applied(group_id, index, term)
        self._commit(beyond_log=group_id)
        self._sync()

    def trim_dropped(self, limit: int = TRIM_ROWS) -> bool:
        """Remove about ``limit`` keys of what was replaced; True while there is more to remove."""
        if self._failure is not None:
            raise self._failure
        if self._snapshot_count:
            return False
        try:
            return self._trim(limit)
        except lmdb.Error as error:
            raise self.fail(error) from error

    def _trim(self, limit: int) -> bool:
        """Remove small databases that were dropped, or some keys of the first large one."""
        for database in sorted(self._generations.dropped):
            db = self._database(database)
            stat = self._txn.stat(db)
            if stat["leaf_pages"] + stat["overflow_pages"] > _DROP_PAGES_MAX:
                with self._txn.cursor(db) as cursor:
                    is_found = cursor.first()
                    while is_found and limit > 0:
                        cursor.delete()
                        limit -= 1
                        is_found = bool(cursor.key())
                return True
            self._remove(database)
            self._generations.forget_dropped(database)
        return False

    def _remove(self, database: str) -> None:
        db = self._database(database)
        del self._databases[database]
        self._txn.drop(db, delete=True)
        self._meta.delete(LONG_PREFIX + database.encode())

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
        self._call_before_commit()
        self._commit()

    def _call_before_commit(self) -> None:
        for callback in self._before_commit:
            callback()

    def _commit(self, *, beyond_log: int | None = None) -> None:
        """Commit; the group ``beyond_log`` may be applied beyond its log."""
        try:
            if self._generations.dropped and not self._snapshot_count:
                self._trim(TRIM_ROWS)
            if self._applied_changed:
                self._store_applied(beyond_log)
            self._txn.commit()
            self._txn = self._env.begin(write=True)
            transaction_id = self._env.info()["last_txnid"]
        except lmdb.Error as error:
            raise self.fail(error) from error
        for space in (self._meta, *self._spaces.values(), *self._staged.values()):
            space.rebind(self._txn)
        # LMDB writes nothing for an empty transaction, and then the commit before did not become
        # durable by this one either.
        if transaction_id != self._transaction_id:
            self._transaction_id = transaction_id
            self._durable_applied = self._committed_applied
            self._committed_applied = dict(self._applied)
            self._free_bytes = self._count_free()

    def sync(self) -> None:
        """Commit, and make that very commit durable."""
        self.commit()
        self._sync()

    def _sync(self) -> None:
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
            name: (self._databases[self._generations.database_of(name)], space.has_long_keys)
            for name, space in spaces.items()
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

    def _store_applied(self, beyond_log: int | None) -> None:
        for group_id in sorted(self._applied_changed):
            key = APPLIED_PREFIX + group_id.to_bytes(4, "big")
            applied = self._applied.get(group_id)
            if applied is None:
                self._meta.delete(key)
                continue
            index = applied[0]
            if self._fsynced_index is not None and group_id != beyond_log:
                fsynced = self._fsynced_index(group_id)
                assert index <= fsynced, (group_id, index, fsynced)
            self._meta.put(key, _APPLIED.pack(*applied))
        self._applied_changed.clear()

    def _load_applied(self) -> None:
        for key, value in self._meta.scan(APPLIED_PREFIX, APPLIED_PREFIX + b"\xff" * 5, 1 << 30):
            group_id, applied = decode_applied(key, value)
            self._applied[group_id] = applied

    def _count_free(self) -> int:
        """Return the bytes left below the configured size, as of the last commit."""
        end = (self._env.info()["last_pgno"] + 1) * self._page_bytes
        if end <= self._map_bytes // 2 or self._snapshot_count:
            # A snapshot keeps every page that is freed now from being reused: count none of them.
            return self._map_bytes - end
        # The file has grown that far once; pages freed since then are reused, so count used ones.
        used = 0
        for name in [META, *self._database_names()]:
            stat = self._txn.stat(self._database(name))
            used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return self._map_bytes - used * self._page_bytes


def decode_applied(key: bytes, value: bytes) -> tuple[int, tuple[int, int]]:
    """Return (group, (index, term)) of an ``applied/`` record."""
    index, term = _APPLIED.unpack(value)
    return int.from_bytes(key[len(APPLIED_PREFIX) :], "big"), (index, term)


def _translate(error: lmdb.Error, message: str) -> StorageError:
    if isinstance(error, lmdb.MapFullError):
        return MapFull(message)
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError):
        return StoreCorrupted(message)
    if "No space left" in str(error):
        return DiskFull(message)
    return StorageError(message)
