"""Frames between nodes: bytes in, frames out, no I/O.

Wire shape, big-endian, 28 bytes of header and the payload::

    version:u8 | type:u8 | tag:u16 | length:u32 | id:u32 | argument:u32 | sequence:u64 | crc:u32

``length`` counts the payload only, at most ``FRAME_BYTES_MAX``. ``crc`` is CRC-32 (zlib's, IEEE
802.3) over the header before it and the payload. ``sequence`` numbers the frames of one direction
of one connection from 1; the nonces of the handshake bind it to the connection, so it starts anew
when a peer restarts. A frame whose number was seen before is passed over and counted, a gap ends
the connection.

| type | tag | id | argument | payload |
| --- | --- | --- | --- | --- |
| HELLO, PROOF, REFUSED | 0 | 0 | 0 | see ``handshake`` |
| MESSAGE | kind | 0 | 0 | the message |
| CALL | method | call | ms until its deadline | the request |
| ANSWER | 0 | call | 0 | the answer |
| FAILURE | 0 | call | 0 | MessagePack ``[code, message]`` |
| STREAM_OPEN | method | stream | 0 | the request |
| STREAM_PART | 1 on the last part of a chunk | stream | 0 | bytes |
| STREAM_CREDIT | 0 | stream | bytes given back | none |
| STREAM_FINISH | 0 | stream | 0 | none |
| STREAM_ABORT | 0 | stream | 0 | the reason, UTF-8 |
| PING, PONG | 0 | number | 0 | none |

HELLO, PROOF and REFUSED carry version 1 for ever, so that nodes of any two versions can tell each
other why they do not fit; the others carry the negotiated one.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from cluster.transport.config import FRAME_BYTES_MAX, HANDSHAKE_BYTES_MAX

ENVELOPE_VERSION: Final = 1

HELLO: Final = 1
PROOF: Final = 2
REFUSED: Final = 3
MESSAGE: Final = 16
CALL: Final = 17
ANSWER: Final = 18
FAILURE: Final = 19
STREAM_OPEN: Final = 32
STREAM_PART: Final = 33
STREAM_CREDIT: Final = 34
STREAM_FINISH: Final = 35
STREAM_ABORT: Final = 36
PING: Final = 48
PONG: Final = 49
FRAME_TYPES: Final = frozenset(
    (
        *(HELLO, PROOF, REFUSED, MESSAGE, CALL, ANSWER, FAILURE, PING, PONG),
        *(STREAM_OPEN, STREAM_PART, STREAM_CREDIT, STREAM_FINISH, STREAM_ABORT),
    )
)

_HEADER: Final = struct.Struct("!BBHIIIQI")
_CHECKED: Final = struct.Struct("!BBHIIIQ")
_LENGTH: Final = struct.Struct("!I")
HEADER_BYTES: Final = _HEADER.size
_CHECKED_BYTES: Final = _CHECKED.size
_BUFFER_BYTES: Final = 256 * 1024
_COMPACT_BELOW_BYTES: Final = 64 * 1024

Frame = tuple[int, int, int, int, bytes]
"""(type, tag, id, argument, payload); a tuple because there is one per message."""


def encode_frame(
    version: int,
    frame_type: int,
    sequence: int,
    payload: bytes = b"",
    *,
    tag: int = 0,
    frame_id: int = 0,
    argument: int = 0,
) -> bytes:
    """Return one frame; the hot path writes several at once with ``append_frame``."""
    parts: list[bytes] = []
    append_frame(parts, version, sequence, (frame_type, tag, frame_id, argument, payload))
    return b"".join(parts)


def append_frame(parts: list[bytes], version: int, sequence: int, frame: Frame) -> None:
    """Append the bytes of a frame. The payload's length was checked when it was accepted."""
    frame_type, tag, frame_id, argument, payload = frame
    length = len(payload)
    head = _CHECKED.pack(version, frame_type, tag, length, frame_id, argument, sequence)
    crc = crc32(payload, crc32(head)) if length else crc32(head)
    parts.append(head + crc.to_bytes(4, "big"))
    if length:
        parts.append(payload)


