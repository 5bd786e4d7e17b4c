"""Timestamps of a node: waiting for a clock that stays behind, restarts, and batched requests."""

import logging
import random

import pytest

from cluster.metadata.oracle import COUNTER_BITS, LEAD_MS_MAX, WINDOW_MS
from nodedb.session.block import TransactionBlock
from nodedb.session.settings import Settings
from nodedb.txn.timestamps import WAIT_SECONDS_MAX, TimestampRequests
from nodedb.waiter import Interrupts, Runner, Waiter
from sql.errors import QueryCanceled
from tests.unit.nodedb.txn.simulation import SimulatedNode

HOUR_US = 3_600_000_000
KEY = b"\x01\x00\x07"


def block_of(node: SimulatedNode, interrupts: Interrupts) -> TransactionBlock:
    """Return a session's block that has written a row."""
    settings = Settings({}, is_superuser=lambda: True)
    block = TransactionBlock(node.transactions, node.metadata, lambda: 1, settings, 1, interrupts)
    transaction = block.ensure_transaction(0)
    transaction.put(KEY, b"row", 7)
    return block


def lead_too_far(node: SimulatedNode, milliseconds: int = 100) -> None:
    """Count on until commits have to wait for so long."""
    timestamps = node.transactions.timestamps
    timestamps.allocate()
    timestamps.allocate((LEAD_MS_MAX + milliseconds) << COUNTER_BITS)
    node.schedule.run()
    assert timestamps.is_ahead


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_commits_wait_for_the_clock_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    node = SimulatedNode()
    lead_too_far(node, 2500)
    blocks = [block_of(node, Interrupts()) for _ in range(3)]
    for number, block in enumerate(blocks):
        block.transaction.put(KEY + bytes([number]), b"row", 7)
        assert not block.is_plain
    tasks = [node.start(block.commit()) for block in blocks]
    for _ in range(2):
        node.schedule.advance(WAIT_SECONDS_MAX)
        node.schedule.run()
        assert not any(task.done for task in tasks)
    node.schedule.advance(WAIT_SECONDS_MAX)
    node.schedule.run()
    assert all(task.done and task.error is None for task in tasks)
    (warning,) = warnings_of(caplog)
    assert warning.startswith("commits wait 2.5 s for the clock: the newest timestamp is 7.5 s")
    assert node.transactions.timestamps.wait_count == 3
    assert not node.transactions.timestamps.is_ahead
    assert node.transactions.timestamps.lead_seconds <= LEAD_MS_MAX / 1000
    lead_too_far(node)
    again = node.start(block_of(node, Interrupts()).commit())
    assert len(warnings_of(caplog)) == 2
    for _ in range(5):
        node.schedule.advance(WAIT_SECONDS_MAX)
        node.schedule.run()
    assert again.done


def test_a_commit_that_waits_can_be_cancelled() -> None:
    node = SimulatedNode()
    lead_too_far(node)
    interrupts = Interrupts()
    block = block_of(node, interrupts)
    task = node.start(block.commit())
    assert not task.done
    interrupts.interrupt(QueryCanceled("canceling statement due to user request"))
    assert isinstance(task.error, QueryCanceled)
    assert (block.state, len(node.transactions.locks)) == ("idle", 0)
    node.schedule.advance(1)
    node.schedule.run()
    assert node.group.newest(KEY) is None
    assert node.finish(block_of(node, Interrupts()).commit()) == 0


def test_a_clock_that_steps_back_stops_no_commit() -> None:
    node = SimulatedNode()
    before = node.transactions.timestamps.allocate()
    node.schedule.wall_step_us = -HOUR_US
    for _ in range(50):
        node.schedule.seconds += 60
        node.finish(block_of(node, Interrupts()).commit())
        assert node.group.last_timestamp > before
        before = node.group.last_timestamp
    assert node.transactions.timestamps.lead_seconds > 0
    assert node.transactions.timestamps.wait_count == 0


@pytest.mark.parametrize("seed", range(20))
def test_timestamps_grow_over_restarts_with_a_clock_that_steps(seed: int) -> None:
    chance = random.Random(seed)
    node = SimulatedNode()
    newest = 0
    for _ in range(8):
        for _ in range(chance.randrange(6)):
            node.schedule.seconds += chance.choice([0, 0.001, 1, WINDOW_MS / 1000, 100])
            if chance.random() < 0.3:
                node.schedule.wall_step_us += chance.choice([-HOUR_US, HOUR_US, -10_000, 10_000])
            node.finish(block_of(node, Interrupts()).commit())
            assert node.group.last_timestamp > newest, f"seed {seed}"
            newest = node.group.last_timestamp
            assert newest < node.metadata.timestamp_window, f"seed {seed}"
        step_us = node.schedule.wall_step_us + chance.choice([-HOUR_US, 0, HOUR_US])
        node = node.restarted(power_loss=chance.random() < 0.5)
        node.schedule.wall_step_us = step_us


def test_the_lead_is_not_carried_over_a_restart() -> None:
    """Who starts above a window far ahead of the clock does not wait for the clock."""
    node = SimulatedNode()
    node.schedule.wall_step_us = HOUR_US
    node.finish(block_of(node, Interrupts()).commit())
    node = node.restarted()
    assert node.schedule.wall_step_us == 0
    node.finish(block_of(node, Interrupts()).commit())
    assert node.transactions.timestamps.wait_count == 0
    assert node.transactions.timestamps.lead_seconds > 3_600


