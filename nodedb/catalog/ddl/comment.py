"""COMMENT ON.

Source: PostgreSQL docs, "COMMENT".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.ddl.objects import (
    find_any,
    kind_of,
    not_a,
    refuse_system,
    require_owner,
    undefined,
)
from nodedb.catalog.ddl.roles import current_role
from nodedb.catalog.derived import IndexPlace
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Table, View
from sql.errors import (
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidSchemaName,
    SqlSyntaxError,
    UndefinedColumn,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import Comment


async def comment(env: DdlEnvironment, statement: Comment) -> str:
    """COMMENT ON; NULL or the empty string removes it."""
    text = statement.text or ""
    snapshot = env.overlay.snapshot
    name = statement.name
    match statement.kind:
        case "database":
            database = snapshot.database(name.name)
            if database is None:
                env.notice("WARNING", "3D000", f'database "{name.name}" does not exist')
            else:
                require_owner(env, database)
                env.overlay.put(msgspec.structs.replace(database, comment=text))
        case "schema":
            schema = snapshot.schema(env.catalog.database_id, name.name)
            if schema is None:
                raise InvalidSchemaName(f'schema "{name.name}" does not exist')
            require_owner(env, schema)
            env.overlay.put(msgspec.structs.replace(schema, comment=text))
        case "role":
            role = snapshot.role(name.name)
            if role is None:
                raise UndefinedObject(f'role "{name.name}" does not exist')
            user = current_role(env)
            if not (user.superuser or (user.create_role and not role.superuser)):
                raise InsufficientPrivilege("must have CREATEROLE privilege")
            env.overlay.put(msgspec.structs.replace(role, comment=text))
        case "column" | "constraint":
            await _comment_part(env, statement, text)
        case "table" | "view" | "sequence" | "index" | "materialized view":
            await _comment_relation(env, statement, text)
        case "extension" if name.name == "plpgsql":
            pass
        case "function" | "aggregate" | "type" | "operator" | "cast" | "language":
            raise FeatureNotSupported(f"comments on {statement.kind}s are not supported")
        case _:
            raise UndefinedObject(f'{statement.kind} "{name.name}" does not exist')
    return "COMMENT"


async def _comment_relation(env: DdlEnvironment, statement: Comment, text: str) -> None:
    name = statement.name
    found = find_any(env, name)
    if found is None:
        raise undefined(env, name)
    refuse_system(env, found)
    assert not isinstance(found, VirtualTable)
    if kind_of(found) != statement.kind:
        error2 = not_a(statement.kind, found, name.name)
        error2.hint = ""
        raise error2
    if not isinstance(found, IndexPlace):
        await env.lock_table(found.id, "share update exclusive")
        require_owner(env, found)
        env.overlay.put(msgspec.structs.replace(found, comment=text))
        return
    table, index = found
    require_owner(env, table)
    if index is None:
        env.overlay.put(msgspec.structs.replace(table, primary_comment=text))
        return
    changed = msgspec.structs.replace(index, comment=text)
    indexes = tuple(changed if i is index else i for i in table.indexes)
    env.overlay.put(msgspec.structs.replace(table, indexes=indexes))


async def _comment_part(env: DdlEnvironment, statement: Comment, text: str) -> None:
    name, part = statement.name, statement.sub_name
    if not name.name or not part:
        raise SqlSyntaxError("column name must be qualified")
    found = find_any(env, name)
    if found is None:
        raise undefined(env, name)
    refuse_system(env, found)
    if isinstance(found, (Table, View)):
        await env.lock_table(found.id, "share update exclusive")
    if isinstance(found, View) and statement.kind == "column":
        require_owner(env, found)
        if part not in {c.name for c in found.columns}:
            raise UndefinedColumn(f'column "{part}" of relation "{found.name}" does not exist')
        columns = tuple(
            msgspec.structs.replace(c, comment=text) if c.name == part else c for c in found.columns
        )
        env.overlay.put(msgspec.structs.replace(found, columns=columns))
        return
    if not isinstance(found, Table):
        raise WrongObjectType(
            f'cannot set comment on relation "{name.name}"',
            detail=f"This operation is not supported for {kind_of(found)}s.",
        )
    require_owner(env, found)
    if statement.kind == "column":
        column = found.column_by_name.get(part)
        if column is None:
            raise UndefinedColumn(f'column "{part}" of relation "{found.name}" does not exist')
        changed_columns = list(found.columns)
        changed_columns[column.position] = msgspec.structs.replace(column, comment=text)
        env.overlay.put(msgspec.structs.replace(found, columns=tuple(changed_columns)))
        return
    env.overlay.put(_with_constraint_comment(found, part, text))


def _with_constraint_comment(table: Table, name: str, text: str) -> Table:
    changed = msgspec.structs.replace(
        table,
        checks=tuple(
            msgspec.structs.replace(c, comment=text) if c.name == name else c for c in table.checks
        ),
        foreign_keys=tuple(
            msgspec.structs.replace(k, comment=text) if k.name == name else k
            for k in table.foreign_keys
        ),
        indexes=tuple(
            msgspec.structs.replace(i, constraint_comment=text)
            if i.constraint and i.name == name
            else i
            for i in table.indexes
        ),
    )
    known = {c.name for c in table.checks} | {k.name for k in table.foreign_keys}
    known |= {i.name for i in table.indexes if i.constraint} | {table.primary_name} - {""}
    if name not in known:
        raise UndefinedObject(f'constraint "{name}" for table "{table.name}" does not exist')
    return changed
