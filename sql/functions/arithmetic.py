"""Arithmetic operators on integers, floats and numeric, with PostgreSQL's range checks.

Integers raise NumericValueOutOfRange (22003) beyond their *result* type; division truncates
towards zero and
raises DivisionByZero (22012). Floats raise 22003 when a finite computation overflows or underflows.

Source: PostgreSQL docs, "Mathematical Functions and Operators".
"""

import math
import operator
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NoReturn

from sql.errors import DivisionByZero, NumericValueOutOfRange
from sql.functions.implementation import implements, register
from sql.functions.inline import inline_global
from sql.types import numeric

INT_BOUNDS: Final = {
    2: (-0x8000, 0x7FFF),
    4: (-(1 << 31), (1 << 31) - 1),
    8: (-(1 << 63), (1 << 63) - 1),
}
INT_NAMES: Final = {2: "smallint", 4: "integer", 8: "bigint"}
_FLOAT4: Final = struct.Struct("<f")


def out_of_range_2() -> NoReturn:
    """Raise 22003 for smallint."""
    raise NumericValueOutOfRange("smallint out of range")


def out_of_range_4() -> NoReturn:
    """Raise 22003 for integer."""
    raise NumericValueOutOfRange("integer out of range")


def out_of_range_8() -> NoReturn:
    """Raise 22003 for bigint."""
    raise NumericValueOutOfRange("bigint out of range")


_OUT_OF_RANGE: Final = {2: out_of_range_2, 4: out_of_range_4, 8: out_of_range_8}


def check_int(value: int, size: int) -> int:
    """Return ``value`` if it fits an integer of ``size`` bytes, else raise 22003."""
    low, high = INT_BOUNDS[size]
    if low <= value <= high:
        return value
    return _OUT_OF_RANGE[size]()


def divide_truncating(a: int, b: int) -> int:
    """Divide towards zero; DivisionByZero (22012)."""
    if b == 0:
        raise DivisionByZero("division by zero")
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def modulo_truncating(a: int, b: int) -> int:
    """Remainder with the dividend's sign; DivisionByZero (22012)."""
    if b == 0:
        raise DivisionByZero("division by zero")
    remainder = abs(a) % abs(b)
    return -remainder if a < 0 else remainder


def _checked(compute: Callable[[int, int], int], size: int) -> Callable[[int, int], int]:
    low, high = INT_BOUNDS[size]
    fail = _OUT_OF_RANGE[size]

    def operate(a: int, b: int) -> int:
        result = compute(a, b)
        return result if low <= result <= high else fail()

    return operate


def _range_template(expression: str, size: int) -> str:
    low, high = INT_BOUNDS[size]
    return f"({{t}} if {low} <= ({{t}} := {expression}) <= {high} else _out_of_range_{size}())"


def _register_integers() -> None:
    for size in (2, 4, 8):
        inline_global(f"_out_of_range_{size}", _OUT_OF_RANGE[size])
        inline_global(f"_divide_{size}", _checked(divide_truncating, size))
    inline_global("_modulo", modulo_truncating)
    for left in (2, 4, 8):
        for right in (2, 4, 8):
            size = max(left, right)
            prefix = f"int{left}" if left == right else f"int{left}{right}"
            arguments = f"(int{left},int{right})"
            for suffix, symbol, compute in (
                ("pl", "+", operator.add),
                ("mi", "-", operator.sub),
                ("mul", "*", operator.mul),
            ):
                register(
                    f"{prefix}{suffix}{arguments}",
                    _checked(compute, size),
                    inline=_range_template(f"{{0}} {symbol} {{1}}", size),
                )
            register(
                f"{prefix}div{arguments}",
                _checked(divide_truncating, size),
                inline=f"({{0}} // {{1}} if {{0}} >= 0 and {{1}} > 0 else _divide_{size}({{0}}, {{1}}))",  # noqa: E501
            )
        _register_one_size(left)


def _register_one_size(size: int) -> None:
    name = f"int{size}"
    two = f"({name},{name})"
    modulo = "({0} % {1} if {0} >= 0 and {1} > 0 else _modulo({0}, {1}))"
    register(f"{name}mod{two}", modulo_truncating, inline=modulo)
    register(f"mod{two}", modulo_truncating, inline=modulo)
    register(f"{name}and{two}", operator.and_, inline="({0} & {1})")
    register(f"{name}or{two}", operator.or_, inline="({0} | {1})")
    register(f"{name}xor{two}", operator.xor, inline="({0} ^ {1})")
    register(f"{name}not({name})", operator.invert, inline="(~{0})")
    register(f"{name}up({name})", operator.pos, inline="{0}")
    register(
        f"{name}um({name})",
        lambda value: check_int(-value, size),
        inline=_range_template("-{0}", size),
    )
    for absolute in (f"{name}abs({name})", f"abs({name})"):
        register(absolute, lambda value: check_int(abs(value), size))
    # C's shifts take the count modulo the width of the promoted operand, and wrap to the result's.
    width = 64 if size == 8 else 32
    register(f"{name}shl({name},int4)", lambda value, count: _wrap(value << (count % width), size))
    register(f"{name}shr({name},int4)", lambda value, count: value >> (count % width))


