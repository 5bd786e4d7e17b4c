"""Syntax trees back to SQL text, in the manner of PostgreSQL's own printer.

Guarantees: the text parses to the same tree (spans aside). Every operator is in parentheses, so no
precedence is relied on; key words are upper case; names are quoted only where they must be. What
PostgreSQL shows after analysis (LIKE as ~~, IN as = ANY) stays as written: nothing is resolved.
Type names are printed as format_type does. Source: PostgreSQL docs, "System Information Functions".
"""

import re
from collections.abc import Callable
from typing import Any, Final

from sql.ast import query as q
from sql.ast.deparse_names import quote_identifier, quote_literal, type_name_text
from sql.ast.deparse_query import QueryPrinter
from sql.ast.node import Node

_BARE_FIELD: Final = re.compile(r"[a-z_][a-z0-9_]*\Z")
_TRIM_SIDES: Final = {"btrim": "BOTH", "ltrim": "LEADING", "rtrim": "TRAILING"}
_SUBSCRIPTABLE: Final = (q.ColumnRef, q.Parameter, q.Subscript)
_FRAME_BOUNDS: Final = {
    "unbounded_preceding": "UNBOUNDED PRECEDING",
    "preceding": "{} PRECEDING",
    "current_row": "CURRENT ROW",
    "following": "{} FOLLOWING",
    "unbounded_following": "UNBOUNDED FOLLOWING",
}


def deparse_expression(expression: q.Expression) -> str:
    """Print one scalar expression on one line."""
    return _Printer(pretty=False).expression(expression)


def deparse_query(query: q.DmlStatement, *, pretty: bool = False) -> str:
    """Print a query or data-modifying statement, without semicolon.

    ``pretty`` breaks lines and indents as pg_get_viewdef does, with its leading space.
    """
    return _Printer(pretty=pretty).statement(query, 0)


