"""Order-preserving keys: the tuple of a key's datums to bytes that compare as the tuple does.

A key is ``prefix | column | column ...``. A column is ``marker:1 | value``, without the marker when
it cannot be null; the marker is 02, for a null 01 (nulls first) or 03 (nulls last). The bytes of a
descending value are inverted. Values of fixed width are big-endian and biased::

    int2, int4, int8, oid, reg types, time, timestamp, timestamptz, float4, float8   8
    date 4 · bool 1 · uuid 16 · timetz 12 (UTC microseconds:8 | zone:4)

All integer types have one form, so that a column can be widened without touching its keys, and a
key can be looked up by a value of any of them. The other types: ``key_parts``.

An encoder is compiled from source for its columns: the fixed-width case is one ``struct`` call. No
name and no value of a user is part of that source.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nodedb.storage.key_parts import (
    INVERTED,
    array_key,
    bpchar_key,
    bytea_key,
    float_bits,
    interval_key,
    jsonb_key,
    numeric_key,
    text_key,
)
from sql.types import catalog
from sql.types.base import Datum, SqlType

KeyEncoder = Callable[[tuple[Datum, ...]], bytes]
KeyDecoder = Callable[[bytes], tuple[Datum, ...]]

_VALUE: Final = 2
_NULL_FIRST: Final = 1
_NULL_LAST: Final = 3


class KeyColumn(NamedTuple):
    """One column of a key. ``nulls_first`` is explicit: PostgreSQL's default is the binder's."""

    type: SqlType
    descending: bool = False
    nulls_first: bool = False
    nullable: bool = True


class _Fixed(NamedTuple):
    """Struct codes, and for each an expression over ``{v}``; ``{i}`` ones when descending."""

    codes: str
    ascending: tuple[str, ...]
    descending: tuple[str, ...]


_INT64: Final = _Fixed("Q", ("{v} + 0x8000000000000000",), ("0x7fffffffffffffff - {v}",))
_INT32: Final = _Fixed("I", ("{v} + 0x80000000",), ("0x7fffffff - {v}",))
_BOOL: Final = _Fixed("B", ("{v}",), ("not {v}",))
_FLOAT: Final = _Fixed("Q", ("float_bits({v})",), ("0xffffffffffffffff - float_bits({v})",))
_UUID: Final = _Fixed("16s", ("{v}",), ("{v}.translate(INVERTED)",))
_TIMETZ: Final = _Fixed(
    "QI",
    ("{v}[0] + {v}[1] * 1000000 + 0x8000000000000000", "{v}[1] + 0x80000000"),
    ("0x7fffffffffffffff - {v}[0] - {v}[1] * 1000000", "0x7fffffff - {v}[1]"),
)

_FIXED: Final[dict[SqlType, _Fixed]] = {
    catalog.BOOL: _BOOL,
    catalog.INT2: _INT64,
    catalog.INT4: _INT64,
    catalog.INT8: _INT64,
    catalog.OID: _INT64,
    catalog.REGPROC: _INT64,
    catalog.REGPROCEDURE: _INT64,
    catalog.REGOPER: _INT64,
    catalog.REGOPERATOR: _INT64,
    catalog.REGCLASS: _INT64,
    catalog.REGTYPE: _INT64,
    catalog.REGROLE: _INT64,
    catalog.REGNAMESPACE: _INT64,
    catalog.FLOAT4: _FLOAT,
    catalog.FLOAT8: _FLOAT,
    catalog.DATE: _INT32,
    catalog.TIME: _INT64,
    catalog.TIMESTAMP: _INT64,
    catalog.TIMESTAMPTZ: _INT64,
    catalog.TIMETZ: _TIMETZ,
    catalog.UUID: _UUID,
}

# The inline form saves a call for the most common type.
_TEXT_INLINE: Final = r'{v}.encode().replace(b"\0", b"\0\xff") + b"\0\1"'

_VARYING: Final[dict[SqlType, Callable[[Any], bytes]]] = {
    catalog.TEXT: text_key,
    catalog.VARCHAR: text_key,
    catalog.NAME: text_key,
    catalog.CHAR: text_key,
    catalog.BPCHAR: bpchar_key,
    catalog.BYTEA: bytea_key,
    catalog.NUMERIC: numeric_key,
    catalog.INTERVAL: interval_key,
    catalog.JSONB: jsonb_key,
}


def is_key_type(sql_type: SqlType) -> bool:
    """Return whether values of the type can stand in a key (PostgreSQL: has a btree class)."""
    if sql_type.element is not None:
        return is_key_type(sql_type.element)
    return sql_type in _FIXED or sql_type in _VARYING


def key_encoder(columns: Sequence[KeyColumn], prefix: bytes = b"") -> KeyEncoder:
    """Return the function from a tuple of exactly these columns' datums to a key.

    ``prefix`` stands before every key. The function raises ValueError for a tuple of another
    length. All types must be key types.
    """
    if not columns:
        return _constant_encoder(prefix)
    names: dict[str, Any] = {
        "prefix": prefix,
        "INVERTED": INVERTED,
        "float_bits": float_bits,
    }
    body = []
    fused = _fused_expression(columns, names, prefix)
    if fused is not None:
        condition = " and ".join(
            f"v{number} is not None" for number, column in enumerate(columns) if column.nullable
        )
        body.append(f"    if {condition}:" if condition else "    if True:")
        body.append(f"        return {fused}")
    parts = [f"({_expression(number, column, names)})" for number, column in enumerate(columns)]
    body.append(f"    return {' + '.join((['prefix'] if prefix else []) + parts)}")
    values = "".join(f"v{number}, " for number in range(len(columns)))
    source = "\n".join(["def encode(row):", f"    ({values}) = row", *body])
    exec(source, names)  # noqa: S102  built from the tables above only
    # Taken out: a function that stands in its own globals is garbage only the collector finds.
    encoder: KeyEncoder = names.pop("encode")
    return encoder


def prefix_encoder(columns: Sequence[KeyColumn], count: int, prefix: bytes = b"") -> KeyEncoder:
    """Return the encoder of the first ``count`` datums of a key; see ``prefix_end``."""
    return key_encoder(columns[:count], prefix)


def prefix_end(prefix: bytes) -> bytes:
    """Return the exclusive end of all keys that start with ``prefix``.

    The prefix must hold a byte below ff; every encoded column does.
    """
    stem = prefix.rstrip(b"\xff")
    assert stem, prefix
    return stem[:-1] + bytes((stem[-1] + 1,))


def _constant_encoder(prefix: bytes) -> KeyEncoder:
    def encode(row: tuple[Datum, ...]) -> bytes:
        () = row
        return prefix

    return encode


def _fused_expression(
    columns: Sequence[KeyColumn], names: dict[str, Any], prefix: bytes
) -> str | None:
    """Return one pack call for all columns when all have fixed width, none of them null."""
    codes = [">"]
    arguments = []
    if prefix:
        codes.append(f"{len(prefix)}s")
        arguments.append("prefix")
    for number, column in enumerate(columns):
        fixed = _FIXED.get(column.type)
        if fixed is None:
            return None
        if column.nullable:
            codes.append("B")
            arguments.append(str(_VALUE))
        codes.append(fixed.codes)
        arguments += _fixed_arguments(fixed, column, number)
    names["pack"] = struct.Struct("".join(codes)).pack
    return f"pack({', '.join(arguments)})"


def _fixed_arguments(fixed: _Fixed, column: KeyColumn, number: int) -> list[str]:
    chosen = fixed.descending if column.descending else fixed.ascending
    return [template.replace("{v}", f"v{number}") for template in chosen]


def _expression(number: int, column: KeyColumn, names: dict[str, Any]) -> str:
    """Return the expression for one column's bytes, nulls included."""
    value = f"v{number}"
    fixed = _FIXED.get(column.type)
    if fixed is not None:
        code = "B" + fixed.codes if column.nullable else fixed.codes
        names[f"pack{number}"] = struct.Struct(">" + code).pack
        arguments = [str(_VALUE)] if column.nullable else []
        arguments += _fixed_arguments(fixed, column, number)
        encoded = f"pack{number}({', '.join(arguments)})"
    else:
        function = _varying_function(column.type)
        if function is text_key:
            encoded = _TEXT_INLINE.replace("{v}", value)
        else:
            names[f"encode{number}"] = function
            encoded = f"encode{number}({value})"
        if column.descending:
            encoded = f"({encoded}).translate(INVERTED)"
        if column.nullable:
            encoded = f'b"\\x{_VALUE:02x}" + {encoded}'
    if not column.nullable:
        return encoded
    null = _NULL_FIRST if column.nulls_first else _NULL_LAST
    return f'{encoded} if {value} is not None else b"\\x{null:02x}"'


