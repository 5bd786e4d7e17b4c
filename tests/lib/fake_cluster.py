"""A ClusterView of fixed values, for what shows the cluster."""

import dataclasses

from nodedb.session.cluster_view import GroupStatus, NodeStatus, PeerStatus


def node_status(node_id: int, **changes: object) -> NodeStatus:
    """Return an active node."""
    status = NodeStatus(
        node_id=node_id,
        rpc_address=f"127.0.0.1:940{node_id}",
        sql_address=f"127.0.0.1:643{node_id}",
        http_address=f"127.0.0.1:648{node_id}",
        state="active",
        liveness="alive",
        groups=(0, 1),
        locality=(),
        role="voter",
        last_error="",
    )
    return status._replace(**changes)  # type: ignore[arg-type]


def group_status(group_id: int, **changes: object) -> GroupStatus:
    """Return a group that node 1 leads."""
    status = GroupStatus(
        group_id=group_id,
        role="leader",
        leader_id=1,
        term=3,
        commit_index=40,
        applied_index=40,
        first_index=11,
        last_index=42,
        voters=(1, 2, 3),
        learners=(),
        is_quiescent=False,
        match_indexes=((2, 42), (3, 30)),
    )
    return status._replace(**changes)  # type: ignore[arg-type]


@dataclasses.dataclass
class FakeView:
    """Three nodes as node 1 sees them; tests change the fields."""

    node_id: int = 1
    cluster_id: str = "c0ffee"
    topology_version: int = 7
    node_list: list[NodeStatus] = dataclasses.field(
        default_factory=lambda: [node_status(1), node_status(2), node_status(3)]
    )
    group_list: list[GroupStatus] = dataclasses.field(
        default_factory=lambda: [group_status(0), group_status(1)]
    )
    peer_list: list[PeerStatus] = dataclasses.field(
        default_factory=lambda: [
            PeerStatus(2, "127.0.0.1:9402", "closed", 0, 0.25, ""),
            PeerStatus(3, "127.0.0.1:9403", "OPEN", 5, None, "connection refused"),
        ]
    )
    refusal_list: list[tuple[str, str]] = dataclasses.field(
        default_factory=lambda: [("127.0.0.1:9999", "another cluster")]
    )
    quorum: bool = True
    subsystem_list: list[tuple[str, bool, str]] = dataclasses.field(
        default_factory=lambda: [("transport", True, ""), ("swim", True, "3 members")]
    )

    def nodes(self) -> list[NodeStatus]:
        return self.node_list

    def groups(self) -> list[GroupStatus]:
        return self.group_list

    def peers(self) -> list[PeerStatus]:
        return self.peer_list

    def refusals(self) -> list[tuple[str, str]]:
        return self.refusal_list

    def group_of_vshard(self, vshard: int) -> int:
        return 1

    def replicas_of_group(self, group_id: int) -> tuple[int, ...]:
        return (1, 2, 3)

    def leader_of_group(self, group_id: int) -> int:
        return 1

    def has_quorum(self) -> bool:
        return self.quorum

    def subsystems(self) -> list[tuple[str, bool, str]]:
        return self.subsystem_list
