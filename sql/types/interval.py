"""Intervals: reading, writing in four styles, precision, comparison and date arithmetic.

The datum is (months, days, microseconds); the three never carry into each other unless a rule
says so (comparison takes 30-day months and 24-hour days).

Source: PostgreSQL docs, "Interval Input", "Interval Output", "Date/Time Functions and Operators".
"""

import re
from typing import Final

from sql.errors import (
    DatetimeFieldOverflow,
    IntervalFieldOverflow,
    InvalidDatetimeFormat,
)
from sql.types.base import TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY
from sql.types.calendar import (
    USECS_PER_DAY,
    USECS_PER_HOUR,
    USECS_PER_MINUTE,
    USECS_PER_SECOND,
    date_to_ymd,
    days_in_month,
    is_valid_timestamp,
    round_half_away,
    ymd_to_date,
)
from sql.types.datetime_fields import LITERAL_CHARS_MAX, BadFormat, split_fields
from sql.types.timezone import Zone, session_zone

Interval = tuple[int, int, int]

FULL_RANGE: Final = 0x7FFF
FULL_PRECISION: Final = 0xFFFF
MONTH_BIT, YEAR_BIT, DAY_BIT = 1 << 1, 1 << 2, 1 << 3
HOUR_BIT, MINUTE_BIT, SECOND_BIT = 1 << 10, 1 << 11, 1 << 12

_UNITS: Final = {
    name: unit
    for unit, names in {
        "microsecond": "us usec usecs usecond useconds microsecond microseconds microsecon",
        "millisecond": "ms msec msecs msecond mseconds millisecond milliseconds millisecon",
        "second": "s sec secs second seconds",
        "minute": "m min mins minute minutes",
        "hour": "h hr hrs hour hours",
        "day": "d day days",
        "week": "w week weeks",
        "month": "mon mons month months",
        "year": "y yr yrs year years",
        "decade": "dec decs decade decades",
        "century": "c cent century centuries",
        "millennium": "mil mils millennium millennia",
    }.items()
    for name in names.split()
}
_USECS: Final = {
    "microsecond": 1,
    "millisecond": 1000,
    "second": USECS_PER_SECOND,
    "minute": USECS_PER_MINUTE,
    "hour": USECS_PER_HOUR,
}
_YEARS: Final = {"year": 1, "decade": 10, "century": 100, "millennium": 1000}
_INT32_MAX: Final = 0x7FFFFFFF
_INT64_MAX: Final = 0x7FFFFFFFFFFFFFFF
_NUMBER: Final = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?")
_YEAR_MONTH: Final = re.compile(r"([+-]?)(\d+)-(\d*)")
_CLOCK: Final = re.compile(r"([+-]?)(\d+):(\d*)(?::(\d*))?(?:\.(\d*))?")


class _Overflow(Exception):
    """A field does not fit."""


def _microseconds(fraction: float) -> int:
    """Round to whole microseconds; an exact half goes toward zero."""
    whole = int(fraction)
    rest = fraction - whole
    return whole + (1 if rest > 0.5 else -1 if rest < -0.5 else 0)


class _Sum:
    """The fields read so far; ``seen`` holds unit names, to refuse repetitions."""

    __slots__ = ("days", "months", "seen", "us", "years")

    def __init__(self) -> None:
        self.years = 0
        self.months = 0
        self.days = 0
        self.us = 0
        self.seen: set[str] = set()

    def mark(self, *units: str) -> None:
        for unit in units:
            if unit in self.seen:
                raise BadFormat
            self.seen.add(unit)

    def add(self, unit: str, whole: int, fraction: float) -> None:
        """Add ``whole + fraction`` units; fractions spill into the smaller fields."""
        if unit in _YEARS:
            self.years += whole * _YEARS[unit]
            self.months += round(fraction * 12 * _YEARS[unit])
        elif unit == "month":
            self.months += whole
            self._add_days(fraction * 30)
        elif unit == "week":
            self.days += whole * 7
            self._add_days(fraction * 7)
        elif unit == "day":
            self.days += whole
            self.us += _microseconds(fraction * USECS_PER_DAY)
        else:
            self.us += whole * _USECS[unit] + _microseconds(fraction * _USECS[unit])
        self.check()

    def _add_days(self, days: float) -> None:
        whole = int(days)
        self.days += whole
        self.us += _microseconds((days - whole) * USECS_PER_DAY)

    def check(self) -> None:
        for value in (self.years, self.months, self.days):
            if not -_INT32_MAX - 1 <= value <= _INT32_MAX:
                raise _Overflow
        if not -_INT64_MAX - 1 <= self.us <= _INT64_MAX:
            raise _Overflow

    def negate(self) -> None:
        self.years, self.months = -self.years, -self.months
        self.days, self.us = -self.days, -self.us
        self.check()

    def result(self) -> Interval:
        months = self.years * 12 + self.months
        if not -_INT32_MAX - 1 <= months <= _INT32_MAX:
            raise DatetimeFieldOverflow("interval out of range")
        return months, self.days, self.us


