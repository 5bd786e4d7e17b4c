"""Errors about rows that a table refuses, worded as PostgreSQL words them.

Source: PostgreSQL docs, "Constraints"; "Error and Notice Message Fields".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from sql.errors import CheckViolation, NotNullViolation, WithCheckOptionViolation
from sql.types.io import text_output

if TYPE_CHECKING:
    from sql.catalog.descriptor import Check, Table
    from sql.functions.context import ExecutionContext
    from sql.types.base import Row

FIELD_BYTES_MAX: Final = 64


def describe_row(table: Table, row: Row, context: ExecutionContext | None) -> str:
    """Return ``(1, null)``: the visible columns' texts, long ones cut."""
    parts = []
    for column in table.visible_columns:
        value = row[column.position]
        if value is None:
            parts.append("null")
            continue
        write = (
            text_output(column.type)
            if context is None
            else text_output(column.type, context.format)
        )
        text = write(value)
        raw = text.encode()
        if len(raw) > FIELD_BYTES_MAX:
            text = raw[:FIELD_BYTES_MAX].decode(errors="ignore") + "..."
        parts.append(text)
    return f"({', '.join(parts)})"


def describe_key(
    table: Table, positions: tuple[int, ...], key: Row, context: ExecutionContext
) -> str:
    """Return ``(a, b)=(1, 2)``."""
    columns = [table.columns[p] for p in positions]
    values = [
        "null" if v is None else text_output(c.type, context.format)(v)
        for c, v in zip(columns, key, strict=True)
    ]
    return f"({', '.join(c.name for c in columns)})=({', '.join(values)})"


class ViewFaults:
    """What the check options of the views in a statement call for a row outside of a view."""

    __slots__ = ("_table", "_views")

    def __init__(self, table: Table, views: tuple[str, ...]) -> None:
        self._table = table
        self._views = views

    def outside(self, row: Row, number: int, context: Any) -> NoReturn:
        """Raise WithCheckOptionViolation (44000)."""
        raise WithCheckOptionViolation(
            f'new row violates check option for view "{self._views[number]}"',
            detail=f"Failing row contains {describe_row(self._table, row, context)}.",
        )


class RowFaults:
    """What a table's verification function calls when a row is refused."""

    __slots__ = ("_checks", "_schema", "_table")

    def __init__(self, table: Table, schema: str, checks: dict[int, Check]) -> None:
        self._table = table
        self._schema = schema
        self._checks = checks

    def not_null(self, row: Row, position: int, context: Any) -> NoReturn:
        """Raise NotNullViolation (23502)."""
        name = self._table.columns[position].name
        raise NotNullViolation(
            f'null value in column "{name}" of relation "{self._table.name}" '
            "violates not-null constraint",
            detail=f"Failing row contains {describe_row(self._table, row, context)}.",
            schema=self._schema,
            table=self._table.name,
            column=name,
        )

    def check(self, row: Row, check_id: int, context: Any) -> NoReturn:
        """Raise CheckViolation (23514)."""
        name = self._checks[check_id].name
        raise CheckViolation(
            f'new row for relation "{self._table.name}" violates check constraint "{name}"',
            detail=f"Failing row contains {describe_row(self._table, row, context)}.",
            schema=self._schema,
            table=self._table.name,
            constraint=name,
        )
