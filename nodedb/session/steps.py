"""Prepared statements that run in one step: between two turns of the loop, without a coroutine.

A client in a steady state sends the same few prepared statements over and over: a row read or
written by its key, BEGIN, COMMIT. Each has a ``Step``, bound to its session, that does all of it in
one plain call. Only a commit has something to wait for: its entry must be durable, so ``run``
returns a waiter then, and ``finish`` does the rest once that is complete.

A step declines (``run`` returns None) whenever something is out of the ordinary: a lock that is
taken, a timeout that must be armed, a changed catalog, rows that another node serves (asked in the
turn that reads them: PROTOCOL rule 37), and almost everything that would raise. Then
nothing has happened that the ordinary path would not do as well, which runs the statement again
from the start and words its errors: there is one place that does. The exception is 40001 in a
block, which under contention is nothing out of the ordinary.

Source: PostgreSQL docs, "Extended Query".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nodedb.kv.locks import ACCESS_SHARE, ROW_EXCLUSIVE
from nodedb.session import transactions
from nodedb.session.point import lock_mode
from nodedb.txn.table_codec import codec_of
from nodedb.txn.transaction import PAYLOAD
from sql.ast.utility import Begin, Commit, Rollback, TransactionModes
from sql.errors import SerializationFailure, SqlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.gateway.plan_cache import PreparedPlan
    from nodedb.session.api import ResultColumn, StepOutcome
    from nodedb.session.prepared import PreparedStatement
    from nodedb.session.session import Session
    from nodedb.txn.transaction import Transaction
    from sql.planner.physical import PointPlan
    from sql.types.base import Datum, Row

_PLAIN_MODES: Final = TransactionModes()
_BLOCK_STATES: Final = ("open", "failed")
_NO_ROWS: Final[tuple[Row, ...]] = ()


def step_of(session: Session, prepared: PreparedStatement) -> Step | None:
    """Return a statement's step, None when it is of a kind that has none.

    Its plan has just been found to stand. It is good for as long as the catalog and the search path
    stay what they are.
    """
    if session.settings.is_watched:
        return None
    plan = prepared.plan
    if plan is None:
        statement = prepared.statement
        if isinstance(statement, Begin):
            return _BeginStep(session, prepared, statement)
        if isinstance(statement, Commit) and not statement.chain:
            return _CommitStep(session, prepared, "COMMIT")
        if isinstance(statement, Rollback) and not statement.chain:
            return _RollbackStep(session, prepared, "ROLLBACK")
        return None
    point = plan.plan.point
    if point is None or point.needs_foreign_keys or not plan.checked_privileges:
        return None
    if point.kind == "get":
        return _ReadStep(session, prepared, plan, point) if plan.is_point_read else None
    if point.kind == "insert":
        is_possible = point.make_row is not None and point.make_row_async is None
        return _InsertStep(session, prepared, plan, point) if is_possible else None
    return _ChangeStep(session, prepared, plan, point)


class Step:
    """One prepared statement of one session. Implements ``nodedb.session.api.Step``.

    ``rows`` and ``tag`` hold the answer of the last ``run``, complete after ``finish`` where that
    gave a waiter.
    """

    __slots__ = (
        "_entry",
        "_epoch",
        "_leadership",
        "_monotonic",
        "_node",
        "_plan",
        "_prepared",
        "_row_count",
        "_session",
        "_snapshot",
        "_started",
        "_wall",
        "columns",
        "rows",
        "tag",
    )

    def __init__(
        self, session: Session, prepared: PreparedStatement, plan: PreparedPlan | None
    ) -> None:
        self._session = session
        self._node = session.node
        self._leadership = session.leadership
        self._monotonic = session.node.clock.monotonic
        self._wall = session.now
        self._prepared = prepared
        self._plan = plan
        self._snapshot = session.node.metadata.catalog
        self._epoch = session.settings.search_path_version
        self._started = 0.0
        self._row_count = 0
        self._entry = session.node.statement_statistics.entry(session, prepared.text)
        self.columns: tuple[ResultColumn, ...] | None = None
        self.rows: Sequence[Row] = _NO_ROWS
        self.tag = ""

    def run(self, values: Sequence[bytes | None], formats: Sequence[int]) -> StepOutcome:
        """Execute with parameters as they came; see ``run_with``."""
        session, prepared = self._session, self._prepared
        if session.prepared.get(prepared.name) is not prepared:
            return None
        try:
            parameters = prepared.decode(values, formats, session.settings.format)
        except SqlError:
            return None
        return self.run_with(parameters)

    def run_with(self, parameters: tuple[Datum, ...]) -> StepOutcome:
        """Execute; True when it is done, a waiter while it commits, None when it declines."""
        raise NotImplementedError

    def finish(self, failure: SqlError | None = None) -> None:
        """Complete a commit whose waiter is done. Raises what it failed with."""
        session = self._session
        session.is_running = False
        session.block.finish_commit(failure)
        self._note(self._row_count)

    def _stands(self) -> bool:
        """Tell whether the step is still what its statement means, and nothing has to be timed."""
        session = self._session
        settings = session.settings
        return (
            self._snapshot is self._node.metadata.catalog
            and self._epoch == settings.search_path_version
            and self._prepared.plan is self._plan
            and not settings.is_watched
            and session.interrupts.pending is None
        )

    def _begin(self) -> int:
        """Start the clock; returns the statement's time."""
        session = self._session
        self._started = self._monotonic()
        session.query_text = self._prepared.text
        now = session.query_start = session.state_change = self._wall()
        return now

    def _context(self, parameters: tuple[Datum, ...], now: int, began: int) -> Any:
        """Return the session's reusable context: point functions keep nothing of it."""
        session = self._session
        context = session.point_context
        if context is None or context.format is not session.settings.format:
            context = session.point_context = session.make_context(parameters, None)
            return context
        context.parameters = parameters
        context.store = None
        context.statement_timestamp = now
        context.transaction_timestamp = began
        return context

    def _note(self, row_count: int) -> None:
        """Count what has just been executed: its time, its rows."""
        seconds = self._monotonic() - self._started
        node = self._node
        node.latency.record(seconds)
        entry = self._entry
        if entry.is_dropped:
            entry = self._entry = node.statement_statistics.entry(
                self._session, self._prepared.text
            )
        entry.add(seconds * 1000, row_count)

    def _commit(self) -> StepOutcome:
        """Commit the running transaction, which ``is_plain``."""
        session = self._session
        if session.block.completes is not None:
            self._note(self._row_count)
            return True  # It is committed with its answer, by who sends that.
        waiter = session.block.commit_rows()
        if waiter is None:
            self._note(self._row_count)
            return True
        session.is_running = True
        return waiter


