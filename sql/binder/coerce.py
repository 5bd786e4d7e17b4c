"""Coercions: making an expression have a type, by implicit, assignment or explicit casts.

Unknown literals are read by the target type's input here, so their errors carry the literal's
place; literals whose value depends on the session or the clock stay casts that execution evaluates
(``sql.binder.literal``). Casts of constants by immutable functions are folded when they cannot
fail.

Source: PostgreSQL docs, "Type Conversion": "Value Storage", "UNION, CASE, and Related Constructs".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sql.binder.bound import (
    BoundExpr,
    CastElement,
    CastExpr,
    CollateExpr,
    Const,
    DomainDefault,
    ParameterRef,
    RowExpr,
)
from sql.binder.literal import read_literal
from sql.binder.tree import location
from sql.errors import CannotCoerce, DatatypeMismatch, SqlError
from sql.functions.collated import collatable
from sql.span import NO_SPAN, Span
from sql.types.base import NO_TYPMOD, SqlType
from sql.types.catalog import (
    ANY,
    ANYARRAY,
    BOOL,
    BPCHAR,
    INTERVAL,
    NAME,
    NUMERIC,
    RECORD,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
    UNKNOWN,
    VARCHAR,
    type_by_name,
)
from sql.types.typmod import apply_typmod

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sql.binder.state import BindState
    from sql.functions.registry import Cast, CastContext

_WITH_TYPMOD = frozenset((BPCHAR, VARCHAR, NUMERIC, INTERVAL, TIME, TIMETZ, TIMESTAMP, TIMESTAMPTZ))


def coerce(
    state: BindState,
    expression: BoundExpr,
    target: SqlType,
    context: CastContext = "implicit",
    span: Span = NO_SPAN,
) -> BoundExpr:
    """Return ``expression`` as ``target``; the caller knows that the coercion exists."""
    source = expression.type
    if source is target or target is ANY:
        return expression
    if source is UNKNOWN:
        if isinstance(expression, Const):
            return _read(state, expression, target)
        if isinstance(expression, ParameterRef):
            return state.fix_parameter(expression, target, span)
        if isinstance(expression, CollateExpr):
            # The literal below is what gets the type; one without collations needs no clause.
            inner = coerce(state, expression.operand, target, context, span)
            if not collatable(target):
                return inner
            return replace(expression, operand=inner, type=inner.type, typmod=inner.typmod)
    if target is ANYARRAY and source.element is not None:
        return expression
    method, cast = state.resolver.pathway(source, target, context)
    if method == "none" and source is UNKNOWN:
        method, cast = "text", None
    assert method != "none", (source, target, context)
    return _cast(expression, target, method, cast, context, span, state)


def _read(state: BindState, literal: Const, target: SqlType, typmod: int = NO_TYPMOD) -> BoundExpr:
    if literal.value is None:
        return Const(None, target, typmod, literal.span)
    if target in (TEXT, VARCHAR):
        return Const(literal.value, target, NO_TYPMOD, literal.span)
    try:
        return read_literal(state.catalog, literal, target, typmod)
    except SqlError as error:
        raise error.at(literal.span) from None


def _cast(
    expression: BoundExpr,
    target: SqlType,
    method: str,
    cast: Cast | None,
    context: CastContext,
    span: Span,
    state: BindState,
) -> BoundExpr:
    explicit = context == "explicit"
    if isinstance(expression, Const):
        folded = _fold_cast(expression, target, method, cast, span)
        if folded is not None:
            return folded
    if method == "array":
        assert expression.type.element is not None
        assert target.element is not None
        element = coerce(state, CastElement(expression.type.element), target.element, context)
        assert isinstance(element, CastExpr)
        return CastExpr(expression, target, "array", element=element, explicit=explicit, span=span)
    if method == "function":
        assert cast is not None
        assert cast.function is not None
        if cast.function.volatility == "volatile":
            state.volatile = True
        return CastExpr(expression, target, "function", cast, explicit=explicit, span=span)
    if method == "relabel":
        # Relabelling keeps the typmod where the type has the same idea of it (varchar as text has
        # none).
        return CastExpr(expression, target, "relabel", cast, explicit=explicit, span=span)
    return CastExpr(expression, target, "text", cast, explicit=explicit, span=span)


def _fold_cast(
    constant: Const, target: SqlType, method: str, cast: Cast | None, span: Span
) -> Const | None:
    if constant.type is NAME:
        return None  # A constant of another type would lose the collation of names, C.
    where = span if span.start >= 0 and span.start < constant.span.start else constant.span
    if constant.value is None or method == "relabel":
        return Const(constant.value, target, NO_TYPMOD, where)
    if method != "function" or cast is None or cast.function is None:
        return None
    function = cast.function
    if (
        function.volatility != "immutable"
        or not function.strict
        or function.needs_context
        or function.needs_types
        or function.is_async
        or len(function.arg_types) != 1
    ):
        return None
    try:
        return Const(function.implementation(constant.value), target, NO_TYPMOD, where)
    except SqlError:
        return None


def coerce_with_typmod(
    state: BindState,
    expression: BoundExpr,
    target: SqlType,
    typmod: int,
    context: CastContext,
    span: Span = NO_SPAN,
) -> BoundExpr | None:
    """Coerce and apply the length coercion of ``typmod``; None when there is no such coercion."""
    if not state.resolver.can_coerce(expression.type, target, context):
        return None
    if expression.type is RECORD and target is RECORD:
        return expression
    if target is INTERVAL and typmod >= 0 and _is_unknown_literal(expression):
        assert isinstance(expression, Const)
        # The fields of INTERVAL '1' DAY decide how the literal reads.
        return _read(state, expression, target, typmod)
    result = coerce(state, expression, target, context, span)
    return with_typmod(result, typmod, explicit=context == "explicit", span=span)


def _is_unknown_literal(expression: BoundExpr) -> bool:
    return type(expression) is Const and expression.type is UNKNOWN


def with_typmod(
    expression: BoundExpr, typmod: int, *, explicit: bool, span: Span = NO_SPAN
) -> BoundExpr:
    """Apply a length coercion unless the expression already has that typmod."""
    if typmod < 0 or expression.typmod == typmod:
        return expression
    target = expression.type
    base = target if target.element is None else target.element
    if base not in _WITH_TYPMOD:
        return expression
    if isinstance(expression, Const):
        if expression.value is None:
            return Const(None, target, typmod, expression.span)
        if target.element is None:
            try:
                value = apply_typmod(target, expression.value, typmod, explicit)
            except SqlError:
                pass
            else:
                return Const(value, target, typmod, expression.span)
    elif (
        isinstance(expression, CastExpr)
        and expression.typmod < 0
        and expression.method != "relabel"
    ):
        e = expression
        return CastExpr(e.operand, target, e.method, e.cast, e.element, typmod, explicit, e.span)
    return CastExpr(expression, target, "typmod", typmod=typmod, explicit=explicit, span=span)


def coerce_explicit(
    state: BindState, expression: BoundExpr, target: SqlType, typmod: int, span: Span
) -> BoundExpr:
    """CAST: raises CannotCoerce (42846) at the cast's place."""
    if isinstance(expression, RowExpr) and target is not RECORD and target.category != "S":
        raise _cannot_cast(expression, target, span)
    result = coerce_with_typmod(state, expression, target, typmod, "explicit", span)
    if result is None:
        raise _cannot_cast(expression, target, span)
    return result


