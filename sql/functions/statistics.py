"""Statistical aggregates: variance, standard deviation, correlation and linear regression.

Over integers and numeric they are computed exactly and rounded once; over floats with the
Youngs-Cramer updates, as
PostgreSQL does, so that results agree to the last digit.

Source: PostgreSQL docs, "Aggregate Functions for Statistics".
"""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from sql.functions.arithmetic import float_overflow
from sql.functions.implementation import AggregateImplementation, register_aggregate
from sql.types import numeric

_NAN: Final = Decimal("NaN")
_ZERO: Final = Decimal(0)


def _exact_state() -> list[Any]:
    """Return [count, sum, sum of squares]."""
    return [0, _ZERO, _ZERO]


def _exact_step(state: list[Any], value: Decimal | int) -> list[Any]:
    number = Decimal(value)
    state[0] += 1
    if number.is_finite():
        state[1] = numeric.add(state[1], number)
        state[2] = numeric.add(state[2], numeric.multiply(number, number))
    else:
        state[1] = state[2] = _NAN
    return state


def _exact_combine(a: list[Any], b: list[Any]) -> list[Any]:
    return [a[0] + b[0], numeric.add(a[1], b[1]), numeric.add(a[2], b[2])]


def _exact_finish(*, sample: bool, root: bool) -> Callable[[list[Any]], Decimal | None]:
    def finish(state: list[Any]) -> Decimal | None:
        count, total, squares = state
        if count <= (1 if sample else 0):
            return None
        if total.is_nan():
            return _NAN
        size = Decimal(count)
        spread = numeric.subtract(numeric.multiply(size, squares), numeric.multiply(total, total))
        if spread <= 0:
            return _ZERO
        divisor = Decimal(count * (count - 1 if sample else count))
        variance = numeric.divide(spread, divisor)
        return _root(variance, numeric.select_div_scale(spread, divisor)) if root else variance

    return finish


def _root(value: Decimal, scale: int) -> Decimal:
    """Square root rounded to ``scale`` digits; ``value`` has at most that scale."""
    sign, digits, exponent = value.as_tuple()
    assert not sign
    assert isinstance(exponent, int)
    scaled = int("".join(map(str, digits))) * 10 ** (2 * scale + exponent)
    root = math.isqrt(scaled)
    if scaled - root * root > root:
        root += 1
    return Decimal((0, tuple(map(int, str(root))), -scale))


def _is_infinite(value: float) -> bool:
    return math.isinf(value)


def _float_state() -> list[float]:
    """Return [count, sum, sum of squared deviations]."""
    return [0.0, 0.0, 0.0]


def _float_step(state: list[float], value: float) -> list[float]:
    count, before, squares = state
    count += 1.0
    total = before + value
    if count > 1.0:
        deviation = value * count - total
        squares += deviation * deviation / (count * (count - 1.0))
        if math.isinf(total) or math.isinf(squares):
            if not math.isinf(before) and not math.isinf(value):
                float_overflow()
            squares = math.nan
    elif value - value != 0.0:
        squares = math.nan
    state[0], state[1], state[2] = count, total, squares
    return state


def _float_finish(*, sample: bool, root: bool) -> Callable[[list[float]], float | None]:
    def finish(state: list[float]) -> float | None:
        divisor = state[0] - 1.0 if sample else state[0]
        if divisor <= 0.0:
            return None
        variance = state[2] / divisor
        return math.sqrt(variance) if root else variance

    return finish


def _register_variances() -> None:
    for name, sample, root in (
        ("variance", True, False),
        ("var_samp", True, False),
        ("var_pop", False, False),
        ("stddev", True, True),
        ("stddev_samp", True, True),
        ("stddev_pop", False, True),
    ):
        exact = AggregateImplementation(
            _exact_state,
            _exact_step,
            _exact_finish(sample=sample, root=root),
            combine=_exact_combine,
        )
        for argument in ("int2", "int4", "int8", "numeric"):
            register_aggregate(f"{name}({argument})", exact)
        floating = AggregateImplementation(
            _float_state, _float_step, _float_finish(sample=sample, root=root)
        )
        for argument in ("float4", "float8"):
            register_aggregate(f"{name}({argument})", floating)


