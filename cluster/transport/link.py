"""What a node keeps about one peer it speaks to: connection, breaker, back-off, last error.

No I/O: the driver asks it whether to dial, and tells it how that went.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.transport.api import PeerHealth
from cluster.transport.breaker import Breaker

if TYPE_CHECKING:
    from cluster.transport.config import TransportSettings
    from cluster.transport.session import Session


class Link:
    """The way to one address.

    ``session`` is the newest connection, made or being made. Invariant: while it is there no other
    one is dialled; one that ends is put away before the next begins.
    """

    __slots__ = (
        "_back_off_seconds",
        "_connected_at",
        "_dial_at",
        "_settings",
        "address",
        "breaker",
        "dropped_count",
        "last_error",
        "node_id",
        "session",
    )

    def __init__(self, address: str, settings: TransportSettings) -> None:
        self.address = address
        self.breaker = Breaker(settings.breaker_failures_max, settings.breaker_open_seconds)
        self.session: Session | None = None
        self.node_id = 0
        self.last_error = ""
        self.dropped_count = 0  # of connections that are over, and of messages without one
        self._settings = settings
        self._back_off_seconds = 0.0
        self._connected_at = 0.0
        self._dial_at = 0.0  # not before

    def wait_seconds(self, now: float) -> float:
        """Return how long to wait before dialling."""
        return max(self._dial_at - now, 0.0)

    def on_connected(self, now: float, node_id: int) -> None:
        """Take that the handshake succeeded."""
        self.node_id = node_id
        self._connected_at = now
        self.breaker.on_success()

    def on_failed(self, now: float, reason: str) -> None:
        """Take that dialling failed."""
        self._end(reason)
        self._back_off(now)
        self.breaker.on_failure(now)

    def on_lost(self, now: float, reason: str) -> None:
        """Take that an established connection ended. One that lived is dialled again at once."""
        self._end(reason)
        if now - self._connected_at < self._settings.back_off_cap_seconds:
            self._back_off(now)
        else:
            self._back_off_seconds = 0.0
        self.breaker.on_failure(now)

    def on_evidence(self, now: float) -> None:
        """Take that the peer has been heard otherwise: there is no reason to wait."""
        self._back_off_seconds = 0.0
        self._dial_at = now
        self.breaker.on_evidence(now)

    def put_away(self) -> Session | None:
        """Let go of the connection; it goes on to its end by itself."""
        session, self.session = self.session, None
        if session is not None:
            self.dropped_count += session.dropped_count
        return session

    def health(self, now: float) -> PeerHealth:
        """Return what is known."""
        session = self.session
        round_trip = None if session is None else session.round_trip_seconds
        return PeerHealth(
            self.address,
            self.node_id,
            self.breaker.state(now),
            self.breaker.failures,
            None if round_trip is None else round_trip * 1000,
            self.last_error,
            session is not None and session.is_connected,
            0 if session is None else session.queue_bytes,
            self.dropped_count + (0 if session is None else session.dropped_count),
        )

    def _end(self, reason: str) -> None:
        self.last_error = reason
        session = self.session
        if session is not None:
            session.lose(reason)
            self.put_away()

    def _back_off(self, now: float) -> None:
        first, cap = self._settings.back_off_first_seconds, self._settings.back_off_cap_seconds
        self._back_off_seconds = min(max(self._back_off_seconds * 2, first), cap)
        self._dial_at = now + self._back_off_seconds
