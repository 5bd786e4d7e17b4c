"""The hub by itself: room for what waits, who is warned, and what the end of a session frees."""

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from nodedb.session.notifications import (
    NOTIFICATION_BYTES,
    WARNING_INTERVAL_SECONDS,
    NotificationHub,
)
from sql.errors import ProgramLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Callable

# Ten notifications of one byte of channel and nine of payload.
ROOM = 10 * (NOTIFICATION_BYTES + 10)


class FakeBlock:
    """The three lists of callbacks, and nothing of a transaction."""

    def __init__(self) -> None:
        self.before_commit: list[Callable[[], None]] = []
        self.on_commit: list[Callable[[], None]] = []
        self.on_rollback: list[Callable[[], None]] = []

    def ensure_transaction(self, _now: int) -> None:
        """Nothing to do: the lists are the transaction."""

    def prepare(self) -> None:
        for callback in self.before_commit:
            callback()

    def finish(self) -> None:
        callbacks = self.on_commit
        self.before_commit, self.on_commit, self.on_rollback = [], [], []
        for callback in callbacks:
            callback()

    def rollback(self, kept: int = 0) -> None:
        while len(self.on_rollback) > kept:
            self.on_rollback.pop()()
        if not kept:
            self.before_commit, self.on_commit = [], []


class FakeSession:
    """As much of a session as the hub looks at."""

    def __init__(self, world: "World", process_id: int, database_id: int = 1) -> None:
        self.process_id, self.database_id, self.query_start = process_id, database_id, 0
        self.node = SimpleNamespace(clock=SimpleNamespace(monotonic=lambda: world.now))
        self.block = FakeBlock()
        self.notifications: list[tuple[int, str, str]] = []
        self.notices: list[tuple[str, ...]] = []
        self.is_closed = False
        self.channels: dict[str, None] = {}
        self.channels_version = 0
        self.woken = 0

    def notify_front_end(self) -> None:
        self.woken += 1

    def notice(self, *fields: str) -> None:
        self.notices.append(fields)


class World:
    """A hub with little room, two listeners to ``x`` and one who notifies."""

    def __init__(self) -> None:
        self.now = 100.0
        self.hub = NotificationHub(ROOM)
        self.first, self.second = self.session(1), self.session(2)
        self.notifier = self.session(3)
        for listener in (self.first, self.second):
            self.hub.listen(listener, "x")
            self.commit(listener)

    def session(self, process_id: int) -> FakeSession:
        return FakeSession(self, process_id)

    def commit(self, session: FakeSession) -> None:
        session.block.prepare()
        session.block.finish()

    def notify(self, count: int, session: FakeSession | None = None) -> None:
        notifier = session or self.notifier
        for i in range(count):
            self.hub.notify(notifier, "x", f"{i:09}")
        self.commit(notifier)

    def take(self, session: FakeSession) -> int:
        count = len(session.notifications)
        session.notifications.clear()
        self.hub.taken(session)
        return count


@pytest.fixture
def world() -> World:
    return World()


def test_what_waits_counts_once_for_each_listener(world: World) -> None:
    world.notify(2)
    assert world.hub.usage == pytest.approx(0.4)
    assert world.first.woken == world.second.woken == 1
    assert world.take(world.first) == 2
    assert world.hub.usage == pytest.approx(0.2)
    world.hub.forget(world.second)
    assert world.hub.usage == 0
    world.notify(1)
    assert (len(world.first.notifications), len(world.second.notifications)) == (1, 2)


def test_a_transaction_that_finds_no_room_fails_and_frees_its_own(world: World) -> None:
    world.hub.forget(world.second)
    world.notify(6)
    with pytest.raises(ProgramLimitExceeded, match="too many notifications in the NOTIFY queue"):
        world.notify(5)
    world.notifier.block.rollback()
    assert world.hub.usage == pytest.approx(0.6)
    world.notify(4)
    assert world.hub.usage == 1
    with pytest.raises(ProgramLimitExceeded):
        world.notify(1)
    world.notifier.block.rollback()
    assert world.take(world.first) == 10
    world.notify(10)


def test_those_who_commit_at_once_share_the_room(world: World) -> None:
    other = world.session(4)
    for session in (world.notifier, other):
        for i in range(6):
            world.hub.notify(session, "x", f"{i:09}")
    world.notifier.block.prepare()
    with pytest.raises(ProgramLimitExceeded):
        other.block.prepare()
    other.block.rollback()
    world.notifier.block.rollback()
    world.notify(10, world.session(5))


def test_without_notifications_a_full_queue_is_no_matter(world: World) -> None:
    world.hub.forget(world.second)
    world.notify(10)
    world.hub.listen(world.notifier, "y")
    world.commit(world.notifier)
    assert world.hub.channels(world.notifier) == ["y"]


def test_the_slowest_is_named_once_in_a_while(world: World) -> None:
    world.notify(2)
    world.take(world.first)
    world.notify(1)
    assert world.notifier.notices == []
    world.notify(3)
    severity, sqlstate, message, detail, hint = world.notifier.notices.pop()
    assert (severity, sqlstate, message) == ("WARNING", "01000", "NOTIFY queue is 70% full")
    assert "process with PID 2 is among" in detail
    assert hint.endswith("until that process ends its current transaction.")
    world.take(world.first)
    world.notify(3)
    assert world.notifier.notices == []
    world.now += WARNING_INTERVAL_SECONDS
    world.take(world.first)
    world.notify(1)
    assert len(world.notifier.notices) == 1


def test_rolled_back_statements_leave_nothing(world: World) -> None:
    block = world.notifier.block
    world.hub.notify(world.notifier, "x", "1")
    kept = len(block.on_rollback)
    world.hub.notify(world.notifier, "x", "2")
    world.hub.notify(world.notifier, "x", "1")
    world.hub.listen(world.notifier, "x")
    block.rollback(kept)
    world.hub.notify(world.notifier, "x", "3")
    world.commit(world.notifier)
    assert [payload for _, _, payload in world.first.notifications] == ["1", "3"]
    assert world.hub.channels(world.notifier) == []


def test_the_last_commit_of_a_session_that_has_ended_is_heard(world: World) -> None:
    world.hub.listen(world.notifier, "x")
    world.hub.notify(world.notifier, "x", "bye")
    world.notifier.block.prepare()
    world.notifier.is_closed = True
    world.hub.forget(world.notifier)
    world.notifier.block.finish()
    assert [payload for _, _, payload in world.first.notifications] == ["bye"]
    assert world.hub.channels(world.notifier) == []
    assert world.notifier.notifications == []
