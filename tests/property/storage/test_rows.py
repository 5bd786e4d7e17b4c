"""Stored rows come back exactly: types, scales, signs, nulls; older and newer versions too."""

import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodedb.storage.row_codec import row_codec
from sql.types import catalog
from sql.types.array import ArrayValue

DATUMS = {
    catalog.BOOL: st.booleans(),
    catalog.INT8: st.integers(-(1 << 63), (1 << 63) - 1),
    catalog.FLOAT8: st.floats(),
    catalog.NUMERIC: st.decimals(allow_nan=False),
    catalog.TEXT: st.text(st.characters(exclude_categories=["Cs"])),
    catalog.BYTEA: st.binary(),
    catalog.UUID: st.binary(min_size=16, max_size=16),
    catalog.TIMETZ: st.tuples(st.integers(0, 86_400_000_000), st.integers(-60_000, 60_000)),
    catalog.INTERVAL: st.tuples(*[st.integers(-(1 << 31), (1 << 31) - 1)] * 3),
    catalog.JSONB: st.sampled_from(["null", '{"a": [1, 2]}']),
    catalog.TEXT.array: st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=3).map(
        lambda items: ArrayValue(tuple(items))
    ),
    catalog.NUMERIC.array: st.builds(
        lambda items: ArrayValue(tuple(items), (2, 1), (0, -5)),
        st.lists(st.one_of(st.none(), st.decimals(allow_nan=False)), min_size=2, max_size=2),
    ),
}


def signature(datum):
    """What must be the same beyond equality."""
    if isinstance(datum, ArrayValue):
        return [signature(item) for item in datum.elements], datum.dims, datum.lower_bounds
    if isinstance(datum, tuple):
        return tuple(signature(item) for item in datum)
    if isinstance(datum, float):
        return "float", "nan" if math.isnan(datum) else (datum, math.copysign(1, datum))
    if isinstance(datum, Decimal):
        return datum.as_tuple()
    return type(datum), datum


@st.composite
def versions(draw):
    types = draw(st.lists(st.sampled_from(list(DATUMS)), min_size=1, max_size=6))
    row = tuple(draw(st.one_of(st.none(), DATUMS[sql_type])) for sql_type in types)
    defaults = tuple(draw(st.one_of(st.none(), DATUMS[sql_type])) for sql_type in types)
    return types, row, defaults, draw(st.integers(0, len(types)))


@settings(max_examples=400, deadline=None)
@given(versions())
def test_round_trip_and_versions(case):
    types, row, defaults, old_count = case
    codec = row_codec(types, defaults)
    stored = codec.encode(row)
    assert signature(codec.decode(stored)) == signature(row)
    old = row_codec(types[:old_count], defaults[:old_count])
    old_row = row[:old_count]
    upgraded = old_row + defaults[old_count:]
    old_stored = old.encode(old_row)
    assert signature(codec.decode(old_stored)) == signature(upgraded)
    assert signature(old.decode(stored)) == signature(old_row)
    decode = codec.batch_decoder(None)
    assert signature(decode([stored], 0)[0]) == signature(row)
    assert signature(decode([b"head" + stored], 4)[0]) == signature(row)
    assert [signature(item) for item in decode([stored, old_stored], 0)] == [
        signature(row),
        signature(upgraded),
    ]


@settings(max_examples=200, deadline=None)
@given(versions(), st.sets(st.integers(0, 5)))
def test_a_batch_decodes_at_least_the_columns_asked_for(case, columns):
    types, row, defaults, old_count = case
    codec = row_codec(types, defaults)
    wanted = frozenset(n for n in columns if n < len(types))
    old_stored = row_codec(types[:old_count], defaults[:old_count]).encode(row[:old_count])
    upgraded = row[:old_count] + defaults[old_count:]
    decode = codec.batch_decoder(wanted)
    for values, expected in (
        ([codec.encode(row)], [row]),
        ([codec.encode(row), old_stored], [row, upgraded]),
    ):
        found = decode(values, 0)
        assert len(found) == len(expected)
        for got, whole in zip(found, expected, strict=True):
            assert len(got) == len(types)
            for n in wanted:
                assert signature(got[n]) == signature(whole[n])


def test_numeric_specials_keep_their_kind():
    codec = row_codec([catalog.NUMERIC] * 3, [None] * 3)
    row = codec.decode(codec.encode((Decimal("NaN"), Decimal("-Infinity"), Decimal("-0.00"))))
    assert [str(item) for item in row] == ["NaN", "-Infinity", "-0.00"]


@pytest.mark.parametrize("types", [[catalog.INT4], [catalog.INT4, catalog.NUMERIC]])
def test_plain_rows_are_messagepack_arrays(types):
    codec = row_codec(types, [None] * len(types))
    row = (5, Decimal("1.50"))[: len(types)]
    assert codec.encode(row) == (b"\x91\x05" if len(types) == 1 else b"\x92\x05\xa41.50")
