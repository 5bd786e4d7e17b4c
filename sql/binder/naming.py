"""Names of unlabelled output columns: ``?column?``, ``case``, a function's or a cast type's name...

Source: PostgreSQL docs, "SELECT", "Column Labels" says what is guaranteed; the rest is observed.
"""

from __future__ import annotations

from typing import Final

from sql.ast.query import (
    ArrayConstructor,
    ArraySubquery,
    Case,
    Coalesce,
    Collate,
    ColumnRef,
    Exists,
    Expression,
    FieldSelect,
    FunctionCall,
    MinMax,
    NullIf,
    RowConstructor,
    ScalarSubquery,
    SqlValueFunction,
    Subscript,
    TypeCast,
)

UNNAMED: Final = "?column?"
_WEAK: Final = 1
_STRONG: Final = 2


def output_name(expression: Expression, subquery_names: dict[int, str]) -> str:
    """Return the name of an output column.

    ``subquery_names`` has the bound sub-queries' by node id.
    """
    return _figure(expression, subquery_names)[0] or UNNAMED


def _figure(node: Expression | None, subquery_names: dict[int, str]) -> tuple[str, int]:
    match node:
        case ColumnRef():
            return node.parts[-1], _STRONG
        case FieldSelect():
            return node.field, _STRONG
        case Subscript(operand=operand) | Collate(operand=operand):
            return _figure(operand, subquery_names)
        case FunctionCall():
            return node.name[-1], _STRONG
        case SqlValueFunction():
            return node.name, _STRONG
        case TypeCast():
            name, strength = _figure(node.operand, subquery_names)
            return (name, strength) if strength > _WEAK else (node.type_name.name, _WEAK)
        case Case():
            name, strength = _figure(node.default, subquery_names)
            return (name, strength) if strength > _WEAK else ("case", _WEAK)
        case ScalarSubquery():
            return subquery_names.get(id(node), ""), _STRONG
        case Exists():
            return "exists", _STRONG
        case ArraySubquery() | ArrayConstructor():
            return "array", _STRONG
        case RowConstructor():
            return "row", _STRONG
        case Coalesce():
            return "coalesce", _STRONG
        case NullIf():
            return "nullif", _STRONG
        case MinMax():
            return node.kind, _STRONG
        case _:
            return "", 0
