"""Begins, commits and ends the transactions of one node's data group.

COMMIT takes a timestamp, makes one log entry of the write buffer, and lets go of the locks when the
entry is applied. With catalog changes there are two entries, rows and metadata. On a node by itself
they are proposed in the same turn: one flush is one batch of the log, so a crash keeps both or
neither; the timestamp's window, when it needs raising, stands before them in the same batch. In a
cluster the metadata entry decides for both (``nodedb.txn.catalog_commit``).

``tenure`` is the term in which this node leads the data group, and constant on a node by itself.
What began in one tenure is never committed in another (PROTOCOL rules 3, 27): locks and validation
live in the leader's memory.

What a SERIALIZABLE transaction has read is validated in the turn in which its entries are proposed
(``nodedb.kv.recent_writes``).

Not done here, and what that costs: prepare over several groups.
"""

from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, Final

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import CatalogChange, encode_command
from cluster.metadata.oracle import TimestampOracle
from nodedb.clock import Clock
from nodedb.kv.effects import (
    ClearStorage,
    CollectGarbage,
    Completed,
    Completing,
    LongWrites,
    RowWrites,
    encode_completed,
    encode_effects,
    encode_long,
    encode_slice,
)
from nodedb.kv.group import APPLY_SLICE_ROWS, DataGroup
from nodedb.kv.keys import TIMESTAMP_MAX
from nodedb.kv.locks import LockTable
from nodedb.kv.recent_writes import Range, ReadSet, RecentWrites
from nodedb.kv.replicator import Replicator, Schedule
from nodedb.txn.catalog_commit import commit_with_catalog, forget_decisions
from nodedb.txn.checks import ALL_CHECKS, Checks
from nodedb.txn.deferred import check_keys, defer_keys
from nodedb.txn.moves import Moves
from nodedb.txn.store import StatementStore, reads_have_changed
from nodedb.txn.timestamps import LocalTimestamps, leader_has_changed
from nodedb.txn.transaction import PREFIX_BYTES, Mark, Transaction
from nodedb.txn.waiting import LockWaits
from nodedb.waiter import Interrupts, Waiter
from sql.catalog.descriptor import Table
from sql.errors import StatementCompletionUnknown

TRANSACTION_BYTES_MAX_DEFAULT: Final = 1 << 30
_COMMAND_STEP: Final = 1
SNAPSHOT_AGE_SECONDS_MAX_DEFAULT: Final = 3600.0
"""How long a transaction keeps the versions that it may still read from being collected."""
LONG_ROWS: Final = 4 * APPLY_SLICE_ROWS
"""A transaction of more writes is encoded and applied in slices."""
REMOVED_BYTES: Final = 100
"""What removing a version costs the engine's open transaction, roughly."""

EVERY_KEY: Final = (b"", b"\xff" * 32)
"""The span of a bulk commit whose keys nobody wrote down."""

DECISIONS_MAX: Final = 64
"""So many decisions about finished transactions are kept before they are forgotten together."""

SOLE_TENURE: Final = 1
"""Of a node by itself, whose term nobody contests."""

# What the planner assumes of a table that was never analyzed.
ROWS_UNKNOWN: Final = 1000


