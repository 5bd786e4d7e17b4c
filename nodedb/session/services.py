"""What SQL functions reach of their session.

Variables, sequences, advisory locks, other sessions, timers.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from nodedb.kv.locks import ADVISORY_EXCLUSIVE, ADVISORY_SHARE, LockRequest
from nodedb.session import system_rows
from nodedb.waiter import Waiter
from sql.catalog.descriptor import Sequence, Table
from sql.errors import (
    InsufficientPrivilege,
    InvalidParameterValue,
    LockNotAvailable,
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
        self._timeout: Timer | None = None
        self._idle_timeout: Timer | None = None
        self.random = random.Random(session.secret_key)
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
        value = await self._session.node.sequences.next_value(sequence)
        self._current_values[sequence.id] = value
        self._last_sequence = sequence.id
        return value

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
        await self._session.node.sequences.set_value(sequence, value, is_called=is_called)
        if is_called:
            self._current_values[sequence.id] = value
            self._last_sequence = sequence.id
        return value

    async def sequence_state(self, sequence: Sequence) -> tuple[int, bool]:
        """Return (last_value, is_called)."""
        return self._session.node.sequences.state(sequence)

    def forget_sequences(self) -> None:
        """DISCARD SEQUENCES."""
        self._current_values.clear()
        self._last_sequence = None

    # Time

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        waiter: Waiter[None] = Waiter()
        timer = self._session.node.schedule.later(max(seconds, 0.0), lambda: _wake(waiter))
        try:
            await self._session.interrupts.wait(waiter)
        finally:
            timer.cancel()

    def start_timeout(self, milliseconds: int) -> None:
        """Arm statement_timeout."""
        self.stop_timeout()
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
            if session.node.front_end is not None:
                session.node.front_end.terminate(session.process_id, error)

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
            await self._wait(owner, resource, mode, running.lock_timeout_ms)
        if not transaction:
            self._counts[resource, mode] = self._counts.get((resource, mode), 0) + 1
        return True

    def _held_by_self(self, resource: Hashable, mode: int, *, transaction: bool) -> bool:
        """Tell whether the session's other owner holds the lock.

        They never conflict with each other.
        """
        return transaction and bool(self._counts.get((resource, mode)))

    async def _wait(self, owner: Any, resource: Hashable, mode: int, timeout_ms: int) -> None:
        session = self._session
        locks = session.node.transactions.locks
        waiter = locks.enqueue(owner, resource, mode)
        timer = None
        if timeout_ms:
            timer = session.node.schedule.later(
                timeout_ms / 1000,
                lambda: _fail(waiter, LockNotAvailable("canceling statement due to lock timeout")),
            )
        try:
            await session.interrupts.wait(waiter)
        except BaseException:
            locks.forget(owner)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def advisory_unlock(self, key: tuple[int, ...], *, shared: bool) -> bool:
        """Release one session-level advisory lock."""
        resource = ("advisory", self._session.database_id, *key)
        mode = ADVISORY_SHARE if shared else ADVISORY_EXCLUSIVE
        count = self._counts.get((resource, mode), 0)
        if not count:
            name = "ShareLock" if shared else "ExclusiveLock"
            self._session.notice("WARNING", "01000", f"you don't own a lock of type {name}")
            return False
        if count > 1:
            self._counts[resource, mode] = count - 1
            return True
        del self._counts[resource, mode]
        return self._session.node.transactions.locks.release(self._owner, resource, mode)

    def advisory_unlock_all(self) -> None:
        """Release all session-level advisory locks."""
        self._counts.clear()
        self._session.node.transactions.locks.release_all(self._owner)

    def release_session_locks(self) -> None:
        """Forget a session that is over."""
        self.stop_timeout()
        self.stop_idle_timeout()
        self._session.node.transactions.locks.forget(self._owner)
        self.advisory_unlock_all()

    # Other sessions

    def cancel_backend(self, process_id: int) -> bool:
        """Cancel another session's statement."""
        other = self._other(process_id, "cancel")
        if other is None:
            return False
        other.cancel()
        return True

    def terminate_backend(self, process_id: int) -> bool:
        """End another session."""
        other = self._other(process_id, "terminate")
        if other is None:
            return False
        other.terminate()
        return True

    def _other(self, process_id: int, verb: str) -> Session | None:
        session = self._session
        other = session.node.sessions.get(process_id)
        if other is None:
            session.notice(
                "WARNING", "01000", f"PID {process_id} is not a PostgreSQL server process"
            )
            return None
        if not session.catalog().is_superuser and other.session_user_id != session.user_id:
            action = "cancel" if verb == "cancel" else "terminate"
            raise InsufficientPrivilege(
                f"must be a member of the role whose {'query' if verb == 'cancel' else 'process'} "
                f"is being {action}ed or member of pg_signal_backend"
            )
        return other

    def notify(self, channel: str, payload: str) -> None:
        """Queue a notification for commit."""
        if not channel:
            raise InvalidParameterValue("channel name cannot be empty")
        if len(channel.encode()) > 63:
            raise InvalidParameterValue("channel name too long")
        if len(payload.encode()) >= 8000:
            raise InvalidParameterValue("payload string too long")
        self._session.node.notifications.queue(self._session, channel, payload)

    # Facts

    def system_rows(self, view: str) -> list[tuple[Datum, ...]]:
        """Return the rows of a live system view."""
        return system_rows.rows(self._session, view)

    def current_transaction_id(self) -> int:
        """Return the transaction's number."""
        return self._session.block.ensure_transaction(self._session.query_start).id

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


def _fail(waiter: Waiter[None], error: Exception) -> None:
    waiter.set_error(error)
