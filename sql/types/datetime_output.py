"""Writing dates, times and timestamps in the four ``DateStyle`` forms.

Source: PostgreSQL docs, "Date/Time Output".
"""

from functools import lru_cache
from typing import Final

from sql.types.base import (
    DATE_INFINITY,
    DATE_MINUS_INFINITY,
    TIMESTAMP_INFINITY,
    TIMESTAMP_MINUS_INFINITY,
)
from sql.types.calendar import (
    USECS_PER_DAY,
    USECS_PER_SECOND,
    date_to_ymd,
    day_of_week,
)
from sql.types.timezone import Zone

_DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MONTHS: Final = (
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
)


@lru_cache(maxsize=8192)
def _iso_date(days: int) -> str:
    year, month, day = date_to_ymd(days)
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}"


def date_text(days: int, style: str = "ISO", order: str = "MDY") -> str:
    """Write a date; ``style`` is ISO, SQL, POSTGRES or GERMAN."""
    if days == DATE_INFINITY:
        return "infinity"
    if days == DATE_MINUS_INFINITY:
        return "-infinity"
    year, month, day = date_to_ymd(days)
    era = " BC" if year <= 0 else ""
    if style == "ISO":
        return _iso_date(days) + era
    shown = year if year > 0 else 1 - year
    if style == "GERMAN":
        return f"{day:02d}.{month:02d}.{shown:04d}{era}"
    separator = "/" if style == "SQL" else "-"
    first, second = (day, month) if order == "DMY" else (month, day)
    return f"{first:02d}{separator}{second:02d}{separator}{shown:04d}{era}"


def clock_text(us: int) -> str:
    """Write microseconds of a day as ``hh:mm:ss[.ffffff]`` without trailing zeros."""
    seconds, micros = divmod(us, USECS_PER_SECOND)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    if micros:
        return f"{hour:02d}:{minute:02d}:{second:02d}." + f"{micros:06d}".rstrip("0")
    return f"{hour:02d}:{minute:02d}:{second:02d}"


def offset_text(seconds_east: int) -> str:
    """Write a displacement as ``+01``, ``-03:30`` or ``+00:53:28``."""
    sign = "-" if seconds_east < 0 else "+"
    minutes, second = divmod(abs(seconds_east), 60)
    hour, minute = divmod(minutes, 60)
    if second:
        return f"{sign}{hour:02d}:{minute:02d}:{second:02d}"
    return f"{sign}{hour:02d}:{minute:02d}" if minute else f"{sign}{hour:02d}"


def timetz_text(value: tuple[int, int]) -> str:
    """Write ``hh:mm:ss+zz``; the datum counts the zone west."""
    return clock_text(value[0]) + offset_text(-value[1])


def timestamp_text(us: int, style: str = "ISO", order: str = "MDY") -> str:
    """Write a timestamp without time zone."""
    if us == TIMESTAMP_INFINITY:
        return "infinity"
    if us == TIMESTAMP_MINUS_INFINITY:
        return "-infinity"
    days, time = divmod(us, USECS_PER_DAY)
    if style == "ISO" and days > -700_000:
        return f"{_iso_date(days)} {clock_text(time)}"
    return _styled(days, time, style, order, "", "")


def timestamptz_text(us: int, zone: Zone, style: str = "ISO", order: str = "MDY") -> str:
    """Write a timestamp with time zone as the wall clock of ``zone`` shows it."""
    if us == TIMESTAMP_INFINITY:
        return "infinity"
    if us == TIMESTAMP_MINUS_INFINITY:
        return "-infinity"
    offset = zone.offset_at_utc(us)
    days, time = divmod(us + offset * USECS_PER_SECOND, USECS_PER_DAY)
    shown = offset_text(offset)
    if style == "ISO" and days > -700_000:
        return f"{_iso_date(days)} {clock_text(time)}{shown}"
    return _styled(days, time, style, order, shown, zone.abbreviation_at_utc(us))


def _styled(days: int, time: int, style: str, order: str, offset: str, abbreviation: str) -> str:
    year, month, day = date_to_ymd(days)
    era = " BC" if year <= 0 else ""
    clock = clock_text(time)
    named = f" {abbreviation}" if abbreviation else (" " + offset if offset else "")
    if style == "ISO":
        return f"{_iso_date(days)} {clock}{offset}{era}"
    if style in ("SQL", "GERMAN"):
        return f"{date_text(days, style, order).removesuffix(' BC')} {clock}{named}{era}"
    shown = year if year > 0 else 1 - year
    name = _MONTHS[month - 1]
    middle = f"{day:02d} {name}" if order == "DMY" else f"{name} {day:02d}"
    return f"{_DAYS[day_of_week(days)]} {middle} {clock} {shown:04d}{named}{era}"
