"""The three generators, for seconds, and for half an hour under ``slow``.

A failure names its seed and case.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess, running
from tests.fuzz.reduce import reduce_text
from tests.fuzz.sql_run import run_sql, why_no_postgres
from tests.fuzz.target import Target
from tests.fuzz.wire_run import Limits, run_bytes, run_decoders, run_messages

SEED = int(os.environ.get("NODEDB_FUZZ_SEED", "1"))
SHORT_SECONDS = 3.0
# Three of them: half an hour together.
LONG_SECONDS = 600.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running(tmp_path_factory.mktemp("fuzz") / "store") as node:
        yield node


@pytest.fixture
def target(node: NodeProcess) -> Target:
    print(f"seed {SEED}")
    return Target(node)


def test_decoders() -> None:
    assert run_decoders(SEED, Limits(seconds=SHORT_SECONDS, count=10_000)) > 100


def test_bytes(target: Target) -> None:
    assert run_bytes(target, SEED, Limits(seconds=SHORT_SECONDS, count=2000)) > 10
    target.check()


def test_messages(target: Target) -> None:
    assert run_messages(target, SEED, Limits(seconds=SHORT_SECONDS, count=1000)) > 10
    target.check()


def test_sql(node: NodeProcess, tmp_path: Path) -> None:
    compare(node, tmp_path, Limits(seconds=2 * SHORT_SECONDS, count=300))


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS * 2)
def test_bytes_for_long(target: Target) -> None:
    run_bytes(target, SEED, Limits(seconds=LONG_SECONDS))
    target.check()


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS * 2)
def test_messages_for_long(target: Target) -> None:
    run_messages(target, SEED, Limits(seconds=LONG_SECONDS))
    target.check()


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS * 2)
def test_sql_for_long(node: NodeProcess, tmp_path: Path) -> None:
    compare(node, tmp_path, Limits(seconds=LONG_SECONDS))


def compare(node: NodeProcess, folder: Path, limits: Limits) -> None:
    """Compare with PostgreSQL; the assertion shows the findings file."""
    if why := why_no_postgres():
        pytest.skip(why)
    report = run_sql(node.dsn(), SEED, limits)
    report.write(folder / "findings.md", SEED)
    assert not report.found, (folder / "findings.md").read_text(encoding="utf-8")
    assert report.accepted * 2 > report.done, "the grammar makes mostly what PostgreSQL refuses"


def test_reduction_keeps_only_what_matters() -> None:
    def shows(text: str) -> bool:
        return "bad" in text and text.startswith("select")

    whole = "select a, (b + (c * 2)), bad(d, 'x y') from t where (e > 1) order by 1"
    assert reduce_text(whole, shows) == "select bad"
