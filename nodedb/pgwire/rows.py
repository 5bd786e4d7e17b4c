"""DataRow encoders, generated once per row shape.

``row_encoder`` returns a function that appends a batch of rows to the output buffer. The generated
source depends only on the shape, one letter per column (``i`` integer as text, ``s`` text, ``f``
any other through its output function), never on a name or value of the user, so there are few
of them and ``_compile`` keeps them. A generic loop over columns costs about twice as much per row.

For one column the generated code reads::

    if v0 is None:
        b0 = NULL; d0 = b""
    else:
        d0 = v0.encode(); k = len(d0); n += k
        b0 = LENGTHS[k] if k < TABLE else int32(k)

and a row ends in ``parts += (b"D", length of message, column count, b0, d0, b1, d1, ...)``.

Source: PostgreSQL docs, "Message Formats", DataRow.
"""

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from nodedb.session.api import FormatSettings, ResultColumn
from sql.errors import InvalidParameterValue
from sql.types import catalog
from sql.types.base import Datum, Row
from sql.types.io import FormatContext, binary_output, wire_text_output

RowEncoder = Callable[[Sequence[Row], bytearray], None]

TEXT_FORMAT: Final = 0
BINARY_FORMAT: Final = 1
FORMAT_CODES: Final = (TEXT_FORMAT, BINARY_FORMAT)
_NULL: Final = b"\xff\xff\xff\xff"
_int32 = struct.Struct("!i").pack
# Lengths below this are looked up, not packed: the lookup is three times faster.
_TABLE_SIZE: Final = 1024
_LENGTHS: Final = [_int32(length) for length in range(_TABLE_SIZE)]
_FIXED_BYTES: Final = 6  # the message's own length and the column count

_INTEGERS: Final = frozenset({catalog.INT2, catalog.INT4, catalog.INT8, catalog.OID})
_TEXTS: Final = frozenset({catalog.TEXT, catalog.VARCHAR, catalog.BPCHAR, catalog.NAME})
# Text output of these does not look at any setting, so their encoders survive a SET.
_PLAIN: Final = (
    _INTEGERS
    | _TEXTS
    | frozenset({catalog.BOOL, catalog.NUMERIC, catalog.UUID, catalog.JSON, catalog.JSONB})
)


def depends_on_settings(columns: Sequence[ResultColumn]) -> bool:
    """Tell whether an encoder for these columns must be made anew when a format setting changes."""
    return any(column.type not in _PLAIN for column in columns)


def row_encoder(
    columns: Sequence[ResultColumn], formats: Sequence[int], settings: FormatSettings
) -> RowEncoder:
    """Return ``encode(rows, out)`` for rows in the columns' order; one format code per column.

    Raises UndefinedFunction (42883) for a type without binary form, InvalidParameterValue (22023)
    for an unknown format code.
    """
    assert len(columns) == len(formats)
    shape: list[str] = []
    outputs: list[Callable[[Datum], bytes]] = []
    context = _context(settings)
    for column, code in zip(columns, formats, strict=True):
        kind = column.type
        if code not in FORMAT_CODES:
            raise InvalidParameterValue(f"unsupported format code: {code}")
        if kind in _TEXTS:
            shape.append("s")
        elif kind in _INTEGERS and code == TEXT_FORMAT:
            shape.append("i")
        else:
            shape.append("f")
            output = binary_output if code == BINARY_FORMAT else wire_text_output
            outputs.append(output(kind, context))
    return _compile("".join(shape))(*outputs)


def _context(settings: FormatSettings) -> FormatContext:
    if isinstance(settings, FormatContext):
        return settings
    return FormatContext(
        settings.date_style,
        settings.interval_style,
        settings.time_zone,
        settings.extra_float_digits,
        settings.bytea_output,
    )


@functools.lru_cache(maxsize=1024)
def _compile(shape: str) -> Callable[..., RowEncoder]:
    """Return a maker that takes the output functions of the ``f`` columns, in order."""
    names: dict[str, Any] = {
        "NULL": _NULL,
        "LENGTHS": _LENGTHS,
        "TABLE": _TABLE_SIZE,
        "int32": _int32,
        "COUNT": len(shape).to_bytes(2, "big"),
    }
    exec(_source(shape), names)  # noqa: S102  only column kinds and numbers are in the source
    maker: Callable[..., RowEncoder] = names.pop("make")
    return maker


def _source(shape: str) -> str:
    """Return the source of the maker for a shape."""
    count = len(shape)
    functions = ", ".join(f"f{index}" for index, kind in enumerate(shape) if kind == "f")
    lines = [
        f"def make({functions}):",
        "  def encode(rows, out):",
        "    parts = []",
    ]
    if count == 0:
        lines += ["    for _ in rows:", "      n = 6"]
    else:
        lines += [
            f"    for {', '.join(f'v{index}' for index in range(count))}, in rows:",
            f"      n = {_FIXED_BYTES + 4 * count}",
        ]
    for index, kind in enumerate(shape):
        lines += _column_source(index, kind)
    pairs = "".join(f", b{index}, d{index}" for index in range(count))
    lines += [
        f'      parts += (b"D", LENGTHS[n] if n < TABLE else int32(n), COUNT{pairs})',
        '    out += b"".join(parts)',
        "  return encode",
    ]
    return "\n".join(lines) + "\n"


def _column_source(index: int, kind: str) -> list[str]:
    value = {"i": f"str(v{index}).encode()", "s": f"v{index}.encode()", "f": f"f{index}(v{index})"}
    # No integer has 1,024 digits, so its length needs no test.
    length = "LENGTHS[k]" if kind == "i" else "LENGTHS[k] if k < TABLE else int32(k)"
    return [
        f"      if v{index} is None:",
        f'        b{index} = NULL; d{index} = b""',
        "      else:",
        f"        d{index} = {value[kind]}; k = len(d{index}); n += k",
        f"        b{index} = {length}",
    ]
