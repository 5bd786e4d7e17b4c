"""CREATE INDEX and REINDEX.

Source: PostgreSQL docs, "CREATE INDEX", "Indexes".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.ddl.binding import bind_over
from nodedb.catalog.ddl.editor import TableEditor
from nodedb.catalog.ddl.environment import PendingBuild
from nodedb.catalog.ddl.names import index_column_names, join_column_names
from nodedb.catalog.ddl.objects import (
    find_any,
    find_in,
    kind_of,
    refuse_system,
    require_create,
    require_owner,
    resolve_regclass,
    undefined,
)
from nodedb.catalog.ddl.operator_classes import check_operator_class
from nodedb.catalog.ddl.options import check_options
from nodedb.catalog.ddl.rewrite import columns_in, storable
from nodedb.catalog.ddl.types import check_collation, check_indexable
from nodedb.catalog.derived import IndexPlace
from sql.ast.query import ColumnRef, Expression
from sql.catalog.descriptor import Column, Index, IndexKey, Table
from sql.errors import (
    ActiveSqlTransaction,
    DuplicateTable,
    FeatureNotSupported,
    InvalidSchemaName,
    UndefinedColumn,
    UndefinedObject,
    WrongObjectType,
)

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import CreateIndex, IndexElement, Reindex

_OTHER_METHODS = frozenset(("gin", "gist", "spgist", "brin"))
_KEYS_MAX = 32


async def create_index(env: DdlEnvironment, statement: CreateIndex) -> str:
    """CREATE INDEX."""
    if statement.concurrently and env.in_transaction_block:
        raise ActiveSqlTransaction(
            "CREATE INDEX CONCURRENTLY cannot run inside a transaction block"
        )
    table = _table_to_index(env, statement)
    _check_method(statement)
    if statement.tablespace not in ("", "pg_default"):
        raise UndefinedObject(f'tablespace "{statement.tablespace}" does not exist')
    if not env.catalog.is_superuser:
        require_create(env, table.schema_id, statement.name)
    # Outside a block the index is built online: writers go on. A temporary table has no others.
    is_online = (statement.concurrently or env.may_commit) and not table.temporary_session
    await env.lock_table(table.id, "share update exclusive" if is_online else "share")
    env.require_unused(table, "CREATE INDEX")
    if len(statement.elements) + len(statement.include) > _KEYS_MAX:
        from sql.errors import TooManyColumns  # noqa: PLC0415 - error path

        raise TooManyColumns(f"cannot use more than {_KEYS_MAX} columns in an index")
    editor = TableEditor(env, table, table)
    include = tuple(_column(table, name).position for name in statement.include)
    keys = tuple(_key(env, table, element, statement.method) for element in statement.elements)
    predicate = _predicate(env, table, statement.where)
    options = tuple(o for o in check_options("index", statement.options) if o[0] != "global")
    if statement.name and find_in(env, table.schema_id, statement.name) is not None:
        if not statement.if_not_exists:
            raise DuplicateTable(f'relation "{statement.name}" already exists')
        env.notice("NOTICE", "42P07", f'relation "{statement.name}" already exists, skipping')
        return "CREATE INDEX"
    is_global = any(
        o.name == "global" and o.value not in (False, "false", "off") for o in statement.options
    )
    index = Index(
        id=env.overlay.allocate_id(),
        name=statement.name or _made_up_name(editor, statement),
        owner=table.owner,
        index_id=table.next_index_id,
        keys=keys,
        unique=statement.unique,
        nulls_not_distinct=statement.nulls_not_distinct,
        include=include,
        predicate=predicate,
        method=statement.method,
        options=options,
        is_global=is_global,
        state="delete_only" if is_online else "public",
    )
    editor.add_index(index, fill=not is_online)
    await editor.store()
    if is_online:
        concurrently = statement.concurrently
        command = "CREATE INDEX CONCURRENTLY" if concurrently else "CREATE INDEX"
        env.build_later(PendingBuild(table.id, index.id, command, keeps_invalid=concurrently))
    return "CREATE INDEX"


def _table_to_index(env: DdlEnvironment, statement: CreateIndex) -> Table:
    found = find_any(env, statement.table)
    if found is None:
        raise undefined(env, statement.table)
    refuse_system(env, found)
    if not isinstance(found, Table):
        kind = kind_of(found)
        plural = {"index": "indexes", "view": "views", "sequence": "sequences"}[kind]
        raise WrongObjectType(
            f'cannot create index on relation "{statement.table.name}"',
            detail=f"This operation is not supported for {plural}.",
        )
    require_owner(env, found)
    return found


def _check_method(statement: CreateIndex) -> None:
    method = statement.method
    if method in _OTHER_METHODS:
        raise FeatureNotSupported(f'access method "{method}" is not supported')
    if method not in ("btree", "hash"):
        raise UndefinedObject(f'access method "{method}" does not exist')
    if method != "hash":
        return
    if statement.unique:
        raise FeatureNotSupported('access method "hash" does not support unique indexes')
    if statement.include:
        raise FeatureNotSupported('access method "hash" does not support included columns')
    if len(statement.elements) > 1:
        raise FeatureNotSupported('access method "hash" does not support multicolumn indexes')
    for element in statement.elements:
        if element.descending:
            raise FeatureNotSupported('access method "hash" does not support ASC/DESC options')
        if element.nulls_first is not None:
            raise FeatureNotSupported(
                'access method "hash" does not support NULLS FIRST/LAST options'
            )


def _column(table: Table, name: str) -> Column:
    column = table.column_by_name.get(name)
    if column is None:
        raise UndefinedColumn(f'column "{name}" does not exist')
    return column


def _key(env: DdlEnvironment, table: Table, element: IndexElement, method: str) -> IndexKey:
    expression = element.expression
    nulls_first = element.descending if element.nulls_first is None else element.nulls_first
    if isinstance(expression, ColumnRef) and len(expression.parts) == 1:
        column = _column(table, expression.parts[0])
        key_type = column.type
        result = IndexKey(
            position=column.position, descending=element.descending, nulls_first=nulls_first
        )
    else:
        bound = bind_over(
            env, expression, table.visible_columns, relation=table.name, purpose="index"
        )
        key_type = bound.type
        result = IndexKey(
            position=-1,
            expression=storable(expression, bound, lambda text: resolve_regclass(env, text)),
            type_oid=key_type.oid,
            descending=element.descending,
            nulls_first=nulls_first,
        )
    check_collation(env, element.collation, key_type)
    check_indexable(key_type, method)
    collation = element.collation[-1] if element.collation else ""
    if collation == _own_collation(table, expression):
        collation = ""
    operator_class = ""
    if element.operator_class:
        operator_class = check_operator_class(env, element.operator_class, method, key_type)
    return msgspec.structs.replace(result, collation=collation, operator_class=operator_class)


def _own_collation(table: Table, expression: Expression) -> str:
    """Return the collation that a key has without a COLLATE clause: that of its columns."""
    found = {table.column_by_name[name].collation for name in columns_in(expression)} - {""}
    return found.pop() if len(found) == 1 else "default"


def _predicate(env: DdlEnvironment, table: Table, where: Expression | None) -> Expression | None:
    if where is None:
        return None
    bound = bind_over(env, where, table.visible_columns, relation=table.name, purpose="predicate")
    return storable(where, bound, lambda text: resolve_regclass(env, text))


def _made_up_name(editor: TableEditor, statement: CreateIndex) -> str:
    parts: list[str | Expression] = [element.expression for element in statement.elements]
    parts.extend(statement.include)
    return editor.choose_relation_name(
        join_column_names(index_column_names(parts)), "idx", constraint=False
    )


async def reindex(env: DdlEnvironment, statement: Reindex) -> str:
    """REINDEX: indexes are made anew for tables and indexes.

    Schemas and databases take all their tables.
    """
    name = statement.name
    kind = statement.kind.lower()
    if kind == "schema":
        schema_id = env.catalog.schema_id(name.name)
        if schema_id is None:
            raise InvalidSchemaName(f'schema "{name.name}" does not exist')
        return "REINDEX"
    if kind in ("database", "system"):
        if name.name and name.name != env.catalog.database_name:
            raise FeatureNotSupported("can only reindex the currently open database")
        return "REINDEX"
    found = find_any(env, name)
    if found is None:
        raise undefined(env, name)
    if kind == "index":
        if not isinstance(found, IndexPlace):
            raise WrongObjectType(f'"{name.name}" is not an index')
        table, chosen = found.table, [found.definition] if found.definition is not None else []
    else:
        if not isinstance(found, Table):
            raise WrongObjectType(f'"{name.name}" is not a table or materialized view')
        table, chosen = found, list(found.indexes)
    require_owner(env, table)
    await env.lock_table(table.id, "share")
    for index in chosen:
        assert index is not None
        fresh = msgspec.structs.replace(index, index_id=table.next_index_id, state="public")
        new = msgspec.structs.replace(
            table,
            next_index_id=table.next_index_id + 1,
            indexes=tuple(fresh if i.index_id == index.index_id else i for i in table.indexes),
        )
        env.overlay.put(new)
        _point_references(env, new, index.index_id, fresh.index_id)
        current = env.overlay.snapshot.table(table.id)
        assert current is not None
        await env.drop_index_entries(table, index)
        command = "REINDEX CONCURRENTLY" if statement.concurrently else "REINDEX"
        await env.backfill_index(current, fresh, command)
        table = current
    return "REINDEX"


def _point_references(env: DdlEnvironment, table: Table, old_id: int, new_id: int) -> None:
    """Foreign keys that rely on the index follow it to its new number."""
    for other_id in table.referenced_by:
        other = env.overlay.snapshot.table(other_id)
        assert other is not None
        keys = tuple(
            msgspec.structs.replace(key, referenced_index_id=new_id)
            if key.referenced_table_id == table.id and key.referenced_index_id == old_id
            else key
            for key in other.foreign_keys
        )
        if keys != other.foreign_keys:
            env.overlay.put(msgspec.structs.replace(other, foreign_keys=keys))
