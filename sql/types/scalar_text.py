"""Text forms of the plain scalars: booleans, integers, floats, bytes, uuid and the system types.

Every reader takes the whole text and raises PostgreSQL's 22P02 or 22003 for what it cannot read.

Source: PostgreSQL docs, "Data Types".
"""

import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Final

from sql.errors import (
    CharacterNotInRepertoire,
    InvalidParameterValue,
    InvalidTextRepresentation,
    NumericValueOutOfRange,
)
from sql.types.array import ArrayValue

NAME_BYTES_MAX: Final = 63
_SPACE: Final = " \t\n\r\f\v"
_INTEGER: Final = re.compile(r"([ \t\n\r\f\v]*[+-]?[0-9]+)([ \t\n\r\f\v]*)")
_FLOAT: Final = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
    r"|(?P<hex>0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?)"
    r"|(?P<word>nan|inf(?:inity)?))",
    re.IGNORECASE,
)
_FLOAT4: Final = struct.Struct("!f")
_FLOAT8: Final = struct.Struct("!d")
_FLOAT4_NORMAL_MIN: Final = 2.0**-126
_FLOAT4_EXACT_MAX: Final = 2.0**24
_FLOAT8_EXACT_MAX: Final = 2.0**53
_TRUE_PREFIXES: Final = frozenset(("t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"))
_FALSE_PREFIXES: Final = frozenset(("f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"))


def invalid_syntax(type_name: str, text: str) -> InvalidTextRepresentation:
    """Return the 22P02 that most types raise."""
    return InvalidTextRepresentation(f'invalid input syntax for type {type_name}: "{text}"')


