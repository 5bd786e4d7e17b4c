"""Columns of a stored view name the FROM entry they belong to, where that means the same."""

import pytest

from sql.ast.deparse import deparse_query
from sql.binder.view import qualify_view_query
from sql.parser import parse_statements
from sql.types.catalog import INT4
from tests.lib.catalog_fixture import FixtureCatalog, make_table


@pytest.fixture
def catalog() -> FixtureCatalog:
    return FixtureCatalog(
        [
            make_table("a", [("x", INT4)], table_id=20000),
            make_table("b", [("y", INT4)], table_id=20001),
        ]
    )


@pytest.mark.parametrize(
    ("query", "stored"),
    [
        ("SELECT x, y FROM a, b", "SELECT a.x, b.y FROM public.a, public.b"),
        ("SELECT x FROM a q WHERE x > 0", "SELECT q.x FROM public.a q WHERE (q.x > 0)"),
        (
            "SELECT (SELECT max(y) FROM b WHERE y > x) FROM a",
            "SELECT (SELECT max(b.y) AS max FROM public.b WHERE (b.y > a.x)) FROM public.a",
        ),
        (
            "SELECT (SELECT x FROM b a LIMIT 1) FROM a",
            "SELECT (SELECT x FROM public.b a LIMIT 1) FROM public.a",
        ),
        (
            "SELECT y, count(*) FROM b GROUP BY y",
            "SELECT b.y, count(*) AS count FROM public.b GROUP BY b.y",
        ),
        ("SELECT lower('A') FROM a", "SELECT lower('A') AS lower FROM public.a"),
        ("SELECT y AS x FROM b ORDER BY x", "SELECT b.y AS x FROM public.b ORDER BY x"),
    ],
)
def test_stored_form(catalog: FixtureCatalog, query: str, stored: str) -> None:
    [parsed] = parse_statements(query)
    made, _, _ = qualify_view_query(parsed.statement, catalog)
    assert deparse_query(made) == stored
