"""The hot path: one row by its whole clustering key, read or written, without operators.

The planner compiled the key, the condition and the new row into plain functions (``PointPlan``). A
read outside any transaction needs none: it sees the newest applied state in one turn of the loop,
which is a snapshot (PROTOCOL, "read-only").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nodedb.kv.locks import ACCESS_SHARE, ROW_EXCLUSIVE, ROW_NO_KEY_UPDATE, ROW_SHARE, ROW_UPDATE
from nodedb.session.api import Result
from nodedb.txn.table_codec import codec_of

if TYPE_CHECKING:
    from nodedb.gateway.plan_cache import PreparedPlan
    from nodedb.session.session import Session
    from sql.types.base import Datum, Row

_EMPTY: Final = ()


def table_mode(plan: PreparedPlan) -> int:
    """Return the table lock a plan's statement takes."""
    if plan.is_read_only:
        return ACCESS_SHARE
    return ROW_EXCLUSIVE if plan.is_writing else ROW_SHARE


async def run(session: Session, plan: PreparedPlan, parameters: tuple[Datum, ...]) -> Result | None:
    """Run a point plan; None when it has to be planned again or to take the general path."""
    point = plan.plan.point
    assert point is not None
    if not session.leadership.may_serve:
        await session.wait_until_served()
    session.block.has_snapshot = True
    if not plan.checked_privileges:
        plan.check_privileges(session.catalog())
    if point.kind == "get":
        return await _get(session, plan, point, parameters)
    if point.needs_foreign_keys:
        return None
    if session.settings.is_read_only and not point.table.temporary_session:
        session.check_writable(point.kind.upper())
    return await _write(session, plan, point, parameters)


def _context(session: Session, parameters: tuple[Datum, ...], store: Any) -> Any:
    """Return the session's reusable context: point functions keep nothing of it."""
    context = session.point_context
    if context is None or context.format is not session.settings.format:
        context = session.point_context = session.make_context(parameters, store)
        return context
    context.parameters = parameters
    context.store = store
    context.statement_timestamp = session.query_start
    context.transaction_timestamp = session.block.started_at or session.query_start
    return context


async def _get(
    session: Session, plan: PreparedPlan, point: Any, parameters: tuple[Datum, ...]
) -> Result | None:
    manager = session.node.transactions
    transaction = session.block.transaction
    locks, table_id = manager.locks, point.table.id
    if transaction is None and not locks.is_free(table_id, ACCESS_SHARE):
        transaction = session.block.ensure_transaction(session.query_start)
    if transaction is not None and not locks.try_acquire(transaction, table_id, ACCESS_SHARE):
        await manager.wait_for_lock(transaction, table_id, ACCESS_SHARE)
        return None
    if transaction is None:
        session.block.outcomes.commits += 1
    elif transaction.writes:
        manager.validate(transaction)
    store = None if transaction is None else manager.statement_store(transaction)
    context = _context(session, parameters, store)
    result = Result("SELECT 0", session.result_columns(plan))
    key = point.make_key(context)
    if key is None:
        return result
    codec = codec_of(point.table)
    encoded = codec.rows.key(key)
    payload = manager.group.newest(encoded) if store is None else store.read_payload(encoded)
    if payload is None:
        return result
    row = codec.decode(payload)
    condition = point.condition
    if condition is None or condition(row, context):
        result.rows = (point.project(row, context),)
        result.tag = "SELECT 1"
    return result


async def _write(
    session: Session, plan: PreparedPlan, point: Any, parameters: tuple[Datum, ...]
) -> Result | None:
    manager = session.node.transactions
    if point.kind != "delete":
        session.node.ensure_room()
    transaction = session.block.ensure_transaction(session.query_start)
    locks = manager.locks
    if not locks.try_acquire(transaction, point.table.id, ROW_EXCLUSIVE):
        await manager.wait_for_lock(transaction, point.table.id, ROW_EXCLUSIVE)
        return None
    store = manager.statement_store(transaction)
    context = _context(session, parameters, store)
    kind: str = point.kind
    result = Result("INSERT 0 1", session.result_columns(plan))
    if kind == "insert":
        row = point.make_row(None, context)
        await store.insert(point.access, (row,))
    else:
        result.tag = f"{kind.upper()} 1"
        row = await _change(manager, transaction, store, point, context)
        if row is None:
            result.tag = f"{kind.upper()} 0"
            return result
    if point.project is not None and plan.bound.has_returning:
        result.rows = (point.project(row, context),)
    manager.end_statement(transaction)
    return result


def lock_mode(point: Any, row: Row, context: Any) -> int:
    """Return how an UPDATE or DELETE has to lock a row, which depends on whether its keys change.

    PostgreSQL docs, "Row-Level Locks". ROW_UPDATE is above ROW_NO_KEY_UPDATE.
    """
    if point.kind == "delete":
        return ROW_UPDATE
    if not point.key_columns:
        return ROW_NO_KEY_UPDATE
    if point.make_keys is None:
        return ROW_UPDATE
    old = tuple([row[position] for position in point.key_columns])
    return ROW_NO_KEY_UPDATE if point.make_keys(row, context) == old else ROW_UPDATE


async def _change(manager: Any, transaction: Any, store: Any, point: Any, context: Any) -> Any:
    """Update or delete one row.

    Returns the new (deleted: the old) row, None when there was none.
    """
    key = point.make_key(context)
    if key is None:
        return None
    codec = codec_of(point.table)
    encoded = codec.rows.key(key)
    payload = store.read_payload(encoded)
    locked = 0
    while True:
        if payload is None:
            return None
        old = codec.decode(payload)
        if point.condition is not None and not point.condition(old, context):
            return None
        mode = lock_mode(point, old, context)
        if mode <= locked:
            break
        # The row as the statement sees it is worth a lock; then the newest one counts, which may
        # need a stronger lock than that.
        purpose = "deleting" if point.kind == "delete" else "updating"
        if not manager.locks.try_acquire(transaction, encoded, mode):
            await manager.wait_for_lock(transaction, encoded, mode, purpose)
        locked = mode
        if manager.moves and store.where_now(encoded, purpose) != encoded:
            return None
        store.check_serializable(encoded)
        if manager.checks.looks_again:
            payload = store.newest_payload(encoded)
    if point.kind == "delete":
        await store.delete(point.access, (old,))
        return old
    new = point.make_row(old, context)
    await store.update(point.access, (old,), (new,))
    return new
