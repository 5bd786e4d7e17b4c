"""Errors of the node itself: disk, log and engine faults. An operator acts, not the client.

And one that is the retry loop's: ``LeaderChanged``.

They never leave ``state_machine.apply`` as an answer: whoever meets one stops the replica (or, for
``DiskFull`` and ``MapFull`` met before anything was proposed, refuses the statement). Which
SQLSTATE a client sees (58030, XX001, 53100) is decided where errors are turned into messages.
"""

from sql.errors import SerializationFailure


class LeaderChanged(SerializationFailure):
    """40001: this node lost the rows' group before the transaction's commit; nothing was applied.

    Outside a transaction block no client need see it: the statement can run at the new leader.
    """

    def __init__(self) -> None:
        super().__init__(
            "could not serialize access: the leader of the group has changed",
            detail="Nothing of the transaction was applied.",
            hint="The transaction might succeed if retried.",
        )


class StorageError(Exception):
    """A file operation or the engine failed; the object that raised it stays unusable.

    After a failed write or fsync nothing is tried again: the kernel may have dropped the dirty
    pages and would report the next fsync as a success.
    """


class LogCorrupted(StorageError):
    """A bad record stands before the log's tail; names the file and the byte offset."""

    def __init__(self, file_name: str, offset: int, reason: str) -> None:
        super().__init__(
            f'write-ahead log is corrupt: file "{file_name}", offset {offset}: {reason}'
        )
        self.file_name = file_name
        self.offset = offset
        self.reason = reason


class StoreLocked(StorageError):
    """Another process has the store open; names the lock file's path."""


class StoreTooNew(StorageError):
    """The store was written by a newer version, in a format that this one does not know."""


class StoreMismatch(StorageError):
    """The store belongs to another cluster, or its manifest cannot be read."""


class DiskFull(StorageError):
    """No room on the disk for what must be written; nothing of it was acknowledged.

    Raised by the log before anything was written: the same flush may be tried again.
    """


class MapFull(StorageError):
    """The engine's map has reached its configured size."""


class StoreCorrupted(StorageError):
    """A page of the engine is not what was written."""
