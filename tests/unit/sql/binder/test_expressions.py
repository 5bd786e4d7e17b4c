"""Stand-alone expressions of DDL and COPY, and view queries."""

import pytest
from binder_schema import make_catalog

from sql.binder import bind_expression, bind_statement, expression_type_name, qualify_view_query
from sql.binder.bound import OutputColumn
from sql.binder.describe import describe_expression
from sql.errors import SqlError
from sql.parser import parse_expression, parse_statements
from sql.types.catalog import INT4, NUMERIC, TEXT, TIMESTAMPTZ

CATALOG = make_catalog()
COLUMNS = (
    OutputColumn(1, "a", INT4),
    OutputColumn(2, "b", TEXT),
    OutputColumn(3, "d", TIMESTAMPTZ),
)


def bind(text: str, purpose: str, **options: object):
    return bind_expression(parse_expression(text), COLUMNS, CATALOG, purpose=purpose, **options)


AGGREGATES = "aggregate functions are not allowed in "
SUBQUERY = "cannot use subquery in "
IMMUTABLE = "must be marked IMMUTABLE"


@pytest.mark.parametrize(
    ("text", "purpose", "sqlstate", "message"),
    [
        ("(select 1) > 0", "check", "0A000", SUBQUERY + "check constraint"),
        ("sum(a) > 0", "check", "42803", AGGREGATES + "check constraints"),
        ("a", "check", "42804", "argument of CHECK must be type boolean, not type integer"),
        ("a + 1", "default", "0A000", "cannot use column reference in DEFAULT expression"),
        ("sum(1)", "default", "42803", AGGREGATES + "DEFAULT expressions"),
        ("(select 1)", "default", "0A000", SUBQUERY + "DEFAULT expression"),
        (
            "row_number() over ()",
            "default",
            "42P20",
            "window functions are not allowed in DEFAULT expressions",
        ),
        (
            "generate_series(1, 2)",
            "default",
            "0A000",
            "set-returning functions are not allowed in DEFAULT expressions",
        ),
        ("$1", "default", "42P02", "there is no parameter $1"),
        ("now()", "index", "42P17", f"functions in index expression {IMMUTABLE}"),
        ("d::text", "index", "42P17", f"functions in index expression {IMMUTABLE}"),
        ("random() > 1", "predicate", "42P17", f"functions in index predicate {IMMUTABLE}"),
        ("random()", "generated", "42P17", "generation expression is not immutable"),
        ("zz", "index", "42703", 'column "zz" does not exist'),
        ("(select 1)", "using", "0A000", SUBQUERY + "transform expression"),
        ("sum(a) = 1", "copy", "42803", AGGREGATES + "COPY FROM WHERE conditions"),
    ],
)
def test_refusals(text: str, purpose: str, sqlstate: str, message: str) -> None:
    with pytest.raises(SqlError) as caught:
        bind(text, purpose)
    assert (caught.value.sqlstate, caught.value.message) == (sqlstate, message)


def test_default_is_coerced_to_the_column() -> None:
    bound = bind("5", "default", target_type=NUMERIC, column="n")
    assert describe_expression(bound) == "Decimal('5'):numeric"


def test_default_of_another_type_is_refused_with_a_hint() -> None:
    with pytest.raises(SqlError) as caught:
        bind("now()", "default", target_type=INT4, column="n")
    assert caught.value.message == (
        'column "n" is of type integer but default expression is of type timestamp with time zone'
    )
    assert caught.value.hint == "You will need to rewrite or cast the expression."


def test_index_expression_over_columns() -> None:
    bound = bind("lower(b)", "index")
    assert describe_expression(bound) == "lower(b#2)"
    assert expression_type_name(bound) == "text"


def test_view_query_is_stored_qualified_with_stars_spelled_out() -> None:
    query = parse_statements("select *, q.a as k from t join u as q using (a)")[0].statement
    stored, columns, depends_on = qualify_view_query(query, CATALOG)
    assert [t.label for t in stored.targets] == [c.name for c in columns]
    assert stored.targets[0].expression.parts == ("t", "a")
    join = stored.from_items[0]
    assert (join.left.name.schema, join.left.relation_id) == ("public", 16384)
    assert (join.right.name.schema, join.right.relation_id) == ("public", 16390)
    assert {(16384, -1), (16390, -1), (16384, 0), (16390, 1)} <= set(depends_on)
    rebound = bind_statement(stored, CATALOG)
    assert [(c.name, c.type) for c in rebound.columns] == [(c.name, c.type) for c in columns]


def test_view_needs_its_owners_privileges_inside() -> None:
    bound = bind_statement(parse_statements("select a from v")[0].statement, CATALOG)
    assert bound.privileges == ((16430, "r"),)
    assert bound.view_privileges == ((10, 16384, "r"),)
    assert set(bound.relations) == {16430, 16384}


def test_update_needs_select_only_when_it_reads() -> None:
    writes = bind_statement(parse_statements("update t set b = 'x'")[0].statement, CATALOG)
    assert writes.privileges == ((16384, "w"),)
    reads = bind_statement(parse_statements("update t set e = e + 1")[0].statement, CATALOG)
    assert set(reads.privileges) == {(16384, "w"), (16384, "r")}


def test_volatile_statements_are_marked() -> None:
    assert bind_statement(parse_statements("select random()")[0].statement, CATALOG).volatile
    assert not bind_statement(parse_statements("select 1")[0].statement, CATALOG).volatile
