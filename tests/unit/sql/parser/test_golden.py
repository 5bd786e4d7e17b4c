"""Acceptance and errors of the grammar, against what PostgreSQL 15 answered."""

from pathlib import Path

import pytest

from sql.ast.deparse import deparse_query
from sql.ast.query import Delete, Insert, Select, SetOperation, Update, Values
from sql.ast.walk import strip_spans, walk
from sql.errors import FeatureNotSupported, SqlError, StatementTooComplex
from sql.parser import parse_statements
from sql.parser.lexer import tokenize

GOLDEN = Path(__file__).parents[3] / "golden" / "parser"


def _accepted() -> list[str]:
    """One statement a line; a line that starts with a quote continues the one before."""
    return (GOLDEN / "accepted.sql").read_text().rstrip("\n").replace("\n'", "\0'").split("\n")


ACCEPTED = [line.replace("\0", "\n") for line in _accepted()]
REJECTED = [
    line.split("\t", 3) for line in (GOLDEN / "rejected.tsv").read_text().split("\n") if line
]


# Clauses PostgreSQL has and nodedb refuses while parsing.
NOT_SUPPORTED = {"set search_path from current"}


@pytest.mark.parametrize("text", sorted(NOT_SUPPORTED))
def test_what_nodedb_has_not_is_0a000(text: str) -> None:
    assert text in ACCEPTED
    with pytest.raises(FeatureNotSupported):
        parse_statements(text)


@pytest.mark.parametrize("text", [text for text in ACCEPTED if text not in NOT_SUPPORTED])
def test_what_postgresql_accepts_parses(text: str) -> None:
    (parsed,) = parse_statements(f"  {text} ;")
    assert parsed.span.start == 2
    assert parsed.span.end == 2 + len(text)


@pytest.mark.parametrize(("sqlstate", "position", "message", "text"), REJECTED)
def test_errors_have_postgresqls_text_and_place(
    sqlstate: str, position: str, message: str, text: str
) -> None:
    with pytest.raises(SqlError) as caught:
        parse_statements(text)
    assert caught.value.message == message
    assert caught.value.position == int(position)
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize("text", ACCEPTED)
def test_every_prefix_is_parsed_or_refused_in_order(text: str) -> None:
    tokens = tokenize(text)
    for start in tokens.starts[: tokens.kinds.index("EOF")]:
        prefix = text[:start]
        error = _error_of(prefix)
        if error is not None and error.sqlstate != "0A000":
            assert error.sqlstate in ("42601", "42P20", "42939")
            assert 0 <= error.position <= len(prefix) + 1


def _error_of(text: str) -> SqlError | None:
    try:
        parse_statements(text)
    except SqlError as error:
        return error
    return None


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("text", [text for text in ACCEPTED if text not in NOT_SUPPORTED])
def test_deparsed_text_parses_to_the_same_tree(text: str, pretty: bool) -> None:
    (parsed,) = parse_statements(text)
    if not isinstance(parsed.statement, Select | Values | SetOperation | Insert | Update | Delete):
        assert any(True for _ in walk(parsed.statement))
        return
    printed = deparse_query(parsed.statement, pretty=pretty)
    (again,) = parse_statements(printed)
    assert strip_spans(again.statement) == strip_spans(parsed.statement), printed


@pytest.mark.parametrize(
    "text",
    [
        "select " + "(" * 10_000 + "1" + ")" * 10_000,
        "(" * 10_000 + "select 1" + ")" * 10_000,
        "select " + "not " * 10_000 + "true",
        "select " + "- " * 10_000 + "a",
        "select " + "array[" * 10_000,
        "select " + "f(" * 10_000,
        "select " + "case when " * 10_000,
        "select 1" + " + 1" * 10_000,
        "select 1" + " union select 1" * 10_000,
        "select * from t" + " cross join t" * 10_000,
        "select * from " + "(" * 10_000,
        "select " + "(select " * 10_000,
        "select a" + "::int" * 10_000,
        "select (a)" + "[1]" * 10_000,
        "select a" + " is null" * 10_000,
        "select * from " + "(t join " * 500,
        "select * from t " + "join s " * 500,
        "with a as (" * 500,
        "explain " * 500,
        "select a between " * 500,
        "select 1 group by " + "grouping sets (" * 500,
    ],
    ids=lambda text: text[:30],
)
def test_deep_nesting_is_54001_not_a_python_error(text: str) -> None:
    with pytest.raises(SqlError) as caught:
        parse_statements(text)
    assert isinstance(caught.value, StatementTooComplex) or caught.value.sqlstate == "42601"


def test_ten_thousand_parentheses() -> None:
    with pytest.raises(StatementTooComplex) as caught:
        parse_statements("select " + "(" * 10_000 + "1" + ")" * 10_000)
    assert caught.value.message == "stack depth limit exceeded"


def test_long_and_or_chains_are_flat() -> None:
    (parsed,) = parse_statements("select 1 where a = 1" + " or a = 1" * 5_000)
    assert isinstance(parsed.statement, Select)
    assert len(parsed.statement.where.operands) == 5_001
