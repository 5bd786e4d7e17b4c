"""A stream's two directions as callbacks, for who cannot stand waiting in either.

The transport's coroutines are driven over waiters (``nodedb.waiter.Runner``), as statements are: no
task is made, and a chunk is handled in the turn in which it arrives.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from cluster.transport.api import TransportError
from nodedb.waiter import Runner, Waiter

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from cluster.transport.api import Stream

_LOGGER: Final = logging.getLogger("nodedb.gateway")
QUEUE_BYTES_HIGH: Final = 512 * 1024
"""What may wait for the stream's window before its owner should stop adding to it."""
QUEUE_BYTES_LOW: Final = 128 * 1024


class ChannelOwner(Protocol):
    """Whose channel it is."""

    def on_chunk(self, chunk: bytes) -> None:
        """Take a chunk."""

    def on_finished(self) -> None:
        """Learn that the other side finished in order: no more chunks."""

    def on_broken(self, reason: str) -> None:
        """Learn that the stream broke, or could not be opened: nothing more goes either way."""

    def on_room(self) -> None:
        """Learn that the queue, which was full, has room again."""


class Channel:
    """One end of a stream. After ``finish`` or ``abort`` its owner is told nothing any more.

    After ``on_broken`` neither; after ``on_finished`` only that the stream broke.
    """

    def __init__(self, owner: ChannelOwner, opening: Awaitable[Stream]) -> None:
        self._owner: ChannelOwner | None = owner
        self._opening: Awaitable[Stream] | None = opening
        self._stream: Stream | None = None
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._is_full = False
        self._is_paused = False
        self._is_finishing = False
        self._aborted_by = ""
        self._reader: Waiter[None] | None = None
        self._writer: Waiter[None] | None = None
        self.sent: Waiter[None] = Waiter()
        """Done when all that will ever be sent has been."""

    def start(self) -> None:
        """Open the stream; what is sent before it is open waits for that."""
        Runner(self._open(), self._ended).step()

    @property
    def is_full(self) -> bool:
        """Tell whether to wait for ``on_room`` before sending more."""
        return self._is_full

    def send(self, chunk: bytes) -> None:
        """Queue a chunk; nothing happens behind the end."""
        if self._is_finishing:
            return
        self._queue.append(chunk)
        self._queued_bytes += len(chunk)
        self._is_full = self._is_full or self._queued_bytes > QUEUE_BYTES_HIGH
        self._wake_writer()

    def pause(self) -> None:
        """Read no more; what the other side sends then fills the stream's window."""
        self._is_paused = True

    def resume(self) -> None:
        """Read again."""
        self._is_paused = False
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.set_result(None)

    def finish(self) -> None:
        """Send what is queued, then finish, and hear no more."""
        self._owner = None
        self.resume()
        self.finish_sending()

    def finish_sending(self) -> None:
        """Send what is queued, then finish this side; the other one goes on."""
        self._is_finishing = True
        self._wake_writer()

    def abort(self, reason: str) -> None:
        """Give the stream up now."""
        self._owner = None
        self._is_finishing = True
        self._aborted_by = reason
        self._queue.clear()
        if self._stream is not None:
            self._stream.abort(reason)
        self.resume()
        self._wake_writer()

    async def _open(self) -> None:
        assert self._opening is not None
        opening, self._opening = self._opening, None
        self._stream = await opening
        if self._aborted_by:
            self._stream.abort(self._aborted_by)
            self.sent.set_result(None)
            return
        Runner(self._read(self._stream), self._ended).step()
        Runner(self._write(self._stream), self._ended).step()

    async def _read(self, stream: Stream) -> None:
        while True:
            if self._is_paused:
                self._reader = Waiter()
                await self._reader
                continue
            chunk = await stream.receive()
            if chunk is None:
                if self._owner is not None:
                    self._owner.on_finished()
                return
            if self._owner is not None:
                self._owner.on_chunk(chunk)

    async def _write(self, stream: Stream) -> None:
        queue = self._queue
        while True:
            while queue:
                chunk = queue.popleft()
                await stream.send(chunk)
                self._queued_bytes -= len(chunk)
                if self._is_full and self._queued_bytes <= QUEUE_BYTES_LOW:
                    self._is_full = False
                    if self._owner is not None:
                        self._owner.on_room()
            if self._is_finishing:
                stream.finish()
                self.sent.set_result(None)
                return
            self._writer = Waiter()
            await self._writer

    def _wake_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.set_result(None)

    def _ended(self, error: BaseException | None) -> None:
        """Take the end of one of the coroutines."""
        if error is None:
            return
        self.sent.set_result(None)
        owner, self._owner = self._owner, None
        if not isinstance(error, TransportError):
            _LOGGER.error("a stream is given up", exc_info=error)
            if self._stream is not None:
                self._stream.abort("internal error")
        if owner is not None:
            owner.on_broken(str(error))