def _varying_function(sql_type: SqlType) -> Callable[[Any], bytes]:
    if sql_type.element is not None:
        encode_element = key_encoder([KeyColumn(sql_type.element, nullable=False)])
        return array_key(lambda element: encode_element((element,)))
    function = _VARYING.get(sql_type)
    assert function is not None, f"{sql_type} cannot stand in a key"
    return function


# Decoding

_ColumnDecoder = Callable[[bytes, int], tuple[Datum, int]]


def _int64_decoder(*, descending: bool) -> _ColumnDecoder:
    unpack = struct.Struct(">Q").unpack_from
    if descending:
        return lambda key, at: (0x7FFFFFFFFFFFFFFF - unpack(key, at)[0], at + 8)
    return lambda key, at: (unpack(key, at)[0] - 0x8000000000000000, at + 8)


def _int32_decoder(*, descending: bool) -> _ColumnDecoder:
    unpack = struct.Struct(">I").unpack_from
    if descending:
        return lambda key, at: (0x7FFFFFFF - unpack(key, at)[0], at + 4)
    return lambda key, at: (unpack(key, at)[0] - 0x80000000, at + 4)


def _bool_decoder(*, descending: bool) -> _ColumnDecoder:
    return lambda key, at: (bool(key[at]) != descending, at + 1)


