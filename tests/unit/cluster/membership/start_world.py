"""Nodes that start, on virtual time and a network that delays and loses; one seed, one run.

The start automaton, the greeter, the announcement, admission and the metadata group's apply are the
real ones. Made up here: calls, disks that keep what was saved, and who leads the metadata group of
a cluster (its lowest live member that serves).
"""

from __future__ import annotations

import heapq
import itertools
import random
from typing import TYPE_CHECKING, Any

from cluster.membership.admission import (
    Admit,
    Known,
    LeaderView,
    decide,
    join_command,
    join_response,
    refusal_response,
)
from cluster.membership.catalog import (
    Identity,
    Routing,
    SavedMembership,
    Topology,
    founding_records,
    membership_of_response,
    record_membership,
)
from cluster.membership.config import StartSettings
from cluster.membership.core import Found, GiveUp, Join, Restart, SendGreet, SendJoin, StartCore
from cluster.membership.greeting import Announcement, Greeter, LocalNode
from cluster.membership.message import (
    Greet,
    GreetReply,
    JoinRequest,
    JoinResponse,
    MemberNode,
    decode_message,
    encode_message,
)
from cluster.metadata.command import FoundCluster, NodeJoin
from cluster.metadata.outcome import Refused
from cluster.metadata.state import ClusterState
from cluster.raft.message import Configuration
from cluster.transport.methods import GREET, JOIN

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP_IDS = (0, 1, 2)


class PowerCut(Exception):
    """The disk's node dies in the middle of saving."""


class Disk:
    """What survives a crash. Implements MembershipCatalog."""

    def __init__(self, store_id: str) -> None:
        self.store_id = store_id
        self.incarnation = 0
        self.saved = SavedMembership()
        self.saves_until_power_cut = -1

    def load(self) -> SavedMembership:
        return self.saved

    def _count(self) -> None:
        if self.saves_until_power_cut == 0:
            self.saves_until_power_cut = -1
            raise PowerCut
        self.saves_until_power_cut -= self.saves_until_power_cut > 0

    def save_identity(self, identity: Identity) -> None:
        self._count()
        assert self.saved.identity in (None, identity), "a store changed its cluster"
        self.saved = self.saved._replace(identity=identity)

    def save_topology(self, topology: Topology) -> None:
        self._count()
        assert self.saved.identity is not None
        self.saved = self.saved._replace(topology=topology)

    def save_routing(self, routing: Routing) -> None:
        self._count()
        assert self.saved.topology is not None
        self.saved = self.saved._replace(routing=routing)


class World:
    """The clock, the network, and what all clusters have committed."""

    def __init__(self, seed: int, *, loss: float = 0.0, latency_seconds: float = 0.005) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.loss = loss
        self.latency_seconds = latency_seconds
        self.nodes: dict[str, SimNode] = {}
        self.clusters: dict[str, ClusterState] = {}
        self.indexes: dict[str, int] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.calls = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ids = itertools.count(1)

    def new_id(self) -> str:
        return f"id{next(self._ids)}"

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end and not until():
            self.now, _, action = heapq.heappop(self._heap)
            action()
        if not until():
            self.now = end

    def call(
        self,
        source: SimNode,
        target: str,
        method: int,
        payload: bytes,
        timeout: float,
        on_end: Callable[[bytes | None, str], None],
    ) -> None:
        """Carry a request and its answer; ``on_end(None, error)`` if either is lost."""
        self.calls += 1
        life, ended = source.life, [False]

        def end(answer: bytes | None, error: str) -> None:
            if not ended[0] and source.life == life:
                ended[0] = True
                on_end(answer, error)

        def arrive() -> None:
            node = self.nodes.get(target)
            if node is None or not node.is_up:
                self._travel(target, source.address, lambda: end(None, "connection refused"))
                return
            answer = node.on_call(method, payload)
            self._travel(target, source.address, lambda: end(answer, ""))

        self.later(timeout, lambda: end(None, "no answer"))
        self._travel(source.address, target, arrive)

    def _travel(self, source: str, target: str, action: Callable[[], None]) -> None:
        if (source, target) not in self.cuts and self.random.random() >= self.loss:
            self.later(self.latency_seconds * self.random.uniform(0.2, 2.0), action)

    def leader_of(self, cluster_id: str) -> SimNode | None:
        members = [
            node
            for node in self.nodes.values()
            if node.is_up and node.is_serving and node.cluster_id == cluster_id
        ]
        return min(members, key=lambda node: node.node_id, default=None)

    def commit(self, cluster_id: str, command: Any) -> Any:
        index = self.indexes[cluster_id] = self.indexes.get(cluster_id, 0) + 1
        return self.clusters.setdefault(cluster_id, ClusterState()).apply(command, index)


