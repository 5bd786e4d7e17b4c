"""The executor's view of rows: one statement of one transaction, over buffer, locks and versions.

Implements ``sql.executor.store.Store``. A read merges the transaction's earlier writes over the group's state at the
statement's timestamp. A write locks its keys first, then checks the newest state under those locks, then buffers.

READ COMMITTED as PostgreSQL has it: a row changed since the statement's snapshot is handed back in its newest version for the
executor to check again; unique checks always look at the newest state, because the lock on the key
(present or absent) makes that state final for us.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Final

from nodedb.kv.keys import vshard_of
from nodedb.kv.locks import ROW_KEY_SHARE, ROW_NO_KEY_UPDATE, ROW_SHARE_LOCK, ROW_UPDATE
from nodedb.txn.scan import BufferedScan, IndexScan, RowScan
from nodedb.txn.table_codec import IndexCodec, TableCodec, Values, codec_of
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Table
from sql.errors import LockNotAvailable, UniqueViolation
from sql.executor.store import (
    Cursor,
    KeySpan,
    LockedRow,
    LockStrength,
    Store,
    TableAccess,
    WaitPolicy,
)
from sql.types.base import Datum, Row
from sql.types.io import FormatContext, text_output

if TYPE_CHECKING:
    from nodedb.txn.manager import TransactionManager
    from nodedb.txn.transaction import Transaction

STRENGTHS: Final[dict[str, int]] = {
    "key share": ROW_KEY_SHARE,
    "share": ROW_SHARE_LOCK,
    "no key update": ROW_NO_KEY_UPDATE,
    "update": ROW_UPDATE,
}
COMMAND_MAX: Final = 1 << 62
_PLAIN_FORMAT: Final = FormatContext()


class StatementStore:
    """Rows as one statement sees them: committed at or below ``timestamp``, or written by earlier commands."""

    __slots__ = ("_group", "_manager", "_transaction", "before_command", "timestamp")

    def __init__(
        self, manager: TransactionManager, transaction: Transaction, timestamp: int, before_command: int
    ) -> None:
        self._manager = manager
        self._group = manager.group
        self._transaction = transaction
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
                return write.payload or None
        return self._group.read(key, self.timestamp)

    def newest_payload(self, key: bytes) -> bytes | None:
        """Return what a key holds now: this transaction's last write, else the newest committed version."""
        write = self._transaction.writes.get(key)
        if write is not None:
            return write.payload or None
        return self._group.newest(key)

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
    ) -> Cursor:
        """Scan the clustered rows in key order."""
        codec = codec_of(table)
        ranges = [codec.rows.whole()] if spans is None else [codec.rows.range_of(s) for s in spans]
        return RowScan(self._buffered(ranges, reverse=reverse, limit=limit), codec)

    def scan_index(
        self,
        access: TableAccess,
        index_id: int,
        spans: Sequence[KeySpan] | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Cursor:
        """Scan a secondary index in its order; yields whole rows."""
        codec = codec_of(access.table)
        space = codec.index_by_id[index_id].entries
        ranges = [space.whole()] if spans is None else [space.range_of(span) for span in spans]
        return IndexScan(self._buffered(ranges, reverse=reverse, limit=limit), codec, self.read_payload)

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
            if write.command >= self.before_command:
                return LockedRow(codec.decode(write.payload) if write.payload else None, changed=True)
            return LockedRow(row, changed=False)
        timestamp, payload = self._group.newest_version(key)
        if timestamp <= self.timestamp:
            return LockedRow(row if payload is not None else None, changed=payload is None)
        return LockedRow(None if payload is None else codec.decode(payload), changed=True)

    # Writing

    async def insert(self, access: TableAccess, rows: Sequence[Row]) -> None:
        """Insert rows with their index entries; UniqueViolation (23505) on a key that exists."""
        codec = codec_of(access.table)
        makers = dict(access.makers)
        for row in rows:
            await self._insert_row(codec, makers, self._with_rowid(codec, row))

    def _with_rowid(self, codec: TableCodec, row: Row) -> Row:
        position = codec.rowid_position
        if position < 0 or row[position] is not None:
            return row
        return (*row[:position], self._manager.next_rowid(), *row[position + 1 :])

    async def _insert_row(self, codec: TableCodec, makers: dict[int, object], row: Row) -> None:
        clustering = codec.clustering_of(row)
        key = codec.rows.key(clustering)
        await self._acquire(key, ROW_UPDATE)
        if self.newest_payload(key) is not None:
            raise self._primary_violation(codec, clustering)
        vshard = codec.vshard(key, clustering)
        entries = [
            await self._claim_entry(codec, index, values, clustering, vshard)
            for index in codec.indexes
            if (values := _index_values(index, makers, row)) is not None
        ]
        put = self._transaction.put
        put(key, codec.encode(row), vshard)
        if entries:
            payload = codec.encode_clustering(clustering)
            for entry_key, entry_vshard in entries:
                put(entry_key, payload, entry_vshard)

    async def add_index_entries(
        self, access: TableAccess, index_id: int, rows: Sequence[Row]
    ) -> None:
        """Write one index's entries of existing rows; UniqueViolation (23505) when two have the same key."""
        codec = codec_of(access.table)
        index = codec.index_by_id[index_id]
        makers = dict(access.makers)
        for row in rows:
            values = _index_values(index, makers, row)
            if values is None:
                continue
            clustering = codec.clustering_of(row)
            vshard = codec.vshard(codec.rows.key(clustering), clustering)
            key, entry_vshard = await self._claim_entry(codec, index, values, clustering, vshard)
            self._transaction.put(key, codec.encode_clustering(clustering), entry_vshard)

    async def _claim_entry(
        self, codec: TableCodec, index: IndexCodec, values: Values, clustering: Values, vshard: int
    ) -> tuple[bytes, int]:
        """Return an index entry's key and vshard, locked and found absent if it must be unique."""
        key, exclusive = index.entry_key(values, clustering)
        if not exclusive:
            return key, vshard
        await self._acquire(key, ROW_UPDATE)
        if self.newest_payload(key) is not None:
            raise _unique_violation(codec.table, index.index.name, _key_names(codec, index), values, index)
        return key, vshard_of(key[6:])

    async def insert_or_conflict(
        self, access: TableAccess, row: Row, arbiters: tuple[int, ...]
    ) -> Row | None:
        """Insert one row, or return the row it conflicts with, locked."""
        codec = codec_of(access.table)
        makers = dict(access.makers)
        row = self._with_rowid(codec, row)
        clustering = codec.clustering_of(row)
        key = codec.rows.key(clustering)
        if not arbiters or PRIMARY_INDEX_ID in arbiters:
            await self._acquire(key, ROW_UPDATE)
            payload = self.newest_payload(key)
            if payload is not None:
                return codec.decode(payload)
        for index in codec.indexes:
            if not index.is_unique or (arbiters and index.index_id not in arbiters):
                continue
            values = _index_values(index, makers, row)
            if values is None:
                continue
            entry_key, exclusive = index.entry_key(values, clustering)
            if not exclusive:
                continue
            found = await self._locked_holder(codec, entry_key)
            if found is not None:
                return found
        await self._insert_row(codec, makers, row)
        return None

    async def _locked_holder(self, codec: TableCodec, entry_key: bytes) -> Row | None:
        """Lock a unique entry, then the row it points to; None when there is none."""
        await self._acquire(entry_key, ROW_UPDATE)
        while (pointer := self.newest_payload(entry_key)) is not None:
            row_key = codec.rows.key(codec.decode_clustering(pointer))
            await self._acquire(row_key, ROW_UPDATE)
            payload = self.newest_payload(row_key)
            if payload is not None and self.newest_payload(entry_key) == pointer:
                return codec.decode(payload)
        return None

    def written_by_command(self, table: Table, row: Row) -> bool:
        """Tell whether this command has written the row with this clustering key."""
        write = self._transaction.writes.get(codec_of(table).key_of(row))
        return write is not None and write.command == self._transaction.command

    async def update(
        self, access: TableAccess, old_rows: Sequence[Row], new_rows: Sequence[Row]
    ) -> None:
        """Replace locked rows, one after the other."""
        codec = codec_of(access.table)
        makers = dict(access.makers)
        for old, new in zip(old_rows, new_rows, strict=True):
            await self._update_row(codec, makers, old, new)

    async def _update_row(
        self, codec: TableCodec, makers: dict[int, object], old: Row, new: Row
    ) -> None:
        old_clustering = codec.clustering_of(old)
        clustering = codec.clustering_of(new)
        old_key = codec.rows.key(old_clustering)
        key = codec.rows.key(clustering)
        put = self._transaction.put
        moved = key != old_key
        if moved:
            await self._acquire(key, ROW_UPDATE)
            await self._acquire(old_key, ROW_UPDATE)
            if self.newest_payload(key) is not None:
                raise self._primary_violation(codec, clustering)
        vshard = codec.vshard(key, clustering)
        old_vshard = codec.vshard(old_key, old_clustering) if moved else vshard
        for index in codec.indexes:
            before = _index_values(index, makers, old)
            after = _index_values(index, makers, new)
            if before == after and not moved:
                continue
            if before is not None:
                old_entry, exclusive = index.entry_key(before, old_clustering)
                if exclusive:
                    await self._acquire(old_entry, ROW_UPDATE)
                put(old_entry, b"", vshard_of(old_entry[6:]) if exclusive else old_vshard)
            if after is not None:
                entry_key, entry_vshard = await self._claim_entry(
                    codec, index, after, clustering, vshard
                )
                put(entry_key, codec.encode_clustering(clustering), entry_vshard)
        if moved:
            put(old_key, b"", old_vshard)
        put(key, codec.encode(new), vshard)

    async def delete(self, access: TableAccess, rows: Sequence[Row]) -> None:
        """Delete locked rows and their index entries."""
        codec = codec_of(access.table)
        makers = dict(access.makers)
        put = self._transaction.put
        for row in rows:
            clustering = codec.clustering_of(row)
            key = codec.rows.key(clustering)
            await self._acquire(key, ROW_UPDATE)
            vshard = codec.vshard(key, clustering)
            for index in codec.indexes:
                values = _index_values(index, makers, row)
                if values is None:
                    continue
                entry_key, exclusive = index.entry_key(values, clustering)
                if exclusive:
                    await self._acquire(entry_key, ROW_UPDATE)
                put(entry_key, b"", vshard_of(entry_key[6:]) if exclusive else vshard)
            put(key, b"", vshard)

    def _primary_violation(self, codec: TableCodec, clustering: Values) -> UniqueViolation:
        table = codec.table
        names = [table.columns[position].name for position in table.clustering_key]
        return _unique_violation(table, table.primary_name, names, clustering, None)


def _index_values(index: IndexCodec, makers: dict[int, object], row: Row) -> Values | None:
    """Return the index's key values for a row, None when a partial index leaves it out."""
    if index.columns is not None:
        return index.columns(row)
    make = makers[index.index_id]
    return make(row)  # type: ignore[operator,no-any-return]  # an IndexEntryMaker's function


def _key_names(codec: TableCodec, index: IndexCodec) -> list[str]:
    from sql.ast.deparse import deparse_expression  # noqa: PLC0415  only for messages

    return [
        codec.table.columns[key.position].name
        if key.position >= 0
        else deparse_expression(key.expression)  # type: ignore[arg-type]  # set for expressions
        for key in index.index.keys
    ]


def _unique_violation(
    table: Table, constraint: str, names: Sequence[str], values: Sequence[Datum], index: IndexCodec | None
) -> UniqueViolation:
    positions = table.clustering_key if index is None else [key.position for key in index.index.keys]
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
