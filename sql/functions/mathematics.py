"""Mathematical functions on double precision, numeric and integers.

Floats follow IEEE 754 with PostgreSQL's checks: 22003 for overflow, underflow and arguments
outside a function's
domain, 2201E for logarithms and 2201F for powers and roots.

Source: PostgreSQL docs, "Mathematical Functions and Operators".
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from decimal import ROUND_DOWN, Decimal
from functools import cmp_to_key
from typing import Any, Final

from sql.errors import (
    ArraySubscriptError,
    InvalidArgumentForLogarithm,
    InvalidArgumentForPowerFunction,
    InvalidArgumentForWidthBucket,
    InvalidParameterValue,
    NullValueNotAllowed,
    NumericValueOutOfRange,
)
from sql.functions.arithmetic import check_int, float_overflow, float_underflow
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements, register
from sql.types import numeric
from sql.types.array import ArrayValue
from sql.types.base import SqlType
from sql.types.compare import compare

_OUT_OF_DOMAIN: Final = "input is out of range"


def _domain_error() -> NumericValueOutOfRange:
    return NumericValueOutOfRange(_OUT_OF_DOMAIN)


def _is_finite(value: float) -> bool:
    return value - value == 0.0


def _keep_special(compute: Callable[[float], float]) -> Callable[[float], float]:
    return lambda value: compute(value) if _is_finite(value) else value


@implements("round(float8)", "dround(float8)")
def _round(value: float) -> float:
    return math.copysign(float(round(value)), value) if _is_finite(value) else value


@implements("trunc(float8)", "dtrunc(float8)")
def _trunc(value: float) -> float:
    return math.copysign(float(math.trunc(value)), value) if _is_finite(value) else value


@implements("ceil(float8)", "ceiling(float8)")
def _ceil(value: float) -> float:
    return math.copysign(float(math.ceil(value)), value) if _is_finite(value) else value


@implements("floor(float8)")
def _floor(value: float) -> float:
    return math.copysign(float(math.floor(value)), value) if _is_finite(value) else value


@implements("sign(float8)")
def _sign(value: float) -> float:
    if value > 0:
        return 1.0
    return -1.0 if value < 0 else 0.0


@implements("sqrt(float8)", "dsqrt(float8)")
def _sqrt(value: float) -> float:
    if value < 0:
        raise InvalidArgumentForPowerFunction("cannot take square root of a negative number")
    return math.sqrt(value)


@implements("cbrt(float8)", "dcbrt(float8)")
def _cbrt(value: float) -> float:
    return math.cbrt(value)


@implements("exp(float8)", "dexp(float8)")
def _exp(value: float) -> float:
    try:
        result = math.exp(value)
    except OverflowError:
        float_overflow()
    if result == 0.0 and _is_finite(value):
        float_underflow()
    return result


def _check_logarithm(value: Any) -> None:
    if value == 0:
        raise InvalidArgumentForLogarithm("cannot take logarithm of zero")
    if value < 0:
        raise InvalidArgumentForLogarithm("cannot take logarithm of a negative number")


@implements("ln(float8)", "dlog1(float8)")
def _ln(value: float) -> float:
    _check_logarithm(value)
    return math.log(value)


@implements("log(float8)", "log10(float8)", "dlog10(float8)")
def _log10(value: float) -> float:
    _check_logarithm(value)
    return math.log10(value)


@implements("power(float8,float8)", "pow(float8,float8)", "dpow(float8,float8)")
def float_power(base: float, exponent: float) -> float:
    """Raise to a power; 2201F for zero to a negative and a negative to a fraction."""
    if base != base or exponent != exponent:  # noqa: PLR0124
        return 1.0 if base == 1.0 or exponent == 0.0 else math.nan
    if base == 0.0 and exponent < 0:
        raise InvalidArgumentForPowerFunction("zero raised to a negative power is undefined")
    if base < 0 and _is_finite(exponent) and exponent != math.floor(exponent):
        raise InvalidArgumentForPowerFunction(
            "a negative number raised to a non-integer power yields a complex result"
        )
    try:
        result = math.pow(base, exponent)
    except OverflowError:
        float_overflow()
    if result == 0.0 and base != 0.0 and _is_finite(base) and _is_finite(exponent):
        float_underflow()
    return result


def _trigonometric(compute: Callable[[float], float]) -> Callable[[float], float]:
    def checked(value: float) -> float:
        try:
            return compute(value)
        except (ValueError, OverflowError):
            raise _domain_error() from None

    return checked


def _hyperbolic(compute: Callable[[float], float]) -> Callable[[float], float]:
    def saturated(value: float) -> float:
        try:
            return compute(value)
        except OverflowError:
            return math.copysign(math.inf, value)

    return saturated


def _cotangent(value: float) -> float:
    if value == 0.0:
        return math.copysign(math.inf, value)
    return 1.0 / math.tan(value)


for _name in ("sin", "cos", "tan", "asin", "acos"):
    register(f"{_name}(float8)", _trigonometric(getattr(math, _name)))
register("cot(float8)", _trigonometric(_cotangent))
register("sinh(float8)", _hyperbolic(math.sinh))
register("cosh(float8)", lambda value: abs(_hyperbolic(math.cosh)(value)))
for _name in ("tanh", "asinh", "atan"):
    register(f"{_name}(float8)", getattr(math, _name))
register("acosh(float8)", _trigonometric(math.acosh))
register("atan2(float8,float8)", math.atan2)


@implements("atanh(float8)")
def _atanh(value: float) -> float:
    if abs(value) == 1.0:
        return math.copysign(math.inf, value)
    return _trigonometric(math.atanh)(value)


_SIN_30: Final = math.sin(math.radians(30.0))
_ONE_MINUS_COS_60: Final = 1.0 - math.cos(math.radians(60.0))


def _sin_first_quadrant(degrees: float) -> float:
    """Scale so that sind(30) and sind(90) come out exact; NaN stays NaN."""
    if not degrees > 30.0:
        return math.sin(math.radians(degrees)) / _SIN_30 / 2.0
    return _cos_first_octant(90.0 - degrees)


def _cos_first_octant(degrees: float) -> float:
    if not degrees > 60.0:
        return 1.0 - (1.0 - math.cos(math.radians(degrees))) / _ONE_MINUS_COS_60 / 2.0
    return _sin_first_quadrant(90.0 - degrees)


def _sind(value: float) -> float:
    degrees = math.fmod(value, 360.0)
    sign = 1.0
    if degrees < 0.0:
        degrees, sign = -degrees, -sign
    if degrees > 180.0:
        degrees, sign = 360.0 - degrees, -sign
    if degrees > 90.0:
        degrees = 180.0 - degrees
    return sign * _sin_first_quadrant(degrees)


def _cosd(value: float) -> float:
    degrees = abs(math.fmod(value, 360.0))
    sign = 1.0
    if degrees > 180.0:
        degrees = 360.0 - degrees
    if degrees > 90.0:
        degrees, sign = 180.0 - degrees, -sign
    return sign * _cos_first_octant(degrees)


def _tand_parts(value: float) -> tuple[float, float, float]:
    degrees = math.fmod(value, 360.0)
    sign = 1.0
    if degrees < 0.0:
        degrees, sign = -degrees, -sign
    if degrees > 180.0:
        degrees, sign = 360.0 - degrees, -sign
    if degrees > 90.0:
        degrees, sign = 180.0 - degrees, -sign
    return sign, _sin_first_quadrant(degrees), _cos_first_octant(degrees)


_TAN_45: Final = _sin_first_quadrant(45.0) / _cos_first_octant(45.0)
_COT_45: Final = _cos_first_octant(45.0) / _sin_first_quadrant(45.0)


def _tand(value: float) -> float:
    sign, sine, cosine = _tand_parts(value)
    result = sign * ((sine / cosine) / _TAN_45) if cosine else sign * math.inf
    return result if result != 0.0 else 0.0


def _cotd(value: float) -> float:
    sign, sine, cosine = _tand_parts(value)
    result = sign * ((cosine / sine) / _COT_45) if sine else sign * math.inf
    return result if result != 0.0 else 0.0


_ASIN_HALF: Final = math.asin(0.5)
_ACOS_HALF: Final = math.acos(0.5)


def _asind_first_quadrant(value: float) -> float:
    if value <= 0.5:
        return math.asin(value) / _ASIN_HALF * 30.0
    return 90.0 - math.acos(value) / _ACOS_HALF * 60.0


def _acosd_first_quadrant(value: float) -> float:
    if value <= 0.5:
        return 90.0 - math.asin(value) / _ASIN_HALF * 30.0
    return math.acos(value) / _ACOS_HALF * 60.0


def _asind(value: float) -> float:
    return _asind_first_quadrant(value) if value >= 0.0 else -_asind_first_quadrant(-value)


def _acosd(value: float) -> float:
    if value >= 0.0:
        return _acosd_first_quadrant(value)
    return 90.0 + _asind_first_quadrant(-value)


_ATAN_1: Final = math.atan(1.0)
for _name, _function in (
    ("sind", _sind),
    ("cosd", _cosd),
    ("tand", _tand),
    ("cotd", _cotd),
    ("asind", _asind),
    ("acosd", _acosd),
):
    register(f"{_name}(float8)", _trigonometric(_function))
register("atand(float8)", lambda value: math.atan(value) / _ATAN_1 * 45.0)
register("atan2d(float8,float8)", lambda y, x: math.atan2(y, x) / _ATAN_1 * 45.0)
register("pi()", lambda: math.pi)
_RADIANS_PER_DEGREE: Final = 0.0174532925199432957692


@implements("degrees(float8)")
def _degrees(value: float) -> float:
    result = value / _RADIANS_PER_DEGREE
    if math.isinf(result) and not math.isinf(value):
        float_overflow()
    return result


@implements("radians(float8)")
def _radians(value: float) -> float:
    return value * _RADIANS_PER_DEGREE


@implements("random()", context=True)
def _random(context: ExecutionContext) -> float:
    return context.random.random()


@implements("setseed(float8)", context=True)
def _setseed(context: ExecutionContext, seed: float) -> str:
    if not -1.0 <= seed <= 1.0:
        raise InvalidParameterValue(
            f"setseed parameter {_short(seed)} is out of allowed range [-1,1]"
        )
    context.random.seed(seed)
    return ""


def _short(value: float) -> str:
    return format(value, "g")


register("sqrt(numeric)", numeric.sqrt)
register("numeric_sqrt(numeric)", numeric.sqrt)
register("exp(numeric)", numeric.exp)
register("numeric_exp(numeric)", numeric.exp)
register("ln(numeric)", numeric.ln)
register("numeric_ln(numeric)", numeric.ln)
for _name in ("power", "pow", "numeric_power"):
    register(f"{_name}(numeric,numeric)", numeric.power)
register("ceil(numeric)", numeric.ceil)
register("ceiling(numeric)", numeric.ceil)
register("floor(numeric)", numeric.floor)
register("round(numeric)", numeric.round_numeric)
register("round(numeric,int4)", numeric.round_numeric)
register("trunc(numeric)", numeric.trunc_numeric)
register("trunc(numeric,int4)", numeric.trunc_numeric)
register("log(numeric,numeric)", numeric.log)
register("numeric_log(numeric,numeric)", numeric.log)
_TEN: Final = Decimal(10)


@implements("log(numeric)", "log10(numeric)")
def _numeric_log10(value: Decimal) -> Decimal:
    return numeric.log(_TEN, value)


@implements("div(numeric,numeric)", "numeric_div_trunc(numeric,numeric)")
def _div(a: Decimal, b: Decimal) -> Decimal:
    return numeric.div_truncate(a, b)


@implements("sign(numeric)")
def _numeric_sign(value: Decimal) -> Decimal:
    if value != value:  # noqa: PLR0124
        return value
    return Decimal((value > 0) - (value < 0))


@implements("scale(numeric)")
def _scale(value: Decimal) -> int | None:
    return numeric.scale_of(value) if value.is_finite() else None


@implements("min_scale(numeric)")
def _min_scale(value: Decimal) -> int | None:
    return numeric.scale_of(_trim_scale(value)) if value.is_finite() else None


@implements("trim_scale(numeric)")
def _trim_scale(value: Decimal) -> Decimal:
    if not value.is_finite():
        return value
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    kept = len(digits)
    while exponent < 0 and kept > 1 and digits[kept - 1] == 0:
        kept -= 1
        exponent += 1
    if exponent < 0 and kept == 1 and digits[0] == 0:
        exponent = 0
    return Decimal((sign, digits[:kept], exponent))


@implements("factorial(int8)")
def _factorial(value: int) -> Decimal:
    if value < 0:
        raise NumericValueOutOfRange("factorial of a negative number is undefined")
    if value > 32177:
        raise NumericValueOutOfRange("value overflows numeric format")
    return Decimal(math.factorial(value))


def _integer_gcd(size: int) -> Callable[[int, int], int]:
    return lambda a, b: check_int(math.gcd(a, b), size)


def _integer_lcm(size: int) -> Callable[[int, int], int]:
    return lambda a, b: check_int(math.lcm(a, b), size)


for _size in (4, 8):
    register(f"gcd(int{_size},int{_size})", _integer_gcd(_size))
    register(f"lcm(int{_size},int{_size})", _integer_lcm(_size))


@implements("gcd(numeric,numeric)")
def _numeric_gcd(a: Decimal, b: Decimal) -> Decimal:
    if not (a.is_finite() and b.is_finite()):
        return Decimal("NaN")
    scale = max(numeric.scale_of(a), numeric.scale_of(b))
    return Decimal(math.gcd(_unscaled(a, scale), _unscaled(b, scale))).scaleb(-scale)


@implements("lcm(numeric,numeric)")
def _numeric_lcm(a: Decimal, b: Decimal) -> Decimal:
    if not (a.is_finite() and b.is_finite()):
        return Decimal("NaN")
    scale = max(numeric.scale_of(a), numeric.scale_of(b))
    return Decimal(math.lcm(_unscaled(a, scale), _unscaled(b, scale))).scaleb(-scale)


def _unscaled(value: Decimal, scale: int) -> int:
    return int(value.scaleb(scale).to_integral_value(rounding=ROUND_DOWN))


def _check_buckets(count: int) -> None:
    if count <= 0:
        raise InvalidArgumentForWidthBucket("count must be greater than zero")


@implements("width_bucket(float8,float8,float8,int4)")
def _width_bucket(operand: float, low: float, high: float, count: int) -> int:
    _check_buckets(count)
    if operand != operand or low != low or high != high:  # noqa: PLR0124
        raise InvalidArgumentForWidthBucket("operand, lower bound, and upper bound cannot be NaN")
    if math.isinf(low) or math.isinf(high):
        raise InvalidArgumentForWidthBucket("lower and upper bounds must be finite")
    if low == high:
        raise InvalidArgumentForWidthBucket("lower bound cannot equal upper bound")
    if low < high:
        if operand < low:
            return 0
        if operand >= high:
            return check_int(count + 1, 4)
        return min(int(count * ((operand - low) / (high - low))), count - 1) + 1
    if operand > low:
        return 0
    if operand <= high:
        return check_int(count + 1, 4)
    return min(int(count * ((low - operand) / (low - high))), count - 1) + 1


@implements("width_bucket(numeric,numeric,numeric,int4)")
def _numeric_width_bucket(operand: Decimal, low: Decimal, high: Decimal, count: int) -> int:
    _check_buckets(count)
    if operand.is_nan() or low.is_nan() or high.is_nan():
        raise InvalidArgumentForWidthBucket("operand, lower bound, and upper bound cannot be NaN")
    if low.is_infinite() or high.is_infinite():
        raise InvalidArgumentForWidthBucket("lower and upper bounds must be finite")
    if low == high:
        raise InvalidArgumentForWidthBucket("lower bound cannot equal upper bound")
    if low > high:
        operand, low, high = -operand, -low, -high
    if operand < low:
        return 0
    if operand >= high:
        return check_int(count + 1, 4)
    scale = max(numeric.scale_of(operand), numeric.scale_of(low), numeric.scale_of(high))
    above = _unscaled(operand, scale) - _unscaled(low, scale)
    width = _unscaled(high, scale) - _unscaled(low, scale)
    return above * count // width + 1


@implements("width_bucket(anycompatible,anycompatiblearray)", types=True)
def _array_width_bucket(operand: Any, bounds: ArrayValue, *, types: tuple[SqlType, ...]) -> int:
    if len(bounds.dims) > 1:
        raise ArraySubscriptError("thresholds must be one-dimensional array")
    if None in bounds.elements:
        raise NullValueNotAllowed("thresholds array must not contain NULLs")
    element = types[1].element
    assert element is not None
    key = cmp_to_key(compare(element))
    return bisect_right(list(map(key, bounds.elements)), key(operand))


@implements("generate_series(int4,int4)", "generate_series(int8,int8)")
@implements("generate_series(int4,int4,int4)", "generate_series(int8,int8,int8)")
def _integer_series(start: int, stop: int, step: int = 1) -> range:
    if step == 0:
        raise InvalidParameterValue("step size cannot equal zero")
    return range(start, stop + (1 if step > 0 else -1), step)


@implements("generate_series(numeric,numeric)", "generate_series(numeric,numeric,numeric)")
def _numeric_series(start: Decimal, stop: Decimal, step: Decimal = Decimal(1)) -> Iterator[Decimal]:
    for value, name in ((start, "start"), (stop, "stop"), (step, "step size")):
        verb = "size cannot be" if name == "step size" else "value cannot be"
        label = "step" if name == "step size" else name
        if not value.is_finite():
            kind = "NaN" if value.is_nan() else "infinity"
            raise InvalidParameterValue(f"{label} {verb} {kind}")
    if not step:
        raise InvalidParameterValue("step size cannot equal zero")
    return _numeric_steps(start, stop, step)


def _numeric_steps(start: Decimal, stop: Decimal, step: Decimal) -> Iterator[Decimal]:
    # Every value has the widest scale of start and step, the first included.
    current = start
    while (current <= stop) if step > 0 else (current >= stop):
        yield current
        current = numeric.add(current, step)
