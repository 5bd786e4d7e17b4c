"""Tables as storage needs them: index entry makers for indexes over expressions or with predicates.

Makers are compiled once per table version and kept in a small cache; their expressions are
bound by the binder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.binder.collation import assign_to_target
from sql.binder.statement import new_state
from sql.binder.table_target import default_value, target_table
from sql.executor.store import IndexEntryMaker, TableAccess
from sql.functions.builtin import REGISTRY
from sql.planner.codegen import Writer, positions, seal

if TYPE_CHECKING:
    from collections.abc import Callable

    from sql.binder import bound as b
    from sql.catalog.catalog import Catalog
    from sql.catalog.descriptor import Table


def target_access(target: b.TargetTable) -> TableAccess:
    """Return the access of a table that is written, from its bound index expressions."""
    table = target.table
    makers = []
    for index in table.indexes:
        expressions = target.index_expressions.get(index.index_id)
        predicate = target.index_predicates.get(index.index_id)
        if expressions is None and predicate is None:
            continue
        makers.append(
            IndexEntryMaker(index.index_id, _maker(target, index, expressions, predicate))
        )
    return TableAccess(table, tuple(makers))


def _maker(
    target: b.TargetTable, index: Any, expressions: tuple[Any, ...] | None, predicate: Any
) -> Callable[[Any], tuple[Any, ...] | None]:
    layout = [c.id for c in target.row_columns]
    writer = Writer(None, columns=positions(layout))
    if predicate is not None:
        writer.guard(predicate, "return None")
    codes = []
    remaining = list(expressions or ())
    full = len(remaining) == len(index.keys)
    for number, key in enumerate(index.keys):
        if key.position >= 0:
            codes.append(f"r[{key.position:d}]")
        else:
            expression = remaining[number] if full else remaining.pop(0)
            codes.append(writer.emit(expression).code)
    writer.line(f"return ({', '.join(codes)},)")
    compiled = seal(writer, "make(r, context)")
    make = compiled.call
    return lambda row: make(row, None)


def table_access(catalog: Catalog, table: Table) -> TableAccess:
    """Return the access of a table that is read: with makers if any of its indexes needs them."""
    if all(
        i.predicate is None and all(k.expression is None for k in i.keys) for i in table.indexes
    ):
        return TableAccess(table)
    return target_access(bind_target(table, catalog))


def bind_target(table: Table, catalog: Catalog) -> b.TargetTable:
    """Bind a table's checks, generated columns and index expressions without a statement."""
    state = new_state(catalog, REGISTRY, ())
    target = target_table(state, table, writes_row=True)
    return assign_to_target(target) if state.collated else target


def bind_defaults(
    table: Table, columns: tuple[int, ...], catalog: Catalog
) -> tuple[b.BoundExpr, ...]:
    """Bind the defaults of some columns."""
    state = new_state(catalog, REGISTRY, ())
    return tuple(default_value(state, table.columns[position]) for position in columns)
