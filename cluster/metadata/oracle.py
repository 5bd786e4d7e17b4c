"""The timestamp oracle as a pure core: unique, increasing timestamps from a durable window.

A timestamp is 64 bits: 46 of milliseconds since the Unix epoch, 18 of counter. The oracle hands out
nothing at or above ``reserved_until`` before that bound has been raised in the log, so whoever
leads next starts above everything its predecessor gave. The clock may step backwards: timestamps go
on from the highest one given, the counter carrying over into the milliseconds.

How far ahead of the clock they may run: the reference is the highest wall time this oracle has
seen, or where it started if that is later. It leads that by less than ``LEAD_MS_MAX`` as long as
whoever asks for a timestamp waits while ``wait_ms`` says so. A clock that steps back therefore
stops nobody: the reference stays, and there are 1.3 billion timestamps to count through before
anybody has to wait for the clock to come back.

Source: TiDB's and Percolator's timestamp oracle (Peng, Dabek 2010, section 2.3). Left to the
driver: making the window durable before the timestamp becomes visible to anybody, and waiting.
"""

from typing import Final, NamedTuple

COUNTER_BITS: Final = 18
COUNTER_MASK: Final = (1 << COUNTER_BITS) - 1
PHYSICAL_BITS: Final = 46
WINDOW_MS: Final = 3_000
LEAD_MS_MAX: Final = 5_000


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

    def __init__(self, reserved_until: int, lead_ms_max: int = LEAD_MS_MAX) -> None:
        """Start above everything an earlier oracle may have given.

        Its window's end, a packed timestamp.
        """
        self.last = reserved_until
        self.reserved_until = reserved_until
        self._durable_until = reserved_until
        self._lead_ms_max = lead_ms_max
        self._lead_max = pack_timestamp(lead_ms_max)
        # The highest wall time so far. The window's end counts as seen, for the clock may be an
        # hour behind it, and that must not stop anybody.
        self._seen = pack_timestamp(physical_ms(reserved_until))

    def allocate(self, now_ms: int, count: int = 1) -> Allocation:
        """Return the first of the next ``count`` timestamps.

        ``now_ms`` is the wall clock, which may lie.
        """
        assert count > 0
        timestamp = now_ms << COUNTER_BITS
        self._seen = max(self._seen, timestamp)
        if timestamp <= self.last:
            timestamp = self.last + 1
        self.last = timestamp + count - 1
        assert not self.last >> COUNTER_BITS + PHYSICAL_BITS, "the clock is past the year 4199"
        if self.last < self.reserved_until:
            return Allocation(timestamp, None)
        self.reserved_until = pack_timestamp(physical_ms(self.last) + WINDOW_MS)
        return Allocation(timestamp, self.reserved_until)

    def covers(self, now_ms: int) -> bool:
        """Tell whether the next timestamp lies inside the window that is durable already."""
        return max(now_ms << COUNTER_BITS, self.last + 1) < self._durable_until

    def renewal(self, now_ms: int) -> int | None:
        """Return the window's new end to be made durable, None while more than half is left.

        For an oracle whose window takes a quorum to raise: asked for ahead, nobody waits for it.
        """
        newest = max(now_ms, physical_ms(self.last))
        if physical_ms(self.reserved_until) - newest > WINDOW_MS // 2:
            return None
        self.reserved_until = pack_timestamp(newest + WINDOW_MS)
        return self.reserved_until

    @property
    def is_ahead(self) -> bool:
        """Tell whether the next timestamp would lead too far, by the clock as last seen."""
        return self.last + 1 >= self._seen + self._lead_max

    def wait_ms(self, now_ms: int) -> int:
        """Return how far the clock has to go before the next timestamp may be asked for; 0: now."""
        self._seen = max(self._seen, now_ms << COUNTER_BITS)
        if not self.is_ahead:
            return 0
        return physical_ms(self.last + 1) + 1 - self._lead_ms_max - now_ms

    def window_decided(self, until: int, *, is_durable: bool) -> None:
        """Learn what became of a raised window: a refused one must be asked for again."""
        if is_durable:
            self._durable_until = max(self._durable_until, until)
        elif self.reserved_until == until:
            self.reserved_until = self._durable_until
