"""Queries shown with the column names of what they define.

Source: PostgreSQL docs, "System Catalog Information Functions" (``pg_get_viewdef``).
"""

from __future__ import annotations

from typing import Final

import msgspec

from sql.ast.query import (
    Alias,
    ColumnRef,
    Query,
    Select,
    SetOperation,
    SubqueryRef,
    Target,
    Values,
)

_VALUES: Final = "*VALUES*"


def with_column_names(query: Query, names: tuple[str, ...]) -> Query:
    """Return a stored query whose select lists carry ``names``, as views show theirs.

    Labels that a plain column's own name makes needless are left out. VALUES names its columns
    column1, column2 ...: under other names it becomes a sub-query.
    """
    if isinstance(query, SetOperation):
        return msgspec.structs.replace(
            query,
            left=with_column_names(query.left, names),
            right=with_column_names(query.right, names),
        )
    if isinstance(query, Values):
        own = tuple(f"column{number}" for number in range(1, len(names) + 1))
        if own == names:
            return query
        return Select(
            targets=tuple(
                _named(Target(ColumnRef((_VALUES, column))), name)
                for column, name in zip(own, names, strict=True)
            ),
            from_items=(SubqueryRef(query, Alias(_VALUES)),),
        )
    targets = tuple(_named(t, name) for t, name in zip(query.targets, names, strict=True))
    return msgspec.structs.replace(query, targets=targets)


def _named(target: Target, name: str) -> Target:
    expression = target.expression
    needless = isinstance(expression, ColumnRef) and expression.parts[-1] == name
    return msgspec.structs.replace(target, label="" if needless else name)
