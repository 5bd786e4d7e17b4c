"""A node that forwards everything to itself: the whole path of forwarding without a network.

For tests (``NODEDB_FAULT_FORWARD`` with ``--fault-injection``): whatever works on one node has to
work like this as well. ``Loopback`` is as much of a transport as that takes, with the windows of
the real one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cluster.transport.api import Peer, PeerUnavailable, StreamBroken
from nodedb.waiter import Runner, Waiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.transport.api import Stream

WINDOW_BYTES: Final = 1 << 20
ADDRESS: Final = "loopback"
_PEER: Final = Peer(1, "loopback", ADDRESS, 1, 1)


class ForwardingLeadership:
    """Of a node whose leader is, for its clients, always another one: itself."""

    may_serve: Final = False
    tenure: Final = 0
    may_serve_stale: Final = True
    leader_address: Final = ADDRESS

    def changed(self) -> Waiter[None]:
        """Return a waiter that is never done."""
        return Waiter()


class LoopbackStream:
    """One end of a stream within the process."""

    def __init__(self) -> None:
        self.other: LoopbackStream = self
        self._chunks: deque[bytes] = deque()
        self._unread_bytes = 0
        self._is_finished = False
        self._broken_by = ""
        self._reader: Waiter[None] | None = None
        self._writer: Waiter[None] | None = None

    async def send(self, chunk: bytes) -> None:
        """Hand over one chunk; waits for the window. Raises StreamBroken."""
        other = self.other
        while not self._broken_by and other._unread_bytes >= WINDOW_BYTES:  # noqa: SLF001  its twin
            self._writer = Waiter()
            await self._writer
        if self._broken_by:
            raise StreamBroken(self._broken_by)
        other.take(chunk)

    async def receive(self) -> bytes | None:
        """Return the next chunk, or None when the other side finished. Raises StreamBroken."""
        while not self._chunks:
            if self._broken_by:
                raise StreamBroken(self._broken_by)
            if self._is_finished:
                return None
            self._reader = Waiter()
            await self._reader
        chunk = self._chunks.popleft()
        self._unread_bytes -= len(chunk)
        if self._unread_bytes < WINDOW_BYTES:
            self.other.wake_writer()
        return chunk

    def finish(self) -> None:
        """No more chunks from this side; nothing after it broke."""
        if not self._broken_by:
            self.other.end()

    def abort(self, reason: str) -> None:
        """End both directions now."""
        self.break_off(reason)
        self.other.break_off(reason)

    # From its twin

    def take(self, chunk: bytes) -> None:
        """Take a chunk."""
        self._chunks.append(chunk)
        self._unread_bytes += len(chunk)
        self._wake_reader()

    def end(self) -> None:
        """Take the end."""
        self._is_finished = True
        self._wake_reader()

    def break_off(self, reason: str) -> None:
        """Take the loss."""
        self._broken_by = self._broken_by or reason or "given up"
        self._wake_reader()
        self.wake_writer()

    def wake_writer(self) -> None:
        """Let the sender look at the window again."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.set_result(None)

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.set_result(None)


class Loopback:
    """Opens streams to handlers of the same process, by address; unknown ones are unreachable."""

    def __init__(self) -> None:
        self._handlers: dict[str, Callable[[Peer, bytes, Stream], Awaitable[None]]] = {}
        self._streams: dict[str, list[LoopbackStream]] = {}

    def serve(
        self, address: str, handler: Callable[[Peer, bytes, Stream], Awaitable[None]]
    ) -> None:
        """Have streams to an address handled."""
        self._handlers[address] = handler

    def lose(self, address: str) -> None:
        """Lose an address with all its streams."""
        self._handlers.pop(address, None)
        for stream in self._streams.pop(address, []):
            stream.abort("connection lost")

    async def open_stream(self, address: str, method: int, payload: bytes) -> Stream:
        """Open a stream. Raises PeerUnavailable."""
        del method
        handler = self._handlers.get(address)
        if handler is None:
            raise PeerUnavailable(f"{address} cannot be reached")
        near, far = LoopbackStream(), LoopbackStream()
        near.other, far.other = far, near
        streams = self._streams.setdefault(address, [])
        streams.append(far)

        def ended(error: BaseException | None) -> None:
            if far in streams:
                streams.remove(far)
            if error is not None:
                far.abort(str(error))
            far.finish()

        async def run() -> None:
            await handler(_PEER, payload, far)

        Runner(run(), ended).step()
        return near
