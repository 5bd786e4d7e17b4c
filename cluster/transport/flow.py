"""Credit accounting of one direction of a stream: how much may be on its way unread.

The sender starts with ``WINDOW_BYTES`` of credit and spends it part by part; the receiver gives
back what its reader took. Invariant: spent and not given back never exceeds the window, so a
receiver holds at most that much. No clock, no I/O.
"""

from __future__ import annotations

from typing import Final

from cluster.transport.config import PART_BYTES_MAX, PART_COST_BYTES_MIN, WINDOW_BYTES

_GIVE_BACK_BYTES: Final = WINDOW_BYTES // 4


def part_cost(part_bytes: int) -> int:
    """Return what a part takes of the window; a chunk of full size costs the whole window."""
    return max(part_bytes, PART_COST_BYTES_MIN)


def split(chunk: bytes) -> list[bytes]:
    """Cut a chunk into the parts it travels in; an empty chunk is one empty part."""
    if len(chunk) <= PART_BYTES_MAX:
        return [chunk]
    return [chunk[at : at + PART_BYTES_MAX] for at in range(0, len(chunk), PART_BYTES_MAX)]


class SendWindow:
    """The sender's credit."""

    __slots__ = ("credit_bytes",)

    def __init__(self) -> None:
        self.credit_bytes = WINDOW_BYTES

    def take(self, cost: int) -> bool:
        """Spend credit for a part; False: there is not enough, wait."""
        if cost > self.credit_bytes:
            return False
        self.credit_bytes -= cost
        return True

    def give(self, credit_bytes: int) -> bool:
        """Take back credit; False: more than was ever spent, the peer broke the protocol."""
        self.credit_bytes += credit_bytes
        return self.credit_bytes <= WINDOW_BYTES


class ReceiveWindow:
    """The receiver's side: what arrived and was not given back yet."""

    __slots__ = ("_consumed_bytes", "_held_bytes")

    def __init__(self) -> None:
        self._held_bytes = 0  # arrived, credit not given back
        self._consumed_bytes = 0  # of these: read, so they may be given back

    def arrive(self, cost: int) -> bool:
        """Count a part in; False: the peer sends beyond its credit."""
        self._held_bytes += cost
        return self._held_bytes <= WINDOW_BYTES

    def consume(self, cost: int, *, is_last: bool) -> int:
        """Count a chunk as read; return the credit to give back now, 0 for none.

        Credit is collected to save frames. It is given back at the latest with the last chunk that
        waits (``is_last``): the next one may need the whole window to arrive at all.
        """
        self._consumed_bytes += cost
        if self._consumed_bytes < _GIVE_BACK_BYTES and not is_last:
            return 0
        credit_bytes, self._consumed_bytes = self._consumed_bytes, 0
        self._held_bytes -= credit_bytes
        return credit_bytes
