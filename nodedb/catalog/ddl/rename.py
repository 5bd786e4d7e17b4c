"""ALTER ... RENAME of everything that has a name.

Stored expressions name columns of their own table, so a column's new name is written into them;
stored views keep the old names as aliases. Source: PostgreSQL docs, "ALTER TABLE", "ALTER VIEW",
"ALTER ROLE", "ALTER DATABASE".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.ddl.alter import constraint_id
from nodedb.catalog.ddl.objects import (
    find_any,
    find_in,
    kind_of,
    named_role,
    not_a,
    refuse_system,
    require_owner,
    skip_missing,
    undefined,
)
from nodedb.catalog.ddl.rewrite import pin_relation, rename_column
from nodedb.catalog.ddl.roles import check_role_name, current_role
from nodedb.catalog.ddl.schema import check_schema_name
from nodedb.catalog.derived import IndexPlace
from sql.catalog.catalog import VirtualTable
from sql.catalog.descriptor import Index, Relation, Table, View
from sql.errors import (
    DuplicateColumn,
    DuplicateDatabase,
    DuplicateObject,
    DuplicateSchema,
    DuplicateTable,
    FeatureNotSupported,
    InsufficientPrivilege,
    InvalidCatalogName,
    InvalidSchemaName,
    ObjectInUse,
    UndefinedColumn,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import Rename
    from sql.ast.query import Expression


async def rename(env: DdlEnvironment, statement: Rename) -> str:
    """ALTER kind name RENAME."""
    match statement.kind:
        case "database":
            _rename_database(env, statement)
        case "schema":
            _rename_schema(env, statement)
        case "role":
            _rename_role(env, statement)
        case "table" | "view" | "materialized view" | "sequence" | "index":
            await _rename_relation(env, statement)
        case "column" | "constraint":
            await _rename_part(env, statement)
            return f"ALTER {statement.relation_kind.upper()}"
        case _:
            raise UndefinedObject(f'{statement.kind} "{statement.name.name}" does not exist')
    return f"ALTER {statement.kind.upper()}"


def _rename_database(env: DdlEnvironment, statement: Rename) -> None:
    name, new = statement.name.name, statement.new_name
    database = env.overlay.snapshot.database(name)
    if database is None:
        raise InvalidCatalogName(f'database "{name}" does not exist')
    require_owner(env, database)
    user = current_role(env)
    if not (user.superuser or user.create_db):
        raise InsufficientPrivilege("permission denied to rename database")
    if env.overlay.snapshot.database(new) is not None:
        raise DuplicateDatabase(f'database "{new}" already exists')
    if database.id == env.catalog.database_id:
        raise FeatureNotSupported("current database cannot be renamed")
    if env.connections_to(database.id):
        raise ObjectInUse(f'database "{name}" is being accessed by other users')
    env.overlay.put(msgspec.structs.replace(database, name=new))


def _rename_schema(env: DdlEnvironment, statement: Rename) -> None:
    name, new = statement.name.name, statement.new_name
    schema = env.overlay.snapshot.schema(env.catalog.database_id, name)
    if schema is None:
        raise InvalidSchemaName(f'schema "{name}" does not exist')
    if env.catalog.schema_id(new) is not None:
        raise DuplicateSchema(f'schema "{new}" already exists')
    require_owner(env, schema)
    if "C" not in env.catalog.database_privileges():
        raise InsufficientPrivilege(f"permission denied for database {env.catalog.database_name}")
    check_schema_name(new)
    env.overlay.put(msgspec.structs.replace(schema, name=new))


def _rename_role(env: DdlEnvironment, statement: Rename) -> None:
    new = statement.new_name
    role = named_role(env, statement.name.name)
    if role.id == env.session_user_id:
        raise FeatureNotSupported("session user cannot be renamed")
    if role.id == env.catalog.user_id:
        raise FeatureNotSupported("current user cannot be renamed")
    check_role_name(role.name)
    check_role_name(new)
    if env.overlay.snapshot.role(new) is not None:
        raise DuplicateObject(f'role "{new}" already exists')
    user = current_role(env)
    if role.superuser and not user.superuser:
        raise InsufficientPrivilege("must be superuser to rename superusers")
    if not (user.superuser or user.create_role):
        raise InsufficientPrivilege("permission denied to rename role")
    env.overlay.put(msgspec.structs.replace(role, name=new))


async def _rename_relation(env: DdlEnvironment, statement: Rename) -> None:
    name, new, kind = statement.name, statement.new_name, statement.kind
    found = find_any(env, name)
    if found is None:
        if not statement.if_exists:
            raise undefined(env, name)
        skip_missing(env, f'relation "{name.name}"')
        return
    refuse_system(env, found)
    assert not isinstance(found, VirtualTable)
    if (
        kind in ("view", "sequence", "index", "materialized view")
        and kind_of(found) != kind
        and not (kind == "index" and not isinstance(found, IndexPlace))
    ):
        error = not_a(kind, found, name.name)
        error.hint = ""
        raise error
    if isinstance(found, IndexPlace):
        await _rename_index(env, found, new)
        return
    require_owner(env, found)
    if find_in(env, found.schema_id, new) is not None:
        raise DuplicateTable(f'relation "{new}" already exists')
    await env.lock_table(found.id, "access exclusive")
    env.overlay.put(msgspec.structs.replace(found, name=new))
    _pin_views(env, found, ())


async def _rename_index(env: DdlEnvironment, place: IndexPlace, new: str) -> None:
    table, index = place
    require_owner(env, table)
    if find_in(env, table.schema_id, new) is not None:
        raise DuplicateTable(f'relation "{new}" already exists')
    await env.lock_table(table.id, "share update exclusive")
    env.overlay.put(_with_index_name(table, index, new))


def _with_index_name(table: Table, index: Index | None, new: str) -> Table:
    if index is None:
        return msgspec.structs.replace(table, primary_name=new)
    renamed = msgspec.structs.replace(index, name=new)
    return msgspec.structs.replace(
        table, indexes=tuple(renamed if i is index else i for i in table.indexes)
    )


async def _rename_part(env: DdlEnvironment, statement: Rename) -> None:
    name = statement.name
    found = find_any(env, name)
    if found is None:
        if not statement.if_exists:
            raise undefined(env, name)
        skip_missing(env, f'relation "{name.name}"')
        return
    refuse_system(env, found)
    if isinstance(found, View) and statement.kind == "column":
        require_owner(env, found)
        _rename_view_column(env, found, statement)
        return
    if not isinstance(found, Table):
        what = f"{kind_of(found)}s"
        raise WrongObjectType(
            f'cannot rename columns of relation "{name.name}"',
            detail=f"This operation is not supported for {what}.",
        )
    require_owner(env, found)
    await env.lock_table(found.id, "access exclusive")
    if statement.kind == "column":
        _rename_table_column(env, found, statement)
    else:
        _rename_constraint(env, found, statement)


def _rename_view_column(env: DdlEnvironment, view: View, statement: Rename) -> None:
    old, new = statement.sub_name, statement.new_name
    names = [column.name for column in view.columns]
    _check_new_name(view, names, old, new)
    columns = tuple(
        msgspec.structs.replace(c, name=new) if c.name == old else c for c in view.columns
    )
    env.overlay.put(msgspec.structs.replace(view, columns=columns))
    _pin_views(env, view, tuple(names))


def _check_new_name(relation: Relation, names: list[str], old: str, new: str) -> None:
    if old not in names:
        raise UndefinedColumn(f'column "{old}" does not exist')
    if new in names:
        raise DuplicateColumn(f'column "{new}" of relation "{relation.name}" already exists')


def _rename_table_column(env: DdlEnvironment, table: Table, statement: Rename) -> None:
    old, new = statement.sub_name, statement.new_name
    names = [column.name for column in table.visible_columns]
    _check_new_name(table, names, old, new)

    def fixed(expression: Expression | None) -> Expression | None:
        return None if expression is None else rename_column(expression, old, new)

    columns = tuple(
        msgspec.structs.replace(
            column,
            name=new
            if column.name == old and not (column.hidden or column.dropped)
            else column.name,
            generated=fixed(column.generated),
        )
        for column in table.columns
    )
    indexes = tuple(
        msgspec.structs.replace(
            index,
            predicate=fixed(index.predicate),
            keys=tuple(
                msgspec.structs.replace(key, expression=fixed(key.expression)) for key in index.keys
            ),
        )
        for index in table.indexes
    )
    checks = tuple(
        msgspec.structs.replace(c, expression=rename_column(c.expression, old, new))
        for c in table.checks
    )
    options = tuple(
        (key, _renamed_list(value, old, new) if key == "distribute_by" else value)
        for key, value in table.options
    )
    env.overlay.put(
        msgspec.structs.replace(
            table, columns=columns, indexes=indexes, checks=checks, options=options
        )
    )
    _pin_views(env, table, tuple(names))


def _renamed_list(text: str, old: str, new: str) -> str:
    parts = [part.strip() for part in text.split(",")]
    return ", ".join(new if part == old else part for part in parts)


def _pin_views(env: DdlEnvironment, relation: Relation, columns: tuple[str, ...]) -> None:
    """Let the views over a relation that is renamed, or whose column is.

    Keep the old names as aliases.
    """
    for view in list(env.overlay.snapshot.all(View)):
        if any(on == relation.id for on, _ in view.depends_on):
            query = pin_relation(view.query, relation.id, relation.name, columns)
            if query != view.query:
                env.overlay.put(msgspec.structs.replace(view, query=query))


def _rename_constraint(env: DdlEnvironment, table: Table, statement: Rename) -> None:
    old, new = statement.sub_name, statement.new_name
    if constraint_id(table, old) is None:
        raise UndefinedObject(f'constraint "{old}" for table "{table.name}" does not exist')
    for index in table.indexes:
        if index.constraint and index.name == old:
            _require_free(env, table, new)
            env.overlay.put(_with_index_name(table, index, new))
            return
    if table.primary_name == old:
        _require_free(env, table, new)
        env.overlay.put(_with_index_name(table, None, new))
        return
    if constraint_id(table, new) is not None:
        raise DuplicateObject(f'constraint "{new}" for relation "{table.name}" already exists')
    checks = tuple(
        msgspec.structs.replace(c, name=new) if c.name == old else c for c in table.checks
    )
    keys = tuple(
        msgspec.structs.replace(k, name=new) if k.name == old else k for k in table.foreign_keys
    )
    env.overlay.put(msgspec.structs.replace(table, checks=checks, foreign_keys=keys))


def _require_free(env: DdlEnvironment, table: Table, name: str) -> None:
    if find_in(env, table.schema_id, name) is not None:
        raise DuplicateTable(f'relation "{name}" already exists')
