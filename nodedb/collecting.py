"""Garbage collection in the background: a watermark behind now, and versions below it removed.

The watermark is an entry of the group's log, so the leader raises it; each replica removes for
itself what it allows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from cluster.metadata.oracle import pack_timestamp
from nodedb.waiter import Waiter

if TYPE_CHECKING:
    from nodedb.clock import Clock
    from nodedb.kv.replicator import Schedule
    from nodedb.txn.manager import TransactionManager

BATCH: Final = 2000
ROUNDS_PER_TTL: Final = 4
PAUSE_SECONDS: Final = 0.05


class Collection:
    """The collection of one node."""

    def __init__(
        self,
        transactions: TransactionManager,
        clock: Clock,
        schedule: Schedule,
        ttl_seconds: int,
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._schedule = schedule
        self._ttl_seconds = ttl_seconds

    def schedule_rounds(self) -> None:
        """Collect again and again, ``ROUNDS_PER_TTL`` times in each ``ttl_seconds``."""
        interval = max(self._ttl_seconds / ROUNDS_PER_TTL, 1.0)

        def collect() -> None:
            self._raise_watermark()
            step(b"\0")

        def step(position: bytes) -> None:
            following, _ = self._transactions.collect(position, BATCH)
            if following is None:
                self._schedule.later(interval, collect)
            else:
                self._schedule.later(PAUSE_SECONDS, partial(step, following))

        self._schedule.later(interval, collect)

    def _raise_watermark(self) -> Waiter[int] | None:
        """Propose a watermark ``ttl_seconds`` behind now.

        None when nothing was written since, or another node leads.
        """
        manager = self._transactions
        now_ms = self._clock.wall_us() // 1000
        watermark = min(
            pack_timestamp(max(now_ms - self._ttl_seconds * 1000, 1)), manager.group.last_timestamp
        )
        if not manager.tenure or watermark <= manager.group.watermark:
            return None
        return manager.raise_watermark(watermark)

    async def collect_now(self) -> None:
        """Collect everything the watermark allows."""
        waiter = self._raise_watermark()
        if waiter is not None:
            await waiter
        position: bytes | None = b"\0"
        while position is not None:
            position, _ = self._transactions.collect(position, BATCH)
            pause: Waiter[None] = Waiter()
            self._schedule.soon(partial(_wake, pause))
            await pause


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)
