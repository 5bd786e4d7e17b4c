"""Columns of COPY: read as a whole or field by field, the datums and the errors are the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodedb.session.copy_columns import column_input
from sql.errors import SqlError
from sql.types.catalog import BPCHAR, INT2, INT4, NUMERIC, TEXT, VARCHAR
from sql.types.io import FormatContext, text_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.types.base import SqlType


def numeric(precision: int, scale: int) -> int:
    return (precision << 16 | scale & 0x7FF) + 4


COLUMNS = [
    (INT2, -1),
    (INT4, -1),
    (NUMERIC, -1),
    (NUMERIC, numeric(10, 2)),
    (NUMERIC, numeric(3, 0)),
    (NUMERIC, numeric(3, 3)),
    (NUMERIC, numeric(2, -1)),
    (NUMERIC, numeric(1, 3)),
    (BPCHAR, 9),
    (VARCHAR, 9),
    (TEXT, -1),
]
NUMBERS = st.from_regex(r"\A-?[0-9]{1,9}(\.[0-9]{0,4})?\Z")
FIELDS = st.one_of(
    NUMBERS,
    st.from_regex(r"\A-?[0-9]{1,4}\.[0-9]{2}\Z"),
    st.sampled_from(["", " 1", "1\n2", "1\n", "-0", "-0.00", "0.00", "NaN", "1e2", "x", "+5", "٣"]),
    st.none(),
)


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return [str(datum) for datum in read()]
    except SqlError as error:
        return error.sqlstate


@given(
    st.sampled_from(COLUMNS),
    st.one_of(st.lists(FIELDS, min_size=1, max_size=5), st.lists(NUMBERS, min_size=1, max_size=5)),
)
def test_a_whole_column_reads_as_its_fields_do(
    column: tuple[SqlType, int], values: list[str | None]
) -> None:
    sql_type, typmod = column
    convert = text_input(sql_type, FormatContext())

    def field(text: str) -> Any:
        return convert(text, typmod)

    described: Any = SimpleNamespace(type=sql_type, typmod=typmod)
    read = column_input(described, field)
    assert outcome(lambda: read(values)) == outcome(
        lambda: [None if value is None else field(value) for value in values]
    )


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ((INT4, -1), ["1", "22", "2147483647"]),
        ((NUMERIC, numeric(10, 2)), ["1.00", "-22.50", "12345678.99"]),
        ((NUMERIC, -1), ["1", "-22.5", "0.000001"]),
        ((BPCHAR, 9), ["a", "abcde", ""]),
    ],
)
def test_plain_columns_need_no_look_at_the_fields(
    column: tuple[SqlType, int], values: list[str]
) -> None:
    def field(text: str) -> Any:
        raise AssertionError(text)

    described: Any = SimpleNamespace(type=column[0], typmod=column[1])
    found = column_input(described, field)(values)
    assert [str(datum).rstrip() for datum in found] == values
