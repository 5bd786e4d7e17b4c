"""Each planted mistake is caught, so that the simulation is known to see."""

from __future__ import annotations

import pytest

from nodedb.errors import LogCorrupted
from tests.lib.raft_checks import Violation
from tests.simulation.canaries import CANARIES
from tests.simulation.world import World

SEEDS = {
    "skip the fsync": 1,
    "forget the vote": 5,
    "count a learner": 2,
    "acknowledge one's own last index": 87,
    "two conf changes at once": 46,
    "waiter without term": 2,
    "lease after TimeoutNow": 2,
}
"""The first seed from 1 on that catches it."""


def test_every_canary_has_its_seed() -> None:
    assert SEEDS.keys() == CANARIES.keys()
    assert all(seed < 200 for seed in SEEDS.values())


@pytest.mark.parametrize("name", CANARIES)
def test_the_mistake_is_caught(name: str) -> None:
    # A checker fires, or the damaged node cannot even start.
    with pytest.raises((Violation, LogCorrupted)):
        CANARIES[name](SEEDS[name]).run()


@pytest.mark.parametrize("seed", sorted(set(SEEDS.values())))
def test_the_same_seed_is_clean_without_a_mistake(seed: int) -> None:
    World(seed).run()
