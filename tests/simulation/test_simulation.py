"""A few seeds for every change; ``make sim RUNS=10000`` for the many."""

from __future__ import annotations

import pytest

from tests.simulation.world import SAFETY_SECONDS, World


def check(seed: int) -> World:
    world = World(seed).run()
    assert world.time.now - world.began_at >= SAFETY_SECONDS
    assert world.operation_count >= 300
    assert len(world.faults.struck) >= 5
    assert len(set(world.faults.struck)) >= 3
    return world


@pytest.mark.parametrize("seed", range(1, 16))
def test_no_checker_fires(seed: int) -> None:
    check(seed)


def test_one_seed_is_one_run() -> None:
    first, second = World(4).run(), World(4).run()
    assert first.log == second.log
    assert first.time.event_count == second.time.event_count
    assert first.chains == second.chains
    assert first.answers == second.answers
    assert World(5).run().log != first.log


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_checker_fires_in_many_runs() -> None:
    worlds = [check(seed) for seed in range(10_001, 10_201)]
    # All that can happen did: also what is rare in a single run.
    answers = sum((world.answers for world in worlds), worlds[0].answers.__class__())
    for answer in ("acknowledged", "unknown", "full", "refused", "confirmed", "unconfirmed"):
        assert answers[answer] > 100, answers
    assert sum(world.snapshots.installed_count for world in worlds) > 100
