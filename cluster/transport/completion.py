"""What the transport's coroutines wait for, and a runner for coroutines without an event loop.

A ``Completion`` is a single-shot value that two kinds of drivers can await:

* those that drive coroutines over waiters (``done``, ``on_done``), as statements are and as the
  simulation does: they are resumed in the very turn in which the value arrives;
* tasks of an event loop: it speaks the duck-typed protocol of futures, and wakes the task by the
  loop's ``call_soon``. The loop is handed in; without one only the first kind may await.

Source: Python documentation, "Futures" (``isfuture`` and ``_asyncio_future_blocking``).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Loop(Protocol):
    """What a completion needs of an event loop."""

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: Any) -> object:
        """Call it in one of the next turns."""


class Suspension(Protocol):
    """What a coroutine driven over waiters yields; ``nodedb.waiter.Waiter`` is one too."""

    @property
    def done(self) -> bool:
        """Tell whether the coroutine may go on."""

    def on_done(self, resume: Callable[[], None]) -> None:
        """Call ``resume`` once it may."""


# Whoever completes something while another coroutine is being resumed only puts it in line, so
# that chains of completions do not grow the stack. One thread, one loop: one line.
_line: Final[deque[Callable[[], None]]] = deque()


def _resume_in_turn(resume: Callable[[], None]) -> None:
    _line.append(resume)
    if len(_line) > 1:
        return
    first_error: BaseException | None = None
    while _line:
        try:
            _line[0]()
        except BaseException as caught:  # noqa: BLE001  handed to whoever completed
            first_error = first_error or caught
        _line.popleft()
    if first_error is not None:
        raise first_error


class Completion(Generic[T]):
    """A value or an error that arrives once; completing it again is ignored and returns False."""

    __slots__ = ("_asyncio_future_blocking", "_error", "_loop", "_resume", "_value", "done")

    def __init__(self, loop: Loop | None = None) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._resume: Callable[[], None] | None = None
        self._loop = loop
        self._asyncio_future_blocking = False

    def set_result(self, value: T) -> bool:
        """Complete with a value."""
        if self.done:
            return False
        self.done = True
        self._value = value
        if self._resume is not None:
            _resume_in_turn(self._resume)
        return True

    def set_error(self, error: BaseException) -> bool:
        """Complete with an exception."""
        if self.done:
            return False
        self.done = True
        self._error = error
        if self._resume is not None:
            _resume_in_turn(self._resume)
        return True

    def on_done(self, resume: Callable[[], None]) -> None:
        """Register the single resumer; only drivers of coroutines call this."""
        assert self._resume is None, "a completion has one awaiting coroutine"
        self._resume = resume

    def __await__(self) -> Generator[Completion[T], None, T]:
        """Suspend until complete; return the value or raise the error."""
        if not self.done:
            self._asyncio_future_blocking = True
            yield self
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # no cycle of error, traceback and this frame
        return self._value  # type: ignore[return-value]  # set by set_result

    # The protocol of futures, spoken by tasks of an event loop.

    def get_loop(self) -> Loop | None:
        """Return the loop whose tasks may await this."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Wake a task."""
        loop = self._loop
        assert loop is not None, "made without a loop, so no task may await it"

        def wake() -> None:
            loop.call_soon(callback, self, context=context)

        self._resume = wake
        if self.done:
            wake()

    def result(self) -> None:
        """Say nothing: the value is taken by ``__await__``, in the coroutine that waits."""

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002  the task keeps the message
        """Wake the task that waits; it raises the cancellation itself.

        The completion is over then: whoever completes it later finds that nobody waits.
        """
        if not self.done:
            self.done = True
            if self._resume is not None:
                self._resume()
        return False


class CoroutineRunner(Generic[T]):
    """Drives one coroutine over suspensions to its end, on the stack of whoever completes them."""

    __slots__ = ("_coroutine", "_on_finish")

    def __init__(
        self,
        coroutine: Awaitable[T],
        on_finish: Callable[[T | None, BaseException | None], None],
    ) -> None:
        self._coroutine = coroutine.__await__()
        self._on_finish = on_finish

    def step(self) -> None:
        """Run until the coroutine waits or ends."""
        value: T | None = None
        error: BaseException | None = None
        try:
            while True:
                suspension = next(self._coroutine)
                if not hasattr(suspension, "on_done"):
                    raise TypeError(f"cannot wait for {suspension!r} without an event loop")
                if not suspension.done:
                    suspension.on_done(self.step)
                    return
        except StopIteration as stop:
            value = stop.value
        except BaseException as caught:  # noqa: BLE001  handed to the owner, who decides
            error = caught
        self._on_finish(value, error)


def run_without_loop(
    coroutine: Awaitable[T], on_finish: Callable[[T | None, BaseException | None], None]
) -> None:
    """Drive a coroutine over suspensions; ``on_finish(value, error)`` is called once."""
    CoroutineRunner(coroutine, on_finish).step()
