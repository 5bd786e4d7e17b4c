"""The printer with few parentheses: PostgreSQL's choices, and texts that parse to the same tree."""

import pytest

from sql.ast.deparse_pretty import deparse_pretty
from sql.ast.walk import strip_spans
from sql.parser import parse_statements


def parse(text):
    [parsed] = parse_statements(f"SELECT {text}")
    return strip_spans(parsed.statement.targets[0].expression)


@pytest.mark.parametrize(
    "text",
    [
        "a > 0 AND b < 5",
        "a > 0 OR b IS NULL",
        "b ~ '^x' AND (a > 1 OR a < 0)",
        "a > 1 AND b OR c",
        "NOT a = 3",
        "NOT (a AND b)",
        "(a > 1) IS TRUE",
        "(a + 1 * 2) > 3",
        "((a + 1) * 2) > 3",
        "a - 1 - 2",
        "a - (1 - 2)",
        "a * 2 + 1",
        "a * (b + 1)",
        "(a || b) || c",
        "(- a) < 3",
        "(a % 2) = 0",
        "a::text = b",
        "(a + 1)::text",
        "a::text::character varying",
        "(-1)::text",
        "lower(b::text)",
        "lower((a + 1)::text)",
        "a = ANY (ARRAY[1, 2])",
        "(a = ANY (ARRAY[1, 2])) AND b",
        "COALESCE(a + 1, b) > c",
        "CASE WHEN a > 1 THEN b + 1 ELSE c END",
        "(a IS DISTINCT FROM 3) = b",
        "a BETWEEN 1 AND (b + 1)",
        "(a = b) IS NULL",
        '(a COLLATE "C") < b',
        "ROW(a, b) = ROW(1, (2 + 3))".replace("(2 + 3)", "2 + 3"),
    ],
)
def test_keeps_only_the_parentheses_postgresql_keeps(text):
    assert deparse_pretty(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("((a) > ((0)))", "a > 0"),
        ("(a + b) + c", "a + b + c"),
        ("(a * b) / c - d", "a * b / c - d"),
        ("(a > 1) and ((b))", "a > 1 AND b"),
        ("not (a > 1)", "NOT a > 1"),
    ],
)
def test_drops_needless_ones(text, shown):
    assert deparse_pretty(parse(text)) == shown
    assert parse(shown) == parse(text)