def _uuid_decoder(*, descending: bool) -> _ColumnDecoder:
    if descending:
        return lambda key, at: (key[at : at + 16].translate(INVERTED), at + 16)
    return lambda key, at: (key[at : at + 16], at + 16)


def _bytes_end(key: bytes, at: int, *, descending: bool) -> int:
    """Return the offset of the terminator, skipping escaped zeros."""
    zero, escaped = (b"\xff", 0x00) if descending else (b"\x00", 0xFF)
    end = key.index(zero, at)
    while key[end + 1] == escaped:
        end = key.index(zero, end + 2)
    return end


def _bytea_decoder(*, descending: bool) -> _ColumnDecoder:
    def decode(key: bytes, at: int) -> tuple[Datum, int]:
        end = _bytes_end(key, at, descending=descending)
        value = key[at:end].translate(INVERTED) if descending else key[at:end]
        return value.replace(b"\0\xff", b"\0"), end + 2

    return decode


def _text_decoder(*, descending: bool) -> _ColumnDecoder:
    decode_bytes = _bytea_decoder(descending=descending)

    def decode(key: bytes, at: int) -> tuple[Datum, int]:
        value, end = decode_bytes(key, at)
        return value.decode(), end

    return decode


_DECODERS: Final[dict[SqlType, Callable[..., _ColumnDecoder]]] = {
    **{sql_type: _int64_decoder for sql_type, fixed in _FIXED.items() if fixed is _INT64},
    catalog.DATE: _int32_decoder,
    catalog.BOOL: _bool_decoder,
    catalog.UUID: _uuid_decoder,
    catalog.BYTEA: _bytea_decoder,
    catalog.TEXT: _text_decoder,
    catalog.VARCHAR: _text_decoder,
    catalog.NAME: _text_decoder,
    catalog.CHAR: _text_decoder,
}


def is_decodable(sql_type: SqlType) -> bool:
    """Return whether the datum can be read back from a key; others are read from the row."""
    return sql_type in _DECODERS


def key_decoder(columns: Sequence[KeyColumn], prefix_bytes: int = 0) -> KeyDecoder:
    """Return the function from a key, whose first bytes are skipped, to the tuple of its datums.

    All types must be decodable.
    """
    plan = tuple(
        (_DECODERS[column.type](descending=column.descending), column.nullable)
        for column in columns
    )

    def decode(key: bytes) -> tuple[Datum, ...]:
        at = prefix_bytes
        values: list[Datum] = []
        for decode_column, nullable in plan:
            if nullable:
                marker = key[at]
                at += 1
                if marker != _VALUE:
                    values.append(None)
                    continue
            value, at = decode_column(key, at)
            values.append(value)
        return tuple(values)

    return decode
