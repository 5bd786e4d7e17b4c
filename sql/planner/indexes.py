"""Which indexes a scan may read: partial ones whose predicate holds, expressions as key columns.

A partial index serves when each conjunct of its predicate stands among the conditions, or says
IS NOT NULL of a column that some condition refuses as NULL. An expression of an index becomes a
column of its own: a *pseudo column* with a negative id, put in the place of the expression in
copies of the conditions, so that the access paths need no rule for expressions.

Source: PostgreSQL docs, "Partial Indexes" and "Indexes on Expressions".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sql.binder import bound as b
from sql.catalog.descriptor import Index
from sql.planner.joins import refused_nulls
from sql.planner.tables import bind_target
from sql.planner.walk import conjuncts, rewrite, same_expression, substitute
from sql.types.base import SqlType

if TYPE_CHECKING:
    from sql.catalog.catalog import Catalog


@dataclass(slots=True)
class ReadableIndexes:
    """The indexes of one scan, in the table's order, and the conditions in their terms."""

    indexes: list[Index]
    conditions: list[Any]
    """Parallel to the scan's conditions, expressions of indexes replaced by pseudo columns."""
    pseudo: dict[int, tuple[tuple[int, SqlType], ...]] = field(default_factory=dict)
    """Index id: (id, type) per expression key, in key order."""
    originals: dict[int, Any] = field(default_factory=dict)
    """``id`` of a rewritten condition: the condition as it was."""

    @property
    def columns(self) -> set[int]:
        """Ids of the pseudo columns."""
        return {column for keys in self.pseudo.values() for column, _ in keys}


def readable_indexes(catalog: Catalog, scan: b.TableScan, conditions: list[Any]) -> ReadableIndexes:
    """Return the indexes that may serve a scan with these conditions."""
    public = [i for i in scan.table.indexes if i.state == "public" and i.method == "btree"]
    special = [i for i in public if i.predicate is not None or any(k.position < 0 for k in i.keys)]
    if not special or not conditions:
        return ReadableIndexes([i for i in public if i.predicate is None], conditions)
    target = bind_target(scan.table, catalog)
    own = {
        row.id: b.ColumnVar(c.id, c.type, c.typmod)
        for row, c in zip(target.row_columns, scan.columns, strict=True)
    }
    refused: set[int] = set().union(*map(refused_nulls, conditions))
    result = ReadableIndexes([], conditions)
    for index in public:
        predicate = target.index_predicates.get(index.index_id)
        if predicate is not None and not all(
            _holds(part, conditions, refused) for part in conjuncts(substitute(predicate, own))
        ):
            continue
        result.indexes.append(index)
        expressions = target.index_expressions.get(index.index_id, ())
        if len(expressions) == len(index.keys):
            keys = zip(index.keys, expressions, strict=True)
            expressions = tuple(e for key, e in keys if key.position < 0)
        if expressions:
            _replace(result, index, [substitute(e, own) for e in expressions])
    for new, old in zip(result.conditions, conditions, strict=True):
        result.originals[id(new)] = old
    return result


def _holds(part: Any, conditions: list[Any], refused: set[int]) -> bool:
    if any(same_expression(part, condition) for condition in conditions):
        return True
    return (
        isinstance(part, b.NullTestExpr)
        and part.negated
        and isinstance(part.operand, b.ColumnVar)
        and part.operand.id in refused
    )


def _replace(result: ReadableIndexes, index: Index, expressions: list[Any]) -> None:
    """Put pseudo columns in the place of an index's expressions."""
    keys: list[tuple[int, SqlType]] = []
    for expression in expressions:
        column = -2 - len(result.columns) - len(keys)
        keys.append((column, expression.type))
        variable = b.ColumnVar(column, expression.type, expression.typmod)

        def change(node: Any, wanted: Any = expression, variable: Any = variable) -> Any | None:
            return variable if same_expression(node, wanted) else None

        result.conditions = [rewrite(c, change) for c in result.conditions]
    result.pseudo[index.index_id] = tuple(keys)
