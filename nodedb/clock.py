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

    # Asked twice for each statement: the function itself, for a frame around it costs more than it.
    monotonic = staticmethod(time.monotonic)


class FaultClock:
    """A clock whose wall time a test may set, for nodes started with ``--fault-injection``."""

    def __init__(self, real: Clock) -> None:
        self._real = real
        self.offset_us = 0

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch, and the offset."""
        return self._real.wall_us() + self.offset_us

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""
        return self._real.monotonic()


def boot_seconds() -> float:
    """Return seconds since the machine started, those included in which it slept.

    What leases are counted by: a clock that stood still during sleep would make them too long
    (PROTOCOL rule 37).
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def sql_timestamp(wall_us: int) -> int:
    """Turn Unix microseconds into a SQL timestamptz datum."""
    return wall_us - POSTGRES_EPOCH_US
