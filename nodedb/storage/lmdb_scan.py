"""Scanning a named database of LMDB with a fresh cursor: batches at C speed, in growing steps."""

from bisect import bisect_left
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from nodedb.storage.engine import KeyValue
from nodedb.storage.long_keys import iterate

_SCAN_STEP_FIRST: Final = 4
_SCAN_STEP_FACTOR: Final = 4
_SCAN_STEP_MAX: Final = 1024
_key_of: Final = itemgetter(0)


def scan_cursor(
    cursor: Any,
    start: bytes,
    end: bytes | None,
    limit: int,
    *,
    reverse: bool,
    has_long_keys: bool,
) -> list[KeyValue]:
    """Scan with a fresh cursor; see ``Space.scan``."""
    if has_long_keys:
        return list(islice(iterate(cursor, start, end, reverse=reverse), limit))
    if reverse:
        return _scan_reverse(cursor, start, end, limit)
    if not cursor.set_range(start):
        return []
    # Rows are fetched by islice, at C speed, and only then compared with the end: a few too many
    # may be fetched, so the steps grow with what was found.
    rows = cursor.iternext()
    step = min(limit, _SCAN_STEP_FIRST)
    result = list(islice(rows, step))
    while True:
        if end is not None and result and result[-1][0] >= end:
            return result[: bisect_left(result, end, key=_key_of)]
        room = limit - len(result)
        if room == 0:
            return result
        step = min(step * _SCAN_STEP_FACTOR, _SCAN_STEP_MAX, room)
        part = list(islice(rows, step))
        if not part:
            return result
        result += part


def scan_cursor_values(
    cursor: Any, start: bytes, end: bytes | None, limit: int, bytes_max: int
) -> tuple[list[bytes], bytes | None]:
    """Scan values with a fresh cursor; see ``Space.scan_values``.

    No key is made but each step's last. A step that has run over the end is read again with keys.
    """
    if not cursor.set_range(start):
        return [], None
    rows = cursor.iternext(keys=False, values=True)
    result: list[bytes] = []
    size = 0
    step = min(limit, _SCAN_STEP_FIRST)
    while True:
        part: list[bytes] = list(islice(rows, step))
        last: bytes = cursor.key()
        if len(part) < step or (end is not None and last >= end):
            break
        result += part
        size += sum(map(len, part))
        start = last + b"\0"
        if len(result) == limit or size >= bytes_max:
            return result, start
        step = min(step * _SCAN_STEP_FACTOR, _SCAN_STEP_MAX, limit - len(result))
    if end is None or not part:
        return result + part, None
    pairs = scan_cursor(cursor, start, end, len(part), reverse=False, has_long_keys=False)
    return result + [value for _, value in pairs], None


def _scan_reverse(cursor: Any, start: bytes, end: bytes | None, limit: int) -> list[KeyValue]:
    if end is not None and cursor.set_range(end):
        if not cursor.prev():
            return []
    elif not cursor.last():
        return []
    rows = cursor.iterprev()
    step = min(limit, _SCAN_STEP_FIRST)
    result = list(islice(rows, step))
    while True:
        while result and result[-1][0] < start:
            result.pop()
            limit = len(result)
        room = limit - len(result)
        if room == 0:
            return result
        step = min(step * _SCAN_STEP_FACTOR, _SCAN_STEP_MAX, room)
        part = list(islice(rows, step))
        if not part:
            return result
        result += part


def take_cursor(
    cursor: Any, start: bytes, limit: int, bytes_max: int, *, has_long_keys: bool
) -> list[KeyValue]:
    """Fetch the first pairs at and behind ``start``; see ``Snapshot.take``."""
    if has_long_keys:
        rows = iterate(cursor, start, None, reverse=False)
    elif cursor.set_range(start):
        rows = cursor.iternext()
    else:
        return []
    result: list[KeyValue] = []
    size = 0
    step = min(limit, 1)
    while step > 0:
        part = list(islice(rows, step))
        result += part
        size += sum([len(key) + len(value) for key, value in part])
        if len(part) < step or size >= bytes_max:
            break
        # As many as fit if they are like those before, in steps that grow: one may be large.
        fitting = (bytes_max - size) * len(result) // max(size, 1) + 1
        step = min(limit - len(result), len(result) * _SCAN_STEP_FACTOR, fitting)
    return result
