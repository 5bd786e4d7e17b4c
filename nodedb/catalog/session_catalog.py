"""One session's view of the catalog: names resolved along its search path, privileges of its role.

``SessionCatalog`` implements ``sql.catalog.catalog.Catalog``. It is immutable and cheap to make;
the session keeps one per (snapshot, search path, role) and makes a new one when any of them
changes.

The effective path is, as in PostgreSQL: the temporary schema unless named, pg_catalog unless named,
then the listed schemas that exist and that the role may use; ``"$user"`` stands for the schema
named like the role, ``pg_temp`` for the temporary one.

Source: PostgreSQL docs, "The Schema Search Path", "search_path (string)", "Privileges".
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from nodedb.catalog import acl
from nodedb.catalog.derived import derived, find_index
from sql.catalog.descriptor import (
    INTERNAL_SCHEMA_ID,
    PG_CATALOG_ID,
    Database,
    Descriptor,
    Relation,
    Schema,
    Sequence,
    Table,
    View,
)
from sql.catalog.snapshot import BUILTIN_SCHEMA_NAMES, CatalogSnapshot
from sql.errors import FeatureNotSupported, InsufficientPrivilege, InvalidSchemaName, UndefinedTable

if TYPE_CHECKING:
    from sql.ast.query import QualifiedName
    from sql.catalog.catalog import BindableRelation, VirtualTable
    from sql.span import Span

_BUILTIN_SCHEMA_BY_ID: Final = {number: name for name, number in BUILTIN_SCHEMA_NAMES.items()}
DEFAULT_SEARCH_PATH: Final = ("$user", "public")


class VirtualTables:
    """The system tables of a node, by name and by OID.

    ``listed`` are those that pg_catalog and information_schema tell of: not nodedb's own views.
    """

    __slots__ = ("by_name", "by_oid", "listed")

    def __init__(self, tables: tuple[VirtualTable, ...] = ()) -> None:
        self.by_name = {(table.schema_id, table.name): table for table in tables}
        self.by_oid = {table.oid: table for table in tables}
        self.listed = tuple(table for table in tables if table.schema_id != INTERNAL_SCHEMA_ID)


class SessionCatalog:
    """A statement's catalog. ``temp_schema_id`` is 0 while the session has no temporary schema."""

    def __init__(
        self,
        snapshot: CatalogSnapshot,
        *,
        database_id: int,
        user_id: int,
        search_path: tuple[str, ...] = DEFAULT_SEARCH_PATH,
        session_id: int = 0,
        virtual_tables: VirtualTables | None = None,
    ) -> None:
        self.snapshot = snapshot
        database = snapshot.get(database_id)
        assert isinstance(database, Database), database_id
        self.database_id = database_id
        self.database_name = database.name
        self.user_id = user_id
        self.search_path = search_path
        self.session_id = session_id
        self.virtual_tables = virtual_tables or VirtualTables()
        temporary = snapshot.schema(database_id, f"pg_temp_{session_id}") if session_id else None
        self.temp_schema_id = temporary.id if temporary is not None else 0

    def searching_first(self, schema: str) -> SessionCatalog:
        """Return the same catalog with one more schema at the front of the search path."""
        return self._changed(self.user_id, (schema, *self.search_path))

    def as_role(self, role_id: int) -> SessionCatalog:
        """Return the catalog as another role sees it."""
        return self._changed(role_id, self.search_path)

    def over(self, snapshot: CatalogSnapshot) -> SessionCatalog:
        """Return the session's view of another snapshot."""
        return self._changed(self.user_id, self.search_path, snapshot)

    def _changed(
        self,
        user_id: int,
        search_path: tuple[str, ...],
        snapshot: CatalogSnapshot | None = None,
    ) -> SessionCatalog:
        return SessionCatalog(
            snapshot or self.snapshot,
            database_id=self.database_id,
            user_id=user_id,
            search_path=search_path,
            session_id=self.session_id,
            virtual_tables=self.virtual_tables,
        )

    @property
    def is_superuser(self) -> bool:
        """Tell whether the role is a superuser."""
        return acl.is_superuser(self.snapshot, self.user_id)

    @cached_property
    def explicit_path(self) -> tuple[int, ...]:
        """Ids of the listed schemas that exist and may be used, in order and without repeats."""
        result: list[int] = []
        for name in self.search_path:
            if name == "pg_temp":
                found: int | None = self.temp_schema_id or None
            elif name == "$user":
                found = self.schema_id(acl.role_name(self.snapshot, self.user_id))
            else:
                found = self.schema_id(name)
            if found is not None and found not in result and self.may_use_schema(found):
                result.append(found)
        return tuple(result)

    @cached_property
    def _path(self) -> tuple[int, ...]:
        path = self.explicit_path
        if PG_CATALOG_ID not in path:
            path = (PG_CATALOG_ID, *path)
        if self.temp_schema_id and self.temp_schema_id not in path:
            path = (self.temp_schema_id, *path)
        return path

    def search_path_ids(self) -> tuple[int, ...]:
        """Return the effective path.

        Temporary schema and pg_catalog first unless they are listed.
        """
        return self._path

    def schema_id(self, name: str) -> int | None:
        """Resolve a schema name in this database."""
        builtin = BUILTIN_SCHEMA_NAMES.get(name)
        if builtin is not None:
            return builtin
        if name == "pg_temp":
            return self.temp_schema_id or None
        schema = self.snapshot.schema(self.database_id, name)
        return None if schema is None else schema.id

    def schema_name(self, schema_id: int) -> str:
        """Return a schema's name."""
        builtin = _BUILTIN_SCHEMA_BY_ID.get(schema_id)
        if builtin is not None:
            return builtin
        schema = self.snapshot.get(schema_id)
        return schema.name if schema is not None else str(schema_id)

    def explicit_schema_id(self, name: QualifiedName) -> int | None:
        """Resolve a qualified name's schema; None if there is none.

        Raises 42501 without USAGE, 0A000 across databases.
        """
        if name.catalog and name.catalog != self.database_name:
            whole = f"{name.catalog}.{name.schema}.{name.name}"
            raise FeatureNotSupported(
                f'cross-database references are not implemented: "{whole}"', span=name.span
            )
        found = self.schema_id(name.schema)
        if found is not None and not self.may_use_schema(found):
            raise InsufficientPrivilege(
                f"permission denied for schema {self.schema_name(found)}", span=name.span
            )
        return found

    def find_relation(self, name: QualifiedName) -> BindableRelation | None:
        """Resolve a relation name.

        None for an unknown schema too: PostgreSQL reports the relation then.
        """
        if name.schema:
            schema_id = self.explicit_schema_id(name)
            return None if schema_id is None else self.relation_in(schema_id, name.name)
        for schema_id in self._path:
            found = self.relation_in(schema_id, name.name)
            if found is not None:
                return found
        return None

    def relation_in(self, schema_id: int, name: str) -> BindableRelation | None:
        """Find a relation in one schema."""
        if schema_id in _BUILTIN_SCHEMA_BY_ID:
            return self.virtual_tables.by_name.get((schema_id, name))
        return self.snapshot.relation(schema_id, name)

    def relation_by_id(self, relation_id: int) -> BindableRelation | None:
        """Find a relation by OID, virtual tables included."""
        found = self.snapshot.get(relation_id)
        if isinstance(found, (Table, View, Sequence)):
            return found
        return self.virtual_tables.by_oid.get(relation_id)

    def is_visible(self, schema_id: int, name: str) -> bool:
        """Tell whether an unqualified relation or index name finds the object in this schema."""
        for path_id in self._path:
            if path_id == schema_id:
                return True
            if self.relation_in(path_id, name) or find_index(self.snapshot, path_id, name):
                return False
        return False

    def creation_schema_id(self, span: Span | None = None) -> int:
        """Return the first listed schema; InvalidSchemaName (3F000) if none exists."""
        if not self.explicit_path:
            raise InvalidSchemaName("no schema has been selected to create in", span=span)
        return self.explicit_path[0]

    def may_use_schema(self, schema_id: int) -> bool:
        """Tell whether the role has USAGE on a schema."""
        return "U" in self.schema_privileges(schema_id)

    def schema_privileges(self, schema_id: int) -> set[str]:
        """Return the letters the role holds on a schema."""
        if schema_id in _BUILTIN_SCHEMA_BY_ID:
            return {"U", "C"} if self.is_superuser else {"U"}
        schema = self.snapshot.get(schema_id)
        if not isinstance(schema, Schema):
            return set()
        if schema_id == self.temp_schema_id:
            return {"U", "C"}
        return self.privileges_on(schema)

    def database_privileges(self) -> set[str]:
        """Return the letters the role holds on the session's database."""
        database = self.snapshot.get(self.database_id)
        return set() if database is None else self.privileges_on(database)

    def privileges_on(self, descriptor: Descriptor) -> set[str]:
        """Return the letters the role holds on an object."""
        return derived(
            self.snapshot,
            ("held", self.user_id, self.database_id, descriptor.id),
            lambda snapshot: acl.held(snapshot, self.user_id, descriptor, self.database_id),
        )

    def owns(self, descriptor: Descriptor) -> bool:
        """Tell whether the role has the owner's rights on an object."""
        return acl.owns(self.snapshot, self.user_id, descriptor.owner, self.database_id)

    def has_privilege(self, relation: Relation, privileges: str) -> bool:
        """Tell whether the user has any of these privileges on the whole relation."""
        held = self.privileges_on(relation)
        return any(letter in held for letter in privileges)

    def check_privilege(self, relation: Relation, privileges: str) -> None:
        """Raise 42501 unless the user has any of ``privileges`` on the whole relation."""
        if not self.has_privilege(relation, privileges):
            raise permission_denied(relation)

    def has_column_privilege(self, relation: Relation, privilege: str, position: int) -> bool:
        """Tell whether the user has a privilege on one column.

        By the relation's list or by the column's own.
        """
        if self.has_privilege(relation, privilege):
            return True
        if not isinstance(relation, Table):
            return False
        roles = acl.roles_of(self.snapshot, self.user_id, self.database_id)
        return privilege in acl.held_on_column(relation.columns[position].acl, roles)

    def check_column_privileges(
        self, relation: Relation, privilege: str, positions: tuple[int, ...]
    ) -> None:
        """Raise 42501 unless the user has ``privilege`` on all these columns.

        () asks for the privilege on the relation or on any of its columns, as ``SELECT count(*)``
        does.
        """
        if self.has_privilege(relation, privilege):
            return
        if not isinstance(relation, Table):
            raise permission_denied(relation)
        roles = acl.roles_of(self.snapshot, self.user_id, self.database_id)
        granted = [
            privilege in acl.held_on_column(relation.columns[position].acl, roles)
            for position in positions or [c.position for c in relation.visible_columns]
        ]
        if not (all(granted) if positions else any(granted)):
            raise permission_denied(relation)


def permission_denied(relation: Relation) -> InsufficientPrivilege:
    """Return the error for a missing privilege on a relation."""
    return InsufficientPrivilege(f"permission denied for {relation_kind(relation)} {relation.name}")


def relation_kind(relation: Relation) -> str:
    """Return table, view or sequence."""
    match relation:
        case Table():
            return "table"
        case View():
            return "view"
        case Sequence():
            return "sequence"


def undefined_relation(name: QualifiedName) -> UndefinedTable:
    """Return ``relation "s.t" does not exist`` at the name's place."""
    shown = f"{name.schema}.{name.name}" if name.schema else name.name
    return UndefinedTable(f'relation "{shown}" does not exist', span=name.span)
