"""Collations derived, put to work in functions, and missing: against what PostgreSQL answers."""

from __future__ import annotations

import pytest

from sql.errors import SqlError
from sql.types.catalog import INT4, TEXT, VARCHAR
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner


@pytest.fixture(scope="module")
def runner() -> Runner:
    """co(id, c "C", d, p "POSIX", u ucs_basic)."""
    table = make_table(
        "co",
        [
            ("id", INT4, {"not_null": True}),
            ("c", TEXT, {"collation": "C"}),
            ("d", TEXT),
            ("p", VARCHAR, {"collation": "POSIX", "typmod": 14}),
            ("u", TEXT, {"collation": "ucs_basic"}),
        ],
        ["id"],
        table_id=20001,
    )
    made = Runner(table)
    made.load("co", [(1, *["a"] * 4), (2, *["B"] * 4), (3, *["é"] * 4)])
    return made


def error_of(runner: Runner, text: str) -> tuple[str, str, int]:
    with pytest.raises(SqlError) as caught:
        runner.query(text)
    return caught.value.sqlstate, caught.value.message, caught.value.position


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            'upper(d collate "C") || lower(\'É\' collate "C") || upper(d) from co where id = 3',
            "éÉÉ",
        ),
        ("initcap('élan d''été' collate \"C\")", "éLan D'éTé"),
        ("upper(c) from co where id = 3", "é"),
        ("'É' ilike 'é' collate \"C\"", "f"),
        ("'É' ilike 'é'", "t"),
        ("'É' not ilike 'é' collate \"POSIX\"", "t"),
        ("'É' ~* 'é' collate \"C\"", "f"),
        ("'é' ~ '\\w' collate \"C\"", "f"),
        ("'é' ~ '\\w'", "t"),
        ("'É' ~ '[[:upper:][:alpha:]]' collate \"C\"", "f"),
        ("'É' ~ '[[:upper:]]'", "t"),
        ("'B' collate \"C\" < 'a'", "t"),
        ("c || p from co where id = 1", "aa"),
        ("c like p from co where id = 1", "t"),
        ("c = d from co where id = 1", "t"),
        ('c < p collate "C" from co where id = 1', "f"),
        ("(c || p) collate \"C\" < 'b' from co where id = 1", "t"),
        ('greatest(c, null::varchar collate "POSIX") from co where id = 1', "a"),
        ("max(c || p) from co where id = 1", "aa"),
        ("array[c, p] = array[d] from co where id = 1", "f"),
        ("x < 'a' from (select c || p from co where id = 1) s(x)", "f"),
        ("('1' collate \"C\")::int + 1", "2"),
        ("'5' collate \"C\" + 1", "6"),
        ("'abc'::varchar(2) collate \"C\"", "ab"),
    ],
)
def test_values(runner: Runner, text: str, rows: str) -> None:
    assert runner.texts(f"select {text}") == [(rows,)]


@pytest.mark.parametrize(
    ("expression", "collation"),
    [
        ("'a'", None),
        ("null", None),
        ("c", '"C"'),
        ("c || d", '"C"'),
        ("c || p", None),
        ("u", "ucs_basic"),
        ("id::text", '"default"'),
        ('d collate "C"', '"C"'),
        ("'a'::name", '"C"'),
        ("upper('a'::name)", '"C"'),
        ("array[c]", '"C"'),
        ("case when true then c end", '"C"'),
        ('case c when p collate "C" then d end', '"default"'),
        ("(select k.p from co k limit 1)", '"POSIX"'),
        ("nullif(d, u)", "ucs_basic"),
        ("coalesce(c, p)", None),
        ("length(c)::text", '"default"'),
    ],
)
def test_collation_for(runner: Runner, expression: str, collation: str | None) -> None:
    text = f"select collation for ({expression}) from co where id = 1"
    assert runner.texts(text) == [(collation,)]


@pytest.mark.parametrize(
    ("query", "collation"),
    [
        ("select max(c) from co", '"C"'),
        ("select c from co group by c", '"C"'),
        ("select c from co union select d from co", '"C"'),
        ("select c from co union all select p from co", None),
        ("values ('a' collate \"C\"), ('b')", '"C"'),
        ("with q as (select p as k from co) select k from q", '"POSIX"'),
        ("select x from unnest(array['a' collate \"C\"]) x", '"C"'),
        ("select lag(u) over (order by id) from co", "ucs_basic"),
        ('select c collate "POSIX" from co', '"POSIX"'),
    ],
)
def test_collation_of_a_lower_querys_column(
    runner: Runner, query: str, collation: str | None
) -> None:
    text = f"select distinct collation for (x) from ({query}) s(x)"
    assert runner.texts(text) == [(collation,)]


COMPARISON = "string comparison"
REGEX = "regular expression"