class _Printer(QueryPrinter):
    """Expressions, by a method for each class."""

    def expression(self, node: q.Expression) -> str:
        return _METHODS[type(node)](self, node)

    def expressions(self, nodes: tuple[q.Expression, ...]) -> str:
        return ", ".join([self.expression(node) for node in nodes])

    def subquery(self, query: q.Query) -> str:
        return f"({self.statement(query, self.level + 1)})"

    # --- constants and names ---

    def integer(self, node: q.IntegerLiteral) -> str:
        return str(node.value) if node.value >= 0 else f"({node.value})"

    def numeric(self, node: q.NumericLiteral) -> str:
        return f"({node.text})" if node.text.startswith("-") else node.text

    def string(self, node: q.StringLiteral) -> str:
        return quote_literal(node.value)

    def bit_string(self, node: q.BitStringLiteral) -> str:
        return f"{node.digits[0].upper()}'{node.digits[1:]}'"

    def boolean(self, node: q.BooleanLiteral) -> str:
        return "true" if node.value else "false"

    def null(self, _node: q.NullLiteral) -> str:
        return "NULL"

    def parameter(self, node: q.Parameter) -> str:
        return f"${node.number}"

    def column(self, node: q.ColumnRef) -> str:
        return ".".join(map(quote_identifier, node.parts))

    def star(self, node: q.Star) -> str:
        return ".".join([*map(quote_identifier, node.qualifier), "*"])

    def field(self, node: q.FieldSelect) -> str:
        field = "*" if node.field == "*" else quote_identifier(node.field)
        return f"({self.expression(node.operand)}).{field}"

    def subscript(self, node: q.Subscript) -> str:
        operand = self.expression(node.operand)
        if not isinstance(node.operand, _SUBSCRIPTABLE):
            operand = f"({operand})"
        return operand + self.brackets(node)

    def brackets(self, node: q.Subscript) -> str:
        """``[i]`` or ``[a:b]``."""
        lower = self.expression(node.lower) if node.lower else ""
        if not node.is_slice:
            return f"[{lower}]"
        upper = self.expression(node.upper) if node.upper else ""
        return f"[{lower}:{upper}]"

    # --- operators ---

    def operator(self, node: q.OperatorName) -> str:
        if not node.schema:
            return node.name
        return f"OPERATOR({quote_identifier(node.schema)}.{node.name})"

    def unary(self, node: q.UnaryOp) -> str:
        name = self.operator(node.operator)
        if name == "-" and isinstance(node.operand, q.IntegerLiteral | q.NumericLiteral):
            # Written bare, the sign would become part of the literal.
            name = "OPERATOR(-)"
        return f"({name} {self.expression(node.operand)})"

    def binary(self, node: q.BinaryOp) -> str:
        left, right = self.expression(node.left), self.expression(node.right)
        return f"({left} {self.operator(node.operator)} {right})"

    def conjunction(self, node: q.And) -> str:
        return f"({' AND '.join(map(self.expression, node.operands))})"

    def disjunction(self, node: q.Or) -> str:
        return f"({' OR '.join(map(self.expression, node.operands))})"

    def negation(self, node: q.Not) -> str:
        return f"(NOT {self.expression(node.operand)})"

    def is_null(self, node: q.IsNull) -> str:
        return f"({self.expression(node.operand)} IS {'NOT ' if node.negated else ''}NULL)"

    def boolean_test(self, node: q.BooleanTest) -> str:
        test = f"IS {'NOT ' if node.negated else ''}{node.value.upper()}"
        return f"({self.expression(node.operand)} {test})"

    def distinct(self, node: q.IsDistinctFrom) -> str:
        word = "IS NOT DISTINCT FROM" if node.negated else "IS DISTINCT FROM"
        return f"({self.expression(node.left)} {word} {self.expression(node.right)})"

    def between(self, node: q.Between) -> str:
        word = (
            ("NOT " if node.negated else "") + "BETWEEN" + (" SYMMETRIC" if node.symmetric else "")
        )
        low, high = self.expression(node.low), self.expression(node.high)
        return f"({self.expression(node.operand)} {word} {low} AND {high})"

    def like(self, node: q.Like) -> str:
        word = "SIMILAR TO" if node.kind == "similar" else node.kind.upper()
        escape = f" ESCAPE {self.expression(node.escape)}" if node.escape else ""
        negated = "NOT " if node.negated else ""
        operand, pattern = self.expression(node.operand), self.expression(node.pattern)
        return f"({operand} {negated}{word} {pattern}{escape})"

    def in_list(self, node: q.InList) -> str:
        word = "NOT IN" if node.negated else "IN"
        return f"({self.expression(node.operand)} {word} ({self.expressions(node.items)}))"

    def in_subquery(self, node: q.InSubquery) -> str:
        word = "NOT IN" if node.negated else "IN"
        return f"({self.expression(node.operand)} {word} {self.subquery(node.query)})"

    def quantified(self, node: q.QuantifiedComparison) -> str:
        left = f"{self.expression(node.left)} {self.operator(node.operator)}"
        return f"({left} {node.quantifier.upper()} ({self.expression(node.array)}))"

    def quantified_subquery(self, node: q.QuantifiedSubquery) -> str:
        left = f"{self.expression(node.left)} {self.operator(node.operator)}"
        return f"({left} {node.quantifier.upper()} {self.subquery(node.query)})"

    def cast(self, node: q.TypeCast) -> str:
        operand = self.expression(node.operand)
        if not isinstance(node.operand, q.StringLiteral | q.NullLiteral):
            operand = f"({operand})" if not operand.startswith("(-") else operand
        return f"{operand}::{type_name_text(node.type_name)}"

    def collate(self, node: q.Collate) -> str:
        name = ".".join(map(quote_identifier, node.collation))
        return f"({self.expression(node.operand)} COLLATE {name})"

    # --- sub-queries and constructors ---

    def exists(self, node: q.Exists) -> str:
        return f"(EXISTS {self.subquery(node.query)})"

    def scalar(self, node: q.ScalarSubquery) -> str:
        return self.subquery(node.query)

    def array_subquery(self, node: q.ArraySubquery) -> str:
        return f"ARRAY{self.subquery(node.query)}"

    def case(self, node: q.Case) -> str:
        parts = ["CASE"]
        if node.operand is not None:
            parts.append(self.expression(node.operand))
        for when in node.whens:
            condition, result = self.expression(when.condition), self.expression(when.result)
            parts.append(f"WHEN {condition} THEN {result}")
        if node.default is not None:
            parts.append(f"ELSE {self.expression(node.default)}")
        return " ".join([*parts, "END"])

    def coalesce(self, node: q.Coalesce) -> str:
        return f"COALESCE({self.expressions(node.args)})"

    def null_if(self, node: q.NullIf) -> str:
        return f"NULLIF({self.expression(node.left)}, {self.expression(node.right)})"

    def min_max(self, node: q.MinMax) -> str:
        return f"{node.kind.upper()}({self.expressions(node.args)})"

    def array(self, node: q.ArrayConstructor) -> str:
        return f"ARRAY[{self.array_items(node)}]"

    def array_items(self, node: q.ArrayConstructor) -> str:
        return ", ".join(
            f"[{self.array_items(item)}]"
            if isinstance(item, q.ArrayConstructor) and self._is_bracketed(node)
            else self.expression(item)
            for item in node.elements
        )

    def _is_bracketed(self, node: q.ArrayConstructor) -> bool:
        return all(isinstance(item, q.ArrayConstructor) for item in node.elements)

    def row(self, node: q.RowConstructor) -> str:
        return f"{'ROW' if node.explicit else ''}({self.expressions(node.items)})"

    def value_function(self, node: q.SqlValueFunction) -> str:
        precision = "" if node.precision is None else f"({node.precision})"
        return node.name.upper() + precision

    def grouping_set(self, node: q.GroupingSet) -> str:
        words = {"empty": "", "rollup": "ROLLUP ", "cube": "CUBE ", "sets": "GROUPING SETS "}
        return f"{words[node.kind]}({self.expressions(node.items)})"

    def default(self, _node: q.DefaultMarker) -> str:
        return "DEFAULT"

    def current_of(self, node: q.CurrentOf) -> str:
        return f"CURRENT OF {quote_identifier(node.cursor)}"

    # --- functions ---

    def call(self, node: q.FunctionCall) -> str:
        if node.syntax:
            return _SYNTAXES[node.syntax](self, node)
        args = "*" if node.star else ", ".join(self._arguments(node))
        if node.distinct:
            args = f"DISTINCT {args}"
        if node.order_by:
            args += f" ORDER BY {self.sort_keys(node.order_by)}"
        text = f"{'.'.join(map(quote_identifier, node.name))}({args})"
        if node.within_group:
            text += f" WITHIN GROUP (ORDER BY {self.sort_keys(node.within_group)})"
        if node.filter is not None:
            text += f" FILTER (WHERE {self.expression(node.filter)})"
        if node.over is not None:
            is_name = node.over.is_reference
            text += " OVER " + (
                quote_identifier(node.over.base) if is_name else self.window(node.over)
            )
        return text

    def _arguments(self, node: q.FunctionCall) -> list[str]:
        args = [self.expression(arg) for arg in node.args]
        for index, name in enumerate(node.arg_names):
            if name:
                args[index] = f"{quote_identifier(name)} => {args[index]}"
        if node.variadic:
            args[-1] = f"VARIADIC {args[-1]}"
        return args

    def window(self, window: q.WindowDefinition) -> str:
        parts = [quote_identifier(window.base)] if window.base else []
        if window.partition_by:
            parts.append(f"PARTITION BY {self.expressions(window.partition_by)}")
        if window.order_by:
            parts.append(f"ORDER BY {self.sort_keys(window.order_by)}")
        if window.frame is not None:
            parts.append(self._frame(window.frame))
        return f"({' '.join(parts)})"

    def _frame(self, frame: q.WindowFrame) -> str:
        start, end = self._bound(frame.start), self._bound(frame.end)
        text = f"{frame.unit.upper()} BETWEEN {start} AND {end}"
        if frame.exclusion != "no_others":
            text += f" EXCLUDE {frame.exclusion.replace('_', ' ').upper()}"
        return text

    def _bound(self, bound: q.FrameBound) -> str:
        offset = self.expression(bound.offset) if bound.offset is not None else ""
        return _FRAME_BOUNDS[bound.kind].format(offset)

    def extract(self, node: q.FunctionCall) -> str:
        field, source = node.args
        assert isinstance(field, q.StringLiteral), "the parser makes it one"
        is_bare = _BARE_FIELD.match(field.value) and quote_identifier(field.value) == field.value
        name = field.value if is_bare else quote_literal(field.value)
        return f"EXTRACT({name} FROM {self.expression(source)})"

    def overlay(self, node: q.FunctionCall) -> str:
        args = [self.expression(arg) for arg in node.args]
        length = f" FOR {args[3]}" if len(args) == 4 else ""
        return f"OVERLAY({args[0]} PLACING {args[1]} FROM {args[2]}{length})"

    def position(self, node: q.FunctionCall) -> str:
        string, substring = node.args
        return f"POSITION({self._restricted(substring)} IN {self._restricted(string)})"

    def _restricted(self, node: q.Expression) -> str:
        return f"({self.expression(node)})"

    def substring(self, node: q.FunctionCall) -> str:
        args = [self.expression(arg) for arg in node.args]
        length = f" FOR {args[2]}" if len(args) == 3 else ""
        return f"SUBSTRING({args[0]} FROM {args[1]}{length})"

    def trim(self, node: q.FunctionCall) -> str:
        side = _TRIM_SIDES[node.name[-1]]
        if len(node.args) == 2:
            string, characters = map(self.expression, node.args)
            return f"TRIM({side} {characters} FROM {string})"
        return f"TRIM({side} FROM {self.expressions(node.args)})"

    def normalize(self, node: q.FunctionCall) -> str:
        form = f", {self._form(node.args[1])}" if len(node.args) == 2 else ""
        return f"NORMALIZE({self.expression(node.args[0])}{form})"

    def _form(self, node: q.Expression) -> str:
        assert isinstance(node, q.StringLiteral), "the parser makes it one"
        return node.value

    def is_normalized(self, node: q.FunctionCall) -> str:
        form = f"{self._form(node.args[1])} " if len(node.args) == 2 else ""
        return f"({self.expression(node.args[0])} IS {form}NORMALIZED)"

    def at_time_zone(self, node: q.FunctionCall) -> str:
        zone, source = node.args
        return f"({self.expression(source)} AT TIME ZONE {self.expression(zone)})"

    def overlaps(self, node: q.FunctionCall) -> str:
        left, right = self.expressions(node.args[:2]), self.expressions(node.args[2:])
        return f"(({left}) OVERLAPS ({right}))"

    def grouping(self, node: q.FunctionCall) -> str:
        return f"GROUPING({self.expressions(node.args)})"


