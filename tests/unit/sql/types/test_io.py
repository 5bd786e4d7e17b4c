"""What tables of literals cannot show: broken bytes, contexts, reg types, records."""

import pytest

from sql.errors import (
    CharacterNotInRepertoire,
    InternalError,
    InvalidBinaryRepresentation,
    InvalidDatetimeFormat,
    ProtocolViolation,
    SqlError,
    StatementTooComplex,
    UndefinedFunction,
    UndefinedObject,
)
from sql.types import catalog as c
from sql.types.array import ArrayValue
from sql.types.calendar import USECS_PER_HOUR, timestamp_from_fields
from sql.types.io import (
    FormatContext,
    binary_input,
    binary_output,
    text_input,
    text_output,
    wire_text_output,
)
from sql.types.record import RecordValue

NOW = timestamp_from_fields(2024, 3, 9, 23, 30)


def test_every_type_has_closures_in_all_directions() -> None:
    context = FormatContext()
    for sql_type in c.all_types():
        for make in (text_input, text_output, wire_text_output):
            assert callable(make(sql_type, context))
            assert make(sql_type, context) is make(sql_type, context)
        for make in (binary_input, binary_output):
            assert callable(make(sql_type, context))


@pytest.mark.parametrize(
    ("sql_type", "data", "error", "message"),
    [
        (c.INT4, b"\0\0\0", ProtocolViolation, "insufficient data left in message"),
        (c.INT4, b"\0\0\0\0\0", InvalidBinaryRepresentation, "incorrect binary data format"),
        (c.UUID, b"x", ProtocolViolation, "insufficient data left in message"),
        (
            c.NUMERIC,
            b"\0\0\0\0\x12\x34\0\0",
            InvalidBinaryRepresentation,
            'invalid sign in external "numeric" value',
        ),
        (
            c.NUMERIC,
            b"\0\1\0\0\0\0\0\0\x27\x10",
            InvalidBinaryRepresentation,
            'invalid digit in external "numeric" value',
        ),
        (
            c.NUMERIC,
            b"\0\2\0\0\0\0\0\0\0\1",
            ProtocolViolation,
            "insufficient data left in message",
        ),
        (
            c.TEXT,
            b"a\xff",
            CharacterNotInRepertoire,
            'invalid byte sequence for encoding "UTF8": 0xff',
        ),
        (
            c.TEXT,
            b"\xe4\x20\x20",
            CharacterNotInRepertoire,
            'invalid byte sequence for encoding "UTF8": 0xe4 0x20 0x20',
        ),
        (
            c.TEXT,
            b"a\0",
            CharacterNotInRepertoire,
            'invalid byte sequence for encoding "UTF8": 0x00',
        ),
        (c.BOOL, b"", ProtocolViolation, "no data left in message"),
        (c.JSONB, b"\x02{}", InternalError, "unsupported jsonb version number 2"),
        (c.DATE, b"\x80\0\0\1", SqlError, "date out of range"),
        (c.TIMESTAMP, b"\x80\0\0\0\0\0\0\1", SqlError, "timestamp out of range"),
        (
            c.INT4.array,
            b"\0\0\0\7\0\0\0\0\0\0\0\x17",
            SqlError,
            "number of array dimensions (7) exceeds the maximum allowed (6)",
        ),
        (
            c.INT4.array,
            b"\0\0\0\0\0\0\0\0\0\0\0\x19",
            SqlError,
            "binary data has array element type 25 (25) instead of expected 23 (23)",
        ),
        (c.ACLITEM, b"", UndefinedFunction, "no binary input function available for type aclitem"),
    ],
)
def test_broken_bytes_are_refused(sql_type, data, error, message) -> None:
    with pytest.raises(error) as caught:
        binary_input(sql_type)(data)
    assert caught.value.message == message


def test_changing_a_setting_makes_new_closures() -> None:
    context = FormatContext()
    assert text_output(c.DATE, context)(0) == "2000-01-01"
    context.date_style = "German, DMY"
    assert text_output(c.DATE, context)(0) == "01.01.2000"


