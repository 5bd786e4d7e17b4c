"""Random command sequences: replicas that apply the same log have the same state and outcomes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from cluster.ids import VSHARD_COUNT
from cluster.metadata import command as c
from cluster.metadata.outcome import APPLIED, Outcome, Refused
from cluster.metadata.state import ClusterState

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 150
COMMANDS = 120


class Generator:
    """Commands that hit each other: few ids, few addresses, a clock that also goes back."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.makers: list[Callable[[], c.Command]] = [
            lambda: c.TimestampWindow(self.at()),
            lambda: c.CatalogChange(self.some_bytes(), self.small(), self.small()),
            lambda: c.NodeJoin(*self.node()),
            lambda: c.NodeJoin(*self.node()),
            lambda: c.NodeUpdate(*self.node()),
            lambda: c.PromoteToActive(self.small()),
            lambda: c.PromoteToActive(self.small()),
            lambda: c.StartDecommission(self.small()),
            lambda: c.FinishDecommission(self.small()),
            lambda: c.Recommission(self.small()),
            lambda: c.NodeLeave(self.small(), self.random.random() < 0.3),
            lambda: c.SetGroups(tuple(self.replicas() for _ in range(self.random.randint(0, 2)))),
            lambda: c.ReassignVshards(
                tuple(self.vshards() for _ in range(self.random.randint(0, 3)))
            ),
            lambda: c.RemoveMember(self.small(), self.small()),
            lambda: c.LeadershipTransfer(self.small(), self.small()),
            lambda: c.ClusterVersionBump(self.random.randint(1, 3), self.random.randint(1, 3)),
            lambda: c.Setting(
                self.small(), self.word(), None if self.random.random() < 0.3 else self.word()
            ),
            lambda: c.FoundCluster(self.random.choice(("c1", "c1", "c2"))),
            lambda: c.DescriptorLeaseGrant(
                self.small(), self.small(), self.small(), self.at(), self.at()
            ),
            lambda: c.DescriptorLeaseRelease(self.small(), (self.small(),)),
            lambda: c.DescriptorDrainStart(self.small(), self.small(), self.at(), self.at()),
            lambda: c.DescriptorDrainEnd(self.small()),
            lambda: c.CaTrustChange(self.some_bytes(), self.random.choice(("", "ab"))),
            lambda: c.JoinTokenTransition(
                self.some_bytes(),
                self.random.choice(("register", "begin", "consume", "revert", "expire", "abort")),
                self.at(),
                self.at(),
                self.small(),
                self.word(),
            ),
            lambda: c.Fence(self.small(), self.small()),
            lambda: c.ForgetDecisions((self.small(), self.small())),
        ]

    def small(self) -> int:
        return self.random.randint(0, 5)

    def at(self) -> int:
        return self.random.randint(0, 600_000) << 18

    def word(self) -> str:
        return self.random.choice(("a", "b", "é", ""))

    def some_bytes(self) -> bytes:
        return self.random.choice((b"", b"x", b"yz"))

    def node(self) -> tuple[object, ...]:
        node_id = self.small()
        return (
            node_id,
            f"s{self.random.choice((node_id, node_id, node_id, self.small()))}",
            f"h:{self.random.choice((node_id, node_id, node_id, self.small()))}",
            "",
            "",
            (self.word(),),
            "full",
            self.random.randint(1, 3),
            b"",
            self.random.randint(0, 3),
        )

    def replicas(self) -> c.GroupReplicas:
        nodes = self.random.sample(range(6), self.random.randint(0, 4))
        cut = self.random.randint(0, len(nodes))
        return c.GroupReplicas(self.random.randint(0, 4), tuple(nodes[:cut]), tuple(nodes[cut:]))

    def vshards(self) -> c.VshardRange:
        start, end = sorted(self.random.sample(range(VSHARD_COUNT + 1), 2))
        return c.VshardRange(start, end, self.random.randint(0, 4))

    def command(self, depth: int = 0) -> c.Command:
        if depth < 3 and self.random.random() < 0.15:
            return c.Batch(tuple(self.command(depth + 1) for _ in range(self.random.randint(0, 4))))
        return self.random.choice(self.makers)()


def check_invariants(state: ClusterState) -> None:
    """What no sequence of commands may break."""
    assert [r.start for r in state.vshards] == [0, *(r.end for r in state.vshards[:-1])]
    assert state.vshards[-1].end == VSHARD_COUNT
    assert not state.nodes.keys() & state.removed.keys()
    addresses = [n.rpc_address for n in state.nodes.values() if n.state != "decommissioned"]
    assert len(set(addresses)) == len(addresses), "two members with one address"
    stores = [n.store_id for n in state.nodes.values() if n.state != "decommissioned"]
    assert len(set(stores)) == len(stores), "two members with one store"
    orders = [n.join_order for n in state.nodes.values()]
    assert len(set(orders)) == len(orders)
    for group in state.groups.values():
        assert group.voters
        assert not set(group.voters) & set(group.learners)
        assert all(state.nodes[n].state != "decommissioned" for n in group.replicas)
        assert group.preferred_leader in (0, *group.voters)
    assert {r.group_id for r in state.vshards} <= {1, *state.groups}
    assert all(node_id in state.nodes for _, node_id in state.leases)
    assert all(v <= state.applied_index for v in (state.topology_version, state.routing_version))


@pytest.mark.parametrize("first_seed", range(0, RUNS, 10))
def test_replicas_agree(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 10):
        run(seed)


def run(seed: int) -> None:
    """One replica applies values, one the log's bytes; the latter restarts amid and replays."""
    generator = Generator(seed)
    straight, replaying = ClusterState(), ClusterState()
    log: list[bytes] = []
    applied = 0
    for index in range(1, COMMANDS + 1):
        command = generator.command()
        log.append(c.encode_command(command))
        before = straight.encode()
        outcome: Outcome = straight.apply(command, index)
        assert replaying.apply(c.decode_command(log[-1]), index) == outcome, f"seed {seed}"
        assert straight.applied_index == index
        if isinstance(outcome, Refused):
            straight.applied_index -= 1
            assert straight.encode() == before, f"seed {seed}: a refused {command} left a trace"
            straight.applied_index += 1
            assert outcome.reason[0].islower() or outcome.reason[0].isdigit()
        else:
            applied += 1
        check_invariants(straight)
        if generator.random.random() < 0.1:
            replaying = restart(replaying, log, generator.random)
        assert straight.digest() == replaying.digest(), f"seed {seed}, entry {index}: {command}"
    assert applied > COMMANDS // 10, f"seed {seed}: hardly anything applies"


def restart(state: ClusterState, log: list[bytes], chance: random.Random) -> ClusterState:
    """Come back from the bytes, and apply the log again from somewhere at or before their end."""
    again = ClusterState.decode(state.encode())
    for index in range(chance.randint(1, len(log)), len(log) + 1):
        assert again.apply(c.decode_command(log[index - 1]), index) == APPLIED
    return again


def test_a_replica_restored_from_the_middle_ends_like_the_others() -> None:
    for seed in range(1000, 1030):
        generator = Generator(seed)
        commands = [generator.command() for _ in range(COMMANDS)]
        cut = generator.random.randint(1, COMMANDS - 1)
        straight = ClusterState()
        for index, command in enumerate(commands, 1):
            straight.apply(command, index)
            if index == cut:
                snapshot = straight.encode()
        restored = ClusterState.decode(snapshot)
        for index, command in enumerate(commands[cut:], cut + 1):
            restored.apply(command, index)
        assert restored.digest() == straight.digest(), f"seed {seed}, cut at {cut}"
