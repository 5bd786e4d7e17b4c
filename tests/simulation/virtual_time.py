"""Time that only passes when nothing is left to do: a queue of calls, in order of their moments."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Call:
    """A scheduled call, which may be cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualTime:
    """The one clock of a world; calls of the same moment run in the order they were made."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.event_count = 0
        self._queue: list[tuple[float, int, Call]] = []
        self._number = 0

    def later(self, seconds: float, callback: Callable[[], None]) -> Call:
        call = Call(callback)
        self._number += 1
        heapq.heappush(self._queue, (self.now + seconds, self._number, call))
        return call

    def run_until(self, end: float, after_event: Callable[[], None]) -> None:
        """Run everything up to a moment; ``after_event`` follows each call."""
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, call = heapq.heappop(queue)
            if call.callback is None:
                continue
            self.event_count += 1
            call.callback()
            after_event()
        self.now = end
