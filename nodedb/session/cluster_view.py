"""What SHOW statements, views and the HTTP port tell about the cluster, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP

if TYPE_CHECKING:
    from nodedb.catalog.metadata import MetadataState
    from nodedb.txn.manager import TransactionManager


class NodeStatus(NamedTuple):
    """One node of the topology.

    ``state``: joining, learner, active, draining, decommissioned. ``liveness`` is SWIM's word:
    alive, suspect, dead, left; "" for nobody's. ``last_error``: why it was refused or cannot be
    reached, "" if it can.
    """

    node_id: int
    rpc_address: str
    sql_address: str
    http_address: str
    state: str
    liveness: str
    groups: tuple[int, ...]
    locality: tuple[str, ...]
    role: str
    last_error: str


class GroupStatus(NamedTuple):
    """One Raft group as the answering node sees it; figures of its own replica."""

    group_id: int
    role: str
    leader_id: int
    term: int
    commit_index: int
    applied_index: int
    first_index: int
    last_index: int
    voters: tuple[int, ...]
    learners: tuple[int, ...]
    is_quiescent: bool
    match_indexes: tuple[tuple[int, int], ...]
    """(node, match index) of the peers, on the leader only."""


class PeerStatus(NamedTuple):
    """What the transport knows of a peer; ``circuit``: closed, OPEN, half-open."""

    node_id: int
    address: str
    circuit: str
    failures: int
    round_trip_ms: float | None
    last_error: str


class ClusterView(Protocol):
    """The live state of the cluster as this node knows it; asking costs no message."""

    node_id: int

    @property
    def cluster_id(self) -> str:
        """The cluster's id."""

    @property
    def topology_version(self) -> int:
        """Metadata index of the last change of the topology."""

    def nodes(self) -> list[NodeStatus]:
        """Return all nodes, by id."""

    def groups(self) -> list[GroupStatus]:
        """Return the groups with a replica on this node, by id."""

    def peers(self) -> list[PeerStatus]:
        """Return all peers, by id."""

    def refusals(self) -> list[tuple[str, str]]:
        """Who was refused lately and why: (address, sentence), newest last, at most 100."""

    def group_of_vshard(self, vshard: int) -> int:
        """Return the group that holds a vshard."""

    def replicas_of_group(self, group_id: int) -> tuple[int, ...]:
        """Nodes with a voter of the group, by id."""

    def leader_of_group(self, group_id: int) -> int:
        """Return the leader of a group as far as known, 0 otherwise."""

    def has_quorum(self) -> bool:
        """Tell whether the metadata group and every group with rows here has a reachable leader."""

    def subsystems(self) -> list[tuple[str, bool, str]]:
        """(name, is running, detail) of each subsystem; readiness needs all of them."""


class SoloClusterView:
    """A node by itself: the only member, and the leader of both groups."""

    def __init__(
        self,
        transactions: TransactionManager,
        metadata: MetadataState,
        node_id: int,
        rpc_address: str,
    ) -> None:
        self.node_id = node_id
        self._transactions = transactions
        self._metadata = metadata
        self._rpc_address = rpc_address

    @property
    def cluster_id(self) -> str:
        """The cluster's id, "" as long as the metadata group has none."""
        return self._metadata.cluster.cluster_id

    @property
    def topology_version(self) -> int:
        """Metadata index of the last change of the topology; 0: there was none."""
        return self._metadata.cluster.topology_version

    def nodes(self) -> list[NodeStatus]:
        """Return this node."""
        groups = (METADATA_GROUP, FIRST_DATA_GROUP)
        known = self._metadata.cluster.nodes.get(self.node_id)
        if known is None:
            return [
                NodeStatus(
                    self.node_id, self._rpc_address, "", "", "active", "", groups, (), "full", ""
                )
            ]
        return [
            NodeStatus(
                self.node_id,
                known.rpc_address,
                known.sql_address,
                known.http_address,
                known.state,
                "",
                groups,
                known.locality,
                known.role,
                "",
            )
        ]

    def groups(self) -> list[GroupStatus]:
        """Return both groups, whose only voter this node is."""
        replicas = self._transactions.replicator.replicas
        return [
            GroupStatus(
                group_id=group_id,
                role="leader",
                leader_id=self.node_id,
                term=replica.core.term,
                commit_index=replica.core.commit_index,
                applied_index=replica.applied_index,
                first_index=replica.log.first_index(),
                last_index=replica.log.last_index(),
                voters=(self.node_id,),
                learners=(),
                is_quiescent=False,
                match_indexes=(),
            )
            for group_id, replica in sorted(replicas.items())
        ]

    def peers(self) -> list[PeerStatus]:
        """Return nobody."""
        return []

    def refusals(self) -> list[tuple[str, str]]:
        """Return nobody."""
        return []

    def group_of_vshard(self, vshard: int) -> int:
        """Return the group that holds a vshard."""
        return self._metadata.cluster.group_of_vshard(vshard)

    def replicas_of_group(self, group_id: int) -> tuple[int, ...]:
        """Return this node."""
        del group_id
        return (self.node_id,)

    def leader_of_group(self, group_id: int) -> int:
        """Return this node."""
        del group_id
        return self.node_id

    def has_quorum(self) -> bool:
        """Tell that it has: one of one."""
        return True

    def subsystems(self) -> list[tuple[str, bool, str]]:
        """Return nothing: what runs beside SQL here is the node's own affair."""
        return []
