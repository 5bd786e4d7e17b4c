"""One statement's view of single rows: read as of its snapshot, locked, looked at again.

The locking half of ``nodedb.txn.store.StatementStore``. Guarantees: after ``lock`` a row is as it
is now and stays so until the transaction ends, or it is said to be gone; a transaction with one
snapshot for all its statements locks no row that it does not see (40001). Insertions learn here
whether a key that is in use is worth waiting for.

Sources: PostgreSQL docs, "Read Committed Isolation Level", "Repeatable Read Isolation Level",
"Row-Level Locks".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.kv.locks import ROW_KEY_SHARE, ROW_NO_KEY_UPDATE, ROW_SHARE_LOCK, ROW_UPDATE
from nodedb.txn.table_codec import TableCodec, codec_of
from nodedb.txn.transaction import COMMAND, PAYLOAD, Transaction
from sql.catalog.keys import key_positions
from sql.errors import LockNotAvailable, SerializationFailure
from sql.executor.store import LockedRow, LockStrength, WaitPolicy

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from nodedb.kv.locks import LockOwner
    from nodedb.kv.recent_writes import ReadSet
    from nodedb.txn.manager import TransactionManager
    from sql.catalog.descriptor import Table
    from sql.types.base import Row

STRENGTHS: Final[dict[str, int]] = {
    "key share": ROW_KEY_SHARE,
    "share": ROW_SHARE_LOCK,
    "no key update": ROW_NO_KEY_UPDATE,
    "update": ROW_UPDATE,
}


class RowLocks:
    """Rows as one statement sees them, and as they are under its locks."""

    __slots__ = (
        "_contended",
        "_contended_mode",
        "_group",
        "_manager",
        "_reads",
        "_transaction",
        "before_command",
        "timestamp",
    )

    def __init__(
        self,
        manager: TransactionManager,
        transaction: Transaction,
        timestamp: int,
        before_command: int,
        reads: ReadSet | None = None,
    ) -> None:
        """Look at the rows as of ``timestamp``; ``reads`` takes down what is read."""
        self._manager = manager
        self._group = manager.group
        self._transaction = transaction
        self._contended = b""
        self._contended_mode = ROW_UPDATE
        self._reads = reads
        self.timestamp = timestamp
        self.before_command = before_command

    def read_payload(self, key: bytes) -> bytes | None:
        """Return what a key holds for this statement."""
        if self._transaction.writes:
            write = self._transaction.visible(key, self.before_command)
            if write is not None:
                return write[PAYLOAD] or None
        if self._reads is not None:
            self._reads.add_key(key)
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
            if timestamp > self.timestamp and self._manager.checks.first_committer_wins:
                raise _not_serializable("delete" if payload is None else "update")

    async def _acquire(self, resource: Hashable, mode: int) -> None:
        """Take a lock, waiting for it if need be."""
        if not self._manager.locks.try_acquire(self._transaction, resource, mode):
            await self._manager.wait_for_lock(self._transaction, resource, mode)

    async def lock(
        self,
        table: Table,
        rows: Sequence[Row],
        strength: LockStrength,
        wait: WaitPolicy,
        purpose: str = "locking",
    ) -> list[LockedRow]:
        """Lock rows by their clustering key and tell which changed since they were read."""
        codec = codec_of(table)
        mode = STRENGTHS[strength]
        try_acquire = self._manager.locks.try_acquire
        locked: list[LockedRow] = []
        moves = self._manager.moves
        for row in rows:
            key = codec.key_of(row)
            if not try_acquire(self._transaction, key, mode) and not await self._wait_for_row(
                table, key, mode, wait, purpose
            ):
                locked.append(LockedRow(None, changed=True))
            elif moves and self.where_now(key, purpose) != key:
                locked.append(await self._lock_moved(table, key, mode, wait, purpose))
            else:
                locked.append(self._relook(codec, key, row, mode, purpose))
        return locked

    async def _wait_for_row(
        self, table: Table, key: bytes, mode: int, wait: WaitPolicy, purpose: str
    ) -> bool:
        """Wait for a lock that somebody has; False when it is to be skipped.

        Raises LockNotAvailable (55P03) when it is not to be waited for.
        """
        if wait == "skip":
            return False
        if wait == "nowait":
            raise LockNotAvailable(f'could not obtain lock on row in relation "{table.name}"')
        await self._manager.wait_for_lock(self._transaction, key, mode, purpose)
        return True

    def where_now(self, key: bytes, purpose: str) -> bytes | None:
        """Return the key that a row read under this one has now; None: it was deleted.

        Raises SerializationFailure (40001) where a snapshot transaction does not see that.
        """
        if key in self._transaction.writes or not self._manager.checks.looks_again:
            return key
        current = self._manager.moves.follow(key, self.timestamp)
        if (
            current != key
            and self._transaction.is_snapshot
            and self._manager.checks.first_committer_wins
        ):
            is_gone = current is None and purpose != "locking"
            raise _not_serializable("delete" if is_gone else "update")
        return current

    async def _lock_moved(
        self, table: Table, key: bytes, mode: int, wait: WaitPolicy, purpose: str
    ) -> LockedRow:
        """Lock a row whose key was changed since it was read, wherever it is."""
        locks, transaction = self._manager.locks, self._transaction
        gone = LockedRow(None, changed=True)
        current: bytes | None = key
        while (following := self.where_now(key, purpose)) != current:
            current = following
            if current is None:
                return gone
            if not locks.try_acquire(transaction, current, mode) and not await self._wait_for_row(
                table, current, mode, wait, purpose
            ):
                return gone
        assert current is not None
        payload = self.newest_payload(current)
        return gone if payload is None else LockedRow(codec_of(table).decode(payload), changed=True)

    def _relook(
        self, codec: TableCodec, key: bytes, row: Row, mode: int, purpose: str
    ) -> LockedRow:
        """Compare a locked row with what the statement read.

        Raises SerializationFailure (40001) in a snapshot transaction that does not see the row as
        it is now, unless KEY SHARE is wanted and the keys are the same.
        """
        write = self._transaction.writes.get(key)
        if write is not None:
            if write[COMMAND] >= self.before_command:
                own: bytes = write[PAYLOAD]
                return LockedRow(codec.decode(own) if own else None, changed=True)
            return LockedRow(row, changed=False)
        checks = self._manager.checks
        timestamp, payload = self._group.newest_version(key)
        if self._transaction.is_snapshot:
            if timestamp > self.timestamp and checks.first_committer_wins:
                if mode == ROW_KEY_SHARE and _has_same_keys(codec, row, payload):
                    return LockedRow(row, changed=False)
                is_gone = payload is None and purpose != "locking"
                raise _not_serializable("delete" if is_gone else "update")
        elif not checks.looks_again:
            return LockedRow(row, changed=False)
        if timestamp <= self.timestamp:
            return LockedRow(row if payload is not None else None, changed=payload is None)
        return LockedRow(None if payload is None else codec.decode(payload), changed=True)

    # Keys in use

    def _is_settled(self, key: bytes) -> bool:
        """Tell whether a key has a row that nobody is changing: whoever locks it, just locks it.

        Then its being there is final for whoever wants to insert the key, and need not be waited
        for.
        """
        if key in self._transaction.writes or self._group.newest(key) is None:
            return False
        return not any(
            _writes(owner, key) for owner in self._manager.locks.holders(key, ROW_UPDATE)
        )

    async def _lock_holder(
        self, codec: TableCodec, entry_key: bytes, mode: int | None
    ) -> Row | None:
        """Lock the row that a unique entry points to; without one lock the entry: None.

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
            else:
                row_key = codec.rows.key(codec.decode_clustering(pointer))
                found = await self._lock_present(codec, row_key, mode)
                if found is not None and self.newest_payload(entry_key) == pointer:
                    return found
            locks.release_since(transaction, mark)

    async def _lock_present(self, codec: TableCodec, key: bytes, mode: int | None) -> Row | None:
        """Lock a row and return it; without one lock the key for its insertion: None.

        Without ``mode`` the row is not locked, only waited for while somebody changes it.
        """
        locks, transaction = self._manager.locks, self._transaction
        while True:
            is_there = self.newest_payload(key) is not None
            if mode is None and self._is_settled(key):
                break
            mark = len(transaction.held)
            await self._acquire(key, (mode or ROW_SHARE_LOCK) if is_there else ROW_UPDATE)
            if is_there == (self.newest_payload(key) is not None):
                if not is_there:
                    return None
                if mode is None:
                    locks.release_since(transaction, mark)
                break
            # It came or went meanwhile: the other lock is wanted.
            locks.release_since(transaction, mark)
        self.check_serializable(key)
        if mode is None and self._reads is not None:
            self._reads.add_key(key)
        payload = self.newest_payload(key)
        assert payload is not None, "an index entry without its row"
        return codec.decode(payload)


def _not_serializable(what: str) -> SerializationFailure:
    return SerializationFailure(f"could not serialize access due to concurrent {what}")


def _writes(owner: LockOwner, key: bytes) -> bool:
    """Tell whether the holder of a key's lock is about to change what is there."""
    return isinstance(owner, Transaction) and (key in owner.writes or bool(owner.encoded))


def _has_same_keys(codec: TableCodec, row: Row, payload: bytes | None) -> bool:
    """Tell whether a row's newest version has the keys that foreign keys may refer to."""
    if payload is None:
        return False
    newest = codec.decode(payload)
    return all(row[p] == newest[p] for p in key_positions(codec.table))
