"""How stored expressions read: PostgreSQL 15 printed each of these texts."""

import pytest

from nodedb.catalog.virtual.registry import catalog_view
from nodedb.catalog.virtual.relations import pg_attrdef
from sql.ast.deparse import deparse_expression
from sql.ast.deparse_pretty import deparse_pretty


@pytest.mark.parametrize(
    ("type_name", "default", "shown"),
    [
        ("int", "1", "1"),
        ("bigint", "5", "5"),
        ("int", "-1", "'-1'::integer"),
        ("numeric(8,2)", "1.5", "1.5"),
        ("float8", "-1.5", "'-1.5'::numeric"),
        ("text", "'x'", "'x'::text"),
        ("varchar(10)", "'x'", "'x'::character varying"),
        ("char(4)", "'c'", "'c'::bpchar"),
        ("bool", "'f'", "false"),
        ("date", "'2020-1-2'", "'2020-01-02'::date"),
        ("time", "'12:00'", "'12:00:00'::time without time zone"),
        ("timestamptz", "current_timestamp", "CURRENT_TIMESTAMP"),
        ("timestamp", "now()", "now()"),
        ("jsonb", "'{}'", "'{}'::jsonb"),
        ("int[]", "'{1,2}'", "'{1,2}'::integer[]"),
        ("interval", "'1 day'", "'1 day'::interval"),
        ("text", "lower('ABC')", "lower('ABC'::text)"),
        ("text", "coalesce(null, 'x')", "COALESCE(NULL::text, 'x'::text)"),
        ("numeric", "(1 + 2) * 3", "((1 + 2) * 3)"),
    ],
)
def test_defaults(env, type_name, default, shown):
    env.run(f"CREATE TABLE t (c {type_name} DEFAULT {default})")
    view = catalog_view(env.overlay.snapshot, env.catalog.database_id)
    assert [row["adbin"] for row in pg_attrdef(view)] == [shown]


@pytest.mark.parametrize(
    ("check", "plain", "pretty"),
    [
        ("a IN (1, 2)", "(a = ANY (ARRAY[1, 2]))", "a = ANY (ARRAY[1, 2])"),
        ("a NOT IN (1)", "(a <> 1)", None),
        (
            "v IN ('x', 'y')",
            "((v)::text = ANY ((ARRAY['x'::character varying, 'y'::character varying])::text[]))",
            "v::text = ANY (ARRAY['x'::character varying, 'y'::character varying]::text[])",
        ),
        ("a BETWEEN 1 AND 5", "((a >= 1) AND (a <= 5))", "a >= 1 AND a <= 5"),
        ("a NOT BETWEEN 1 AND 5", "((a < 1) OR (a > 5))", "a < 1 OR a > 5"),
        ("b LIKE 'a%'", "(b ~~ 'a%'::text)", "b ~~ 'a%'::text"),
        ("b NOT LIKE 'a%'", "(b !~~ 'a%'::text)", "b !~~ 'a%'::text"),
        ("b ILIKE 'a%'", "(b ~~* 'a%'::text)", "b ~~* 'a%'::text"),
        ("n > 0", "(n > (0)::numeric)", "n > 0::numeric"),
        ("n >= a", "(n >= (a)::numeric)", "n >= a::numeric"),
        ("a * n > 2.5", "(((a)::numeric * n) > 2.5)", "(a::numeric * n) > 2.5"),
        ("coalesce(n, 0) > 1", "(COALESCE(n, (0)::numeric) > (1)::numeric)", None),
        ("upper(v) = v", "(upper((v)::text) = (v)::text)", "upper(v::text) = v::text"),
        ("b::int = 3", "((b)::integer = 3)", "b::integer = 3"),
        ("d > '2020-1-1'", "(d > '2020-01-01'::date)", "d > '2020-01-01'::date"),
        (
            "extract(year from d) > 2000",
            "(EXTRACT(year FROM d) > (2000)::numeric)",
            "EXTRACT(year FROM d) > 2000::numeric",
        ),
        ("NOT (a = 3)", "(NOT (a = 3))", "NOT a = 3"),
        ("t.a > 0", "(a > 0)", "a > 0"),
    ],
)
def test_checks(env, check, plain, pretty):
    env.run(f"CREATE TABLE t (a int, b text, v varchar(5), n numeric, d date, CHECK ({check}))")
    [stored] = env.table("t").checks
    assert deparse_expression(stored.expression) == plain
    if pretty is not None:
        assert deparse_pretty(stored.expression) == pretty


def test_index_keys_and_predicates(env):
    env.run("CREATE TABLE t (v varchar(5)); CREATE INDEX i ON t (lower(v)) WHERE v = 'x'")
    [index] = env.table("t").indexes
    assert index.predicate is not None
    assert deparse_expression(index.keys[0].expression) == "lower((v)::text)"
    assert deparse_expression(index.predicate) == "((v)::text = 'x'::text)"


def test_generated_columns_keep_following_renames(env):
    env.run("CREATE TABLE t (a int, b bigint GENERATED ALWAYS AS (a * 2) STORED)")
    env.run("ALTER TABLE t RENAME COLUMN a TO z")
    assert deparse_expression(env.table("t").columns[1].generated) == "(z * 2)"
