"""Snapshots between simulated nodes: the product's reader, receiver and loader, chunk by chunk.

An install takes several turns, as in the product, so anything can happen between its slices. The
receiver's files are of a disk that survives nothing: resuming a file after a restart has tests of
its own (``tests/fault/test_kill_snapshot.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.errors import DiskFull, MapFull
from nodedb.storage.snapshot_format import (
    SnapshotError,
    decode_chunk,
    decode_offer,
    decode_resume_point,
    encode_chunk,
    encode_offer,
    encode_resume_point,
)
from nodedb.storage.snapshot_install import SnapshotLoad
from nodedb.storage.snapshot_receive import SnapshotInbox, SnapshotReceiver
from nodedb.storage.snapshot_source import SnapshotReader
from tests.fault.simulated_disk import SimulatedDisk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.node import SimulatedMember
    from tests.simulation.world import World

CHUNK_BYTES = 4096
RETRY_SECONDS = 2.0
SLICE_SECONDS = 0.02
"""Between two slices of an install: long enough for messages to come in between."""


class _ReceiverDisk(SimulatedDisk):
    path = "recv_snapshots"


class Snapshots:
    """Transfers of one world. A lost message ends a transfer, which the leader begins again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sending: dict[tuple[int, int, int], SnapshotReader] = {}
        self._inboxes: dict[tuple[int, int], SnapshotInbox] = {}
        self._receiving: dict[tuple[int, int, int], SnapshotReceiver] = {}
        """By node, its incarnation, group."""
        self.installed_count = 0
        self.matched_count = 0
        """Installs that found the log to hold the snapshot's last entry by then."""

    # Sending

    def start(self, sender: SimulatedMember, group_id: int, node_id: int) -> None:
        key = (sender.node_id, group_id, node_id)
        reader = SnapshotReader(
            sender.engine,
            group_id,
            snapshot_id=self._world.random.getrandbits(60),
            now=sender.now(),
            chunk_bytes=CHUNK_BYTES,
        )
        self._sending[key] = reader
        index = reader.header.index
        self._send(sender.node_id, node_id, "offer", (group_id, 0, encode_offer(reader.offer)))

        def give_up() -> None:
            if self._sending.get(key) is reader:
                del self._sending[key]
                reader.close()
                sender.replicator.on_snapshot_result(group_id, node_id, index, ok=False)

        sender.later(RETRY_SECONDS, give_up)

    def _on_want(
        self, node: SimulatedMember, peer: int, group_id: int, data: bytes, number: int
    ) -> None:
        reader = self._sending.get((node.node_id, group_id, peer))
        if reader is None:
            return
        if number < 0:
            number = reader.resume(decode_resume_point(data))
            if number == reader.chunk_count:
                return
        elif data != b"%d" % reader.header.snapshot_id:
            return  # Of a transfer before this one.
        chunk = encode_chunk(reader.chunk(number, node.now()))
        self._send(node.node_id, peer, "chunk", (group_id, number, chunk))

    def _on_installed(self, node: SimulatedMember, peer: int, group_id: int, data: bytes) -> None:
        reader = self._sending.get((node.node_id, group_id, peer))
        if reader is None or data != b"%d" % reader.header.snapshot_id:
            return
        del self._sending[node.node_id, group_id, peer]
        reader.close()
        node.replicator.on_snapshot_result(group_id, peer, reader.header.index, ok=True)

    # Receiving

    def receive(self, node: SimulatedMember, sender: int, kind: str, payload: bytes) -> None:
        group_id, number, data = msgspec.msgpack.decode(payload)
        try:
            if kind == "offer":
                self._on_offer(node, sender, group_id, data)
            elif kind == "want":
                self._on_want(node, sender, group_id, data, number)
            elif kind == "chunk":
                self._on_chunk(node, sender, group_id, data)
            else:
                self._on_installed(node, sender, group_id, data)
        except (SnapshotError, DiskFull, MapFull):
            pass  # The leader's timer ends the transfer.

    def _inbox(self, node: SimulatedMember) -> SnapshotInbox:
        key = (node.node_id, node.incarnation)
        if key not in self._inboxes:
            self._inboxes[key] = SnapshotInbox(_ReceiverDisk(1), disk_reserve_bytes=0)
        return self._inboxes[key]

    def _on_offer(self, node: SimulatedMember, sender: int, group_id: int, data: bytes) -> None:
        replica = node.replicator.replicas[group_id]
        if replica.core.is_leader:
            return
        receiver = self._inbox(node).begin(
            decode_offer(data), applied_index=replica.applied_index, wall_now=node.now()
        )
        self._receiving[node.node_id, node.incarnation, group_id] = receiver
        point = encode_resume_point(receiver.resume_point())
        self._send(node.node_id, sender, "want", (group_id, -1, point))

    def _on_chunk(self, node: SimulatedMember, sender: int, group_id: int, data: bytes) -> None:
        receiver = self._receiving.get((node.node_id, node.incarnation, group_id))
        if receiver is None or not receiver.is_open or receiver.is_complete:
            return
        chunk = decode_chunk(data)
        receiver.accept(chunk, node.now())
        if not receiver.is_complete:
            wanted = (group_id, chunk.number + 1, b"%d" % chunk.snapshot_id)
            self._send(node.node_id, sender, "want", wanted)
            return
        replicator = node.replicator
        if replicator.is_amid_entry(group_id) or replicator.replicas[group_id].is_installing:
            return
        replicator.begin_install(group_id)
        load = SnapshotLoad(node.engine, receiver)
        self._install(node, sender, group_id, load, load.slices())

    def _install(
        self,
        node: SimulatedMember,
        sender: int,
        group_id: int,
        load: SnapshotLoad,
        slices: Iterator[int],
    ) -> None:
        """Load one slice more; after the last one put the snapshot in place."""
        try:
            byte_count = next(slices, None)
            if byte_count is not None:
                node.replicator.note_local_change(byte_count)
                node.later(
                    SLICE_SECONDS, lambda: self._install(node, sender, group_id, load, slices)
                )
                return
            installed = load.switch()
        except (SnapshotError, DiskFull, MapFull):
            node.replicator.cancel_install(group_id)
            return
        self.matched_count += node.wal.term_at(group_id, installed.index) == installed.term
        node.machines[group_id].reload()
        node.replicator.finish_install(group_id, installed.index, installed.term)
        self.installed_count += 1
        self._world.on_installed(node, group_id, installed.index)
        snapshot_id = b"%d" % load._received.offer.snapshot_id
        self._send(node.node_id, sender, "installed", (group_id, 0, snapshot_id))

    def _send(
        self, sender: int, recipient: int, kind: str, content: tuple[int, int, bytes]
    ) -> None:
        self._world.network.send(sender, recipient, kind, msgspec.msgpack.encode(content))
