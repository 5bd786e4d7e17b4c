"""The live state of the cluster as this node knows it: for SHOW, the views and the HTTP port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cluster.ids import METADATA_GROUP
from nodedb.session.cluster_view import GroupStatus, NodeStatus, PeerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.metadata.data import NodeRecord
    from cluster.transport.api import PeerHealth, Refusal
    from nodedb.catalog.metadata import MetadataState
    from nodedb.kv.replica import Replica
    from nodedb.kv.replicator import Replicator

REFUSALS_MAX: Final = 100


class PeerSource(Protocol):
    """What the transport knows of peers."""

    def health(self) -> list[PeerHealth]:
        """Return the peers dialled."""

    def refusals(self) -> list[Refusal]:
        """Return the handshakes that ended with a sentence."""


class LiveClusterView:
    """Implements ``nodedb.session.cluster_view.ClusterView`` over the running subsystems.

    ``liveness_of`` is SWIM's word about a node; ``subsystem_states`` gives (name, is running,
    detail).
    """

    def __init__(
        self,
        replicator: Replicator,
        metadata: MetadataState,
        peers: PeerSource,
        liveness_of: Callable[[int], str],
        subsystem_states: Callable[[], list[tuple[str, bool, str]]],
    ) -> None:
        self.node_id = replicator.node_id
        self.more_refusals: list[tuple[str, str]] = []
        """(address, sentence) of joins refused by this node, newest last."""
        self._replicator = replicator
        self._metadata = metadata
        self._peers = peers
        self._liveness_of = liveness_of
        self.subsystems = subsystem_states

    @property
    def cluster_id(self) -> str:
        """The cluster's id."""
        return self._metadata.cluster.cluster_id

    @property
    def topology_version(self) -> int:
        """Metadata index of the last change of the topology."""
        return self._metadata.cluster.topology_version

    def nodes(self) -> list[NodeStatus]:
        """Return all nodes, by id."""
        health = {peer.address: peer for peer in self._peers.health()}
        return [
            self._node(record, health.get(record.rpc_address))
            for _, record in sorted(self._metadata.cluster.nodes.items())
        ]

    def _node(self, record: NodeRecord, health: PeerHealth | None) -> NodeStatus:
        groups = tuple(
            group_id
            for group_id in sorted(self._replicator.replicas)
            if record.node_id in self._members(group_id)
        )
        is_reached = record.node_id == self.node_id or health is None or not health.failures
        return NodeStatus(
            record.node_id,
            record.rpc_address,
            record.sql_address,
            record.http_address,
            record.state,
            self._liveness_of(record.node_id),
            groups,
            record.locality,
            record.role,
            "" if is_reached or health is None else health.last_error,
        )

    def _members(self, group_id: int) -> tuple[int, ...]:
        configuration = self._replicator.replicas[group_id].core.configuration
        return configuration.voters + configuration.learners

    def groups(self) -> list[GroupStatus]:
        """Return the groups with a replica on this node, by id."""
        return [_group_status(replica) for _, replica in sorted(self._replicator.replicas.items())]

    def peers(self) -> list[PeerStatus]:
        """Return all other members, and whoever else was dialled, by id and address."""
        by_address = {peer.address: peer for peer in self._peers.health()}
        found = []
        for node_id, record in self._metadata.cluster.nodes.items():
            if node_id == self.node_id:
                continue
            health = by_address.pop(record.rpc_address, None)
            found.append(_peer_status(node_id, record.rpc_address, health))
        found += [_peer_status(peer.node_id, peer.address, peer) for peer in by_address.values()]
        return sorted(found)

    def refusals(self) -> list[tuple[str, str]]:
        """Return who was refused lately and why: (address, sentence), newest last, at most 100."""
        handshakes = sorted(self._peers.refusals(), key=_when)
        told = [(refusal.address, refusal.reason) for refusal in handshakes]
        return [*told, *self.more_refusals][-REFUSALS_MAX:]

    def group_of_vshard(self, vshard: int) -> int:
        """Return the group that holds a vshard."""
        for part in self._metadata.cluster.vshards:
            if part.start <= vshard < part.end:
                return part.group_id
        raise AssertionError(f"vshard {vshard} is in no group")

    def replicas_of_group(self, group_id: int) -> tuple[int, ...]:
        """Return the nodes with a voter of the group, by id."""
        replica = self._replicator.replicas.get(group_id)
        if replica is not None:
            return replica.core.configuration.voters
        record = self._metadata.cluster.groups.get(group_id)
        return () if record is None else record.voters

    def leader_of_group(self, group_id: int) -> int:
        """Return the leader of a group as far as known, 0 otherwise."""
        replica = self._replicator.replicas.get(group_id)
        return 0 if replica is None else replica.core.leader_id

    def has_quorum(self) -> bool:
        """Tell whether every group with a replica here has a leader that is heard or has a lease.

        A leader without a valid lease is one only if its group sleeps.
        """
        now = self._replicator.now()
        for replica in self._replicator.replicas.values():
            core = replica.core
            if not core.leader_id:
                return False
            if core.is_leader and not core.is_quiescent and now >= core.lease_until:
                return False
        return METADATA_GROUP in self._replicator.replicas


def _when(refusal: Refusal) -> float:
    return refusal.at


def _peer_status(node_id: int, address: str, health: PeerHealth | None) -> PeerStatus:
    if health is None:
        return PeerStatus(node_id, address, "closed", 0, None, "")
    return PeerStatus(
        node_id,
        address,
        health.circuit,
        health.failures,
        health.round_trip_ms,
        health.last_error,
    )


def _group_status(replica: Replica) -> GroupStatus:
    core = replica.core
    configuration = core.configuration
    matches = (
        tuple(sorted((peer, progress.match_index) for peer, progress in core.progress.items()))
        if core.is_leader
        else ()
    )
    return GroupStatus(
        replica.group_id,
        str(core.role),
        core.leader_id,
        core.term,
        core.commit_index,
        replica.applied_index,
        replica.log.first_index(),
        replica.log.last_index(),
        configuration.voters,
        configuration.learners,
        core.is_quiescent,
        matches,
    )
