"""Date and time operators, casts and constructors.

Timestamps are microseconds since 2000-01-01; infinities pass through arithmetic unchanged. What
depends on the
session's time zone takes the context.

Source: PostgreSQL docs, "Date/Time Functions and Operators".
"""

import math
from collections.abc import Callable, Iterator
from typing import Final

from sql.errors import (
    DatetimeFieldOverflow,
    InvalidParameterValue,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements, register
from sql.functions.intervals import Interval, interval_negate, justify_hours
from sql.functions.zones import INFINITIES, in_range, session_zone, to_local, to_utc
from sql.types.base import (
    DATE_INFINITY,
    DATE_MINUS_INFINITY,
    TIMESTAMP_INFINITY,
    TIMESTAMP_MINUS_INFINITY,
)
from sql.types.calendar import (
    TIMESTAMP_END,
    UNIX_EPOCH_USECS,
    USECS_PER_DAY,
    USECS_PER_SECOND,
    day_of_week,
    days_in_month,
    is_valid_date,
    is_valid_timestamp,
    timestamp_to_fields,
    ymd_to_date,
)
from sql.types.interval import (
    add_interval_to_timestamp,
    add_interval_to_timestamptz,
    interval_text,
)
from sql.types.timezone import Zone, fixed_zone, named_zone

_DATE_INFINITIES: Final = (DATE_INFINITY, DATE_MINUS_INFINITY)
TimeTz = tuple[int, int]


def date_to_timestamp(date: int) -> int:
    """Return midnight; 22008 ``date out of range for timestamp``."""
    if date in _DATE_INFINITIES:
        return TIMESTAMP_INFINITY if date == DATE_INFINITY else TIMESTAMP_MINUS_INFINITY
    result = date * USECS_PER_DAY
    if result >= TIMESTAMP_END:
        raise DatetimeFieldOverflow("date out of range for timestamp")
    return result


register("timestamp(date)", date_to_timestamp)


@implements("date(timestamp)")
def timestamp_to_date(timestamp: int) -> int:
    """Return the day of a timestamp."""
    if timestamp in INFINITIES:
        return DATE_INFINITY if timestamp == TIMESTAMP_INFINITY else DATE_MINUS_INFINITY
    return timestamp // USECS_PER_DAY


@implements("timestamptz(date)", context=True)
def date_to_timestamptz(context: ExecutionContext, date: int) -> int:
    """Return midnight in the session's zone."""
    return to_utc(date_to_timestamp(date), session_zone(context))


@implements("timestamptz(timestamp)", context=True)
def _timestamp_to_timestamptz(context: ExecutionContext, timestamp: int) -> int:
    return to_utc(timestamp, session_zone(context))


@implements("timestamp(timestamptz)", context=True)
def _timestamptz_to_timestamp(context: ExecutionContext, instant: int) -> int:
    return to_local(instant, session_zone(context))


@implements("date(timestamptz)", context=True)
def _timestamptz_to_date(context: ExecutionContext, instant: int) -> int:
    return timestamp_to_date(to_local(instant, session_zone(context)))


@implements("time(timestamp)")
def _timestamp_to_time(timestamp: int) -> int | None:
    return None if timestamp in INFINITIES else timestamp % USECS_PER_DAY


@implements("time(timestamptz)", context=True)
def _timestamptz_to_time(context: ExecutionContext, instant: int) -> int | None:
    return _timestamp_to_time(to_local(instant, session_zone(context)))


@implements("timetz(timestamptz)", context=True)
def _timestamptz_to_timetz(context: ExecutionContext, instant: int) -> TimeTz | None:
    if instant in INFINITIES:
        return None
    offset = session_zone(context).offset_at_utc(instant)
    return (instant + offset * USECS_PER_SECOND) % USECS_PER_DAY, -offset


@implements("timetz(time)", context=True)
def _time_to_timetz(context: ExecutionContext, time: int) -> TimeTz:
    zone = session_zone(context)
    today = to_local(context.transaction_timestamp, zone) // USECS_PER_DAY
    return time, -zone.offset_at_local(today * USECS_PER_DAY + time)


register("time(timetz)", lambda value: value[0])
register("interval(time)", lambda value: (0, 0, value))
register("time(interval)", lambda value: value[2] % USECS_PER_DAY)


@implements("timestamp(date,time)", "datetime_pl(date,time)")
def _date_and_time(date: int, time: int) -> int:
    start = date_to_timestamp(date)
    return start if start in INFINITIES else in_range(start + time)


register("timedate_pl(time,date)", lambda time, date: _date_and_time(date, time))


@implements("timestamptz(date,time)", context=True)
def _date_and_time_tz(context: ExecutionContext, date: int, time: int) -> int:
    return to_utc(_date_and_time(date, time), session_zone(context))


@implements("timestamptz(date,timetz)", "datetimetz_pl(date,timetz)")
def _date_and_timetz(date: int, time: TimeTz) -> int:
    start = date_to_timestamp(date)
    return start if start in INFINITIES else in_range(start + time[0] + time[1] * USECS_PER_SECOND)


register("timetzdate_pl(timetz,date)", lambda time, date: _date_and_timetz(date, time))


@implements("date_pli(date,int4)")
def _date_plus(date: int, days: int) -> int:
    if date in _DATE_INFINITIES:
        return date
    result = date + days
    if not is_valid_date(result):
        raise DatetimeFieldOverflow("date out of range")
    return result


register("integer_pl_date(int4,date)", lambda days, date: _date_plus(date, days))
register("date_mii(date,int4)", lambda date, days: _date_plus(date, -days))


@implements("date_mi(date,date)")
def _date_minus_date(a: int, b: int) -> int:
    if a in _DATE_INFINITIES or b in _DATE_INFINITIES:
        raise DatetimeFieldOverflow("cannot subtract infinite dates")
    return a - b


@implements("date_pl_interval(date,interval)")
def _date_plus_interval(date: int, span: Interval) -> int:
    return add_interval_to_timestamp(date_to_timestamp(date), span)


register("interval_pl_date(interval,date)", lambda span, date: _date_plus_interval(date, span))
register(
    "date_mi_interval(date,interval)",
    lambda date, span: _date_plus_interval(date, interval_negate(span)),
)
register("timestamp_pl_interval(timestamp,interval)", add_interval_to_timestamp)
register(
    "interval_pl_timestamp(interval,timestamp)",
    lambda span, timestamp: add_interval_to_timestamp(timestamp, span),
)
register(
    "timestamp_mi_interval(timestamp,interval)",
    lambda timestamp, span: add_interval_to_timestamp(timestamp, interval_negate(span)),
)


@implements("timestamptz_pl_interval(timestamptz,interval)", context=True)
def instant_plus_interval(context: ExecutionContext, instant: int, span: Interval) -> int:
    """Add an interval on the session's wall clock."""
    return add_interval_to_timestamptz(instant, span, session_zone(context))


@implements("timestamptz_mi_interval(timestamptz,interval)", context=True)
def _instant_minus_interval(context: ExecutionContext, instant: int, span: Interval) -> int:
    return add_interval_to_timestamptz(instant, interval_negate(span), session_zone(context))


@implements("interval_pl_timestamptz(interval,timestamptz)", context=True)
def _interval_plus_instant(context: ExecutionContext, span: Interval, instant: int) -> int:
    return add_interval_to_timestamptz(instant, span, session_zone(context))


@implements("timestamp_mi(timestamp,timestamp)", "timestamptz_mi(timestamptz,timestamptz)")
def _timestamp_minus_timestamp(a: int, b: int) -> Interval:
    if a in INFINITIES or b in INFINITIES:
        raise DatetimeFieldOverflow("cannot subtract infinite timestamps")
    return justify_hours((0, 0, a - b))


@implements("time_pl_interval(time,interval)")
def _time_plus_interval(time: int, span: Interval) -> int:
    return (time + span[2]) % USECS_PER_DAY


register("interval_pl_time(interval,time)", lambda span, time: _time_plus_interval(time, span))
register("time_mi_interval(time,interval)", lambda time, span: (time - span[2]) % USECS_PER_DAY)
register("time_mi_time(time,time)", lambda a, b: (0, 0, a - b))
register(
    "timetz_pl_interval(timetz,interval)",
    lambda time, span: (_time_plus_interval(time[0], span), time[1]),
)
register(
    "interval_pl_timetz(interval,timetz)",
    lambda span, time: (_time_plus_interval(time[0], span), time[1]),
)
register(
    "timetz_mi_interval(timetz,interval)",
    lambda time, span: ((time[0] - span[2]) % USECS_PER_DAY, time[1]),
)


@implements("age(timestamp,timestamp)")
def timestamp_age(a: int, b: int) -> Interval:
    """Subtract in years, months and days of the calendar."""
    if a in INFINITIES or b in INFINITIES:
        raise DatetimeFieldOverflow("timestamp out of range")
    if a < b:
        return interval_negate(_age(a, b, negative=True))
    return _age(a, b, negative=False)


def _age(a: int, b: int, *, negative: bool) -> Interval:
    """Subtract the later from the earlier field by field.

    A borrowed month is the one PostgreSQL borrows.
    """
    first, second = timestamp_to_fields(a), timestamp_to_fields(b)
    sign = -1 if negative else 1
    year, month, day = (sign * (x - y) for x, y in zip(first[:3], second[:3], strict=True))
    us = sign * (a % USECS_PER_DAY - b % USECS_PER_DAY)
    if us < 0:
        us += USECS_PER_DAY
        day -= 1
    borrowed = first if negative else second
    while day < 0:
        day += days_in_month(borrowed[0], borrowed[1])
        month -= 1
    while month < 0:
        month += 12
        year -= 1
    return year * 12 + month, day, us


@implements("age(timestamptz,timestamptz)", context=True)
def _instant_age(context: ExecutionContext, a: int, b: int) -> Interval:
    zone = session_zone(context)
    return timestamp_age(to_local(a, zone), to_local(b, zone))


def _today(context: ExecutionContext) -> int:
    local = to_local(context.transaction_timestamp, session_zone(context))
    return local // USECS_PER_DAY * USECS_PER_DAY


@implements("age(timestamp)", context=True)
def _age_today(context: ExecutionContext, timestamp: int) -> Interval:
    return timestamp_age(_today(context), timestamp)


@implements("age(timestamptz)", context=True)
def _instant_age_today(context: ExecutionContext, instant: int) -> Interval:
    return timestamp_age(_today(context), to_local(instant, session_zone(context)))


@implements("isfinite(date)")
def _is_finite_date(date: int) -> bool:
    return date not in _DATE_INFINITIES


@implements("isfinite(timestamp)", "isfinite(timestamptz)")
def _is_finite_timestamp(timestamp: int) -> bool:
    return timestamp not in INFINITIES


@implements("isfinite(interval)")
def _is_finite_interval(_value: Interval) -> bool:
    return True


def checked_date(year: int, month: int, day: int) -> int | None:
    """Return the date of a year as people count (-1 is 1 BC), or None if there is no such date."""
    if year == 0 or not 1 <= month <= 12:
        return None
    astronomical = year if year > 0 else year + 1
    if not 1 <= day <= days_in_month(astronomical, month):
        return None
    result = ymd_to_date(astronomical, month, day)
    return result if is_valid_date(result) else None


@implements("make_date(int4,int4,int4)")
def _make_date(year: int, month: int, day: int) -> int:
    result = checked_date(year, month, day)
    if result is None:
        raise DatetimeFieldOverflow(f"date field value out of range: {year}-{month:02d}-{day:02d}")
    return result


def _clock(hour: int, minute: int, seconds: float) -> int | None:
    if seconds - seconds != 0.0 or not (0 <= hour <= 24 and 0 <= minute <= 59):
        return None
    if not abs(seconds) < 1000.0:
        return None
    us = round(seconds * USECS_PER_SECOND)
    total = (hour * 60 + minute) * 60 * USECS_PER_SECOND + us
    if not 0 <= us <= 60 * USECS_PER_SECOND or total > USECS_PER_DAY:
        return None
    return total


def _seconds_text(seconds: float) -> str:
    return f"{seconds:02g}".replace("nan", "NaN").replace("inf", "Infinity")


@implements("make_time(int4,int4,float8)")
def _make_time(hour: int, minute: int, seconds: float) -> int:
    result = _clock(hour, minute, seconds)
    if result is None:
        shown = f"{hour}:{minute:02d}:{_seconds_text(seconds)}"
        raise DatetimeFieldOverflow(f"time field value out of range: {shown}")
    return result


@implements("make_timestamp(int4,int4,int4,int4,int4,float8)")
def _make_timestamp(year: int, month: int, day: int, hour: int, minute: int, seconds: float) -> int:
    date = checked_date(year, month, day)
    if date is None:
        raise DatetimeFieldOverflow(f"date field value out of range: {year}-{month:02d}-{day:02d}")
    time = _make_time(hour, minute, seconds)
    result = date * USECS_PER_DAY + time
    if not is_valid_timestamp(result):
        shown = f"{year}-{month:02d}-{day:02d} {hour}:{minute:02d}:{_seconds_text(seconds)}"
        raise DatetimeFieldOverflow(f"timestamp out of range: {shown}")
    return result


@implements("make_timestamptz(int4,int4,int4,int4,int4,float8)", context=True)
def _make_timestamptz(
    context: ExecutionContext,
    year: int,
    month: int,
    day: int,
    hour: int,
    minute: int,
    seconds: float,
) -> int:
    return to_utc(_make_timestamp(year, month, day, hour, minute, seconds), session_zone(context))


@implements("make_timestamptz(int4,int4,int4,int4,int4,float8,text)")
def _make_timestamptz_at(
    year: int, month: int, day: int, hour: int, minute: int, seconds: float, zone: str
) -> int:
    return to_utc(_make_timestamp(year, month, day, hour, minute, seconds), named_zone(zone))


@implements("to_timestamp(float8)")
def _from_unix(seconds: float) -> int:
    if seconds != seconds:  # noqa: PLR0124
        raise DatetimeFieldOverflow("timestamp cannot be NaN")
    if math.isinf(seconds):
        return TIMESTAMP_INFINITY if seconds > 0 else TIMESTAMP_MINUS_INFINITY
    if abs(seconds) > TIMESTAMP_END:
        raise DatetimeFieldOverflow(f'timestamp out of range: "{seconds:g}"')
    result = round((seconds + UNIX_EPOCH_USECS / USECS_PER_SECOND) * USECS_PER_SECOND)
    if not is_valid_timestamp(result):
        raise DatetimeFieldOverflow(f'timestamp out of range: "{seconds:g}"')
    return result


def _interval_zone(span: Interval) -> Zone:
    if span[0] or span[1]:
        raise InvalidParameterValue(
            f'interval time zone "{interval_text(span)}" must not include months or days'
        )
    return fixed_zone(int(span[2] / USECS_PER_SECOND))


@implements("timezone(text,timestamptz)")
def _at_zone(zone: str, instant: int) -> int:
    return to_local(instant, named_zone(zone))


@implements("timezone(text,timestamp)")
def _in_zone(zone: str, local: int) -> int:
    return to_utc(local, named_zone(zone))


@implements("timezone(interval,timestamptz)")
def _at_offset(span: Interval, instant: int) -> int:
    return to_local(instant, _interval_zone(span))


@implements("timezone(interval,timestamp)")
def _in_offset(span: Interval, local: int) -> int:
    return to_utc(local, _interval_zone(span))


def _move_timetz(time: TimeTz, offset: int) -> TimeTz:
    return (time[0] + (time[1] + offset) * USECS_PER_SECOND) % USECS_PER_DAY, -offset


@implements("timezone(text,timetz)", context=True)
def _timetz_at_zone(context: ExecutionContext, zone: str, time: TimeTz) -> TimeTz:
    return _move_timetz(time, named_zone(zone).offset_at_utc(context.transaction_timestamp))


@implements("timezone(interval,timetz)")
def _timetz_at_offset(span: Interval, time: TimeTz) -> TimeTz:
    return _move_timetz(time, _interval_zone(span).offset_at_utc(0))


@implements("now()", "transaction_timestamp()", context=True)
def _now(context: ExecutionContext) -> int:
    return context.transaction_timestamp


@implements("statement_timestamp()", context=True)
def _statement_timestamp(context: ExecutionContext) -> int:
    return context.statement_timestamp


@implements("clock_timestamp()", context=True)
def _clock_timestamp(context: ExecutionContext) -> int:
    return context.clock()


_DAY_NAMES: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]


