"""Where a node's transactions get their timestamps.

``LocalTimestamps`` asks the oracle of this very node, which leads the metadata group: a plain call,
in the turn of the caller. ``TimestampRequests`` gathers the requests of a node that does not lead,
for a transport to carry.

What holds for both (PROTOCOL, commit timestamps): a timestamp is above every one that was handed
out before it was asked for. So a caller joins only a request that has not left yet, and nothing is
fetched ahead of its use, kept, or used twice.

Not done here: the transport between nodes, and the lease under which an oracle may answer.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from cluster.ids import METADATA_GROUP
from cluster.metadata.command import TimestampWindow, encode_command
from cluster.metadata.oracle import COUNTER_BITS, physical_ms
from nodedb.errors import LeaderChanged
from nodedb.waiter import Interrupts, Waiter
from sql.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.metadata.oracle import TimestampOracle
    from nodedb.clock import Clock
    from nodedb.kv.replicator import Replicator, Schedule
    from sql.errors import SerializationFailure

_LOGGER: Final = logging.getLogger("nodedb.timestamps")


def leader_has_changed() -> SerializationFailure:
    """Return the error (40001) of a transaction whose leader lost its group before the commit."""
    return LeaderChanged()


def _no_room() -> DiskFull:
    return DiskFull(
        "could not extend the write-ahead log: no space left on device",
        detail="The window of the timestamps could not be raised. Nothing was committed.",
        hint="Check free disk space.",
    )


WAIT_SECONDS_MAX: Final = 1.0
"""How long to sleep at most before looking at the clock again: it may be set meanwhile."""


class LocalTimestamps:
    """Timestamps from this node's oracle, whose window is kept durable in the metadata group."""

    def __init__(
        self, oracle: TimestampOracle, replicator: Replicator, clock: Clock, schedule: Schedule
    ) -> None:
        self._oracle = oracle
        self._replicator = replicator
        self._clock = clock
        self._schedule = schedule
        self._is_waiting = False
        self.is_replicated = False
        """The window takes other nodes to raise: a timestamp does not run ahead of it."""
        self._raising = 0
        """The end of the window that is being made durable, 0 for none."""
        self._followers: list[Waiter[None]] = []
        self.wait_count = 0
        """Commits that had to wait for the clock."""

    def reset(self, oracle: TimestampOracle) -> None:
        """Go on with the oracle of a new leader; a window asked for by the old one is void."""
        self._oracle = oracle
        self._raising = 0
        self._tell_followers(leader_has_changed)

    def allocate(self, count: int = 1) -> int:
        """Return the first of ``count`` fresh timestamps in a row, above all earlier ones.

        A raised window is proposed first: on a node by itself whatever uses the timestamp is
        flushed with it or later, or refused with it. In a cluster a commit asks ``is_ahead`` first,
        and then needs no new window; what only has to be unique (row ids) may be ahead of it, for
        the commit that follows is not. Who may wait does so first, by ``ready``.
        """
        oracle = self._oracle
        timestamp, reserve_until = oracle.allocate(self._clock.wall_us() // 1000, count)
        if reserve_until is None and self.is_replicated:
            reserve_until = oracle.renewal(self._clock.wall_us() // 1000)
        if reserve_until is not None:
            self._raise_window(oracle, reserve_until)
        return timestamp

    def _raise_window(self, oracle: TimestampOracle, until: int) -> None:
        window = TimestampWindow(until)
        waiter = self._replicator.propose(METADATA_GROUP, encode_command(window), window)
        self._raising = until

        def decided() -> None:
            error = waiter.error
            oracle.window_decided(until, is_durable=error is None)
            if oracle is not self._oracle:
                return  # Of a tenure that is over.
            if self._raising == until:
                self._raising = 0
            if error is None:
                self._tell_followers(None)
            else:
                is_full = isinstance(error, DiskFull)
                self._tell_followers(_no_room if is_full else leader_has_changed)

        waiter.on_done(decided)

    def _tell_followers(self, make_error: Callable[[], BaseException] | None) -> None:
        """Have those who wait for the window look again, or fail each with an error of its own."""
        followers, self._followers = self._followers, []
        for follower in followers:
            if make_error is None:
                follower.set_result(None)
            else:
                follower.set_error(make_error())

    @property
    def is_ahead(self) -> bool:
        """Tell whether commits have to await ``ready``."""
        return self._oracle.is_ahead or (
            self.is_replicated and not self._oracle.covers(self._clock.wall_us() // 1000)
        )

    @property
    def lead_seconds(self) -> float:
        """How far the newest timestamp is ahead of the wall clock, 0 if it is not."""
        return max(physical_ms(self._oracle.last) - self._clock.wall_us() // 1000, 0) / 1000

    async def ready(self, interrupts: Interrupts) -> None:
        """Wait until the oracle does not lead the clock by too much.

        The caller allocates in the turn in which this returns. Raises what cancels the statement.
        """
        wait_ms = self._oracle.wait_ms(self._clock.wall_us() // 1000)
        self.wait_count += wait_ms > 0
        while wait_ms > 0:
            self._tell(wait_ms)
            waiter: Waiter[None] = Waiter()
            seconds = min(wait_ms / 1000, WAIT_SECONDS_MAX)
            timer = self._schedule.later(seconds, partial(_wake, waiter))
            try:
                await interrupts.wait(waiter)
            finally:
                timer.cancel()
            wait_ms = self._oracle.wait_ms(self._clock.wall_us() // 1000)
        if self._is_waiting:
            self._is_waiting = False
            _LOGGER.info("the clock has caught up with the timestamps: commits go on")
        if self.is_replicated:
            await self._window_covers(interrupts)

    async def _window_covers(self, interrupts: Interrupts) -> None:
        """Wait until the durable window has room for the next timestamp (40001, 53100 if not)."""
        while not self._oracle.covers(self._clock.wall_us() // 1000):
            if not self._raising:
                now_ms = self._clock.wall_us() // 1000
                until = self._oracle.renewal(now_ms) or self._oracle.reserved_until
                self._raise_window(self._oracle, until)
            raised: Waiter[None] = Waiter()
            self._followers.append(raised)
            await interrupts.wait(raised)

    def _tell(self, wait_ms: int) -> None:
        """Say once that commits wait, until they do no longer."""
        if self._is_waiting:
            return
        self._is_waiting = True
        _LOGGER.warning(
            "commits wait %.1f s for the clock: the newest timestamp is %.1f s ahead of it, more"
            " than timestamps may count on by themselves (did the clock step back?)",
            wait_ms / 1000,
            self.lead_seconds,
        )


class TimestampRequests:
    """Gathers requests for timestamps while one is on its way; sans I/O.

    ``send(number, count)`` is called when a request leaves; its owner reports the end of it by
    ``on_reply`` or ``on_failure``. One request at a time: who comes while it is away waits for the
    next, because its numbers may have been given before the newcomer began.
    """

    def __init__(self, send: Callable[[int, int], None]) -> None:
        self._send = send
        self._gathering: list[tuple[Waiter[int], int]] = []
        self._away: list[tuple[Waiter[int], int]] = []
        self._number = 0
        self._newest = 0

    def request(self, count: int = 1) -> Waiter[int]:
        """Return a waiter for the first of ``count`` timestamps in a row."""
        assert 0 < count < 1 << COUNTER_BITS
        waiter: Waiter[int] = Waiter()
        self._gathering.append((waiter, count))
        if not self._away:
            self._leave()
        return waiter

    def on_reply(self, number: int, first: int) -> None:
        """Hand out the timestamps from ``first`` on; a reply that is no longer awaited is dropped.

        What it carried is used by nobody then, as is the share of a waiter that was cancelled.
        """
        if not self._away or number != self._number:
            return
        assert first > self._newest, f"timestamp {first} after {self._newest}"
        served, self._away = self._away, []
        self._newest = first + sum(count for _, count in served) - 1
        # The next request leaves before anybody is resumed: who asks again then joins a later one.
        if self._gathering:
            self._leave()
        for waiter, count in served:
            waiter.set_result(first)
            first += count

    def on_failure(self, number: int, make_error: Callable[[], BaseException]) -> None:
        """Fail those whose request is lost, each with an error of its own; the others are sent."""
        if not self._away or number != self._number:
            return
        failed, self._away = self._away, []
        if self._gathering:
            self._leave()
        for waiter, _ in failed:
            waiter.set_error(make_error())

    def _leave(self) -> None:
        self._away, self._gathering = self._gathering, []
        self._number += 1
        self._send(self._number, sum(count for _, count in self._away))


def _wake(waiter: Waiter[None]) -> None:
    waiter.set_result(None)
