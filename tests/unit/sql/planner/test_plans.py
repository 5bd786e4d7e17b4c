"""The plans chosen, as EXPLAIN prints them.

The code generated for a few expressions (golden files).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sql.binder import bind_statement
from sql.binder import bound as b
from sql.catalog.descriptor import Index, IndexKey, TableStatistics
from sql.executor.analyze import gather_statistics
from sql.executor.explain import ExplainOptions, explain_lines
from sql.parser import parse_statements
from sql.planner.codegen import batch_function
from sql.planner.loops import accumulate_function, sums_of_averages
from sql.types.catalog import INT4, TEXT
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner, finish

GOLDEN = Path(__file__).resolve().parents[4] / "tests" / "golden" / "planner"


@pytest.fixture
def db() -> Runner:
    indexes = [
        Index(id=900, name="t_b_c", index_id=2, keys=(IndexKey(position=1), IndexKey(position=2))),
        Index(
            id=901,
            name="t_d",
            index_id=3,
            keys=(IndexKey(position=3, descending=True, nulls_first=True),),
        ),
    ]
    t = make_table(
        "t",
        [("a", INT4, {"not_null": True}), ("b", INT4), ("c", TEXT), ("d", INT4)],
        ["a"],
        table_id=20001,
        indexes=indexes,
    )
    u = make_table("u", [("x", INT4, {"not_null": True}), ("y", TEXT)], ["x"], table_id=20002)
    runner = Runner(t, u)
    runner.load("t", [(n, n % 10, f"c{n % 7}", n) for n in range(200)])
    runner.load("u", [(n, f"y{n}") for n in range(20)])
    return runner


STATEMENTS = """\
select * from t where a = 7
select * from t where a in (1, 2) and c = 'x'
select * from t where b = 3 and c > 'a'
select * from t where b = 3 and c like 'ab%'
select * from t where c = 'x'
select * from t order by a desc limit 3
select * from t where b = 3 order by c limit 5
select * from t order by d desc limit 2
select * from t order by c
select a, y from t join u on a = x where b = 1
select a, y from t left join u on b = x
select a, y from t left join u on b = x where y = 'q'
select count(*) from t, u where a < x
select b, count(*) from t group by b having count(*) > 1 and b > 2
select distinct b from t
select a from t where exists (select 1 from u where x = b)
select a from t where b not in (select x from u)
select a, (select max(y) from u where x = b) from t
select (select count(*) from u), 1
select * from (select a, b + 1 as e from t) s where e = 3 and a = 2
select * from (select b, count(*) from t group by b) s where b = 4
select a from t where b = 1 union all select x from u where x = 1
with w as (select * from t) select * from w where a = 1
with w as materialized (select * from t) select * from w where a = 1
with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select * from r
select a, rank() over (partition by b order by a) from t
select a from t where a = 1 for update
insert into u values (1, 'x') on conflict do nothing
update t set c = 'x' where b = 1
delete from t using u where a = x and y = 'q'
""".splitlines()


def compare_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    assert path.read_text(encoding="utf-8") == text


def test_explain_golden(db: Runner) -> None:
    parts = []
    for statement in STATEMENTS:
        parts.append("\n".join([statement, *("    " + line for line in db.explain(statement)), ""]))  # noqa: PERF401
    compare_golden("explain.txt", "\n".join(parts))


EXPRESSIONS = """\
a + b
b > 1 and c = 'x'
b > 1 or c is null
not (b = 2)
case when a > 1 then b when c = 'z' then 0 else a end
coalesce(b, a, 7)
a in (1, 2, 3)
b not in (1, null)
c is distinct from 'q'
nullif(a, b)
lower(c) || 'x'
(a, b) < (1, 2)
array[a, b]
""".splitlines()


def test_generated_code_golden(db: Runner) -> None:
    parts = []
    for text in EXPRESSIONS:
        (parsed,) = parse_statements(f"select {text} from t")
        plan = bind_statement(parsed.statement, db.catalog).plan
        assert isinstance(plan, b.ProjectPlan)
        layout = [c.id for c in plan.input.columns]
        compiled = batch_function([], plan.expressions, layout, None)
        parts.append(f"# {text}\n{compiled.source}")
    compare_golden("codegen.txt", "\n".join(parts))


AGGREGATES = """\
select count(*) from t
select count(*), count(b), max(c) from t
select b, count(*), sum(d), avg(d), sum(a), avg(a) from t group by b
select b, sum(n), avg(n) from (select b, d::numeric as n from t) as s group by b
select sum(d), avg(d) filter (where a > 1), avg(distinct d) from t
select sum(a + 1), avg(a + 1), sum(d), avg(b) from t
""".splitlines()


def test_generated_aggregation_golden(db: Runner) -> None:
    parts = []
    for text in AGGREGATES:
        (parsed,) = parse_statements(text)
        plan = bind_statement(parsed.statement, db.catalog).plan
        assert isinstance(plan, b.ProjectPlan)
        plan = plan.input
        assert isinstance(plan, b.AggregatePlan)
        calls = [call for _, call in plan.aggregates]
        sums = sums_of_averages(calls)
        layout = [c.id for c in plan.input.columns]
        groups = [expression for _, expression in plan.groups]
        compiled = accumulate_function(groups, calls, layout, None, sums=sums)
        parts.append(f"# {text}\n# sums of averages: {sums}\n{compiled.source}")
    compare_golden("aggregation.txt", "\n".join(parts))


def test_constants_and_names_never_reach_the_source(db: Runner) -> None:
    (parsed,) = parse_statements("select c || 'evil''); import os #' as \"strange name\" from t")
    plan = bind_statement(parsed.statement, db.catalog).plan
    assert isinstance(plan, b.ProjectPlan)
    source = batch_function([], plan.expressions, [c.id for c in plan.input.columns], None).source
    assert "evil" not in source
    assert "strange" not in source


def test_analyze_counts_rows_and_time(db: Runner) -> None:
    plan = db.plan("select a from t where b = 3 order by c")
    options = ExplainOptions(analyze=True, costs=False)
    lines = finish(explain_lines(plan, options, db.context()))
    assert any("actual time=" in line and "rows=20 loops=1" in line for line in lines)
    assert lines[-2].startswith("Planning Time: ")
    assert lines[-1].startswith("Execution Time: ")


def test_json_format(db: Runner) -> None:
    plan = db.plan("select a from t where a = 3")
    lines = finish(explain_lines(plan, ExplainOptions(format="json"), db.context()))
    assert lines[0] == "["
    assert '    "Plan": {' in lines
    assert '      "Node Type": "Index Scan",' in lines
    assert '      "Index Name": "t_pkey",' in lines


def test_gathered_statistics(db: Runner) -> None:
    db.load("u", [(n, "same" if n % 2 else None) for n in range(100, 1100)])
    db.store.tables[20002] = {k: v for k, v in db.store.tables[20002].items() if k[0] >= 100}
    db.store.begin_statement()
    table = db.catalog.snapshot.table(20002)
    assert table is not None
    statistics: TableStatistics = finish(gather_statistics(table, db.context()))
    assert statistics.rows == 1000
    x, y = statistics.columns
    assert x.distinct == -1.0
    assert len(x.histogram) == 101
    assert (x.histogram[0], x.histogram[-1]) == ("100", "1099")
    assert y.null_fraction == 0.5
    assert y.most_common == (("same", 0.5),)
    assert y.distinct == 1.0
    assert db.memory.used_bytes == 0
