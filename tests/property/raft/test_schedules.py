"""Raft under random schedules: loss, repetition, any order, kills that lose what was not flushed.

Figure 3 of the paper is checked after every turn, and at the end everything is mended: within a
bound the group goes on, its replicas are equal, and nothing that was acknowledged is missing. The
canaries see that these checks see.
"""

import contextlib
import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from raft_canaries import CANARIES
from raft_walk import Walk

from cluster.errors import ClusterError

CANARY_WALKS_MAX = 200
CANARY_STEPS = 600
WALKS = int(os.environ.get("RAFT_WALKS", "120"))


class RaftMachine(RuleBasedStateMachine):
    """Hypothesis chooses what happens, and shrinks what fails to the shortest history."""

    def __init__(self) -> None:
        super().__init__()
        self.walk = Walk(1)
        self.cluster = self.walk.cluster

    def teardown(self) -> None:
        self.walk.note_acknowledged()
        self.walk.heal_and_check()

    nodes = st.integers(1, 5)

    @precondition(lambda self: self.cluster.network)
    @rule(count=st.integers(1, 12))
    def deliver_in_order(self, count: int) -> None:
        for _ in range(min(count, len(self.cluster.network))):
            self.cluster.deliver(0)
        self.walk.note_acknowledged()

    @precondition(lambda self: self.cluster.network)
    @rule(data=st.data())
    def deliver_out_of_order(self, data: st.DataObject) -> None:
        self.cluster.deliver(data.draw(st.integers(0, len(self.cluster.network) - 1)))

    @precondition(lambda self: self.cluster.network)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        network = self.cluster.network
        network.append(network[data.draw(st.integers(0, len(network) - 1))])

    @precondition(lambda self: self.cluster.network)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        network = self.cluster.network
        chosen = network[data.draw(st.integers(0, len(network) - 1))]
        self.cluster.lose_where(lambda message: message is chosen)

    @rule(ms=st.sampled_from([25, 150, 400, 1500]))
    def pass_time(self, ms: int) -> None:
        self.cluster.tick(ms)

    @rule(ms=st.sampled_from([100, 1000]))
    def pass_time_and_deliver(self, ms: int) -> None:
        self.cluster.run(ms)
        self.walk.note_acknowledged()

    @rule()
    def propose(self) -> None:
        self.walk.propose()

    @rule(node=nodes)
    def campaign(self, node: int) -> None:
        self.cluster.campaign(node)

    @rule(node=nodes, lose_unsynced=st.booleans())
    def restart(self, node: int, *, lose_unsynced: bool) -> None:
        self.cluster.restart(node, lose_unsynced=lose_unsynced)

    @rule(node=nodes)
    def stall_disk(self, node: int) -> None:
        self.cluster.nodes[node].is_stalled = True

    @rule(node=nodes)
    def resume_disk(self, node: int) -> None:
        self.cluster.nodes[node].is_stalled = False
        self.cluster.turn(node)

    @rule(side=st.sets(nodes, min_size=1, max_size=4))
    def partition(self, side: set[int]) -> None:
        self.cluster.partition(side, set(range(1, 6)) - side)

    @rule(sender=nodes, recipient=nodes)
    def cut_one_way(self, sender: int, recipient: int) -> None:
        self.cluster.cut.add((sender, recipient))

    @rule()
    def heal(self) -> None:
        self.cluster.heal()

    @precondition(lambda self: self.cluster.leader is not None)
    @rule(
        kind=st.sampled_from(["add_learner", "promote", "add_voter", "demote", "remove"]),
        subject=nodes,
    )
    def change(self, kind: str, subject: int) -> None:
        leader = self.cluster.leader
        assert leader is not None
        with contextlib.suppress(ClusterError):
            self.cluster.change(leader.node_id, kind, subject)

    @precondition(lambda self: self.cluster.leader is not None)
    @rule(successor=nodes)
    def transfer(self, successor: int) -> None:
        leader = self.cluster.leader
        assert leader is not None
        self.cluster.transfer(leader.node_id, successor)

    @rule(node=nodes)
    def compact(self, node: int) -> None:
        if not self.cluster.nodes[node].is_stalled:
            self.cluster.compact(node)


RaftMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_any_schedule_is_safe = RaftMachine.TestCase


@pytest.mark.parametrize("first", range(0, WALKS, 30))
def test_random_walks(first: int) -> None:
    """Longer histories than hypothesis takes; RAFT_WALKS=5000 for many."""
    for seed in range(first, first + 30):
        walk = Walk(seed)
        try:
            walk.run(300)
            walk.heal_and_check()
        except BaseException:
            print(f"Walk({seed}).run(300)")
            raise


@pytest.mark.slow
def test_many_random_walks() -> None:
    for seed in range(10_000, 12_000):
        walk = Walk(seed, voters=3 + 2 * (seed % 2), learners=seed % 2 == 0)
        try:
            walk.run(400)
            walk.heal_and_check()
        except BaseException:
            print(f"Walk({seed}).run(400)")
            raise


@pytest.mark.parametrize("canary", CANARIES)
def test_a_planted_mistake_is_noticed(canary: str) -> None:
    for seed in range(CANARY_WALKS_MAX):
        walk = Walk(seed, canary=canary)
        try:
            walk.run(CANARY_STEPS)
            walk.heal_and_check()
        except AssertionError:
            return
    raise AssertionError(f"{canary}: not noticed in {CANARY_WALKS_MAX} walks")
