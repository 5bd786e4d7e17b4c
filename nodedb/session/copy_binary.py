r"""COPY data in its binary format, without I/O.

Wire shape: ``PGCOPY\n\377\r\n\0 | flags:int32 | extension length:int32 | extension``, then rows of
``field count:int16 | (length:int32 | bytes)*`` with length -1 for NULL, then the trailer:
field count -1.

Source: PostgreSQL docs, "COPY" (Binary Format).
"""

import struct
from collections.abc import Sequence
from typing import Final

from sql.errors import BadCopyFileFormat, ProgramLimitExceeded

BinaryRow = tuple[bytes | None, ...]
FIELD_BYTES_MAX: Final = 256 * 1024 * 1024
SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
HEADER: Final = SIGNATURE + bytes(8)
TRAILER: Final = b"\xff\xff"
_OIDS_FLAG: Final = 1 << 16
_CRITICAL_FLAGS: Final = 0xFFFF0000
_HEADER_BYTES: Final = len(HEADER)
_int16 = struct.Struct("!h")
_int32 = struct.Struct("!i")
_flags = struct.Struct("!Ii").unpack_from


class BinaryCopyDecoder:
    """Cuts chunks into rows of raw fields; NULL is None. After an error, do not feed it again."""

    def __init__(self, column_count: int) -> None:
        self._column_count = column_count
        self._buffer = b""
        self._offset = 0
        self._is_header_due = True
        self._is_ended = False
        self.line_number = 0
        # How many bytes the row under way needs before another try is worth it.
        self._wanted = 0
        self._chunks: list[bytes] = []

    def feed(self, chunk: bytes) -> list[BinaryRow]:
        """Return the rows completed.

        Raises BadCopyFileFormat (22P04), and ProgramLimitExceeded (54000) for a huge field.
        """
        self._chunks.append(chunk)
        self._wanted -= len(chunk)
        if self._wanted > 0:
            return []
        self._buffer = b"".join((self._buffer[self._offset :], *self._chunks))
        self._chunks.clear()
        self._offset = 0
        if self._is_header_due and not self._take_header():
            return []
        rows: list[BinaryRow] = []
        while not self._is_ended:
            row = self._next_row()
            if row is None:
                break
            rows.append(row)
        if self._is_ended and self._offset < len(self._buffer):
            raise BadCopyFileFormat("received copy data after EOF marker")
        return rows

    def finish(self) -> None:
        """Check that the data ended at a row. Raises BadCopyFileFormat (22P04)."""
        if self._is_header_due:
            raise BadCopyFileFormat("COPY file signature not recognized")
        if self._chunks or self._offset < len(self._buffer):
            raise BadCopyFileFormat("unexpected EOF in COPY data")

    def _take_header(self) -> bool:
        buffer = self._buffer
        if not SIGNATURE.startswith(buffer[: len(SIGNATURE)]):
            raise BadCopyFileFormat("COPY file signature not recognized")
        if len(buffer) < _HEADER_BYTES:
            return False
        flags, extension = _flags(buffer, len(SIGNATURE))
        if flags & _OIDS_FLAG:
            raise BadCopyFileFormat("invalid COPY file header (WITH OIDS)")
        if flags & _CRITICAL_FLAGS:
            raise BadCopyFileFormat("unrecognized critical flags in COPY file header")
        if extension < 0 or extension > FIELD_BYTES_MAX:
            raise BadCopyFileFormat("invalid COPY file header (missing length)")
        if len(buffer) < _HEADER_BYTES + extension:
            return False
        self._offset = _HEADER_BYTES + extension
        self._is_header_due = False
        return True

    def _next_row(self) -> BinaryRow | None:
        buffer, offset = self._buffer, self._offset
        size = len(buffer)
        if offset + 2 > size:
            return None
        count = _int16.unpack_from(buffer, offset)[0]
        offset += 2
        if count == -1:
            self._is_ended = True
            self._offset = offset
            return None
        self.line_number += 1
        if count != self._column_count:
            raise BadCopyFileFormat(f"row field count is {count}, expected {self._column_count}")
        fields: list[bytes | None] = []
        for _ in range(count):
            if offset + 4 > size:
                break
            length = _int32.unpack_from(buffer, offset)[0]
            offset += 4
            if length == -1:
                fields.append(None)
                continue
            self._check_length(length)
            if offset + length > size:
                self._wanted = offset + length - size
                break
            fields.append(buffer[offset : offset + length])
            offset += length
        else:
            self._offset = offset
            return tuple(fields)
        self.line_number -= 1
        return None

    def _check_length(self, length: int) -> None:
        if length < 0:
            raise BadCopyFileFormat("invalid field size")
        if length > FIELD_BYTES_MAX:
            raise ProgramLimitExceeded(f"COPY field exceeds the limit of {FIELD_BYTES_MAX} bytes")


def binary_row(fields: Sequence[bytes | None]) -> bytes:
    """Return one row; HEADER goes before the first, TRAILER behind the last."""
    parts = [_int16.pack(len(fields))]
    for field in fields:
        if field is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            parts.append(_int32.pack(len(field)))
            parts.append(field)
    return b"".join(parts)
