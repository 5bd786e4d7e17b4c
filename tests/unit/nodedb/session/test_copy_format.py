import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodedb.session.copy_binary import HEADER, TRAILER, BinaryCopyDecoder, binary_row
from nodedb.session.copy_format import (
    CopyOptions,
    CsvCopyDecoder,
    TextCopyDecoder,
    csv_options,
    csv_row_writer,
    header_row,
    text_row_writer,
)
from sql.errors import BadCopyFileFormat, CharacterNotInRepertoire, ProgramLimitExceeded

TEXT = CopyOptions(column_names=["a", "b"], relation="t")
CSV = csv_options(["a", "b"], relation="t")
change = dataclasses.replace


def decode(decoder, data: bytes, size: int = 3):
    rows = []
    for offset in range(0, len(data), size):
        rows += decoder.feed(data[offset : offset + size])
    return rows + decoder.finish()


def text(data: bytes, options: CopyOptions = TEXT, size: int = 3):
    return decode(TextCopyDecoder(options), data, size)


def csv(data: bytes, options: CopyOptions = CSV, size: int = 3):
    return decode(CsvCopyDecoder(options), data, size)


# The expected rows and messages of both tables are what PostgreSQL 15 answers.
@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"", []),
        (b"a\tb\nc\td\n", [["a", "b"], ["c", "d"]]),
        (b"a\tb", [["a", "b"]]),
        (b"a\tb\r\nc\td\r\n", [["a", "b"], ["c", "d"]]),
        (b"a\tb\rc\td\r", [["a", "b"], ["c", "d"]]),
        (b"\\N\t\\\\N\n", [[None, "\\N"]]),
        (b"\t\n", [["", ""]]),
        (b"a\tb\\N\n", [["a", "bN"]]),
        (b"a\\\tx\tb\n", [["a\tx", "b"]]),
        (b"a\\\nx\tb\n", [["a\nx", "b"]]),
        (b"\\b\\f\\v\t\\r\\n\\t\\q\n", [["\b\f\v", "\r\n\tq"]]),
        (b"\\x41\\101\t\\xg\\8\n", [["AA", "xg8"]]),
        (b"\\xc3\\xa9\t\\303\\251\n", [["é", "é"]]),
        (b"a\tb\n\\.\nrubbish", [["a", "b"]]),
        (b"a\tb\\.\nrubbish", [["a", "b"]]),
        (b"a\tb\r\n\\.\r\n", [["a", "b"]]),
        (b"a\\\r\tb\n", [["a\r", "b"]]),
    ],
)
def test_text(data: bytes, rows: object, size: int) -> None:
    assert text(data, size=size) == rows


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"a,b\nc,d\n", [["a", "b"], ["c", "d"]]),
        (b"a,b", [["a", "b"]]),
        (b',""\n', [[None, ""]]),
        (b'"a""b",c\n', [['a"b', "c"]]),
        (b'a"b,c"d,e\n', [["ab,cd", "e"]]),
        (b'"a\nb",c\nd,e\n', [["a\nb", "c"], ["d", "e"]]),
        (b'"a\nb",c\r\nd,e\r\n', [["a\nb", "c"], ["d", "e"]]),
        (b'"a\r\nb",c\n', [["a\r\nb", "c"]]),
        (b"a,b\rc,d\r", [["a", "b"], ["c", "d"]]),
        (b"a,b\n\\.\nrubbish,x,y\n", [["a", "b"]]),
        (b"a,\\.\n", [["a", "\\."]]),
        (b'"\\.\n",b\n', [["\\.\n", "b"]]),
        (b'""a,b""\n', [["a", "b"]]),
        (b'"a" ,b\n', [["a ", "b"]]),
    ],
)
def test_csv(data: bytes, rows: object, size: int) -> None:
    assert csv(data, size=size) == rows


