"""Scalar expressions by precedence climbing, with PostgreSQL's precedence table.

From weakest: OR, AND, NOT, IS, comparisons (not associative), BETWEEN IN LIKE ILIKE SIMILAR (not
associative), other operators, + -, * / %, ^, AT TIME ZONE, COLLATE, unary sign, ``::``. Subscripts
and fields follow a column, parameter or parenthesis only. AND and OR chains are one node.

Nesting and operator chains count against ``NESTING_DEPTH_MAX``.
Source: PostgreSQL docs, "Lexical Structure", "Operator Precedence".
"""

from typing import ClassVar, Final, Literal

from sql.ast.keywords import COL_NAME, TYPE_FUNC_NAME, UNRESERVED
from sql.ast.query import (
    And,
    ArrayConstructor,
    ArraySubquery,
    Between,
    BinaryOp,
    BitStringLiteral,
    BooleanLiteral,
    BooleanTest,
    Case,
    Collate,
    ColumnRef,
    DefaultMarker,
    Exists,
    Expression,
    FieldSelect,
    FunctionCall,
    InList,
    InSubquery,
    IntegerLiteral,
    IsDistinctFrom,
    IsNull,
    Like,
    Not,
    NullLiteral,
    NumericLiteral,
    OperatorName,
    Or,
    Parameter,
    QuantifiedComparison,
    QuantifiedSubquery,
    Query,
    RowConstructor,
    ScalarSubquery,
    Star,
    StringLiteral,
    Subscript,
    TypeCast,
    TypeName,
    UnaryOp,
    WhenClause,
)
from sql.parser.cursor import COL_ID, NESTING_DEPTH_MAX, too_deep
from sql.parser.functions import SPECIAL_FUNCTIONS, SYSTEM, VALUE_FUNCTIONS, FunctionParser
from sql.parser.lexer import LOOKAHEAD
from sql.parser.type_names import SPECIAL_TYPES
from sql.span import Span

OR_POWER, AND_POWER, NOT_POWER, IS_POWER, COMPARISON, PATTERN, OPERATOR = 1, 2, 3, 4, 5, 6, 7
ADDITION, MULTIPLICATION, EXPONENT, AT_POWER, COLLATE_POWER, SIGN, CAST = 8, 9, 10, 11, 12, 13, 14
NO_OPERATORS: Final = 99

INT8_MAX: Final = 2**63 - 1
INT8_MIN: Final = -(2**63)
_QUANTIFIERS: Final = frozenset(("any", "some", "all"))
_QUERY_WORDS: Final = frozenset(("select", "values", "with", "table"))
_QUERY_GOES_ON: Final = frozenset(
    ("union", "intersect", "except", "order", "limit", "offset", "fetch", "for")
)
_AFTER_NAME: Final = frozenset(("(", ".", "[", "SCONST"))
_LIKE_OPERATORS: Final = {
    ("like", False): "~~",
    ("like", True): "!~~",
    ("ilike", False): "~~*",
    ("ilike", True): "!~~*",
}
_OPERATOR_TOKENS: Final = frozenset(
    ("OP", "+", "-", "*", "/", "%", "^", "<", ">", "=", "<=", ">=", "<>")
)
_NORMAL_FORMS: Final = frozenset(("nfc", "nfd", "nfkc", "nfkd"))


