"""The executor's view of rows: one statement of one transaction, over buffer, locks and versions.

Implements ``sql.executor.store.Store``. A read merges the transaction's earlier writes over the
group's state at the statement's timestamp. A write locks its keys first, then checks the newest
state under those locks, then buffers.

READ COMMITTED as PostgreSQL has it: a row changed since the statement's snapshot is handed back in
its newest version for the executor to check again; unique checks always look at the newest state,
because the lock on the key (present or absent) makes that state final for us.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from cluster.ids import VSHARD_COUNT
from nodedb.kv.keys import HEADER_BYTES, vshard_of
from nodedb.kv.locks import (
    ACCESS_EXCLUSIVE,
    ROW_KEY_SHARE,
    ROW_NO_KEY_UPDATE,
    ROW_SHARE_LOCK,
    ROW_UPDATE,
)
from nodedb.txn.deferred import UniqueCheck, count_holders
from nodedb.txn.scan import BufferedScan, IndexScan, RowScan
from nodedb.txn.table_codec import IndexCodec, TableCodec, Values, codec_of
from nodedb.txn.transaction import COMMAND, COMMAND_MAX, PAYLOAD
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Table
from sql.errors import (
    LockNotAvailable,
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    UniqueViolation,
)
from sql.executor.store import (
    Cursor,
    KeySpan,
    LockedRow,
    LockStrength,
    Store,
    TableAccess,
    WaitPolicy,
)
from sql.types.io import FormatContext, text_output

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from nodedb.txn.manager import TransactionManager
    from nodedb.txn.transaction import Transaction
    from sql.types.base import Datum, Row

STRENGTHS: Final[dict[str, int]] = {
    "key share": ROW_KEY_SHARE,
    "share": ROW_SHARE_LOCK,
    "no key update": ROW_NO_KEY_UPDATE,
    "update": ROW_UPDATE,
}
_PLAIN_FORMAT: Final = FormatContext()
_NO_MAKERS: Final[dict[int, Any]] = {}
_SEEK_ROWS: Final = 8
"""From so many rows on, one look whether the range of their keys is empty pays off."""


class StatementStore:
    """Rows as one statement sees them.

    Committed at or below ``timestamp``, or written by earlier commands.
    """

    __slots__ = ("_contended", "_group", "_manager", "_transaction", "before_command", "timestamp")

    def __init__(
        self,
        manager: TransactionManager,
        transaction: Transaction,
        timestamp: int,
        before_command: int,
    ) -> None:
        self._manager = manager
        self._group = manager.group
        self._transaction = transaction
        self._contended = b""
        self.timestamp = timestamp
        self.before_command = before_command

    def current(self) -> Store:
        """Return a view of the newest state, this statement's writes included."""
        return StatementStore(
            self._manager, self._transaction, self._group.last_timestamp, COMMAND_MAX
        )

    # Reading

    def read_payload(self, key: bytes) -> bytes | None:
        """Return what a key holds for this statement."""
        if self._transaction.writes:
            write = self._transaction.visible(key, self.before_command)
            if write is not None:
                return write[PAYLOAD] or None
        return self._group.read(key, self.timestamp)

    def newest_payload(self, key: bytes) -> bytes | None:
        """Return what a key holds now.

        This transaction's last write, else the newest committed version.
        """
        write = self._transaction.writes.get(key)
        if write is not None:
            return write[PAYLOAD] or None
        return self._group.newest(key)

    def check_serializable(self, key: bytes) -> None:
        """In a snapshot transaction refuse to change a locked key that is newer than the snapshot.

        Raises SerializationFailure (40001).
        """
        transaction = self._transaction
        if transaction.is_snapshot and key not in transaction.writes:
            timestamp, payload = self._group.newest_version(key)
            if timestamp > self.timestamp:
                raise _not_serializable(payload)

    async def get(self, table: Table, key: Values) -> Row | None:
        """Return the row with this clustering key."""
        if None in key:
            return None
        codec = codec_of(table)
        payload = self.read_payload(codec.rows.key(key))
        return None if payload is None else codec.decode(payload)

    async def get_many(self, table: Table, keys: Sequence[Values]) -> list[Row | None]:
        """Return rows by clustering key, in order."""
        codec = codec_of(table)
        encode, decode, read = codec.rows.key, codec.decode, self.read_payload
        rows: list[Row | None] = []
        for key in keys:
            payload = None if None in key else read(encode(key))
            rows.append(None if payload is None else decode(payload))
        return rows

    def scan(
        self,
        table: Table,
        spans: Sequence[KeySpan] | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        columns: frozenset[int] | None = None,
    ) -> Cursor:
        """Scan the clustered rows in key order."""
        codec = codec_of(table)
        ranges = [codec.rows.whole()] if spans is None else [codec.rows.range_of(s) for s in spans]
        return RowScan(self._buffered(ranges, reverse=reverse, limit=limit), codec, columns)

    def scan_index(
        self,
        access: TableAccess,
        index_id: int,
        spans: Sequence[KeySpan] | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        columns: frozenset[int] | None = None,
    ) -> Cursor:
        """Scan a secondary index in its order; yields the table's rows."""
        codec = codec_of(access.table)
        space = codec.index_by_id[index_id].entries
        ranges = [space.whole()] if spans is None else [space.range_of(span) for span in spans]
        source = self._buffered(ranges, reverse=reverse, limit=limit)
        return IndexScan(source, codec, self.read_payload, columns)

    async def get_by_index(
        self, access: TableAccess, index_id: int, keys: Sequence[Values]
    ) -> list[list[Row]]:
        """For each full or prefix key, return the matching rows."""
        results: list[list[Row]] = []
        for key in keys:
            rows: list[Row] = []
            if None not in key:
                cursor = self.scan_index(access, index_id, [KeySpan(key, key)])
                while batch := await cursor.next_batch():
                    rows.extend(batch)
            results.append(rows)
        return results

    def _buffered(
        self, ranges: list[tuple[bytes, bytes]], *, reverse: bool, limit: int | None
    ) -> BufferedScan:
        return BufferedScan(
            self._group,
            self._transaction,
            ranges,
            timestamp=self.timestamp,
            before_command=self.before_command,
            reverse=reverse,
            limit=limit,
        )

    async def row_count(self, table: Table) -> int:
        """Return the approximate number of rows."""
        return self._manager.approximate_rows(table)

    # Locking

    async def _acquire(self, resource: Hashable, mode: int) -> None:
        """Take a lock, waiting for it if need be."""
        if not self._manager.locks.try_acquire(self._transaction, resource, mode):
            await self._manager.wait_for_lock(self._transaction, resource, mode)

    async def lock(
        self, table: Table, rows: Sequence[Row], strength: LockStrength, wait: WaitPolicy
    ) -> list[LockedRow]:
        """Lock rows by their clustering key and tell which changed since they were read."""
        codec = codec_of(table)
        mode = STRENGTHS[strength]
        try_acquire = self._manager.locks.try_acquire
        locked: list[LockedRow] = []
        for row in rows:
            key = codec.key_of(row)
            if not try_acquire(self._transaction, key, mode):
                if wait == "skip":
                    locked.append(LockedRow(None, changed=True))
                    continue
                if wait == "nowait":
                    raise LockNotAvailable(
                        f'could not obtain lock on row in relation "{table.name}"'
                    )
                await self._manager.wait_for_lock(self._transaction, key, mode)
            locked.append(self._relook(codec, key, row))
        return locked

    def _relook(self, codec: TableCodec, key: bytes, row: Row) -> LockedRow:
        """Compare a locked row with what the statement read."""
        write = self._transaction.writes.get(key)
        if write is not None:
            if write[COMMAND] >= self.before_command:
                own: bytes = write[PAYLOAD]
                return LockedRow(codec.decode(own) if own else None, changed=True)
            return LockedRow(row, changed=False)
        timestamp, payload = self._group.newest_version(key)
        if timestamp > self.timestamp and self._transaction.is_snapshot:
            raise _not_serializable(payload)
        if timestamp <= self.timestamp:
            return LockedRow(row if payload is not None else None, changed=payload is None)
        return LockedRow(None if payload is None else codec.decode(payload), changed=True)

    # Writing

    async def insert(self, access: TableAccess, rows: Sequence[Row]) -> None:
        """Insert rows with their index entries; UniqueViolation (23505) on a key that exists.

        Waits only where a key is locked by somebody else; all rows up to there go in without a
        pause.
        """
        codec = codec_of(access.table)
        makers = dict(access.makers) if access.makers else _NO_MAKERS
        if codec.rowid_position >= 0:
            rows = self._with_rowids(codec, rows)
        at = 0
        while (at := self._insert_from(codec, makers, rows, at)) < len(rows):
            await self._wait_for_contended()

    def insert_now(self, access: TableAccess, row: Row) -> bool:
        """Insert one row as ``insert`` does; False when a key is locked by somebody else."""
        codec = codec_of(access.table)
        position = codec.rowid_position
        if position >= 0 and row[position] is None:
            row = (*row[:position], self._manager.take_rowids(1), *row[position + 1 :])
            if not codec.indexes:
                # Nobody else can know a fresh row id: there is nothing to lock or to look up.
                clustering = codec.clustering_of(row)
                key = codec.rows.key(clustering)
                self._transaction.put(key, codec.encode(row), codec.vshard(key, clustering))
                return True
        makers = dict(access.makers) if access.makers else _NO_MAKERS
        return self._insert_from(codec, makers, (row,), 0) == 1

    def update_now(self, access: TableAccess, old: Row, new: Row) -> bool:
        """Replace one locked row as ``update`` does; False when a key is locked by somebody."""
        makers = dict(access.makers) if access.makers else _NO_MAKERS
        return self._update_now(codec_of(access.table), makers, old, new)

    def delete_now(self, access: TableAccess, row: Row) -> bool:
        """Delete one locked row as ``delete`` does; False when a key is locked by somebody."""
        makers = dict(access.makers) if access.makers else _NO_MAKERS
        return self._delete_now(codec_of(access.table), makers, row)

    async def _wait_for_contended(self) -> None:
        """Queue for the key that stopped a write."""
        await self._acquire(self._contended, ROW_UPDATE)

    def _with_rowids(self, codec: TableCodec, rows: Sequence[Row]) -> list[Row]:
        position = codec.rowid_position
        following = self._manager.take_rowids(len(rows))
        return [
            (*row[:position], rowid, *row[position + 1 :]) if row[position] is None else row
            for rowid, row in enumerate(rows, following)
        ]

    def _insert_from(
        self, codec: TableCodec, makers: dict[int, Any], rows: Sequence[Row], at: int
    ) -> int:
        """Insert rows from ``at`` until the end, or until a locked key: returns how far it came."""
        transaction = self._transaction
        claim, writes, undo = self._manager.locks.claim, transaction.writes, transaction.undo
        clustering_of, encode_key, encode = codec.clustering_of, codec.rows.key, codec.encode
        indexes, command = codec.indexes, transaction.command
        is_plain = not codec.vshard_positions
        keys = [encode_key(clustering_of(row)) for row in (rows[at:] if at else rows)]
        get: Callable[[bytes], bytes | None] = self._group.rows.get
        if len(keys) >= _SEEK_ROWS and not self._group.has_keys(min(keys), max(keys)):
            get = _absent
            if not indexes and self._insert_fresh(codec, keys, rows[at:] if at else rows):
                return len(rows)
        byte_count = 0
        try:
            for key in keys:
                row = rows[at]
                if not claim(transaction, key):
                    self._contended = key
                    return at
                write = writes.get(key)
                if write is not None:
                    is_taken = bool(write[PAYLOAD])
                else:
                    stored = get(key)
                    is_taken = stored is not None and len(stored) > HEADER_BYTES
                if is_taken:
                    raise _primary_violation(codec, clustering_of(row))
                if indexes and not self._enter(codec, makers, row, key):
                    return at
                payload = encode(row)
                vshard = (
                    crc32(key[6:]) % VSHARD_COUNT
                    if is_plain
                    else codec.vshard(key, clustering_of(row))
                )
                writes[key] = (command, payload, vshard, write)
                undo.append(key)
                byte_count += len(key) + len(payload)
                at += 1
        finally:
            transaction.byte_count += byte_count
        transaction.check_size()
        return at

    def _insert_fresh(self, codec: TableCodec, keys: Sequence[bytes], rows: Sequence[Row]) -> bool:
        """Insert rows whose keys no committed row has, without a step per row.

        False, and nothing is done, when a key is locked, was written before or comes twice: the
        caller then looks at one after the other.
        """
        transaction = self._transaction
        writes = transaction.writes
        if len(set(keys)) < len(keys) or not writes.keys().isdisjoint(keys):
            return False
        payloads = list(map(codec.encode, rows))
        locks = self._manager.locks
        # Where nobody else may read the table, nobody locks its rows: a table just emptied or
        # rewritten is filled without a million locks.
        is_alone = locks.holds(transaction, codec.table.id, ACCESS_EXCLUSIVE)
        if not is_alone and not locks.claim_all(transaction, keys):
            return False
        if codec.vshard_positions:
            clustering_of, vshard = codec.clustering_of, codec.vshard
            vshards = [vshard(key, clustering_of(row)) for key, row in zip(keys, rows, strict=True)]
        else:
            vshards = [crc32(key[6:]) % VSHARD_COUNT for key in keys]
        command, older = repeat(transaction.command), repeat(None)
        writes.update(zip(keys, zip(command, payloads, vshards, older, strict=False), strict=True))
        transaction.undo += keys
        transaction.byte_count += sum(map(len, keys)) + sum(map(len, payloads))
        transaction.check_size()
        return True

    def _enter(self, codec: TableCodec, makers: dict[int, Any], row: Row, key: bytes) -> bool:
        """Write a new row's index entries.

        False when one is locked by somebody else, and nothing was written.
        """
        clustering = codec.clustering_of(row)
        vshard = codec.vshard(key, clustering)
        entries: list[tuple[bytes, int]] = []
        for index in codec.indexes:
            values = _index_values(index, makers, row)
            if values is None:
                continue
            entry_key, exclusive = index.entry_key(values, clustering)
            if exclusive:
                if not self._manager.locks.claim(self._transaction, entry_key):
                    self._contended = entry_key
                    return False
                if self.newest_payload(entry_key) is not None:
                    raise _entry_violation(codec, index, values)
                entries.append((entry_key, vshard_of(entry_key[6:])))
            elif index.is_deferrable and (shared := index.shared_key(values)) is not None:
                if not self._claim_all(shared):
                    return False
                self._check_later(codec, index, values, shared)
                entries.append((entry_key, vshard_of(shared[6:])))
            else:
                entries.append((entry_key, vshard))
        payload = codec.encode_clustering(clustering)
        for entry_key, entry_vshard in entries:
            self._transaction.put(entry_key, payload, entry_vshard)
        return True

    def _check_later(
        self, codec: TableCodec, index: IndexCodec, values: Values, shared: bytes
    ) -> None:
        """Have a locked key of a deferrable constraint checked, if it has a row already."""
        transaction = self._transaction
        if shared in transaction.unchecked or shared in transaction.deferred:
            return
        if count_holders(self._group, transaction, shared, 1):
            transaction.unchecked[shared] = UniqueCheck(
                codec.table.id, index.index, lambda: _entry_violation(codec, index, values)
            )

    async def add_index_entries(
        self, access: TableAccess, index_id: int, rows: Sequence[Row]
    ) -> None:
        """Write one index's entries of existing rows.

        UniqueViolation (23505) when two have the same key.

        The caller holds a table lock that keeps all writers out, so the entries need no locks of
        their own.
        """
        codec = codec_of(access.table)
        index = codec.index_by_id[index_id]
        makers = dict(access.makers)
        put = self._transaction.put
        for row in rows:
            values = _index_values(index, makers, row)
            if values is None:
                continue
            clustering = codec.clustering_of(row)
            key, exclusive = index.entry_key(values, clustering)
            shared = index.shared_key(values) if index.is_deferrable else None
            is_taken = (
                self.newest_payload(key) is not None
                if exclusive
                else shared is not None and count_holders(self._group, self._transaction, shared, 1)
            )
            if is_taken:
                raise _entry_violation(codec, index, values)
            vshard = codec.entry_vshard(key if exclusive else shared, clustering)
            put(key, codec.encode_clustering(clustering), vshard)

    async def insert_or_conflict(
        self,
        access: TableAccess,
        row: Row,
        arbiters: tuple[int, ...],
        *,
        lock_existing: bool = True,
    ) -> Row | None:
        """Insert one row or return the row it conflicts with.

        That one is locked unless told otherwise (DO NOTHING needs no lock).

        An arbiter never raises: its key is either ours, locked and absent, until the row is in, or
        somebody's row.
        """
        mark = len(self._transaction.held)
        found = await self._find_conflict(access, row, arbiters)
        if found is not None and not lock_existing:
            self._manager.locks.release_since(self._transaction, mark)
        return found

    async def _find_conflict(
        self, access: TableAccess, row: Row, arbiters: tuple[int, ...]
    ) -> Row | None:
        """Insert one row, or return the locked row that is in its way."""
        codec = codec_of(access.table)
        makers = dict(access.makers)
        if codec.rowid_position >= 0:
            (row,) = self._with_rowids(codec, (row,))
        clustering = codec.clustering_of(row)
        if not arbiters or PRIMARY_INDEX_ID in arbiters:
            key = codec.rows.key(clustering)
            await self._acquire(key, ROW_UPDATE)
            payload = self.newest_payload(key)
            if payload is not None:
                self.check_serializable(key)
                return codec.decode(payload)
        for index in codec.indexes:
            if arbiters and index.index_id not in arbiters:
                continue
            if index.is_deferrable:
                raise ObjectNotInPrerequisiteState(
                    "ON CONFLICT does not support deferrable unique constraints/exclusion "
                    "constraints as arbiters",
                    table=codec.table.name,
                    constraint=index.index.name,
                )
            if not index.is_unique:
                continue
            values = _index_values(index, makers, row)
            if values is None:
                continue
            entry_key, exclusive = index.entry_key(values, clustering)
            if exclusive:
                found = await self._lock_holder(codec, entry_key)
                if found is not None:
                    return found
        await self.insert(access, (row,))
        return None

    async def _lock_holder(self, codec: TableCodec, entry_key: bytes) -> Row | None:
        """Lock the row that a unique entry points to.

        Without one lock the entry itself, and return None.

        Rows are locked before their entries, as UPDATE and DELETE do: the other way round would
        deadlock with them.
        """
        locks, transaction = self._manager.locks, self._transaction
        while True:
            mark = len(transaction.held)
            pointer = self.newest_payload(entry_key)
            if pointer is None:
                await self._acquire(entry_key, ROW_UPDATE)
                if self.newest_payload(entry_key) is None:
                    return None
                locks.release_since(transaction, mark)
                continue
            row_key = codec.rows.key(codec.decode_clustering(pointer))
            await self._acquire(row_key, ROW_UPDATE)
            if self.newest_payload(entry_key) == pointer:
                payload = self.newest_payload(row_key)
                assert payload is not None, "an index entry without its row"
                self.check_serializable(row_key)
                return codec.decode(payload)
            locks.release_since(transaction, mark)

    def written_by_command(self, table: Table, row: Row) -> bool:
        """Tell whether this command has written the row with this clustering key."""
        write = self._transaction.writes.get(codec_of(table).key_of(row))
        return write is not None and write[COMMAND] == self._transaction.command

    async def update(
        self, access: TableAccess, old_rows: Sequence[Row], new_rows: Sequence[Row]
    ) -> None:
        """Replace locked rows, one after the other."""
        codec = codec_of(access.table)
        makers = dict(access.makers) if access.makers else _NO_MAKERS
        for old, new in zip(old_rows, new_rows, strict=True):
            while not self._update_now(codec, makers, old, new):
                await self._wait_for_contended()

    def _update_now(self, codec: TableCodec, makers: dict[int, Any], old: Row, new: Row) -> bool:
        """Replace a row.

        False when one of its new keys is locked by somebody else, and nothing was written.
        """
        old_clustering = codec.clustering_of(old)
        clustering = codec.clustering_of(new)
        key = old_key = codec.rows.key(old_clustering)
        if clustering != old_clustering:
            key = codec.rows.key(clustering)
        vshard = codec.vshard(key, clustering)
        if key == old_key and not codec.indexes:
            self._transaction.put(key, codec.encode(new), vshard)
            return True
        change = _Change()
        if key != old_key:
            if not self._claim_all(key, old_key):
                return False
            if self.newest_payload(key) is not None:
                raise _primary_violation(codec, clustering)
            change.gone.append((old_key, codec.vshard(old_key, old_clustering)))
        change.come.append((key, codec.encode(new), vshard))
        for index in codec.indexes:
            before = _index_values(index, makers, old)
            after = _index_values(index, makers, new)
            if before == after and key == old_key:
                continue
            if not self._change_entry(codec, index, before, after, (old, new), change):
                return False
        self._carry_out(change)
        return True

    def _change_entry(
        self,
        codec: TableCodec,
        index: IndexCodec,
        before: Values | None,
        after: Values | None,
        rows: tuple[Row, Row],
        change: _Change,
    ) -> bool:
        """Note how one index changes with a row; False when a key is locked by somebody else."""
        old_clustering, clustering = codec.clustering_of(rows[0]), codec.clustering_of(rows[1])
        old_locked: bytes | None = None
        if before is not None:
            entry, exclusive = index.entry_key(before, old_clustering)
            old_locked = _locked_key(index, before, entry, exclusive=exclusive)
            if old_locked is not None and not self._claim_all(old_locked):
                return False
            change.gone.append((entry, codec.entry_vshard(old_locked, old_clustering)))
        if after is not None:
            entry, exclusive = index.entry_key(after, clustering)
            locked = _locked_key(index, after, entry, exclusive=exclusive)
            if locked is not None and locked != old_locked:
                if not self._claim_all(locked):
                    return False
                if not exclusive:
                    self._check_later(codec, index, after, locked)
                elif self.newest_payload(entry) is not None:
                    raise _entry_violation(codec, index, after)
            pointer = codec.encode_clustering(clustering)
            change.come.append((entry, pointer, codec.entry_vshard(locked, clustering)))
        return True

    def _claim_all(self, *keys: bytes) -> bool:
        for key in keys:
            if not self._manager.locks.claim(self._transaction, key):
                self._contended = key
                return False
        return True

    def _carry_out(self, change: _Change) -> None:
        """Write what goes, then what comes."""
        put = self._transaction.put
        for key, vshard in change.gone:
            put(key, b"", vshard)
        for key, payload, vshard in change.come:
            put(key, payload, vshard)

    async def delete(self, access: TableAccess, rows: Sequence[Row]) -> None:
        """Delete locked rows and their index entries."""
        codec = codec_of(access.table)
        makers = dict(access.makers) if access.makers else _NO_MAKERS
        for row in rows:
            while not self._delete_now(codec, makers, row):
                await self._wait_for_contended()

    def _delete_now(self, codec: TableCodec, makers: dict[int, Any], row: Row) -> bool:
        """Delete a row; False when a key is locked by somebody else, and nothing was written."""
        clustering = codec.clustering_of(row)
        key = codec.rows.key(clustering)
        if not self._claim_all(key):
            return False
        change = _Change()
        for index in codec.indexes:
            values = _index_values(index, makers, row)
            if values is not None and not self._change_entry(
                codec, index, values, None, (row, row), change
            ):
                return False
        change.gone.append((key, codec.vshard(key, clustering)))
        self._carry_out(change)
        return True


