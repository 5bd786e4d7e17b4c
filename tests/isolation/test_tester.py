"""The isolation tester itself: how it reads scripts, and that it sees what it is there to see."""

from pathlib import Path

import pytest

from tests.e2e.node_process import NodeProcess
from tests.isolation import transcripts
from tests.isolation.runner import Outcome, RunFailed, Runner
from tests.isolation.script import Script, ScriptError, all_scripts, parse_script
from tests.isolation.session import Answer

SCRIPT = """\
# Two variables, one of them with labels.
each level: one | two
each end: good = COMMIT | bad = ROLLBACK
compare outcome when level = two: a reason

setup
CREATE TABLE t (id int)

steps
a: BEGIN
b!: SELECT
   1
a: {end}

final
TABLE t
"""


def test_a_script_is_run_for_every_combination() -> None:
    cases = list(parse_script("s", SCRIPT).cases())
    assert [case.title for case in cases] == [
        "level = one, end = good",
        "level = one, end = bad",
        "level = two, end = good",
        "level = two, end = bad",
    ]
    assert [case.compares_outcome for case in cases] == [False, False, True, True]
    assert [step.text for step in cases[1].steps] == ["BEGIN", "SELECT\n1", "ROLLBACK"]
    assert [step.ends_by_itself for step in cases[1].steps] == [False, True, False]
    assert cases[0].sessions == ["a", "b"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("each level", "ech level"),
        ("a: BEGIN", "BEGIN"),
        ("when level = two", "when level = three"),
        ("steps\n", "step\n"),
    ],
)
def test_a_script_with_a_mistake_is_refused(old: str, new: str) -> None:
    with pytest.raises(ScriptError):
        parse_script("s", SCRIPT.replace(old, new))


def test_readings_replace_whole_lines() -> None:
    script = parse_script("s", 'for "ERROR 1: .*" read "ERROR 2": because\n' + SCRIPT)
    assert script.read("    ERROR 1: text") == "    ERROR 2"
    assert script.read("    NOTICE ERROR 1: text") == "    NOTICE ERROR 1: text"


def test_transcripts_survive_being_written_down() -> None:
    written = {"level = one": ["a: BEGIN", "    BEGIN"], "level = two": ["a: committed"]}
    assert transcripts.read(transcripts.render(written)) == written


def test_an_outcome_is_who_committed_and_who_saw_what() -> None:
    outcome = Outcome()
    outcome.note("b", Answer(tags=["BEGIN"], state="open"))
    outcome.note("b", Answer(sqlstate="40001", state="failed"))
    outcome.note("b", Answer(sqlstate="25P02", state="failed"))
    outcome.note("b", Answer(tags=["ROLLBACK"], state="idle"))
    outcome.note("a", Answer(tags=["UPDATE 1"], state="idle"))
    outcome.note("a", Answer(sqlstate="40001", state="idle"))
    assert outcome.lines() == [
        "a: committed, rolled back",
        "b: rolled back",
        "a saw 40001",
        "b saw 40001",
    ]


def _script(name: str) -> Script:
    return next(script for script in all_scripts() if script.name == name)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tester") / "store"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("check", "name"),
    [
        ("looks_again", "recheck_update"),
        ("first_committer_wins", "anomaly_p4_lost_update"),
        ("validates_reads", "anomaly_g2_item_write_skew"),
    ],
)
def test_a_level_without_its_check_is_found_out(check: str, name: str, store: Path) -> None:
    node = NodeProcess(store, "--fault-injection")
    node.environment = {"NODEDB_FAULT_CHECKS_OFF": check}
    script = _script(name)
    try:
        runner = Runner(node.start().dsn())
        found = transcripts.run_script(runner, script)
        runner.close()
    finally:
        node.kill()
    assert found != transcripts.recorded(script)


def test_a_session_that_is_never_let_go_is_reported(store: Path) -> None:
    steps = "a: BEGIN\na: LOCK TABLE t\nb: SELECT 1 FROM t\n"
    script = parse_script("s", f"setup\nCREATE TABLE t (id int)\n\nsteps\n{steps}")
    node = NodeProcess(store)
    try:
        runner = Runner(node.start().dsn())
        with pytest.raises(RunFailed, match="still wait at the end"):
            transcripts.run_script(runner, script)
        with pytest.raises(RunFailed, match="session b still waits"):
            transcripts.run_script(
                runner,
                parse_script("s", f"setup\nCREATE TABLE t (id int)\n\nsteps\n{steps}b: TABLE t"),
            )
        runner.close()
    finally:
        node.kill()
