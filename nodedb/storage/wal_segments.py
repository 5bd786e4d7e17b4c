"""The segment files of the write-ahead log: preallocation, recycling, and the scan at start.

A segment is *live* (part of the log), or *free* (preallocated, waiting to be used again). The log
runs through the live ones in order of generation. A batch never spans segments: one that does not
fit into the rest of a segment goes to the next, and one larger than a whole segment gets a file of
its own size, which is removed instead of recycled when it dies.

What the scan at start relies on:

* Generations are contiguous, and so are the sequence numbers of batches, across segments.
* At most one batch was not durable when the process died, so behind a torn batch stands no whole
  one; if one does, the torn one was acknowledged and has rotted since (PROTOCOL rule 60).
* The header of a new segment is written together with its first batch. When only the batch
  survived, it identifies the segment by itself: header fields are repeated in every batch.
* What the page cache shows after a kill -9, or after a failed fsync, need not be on the disk. So
  the last batch is written and synced again before anything in the log is believed.
"""

import errno
import re
from collections.abc import Callable
from typing import Final

from nodedb.errors import DiskFull, LogCorrupted, StorageError, StoreTooNew
from nodedb.storage.log_file import LogDirectory, LogFile
from nodedb.storage.wal_format import (
    BATCH_HEADER_BYTES,
    BLOCK_BYTES,
    FORMAT_VERSION,
    BatchHeader,
    SegmentHeader,
    decode_batch_header,
    decode_segment_header,
    encode_segment_header,
    is_whole,
    padded,
)

SPARE_SEGMENTS_MAX: Final = 4
_NAME: Final = re.compile(r"([0-9]{8})\.wal")
_EMPTY_BLOCK: Final = bytes(BLOCK_BYTES)


class Segment:
    """One segment file. ``tail``: where the next batch goes; ``live_bytes``: still needed.

    ``written_bytes``: from its start, how much has ever been written; the rest is only allocated.
    """

    __slots__ = ("file", "header", "live_bytes", "size", "tail", "written_bytes")

    def __init__(self, file: LogFile, size: int, header: SegmentHeader, tail: int) -> None:
        self.file = file
        self.size = size
        self.header = header
        self.tail = tail
        self.live_bytes = 0
        self.written_bytes = size


class Batch:
    """Where one batch stands; entries refer to it. ``segment`` is None until it is flushed."""

    __slots__ = ("live_bytes", "offset", "payload_bytes", "segment")

    def __init__(self) -> None:
        self.segment: Segment | None = None
        self.offset = 0
        self.payload_bytes = 0
        self.live_bytes = 0


_FREE: Final = SegmentHeader(0, 0, 0, 0)
OnBatch = Callable[[Segment, BatchHeader, int, memoryview], None]


