"""Hand-made catalogs for unit tests: tables from (name.

Type) pairs and a simple ``Catalog`` over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sql.catalog.catalog import BindableRelation, VirtualTable
from sql.catalog.descriptor import (
    FIRST_USER_ID,
    PG_CATALOG_ID,
    PUBLIC_SCHEMA_ID,
    Check,
    Column,
    Database,
    Index,
    IndexKey,
    Relation,
    Schema,
    Sequence,
    Table,
    View,
    ViewColumn,
)
from sql.catalog.snapshot import CatalogSnapshot
from sql.errors import FeatureNotSupported, InvalidSchemaName
from sql.types.catalog import INT8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sql.ast.query import QualifiedName
    from sql.types.base import SqlType

DATABASE_ID = 5

ColumnSpec = tuple[Any, ...]
"""(name, type) or (name, type, dict of further Column fields)."""


def make_table(
    name: str,
    columns: Iterable[ColumnSpec],
    primary_key: Iterable[str] = (),
    *,
    table_id: int = 0,
    schema_id: int = PUBLIC_SCHEMA_ID,
    unique: Iterable[Iterable[str]] = (),
    checks: Iterable[Check] = (),
    indexes: Iterable[Index] = (),
) -> Table:
    """Make a table; without primary key it gets a hidden rowid, as CREATE TABLE does."""
    made: list[Column] = []
    for position, (column_name, sql_type, *rest) in enumerate(columns):
        fields = dict(rest[0]) if rest else {}
        made.append(
            Column(
                name=column_name,
                type_oid=sql_type.oid,
                position=position,
                number=position + 1,
                **fields,
            )
        )
    positions = {c.name: c.position for c in made}
    key = tuple(positions[n] for n in primary_key)
    if not key:
        key = (len(made),)
        made.append(
            Column(
                name="rowid",
                type_oid=INT8.oid,
                position=len(made),
                number=0,
                not_null=True,
                hidden=True,
            )
        )
    uniques = tuple(
        Index(
            id=table_id + 500 + number,
            name=f"{name}_{'_'.join(names)}_key",
            index_id=number + 2,
            keys=tuple(IndexKey(position=positions[n]) for n in names),
            unique=True,
            constraint=True,
        )
        for number, names in enumerate(tuple(u) for u in unique)
    )
    return Table(
        id=table_id,
        name=name,
        schema_id=schema_id,
        storage_id=table_id,
        columns=tuple(made),
        clustering_key=key,
        primary_name=f"{name}_pkey" if primary_key else "",
        indexes=(*uniques, *indexes),
        checks=tuple(checks),
    )


class FixtureCatalog:
    """A ``sql.catalog.catalog.Catalog`` over given relations.

    Ids are assigned from FIRST_USER_ID on when 0.
    """

    def __init__(
        self,
        relations: Iterable[Relation] = (),
        virtual: Iterable[VirtualTable] = (),
        schemas: Iterable[Schema] = (),
    ) -> None:
        self.database_id = DATABASE_ID
        self.database_name = "test"
        self.user_id = 10
        self.virtual = {v.name: v for v in virtual}
        stored: list[Any] = [
            Database(id=DATABASE_ID, name="test"),
            Schema(id=PUBLIC_SCHEMA_ID, name="public", database_id=DATABASE_ID),
            *schemas,
        ]
        next_id = FIRST_USER_ID
        for relation in relations:
            stored.append(relation)
            next_id = max(next_id, relation.id + 1)
        self.snapshot = CatalogSnapshot().with_changes(
            stored, (), schema_version=1, next_id=next_id
        )

    def search_path_ids(self) -> tuple[int, ...]:
        return (PG_CATALOG_ID, PUBLIC_SCHEMA_ID)

    def find_relation(self, name: QualifiedName) -> BindableRelation | None:
        if name.catalog and name.catalog != self.database_name:
            raise FeatureNotSupported(
                "cross-database references are not implemented", span=name.span
            )
        if name.schema:
            schema_id = self.schema_id(name.schema)
            if schema_id is None:
                raise InvalidSchemaName(f'schema "{name.schema}" does not exist', span=name.span)
            path: tuple[int, ...] = (schema_id,)
        else:
            path = self.search_path_ids()
        for schema_id in path:
            if schema_id == PG_CATALOG_ID and name.name in self.virtual:
                return self.virtual[name.name]
            found = self.snapshot.relation(schema_id, name.name)
            if found is not None:
                return found
        return None

    def relation_by_id(self, relation_id: int) -> BindableRelation | None:
        found = self.snapshot.get(relation_id)
        if isinstance(found, (Table, View, Sequence)):
            return found
        return next((v for v in self.virtual.values() if v.oid == relation_id), None)

    def schema_name(self, schema_id: int) -> str:
        if schema_id == PG_CATALOG_ID:
            return "pg_catalog"
        found = self.snapshot.get(schema_id)
        assert isinstance(found, Schema)
        return found.name

    def creation_schema_id(self) -> int:
        return PUBLIC_SCHEMA_ID

    def schema_id(self, name: str) -> int | None:
        if name == "pg_catalog":
            return PG_CATALOG_ID
        found = self.snapshot.schema(self.database_id, name)
        return None if found is None else found.id

    def check_privilege(self, relation: Relation, privileges: str) -> None:
        pass

    def has_privilege(self, relation: Relation, privileges: str) -> bool:
        return True


def make_virtual_table(
    name: str, columns: Iterable[tuple[str, SqlType]], oid: int = 1259
) -> VirtualTable:
    """Make an empty virtual table in pg_catalog."""
    rows: Callable[[object], list[Any]] = lambda _: []  # noqa: E731
    return VirtualTable(oid, PG_CATALOG_ID, name, tuple(columns), rows)


__all__ = ["FixtureCatalog", "ViewColumn", "make_table", "make_virtual_table"]
