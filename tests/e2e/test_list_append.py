"""Lists that eight clients append to and read: no level shows what it forbids (the cycle checker).

Short runs here, and each level with its check turned off must be caught; with the marker ``slow``
20 seeds of 20 s per level. ``python -m tests.serializability.run`` does the same by hand.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess, running
from tests.serializability.checker import LEVELS, Level
from tests.serializability.history import Shares
from tests.serializability.list_append import SHAPES, Shape
from tests.serializability.run import COMMITTED_SHARE_MIN, describe, run_seed

SHORT_SECONDS = 2.0
LONG_SECONDS = 20.0
LONG_SEEDS = range(1, 21)
CAUGHT_WITHIN = 3
CHECKS: dict[str, Level] = {
    "looks_again": "read committed",
    "first_committer_wins": "repeatable read",
    "validates_reads": "serializable",
}


@pytest.fixture(scope="module")
def fresh_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node on which nothing was written before."""
    with running(tmp_path_factory.mktemp("list-append") / "store") as node:
        yield node


def dsn(node: NodeProcess) -> str:
    return f"postgresql://nodedb@{node.host}:{node.port}/nodedb?sslmode=disable"


def run_and_judge(
    node: NodeProcess, level: Level, seed: int, seconds: float, shape: Shape | None = None
) -> None:
    history, found = run_seed(dsn(node), level, seed, seconds, shape)
    report = describe(level, seed, history, found)
    print(report)
    assert not found, report
    assert Shares.of(history).committed_share >= COMMITTED_SHARE_MIN, report


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("level", "shape"), [(level, shape) for level in LEVELS for shape in SHAPES[level]]
)
def test_level_shows_nothing_it_forbids(
    fresh_node: NodeProcess, level: Level, shape: Shape
) -> None:
    run_and_judge(fresh_node, level, 1, SHORT_SECONDS, shape)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("check", "level"), CHECKS.items())
def test_level_without_its_check_is_caught(store: Path, check: str, level: Level) -> None:
    node = NodeProcess(store, "--fault-injection")
    node.environment = {"NODEDB_FAULT_CHECKS_OFF": check}
    node.start()
    try:
        for seed in range(1, CAUGHT_WITHIN + 1):
            history, found = run_seed(dsn(node), level, seed, SHORT_SECONDS)
            if found:
                print(describe(level, seed, history, found))
                return
    finally:
        node.kill()
    pytest.fail(f"{level} without {check} looks right\n{node.log()}")


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_level_shows_nothing_it_forbids_at_length(
    fresh_node: NodeProcess, level: Level, seed: int
) -> None:
    run_and_judge(fresh_node, level, seed, LONG_SECONDS)
