"""Comments: obj_description, col_description, shobj_description.

Source: PostgreSQL docs, "Comment Information Functions".
"""

from typing import Final

from sql.catalog.descriptor import (
    PG_CATALOG_ID,
    Check,
    Database,
    ForeignKey,
    Role,
    Schema,
    Table,
    View,
)
from sql.functions.context import ExecutionContext
from sql.functions.implementation import implements
from sql.functions.reg import find_index


@implements("obj_description(oid,name)", "obj_description(oid)", context=True)
def _object_description(context: ExecutionContext, oid: int, class_name: str = "") -> str | None:
    descriptor = context.catalog.snapshot.get(oid)
    if isinstance(descriptor, Database | Role):
        return None
    if descriptor is not None:
        own = "pg_namespace" if isinstance(descriptor, Schema) else "pg_class"
        return descriptor.comment or None if class_name in ("", own) else None
    if oid == PG_CATALOG_ID and class_name in ("", "pg_namespace"):
        return "system catalog schema"
    found = find_index(context.catalog.snapshot, oid)
    if found is not None:
        table, index = found
        return (table.primary_comment if index is None else index.comment) or None
    return _constraint_comment(context, oid)


def _constraint_comment(context: ExecutionContext, oid: int) -> str | None:
    for table in context.catalog.snapshot.all(Table):
        parts: tuple[Check | ForeignKey, ...] = (*table.checks, *table.foreign_keys)
        for part in parts:
            if part.id == oid:
                return part.comment or None
        for index in table.indexes:
            if index.constraint and index.constraint_id == oid:
                return index.constraint_comment or None
    return None


_SHARED: Final[dict[str, type]] = {"pg_database": Database, "pg_authid": Role}


@implements("shobj_description(oid,name)", context=True)
def _shared_description(context: ExecutionContext, oid: int, class_name: str) -> str | None:
    descriptor = context.catalog.snapshot.get(oid)
    if not isinstance(descriptor, _SHARED.get(class_name, ())):
        return None
    assert isinstance(descriptor, Database | Role)
    return descriptor.comment or None


@implements("col_description(oid,int4)", context=True)
def _column_description(context: ExecutionContext, oid: int, number: int) -> str | None:
    relation = context.catalog.snapshot.get(oid)
    if isinstance(relation, View):
        columns = relation.columns
        return (columns[number - 1].comment or None) if 0 < number <= len(columns) else None
    if not isinstance(relation, Table):
        return None
    table = relation
    return next((c.comment or None for c in table.visible_columns if c.number == number), None)
