"""Datagrams to messages and back, with every bad one counted by its reason."""

from typing import NamedTuple

from cluster.ids import NodeId
from cluster.swim.counters import SwimCounters
from cluster.swim.envelope import Flaw, Opened, Opener, Sealer
from cluster.swim.message import Message, UndecodableMessage, decode_message, encode_message


class Received(NamedTuple):
    """An authentic message. If it is stale, only ``SwimCore.on_stale_message`` may have it."""

    message: Message
    is_stale: bool
    known_boot: int


class Datagrams:
    """Both directions of one node; see ``envelope`` for the shape."""

    def __init__(
        self, *, secret: bytes, cluster_id: str, node_id: NodeId, counters: SwimCounters
    ) -> None:
        self._sealer = Sealer(secret=secret, cluster_id=cluster_id, node_id=node_id)
        self._opener = Opener(secret=secret, cluster_id=cluster_id, node_id=node_id)
        self._counters = counters

    def encode(self, message: Message, *, recipient: NodeId, boot: int) -> bytes:
        """Return the datagram of a message and count it as sent."""
        datagram = self._sealer.seal(encode_message(message), recipient=recipient, boot=boot)
        self._counters.datagrams_sent += 1
        self._counters.bytes_sent += len(datagram)
        return datagram

    def decode(self, datagram: bytes) -> Received | None:
        """Return what a datagram carries, or None for a bad one."""
        self._counters.datagrams_received += 1
        self._counters.bytes_received += len(datagram)
        opened = self._opener.open(datagram)
        if isinstance(opened, Flaw):
            self._count(opened)
            return None
        message = self._message_in(opened)
        flaw = opened.flaw or (Flaw.MALFORMED if message is None else None)
        if flaw is not None:
            self._count(flaw)
        if message is None:
            return None
        return Received(message, opened.flaw is not None, opened.known_boot)

    def _message_in(self, opened: Opened) -> Message | None:
        """Return the message; None if it is none, or its sender is not who signed it."""
        try:
            message = decode_message(opened.body)
        except UndecodableMessage:
            return None
        return message if message.sender.node_id == opened.sender else None

    def _count(self, flaw: Flaw) -> None:
        name = f"bad_{flaw.value}"
        setattr(self._counters, name, getattr(self._counters, name) + 1)