def read_interval(text: str, fields: int = FULL_RANGE, style: str = "postgres") -> Interval:
    """Read an interval. ``fields`` is the typmod's field mask, which names bare numbers' units.

    Raises 22007 for syntax, 22015 for a field and 22008 for a sum out of range.
    """
    try:
        try:
            total = _read_words(text, fields, style)
        except BadFormat:
            total = _read_iso(text)
        return total.result()
    except BadFormat:
        raise InvalidDatetimeFormat(f'invalid input syntax for type interval: "{text}"') from None
    except _Overflow:
        raise IntervalFieldOverflow(f'interval field value out of range: "{text}"') from None


def _bare_unit(fields: int) -> str:
    """Return the unit of a number without one: the last field of the typmod, else seconds."""
    if fields == YEAR_BIT:
        return "year"
    for bit, unit in (
        (SECOND_BIT, "second"),
        (MINUTE_BIT, "minute"),
        (HOUR_BIT, "hour"),
        (DAY_BIT, "day"),
        (MONTH_BIT, "month"),
    ):
        if fields & bit:
            return unit
    return "second"


def _read_words(text: str, fields: int, style: str) -> _Sum:
    tokens = split_fields(text)
    if not tokens:
        raise BadFormat
    total = _Sum()
    force_negative = style == "sql_standard" and _only_leading_sign(tokens)
    unit, negate = "", False
    parsing_unit = False
    # Units stand behind their numbers, so the words are read from the end.
    for kind, value in reversed(tokens):
        if kind in ("word", "special"):
            if value == "ago":
                negate, unit, parsing_unit = True, "ago", False
                continue
            if parsing_unit or value not in _UNITS:
                raise BadFormat
            unit, parsing_unit = _UNITS[value], True
        elif ":" in value:
            if parsing_unit:
                raise BadFormat
            total.mark("hour", "minute", "second")
            total.us += _clock(value, fields, force_negative=force_negative)
            total.check()
            unit = "day"
        else:
            unit = unit or _bare_unit(fields)
            unit = _read_number(total, value, unit, force_negative=force_negative)
            parsing_unit = False
    if not total.seen:
        raise BadFormat
    if negate:
        total.negate()
    return total


def _only_leading_sign(tokens: list[tuple[str, str]]) -> bool:
    """Tell whether the first field has a minus and no later field a sign: it covers them all."""
    return tokens[0][1].startswith("-") and not any(value[0] in "+-" for _, value in tokens[1:])


def _clock(text: str, fields: int, *, force_negative: bool) -> int:
    match = _CLOCK.fullmatch(text)
    if match is None or not match[3]:
        raise BadFormat
    first, second = int(match[2]), int(match[3])
    if match[4] is None and (match[5] is not None or fields == MINUTE_BIT | SECOND_BIT):
        hours, minutes, seconds = 0, first, second
    else:
        hours, minutes, seconds = first, second, int(match[4] or 0)
    if minutes > 59 or seconds > 60:
        raise _Overflow
    us = hours * USECS_PER_HOUR + minutes * USECS_PER_MINUTE + seconds * USECS_PER_SECOND
    us += round(float("0." + (match[5] or "0")) * USECS_PER_SECOND)
    if us > _INT64_MAX:
        raise _Overflow
    return -us if match[1] == "-" or force_negative else us


