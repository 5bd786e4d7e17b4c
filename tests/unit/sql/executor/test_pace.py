"""Plans that compute rows as they are wanted: what cursors run."""

from __future__ import annotations

from typing import Any

import pytest

from sql.errors import DivisionByZero
from sql.executor.pace import Pace, reads_backward
from sql.types.catalog import INT4
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner, finish


@pytest.fixture(scope="module")
def runner() -> Runner:
    """n(id) with 1 to 2000."""
    made = Runner(make_table("n", [("id", INT4, {"not_null": True})], ["id"], table_id=20001))
    made.load("n", [(number,) for number in range(1, 2001)])
    return made


def rows_before_the_fault(runner: Runner, text: str, *, rows: int = 1) -> int:
    """Draw ``rows`` at a time; returns how many came before the division by zero."""
    pace = Pace(rows)
    runner.store.begin_statement()
    execution: Any = runner.plan(text).open(runner.context(), pace)
    drawn = 0
    with pytest.raises(DivisionByZero):
        while batch := finish(execution.next_batch()):
            drawn += len(batch)
    execution.close()
    return drawn


@pytest.mark.parametrize(
    "text",
    [
        "select 1 / (id - 6) from n order by id",
        "select id from n where 1 / (id - 6) is not null",
        "select 1 / (id - 6) from n order by id limit 9",
        "select 1 / (g - 6) from generate_series(1, 9) g",
        "select id from n where id < 6 union all select 1 / (id - 7) from n where id = 7",
        "with q as (select 1 / (id - 6) as x from n) select * from q",
        "select (select 1 / (id - 6)) from n order by id",
        "select generate_series(1, 5 / (6 - id)) from n where id > 4",
    ],
)
def test_a_fault_comes_with_its_row(runner: Runner, text: str) -> None:
    assert rows_before_the_fault(runner, text) == 5


def test_no_row_beyond_those_wanted_is_computed(runner: Runner) -> None:
    assert rows_before_the_fault(runner, "select 1 / (id - 6) from n", rows=5) == 5
    assert rows_before_the_fault(runner, "select 1 / (id - 6) from n", rows=4) == 4


def test_the_pace_may_change(runner: Runner) -> None:
    pace = Pace(2)
    runner.store.begin_statement()
    execution: Any = runner.plan("select id + 1 from n order by id").open(runner.context(), pace)
    assert finish(execution.next_batch()) == [(2,), (3,)]
    pace.rows = 3
    assert finish(execution.next_batch()) == [(4,), (5,), (6,)]
    execution.close()


def test_a_plan_is_not_changed_by_being_paced(runner: Runner) -> None:
    plan = runner.plan("select id * 2 from n where id < 4")
    runner.store.begin_statement()
    plan.open(runner.context(), Pace(1)).close()
    assert runner.run_plan(plan)[0] == [(2,), (4,), (6,)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select id from n", True),
        ("select id from n order by -id", True),
        ("select id from n limit 3", True),
        ("select * from generate_series(1, 3)", True),
        ("values (1), (2)", True),
        ("select 1", False),
        ("select count(*) from n", False),
        ("select generate_series(1, 3)", False),
        ("select distinct id % 3 from n", False),
        ("select a.id from n a, n b where a.id = b.id + 1", False),
        ("select id, row_number() over () from n", False),
    ],
)
def test_which_plans_read_backward(runner: Runner, text: str, expected: bool) -> None:
    assert reads_backward(runner.plan(text).root) is expected
