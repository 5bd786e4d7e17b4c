"""The one thing a statement's coroutine may wait for.

A ``Waiter`` is a single-shot future without an event loop: whoever completes it resumes the waiting
coroutine in the same turn. So no Task is made for a statement, group commit resumes all its
sessions in the turn of the flush, and simulation needs no asyncio at all.

A coroutine that is resumed may complete waiters of others, and those again. Such chains (a thousand
sessions queued for one row, each failing and letting the next one in) run one after the other, in
order of completion, never on each other's stack: whoever completes a waiter while another is being
resumed only puts it in line.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

# The first one is being resumed, the others stand in line. One thread, one loop: the line is the
# thread's.
_line: Final[deque[Callable[[], None]]] = deque()


def _resume_in_turn(resume: Callable[[], None]) -> None:
    """Resume now, or after those who are being resumed further down the stack."""
    line = _line
    line.append(resume)
    if len(line) > 1:
        return
    first_error: BaseException | None = None
    while line:
        try:
            line[0]()
        except BaseException as caught:  # noqa: BLE001  handed to the owner, who decides
            first_error = first_error or caught
        line.popleft()
    if first_error is not None:
        raise first_error


class Waiter(Generic[T]):
    """A value that arrives once. At most one coroutine awaits it; completing it twice is ignored.

    Ignoring the second completion is what makes races harmless: a lock that is granted in the
    same turn as the statement's timeout fires goes to whichever came first, and the
    loser sees ``done``.
    """

    __slots__ = ("_error", "_resume", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._resume: Callable[[], None] | None = None

    def set_result(self, value: T) -> bool:
        """Complete with a value; returns False if it was complete already."""
        if self.done:
            return False
        self.done = True
        self._value = value
        if self._resume is not None:
            _resume_in_turn(self._resume)
        return True

    def set_error(self, error: BaseException) -> bool:
        """Complete with an exception; returns False if it was complete already."""
        if self.done:
            return False
        self.done = True
        self._error = error
        if self._resume is not None:
            _resume_in_turn(self._resume)
        return True

    @property
    def error(self) -> BaseException | None:
        """The exception it was completed with, if so."""
        return self._error

    def on_done(self, resume: Callable[[], None]) -> None:
        """Register the single resumer; only runners call this."""
        assert self._resume is None, "a waiter has one awaiting coroutine"
        self._resume = resume

    def __await__(self) -> "Generator[Waiter[T], None, T]":
        """Suspend until it is complete; return the value or raise the error."""
        if not self.done:
            yield self
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # The traceback holds this frame, so the frame must not hold the error: the
                # cycle would keep the statement's frames alive until a full collection.
                del error
        return self._value  # type: ignore[return-value]  # set by set_result


class Runner:
    """Drives one coroutine over waiters to its end: a Task without a loop.

    ``on_finish(error)`` is called once, with None or the exception that ended the coroutine. While
    it is suspended ``waiting`` is the waiter it stands at; ``interrupt`` throws into it there.
    """

    __slots__ = ("_coroutine", "_on_finish", "waiting")

    def __init__(
        self,
        coroutine: Coroutine[Any, None, None],
        on_finish: Callable[[BaseException | None], None],
    ) -> None:
        self._coroutine = coroutine
        self._on_finish = on_finish
        self.waiting: Waiter[Any] | None = None

    def step(self) -> None:
        """Run until the coroutine waits or ends."""
        send = self._coroutine.send
        ended_by: BaseException | None = None
        try:
            while True:
                waiter = send(None)
                if not waiter.done:
                    self.waiting = waiter
                    waiter.on_done(self.step)
                    return
        except StopIteration:
            pass
        except BaseException as caught:  # noqa: BLE001  handed to the owner, who decides
            ended_by = caught
        self.waiting = None
        self._on_finish(ended_by)

    def interrupt(self, error: BaseException) -> bool:
        """Complete the waiter it stands at with an exception; False if it is not waiting."""
        waiter = self.waiting
        return waiter is not None and waiter.set_error(error)


class Interrupts:
    """Where a statement can be cancelled: it looks here at checkpoints and while it waits.

    One per session. ``interrupt`` is called by cancel requests, timeouts and termination; the
    running statement then raises the error at its next checkpoint, or at once if it waits through
    ``wait``. Waiting for a commit does not go through here: its outcome must be learned.
    """

    __slots__ = ("_waiter", "pending")

    def __init__(self) -> None:
        self.pending: BaseException | None = None
        self._waiter: Waiter[Any] | None = None

    def interrupt(self, error: BaseException) -> None:
        """Ask the running statement to stop with this error; the first one counts."""
        if self.pending is None:
            self.pending = error
        if self._waiter is not None:
            self._waiter.set_error(error)

    def check(self) -> None:
        """Raise what is pending, once."""
        error = self.pending
        if error is not None:
            self.pending = None
            try:
                raise error
            finally:
                # No cycle of error, traceback and this frame; see ``Waiter.__await__``.
                del error

    def clear(self) -> None:
        """Forget what is pending: the statement it was meant for is over."""
        self.pending = None

    async def wait(self, waiter: Waiter[T]) -> T:
        """Await a waiter; an interrupt ends the wait with its error."""
        self.check()
        self._waiter = waiter
        try:
            return await waiter
        except BaseException as error:
            if error is self.pending:
                self.pending = None
            raise
        finally:
            self._waiter = None
