"""Walking and rewriting bound expressions and plans: one generic mechanism over the node classes.

``transform`` replaces nodes top-down and shares what did not change; ``expression_key`` gives equal
keys exactly to expressions that compute the same thing (spans ignored); ``location`` is where
PostgreSQL would point for an expression: the leftmost position of the node and its operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, get_args

from sql.binder.bound import (
    AggregateCall,
    BoundExpr,
    CallExpr,
    CaseExpr,
    CastExpr,
    CoalesceExpr,
    ColumnVar,
    ConflictPlan,
    Const,
    CteDefinition,
    LogicalPlan,
    MinMaxExpr,
    RowExpr,
    SortItem,
    SubqueryExpr,
    TargetTable,
    WindowCall,
)
from sql.span import NO_SPAN, Span

EXPRESSION_CLASSES: Final[tuple[type, ...]] = get_args(BoundExpr)
PLAN_CLASSES: Final[tuple[type, ...]] = get_args(LogicalPlan)
_PARTS: Final[tuple[type, ...]] = (
    SortItem,
    AggregateCall,
    WindowCall,
    CteDefinition,
    ConflictPlan,
    TargetTable,
)
NODE_CLASSES: Final = frozenset((*EXPRESSION_CLASSES, *PLAN_CLASSES, *_PARTS))
_FIELDS: Final = {cls: tuple(f.name for f in fields(cls)) for cls in NODE_CLASSES}
_SKIPPED: Final = frozenset(
    ("span", "type", "typmod", "columns", "name", "qualifier", "table", "function", "operator")
)
_WALKED: Final = {
    cls: tuple(attrgetter(n) for n in names if n not in _SKIPPED) for cls, names in _FIELDS.items()
}
_KEYED: Final = {
    cls: tuple(attrgetter(n) for n in names if n not in ("span", "name", "qualifier", "typmod"))
    for cls, names in _FIELDS.items()
}

Rewrite = Callable[[Any], Any]


def children(node: Any) -> Iterator[Any]:
    """Yield the nodes directly below ``node``, in field order."""
    for get in _WALKED[type(node)]:
        yield from _nodes_in(get(node))


def _nodes_in(value: Any) -> Iterator[Any]:
    kind = type(value)
    if kind in NODE_CLASSES:
        yield value
    elif kind is tuple:
        for item in value:
            yield from _nodes_in(item)


def walk(node: Any) -> Iterator[Any]:
    """Yield ``node`` and everything below it, sub-query plans included."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(children(current))


def transform(node: Any, rewrite: Rewrite) -> Any:
    """Rebuild ``node`` with ``rewrite`` applied top-down.

    None from ``rewrite`` means "look below".
    """
    replaced = rewrite(node)
    if replaced is not None:
        return replaced
    return transform_children(node, rewrite)


def transform_children(node: Any, rewrite: Rewrite) -> Any:
    """Rebuild ``node`` with everything below it transformed."""
    names = _FIELDS[type(node)]
    old = [getattr(node, name) for name in names]
    new = [_transform_value(value, rewrite) for value in old]
    if all(a is b for a, b in zip(old, new, strict=True)):
        return node
    return type(node)(*new)


def _transform_value(value: Any, rewrite: Rewrite) -> Any:
    kind = type(value)
    if kind in NODE_CLASSES:
        return transform(value, rewrite)
    if kind is tuple and value:
        new = tuple(_transform_value(item, rewrite) for item in value)
        return value if all(a is b for a, b in zip(value, new, strict=True)) else new
    return value


def expression_key(node: Any) -> Any:
    """Return a hashable value that is equal for equal expressions.

    Sub-queries equal only themselves.
    """
    kind = type(node)
    if kind is ColumnVar:
        return node.id
    if kind is Const:
        return (Const, node.type.oid, repr(node.value))
    if kind is SubqueryExpr:
        return (SubqueryExpr, id(node))
    return (kind, *[_key_of(get(node)) for get in _KEYED[kind]])


def _key_of(value: Any) -> Any:
    kind = type(value)
    if kind in NODE_CLASSES:
        return expression_key(value)
    if kind is tuple:
        return tuple(_key_of(item) for item in value)
    return value


_OWN_LOCATION: Final = frozenset((CaseExpr, CoalesceExpr, MinMaxExpr, RowExpr))


def location(node: BoundExpr) -> Span:
    """Return the span whose start is the leftmost position of the expression, or NO_SPAN."""
    best = node.span
    if type(node) in _OWN_LOCATION and best.start >= 0:
        return best
    below = (node.operand,) if isinstance(node, CastExpr) else _operands(node)
    for child in below:
        span = location(child)
        if span.start >= 0 and (best.start < 0 or span.start < best.start):
            best = span
    return best


def _operands(node: BoundExpr) -> Iterator[BoundExpr]:
    if isinstance(node, CallExpr):
        yield from node.args
    elif isinstance(node, SubqueryExpr):
        yield from (pair[0] for pair in node.equalities)
    else:
        yield from children(node)


def has_span(span: Span) -> bool:
    """Tell whether a span is a real place."""
    return span is not NO_SPAN and span.start >= 0
