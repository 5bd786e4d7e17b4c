"""Framing of the write-ahead log: bytes in, records out. No I/O.

A segment file starts with one header block; batches follow, each on a 4 KiB boundary::

    segment header  magic:4 | crc:4 | version:4 | reserved:4 | generation:8 | first_sequence:8 |
                    oldest_generation:8 | salt:8
    batch           magic:4 | crc:4 | generation:8 | sequence:8 | salt:8 | oldest_generation:8 |
                    payload_bytes:8 | record_count:4 | reserved:4 | payload | zeros up to 4 KiB
    payload         records, back to back

All integers are big-endian. A CRC covers everything behind it: of a batch the rest of its header
and the payload. The *generation* numbers every use of a segment file, the *sequence* every batch
of the log, the *salt* is random per generation; together they make sure that what a recycled file
held before, or what a client stored inside an entry, is never taken for a batch (PROTOCOL rule 59).
Segments below ``oldest_generation`` are dead: the newest whole batch says where the log starts.

One flush is one batch (rule 60). Batches are padded so that no block is ever written twice: a torn
write can then damage nothing that was acknowledged, and a recycled block is overwritten whole,
which needs no read even when the page cache has dropped it. Measurements: docs/adr/0004.

Records::

    ENTRY, COPY  type:1 | group:4 | index:8 | term:8 | length:4 | payload
    HARD_STATE   type:1 | group:4 | term:8 | vote:8 | commit:8
    TRUNCATE     type:1 | group:4 | from_index:8      entries at and above it are gone
    COMPACT      type:1 | group:4 | index:8 | term:8  entries up to it are gone; it is the new base
    REMOVE       type:1 | group:4                     the group has left this node

An ENTRY at or below the group's last index replaces what stood there and above (Raft paper §5.3).
A COPY repeats an entry that is still needed when its segment is recycled; it replaces nothing.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

FORMAT_VERSION: Final = 1
BLOCK_BYTES: Final = 4096
ENTRY_BYTES_MAX: Final = 1 << 30

SEGMENT_MAGIC: Final = 0x6E645357
BATCH_MAGIC: Final = 0x6E644257

_CRC_PREFIX: Final = struct.Struct(">II")
_SEGMENT_BODY: Final = struct.Struct(">IIQQQQ")
_BATCH_BODY: Final = struct.Struct(">QQQQQII")
BATCH_HEADER_BYTES: Final = _CRC_PREFIX.size + _BATCH_BODY.size
_SEGMENT_HEADER_BYTES: Final = _CRC_PREFIX.size + _SEGMENT_BODY.size

ENTRY: Final = 1
HARD_STATE: Final = 2
TRUNCATE: Final = 3
COMPACT: Final = 4
REMOVE: Final = 5
COPY: Final = 6

ENTRY_HEADER: Final = struct.Struct(">BIQQI")
ENTRY_HEADER_BYTES: Final = ENTRY_HEADER.size
_HARD_STATE: Final = struct.Struct(">BIQQQ")
_TRUNCATE: Final = struct.Struct(">BIQ")
_COMPACT: Final = struct.Struct(">BIQQ")
_REMOVE: Final = struct.Struct(">BI")

pack_entry_header: Final = ENTRY_HEADER.pack


class SegmentHeader(NamedTuple):
    """What the first block of a segment file says."""

    generation: int
    first_sequence: int
    oldest_generation: int
    salt: int


class BatchHeader(NamedTuple):
    """What the header of a batch says; ``crc`` is not checked by reading it."""

    crc: int
    generation: int
    sequence: int
    salt: int
    oldest_generation: int
    payload_bytes: int
    record_count: int

    @property
    def total_bytes(self) -> int:
        """Bytes from the header to the next batch."""
        return padded(BATCH_HEADER_BYTES + self.payload_bytes)


def padded(length: int) -> int:
    """Round up to whole blocks."""
    return (length + BLOCK_BYTES - 1) & -BLOCK_BYTES


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the first block of a segment."""
    body = _SEGMENT_BODY.pack(
        FORMAT_VERSION,
        0,
        header.generation,
        header.first_sequence,
        header.oldest_generation,
        header.salt,
    )
    return (_CRC_PREFIX.pack(SEGMENT_MAGIC, crc32(body)) + body).ljust(BLOCK_BYTES, b"\0")


def decode_segment_header(block: bytes) -> tuple[int, SegmentHeader] | None:
    """Return (format version, header), or None when the block is no whole segment header."""
    if len(block) < _SEGMENT_HEADER_BYTES:
        return None
    magic, crc = _CRC_PREFIX.unpack_from(block)
    if magic != SEGMENT_MAGIC or crc != crc32(block[_CRC_PREFIX.size : _SEGMENT_HEADER_BYTES]):
        return None
    version, _, generation, first, oldest, salt = _SEGMENT_BODY.unpack_from(block, _CRC_PREFIX.size)
    return version, SegmentHeader(generation, first, oldest, salt)


