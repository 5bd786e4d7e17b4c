"""Tokens by PostgreSQL's lexical rules."""

import pytest

from sql.errors import SqlError
from sql.parser.lexer import tokenize, truncate_identifier


def _tokens(text: str) -> list[tuple[str, object]]:
    tokens = tokenize(text)
    end = tokens.kinds.index("EOF")
    return list(zip(tokens.kinds[:end], tokens.values[:end], strict=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SeLect", [("select", "select")]),
        ("Straße ÄB", [("IDENT", "straße"), ("IDENT", "Äb")]),
        ("a$1b _x", [("IDENT", "a$1b"), ("IDENT", "_x")]),
        ('"Aa""b" "select"', [("IDENT", 'Aa"b'), ("IDENT", "select")]),
        ("'a''b'", [("SCONST", "a'b")]),
        ("'a' \n 'b' --c\n 'd'", [("SCONST", "abd")]),
        ("'a' --c\n 'b'", [("SCONST", "ab")]),
        ("'a' 'b'", [("SCONST", "a"), ("SCONST", "b")]),
        ("'a'\\n", [("SCONST", "a"), ("\\", "\\"), ("IDENT", "n")]),
        (r"e'\n\t\b\f\r\\\'\q''\101\x41\u00e9\U0001F600'", [("SCONST", "\n\t\b\f\r\\'q'AAé😀")]),
        (r"E'\ud83d\ude00'", [("SCONST", "😀")]),
        (r"E'\303\251'", [("SCONST", "é")]),
        ("E'a'\n'\\x62'", [("SCONST", "ab")]),
        (r"U&'\0041\+01F600\\'", [("SCONST", "A😀\\")]),
        (r"U&'\d83d\de00'", [("SCONST", "😀")]),
        ("u&'!0041' UESCAPE '!'", [("SCONST", "A")]),
        (r'U&"\0061b"', [("IDENT", "ab")]),
        ("b'01' X'1f'", [("BCONST", "b01"), ("BCONST", "x1f")]),
        ("n'x'", [("nchar", "nchar"), ("SCONST", "x")]),
        ("$$a'$b$$ $x$ $$ $x$", [("SCONST", "a'$b"), ("SCONST", " $$ ")]),
        (
            "1 12.5 .5 5. 1e3 1.5E-2",
            [
                ("ICONST", "1"),
                ("FCONST", "12.5"),
                ("FCONST", ".5"),
                ("FCONST", "5."),
                ("FCONST", "1e3"),
                ("FCONST", "1.5E-2"),
            ],
        ),
        ("2147483647 2147483648", [("ICONST", "2147483647"), ("FCONST", "2147483648")]),
        ("1..2", [("ICONST", "1"), ("..", ".."), ("ICONST", "2")]),
        ("$12", [("PARAM", "12")]),
        (
            "a::b:=c=>d",
            [
                ("IDENT", "a"),
                ("::", "::"),
                ("IDENT", "b"),
                (":=", ":="),
                ("IDENT", "c"),
                ("=>", "=>"),
                ("IDENT", "d"),
            ],
        ),
        ("< > <= >= <> != =", [(k, k) for k in ("<", ">", "<=", ">=", "<>", "<>", "=")]),
        ("*-1", [("*", "*"), ("-", "-"), ("ICONST", "1")]),
        ("=-", [("=", "="), ("-", "-")]),
        ("@- <->", [("OP", "@-"), ("OP", "<->")]),
        ("a+--b\n-", [("IDENT", "a"), ("+", "+"), ("-", "-")]),
        ("a*/*x/*y*/*/b", [("IDENT", "a"), ("*", "*"), ("IDENT", "b")]),
        ("|/ ||", [("OP", "|/"), ("OP", "||")]),
        (
            "not in not a nulls last with time",
            [
                ("not_la", "not"),
                ("in", "in"),
                ("not", "not"),
                ("IDENT", "a"),
                ("nulls_la", "nulls"),
                ("last", "last"),
                ("with_la", "with"),
                ("time", "time"),
            ],
        ),
    ],
)
def test_tokens(text: str, expected: list[tuple[str, str]]) -> None:
    assert _tokens(text) == expected


def test_offsets_count_characters() -> None:
    tokens = tokenize("select 'é😀' x")
    assert tokens.starts[:3] == [0, 7, 12]
    assert tokens.ends[:3] == [6, 11, 13]


def test_a_lexical_error_is_the_last_token() -> None:
    tokens = tokenize("select 'abc")
    assert tokens.kinds[:2] == ["select", "ERROR"]
    error = tokens.values[1]
    assert isinstance(error, SqlError)
    assert error.message == 'unterminated quoted string at or near "\'abc"'
    assert error.position == 8


def test_names_are_cut_to_63_bytes_between_characters() -> None:
    assert _tokens("x" * 70) == [("IDENT", "x" * 63)]
    assert truncate_identifier("é" * 40) == "é" * 31
    assert truncate_identifier("é" * 31) == "é" * 31


@pytest.mark.parametrize(
    ("text", "sqlstate", "message"),
    [
        (r"E'\xff'", "22021", 'invalid byte sequence for encoding "UTF8": 0xff'),
        (r"E'\000'", "22021", 'invalid byte sequence for encoding "UTF8": 0x00'),
        (r"E'\u12'", "22025", "invalid Unicode escape"),
        ("+" * 70 + "@", "42601", 'operator too long at or near "' + "+" * 70 + '@"'),
    ],
)
def test_lexical_errors(text: str, sqlstate: str, message: str) -> None:
    tokens = tokenize(text)
    error = tokens.values[tokens.kinds.index("ERROR")]
    assert isinstance(error, SqlError)
    assert (error.sqlstate, error.message) == (sqlstate, message)
