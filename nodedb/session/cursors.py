"""DECLARE, FETCH, MOVE and CLOSE.

A cursor is a portal over a plan that computes no row before it is fetched. Rows already read are
kept for going backward: all of them for SCROLL, the last few megabytes where PostgreSQL could run
the plan backward, none otherwise. WITH HOLD reads what is left when its transaction commits.

Source: PostgreSQL docs, "DECLARE", "FETCH", "MOVE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nodedb.session.api import Result
from nodedb.session.prepared import Portal, PreparedStatement
from sql.ast import query as q
from sql.ast import utility as u
from sql.errors import (
    DuplicateCursor,
    FeatureNotSupported,
    InvalidCursorDefinition,
    InvalidCursorName,
    NoActiveSqlTransaction,
    ObjectNotInPrerequisiteState,
)
from sql.executor.node import BATCH_ROWS, row_bytes
from sql.executor.pace import Pace, reads_backward

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.types.base import Row

KEPT_BYTES_MAX: Final = 4 * 1024 * 1024
"""What a cursor declared without SCROLL keeps of the rows behind it."""


async def declare(
    session: Session, statement: u.DeclareCursor, source: Portal, *, in_multi_statement: bool
) -> Result:
    """DECLARE CURSOR; the parameters of its query are those bound to ``source``."""
    if statement.conflict:
        raise InvalidCursorDefinition(f"cannot specify both {statement.conflict}")
    prepared = PreparedStatement("", "", statement.query, source.prepared.parameter_types)
    session.plan_prepared(prepared)
    _check_updatable(statement)
    if not statement.hold and session.block.state != "open" and not in_multi_statement:
        raise NoActiveSqlTransaction("DECLARE CURSOR can only be used in transaction blocks")
    if statement.name in session.portals:
        raise DuplicateCursor(f'cursor "{statement.name}" already exists')
    columns = prepared.columns or ()
    formats = (int(statement.binary),) * len(columns)
    portal = Portal(statement.name, prepared, source.parameters, formats)
    portal.is_cursor = True
    portal.is_held = statement.hold
    portal.is_binary = statement.binary
    portal.created_at = session.query_start
    portal.query_text = session.query_text
    await _open(session, portal, statement)
    session.keep_portal(portal)
    return Result("DECLARE CURSOR")


async def _open(session: Session, portal: Portal, statement: u.DeclareCursor) -> None:
    """Begin the cursor's query, to be computed as its rows are fetched."""
    prepared = portal.prepared.plan
    assert prepared is not None
    plan = prepared.plan
    portal.keeps_all = bool(statement.scroll)
    portal.is_scrollable = portal.keeps_all or (
        statement.scroll is None
        and not getattr(statement.query, "locking", ())
        and reads_backward(plan.root)
    )
    portal.pace = Pace()
    context = await session.new_context(portal.parameters, prepared)
    portal.execution = plan.open(context, portal.pace)
    portal.snapshot, portal.opened_at = context.store.timestamp, session.node.clock.monotonic()


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


async def _read_up_to(portal: Portal, count: int | None) -> int:
    """Have the cursor's query read up to row ``count`` (None: the last); returns how many it has.

    The rows after the cursor's position are kept in any case.
    """
    execution: Any = portal.execution
    pace = portal.pace
    total = portal.dropped + len(portal.buffer)
    while execution is not None and (count is None or total < count):
        assert pace is not None
        pace.rows = BATCH_ROWS if count is None else min(count - total, BATCH_ROWS)
        batch = await execution.next_batch()
        if not batch:
            execution.close()
            portal.execution = None
            break
        # Rows are held until they are dropped, so they count against the limit of the query.
        size = row_bytes(batch) * len(batch)
        execution.memory.charge(size)
        portal.kept_bytes += size
        portal.buffer.extend(batch)
        total += len(batch)
    return total


def _slice(portal: Portal, start: int, end: int) -> list[Row]:
    """Return the rows after row ``start`` up to row ``end``; 55000 when they are gone."""
    if start < portal.dropped and start < end:
        raise _forward_only()
    return portal.buffer[start - portal.dropped : end - portal.dropped]


