"""hashtext gives PostgreSQL's numbers, recorded from a server."""

import pytest

from sql.functions.hashing import hash_bytes
from sql.functions.implementation import FUNCTIONS

HASH = FUNCTIONS["hashtext(text)"].function
EXTENDED = FUNCTIONS["hashtextextended(text,int8)"].function


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", 1075015857),
        ("", -1477818771),
        ("hello world", 1021725223),
        ("abcdefghijkl", -1586087212),
        ("abcdefghijklm", 405849808),
        ("é", -983094517),
    ],
)
def test_hashtext(text: str, value: int) -> None:
    assert HASH(text) == value


def test_hashtextextended() -> None:
    assert EXTENDED("a", 0) == 3591986179850072241
    assert EXTENDED("hello world 12345", 42) == 7930737971612569943
    assert EXTENDED("a", 0) & 0xFFFFFFFF == HASH("a")
    assert EXTENDED("a", -1) != EXTENDED("a", 0)


def test_both_words_are_32_bits() -> None:
    assert all(0 <= word < 1 << 32 for n in range(30) for word in hash_bytes(b"x" * n, n))
