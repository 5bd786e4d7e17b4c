"""Frontend message codec of PostgreSQL protocol 3.0: bytes in, typed messages out, no I/O.

Wire shape: ``tag:1 | length:int32 | body``, big-endian; length counts itself but not the tag.
A bad header loses the framing: ``FatalError``. A bad body does not, since its end is known:
``ProtocolViolation`` (08P01) or ``CharacterNotInRepertoire`` (22021), and the next call goes on
behind it; ``last_tag`` tells which message it was. Before the startup message the frame has no tag:
see ``startup``.

Source: PostgreSQL docs, "Message Formats".
"""

import struct
from collections.abc import Callable
from typing import Final

from nodedb.pgwire import message as m
from nodedb.pgwire.errors import FatalError, framing_lost
from nodedb.session.encoding import decode_utf8
from sql.errors import ProgramLimitExceeded, ProtocolViolation, SqlError

MESSAGE_BYTES_MAX: Final = 256 * 1024 * 1024
_SMALL_MESSAGE_BYTES_MAX: Final = 10_000
_HEADER_BYTES: Final = 5
_LENGTH_BYTES: Final = 4
_header = struct.Struct("!Bi").unpack_from
_int32 = struct.Struct("!i").unpack_from
_uint16 = struct.Struct("!H").unpack_from
_SYNC: Final = m.Sync()


def _string(data: bytes, start: int, end: int) -> tuple[str, int]:
    """Return the NUL-terminated string at ``start`` and the offset behind its terminator."""
    stop = data.find(0, start, end)
    if stop < 0:
        raise ProtocolViolation("invalid string in message")
    try:
        return data[start:stop].decode(), stop + 1
    except UnicodeDecodeError:
        return decode_utf8(data[start:stop]), stop + 1  # raises, with PostgreSQL's message


def _only_string(data: bytes, start: int, end: int) -> str:
    text, offset = _string(data, start, end)
    _expect_end(offset, end)
    return text


def _expect_end(offset: int, end: int) -> None:
    if offset != end:
        raise ProtocolViolation("invalid message format")


def _formats(data: bytes, offset: int, end: int) -> tuple[tuple[int, ...], int]:
    """Return a counted list of int16 format codes and the offset behind it."""
    if offset + 2 > end:
        raise ProtocolViolation("insufficient data left in message")
    count = _uint16(data, offset)[0]
    offset += 2
    if count == 0:
        return (), offset
    if offset + 2 * count > end:
        raise ProtocolViolation("insufficient data left in message")
    return struct.unpack_from(f"!{count}h", data, offset), offset + 2 * count


def _decode_bind(data: bytes, start: int, end: int) -> m.Bind:
    portal, offset = _string(data, start, end)
    statement, offset = _string(data, offset, end)
    formats, offset = _formats(data, offset, end)
    if offset + 2 > end:
        raise ProtocolViolation("insufficient data left in message")
    count = _uint16(data, offset)[0]
    offset += 2
    if len(formats) > 1 and len(formats) != count:
        raise ProtocolViolation(
            f"bind message has {len(formats)} parameter formats but {count} parameters"
        )
    parameters: list[bytes | None] = []
    while count:
        count -= 1
        if offset + _LENGTH_BYTES > end:
            raise ProtocolViolation("insufficient data left in message")
        length = _int32(data, offset)[0]
        offset += _LENGTH_BYTES
        if length >= 0:
            value = data[offset : offset + length]
            offset += length
            if offset > end:
                raise ProtocolViolation("insufficient data left in message")
            parameters.append(value)
        elif length == -1:
            parameters.append(None)
        else:
            raise ProtocolViolation("insufficient data left in message")
    result_formats, offset = _formats(data, offset, end)
    _expect_end(offset, end)
    return m.Bind(portal, statement, formats, parameters, result_formats)


