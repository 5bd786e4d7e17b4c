"""What a data group's log entry does.

Leaders evaluate; entries carry effects; applying cannot fail.

Shape: ``version:1 | MessagePack of the tagged struct``. A write is (vshard, key, payload); an empty
payload is a tombstone. Keys are ``storage_id:4 | index_id:2 | encoded columns`` (nodedb.kv.keys).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Union

import msgspec

from nodedb.kv.completions import Completion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EFFECTS_VERSION: Final = 1
Write = tuple[int, bytes, bytes]
TOMBSTONE: Final = b""


class RowWrites(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """One transaction's writes, visible at ``commit_timestamp``."""

    commit_timestamp: int
    transaction_id: int
    writes: list[Write]


class ClearStorage(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """Forget all keys under these prefixes, history included.

    Dropped or truncated tables (4 bytes), indexes (6).
    """

    prefixes: tuple[bytes, ...]


class CollectGarbage(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Raise the collection watermark.

    Versions superseded at or below it may go, reads below it are refused.
    """

    watermark: int


class PreparedRows(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """A transaction's effects, kept aside until its decision is known (``FinishPrepared``).

    ``effects`` are encoded entries without a timestamp yet. The transaction also changes the
    catalog, and the entry of the metadata group that does so is its decision (PROTOCOL rule 55).
    """

    transaction_id: int
    effects: tuple[bytes, ...]


class FinishPrepared(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=5):
    """The outcome of a prepared transaction: its rows are visible at ``commit_timestamp``.

    0 drops them: it has not committed. Repeated, it changes nothing.
    """

    transaction_id: int
    commit_timestamp: int


class Completed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=6):
    """Effects together with the record of the request that had them (``nodedb.kv.completions``).

    ``effects`` is an encoded entry of its own; b"" where it has none, and among ``PreparedRows``.
    """

    origin: int
    number: int
    answer: bytes
    effects: bytes

    @property
    def completion(self) -> Completion:
        """The record alone."""
        return Completion(self.origin, self.number, self.answer)


Effects = Union[RowWrites, ClearStorage, CollectGarbage, PreparedRows, FinishPrepared, Completed]
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Effects]] = msgspec.msgpack.Decoder(Effects)
_slice_decoder: Final = msgspec.msgpack.Decoder(list[Write])
_PREFIX: Final = bytes((EFFECTS_VERSION,))
_ARRAY32: Final = struct.Struct(">BI")
_ARRAY32_TAG: Final = 0xDD


class UnknownEffects(Exception):
    """An entry of a newer or foreign version: the replica must stop, not guess."""


def encode_effects(effects: Effects) -> bytes:
    """Return the log payload."""
    return _PREFIX + _encoder.encode(effects)


class LongWrites(NamedTuple):
    """Many writes as their proposer holds them: in slices, encoded until each is to be applied.

    In the log it is one ``RowWrites``: see ``encode_long``. Slices go as they are drawn.
    """

    commit_timestamp: int
    parts: list[bytes]

    def slices(self) -> Iterator[list[Write]]:
        """Draw the slices in order, each once."""
        parts = self.parts
        parts.reverse()
        while parts:
            yield _slice_decoder.decode(parts.pop())


class Completing(NamedTuple):
    """``Completed`` as its proposer holds it."""

    completion: Completion
    effects: RowWrites | LongWrites | ClearStorage


def encode_completed(completion: Completion, effects: bytes) -> bytes:
    """Return the log payload of effects, encoded already, with the record of their request."""
    return encode_effects(Completed(*completion, effects))


def encode_slice(writes: Sequence[Write]) -> bytes:
    """Return one of the parts of ``LongWrites`` and ``encode_long``: an array of its own."""
    return _encoder.encode(writes)


def _array_header_bytes(count: int) -> int:
    if count < 1 << 4:
        return 1
    return 3 if count < 1 << 16 else 5


def encode_long(
    commit_timestamp: int, transaction_id: int, counts: Sequence[int], parts: Sequence[bytes]
) -> bytes:
    """Return the log payload of a ``RowWrites`` whose writes are encoded in slices already."""
    bare = [
        memoryview(part)[_array_header_bytes(count) :]
        for count, part in zip(counts, parts, strict=True)
    ]
    without = _encoder.encode(RowWrites(commit_timestamp, transaction_id, []))
    return b"".join((_PREFIX, without[:-1], _ARRAY32.pack(_ARRAY32_TAG, sum(counts)), *bare))


def decode_effects(payload: bytes) -> Effects:
    """Read a log payload; UnknownEffects when it is not one of ours."""
    if payload[:1] != _PREFIX:
        raise UnknownEffects(f"effects version {payload[:1]!r}")
    try:
        return _decoder.decode(memoryview(payload)[1:])
    except msgspec.MsgspecError as error:
        raise UnknownEffects(str(error)) from error
