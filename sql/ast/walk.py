"""Generic traversal of syntax trees: visit, rebuild, compare without places.

Works on every ``Node`` class by its fields, also inside nested tuples. Depth is bounded by what the
parser lets through, so plain recursion is safe.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from sql.ast.node import Node
from sql.span import NO_SPAN, Span

AnyNode = TypeVar("AnyNode", bound=Node)


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and every node below it, parents first, in the order of their fields."""
    pending: list[object] = [node]
    while pending:
        item = pending.pop()
        if isinstance(item, Node):
            yield item
            pending.extend(
                child
                for name in reversed(item.__struct_fields__)
                if isinstance(child := getattr(item, name), (Node, tuple))
            )
        elif isinstance(item, tuple):
            pending.extend(reversed(item))


def transform(node: Node, function: Callable[[Node], Node]) -> Node:
    """Rebuild the tree bottom-up: ``function`` sees each node after its children were replaced.

    A node none of whose fields changed is passed on as it is, so untouched sub-trees are shared.
    """
    changed: list[object] = []
    is_changed = False
    for name in node.__struct_fields__:
        old = getattr(node, name)
        new = _transform_value(old, function) if isinstance(old, (Node, tuple)) else old
        is_changed = is_changed or new is not old
        changed.append(new)
    return function(type(node)(*changed) if is_changed else node)


def _transform_value(value: object, function: Callable[[Node], Node]) -> object:
    if isinstance(value, Node):
        return transform(value, function)
    if isinstance(value, tuple):
        items = tuple(_transform_value(item, function) for item in value)
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def strip_spans(node: AnyNode) -> AnyNode:
    """Return the tree with every span NO_SPAN and every list of spans empty."""
    stripped = transform(node, _without_span)
    assert isinstance(stripped, type(node)), "spans do not change a node's class"
    return stripped


def _without_span(node: Node) -> Node:
    fields = []
    is_changed = False
    for name in node.__struct_fields__:
        value = getattr(node, name)
        if isinstance(value, Span) and value != NO_SPAN:
            value, is_changed = NO_SPAN, True
        elif isinstance(value, tuple) and value and isinstance(value[0], Span):
            value, is_changed = (), True
        fields.append(value)
    return type(node)(*fields) if is_changed else node