def _read_number(total: _Sum, text: str, unit: str, *, force_negative: bool) -> str:
    """Add one number; return the unit for a number further left."""
    year_month = _YEAR_MONTH.fullmatch(text)
    if year_month is not None:
        sign = -1 if year_month[1] == "-" or force_negative else 1
        months = int(year_month[3] or 0)
        if months >= 12:
            raise _Overflow
        total.mark("month")
        total.add("month", sign * (int(year_month[2]) * 12 + months), 0.0)
        return "month"
    match = _NUMBER.fullmatch(text)
    if unit == "ago" or match is None or not (match[2] or match[3]):
        raise BadFormat
    whole = int(match[2] or 0)
    if whole > _INT64_MAX:
        raise _Overflow
    sign = -1 if match[1] == "-" or force_negative else 1
    fraction = float("0." + match[3]) if match[3] else 0.0
    total.mark(*({"second"} if unit in ("second",) else {unit}))
    total.add(unit, sign * whole, sign * fraction)
    return "day" if unit == "hour" else unit


_ISO_ITEM: Final = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?([YMWDHS]|(?=[T]|$))")
_ISO_DATE_UNITS: Final = {"Y": "year", "M": "month", "W": "week", "D": "day"}
_ISO_TIME_UNITS: Final = {"H": "hour", "M": "minute", "S": "second"}
_ISO_ALTERNATIVE_DATE: Final = re.compile(r"([+-]?\d+)-([+-]?\d+)(?:-([+-]?\d+))?")
_ISO_ALTERNATIVE_TIME: Final = re.compile(r"([+-]?)(\d+):([+-]?\d+)(?::([+-]?)(\d+)(?:\.(\d*))?)?")


def _read_iso(text: str) -> _Sum:
    """Read ``P1Y2M3DT4H5M6.7S``, ``P1-2-3T4:5:6`` or the run-together ``P00010203T040506``."""
    if not text.startswith("P") or not 2 <= len(text) <= LITERAL_CHARS_MAX or not text.isascii():
        raise BadFormat
    total = _Sum()
    date_part, _, time_part = text[1:].partition("T")
    if date_part:
        _iso_date(total, date_part)
    if time_part:
        _iso_time(total, time_part)
    return total


def _iso_date(total: _Sum, text: str) -> None:
    dashed = _ISO_ALTERNATIVE_DATE.fullmatch(text)
    if dashed is not None:
        total.add("year", int(dashed[1]), 0.0)
        total.add("month", int(dashed[2]), 0.0)
        total.add("day", int(dashed[3] or 0), 0.0)
    elif re.fullmatch(r"\d{8}", text):
        total.add("year", int(text[:4]), 0.0)
        total.add("month", int(text[4:6]), 0.0)
        total.add("day", int(text[6:]), 0.0)
    elif re.fullmatch(r"-?\d{1,7}", text):
        total.add("year", int(text), 0.0)
    else:
        _iso_items(total, text, _ISO_DATE_UNITS)


def _iso_time(total: _Sum, text: str) -> None:
    colons = _ISO_ALTERNATIVE_TIME.fullmatch(text)
    if colons is not None:
        total.add("hour", int(colons[1] + colons[2]), 0.0)
        total.add("minute", int(colons[3]), 0.0)
        if colons[5] is not None:
            sign = -1 if colons[4] == "-" else 1
            total.add("second", sign * int(colons[5]), sign * float("0." + (colons[6] or "0")))
    elif re.fullmatch(r"\d{6}(\.\d*)?", text):
        total.add("hour", int(text[:2]), 0.0)
        total.add("minute", int(text[2:4]), 0.0)
        total.add("second", int(text[4:6]), float("0" + text[6:]))
    elif re.fullmatch(r"-?\d+", text):
        total.add("hour", int(text), 0.0)
    else:
        _iso_items(total, text, _ISO_TIME_UNITS)


