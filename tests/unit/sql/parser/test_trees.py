"""Shapes of trees, precedence and the places nodes report."""

import pytest

from sql.ast.ddl import CreateTable, CreateTableAs, UniqueConstraint, UnsupportedDdl
from sql.ast.deparse import deparse_expression, deparse_query
from sql.ast.query import (
    BinaryOp,
    ColumnRef,
    IntegerLiteral,
    NumericLiteral,
    Select,
    SetOperation,
    TypeCast,
    TypeName,
)
from sql.ast.utility import Begin, Copy, SetVariable, ShowCluster, ShowVariable
from sql.ast.walk import strip_spans, transform, walk
from sql.errors import SqlSyntaxError
from sql.parser import parse_expression, parse_statements, parse_type_name
from sql.span import NO_SPAN, Span


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("- a ^ b", "((- a) ^ b)"),
        ("a or b and not c = d", "(a OR (b AND (NOT (c = d))))"),
        ("not a is null", "(NOT (a IS NULL))"),
        ("a = b is null", "((a = b) IS NULL)"),
        ("a < b || c + d", "(a < (b || (c + d)))"),
        ("a @> b = c", "((a @> b) = c)"),
        ("@ a + b", "(@ (a + b))"),
        ("a like b || c", "(a LIKE (b || c))"),
        ("a between b and c and d", "((a BETWEEN b AND c) AND d)"),
        ("a::int::text", "((a)::integer)::text"),
        ("- a::int", "(- (a)::integer)"),
        ('a collate "C" || b', '((a COLLATE "C") || b)'),
        ("a at time zone b + c", "((a AT TIME ZONE b) + c)"),
        ("(a and b) and c", "(a AND b AND c)"),
        ("a and (b and c)", "(a AND (b AND c))"),
        ("a in (1, -2)", "(a IN (1, (-2)))"),
        ("a * @ b + c", "(a * (@ (b + c)))"),
        ("a = any (b) = c", "((a = ANY (b)) = c)"),
        ("Upper(\"A b\", 'x')", "upper(\"A b\", 'x')"),
        ("char(3) 'abc'", "'abc'::character(3)"),
        ("x::timestamp(3) with time zone[]", "(x)::timestamp(3) with time zone[]"),
        ("x::interval day to second(3)", "(x)::interval day to second(3)"),
        ("substring(a for 2)", "SUBSTRING(a FROM 1 FOR (2)::integer)"),
        ("trim(both 'x' from a)", "TRIM(BOTH 'x' FROM a)"),
        ("(f(a)).b[1]", "((f(a)).b)[1]"),
    ],
)
def test_precedence_and_printing(text: str, printed: str) -> None:
    expression = parse_expression(text)
    assert deparse_expression(expression) == printed
    assert strip_spans(parse_expression(printed)) == strip_spans(expression)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("integer", TypeName("int4")),
        ("INT8", TypeName("int8")),
        ("char", TypeName("bpchar", modifiers=(1,))),
        ("character varying(5)", TypeName("varchar", modifiers=(5,))),
        ('"char"', TypeName("char")),
        ("float", TypeName("float8")),
        ("float(24)", TypeName("float4")),
        ("float(25)", TypeName("float8")),
        ("decimal(10,-2)[]", TypeName("numeric", modifiers=(10, -2), array_dimensions=1)),
        ("time", TypeName("time")),
        ("timestamp(3) with time zone", TypeName("timestamptz", modifiers=(3,))),
        ("bit", TypeName("bit", modifiers=(1,))),
        ("bit varying", TypeName("varbit")),
        ("interval second(2)", TypeName("interval", modifiers=(2,), fields=("second",))),
        ("int array[4]", TypeName("int4", array_dimensions=1)),
        ("int[3][]", TypeName("int4", array_dimensions=2)),
        ("bigserial", TypeName("bigserial")),
        ('s."T"', TypeName("T", schema="s")),
        ("pg_catalog.int4", TypeName("int4", schema="pg_catalog")),
    ],
)
def test_type_names(text: str, expected: TypeName) -> None:
    assert strip_spans(parse_type_name(text)) == expected


def test_integers_are_literals_up_to_int8() -> None:
    assert parse_expression("9223372036854775807") == IntegerLiteral(2**63 - 1, Span(0, 19))
    assert isinstance(parse_expression("9223372036854775808"), NumericLiteral)
    assert parse_expression("-9223372036854775808") == IntegerLiteral(-(2**63), Span(0, 20))
    assert parse_expression("- 5") == IntegerLiteral(-5, Span(0, 3))


def test_spans_are_where_postgresql_reports_errors() -> None:
    comparison = parse_expression("  abc  <= f(x) ")
    assert isinstance(comparison, BinaryOp)
    assert comparison.span == Span(7, 9)
    assert comparison.left == ColumnRef(("abc",), Span(2, 5))
    assert comparison.right.span == Span(10, 14)
    cast = parse_expression("a :: int")
    assert isinstance(cast, TypeCast)
    assert (cast.span, cast.type_name.span) == (Span(2, 4), Span(5, 8))