def _drop_passed(portal: Portal) -> None:
    """Give up rows behind the cursor that it has no duty to keep."""
    if portal.keeps_all or (portal.is_scrollable and portal.kept_bytes <= KEPT_BYTES_MAX):
        return
    rows = portal.buffer
    passed = min(portal.position, portal.dropped + len(rows)) - portal.dropped
    if portal.is_scrollable:
        # Half of the limit stays, so that not every fetch has to drop.
        passed = min(passed, len(rows) - len(rows) * (KEPT_BYTES_MAX // 2) // portal.kept_bytes)
    if passed <= 0:
        return
    size = portal.kept_bytes * passed // len(rows)
    del rows[:passed]
    portal.dropped += passed
    portal.kept_bytes -= size
    execution: Any = portal.execution
    if execution is not None:
        execution.memory.release(size)


def to_hold(session: Session) -> list[Portal]:
    """Return the cursors that must have all their rows before the transaction can commit."""
    return [p for p in session.portals.values() if p.is_held and not p.was_committed]


async def hold(session: Session, portals: list[Portal]) -> None:
    """Read the rest of WITH HOLD cursors; an error takes all of them away."""
    try:
        for portal in portals:
            if portal.is_failed:
                raise _cannot_be_run(portal)
            await _read_up_to(portal, None)
    except BaseException:
        for portal in portals:
            await session.close_portal(portal.name)
        raise


def _cannot_be_run(portal: Portal) -> ObjectNotInPrerequisiteState:
    return ObjectNotInPrerequisiteState(f'portal "{portal.name}" cannot be run')


async def fetch(session: Session, statement: u.Fetch) -> Result:
    """FETCH and MOVE. ``position`` is the row the cursor stands on: 0 before the first."""
    portal = _find(session, statement.cursor)
    if portal.is_failed:
        raise _cannot_be_run(portal)
    try:
        count, rows = await _fetch(portal, statement)
    except BaseException:
        portal.is_failed = True
        raise
    _drop_passed(portal)
    verb = "MOVE" if statement.move else "FETCH"
    result = Result(f"{verb} {count}", None if statement.move else portal.prepared.columns)
    if not statement.move:
        result.rows = rows
    return result


async def execute(session: Session, portal: Portal, row_limit: int) -> Result:
    """Answer an Execute message for a cursor that SQL declared: FETCH by other means."""
    if portal.is_failed:
        raise _cannot_be_run(portal)
    rows = await _forward(portal, row_limit or None)
    _drop_passed(portal)
    result = Result(f"SELECT {len(rows)}", portal.prepared.columns, rows)
    result.suspended = bool(row_limit) and len(rows) == row_limit
    session.count_rows(len(rows))
    return result


async def _fetch(portal: Portal, statement: u.Fetch) -> tuple[int, list[Row]]:
    """Return how many rows the cursor went over, and those rows unless it was MOVE."""
    if statement.move and statement.direction == "forward" and statement.count != 0:
        count = statement.count
        if count is None or count > 0:
            return await _move_forward(portal, count), []
    rows = await _rows(portal, statement)
    return len(rows), rows


async def _move_forward(portal: Portal, count: int | None) -> int:
    """Go over rows in portions: nothing is gathered that need not be kept."""
    moved = 0
    while count is None or moved < count:
        portion = BATCH_ROWS if count is None else min(count - moved, BATCH_ROWS)
        rows = await _forward(portal, portion)
        moved += len(rows)
        if len(rows) < portion:
            break
        _drop_passed(portal)
    return moved


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
            if not count:
                return await _again(portal)
            return await _absolute(portal, max(portal.position + count, 0))


async def _forward(portal: Portal, count: int | None) -> list[Row]:
    if count == 0:
        return await _again(portal)
    start = portal.position
    total = await _read_up_to(portal, None if count is None else start + count)
    end = total if count is None else min(total, start + count)
    rows = _slice(portal, start, end) if start < end else []
    reached_end = count is None or len(rows) < count
    portal.position = total + 1 if reached_end else end
    return rows


async def _backward(portal: Portal, count: int | None) -> list[Row]:
    _require_scroll(portal)
    if count == 0:
        return await _again(portal)
    last = portal.position - 1
    first = 0 if count is None else max(last - count, 0)
    rows = _slice(portal, first, last)[::-1] if last > 0 else []
    portal.position = first + 1 if count is not None and len(rows) == count else 0
    return rows


async def _again(portal: Portal) -> list[Row]:
    """Return the row that the cursor stands on, if any."""
    position = portal.position
    if not 0 < position <= portal.dropped + len(portal.buffer):
        return []
    _require_scroll(portal)
    return _slice(portal, position - 1, position)


async def _absolute(portal: Portal, position: int) -> list[Row]:
    if position < 0:
        _require_scroll(portal)
        position = max(await _read_up_to(portal, None) + 1 + position, 0)
    elif 0 < portal.position >= position:
        _require_scroll(portal)
    if position > portal.position + BATCH_ROWS:
        await _move_forward(portal, position - 1 - portal.position)
    total = await _read_up_to(portal, position)
    rows = _slice(portal, position - 1, position) if 0 < position <= total else []
    portal.position = min(position, total + 1)
    return rows


def _require_scroll(portal: Portal) -> None:
    if not portal.is_scrollable:
        raise _forward_only()


def _forward_only() -> ObjectNotInPrerequisiteState:
    return ObjectNotInPrerequisiteState(
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
