"""What SQL functions reach of their session.

Variables, sequences, advisory locks, other sessions, timers.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from nodedb.gateway.message import SequenceState
from nodedb.kv.locks import ADVISORY_EXCLUSIVE, ADVISORY_SHARE, LockRequest
from nodedb.session import activity_rows, backends, system_rows
from nodedb.session.ddl import open_sequence
from nodedb.session.lock_rows import has_transaction_id
from nodedb.waiter import Waiter
from sql.catalog.descriptor import Sequence, Table
from sql.errors import (
    ObjectNotInPrerequisiteState,
    QueryCanceled,
    SqlError,
)

if TYPE_CHECKING:
    from collections.abc import Hashable

    from nodedb.kv.replicator import Timer
    from nodedb.session.session import Session
    from sql.types.base import Datum


class SessionLockOwner:
    """The owner of session-level advisory locks: outlives transactions."""

    def __init__(self, process_id: int) -> None:
        self.started = 0
        self.is_expendable = False
        self.held: list[Hashable] = []
        self.waiting: LockRequest | None = None
        self.deadlock_name = str(process_id)


class Services:
    """One session's services. Implements ``sql.functions.context.SessionServices``."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._owner = SessionLockOwner(session.process_id)
        self._counts: dict[tuple[Hashable, int], int] = {}
        self._current_values: dict[int, int] = {}
        self._last_sequence: int | None = None
        self.sequences_version = 0
        """Grows whenever what currval or lastval returns may have changed."""
        self._timeout: Timer | None = None
        self._idle_timeout: Timer | None = None
        self.random = random.Random(session.secret_key)
        self.is_sleeping = False
        self.waited_ms = 0
        """How much of its time the next statement has used up at its gateway."""
        self.numbered_transaction = 0
        """The last transaction whose number was asked for."""
        self.on_end: list[Waiter[bool]] = []
        """Whoever waits for the end of this session."""
        self.client_address, _, port = session.peer.rpartition(":")
        self.client_port = int(port) if port.isdigit() else -1

    @property
    def process_id(self) -> int:
        """The backend's process id."""
        return self._session.process_id

    @property
    def user_name(self) -> str:
        """Name of the current role."""
        return self._session.user_name

    @property
    def session_user_name(self) -> str:
        """Name of the role that logged in."""
        role = self._session.node.metadata.catalog.role_by_id(self._session.session_user_id)
        return "" if role is None else role.name

    # Variables

    def get_setting(self, name: str) -> str | None:
        """Return a variable's SHOW text, None when unknown."""
        return self._session.settings.find(name)

    def set_setting(self, name: str, value: str, *, local: bool) -> str:
        """SET a variable; returns the new SHOW text."""
        self._session.block.ensure_transaction(self._session.query_start)
        self._session.settings.set(name, value, local=local)
        return self._session.settings.show(name)

    # Sequences

    async def nextval(self, sequence: Sequence) -> int:
        """Advance a sequence."""
        self._session.check_writable("nextval()")
        sequence = await open_sequence(self._session, sequence)
        self._session.block.note_other_effects()
        value = await self._session.node.sequences.next_value(sequence)
        self._drew(sequence, value)
        return value

    def _drew(self, sequence: Sequence, value: int) -> None:
        self._current_values[sequence.id] = value
        self._last_sequence = sequence.id
        self.sequences_version += 1

    def currval(self, sequence: Sequence) -> int:
        """Return the session's last value."""
        value = self._current_values.get(sequence.id)
        if value is None:
            raise ObjectNotInPrerequisiteState(
                f'currval of sequence "{sequence.name}" is not yet defined in this session'
            )
        return value

    def lastval(self) -> int:
        """Return the last value of any sequence."""
        if self._last_sequence is None:
            raise ObjectNotInPrerequisiteState("lastval is not yet defined in this session")
        return self._current_values[self._last_sequence]

    async def setval(self, sequence: Sequence, value: int, *, is_called: bool) -> int:
        """Set a sequence's value."""
        self._session.check_writable("setval()")
        sequence = await open_sequence(self._session, sequence)
        self._session.block.note_other_effects()
        await self._session.node.sequences.set_value(sequence, value, is_called=is_called)
        if is_called:
            self._drew(sequence, value)
        return value

    async def sequence_state(self, sequence: Sequence) -> tuple[int, bool]:
        """Return (last_value, is_called)."""
        return self._session.node.sequences.state(sequence)

    def forget_sequences(self) -> None:
        """DISCARD SEQUENCES."""
        self._current_values.clear()
        self._last_sequence = None
        self.sequences_version += 1

    def export_sequences(self) -> SequenceState:
        """Return what currval and lastval return."""
        return SequenceState(self._current_values.copy(), self._last_sequence or 0)

    def restore_sequences(self, state: SequenceState) -> None:
        """Have currval and lastval return what they did on another node."""
        self._current_values = state.values
        self._last_sequence = state.last or None
        self.sequences_version += 1

    # Time

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        waiter: Waiter[None] = Waiter()
        timer = self._session.node.schedule.later(max(seconds, 0.0), lambda: _wake(waiter))
        self.is_sleeping = True
        try:
            await self._session.interrupts.wait(waiter)
        finally:
            self.is_sleeping = False
            timer.cancel()

    def start_timeout(self, milliseconds: int) -> None:
        """Arm statement_timeout, less what the statement has waited elsewhere."""
        self.stop_timeout()
        milliseconds = max(milliseconds - self.waited_ms, 1)
        self.waited_ms = 0
        session = self._session

        def expire() -> None:
            session.interrupts.interrupt(
                QueryCanceled("canceling statement due to statement timeout")
            )

        self._timeout = session.node.schedule.later(milliseconds / 1000, expire)

    @property
    def has_timeout(self) -> bool:
        """Tell whether statement_timeout is armed."""
        return self._timeout is not None

    def stop_timeout(self) -> None:
        """Disarm statement_timeout."""
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def start_idle_timeout(self, milliseconds: int, error: SqlError) -> None:
        """Arm the end of a session that stays idle for too long."""
        self.stop_idle_timeout()
        session = self._session

        def expire() -> None:
            front_end = session.front_end
            if front_end is not None:
                front_end.terminate(session.process_id, error)

        self._idle_timeout = session.node.schedule.later(milliseconds / 1000, expire)

    @property
    def has_idle_timeout(self) -> bool:
        """Tell whether one is armed."""
        return self._idle_timeout is not None

    def stop_idle_timeout(self) -> None:
        """Disarm it."""
        if self._idle_timeout is not None:
            self._idle_timeout.cancel()
            self._idle_timeout = None

    # Advisory locks

    async def advisory_lock(
        self, key: tuple[int, ...], *, shared: bool, transaction: bool, wait: bool
    ) -> bool:
        """Take an advisory lock; session-level ones count how often."""
        session = self._session
        resource = ("advisory", session.database_id, *key)
        mode = ADVISORY_SHARE if shared else ADVISORY_EXCLUSIVE
        locks = session.node.transactions.locks
        running = session.block.ensure_transaction(session.query_start)
        owner: Any = running if transaction else self._owner
        if not self._held_by_self(
            resource, mode, transaction=transaction
        ) and not locks.try_acquire(owner, resource, mode):
            if not wait:
                return False
            # As old as the transaction it waits in, should there be a deadlock.
            self._owner.started = running.id
            await session.node.transactions.lock_waits.wait(owner, resource, mode, running)
        if not transaction:
            running.has_other_effects = True
            self._counts[resource, mode] = self._counts.get((resource, mode), 0) + 1
        return True

    def _held_by_self(self, resource: Hashable, mode: int, *, transaction: bool) -> bool:
        """Tell whether the session's other owner holds the lock.

        They never conflict with each other.
        """
        return transaction and bool(self._counts.get((resource, mode)))

    def advisory_unlock(self, key: tuple[int, ...], *, shared: bool) -> bool:
        """Release one session-level advisory lock."""
        resource = ("advisory", self._session.database_id, *key)
        mode = ADVISORY_SHARE if shared else ADVISORY_EXCLUSIVE
        count = self._counts.get((resource, mode), 0)
        self._session.block.note_other_effects()
        if not count:
            name = "ShareLock" if shared else "ExclusiveLock"
            self._session.notice("WARNING", "01000", f"you don't own a lock of type {name}")
            return False
        if count > 1:
            self._counts[resource, mode] = count - 1
            return True
        del self._counts[resource, mode]
        return self._session.node.transactions.locks.release(self._owner, resource, mode)

    @property
    def holds_session_locks(self) -> bool:
        """Tell whether it holds advisory locks beyond its transaction."""
        return bool(self._counts)

    def advisory_unlock_all(self) -> None:
        """Release all session-level advisory locks."""
        self._session.block.note_other_effects()
        self._counts.clear()
        self._session.node.transactions.locks.release_all(self._owner)

    def release_session_locks(self) -> None:
        """Forget a session that is over."""
        self.stop_timeout()
        self.stop_idle_timeout()
        self._session.node.transactions.locks.forget(self._owner)
        self.advisory_unlock_all()
        for waiter in self.on_end:
            waiter.set_result(True)

    # Other sessions

    def cancel_backend(self, process_id: int) -> bool:
        """Cancel another session's statement."""
        return backends.cancel_backend(self._session, process_id)

    async def terminate_backend(self, process_id: int, timeout_ms: int) -> bool:
        """End another session, and wait for its end if there is a timeout."""
        return await backends.terminate_backend(self._session, process_id, timeout_ms)

    def blocking_process_ids(self, process_id: int) -> list[int]:
        """Return the sessions that keep one waiting for a lock."""
        return activity_rows.blocking_process_ids(self._session.node, process_id)

    def backend_fact(self, backend_id: int, fact: str) -> Datum:
        """Return what ``pg_stat_get_backend_<fact>`` says of a session."""
        return activity_rows.backend_fact(self._session, backend_id, fact)

    def notify(self, channel: str, payload: str) -> None:
        """Queue a notification for commit."""
        self._session.node.notifications.notify(self._session, channel, payload)

    def notification_usage(self) -> float:
        """Return the share of the room for undelivered notifications that is in use."""
        return self._session.node.notifications.usage

    # Facts

    def system_rows(self, view: str) -> list[tuple[Datum, ...]]:
        """Return the rows of a live system view."""
        return system_rows.rows(self._session, view)

    def current_transaction_id(self) -> int:
        """Return the transaction's number."""
        running = self._session.block.ensure_transaction(self._session.query_start)
        self.numbered_transaction = running.id
        return running.id

    def assigned_transaction_id(self) -> int | None:
        """Return the transaction's number if it has needed one so far."""
        transaction = self._session.block.transaction
        if transaction is None or not has_transaction_id(self._session):
            return None
        return transaction.id

    def relation_size(self, relation_id: int) -> int:
        """Return bytes stored for a relation, approximately."""
        relation = self._session.catalog().snapshot.get(relation_id)
        if not isinstance(relation, Table):
            return 0
        return self._session.node.transactions.approximate_rows(relation) * 64

    def notice(self, severity: str, sqlstate: str, message: str) -> None:
        """Queue a NoticeResponse."""
        self._session.notice(severity, sqlstate, message)


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)
