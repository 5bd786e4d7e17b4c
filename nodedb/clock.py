"""The node's clocks, passed to whoever needs time; simulation passes its own."""

import time
from typing import Final, Protocol

POSTGRES_EPOCH_US: Final = 946_684_800_000_000
"""2000-01-01 00:00:00 UTC in microseconds since the Unix epoch: zero of SQL timestamps."""


class Clock(Protocol):
    """A wall clock that may step, and a monotonic one that does not."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""


class SystemClock:
    """The machine's clocks."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()


def sql_timestamp(wall_us: int) -> int:
    """Turn Unix microseconds into a SQL timestamptz datum."""
    return wall_us - POSTGRES_EPOCH_US