@pytest.mark.parametrize(
    ("decoder", "data", "message", "where"),
    [
        (text, b"a\n", 'missing data for column "b"', 'COPY t, line 1: "a"'),
        (text, b"a\tb\n\n", 'missing data for column "b"', 'COPY t, line 2: ""'),
        (text, b"a\tb\tc\n", "extra data after last expected column", 'COPY t, line 1: "a\tb\tc"'),
        (text, b"a\tb\nc\td\r\n", "literal carriage return found in data", "COPY t, line 2"),
        (text, b"a\tb\r\nc\td\n", "literal newline found in data", "COPY t, line 2"),
        (text, b"a\tb\rc\td\n", "literal newline found in data", "COPY t, line 2"),
        (text, b"a\tb\\.c\n", "end-of-copy marker corrupt", "COPY t, line 1"),
        (text, b"a\tb\n\\.", "end-of-copy marker corrupt", "COPY t, line 2"),
        (
            text,
            b"a\tb\r\n\\.\n",
            "end-of-copy marker does not match previous newline style",
            "COPY t, line 2",
        ),
        (csv, b"a\n", 'missing data for column "b"', 'COPY t, line 1: "a"'),
        (csv, b"a,b,c\n", "extra data after last expected column", 'COPY t, line 1: "a,b,c"'),
        (csv, b'a,b\nc,"d\n', "unterminated CSV quoted field", 'COPY t, line 3: "c,"d\n"'),
        (csv, b"a,b\nc\r,d\n", "unquoted carriage return found in data", "COPY t, line 2"),
        (csv, b"a,b\r\nc,d\n", "unquoted newline found in data", "COPY t, line 2"),
    ],
)
def test_errors(decoder, data: bytes, message: str, where: str) -> None:
    for size in (1, 1000):
        with pytest.raises(BadCopyFileFormat) as caught:
            decoder(data, size=size)
        assert (caught.value.message, caught.value.where) == (message, where)


def test_hints() -> None:
    with pytest.raises(BadCopyFileFormat) as caught:
        text(b"a\tb\nc\td\r\n")
    assert caught.value.hint == 'Use "\\r" to represent carriage return.'
    with pytest.raises(BadCopyFileFormat) as caught:
        csv(b"a,b\r\nc,d\n")
    assert caught.value.hint == "Use quoted CSV field to represent newline."


@pytest.mark.parametrize("data", [b"a\tb\n\xff\tb\n", b"a\tb\n\\xff\tb\n", b"a\tb\n\0\tb\n"])
def test_bad_utf8(data: bytes) -> None:
    with pytest.raises(CharacterNotInRepertoire, match='encoding "UTF8": 0x') as caught:
        text(data)
    assert caught.value.where.startswith("COPY t, line 2")


def test_null_strings() -> None:
    assert text(b"\tx\n", change(TEXT, null="")) == [[None, "x"]]
    assert text(b"NULL\tx\\\n\n", change(TEXT, null="NULL")) == [[None, "x\n"]]
    assert csv(b'NULL,"NULL"\n', change(CSV, null="NULL")) == [[None, "NULL"]]


def test_forced_nulls() -> None:
    options = change(CSV, force_not_null=frozenset({0}), force_null=frozenset({1}))
    assert csv(b',""\n', options) == [["", None]]
    assert csv(b",x\n", options) == [["", "x"]]


def test_another_escape() -> None:
    options = change(CSV, escape="\\")
    assert csv(b'"a\\"b\\\\",c\n"d\\x","e\n"\n', options) == [['a"b\\', "c"], ["d\\x", "e\n"]]


@pytest.mark.parametrize("special", [b"", b"\\"])
def test_header(special: bytes) -> None:
    data = b"a\tb\n1\t2" + special + b"\n\n"
    assert text(data[:-1] if not special else data, change(TEXT, header=True))[0][0] == "1"
    assert text(b"x\n1\t2\n", change(TEXT, header=True)) == [["1", "2"]]
    assert csv(b'a,"b"\n1,2\n', change(CSV, header_match=True)) == [["1", "2"]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\n1,2\n", "wrong number of fields in header line: got 1, expected 2"),
        (b"a,c\n", 'column name mismatch in header line field 2: got "c", expected "b"'),
        (b",b\n", 'column name mismatch in header line field 1: got null value (""), expected "a"'),
    ],
)
def test_header_mismatch(data: bytes, message: str) -> None:
    with pytest.raises(BadCopyFileFormat) as caught:
        csv(data, change(CSV, header_match=True))
    assert caught.value.message == message
    assert caught.value.where.startswith("COPY t, line 1: ")