class _ControlStep(Step):
    """BEGIN, COMMIT or ROLLBACK."""

    __slots__ = ()

    def __init__(self, session: Session, prepared: PreparedStatement, tag: str) -> None:
        super().__init__(session, prepared, None)
        self.tag = tag

    def _is_free(self, parameters: tuple[Datum, ...]) -> bool:
        """Tell whether nothing has to be timed, reported or refused."""
        session = self._session
        return (
            not parameters
            and not session.settings.is_watched
            and session.interrupts.pending is None
        )


class _BeginStep(_ControlStep):
    """BEGIN outside a block."""

    __slots__ = ("_statement",)

    def __init__(self, session: Session, prepared: PreparedStatement, statement: Begin) -> None:
        super().__init__(session, prepared, "START TRANSACTION" if statement.start else "BEGIN")
        self._statement = statement

    def run_with(self, parameters: tuple[Datum, ...]) -> StepOutcome:
        session = self._session
        block = session.block
        if block.state != "idle" or not self._is_free(parameters):
            return None
        now = self._begin()
        if self._statement.modes == _PLAIN_MODES:
            block.begin(now)
        else:
            transactions.begin(session, self._statement)
        self._note(0)
        return True


class _RollbackStep(_ControlStep):
    """ROLLBACK of a block, failed or not."""

    __slots__ = ()

    def run_with(self, parameters: tuple[Datum, ...]) -> StepOutcome:
        session = self._session
        if session.block.state not in _BLOCK_STATES or not self._is_free(parameters):
            return None
        self._begin()
        session.rollback()
        self._note(0)
        return True


