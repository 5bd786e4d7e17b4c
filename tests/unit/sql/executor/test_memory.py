"""Memory accounting: what an operator is charged for covers what it really takes.

``tracemalloc`` counts what Python's allocator hands out; its peak is compared with the budget's.
"""

from __future__ import annotations

import tracemalloc

import pytest

from sql.errors import OutOfMemory
from sql.executor.node import datum_bytes, row_bytes
from tests.lib.sql_runner import Runner, finish

ROWS = 20_000
SOURCE = f"generate_series(1001, {1000 + ROWS}) x"

STATEMENTS = {
    "sort": f"select x from {SOURCE} order by -x offset 1000000",
    "sort of text": f"select x::text || 'abcdefgh' y from {SOURCE} order by 1 offset 1000000",
    "hash join": f"select count(*) from {SOURCE} join generate_series(1, {ROWS}) y on x = y + 1000",
    "hash join by two keys": f"select count(*) from {SOURCE} join generate_series(1, {ROWS}) y "
    "on x = y + 1000 and x + 1 = y + 1001",
    "full join": f"select count(*) from {SOURCE} full join generate_series(1, {ROWS}) y on x = y",
    "groups": f"select x, count(*), sum(x), max(x) from {SOURCE} group by x offset 1000000",
    "distinct": f"select count(*) from (select distinct x, x::text from {SOURCE}) s",
    "union": f"select count(*) from (select x::text from {SOURCE} union select '') s",
    "except": f"select x from {SOURCE} except select x from {SOURCE}",
    "window": f"select x from (select x, sum(x) over (order by -x) s from {SOURCE}) w where s < 0",
    "cte": f"with c as materialized (select x, x::text t from {SOURCE}) "
    "select count(*) from c join c d on c.x = -d.x",
    "in": f"select 1 where 0 in (select x from {SOURCE})",
    "array_agg": f"select cardinality(array_agg(x::text)) from {SOURCE}",
    "sorted array_agg": f"select cardinality(array_agg(x order by -x)) from {SOURCE}",
    "count distinct": f"select count(distinct x) from {SOURCE}",
    "string_agg": f"select length(string_agg(repeat('x', 100) || x, '')) from {SOURCE}",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_charge_covers_what_is_held(name: str) -> None:
    db = Runner()
    text = STATEMENTS[name]
    db.query("select 1")
    plan = db.plan(text)
    tracemalloc.start()
    try:
        db.run_plan(plan)
        real = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert db.memory.used_bytes == 0 or name in {"in", "string_agg"}
    assert real <= db.memory.peak_bytes * 1.2 + 300_000
    assert db.memory.peak_bytes <= real * 4


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_limit_is_enforced(name: str) -> None:
    with pytest.raises(OutOfMemory):
        Runner(memory_bytes=200_000).query(STATEMENTS[name])


def test_shared_objects_cost_nothing() -> None:
    assert datum_bytes(None) == datum_bytes(True) == datum_bytes(7) == 0
    assert datum_bytes(1000) == 32
    assert row_bytes([]) == 0


def test_wide_rows_among_narrow_ones_are_seen() -> None:
    rows = [("",)] * 500 + [("x" * 10_000,)] * 500
    assert row_bytes(rows) > 4_000


def test_batches_of_wide_rows_are_small() -> None:
    db = Runner()
    execution = db.plan("select repeat('x', 100000 + g) from generate_series(1, 3000) g").open(
        db.context()
    )
    sizes = []
    while batch := finish(execution.next_batch()):
        sizes.append(len(batch))
    assert sum(sizes) == 3000
    assert max(sizes[1:]) * 100_000 < 1 << 20
