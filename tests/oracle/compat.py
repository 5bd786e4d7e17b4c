"""Writes ``docs/compatibility.md`` from the ``@differs`` and ``@open`` marks of the corpus.

Usage: ``python tests/oracle/compat.py``. The page has one row per marked statement: where it is,
what PostgreSQL 15 answered when recorded, and why nodedb answers otherwise.
"""

from __future__ import annotations

import json
from typing import Any, Final

from statements import HERE, RECORDED, corpus_files, read_statements

PAGE: Final = HERE.parents[1] / "docs" / "compatibility.md"
_CELL_CHARACTERS_MAX: Final = 160

_HEAD: Final = """\
# Compatibility with PostgreSQL 15

nodedb runs {total:,} statements of `tests/oracle/corpus` and compares its answers with those a real
PostgreSQL 15 gave: rows, column names, type OIDs, sizes and modifiers, binary values, binary
parameters, command tags, transaction status, SQLSTATE, message and error position. {errors:,} of
the statements are expected to fail. **{marked} differ ({percent:.1f} %)**, all listed here: {design} by
design, with the reason, and {defects} as open defects, with what differs (PostgreSQL | nodedb). `python tests/oracle/report.py --soft` also prints differences in detail, hint, object names
of errors and notices, which do not count.

This page is written by `tests/oracle/compat.py`; a test checks that it is up to date.
"""


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|").replace("`", "'")
    return flat if len(flat) <= _CELL_CHARACTERS_MAX else flat[: _CELL_CHARACTERS_MAX - 1] + "…"


def _answer_text(answer: dict[str, Any]) -> str:
    if "psql" in answer:
        return "psql's output"
    reply = answer["simple"]
    error = reply.get("error")
    if error:
        return f"{error['sqlstate']} {error['message']}"
    results = reply["results"]
    if not results:
        return "nothing"
    last = results[-1]
    rows = last.get("rows", [])
    if len(rows) == 1:
        return f"{last['tag']}: " + ", ".join("NULL" if one is None else one for one in rows[0])
    return str(last["tag"])


def render_page() -> str:
    """Return the page's text."""
    sections: list[str] = []
    total = errors = marked = defects = 0
    for path in corpus_files():
        rows: list[str] = []
        recorded = (RECORDED / f"{path.stem}.jsonl").read_text(encoding="utf-8").splitlines()
        for statement, line in zip(read_statements(path), recorded, strict=True):
            answer = json.loads(line)
            total += 1
            errors += "error" in answer.get("simple", {})
            defects += bool(statement.open_defect)
            if statement.differs or statement.open_defect:
                reason = statement.differs or f"open: {statement.open_defect}"
                rows.append(
                    f"| `{_cell(statement.sql)}` | {_cell(_answer_text(answer))} "
                    f"| {_cell(reason)} |"
                )
        marked += len(rows)
        if rows:
            title = (
                path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("-- ").rstrip(".")
            )
            sections.append(
                f"\n## {title}\n\n`tests/oracle/corpus/{path.name}`\n\n"
                "| statement | PostgreSQL 15 | reason |\n| --- | --- | --- |\n"
                + "\n".join(rows)
                + "\n"
            )
    percent = 100 * marked / total if total else 0.0
    head = _HEAD.format(
        total=total,
        errors=errors,
        marked=marked,
        percent=percent,
        design=marked - defects,
        defects=defects,
    )
    return head + ("".join(sections) if sections else "\nThere are none.\n")


def main() -> None:
    """Write the page."""
    PAGE.write_text(render_page(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
