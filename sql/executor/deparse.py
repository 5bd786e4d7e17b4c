"""Bound expressions as text, the way EXPLAIN prints them.

Source: PostgreSQL docs, "Using EXPLAIN".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sql.binder import bound as b
from sql.types.io import text_output
from sql.types.typmod import format_type

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BARE_TYPES: Final = {"int4", "bool"}


class Deparser:
    """Writes expressions.

    ``names`` map column ids to ``relation.column`` or to what computes them; ``qualify`` keeps
    the relation.
    """

    def __init__(self, names: dict[int, Any], *, qualify: bool) -> None:
        self._names = names
        self._qualify = qualify
        self._handlers: dict[type, Callable[[Any], str]] = {
            b.Const: self._const,
            b.ParameterRef: lambda e: f"${e.index + 1}",
            b.ColumnVar: self._column,
            b.CallExpr: self._call,
            b.CastExpr: self._cast,
            b.BoolExpr: self._bool,
            b.NullTestExpr: self._null_test,
            b.BooleanTestExpr: self._boolean_test,
            b.DistinctExpr: self._distinct,
            b.CaseExpr: self._case,
            b.CoalesceExpr: lambda e: f"COALESCE({self.list(e.args)})",
            b.NullIfExpr: lambda e: f"NULLIF({self.write(e.left)}, ...)",
            b.MinMaxExpr: lambda e: f"{e.kind.upper()}({self.list(e.args)})",
            b.ArrayExpr: lambda e: f"ARRAY[{self.list(e.elements)}]",
            b.RowExpr: lambda e: f"ROW({self.list(e.items)})",
            b.FieldExpr: lambda e: f"({self.write(e.operand)}).f{e.index + 1}",
            b.SubscriptExpr: self._subscript,
            b.ScalarArrayExpr: self._scalar_array,
            b.RowCompareExpr: self._row_compare,
            b.SubqueryExpr: self._subquery,
            b.SortItem: self._sort_item,
            b.AggregateCall: self._aggregate,
            b.CaseOperand: lambda _: "CASE_TEST_EXPR",
        }

    def write(self, expression: Any) -> str:
        """Return an expression's text."""
        if isinstance(expression, str):
            return expression
        handler = self._handlers.get(type(expression))
        return "?" if handler is None else handler(expression)

    def list(self, expressions: Sequence[Any]) -> str:
        """Return texts with commas between."""
        return ", ".join(map(self.write, expressions))

    def conditions(self, conditions: Sequence[Any]) -> str:
        """Return conditions joined by AND, in parentheses."""
        texts = [self._parenthesised(c) for c in conditions]
        return texts[0] if len(texts) == 1 else f"({' AND '.join(texts)})"

    def column_name(self, column_id: int, fallback: str = "") -> str:
        """Return a column's name, qualified or not."""
        name = self._names.get(column_id, fallback) or f"column{column_id}"
        if not isinstance(name, str):
            return self.write(name)
        return name if self._qualify else name.rpartition(".")[2]

    def _parenthesised(self, expression: Any) -> str:
        text = self.write(expression)
        return text if text.startswith("(") or isinstance(expression, b.ColumnVar) else f"({text})"

    def _const(self, expression: b.Const) -> str:
        if expression.value is None:
            return f"NULL::{format_type(expression.type)}"
        text = text_output(expression.type)(expression.value)
        if expression.type.name == "bool":
            return "true" if expression.value else "false"
        if expression.type.name == "int4" and not text.startswith("-"):
            return text
        if expression.type.name == "numeric" and not text.startswith("-"):
            return text
        escaped = text.replace("'", "''")
        return f"'{escaped}'::{format_type(expression.type)}"

    def _column(self, expression: b.ColumnVar) -> str:
        name = (
            f"{expression.qualifier}.{expression.name}" if expression.qualifier else expression.name
        )
        return self.column_name(expression.id, name)

    def _call(self, expression: b.CallExpr) -> str:
        if expression.operator is None:
            return f"{expression.function.name}({self.list(expression.args)})"
        name = expression.operator.name
        if len(expression.args) == 1:
            return f"({name} {self.write(expression.args[0])})"
        left, right = expression.args
        return f"({self.write(left)} {name} {self.write(right)})"

    def _cast(self, expression: b.CastExpr) -> str:
        typmod = expression.typmod if expression.typmod != -1 else None
        inner = self.write(expression.operand)
        if not inner.startswith("("):
            inner = f"({inner})"
        return f"{inner}::{format_type(expression.type, typmod)}"

    def _bool(self, expression: b.BoolExpr) -> str:
        if expression.kind == "not":
            return f"(NOT {self.write(expression.operands[0])})"
        word = f" {expression.kind.upper()} "
        return f"({word.join(self.write(o) for o in expression.operands)})"

    def _null_test(self, expression: b.NullTestExpr) -> str:
        word = "IS NOT NULL" if expression.negated else "IS NULL"
        return f"({self.write(expression.operand)} {word})"

    def _boolean_test(self, expression: b.BooleanTestExpr) -> str:
        word = "IS NOT" if expression.negated else "IS"
        return f"({self.write(expression.operand)} {word} {expression.value.upper()})"

    def _distinct(self, expression: b.DistinctExpr) -> str:
        text = f"({self.write(expression.left)} IS DISTINCT FROM {self.write(expression.right)})"
        return f"(NOT {text})" if expression.negated else text

    def _case(self, expression: b.CaseExpr) -> str:
        parts = ["CASE"]
        for condition, result in expression.whens:
            parts.append(f"WHEN {self.write(condition)} THEN {self.write(result)}")
        if expression.default is not None:
            parts.append(f"ELSE {self.write(expression.default)}")
        return " ".join([*parts, "END"])

    def _subscript(self, expression: b.SubscriptExpr) -> str:
        parts = []
        for lower, upper, is_slice in expression.subscripts:
            texts = ["" if e is None else self.write(e) for e in (lower, upper)]
            parts.append(f"[{':'.join(texts)}]" if is_slice else f"[{texts[0] or texts[1]}]")
        return f"{self.write(expression.operand)}{''.join(parts)}"

    def _scalar_array(self, expression: b.ScalarArrayExpr) -> str:
        word = "ANY" if expression.use_any else "ALL"
        left, array = self.write(expression.left), expression.array
        if (
            isinstance(array, b.ArrayExpr)
            and array.elements
            and all(isinstance(e, b.Const) for e in array.elements)
        ):
            values = [e.value for e in array.elements if isinstance(e, b.Const)]
            write = text_output(array.elements[0].type)
            text = ",".join("NULL" if v is None else write(v) for v in values)
            right = f"'{{{text}}}'::{format_type(array.type)}"
        else:
            right = self.write(array)
        return f"({left} {expression.operator.name} {word} ({right}))"

    def _row_compare(self, expression: b.RowCompareExpr) -> str:
        left, right = self.list(expression.left), self.list(expression.right)
        return f"(ROW({left}) {expression.comparison} ROW({right}))"

    def _subquery(self, expression: b.SubqueryExpr) -> str:
        return "(SubPlan)" if expression.kind != "any" else "(hashed SubPlan)"

    def _sort_item(self, item: b.SortItem) -> str:
        text = self.write(item.expression)
        if item.descending:
            text += " DESC"
        if item.nulls_first != item.descending:
            text += " NULLS FIRST" if item.nulls_first else " NULLS LAST"
        return text

    def _aggregate(self, call: b.AggregateCall) -> str:
        inner = self.list(call.args) if call.args else "*"
        return f"{call.aggregate.name}({'DISTINCT ' if call.distinct else ''}{inner})"
