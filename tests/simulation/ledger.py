"""The table of simulated runs in ``docs/testing.md``: each line a batch, and a total that adds up.

A line is ``| date | commit | seeds | runs | faults | operations | virtual seconds | real seconds |
failures |``; the last line of the table is the total. Lines are only ever added.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
HEADER = "| date | commit | seeds | runs | faults | operations | virtual seconds | real seconds | failures |"
TOTAL = "total"


class Line(NamedTuple):
    """One batch of runs. ``seeds``: first to last, both included."""

    date: str
    commit: str
    seeds: str
    runs: int
    faults: int
    operations: int
    virtual_seconds: int
    real_seconds: int
    failures: int

    def text(self) -> str:
        numbers = (f"{number:,}" for number in self[3:])
        return f"| {self.date} | {self.commit} | {self.seeds} | {' | '.join(numbers)} |"


def parse(text: str) -> list[Line]:
    """Read the table, the total included."""
    lines = text.splitlines()
    start = lines.index(HEADER) + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        numbers = [int(cell.replace(",", "")) for cell in cells[3:]]
        found.append(Line(cells[0], cells[1], cells[2], *numbers))
    return found


def total_of(lines: list[Line]) -> Line:
    """Add up."""
    sums = [sum(line[column] for line in lines) for column in range(3, 9)]
    return Line(TOTAL, "", "", *sums)


def with_line(text: str, line: Line) -> str:
    """Return the page with one line more."""
    old = parse(text)
    batches = [*old[:-1], line]
    rows = [entry.text() for entry in (*batches, total_of(batches))]
    lines = text.splitlines()
    start = lines.index(HEADER) + 2
    lines[start : start + len(old)] = rows
    return "\n".join(lines) + "\n"
