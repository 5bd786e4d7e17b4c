"""What SHOW and the HTTP port are told of the cluster, live."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.command import Batch, GroupReplicas, NodeJoin, SetGroups
from cluster.metadata.data import VshardRange
from cluster.raft.config import RaftConfig
from nodedb.member.view import REFUSALS_MAX, LiveClusterView
from tests.lib.small_cluster import SmallCluster


class Peers:
    def __init__(self) -> None:
        self.known: list[Any] = []
        self.refused: list[Any] = []

    def health(self) -> list[Any]:
        return self.known

    def refusals(self) -> list[Any]:
        return self.refused


def health(address: str, node_id: int, failures: int = 0, error: str = "") -> Any:
    circuit = "OPEN" if failures >= 5 else "closed"
    return SimpleNamespace(
        address=address,
        node_id=node_id,
        circuit=circuit,
        failures=failures,
        round_trip_ms=None if failures else 0.5,
        last_error=error,
    )


@pytest.fixture
def cluster() -> SmallCluster:
    made = SmallCluster(config=RaftConfig(quiesce_after_seconds=1.0))
    leader = made.elect(1)
    joins = tuple(
        NodeJoin(n, f"s{n}", f"n{n}:9400", "", "", (), "voter", 1, b"", 1) for n in (1, 2, 3)
    )
    groups = SetGroups(
        (GroupReplicas(METADATA_GROUP, (1, 2, 3)), GroupReplicas(FIRST_DATA_GROUP, (1, 2, 3)))
    )
    from cluster.metadata.command import encode_command

    command = Batch((*joins, groups))
    waiter = leader.replicator.propose(METADATA_GROUP, encode_command(command), command)
    made.wait_for(lambda: waiter.done)
    assert waiter.error is None
    assert leader.metadata.refusal(waiter._value) == ""
    made.wait_for(lambda: len(made.node(2).metadata.cluster.nodes) == 3)
    return made


def view_of(node: Any, peers: Peers) -> LiveClusterView:
    return LiveClusterView(
        node.replicator, node.metadata, peers, lambda node_id: "alive", lambda: [("raft", True, "")]
    )


def test_groups_show_roles_and_matches(cluster: SmallCluster) -> None:
    at_leader = view_of(cluster.node(1), Peers()).groups()
    at_follower = view_of(cluster.node(2), Peers()).groups()
    assert [g.group_id for g in at_leader] == [METADATA_GROUP, FIRST_DATA_GROUP]
    assert {g.role for g in at_leader} == {"leader"}
    assert {g.role for g in at_follower} == {"follower"}
    assert [node for node, _ in at_leader[1].match_indexes] == [2, 3]
    assert at_follower[1].match_indexes == ()
    assert {g.leader_id for g in (*at_leader, *at_follower)} == {1}
    assert at_leader[1].applied_index == at_leader[1].commit_index


def test_nodes_show_why_they_are_not_reached(cluster: SmallCluster) -> None:
    peers = Peers()
    peers.known = [health("n2:9400", 2), health("n3:9400", 3, 7, "connection refused")]
    nodes = view_of(cluster.node(1), peers).nodes()
    assert [node.node_id for node in nodes] == [1, 2, 3]
    assert [node.last_error for node in nodes] == ["", "", "connection refused"]
    assert nodes[0].groups == (0, 1)


def test_peers_are_all_other_members_and_whoever_was_dialled(cluster: SmallCluster) -> None:
    peers = Peers()
    peers.known = [health("n3:9400", 3, 7, "connection refused"), health("x:1", 0, 1, "no")]
    shown = view_of(cluster.node(1), peers).peers()
    assert [(p.node_id, p.address, p.circuit) for p in shown] == [
        (0, "x:1", "closed"),
        (2, "n2:9400", "closed"),
        (3, "n3:9400", "OPEN"),
    ]


def test_refusals_are_the_newest(cluster: SmallCluster) -> None:
    peers = Peers()
    peers.refused = [
        SimpleNamespace(at=2.0, address="b", reason="second"),
        SimpleNamespace(at=1.0, address="a", reason="first"),
    ]
    view = view_of(cluster.node(1), peers)
    view.more_refusals.append(("c", "third"))
    assert view.refusals() == [("a", "first"), ("b", "second"), ("c", "third")]
    view.more_refusals += [("d", str(n)) for n in range(2 * REFUSALS_MAX)]
    assert len(view.refusals()) == REFUSALS_MAX


def test_where_vshards_and_groups_are(cluster: SmallCluster) -> None:
    node = cluster.node(2)
    node.metadata.cluster.vshards = (VshardRange(0, 1024, FIRST_DATA_GROUP),)
    view = view_of(node, Peers())
    assert view.group_of_vshard(1023) == FIRST_DATA_GROUP
    with pytest.raises(AssertionError):
        view.group_of_vshard(1024)
    assert view.replicas_of_group(FIRST_DATA_GROUP) == (1, 2, 3)
    assert view.replicas_of_group(99) == ()
    assert view.leader_of_group(FIRST_DATA_GROUP) == 1
    assert view.leader_of_group(99) == 0


def test_quorum_is_there_while_a_leader_is_heard_or_sleeps(cluster: SmallCluster) -> None:
    views = {n: view_of(cluster.node(n), Peers()) for n in (1, 2, 3)}
    assert all(view.has_quorum() for view in views.values())
    cluster.wait_for(lambda: all(core.is_quiescent for _, core in cluster.node(1).cores))
    cluster.pass_time(3)
    assert all(view.has_quorum() for view in views.values())
    cluster.isolate(3)
    cluster.wait_for(lambda: not views[3].has_quorum(), 5)
    assert views[1].has_quorum()
