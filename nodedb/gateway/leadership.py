"""Who serves the rows: what the statement path asks before it reads or writes anything.

Until rows are spread over several groups, one data group holds all of them, and the node that leads
it under a lease runs every statement that touches rows or descriptors. The other nodes forward
whole batches to it.
"""

from collections.abc import Callable
from typing import Final, Protocol

from nodedb.waiter import Waiter


class Leadership(Protocol):
    """The data group's leadership as this node knows it."""

    @property
    def may_serve(self) -> bool:
        """Tell whether this node may run a strong statement that begins in this very turn.

        Looks at a fresh clock each time (PROTOCOL rule 37), so it is asked after the request was
        read and in the turn that reads the state.
        """

    @property
    def tenure(self) -> int:
        """The term this node leads in, 0 when it does not.

        What was read, locked or validated in one tenure is never committed in another (rule 3).
        """

    @property
    def leader_address(self) -> str | None:
        """The rpc address of the leader if that is another node and known; None otherwise."""

    @property
    def may_serve_stale(self) -> bool:
        """Tell whether this node's replica may answer ``eventual`` reads from its applied state.

        Not while it is installing a snapshot, nor after it was removed (rule 51).
        """

    def changed(self) -> Waiter[None]:
        """Return a waiter that is done as soon as one of these may have changed."""


class AlwaysLeader:
    """A node by itself."""

    may_serve: Final = True
    tenure: Final = 1
    leader_address: Final = None
    may_serve_stale: Final = True

    def changed(self) -> Waiter[None]:
        """Return a waiter that is never done."""
        return Waiter()


class LeadershipWatch:
    """Tells any number of listeners whenever the leadership may have changed.

    It asks for one waiter at a time, so whoever stops listening leaves nothing behind.
    """

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_key = 0
        self._arm()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` at every change; returns what ends that, which may be called twice."""
        key = self._next_key
        self._next_key += 1
        self._listeners[key] = listener
        return lambda: self._forget(key)

    def _forget(self, key: int) -> None:
        self._listeners.pop(key, None)

    def _arm(self) -> None:
        self._leadership.changed().on_done(self._on_change)

    def _on_change(self) -> None:
        # First: a listener may cause the next change.
        self._arm()
        for key, listener in list(self._listeners.items()):
            if key in self._listeners:
                listener()
