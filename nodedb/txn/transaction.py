"""One transaction: its write buffer, its locks, its savepoints.

Writes stay here until COMMIT. Each key has the newest buffered write first and the older ones of
the same transaction behind it, tagged with the command that made them, so that a statement sees
what earlier statements wrote and not its own (PostgreSQL's command ids). The undo log gives
savepoints and statement atomicity: rolling back to a mark restores, key by key, what stood there.

Shape of a buffered write: the plain tuple ``(command, payload, vshard, older)``. ``payload`` b""
deletes; ``older`` is the same key's previous buffered write, or None. A bulk load makes millions of
them.
"""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sortedcontainers import SortedList  # type: ignore[import-untyped]  # ships no types

from nodedb.txn.moves import TRANSACTION_MOVES_MAX, Move
from nodedb.waiter import Interrupts
from sql.errors import ConfigurationLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from nodedb.kv.completions import Completion
    from nodedb.kv.locks import LockRequest
    from nodedb.kv.recent_writes import Range, ReadSet
    from nodedb.txn.deferred import UniqueCheck
    from sql.catalog.descriptor import Index

PREFIX_BYTES: Final = 6
COMMAND: Final = 0
PAYLOAD: Final = 1
VSHARD: Final = 2
OLDER: Final = 3
COMMAND_MAX: Final = 1 << 62
"""Above all commands: what sees everything that the transaction has written."""
BufferedWrite = tuple[int, bytes, int, Any]


class Mark(NamedTuple):
    """A point to roll back to."""

    undo: int
    locks: int
    cleared: int
    unchecked: "dict[bytes, UniqueCheck] | None" = None
    deferred: "dict[bytes, UniqueCheck] | None" = None
    """What waited to be checked there, None for nothing."""


class _IndexKeys:
    """The sorted buffered keys of one index, and how far into the undo log they are taken from."""

    __slots__ = ("keys", "taken")

    def __init__(self) -> None:
        self.keys: SortedList[bytes] = SortedList()
        self.taken = 0


def _is_initially_deferred(index: "Index") -> bool:
    return index.initially_deferred


