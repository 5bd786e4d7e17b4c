"""A world of simulated nodes, clients and faults, watched after every event; one seed, one run.

A run has two phases. *Safety*: clients propose and read while faults of several kinds strike.
*Liveness*: everything is healed, and within ``PROGRESS_SECONDS`` each group must take a new entry
and all replicas must be equal. What is checked all along: one leader per term, leader completeness,
equal applied prefixes (by checksum), no acknowledged entry lost, nothing applied that was refused
as surely not applied, at most one node that may serve, and whoever may serve, by lease or by
ReadIndex, has applied all that was acknowledged before.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from cluster.raft.config import RaftConfig
from cluster.raft.message import Configuration
from tests.lib.raft_checks import History, Violation
from tests.simulation.faults import QUOTA_BYTES, Faults
from tests.simulation.network import Network
from tests.simulation.node import SimulatedMember, make_replicator, make_wal
from tests.simulation.snapshots import Snapshots
from tests.simulation.virtual_time import VirtualTime

if TYPE_CHECKING:
    from cluster.raft.core import RaftCore
    from nodedb.kv.replicator import Replicator
    from nodedb.storage.wal import Wal
    from nodedb.waiter import Waiter

START_SECONDS = 4.0
SAFETY_SECONDS = 60.0
USUAL = RaftConfig(tick_ms=50)
"""Half of the usual ticks: half of a run's time was spent on them."""
TIGHT = RaftConfig(
    tick_ms=50,
    append_bytes_max=600,
    inflight_bytes_max=2_000,
    inflight_entries_max=10,
    quiesce_after_seconds=1.0,
)
"""Small windows, so that a log takes many messages; groups that sleep often."""
PROGRESS_SECONDS = 30.0
OPERATIONS = 320
BURSTS = (1, 1, 1, 1, 5, 20)
VALUE_BYTES = (0, 0, 20, 500)
READ_SHARE = 0.2


