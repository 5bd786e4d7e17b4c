"""Function calls, window clauses and the functions SQL gives a grammar of their own.

EXTRACT, OVERLAY, POSITION, SUBSTRING, TRIM and NORMALIZE become calls of the functions PostgreSQL
runs for them (schema pg_catalog), with ``syntax`` naming the form.
Source: PostgreSQL docs, "Value Expressions".
"""

from typing import ClassVar, Final, Literal

from sql.ast.query import (
    Coalesce,
    Expression,
    FrameBound,
    FunctionCall,
    IntegerLiteral,
    MinMax,
    NullIf,
    Query,
    SortKey,
    SqlValueFunction,
    StringLiteral,
    TypeCast,
    TypeName,
    WindowDefinition,
    WindowFrame,
)
from sql.errors import FeatureNotSupported, WindowingError
from sql.parser.cursor import COL_ID, TYPE_FUNCTION_NAME
from sql.parser.type_names import TypeNameParser

SYSTEM: Final = "pg_catalog"
_EXTRACT_FIELDS: Final = frozenset(
    ("IDENT", "SCONST", "year", "month", "day", "hour", "minute", "second")
)
_FRAME_UNITS: Final = ("range", "rows", "groups")
_TRIM_FUNCTIONS: Final = {"both": "btrim", "leading": "ltrim", "trailing": "rtrim"}
_NORMAL_FORMS: Final = ("nfc", "nfd", "nfkc", "nfkd")


