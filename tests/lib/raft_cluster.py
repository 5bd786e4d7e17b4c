"""Replicas of one group joined by a network that does what it is told. Time stands until told.

Each node's turn is the driver's: inputs, flush, ``on_flushed``, ``ready``, send, apply. Messages
wait in ``network`` until delivered, dropped or duplicated; a raft snapshot is a message like the
others. What figure 3 of the paper promises is checked after every turn (``raft_checks``).
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from raft_checks import History, check_leases
from raft_store import MemoryLogStore

from cluster.raft.config import RaftConfig
from cluster.raft.core import RaftCore
from cluster.raft.message import (
    CONF_CHANGE_MARK,
    ConfChange,
    Configuration,
    Entry,
    EntryId,
    HardState,
    Message,
    VoteResponse,
)

GROUP = 7


class SnapshotMessage(NamedTuple):
    """A raft snapshot on its way."""

    sender: int
    recipient: int
    term: int
    index: int
    index_term: int
    configuration: Configuration
    state: tuple[Entry, ...]


class SnapshotDone(NamedTuple):
    """Tells the leader's driver how its snapshot ended."""

    sender: int
    recipient: int
    index: int
    ok: bool


Travelling = Message | SnapshotMessage | SnapshotDone


class CheckedStore(MemoryLogStore):
    """Shows what becomes durable to the history: what was lost before has never been seen."""

    def __init__(self, node_id: int, history: History) -> None:
        super().__init__()
        self.node_id = node_id
        self.history = history

    def flush(self) -> None:
        new_entries = self._entries[self._same_count :]
        super().flush()
        self.history.on_append(self.node_id, self, new_entries)


@dataclass
class Node:
    """One node's group: log, core and state machine (the list of applied entries)."""

    node_id: int
    store: CheckedStore
    core: RaftCore
    applied: list[Entry] = field(default_factory=list)
    engine: tuple[int, tuple[Entry, ...], Configuration] = (0, (), Configuration(()))
    """What the engine has committed: applied index, entries, configuration."""
    is_down: bool = False
    is_stalled: bool = False
    """Its disk does not answer: inputs pile up, and the turn does not end."""
    read_states: list[tuple[int, int]] = field(default_factory=list)


