"""``numeric``: text form and arithmetic on ``decimal.Decimal`` with PostgreSQL's scale rules.

A datum's scale is its negated exponent, so exponents are never positive, and zero has no sign.
Results of division, roots, exponentials and logarithms get as many digits as PostgreSQL gives
(at least 16 significant ones) and are rounded half away from zero.

Source: PostgreSQL docs, "Arbitrary Precision Numbers", "Mathematical Functions and Operators".
"""

import math
import re
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Final

from sql.errors import (
    DivisionByZero,
    FeatureNotSupported,
    InvalidArgumentForLogarithm,
    InvalidArgumentForPowerFunction,
    InvalidTextRepresentation,
    NumericValueOutOfRange,
)
from sql.types.base import SqlType
from sql.types.catalog import INT2, INT4

DIGITS_BEFORE_POINT_MAX: Final = 131_072
SCALE_MAX: Final = 16_383
DISPLAY_SCALE_MAX: Final = 1_000
SIGNIFICANT_DIGITS_MIN: Final = 16
RESULT_SCALE_MAX: Final = 2_000
_LOG10_E: Final = 0.434294481903252

NAN: Final = Decimal("NaN")
INFINITY: Final = Decimal("Infinity")
MINUS_INFINITY: Final = Decimal("-Infinity")
ZERO: Final = Decimal(0)

_EXACT: Final = Context(
    prec=2 * (DIGITS_BEFORE_POINT_MAX + SCALE_MAX),
    rounding=ROUND_HALF_UP,
    Emin=-999_999,
    Emax=999_999,
    traps=[],
)
_SYNTAX: Final = re.compile(
    r"[ \t\n\r\f\v]*(?:([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]+))?"
    r"|(?P<special>nan|[+-]?inf(?:inity)?))[ \t\n\r\f\v]*",
    re.IGNORECASE,
)
_SPECIALS: Final = {
    "nan": NAN,
    "inf": INFINITY,
    "+inf": INFINITY,
    "-inf": MINUS_INFINITY,
    "infinity": INFINITY,
    "+infinity": INFINITY,
    "-infinity": MINUS_INFINITY,
}
INTEGER_LIMITS: Final = {2: 1 << 15, 4: 1 << 31, 8: 1 << 63}


def numeric_in(text: str) -> Decimal:
    """Read a numeric literal. Raises 22P02, and 22003 beyond the format's range."""
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise InvalidTextRepresentation(f'invalid input syntax for type numeric: "{text}"')
    special = match["special"]
    if special is not None:
        return _SPECIALS[special.lower()]
    mantissa, exponent = match.group(1), match.group(2)
    if exponent is None:
        value = Decimal(mantissa)
        if len(mantissa) <= SCALE_MAX:
            return value if value else value.copy_abs()
        return _checked(value)
    if abs(int(exponent[:12])) >= 1 << 30:
        raise _format_overflow()
    return _scaled_input(Decimal(mantissa), int(exponent))


def _scaled_input(mantissa: Decimal, exponent: int) -> Decimal:
    scale = max(scale_of(mantissa) - exponent, 0)
    if not mantissa:
        if scale > SCALE_MAX:
            raise _format_overflow()
        return Decimal((0, (0,), -scale))
    if mantissa.adjusted() + exponent >= DIGITS_BEFORE_POINT_MAX or scale > SCALE_MAX:
        raise _format_overflow()
    return mantissa.scaleb(exponent, _EXACT).quantize(Decimal((0, (1,), -scale)), context=_EXACT)


def numeric_out(value: Decimal) -> str:
    """Write a numeric, never in exponent form: ``0.00``, ``-12.5``, ``NaN``, ``Infinity``."""
    text = str(value)
    return format(value, "f") if "E" in text else text


def scale_of(value: Decimal) -> int:
    """Return the number of digits after the point of a finite value."""
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent if exponent < 0 else 0


def _format_overflow() -> NumericValueOutOfRange:
    return NumericValueOutOfRange("value overflows numeric format")


def _checked(value: Decimal) -> Decimal:
    """Normalise zero's sign and the exponent; refuse what the storage format cannot hold."""
    if not value.is_finite():
        return NAN if value.is_nan() else value
    if value.adjusted() >= DIGITS_BEFORE_POINT_MAX and value:
        raise _format_overflow()
    scale = -int(value.as_tuple().exponent)
    if scale > SCALE_MAX:
        value = _to_scale(value, SCALE_MAX)
    elif scale < 0:
        value = _to_scale(value, 0)
    return value if value else value.copy_abs()


def _to_scale(value: Decimal, scale: int, rounding: str = ROUND_HALF_UP) -> Decimal:
    result = value.quantize(Decimal((0, (1,), -scale)), rounding=rounding, context=_EXACT)
    return result if result else result.copy_abs()


