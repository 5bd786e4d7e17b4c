"""Checkpoints: whatever runs long can be cancelled and lets others run.

Each statement would take minutes to end. The checkpoint raises at its hundredth call, so that a
statement which pauses too seldom hangs here instead of passing.
"""

from __future__ import annotations

import pytest

from sql.errors import QueryCanceled
from tests.lib.sql_runner import Runner, finish

NUMBERS = "generate_series(1, 1000000000)"
MANY = "generate_series(1, 3000)"

STATEMENTS = [
    f"select count(*) from {NUMBERS}",
    f"select count(*) from {NUMBERS} x where x < 0",
    "select count(*) from (select generate_series(1, 1000000000)) x",
    f"select count(*) from (select generate_series(1, 0) from {NUMBERS}) x",
    f"select count(*) from {MANY} a, {MANY} b, {MANY} c where a + b + c < 0",
    f"select count(*) from {MANY} a join {MANY} b on a % 1 = b % 1 join {MANY} c on a + b + c < 0",
    f"select count(*) from {MANY} a left join {MANY} b on a % 1 = b % 1 and a + b < 0, {MANY} c",
    f"select count(*) from {MANY} a, lateral (select a + b from {NUMBERS} b where b < 0) c",
    f"select count(*) from {MANY} a where exists (select 1 from {NUMBERS} b where b + a < 0)",
    f"select count(*) from {MANY} a where a = any (select b * 0 from {NUMBERS} b where b < 0)",
    "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r",
    "with recursive r(n) as (select 1 union all select 1 from r) select * from r where n < 0",
    f"select string_agg(x::text, '') over (order by x rows 1500 preceding) from {MANY} x",
    f"select count(*) from (select x from {NUMBERS} x order by -x limit 1) s",
    f"select distinct x % 2 from {NUMBERS} x",
    f"select x % 2 from {NUMBERS} x intersect select 1 from {NUMBERS}",
]


class Cancelled:
    """A checkpoint that counts, and cancels at its hundredth call."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.calls >= 100:
            raise QueryCanceled("canceling statement due to user request")


@pytest.mark.parametrize("text", STATEMENTS)
def test_long_statements_can_be_cancelled(text: str) -> None:
    db = Runner()
    context = db.context()
    context.checkpoint = Cancelled()
    execution = db.plan(text).open(context)
    try:
        with pytest.raises(QueryCanceled):
            while finish(execution.next_batch()):
                pass
    finally:
        execution.close()
    assert context.memory.used_bytes == 0