def _iso_items(total: _Sum, text: str, units: dict[str, str]) -> None:
    at = 0
    while at < len(text):
        match = _ISO_ITEM.match(text, at)
        if match is None or not (match[2] or match[3]) or match[4] not in units:
            raise BadFormat
        whole = int(match[2] or 0)
        if whole > _INT64_MAX:
            raise _Overflow
        sign = -1 if match[1] == "-" else 1
        total.add(units[match[4]], sign * whole, sign * float("0." + (match[3] or "0")))
        at = match.end()


def apply_interval_typmod(value: Interval, typmod: int) -> Interval:
    """Cut fields smaller than the typmod's last one and round the seconds."""
    if typmod < 0:
        return value
    fields, precision = typmod >> 16 & FULL_RANGE, typmod & FULL_PRECISION
    months, days, us = value
    if fields != FULL_RANGE:
        if fields == YEAR_BIT:
            months, days, us = _truncated(months, 12), 0, 0
        elif not fields & (DAY_BIT | HOUR_BIT | MINUTE_BIT | SECOND_BIT):
            days = us = 0
        elif not fields & (HOUR_BIT | MINUTE_BIT | SECOND_BIT):
            us = 0
        elif not fields & (MINUTE_BIT | SECOND_BIT):
            us = _truncated(us, USECS_PER_HOUR)
        elif not fields & SECOND_BIT:
            us = _truncated(us, USECS_PER_MINUTE)
    if precision < 6:
        us = round_half_away(us, 10 ** (6 - precision))
    return months, days, us


def _truncated(value: int, unit: int) -> int:
    return value // unit * unit if value >= 0 else -(-value // unit * unit)


def _split(value: Interval) -> tuple[int, int, int, int, int, int, int]:
    """Return (years, months, days, hours, minutes, seconds, microseconds), each with its sign."""
    months, days, us = value
    month_sign = -1 if months < 0 else 1
    years, months = divmod(abs(months), 12)
    sign = -1 if us < 0 else 1
    seconds, micros = divmod(abs(us), USECS_PER_SECOND)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return (
        month_sign * years,
        month_sign * months,
        days,
        sign * hours,
        sign * minute,
        sign * second,
        sign * micros,
    )


def _seconds_text(second: int, micros: int, *, pad: bool) -> str:
    text = f"{abs(second):02d}" if pad else str(abs(second))
    return text + "." + f"{abs(micros):06d}".rstrip("0") if micros else text


def interval_text(value: Interval, style: str = "postgres") -> str:
    """Write an interval; ``style`` is postgres, postgres_verbose, sql_standard or iso_8601."""
    if style == "postgres":
        return _postgres_text(value)
    if style == "postgres_verbose":
        return _verbose_text(value)
    return _sql_text(value) if style == "sql_standard" else _iso_text(value)


def _postgres_text(value: Interval) -> str:
    years, months, days, hour, minute, second, micros = _split(value)
    parts: list[str] = []
    was_negative = False
    for amount, name in ((years, "year"), (months, "mon"), (days, "day")):
        if amount:
            plus = "+" if was_negative and amount > 0 else ""
            parts.append(f"{plus}{amount} {name}{'' if amount == 1 else 's'}")
            was_negative = amount < 0
    if value[2] or not parts:
        sign = "-" if value[2] < 0 else "+" if was_negative else ""
        seconds = _seconds_text(second, micros, pad=True)
        parts.append(f"{sign}{abs(hour):02d}:{abs(minute):02d}:{seconds}")
    return " ".join(parts)


def _verbose_text(value: Interval) -> str:
    years, months, days, hour, minute, second, micros = _split(value)
    text = "@"
    is_zero, is_before = True, False
    for amount, name in (
        (years, "year"),
        (months, "mon"),
        (days, "day"),
        (hour, "hour"),
        (minute, "min"),
    ):
        if amount:
            if is_zero:
                is_before = amount < 0
            shown = -amount if is_before else amount
            text += f" {shown} {name}{'' if shown == 1 else 's'}"
            is_zero = False
    if second or micros:
        negative = second < 0 or micros < 0
        if is_zero:
            is_before = negative
            negative = False
        elif is_before:
            negative = not negative
        plural = "" if abs(second) == 1 and not micros else "s"
        text += f" {'-' if negative else ''}{_seconds_text(second, micros, pad=False)} sec{plural}"
        is_zero = False
    if is_zero:
        text += " 0"
    return text + " ago" if is_before else text