class _Change:
    """What one row's change does to keys: those that go, then those that come."""

    __slots__ = ("come", "gone")

    def __init__(self) -> None:
        self.gone: list[tuple[bytes, int]] = []
        self.come: list[tuple[bytes, bytes, int]] = []


def _absent(key: bytes) -> None:
    """Stand in for a lookup that is known to find nothing."""
    del key


def _not_serializable(payload: bytes | None) -> SerializationFailure:
    what = "delete" if payload is None else "update"
    return SerializationFailure(f"could not serialize access due to concurrent {what}")


def _index_values(index: IndexCodec, makers: dict[int, Any], row: Row) -> Values | None:
    """Return the index's key values for a row, None when a partial index leaves it out."""
    if index.columns is not None:
        return index.columns(row)
    values: Values | None = makers[index.index_id](row)
    return values


def _locked_key(
    index: IndexCodec, values: Values, entry_key: bytes, *, exclusive: bool
) -> bytes | None:
    """Return the key to lock for writing an index entry, None when its row's lock is enough."""
    if exclusive:
        return entry_key
    return index.shared_key(values) if index.is_deferrable else None


def _primary_violation(codec: TableCodec, clustering: Values) -> UniqueViolation:
    table = codec.table
    names = [table.columns[position].name for position in table.clustering_key]
    return _unique_violation(table, table.primary_name, names, clustering, None)


