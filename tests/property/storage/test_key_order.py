"""Byte order of keys is the order of their datums, for every type, direction and null placement.

The order itself comes from ``sql.types.compare``, which is compared with PostgreSQL elsewhere.
"""

import functools
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodedb.storage.key_codec import (
    KeyColumn,
    is_decodable,
    is_key_type,
    key_decoder,
    key_encoder,
    prefix_encoder,
    prefix_end,
)
from sql.types import catalog
from sql.types.array import ArrayValue
from sql.types.compare import compare

INT64 = st.one_of(st.integers(-3, 3), st.integers(-(1 << 63), (1 << 63) - 1))
INT32 = st.one_of(st.integers(-3, 3), st.integers(-(1 << 31), (1 << 31) - 1))
TEXT = st.one_of(
    st.text(alphabet="\x01a b\x7f\x80\u07ff\uffff\U00010000", max_size=4),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
)
FINITE = st.builds(
    lambda digits, exponent, negative: Decimal((negative, digits, exponent)),
    st.one_of(
        st.lists(st.integers(0, 9), min_size=1, max_size=4),
        st.lists(st.integers(0, 9), min_size=60, max_size=70),
    ).map(tuple),
    st.one_of(st.integers(-5, 5), st.integers(-16383, 131000)),
    st.integers(0, 1),
)
NUMERIC = st.one_of(FINITE, st.sampled_from(["NaN", "Infinity", "-Infinity", "0.00"]).map(Decimal))


@st.composite
def arrays(draw, elements):
    dims = draw(st.lists(st.integers(1, 2), max_size=2))
    size = functools.reduce(int.__mul__, dims, 1) if dims else 0
    items = draw(st.lists(st.one_of(st.none(), elements), min_size=size, max_size=size))
    bounds = draw(st.lists(st.integers(-1, 2), min_size=len(dims), max_size=len(dims)))
    return ArrayValue(tuple(items), tuple(dims), tuple(bounds))


JSON_TEXTS = [
    "null", "true", "false", "0", "-1", "1", "1.0", "1e3", '""', '"a"', '"aa"', '"b"', "[]", "{}",
    "[null]", "[[]]", "[{}]", "[1]", "[1, 2]", "[true]", '["a"]', '["a", null]', "[[1], 2]",
    '{"a": 1}', '{"a": 2}', '{"b": 1}', '{"aa": 1}', '{"b": 1, "aa": 1}', '{"b": 1, "ab": 0}',
    '{"a": {"b": [1]}}', '{"a": {"b": [1, 2]}}', '{"a": {}}', '{"a": []}', '["\\u00e9"]',
]  # fmt: skip

DATUMS = {
    catalog.BOOL: st.booleans(),
    catalog.INT2: st.integers(-(1 << 15), (1 << 15) - 1),
    catalog.INT4: INT32,
    catalog.INT8: INT64,
    catalog.OID: st.integers(0, (1 << 32) - 1),
    catalog.FLOAT4: st.floats(width=32),
    catalog.FLOAT8: st.floats(),
    catalog.NUMERIC: NUMERIC,
    catalog.TEXT: TEXT,
    catalog.VARCHAR: TEXT,
    catalog.NAME: TEXT,
    catalog.BPCHAR: st.text(alphabet="a \x01b", max_size=4),
    catalog.CHAR: st.text(alphabet="ab\x01", max_size=1),
    catalog.BYTEA: st.binary(max_size=5),
    catalog.DATE: INT32,
    catalog.TIME: st.integers(0, 86_400_000_000),
    catalog.TIMESTAMP: INT64,
    catalog.TIMESTAMPTZ: INT64,
    catalog.TIMETZ: st.tuples(
        st.sampled_from([0, 3_600_000_000, 86_400_000_000]), st.sampled_from([-3600, 0, 3600])
    ),
    catalog.INTERVAL: st.one_of(
        st.tuples(
            st.integers(-2, 2), st.integers(-60, 60), st.sampled_from([0, 1, -86_400_000_000])
        ),
        st.tuples(INT32, INT32, INT64),
    ),
    catalog.UUID: st.binary(min_size=16, max_size=16),
    catalog.JSONB: st.sampled_from(JSON_TEXTS),
    catalog.INT4.array: arrays(st.integers(-2, 2)),
    catalog.TEXT.array: arrays(st.text(alphabet="a\x01", max_size=2)),
    catalog.NUMERIC.array: arrays(st.sampled_from(["1", "1.0", "2", "NaN"]).map(Decimal)),
}
TYPES = list(DATUMS)


def order(left, right):
    return (left > right) - (left < right)


def compare_column(column, left, right):
    """PostgreSQL's order of one column: nulls by their own rule, values by direction."""
    if left is None or right is None:
        result = order(left is None, right is None)
        return -result if column.nulls_first else result
    result = compare(column.type)(left, right)
    return -result if column.descending else result


