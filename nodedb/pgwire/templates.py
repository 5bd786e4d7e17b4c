"""The packet of a prepared execution, recognised whole.

A driver executes a prepared statement with Bind, Describe, Execute and Sync in one packet, and the
next execution's packet differs from the last one's only in the parameters. A ``Template`` remembers
what stays the same, so that recognising it and taking the parameters out costs two comparisons and
a loop over the values. Whatever does not fit exactly goes to ``nodedb.pgwire.codec`` as usual.

Source: PostgreSQL docs, "Message Formats": Bind.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from nodedb.pgwire import backend
from nodedb.waiter import Waiter
from sql.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodedb.pgwire import message as m
    from nodedb.pgwire.rows import RowEncoder
    from nodedb.session.api import Step, StepOutcome

BIND_TAG: Final = ord("B")
_QUERY_TAG: Final = ord("Q")
NAME_OFFSET: Final = 6
"""Of the statement's name in a Bind for the unnamed portal: tag, length, an empty name."""
_BODY_OFFSET: Final = 5
_LENGTH_BYTES: Final = 4
_COUNT_BYTES: Final = 2
_int32 = struct.Struct("!i").unpack_from


class Template:
    """Recognises the executions of one prepared statement, and knows the frame of its answer.

    ``head`` is sent before the rows. ``encode`` is None when rows have to be encoded as the
    session's settings are just then.
    """

    __slots__ = (
        "_bind_end",
        "_count",
        "_first",
        "_has_text",
        "_prefix",
        "_suffix",
        "_suffix_bytes",
        "encode",
        "formats",
        "head",
        "result_formats",
        "step",
    )

    def __init__(
        self,
        data: bytes,
        bind: m.Bind,
        following: bytes,
        step: Step,
        head: bytes,
        encode: RowEncoder | None,
    ) -> None:
        """Learn from an execution: ``data`` is its Bind and the messages ``following`` it."""
        assert not bind.portal
        codes = bind.parameter_formats
        names = NAME_OFFSET + len(bind.statement.encode()) + 1
        self._first = names + _COUNT_BYTES + 2 * len(codes) + _COUNT_BYTES
        self._prefix = data[_BODY_OFFSET : self._first]
        self._suffix_bytes = _COUNT_BYTES + 2 * len(bind.result_formats) + len(following)
        self._suffix = data[-self._suffix_bytes :]
        self._bind_end = len(following) + 1
        self._count = len(bind.parameters)
        self._has_text = 0 in codes or not codes
        self.formats: Sequence[int] = codes
        self.result_formats: Sequence[int] = bind.result_formats
        self.step = step
        self.head = head
        self.encode = encode

    def values_of(self, data: bytes) -> list[bytes | None] | None:
        """Return the parameters of an execution, None when the packet is anything else.

        Text beyond ASCII, which has to be checked, counts as something else too.
        """
        if (
            not data.startswith(self._prefix, _BODY_OFFSET)
            or not data.endswith(self._suffix)
            or _int32(data, 1)[0] != len(data) - self._bind_end
        ):
            return None
        offset = self._first
        end = len(data) - self._suffix_bytes
        values: list[bytes | None] = []
        for _ in range(self._count):
            # The suffix is longer than a length, so there is something to read up to ``end``.
            if offset > end:
                return None
            length = _int32(data, offset)[0]
            offset += _LENGTH_BYTES
            if length < 0:
                if length != -1:
                    return None
                values.append(None)
                continue
            value = data[offset : offset + length]
            if self._has_text and (not value.isascii() or b"\0" in value):
                return None
            values.append(value)
            offset += length
        return values if offset == end else None


def head_of(row_description: bytes | None, *, is_described: bool) -> bytes:
    """Return what precedes the rows: BindComplete, and the answer to Describe if that was asked."""
    if not is_described:
        return backend.BIND_COMPLETE
    return backend.BIND_COMPLETE + (backend.NO_DATA if row_description is None else row_description)


def query_text(data: bytes) -> str | None:
    """Return the text of a packet that is one Query message, None for any other."""
    last = len(data) - 1
    if data[0] != _QUERY_TAG or last < _BODY_OFFSET:
        return None
    if _int32(data, 1)[0] != last or data.find(0, _BODY_OFFSET) != last:
        return None
    try:
        return data[_BODY_OFFSET:last].decode()
    except UnicodeDecodeError:
        return None


async def complete(step: Step, outcome: StepOutcome) -> bool:
    """Wait for what a step's run has begun; False when it declined."""
    if outcome is None:
        return False
    if isinstance(outcome, Waiter):
        failure: SqlError | None = None
        try:
            await outcome
        except SqlError as error:  # raised again by finish, which tidies up first
            failure = error
        step.finish(failure)
    return True
