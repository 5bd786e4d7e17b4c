"""Names that PostgreSQL makes up: of constraints, indexes and sequences.

Source: PostgreSQL docs, "CREATE TABLE", "CREATE INDEX", "Identifiers and Key Words" (63 bytes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sql.ast.query import (
    Case,
    Coalesce,
    Collate,
    ColumnRef,
    Expression,
    FieldSelect,
    FunctionCall,
    MinMax,
    NullIf,
    SqlValueFunction,
    Subscript,
    TypeCast,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

NAME_BYTES_MAX: Final = 63


def clip(text: str, bytes_max: int) -> str:
    """Cut a text to a number of UTF-8 bytes without splitting a character."""
    data = text.encode()
    return text if len(data) <= bytes_max else data[:bytes_max].decode(errors="ignore")


def make_object_name(name1: str, name2: str, label: str) -> str:
    """Join parts with underscores.

    The longer of the two names is shortened until 63 bytes suffice.
    """
    overhead = (len(name2) > 0) + (len(label) + 1 if label else 0)
    available = NAME_BYTES_MAX - overhead
    bytes1, bytes2 = len(name1.encode()), len(name2.encode())
    while bytes1 + bytes2 > available:
        if bytes1 > bytes2:
            bytes1 -= 1
        else:
            bytes2 -= 1
    parts = [clip(name1, bytes1)]
    if name2:
        parts.append(clip(name2, bytes2))
    if label:
        parts.append(label)
    return "_".join(parts)


def choose_name(name1: str, name2: str, label: str, is_taken: Callable[[str], bool]) -> str:
    """Return the first free of ``name1_name2_label``, ``..._label1``, ``..._label2``..."""
    name = make_object_name(name1, name2, label)
    count = 0
    while is_taken(name):
        count += 1
        name = make_object_name(name1, name2, f"{label}{count}")
    return name


def join_column_names(names: Iterable[str]) -> str:
    """Join column names for an index's or foreign key's name; stops when 63 bytes are reached."""
    result = ""
    for name in names:
        result = f"{result}_{name}" if result else name
        if len(result.encode()) >= NAME_BYTES_MAX:
            break
    return result


def index_column_names(expressions: Sequence[str | Expression]) -> list[str]:
    """Return the column names of an index: the column's, a function's, or ``expr``.

    Repeats are numbered.
    """
    result: list[str] = []
    for item in expressions:
        base = item if isinstance(item, str) else figure_name(item) or "expr"
        name = base
        count = 0
        while name in result:
            count += 1
            name = clip(base, NAME_BYTES_MAX - len(str(count))) + str(count)
        result.append(name)
    return result


def figure_name(expression: Expression) -> str:
    """Return the name that a target list or an index would give an expression, "" if none."""
    match expression:
        case ColumnRef():
            return expression.parts[-1]
        case FunctionCall():
            return expression.name[-1]
        case FieldSelect():
            return expression.field
        case Subscript():
            return figure_name(expression.operand)
        case Collate():
            return figure_name(expression.operand)
        case TypeCast():
            return figure_name(expression.operand) or expression.type_name.name
        case Coalesce():
            return "coalesce"
        case NullIf():
            return "nullif"
        case MinMax():
            return expression.kind
        case SqlValueFunction():
            return expression.name
        case Case():
            found = figure_name(expression.default) if expression.default is not None else ""
            return found or "case"
        case _:
            return ""
