"""The catalog as one statement sees it.

Immutable maps over descriptors, plus an overlay for DDL in progress.

``CatalogSnapshot`` is shared by all sessions and replaced as a whole when a metadata entry applies;
``with_changes`` copies only the maps it touches. A transaction with uncommitted DDL holds its own
snapshot made the same way, so later statements of that session see its changes and nobody else
does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from sql.ast.utility import INTERNAL_SCHEMA
from sql.catalog.descriptor import (
    INFORMATION_SCHEMA_ID,
    INTERNAL_SCHEMA_ID,
    PG_CATALOG_ID,
    AnyDescriptor,
    Database,
    Relation,
    Role,
    Schema,
    Sequence,
    Table,
    View,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DescriptorT = TypeVar("DescriptorT", Database, Schema, Role, Table, View, Sequence)
BUILTIN_SCHEMA_NAMES: Final = {
    "pg_catalog": PG_CATALOG_ID,
    "information_schema": INFORMATION_SCHEMA_ID,
    INTERNAL_SCHEMA: INTERNAL_SCHEMA_ID,
}


class CatalogSnapshot:
    """All descriptors at one ``schema_version`` (the metadata group's index of the last change).

    Lookups by name return None when there is nothing; raising is the caller's business.
    """

    __slots__ = (
        "_by_id",
        "_databases",
        "_relations",
        "_roles",
        "_schemas",
        "next_id",
        "schema_version",
    )

    def __init__(self) -> None:
        self.schema_version = 0
        self.next_id = 16384
        self._by_id: dict[int, AnyDescriptor] = {}
        self._relations: dict[tuple[int, str], int] = {}
        self._schemas: dict[tuple[int, str], int] = {}
        self._databases: dict[str, int] = {}
        self._roles: dict[str, int] = {}

    def with_changes(
        self,
        puts: Iterable[AnyDescriptor],
        deletes: Iterable[int],
        *,
        schema_version: int,
        next_id: int,
    ) -> CatalogSnapshot:
        """Return a new snapshot.

        Deletes come first, so a name may move from one object to another.
        """
        new = CatalogSnapshot()
        new.schema_version = schema_version
        new.next_id = next_id
        new._by_id = dict(self._by_id)
        new._relations = dict(self._relations)
        new._schemas = dict(self._schemas)
        new._databases = dict(self._databases)
        new._roles = dict(self._roles)
        put_list = list(puts)
        for descriptor_id in [*deletes, *(d.id for d in put_list)]:
            old = new._by_id.pop(descriptor_id, None)
            if old is not None:
                new._forget_name(old)
        for descriptor in put_list:
            new._by_id[descriptor.id] = descriptor
            new._remember_name(descriptor)
        return new

    def _remember_name(self, descriptor: AnyDescriptor) -> None:
        match descriptor:
            case Database():
                self._databases[descriptor.name] = descriptor.id
            case Role():
                self._roles[descriptor.name] = descriptor.id
            case Schema():
                self._schemas[descriptor.database_id, descriptor.name] = descriptor.id
            case Table() | View() | Sequence():
                self._relations[descriptor.schema_id, descriptor.name] = descriptor.id

    def _forget_name(self, descriptor: AnyDescriptor) -> None:
        match descriptor:
            case Database():
                self._databases.pop(descriptor.name, None)
            case Role():
                self._roles.pop(descriptor.name, None)
            case Schema():
                self._schemas.pop((descriptor.database_id, descriptor.name), None)
            case Table() | View() | Sequence():
                self._relations.pop((descriptor.schema_id, descriptor.name), None)

    def get(self, descriptor_id: int) -> AnyDescriptor | None:
        """Return any descriptor by id."""
        return self._by_id.get(descriptor_id)

    def all(self, kind: type[DescriptorT]) -> Iterator[DescriptorT]:
        """Iterate over the descriptors of one class, in id order (for determinism)."""
        for descriptor_id in sorted(self._by_id):
            descriptor = self._by_id[descriptor_id]
            if isinstance(descriptor, kind):
                yield descriptor

    def database(self, name: str) -> Database | None:
        """Find a database by name."""
        return self._typed(self._databases.get(name), Database)

    def role(self, name: str) -> Role | None:
        """Find a role by name."""
        return self._typed(self._roles.get(name), Role)

    def role_by_id(self, role_id: int) -> Role | None:
        """Find a role by id."""
        return self._typed(role_id, Role)

    def schema(self, database_id: int, name: str) -> Schema | None:
        """Find a stored schema by name; pg_catalog and information_schema are not stored."""
        return self._typed(self._schemas.get((database_id, name)), Schema)

    def relation(self, schema_id: int, name: str) -> Relation | None:
        """Find a table, view or sequence by schema and name."""
        relation_id = self._relations.get((schema_id, name))
        found = None if relation_id is None else self._by_id.get(relation_id)
        return found if isinstance(found, (Table, View, Sequence)) else None

    def table(self, table_id: int) -> Table | None:
        """Find a table by id."""
        return self._typed(table_id, Table)

    def _typed(self, descriptor_id: int | None, kind: type[DescriptorT]) -> DescriptorT | None:
        found = None if descriptor_id is None else self._by_id.get(descriptor_id)
        return found if isinstance(found, kind) else None
