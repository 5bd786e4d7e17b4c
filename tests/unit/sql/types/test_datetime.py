"""Zones, and arithmetic with intervals, as PostgreSQL does them."""

import pytest

from sql.errors import DatetimeFieldOverflow, InvalidParameterValue
from sql.types import catalog as c
from sql.types import datetime as dt
from sql.types.base import TIMESTAMP_INFINITY
from sql.types.io import FormatContext, text_input, text_output

NEW_YORK = FormatContext(time_zone="America/New_York")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("utc", "UTC"),
        ("america/new_york", "America/New_York"),
        ("-5", "<-05>+05"),
        ("5.5", "<+05:30>-05:30"),
        ("<+05:30>-05:30", "<+05:30>-05:30"),
        ("EST5EDT", "EST5EDT"),
        ("UTC+3", "UTC+3"),
    ],
)
def test_time_zone_settings_have_canonical_names(name, canonical) -> None:
    assert dt.validate_time_zone(name) == canonical


@pytest.mark.parametrize("name", ["PST", "foo", "", "Nowhere/X", "10000", "../etc"])
def test_unknown_time_zones_are_refused(name) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        dt.validate_time_zone(name)
    assert caught.value.message == f'invalid value for parameter "TimeZone": "{name}"'


def test_at_time_zone_takes_abbreviations_first() -> None:
    noon = dt.timestamp_from_fields(2024, 7, 1, 12)
    assert dt.utc_to_local(noon, "PST") - noon == -8 * dt.USECS_PER_HOUR
    assert dt.local_to_utc(noon, "America/New_York") - noon == 4 * dt.USECS_PER_HOUR
    assert dt.zone_offset_seconds(noon, "Asia/Kolkata") == 19_800
    with pytest.raises(InvalidParameterValue, match='time zone "foo/bar" not recognized'):
        dt.utc_to_local(noon, "foo/bar")


def test_skipped_and_repeated_hours_are_standard_time() -> None:
    skipped = dt.timestamp_from_fields(2024, 3, 10, 2, 30)
    repeated = dt.timestamp_from_fields(2024, 11, 3, 1, 30)
    for wall in (skipped, repeated):
        assert dt.local_to_utc(wall, "America/New_York") == wall + 5 * dt.USECS_PER_HOUR


@pytest.mark.parametrize(
    ("start", "interval", "expected"),
    [
        ("2024-01-31 12:00", "1 mon", "2024-02-29 12:00:00-05"),
        ("2024-03-09 02:30", "1 day", "2024-03-10 03:30:00-04"),
        ("2024-03-09 02:30", "24 hours", "2024-03-10 03:30:00-04"),
        ("2024-03-09 12:00", "1 day", "2024-03-10 12:00:00-04"),
        ("2024-03-09 12:00", "24 hours", "2024-03-10 13:00:00-04"),
        ("2024-03-31 00:00", "-1 mon", "2024-02-29 00:00:00-05"),
        ("0001-01-31 00:00 BC", "1 year", "0001-01-31 00:00:00-04:56:02"),
        ("infinity", "1 day", "infinity"),
    ],
)
def test_adding_intervals_on_the_wall_clock(start, interval, expected) -> None:
    us = text_input(c.TIMESTAMPTZ, NEW_YORK)(start, -1)
    step = text_input(c.INTERVAL, NEW_YORK)(interval, -1)
    result = dt.add_interval_to_timestamptz(us, step, "America/New_York")
    assert text_output(c.TIMESTAMPTZ, NEW_YORK)(result) == expected


def test_adding_beyond_the_range_is_refused() -> None:
    last = dt.TIMESTAMP_END - 1
    with pytest.raises(DatetimeFieldOverflow, match="timestamp out of range"):
        dt.add_interval_to_timestamp(last, (0, 0, 1))
    assert dt.add_interval_to_timestamp(TIMESTAMP_INFINITY, (1, 1, 1)) == TIMESTAMP_INFINITY


def test_comparison_takes_thirty_day_months() -> None:
    assert dt.interval_span((1, 0, 0)) == dt.interval_span((0, 30, 0))
    assert dt.interval_span((0, 1, 0)) == dt.interval_span((0, 0, dt.USECS_PER_DAY))


def test_calendar_facts() -> None:
    assert dt.date_to_ymd(0) == (2000, 1, 1)
    assert dt.ymd_to_date(-4713, 11, 24) == dt.DATE_MIN
    assert dt.day_of_week(0) == 6
    assert dt.day_of_year(dt.ymd_to_date(2024, 12, 31)) == 366
    assert dt.iso_year_and_week(dt.ymd_to_date(2021, 1, 3)) == (2020, 53)
    assert dt.date_to_ymd(dt.iso_week_to_date(2021, 1)) == (2021, 1, 4)
    fields = (2024, 2, 29, 23, 59, 58, 7)
    assert dt.timestamp_to_fields(dt.timestamp_from_fields(*fields)) == fields