@pytest.mark.parametrize("sql_type", TYPES, ids=lambda sql_type: sql_type.name)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_one_column(sql_type, data):
    datums = st.one_of(st.none(), DATUMS[sql_type])
    left, right = data.draw(datums), data.draw(datums)
    for descending in (False, True):
        for nulls_first in (False, True):
            column = KeyColumn(sql_type, descending, nulls_first)
            encode = key_encoder([column], b"\x05")
            expected = compare_column(column, left, right)
            assert order(encode((left,)), encode((right,))) == expected, column
        if left is not None and right is not None:
            column = KeyColumn(sql_type, descending, nullable=False)
            encode = key_encoder([column])
            assert order(encode((left,)), encode((right,))) == expected, column


COLUMNS = st.builds(KeyColumn, st.sampled_from(TYPES), st.booleans(), st.booleans(), st.booleans())


@st.composite
def columns_and_rows(draw):
    columns = draw(st.lists(COLUMNS, min_size=1, max_size=3))
    row = st.tuples(
        *(
            st.one_of(st.none(), DATUMS[column.type]) if column.nullable else DATUMS[column.type]
            for column in columns
        )
    )
    left = draw(row)
    right = draw(row)
    # Often equal in front, so that later columns decide.
    shared = draw(st.integers(0, len(columns)))
    return columns, left, left[:shared] + right[shared:]


@settings(max_examples=400, deadline=None)
@given(columns_and_rows())
def test_composite_keys(case):
    columns, left, right = case
    encode = key_encoder(columns, b"table")
    compared = (compare_column(*item) for item in zip(columns, left, right, strict=True))
    expected = next((result for result in compared if result), 0)
    left_key, right_key = encode(left), encode(right)
    assert order(left_key, right_key) == expected
    for count in range(len(columns) + 1):
        start = prefix_encoder(columns, count, b"table")(left[:count])
        is_inside = start <= right_key < prefix_end(start)
        is_equal = all(
            compare_column(*item) == 0
            for item in list(zip(columns, left, right, strict=True))[:count]
        )
        assert is_inside == is_equal
    if all(is_decodable(column.type) for column in columns):
        assert key_decoder(columns, 5)(left_key) == left


def test_pairs_of_jsonb_in_postgresql_order():
    """As PostgreSQL 15 sorts them; an empty array comes before a scalar."""
    ordered = [
        "[]", "null", '"a"', "1", "false", "true", "[null]", '["a"]', "[1]", "[true]", "[[]]",
        "[{}]", "[1, 2]", "{}", '{"a": 1}', '{"b": 1}', '{"a": 1, "b": 2}',
    ]  # fmt: skip
    encode = key_encoder([KeyColumn(catalog.JSONB)])
    keys = [encode((text,)) for text in ordered]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("sql_type", "left", "right"),
    [
        (catalog.NUMERIC, Decimal("1.0"), Decimal("1.00")),
        (catalog.NUMERIC, Decimal("0"), Decimal("-0.000")),
        (catalog.NUMERIC, Decimal("1E+3"), Decimal("1000.0")),
        (catalog.FLOAT8, 0.0, -0.0),
        (catalog.FLOAT8, float("nan"), -float("nan")),
        (catalog.BPCHAR, "a  ", "a"),
        (catalog.INTERVAL, (1, 0, 0), (0, 30, 0)),
        (catalog.JSONB, '{"a": 1.0}', '{"a": 1}'),
    ],
)
def test_equal_values_have_equal_keys(sql_type, left, right):
    encode = key_encoder([KeyColumn(sql_type)])
    assert encode((left,)) == encode((right,))


def test_numeric_is_exact_at_any_precision():
    encode = key_encoder([KeyColumn(catalog.NUMERIC)])
    stem = "7" * 5000
    keys = [encode((Decimal(f"{stem}.{tail}"),)) for tail in ("1", "10000001", "2")]
    assert keys == sorted(keys)
    assert len(set(keys)) == 3


def test_shape_of_an_integer_key():
    encode = key_encoder([KeyColumn(catalog.INT4, nullable=False)], b"\x00\x07")
    assert encode((5,)) == b"\x00\x07\x80\x00\x00\x00\x00\x00\x00\x05"
    assert encode((-1,)) == b"\x00\x07\x7f\xff\xff\xff\xff\xff\xff\xff"


def test_wrong_number_of_values():
    for columns in ([], [KeyColumn(catalog.INT4)], [KeyColumn(catalog.INT4)] * 2):
        with pytest.raises(ValueError, match="values to unpack"):
            key_encoder(columns)((1, 2, 3))


def test_types_without_an_order():
    assert not is_key_type(catalog.JSON)
    assert not is_key_type(catalog.JSON.array)
    assert is_key_type(catalog.JSONB.array)
    with pytest.raises(AssertionError):
        key_encoder([KeyColumn(catalog.JSON)])


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=3), st.binary(max_size=6))
@example(b"a\xff", b"", b"b")
def test_prefix_end(prefix, tail, other):
    prefix = b"\x01" + prefix
    assert prefix <= prefix + tail < prefix_end(prefix)
    assert (prefix <= other < prefix_end(prefix)) == other.startswith(prefix)
