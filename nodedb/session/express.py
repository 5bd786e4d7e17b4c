"""Point reads answered on the spot: no portal, no coroutine, no transaction.

A client that executes a prepared statement sends Bind, Describe, Execute and Sync in one packet; when the
statement reads one row by its key and nothing is open, the answer depends on nothing but the newest
applied state, in this very turn of the loop. Everything else returns None and takes the ordinary path, errors included:
whatever could raise is left to it, so there is one place that words them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from nodedb.session.api import ResultColumn
from nodedb.session.prepared import PreparedStatement
from nodedb.txn.table_codec import codec_of
from sql.errors import SqlError
from sql.types.base import Datum, Row

if TYPE_CHECKING:
    from nodedb.session.session import Session


class ExpressAnswer(NamedTuple):
    """Columns (the same object each time), rows and command tag."""

    columns: tuple[ResultColumn, ...]
    rows: tuple[Row, ...]
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


def run_simple(session: Session, prepared: PreparedStatement, parameters: tuple[Datum, ...]) -> ExpressAnswer | None:
    """Execute a normalised simple query whose plan stands; None when the ordinary path has to."""
    if not _is_ready(session, prepared):
        return None
    try:
        return _read(session, prepared, parameters, prepared.text)
    except SqlError:
        return None


def _is_ready(session: Session, prepared: PreparedStatement) -> bool:
    """Tell whether the statement is a point read, outside any transaction; its plan is known to stand."""
    plan = prepared.plan
    return (
        plan is not None
        and plan.is_point_read
        and plan.checked_privileges
        and session.block.state == "idle"
        and session.settings.log_min_duration_ms < 0
    )


def _read(
    session: Session, prepared: PreparedStatement, parameters: tuple[Datum, ...], text: str
) -> ExpressAnswer | None:
    plan = prepared.plan
    context = session.point_context
    columns = prepared.columns
    if plan is None or columns is None or context is None or context.format is not session.settings.format:
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