def _entry_violation(codec: TableCodec, index: IndexCodec, values: Values) -> UniqueViolation:
    return _unique_violation(codec.table, index.index.name, _key_names(codec, index), values, index)


def _key_names(codec: TableCodec, index: IndexCodec) -> list[str]:
    from sql.ast.deparse import deparse_expression  # noqa: PLC0415  only for messages

    return [
        codec.table.columns[key.position].name
        if key.position >= 0
        else deparse_expression(key.expression)  # type: ignore[arg-type]  # set for expressions
        for key in index.index.keys
    ]


def _unique_violation(
    table: Table,
    constraint: str,
    names: Sequence[str],
    values: Sequence[Datum],
    index: IndexCodec | None,
) -> UniqueViolation:
    positions = (
        table.clustering_key if index is None else [key.position for key in index.index.keys]
    )
    texts = []
    for offset, value in enumerate(values):
        position = positions[offset]
        if value is None:
            texts.append("null")
        elif position >= 0:
            texts.append(text_output(table.columns[position].type, _PLAIN_FORMAT)(value))
        else:
            texts.append(str(value))
    return UniqueViolation(
        f'duplicate key value violates unique constraint "{constraint}"',
        detail=f"Key ({', '.join(names)})=({', '.join(texts)}) already exists.",
        table=table.name,
        constraint=constraint,
    )