def decode_utf8(data: bytes) -> str:
    """Decode client text. Raises 22021 for bytes that are not UTF-8 and for zero bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise invalid_utf8(data, error.start) from None
    if "\0" in text:
        raise invalid_utf8(data, data.index(0))
    return text


def invalid_utf8(data: bytes, at: int) -> CharacterNotInRepertoire:
    """Return the 22021 that names the bytes of the character at ``at``."""
    first = data[at]
    length = 2 if 0xC0 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 1
    length = 4 if 0xF0 <= first < 0xF8 else length
    shown = " ".join(f"0x{byte:02x}" for byte in data[at : at + length])
    return CharacterNotInRepertoire(f'invalid byte sequence for encoding "UTF8": {shown}')


def bool_in(text: str) -> bool:
    """Read a boolean from any unambiguous prefix of its words."""
    word = text.strip(_SPACE).lower()
    if word in _TRUE_PREFIXES:
        return True
    if word in _FALSE_PREFIXES:
        return False
    raise invalid_syntax("boolean", text)


def bool_out(value: bool) -> str:  # noqa: FBT001 - a datum, not an option
    """Write ``t`` or ``f``."""
    return "t" if value else "f"


def int_reader(type_name: str, bits: int) -> Callable[[str], int]:
    """Return the reader of a signed integer type."""
    limit = 1 << (bits - 1)

    def read(text: str) -> int:
        if text.isdigit() and text.isascii() and len(text) < 20:
            value = int(text)
        else:
            match = _INTEGER.match(text)
            if match is None:
                raise invalid_syntax(type_name, text)
            # A number out of range is reported as such even when rubbish follows it.
            value = int(match[1]) if len(match[1]) < 4000 else limit
            if match.end() != len(text) and -limit <= value < limit:
                raise invalid_syntax(type_name, text)
        if -limit <= value < limit:
            return value
        raise NumericValueOutOfRange(f'value "{text}" is out of range for type {type_name}')

    return read


int2_in: Final = int_reader("smallint", 16)
int4_in: Final = int_reader("integer", 32)
int8_in: Final = int_reader("bigint", 64)


def unsigned_reader(type_name: str, bits: int) -> Callable[[str], int]:
    """Return the reader of oid, xid, cid or xid8; negative numbers wrap around."""
    limit = 1 << bits

    def read(text: str) -> int:
        match = _INTEGER.match(text)
        if match is None or match.end() != len(text):
            raise invalid_syntax(type_name, text)
        value = int(match[1]) if len(match[1]) < 4000 else limit
        if not -(limit >> 1) <= value < limit:
            raise NumericValueOutOfRange(f'value "{text}" is out of range for type {type_name}')
        return value % limit

    return read


oid_in: Final = unsigned_reader("oid", 32)
_LENIENT: Final = re.compile(r"[ \t\n\r\f\v]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([0-9]+))")


def lenient_reader(bits: int) -> Callable[[str], int]:
    """Return the reader of xid, cid or xid8: the number in front, 0 if there is none."""

    def read(text: str) -> int:
        match = _LENIENT.match(text)
        if match is None:
            return 0
        sign, hexadecimal, octal, decimal = match.groups()
        if hexadecimal is not None:
            value = int(hexadecimal, 16)
        else:
            value = int(octal, 8) if octal is not None else int(decimal[:20])
        value = min(value, 0xFFFFFFFFFFFFFFFF)
        return (-value if sign == "-" else value) % (1 << bits)

    return read


def float_in(text: str, type_name: str = "double precision") -> float:
    """Read a float8. Raises 22P02, and 22003 for values too large or too near to zero."""
    stripped = text.strip(_SPACE)
    match = _FLOAT.fullmatch(stripped)
    if match is None:
        raise invalid_syntax(type_name, text)
    if match["word"] is not None:
        return float(stripped)
    if match["hex"] is not None:
        try:
            return float.fromhex(stripped)
        except OverflowError:
            raise _float_range(stripped, type_name) from None
    value = float(stripped)
    if math.isinf(value) or (value == 0.0 and not _is_written_zero(stripped)):
        raise _float_range(stripped, type_name)
    return value


def _is_written_zero(text: str) -> bool:
    return not re.search("[1-9]", re.split("[eE]", text)[0])


def _float_range(text: str, type_name: str) -> NumericValueOutOfRange:
    return NumericValueOutOfRange(f'"{text}" is out of range for type {type_name}')


def float4_in(text: str) -> float:
    """Read a float4, rounded once from the decimal."""
    value = float_in(text, "real")
    if not math.isfinite(value) or value == 0.0:
        return value
    stripped = text.strip(_SPACE)
    try:
        rounded = to_float4(value)
    except OverflowError:
        raise _float_range(stripped, "real") from None
    if _is_between_singles(value) and "x" not in stripped.lower():
        # The double lies half way between two singles: the digits beyond it must decide.
        exact = Fraction(Decimal(stripped))
        if exact != Fraction(value):
            nudged = math.nextafter(value, math.inf if exact > Fraction(value) else -math.inf)
            rounded = to_float4(nudged)
    if rounded == 0.0:
        raise _float_range(stripped, "real")
    return rounded


def _is_between_singles(value: float) -> bool:
    """Tell whether a double lies exactly half way between two neighbouring singles."""
    if abs(value) < _FLOAT4_NORMAL_MIN:
        return value * 2.0**150 % 2 == 1
    bits: int = struct.unpack("!q", _FLOAT8.pack(value))[0]
    return bits & 0x1FFFFFFF == 0x10000000


def to_float4(value: float) -> float:
    """Round a double to single precision. Raises ``OverflowError`` when it does not fit."""
    result: float = _FLOAT4.unpack(_FLOAT4.pack(value))[0]
    return result


def float8_writer(extra_float_digits: int) -> Callable[[float], str]:
    """Return the writer of float8: shortest exact text, or fewer digits if asked for."""
    if extra_float_digits > 0:
        return float8_out
    digits = max(15 + extra_float_digits, 1)
    return lambda value: _limited(value, digits)


def float4_writer(extra_float_digits: int) -> Callable[[float], str]:
    """Return the writer of float4."""
    if extra_float_digits > 0:
        return float4_out
    digits = max(6 + extra_float_digits, 1)
    return lambda value: _limited(value, digits)


def _special_float(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _limited(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else _special_float(value)


def float8_out(value: float) -> str:
    """Write the shortest text that lies nearer to this double than to any other."""
    if not -_FLOAT8_EXACT_MAX < value < _FLOAT8_EXACT_MAX:
        if not math.isfinite(value):
            return _special_float(value)
        return _arrange(_inside(value, repr(value), math.ulp(value)), 15)
    text = repr(value)
    if text.endswith(".0"):
        text = text[:-2]
        if len(text) < 16:
            return text
    elif "e" not in text and text.find(".") < 16:
        return text
    return _arrange(text, 15)


def _inside(value: float, text: str, spacing: float) -> str:
    """Return ``text`` unless it is exactly half way to a neighbour, else one with more digits.

    Rounding to even would read such a text back rightly, but PostgreSQL does not rely on that.
    Only whole numbers can meet this: ``spacing``, the distance to the next number, is then even.
    """
    digits = len(re.sub(r"e.*|[^0-9]", "", text).strip("0"))
    while _is_boundary(value, text, int(spacing)):
        text = f"{value:.{digits}e}"
        digits += 1
    return text


def _is_boundary(value: float, text: str, spacing: int) -> bool:
    exact, shown = abs(int(value)), abs(int(Decimal(text)))
    if 2 * abs(shown - exact) == spacing:
        return True
    # Numbers below a power of two are twice as dense.
    return 4 * (exact - shown) == spacing and abs(math.frexp(value)[0]) == 0.5


def float4_out(value: float) -> str:
    """Write the shortest text that lies nearer to this single than to any other."""
    if not math.isfinite(value):
        return _special_float(value)
    if value == 0.0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    packed = _FLOAT4.pack(value)
    # Six digits find every shorter text too, except where a subnormal has fewer bits.
    text = f"{value:.9g}"
    for digits in range(6 if abs(value) >= _FLOAT4_NORMAL_MIN else 1, 9):
        shorter = _float4_digits(value, packed, digits)
        if shorter is not None:
            text = shorter
            break
    if abs(value) >= _FLOAT4_EXACT_MAX:
        text = _inside(value, text, 2.0 ** (math.frexp(value)[1] - 24))
    return _arrange(text, 6)


def _float4_digits(value: float, packed: bytes, digits: int) -> str | None:
    """Return a text of so many digits that reads back as ``value``, if there is one."""
    text = f"{value:.{digits - 1}e}"
    if _reads_as(text, packed):
        return text
    if abs(math.frexp(value)[0]) == 0.5:
        # Below a power of two singles are denser, so the nearest text may miss where the next
        # one away from zero does not.
        decimal = Decimal(text)
        step = Decimal((decimal.is_signed(), (1,), int(decimal.as_tuple().exponent)))
        text = f"{decimal + step:e}"
        if _reads_as(text, packed):
            return text
    return None


def _reads_as(text: str, packed: bytes) -> bool:
    try:
        return _FLOAT4.pack(float(text)) == packed
    except OverflowError:
        return False


def _arrange(text: str, fixed_digits: int) -> str:
    """Rewrite a float literal: fixed from 1e-4 below ``10**fixed_digits``, else with exponent."""
    sign = "-" if text[0] == "-" else ""
    mantissa, _, exponent_text = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    exponent = int(exponent_text or 0) + len(whole) - 1
    digits = (whole + fraction).lstrip("0")
    exponent -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0"
    if -4 <= exponent < fixed_digits:
        if exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
        if len(digits) <= exponent + 1:
            return sign + digits.ljust(exponent + 1, "0")
        return f"{sign}{digits[: exponent + 1]}.{digits[exponent + 1 :]}"
    point = "." if len(digits) > 1 else ""
    exponent_sign = "-" if exponent < 0 else "+"
    return f"{sign}{digits[0]}{point}{digits[1:]}e{exponent_sign}{abs(exponent):02d}"


def name_in(text: str) -> str:
    """Cut to 63 bytes without splitting a character."""
    if len(text) * 4 <= NAME_BYTES_MAX:
        return text
    encoded = text.encode()
    if len(encoded) <= NAME_BYTES_MAX:
        return text
    return encoded[:NAME_BYTES_MAX].decode(errors="ignore")


def char_in(text: str) -> str:
    """Keep the first character."""
    return text[:1]


def bytea_in(text: str) -> bytes:
    r"""Read ``\x6869`` or the escape form. Raises 22023 for bad hex, 22P02 for a bad escape."""
    if text.startswith("\\x"):
        return _hex_bytes(text[2:])
    if "\\" not in text:
        return text.encode()
    result = bytearray()
    data, at = text.encode(), 0
    while at < len(data):
        if data[at] != 0x5C:
            result.append(data[at])
            at += 1
        elif data[at + 1 : at + 2] == b"\\":
            result.append(0x5C)
            at += 2
        elif re.match(rb"[0-3][0-7]{2}", data[at + 1 : at + 4]):
            result.append(int(data[at + 1 : at + 4], 8))
            at += 4
        else:
            raise InvalidTextRepresentation("invalid input syntax for type bytea")
    return bytes(result)


def _hex_bytes(text: str) -> bytes:
    try:
        if text.isascii() and "\v" not in text and "\f" not in text:
            return bytes.fromhex(text)
    except ValueError:
        pass
    at = 0
    while at < len(text):
        if text[at] in " \n\t\r":
            at += 1
            continue
        _check_hex_digit(text[at])
        if at + 1 >= len(text):
            raise InvalidParameterValue("invalid hexadecimal data: odd number of digits")
        _check_hex_digit(text[at + 1])
        at += 2
    return bytes.fromhex(text)


def _check_hex_digit(char: str) -> None:
    if char not in "0123456789abcdefABCDEF":
        raise InvalidParameterValue(f'invalid hexadecimal digit: "{char}"')


def bytea_hex_out(value: bytes) -> str:
    r"""Write ``\x6869``."""
    return "\\x" + value.hex()


def bytea_escape_out(value: bytes) -> str:
    r"""Write printable ASCII as it is and other bytes as ``\ooo``."""
    return "".join(
        "\\\\" if byte == 0x5C else chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
        for byte in value
    )


_UUID_GROUPS: Final = re.compile(r"(\{)?[0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7}(?(1)\})")


def uuid_in(text: str) -> bytes:
    """Read 32 hex digits, with a hyphen or none after any four, with or without braces."""
    if _UUID_GROUPS.fullmatch(text) is None:
        raise invalid_syntax("uuid", text)
    return bytes.fromhex(text.strip("{}").replace("-", ""))


def uuid_out(value: bytes) -> str:
    """Write the standard form, lower case."""
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def tid_in(text: str) -> tuple[int, int]:
    """Read ``(block,offset)``."""
    match = re.fullmatch(r"\([ \t\n]*(-?\d{1,10}),[ \t\n]*(\d{1,5})\)[ \t\n]*", text)
    if match is None or int(match[1]) >= 1 << 32 or int(match[2]) >= 1 << 16:
        raise invalid_syntax("tid", text)
    return int(match[1]) % (1 << 32), int(match[2])


def tid_out(value: tuple[int, int]) -> str:
    """Write ``(block,offset)``."""
    return f"({value[0]},{value[1]})"


def pg_lsn_in(text: str) -> int:
    """Read ``16/B374D848``."""
    match = re.fullmatch(r"([0-9a-fA-F]{1,8})/([0-9a-fA-F]{1,8})", text)
    if match is None:
        raise invalid_syntax("pg_lsn", text)
    return int(match[1], 16) << 32 | int(match[2], 16)


def pg_lsn_out(value: int) -> str:
    """Write ``16/B374D848``."""
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def vector_in(elements: tuple[int, ...]) -> ArrayValue:
    """Make an int2vector or oidvector: one dimension from index 0, even when empty."""
    return ArrayValue(elements, (len(elements),), (0,))


def int2vector_in(text: str) -> ArrayValue:
    """Read smallints between spaces."""
    return vector_in(tuple(int2_in(part) for part in text.split()))


def oidvector_in(text: str) -> ArrayValue:
    """Read OIDs between spaces; the error shows the rest of the text."""
    elements: list[int] = []
    rest = text.strip(_SPACE)
    while rest:
        match = _INTEGER.match(rest)
        if match is None:
            raise invalid_syntax("oid", rest)
        elements.append(oid_in(match[1]))
        rest = rest[match.end() :]
    return vector_in(tuple(elements))


def vector_out(value: ArrayValue) -> str:
    """Write int2vector or oidvector."""
    return " ".join(map(str, value.elements))
