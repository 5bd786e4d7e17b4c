"""Reading a group's applied state as a snapshot: the sending side.

A snapshot is what one committed read transaction of the engine shows, and so stands still while the
loop writes and commits on. Opening one commits first, so it is at the newest applied entry. All
that apply touches is in the group's spaces, and all of them travel (PROTOCOL rule 64).

The read transaction lives across turns of the loop, which nothing else in this node may have: it
keeps every page that is freed meanwhile from being reused, so it ends after ``age_seconds_max``,
or ``idle_seconds_max`` after the last chunk was asked for. Between them a transfer whose connection
was cut goes on where it stopped. No cursor is kept: each run of rows is sought by key.

One call reads one chunk, a few milliseconds. Any chunk up to the one behind the newest may be asked
for, any number of times, so several receivers may share a reader.

Left to others: when to send a snapshot, to keep the log behind its index until the receiver has it,
and the transport.
"""

from collections.abc import Callable
from typing import Final, NamedTuple
from zlib import crc32

from nodedb.storage.engine import SNAPSHOT_CHUNK_BYTES, Engine, Snapshot
from nodedb.storage.snapshot_format import (
    CHUNK_BYTES_DEFAULT,
    CHUNK_BYTES_MIN,
    CONFIGURATION_KEY,
    RUN_BYTES,
    RUN_ROWS,
    SNAPSHOT_FORMAT_VERSION,
    Chunk,
    ResumePoint,
    SnapshotExpired,
    SnapshotHeader,
    SnapshotOffer,
    SnapshotRefused,
    configuration_space,
    encode_header,
    encode_run,
    encode_trailer,
    group_space_prefix,
)

AGE_SECONDS_MAX_DEFAULT: Final = 900.0
IDLE_SECONDS_MAX_DEFAULT: Final = 60.0
_FIRST_KEY: Final = b"\0"
_HEADER_PLACE: Final = -1


class _Place(NamedTuple):
    """Where a chunk begins: in which record, and how much of that belongs to chunks before.

    ``space``: number of the space; ``_HEADER_PLACE`` the header, behind the last the trailer.
    ``rows``: rows before the record. ``record_crc``: CRC of the stream up to the record.
    """

    space: int
    start: bytes
    rows: int
    record_crc: int
    skip: int


class _Record(NamedTuple):
    """A record of the stream. ``following`` is None behind the trailer."""

    data: bytes
    following: _Place | None


