"""SET CONSTRAINTS, and the checks that deferred constraints leave for later.

A name without a schema means the constraints of that name in the first schema of the search path
that has one.

Source: PostgreSQL docs, "SET CONSTRAINTS".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodedb.session.api import Result
from nodedb.txn.deferred import defer_keys, keys_to_check, waiting_check
from sql.catalog.descriptor import Table
from sql.errors import InvalidSchemaName, UndefinedObject, UniqueViolation, WrongObjectType
from sql.executor.foreign_keys import run_deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodedb.session.session import Session
    from nodedb.txn.transaction import Transaction
    from sql.ast import utility as u
    from sql.ast.query import QualifiedName


_KEYS_PER_SLICE: Final = 512
"""Keys checked before other sessions get their turn."""


async def set_constraints(session: Session, statement: u.SetConstraints) -> Result:
    """SET CONSTRAINTS: what becomes immediate is checked right away."""
    if session.block.state != "open":
        session.notice("WARNING", "25P01", "SET CONSTRAINTS can only be used in transaction blocks")
    ids = [
        constraint_id
        for name in statement.names
        for constraint_id, is_deferrable in _constraints_named(session, name)
        if is_deferrable or _refuse(name, deferred=statement.deferred)
    ]
    session.block.ensure_transaction(session.query_start)
    session.block.set_constraints(ids if statement.names else None, deferred=statement.deferred)
    if not statement.deferred:
        await check_waiting(session, only_immediate=True)
    return Result("SET CONSTRAINTS")


def _refuse(name: QualifiedName, *, deferred: bool) -> bool:
    """WrongObjectType (42809) for deferring what is always immediate; else False."""
    if deferred:
        raise WrongObjectType(f'constraint "{name.name}" is not deferrable')
    return False


def _constraints_named(session: Session, name: QualifiedName) -> list[tuple[int, bool]]:
    """Return (OID, is deferrable) of the constraints that a name means.

    UndefinedObject (42704) for none.
    """
    catalog = session.catalog()
    if name.schema:
        schema_id = catalog.explicit_schema_id(name)
        if schema_id is None:
            raise InvalidSchemaName(f'schema "{name.schema}" does not exist')
        path: tuple[int, ...] = (schema_id,)
    else:
        path = catalog.search_path_ids()
    tables = tuple(catalog.snapshot.all(Table))
    for schema_id in path:
        found = [
            entry
            for table in tables
            if table.schema_id == schema_id
            for entry in _constraints(table, name.name)
        ]
        if found:
            return found
    raise UndefinedObject(f'constraint "{name.name}" does not exist')


def _constraints(table: Table, name: str) -> Iterator[tuple[int, bool]]:
    """Yield (OID, is deferrable) of a table's constraints of one name."""
    if table.primary_name and table.primary_name == name:
        yield table.primary_id + 1, False
    for index in table.indexes:
        if index.constraint and index.name == name:
            yield index.constraint_id, index.deferrable
    for key in table.foreign_keys:
        if key.name == name:
            yield key.id, key.deferrable
    for check in table.checks:
        if check.name == name:
            yield check.id, False


def are_waiting(session: Session, table_id: int) -> bool:
    """Tell whether deferred checks wait that writing a table has left."""
    transaction = session.block.transaction
    return session.block.deferred.concern(table_id) or (
        transaction is not None
        and bool(keys_to_check(transaction, lambda check: check.table_id == table_id))
    )


async def check_waiting(session: Session, *, only_immediate: bool = False) -> None:
    """Run the checks that wait.

    All at COMMIT, or those that SET CONSTRAINTS made immediate.
    """
    await _check_keys(session, only_immediate=only_immediate, primary=True)
    deferred = session.block.deferred
    if len(deferred):
        context = await session.new_context((), None)
        chosen = (lambda key: not deferred.defers(key)) if only_immediate else None
        await run_deferred(deferred, context, chosen)
    await _check_keys(session, only_immediate=only_immediate, primary=False)


async def check_statement(session: Session) -> None:
    """Check the keys that a statement has left, but for the deferred ones."""
    transaction = session.block.transaction
    assert transaction is not None
    defer_keys(transaction)
    await _check_some(session, transaction, list(transaction.unchecked))


async def _check_keys(session: Session, *, only_immediate: bool, primary: bool) -> None:
    """Check waiting keys: primary ones before foreign keys, the others after, as PostgreSQL."""
    transaction = session.block.transaction
    if transaction is None:
        return
    defers = transaction.defers
    keys = keys_to_check(
        transaction,
        lambda check: (
            check.constraint.primary == primary
            and not (only_immediate and defers(check.constraint))
        ),
    )
    await _check_some(session, transaction, keys)


async def _check_some(session: Session, transaction: Transaction, keys: list[bytes]) -> None:
    """Check keys, letting other sessions run in between."""
    for start in range(0, len(keys), _KEYS_PER_SLICE):
        part = keys[start : start + _KEYS_PER_SLICE]
        try:
            session.node.transactions.check_keys(transaction, part)
        except UniqueViolation as error:
            # What was in order waits no more.
            failed = next(check for key in part if (check := waiting_check(transaction, key)))
            catalog = session.catalog()
            table = catalog.snapshot.table(failed.table_id)
            if table is not None:
                error.schema = catalog.schema_name(table.schema_id)
            raise
        await session.checkpoint()
