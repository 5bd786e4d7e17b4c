"""Draining: the phases as a pure automaton, and the driver on a real loop."""

import asyncio
import random

import pytest

from nodedb.clock import SystemClock
from nodedb.drain import Drain, DrainCore, DrainSettings, Effect, NodeParts, Observed, Phase

SETTINGS = DrainSettings(
    unready_seconds=5, connections_seconds=10, transactions_seconds=30, leases_seconds=5
)
BUSY = Observed(connection_count=2, lease_count=1)
IDLE = Observed(0, 0)


def test_every_phase_lasts_its_wait_when_nobody_leaves() -> None:
    core = DrainCore(SETTINGS)
    assert core.step(BUSY, 0.0) == []
    assert core.start("SIGTERM", 100.0) == [Effect.BECOME_UNREADY]
    assert (core.step(BUSY, 104.9), core.phase) == ([], Phase.UNREADY)
    assert core.step(BUSY, 105.0) == [Effect.STOP_LISTENING]
    assert (core.step(BUSY, 114.9), core.phase) == ([], Phase.CONNECTIONS)
    assert core.step(BUSY, 115.0) == [Effect.END_SESSIONS_WHEN_IDLE]
    assert (core.step(BUSY, 144.9), core.phase) == ([], Phase.TRANSACTIONS)
    assert core.step(BUSY, 145.0) == [Effect.END_SESSIONS_NOW, Effect.HAND_OVER_LEASES]
    assert (core.step(BUSY, 149.9), core.phase) == ([Effect.HAND_OVER_LEASES], Phase.LEASES)
    assert (core.step(BUSY, 150.0), core.phase) == ([], Phase.DRAINED)
    assert core.step(BUSY, 151.0) == []


def test_a_phase_ends_as_soon_as_nothing_is_left_for_it() -> None:
    core = DrainCore(SETTINGS)
    core.start("SIGTERM", 0.0)
    core.step(BUSY, 5.0)
    assert core.step(Observed(0, 1), 5.1) == [
        Effect.END_SESSIONS_WHEN_IDLE,
        Effect.HAND_OVER_LEASES,
    ]
    assert core.phase is Phase.LEASES
    assert core.step(IDLE, 5.2) == []
    assert core.phase is Phase.DRAINED


def test_load_balancers_get_their_time_even_if_nobody_is_connected() -> None:
    core = DrainCore(SETTINGS)
    core.start("SIGTERM", 0.0)
    core.step(IDLE, 4.9)
    assert core.phase is Phase.UNREADY


def test_with_the_default_waits_an_idle_node_is_drained_at_its_first_look() -> None:
    core = DrainCore(DrainSettings())
    core.start("SIGTERM", 0.0)
    assert core.step(IDLE, 0.0) == [
        Effect.STOP_LISTENING,
        Effect.END_SESSIONS_WHEN_IDLE,
        Effect.HAND_OVER_LEASES,
    ]
    assert core.phase is Phase.DRAINED


def test_beginning_again_changes_nothing() -> None:
    core = DrainCore(SETTINGS)
    core.start("SIGTERM", 0.0)
    core.step(BUSY, 5.0)
    assert core.start("POST /health/drain", 6.0) == []
    progress = core.progress(6.0)
    assert (progress.phase, progress.reason) == (Phase.CONNECTIONS, "SIGTERM")
    assert (progress.elapsed_seconds, progress.phase_seconds_left) == (6.0, 9.0)
    assert (progress.connection_count, progress.lease_count) == BUSY


