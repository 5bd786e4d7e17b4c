"""Point statements that may have to wait, without a portal.

A client that executes a prepared statement sends Bind, Describe, Execute and Sync in one packet.
What ``nodedb.session.steps`` declines, for a lock is taken or a timeout must be armed, comes here:
the same work in a coroutine. Everything else returns None and takes the ordinary path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from nodedb.session import point, restart, transactions
from sql.ast.utility import Begin, Commit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.session.api import ResultColumn
    from nodedb.session.prepared import PreparedStatement
    from nodedb.session.session import Session
    from sql.types.base import Row


_STEP_STATES: Final = ("idle", "open")


class ExpressAnswer(NamedTuple):
    """Columns (None for no rows; the same object each time), rows and command tag."""

    columns: tuple[ResultColumn, ...] | None
    rows: Sequence[Row]
    tag: str


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
    if session.settings.statement_timeout_ms or session.settings.injects_errors:
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
    if session.block.state == "idle":
        result = await restart.run_alone(
            session, lambda: point.run(session, plan, parameters), lambda: None
        )
    else:
        result = await point.run(session, plan, parameters)
    if result is None:
        return None  # Its table may have changed while it waited: the ordinary path plans again.
    session.count_rows(int(result.tag.rpartition(" ")[2]))
    if session.block.state == "implicit" and session.block.completes is None:
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
