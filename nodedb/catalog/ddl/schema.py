"""CREATE SCHEMA, ALTER ... SET SCHEMA, and databases.

Source: PostgreSQL docs, "CREATE SCHEMA", "CREATE DATABASE", "DROP DATABASE", "ALTER DATABASE".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog import acl
from nodedb.catalog.bootstrap import public_schema
from nodedb.catalog.ddl.database_options import DatabaseOptions
from nodedb.catalog.ddl.environment import DdlEnvironment
from nodedb.catalog.ddl.objects import (
    find_any,
    find_in,
    initial_acl,
    kind_of,
    not_a,
    refuse_system,
    require_create,
    require_owner,
    role_id,
    skip_missing,
    undefined,
)
from nodedb.catalog.derived import IndexPlace, relations
from sql.ast.ddl import (
    AlterDatabase,
    CreateDatabase,
    CreateIndex,
    CreateSchema,
    CreateSequence,
    CreateTable,
    CreateView,
    DdlStatement,
    Drop,
    Grant,
    SetSchema,
)
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Database, Role, Schema, Sequence, Table, View
from sql.catalog.snapshot import BUILTIN_SCHEMA_NAMES
from sql.errors import (
    ActiveSqlTransaction,
    DuplicateDatabase,
    DuplicateSchema,
    DuplicateTable,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidCatalogName,
    InvalidParameterValue,
    InvalidSchemaDefinition,
    InvalidSchemaName,
    ObjectInUse,
    ReservedName,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from sql.ast.query import QualifiedName

Execute = Callable[[DdlStatement, DdlEnvironment], Awaitable[str]]


def check_schema_name(name: str) -> None:
    """ReservedName (42939) for names that start with pg_."""
    if name.startswith("pg_"):
        raise ReservedName(
            f'unacceptable schema name "{name}"',
            detail='The prefix "pg_" is reserved for system schemas.',
        )


async def create_schema(env: DdlEnvironment, statement: CreateSchema, execute: Execute) -> str:
    """CREATE SCHEMA with its elements; ``execute`` runs them."""
    catalog = env.catalog
    owner = catalog.user_id
    name = statement.name
    if statement.authorization is not None:
        owner = role_id(env, statement.authorization)
        name = name or acl.role_name(env.overlay.snapshot, owner)
    if "C" not in catalog.database_privileges():
        raise InsufficientPrivilege(f"permission denied for database {catalog.database_name}")
    if not catalog.is_superuser and owner not in acl.memberships(
        env.overlay.snapshot, catalog.user_id, catalog.database_id
    ):
        shown = acl.role_name(env.overlay.snapshot, owner)
        raise InsufficientPrivilege(f'must be member of role "{shown}"')
    if not (name in BUILTIN_SCHEMA_NAMES and statement.if_not_exists):
        check_schema_name(name)
    if catalog.schema_id(name) is not None:
        if not statement.if_not_exists:
            raise DuplicateSchema(f'schema "{name}" already exists')
        env.notice("NOTICE", "42P06", f'schema "{name}" already exists, skipping')
        return "CREATE SCHEMA"
    schema_id = env.overlay.allocate_id()
    env.overlay.put(
        Schema(
            id=schema_id,
            name=name,
            owner=owner,
            database_id=catalog.database_id,
            acl=initial_acl(env, "n", 0),
        )
    )
    # Elements may stand before what they need, so: sequences, tables, and then the rest.
    ranks: dict[object, int] = {
        CreateSequence: 0,
        CreateTable: 1,
        CreateView: 2,
        CreateIndex: 3,
        Grant: 4,
    }
    with env.search_first(name):
        for element in sorted(statement.elements, key=lambda item: ranks[type(item)]):
            await execute(_inside(element, name), env)
    return "CREATE SCHEMA"


def _inside(
    element: CreateTable | CreateView | CreateIndex | CreateSequence | Grant, schema: str
) -> DdlStatement:
    """Give an element of CREATE SCHEMA the schema's name.

    InvalidSchemaDefinition (42P15) for another one's.
    """

    def placed(name: QualifiedName) -> QualifiedName:
        if name.schema and name.schema != schema:
            raise InvalidSchemaDefinition(
                f"CREATE specifies a schema ({name.schema})"
                f" different from the one being created ({schema})"
            )
        return msgspec.structs.replace(name, schema=schema)

    match element:
        case CreateTable() | CreateView() | CreateSequence():
            return msgspec.structs.replace(element, name=placed(element.name))
        case CreateIndex():
            return msgspec.structs.replace(element, table=placed(element.table))
        case Grant():
            return element


async def set_schema(env: DdlEnvironment, statement: SetSchema) -> str:
    """ALTER TABLE, VIEW or SEQUENCE ... SET SCHEMA."""
    tag = f"ALTER {statement.kind.upper()}"
    name = statement.name
    found = find_any(env, name)
    if found is None:
        if not statement.if_exists:
            raise undefined(env, name)
        skip_missing(env, f'relation "{name.name}"')
        return tag
    refuse_system(env, found)
    if isinstance(found, (IndexPlace, VirtualTable)):
        raise WrongObjectType(f'cannot change schema of index "{name.name}"')
    if statement.kind != "table" and kind_of(found) != statement.kind:
        raise not_a(statement.kind, found, name.name)
    require_owner(env, found)
    if isinstance(found, Sequence) and found.owned_by is not None:
        table = env.overlay.snapshot.table(found.owned_by[0])
        assert table is not None
        raise FeatureNotSupported(
            "cannot move an owned sequence into another schema",
            detail=f'Sequence "{found.name}" is linked to table "{table.name}".',
        )
    target = env.catalog.schema_id(statement.schema)
    if target is None:
        raise InvalidSchemaName(f'schema "{statement.schema}" does not exist')
    if target == found.schema_id:
        return tag
    require_create(env, target, found.name)
    if bool(statement.schema.startswith("pg_temp")) != bool(found.temporary_session):
        raise FeatureNotSupported("cannot move objects into or out of temporary schemas")
    await env.lock_table(found.id, "access exclusive")
    moving: list[Table | View | Sequence] = [found]
    if isinstance(found, Table):
        moving.extend(
            s
            for s in env.overlay.snapshot.all(Sequence)
            if s.owned_by and s.owned_by[0] == found.id
        )
    for item in moving:
        if find_in(env, target, item.name) is not None:
            raise DuplicateTable(
                f'relation "{item.name}" already exists in schema "{statement.schema}"'
            )
        env.overlay.put(msgspec.structs.replace(item, schema_id=target))
    return tag


def _require_no_block(env: DdlEnvironment, what: str) -> None:
    if env.in_transaction_block:
        raise ActiveSqlTransaction(f"{what} cannot run inside a transaction block")


async def create_database(env: DdlEnvironment, statement: CreateDatabase) -> str:
    """CREATE DATABASE: an empty one; a template may be named if it is empty itself."""
    _require_no_block(env, "CREATE DATABASE")
    options = DatabaseOptions(statement.options)
    options.check_values()
    snapshot = env.overlay.snapshot
    user = snapshot.role_by_id(env.catalog.user_id)
    assert user is not None
    if not (user.superuser or user.create_db):
        raise InsufficientPrivilege("permission denied to create database")
    owner = user.id
    if options.text("owner"):
        role = snapshot.role(options.text("owner"))
        if role is None:
            raise UndefinedObject(f'role "{options.text("owner")}" does not exist')
        if not user.superuser and role.id not in acl.memberships(
            snapshot, user.id, env.catalog.database_id
        ):
            raise InsufficientPrivilege(f'must be member of role "{role.name}"')
        owner = role.id
    options.check_tablespace()
    template = options.text("template") or "template1"
    source = snapshot.database(template)
    if source is None:
        raise InvalidCatalogName(f'template database "{template}" does not exist')
    if any(
        schema.database_id == source.id and schema.name != "public"
        for schema in snapshot.all(Schema)
    ) or _has_relations(env, source.id):
        raise FeatureNotSupported("copying a database that holds objects is not supported")
    if snapshot.database(statement.name) is not None:
        raise DuplicateDatabase(f'database "{statement.name}" already exists')
    database_id = env.overlay.allocate_id()
    env.overlay.put(
        Database(
            id=database_id,
            name=statement.name,
            owner=owner,
            connection_limit=options.connection_limit,
            allow_connections=options.flag("allow_connections", default=True),
        )
    )
    env.overlay.put(public_schema(env.overlay.allocate_id(), database_id))
    return "CREATE DATABASE"


def _has_relations(env: DdlEnvironment, database_id: int) -> bool:
    snapshot = env.overlay.snapshot
    schemas = {schema.id for schema in snapshot.all(Schema) if schema.database_id == database_id}
    return any(relation.schema_id in schemas for relation in relations(snapshot))


async def drop_database(env: DdlEnvironment, statement: Drop) -> str:
    """DROP DATABASE with everything in it."""
    _require_no_block(env, "DROP DATABASE")
    name = statement.names[0].name
    snapshot = env.overlay.snapshot
    database = snapshot.database(name)
    if database is None:
        if not statement.if_exists:
            raise InvalidCatalogName(f'database "{name}" does not exist')
        skip_missing(env, f'database "{name}"')
        return "DROP DATABASE"
    require_owner(env, database)
    if name.startswith("template"):
        raise WrongObjectType("cannot drop a template database")
    if database.id == env.catalog.database_id:
        raise ObjectInUse("cannot drop the currently open database")
    others = env.connections_to(database.id)
    if others and not statement.force:
        plural = "is 1 other session" if others == 1 else f"are {others} other sessions"
        raise ObjectInUse(
            f'database "{name}" is being accessed by other users',
            detail=f"There {plural} using the database.",
        )
    schemas = {schema.id for schema in snapshot.all(Schema) if schema.database_id == database.id}
    for relation in relations(snapshot):
        if relation.schema_id in schemas:
            env.overlay.delete(relation.id)
            if isinstance(relation, Table):
                await env.clear_storage(relation.storage_id)
            elif isinstance(relation, Sequence):
                await env.clear_sequence(relation.storage_id)
    for schema_id in sorted(schemas):
        env.overlay.delete(schema_id)
    for role in list(snapshot.all(Role)):
        kept = tuple(s for s in role.settings if s[0] != database.id)
        acls = tuple(d for d in role.default_acls if d.database_id != database.id)
        if kept != role.settings or acls != role.default_acls:
            env.overlay.put(msgspec.structs.replace(role, settings=kept, default_acls=acls))
    env.overlay.delete(database.id)
    return "DROP DATABASE"


async def alter_database(env: DdlEnvironment, statement: AlterDatabase) -> str:
    """ALTER DATABASE with options."""
    options = DatabaseOptions(statement.options, alter=True)
    database = env.overlay.snapshot.database(statement.name)
    if database is None:
        raise InvalidCatalogName(f'database "{statement.name}" does not exist')
    require_owner(env, database)
    options.flag("is_template", default=False)
    options.check_tablespace()
    if "connection_limit" in options:
        limit = options.connection_limit
        database = msgspec.structs.replace(database, connection_limit=limit)
    if "allow_connections" in options:
        allowed = options.flag("allow_connections", default=True)
        if not allowed and database.id == env.catalog.database_id:
            raise InvalidParameterValue("cannot disallow connections for current database")
        database = msgspec.structs.replace(database, allow_connections=allowed)
    env.overlay.put(database)
    return "ALTER DATABASE"
