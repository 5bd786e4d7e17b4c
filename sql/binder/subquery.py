"""Sub-queries in expressions: scalar, EXISTS, ARRAY, IN, ANY and ALL.

Source: PostgreSQL docs, "Subquery Expressions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sql.ast.query import (
    ArraySubquery,
    Exists,
    Expression,
    InSubquery,
    OperatorName,
    QuantifiedSubquery,
    Query,
    ScalarSubquery,
)
from sql.binder.bound import (
    BoolExpr,
    BoundExpr,
    CallExpr,
    ColumnVar,
    OutputColumn,
    RowExpr,
    SubqueryExpr,
)
from sql.binder.comparison import compare_rows
from sql.binder.cte import forbid_recursion
from sql.binder.dispatch import HANDLERS, bind
from sql.binder.operators import EQUALS
from sql.binder.state import var_of
from sql.errors import (
    DatatypeMismatch,
    FeatureNotSupported,
    SqlSyntaxError,
    UndefinedObject,
)
from sql.types.catalog import BOOL

if TYPE_CHECKING:
    from sql.binder.scope import Scope
    from sql.binder.state import BindState, BoundQuery
    from sql.functions.registry import Operator
    from sql.span import Span


def _bind_query(state: BindState, query: Query, scope: Scope, span: Span) -> BoundQuery:
    if state.forbidden_subquery:
        raise FeatureNotSupported(state.forbidden_subquery, span=span)
    with forbid_recursion(scope, "a subquery"):
        return state.bind_query(state, query, scope)


def _scalar(state: BindState, node: ScalarSubquery, scope: Scope) -> BoundExpr:
    bound = _bind_query(state, node.query, scope, node.span)
    columns = bound.columns
    if not columns:
        raise SqlSyntaxError("subquery must return a column", span=node.span)
    state.subquery_names[id(node)] = columns[0].name
    if len(columns) > 1:
        raise SqlSyntaxError("subquery must return only one column", span=node.span)
    column = columns[0]
    return SubqueryExpr("scalar", bound.plan, column.type, typmod=column.typmod, span=node.span)


def _exists(state: BindState, node: Exists, scope: Scope) -> BoundExpr:
    bound = _bind_query(state, node.query, scope, node.span)
    return SubqueryExpr("exists", bound.plan, BOOL, span=node.span)


def _array(state: BindState, node: ArraySubquery, scope: Scope) -> BoundExpr:
    bound = _bind_query(state, node.query, scope, node.span)
    if len(bound.columns) != 1:
        raise SqlSyntaxError("subquery must return only one column", span=node.span)
    element = bound.columns[0].type
    array = element if element.element is not None else element.array
    if array is None:
        raise UndefinedObject(
            f"could not find array type for data type {element.display_name}", span=node.span
        )
    return SubqueryExpr("array", bound.plan, array, span=node.span)


def _in(state: BindState, node: InSubquery, scope: Scope) -> BoundExpr:
    tested = _quantify(state, node.operand, EQUALS, "any", node.query, scope, node.span)
    if node.negated:
        return BoolExpr("not", (tested,), BOOL, span=node.span)
    return tested


def _quantified(state: BindState, node: QuantifiedSubquery, scope: Scope) -> BoundExpr:
    return _quantify(state, node.left, node.operator, node.quantifier, node.query, scope, node.span)


def _quantify(
    state: BindState,
    operand: Expression,
    operator: OperatorName,
    quantifier: str,
    query: Query,
    scope: Scope,
    span: Span,
) -> BoundExpr:
    left = bind(state, operand, scope)
    bound = _bind_query(state, query, scope, span)
    lefts = left.items if isinstance(left, RowExpr) else (left,)
    if len(lefts) < len(bound.columns):
        raise SqlSyntaxError("subquery has too many columns", span=span)
    if len(lefts) > len(bound.columns):
        raise SqlSyntaxError("subquery has too few columns", span=span)
    rights = tuple(var_of(c) for c in bound.columns)
    test = compare_rows(state, operator, lefts, rights, span)
    if test.type is not BOOL:
        raise DatatypeMismatch(
            f"row comparison operator must yield type boolean, not type {test.type.display_name}",
            span=span,
        )
    pairs = _hashable_pairs(test, bound.columns) if quantifier == "any" else ()
    kind: Literal["any", "all"] = "any" if quantifier == "any" else "all"
    return SubqueryExpr(kind, bound.plan, BOOL, test, pairs, span=span)


def _hashable_pairs(
    test: BoundExpr, columns: tuple[OutputColumn, ...]
) -> tuple[tuple[BoundExpr, ColumnVar, Operator], ...]:
    """Return the test's equalities when it is nothing but default ones with plain columns."""
    ids = {c.id for c in columns}
    parts = test.operands if isinstance(test, BoolExpr) and test.kind == "and" else (test,)
    pairs: list[tuple[BoundExpr, ColumnVar, Operator]] = []
    for part in parts:
        if not isinstance(part, CallExpr) or part.operator is None or len(part.args) != 2:
            return ()
        outer, inner = part.args
        if part.operator.comparison != "=" or type(inner) is not ColumnVar:
            return ()
        if inner.id not in ids:
            return ()
        pairs.append((outer, inner, part.operator))
    return tuple(pairs)


HANDLERS.update(
    {
        ScalarSubquery: _scalar,
        Exists: _exists,
        ArraySubquery: _array,
        InSubquery: _in,
        QuantifiedSubquery: _quantified,
    }
)
