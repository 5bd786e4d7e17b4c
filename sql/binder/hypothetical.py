"""Hypothetical-set aggregates, as counts: ``rank(x) WITHIN GROUP (ORDER BY k)`` and its kin.

Where a row with the direct arguments would stand follows from how many rows sort before it, so the
call is rewritten to ``count`` with FILTER and needs no state of its own.

Source: PostgreSQL docs, "Aggregate Functions": "Hypothetical-Set Aggregate Functions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.ast.query import (
    And,
    BinaryOp,
    Case,
    Expression,
    FunctionCall,
    IntegerLiteral,
    IsDistinctFrom,
    IsNull,
    OperatorName,
    Or,
    RowConstructor,
    SortKey,
    TypeCast,
    TypeName,
    WhenClause,
)
from sql.binder.calls import bind_arguments
from sql.binder.dispatch import bind
from sql.errors import FeatureNotSupported, UndefinedFunction

if TYPE_CHECKING:
    from sql.binder.bound import BoundExpr
    from sql.binder.scope import Scope
    from sql.binder.state import BindState

HYPOTHETICAL: Final = frozenset(("rank", "dense_rank", "percent_rank", "cume_dist"))


def bind_hypothetical(state: BindState, node: FunctionCall, scope: Scope) -> BoundExpr:
    """Bind one call; 42883 unless there are as many direct arguments as sort keys."""
    name = node.name[-1]
    if node.over is not None:
        raise FeatureNotSupported(
            f"OVER is not supported for ordered-set aggregate {name}", span=node.span
        )
    if len(node.args) != len(node.within_group):
        keys = tuple(key.expression for key in node.within_group)
        types = [a.type.display_name for a in bind_arguments(state, node.args + keys, scope)]
        raise UndefinedFunction(
            f"function {name}({', '.join(types)}) does not exist",
            span=node.span,
            hint=f"To use the hypothetical-set aggregate {name}, the number of hypothetical "
            f"direct arguments (here {len(node.args)}) must match the number of ordering columns "
            f"(here {len(keys)}).",
        )
    return bind(state, _rewrite(node, name), scope)


def _rewrite(node: FunctionCall, name: str) -> Expression:
    before = _before(node)
    one = IntegerLiteral(1, node.span)
    if name == "rank":
        return _operator(_count(node, before), "+", one)
    if name == "dense_rank":
        keys = RowConstructor(
            tuple(k.expression for k in node.within_group), explicit=True, span=node.span
        )
        return _operator(_count(node, before, keys), "+", one)
    rows = _count(node, None)
    if name == "percent_rank":
        share = _operator(_float(_count(node, before)), "/", _float(rows))
        zero = _float(IntegerLiteral(0, node.span))
        return Case(rows, (WhenClause(IntegerLiteral(0, node.span), zero, node.span),), share)
    not_after = Or((before, _equal(node, len(node.args))), node.span)
    count = _operator(_count(node, not_after), "+", one)
    return _operator(_float(count), "/", _float(_operator(rows, "+", one)))


def _operator(left: Expression, name: str, right: Expression) -> Expression:
    return BinaryOp(OperatorName(name), left, right, left.span)


def _float(operand: Expression) -> Expression:
    return TypeCast(operand, TypeName("float8", "pg_catalog"), operand.span)


def _count(
    node: FunctionCall, condition: Expression | None, distinct: Expression | None = None
) -> Expression:
    conditions = tuple(c for c in (node.filter, condition) if c is not None)
    combined = conditions[0] if len(conditions) == 1 else And(conditions, node.span)
    return FunctionCall(
        ("pg_catalog", "count"),
        () if distinct is None else (distinct,),
        star=distinct is None,
        distinct=distinct is not None,
        filter=combined if conditions else None,
        span=node.span,
    )


def _equal(node: FunctionCall, count: int) -> Expression:
    """Tell whether a row ties with the hypothetical one in the first ``count`` keys."""
    tests = tuple(
        IsDistinctFrom(key.expression, value, negated=True, span=node.span)
        for key, value in zip(node.within_group[:count], node.args, strict=False)
    )
    return tests[0] if len(tests) == 1 else And(tests, node.span)


def _before(node: FunctionCall) -> Expression:
    """Tell whether a row sorts before the hypothetical one."""
    choices: list[Expression] = []
    for index, (key, value) in enumerate(zip(node.within_group, node.args, strict=True)):
        test = _key_before(key, value)
        choices.append(And((_equal(node, index), test), node.span) if index else test)
    return choices[0] if len(choices) == 1 else Or(tuple(choices), node.span)


def _key_before(key: SortKey, value: Expression) -> Expression:
    span = value.span
    nulls_first = key.descending if key.nulls_first is None else key.nulls_first
    comparison = BinaryOp(OperatorName(">" if key.descending else "<"), key.expression, value, span)
    by_null = And(
        (
            IsNull(key.expression, not nulls_first, span),
            IsNull(value, nulls_first, span),
        ),
        span,
    )
    return Or((comparison, by_null), span)