@pytest.mark.parametrize(
    ("sql_type", "text", "expected"),
    [
        (c.TIMESTAMPTZ, "now", "2024-03-09 18:30:00-05"),
        (c.TIMESTAMP, "now", "2024-03-09 18:30:00"),
        (c.DATE, "now", "2024-03-09"),
        (c.TIME, "now", "18:30:00"),
        (c.TIMETZ, "now", "18:30:00-05"),
        (c.DATE, "today", "2024-03-09"),
        (c.DATE, "tomorrow", "2024-03-10"),
        (c.TIMESTAMP, "yesterday 04:05", "2024-03-08 04:05:00"),
        (c.TIMESTAMPTZ, "tomorrow", "2024-03-10 00:00:00-05"),
        (c.TIMESTAMPTZ, "today 10:00 UTC", "2024-03-09 05:00:00-05"),
        (c.TIME, "allballs", "00:00:00"),
        (c.TIMETZ, "allballs", "00:00:00+00"),
        (c.TIMETZ, "12:00", "12:00:00-05"),
    ],
)
def test_words_for_the_present_use_the_context_and_its_zone(sql_type, text, expected) -> None:
    context = FormatContext(time_zone="America/New_York")
    read = text_input(sql_type, context)
    context.now = NOW
    assert text_output(sql_type, context)(read(text, -1)) == expected


def test_now_moves_with_the_context() -> None:
    context = FormatContext(now=NOW)
    read = text_input(c.TIMESTAMPTZ, context)
    first = read("now", -1)
    context.now = NOW + USECS_PER_HOUR
    assert read("now", -1) - first == USECS_PER_HOUR


def test_now_without_a_clock_is_refused() -> None:
    with pytest.raises(InvalidDatetimeFormat):
        text_input(c.DATE)("today", -1)


class Resolver:
    def output(self, sql_type, oid):
        return "pg_class" if (sql_type, oid) == (c.REGCLASS, 1259) else None

    def input(self, sql_type, text):
        assert (sql_type, text) == (c.REGCLASS, "pg_class")
        return 1259


def test_reg_types_ask_the_resolver_and_fall_back_to_numbers() -> None:
    plain, resolving = FormatContext(), FormatContext(reg_resolver=Resolver())
    assert text_output(c.REGCLASS, plain)(1259) == "1259"
    assert text_output(c.REGCLASS, resolving)(1259) == "pg_class"
    assert text_output(c.REGCLASS, resolving)(1) == "1"
    assert text_output(c.REGCLASS, resolving)(0) == "-"
    assert text_input(c.REGCLASS, resolving)("pg_class", -1) == 1259
    assert text_input(c.REGCLASS, plain)("1259", -1) == 1259
    with pytest.raises(UndefinedObject, match='type "nonesuch" does not exist'):
        text_input(c.REGTYPE, plain)("nonesuch", -1)


def test_records_quote_what_needs_it() -> None:
    value = RecordValue(
        ("abc", "b c", "", None, 'a"b\\c', 1, 0, "(x)", True),
        (c.TEXT, c.TEXT, c.TEXT, c.TEXT, c.TEXT, c.INT4, c.DATE, c.TEXT, c.BOOL),
    )
    expected = '(abc,"b c","",,"a""b\\\\c",1,2000-01-01,"(x)",t)'
    assert text_output(c.RECORD)(value) == expected
    assert text_output(c.RECORD)(("a", 1, None)) == "(a,1,)"
    small = RecordValue((7, None), (c.INT4, c.TEXT))
    assert binary_output(c.RECORD)(small).hex() == (
        "0000000200000017000000040000000700000019ffffffff"
    )


def test_arrays_of_arrays_keep_shape_and_bounds() -> None:
    value = text_input(c.INT4.array)("[0:1][5:6]={{1,2},{NULL,4}}", -1)
    assert value == ArrayValue((1, 2, None, 4), (2, 2), (0, 5))
    assert text_output(c.INT4.array)(value) == "[0:1][5:6]={{1,2},{NULL,4}}"
    assert len({value, ArrayValue((1, 2, None, 4), (2, 2), (0, 5))}) == 1


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_json_is_refused_without_harm(text) -> None:
    with pytest.raises(StatementTooComplex, match="stack depth limit exceeded"):
        text_input(c.JSONB)(text, -1)


@pytest.mark.parametrize("sql_type", [c.INT8, c.NUMERIC, c.FLOAT8, c.DATE, c.INTERVAL, c.OID])
@pytest.mark.parametrize("text", ["9" * 200_000, "٣", "1٣", "²", "1²", "-" * 1000])
def test_absurd_numbers_earn_sql_errors(sql_type, text) -> None:
    with pytest.raises(SqlError):
        text_input(sql_type)(text, -1)
