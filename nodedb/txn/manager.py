"""Begins, commits and ends the transactions of one node's data group.

COMMIT takes a timestamp, makes one log entry of the write buffer, and lets go of the locks when the
entry is applied. With catalog changes there are two entries, rows and metadata, proposed in the
same turn: one flush is one batch of the log, so a crash keeps both or neither. The timestamp's
window, when it needs raising, stands before them in the same batch.

Not done here, and what that costs: validation of reads for SERIALIZABLE, and prepare over several
groups.
"""

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, Final

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import CatalogChange, TimestampWindow, encode_command
from cluster.metadata.oracle import TimestampOracle
from nodedb.clock import Clock
from nodedb.kv.effects import (
    ClearStorage,
    CollectGarbage,
    LongWrites,
    RowWrites,
    encode_effects,
    encode_long,
    encode_slice,
)
from nodedb.kv.group import APPLY_SLICE_ROWS, DataGroup
from nodedb.kv.keys import TIMESTAMP_MAX
from nodedb.kv.locks import LockTable
from nodedb.kv.replicator import Replicator, Schedule
from nodedb.txn.deferred import check_keys, defer_keys
from nodedb.txn.store import StatementStore
from nodedb.txn.transaction import Mark, Transaction
from nodedb.waiter import Interrupts, Waiter
from sql.catalog.descriptor import Table
from sql.errors import LockNotAvailable

TRANSACTION_BYTES_MAX_DEFAULT: Final = 1 << 30
_COMMAND_STEP: Final = 1
SNAPSHOT_AGE_MAX_SECONDS: Final = 3600.0
"""How long a transaction keeps the versions that it may still read from being collected."""
LONG_ROWS: Final = 4 * APPLY_SLICE_ROWS
"""A transaction of more writes is encoded and applied in slices."""
REMOVED_BYTES: Final = 100
"""What removing a version costs the engine's open transaction, roughly."""

# What the planner assumes of a table that was never analyzed.
ROWS_UNKNOWN: Final = 1000


