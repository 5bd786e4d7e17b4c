"""Which texts share a plan, and which are left alone."""

import pytest

from sql.parser import parse_statements
from sql.parser.normalize import LITERALS_MAX, TEXT_CHARACTERS_MAX, normalize_literals


@pytest.mark.parametrize(
    ("text", "shape", "literals"),
    [
        (
            "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
            "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
            [("int4", "12345")],
        ),
        (
            "UPDATE t SET a = a + -123 WHERE b = 1",
            "UPDATE t SET a = a + -$1 WHERE b = $2",
            [("int4", "123"), ("int4", "1")],
        ),
        (
            "INSERT INTO t VALUES (1, 'it''s', -4, 1.5, CURRENT_TIMESTAMP)",
            "INSERT INTO t VALUES ($1, $2, -$3, $4, CURRENT_TIMESTAMP)",
            [("int4", "1"), ("string", "it's"), ("int4", "4"), ("numeric", "1.5")],
        ),
        ('select "a 1", \'x\' from "T\'2"', 'select "a 1", $1 from "T\'2"', [("string", "x")]),
        ("select a1 from t2 where a1=3", "select a1 from t2 where a1=$1", [("int4", "3")]),
        (
            "select 2147483647, 2147483649, 9223372036854775809, 1e3, .5",
            "select $1, $2, $3, $4, $5",
            [
                ("int4", "2147483647"),
                ("int8", "2147483649"),
                ("numeric", "9223372036854775809"),
                ("numeric", "1e3"),
                ("numeric", ".5"),
            ],
        ),
        ("select '5'::int", "select $1::int", [("string", "5")]),
        (
            "select a from t where b in (1, 2) order by a limit 5 offset 6",
            "select a from t where b in ($1, $2) order by a limit $3 offset $4",
            [("int4", "1"), ("int4", "2"), ("int4", "5"), ("int4", "6")],
        ),
        (
            "delete from t where a = f(1, g(2))",
            "delete from t where a = f($1, g($2))",
            [("int4", "1"), ("int4", "2")],
        ),
        ("select a from t", "select a from t", []),
    ],
)
def test_literals_become_parameters(text: str, shape: str, literals: list[tuple[str, str]]) -> None:
    assert normalize_literals(text) == (shape, tuple(literals))
    (parsed,) = parse_statements(shape)
    assert parsed.parameter_count == len(literals)


@pytest.mark.parametrize(
    "text",
    [
        "select $1, 2",
        "select 1; select 2",
        "select 1 -- x",
        "select /* 1 */ 2",
        "select -- it's\n 1",
        "select E'a'",
        "select e'\\'' , 'x'",
        "select N'a'",
        "select U&'a'",
        "select B'1', X'1'",
        "select $$a$$, 1",
        "select a from t order by 1",
        "select a, b from t group by 1, 2",
        "select a + 1 from t group by a + 1",
        "select a from t order by a, 2 limit 3",
        "select sum(a) over (order by b + 1) from t",
        "select distinct on (1) a from t",
        "select a::varchar(10) from t",
        "select a::s.foo(10) from t where b = 1",
        "select cast(a as numeric(10, 2)) from t",
        "select numeric(3, 1) '1.5'",
        "select date '2020-01-01'",
        "select interval '1 day'",
        "select interval(3) '1 day'",
        "select now() - interval '1' day",
        "select current_timestamp(3)",
        "select extract('year' from a) from t",
        "select a from t where b like 'x%'",
        "select a from t where b similar to 'x'",
        "select a from t fetch first 5 rows only",
        "select sum(a) over (rows 3 preceding) from t",
        "select a at time zone 'UTC' from t",
        "select a[1] from t",
        "select a from t where a = 2147483648",
        "select a from t where a = 1and b = 2",
        "select a from t where a = 'x'and b = 2",
        "select 'a' 'b'",
        "select 'a'\n'b'",
        "select 'abc",
        "select 1a",
        "select 1..2",
        "create table t (a varchar(10) default 'x')",
        "set a = 1",
        "with a as (select 1) select * from a",
        "select 1 into t",
        "",
        ";",
        "select 1" + ", 1" * LITERALS_MAX,
        "select 1" + " " * TEXT_CHARACTERS_MAX,
    ],
)
def test_what_is_left_alone(text: str) -> None:
    assert normalize_literals(text) is None
