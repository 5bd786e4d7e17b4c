"""Text and binary forms read back as the value they were written from."""

import json
import math
import struct
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from sql.types import calendar
from sql.types import catalog as c
from sql.types.array import ArrayValue
from sql.types.io import FormatContext, binary_input, binary_output, text_input, text_output
from sql.types.json import jsonb_in
from sql.types.timezone import session_zone

STYLES = [
    FormatContext(date_style=style, interval_style=interval, time_zone=zone)
    for style, interval, zone in (
        ("ISO, MDY", "postgres", "UTC"),
        ("ISO, DMY", "iso_8601", "Asia/Kolkata"),
        ("German, DMY", "postgres_verbose", "UTC"),
    )
]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
MICROS = st.integers(calendar.TIMESTAMP_MIN, calendar.TIMESTAMP_END - 1)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
# The least int32 has no positive twin: PostgreSQL does not read back its own "... ago" either.
SMALLER = st.integers(1 - (1 << 31), (1 << 31) - 1)
VALUES = st.one_of(
    st.tuples(st.just(c.BOOL), st.booleans()),
    st.tuples(st.just(c.INT2), st.integers(-(1 << 15), (1 << 15) - 1)),
    st.tuples(st.just(c.INT4), INT32),
    st.tuples(st.just(c.INT8), st.integers(-(1 << 63), (1 << 63) - 1)),
    st.tuples(st.just(c.FLOAT8), st.floats(allow_nan=False)),
    st.tuples(st.just(c.FLOAT4), st.floats(width=32, allow_nan=False)),
    st.tuples(
        st.just(c.NUMERIC),
        st.decimals(allow_nan=False, allow_infinity=False, places=7) | st.just(Decimal("1E-30")),
    ),
    st.tuples(st.just(c.TEXT), TEXT),
    st.tuples(st.just(c.BYTEA), st.binary(max_size=20)),
    st.tuples(st.just(c.UUID), st.binary(min_size=16, max_size=16)),
    st.tuples(st.just(c.DATE), st.integers(calendar.DATE_MIN, calendar.DATE_END - 1)),
    st.tuples(st.just(c.TIME), st.integers(0, calendar.USECS_PER_DAY)),
    st.tuples(
        st.just(c.TIMETZ),
        st.tuples(st.integers(0, calendar.USECS_PER_DAY), st.integers(-57599, 57599)),
    ),
    st.tuples(st.just(c.TIMESTAMP), MICROS),
    st.tuples(st.just(c.TIMESTAMPTZ), MICROS),
    st.tuples(st.just(c.INTERVAL), st.tuples(SMALLER, SMALLER, st.integers(-(1 << 62), 1 << 62))),
    st.tuples(
        st.just(c.TEXT.array),
        st.lists(TEXT | st.none(), min_size=1).map(
            lambda items: ArrayValue(tuple(items), (len(items),), (-3,))
        ),
    ),
)


@settings(max_examples=400, deadline=None)
@given(typed=VALUES, context=st.sampled_from(STYLES))
def test_values_survive_text_and_binary(typed, context):
    sql_type, value = typed
    text = text_output(sql_type, context)(value)
    again = text_input(sql_type, context)(text, -1)
    if sql_type is c.NUMERIC and not value:
        value = value.copy_abs()
    assert again == value, text
    data = binary_output(sql_type, context)(value)
    assert binary_input(sql_type, context)(data) == value


@settings(max_examples=200, deadline=None)
@given(st.integers(0, (1 << 32) - 1))
def test_every_float4_has_its_shortest_text(bits):
    value = struct.unpack("!f", struct.pack("!I", bits))[0]
    if math.isnan(value):
        return
    text = text_output(c.FLOAT4)(value)
    assert text_input(c.FLOAT4)(text, -1) == value
    assert len(text.lstrip("-")) <= 15


@settings(max_examples=200, deadline=None)
@given(st.integers(calendar.DATE_MIN, calendar.DATE_END))
def test_dates_are_continuous(days):
    year, month, day = calendar.date_to_ymd(days)
    assert calendar.ymd_to_date(year, month, day) == days
    assert 1 <= day <= calendar.days_in_month(year, month)
    later = calendar.date_to_ymd(days + 1)
    assert later > (year, month, day)


@settings(max_examples=200, deadline=None)
@given(MICROS, st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]))
def test_wall_clock_leads_back_or_to_standard_time(us, name):
    zone = session_zone(name)
    local = us + zone.offset_at_utc(us) * calendar.USECS_PER_SECOND
    back = local - zone.offset_at_local(local) * calendar.USECS_PER_SECOND
    assert 0 <= back - us <= 2 * calendar.USECS_PER_HOUR


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON, st.booleans())
def test_jsonb_is_canonical_and_keeps_the_value(tree, ascii_only):
    text = json.dumps(tree, ensure_ascii=ascii_only)
    canonical = jsonb_in(text)
    assert json.loads(canonical) == tree
    assert jsonb_in(canonical) == canonical