def _decode_execute(data: bytes, start: int, end: int) -> m.Execute:
    portal, offset = _string(data, start, end)
    if offset + _LENGTH_BYTES != end:
        raise ProtocolViolation("invalid message format")
    # A negative limit means no limit, as in PostgreSQL.
    return m.Execute(portal, max(_int32(data, offset)[0], 0))


def _decode_parse(data: bytes, start: int, end: int) -> m.Parse:
    statement, offset = _string(data, start, end)
    text, offset = _string(data, offset, end)
    if offset + 2 > end:
        raise ProtocolViolation("insufficient data left in message")
    count = _uint16(data, offset)[0]
    offset += 2
    if offset + _LENGTH_BYTES * count > end:
        raise ProtocolViolation("insufficient data left in message")
    oids = struct.unpack_from(f"!{count}I", data, offset)
    _expect_end(offset + _LENGTH_BYTES * count, end)
    return m.Parse(statement, text, oids)


def _decode_describe(data: bytes, start: int, end: int) -> m.FrontendMessage:
    if start == end:
        raise ProtocolViolation("no data left in message")
    kind = data[start]
    if kind == 0x50:
        # "" in two compares: Describe of the unnamed portal comes with every prepared Execute.
        if end - start == 2 and data[start + 1] == 0:
            return m.DescribePortal("")
        return m.DescribePortal(_only_string(data, start + 1, end))
    if kind == 0x53:
        return m.DescribeStatement(_only_string(data, start + 1, end))
    raise ProtocolViolation(f"invalid DESCRIBE message subtype {kind}")


def _decode_close(data: bytes, start: int, end: int) -> m.FrontendMessage:
    if start == end:
        raise ProtocolViolation("no data left in message")
    kind = data[start]
    if kind == 0x50:
        return m.ClosePortal(_only_string(data, start + 1, end))
    if kind == 0x53:
        return m.CloseStatement(_only_string(data, start + 1, end))
    raise ProtocolViolation(f"invalid CLOSE message subtype {kind}")


def _decode_query(data: bytes, start: int, end: int) -> m.Query:
    return m.Query(_only_string(data, start, end))


def _decode_sync(_data: bytes, start: int, end: int) -> m.Sync:
    _expect_end(start, end)
    return _SYNC


def _decode_flush(_data: bytes, start: int, end: int) -> m.Flush:
    _expect_end(start, end)
    return m.Flush()


def _decode_copy_data(data: bytes, start: int, end: int) -> m.CopyData:
    return m.CopyData(data[start:end])


def _decode_copy_done(_data: bytes, start: int, end: int) -> m.CopyDone:
    _expect_end(start, end)
    return m.CopyDone()


def _decode_copy_fail(data: bytes, start: int, end: int) -> m.CopyFail:
    return m.CopyFail(_only_string(data, start, end))


def _decode_function_call(_data: bytes, _start: int, _end: int) -> m.FunctionCall:
    return m.FunctionCall()


def _decode_password(data: bytes, start: int, end: int) -> m.PasswordMessage:
    return m.PasswordMessage(data[start:end])


def _decode_terminate(_data: bytes, _start: int, _end: int) -> m.Terminate:
    return m.Terminate()


_DECODERS: Final[dict[int, Callable[[bytes, int, int], m.FrontendMessage]]] = {
    ord("B"): _decode_bind,
    ord("E"): _decode_execute,
    ord("S"): _decode_sync,
    ord("D"): _decode_describe,
    ord("P"): _decode_parse,
    ord("Q"): _decode_query,
    ord("C"): _decode_close,
    ord("d"): _decode_copy_data,
    ord("c"): _decode_copy_done,
    ord("f"): _decode_copy_fail,
    ord("H"): _decode_flush,
    ord("F"): _decode_function_call,
    ord("p"): _decode_password,
    ord("X"): _decode_terminate,
}
# Only these carry data of the user. All others are short, so that a mad length is found at once.
_LONG_TAGS: Final = frozenset(b"BPQdF")
_COPY_DATA_TAG: Final = ord("d")
_QUERY_TAG: Final = ord("Q")
_SYNC_TAG: Final = ord("S")
_BATCH_ENDS: Final = frozenset(b"QFSHX")
"""Where whoever collects a batch has to decide: behind these the client may wait for an answer."""
KEPT_BYTES_MAX: Final = 1 << 20
"""Of a batch that may have to be sent again to another node."""


