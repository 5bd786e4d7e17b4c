"""Walks over AST nodes.

Finding column references, renaming them, making expressions fit for storing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from nodedb.catalog.ddl.analyzed import analyzed
from sql.ast.node import Node
from sql.ast.query import (
    Alias,
    ColumnRef,
    Expression,
    FunctionCall,
    QualifiedName,
    StringLiteral,
    TableRef,
    TypeCast,
    TypeName,
)
from sql.ast.walk import strip_spans, transform, walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.binder.bound import BoundExpr

NodeT = TypeVar("NodeT", bound=Node)


def transformed(node: NodeT, change: Callable[[Node], Node]) -> NodeT:
    """Return ``transform(node, change)``, which keeps the root's class."""
    result = transform(node, change)
    assert isinstance(result, type(node)), result
    return result


def storable(
    expression: Expression, bound: BoundExpr, relation_id_of: Callable[[str], int | None]
) -> Expression:
    """Return an expression of one table as stored.

    Analyzed, with unqualified columns and sequences by OID, without spans.
    ``relation_id_of`` resolves the text of a regclass constant.
    """

    def change(node: Node) -> Node:
        if isinstance(node, ColumnRef) and len(node.parts) > 1:
            return ColumnRef(node.parts[-1:])
        if isinstance(node, FunctionCall) and node.name[-1] in SEQUENCE_FUNCTIONS and node.args:
            first = node.args[0]
            if isinstance(first, StringLiteral):
                return msgspec.structs.replace(
                    node, args=(resolve(TypeCast(first, TypeName("regclass"))), *node.args[1:])
                )
        return resolve(node) if isinstance(node, TypeCast) else node

    def resolve(node: TypeCast) -> TypeCast:
        operand, type_name = node.operand, node.type_name
        if not isinstance(operand, StringLiteral) or operand.value.isdecimal():
            return node
        if type_name.name != "regclass" or type_name.array_dimensions:
            return node
        found = relation_id_of(operand.value)
        return node if found is None else regclass(found)

    return transformed(strip_spans(analyzed(expression, bound)), change)


SEQUENCE_FUNCTIONS = frozenset(("nextval", "currval", "setval"))


def regclass(relation_id: int) -> TypeCast:
    """Return the constant ``'<oid>'::regclass``."""
    return TypeCast(StringLiteral(str(relation_id)), TypeName("regclass"))


def nextval(sequence_id: int) -> FunctionCall:
    """Return the default of a serial column."""
    return FunctionCall(("nextval",), (regclass(sequence_id),))


def relations_in(expression: Expression) -> set[int]:
    """Return the OIDs of the regclass constants in a stored expression."""
    return {
        int(node.operand.value)
        for node in walk(expression)
        if isinstance(node, TypeCast)
        and node.type_name.name == "regclass"
        and isinstance(node.operand, StringLiteral)
        and node.operand.value.isdecimal()
    }


def columns_in(expression: Node) -> list[str]:
    """Return the column names an expression of one table mentions, in order of first appearance."""
    seen: dict[str, None] = {}
    for node in walk(expression):
        if isinstance(node, ColumnRef):
            seen.setdefault(node.parts[-1])
    return list(seen)


def rename_column(node: NodeT, old: str, new: str) -> NodeT:
    """Return a stored expression of one table with a column renamed."""

    def change(item: Node) -> Node:
        if isinstance(item, ColumnRef) and item.parts[-1] == old:
            return msgspec.structs.replace(item, parts=(*item.parts[:-1], new))
        return item

    return transformed(node, change)


def pin_relation(node: NodeT, relation_id: int, name: str, columns: tuple[str, ...]) -> NodeT:
    """Return a stored query that keeps a relation's present name and columns as aliases.

    So a relation or its columns can be renamed without touching the expressions in the views over
    it.
    """

    def change(item: Node) -> Node:
        if not isinstance(item, TableRef) or item.relation_id != relation_id:
            return item
        alias = item.alias or Alias(name)
        names = alias.columns + columns[len(alias.columns) :]
        return msgspec.structs.replace(
            item, alias=msgspec.structs.replace(alias, columns=names), name=QualifiedName(name)
        )

    return transformed(node, change)
