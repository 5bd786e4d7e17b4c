"""Raft messages to and from the peers: node ids become addresses, batches become frames.

What cannot be sent is dropped: Raft repeats itself, and is told who is out of reach.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from cluster.multiraft.message import BadBeat, Beat, decode_beat, encode_beat
from cluster.raft.message import (
    AppendRequest,
    BadMessage,
    Message,
    decode_messages,
    encode_messages,
)
from cluster.transport.methods import NODE_BEAT, RAFT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.transport.api import Peer, Transport
    from nodedb.kv.replicator import Replicator

_LOGGER: Final = logging.getLogger("nodedb.links")
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Payload of the entries in a frame; a longer entry (``REPLICATED_ENTRY_BYTES_MAX``) is alone."""


class RaftLinks:
    """The replicator's way to its peers. Implements its ``Outside``."""

    def __init__(
        self, transport: Transport, address_of: Callable[[int], str | None], node_id: int
    ) -> None:
        self._transport = transport
        self._address_of = address_of
        self._node_id = node_id
        self._replicator: Replicator | None = None
        self.on_turns: list[Callable[[], None]] = []
        self.start_snapshot: Callable[[int, int], None] = _refuse_snapshot
        """Called with (group, node) that needs one."""
        self.unsent_count = 0
        self.misdirected_count = 0

    def attach(self, replicator: Replicator) -> None:
        """Begin to hand over what peers send."""
        self._replicator = replicator
        self._transport.on_message(RAFT, self._on_batch)
        self._transport.on_message(NODE_BEAT, self._on_beat)

    # Out

    def send(self, node_id: int, messages: list[Message]) -> None:
        """Send a turn's messages to a peer."""
        address = self._address_of(node_id)
        for batch in _batches(messages):
            if address is None or not self._transport.send(address, RAFT, encode_messages(batch)):
                self.unsent_count += len(batch)

    def send_beat(self, node_id: int, beat: Beat) -> None:
        """Send a sign of life to a peer."""
        address = self._address_of(node_id)
        if address is not None:
            self._transport.send(address, NODE_BEAT, encode_beat(beat))

    def send_snapshot(self, group_id: int, node_id: int) -> None:
        """Bring a peer up to date that is behind the log."""
        self.start_snapshot(group_id, node_id)

    def on_turn(self) -> None:
        """Tell whoever looks at the groups after each turn."""
        for callback in self.on_turns:
            try:
                callback()
            except Exception:
                # The groups' turns go on, whatever a session makes of the end of its leader.
                _LOGGER.exception("looking at the groups after a turn failed")

    # In

    def _on_batch(self, peer: Peer, payload: bytes) -> None:
        """Take a batch. A message for or from somebody else is a stale address: dropped."""
        try:
            messages = decode_messages(payload)
        except BadMessage as error:
            _LOGGER.warning("node %d at %s: %s", peer.node_id, peer.address, error)
            return
        ours = [
            message
            for message in messages
            if message.recipient == self._node_id and message.sender == peer.node_id
        ]
        self.misdirected_count += len(messages) - len(ours)
        if ours and self._replicator is not None:
            self._replicator.receive(ours)

    def _on_beat(self, peer: Peer, payload: bytes) -> None:
        try:
            beat = decode_beat(payload)
        except BadBeat as error:
            _LOGGER.warning("node %d at %s: %s", peer.node_id, peer.address, error)
            return
        if beat.sender == peer.node_id and self._replicator is not None:
            self._replicator.receive_beat(beat)


def _batches(messages: list[Message]) -> Iterator[list[Message]]:
    """Cut a turn's messages so that no frame is longer than the transport carries."""
    batch: list[Message] = []
    byte_count = 0
    for message in messages:
        if type(message) is AppendRequest:
            added = sum(len(payload) for _, _, payload in message.entries)
            if batch and byte_count + added > BATCH_BYTES:
                yield batch
                batch, byte_count = [], 0
            byte_count += added
        batch.append(message)
    if batch:
        yield batch


def _refuse_snapshot(group_id: int, node_id: int) -> None:
    _LOGGER.warning("group %d: node %d needs a snapshot, too early", group_id, node_id)