class FrontendDecoder:
    """Reassembles messages from chunks of any size. After a FatalError no boundary is known."""

    __slots__ = (
        "_chunks",
        "_data",
        "_kept",
        "_kept_bytes",
        "_mark",
        "_offset",
        "_peeked",
        "_wanted",
        "last_tag",
        "message_bytes_max",
    )

    def __init__(self, message_bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self.message_bytes_max = message_bytes_max
        self._data = b""
        self._offset = 0
        # Chunks of a message that is not complete yet; joined once when _wanted bytes are there,
        # so a large message costs one copy however small its pieces are.
        self._chunks: list[bytes] = []
        self._wanted = 0
        self.last_tag = 0
        # Where the batch began that is to be had again, in _data; what of it came before _data.
        self._mark = -1
        self._peeked = 0
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the socket."""
        if self._mark >= 0:
            self._keep()
        if self._chunks:
            self._chunks.append(data)
            self._wanted -= len(data)
            if self._wanted <= 0:
                self._data = b"".join(self._chunks)
                self._chunks.clear()
        elif self._offset == len(self._data):
            self._data = data
            self._offset = 0
        else:
            self._data = self._data[self._offset :] + data
            self._offset = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes fed but not yet returned in a message."""
        return len(self._data) - self._offset + sum(map(len, self._chunks))

    @property
    def is_amid_message(self) -> bool:
        """True while the next message is known to be incomplete: only more input helps."""
        return bool(self._chunks)

    @property
    def is_empty(self) -> bool:
        """True when every byte fed was part of a message returned."""
        return self._offset == len(self._data) and not self._chunks

    # Batches, for who has to send them on.

    def mark(self) -> None:
        """Remember where the next message begins: ``since_mark`` gives back what came since."""
        self._mark = self._offset
        self._kept.clear()
        self._kept_bytes = 0

    def since_mark(self) -> bytes | None:
        """Return the messages taken since the mark; None if there is none, or they are too long."""
        if self._mark < 0:
            return None
        return b"".join((*self._kept, self._data[self._mark : self._offset]))

    def _keep(self) -> None:
        """Keep what was taken since the mark before the data go."""
        self._kept.append(self._data[self._mark : self._offset])
        self._kept_bytes += self._offset - self._mark
        # Wherever the next message lies after the feed, it is at the offset 0 then, unless all
        # that was fed before has been taken, which is the same.
        self._mark = 0
        if self._offset != len(self._data) or self._chunks:
            self._data = self._data[self._offset :]
            self._offset = 0
        if self._kept_bytes > KEPT_BYTES_MAX:
            self._mark = -1
            self._kept.clear()

    def take_raw(self) -> bytes | None:
        """Take the next message as it stands, or None when more bytes are needed.

        Raises FatalError as ``next_message``.
        """
        data, start = self._data, self._offset
        if start + _HEADER_BYTES > len(data):
            return None
        tag, length = _header(data, start)
        self._check_header(tag, length)
        end = start + 1 + length
        if end > len(data):
            self._start_collecting(data, start, end)
            return None
        self.last_tag = tag
        self._offset = end
        return data[start:end]

    def take_peeked(self) -> bytes:
        """Take the whole batch that ``peek`` has just found, as it stands."""
        data = self._data[self._offset : self._peeked]
        self._offset = self._peeked
        self.last_tag = data[0] if data[0] == _QUERY_TAG else _SYNC_TAG
        return data

    def peek(self) -> tuple[list[m.FrontendMessage], bool]:
        """Decode what comes next up to the end of a batch (Query, Sync), and take nothing.

        The flag tells whether that end was reached. A malformed message stands for an end: that
        nobody can go on behind it is found when it is taken. So does one that ends in no batch.
        """
        data, start = self._data, self._offset
        messages: list[m.FrontendMessage] = []
        while start + _HEADER_BYTES <= len(data):
            tag, length = _header(data, start)
            end = start + 1 + length
            if tag not in _DECODERS or not _LENGTH_BYTES <= length <= self.message_bytes_max:
                return messages, True
            if end > len(data):
                return messages, False
            try:
                messages.append(_DECODERS[tag](data, start + _HEADER_BYTES, end))
            except SqlError:
                return messages, True
            if tag in _BATCH_ENDS:
                self._peeked = end
                return messages, True
            start = end
        return messages, False

    def unread(self, messages: bytes) -> None:
        """Put back messages that were taken, to be taken again."""
        self._data = b"".join((messages, self._data[self._offset :], *self._chunks))
        self._chunks.clear()
        self._offset = 0
        self._mark = -1

    def sole_execution(self, following: bytes) -> bytes | None:
        """Return what was fed last if it is the message returned last and ``following``."""
        data = self._data
        if len(data) < _HEADER_BYTES or len(data) != self._offset + len(following):
            return None
        return data if 1 + _int32(data, 1)[0] == self._offset else None

    def next_message(self) -> m.FrontendMessage | None:
        """Return the next complete message, or None when more bytes are needed.

        Raises FatalError (08P01, 54000): unknown tag, bad length. Raises ProtocolViolation
        (08P01), CharacterNotInRepertoire (22021): bad body; usable afterwards.
        """
        data = self._data
        start = self._offset
        body = start + _HEADER_BYTES
        size = len(data)
        if body > size:
            return None
        tag, length = _header(data, start)
        end = start + 1 + length
        if body <= end <= size and tag in _DECODERS and length <= self.message_bytes_max:
            self.last_tag = tag
            self._offset = end
            return _DECODERS[tag](data, body, end)
        self._check_header(tag, length)
        self._start_collecting(data, start, end)
        return None

    def take_copy_data(self) -> list[bytes]:
        """Take the bodies of all CopyData messages that come next, whole.

        Some clients send every row in a message of its own: those of one read are one step.
        """
        data, offset = self._data, self._offset
        last = len(data) - _HEADER_BYTES
        bodies: list[bytes] = []
        while offset <= last and data[offset] == _COPY_DATA_TAG:
            length = _int32(data, offset + 1)[0]
            end = offset + 1 + length
            if not _LENGTH_BYTES <= length <= self.message_bytes_max or end > len(data):
                break  # ``next_message`` says what is wrong, or waits for the rest.
            bodies.append(data[offset + _HEADER_BYTES : end])
            offset = end
        if bodies:
            self._offset = offset
            self.last_tag = _COPY_DATA_TAG
        return bodies

    def follows(self, messages: bytes) -> bool:
        """Tell whether these very messages come next, whole."""
        return self._data.startswith(messages, self._offset)

    def skip(self, messages: bytes) -> None:
        """Step over messages that ``follows`` has seen."""
        self._offset += len(messages)
        self.last_tag = messages[-5]

    def _check_header(self, tag: int, length: int) -> None:
        if tag not in _DECODERS:
            raise framing_lost(f"invalid frontend message type {tag}")
        if length < _LENGTH_BYTES:
            raise framing_lost("invalid message length")
        if tag not in _LONG_TAGS and length > _SMALL_MESSAGE_BYTES_MAX:
            raise framing_lost("invalid message length")
        if length > self.message_bytes_max:
            raise FatalError(
                ProgramLimitExceeded(
                    f"message of {length} bytes exceeds the limit of {self.message_bytes_max} bytes"
                )
            )

    def _start_collecting(self, data: bytes, start: int, end: int) -> None:
        if self._mark >= 0:
            self._kept.append(data[self._mark : start])
            self._kept_bytes += start - self._mark
            self._mark = 0
        self._wanted = end - len(data)
        self._chunks.append(data[start:])
        self._data = b""
        self._offset = 0
