"""The row work of schema changes: rewriting tables, filling indexes, checking existing rows.

All of it runs inside the transaction: reads see what earlier statements wrote, writes go to the
buffer. Rewrites and checks are ordinary plans made from small ASTs (``INSERT ... SELECT``, ``SELECT
... WHERE NOT``), so types, casts and errors are those of the statements.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from nodedb.schema_change.backfill import is_duplicated
from nodedb.schema_change.progress import SCANNING_TABLE, Progress
from nodedb.session.prepared import Portal, PreparedStatement
from nodedb.storage.row_codec import row_codec
from nodedb.txn.deferred import keys_to_check
from sql.ast import query as q
from sql.binder import bind_expression
from sql.binder.bound import BoundExpr, ColumnVar, Const, OutputColumn
from sql.errors import CheckViolation, ForeignKeyViolation, NotNullViolation, UniqueViolation
from sql.functions.context import ExecutionContext
from sql.planner.codegen import batch_function
from sql.planner.modify import verify_rows_function
from sql.planner.tables import bind_defaults, bind_target, table_access
from sql.planner.walk import is_volatile
from sql.types.base import Row
from sql.types.io import text_output

if TYPE_CHECKING:
    from nodedb.session.session import Session
    from nodedb.txn.store import StatementStore
    from sql.catalog.descriptor import Check, Column, ForeignKey, Index, Table


async def missing_value(session: Session, column: Column) -> bytes | None:
    """Evaluate a default that is the same for all rows, in the stored form.

    None when it is volatile.
    """
    assert column.default is not None
    bound = bind_expression(
        column.default,
        (),
        session.catalog(),
        target_type=column.type,
        target_typmod=column.typmod,
        purpose="default",
    )
    if is_volatile(bound):
        return None
    value = await session.evaluate(bound)
    return b"" if value is None else row_codec([column.type], [None]).encode((value,))


async def _scan(session: Session, table: Table) -> Any:
    """Return a cursor over a table's rows as this transaction's next statement sees them."""
    session.end_command()
    context = await session.new_context((), None)
    return context.store.scan(table), context


RowsConverter = Callable[[list[Row], ExecutionContext], Awaitable[Sequence[Row]]]


def _rows_converter(
    session: Session, old: Table, new: Table, conversions: Mapping[int, q.Expression]
) -> RowsConverter:
    """Compile what turns rows of ``old`` into verified rows of ``new``."""
    catalog = session.catalog()
    old_columns = tuple(OutputColumn(c.position, c.name, c.type, c.typmod) for c in old.columns)
    added = tuple(c.position for c in new.columns if c.position >= len(old.columns))
    defaults = dict(zip(added, bind_defaults(new, added, catalog), strict=True))
    expressions: list[BoundExpr] = []
    for column in new.columns:
        conversion = conversions.get(column.position)
        if conversion is not None:
            expressions.append(
                bind_expression(
                    conversion,
                    old_columns,
                    catalog,
                    target_type=column.type,
                    target_typmod=column.typmod,
                    purpose="using",
                    relation=old.name,
                    column=column.name,
                    collations=[c.collation for c in old.columns],
                )
            )
        elif column.dropped:
            expressions.append(Const(None, column.type))
        elif column.position < len(old.columns):
            expressions.append(ColumnVar(column.position, column.type, column.typmod))
        else:
            expressions.append(defaults[column.position])
    compute = batch_function([], expressions, range(len(old.columns)), None)
    checked = tuple(check for check in new.checks if check.validated)
    verify = verify_rows_function(
        bind_target(msgspec.structs.replace(new, checks=checked), catalog), catalog
    )

    async def convert(rows: list[Row], context: ExecutionContext) -> Sequence[Row]:
        made = compute.call(rows, context)
        verified: Sequence[Row] = verify.call(await made if compute.is_async else made, context)
        return verified

    return convert


async def rewrite_table(
    session: Session, old: Table, new: Table, conversions: Mapping[int, q.Expression]
) -> None:
    """Write every row of ``old`` in the form of ``new``, under its storage id."""
    cursor, context = await _scan(session, old)
    convert = _rows_converter(session, old, new, conversions)
    access = table_access(session.catalog(), new)
    while batch := await cursor.next_batch():
        try:
            rows = await convert(batch, context)
        except NotNullViolation as error:
            raise _contains_nulls(error, new) from error
        except CheckViolation as error:
            raise _violated_by_some_row(error, new) from error
        try:
            await context.store.insert(access, rows)
        except UniqueViolation as error:
            raise _is_duplicated(session, error, new) from error
        await session.checkpoint()
    _check_keys(session, new)
    session.end_command()


def _check_keys(session: Session, table: Table) -> None:
    """Check a rewritten table's keys, deferred ones too: its indexes are new."""
    transaction = session.block.ensure_transaction(session.query_start)
    try:
        session.node.transactions.check_keys(
            transaction, keys_to_check(transaction, lambda check: check.table_id == table.id)
        )
    except UniqueViolation as error:
        raise _is_duplicated(session, error, table) from error


def _is_duplicated(session: Session, error: UniqueViolation, table: Table) -> UniqueViolation:
    return is_duplicated(error, table, session.catalog().schema_name(table.schema_id))


def _contains_nulls(error: NotNullViolation, table: Table) -> NotNullViolation:
    """Say it as ALTER TABLE does: the fault is in the table, not in a new row."""
    return NotNullViolation(
        f'column "{error.column}" of relation "{table.name}" contains null values',
        schema=error.schema,
        table=table.name,
        column=error.column,
    )