def _wrap(value: int, size: int) -> int:
    half = 1 << (size * 8 - 1)
    return (value + half & (2 * half - 1)) - half


@implements("int4inc(int4)")
def _int4_increment(value: int) -> int:
    return check_int(value + 1, 4)


@implements("int8inc(int8)")
def _int8_increment(value: int) -> int:
    return check_int(value + 1, 8)


@implements("int8dec(int8)")
def _int8_decrement(value: int) -> int:
    return check_int(value - 1, 8)


def float_overflow() -> NoReturn:
    """Raise 22003 for a float too large."""
    raise NumericValueOutOfRange("value out of range: overflow")


def float_underflow() -> NoReturn:
    """Raise 22003 for a float that vanished."""
    raise NumericValueOutOfRange("value out of range: underflow")


def round_float4(value: float) -> float:
    """Round to single precision; 22003 where a finite, nonzero value becomes infinite or zero."""
    try:
        result: float = _FLOAT4.unpack(_FLOAT4.pack(value))[0]
    except OverflowError:
        float_overflow()
    if math.isinf(result) and not math.isinf(value):
        float_overflow()
    if result == 0.0 and value != 0.0:
        float_underflow()
    return result


def float_add(a: float, b: float) -> float:
    """Add with overflow check."""
    result = a + b
    if math.isinf(result) and not math.isinf(a) and not math.isinf(b):
        float_overflow()
    return result


def float_subtract(a: float, b: float) -> float:
    """Subtract with overflow check."""
    result = a - b
    if math.isinf(result) and not math.isinf(a) and not math.isinf(b):
        float_overflow()
    return result


def float_multiply(a: float, b: float) -> float:
    """Multiply with overflow and underflow check."""
    result = a * b
    if math.isinf(result) and not math.isinf(a) and not math.isinf(b):
        float_overflow()
    if result == 0.0 and a != 0.0 and b != 0.0:
        float_underflow()
    return result


def float_divide(a: float, b: float) -> float:
    """Divide with all checks; DivisionByZero (22012) except for NaN divided by zero."""
    if b == 0.0:
        if a != a:  # noqa: PLR0124
            return a
        raise DivisionByZero("division by zero")
    result = a / b
    if math.isinf(result) and not math.isinf(a):
        float_overflow()
    if result == 0.0 and a != 0.0 and not math.isinf(b):
        float_underflow()
    return result


def _single(compute: Callable[[float, float], float]) -> Callable[[float, float], float]:
    return lambda a, b: round_float4(compute(a, b))


def _register_floats() -> None:
    # x - x is 0 exactly for finite x: only infinities and NaN take the slow path.
    finite = "({t} if ({t} := {0} %s {1}) - {t} == 0.0 else _float_%s({0}, {1}))"
    nonzero = "({t} if ({t} := {0} * {1}) - {t} == 0.0 != {t} else _float_multiply({0}, {1}))"
    quotient = (
        "({t} if {1} and ({t} := {0} / {1}) - {t} == 0.0 != {t} else _float_divide({0}, {1}))"
    )
    table: tuple[tuple[str, Callable[[float, float], float], str], ...] = (
        ("pl", float_add, finite % ("+", "add")),
        ("mi", float_subtract, finite % ("-", "subtract")),
        ("mul", float_multiply, nonzero),
        ("div", float_divide, quotient),
    )
    for function in (float_add, float_subtract, float_multiply, float_divide):
        inline_global("_" + function.__name__, function)
    for suffix, compute, template in table:
        register(f"float8{suffix}(float8,float8)", compute, inline=template)
        register(f"float48{suffix}(float4,float8)", compute, inline=template)
        register(f"float84{suffix}(float8,float4)", compute, inline=template)
        register(f"float4{suffix}(float4,float4)", _single(compute))
    for name in ("float4", "float8"):
        register(f"{name}um({name})", operator.neg, inline="(-{0})")
        register(f"{name}up({name})", operator.pos, inline="{0}")
        register(f"{name}abs({name})", abs, inline="abs({0})")
        register(f"abs({name})", abs, inline="abs({0})")


def _register_numeric() -> None:
    two = "(numeric,numeric)"
    register(f"numeric_add{two}", numeric.add)
    register(f"numeric_sub{two}", numeric.subtract)
    register(f"numeric_mul{two}", numeric.multiply)
    register(f"numeric_div{two}", numeric.divide)
    for name in ("numeric_mod", "mod"):
        register(f"{name}{two}", numeric.modulo)
    for name in ("numeric_abs", "abs"):
        register(f"{name}(numeric)", Decimal.copy_abs)


@implements("numeric_uminus(numeric)")
def _numeric_negate(value: Decimal) -> Decimal:
    # Negative zero and NaN do not exist in numeric.
    return value if not value or value.is_nan() else value.copy_negate()


@implements("numeric_uplus(numeric)")
def _numeric_plus(value: Decimal) -> Decimal:
    return value


@implements("numeric_inc(numeric)")
def _numeric_increment(value: Decimal) -> Any:
    return numeric.add(value, Decimal(1))


_register_integers()
_register_floats()
_register_numeric()
