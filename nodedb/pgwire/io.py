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


class Gate(Protocol):
    """Decides, batch by batch, whether a connection runs it or another node."""

    @property
    def is_home(self) -> bool:
        """Tell whether the next batch may well be run here, so that trying is worth while."""

    async def admit(self) -> None:
        """Return once the messages that come next are for the connection itself, or run out.

        What is not for it has been answered by then.
        """

    async def recover(self, error: Exception) -> bool:
        """Deal with an error by having the batch run elsewhere; False leaves it to be reported."""

    def wake(self) -> None:
        """Note that something came, or changed, while the connection does not wait for input."""

    def let_go(self) -> None:
        """End what is under way elsewhere; the connection is over."""