def test_a_line_without_end_is_limited() -> None:
    for decoder in (TextCopyDecoder, CsvCopyDecoder):
        limited = decoder(change(TEXT, line_bytes_max=100))
        limited.feed(b"a\tb\n" + b"x" * 100)
        with pytest.raises(ProgramLimitExceeded, match="limit of 100 bytes"):
            limited.feed(b"x")


# No "\r": as the only line ending of a single row it could not be told from data.
fields = st.none() | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.sampled_from(list('\t\n\r\\",.N')),
    max_size=6,
)
tables = st.lists(st.lists(fields, min_size=2, max_size=2), max_size=6)


@given(tables, st.integers(1, 9))
def test_text_round_trip(rows: list[list[str | None]], size: int) -> None:
    write = text_row_writer(TEXT)
    assert text(b"".join(map(write, rows)), size=size) == rows


@given(tables, st.integers(1, 9), st.sampled_from('"\\'), st.sampled_from(["", "NULL"]))
def test_csv_round_trip(rows: list[list[str | None]], size: int, escape: str, null: str) -> None:
    options = change(CSV, escape=escape, null=null)
    write = csv_row_writer(options)
    assert csv(b"".join(map(write, rows)), options, size) == rows


def test_written_csv() -> None:
    write = csv_row_writer(change(CSV, force_quote=frozenset({1})))
    assert write(["a", "b"]) == b'a,"b"\n'
    assert write([None, None]) == b",\n"
    assert write(["", "x\n"]) == b'"","x\n"\n'
    single = csv_options(["a"])
    assert csv_row_writer(single)(["\\."]) == b'"\\."\n'
    assert csv_row_writer(CSV)(["\\.", "x"]) == b"\\.,x\n"


def test_written_header() -> None:
    options = change(CSV, column_names=["a", "b c,"], force_quote=frozenset({0, 1}))
    assert header_row(options, csv_row_writer(options)) == b'a,"b c,"\n'
    assert header_row(TEXT, text_row_writer(TEXT)) == b"a\tb\n"


binary_rows = st.lists(st.tuples(*[st.none() | st.binary(max_size=9)] * 2), max_size=6)


@given(binary_rows, st.integers(1, 9))
def test_binary_round_trip(rows: list[tuple[bytes | None, ...]], size: int) -> None:
    data = HEADER + b"".join(map(binary_row, rows)) + TRAILER
    decoder = BinaryCopyDecoder(2)
    found = []
    for offset in range(0, len(data), size):
        found += decoder.feed(data[offset : offset + size])
    decoder.finish()
    assert found == rows


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "COPY file signature not recognized"),
        (b"PGCOPX", "COPY file signature not recognized"),
        (HEADER[:-3], "COPY file signature not recognized"),
        (HEADER[:11] + b"\0\1\0\0\0\0\0\0", "invalid COPY file header (WITH OIDS)"),
        (HEADER[:11] + b"\0\2\0\0\0\0\0\0", "unrecognized critical flags in COPY file header"),
        (HEADER[:15] + b"\xff\xff\xff\xff", "invalid COPY file header (missing length)"),
        (HEADER + b"\0\3", "row field count is 3, expected 2"),
        (HEADER + b"\0\2\xff\xff\xff\xfe", "invalid field size"),
        (HEADER + b"\0\2\0\0\0\1", "unexpected EOF in COPY data"),
        (HEADER + TRAILER + b"x", "received copy data after EOF marker"),
    ],
)
def test_binary_errors(data: bytes, message: str) -> None:
    def decode_all() -> None:
        decoder = BinaryCopyDecoder(2)
        decoder.feed(data)
        decoder.finish()

    with pytest.raises(BadCopyFileFormat) as caught:
        decode_all()
    assert caught.value.message == message


def test_binary_header_extension_is_skipped() -> None:
    decoder = BinaryCopyDecoder(1)
    data = HEADER[:15] + b"\0\0\0\3abc" + binary_row([b"x"]) + TRAILER
    assert decoder.feed(data) == [(b"x",)]