class SnapshotReader:
    """One snapshot of one group, read chunk by chunk. Close it."""

    def __init__(
        self,
        engine: Engine,
        group_id: int,
        *,
        snapshot_id: int,
        now: float,
        chunk_bytes: int = CHUNK_BYTES_DEFAULT,
        age_seconds_max: float = AGE_SECONDS_MAX_DEFAULT,
        idle_seconds_max: float = IDLE_SECONDS_MAX_DEFAULT,
    ) -> None:
        """Commit, and open the committed state. ``snapshot_id``: 64 random bits.

        Only between two entries that are applied. The moments of all calls (``now``) are seconds
        of one monotonic clock. Raises StorageError.
        """
        assert CHUNK_BYTES_MIN <= chunk_bytes <= SNAPSHOT_CHUNK_BYTES, chunk_bytes
        self._snapshot: Snapshot | None = engine.read_snapshot()
        snapshot = self._snapshot
        index, term = snapshot.applied(group_id)
        prefix = group_space_prefix(group_id)
        self._spaces = [name for name in snapshot.space_names() if name.startswith(prefix)]
        wanted = snapshot.take(configuration_space(group_id), CONFIGURATION_KEY, 1, 1)
        self.header = SnapshotHeader(
            group_id,
            index,
            term,
            snapshot_id,
            wanted[0][1] if wanted and wanted[0][0] == CONFIGURATION_KEY else b"",
            tuple(self._spaces),
        )
        self.offer = SnapshotOffer(
            SNAPSHOT_FORMAT_VERSION, group_id, index, term, snapshot_id, chunk_bytes
        )
        self._chunk_bytes = chunk_bytes
        self._expires_at = now + age_seconds_max
        self._idle_seconds_max = idle_seconds_max
        self._used_at = now
        # Where each chunk begins, and the running CRC there.
        self._places: list[_Place] = [_Place(_HEADER_PLACE, _FIRST_KEY, 0, 0, 0)]
        self._crcs: list[int] = [0]
        self._last_record: tuple[_Place, _Record] | None = None
        self._chunk_count: int | None = None

    @property
    def chunk_count(self) -> int | None:
        """How many chunks there are; None before the last one has been read."""
        return self._chunk_count

    def is_expired(self, now: float) -> bool:
        """Tell whether it is closed, too old, or was left alone for too long."""
        return (
            self._snapshot is None
            or now >= self._expires_at
            or now >= self._used_at + self._idle_seconds_max
        )

    def resume(self, point: ResumePoint) -> int:
        """Return the number of the chunk to go on with; ``chunk_count`` when all is there.

        Raises SnapshotRefused, with the reader closed, when the receiver has other bytes than this
        stream's: the next reader is another stream, which it begins anew.
        """
        number = point.chunk_count
        has_all = number == self._chunk_count
        if point.snapshot_id == self.header.snapshot_id and (
            number == 0
            or (
                0 < number < len(self._crcs)
                and point.running_crc == self._crcs[number]
                and (has_all or point.offset == number * self._chunk_bytes)
            )
        ):
            return number
        self.close()
        raise SnapshotRefused("the receiver has other bytes than this snapshot's")

    def chunk(self, number: int, now: float) -> Chunk:
        """Return a chunk, at most the one behind the newest read.

        Raises SnapshotExpired (the reader is then closed), StorageError.
        """
        if self.is_expired(now):
            self.close()
            raise SnapshotExpired("the snapshot was open for too long, or not read from")
        self._used_at = now
        place: _Place | None = self._places[number]
        running = self._crcs[number]
        parts: list[bytes] = []
        room = self._chunk_bytes
        while place is not None and room:
            record = self._read(place)
            part = record.data[place.skip : place.skip + room]
            parts.append(part)
            running = crc32(part, running)
            room -= len(part)
            end = place.skip + len(part)
            place = place._replace(skip=end) if end < len(record.data) else record.following
            if end == len(record.data) and place is not None:
                place = place._replace(record_crc=running)
        if number == len(self._places) - 1:
            self._crcs.append(running)
            if place is None:
                self._chunk_count = number + 1
            else:
                self._places.append(place)
        return Chunk(
            self.header.snapshot_id,
            number,
            number * self._chunk_bytes,
            running,
            place is None,
            b"".join(parts),
        )

    def close(self) -> None:
        """End the read transaction."""
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None
            self._last_record = None

    def _read(self, place: _Place) -> _Record:
        """Return the record at a place; the one that a chunk's end has cut is still there."""
        key = place._replace(skip=0)
        if self._last_record is not None and self._last_record[0] == key:
            return self._last_record[1]
        record = self._make(key)
        self._last_record = (key, record)
        return record

    def _make(self, place: _Place) -> _Record:
        assert self._snapshot is not None
        number, start, rows, crc, _ = place
        if number == _HEADER_PLACE:
            return _Record(encode_header(self.header), _Place(0, _FIRST_KEY, 0, 0, 0))
        while number < len(self._spaces):
            pairs = self._snapshot.take(self._spaces[number], start, RUN_ROWS, RUN_BYTES)
            if pairs:
                following = _Place(number, pairs[-1][0] + b"\0", rows + len(pairs), 0, 0)
                return _Record(encode_run(number, pairs), following)
            number += 1
            start = _FIRST_KEY
        return _Record(encode_trailer(rows, crc), None)


class SnapshotSources:
    """The open readers of a node: one for each group, shared, and closed in time."""

    def __init__(
        self,
        engine: Engine,
        new_id: Callable[[], int],
        *,
        chunk_bytes: int = CHUNK_BYTES_DEFAULT,
        age_seconds_max: float = AGE_SECONDS_MAX_DEFAULT,
        idle_seconds_max: float = IDLE_SECONDS_MAX_DEFAULT,
    ) -> None:
        """``new_id`` gives 64 random bits."""
        self._engine = engine
        self._new_id = new_id
        self._chunk_bytes = chunk_bytes
        self._age_seconds_max = age_seconds_max
        self._idle_seconds_max = idle_seconds_max
        self._readers: dict[int, SnapshotReader] = {}

    def open(self, group_id: int, *, index_min: int, now: float) -> SnapshotReader:
        """Return the group's open snapshot if it is at ``index_min`` or newer, else a new one.

        An older one is closed: who still reads it gets SnapshotExpired, and asks again.
        """
        reader = self._readers.get(group_id)
        if reader is not None:
            if reader.header.index >= index_min and not reader.is_expired(now):
                return reader
            reader.close()
        reader = SnapshotReader(
            self._engine,
            group_id,
            snapshot_id=self._new_id(),
            now=now,
            chunk_bytes=self._chunk_bytes,
            age_seconds_max=self._age_seconds_max,
            idle_seconds_max=self._idle_seconds_max,
        )
        self._readers[group_id] = reader
        return reader

    def index_pinned(self, group_id: int) -> int | None:
        """Return the index of the open snapshot: log entries behind it are still wanted."""
        reader = self._readers.get(group_id)
        return None if reader is None else reader.header.index

    def collect(self, now: float) -> None:
        """Close what is too old or was left alone; call it every few seconds."""
        for group_id, reader in list(self._readers.items()):
            if reader.is_expired(now):
                reader.close()
                del self._readers[group_id]

    def close(self) -> None:
        """Close all of them."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