def add(left: Decimal, right: Decimal) -> Decimal:
    """Add exactly. Raises 22003."""
    return _checked(_EXACT.add(left, right))


add_exactly: Final = _EXACT.add
"""Adds without a look at the result: a long sum is ``checked`` once, at its end."""


def checked(value: Decimal) -> Decimal:
    """Return a sum of ``add_exactly`` as a datum. Raises 22003."""
    return _checked(value)


def subtract(left: Decimal, right: Decimal) -> Decimal:
    """Subtract exactly. Raises 22003."""
    return _checked(_EXACT.subtract(left, right))


def multiply(left: Decimal, right: Decimal) -> Decimal:
    """Multiply exactly; the scales add up. Raises 22003."""
    return _checked(_EXACT.multiply(left, right))


def _base_10000(value: Decimal) -> tuple[int, int]:
    """Return weight and first digit in base 10,000, PostgreSQL's unit of precision."""
    if not value:
        return 0, 0
    weight, extra = divmod(value.adjusted(), 4)
    digits = value.as_tuple().digits[: extra + 1]
    first = 0
    for digit in digits:
        first = first * 10 + digit
    return weight, first * 10 ** (extra + 1 - len(digits))


def select_div_scale(left: Decimal, right: Decimal) -> int:
    """Return the scale of a quotient: at least 16 significant digits and both inputs' scales."""
    left_weight, left_first = _base_10000(left)
    right_weight, right_first = _base_10000(right)
    quotient_weight = left_weight - right_weight - (1 if left_first <= right_first else 0)
    scale = SIGNIFICANT_DIGITS_MIN - quotient_weight * 4
    return min(max(scale, scale_of(left), scale_of(right), 0), DISPLAY_SCALE_MAX)


def divide(left: Decimal, right: Decimal) -> Decimal:
    """Divide. Raises 22012 for a zero divisor, 22003."""
    if not (left.is_finite() and right.is_finite()):
        return _divide_special(left, right)
    if not right:
        raise DivisionByZero("division by zero")
    return _checked(_quotient(left, right, select_div_scale(left, right)))


def _divide_special(left: Decimal, right: Decimal) -> Decimal:
    if left.is_nan() or right.is_nan():
        return NAN
    if left.is_infinite():
        if right.is_infinite():
            return NAN
        if not right:
            raise DivisionByZero("division by zero")
        return left if right > 0 else -left
    return ZERO


def _quotient(left: Decimal, right: Decimal, scale: int) -> Decimal:
    """Divide to ``scale`` digits, halves away from zero, in whole numbers (exact)."""
    numerator, denominator = _as_integers(left, right)
    sign = -1 if (numerator < 0) != (denominator < 0) else 1
    whole, rest = divmod(abs(numerator) * 10**scale, abs(denominator))
    if 2 * rest >= abs(denominator):
        whole += 1
    return Decimal(sign * whole).scaleb(-scale, _EXACT)


def _as_integers(left: Decimal, right: Decimal) -> tuple[int, int]:
    scale = max(scale_of(left), scale_of(right))
    return int(left.scaleb(scale, _EXACT)), int(right.scaleb(scale, _EXACT))


def modulo(left: Decimal, right: Decimal) -> Decimal:
    """Return the remainder of truncated division. Raises 22012."""
    if left.is_nan() or right.is_nan():
        return NAN
    if left.is_infinite():
        if not right:
            raise DivisionByZero("division by zero")
        return NAN
    if right.is_infinite():
        return left
    if not right:
        raise DivisionByZero("division by zero")
    return _checked(_EXACT.remainder(left, right))


def div_truncate(left: Decimal, right: Decimal) -> Decimal:
    """Return the whole quotient, truncated toward zero (``div``). Raises 22012."""
    if not (left.is_finite() and right.is_finite()):
        return _divide_special(left, right)
    if not right:
        raise DivisionByZero("division by zero")
    numerator, denominator = _as_integers(left, right)
    whole = abs(numerator) // abs(denominator)
    return _checked(Decimal(-whole if (numerator < 0) != (denominator < 0) else whole))


def round_numeric(value: Decimal, digits: int = 0) -> Decimal:
    """Round to ``digits`` after the point (negative: before it), halves away from zero."""
    return _at_digits(value, digits, ROUND_HALF_UP)


def trunc_numeric(value: Decimal, digits: int = 0) -> Decimal:
    """Cut to ``digits`` after the point (negative: before it)."""
    return _at_digits(value, digits, ROUND_DOWN)


def _at_digits(value: Decimal, digits: int, rounding: str) -> Decimal:
    if not value.is_finite():
        return value
    digits = min(max(digits, -RESULT_SCALE_MAX), RESULT_SCALE_MAX)
    if digits >= 0:
        return _to_scale(value, digits, rounding)
    coarse = value.quantize(Decimal((0, (1,), -digits)), rounding=rounding, context=_EXACT)
    return _checked(_to_scale(coarse, 0))


