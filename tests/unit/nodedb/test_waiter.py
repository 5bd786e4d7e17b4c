"""Waiters, runners and interrupts."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import pytest

from nodedb.waiter import Interrupts, Runner, Waiter


def run(coroutine: Any) -> list[BaseException | None]:
    ends: list[BaseException | None] = []
    Runner(coroutine, ends.append).step()
    return ends


def test_a_result_resumes_the_coroutine_in_the_same_turn() -> None:
    waiter: Waiter[int] = Waiter()
    got = []

    async def wait() -> None:
        got.append(await waiter)

    ends = run(wait())
    assert (got, ends) == ([], [])
    assert waiter.set_result(7)
    assert (got, ends) == ([7], [None])


def test_the_second_completion_is_ignored() -> None:
    waiter: Waiter[int] = Waiter()
    assert waiter.set_result(1)
    assert not waiter.set_result(2)
    assert not waiter.set_error(RuntimeError())
    got = []

    async def wait() -> None:
        got.append(await waiter)

    assert run(wait()) == [None]
    assert got == [1]
    assert waiter.error is None


def test_an_error_is_raised_at_the_await() -> None:
    waiter: Waiter[int] = Waiter()

    async def wait() -> None:
        await waiter

    ends = run(wait())
    error = RuntimeError("no")
    assert waiter.set_error(error)
    assert ends == [error]
    assert waiter.error is None, "a kept error would keep the frames of its traceback alive"


def test_a_long_chain_of_completions_does_not_nest() -> None:
    count = 5000
    waiters: list[Waiter[None]] = [Waiter() for _ in range(count + 1)]
    order = []

    async def link(number: int) -> None:
        await waiters[number]
        order.append(number)
        waiters[number + 1].set_result(None)

    for number in range(count):
        run(link(number))
    waiters[0].set_result(None)
    assert order == list(range(count))
    assert waiters[count].done


def test_completions_made_while_resuming_come_in_order() -> None:
    first: Waiter[None] = Waiter()
    others: list[Waiter[None]] = [Waiter() for _ in range(3)]
    order = []

    async def head() -> None:
        await first
        for waiter in others:
            waiter.set_result(None)
        order.append("head")

    async def follow(number: int) -> None:
        await others[number]
        order.append(str(number))

    run(head())
    for number in range(3):
        run(follow(number))
    first.set_result(None)
    assert order == ["head", "0", "1", "2"]


def test_a_failing_resumer_does_not_starve_those_behind_it() -> None:
    first: Waiter[None] = Waiter()
    bad: Waiter[None] = Waiter()
    good: Waiter[None] = Waiter()

    async def head() -> None:
        await first
        bad.set_result(None)
        good.set_result(None)

    def explode() -> None:
        raise RuntimeError("resumer")

    ends: list[BaseException | None] = []
    run(head())
    bad.on_done(explode)

    async def last() -> None:
        await good

    Runner(last(), ends.append).step()
    with pytest.raises(RuntimeError, match="resumer"):
        first.set_result(None)
    assert ends == [None]
    fresh: Waiter[None] = Waiter()

    async def later() -> None:
        await fresh

    ends = run(later())
    fresh.set_result(None)
    assert ends == [None]


def test_interrupting_a_runner_throws_where_it_waits() -> None:
    waiter: Waiter[None] = Waiter()
    ends: list[BaseException | None] = []

    async def wait() -> None:
        await waiter

    runner = Runner(wait(), ends.append)
    assert not runner.interrupt(RuntimeError())
    runner.step()
    error = RuntimeError("stop")
    assert runner.interrupt(error)
    assert ends == [error]
    assert not waiter.set_result(None)


def test_a_pending_interrupt_is_raised_once() -> None:
    interrupts = Interrupts()
    first = RuntimeError("first")
    interrupts.interrupt(first)
    interrupts.interrupt(RuntimeError("second"))
    with pytest.raises(RuntimeError, match="first"):
        interrupts.check()
    interrupts.check()
    interrupts.interrupt(first)
    interrupts.clear()
    interrupts.check()


def test_an_interrupt_ends_a_wait_and_is_used_up() -> None:
    interrupts = Interrupts()
    waiter: Waiter[None] = Waiter()

    async def wait() -> None:
        await interrupts.wait(waiter)

    ends = run(wait())
    error = RuntimeError("cancel")
    interrupts.interrupt(error)
    assert ends == [error]
    assert interrupts.pending is None


def test_an_interrupt_before_the_wait_prevents_it() -> None:
    interrupts = Interrupts()
    error = RuntimeError("cancel")
    interrupts.interrupt(error)

    async def wait() -> None:
        await interrupts.wait(Waiter())

    assert run(wait()) == [error]


def test_a_raised_interrupt_leaves_nothing_to_the_collector() -> None:
    """The traceback holds the statement's frames, and with them whatever memory it used."""
    interrupts = Interrupts()

    def statement() -> None:
        memory = Held()
        died.append(weakref.ref(memory))
        interrupts.interrupt(ValueError("stop"))
        interrupts.check()

    died: list[weakref.ref[Held]] = []
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            statement()
        assert died[0]() is None
    finally:
        gc.enable()


class Held:
    """Something a frame holds."""
