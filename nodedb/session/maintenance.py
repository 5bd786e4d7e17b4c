"""ANALYZE and VACUUM. Source: PostgreSQL docs, "ANALYZE", "VACUUM"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nodedb.session.api import Result
from nodedb.session.ddl import locked_table
from sql.ast import utility as u
from sql.catalog.descriptor import Table
from sql.errors import (
    ActiveSqlTransaction,
    DuplicateColumn,
    FeatureNotSupported,
    InvalidSchemaName,
    SqlError,
    SqlSyntaxError,
    UndefinedColumn,
    UndefinedTable,
)
from sql.executor.analyze import gather_statistics
from sql.functions.reg import is_index_name

if TYPE_CHECKING:
    from nodedb.catalog.session_catalog import SessionCatalog
    from nodedb.session.session import Session
    from sql.ast.ddl import StorageOption
    from sql.ast.query import QualifiedName

_ANALYZE_OPTIONS: Final = frozenset(("verbose", "skip_locked"))
_VACUUM_OPTIONS: Final = frozenset(
    (
        "analyze",
        "disable_page_skipping",
        "freeze",
        "full",
        "index_cleanup",
        "parallel",
        "process_toast",
        "truncate",
    )
)
_OPTIONS: Final = {"ANALYZE": _ANALYZE_OPTIONS, "VACUUM": _ANALYZE_OPTIONS | _VACUUM_OPTIONS}
_BOOLEANS: Final = {
    "true": True,
    "on": True,
    "1": True,
    "false": False,
    "off": False,
    "0": False,
}
_WORKERS_MAX: Final = 1024


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
    tables: list[tuple[Table, tuple[str, ...]]] = []
    for name, columns in statement.tables:
        relation = catalog.find_relation(name)
        if relation is None and not is_index_name(catalog, name):
            raise _undefined(catalog, name)
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
            tables.append((relation, columns))
    for table, columns in tables:
        _check_columns(table, columns)
    return [table for table, _ in tables]


def _undefined(catalog: SessionCatalog, name: QualifiedName) -> SqlError:
    if name.schema and catalog.schema_id(name.schema) is None:
        return InvalidSchemaName(f'schema "{name.schema}" does not exist')
    shown = f"{name.schema}.{name.name}" if name.schema else name.name
    return UndefinedTable(f'relation "{shown}" does not exist')


def _check_columns(table: Table, columns: tuple[str, ...]) -> None:
    for position, name in enumerate(columns):
        what = f'column "{name}" of relation "{table.name}"'
        if name not in table.column_by_name:
            raise UndefinedColumn(f"{what} does not exist")
        if name in columns[:position]:
            raise DuplicateColumn(f"{what} appears more than once")


def _may_maintain(session: Session, table: Table) -> bool:
    return session.catalog().is_superuser or table.owner == session.user_id


def _check_options(command: str, options: tuple[StorageOption, ...]) -> dict[str, int]:
    """Return the value of each option given; SqlSyntaxError (42601) for what is not one."""
    result: dict[str, int] = {}
    for option in options:
        if option.name not in _OPTIONS[command]:
            raise SqlSyntaxError(f'unrecognized {command} option "{option.name}"', span=option.span)
        if option.name == "parallel":
            result[option.name] = _workers(option)
        elif option.name == "index_cleanup" and str(option.value).lower() == "auto":
            result[option.name] = True
        else:
            result[option.name] = _boolean(option)
    return result


def _workers(option: StorageOption) -> int:
    if option.value is None:
        raise SqlSyntaxError(
            f"parallel option requires a value between 0 and {_WORKERS_MAX}", span=option.span
        )
    try:
        workers = int(str(option.value))
    except ValueError:
        raise SqlSyntaxError("parallel requires an integer value") from None
    if not 0 <= workers <= _WORKERS_MAX:
        raise SqlSyntaxError(
            f"parallel workers for vacuum must be between 0 and {_WORKERS_MAX}", span=option.span
        )
    return workers


def _boolean(option: StorageOption) -> bool:
    if option.value is None:
        return True
    found = _BOOLEANS.get(str(option.value).lower())
    if found is None:
        raise SqlSyntaxError(f"{option.name} requires a Boolean value")
    return found


async def analyze(session: Session, statement: u.Analyze) -> Result:
    """Gather statistics and store them in the tables' descriptors."""
    _check_options("ANALYZE", statement.options)
    for table in _tables(session, statement):
        await _analyze_table(session, table)
    return Result("ANALYZE")


async def _analyze_table(session: Session, table: Table) -> None:
    """Gather one table's statistics, unless it is dropped meanwhile."""
    current = await locked_table(session, table)
    if current is None:
        return
    context = await session.new_context((), None)
    statistics = await gather_statistics(current, context)
    statistics = msgspec.structs.replace(statistics, analyzed_at=session.now())
    overlay = session.block.ensure_overlay()
    overlay.put(msgspec.structs.replace(current, statistics=statistics))
    overlay.statements.append("ANALYZE")


async def vacuum(session: Session, statement: u.Vacuum, *, in_multi_statement: bool) -> Result:
    """Collect garbage down to the watermark that old readers allow."""
    chosen = _check_options("VACUUM", statement.options)
    if chosen.get("full"):
        for name, refused in (
            ("parallel", "VACUUM FULL cannot be performed in parallel"),
            (
                "disable_page_skipping",
                "VACUUM option DISABLE_PAGE_SKIPPING cannot be used with FULL",
            ),
        ):
            if chosen.get(name):
                raise FeatureNotSupported(refused)
        if not chosen.get("process_toast", True):
            raise FeatureNotSupported("PROCESS_TOAST required with VACUUM FULL")
    if not chosen.get("analyze") and any(columns for _, columns in statement.tables):
        raise FeatureNotSupported("ANALYZE option must be specified when a column list is provided")
    if session.block.state == "open" or in_multi_statement or session.is_pipelined:
        raise ActiveSqlTransaction("VACUUM cannot run inside a transaction block")
    tables = _tables(session, statement)
    await session.node.collect_garbage()
    if chosen.get("analyze"):
        for table in tables:
            await _analyze_table(session, table)
    return Result("VACUUM")