class RaftCluster:
    """See the module's docstring. ``core_class`` and ``store_class`` take canaries."""

    def __init__(
        self,
        node_ids: Iterable[int],
        *,
        voters: Iterable[int] | None = None,
        learners: Iterable[int] = (),
        config: RaftConfig | None = None,
        seed: int = 1,
        core_class: type[RaftCore] = RaftCore,
        store_class: type[CheckedStore] = CheckedStore,
        is_checked: bool = True,
    ) -> None:
        self.config = config or RaftConfig()
        self.seed = seed
        self.now = 1000.0
        self.history = History()
        self.network: list[Travelling] = []
        self._lost: list[Travelling] = []
        self.cut: set[tuple[int, int]] = set()
        self.core_class = core_class
        self.store_class = store_class
        self.is_checked = is_checked
        self.on_send: Callable[[Travelling], None] = lambda message: None
        self.nodes: dict[int, Node] = {}
        self._starts = 0
        ids = sorted(node_ids)
        self.initial = Configuration(tuple(sorted(voters or ids)), tuple(sorted(learners)))
        for node_id in ids:
            self.add_node(node_id)

    # Nodes

    def add_node(self, node_id: int, configuration: Configuration | None = None) -> Node:
        """Start a node with an empty log."""
        store = self.store_class(node_id, self.history)
        node = Node(node_id, store, None)  # type: ignore[arg-type]
        node.engine = (0, (), configuration or self.initial)
        self.nodes[node_id] = node
        self._start(node)
        return node

    def _start(self, node: Node) -> None:
        applied_index, applied, configuration = node.engine
        node.applied = list(applied)
        node.is_down = node.is_stalled = False
        self._starts += 1
        self.history.on_restart(node.node_id)
        node.core = self.core_class(
            config=self.config,
            group_id=GROUP,
            node_id=node.node_id,
            log=node.store,
            configuration=configuration,
            applied_index=applied_index,
            random=random.Random(f"{self.seed} {node.node_id} {self._starts}"),
            now=self.now,
        )
        self.turn(node.node_id)

    def core(self, node_id: int) -> RaftCore:
        return self.nodes[node_id].core

    @property
    def leader(self) -> RaftCore | None:
        """The leader of the newest term among those that are up."""
        leaders = [
            node.core for node in self.nodes.values() if not node.is_down and node.core.is_leader
        ]
        return max(leaders, key=lambda core: core.term, default=None)

    def crash(self, node_id: int) -> None:
        """Kill a node: what was not flushed is lost, with all that is on its way to it."""
        node = self.nodes[node_id]
        node.is_down = True
        node.store.crash()
        self.lose_where(lambda message: message.recipient == node_id)

    def restart(self, node_id: int, *, lose_unsynced: bool = True) -> None:
        """Start a node again, after a crash or after a kill that loses nothing."""
        node = self.nodes[node_id]
        if not node.is_down:
            if lose_unsynced:
                node.store.crash()
            else:
                node.store.flush()
        self._start(node)

    def lose_disk(self, node_id: int) -> None:
        """Start a node anew with an empty store."""
        self.add_node(node_id, self.nodes[node_id].core.applied_configuration)

    def commit_engine(self, node_id: int) -> None:
        """Have the engine commit what is applied."""
        node = self.nodes[node_id]
        core = node.core
        node.engine = (core.applied_index, tuple(node.applied), core.applied_configuration)

    def compact(self, node_id: int, upto_index: int | None = None) -> None:
        """Let go of the log up to an index, at most what the engine has."""
        self.commit_engine(node_id)
        node = self.nodes[node_id]
        node.store.compact(min(upto_index or node.core.applied_index, node.core.applied_index))

    # Turns

    def turn(self, node_id: int) -> None:
        """Carry out what the node's core wants: the driver's turn."""
        node = self.nodes[node_id]
        if node.is_down or node.is_stalled:
            return
        if node.store.needs_flush:
            node.store.flush()
        core = node.core
        core.on_flushed(self.now)
        ready = core.ready()
        for message in ready.messages:
            self._send(message)
        for peer in ready.snapshot_peers:
            self._send(
                SnapshotMessage(
                    node_id,
                    peer,
                    core.term,
                    core.applied_index,
                    core.log.term_at(core.applied_index) or 0,
                    core.applied_configuration,
                    tuple(node.applied),
                )
            )
        node.read_states += ready.read_states
        self._tell_broken_streams()
        self._apply(node, ready.commit_index)
        if self.is_checked:
            self.history.on_core(core)
            check_leases([node.core for node in self.nodes.values() if not node.is_down], self.now)

    def _apply(self, node: Node, commit_index: int) -> None:
        core = node.core
        if commit_index <= core.applied_index:
            return
        for entry in node.store.entries(core.applied_index + 1, commit_index + 1, 2**60):
            node.applied.append(entry)
            if self.is_checked:
                self.history.on_apply(node.node_id, entry)
        core.on_applied(commit_index)

    def _send(self, message: Travelling) -> None:
        self.on_send(message)
        if self.is_checked and isinstance(message, VoteResponse) and message.is_granted:
            self.history.on_vote(message.term, message.sender, message.recipient)
        if (message.sender, message.recipient) in self.cut:
            self._lost.append(message)
        else:
            self.network.append(message)

    def lose_where(self, is_lost: Callable[[Travelling], bool]) -> list[Travelling]:
        """Lose what waits in the network; return it."""
        lost = [message for message in self.network if is_lost(message)]
        self.network = [message for message in self.network if not is_lost(message)]
        self._lost += lost
        self._tell_broken_streams()
        return lost

    def _tell_broken_streams(self) -> None:
        """Have the senders of lost raft snapshots notice it, as their streams break."""
        lost, self._lost = self._lost, []
        for message in lost:
            match message:
                case SnapshotMessage(sender=leader, recipient=peer):
                    pass
                case SnapshotDone(sender=peer, recipient=leader):
                    pass
                case _:
                    continue
            node = self.nodes[leader]
            if not node.is_down:
                node.core.on_snapshot_result(peer, message.index, ok=False)

    # Inputs

    def tick(self, ms: int, node_ids: Iterable[int] | None = None) -> None:
        """Let time pass for all nodes, in ticks, delivering nothing."""
        chosen = list(self.nodes if node_ids is None else node_ids)
        for _ in range(max(1, round(ms / self.config.tick_ms))):
            # A little more than a tick, so that no sum of floats falls short of a deadline.
            self.now += self.config.tick_ms / 1000 + 1e-9
            for node_id in chosen:
                if not self.nodes[node_id].is_down:
                    self.nodes[node_id].core.tick(self.now)
                    self.turn(node_id)

    def end_silence(self) -> None:
        """Let the silence after the start pass, without ticks."""
        self.now += self.config.election_timeout_seconds_max

    def campaign(self, node_id: int) -> None:
        self.core(node_id).campaign(self.now)
        self.turn(node_id)

    def propose(self, node_id: int, payload: bytes) -> EntryId:
        entry_id = self.core(node_id).propose(payload)
        self.turn(node_id)
        return entry_id

    def change(self, node_id: int, kind: str, target: int) -> EntryId:
        entry_id = self.core(node_id).propose_conf_change(ConfChange(kind, target))  # type: ignore[arg-type]
        if target not in self.nodes:
            self.add_node(target, Configuration(()))
        self.turn(node_id)
        return entry_id

    def transfer(self, node_id: int, target: int) -> None:
        self.core(node_id).transfer_leadership(target, self.now)
        self.turn(node_id)

    def step(self, message: Travelling) -> None:
        """Hand a message to its recipient, and let it have its turn."""
        node = self.nodes.get(message.recipient)
        if node is None or node.is_down:
            self._lost.append(message)
            self._tell_broken_streams()
            return
        if isinstance(message, SnapshotMessage):
            self._install(node, message)
        elif isinstance(message, SnapshotDone):
            node.core.on_snapshot_result(message.sender, message.index, ok=message.ok)
        else:
            node.core.step(message, self.now)
        self.turn(message.recipient)

    def _install(self, node: Node, snapshot: SnapshotMessage) -> None:
        core = node.core
        ok = core.may_install_snapshot(snapshot.term, snapshot.index)
        if ok:
            node.engine = (snapshot.index, snapshot.state, snapshot.configuration)
            node.applied = list(snapshot.state)
            if node.store.term_at(snapshot.index) == snapshot.index_term:
                core.on_snapshot_matched(snapshot.index, self.now)
            else:
                node.store.reset(snapshot.index, snapshot.index_term)
                core.on_snapshot_installed(
                    snapshot.index, snapshot.index_term, snapshot.configuration, self.now
                )
        self._send(SnapshotDone(node.node_id, snapshot.sender, snapshot.index, ok))

    # Network

    def deliver(self, position: int = 0) -> None:
        """Deliver one waiting message."""
        self.step(self.network.pop(position))

    def deliver_all(self, rounds: int = 1000) -> None:
        """Deliver what waits, and what follows from it, in the order it was sent."""
        for _ in range(rounds):
            if not self.network:
                return
            self.step(self.network.pop(0))
        raise AssertionError(f"still talking after {rounds} messages (seed {self.seed})")

    def partition(self, *sides: Iterable[int]) -> None:
        """Cut every link between nodes of different sides, and what is on its way there."""
        groups = [set(side) for side in sides]
        for one in groups:
            for other in groups:
                if one is not other:
                    self.cut |= {(sender, recipient) for sender in one for recipient in other}
        self.lose_where(lambda message: (message.sender, message.recipient) in self.cut)

    def isolate(self, node_id: int) -> None:
        self.partition([node_id], [other for other in self.nodes if other != node_id])

    def heal(self) -> None:
        self.cut.clear()

    def run(self, ms: int) -> None:
        """Let time pass, everything being delivered within a tick."""
        for _ in range(max(1, round(ms / self.config.tick_ms))):
            self.tick(self.config.tick_ms)
            self.deliver_all()

    def run_until(self, condition: Callable[[], bool], ms_max: int = 20_000) -> None:
        """Let time pass until something is so."""
        for _ in range(round(ms_max / self.config.tick_ms)):
            if condition():
                return
            self.run(self.config.tick_ms)
        raise AssertionError(f"not within {ms_max} ms (seed {self.seed})")

    def elect(self, node_id: int) -> RaftCore:
        """Make a node the leader, with its first entry committed and known everywhere."""
        self.end_silence()
        self.campaign(node_id)
        self.deliver_all()
        core = self.core(node_id)
        assert core.is_leader, (core.role, self.seed)
        return core


NOTHING_KEPT: Final = HardState(0, 0, 0)


def plant(store: MemoryLogStore, terms: list[int], hard_state: HardState = NOTHING_KEPT) -> None:
    """Fill a log with entries of given terms, durably, as a former life left it."""
    store.set_hard_state(hard_state._replace(term=max([hard_state.term, *terms])))
    if terms:
        entries = [(at + 1, term, f"e{at + 1}@{term}".encode()) for at, term in enumerate(terms)]
        store.append(entries)
    store.flush()


def payloads(entries: Iterable[Entry]) -> list[bytes]:
    """Return what clients proposed among entries."""
    return [payload for _, _, payload in entries if payload and payload[0] != CONF_CHANGE_MARK]
