"""The log's files: the seam between the write-ahead log and the operating system.

``LogFile`` and ``LogDirectory`` are all that the log knows of a disk. Here stands the real
implementation; the simulated disk, which loses what was not fsynced, lives with the tests.

Contract of both: ``pwrite`` writes everything or raises; bytes are safe against power loss once
``fdatasync`` of their file has returned; a created, renamed or removed name once ``sync`` of the
directory has. Every ``OSError`` passes through unchanged: the log decides what it means.
"""

import os
from typing import Final, Protocol

_READ_CHUNK_BYTES: Final = 1 << 30


class LogFile(Protocol):
    """One open file of the log."""

    @property
    def name(self) -> str:
        """The name inside its directory."""

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; fewer only at the end of the file."""

    def fdatasync(self) -> None:
        """Make all that was written to this file durable, with the size that reading it needs."""

    def fallocate(self, offset: int, length: int) -> None:
        """Reserve disk blocks and extend the file; a later write inside needs no new space."""

    def truncate(self, length: int) -> None:
        """Cut the file, giving its blocks back."""

    def size(self) -> int:
        """Return the size in bytes."""

    def close(self) -> None:
        """Close the file; what was not synced stays unsynced."""


class LogDirectory(Protocol):
    """The directory that holds the log's files and nothing else."""

    @property
    def path(self) -> str:
        """The path, for messages to an operator."""

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""

    def open(self, name: str, *, create: bool) -> LogFile:
        """Open a file for reading and writing; with ``create`` it must not exist yet."""

    def remove(self, name: str) -> None:
        """Remove a file; durable after ``sync``."""

    def sync(self) -> None:
        """Make created and removed names durable."""

    def free_bytes(self) -> int:
        """Return how many bytes an unprivileged process may still allocate here."""

    def salt(self) -> int:
        """Return 64 fresh random bits, which nobody who sends us data can know."""


class RealLogFile:
    """A file of the operating system."""

    __slots__ = ("_fd", "name")

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of ``data``; a short write goes on where it stopped."""
        written = os.pwrite(self._fd, data, offset)
        if written == len(data):
            return
        rest = memoryview(data)[written:]
        while rest:
            offset += written
            written = os.pwrite(self._fd, rest, offset)
            rest = rest[written:]

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; fewer only at the end of the file."""
        data = os.pread(self._fd, min(length, _READ_CHUNK_BYTES), offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        done = len(data)
        while done < length and data:
            data = os.pread(self._fd, min(length - done, _READ_CHUNK_BYTES), offset + done)
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    def fdatasync(self) -> None:
        """Make what was written durable."""
        os.fdatasync(self._fd)

    def fallocate(self, offset: int, length: int) -> None:
        """Reserve blocks. Raises OSError ENOSPC before the file has changed its meaning."""
        os.posix_fallocate(self._fd, offset, length)

    def truncate(self, length: int) -> None:
        """Cut the file."""
        os.ftruncate(self._fd, length)

    def size(self) -> int:
        """Return the size in bytes."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class RealLogDirectory:
    """A directory of the operating system; created with its parents when it does not exist.

    With ``is_read_only`` nothing is created, and files are opened for reading.
    """

    __slots__ = ("_is_read_only", "path")

    def __init__(self, path: str, *, is_read_only: bool = False) -> None:
        self.path = path
        self._is_read_only = is_read_only
        if not is_read_only:
            os.makedirs(path, mode=0o700, exist_ok=True)

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        return sorted(os.listdir(self.path))

    def open(self, name: str, *, create: bool) -> RealLogFile:
        """Open for reading and writing, never inherited by a child process."""
        flags = (os.O_RDONLY if self._is_read_only else os.O_RDWR) | os.O_CLOEXEC
        if create:
            assert not self._is_read_only, name
            flags |= os.O_CREAT | os.O_EXCL
        return RealLogFile(name, os.open(os.path.join(self.path, name), flags, 0o600))

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(os.path.join(self.path, name))

    def sync(self) -> None:
        """Make names durable."""
        sync_directory(self.path)

    def free_bytes(self) -> int:
        """Return what an unprivileged process may still allocate."""
        return free_bytes(self.path)

    def salt(self) -> int:
        """Return 64 random bits from the operating system."""
        return int.from_bytes(os.urandom(8), "big")


def sync_directory(path: str) -> None:
    """Fsync a directory, so that the names created, renamed or removed in it are durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_bytes(path: str) -> int:
    """Return the bytes that are free for an unprivileged process on the file system of ``path``."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
