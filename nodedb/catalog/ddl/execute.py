"""``execute_ddl``.

One data definition statement, planned into the transaction's catalog overlay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from nodedb.catalog.ddl.alter import alter_table
from nodedb.catalog.ddl.comment import comment
from nodedb.catalog.ddl.drop import drop, truncate
from nodedb.catalog.ddl.grants import alter_default_privileges, grant
from nodedb.catalog.ddl.index import create_index, reindex
from nodedb.catalog.ddl.owner import alter_owner
from nodedb.catalog.ddl.rename import rename
from nodedb.catalog.ddl.roles import (
    alter_role,
    alter_settings,
    create_role,
    drop_owned,
    drop_role,
    grant_role,
    reassign_owned,
)
from nodedb.catalog.ddl.schema import (
    alter_database,
    create_database,
    create_schema,
    drop_database,
    set_schema,
)
from nodedb.catalog.ddl.sequence import alter_sequence, create_sequence
from nodedb.catalog.ddl.table import create_table, create_table_as
from nodedb.catalog.ddl.view import create_view
from sql.ast.ddl import (
    AlterDatabase,
    AlterDefaultPrivileges,
    AlterOwner,
    AlterRole,
    AlterSequence,
    AlterSettings,
    AlterTable,
    Comment,
    CreateDatabase,
    CreateExtension,
    CreateIndex,
    CreateRole,
    CreateSchema,
    CreateSequence,
    CreateTable,
    CreateTableAs,
    CreateView,
    DdlStatement,
    Drop,
    DropOwned,
    DropRole,
    Grant,
    GrantRole,
    ReassignOwned,
    Reindex,
    Rename,
    SetSchema,
    Truncate,
    UnsupportedDdl,
)
from sql.errors import ActiveSqlTransaction, DuplicateObject, FeatureNotSupported

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment


async def execute_ddl(statement: DdlStatement, env: DdlEnvironment) -> str:
    """Plan a statement into ``env.overlay`` and return its command tag.

    On an error the overlay may hold part of the statement: the caller rolls back to the mark it
    took before.
    """
    tag = await _dispatch(statement, env)
    env.overlay.statements.append(tag)
    return tag


async def _dispatch(statement: DdlStatement, env: DdlEnvironment) -> str:
    match statement:
        case CreateTable():
            return await create_table(env, statement)
        case CreateTableAs():
            return await create_table_as(env, statement)
        case AlterTable():
            return await alter_table(env, statement)
        case Rename():
            return await rename(env, statement)
        case SetSchema():
            return await set_schema(env, statement)
        case AlterOwner():
            return await alter_owner(env, statement)
        case Drop():
            if statement.kind == "database":
                return await drop_database(env, statement)
            return await drop(env, statement)
        case Truncate():
            return await truncate(env, statement)
        case CreateIndex():
            return await create_index(env, statement)
        case Reindex():
            _check_reindex(env, statement)
            return await reindex(env, statement)
        case CreateSchema():
            return await create_schema(env, statement, _dispatch)
        case CreateDatabase():
            return await create_database(env, statement)
        case AlterDatabase():
            return await alter_database(env, statement)
        case CreateSequence():
            return await create_sequence(env, statement)
        case AlterSequence():
            return await alter_sequence(env, statement)
        case CreateView():
            return await create_view(env, statement)
        case CreateRole():
            return await create_role(env, statement)
        case AlterRole():
            return await alter_role(env, statement)
        case DropRole():
            return await drop_role(env, statement)
        case AlterSettings():
            return await alter_settings(env, statement)
        case Grant():
            return await grant(env, statement)
        case GrantRole():
            return await grant_role(env, statement)
        case AlterDefaultPrivileges():
            return await alter_default_privileges(env, statement)
        case ReassignOwned():
            return await reassign_owned(env, statement)
        case DropOwned():
            return await drop_owned(env, statement)
        case Comment():
            return await comment(env, statement)
        case CreateExtension():
            return _create_extension(env, statement)
        case UnsupportedDdl():
            raise FeatureNotSupported(f"{statement.what} is not supported")
        case _:
            assert_never(statement)


def _check_reindex(env: DdlEnvironment, statement: Reindex) -> None:
    """Refuse in a block (25001) what PostgreSQL does in several transactions."""
    kind = statement.kind.upper()
    if not env.in_transaction_block:
        return
    if kind in ("SCHEMA", "DATABASE", "SYSTEM"):
        raise ActiveSqlTransaction(f"REINDEX {kind} cannot run inside a transaction block")
    if statement.concurrently:
        raise ActiveSqlTransaction("REINDEX CONCURRENTLY cannot run inside a transaction block")


def _create_extension(env: DdlEnvironment, statement: CreateExtension) -> str:
    if statement.name == "plpgsql":
        what = 'extension "plpgsql" already exists'
        if not statement.if_not_exists:
            raise DuplicateObject(what)
        env.notice("NOTICE", "42710", f"{what}, skipping")
        return "CREATE EXTENSION"
    raise FeatureNotSupported(
        f'extension "{statement.name}" is not available',
        hint="The extension must first be installed on the system where PostgreSQL is running.",
    )
