"""A committed read transaction of LMDB: a state that stands still while the loop writes on."""

from collections.abc import Iterator
from typing import Final, Protocol

import lmdb

from nodedb.errors import StorageError
from nodedb.storage.engine import KeyValue, chunked
from nodedb.storage.lmdb_scan import scan_cursor, take_cursor

_CHUNK_ROWS: Final = 256


class SnapshotOwner(Protocol):
    """The engine, as its snapshots see it."""

    def fail(self, error: lmdb.Error) -> StorageError:
        """Make the engine unusable; return the first failure."""

    def on_snapshot_closed(self) -> None:
        """Count it."""


class LmdbSnapshot:
    """A committed read transaction."""

    def __init__(
        self,
        engine: SnapshotOwner,
        txn: lmdb.Transaction,
        databases: dict[str, tuple[lmdb._Database, bool]],
        applied: dict[int, tuple[int, int]],
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

    def space_names(self) -> list[str]:
        """Return the names of all spaces, sorted."""
        return sorted(self._databases)

    def count(self, space_name: str) -> int:
        """Return the number of keys of a space."""
        found = self._databases.get(space_name)
        if found is None:
            return 0
        try:
            entries: int = self._txn.stat(found[0])["entries"]
        except lmdb.Error as error:
            raise self._engine.fail(error) from error
        return entries

    def take(self, space_name: str, start: bytes, limit: int, bytes_max: int) -> list[KeyValue]:
        """Return the first pairs at and behind ``start``, with a bound for their bytes."""
        found = self._databases.get(space_name)
        if found is None:
            return []
        db, has_long_keys = found
        try:
            with self._txn.cursor(db) as cursor:
                return take_cursor(cursor, start, limit, bytes_max, has_long_keys=has_long_keys)
        except lmdb.Error as error:
            raise self._engine.fail(error) from error

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
