"""Views: making a query fit to be stored, independent of search path and later columns.

Source: PostgreSQL docs, "CREATE VIEW".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sql.ast.query import (
    ColumnRef,
    Delete,
    Insert,
    Query,
    RowConstructor,
    Select,
    Star,
    TableRef,
    Target,
    Update,
)
from sql.binder.bound import ColumnVar, OutputColumn, TableScan
from sql.binder.naming import UNNAMED, output_name
from sql.binder.state import BoundQuery, Recorder
from sql.binder.statement import new_state
from sql.binder.tree import walk
from sql.errors import FeatureNotSupported
from sql.functions.builtin import REGISTRY

if TYPE_CHECKING:
    from sql.catalog.catalog import Catalog
    from sql.functions.registry import Registry

Dependencies = tuple[tuple[int, int], ...]


def qualify_view_query(
    query: Query, catalog: Catalog, *, registry: Registry = REGISTRY
) -> tuple[Query, tuple[OutputColumn, ...], Dependencies]:
    """Return (query to store, its output columns, dependencies) for CREATE VIEW.

    In the stored query every TableRef has its schema and ``relation_id``, columns have the FROM
    entry they belong to, and stars are spelled out.
    Dependencies are (relation id, column position), position -1 for the relation as a whole.
    """
    _refuse(query)
    state = new_state(catalog, registry, ())
    state.fixed_parameters = True
    recorder = state.recorder = Recorder()
    bound = state.bind_query(state, query, None)
    stored: Query = _rewrite(query, recorder, catalog)
    return stored, bound.columns, _dependencies(bound, recorder)


def _refuse(query: Query) -> None:
    if isinstance(query, Select) and query.into is not None:
        raise FeatureNotSupported("views must not contain SELECT INTO")
    clause = query.with_clause
    for table in () if clause is None else clause.tables:
        if isinstance(table.statement, Insert | Update | Delete):
            raise FeatureNotSupported("views must not contain data-modifying statements in WITH")


def _dependencies(bound: BoundQuery, recorder: Recorder) -> Dependencies:
    direct = set(recorder.relations.values())
    result: dict[tuple[int, int], None] = {
        (relation_id, -1): None for relation_id in sorted(direct)
    }
    places: dict[int, tuple[int, int]] = {}
    used: list[int] = []
    for node in walk(bound.plan):
        if isinstance(node, TableScan) and node.table.id in direct:
            for position, column in enumerate(node.columns):
                places[column.id] = (node.table.id, position)
        elif isinstance(node, ColumnVar):
            used.append(node.id)
    for column_id in sorted(used):
        if column_id in places:
            result[places[column_id]] = None
    return tuple(result)


def _rewrite(node: Any, recorder: Recorder, catalog: Catalog) -> Any:
    if isinstance(node, tuple):
        return tuple(_rewrite(item, recorder, catalog) for item in node)
    if not isinstance(node, msgspec.Struct):
        return node
    if isinstance(node, TableRef):
        return _qualified(node, recorder, catalog)
    if isinstance(node, ColumnRef):
        qualifier = recorder.qualifiers.get(id(node))
        return node if qualifier is None else ColumnRef((qualifier, *node.parts), node.span)
    changes: dict[str, Any] = {}
    for name in node.__struct_fields__:
        old = getattr(node, name)
        if name == "targets" and isinstance(node, Select):
            new: Any = tuple(t for target in old for t in _expand(target, recorder, catalog))
        elif name == "items" and isinstance(node, RowConstructor):
            new = tuple(e for item in old for e in _expand_item(item, recorder, catalog))
        elif isinstance(old, tuple | msgspec.Struct):
            new = _rewrite(old, recorder, catalog)
        else:
            continue
        if new != old:
            changes[name] = new
    return msgspec.structs.replace(node, **changes) if changes else node


def _qualified(node: TableRef, recorder: Recorder, catalog: Catalog) -> TableRef:
    relation_id = recorder.relations.get(id(node))
    if relation_id is None:
        return node
    relation = catalog.relation_by_id(relation_id)
    if relation is None:
        return node
    name = msgspec.structs.replace(node.name, schema=catalog.schema_name(relation.schema_id))
    return msgspec.structs.replace(node, name=name, relation_id=relation_id)


def _expand(target: Target, recorder: Recorder, catalog: Catalog) -> list[Target]:
    expression = target.expression
    columns = recorder.stars.get(id(expression))
    if isinstance(expression, Star) and columns is not None:
        return [Target(ColumnRef(parts), label) for parts, label in columns]
    label = target.label
    if not label and not isinstance(expression, ColumnRef):
        name = output_name(expression, {})
        label = "" if name == UNNAMED else name
    rewritten: Target = msgspec.structs.replace(
        target, expression=_rewrite(expression, recorder, catalog), label=label
    )
    return [rewritten]


def _expand_item(item: Any, recorder: Recorder, catalog: Catalog) -> list[Any]:
    columns = recorder.stars.get(id(item))
    if isinstance(item, Star) and columns is not None:
        return [ColumnRef(parts) for parts, _ in columns]
    return [_rewrite(item, recorder, catalog)]
