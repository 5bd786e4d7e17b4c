"""Compares a fresh PostgreSQL with the recorded answers: prints what is not repeatable.

Usage: ``python tests/oracle/selfcheck.py``; whatever it prints does not belong into the corpus.
"""

from __future__ import annotations

import json
import sys

from record import postgresql
from runner import compare, run_file
from statements import RECORDED, corpus_files, read_statements


def main() -> int:
    """Return how many statements answered differently."""
    count = 0
    with postgresql() as server:
        for path in corpus_files():
            statements = read_statements(path)
            lines = (RECORDED / f"{path.stem}.jsonl").read_text(encoding="utf-8").splitlines()
            answers = run_file(server, path.stem, statements)
            for statement, line, answer in zip(statements, lines, answers, strict=True):
                hard, soft = compare(statement, json.loads(line), answer)
                if hard or soft:
                    count += 1
                    print(f"{path.stem}:{statement.line}: {statement.sql}\n    {hard} {soft}")
    print(f"{count} not repeatable")
    return count


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
