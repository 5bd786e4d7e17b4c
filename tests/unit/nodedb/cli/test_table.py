"""Tables as psql prints them; ``tests/e2e/test_cli_sql.py`` compares with psql itself."""

import json

from nodedb.cli.table import aligned, as_json, display_width, expanded


def test_aligned() -> None:
    text = aligned(["id", "v"], [["1", "a\nb"], ["20", None]], [True, False])
    assert text == " id | v \n----+---\n  1 | a+\n    | b\n 20 | \n(2 rows)\n\n"


def test_no_rows_and_one_row() -> None:
    assert aligned(["n"], [], [True]).endswith("\n(0 rows)\n\n")
    assert aligned(["n"], [["1"]], [True]).endswith("\n(1 row)\n\n")


def test_expanded() -> None:
    text = expanded(["id", "name"], [["1", "x"], ["2", None]])
    assert text == (
        "-[ RECORD 1 ]\nid   | 1\nname | x\n-[ RECORD 2 ]\nid   | 2\nname | \n\n"
    )
    assert expanded(["id"], []) == "(0 rows)\n\n"


def test_wide_and_combining_characters_take_what_they_take() -> None:
    assert display_width("日本") == 4
    assert display_width("e\u0301") == 1
    assert aligned(["a"], [["日本"], ["x"]], [False]).splitlines()[1] == "------"


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = aligned(["a"], [["\x1b[2J\x9b"]], [False])
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert r"\x1B[2J" in text


def test_json() -> None:
    assert json.loads(as_json(["a", "b"], [["1", None]])) == [{"a": "1", "b": None}]
