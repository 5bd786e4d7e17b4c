"""Tables as psql prints them: aligned, expanded, and as JSON."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Final

Row = Sequence[str | None]
# Types whose columns psql prints to the right: int2, int4, int8, oid, float4, float8, numeric,
# money, xid, cid.
RIGHT_ALIGNED: Final = frozenset({20, 21, 23, 26, 28, 29, 700, 701, 790, 1700})


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def aligned(names: Sequence[str], rows: Sequence[Row], right: Sequence[bool]) -> str:
    """Return psql's aligned table with its footer; ``right`` says which columns are numbers."""
    cells = [[_lines(value) for value in row] for row in rows]
    widths = [display_width(name) for name in names]
    for row in cells:
        for column, lines in enumerate(row):
            widths[column] = max(widths[column], *(display_width(line) for line in lines))
    out = ["|".join(f" {_center(n, w)} " for n, w in zip(names, widths, strict=True)).rstrip()]
    if not names:
        out = ["--"]
    else:
        out[0] = "|".join(f" {_center(n, w)} " for n, w in zip(names, widths, strict=True))
        out.append("+".join("-" * (width + 2) for width in widths))
    for row in cells:
        out += _row_lines(row, widths, right)
    out.append(_count(len(rows)))
    return "\n".join(out) + "\n\n"


def _row_lines(row: list[list[str]], widths: list[int], right: Sequence[bool]) -> list[str]:
    """Return a row's lines; a value with line breaks takes several, marked with ``+``."""
    height = max((len(lines) for lines in row), default=0)
    out = []
    for number in range(height):
        parts = []
        for column, lines in enumerate(row):
            text = lines[number] if number < len(lines) else ""
            more = "+" if number + 1 < len(lines) else " "
            padding = " " * (widths[column] - display_width(text))
            is_last = column + 1 == len(row)
            body = padding + text if right[column] else text + padding
            if is_last and more == " ":
                # psql fills the last column up only to move numbers to the right.
                is_number = right[column] and number < len(lines)
                body, more = (body if is_number else text), ""
            parts.append(f" {body}{more}")
        out.append("|".join(parts))
    return out


def expanded(names: Sequence[str], rows: Sequence[Row]) -> str:
    """Return psql's expanded form: one line per value."""
    if not rows:
        return "(0 rows)\n\n"
    name_width = max((display_width(name) for name in names), default=0)
    cells = [[_lines(value) for value in row] for row in rows]
    value_width = max(
        (display_width(line) for row in cells for lines in row for line in lines), default=0
    )
    out = []
    for number, row in enumerate(cells, 1):
        out.append(_record_line(number, name_width, value_width))
        for name, lines in zip(names, row, strict=True):
            for index, line in enumerate(lines):
                label = name if index == 0 else ""
                padding = " " * (name_width - display_width(label))
                is_cut = index + 1 < len(lines)
                fill = " " * (value_width - display_width(line)) + "+" if is_cut else ""
                before = " " if index == 0 or not label else "+"
                out.append(f"{label}{padding}{before}| {line}{fill}")
    return "\n".join(out) + "\n\n"


def _record_line(number: int, name_width: int, value_width: int) -> str:
    title = f"-[ RECORD {number} ]"
    width = name_width + 1
    if len(title) < width:
        return title + "-" * (width - len(title)) + "+" + "-" * (value_width + 1)
    if len(title) == width:
        return title + "+" + "-" * (value_width + 1)
    return title + "-" * max(name_width + value_width + 3 - len(title), 0)


def as_json(names: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a JSON array of objects; values are the server's texts, NULL is null."""
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2)


def _lines(value: str | None) -> list[str]:
    if not value:
        return [""]
    return [_visible(line) for line in value.split("\n")]


def _visible(line: str) -> str:
    """Keep control characters from reaching the terminal: they could rewrite what is shown."""
    if line.isprintable():
        return line
    return "".join(
        c if c.isprintable() or c == "\t" else f"\\x{ord(c):02X}" if ord(c) < 256 else "\ufffd"
        for c in line
    )


def _center(text: str, width: int) -> str:
    free = width - display_width(text)
    return " " * (free // 2) + text + " " * (free - free // 2)


def _count(count: int) -> str:
    return "(1 row)" if count == 1 else f"({count} rows)"