def _sql_text(value: Interval) -> str:
    years, months, days, hour, minute, second, micros = _split(value)
    amounts = (years, months, days, hour, minute, second, micros)
    has_negative = any(amount < 0 for amount in amounts)
    has_positive = any(amount > 0 for amount in amounts)
    has_months, has_days, has_time = bool(value[0]), bool(days), bool(value[2])
    standard = not (has_negative and has_positive) and not (has_months and (has_days or has_time))
    if not has_negative and not has_positive:
        return "0"
    seconds = _seconds_text(second, micros, pad=True)
    sign = "-" if has_negative and standard else ""
    if not standard:
        month_sign = "-" if value[0] < 0 else "+"
        day_sign = "-" if days < 0 else "+"
        time_sign = "-" if value[2] < 0 else "+"
        return (
            f"{month_sign}{abs(years)}-{abs(months)} {day_sign}{abs(days)} "
            f"{time_sign}{abs(hour)}:{abs(minute):02d}:{seconds}"
        )
    if has_months:
        return f"{sign}{abs(years)}-{abs(months)}"
    if has_days:
        return f"{sign}{abs(days)} {abs(hour)}:{abs(minute):02d}:{seconds}"
    return f"{sign}{abs(hour)}:{abs(minute):02d}:{seconds}"


def _iso_text(value: Interval) -> str:
    years, months, days, hour, minute, second, micros = _split(value)
    if not any(value):
        return "PT0S"
    text = "P"
    for amount, letter in ((years, "Y"), (months, "M"), (days, "D")):
        if amount:
            text += f"{amount}{letter}"
    if value[2]:
        text += "T"
        for amount, letter in ((hour, "H"), (minute, "M")):
            if amount:
                text += f"{amount}{letter}"
        if second or micros:
            sign = "-" if second < 0 or micros < 0 else ""
            text += f"{sign}{_seconds_text(second, micros, pad=False)}S"
    return text


def interval_span(value: Interval) -> int:
    """Return microseconds with 30-day months and 24-hour days: what comparison looks at."""
    return (value[0] * 30 + value[1]) * USECS_PER_DAY + value[2]


def _shift_months(us: int, months: int) -> int:
    """Move by months, stopping at the end of a shorter month."""
    days, time = divmod(us, USECS_PER_DAY)
    year, month, day = date_to_ymd(days)
    years, month_index = divmod(year * 12 + month - 1 + months, 12)
    day = min(day, days_in_month(years, month_index + 1))
    return ymd_to_date(years, month_index + 1, day) * USECS_PER_DAY + time


def _in_range(us: int) -> int:
    if not is_valid_timestamp(us):
        raise DatetimeFieldOverflow("timestamp out of range")
    return us


def add_interval_to_timestamp(us: int, interval: Interval) -> int:
    """Add months, then days, then the rest. Raises 22008. Infinities stay."""
    if us in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY):
        return us
    months, days, rest = interval
    if months:
        us = _in_range(_shift_months(us, months))
    if days:
        us = _in_range(us + days * USECS_PER_DAY)
    return _in_range(us + rest)


def add_interval_to_timestamptz(us: int, interval: Interval, zone: str | Zone) -> int:
    """Add months and days on the wall clock of a session zone, the rest in real time."""
    if us in (TIMESTAMP_INFINITY, TIMESTAMP_MINUS_INFINITY):
        return us
    months, days, rest = interval
    if months or days:
        found = session_zone(zone) if isinstance(zone, str) else zone
        if months:
            local = us + found.offset_at_utc(us) * USECS_PER_SECOND
            local = _shift_months(local, months)
            us = local - found.offset_at_local(local) * USECS_PER_SECOND
        if days:
            local = us + found.offset_at_utc(us) * USECS_PER_SECOND + days * USECS_PER_DAY
            us = local - found.offset_at_local(local) * USECS_PER_SECOND
    return _in_range(us + rest)
