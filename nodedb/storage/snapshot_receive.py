"""Receiving a snapshot into a file: in order, checked, resumable, never used half.

::

    DIR/recv_snapshots/<group>-<index>-<term>.partial
    file     slot 0:4096 | slot 1:4096 | the stream of snapshot_format
    slot     crc:4 | length:4 | MessagePack of _Progress

The slots are written in turn. A slot says how far the stream is *durable*: it is written after the
sync of what it speaks of, and becomes durable itself with the sync that follows (the last one at
once). So a crash at any point leaves one good slot, which never promises too much, and a transfer
goes on from there. What is behind it in the file is overwritten.

Syncing every ``SYNC_BYTES`` keeps each call short: to write and sync 4 MiB is what an engine's
commit costs. A full disk is met before a chunk is written (blocks are allocated ahead, and the
reserve of the store is respected): DiskFull, the file is gone, and the node lives on. A failure of
the file is no failure of the node's log or engine: SnapshotFailed, and the same.

A file system frees 100 MB in 30 ms. So large files are cut piece by piece before they are removed
(``SnapshotInbox.trim``), and a new snapshot of the same name begins in the old file.

Left to others: the transport, and the install (snapshot_install).
"""

import contextlib
import errno
import re
import struct
from collections.abc import Callable
from typing import Final
from zlib import crc32

import msgspec

from nodedb.errors import DiskFull
from nodedb.storage.engine import DISK_RESERVE_BYTES_DEFAULT
from nodedb.storage.log_file import LogDirectory, LogFile
from nodedb.storage.snapshot_format import (
    SNAPSHOT_FORMAT_VERSION,
    Chunk,
    ResumePoint,
    SnapshotCorrupted,
    SnapshotFailed,
    SnapshotOffer,
    SnapshotRefused,
    SnapshotTooNew,
)

DIRECTORY_NAME: Final = "recv_snapshots"
ORPHAN_SECONDS_DEFAULT: Final = 300.0
SYNC_BYTES: Final = 4 * 1024 * 1024
ALLOCATE_BYTES: Final = 8 * 1024 * 1024
TRIM_BYTES: Final = 16 * 1024 * 1024
"""Cut off a file at a time that is to be removed: 5 ms."""

_SLOT_BYTES: Final = 4096
_STREAM_START: Final = 2 * _SLOT_BYTES
_SLOT: Final = struct.Struct(">II")
_NAME: Final = re.compile(r"([0-9]+)-([0-9]+)-([0-9]+)\.partial")


class _Progress(msgspec.Struct, frozen=True, array_like=True):
    """What is durable of a stream. ``written_at``: seconds of the wall clock."""

    offer: SnapshotOffer
    sequence: int
    chunk_count: int
    offset: int
    running_crc: int
    is_complete: bool
    written_at: float


_progress_decoder: Final = msgspec.msgpack.Decoder(_Progress)


