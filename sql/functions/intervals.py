"""Interval arithmetic: sums, products, quotients, justification.

An interval is (months, days, microseconds); a fraction of a month spills into days of 30 to the
month, a fraction
of a day into microseconds, rounded as PostgreSQL rounds.

Source: PostgreSQL docs, "Date/Time Functions and Operators", "Interval Input".
"""

import math
from typing import Final

from sql.errors import DatetimeFieldOverflow, DivisionByZero
from sql.functions.implementation import implements, register
from sql.types.calendar import USECS_PER_DAY, USECS_PER_SECOND

Interval = tuple[int, int, int]
_INT4_LIMIT: Final = 1 << 31
_INT8_LIMIT: Final = 1 << 63
_DAYS_PER_MONTH: Final = 30
_SECONDS_PER_DAY: Final = 86_400


def checked_interval(months: int, days: int, us: int) -> Interval:
    """Join the fields; 22008 ``interval out of range``."""
    if (
        -_INT4_LIMIT <= months < _INT4_LIMIT
        and -_INT4_LIMIT <= days < _INT4_LIMIT
        and -_INT8_LIMIT <= us < _INT8_LIMIT
    ):
        return (months, days, us)
    raise DatetimeFieldOverflow("interval out of range")


_SECONDS_END: Final = 2.0**63 / USECS_PER_SECOND


@implements("interval_pl(interval,interval)")
def interval_add(a: Interval, b: Interval) -> Interval:
    """Add field by field."""
    return checked_interval(a[0] + b[0], a[1] + b[1], a[2] + b[2])


@implements("interval_mi(interval,interval)")
def interval_subtract(a: Interval, b: Interval) -> Interval:
    """Subtract field by field."""
    return checked_interval(a[0] - b[0], a[1] - b[1], a[2] - b[2])


@implements("interval_um(interval)")
def interval_negate(value: Interval) -> Interval:
    """Negate every field."""
    return checked_interval(-value[0], -value[1], -value[2])


def _to_int(value: float) -> int:
    if value - value != 0.0:
        raise DatetimeFieldOverflow("interval out of range")
    return math.trunc(value)


def _round_micros(value: float) -> float:
    if value - value != 0.0:
        raise DatetimeFieldOverflow("interval out of range")
    return round(value * 1_000_000.0) / 1_000_000.0


def _from_products(months: float, days: float, us: float) -> Interval:
    """Cascade the fractions of exact products (or quotients) downwards."""
    whole_months, whole_days = _to_int(months), _to_int(days)
    month_days = _round_micros((months - whole_months) * _DAYS_PER_MONTH)
    seconds = _round_micros(
        (days - whole_days + month_days - math.trunc(month_days)) * _SECONDS_PER_DAY
    )
    if abs(seconds) >= _SECONDS_PER_DAY:
        extra = math.trunc(seconds / _SECONDS_PER_DAY)
        whole_days += extra
        seconds -= extra * _SECONDS_PER_DAY
    whole_days += math.trunc(month_days)
    total = us + seconds * USECS_PER_SECOND
    if total - total != 0.0:
        raise DatetimeFieldOverflow("interval out of range")
    return checked_interval(whole_months, whole_days, round(total))


@implements("interval_mul(interval,float8)")
def interval_multiply(value: Interval, factor: float) -> Interval:
    """Multiply by a number."""
    return _from_products(value[0] * factor, value[1] * factor, value[2] * factor)


register("mul_d_interval(float8,interval)", lambda factor, value: interval_multiply(value, factor))


@implements("interval_div(interval,float8)")
def interval_divide(value: Interval, divisor: float) -> Interval:
    """Divide by a number; DivisionByZero (22012)."""
    if divisor == 0.0:
        raise DivisionByZero("division by zero")
    return _from_products(value[0] / divisor, value[1] / divisor, value[2] / divisor)


def _divmod_truncating(value: int, unit: int) -> tuple[int, int]:
    quotient = abs(value) // unit
    if value < 0:
        quotient = -quotient
    return quotient, value - quotient * unit


@implements("justify_hours(interval)")
def justify_hours(value: Interval) -> Interval:
    """Turn 24 hours into a day; days and time get the same sign."""
    months, days, us = value
    extra, us = _divmod_truncating(us, USECS_PER_DAY)
    days += extra
    if days > 0 and us < 0:
        us += USECS_PER_DAY
        days -= 1
    elif days < 0 and us > 0:
        us -= USECS_PER_DAY
        days += 1
    return checked_interval(months, days, us)


@implements("justify_days(interval)")
def justify_days(value: Interval) -> Interval:
    """Turn 30 days into a month; months and days get the same sign."""
    months, days, us = value
    extra, days = _divmod_truncating(days, _DAYS_PER_MONTH)
    months += extra
    if months > 0 and days < 0:
        days += _DAYS_PER_MONTH
        months -= 1
    elif months < 0 and days > 0:
        days -= _DAYS_PER_MONTH
        months += 1
    return checked_interval(months, days, us)


@implements("justify_interval(interval)")
def justify_interval(value: Interval) -> Interval:
    """Justify hours and days; all fields get the same sign."""
    months, days, us = value
    extra, us = _divmod_truncating(us, USECS_PER_DAY)
    days += extra
    extra, days = _divmod_truncating(days, _DAYS_PER_MONTH)
    months += extra
    if months > 0 and (days < 0 or (days == 0 and us < 0)):
        days += _DAYS_PER_MONTH
        months -= 1
    elif months < 0 and (days > 0 or (days == 0 and us > 0)):
        days -= _DAYS_PER_MONTH
        months += 1
    if days > 0 and us < 0:
        us += USECS_PER_DAY
        days -= 1
    elif days < 0 and us > 0:
        us -= USECS_PER_DAY
        days += 1
    return checked_interval(months, days, us)


@implements("make_interval(int4,int4,int4,int4,int4,int4,float8)")
def _make_interval(
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    hours: int = 0,
    mins: int = 0,
    secs: float = 0.0,
) -> Interval:
    if not abs(secs) < _SECONDS_END:
        raise DatetimeFieldOverflow("interval out of range")
    us = round(secs * USECS_PER_SECOND)
    return checked_interval(
        years * 12 + months,
        weeks * 7 + days,
        (hours * 3600 + mins * 60) * USECS_PER_SECOND + us,
    )