class Transaction:
    """A transaction in progress. ``started`` orders transactions by age for deadlock victims.

    ``is_snapshot``: all statements read at one timestamp (REPEATABLE READ), not each at its own.
    ``snapshot`` is the oldest timestamp that one of its statements reads at, 0 before the first;
    ``began`` is monotonic seconds. ``is_validated``: what it reads must still hold when it commits
    (SERIALIZABLE, and not READ ONLY); ``reads`` is that, None before its first statement.
    ``has_other_effects``: it did what a rollback does not undo, such as drawing from a sequence.
    ``completion`` is recorded with its commit, where it is all of a forwarded request;
    ``is_unknown``: nobody knows whether it was committed.

    ``unchecked`` are the keys of deferrable unique constraints that may have several rows since the
    present statement, by the key; ``deferred`` those of earlier ones, whose check is deferred.
    ``defers`` tells whether a constraint is deferred just now.
    """

    __slots__ = (
        "_bytes_max",
        "_sorted",
        "began",
        "byte_count",
        "cleared",
        "command",
        "completion",
        "deadlock_name",
        "deferred",
        "defers",
        "encoded",
        "encoded_counts",
        "encoded_spans",
        "has_other_effects",
        "held",
        "id",
        "interrupts",
        "is_active",
        "is_expendable",
        "is_snapshot",
        "is_unknown",
        "is_validated",
        "lock_timeout_ms",
        "log_waits_ms",
        "moves",
        "process_id",
        "reads",
        "snapshot",
        "started",
        "tenure",
        "unchecked",
        "undo",
        "waiting",
        "writes",
    )

    def __init__(
        self,
        transaction_id: int,
        process_id: int,
        interrupts: Interrupts,
        bytes_max: int,
        began: float = 0.0,
    ) -> None:
        self.completion: Completion | None = None
        self.is_unknown = False
        self.interrupts = interrupts
        self.lock_timeout_ms = 0
        self.log_waits_ms = 0
        """Waits for locks of so many milliseconds are logged; 0: none is."""
        self.id = transaction_id
        self.tenure = 0
        """The leader's term that it began in: locks and reads hold in that one only."""
        self.started = transaction_id
        self.process_id = process_id
        self.deadlock_name = str(process_id)
        self.held: list[Hashable] = []
        self.waiting: LockRequest | None = None
        self.writes: dict[bytes, BufferedWrite] = {}
        self.undo: list[bytes] = []
        self.byte_count = 0
        self.moves: list[Move] = []
        """Rows that left their keys, for those who wait for them."""
        self.encoded: list[bytes] = []
        """What ``TransactionManager.prepare_commit`` made of the writes, in slices."""
        self.encoded_counts: list[int] = []
        self.encoded_spans: dict[bytes, Range] = {}
        """The first and last key of each index that is in ``encoded``, by the index's prefix."""
        self.cleared: list[bytes] = []
        self.unchecked: dict[bytes, UniqueCheck] = {}
        self.deferred: dict[bytes, UniqueCheck] = {}
        self.defers: Callable[[Index], bool] = _is_initially_deferred
        self.command = 1
        self.is_active = True
        self.is_expendable = False
        self.is_snapshot = False
        self.is_validated = False
        self.has_other_effects = False
        self.reads: ReadSet | None = None
        self.snapshot = 0
        self.began = began
        self._sorted: dict[bytes, _IndexKeys] = {}
        self._bytes_max = bytes_max

    def put(self, key: bytes, payload: bytes, vshard: int) -> None:
        """Buffer a write by the current command; b"" deletes."""
        writes = self.writes
        writes[key] = (self.command, payload, vshard, writes.get(key))
        self.undo.append(key)
        self.byte_count += len(key) + len(payload)
        if self.byte_count > self._bytes_max:
            self.check_size()

    def note_move(self, undo: int, key: bytes, new_key: bytes | None) -> None:
        """Note that a row left its key; ``undo`` is the length of ``undo`` before that."""
        if len(self.moves) < TRANSACTION_MOVES_MAX:
            self.moves.append(Move(undo, key, new_key))

    def check_size(self) -> None:
        """Refuse a transaction that writes too much.

        Callers that append to the buffer themselves call this.
        """
        if self.byte_count > self._bytes_max:
            raise ConfigurationLimitExceeded(
                "transaction writes too much",
                detail=f"The writes of one transaction are limited to {self._bytes_max} bytes.",
                hint='Commit in smaller pieces, or raise "max_transaction_bytes".',
            )

    def visible(self, key: bytes, before_command: int) -> BufferedWrite | None:
        """Return the newest buffered write of a key by a command below ``before_command``."""
        write = self.writes.get(key)
        while write is not None and write[COMMAND] >= before_command:
            write = write[OLDER]
        return write

    def keys_between(self, start: bytes) -> "SortedList[bytes] | None":
        """Return the sorted buffered keys of ``start``'s index, None when there are none.

        They may hold keys that were undone, and keys twice.
        """
        if not self.writes:
            return None
        prefix = start[:PREFIX_BYTES]
        index_keys = self._sorted.get(prefix)
        if index_keys is None:
            index_keys = self._sorted[prefix] = _IndexKeys()
        undo = self.undo
        taken = index_keys.taken
        if taken < len(undo):
            fresh = undo[taken:] if taken else undo
            index_keys.keys.update({key for key in fresh if key.startswith(prefix)})
            index_keys.taken = len(undo)
        return index_keys.keys or None

    def mark(self) -> Mark:
        """Return the present point."""
        unchecked = self.unchecked.copy() if self.unchecked else None
        deferred = self.deferred.copy() if self.deferred else None
        return Mark(len(self.undo), len(self.held), len(self.cleared), unchecked, deferred)

    def undo_to(self, mark: Mark) -> None:
        """Restore the write buffer as it was at the mark; locks are the caller's."""
        del self.cleared[mark.cleared :]
        self.unchecked = {} if mark.unchecked is None else mark.unchecked.copy()
        self.deferred = {} if mark.deferred is None else mark.deferred.copy()
        undo, writes = self.undo, self.writes
        while self.moves and self.moves[-1].undo >= mark.undo:
            self.moves.pop()
        while len(undo) > mark.undo:
            key = undo.pop()
            write = writes[key]
            self.byte_count -= len(key) + len(write[PAYLOAD])
            older = write[OLDER]
            if older is None:
                del writes[key]
            else:
                writes[key] = older
        for index_keys in self._sorted.values():
            index_keys.taken = min(index_keys.taken, len(undo))

    def forget_writes(self) -> None:
        """Give the memory of the buffer back."""
        self.writes = {}
        self.forget_undo()
        self.byte_count = 0
        if self.encoded:
            self.encoded = []
            self.encoded_counts = []
        self.moves.clear()
        self.unchecked.clear()
        self.deferred.clear()

    def forget_undo(self) -> None:
        """Give up what only later statements or a rollback to a mark would need."""
        self.undo = []
        self._sorted = {}
