"""hashtext and hashtextextended: the hash that hash indexes have, often a key of advisory locks.

Bob Jenkins' lookup3 over the UTF-8 bytes, started as PostgreSQL starts it, so that the numbers are
the same as there.
"""

from typing import Final

from sql.functions.implementation import implements

_MASK: Final = 0xFFFFFFFF
_START: Final = 0x9E3779B9 + 3923095
_BLOCK_BYTES: Final = 12


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (32 - bits))) & _MASK


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in (4, 6, 8, 16, 19, 4):
        # One step of six; the three words take turns.
        a = ((a - c) & _MASK) ^ _rotate(c, bits)
        c = (c + b) & _MASK
        a, b, c = b, c, a
    return a, b, c


def _finish(a: int, b: int, c: int) -> tuple[int, int]:
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - _rotate(b, bits)) & _MASK
        a, b, c = b, c, a
    return a, b  # Seven turns: the second and third word are where the first two began.


def hash_bytes(key: bytes, seed: int = 0) -> tuple[int, int]:
    """Return two hashes of 32 bits; without a seed only the second is in use."""
    a = b = c = (_START + len(key)) & _MASK
    if seed:
        a = (a + (seed >> 32)) & _MASK
        b = (b + seed) & _MASK
        a, b, c = _mix(a, b, c)
    rest = key
    while len(rest) >= _BLOCK_BYTES:
        words = [int.from_bytes(rest[at : at + 4], "little") for at in (0, 4, 8)]
        a, b, c = _mix(*((x + y) & _MASK for x, y in zip((a, b, c), words, strict=True)))
        rest = rest[_BLOCK_BYTES:]
    a = (a + int.from_bytes(rest[:4], "little")) & _MASK
    b = (b + int.from_bytes(rest[4:8], "little")) & _MASK
    # The lowest byte of the third word is the length's.
    c = (c + (int.from_bytes(rest[8:], "little") << 8)) & _MASK
    return _finish(a, b, c)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


@implements("hashtext(text)")
def _hash_text(text: str) -> int:
    return _signed(hash_bytes(text.encode())[1], 32)


@implements("hashtextextended(text,int8)")
def _hash_text_extended(text: str, seed: int) -> int:
    high, low = hash_bytes(text.encode(), seed & 0xFFFFFFFFFFFFFFFF)
    return _signed(high << 32 | low, 64)