class _CommitStep(_ControlStep):
    """COMMIT of a block that has only written rows, or nothing."""

    __slots__ = ()

    def run_with(self, parameters: tuple[Datum, ...]) -> StepOutcome:
        session = self._session
        block = session.block
        if (
            block.state != "open"
            or not self._is_free(parameters)
            or session.portals
            or session.has_on_commit_tables
            or not block.is_plain
        ):
            return None
        try:
            block.validate()
        except SerializationFailure:
            session.rollback()
            raise
        self._begin()
        return self._commit()


class _PointStep(Step):
    """A statement on one row of a known key."""

    __slots__ = ("_codec", "_encode_key", "_group", "_manager", "_point", "_table_id")

    def __init__(
        self,
        session: Session,
        prepared: PreparedStatement,
        plan: PreparedPlan,
        point: PointPlan,
    ) -> None:
        super().__init__(session, prepared, plan)
        self.columns = session.result_columns(plan)
        self._point: Any = point
        self._codec = codec_of(point.table)
        self._encode_key = self._codec.rows.key
        self._manager = session.node.transactions
        self._group = session.node.transactions.group
        self._table_id = point.table.id

    def _usable(self, block: Any) -> Transaction | None:
        """Return an open block's transaction if statements may run in it without further ado."""
        if block.state != "open":
            return None
        overlay = block.overlay
        if overlay is not None and overlay.is_changed:
            return None
        transaction: Transaction = block.transaction
        return transaction if transaction.tenure == self._manager.tenure else None


class _ReadStep(_PointStep):
    """SELECT of one row, in a block or outside."""

    __slots__ = ()

    def run_with(self, parameters: tuple[Datum, ...]) -> StepOutcome:
        if not self._stands() or not self._leadership.may_serve:
            return None
        block = self._session.block
        locks = self._manager.locks
        transaction = None
        if block.state == "idle":
            if not locks.is_free(self._table_id, ACCESS_SHARE):
                return None
        else:
            transaction = self._usable(block)
            if transaction is None or not locks.try_acquire(
                transaction, self._table_id, ACCESS_SHARE
            ):
                return None
        now = self._begin()
        context = self._context(parameters, now, now if transaction is None else block.started_at)
        try:
            row = self._read(context, transaction)
        except SerializationFailure:
            raise  # Only in a block, which has failed.
        except SqlError:
            return None
        if transaction is not None:
            block.has_snapshot = True
        else:
            block.outcomes.commits += 1
        if row is None:
            self.rows, self.tag = _NO_ROWS, "SELECT 0"
            self._note(0)
        else:
            self.rows, self.tag = (row,), "SELECT 1"
            self._note(1)
        return True

    def _read(self, context: Any, transaction: Transaction | None) -> Row | None:
        point = self._point
        key = point.make_key(context)
        if key is None:
            return None
        encoded = self._encode_key(key)
        write = None if transaction is None else transaction.writes.get(encoded)
        if transaction is not None and transaction.is_snapshot:
            if transaction.writes:
                self._manager.validate(transaction)
            if write is None:
                payload = self._manager.read_key(transaction, encoded)
            else:
                payload = write[PAYLOAD]
        else:
            payload = self._group.newest(encoded) if write is None else write[PAYLOAD]
        if not payload:
            return None
        row = self._codec.decode(payload)
        condition = point.condition
        if condition is not None and not condition(row, context):
            return None
        projected: Row = point.project(row, context)
        return projected