class SegmentSet:
    """All segment files of one log."""

    def __init__(self, directory: LogDirectory, segment_bytes: int) -> None:
        assert segment_bytes >= 4 * BLOCK_BYTES, segment_bytes
        assert segment_bytes % BLOCK_BYTES == 0, segment_bytes
        self.directory = directory
        self.segment_bytes = segment_bytes
        self.live: list[Segment] = []
        self.free: list[Segment] = []
        self.next_sequence = 1
        self._newest_generation = 0
        self._next_slot = 1

    def room_for(self, total_bytes: int, oldest_generation: int) -> Segment:
        """Return the segment that takes a batch of ``total_bytes``, opening the next when needed.

        Raises DiskFull with nothing changed. Any other failure is a StorageError.
        """
        if self.live:
            active = self.live[-1]
            # Tail 0: opened, but nothing was written; its header block comes first.
            if (active.tail or BLOCK_BYTES) + total_bytes <= active.size:
                return active
            if active.tail == 0:
                # It was never written, so the scan at start would miss its generation.
                self._newest_generation -= 1
                self._retire(self.live.pop())
        needed = BLOCK_BYTES + total_bytes
        if needed <= self.segment_bytes:
            segment = self.free.pop() if self.free else self._create(self.segment_bytes)
        else:
            segment = self._create(needed)
        self._newest_generation += 1
        salt = self.directory.salt()
        segment.header = SegmentHeader(
            self._newest_generation,
            self.next_sequence,
            oldest_generation or self._newest_generation,
            salt,
        )
        # Offset 0 means that the header block is still to be written, in front of the first batch.
        segment.tail = 0
        segment.live_bytes = 0
        self.live.append(segment)
        return segment

    def ensure_spare(self) -> bool:
        """Preallocate one free segment, so that the next flush cannot meet a full disk.

        Returns False when the disk has no room for it. Other failures are StorageErrors.
        """
        if not self.free:
            try:
                self.free.append(self._create(self.segment_bytes))
            except DiskFull:
                return False
        return True

    def fill_spare(self, byte_count: int) -> None:
        """Write zeros into free segments that were never written, at most ``byte_count`` bytes.

        The first write to an allocated block costs the file system a journal entry per fsync.
        """
        for segment in self.free:
            length = min(byte_count, segment.size - segment.written_bytes)
            if length > 0:
                try:
                    segment.file.pwrite(bytes(length), segment.written_bytes)
                    segment.file.fdatasync()
                except OSError as error:
                    message = f'cannot write log segment "{segment.file.name}": {error}'
                    raise StorageError(message) from error
                segment.written_bytes += length
                return

    def release_oldest(self) -> None:
        """Free the oldest live segment; a durable batch already says that the log starts later."""
        self._retire(self.live.pop(0))

    def _retire(self, segment: Segment) -> None:
        """Keep a dead segment for later use, or remove it."""
        if segment.size == self.segment_bytes and len(self.free) < SPARE_SEGMENTS_MAX:
            self.free.append(segment)
        else:
            self._remove(segment.file)

    def total_bytes(self) -> int:
        """Return the disk space of live and free segments."""
        return sum(segment.size for segment in (*self.live, *self.free))

    def close(self) -> None:
        """Close all files."""
        for segment in (*self.live, *self.free):
            segment.file.close()
        self.live = []
        self.free = []

    def _create(self, size: int) -> Segment:
        name = f"{self._next_slot:08d}.wal"
        self._next_slot += 1
        file: LogFile | None = None
        try:
            file = self.directory.open(name, create=True)
            file.fallocate(0, size)
            file.fdatasync()
            self.directory.sync()
        except OSError as error:
            if file is not None:
                self._remove(file)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f'no room for a log segment of {size} bytes in "{self.directory.path}"'
                raise DiskFull(message) from error
            message = f'cannot create log segment "{name}" in "{self.directory.path}": {error}'
            raise StorageError(message) from error
        segment = Segment(file, size, _FREE, 0)
        segment.written_bytes = 0
        return segment

    def _remove(self, file: LogFile) -> None:
        file.close()
        try:
            self.directory.remove(file.name)
        except OSError as error:
            message = f'cannot remove log segment "{file.name}": {error}'
            raise StorageError(message) from error

    # The scan at start

    def recover(self, on_batch: OnBatch, *, is_read_only: bool = False) -> None:
        """Find the log in the directory's files, cut its torn tail, and make the rest durable.

        With ``is_read_only`` nothing is written: what is found may not be on the disk, and a torn
        tail stays. ``on_batch(segment, header, offset, payload)`` is called for every whole batch
        in order. Raises LogCorrupted, StoreTooNew, or StorageError when a file cannot be read or
        written.
        """
        try:
            self._recover(on_batch, is_read_only=is_read_only)
        except OSError as error:
            message = f'cannot read the log in "{self.directory.path}": {error}'
            raise StorageError(message) from error

    def _recover(self, on_batch: OnBatch, *, is_read_only: bool) -> None:
        found = self._open_files()
        live, free = self._find_run(found)
        self.live = live
        for position, segment in enumerate(live):
            if position and segment.header.first_sequence != self.next_sequence:
                before = live[position - 1]
                reason = f"batch {self.next_sequence} is missing"
                raise LogCorrupted(before.file.name, before.tail, reason)
            self.next_sequence = segment.header.first_sequence
            data, last_batch = self._replay(segment, on_batch)
            if segment is live[-1]:
                self._check_tail(segment, data)
                if not is_read_only:
                    self._settle_tail(segment, data, last_batch)
        if live:
            self._newest_generation = live[-1].header.generation
        if is_read_only:
            self.free = free
        else:
            self._reuse_or_remove(free)

    def _open_files(self) -> list[Segment]:
        segments = []
        for name in self.directory.names():
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            self._next_slot = max(self._next_slot, int(match[1]) + 1)
            file = self.directory.open(name, create=False)
            size = file.size()
            segments.append(Segment(file, size, _identify(file), BLOCK_BYTES))
        return segments

    def _find_run(self, found: list[Segment]) -> tuple[list[Segment], list[Segment]]:
        """Split into the live segments in order, and the free ones."""
        used = sorted(
            (segment for segment in found if segment.header.generation),
            key=lambda segment: segment.header.generation,
        )
        if not used:
            return [], found
        start = _log_start(used[-1])
        live = [segment for segment in used if segment.header.generation >= start]
        for expected, segment in enumerate(live, start):
            if segment.header.generation != expected:
                reason = f"generation {expected} of the log is missing before this file"
                raise LogCorrupted(segment.file.name, 0, reason)
        free = [segment for segment in found if segment.header.generation < start]
        return live, free

    def _replay(self, segment: Segment, on_batch: OnBatch) -> tuple[memoryview, int]:
        """Hand out a segment's batches; return its bytes and where the last batch stands (0: none).

        The first bad batch is where its tail is.
        """
        data = memoryview(segment.file.read(0, segment.size))
        offset = BLOCK_BYTES
        last_batch = 0
        while True:
            header = _matching_header(data, offset, segment.header)
            if (
                header is None
                or header.sequence != self.next_sequence
                or not is_whole(header, data, offset)
            ):
                break
            start = offset + BATCH_HEADER_BYTES
            try:
                on_batch(segment, header, offset, data[start : start + header.payload_bytes])
            except ValueError as error:
                raise LogCorrupted(segment.file.name, offset, str(error)) from error
            last_batch = offset
            offset += header.total_bytes
            self.next_sequence += 1
        segment.tail = offset
        return data, last_batch

    def _check_tail(self, segment: Segment, data: memoryview) -> None:
        """Raise LogCorrupted when a whole batch stands behind the bad one at the log's end."""
        later = _find_later_batch(data, segment.tail, segment.header, self.next_sequence)
        if later is not None:
            reason = f"batch {self.next_sequence} is bad, but a later one at {later} is whole"
            raise LogCorrupted(segment.file.name, segment.tail, reason)

    def _settle_tail(self, segment: Segment, data: memoryview, last_batch: int) -> None:
        """Invalidate what is behind the tail, and write header and last batch once more."""
        file = segment.file
        file.pwrite(encode_segment_header(segment.header), 0)
        if last_batch:
            file.pwrite(bytes(data[last_batch : segment.tail]), last_batch)
        if segment.tail + BLOCK_BYTES <= segment.size:
            file.pwrite(_EMPTY_BLOCK, segment.tail)
        for live in self.live:
            live.file.fdatasync()
        self.directory.sync()

    def _reuse_or_remove(self, free: list[Segment]) -> None:
        for segment in free:
            if segment.size != self.segment_bytes or len(self.free) >= SPARE_SEGMENTS_MAX:
                self._remove(segment.file)
                continue
            segment.file.pwrite(_EMPTY_BLOCK * 2, 0)
            segment.file.fdatasync()
            segment.header = _FREE
            self.free.append(segment)


