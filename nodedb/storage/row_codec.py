"""Rows as MessagePack arrays: the tuple of a table version's columns to bytes and back.

Datums that MessagePack knows exactly (bool, int, float, str, bytes, null) are written as they are;
the rest takes a stored form:

=================  ==============================================
numeric            its text, which keeps the scale
timetz, interval   array of their integers
arrays             ``[elements, dims, lower bounds]``, elements in stored form
=================  ==============================================

A row that was stored before a column was added is shorter; decoding appends the column's default.
A row of a newer version is longer; what this version does not know is left out. Rows of columns
without a stored form of their own go through one msgspec call.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from sql.types import catalog
from sql.types.array import ArrayValue
from sql.types.base import Datum, Row, SqlType

_encode: Final = msgspec.msgpack.Encoder().encode
# An untyped tuple keeps exactly what MessagePack says: int is int, float is float.
_decode: Final = msgspec.msgpack.Decoder(tuple).decode


class _Conversion(NamedTuple):
    """Between a non-null datum and its stored form."""

    to_stored: Callable[[Any], Any]
    from_stored: Callable[[Any], Any]


_CONVERSIONS: Final[dict[SqlType, _Conversion]] = {
    catalog.NUMERIC: _Conversion(str, Decimal),
    catalog.TIMETZ: _Conversion(tuple, tuple),
    catalog.INTERVAL: _Conversion(tuple, tuple),
    catalog.RECORD: _Conversion(tuple, tuple),
}


class RowCodec(NamedTuple):
    """The functions for one table version. ``decode_many`` takes and gives lists."""

    encode: Callable[[Row], bytes]
    decode: Callable[[bytes], Row]
    decode_many: Callable[[Sequence[bytes]], list[Row]]


def row_codec(types: Sequence[SqlType], defaults: Sequence[Datum]) -> RowCodec:
    """Return the codec of rows with these columns.

    ``defaults[i]`` is what column ``i`` is in rows that are older than the column. Encoding takes
    a tuple of all columns.
    """
    assert len(types) == len(defaults), (types, defaults)
    conversions = [_conversion(sql_type) for sql_type in types]
    decode_stored = _stored_decoder(
        [
            _to_stored(conversion, datum)
            for conversion, datum in zip(conversions, defaults, strict=True)
        ]
    )
    if not any(conversions):
        return RowCodec(_encode, decode_stored, lambda rows: [decode_stored(row) for row in rows])
    to_stored = _row_function([conversion and conversion.to_stored for conversion in conversions])
    from_stored = _row_function(
        [conversion and conversion.from_stored for conversion in conversions]
    )

    def encode(row: Row) -> bytes:
        return _encode(to_stored(row))

    def decode(data: bytes) -> Row:
        return from_stored(decode_stored(data))

    def decode_many(rows: Sequence[bytes]) -> list[Row]:
        return [from_stored(decode_stored(row)) for row in rows]

    return RowCodec(encode, decode, decode_many)


def _stored_decoder(stored_defaults: Sequence[Any]) -> Callable[[bytes], Row]:
    """Return the decoder that brings every row to this version's length."""
    count = len(stored_defaults)
    filler = tuple(stored_defaults)
    decode_row: Callable[[bytes], Row] = _decode

    def decode(data: bytes) -> Row:
        row = decode_row(data)
        length = len(row)
        if length == count:
            return row
        return row + filler[length:] if length < count else row[:count]

    return decode


def _to_stored(conversion: _Conversion | None, datum: Datum) -> Any:
    return datum if conversion is None or datum is None else conversion.to_stored(datum)


def _conversion(sql_type: SqlType) -> _Conversion | None:
    if sql_type.element is not None:
        return _array_conversion(_conversion(sql_type.element))
    return _CONVERSIONS.get(sql_type)


def _array_conversion(element: _Conversion | None) -> _Conversion:
    if element is None:
        return _Conversion(
            lambda value: (value.elements, value.dims, value.lower_bounds),
            lambda stored: ArrayValue(tuple(stored[0]), tuple(stored[1]), tuple(stored[2])),
        )
    into, out_of = element.to_stored, element.from_stored

    def to_stored(value: ArrayValue) -> tuple[Any, ...]:
        elements = [None if item is None else into(item) for item in value.elements]
        return elements, value.dims, value.lower_bounds

    def from_stored(stored: list[Any]) -> ArrayValue:
        elements = tuple([None if item is None else out_of(item) for item in stored[0]])
        return ArrayValue(elements, tuple(stored[1]), tuple(stored[2]))

    return _Conversion(to_stored, from_stored)


def _row_function(functions: Sequence[Callable[[Any], Any] | None]) -> Callable[[Row], Row]:
    """Compile the function that converts the columns which need it; nulls stay."""
    names: dict[str, Any] = {f"f{number}": function for number, function in enumerate(functions)}
    values = "".join(f"v{number}, " for number in range(len(functions)))
    results = "".join(
        f"v{number}, "
        if function is None
        else f"f{number}(v{number}) if v{number} is not None else None, "
        for number, function in enumerate(functions)
    )
    source = f"def convert(row):\n    ({values}) = row\n    return ({results})"
    exec(source, names)  # noqa: S102  numbered names only
    convert: Callable[[Row], Row] = names["convert"]
    return convert
