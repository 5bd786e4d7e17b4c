"""INSERT, UPDATE, DELETE over a dictionary store.

Constraints, ON CONFLICT, RETURNING, concurrent changes.
"""

from __future__ import annotations

import pytest

from sql.catalog.descriptor import PUBLIC_SCHEMA_ID, Check, Sequence
from sql.errors import CardinalityViolation, CheckViolation, NotNullViolation, UniqueViolation
from sql.parser import parse_statements
from sql.types.catalog import INT4, INT8, TEXT, VARCHAR
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner, finish


def expression(text: str) -> object:
    """Parse an expression through a select list."""
    (parsed,) = parse_statements(f"select {text}")
    return parsed.statement.targets[0].expression  # type: ignore[union-attr]


@pytest.fixture
def db() -> Runner:
    t = make_table(
        "t",
        [("a", INT4, {"not_null": True}), ("b", INT4), ("c", VARCHAR, {"typmod": 7})],
        ["a"],
        table_id=20001,
        unique=[["b"]],
        checks=[Check(id=1, name="t_b_check", expression=expression("b > 0"))],
    )
    g = make_table(
        "g",
        [
            ("k", INT4, {"not_null": True}),
            ("double", INT4, {"generated": expression("k * 2")}),
            ("note", TEXT),
        ],
        ["k"],
        table_id=20002,
    )
    runner = Runner(t, g)
    runner.load("t", [(1, 10, "x"), (2, 20, "y"), (3, None, "z")])
    return runner


def rows(db: Runner, table: str = "t") -> list[tuple[object, ...]]:
    return sorted(db.query(f"select * from {table}"))


def test_insert_counts_and_returns(db: Runner) -> None:
    returned, count = db.execute("insert into t values (4, 40), (5, 50) returning a + b, c")
    assert returned == [(44, None), (55, None)]
    assert count == 2


def test_not_null_violation_names_the_row(db: Runner) -> None:
    with pytest.raises(NotNullViolation) as caught:
        db.execute("insert into t values (null, 5, 'q')")
    error = caught.value
    assert error.message == 'null value in column "a" of relation "t" violates not-null constraint'
    assert error.detail == "Failing row contains (null, 5, q)."
    assert (error.schema, error.table, error.column) == ("public", "t", "a")


def test_check_violation_names_the_row(db: Runner) -> None:
    for text in ("insert into t values (9, 0)", "update t set b = -1 where a = 3"):
        with pytest.raises(CheckViolation) as caught:
            db.execute(text)
        assert (
            caught.value.message == 'new row for relation "t" violates check constraint "t_b_check"'
        )
        assert caught.value.constraint == "t_b_check"
    assert caught.value.detail == "Failing row contains (3, -1, z)."


def test_check_passes_on_null(db: Runner) -> None:
    assert db.execute("insert into t values (9, null)")[1] == 1


def test_generated_columns_follow(db: Runner) -> None:
    assert db.query("insert into g(k) values (3) returning *") == [(3, 6, None)]
    assert db.query("update g set k = 5 returning double") == [(10,)]


def test_conflict_do_nothing(db: Runner) -> None:
    assert db.execute(
        "insert into t values (1, 99), (8, 80) on conflict do nothing returning a"
    ) == (
        [(8,)],
        1,
    )


def test_conflict_on_another_constraint_is_an_error(db: Runner) -> None:
    with pytest.raises(UniqueViolation, match="t_b_key"):
        db.execute("insert into t values (7, 20) on conflict (a) do nothing")


def test_conflict_do_update(db: Runner) -> None:
    text = (
        "insert into t values (1, 1), (2, 2), (6, 6) on conflict (a) do update "
        "set b = t.b + excluded.b where t.a = 1 returning a, b"
    )
    assert db.execute(text) == ([(1, 11), (6, 6)], 2)
    assert rows(db)[1] == (2, 20, "y")


def test_conflict_update_twice_is_refused(db: Runner) -> None:
    with pytest.raises(CardinalityViolation) as caught:
        db.execute(
            "insert into t values (7, 1), (7, 2) on conflict (a) do update set b = excluded.b"
        )
    assert caught.value.message == "ON CONFLICT DO UPDATE command cannot affect row a second time"
    assert caught.value.hint.startswith("Ensure that no rows proposed for insertion")


def test_update_sees_old_values_and_returns_new_ones(db: Runner) -> None:
    assert db.query("update t set a = a + 100, b = a where a < 3 returning *") == [
        (101, 1, "x"),
        (102, 2, "y"),
    ]


def test_update_touches_a_row_once_however_many_join(db: Runner) -> None:
    text = "update t set b = v.n from (values (1, 7), (1, 8)) v(k, n) where a = v.k returning b, n"
    returned, count = db.execute(text)
    assert count == 1
    assert returned in ([(7, 7)], [(8, 8)])


def test_delete_using_and_returning(db: Runner) -> None:
    text = "delete from t using (values (1), (3)) v(k) where a = k returning t.*"
    assert sorted(db.query(text)) == [(1, 10, "x"), (3, None, "z")]
    assert rows(db) == [(2, 20, "y")]


def test_changed_row_is_checked_again_in_its_newest_version(db: Runner) -> None:
    db.store.begin_statement()
    db.store.interfere[20001, (1,)] = (1, 500, "other")
    db.store.interfere[20001, (2,)] = (2, 7, "other")
    plan = db.plan("update t set b = b + 1 where b >= 10")
    assert db.run_plan(plan)[1] == 1
    assert rows(db) == [(1, 501, "other"), (2, 7, "other"), (3, None, "z")]


