"""Tasks with an owner: failures are told, loops go on, nothing outlives the owner."""

from __future__ import annotations

import asyncio

import pytest

from nodedb.supervisor import Supervisor, loop_result
from nodedb.waiter import Waiter


def test_a_failure_is_told_and_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        supervisor = Supervisor("thing")
        done: list[int] = []

        async def fail() -> None:
            raise RuntimeError("broken")

        async def work() -> None:
            done.append(1)

        tasks = [supervisor.start("failing", fail()), supervisor.start("working", work())]
        await asyncio.gather(*[task for task in tasks if task is not None])
        assert done == [1]
        assert supervisor.failure_count == 1
        assert supervisor.last_failure == "failing: broken"
        await supervisor.stop()

    asyncio.run(run())
    assert "thing: failing failed" in caplog.text


def test_a_loop_that_fails_is_run_again() -> None:
    async def run() -> None:
        supervisor = Supervisor("thing")
        calls: list[int] = []

        def step() -> None:
            calls.append(1)
            raise RuntimeError("each time")

        async def slow_step() -> None:
            calls.append(2)
            raise RuntimeError("each time too")

        supervisor.repeat("plain", 0.001, step)
        supervisor.repeat("awaited", 0.001, slow_step)
        async with asyncio.timeout(10):
            while calls.count(1) < 3 or calls.count(2) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await supervisor.stop()
        count = len(calls)
        await asyncio.sleep(0.01)
        assert len(calls) == count
        assert supervisor.failure_count == count

    asyncio.run(run())


def test_stopping_ends_all_and_starts_nothing_more() -> None:
    async def run() -> None:
        supervisor = Supervisor("thing")
        ended: list[str] = []

        async def wait_for_ever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("first")

        supervisor.start("first", wait_for_ever())
        await asyncio.sleep(0)
        await supervisor.stop()
        assert ended == ["first"]
        assert supervisor.start("second", wait_for_ever()) is None
        supervisor.repeat("third", 0.0, lambda: ended.append("third"))
        await asyncio.sleep(0.01)
        assert ended == ["first"]
        assert supervisor.failure_count == 0
        await supervisor.stop()

    asyncio.run(run())


def test_a_coroutine_over_waiters_runs_in_a_task() -> None:
    async def run() -> None:
        waiter: Waiter[int] = Waiter()

        async def coroutine() -> int:
            return await waiter + 1

        asyncio.get_running_loop().call_soon(waiter.set_result, 41)
        assert await loop_result(coroutine()) == 42
        failing: Waiter[int] = Waiter()

        async def fails() -> int:
            return await failing

        asyncio.get_running_loop().call_soon(failing.set_error, KeyError("no"))
        with pytest.raises(KeyError):
            await loop_result(fails())

    asyncio.run(run())


def test_who_gives_up_waiting_leaves_the_coroutine_running() -> None:
    async def run() -> None:
        waiter: Waiter[int] = Waiter()
        ended: list[int] = []

        async def coroutine() -> None:
            ended.append(await waiter)

        task = asyncio.get_running_loop().create_task(loop_result(coroutine()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waiter.set_result(7)
        assert ended == [7]

    asyncio.run(run())
