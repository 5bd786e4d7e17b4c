"""Isolation scripts give on nodedb what PostgreSQL 15 gave when they were recorded.

One test per script and protocol. ``python tests/isolation/record.py`` records them again.
"""

import difflib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.node_process import NodeProcess, running
from tests.isolation.runner import Runner
from tests.isolation.script import RECORDED, Script, all_scripts
from tests.isolation.session import Protocol
from tests.isolation.transcripts import path_of, recorded, run_script

SCRIPTS = all_scripts()
CASES_FAST_MAX = 12
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with running(tmp_path_factory.mktemp("isolation") / "store") as started:
        yield started


def _runs() -> Iterator[Any]:
    """Yield every script with both protocols; long ones a second time only among the slow tests."""
    for script in SCRIPTS:
        is_long = len(list(script.cases())) > CASES_FAST_MAX
        yield pytest.param(script, "simple", id=f"{script.name}-simple")
        marks = [pytest.mark.slow] if is_long else []
        yield pytest.param(script, "extended", id=f"{script.name}-extended", marks=marks)


@pytest.mark.parametrize(("script", "protocol"), list(_runs()))
def test_transcript_is_postgresqls(script: Script, protocol: Protocol, node: NodeProcess) -> None:
    expected = recorded(script)
    runner = Runner(node.dsn(), protocol)
    try:
        found = run_script(runner, script)
    finally:
        runner.close()
    differences = [
        f"== {title}\n"
        + "\n".join(
            difflib.unified_diff(lines, found[title], "PostgreSQL", "nodedb", n=4, lineterm="")
        )
        for title, lines in expected.items()
        if lines != found.get(title)
    ]
    assert not differences, f"{len(differences)} of {len(found)} cases\n" + "\n".join(differences)


def test_recordings_belong_to_the_scripts() -> None:
    assert {path_of(script).name for script in SCRIPTS} == {p.name for p in RECORDED.iterdir()}
    for script in SCRIPTS:
        titles = [case.title for case in script.cases()]
        assert list(recorded(script)) == titles, f"record {script.name} again"
