"""The recorded transcripts: one text file per script, one part per case.

A part begins with ``== title``; a script without variables has one part with an empty title.
"""

from pathlib import Path
from typing import Final

from tests.isolation.runner import Runner
from tests.isolation.script import RECORDED, Script

_MARK: Final = "=="


def path_of(script: Script) -> Path:
    """Return where a script's transcripts are."""
    return RECORDED / f"{script.name}.txt"


def run_script(runner: Runner, script: Script) -> dict[str, list[str]]:
    """Run all cases; returns the transcripts by title."""
    return {case.title: runner.run(case) for case in script.cases()}


def render(transcripts: dict[str, list[str]]) -> str:
    """Make the text of a recording."""
    parts = [
        "\n".join([f"{_MARK} {title}".strip(), *lines]) for title, lines in transcripts.items()
    ]
    return "\n\n".join(parts) + "\n"


def read(text: str) -> dict[str, list[str]]:
    """Read the text of a recording."""
    transcripts: dict[str, list[str]] = {}
    title = ""
    for line in text.splitlines():
        if line.startswith(_MARK):
            title = line.removeprefix(_MARK).strip()
            transcripts[title] = []
        elif line:
            transcripts[title].append(line)
    return transcripts


def recorded(script: Script) -> dict[str, list[str]]:
    """Return what PostgreSQL 15 answered, with the readings that the script declares."""
    transcripts = read(path_of(script).read_text(encoding="utf-8"))
    return {title: [script.read(line) for line in lines] for title, lines in transcripts.items()}
