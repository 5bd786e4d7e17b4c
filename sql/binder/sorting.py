"""Sort keys, and which types can be ordered or compared for equality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder.bound import BoundExpr, SortItem
from sql.binder.tree import location
from sql.errors import UndefinedFunction
from sql.functions.registry import Operator
from sql.span import NO_SPAN, Span
from sql.types.catalog import RECORD, UNKNOWN

if TYPE_CHECKING:
    from sql.binder.state import BindState
    from sql.types.base import SqlType


def _comparison(state: BindState, sql_type: SqlType, name: str) -> Operator | None:
    if sql_type is RECORD or sql_type is UNKNOWN:
        return None
    found: Any = state.resolver.operator(name, sql_type, sql_type)
    return found if isinstance(found, Operator) else None


def is_orderable(state: BindState, sql_type: SqlType) -> bool:
    """Tell whether the type has a default ordering."""
    if sql_type is RECORD or sql_type is UNKNOWN:
        return True
    if sql_type.element is not None:
        return is_orderable(state, sql_type.element)
    found = _comparison(state, sql_type, "<")
    return found is not None and found.comparison == "<"


def has_equality(state: BindState, sql_type: SqlType) -> bool:
    """Tell whether values of the type can be compared for equality (grouping, DISTINCT)."""
    if sql_type is RECORD or sql_type is UNKNOWN:
        return True
    if sql_type.element is not None:
        return has_equality(state, sql_type.element)
    found = _comparison(state, sql_type, "=")
    return found is not None and (found.comparison == "=" or is_orderable(state, sql_type))


def require_ordering(
    state: BindState, expression: BoundExpr, *, comparison: bool = False, span: Span = NO_SPAN
) -> None:
    """Raise 42883 unless the expression's type can be sorted."""
    if is_orderable(state, expression.type):
        return
    name = expression.type.display_name
    where = location(expression) if span.start < 0 else span
    if comparison:
        raise UndefinedFunction(
            f"could not identify a comparison function for type {name}", span=where
        )
    raise UndefinedFunction(
        f"could not identify an ordering operator for type {name}",
        span=where,
        hint="Use an explicit ordering operator or modify the query.",
    )


def require_equality(state: BindState, expression: BoundExpr, span: Span = NO_SPAN) -> None:
    """Raise 42883 unless the expression's type has equality."""
    if not has_equality(state, expression.type):
        raise UndefinedFunction(
            f"could not identify an equality operator for type {expression.type.display_name}",
            span=location(expression) if span.start < 0 else span,
        )


def sort_item(expression: BoundExpr, *, descending: bool, nulls_first: bool | None) -> SortItem:
    """Make a sort key; NULLs come last, or first when descending, unless it is said."""
    return SortItem(expression, descending, descending if nulls_first is None else nulls_first)
