"""The path of every write on a node that is its groups' only voter.

Log entry, durable, applied, acknowledged.

This is the seam that consensus replaces: ``propose`` in, ``StateMachine.apply`` and the waiter out.
A proposal gets an index and the group's term; everything proposed in one turn of the loop shares
one flush (group commit). Nothing is applied, and no waiter completes, before the flush returned
(PROTOCOL rule 62). A failed flush stops the node: ``on_fatal``; a full disk, met before anything
was written, fails just the proposals of that flush, and nothing of them is ever written.

The engine commits what was applied every ``COMMIT_INTERVAL_SECONDS`` or ``COMMIT_BYTES``; then the
log below the commit before that one is compacted and recycled (rules 57, 61). Whoever makes it
commit, it first asks for the machines' small state (``save``). What was applied in part is never
committed: the engine is abandoned, and the next start applies it again from the log. Long entries
are another matter (``_begin_slices``): the engine commits amid them, their index with the last one.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from nodedb.errors import DiskFull, MapFull, StorageError
from nodedb.kv.fault_points import PassPlace, Place, pass_none
from nodedb.storage.engine import Engine
from nodedb.storage.wal import Wal
from nodedb.storage.wal_format import ENTRY_BYTES_MAX
from nodedb.waiter import Waiter
from sql import errors as sql_errors

COMMIT_INTERVAL_SECONDS: Final = 0.5
"""Rarer commits cost less, for hot pages are written once each, but stop the loop for longer."""
COMMIT_BYTES: Final = 4 * 1024 * 1024
REPLAY_BYTES: Final = 16 * 1024 * 1024
"""Payload bytes that are read back from the log at a time when a group starts."""


class StateMachine(Protocol):
    """What a group's entries are applied to."""

    def apply_payload(self, payload: bytes, index: int) -> None:
        """Apply an entry read back from the log."""

    def apply(self, value: Any, index: int) -> Iterator[int] | None:
        """Apply an entry this node proposed, already decoded: the same value the payload encodes.

        A long one is handed back in slices that are still to be run, each yielding the bytes it
        wrote: the entry takes effect when they end, all of it at once for every reader. Applying
        it a second time, after any of its slices, must do no harm.
        """

    def save(self) -> None:
        """Write what is kept in memory into the engine's open transaction, before it commits."""


class Timer(Protocol):
    """A call that has been scheduled."""

    def cancel(self) -> None:
        """Forget it; harmless afterwards."""


