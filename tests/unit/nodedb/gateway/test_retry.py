"""The one retry loop, with a clock and a leadership that do what the test says."""

import itertools

import pytest
from forwarding_world import ScriptedLeadership

from nodedb.gateway.leadership import AlwaysLeader, LeadershipWatch
from nodedb.gateway.retry import HERE, NotServed, Retry, budget_seconds
from nodedb.waiter import Interrupts
from sql.errors import CannotConnectNow, DivisionByZero, QueryCanceled
from tests.unit.nodedb.txn.simulation import SimulatedSchedule, Task


class World:
    def __init__(self) -> None:
        self.schedule = SimulatedSchedule()
        self.leadership = ScriptedLeadership()
        watch = LeadershipWatch(self.leadership)
        self.retry = Retry(self.leadership, watch, self.schedule, self.schedule)
        self.interrupts = Interrupts()
        self.attempts: list[tuple[float, str]] = []
        self.served_by: set[str] = set()

    async def attempt(self, target: str, left_seconds: float) -> str:
        self.attempts.append((self.schedule.seconds, target))
        assert 0 <= left_seconds <= 10
        if target not in self.served_by:
            raise NotServed("it does not answer")
        return f"by {target}"

    def start(self, budget: float = 10.0) -> Task:
        return Task(
            self.retry.until_served(self.attempt, budget_seconds=budget, interrupts=self.interrupts)
        )

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds * 100)):
            self.schedule.advance(0.01)


def test_at_once() -> None:
    world = World()
    world.leadership.change("a")
    world.served_by.add("a")
    assert world.start().result() == "by a"


def test_here() -> None:
    world = World()
    world.leadership.change(None, may_serve=True)
    world.served_by.add(HERE)
    assert world.start().result() == "by "


def test_waits_for_a_leader_and_asks_it_at_once() -> None:
    world = World()
    task = world.start()
    world.advance(3)
    assert not world.attempts
    world.served_by.add("b")
    world.leadership.change("b")
    assert task.result() == "by b"
    assert world.attempts == [(pytest.approx(3.0), "b")]


def test_notices_without_being_told() -> None:
    world = World()
    task = world.start()
    world.advance(1)
    world.leadership.leader_address = "b"
    world.served_by.add("b")
    world.advance(0.5)
    assert task.result() == "by b"


def test_pauses_grow_and_are_short_again_after_a_change() -> None:
    world = World()
    world.leadership.change("a")
    world.start()
    world.advance(5)
    times = [at for at, _ in world.attempts]
    assert len(times) < 20
    pauses = [round(b - a, 2) for a, b in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    world.attempts.clear()
    world.leadership.change("b")
    world.advance(0.05)
    assert [target for _, target in world.attempts][:2] == ["b", "b"]


def test_the_budget() -> None:
    world = World()
    world.leadership.change("a")
    task = world.start(3.0)
    world.advance(2.99)
    assert not task.done
    world.advance(0.02)
    with pytest.raises(CannotConnectNow) as caught:
        task.result()
    assert "Group 1" in caught.value.detail
    assert "it does not answer" in caught.value.detail


def test_an_interrupt() -> None:
    world = World()
    task = world.start()
    world.interrupts.interrupt(QueryCanceled("enough"))
    with pytest.raises(QueryCanceled):
        task.result()


def test_other_errors_are_not_retried() -> None:
    world = World()
    world.leadership.change("a")

    async def attempt(_target: str, _left_seconds: float) -> None:
        raise DivisionByZero("once")

    task = Task(world.retry.until_served(attempt, budget_seconds=10.0, interrupts=world.interrupts))
    with pytest.raises(DivisionByZero):
        task.result()


@pytest.mark.parametrize(("timeout_ms", "seconds"), [(0, 10.0), (500, 0.5), (60_000, 10.0)])
def test_budgets(timeout_ms: int, seconds: float) -> None:
    assert budget_seconds(timeout_ms) == seconds


def test_a_watch_tells_all_who_still_listen() -> None:
    leadership = ScriptedLeadership()
    watch = LeadershipWatch(leadership)
    told: list[str] = []
    stop = watch.subscribe(lambda: told.append("first"))
    watch.subscribe(lambda: (told.append("second"), stop())[0])
    watch.subscribe(lambda: told.append("third"))
    leadership.change("a")
    leadership.change("b")
    stop()
    assert told == ["first", "second", "third", "second", "third"]


def test_a_node_by_itself_always_leads() -> None:
    leadership = AlwaysLeader()
    assert leadership.may_serve
    assert leadership.may_serve_stale
    assert leadership.tenure
    assert not leadership.changed().done