class FunctionParser(TypeNameParser):
    """func_expr; the expressions and queries in it are parsed by the subclasses."""

    __slots__ = ()

    def parse_expression(self, min_power: int = 0) -> Expression:
        """a_expr."""
        raise NotImplementedError

    def parse_restricted_expression(self) -> Expression:
        """b_expr: without AND, OR, NOT, IN, BETWEEN, LIKE, COLLATE and postfix tests."""
        raise NotImplementedError

    def parse_order_by(self) -> tuple[SortKey, ...]:
        """``[ORDER BY key, ...]``."""
        raise NotImplementedError

    def parse_query(self) -> Query:
        """SelectStmt."""
        raise NotImplementedError

    def parse_expression_list(self) -> tuple[Expression, ...]:
        """``expression, ...``."""
        items = [self.parse_expression()]
        while self.kinds[self.pos] == ",":
            self.pos += 1
            items.append(self.parse_expression())
        return tuple(items)

    # --- ordinary calls ---

    def parse_call(self, name: tuple[str, ...], start: int) -> Expression:
        """Parse from ``(`` on: arguments, then WITHIN GROUP, FILTER and OVER.

        ``name (3) 'literal'``, a typed constant with modifiers, has the same beginning.
        """
        open_index = self.pos
        self.pos += 1
        self.enter()
        star = distinct = variadic = False
        args: list[Expression] = []
        names: list[str] = []
        order_by: tuple[SortKey, ...] = ()
        kind = self.kinds[self.pos]
        if kind == "*":
            self.pos += 1
            star = True
        elif kind != ")":
            if kind in ("distinct", "all"):
                self.pos += 1
                distinct = kind == "distinct"
            while True:
                if self.kinds[self.pos] == "variadic":
                    if kind in ("distinct", "all"):
                        raise self.unexpected()
                    self.pos += 1
                    variadic = True
                arg_name, arg = self._argument()
                args.append(arg)
                names.append(arg_name)
                if variadic or not self.accept(","):
                    break
            if self.kinds[self.pos] == "order":
                order_by = self.parse_order_by()
        self.expect(")")
        self.depth -= 1
        if self.kinds[self.pos] == "SCONST" and args:
            return self._typed_constant_after_call(name, start, open_index)
        arg_names = tuple(names) if any(names) else ()
        span = self.span(start)
        if self.kinds[self.pos] not in _AFTER_CALL:
            return FunctionCall(
                name, tuple(args), arg_names, star, distinct, variadic, order_by, span=span
            )
        within_group = self._within_group(
            distinct=distinct, variadic=variadic, has_order=bool(order_by)
        )
        return FunctionCall(
            name,
            tuple(args),
            arg_names,
            star,
            distinct,
            variadic,
            order_by,
            within_group,
            self._filter(),
            self._over(),
            span=span,
        )

    def _argument(self) -> tuple[str, Expression]:
        if self.kinds[self.pos + 1] in (":=", "=>") and self.kinds[self.pos] in TYPE_FUNCTION_NAME:
            name = self.values[self.pos]
            self.pos += 2
            return name, self.parse_expression()
        return "", self.parse_expression()

    def _typed_constant_after_call(
        self, name: tuple[str, ...], start: int, open_index: int
    ) -> Expression:
        """Re-read ``name(args) 'text'`` as a type with modifiers and its literal."""
        self.pos = open_index - 2 * len(name) + 1
        type_name = self.parse_type_name()
        return self.parse_typed_string(type_name, start)

    def parse_typed_string(self, type_name: TypeName, start: int) -> TypeCast:
        """Parse the string after a type name."""
        at = self.pos
        literal = StringLiteral(self.parse_string(), self.token_span(at))
        return TypeCast(literal, type_name, self.span(start))

    def _within_group(
        self, *, distinct: bool, variadic: bool, has_order: bool
    ) -> tuple[SortKey, ...]:
        at = self.pos
        if not self.accept_words("within", "group"):
            return ()
        self.expect("(")
        keys = self.parse_order_by()
        if not keys:
            raise self.unexpected()
        self.expect(")")
        for is_wrong, what in (
            (has_order, "multiple ORDER BY clauses"),
            (distinct, "DISTINCT"),
            (variadic, "VARIADIC"),
        ):
            if is_wrong:
                raise self.error_at(f"cannot use {what} with WITHIN GROUP", at)
        return keys

    def _filter(self) -> Expression | None:
        if not self.accept_words("filter", "(", "where"):
            return None
        condition = self.parse_expression()
        self.expect(")")
        return condition

    # --- windows ---

    def _over(self) -> WindowDefinition | None:
        if not self.accept("over"):
            return None
        at = self.pos
        if self.kinds[at] in COL_ID:
            self.pos += 1
            return WindowDefinition(
                base=self.values[at], is_reference=True, span=self.token_span(at)
            )
        return self.parse_window_specification("")

    def parse_window_specification(self, name: str) -> WindowDefinition:
        """Parse ``([base] [PARTITION BY ...] [ORDER BY ...] [frame])``."""
        start = self.pos
        self.expect("(")
        self.enter(2)
        base = ""
        kind = self.kinds[self.pos]
        if kind in COL_ID and kind != "partition" and kind not in _FRAME_UNITS:
            base = self.values[self.pos]
            self.pos += 1
        partition_by: tuple[Expression, ...] = ()
        if self.accept("partition"):
            self.expect("by")
            partition_by = self.parse_expression_list()
        order_by = self.parse_order_by()
        frame = self._frame()
        self.expect(")")
        self.depth -= 2
        return WindowDefinition(name, base, partition_by, order_by, frame, span=self.span(start))

    def _frame(self) -> WindowFrame | None:
        unit = self.kinds[self.pos]
        if unit not in ("range", "rows", "groups"):
            return None
        self.pos += 1
        at = self.pos
        if self.accept("between"):
            at = self.pos
            start = self._frame_bound()
            self.expect("and")
            end_at = self.pos
            end = self._frame_bound()
            self._check_frame(start, end, at, end_at)
        else:
            start, end = self._frame_bound(), FrameBound("current_row")
            if start.kind == "unbounded_following":
                raise self._frame_error("frame start cannot be UNBOUNDED FOLLOWING", at)
            if start.kind == "following":
                message = "frame starting from following row cannot end with current row"
                raise self._frame_error(message, at)
        return WindowFrame(unit, start, end, self._exclusion())  # type: ignore[arg-type]

    def _exclusion(self) -> Literal["no_others", "current_row", "group", "ties"]:
        if not self.accept("exclude"):
            return "no_others"
        if self.accept_words("no", "others"):
            return "no_others"
        if self.accept_words("current", "row"):
            return "current_row"
        if self.accept("group"):
            return "group"
        self.expect("ties")
        return "ties"

    def _frame_bound(self) -> FrameBound:
        if self.accept("unbounded"):
            kind = self.expect_any(("preceding", "following"))
            return FrameBound(
                "unbounded_preceding" if kind == "preceding" else "unbounded_following"
            )
        if self.accept_all("current", "row"):
            return FrameBound("current_row")
        offset = self.parse_expression()
        kind = self.expect_any(("preceding", "following"))
        return FrameBound("preceding" if kind == "preceding" else "following", offset)

    def _frame_error(self, message: str, index: int) -> WindowingError:
        return WindowingError(message, position=self.starts[index] + 1)

    def _check_frame(self, start: FrameBound, end: FrameBound, at: int, end_at: int) -> None:
        if start.kind == "unbounded_following":
            raise self._frame_error("frame start cannot be UNBOUNDED FOLLOWING", at)
        if end.kind == "unbounded_preceding":
            raise self._frame_error("frame end cannot be UNBOUNDED PRECEDING", end_at)
        message = ""
        if start.kind == "current_row" and end.kind == "preceding":
            message = "frame starting from current row cannot have preceding rows"
        elif start.kind == "following" and end.kind in ("preceding", "current_row"):
            message = "frame starting from following row cannot have preceding rows"
        if message:
            raise self._frame_error(message, end_at)

    # --- functions with a grammar of their own; ``pos`` is at the word ---

    def parse_special_function(self) -> Expression | None:
        """func_expr_common_subexpr written ``WORD (...)``; None when there is no such word."""
        method = _SPECIAL.get(self.kinds[self.pos])
        if method is None:
            return None
        start = self.pos
        self.pos += 1
        self.expect("(")
        self.enter()
        call = method(self, start)
        self.depth -= 1
        return call

    def _system_call(
        self, name: str, args: tuple[Expression, ...], syntax: str, start: int
    ) -> FunctionCall:
        self.expect(")")
        return FunctionCall((SYSTEM, name), args, syntax=syntax, span=self.span(start))

    def _cast(self, start: int) -> Expression:
        operand = self.parse_expression()
        self.expect("as")
        type_name = self.parse_type_name()
        self.expect(")")
        return TypeCast(operand, type_name, self.span(start))

    def _coalesce(self, start: int) -> Expression:
        args = self.parse_expression_list()
        self.expect(")")
        return Coalesce(args, self.span(start))

    def _greatest(self, start: int) -> Expression:
        args = self.parse_expression_list()
        self.expect(")")
        return MinMax(
            "greatest" if self.kinds[start] == "greatest" else "least", args, self.span(start)
        )

    def _nullif(self, start: int) -> Expression:
        left = self.parse_expression()
        self.expect(",")
        right = self.parse_expression()
        self.expect(")")
        return NullIf(left, right, self.span(start))

    def _grouping(self, start: int) -> Expression:
        args = self.parse_expression_list()
        self.expect(")")
        return FunctionCall(("grouping",), args, syntax="grouping", span=self.span(start))

    def _extract(self, start: int) -> Expression:
        at = self.pos
        self.expect_any(_EXTRACT_FIELDS)
        field = StringLiteral(self.values[at], self.token_span(at))
        self.expect("from")
        return self._system_call("extract", (field, self.parse_expression()), "extract", start)

    def _overlay(self, start: int) -> Expression:
        call = self._ordinary_if("overlay", start, "placing")
        if not isinstance(call, tuple):
            return call
        self.expect("placing")
        args = [*call, self.parse_expression()]
        self.expect("from")
        args.append(self.parse_expression())
        if self.accept("for"):
            args.append(self.parse_expression())
        return self._system_call("overlay", tuple(args), "overlay", start)

    def _ordinary_if(self, name: str, start: int, *words: str) -> Expression | tuple[Expression]:
        """Parse the first argument; an ordinary call unless one of ``words`` follows it."""
        open_index = self.pos - 1
        kind = self.kinds[self.pos]
        if kind != ")" and self.kinds[self.pos + 1] not in (":=", "=>"):
            first = self.parse_expression()
            if self.kinds[self.pos] in words:
                return (first,)
            if self.kinds[self.pos] not in (",", ")"):
                raise self.unexpected()
        self.pos = open_index
        call = self.parse_call((name,), start)
        if not isinstance(call, FunctionCall) or call.star or call.distinct or call.order_by:
            raise self.unexpected(open_index + 1)
        return call

    def _position(self, start: int) -> Expression:
        substring = self.parse_restricted_expression()
        self.expect("in")
        string = self.parse_restricted_expression()
        return self._system_call("position", (string, substring), "position", start)

    def _substring(self, start: int) -> Expression:
        call = self._ordinary_if("substring", start, "from", "for", "similar")
        if not isinstance(call, tuple):
            return call
        operand = call[0]
        word = self.expect_any(("from", "for", "similar"))
        value = self.parse_expression()
        if word == "similar":
            self.expect("escape")
            args: tuple[Expression, ...] = (operand, value, self.parse_expression())
        elif word == "for":
            if self.accept("from"):
                args = (operand, self.parse_expression(), value)
            else:
                # PostgreSQL runs SUBSTRING(s FOR n) as substring(s, 1, n::int4).
                args = (operand, IntegerLiteral(1), TypeCast(value, TypeName("int4")))
        elif self.accept("for"):
            args = (operand, value, self.parse_expression())
        else:
            args = (operand, value)
        return self._system_call("substring", args, "substring", start)

    def _trim(self, start: int) -> Expression:
        function = _TRIM_FUNCTIONS[self.accept_any(_TRIM_FUNCTIONS) or "both"]
        if self.accept("from"):
            return self._system_call(function, self.parse_expression_list(), "trim", start)
        args = self.parse_expression_list()
        if len(args) == 1 and self.accept("from"):
            args = (*self.parse_expression_list(), *args)
        return self._system_call(function, args, "trim", start)

    def _normalize(self, start: int) -> Expression:
        args = [self.parse_expression()]
        if self.accept(","):
            at = self.pos
            self.expect_any(_NORMAL_FORMS)
            args.append(StringLiteral(self.values[at].upper(), self.token_span(at)))
        return self._system_call("normalize", tuple(args), "normalize", start)

    def _xml(self, start: int) -> Expression:
        raise FeatureNotSupported(
            "unsupported XML feature",
            detail="This functionality requires the server to be built with libxml support.",
            position=self.starts[start] + 1,
        )

    def _treat(self, start: int) -> Expression:
        raise self.not_supported("TREAT", start)

    def parse_collation_for(self) -> Expression:
        """``COLLATION FOR (expression)``."""
        start = self.pos
        self.expect_all("collation", "for", "(")
        return self._system_call("pg_collation_for", (self.parse_expression(),), "", start)

    def parse_value_function(self) -> Expression:
        """CURRENT_DATE and its like, some with a precision."""
        start = self.pos
        name = self.kinds[start]
        self.pos += 1
        precision = None
        if name in (
            "current_time",
            "current_timestamp",
            "localtime",
            "localtimestamp",
        ) and self.accept("("):
            precision = self.parse_integer()
            self.expect(")")
        return SqlValueFunction(name, precision, self.span(start))

    SPECIAL: ClassVar = {
        "cast": _cast,
        "coalesce": _coalesce,
        "greatest": _greatest,
        "least": _greatest,
        "nullif": _nullif,
        "grouping": _grouping,
        "extract": _extract,
        "overlay": _overlay,
        "position": _position,
        "substring": _substring,
        "trim": _trim,
        "normalize": _normalize,
        "treat": _treat,
        "xmlconcat": _xml,
        "xmlelement": _xml,
        "xmlexists": _xml,
        "xmlforest": _xml,
        "xmlparse": _xml,
        "xmlpi": _xml,
        "xmlroot": _xml,
        "xmlserialize": _xml,
    }


_SPECIAL: Final = FunctionParser.SPECIAL
_AFTER_CALL: Final = frozenset(("within", "filter", "over"))
SPECIAL_FUNCTIONS: Final = frozenset(_SPECIAL)
VALUE_FUNCTIONS: Final = frozenset(
    (
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "current_role",
        "current_user",
        "session_user",
        "user",
        "current_catalog",
    )
)
