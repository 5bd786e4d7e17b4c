"""What a data group's log entry does.

Leaders evaluate; entries carry effects; applying cannot fail.

Shape: ``version:1 | MessagePack of the tagged struct``. A write is (vshard, key, payload); an empty
payload is a tombstone. Keys are ``storage_id:4 | index_id:2 | encoded columns`` (nodedb.kv.keys).
"""

from __future__ import annotations

from typing import Final, Union

import msgspec

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


Effects = Union[RowWrites, ClearStorage, CollectGarbage]
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Effects]] = msgspec.msgpack.Decoder(Effects)
_PREFIX: Final = bytes((EFFECTS_VERSION,))


class UnknownEffects(Exception):
    """An entry of a newer or foreign version: the replica must stop, not guess."""


def encode_effects(effects: Effects) -> bytes:
    """Return the log payload."""
    return _PREFIX + _encoder.encode(effects)


def decode_effects(payload: bytes) -> Effects:
    """Read a log payload; UnknownEffects when it is not one of ours."""
    if payload[:1] != _PREFIX:
        raise UnknownEffects(f"effects version {payload[:1]!r}")
    try:
        return _decoder.decode(memoryview(payload)[1:])
    except msgspec.MsgspecError as error:
        raise UnknownEffects(str(error)) from error
