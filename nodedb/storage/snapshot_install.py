"""Putting a received snapshot in place of a group's state (PROTOCOL rule 63).

``slices`` loads the stream into staged spaces, a few milliseconds at a time, while the loop goes
on, reads see the old state, and the engine commits as ever. ``switch`` puts all of it in place by
one transaction, with the applied entry, synced in full. A crash before it leaves the old state (and
the file, from which it can be loaded again), after it the new one. The caller goes on in the same
turn of the loop, with nothing of the engine committed in between::

    for byte_count in load.slices(): ...     # a slice in each turn
    installed = load.switch()
    machine.reload()
    wal.reset(group, installed.index, installed.term); wal.flush()
    ... tell the leader
    while inbox.trim(): ...                  # a step in each turn: the file
    while engine.trim_dropped(): ...         # and the old state, or leave that to the commits

A crash behind ``switch`` and before the log was reset is healed by ``settle_log`` at start.

Left to others: that the group serves nothing meanwhile (rule 51), and that nobody applies to it
between the last slice and the switch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from nodedb.storage.engine import Engine, Space
from nodedb.storage.snapshot_format import (
    CONFIGURATION_KEY,
    HEADER,
    RECORD_HEADER_BYTES,
    RUN,
    TRAILER,
    SnapshotCorrupted,
    SnapshotHeader,
    SnapshotRefused,
    check_record,
    configuration_space,
    decode_header,
    decode_record_header,
    decode_run,
    decode_trailer,
    group_space_prefix,
)
from nodedb.storage.snapshot_receive import SnapshotReceiver
from nodedb.storage.wal import Wal

_READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class InstalledSnapshot:
    """What a group's state is now. ``configuration`` as it stands in the snapshot's header."""

    group_id: int
    index: int
    term: int
    configuration: bytes


class _Stream:
    """The records of a received stream, in order, with the running CRC."""

    def __init__(self, received: SnapshotReceiver) -> None:
        self._received = received
        self._buffer = b""
        self._buffer_start = 0
        self.offset = 0
        self.crc = 0

    def next_record(self) -> tuple[int, bytes, int]:
        """Return (kind, payload, CRC of the stream before this record)."""
        crc_before = self.crc
        kind, length, crc = decode_record_header(self._take(RECORD_HEADER_BYTES))
        if length > self._received.stream_bytes - self.offset:
            raise SnapshotCorrupted("a snapshot's record reaches beyond its end")
        payload = self._take(length)
        check_record(kind, payload, crc)
        return kind, payload, crc_before

    def _take(self, length: int) -> bytes:
        start = self.offset - self._buffer_start
        data = self._buffer[start : start + length]
        if len(data) < length:
            rest = max(length - len(data), _READ_BYTES)
            self._buffer = data + self._received.read(self.offset + len(data), rest)
            self._buffer_start = self.offset
            data = self._buffer[:length]
        if len(data) < length:
            raise SnapshotCorrupted("a snapshot's record is cut off")
        self.offset += length
        self.crc = crc32(data, self.crc)
        return data


class SnapshotLoad:
    """Loads one complete snapshot into an engine, and switches it in."""

    def __init__(self, engine: Engine, received: SnapshotReceiver) -> None:
        assert received.is_complete
        self._engine = engine
        self._received = received
        self._names: list[str] = []
        self._header: SnapshotHeader | None = None
        self._is_loaded = False

    def slices(self) -> Iterator[int]:
        """Load; each step yields the bytes it wrote, for the next commit's account.

        Raises SnapshotCorrupted (the file is removed), SnapshotTooNew, SnapshotFailed, MapFull and
        DiskFull (nothing is wrong with the engine): what was loaded is discarded. So it is when
        the iterator is closed early. SnapshotRefused when another load of it is under way. Other
        StorageErrors are the engine's.
        """
        received = self._received
        if received.is_installing or not received.is_open:
            raise SnapshotRefused("the snapshot is being installed already, or given up")
        received.is_installing = True
        try:
            yield from self._load()
            self._is_loaded = True
        except SnapshotCorrupted:
            received.discard()
            raise
        finally:
            if not self._is_loaded:
                self.discard()

    def discard(self) -> None:
        """Give up what was loaded; the file stays."""
        self._is_loaded = False
        self._received.is_installing = False
        self._engine.discard_staged(self._names)

    def switch(self) -> InstalledSnapshot:
        """Put it in place, durably. See the module for what follows.

        Raises SnapshotRefused, with the load discarded, when the group has come as far by itself.
        The file is removed in both cases.
        """
        header = self._header
        assert self._is_loaded
        assert header is not None
        applied_index, _ = self._engine.applied(header.group_id)
        if applied_index >= header.index:
            self.discard()
            self._received.discard()
            raise SnapshotRefused(
                f"the snapshot is of index {header.index}, {applied_index} is applied here"
            )
        self._engine.switch_staged(
            self._names, header.group_id, index=header.index, term=header.term
        )
        self._is_loaded = False
        self._received.is_installing = False
        self._received.discard()
        return InstalledSnapshot(header.group_id, header.index, header.term, header.configuration)

    def _load(self) -> Iterator[int]:
        stream = _Stream(self._received)
        header = self._read_header(stream)
        self._engine.ensure_room(self._received.stream_bytes)
        prefix = group_space_prefix(header.group_id)
        # What the group has here and not in the snapshot becomes empty.
        here = [name for name in self._engine.space_names() if name.startswith(prefix)]
        spaces: dict[str, Space] = {}
        for name in sorted({*here, *header.spaces}):
            self._names.append(name)
            spaces[name] = self._engine.stage_space(name)
        yield 0
        rows = 0
        while True:
            kind, payload, crc_before = stream.next_record()
            if kind != RUN:
                break
            number, pairs = decode_run(payload)
            if number >= len(header.spaces):
                raise SnapshotCorrupted("a run of rows is of no space")
            self._engine.ensure_room(len(payload))
            spaces[header.spaces[number]].put_many(pairs)
            rows += len(pairs)
            yield len(payload)
        if kind != TRAILER or decode_trailer(payload) != (rows, crc_before):
            raise SnapshotCorrupted("the snapshot does not hold what its trailer says")
        received = self._received
        if stream.offset != received.stream_bytes or stream.crc != received.running_crc:
            raise SnapshotCorrupted("the snapshot goes on behind its trailer")
        space = spaces.get(configuration_space(header.group_id))
        found = None if space is None else space.get(CONFIGURATION_KEY)
        if (found or b"") != header.configuration:
            raise SnapshotCorrupted("the snapshot's header has another configuration than its rows")

    def _read_header(self, stream: _Stream) -> SnapshotHeader:
        kind, payload, _ = stream.next_record()
        if kind != HEADER:
            raise SnapshotCorrupted("the snapshot does not begin with its header")
        header = self._header = decode_header(payload)
        offer = self._received.offer
        named = (header.group_id, header.index, header.term, header.snapshot_id)
        if named != (offer.group_id, offer.index, offer.term, offer.snapshot_id):
            raise SnapshotCorrupted("the snapshot is not the one that was offered")
        prefix = group_space_prefix(header.group_id)
        if not all(name.startswith(prefix) for name in header.spaces):
            raise SnapshotCorrupted("the snapshot holds spaces of another group")
        return header


def settle_log(wal: Wal, engine: Engine, group_id: int) -> bool:
    """Reset a group's log when its state is of a snapshot that the log does not know of.

    Call it at start, before the log is replayed; durable after ``wal.flush``. Returns whether the
    last step of an install was missing, and is done now. In all other cases the log holds the
    applied entry, or has it as its base (rules 57, 61).
    """
    index, term = engine.applied(group_id)
    if index == 0 or wal.term_at(group_id, index) == term:
        return False
    if index < wal.first_index(group_id) - 1:
        return False  # Entries are missing between state and log: not for us to hide.
    wal.reset(group_id, index, term)
    return True
