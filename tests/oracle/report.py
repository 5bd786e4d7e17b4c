"""Prints how a fresh node differs from the recorded answers.

Usage: ``python tests/oracle/report.py [--soft] [NN ...]``; the last line has the totals.
"""

from __future__ import annotations

import json
import sys

from node_process import nodedb
from runner import compare, run_file
from statements import RECORDED, corpus_files, read_statements
from wire import WireError


def main(arguments: list[str]) -> None:
    """Run the chosen files (all without arguments) and print each difference."""
    with_soft = "--soft" in arguments
    chosen = tuple(argument for argument in arguments if not argument.startswith("--"))
    total = different = soft_total = 0
    with nodedb() as server:
        for path in corpus_files():
            if chosen and not path.stem.startswith(chosen):
                continue
            statements = read_statements(path)
            lines = (RECORDED / f"{path.stem}.jsonl").read_text().splitlines()
            count = 0
            try:
                for statement, line, answer in zip(
                    statements, lines, run_file(server, path.stem, statements), strict=True
                ):
                    hard, soft = compare(statement, json.loads(line), answer)
                    soft_total += bool(soft)
                    if hard:
                        count += 1
                        known = statement.differs or statement.open_defect
                        marked = f" [known: {known}]" if known else ""
                        print(f"{path.stem}:{statement.line}{marked}: {statement.sql}")
                        print("".join(f"    {text}\n" for text in hard), end="")
                    if with_soft and soft:
                        print(f"{path.stem}:{statement.line} soft: {statement.sql}")
                        print("".join(f"    {text}\n" for text in soft), end="")
            except (OSError, WireError, AssertionError) as problem:
                print(f"{path.stem}: stopped: {problem!r}")
            print(f"== {path.stem}: {count} of {len(statements)} differ", flush=True)
            total += len(statements)
            different += count
    print(f"{different} of {total} differ; {soft_total} differ softly")


if __name__ == "__main__":
    main(sys.argv[1:])
