"""What waits to leave on one connection, in two priorities and with bounds. No I/O.

**Control** (messages, requests, answers, credit) goes first, all of it in one write; **bulk**
(parts of streams) fills what is left. A message that finds no room is refused, a call waits in a
line of its own, parts wait in their stream. A frame that finds the queue empty always passes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cluster.transport import frame as f
from cluster.transport.completion import Completion, Loop
from cluster.transport.config import PART_BYTES_MAX, WINDOW_BYTES

if TYPE_CHECKING:
    from cluster.transport.environment import Timer
    from cluster.transport.stream import StreamEnd

BULK_BYTES_MAX: Final = WINDOW_BYTES


class PendingCall:
    """A request of ours until its answer."""

    __slots__ = ("completion", "heard_at_send", "is_sent", "method", "number", "timer")

    def __init__(self, number: int, method: int, completion: Completion[bytes]) -> None:
        self.number = number
        self.method = method
        self.completion = completion
        self.timer: Timer | None = None
        self.is_sent = False
        self.heard_at_send = 0  # how often anything had arrived when it left


class Outbox:
    """The queues of one connection; ``queue_bytes`` counts the control queue, headers included."""

    __slots__ = (
        "_bulk",
        "_bulk_waiters",
        "_control",
        "_queue_bytes_max",
        "_waiting",
        "bulk_bytes",
        "queue_bytes",
    )

    def __init__(self, queue_bytes_max: int) -> None:
        self.queue_bytes = 0
        self.bulk_bytes = 0
        self._queue_bytes_max = queue_bytes_max
        self._control: deque[tuple[f.Frame, PendingCall | None]] = deque()
        self._waiting: deque[tuple[f.Frame, PendingCall]] = deque()
        self._bulk: deque[tuple[f.Frame, StreamEnd]] = deque()
        self._bulk_waiters: list[Completion[None]] = []

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing waits."""
        return not (self._control or self._waiting or self._bulk)

    @property
    def has_bulk(self) -> bool:
        """Tell whether parts wait."""
        return bool(self._bulk)

    @property
    def waiting_count(self) -> int:
        """Calls that wait for room."""
        return len(self._waiting)

    def has_room(self, payload_bytes: int) -> bool:
        """Tell whether a frame may be queued."""
        size = self.queue_bytes + payload_bytes + f.HEADER_BYTES
        return not self.queue_bytes or size <= self._queue_bytes_max

    def add(self, frame: f.Frame) -> None:
        """Queue a control frame, room or not: answers and what keeps the protocol going."""
        self.queue_bytes += len(frame[4]) + f.HEADER_BYTES
        self._control.append((frame, None))

    def add_call(self, frame: f.Frame, call: PendingCall) -> None:
        """Queue a request, or let it wait for room in its turn."""
        if self._waiting or not self.has_room(len(frame[4])):
            self._waiting.append((frame, call))
        else:
            self._queue_call(frame, call)

    def add_bulk(self, frame: f.Frame, stream: StreamEnd) -> None:
        """Queue a frame of a stream behind its parts."""
        self.bulk_bytes += len(frame[4])
        self._bulk.append((frame, stream))

    def take_control(self, heard_count: int) -> list[f.Frame]:
        """Take every control frame; calls count as sent from here on."""
        frames: list[f.Frame] = []
        while self._control:
            for frame, call in self._control:
                if call is not None:
                    if call.completion.done:
                        continue  # given up while it waited: surely not handled
                    call.is_sent = True
                    call.heard_at_send = heard_count
                frames.append(frame)
            self._control.clear()
            self.queue_bytes = 0
            while self._waiting and self.has_room(len(self._waiting[0][0][4])):
                self._queue_call(*self._waiting.popleft())
        return frames

    def take_bulk(self) -> list[f.Frame]:
        """Take frames of streams for one write, up to the size of the largest part."""
        frames = []
        size = 0
        while self._bulk and size < PART_BYTES_MAX:
            frame, stream = self._bulk.popleft()
            self.bulk_bytes -= len(frame[4])
            if not stream.broken_by:
                size += len(frame[4])
                frames.append(frame)
        return frames

    def bulk_room(self, loop: Loop | None) -> Completion[None] | None:
        """Return what to wait for while too many parts wait; None: there is room."""
        if self.bulk_bytes < BULK_BYTES_MAX:
            return None
        waiter: Completion[None] = Completion(loop)
        self._bulk_waiters.append(waiter)
        return waiter

    def wake_writers(self) -> None:
        """Let streams go on once the parts have gone down by half."""
        if self._bulk_waiters and self.bulk_bytes < BULK_BYTES_MAX // 2:
            waiters, self._bulk_waiters = self._bulk_waiters, []
            for waiter in waiters:
                waiter.set_result(None)

    def clear(self) -> int:
        """Throw everything away; returns how many messages were lost with it."""
        message_count = sum(frame[0] == f.MESSAGE for frame, _ in self._control)
        self._control.clear()
        self._waiting.clear()
        self._bulk.clear()
        self.queue_bytes = self.bulk_bytes = 0
        self.wake_writers()
        return message_count

    def _queue_call(self, frame: f.Frame, call: PendingCall) -> None:
        self.queue_bytes += len(frame[4]) + f.HEADER_BYTES
        self._control.append((frame, call))