class ExpressionParser(FunctionParser):
    """a_expr, b_expr and c_expr."""

    __slots__ = ()

    def parse_expression(self, min_power: int = 0) -> Expression:
        """a_expr made of operators that bind at least as tightly as ``min_power``."""
        depth = self.depth = self.depth + 1
        if depth > NESTING_DEPTH_MAX:
            raise too_deep()
        prefix = _PREFIX.get(self.kinds[self.pos])
        if prefix is None:
            raise self.unexpected()
        left = prefix(self)
        if self.kinds[self.pos] in _INFIX:
            left = self._operators(left, min_power, depth)
        self.depth = depth - 1
        return left

    def _operators(self, left: Expression, min_power: int, depth: int) -> Expression:
        kinds = self.kinds
        while True:
            at = self.pos
            kind = kinds[at]
            power = _INFIX.get(kind, -1)
            if power < min_power or power < 0:
                return left
            handler = _HANDLERS.get(kind)
            if handler is not None:
                result = handler(self, left)
                if result is None:
                    return left
                left = result
                depth += 1
                if depth > NESTING_DEPTH_MAX:
                    raise too_deep()
                continue
            self.pos = at + 1
            name = operator_name(self.values[at])
            span = Span(self.starts[at], self.ends[at])
            if kinds[at + 1] in _QUANTIFIERS:
                left = self._quantified(name, left, span)
                continue
            left = BinaryOp(name, left, self.parse_expression(power + 1), span)
            depth += 1
            if depth > NESTING_DEPTH_MAX:
                raise too_deep()
            if power == COMPARISON:
                self._forbid(COMPARISON)

    def _forbid(self, power: int) -> None:
        """Refuse a second operator of a non-associative level."""
        if _INFIX.get(self.kinds[self.pos]) == power:
            raise self.unexpected()

    def parse_restricted_expression(self, min_power: int = 0) -> Expression:
        """b_expr, in which only operators, casts and IS DISTINCT FROM occur."""
        if self.kinds[self.pos] in ("not", "default"):
            raise self.unexpected()
        prefix = _PREFIX.get(self.kinds[self.pos])
        if prefix is None:
            raise self.unexpected()
        self.enter()
        depth = self.depth
        left = prefix(self)
        while True:
            at = self.pos
            kind = self.kinds[at]
            power = _INFIX.get(kind, -1)
            if power < min_power:
                break
            if kind in _OPERATOR_TOKENS:
                self.pos += 1
                right = self.parse_restricted_expression(power + 1)
                left = BinaryOp(operator_name(self.values[at]), left, right, self.token_span(at))
                if power == COMPARISON:
                    self._forbid(COMPARISON)
            elif kind == "::":
                left = self._cast_operator(left)
            elif kind == "is":
                self.pos += 1
                negated = self.accept("not")
                self.expect_all("distinct", "from")
                right = self.parse_restricted_expression(IS_POWER + 1)
                left = IsDistinctFrom(left, right, negated, self.token_span(at))
            else:
                break
            depth += 1
            if depth > NESTING_DEPTH_MAX:
                raise too_deep()
        self.depth -= 1
        return left

    # --- infix and postfix operators; the operator is the current token ---

    def _and(self, left: Expression) -> Expression:
        at = self.pos
        operands: list[Expression] = list(left.operands) if isinstance(left, And) else [left]
        while self.accept("and"):
            operands.append(self.parse_expression(NOT_POWER))
        return And(tuple(operands), left.span if isinstance(left, And) else self.token_span(at))

    def _or(self, left: Expression) -> Expression:
        at = self.pos
        operands: list[Expression] = list(left.operands) if isinstance(left, Or) else [left]
        while self.accept("or"):
            operands.append(self.parse_expression(AND_POWER))
        return Or(tuple(operands), left.span if isinstance(left, Or) else self.token_span(at))

    def _is(self, left: Expression) -> Expression | None:
        at = self.pos
        self.pos += 1
        negated = self.accept("not")
        kind = self.kinds[self.pos]
        span = self.token_span(at)
        self.pos += 1
        if kind == "null":
            return IsNull(left, negated, span)
        if kind in ("true", "false", "unknown"):
            return BooleanTest(left, kind, negated, span)  # type: ignore[arg-type]
        if kind == "distinct":
            self.expect("from")
            right = self.parse_expression(IS_POWER + 1)
            self._forbid(IS_POWER)
            return IsDistinctFrom(left, right, negated, span)
        if kind == "document":
            raise self.not_supported("IS DOCUMENT", at)
        args: tuple[Expression, ...] = (left,)
        if kind in _NORMAL_FORMS:
            args = (left, StringLiteral(kind.upper(), self.token_span(self.pos - 1)))
            kind = self.kinds[self.pos]
            self.pos += 1
        if kind != "normalized":
            raise self.unexpected(self.pos - 1)
        call = FunctionCall((SYSTEM, "is_normalized"), args, syntax="is_normalized", span=span)
        return Not(call, span) if negated else call

    def _null_test(self, left: Expression) -> Expression:
        at = self.pos
        self.pos += 1
        return IsNull(left, self.kinds[at] == "notnull", self.token_span(at))

    def _pattern(self, left: Expression) -> Expression | None:
        """[NOT] BETWEEN, IN, LIKE, ILIKE, SIMILAR TO."""
        at = self.pos
        if self.kinds[at] == "similar" and self.kinds[at + 1] != "to":
            # SUBSTRING(a SIMILAR b ESCAPE c) stops the first operand here.
            return None
        negated = self.accept("not_la")
        kind = self.kinds[self.pos]
        self.pos += 1
        span = self.token_span(at)
        if kind == "in":
            return self._in(left, span, negated=negated)
        if kind == "between":
            symmetric = self.accept_any(("symmetric", "asymmetric")) == "symmetric"
            low = self.parse_restricted_expression()
            self.expect("and")
            high = self.parse_expression(PATTERN + 1)
            self._forbid(PATTERN)
            return Between(left, low, high, negated, symmetric, span)
        if kind == "similar":
            self.expect("to")
        elif self.kinds[self.pos] in _QUANTIFIERS:
            return self._quantified(operator_name(_LIKE_OPERATORS[kind, negated]), left, span)
        pattern = self.parse_expression(PATTERN + 1)
        escape = self.parse_expression(PATTERN + 1) if self.accept("escape") else None
        self._forbid(PATTERN)
        return Like(kind, left, pattern, escape, negated, span)  # type: ignore[arg-type]

    def _in(self, left: Expression, span: Span, *, negated: bool) -> Expression:
        if self.kinds[self.pos] != "(":
            raise self.unexpected()
        if self.at_query():
            query = self.parse_query_in_parentheses()
            return InSubquery(left, query, negated, span)
        self.pos += 1
        self.enter()
        items = self.parse_expression_list()
        self.expect(")")
        self.depth -= 1
        return InList(left, items, negated, span)

    def _quantified(self, name: OperatorName, left: Expression, span: Span) -> Expression:
        quantifier: Literal["any", "all"] = (
            "all" if self.expect_any(_QUANTIFIERS) == "all" else "any"
        )
        if self.kinds[self.pos] != "(":
            raise self.unexpected()
        if self.at_query():
            query = self.parse_query_in_parentheses()
            return QuantifiedSubquery(name, left, quantifier, query, span)
        self.pos += 1
        array = self.parse_expression()
        self.expect(")")
        return QuantifiedComparison(name, left, quantifier, array, span)

    def _qualified_operator(self, left: Expression) -> Expression | None:
        if self.kinds[self.pos + 1] != "(":
            return None
        at = self.pos
        name = self.parse_operator_call()
        span = self.token_span(at)
        if self.kinds[self.pos] in _QUANTIFIERS:
            return self._quantified(name, left, span)
        return BinaryOp(name, left, self.parse_expression(OPERATOR + 1), span)

    def parse_operator_call(self) -> OperatorName:
        """``OPERATOR ( [schema.]operator )``."""
        self.expect_all("operator", "(")
        schema = ""
        while self.kinds[self.pos] in COL_ID:
            schema = self.values[self.pos]
            self.pos += 1
            self.expect(".")
        self.expect_any(_OPERATOR_TOKENS)
        name = self.values[self.pos - 1]
        self.expect(")")
        return OperatorName(name, schema)

    def _cast_operator(self, left: Expression) -> Expression:
        at = self.pos
        self.pos += 1
        return TypeCast(left, self.parse_type_name(), Span(self.starts[at], self.ends[at]))

    def _collate(self, left: Expression) -> Expression:
        at = self.pos
        self.pos += 1
        return Collate(left, self.parse_any_name(), self.token_span(at))

    def _at_time_zone(self, left: Expression) -> Expression | None:
        at = self.pos
        if self.kinds[at + 1] != "time":
            return None
        self.expect_all("at", "time", "zone")
        zone = self.parse_expression(AT_POWER + 1)
        span = self.token_span(at)
        return FunctionCall((SYSTEM, "timezone"), (zone, left), syntax="at_time_zone", span=span)

    def _overlaps(self, left: Expression) -> Expression:
        at = self.pos
        if not isinstance(left, RowConstructor):
            raise self.unexpected()
        self.pos += 1
        right_at = self.pos
        if self.kinds[right_at] not in ("(", "row"):
            raise self.unexpected()
        right = _PREFIX[self.kinds[right_at]](self)
        if not isinstance(right, RowConstructor):
            raise self.unexpected()
        for row, side, index in ((left, "left", at), (right, "right", right_at)):
            if len(row.items) != 2:
                message = f"wrong number of parameters on {side} side of OVERLAPS expression"
                position = row.span.position if side == "left" else self.starts[index] + 1
                error = self.error_at(message, index)
                error.position = position
                raise error
        return FunctionCall(
            (SYSTEM, "overlaps"),
            left.items + right.items,
            syntax="overlaps",
            span=self.token_span(at),
        )

    # --- prefix operators and primaries; the word is the current token ---

    def _not(self) -> Expression:
        at = self.pos
        self.pos += 1
        return Not(self.parse_expression(NOT_POWER), self.token_span(at))

    def _sign(self) -> Expression:
        at = self.pos
        self.pos += 1
        operand = self.parse_expression(SIGN)
        span = Span(self.starts[at], self.ends[at])
        if self.kinds[at] == "-":
            if isinstance(operand, IntegerLiteral) and operand.value != INT8_MIN:
                return IntegerLiteral(-operand.value, span.to(operand.span))
            if isinstance(operand, NumericLiteral):
                return _negated(operand, span.to(operand.span))
        return UnaryOp(operator_name(self.kinds[at]), operand, span)

    def _prefix_operator(self) -> Expression:
        at = self.pos
        if self.kinds[at] == "operator":
            if self.kinds[at + 1] != "(":
                return self._name()
            name = self.parse_operator_call()
        else:
            self.pos += 1
            name = operator_name(self.values[at])
        return UnaryOp(name, self.parse_expression(OPERATOR + 1), self.token_span(at))

    def _integer(self) -> Expression:
        at = self.pos
        self.pos = at + 1
        return IntegerLiteral(int(self.values[at]), Span(self.starts[at], self.ends[at]))

    def _number(self) -> Expression:
        at = self.pos
        self.pos = at + 1
        text = self.values[at]
        span = Span(self.starts[at], self.ends[at])
        if len(text) <= 20 and text.isdigit() and int(text) <= INT8_MAX:
            return IntegerLiteral(int(text), span)
        return NumericLiteral(text, span)

    def _string(self) -> Expression:
        at = self.pos
        self.pos = at + 1
        return StringLiteral(self.values[at], Span(self.starts[at], self.ends[at]))

    def _bit_string(self) -> Expression:
        at = self.pos
        self.pos = at + 1
        return BitStringLiteral(self.values[at], self.token_span(at))

    def _boolean(self) -> Expression:
        at = self.pos
        self.pos = at + 1
        return BooleanLiteral(self.kinds[at] == "true", self.token_span(at))

    def _null(self) -> Expression:
        self.pos += 1
        return NullLiteral(self.token_span(self.pos - 1))

    def _default(self) -> Expression:
        self.pos += 1
        return DefaultMarker(self.token_span(self.pos - 1))

    def _parameter(self) -> Expression:
        at = self.pos
        self.pos = at + 1
        node: Expression = Parameter(int(self.values[at]), Span(self.starts[at], self.ends[at]))
        if self.kinds[at + 1] in (".", "["):
            node = self._indirection(node, at)
        return node

    def _name(self) -> Expression:
        """Parse a column, a call or a typed constant, told apart by what follows."""
        at = self.pos
        following = self.kinds[at + 1]
        if following not in _AFTER_NAME:
            self.pos = at + 1
            return ColumnRef((self.values[at],), Span(self.starts[at], self.ends[at]))
        if following == ".":
            return self._dotted_name(at)
        if following == "(":
            self.pos = at + 1
            return self.parse_call((self.values[at],), at)
        if following == "SCONST":
            return self.parse_typed_string(self.parse_type_name(), at)
        self.pos = at + 1
        return self._indirection(ColumnRef((self.values[at],), self.token_span(at)), at)

    def _dotted_name(self, at: int) -> Expression:
        parts = [self.values[at]]
        self.pos = at + 1
        while self.accept("."):
            if self.accept("*"):
                self._check_star_is_last()
                return Star(tuple(parts), self.span(at))
            parts.append(self.parse_label())
        kind = self.kinds[self.pos]
        if kind == "(":
            return self.parse_call(tuple(parts), at)
        if kind == "SCONST":
            self.pos = at
            return self.parse_typed_string(self.parse_type_name(), at)
        node: Expression = ColumnRef(tuple(parts), self.span(at))
        return self._indirection(node, at) if kind == "[" else node

    def _check_star_is_last(self) -> None:
        """Refuse ``*`` within a longer path, at the token after the path as PostgreSQL does."""
        at = self.pos
        while self.kinds[self.pos] in (".", "["):
            if self.accept("."):
                if not self.accept("*"):
                    self.parse_label()
            else:
                self.pos += 1
                self.parse_subscript(NullLiteral(), at)
        if self.pos > at:
            raise self.error_near('improper use of "*"', self.pos)

    def _column_name(self) -> Expression:
        """Parse a col_name key word: a column, never a function."""
        at = self.pos
        if self.kinds[at + 1] in ("(", "SCONST"):
            raise self.unexpected(at + 1)
        return self._name()

    def _typed_or_column(self) -> Expression:
        """INT '1', CHAR(3) 'abc', or a column of that name."""
        at = self.pos
        if self.kinds[at] == "double" and self.kinds[at + 1] != "precision":
            return self._name()
        following = self.kinds[at + 1]
        if following not in _TYPE_GOES_ON:
            return self._name()
        name, schema, modifiers, fields = self.parse_simple_type(is_constant=True)
        type_name = TypeName(name, schema, modifiers, 0, fields, self.span(at))
        return self.parse_typed_string(type_name, at)

    def _interval(self) -> Expression:
        at = self.pos
        if self.kinds[at + 1] not in ("SCONST", "("):
            return self._name()
        self.pos += 1
        modifiers = fields = ()  # type: tuple[int, ...] | tuple[str, ...]
        if self.accept("("):
            modifiers = (self.parse_integer(),)
            self.expect(")")
        literal_at = self.pos
        literal = StringLiteral(self.parse_string(), self.token_span(literal_at))
        if not modifiers:
            modifiers, fields = self.parse_interval_fields()
        type_name = TypeName("interval", "", modifiers, 0, fields, self.token_span(at))  # type: ignore[arg-type]
        return TypeCast(literal, type_name, self.span(at))

    def _type_function_name(self) -> Expression:
        """Parse a type_func_name key word: a function or a typed constant, never a column."""
        at = self.pos
        kind = self.kinds[at]
        if kind == "current_schema" and self.kinds[at + 1] != "(":
            return self.parse_value_function()
        if kind == "collation" and self.kinds[at + 1] == "for":
            return self.parse_collation_for()
        if self.kinds[at + 1] not in ("(", "SCONST"):
            self.pos += 1
            raise self.unexpected(at if kind not in _COULD_BE_TYPE else None)
        return self._name()

    def _special_function(self) -> Expression:
        at = self.pos
        if self.kinds[at + 1] != "(" and self.kinds[at] in COL_NAME:
            return self._column_name()
        node = self.parse_special_function()
        assert node is not None, "registered for special functions only"
        return node

    def _value_function(self) -> Expression:
        return self.parse_value_function()

    def _case(self) -> Expression:
        start = self.pos
        self.pos += 1
        operand = None if self.kinds[self.pos] == "when" else self.parse_expression()
        whens: list[WhenClause] = []
        while self.kinds[self.pos] == "when":
            at = self.pos
            self.pos += 1
            condition = self.parse_expression()
            self.expect("then")
            whens.append(WhenClause(condition, self.parse_expression(), self.token_span(at)))
        if not whens:
            raise self.unexpected()
        default = self.parse_expression() if self.accept("else") else None
        self.expect("end")
        return Case(operand, tuple(whens), default, self.span(start))

    def _exists(self) -> Expression:
        at = self.pos
        if self.kinds[at + 1] != "(":
            return self._name()
        self.pos += 1
        if not self.at_query():
            raise self.unexpected(at + 2)
        return Exists(self.parse_query_in_parentheses(), self.span(at))

    def _array(self) -> Expression:
        at = self.pos
        self.pos += 1
        if self.kinds[self.pos] == "(":
            if not self.at_query():
                raise self.unexpected(self.pos + 1)
            return ArraySubquery(self.parse_query_in_parentheses(), self.span(at))
        node = self._array_items()
        return ArrayConstructor(node.elements, self.span(at))

    def _array_items(self) -> ArrayConstructor:
        start = self.pos
        self.expect("[")
        self.enter()
        elements: tuple[Expression, ...] = ()
        if self.kinds[self.pos] == "[":
            elements = self.parse_list(self._array_items)
        elif self.kinds[self.pos] != "]":
            elements = self.parse_expression_list()
        self.expect("]")
        self.depth -= 1
        return ArrayConstructor(elements, self.span(start))

    def _row(self) -> Expression:
        start = self.pos
        if self.kinds[start + 1] != "(":
            return self._name()
        self.pos += 2
        items = () if self.kinds[self.pos] == ")" else self.parse_expression_list()
        self.expect(")")
        return RowConstructor(items, explicit=True, span=self.span(start))

    def _parenthesis(self) -> Expression:
        start = self.pos
        if self.at_query():
            query = self.parse_query_in_parentheses()
            node: Expression = ScalarSubquery(query, self.span(start))
        else:
            self.pos = start + 1
            node = self.parse_expression()
            if self.kinds[self.pos] == ",":
                self.pos += 1
                items = (node, *self.parse_expression_list())
                self.expect(")")
                return RowConstructor(items, explicit=False, span=self.span(start))
            self.expect(")")
        if self.kinds[self.pos] in (".", "["):
            node = self._indirection(node, start)
        return node

    def _indirection(self, node: Expression, start: int) -> Expression:
        """``.field``, ``.*``, ``[i]``, ``[a:b]`` after a column, parameter or parenthesis."""
        opened = self.depth
        while True:
            if self.accept("."):
                if self.accept("*"):
                    self._check_star_is_last()
                    node = FieldSelect(node, "*", self.span(start))
                    break
                node = FieldSelect(node, self.parse_label(), self.span(start))
            elif self.accept("["):
                node = self.parse_subscript(node, start)
            else:
                break
            self.enter()
        self.depth = opened
        return node

    def parse_subscript(self, node: Expression, start: int) -> Subscript:
        """Parse what follows ``[``."""
        lower = upper = None
        if self.kinds[self.pos] != ":":
            lower = self.parse_expression()
        is_slice = self.accept(":")
        if is_slice and self.kinds[self.pos] != "]":
            upper = self.parse_expression()
        self.expect("]")
        return Subscript(node, lower, upper, is_slice, self.span(start))

    # --- queries in parentheses ---

    def at_query(self) -> bool:
        """Tell whether the ``(`` at the current token opens a query, not an expression or join.

        ``((SELECT 1))`` and ``((SELECT 1) UNION SELECT 2)`` do, ``((SELECT 1) + 1)`` does not.
        """
        kinds, pos = self.kinds, self.pos + 1
        if kinds[pos] != "(":
            return kinds[pos] in _QUERY_WORDS and (kinds[pos] != "values" or kinds[pos + 1] == "(")
        opened = 1
        while kinds[pos] == "(":
            pos += 1
            opened += 1
        if kinds[pos] not in _QUERY_WORDS or (kinds[pos] == "values" and kinds[pos + 1] != "("):
            return False
        if opened + self.depth > NESTING_DEPTH_MAX:
            raise too_deep()
        while opened > 1:
            pos = self._skip_to_close(pos) + 1
            opened -= 1
            if kinds[pos] in ("EOF", "ERROR"):
                return True
            if kinds[pos] != ")" and kinds[pos] not in _QUERY_GOES_ON:
                return False
        return True

    def _skip_to_close(self, pos: int) -> int:
        """Index of the ``)`` that closes the parenthesis ``pos`` stands in (or of the end)."""
        opened = 1
        last = len(self.kinds) - 1 - LOOKAHEAD
        while pos < last:
            kind = self.kinds[pos]
            if kind == "(":
                opened += 1
            elif kind == ")":
                opened -= 1
                if not opened:
                    return pos
            pos += 1
        return last - 1

    def parse_query_in_parentheses(self) -> Query:
        """select_with_parens."""
        raise NotImplementedError

    HANDLERS: ClassVar = {
        "or": _or,
        "and": _and,
        "is": _is,
        "isnull": _null_test,
        "notnull": _null_test,
        "between": _pattern,
        "in": _pattern,
        "like": _pattern,
        "ilike": _pattern,
        "similar": _pattern,
        "not_la": _pattern,
        "operator": _qualified_operator,
        "overlaps": _overlaps,
        "at": _at_time_zone,
        "collate": _collate,
        "::": _cast_operator,
    }

    PREFIX: ClassVar = (
        dict.fromkeys(UNRESERVED | {"IDENT"}, _name)
        | dict.fromkeys(COL_NAME, _column_name)
        | dict.fromkeys(TYPE_FUNC_NAME, _type_function_name)
        | dict.fromkeys(SPECIAL_FUNCTIONS, _special_function)
        | dict.fromkeys(VALUE_FUNCTIONS, _value_function)
        | dict.fromkeys(SPECIAL_TYPES | {"double"}, _typed_or_column)
        | {
            "interval": _interval,
            "ICONST": _integer,
            "FCONST": _number,
            "SCONST": _string,
            "BCONST": _bit_string,
            "PARAM": _parameter,
            "true": _boolean,
            "false": _boolean,
            "null": _null,
            "default": _default,
            "case": _case,
            "exists": _exists,
            "array": _array,
            "row": _row,
            "(": _parenthesis,
            "not": _not,
            "not_la": _not,
            "+": _sign,
            "-": _sign,
            "OP": _prefix_operator,
            "operator": _prefix_operator,
        }
    )


