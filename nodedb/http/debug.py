"""``/debug/*``: the inside of a running node, on loopback, behind ``--debug``."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import CodeType, FrameType

PROFILE_SECONDS_MAX: Final = 60.0
SAMPLE_SECONDS: Final = 0.005
_DEPTH_MAX: Final = 60


def tasks() -> list[dict[str, Any]]:
    """Return the event loop's tasks, each with the lines it waits in, outermost first."""
    found = [
        {"name": task.get_name(), "stack": _waiting_in(task.get_coro())}
        for task in asyncio.all_tasks()
    ]
    return sorted(found, key=lambda entry: str(entry["name"]))


def _waiting_in(awaited: object) -> list[str]:
    """Follow what a coroutine awaits; ``Task.get_stack`` knows only the outermost."""
    stack: list[str] = []
    while awaited is not None and len(stack) < _DEPTH_MAX:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            # A future, or whatever else ends the chain.
            return [*stack, type(awaited).__name__]
        stack.append(f"{_place(frame.f_code)}:{frame.f_lineno}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return stack


def stacks() -> str:
    """Return the stack of every thread as text."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for identifier, frame in sys._current_frames().items():  # noqa: SLF001  documented use
        lines = "".join(traceback.format_stack(frame, limit=_DEPTH_MAX))
        parts.append(f"thread {names.get(identifier, identifier)}\n{lines}")
    return "\n".join(parts)


async def profile(seconds: float) -> str:
    """Sample the event loop's thread; returns collapsed stacks, as flame graph tools read them.

    The samples are taken by a thread: what holds the interpreter is seen, what waits without it
    (a flush, a long call into the engine) is seen at the line that called it.
    """
    target = threading.get_ident()
    stop = threading.Event()
    counts: Counter[tuple[str, ...]] = Counter()

    def sample() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            frame = sys._current_frames().get(target)  # noqa: SLF001  documented use
            if frame is not None:
                counts[_collapsed(frame)] += 1

    sampler = threading.Thread(target=sample, name="debug-profile", daemon=True)
    sampler.start()
    try:
        await asyncio.sleep(seconds)
    finally:
        stop.set()
        sampler.join()
    return "".join(f"{';'.join(stack)} {count}\n" for stack, count in counts.most_common())


def _collapsed(frame: FrameType) -> tuple[str, ...]:
    names: list[str] = []
    current: FrameType | None = frame
    while current is not None and len(names) < _DEPTH_MAX:
        names.append(_place(current.f_code))
        current = current.f_back
    return tuple(reversed(names))


def _place(code: CodeType) -> str:
    return f"{code.co_filename.rpartition('/')[2]}:{code.co_qualname}"
