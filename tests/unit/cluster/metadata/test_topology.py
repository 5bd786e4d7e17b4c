"""Members of the cluster: who may join under which id, and how they leave (BEHAVIOUR 5.4, 7.1)."""

import pytest

from cluster.metadata.command import (
    DescriptorLeaseGrant,
    FinishDecommission,
    GroupReplicas,
    NodeJoin,
    NodeLeave,
    NodeUpdate,
    PromoteToActive,
    Recommission,
    RemoveMember,
    SetGroups,
    Setting,
    StartDecommission,
)
from cluster.metadata.outcome import APPLIED, Outcome, Refused
from cluster.metadata.state import ClusterState


class Members:
    """A state with nodes 1 to ``count`` active and group 1 on the first three."""

    def __init__(self, count: int = 3) -> None:
        self.state = ClusterState()
        self.index = 0
        for node_id in range(1, count + 1):
            assert self.apply(join(node_id)) == APPLIED
            assert self.apply(PromoteToActive(node_id)) == APPLIED
        voters = tuple(range(1, min(count, 3) + 1))
        assert self.apply(SetGroups((GroupReplicas(1, voters),))) == APPLIED

    def apply(self, command: object) -> Outcome:
        self.index += 1
        return self.state.apply(command, self.index)  # type: ignore[arg-type]

    def refuse(self, command: object) -> str:
        before = (self.state.nodes.copy(), self.state.removed.copy(), self.state.topology_version)
        outcome = self.apply(command)
        assert isinstance(outcome, Refused), command
        now = (self.state.nodes, self.state.removed, self.state.topology_version)
        assert now == before
        return outcome.reason

    def states(self) -> dict[int, str]:
        return {node_id: node.state for node_id, node in self.state.nodes.items()}


def join(node_id: int, **changes: object) -> NodeJoin:
    values: dict[str, object] = {
        "node_id": node_id,
        "store_id": f"store-{node_id}",
        "rpc_address": f"127.0.0.1:{9400 + node_id}",
        "incarnation": 5,
        **changes,
    }
    return NodeJoin(**values)  # type: ignore[arg-type]


def update(node_id: int, **changes: object) -> NodeUpdate:
    made = join(node_id, **changes)
    return NodeUpdate(*(getattr(made, name) for name in made.__struct_fields__))


def test_a_node_joins_as_learner_and_becomes_active() -> None:
    members = Members()
    members.apply(join(7, locality=("eu", "a"), sql_address="h:1", spki_pin=b"pin"))
    node = members.state.nodes[7]
    assert (node.state, node.join_order, node.locality) == ("learner", 4, ("eu", "a"))
    assert (node.sql_address, node.spki_pin) == ("h:1", b"pin")
    members.apply(PromoteToActive(7))
    assert members.states() == {1: "active", 2: "active", 3: "active", 7: "active"}
    assert [node.join_order for _, node in sorted(members.state.nodes.items())] == [1, 2, 3, 4]


def test_a_repeated_join_is_no_change() -> None:
    members = Members()
    version = members.state.topology_version
    assert members.apply(join(2)) == APPLIED
    assert members.state.topology_version == version
    assert members.states()[2] == "active"
    assert members.apply(join(2, incarnation=6)) == APPLIED
    assert members.state.topology_version == members.index
    assert members.state.nodes[2].join_order == 2


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (
            join(2, rpc_address="127.0.0.1:9999"),
            "node_id 2 already registered with different address 127.0.0.1:9402 "
            "(request: 127.0.0.1:9999)",
        ),
        (
            join(2, store_id="empty"),
            "node_id 2 is registered with store store-2, not with store empty: a store that lost "
            "its data must join under another node_id",
        ),
        (
            join(9, rpc_address="127.0.0.1:9402"),
            "address 127.0.0.1:9402 already registered with different node_id 2 (request: 9)",
        ),
        (
            join(9, store_id="store-2"),
            "store store-2 already registered with different node_id 2 (request: 9): "
            "was it copied?",
        ),
        (
            join(2, incarnation=4),
            "node_id 2 has started again since: incarnation 4 is below 5",
        ),
        (join(0), "invalid node_id 0: it must be above 0"),
        (join(-4), "invalid node_id -4: it must be above 0"),
    ],
)
def test_whose_id_it_is(command: NodeJoin, reason: str) -> None:
    assert Members().refuse(command) == reason


def test_a_restarted_node_tells_where_it_is_now() -> None:
    members = Members()
    moved = update(2, rpc_address="h:9", http_address="h:80", incarnation=9, wire_version=2)
    assert members.apply(moved) == APPLIED
    node = members.state.nodes[2]
    assert (node.rpc_address, node.http_address, node.incarnation) == ("h:9", "h:80", 9)
    assert (node.state, node.join_order) == ("active", 2)
    assert "incarnation 5 is below 9" in members.refuse(update(2))
    assert "different node_id 2" in members.refuse(update(3, rpc_address="h:9"))
    assert "lost its data" in members.refuse(update(3, store_id="other"))
    assert members.refuse(update(8)) == "node 8 does not exist"


