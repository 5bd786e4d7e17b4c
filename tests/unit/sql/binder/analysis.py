"""The form of ``analysis.golden``: a statement, ``---``, what parse analysis says of it.

A blank line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sql.binder import bind_statement
from sql.errors import SqlError
from sql.parser import parse_statements

if TYPE_CHECKING:
    from pathlib import Path

    from catalog_fixture import FixtureCatalog


def answer(statement: str, catalog: FixtureCatalog) -> str:
    """Bind a statement: ``ok name:oid:typmod:attnum ...

    / parameter oids`` or the error's fields.
    """
    try:
        bound = bind_statement(parse_statements(statement)[0].statement, catalog)
    except SqlError as error:
        lines = [f"error {error.sqlstate} {error.position} {error.message}"]
        lines += [f"detail {error.detail}"] if error.detail else []
        lines += [f"hint {error.hint}"] if error.hint else []
        return "\n".join(lines)
    columns = " ".join(f"{c.name}:{c.type.oid}:{c.typmod}:{c.column_number}" for c in bound.columns)
    return f"ok {columns} / {' '.join(str(p.oid) for p in bound.parameters)}".strip()


def read_golden(path: Path) -> list[tuple[str, str]]:
    """Return (statement, answer) pairs."""
    blocks = path.read_text().strip().split("\n\n")
    return [tuple(block.split("\n---\n")) for block in blocks]  # type: ignore[misc]


def write_golden(path: Path, pairs: list[tuple[str, str]]) -> None:
    """Write (statement, answer) pairs."""
    path.write_text("\n\n".join(f"{s}\n---\n{a}" for s, a in pairs) + "\n")
