"""COPY FROM's way from fields to stored rows, a chunk at a time.

Fields become datums column by column, rows are completed by defaults, filtered by WHERE, verified
(generated columns, NOT NULL, CHECK) and inserted in batches. What fails in a chunk is done again
row by row, from the completed rows on, to name the line and the column as PostgreSQL's error
context does.

Foreign keys are checked once, when all rows are in, as PostgreSQL's triggers do.

Source: PostgreSQL docs, "COPY".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nodedb.session.copy_columns import FieldInput, column_input
from sql.ast.query import ColumnRef, Expression
from sql.ast.walk import walk
from sql.binder import bind_expression
from sql.binder.bound import BoundExpr, ColumnVar, Const, OutputColumn
from sql.errors import InvalidColumnReference, SqlError, UniqueViolation
from sql.executor.foreign_keys import ForeignKeyWork
from sql.planner.codegen import condition_function, row_function
from sql.planner.modify import verify_rows_function
from sql.planner.tables import bind_defaults, bind_target, table_access
from sql.types.io import FormatContext, binary_input, text_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.session.session import Session
    from sql.catalog.descriptor import Column, Table
    from sql.types.base import Row

ROWS_PER_INSERT: Final = 1000
_CONTEXT_CHARACTERS_MAX: Final = 100
_NOBODYS_FAULT: Final = ("40", "55", "57")
"""Classes of errors that no row has caused: deadlocks, lock timeouts, cancellations."""


class _NoTargets:
    """Cascades write other tables; inserts cause none."""

    def of_table(self, table: Table) -> Any:
        """Return nothing, ever."""
        raise AssertionError(table.name)

    def defaults(self, table: Table, columns: tuple[int, ...]) -> Any:
        """Return nothing, ever."""
        raise AssertionError((table.name, columns))


class RowSink:
    """Takes rows of the copied columns' datums and inserts them."""

    def __init__(
        self, session: Session, table: Table, columns: Sequence[Column], where: Expression | None
    ) -> None:
        catalog = session.catalog()
        self._session = session
        self._table = table
        self._access = table_access(catalog, table)
        given = [column.position for column in columns]
        self._is_whole = given == list(range(len(table.columns)))
        self._fill = _fill_function(table, columns, catalog)
        self._condition = None if where is None else _condition(table, where, catalog)
        self._verify = verify_rows_function(bind_target(table, catalog), catalog).call
        work = ForeignKeyWork.of(table, catalog, _NoTargets())
        self._changes = None if work is None or not work.outgoing else work.begin()
        self._context: Any = None
        self.count = 0

    async def begin(self, plan: Any) -> None:
        """Check privileges and take the table lock before any data flows."""
        self._context = await self._session.new_context((), plan)

    async def complete(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the whole rows, one for each: defaults are evaluated here, and only here."""
        if self._is_whole:
            return rows
        fill, context = self._fill, self._context
        complete = fill.call
        if fill.is_async:
            return [await complete(row, context) for row in rows]
        return [complete(row, context) for row in rows]

    async def insert(self, rows: Sequence[Row]) -> None:
        """Insert whole rows; of several, an error may leave some in."""
        context, condition, verify = self._context, self._condition, self._verify
        if condition is not None:
            check = condition.call
            if condition.is_async:
                rows = [row for row in rows if await check(row, context)]
            else:
                rows = [row for row in rows if check(row, context)]
        verified: Sequence[Row] = verify(rows, context)
        store = context.store
        for start in range(0, len(verified), ROWS_PER_INSERT):
            try:
                await store.insert(self._access, verified[start : start + ROWS_PER_INSERT])
            except UniqueViolation as error:
                error.schema = self._session.catalog().schema_name(self._table.schema_id)
                raise
            await self._session.checkpoint()
        if self._changes is not None:
            self._changes.inserted(verified)
        self.count += len(verified)

    async def finish(self) -> None:
        """All rows are in: check deferrable keys, then the foreign keys."""
        try:
            self._session.end_command()
        except UniqueViolation as error:
            error.schema = self._session.catalog().schema_name(self._table.schema_id)
            raise
        if self._changes is not None:
            context = await self._session.new_context((), None)
            await self._changes.work.finish(self._changes, context)


def _fill_function(table: Table, columns: Sequence[Column], catalog: Any) -> Any:
    """Compile ``f(datums, context)``: the whole row, with defaults for what the data lacks."""
    given = {column.position: number for number, column in enumerate(columns)}
    lacking = tuple(
        c.position
        for c in table.columns
        if c.position not in given and not c.dropped and c.generated is None
    )
    defaults = dict(zip(lacking, bind_defaults(table, lacking, catalog), strict=True))
    expressions: list[BoundExpr] = []
    for column in table.columns:
        if column.position in given:
            expressions.append(ColumnVar(given[column.position], column.type, column.typmod))
        else:
            expressions.append(defaults.get(column.position, Const(None, column.type)))
    return row_function(expressions, {n: f"row[{n}]" for n in range(len(columns))}, None)


def _condition(table: Table, where: Expression, catalog: Any) -> Any:
    """Compile ``f(row, context)`` of COPY ... WHERE over the table's whole row."""
    columns = tuple(
        OutputColumn(c.position, c.name, c.type, c.typmod)
        for c in table.columns
        if not c.dropped and not c.hidden
    )
    bound = bind_expression(
        where,
        columns,
        catalog,
        purpose="copy",
        relation=table.name,
        collations=[c.collation for c in table.columns if not c.dropped and not c.hidden],
    )
    _refuse_generated(table, where)
    return condition_function(
        bound, {c.position: f"row[{c.position}]" for c in table.columns}, None
    )


def _refuse_generated(table: Table, expression: Expression) -> None:
    for node in walk(expression):
        column = table.column_by_name.get(node.parts[-1]) if isinstance(node, ColumnRef) else None
        if column is not None and column.generated is not None:
            raise InvalidColumnReference(
                "generated columns are not supported in COPY FROM WHERE conditions",
                detail=f'Column "{column.name}" is a generated column.',
            )


class ChunkReader:
    """Turns decoded rows of fields into rows of datums and feeds a sink."""

    def __init__(
        self,
        session: Session,
        sink: RowSink,
        columns: Sequence[Column],
        relation: str,
        *,
        binary: bool,
    ) -> None:
        context = session.settings.format
        self._session = session
        self._sink = sink
        self._columns = columns
        self._relation = relation
        self._binary = binary
        self._fields: list[FieldInput]
        if binary:
            self._fields = [binary_input(c.type, context) for c in columns]
        else:
            self._fields = [_field_input(c, context) for c in columns]
        self._inputs = [
            column_input(None if binary else c, field)
            for c, field in zip(columns, self._fields, strict=True)
        ]

    async def take(self, rows: Sequence[Sequence[Any]], lines: Sequence[int]) -> None:
        """Convert and insert the rows that came from these lines."""
        if not rows:
            return
        session, sink = self._session, self._sink
        transaction = session.block.transaction
        assert transaction is not None
        try:
            values = self._convert(rows)
        except SqlError:
            for row, line in zip(rows, lines, strict=True):
                self._convert_one(row, line)
            raise
        filled = await sink.complete(values)
        mark = transaction.mark()
        try:
            await sink.insert(filled)
        except SqlError as error:
            if error.sqlstate[:2] in _NOBODYS_FAULT:
                raise
        else:
            return
        session.node.transactions.rollback_to(transaction, mark, release_locks=False)
        for row, fields, line in zip(filled, rows, lines, strict=True):
            try:
                await sink.insert((row,))
            except SqlError as error:
                where = f"COPY {self._relation}, line {line}"
                if not self._binary and not isinstance(error, UniqueViolation):
                    where += f': "{_shortened(_as_text(fields))}"'
                error.where = error.where or where
                raise

    def _convert(self, rows: Sequence[Sequence[Any]]) -> Sequence[Row]:
        if not self._inputs:
            return [()] * len(rows)
        columns = zip(*rows, strict=True)
        made = [read(fields) for read, fields in zip(self._inputs, columns, strict=True)]
        return list(zip(*made, strict=True))

    def _convert_one(self, row: Sequence[Any], line: int) -> None:
        """Convert one row's fields; an error learns where they stood."""
        for column, read, field in zip(self._columns, self._fields, row, strict=True):
            try:
                if field is not None:
                    read(field)
            except SqlError as error:
                shown = "" if self._binary else f': "{_shortened(field)}"'
                error.where = (
                    error.where
                    or f"COPY {self._relation}, line {line}, column {column.name}{shown}"
                )
                raise


def _as_text(row: Sequence[str | None]) -> str:
    return "\t".join("\\N" if field is None else field for field in row)


def _shortened(text: str) -> str:
    return text if len(text) <= _CONTEXT_CHARACTERS_MAX else text[:_CONTEXT_CHARACTERS_MAX] + "..."


def _field_input(column: Column, context: FormatContext) -> FieldInput:
    convert, typmod = text_input(column.type, context), column.typmod
    return lambda text: convert(text, typmod)
