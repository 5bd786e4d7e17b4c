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
from nodedb.kv.locks import ACCESS_EXCLUSIVE, ROW_SHARE_LOCK, ROW_UPDATE
from nodedb.txn.deferred import UniqueCheck, count_holders
from nodedb.txn.row_locks import STRENGTHS, RowLocks
from nodedb.txn.scan import BufferedScan, IndexScan, RowScan
from nodedb.txn.table_codec import IndexCodec, TableCodec, Values, codec_of
from nodedb.txn.transaction import COMMAND, COMMAND_MAX, PAYLOAD
from nodedb.txn.violations import entry_violation, primary_violation
from sql.catalog.descriptor import PRIMARY_INDEX_ID, Table
from sql.errors import (
    ObjectNotInPrerequisiteState,
    SerializationFailure,
    SqlError,
    UniqueViolation,
)
from sql.executor.store import Cursor, KeySpan, LockStrength, Store, TableAccess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sql.types.base import Row

_NO_MAKERS: Final[dict[int, Any]] = {}
_SEEK_ROWS: Final = 8
"""From so many rows on, one look whether the range of their keys is empty pays off."""


class StatementStore(RowLocks):
    """Rows as one statement sees them.

    Committed at or below ``timestamp``, or written by earlier commands.
    """

    __slots__ = ()

    def newest(self) -> StatementStore:
        """Return a view of the newest rows, whatever the transaction's snapshot; not validated.

        For schema changes, which hold the table's lock.
        """
        timestamp = self._group.last_timestamp
        return StatementStore(self._manager, self._transaction, timestamp, self.before_command)

    def current(self) -> Store:
        """Return a view of the newest state, this statement's writes included.

        What is read there is not validated: whoever looks, a foreign key's check, holds locks that
        keep the answer true until the transaction ends.
        """
        return StatementStore(
            self._manager, self._transaction, self._group.last_timestamp, COMMAND_MAX
        )

    def parents(self) -> Store:
        """Return a view for finding the parents of this statement's rows.

        As ``current``, but no newer than a snapshot transaction's snapshot: as in PostgreSQL a row
        cannot refer to one that its transaction does not see.
        """
        if not self._transaction.is_snapshot:
            return self.current()
        return StatementStore(self._manager, self._transaction, self.timestamp, COMMAND_MAX)

    # Reading

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
            reads=self._reads,
        )

    async def row_count(self, table: Table) -> int:
        """Return the approximate number of rows."""
        return self._manager.approximate_rows(table)

    # Writing

    async def insert(self, access: TableAccess, rows: Sequence[Row]) -> None:
        """Insert rows with their index entries; UniqueViolation (23505) on a key that exists.

        Waits only where a key is locked by somebody else; all rows up to there go in without a
        pause.
        """
        codec = codec_of(access.table)
        makers = dict(access.makers) if access.makers else _NO_MAKERS
        if rows and codec.rowid_position >= 0:
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
            if not codec.filled_indexes:
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
        await self._acquire(self._contended, self._contended_mode)

    def _contend(self, key: bytes, mode: int = ROW_UPDATE) -> None:
        """Note what stops a write: a key that is locked by somebody else."""
        self._contended, self._contended_mode = key, mode

    def _is_row_settled(self, codec: TableCodec, entry_key: bytes) -> bool:
        """Tell the same of the row that a unique entry points to; else note that it is contended.

        Somebody who changes its other columns may still go on to delete it.
        """
        if entry_key in self._transaction.writes:
            return True
        pointer = self._group.newest(entry_key)
        assert pointer is not None
        row_key = codec.rows.key(codec.decode_clustering(pointer))
        if row_key in self._transaction.writes or self._is_settled(row_key):
            return True
        self._contend(row_key, ROW_SHARE_LOCK)
        return False

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
        indexes, command = codec.filled_indexes, transaction.command
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
                    if self._is_settled(key):
                        raise self._taken(key, primary_violation(codec, clustering_of(row)))
                    self._contend(key)
                    return at
                write = writes.get(key)
                if write is not None:
                    is_taken = bool(write[PAYLOAD])
                else:
                    stored = get(key)
                    is_taken = stored is not None and len(stored) > HEADER_BYTES
                if is_taken:
                    raise self._taken(key, primary_violation(codec, clustering_of(row)))
                if indexes and not self._enter(codec, makers, row, key):
                    return at
                if write is not None:
                    transaction.note_move(len(undo), key, None)
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

    def _taken(self, key: bytes, violation: UniqueViolation) -> SqlError:
        """Return what to raise for a unique key that somebody has.

        A serializable transaction that found the key free before is refused as such (40001): it
        would not have met the row in a serial order. Otherwise it now knows that the key is taken,
        which is validated like all it knows.
        """
        reads = self._transaction.reads
        if reads is None:
            return violation
        if (
            key not in self._transaction.writes
            and (key in reads.keys or reads.covers(key))
            and self._group.newest_version(key)[0] > self._transaction.snapshot
        ):
            return reads_have_changed()
        reads.add_key(key)
        return violation

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
        for index in codec.filled_indexes:
            values = index_values(index, makers, row)
            if values is None:
                continue
            entry_key, exclusive = index.entry_key(values, clustering)
            if exclusive:
                if not self._claim_all(entry_key) and not self._is_settled(entry_key):
                    return False
                if self.newest_payload(entry_key) is not None:
                    if not self._is_row_settled(codec, entry_key):
                        return False
                    raise self._taken(entry_key, entry_violation(codec, index, values))
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
                codec.table.id, index.index, lambda: entry_violation(codec, index, values)
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
            values = index_values(index, makers, row)
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
                raise entry_violation(codec, index, values)
            vshard = codec.entry_vshard(key if exclusive else shared, clustering)
            put(key, codec.encode_clustering(clustering), vshard)

    async def insert_or_conflict(
        self,
        access: TableAccess,
        row: Row,
        arbiters: tuple[int, ...],
        strength: LockStrength | None = "update",
    ) -> Row | None:
        """Insert one row or return the row it conflicts with, locked.

        Without ``strength`` (DO NOTHING) it is not locked, and only waited for while somebody
        changes it.

        An arbiter never raises: its key is either ours, locked and absent, until the row is in, or
        somebody's row.
        """
        mode = None if strength is None else STRENGTHS[strength]
        codec = codec_of(access.table)
        makers = dict(access.makers)
        if codec.rowid_position >= 0:
            (row,) = self._with_rowids(codec, (row,))
        clustering = codec.clustering_of(row)
        if not arbiters or PRIMARY_INDEX_ID in arbiters:
            found = await self._lock_present(codec, codec.rows.key(clustering), mode)
            if found is not None:
                return found
        for index in codec.filled_indexes:
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
            values = index_values(index, makers, row)
            if values is None:
                continue
            entry_key, exclusive = index.entry_key(values, clustering)
            if exclusive:
                found = await self._lock_holder(codec, entry_key, mode)
                if found is not None:
                    return found
        await self.insert(access, (row,))
        return None

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
            if not self._claim_all(key, old_key) and not (
                self._contended == key and self._is_settled(key)
            ):
                return False
            if self.newest_payload(key) is not None:
                raise self._taken(key, primary_violation(codec, clustering))
            change.gone.append((old_key, codec.vshard(old_key, old_clustering)))
        change.come.append((key, codec.encode(new), vshard))
        for index in codec.indexes:
            before = index_values(index, makers, old)
            after = index_values(index, makers, new)
            if before == after and key == old_key:
                continue
            if not self._change_entry(codec, index, before, after, (old, new), change):
                return False
        if key != old_key:
            self._transaction.note_move(len(self._transaction.undo), old_key, key)
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
            if index.is_public or not exclusive or self._may_take(codec, entry, old_clustering):
                change.gone.append((entry, codec.entry_vshard(old_locked, old_clustering)))
        if after is not None and index.is_filled:
            entry, exclusive = index.entry_key(after, clustering)
            locked = _locked_key(index, after, entry, exclusive=exclusive)
            if locked is not None and locked != old_locked:
                if not self._claim_all(locked):
                    return False
                if not exclusive:
                    self._check_later(codec, index, after, locked)
                elif self.newest_payload(entry) is not None:
                    raise self._taken(entry, entry_violation(codec, index, after))
            elif (
                exclusive
                and not index.is_public
                and not self._may_take(codec, entry, old_clustering)
            ):
                raise entry_violation(codec, index, after)
            pointer = codec.encode_clustering(clustering)
            change.come.append((entry, pointer, codec.entry_vshard(locked, clustering)))
        return True

    def _may_take(self, codec: TableCodec, entry: bytes, clustering: Values) -> bool:
        """Tell whether a unique entry is not another row's: then a row may write or remove it.

        Of a public index it cannot be. Of one that is being built it may: the row itself has none
        yet, and another one has come with the same key, which only the build will find out.
        """
        pointer = self.newest_payload(entry)
        return pointer is None or pointer == codec.encode_clustering(clustering)

    def _claim_all(self, *keys: bytes) -> bool:
        for key in keys:
            if not self._manager.locks.claim(self._transaction, key):
                self._contend(key)
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
            values = index_values(index, makers, row)
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


def reads_have_changed() -> SerializationFailure:
    """Return the error of a serializable transaction whose reads do not hold any more."""
    return SerializationFailure(
        "could not serialize access due to read/write dependencies among transactions",
        detail="Reason code: Canceled because what it has read was changed by another transaction.",
        hint="The transaction might succeed if retried.",
    )


def index_values(index: IndexCodec, makers: dict[int, Any], row: Row) -> Values | None:
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