# Requests to an oracle elsewhere


class Elsewhere:
    """An oracle far away: what was sent to it, and a counter that others advance, too."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.requests = TimestampRequests(lambda *request: self.sent.append(request))
        self.last = 100

    def number(self, count: int) -> int:
        """Give out so many timestamps; return the first."""
        first = self.last + 1
        self.last += count
        return first

    def answer(self) -> None:
        """Answer the request that is away."""
        number, count = self.sent[-1]
        self.requests.on_reply(number, self.number(count))


def result_of(waiter: Waiter[int]) -> int:
    """Return what a completed waiter holds."""
    found: list[int] = []

    async def take() -> None:
        found.append(await waiter)

    Runner(take(), lambda _: None).step()
    return found[0]


def test_requests_gather_while_one_is_away() -> None:
    oracle = Elsewhere()
    first = oracle.requests.request()
    others = [oracle.requests.request(count) for count in (1, 5, 2)]
    assert oracle.sent == [(1, 1)]
    oracle.answer()
    assert result_of(first) == 101
    assert oracle.sent == [(1, 1), (2, 8)]
    assert not any(waiter.done for waiter in others)
    oracle.answer()
    assert [result_of(waiter) for waiter in others] == [102, 103, 108]
    assert len(oracle.sent) == 2


def test_nobody_joins_a_request_that_has_left() -> None:
    """PROTOCOL, commit timestamps: the reply may be numbered before the newcomer began."""
    oracle = Elsewhere()
    early = oracle.requests.request()
    number, count = oracle.sent[-1]
    numbered = oracle.number(count)
    elsewhere_committed = oracle.number(20) + 19
    late = oracle.requests.request()
    oracle.requests.on_reply(number, numbered)
    assert result_of(early) == numbered
    assert not late.done
    oracle.answer()
    assert result_of(late) > elsewhere_committed


def test_who_asks_on_being_served_joins_a_later_request() -> None:
    oracle = Elsewhere()
    found: list[int] = []

    async def asks_twice() -> None:
        found.append(await oracle.requests.request())
        found.append(await oracle.requests.request())

    Runner(asks_twice(), lambda _: None).step()
    second = oracle.requests.request()
    oracle.answer()
    assert oracle.sent == [(1, 1), (2, 1)]
    oracle.answer()
    assert result_of(second) == 102
    oracle.answer()
    assert found == [101, 103]


def test_failures_and_late_replies() -> None:
    oracle = Elsewhere()
    lost = [oracle.requests.request(), oracle.requests.request()]
    oracle.requests.on_failure(1, lambda: ConnectionError("gone"))
    assert isinstance(lost[0].error, ConnectionError)
    assert oracle.sent == [(1, 1), (2, 1)]
    oracle.requests.on_reply(1, oracle.number(1))
    assert not lost[1].done
    oracle.requests.on_failure(1, lambda: ConnectionError("again"))
    assert not lost[1].done
    oracle.answer()
    assert result_of(lost[1]) == 102
    oracle.requests.on_reply(2, 500)
    oracle.requests.on_failure(2, lambda: ConnectionError("late"))


def test_a_share_that_nobody_awaits_is_not_given_to_another() -> None:
    oracle = Elsewhere()
    oracle.requests.request()
    cancelled, kept = oracle.requests.request(3), oracle.requests.request()
    oracle.answer()
    cancelled.set_error(QueryCanceled("canceling statement due to user request"))
    oracle.answer()
    assert result_of(kept) == 105


def test_replies_that_go_back_are_a_programmers_error() -> None:
    oracle = Elsewhere()
    oracle.requests.request()
    oracle.answer()
    oracle.requests.request()
    with pytest.raises(AssertionError, match="timestamp 101 after 101"):
        oracle.requests.on_reply(2, 101)


@pytest.mark.parametrize("seed", range(30))
def test_every_timestamp_is_above_those_given_before_it_was_asked_for(seed: int) -> None:
    chance = random.Random(seed)
    oracle = Elsewhere()
    waiting: dict[int, tuple[Waiter[int], int, int]] = {}
    given: set[int] = set()
    numbered: tuple[int, int] | None = None
    for step in range(400):
        kind = chance.randrange(5)
        if kind <= 1:
            count = chance.randrange(1, 4)
            waiting[step] = (oracle.requests.request(count), count, oracle.last)
        elif kind == 2:
            oracle.number(chance.randrange(5))  # for others
        elif numbered is None and oracle.sent:
            number, count = oracle.sent[-1]
            numbered = number, oracle.number(count)
        elif numbered is not None:
            oracle.requests.on_reply(*numbered)
            numbered = None
        for key, (waiter, count, before) in list(waiting.items()):
            if waiter.done:
                first = result_of(waiter)
                assert first > before, f"seed {seed}, step {step}"
                mine = set(range(first, first + count))
                assert not mine & given, f"seed {seed}, step {step}"
                given |= mine
                del waiting[key]
    assert len(given) > 50
