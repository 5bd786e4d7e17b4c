"""Binding of what DDL stores.

Expressions over one table, views, and queries whose columns make a table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nodedb.catalog.ddl.analyzed import analyzed
from sql.ast.query import NullLiteral, StringLiteral, TypeCast, TypeName
from sql.binder.bound import OutputColumn
from sql.binder.statement import bind_expression, bind_statement
from sql.binder.view import qualify_view_query
from sql.catalog.descriptor import Column, ViewColumn
from sql.types.base import NO_TYPMOD
from sql.types.catalog import TEXT

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.query import Expression, Query
    from sql.binder.bound import BoundExpr


class BoundView(NamedTuple):
    """A query made fit for storing: names qualified and ``*`` expanded.

    ``depends_on`` are (relation id, column position or -1 for the relation as such).
    """

    query: Query
    columns: tuple[ViewColumn, ...]
    depends_on: tuple[tuple[int, int], ...]


def bind_over(
    env: DdlEnvironment,
    expression: Expression,
    columns: tuple[Column, ...],
    *,
    relation: str,
    purpose: str,
    target: Column | None = None,
) -> BoundExpr:
    """Bind an expression over a table's columns, coerced to ``target`` if given.

    ``purpose`` is default, check, generated, index, predicate or using: it selects the binder's
    refusals.
    """
    return bind_expression(
        expression,
        [
            OutputColumn(number, column.name, column.type, column.typmod)
            for number, column in enumerate(columns)
        ],
        env.catalog,
        target_type=None if target is None else target.type,
        target_typmod=NO_TYPMOD if target is None else target.typmod,
        purpose=purpose,
        relation=relation,
        column="" if target is None else target.name,
        collations=[column.collation for column in columns],
    )


def _columns(columns: tuple[OutputColumn, ...]) -> tuple[ViewColumn, ...]:
    return tuple(ViewColumn(column.name, column.type.oid, column.typmod) for column in columns)


def _analyzed(expression: Expression, bound: BoundExpr) -> Expression:
    """Return a view's expression with the types that binding found; bare literals get theirs."""
    shown = analyzed(expression, bound)
    if isinstance(shown, (StringLiteral, NullLiteral)) and bound.type is TEXT:
        return TypeCast(shown, TypeName(TEXT.name))
    return shown


def bind_view(env: DdlEnvironment, query: Query) -> BoundView:
    """Bind a view's query and make it fit for storing."""
    stored, columns, depends_on = qualify_view_query(query, env.catalog, analyze=_analyzed)
    return BoundView(stored, _columns(columns), depends_on)


def query_columns(env: DdlEnvironment, query: Query) -> tuple[ViewColumn, ...]:
    """Bind a query and return its output columns."""
    return _columns(bind_statement(query, env.catalog).columns)
