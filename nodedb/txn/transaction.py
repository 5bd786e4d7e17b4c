"""One transaction: its write buffer, its locks, its savepoints.

Writes stay here until COMMIT. Each key has the newest buffered write first and the older ones of the same
transaction behind it, tagged with the command that made them, so that a statement sees what earlier
statements wrote and not its own (PostgreSQL's command ids). The undo log gives savepoints and statement
atomicity: rolling back to a mark restores, key by key, what stood there.
"""

from collections.abc import Hashable
from typing import Final, NamedTuple

from sortedcontainers import SortedList

from nodedb.kv.locks import LockRequest
from nodedb.waiter import Interrupts
from sql.errors import ConfigurationLimitExceeded

PREFIX_BYTES: Final = 6


class BufferedWrite(NamedTuple):
    """A write not yet committed. ``payload`` b"" deletes; ``older`` is the same key's previous buffered write."""

    command: int
    payload: bytes
    vshard: int
    older: "BufferedWrite | None"


class Mark(NamedTuple):
    """A point to roll back to."""

    undo: int
    locks: int
    cleared: int


class Transaction:
    """A transaction in progress. ``started`` orders transactions by age for deadlock victims."""

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_sorted",
        "_undo",
        "cleared",
        "command",
        "deadlock_name",
        "held",
        "id",
        "interrupts",
        "is_active",
        "lock_timeout_ms",
        "process_id",
        "started",
        "waiting",
        "writes",
    )

    def __init__(
        self, transaction_id: int, process_id: int, interrupts: Interrupts, bytes_max: int
    ) -> None:
        self.interrupts = interrupts
        self.lock_timeout_ms = 0
        self.id = transaction_id
        self.started = transaction_id
        self.process_id = process_id
        self.deadlock_name = str(process_id)
        self.held: list[Hashable] = []
        self.waiting: LockRequest | None = None
        self.writes: dict[bytes, BufferedWrite] = {}
        self.cleared: list[bytes] = []
        self.command = 1
        self.is_active = True
        self._undo: list[tuple[bytes, BufferedWrite | None]] = []
        self._sorted: dict[bytes, SortedList[bytes]] = {}
        self._bytes = 0
        self._bytes_max = bytes_max

    def put(self, key: bytes, payload: bytes, vshard: int) -> None:
        """Buffer a write by the current command; b"" deletes."""
        older = self.writes.get(key)
        self.writes[key] = BufferedWrite(self.command, payload, vshard, older)
        self._undo.append((key, older))
        if older is None and self._sorted:
            keys = self._sorted.get(key[:PREFIX_BYTES])
            if keys is not None:
                keys.add(key)
        self._bytes += len(key) + len(payload)
        if self._bytes > self._bytes_max:
            raise ConfigurationLimitExceeded(
                "transaction writes too much",
                detail=f"The writes of one transaction are limited to {self._bytes_max} bytes.",
                hint='Commit in smaller pieces, or raise "max_transaction_bytes".',
            )

    def visible(self, key: bytes, before_command: int) -> BufferedWrite | None:
        """Return the newest buffered write of a key by a command below ``before_command``."""
        write = self.writes.get(key)
        while write is not None and write.command >= before_command:
            write = write.older
        return write

    def keys_between(self, start: bytes, end: bytes) -> "SortedList[bytes] | None":
        """Return the sorted buffered keys of ``start``'s index, None when there are none. May hold undone keys."""
        if not self.writes:
            return None
        prefix = start[:PREFIX_BYTES]
        keys = self._sorted.get(prefix)
        if keys is None:
            keys = SortedList(key for key in self.writes if key.startswith(prefix))
            self._sorted[prefix] = keys
        return keys if keys else None

    def mark(self) -> Mark:
        """Return the present point."""
        return Mark(len(self._undo), len(self.held), len(self.cleared))

    def undo_to(self, mark: Mark) -> None:
        """Restore the write buffer as it was at the mark; locks are the caller's."""
        del self.cleared[mark.cleared :]
        undo = self._undo
        while len(undo) > mark.undo:
            key, older = undo.pop()
            self._bytes -= len(key) + len(self.writes[key].payload)
            if older is None:
                del self.writes[key]
            else:
                self.writes[key] = older
