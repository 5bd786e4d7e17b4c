"""Casts between numbers, strings, booleans and jsonb (those of dates and times are in ``datetimes``).

numeric rounds half away from zero, floats half to even, as PostgreSQL does. Casts to a length
are ``typmod``'s.

Source: PostgreSQL docs, "Type Casts", "Numeric Types"; pg_cast.
"""  # noqa: E501

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, Final

from sql.errors import FeatureNotSupported, InvalidParameterValue, NumericValueOutOfRange
from sql.functions.arithmetic import INT_NAMES, check_int, round_float4
from sql.functions.implementation import implements, register
from sql.types.json import JsonObject, parse_json

NAME_BYTES_MAX: Final = 63
_OID_MAX: Final = 0xFFFFFFFF


def numeric_to_int(value: Decimal, size: int) -> int:
    """Round half away from zero; 22003 out of range, 0A000 for NaN and infinities."""
    if not value.is_finite():
        kind = "NaN" if value.is_nan() else "infinity"
        raise FeatureNotSupported(f"cannot convert {kind} to {INT_NAMES[size]}")
    return check_int(int(value.to_integral_value(rounding=ROUND_HALF_UP)), size)


def float_to_int(value: float, size: int) -> int:
    """Round half to even; 22003 out of range and for NaN."""
    if value - value != 0.0:
        raise NumericValueOutOfRange(f"{INT_NAMES[size]} out of range")
    return check_int(round(value), size)


def numeric_to_float(value: Decimal, type_name: str = "double precision") -> float:
    """Convert to the nearest double; 22003 when a finite value overflows or vanishes."""
    result = float(value)
    if value.is_finite() and (result - result != 0.0 or (result == 0.0 and value != 0)):
        raise NumericValueOutOfRange(f'"{value:f}" is out of range for type {type_name}')
    return result


def _numeric_to_float4(value: Decimal) -> float:
    result = numeric_to_float(value, "real")
    try:
        return round_float4(result)
    except NumericValueOutOfRange:
        raise NumericValueOutOfRange(f'"{value:f}" is out of range for type real') from None


def float_to_numeric(value: float, digits: int = 15) -> Decimal:
    """Convert by way of ``digits`` significant decimal digits, as PostgreSQL does (6 for real)."""
    text = format(value, f".{digits}g")
    return Decimal(format(Decimal(text), "f")) if "e" in text else Decimal(text)


def truncate_name(value: str) -> str:
    """Cut to at most NAME_BYTES_MAX bytes of UTF-8 at a character boundary."""
    encoded = value.encode()
    if len(encoded) <= NAME_BYTES_MAX:
        return value
    return encoded[:NAME_BYTES_MAX].decode(errors="ignore")


def _register_integers() -> None:
    for target in (2, 4, 8):
        for source in (2, 4, 8):
            if source < target:
                register(f"int{target}(int{source})", int, inline="{0}")
            elif source > target:
                register(f"int{target}(int{source})", partial(check_int, size=target))
        for source_name in ("float4", "float8"):
            register(f"int{target}({source_name})", partial(float_to_int, size=target))
        register(f"int{target}(numeric)", partial(numeric_to_int, size=target))
        register(f"numeric(int{target})", Decimal)
        register(f"float8(int{target})", float, inline="float({0})")
        register(f"float4(int{target})", lambda value: round_float4(float(value)))
    register("int8(oid)", int, inline="{0}")
    register("float8(float4)", float, inline="{0}")
    register("float4(float8)", round_float4)
    register("float8(numeric)", numeric_to_float)
    register("float4(numeric)", _numeric_to_float4)
    register("numeric(float8)", float_to_numeric)
    register("numeric(float4)", partial(float_to_numeric, digits=6))


@implements("oid(int8)")
def _int8_to_oid(value: int) -> int:
    if 0 <= value <= _OID_MAX:
        return value
    raise NumericValueOutOfRange("OID out of range")


@implements("bool(int4)", inline="({0} != 0)")
def _int4_to_bool(value: int) -> bool:
    return value != 0


@implements("int4(bool)", inline="(1 if {0} else 0)")
def _bool_to_int4(value: bool) -> int:  # noqa: FBT001
    return int(value)


@implements("text(bool)", inline="('true' if {0} else 'false')")
def _bool_to_text(value: bool) -> str:  # noqa: FBT001
    return "true" if value else "false"


@implements("text(bpchar)", inline="{0}.rstrip(' ')")
def _bpchar_to_text(value: str) -> str:
    return value.rstrip(" ")


@implements("text(name)", "text(char)", "bpchar(name)", "bpchar(char)", "varchar(name)")
def _same_text(value: str) -> str:
    return value


@implements("name(text)", "name(varchar)")
def _text_to_name(value: str) -> str:
    return truncate_name(value)


@implements("name(bpchar)")
def _bpchar_to_name(value: str) -> str:
    return truncate_name(value).rstrip(" ")


@implements("char(text)")
def _text_to_char(value: str) -> str:
    if not value or value[0] < "\x80":
        return value[:1]
    # One byte of a longer character: shown, and kept, as its octal escape.
    return chr(value[0].encode()[0])


@implements("char(int4)")
def _int4_to_char(value: int) -> str:
    if not -128 <= value <= 127:
        raise NumericValueOutOfRange('"char" out of range')
    return chr(value & 0xFF) if value else ""


@implements("int4(char)")
def _char_to_int4(value: str) -> int:
    code = ord(value) if value else 0
    return code - 256 if code > 127 else code


@implements("xid(xid8)")
def _xid8_to_xid(value: int) -> int:
    return value & _OID_MAX


_JSON_KINDS: Final = ((JsonObject, "object"), (list, "array"), (str, "string"), (bool, "boolean"))


def _jsonb_scalar(value: str, wanted: type, type_name: str) -> Any:
    parsed = parse_json(value)
    if wanted is bool and isinstance(parsed, bool):
        return parsed
    if (
        wanted is Decimal
        and isinstance(parsed, (int, float, Decimal))
        and not isinstance(parsed, bool)
    ):
        return Decimal(value)
    kind = next((name for python, name in _JSON_KINDS if isinstance(parsed, python)), "numeric")
    kind = "null" if parsed is None else kind
    raise InvalidParameterValue(f"cannot cast jsonb {kind} to type {type_name}")


def _jsonb_number(convert: Callable[[Decimal], Any], type_name: str) -> Callable[[str], Any]:
    return lambda value: convert(_jsonb_scalar(value, Decimal, type_name))


@implements("bool(jsonb)")
def _jsonb_to_bool(value: str) -> bool:
    return bool(_jsonb_scalar(value, bool, "boolean"))


def _register_jsonb() -> None:
    for size, type_name in INT_NAMES.items():
        register(f"int{size}(jsonb)", _jsonb_number(partial(numeric_to_int, size=size), type_name))
    register("numeric(jsonb)", _jsonb_number(lambda value: value, "numeric"))
    register("float4(jsonb)", _jsonb_number(_numeric_to_float4, "real"))
    register("float8(jsonb)", _jsonb_number(numeric_to_float, "double precision"))


_register_integers()
_register_jsonb()
