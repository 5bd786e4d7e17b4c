"""What the binder rewrites to simpler plans gives PostgreSQL's rows, over a dictionary store.

Subscripted assignment, hypothetical-set aggregates, SEARCH and CYCLE, JSON as rows. The expected
texts are a PostgreSQL 15 server's.
"""

from __future__ import annotations

import pytest

from sql.binder import bind_statement, column_privileges
from sql.errors import SqlError
from sql.parser import parse_statements
from sql.types.catalog import INT4, JSONB
from tests.lib.catalog_fixture import make_table
from tests.lib.sql_runner import Runner


@pytest.fixture
def db() -> Runner:
    t = make_table(
        "t",
        [
            ("id", INT4, {"not_null": True}),
            ("h", INT4.array),
            ("m", INT4.array),
            ("j", JSONB),
            ("parent", INT4),
        ],
        ["id"],
        table_id=20001,
    )
    runner = Runner(t)
    runner.query("insert into t values (1, '{1,2}', '{{1,2},{3,4}}', '{\"a\": 1}', null)")
    runner.query("insert into t values (2, null, null, null, 1), (3, '{5}', '{}', '[1]', 1)")
    runner.query("insert into t (id, parent) values (4, 2)")
    return runner


ASSIGNMENTS = [
    ("h[1] = 99, h[3] = 5", 1, "h", "{99,2,5}"),
    ("h[-1] = 4", 1, "h", "[-1:2]={4,NULL,1,2}"),
    ("h[6] = 4", 2, "h", "[6:6]={4}"),
    ("h[2:3] = '{7,8}'", 1, "h", "{1,7,8}"),
    ("h[:] = '{8,9}'", 1, "h", "{8,9}"),
    ("h[:4] = '{1,2,3,4,5}'", 1, "h", "{1,2,3,4}"),
    ("h[1:2] = null", 1, "h", "{1,2}"),
    ("h[2:3] = '{4,5}'", 2, "h", "[2:3]={4,5}"),
    ("m[1][2] = 40", 1, "m", "{{1,40},{3,4}}"),
    ("m[1:2][1:1] = '{8,9}'", 1, "m", "{{8,2},{9,4}}"),
    ("m[2] = null, m[1][1] = 0", 3, "m", "2202E: wrong number of array subscripts"),
    ("m[3][2] = 40", 1, "m", "2202E: array subscript out of range"),
    ("m[1] = 40", 1, "m", "2202E: wrong number of array subscripts"),
    ("h[null] = 1", 1, "h", "22004: array subscript in assignment must not be null"),
    ("h[1:5] = '{1,2}'", 1, "h", "2202E: source array too small"),
    ("h[5:1] = '{1,2}'", 1, "h", "2202E: upper bound cannot be less than lower bound"),
    ("h[1:] = '{1,2}'", 2, "h", "2202E: array slice subscript must provide both boundaries"),
    ("j['a'] = '5'", 1, "j", '{"a": 5}'),
    (
        "j['b']['c'] = '[1]', j['b']['c'][2] = '\"x\"'",
        1,
        "j",
        '{"a": 1, "b": {"c": [1, null, "x"]}}',
    ),
    ("j['q'] = null", 1, "j", '{"a": 1, "q": null}'),
    ("j[1] = '1'", 2, "j", "[null, 1]"),
    ("j[-1] = '7'", 3, "j", "[7]"),
    ("j['a']['c'] = '1'", 1, "j", "22023: cannot replace existing key"),
    ("j['z'] = '1'", 3, "j", '22P02: path element at position 1 is not an integer: "z"'),
    ("j[-2] = '7'", 3, "j", "22023: path element at position 1 is out of range: -2"),
]


def outcome(db: Runner, text: str) -> str:
    try:
        return "; ".join(",".join("\\N" if v is None else v for v in r) for r in db.texts(text))
    except SqlError as error:
        return f"{error.sqlstate}: {error.message}"


@pytest.mark.parametrize(("assignment", "row", "column", "expected"), ASSIGNMENTS)
def test_update_of_elements(
    db: Runner, assignment: str, row: int, column: str, expected: str
) -> None:
    update = f"update t set {assignment} where id = {row} returning {column}"
    assert outcome(db, update) == expected


