"""Binary forms of the scalars, as in the send and receive functions of PostgreSQL's types.

All numbers are big-endian. Readers take exactly one value's bytes. Errors: 08P01 when bytes are
missing, 22P03 when they are too many or make no sense, 22021 for text that is not UTF-8.

Source: PostgreSQL docs, "Formats and Format Codes"; the ``*send`` and ``*recv`` functions.
"""

import math
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from sql.errors import (
    DatetimeFieldOverflow,
    InternalError,
    InvalidBinaryRepresentation,
    NumericValueOutOfRange,
    ProtocolViolation,
)
from sql.types.array import DIMENSIONS_MAX, ELEMENTS_MAX, ArrayValue, too_many_dimensions
from sql.types.base import (
    DATE_INFINITY,
    DATE_MINUS_INFINITY,
    TIMESTAMP_INFINITY,
    TIMESTAMP_MINUS_INFINITY,
    Datum,
)
from sql.types.calendar import USECS_PER_DAY, is_valid_date, is_valid_timestamp
from sql.types.json import jsonb_in, validate_json
from sql.types.numeric import DIGITS_BEFORE_POINT_MAX, INFINITY, MINUS_INFINITY, NAN, scale_of
from sql.types.scalar_text import decode_utf8, name_in, to_float4

_UNSIGNED2: Final = struct.Struct("!H")
_SIGNED4: Final = struct.Struct("!i")
_UNSIGNED4: Final = struct.Struct("!I")
_NUMERIC_HEADER: Final = struct.Struct("!hhHH")
_ARRAY_HEADER: Final = struct.Struct("!iiI")
_ARRAY_DIMENSION: Final = struct.Struct("!ii")
_FIELD_HEADER: Final = struct.Struct("!Ii")
_NUMERIC_SIGNS: Final = {0xC000: NAN, 0xD000: INFINITY, 0xF000: MINUS_INFINITY}
_NUMERIC_NEGATIVE: Final = 0x4000
_TIMETZ_ZONE_MAX: Final = 16 * 3600
_JSONB_VERSION: Final = 1


def bad_format() -> InvalidBinaryRepresentation:
    """Return the 22P03 for bytes left over; the driver may say which parameter it was."""
    return InvalidBinaryRepresentation("incorrect binary data format")


def too_short() -> ProtocolViolation:
    """Return the 08P01 for a value that ends early."""
    return ProtocolViolation("insufficient data left in message")


def fixed_reader(layout: str) -> Callable[[bytes], Any]:
    """Return the reader of one number of a ``struct`` layout."""
    compiled = struct.Struct("!" + layout)
    size, unpack = compiled.size, compiled.unpack

    def read(data: bytes) -> Any:
        if len(data) != size:
            raise too_short() if len(data) < size else bad_format()
        return unpack(data)[0]

    return read


def fixed_writer(layout: str) -> Callable[[Any], bytes]:
    """Return the writer of one number of a ``struct`` layout."""
    return struct.Struct("!" + layout).pack


_read_int4: Final = fixed_reader("i")
_read_int8: Final = fixed_reader("q")


def _read_byte(data: bytes) -> int:
    if len(data) != 1:
        raise bad_format() if data else ProtocolViolation("no data left in message")
    return data[0]


def bool_recv(data: bytes) -> bool:
    """Read a boolean byte."""
    return _read_byte(data) != 0


def bool_send(value: bool) -> bytes:  # noqa: FBT001 - a datum, not an option
    """Write a boolean byte."""
    return b"\x01" if value else b"\x00"


def name_recv(data: bytes) -> str:
    """Read a name, cut to 63 bytes."""
    return name_in(decode_utf8(data))


def char_recv(data: bytes) -> str:
    """Read one byte of "char"; a zero byte is the empty value."""
    code = _read_byte(data)
    return chr(code) if code else ""


def char_send(value: str) -> bytes:
    """Write one byte of "char"."""
    return value.encode()[:1] or b"\x00"


def uuid_recv(data: bytes) -> bytes:
    """Read 16 bytes."""
    if len(data) != 16:
        raise too_short() if len(data) < 16 else bad_format()
    return bytes(data)


def float4_send(value: float) -> bytes:
    """Write single precision."""
    return struct.pack("!f", value)


def float4_recv(data: bytes) -> float:
    """Read single precision."""
    value: float = _read_float4(data)
    return to_float4(value) if math.isfinite(value) else value


_read_float4: Final = fixed_reader("f")


