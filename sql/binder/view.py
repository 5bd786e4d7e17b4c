"""Views: making a query fit to be stored, independent of search path and later columns.

Source: PostgreSQL docs, "CREATE VIEW".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from sql.ast.query import (
    ColumnRef,
    Delete,
    Insert,
    Query,
    RowConstructor,
    Select,
    SetOperation,
    Star,
    TableRef,
    Target,
    Update,
)
from sql.binder.bound import ColumnVar, OutputColumn, TableScan
from sql.binder.collation import assign_collations
from sql.binder.naming import UNNAMED, output_name
from sql.binder.state import BoundQuery, Recorder
from sql.binder.statement import new_state
from sql.binder.tree import walk
from sql.errors import FeatureNotSupported
from sql.functions.builtin import REGISTRY

if TYPE_CHECKING:
    from sql.ast.query import Expression
    from sql.binder.bound import BoundExpr
    from sql.catalog.catalog import Catalog
    from sql.functions.registry import Registry

Dependencies = tuple[tuple[int, int], ...]


Analyze = Callable[["Expression", "BoundExpr"], "Expression"]


def qualify_view_query(
    query: Query,
    catalog: Catalog,
    *,
    registry: Registry = REGISTRY,
    analyze: Analyze | None = None,
) -> tuple[Query, tuple[OutputColumn, ...], Dependencies]:
    """Return (query to store, its output columns, dependencies) for CREATE VIEW.

    In the stored query every TableRef has its schema and ``relation_id``, columns have the FROM
    entry they belong to, and stars are spelled out.
    ``analyze`` writes the types that binding found into an expression.
    Dependencies are (relation id, column position), position -1 for the relation as a whole.
    """
    _refuse(query)
    state = new_state(catalog, registry, ())
    state.fixed_parameters = True
    recorder = state.recorder = Recorder()
    bound = state.bind_query(state, query, None)
    if state.collated:
        assign_collations(bound.plan)
    if analyze is None:
        recorder.bound.clear()
    stored: Query = _Rewriting(recorder, catalog, analyze).node(query)
    return stored, bound.columns, _dependencies(bound, recorder)


def _refuse(query: Query) -> None:
    first = query
    while isinstance(first, SetOperation):
        first = first.left
    if isinstance(first, Select) and first.into is not None:
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


class _Rewriting:
    """One query made fit to be stored."""

    def __init__(self, recorder: Recorder, catalog: Catalog, analyze: Analyze | None) -> None:
        self._recorder = recorder
        self._catalog = catalog
        self._analyze = analyze

    def node(self, node: Any) -> Any:
        """Rewrite a node and everything below it."""
        if isinstance(node, tuple):
            return tuple(self.node(item) for item in node)
        if not isinstance(node, msgspec.Struct):
            return node
        bound = self._recorder.bound.pop(id(node), None)
        if bound is not None and self._analyze is not None:
            return self.node(self._analyze(node, bound))  # type: ignore[arg-type]
        if isinstance(node, TableRef):
            return self._qualified(node)
        if isinstance(node, ColumnRef):
            qualifier = self._recorder.qualifiers.get(id(node))
            return node if qualifier is None else ColumnRef((qualifier, *node.parts), node.span)
        changes: dict[str, Any] = {}
        for name in node.__struct_fields__:
            old = getattr(node, name)
            if name == "targets" and isinstance(node, Select):
                new: Any = tuple(t for target in old for t in self._expand(target))
            elif name == "items" and isinstance(node, RowConstructor):
                new = tuple(e for item in old for e in self._expand_item(item))
            elif isinstance(old, tuple | msgspec.Struct):
                new = self.node(old)
            else:
                continue
            if new != old:
                changes[name] = new
        return msgspec.structs.replace(node, **changes) if changes else node

    def _qualified(self, node: TableRef) -> TableRef:
        relation_id = self._recorder.relations.get(id(node))
        if relation_id is None:
            return node
        relation = self._catalog.relation_by_id(relation_id)
        if relation is None:
            return node
        schema = self._catalog.schema_name(relation.schema_id)
        name = msgspec.structs.replace(node.name, schema=schema)
        return msgspec.structs.replace(node, name=name, relation_id=relation_id)

    def _expand(self, target: Target) -> list[Target]:
        expression = target.expression
        columns = self._recorder.stars.get(id(expression))
        if isinstance(expression, Star) and columns is not None:
            return [Target(ColumnRef(parts), label) for parts, label in columns]
        made = self.node(expression)
        label = target.label
        if not label and not isinstance(expression, ColumnRef):
            label = output_name(expression, {})
            if label == UNNAMED and output_name(made, {}) == UNNAMED:
                label = ""
        return [msgspec.structs.replace(target, expression=made, label=label)]

    def _expand_item(self, item: Any) -> list[Any]:
        columns = self._recorder.stars.get(id(item))
        if isinstance(item, Star) and columns is not None:
            return [ColumnRef(parts) for parts, _ in columns]
        return [self.node(item)]
