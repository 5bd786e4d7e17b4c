"""Replicas and leads go where they should be, one step at a time, and the metadata says where."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.command import Batch, NodeJoin, PromoteToActive, encode_command
from cluster.raft.message import Configuration
from nodedb.kv.replicator import UNKNOWN_AFTER_SECONDS
from nodedb.member.placing import PERIOD_SECONDS, REPEAT_SECONDS, Placing
from tests.lib.small_cluster import SmallCluster

ALL = Configuration((1, 2, 3), ())


class Placed(SmallCluster):
    """Every node takes its steps; ``dead`` are those that nobody hears."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dead: set[int] = set()
        self.placings: dict[int, Placing] = {}
        for node in self.nodes.values():
            node.follows = False
            self.placings[node.node_id] = Placing(
                node.replicator, node.metadata, node.leadership, self._is_live
            )
            self._step(node)

    def _is_live(self, node_id: int) -> bool:
        return node_id not in self.dead and self.nodes[node_id].is_running

    def _step(self, node: Any) -> None:
        if node.is_running:
            self.placings[node.node_id].step()
        self.time.later(PERIOD_SECONDS, lambda: self._step(node))

    def join(self, *node_ids: int) -> None:
        joins = tuple(
            NodeJoin(n, f"store{n}", f"n{n}:9400", "", "", (), "voter", 1, b"", 1) for n in node_ids
        )
        leader = next(n for n in self.nodes.values() if n.core(METADATA_GROUP).is_leader)
        command = Batch(joins)
        waiter = leader.replicator.propose(METADATA_GROUP, encode_command(command), command)
        self.wait_for(lambda: waiter.done)
        assert waiter.error is None
        assert leader.metadata.refusal(waiter._value) == ""

    def configurations(self) -> set[Configuration]:
        return {
            core.applied_configuration for node in self.nodes.values() for _, core in node.cores
        }


def founded() -> Placed:
    """Return a cluster of one, which two more nodes may join."""
    cluster = Placed(founding=Configuration((1,), ()))
    cluster.wait_for(lambda: cluster.node(1).leadership.may_serve)
    cluster.join(1)
    return cluster


def test_nodes_that_join_get_replicas_and_votes_and_are_active() -> None:
    cluster = founded()
    cluster.join(2, 3)
    cluster.wait_for(lambda: cluster.configurations() == {ALL}, 60)
    state = cluster.node(1).metadata.cluster
    cluster.wait_for(lambda: {n.state for n in state.nodes.values()} == {"active"})
    cluster.wait_for(lambda: {g.voters for g in state.groups.values()} == {(1, 2, 3)})
    assert cluster.node(1).leadership.may_serve
    cluster.pass_time(1)
    entries = cluster.node(1).wal.last_index(METADATA_GROUP)
    cluster.pass_time(5)
    # Nothing is left to be done, or written down again and again.
    assert cluster.node(1).wal.last_index(METADATA_GROUP) <= entries + 4
    assert not any(placing._is_proposing for placing in cluster.placings.values())


def test_a_learner_that_is_not_heard_does_not_vote() -> None:
    cluster = founded()
    cluster.dead.add(3)
    cluster.join(2, 3)
    cluster.pass_time(5)
    assert all(3 not in c.voters for c in cluster.configurations())
    assert all(c.voters == (1,) for c in cluster.configurations())
    cluster.dead.clear()
    cluster.wait_for(lambda: cluster.configurations() == {ALL}, 60)


def test_the_metadata_group_follows_the_data() -> None:
    cluster = founded()
    cluster.join(2, 3)
    cluster.wait_for(lambda: cluster.configurations() == {ALL}, 60)
    cluster.pass_time(2)  # Nobody campaigns right after its start.
    cluster.node(1).replicator.transfer_leadership(FIRST_DATA_GROUP, 2)
    cluster.wait_for(lambda: cluster.node(2).core(FIRST_DATA_GROUP).is_leader)
    cluster.wait_for(lambda: cluster.node(2).leadership.may_serve)
    assert cluster.node(2).core(METADATA_GROUP).is_leader


def test_who_drains_takes_no_steps() -> None:
    cluster = founded()
    cluster.placings[1].is_handing_over = True
    cluster.join(2, 3)
    cluster.pass_time(3)
    assert cluster.node(1).core(FIRST_DATA_GROUP).configuration.voters == (1,)
    assert cluster.node(1).core(FIRST_DATA_GROUP).configuration.learners == ()
    cluster.placings[1].is_handing_over = False
    cluster.wait_for(lambda: cluster.configurations() == {ALL}, 60)


def test_the_same_is_not_proposed_again_at_once() -> None:
    """The group may have refused it: the log must not fill with refusals."""
    cluster = founded()
    placing, node = cluster.placings[1], cluster.node(1)
    refused = PromoteToActive(99)
    cluster.pass_time(1)
    last = node.wal.last_index(METADATA_GROUP)
    for _ in range(20):
        placing._propose(refused)
        cluster.pass_time(0.05)
    assert refusals(node, last) == 1
    assert not placing._is_proposing
    cluster.pass_time(REPEAT_SECONDS)
    placing._propose(refused)
    cluster.pass_time(0.05)
    assert refusals(node, last) == 2


def refusals(node: Any, after: int) -> int:
    last = node.wal.last_index(METADATA_GROUP)
    return sum(bool(node.metadata.refusal(index)) for index in range(after + 1, last + 1))


def test_a_proposal_that_is_lost_is_made_again() -> None:
    cluster = founded()
    cluster.join(2, 3)
    cluster.wait_for(lambda: cluster.configurations() == {ALL}, 60)
    cluster.pass_time(2)
    placing = cluster.placings[1]
    cluster.isolate(1)
    placing._propose(PromoteToActive(99))
    cluster.pass_time(0.1)
    assert placing._is_proposing
    cluster.pass_time(UNKNOWN_AFTER_SECONDS + 3)
    assert not placing._is_proposing


@pytest.mark.parametrize("victim", [1, 2])
def test_changes_go_on_under_another_leader(victim: int) -> None:
    cluster = founded()
    cluster.join(2, 3)
    leader = cluster.node(1)
    cluster.wait_for(lambda: leader.core(METADATA_GROUP).configuration.learners)
    cluster.isolate(victim)
    cluster.pass_time(3)
    cluster.network.heal()
    cluster.wait_for(lambda: cluster.configurations() == {ALL}, 90)
