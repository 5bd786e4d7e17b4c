"""Settings of the front end: limits with their units."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PgWireSettings:
    """What an operator may set of the front end. Times in seconds, 0 switches a timeout off.

    ``insecure_networks`` holds CIDR texts; a client from there is trusted without
    a password, and exempt from ``require_tls``. ``mock_secret`` seeds the salts shown for
    unknown roles: the same on all nodes, or a client can tell such a role by its changing salt;
    empty means a random one per process.
    """

    max_connections: int = 100
    authentication_timeout_seconds: float = 60.0
    idle_timeout_seconds: float = 0.0
    drain_timeout_seconds: float = 10.0
    require_tls: bool = False
    insecure_networks: tuple[str, ...] = ()
    message_bytes_max: int = 256 * 1024 * 1024
    # Input that piles up behind a running statement before the socket is no longer read.
    input_bytes_pause: int = 256 * 1024
    # Results are handed to the socket in pieces of about this size.
    output_bytes_flush: int = 64 * 1024
    mock_secret: bytes = b""
