"""ANALYZE and VACUUM. Source: PostgreSQL docs, "ANALYZE", "VACUUM"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.session.api import Result
from sql.ast import utility as u
from sql.catalog.descriptor import Table
from sql.errors import ActiveSqlTransaction, UndefinedTable
from sql.executor.analyze import gather_statistics

if TYPE_CHECKING:
    from nodedb.session.session import Session


def _tables(session: Session, statement: u.Analyze | u.Vacuum) -> list[Table]:
    """Return the tables named, or all that the role owns; others are skipped with a warning."""
    catalog = session.catalog()
    if not statement.tables:
        found = [
            table
            for table in catalog.snapshot.all(Table)
            if catalog.relation_by_id(table.id) is not None and _may_maintain(session, table)
        ]
        return [table for table in found if not table.temporary_session]
    tables = []
    for name, _ in statement.tables:
        relation = catalog.find_relation(name)
        if relation is None:
            raise UndefinedTable(f'relation "{name.name}" does not exist', span=name.span)
        verb = "analyze" if isinstance(statement, u.Analyze) else "vacuum"
        if not isinstance(relation, Table):
            session.notice(
                "WARNING",
                "01000",
                f'skipping "{name.name}" --- cannot {verb} non-tables or special system tables',
            )
        elif not _may_maintain(session, relation):
            session.notice(
                "WARNING",
                "01000",
                f'skipping "{name.name}" --- only table or database owner can {verb} it',
            )
        else:
            tables.append(relation)
    return tables


def _may_maintain(session: Session, table: Table) -> bool:
    return session.catalog().is_superuser or table.owner == session.user_id


async def analyze(session: Session, statement: u.Analyze) -> Result:
    """Gather statistics and store them in the tables' descriptors."""
    for table in _tables(session, statement):
        await _analyze_table(session, table)
    return Result("ANALYZE")


async def _analyze_table(session: Session, table: Table) -> None:
    context = await session.new_context((), None)
    statistics = await gather_statistics(table, context)
    statistics = msgspec.structs.replace(statistics, analyzed_at=session.now())
    overlay = session.block.ensure_overlay()
    current = overlay.snapshot.table(table.id)
    if current is not None:
        overlay.put(msgspec.structs.replace(current, statistics=statistics))


async def vacuum(session: Session, statement: u.Vacuum, *, in_multi_statement: bool) -> Result:
    """Collect garbage down to the watermark that old readers allow."""
    if session.block.state == "open" or in_multi_statement or session.is_pipelined:
        raise ActiveSqlTransaction("VACUUM cannot run inside a transaction block")
    tables = _tables(session, statement)
    await session.node.collect_garbage()
    if any(
        option.name == "analyze" and option.value not in (False, "off", "false")
        for option in statement.options
    ):
        for table in tables:
            await _analyze_table(session, table)
    return Result("VACUUM")
