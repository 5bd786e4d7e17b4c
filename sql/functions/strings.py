"""String functions on text, with lengths and positions in characters.

Case mapping is that of the C.UTF-8 locale: one character to one character.

Source: PostgreSQL docs, "String Functions and Operators".
"""

import operator
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final

from sql.ast.deparse_names import quote_identifier
from sql.errors import (
    InvalidParameterValue,
    NullValueNotAllowed,
    ProgramLimitExceeded,
    SqlSyntaxError,
    SubstringError,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements, register
from sql.types.array import EMPTY_ARRAY, ArrayValue
from sql.types.base import Datum, SqlType
from sql.types.catalog import BOOL, BPCHAR
from sql.types.io import text_output

STRING_BYTES_MAX: Final = 0x3FFFFFFF
# Longer ones are held against the query's memory limit before they are made.
_UNCHECKED_CHARACTERS_MAX: Final = 1 << 16
_INT4_MAX: Final = (1 << 31) - 1


def lower(value: str) -> str:
    """Lower case, character by character."""
    if value.isascii():
        return value.lower()
    return "".join([low if len(low := char.lower()) == 1 else char for char in value])


def upper(value: str) -> str:
    """Upper case, character by character."""
    if value.isascii():
        return value.upper()
    return "".join([up if len(up := char.upper()) == 1 else char for char in value])


register("lower(text)", lower)
register("upper(text)", upper)
_WORD: Final = re.compile(r"[^\W_]+")


@implements("initcap(text)")
def _initcap(value: str) -> str:
    return _WORD.sub(lambda match: upper(match[0][0]) + lower(match[0][1:]), value)


def _length_too_large(characters: int) -> None:
    if characters > STRING_BYTES_MAX:
        raise ProgramLimitExceeded("requested length too large")


for _name in ("length", "char_length", "character_length"):
    register(f"{_name}(text)", len, inline="len({0})")
    register(f"{_name}(bpchar)", lambda value: len(value.rstrip(" ")))
register("textlen(text)", len, inline="len({0})")


@implements("octet_length(text)", "octet_length(bpchar)")
def _octet_length(value: str) -> int:
    return len(value.encode())


@implements("bit_length(text)")
def _bit_length(value: str) -> int:
    return len(value.encode()) * 8


register("btrim(text)", lambda value: value.strip(" "), inline="{0}.strip(' ')")
register("ltrim(text)", lambda value: value.lstrip(" "), inline="{0}.lstrip(' ')")
register("rtrim(text)", lambda value: value.rstrip(" "), inline="{0}.rstrip(' ')")
register("btrim(text,text)", str.strip)
register("ltrim(text,text)", str.lstrip)
register("rtrim(text,text)", str.rstrip)
register("textcat(text,text)", operator.add, inline="({0} + {1})")
register("starts_with(text,text)", str.startswith, inline="{0}.startswith({1})")
register("reverse(text)", lambda value: value[::-1], inline="{0}[::-1]")


def slice_bounds(start: int, length: int | None) -> slice:
    """Return the slice of SUBSTRING(x FROM start FOR length); 22011 for a negative length."""
    first = max(start - 1, 0)
    if length is None:
        return slice(first, None)
    if length < 0:
        raise SubstringError("negative substring length not allowed")
    return slice(first, max(start - 1 + length, 0))


@implements("substr(text,int4)", "substring(text,int4)")
@implements("substr(bytea,int4)", "substring(bytea,int4)")
def _substring_from(value: Any, start: int) -> Any:
    return value[start - 1 :] if start > 0 else value


@implements("substr(text,int4,int4)", "substring(text,int4,int4)")
@implements("substr(bytea,int4,int4)", "substring(bytea,int4,int4)")
def _substring_for(value: Any, start: int, length: int) -> Any:
    return value[slice_bounds(start, length)]


@implements("overlay(text,text,int4,int4)", "overlay(bytea,bytea,int4,int4)")
def _overlay_for(value: Any, placed: Any, start: int, length: int) -> Any:
    if start <= 0:
        raise SubstringError("negative substring length not allowed")
    after = start - 1 + length
    return value[: start - 1] + placed + value[max(after, 0) :]


@implements("overlay(text,text,int4)", "overlay(bytea,bytea,int4)")
def _overlay(value: Any, placed: Any, start: int) -> Any:
    return _overlay_for(value, placed, start, len(placed))


@implements("position(text,text)", "strpos(text,text)", "position(bytea,bytea)")
def _position(value: Any, wanted: Any) -> int:
    return int(value.find(wanted)) + 1


@implements("left(text,int4)")
def _left(value: str, count: int) -> str:
    return value[:count]


@implements("right(text,int4)")
def _right(value: str, count: int) -> str:
    if count == 0:
        return ""
    return value[-count:]


def _padding(context: ExecutionContext, missing: int, fill: str) -> str:
    _length_too_large(missing)
    if missing > _UNCHECKED_CHARACTERS_MAX:
        context.memory.check(missing)
    return (fill * (missing // len(fill) + 1))[:missing] if missing > 0 and fill else ""


@implements("lpad(text,int4,text)", "lpad(text,int4)", context=True)
def _lpad(context: ExecutionContext, value: str, length: int, fill: str = " ") -> str:
    length = max(length, 0)
    return _padding(context, length - len(value), fill) + value[:length]


@implements("rpad(text,int4,text)", "rpad(text,int4)", context=True)
def _rpad(context: ExecutionContext, value: str, length: int, fill: str = " ") -> str:
    length = max(length, 0)
    return value[:length] + _padding(context, length - len(value), fill)


@implements("repeat(text,int4)", context=True)
def _repeat(context: ExecutionContext, value: str, count: int) -> str:
    size = len(value) * count
    if size > _UNCHECKED_CHARACTERS_MAX:
        _length_too_large(size)
        context.memory.check(size)
    return value * count


@implements("replace(text,text,text)")
def _replace(value: str, old: str, new: str) -> str:
    return value.replace(old, new) if old else value


@implements("translate(text,text,text)")
def _translate(value: str, source: str, target: str) -> str:
    table: dict[int, str | None] = {}
    for position, char in enumerate(source):
        table.setdefault(ord(char), target[position] if position < len(target) else None)
    return value.translate(table)


@implements("ascii(text)")
def _ascii(value: str) -> int:
    return ord(value[0]) if value else 0


@implements("chr(int4)")
def _chr(code: int) -> str:
    if code < 0:
        raise InvalidParameterValue("character number must be positive")
    if code == 0:
        raise ProgramLimitExceeded("null character not permitted")
    if code > 0x10FFFF:
        raise ProgramLimitExceeded(f"requested character too large for encoding: {code}")
    if 0xD800 <= code <= 0xDFFF:
        raise ProgramLimitExceeded(f"requested character not valid for encoding: {code}")
    return chr(code)


@implements("split_part(text,text,int4)")
def _split_part(value: str, delimiter: str, field: int) -> str:
    if field == 0:
        raise InvalidParameterValue("field position must not be zero")
    parts = value.split(delimiter) if delimiter else [value]
    index = field - 1 if field > 0 else len(parts) + field
    return parts[index] if 0 <= index < len(parts) else ""


@implements("to_hex(int4)")
def _to_hex_4(value: int) -> str:
    return format(value & 0xFFFFFFFF, "x")


@implements("to_hex(int8)")
def _to_hex_8(value: int) -> str:
    return format(value & 0xFFFFFFFFFFFFFFFF, "x")


register("quote_ident(text)", quote_identifier)


def quote_literal(value: str) -> str:
    """Quote for use as a string constant; with backslashes, as an escape string."""
    quoted = value.replace("'", "''")
    if "\\" in quoted:
        escaped = quoted.replace("\\", "\\\\")
        return f"E'{escaped}'"
    return f"'{quoted}'"


@implements("quote_literal(text)")
def _quote_literal(value: str) -> str:
    return quote_literal(value)


@implements("quote_literal(anyelement)", context=True, types=True)
def _quote_any(context: ExecutionContext, value: Datum, *, types: tuple[SqlType, ...]) -> str:
    return quote_literal(text_output(types[0], context.format)(value))


@implements("quote_nullable(text)")
def _quote_nullable(value: str | None) -> str:
    return "NULL" if value is None else quote_literal(value)


@implements("quote_nullable(anyelement)", context=True, types=True)
def _quote_nullable_any(
    context: ExecutionContext, value: Datum, *, types: tuple[SqlType, ...]
) -> str:
    return "NULL" if value is None else _quote_any(context, value, types=types)


def text_writers(
    context: ExecutionContext, types: tuple[SqlType, ...]
) -> list[Callable[[Datum], str]]:
    """Return the output functions of these types, as ``concat`` needs them."""
    return [text_output(sql_type, context.format) for sql_type in types]


def _as_text(context: ExecutionContext, sql_type: SqlType, value: Datum) -> str:
    """Cast to text; only boolean's differs from its output."""
    if sql_type is BOOL:
        return "true" if value else "false"
    text = text_output(sql_type, context.format)(value)
    return text.rstrip(" ") if sql_type is BPCHAR else text


@implements("textanycat(text,anynonarray)", context=True, types=True)
def _text_any(
    context: ExecutionContext, left: str, right: Datum, *, types: tuple[SqlType, ...]
) -> str:
    return left + _as_text(context, types[1], right)


@implements("anytextcat(anynonarray,text)", context=True, types=True)
def _any_text(
    context: ExecutionContext, left: Datum, right: str, *, types: tuple[SqlType, ...]
) -> str:
    return _as_text(context, types[0], left) + right


@implements("concat(any)", context=True, types=True)
def _concat(context: ExecutionContext, *values: Datum, types: tuple[SqlType, ...]) -> str:
    writers = text_writers(context, types)
    return "".join(
        [write(value) for write, value in zip(writers, values, strict=True) if value is not None]
    )


@implements("concat_ws(text,any)", context=True, types=True)
def _concat_ws(
    context: ExecutionContext, separator: str | None, *values: Datum, types: tuple[SqlType, ...]
) -> str | None:
    if separator is None:
        return None
    writers = text_writers(context, types[1:])
    return separator.join(
        [write(value) for write, value in zip(writers, values, strict=True) if value is not None]
    )


_FORMAT_SPECIFIER: Final = re.compile(
    r"%(?:(?P<percent>%)|(?:(?P<position>\d+)\$)?(?P<flags>-*)(?P<width>\d+|\*(?:\d+\$)?)?(?P<type>.?))",
    re.DOTALL,
)


class _FormatCall:
    """One ``format`` call: where the next argument comes from."""

    def __init__(self, values: tuple[Datum, ...], writers: list[Callable[[Datum], str]]) -> None:
        self._values = values
        self._writers = writers
        self._next = 0

    def _take(self, position: str | None) -> int:
        index = self._next if position is None else int(position) - 1
        if index < 0:
            raise InvalidParameterValue(
                "format specifies argument 0, but arguments are numbered from 1"
            )
        if index >= len(self._values):
            raise InvalidParameterValue("too few arguments for format()")
        self._next = index + 1
        return index

    def _width(self, match: re.Match[str]) -> int:
        width = match["width"] or "0"
        if not width.startswith("*"):
            return -int(width) if match["flags"] else int(width)
        index = self._take(width[1:-1] or None)
        result = self._values[index] or 0
        return -abs(int(result)) if match["flags"] else int(result)

    def replace(self, match: re.Match[str]) -> str:
        """Return the text for one specifier."""
        if match["percent"]:
            return "%"
        kind = match["type"]
        if not kind:
            raise InvalidParameterValue(
                "unterminated format() type specifier", hint='For a single "%" use "%%".'
            )
        width = self._width(match)
        if kind not in "sIL":
            raise InvalidParameterValue(
                f'unrecognized format() type specifier "{kind}"',
                hint='For a single "%" use "%%".',
            )
        index = self._take(match["position"])
        text = self._text(kind, index)
        return text.ljust(-width) if width < 0 else text.rjust(width)

    def _text(self, kind: str, index: int) -> str:
        value = self._values[index]
        if value is None:
            if kind == "I":
                raise NullValueNotAllowed("null values cannot be formatted as an SQL identifier")
            return "NULL" if kind == "L" else ""
        text = self._writers[index](value)
        return (
            text if kind == "s" else quote_identifier(text) if kind == "I" else quote_literal(text)
        )


@implements("format(text,any)", "format(text)", context=True, types=True)
def _format(
    context: ExecutionContext, template: str | None, *values: Datum, types: tuple[SqlType, ...]
) -> str | None:
    if template is None:
        return None
    call = _FormatCall(values, text_writers(context, types[1:]))
    return _FORMAT_SPECIFIER.sub(call.replace, template)


def _split(value: str, delimiter: str | None) -> list[str]:
    if not value:
        return []
    if delimiter is None:
        return list(value)
    return value.split(delimiter) if delimiter else [value]


@implements("string_to_array(text,text)", "string_to_array(text,text,text)")
def _string_to_array(
    value: str | None, delimiter: str | None, null_string: str | None = None
) -> ArrayValue | None:
    if value is None:
        return None
    parts = _split(value, delimiter)
    if not parts:
        return EMPTY_ARRAY
    if null_string is not None:
        return ArrayValue(tuple([None if part == null_string else part for part in parts]))
    return ArrayValue(tuple(parts))


@implements("string_to_table(text,text)", "string_to_table(text,text,text)")
def _string_to_table(
    value: str | None, delimiter: str | None, null_string: str | None = None
) -> Iterator[str | None]:
    result = _string_to_array(value, delimiter, null_string)
    return iter(result.elements if result is not None else ())


_FORMS: Final = ("NFC", "NFD", "NFKC", "NFKD")


def _form(name: str) -> Any:
    form = name.upper()
    if form not in _FORMS:
        raise InvalidParameterValue(f"invalid normalization form: {name}")
    return form


@implements("normalize(text,text)")
def _normalize(value: str, form: str = "NFC") -> str:
    return unicodedata.normalize(_form(form), value)


@implements("is_normalized(text,text)")
def _is_normalized(value: str, form: str = "NFC") -> bool:
    return unicodedata.is_normalized(_form(form), value)


_UNICODE_ESCAPE: Final = re.compile(
    r"\\(?:(\\)|([0-9a-fA-F]{4})|\+([0-9a-fA-F]{6})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|())"
)


@implements("unistr(text)")
def _unistr(value: str) -> str:
    units: list[str] = []
    at = 0
    for match in _UNICODE_ESCAPE.finditer(value):
        units.append(value[at : match.start()])
        at = match.end()
        if match[1]:
            units.append("\\")
            continue
        digits = match[2] or match[3] or match[4] or match[5]
        if not digits:
            raise SqlSyntaxError(
                "invalid Unicode escape",
                hint="Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.",
            )
        code = int(digits, 16)
        if not 0 < code <= 0x10FFFF:
            raise InvalidParameterValue(f"invalid Unicode code point: {digits}")
        units.append(chr(code))
    units.append(value[at:])
    try:
        return "".join(units).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise SqlSyntaxError("invalid Unicode surrogate pair") from None


_IDENTIFIER: Final = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\W\d][\w$]*))\s*(\.|$)')


