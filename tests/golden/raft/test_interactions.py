"""Raft as a transcript: verbs above ``---``, what the nodes do below. See ``raft_script``.

``GOLDEN_REWRITE=1`` records; review the diff like code. The properties of figure 3 of the paper
are checked in every turn of every script.
"""

import os
import re
from pathlib import Path

import pytest
from raft_script import VERBS, Script, run_script

SCRIPTS = sorted(Path(__file__).parent.glob("*.golden"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    recorded = path.read_text(encoding="utf-8")
    actual = run_script(recorded)
    if os.environ.get("GOLDEN_REWRITE") == "1":
        path.write_text(actual, encoding="utf-8")
    assert actual == recorded, f"{path.name} differs: GOLDEN_REWRITE=1, then read the diff"


def test_every_verb_is_used_and_has_an_example() -> None:
    used = set()
    for path in SCRIPTS:
        for block in path.read_text(encoding="utf-8").split("\n\n"):
            commands = block.split("\n---", 1)[0]
            used |= {
                line.split()[0] for line in commands.splitlines() if line and line[0] not in "#-"
            }
    assert used == set(VERBS)
    for verb in VERBS:
        documentation = getattr(Script, verb.replace("-", "_")).__doc__
        assert re.search(rf"``{verb}\b", documentation), verb
