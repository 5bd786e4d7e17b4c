"""Rows of the system views that show live state.

Sessions, locks, settings, prepared statements, cursors and statistics.

Shapes: the column order of PostgreSQL 15's views (docs, "The Statistics Collector", "System
Views").
"""

from __future__ import annotations

import contextlib
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from nodedb.clock import sql_timestamp
from nodedb.session.activity_rows import activity_rows
from nodedb.session.cluster_rows import SYSTEM_ROWS, view_rows
from nodedb.session.lock_rows import lock_rows
from nodedb.session.settings import BY_NAME
from nodedb.session.state import plan_restored
from sql.catalog.descriptor import Database, Sequence
from sql.errors import InsufficientPrivilege, SqlError
from sql.types.array import ArrayValue

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.session.session import Session
    from sql.types.base import Row


def rows(session: Session, view: str) -> list[Row]:
    """Return a live view's rows; views without any state here are empty."""
    make = _VIEWS.get(view)
    return [] if make is None else make(session)


def _settings(session: Session) -> list[Row]:
    result: list[Row] = []
    for _, variable in sorted(BY_NAME.items()):
        values = variable.values.split("/") if variable.values else None
        value = session.settings.get(variable.name)
        array = None if values is None else ArrayValue(tuple(values), (len(values),), (1,))
        result.append(
            (
                variable.name,
                value,
                variable.unit or None,
                variable.category,
                variable.description,
                None,
                variable.context,
                variable.kind,
                "default" if value == variable.default else "session",
                variable.minimum or None,
                variable.maximum or None,
                array,
                variable.default,
                variable.default,
                None,
                None,
                False,
            )
        )
    return result


def _prepared(session: Session) -> list[Row]:
    for prepared in session.prepared.values():
        if prepared.is_unplanned:
            with contextlib.suppress(SqlError):  # Its types are not known then.
                plan_restored(session, prepared)
    return [
        (
            p.name,
            p.text,
            p.prepared_at,
            ArrayValue(tuple(t.oid for t in p.parameter_types), (len(p.parameter_types),), (1,))
            if p.parameter_types
            else ArrayValue((), (), ()),
            p.from_sql,
            0,
            0,
        )
        for p in session.prepared.values()
        if p.name
    ]


def _cursors(session: Session) -> list[Row]:
    """List the cursors, and the portals that the extended protocol made.

    The unnamed one exists only while it runs what asks for this list: all else replaces it.
    """
    return [
        (
            p.name,
            p.query_text,
            p.is_held,
            p.is_binary,
            p.is_scrollable,
            p.created_at or session.query_start,
        )
        for p in session.portals.values()
        if p.name or p.query_text == session.query_text
    ]


def _statements(session: Session) -> list[Row]:
    return session.node.statement_statistics.rows(session)


def _databases(session: Session) -> list[Row]:
    """Return a row for what belongs to no database, then one per database."""
    node = session.node
    counts = Counter(other.database_id for other in node.all_sessions())
    names: list[tuple[int, str | None]] = [(0, None)]
    names += [(d.id, d.name) for d in node.metadata.catalog.all(Database)]
    deadlocks = node.transactions.locks.deadlocks
    result: list[Row] = []
    for number, name in names:
        outcomes = node.outcomes[number]
        result.append(
            (
                number,
                name,
                counts[number],
                outcomes.commits,
                outcomes.rollbacks,
                *(0,) * 7,  # Blocks and rows.
                0,  # Nothing recovers beside the sessions, so nothing conflicts with them.
                0,
                0,
                deadlocks.get(number, 0),
                None,
                None,
                *(0.0,) * 5,
                outcomes.sessions,
                *(0,) * 3,
                None,
            )
        )
    return result


def _channels(session: Session) -> list[Row]:
    return [(channel,) for channel in session.node.notifications.channels(session)]


def _sequence_values(session: Session) -> list[Row]:
    """Return (OID, last value) of the sequences that have one and that the user may read."""
    catalog, states = session.catalog(), session.node.sequences
    result: list[Row] = []
    for sequence in catalog.snapshot.all(Sequence):
        if catalog.has_privilege(sequence, "rU"):
            last_value, is_called = states.state(sequence)
            if is_called:
                result.append((sequence.id, last_value))
    return result


def _index_builds(session: Session) -> list[Row]:
    return session.node.schema_changes.rows()


def _start_time(session: Session) -> list[Row]:
    return [(sql_timestamp(session.node.started_us),)]


def _ddl_audit(session: Session) -> list[Row]:
    """Return who committed which catalog changes, oldest first; for superusers."""
    if not session.catalog().is_superuser:
        raise InsufficientPrivilege("permission denied for view nodedb_ddl_audit")
    return [
        (
            record.index,
            record.committed_at or None,
            record.user,
            record.process_id or None,
            record.client or None,
            ArrayValue(record.statements, (len(record.statements),), (1,))
            if record.statements
            else ArrayValue((), (), ()),
        )
        for record in session.node.metadata.audit.records()
    ]


_VIEWS: Final[dict[str, Callable[[Any], list[Row]]]] = {
    "pg_stat_activity": activity_rows,
    "pg_locks": lock_rows,
    "pg_settings": _settings,
    "pg_prepared_statements": _prepared,
    "pg_cursors": _cursors,
    "pg_stat_statements": _statements,
    "pg_stat_database": _databases,
    "pg_listening_channels": _channels,
    "nodedb_ddl_audit": _ddl_audit,
    "pg_stat_progress_create_index": _index_builds,
    **{name: partial(view_rows, view=view) for name, view in SYSTEM_ROWS},
    "start time": _start_time,
    "sequence values": _sequence_values,
}
