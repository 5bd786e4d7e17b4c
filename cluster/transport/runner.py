"""Runs handlers' coroutines: without a task for as long as they only wait for waiters.

A handler that needs nothing of the event loop answers in the very turn in which the request was
read. One that yields a future of the loop is continued in a task, which first yields that same
future, and bridges waiters from then on.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator


class HandlerRun:
    """One handler's coroutine; ``on_finish(value, error)`` is called once.

    ``loop`` makes futures, ``spawn`` makes a task that the owner cancels when it closes.
    """

    __slots__ = ("_iterator", "_loop", "_on_finish", "_spawn")

    def __init__(
        self,
        coroutine: Awaitable[Any],
        on_finish: Callable[[Any, BaseException | None], None],
        *,
        loop: Any,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._iterator: Any = coroutine.__await__()
        self._on_finish = on_finish
        self._loop = loop
        self._spawn = spawn

    def step(self) -> None:
        """Run until it waits or ends."""
        value: Any = None
        error: BaseException | None = None
        try:
            while True:
                suspension = next(self._iterator)
                if not hasattr(suspension, "on_done"):
                    self._spawn(self._in_task(suspension))
                    return
                if not suspension.done:
                    suspension.on_done(self.step)
                    return
        except StopIteration as stop:
            value = stop.value
        except BaseException as caught:  # noqa: BLE001  told to the peer by the session
            error = caught
        self._on_finish(value, error)

    async def _in_task(self, first: Any) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = await _go_on(self._loop, self._iterator, first)
        except BaseException as caught:  # noqa: BLE001  told to the peer by the session
            error = caught
        self._on_finish(value, error)
        if error is not None and not isinstance(error, Exception):
            raise error  # the task was cancelled


@types.coroutine
def _go_on(loop: Any, iterator: Any, suspension: Any) -> Generator[Any, Any, Any]:
    """Drive a coroutine inside a task, beginning with what it has yielded already."""
    while True:
        sent: Any = None
        try:
            if hasattr(suspension, "on_done") and not hasattr(suspension, "add_done_callback"):
                if not suspension.done:
                    future = loop.create_future()
                    suspension.on_done(lambda each=future: each.done() or each.set_result(None))
                    yield from future
            else:
                sent = yield suspension
        except BaseException as caught:  # noqa: BLE001  thrown into the coroutine
            advance, argument = iterator.throw, caught
        else:
            advance, argument = iterator.send, sent
        try:
            suspension = advance(argument)
        except StopIteration as stop:
            return stop.value
