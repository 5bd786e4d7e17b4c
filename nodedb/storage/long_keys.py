"""Keys beyond LMDB's limit: stored under a prefix and a hash, with the full key in the value.

LMDB (engine 0.9) takes keys of at most 511 bytes. A key of up to ``KEY_BYTES_MAX`` is stored as it
is. A longer one is stored as ``key[:KEY_BYTES_MAX] | blake2b(key):16``, which has exactly 511
bytes, so that the length of a stored key says what it is; its value is ``key length:4 | key |
value``.

Long keys with the same prefix form one *run* of neighbours, ordered by hash. Everything outside of
the run compares with the prefix as with the full keys, so only inside a run the order must be
restored: a scan reads the whole run and sorts it. Spaces that hold no long key never come here.
"""

import struct
from collections.abc import Iterator
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final

from nodedb.storage.engine import KeyValue

_HASH_BYTES: Final = 16
STORED_BYTES_MAX: Final = 511
KEY_BYTES_MAX: Final = STORED_BYTES_MAX - _HASH_BYTES
_LENGTH: Final = struct.Struct(">I")
_by_key: Final = itemgetter(0)


def stored_key(key: bytes) -> bytes:
    """Return what a long key is stored under."""
    return key[:KEY_BYTES_MAX] + blake2b(key, digest_size=_HASH_BYTES).digest()


def stored_value(key: bytes, value: bytes) -> bytes:
    """Return what is stored for a long key."""
    return b"".join((_LENGTH.pack(len(key)), key, value))


def split_value(stored: bytes) -> KeyValue:
    """Return (full key, value) of what is stored for a long key."""
    (length,) = _LENGTH.unpack_from(stored)
    end = _LENGTH.size + length
    return stored[_LENGTH.size : end], stored[end:]


def iterate(cursor: Any, start: bytes, end: bytes | None, *, reverse: bool) -> Iterator[KeyValue]:
    """Yield the pairs of [start, end) with full keys in their order, or descending.

    ``cursor`` is a fresh ``lmdb.Cursor`` of a transaction without buffers (its stub allows both).
    """
    ordered = _descending(cursor, end) if reverse else _ascending(cursor, start)
    for pair in ordered:
        key = pair[0]
        if reverse:
            if key < start:
                return
            if end is None or key < end:
                yield pair
        else:
            if end is not None and key >= end:
                return
            if key >= start:
                yield pair


def _ascending(cursor: Any, start: bytes) -> Iterator[KeyValue]:
    if cursor.set_range(start[:KEY_BYTES_MAX]):
        yield from _restore_order(cursor.iternext(), reverse=False)


def _descending(cursor: Any, end: bytes | None) -> Iterator[KeyValue]:
    found = False
    if end is not None:
        # 0xff bytes reach behind every hash of the run that a long end lies in.
        bound = end if len(end) <= KEY_BYTES_MAX else end[:KEY_BYTES_MAX] + b"\xff" * _HASH_BYTES
        found = cursor.set_range(bound)
    if found or cursor.last():
        yield from _restore_order(cursor.iterprev(), reverse=True)


def _restore_order(stored: Iterator[KeyValue], *, reverse: bool) -> Iterator[KeyValue]:
    run: list[KeyValue] = []
    run_prefix = b""
    for key, value in stored:
        if len(key) == STORED_BYTES_MAX:
            prefix = key[:KEY_BYTES_MAX]
            if run and prefix != run_prefix:
                run.sort(key=_by_key, reverse=reverse)
                yield from run
                run = []
            run_prefix = prefix
            run.append(split_value(value))
            continue
        if run:
            run.sort(key=_by_key, reverse=reverse)
            yield from run
            run = []
        yield key, value
    run.sort(key=_by_key, reverse=reverse)
    yield from run
