"""Fields of dates and times: extract, date_part, date_trunc and date_bin.

``extract`` answers numeric with PostgreSQL's scales, ``date_part`` the same numbers as double
precision. Fields of
infinite timestamps are infinite where they grow with time, else NULL.

Source: PostgreSQL docs, "EXTRACT, date_part", "date_trunc", "date_bin".
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from sql.errors import DatetimeFieldOverflow, FeatureNotSupported, InvalidParameterValue, SqlError
from sql.functions.context import ExecutionContext
from sql.functions.datetimes import date_to_timestamp
from sql.functions.implementation import implements, register
from sql.functions.intervals import Interval, checked_interval
from sql.functions.zones import INFINITIES, in_range, session_zone, to_local, to_utc
from sql.types import numeric
from sql.types.base import DATE_INFINITY, DATE_MINUS_INFINITY, TIMESTAMP_INFINITY
from sql.types.calendar import (
    POSTGRES_EPOCH_JULIAN_DAY,
    UNIX_EPOCH_USECS,
    USECS_PER_DAY,
    USECS_PER_HOUR,
    USECS_PER_MINUTE,
    USECS_PER_SECOND,
    date_to_ymd,
    day_of_week,
    day_of_year,
    iso_week_to_date,
    iso_year_and_week,
    ymd_to_date,
)
from sql.types.timezone import Zone, named_zone

_ALIASES: Final = {
    alias: unit
    for unit, aliases in {
        "microseconds": "microseconds microsecond us usec usecs usecond useconds",
        "milliseconds": "milliseconds millisecond ms msec msecs msecond mseconds",
        "second": "second seconds s sec secs",
        "minute": "minute minutes m min mins",
        "hour": "hour hours h hr hrs",
        "day": "day days d",
        "week": "week weeks w",
        "month": "month months mon mons",
        "quarter": "quarter qtr",
        "year": "year years y yr yrs",
        "decade": "decade decades dec decs",
        "century": "century centuries c cent",
        "millennium": "millennium millennia mil mils",
        "epoch": "epoch",
        "julian": "julian jd j",
        "dow": "dow",
        "isodow": "isodow",
        "doy": "doy",
        "isoyear": "isoyear",
        "timezone": "timezone",
        "timezone_hour": "timezone_hour timezone_h",
        "timezone_minute": "timezone_minute timezone_m",
    }.items()
    for alias in aliases.split()
}
_MONOTONIC: Final = frozenset(
    ("year", "decade", "century", "millennium", "julian", "isoyear", "epoch")
)
_DATE_UNITS: Final = frozenset(
    (
        "day",
        "week",
        "month",
        "quarter",
        "year",
        "decade",
        "century",
        "millennium",
        "epoch",
        "julian",
        "dow",
        "isodow",
        "doy",
        "isoyear",
    )
)
_CLOCK_UNITS: Final = frozenset(("microseconds", "milliseconds", "second", "minute", "hour"))
_ZONE_UNITS: Final = frozenset(("timezone", "timezone_hour", "timezone_minute"))
_TRUNCATED_UNITS: Final = _CLOCK_UNITS | frozenset(
    ("day", "week", "month", "quarter", "year", "decade", "century", "millennium")
)
_EXTRACTED_ONLY: Final = frozenset(("epoch", "julian", "dow", "isodow", "doy", "isoyear"))
_TIMESTAMP: Final = "timestamp without time zone"
_TIMESTAMPTZ: Final = "timestamp with time zone"
_TIME: Final = "time without time zone"
_TIMETZ: Final = "time with time zone"


def _unit(text: str, type_name: str, allowed: frozenset[str]) -> str:
    lowered = text.lower()
    unit = _ALIASES.get(lowered)
    if unit is None or (allowed is _TRUNCATED_UNITS and unit in _EXTRACTED_ONLY):
        raise InvalidParameterValue(f'unit "{lowered}" not recognized for type {type_name}')
    if unit not in allowed:
        raise _unsupported(lowered, type_name)
    return unit


def _unsupported(unit: str, type_name: str, detail: str = "") -> SqlError:
    return FeatureNotSupported(f'unit "{unit}" not supported for type {type_name}', detail=detail)


def _scaled(us: int, scale: int) -> Decimal:
    return Decimal(us).scaleb(-scale)


def _clock_field(unit: str, us: int) -> Decimal:
    """Return a field of a time of day or of an interval's time part; the sign is the time's."""
    sign = -1 if us < 0 else 1
    us = abs(us)
    match unit:
        case "microseconds":
            return Decimal(sign * (us % USECS_PER_MINUTE))
        case "milliseconds":
            return _scaled(sign * (us % USECS_PER_MINUTE), 3)
        case "second":
            return _scaled(sign * (us % USECS_PER_MINUTE), 6)
        case "minute":
            return Decimal(sign * (us // USECS_PER_MINUTE % 60))
        case _:
            pass
    return Decimal(sign * (us // USECS_PER_HOUR))


def _century(year: int, size: int) -> int:
    return (year + size - 1) // size if year > 0 else -((size - 1 - (year - 1)) // size)


def _historic(year: int) -> int:
    """Return the year as people count: there is no year 0."""
    return year if year > 0 else year - 1


def _date_field(unit: str, date: int) -> Decimal:
    year, month, day = date_to_ymd(date)
    match unit:
        case "day":
            result = day
        case "week":
            result = iso_year_and_week(date)[1]
        case "month":
            result = month
        case "quarter":
            result = (month - 1) // 3 + 1
        case "year":
            result = _historic(year)
        case "decade":
            result = year // 10 if year >= 0 else -((8 - (year - 1)) // 10)
        case "century":
            result = _century(year, 100)
        case "millennium":
            result = _century(year, 1000)
        case "dow":
            result = day_of_week(date)
        case "isodow":
            result = day_of_week(date) or 7
        case "doy":
            result = day_of_year(date)
        case "isoyear":
            result = _historic(iso_year_and_week(date)[0])
        case "julian":
            result = date + POSTGRES_EPOCH_JULIAN_DAY
        case _:
            result = (date * USECS_PER_DAY - UNIX_EPOCH_USECS) // USECS_PER_SECOND
    return Decimal(result)


def _infinite_field(unit: str, *, positive: bool) -> Decimal | None:
    if unit not in _MONOTONIC:
        return None
    return Decimal("Infinity" if positive else "-Infinity")


def _timestamp_field(unit: str, timestamp: int) -> Decimal | None:
    if timestamp in INFINITIES:
        return _infinite_field(unit, positive=timestamp == TIMESTAMP_INFINITY)
    if unit == "epoch":
        return _scaled(timestamp - UNIX_EPOCH_USECS, 6)
    date, time = divmod(timestamp, USECS_PER_DAY)
    if unit in _CLOCK_UNITS:
        return _clock_field(unit, time)
    if unit == "julian":
        day = Decimal(date + POSTGRES_EPOCH_JULIAN_DAY)
        return numeric.add(day, numeric.divide(Decimal(time), Decimal(USECS_PER_DAY)))
    return _date_field(unit, date)


def _zone_field(unit: str, offset: int) -> Decimal:
    sign = -1 if offset < 0 else 1
    match unit:
        case "timezone_hour":
            return Decimal(sign * (abs(offset) // 3600))
        case "timezone_minute":
            return Decimal(sign * (abs(offset) // 60 % 60))
        case _:
            pass
    return Decimal(offset)


@implements("extract(text,timestamp)")
def _extract_timestamp(field: str, timestamp: int) -> Decimal | None:
    return _timestamp_field(_unit(field, _TIMESTAMP, _DATE_UNITS | _CLOCK_UNITS), timestamp)


@implements("extract(text,timestamptz)", context=True)
def _extract_timestamptz(context: ExecutionContext, field: str, instant: int) -> Decimal | None:
    unit = _unit(field, _TIMESTAMPTZ, _DATE_UNITS | _CLOCK_UNITS | _ZONE_UNITS)
    if instant in INFINITIES or unit == "epoch":
        return _timestamp_field(unit, instant)
    zone = session_zone(context)
    if unit in _ZONE_UNITS:
        return _zone_field(unit, zone.offset_at_utc(instant))
    return _timestamp_field(unit, to_local(instant, zone))


@implements("extract(text,date)")
def _extract_date(field: str, date: int) -> Decimal | None:
    unit = _unit(field, "date", _DATE_UNITS)
    if date in (DATE_INFINITY, DATE_MINUS_INFINITY):
        return _infinite_field(unit, positive=date == DATE_INFINITY)
    return _date_field(unit, date)


@implements("extract(text,time)")
def _extract_time(field: str, time: int) -> Decimal:
    unit = _unit(field, _TIME, _CLOCK_UNITS | {"epoch"})
    return _scaled(time, 6) if unit == "epoch" else _clock_field(unit, time)


@implements("extract(text,timetz)")
def _extract_timetz(field: str, value: tuple[int, int]) -> Decimal:
    unit = _unit(field, _TIMETZ, _CLOCK_UNITS | _ZONE_UNITS | {"epoch"})
    time, west = value
    if unit == "epoch":
        return _scaled(time + west * USECS_PER_SECOND, 6)
    return _zone_field(unit, -west) if unit in _ZONE_UNITS else _clock_field(unit, time)


_INTERVAL_UNITS: Final = _CLOCK_UNITS | frozenset(
    ("day", "month", "quarter", "year", "decade", "century", "millennium", "epoch")
)
_YEARS: Final = {"year": 1, "decade": 10, "century": 100, "millennium": 1000}


def _quotient(value: int, divisor: int) -> int:
    return abs(value) // divisor * (-1 if value < 0 else 1)


@implements("extract(text,interval)")
def _extract_interval(field: str, value: Interval) -> Decimal:
    unit = _unit(field, "interval", _INTERVAL_UNITS)
    months, days, us = value
    years = _quotient(months, 12)
    rest = months - years * 12
    if unit in _CLOCK_UNITS:
        return _clock_field(unit, us)
    if unit in _YEARS:
        return Decimal(_quotient(years, _YEARS[unit]))
    match unit:
        case "day":
            return Decimal(days)
        case "month":
            return Decimal(rest)
        case "quarter":
            return Decimal(_quotient(rest, 3) + 1)
        case _:
            pass
    # A year is 365.25 days: four times that is whole.
    quarter_days = 1461 * years + 4 * (30 * rest + days)
    return _scaled(quarter_days * (USECS_PER_DAY // 4) + us, 6)


def _as_float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _part(extract: Callable[..., Decimal | None]) -> Callable[..., float | None]:
    return lambda *arguments: _as_float(extract(*arguments))


register("date_part(text,timestamp)", _part(_extract_timestamp))
register("date_part(text,timestamptz)", _part(_extract_timestamptz), context=True)
register("date_part(text,time)", _part(_extract_time))
register("date_part(text,timetz)", _part(_extract_timetz))
register("date_part(text,interval)", _part(_extract_interval))


@implements("date_part(text,date)")
def _date_part_date(field: str, date: int) -> float | None:
    return _as_float(_extract_timestamp(field, date_to_timestamp(date)))


def _first_year(year: int, unit: str) -> int:
    match unit:
        case "decade":
            return year // 10 * 10 if year > 0 else -((8 - (year - 1)) // 10) * 10
        case "century":
            return (
                (year + 99) // 100 * 100 - 99 if year > 0 else -((99 - (year - 1)) // 100) * 100 + 1
            )
        case "millennium":
            if year > 0:
                return (year + 999) // 1000 * 1000 - 999
            return -((999 - (year - 1)) // 1000) * 1000 + 1
        case _:
            pass
    return year


_CLOCK_SIZES: Final = {
    "microseconds": 1,
    "milliseconds": 1000,
    "second": USECS_PER_SECOND,
    "minute": USECS_PER_MINUTE,
    "hour": USECS_PER_HOUR,
    "day": USECS_PER_DAY,
}


def _truncate(unit: str, local: int) -> int:
    size = _CLOCK_SIZES.get(unit)
    if size is not None:
        return local - local % size
    date = local // USECS_PER_DAY
    if unit == "week":
        return in_range(iso_week_to_date(*iso_year_and_week(date)) * USECS_PER_DAY)
    year, month, _ = date_to_ymd(date)
    match unit:
        case "month":
            first = ymd_to_date(year, month, 1)
        case "quarter":
            first = ymd_to_date(year, (month - 1) // 3 * 3 + 1, 1)
        case _:
            first = ymd_to_date(_first_year(year, unit), 1, 1)
    return in_range(first * USECS_PER_DAY)


@implements("date_trunc(text,timestamp)")
def _trunc_timestamp(field: str, timestamp: int) -> int:
    unit = _unit(field, _TIMESTAMP, _TRUNCATED_UNITS)
    return timestamp if timestamp in INFINITIES else _truncate(unit, timestamp)


def _trunc_in_zone(field: str, instant: int, zone: Zone) -> int:
    unit = _unit(field, _TIMESTAMPTZ, _TRUNCATED_UNITS)
    if instant in INFINITIES:
        return instant
    if unit in _CLOCK_UNITS:
        # Below a day the offset stays, or the second of two equal hours would jump to the first.
        offset = zone.offset_at_utc(instant) * USECS_PER_SECOND
        return _truncate(unit, instant + offset) - offset
    return to_utc(_truncate(unit, to_local(instant, zone)), zone)


@implements("date_trunc(text,timestamptz)", context=True)
def _trunc_timestamptz(context: ExecutionContext, field: str, instant: int) -> int:
    return _trunc_in_zone(field, instant, session_zone(context))


@implements("date_trunc(text,timestamptz,text)")
def _trunc_timestamptz_zone(field: str, instant: int, zone: str) -> int:
    return _trunc_in_zone(field, instant, named_zone(zone))


@implements("date_trunc(text,interval)")
def _trunc_interval(field: str, value: Interval) -> Interval:
    unit = _unit(field, "interval", _TRUNCATED_UNITS)
    months, days, us = value
    if unit == "week":
        raise _unsupported(field.lower(), "interval", "Months usually have fractional weeks.")
    if unit in _YEARS:
        return checked_interval(_whole(months, 12 * _YEARS[unit]), 0, 0)
    if unit in ("quarter", "month"):
        return checked_interval(_whole(months, 3 if unit == "quarter" else 1), 0, 0)
    if unit == "day":
        return months, days, 0
    return months, days, _whole(us, _CLOCK_SIZES[unit])


def _whole(value: int, unit: int) -> int:
    return _quotient(value, unit) * unit


@implements("date_bin(interval,timestamp,timestamp)", "date_bin(interval,timestamptz,timestamptz)")
def _date_bin(stride: Interval, source: int, origin: int) -> Any:
    if source in INFINITIES:
        return source
    if origin in INFINITIES:
        raise DatetimeFieldOverflow("origin out of range")
    if stride[0]:
        raise FeatureNotSupported(
            "timestamps cannot be binned into intervals containing months or years"
        )
    size = stride[1] * USECS_PER_DAY + stride[2]
    if size <= 0:
        raise DatetimeFieldOverflow("stride must be greater than zero")
    return source - (source - origin) % size