def ceil(value: Decimal) -> Decimal:
    """Return the smallest whole number not below ``value``, with scale 0."""
    return _to_scale(value, 0, ROUND_CEILING) if value.is_finite() else value


def floor(value: Decimal) -> Decimal:
    """Return the largest whole number not above ``value``, with scale 0."""
    return _to_scale(value, 0, ROUND_FLOOR) if value.is_finite() else value


def numeric_to_int(value: Decimal, target: SqlType) -> int:
    """Round to an int2, int4 or int8. Raises 22003 out of range, 0A000 for NaN and infinity."""
    name = target.display_name
    if not value.is_finite():
        special = "NaN" if value.is_nan() else "infinity"
        raise FeatureNotSupported(f"cannot convert {special} to {name}")
    limit = INTEGER_LIMITS[target.length]
    if value.adjusted() < 20:
        result = int(value.to_integral_value(ROUND_HALF_UP))
        if -limit <= result < limit:
            return result
    assert target is INT2 or target is INT4 or target.length == 8
    raise NumericValueOutOfRange(f"{name} out of range")


def sqrt(value: Decimal) -> Decimal:
    """Take the square root. Raises 2201F for negatives."""
    if value.is_nan():
        return NAN
    if value < 0:
        raise InvalidArgumentForPowerFunction("cannot take square root of a negative number")
    if value.is_infinite():
        return INFINITY
    weight = _base_10000(value)[0]
    result_weight = int((weight + 1) * 4 / 2) - 1
    scale = max(SIGNIFICANT_DIGITS_MIN - result_weight, scale_of(value), 0)
    scale = min(scale, DISPLAY_SCALE_MAX)
    return _to_scale(Decimal(_integer_root(value, scale)).scaleb(-scale, _EXACT), scale)


def _integer_root(value: Decimal, scale: int) -> int:
    """Return the root times ``10**scale``, rounded to nearest (a half cannot occur exactly)."""
    shifted = int(value.scaleb(2 * scale + 2, _EXACT).to_integral_value(ROUND_DOWN))
    root, last = divmod(math.isqrt(shifted), 10)
    return root + 1 if last >= 5 else root


def _working(digits: int) -> Context:
    return Context(
        prec=max(digits, 1) + 12, rounding=ROUND_HALF_UP, Emin=-999_999, Emax=999_999, traps=[]
    )


def _to_double(value: Decimal) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def exp(value: Decimal) -> Decimal:
    """Raise e to ``value``. Raises 22003."""
    if not value.is_finite():
        return ZERO if value == MINUS_INFINITY else value
    estimate = _to_double(value) * _LOG10_E
    estimate = max(min(estimate, RESULT_SCALE_MAX), -RESULT_SCALE_MAX)
    scale = max(SIGNIFICANT_DIGITS_MIN - int(estimate), scale_of(value), 0)
    return _exp(value, min(scale, DISPLAY_SCALE_MAX))


def _exp(value: Decimal, scale: int) -> Decimal:
    approximate = _to_double(value)
    if abs(approximate) >= RESULT_SCALE_MAX * 3:
        if approximate > 0:
            raise _format_overflow()
        return Decimal((0, (0,), -scale))
    digits = max(int(approximate * _LOG10_E), 0) + scale + 8
    return _to_scale(_working(digits).exp(value), scale)


def _ln_weight(value: Decimal) -> int:
    """Estimate the decimal weight of ``ln(value)``, value > 0."""
    if Decimal("0.9") <= value <= Decimal("1.1"):
        distance = _EXACT.subtract(value, Decimal(1))
        return distance.adjusted() if distance else 0
    weight = value.adjusted()
    leading = float(value.scaleb(-weight, _EXACT))
    return int(math.log10(abs(math.log(leading) + weight * math.log(10))))


def _check_logarithm(value: Decimal) -> None:
    if value.is_nan():
        return
    if value == 0:
        raise InvalidArgumentForLogarithm("cannot take logarithm of zero")
    if value < 0:
        raise InvalidArgumentForLogarithm("cannot take logarithm of a negative number")


def ln(value: Decimal) -> Decimal:
    """Return the natural logarithm. Raises 2201E."""
    _check_logarithm(value)
    if not value.is_finite():
        return value
    weight = _ln_weight(value)
    scale = max(SIGNIFICANT_DIGITS_MIN - weight, scale_of(value), 0)
    scale = min(scale, DISPLAY_SCALE_MAX)
    return _to_scale(_working(scale + max(weight, 0) + 2).ln(value), scale)


