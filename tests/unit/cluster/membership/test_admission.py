"""Who is taken in: every verdict, its sentence, and the entry that carries it out."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from cluster.ids import VSHARD_COUNT
from cluster.membership.admission import (
    Admit,
    Known,
    LeaderView,
    Redirect,
    Refuse,
    decide,
    join_command,
    join_response,
    refusal_response,
)
from cluster.membership.message import JoinRequest, JoinResponse, decode_message, encode_message
from cluster.membership.tokens import create_token, registration
from cluster.metadata.command import (
    Batch,
    FinishDecommission,
    FoundCluster,
    NodeJoin,
    NodeLeave,
    PromoteToActive,
    StartDecommission,
)
from cluster.metadata.outcome import Refused
from cluster.metadata.state import ClusterState
from cluster.raft.message import Configuration

A, B, C = (f"10.0.0.{number}:9400" for number in (1, 2, 3))
SECRET = b"a secret of the cluster"
NOW_MS = 1_700_000_000_000
LEADER = LeaderView(1, 1, A, NOW_MS)


class Cluster(ClusterState):
    """Cluster c1 with node 1 at A."""

    def __init__(self) -> None:
        super().__init__()
        self.commit(FoundCluster("c1"))
        self.commit(NodeJoin(1, "s1", A))

    def commit(self, *commands: Any) -> str:
        for command in commands:
            outcome = self.apply(command, self.applied_index + 1)
            if isinstance(outcome, Refused):
                return outcome.reason
        return ""


def request(**changes: Any) -> JoinRequest:
    return replace(JoinRequest(0, B, 1, "", "s2", 1), **changes)


def with_node_2() -> Cluster:
    cluster = Cluster()
    cluster.commit(NodeJoin(2, "s2", B), PromoteToActive(1), PromoteToActive(2))
    return cluster


def refused(verdict: Any, sentence: str) -> None:
    assert verdict == Refuse(sentence)


# Who decides


def test_the_leader_admits_and_others_redirect() -> None:
    cluster = Cluster()
    assert decide(request(), cluster, LEADER) == Admit(2)
    other = LeaderView(2, 1, A, NOW_MS)
    assert decide(request(), cluster, other) == Redirect(A)
    answer = refusal_response(Redirect(A))
    assert (answer.success, answer.error) == (False, f"not leader; retry at {A}")


@pytest.mark.parametrize("view", [LeaderView(1, 0, "", NOW_MS), LeaderView(1, 2, "", NOW_MS)])
def test_without_a_leader_the_node_asks_again(view: LeaderView) -> None:
    verdict = decide(request(), Cluster(), view)
    assert verdict == Refuse("no leader of the metadata group is known; retry", is_final=False)
    assert not refusal_response(verdict).is_final


# Bad requests


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"cluster_id": "c2"},
            "the store belongs to cluster c2, not to c1: start the node with an empty store to "
            "join this cluster",
        ),
        ({"address": ""}, "invalid listen_addr '': \"\": expected HOST:PORT"),
        (
            {"address": "0.0.0.0:9400"},
            "invalid listen_addr '0.0.0.0:9400': \"0.0.0.0:9400\": nobody can connect to that host",
        ),
        (
            {"sql_address": "[::]:1"},
            "invalid sql address '[::]:1': \"[::]:1\": nobody can connect to that host",
        ),
        (
            {"http_address": "x"},
            "invalid http address 'x': \"x\": expected HOST:PORT",
        ),
        ({"wire_version": 0}, "the node speaks wire versions 1 to 0, this cluster 1 to 1"),
        (
            {"wire_version": 3, "wire_version_min": 2},
            "the node speaks wire versions 2 to 3, this cluster 1 to 1",
        ),
        ({"role": "king"}, "unknown role 'king': expected voter or replica"),
        ({"store_id": ""}, "the request names no store"),
        ({"node_id": -1}, "invalid node_id -1: it must be above 0"),
    ],
)
def test_bad_requests(changes: dict[str, Any], sentence: str) -> None:
    refused(decide(request(**changes), Cluster(), LEADER), sentence)


def test_a_newer_node_that_also_speaks_ours_is_welcome() -> None:
    assert decide(request(wire_version=9, wire_version_min=1), Cluster(), LEADER) == Admit(2)


# Ids, addresses, stores


def test_a_given_id_is_taken_and_the_next_is_above_all() -> None:
    cluster = Cluster()
    assert decide(request(node_id=7), cluster, LEADER) == Admit(7)
    cluster.commit(NodeJoin(7, "s7", "10.0.0.7:9400"))
    assert decide(request(), cluster, LEADER) == Admit(8)
    cluster.commit(NodeLeave(7))
    assert decide(request(), cluster, LEADER) == Admit(8), "an id is never given twice"


@pytest.mark.parametrize("node_id", [0, 2])
def test_a_repeated_join_is_known(node_id: int) -> None:
    again = request(node_id=node_id, incarnation=5, cluster_id="c1")
    assert decide(again, with_node_2(), LEADER) == Known(2)


@pytest.mark.parametrize(("node_id", "store_id"), [(2, "other"), (2, "s2"), (0, "s2")])
def test_the_same_id_with_another_address(node_id: int, store_id: str) -> None:
    verdict = decide(request(node_id=node_id, store_id=store_id, address=C), with_node_2(), LEADER)
    refused(verdict, f"node_id 2 already registered with different address {B} (request: {C})")


@pytest.mark.parametrize("node_id", [0, 2])
def test_a_lost_disk(node_id: int) -> None:
    verdict = decide(request(node_id=node_id, store_id="new"), with_node_2(), LEADER)
    refused(
        verdict,
        "node 2 is a member with another store: if that store is lost, run `nodedb node forget 2` "
        "and start this node with a new id",
    )


def test_after_it_was_forgotten_it_comes_back_as_a_new_node() -> None:
    cluster = with_node_2()
    assert cluster.commit(NodeLeave(2, lost=True)) == ""
    assert decide(request(store_id="new"), cluster, LEADER) == Admit(3)
    refused(
        decide(request(node_id=2, store_id="new"), cluster, LEADER),
        "node_id 2 was removed from the cluster; start the node with an empty store and a new id",
    )
    refused(
        decide(request(), cluster, LEADER),
        "store s2 is that of a node that was removed from the cluster; start the node with an "
        "empty store",
    )


def test_the_address_or_the_store_of_another() -> None:
    cluster = with_node_2()
    refused(
        decide(request(node_id=3, store_id="s3"), cluster, LEADER),
        f"address {B} already registered with different node_id 2 (request: 3)",
    )
    refused(
        decide(request(node_id=3, address=C), cluster, LEADER),
        "store s2 is that of node 2 (request: node 3): a store is used by one node only, was it "
        "copied?",
    )


def test_the_form_of_an_address_does_not_matter() -> None:
    assert decide(request(address="10.0.0.2:09400"), with_node_2(), LEADER) == Known(2)


def test_a_decommissioned_node() -> None:
    cluster = with_node_2()
    assert cluster.commit(StartDecommission(2), FinishDecommission(2)) == ""
    refused(
        decide(request(), cluster, LEADER),
        "node 2 was decommissioned: start it with an empty store and a new id to add it again",
    )
    assert decide(request(store_id="new"), cluster, LEADER) == Admit(3), "its address is free"


# Tokens


def secured(*, require: bool = True) -> LeaderView:
    return LeaderView(1, 1, A, NOW_MS, SECRET, require)


def token(for_node: int = 0, seconds: int = 60) -> str:
    return create_token(SECRET, for_node=for_node, expires_at_seconds=NOW_MS // 1000 + seconds)


def test_without_a_secret_no_token_is_asked_for() -> None:
    view = LeaderView(1, 1, A, NOW_MS, b"", require_join_token=True)
    assert decide(request(), Cluster(), view) == Admit(2)


def test_a_secret_alone_is_enough_unless_tokens_are_required() -> None:
    assert decide(request(), Cluster(), secured(require=False)) == Admit(2)
    refused(
        decide(request(), Cluster(), secured()),
        "this cluster requires a join token: create one with `nodedb token create` and give "
        "--join-token-file",
    )


def test_a_token_that_is_given_must_be_good_even_if_none_is_required() -> None:
    verdict = decide(request(token=token()), Cluster(), secured(require=False))
    refused(verdict, "token: it is not one of this cluster's, or was removed")


def test_a_token_lets_one_node_in_once() -> None:
    cluster = Cluster()
    text = token()
    cluster.commit(registration(text, SECRET, now_ms=NOW_MS))
    wanted = request(token=text)
    verdict = decide(wanted, cluster, secured())
    assert isinstance(verdict, Admit)
    command = join_command(verdict, wanted, NOW_MS)
    assert isinstance(command, Batch), "one entry: joined and used up, or neither"
    assert cluster.commit(command) == ""
    assert cluster.nodes[2].rpc_address == B
    assert decide(wanted, cluster, secured()) == Known(2), "the answer was lost: no token needed"
    replayed = request(token=text, address=C, store_id="s3")
    refused(decide(replayed, cluster, secured()), "token: it has been used already")
    # Both were decided on before either was applied.
    late = join_command(verdict._replace(node_id=3), replayed, NOW_MS)
    assert cluster.commit(late) == "the join token has been used already"
    assert 3 not in cluster.nodes


def test_a_token_for_a_node_gives_its_id() -> None:
    cluster = Cluster()
    text = token(for_node=5)
    cluster.commit(registration(text, SECRET, now_ms=NOW_MS))
    verdict = decide(request(token=text), cluster, secured())
    assert isinstance(verdict, Admit)
    assert verdict.node_id == 5
    refused(
        decide(request(token=text, node_id=6), cluster, secured()),
        "node id mismatch: the token is for node 5, not for node 6",
    )
    cluster.commit(NodeJoin(5, "s5", C))
    refused(
        decide(request(token=text), cluster, secured()),
        "token: node_id 5, for which it was made, is taken",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("zz", "token: 2 characters, not 96"),
        ("00" * 48, "token: it was not made with this cluster's secret"),
        (token(seconds=-1), "token: it has expired"),
    ],
)
def test_bad_tokens(text: str, sentence: str) -> None:
    refused(decide(request(token=text), Cluster(), secured()), sentence)


# Carrying it out


def test_two_decided_at_once_do_not_share_an_id() -> None:
    cluster = Cluster()
    first, second = request(), request(address=C, store_id="s3")
    verdicts = [decide(wanted, cluster, LEADER) for wanted in (first, second)]
    assert verdicts == [Admit(2), Admit(2)]
    assert cluster.commit(join_command(Admit(2), first, NOW_MS)) == ""
    assert cluster.commit(join_command(Admit(2), second, NOW_MS)) != ""
    assert decide(second, cluster, LEADER) == Admit(3)


def test_the_response_is_the_whole_state() -> None:
    cluster = with_node_2()
    configurations = {group: Configuration((1,), (2,)) for group in (0, 1, 2)}
    response = join_response(2, cluster, configurations, {0: 1, 1: 1})
    assert decode_message(encode_message(response), JoinResponse) == response
    assert response.success
    assert response.cluster_id == "c1"
    assert [group.group_id for group in response.groups] == [0, 1, 2], "num_groups=2 and metadata"
    assert [group.leader for group in response.groups] == [1, 1, 0]
    assert len(response.vshard_to_group) == VSHARD_COUNT
    assert [(node.node_id, node.state, node.raft_groups) for node in response.nodes] == [
        (1, 1, (0, 1, 2)),
        (2, 1, (0, 1, 2)),
    ]
    assert response.topology_version == cluster.topology_version == 5


def test_the_command_carries_what_the_node_said() -> None:
    wanted = request(
        address="10.0.0.2:09400",
        sql_address="b:1",
        http_address="b:2",
        locality=("zone=a",),
        role="replica",
        spki_pin=b"pin",
        incarnation=4,
    )
    assert join_command(Admit(2), wanted, NOW_MS) == NodeJoin(
        2, "s2", B, "b:1", "b:2", ("zone=a",), "replica", 1, b"pin", 4
    )
