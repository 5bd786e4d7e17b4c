"""Order-preserving encodings of single values, for the types that have no fixed-width form.

Each function maps a non-null datum to bytes such that byte order is PostgreSQL's btree order, equal
values have equal bytes, and no encoding is a proper prefix of another one of its type, so that what
follows in a composite key cannot disturb the order. Layouts::

    text, bytea   bytes with 00 written as 00 ff, then 00 01
    numeric       class:1 [ adjusted exponent:4 | digit pairs | 00 ]   (inverted when negative)
    interval      span in microseconds, biased:12   (a month is 30 days, a day 24 hours)
    array         ( 02 element | 03 )* 01 | ndims:1 | dims:4 each | lower bounds:4 each
    jsonb         kind:1, then: string as text, number as numeric, array and object
                  count:4 and members in order

Source: PostgreSQL docs, "jsonb Indexing", "Interval Input", "Arrays"; behaviour of PostgreSQL 15.
"""

import json
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from sql.types.array import ArrayValue
from sql.types.base import Datum

TERMINATOR: Final = b"\x00\x01"
ESCAPED_ZERO: Final = b"\x00\xff"
INVERTED: Final = bytes(range(255, -1, -1))

_MINUS_INFINITY: Final = b"\x10"
_NEGATIVE: Final = b"\x20"
_ZERO: Final = b"\x30"
_POSITIVE: Final = b"\x40"
_INFINITY: Final = b"\x50"
_NAN: Final = b"\x60"
_EXPONENT: Final = struct.Struct(">I")
_EXPONENT_BIAS: Final = 1 << 31
# Digits become the half bytes 1 to a, so that 00 can end them.
_SHIFT_DIGITS: Final = str.maketrans("0123456789", "123456789a")

_DAY_MICROSECONDS: Final = 86_400_000_000
_DAYS_PER_MONTH: Final = 30
_INTERVAL_BYTES: Final = 12
_INTERVAL_BIAS: Final = 1 << 95

_FLOAT: Final = struct.Struct(">d")
_BITS: Final = struct.Struct(">q")
_SIGN_BIT: Final = 1 << 63
_UINT64_MAX: Final = (1 << 64) - 1


def text_key(value: str) -> bytes:
    """Encode a string; UTF-8 byte order is code point order, the C collation."""
    return value.encode().replace(b"\0", ESCAPED_ZERO) + TERMINATOR


def bpchar_key(value: str) -> bytes:
    """Encode char(n): trailing blanks do not count."""
    return value.rstrip(" ").encode().replace(b"\0", ESCAPED_ZERO) + TERMINATOR


def bytea_key(value: bytes) -> bytes:
    """Encode bytes."""
    return value.replace(b"\0", ESCAPED_ZERO) + TERMINATOR


def float_bits(value: float) -> int:
    """Map to uint64: both zeros are equal, NaN equals itself and is the greatest."""
    if value != value:  # noqa: PLR0124  the test for NaN
        return _UINT64_MAX
    (bits,) = _BITS.unpack(_FLOAT.pack(value + 0.0))
    result: int = bits ^ _SIGN_BIT if bits >= 0 else ~bits
    return result if bits >= 0 else result & (_SIGN_BIT - 1)


def numeric_key(value: Decimal) -> bytes:
    """Encode exactly, whatever the precision; the scale does not count."""
    if not value.is_finite():
        if value.is_nan():
            return _NAN
        return _INFINITY if value > 0 else _MINUS_INFINITY
    # Without a precision, format never rounds.
    mantissa, _, exponent = format(value, "E").partition("E")
    is_negative = mantissa[0] == "-"
    digits = mantissa.replace(".", "").lstrip("-").rstrip("0")
    if not digits:
        return _ZERO
    pairs = digits.translate(_SHIFT_DIGITS)
    if len(pairs) & 1:
        pairs += "1"
    body = _EXPONENT.pack(int(exponent) + _EXPONENT_BIAS) + bytes.fromhex(pairs) + b"\0"
    return _NEGATIVE + body.translate(INVERTED) if is_negative else _POSITIVE + body


def interval_key(value: tuple[int, int, int]) -> bytes:
    """Encode the span: intervals that compare equal have equal bytes."""
    months, days, microseconds = value
    span = (months * _DAYS_PER_MONTH + days) * _DAY_MICROSECONDS + microseconds
    return (span + _INTERVAL_BIAS).to_bytes(_INTERVAL_BYTES, "big")


def array_key(element_key: Callable[[Datum], bytes]) -> Callable[[ArrayValue], bytes]:
    """Return the encoder of arrays whose elements ``element_key`` encodes.

    Elements come first, a null behind every value, then the shorter array before the longer, then
    the shape.
    """
    shape_item = struct.Struct(">I")

    def encode(value: ArrayValue) -> bytes:
        parts = [
            b"\x03" if element is None else b"\x02" + element_key(element)
            for element in value.elements
        ]
        parts.append(b"\x01" + bytes((len(value.dims),)))
        parts += [
            shape_item.pack(number + (1 << 31)) for number in (*value.dims, *value.lower_bounds)
        ]
        return b"".join(parts)

    return encode


_JSON_NULL: Final = b"\x01"
_JSON_STRING: Final = b"\x02"
_JSON_NUMBER: Final = b"\x03"
_JSON_FALSE: Final = b"\x04"
_JSON_TRUE: Final = b"\x05"
_JSON_ARRAY: Final = b"\x06"
_JSON_OBJECT: Final = b"\x07"
_COUNT: Final = struct.Struct(">I")
# PostgreSQL keeps a top-level scalar as an array of one, which precedes real arrays of one only.
_JSON_SCALAR: Final = _JSON_ARRAY + _COUNT.pack(1) + b"\x00"


def jsonb_key(value: str) -> bytes:
    """Encode jsonb: the number of members decides before the members do."""
    document = json.loads(value, parse_float=Decimal, parse_int=Decimal)
    parts: list[bytes] = []
    # Members still to be written, the next one last.
    todo: list[Any] = [document]
    if isinstance(document, list):
        parts.append(_JSON_ARRAY + _COUNT.pack(len(document)) + b"\x01")
        todo = document[::-1]
    elif not isinstance(document, dict):
        parts.append(_JSON_SCALAR)
    while todo:
        item = todo.pop()
        if item is None:
            parts.append(_JSON_NULL)
        elif item is True:
            parts.append(_JSON_TRUE)
        elif item is False:
            parts.append(_JSON_FALSE)
        elif isinstance(item, str):
            parts.append(_JSON_STRING + text_key(item))
        elif isinstance(item, Decimal):
            parts.append(_JSON_NUMBER + numeric_key(item))
        elif isinstance(item, list):
            parts.append(_JSON_ARRAY + _COUNT.pack(len(item)))
            todo += item[::-1]
        else:
            parts.append(_JSON_OBJECT + _COUNT.pack(len(item)))
            for key in reversed(item):
                todo += (item[key], key)
    return b"".join(parts)