class Schedule(Protocol):
    """The two services of an event loop that the replicator needs."""

    def soon(self, callback: Callable[[], None]) -> None:
        """Call at the end of this turn."""

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call after a delay, unless cancelled."""


class _Proposal(NamedTuple):
    group_id: int
    payload: bytes
    value: Any
    waiter: Waiter[int]


class Replicator:
    """Orders, persists and applies the entries of all groups of a single node."""

    def __init__(
        self,
        wal: Wal,
        engine: Engine,
        schedule: Schedule,
        on_fatal: Callable[[StorageError], None],
        pass_place: PassPlace = pass_none,
    ) -> None:
        """``pass_place`` is for crash tests: called at places of ``nodedb.kv.fault_points``."""
        self._pass = pass_place
        self._wal = wal
        self._engine = engine
        self._schedule = schedule
        self._on_fatal = on_fatal
        self._machines: dict[int, StateMachine] = {}
        self._applied: dict[int, int] = {}
        self._terms: dict[int, int] = {}
        self._pending: list[_Proposal] = []
        self._slices: Iterator[int] | None = None
        self._delayed: list[tuple[_Proposal, int]] = []
        """The entry whose slices are being applied, then those that are durable behind it."""
        self._uncommitted_bytes = 0
        self._commit_is_scheduled = False
        self._stopped = False
        self._is_saved = True
        self.flush_count = 0
        self.entry_count = 0
        self.commit_count = 0
        self.flushed_bytes = 0
        engine.before_commit(self.save)

    def start_group(self, group_id: int, machine: StateMachine) -> None:
        """Replay a group's log above what the engine has applied, and begin a new term for it."""
        try:
            applied_index = self._replay(group_id, machine)
        except BaseException:
            self._engine.abandon()
            raise
        self._machines[group_id] = machine
        self._applied[group_id] = applied_index
        self._is_saved = False
        hard_state = self._wal.hard_state(group_id)
        new_term = 1 if hard_state is None else hard_state.term + 1
        self._terms[group_id] = new_term
        self._wal.set_hard_state(group_id, new_term, vote=1, commit=applied_index)

    def _replay(self, group_id: int, machine: StateMachine) -> int:
        """Apply what the engine lacks, some of the log at a time; return the last index."""
        applied_index, applied_term = self._engine.applied(group_id)
        engine_index = applied_index
        first = max(applied_index + 1, self._wal.first_index(group_id))
        assert first <= applied_index + 1, (
            f"group {group_id}: the log starts after the applied state"
        )
        last = self._wal.last_index(group_id)
        while first <= last:
            entries = self._wal.entries(group_id, first, last + 1, REPLAY_BYTES)
            for index, term, payload in entries:
                machine.apply_payload(payload, index)
                applied_index, applied_term = index, term
                self._uncommitted_bytes += len(payload)
                self._pass(Place.RECOVERY_ENTRY)
            first = applied_index + 1
        if applied_index > engine_index:
            self._engine.set_applied(group_id, applied_index, applied_term)
        return applied_index

    def applied_index(self, group_id: int) -> int:
        """Return the index of the last applied entry."""
        return self._applied[group_id]

    def term(self, group_id: int) -> int:
        """Return the group's current term."""
        return self._terms[group_id]

    def ensure_room(self, byte_count: int) -> None:
        """Refuse (53100) a statement that needs space when a reserve of it is touched."""
        try:
            self._engine.ensure_room(byte_count)
        except (DiskFull, MapFull) as error:
            raise sql_errors.DiskFull(
                "could not extend the store: no space left",
                detail=str(error),
                hint="Free disk space; reading, DELETE, TRUNCATE and DROP still work.",
            ) from error

    def propose(self, group_id: int, payload: bytes, value: Any) -> Waiter[int]:
        """Queue an entry for this turn's flush; the waiter gives its index once it is applied.

        ``value`` is what ``payload`` encodes. The waiter fails with DiskFull's SQL error (53100)
        when surely nothing was written. Raises ConfigurationLimitExceeded (53400) for what does not
        fit into one entry of the log.
        """
        self.check_size(payload)
        waiter: Waiter[int] = Waiter()
        if not self._pending:
            self._schedule.soon(self.flush)
        self._pending.append(_Proposal(group_id, payload, value, waiter))
        return waiter

    @staticmethod
    def check_size(payload: bytes) -> None:
        """Raise ConfigurationLimitExceeded (53400) for what does not fit into one entry."""
        if len(payload) > ENTRY_BYTES_MAX:
            raise sql_errors.ConfigurationLimitExceeded(
                "transaction writes too much",
                detail=f"Its {len(payload)} bytes do not fit into one log entry of "
                f"{ENTRY_BYTES_MAX} bytes.",
                hint="Commit in smaller pieces.",
            )

    def in_flight(self, group_id: int) -> list[Any]:
        """Return what is proposed to a group and not yet in effect, in the log's order.

        Without the entry that is being applied in slices: its machine knows of that.
        """
        delayed = [proposal for proposal, _ in self._delayed[1:]]
        return [p.value for p in (*delayed, *self._pending) if p.group_id == group_id]

    def flush(self) -> None:
        """Make everything proposed durable, apply it in order, and wake those who wait."""
        proposals = self._pending
        if not proposals or self._stopped:
            return
        self._pending = []
        wal = self._wal
        indexes: list[int] = []
        try:
            mark = wal.mark()
            try:
                for group_id, payload, _, _ in proposals:
                    index = wal.last_index(group_id) + 1
                    wal.append_entries(group_id, ((index, self._terms[group_id], payload),))
                    indexes.append(index)
                byte_count = wal.pending_bytes
                wal.flush()
            except DiskFull as error:
                wal.discard(mark)
                self._refuse(proposals, error)
                return
        except StorageError as error:
            self._fail(error)
            self._leave_unknown(proposals, error)
            return
        except Exception as error:
            # What became of the entries is unknown, so nothing may follow them.
            self._fail(StorageError(f"the log could not be written: {error!r}"))
            self._leave_unknown(proposals, error)
            raise
        self.flushed_bytes += byte_count
        self.flush_count += 1
        self.entry_count += len(proposals)
        if self._slices is not None:
            self._delayed += zip(proposals, indexes, strict=True)
            return
        if not self._apply(proposals, indexes):
            self._leave_unknown(proposals, StorageError("the engine failed"))
            return
        for proposal, index in zip(proposals, indexes, strict=True):
            proposal.waiter.set_result(index)

    def _apply(self, proposals: list[_Proposal], indexes: list[int]) -> bool:
        """Apply durable entries; False when that failed and the node stops.

        A long one, and all behind it, are taken out of the lists: ``_go_on`` applies them.
        """
        self._is_saved = False
        self._pass(Place.APPLY_BEGIN)
        try:
            for at, (group_id, payload, value, _) in enumerate(proposals):
                index = indexes[at]
                slices = self._machines[group_id].apply(value, index)
                if slices is not None:
                    self._begin_slices(slices, proposals, indexes, at)
                    break
                self._applied[group_id] = index
                self._uncommitted_bytes += len(payload)
                self._pass(Place.APPLY_ENTRY)
            for group_id in {proposal.group_id for proposal in proposals}:
                self._engine.set_applied(group_id, self._applied[group_id], self._terms[group_id])
        except Exception as error:
            if self._fail_apply(error):
                return False
            raise
        self._pass(Place.APPLY_END)
        self._commit_soon()
        return True

    def _fail_apply(self, error: Exception) -> bool:
        """Stop after an entry was applied in part; True for a failure of the engine.

        It stays so: nothing may be served, or committed, on top of that.
        """
        self._engine.abandon()
        if isinstance(error, StorageError):
            self._fail(error)
            return True
        self._fail(StorageError(f"an entry of the log could not be applied: {error!r}"))
        return False

    # Long entries: a slice in each turn of the loop. Whatever becomes durable meanwhile waits
    # behind them, because entries take effect in the log's order. The engine may commit between
    # slices: after a crash the entry is applied once more, over what is there of it.

    def _begin_slices(
        self,
        slices: Iterator[int],
        proposals: list[_Proposal],
        indexes: list[int],
        at: int,
    ) -> None:
        """Take what stands from ``at`` on out of the lists; the first of it has the slices."""
        self._slices = slices
        self._delayed = list(zip(proposals[at:], indexes[at:], strict=True))
        self._delayed[0] = (proposals[at]._replace(payload=b"", value=None), indexes[at])
        del proposals[at:], indexes[at:]
        self._schedule.soon(self._go_on)

    def _go_on(self) -> None:
        """Apply one more slice; after the last one all that waited behind it."""
        if self._slices is None or self._stopped:
            return
        self._is_saved = False
        try:
            byte_count = next(self._slices, None)
        except Exception as error:
            if self._fail_apply(error):
                return
            raise
        if byte_count is not None:
            self._uncommitted_bytes += byte_count
            self._pass(Place.APPLY_ENTRY)
            self._commit_soon()
            self._schedule.soon(self._go_on)
            return
        self._slices = None
        (done, done_index), *behind = self._delayed
        self._delayed = []
        self._applied[done.group_id] = done_index
        self._engine.set_applied(done.group_id, done_index, self._terms[done.group_id])
        proposals = [proposal for proposal, _ in behind]
        indexes = [index for _, index in behind]
        if not self._apply(proposals, indexes):
            return
        done.waiter.set_result(done_index)
        for proposal, index in zip(proposals, indexes, strict=True):
            proposal.waiter.set_result(index)

    def _commit_soon(self) -> None:
        if self._uncommitted_bytes >= COMMIT_BYTES:
            self.commit()
        elif not self._commit_is_scheduled:
            self._commit_is_scheduled = True
            self._schedule.later(COMMIT_INTERVAL_SECONDS, self._on_commit_timer)

    def note_local_change(self, byte_count: int) -> None:
        """Note that the engine was changed without an entry (garbage collected).

        Have it committed like the rest.
        """
        self._is_saved = False
        self._uncommitted_bytes += byte_count
        self._commit_soon()

    def _fail(self, error: StorageError) -> None:
        if not self._stopped:
            self._stopped = True
            self._on_fatal(error)

    def _refuse(self, proposals: list[_Proposal], error: DiskFull) -> None:
        for proposal in proposals:
            proposal.waiter.set_error(
                sql_errors.DiskFull(
                    "could not extend the write-ahead log: no space left on device",
                    detail=str(error),
                    hint="Check free disk space.",
                )
            )

    def _leave_unknown(self, proposals: list[_Proposal], error: Exception) -> None:
        """Say of entries that may be in the log, or not, just that (40003)."""
        for proposal in proposals:
            proposal.waiter.set_error(
                sql_errors.StatementCompletionUnknown(
                    "could not determine whether the transaction was committed",
                    detail=f"It may be in the write-ahead log: {error}",
                    hint="Look for its effects before running it again.",
                )
            )

    def _on_commit_timer(self) -> None:
        self._commit_is_scheduled = False
        if self._uncommitted_bytes and not self._stopped:
            self.commit()

    def commit(self) -> None:
        """Commit the engine with each group's applied index, then let go of log nobody needs."""
        if self._stopped:
            return
        try:
            self._pass(Place.COMMIT_BEGIN)
            self._engine.commit()
            self._uncommitted_bytes = 0
            self.commit_count += 1
            self._pass(Place.COMMIT_END)
            for group_id in self._machines:
                self._wal.compact(group_id, self._engine.recyclable_applied(group_id))
            self._pass(Place.RECYCLE_BEGIN)
            # On a full disk the oldest segment cannot be rewritten: nothing changes, the log stays
            # long until there is room.
            with contextlib.suppress(DiskFull):
                self._wal.recycle()
        except StorageError as error:
            self._fail(error)
        except Exception as error:
            self._engine.abandon()
            self._fail(StorageError(f"the engine could not be committed: {error!r}"))
            raise

    def save(self) -> None:
        """Put the machines' small state beside their rows; the engine calls it before a commit."""
        if not self._is_saved:
            for machine in self._machines.values():
                machine.save()
            self._is_saved = True
            self._pass(Place.COMMIT_SAVED)

    def close(self) -> None:
        """Flush, apply and commit what is pending; the log and engine are closed by their owner.

        After a failure of the log nothing more is flushed, but closing the engine still commits
        what it has applied.
        """
        if not self._stopped:
            self.flush()
            while self._slices is not None and not self._stopped:
                self._go_on()
            self.commit()
        self._stopped = True
