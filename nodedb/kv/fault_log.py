"""The log's files as a crash test sees them: with places to die at in the middle of operations.

``FaultFlusher`` cuts the write of a batch in pieces; ``FaultDirectory`` and its files pass a place
at whatever else the log does to the disk. Both only forward to the real thing.
"""

import errno
import os
from typing import Final

from nodedb.kv.fault_points import PassPlace, Place
from nodedb.storage.log_file import LogDirectory, LogFile

_HEADER_PIECE_BYTES: Final = 24


class FaultFile:
    """A file of a ``FaultDirectory``. Implements ``LogFile``."""

    def __init__(self, real: LogFile, directory: "FaultDirectory") -> None:
        self.real = real
        self.name = real.name
        self._directory = directory

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write in two halves: zeros of a spare segment, or at start the tail once more."""
        half = len(data) // 2
        self.real.pwrite(data[:half], offset)
        self._directory.pass_one_of(Place.RECYCLE_FILL, Place.RECOVERY_WRITE)
        self.real.pwrite(data[half:], offset + half)

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        return self.real.read(offset, length)

    def fdatasync(self) -> None:
        """Sync."""
        self._directory.pass_one_of(None, Place.RECOVERY_SYNC)
        self.real.fdatasync()

    def fallocate(self, offset: int, length: int) -> None:
        """Allocate."""
        if self._directory.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real.fallocate(offset, length)
        self._directory.pass_one_of(Place.RECYCLE_ALLOCATE, None)

    def truncate(self, length: int) -> None:
        """Cut."""
        self.real.truncate(length)

    def size(self) -> int:
        """Return the size."""
        return self.real.size()

    def close(self) -> None:
        """Close."""
        self.real.close()


class FaultDirectory:
    """The log's directory. Implements ``LogDirectory``.

    ``is_recovering`` until its owner has opened the log: then what is done belongs to that phase.
    """

    def __init__(self, real: LogDirectory, pass_place: PassPlace) -> None:
        self.real = real
        self.path = real.path
        self.is_recovering = True
        self.is_full = False
        """The disk has no room for anything new."""
        self._pass = pass_place

    def pass_one_of(self, running: Place | None, recovering: Place | None) -> None:
        """Pass the place of the current phase, if it has one."""
        place = recovering if self.is_recovering else running
        if place is not None:
            self._pass(place)

    def names(self) -> list[str]:
        """List."""
        return self.real.names()

    def open(self, name: str, *, create: bool) -> FaultFile:
        """Open or create."""
        file = FaultFile(self.real.open(name, create=create), self)
        if create:
            self.pass_one_of(Place.RECYCLE_CREATE, None)
        return file

    def remove(self, name: str) -> None:
        """Remove."""
        self.pass_one_of(Place.RECYCLE_BEFORE_REMOVE, None)
        self.real.remove(name)
        self.pass_one_of(Place.RECYCLE_AFTER_REMOVE, None)

    def sync(self) -> None:
        """Make names durable."""
        self.real.sync()
        self.pass_one_of(Place.RECYCLE_NAMES, Place.RECOVERY_SYNC)

    def free_bytes(self) -> int:
        """Return the free bytes."""
        return 0 if self.is_full else self.real.free_bytes()

    def salt(self) -> int:
        """Return random bits."""
        return self.real.salt()


class FaultFlusher:
    """Writes a batch in pieces, with places between them and around the sync.

    Implements ``nodedb.storage.wal.Flusher``.
    """

    def __init__(self, pass_place: PassPlace) -> None:
        self._pass = pass_place

    def write_and_sync(self, file: LogFile, data: bytes, offset: int) -> None:
        """Write, sync."""
        # What is written here has places of its own, not those of other writes.
        real = file.real if isinstance(file, FaultFile) else file
        start = 0
        self._pass(Place.LOG_WRITE_BEGIN)
        for end, place in (
            (_HEADER_PIECE_BYTES, Place.LOG_WRITE_HEADER),
            (len(data) // 2, Place.LOG_WRITE_HALF),
            (len(data) - 1, Place.LOG_WRITE_LAST),
        ):
            real.pwrite(data[start:end], offset + start)
            start = end
            self._pass(place)
        real.pwrite(data[start:], offset + start)
        self._pass(Place.FDATASYNC_BEFORE)
        real.fdatasync()
        self._pass(Place.FDATASYNC_AFTER)