@implements("timeofday()", context=True)
def _time_of_day(context: ExecutionContext) -> str:
    zone = session_zone(context)
    instant = context.clock()
    local = to_local(instant, zone)
    year, month, day, hour, minute, second, micros = timestamp_to_fields(local)
    weekday = _DAY_NAMES[day_of_week(local // USECS_PER_DAY)]
    return (
        f"{weekday} {_MONTHS[month - 1]} {day:02d} {hour:02d}:{minute:02d}:{second:02d}.{micros:06d}"  # noqa: E501
        f" {year} {zone.abbreviation_at_utc(instant)}"
    )


def _overlap(
    start_a: int | None, end_a: int | None, start_b: int | None, end_b: int | None
) -> bool | None:
    """OVERLAPS of the SQL standard: half-open periods.

    A NULL end known only where it cannot matter.
    """
    if start_a is None:
        start_a, end_a = end_a, None
    elif end_a is not None and end_a < start_a:
        start_a, end_a = end_a, start_a
    if start_b is None:
        start_b, end_b = end_b, None
    elif end_b is not None and end_b < start_b:
        start_b, end_b = end_b, start_b
    if start_a is None or start_b is None:
        return None
    if start_a == start_b:
        return None if end_a is None or end_b is None else True
    if start_a < start_b:
        return _starts_inside(start_b, end_a, end_b)
    return _starts_inside(start_a, end_b, end_a)


def _starts_inside(later: int, earlier_end: int | None, later_end: int | None) -> bool | None:
    if earlier_end is None:
        return None
    if later < earlier_end:
        return True
    return None if later_end is None else False


def _register_overlaps(name: str, plus: Callable[[int, Interval], int]) -> None:
    def end(start: int | None, span: Interval | None) -> int | None:
        return None if start is None or span is None else plus(start, span)

    register(f"overlaps({name},{name},{name},{name})", _overlap)
    register(
        f"overlaps({name},interval,{name},interval)",
        lambda a, b, c, d: _overlap(a, end(a, b), c, end(c, d)),
    )
    register(
        f"overlaps({name},{name},{name},interval)",
        lambda a, b, c, d: _overlap(a, b, c, end(c, d)),
    )
    register(
        f"overlaps({name},interval,{name},{name})",
        lambda a, b, c, d: _overlap(a, end(a, b), c, d),
    )


_register_overlaps("timestamp", add_interval_to_timestamp)
_register_overlaps("time", _time_plus_interval)
register("overlaps(timestamptz,timestamptz,timestamptz,timestamptz)", _overlap)


@implements("overlaps(timestamptz,interval,timestamptz,interval)", context=True)
def _overlap_spans(
    context: ExecutionContext,
    a: int | None,
    b: Interval | None,
    c: int | None,
    d: Interval | None,
) -> bool | None:
    return _overlap(a, _end(context, a, b), c, _end(context, c, d))


@implements("overlaps(timestamptz,timestamptz,timestamptz,interval)", context=True)
def _overlap_right_span(
    context: ExecutionContext, a: int | None, b: int | None, c: int | None, d: Interval | None
) -> bool | None:
    return _overlap(a, b, c, _end(context, c, d))


@implements("overlaps(timestamptz,interval,timestamptz,timestamptz)", context=True)
def _overlap_left_span(
    context: ExecutionContext, a: int | None, b: Interval | None, c: int | None, d: int | None
) -> bool | None:
    return _overlap(a, _end(context, a, b), c, d)


def _end(context: ExecutionContext, start: int | None, span: Interval | None) -> int | None:
    return None if start is None or span is None else instant_plus_interval(context, start, span)


def _steps(
    start: int, stop: int, step: Interval, plus: Callable[[int, Interval], int]
) -> Iterator[int]:
    positive = _step_sign(step)
    current = start
    while current <= stop if positive > 0 else current >= stop:
        yield current
        if current in INFINITIES:
            return
        current = plus(current, step)


def _step_sign(step: Interval) -> int:
    span = (step[0] * 30 + step[1]) * USECS_PER_DAY + step[2]
    if span == 0:
        raise InvalidParameterValue("step size cannot equal zero")
    return 1 if span > 0 else -1


@implements("generate_series(timestamp,timestamp,interval)")
def _timestamp_series(start: int, stop: int, step: Interval) -> Iterator[int]:
    _step_sign(step)
    return _steps(start, stop, step, add_interval_to_timestamp)


@implements("generate_series(timestamptz,timestamptz,interval)", context=True)
def _instant_series(
    context: ExecutionContext, start: int, stop: int, step: Interval
) -> Iterator[int]:
    _step_sign(step)
    zone = session_zone(context)
    return _steps(
        start, stop, step, lambda value, span: add_interval_to_timestamptz(value, span, zone)
    )