_PREFIX: Final = ExpressionParser.PREFIX
_HANDLERS: Final = ExpressionParser.HANDLERS


def operator_name(name: str) -> OperatorName:
    """Return the node of an unqualified operator; one object per common operator."""
    return _OPERATOR_NAMES.get(name) or OperatorName(name)


def _negated(literal: NumericLiteral, span: Span) -> Expression:
    text = literal.text[1:] if literal.text.startswith("-") else "-" + literal.text
    digits = text.removeprefix("-")
    if len(digits) <= 20 and digits.isdigit() and INT8_MIN <= int(text) <= INT8_MAX:
        return IntegerLiteral(int(text), span)
    return NumericLiteral(text, span)


_COMMON_OPERATORS: Final = (
    "=",
    "<>",
    "<",
    ">",
    "<=",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "||",
    "->",
    "~",
)
_OPERATOR_NAMES: Final = {name: OperatorName(name) for name in _COMMON_OPERATORS}
_INFIX: Final[dict[str, int]] = {
    "or": OR_POWER,
    "and": AND_POWER,
    "is": IS_POWER,
    "isnull": IS_POWER,
    "notnull": IS_POWER,
    "<": COMPARISON,
    ">": COMPARISON,
    "=": COMPARISON,
    "<=": COMPARISON,
    ">=": COMPARISON,
    "<>": COMPARISON,
    "between": PATTERN,
    "in": PATTERN,
    "like": PATTERN,
    "ilike": PATTERN,
    "similar": PATTERN,
    "not_la": PATTERN,
    "OP": OPERATOR,
    "operator": OPERATOR,
    "overlaps": OPERATOR,
    "+": ADDITION,
    "-": ADDITION,
    "*": MULTIPLICATION,
    "/": MULTIPLICATION,
    "%": MULTIPLICATION,
    "^": EXPONENT,
    "at": AT_POWER,
    "collate": COLLATE_POWER,
    "::": CAST,
}
_TYPE_GOES_ON: Final = frozenset(
    ("SCONST", "(", "varying", "character", "char", "precision", "with_la", "without")
)
_COULD_BE_TYPE: Final = frozenset(TYPE_FUNC_NAME)
EXPRESSION_STARTS: Final = frozenset(_PREFIX)
