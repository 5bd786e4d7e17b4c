"""The columns of a table that are keys of its rows."""

from sql.catalog.descriptor import Table


def key_positions(table: Table) -> set[int]:
    """Return the columns of unique keys.

    Foreign keys may refer to them, so changing one needs the stronger of the two locks that UPDATE
    takes (PostgreSQL docs, "Row-Level Locks").
    """
    found = set(table.clustering_key)
    for index in table.indexes:
        if index.unique and index.predicate is None and all(k.position >= 0 for k in index.keys):
            found |= {k.position for k in index.keys}
    return found
