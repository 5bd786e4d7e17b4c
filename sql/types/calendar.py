"""Calendar arithmetic in whole numbers: the proleptic Gregorian calendar over PostgreSQL's range.

Days count from 2000-01-01, timestamps are microseconds from that day's midnight. Years are
astronomical: year 0 is 1 BC, year -1 is 2 BC. Nothing here knows text or time zones.

Source: PostgreSQL docs, "Date/Time Types", "Julian Dates".
"""

from functools import lru_cache
from typing import Final

USECS_PER_SECOND: Final = 1_000_000
USECS_PER_MINUTE: Final = 60 * USECS_PER_SECOND
USECS_PER_HOUR: Final = 60 * USECS_PER_MINUTE
USECS_PER_DAY: Final = 24 * USECS_PER_HOUR

POSTGRES_EPOCH_JULIAN_DAY: Final = 2_451_545
UNIX_EPOCH_DAYS: Final = -10_957
UNIX_EPOCH_USECS: Final = UNIX_EPOCH_DAYS * USECS_PER_DAY

DATE_MIN: Final = -2_451_545
DATE_END: Final = 2_145_031_949
TIMESTAMP_MIN: Final = -211_813_488_000_000_000
TIMESTAMP_END: Final = 9_223_371_331_200_000_000

_DAYS_BEFORE_2000: Final = 730_425  # days from 0000-03-01 to 2000-01-01
_DAYS_PER_ERA: Final = 146_097
_MONTH_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap_year(year: int) -> bool:
    """Tell whether February of ``year`` (astronomical) has 29 days."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in_month(year: int, month: int) -> int:
    """Return the number of days of a month, 1 to 12."""
    return 29 if month == 2 and is_leap_year(year) else _MONTH_DAYS[month - 1]


def ymd_to_date(year: int, month: int, day: int) -> int:
    """Return days since 2000-01-01. ``day`` may lie outside of its month and counts on."""
    if month <= 2:
        year -= 1
        month += 12
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _DAYS_PER_ERA + day_of_era - _DAYS_BEFORE_2000


@lru_cache(maxsize=8192)
def date_to_ymd(days: int) -> tuple[int, int, int]:
    """Return (astronomical year, month, day) of days since 2000-01-01."""
    era, day_of_era = divmod(days + _DAYS_BEFORE_2000, _DAYS_PER_ERA)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    return year, month, day


def timestamp_to_fields(us: int) -> tuple[int, int, int, int, int, int, int]:
    """Split into (astronomical year, month, day, hour, minute, second, microsecond)."""
    days, rest = divmod(us, USECS_PER_DAY)
    year, month, day = date_to_ymd(days)
    seconds, micros = divmod(rest, USECS_PER_SECOND)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return year, month, day, hour, minute, second, micros


def timestamp_from_fields(
    year: int,
    month: int,
    day: int,
    hour: int = 0,
    minute: int = 0,
    second: int = 0,
    micros: int = 0,
) -> int:
    """Join fields into microseconds since 2000-01-01; fields may overflow and carry."""
    seconds = (hour * 60 + minute) * 60 + second
    return ymd_to_date(year, month, day) * USECS_PER_DAY + seconds * USECS_PER_SECOND + micros


def is_valid_timestamp(us: int) -> bool:
    """Tell whether a finite timestamp is inside PostgreSQL's range."""
    return TIMESTAMP_MIN <= us < TIMESTAMP_END


def is_valid_date(days: int) -> bool:
    """Tell whether a finite date is inside PostgreSQL's range."""
    return DATE_MIN <= days < DATE_END


def day_of_week(days: int) -> int:
    """Return 0 (Sunday) to 6 (Saturday); 2000-01-01 was a Saturday."""
    return (days + 6) % 7


def day_of_year(days: int) -> int:
    """Return 1 to 366."""
    return days - ymd_to_date(date_to_ymd(days)[0], 1, 1) + 1


def iso_year_and_week(days: int) -> tuple[int, int]:
    """Return the ISO 8601 week-numbering year (astronomical) and week, 1 to 53."""
    thursday = days - (day_of_week(days) + 6) % 7 + 3
    year = date_to_ymd(thursday)[0]
    return year, (thursday - ymd_to_date(year, 1, 1)) // 7 + 1


def iso_week_to_date(year: int, week: int) -> int:
    """Return the Monday of an ISO week as days since 2000-01-01."""
    fourth = ymd_to_date(year, 1, 4)
    return fourth - (day_of_week(fourth) + 6) % 7 + (week - 1) * 7


def round_half_away(value: int, unit: int) -> int:
    """Round to a multiple of ``unit``, halves away from zero (how precision is applied)."""
    if value >= 0:
        return (value + unit // 2) // unit * unit
    return -((-value + unit // 2) // unit * unit)
