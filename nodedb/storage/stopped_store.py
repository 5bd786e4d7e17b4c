"""The store of a node that does not run, open for reading: nothing in it is written, or created.

The lock is shared: several may look, and no node starts meanwhile. The engine shows its last
commit, the log everything that can be read; after a crash the log may be ahead by what the next
start would apply. LMDB's own lock file is not touched, for the store's lock keeps writers out.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable
from typing import NoReturn

import lmdb

from nodedb.errors import StorageError, StoreCorrupted, StoreLocked, StoreMismatch
from nodedb.storage.engine import TRIM_ROWS, KeyValue, cut_values
from nodedb.storage.lmdb_engine import (
    APPLIED_PREFIX,
    LONG_PREFIX,
    META,
    SPACES_MAX,
    decode_applied,
)
from nodedb.storage.lmdb_generations import Generations
from nodedb.storage.lmdb_snapshot import LmdbSnapshot
from nodedb.storage.log_file import RealLogDirectory
from nodedb.storage.store import read_manifest
from nodedb.storage.wal import Wal


class StoppedStore:
    """A store's manifest, log and engine, for reading. Close it."""

    def __init__(self, path: str) -> None:
        """Open the store in ``path``.

        Raises StoreLocked when a node runs on it, StoreMismatch when there is no store,
        StoreTooNew, LogCorrupted, StoreCorrupted, StorageError.
        """
        self.path = path
        manifest = read_manifest(path)
        if manifest is None:
            message = f'there is no store in "{path}"'
            raise StoreMismatch(message)
        self.manifest = manifest
        self._lock = _take_shared_lock(os.path.join(path, "LOCK"))
        self._closers: list[Callable[[], None]] = [lambda: os.close(self._lock)]
        try:
            self.wal = self._open_log(os.path.join(path, "log"))
            self._closers.append(self.wal.close)
            self.engine = ReadOnlyEngine(os.path.join(path, "data"))
            self._closers.append(self.engine.close)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _open_log(path: str) -> Wal:
        try:
            return Wal(RealLogDirectory(path, is_read_only=True), is_read_only=True)
        except OSError as error:
            message = f'cannot read the log in "{path}": {error}'
            raise StorageError(message) from error

    def close(self) -> None:
        """Close everything, and let a node have the store."""
        while self._closers:
            self._closers.pop()()


def _refuse() -> NoReturn:
    raise StorageError("the engine is open for reading only")


class ReadOnlySpace:
    """One space of a committed state. What would change it raises StorageError."""

    def __init__(self, snapshot: LmdbSnapshot, name: str) -> None:
        self.name = name
        self._snapshot = snapshot

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        found = self._snapshot.scan(self.name, key, key + b"\0", 1)
        return found[0][1] if found else None

    def put(self, key: bytes, value: bytes) -> None:
        """Refuse."""
        del key, value
        _refuse()

    def put_many(self, items: Iterable[KeyValue]) -> None:
        """Refuse."""
        del items
        _refuse()

    def delete(self, key: bytes) -> bool:
        """Refuse."""
        del key
        _refuse()

    def scan(
        self,
        start: bytes,
        end: bytes | None,
        limit: int,
        reverse: bool = False,  # noqa: FBT001, FBT002  as Space
    ) -> list[KeyValue]:
        """Return the first ``limit`` pairs of [start, end), or the last, then descending."""
        if not reverse:
            return self._snapshot.scan(self.name, start, end, limit)
        everything = self._snapshot.scan(self.name, start, end, self.count())
        return everything[::-1][:limit]

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
        """Refuse."""
        del start, end, limit
        _refuse()

    def clear(self) -> None:
        """Refuse."""
        _refuse()

    def count(self) -> int:
        """Return the number of keys."""
        return self._snapshot.count(self.name)