def test_several_statements() -> None:
    first, second = parse_statements(" ;begin; ; select $2, $1;;")
    assert isinstance(first.statement, Begin)
    assert first.span == Span(2, 7)
    assert second.parameter_count == 2
    assert second.span == Span(11, 24)
    assert parse_statements(" ; -- nothing\n") == ()


def test_select_into_is_create_table_as() -> None:
    (parsed,) = parse_statements("with a as (select 1) select * into temp t from a")
    statement = parsed.statement
    assert isinstance(statement, CreateTableAs)
    assert statement.temporary
    assert isinstance(statement.query, Select)
    assert statement.query.into is None
    for text in ("select (select 1 into t)", "insert into t select 1 into s"):
        with pytest.raises(SqlSyntaxError) as caught:
            parse_statements(text)
        assert caught.value.message == "SELECT ... INTO is not allowed here"


@pytest.mark.parametrize(
    ("text", "what", "args"),
    [
        ("SHOW SCHEMA VERSION", "schema version", ()),
        ("show ranges", "ranges", ()),
        ("show routing", "routing", ()),
        ("show nodes", "nodes", ()),
        ("show node 3", "node", (3,)),
        ("show cluster", "cluster", ()),
        ("show raft groups", "raft groups", ()),
        ("show raft group 7", "raft group", (7,)),
        ("show migrations", "migrations", ()),
        ("show peer health", "peer health", ()),
        ("show connections", "connections", ()),
    ],
)
def test_show_of_the_cluster(text: str, what: str, args: tuple[object, ...]) -> None:
    (parsed,) = parse_statements(text)
    assert parsed.statement == ShowCluster(what, args, Span(0, len(text)))
    (plain,) = parse_statements("show work_mem")
    assert plain.statement == ShowVariable("work_mem", Span(0, 13))


def test_statements_of_many_kinds() -> None:
    text = (
        "create table t (a int primary key deferrable);"
        "set local time zone 'UTC';"
        "copy t from stdin (format csv, force_null (a));"
        "create function f() returns int as $$ ; $$ language sql;"
    )
    table, setting, copy, function = (parsed.statement for parsed in parse_statements(text))
    assert isinstance(table, CreateTable)
    (constraint,) = table.elements[0].constraints  # type: ignore[union-attr]
    assert isinstance(constraint, UniqueConstraint)
    assert constraint.primary
    assert constraint.deferrable
    assert strip_spans(setting) == SetVariable("timezone", ("UTC",), local=True)
    assert isinstance(copy, Copy)
    assert copy.column_options == (("force_null", ("a",)),)
    assert strip_spans(function) == UnsupportedDdl("CREATE FUNCTION")


@pytest.mark.parametrize(
    ("text", "message", "position"),
    [
        ("create sequence s start 1 start 2", "conflicting or redundant options", 27),
        ("create role r login nologin", "conflicting or redundant options", 21),
        ("copy t from stdin (format csv, format text)", "conflicting or redundant options", 32),
        ("create database d owner a owner b", "conflicting or redundant options", 27),
        ("create table t (a int deferrable)", "misplaced DEFERRABLE clause", 23),
    ],
)
def test_errors_postgresql_finds_behind_its_grammar(text: str, message: str, position: int) -> None:
    with pytest.raises(SqlSyntaxError) as caught:
        parse_statements(text)
    assert (caught.value.message, caught.value.position) == (message, position)


def test_pretty_queries_look_like_view_definitions() -> None:
    (parsed,) = parse_statements(
        "select a, b as c from t join s on t.a = s.a where x in (select 1 from z) order by 1 desc"
    )
    assert isinstance(parsed.statement, Select | SetOperation)
    assert deparse_query(parsed.statement, pretty=True) == (
        " SELECT a,\n    b AS c\n   FROM (t\n     JOIN s ON (t.a = s.a))\n"
        "  WHERE (x IN ( SELECT 1\n           FROM z))\n  ORDER BY 1 DESC"
    )


def test_walk_visits_and_transform_replaces() -> None:
    expression = parse_expression("f(a, b + a)")
    names = [node.parts for node in walk(expression) if isinstance(node, ColumnRef)]
    assert names == [("a",), ("b",), ("a",)]
    renamed = transform(
        expression,
        lambda node: (
            ColumnRef(("z",)) if isinstance(node, ColumnRef) and node.parts == ("a",) else node
        ),
    )
    assert deparse_expression(renamed) == "f(z, (b + z))"
    assert transform(expression, lambda node: node) is expression
    assert all(getattr(node, "span", NO_SPAN) == NO_SPAN for node in walk(strip_spans(expression)))