def log(base: Decimal, value: Decimal | None = None) -> Decimal:
    """Return the logarithm to ``base``; with one argument, its logarithm to base 10."""
    if value is None:
        base, value = Decimal(10), base
    if base.is_nan() or value.is_nan():
        return NAN
    if MINUS_INFINITY in (value, base):
        _check_logarithm(MINUS_INFINITY)
    _check_logarithm(base)
    _check_logarithm(value)
    if not (base.is_finite() and value.is_finite()):
        if base.is_infinite():
            return NAN if value.is_infinite() else ZERO
        return INFINITY
    weight = _ln_weight(value) - _ln_weight(base)
    scale = max(SIGNIFICANT_DIGITS_MIN - weight, scale_of(base), scale_of(value), 0)
    scale = min(scale, DISPLAY_SCALE_MAX)
    context = _working(scale + max(weight, 0) + 8)
    denominator = context.ln(base)
    if not denominator:
        raise DivisionByZero("division by zero")
    return _to_scale(context.divide(context.ln(value), denominator), scale)


def power(base: Decimal, exponent: Decimal) -> Decimal:
    """Raise to a power. Raises 2201F for 0 to a negative or a negative to a fraction, 22003."""
    if not (base.is_finite() and exponent.is_finite()):
        return _power_special(base, exponent)
    whole = exponent == exponent.to_integral_value()
    if not base and exponent < 0:
        raise InvalidArgumentForPowerFunction("zero raised to a negative power is undefined")
    if base < 0 and not whole:
        raise InvalidArgumentForPowerFunction(
            "a negative number raised to a non-integer power yields a complex result"
        )
    if whole and -(1 << 31) <= exponent < 1 << 31:
        return _power_int(base, int(exponent))
    if not base:
        return Decimal((0, (0,), -SIGNIFICANT_DIGITS_MIN))
    return _power_by_logarithm(base, exponent)


def _power_special(base: Decimal, exponent: Decimal) -> Decimal:
    one = Decimal(1)
    if base.is_nan() or exponent.is_nan():
        return one if base == 1 or exponent == 0 else NAN
    if base == 1 or exponent == 0:
        return one
    if exponent.is_infinite():
        if not base and exponent < 0:
            raise InvalidArgumentForPowerFunction("zero raised to a negative power is undefined")
        magnitude = abs(base)
        if magnitude == 1:
            return one
        return INFINITY if (magnitude > 1) == (exponent > 0) else ZERO
    if base < 0 and exponent != exponent.to_integral_value():
        raise InvalidArgumentForPowerFunction(
            "a negative number raised to a non-integer power yields a complex result"
        )
    if exponent < 0:
        return ZERO
    if base > 0:
        return INFINITY
    return MINUS_INFINITY if _EXACT.remainder(exponent, Decimal(2)) else INFINITY


def _power_int(base: Decimal, exponent: int) -> Decimal:
    estimate = 0.0
    if base:
        weight = base.adjusted()
        estimate = math.log10(abs(float(base.scaleb(-weight, _EXACT)))) + weight
    estimate *= exponent
    if estimate > (DIGITS_BEFORE_POINT_MAX):
        raise _format_overflow()
    scale = min(max(SIGNIFICANT_DIGITS_MIN, scale_of(base)), DISPLAY_SCALE_MAX)
    if estimate + 1 < -scale:
        return Decimal((0, (0,), -scale))
    if not base:
        return _to_scale(Decimal(1 if exponent == 0 else 0), scale)
    if exponent == 2:
        return _to_scale(_EXACT.multiply(base, base), scale)
    context = _working(max(int(estimate), 0) + scale + 8 + len(str(abs(exponent))))
    return _checked(_to_scale(context.power(base, exponent), scale))


def _power_by_logarithm(base: Decimal, exponent: Decimal) -> Decimal:
    magnitude = abs(base)
    # The estimate must be as rough as PostgreSQL's (8 digits), because the scale hangs on it.
    rough_scale = max(8 - _ln_weight(magnitude), 0)
    rough_ln = _to_scale(_working(rough_scale + 12).ln(magnitude), rough_scale)
    rough = _to_double(_to_scale(_EXACT.multiply(rough_ln, exponent), rough_scale))
    if abs(rough) > RESULT_SCALE_MAX * 3.01:
        if rough > 0:
            raise _format_overflow()
        return Decimal((0, (0,), -DISPLAY_SCALE_MAX))
    estimate = rough * _LOG10_E
    scale = max(SIGNIFICANT_DIGITS_MIN - int(estimate), scale_of(base), scale_of(exponent), 0)
    scale = min(scale, DISPLAY_SCALE_MAX)
    digits = max(int(estimate), 0) + scale + 20
    context = _working(digits + abs(int(math.log10(abs(rough) + 1))))
    result = _exp(context.multiply(context.ln(magnitude), exponent), scale)
    return -result if base < 0 and _EXACT.remainder(exponent, Decimal(2)) and result else result
