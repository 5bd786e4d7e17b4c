"""What strikes a simulated world: crashes, freezes, cuts, full disks, and what operators ask for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cluster.errors import ClusterError
from cluster.raft.message import ConfChange

if TYPE_CHECKING:
    from tests.simulation.node import SimulatedMember
    from tests.simulation.world import World

FAULT_KINDS = (
    "crash",
    "power loss",
    "freeze",
    "slow fsync",
    "partition",
    "one-way cut",
    "isolate leader",
    "loss",
    "duplication",
    "delay",
    "swizzle clog",
    "disk full",
    "transfer",
    "campaign",
    "contested election",
    "membership",
    "suspicion",
)
KINDS_MIN, KINDS_MAX = 4, 8
STRIKES_MIN, STRIKES_MAX = 6, 14
QUOTA_BYTES = 1 << 30
LONG_WRITES, LONG_VALUE_BYTES = 12, 30_000
"""Written while a disk is full: more than its segments have room for."""


class Faults:
    """The faults of one world, drawn from its one source of chance."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.random
        self.struck: list[str] = []

    def plan(self, seconds: float) -> None:
        """Spread strikes of several kinds over a time."""
        chance = self._chance
        kinds = chance.sample(FAULT_KINDS, chance.randint(KINDS_MIN, KINDS_MAX))
        count = chance.randint(STRIKES_MIN, STRIKES_MAX)
        chosen = kinds[:3] + [chance.choice(kinds) for _ in range(count - 3)]
        for kind in chosen:
            self._world.time.later(chance.uniform(1, seconds), lambda kind=kind: self.strike(kind))

    def strike(self, kind: str) -> None:
        """Do it now, at a leader as often as not."""
        chance, world = self._chance, self._world
        node = chance.choice(list(world.nodes.values()))
        leaders = [n for n in world.nodes.values() if n.leads(1)]
        if leaders and chance.random() < 0.5:
            node = chance.choice(leaders)
        self.struck.append(kind)
        world.note(f"{kind}: node {node.node_id}")
        network, time = world.network, world.time
        if kind in ("crash", "power loss"):
            world.crash(node, power_loss=kind == "power loss")
        elif kind == "freeze":
            node.freeze(chance.uniform(0.1, 6))
        elif kind == "slow fsync":
            node.freeze(chance.uniform(0.05, 0.9))
        elif kind in ("partition", "one-way cut", "isolate leader", "swizzle clog"):
            self._cut(kind, node)
        elif kind == "loss":
            network.loss = chance.choice((0.02, 0.1, 0.3))
            time.later(chance.uniform(1, 10), lambda: setattr(network, "loss", 0.0))
        elif kind == "duplication":
            network.duplication = 0.3
        elif kind == "delay":
            network.delay_max = chance.choice((0.01, 0.1, 0.5))
            time.later(chance.uniform(1, 8), lambda: setattr(network, "delay_max", 0.002))
        elif kind == "disk full":
            node.disk.quota = 0
            seconds = chance.uniform(1, 8)
            time.later(seconds, lambda: setattr(node.disk, "quota", QUOTA_BYTES))
            for _ in range(LONG_WRITES):
                time.later(chance.uniform(0, seconds), lambda: world.write(1, LONG_VALUE_BYTES))
        elif kind == "membership":
            self._change_members(chance.choice(world.groups))
        elif kind == "contested election":
            self._contest(chance.choice(leaders or [node]))
        elif node.is_running:
            self._ask(kind, node)

    def _contest(self, voter: SimulatedMember) -> None:
        """Have two nodes campaign at once, while the one whose vote counts starts again and again.

        Slow messages let it meet both requests, in different lives.
        """
        world, chance, time = self._world, self._chance, self._world.time
        world.crash(voter, power_loss=False, down_seconds=0.3)
        time.later(0.8, lambda: setattr(world.network, "delay_max", 0.4))
        time.later(2.5, lambda: setattr(world.network, "delay_max", 0.002))
        rivals = chance.sample([n for n in world.nodes.values() if n is not voter], 2)
        for rival in rivals:
            time.later(0.9 + chance.uniform(0, 0.02), lambda rival=rival: self._campaign(rival))
        for tenth in range(11, 22):
            time.later(
                tenth / 10 + chance.uniform(0, 0.08),
                lambda: world.crash(voter, power_loss=False, down_seconds=0.01),
            )

    def _campaign(self, node: SimulatedMember) -> None:
        def campaign() -> None:
            for group_id in self._world.groups:
                node.replicator.raft.touch(group_id).campaign(node.now())
            node.replicator._take_turn()

        if node.is_running:
            node.run(campaign)()

    # Cuts

    def _cut(self, kind: str, node: SimulatedMember) -> None:
        chance, ids = self._chance, list(self._world.nodes)
        time, network = self._world.time, self._world.network
        if kind == "swizzle clog":
            for n in chance.sample(ids, chance.randint(1, len(ids))):
                time.later(chance.uniform(0, 3), lambda n=n: self._clog(n))
            return
        if kind == "isolate leader":
            pairs = {(node.node_id, n) for n in ids} | {(n, node.node_id) for n in ids}
        elif kind == "one-way cut":
            pairs = {(node.node_id, chance.choice(ids))}
        else:
            side = {n for n in ids if chance.random() < 0.5}
            pairs = {(a, b) for a in ids for b in ids if (a in side) != (b in side)}
        network.cut |= pairs
        time.later(chance.uniform(0.2, 12), lambda: network.cut.difference_update(pairs))

    def _clog(self, node_id: int) -> None:
        network = self._world.network
        until = self._world.time.now + self._chance.uniform(0.2, 5)
        for other in self._world.nodes:
            network.clogged_until[other, node_id] = until
            network.clogged_until[node_id, other] = until

    # What an operator, or a failure detector that errs, may ask of a node

    def _ask(self, kind: str, node: SimulatedMember) -> None:
        group_id = self._chance.choice(self._world.groups)
        replicator, core = node.replicator, node.core(group_id)
        if kind == "campaign":
            self._campaign(node)
        elif kind == "suspicion":
            other = self._chance.choice(list(self._world.nodes))
            replicator.on_node_suspected(other)
            replicator.on_peer_unreachable(other)
        elif not core.is_leader:
            return
        elif kind == "transfer":
            self._transfer(node, group_id)

    def _transfer(self, leader: SimulatedMember, group_id: int) -> None:
        """Have a leader hand over; sometimes it does not hear from its heir any more."""
        chance, network = self._chance, self._world.network
        voters = leader.core(group_id).configuration.voters
        heirs = [voter for voter in voters if voter != leader.node_id]
        if not heirs:
            return
        heir = chance.choice(heirs)
        with contextlib.suppress(ClusterError):
            leader.replicator.transfer_leadership(group_id, heir)
        if chance.random() < 0.5:
            unheard = {(heir, leader.node_id)}
            network.cut |= unheard
            self._world.time.later(
                chance.uniform(1, 3), lambda: network.cut.difference_update(unheard)
            )

    def _change_members(self, group_id: int) -> None:
        """Ask a group's leader for a change; or for two at once, of which one must be refused.

        Sometimes nobody hears from the leader any more when it has just been committed.
        """
        leaders = [n for n in self._world.nodes.values() if n.leads(group_id)]
        if not leaders:
            return
        chance, leader = self._chance, self._chance.choice(leaders)
        count = chance.choice((1, 2))
        for _ in range(count):
            change = chance.choice(self._changes(leader, group_id, prefers_fewer=count == 2))
            try:
                leader.replicator.propose_conf_change(group_id, change)
                self._world.note(f"  group {group_id}: {change}")
            except ClusterError as error:
                self._world.note(f"  group {group_id}: {change} refused: {error}")
        if chance.random() < 0.6:
            cut = {(leader.node_id, n) for n in self._world.nodes}
            network, time = self._world.network, self._world.time
            time.later(chance.uniform(0.001, 0.006), lambda: network.cut.update(cut))
            time.later(chance.uniform(2, 6), lambda: network.cut.difference_update(cut))

    def _changes(
        self, leader: SimulatedMember, group_id: int, *, prefers_fewer: bool
    ) -> list[ConfChange]:
        """Return what may be asked for; with ``prefers_fewer`` that another voter goes, if any."""
        configuration = leader.core(group_id).configuration
        options: list[ConfChange] = []
        fewer: list[ConfChange] = []
        for node_id in self._world.nodes:
            if node_id in configuration.learners:
                options += [ConfChange("promote", node_id), ConfChange("remove", node_id)]
            elif node_id not in configuration.voters:
                options.append(ConfChange("add_learner", node_id))
            elif len(configuration.voters) > 2:
                both = [ConfChange("demote", node_id), ConfChange("remove", node_id)]
                options += both
                fewer += both if node_id != leader.node_id else []
        return fewer if prefers_fewer and fewer else options
