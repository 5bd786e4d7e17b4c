"""Bringing a replica up to date that is behind the log: snapshots over streams of the transport.

The leader offers, the receiver answers how much it has of it already, chunks follow, and when the
receiver has installed them it says so. Either side may vanish at any point: a transfer is resumed
while the leader's reader is open, and what was received in part is never used (PROTOCOL rule 63).

A chunk of up to 4 MiB travels in parts that fit the stream, each with a leading byte: 1 if more of
the chunk follows.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from cluster.transport.api import TransportError
from cluster.transport.methods import SNAPSHOT
from nodedb.errors import DiskFull, MapFull
from nodedb.storage.snapshot_format import (
    SnapshotError,
    SnapshotRefused,
    decode_chunk,
    decode_offer,
    decode_resume_point,
    encode_chunk,
    encode_offer,
    encode_resume_point,
)
from nodedb.storage.snapshot_install import SnapshotLoad

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.transport.api import Peer, Stream, Transport
    from nodedb.clock import Clock
    from nodedb.kv.replicator import Replicator
    from nodedb.storage.engine import Engine
    from nodedb.storage.snapshot_receive import SnapshotInbox, SnapshotReceiver
    from nodedb.storage.snapshot_source import SnapshotReader, SnapshotSources
    from nodedb.supervisor import Supervisor

_LOGGER: Final = logging.getLogger("nodedb.snapshots")
PART_BYTES: Final = 512 * 1024
INSTALLED: Final = b"installed"
_FAILURES: Final = (TransportError, SnapshotError, DiskFull, MapFull)
COLLECT_SECONDS: Final = 60.0
READERS_SECONDS: Final = 5.0


class SnapshotTransfers:
    """Sends snapshots of the groups led here, receives those of the others."""

    def __init__(
        self,
        *,
        replicator: Replicator,
        engine: Engine,
        sources: SnapshotSources,
        inbox: SnapshotInbox,
        transport: Transport,
        supervisor: Supervisor,
        clock: Clock,
        address_of: Callable[[int], str | None],
        reload: Callable[[int], None],
    ) -> None:
        """``reload(group_id)`` has the group's machine read its state again."""
        self._replicator = replicator
        self._engine = engine
        self._sources = sources
        self._inbox = inbox
        self._transport = transport
        self._supervisor = supervisor
        self._clock = clock
        self._address_of = address_of
        self._reload = reload
        self.sent_count = 0
        self.received_count = 0
        self.failed_count = 0
        self.sent_bytes = 0

    def attach(self) -> None:
        """Begin to receive, and to collect what was left behind."""
        self._transport.on_stream(SNAPSHOT, self._on_offer)
        self._collect()
        self._supervisor.repeat("collect snapshots", COLLECT_SECONDS, self._collect)
        self._supervisor.repeat("close snapshots", READERS_SECONDS, self._close_readers)

    def _close_readers(self) -> None:
        """End what was not read from for long: it keeps the engine from reusing pages."""
        self._sources.collect(self._clock.monotonic())

    def _collect(self) -> None:
        self._inbox.collect(self._clock.wall_us() / 1_000_000)
        while self._inbox.trim():
            pass

    # Sending

    def start(self, group_id: int, node_id: int) -> None:
        """Send a snapshot in the background; the replicator learns how it ended."""
        self._supervisor.start(
            f"snapshot of group {group_id} to node {node_id}", self._send(group_id, node_id)
        )

    async def _send(self, group_id: int, node_id: int) -> None:
        replica = self._replicator.replicas[group_id]
        index = 0
        is_installed = False
        try:
            await self._between_entries(group_id)
            reader = self._sources.open(
                group_id, index_min=replica.log.first_index() - 1, now=self._clock.monotonic()
            )
            index = reader.header.index
            self._replicator.log_room.hold(group_id, index)
            try:
                await self._transfer(reader, node_id)
            finally:
                self._replicator.log_room.release(group_id, index)
            is_installed = True
            self.sent_count += 1
            _LOGGER.info("group %d: node %d has the snapshot of %d", group_id, node_id, index)
        except _FAILURES as error:
            self.failed_count += 1
            _LOGGER.warning("group %d: no snapshot for node %d: %s", group_id, node_id, error)
        finally:
            self._replicator.on_snapshot_result(group_id, node_id, index, ok=is_installed)

    async def _transfer(self, reader: SnapshotReader, node_id: int) -> None:
        address = self._address_of(node_id)
        if address is None:
            raise SnapshotRefused(f"no address of node {node_id} is known")
        stream = await self._transport.open_stream(address, SNAPSHOT, encode_offer(reader.offer))
        try:
            number = reader.resume(decode_resume_point(await _received(stream)))
            while reader.chunk_count is None or number < reader.chunk_count:
                chunk = encode_chunk(reader.chunk(number, self._clock.monotonic()))
                for start in range(0, len(chunk), PART_BYTES):
                    part = chunk[start : start + PART_BYTES]
                    follows = start + len(part) < len(chunk)
                    await stream.send(bytes((follows,)) + part)
                self.sent_bytes += len(chunk)
                number += 1
                await asyncio.sleep(0)
            stream.finish()
            if await _received(stream) != INSTALLED:
                raise SnapshotRefused("the receiver did not install the snapshot")
        except BaseException as error:
            stream.abort(str(error))
            raise

    # Receiving

    async def _on_offer(self, peer: Peer, payload: bytes, stream: Stream) -> None:
        """Receive and install a snapshot; an exception aborts the stream with its text."""
        offer = decode_offer(payload)
        replica = self._replicator.replicas.get(offer.group_id)
        if replica is None or replica.core.is_leader:
            raise SnapshotRefused(f"group {offer.group_id} takes no snapshot here")
        receiver = self._inbox.begin(
            offer, applied_index=replica.applied_index, wall_now=self._clock.wall_us() / 1_000_000
        )
        await stream.send(encode_resume_point(receiver.resume_point()))
        while not receiver.is_complete:
            receiver.accept(
                decode_chunk(await _received_chunk(stream)), self._clock.wall_us() / 1_000_000
            )
        await self._install(offer.group_id, receiver)
        _LOGGER.info(
            "group %d: installed the snapshot of %d from node %d",
            offer.group_id,
            offer.index,
            peer.node_id,
        )
        await stream.send(INSTALLED)

    async def _install(self, group_id: int, receiver: SnapshotReceiver) -> None:
        replicator = self._replicator
        await self._between_entries(group_id)
        if replicator.replicas[group_id].is_installing:
            raise SnapshotRefused(f"a snapshot of group {group_id} is being installed")
        replicator.begin_install(group_id)
        try:
            load = SnapshotLoad(self._engine, receiver)
            for byte_count in load.slices():
                replicator.note_local_change(byte_count)
                await asyncio.sleep(0)
            installed = load.switch()
        except BaseException:
            replicator.cancel_install(group_id)
            raise
        self._reload(group_id)
        replicator.finish_install(group_id, installed.index, installed.term)
        self.received_count += 1
        await self._trim()

    async def _trim(self) -> None:
        """Remove the file and the old state, a step in each turn of the loop."""
        while self._inbox.trim() or self._engine.trim_dropped():  # noqa: ASYNC110  one turn each
            await asyncio.sleep(0)

    async def _between_entries(self, group_id: int) -> None:
        """Wait until no entry of the group is amid its slices."""
        while self._replicator.is_amid_entry(group_id):  # noqa: ASYNC110  one slice in each turn
            await asyncio.sleep(0)


async def _received(stream: Stream) -> bytes:
    chunk = await stream.receive()
    if chunk is None:
        raise SnapshotRefused("the other side has ended the transfer")
    return chunk


async def _received_chunk(stream: Stream) -> bytes:
    parts = []
    while True:
        part = await _received(stream)
        parts.append(part[1:])
        if part[:1] != b"\1":
            return b"".join(parts)
