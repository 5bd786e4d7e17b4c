"""Comparisons: BETWEEN, LIKE, IN, ANY and ALL over arrays, IS DISTINCT FROM, NULLIF, rows.

Source: PostgreSQL docs, "Comparison Functions and Operators", "Row and Array Comparisons".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.ast.query import (
    Between,
    BinaryOp,
    Expression,
    InList,
    IsDistinctFrom,
    Like,
    NullIf,
    OperatorName,
    QuantifiedComparison,
    RowConstructor,
    ScalarSubquery,
)
from sql.binder.bound import (
    ArrayExpr,
    BoolExpr,
    BoundExpr,
    Const,
    DistinctExpr,
    FieldExpr,
    NullIfExpr,
    NullTestExpr,
    RowCompareExpr,
    RowExpr,
    ScalarArrayExpr,
    SubqueryExpr,
)
from sql.binder.coerce import coerce, coerce_to_common
from sql.binder.dispatch import HANDLERS, bind
from sql.binder.operators import EQUALS, NOT_EQUALS, call_operator, find_operator, make_operator
from sql.binder.tree import location, walk
from sql.errors import (
    DatatypeMismatch,
    FeatureNotSupported,
    SqlSyntaxError,
    UndefinedFunction,
    WrongObjectType,
)
from sql.types.catalog import BOOL, RECORD, UNKNOWN

if TYPE_CHECKING:
    from sql.binder.scope import Scope
    from sql.binder.state import BindState
    from sql.functions.registry import Operator
    from sql.span import Span
    from sql.types.base import SqlType

_LIKE: Final = {"like": "~~", "ilike": "~~*", "similar": "~"}
_ROW_OPERATORS: Final = frozenset(("=", "<>", "<", "<=", ">", ">="))
_OPEN: Final = {"<": "<", "<=": "<", ">": ">", ">=": ">"}


def _compare(
    state: BindState, name: OperatorName, left: BoundExpr, right: BoundExpr, span: Span
) -> BoundExpr:
    if isinstance(left, RowExpr) and isinstance(right, RowExpr):
        return compare_rows(state, name, left.items, right.items, span)
    return make_operator(state, name, left, right, span)


def _between(state: BindState, node: Between, scope: Scope) -> BoundExpr:
    def inside(low: Expression, high: Expression) -> BoundExpr:
        # The operand is bound twice, as if it were written twice.
        first = _compare(
            state,
            OperatorName("<" if node.negated else ">="),
            bind(state, node.operand, scope),
            bind(state, low, scope),
            node.span,
        )
        second = _compare(
            state,
            OperatorName(">" if node.negated else "<="),
            bind(state, node.operand, scope),
            bind(state, high, scope),
            node.span,
        )
        return BoolExpr("or" if node.negated else "and", (first, second), BOOL, span=node.span)

    plain = inside(node.low, node.high)
    if not node.symmetric:
        return plain
    swapped = inside(node.high, node.low)
    return BoolExpr("and" if node.negated else "or", (plain, swapped), BOOL, span=node.span)


def _like(state: BindState, node: Like, scope: Scope) -> BoundExpr:
    from sql.binder.calls import call_by_name  # noqa: PLC0415

    operand = bind(state, node.operand, scope)
    pattern = bind(state, node.pattern, scope)
    function = "similar_to_escape" if node.kind == "similar" else "like_escape"
    if node.escape is not None or node.kind == "similar":
        args = [pattern]
        if node.escape is not None:
            args.append(bind(state, node.escape, scope))
        called = call_by_name(state, function, tuple(args), node.span)
        if called is None:
            raise FeatureNotSupported(f"function {function} is not supported", span=node.span)
        pattern = called
    name = ("!" if node.negated else "") + _LIKE[node.kind]
    return make_operator(state, OperatorName(name), operand, pattern, node.span)


def _is_distinct(state: BindState, node: IsDistinctFrom, scope: Scope) -> BoundExpr:
    left = bind(state, node.left, scope)
    right = bind(state, node.right, scope)
    for side, other in ((left, right), (right, left)):
        if type(side) is Const and side.value is None and side.type is UNKNOWN:
            return NullTestExpr(other, not node.negated, BOOL, other.type is RECORD, span=node.span)
    if isinstance(left, RowExpr) and isinstance(right, RowExpr):
        _check_row_lengths(left.items, right.items, node.span)
        parts = tuple(
            _distinct(state, a, b, negated=node.negated, span=node.span)
            for a, b in zip(left.items, right.items, strict=True)
        )
        return BoolExpr("and" if node.negated else "or", parts, BOOL, span=node.span)
    return _distinct(state, left, right, negated=node.negated, span=node.span)


def _distinct(
    state: BindState, left: BoundExpr, right: BoundExpr, *, negated: bool, span: Span
) -> BoundExpr:
    operator, left, right = coerced_pair(state, EQUALS, left, right, span)
    return DistinctExpr(left, right, operator, negated, BOOL, span=span)


def coerced_pair(
    state: BindState, name: OperatorName, left: BoundExpr, right: BoundExpr, span: Span
) -> tuple[Operator, BoundExpr, BoundExpr]:
    """Choose an operator for two operands and coerce them to its types."""
    operator = find_operator(state, name, left.type, right.type, span)
    assert operator.left is not None
    declared: tuple[SqlType, ...] = (operator.left, operator.right)
    types = state.resolver.polymorphic_types(declared, (left.type, right.type))
    assert types is not None
    first, second = (
        e if t is RECORD else coerce(state, e, t) for e, t in zip((left, right), types, strict=True)
    )
    if operator.function.volatility == "volatile":
        state.volatile = True
    return operator, first, second


def _null_if(state: BindState, node: NullIf, scope: Scope) -> BoundExpr:
    left = bind(state, node.left, scope)
    right = bind(state, node.right, scope)
    operator, first, second = coerced_pair(state, EQUALS, left, right, node.span)
    if operator.result is not BOOL:
        raise DatatypeMismatch("NULLIF requires = operator to yield boolean", span=node.span)
    comparison = call_operator(state, operator, first, second, node.span)
    return NullIfExpr(first, comparison, first.type, first.typmod, node.span)


# --- lists and arrays ---


def _in_list(state: BindState, node: InList, scope: Scope) -> BoundExpr:
    left = bind(state, node.operand, scope)
    items = [bind(state, item, scope) for item in node.items]
    name = NOT_EQUALS if node.negated else EQUALS
    parts: list[BoundExpr] = []
    plain = [i for i in items if not _has_columns(i)]
    if len(plain) > 1 and not isinstance(left, RowExpr):
        array = _list_array(state, left, plain)
        if array is not None:
            parts.append(
                _scalar_array(state, name, left, array, node.span, use_any=not node.negated)
            )
            items = [i for i in items if _has_columns(i)]
    for item in items:
        operand = bind(state, node.operand, scope) if parts else left
        parts.append(_compare(state, name, operand, item, node.span))
    if len(parts) == 1:
        return parts[0]
    return BoolExpr("and" if node.negated else "or", tuple(parts), BOOL, span=node.span)


def _has_columns(expression: BoundExpr) -> bool:
    from sql.binder.bound import ColumnVar  # noqa: PLC0415

    return any(type(n) is ColumnVar for n in walk(expression))


def _list_array(state: BindState, left: BoundExpr, items: list[BoundExpr]) -> BoundExpr | None:
    common = state.resolver.common_type([left.type, *(i.type for i in items)])
    if common is None or common is RECORD or common.array is None:
        return None
    if not all(state.resolver.can_coerce(i.type, common, "implicit") for i in items):
        return None
    elements = tuple(coerce_to_common(state, i, common, "IN") for i in items)
    return ArrayExpr(elements, common.array, span=location(items[0]))


def _scalar_array(
    state: BindState,
    name: OperatorName,
    left: BoundExpr,
    array: BoundExpr,
    span: Span,
    *,
    use_any: bool,
) -> BoundExpr:
    if array.type is UNKNOWN:
        element: SqlType = UNKNOWN
    elif array.type.element is not None:
        element = array.type.element
    else:
        raise WrongObjectType("op ANY/ALL (array) requires array on right side", span=span)
    operator = find_operator(state, name, left.type, element, span)
    assert operator.left is not None
    if operator.result is not BOOL:
        raise WrongObjectType("op ANY/ALL (array) requires operator to yield boolean", span=span)
    if operator.function.returns_set:
        raise WrongObjectType("op ANY/ALL (array) requires operator not to return a set", span=span)
    actual = (left.type, element)
    types = state.resolver.polymorphic_types((operator.left, operator.right), actual)
    assert types is not None
    left = coerce(state, left, types[0])
    wanted = types[1].array
    if wanted is None:
        raise UndefinedFunction(
            f"could not find array type for data type {types[1].display_name}", span=span
        )
    array = coerce(state, array, wanted)
    return ScalarArrayExpr(operator, left, array, use_any, BOOL, span=span)


def _quantified(state: BindState, node: QuantifiedComparison, scope: Scope) -> BoundExpr:
    left = bind(state, node.left, scope)
    array = bind(state, node.array, scope)
    use_any = node.quantifier == "any"
    return _scalar_array(state, node.operator, left, array, node.span, use_any=use_any)


# --- rows ---


def bind_row_operator(state: BindState, node: BinaryOp, scope: Scope) -> BoundExpr | None:
    """Bind ``(a, b) op (c, d)`` or ``(a, b) op (query)``; None when the right side is no row."""
    right_node = node.right
    if type(right_node) not in (RowConstructor, ScalarSubquery):
        return None
    left = bind(state, node.left, scope)
    assert isinstance(left, RowExpr)
    if isinstance(right_node, ScalarSubquery):
        fields = bind_row_subquery(state, right_node, scope)
        if len(fields) < len(left.items):
            raise SqlSyntaxError("subquery has too few columns", span=node.span)
        if len(fields) > len(left.items):
            raise SqlSyntaxError("subquery has too many columns", span=node.span)
        return compare_rows(state, node.operator, left.items, fields, node.span)
    right = bind(state, right_node, scope)
    assert isinstance(right, RowExpr)
    return compare_rows(state, node.operator, left.items, right.items, node.span)


def bind_row_subquery(
    state: BindState, node: ScalarSubquery, scope: Scope
) -> tuple[BoundExpr, ...]:
    """Bind a sub-query of one row and several columns; returns the fields of that row."""
    if state.forbidden_subquery:
        raise FeatureNotSupported(state.forbidden_subquery, span=node.span)
    bound = state.bind_query(state, node.query, scope)
    if len(bound.columns) == 1:
        column = bound.columns[0]
        return (
            SubqueryExpr("scalar", bound.plan, column.type, typmod=column.typmod, span=node.span),
        )
    row = SubqueryExpr("scalar", bound.plan, RECORD, span=node.span)
    return tuple(
        FieldExpr(row, i, c.type, c.typmod, node.span) for i, c in enumerate(bound.columns)
    )


def _check_row_lengths(
    left: tuple[BoundExpr, ...], right: tuple[BoundExpr, ...], span: Span
) -> None:
    if len(left) != len(right):
        raise SqlSyntaxError("unequal number of entries in row expressions", span=span)
    if not left:
        raise FeatureNotSupported("cannot compare rows of zero length", span=span)


def compare_rows(
    state: BindState,
    name: OperatorName,
    left: tuple[BoundExpr, ...],
    right: tuple[BoundExpr, ...],
    span: Span,
) -> BoundExpr:
    """Compare two rows field by field; = and <> become AND and OR."""
    _check_row_lengths(left, right, span)
    symbol = name.name
    if len(left) == 1:
        return make_operator(state, name, left[0], right[0], span)
    if symbol not in _ROW_OPERATORS:
        find_operator(state, name, left[0].type, right[0].type, span)
        raise FeatureNotSupported(
            f"could not determine interpretation of row comparison operator {symbol}",
            span=span,
            hint="Row comparison operators must be associated with btree operator families.",
        )
    pairs = list(zip(left, right, strict=True))
    if symbol in ("=", "<>"):
        parts = tuple(make_operator(state, name, a, b, span) for a, b in pairs)
        return BoolExpr("and" if symbol == "=" else "or", parts, BOOL, span=span)
    less: list[Operator] = []
    equals: list[Operator] = []
    lefts: list[BoundExpr] = []
    rights: list[BoundExpr] = []
    for a, b in pairs:
        operator, first, second = coerced_pair(state, OperatorName(_OPEN[symbol]), a, b, span)
        less.append(operator)
        equals.append(find_operator(state, EQUALS, first.type, second.type, span))
        lefts.append(first)
        rights.append(second)
    return RowCompareExpr(
        symbol,  # type: ignore[arg-type]
        tuple(lefts),
        tuple(rights),
        tuple(equals),
        tuple(less),
        BOOL,
        span=span,
    )


HANDLERS.update(
    {
        Between: _between,
        Like: _like,
        IsDistinctFrom: _is_distinct,
        NullIf: _null_if,
        InList: _in_list,
        QuantifiedComparison: _quantified,
    }
)
