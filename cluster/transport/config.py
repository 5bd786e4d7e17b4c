"""Settings of the transport, and the limits that both ends of a connection rely on."""

from __future__ import annotations

import dataclasses
from typing import Final

FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""Upper bound of a frame's payload, so of a message, a request and an answer."""
HANDSHAKE_BYTES_MAX: Final = 16 * 1024
"""The same before the peer has proved who it is."""
WINDOW_BYTES: Final = 1024 * 1024
"""Unread bytes of one direction of a stream. Part of wire version 1."""
CHUNK_BYTES_MAX: Final = WINDOW_BYTES
PART_BYTES_MAX: Final = 64 * 1024
"""A chunk travels in parts of at most this size: what a heartbeat may have to wait for."""
PART_COST_BYTES_MIN: Final = 256
"""What the smallest part takes of the window, so that empty chunks are bounded too."""
SECRET_BYTES_MIN: Final = 16
WIRE_VERSION: Final = 1
"""The newest wire version this build speaks."""
WIRE_VERSION_MIN: Final = 1
"""The oldest one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. ``authority`` may hold several certificates, which is how a CA is replaced."""

    certificate: str
    key: str
    authority: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """Settings of one node's transport.

    ``tls`` None is plain TCP, for development on loopback, and needs ``is_insecure``. The secret
    is never shown: not in ``repr``, not in logs, not on the wire.
    """

    tls: TlsFiles | None = None
    secret: bytes = dataclasses.field(default=b"", repr=False)
    is_insecure: bool = False
    rpc_timeout_seconds: float = 5.0
    """Bound of dialling, TLS and handshake together."""
    queue_bytes_max: int = 16 * 1024 * 1024
    """What may wait to be sent to one peer; a single longer message passes an empty queue."""
    calls_waiting_max: int = 10_000
    """Calls that wait for room in that queue, per peer."""
    calls_running_max: int = 4096
    """Handlers at work for one connection; further calls are refused."""
    streams_max: int = 1024
    """Streams open on one connection."""
    handshakes_max: int = 256
    """Accepted connections that have not proved anything yet."""
    ping_interval_seconds: float = 1.0
    silent_intervals_max: int = 5
    """A connection on which nothing arrives for so many intervals in a row is lost."""
    back_off_first_seconds: float = 0.05
    back_off_cap_seconds: float = 1.0
    breaker_failures_max: int = 5
    breaker_open_seconds: float = 10.0
    wire_version_min: int = WIRE_VERSION_MIN
    wire_version_max: int = WIRE_VERSION

    def faults(self) -> list[str]:
        """Return what is wrong with the settings, a sentence each."""
        faults = []
        if self.tls is None and not self.is_insecure:
            faults.append("nodes speak TLS: give certificates, or --insecure for development")
        if self.tls is not None and self.is_insecure:
            faults.append("certificates and --insecure exclude each other")
        if not self.is_insecure and not self.secret:
            faults.append("nodes need the cluster secret beside their certificates")
        if self.secret and len(self.secret) < SECRET_BYTES_MIN:
            faults.append(f"the cluster secret must have at least {SECRET_BYTES_MIN} bytes")
        if self.rpc_timeout_seconds <= 0:
            faults.append("the rpc timeout must be above zero")
        if not 1 <= self.wire_version_min <= self.wire_version_max <= WIRE_VERSION:
            faults.append(f"wire versions must lie between 1 and {WIRE_VERSION}")
        return faults


@dataclasses.dataclass(slots=True)
class LocalIdentity:
    """Who this node is; its owner fills in what becomes known.

    After a change call ``reintroduce`` of the transport, so that peers learn it. ``address`` is the
    advertised one; when empty, the address listened on is put in.
    """

    node_id: int = 0
    cluster_id: str = ""
    address: str = ""
    incarnation: int = 0
