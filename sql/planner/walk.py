"""Traversal and rewriting of bound trees, for every rule that asks "which columns does this use?".

Bound trees are frozen dataclasses and tuples of them; catalog objects, functions and types are
leaves.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sql.functions.registry import Function

_TREE_CLASSES: Final = frozenset(
    item for item in vars(b).values() if isinstance(item, type) and item.__module__ == b.__name__
)


def _class(node: Any) -> Any:
    return type(node)


@cache
def _child_fields(cls: Any) -> tuple[str, ...]:
    skipped = {
        "span",
        "type",
        "typmod",
        "table",
        "function",
        "operator",
        "aggregate",
        "cast",
        "sequence",
        "frame",
    }
    return tuple(f.name for f in fields(cls) if f.name not in skipped)


def children(node: Any) -> Iterator[Any]:
    """Yield the bound expressions, plans and columns directly below."""
    if type(node) not in _TREE_CLASSES:
        return
    for name in _child_fields(_class(node)):
        yield from _flatten(getattr(node, name))


def _flatten(value: Any) -> Iterator[Any]:
    if type(value) in _TREE_CLASSES:
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _flatten(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _flatten(item)


def walk(node: Any) -> Iterator[Any]:
    """Yield the node (or the nodes of a tuple) and everything below, plans included."""
    stack = list(_flatten(node))
    while stack:
        item = stack.pop()
        yield item
        stack.extend(children(item))


def used_columns(node: Any) -> set[int]:
    """Return the ids of all column references at or below."""
    return {item.id for item in walk(node) if isinstance(item, b.ColumnVar)}


def free_columns(node: Any) -> set[int]:
    """Return the ids of referenced columns that nothing below produces.

    For a plan, its correlation.
    """
    used: set[int] = set()
    produced: set[int] = set()
    for item in walk(node):
        if isinstance(item, b.ColumnVar):
            used.add(item.id)
        elif isinstance(item, b.OutputColumn):
            produced.add(item.id)
    return used - produced


def free_ctes(node: Any) -> set[int]:
    """Return the ids of CTEs that are read but not defined below."""
    read: set[int] = set()
    defined: set[int] = set()
    for item in walk(node):
        if isinstance(item, b.CteScan):
            read.add(item.cte_id)
        elif isinstance(item, b.CteDefinition):
            defined.add(item.cte_id)
    return read - defined


def called_functions(node: Any) -> Iterator[Function]:
    """Yield every function that evaluating the expressions below may call."""
    for item in walk(node):
        if isinstance(item, b.CallExpr):
            yield item.function
        elif isinstance(item, b.ScalarArrayExpr):
            yield item.operator.function
        elif (
            isinstance(item, b.CastExpr)
            and item.cast is not None
            and item.cast.function is not None
        ):
            yield item.cast.function


def is_volatile(node: Any) -> bool:
    """Tell whether anything below is volatile."""
    return any(function.volatility == "volatile" for function in called_functions(node))


def has_subquery(node: Any) -> bool:
    """Tell whether a sub-query stands at or below."""
    return any(isinstance(item, b.SubqueryExpr) for item in walk(node))


def returns_set(node: Any) -> bool:
    """Tell whether a set-returning function stands at or below."""
    return any(function.returns_set for function in called_functions(node))


def rewrite(node: Any, change: Callable[[Any], Any | None]) -> Any:
    """Return the tree with ``change`` applied top-down.

    Where it answers None the children are visited.
    """
    if type(node) in _TREE_CLASSES:
        changed = change(node)
        if changed is not None:
            return changed
        updates = {}
        for name in _child_fields(_class(node)):
            old = getattr(node, name)
            new = rewrite(old, change)
            if new is not old:
                updates[name] = new
        return replace(node, **updates) if updates else node
    if isinstance(node, tuple) and node:
        items = [rewrite(item, change) for item in node]
        if any(new is not old for new, old in zip(items, node, strict=True)):
            return tuple(items)
        return node
    if isinstance(node, dict):
        return {key: rewrite(value, change) for key, value in node.items()}
    return node


def substitute(expression: Any, replacements: dict[int, Any]) -> Any:
    """Replace column references by expressions, inside sub-queries too."""

    def change(node: Any) -> Any | None:
        return replacements.get(node.id) if isinstance(node, b.ColumnVar) else None

    return rewrite(expression, change)


def conjuncts(condition: Any) -> list[Any]:
    """Split a condition at its ANDs."""
    if condition is None:
        return []
    if isinstance(condition, b.BoolExpr) and condition.kind == "and":
        return [part for operand in condition.operands for part in conjuncts(operand)]
    return [condition]


def same_expression(left: Any, right: Any) -> bool:
    """Compare two expressions by structure (bound nodes compare by identity otherwise)."""
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same_expression, left, right))
    if type(left) not in _TREE_CLASSES:
        return bool(left == right)
    return all(
        same_expression(getattr(left, f.name), getattr(right, f.name))
        for f in fields(type(left))
        if f.name not in {"span", "name", "qualifier"}
    )
