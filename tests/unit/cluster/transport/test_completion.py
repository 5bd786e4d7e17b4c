"""Completions are awaited by tasks of both loops and by drivers over waiters alike."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from cluster.transport.completion import Completion, run_without_loop
from cluster.transport.runner import HandlerRun
from nodedb.waiter import Interrupts, Runner, Waiter


@pytest.fixture(params=["asyncio", "asyncio debug", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    if request.param == "uvloop":
        return uvloop.run
    return lambda main: asyncio.run(main, debug="debug" in request.param)


def test_a_task_awaits_a_value_and_an_error(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        async def wait(completion: Completion[int]) -> int:
            return await completion

        good: Completion[int] = Completion(loop)
        bad: Completion[int] = Completion(loop)
        early: Completion[int] = Completion(loop)
        early.set_result(3)
        tasks = [loop.create_task(wait(each)) for each in (good, bad, early)]
        await asyncio.sleep(0)
        assert good.set_result(1) is True
        assert good.set_result(2) is False
        assert bad.set_error(ValueError("no")) is True
        assert await tasks[0] == 1
        with pytest.raises(ValueError, match="no"):
            await tasks[1]
        assert await tasks[2] == 3

    run(main())


def test_a_task_that_waits_can_be_cancelled_and_timed_out(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        async def wait(completion: Completion[None]) -> None:
            await completion

        first: Completion[None] = Completion(loop)
        task = loop.create_task(wait(first))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert first.set_result(None) is False
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(Completion(loop)), 0.001)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await Completion(loop)

    run(main())


def test_a_waiter_runner_is_resumed_in_the_same_turn() -> None:
    got: list[object] = []
    completion: Completion[int] = Completion()

    async def wait() -> None:
        got.append(await completion)

    Runner(wait(), got.append).step()
    assert got == []
    completion.set_result(7)
    assert got == [7, None]


def test_a_session_can_interrupt_its_wait() -> None:
    """A statement awaits through ``Interrupts``, which needs ``set_error`` and ``on_done``."""
    interrupts = Interrupts()
    completion: Any = Completion()
    ended: list[object] = []

    async def statement() -> None:
        await interrupts.wait(completion)

    Runner(statement(), ended.append).step()
    error = RuntimeError("canceling statement")
    interrupts.interrupt(error)
    assert ended == [error]
    assert completion.set_result(None) is False


def test_a_long_chain_does_not_grow_the_stack() -> None:
    completions: list[Completion[None]] = [Completion() for _ in range(20_000)]
    ended: list[object] = []

    async def link(place: int) -> None:
        await completions[place]
        if place + 1 < len(completions):
            completions[place + 1].set_result(None)

    for place in range(len(completions)):
        run_without_loop(link(place), lambda _value, error: ended.append(error))
    completions[0].set_result(None)
    assert ended == [None] * 20_000


def test_without_a_loop_nothing_of_a_loop_can_be_awaited() -> None:
    ended: list[BaseException | None] = []

    async def sleep() -> None:
        await asyncio.sleep(0)

    run_without_loop(sleep(), lambda _value, error: ended.append(error))
    assert "without an event loop" in str(ended[0])


def test_handlers_may_wait_for_anything(run: Callable[[Any], Any]) -> None:
    """Waiters first, futures of the loop then, both again: one coroutine, at most one task."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        waiters: list[Waiter[int]] = [Waiter(), Waiter()]
        completion: Completion[int] = Completion(loop)
        tasks: list[asyncio.Task[None]] = []
        outcome: asyncio.Future[Any] = loop.create_future()

        def spawn(coroutine: Any) -> None:
            tasks.append(loop.create_task(coroutine))

        async def handler() -> int:
            total = await waiters[0]
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                total += await waiters[1]
            try:
                await asyncio.wait_for(asyncio.sleep(60), 0.001)
            except TimeoutError:
                total += 100
            return total + await completion

        HandlerRun(
            handler(),
            lambda value, error: outcome.set_result((value, error)),
            loop=loop,
            spawn=spawn,
        ).step()
        assert tasks == []
        waiters[0].set_result(1)
        assert len(tasks) == 1
        loop.call_later(0.001, waiters[1].set_result, 10)
        loop.call_later(0.01, completion.set_result, 1000)
        assert await asyncio.wait_for(outcome, 5) == (1111, None)

    run(main())


def test_a_handler_that_needs_nothing_ends_at_once_and_a_cancelled_one_says_so(
    run: Callable[[Any], Any],
) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        ended: list[Any] = []
        tasks: list[asyncio.Task[None]] = []

        async def quick() -> int:
            return 5

        async def failing() -> int:
            raise KeyError("x")

        async def stuck() -> None:
            await asyncio.sleep(60)

        for handler in (quick, failing, stuck):
            HandlerRun(
                handler(),
                lambda value, error: ended.append((value, type(error))),
                loop=loop,
                spawn=lambda coroutine: tasks.append(loop.create_task(coroutine)),
            ).step()
        assert ended == [(5, type(None)), (None, KeyError)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        assert ended[2] == (None, asyncio.CancelledError)

    run(main())