def _identify(file: LogFile) -> SegmentHeader:
    """Return what a file is part of; generation 0 when it holds no part of the log."""
    decoded = decode_segment_header(file.read(0, BLOCK_BYTES))
    header = _FREE
    if decoded is not None:
        version, header = decoded
        if version > FORMAT_VERSION:
            message = (
                f'log file "{file.name}" has format {version}, newest known is {FORMAT_VERSION}'
            )
            raise StoreTooNew(message)
    batch = decode_batch_header(file.read(BLOCK_BYTES, BATCH_HEADER_BYTES))
    if batch is None or batch.generation <= header.generation:
        return header
    # The header block was lost or is the one of the file's former life; the batch knows better.
    data = memoryview(file.read(BLOCK_BYTES, BATCH_HEADER_BYTES + batch.payload_bytes))
    if not is_whole(batch, data, 0):
        return header
    return SegmentHeader(batch.generation, batch.sequence, batch.oldest_generation, batch.salt)


def _matching_header(data: memoryview, offset: int, segment: SegmentHeader) -> BatchHeader | None:
    header = decode_batch_header(data, offset)
    if header is None or header.generation != segment.generation or header.salt != segment.salt:
        return None
    return header


def _log_start(newest: Segment) -> int:
    """Return the oldest generation that is alive, as the newest whole batch says."""
    data = memoryview(newest.file.read(0, newest.size))
    start = newest.header.oldest_generation
    offset = BLOCK_BYTES
    sequence = newest.header.first_sequence
    while True:
        header = _matching_header(data, offset, newest.header)
        if header is None or header.sequence != sequence or not is_whole(header, data, offset):
            return start
        start = header.oldest_generation
        offset += header.total_bytes
        sequence += 1


def _find_later_batch(
    data: memoryview, offset: int, segment: SegmentHeader, sequence: int
) -> int | None:
    """Return the offset of a whole batch behind a bad place, looking at every block boundary."""
    for candidate in range(padded(offset) + BLOCK_BYTES, len(data), BLOCK_BYTES):
        header = _matching_header(data, candidate, segment)
        if header is not None and header.sequence > sequence and is_whole(header, data, candidate):
            return candidate
    return None
