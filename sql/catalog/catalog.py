"""What the binder and planner ask of a catalog: names resolved along one session's search path."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sql.catalog.descriptor import Relation, Sequence, Table, View
from sql.types.base import Row, SqlType

if TYPE_CHECKING:
    from sql.ast.query import QualifiedName
    from sql.catalog.snapshot import CatalogSnapshot


@dataclass(frozen=True, slots=True)
class VirtualTable:
    """A system table or view computed from the catalog: pg_class, information_schema.tables...

    ``rows(context)`` returns all its rows (tuples in the order of ``columns``); ``context`` is the
    executor's ExecutionContext. ``oid`` is PostgreSQL's where it has a fixed one.
    """

    oid: int
    schema_id: int
    name: str
    columns: tuple[tuple[str, SqlType], ...]
    rows: Callable[[object], SequenceOf[Row]]
    is_view: bool = False
    typmods: tuple[int, ...] = ()
    """Parallel to ``columns``, or () when none has a type modifier."""


BindableRelation = Table | View | Sequence | VirtualTable


class Catalog(Protocol):
    """One statement's view of the catalog in one database under one search path and role."""

    snapshot: CatalogSnapshot
    database_id: int
    database_name: str
    user_id: int

    def search_path_ids(self) -> tuple[int, ...]:
        """Return the ids of the existing schemas on the effective path.

        pg_catalog is included, first if not named.
        """

    def find_relation(self, name: QualifiedName) -> BindableRelation | None:
        """Resolve a relation name; UndefinedTable is the caller's to raise, with its span.

        Raises InvalidSchemaName (3F000) for a schema that does not exist, FeatureNotSupported
        (0A000) for ``cross-database references are not implemented``.
        """

    def relation_by_id(self, relation_id: int) -> BindableRelation | None:
        """Find a relation by OID, virtual tables included."""

    def schema_name(self, schema_id: int) -> str:
        """Return a schema's name."""

    def creation_schema_id(self) -> int:
        """Return the first existing schema on the path.

        InvalidSchemaName (3F000) ``no schema has been selected to create in``.
        """

    def schema_id(self, name: str) -> int | None:
        """Resolve a schema name in this database."""

    def check_privilege(self, relation: Relation, privileges: str) -> None:
        """Raise InsufficientPrivilege (42501) unless the user has any of ``privileges`` on it.

        These are aclitem letters.
        """

    def has_privilege(self, relation: Relation, privileges: str) -> bool:
        """Tell whether the user has any of these privileges."""


__all__ = ["BindableRelation", "Catalog", "Relation", "Sequence", "VirtualTable"]