_JOINED_BYTES_MAX: Final = 1 << 20


def encode_batch(
    segment: SegmentHeader,
    sequence: int,
    parts: list[bytes],
    record_count: int,
    header: bytes = b"",
) -> bytes:
    """Frame the records in ``parts`` as one padded batch, behind ``header``.

    ``segment.oldest_generation`` is the log's start from this batch on.
    """
    length = sum(map(len, parts))
    if length <= _JOINED_BYTES_MAX:
        parts = [b"".join(parts)]  # One CRC call instead of many; a large batch is copied once.
    body = _BATCH_BODY.pack(
        segment.generation,
        sequence,
        segment.salt,
        segment.oldest_generation,
        length,
        record_count,
        0,
    )
    crc = crc32(body)
    for part in parts:
        crc = crc32(part, crc)
    padding = bytes(-(BATCH_HEADER_BYTES + length) % BLOCK_BYTES)
    return b"".join((header, _CRC_PREFIX.pack(BATCH_MAGIC, crc), body, *parts, padding))


def decode_batch_header(data: bytes | memoryview, offset: int = 0) -> BatchHeader | None:
    """Return the header at ``offset``, or None when no batch starts there. Checks no CRC."""
    if len(data) - offset < BATCH_HEADER_BYTES:
        return None
    magic, crc = _CRC_PREFIX.unpack_from(data, offset)
    if magic != BATCH_MAGIC:
        return None
    fields = _BATCH_BODY.unpack_from(data, offset + _CRC_PREFIX.size)
    generation, sequence, salt, oldest, payload_bytes, count, _ = fields
    return BatchHeader(crc, generation, sequence, salt, oldest, payload_bytes, count)


def is_whole(header: BatchHeader, data: memoryview, offset: int) -> bool:
    """Check length and CRC of the batch whose header stands at ``offset``."""
    end = offset + BATCH_HEADER_BYTES + header.payload_bytes
    return end <= len(data) and crc32(data[offset + _CRC_PREFIX.size : end]) == header.crc


class Record(NamedTuple):
    """One record. ``first`` and ``second`` are the fields after the group, in wire order.

    ``offset`` is where the record starts in its batch, ``length`` the bytes of an entry's payload.
    ``third`` is the commit index of a HARD_STATE.
    """

    kind: int
    group_id: int
    first: int
    second: int
    third: int
    offset: int
    length: int


def encode_hard_state(group_id: int, term: int, vote: int, commit: int) -> bytes:
    """Return a HARD_STATE record."""
    return _HARD_STATE.pack(HARD_STATE, group_id, term, vote, commit)


def encode_truncate(group_id: int, from_index: int) -> bytes:
    """Return a TRUNCATE record."""
    return _TRUNCATE.pack(TRUNCATE, group_id, from_index)


def encode_compact(group_id: int, index: int, term: int) -> bytes:
    """Return a COMPACT record."""
    return _COMPACT.pack(COMPACT, group_id, index, term)


def encode_remove(group_id: int) -> bytes:
    """Return a REMOVE record."""
    return _REMOVE.pack(REMOVE, group_id)


def decode_records(payload: memoryview) -> Iterator[Record]:
    """Yield the records of a payload whose CRC was right.

    Raises ValueError when they do not parse: the writer was another program.
    """
    offset = 0
    end = len(payload)
    try:
        while offset < end:
            kind = payload[offset]
            start = offset
            if kind in (ENTRY, COPY):
                _, group_id, index, term, length = ENTRY_HEADER.unpack_from(payload, offset)
                offset += ENTRY_HEADER_BYTES + length
                if offset > end:
                    message = "entry reaches beyond its batch"
                    raise ValueError(message)
                yield Record(kind, group_id, index, term, 0, start, length)
            elif kind == HARD_STATE:
                _, group_id, term, vote, commit = _HARD_STATE.unpack_from(payload, offset)
                offset += _HARD_STATE.size
                yield Record(kind, group_id, term, vote, commit, start, 0)
            elif kind == TRUNCATE:
                _, group_id, index = _TRUNCATE.unpack_from(payload, offset)
                offset += _TRUNCATE.size
                yield Record(kind, group_id, index, 0, 0, start, 0)
            elif kind == COMPACT:
                _, group_id, index, term = _COMPACT.unpack_from(payload, offset)
                offset += _COMPACT.size
                yield Record(kind, group_id, index, term, 0, start, 0)
            elif kind == REMOVE:
                _, group_id = _REMOVE.unpack_from(payload, offset)
                offset += _REMOVE.size
                yield Record(kind, group_id, 0, 0, 0, start, 0)
            else:
                message = f"unknown record type {kind}"
                raise ValueError(message)
    except struct.error as error:
        raise ValueError(str(error)) from error
