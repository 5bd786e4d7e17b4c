"""DECLARE, FETCH, MOVE and CLOSE.

Cursors are portals whose rows are kept so far as they were fetched.

Source: PostgreSQL docs, "DECLARE", "FETCH", "MOVE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodedb.session.api import Result
from nodedb.session.prepared import Portal, PreparedStatement
from sql.ast import query as q
from sql.ast import utility as u
from sql.errors import (
    DuplicateCursor,
    FeatureNotSupported,
    InvalidCursorName,
    NoActiveSqlTransaction,
    ObjectNotInPrerequisiteState,
)
from sql.executor.node import row_bytes

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.types.base import Row


async def declare(
    session: Session, statement: u.DeclareCursor, *, in_multi_statement: bool
) -> Result:
    """DECLARE CURSOR."""
    if not statement.hold and session.block.state != "open" and not in_multi_statement:
        raise NoActiveSqlTransaction("DECLARE CURSOR can only be used in transaction blocks")
    _check_updatable(statement)
    if statement.name in session.portals:
        raise DuplicateCursor(f'cursor "{statement.name}" already exists')
    prepared = PreparedStatement("", "", statement.query, ())
    session.plan_prepared(prepared)
    columns = prepared.columns or ()
    portal = Portal(statement.name, prepared, (), (int(statement.binary),) * len(columns))
    portal.is_cursor = True
    portal.is_held = statement.hold
    portal.is_binary = statement.binary
    portal.is_scrollable = statement.scroll is not False
    portal.created_at = session.query_start
    portal.query_text = session.query_text
    await session.open_portal(portal)
    if statement.hold:
        await _read_up_to(portal, None)
    session.keep_portal(portal)
    return Result("DECLARE CURSOR")


def _check_updatable(statement: u.DeclareCursor) -> None:
    """Refuse what goes with locking rows neither in PostgreSQL nor here (0A000)."""
    query = statement.query
    clause = getattr(query, "with_clause", None)
    ctes = () if clause is None else clause.tables
    if any(not isinstance(cte.statement, (q.Select, q.SetOperation, q.Values)) for cte in ctes):
        raise FeatureNotSupported(
            "DECLARE CURSOR must not contain data-modifying statements in WITH"
        )
    locking = getattr(query, "locking", ())
    if not locking:
        return
    strength = locking[0].strength.upper()
    if statement.hold:
        raise FeatureNotSupported(
            f"DECLARE CURSOR WITH HOLD ... FOR {strength} is not supported",
            detail="Holdable cursors must be READ ONLY.",
        )
    if statement.scroll:
        raise FeatureNotSupported(
            f"DECLARE SCROLL CURSOR ... FOR {strength} is not supported",
            detail="Scrollable cursors must be READ ONLY.",
        )


def _find(session: Session, name: str) -> Portal:
    found = session.portals.get(name)
    if found is None:
        raise InvalidCursorName(f'cursor "{name}" does not exist')
    return found


async def _read_up_to(portal: Portal, count: int | None) -> list[Row]:
    """Read the cursor's query until ``count`` rows are kept (None: all)."""
    execution: Any = portal.execution
    while execution is not None and (count is None or len(portal.buffer) < count):
        batch = await execution.next_batch()
        if not batch:
            execution.close()
            portal.execution = execution = None
            break
        # Kept until the cursor closes, so they count against the limit of its query.
        execution.memory.charge(row_bytes(batch) * len(batch))
        portal.buffer.extend(batch)
    return portal.buffer


async def fetch(session: Session, statement: u.Fetch) -> Result:
    """FETCH and MOVE. ``position`` is the row the cursor stands on: 0 before the first."""
    portal = _find(session, statement.cursor)
    if portal.is_failed:
        raise ObjectNotInPrerequisiteState(f'portal "{portal.name}" cannot be run')
    try:
        rows = await _rows(portal, statement)
    except ObjectNotInPrerequisiteState:
        raise
    except BaseException:
        portal.is_failed = True
        raise
    verb = "MOVE" if statement.move else "FETCH"
    result = Result(f"{verb} {len(rows)}", None if statement.move else portal.prepared.columns)
    if not statement.move:
        result.rows = rows
    return result


async def execute(session: Session, portal: Portal, row_limit: int) -> Result:
    """Answer an Execute message for a cursor that SQL declared: FETCH by other means."""
    if portal.is_failed:
        raise ObjectNotInPrerequisiteState(f'portal "{portal.name}" cannot be run')
    rows = await _forward(portal, row_limit or None)
    result = Result(f"SELECT {len(rows)}", portal.prepared.columns, rows)
    result.suspended = bool(row_limit) and len(rows) == row_limit
    session.count_rows(len(rows))
    return result


async def _rows(portal: Portal, statement: u.Fetch) -> list[Row]:
    count = statement.count
    match statement.direction:
        case "forward":
            if count is not None and count < 0:
                return await _backward(portal, -count)
            return await _forward(portal, count)
        case "backward":
            if count is not None and count < 0:
                return await _forward(portal, -count)
            return await _backward(portal, count)
        case "absolute":
            return await _absolute(portal, count or 0)
        case "relative":
            return await _absolute(portal, max(portal.position + (count or 0), 0))


async def _forward(portal: Portal, count: int | None) -> list[Row]:
    if count == 0:
        if portal.position > 0:
            _require_scroll(portal)
        return await _absolute(portal, portal.position)
    start = portal.position
    kept = await _read_up_to(portal, None if count is None else start + count)
    rows = kept[start:] if count is None else kept[start : start + count]
    reached_end = count is None or len(rows) < count
    portal.position = len(kept) + 1 if reached_end else start + len(rows)
    return rows


async def _backward(portal: Portal, count: int | None) -> list[Row]:
    _require_scroll(portal)
    if count == 0:
        return await _absolute(portal, portal.position)
    last = portal.position - 1
    first = 0 if count is None else max(last - count, 0)
    rows = portal.buffer[first:last][::-1] if last > 0 else []
    portal.position = first + 1 if count is not None and len(rows) == count else 0
    return rows


async def _absolute(portal: Portal, position: int) -> list[Row]:
    if position < 0:
        kept = await _read_up_to(portal, None)
        position = max(len(kept) + 1 + position, 0)
    if position < portal.position:
        _require_scroll(portal)
    kept = await _read_up_to(portal, position)
    portal.position = min(position, len(kept) + 1)
    return kept[position - 1 : position] if position else []


def _require_scroll(portal: Portal) -> None:
    if not portal.is_scrollable:
        raise ObjectNotInPrerequisiteState(
            "cursor can only scan forward",
            hint="Declare it with SCROLL option to enable backward scan.",
        )


async def close(session: Session, statement: u.CloseCursor) -> Result:
    """CLOSE name or CLOSE ALL."""
    if not statement.name:
        session.drop_cursors()
        return Result("CLOSE CURSOR ALL")
    _find(session, statement.name)
    await session.close_portal(statement.name)
    return Result("CLOSE CURSOR")
