"""The four messages of SWIM, as they are inside an authenticated datagram (see ``envelope``).

Each is a MessagePack array ``[tag, probe_id, sender, ...]``. ``sender`` is the sender's own record,
where the SWIM paper has its name only: the receiver needs the advertised address of a node that it
hears for the first time, and it must not be guessed from where the datagram came. An update is
``[node_id, address, state, incarnation, boot, suspected_by]``.

Fields may be added at the end; older nodes ignore them. Anything else needs a new wire version.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, Union

import msgspec

from cluster.ids import NodeId
from cluster.swim.member import BOOT_MAX, Member, MemberState

ADDRESS_LENGTH_MAX: Final = 261  # a DNS name of 255, a colon, five digits
PIGGYBACK_RECEIVED_MAX: Final = 64
# Every update of a datagram together: below one Ethernet frame with everything around them.
PIGGYBACK_BYTES_MAX: Final = 1024
UPDATE_OVERHEAD_BYTES: Final = 36  # an update without its address, at most

Unsigned = Annotated[int, msgspec.Meta(ge=0, le=BOOT_MAX)]
Identity = Annotated[int, msgspec.Meta(ge=1, le=BOOT_MAX)]
# No upper bound is declared: MessagePack's integers end at the highest incarnation anyway, and
# the library does not take a bound that needs the 64th bit.
Incarnation = Annotated[int, msgspec.Meta(ge=0)]
Address = Annotated[str, msgspec.Meta(min_length=3, max_length=ADDRESS_LENGTH_MAX)]


class NackReason(IntEnum):
    """Why a helper cannot say that the target is alive, or why a ping is not answered."""

    TARGET_UNREACHABLE = 0
    TARGET_DEAD = 1
    RATE_LIMITED = 2
    STALE_BOOT = 3


class MemberUpdate(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the sender thinks of one node; ``suspected_by`` accuses it (0: nobody does)."""

    node_id: Identity
    address: Address
    state: MemberState
    incarnation: Incarnation
    boot: Unsigned
    suspected_by: Unsigned = 0

    def member(self) -> Member:
        """Return the record that the update carries."""
        return Member(NodeId(self.node_id), self.address, self.state, self.incarnation, self.boot)


Piggyback = Annotated[tuple[MemberUpdate, ...], msgspec.Meta(max_length=PIGGYBACK_RECEIVED_MAX)]


class Ping(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=1):
    """Asks whether the receiver is alive; answered by an Ack with the same ``probe_id``."""

    probe_id: Unsigned
    sender: MemberUpdate
    piggyback: Piggyback = ()


class PingReq(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=2):
    """Asks the receiver to ping ``target`` and to pass its Ack on under this ``probe_id``."""

    probe_id: Unsigned
    sender: MemberUpdate
    target: Identity
    target_address: Address
    piggyback: Piggyback = ()


class Ack(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=3):
    """Says that ``target`` is alive, the sender itself or for whom it helped.

    ``probe_id`` 0 answers nothing: the message only carries updates.
    """

    probe_id: Unsigned
    sender: MemberUpdate
    target: Identity
    piggyback: Piggyback = ()


class Nack(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=4):
    """Says that the sender is well and yet cannot answer with an Ack.

    ``known_boot`` comes with STALE_BOOT: the newest boot that the sender has heard of the
    receiver, which has to become a newer one to be listened to.
    """

    probe_id: Unsigned
    sender: MemberUpdate
    reason: NackReason
    known_boot: Unsigned = 0
    piggyback: Piggyback = ()


Message = Union[Ping, PingReq, Ack, Nack]
_decoder: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
_encoder: Final = msgspec.msgpack.Encoder()


class UndecodableMessage(Exception):
    """The bytes are not a message of this wire version."""


def encode_message(message: Message) -> bytes:
    """Return the bytes of a message."""
    return _encoder.encode(message)


def decode_message(body: bytes) -> Message:
    """Read a message; UndecodableMessage when it is none, or breaks a limit."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UndecodableMessage(str(error)) from error


def update_of(member: Member, suspected_by: int = 0) -> MemberUpdate:
    """Return the update that carries a record."""
    return MemberUpdate(
        member.node_id,
        member.address,
        member.state,
        member.incarnation,
        member.boot,
        suspected_by,
    )
