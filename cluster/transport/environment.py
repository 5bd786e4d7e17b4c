"""What a connection needs of its surroundings: a socket, time, handlers, somebody to run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cluster.transport.api import Peer
    from cluster.transport.completion import Loop
    from cluster.transport.config import TransportSettings
    from cluster.transport.faults import FaultPolicy


class Timer(Protocol):
    """What ``later`` returns."""

    def cancel(self) -> object:
        """Do not call back."""


class SessionIo(Protocol):
    """The socket, as a session sees it."""

    def write(self, data: bytes) -> None:
        """Send bytes; may call ``pause`` of the session before it returns."""

    def fail(self, reason: str) -> None:
        """Close the connection and report its loss with this reason."""

    def flush_soon(self) -> None:
        """Call ``flush`` of the session in the next turn."""

    def pause_input(self) -> None:
        """Stop reading."""

    def resume_input(self) -> None:
        """Read again."""

    def unsent_bytes(self) -> int:
        """Return how many written bytes the system has not taken yet."""


class Environment(Protocol):
    """What a session needs of its surroundings: handlers, time, and somebody to run coroutines."""

    settings: TransportSettings
    loop: Loop | None
    faults: FaultPolicy | None
    counters: Counters
    messages: dict[int, Callable[[Peer, bytes], None]]
    calls: dict[int, Callable[[Peer, bytes], Awaitable[bytes]]]
    streams: dict[int, Callable[[Peer, bytes, Any], Awaitable[None]]]

    def now(self) -> float:
        """Return monotonic seconds."""

    def later(self, seconds: float, callback: Callable[[], None], /) -> Timer:
        """Call back after a time."""

    def run(
        self,
        coroutine: Awaitable[Any],
        on_finish: Callable[[Any, BaseException | None], None],
        /,
    ) -> None:
        """Drive a handler's coroutine; ``on_finish(value, error)`` is called once."""


class Counters:
    """What the transport has done since it was made, for metrics."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "calls_answered",
        "calls_sent",
        "connections_lost",
        "frames_duplicate",
        "handshakes_refused",
        "messages_dropped",
        "messages_received",
        "messages_sent",
        "streams_opened",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    bytes_received: int
    bytes_sent: int
    calls_answered: int
    calls_sent: int
    connections_lost: int
    frames_duplicate: int
    handshakes_refused: int
    messages_dropped: int
    messages_received: int
    messages_sent: int
    streams_opened: int
