"""What a group's snapshot looks like, as a stream and in chunks. Bytes only, no I/O.

The stream is a row of records::

    record   kind:1 | length:4 | crc:4 | payload         crc covers kind, length and payload
    HEADER   version:4 | MessagePack of SnapshotHeader   the first one
    RUN      space:2 | MessagePack of [(key, value)...]  ascending; space is a number in the header
    TRAILER  rows:8 | crc:4                              the last one; crc of all bytes before it

Spaces come in the header's order, which is by name. The stream is cut into chunks of equal size,
without regard for records; the last one is shorter. Every chunk stands for itself::

    chunk    magic:2 | version:1 | is_last:1 | number:4 | offset:8 | snapshot_id:8 |
             running_crc:4 | crc:4 | data

``offset`` is that of ``data`` in the stream, ``running_crc`` the CRC of the stream up to the end of
this chunk, ``crc`` covers all fields before it and the data. All integers are big-endian.

Two states with one (index, term) need not be the same bytes, for old versions are collected by each
replica for itself. ``snapshot_id``, random, names one stream: only that one may be resumed.
"""

import struct
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from nodedb.storage.engine import SNAPSHOT_CHUNK_BYTES, KeyValue

SNAPSHOT_FORMAT_VERSION: Final = 1
CHUNK_BYTES_DEFAULT: Final = 1024 * 1024 - 64
"""With a chunk's own header within the transport's 1 MiB; a few milliseconds of the loop."""
CHUNK_BYTES_MIN: Final = 1024
RUN_BYTES: Final = 256 * 1024
RUN_ROWS: Final = 2048

HEADER: Final = 1
RUN: Final = 2
TRAILER: Final = 3

_RECORD: Final = struct.Struct(">BII")
RECORD_HEADER_BYTES: Final = _RECORD.size
_RECORD_START: Final = struct.Struct(">BI")
_VERSION: Final = struct.Struct(">I")
_SPACE: Final = struct.Struct(">H")
_TRAILER: Final = struct.Struct(">QI")
_CHUNK_START: Final = struct.Struct(">HBBIQQI")
_CRC: Final = struct.Struct(">I")
_CHUNK_HEADER_BYTES: Final = _CHUNK_START.size + _CRC.size
_CHUNK_MAGIC: Final = 0x6E53

_encoder: Final = msgspec.msgpack.Encoder()
_run_decoder: Final = msgspec.msgpack.Decoder(list[KeyValue])


class SnapshotError(Exception):
    """A snapshot cannot be sent, received or used. The node goes on; the sender tries another."""


class SnapshotRefused(SnapshotError):
    """A chunk or an offer is not what the receiver waits for; what it has stays as it was."""


class SnapshotCorrupted(SnapshotError):
    """Bytes of a snapshot have changed on the way or on the disk."""


class SnapshotTooNew(SnapshotError):
    """The snapshot's format is newer than this version knows."""


class SnapshotFailed(SnapshotError):
    """The file of a snapshot could not be written or read; it is given up."""


class SnapshotExpired(SnapshotError):
    """The source has closed the state it was reading; a new snapshot must be begun."""


