"""What the other packages see of the transport, and the errors it tells them apart by.

Three ways to speak to a peer, named by its address (``host:port``):

* a **message**: one way, ordered per peer, delivered at most once, dropped when there is no room;
* a **call**: a request and its answer within a deadline;
* a **stream**: chunks in both directions, flow-controlled, opened by a request.

The difference between *surely not handled* (``PeerUnavailable``) and *perhaps handled*
(``OutcomeUnknown``) is kept up to the client of the database: it is the one thing that may not be
blurred. What travels is opaque bytes; ``methods`` lists the numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine


class TransportError(Exception):
    """Root of the transport's errors; always one of the classes below."""


class PeerUnavailable(TransportError):
    """The request was surely not handled: breaker open, no connection, refused, never sent."""


class OutcomeUnknown(TransportError):
    """The request was sent and no answer came: it may have been handled."""


class StreamBroken(TransportError):
    """The stream ended out of order: connection lost, or given up by one of the sides."""


class RemoteError(TransportError):
    """The peer's handler refused. A handler raises it to say so.

    ``code`` is a SQLSTATE where the handler has one to tell, else "".
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Peer(NamedTuple):
    """Who is at the other end of a connection, as its handshake said and proved.

    ``address`` is the advertised one. ``spki_pin`` is that of the certificate it showed, "" without
    TLS. ``node_id`` is 0 and ``cluster_id`` "" while the peer has none yet.
    """

    node_id: int
    cluster_id: str
    address: str
    incarnation: int
    wire_version: int
    spki_pin: str = ""


class PeerHealth(NamedTuple):
    """One peer this node has spoken to, or tried to."""

    address: str
    node_id: int  # 0 while it never answered
    circuit: str  # "closed", "OPEN" or "half-open"
    failures: int  # in a row
    round_trip_ms: float | None  # smoothed over the pings of the connection
    last_error: str  # "" if there was none yet
    is_connected: bool = False
    queue_bytes: int = 0
    dropped_count: int = 0  # messages that were not accepted, or lost with a connection


class Refusal(NamedTuple):
    """A handshake that ended with a sentence, said by us or to us."""

    address: str  # as dialled, or as the peer advertises; the socket's where it said nothing
    node_id: int  # 0 if unknown
    by: str  # "us" or "peer": who refused
    reason: str
    at: float  # the transport's clock
    times: int  # how often in a row


class Stream(Protocol):
    """One end of a stream. Chunks keep their borders and their order.

    A chunk has at most ``config.CHUNK_BYTES_MAX`` (1 MiB); unread ones together fill a window of
    the same size, then ``send`` waits. One coroutine may send while another receives.
    """

    async def send(self, chunk: bytes) -> None:
        """Hand over one chunk; waits for the window. Raises StreamBroken; ValueError: too long."""

    async def receive(self) -> bytes | None:
        """Return the next chunk, or None when the other side finished. Raises StreamBroken."""

    def finish(self) -> None:
        """No more chunks from this side; those sent before still arrive. Idempotent."""

    def abort(self, reason: str) -> None:
        """End both directions now; the other side sees StreamBroken with the reason. Idempotent."""


class Transport(Protocol):
    """Speaks to peers by address and hears what they say.

    Its coroutines may be awaited by asyncio tasks and, without any loop, by whoever drives
    coroutines over single-shot waiters (an object with ``done`` and ``on_done``). The same holds
    for handlers: they may await either.
    """

    def send(self, address: str, kind: int, payload: bytes) -> bool:
        """Send one way. False: not accepted (queue full, breaker open, waiting to dial again).

        True promises nothing but order: a message is lost with its connection.
        """

    def call(
        self, address: str, method: int, payload: bytes, timeout_seconds: float
    ) -> Coroutine[Any, Any, bytes]:
        """Ask and wait for the answer.

        Raises PeerUnavailable, OutcomeUnknown, or RemoteError with what the peer's handler said.
        """

    def open_stream(self, address: str, method: int, payload: bytes) -> Coroutine[Any, Any, Stream]:
        """Open a stream once there is a connection. Raises PeerUnavailable."""

    def on_message(self, kind: int, handler: Callable[[Peer, bytes], None]) -> None:
        """Set the handler of a kind; it must not block and should not raise."""

    def on_call(self, method: int, handler: Callable[[Peer, bytes], Awaitable[bytes]]) -> None:
        """Set the handler of a method; it answers, or raises RemoteError."""

    def on_stream(
        self, method: int, handler: Callable[[Peer, bytes, Stream], Awaitable[None]]
    ) -> None:
        """Set the handler of streams; when it returns its side is finished, raising aborts."""

    def on_peer_lost(self, handler: Callable[[str], None]) -> None:
        """Be told the address of a peer whose connection, in either direction, was lost."""

    def health(self) -> list[PeerHealth]:
        """Return what is known of the peers dialled, by address."""
