"""COPY's options: PostgreSQL 15's refusals."""

import pytest

from nodedb.session.copy_options import parse_options
from sql.ast.utility import Copy
from sql.errors import SqlError
from sql.parser import parse_statements


def parsed(options: str, direction: str = "FROM STDIN"):
    statement = parse_statements(f"COPY c (v) {direction} ({options})")[0].statement
    assert isinstance(statement, Copy)
    return parse_options(statement, ["v"], "c", ["id", "v"])


@pytest.mark.parametrize(
    ("options", "direction", "state", "message"),
    [
        ("foo", "FROM STDIN", "42601", 'option "foo" not recognized'),
        ("format csv, format csv", "FROM STDIN", "42601", "conflicting or redundant options"),
        ("format foo", "FROM STDIN", "22023", 'COPY format "foo" not recognized'),
        (
            "delimiter 'ab'",
            "FROM STDIN",
            "0A000",
            "COPY delimiter must be a single one-byte character",
        ),
        ("delimiter 'a'", "FROM STDIN", "22023", 'COPY delimiter cannot be "a"'),
        (
            "delimiter E'\\n'",
            "FROM STDIN",
            "22023",
            "COPY delimiter cannot be newline or carriage return",
        ),
        (
            "null E'\\n'",
            "FROM STDIN",
            "22023",
            "COPY null representation cannot use newline or carriage return",
        ),
        ("quote '\"'", "FROM STDIN", "0A000", "COPY quote available only in CSV mode"),
        (
            "format csv, delimiter '\"'",
            "FROM STDIN",
            "22023",
            "COPY delimiter and quote must be different",
        ),
        (
            "format csv, force_quote *",
            "FROM STDIN",
            "0A000",
            "COPY force quote only available using COPY TO",
        ),
        (
            "format csv, force_null (v)",
            "TO STDOUT",
            "0A000",
            "COPY force null only available using COPY FROM",
        ),
        (
            "force_not_null (v)",
            "FROM STDIN",
            "0A000",
            "COPY force not null available only in CSV mode",
        ),
        (
            "format csv, force_null (no)",
            "FROM STDIN",
            "42703",
            'column "no" of relation "c" does not exist',
        ),
        (
            "format csv, force_null (id)",
            "FROM STDIN",
            "42P10",
            'FORCE_NULL column "id" not referenced by COPY',
        ),
        (
            "format csv, force_null (v, v)",
            "FROM STDIN",
            "42701",
            'column "v" specified more than once',
        ),
        ("header foo", "FROM STDIN", "42601", 'header requires a Boolean value or "match"'),
        ("header match", "TO STDOUT", "0A000", 'cannot use "match" with HEADER in COPY TO'),
        ("format binary, header", "FROM STDIN", "0A000", "cannot specify HEADER in BINARY mode"),
        ("format binary, null 'x'", "FROM STDIN", "42601", "cannot specify NULL in BINARY mode"),
        (
            "encoding 'foo'",
            "FROM STDIN",
            "22023",
            'argument to option "encoding" must be a valid encoding name',
        ),
        (
            "delimiter 'Z', null 'Z'",
            "FROM STDIN",
            "0A000",
            "COPY delimiter must not appear in the NULL specification",
        ),
        (
            "format csv, null '\"'",
            "FROM STDIN",
            "0A000",
            "CSV quote character must not appear in the NULL specification",
        ),
    ],
)
def test_refusals(options: str, direction: str, state: str, message: str) -> None:
    with pytest.raises(SqlError) as caught:
        parsed(options, direction)
    assert (caught.value.sqlstate, caught.value.message) == (state, message)


def test_defaults_follow_the_format() -> None:
    assert (parsed("format text").options.delimiter, parsed("format text").options.null) == (
        "\t",
        "\\N",
    )
    csv = parsed("format csv, quote '''', force_null (v), header match")
    assert (csv.options.delimiter, csv.options.null, csv.options.escape) == (",", "", "'")
    assert csv.options.force_null == frozenset((0,))
    assert csv.options.header_match
    assert parsed("freeze").freeze
