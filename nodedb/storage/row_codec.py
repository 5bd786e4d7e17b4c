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

import struct
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


BatchDecoder = Callable[[Sequence[bytes], int], list[Row]]
"""Rows of many values, each behind so many bytes of something else."""


class RowCodec(NamedTuple):
    """The functions for one table version.

    ``batch_decoder(columns)`` makes the decoder of many rows at once. Columns at other positions
    than these (None: all are wanted) are left in any form: nobody may look at them.
    """

    encode: Callable[[Row], bytes]
    decode: Callable[[bytes], Row]
    batch_decoder: Callable[[frozenset[int] | None], BatchDecoder]


def row_codec(types: Sequence[SqlType], defaults: Sequence[Datum]) -> RowCodec:
    """Return the codec of rows with these columns.

    ``defaults[i]`` is what column ``i`` is in rows that are older than the column. Encoding takes
    a tuple of all columns.
    """
    assert len(types) == len(defaults), (types, defaults)
    conversions = [_conversion(sql_type) for sql_type in types]
    stored_defaults = [
        _to_stored(conversion, datum)
        for conversion, datum in zip(conversions, defaults, strict=True)
    ]
    decode_stored = _stored_decoder(stored_defaults)

    def batch_decoder(columns: frozenset[int] | None) -> BatchDecoder:
        wanted = range(len(types)) if columns is None else columns
        return _batch_decoder(types, conversions, stored_defaults, frozenset(wanted))

    if not any(conversions):
        return RowCodec(_encode, decode_stored, batch_decoder)
    # MessagePack's encoder writes a numeric as its text by itself.
    encoded = [None if t is catalog.NUMERIC else c for t, c in zip(types, conversions, strict=True)]
    to_stored = _row_function([conversion and conversion.to_stored for conversion in encoded])
    from_stored = _row_function(
        [conversion and conversion.from_stored for conversion in conversions]
    )

    def encode(row: Row) -> bytes:
        return _encode(to_stored(row))

    def decode(data: bytes) -> Row:
        return from_stored(decode_stored(data))

    return RowCodec(encode if any(encoded) else _encode, decode, batch_decoder)


_STORED_TYPES: Final[dict[SqlType, Any]] = {
    catalog.BOOL: bool,
    catalog.INT2: int,
    catalog.INT4: int,
    catalog.INT8: int,
    catalog.FLOAT4: float,
    catalog.FLOAT8: float,
    catalog.TEXT: str,
    catalog.VARCHAR: str,
    catalog.BPCHAR: str,
    catalog.NUMERIC: str,
    catalog.BYTEA: bytes,
}
"""What MessagePack holds for these types: a decoder that knows it is faster than one that looks."""
_ARRAY32: Final = struct.Struct(">BI").pack
_ARRAY32_TAG: Final = 0xDD


def _batch_decoder(
    types: Sequence[SqlType],
    conversions: Sequence[_Conversion | None],
    stored_defaults: Sequence[Any],
    columns: frozenset[int],
) -> BatchDecoder:
    """Return the decoder of many rows: joined, they are one MessagePack array and one call."""
    count = len(types)
    if not columns:
        blank = (None,) * count
        return lambda values, _skip: [blank] * len(values)
    filler = tuple(stored_defaults)
    expected = []
    for position, sql_type in enumerate(types):
        kind = _STORED_TYPES.get(sql_type, Any)
        if sql_type is catalog.NUMERIC and position in columns:
            kind = Decimal  # From its text: here a row need not be made a second time for it.
        expected.append(kind if kind is Any else kind | None)
    fast = msgspec.msgpack.Decoder(list[tuple[tuple(expected)]]).decode  # type: ignore[misc]
    plain = msgspec.msgpack.Decoder(list[tuple[Any, ...]]).decode
    wanted = [conversion if n in columns else None for n, conversion in enumerate(conversions)]
    convert = _rows_function([one and one.from_stored for one in wanted])
    rest = [None if types[n] is catalog.NUMERIC else one for n, one in enumerate(wanted)]
    convert_rest = _rows_function([one and one.from_stored for one in rest]) if any(rest) else None

    def decode(values: Sequence[bytes], skip: int) -> list[Row]:
        payloads = [value[skip:] for value in values] if skip else values
        data = b"".join((_ARRAY32(_ARRAY32_TAG, len(values)), *payloads))
        rows: list[Row]
        try:
            rows = fast(data)
        except msgspec.ValidationError:
            # Rows of another version of the table, or a datum in a form of its own.
            rows = [
                row + filler[len(row) :] if len(row) < count else row[:count] for row in plain(data)
            ]
            return convert(rows)
        return rows if convert_rest is None else convert_rest(rows)

    return decode


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
    names, values, results = _conversion_source(functions)
    source = f"def convert(row):\n    ({values}) = row\n    return ({results})"
    exec(source, names)  # noqa: S102  numbered names only
    convert: Callable[[Row], Row] = names.pop("convert")
    return convert


def _rows_function(
    functions: Sequence[Callable[[Any], Any] | None],
) -> Callable[[list[Row]], list[Row]]:
    """Compile the same for a list of rows."""
    if not any(functions):
        return list
    names, values, results = _conversion_source(functions)
    source = f"def convert(rows):\n    return [({results}) for ({values}) in rows]"
    exec(source, names)  # noqa: S102  numbered names only
    convert: Callable[[list[Row]], list[Row]] = names.pop("convert")
    return convert


def _conversion_source(
    functions: Sequence[Callable[[Any], Any] | None],
) -> tuple[dict[str, Any], str, str]:
    """Return the namespace, the names of a row's values, and the expressions of the converted."""
    names: dict[str, Any] = {f"f{number}": function for number, function in enumerate(functions)}
    values = "".join(f"v{number}, " for number in range(len(functions)))
    results = "".join(
        f"v{number}, "
        if function is None
        else f"f{number}(v{number}) if v{number} is not None else None, "
        for number, function in enumerate(functions)
    )
    return names, values, results
