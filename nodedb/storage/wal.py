"""The write-ahead log: one per node, shared by all Raft groups.

Appends are collected in memory during a turn of the loop; ``flush`` makes all of them durable
with one write and one fdatasync. Nothing that depends on an append may leave the process before the
flush (PROTOCOL rule 62). It guarantees, after any crash or power loss: everything flushed is there,
in order, and of the last unfinished flush all or nothing.

Failure: a full disk is met when a segment is preallocated, raises DiskFull, and changes nothing;
the flush may be tried again, or what was appended since a ``mark`` taken back by ``discard``. Any
other failed operation poisons the log for ever, because after a failed fsync the kernel may have
forgotten the dirty pages.

Recycling (PROTOCOL rules 57, 58): ``compact`` forgets entries of a group, at most up to what the
engine has durably applied; ``recycle`` frees the oldest segments after whatever is still needed in
them was written again further on. ``compact_limit(group_id)`` is the engine's word for "durably
applied" (the commit before the last one).

Left to others: what the payloads mean, and when to flush. Layout: ``wal_format``; files and the
scan at start: ``wal_segments``.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from nodedb.errors import LogCorrupted, StorageError
from nodedb.storage.log_file import LogDirectory, LogFile
from nodedb.storage.wal_format import (
    BATCH_HEADER_BYTES,
    BLOCK_BYTES,
    COMPACT,
    COPY,
    ENTRY,
    ENTRY_BYTES_MAX,
    ENTRY_HEADER_BYTES,
    HARD_STATE,
    REMOVE,
    TRUNCATE,
    BatchHeader,
    decode_batch_header,
    decode_records,
    encode_batch,
    encode_compact,
    encode_hard_state,
    encode_remove,
    encode_segment_header,
    encode_truncate,
    is_whole,
    pack_entry_header,
    padded,
)
from nodedb.storage.wal_groups import GroupLog, GroupReplay, LogEntry, Place
from nodedb.storage.wal_segments import Batch, Segment, SegmentSet

SEGMENT_BYTES_DEFAULT: Final = 64 * 1024 * 1024
CACHE_BYTES_MAX_DEFAULT: Final = 16 * 1024 * 1024
# A segment is rewritten when at most this part of it is still needed.
_REWRITE_DIVISOR: Final = 4
# Zeros written ahead per call of ``recycle``: 2 ms here, so a new segment is ready after 1.6 s.
_FILL_BYTES: Final = 4 * 1024 * 1024
# At least the bytes of a group's hard state and base, which a rewritten segment may hold.
_GROUP_RECORDS_BYTES: Final = 64


class HardState(NamedTuple):
    """What Raft must never forget about a group. ``vote`` is 0 when none was given."""

    term: int
    vote: int
    commit: int


class SegmentInfo(NamedTuple):
    """One live segment file: ``tail`` is where its last batch ends."""

    name: str
    generation: int
    first_sequence: int
    size: int
    tail: int
    live_bytes: int


class Mark(NamedTuple):
    """How far a pending batch was filled; see ``Wal.mark``."""

    batch: Batch
    part_count: int
    byte_count: int
    record_count: int
    is_urgent: bool


class Flusher(Protocol):
    """Brings bytes to the disk. A helper process could stand behind it on slow disks."""

    def write_and_sync(self, file: LogFile, data: bytes, offset: int) -> None:
        """Return when ``data`` is durable; OSError when it may not be."""


class InlineFlusher:
    """Writes and syncs on the calling thread: about 0.1 ms, where a thread costs a GIL convoy."""

    def write_and_sync(self, file: LogFile, data: bytes, offset: int) -> None:
        """Write, then fdatasync."""
        file.pwrite(data, offset)
        file.fdatasync()


def _no_limit(group_id: int) -> int:
    del group_id
    return sys.maxsize


class Wal:
    """The log of one node. Opening it recovers what the directory holds.

    ``has_spare`` is False when the disk had no room to preallocate the next segment: time to refuse
    statements that need space, while the active segment still has some.
    """

    has_spare: bool
    _parts: list[bytes]
    _batch: Batch
    _pending_bytes: int
    _record_count: int
    _is_urgent: bool

    def __init__(
        self,
        directory: LogDirectory,
        *,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        cache_bytes_max: int = CACHE_BYTES_MAX_DEFAULT,
        compact_limit: Callable[[int], int] = _no_limit,
        flusher: Flusher | None = None,
        is_read_only: bool = False,
    ) -> None:
        """Open and recover. Raises LogCorrupted, StoreTooNew, StorageError.

        ``is_read_only`` is for looking at the log of a stopped node: nothing is written, not even a
        torn tail cut, and every method that would append raises StorageError.
        """
        self._compact_limit = compact_limit
        self._flusher: Flusher = flusher or InlineFlusher()
        self._cache_bytes_max = cache_bytes_max
        self._cached_bytes = 0
        self._failure: StorageError | None = None
        self._groups: dict[int, GroupLog] = {}
        self._touched: set[int] = set()
        self._read_cache: tuple[Batch, bytes] | None = None
        self._segments = SegmentSet(directory, segment_bytes)
        self._recover(is_read_only=is_read_only)
        self._oldest_generation = (
            self._segments.live[0].header.generation if self._segments.live else 0
        )
        self._begin_batch()
        if is_read_only:
            self._failure = StorageError("the log is open for reading only")

    # Appending

    def append_entries(self, group_id: int, entries: Sequence[LogEntry]) -> None:
        """Add entries (index, term, payload); durable after ``flush``.

        An index at or below the last one replaces it and all above; a gap is a programmer's error.
        """
        if self._failure is not None:
            raise self._failure
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = GroupLog()
        parts = self._parts
        batch = self._batch
        start = offset = self._pending_bytes
        next_index = group.last_index + 1
        cached = 0
        for index, term, payload in entries:
            if index != next_index:
                assert group.base_index < index < next_index, (group_id, index, next_index)
                self._cached_bytes += cached
                cached = 0
                self._cached_bytes -= group.drop_suffix(index)
            length = len(payload)
            assert length <= ENTRY_BYTES_MAX, length
            parts.append(pack_entry_header(ENTRY, group_id, index, term, length))
            parts.append(payload)
            group.terms.append(term)
            group.payloads.append(payload)
            group.places.append((batch, offset, length))
            batch.live_bytes += ENTRY_HEADER_BYTES + length
            offset += ENTRY_HEADER_BYTES + length
            cached += length
            next_index = index + 1
        if offset != start:
            self._pending_bytes = offset
            self._record_count += len(entries)
            self._cached_bytes += cached
            self._touched.add(group_id)
            self._is_urgent = True

    def set_hard_state(self, group_id: int, term: int, vote: int, commit: int) -> None:
        """Record term, vote (0: none) and commit index; durable after ``flush``."""
        group = self._group_for_write(group_id)
        assert group.hard_state is None or term >= group.hard_state[0], (group_id, term)
        group.hard_state = (term, vote, commit)
        group.hard_batch = self._batch
        self._add_record(encode_hard_state(group_id, term, vote, commit))

    def truncate_suffix(self, group_id: int, from_index: int) -> None:
        """Remove the entries at and above an index; durable after ``flush``."""
        group = self._group_for_write(group_id)
        if from_index > group.last_index:
            return
        self._cached_bytes -= group.drop_suffix(from_index)
        self._add_record(encode_truncate(group_id, from_index))

    def compact(self, group_id: int, upto_index: int) -> None:
        """Forget the entries up to an index (rule 57); rides along with the next flush.

        An index at or below the base does nothing.
        """
        group = self._group_for_write(group_id)
        if upto_index <= group.base_index:
            return
        limit = min(group.durable_index, self._compact_limit(group_id))
        assert upto_index <= limit, (group_id, upto_index, limit)
        term = group.terms[upto_index - group.base_index - 1]
        self._cached_bytes -= group.drop_prefix(upto_index, term)
        self._add_base(group_id, group, is_urgent=False)

    def reset(self, group_id: int, index: int, term: int) -> None:
        """Replace the whole log of a group by a snapshot's (index, term); durable after ``flush``.

        The snapshot itself must already be durable in the engine (rule 63).
        """
        group = self._group_for_write(group_id)
        assert index <= self._compact_limit(group_id), (group_id, index)
        self._cached_bytes -= group.drop_suffix(group.base_index + 1)
        self._add_record(encode_truncate(group_id, 0))
        group.base_index = group.durable_index = index
        group.base_term = term
        group.cached_from = index + 1
        self._add_base(group_id, group, is_urgent=True)

    def remove_group(self, group_id: int) -> None:
        """Forget a group whose replica has left this node; durable after ``flush``."""
        group = self._group_for_write(group_id)
        self._cached_bytes -= group.drop_suffix(group.base_index + 1)
        del self._groups[group_id]
        self._touched.discard(group_id)
        self._add_record(encode_remove(group_id))

    def mark(self) -> Mark:
        """Return how far the next flush's batch is filled, for ``discard``."""
        return Mark(
            self._batch,
            len(self._parts),
            self._pending_bytes,
            self._record_count,
            self._is_urgent,
        )

    def discard(self, mark: Mark) -> None:
        """Take back the entries appended since a mark: refused, they must never be written.

        Only entries behind the last ones may have been appended since; nothing was flushed.
        """
        batch = self._batch
        assert batch is mark.batch, "flushed since the mark"
        count = 0
        for group_id in self._touched:
            group = self._groups[group_id]
            places = group.places
            first = len(places)
            while first and places[first - 1][0] is batch:
                if places[first - 1][1] < mark.byte_count:
                    break
                first -= 1
            count += len(places) - first
            self._cached_bytes -= group.drop_suffix(group.base_index + first + 1)
        assert count == self._record_count - mark.record_count, "more than entries since the mark"
        del self._parts[mark.part_count :]
        self._pending_bytes = mark.byte_count
        self._record_count = mark.record_count
        self._is_urgent = mark.is_urgent

    @property
    def needs_flush(self) -> bool:
        """True when something was appended that somebody waits for."""
        return self._is_urgent

    @property
    def pending_bytes(self) -> int:
        """Bytes collected for the next flush."""
        return self._pending_bytes

    def flush(self) -> None:
        """Make everything appended durable, with one write and one fdatasync.

        Raises DiskFull with nothing written and everything still pending, or StorageError, after
        which the log is unusable. Does nothing when only compactions are pending.
        """
        if self._failure is not None:
            raise self._failure
        if self._is_urgent:
            self._write_batch(self._oldest_generation)

    # Reading

    def groups(self) -> list[int]:
        """Return the ids of all groups that have records, sorted."""
        return sorted(self._groups)

    def hard_state(self, group_id: int) -> HardState | None:
        """Return the newest hard state, flushed or not."""
        group = self._groups.get(group_id)
        return None if group is None or group.hard_state is None else HardState(*group.hard_state)

    def first_index(self, group_id: int) -> int:
        """Return the index of the oldest entry that is (or would be next) in the log."""
        group = self._groups.get(group_id)
        return 1 if group is None else group.base_index + 1

    def last_index(self, group_id: int) -> int:
        """Return the index of the newest entry, flushed or not; the base's when there is none."""
        group = self._groups.get(group_id)
        return 0 if group is None else group.last_index

    def durable_index(self, group_id: int) -> int:
        """Return the index up to which the group's log is fsynced."""
        group = self._groups.get(group_id)
        return 0 if group is None else group.durable_index

    def term_at(self, group_id: int, index: int) -> int | None:
        """Return an entry's term; also of the base. None when compacted or not there yet."""
        group = self._groups.get(group_id)
        if group is None:
            return 0 if index == 0 else None
        return group.term_at(index)

    def entries(
        self, group_id: int, lo: int, hi: int, bytes_max: int = sys.maxsize
    ) -> list[LogEntry]:
        """Return the entries of [lo, hi), at least one and then up to ``bytes_max`` of payload.

        All of them must be in the log. Raises LogCorrupted when one has rotted on the disk.
        """
        if lo >= hi:
            return []
        group = self._groups[group_id]
        base = group.base_index + 1
        assert base <= lo, (group_id, lo, base)
        assert hi <= group.last_index + 1, (group_id, hi, group.last_index)
        result: list[LogEntry] = []
        total = 0
        for position in range(lo - base, hi - base):
            place = group.places[position]
            total += place[2]
            if total > bytes_max and result:
                break
            payload = group.payloads[position]
            if payload is None:
                payload = self._read_entry(place)
            result.append((base + position, group.terms[position], payload))
        if self._read_cache is not None and len(self._read_cache[1]) > self._cache_bytes_max:
            self._read_cache = None
        return result

    def release_payloads(self, group_id: int, upto_index: int) -> None:
        """Drop payloads from memory that nobody will ask for soon (applied, single voter)."""
        group = self._groups.get(group_id)
        if group is not None:
            self._cached_bytes -= group.evict(upto_index)

    # Recycling

    def recycle(self) -> int:
        """Free the oldest segments that are mostly dead, and keep a spare one; return the count.

        What is still needed in them is written again in the same batch that moves the log's start
        (rule 58). Raises as ``flush`` does: DiskFull before anything was collected for that batch,
        so that flushes that fit go on. Call it after each commit of the engine.
        """
        if self._failure is not None:
            raise self._failure
        freed = 0
        live = self._segments.live
        while len(live) > 1 and self._is_worth_recycling(live[0]):
            oldest = live[0]
            self._find_room(self._rewritten_bytes_max(oldest))
            try:
                self._rewrite(oldest)
                self._write_batch(oldest.header.generation + 1)
                assert oldest.live_bytes == 0, oldest.live_bytes
                self._segments.release_oldest()
            except StorageError as error:
                self._failure = error
                raise
            freed += 1
        try:
            self.has_spare = self._segments.ensure_spare()
            self._segments.fill_spare(_FILL_BYTES)
        except StorageError as error:
            self._failure = error
            raise
        return freed

    def segments(self) -> list[SegmentInfo]:
        """Return the segment files that hold the log, oldest first."""
        return [
            SegmentInfo(
                segment.file.name,
                segment.header.generation,
                segment.header.first_sequence,
                segment.size,
                segment.tail,
                segment.live_bytes,
            )
            for segment in self._segments.live
        ]

    def disk_bytes(self) -> int:
        """Return the disk space of all segment files."""
        return self._segments.total_bytes()

    def cached_bytes(self) -> int:
        """Return the bytes of entry payloads held in memory."""
        return self._cached_bytes

    def close(self) -> None:
        """Close the files. What was not flushed is lost."""
        self._segments.close()
        self._failure = self._failure or StorageError("the log is closed")

    # Inside

    def _begin_batch(self) -> None:
        self._parts = []
        self._batch = Batch()
        self._pending_bytes = 0
        self._record_count = 0
        self._is_urgent = False

    def _group_for_write(self, group_id: int) -> GroupLog:
        if self._failure is not None:
            raise self._failure
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = GroupLog()
        return group

    def _add_record(self, record: bytes, *, is_urgent: bool = True) -> None:
        self._parts.append(record)
        self._pending_bytes += len(record)
        self._record_count += 1
        self._is_urgent = self._is_urgent or is_urgent

    def _add_base(self, group_id: int, group: GroupLog, *, is_urgent: bool) -> None:
        group.base_batch = self._batch
        record = encode_compact(group_id, group.base_index, group.base_term)
        self._add_record(record, is_urgent=is_urgent)

    def _write_batch(self, oldest_generation: int) -> None:
        """Frame and write what is pending, even when it is nothing; the log starts as told.

        The new start stands in the batch only, never in the header of a segment that this batch
        opens: the header may survive a power loss alone, and then the copies are lost.
        """
        segments = self._segments
        segment = self._find_room(self._pending_bytes)
        is_new = segment.tail == 0
        oldest_generation = oldest_generation or segment.header.generation
        header = segment.header._replace(oldest_generation=oldest_generation)
        opening = encode_segment_header(segment.header) if is_new else b""
        data = encode_batch(
            header, segments.next_sequence, self._parts, self._record_count, opening
        )
        try:
            self._flusher.write_and_sync(segment.file, data, segment.tail)
        except OSError as error:
            message = f'write or fsync of log file "{segment.file.name}" failed: {error}'
            self._failure = StorageError(message)
            raise self._failure from error
        self._batch_is_durable(segment, segment.tail + BLOCK_BYTES if is_new else segment.tail)
        segment.tail += len(data)
        segments.next_sequence += 1
        self._oldest_generation = oldest_generation
        self._begin_batch()
        if self._cached_bytes > self._cache_bytes_max:
            self._shrink_cache()

    def _find_room(self, payload_bytes: int) -> Segment:
        """Return the segment for a batch; an opened one stays empty until a batch is written."""
        total = padded(BATCH_HEADER_BYTES + payload_bytes)
        try:
            return self._segments.room_for(total, self._oldest_generation)
        except StorageError as error:
            # A full disk left everything as it was; anything else did not.
            if type(error) is StorageError:
                self._failure = error
            raise

    def _batch_is_durable(self, segment: Segment, offset: int) -> None:
        batch = self._batch
        batch.segment = segment
        batch.offset = offset
        batch.payload_bytes = self._pending_bytes
        segment.live_bytes += batch.live_bytes
        for group_id in self._touched:
            group = self._groups[group_id]
            group.durable_index = group.last_index
        self._touched.clear()

    def _shrink_cache(self) -> None:
        """Halve every group's cached payloads, oldest first, until three quarters fit."""
        target = self._cache_bytes_max * 3 // 4
        while self._cached_bytes > target:
            freed = 0
            for group in self._groups.values():
                middle = (group.cached_from + group.last_index) // 2
                freed += group.evict(middle)
            self._cached_bytes -= freed
            if not freed:
                break

    def _read_entry(self, place: Place) -> bytes:
        batch, offset, length = place
        if self._read_cache is None or self._read_cache[0] is not batch:
            self._read_cache = (batch, self._read_batch(batch))
        start = offset + ENTRY_HEADER_BYTES
        return self._read_cache[1][start : start + length]

    def _read_batch(self, batch: Batch) -> bytes:
        """Read a batch back and check its CRC: a rotten entry must not reach a follower."""
        segment = batch.segment
        assert segment is not None, "payload of an unflushed entry is in memory"
        try:
            data = segment.file.read(batch.offset, BATCH_HEADER_BYTES + batch.payload_bytes)
        except OSError as error:
            message = f'cannot read log file "{segment.file.name}": {error}'
            raise StorageError(message) from error
        header = decode_batch_header(data)
        if (
            header is None
            or header.generation != segment.header.generation
            or not is_whole(header, memoryview(data), 0)
        ):
            raise LogCorrupted(
                segment.file.name, batch.offset, "batch changed after it was written"
            )
        return data[BATCH_HEADER_BYTES:]

    def _is_worth_recycling(self, oldest: Segment) -> bool:
        """Rewriting must cost little, or the log must be mostly dead, so that copying pays off."""
        if oldest.live_bytes <= self._segments.segment_bytes // _REWRITE_DIVISOR:
            return True
        live = sum(segment.live_bytes for segment in self._segments.live)
        used = sum(segment.tail for segment in self._segments.live)
        return live * 2 <= used

    def _rewritten_bytes_max(self, oldest: Segment) -> int:
        """Return a bound for the batch that frees a segment."""
        groups = len(self._groups) * _GROUP_RECORDS_BYTES
        return self._pending_bytes + oldest.live_bytes + groups

    def _rewrite(self, oldest: Segment) -> None:
        """Append again whatever is still needed in a segment."""
        for group_id, group in self._groups.items():
            hard_batch = group.hard_batch
            if hard_batch is not None and hard_batch.segment is oldest and group.hard_state:
                self._add_record(encode_hard_state(group_id, *group.hard_state))
                group.hard_batch = self._batch
            if group.base_batch is not None and group.base_batch.segment is oldest:
                self._add_base(group_id, group, is_urgent=True)
            if oldest.live_bytes:
                self._rewrite_entries(group_id, group, oldest)

    def _rewrite_entries(self, group_id: int, group: GroupLog, oldest: Segment) -> None:
        first = group.base_index + 1
        for position, place in enumerate(group.places):
            if place[0].segment is not oldest:
                continue
            payload = group.payloads[position]
            if payload is None:
                payload = self._read_entry(place)
                group.payloads[position] = payload
                group.cached_from = min(group.cached_from, first + position)
                self._cached_bytes += len(payload)
            index, length = first + position, place[2]
            size = ENTRY_HEADER_BYTES + length
            oldest.live_bytes -= size
            self._batch.live_bytes += size
            group.places[position] = (self._batch, self._pending_bytes, length)
            header = pack_entry_header(COPY, group_id, index, group.terms[position], length)
            self._parts.append(header)
            self._parts.append(payload)
            self._pending_bytes += size
            self._record_count += 1
            self._is_urgent = True

    def _recover(self, *, is_read_only: bool) -> None:
        replays: dict[int, GroupReplay] = {}

        def on_batch(
            segment: Segment, header: BatchHeader, offset: int, payload: memoryview
        ) -> None:
            batch = Batch()
            batch.segment = segment
            batch.offset = offset
            batch.payload_bytes = header.payload_bytes
            _replay_batch(replays, batch, payload)

        self._segments.recover(on_batch, is_read_only=is_read_only)
        if not is_read_only and not self._segments.live and self._segments.ensure_spare():
            self._segments.fill_spare(self._segments.segment_bytes)
        self.has_spare = bool(self._segments.free)
        for group_id in sorted(replays):
            try:
                self._groups[group_id] = replays[group_id].finish()
            except ValueError as error:
                oldest = self._segments.live[0]
                reason = f"group {group_id}: {error}"
                raise LogCorrupted(oldest.file.name, 0, reason) from error


def _replay_batch(replays: dict[int, GroupReplay], batch: Batch, payload: memoryview) -> None:
    for record in decode_records(payload):
        kind = record.kind
        replay = replays.get(record.group_id)
        if replay is None:
            replay = replays[record.group_id] = GroupReplay()
        if kind == ENTRY:
            replay.on_entry(record.first, record.second, (batch, record.offset, record.length))
        elif kind == COPY:
            replay.on_copy(record.first, record.second, (batch, record.offset, record.length))
        elif kind == HARD_STATE:
            replay.on_hard_state((record.first, record.second, record.third), batch)
        elif kind == TRUNCATE:
            replay.on_truncate(record.first)
        elif kind == COMPACT:
            replay.on_compact(record.first, record.second, batch)
        else:
            assert kind == REMOVE, kind
            del replays[record.group_id]
