"""Expressions as text with few parentheses, as PostgreSQL's printer does when asked to be pretty.

Guarantees: the text parses to the same tree (spans aside). Operators keep their parentheses inside
other operators, except for + and - around * / %, and chains to the left; AND, OR and NOT drop those
that precedence makes needless. Source: PostgreSQL docs, "System Catalog Information Functions",
"Operator Precedence".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sql.ast import query as q
from sql.ast.deparse import _METHODS, _Printer
from sql.ast.deparse_names import type_name_text

if TYPE_CHECKING:
    from collections.abc import Callable

_LOW: Final = frozenset("+-")
_HIGH: Final = frozenset("*/%")
_OPERATORS: Final = (q.BinaryOp, q.UnaryOp, q.IsNull, q.BooleanTest, q.IsDistinctFrom)
_BOOLEANS: Final = (q.And, q.Or, q.Not)
_WRAPPED: Final = (
    *_OPERATORS,
    *_BOOLEANS,
    q.QuantifiedComparison,
    q.Between,
    q.Like,
    q.InList,
    q.Collate,
)
"""What the plain printer puts in parentheses of its own."""


def deparse_pretty(expression: q.Expression) -> str:
    """Print one scalar expression on one line, with few parentheses and none around the whole."""
    return _PrettyPrinter(pretty=False).expression(expression)


def deparse_query_pretty(query: q.Query) -> str:
    """Print a query on several lines with few parentheses, without semicolon."""
    return _PrettyPrinter(pretty=True).statement(query, 0)


class _PrettyPrinter(_Printer):
    """Prints bare; ``_inside`` adds parentheses where the parent asks for them."""

    def expression(self, node: q.Expression) -> str:
        text = _PRETTY_METHODS[type(node)](self, node)
        if isinstance(node, _WRAPPED) and text.startswith("(") and text.endswith(")"):
            return text[1:-1]
        return text

    def _inside(self, node: q.Expression, parent: q.Expression) -> str:
        text = self.expression(node)
        return text if _is_simple(node, parent) else f"({text})"

    def _join(self, item: q.JoinRef) -> str:
        whole = super()._join(item)
        if item.alias is not None:
            return whole
        text = whole[1:-1]
        if isinstance(item.right, q.JoinRef) and item.right.alias is None:
            right = self._from_item(item.right)
            return text.replace(right, f"({right})", 1)
        return text

    def unary(self, node: q.UnaryOp) -> str:
        if isinstance(node.operand, q.IntegerLiteral | q.NumericLiteral):
            return super().unary(node)
        return f"({self.operator(node.operator)} {self._inside(node.operand, node)})"

    def binary(self, node: q.BinaryOp) -> str:
        left, right = self._inside(node.left, node), self._inside(node.right, node)
        return f"({left} {self.operator(node.operator)} {right})"

    def conjunction(self, node: q.And) -> str:
        return f"({' AND '.join(self._inside(item, node) for item in node.operands)})"

    def disjunction(self, node: q.Or) -> str:
        return f"({' OR '.join(self._inside(item, node) for item in node.operands)})"

    def negation(self, node: q.Not) -> str:
        return f"(NOT {self._inside(node.operand, node)})"

    def is_null(self, node: q.IsNull) -> str:
        return f"({self._inside(node.operand, node)} IS {'NOT ' if node.negated else ''}NULL)"

    def boolean_test(self, node: q.BooleanTest) -> str:
        test = f"IS {'NOT ' if node.negated else ''}{node.value.upper()}"
        return f"({self._inside(node.operand, node)} {test})"

    def distinct(self, node: q.IsDistinctFrom) -> str:
        word = "IS NOT DISTINCT FROM" if node.negated else "IS DISTINCT FROM"
        return f"({self._inside(node.left, node)} {word} {self._inside(node.right, node)})"

    def quantified(self, node: q.QuantifiedComparison) -> str:
        left = f"{self._inside(node.left, node)} {self.operator(node.operator)}"
        return f"({left} {node.quantifier.upper()} ({self.expression(node.array)}))"

    def cast(self, node: q.TypeCast) -> str:
        operand = self._inside(node.operand, node)
        return f"{operand}::{type_name_text(node.type_name)}"

    def between(self, node: q.Between) -> str:
        word = (
            ("NOT " if node.negated else "") + "BETWEEN" + (" SYMMETRIC" if node.symmetric else "")
        )
        low, high = self._inside(node.low, node), self._inside(node.high, node)
        return f"({self._inside(node.operand, node)} {word} {low} AND {high})"

    def like(self, node: q.Like) -> str:
        word = "SIMILAR TO" if node.kind == "similar" else node.kind.upper()
        escape = f" ESCAPE {self._inside(node.escape, node)}" if node.escape else ""
        negated = "NOT " if node.negated else ""
        operand, pattern = self._inside(node.operand, node), self._inside(node.pattern, node)
        return f"({operand} {negated}{word} {pattern}{escape})"

    def in_list(self, node: q.InList) -> str:
        word = "NOT IN" if node.negated else "IN"
        return f"({self._inside(node.operand, node)} {word} ({self.expressions(node.items)}))"


_PRETTY_METHODS: Final[dict[type, Callable[[Any, Any], str]]] = {
    kind: getattr(_PrettyPrinter, method.__name__) for kind, method in _METHODS.items()
}


def _is_simple(node: q.Expression, parent: q.Expression) -> bool:
    """Tell whether a node can stand in its parent without parentheses."""
    if isinstance(node, q.BinaryOp) and isinstance(parent, q.BinaryOp):
        return _is_lower(node, parent)
    if isinstance(node, q.And | q.Not):
        return isinstance(parent, q.And | q.Or)
    if isinstance(node, q.Or):
        return isinstance(parent, q.Or)
    if isinstance(node, _OPERATORS):
        return isinstance(parent, _BOOLEANS)
    if isinstance(node, q.FunctionCall) and node.syntax in ("at_time_zone", "is_normalized"):
        return True
    return not isinstance(node, _WRAPPED)


def _is_lower(node: q.BinaryOp, parent: q.BinaryOp) -> bool:
    """Tell whether an arithmetic operator binds tighter than its parent.

    Or as tight, and stands left.
    """
    own, outer = node.operator.name, parent.operator.name
    if node.operator.schema or parent.operator.schema:
        return False
    if own in _HIGH and outer in _LOW:
        return True
    same = (own in _HIGH and outer in _HIGH) or (own in _LOW and outer in _LOW)
    return same and node is parent.left