class _WriteStep(_PointStep):
    """INSERT, UPDATE or DELETE of one row, in a block or committing by itself."""

    __slots__ = ("_is_temporary", "_kind")

    def __init__(
        self,
        session: Session,
        prepared: PreparedStatement,
        plan: PreparedPlan,
        point: PointPlan,
    ) -> None:
        super().__init__(session, prepared, plan, point)
        self._kind = "INSERT 0" if point.kind == "insert" else point.kind.upper()
        self._is_temporary = bool(point.table.temporary_session)
        if not plan.bound.has_returning:
            self.columns = None

    def run_with(self, parameters: tuple[Datum, ...]) -> StepOutcome:
        if not self._stands() or not self._leadership.may_serve:
            return None
        session = self._session
        block, settings = session.block, session.settings
        if settings.is_read_only and not self._is_temporary:
            return None
        is_alone = block.state == "idle"
        if is_alone:
            if session.portals or session.has_on_commit_tables:
                return None
        elif self._usable(block) is None:
            return None
        now = self._begin()
        transaction = block.ensure_transaction(now)
        block.has_snapshot = True
        count = self._write(transaction, parameters, now)
        if count is None:
            if is_alone:
                block.rollback()
            return None
        transaction.command += 1
        self.tag = f"{self._kind} {count}"
        if is_alone:
            self._row_count = count
            return self._commit()
        self._note(count)
        return True

    def _write(
        self, transaction: Transaction, parameters: tuple[Datum, ...], now: int
    ) -> int | None:
        """Return how many rows were written, None when nothing was and the step declines."""
        if not self._manager.locks.try_acquire(transaction, self._table_id, ROW_EXCLUSIVE):
            return None
        context = self._context(parameters, now, self._session.block.started_at)
        before = len(transaction.undo)
        try:
            row = self._write_row(transaction, context)
            if transaction.reads is not None:
                self._manager.validate(transaction)
            if row and self.columns is not None:
                self.rows = (self._point.project(row, context),)
        except SqlError as error:
            if isinstance(error, SerializationFailure) and self._session.block.state == "open":
                raise  # The block has failed; outside one the statement may be run again.
            if len(transaction.undo) != before:
                transaction.undo_to(transaction.mark()._replace(undo=before))
            return None
        if row:
            return 1
        self.rows = _NO_ROWS
        return None if row is None else 0

    def _write_row(self, transaction: Transaction, context: Any) -> Row | None:
        """Return the row written, () when there was none to write; None declines."""
        raise NotImplementedError


class _InsertStep(_WriteStep):
    __slots__ = ()

    def _write_row(self, transaction: Transaction, context: Any) -> Row | None:
        self._node.ensure_room()
        point = self._point
        row: Row = point.make_row(None, context)
        store = self._manager.statement_store(transaction)
        return row if store.insert_now(point.access, row) else None


class _ChangeStep(_WriteStep):
    """UPDATE and DELETE."""

    __slots__ = ()

    def _write_row(self, transaction: Transaction, context: Any) -> Row | None:
        point = self._point
        is_delete = point.kind == "delete"
        if not is_delete:
            self._node.ensure_room()
        key = point.make_key(context)
        if key is None:
            return ()
        encoded = self._encode_key(key)
        write = transaction.writes.get(encoded)
        manager = self._manager
        payload: bytes | None
        if write is not None:
            payload = write[PAYLOAD]
        elif transaction.is_snapshot:
            payload = manager.read_key(transaction, encoded)
        else:
            payload = self._group.newest(encoded)
        if not payload:
            return ()
        codec = self._codec
        old = codec.decode(payload)
        if point.condition is not None and not point.condition(old, context):
            return ()
        mode = lock_mode(point, old, context)
        if not manager.locks.try_acquire(transaction, encoded, mode):
            return None
        if transaction.is_snapshot and write is None:
            manager.statement_store(transaction).check_serializable(encoded)
        if is_delete:
            store = self._manager.statement_store(transaction)
            return old if store.delete_now(point.access, old) else None
        new: Row = point.make_row(old, context)
        if codec.indexes or point.changes_key:
            store = self._manager.statement_store(transaction)
            return new if store.update_now(point.access, old, new) else None
        transaction.put(encoded, codec.encode(new), codec.vshard(encoded, key))
        return new
