"""Settings of start, join and health monitoring, with the formula of the back-off."""

from __future__ import annotations

import dataclasses
from typing import Final

REDIRECTS_MAX: Final = 3
"""Leader redirects followed in one attempt; each costs a round trip."""
_DELAY_SECONDS_MIN: Final = 0.001


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StartSettings:
    """How long and how often a new node asks. Times are seconds."""

    attempts_max: int = 8
    """Attempts before the back-off stays at its cap (NODEDB_JOIN_RETRY_MAX_ATTEMPTS)."""
    back_off_seconds_max: float = 32.0
    """The cap (NODEDB_JOIN_RETRY_MAX_BACKOFF_SECS)."""
    budget_seconds: float = 120.0
    """After this the node gives up, with one last attempt."""
    greet_timeout_seconds: float = 1.0
    join_timeout_seconds_first: float = 1.0
    join_timeout_seconds_max: float = 6.0
    """Above the 5 s in which a leader answers, so that its sentence arrives."""
    srv_refresh_seconds: float = 5.0

    def delay_seconds(self, attempt: int) -> float:
        """Return the wait before an attempt, counted from 0: ``cap >> (attempts - attempt)``.

        With the defaults 0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 32, ... The reference would not wait at
        all beyond the last; here the cap stays until the budget is spent.
        """
        assert attempt >= 0, attempt
        if attempt == 0:
            return 0.0
        halvings = max(self.attempts_max - attempt, 0)
        return float(max(self.back_off_seconds_max / 2**halvings, _DELAY_SECONDS_MIN))

    def join_timeout_seconds(self, attempt: int) -> float:
        """Return how long to wait for a verdict: 1 s, then a second more each time, up to 6 s.

        An answer that was lost costs little so, and asking again is harmless (it is idempotent).
        """
        return min(self.join_timeout_seconds_first * (attempt + 1), self.join_timeout_seconds_max)

    def faults(self) -> list[str]:
        """Return what is wrong with the settings, a sentence each."""
        faults = []
        if not 1 <= self.attempts_max <= 64:
            faults.append("join_retry_max_attempts must be from 1 to 64")
        if not 0 < self.back_off_seconds_max <= 3600:
            faults.append("join_retry_max_backoff_secs must be from 1 to 3600")
        if not 0 < self.budget_seconds <= 86_400:
            faults.append("join_budget_seconds must be from 1 to 86400")
        return faults


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """How often members ask each other. Times are seconds."""

    ping_interval_seconds: float = 5.0
    ping_timeout_seconds: float = 2.0
    push_timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Assert that a ping is over before the next one."""
        assert 0 < self.ping_timeout_seconds < self.ping_interval_seconds
