"""Where statements end."""

import random

import pytest

from nodedb.cli.splitter import Splitter, find_end, is_blank

ONE_STATEMENT = [
    "select ';'",
    "select 'it''s; fine'",
    r"select e'\';', E'\\'",
    "select $$;$$, $tag$ $$ ; $tag$",
    'select ";" as "a""b;"',
    "select 1 -- not ; here\n",
    "select /* ; /* nested ; */ ; */ 1",
    "create rule r as on insert to t do (select 1; select 2)",
    "select a$b$c from t",
    "select $1, $2",
    "select name'x'",
]


@pytest.mark.parametrize("text", ONE_STATEMENT)
def test_a_semicolon_inside_ends_nothing(text: str) -> None:
    assert find_end(text) is None
    assert find_end(text + ";") == len(text)


@pytest.mark.parametrize(
    "text", ["select 'x;", 'select "x;', "select $$ ;", "/* ; ", "select $a$ ; $b$", "select (1;"]
)
def test_what_is_still_open_is_not_ended(text: str) -> None:
    assert find_end(text + ";") is None


@pytest.mark.parametrize("seed", range(50))
def test_any_cut_into_pieces_gives_the_same_statements(seed: int) -> None:
    chance = random.Random(seed)
    statements = [chance.choice(ONE_STATEMENT) for _ in range(5)]
    text = ";\n".join(statements) + ";\n"
    splitter = Splitter()
    found: list[str] = []
    position = 0
    while position < len(text):
        length = chance.randint(1, 12)
        found += splitter.feed(text[position : position + length])
        position += length
    assert found == [statement.strip() for statement in statements], f"seed {seed}"
    assert splitter.pending == ""


def test_empty_statements_and_comments_are_no_statements() -> None:
    splitter = Splitter()
    assert splitter.feed(";; -- nothing\n ; /* nothing */ ;") == []
    assert splitter.pending == ""
    assert splitter.feed("-- about the next\nselect 1") == []
    assert splitter.pending == "-- about the next\nselect 1"
    splitter.clear()
    assert splitter.pending == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", True), (" \n", True), ("-- x", True), ("/* x */ ", True), ("/* x", True), ("x", False)],
)
def test_is_blank(text: str, expected: bool) -> None:
    assert is_blank(text) is expected