class TransactionManager:
    """The transactions of one node."""

    def __init__(
        self,
        *,
        group: DataGroup,
        replicator: Replicator,
        oracle: TimestampOracle,
        clock: Clock,
        schedule: Schedule,
        bytes_max: int = TRANSACTION_BYTES_MAX_DEFAULT,
        checks: Checks = ALL_CHECKS,
        snapshot_age_seconds_max: float = SNAPSHOT_AGE_SECONDS_MAX_DEFAULT,
    ) -> None:
        """Take over a group that has been started; ``checks`` is for tests of tests."""
        self.group = group
        self.locks = LockTable()
        self.lock_waits = LockWaits(self.locks, schedule, clock)
        self.replicator = replicator
        self.timestamps = LocalTimestamps(oracle, replicator, clock, schedule)
        self.allocate_timestamp = self.timestamps.allocate
        self._clock = clock
        self._schedule = schedule
        self._bytes_max = bytes_max
        self._next_id = 1
        self._active: dict[int, Transaction] = {}
        self.recent_writes = RecentWrites()
        self.checks = checks
        self._snapshot_age_seconds_max = snapshot_age_seconds_max
        self.needed_snapshots = young_snapshot
        """Returns what a transaction may read at, of what was taken since a monotonic time."""
        self.moves = Moves()
        self.commit_count = 0
        self.rollback_count = 0
        self.tenure = SOLE_TENURE
        self.is_replicated = False
        """Other nodes hold replicas: an entry is not durable by this node's flush alone."""
        self.finishing_count = 0
        """Decided transactions whose rows are not applied yet: nothing begins meanwhile."""
        self._finished: list[int] = []
        """Prepared transactions that are over, whose decisions are still remembered."""
        self._requests: set[tuple[int, int]] = set()
        """Names of requests whose commit was begun in this tenure, until they are recorded."""
        self.outcome_of: Callable[[int], str] = _always_applied
        """Why the metadata group refused the entry at an index, "" if it did not."""

    # Tenures

    def end_tenure(self) -> None:
        """Stop what this node was doing as the leader: another one has taken over, or may have."""
        if not self.tenure:
            return
        self.tenure = 0
        self.finishing_count = 0
        for transaction in list(self._active.values()):
            if transaction.is_active:
                self.locks.forget(transaction)
                self.locks.release_all(transaction)
                self._forget_reads(transaction)
                transaction.interrupts.interrupt(leader_has_changed())

    def begin_tenure(self, tenure: int, oracle: TimestampOracle) -> None:
        """Begin to lead; the state is that of everything any earlier leader has acknowledged."""
        assert tenure > 0
        self.end_tenure()
        self.timestamps.reset(oracle)
        self.recent_writes = RecentWrites()
        self._finished = []
        self._requests = set()
        self.tenure = tenure

    def check_tenure(self, transaction: Transaction) -> None:
        """Raise SerializationFailure (40001) for a transaction of another tenure."""
        if transaction.tenure != self.tenure:
            raise leader_has_changed()

    def begin(self, process_id: int, interrupts: Interrupts) -> Transaction:
        """Start a transaction; nothing is written until it commits."""
        began = self._clock.monotonic()
        transaction = Transaction(self._next_id, process_id, interrupts, self._bytes_max, began)
        transaction.tenure = self.tenure
        self._active[self._next_id] = transaction
        self._next_id += 1
        return transaction

    def statement_store(self, transaction: Transaction) -> StatementStore:
        """Return the rows as a statement beginning now sees them.

        Of a snapshot transaction, as its first one did.
        """
        timestamp = self.take_snapshot(transaction)
        return StatementStore(self, transaction, timestamp, transaction.command, transaction.reads)

    def take_snapshot(self, transaction: Transaction) -> int:
        """Return the timestamp at which a statement beginning now reads."""
        timestamp = self.group.last_timestamp
        if not transaction.snapshot:
            transaction.snapshot = timestamp
            if transaction.is_snapshot:
                transaction.began = self._clock.monotonic()  # Its snapshot's age counts.
            if transaction.is_validated:
                transaction.reads = ReadSet()
                self._watch(transaction)
        elif transaction.is_snapshot:
            timestamp = transaction.snapshot
        return timestamp

    def _watch(self, transaction: Transaction) -> None:
        """Have what is committed from now on, above the snapshot, remembered for validation."""
        recent = self.recent_writes
        is_first = not recent.is_watched
        recent.watch(transaction.id, transaction.snapshot)
        if not is_first:
            return
        if self.group.amid_timestamp:
            recent.note(self.group.amid_timestamp, (), [EVERY_KEY])
        for proposed in self.replicator.in_flight(self.group.group_id):
            effects = proposed.effects if isinstance(proposed, Completing) else proposed
            if isinstance(effects, RowWrites):
                keys = [key for _, key, _ in effects.writes]
                recent.note(effects.commit_timestamp, keys)
            elif isinstance(effects, LongWrites):
                recent.note(effects.commit_timestamp, (), [EVERY_KEY])

    def read_key(self, transaction: Transaction, key: bytes) -> bytes | None:
        """Return what a snapshot transaction finds under a key that it has not written.

        Raises SnapshotTooOld (72000).
        """
        timestamp = self.take_snapshot(transaction)
        if transaction.reads is not None:
            transaction.reads.add_key(key)
        return self.group.read(key, timestamp)

    def end_statement(self, transaction: Transaction) -> None:
        """Let the next statement see what this one wrote.

        UniqueViolation (23505) of deferrable constraints that are not deferred. 40001 where COMMIT
        would fail: the transaction had better not keep others waiting until then.
        """
        if transaction.writes:
            self.validate(transaction)
        if transaction.unchecked:
            defer_keys(transaction)
            self.check_keys(transaction, list(transaction.unchecked))
        transaction.command += _COMMAND_STEP

    def check_keys(self, transaction: Transaction, keys: Iterable[bytes]) -> None:
        """Check keys of deferrable constraints that wait; UniqueViolation (23505)."""
        check_keys(self.group, transaction, keys)

    def rollback_to(self, transaction: Transaction, mark: Mark, *, release_locks: bool) -> None:
        """Undo the writes since a mark; for a savepoint, the locks taken since go too."""
        transaction.undo_to(mark)
        if release_locks:
            self.locks.release_since(transaction, mark.locks)

    def restart(self, transaction: Transaction) -> None:
        """Take a transaction back to its beginning: it keeps its age and its locks, no more."""
        transaction.undo_to(Mark(0, 0, 0))
        self._forget_reads(transaction)
        transaction.snapshot = 0

    async def commit(
        self,
        transaction: Transaction,
        catalog_change: Callable[[], bytes | None] | None = None,
    ) -> int:
        """Make the transaction durable and visible, then release its locks.

        Returns the metadata index of the catalog change, 0 without one. ``catalog_change`` makes it
        of the newest catalog, in the turn in which it is proposed, or raises what it conflicts
        with. DiskFull (53100) and 40001 mean surely not committed, 40003 that nobody knows.
        """
        transaction.is_active = False
        waiters: list[Waiter[int]] = []
        try:
            self.check_tenure(transaction)
            self._check_first(transaction)
            has_rows = bool(transaction.writes or transaction.encoded or transaction.cleared)
            is_recorded = transaction.completion is not None
            if catalog_change is not None and self.is_replicated and (has_rows or is_recorded):
                index = await commit_with_catalog(self, transaction, catalog_change)
                self.commit_count += 1
                self._note_moves(transaction)
                return index
            change = None if catalog_change is None else catalog_change()
            if not has_rows and change is None:
                return 0
            waiters = self._propose(transaction, change)
            index = 0
            for waiter in waiters:
                index = await waiter
            if change is not None and self.outcome_of(index):
                raise leader_has_changed()
            self.commit_count += 1
            self._note_moves(transaction)
            return index if change is not None else 0
        except StatementCompletionUnknown:
            transaction.is_unknown = True
            raise
        finally:
            # A coroutine that is torn down amid the flush must not free rows that are still coming.
            if all(waiter.done for waiter in waiters):
                self._end(transaction)

    async def prepare_commit(self, transaction: Transaction) -> None:
        """Encode the writes of a long transaction for the log, a slice in each turn of the loop.

        The buffer is used up by it: after this the transaction can only commit or roll back.
        Without it ``commit`` does all in one turn.
        """
        if len(transaction.writes) <= LONG_ROWS:
            return
        transaction.forget_undo()
        keys = list(transaction.writes)
        keys.reverse()
        take = transaction.writes.pop
        while keys:
            part = keys[: -APPLY_SLICE_ROWS - 1 : -1]
            del keys[-APPLY_SLICE_ROWS:]
            writes = []
            for key in part:
                _, payload, vshard, _ = take(key)
                writes.append((vshard, key, payload))
            _widen(transaction.encoded_spans, part)
            transaction.encoded.append(encode_slice(writes))
            transaction.encoded_counts.append(len(writes))
            waiter: Waiter[None] = Waiter()
            self._schedule.soon(partial(_wake, waiter))
            await waiter

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        waiter: Waiter[None] = Waiter()
        self._schedule.later(seconds, partial(_wake, waiter))
        await waiter

    def commit_rows(self, transaction: Transaction) -> Waiter[int] | None:
        """Begin to commit a short transaction of nothing but rows, for callers without coroutine.

        None when it has written none, and is over. Otherwise ``end_commit`` follows once the waiter
        is done.
        """
        transaction.is_active = False
        if not transaction.writes:
            self._end(transaction)
            return None
        try:
            self.check_tenure(transaction)
            self._check_first(transaction)
            self.validate(transaction)
            payload, effects = self._recorded(transaction, *self._rows_entry(transaction))
            return self.replicator.propose(self.group.group_id, payload, effects)
        except BaseException:
            self._end(transaction)
            raise

    def end_commit(self, transaction: Transaction, error: BaseException | None) -> None:
        """Release a transaction's locks after its commit was decided, either way, or given up."""
        if error is None:
            self.commit_count += 1
            self._note_moves(transaction)
        transaction.is_unknown = isinstance(error, StatementCompletionUnknown)
        self._end(transaction)

    def note_decision(self, transaction: Transaction) -> None:
        """Have serializable transactions see what a prepared one is about to write (rules 1, 9).

        Until its rows are visible nobody begins to read, so those that run now are all.
        """
        if self.recent_writes.is_watched:
            spans = transaction.encoded_spans.values()
            self.recent_writes.note(self.allocate_timestamp(), list(transaction.writes), spans)

    def note_finished(self, transaction_id: int) -> None:
        """Have the decisions about prepared transactions forgotten, many at a time."""
        self._finished.append(transaction_id)
        if len(self._finished) >= DECISIONS_MAX and self.tenure:
            forget_decisions(self, self._finished)
            self._finished = []

    def _note_moves(self, transaction: Transaction) -> None:
        """Tell where rows have gone, before those who wait for them get the locks."""
        if transaction.moves:
            timestamp = max(self.group.newest_version(m.key)[0] for m in transaction.moves)
            self.moves.record(transaction.moves, timestamp, self._oldest_snapshot())

    def _end(self, transaction: Transaction) -> None:
        self._active.pop(transaction.id, None)
        if transaction.reads is not None:
            self._forget_reads(transaction)
        transaction.forget_writes()
        self.locks.release_all(transaction)
        completion = transaction.completion
        # One whose fate is unknown may yet be committed in this tenure: it keeps its name.
        if completion is not None and not transaction.is_unknown:
            self._requests.discard(completion.name)

    def _forget_reads(self, transaction: Transaction) -> None:
        if transaction.reads is not None:
            transaction.reads = None
            self.recent_writes.unwatch(transaction.id)

    def _propose(self, transaction: Transaction, catalog_change: bytes | None) -> list[Waiter[int]]:
        """Propose all of a transaction's entries, or, when one of them is refused, none.

        No other transaction comes between its validation and that.
        """
        self.validate(transaction)
        entries: list[tuple[int, bytes, Any]] = []
        group_id = self.group.group_id
        if transaction.encoded:
            entries.append((group_id, *self._long_entry(transaction)))
        elif transaction.writes:
            entries.append((group_id, *self._rows_entry(transaction)))
        if transaction.cleared:
            clear = ClearStorage(tuple(transaction.cleared))
            entries.append((group_id, encode_effects(clear), clear))
        if entries:
            entries[-1] = (group_id, *self._recorded(transaction, *entries[-1][1:]))
        elif transaction.completion is not None:
            record = Completed(*transaction.completion, b"")
            entries.append((group_id, encode_effects(record), record))
        if catalog_change is not None:
            command = CatalogChange(catalog_change, self.fence)
            entries.append((METADATA_GROUP, encode_command(command), command))
        for _, payload, _ in entries:
            self.replicator.check_size(payload)
        return [self.replicator.propose(*entry) for entry in entries]

    # Requests that may be sent again (PROTOCOL rule 17).

    def is_under_way(self, origin: int, number: int) -> bool:
        """Tell whether a request's commit was begun here, and may take effect any time."""
        return (origin, number) in self._requests

    def _check_first(self, transaction: Transaction) -> None:
        """Take a request's name; 40001 where another executor has it, or has committed with it."""
        if transaction.completion is None:
            return
        name = transaction.completion.name
        if name in self._requests or self.group.completions.find(*name) is not None:
            transaction.completion = None  # The name is the other one's.
            raise leader_has_changed()
        self._requests.add(name)

    def _recorded(
        self, transaction: Transaction, payload: bytes, effects: Any
    ) -> tuple[bytes, Any]:
        """Return an entry with the record of the request that it is all of, if it is one."""
        completion = transaction.completion
        if completion is None:
            return payload, effects
        return encode_completed(completion, payload), Completing(completion, effects)

    @property
    def fence(self) -> int:
        """What a catalog change of this tenure carries; 0 on a node by itself."""
        return self.tenure if self.is_replicated else 0

    def _long_entry(self, transaction: Transaction) -> tuple[bytes, LongWrites]:
        """Return the entry of what ``prepare_commit`` has encoded, for the log and to apply."""
        timestamp = self.allocate_timestamp()
        if self.recent_writes.is_watched:
            self.recent_writes.note(timestamp, (), transaction.encoded_spans.values())
        parts = transaction.encoded
        payload = encode_long(timestamp, transaction.id, transaction.encoded_counts, parts)
        return payload, LongWrites(timestamp, parts)

    def _rows_entry(self, transaction: Transaction) -> tuple[bytes, RowWrites]:
        writes = [
            (vshard, key, payload) for key, (_, payload, vshard, _) in transaction.writes.items()
        ]
        timestamp = self.allocate_timestamp()
        if self.recent_writes.is_watched:
            self.recent_writes.note(timestamp, list(transaction.writes))
        effects = RowWrites(timestamp, transaction.id, writes)
        return encode_effects(effects), effects

    def validate(self, transaction: Transaction, until: int = TIMESTAMP_MAX) -> None:
        """Check that what a serializable transaction has read still stands (40001 if not).

        As of ``until``, a commit timestamp; by default now, commits on their way included.
        """
        reads = transaction.reads
        if (
            reads is not None
            and self.recent_writes.conflict(reads, transaction.snapshot, until) is not None
            and self.checks.validates_reads
        ):
            raise reads_have_changed()

    def rollback(self, transaction: Transaction) -> None:
        """Forget the transaction's writes and release its locks. Idempotent."""
        if transaction.is_active:
            self.rollback_count += 1
        transaction.is_active = False
        self.locks.forget(transaction)
        self._end(transaction)

    def take_rowids(self, count: int) -> int:
        """Return the first of ``count`` row ids in a row: they grow in the order of insertion."""
        return self.allocate_timestamp(count)

    async def wait_for_lock(
        self, transaction: Transaction, resource: Hashable, mode: int, purpose: str = "locking"
    ) -> None:
        """Queue for a lock and wait until it is granted; see ``LockWaits.wait``.

        Who cannot commit any more does not wait for a row, but is told at once (40001). Commits
        still on their way do not count: begun again at once, it would meet them again.
        """
        if isinstance(resource, bytes):
            self.validate(transaction, self.group.last_timestamp)
        await self.lock_waits.wait(transaction, resource, mode, transaction, purpose)

    def approximate_rows(self, table: Table) -> int:
        """Return what ANALYZE found, ``ROWS_UNKNOWN`` before it ran."""
        if table.statistics is not None:
            return table.statistics.rows
        return ROWS_UNKNOWN

    def raise_watermark(self, watermark: int) -> Waiter[int]:
        """Propose a new garbage collection watermark for the group.

        Held back by running transactions' snapshots.
        """
        watermark = min(watermark, self._oldest_snapshot())
        if watermark <= self.group.watermark:
            done: Waiter[int] = Waiter()
            done.set_result(0)
            return done
        effects = CollectGarbage(watermark)
        return self.replicator.propose(self.group.group_id, encode_effects(effects), effects)

    def collect(self, position: bytes, limit: int) -> tuple[bytes | None, int]:
        """Collect garbage as ``DataGroup.collect``.

        Sees to it that the engine commits what was removed.
        """
        following, removed = self.group.collect(position, limit)
        if removed:
            self.replicator.note_local_change(removed * REMOVED_BYTES)
        return following, removed

    def _oldest_snapshot(self) -> int:
        """Return the oldest timestamp that a running transaction may read at and still protects."""
        earliest = self._clock.monotonic() - self._snapshot_age_seconds_max
        snapshots = [s for t in self._active.values() for s in self.needed_snapshots(t, earliest)]
        return min(snapshots, default=TIMESTAMP_MAX)


def young_snapshot(transaction: Transaction, earliest: float) -> list[int]:
    """Return a transaction's snapshot unless it is too old, or there is none."""
    is_needed = transaction.snapshot and transaction.began >= earliest
    return [transaction.snapshot] if is_needed else []


def _widen(spans: dict[bytes, Range], keys: list[bytes]) -> None:
    """Widen the first and last key of each index by more keys."""
    for prefix in {key[:PREFIX_BYTES] for key in keys}:
        ours = [key for key in keys if key.startswith(prefix)]
        first, last = min(ours), max(ours)
        if prefix in spans:
            first, last = min(first, spans[prefix][0]), max(last, spans[prefix][1])
        spans[prefix] = first, last


def _always_applied(index: int) -> str:
    del index
    return ""


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)
