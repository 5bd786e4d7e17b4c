"""Where SELECT ... INTO may stand, and the entry points for expressions and type names."""

import pytest

from sql.ast.ddl import CreateTableAs
from sql.ast.query import Select, SetOperation
from sql.errors import SqlSyntaxError
from sql.parser import parse_statements
from sql.parser.statements import parse_expression, parse_type_name


@pytest.mark.parametrize(
    ("text", "query_class"),
    [
        ("select a into t from s", Select),
        ("select a into temp t from s union select b from u", SetOperation),
        ("(select a into t from s) union all select b from u except select 1", SetOperation),
    ],
)
def test_into_makes_a_table(text: str, query_class: type) -> None:
    (parsed,) = parse_statements(text)
    statement = parsed.statement
    assert isinstance(statement, CreateTableAs)
    assert isinstance(statement.query, query_class)
    assert statement.temporary is (" temp " in text)
    leftmost = statement.query
    while isinstance(leftmost, SetOperation):
        leftmost = leftmost.left
    assert isinstance(leftmost, Select)
    assert leftmost.into is None


@pytest.mark.parametrize(
    "text",
    [
        "values (1) union select 1 into t",
        "select 1 union select 2 into t",
        "select (select 1 into t)",
        "insert into s select 1 into t",
        "select 1 into t union select 2 into u",
    ],
)
def test_into_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(SqlSyntaxError) as caught:
        parse_statements(text)
    assert caught.value.message == "SELECT ... INTO is not allowed here"
    assert caught.value.position > 0


@pytest.mark.parametrize("parse", [parse_expression, parse_type_name])
@pytest.mark.parametrize("text", ["", ",", "int int int", "int;", "int)"])
def test_nothing_may_follow(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(SqlSyntaxError, match=r"^syntax error at "):
        parse(text)