def _pair_state() -> list[float]:
    """Return [count, Sx, Sxx, Sy, Syy, Sxy]."""
    return [0.0] * 6


def _pair_step(state: list[float], y: float, x: float) -> list[float]:
    count, sum_x, sxx, sum_y, syy, sxy = state
    before_x, before_y = sum_x, sum_y
    count += 1.0
    sum_x += x
    sum_y += y
    if count > 1.0:
        deviation_x = x * count - sum_x
        deviation_y = y * count - sum_y
        scale = 1.0 / (count * (count - 1.0))
        sxx += deviation_x * deviation_x * scale
        syy += deviation_y * deviation_y * scale
        sxy += deviation_x * deviation_y * scale
        if any(map(_is_infinite, (sum_x, sxx, sum_y, syy, sxy))):
            x_was_infinite = math.isinf(before_x) or math.isinf(x)
            y_was_infinite = math.isinf(before_y) or math.isinf(y)
            if (math.isinf(sum_x) or math.isinf(sxx)) and not x_was_infinite:
                float_overflow()
            if (math.isinf(sum_y) or math.isinf(syy)) and not y_was_infinite:
                float_overflow()
            if math.isinf(sxy) and not x_was_infinite and not y_was_infinite:
                float_overflow()
            sxx = math.nan if math.isinf(sxx) else sxx
            syy = math.nan if math.isinf(syy) else syy
            sxy = math.nan if math.isinf(sxy) else sxy
    else:
        if x - x != 0.0:
            sxx = sxy = math.nan
        if y - y != 0.0:
            syy = sxy = math.nan
    state[:] = count, sum_x, sxx, sum_y, syy, sxy
    return state


def _corr(state: list[float]) -> float | None:
    _, _, sxx, _, syy, sxy = state
    return None if sxx == 0.0 or syy == 0.0 else sxy / math.sqrt(sxx * syy)


def _regr_r2(state: list[float]) -> float | None:
    _, _, sxx, _, syy, sxy = state
    if sxx == 0.0:
        return None
    return 1.0 if syy == 0.0 else (sxy * sxy) / (sxx * syy)


def _regr_slope(state: list[float]) -> float | None:
    return None if state[2] == 0.0 else state[5] / state[2]


def _regr_intercept(state: list[float]) -> float | None:
    count, sum_x, sxx, sum_y, _, sxy = state
    return None if sxx == 0.0 else (sum_y - sum_x * sxy / sxx) / count


def _at_least(
    count: int, compute: Callable[[list[float]], float | None]
) -> Callable[[list[float]], float | None]:
    return lambda state: None if state[0] < count else compute(state)


def _register_pairs() -> None:
    finishers: dict[str, Callable[[list[float]], float | None]] = {
        "regr_sxx": _at_least(1, lambda state: state[2]),
        "regr_syy": _at_least(1, lambda state: state[4]),
        "regr_sxy": _at_least(1, lambda state: state[5]),
        "regr_avgx": _at_least(1, lambda state: state[1] / state[0]),
        "regr_avgy": _at_least(1, lambda state: state[3] / state[0]),
        "covar_pop": _at_least(1, lambda state: state[5] / state[0]),
        "covar_samp": _at_least(2, lambda state: state[5] / (state[0] - 1.0)),
        "corr": _at_least(1, _corr),
        "regr_r2": _at_least(1, _regr_r2),
        "regr_slope": _at_least(1, _regr_slope),
        "regr_intercept": _at_least(1, _regr_intercept),
        "regr_count": lambda state: int(state[0]),
    }
    for name, finish in finishers.items():
        register_aggregate(
            f"{name}(float8,float8)", AggregateImplementation(_pair_state, _pair_step, finish)
        )


_register_variances()
_register_pairs()
