"""The one retry loop: a request goes to whoever serves the rows, until somebody has taken it.

An attempt that surely changed nothing (``NotServed``) is made again: at once when the leadership
changed, else after a pause that grows. What may have happened is never repeated here; that is
decided by whoever made the attempt. When the budget is spent the client gets 57P03.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from nodedb.waiter import Waiter
from sql.errors import CannotConnectNow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nodedb.clock import Clock
    from nodedb.gateway.leadership import Leadership, LeadershipWatch
    from nodedb.waiter import Interrupts

BUDGET_SECONDS_MAX: Final = 10.0
"""How long a client waits at most for somebody to serve its request."""
PAUSE_SECONDS_MIN: Final = 0.02
PAUSE_SECONDS_MAX: Final = 0.5
HERE: Final = ""
"""The target of an attempt that is to be made on this very node."""
_Answer = TypeVar("_Answer")


class Timer(Protocol):
    """A callback to come."""

    def cancel(self) -> None:
        """Do not call back."""


class Schedule(Protocol):
    """The loop's timers."""

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call after a delay."""


class NotServed(Exception):
    """The request was surely not executed; ``reason`` is half a sentence for the client."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retry:
    """What the retries of one node have in common."""

    def __init__(
        self, leadership: Leadership, watch: LeadershipWatch, schedule: Schedule, clock: Clock
    ) -> None:
        self._leadership = leadership
        self._watch = watch
        self._schedule = schedule
        self._clock = clock
        self.retry_count = 0

    async def until_served(
        self,
        attempt: Callable[[str, float], Awaitable[_Answer]],
        *,
        leadership: Leadership | None = None,
        budget_seconds: float,
        interrupts: Interrupts,
    ) -> _Answer:
        """Make attempts until one succeeds; raises what it raises, unless that is NotServed.

        ``attempt`` gets the address of the node that leads, or HERE, and the seconds that are left.
        Raises CannotConnectNow (57P03) when ``budget_seconds`` are over, and what interrupts the
        wait.
        """
        asked = self._leadership if leadership is None else leadership
        deadline = self._clock.monotonic() + budget_seconds
        pause = PAUSE_SECONDS_MIN
        while True:
            target = HERE if asked.may_serve else asked.leader_address
            reason = "no leader is known"
            if target is not None:
                try:
                    return await attempt(target, max(deadline - self._clock.monotonic(), 0.0))
                except NotServed as error:
                    reason = error.reason
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise _cannot_serve(reason)
            self.retry_count += 1
            has_changed = await self._wait(min(pause, left), interrupts)
            # A new leader may need a moment before it serves: it is asked often at first.
            pause = PAUSE_SECONDS_MIN if has_changed else min(2 * pause, PAUSE_SECONDS_MAX)

    async def _wait(self, seconds: float, interrupts: Interrupts) -> bool:
        """Wait for another leader, but not for ever: this node may learn of it late."""
        waiter: Waiter[bool] = Waiter()
        timer = self._schedule.later(seconds, lambda: _wake(waiter, has_changed=False))
        unsubscribe = self._watch.subscribe(lambda: _wake(waiter, has_changed=True))
        try:
            return await interrupts.wait(waiter)
        finally:
            timer.cancel()
            unsubscribe()


def budget_seconds(statement_timeout_ms: int) -> float:
    """Return how long to look for somebody who serves a statement."""
    if not statement_timeout_ms:
        return BUDGET_SECONDS_MAX
    return min(statement_timeout_ms / 1000, BUDGET_SECONDS_MAX)


def _cannot_serve(reason: str) -> CannotConnectNow:
    return CannotConnectNow(
        "the database system is not accepting connections",
        detail=f"Group 1, which has the rows, cannot be reached: {reason}. Nothing was executed.",
        hint="Try again in a moment.",
    )


def _wake(waiter: Waiter[bool], *, has_changed: bool) -> None:
    waiter.set_result(has_changed)
