"""Commands of the metadata group's log. Payloads of other packages are opaque bytes here.

Shape on the log: ``version:1 | MessagePack of the tagged command``. A ``Batch`` is one entry: all
members apply or none.
"""

from __future__ import annotations

from typing import Final, Union

import msgspec

COMMAND_VERSION: Final = 1


class TimestampWindow(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """The oracle may hand out timestamps below ``until`` (packed)."""

    until: int


class CatalogChange(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """A change of descriptors; only ``nodedb.catalog`` reads the payload."""

    payload: bytes


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Commands that take effect together."""

    members: tuple[TimestampWindow | CatalogChange, ...]


Command = Union[TimestampWindow, CatalogChange, Batch]
_decoder: Final[msgspec.msgpack.Decoder[Command]] = msgspec.msgpack.Decoder(Command)
_encoder: Final = msgspec.msgpack.Encoder()


class UnknownCommand(Exception):
    """An entry of a newer or foreign version: the replica must stop, not guess."""


def encode_command(command: Command) -> bytes:
    """Return the log payload of a command."""
    return bytes((COMMAND_VERSION,)) + _encoder.encode(command)


def decode_command(payload: bytes) -> Command:
    """Read a log payload; UnknownCommand when it is not one of ours."""
    if not payload or payload[0] != COMMAND_VERSION:
        raise UnknownCommand(f"metadata command version {payload[:1]!r}")
    try:
        return _decoder.decode(payload[1:])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UnknownCommand(str(error)) from error
