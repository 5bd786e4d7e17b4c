"""A session's transaction block: implicit or explicit, with savepoints.

Savepoints cover rows, locks, catalog and settings.

States as ReadyForQuery shows them: idle ``I``, in a block ``T``, failed block ``E``. An implicit
transaction (a statement outside BEGIN, or all statements of one simple query) is ``I`` to the
client and ends at Sync.

Source: PostgreSQL docs, "Message Flow", "Transactions"; BEGIN, SAVEPOINT, ROLLBACK TO reference
pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from nodedb.catalog.changes import CatalogOverlay, IdAllocator
from nodedb.catalog.changes import Mark as OverlayMark
from sql.errors import InFailedSqlTransaction, InvalidSavepointSpecification, NoActiveSqlTransaction
from sql.executor.foreign_keys import DeferredChecks

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.catalog.metadata import MetadataState
    from nodedb.session.settings import Settings
    from nodedb.txn.manager import TransactionManager
    from nodedb.txn.transaction import Mark, Transaction
    from nodedb.waiter import Interrupts, Waiter
    from sql.catalog.descriptor import ForeignKey, Index
    from sql.errors import SqlError

PLAIN_WRITES_MAX: Final = 256
"""A transaction of more writes is committed by a coroutine, which lets others in between."""
BlockState = Literal["idle", "implicit", "open", "failed"]


class _Savepoint(NamedTuple):
    name: str
    mark: Mark
    overlay: OverlayMark | None
    settings: int
    cleared: int
    deferred: DeferredChecks
    deferral: tuple[bool | None, dict[int, bool]]
    on_commit: int
    on_rollback: int
    portals: int


class TransactionBlock:
    """One session's transaction state."""

    def __init__(
        self,
        manager: TransactionManager,
        metadata: MetadataState,
        allocate_id: IdAllocator,
        settings: Settings,
        process_id: int,
        interrupts: Interrupts,
    ) -> None:
        self._manager = manager
        self._metadata = metadata
        self._allocate_id = allocate_id
        self._settings = settings
        self._process_id = process_id
        self._interrupts = interrupts
        self.state: BlockState = "idle"
        self.transaction: Transaction | None = None
        self.overlay: CatalogOverlay | None = None
        self.started_at = 0
        self.deferred = DeferredChecks(self._is_deferred)
        self._all_deferred: bool | None = None
        self._deferred_by_id: dict[int, bool] = {}
        self._savepoints: list[_Savepoint] = []
        self.on_commit: list[Callable[[], None]] = []
        self.on_rollback: list[Callable[[], None]] = []
        self.user_name = ""
        self.has_snapshot = False
        """A statement of the transaction has read or written: its characteristics are settled."""
        self._commit_waiter: Waiter[int] | None = None
        self.portal_count = 0
        """Portals made so far: a savepoint's rollback drops the younger ones."""
        self.on_portals_lost: Callable[[int], None] = lambda _: None

    @property
    def status(self) -> bytes:
        """The byte of ReadyForQuery."""
        if self.state == "open":
            return b"T"
        return b"E" if self.state == "failed" else b"I"

    def ensure_transaction(self, now: int) -> Transaction:
        """Return the running transaction, starting an implicit one if there is none."""
        if self.transaction is None:
            self.transaction = self._manager.begin(self._process_id, self._interrupts)
            self.transaction.defers = self._is_index_deferred
            self.started_at = now
            self.has_snapshot = False
            if self.state == "idle":
                self.state = "implicit"
        self.transaction.lock_timeout_ms = self._settings.lock_timeout_ms
        self.transaction.is_snapshot = self._settings.is_snapshot
        return self.transaction

    def begin(self, now: int) -> bool:
        """BEGIN; False when a block is open already (the caller warns).

        An implicit transaction becomes the block's.
        """
        if self.state in ("open", "failed"):
            return False
        self.ensure_transaction(now)
        self.state = "open"
        return True

    def follow_isolation(self) -> None:
        """Take note of the isolation level just set.

        The running transaction learns it before its first statement.
        """
        if self.transaction is not None:
            self.transaction.is_snapshot = self._settings.is_snapshot

    def ensure_overlay(self) -> CatalogOverlay:
        """Return the transaction's catalog changes, starting them on the newest catalog."""
        if self.overlay is None:
            self.overlay = CatalogOverlay(self._metadata.catalog, self._allocate_id)
        elif not self.overlay.is_changed:
            self.overlay.rebase(self._metadata.catalog)
        return self.overlay

    def check_usable(self) -> None:
        """Raise InFailedSqlTransaction (25P02) in a failed block."""
        if self.state == "failed":
            raise InFailedSqlTransaction(
                "current transaction is aborted, commands ignored until end of transaction block"
            )

    async def commit(self) -> int:
        """Commit what there is and go idle; returns the metadata index of DDL, or 0.

        A failed block is rolled back.

        The caller has run the deferred checks. On an error nothing was committed and the block is
        idle.
        """
        if self.state == "failed":
            self.rollback()
            return 0
        transaction, overlay = self.transaction, self.overlay
        index = 0
        if transaction is not None:
            try:
                await self._manager.prepare_commit(transaction)
                change = self._catalog_change(overlay)
                index = await self._manager.commit(transaction, change)
            except BaseException:
                self.rollback()
                raise
        callbacks = self.on_commit
        self._finish(committed=True)
        for callback in callbacks:
            callback()
        return index

    @property
    def is_plain(self) -> bool:
        """Tell whether committing it means rows alone: nothing to check, to call or to publish."""
        transaction, overlay = self.transaction, self.overlay
        return (
            transaction is not None
            and not transaction.cleared
            and not self.has_waiting_checks
            and len(transaction.writes) <= PLAIN_WRITES_MAX
            and not self.on_commit
            and (overlay is None or not overlay.is_changed)
        )

    def commit_rows(self) -> Waiter[int] | None:
        """Begin to commit a plain transaction; None when it is over already, having no rows.

        Otherwise ``finish_commit`` follows when the waiter is done. On an error nothing was
        committed and the block is idle.
        """
        assert self.transaction is not None
        try:
            self._commit_waiter = self._manager.commit_rows(self.transaction)
        except BaseException:
            self.rollback()
            raise
        if self._commit_waiter is None:
            self._finish(committed=True)
        return self._commit_waiter

    def finish_commit(self, failure: SqlError | None) -> None:
        """End the block whose rows are decided. Raises what the commit failed with.

        ``failure`` is what whoever awaited the waiter of ``commit_rows`` took out of it.
        """
        waiter, transaction = self._commit_waiter, self.transaction
        assert waiter is not None
        assert transaction is not None
        self._commit_waiter = None
        error = failure if failure is not None else waiter.error
        self._manager.end_commit(transaction, is_committed=error is None)
        if error is not None:
            self.rollback()
            raise error
        self._finish(committed=True)

    def _catalog_change(self, overlay: CatalogOverlay | None) -> bytes | None:
        """Check DDL against the newest catalog.

        No other session runs between this and the proposal.
        """
        if overlay is None or not overlay.is_changed:
            return None
        error = overlay.conflict(self._metadata.catalog)
        if error is not None:
            raise error
        overlay.rebase(self._metadata.catalog)
        change = overlay.changes(self.user_name)
        return None if change is None else change.encode()

    def rollback(self) -> None:
        """Forget everything and go idle."""
        if self.transaction is not None:
            self._manager.rollback(self.transaction)
        for callback in reversed(self.on_rollback):
            callback()
        self._finish(committed=False)

    def _finish(self, *, committed: bool) -> None:
        self.state = "idle"
        self.transaction = None
        self.overlay = None
        if len(self.deferred):
            self.deferred = DeferredChecks(self._is_deferred)
        self._all_deferred = None
        if self._deferred_by_id:
            self._deferred_by_id = {}
        if self._savepoints:
            self._savepoints.clear()
        # New lists, for the caller of commit goes on with the old ones.
        if self.on_commit:
            self.on_commit = []
        if self.on_rollback:
            self.on_rollback = []
        self._settings.end_transaction(committed=committed)

    def fail(self) -> None:
        """Fail after an error: an open block waits for ROLLBACK, an implicit one is over."""
        if self.state in ("idle", "implicit"):
            self.rollback()
            return
        self.state = "failed"
        transaction = self.transaction
        assert transaction is not None
        if self._savepoints:
            self._restore(self._savepoints[-1])
        else:
            self._undo_callbacks(0, 0)
            self._manager.rollback(transaction)
            self.overlay = None
            self._settings.rollback_to(0)

    # Deferred constraints

    def _is_deferred(self, key: ForeignKey) -> bool:
        return self._defers(key.id, initially=key.initially_deferred)

    def _is_index_deferred(self, index: Index) -> bool:
        return self._defers(index.constraint_id, initially=index.initially_deferred)

    def _defers(self, constraint_id: int, *, initially: bool) -> bool:
        chosen = self._deferred_by_id.get(constraint_id, self._all_deferred)
        return initially if chosen is None else chosen

    @property
    def has_waiting_checks(self) -> bool:
        """Tell whether deferred constraints have something to check before COMMIT."""
        if len(self.deferred):
            return True
        transaction = self.transaction
        return transaction is not None and bool(transaction.deferred or transaction.unchecked)

    def _copied(self, checks: DeferredChecks) -> DeferredChecks:
        """Return the same waiting checks a second time."""
        copy = DeferredChecks(self._is_deferred)
        for kind, constraint, source, keys in checks.take() if len(checks) else ():
            checks.add(kind, constraint, source, keys)
            copy.add(kind, constraint, source, keys)
        return copy

    def set_constraints(self, ids: list[int] | None, *, deferred: bool) -> None:
        """SET CONSTRAINTS for the constraints of these OIDs; None means ALL."""
        if ids is None:
            self._all_deferred = deferred
            self._deferred_by_id.clear()
        else:
            self._deferred_by_id.update(dict.fromkeys(ids, deferred))

    # Savepoints

    def savepoint(self, name: str) -> None:
        """SAVEPOINT. Raises NoActiveSqlTransaction (25P01) outside a block."""
        if self.state != "open":
            raise NoActiveSqlTransaction("SAVEPOINT can only be used in transaction blocks")
        assert self.transaction is not None
        self._savepoints.append(
            _Savepoint(
                name,
                self.transaction.mark(),
                None if self.overlay is None else self.overlay.mark(),
                self._settings.mark(),
                len(self.transaction.cleared),
                self._copied(self.deferred),
                (self._all_deferred, self._deferred_by_id.copy()),
                len(self.on_commit),
                len(self.on_rollback),
                self.portal_count,
            )
        )

    def release(self, name: str) -> None:
        """RELEASE SAVEPOINT. Raises InvalidSavepointSpecification (3B001)."""
        if self.state not in ("open", "failed"):
            raise NoActiveSqlTransaction("RELEASE SAVEPOINT can only be used in transaction blocks")
        del self._savepoints[self._find(name) :]

    def rollback_to(self, name: str) -> None:
        """ROLLBACK TO SAVEPOINT: the savepoint stays."""
        if self.state not in ("open", "failed"):
            raise NoActiveSqlTransaction(
                "ROLLBACK TO SAVEPOINT can only be used in transaction blocks"
            )
        position = self._find(name)
        del self._savepoints[position + 1 :]
        self._restore(self._savepoints[position])
        self.state = "open"

    def _restore(self, savepoint: _Savepoint) -> None:
        assert self.transaction is not None
        self.on_portals_lost(savepoint.portals)
        self._undo_callbacks(savepoint.on_commit, savepoint.on_rollback)
        self._manager.rollback_to(self.transaction, savepoint.mark, release_locks=True)
        del self.transaction.cleared[savepoint.cleared :]
        self.deferred = self._copied(savepoint.deferred)
        self._all_deferred = savepoint.deferral[0]
        self._deferred_by_id = savepoint.deferral[1].copy()
        if self.overlay is not None:
            if savepoint.overlay is None:
                self.overlay = None
            else:
                self.overlay.rollback(savepoint.overlay)
        self._settings.rollback_to(savepoint.settings)

    def _undo_callbacks(self, on_commit: int, on_rollback: int) -> None:
        """Go back to these counts of what commit would do, undoing what a rollback undoes."""
        del self.on_commit[on_commit:]
        while len(self.on_rollback) > on_rollback:
            self.on_rollback.pop()()

    @property
    def in_subtransaction(self) -> bool:
        """Tell whether a savepoint is open."""
        return bool(self._savepoints)

    def _find(self, name: str) -> int:
        for position in range(len(self._savepoints) - 1, -1, -1):
            if self._savepoints[position].name == name:
                return position
        raise InvalidSavepointSpecification(f'savepoint "{name}" does not exist')
