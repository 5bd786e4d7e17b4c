"""A random walk through what can happen to a Raft group; one seed is one walk.

Everything ``RaftCluster`` can do: delivery in any order, loss, repetition, restarts that lose what
was not flushed, cuts, transfers, membership changes, compaction, disks that do not answer. All is
checked after each turn. ``heal_and_check`` ends a walk: the network is mended, and within a bound
there is a leader, all logs agree, and nothing that was acknowledged is missing.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

from raft_canaries import CANARIES, OFTEN
from raft_cluster import RaftCluster, payloads

from cluster.errors import ClusterError
from cluster.raft.config import RaftConfig
from cluster.raft.message import Configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from raft_cluster import Node

    from cluster.raft.message import EntryId

CONFIG = RaftConfig(
    inflight_entries_max=4,
    append_bytes_max=12,
    inflight_bytes_max=24,
    quiesce_after_seconds=0.6,
)
HEALED_MS_MAX = 30_000


class Walk:
    """``nodes`` of them, the first ``voters`` are voters, the next ``learners`` learners."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 5,
        voters: int = 3,
        learners: int = 1,
        canary: str = "",
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        core_class, store_class = CANARIES[canary] if canary else (None, None)
        classes = {"core_class": core_class, "store_class": store_class} if canary else {}
        members = range(1, voters + learners + 1)
        self.cluster = RaftCluster(
            members,
            voters=range(1, voters + 1),
            learners=range(voters + 1, voters + learners + 1),
            config=CONFIG,
            seed=seed,
            **classes,  # type: ignore[arg-type]
        )
        for node_id in range(voters + learners + 1, nodes + 1):
            self.cluster.add_node(node_id, Configuration(()))
        self.cluster.end_silence()
        self.proposed: list[tuple[EntryId, bytes]] = []
        self.acknowledged: list[tuple[EntryId, bytes]] = []
        self.steps: list[str] = []
        self.count = 0
        self.weights: dict[Callable[[], None], int] = {
            self.deliver_some: 40,
            self.deliver_any: 12,
            self.pass_time: 14,
            self.propose: 12,
            self.duplicate: 3,
            self.drop: 5,
            self.restart: 2,
            self.stall: 3,
            self.resume: 4,
            self.cut: 2,
            self.heal: 3,
            self.change: 3,
            self.transfer: 1,
            self.compact: 2,
            self.campaign: 3,
            self.read: 1,
        }
        if canary in OFTEN:
            self.weights[getattr(self, OFTEN[canary])] = 12

    def run(self, steps: int) -> None:
        """Take random steps."""
        actions = list(self.weights)
        weights = list(self.weights.values())
        for _ in range(steps):
            (action,) = self.random.choices(actions, weights)
            action()
            self.note_acknowledged()

    # Steps

    def any_node(self) -> int:
        return self.random.choice(list(self.cluster.nodes))

    def deliver_some(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            if self.cluster.network:
                self.cluster.deliver(0)

    def deliver_any(self) -> None:
        if self.cluster.network:
            self.cluster.deliver(self.random.randrange(len(self.cluster.network)))

    def pass_time(self) -> None:
        self.cluster.tick(self.random.choice((25, 25, 150, 400)))

    def propose(self) -> None:
        for node in self.cluster.nodes.values():
            if node.core.is_leader and not node.is_down and self.random.random() < 0.7:
                self.count += 1
                payload = b"p%d" % self.count
                with contextlib.suppress(ClusterError):
                    self.proposed.append((self.cluster.propose(node.node_id, payload), payload))

    def duplicate(self) -> None:
        if self.cluster.network:
            self.cluster.network.append(self.random.choice(self.cluster.network))

    def drop(self) -> None:
        network = self.cluster.network
        lost = self.random.sample(network, min(len(network), self.random.randint(1, 4)))
        self.cluster.lose_where(lambda message: any(message is found for found in lost))

    def restart(self) -> None:
        self.cluster.restart(self.any_node(), lose_unsynced=self.random.random() < 0.8)

    def stall(self) -> None:
        self.cluster.nodes[self.any_node()].is_stalled = True

    def resume(self) -> None:
        for node in self.cluster.nodes.values():
            if node.is_stalled and self.random.random() < 0.5:
                node.is_stalled = False
                self.cluster.turn(node.node_id)

    def cut(self) -> None:
        ids = list(self.cluster.nodes)
        match self.random.randrange(3):
            case 0:
                self.cluster.isolate(self.random.choice(ids))
            case 1:
                side = [node_id for node_id in ids if self.random.random() < 0.5]
                self.cluster.partition(side, [other for other in ids if other not in side])
            case _:
                one, other = self.random.sample(ids, 2)
                self.cluster.cut.add((one, other))

    def heal(self) -> None:
        self.cluster.heal()

    def change(self) -> None:
        kind = self.random.choice(["add_learner", "promote", "add_voter", "demote", "remove"])
        target = self.any_node()
        for _ in range(self.random.choice((1, 1, 2))):
            for node in list(self.cluster.nodes.values()):
                if node.core.is_leader and not node.is_down:
                    with contextlib.suppress(ClusterError):
                        self.cluster.change(node.node_id, kind, target)
            target = self.any_node()

    def transfer(self) -> None:
        leader = self.cluster.leader
        if leader is not None:
            self.cluster.transfer(leader.node_id, self.any_node())

    def compact(self) -> None:
        node = self.cluster.nodes[self.any_node()]
        if not node.is_down and not node.is_stalled:
            self.cluster.compact(node.node_id)

    def campaign(self) -> None:
        node = self.cluster.nodes[self.any_node()]
        if not node.is_down:
            self.cluster.campaign(node.node_id)

    def read(self) -> None:
        leader = self.cluster.leader
        if leader is not None:
            leader.read_index(self.count, self.cluster.now)
            self.cluster.turn(leader.node_id)

    # Checks

    def note_acknowledged(self) -> None:
        """Take down what a client would have been told: applied, in the term that proposed it."""
        history = self.cluster.history
        still = []
        for entry_id, payload in self.proposed:
            applied = history.applied.get(entry_id.index)
            if applied is None:
                still.append((entry_id, payload))
            elif applied == (entry_id.term, payload):
                self.acknowledged.append((entry_id, payload))
        self.proposed = still

    def heal_and_check(self) -> None:
        """Mend all, and see that the group goes on with everything it has acknowledged."""
        cluster = self.cluster
        cluster.heal()
        for node in cluster.nodes.values():
            if node.is_stalled:
                node.is_stalled = False
                cluster.turn(node.node_id)
        marker = b"marker"
        waited = 0
        # What is proposed to a leader that is deposed at once is lost: propose again.
        while marker not in payloads(self.best().applied):
            waited += 500
            assert waited < HEALED_MS_MAX, f"no progress after healing (seed {self.seed})"
            leader = cluster.leader
            if leader is not None and not leader.transferring_to:
                cluster.propose(leader.node_id, marker)
            cluster.run(500)
        cluster.run(2000)
        best = self.best()
        applied = {(index, term): payload for index, term, payload in best.applied}
        for entry_id, payload in self.acknowledged:
            found = applied.get((entry_id.index, entry_id.term))
            assert found == payload, f"{payload!r} was acknowledged and is lost (seed {self.seed})"
        configuration = best.core.configuration
        for node_id in (*configuration.voters, *configuration.learners):
            node = cluster.nodes[node_id]
            assert node.applied == best.applied, f"node {node_id} differs (seed {self.seed})"

    def best(self) -> Node:
        """Return the node of the leader, or of who has applied most."""
        leader = self.cluster.leader
        if leader is not None:
            return self.cluster.nodes[leader.node_id]
        return max(self.cluster.nodes.values(), key=lambda node: node.core.applied_index)
