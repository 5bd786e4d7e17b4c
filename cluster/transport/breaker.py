"""A circuit breaker as a pure state machine: after failures in a row a peer is left alone.

::

    closed --failures_max in a row--> OPEN --open_seconds--> half-open --success--> closed
                                       ^                        |
                                       +-------- failure -------+

While half-open one attempt is let through at a time. ``on_evidence`` that the peer lives, which is
its own connection to us, ends the waiting early: else nothing would be said to a node that has come
back for the rest of ``open_seconds``, and an election that needs it would take as long. No clock:
``now`` is given.
"""

from __future__ import annotations

from typing import Final

CLOSED: Final = "closed"
OPEN: Final = "OPEN"
HALF_OPEN: Final = "half-open"


class Breaker:
    """The breaker of one peer."""

    __slots__ = ("_failures_max", "_open_seconds", "_open_until", "_trial_until", "failures")

    def __init__(self, failures_max: int, open_seconds: float) -> None:
        self.failures = 0  # in a row
        self._failures_max = failures_max
        self._open_seconds = open_seconds
        self._open_until: float | None = None  # None: closed
        self._trial_until: float | None = None  # half-open, and an attempt is under way

    def state(self, now: float) -> str:
        """Return ``closed``, ``OPEN`` or ``half-open``."""
        if self._open_until is None:
            return CLOSED
        return OPEN if now < self._open_until else HALF_OPEN

    def may_try(self, now: float) -> bool:
        """Tell whether an attempt may begin, and count it as the one trial if half-open.

        A trial that reports nothing for ``open_seconds`` no longer keeps others from trying.
        """
        if self._open_until is None:
            return True
        if now < self._open_until or (self._trial_until is not None and now < self._trial_until):
            return False
        self._trial_until = now + self._open_seconds
        return True

    def on_success(self) -> None:
        """Close it."""
        self.failures = 0
        self._open_until = self._trial_until = None

    def on_failure(self, now: float) -> bool:
        """Count a failure; returns whether it is open now. One while open extends the time."""
        self.failures += 1
        self._trial_until = None
        if self._open_until is not None or self.failures >= self._failures_max:
            self._open_until = now + self._open_seconds
            return True
        return False

    def on_evidence(self, now: float) -> None:
        """Let the next attempt through: the peer has been heard."""
        if self._open_until is not None:
            self._open_until = min(self._open_until, now)
            self._trial_until = None
