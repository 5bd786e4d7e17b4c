"""Session, transaction and administrative statements: one handler per node, dispatch exhaustive.

Command tags, warnings and errors as PostgreSQL's (docs, "SQL Commands").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, assert_never

from nodedb.catalog import acl
from nodedb.catalog.session_catalog import permission_denied
from nodedb.kv.locks import (
    ACCESS_EXCLUSIVE,
    ACCESS_SHARE,
    EXCLUSIVE,
    ROW_EXCLUSIVE,
    ROW_SHARE,
    SHARE,
    SHARE_ROW_EXCLUSIVE,
    SHARE_UPDATE_EXCLUSIVE,
)
from nodedb.session import (
    cluster_rows,
    cluster_settings,
    constraints,
    copying,
    cursors,
    maintenance,
    transactions,
)
from nodedb.session.api import Result, ResultColumn
from nodedb.session.arguments import evaluate_arguments, explain_columns
from nodedb.session.explaining import explain
from nodedb.session.prepared import Portal, PreparedStatement
from nodedb.session.settings import CHARACTERISTICS, join_values
from sql.ast import utility as u
from sql.catalog.descriptor import Sequence as SequenceDescriptor
from sql.catalog.descriptor import Table, View
from sql.errors import (
    ActiveSqlTransaction,
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InsufficientPrivilege,
    LockNotAvailable,
    NoActiveSqlTransaction,
    UndefinedTable,
    WrongObjectType,
)
from sql.functions.reg import is_index_name
from sql.types.catalog import TEXT

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from sql.ast.query import QualifiedName

UTILITY_CLASSES: Final = u.UtilityStatement.__args__  # type: ignore[attr-defined]  # a typing.Union
_CHANGES_SETTINGS: Final = (u.SetVariable, u.ResetVariable, u.SetTransaction)
LOCK_MODES: Final = {
    "access share": ACCESS_SHARE,
    "row share": ROW_SHARE,
    "row exclusive": ROW_EXCLUSIVE,
    "share update exclusive": SHARE_UPDATE_EXCLUSIVE,
    "share": SHARE,
    "share row exclusive": SHARE_ROW_EXCLUSIVE,
    "exclusive": EXCLUSIVE,
    "access exclusive": ACCESS_EXCLUSIVE,
}


async def execute_utility(  # one case per statement
    session: Session, statement: u.UtilityStatement, portal: Portal, *, in_multi_statement: bool
) -> Result:
    """Run one utility statement."""
    if isinstance(statement, _CHANGES_SETTINGS):
        # So that what it sets is kept or undone with a transaction, if only its own.
        session.block.ensure_transaction(session.query_start)
    match statement:
        case u.Begin():
            return transactions.begin(session, statement)
        case u.Commit():
            return await transactions.commit(session, statement)
        case u.Rollback():
            return transactions.rollback(session, statement)
        case u.Savepoint():
            session.block.savepoint(statement.name)
            return Result("SAVEPOINT")
        case u.ReleaseSavepoint():
            session.block.release(statement.name)
            return Result("RELEASE")
        case u.RollbackToSavepoint():
            session.block.rollback_to(statement.name)
            return Result("ROLLBACK")
        case u.PrepareTransaction():
            return transactions.prepare_transaction(
                session, statement, in_multi_statement=in_multi_statement
            )
        case u.SetTransaction():
            return transactions.set_transaction(session, statement)
        case u.SetConstraints():
            return await constraints.set_constraints(session, statement)
        case u.SetVariable():
            return _set_variable(session, statement)
        case u.ShowVariable():
            return _show(session, statement)
        case u.ShowCluster():
            return cluster_rows.show(session, statement)
        case u.ResetVariable():
            return _reset(session, statement)
        case u.Discard():
            return await _discard(session, statement, in_multi_statement=in_multi_statement)
        case u.Prepare():
            return _prepare(session, statement)
        case u.ExecutePrepared():
            return await _execute_prepared(session, statement)
        case u.Deallocate():
            return _deallocate(session, statement)
        case u.DeclareCursor():
            return await cursors.declare(
                session, statement, portal, in_multi_statement=in_multi_statement
            )
        case u.Fetch():
            return await cursors.fetch(session, statement)
        case u.CloseCursor():
            return await cursors.close(session, statement)
        case u.Explain():
            return await explain(session, statement, portal)
        case u.Copy():
            return await copying.copy(session, statement)
        case u.Listen():
            session.node.notifications.listen(session, statement.channel)
            return Result("LISTEN")
        case u.Unlisten():
            session.node.notifications.unlisten(session, statement.channel)
            return Result("UNLISTEN")
        case u.Notify():
            session.services.notify(statement.channel, statement.payload)
            return Result("NOTIFY")
        case u.LockTable():
            return await _lock_table(session, statement, in_multi_statement=in_multi_statement)
        case u.Analyze():
            return await maintenance.analyze(session, statement)
        case u.Vacuum():
            return await maintenance.vacuum(
                session, statement, in_multi_statement=in_multi_statement
            )
        case u.Checkpoint():
            _require_superuser(
                session, "must be superuser or have privileges of pg_checkpoint to do CHECKPOINT"
            )
            session.node.transactions.replicator.commit()
            return Result("CHECKPOINT")
        case u.AlterSystem():
            if session.block.state == "open" or in_multi_statement or session.is_pipelined:
                raise ActiveSqlTransaction("ALTER SYSTEM cannot run inside a transaction block")
            _require_superuser(session, "must be superuser to execute ALTER SYSTEM command")
            raise FeatureNotSupported("ALTER SYSTEM is not supported")
        case u.AlterCluster():
            return await cluster_settings.alter_cluster(
                session, statement, in_multi_statement=in_multi_statement
            )
        case u.Do():
            raise FeatureNotSupported("DO is not supported: there is no procedural language")
        case u.EmptyStatement():
            return Result("")
        case _ as unreachable:
            assert_never(unreachable)


def utility_columns(statement: Any, session: Session) -> tuple[ResultColumn, ...] | None:
    """Return the columns a statement other than DML answers with, None for no rows."""
    if isinstance(statement, u.ShowVariable):
        return _SHOW_ALL if statement.name == "all" else _show_columns(statement.name)
    if isinstance(statement, u.Explain):
        return explain_columns(statement)
    if isinstance(statement, u.ExecutePrepared):
        return (
            session.statement(statement.name).columns
            if statement.name in session.prepared
            else None
        )
    if isinstance(statement, u.Fetch) and not statement.move:
        cursor = session.portals.get(statement.cursor)
        return None if cursor is None else cursor.prepared.columns
    if isinstance(statement, u.ShowCluster):
        return cluster_rows.columns(statement)
    return None


# Variables


def _set_variable(session: Session, statement: u.SetVariable) -> Result:
    name = statement.name.lower()
    if statement.local and session.block.state != "open":
        session.notice("WARNING", "25P01", "SET LOCAL can only be used in transaction blocks")
    value = None if statement.values is None else join_values(name, statement.values)
    if name == "role":
        session.set_role(value, local=statement.local)
    elif name == "session_authorization":
        session.set_session_authorization(value, local=statement.local)
    elif name in CHARACTERISTICS:
        transactions.change_characteristic(session, name, value)
    else:
        session.settings.set(name, value, local=statement.local)
    return Result("SET")


_SHOW_ALL: Final = (
    ResultColumn("name", TEXT),
    ResultColumn("setting", TEXT),
    ResultColumn("description", TEXT),
)


def _show_columns(name: str) -> tuple[ResultColumn, ...]:
    from nodedb.session.settings import BY_NAME  # noqa: PLC0415  a table, not a dependency

    variable = BY_NAME.get(name.lower())
    return (ResultColumn(name if variable is None else variable.name, TEXT),)


def _show(session: Session, statement: u.ShowVariable) -> Result:
    if statement.name == "all":
        rows = session.settings.rows()
        return Result("SHOW", _SHOW_ALL, rows)
    value = session.settings.show(statement.name)
    return Result("SHOW", _show_columns(statement.name), ((value,),))


def _reset(session: Session, statement: u.ResetVariable) -> Result:
    name = statement.name.lower()
    if name == "all":
        session.settings.reset_all()
    elif name == "role":
        session.set_role(None)
    elif name == "session_authorization":
        session.set_session_authorization(None)
    elif name in CHARACTERISTICS:
        transactions.change_characteristic(session, name, None)
    else:
        session.settings.set(statement.name, None, local=False)
    return Result("RESET")


async def _discard(session: Session, statement: u.Discard, *, in_multi_statement: bool) -> Result:
    what = statement.what
    if what == "all":
        if session.block.state == "open" or in_multi_statement:
            raise ActiveSqlTransaction("DISCARD ALL cannot run inside a transaction block")
        session.set_session_authorization(None)
        session.settings.reset_all()
        session.prepared.clear()
        session.drop_cursors()
        session.node.notifications.unlisten(session, "")
        session.services.advisory_unlock_all()
    if what in ("all", "sequences"):
        session.services.forget_sequences()
    if what in ("all", "temp"):
        await session.node.drop_temporary(session)
    return Result(f"DISCARD {what.upper()}")


# Prepared statements


def _prepare(session: Session, statement: u.Prepare) -> Result:
    if statement.name in session.prepared:
        raise DuplicatePreparedStatement(f'prepared statement "{statement.name}" already exists')
    types = tuple(session.resolve_type(name) for name in statement.types)
    prepared = PreparedStatement(statement.name, "", statement.statement, types)
    prepared.from_sql = True
    prepared.prepared_at = session.query_start
    session.plan_prepared(prepared)
    prepared.text = session.query_text
    session.prepared[statement.name] = prepared
    return Result("PREPARE")


async def _execute_prepared(session: Session, statement: u.ExecutePrepared) -> Result:
    prepared = session.statement(statement.name)
    parameters = await evaluate_arguments(session, prepared, statement)
    text, prepared.text = prepared.text, "" if prepared.from_sql else prepared.text
    try:
        session.plan_prepared(prepared)
    finally:
        prepared.text = text
    return await session.run_portal(Portal("", prepared, parameters, ()))


def _deallocate(session: Session, statement: u.Deallocate) -> Result:
    if not statement.name:
        session.prepared.clear()
        return Result("DEALLOCATE ALL")
    session.statement(statement.name)
    del session.prepared[statement.name]
    return Result("DEALLOCATE")


# Locks and maintenance


async def _lock_table(
    session: Session, statement: u.LockTable, *, in_multi_statement: bool
) -> Result:
    if session.block.state != "open" and not in_multi_statement:
        raise NoActiveSqlTransaction("LOCK TABLE can only be used in transaction blocks")
    transaction = session.block.ensure_transaction(session.query_start)
    manager = session.node.transactions
    mode = LOCK_MODES[statement.mode]
    locks = manager.locks
    for name in statement.names:
        while True:
            table = _lockable(session, name)
            session.catalog().check_privilege(table, "r" if mode == ACCESS_SHARE else "wdDa")
            was_held = locks.holds(transaction, table.id, mode)
            if locks.try_acquire(transaction, table.id, mode):
                break
            if statement.nowait:
                raise LockNotAvailable(f'could not obtain lock on relation "{table.name}"')
            await manager.wait_for_lock(transaction, table.id, mode)
            # Whoever held it may have given the name to another table.
            found = session.catalog().find_relation(name)
            is_same = isinstance(found, (Table, View)) and found.id == table.id
            if not was_held and not is_same:
                locks.release(transaction, table.id, mode)
        if isinstance(table, View):
            await _lock_below(session, table, mode, nowait=statement.nowait)
    return Result("LOCK TABLE")


async def _lock_below(session: Session, view: View, mode: int, *, nowait: bool) -> None:
    """Lock what a view reads from, in the same mode, with the privileges that its query has."""
    transaction = session.block.ensure_transaction(session.query_start)
    manager = session.node.transactions
    snapshot = session.catalog().snapshot
    wanted = "r" if mode == ACCESS_SHARE else "wdDa"
    pending = [view]
    while pending:
        upper = pending.pop()
        for relation_id in dict.fromkeys(relation_id for relation_id, _ in upper.depends_on):
            lower = snapshot.get(relation_id)
            if not isinstance(lower, (Table, View)):
                continue
            role_id = upper.reads_as or session.user_id
            if not acl.held(snapshot, role_id, lower, session.database_id).intersection(wanted):
                raise permission_denied(lower)
            if not manager.locks.try_acquire(transaction, lower.id, mode):
                if nowait:
                    raise LockNotAvailable(f'could not obtain lock on relation "{lower.name}"')
                await manager.wait_for_lock(transaction, lower.id, mode)
            if isinstance(lower, View):
                pending.append(lower)


def _lockable(session: Session, name: QualifiedName) -> Table | View:
    """Find what LOCK TABLE names. Errors: 42P01, 42809 for what has no rows to lock."""
    found = session.catalog().find_relation(name)
    if found is None and is_index_name(session.catalog(), name):
        raise WrongObjectType(
            f'cannot lock relation "{name.name}"',
            detail="This operation is not supported for indexes.",
        )
    if found is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        raise UndefinedTable(f'relation "{shown}" does not exist')
    if isinstance(found, SequenceDescriptor):
        raise WrongObjectType(
            f'cannot lock relation "{name.name}"',
            detail="This operation is not supported for sequences.",
        )
    if not isinstance(found, (Table, View)):
        raise WrongObjectType(
            f'cannot lock relation "{name.name}"',
            detail="This operation is not supported for system views.",
        )
    return found


def find_table(session: Session, name: QualifiedName) -> Table | View:
    """Find a table or view by name. Raises UndefinedTable (42P01)."""
    found = session.catalog().find_relation(name)
    if found is None:
        shown = f"{name.schema}.{name.name}" if name.schema else name.name
        raise UndefinedTable(f'relation "{shown}" does not exist', span=name.span)
    if not isinstance(found, (Table, View)):
        raise WrongObjectType(f'"{name.name}" is not a table or view')
    return found


def _require_superuser(session: Session, message: str) -> None:
    if not session.catalog().is_superuser:
        raise InsufficientPrivilege(message)