def _violated_by_some_row(error: CheckViolation, table: Table) -> CheckViolation:
    return CheckViolation(
        f'check constraint "{error.constraint}" of relation "{table.name}" is violated by some row',
        schema=error.schema,
        table=table.name,
        constraint=error.constraint,
    )


async def backfill_index(
    session: Session, table: Table, index: Index, command: str = "CREATE INDEX"
) -> None:
    """Make the entries of one index for all rows; ``command`` is for the progress view."""
    changes = session.node.schema_changes
    progress = Progress(session.process_id, table.id, index.id, command)
    changes.show(progress)
    try:
        await _backfill(session, table, index, progress)
    finally:
        changes.hide(progress)


async def _backfill(session: Session, table: Table, index: Index, progress: Progress) -> None:
    cursor, context = await _scan(session, table)
    access = table_access(session.catalog(), table)
    only = msgspec.structs.replace(table, indexes=(index,))
    store: StatementStore = context.store
    progress.begin_phase(SCANNING_TABLE)
    while batch := await cursor.next_batch():
        try:
            await store.add_index_entries(access._replace(table=only), index.index_id, batch)
        except UniqueViolation as error:
            raise _is_duplicated(session, error, table) from error
        progress.row_count += len(batch)
        await session.checkpoint()
    session.end_command()


async def _first_row(session: Session, table: Table, where: q.Expression) -> Row | None:
    """Return some row for which a condition is true."""
    return await _first_of(
        session,
        q.Select(
            targets=(q.Target(q.Star()),),
            from_items=(_table_ref(session, table),),
            where=where,
            limit=q.IntegerLiteral(1),
        ),
    )


async def _first_of(session: Session, select: q.Select) -> Row | None:
    """Run a query made here, up to its first row."""
    session.end_command()
    prepared = PreparedStatement("", "", select, ())
    session.plan_prepared(prepared)
    portal = Portal("", prepared, (), ())
    await session.open_portal(portal)
    execution: Any = portal.execution
    rows = await execution.next_batch()
    execution.close()
    return rows[0] if rows else None


async def validate_check(session: Session, table: Table, check: Check) -> None:
    """Raise CheckViolation (23514) if a row makes the check false."""
    if await _first_row(session, table, q.Not(check.expression)) is not None:
        raise CheckViolation(
            f'check constraint "{check.name}" of relation "{table.name}" is violated by some row',
            schema=session.catalog().schema_name(table.schema_id),
            table=table.name,
            constraint=check.name,
        )


async def validate_not_null(session: Session, table: Table, column: Column) -> None:
    """Raise NotNullViolation (23502) if a row holds NULL there."""
    # Not by a query: the planner believes the descriptor, which says NOT NULL already.
    cursor, _ = await _scan(session, table)
    while batch := await cursor.next_batch():
        if any(row[column.position] is None for row in batch):
            raise NotNullViolation(
                f'column "{column.name}" of relation "{table.name}" contains null values',
                schema=session.catalog().schema_name(table.schema_id),
                table=table.name,
                column=column.name,
            )
        await session.checkpoint()


async def validate_foreign_key(session: Session, table: Table, foreign_key: ForeignKey) -> None:
    """Raise ForeignKeyViolation (23503) if a row refers to nothing.

    A left join that finds no parent.
    """
    catalog = session.catalog()
    parent = catalog.snapshot.table(foreign_key.referenced_table_id)
    assert parent is not None
    pairs = [
        (table.columns[own].name, parent.columns[other].name)
        for own, other in zip(foreign_key.columns, foreign_key.referenced_columns, strict=True)
    ]
    equal = q.OperatorName("=")
    condition = q.And(
        tuple(q.BinaryOp(equal, q.ColumnRef(("p", b)), q.ColumnRef(("c", a))) for a, b in pairs)
    )
    where: tuple[q.Expression, ...] = (q.IsNull(q.ColumnRef(("p", pairs[0][1])), negated=False),)
    where += tuple(q.IsNull(q.ColumnRef(("c", a)), negated=True) for a, _ in pairs)
    join = q.JoinRef(
        kind="left",
        left=_table_ref(session, table, "c"),
        right=_table_ref(session, parent, "p"),
        condition=condition,
    )
    row = await _first_of(
        session,
        q.Select(
            targets=tuple(q.Target(q.ColumnRef(("c", a))) for a, _ in pairs),
            from_items=(join,),
            where=q.And(where),
            limit=q.IntegerLiteral(1),
        ),
    )
    if row is not None:
        names = ", ".join(a for a, _ in pairs)
        texts = ", ".join(
            text_output(table.columns[position].type, session.settings.format)(value)
            for position, value in zip(foreign_key.columns, row, strict=True)
        )
        raise ForeignKeyViolation(
            f'insert or update on table "{table.name}" violates '
            f'foreign key constraint "{foreign_key.name}"',
            detail=f'Key ({names})=({texts}) is not present in table "{parent.name}".',
            schema=catalog.schema_name(table.schema_id),
            table=table.name,
            constraint=foreign_key.name,
        )


def _table_ref(session: Session, table: Table, alias: str = "") -> q.TableRef:
    name = q.QualifiedName(table.name, session.catalog().schema_name(table.schema_id))
    return q.TableRef(name, alias=q.Alias(alias) if alias else None, relation_id=table.id)


async def run_query_into(session: Session, query: q.Query, table: Table) -> int:
    """Insert a query's rows into a new table; returns how many."""
    name = q.QualifiedName(table.name, session.catalog().schema_name(table.schema_id))
    insert = q.Insert(table=name, columns=(), source=query)
    prepared = PreparedStatement("", "", insert, ())
    session.plan_prepared(prepared)
    portal = Portal("", prepared, (), ())
    await session.run_portal(portal)
    return session.last_affected
