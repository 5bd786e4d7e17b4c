"""Random interleavings of an index build with the table's writers, and with losses of power.

Whatever the order, a finished index holds exactly what the table's rows say, and one that could not
be finished leaves nothing behind.
"""

from __future__ import annotations

import pytest

from tests.unit.nodedb.schema_change.online import KINDS, World, run_until_power_loss, small_batches

SEEDS = 40
MANY_SEEDS = range(10_000, 11_000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_rows", [1, 3, 100])
def test_the_index_equals_the_table(
    kind: str, batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_seeds(kind, batch_rows, range(SEEDS), monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_rows", [1, 3])
def test_the_index_equals_the_table_in_thousands_of_orders(
    kind: str, batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_seeds(kind, batch_rows, MANY_SEEDS, monkeypatch)


def check_seeds(kind: str, batch_rows: int, seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch, batch_rows)
    for seed in seeds:
        # Few values make unique keys collide, many let the build succeed.
        world = World(seed, kind, values=(8, 1000)[seed % 2])
        world.start(sessions=4, count=6)
        world.run()
        found = world.check()
        assert (found == "gone") == (world.outcome is not None), f"seed {seed}"


def test_duplicates_end_the_build_and_leave_nothing() -> None:
    outcomes = set()
    for seed in range(SEEDS):
        world = World(seed, "unique", values=8)
        world.start(sessions=4, count=6)
        world.run()
        found = world.check()
        outcomes.add(found)
        assert (found == "gone") == (world.outcome is not None), seed
        if world.outcome is not None:
            assert str(world.outcome) == 'could not create unique index "t_value"'
    assert outcomes == {"gone", "public"}


def test_no_writer_is_the_victim_of_a_build() -> None:
    """Writers of one row each have no cycle of their own."""
    for seed in range(SEEDS):
        world = World(seed, "plain")
        world.start(sessions=5, count=6, rows_max=1)
        world.run()
        assert world.check() == "public"
        assert world.deadlocks == 0, seed


@pytest.mark.parametrize("kind", KINDS)
def test_a_build_survives_losses_of_power(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch, 2)
    crashes = resumed = 0
    for seed in range(SEEDS):
        world = World(seed, kind)
        builds = True
        for _ in range(4):
            world.node.disk.operations_left = world.chance.randrange(2, 80)
            world.start(sessions=3, count=5, builds=builds)
            if not run_until_power_loss(world):
                break
            crashes += 1
            world.crash()
            resumed += bool(world.changes._builds)
            builds = not world.table.indexes and not world.changes._builds and builds
        world.node.disk.operations_left = -1
        world.settle()
        world.check()
    assert crashes > SEEDS // 2
    assert resumed > 10
