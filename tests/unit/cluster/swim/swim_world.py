"""A cluster of real SWIM cores and real datagrams on virtual time; one seed gives one run.

The network loses, delays, duplicates and cuts; a node can be killed, restarted, frozen (its process
stops, its socket keeps what comes) and slowed down (it handles what comes later, while its timers run on time).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from cluster.ids import NodeId
from cluster.swim import Member, MemberState, SwimCore, SwimSettings
from cluster.swim.datagrams import Datagrams

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.swim.message import Message

SECRET = b"the secret of the cluster"
CLUSTER_ID = "a-cluster"
RECEIVE_BUFFER_MAX = 256


def address_of(node_id: int) -> str:
    return f"10.0.0.{node_id}:9400"


class Change(NamedTuple):
    at: float
    observer: int
    node_id: int
    old: MemberState | None
    new: MemberState


class Sent(NamedTuple):
    at: float
    sender: int
    destination: str
    message: Message
    fate: str


@dataclass
class Node:
    core: SwimCore
    datagrams: Datagrams
    is_up: bool = True
    is_frozen: bool = False
    slow_seconds: float = 0.0
    unread: list[tuple[bytes, str]] = field(default_factory=list)
    armed_for: float = float("inf")


class World:
    def __init__(
        self,
        seed: int,
        settings: SwimSettings | None = None,
        *,
        loss: float = 0.0,
        delay_seconds: tuple[float, float] = (0.0005, 0.002),
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.settings = settings or SwimSettings()
        self.loss = loss
        self.duplication = 0.0
        self.delay_seconds = delay_seconds
        self.now = 0.0
        self.nodes: dict[int, Node] = {}
        self.cuts: set[tuple[int, int]] = set()
        self.seen_from: dict[str, str] = {}  # what receivers see instead of the sender's address
        self.changes: list[Change] = []
        self.sent: list[Sent] = []
        self.is_recording = False
        self.drop_if: Callable[[int, int, Message], bool] = lambda _sender, _to, _message: False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    # Nodes

    def add(
        self, node_id: int, seeds: tuple[int, ...] = (), *, boot: int = 1, address: str = ""
    ) -> SwimCore:
        local = Member(NodeId(node_id), address or address_of(node_id), boot=boot)
        core = SwimCore(
            settings=self.settings,
            local=local,
            random=Random(self.random.getrandbits(64)),
            now=self.now,
        )
        datagrams = Datagrams(
            secret=SECRET, cluster_id=CLUSTER_ID, node_id=local.node_id, counters=core.counters
        )
        self.nodes[node_id] = Node(core, datagrams)
        core.join_addresses([address_of(seed) for seed in seeds], self.now)
        self._settle(node_id)
        return core

    def start(self, count: int) -> None:
        """Start nodes 1 to count, who know node 1's address only, and let them meet."""
        for node_id in range(1, count + 1):
            self.add(node_id, (1,))
        self.run_until(lambda: self.is_agreed(MemberState.ALIVE), 30.0)

    def kill(self, node_id: int) -> None:
        self.nodes[node_id].is_up = False

    def freeze(self, node_id: int) -> None:
        self.nodes[node_id].is_frozen = True

    def thaw(self, node_id: int) -> None:
        """The timer fires before the socket is read, as on some event loops."""
        node = self.nodes[node_id]
        node.is_frozen = False
        node.core.tick(self.now)
        self._settle(node_id)
        unread, node.unread = node.unread, []
        for datagram, source in unread:
            self._receive(node, datagram, source)
        self._settle(node_id)

    def core(self, node_id: int) -> SwimCore:
        return self.nodes[node_id].core

    def leave(self, node_id: int) -> None:
        self.core(node_id).leave(self.now)
        self._settle(node_id)

    # Network

    def cut(self, sender: int, receiver: int, *, both: bool = True) -> None:
        self.cuts.add((sender, receiver))
        if both:
            self.cuts.add((receiver, sender))

    def partition(self, *sides: tuple[int, ...]) -> None:
        for side in sides:
            for other in sides:
                if side is not other:
                    self.cuts |= {(a, b) for a in side for b in other}

    def heal(self) -> None:
        self.cuts.clear()

    def inject(self, node_id: int, datagram: bytes, source: str) -> None:
        self._receive(self.nodes[node_id], datagram, source)
        self._settle(node_id)

    # Time

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heappop(self._events)
            event()
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit_seconds: float) -> float:
        """Run until the condition holds; return the seconds that took."""
        began = self.now
        while not condition():
            assert self.now - began < limit_seconds, f"seed {self.seed}: {self.views()}"
            self.run(0.05)
        return self.now - began

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (self.now + seconds, self._count, event))

    # What is seen

    def state(self, observer: int, node_id: int) -> MemberState | None:
        member = self.core(observer).member(NodeId(node_id))
        return None if member is None else member.state

    def seen_as(self, node_id: int, *states: MemberState) -> bool:
        """Tell whether all others that run hold the node for one of the states."""
        return all(
            self.state(observer, node_id) in states
            for observer, node in self.nodes.items()
            if node.is_up and observer != node_id
        )

    def is_agreed(self, *states: MemberState) -> bool:
        return all(self.seen_as(node_id, *states) for node_id in self.nodes)

    def views(self) -> str:
        """Return who is not simply held for alive, or not known, and by whom."""
        odd = []
        for observer, node in self.nodes.items():
            held = {int(member.node_id): member.state.name for member in node.core.members()}
            for node_id in self.nodes:
                state = held.get(node_id, "unknown")
                if node.is_up and state != "ALIVE":
                    odd.append(f"{observer} holds {node_id} for {state}")
        return "; ".join(odd[:20]) or "all hold all for alive"

    def total(self, counter: str) -> int:
        return sum(getattr(node.core.counters, counter) for node in self.nodes.values())

    # Inside

    def _settle(self, node_id: int) -> None:
        node = self.nodes[node_id]
        ready = node.core.ready()
        self.changes += [Change(self.now, node_id, *change) for change in ready.changes]
        for outgoing in ready.outgoing:
            datagram = node.datagrams.encode(
                outgoing.message, recipient=outgoing.recipient, boot=node.core.local.boot
            )
            self._transmit(node_id, outgoing.destination, datagram, outgoing.message)
        wakeup = node.core.next_wakeup
        if wakeup != node.armed_for and wakeup < float("inf"):
            node.armed_for = wakeup
            self.later(max(0.0, wakeup - self.now), partial(self._wake, node_id, node, wakeup))

    def _wake(self, node_id: int, node: Node, wakeup: float) -> None:
        is_current = self.nodes[node_id] is node and node.armed_for == wakeup
        if is_current and node.is_up and not node.is_frozen:
            node.armed_for = float("inf")
            node.core.tick(self.now)
            self._settle(node_id)

    def _transmit(self, sender: int, destination: str, datagram: bytes, message: Message) -> None:
        source = self.core(sender).local.address
        source = self.seen_from.get(source, source)
        behind = {seen: address for address, seen in self.seen_from.items()}
        wanted = behind.get(destination, destination)
        receivers = [n for n, node in self.nodes.items() if node.core.local.address == wanted]
        fate = "sent" if receivers else "nobody"
        for receiver in receivers:
            if (
                (sender, receiver) in self.cuts
                or self.drop_if(sender, receiver, message)
                or self.random.random() < self.loss
            ):
                fate = "lost"
                continue
            node = self.nodes[receiver]
            copies = 2 if self.random.random() < self.duplication else 1
            for _ in range(copies):
                delay = self.random.uniform(*self.delay_seconds) + node.slow_seconds
                self.later(delay, partial(self._arrive, receiver, node, datagram, source))
        if self.is_recording:
            self.sent.append(Sent(self.now, sender, destination, message, fate))

    def _arrive(self, receiver: int, node: Node, datagram: bytes, source: str) -> None:
        if self.nodes[receiver] is not node or not node.is_up:
            return
        if node.is_frozen:
            if len(node.unread) < RECEIVE_BUFFER_MAX:
                node.unread.append((datagram, source))
            return
        self._receive(node, datagram, source)
        self._settle(receiver)

    def _receive(self, node: Node, datagram: bytes, source: str) -> None:
        received = node.datagrams.decode(datagram)
        if received is None:
            return
        if received.is_stale:
            node.core.on_stale_message(
                received.message, known_boot=received.known_boot, source=source, now=self.now
            )
        else:
            node.core.on_message(received.message, source, self.now)