class World:
    """One run."""

    member_type: type[SimulatedMember] = SimulatedMember

    def __init__(self, seed: int, size: int = 0) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.time = VirtualTime()
        self.began_at = self.time.now
        self.network = Network(self.time, self.random)
        self.snapshots = Snapshots(self)
        self.groups = (0, 1)
        size = size or self.random.choice((3, 3, 3, 5))
        self.founders = tuple(range(1, size + 1))
        self.spares = (size + 1,)
        self.founding = Configuration(
            self.founders, self.spares if self.random.random() < 0.4 else ()
        )
        self.config = self.random.choice((USUAL, USUAL, TIGHT))
        self.histories = {group_id: History() for group_id in self.groups}
        self.chains: dict[tuple[int, int], int] = {}
        self.acknowledged: dict[int, dict[bytes, int]] = {group_id: {} for group_id in self.groups}
        self.acknowledged_max = dict.fromkeys(self.groups, 0)
        self.answers: Counter[str] = Counter()
        """Of writes: acknowledged, unknown, full, refused; of reads: confirmed, unconfirmed."""
        self.refused: dict[int, set[bytes]] = {group_id: set() for group_id in self.groups}
        self.operation_count = 0
        self.log: list[str] = []
        self.faults = Faults(self)
        self._last_terms: dict[tuple[int, int], tuple[int, int, bool]] = {}
        self._touched: dict[int, SimulatedMember] = {}
        self._next_value = 0
        self.nodes = {n: self.member_type(self, n) for n in (*self.founders, *self.spares)}

    # What canaries replace

    def make_wal(self, node: SimulatedMember) -> Wal:
        return make_wal(node)

    def make_replicator(self, node: SimulatedMember) -> Replicator:
        return make_replicator(node)

    # Run

    def run(self) -> World:
        """Run both phases. Raises Violation, naming the seed."""
        try:
            for node in self.nodes.values():
                self.time.later(self.random.uniform(0, 0.5), node.start)
            self.time.run_until(self.time.now + START_SECONDS, self._check)
            self._plan()
            self.time.run_until(self.time.now + SAFETY_SECONDS, self._check)
            self._heal()
            self._make_progress()
            self._compare()
        except (Violation, AssertionError) as error:
            kind = "" if isinstance(error, Violation) else "assertion: "
            raise Violation(f"{kind}{error}\nrepeat with: make sim SEED={self.seed}") from error
        return self

    def note(self, text: str) -> None:
        self.log.append(f"{self.time.now:10.4f} {text}")

    def _plan(self) -> None:
        """Spread the clients' work evenly, or in a few rushes with silence between them."""
        chance = self.random
        moments = [chance.uniform(0, SAFETY_SECONDS - 1) for _ in range(OPERATIONS)]
        if chance.random() < 0.3:
            rushes = [chance.uniform(0, SAFETY_SECONDS - 4) for _ in range(3)]
            moments = [chance.choice(rushes) + chance.uniform(0, 3) for _ in moments]
        for moment in moments:
            self.time.later(moment, self._operate)
        self.faults.plan(SAFETY_SECONDS - 2)

    # Clients

    def _operate(self) -> None:
        """Write or read at a node that thinks it leads; without one, at any."""
        group_id = self.random.choice((0, 1, 1, 1))
        if self.random.random() < READ_SHARE:
            self._read(group_id)
        for _ in range(self.random.choice(BURSTS)):
            self.write(group_id, self.random.choice(VALUE_BYTES))

    def _server(self, group_id: int) -> SimulatedMember | None:
        running = [n for n in self.nodes.values() if n.is_running]
        leaders = [n for n in running if n.leads(group_id)]
        return self.random.choice(leaders or running) if running else None

    def write(self, group_id: int, more_bytes: int = 0) -> None:
        """Propose a value that nobody else does."""
        node = self._server(group_id)
        if node is None:
            return
        self._next_value += 1
        value = b"v%d" % self._next_value + bytes(more_bytes)
        self.operation_count += 1

        def propose() -> None:
            waiter: Waiter[int] = node.replicator.propose(group_id, value, value)
            waiter.on_done(lambda: self._answered(group_id, value, waiter))

        node.run(propose)()

    def _answered(self, group_id: int, value: bytes, waiter: Waiter[int]) -> None:
        error = waiter.error
        if error is None:
            index = waiter._value
            assert index is not None
            self.acknowledged[group_id][value] = index
            self.acknowledged_max[group_id] = max(self.acknowledged_max[group_id], index)
            self.answers["acknowledged"] += 1
        elif getattr(error, "sqlstate", "") == "40003":
            self.answers["unknown"] += 1
        else:
            self.refused[group_id].add(value)
            full = getattr(error, "sqlstate", "") == "53100"
            self.answers["full" if full else "refused"] += 1

    def _read(self, group_id: int) -> None:
        """Ask a quorum; a confirmed read sees all that was acknowledged before it began."""
        node = self._server(group_id)
        if node is None:
            return
        self.operation_count += 1

        def read() -> None:
            wanted = self.acknowledged_max[group_id]
            replica = node.replicator.replicas[group_id]
            waiter = node.replicator.read_index(group_id)

            def confirmed() -> None:
                self.answers["confirmed" if waiter._value else "unconfirmed"] += 1
                if waiter._value and replica.applied_index < wanted:
                    raise Violation(
                        f"group {group_id}: node {node.node_id} confirms a read at "
                        f"{replica.applied_index}, {wanted} was acknowledged before it began"
                    )

            if waiter.done:
                confirmed()
            else:
                waiter.on_done(confirmed)

        node.run(read)()

    # Crashes

    def crash(self, node: SimulatedMember, *, power_loss: bool, down_seconds: float = 0.0) -> None:
        """Stop a node amid everything; it starts again after a while."""
        if not node.is_running:
            return
        node.crash(power_loss=power_loss)
        for group_id in self.groups:
            self._last_terms.pop((node.node_id, group_id), None)
            self.histories[group_id].on_restart(node.node_id)
        down_seconds = down_seconds or self.random.choice((0.01, 0.5, 2.0, 8.0, 20.0))
        self.time.later(down_seconds, lambda: self._restart(node))

    def _restart(self, node: SimulatedMember) -> None:
        if not node.is_running:
            node.disk.quota = QUOTA_BYTES
            node.start()
            self._touched[node.node_id] = node

    # Watching

    def on_fatal(self, node: SimulatedMember) -> None:
        raise Violation(f"node {node.node_id} stopped: {node.fatal}")

    def on_turn(self, node: SimulatedMember) -> None:
        self._touched[node.node_id] = node

    def on_apply(
        self, node: SimulatedMember, group_id: int, index: int, value: bytes, chain: int
    ) -> None:
        known = self.chains.setdefault((group_id, index), chain)
        if known != chain:
            raise Violation(
                f"group {group_id}: node {node.node_id} has another prefix up to {index}"
            )
        if value in self.refused[group_id]:
            raise Violation(f"group {group_id}: {value[:10]!r} was surely not applied, and now is")

    def on_installed(self, node: SimulatedMember, group_id: int, index: int) -> None:
        self.histories[group_id].on_restart(node.node_id)

    def _check(self) -> None:
        """Look at the nodes in which a turn has ended since the last look."""
        if not self._touched:
            return
        touched, self._touched = self._touched, {}
        last_terms = self._last_terms
        for node in touched.values():
            if not node.is_running:
                continue
            for group_id, core in node.cores:
                is_leader = core.is_leader
                seen = (core.term, core.commit_index, is_leader)
                key = (node.node_id, group_id)
                if last_terms.get(key) != seen:
                    last_terms[key] = seen
                    self.histories[group_id].on_core(core)
                if is_leader and self.time.now >= node.frozen_until:
                    self._check_server(node, group_id, core)

    def _check_server(self, node: SimulatedMember, group_id: int, core: RaftCore) -> None:
        """Whoever may serve is up to date, and alone."""
        if not core.may_serve(node.now()):
            return
        if core.applied_index < self.acknowledged_max[group_id]:
            raise Violation(
                f"group {group_id}: node {node.node_id} may serve at {core.applied_index}, "
                f"{self.acknowledged_max[group_id]} was acknowledged"
            )
        for other in self.nodes.values():
            if other is node or not other.is_running:
                continue
            rival = other.cores[group_id][1]
            if rival.is_leader and rival.term > core.term:
                raise Violation(
                    f"group {group_id}: node {node.node_id} may serve in term {core.term} "
                    f"while node {other.node_id} leads term {rival.term}"
                )

    # The end

    def _heal(self) -> None:
        self.note("heal")
        self.network.heal()
        for node in self.nodes.values():
            node.disk.quota = QUOTA_BYTES
            node.frozen_until = 0.0
            node._thaw()
            self._restart(node)

    def _make_progress(self) -> None:
        """Each group must take a new entry, and acknowledge it, in time."""
        waiting = set(self.groups)
        deadline = self.time.now + PROGRESS_SECONDS
        while waiting and self.time.now < deadline:
            self.time.run_until(self.time.now + 0.25, self._check)
            for group_id in sorted(waiting):
                for node in self.nodes.values():
                    if node.is_running and node.core(group_id).is_leader:
                        before = len(self.acknowledged[group_id])
                        self.write(group_id)
                        self.time.run_until(self.time.now + 0.25, self._check)
                        if len(self.acknowledged[group_id]) > before:
                            waiting.discard(group_id)
                        break
        if waiting:
            raise Violation(f"no progress within {PROGRESS_SECONDS:.0f} s after healing")

    def _compare(self) -> None:
        """All members have the same state, with everything in it that was acknowledged."""
        deadline = self.time.now + PROGRESS_SECONDS
        while self.time.now < deadline and not self._is_equal():
            self.time.run_until(self.time.now + 0.25, self._check)
        for group_id in self.groups:
            for node in self._members(group_id):
                machine = node.machines[group_id]
                missing = [v for v in self.acknowledged[group_id] if not machine.holds(v)]
                if missing:
                    raise Violation(
                        f"group {group_id}: node {node.node_id} lacks {len(missing)} acknowledged "
                        f"entries, among them {missing[0][:12]!r}"
                    )
        if not self._is_equal():
            raise Violation(f"replicas are not equal {PROGRESS_SECONDS:.0f} s after healing")

    def _members(self, group_id: int) -> list[SimulatedMember]:
        leaders = [n for n in self.nodes.values() if n.leads(group_id)]
        if not leaders:
            return []
        newest = max(leaders, key=lambda n: n.core(group_id).term)
        configuration = newest.core(group_id).applied_configuration
        return [self.nodes[n] for n in (*configuration.voters, *configuration.learners)]

    def _is_equal(self) -> bool:
        for group_id in self.groups:
            states = {
                (n.replicator.applied_index(group_id), n.machines[group_id].chain)
                for n in self._members(group_id)
            }
            if len(states) != 1:
                return False
        return True
