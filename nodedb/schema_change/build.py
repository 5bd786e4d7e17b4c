"""One index built online: its steps carried out, as short transactions.

``nodedb.schema_change.steps`` decides what to do next from what is there; this does it. The build
holds SHARE UPDATE EXCLUSIVE on the table from its beginning to its end, so the table is not altered
or dropped meanwhile, while rows are read and written. Every step is one entry of the log that the
next start of the node can go on from; the backfill's batches carry their own position.

A build runs for a client's statement, which ``follow``s it and interrupts it when the client loses
patience, or for nobody after a restart. What fails it is undone by the build itself: nobody needs
to be there for that. Only once that failed too (a full disk) is it left to a later attempt.

Not done here, and what that costs: entries are written in the order of the table's rows, not of the
index; a batch reads its rows and makes its entries on one node, one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from nodedb.catalog.changes import Author, CatalogOverlay
from nodedb.catalog.claims import object_resource
from nodedb.kv.locks import SHARE_UPDATE_EXCLUSIVE
from nodedb.schema_change import progress as phases
from nodedb.schema_change.backfill import Batch, fill_batch, is_duplicated
from nodedb.schema_change.lockers import pause_for, wait_for_lockers
from nodedb.schema_change.progress import Progress
from nodedb.schema_change.records import (
    BuildRecord,
    ClearRecord,
    build_key,
    clear_key,
    read_build,
    write_record,
)
from nodedb.schema_change.steps import Observed, Step, next_step
from nodedb.waiter import Interrupts, Waiter
from sql.catalog.descriptor import Index, Schema, Table
from sql.errors import DiskFull, SqlError, UniqueViolation

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from nodedb.catalog.metadata import MetadataState
    from nodedb.kv.locks import LockRequest
    from nodedb.kv.replicator import Schedule
    from nodedb.txn.manager import TransactionManager
    from nodedb.txn.transaction import Transaction
    from sql.catalog.descriptor import IndexState
    from sql.executor.store import TableAccess

BATCH_ROWS: Final = 512
"""Rows of one batch: a few milliseconds, in which they stay locked against change."""


class BuildServices(NamedTuple):
    """What a build needs of its node.

    ``access_of`` compiles a table's index expressions; ``now`` is a SQL timestamp.
    """

    transactions: TransactionManager
    metadata: MetadataState
    schedule: Schedule
    access_of: Callable[[Table], TableAccess]
    now: Callable[[], int]


class Stopped(Exception):
    """The node stops: the build stays as it is, and goes on at the next start."""


class CleanupFailed(Exception):
    """A failed build could not be undone either; it is to be tried again later."""


class BuildLockOwner:
    """Holds the table's lock for a build: longer than any of its transactions."""

    def __init__(self, process_id: int) -> None:
        self.started = 0
        self.is_expendable = True
        self.held: list[Hashable] = []
        self.waiting: LockRequest | None = None
        self.deadlock_name = str(process_id)


