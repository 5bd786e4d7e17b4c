"""The written table of INSERT, UPDATE and DELETE: its checks, generated columns.

Index expressions, defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sql.binder.bound import (
    BoundExpr,
    ColumnCheck,
    ColumnVar,
    Const,
    OutputColumn,
    TargetTable,
)
from sql.binder.calls import call_by_name
from sql.binder.coerce import coerce_assignment, coerce_to_boolean, resolve_unknown
from sql.binder.dispatch import bind
from sql.binder.scope import Item, Scope
from sql.span import NO_SPAN
from sql.types.base import NO_TYPMOD
from sql.types.catalog import REGCLASS

if TYPE_CHECKING:
    from sql.ast.query import Expression
    from sql.binder.state import BindState
    from sql.catalog.descriptor import Column, Table
    from sql.span import Span


def table_item(
    table: Table, alias: str, columns: tuple[OutputColumn, ...], *, user_alias: bool = False
) -> Item:
    """Make a namespace item over columns parallel to ``table.columns``."""
    names: list[str] = []
    expressions: list[BoundExpr] = []
    for column, output in zip(table.columns, columns, strict=True):
        if not column.hidden and not column.dropped:
            names.append(column.name)
            expressions.append(ColumnVar(output.id, output.type, output.typmod, column.name, alias))
    item = Item(alias, names, expressions, relation_id=table.id, has_user_alias=user_alias)
    item.table_name = table.name
    return item


def row_columns(state: BindState, table: Table) -> tuple[OutputColumn, ...]:
    """Make fresh columns parallel to ``table.columns``."""
    if any(c.collation for c in table.columns):
        state.collated = True
    return tuple(
        state.new_column(c.name, c.type, c.typmod, table.id, c.number) for c in table.columns
    )


def target_table(state: BindState, table: Table, *, writes_row: bool) -> TargetTable:
    """Bind what goes with writing to the table; DELETE (``writes_row`` False) needs no checks."""
    columns = row_columns(state, table)
    state.relations[table.id] = None
    needs_generated = writes_row and any(c.generated is not None for c in table.columns)
    complex_indexes = [
        i
        for i in table.indexes
        if i.predicate is not None or any(k.expression is not None for k in i.keys)
    ]
    if not ((writes_row and table.checks) or needs_generated or complex_indexes):
        return TargetTable(table, columns)
    scope = Scope()
    scope.items = scope.all_items = [table_item(table, table.name, columns)]
    trackers, state.trackers = state.trackers, []
    checks: tuple[ColumnCheck, ...] = ()
    generated: tuple[tuple[int, BoundExpr], ...] = ()
    if writes_row:
        checks = tuple(
            ColumnCheck(
                c.name, coerce_to_boolean(state, bind(state, c.expression, scope), "CHECK"), c.id
            )
            for c in table.checks
        )
        generated = tuple(
            (c.position, _generated(state, c, c.generated, scope))
            for c in table.columns
            if c.generated is not None and not c.dropped
        )
    expressions: dict[int, tuple[BoundExpr, ...]] = {}
    predicates: dict[int, BoundExpr] = {}
    for index in complex_indexes:
        if any(k.expression is not None for k in index.keys):
            expressions[index.index_id] = tuple(
                _column_key(table, columns, k.position)
                if k.expression is None
                else resolve_unknown(state, bind(state, k.expression, scope))
                for k in index.keys
            )
        if index.predicate is not None:
            predicates[index.index_id] = coerce_to_boolean(
                state, bind(state, index.predicate, scope), "WHERE"
            )
    state.trackers = trackers
    return TargetTable(table, columns, checks, generated, expressions, predicates)


def _generated(state: BindState, column: Column, expression: Expression, scope: Scope) -> BoundExpr:
    bound = bind(state, expression, scope)
    return coerce_assignment(state, bound, column.type, column.typmod, column.name)


def _column_key(table: Table, columns: tuple[OutputColumn, ...], position: int) -> BoundExpr:
    output = columns[position]
    return ColumnVar(output.id, output.type, output.typmod, output.name, table.name)


def default_value(state: BindState, column: Column, span: Span = NO_SPAN) -> BoundExpr:
    """Bind a column's default: its expression, its sequence's next value, or NULL."""
    if column.default is not None:
        scope = Scope()
        trackers, state.trackers = state.trackers, []
        bound = bind(state, column.default, scope)
        state.trackers = trackers
        return coerce_assignment(state, bound, column.type, column.typmod, column.name)
    if column.sequence_id and (column.identity or column.default is None):
        sequence = Const(column.sequence_id, REGCLASS)
        call = call_by_name(state, "nextval", (sequence,), span)
        assert call is not None, "nextval"
        return coerce_assignment(state, call, column.type, NO_TYPMOD, column.name)
    return Const(None, column.type, column.typmod)
