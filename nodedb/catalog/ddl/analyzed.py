"""Expressions as analysis leaves them.

Literals have their types, implicit casts are spelled out, LIKE and IN are operators. Stored
defaults, checks, index keys and predicates are kept in this form, so that psql and pg_dump show
what PostgreSQL shows. What has no counterpart in the bound tree stays as it was written. Source:
PostgreSQL docs, "System Catalog Information Functions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sql.ast import query as q
from sql.binder import bound as b
from sql.types.io import text_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.types.base import SqlType


def analyzed(
    expression: q.Expression, bound: b.BoundExpr, *, implicit: bool = False
) -> q.Expression:
    """Return the expression with the types that binding found.

    ``implicit`` shows its outermost implicit casts too.
    """
    casts: list[b.CastExpr] = []
    while isinstance(bound, b.CastExpr) and not bound.explicit:
        casts.append(bound)
        bound = bound.operand
    change = _CHANGES.get(type(expression))
    result = expression if change is None else change(expression, bound)
    if isinstance(expression, q.NullLiteral) and implicit and bound.type.name != "unknown":
        return q.TypeCast(expression, _type_name((casts[0] if casts else bound).type))
    if isinstance(expression, q.IntegerLiteral | q.NumericLiteral) and implicit:
        result = _folded(expression, result, bound)
    for cast in reversed(casts) if implicit else ():
        if cast.method != "typmod":
            result = q.TypeCast(result, _type_name(cast.type))
    return result


def _operands(
    expressions: tuple[q.Expression, ...], bounds: tuple[b.BoundExpr, ...]
) -> tuple[q.Expression, ...] | None:
    """Return operands with their implicit casts; None if the trees differ."""
    if len(expressions) != len(bounds):
        return None
    return tuple(
        analyzed(e, bound, implicit=True) for e, bound in zip(expressions, bounds, strict=True)
    )


def _type_name(sql_type: SqlType) -> q.TypeName:
    if sql_type.element is not None and sql_type.name.startswith("_"):
        return q.TypeName(sql_type.element.name, array_dimensions=1)
    return q.TypeName(sql_type.name)


def _string(node: q.StringLiteral, bound: b.BoundExpr) -> q.Expression:
    sql_type = bound.type
    if sql_type.name == "unknown" or bound.type.kind == "p":
        return node
    text = node.value
    if isinstance(bound, b.Const) and bound.value is not None:
        if sql_type.name == "bool":
            return q.BooleanLiteral(bool(bound.value))
        if sql_type.category not in "SZ" and not sql_type.name.startswith("reg"):
            text = text_output(sql_type)(bound.value)
    return q.TypeCast(q.StringLiteral(text), _type_name(sql_type))


def _integer(node: q.IntegerLiteral, _bound: b.BoundExpr) -> q.Expression:
    name = "int4" if -(2**31) <= node.value < 2**31 else "int8"
    if node.value < 0 or name == "int8":
        return q.TypeCast(q.StringLiteral(str(node.value)), q.TypeName(name))
    return node


def _numeric(node: q.NumericLiteral, _bound: b.BoundExpr) -> q.Expression:
    if node.text.startswith("-"):
        return q.TypeCast(q.StringLiteral(node.text), q.TypeName("numeric"))
    return node


def _folded(
    literal: q.IntegerLiteral | q.NumericLiteral, shown: q.Expression, bound: b.BoundExpr
) -> q.Expression:
    """Show the implicit cast that binding has carried out on a literal."""
    own = ("int4", "int8") if isinstance(literal, q.IntegerLiteral) else ("numeric", "int8")
    if not isinstance(bound, b.Const) or bound.type.name in own:
        return shown
    return q.TypeCast(shown, _type_name(bound.type))


def _cast(node: q.TypeCast, bound: b.BoundExpr) -> q.Expression:
    operand = node.operand
    if isinstance(bound, b.CastExpr):
        return msgspec.structs.replace(node, operand=analyzed(operand, bound.operand))
    if isinstance(operand, q.StringLiteral) and isinstance(bound, b.Const):
        shown = _string(operand, bound)
        if isinstance(shown, q.TypeCast):
            return msgspec.structs.replace(node, operand=shown.operand)
        return shown
    return node


def _unary(node: q.UnaryOp, bound: b.BoundExpr) -> q.Expression:
    found = _operands((node.operand,), bound.args) if isinstance(bound, b.CallExpr) else None
    return node if found is None else msgspec.structs.replace(node, operand=found[0])


def _binary(node: q.BinaryOp, bound: b.BoundExpr) -> q.Expression:
    found = (
        _operands((node.left, node.right), bound.args) if isinstance(bound, b.CallExpr) else None
    )
    return node if found is None else msgspec.structs.replace(node, left=found[0], right=found[1])


def _call(node: q.FunctionCall, bound: b.BoundExpr) -> q.Expression:
    if not isinstance(bound, b.CallExpr) or node.variadic or any(node.arg_names):
        return node
    if node.syntax == "extract":
        return node
    found = _operands(node.args, bound.args)
    return node if found is None else msgspec.structs.replace(node, args=found)


def _boolean(node: q.And | q.Or, bound: b.BoundExpr) -> q.Expression:
    found = _operands(node.operands, bound.operands) if isinstance(bound, b.BoolExpr) else None
    return node if found is None else msgspec.structs.replace(node, operands=found)


def _not(node: q.Not, bound: b.BoundExpr) -> q.Expression:
    if not isinstance(bound, b.BoolExpr) or bound.kind != "not":
        return node
    return q.Not(analyzed(node.operand, bound.operands[0]))


def _test(node: q.IsNull | q.BooleanTest, bound: b.BoundExpr) -> q.Expression:
    if not isinstance(bound, b.NullTestExpr | b.BooleanTestExpr):
        return node
    return msgspec.structs.replace(
        node, operand=analyzed(node.operand, bound.operand, implicit=True)
    )


def _between(node: q.Between, bound: b.BoundExpr) -> q.Expression:
    if node.symmetric or not isinstance(bound, b.BoolExpr) or len(bound.operands) != 2:
        return node
    names = ("<", ">") if node.negated else (">=", "<=")
    if bound.kind != ("or" if node.negated else "and"):
        return node
    made = tuple(
        _binary(q.BinaryOp(q.OperatorName(name), node.operand, limit), part)
        for name, limit, part in zip(names, (node.low, node.high), bound.operands, strict=True)
    )
    return q.Or(made) if node.negated else q.And(made)


def _like(node: q.Like, bound: b.BoundExpr) -> q.Expression:
    if node.escape is not None or node.kind == "similar" or not isinstance(bound, b.CallExpr):
        return node
    if bound.operator is None or len(bound.args) != 2:
        return node
    name = q.OperatorName(bound.operator.name)
    return _binary(q.BinaryOp(name, node.operand, node.pattern), bound)


def _in_list(node: q.InList, bound: b.BoundExpr) -> q.Expression:
    if isinstance(bound, b.CallExpr) and bound.operator is not None and len(node.items) == 1:
        name = q.OperatorName(bound.operator.name)
        return _binary(q.BinaryOp(name, node.operand, node.items[0]), bound)
    if not isinstance(bound, b.ScalarArrayExpr):
        return node
    array, cast = bound.array, None
    if isinstance(array, b.CastExpr):
        array, cast = array.operand, _type_name(array.type)
    items = _operands(node.items, array.elements) if isinstance(array, b.ArrayExpr) else None
    if items is None:
        return node
    made = q.ArrayConstructor(items)
    return q.QuantifiedComparison(
        q.OperatorName(bound.operator.name),
        analyzed(node.operand, bound.left, implicit=True),
        "any" if bound.use_any else "all",
        made if cast is None else q.TypeCast(made, cast),
    )


def _coalesce(node: q.Coalesce | q.MinMax, bound: b.BoundExpr) -> q.Expression:
    found = None
    if isinstance(bound, b.CoalesceExpr | b.MinMaxExpr):
        found = _operands(node.args, bound.args)
    return node if found is None else msgspec.structs.replace(node, args=found)


def _case(node: q.Case, bound: b.BoundExpr) -> q.Expression:
    if not isinstance(bound, b.CaseExpr) or node.operand is not None:
        return node
    whens = tuple(
        q.WhenClause(
            analyzed(when.condition, condition, implicit=True),
            analyzed(when.result, result, implicit=True),
        )
        for when, (condition, result) in zip(node.whens, bound.whens, strict=True)
    )
    default = node.default
    if default is not None and bound.default is not None:
        default = analyzed(default, bound.default, implicit=True)
    return q.Case(None, whens, default)


_CHANGES: dict[type, Callable[[Any, Any], q.Expression]] = {
    q.StringLiteral: _string,
    q.IntegerLiteral: _integer,
    q.NumericLiteral: _numeric,
    q.TypeCast: _cast,
    q.UnaryOp: _unary,
    q.BinaryOp: _binary,
    q.FunctionCall: _call,
    q.And: _boolean,
    q.Or: _boolean,
    q.Not: _not,
    q.IsNull: _test,
    q.BooleanTest: _test,
    q.Between: _between,
    q.Like: _like,
    q.InList: _in_list,
    q.Coalesce: _coalesce,
    q.MinMax: _coalesce,
    q.Case: _case,
}