def _cannot_cast(expression: BoundExpr, target: SqlType, span: Span) -> CannotCoerce:
    where = span if span.start >= 0 else location(expression)
    return CannotCoerce(
        f"cannot cast type {expression.type.display_name} to {target.display_name}", span=where
    )


def coerce_to_boolean(state: BindState, expression: BoundExpr, construct: str) -> BoundExpr:
    """Require a boolean for WHERE, AND, WHEN....

    42804 ``argument of <construct> must be type boolean``.
    """
    if expression.type is BOOL:
        return expression
    return coerce_to_required(state, expression, BOOL, construct)


def coerce_to_required(
    state: BindState, expression: BoundExpr, target: SqlType, construct: str
) -> BoundExpr:
    """Require a type by assignment rules, as PostgreSQL does for LIMIT and its kin (42804)."""
    if expression.type is target:
        return expression
    if not state.resolver.can_coerce(expression.type, target, "assignment"):
        raise DatatypeMismatch(
            f"argument of {construct} must be type {target.display_name}, "
            f"not type {expression.type.display_name}",
            span=location(expression),
        )
    return coerce(state, expression, target, "assignment")


def common_type_of(
    state: BindState, expressions: Sequence[BoundExpr], construct: str, noun: str = "types"
) -> SqlType:
    """Select the common type.

    42804 ``<construct> types x and y cannot be matched`` at the offender.
    """
    found = state.resolver.common_type_or_conflict([e.type for e in expressions])
    if isinstance(found, SqlType):
        return found
    best, other, index = found
    raise DatatypeMismatch(
        f"{construct} {noun} {best.display_name} and {other.display_name} cannot be matched",
        span=location(expressions[index]),
    )