class SnapshotHeader(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a snapshot is of. ``configuration`` is opaque, empty when the group has none."""

    group_id: int
    index: int
    term: int
    snapshot_id: int
    configuration: bytes
    spaces: tuple[str, ...]


class SnapshotOffer(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a source announces; the answer is a ``ResumePoint``."""

    format_version: int
    group_id: int
    index: int
    term: int
    snapshot_id: int
    chunk_bytes: int


class ResumePoint(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How far a receiver has got, durably: chunks, their bytes, and the CRC over them."""

    snapshot_id: int
    chunk_count: int
    offset: int
    running_crc: int


class Chunk(NamedTuple):
    """One piece of the stream, its CRC checked."""

    snapshot_id: int
    number: int
    offset: int
    running_crc: int
    is_last: bool
    data: bytes


_offer_decoder: Final = msgspec.msgpack.Decoder(SnapshotOffer)
_resume_decoder: Final = msgspec.msgpack.Decoder(ResumePoint)
_header_decoder: Final = msgspec.msgpack.Decoder(SnapshotHeader)


def group_space_prefix(group_id: int) -> str:
    """Return what the names of a group's spaces begin with."""
    return "metadata." if group_id == 0 else f"group{group_id}."


def configuration_space(group_id: int) -> str:
    """Return the space that holds the group's Raft configuration, under ``CONFIGURATION_KEY``."""
    return "metadata.state" if group_id == 0 else f"group{group_id}.meta"


CONFIGURATION_KEY: Final = b"raft-configuration"


# Offers


def encode_offer(offer: SnapshotOffer) -> bytes:
    """Return the bytes that open a transfer."""
    return _VERSION.pack(offer.format_version) + _encoder.encode(offer)


def decode_offer(data: bytes) -> SnapshotOffer:
    """Read an offer. Raises SnapshotTooNew, SnapshotCorrupted, SnapshotRefused (sizes)."""
    check_version(data)
    try:
        offer = _offer_decoder.decode(memoryview(data)[_VERSION.size :])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorrupted(f"not a snapshot offer: {error}") from error
    if not CHUNK_BYTES_MIN <= offer.chunk_bytes <= SNAPSHOT_CHUNK_BYTES:
        raise SnapshotRefused(f"chunks of {offer.chunk_bytes} bytes are not taken")
    limits = ((offer.group_id, 32), (offer.index, 63), (offer.term, 63), (offer.snapshot_id, 64))
    if any(not 0 <= value < 1 << bits for value, bits in limits):
        raise SnapshotRefused("a number of the snapshot offer is out of range")
    return offer


def check_version(data: bytes) -> None:
    """Raise SnapshotTooNew for what a newer version has written; SnapshotCorrupted when cut."""
    if len(data) < _VERSION.size:
        raise SnapshotCorrupted("a snapshot's version is cut off")
    (version,) = _VERSION.unpack_from(data)
    if version > SNAPSHOT_FORMAT_VERSION:
        raise SnapshotTooNew(
            f"snapshot has format {version}, newest known is {SNAPSHOT_FORMAT_VERSION}"
        )


def encode_resume_point(point: ResumePoint) -> bytes:
    """Return the answer to an offer."""
    return _encoder.encode(point)


def decode_resume_point(data: bytes) -> ResumePoint:
    """Read the answer to an offer. Raises SnapshotCorrupted."""
    try:
        return _resume_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorrupted(f"not a resume point: {error}") from error


# Chunks


def encode_chunk(chunk: Chunk) -> bytes:
    """Return a chunk as it travels."""
    start = _CHUNK_START.pack(
        _CHUNK_MAGIC,
        SNAPSHOT_FORMAT_VERSION,
        chunk.is_last,
        chunk.number,
        chunk.offset,
        chunk.snapshot_id,
        chunk.running_crc,
    )
    crc = crc32(chunk.data, crc32(start))
    return b"".join((start, _CRC.pack(crc), chunk.data))


def decode_chunk(encoded: bytes) -> Chunk:
    """Read a chunk. Raises SnapshotTooNew, SnapshotCorrupted."""
    if len(encoded) < _CHUNK_HEADER_BYTES:
        raise SnapshotCorrupted(f"a chunk of {len(encoded)} bytes is cut off")
    magic, version, is_last, number, offset, snapshot_id, running_crc = _CHUNK_START.unpack_from(
        encoded
    )
    if magic != _CHUNK_MAGIC:
        raise SnapshotCorrupted("not a snapshot's chunk")
    if version > SNAPSHOT_FORMAT_VERSION:
        raise SnapshotTooNew(
            f"chunk has format {version}, newest known is {SNAPSHOT_FORMAT_VERSION}"
        )
    (crc,) = _CRC.unpack_from(encoded, _CHUNK_START.size)
    data = encoded[_CHUNK_HEADER_BYTES:]
    if crc != crc32(data, crc32(encoded[: _CHUNK_START.size])):
        raise SnapshotCorrupted(f"chunk {number} has a wrong CRC")
    return Chunk(snapshot_id, number, offset, running_crc, bool(is_last), data)


# Records


def _record(kind: int, *parts: bytes) -> bytes:
    length = sum(map(len, parts))
    crc = crc32(_RECORD_START.pack(kind, length))
    for part in parts:
        crc = crc32(part, crc)
    return b"".join((_RECORD.pack(kind, length, crc), *parts))


def encode_header(header: SnapshotHeader) -> bytes:
    """Return the HEADER record."""
    return _record(HEADER, _VERSION.pack(SNAPSHOT_FORMAT_VERSION), _encoder.encode(header))


def encode_run(space: int, pairs: list[KeyValue]) -> bytes:
    """Return a RUN record."""
    return _record(RUN, _SPACE.pack(space), _encoder.encode(pairs))


def encode_trailer(rows: int, crc: int) -> bytes:
    """Return the TRAILER record."""
    return _record(TRAILER, _TRAILER.pack(rows, crc))


def decode_record_header(data: bytes) -> tuple[int, int, int]:
    """Return (kind, length of the payload, CRC) of the record that ``data`` starts with."""
    if len(data) < RECORD_HEADER_BYTES:
        raise SnapshotCorrupted("a snapshot's record is cut off")
    kind, length, crc = _RECORD.unpack_from(data)
    return kind, length, crc


def check_record(kind: int, payload: bytes, crc: int) -> None:
    """Raise SnapshotCorrupted when a record's payload has another CRC."""
    if crc != crc32(payload, crc32(_RECORD_START.pack(kind, len(payload)))):
        raise SnapshotCorrupted("a snapshot's record has a wrong CRC")


def decode_header(payload: bytes) -> SnapshotHeader:
    """Read a HEADER. Raises SnapshotTooNew, SnapshotCorrupted."""
    check_version(payload)
    try:
        return _header_decoder.decode(memoryview(payload)[_VERSION.size :])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorrupted(f"not a snapshot's header: {error}") from error


def decode_run(payload: bytes) -> tuple[int, list[KeyValue]]:
    """Return (number of the space, pairs) of a RUN. Raises SnapshotCorrupted."""
    try:
        (space,) = _SPACE.unpack_from(payload)
        return space, _run_decoder.decode(memoryview(payload)[_SPACE.size :])
    except (struct.error, msgspec.MsgspecError) as error:
        raise SnapshotCorrupted(f"not a run of rows: {error}") from error


def decode_trailer(payload: bytes) -> tuple[int, int]:
    """Return (rows, CRC of all before) of a TRAILER. Raises SnapshotCorrupted."""
    try:
        rows, crc = _TRAILER.unpack(payload)
    except struct.error as error:
        raise SnapshotCorrupted(f"not a snapshot's trailer: {error}") from error
    return rows, crc
