"""Who of the members answers, and which of them know an old topology. Pure.

Every member pings every other one each ``ping_interval_seconds``; pings and pongs carry the version
of the topology that their sender knows, which is the metadata index of its last change. Whoever
learns that another is behind pushes it the topology, one push at a time per peer. A push is taken
only if it is newer than what is known, and its version is taken with it, so pushes end.

Nothing here changes a member's state. A silent node is not draining and one that answers is not
active for it: states are an operator's and the metadata group's to change. The silence is told as
a count and the last error, for the status commands.

The metadata group brings the topology to its learners by itself; the push is for a node that the
group does not reach, because its leader knows it under an address that it has left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cluster.membership.catalog import Topology
from cluster.membership.message import STATE_CODES, Ping, Pong, TopologyPush

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.membership.config import HealthSettings


class SendPing(NamedTuple):
    """Ask a member; report ``on_pong`` or ``on_ping_failed``."""

    node_id: int
    address: str
    ping: Ping


class SendTopology(NamedTuple):
    """Tell a member that is behind; report ``on_push_answered`` or ``on_push_failed``."""

    node_id: int
    address: str
    push: TopologyPush


Effect = SendPing | SendTopology


class PeerReport(NamedTuple):
    """How a member answered: ``failures`` in a row, and the last error ("" if it answered)."""

    node_id: int
    address: str
    topology_version: int
    failures: int
    last_error: str


class _Peer:
    __slots__ = (
        "address",
        "due_at",
        "failures",
        "last_error",
        "ping_is_out",
        "push_is_out",
        "version",
    )

    def __init__(self, address: str, due_at: float) -> None:
        self.address = address
        self.due_at = due_at
        self.version = 0
        self.failures = 0
        self.last_error = ""
        self.ping_is_out = False
        self.push_is_out = False


class HealthMonitor:
    """One node's pings. Invariant: its topology's version never falls."""

    def __init__(
        self,
        settings: HealthSettings,
        *,
        node_id: int,
        cluster_id: str,
        topology: Topology,
        now: float,
    ) -> None:
        self._settings = settings
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._peers: dict[int, _Peer] = {}
        self._effects: list[Effect] = []
        self.topology = topology
        self._follow_topology(now)

    # Inputs

    def on_topology(self, topology: Topology, now: float) -> bool:
        """Take the topology of the metadata group, or a pushed one; False if it is not newer."""
        if topology.version <= self.topology.version:
            return False
        self.topology = topology
        self._follow_topology(now)
        return True

    def on_push(self, push: TopologyPush, now: float) -> tuple[Pong, bool]:
        """Take a pushed topology; returns the answer, and whether it was adopted."""
        is_ours = push.cluster_id == self._cluster_id
        # A topology without this node is not one to live by, whatever its version.
        lists_this_node = any(node.node_id == self._node_id for node in push.nodes)
        adopted = (
            is_ours
            and lists_this_node
            and self.on_topology(Topology(push.version, push.nodes), now)
        )
        return Pong(self._node_id, self.topology.version), adopted

    def on_ping(self, ping: Ping) -> Pong:
        """Answer a member, and help it if it is behind."""
        peer = self._peers.get(ping.node_id)
        if peer is not None:
            peer.version = ping.topology_version
            self._push_if_behind(ping.node_id)
        return Pong(self._node_id, self.topology.version)

    def on_tick(self, now: float) -> None:
        """Ping whoever is due; a ping that is still out is not doubled."""
        for node_id, peer in self._peers.items():
            if now >= peer.due_at and not peer.ping_is_out:
                peer.ping_is_out = True
                # Not due_at + interval: a process that was stopped would send the missed ones.
                peer.due_at = now + self._settings.ping_interval_seconds
                ping = Ping(self._node_id, self.topology.version)
                self._effects.append(SendPing(node_id, peer.address, ping))

    def on_pong(self, node_id: int, pong: Pong) -> None:
        """Take a member's answer to a ping."""
        peer = self._peers.get(node_id)
        if peer is None:
            return
        peer.ping_is_out = False
        if pong.node_id != node_id:
            peer.failures += 1
            peer.last_error = f"node {pong.node_id} answers at {peer.address}"
            return
        peer.failures, peer.last_error = 0, ""
        peer.version = pong.topology_version
        self._push_if_behind(node_id)

    def on_ping_failed(self, node_id: int, error: str) -> None:
        """Take that a member did not answer: count it, and nothing else."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.ping_is_out = False
            peer.failures += 1
            peer.last_error = error

    def on_push_answered(self, node_id: int, pong: Pong) -> None:
        """Take a member's answer to a push. If it is behind still, the next pong shows it."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.push_is_out = False
            peer.version = pong.topology_version

    def on_push_failed(self, node_id: int, error: str) -> None:
        """Take that a push was lost: the next pong starts another."""
        peer = self._peers.get(node_id)
        if peer is not None:
            peer.push_is_out = False
            peer.last_error = error

    # Outputs

    def effects(self) -> list[Effect]:
        """Drain what is to be sent."""
        effects, self._effects = self._effects, []
        return effects

    def next_due_at(self) -> float | None:
        """Return when the next ping is due; None while all are out, or without peers."""
        waiting = (peer.due_at for peer in self._peers.values() if not peer.ping_is_out)
        return min(waiting, default=None)

    def reports(self) -> list[PeerReport]:
        """Return how each member answered last, by id."""
        return [
            PeerReport(node_id, peer.address, peer.version, peer.failures, peer.last_error)
            for node_id, peer in sorted(self._peers.items())
        ]

    # Helpers

    def _follow_topology(self, now: float) -> None:
        """Watch the members of the topology: no others, and where they are now."""
        decommissioned = STATE_CODES["decommissioned"]
        members: Mapping[int, str] = {
            node.node_id: node.address
            for node in self.topology.nodes
            if node.node_id != self._node_id and node.state != decommissioned
        }
        for node_id in self._peers.keys() - members.keys():
            del self._peers[node_id]
        for node_id, address in sorted(members.items()):
            known = self._peers.get(node_id)
            if known is None or known.address != address:
                self._peers[node_id] = _Peer(address, now)

    def _push_if_behind(self, node_id: int) -> None:
        # Only now that the peer has said so: a new topology reaches most of them through the
        # metadata group, and a push from everybody to everybody would say it again.
        peer = self._peers[node_id]
        if peer.push_is_out or peer.version >= self.topology.version:
            return
        peer.push_is_out = True
        push = TopologyPush(self._cluster_id, self.topology.version, self.topology.nodes)
        self._effects.append(SendTopology(node_id, peer.address, push))
