"""The timestamp oracle as a pure core: unique, increasing timestamps from a durable window.

A timestamp is 64 bits: 46 of milliseconds since the Unix epoch, 18 of counter. The oracle hands out
nothing at or above ``reserved_until`` before that bound has been raised in the log, so whoever
leads next starts above everything its predecessor gave. The clock may step backwards: timestamps go
on from the highest one given, the counter carrying over into the milliseconds.

Source: TiDB's and Percolator's timestamp oracle (Peng, Dabek 2010, section 2.3). Left to the
driver: making the window durable before the timestamp becomes visible to anybody.
"""

from typing import Final, NamedTuple

COUNTER_BITS: Final = 18
COUNTER_MASK: Final = (1 << COUNTER_BITS) - 1
WINDOW_MS: Final = 3_000


def pack_timestamp(physical_ms: int, counter: int = 0) -> int:
    """Join milliseconds and counter."""
    return physical_ms << COUNTER_BITS | counter


def physical_ms(timestamp: int) -> int:
    """Return the milliseconds since the Unix epoch that a timestamp carries."""
    return timestamp >> COUNTER_BITS


class Allocation(NamedTuple):
    """A timestamp, and what has to happen before it is used.

    ``reserve_until`` is the new end of the window, which must be durable first (None: covered).
    """

    timestamp: int
    reserve_until: int | None


class TimestampOracle:
    """Hands out timestamps.

    Invariant: each is above all earlier ones and below the window's durable end.
    """

    def __init__(self, reserved_until: int) -> None:
        """Start above everything an earlier oracle may have given.

        Its window's end, a packed timestamp.
        """
        self.last = reserved_until
        self.reserved_until = reserved_until
        self._durable_until = reserved_until

    def allocate(self, now_ms: int, count: int = 1) -> Allocation:
        """Return the first of the next ``count`` timestamps.

        ``now_ms`` is the wall clock, which may lie.
        """
        timestamp = max(self.last + 1, now_ms << COUNTER_BITS)
        self.last = timestamp + count - 1
        if self.last < self.reserved_until:
            return Allocation(timestamp, None)
        self.reserved_until = pack_timestamp(physical_ms(self.last) + WINDOW_MS)
        return Allocation(timestamp, self.reserved_until)

    def window_decided(self, until: int, *, is_durable: bool) -> None:
        """Learn what became of a raised window: a refused one must be asked for again."""
        if is_durable:
            self._durable_until = max(self._durable_until, until)
        elif self.reserved_until == until:
            self.reserved_until = self._durable_until
