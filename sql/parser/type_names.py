"""Type names: SQL's spellings to pg_type's names.

``INTEGER`` becomes int4, ``CHARACTER(3)`` bpchar with modifier 3, ``TIMESTAMP WITH TIME ZONE``
timestamptz. Source: PostgreSQL docs, "Data Types".
"""

from typing import Final

from sql.ast.query import (
    ColumnRef,
    Expression,
    IntegerLiteral,
    NumericLiteral,
    StringLiteral,
    TypeName,
)
from sql.errors import InvalidParameterValue, SqlError
from sql.parser.cursor import TYPE_FUNCTION_NAME, Cursor
from sql.span import Span
from sql.types.scalar_text import int4_in

_PLAIN: Final = {
    "int": "int4",
    "integer": "int4",
    "smallint": "int2",
    "bigint": "int8",
    "real": "float4",
    "boolean": "bool",
}
_NUMERIC: Final = frozenset(("decimal", "dec", "numeric"))
_CHARACTER: Final = frozenset(("character", "char", "varchar", "national", "nchar"))
_INTERVAL_ENDS: Final = {
    "year": ("month",),
    "month": (),
    "day": ("hour", "minute", "second"),
    "hour": ("minute", "second"),
    "minute": ("second",),
    "second": (),
}
SPECIAL_TYPES: Final = (
    frozenset(_PLAIN) | _NUMERIC | _CHARACTER | {"float", "bit", "time", "timestamp"}
)
FLOAT4_BITS_MAX: Final = 24
FLOAT8_BITS_MAX: Final = 53


class TypeNameParser(Cursor):
    """Typename and its parts."""

    __slots__ = ()

    def parse_type_name(self) -> TypeName:
        """Typename, with its array bounds."""
        start = self.pos
        self.accept("setof")
        name, schema, modifiers, fields = self.parse_simple_type(is_constant=False)
        dimensions = self._array_bounds()
        return TypeName(
            name,
            schema,
            modifiers,
            dimensions,
            fields,
            Span(self.starts[start], self.ends[self.pos - 1]),
        )

    def _array_bounds(self) -> int:
        if self.accept("array"):
            if self.accept("["):
                self.parse_integer()
                self.expect("]")
            return 1
        dimensions = 0
        while self.accept("["):
            if self.kinds[self.pos] == "ICONST":
                self.pos += 1
            self.expect("]")
            dimensions += 1
        return dimensions

    def parse_simple_type(
        self, *, is_constant: bool
    ) -> tuple[str, str, tuple[int, ...], tuple[str, ...]]:
        """SimpleTypename as (name, schema, modifiers, interval fields).

        ``is_constant``: before a literal, where CHAR and BIT without length are unlimited.
        """
        kind = self.kinds[self.pos]
        if kind in TYPE_FUNCTION_NAME:
            if kind == "double" and self.kinds[self.pos + 1] == "precision":
                self.pos += 2
                return "float8", "", (), ()
            return self._generic_type()
        self.pos += 1
        if kind in _PLAIN:
            return _PLAIN[kind], "", (), ()
        if kind in _CHARACTER:
            return self._character(kind, is_constant=is_constant)
        if kind in _NUMERIC:
            return "numeric", "", self.parse_type_modifiers(), ()
        if kind in ("time", "timestamp"):
            modifiers = self._precision()
            return kind + self._time_zone(), "", modifiers, ()
        if kind == "interval":
            modifiers = self._precision()
            if modifiers:
                return kind, "", modifiers, ()
            return kind, "", *self.parse_interval_fields()
        if kind == "float":
            return self._float()
        if kind == "bit":
            varying = self.accept("varying")
            modifiers = self.parse_type_modifiers()
            if varying:
                return "varbit", "", modifiers, ()
            return "bit", "", modifiers or (() if is_constant else (1,)), ()
        raise self.unexpected(self.pos - 1)

    def _generic_type(self) -> tuple[str, str, tuple[int, ...], tuple[str, ...]]:
        start = self.pos
        parts = [self.values[start]]
        self.pos += 1
        while self.accept("."):
            parts.append(self.parse_label())
        if len(parts) > 3:
            raise self.error_at(
                f"improper qualified name (too many dotted names): {'.'.join(parts)}", start
            )
        schema = parts[-2] if len(parts) > 1 else ""
        return parts[-1], schema, self.parse_type_modifiers(), ()

    def parse_type_modifiers(self) -> tuple[int, ...]:
        """Parse ``[(modifier, ...)]``: integers, which is all that PostgreSQL's own types take.

        The type's name stands before; errors point there.
        """
        start = self.pos - 1
        if not self.accept("("):
            return ()
        modifiers = self.parse_expression_list()
        self.expect(")")
        return tuple(self._modifier(item, start) for item in modifiers)

    def _modifier(self, item: Expression, start: int) -> int:
        """Return a modifier's number: constants and names may spell one too."""
        match item:
            case IntegerLiteral(value=value):
                return value
            case StringLiteral(value=text) | NumericLiteral(text=text) | ColumnRef(parts=(text,)):
                try:
                    return int4_in(text)
                except SqlError as error:
                    raise error.at(self.token_span(start)) from None
            case _:
                raise self.error_at("type modifiers must be simple constants or identifiers", start)

    def parse_expression_list(self) -> tuple[Expression, ...]:
        """expr_list."""
        raise NotImplementedError

    def _precision(self) -> tuple[int, ...]:
        if not self.accept("("):
            return ()
        value = self.parse_integer()
        self.expect(")")
        return (value,)

    def _time_zone(self) -> str:
        if self.accept("with_la"):
            self.expect_all("time", "zone")
            return "tz"
        if self.accept("without"):
            self.expect_all("time", "zone")
        return ""

    def _character(
        self, kind: str, *, is_constant: bool
    ) -> tuple[str, str, tuple[int, ...], tuple[str, ...]]:
        if kind == "national":
            self.expect_any(("character", "char"))
        varying = kind == "varchar" or self.accept("varying")
        modifiers = self._precision()
        if varying:
            return "varchar", "", modifiers, ()
        return "bpchar", "", modifiers or (() if is_constant else (1,)), ()

    def _float(self) -> tuple[str, str, tuple[int, ...], tuple[str, ...]]:
        at = self.pos + 1
        bits = self._precision()
        if not bits or FLOAT4_BITS_MAX < bits[0] <= FLOAT8_BITS_MAX:
            return "float8", "", (), ()
        if bits[0] < 1:
            message = "precision for type float must be at least 1 bit"
            raise InvalidParameterValue(message, position=self.starts[at] + 1)
        if bits[0] > FLOAT8_BITS_MAX:
            message = "precision for type float must be less than 54 bits"
            raise InvalidParameterValue(message, position=self.starts[at] + 1)
        return "float4", "", (), ()

    def parse_interval_fields(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """opt_interval as (precision of SECOND, words), e.g. ((3,), ("day", "to", "second"))."""
        first = self.kinds[self.pos]
        if first not in _INTERVAL_ENDS:
            return (), ()
        self.pos += 1
        if first == "second":
            return self._precision(), ("second",)
        ends = _INTERVAL_ENDS[first]
        if not ends or not self.accept("to"):
            return (), (first,)
        last = self.expect_any(ends)
        return (self._precision() if last == "second" else ()), (first, "to", last)
