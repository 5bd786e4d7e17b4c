"""The sign of life that stands in for the heartbeats of quiescent groups.

What groups have to say travels in batches of Raft messages (``cluster.raft.message``), one per peer
and turn, so the heartbeats of all awake groups share a frame. A *beat* speaks for the others: its
sender lives, and a digest tells which quiescent groups it still leads.

Shape: ``version:1 | MessagePack array [sender, digest]``.
"""

from collections.abc import Iterable
from typing import Final
from zlib import crc32

import msgspec

BEAT_VERSION: Final = 1
_PREFIX: Final = bytes((BEAT_VERSION,))


class Beat(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A node is alive, and leads quiescent groups whose (id, term) pairs have this digest."""

    sender: int
    digest: int


class BadBeat(Exception):
    """Bytes that are no beat of a known version; the connection is at fault."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Beat)


def encode_beat(beat: Beat) -> bytes:
    """Return the bytes of a beat."""
    return _PREFIX + _encoder.encode(beat)


def decode_beat(data: bytes) -> Beat:
    """Read a beat; BadBeat for anything else."""
    if data[:1] != _PREFIX:
        reason = f"beat of version {data[:1]!r}"
        raise BadBeat(reason)
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBeat(str(error)) from error


def digest_of(groups: Iterable[tuple[int, int]]) -> int:
    """Return the digest of (group id, term) pairs; 0 for none."""
    ordered = sorted(groups)
    return crc32(_encoder.encode(ordered)) if ordered else 0
