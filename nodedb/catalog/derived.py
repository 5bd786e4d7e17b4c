"""Values computed from a catalog snapshot, kept while the snapshot is in use.

Snapshots are immutable, so anything computed from one alone holds as long as it does. A few of the
most recent snapshots are remembered: the shared one and the overlays of sessions with DDL in
progress.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from sql.catalog.descriptor import Index, Relation, Sequence, Table, View

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from sql.catalog.snapshot import CatalogSnapshot

SNAPSHOTS_MAX: Final = 8
ValueT = TypeVar("ValueT")
_cache: Final[OrderedDict[int, tuple[CatalogSnapshot, dict[Hashable, Any]]]] = OrderedDict()


def derived(
    snapshot: CatalogSnapshot, key: Hashable, compute: Callable[[CatalogSnapshot], ValueT]
) -> ValueT:
    """Return ``compute(snapshot)``, computed once per snapshot and ``key``.

    The caller must not change it.
    """
    entry = _cache.get(id(snapshot))
    if entry is None or entry[0] is not snapshot:
        entry = (snapshot, {})
        _cache[id(snapshot)] = entry
        if len(_cache) > SNAPSHOTS_MAX:
            _cache.popitem(last=False)
    else:
        _cache.move_to_end(id(snapshot))
    values = entry[1]
    if key not in values:
        values[key] = compute(snapshot)
    result: ValueT = values[key]
    return result


class IndexPlace(NamedTuple):
    """Where an index lives; ``definition`` is None for the clustering primary key."""

    table: Table
    definition: Index | None


def relations(snapshot: CatalogSnapshot) -> Iterator[Relation]:
    """Yield all tables, then views, then sequences, each in id order."""
    yield from snapshot.all(Table)
    yield from snapshot.all(View)
    yield from snapshot.all(Sequence)


def _index_names(snapshot: CatalogSnapshot) -> dict[tuple[int, str], IndexPlace]:
    result: dict[tuple[int, str], IndexPlace] = {}
    for table in snapshot.all(Table):
        if table.primary_name:
            result[table.schema_id, table.primary_name] = IndexPlace(table, None)
        for index in table.indexes:
            result[table.schema_id, index.name] = IndexPlace(table, index)
    return result


def index_names(snapshot: CatalogSnapshot) -> dict[tuple[int, str], IndexPlace]:
    """Return all indexes by (schema id, name)."""
    return derived(snapshot, "index names", _index_names)


def find_index(snapshot: CatalogSnapshot, schema_id: int, name: str) -> IndexPlace | None:
    """Find an index by schema and name."""
    return index_names(snapshot).get((schema_id, name))


def _index_ids(snapshot: CatalogSnapshot) -> dict[int, IndexPlace]:
    result: dict[int, IndexPlace] = {}
    for table in snapshot.all(Table):
        if table.primary_name:
            result[table.primary_id] = IndexPlace(table, None)
        for index in table.indexes:
            result[index.id] = IndexPlace(table, index)
    return result


def index_by_id(snapshot: CatalogSnapshot, index_id: int) -> IndexPlace | None:
    """Find an index by its OID in pg_class."""
    return derived(snapshot, "index ids", _index_ids).get(index_id)