_SYNTAXES: Final[dict[str, Callable[[_Printer, q.FunctionCall], str]]] = {
    "extract": _Printer.extract,
    "overlay": _Printer.overlay,
    "position": _Printer.position,
    "substring": _Printer.substring,
    "trim": _Printer.trim,
    "normalize": _Printer.normalize,
    "is_normalized": _Printer.is_normalized,
    "at_time_zone": _Printer.at_time_zone,
    "overlaps": _Printer.overlaps,
    "grouping": _Printer.grouping,
}
_METHODS: Final[dict[type[Node], Callable[[_Printer, Any], str]]] = {
    q.IntegerLiteral: _Printer.integer,
    q.NumericLiteral: _Printer.numeric,
    q.StringLiteral: _Printer.string,
    q.BitStringLiteral: _Printer.bit_string,
    q.BooleanLiteral: _Printer.boolean,
    q.NullLiteral: _Printer.null,
    q.Parameter: _Printer.parameter,
    q.ColumnRef: _Printer.column,
    q.Star: _Printer.star,
    q.FieldSelect: _Printer.field,
    q.Subscript: _Printer.subscript,
    q.UnaryOp: _Printer.unary,
    q.BinaryOp: _Printer.binary,
    q.And: _Printer.conjunction,
    q.Or: _Printer.disjunction,
    q.Not: _Printer.negation,
    q.IsNull: _Printer.is_null,
    q.BooleanTest: _Printer.boolean_test,
    q.IsDistinctFrom: _Printer.distinct,
    q.Between: _Printer.between,
    q.Like: _Printer.like,
    q.InList: _Printer.in_list,
    q.InSubquery: _Printer.in_subquery,
    q.QuantifiedComparison: _Printer.quantified,
    q.QuantifiedSubquery: _Printer.quantified_subquery,
    q.Exists: _Printer.exists,
    q.ScalarSubquery: _Printer.scalar,
    q.ArraySubquery: _Printer.array_subquery,
    q.Case: _Printer.case,
    q.Coalesce: _Printer.coalesce,
    q.NullIf: _Printer.null_if,
    q.MinMax: _Printer.min_max,
    q.ArrayConstructor: _Printer.array,
    q.RowConstructor: _Printer.row,
    q.TypeCast: _Printer.cast,
    q.Collate: _Printer.collate,
    q.SqlValueFunction: _Printer.value_function,
    q.FunctionCall: _Printer.call,
    q.GroupingSet: _Printer.grouping_set,
    q.DefaultMarker: _Printer.default,
    q.CurrentOf: _Printer.current_of,
}
