"""Waiting for a lock: until it is granted, or a timeout, a cancel request or a deadlock ends it.

The queue itself is ``nodedb.kv.locks``. Here are the timers around it: ``lock_timeout``, and
``log_lock_waits``, which tells of waits longer than ``deadlock_timeout``. (Deadlocks are not looked
for by that timer, as in PostgreSQL, but at once.)
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from nodedb.kv.lock_waits import context_of, described
from sql.errors import LockNotAvailable, SqlError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from nodedb.clock import Clock
    from nodedb.kv.locks import LockOwner, LockRequest, LockTable
    from nodedb.kv.replicator import Schedule, Timer
    from nodedb.txn.transaction import Transaction
    from nodedb.waiter import Waiter

_LOGGER: Final = logging.getLogger("nodedb.locks")


class LockWaits:
    """Waits for the locks of one table."""

    def __init__(self, locks: LockTable, schedule: Schedule, clock: Clock) -> None:
        self._locks = locks
        self._schedule = schedule
        self._clock = clock

    async def wait(
        self,
        owner: LockOwner,
        resource: Hashable,
        mode: int,
        running: Transaction,
        purpose: str = "locking",
    ) -> None:
        """Queue for a lock and wait until ``owner`` has it.

        ``running`` is the session's transaction, with its time limits; ``purpose`` is what is done
        to a row that way, for the error's context. Raises what cancels the statement,
        DeadlockDetected (40P01), LockNotAvailable (55P03).
        """
        locks = self._locks
        waiter = locks.enqueue(owner, resource, mode, purpose=purpose, now_us=self._clock.wall_us())
        request = owner.waiting
        if request is None:
            return  # Somebody else was the victim of the deadlock, and has let go of it already.
        timers: list[Timer] = []
        later = self._schedule.later
        if running.lock_timeout_ms:
            timers.append(later(running.lock_timeout_ms / 1000, partial(_expire, waiter)))
        log_ms = running.log_waits_ms
        if log_ms:
            timers.append(later(log_ms / 1000, partial(self._log_wait, request)))
        try:
            await running.interrupts.wait(waiter)
            if log_ms:
                self._log_end(request, log_ms)
        except BaseException as error:
            if isinstance(error, SqlError) and owner.waiting is request and not error.where:
                error.where = context_of(request, locks.names)
            locks.forget(owner)
            raise
        finally:
            for timer in timers:
                timer.cancel()

    def _waited_ms(self, request: LockRequest) -> float:
        return (self._clock.wall_us() - request.since_us) / 1000

    def _log_wait(self, request: LockRequest) -> None:
        lock = request.lock
        if request.owner.waiting is not request:
            return
        holders = [holder.deadlock_name for holder in lock.holders]
        _LOGGER.info(
            "process %s still waiting for %s after %.3f ms; process holding the lock: %s; "
            "wait queue: %s",
            request.owner.deadlock_name,
            described(request, self._locks.names),
            self._waited_ms(request),
            ", ".join(holders),
            ", ".join(waiting.owner.deadlock_name for waiting in lock.queue),
        )

    def _log_end(self, request: LockRequest, log_ms: int) -> None:
        waited = self._waited_ms(request)
        if waited >= log_ms:
            _LOGGER.info(
                "process %s acquired %s after %.3f ms",
                request.owner.deadlock_name,
                described(request, self._locks.names),
                waited,
            )


def _expire(waiter: Waiter[None]) -> None:
    waiter.set_error(LockNotAvailable("canceling statement due to lock timeout"))
