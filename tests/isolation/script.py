"""Isolation scripts: what several sessions do, step by step, in one order.

A script is plain text::

    # What it shows.
    each level: read committed | repeatable read | serializable
    compare outcome when level = serializable: why the step that fails may be another one
    for "ERROR 23505: .*" read "ERROR 42P07: ...": why the error is another one here

    setup
    CREATE TABLE t (id int PRIMARY KEY, v int)

    steps
    a: BEGIN ISOLATION LEVEL {level}
    a: UPDATE t SET v = 1
       WHERE id = 1
    b!: SELECT v FROM t FOR UPDATE NOWAIT

    final
    SELECT * FROM t ORDER BY id

* ``each NAME: x | y`` runs the script once for every value, put in place of ``{NAME}``; several of
  them make all combinations (``Case``). A value ``label = text`` is shown by its label.
* Lines of ``setup`` and ``final`` and steps are single statements; an indented line continues the
  one before. Setup runs before any session exists, ``final`` after all have ended.
* A step is ``session: statement``. The runner waits until it is done, or until the server says that
  it waits for a lock; then the script goes on, and the answer is shown after the step that let it
  go on. ``session!:`` is a step that ends by itself (a timeout, a deadlock): whatever it waits for
  on its way is not shown.
* Transcripts are compared word by word. With ``compare outcome`` only the outcome is: the final
  rows, which transactions of which session committed, and which SQLSTATEs each session saw. With
  ``for "PATTERN" read "TEXT"`` lines of PostgreSQL's transcript that match wholly are read so.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
SCRIPTS: Final = FOLDER / "scripts"
RECORDED: Final = FOLDER / "recorded"

_EACH: Final = re.compile(r"each (\w+): (.+)")
_COMPARE: Final = re.compile(r"compare outcome(?: when (\w+) = ([^:]+))?: (.+)")
_READ: Final = re.compile(r'for "(.+)" read "(.+)": (.+)')
_STEP: Final = re.compile(r"(\w+)(!?): (.+)", re.DOTALL)
_SECTIONS: Final = ("setup", "steps", "final")


class ScriptError(Exception):
    """A script that cannot be understood: the file and the line are in the message."""


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of one session."""

    session: str
    text: str
    ends_by_itself: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A script with a value chosen for each of its variables."""

    values: Mapping[str, str]
    setup: tuple[str, ...]
    steps: tuple[Step, ...]
    final: tuple[str, ...]
    compares_outcome: bool

    @property
    def title(self) -> str:
        """Name the case among those of its script."""
        return ", ".join(f"{name} = {value}" for name, value in self.values.items())

    @property
    def sessions(self) -> list[str]:
        """The sessions, in order of their first step."""
        return list(dict.fromkeys(step.session for step in self.steps))


@dataclass(slots=True)
class Script:
    """A parsed file."""

    name: str
    variables: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    readings: list[tuple[re.Pattern[str], str]] = field(default_factory=list)
    sections: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in _SECTIONS})

    def read(self, line: str) -> str:
        """Return a line of PostgreSQL's transcript as it is expected of us."""
        for pattern, text in self.readings:
            indent = line[: len(line) - len(line.lstrip())]
            if pattern.fullmatch(line.strip()):
                return indent + text
        return line

    def cases(self) -> Iterator[Case]:
        """Yield every combination of the variables' values."""
        names = list(self.variables)
        for combination in itertools.product(*self.variables.values()):
            labels = {n: label for n, (label, _) in zip(names, combination, strict=True)}
            texts = {n: text for n, (_, text) in zip(names, combination, strict=True)}
            yield self._case(labels, texts)

    def _case(self, labels: dict[str, str], texts: dict[str, str]) -> Case:
        filled = {
            section: tuple(_filled(line, texts) for line in lines)
            for section, lines in self.sections.items()
        }
        return Case(
            labels,
            filled["setup"],
            tuple(_step(self.name, line) for line in filled["steps"]),
            filled["final"],
            any(not name or labels.get(name) == value for name, value in self.outcomes),
        )


def _filled(line: str, texts: dict[str, str]) -> str:
    for name, text in texts.items():
        line = line.replace(f"{{{name}}}", text)
    return line.strip()


def _step(script: str, line: str) -> Step:
    found = _STEP.fullmatch(line)
    if found is None:
        raise ScriptError(f"{script}: not a step: {line}")
    return Step(found[1], found[3], bool(found[2]))


def parse_script(name: str, text: str) -> Script:
    """Read a script; ScriptError with the line that makes no sense."""
    script = Script(name)
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if line in _SECTIONS:
            section = line
        elif section and line[0].isspace():
            if not script.sections[section]:
                raise ScriptError(f"{name}:{number}: continues nothing")
            script.sections[section][-1] += "\n" + line.strip()
        elif section:
            script.sections[section].append(line.rstrip())
        elif (each := _EACH.fullmatch(line)) is not None:
            script.variables[each[1]] = [_value(part) for part in each[2].split(" | ")]
        elif (compare := _COMPARE.fullmatch(line)) is not None:
            script.outcomes.append((compare[1] or "", (compare[2] or "").strip()))
        elif (reading := _READ.fullmatch(line)) is not None:
            script.readings.append((re.compile(reading[1]), reading[2]))
        else:
            raise ScriptError(f"{name}:{number}: not understood: {line}")
    if not script.sections["steps"]:
        raise ScriptError(f"{name}: no steps")
    for variable, value in script.outcomes:
        labels = [label for label, _ in script.variables.get(variable, ())]
        if variable and value not in labels:
            raise ScriptError(f"{name}: compares outcomes where {variable} = {value}, never run")
    # A misspelt variable or step fails when it is read, not when it runs.
    list(script.cases())
    return script


def _value(part: str) -> tuple[str, str]:
    label, equals, text = part.partition(" = ")
    return (label.strip(), text.strip()) if equals else (part.strip(), part.strip())


def all_scripts() -> list[Script]:
    """Return the scripts of the repository, by name."""
    return [
        parse_script(path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(SCRIPTS.glob("*.txt"))
    ]