class SimNode:
    """One node: its disk, and a process that may live."""

    def __init__(
        self,
        world: World,
        address: str,
        seeds: tuple[str, ...],
        *,
        node_id: int = 0,
        role: str = "voter",
        settings: StartSettings | None = None,
        may_found: bool = True,
    ) -> None:
        self.world = world
        self.address = address
        self.seeds = seeds
        self.wanted_node_id = node_id
        self.role = role
        self.settings = settings or StartSettings()
        self.may_found = may_found
        self.disk = Disk(world.new_id())
        self.life = 0
        self.is_up = self.is_serving = False
        self.started_at = self.ready_at = 0.0
        self.failed: tuple[str, ...] = ()
        self.foreign = ""
        self.founded: list[str] = []
        self.attempts = 0
        world.nodes[address] = self

    # Life

    def start(self) -> None:
        world = self.world
        self.life += 1
        self.is_up, self.is_serving, self.failed, self.ready_at = True, False, (), 0.0
        self.started_at = world.now
        self.disk.incarnation += 1
        self.local = LocalNode(
            self.address,
            self.disk.store_id,
            self.disk.incarnation,
            self.wanted_node_id,
            self.role,
        )
        self.greeter = Greeter(self.local, None)
        self.core = StartCore(
            settings=self.settings,
            local=self.local,
            greeter=self.greeter,
            request=JoinRequest(
                self.wanted_node_id,
                self.address,
                1,
                "",
                self.disk.store_id,
                self.disk.incarnation,
                role=self.role,
            ),
            saved=self.disk.load(),
            new_cluster_id=world.new_id(),
            is_clustered=bool(self.seeds),
            now=world.now,
        )
        if isinstance(self.core.decision, Restart):
            self.greeter.become_member(self.core.decision.identity)
        self.core.on_seeds(self.seeds, {}, may_found=self.may_found)
        self.pump()

    def crash(self) -> None:
        self.life += 1
        self.is_up = self.is_serving = False

    def lose_disk(self) -> None:
        assert not self.is_up
        self.disk = Disk(self.world.new_id())

    @property
    def cluster_id(self) -> str:
        identity = self.disk.saved.identity
        return "" if identity is None else identity.cluster_id

    @property
    def node_id(self) -> int:
        identity = self.disk.saved.identity
        return 0 if identity is None else identity.node_id

    # The driver

    def pump(self) -> None:
        """Carry out effects, set the timer, act on a decision."""
        core, world, life = self.core, self.world, self.life
        if core.due_at is not None and world.now >= core.due_at:
            self.attempts += 1
            core.on_timer(world.now)
        for effect in core.effects():
            if isinstance(effect, SendGreet):
                self._greet(effect)
            else:
                self._join(effect)
        if core.decision is not None:
            try:
                self._conclude()
            except PowerCut:
                self.crash()
        elif core.due_at is not None:
            due_at = core.due_at
            world.later(max(due_at - world.now, 0), lambda: self._wake(life, due_at))

    def _wake(self, life: int, due_at: float) -> None:
        if self.life == life and self.core.decision is None and self.core.due_at == due_at:
            self.pump()

    def _greet(self, effect: SendGreet) -> None:
        def end(answer: bytes | None, error: str) -> None:
            if self.core.decision is not None:
                return
            if answer is None:
                self.core.on_greet_failed(effect.seed, error, self.world.now)
            else:
                reply = decode_message(answer, GreetReply)
                self.core.on_greet_reply(effect.seed, reply, self.world.now)
            self.pump()

        timeout = self.settings.greet_timeout_seconds
        self.world.call(self, effect.seed, GREET, encode_message(effect.greet), timeout, end)

    def _join(self, effect: SendJoin) -> None:
        address = effect.address

        def end(answer: bytes | None, error: str) -> None:
            if self.core.decision is not None:
                return
            if answer is None:
                self.core.on_join_failed(address, error, self.world.now)
            else:
                response = decode_message(answer, JoinResponse)
                self.core.on_join_response(address, response, self.world.now)
            self.pump()

        payload = encode_message(effect.request)
        self.world.call(self, address, JOIN, payload, effect.timeout_seconds, end)

    def _conclude(self) -> None:
        match self.core.decision:
            case Restart(identity):
                self._serve_soon(identity)
            case Found(identity):
                if self.disk.saves_until_power_cut != 0:
                    self.founded.append(identity.cluster_id)
                node = MemberNode(0, self.address, 1, (), 1, store_id=self.disk.store_id)
                record_membership(self.disk, identity, *founding_records(identity, node, GROUP_IDS))
                self._serve_soon(identity)
            case Join(response):
                identity, topology, routing = membership_of_response(response)
                record_membership(self.disk, identity, topology, routing)
                self.greeter.become_member(identity)
                self._serve_soon(identity)
            case GiveUp(sentences):
                self.failed = sentences
                self.crash()

    def _serve_soon(self, identity: Identity) -> None:
        """Become ready after what it takes to open the groups."""
        life = self.life

        def serve() -> None:
            if self.life != life:
                return
            if identity.cluster_id not in self.world.clusters:
                assert identity.is_founder
                self.world.commit(identity.cluster_id, FoundCluster(identity.cluster_id))
                self.world.commit(
                    identity.cluster_id,
                    NodeJoin(identity.node_id, self.disk.store_id, self.address, incarnation=1),
                )
            self.is_serving = True
            self.ready_at = self.world.now
            self.greeter.become_member(identity)
            self._announce(
                Announcement(
                    self.settings,
                    identity.cluster_id,
                    self.seeds,
                    self.greeter.own_names,
                    self.world.now,
                )
            )

        self.world.later(self.world.random.uniform(0.05, 0.5), serve)

    def _announce(self, announcement: Announcement) -> None:
        world, life = self.world, self.life

        def greet(seed: str) -> None:
            def end(answer: bytes | None, error: str) -> None:
                if answer is None:
                    announcement.on_failed(seed, error, world.now)
                else:
                    reply = decode_message(answer, GreetReply)
                    self.greeter.note_stranger(reply)
                    announcement.on_reply(seed, reply, world.now)
                step()

            payload = encode_message(self.greeter.greet())
            world.call(self, seed, GREET, payload, self.settings.greet_timeout_seconds, end)

        def step() -> None:
            if self.life != life:
                return
            for seed in announcement.take_due(world.now):
                greet(seed)
            if announcement.is_over:
                self.foreign = announcement.foreign_sentence
            due_at = announcement.next_due_at()
            if due_at is not None:
                world.later(max(due_at - world.now, 0), step)

        step()

    # Calls of others

    def on_call(self, method: int, payload: bytes) -> bytes:
        if method == GREET:
            greet = decode_message(payload, Greet)
            reply = self.greeter.on_greet(greet)
            self.core.on_greeting(greet, self.world.now)
            if self.core.decision is None:
                self.pump()
            return encode_message(reply)
        request = decode_message(payload, JoinRequest)
        if not self.is_serving:
            return encode_message(JoinResponse(success=False, error="starting"))
        return encode_message(self._admit(request))

    def _admit(self, request: JoinRequest) -> JoinResponse:
        world, cluster_id = self.world, self.cluster_id
        data = world.clusters[cluster_id]
        leader = world.leader_of(cluster_id)
        view = LeaderView(
            self.node_id,
            0 if leader is None else leader.node_id,
            "" if leader is None else leader.address,
            now_ms=int(world.now * 1000),
        )
        verdict = decide(request, data, view)
        if isinstance(verdict, Admit):
            outcome = world.commit(cluster_id, join_command(verdict, request, view.now_ms))
            assert not isinstance(outcome, Refused), outcome
        if isinstance(verdict, (Admit, Known)):
            configurations = {
                group_id: Configuration((1,), tuple(sorted(set(data.nodes) - {1})))
                for group_id in GROUP_IDS
            }
            return join_response(verdict.node_id, data, configurations, {0: self.node_id})
        return refusal_response(verdict)
