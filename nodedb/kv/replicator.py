"""The path of every write on a node that is its groups' only voter.

Log entry, durable, applied, acknowledged.

This is the seam that consensus replaces: ``propose`` in, ``StateMachine.apply`` and the waiter out.
A proposal gets an index and the group's term; everything proposed in one turn of the loop shares
one flush (group commit). Nothing is applied, and no waiter completes, before the flush returned
(PROTOCOL rule 62). A failed flush stops the node: ``on_fatal``; a full disk, met before anything
was written, fails just the proposals of that flush.

The engine commits what was applied every ``COMMIT_INTERVAL_SECONDS`` or ``COMMIT_BYTES``; then the
log below the commit before that one is compacted and recycled (rules 57, 61).
"""

import contextlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from nodedb.errors import DiskFull, MapFull, StorageError
from nodedb.kv.fault_points import APPLY, ENGINE_COMMIT, LOG_WRITE, SEGMENT_RECYCLE, FaultPoint
from nodedb.storage.engine import Engine
from nodedb.storage.wal import Wal
from nodedb.storage.wal_format import ENTRY_BYTES_MAX
from nodedb.waiter import Waiter
from sql import errors as sql_errors

COMMIT_INTERVAL_SECONDS: Final = 0.1
COMMIT_BYTES: Final = 4 * 1024 * 1024
REPLAY_BYTES: Final = 16 * 1024 * 1024
"""Payload bytes that are read back from the log at a time when a group starts."""


class StateMachine(Protocol):
    """What a group's entries are applied to."""

    def apply_payload(self, payload: bytes, index: int) -> None:
        """Apply an entry read back from the log."""

    def apply(self, value: Any, index: int) -> None:
        """Apply an entry this node proposed, already decoded.

        The same value the payload encodes.
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
        pass_point: FaultPoint | None = None,
    ) -> None:
        """``pass_point`` is for crash tests: called at each point of ``nodedb.kv.fault_points``."""
        self._pass_point = pass_point
        self._wal = wal
        self._engine = engine
        self._schedule = schedule
        self._on_fatal = on_fatal
        self._machines: dict[int, StateMachine] = {}
        self._applied: dict[int, int] = {}
        self._terms: dict[int, int] = {}
        self._pending: list[_Proposal] = []
        self._uncommitted_bytes = 0
        self._commit_is_scheduled = False
        self._stopped = False
        self._is_torn = False
        self.flush_count = 0
        self.entry_count = 0
        self.commit_count = 0
        self.flushed_bytes = 0

    def start_group(self, group_id: int, machine: StateMachine) -> None:
        """Replay a group's log above what the engine has applied, and begin a new term for it."""
        applied_index, applied_term = self._engine.applied(group_id)
        engine_index = applied_index
        first = max(applied_index + 1, self._wal.first_index(group_id))
        assert first <= applied_index + 1, (
            f"group {group_id}: the log starts after the applied state"
        )
        for index, term, payload in self._wal.entries(
            group_id, first, self._wal.last_index(group_id) + 1
        ):
            machine.apply_payload(payload, index)
            applied_index, applied_term = index, term
        self._machines[group_id] = machine
        if applied_index > engine_index:
            self._engine.set_applied(group_id, applied_index, applied_term)
        self._applied[group_id] = applied_index
        hard_state = self._wal.hard_state(group_id)
        new_term = 1 if hard_state is None else hard_state.term + 1
        self._terms[group_id] = new_term
        self._wal.set_hard_state(group_id, new_term, vote=1, commit=applied_index)

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
        if len(payload) > ENTRY_BYTES_MAX:
            raise sql_errors.ConfigurationLimitExceeded(
                "transaction writes too much",
                detail=f"Its {len(payload)} bytes do not fit into one log entry of "
                f"{ENTRY_BYTES_MAX} bytes.",
                hint="Commit in smaller pieces.",
            )
        waiter: Waiter[int] = Waiter()
        if not self._pending:
            self._schedule.soon(self.flush)
        self._pending.append(_Proposal(group_id, payload, value, waiter))
        return waiter

    def flush(self) -> None:
        """Make everything proposed durable, apply it in order, and wake those who wait."""
        proposals = self._pending
        if not proposals or self._stopped:
            return
        self._pending = []
        wal = self._wal
        firsts: dict[int, int] = {}
        indexes: list[int] = []
        if self._pass_point is not None:
            self._pass_point(LOG_WRITE)
        try:
            for group_id, payload, _, _ in proposals:
                index = wal.last_index(group_id) + 1
                firsts.setdefault(group_id, index)
                wal.append_entries(group_id, ((index, self._terms[group_id], payload),))
                indexes.append(index)
            self.flushed_bytes += wal.pending_bytes
            wal.flush()
        except DiskFull as error:
            for group_id, index in firsts.items():
                wal.truncate_suffix(group_id, index)
            self._refuse(proposals, error)
            return
        except StorageError as error:
            self._fail(error)
            return
        self.flush_count += 1
        self.entry_count += len(proposals)
        if not self._apply(proposals, indexes):
            return
        for proposal, index in zip(proposals, indexes, strict=True):
            proposal.waiter.set_result(index)

    def _apply(self, proposals: list[_Proposal], indexes: list[int]) -> bool:
        """Apply durable entries; False when that failed and the node stops."""
        if self._pass_point is not None:
            self._pass_point(APPLY)
        try:
            for (group_id, payload, value, _), index in zip(proposals, indexes, strict=True):
                self._machines[group_id].apply(value, index)
                self._applied[group_id] = index
                self._uncommitted_bytes += len(payload)
            for group_id in {proposal.group_id for proposal in proposals}:
                self._engine.set_applied(group_id, self._applied[group_id], self._terms[group_id])
        except StorageError as error:
            self._fail(error)
            return False
        except Exception as error:
            # The entry is applied in part and stays so: nothing may be served, or committed, on top
            # of that.
            self._is_torn = True
            self._fail(StorageError(f"an entry of the log could not be applied: {error!r}"))
            raise
        self._commit_soon()
        return True

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

    def _on_commit_timer(self) -> None:
        self._commit_is_scheduled = False
        if self._uncommitted_bytes and not self._stopped:
            self.commit()

    def commit(self) -> None:
        """Commit the engine with each group's applied index, then let go of log nobody needs."""
        if self._stopped:
            return
        try:
            self.save()
            if self._pass_point is not None:
                self._pass_point(ENGINE_COMMIT)
            self._engine.commit()
            self._uncommitted_bytes = 0
            self.commit_count += 1
            if self._pass_point is not None:
                self._pass_point(SEGMENT_RECYCLE)
            for group_id in self._machines:
                self._wal.compact(group_id, self._engine.recyclable_applied(group_id))
            # On a full disk the oldest segment cannot be rewritten: nothing changes, the log stays
            # long until there is room.
            with contextlib.suppress(DiskFull):
                self._wal.recycle()
        except StorageError as error:
            self._fail(error)

    def save(self) -> None:
        """Put the machines' small state beside their rows.

        Whoever makes the engine commit calls this before.
        """
        for machine in self._machines.values():
            machine.save()

    def close(self) -> None:
        """Flush, apply and commit what is pending; the log and engine are closed by their owner.

        After a failure of the log nothing more is flushed, but closing the engine still commits
        what it has applied: the machines' state has to go with it.
        """
        if not self._stopped:
            self.flush()
            self.commit()
        elif not self._is_torn:
            with contextlib.suppress(StorageError):
                self.save()
        self._stopped = True
