"""One simulated node: the real log, replicator and cores over a simulated disk and network.

What is simulated are the two seams: the log's files (``tests.fault.simulated_disk``) and the engine
(the one in memory, which falls back to its last commit or the one before). A node's clock has an
offset and a drift of its own. It can crash, with or without power loss, be frozen as by SIGSTOP or
a slow fsync, and have a full disk.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from cluster.multiraft.message import decode_beat, encode_beat
from cluster.raft.message import decode_messages, encode_messages
from nodedb.kv.replicator import Replicator
from nodedb.storage.memory_engine import MemoryEngine
from nodedb.storage.wal import Wal
from tests.fault.simulated_disk import SimulatedDisk

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.multiraft.message import Beat
    from cluster.raft.message import Message
    from nodedb.errors import StorageError
    from nodedb.storage.engine import Engine
    from tests.simulation.virtual_time import Call
    from tests.simulation.world import World

SEGMENT_BYTES = 1 << 16
"""Small, so that the log is recycled, and a full disk is met, many times in a run."""
KEPT_ENTRIES = 40


class Machine:
    """A register of every payload in order, as a chain of checksums: equal prefixes, equal chain."""

    def __init__(
        self, group_id: int, engine: Engine, on_apply: Callable[[int, int, bytes, int], None]
    ):
        self.group_id = group_id
        prefix = f"group{group_id}." if group_id else "metadata."
        self._rows = engine.space(prefix + "rows")
        self._meta = engine.space(f"{prefix}{'meta' if group_id else 'state'}")
        self._on_apply = on_apply
        self.reload()

    def reload(self) -> None:
        saved = self._meta.get(b"chain")
        self.chain, self.count = msgspec.msgpack.decode(saved) if saved else (0, 0)

    @staticmethod
    def decode(payload: bytes) -> bytes:
        return payload

    def apply(self, value: bytes, index: int) -> None:
        self.chain = crc32(value, self.chain)
        self.count += 1
        self._rows.put(value, index.to_bytes(8, "big"))
        self._on_apply(self.group_id, index, value, self.chain)

    def save(self) -> None:
        self._meta.put(b"chain", msgspec.msgpack.encode((self.chain, self.count)))

    def holds(self, value: bytes) -> bool:
        return self._rows.get(value) is not None


class SimulatedMember:
    """A node of the world; implements the replicator's ``Outside`` and ``Schedule``."""

    def __init__(self, world: World, node_id: int) -> None:
        self.world = world
        self.node_id = node_id
        self.random = Random(world.random.random())
        self.disk = SimulatedDisk(world.random.randrange(1 << 30))
        self.engine = MemoryEngine()
        self.clock_offset = self.random.uniform(0, 1000)
        self.clock_rate = 1 + self.random.uniform(-0.03, 0.03)
        self.is_running = False
        self.incarnation = 0
        self.frozen_until = 0.0
        self._frozen: list[Callable[[], None]] = []
        self.fatal: StorageError | None = None
        world.network.receivers[node_id] = self._on_message

    # Life

    def now(self) -> float:
        return self.clock_offset + self.world.time.now * self.clock_rate

    def start(self) -> None:
        assert not self.is_running
        self.is_running = True
        self.incarnation += 1
        self.fatal = None
        self.wal = self.world.make_wal(self)
        self.engine._fsynced_index = self.wal.durable_index
        self.replicator = self.world.make_replicator(self)
        self.machines = {}
        for group_id in self.world.groups:
            machine = self.machines[group_id] = self.make_machine(group_id)
            self.replicator.start_group(group_id, machine, self.world.founding)
        self.cores = [(g, replica.core) for g, replica in self.replicator.replicas.items()]
        self._tick()

    def make_machine(self, group_id: int) -> Any:
        return Machine(group_id, self.engine, self._on_apply)

    def _on_apply(self, group_id: int, index: int, value: bytes, chain: int) -> None:
        self.world.on_apply(self, group_id, index, value, chain)

    def crash(self, *, power_loss: bool) -> None:
        self.is_running = False
        self.frozen_until = 0.0
        self._frozen.clear()
        if power_loss:
            self.disk.power_loss()
        else:
            self.disk.kill()
        self.engine.crash(keep_last_commit=not power_loss or self.random.random() < 0.5)

    def freeze(self, seconds: float) -> None:
        """Let nothing happen here for a while; what comes meanwhile happens afterwards."""
        self.frozen_until = max(self.frozen_until, self.world.time.now + seconds)
        self.world.time.later(seconds, self._thaw)

    def _thaw(self) -> None:
        if self.world.time.now < self.frozen_until - 1e-9:
            return
        waiting, self._frozen = self._frozen, []
        for callback in waiting:
            callback()

    def on_fatal(self, error: StorageError) -> None:
        self.fatal = error

    def run(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Return the callback for this life of the node only, and only while it is not frozen."""
        incarnation = self.incarnation

        def guarded() -> None:
            if not self.is_running or self.incarnation != incarnation:
                return
            if self.world.time.now < self.frozen_until:
                self._frozen.append(guarded)
                return
            callback()
            if self.fatal is not None:
                self.world.on_fatal(self)

        return guarded

    def _tick(self) -> None:
        self.replicator.tick()
        self.later(self.world.config.tick_ms / 1000, self._tick)

    # Schedule

    def soon(self, callback: Callable[[], None]) -> None:
        self.world.time.later(0.0, self.run(callback))

    def later(self, seconds: float, callback: Callable[[], None]) -> Call:
        return self.world.time.later(seconds, self.run(callback))

    # Outside

    def send(self, node_id: int, messages: list[Message]) -> None:
        self.world.network.send(self.node_id, node_id, "raft", encode_messages(messages))

    def send_beat(self, node_id: int, beat: Beat) -> None:
        self.world.network.send(self.node_id, node_id, "beat", encode_beat(beat))

    def send_snapshot(self, group_id: int, node_id: int) -> None:
        self.world.snapshots.start(self, group_id, node_id)

    def on_turn(self) -> None:
        self.world.on_turn(self)

    def _on_message(self, sender: int, kind: str, payload: bytes) -> None:
        if not self.is_running:
            return

        def take() -> None:
            if kind == "raft":
                self.replicator.receive(decode_messages(payload))
            elif kind == "beat":
                self.replicator.receive_beat(decode_beat(payload))
            else:
                self.world.snapshots.receive(self, sender, kind, payload)

        self.run(take)()

    # Asking

    def core(self, group_id: int) -> Any:
        return self.replicator.replicas[group_id].core

    def leads(self, group_id: int) -> bool:
        return self.is_running and self.core(group_id).is_leader


def make_wal(node: SimulatedMember) -> Wal:
    """Open a node's log as the product does."""
    return Wal(node.disk, segment_bytes=SEGMENT_BYTES, compact_limit=node.engine.recyclable_applied)


def make_replicator(node: SimulatedMember, kind: type[Replicator] = Replicator) -> Replicator:
    """Make a node's replicator as the product does."""
    replicator = kind(
        node.wal,
        node.engine,
        node,
        node.on_fatal,
        node_id=node.node_id,
        config=node.world.config,
        now=node.now,
        seed=node.random.randrange(1 << 30),
        outside=node,
    )
    replicator.log_room.kept_entries = KEPT_ENTRIES
    return replicator
