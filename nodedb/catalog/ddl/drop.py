"""DROP TABLE, INDEX, VIEW, SEQUENCE and SCHEMA, and TRUNCATE.

Source: PostgreSQL docs, "DROP TABLE", "DROP INDEX", "TRUNCATE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nodedb.catalog.ddl.dependency import Address, DropPlan, constraint_name
from nodedb.catalog.ddl.objects import (
    find_any,
    not_a,
    refuse_system,
    require_owner,
    shown_name,
    skip_missing,
    system_catalog,
    undefined,
)
from nodedb.catalog.ddl.sequence import restart_sequence
from nodedb.catalog.derived import IndexPlace
from sql.ast.deparse_names import quote_identifier
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Sequence, Table, View
from sql.catalog.snapshot import BUILTIN_SCHEMA_NAMES
from sql.errors import (
    ActiveSqlTransaction,
    DependentObjectsStillExist,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidSchemaName,
    UndefinedObject,
    UndefinedTable,
    WrongObjectType,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import Drop, Truncate
    from sql.ast.query import QualifiedName

_CLASSES: Final[dict[str, type]] = {
    "table": Table,
    "view": View,
    "sequence": Sequence,
    "index": IndexPlace,
}
_MISSING: Final = {
    "table": UndefinedTable,
    "view": UndefinedTable,
    "materialized view": UndefinedTable,
    "sequence": UndefinedTable,
    "index": UndefinedObject,
}


async def drop(env: DdlEnvironment, statement: Drop) -> str:
    """DROP of relations and schemas."""
    tag = f"DROP {statement.kind.upper()}"
    if statement.kind == "schema":
        roots = _find_schemas(env, statement)
    elif statement.kind in _MISSING:
        _check_concurrently(env, statement)
        roots = _find_relations(env, statement)
    else:
        _drop_unknown(env, statement)
        return tag
    if not roots:
        return tag
    for root in roots:
        if root.kind != "object":
            await env.lock_table(root.id, "access exclusive")
    plan = DropPlan(env, roots)
    await plan.lock()
    plan.run_checks(cascade=statement.behavior == "cascade")
    await plan.execute()
    return tag


def _check_concurrently(env: DdlEnvironment, statement: Drop) -> None:
    if not statement.concurrently:
        return
    if env.in_transaction_block:
        raise ActiveSqlTransaction("DROP INDEX CONCURRENTLY cannot run inside a transaction block")
    if len(statement.names) > 1:
        raise FeatureNotSupported(
            "DROP INDEX CONCURRENTLY does not support dropping multiple objects"
        )
    if statement.behavior == "cascade":
        raise FeatureNotSupported("DROP INDEX CONCURRENTLY does not support CASCADE")


def _drop_unknown(env: DdlEnvironment, statement: Drop) -> None:
    """Kinds of which nothing can exist."""
    kind = statement.kind
    for name in statement.names:
        if kind == "extension" and name.name == "plpgsql":
            raise FeatureNotSupported("the extension plpgsql cannot be dropped")
        shown = f'{kind} "{name.name}"'
        if kind == "function":
            shown = f"function {name.name}()"
        if not statement.if_exists:
            raise UndefinedObject(f"{shown} does not exist")
        skip_missing(env, shown)


def _find_schemas(env: DdlEnvironment, statement: Drop) -> list[Address]:
    roots: list[Address] = []
    for name in statement.names:
        if name.name in BUILTIN_SCHEMA_NAMES:
            raise DependentObjectsStillExist(
                f"cannot drop schema {name.name} because it is required by the database system"
            )
        schema = env.overlay.snapshot.schema(env.catalog.database_id, name.name)
        if schema is None:
            if not statement.if_exists:
                raise InvalidSchemaName(f'schema "{name.name}" does not exist')
            skip_missing(env, f'schema "{name.name}"')
            continue
        require_owner(env, schema)
        _add(roots, Address("object", schema.id))
    return roots


def _add(roots: list[Address], address: Address) -> None:
    if address not in roots:
        roots.append(address)


def _find_relations(env: DdlEnvironment, statement: Drop) -> list[Address]:
    kind = statement.kind
    roots: list[Address] = []
    for name in statement.names:
        found = find_any(env, name)
        if found is None:
            _missing(env, name, kind, if_exists=statement.if_exists)
            continue
        if isinstance(found, VirtualTable) and kind in ("table", "view"):
            refuse_system(env, found)
        if not isinstance(found, _CLASSES.get(kind, ())):
            raise not_a(kind, found, name.name)
        if isinstance(found, IndexPlace):
            _add(roots, _index_address(env, found, name.name))
        else:
            assert not isinstance(found, VirtualTable)
            schema = env.overlay.snapshot.get(found.schema_id)
            if not (schema is not None and env.catalog.owns(schema)):
                require_owner(env, found)
            _refuse_identity(env, found)
            _add(roots, Address("object", found.id))
    return roots


def _refuse_identity(env: DdlEnvironment, found: Table | View | Sequence) -> None:
    if isinstance(found, Sequence) and found.identity and found.owned_by:
        table = env.overlay.snapshot.table(found.owned_by[0])
        assert table is not None
        column = table.columns[found.owned_by[1]].name
        what = f"column {quote_identifier(column)} of table {shown_name(env, table)}"
        raise DependentObjectsStillExist(
            f"cannot drop sequence {shown_name(env, found)} because {what} requires it",
            hint=f"You can drop {what} instead.",
        )


def _index_address(env: DdlEnvironment, place: IndexPlace, name: str) -> Address:
    table, index = place
    require_owner(
        env, table if index is None else msgspec.structs.replace(index, owner=table.owner), "index"
    )
    if index is None or index.constraint:
        constraint_id = table.primary_id + 1 if index is None else index.constraint_id
        shown = quote_identifier(constraint_name(table, constraint_id))
        what = f"constraint {shown} on table {shown_name(env, table)}"
        raise DependentObjectsStillExist(
            f"cannot drop index {quote_identifier(name)} because {what} requires it",
            hint=f"You can drop {what} instead.",
        )
    return Address("index", table.id, index.index_id)


def _missing(env: DdlEnvironment, name: QualifiedName, kind: str, *, if_exists: bool) -> None:
    if name.schema and env.catalog.schema_id(name.schema) is None:
        shown = f'schema "{name.schema}"'
        if not if_exists:
            raise InvalidSchemaName(f"{shown} does not exist")
    else:
        shown = f'{kind} "{name.name}"'
        if not if_exists:
            raise _MISSING[kind](f"{shown} does not exist")
    skip_missing(env, shown)


async def truncate(env: DdlEnvironment, statement: Truncate) -> str:
    """TRUNCATE: each table gets a new storage, so a rollback finds the old rows untouched."""
    tables: dict[int, Table] = {}
    for name in statement.names:
        found = find_any(env, name)
        if found is None:
            raise undefined(env, name)
        if isinstance(found, VirtualTable):
            raise system_catalog(found)
        if not isinstance(found, Table):
            raise WrongObjectType(f'"{name.name}" is not a table')
        tables[found.id] = found
    _follow_references(env, tables, cascade=statement.behavior == "cascade")
    for table in tables.values():
        if not env.catalog.has_privilege(table, "D"):
            raise InsufficientPrivilege(f"permission denied for table {table.name}")
    for table in tables.values():
        await env.lock_table(table.id, "access exclusive")
    for table in tables.values():
        env.require_unused(table, "TRUNCATE")
        new = msgspec.structs.replace(table, storage_id=env.overlay.allocate_id(), statistics=None)
        env.overlay.put(new)
        await env.clear_storage(table.storage_id)
        if statement.restart_identity:
            for sequence in list(env.overlay.snapshot.all(Sequence)):
                if sequence.owned_by is not None and sequence.owned_by[0] == table.id:
                    await env.lock_table(sequence.id, "access exclusive")
                    await restart_sequence(env, sequence, sequence.start, is_called=False)
    return "TRUNCATE TABLE"


def _follow_references(env: DdlEnvironment, tables: dict[int, Table], *, cascade: bool) -> None:
    pending = list(tables.values())
    while pending:
        table = pending.pop(0)
        for other_id in table.referenced_by:
            if other_id in tables:
                continue
            other = env.overlay.snapshot.table(other_id)
            assert other is not None
            if not cascade:
                raise FeatureNotSupported(
                    "cannot truncate a table referenced in a foreign key constraint",
                    detail=f'Table "{other.name}" references "{table.name}".',
                    hint=f'Truncate table "{other.name}" at the same time,'
                    " or use TRUNCATE ... CASCADE.",
                )
            env.notice("NOTICE", "00000", f'truncate cascades to table "{other.name}"')
            tables[other_id] = other
            pending.append(other)
