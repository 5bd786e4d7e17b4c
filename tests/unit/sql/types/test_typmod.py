"""Modifiers: encoding, names, and what casts and assignments do to a value."""

from decimal import Decimal

import pytest

from sql.errors import (
    InvalidParameterValue,
    NumericValueOutOfRange,
    SqlSyntaxError,
    StringDataRightTruncation,
)
from sql.types import catalog as c
from sql.types.array import ArrayValue
from sql.types.typmod import apply_typmod, format_type, typmod_in

DAY_TO_SECOND = ("day", "to", "second")


@pytest.mark.parametrize(
    ("sql_type", "modifiers", "fields", "typmod", "name"),
    [
        (c.VARCHAR, (3,), (), 7, "character varying(3)"),
        (c.BPCHAR, (3,), (), 7, "character(3)"),
        (c.NUMERIC, (10, 2), (), 655366, "numeric(10,2)"),
        (c.NUMERIC, (4,), (), 262148, "numeric(4,0)"),
        (c.NUMERIC, (4, -2), (), 264194, "numeric(4,-2)"),
        (c.TIMESTAMP, (9,), (), 6, "timestamp(6) without time zone"),
        (c.TIMESTAMPTZ, (2,), (), 2, "timestamp(2) with time zone"),
        (c.TIMETZ, (3,), (), 3, "time(3) with time zone"),
        (c.INTERVAL, (3,), (), 2147418115, "interval(3)"),
        (c.INTERVAL, (2,), DAY_TO_SECOND, 470286338, "interval day to second(2)"),
        (c.INTERVAL, (), ("year",), 327679, "interval year"),
        (c.VARCHAR.array, (5,), (), 9, "character varying(5)[]"),
        (c.INT4, (), (), -1, "integer"),
        (c.BPCHAR, (), (), -1, "bpchar"),
    ],
)
def test_typmods_are_postgresqls(sql_type, modifiers, fields, typmod, name) -> None:
    assert typmod_in(sql_type, modifiers, fields) == typmod
    assert format_type(sql_type, typmod) == name


def test_null_typmod_names_the_sql_type() -> None:
    assert format_type(c.BPCHAR) == "character"
    assert format_type(c.INT2VECTOR) == "int2vector"
    assert format_type(c.CHAR) == '"char"'
    assert format_type(c.FLOAT8.array) == "double precision[]"


@pytest.mark.parametrize(
    ("sql_type", "modifiers", "message"),
    [
        (c.VARCHAR, (0,), "length for type varchar must be at least 1"),
        (c.VARCHAR, (10485761,), "length for type varchar cannot exceed 10485760"),
        (c.BPCHAR, (0,), "length for type char must be at least 1"),
        (c.NUMERIC, (0,), "NUMERIC precision 0 must be between 1 and 1000"),
        (c.NUMERIC, (5, 1001), "NUMERIC scale 1001 must be between -1000 and 1000"),
        (c.NUMERIC, (1, 2, 3), "invalid NUMERIC type modifier"),
    ],
)
def test_bad_modifiers(sql_type, modifiers, message) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        typmod_in(sql_type, modifiers)
    assert caught.value.message == message


def test_types_without_modifiers_take_none() -> None:
    with pytest.raises(SqlSyntaxError, match='type modifier is not allowed for type "int4"'):
        typmod_in(c.INT4, (3,))


def test_assignment_forgives_blanks_only_and_casts_cut() -> None:
    assert apply_typmod(c.VARCHAR, "abc   ", 7, explicit=False) == "abc"
    assert apply_typmod(c.VARCHAR, "abcdef", 7, explicit=True) == "abc"
    assert apply_typmod(c.BPCHAR, "a", 7, explicit=False) == "a  "
    assert apply_typmod(c.BPCHAR, "abcdef", 7, explicit=True) == "abc"
    assert apply_typmod(c.VARCHAR, None, 7, explicit=False) is None
    for sql_type, name in ((c.VARCHAR, "character varying"), (c.BPCHAR, "character")):
        with pytest.raises(StringDataRightTruncation) as caught:
            apply_typmod(sql_type, "abcd", 7, explicit=False)
        assert caught.value.message == f"value too long for type {name}(3)"


def test_numeric_overflow_explains_the_limit() -> None:
    typmod = typmod_in(c.NUMERIC, (5, 2))
    assert apply_typmod(c.NUMERIC, Decimal("1.005"), typmod, explicit=False) == Decimal("1.01")
    with pytest.raises(NumericValueOutOfRange) as caught:
        apply_typmod(c.NUMERIC, Decimal("999.995"), typmod, explicit=False)
    assert caught.value.message == "numeric field overflow"
    assert caught.value.detail == (
        "A field with precision 5, scale 2 must round to an absolute value less than 10^3."
    )


def test_arrays_are_fitted_by_element() -> None:
    value = apply_typmod(c.VARCHAR.array, ArrayValue(("abcd", None)), 7, explicit=True)
    assert value == ArrayValue(("abc", None))
