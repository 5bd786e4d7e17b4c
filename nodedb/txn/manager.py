"""Begins, commits and ends the transactions of one node's data group.

COMMIT takes a timestamp, makes one log entry of the write buffer, and lets go of the locks when the entry is applied. With
catalog changes there are two entries, rows and metadata, proposed in the same turn: one flush is one batch of the
log, so a crash keeps both or neither. The timestamp's window, when it needs raising, stands before them in the same batch.

Not done here, and what that costs: validation of reads for SERIALIZABLE, and prepare over several groups.
"""

from collections.abc import Callable, Hashable
from typing import Final

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import CatalogChange, TimestampWindow, encode_command
from cluster.metadata.oracle import TimestampOracle
from nodedb.clock import Clock
from nodedb.kv.effects import ClearStorage, CollectGarbage, RowWrites, encode_effects
from nodedb.kv.group import DataGroup
from nodedb.kv.locks import LockTable
from nodedb.kv.replicator import Replicator, Schedule
from nodedb.txn.store import StatementStore
from nodedb.txn.transaction import Mark, Transaction
from nodedb.waiter import Interrupts, Waiter
from sql.catalog.descriptor import Table
from sql.errors import LockNotAvailable

TRANSACTION_BYTES_MAX_DEFAULT: Final = 1 << 30
_COMMAND_STEP: Final = 1


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
        self._rows: dict[int, int] = {}
        self.commit_count = 0
        self.rollback_count = 0

    def begin(self, process_id: int, interrupts: Interrupts) -> Transaction:
        """Start a transaction; nothing is written until it commits."""
        transaction = Transaction(self._next_id, process_id, interrupts, self._bytes_max)
        self._next_id += 1
        return transaction

    def statement_store(self, transaction: Transaction) -> StatementStore:
        """Return the rows as a READ COMMITTED statement beginning now sees them."""
        return StatementStore(self, transaction, self.group.last_timestamp, transaction.command)

    def end_statement(self, transaction: Transaction) -> None:
        """Let the next statement see what this one wrote."""
        transaction.command += _COMMAND_STEP

    def rollback_to(self, transaction: Transaction, mark: Mark, *, release_locks: bool) -> None:
        """Undo the writes since a mark; for a savepoint, the locks taken since go too."""
        transaction.undo_to(mark)
        if release_locks:
            self.locks.release_since(transaction, mark.locks)

    async def commit(self, transaction: Transaction, catalog_change: bytes | None = None) -> int:
        """Make the transaction durable and visible, then release its locks.

        Returns the metadata index of the catalog change, 0 without one. ``catalog_change`` must have been checked against the newest
        catalog in this very turn. DiskFull (53100) means surely not committed.
        """
        transaction.is_active = False
        try:
            if not transaction.writes and catalog_change is None and not transaction.cleared:
                return 0
            waiters = self._propose(transaction, catalog_change)
            index = 0
            for waiter in waiters:
                index = await waiter
            self.commit_count += 1
            return index if catalog_change is not None else 0
        finally:
            self.locks.release_all(transaction)

    def _propose(self, transaction: Transaction, catalog_change: bytes | None) -> list[Waiter[int]]:
        waiters: list[Waiter[int]] = []
        group_id = self.group.group_id
        if transaction.writes:
            writes = [(w.vshard, key, w.payload) for key, w in transaction.writes.items()]
            effects = RowWrites(self.allocate_timestamp(), transaction.id, writes)
            waiters.append(self.replicator.propose(group_id, encode_effects(effects), effects))
        if transaction.cleared:
            clear = ClearStorage(tuple(transaction.cleared))
            waiters.append(self.replicator.propose(group_id, encode_effects(clear), clear))
        if catalog_change is not None:
            command = CatalogChange(catalog_change)
            waiters.append(
                self.replicator.propose(METADATA_GROUP, encode_command(command), command)
            )
        return waiters

    def rollback(self, transaction: Transaction) -> None:
        """Forget the transaction's writes and release its locks. Idempotent."""
        if transaction.is_active:
            self.rollback_count += 1
        transaction.is_active = False
        self.locks.forget(transaction)
        self.locks.release_all(transaction)
        transaction.writes.clear()

    def allocate_timestamp(self) -> int:
        """Return a fresh timestamp, above all earlier ones of this store.

        A raised window is proposed first: whatever uses the timestamp is flushed with it or later.
        """
        timestamp, reserve_until = self._oracle.allocate(self._clock.wall_us() // 1000)
        if reserve_until is not None:
            window = TimestampWindow(reserve_until)
            self.replicator.propose(METADATA_GROUP, encode_command(window), window)
        return timestamp

    def next_rowid(self) -> int:
        """Return a row id for a table without primary key: grows in the order of insertion."""
        return self.allocate_timestamp()

    async def wait_for_lock(self, transaction: Transaction, resource: Hashable, mode: int) -> None:
        """Queue for a lock until it is granted, the statement is cancelled, or lock_timeout (55P03)."""
        waiter = self.locks.enqueue(transaction, resource, mode)
        timer = None
        if transaction.lock_timeout_ms:
            timer = self._schedule.later(
                transaction.lock_timeout_ms / 1000, _failing(waiter, "canceling statement due to lock timeout")
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
        """Return the number of rows as last counted, or what ANALYZE found."""
        if table.statistics is not None:
            return table.statistics.rows
        return self._rows.get(table.storage_id, 1000)

    def raise_watermark(self, watermark: int) -> Waiter[int]:
        """Propose a new garbage collection watermark for the group."""
        effects = CollectGarbage(watermark)
        return self.replicator.propose(self.group.group_id, encode_effects(effects), effects)


def _failing(waiter: Waiter[None], message: str) -> Callable[[], None]:
    def fail() -> None:
        waiter.set_error(LockNotAvailable(message))

    return fail
