"""Rows of the system views that show live state.

Sessions, locks, settings, prepared statements, cursors and statistics.

Shapes: the column order of PostgreSQL 15's views (docs, "The Statistics Collector", "System
Views").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nodedb.clock import sql_timestamp
from nodedb.kv.locks import MODE_NAMES, ROW_UPDATE
from nodedb.session.settings import BY_NAME
from sql.catalog.descriptor import Database, Role, Sequence
from sql.types.array import ArrayValue

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodedb.session.session import Session
    from sql.types.base import Row


def rows(session: Session, view: str) -> list[Row]:
    """Return a live view's rows; views without any state here are empty."""
    make = _VIEWS.get(view)
    return [] if make is None else make(session)


def _activity(session: Session) -> list[Row]:
    snapshot = session.node.metadata.catalog
    result: list[Row] = []
    may_see_all = session.catalog().is_superuser
    for other in session.node.sessions.values():
        database, role = snapshot.get(other.database_id), snapshot.get(other.session_user_id)
        visible = may_see_all or other.session_user_id == session.user_id
        waiting = (
            other.block.transaction is not None and other.block.transaction.waiting is not None
        )
        result.append(
            (
                other.database_id,
                database.name if isinstance(database, Database) else "",
                other.process_id,
                None,
                other.session_user_id,
                role.name if isinstance(role, Role) else "",
                other.settings.get("application_name"),
                None,
                None,
                other.services.client_port,
                other.backend_start,
                other.block.started_at or None if visible else None,
                other.query_start if visible else None,
                other.state_change if visible else None,
                "Lock" if waiting else (None if other.is_running else "Client"),
                "transactionid" if waiting else (None if other.is_running else "ClientRead"),
                _state(other) if visible else None,
                None,
                None,
                None,
                other.query_text if visible else "<insufficient privilege>",
                "client backend",
            )
        )
    return result


def _state(session: Session) -> str:
    if session.is_running:
        return "active"
    if session.block.state == "open":
        return "idle in transaction"
    return "idle in transaction (aborted)" if session.block.state == "failed" else "idle"


def _locks(session: Session) -> list[Row]:
    result: list[Row] = []
    for resource, owner, modes, granted in session.node.transactions.locks.entries():
        for bit, name in MODE_NAMES.items():
            if not modes & bit:
                continue
            kind, relation, class_id, object_id = "relation", None, None, None
            if isinstance(resource, int):
                relation = resource
            elif isinstance(resource, tuple):
                kind = "advisory"
                class_id, object_id = (
                    (resource[2], resource[3])
                    if len(resource) > 3
                    else (resource[2] >> 32 & 0xFFFFFFFF, resource[2] & 0xFFFFFFFF)
                )
            else:
                kind = "tuple"
            if (
                isinstance(resource, bytes)
                and bit <= ROW_UPDATE
                and granted
                and len(result) > 10_000
            ):
                continue
            result.append(
                (
                    kind,
                    session.database_id,
                    relation,
                    None,
                    None,
                    None,
                    None,
                    class_id,
                    object_id,
                    None,
                    f"{owner.deadlock_name}/{owner.started}",
                    int(owner.deadlock_name),
                    name,
                    granted,
                    False,
                    None,
                )
            )
    return result


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
    manager = session.node.transactions
    counts: dict[int, int] = {}
    for other in session.node.sessions.values():
        counts[other.database_id] = counts.get(other.database_id, 0) + 1
    result: list[Row] = []
    for database in session.node.metadata.catalog.all(Database):
        own = database.id == session.database_id
        result.append(
            (
                database.id,
                database.name,
                counts.get(database.id, 0),
                manager.commit_count if own else 0,
                manager.rollback_count if own else 0,
                *(0,) * 12,
                None,
                None,
                0.0,
                0.0,
                0.0,
                0.0,
                0.0,
                0,
                0,
                0,
                0,
                None,
            )[:28]
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


def _start_time(session: Session) -> list[Row]:
    return [(sql_timestamp(session.node.started_us),)]


_VIEWS: Final[dict[str, Callable[[Any], list[Row]]]] = {
    "pg_stat_activity": _activity,
    "pg_locks": _locks,
    "pg_settings": _settings,
    "pg_prepared_statements": _prepared,
    "pg_cursors": _cursors,
    "pg_stat_statements": _statements,
    "pg_stat_database": _databases,
    "pg_listening_channels": _channels,
    "start time": _start_time,
    "sequence values": _sequence_values,
}
