"""Indexes that a snapshot is too old for.

An index's entries are versions like any others: a transaction that reads at a timestamp from before
the index was built finds none of them. So it must not read it, though the catalog, which is always
the newest, has it as ``public`` (PostgreSQL's ``indcheckxmin``). In the catalog that such a
transaction's statements are planned with, these indexes are ``young``: writers treat them as
public, queries do not use them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.derived import derived
from sql.catalog.descriptor import Table

if TYPE_CHECKING:
    from sql.catalog.snapshot import CatalogSnapshot


def readable_catalog(newest: CatalogSnapshot, seen: CatalogSnapshot) -> CatalogSnapshot:
    """Return the newest catalog for a transaction that has a snapshot not older than ``seen``.

    The same object when there is nothing to be careful about.
    """
    if newest is seen:
        return newest
    return derived(newest, ("readable", seen.schema_version), lambda _: _readable(newest, seen))


def _readable(newest: CatalogSnapshot, seen: CatalogSnapshot) -> CatalogSnapshot:
    changed = []
    for table in newest.all(Table):
        old = seen.table(table.id)
        if old is not table:
            known = _public_indexes(old)
            indexes = tuple(
                msgspec.structs.replace(index, state="young")
                if index.state == "public" and (table.storage_id, index.index_id) not in known
                else index
                for index in table.indexes
            )
            if indexes != table.indexes:
                changed.append(msgspec.structs.replace(table, indexes=indexes))
    if not changed:
        return newest
    return newest.with_changes(
        changed, (), schema_version=newest.schema_version, next_id=newest.next_id
    )


def _public_indexes(table: Table | None) -> set[tuple[int, int]]:
    """Return the places of the entries that could be read."""
    if table is None:
        return set()
    return {
        (table.storage_id, index.index_id) for index in table.indexes if index.state == "public"
    }
