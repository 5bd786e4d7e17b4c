"""A cluster in one process whose tests say what happens: three nodes, virtual time, no chance.

Each member is all that the product has below sessions and transport: log, engine, replicator,
metadata, data group, transactions, leadership. The network, the disks and the checkers are those of
the simulation (``tests/simulation``); nothing fails unless the test makes it fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.ids import FIRST_DATA_GROUP, METADATA_GROUP
from cluster.metadata.oracle import TimestampOracle, pack_timestamp
from cluster.raft.config import RaftConfig
from cluster.raft.message import Configuration
from nodedb.catalog.metadata import MetadataState
from nodedb.kv.fault_log import FaultDirectory, FaultFlusher
from nodedb.kv.group import DataGroup
from nodedb.kv.keys import index_prefix
from nodedb.kv.replicator import Replicator
from nodedb.member.leadership import DataLeadership
from nodedb.storage.wal import Wal
from nodedb.txn.manager import TransactionManager
from nodedb.waiter import Runner
from tests.simulation.node import SEGMENT_BYTES, SimulatedMember
from tests.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nodedb.kv.fault_points import Place

START_US = 1_700_000_000_000_000


class Killed(BaseException):
    """The node dies here."""


class Clock:
    """A member's clocks: the wall's may be set, the other is the node's own."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.step_us = 0

    def wall_us(self) -> int:
        return START_US + int(self._member.world.time.now * 1_000_000) + self.step_us

    def monotonic(self) -> float:
        return self._member.now()


class Member(SimulatedMember):
    """A node of the cluster. ``on_place`` is called at each fault place it passes."""

    def __init__(self, world: Any, node_id: int) -> None:
        super().__init__(world, node_id)
        self.clock_rate = 1.0
        self.clock = Clock(self)
        self.on_place: Callable[[Place], None] | None = None
        self.follows = True
        """Whether this node hands the metadata group to whoever leads the data."""

    def pass_place(self, place: Place) -> None:
        if self.on_place is not None:
            self.on_place(place)

    def make_machine(self, group_id: int) -> Any:
        return DataGroup(group_id, self.engine) if group_id else MetadataState(self.engine)

    def start(self) -> None:
        self.leadership: DataLeadership | None = None
        super().start()
        self.metadata: MetadataState = self.machines[METADATA_GROUP]
        self.group: DataGroup = self.machines[FIRST_DATA_GROUP]
        self.manager = TransactionManager(
            group=self.group,
            replicator=self.replicator,
            oracle=TimestampOracle(pack_timestamp(1)),
            clock=self.clock,
            schedule=self,
        )
        self.manager.is_replicated = self.manager.timestamps.is_replicated = True
        self.manager.tenure = 0
        self.manager.outcome_of = self.metadata.refusal
        self.leadership = DataLeadership(
            self.replicator, self.manager, self.metadata, lambda node_id: f"node-{node_id}"
        )
        self._follow()

    def _follow(self) -> None:
        """Have the metadata group follow the data group, as ``nodedb.member.placing`` does."""
        assert self.leadership is not None
        target = self.leadership.followed_leader()
        if target and self.follows:
            self.replicator.transfer_leadership(METADATA_GROUP, target)
        self.later(0.1, self._follow)

    def on_turn(self) -> None:
        super().on_turn()
        if self.leadership is not None:
            self.leadership.on_turn()

    def run(self, callback: Callable[[], None]) -> Callable[[], None]:
        guarded = super().run(callback)

        def mortal() -> None:
            try:
                guarded()
            except Killed:
                self.world.stop(self)

        return mortal


class Task:
    """A coroutine over waiters that runs at a node."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.done = False
        self.error: BaseException | None = None
        self.value: Any = None

        async def run() -> None:
            self.value = await coroutine

        def finished(error: BaseException | None) -> None:
            self.done = True
            self.error = error

        self.runner = Runner(run(), finished)
        self.runner.step()

    @property
    def outcome(self) -> str:
        """Its value, its error's SQLSTATE, or that it still waits."""
        if not self.done:
            return "waits"
        return getattr(self.error, "sqlstate", repr(self.error)) if self.error else "ok"