def test_only_an_operator_makes_a_draining_node_active() -> None:
    """M7: in the reference system any sign of life ended a decommission."""
    members = Members(4)
    assert members.apply(StartDecommission(3)) == APPLIED
    assert members.apply(StartDecommission(3)) == APPLIED
    for sign_of_life in (join(3), join(3, incarnation=6), update(3, incarnation=7)):
        members.apply(sign_of_life)
        assert members.states()[3] == "draining", sign_of_life
    assert members.refuse(PromoteToActive(3)) == (
        "node 3 is draining: only recommissioning makes it active again"
    )
    assert members.apply(Recommission(3)) == APPLIED
    assert members.states()[3] == "active"
    assert members.apply(Recommission(3)) == APPLIED


def test_a_node_is_decommissioned_step_by_step() -> None:
    members = Members(4)
    members.apply(Setting(3, "drain_lease_wait", "1s"))
    members.apply(DescriptorLeaseGrant(0, 1, 3, 0, 1 << 20))
    assert members.refuse(FinishDecommission(3)) == "node 3 is active, not draining"
    assert members.refuse(NodeLeave(3)) == "node 3 is active: decommission it first"
    members.apply(StartDecommission(3))
    assert members.refuse(FinishDecommission(3)) == "node 3 still has replicas of groups 1"
    assert members.refuse(NodeLeave(3)) == "node 3 is draining: decommission it first"
    members.apply(SetGroups((GroupReplicas(1, (1, 2, 4), (3,)),)))
    assert members.refuse(FinishDecommission(3)) == "node 3 still has replicas of groups 1"
    members.apply(RemoveMember(1, 3))
    assert members.apply(FinishDecommission(3)) == APPLIED
    assert members.apply(FinishDecommission(3)) == APPLIED
    assert members.states()[3] == "decommissioned"
    assert members.refuse(Recommission(3)) == "node 3 is decommissioned, not draining"
    assert members.refuse(StartDecommission(3)) == "node 3 is already decommissioned"
    assert members.refuse(join(3)) == "node_id 3 was decommissioned"
    outcome = members.apply(SetGroups((GroupReplicas(1, (1, 3)),)))
    assert isinstance(outcome, Refused)
    assert members.apply(NodeLeave(3)) == APPLIED
    assert members.apply(NodeLeave(3)) == APPLIED
    assert 3 not in members.states()
    assert members.state.settings == {}
    assert members.state.leases == {}


def test_a_node_that_is_gone_stays_gone() -> None:
    members = Members(4)
    members.apply(SetGroups((GroupReplicas(1, (1, 2)),)))
    assert members.apply(NodeLeave(3, lost=True)) == APPLIED
    assert members.refuse(join(3)) == (
        "node_id 3 was removed from the cluster; start the node with an empty store and another "
        "node_id"
    )
    assert members.refuse(update(3)) == "node 3 was removed from the cluster"
    assert members.refuse(PromoteToActive(3)) == "node 3 was removed from the cluster"
    assert members.apply(join(5, rpc_address="127.0.0.1:9403")) == APPLIED, "its address is free"


def test_a_decommission_must_leave_enough_nodes() -> None:
    members = Members(3)
    assert members.refuse(StartDecommission(3)) == (
        "decommissioning node 3 would leave group 1 with 2 of 3 replicas: add a node first"
    )
    assert Members(1).refuse(StartDecommission(1)) == "node 1 is the only active node"
    bigger = Members(5)
    assert bigger.apply(StartDecommission(1)) == APPLIED
    assert bigger.apply(StartDecommission(2)) == APPLIED
    assert "2 of 3 replicas" in bigger.refuse(StartDecommission(3))
    assert bigger.apply(StartDecommission(4)) == APPLIED, "it holds nothing"


@pytest.mark.parametrize(
    "command",
    [
        PromoteToActive(9),
        StartDecommission(9),
        FinishDecommission(9),
        Recommission(9),
        NodeLeave(9),
        update(9),
    ],
    ids=lambda command: type(command).__name__,
)
def test_nobody_of_that_id(command: object) -> None:
    assert Members().refuse(command) == "node 9 does not exist"


def test_a_learner_whose_join_failed_is_let_go() -> None:
    members = Members()
    members.apply(join(7))
    assert members.refuse(FinishDecommission(7)) == "node 7 is learner, not draining"
    assert members.apply(NodeLeave(7)) == APPLIED