def coerce_to_common(
    state: BindState, expression: BoundExpr, target: SqlType, construct: str
) -> BoundExpr:
    """Coerce to a selected common type; 42846 when only the category agreed."""
    if expression.type is target:
        return expression
    if not state.resolver.can_coerce(expression.type, target, "implicit"):
        raise CannotCoerce(
            f"{construct} could not convert type {expression.type.display_name} "
            f"to {target.display_name}",
            span=location(expression),
        )
    return coerce(state, expression, target)


def common_typmod(expressions: Sequence[BoundExpr], target: SqlType) -> int:
    """Return the typmod that all expressions share, else -1."""
    typmod = NO_TYPMOD
    for index, expression in enumerate(expressions):
        if expression.type is not target:
            return NO_TYPMOD
        if index == 0:
            typmod = expression.typmod
        elif expression.typmod != typmod:
            return NO_TYPMOD
    return typmod


def coerce_assignment(
    state: BindState,
    expression: BoundExpr,
    target: SqlType,
    typmod: int,
    column: str,
    span: Span = NO_SPAN,
) -> BoundExpr:
    """Coerce a value stored in a column: 42804 with PostgreSQL's hint when it does not fit."""
    if isinstance(expression, DomainDefault):
        return expression
    result = coerce_with_typmod(state, expression, target, typmod, "assignment")
    if result is None:
        where = location(expression)
        raise DatatypeMismatch(
            f'column "{column}" is of type {target.display_name} '
            f"but expression is of type {expression.type.display_name}",
            span=where if where.start >= 0 else span,
            hint="You will need to rewrite or cast the expression.",
        )
    return result


def resolve_unknown(state: BindState, expression: BoundExpr) -> BoundExpr:
    """Make an output column of unknown type text, fields of a row included."""
    if expression.type is UNKNOWN:
        return coerce(state, expression, TEXT)
    if isinstance(expression, RowExpr) and any(i.type is UNKNOWN for i in expression.items):
        items = tuple(resolve_unknown(state, i) for i in expression.items)
        return RowExpr(items, expression.names, expression.type, span=expression.span)
    return expression


__all__ = [
    "coerce",
    "coerce_assignment",
    "coerce_explicit",
    "coerce_to_boolean",
    "coerce_to_common",
    "coerce_to_required",
    "coerce_with_typmod",
    "common_type_of",
    "common_typmod",
    "resolve_unknown",
    "type_by_name",
    "with_typmod",
]