class SmallCluster(World):
    """Nodes 1 to ``size`` vote; node ``size + 1`` is there and no member."""

    member_type = Member

    def __init__(
        self,
        size: int = 3,
        *,
        config: RaftConfig | None = None,
        kept_entries: int = 10_000,
        segment_bytes: int = SEGMENT_BYTES,
        has_spare: bool = False,
        founding: Configuration | None = None,
    ) -> None:
        self._segment_bytes = segment_bytes
        self._kept_entries = kept_entries
        super().__init__(1, size)
        self.founding = founding or Configuration(self.founders, ())
        self.config = config or RaftConfig()
        if not has_spare:
            del self.nodes[size + 1]
        for node in self.nodes.values():
            node.start()

    def make_wal(self, node: SimulatedMember) -> Wal:
        assert isinstance(node, Member)
        directory = FaultDirectory(node.disk, node.pass_place)
        wal = Wal(
            directory,
            segment_bytes=self._segment_bytes,
            compact_limit=node.engine.recyclable_applied,
            flusher=FaultFlusher(node.pass_place),
        )
        directory.is_recovering = False
        return wal

    def make_replicator(self, node: SimulatedMember) -> Replicator:
        assert isinstance(node, Member)
        replicator = Replicator(
            node.wal,
            node.engine,
            node,
            node.on_fatal,
            node.pass_place,
            node_id=node.node_id,
            config=self.config,
            now=node.now,
            seed=node.node_id,
            outside=node,
        )
        replicator.log_room.kept_entries = self._kept_entries
        return replicator

    # Driving

    def pass_time(self, seconds: float) -> None:
        """Let time pass, under the eyes of the simulation's checkers."""
        self.time.run_until(self.time.now + seconds, self._check)

    def wait_for(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Let time pass until something is so."""
        deadline = self.time.now + seconds
        while not condition():
            assert self.time.now < deadline, f"not so after {seconds} s"
            self.pass_time(0.01)

    def elect(self, node_id: int) -> Any:
        """Have a node lead the data, whom the metadata group follows, and take over."""
        node = self.node(node_id)
        deadline = self.time.now + 30
        while not node.leadership.may_serve:
            assert self.time.now < deadline, f"node {node_id} does not serve after 30 s"
            for other in self.nodes.values():
                if (
                    other is not node
                    and other.is_running
                    and other.core(FIRST_DATA_GROUP).is_leader
                ):
                    other.replicator.transfer_leadership(FIRST_DATA_GROUP, node_id)
            self.pass_time(0.1)
        return node

    def elect_among(self, *node_ids: int) -> Any:
        """Wait until one of these serves: the others cannot."""
        found: list[Any] = []

        def serves() -> bool:
            found[:] = [self.node(n) for n in node_ids if self.node(n).leadership.may_serve]
            return bool(found)

        self.wait_for(serves, 30)
        return found[0]

    def node(self, node_id: int) -> Any:
        return self.nodes[node_id]

    def server(self) -> Any:
        """Wait until some node serves, and return it."""
        found: list[Any] = []

        def serves() -> bool:
            found[:] = [n for n in self.nodes.values() if n.is_running and n.leadership.may_serve]
            return bool(found)

        self.wait_for(serves)
        return found[0]

    def stop(self, node: SimulatedMember, *, power_loss: bool = True) -> None:
        """Kill a node, with its power."""
        node.crash(power_loss=power_loss)
        for group_id in self.groups:
            self._last_terms.pop((node.node_id, group_id), None)
            self.histories[group_id].on_restart(node.node_id)

    def isolate(self, node_id: int) -> None:
        """Cut a node off, both ways."""
        for other in self.nodes:
            self.network.cut |= {(node_id, other), (other, node_id)}

    def crash(self, node: SimulatedMember, **_: Any) -> None:
        raise AssertionError("the tests stop and start nodes themselves")


def row_key(number: int, storage_id: int = 20_000) -> bytes:
    return index_prefix(storage_id, 1) + number.to_bytes(4, "big")