class FrameDecoder:
    """Reassembles frames from chunks of any size, in a buffer of its own.

    The socket is read into ``get_buffer()``; ``advance`` counts what arrived; ``next_frame`` and
    ``frames`` take complete frames out. After a violation ``error`` is a sentence, no more frames
    come and the connection has to be closed. ``version`` is the one expected in every frame and
    ``payload_bytes_max`` the bound; the owner raises both when the handshake is over.
    """

    __slots__ = (
        "_body",
        "_body_filled",
        "_buffer",
        "_end",
        "_sequence",
        "_start",
        "_view",
        "duplicate_count",
        "error",
        "payload_bytes_max",
        "version",
    )

    def __init__(self) -> None:
        self.version = ENVELOPE_VERSION
        self.payload_bytes_max = HANDSHAKE_BYTES_MAX
        self.error = ""
        self.duplicate_count = 0
        self._sequence = 0  # of the newest frame
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0  # of what is not decoded yet
        self._end = 0
        # A frame that does not fit the buffer is read into memory of its own, header included.
        self._body: memoryview | None = None
        self._body_filled = 0

    def establish(self, version: int) -> None:
        """Expect frames of the negotiated version, of any length up to the bound."""
        self.version = version
        self.payload_bytes_max = FRAME_BYTES_MAX

    def get_buffer(self) -> memoryview:
        """Return where to put what arrives next; never empty."""
        if self._body is not None:
            return self._body[self._body_filled :]
        return self._view[self._end :]

    def advance(self, count: int) -> None:
        """Count bytes put into ``get_buffer()``."""
        if self._body is not None:
            self._body_filled += count
        else:
            self._end += count

    def feed(self, data: bytes) -> list[Frame]:
        """Put bytes in and return the frames completed; for whoever has no socket."""
        frames: list[Frame] = []
        view = memoryview(data)
        while view and not self.error:
            buffer = self.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            self.advance(count)
            view = view[count:]
            frames += self.frames()
        return frames

    def frames(self) -> list[Frame]:
        """Take out every complete frame."""
        frames: list[Frame] = []
        while (frame := self.next_frame()) is not None:
            frames.append(frame)
        return frames

    def next_frame(self) -> Frame | None:
        """Take out the next complete frame; None: more bytes are needed, or ``error`` is set."""
        while not self.error:
            if self._body is not None:
                if self._body_filled < len(self._body):
                    return None
                body, self._body, self._body_filled = self._body, None, 0
                frame = self._decode(body, 0, len(body) - HEADER_BYTES)
            else:
                start = self._start
                have = self._end - start
                if have < HEADER_BYTES:
                    # A stranger may have no more to say than this, and wait for our answer.
                    if have >= 2:
                        self._check_start(start)
                    self._make_room()
                    return None
                length = self._length_at(start)
                if length < 0:
                    return None
                if have < HEADER_BYTES + length:
                    self._wait_for(HEADER_BYTES + length)
                    return None
                self._start = start + HEADER_BYTES + length
                frame = self._decode(self._view, start, length)
            if frame is not None:
                return frame
        return None

    def _length_at(self, start: int) -> int:
        """Check what can be checked before the payload is there; -1 and ``error`` if it is bad."""
        self._check_start(start)
        (length,) = _LENGTH.unpack_from(self._buffer, start + 4)
        if self.error:
            return -1
        if length > self.payload_bytes_max:
            self.error = (
                f"a frame of {length} bytes was announced, the bound is {self.payload_bytes_max}"
            )
            return -1
        return int(length)

    def _check_start(self, start: int) -> None:
        buffer = self._buffer
        if buffer[start] != self.version or buffer[start + 1] not in FRAME_TYPES:
            self.error = _strange_sentence(bytes(self._view[start : self._end][:8]), self.version)

    def _decode(self, view: memoryview, start: int, length: int) -> Frame | None:
        """Check one whole frame; None if it is a duplicate or ``error`` was set."""
        body_start = start + HEADER_BYTES
        header = _HEADER.unpack_from(view, start)
        _, frame_type, tag, _, frame_id, argument, sequence, crc = header
        payload = bytes(view[body_start : body_start + length])
        if crc32(payload, crc32(view[start : start + _CHECKED_BYTES])) != crc:
            self.error = f"wrong checksum in frame {self._sequence + 1}"
            return None
        if sequence != self._sequence + 1:
            if sequence <= self._sequence:
                self.duplicate_count += 1
                return None
            self.error = f"frame {sequence} arrived where {self._sequence + 1} was expected"
            return None
        self._sequence = sequence
        return (frame_type, tag, frame_id, argument, payload)

    def _make_room(self) -> None:
        """Move what is left to the front when little room is left behind it."""
        if self._start == self._end:
            self._start = self._end = 0
        elif _BUFFER_BYTES - self._end < _COMPACT_BELOW_BYTES:
            self._compact()

    def _wait_for(self, frame_bytes: int) -> None:
        """Make sure that a frame, of which a part is here, will find room."""
        have = self._end - self._start
        if frame_bytes > _BUFFER_BYTES:
            body = memoryview(bytearray(frame_bytes))
            body[:have] = self._view[self._start : self._end]
            self._body, self._body_filled = body, have
            self._start = self._end = 0
        elif self._start + frame_bytes > _BUFFER_BYTES:
            self._compact()
        else:
            self._make_room()

    def _compact(self) -> None:
        have = self._end - self._start
        self._buffer[:have] = self._buffer[self._start : self._end]
        self._start, self._end = 0, have


def _strange_sentence(head: bytes, version: int) -> str:
    if head[:2] == b"\x16\x03":
        return "the peer speaks TLS, but this node does not (it runs with --insecure)"
    if head[:2] == b"\x15\x03":
        return "the peer speaks TLS and does not accept plain connections"
    if head[0] in (1, 2, 3, 4, 5, 6, 7, 8) and head[0] != version and head[1] in FRAME_TYPES:
        return f"a frame of wire version {head[0]} arrived on a connection of version {version}"
    return f"what arrived is not of this protocol: {head!r}"