class IndexBuild:
    """One build, begun or resumed. ``run`` is its coroutine, run once."""

    def __init__(
        self,
        services: BuildServices,
        index_oid: int,
        record: BuildRecord,
        process_id: int,
        *,
        lock_timeout_ms: int = 0,
        failure: SqlError | None = None,
    ) -> None:
        self.index_oid = index_oid
        self.table_id = record.table_id
        self.record = record
        self.owner = BuildLockOwner(process_id)
        self.interrupts = Interrupts()
        self.failure = failure
        self.progress = Progress(process_id, record.table_id, index_oid, record.command)
        self.progress.row_count = record.row_count
        self._services = services
        self._manager = services.transactions
        self._process_id = process_id
        self._lock_timeout_ms = lock_timeout_ms
        self._has_waited = False
        self.is_unattended = False
        self._access: TableAccess | None = None
        self._followers: list[Waiter[None]] = []

    # For whoever asked for it

    def take_lock(self) -> bool:
        """Lock the table for the whole build; False if it is not free."""
        return self._manager.locks.try_acquire(self.owner, self.table_id, SHARE_UPDATE_EXCLUSIVE)

    def follow(self) -> Waiter[None]:
        """Return what completes when the build has ended, with its error if it failed."""
        waiter: Waiter[None] = Waiter()
        self._followers.append(waiter)
        return waiter

    def interrupt(self, error: BaseException) -> None:
        """End the build at its next safe point with this error."""
        self.interrupts.interrupt(error)

    def finish(self, error: BaseException | None) -> None:
        """Release the table and tell those who follow how it ended."""
        self._manager.locks.forget(self.owner)
        self._manager.locks.release_all(self.owner)
        followers, self._followers = self._followers, []
        for waiter in followers:
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_error(error)

    # The steps

    async def run(self) -> None:
        """Take step after step until nothing is left to do.

        Raises the SqlError that ended the build, once it is undone; CleanupFailed; Stopped.
        """
        self.is_unattended = not self._followers
        while (step := next_step(self._observe())) is not Step.DONE:
            try:
                await self._take(step)
            except SqlError as error:
                self._on_failure(error)
        if self.failure is not None:
            raise self.failure

    def _on_failure(self, error: SqlError) -> None:
        """Remember why the build failed, and go on, uninterrupted, with undoing it.

        Raises CleanupFailed when there is nothing to undo or that is what failed, and, where nobody
        waits for an answer, when the disk is full: then the build itself may go on later.
        """
        has_room_later = isinstance(error, DiskFull) and self.is_unattended
        if self.failure is not None or self._state() == "public" or has_room_later:
            raise CleanupFailed(str(error)) from error
        self.failure = error
        self.interrupts = Interrupts()

    def _observe(self) -> Observed:
        record = read_build(self._manager.group, self.index_oid)
        return Observed(
            state=self._state(),
            is_recorded=record is not None,
            is_filled=record is not None and record.is_filled,
            has_waited=self._has_waited,
            has_failed=self.failure is not None,
            keeps_invalid=self.record.keeps_invalid,
        )

    def _find(self) -> tuple[Table, Index] | None:
        """Return the table and the index as they are now, None if one is gone."""
        table = self._services.metadata.catalog.table(self.table_id)
        if table is None:
            return None
        index = next((i for i in table.indexes if i.id == self.index_oid), None)
        return None if index is None else (table, index)

    def _state(self) -> IndexState | None:
        found = self._find()
        return None if found is None else found[1].state

    async def _take(self, step: Step) -> None:
        match step:
            case Step.WAIT_FOR_WRITERS:
                await self._wait_for_writers()
            case Step.ADVANCE:
                await self._change_state("write_only")
                self._has_waited = False
            case Step.BACKFILL:
                self.progress.begin_phase(phases.SCANNING_TABLE)
                await self._backfill()
            case Step.PUBLISH:
                await self._change_state("public")
            case Step.REMOVE:
                await self._change_catalog(_without, clears=True)
            case Step.FORGET:
                transaction = self._begin()
                write_record(transaction, build_key(self.index_oid), None)
                await self._manager.commit(transaction)
            case Step.DONE:
                raise AssertionError(step)

    async def _wait_for_writers(self) -> None:
        is_first = self._state() == "delete_only"
        self.progress.begin_phase(
            phases.WAITING_FOR_WRITERS if is_first else phases.WAITING_FOR_VALIDATION
        )
        await wait_for_lockers(
            self._manager.locks,
            self._services.schedule,
            self.interrupts,
            self.progress,
            self._lock_timeout_ms,
        )
        self._has_waited = True

    # Transactions

    def _begin(self) -> Transaction:
        transaction = self._manager.begin(self._process_id, self.interrupts)
        transaction.is_expendable = True
        return transaction

    async def _lock(self, transaction: Transaction, resource: Hashable, mode: int) -> None:
        if not self._manager.locks.try_acquire(transaction, resource, mode):
            await self._manager.wait_for_lock(transaction, resource, mode)

    async def _change_state(self, state: IndexState) -> None:
        await self._change_catalog(
            lambda table, index: msgspec.structs.replace(
                table,
                indexes=tuple(
                    msgspec.structs.replace(i, state=state) if i is index else i
                    for i in table.indexes
                ),
            )
        )

    async def _change_catalog(
        self, change: Callable[[Table, Index], Table], *, clears: bool = False
    ) -> None:
        """Commit a new descriptor of the table, made from the newest; nothing when it is gone.

        ``clears``: and the record that the index's entries must go.
        """
        transaction = self._begin()
        try:
            await self._lock(transaction, object_resource(self.table_id), SHARE_UPDATE_EXCLUSIVE)
            found = self._find()
            if found is None:
                await self._manager.commit(transaction)
                return
            table, index = found
            if clears:
                key = clear_key(table.storage_id, index.index_id)
                write_record(transaction, key, ClearRecord(table_id=table.id))
            overlay = CatalogOverlay(self._services.metadata.catalog)
            overlay.put(change(table, index))
            overlay.statements.append(self.record.command)
            record = self.record
            author = Author(record.user, record.process_id, record.client, self._services.now())
            changes = overlay.changes(author)
            assert changes is not None
            await self._manager.commit(transaction, changes.encode)
        except BaseException:
            self._manager.rollback(transaction)
            raise

    async def _backfill(self) -> None:
        """Make the missing entries, batch by batch, from where the record stands."""
        record = read_build(self._manager.group, self.index_oid)
        assert record is not None, self.index_oid
        holding: Transaction | None = None
        while not record.is_filled and self._state() == "write_only":
            transaction = holding or self._begin()
            try:
                batch = self._fill(transaction, record.position)
                record = _following(record, batch)
                if transaction.writes or record.is_filled:
                    write_record(transaction, build_key(self.index_oid), record)
                    await self._manager.commit(transaction)
                else:
                    # Nothing to write: everybody else gets the turn that a commit would take.
                    await self._manager.commit(transaction)
                    await pause_for(self._services.schedule, self.interrupts, 0)
                self.progress.row_count = record.row_count
                self.interrupts.check()
                holding = None
                if batch.contended is not None:
                    holding = transaction = self._begin()
                    await self._lock(transaction, *batch.contended)
            except BaseException:
                self._manager.rollback(transaction)
                raise
        if holding is not None:
            self._manager.rollback(holding)

    def _fill(self, transaction: Transaction, position: bytes) -> Batch:
        found = self._find()
        assert found is not None, "looked at in this turn of the loop"
        table, index = found
        if self._access is None or self._access.table is not table:
            self._access = self._services.access_of(table)
        try:
            return fill_batch(
                self._manager, transaction, self._access, index.index_id, position, BATCH_ROWS
            )
        except UniqueViolation as error:
            schema = self._services.metadata.catalog.get(table.schema_id)
            assert isinstance(schema, Schema)
            raise is_duplicated(error, table, schema.name) from error


def _following(record: BuildRecord, batch: Batch) -> BuildRecord:
    return msgspec.structs.replace(
        record,
        position=batch.position or b"",
        row_count=record.row_count + batch.row_count,
        is_filled=batch.position is None,
    )


def _without(table: Table, index: Index) -> Table:
    return msgspec.structs.replace(table, indexes=tuple(i for i in table.indexes if i is not index))
