"""Operator expressions: choosing the operator, coercing its arguments, folding constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.ast.query import OperatorName
from sql.binder.bound import BoundExpr, CallExpr, Const
from sql.binder.coerce import coerce
from sql.binder.resolve import COMPATIBLE_FAMILY, POLYMORPHIC, substitute
from sql.errors import (
    AmbiguousFunction,
    DatatypeMismatch,
    InvalidSchemaName,
    SqlError,
    UndefinedFunction,
)
from sql.functions.registry import Function, Operator
from sql.types.catalog import RECORD, TEXT, UNKNOWN

if TYPE_CHECKING:
    from sql.binder.state import BindState
    from sql.span import Span
    from sql.types.base import SqlType

EQUALS: Final = OperatorName("=")
NOT_EQUALS: Final = OperatorName("<>")
_FOLDED_SIZE_MAX: Final = 1000


def find_operator(
    state: BindState, name: OperatorName, left: SqlType | None, right: SqlType, span: Span
) -> Operator:
    """Choose the operator or raise PostgreSQL's 42883 or 42725 at its place."""
    found = None
    if not name.schema or name.schema == "pg_catalog":
        found = state.resolver.operator(name.name, left, right)
    if isinstance(found, Operator):
        return found
    if name.schema and state.catalog.schema_id(name.schema) is None:
        raise InvalidSchemaName(f'schema "{name.schema}" does not exist', span=span)
    shown = f"{name.schema}.{name.name}" if name.schema else name.name
    signature = f"{shown} {right.display_name}"
    if left is not None:
        signature = f"{left.display_name} {signature}"
    if found == "ambiguous":
        raise AmbiguousFunction(
            f"operator is not unique: {signature}",
            span=span,
            hint="Could not choose a best candidate operator. "
            "You might need to add explicit type casts.",
        )
    hint = (
        "No operator matches the given name and argument types. "
        "You might need to add explicit type casts."
        if left is not None
        else "No operator matches the given name and argument type. "
        "You might need to add an explicit type cast."
    )
    raise UndefinedFunction(f"operator does not exist: {signature}", span=span, hint=hint)


def make_operator(
    state: BindState,
    name: OperatorName,
    left: BoundExpr | None,
    right: BoundExpr,
    span: Span,
) -> BoundExpr:
    """Build the operator's call with its arguments coerced."""
    operator = find_operator(state, name, None if left is None else left.type, right.type, span)
    return call_operator(state, operator, left, right, span)


def call_operator(
    state: BindState, operator: Operator, left: BoundExpr | None, right: BoundExpr, span: Span
) -> BoundExpr:
    """Build the call of a chosen operator."""
    function = operator.function
    args: tuple[BoundExpr, ...] = (right,) if left is None else (left, right)
    declared: tuple[SqlType, ...] = (
        (operator.right,) if operator.left is None else (operator.left, operator.right)
    )
    result = function.return_type
    if operator.left in POLYMORPHIC or operator.right in POLYMORPHIC:
        declared, result = polymorphic_signature(state, declared, args, result)
    args = tuple(
        a if a.type is d or d is RECORD else coerce(state, a, d)
        for a, d in zip(args, declared, strict=True)
    )
    if function.volatility == "volatile":
        state.volatile = True
    folded = _fold(function, args, result)
    if folded is not None:
        return folded
    return CallExpr(function, args, result, operator, span=span)


def polymorphic_signature(
    state: BindState,
    declared: tuple[SqlType, ...],
    args: tuple[BoundExpr, ...],
    result: SqlType,
) -> tuple[tuple[SqlType, ...], SqlType]:
    """Return declared argument types and result with the any... types made concrete."""
    actual = tuple(a.type for a in args)
    types = state.resolver.polymorphic_types(declared, actual)
    assert types is not None
    # Where all arguments of the anycompatible family are unknown literals, they are text.
    types = tuple(
        (substitute(d, TEXT) or t) if t is UNKNOWN and d in COMPATIBLE_FAMILY else t
        for t, d in zip(types, declared, strict=True)
    )
    unresolved = any(
        t is UNKNOWN and d in POLYMORPHIC for t, d in zip(types, declared, strict=True)
    )
    if unresolved:
        raise DatatypeMismatch(
            "could not determine polymorphic type because input has type unknown"
        )
    if result not in POLYMORPHIC:
        return types, result
    return types, _polymorphic_result(state, declared, types, result)


def _polymorphic_result(
    state: BindState, declared: tuple[SqlType, ...], types: tuple[SqlType, ...], result: SqlType
) -> SqlType:
    resolver = state.resolver
    element = resolver.family_element(declared, types, result)
    found = substitute(result, element)
    if found is None:
        raise DatatypeMismatch(f"could not find array type for data type {element.display_name}")
    return found


def _fold(function: Function, args: tuple[BoundExpr, ...], result: SqlType) -> Const | None:
    """Compute an operator over constants now, unless it may fail: then execution reports it."""
    if (
        function.volatility != "immutable"
        or not function.strict
        or function.needs_context
        or function.needs_types
        or function.is_async
        or function.returns_set
    ):
        return None
    values = []
    start = args[0].span
    for arg in args:
        if type(arg) is not Const:
            return None
        if isinstance(arg.value, (str, bytes)) and len(arg.value) > _FOLDED_SIZE_MAX:
            return None
        if arg.value is None:
            return Const(None, result, span=start)
        values.append(arg.value)
    try:
        return Const(function.implementation(*values), result, span=start)
    except (SqlError, AssertionError):
        return None