class SnapshotReceiver:
    """One snapshot that is being received, or waits to be installed. Made by ``SnapshotInbox``."""

    def __init__(
        self,
        directory: LogDirectory,
        file: LogFile,
        progress: _Progress,
        *,
        disk_reserve_bytes: int,
        sync_bytes: int,
        remove: Callable[[str], None],
    ) -> None:
        self._remove = remove
        self._directory = directory
        self._file = file
        self._durable = progress
        self._chunk_count = progress.chunk_count
        self._offset = progress.offset
        self._running_crc = progress.running_crc
        self._disk_reserve_bytes = disk_reserve_bytes
        self._sync_bytes = sync_bytes
        self._is_open = True
        self.used_at = progress.written_at
        self.is_installing = False
        """While it is read for an install: nothing may take its place."""

    @property
    def offer(self) -> SnapshotOffer:
        """What it is a snapshot of."""
        return self._durable.offer

    @property
    def is_open(self) -> bool:
        """False when it was closed, discarded, or has failed."""
        return self._is_open

    @property
    def is_complete(self) -> bool:
        """True when all of it is here, and durable."""
        return self._durable.is_complete

    @property
    def stream_bytes(self) -> int:
        """Bytes of the stream received so far."""
        return self._offset

    @property
    def running_crc(self) -> int:
        """CRC of the stream received so far."""
        return self._running_crc

    def accept(self, chunk: Chunk, wall_now: float) -> None:
        """Take the next chunk.

        Raises SnapshotRefused and SnapshotCorrupted with nothing changed; DiskFull and
        SnapshotFailed after the file was removed.
        """
        self._check(chunk)
        try:
            self._write(chunk.data)
            self._chunk_count += 1
            self._offset += len(chunk.data)
            self._running_crc = chunk.running_crc
            self.used_at = wall_now
            unsynced = self._offset - self._durable.offset
            if chunk.is_last or unsynced >= self._sync_bytes:
                self._sync(is_complete=chunk.is_last)
        except OSError as error:
            self.discard()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f'no room for a snapshot in "{self._directory.path}"'
                raise DiskFull(message) from error
            raise SnapshotFailed(
                f'cannot write snapshot file "{self._file.name}": {error}'
            ) from error
        except DiskFull:
            self.discard()
            raise

    def resume_point(self) -> ResumePoint:
        """Make what is here durable, and return how much that is."""
        self._check_open()
        if self._offset > self._durable.offset:
            try:
                self._sync(is_complete=False)
            except OSError as error:
                self.discard()
                raise SnapshotFailed(
                    f'cannot write snapshot file "{self._file.name}": {error}'
                ) from error
        return ResumePoint(
            self.offer.snapshot_id, self._chunk_count, self._offset, self._running_crc
        )

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the stream, fewer at its end. Raises SnapshotFailed."""
        self._check_open()
        try:
            return self._file.read(_STREAM_START + offset, min(length, self._offset - offset))
        except OSError as error:
            raise SnapshotFailed(
                f'cannot read snapshot file "{self._file.name}": {error}'
            ) from error

    def close(self) -> None:
        """Close the file, and keep it: the transfer may be resumed."""
        if self._is_open:
            self._is_open = False
            self._file.close()

    def discard(self) -> None:
        """Close and remove the file, a large one in steps (``SnapshotInbox.trim``)."""
        if self._is_open:
            self.close()
            self._remove(self._file.name)

    def _check_open(self) -> None:
        if not self._is_open:
            raise SnapshotRefused("this transfer of a snapshot was given up")

    def _check(self, chunk: Chunk) -> None:
        self._check_open()
        if chunk.snapshot_id != self.offer.snapshot_id:
            raise SnapshotRefused("the chunk is of another snapshot")
        if self.is_complete:
            raise SnapshotRefused("the snapshot is complete")
        if chunk.number != self._chunk_count or chunk.offset != self._offset:
            raise SnapshotRefused(
                f"chunk {self._chunk_count} at offset {self._offset} is wanted, "
                f"not chunk {chunk.number} at offset {chunk.offset}"
            )
        length, limit = len(chunk.data), self.offer.chunk_bytes
        if length > limit or (length < limit and not chunk.is_last):
            raise SnapshotRefused(f"a chunk of {length} bytes in a snapshot of {limit} a chunk")
        if chunk.running_crc != crc32(chunk.data, self._running_crc):
            raise SnapshotCorrupted(f"the CRC of the stream up to chunk {chunk.number} is wrong")

    def _write(self, data: bytes) -> None:
        start = _STREAM_START + self._offset
        end = start + len(data)
        size = self._file.size()
        if end > size:
            # A little ahead of need while there is room, to the byte when there is little.
            room = self._directory.free_bytes() - self._disk_reserve_bytes
            step = min(max(end - size, ALLOCATE_BYTES), room)
            if step < end - size:
                message = (
                    f"less than {self._disk_reserve_bytes} bytes are free in "
                    f'"{self._directory.path}"'
                )
                raise DiskFull(message)
            self._file.fallocate(size, step)
        self._file.pwrite(data, start)

    def _sync(self, *, is_complete: bool) -> None:
        self._file.fdatasync()
        self._durable = _Progress(
            self.offer,
            self._durable.sequence + 1,
            self._chunk_count,
            self._offset,
            self._running_crc,
            is_complete,
            self.used_at,
        )
        _write_slot(self._file, self._durable)
        if is_complete:
            self._file.fdatasync()


class SnapshotInbox:
    """The directory of a node's snapshots that are being received."""

    def __init__(
        self,
        directory: LogDirectory,
        *,
        disk_reserve_bytes: int = DISK_RESERVE_BYTES_DEFAULT,
        orphan_seconds: float = ORPHAN_SECONDS_DEFAULT,
        sync_bytes: int = SYNC_BYTES,
    ) -> None:
        """``directory`` is ``DIRECTORY_NAME`` of the store; ``orphan_seconds``: see ``collect``."""
        self._directory = directory
        self._disk_reserve_bytes = disk_reserve_bytes
        self._orphan_seconds = orphan_seconds
        self._sync_bytes = sync_bytes
        self._active: dict[str, SnapshotReceiver] = {}
        self._doomed: list[str] = []

    def begin(
        self, offer: SnapshotOffer, *, applied_index: int, wall_now: float
    ) -> SnapshotReceiver:
        """Return the receiver for an offer, with what an earlier transfer of it has left.

        Whatever else was begun for this group is removed. ``applied_index``: of the group, here.
        Raises SnapshotTooNew, SnapshotRefused (nothing new, or one is being installed), DiskFull,
        SnapshotFailed.
        """
        if offer.format_version > SNAPSHOT_FORMAT_VERSION:
            raise SnapshotTooNew(
                f"snapshot has format {offer.format_version}, "
                f"newest known is {SNAPSHOT_FORMAT_VERSION}"
            )
        if offer.index <= applied_index:
            raise SnapshotRefused(
                f"the snapshot is of index {offer.index}, {applied_index} is applied here"
            )
        name = f"{offer.group_id}-{offer.index}-{offer.term}.partial"
        self._forget_closed()
        for other, receiver in list(self._active.items()):
            if receiver.offer.group_id != offer.group_id:
                continue
            if receiver.is_installing:
                raise SnapshotRefused(f"a snapshot of group {offer.group_id} is being installed")
            if receiver.offer == offer:
                return receiver
            del self._active[other]
            receiver.discard()
        try:
            receiver = self._open(name, offer, wall_now)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f'no room for a snapshot in "{self._directory.path}"'
                raise DiskFull(message) from error
            raise SnapshotFailed(f'cannot create snapshot file "{name}": {error}') from error
        self._active[name] = receiver
        return receiver

    def collect(self, wall_now: float) -> list[str]:
        """Remove files that nobody has written to for ``orphan_seconds``; return their names.

        Call it at start and every minute. One from the future is as old: the clock was set back.
        Files that hold nothing of use go at once.
        """
        self._forget_closed()
        removed = []
        for name in self._names():
            receiver = self._active.get(name)
            if receiver is None:
                progress = self._progress_of(name)
                age = self._orphan_seconds if progress is None else wall_now - progress.written_at
            else:
                age = 0 if receiver.is_installing else wall_now - receiver.used_at
            if abs(age) < self._orphan_seconds:
                continue
            if receiver is not None:
                del self._active[name]
                receiver.close()
            self._remove(name)
            removed.append(name)
        return removed

    def trim(self) -> bool:
        """Do one step of removing large files; True while there is more to do.

        Call it in turns of the loop after ``collect``, an install, and failed transfers.
        """
        if not self._doomed:
            return False
        name = self._doomed[0]
        try:
            file = self._directory.open(name, create=False)
            try:
                size = file.size()
                if size > TRIM_BYTES:
                    file.truncate(size - TRIM_BYTES)
                    return True
            finally:
                file.close()
            self._directory.remove(name)
        except OSError:
            pass  # It is gone, or stays an orphan that ``collect`` meets again.
        del self._doomed[0]
        return bool(self._doomed)

    def close(self) -> None:
        """Close all files and keep them."""
        for receiver in self._active.values():
            receiver.close()
        self._active.clear()

    def _forget_closed(self) -> None:
        for name in [name for name, receiver in self._active.items() if not receiver.is_open]:
            del self._active[name]

    def _names(self) -> list[str]:
        return [name for name in self._directory.names() if _NAME.fullmatch(name)]

    def _remove(self, name: str) -> None:
        if name not in self._doomed:
            self._doomed.insert(0, name)
            self.trim()

    def _open(self, name: str, offer: SnapshotOffer, wall_now: float) -> SnapshotReceiver:
        """Go on in the file of an earlier transfer, or begin one; remove the group's others."""
        for other in self._names():
            if other != name and other.startswith(f"{offer.group_id}-"):
                self._remove(other)
        is_new = name not in self._directory.names()
        if name in self._doomed:
            self._doomed.remove(name)
        file = self._directory.open(name, create=is_new)
        try:
            before = None if is_new else _read_progress(file)
            if before is not None and before.offer == offer:
                return self._receiver(file, before)
            if file.size() < _STREAM_START:
                file.fallocate(0, _STREAM_START)
            if before is None:
                # A slot may be whole and speak of bytes that are gone.
                file.pwrite(bytes(_STREAM_START), 0)
            sequence = 0 if before is None else before.sequence + 1
            progress = _Progress(offer, sequence, 0, 0, 0, is_complete=False, written_at=wall_now)
            _write_slot(file, progress)
            file.fdatasync()
            self._directory.sync()
        except OSError:
            file.close()
            self._remove(name)
            raise
        return self._receiver(file, progress)

    def _receiver(self, file: LogFile, progress: _Progress) -> SnapshotReceiver:
        return SnapshotReceiver(
            self._directory,
            file,
            progress,
            disk_reserve_bytes=self._disk_reserve_bytes,
            sync_bytes=self._sync_bytes,
            remove=self._remove,
        )

    def _progress_of(self, name: str) -> _Progress | None:
        try:
            file = self._directory.open(name, create=False)
            try:
                return _read_progress(file)
            finally:
                file.close()
        except OSError:
            return None


def _write_slot(file: LogFile, progress: _Progress) -> None:
    body = msgspec.msgpack.encode(progress)
    slot = (_SLOT.pack(crc32(body), len(body)) + body).ljust(_SLOT_BYTES, b"\0")
    assert len(slot) == _SLOT_BYTES, len(slot)
    file.pwrite(slot, progress.sequence % 2 * _SLOT_BYTES)


def _read_progress(file: LogFile) -> _Progress | None:
    """Return the newest good slot whose stream is all there; None when there is none."""
    found = []
    for start in (0, _SLOT_BYTES):
        slot = file.read(start, _SLOT_BYTES)
        if len(slot) < _SLOT.size:
            continue
        crc, length = _SLOT.unpack_from(slot)
        body = slot[_SLOT.size : _SLOT.size + length]
        if length == 0 or crc != crc32(body):
            continue
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            found.append(_progress_decoder.decode(body))
    found.sort(key=lambda progress: progress.sequence)
    if not found or file.size() < _STREAM_START + found[-1].offset:
        return None
    return found[-1]
