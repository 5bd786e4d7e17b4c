"""The plan cache stays within its bounds, and what falls out of it is gone at once."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from nodedb.gateway.plan_cache import DML_CLASSES, LruCache, PreparedPlan
from nodedb.storage.key_codec import KeyColumn, key_encoder
from nodedb.storage.row_codec import row_codec
from sql.binder import bind_statement
from sql.catalog.descriptor import PRIMARY_INDEX_ID, ForeignKey
from sql.parser import parse_statements
from sql.planner import plan_statement
from sql.types.catalog import INT4, NUMERIC, TEXT
from tests.lib.catalog_fixture import FixtureCatalog, make_table

if TYPE_CHECKING:
    from collections.abc import Callable

STATEMENTS = [
    "SELECT v FROM t WHERE id = 5",
    "SELECT * FROM t WHERE v LIKE 'a%' AND id > 3 ORDER BY v, id DESC LIMIT 5 OFFSET 2",
    "SELECT v, count(*), string_agg(v, ',' ORDER BY id) FROM t GROUP BY v HAVING count(*) > 1",
    "SELECT a.id FROM t a LEFT JOIN t b ON a.id = b.id + 1 WHERE EXISTS"
    " (SELECT 1 FROM t c WHERE c.id = a.id)",
    "SELECT a.id FROM t a JOIN (SELECT DISTINCT v FROM t) b USING (v)",
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 9)"
    " SELECT count(*) FROM r",
    "SELECT id FROM t UNION SELECT 5 EXCEPT SELECT 3 ORDER BY 1 LIMIT 5",
    "SELECT (SELECT max(x.id) FROM t x WHERE x.id < t.id), row_number() OVER (ORDER BY id) FROM t",
    "SELECT CASE WHEN id > 3 THEN v ELSE upper(v) END, ARRAY[id, 1], coalesce(v, 'x') FROM t",
    "VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO t VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET v = excluded.v RETURNING id",
    "INSERT INTO child VALUES (1, 2)",
    "UPDATE t SET v = 'q' WHERE id = 5 RETURNING *",
    "UPDATE child SET t_id = t.id FROM t WHERE t.id = child.id",
    "DELETE FROM t WHERE id > 7",
    "DELETE FROM child WHERE t_id = 1",
    "SELECT * FROM t WHERE id = 1 FOR UPDATE LIMIT 1",
]


def catalog() -> FixtureCatalog:
    key = ForeignKey(
        id=900,
        name="child_t_id_fkey",
        columns=(1,),
        referenced_table_id=901,
        referenced_columns=(0,),
        referenced_index_id=PRIMARY_INDEX_ID,
        on_delete="cascade",
    )
    parent = make_table("t", [("id", INT4), ("v", TEXT)], ["id"], table_id=901)
    child = make_table("child", [("id", INT4), ("t_id", INT4)], ["id"], table_id=902)
    return FixtureCatalog(
        [replace(parent, referenced_by=(902,)), replace(child, foreign_keys=(key,))]
    )


@pytest.mark.parametrize("text", STATEMENTS)
def test_a_plan_that_is_dropped_leaves_nothing_to_the_collector(text: str) -> None:
    """Full collections are rare: evicted plans in cycles would pile up without bound."""
    tables = catalog()
    statement = parse_statements(text)[0].statement
    assert isinstance(statement, DML_CLASSES)

    def plan() -> PreparedPlan:
        bound = bind_statement(statement, tables, ())
        return PreparedPlan(bound, plan_statement(bound, tables), tables)

    gc.disable()
    try:
        plans = [plan()]
        # What only planning needed may wait for the collector, which finds it young.
        gc.collect()
        plans.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_the_oldest_entries_go_when_there_are_too_many() -> None:
    cache: LruCache[int] = LruCache(3)
    for number, text in enumerate("abc"):
        cache.store((text,), number)
    assert cache.find(("a",)) == 0
    cache.store(("d",), 3)
    assert [key[0] for key in cache] == ["c", "a", "d"]


def test_long_texts_push_out_more_than_one() -> None:
    cache: LruCache[int] = LruCache(100, text_bytes_max=30)
    for number in range(5):
        cache.store((f"{number}" * 5, "key"), number)
    cache.store(("x" * 20, "key"), 5)
    assert list(cache.values()) == [3, 4, 5]
    # One alone may be longer than all together should be.
    cache.store(("y" * 40, "key"), 6)
    assert list(cache.values()) == [6]
    cache.store(("z", "key"), 7)
    assert list(cache.values()) == [7]


def test_storing_a_key_again_counts_its_text_once() -> None:
    cache: LruCache[int] = LruCache(100, text_bytes_max=30)
    for number in range(10):
        cache.store(("x" * 20,), number)
        cache.store(("y" * 5,), number)
    assert list(cache.values()) == [9, 9]


@pytest.mark.parametrize(
    "make",
    [
        lambda: key_encoder([KeyColumn(INT4), KeyColumn(TEXT, descending=True)]),
        lambda: row_codec([INT4, TEXT, NUMERIC], [None, None, None]),
    ],
)
def test_a_compiled_codec_leaves_nothing_to_the_collector(make: Callable[[], object]) -> None:
    gc.disable()
    try:
        made = [make()]
        gc.collect()
        made.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()
