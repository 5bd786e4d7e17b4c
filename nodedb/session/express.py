"""Point statements in one step: no portal, and for reads outside a transaction no coroutine.

A client that executes a prepared statement sends Bind, Describe, Execute and Sync in one packet;
when the statement reads one row by its key and nothing is open, the answer depends on nothing but
the newest applied state, in this very turn of the loop. Everything else returns None and takes the
ordinary path, errors included: whatever could raise is left to it, so there is one place that words
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.session import point, transactions
from nodedb.txn.table_codec import codec_of
from sql.ast.utility import Begin, Commit
from sql.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.session.api import ResultColumn
    from nodedb.session.prepared import PreparedStatement
    from nodedb.session.session import Session
    from sql.types.base import Datum, Row


_STEP_STATES: Final = ("idle", "open")


class ExpressAnswer(NamedTuple):
    """Columns (None for no rows; the same object each time), rows and command tag."""

    columns: tuple[ResultColumn, ...] | None
    rows: Sequence[Row]
    tag: str


def run_prepared(
    session: Session, name: str, values: Sequence[bytes | None], formats: Sequence[int]
) -> ExpressAnswer | None:
    """Execute a prepared point read; None when the ordinary path has to."""
    prepared = session.prepared.get(name)
    if (
        prepared is None
        or prepared.plan_snapshot is not session.node.metadata.catalog
        or prepared.plan_epoch != session.settings.search_path_version
        or not _is_ready(session, prepared)
    ):
        return None
    try:
        parameters = prepared.decode(values, formats, session.settings.format)
        return _read(session, prepared, parameters, prepared.text)
    except SqlError:
        return None


def run_simple(
    session: Session, prepared: PreparedStatement, parameters: tuple[Datum, ...]
) -> ExpressAnswer | None:
    """Execute a normalised simple query whose plan stands; None when the ordinary path has to."""
    if not _is_ready(session, prepared):
        return None
    try:
        return _read(session, prepared, parameters, prepared.text)
    except SqlError:
        return None


def _is_ready(session: Session, prepared: PreparedStatement) -> bool:
    """Tell whether the statement is a point read, outside any transaction.

    Its plan is known to stand.
    """
    plan = prepared.plan
    return (
        plan is not None
        and plan.is_point_read
        and plan.checked_privileges
        and session.block.state == "idle"
        and session.settings.log_min_duration_ms < 0
        and not session.services.has_idle_timeout
    )


def _read(
    session: Session, prepared: PreparedStatement, parameters: tuple[Datum, ...], text: str
) -> ExpressAnswer | None:
    plan = prepared.plan
    context = session.point_context
    columns = prepared.columns
    if (
        plan is None
        or columns is None
        or context is None
        or context.format is not session.settings.format
    ):
        return None
    point = plan.plan.point
    node = session.node
    started = node.clock.monotonic()
    context.parameters = parameters
    context.statement_timestamp = context.transaction_timestamp = session.now()
    session.query_text = text
    key = point.make_key(context)  # type: ignore[union-attr,misc]  # is_point_read
    rows: tuple[Row, ...] = ()
    if key is not None:
        codec = codec_of(point.table)  # type: ignore[union-attr]
        payload = node.transactions.group.newest(codec.rows.key(key))
        if payload is not None:
            row = codec.decode(payload)
            condition = point.condition  # type: ignore[union-attr]
            if condition is None or condition(row, context):
                rows = (point.project(row, context),)  # type: ignore[union-attr,misc]
    seconds = node.clock.monotonic() - started
    node.latency.record(seconds)
    node.statement_statistics.record(session, text, seconds * 1000, len(rows))
    return ExpressAnswer(columns, rows, "SELECT 1" if rows else "SELECT 0")


async def run_step(
    session: Session, name: str, values: Sequence[bytes | None], formats: Sequence[int]
) -> ExpressAnswer | None:
    """Bind, execute and sync one statement: a point read or write, BEGIN or COMMIT.

    The same as the ordinary path without its portal; None before anything has happened when the
    statement is of another kind. Errors are raised as there, and the front end recovers from them
    in the same way.
    """
    prepared = session.prepared.get(name)
    state: str = session.block.state
    if prepared is None or state not in _STEP_STATES:
        return None
    if session.settings.statement_timeout_ms:
        return None
    plan = prepared.plan
    if plan is None:
        return await _control(session, prepared) if not values else None
    if (
        plan.plan.point is None
        or plan.plan.point.needs_foreign_keys
        or prepared.plan_snapshot is not session.node.metadata.catalog
        or prepared.plan_epoch != session.settings.search_path_version
        or (session.block.overlay is not None and session.block.overlay.is_changed)
    ):
        return None
    parameters = prepared.decode(values, formats, session.settings.format)
    session.begin_work(prepared.text)
    result = await point.run(session, plan, parameters)
    assert result is not None, "a point plan without foreign keys always runs"
    session.count_rows(int(result.tag.rpartition(" ")[2]))
    if session.block.state == "implicit":
        await session.commit()
    session.end_work()
    return ExpressAnswer(result.columns, result.rows, result.tag)


async def _control(session: Session, prepared: PreparedStatement) -> ExpressAnswer | None:
    """Run BEGIN or COMMIT in their plain forms."""
    statement = prepared.statement
    if isinstance(statement, Begin) and session.block.state == "idle":
        session.begin_work(prepared.text)
        result = transactions.begin(session, statement)
    elif isinstance(statement, Commit) and session.block.state == "open":
        session.begin_work(prepared.text)
        result = await transactions.commit(session, statement)
    else:
        return None
    session.end_work()
    return ExpressAnswer(None, (), result.tag)
