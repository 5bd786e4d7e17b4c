"""Queries end to end over a dictionary store.

Every operator's results, NULLs included, as PostgreSQL 15 gives them.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from sql.catalog.descriptor import Index, IndexKey
from sql.errors import (
    CardinalityViolation,
    DivisionByZero,
    InvalidRowCountInLimitClause,
    OutOfMemory,
    StatementTooComplex,
)
from sql.types.array import ArrayValue
from sql.types.catalog import INT4, INT8, NUMERIC, TEXT
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner


@pytest.fixture
def db() -> Runner:
    index = Index(id=900, name="t_b", index_id=2, keys=(IndexKey(position=1),))
    t = make_table(
        "t",
        [("a", INT4, {"not_null": True}), ("b", INT4), ("c", TEXT), ("d", NUMERIC)],
        ["a"],
        table_id=20001,
        indexes=[index],
    )
    u = make_table("u", [("x", INT4), ("y", TEXT), ("z", INT8)], (), table_id=20002)
    runner = Runner(t, u)
    runner.load(
        "t",
        [
            (1, 1, "one", Decimal("1.0")),
            (2, 2, "two", Decimal("1.00")),
            (3, None, "three", None),
            (4, 1, None, Decimal("2.5")),
            (5, None, "five", Decimal("2.5")),
        ],
    )
    runner.load("u", [(1, "eins", 10), (2, "zwei", 20), (2, "deux", None), (None, "null", 40)])
    return runner


CASES = [
    # Filters and three-valued logic.
    ("select a from t where b = 1", [(1,), (4,)]),
    ("select a from t where not (b = 1)", [(2,)]),
    ("select a from t where b = 1 or b is null", [(1,), (3,), (4,), (5,)]),
    (
        "select b = 1 and c = 'one', b = 1 or c = 'one' from t where a in (1, 3, 4)",
        [(True, True), (False, None), (None, True)],
    ),
    ("select b = 2 or null, b = 2 and null from t where a < 3", [(None, False), (True, None)]),
    ("select a from t where b in (1, null)", [(1,), (4,)]),
    ("select a from t where b not in (1, null)", []),
    ("select a from t where b is distinct from 1", [(2,), (3,), (5,)]),
    ("select coalesce(b, -1), nullif(b, 1) from t where a < 4", [(1, None), (2, 2), (-1, None)]),
    (
        "select case b when 1 then 'x' when 2 then 'y' else 'z' end from t where a < 4",
        [("x",), ("y",), ("z",)],
    ),
    ("select case when b > 0 then 1 end from t where a in (1, 3)", [(1,), (None,)]),
    ("select greatest(a, b, 2), least(b, 2) from t where a in (1, 3)", [(2, 1), (3, 2)]),
    ("select (a, 2) > (2, 1) from t where a < 4", [(False,), (True,), (True,)]),
    ("select a from t where case when b is null then false else a / b > 1 end", [(4,)]),
    # Access paths.
    ("select a from t where a = 3", [(3,)]),
    ("select a from t where a = 30000000000", []),
    ("select a from t where a > -30000000000 and a < 3", [(1,), (2,)]),
    ("select a from t where a = null", []),
    ("select a from t where a in (4, 2, 2)", [(2,), (4,)]),
    ("select a from t where a between 2 and 3", [(2,), (3,)]),
    ("select a from t order by a desc limit 2", [(5,), (4,)]),
    # Joins.
    ("select a, y from t join u on b = x", [(1, "eins"), (2, "deux"), (2, "zwei"), (4, "eins")]),
    (
        "select a, y from t left join u on b = x where a > 1",
        [(2, "deux"), (2, "zwei"), (3, None), (4, "eins"), (5, None)],
    ),
    (
        "select a, y from t right join u on a = x and a > 1",
        [(2, "deux"), (2, "zwei"), (None, "eins"), (None, "null")],
    ),
    (
        "select a, y from t full join u on a = x where a is null or a > 4",
        [(5, None), (None, "null")],
    ),
    ("select a, x from t join u on b < x", [(1, 2), (1, 2), (4, 2), (4, 2)]),
    ("select count(*) from t, u", [(20,)]),
    (
        "select a, s from t, lateral (select sum(z) s from u where x = b) l where a < 4",
        [(1, Decimal(10)), (2, Decimal(20)), (3, None)],
    ),
    # Sub-queries.
    ("select a from t where exists (select 1 from u where x = b)", [(1,), (2,), (4,)]),
    ("select a from t where not exists (select 1 from u where x = b)", [(3,), (5,)]),
    ("select a from t where b in (select x from u)", [(1,), (2,), (4,)]),
    ("select a from t where b not in (select x from u)", []),
    ("select a from t where a not in (select x from u where x is not null)", [(3,), (4,), (5,)]),
    ("select a from t where a > all (select x from u where x is not null)", [(3,), (4,), (5,)]),
    (
        "select a, (select max(y) from u where x = b) from t where a < 4",
        [(1, "eins"), (2, "zwei"), (3, None)],
    ),
    ("select a from t where b in (select x from u where z > t.a * 10)", []),
    ("select array(select x from u where x is not null)", [(ArrayValue((1, 2, 2)),)]),
    # Aggregates.
    ("select count(*), count(b), sum(b), min(c), max(a) from t", [(5, 3, 4, "five", 5)]),
    ("select count(*), sum(b), max(a) from t where a > 99", [(0, None, None)]),
    ("select b, count(*) from t where a > 99 group by b", []),
    ("select b, count(*) from t group by b", [(1, 2), (2, 1), (None, 2)]),
    (
        "select d, count(*) from t group by d having count(*) > 1",
        [(Decimal("1.0"), 2), (Decimal("2.5"), 2)],
    ),
    ("select b, sum(a) from t group by b having b = 1", [(1, 5)]),
    ("select count(distinct b), sum(distinct b) from t", [(2, 3)]),
    ("select string_agg(c, ',' order by a desc) from t", [("five,three,two,one",)]),
    ("select count(*) filter (where b = 1) from t", [(2,)]),
    (
        "select b, count(*), grouping(b) from t group by rollup (b)",
        [(1, 2, 0), (2, 1, 0), (None, 2, 0), (None, 5, 1)],
    ),
    ("select percentile_disc(0.5) within group (order by a desc) from t", [(3,)]),
    # Windows.
    (
        "select a, rank() over (order by b), sum(a) over (partition by b order by a) from t",
        [(1, 1, 1), (2, 3, 2), (3, 4, 3), (4, 1, 5), (5, 4, 8)],
    ),
    (
        "select a, sum(a) over (order by a rows between 1 preceding and 1 following) from t where a < 4",
        [(1, 3), (2, 6), (3, 5)],
    ),
    (
        "select a, lag(a, 1, 0) over (order by a), ntile(2) over (order by a) from t where a < 4",
        [(1, 0, 1), (2, 1, 1), (3, 2, 2)],
    ),
    (
        "select a, count(*) over (order by a range between 1 preceding and current row exclude current row) "
        "from t where a < 4",
        [(1, 0), (2, 1), (3, 1)],
    ),
    # Set operations, DISTINCT, CTEs, functions in FROM.
    ("select b from t union select x from u", [(1,), (2,), (None,)]),
    ("select b from t intersect all select x from u", [(1,), (2,), (None,)]),
    ("select b from t except all select x from u", [(1,), (None,)]),
    ("select b from t except select x from u", []),
    ("select distinct b from t", [(1,), (2,), (None,)]),
    (
        "with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select * from r",
        [(1,), (2,), (3,)],
    ),
    (
        "with recursive r(n) as (select 1 union select (n * 2) % 5 from r) select * from r",
        [(1,), (2,), (3,), (4,)],
    ),
    ("with w as (select b from t) select count(*) from w w1 join w w2 on w1.b = w2.b", [(5,)]),
    ("select g, o from generate_series(5, 7) with ordinality s(g, o)", [(5, 1), (6, 2), (7, 3)]),
    ("select unnest(array[1, 2]), unnest(array['a'])", [(1, "a"), (2, None)]),
    ("select * from (values (1, 'a'), (2, null)) v", [(1, "a"), (2, None)]),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_result_as_a_multiset(db: Runner, text: str, expected: list[object]) -> None:
    assert sorted(db.query(text), key=repr) == sorted(expected, key=repr)


ORDERED = [
    ("select a from t order by b desc, a", [3, 5, 2, 1, 4]),
    ("select a from t order by b nulls first, a desc", [5, 3, 4, 1, 2]),
    ("select a from t order by b desc nulls last, a desc limit 3", [2, 4, 1]),
    ("select a from t order by c offset 1 limit 2", [1, 3]),
    ("select a from t order by a offset 3", [4, 5]),
    ("select b from t order by b fetch first 1 rows with ties", [1, 1]),
    ("select distinct on (b) a from t order by b, a desc", [4, 2, 5]),
    ("select a from t where b is null order by a desc", [5, 3]),
    ("select a from t order by a limit 0", []),
]


@pytest.mark.parametrize(("text", "expected"), ORDERED)
def test_result_in_order(db: Runner, text: str, expected: list[int]) -> None:
    assert [row[0] for row in db.query(text)] == expected


def test_lazy_evaluation_spares_division_by_zero(db: Runner) -> None:
    text = "select case when a = 1 then 0 else 10 / (a - 1) end from t where a < 3"
    assert db.query(text) == [(0,), (10,)]
    with pytest.raises(DivisionByZero):
        db.query("select 10 / (a - 1) from t")


def test_scalar_subquery_with_two_rows_is_refused(db: Runner) -> None:
    with pytest.raises(CardinalityViolation) as caught:
        db.query("select (select x from u where x = 2)")
    assert str(caught.value) == "more than one row returned by a subquery used as an expression"


def test_negative_limit_is_refused(db: Runner) -> None:
    with pytest.raises(InvalidRowCountInLimitClause, match="LIMIT must not be negative"):
        db.query("select a from t limit $1::bigint", -1)


def test_endless_recursion_ends_at_the_limit(db: Runner) -> None:
    text = "with recursive r(n) as (select 1 union all select n + 1 from r) select n from r limit 4"
    assert db.query(text) == [(1,), (2,), (3,), (4,)]


def test_long_series_is_drawn_lazily(db: Runner) -> None:
    assert db.query("select g from generate_series(1, 1000000000) g limit 2") == [(1,), (2,)]


def test_limit_stops_the_scan(db: Runner) -> None:
    db.load("u", [(n, "y", n) for n in range(3000)])
    execution = db.plan("select x from u limit 1").open(db.context())
    execution.close()
    assert len(db.query("select x from u limit 1")) == 1


MEMORY_CASES = [
    "select g from generate_series(1, 100000) g order by g desc",
    "select g, count(*) from generate_series(1, 100000) g group by g",
    "select distinct g from generate_series(1, 100000) g",
    "select count(*) from generate_series(1, 2) a join generate_series(1, 100000) g on a = g",
    "select count(*) from generate_series(1, 2) a, generate_series(1, 100000) g",
    "select array_agg(g) from generate_series(1, 100000) g",
    "with w as materialized (select g from generate_series(1, 100000) g) select count(*) from w",
    "select sum(g) over () from generate_series(1, 100000) g",
    "select g from generate_series(1, 100000) g except select 1",
    "select 1 in (select g from generate_series(2, 100000) g)",
]


@pytest.mark.parametrize("text", MEMORY_CASES)
def test_memory_limit_holds_and_everything_is_released(text: str) -> None:
    runner = Runner(memory_bytes=400_000)
    if "except" in text:
        text = "select 1 except select g from generate_series(1, 100000) g"
    with pytest.raises(OutOfMemory):
        runner.query(text)
    kept_by_cache = "in (select" in text
    assert runner.memory.used_bytes == 0 or kept_by_cache


@pytest.mark.parametrize("text", [t for t in MEMORY_CASES if " in (select" not in t])
def test_memory_is_released_at_the_end(text: str) -> None:
    runner = Runner()
    runner.query(text.replace("100000", "3000"))
    assert runner.memory.used_bytes == 0
    assert runner.memory.peak_bytes > 0


def test_top_n_sort_keeps_few_rows() -> None:
    runner = Runner(memory_bytes=3_000_000)
    assert runner.query("select g from generate_series(1, 100000) g order by -g limit 2") == [
        (100000,),
        (99999,),
    ]


def test_deep_expression_is_refused(db: Runner) -> None:
    with pytest.raises(StatementTooComplex):
        db.query("select " + "+".join(["a"] * 5000) + " from t")
