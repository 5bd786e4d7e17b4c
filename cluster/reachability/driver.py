"""Probes peers whose breaker is open, every interval, through a function of the node's.

The probe is a call through the breaker, such as ``transport.call(address, PING, ...)``: when its
cool-down is over, the call is its trial, and closes it or opens it again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from cluster.reachability.config import ReachabilitySettings
from cluster.reachability.core import CircuitState, ReachabilityCore, ReachabilityCounters

Health = Callable[[], Iterable[CircuitState]]
Probe = Callable[[str], Awaitable[object]]


class ReachabilityDriver:
    """One task that waits, and one per probe under way. Failed probes raise what they like."""

    def __init__(
        self,
        settings: ReachabilitySettings,
        health: Health,
        probe: Probe,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a driver. Raises InvalidReachabilitySetting."""
        self._settings = settings
        self._health = health
        self._probe = probe
        self._clock = clock
        self._core = ReachabilityCore(settings, clock())
        self._ticker: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()

    @property
    def counters(self) -> ReachabilityCounters:
        """What has happened since the start, for metrics."""
        return self._core.counters

    def start(self) -> None:
        """Begin; the first probes come one interval from now."""
        assert self._ticker is None, "started twice"
        self._core = ReachabilityCore(self._settings, self._clock())
        self._ticker = asyncio.create_task(self._run(), name="reachability")
        self._ticker.add_done_callback(_report)

    async def close(self) -> None:
        """Stop, and give up probes under way. Harmless when repeated, or before ``start``."""
        tasks = [task for task in (self._ticker, *self._probes) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ticker = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._core.next_tick_at - self._clock()))
            for address in self._core.tick(self._health(), self._clock()):
                task = asyncio.create_task(self._try(address), name=f"probe of {address}")
                self._probes.add(task)
                task.add_done_callback(self._probes.discard)

    async def _try(self, address: str) -> None:
        is_answered = False
        try:
            async with asyncio.timeout(self._settings.probe_timeout_seconds):
                await self._probe(address)
            is_answered = True
        except Exception:  # noqa: BLE001, S110
            # Whatever a probe fails with, its breaker has seen it, and the next tick tries again.
            pass
        finally:
            self._core.on_result(address, is_answered=is_answered)


def _report(ticker: asyncio.Task[None]) -> None:
    """Say at once that the ticker has ended: nothing but a fault in ``health`` can end it."""
    if not ticker.cancelled() and (fault := ticker.exception()) is not None:
        context = {"message": "the reachability driver has stopped", "exception": fault}
        ticker.get_loop().call_exception_handler(context)