@implements("parse_ident(text,bool)")
def _parse_ident(value: str, strict: bool = True) -> ArrayValue:  # noqa: FBT001, FBT002
    parts: list[str] = []
    at = 0
    while True:
        match = _IDENTIFIER.match(value, at)
        if match is None:
            break
        quoted = match[1]
        if quoted == "":
            raise InvalidParameterValue(
                f'string is not a valid identifier: "{value}"',
                detail="Quoted identifier must not be empty.",
            )
        parts.append(lower(match[2]) if quoted is None else quoted.replace('""', '"'))
        at = match.end()
        if not match[3]:
            return ArrayValue(tuple(parts))
    loose = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\W\d][\w$]*))').match(value, at)
    if loose is not None and not strict:
        quoted = loose[1]
        parts.append(lower(loose[2]) if quoted is None else quoted.replace('""', '"'))
        return ArrayValue(tuple(parts))
    detail = ""
    if value[at:].lstrip().startswith('"'):
        detail = "String has unclosed double quotes."
    elif at:
        detail = "" if loose is not None else 'No valid identifier after ".".'
    elif value.lstrip().startswith("."):
        detail = 'No valid identifier before ".".'
    raise InvalidParameterValue(f'string is not a valid identifier: "{value}"', detail=detail)


@implements("pg_client_encoding()", "getdatabaseencoding()")
def _encoding_name() -> str:
    return "UTF8"
