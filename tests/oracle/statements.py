"""Reads the corpus: files of SQL statements with comment lines as titles and directives.

A statement ends with ``;`` at the end of a line; several on one line are one Query message. A line
that starts with a backslash is a psql meta-command and a statement of its own. The lines after a
``COPY ... FROM STDIN`` up to ``\\.`` are its data. Directives, before the statement they belong to:

    -- @differs: reason      a known difference; the test fails when it is gone
    -- @open: what differs   a defect not mended yet; counted, listed, and the count may only fall
    -- @simple               no extended-protocol rerun (it would change what later statements see)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
RECORDED: Final = HERE / "recorded"

_COPY_IN: Final = re.compile(r"^copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
_QUERY: Final = re.compile(r"^\s*(select|values|table|with|\()\b|^\s*\(", re.IGNORECASE)
_WRITES: Final = re.compile(
    r"\b(insert|update|delete|into|nextval|setval|set_config|for\s+(update|share))\b", re.IGNORECASE
)
_ORDERED_BY_NATURE: Final = re.compile(r"\s*(fetch|show|explain|copy)\b", re.IGNORECASE)
_QUOTED: Final = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One entry of a corpus file; `line` is where it starts."""

    file: str
    line: int
    sql: str
    copy_data: str = ""
    differs: str = ""
    open_defect: str = ""
    simple_only: bool = False

    @property
    def is_meta_command(self) -> bool:
        """Whether psql itself runs it."""
        return self.sql.startswith("\\")

    @property
    def is_plain_query(self) -> bool:
        """Whether running it once more changes nothing."""
        return (
            not self.simple_only
            and _QUERY.match(self.sql) is not None
            and _WRITES.search(_QUOTED.sub("''", self.sql)) is None
            and ";" not in self.sql
        )

    @property
    def is_ordered(self) -> bool:
        """Whether the order of rows is part of the answer."""
        text = _QUOTED.sub("''", self.sql)
        if _ORDERED_BY_NATURE.match(text):
            return True
        previous = None
        while previous != text:
            previous, text = text, re.sub(r"\([^()]*\)", " ", text)
        return re.search(r"\border\s+by\b", text, re.IGNORECASE) is not None


def corpus_files() -> list[Path]:
    """Return the corpus files in the order of their numbers."""
    return sorted(CORPUS.glob("*.sql"))


def read_statements(path: Path) -> list[Statement]:
    """Split one corpus file."""
    statements: list[Statement] = []
    differs = open_defect = ""
    simple_only = False
    lines = path.read_text(encoding="utf-8").split("\n")
    index = 0
    while index < len(lines):
        line = lines[index]
        index += 1
        if line.startswith("-- @differs:"):
            differs = line.removeprefix("-- @differs:").strip()
            continue
        if line.startswith("-- @open:"):
            open_defect = line.removeprefix("-- @open:").strip()
            continue
        if line.startswith("-- @simple"):
            simple_only = True
            continue
        if not line.strip() or line.startswith("--"):
            continue
        start = index
        parts = [line]
        while not line.startswith("\\") and not parts[-1].rstrip().endswith(";"):
            parts.append(lines[index])
            index += 1
        sql = "\n".join(parts).rstrip().removesuffix(";")
        data = ""
        if _COPY_IN.match(sql):
            end = lines.index("\\.", index)
            data = "".join(row + "\n" for row in lines[index:end])
            index = end + 1
        statements.append(
            Statement(
                path.stem,
                start,
                sql,
                data,
                differs=differs,
                open_defect=open_defect,
                simple_only=simple_only,
            )
        )
        differs = open_defect = ""
        simple_only = False
    return statements
