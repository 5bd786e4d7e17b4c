"""How a system table gets its rows: producers registered by name.

A producer returns dictionaries from column name to datum; columns it leaves out are NULL.
``@system_table`` producers see only a snapshot and a database, so their rows are kept as long as
the snapshot is in use. ``@live_table`` producers get the execution context and run every time. A
table without producer is empty, as those of features nodedb lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from nodedb.catalog import acl
from nodedb.catalog.derived import derived
from nodedb.catalog.virtual.system_columns import system_tables
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import (
    INFORMATION_SCHEMA_ID,
    PG_CATALOG_ID,
    AclItem,
    Database,
    Schema,
    Sequence,
    Table,
    View,
)
from sql.functions.context import ExecutionContext
from sql.types.array import ArrayValue
from sql.types.base import NO_TYPMOD, Datum, Row

if TYPE_CHECKING:
    from sql.catalog.snapshot import CatalogSnapshot

Record = Mapping[str, Datum]
Producer = Callable[["CatalogView"], Iterable[Record]]
LiveProducer = Callable[[ExecutionContext], Iterable[Record]]
_PRODUCERS: Final[dict[str, Producer]] = {}
_LIVE: Final[dict[str, LiveProducer]] = {}
_SESSION_VIEWS: Final = frozenset(
    (
        "pg_stat_activity",
        "pg_locks",
        "pg_settings",
        "pg_prepared_statements",
        "pg_cursors",
        "pg_stat_statements",
        "pg_stat_progress_create_index",
        "pg_stat_database",
        "nodedb_ddl_audit",
    )
)


class CatalogView:
    """One database of a snapshot, prepared for the producers."""

    def __init__(self, snapshot: CatalogSnapshot, database_id: int) -> None:
        self.snapshot = snapshot
        self.database_id = database_id

    @cached_property
    def schemas(self) -> list[Schema]:
        """The database's stored schemas."""
        return [s for s in self.snapshot.all(Schema) if s.database_id == self.database_id]

    @cached_property
    def schema_names(self) -> dict[int, str]:
        """Schema names by id, the built-in ones included."""
        names = {schema.id: schema.name for schema in self.schemas}
        return names | {PG_CATALOG_ID: "pg_catalog", INFORMATION_SCHEMA_ID: "information_schema"}

    @cached_property
    def tables(self) -> list[Table]:
        """The database's tables."""
        return [t for t in self.snapshot.all(Table) if t.schema_id in self.schema_names]

    @cached_property
    def views(self) -> list[View]:
        """The database's views."""
        return [v for v in self.snapshot.all(View) if v.schema_id in self.schema_names]

    @cached_property
    def sequences(self) -> list[Sequence]:
        """The database's sequences."""
        return [s for s in self.snapshot.all(Sequence) if s.schema_id in self.schema_names]

    @cached_property
    def database(self) -> Database:
        """The database."""
        found = self.snapshot.get(self.database_id)
        assert isinstance(found, Database), self.database_id
        return found

    def role_name(self, role_id: int) -> str:
        """Return a role's name."""
        return acl.role_name(self.snapshot, role_id)

    def acl(self, items: tuple[AclItem, ...] | None) -> ArrayValue | None:
        """Return an aclitem[] datum."""
        if items is None:
            return None
        return ArrayValue(tuple(acl.acl_text(self.snapshot, item) for item in items))


def system_table(*names: str) -> Callable[[Producer], Producer]:
    """Register the producer of a system table."""

    def register(producer: Producer) -> Producer:
        for name in names:
            assert name not in _PRODUCERS, name
            _PRODUCERS[name] = producer
        return producer

    return register


def live_table(name: str) -> Callable[[LiveProducer], LiveProducer]:
    """Register the producer of a system view whose rows change without the catalog."""

    def register(producer: LiveProducer) -> LiveProducer:
        assert name not in _LIVE, name
        _LIVE[name] = producer
        return producer

    return register


def view_of(context: ExecutionContext) -> CatalogView:
    """Return the prepared view of the context's database."""
    catalog = context.catalog
    return catalog_view(catalog.snapshot, catalog.database_id)


def catalog_view(snapshot: CatalogSnapshot, database_id: int) -> CatalogView:
    """Return the prepared view of one database of a snapshot."""
    return derived(snapshot, ("view", database_id), lambda snap: CatalogView(snap, database_id))


def _arrange(records: Iterable[Record], names: tuple[str, ...]) -> list[Row]:
    return [tuple([record.get(name) for name in names]) for record in records]


def _rows_of(name: str, names: tuple[str, ...]) -> Callable[[Any], SequenceOf[Row]]:
    if name in _SESSION_VIEWS:
        return lambda context: context.session.system_rows(name)
    live = _LIVE.get(name)
    if live is not None:
        return lambda context: _arrange(live(context), names)
    producer = _PRODUCERS.get(name)
    if producer is None:
        return lambda _context: ()

    def rows(context: ExecutionContext) -> SequenceOf[Row]:
        catalog = context.catalog
        database_id = catalog.database_id
        return derived(
            catalog.snapshot,
            ("rows", name, database_id),
            lambda snap: _arrange(producer(catalog_view(snap, database_id)), names),
        )

    return rows


def make_tables() -> tuple[VirtualTable, ...]:
    """Return all system tables; call it once all producers are imported."""
    result: list[VirtualTable] = []
    known: set[str] = set()
    for table in system_tables():
        in_information_schema = table.schema_id == INFORMATION_SCHEMA_ID
        key = f"information_schema.{table.name}" if in_information_schema else table.name
        known.add(key)
        typmods = tuple(column.typmod for column in table.columns)
        result.append(
            VirtualTable(
                oid=table.oid,
                schema_id=table.schema_id,
                name=table.name,
                columns=tuple((column.name, column.type) for column in table.columns),
                rows=_rows_of(key, tuple(column.name for column in table.columns)),
                is_view=table.is_view,
                typmods=typmods if any(typmod != NO_TYPMOD for typmod in typmods) else (),
            )
        )
    unknown = (set(_PRODUCERS) | set(_LIVE)) - known
    assert not unknown, unknown
    return tuple(result)
