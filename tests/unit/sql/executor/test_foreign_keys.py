"""Foreign keys: checks, actions, MATCH FULL, deferred checks, locks on parents."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sql.ast.query import IntegerLiteral
from sql.catalog.descriptor import ForeignKey
from sql.errors import ForeignKeyViolation
from sql.executor.foreign_keys import DeferredChecks, run_deferred
from sql.types.catalog import INT4, TEXT
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner, finish


def database(**options: Any) -> Runner:
    """p(id, v) <- c(k, a, e default 2) <- g(z, k) with cascade from c to g."""
    p = make_table("p", [("id", INT4, {"not_null": True}), ("v", TEXT)], ["id"], table_id=20001)
    default = {"default": IntegerLiteral(2)}
    c = make_table(
        "c", [("k", INT4, {"not_null": True}), ("a", INT4, default)], ["k"], table_id=20002
    )
    g = make_table("g", [("z", INT4, {"not_null": True}), ("k", INT4)], ["z"], table_id=20003)
    key = ForeignKey(
        id=1,
        name="c_a_fkey",
        columns=(1,),
        referenced_table_id=20001,
        referenced_columns=(0,),
        referenced_index_id=1,
        **options,
    )
    below = ForeignKey(
        id=1,
        name="g_k_fkey",
        columns=(1,),
        referenced_table_id=20002,
        referenced_columns=(0,),
        referenced_index_id=1,
        on_delete="cascade",
    )
    runner = Runner(
        msgspec.structs.replace(p, referenced_by=(20002,)),
        msgspec.structs.replace(c, referenced_by=(20003,), foreign_keys=(key,)),
        msgspec.structs.replace(g, foreign_keys=(below,)),
    )
    runner.load("p", [(1, "a"), (2, "b")])
    runner.load("c", [(10, 1), (11, 1), (12, 2), (13, None)])
    runner.load("g", [(100, 10), (101, 12)])
    return runner


def rows(runner: Runner, table: str) -> list[Any]:
    return sorted(runner.query(f"select * from {table}"), key=repr)


def test_child_without_parent() -> None:
    runner = database()
    for text in ("insert into c values (20, 9)", "update c set a = 9 where k = 13"):
        with pytest.raises(ForeignKeyViolation) as caught:
            runner.execute(text)
        error = caught.value
        assert error.message == (
            'insert or update on table "c" violates foreign key constraint "c_a_fkey"'
        )
        assert error.detail == 'Key (a)=(9) is not present in table "p".'
        assert (error.table, error.constraint, error.schema) == ("c", "c_a_fkey", "public")


def test_null_needs_no_parent_and_parents_are_locked() -> None:
    runner = database()
    runner.execute("insert into c values (20, null), (21, 2)")
    assert runner.store.locked == [("p", (2,), "key share")]


@pytest.mark.parametrize("action", ["no action", "restrict"])
def test_referenced_parent_stays(action: str) -> None:
    runner = database(on_delete=action, on_update=action)
    for text in ("delete from p where id = 1", "update p set id = 7 where id = 1"):
        runner.store.tables[20001][1,] = (1, "a")
        with pytest.raises(ForeignKeyViolation) as caught:
            runner.execute(text)
        error = caught.value
        assert error.message == (
            'update or delete on table "p" violates foreign key constraint "c_a_fkey" on table "c"'
        )
        assert error.detail == 'Key (id)=(1) is still referenced from table "c".'


def test_other_columns_of_the_parent_are_free() -> None:
    runner = database()
    assert runner.execute("update p set v = 'z'")[1] == 2


def test_cascade_reaches_grandchildren() -> None:
    runner = database(on_delete="cascade", on_update="cascade")
    runner.execute("update p set id = 5 where id = 1")
    assert rows(runner, "c") == [(10, 5), (11, 5), (12, 2), (13, None)]
    runner.execute("delete from p where id = 5")
    assert rows(runner, "c") == [(12, 2), (13, None)]
    assert rows(runner, "g") == [(101, 12)]


def test_set_null_and_set_default() -> None:
    runner = database(on_delete="set null")
    runner.execute("delete from p where id = 1")
    assert rows(runner, "c")[:2] == [(10, None), (11, None)]
    runner = database(on_delete="set default")
    runner.execute("delete from p where id = 1")
    assert rows(runner, "c")[:2] == [(10, 2), (11, 2)]


def test_default_without_parent_is_a_violation() -> None:
    runner = database(on_delete="set default")
    with pytest.raises(ForeignKeyViolation, match="update or delete on table"):
        runner.execute("delete from p where id = 2")


def test_match_full_refuses_a_mixed_key() -> None:
    p = make_table(
        "p",
        [("x", INT4, {"not_null": True}), ("y", INT4, {"not_null": True})],
        ["x", "y"],
        table_id=20001,
    )
    c = make_table("c", [("a", INT4), ("b", INT4)], (), table_id=20002)
    key = ForeignKey(
        id=1,
        name="f",
        columns=(0, 1),
        referenced_table_id=20001,
        referenced_columns=(0, 1),
        referenced_index_id=1,
        match_full=True,
    )
    runner = Runner(
        msgspec.structs.replace(p, referenced_by=(20002,)),
        msgspec.structs.replace(c, foreign_keys=(key,)),
    )
    runner.load("p", [(1, 1)])
    runner.execute("insert into c values (null, null), (1, 1)")
    with pytest.raises(ForeignKeyViolation) as caught:
        runner.execute("insert into c values (1, null)")
    assert caught.value.detail == "MATCH FULL does not allow mixing of null and nonnull key values."


def test_deferred_check_waits_until_told() -> None:
    runner = database(deferrable=True, initially_deferred=True)
    queue = runner.cache["deferred"] = DeferredChecks()
    runner.execute("insert into c values (20, 9)")
    runner.execute("insert into c values (21, 8)")
    assert len(queue) == 1
    runner.execute("insert into p values (9, 'late')")
    runner.execute("delete from c where k = 21")
    finish(run_deferred(queue, runner.context()))
    assert len(queue) == 0
    runner.execute("delete from p where id = 9")
    with pytest.raises(ForeignKeyViolation, match="update or delete"):
        finish(run_deferred(queue, runner.context()))


def test_statement_may_replace_a_referenced_key() -> None:
    runner = database()
    text = "with d as (delete from c where a = 2 returning k) delete from p where id = 2"
    runner.execute(text)
    assert rows(runner, "p") == [(1, "a")]
