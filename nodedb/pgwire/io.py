"""The seam between a connection and the driver that owns its socket."""

from typing import Protocol


class ConnectionIo(Protocol):
    """What a connection asks of its driver."""

    def write(self, data: bytes) -> None:
        """Send bytes; may call ``write_paused`` before it returns."""

    def pause_input(self) -> None:
        """Stop reading from the socket."""

    def resume_input(self) -> None:
        """Read from the socket again."""

    def close(self) -> None:
        """Close after what was written is sent."""
