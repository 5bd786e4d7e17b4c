"""What the sessions of a node share to reach the node that serves the rows."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from cluster.transport.methods import EXECUTE
from nodedb.gateway.leadership import LeadershipWatch
from nodedb.gateway.message import Prime, Request, encode_prime
from nodedb.gateway.retry import Retry
from nodedb.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from cluster.transport.api import Stream, Transport
    from nodedb.catalog.metadata import MetadataState
    from nodedb.clock import Clock
    from nodedb.gateway.leadership import Leadership
    from nodedb.kv.replicator import Schedule
    from nodedb.session.session import Session
    from nodedb.session.state import StateSync
    from nodedb.waiter import Interrupts

CATALOG_WAIT_SECONDS_MAX: Final = 5.0
"""How long a client's answer waits until this node has the catalog that its statement made."""


ORIGIN_BITS: Final = 63
"""A run of a node is told from all others by so many bits at random."""


class Forwarding:
    """The way to executors, and the budget for finding one."""

    def __init__(
        self,
        leadership: Leadership,
        transport: Transport,
        metadata: MetadataState,
        schedule: Schedule,
        clock: Clock,
    ) -> None:
        self.leadership = leadership
        self.transport = transport
        self.schedule = schedule
        self.clock = clock
        self.watch = LeadershipWatch(leadership)
        self.retry = Retry(leadership, self.watch, schedule, clock)
        self.batch_count = 0
        """Batches that other nodes have answered."""
        self._origin = secrets.randbits(ORIGIN_BITS)
        self._request_count = 0
        self._timestamp = 0
        """The newest that an executor has told of."""
        self._metadata = metadata
        self._waiting: dict[int, Waiter[None]] = {}
        self._next_key = 0
        metadata.on_catalog_change.append(lambda _: self._wake_all())

    def open(self, address: str, session: Session, sync: StateSync) -> Awaitable[Stream]:
        """Open a stream to an executor that goes on with a session's state."""
        prime = Prime(
            session.process_id,
            session.login_user_id,
            session.database_id,
            session.peer,
            session.backend_start,
            sync.export_all(),
        )
        return self.transport.open_stream(address, EXECUTE, encode_prime(prime))

    def new_request(self, session: Session) -> Request:
        """Name a batch that has not been sent yet."""
        self._request_count += 1
        here = session.node.transactions.group.last_timestamp
        return Request(self._origin, self._request_count, max(here, self._timestamp))

    def note_timestamp(self, timestamp: int) -> None:
        """Note what has been committed before any request to come."""
        self._timestamp = max(self._timestamp, timestamp)

    async def wait_for_catalog(self, index: int, interrupts: Interrupts) -> None:
        """Wait until this node has applied a catalog change, so that its client sees its own.

        Not for ever: a node that is cut off from the metadata group shows what it has.
        """
        deadline = self.clock.monotonic() + CATALOG_WAIT_SECONDS_MAX
        while self._metadata.catalog.schema_version < index:
            left = deadline - self.clock.monotonic()
            if left <= 0:
                return
            await self._wait(left, interrupts)

    async def _wait(self, seconds: float, interrupts: Interrupts) -> None:
        waiter: Waiter[None] = Waiter()
        key = self._next_key
        self._next_key += 1
        self._waiting[key] = waiter
        timer = self.schedule.later(seconds, lambda: _wake(waiter))
        try:
            await interrupts.wait(waiter)
        finally:
            timer.cancel()
            self._waiting.pop(key, None)

    def _wake_all(self) -> None:
        for waiter in list(self._waiting.values()):
            waiter.set_result(None)


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)
