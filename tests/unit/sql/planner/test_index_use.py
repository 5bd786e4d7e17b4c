"""Indexes that need proof: partial ones, expressions; MIN and MAX by an index.

Each query is asked of a table with the indexes and of one without: the rows are the same.
"""

from __future__ import annotations

import pytest

from sql.catalog.descriptor import Index, IndexKey, Table
from sql.parser import parse_statements
from sql.types.catalog import INT4, TEXT
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner


def expression(text: str) -> object:
    """Parse an expression through a select list."""
    (parsed,) = parse_statements(f"select {text}")
    return parsed.statement.targets[0].expression  # type: ignore[union-attr]


def _index(number: int, name: str, *keys: IndexKey, where: str = "") -> Index:
    return Index(
        id=900 + number,
        name=name,
        index_id=2 + number,
        keys=keys,
        predicate=expression(where) if where else None,  # type: ignore[arg-type]
    )


def _computed(text: str, oid: int) -> IndexKey:
    return IndexKey(position=-1, expression=expression(text), type_oid=oid)  # type: ignore[arg-type]


def _table(indexes: list[Index]) -> Table:
    columns = [("a", INT4, {"not_null": True}), ("b", INT4), ("c", TEXT), ("d", INT4)]
    return make_table("t", columns, ["a"], table_id=20001, indexes=indexes)


ROWS = [
    (n, None if n % 9 == 0 else n % 10, f"C{n % 7}", None if n % 3 else n % 5) for n in range(300)
]


@pytest.fixture(scope="module")
def db() -> Runner:
    runner = Runner(
        _table(
            [
                _index(0, "t_b", IndexKey(position=1)),
                _index(1, "t_lower", _computed("lower(c)", TEXT.oid)),
                _index(2, "t_open", IndexKey(position=1), where="d is null"),
                _index(3, "t_some", IndexKey(position=3), where="d is not null"),
                _index(4, "t_sum", IndexKey(position=2), _computed("a + d", INT4.oid)),
            ]
        )
    )
    runner.load("t", ROWS)
    return runner


@pytest.fixture(scope="module")
def plain() -> Runner:
    runner = Runner(_table([]))
    runner.load("t", ROWS)
    return runner


CASES = [
    ("select * from t where lower(c) = 'c3'", "using t_lower"),
    ("select * from t where lower(c) in ('c3', 'c4', 'C5')", "using t_lower"),
    ("select * from t where lower(c) > 'c5'", ""),
    ("select a from t where c = 'C1' and a + d = 9", "using t_sum"),
    ("select a from t where d = 3", "using t_some"),
    ("select a from t where b = 3 and d is null and a > 100", "Index Scan"),
    ("select min(a), max(a) from t", "Scan Backward using t_pkey"),
    ("select min(b), max(b) from t", "Scan Backward using t_b"),
    ("select min(b) from t where b > 4", "using t_b"),
    ("select max(b) + 1 from t having max(b) > 3", "Scan Backward using t_b"),
    ("select max(b) from t where a < 0", ""),
    ("select min(b), count(*) from t", "Aggregate"),
    ("select (select max(u.b) from t u where u.b < t.b) from t where a < 40", "using t_b"),
    ("select min(d) from t", "Aggregate"),
    ("select a from t where d is null and b is null", "Index Scan"),
    ("select a from t where a in (5, 6, 7)", "using t_pkey"),
    ("select a from t where a in (select x from generate_series(5, 9) x limit 3)", "using t_pkey"),
    ("select b from t where b in (select x from generate_series(5, 6) x limit 2)", "using t_b"),
    ("select a from t where a in (select null::int limit 1)", "using t_pkey"),
    ("select a from t where a in (select u.a from t u) and b = 4", "hashed SubPlan"),
    ("select a from t where a not in (select x from generate_series(5, 290) x)", "Seq Scan"),
    ("select a from t where a is null", "One-Time Filter: (false)"),
]


@pytest.mark.parametrize(("text", "sign"), CASES)
def test_indexes_are_used_and_change_nothing(
    db: Runner, plain: Runner, text: str, sign: str
) -> None:
    assert sign in "\n".join(db.explain(text))
    assert sorted(db.query(text), key=str) == sorted(plain.query(text), key=str)


@pytest.mark.parametrize(
    "text",
    [
        "select a from t where b = 3",
        "select a from t where b = 3 and d is not null",
        "select a from t where d is null",
        "select a from t where coalesce(d, 3) = 3",
    ],
)
def test_a_partial_index_is_not_used_without_proof(db: Runner, plain: Runner, text: str) -> None:
    lines = "\n".join(db.explain(text))
    assert "t_open" not in lines or "b = 3" not in text
    assert "t_some" not in lines or "is not null" in text
    assert sorted(db.query(text)) == sorted(plain.query(text))


def test_exists_never_evaluates_its_select_list(db: Runner) -> None:
    assert db.query("select count(*) from t where exists (select 1 / (t.a - t.a))") == [(300,)]


def test_rows_know_their_fields(db: Runner) -> None:
    assert db.query("select to_jsonb(row(1, 'a'))::text") == [('{"f1": 1, "f2": "a"}',)]
    text = "select json_agg(x)::text from (select a, c from t where a < 2 order by a) x"
    assert db.query(text) == [('[{"a":0,"c":"C0"}, \n {"a":1,"c":"C1"}]',)]
    assert db.texts("select (select x from (values (1, 'b c')) x(p, q))") == [('(1,"b c")',)]
