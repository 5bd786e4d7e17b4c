"""A session's transaction block: implicit or explicit, with savepoints.

Savepoints cover rows, locks, catalog and settings.

States as ReadyForQuery shows them: idle ``I``, in a block ``T``, failed block ``E``. An implicit
transaction (a statement outside BEGIN, or all statements of one simple query) is ``I`` to the
client and ends at Sync.

Source: PostgreSQL docs, "Message Flow", "Transactions"; BEGIN, SAVEPOINT, ROLLBACK TO reference
pages.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from nodedb.catalog.changes import Author, CatalogOverlay, IdAllocator
from nodedb.catalog.changes import Mark as OverlayMark
from nodedb.errors import LeaderChanged
from sql.errors import InFailedSqlTransaction, InvalidSavepointSpecification, NoActiveSqlTransaction
from sql.executor.foreign_keys import DeferredChecks

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.catalog.metadata import MetadataState
    from nodedb.kv.completions import Completion
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
    callbacks: CallbackMark
    portals: int


class CallbackMark(NamedTuple):
    """How many callbacks the block had at a point to go back to."""

    before_commit: int
    on_commit: int
    on_rollback: int


class Outcomes:
    """How many transactions of a database ended in which way, and how many sessions it had."""

    __slots__ = ("commits", "rollbacks", "sessions")

    def __init__(self) -> None:
        self.commits = 0
        self.rollbacks = 0
        self.sessions = 0


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
        self.first_catalog = metadata.catalog
        """The catalog when the transaction began: no newer than its snapshot."""
        self.started_at = 0
        self.deferred = DeferredChecks(self._is_deferred)
        self._all_deferred: bool | None = None
        self._deferred_by_id: dict[int, bool] = {}
        self._savepoints: list[_Savepoint] = []
        self.before_commit: list[Callable[[], None]] = []
        """What adds to the transaction's writes at its end."""
        self.on_commit: list[Callable[[], None]] = []
        self.on_rollback: list[Callable[[], None]] = []
        self.author: Callable[[], Author] = Author
        self.has_snapshot = False
        """A statement of the transaction has read or written: its characteristics are settled."""
        self._commit_waiter: Waiter[int] | None = None
        self.outcomes = Outcomes()
        """Where its end is counted."""
        self.portal_count = 0
        """Portals made so far: a savepoint's rollback drops the younger ones."""
        self.on_portals_lost: Callable[[int], None] = lambda _: None
        self.completes: Callable[[], Completion | None] | None = None
        """Set while a forwarded request runs that commits by itself, at the end of its batch.

        Gives what is recorded with the commit; None once it has been.
        """
        self.lasting_count = 0
        """Transactions that have ended with something that running them again would repeat."""

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
            self.first_catalog = self._metadata.catalog
            self.started_at = now
            self.has_snapshot = False
            if self.state == "idle":
                self.state = "implicit"
        elif self.transaction.tenure != self._manager.tenure:
            self._follow_tenure(self.transaction)
        self.transaction.lock_timeout_ms = self._settings.lock_timeout_ms
        self.transaction.log_waits_ms = self._settings.log_waits_ms
        self.follow_isolation()
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

    def _follow_tenure(self, transaction: Transaction) -> None:
        """Let a transaction that has done nothing go on in another tenure; 40001 for others."""
        if self.is_touched:
            self._manager.check_tenure(transaction)
        transaction.tenure = self._manager.tenure

    @property
    def may_repeat(self) -> bool:
        """Tell whether what runs may be run again from its start, where it was outside a block."""
        transaction = self.transaction
        is_alone = self.state in ("idle", "implicit")
        return is_alone and (transaction is None or not transaction.has_other_effects)

    @property
    def is_touched(self) -> bool:
        """Tell whether the transaction has done more than set variables and compute expressions.

        Then it belongs to this node, and to the tenure in which it began.
        """
        transaction = self.transaction
        return transaction is not None and bool(
            transaction.held
            or (transaction.snapshot and transaction.is_snapshot)
            or transaction.writes
            or transaction.encoded
            or transaction.cleared
            or transaction.has_other_effects
            or self._savepoints
            or self.overlay is not None
            or self.on_commit
            or self.before_commit
        )

    def adopt(self, started_at: int, *, has_snapshot: bool) -> None:
        """Go on with an untouched block of another node; its modes are variables, already set."""
        assert self.state == "idle", self.state
        self.ensure_transaction(started_at)
        self.state = "open"
        self.has_snapshot = has_snapshot

    def begin_failed(self, now: int) -> None:
        """Be in a failed block: the one at another node is lost, the client has to end it."""
        self.begin(now)
        self.fail()

    def abandon(self) -> None:
        """Go idle without an outcome: the block that this one stood for has ended elsewhere."""
        if self.transaction is not None:
            self._manager.rollback(self.transaction)
            self.transaction = None
        self._finish(committed=False)

    def follow_isolation(self) -> None:
        """Take note of the isolation level just set.

        The running transaction learns it before its first statement.
        """
        transaction, settings = self.transaction, self._settings
        if transaction is not None:
            transaction.is_snapshot = settings.is_snapshot
            transaction.is_validated = settings.is_serializable and not settings.is_read_only

    def ensure_overlay(self) -> CatalogOverlay:
        """Return the transaction's catalog changes, over the newest catalog."""
        if self.overlay is None:
            self.overlay = CatalogOverlay(self._metadata.catalog, self._allocate_id)
        else:
            self.overlay.rebase(self._metadata.catalog)
        return self.overlay

    def mark_callbacks(self) -> CallbackMark:
        """Remember how many callbacks there are, for ``undo_callbacks``."""
        return CallbackMark(len(self.before_commit), len(self.on_commit), len(self.on_rollback))

    def check_usable(self) -> None:
        """Raise InFailedSqlTransaction (25P02) in a failed block."""
        if self.state == "failed":
            raise InFailedSqlTransaction(
                "current transaction is aborted, commands ignored until end of transaction block"
            )

    def note_other_effects(self) -> None:
        """Note that the running statement does what cannot be taken back."""
        if self.transaction is not None:
            self.transaction.has_other_effects = True

    def validate(self) -> None:
        """Fail (40001) if COMMIT would, as things stand: a serializable transaction's reads."""
        transaction = self.transaction
        if transaction is not None and transaction.writes:
            self._manager.validate(transaction)

    def restart(self) -> None:
        """Take the implicit transaction back to its beginning, where it has read nothing yet."""
        assert self.transaction is not None
        self.undo_callbacks(CallbackMark(0, 0, 0))
        self._manager.restart(self.transaction)
        self.overlay = None
        self.deferred = DeferredChecks(self._is_deferred)
        self._settings.rollback_to(0)

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
                for callback in self.before_commit:
                    callback()
                await self._manager.prepare_commit(transaction)
                change = None
                if overlay is not None and overlay.is_changed:
                    change = partial(self._catalog_change, overlay)
                has_rows = transaction.writes or transaction.encoded or transaction.cleared
                if (has_rows or change is not None) and self._manager.timestamps.is_ahead:
                    await self._manager.timestamps.ready(self._interrupts)
                if transaction.tenure != self._manager.tenure:
                    self._follow_tenure(transaction)
                if self.completes is not None:
                    transaction.completion = self.completes()
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
            and not self._manager.timestamps.is_ahead
            and (overlay is None or not overlay.is_changed)
        )

    def commit_rows(self) -> Waiter[int] | None:
        """Begin to commit a plain transaction; None when it is over already, having no rows.

        Otherwise ``finish_commit`` follows when the waiter is done. On an error nothing was
        committed and the block is idle.
        """
        assert self.transaction is not None
        if self.completes is not None:
            self.transaction.completion = self.completes()
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
        self._manager.end_commit(transaction, error)
        if error is not None:
            self.rollback()
            raise error
        self._finish(committed=True)

    def _catalog_change(self, overlay: CatalogOverlay) -> bytes | None:
        """Check DDL against the newest catalog.

        No other session runs between this and the proposal. The check is a last resort: what the
        statements touched is locked.
        """
        error = overlay.conflict(self._metadata.catalog)
        if error is not None:
            raise error
        overlay.rebase(self._metadata.catalog)
        change = overlay.changes(self.author())
        return None if change is None else change.encode()

    def rollback(self) -> None:
        """Forget everything and go idle."""
        if self.transaction is not None:
            self._manager.rollback(self.transaction)
        for callback in reversed(self.on_rollback):
            callback()
        self._finish(committed=False)

    def _finish(self, *, committed: bool) -> None:
        if isinstance(self._interrupts.pending, LeaderChanged):
            self._interrupts.clear()  # It was meant for the transaction that ends here.
        if self.transaction is not None:
            if committed or self.transaction.has_other_effects:
                self.lasting_count += 1
            if committed:
                self.outcomes.commits += 1
            else:
                self.outcomes.rollbacks += 1
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
        if self.before_commit:
            self.before_commit = []
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
            self.undo_callbacks(CallbackMark(0, 0, 0))
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
                self.mark_callbacks(),
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
        self.undo_callbacks(savepoint.callbacks)
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

    def undo_callbacks(self, mark: CallbackMark) -> None:
        """Go back to a mark: forget what commit would do, undo what a rollback undoes."""
        del self.before_commit[mark.before_commit :]
        del self.on_commit[mark.on_commit :]
        while len(self.on_rollback) > mark.on_rollback:
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