class ReadOnlyEngine:
    """The last commit of an engine whose node does not run; an ``Engine`` that refuses to write."""

    def __init__(self, path: str) -> None:
        """Open the directory ``path``. Raises StorageError, StoreCorrupted."""
        self._path = path
        self._applied: dict[int, tuple[int, int]] = {}
        try:
            self._env = lmdb.open(
                path, readonly=True, lock=False, create=False, max_dbs=SPACES_MAX, lib_version=0
            )
        except lmdb.Error as error:
            raise self.fail(error) from error
        try:
            self._check_size()
            self._databases = self._read()
            self._snapshot = self.read_snapshot()
        except lmdb.Error as error:
            self._env.close()
            raise self.fail(error) from error
        except StorageError:
            self._env.close()
            raise

    def _check_size(self) -> None:
        """Refuse a file that was cut: reading its map behind the end would be a SIGBUS."""
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        size = os.path.getsize(os.path.join(self._path, "data.mdb"))
        if size < needed:
            message = f'the engine in "{self._path}" has {size} bytes of {needed}'
            raise StoreCorrupted(message)

    def _read(self) -> dict[str, tuple[lmdb._Database, bool]]:
        """Return each space's database, and whether it has long keys; note what is applied."""
        with self._env.begin(write=False) as txn, txn.cursor() as cursor:
            names = [bytes(key) for key in cursor.iternext(keys=True, values=False)]
        handles = {name.decode(): self._env.open_db(name, create=False) for name in names}
        if META not in handles:
            return {}  # Killed before its first commit.
        snapshot = LmdbSnapshot(
            self, self._env.begin(write=False), {META: (handles.pop(META), False)}, {}
        )
        meta = ReadOnlySpace(snapshot, META)
        for key, value in meta.scan(APPLIED_PREFIX, APPLIED_PREFIX + b"\xff" * 5, 1 << 30):
            group_id, applied = decode_applied(key, value)
            self._applied[group_id] = applied
        generations = Generations(meta)
        databases = {}
        for database, handle in handles.items():
            name = generations.name_of(database)
            if name is not None:
                is_long = meta.get(LONG_PREFIX + database.encode()) is not None
                databases[name] = (handle, is_long)
        snapshot.close()
        return databases

    def space(self, name: str) -> ReadOnlySpace:
        """Return a space; one that does not exist is empty."""
        return ReadOnlySpace(self._snapshot, name)

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""
        return self._snapshot.space_names()

    def applied(self, group_id: int) -> tuple[int, int]:
        """Return the (index, term) of the commit; (0, 0) for an unknown group."""
        return self._applied.get(group_id, (0, 0))

    def applied_groups(self) -> list[int]:
        """Return the ids of all groups that have an applied entry, sorted."""
        return sorted(self._applied)

    def recyclable_applied(self, group_id: int) -> int:
        """Return the applied index; whether it is durable is not known."""
        return self.applied(group_id)[0]

    def read_snapshot(self) -> LmdbSnapshot:
        """Return the committed state."""
        txn = self._env.begin(write=False)
        return LmdbSnapshot(self, txn, self._databases, self._applied)

    def before_commit(self, callback: Callable[[], None]) -> None:
        """Do nothing: there is no commit."""

    def drop_space(self, name: str) -> None:
        """Refuse."""
        del name
        _refuse()

    def set_applied(self, group_id: int, index: int, term: int) -> None:
        """Refuse."""
        del group_id, index, term
        _refuse()

    def clear_applied(self, group_id: int) -> None:
        """Refuse."""
        del group_id
        _refuse()

    def commit(self) -> None:
        """Refuse."""
        _refuse()

    def sync(self) -> None:
        """Refuse."""
        _refuse()

    def ensure_room(self, byte_count: int) -> None:
        """Refuse."""
        del byte_count
        _refuse()

    def stage_space(self, name: str) -> ReadOnlySpace:
        """Refuse."""
        del name
        _refuse()

    def staged_names(self) -> list[str]:
        """Return nothing: what a crash has left of a load is nobody's."""
        return []

    def discard_staged(self, names: Iterable[str]) -> None:
        """Refuse."""
        del names
        _refuse()

    def switch_staged(self, names: Iterable[str], group_id: int, *, index: int, term: int) -> None:
        """Refuse."""
        del names, group_id, index, term
        _refuse()

    def trim_dropped(self, limit: int = TRIM_ROWS) -> bool:
        """Do nothing."""
        del limit
        return False

    def abandon(self) -> None:
        """Do nothing: there is nothing to forget."""

    def close(self) -> None:
        """Close the environment."""
        self._snapshot.close()
        self._env.close()

    def fail(self, error: lmdb.Error) -> StorageError:
        """Return the error to raise."""
        message = f'cannot read the engine in "{self._path}": {error}'
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.InvalidError):
            return StoreCorrupted(message)
        return StorageError(message)

    def on_snapshot_closed(self) -> None:
        """Do nothing."""


def _take_shared_lock(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        message = f'cannot open "{path}": {error}'
        raise StorageError(message) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            message = f'cannot lock "{path}": {error}'
            raise StorageError(message) from error
        message = f'a node runs on the store: "{path}" is locked; stop it first'
        raise StoreLocked(message) from error
    return fd