def test_progress_before_and_after() -> None:
    core = DrainCore(SETTINGS)
    assert core.progress(7.0)[:4] == (Phase.SERVING, "", 0.0, 0.0)
    assert not core.progress(7.0).is_draining
    core.start("x", 10.0)
    core.stop_now()
    assert core.progress(12.0)[:4] == (Phase.DRAINED, "x", 2.0, 0.0)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_seen_phases_only_advance_and_the_end_comes_in_time(seed: int) -> None:
    chance = random.Random(seed)
    waits = [chance.choice([0.0, chance.uniform(0, 20)]) for _ in range(4)]
    core = DrainCore(DrainSettings(**dict(zip(DrainSettings.__slots__, waits, strict=True))))
    order = list(Phase)
    now, started = 0.0, 3.0
    seen = [core.phase]
    effects: list[Effect] = []
    while core.phase is not Phase.DRAINED:
        now += chance.uniform(0.01, 1.0)
        if now >= started:
            effects += core.start("x", now)
        effects += core.step(Observed(chance.randrange(3), chance.randrange(3)), now)
        seen.append(core.phase)
        # A late look enters each phase late: at most one look per phase.
        assert now <= started + sum(waits) + 6.0, f"seed {seed}: {core.phase}"
    positions = [order.index(phase) for phase in seen]
    assert positions == sorted(positions), f"seed {seed}"
    once = [effect for effect in effects if effect is not Effect.HAND_OVER_LEASES]
    assert len(once) == len(set(once)), f"seed {seed}: {effects}"
    assert once[:3] == [
        Effect.BECOME_UNREADY,
        Effect.STOP_LISTENING,
        Effect.END_SESSIONS_WHEN_IDLE,
    ], f"seed {seed}"


class FakeNode:
    """A node whose clients leave and whose groups find new leaders when they are asked to."""

    def __init__(self, connections: int, leases: int) -> None:
        self.calls: list[str] = []
        self.connections = connections
        self.leases = leases

    def become_unready(self) -> None:
        self.calls.append("unready")

    def stop_listening(self) -> None:
        self.calls.append("closed")

    def end_sessions_when_idle(self) -> None:
        self.calls.append("idle")

    def end_sessions_now(self) -> None:
        self.calls.append("now")
        self.connections = 0

    def hand_over_leases(self) -> None:
        self.calls.append("leases")
        self.leases = max(self.leases - 1, 0)

    def connection_count(self) -> int:
        return self.connections

    def lease_count(self) -> int:
        return self.leases


def test_the_driver_does_it_in_order_and_asks_for_each_transfer_until_it_is_done() -> None:
    node = FakeNode(connections=1, leases=2)

    async def run() -> None:
        drain = Drain(DrainSettings(transactions_seconds=0.1), node, SystemClock())
        running = asyncio.get_running_loop().create_task(drain.run())
        drain.start("SIGTERM")
        drain.start("SIGTERM")
        assert drain.is_draining
        await asyncio.wait_for(running, 10)
        assert drain.progress().phase is Phase.DRAINED

    asyncio.run(run())
    assert node.calls == ["unready", "closed", "idle", "now", "leases", "leases"]


def test_after_a_fatal_error_nothing_is_waited_for_and_nobody_is_spoken_to() -> None:
    node = FakeNode(connections=1, leases=1)

    async def run() -> None:
        drain = Drain(DrainSettings(), node, SystemClock())
        running = asyncio.get_running_loop().create_task(drain.run())
        await asyncio.sleep(0)
        drain.stop_now()
        await asyncio.wait_for(running, 10)
        drain.start("SIGTERM")
        assert drain.is_drained

    asyncio.run(run())
    assert node.calls == []


class FakeFrontEnd:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.open_count = 3

    def stop_listening(self) -> None:
        self.calls.append("closed")

    def end_sessions_when_idle(self) -> None:
        self.calls.append("idle")
        self.open_count = 0

    def end_sessions_now(self) -> None:
        self.calls.append("now")


def test_a_node_drains_the_parts_it_has() -> None:
    calls: list[str] = []
    led = [0, 1]

    def transfer(group_id: int) -> None:
        calls.append(f"transfer {group_id}")
        led.remove(group_id)

    parts = NodeParts(
        unready=lambda: calls.append("unready"), led_groups=lambda: list(led), transfer=transfer
    )
    assert (parts.connection_count(), parts.lease_count()) == (0, 2)
    for act in (parts.stop_listening, parts.end_sessions_when_idle, parts.end_sessions_now):
        act()
    parts.sql = sql = FakeFrontEnd()

    async def run() -> None:
        drain = Drain(DrainSettings(), parts, SystemClock())
        drain.start("SIGTERM")
        await asyncio.wait_for(drain.run(), 10)

    asyncio.run(run())
    assert calls == ["unready", "transfer 0", "transfer 1"]
    assert sql.calls == ["closed", "idle"]
