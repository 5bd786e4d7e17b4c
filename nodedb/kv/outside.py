"""What a replicator tells the node's cluster side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cluster.multiraft.message import Beat
    from cluster.raft.message import Message


class Outside(Protocol):
    """The way to the peers. Nothing of it may raise: what cannot be sent is lost."""

    def send(self, node_id: int, messages: list[Message]) -> None:
        """Send a turn's messages to a peer."""

    def send_beat(self, node_id: int, beat: Beat) -> None:
        """Send a sign of life to a peer."""

    def send_snapshot(self, group_id: int, node_id: int) -> None:
        """Bring a peer that is behind the log up to date; ``on_snapshot_result`` follows."""

    def on_turn(self) -> None:
        """Note that roles, terms or applied indexes may have changed, or that time has passed."""


class Nobody:
    """The outside of a node by itself."""

    def send(self, node_id: int, messages: list[Message]) -> None:
        """Refuse: there is no peer."""
        raise AssertionError(f"a node by itself has no peer {node_id}: {messages}")

    def send_beat(self, node_id: int, beat: Beat) -> None:
        """Refuse: there is no peer."""
        raise AssertionError(f"a node by itself has no peer {node_id}: {beat}")

    def send_snapshot(self, group_id: int, node_id: int) -> None:
        """Refuse: there is no peer."""
        raise AssertionError(f"group {group_id} of a node by itself has no peer {node_id}")

    def on_turn(self) -> None:
        """Do nothing: nobody looks."""