class TransactionManager:
    """The transactions of one node."""

    def __init__(
        self,
        *,
        group: DataGroup,
        replicator: Replicator,
        oracle: TimestampOracle,
        clock: Clock,
        schedule: Schedule,
        bytes_max: int = TRANSACTION_BYTES_MAX_DEFAULT,
    ) -> None:
        self.group = group
        self.locks = LockTable()
        self.replicator = replicator
        self._oracle = oracle
        self._clock = clock
        self._schedule = schedule
        self._bytes_max = bytes_max
        self._next_id = 1
        self._active: dict[int, Transaction] = {}
        self.commit_count = 0
        self.rollback_count = 0

    def begin(self, process_id: int, interrupts: Interrupts) -> Transaction:
        """Start a transaction; nothing is written until it commits."""
        began = self._clock.monotonic()
        transaction = Transaction(self._next_id, process_id, interrupts, self._bytes_max, began)
        self._active[self._next_id] = transaction
        self._next_id += 1
        return transaction

    def statement_store(self, transaction: Transaction) -> StatementStore:
        """Return the rows as a statement beginning now sees them.

        Of a snapshot transaction, as its first one did.
        """
        timestamp = self.group.last_timestamp
        if not transaction.snapshot:
            transaction.snapshot = timestamp
        elif transaction.is_snapshot:
            timestamp = transaction.snapshot
        return StatementStore(self, transaction, timestamp, transaction.command)

    def end_statement(self, transaction: Transaction) -> None:
        """Let the next statement see what this one wrote.

        UniqueViolation (23505) of deferrable constraints that are not deferred.
        """
        if transaction.unchecked:
            defer_keys(transaction)
            self.check_keys(transaction, list(transaction.unchecked))
        transaction.command += _COMMAND_STEP

    def check_keys(self, transaction: Transaction, keys: Iterable[bytes]) -> None:
        """Check keys of deferrable constraints that wait; UniqueViolation (23505)."""
        check_keys(self.group, transaction, keys)

    def rollback_to(self, transaction: Transaction, mark: Mark, *, release_locks: bool) -> None:
        """Undo the writes since a mark; for a savepoint, the locks taken since go too."""
        transaction.undo_to(mark)
        if release_locks:
            self.locks.release_since(transaction, mark.locks)

    async def commit(self, transaction: Transaction, catalog_change: bytes | None = None) -> int:
        """Make the transaction durable and visible, then release its locks.

        Returns the metadata index of the catalog change, 0 without one. ``catalog_change`` must
        have been checked against the newest catalog in this very turn. DiskFull (53100) means
        surely not committed.
        """
        transaction.is_active = False
        waiters: list[Waiter[int]] = []
        try:
            if not (
                transaction.writes
                or transaction.encoded
                or catalog_change is not None
                or transaction.cleared
            ):
                return 0
            waiters = self._propose(transaction, catalog_change)
            index = 0
            for waiter in waiters:
                index = await waiter
            self.commit_count += 1
            return index if catalog_change is not None else 0
        finally:
            # A coroutine that is torn down amid the flush must not free rows that are still coming.
            if all(waiter.done for waiter in waiters):
                self._end(transaction)

    async def prepare_commit(self, transaction: Transaction) -> None:
        """Encode the writes of a long transaction for the log, a slice in each turn of the loop.

        The buffer is used up by it: after this the transaction can only commit or roll back.
        Without it ``commit`` does all in one turn.
        """
        if len(transaction.writes) <= LONG_ROWS:
            return
        transaction.forget_undo()
        keys = list(transaction.writes)
        keys.reverse()
        take = transaction.writes.pop
        while keys:
            part = keys[: -APPLY_SLICE_ROWS - 1 : -1]
            del keys[-APPLY_SLICE_ROWS:]
            writes = []
            for key in part:
                _, payload, vshard, _ = take(key)
                writes.append((vshard, key, payload))
            transaction.encoded.append(encode_slice(writes))
            transaction.encoded_counts.append(len(writes))
            waiter: Waiter[None] = Waiter()
            self._schedule.soon(partial(_wake, waiter))
            await waiter

    def commit_rows(self, transaction: Transaction) -> Waiter[int] | None:
        """Begin to commit a short transaction of nothing but rows, for callers without coroutine.

        None when it has written none, and is over. Otherwise ``end_commit`` follows once the waiter
        is done.
        """
        transaction.is_active = False
        if not transaction.writes:
            self._end(transaction)
            return None
        try:
            payload, effects = self._rows_entry(transaction)
            return self.replicator.propose(self.group.group_id, payload, effects)
        except BaseException:
            self._end(transaction)
            raise

    def end_commit(self, transaction: Transaction, *, is_committed: bool) -> None:
        """Release a transaction's locks after its commit was decided, either way."""
        if is_committed:
            self.commit_count += 1
        self._end(transaction)

    def _end(self, transaction: Transaction) -> None:
        self._active.pop(transaction.id, None)
        transaction.forget_writes()
        self.locks.release_all(transaction)

    def _propose(self, transaction: Transaction, catalog_change: bytes | None) -> list[Waiter[int]]:
        """Propose all of a transaction's entries, or, when one of them is refused, none."""
        entries: list[tuple[int, bytes, Any]] = []
        group_id = self.group.group_id
        if transaction.encoded:
            entries.append((group_id, *self._long_entry(transaction)))
        elif transaction.writes:
            entries.append((group_id, *self._rows_entry(transaction)))
        if transaction.cleared:
            clear = ClearStorage(tuple(transaction.cleared))
            entries.append((group_id, encode_effects(clear), clear))
        if catalog_change is not None:
            command = CatalogChange(catalog_change)
            entries.append((METADATA_GROUP, encode_command(command), command))
        for _, payload, _ in entries:
            self.replicator.check_size(payload)
        return [self.replicator.propose(*entry) for entry in entries]

    def _long_entry(self, transaction: Transaction) -> tuple[bytes, LongWrites]:
        """Return the entry of what ``prepare_commit`` has encoded, for the log and to apply."""
        timestamp = self.allocate_timestamp()
        parts = transaction.encoded
        payload = encode_long(timestamp, transaction.id, transaction.encoded_counts, parts)
        return payload, LongWrites(timestamp, parts)

    def _rows_entry(self, transaction: Transaction) -> tuple[bytes, RowWrites]:
        writes = [
            (vshard, key, payload) for key, (_, payload, vshard, _) in transaction.writes.items()
        ]
        effects = RowWrites(self.allocate_timestamp(), transaction.id, writes)
        return encode_effects(effects), effects

    def rollback(self, transaction: Transaction) -> None:
        """Forget the transaction's writes and release its locks. Idempotent."""
        if transaction.is_active:
            self.rollback_count += 1
        transaction.is_active = False
        self.locks.forget(transaction)
        self._end(transaction)

    def allocate_timestamp(self, count: int = 1) -> int:
        """Return the first of ``count`` fresh timestamps in a row.

        Above all earlier ones of this store.

        A raised window is proposed first: whatever uses the timestamp is flushed with it or later,
        or refused with it.
        """
        oracle = self._oracle
        timestamp, reserve_until = oracle.allocate(self._clock.wall_us() // 1000, count)
        if reserve_until is not None:
            window = TimestampWindow(reserve_until)
            waiter = self.replicator.propose(METADATA_GROUP, encode_command(window), window)
            waiter.on_done(
                lambda: oracle.window_decided(reserve_until, is_durable=waiter.error is None)
            )
        return timestamp

    def take_rowids(self, count: int) -> int:
        """Return the first of ``count`` row ids in a row: they grow in the order of insertion."""
        return self.allocate_timestamp(count)

    async def wait_for_lock(self, transaction: Transaction, resource: Hashable, mode: int) -> None:
        """Queue for a lock and wait until it is granted.

        Raises what cancels the statement, DeadlockDetected (40P01), LockNotAvailable (55P03).
        """
        waiter = self.locks.enqueue(transaction, resource, mode)
        timer = None
        if transaction.lock_timeout_ms:
            timer = self._schedule.later(
                transaction.lock_timeout_ms / 1000,
                _failing(waiter, "canceling statement due to lock timeout"),
            )
        try:
            await transaction.interrupts.wait(waiter)
        except BaseException:
            self.locks.forget(transaction)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def approximate_rows(self, table: Table) -> int:
        """Return what ANALYZE found, ``ROWS_UNKNOWN`` before it ran."""
        if table.statistics is not None:
            return table.statistics.rows
        return ROWS_UNKNOWN

    def raise_watermark(self, watermark: int) -> Waiter[int]:
        """Propose a new garbage collection watermark for the group.

        Held back by running transactions' snapshots.
        """
        watermark = min(watermark, self._oldest_snapshot())
        if watermark <= self.group.watermark:
            done: Waiter[int] = Waiter()
            done.set_result(0)
            return done
        effects = CollectGarbage(watermark)
        return self.replicator.propose(self.group.group_id, encode_effects(effects), effects)

    def collect(self, position: bytes, limit: int) -> tuple[bytes | None, int]:
        """Collect garbage as ``DataGroup.collect``.

        Sees to it that the engine commits what was removed.
        """
        following, removed = self.group.collect(position, limit)
        if removed:
            self.replicator.note_local_change(removed * REMOVED_BYTES)
        return following, removed

    def _oldest_snapshot(self) -> int:
        """Return the oldest timestamp that a running transaction may read at and still protects."""
        earliest = self._clock.monotonic() - SNAPSHOT_AGE_MAX_SECONDS
        snapshots = [
            t.snapshot for t in self._active.values() if t.snapshot and t.began >= earliest
        ]
        return min(snapshots, default=TIMESTAMP_MAX)


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)


def _failing(waiter: Waiter[None], message: str) -> Callable[[], None]:
    def fail() -> None:
        waiter.set_error(LockNotAvailable(message))

    return fail
