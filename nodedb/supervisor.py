"""Owner of asyncio tasks: none is lost, none fails in silence, all end when their owner does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from nodedb.waiter import Runner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

_LOGGER: Final = logging.getLogger("nodedb.supervisor")


class Supervisor:
    """Tasks of one subsystem. A task that fails is logged; a loop that fails is run again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure_count = 0
        self.last_failure = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_stopped = False

    def start(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[Any] | None:
        """Run something that ends by itself; nothing once stopped."""
        if self._is_stopped:
            coroutine.close()
            return None
        task = asyncio.get_running_loop().create_task(self._watch(name, coroutine), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def repeat(self, name: str, seconds: float, step: Callable[[], Awaitable[None] | None]) -> None:
        """Call ``step`` again and again, so many seconds apart, whatever becomes of it."""

        async def loop() -> None:
            while True:
                await asyncio.sleep(seconds)
                try:
                    waiting = step()
                    if waiting is not None:
                        await waiting
                except Exception as error:  # noqa: BLE001  told, and tried again
                    self._note(name, error)

        self.start(name, loop())

    async def stop(self) -> None:
        """End all tasks and wait for their end."""
        self._is_stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001  what a supervisor is for
            self._note(name, error)

    def _note(self, name: str, error: Exception) -> None:
        self.failure_count += 1
        self.last_failure = f"{name}: {error}"
        _LOGGER.error("%s: %s failed", self.name, name, exc_info=error)


async def loop_result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine over ``nodedb.waiter`` to its end from an asyncio task.

    It may await what belongs to the loop too. Cancelling the task leaves it running.
    """
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    result: list[Any] = []

    async def run() -> None:
        result.append(await coroutine)

    def finished(error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result[0])
        else:
            future.set_exception(error)

    Runner(run(), finished).step()
    return await future
