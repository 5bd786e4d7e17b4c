"""The runner of a connection's coroutine."""

from collections.abc import Callable, Coroutine
from typing import Any

from nodedb.waiter import Runner


class FlushingRunner(Runner):
    """A runner that lets its connection send what a waiting client may need.

    ``after_step()`` is called whenever the coroutine has stopped: it waits, or is over.
    """

    __slots__ = ("_after_step",)

    def __init__(
        self,
        coroutine: Coroutine[Any, None, Any],
        on_finish: Callable[[BaseException | None], None],
        after_step: Callable[[], None],
    ) -> None:
        super().__init__(coroutine, on_finish)
        self._after_step = after_step

    def step(self) -> None:
        """Run until the coroutine waits or ends."""
        after_step = self._after_step
        super().step()
        after_step()