def test_vanished_row_is_skipped(db: Runner) -> None:
    db.store.begin_statement()
    db.store.interfere[20001, (1,)] = None
    assert db.run_plan(db.plan("delete from t where a < 3 returning a"))[0] == [(2,)]


def test_select_for_update_shows_the_newest_version(db: Runner) -> None:
    db.store.begin_statement()
    db.store.interfere[20001, (1,)] = (1, 11, "new")
    db.store.interfere[20001, (2,)] = (2, 1, "low")
    text = "select a, c from t where b >= 10 order by a for update"
    assert db.run_plan(db.plan(text))[0] == [(1, "new")]


def test_for_update_limit_locks_no_more_than_it_returns(db: Runner) -> None:
    assert db.query("select a from t order by a limit 1 for update skip locked") == [(1,)]
    assert db.store.locked == [("t", (1,), "update")]


def test_lock_strength_depends_on_key_columns(db: Runner) -> None:
    db.execute("update t set c = 'q' where a = 1")
    db.execute("update t set b = 33 where a = 1")
    db.execute("delete from t where a = 1")
    assert [strength for _, _, strength in db.store.locked] == ["no key update", "update", "update"]


def test_modifying_ctes_run_once(db: Runner) -> None:
    text = "with d as (delete from t where a = 1 returning a) select a + 1, (select count(*) from t) from d"
    assert db.query(text) == [(2, 3)]
    assert len(rows(db)) == 2


def test_point_plans_agree_with_the_general_plan(db: Runner) -> None:
    plan = db.plan("select b, c from t where a = $1 and b > 5")
    point = plan.point
    assert point is not None
    assert point.kind == "get"
    context = db.context((2,))
    assert point.make_key is not None
    key = point.make_key(context)
    assert key == (2,)
    row = finish(db.store.get(point.table, key))
    assert point.condition is not None
    assert point.condition(row, context)
    assert point.project is not None
    assert [point.project(row, context)] == db.run_plan(plan, (2,))[0] == [(20, "y")]
    assert point.make_key(db.context((None,))) is None


def test_point_update_verifies(db: Runner) -> None:
    point = db.plan("update t set b = b - $2 where a = $1 returning b").point
    assert point is not None
    assert point.make_row is not None
    assert point.kind == "update"
    assert point.changed_positions == {1}
    assert not point.changes_key
    assert point.make_row((1, 10, "x"), db.context((1, 3))) == (1, 7, "x")
    with pytest.raises(CheckViolation):
        point.make_row((1, 10, "x"), db.context((1, 30)))


def test_point_insert_makes_the_whole_row(db: Runner) -> None:
    point = db.plan("insert into g(k, note) values ($1, 'n') returning double").point
    assert point is not None
    assert point.make_row is not None
    assert point.project is not None
    row = point.make_row(None, db.context((4,)))
    assert row == (4, 8, "n")
    assert point.project(row, db.context()) == (8,)


@pytest.mark.parametrize(
    "text",
    [
        "select b from t where b = 1",
        "select b from t where a > 1",
        "select b from t where a = (select 1)",
        "select t.b from t join g on true where a = 1",
        "insert into t values (1, 1), (2, 2)",
        "insert into t values (1, 1) on conflict do nothing",
        "update t set b = 1 where a = 1 or b = 2",
        "select max(b) from t where a = 1",
    ],
)
def test_no_point_plan_where_more_than_one_row_may_matter(db: Runner, text: str) -> None:
    assert db.plan(text).point is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("insert into t values (4, 10), (null, 5)", UniqueViolation),
        ("insert into t values (4, 40), (null, 10)", NotNullViolation),
        ("insert into t values (4, 40), (5, 40), (6, -1)", UniqueViolation),
        ("insert into t values (4, 10), (null, 5) on conflict (a) do nothing", UniqueViolation),
        ("update t set b = case a when 1 then 20 else -1 end", UniqueViolation),
        ("update t set b = case a when 1 then 11 else -1 end", CheckViolation),
    ],
)
def test_the_first_refused_row_decides(db: Runner, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        db.execute(text)


def test_a_conflict_with_an_earlier_row_of_the_command_is_skipped_first(db: Runner) -> None:
    text = "insert into t values (4, 40), (4, 40) on conflict (a) do nothing"
    assert db.execute(text)[1] == 1


def test_null_in_a_key_column_finds_nothing(db: Runner) -> None:
    assert db.query("select * from t where a is null") == []
    assert db.execute("delete from t where a is null")[1] == 0
    assert db.execute("update t set b = 1 where a is null")[1] == 0
    assert len(rows(db)) == 3


def test_inserts_that_await_their_defaults_have_a_point_plan() -> None:
    sequence = Sequence(
        id=20009,
        name="s",
        schema_id=PUBLIC_SCHEMA_ID,
        type_oid=INT8.oid,
        start=1,
        increment=1,
        min_value=1,
        max_value=1000,
    )
    t = make_table(
        "t",
        [
            ("a", INT4, {"not_null": True, "default": expression("nextval('s')")}),
            ("b", INT4),
        ],
        ["a"],
        table_id=20001,
    )
    db = Runner(t, sequence)  # type: ignore[arg-type]  # any relation will do
    plan = db.plan("insert into t (b) values ($1) returning a, b")
    assert plan.point is None
    point = plan.awaiting_point
    assert point is not None
    assert point.make_row is None
    assert point.make_row_async is not None
    assert point.project is not None
    context = db.context((7,))
    made = [finish(point.make_row_async(None, context)) for _ in range(2)]
    assert made == [(1, 7), (2, 7)]
    assert point.project(made[0], context) == (1, 7)
    assert db.run_plan(plan, (8,)) == ([(3, 8)], 1)