def numeric_send(value: Decimal) -> bytes:
    """Write base-10,000 digits: count, weight, sign, display scale, digits."""
    if not value.is_finite():
        sign = 0xC000 if value.is_nan() else 0xD000 if value > 0 else 0xF000
        # PostgreSQL marks the infinities with a display scale too.
        return _NUMERIC_HEADER.pack(0, 0, sign, 0 if value.is_nan() else 0x20)
    scale = scale_of(value)
    sign = _NUMERIC_NEGATIVE if value < 0 else 0
    if not value:
        return _NUMERIC_HEADER.pack(0, 0, 0, scale)
    digits = "".join(map(str, value.as_tuple().digits))
    if len(digits) <= scale:
        digits = digits.zfill(scale + 1)
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    whole = whole.zfill(-(-len(whole) // 4) * 4)
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((whole + fraction)[at : at + 4]) for at in range(0, len(whole + fraction), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    header = _NUMERIC_HEADER.pack(len(groups), weight, sign, scale)
    return header + struct.pack(f"!{len(groups)}H", *groups)


def numeric_recv(data: bytes) -> Decimal:
    """Read ``numeric_send``'s form; digits beyond the display scale are cut off."""
    if len(data) < 8:
        raise too_short()
    count, weight, sign, scale = _NUMERIC_HEADER.unpack_from(data)
    if sign not in (0, _NUMERIC_NEGATIVE, *_NUMERIC_SIGNS):
        raise InvalidBinaryRepresentation('invalid sign in external "numeric" value')
    if scale & 0x3FFF != scale:
        raise InvalidBinaryRepresentation('invalid scale in external "numeric" value')
    size = 8 + 2 * max(count & 0xFFFF, 0)
    if len(data) != size:
        raise too_short() if len(data) < size else bad_format()
    groups = struct.unpack_from(f"!{count & 0xFFFF}H", data, 8)
    if any(group > 9999 for group in groups):
        raise InvalidBinaryRepresentation('invalid digit in external "numeric" value')
    if sign in _NUMERIC_SIGNS:
        return _NUMERIC_SIGNS[sign]
    if groups and (weight + 1) * 4 > DIGITS_BEFORE_POINT_MAX:
        raise NumericValueOutOfRange("value overflows numeric format")
    digits = "".join(f"{group:04d}" for group in groups) or "0"
    # ``shift`` decimal places separate the digits given from the scale asked for.
    shift = scale - (len(groups) - weight - 1) * 4 if groups else 0
    digits = digits + "0" * shift if shift >= 0 else digits[:shift] or "0"
    value = Decimal(f"{digits}E-{scale}")
    return value.copy_negate() if sign and value else value


def date_recv(data: bytes) -> int:
    """Read days since 2000. Raises 22008."""
    days: int = _read_int4(data)
    if days in (DATE_INFINITY, DATE_MINUS_INFINITY) or is_valid_date(days):
        return days
    raise DatetimeFieldOverflow("date out of range")


def time_recv(data: bytes) -> int:
    """Read microseconds of the day. Raises 22008."""
    us: int = _read_int8(data)
    if 0 <= us <= USECS_PER_DAY:
        return us
    raise DatetimeFieldOverflow("time out of range")


_TIMETZ: Final = struct.Struct("!qi")
_INTERVAL: Final = struct.Struct("!qii")
_TID: Final = struct.Struct("!IH")


def timetz_recv(data: bytes) -> tuple[int, int]:
    """Read (microseconds, seconds west)."""
    us, west = unpack_exactly(_TIMETZ, data)
    if not 0 <= us <= USECS_PER_DAY:
        raise DatetimeFieldOverflow("time out of range")
    if not -_TIMETZ_ZONE_MAX < west < _TIMETZ_ZONE_MAX:
        raise DatetimeFieldOverflow("time zone displacement out of range")
    return us, west


def timetz_send(value: tuple[int, int]) -> bytes:
    """Write (microseconds, seconds west)."""
    return _TIMETZ.pack(*value)


def timestamp_recv(data: bytes) -> int:
    """Read microseconds since 2000. Raises 22008."""
    us: int = _read_int8(data)
    if us in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY) or is_valid_timestamp(us):
        return us
    raise DatetimeFieldOverflow("timestamp out of range")


def interval_recv(data: bytes) -> tuple[int, int, int]:
    """Read (months, days, microseconds); the wire has them the other way round."""
    us, days, months = unpack_exactly(_INTERVAL, data)
    return months, days, us


def interval_send(value: tuple[int, int, int]) -> bytes:
    """Write microseconds, days, months."""
    return _INTERVAL.pack(value[2], value[1], value[0])


def tid_recv(data: bytes) -> tuple[int, int]:
    """Read (block, offset)."""
    block, offset = unpack_exactly(_TID, data)
    return block, offset


def tid_send(value: tuple[int, int]) -> bytes:
    """Write (block, offset)."""
    return _TID.pack(*value)


def unpack_exactly(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """Unpack all of ``data``. Raises 08P01 when short, 22P03 when long."""
    if len(data) != layout.size:
        raise too_short() if len(data) < layout.size else bad_format()
    return layout.unpack(data)


def json_recv(data: bytes) -> str:
    """Read and check JSON text."""
    text = decode_utf8(data)
    validate_json(text)
    return text


def jsonb_recv(data: bytes) -> str:
    """Read a version byte and JSON text."""
    if not data:
        raise too_short()
    if data[0] != _JSONB_VERSION:
        raise InternalError(f"unsupported jsonb version number {data[0]}")
    return jsonb_in(decode_utf8(data[1:]))


def jsonb_send(value: str) -> bytes:
    """Write a version byte and JSON text."""
    return b"\x01" + value.encode()


def array_send(
    value: ArrayValue, element_oid: int, element_send: Callable[[Datum], bytes]
) -> bytes:
    """Write dimensions, whether NULLs occur, the element type, bounds and elements."""
    elements = value.elements
    parts = [_ARRAY_HEADER.pack(len(value.dims), None in elements, element_oid)]
    parts.extend(map(_ARRAY_DIMENSION.pack, value.dims, value.lower_bounds))
    for element in elements:
        if element is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            data = element_send(element)
            parts.append(_SIGNED4.pack(len(data)))
            parts.append(data)
    return b"".join(parts)


def array_recv(data: bytes, element_oid: int, element_recv: Callable[[bytes], Datum]) -> ArrayValue:
    """Read ``array_send``'s form. Raises 22P03, 08P01, 54000 and the element's errors."""
    if len(data) < 12:
        raise too_short()
    dimensions, flags, oid = _ARRAY_HEADER.unpack_from(data)
    if dimensions < 0:
        raise InvalidBinaryRepresentation(f"invalid number of dimensions: {dimensions}")
    if dimensions > DIMENSIONS_MAX:
        raise too_many_dimensions(dimensions)
    if flags not in (0, 1):
        raise InvalidBinaryRepresentation("invalid array flags")
    if oid != element_oid:
        raise InvalidBinaryRepresentation(
            f"binary data has array element type {oid} ({oid}) instead of expected"
            f" {element_oid} ({element_oid})"
        )
    at = 12
    if len(data) < at + 8 * dimensions:
        raise too_short()
    shape = [_ARRAY_DIMENSION.unpack_from(data, at + 8 * index) for index in range(dimensions)]
    at += 8 * dimensions
    count = math.prod(size for size, _ in shape) if shape else 0
    if count > ELEMENTS_MAX or any(size < 0 for size, _ in shape):
        raise NumericValueOutOfRange("array size exceeds the maximum allowed")
    elements, at = _recv_elements(data, at, count, element_recv)
    if at != len(data):
        raise bad_format()
    if not elements:
        return ArrayValue(())
    return ArrayValue(elements, tuple(size for size, _ in shape), tuple(low for _, low in shape))


def _recv_elements(
    data: bytes, at: int, count: int, element_recv: Callable[[bytes], Datum]
) -> tuple[tuple[Datum, ...], int]:
    elements: list[Datum] = []
    for _ in range(count):
        if len(data) < at + 4:
            raise too_short()
        length = _SIGNED4.unpack_from(data, at)[0]
        at += 4
        if length == -1:
            elements.append(None)
            continue
        if length < -1 or at + length > len(data):
            raise InvalidBinaryRepresentation("insufficient data left in message")
        elements.append(element_recv(data[at : at + length]))
        at += length
    return tuple(elements), at


def record_send(fields: list[tuple[int, bytes | None]]) -> bytes:
    """Write (type OID, bytes or None) fields behind their number."""
    parts = [_SIGNED4.pack(len(fields))]
    for oid, data in fields:
        parts.append(_FIELD_HEADER.pack(oid, -1 if data is None else len(data)))
        if data is not None:
            parts.append(data)
    return b"".join(parts)
