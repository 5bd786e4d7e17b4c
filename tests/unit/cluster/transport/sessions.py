"""Two sessions joined back to back, in virtual time: no socket, no event loop."""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from cluster.transport import frame as f
from cluster.transport.api import Peer
from cluster.transport.completion import run_without_loop
from cluster.transport.config import TransportSettings
from cluster.transport.environment import Counters
from cluster.transport.faults import FaultPolicy
from cluster.transport.session import Session


class Timers:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.at = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()

    def later(self, seconds: float, callback: Callable[[], None]) -> Any:
        number = next(self._numbers)
        heapq.heappush(self._heap, (self.at + seconds, number, callback))
        cancelled = self._cancelled

        class Handle:
            def cancel(self) -> None:
                cancelled.add(number)

        return Handle()

    def advance(self, seconds: float) -> None:
        until = self.at + seconds
        while self._heap and self._heap[0][0] <= until:
            self.at, number, callback = heapq.heappop(self._heap)
            if number not in self._cancelled:
                callback()
        self.at = until


class Side:
    """One end: environment, socket and session in one. ``socket_bytes_max`` is when it is full."""

    def __init__(
        self, timers: Timers, settings: TransportSettings, *, is_dialler: bool, **session: Any
    ) -> None:
        self.settings = settings
        self.timers = timers
        self.loop = None
        self.faults: FaultPolicy | None = FaultPolicy(random.Random(1))
        self.counters = Counters()
        self.messages: dict[int, Callable[[Peer, bytes], None]] = {}
        self.calls: dict[int, Callable[[Peer, bytes], Awaitable[bytes]]] = {}
        self.streams: dict[int, Callable[[Peer, bytes, Any], Awaitable[None]]] = {}
        self.later = timers.later
        self.run = run_without_loop
        name = "dialler:1" if is_dialler else "accepter:1"
        self.peer = Peer(1 if is_dialler else 2, "c", name, 1, 1)
        self.session = Session(
            self,
            "accepter:1" if is_dialler else "dialler:1",
            is_dialler=is_dialler,
            **session,
        )
        self.decoder = f.FrameDecoder()
        self.decoder.establish(1)
        self.written: deque[bytes] = deque()
        self.write_count = 0
        self.socket_bytes_max = 1 << 30
        self.failed_with = ""
        self.is_flush_due = False
        self.is_reading = True
        self.frames_received: list[f.Frame] = []

    def now(self) -> float:
        return self.timers.at

    # session.SessionIo

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.write_count += 1
        if sum(map(len, self.written)) > self.socket_bytes_max:
            self.session.pause()

    def fail(self, reason: str) -> None:
        self.failed_with = self.failed_with or reason
        self.session.lose(reason)

    def flush_soon(self) -> None:
        self.is_flush_due = True

    def pause_input(self) -> None:
        self.is_reading = False

    def resume_input(self) -> None:
        self.is_reading = True

    def unsent_bytes(self) -> int:
        return sum(map(len, self.written))


class Pair:
    """A connection of two sides."""

    def __init__(self, *, connect: bool = True, **settings: Any) -> None:
        self.timers = Timers()
        made = TransportSettings(is_insecure=True, **settings)
        self.silent_calls = 0
        self.dialler = Side(
            self.timers, made, is_dialler=True, on_silent_call=self._count_silent_call
        )
        self.accepter = Side(self.timers, made, is_dialler=False)
        self.outcomes: list[tuple[Any, BaseException | None]] = []
        if connect:
            self.connect()

    def connect(self) -> None:
        self.dialler.session.attach(self.dialler, self.accepter.peer, 0)
        self.accepter.session.attach(self.accepter, self.dialler.peer, 0)

    def start(self, coroutine: Awaitable[Any]) -> None:
        run_without_loop(coroutine, lambda value, error: self.outcomes.append((value, error)))

    def flush(self) -> None:
        """Let the turn end on both sides."""
        for side in (self.dialler, self.accepter):
            if side.is_flush_due:
                side.is_flush_due = False
                side.session.flush()

    def carry(self, source: Side, target: Side) -> bool:
        """Carry one write over; False when there was none, or the target does not read."""
        if not source.written or not target.is_reading:
            return False
        frames = target.decoder.feed(source.written.popleft())
        target.frames_received += frames
        target.session.hear()
        if frames and not target.session.lost_by:
            target.session.receive(frames)
        if target.decoder.error and not target.session.lost_by:
            target.session.violate(target.decoder.error)
        if not source.session.lost_by:
            source.session.resume()
        return True

    def settle(self) -> None:
        """Carry everything over until nothing moves."""
        moved = True
        while moved:
            self.flush()
            moved = self.carry(self.dialler, self.accepter)
            moved = self.carry(self.accepter, self.dialler) or moved
            moved = moved or self.dialler.is_flush_due or self.accepter.is_flush_due

    def _count_silent_call(self) -> None:
        self.silent_calls += 1