QUERIES = [
    ("insert into t (id, h[1], h[3]) values (9, 1, 2) returning h", "{1,NULL,2}"),
    ("insert into t (id, h[1:2]) values (9, '{4,5}'), (10, '{6,7}') returning h", "{4,5}; {6,7}"),
    ("insert into t (id, h[2]) select 9, 3 returning h", "[2:2]={3}"),
    ("insert into t (id) values (generate_series(8, 9)) returning id", "8; 9"),
    (
        "select rank(2) within group (order by id), dense_rank(9) within group (order by parent),"
        " percent_rank(2) within group (order by id), cume_dist(2) within group (order by id)"
        " from t",
        "2,3,0.25,0.6",
    ),
    (
        "select rank(1, 3) within group (order by parent nulls first, id desc),"
        " rank(null::int) within group (order by parent) filter (where id > 1) from t",
        "2,4",
    ),
    ("select percent_rank(1) within group (order by id) from t where false", "0"),
    (
        "with recursive r(id) as (select 1 union all select t.id from t join r on t.parent = r.id)"
        " search depth first by id set o select id, o from r order by o",
        '1,{(1)}; 2,{(1),(2)}; 4,{(1),(2),(4)}; 3,{(1),(3)}',
    ),
    (
        "with recursive r(id) as (select 1 union all select t.id from t join r on t.parent = r.id)"
        " search breadth first by id set o select id, o from r order by o",
        '1,(0,1); 2,(1,2); 3,(1,3); 4,(2,4)',
    ),
    (
        "with recursive r(n) as (select 1 union all select 3 - n from r)"
        " cycle n set c to 'Y' default 'N' using p select * from r",
        "1,N,{(1)}; 2,N,{(1),(2)}; 1,Y,{(1),(2),(1)}",
    ),
    (
        "select * from json_to_record('{\"a\":1,\"b\":\"x\",\"c\":[1,2],\"a\":\"3\"}')"
        " as x(a int, b text, c int[], d bool)",
        "3,x,{1,2},\\N",
    ),
    ("select * from json_to_record(null) as x(a int)", "\\N"),
    (
        "select * from jsonb_to_recordset('[{\"a\":1.25},{\"b\":{\"q\": 1}}]')"
        " as x(a numeric(3,1), b text)",
        '1.3,\\N; \\N,{"q": 1}',
    ),
    ("select id, h from json_populate_record(null::t, '{\"id\": 5, \"h\": \"{1}\"}')", "5,{1}"),
    ("select (jsonb_populate_record(null::t, '{\"id\": 5, \"j\": [1]}')).j", "[1]"),
    ("select * from json_to_record('[1]') as x(a int)",
     "22023: cannot call populate_composite on an array"),
    ("select * from jsonb_to_recordset('{}') as x(a int)",
     "22023: cannot call jsonb_to_recordset on a non-array"),
    ("select * from json_to_recordset('[1]') as x(a int)",
     "22023: argument of json_to_recordset must be an array of objects"),
    ("select * from json_to_record('{\"a\":{}}') as x(a int[])", "22P02: expected JSON array"),
    ("select json_to_record('{}')",
     "0A000: could not determine row type for result of json_to_record"),
    (
        "select max(x), min(x) from (values (interval '1 day'), (interval '24:00:00')) v(x)",
        "24:00:00,24:00:00",
    ),
    ("select normalize('e' || chr(769)), 'é' is normalized", "é,t"),
    ("select to_char(timestamp '2024-08-05', 'TMMonth TMDay')", "August Monday"),
    ("select 'a' || true, array[1] || '{5}', num_nulls(variadic array[1, null])", "atrue,{1,5},1"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), QUERIES)
def test_rows(db: Runner, query: str, expected: str) -> None:
    assert outcome(db, query) == expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select id from t where parent = 1", {(20001, "r", (0, 4))}),
        ("select count(*) from t", {(20001, "r", ())}),
        ("insert into t (id, j) values (1, '1')", {(20001, "a", (0, 3))}),
        ("insert into t (id) values (1) returning j", {(20001, "a", (0,)), (20001, "r", (3,))}),
        ("insert into t default values", {(20001, "a", ())}),
        ("update t set j = null where id = 1", {(20001, "w", (3,)), (20001, "r", (0,))}),
        ("update t set j = null", {(20001, "w", (3,))}),
        (
            "insert into t (id) values (1) on conflict (id) do update set parent = t.parent + 1",
            {(20001, "a", (0,)), (20001, "w", (4,)), (20001, "r", (4,))},
        ),
        ("delete from t where id = 1", {(20001, "r", (0,))}),
    ],
)
def test_column_privileges(
    db: Runner, statement: str, expected: set[tuple[int, str, tuple[int, ...]]]
) -> None:
    (parsed,) = parse_statements(statement)
    bound = bind_statement(parsed.statement, db.catalog)
    assert set(column_privileges(bound)) == expected
