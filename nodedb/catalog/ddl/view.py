"""CREATE [OR REPLACE] VIEW.

Source: PostgreSQL docs, "CREATE VIEW".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nodedb.catalog.ddl.binding import bind_view
from nodedb.catalog.ddl.objects import (
    creation_schema,
    find_in,
    initial_acl,
    is_temporary,
    require_owner,
)
from nodedb.catalog.ddl.options import check_options
from sql.ast.query import (
    CommonTable,
    Delete,
    Insert,
    QualifiedName,
    Query,
    Select,
    Star,
    TableRef,
    Target,
    Update,
    WithClause,
)
from sql.ast.walk import strip_spans
from sql.catalog.descriptor import Sequence, Table, View, ViewColumn
from sql.errors import (
    DuplicateColumn,
    DuplicateTable,
    FeatureNotSupported,
    InvalidTableDefinition,
    SqlSyntaxError,
    WrongObjectType,
)
from sql.types.catalog import TEXT, UNKNOWN, type_by_oid
from sql.types.typmod import format_type

if TYPE_CHECKING:
    from nodedb.catalog.ddl.environment import DdlEnvironment
    from sql.ast.ddl import CreateView


async def create_view(env: DdlEnvironment, statement: CreateView) -> str:
    """CREATE VIEW; one over a temporary relation is temporary itself, with PostgreSQL's notice."""
    name = statement.name
    query = _recursive(statement) if statement.recursive else statement.query
    _refuse(query)
    bound = bind_view(env, query)
    temporary = statement.temporary
    if not temporary and _reads_temporary(env, bound.depends_on):
        temporary = True
        env.notice("NOTICE", "00000", f'view "{name.name}" will be a temporary view')
    schema_id = creation_schema(env, name, temporary=temporary)
    columns = _named(statement, bound.columns)
    options = check_options("view", statement.options)
    check_option = statement.check_option or dict(options).get("check_option", "")
    old = find_in(env, schema_id, name.name)
    if old is not None and not statement.or_replace:
        raise DuplicateTable(f'relation "{name.name}" already exists')
    stored = strip_spans(bound.query)
    if old is None:
        env.overlay.put(
            View(
                id=env.overlay.allocate_id(),
                name=name.name,
                owner=env.catalog.user_id,
                acl=initial_acl(env, "r", schema_id),
                schema_id=schema_id,
                columns=columns,
                query=stored,
                depends_on=bound.depends_on,
                check_option=check_option,
                options=options,
                temporary_session=env.session_id if is_temporary(env, schema_id) else 0,
            )
        )
        return "CREATE VIEW"
    if not isinstance(old, View):
        raise WrongObjectType(f'"{name.name}" is not a view')
    require_owner(env, old)
    _check_replacement(old.columns, columns)
    await env.lock_table(old.id, "access exclusive")
    env.overlay.put(
        msgspec.structs.replace(
            old,
            columns=columns,
            query=stored,
            depends_on=bound.depends_on,
            check_option=check_option,
            options=options,
        )
    )
    return "CREATE VIEW"


def _refuse(query: Query) -> None:
    if isinstance(query, Select) and query.into is not None:
        raise FeatureNotSupported("views must not contain SELECT INTO")
    if query.with_clause is not None and any(
        isinstance(table.statement, (Insert, Update, Delete)) for table in query.with_clause.tables
    ):
        raise FeatureNotSupported("views must not contain data-modifying statements in WITH")


def _recursive(statement: CreateView) -> Query:
    """CREATE RECURSIVE VIEW v (a) AS q is WITH RECURSIVE v (a) AS (q) SELECT a FROM v."""
    table = CommonTable(statement.name.name, statement.columns, statement.query)
    return Select(
        targets=(Target(Star()),),
        from_items=(TableRef(QualifiedName(statement.name.name)),),
        with_clause=WithClause(recursive=True, tables=(table,)),
    )


def _reads_temporary(env: DdlEnvironment, depends_on: tuple[tuple[int, int], ...]) -> bool:
    for relation_id, _ in depends_on:
        found = env.overlay.snapshot.get(relation_id)
        if isinstance(found, (Table, View, Sequence)) and found.temporary_session:
            return True
    return False


def _named(statement: CreateView, columns: tuple[ViewColumn, ...]) -> tuple[ViewColumn, ...]:
    if len(statement.columns) > len(columns):
        raise SqlSyntaxError("CREATE VIEW specifies more column names than columns")
    result: list[ViewColumn] = []
    for position, column in enumerate(columns):
        name = statement.columns[position] if position < len(statement.columns) else column.name
        if any(other.name == name for other in result):
            raise DuplicateColumn(f'column "{name}" specified more than once')
        sql_type = type_by_oid(column.type_oid)
        assert sql_type is not None, column
        if sql_type.kind == "p" and sql_type is not UNKNOWN:
            raise InvalidTableDefinition(f'column "{name}" has pseudo-type {sql_type.display_name}')
        type_oid = TEXT.oid if sql_type is UNKNOWN else column.type_oid
        result.append(ViewColumn(name, type_oid, column.typmod))
    return tuple(result)


def _check_replacement(old: tuple[ViewColumn, ...], new: tuple[ViewColumn, ...]) -> None:
    if len(new) < len(old):
        raise InvalidTableDefinition("cannot drop columns from view")
    for before, after in zip(old, new, strict=False):
        if before.name != after.name:
            raise InvalidTableDefinition(
                f'cannot change name of view column "{before.name}" to "{after.name}"',
                hint="Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.",
            )
        if (before.type_oid, before.typmod) != (after.type_oid, after.typmod):
            raise InvalidTableDefinition(
                f'cannot change data type of view column "{before.name}"'
                f" from {_shown(before)} to {_shown(after)}"
            )


def _shown(column: ViewColumn) -> str:
    sql_type = type_by_oid(column.type_oid)
    assert sql_type is not None, column
    return format_type(sql_type, column.typmod)
