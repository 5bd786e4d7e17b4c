"""One end of a stream: windows, borders of chunks, and how it ends. No I/O.

What leaves goes through a ``StreamIo``: a connection's session, or the in-memory twin.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from cluster.transport.api import StreamBroken
from cluster.transport.completion import Completion, Loop
from cluster.transport.config import CHUNK_BYTES_MAX
from cluster.transport.flow import ReceiveWindow, SendWindow, part_cost, split

if TYPE_CHECKING:
    from collections.abc import Callable


class StreamIo(Protocol):
    """What a stream asks of what carries it; calls after the stream's end are ignored."""

    def send_part(self, stream: StreamEnd, part: bytes, *, is_last: bool) -> None:
        """Send a part of a chunk, in order."""

    def send_credit(self, stream: StreamEnd, credit_bytes: int) -> None:
        """Give back credit."""

    def send_finish(self, stream: StreamEnd) -> None:
        """Say that no more parts come, behind those sent before."""

    def send_abort(self, stream: StreamEnd, reason: str) -> None:
        """Say that the stream is over."""

    def room(self) -> Completion[None] | None:
        """Return what to wait for before the next part is sent; None: nothing."""

    def ended(self, stream: StreamEnd) -> None:
        """Forget the stream: both directions are finished, or it broke."""


class StreamEnd:
    """Implements ``api.Stream``."""

    __slots__ = (
        "_assembly",
        "_chunks",
        "_io",
        "_is_discarding",
        "_is_finished_here",
        "_is_finished_there",
        "_is_over",
        "_loop",
        "_on_broken",
        "_reader",
        "_received",
        "_send_window",
        "_writer",
        "broken_by",
        "stream_id",
    )

    def __init__(self, stream_id: int, io: StreamIo, loop: Loop | None) -> None:
        self.stream_id = stream_id
        self.broken_by = ""  # the reason, once it broke
        self._io = io
        self._loop = loop
        self._send_window = SendWindow()
        self._received = ReceiveWindow()
        self._chunks: deque[tuple[bytes, int]] = deque()  # chunk and what it took of the window
        self._assembly: list[bytes] = []  # parts of a chunk whose last one is missing
        self._reader: Completion[None] | None = None
        self._writer: Completion[None] | None = None
        self._on_broken: Callable[[], None] | None = None
        self._is_finished_here = False
        self._is_finished_there = False
        self._is_discarding = False
        self._is_over = False

    # api.Stream

    async def send(self, chunk: bytes) -> None:
        """Hand over one chunk; waits for the window. Raises StreamBroken; ValueError: too long."""
        if len(chunk) > CHUNK_BYTES_MAX:
            raise ValueError(f"a chunk has at most {CHUNK_BYTES_MAX} bytes, not {len(chunk)}")
        assert not self._is_finished_here, "sent after finish"
        assert self._writer is None, "two coroutines send on one stream"
        parts = split(chunk)
        for place, part in enumerate(parts, 1):
            cost = part_cost(len(part))
            while True:
                if self.broken_by:
                    raise StreamBroken(self.broken_by)
                room = self._io.room()
                if room is None and self._send_window.take(cost):
                    break
                await self._wait_to_write(room)
            self._io.send_part(self, part, is_last=place == len(parts))

    async def receive(self) -> bytes | None:
        """Return the next chunk, or None when the other side finished. Raises StreamBroken."""
        while not self._chunks:
            if self.broken_by:
                raise StreamBroken(self.broken_by)
            if self._is_finished_there:
                return None
            assert self._reader is None, "two coroutines receive from one stream"
            self._reader = Completion(self._loop)
            try:
                await self._reader
            finally:
                self._reader = None
        chunk, cost = self._chunks.popleft()
        self._give_back(cost)
        return chunk

    def finish(self) -> None:
        """No more chunks from this side; those sent before still arrive. Idempotent."""
        if self._is_finished_here or self.broken_by:
            return
        self._is_finished_here = True
        self._io.send_finish(self)
        self._end_if_over()

    def abort(self, reason: str) -> None:
        """End both directions now; the other side sees StreamBroken with the reason. Idempotent."""
        if self.broken_by or self._is_over:
            return
        self._io.send_abort(self, reason)
        self.break_off(reason)

    # For its owner.

    def on_broken(self, handler: Callable[[], None]) -> None:
        """Be told when it breaks; for the driver that may have to end a handler."""
        self._on_broken = handler

    def discard_rest(self) -> None:
        """Read on behalf of a handler that returned: what still arrives is dropped."""
        self._is_discarding = True
        while self._chunks:
            _, cost = self._chunks.popleft()
            self._give_back(cost)

    # What arrives.

    def on_part(self, part: bytes, *, is_last: bool) -> str:
        """Take a part; returns a sentence if the peer broke the protocol, else ""."""
        if self._is_finished_there:
            return "a part of a stream arrived after its end"
        if not self._received.arrive(part_cost(len(part))):
            return "a stream was sent beyond its window"
        self._assembly.append(part)
        if not is_last:
            return ""
        parts, self._assembly = self._assembly, []
        chunk = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(chunk) > CHUNK_BYTES_MAX:
            return "a chunk of a stream is too long"
        self._chunks.append((chunk, sum(part_cost(len(each)) for each in parts)))
        if self._is_discarding:
            self.discard_rest()
        self._wake_reader()
        return ""

    def on_credit(self, credit_bytes: int) -> str:
        """Take credit back; returns a sentence if it is more than was spent, else ""."""
        if not self._send_window.give(credit_bytes):
            return "a stream was given more credit than it spent"
        self._wake_writer()
        return ""

    def on_finish(self) -> str:
        """Take the peer's end; returns a sentence if a chunk is left incomplete, else ""."""
        if self._assembly:
            return "a stream was finished amid a chunk"
        self._is_finished_there = True
        self._wake_reader()
        self._end_if_over()
        return ""

    def break_off(self, reason: str) -> None:
        """End it without telling the peer: it said so itself, or cannot be told."""
        if self.broken_by or self._is_over:
            return
        self.broken_by = reason or "the stream was given up"
        self._assembly.clear()
        self._end()
        self._wake_reader()
        self._wake_writer()
        if self._on_broken is not None:
            self._on_broken()

    # The rest.

    async def _wait_to_write(self, room: Completion[None] | None) -> None:
        self._writer = room or Completion(self._loop)
        try:
            await self._writer
        finally:
            self._writer = None

    def _give_back(self, cost: int) -> None:
        credit_bytes = self._received.consume(cost, is_last=not self._chunks)
        if credit_bytes and not self._is_finished_there and not self.broken_by:
            self._io.send_credit(self, credit_bytes)

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self._reader.set_result(None)

    def _wake_writer(self) -> None:
        if self._writer is not None:
            self._writer.set_result(None)

    def _end_if_over(self) -> None:
        if self._is_finished_here and self._is_finished_there:
            self._end()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._io.ended(self)