@pytest.mark.parametrize(
    ("expression", "purpose"),
    [
        ("c = p", COMPARISON),
        ("c < p", COMPARISON),
        ("upper(c || p)", "upper() function"),
        ("initcap(c || p)", "initcap() function"),
        ("c ilike p", "ILIKE"),
        ("c ~ p", REGEX),
        ("c similar to p", REGEX),
        ("regexp_replace(c, p, '')", REGEX),
        ("substring(c from p)", REGEX),
        ("strpos(c, p)", COMPARISON),
        ("replace(c, p, 'x')", COMPARISON),
        ("greatest(c, p)", COMPARISON),
        ("nullif(c, p)", COMPARISON),
        ("c is distinct from p", COMPARISON),
        ("c in ('x', p)", COMPARISON),
        ("c = any (array[p, p])", COMPARISON),
        ("(c, 1) < (p, 1)", COMPARISON),
        ("case c when p then 1 end", COMPARISON),
        ("case when true then c else p end = 'a'", COMPARISON),
        ("array[c, p] = array[d, d]", COMPARISON),
        ("array_position(array[c], p)", COMPARISON),
        ("c = (select k.p from co k limit 1)", COMPARISON),
        ("c in (select p from co)", COMPARISON),
        ("max(c || p)", COMPARISON),
        ("min(c || p) over ()", COMPARISON),
        ("1 from co a join co b on a.c = b.p", COMPARISON),
    ],
)
def test_a_missing_collation_is_reported_when_needed(
    runner: Runner, expression: str, purpose: str
) -> None:
    source = "" if " join " in expression else " from co"
    found = error_of(runner, f"select {expression}{source}")
    assert found == ("42P22", f"could not determine which collation to use for {purpose}", 0)


def test_no_row_needs_no_collation(runner: Runner) -> None:
    assert runner.query("select c = p from co where id > 9") == []
    assert runner.query("select 1 from co where id = 9 and upper(c || p) = 'x'") == []


IMPLICIT = 'collation mismatch between implicit collations "C" and "POSIX"'
EXPLICIT = 'collation mismatch between explicit collations "C" and "POSIX"'


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("select id from co order by c || p", IMPLICIT, 33),
        ("select distinct c || p from co", IMPLICIT, 22),
        ("select c || p from co group by c || p", IMPLICIT, 13),
        ("select count(distinct c || p) from co", IMPLICIT, 28),
        ("select string_agg(c, '' order by c || p) from co", IMPLICIT, 39),
        ("select row_number() over (order by c || p) from co", IMPLICIT, 41),
        ("select c from co union select p from co", IMPLICIT, 31),
        ('select c from co union select p from co order by 1 collate "C"', IMPLICIT, 31),
        ("select ('a' collate \"C\") < ('b' collate \"POSIX\")", EXPLICIT, 33),
        ("select array['a' collate \"C\", 'b' collate \"POSIX\"]", EXPLICIT, 35),
        ("select 'a' collate \"C\" union all select 'b' collate \"POSIX\"", EXPLICIT, 45),
        ('select max(c collate "C") < \'x\' collate "POSIX" from co', EXPLICIT, 33),
        ("select 1 where 'a' collate \"C\" in ('b' collate \"POSIX\")", EXPLICIT, 40),
    ],
)
def test_mismatches(runner: Runner, text: str, message: str, position: int) -> None:
    assert error_of(runner, text) == ("42P21", message, position)


def test_a_recursive_term_must_keep_the_collation(runner: Runner) -> None:
    text = (
        "with recursive r(x) as (select d from co where id = 1 "
        "union all select x || c from r, co where length(x) < 2) select x from r"
    )
    assert error_of(runner, text) == (
        "42P21",
        'recursive query "r" column 1 has collation "default" in non-recursive term '
        'but collation "C" overall',
        32,
    )


@pytest.mark.parametrize(
    ("text", "sqlstate", "message"),
    [
        ('1 collate "nosuch"', "42804", "collations are not supported by type integer"),
        ("'a' collate nosuch.x", "3F000", 'schema "nosuch" does not exist'),
        (
            "'a' collate \"nosuch\"",
            "42704",
            'collation "nosuch" for encoding "UTF8" does not exist',
        ),
        ("collation for (1)", "42804", "collations are not supported by type integer"),
    ],
)
def test_bad_clauses(runner: Runner, text: str, sqlstate: str, message: str) -> None:
    assert error_of(runner, f"select {text}")[:2] == (sqlstate, message)


def test_plans_are_free_of_collations(runner: Runner) -> None:
    """What executes is the plan that it would be without the clause."""
    plain = runner.explain("select id from co where d = 'a' order by d")
    assert runner.explain("select id from co where d = 'a' collate \"C\" order by d") == plain
