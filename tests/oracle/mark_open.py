"""Marks what differs just now as ``@open`` in the corpus, and drops such marks that are stale.

Usage: ``python tests/oracle/mark_open.py``; then lower ``OPEN_DEFECTS_MAX`` and run ``compat.py``. A mark says what
differs first, as ``report.py`` prints it. Nothing else of the corpus changes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from node_process import nodedb
from runner import compare, run_file
from statements import RECORDED, corpus_files, read_statements

if TYPE_CHECKING:
    from pathlib import Path

_CHARACTERS_MAX: Final = 150


def _rewrite(path: Path, marks: dict[int, str]) -> None:
    """Write the file with exactly these open marks, by the number of the line a statement starts at."""
    result: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.startswith("-- @open:"):
            continue
        if number in marks:
            result.append(f"-- @open: {marks[number]}")
        result.append(line)
    path.write_text("\n".join(result), encoding="utf-8")


def main() -> None:
    """Run the corpus on a fresh node and rewrite the marks."""
    count = 0
    with nodedb() as server:
        for path in corpus_files():
            statements = read_statements(path)
            lines = (RECORDED / f"{path.stem}.jsonl").read_text(encoding="utf-8").splitlines()
            marks: dict[int, str] = {}
            answers = run_file(server, path.stem, statements)
            for statement, line, answer in zip(statements, lines, answers, strict=True):
                hard, _ = compare(statement, json.loads(line), answer)
                if hard and not statement.differs:
                    marks[statement.line] = " ".join(hard[0].split())[:_CHARACTERS_MAX]
            _rewrite(path, marks)
            count += len(marks)
    print(f"{count} open defects")


if __name__ == "__main__":
    main()
